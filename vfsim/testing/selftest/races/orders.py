"""Race cases: what orders two accesses without a lock in common, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.scheduler import block, msleep, wake
from vfsim.sim.shared import (
    READ_ONCE,
    WRITE_ONCE,
    smp_load_acquire,
    smp_store_release,
)
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    races,
    read,
    write,
)

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine


@clean
def completion(m: Machine, c: Cell) -> None:
    """No lock in common, but one waits for the other: a broken lock set alone is no race."""

    def first() -> None:
        write(c)
        c.done.complete()

    def second() -> None:
        c.done.wait()
        write(c)

    both(m, first, second)


@races
def before_the_completion_is_waited_for(m: Machine, c: Cell) -> None:
    """The read comes before the wait."""

    def first() -> None:
        write(c)
        c.done.complete()

    def second() -> None:
        read(c)
        c.done.wait()

    both(m, first, second)


@clean
def wait_queue(m: Machine, c: Cell) -> None:
    """A condition and a wake-up."""

    def first() -> None:
        write(c)
        with c.mutex:
            c.flag = 1
        c.queue.wake_up()

    def second() -> None:
        def ready() -> bool:
            with c.mutex:
                return bool(c.flag)

        c.queue.wait_event(ready)
        write(c)

    both(m, first, second)


@clean
def wake_up_process(m: Machine, c: Cell) -> None:
    """A sleeping task is woken by name."""

    def sleep() -> None:
        block(c.queue)
        write(c)

    sleeper = m.spawn(sleep)

    def waker() -> None:
        while sleeper.waits_on is None:
            msleep(1)
        write(c)
        wake(sleeper)

    m.spawn(waker)


@clean
def spawn(m: Machine, c: Cell) -> None:
    """What came before a task was started."""

    def parent() -> None:
        write(c)
        m.spawn(lambda: write(c), name="child")

    m.spawn(parent)


@races
def after_the_spawn(m: Machine, c: Cell) -> None:
    """What comes after a task was started."""

    def parent() -> None:
        m.spawn(lambda: write(c), name="child")
        write(c)

    m.spawn(parent)


@clean
def one_run_and_the_next(m: Machine, c: Cell) -> None:
    """Everything had ended when the second task began."""
    m.spawn(lambda: write(c))
    m.run()
    m.spawn(lambda: write(c))


@races
def time_is_no_order(m: Machine, c: Cell) -> None:
    """The second comes a long time later, and by luck only."""

    def late() -> None:
        msleep(10)
        write(c)

    both(m, lambda: write(c), late)


@clean
def release_and_acquire(m: Machine, c: Cell) -> None:
    """A flag that orders: the data was there before it."""

    def first() -> None:
        c.data = 1
        smp_store_release(c, "flag", 1)

    def second() -> None:
        if smp_load_acquire(c, "flag"):
            assert c.data == 1

    both(m, first, second)


@races
def a_marked_flag_orders_nothing(m: Machine, c: Cell) -> None:
    """The flag is marked; the data comes with it by luck."""

    def first() -> None:
        c.data = 1
        WRITE_ONCE(c, "flag", 1)

    def second() -> None:
        while not READ_ONCE(c, "flag"):
            msleep(1)
        assert c.data == 1

    both(m, first, second)


@clean
def handed_over_in_a_queue(m: Machine, c: Cell) -> None:
    """Made by one, put on a list under a lock, taken off by the other, who has it alone."""
    ready: list[Cell] = []

    def maker() -> None:
        d = Cell()
        write(d)
        with c.spin:
            ready.append(d)
        c.done.complete()

    def taker() -> None:
        c.done.wait()
        with c.spin:
            d = ready.pop()
        write(d)

    both(m, maker, taker)


@clean
def the_last_reference(m: Machine, c: Cell) -> None:
    """Two owners: whoever puts the last reference tears the object down without a lock."""

    def owner(n: int) -> None:
        with c.spin:
            write(c)
        if not c.ref.put_or_lock():
            c.ref.lock.unlock()
            write(c)

    m.spawn(owner, 1)
    m.spawn(owner, 2)


@clean
def unpublished(m: Machine, c: Cell) -> None:
    """Its maker writes it without the lock while nobody else can see it."""
    c.is_new = True

    def maker() -> None:
        c.born = 1
        c.is_new = False
        WRITE_ONCE(c, "flag", 1)

    def user() -> None:
        while not READ_ONCE(c, "flag"):
            msleep(1)
        with c.spin:
            assert c.born == 1

    both(m, maker, user)


def _by_pointer(m: Machine, c: Cell, field: str, late: bool = False) -> None:
    """One makes an object and stores a pointer to it; the other finds it there."""

    def maker() -> None:
        d = Cell()
        if not late:
            write(d)
        with c.spin:
            setattr(c, field, d)
        if late:
            write(d)

    def user() -> None:
        while (d := getattr(c, field)) is None:
            msleep(1)
        with d.spin:
            write(d)

    both(m, maker, user)


@clean
def published_by_pointer(m: Machine, c: Cell) -> None:
    """Whoever reads the pointer finds a finished object."""
    _by_pointer(m, c, "shown")


@races
def changed_after_it_was_published(m: Machine, c: Cell) -> None:
    """What comes after the pointer was stored is not published by it."""
    _by_pointer(m, c, "shown", late=True)


@races
def a_pointer_that_publishes_nothing(m: Machine, c: Cell) -> None:
    """It is only said to be read without its lock."""
    _by_pointer(m, c, "hidden")


@races
def published_too_early(m: Machine, c: Cell) -> None:
    """Its maker goes on writing when others can see it."""
    c.is_new = True

    def maker() -> None:
        c.is_new = False
        WRITE_ONCE(c, "flag", 1)
        c.born = 1

    def user() -> None:
        while not READ_ONCE(c, "flag"):
            msleep(1)
        with c.spin:
            assert c.born in (0, 1)

    both(m, maker, user)


@clean
def dying(m: Machine, c: Cell) -> None:
    """Whoever tears it down knows that nobody else can see it."""

    def user() -> None:
        with c.spin:
            c.born = 1
        WRITE_ONCE(c, "flag", 1)

    def killer() -> None:
        while not READ_ONCE(c, "flag"):
            msleep(1)
        c.is_dying = True
        c.born = 0

    both(m, user, killer)
