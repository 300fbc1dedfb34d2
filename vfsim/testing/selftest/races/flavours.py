"""Race cases: the other flavours of RCU, and sleepable RCU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.locks.rcu import synchronize_rcu
from vfsim.locks.rcu_flavours import (
    call_rcu_bh,
    call_rcu_sched,
    rcu_barrier_bh,
    rcu_barrier_sched,
    rcu_read_lock_bh,
    rcu_read_lock_sched,
    rcu_read_unlock_bh,
    rcu_read_unlock_sched,
    synchronize_rcu_bh,
    synchronize_sched,
)
from vfsim.locks.srcu import Srcu
from vfsim.sim.scheduler import msleep, spin
from vfsim.sim.shared import rcu_assign_pointer, rcu_dereference
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    locked,
    races,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vfsim.sim.machine import Machine


def swap(m: Machine, c: Cell, enter: Any, leave: Any, update: Callable[[Cell], None]) -> None:
    """Two readers in sections of their flavour, and an updater that takes a cell away."""
    old = c.raw_pointer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        section = enter()
        if rcu_dereference(c, "pointer") is old:
            c.ref.get()  # a point: the updater may come
            c.ref.put_return()
            assert old.data == 0
        leave(section)

    def updater() -> None:
        rcu_assign_pointer(c, "pointer", None)
        update(old)

    both(m, reader, reader)
    m.spawn(updater, name="updater")


def change(old: Cell) -> None:
    """Never sleeps.  Write what readers may have seen."""
    old.data = 1


def after(wait: Callable[[], None]) -> Callable[[Cell], None]:
    """An updater that waits, and writes."""

    def update(old: Cell) -> None:
        wait()
        change(old)

    return update


def called(call: Callable[..., None], barrier: Callable[[], None]) -> Callable[[Cell], None]:
    """An updater that lets a callback write, waits for it, and writes."""

    def update(old: Cell) -> None:
        call(change, old)
        barrier()
        change(old)

    return update


def left_bh(_: None) -> None:
    """Never sleeps."""
    rcu_read_unlock_bh()


def left_sched(_: None) -> None:
    """Never sleeps."""
    rcu_read_unlock_sched()


@clean
def rcu_bh(m: Machine, c: Cell) -> None:
    """Readers of ``rcu_bh``, its grace period and its callbacks."""
    swap(m, c, rcu_read_lock_bh, left_bh, after(synchronize_rcu_bh))
    swap(m, Cell(), rcu_read_lock_bh, left_bh, called(call_rcu_bh, rcu_barrier_bh))


@clean
def rcu_sched(m: Machine, c: Cell) -> None:
    """The same of ``rcu_sched``."""
    swap(m, c, rcu_read_lock_sched, left_sched, after(synchronize_sched))
    swap(m, Cell(), rcu_read_lock_sched, left_sched, called(call_rcu_sched, rcu_barrier_sched))


def _wrong(m: Machine, c: Cell, enter: Any, leave: Any, wait: Callable[[], None]) -> None:
    """A reader that is inside before the updater comes, and until its grace period has ended."""
    old = Cell()
    inside: list[int] = []

    def read_for_long() -> None:
        section = enter()
        inside.append(1)
        spin(c.queue)
        assert old.data in (0, 1)
        leave(section)

    reader = m.spawn(read_for_long, name="reader", cpu=0)

    def updater() -> None:
        while not inside or reader.waits_on is None:
            msleep(1)
        wait()
        m.wake(reader)
        change(old)

    m.spawn(updater, cpu=1)


@races
def rcu_bh_waits_not_for_sched(m: Machine, c: Cell) -> None:
    """The reader has preemption off, the updater waits for those with softirqs off."""
    _wrong(m, c, rcu_read_lock_sched, left_sched, synchronize_rcu_bh)


@races
def rcu_waits_not_for_bh(m: Machine, c: Cell) -> None:
    """The reader has softirqs off, the updater waits for readers of plain RCU."""
    _wrong(m, c, rcu_read_lock_bh, left_bh, synchronize_rcu)


@races
def srcu_waits_not_for_another_domain(m: Machine, c: Cell) -> None:
    """The reader is in a section of another domain."""
    mine, other = Srcu("cell.mine"), Srcu("cell.other")
    _wrong(m, c, mine.read_lock, mine.read_unlock, other.synchronize)


@clean
def bh_section_keeps_softirqs_away(m: Machine, c: Cell) -> None:
    """On its CPU a reader of ``rcu_bh`` is alone with itself."""

    def task() -> None:
        m.raise_softirq(write, c)
        rcu_read_lock_bh()
        write(c)
        rcu_read_unlock_bh()

    m.spawn(task, cpu=0)


def _softirq_on(m: Machine, at: int, handler: Callable[[], None]) -> None:
    m.spawn(lambda: m.post_irq(at, lambda: m.raise_softirq(handler)), name="device", cpu=3)


@clean
def shown_to_a_softirq(m: Machine, c: Cell) -> None:
    """Made before, shown in a section of ``rcu_bh``."""
    ready: list[Cell] = []

    def task() -> None:
        d = Cell()
        write(d)
        rcu_read_lock_bh()
        ready.append(d)
        rcu_read_unlock_bh()

    def handler() -> None:
        for d in ready:
            write(d)

    m.spawn(task, cpu=0)
    _softirq_on(m, 0, handler)


@clean
def shown_by_a_softirq(m: Machine, c: Cell) -> None:
    """Made by the softirq, taken in a section of ``rcu_bh``, used after it."""
    ready: list[Cell] = []

    def task() -> None:
        taken: list[Cell] = []
        while not taken:
            msleep(1)
            rcu_read_lock_bh()
            taken, ready[:] = list(ready), []
            rcu_read_unlock_bh()
        write(taken[0])

    def handler() -> None:
        d = Cell()
        write(d)
        ready.append(d)

    m.spawn(task, cpu=0)
    _softirq_on(m, 0, handler)


@clean
def srcu_readers_that_sleep(m: Machine, c: Cell) -> None:
    """Each of two readers looks when the grace period has long begun."""
    domain = Srcu("cell.domain")
    old = Cell()
    came: list[int] = []

    def reader(ms: int) -> None:
        with domain.reading():
            came.append(ms)
            msleep(ms)
            assert old.data in (0, 1)

    def updater() -> None:
        while len(came) < 2:
            msleep(1)
        domain.synchronize()
        change(old)

    m.spawn(reader, 5, name="one")
    m.spawn(reader, 9, name="other")
    m.spawn(updater, name="updater")


@clean
def srcu(m: Machine, c: Cell) -> None:
    """A reader of a domain, its grace period and its callbacks."""
    domain = Srcu("cell.domain")
    swap(m, c, domain.read_lock, domain.read_unlock, after(domain.synchronize))
    swap(m, Cell(), domain.read_lock, domain.read_unlock, called(domain.call, domain.barrier))


@clean
def srcu_sections_of_one_task(m: Machine, c: Cell) -> None:
    """A grace period waits for every section of a task, the inner and the outer."""
    domain = Srcu("cell.domain")
    old = c.raw_pointer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        outer = domain.read_lock()
        inner = domain.read_lock()
        seen = rcu_dereference(c, "pointer")
        domain.read_unlock(inner)
        msleep(1)
        if seen is old:
            assert old.data == 0
        domain.read_unlock(outer)

    def updater() -> None:
        rcu_assign_pointer(c, "pointer", None)
        domain.synchronize()
        change(old)

    both(m, reader, updater)


@races
def srcu_section_is_no_lock(m: Machine, c: Cell) -> None:
    """Two readers of a domain write."""
    domain = Srcu("cell.domain")
    both(m, locked(domain.reading(), write, c), locked(domain.reading(), write, c))


@races
def srcu_without_a_grace_period(m: Machine, c: Cell) -> None:
    """It is written at once."""
    domain = Srcu("cell.domain")
    old = Cell()

    def reader() -> None:
        with domain.reading():
            assert old.data in (0, 1)

    both(m, reader, lambda: change(old))
