"""The race cases: two accesses to a field, what is between them, and whether that is a race.

A matrix in the manner of KCSAN's self-test. Each row is a function that starts tasks on a bare
machine; its docstring says what is going on. A row that races must be caught in *each* of a few
schedules, the quiet one among them: a race needs no luck to be found. Where the other order of two
critical sections orders the accesses, too, the quiet schedule must catch it. A row that does not
race must be silent in all of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.explore.execute import execute
from vfsim.explore.program import FunctionProgram
from vfsim.explore.strategies.pos import POS
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_barrier, rcu_read, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim import cpu
from vfsim.sim.choice import RoundRobin
from vfsim.sim.scheduler import block, msleep, wake
from vfsim.sim.shared import (
    READ_ONCE,
    WRITE_ONCE,
    guarded_by,
    kernel_struct,
    ordered,
    rcu_assign_pointer,
    rcu_dereference,
    shared,
    smp_load_acquire,
    smp_store_release,
)
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.sim.choice import Strategy
    from vfsim.sim.errors import Violation
    from vfsim.sim.machine import Machine

    Row = Callable[[Machine, "Cell"], Any]

SCHEDULES = 8
"""Schedules of a row, beside the quiet one."""


@kernel_struct
class Cell:
    """A field of every kind of protection, and every lock there is."""

    spin: SpinLock = attrs.field(factory=lambda: SpinLock("cell.spin"))
    other: SpinLock = attrs.field(factory=lambda: SpinLock("cell.other"))
    mutex: Mutex = attrs.field(factory=lambda: Mutex("cell.mutex"))
    sem: RwSem = attrs.field(factory=lambda: RwSem("cell.sem"))
    bit: BitLock = attrs.field(factory=lambda: BitLock("cell.bit"))
    page: SleepBit = attrs.field(factory=lambda: SleepBit("cell.page"))
    ref: LockRef = attrs.field(factory=lambda: LockRef("cell.ref", 2))
    seqlock: SeqLock = attrs.field(factory=lambda: SeqLock("cell.seq"))
    queue: WaitQueue = attrs.field(factory=lambda: WaitQueue("cell.queue"))
    done: Completion = attrs.field(factory=lambda: Completion("cell.done"))
    value: Annotated[int, guarded_by("spin")] = 0
    both: Annotated[int, guarded_by("spin", "mutex")] = 0
    stat: Annotated[int, guarded_by("spin", lockless=True)] = 0
    pointer: Annotated[Any, guarded_by("spin", rcu=True)] = None
    pair: Annotated[int, guarded_by("seqlock", seq="seqlock.count")] = 0
    peer: Annotated[Any, guarded_by("seqlock", seq="seqlock.count")] = None
    data: Annotated[int, ordered] = 0
    count: Annotated[int, shared] = 0
    flag: Annotated[int, shared] = 0
    born: Annotated[int, guarded_by("spin", unless=("unpublished", "dying"))] = 0
    is_new: bool = False
    is_dying: bool = False

    def unpublished(self) -> bool:
        """Never sleeps.  Whether nobody else can see it yet."""
        return self.is_new

    def dying(self) -> bool:
        """Never sleeps.  Whether nobody else can see it any more."""
        return self.is_dying


RACES: dict[str, Row] = {}
"""The rows that race."""
AT_ONCE: dict[str, Row] = {}
"""Those of them that race in the quiet schedule, and not in all."""
CLEAN: dict[str, Row] = {}
"""The rows that do not."""


def races(row: Row) -> Row:
    """A row that must be caught."""
    RACES[row.__name__.strip("_").replace("_", "-")] = row
    return row


def races_one_way(row: Row) -> Row:
    """A row that must be caught in the quiet schedule; in another order it is none."""
    AT_ONCE[row.__name__.strip("_").replace("_", "-")] = row
    return row


def clean(row: Row) -> Row:
    """A row that must be silent."""
    CLEAN[row.__name__.strip("_").replace("_", "-")] = row
    return row


def both(m: Machine, one: Callable[[], Any], other: Callable[[], Any]) -> None:
    """Two tasks."""
    m.spawn(one, name="one")
    m.spawn(other, name="other")


def read(c: Cell) -> int:
    """Never sleeps."""
    return c.value


def write(c: Cell) -> None:
    """Never sleeps."""
    c.value = 1


def locked(lock: Any, fn: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """A task's function: the call under a lock."""

    def inside() -> None:
        with lock:
            fn(*args)

    return inside


# -- kinds of access -------------------------------------------------------------------------------


@races
def read_and_write(m: Machine, c: Cell) -> None:
    """One reads, one writes."""
    both(m, lambda: read(c), lambda: write(c))


@races
def write_and_write(m: Machine, c: Cell) -> None:
    """Both write the same value."""
    both(m, lambda: write(c), lambda: write(c))


@clean
def read_and_rewrite(m: Machine, c: Cell) -> None:
    """The write stores what is there already."""
    both(m, lambda: read(c), lambda: setattr(c, "value", 0))


@races
def increments(m: Machine, c: Cell) -> None:
    """Both add one to a field that is under no lock at all."""

    def add() -> None:
        c.data += 1

    both(m, add, add)


@clean
def read_and_read(m: Machine, c: Cell) -> None:
    """Nobody writes."""
    both(m, lambda: read(c), lambda: read(c))


@clean
def two_objects(m: Machine, c: Cell) -> None:
    """Each writes its own."""
    d = Cell()
    both(m, lambda: write(c), lambda: write(d))


@clean
def two_fields(m: Machine, c: Cell) -> None:
    """Each writes another field."""
    both(m, lambda: write(c), lambda: setattr(c, "data", 1))


@clean
def one_task(m: Machine, c: Cell) -> None:
    """One task does it all."""

    def alone() -> None:
        write(c)
        with c.spin:
            read(c)
        write(c)

    m.spawn(alone)


@races
def plain_read_marked_write(m: Machine, c: Cell) -> None:
    """The write is marked, the read is not."""
    both(m, lambda: read(c), lambda: WRITE_ONCE(c, "value", 1))


@clean
def plain_write_marked_read(m: Machine, c: Cell) -> None:
    """The read is marked and takes what the plain write stores, or what was there before."""
    both(m, lambda: READ_ONCE(c, "value"), lambda: write(c))


@races
def plain_write_marked_write(m: Machine, c: Cell) -> None:
    """One of two writes is marked."""
    both(m, lambda: WRITE_ONCE(c, "value", 2), lambda: write(c))


@clean
def marked_and_marked(m: Machine, c: Cell) -> None:
    """Both are marked."""
    both(m, lambda: READ_ONCE(c, "value"), lambda: WRITE_ONCE(c, "value", 1))


@clean
def plain_read_marked_read(m: Machine, c: Cell) -> None:
    """Nobody writes, marked or not."""
    both(m, lambda: READ_ONCE(c, "value"), lambda: read(c))


@clean
def declared_shared(m: Machine, c: Cell) -> None:
    """Each access to a shared field is atomic."""

    def add() -> None:
        c.count += 1

    both(m, add, add)


@races
def two_readers_and_a_writer(m: Machine, c: Cell) -> None:
    """The first reader is ordered before the writer, the second is not."""

    def first() -> None:
        read(c)
        c.done.complete()

    def writer() -> None:
        c.done.wait()
        write(c)

    m.spawn(first)
    m.spawn(lambda: read(c))
    m.spawn(writer)


# -- locks -----------------------------------------------------------------------------------------


@clean
def spinlock(m: Machine, c: Cell) -> None:
    """Both hold the declared spinlock."""
    both(m, locked(c.spin, read, c), locked(c.spin, write, c))


@clean
def another_lock(m: Machine, c: Cell) -> None:
    """Both hold the same lock, which is not the declared one: odd, but no race."""
    both(m, locked(c.mutex, read, c), locked(c.mutex, write, c))


@clean
def bit_locks(m: Machine, c: Cell) -> None:
    """A bit lock, and a page lock."""
    both(m, locked(c.bit, write, c), locked(c.bit, write, c))
    d = Cell()
    both(m, locked(c.page, write, d), locked(c.page, write, d))


@races
def one_without_the_lock(m: Machine, c: Cell) -> None:
    """One holds the lock, the other does not."""
    both(m, locked(c.spin, write, c), lambda: read(c))


@races
def two_different_locks(m: Machine, c: Cell) -> None:
    """Each holds a lock of its own."""
    both(m, locked(c.spin, write, c), locked(c.other, write, c))


@races_one_way
def after_the_unlock(m: Machine, c: Cell) -> None:
    """One goes on writing when it has let go."""

    def careless() -> None:
        with c.spin:
            write(c)
        c.value = 2

    both(m, careless, locked(c.spin, read, c))


@races
def a_trylock_that_failed(m: Machine, c: Cell) -> None:
    """One tries, fails, and writes all the same."""

    def holder() -> None:
        with c.mutex:
            c.done.complete()
            write(c)
            msleep(1)

    def trier() -> None:
        c.done.wait()
        if not c.mutex.trylock():
            write(c)

    both(m, holder, trier)


@clean
def a_trylock_that_worked(m: Machine, c: Cell) -> None:
    """Who fails to get the lock keeps away."""

    def trier() -> None:
        if c.mutex.trylock():
            write(c)
            c.mutex.unlock()

    both(m, trier, locked(c.mutex, write, c))


@clean
def readers_and_a_writer(m: Machine, c: Cell) -> None:
    """A semaphore, shared to read and alone to write."""

    def reader() -> None:
        with c.sem.shared():
            read(c)

    both(m, reader, reader)
    m.spawn(locked(c.sem, write, c))


@races
def a_writer_among_readers(m: Machine, c: Cell) -> None:
    """Both hold the semaphore shared, and one writes."""

    def reader() -> None:
        with c.sem.shared():
            read(c)

    def writer() -> None:
        with c.sem.shared():
            write(c)

    both(m, reader, writer)


@clean
def downgrade(m: Machine, c: Cell) -> None:
    """Written alone, then read together with others."""

    def writer() -> None:
        c.sem.down_write()
        write(c)
        c.sem.downgrade_write()
        read(c)
        c.sem.up_read()

    def reader() -> None:
        with c.sem.shared():
            read(c)

    both(m, writer, reader)


@races_one_way
def writing_after_a_downgrade(m: Machine, c: Cell) -> None:
    """Written once more, when readers may be inside."""

    def writer() -> None:
        c.sem.down_write()
        c.sem.downgrade_write()
        write(c)
        c.sem.up_read()

    def reader() -> None:
        with c.sem.shared():
            read(c)

    both(m, writer, reader)


@clean
def written_under_both_read_under_either(m: Machine, c: Cell) -> None:
    """Two locks: both to write, any one to read."""

    def writer() -> None:
        with c.mutex, c.spin:
            c.both = 1

    m.spawn(writer)
    both(m, locked(c.mutex, getattr, c, "both"), locked(c.spin, getattr, c, "both"))


@races
def written_under_one_of_both(m: Machine, c: Cell) -> None:
    """The writer holds one lock, the reader the other."""
    both(m, locked(c.mutex, setattr, c, "both", 1), locked(c.spin, getattr, c, "both"))


# -- other orders ----------------------------------------------------------------------------------


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


# -- RCU and sequence counters ---------------------------------------------------------------------


@clean
def rcu_reader(m: Machine, c: Cell) -> None:
    """The declaration allows reads in RCU sections."""

    def reader() -> None:
        with rcu_read():
            assert c.pointer in (None, 1)

    both(m, reader, locked(c.spin, setattr, c, "pointer", 1))


@races
def rcu_reader_outside(m: Machine, c: Cell) -> None:
    """The same outside of one."""
    both(m, lambda: c.pointer, locked(c.spin, setattr, c, "pointer", 1))


@races
def rcu_section_guards_nothing_else(m: Machine, c: Cell) -> None:
    """A section does not make reads of other fields right."""

    def reader() -> None:
        with rcu_read():
            read(c)

    both(m, reader, lambda: write(c))


@clean
def published_pointer(m: Machine, c: Cell) -> None:
    """What a pointer leads to was filled in before it was assigned."""

    def writer() -> None:
        d = Cell()
        d.data = 5
        rcu_assign_pointer(c, "pointer", d)

    def reader() -> None:
        with rcu_read():
            d = rcu_dereference(c, "pointer")
            assert d is None or d.data == 5

    both(m, writer, reader)


@races
def pointer_published_too_early(m: Machine, c: Cell) -> None:
    """It is filled in after it was assigned."""

    def writer() -> None:
        d = Cell()
        rcu_assign_pointer(c, "pointer", d)
        d.data = 5
        c.done.complete()

    def reader() -> None:
        d = None
        while d is None:
            with rcu_read():
                d = rcu_dereference(c, "pointer")
                assert d is None or d.data in (0, 5)
            msleep(1)

    both(m, writer, reader)


def _reader_of_old(c: Cell, old: Cell) -> Callable[[], None]:
    def reader() -> None:
        with rcu_read():
            if rcu_dereference(c, "pointer") is old:
                assert old.data == 0

    return reader


@clean
def grace_period(m: Machine, c: Cell) -> None:
    """What readers may have seen is written when they have left."""
    old = c.raw_pointer = Cell()  # type: ignore[attr-defined]

    def updater() -> None:
        rcu_assign_pointer(c, "pointer", None)
        synchronize_rcu()
        old.data = 1

    both(m, _reader_of_old(c, old), updater)


@clean
def rcu_callback(m: Machine, c: Cell) -> None:
    """The same in a callback; and whoever waits for callbacks comes after them."""
    old = c.raw_pointer = Cell()  # type: ignore[attr-defined]

    def updater() -> None:
        rcu_assign_pointer(c, "pointer", None)
        call_rcu(setattr, old, "data", 1)
        rcu_barrier()
        old.data = 2

    both(m, _reader_of_old(c, old), updater)


@races
def no_grace_period(m: Machine, c: Cell) -> None:
    """It is written at once."""
    old = c.raw_pointer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        with rcu_read():
            assert old.data in (0, 1)

    def updater() -> None:
        rcu_assign_pointer(c, "pointer", None)
        old.data = 1

    both(m, reader, updater)


@clean
def seqlock_writers(m: Machine, c: Cell) -> None:
    """Writers of a seqlock keep each other out."""
    both(m, locked(c.seqlock, write, c), locked(c.seqlock, write, c))


@clean
def seq_reader(m: Machine, c: Cell) -> None:
    """A reader that looks again until nobody came in between; what it has then, it may use."""
    c.raw_peer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        while True:
            seq = c.seqlock.read_begin()
            pair, peer = c.pair, c.peer
            if not c.seqlock.read_retry(seq):
                break
        assert peer.data == 0
        assert pair in (0, 1)

    def writer() -> None:
        c.pair = 1
        c.peer = Cell()

    both(m, reader, locked(c.seqlock, writer))


@races
def seq_reader_without_a_window(m: Machine, c: Cell) -> None:
    """The same without asking the counter."""
    both(m, lambda: c.pair, locked(c.seqlock, setattr, c, "pair", 1))


@races
def seq_written_outside_the_section(m: Machine, c: Cell) -> None:
    """The writer holds the lock, and does not move the counter."""

    def reader() -> None:
        seq = c.seqlock.read_begin()
        assert c.pair in (0, 1)
        c.seqlock.read_retry(seq)

    both(m, reader, locked(c.seqlock.spin, setattr, c, "pair", 1))


@races
def seq_writers_without_a_lock(m: Machine, c: Cell) -> None:
    """Two write sections, and nothing that keeps them apart."""

    def writer() -> None:
        c.seqlock.count.write_begin()
        c.seqlock.count.write_end()

    both(m, writer, writer)


def _window_that_fails(c: Cell, again: bool) -> Callable[[], None]:
    def reader() -> None:
        seq = c.seqlock.read_begin()
        peer = c.peer
        msleep(1)  # long enough for a writer to come in between
        if c.seqlock.read_retry(seq) and again:
            seq = c.seqlock.read_begin()
            peer = c.peer
            c.seqlock.read_retry(seq)
        assert peer.data == 0

    return reader


@races_one_way
def use_of_what_a_failed_window_read(m: Machine, c: Cell) -> None:
    """The window failed, and its reader goes on with what it has."""
    c.raw_peer = Cell()  # type: ignore[attr-defined]
    both(m, _window_that_fails(c, False), locked(c.seqlock, setattr, c, "peer", Cell()))


@clean
def reading_again_what_a_failed_window_read(m: Machine, c: Cell) -> None:
    """The window failed, and its reader looks again."""
    c.raw_peer = Cell()  # type: ignore[attr-defined]
    both(m, _window_that_fails(c, True), locked(c.seqlock, setattr, c, "pair", 1))


@races
def use_of_what_was_never_checked(m: Machine, c: Cell) -> None:
    """A window is begun again without asking about the one before."""
    c.raw_peer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        c.seqlock.read_begin()
        peer = c.peer
        c.seqlock.read_begin()
        assert peer.data == 0

    m.spawn(reader)


@clean
def leaving_a_window_empty_handed(m: Machine, c: Cell) -> None:
    """A reader that does not find what it looks for need not ask."""

    def reader() -> None:
        for _ in range(2):
            c.seqlock.read_begin()
            if c.pair == 7:
                raise AssertionError

    both(m, reader, locked(c.seqlock, setattr, c, "pair", 1))


@clean
def lockless_reader(m: Machine, c: Cell) -> None:
    """The declaration allows reads with nothing held."""
    both(m, lambda: c.stat, locked(c.spin, setattr, c, "stat", 1))


@races
def lockless_writer(m: Machine, c: Cell) -> None:
    """It does not allow writes."""
    both(m, lambda: setattr(c, "stat", 2), locked(c.spin, setattr, c, "stat", 1))


# -- interrupts ------------------------------------------------------------------------------------


def _with_irq(m: Machine, c: Cell, handler: Callable[[], Any], at: int = 0) -> None:
    """Somebody posts an interrupt to a CPU."""
    m.spawn(lambda: m.post_irq(at, handler), name="device", cpu=3)


@races
def interrupt_and_task(m: Machine, c: Cell) -> None:
    """A handler and a task use a field; nothing is turned off."""
    m.spawn(lambda: write(c), name="task", cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def interrupts_off(m: Machine, c: Cell) -> None:
    """The task has interrupts off on the CPU that the handler runs on."""

    def task() -> None:
        cpu.local_irq_disable()
        write(c)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def handed_to_an_interrupt(m: Machine, c: Cell) -> None:
    """Made with interrupts on, shown to the handler with interrupts off."""
    ready: list[Cell] = []

    def task() -> None:
        d = Cell()
        write(d)
        cpu.local_irq_disable()
        ready.append(d)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)

    def handler() -> None:
        for d in ready:
            write(d)

    _with_irq(m, c, handler)


@races
def interrupts_off_elsewhere(m: Machine, c: Cell) -> None:
    """Interrupts are off on another CPU than the handler's."""

    def task() -> None:
        cpu.local_irq_disable()
        write(c)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c), at=1)


@clean
def spin_lock_irq(m: Machine, c: Cell) -> None:
    """A spinlock, taken with interrupts off by the task."""

    def task() -> None:
        flags = c.spin.lock_irqsave()
        write(c)
        c.spin.unlock_irqrestore(flags)

    m.spawn(task, cpu=0)
    _with_irq(m, c, locked(c.spin, write, c), at=1)


@races
def preemption_off_is_not_enough(m: Machine, c: Cell) -> None:
    """The task has only preemption off."""

    def task() -> None:
        cpu.preempt_disable()
        write(c)
        cpu.preempt_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def handlers_of_one_cpu(m: Machine, c: Cell) -> None:
    """Two handlers on one CPU come one after the other."""
    _with_irq(m, c, lambda: write(c))
    _with_irq(m, c, lambda: write(c))


@races
def handlers_of_two_cpus(m: Machine, c: Cell) -> None:
    """Two handlers on two CPUs may run at once."""
    _with_irq(m, c, lambda: write(c), at=0)
    _with_irq(m, c, lambda: write(c), at=1)


@clean
def posted_with_data(m: Machine, c: Cell) -> None:
    """What came before an interrupt, a softirq or a timer was posted comes before its handler."""

    def task() -> None:
        for start in (m.post_irq, m.timer):
            d = Cell()
            write(d)
            start(1, write, d)
        d = Cell()
        write(d)
        m.raise_softirq(write, d)
        msleep(1)

    m.spawn(task)


@races
def after_the_timer_was_started(m: Machine, c: Cell) -> None:
    """The task goes on writing."""

    def task() -> None:
        m.timer(1000, write, c)
        write(c)
        msleep(1)

    m.spawn(task)


@clean
def softirqs_off(m: Machine, c: Cell) -> None:
    """The task has softirqs off on the CPU where they run."""

    def task() -> None:
        m.raise_softirq(write, c)
        cpu.local_bh_disable()
        write(c)
        cpu.local_bh_enable()

    m.spawn(task, cpu=0)


@clean
def page_lock_ended_by_an_interrupt(m: Machine, c: Cell) -> None:
    """The lock is given to the I/O; its end unlocks, and whoever waited sees what it wrote."""

    def end() -> None:
        write(c)
        c.page.unlock()

    def starter() -> None:
        c.page.lock()
        write(c)
        c.page.disown()
        m.post_irq(1, end)

    def waiter() -> None:
        msleep(1)
        c.page.wait()
        with c.page:
            write(c)

    both(m, starter, waiter)


@clean
def preemption_off_on_one_cpu(m: Machine, c: Cell) -> None:
    """Two tasks that stay on one CPU, each with preemption off: a per-CPU variable."""

    def task() -> None:
        cpu.preempt_disable()
        write(c)
        cpu.preempt_enable()

    m.spawn(task, name="one", cpu=0)
    m.spawn(task, name="other", cpu=0)


# -- the cases -------------------------------------------------------------------------------------


def run(row: Row) -> list[list[Violation]]:
    """What each of the schedules of a row found, the quiet one first."""

    def build(m: Machine) -> None:
        row(m, Cell())

    build.__name__ = row.__name__
    program = FunctionProgram(build)
    strategies: list[Strategy] = [RoundRobin(), *(POS(seed) for seed in range(SCHEDULES))]
    return [execute(program, strategy).violations for strategy in strategies]


def caught(row: Row, always: bool) -> list[Violation]:
    """What was found, if the quiet schedule (or every one) found something."""
    found = run(row)
    return [v for each in found for v in each] if (all(found) if always else found[0]) else []


def found(row: Row) -> list[Violation]:
    """What any schedule found."""
    return [v for each in run(row) for v in each]


_RACED = ("value", "both", "data", "stat", "pointer", "born", "pair", "peer")
FIRES = (
    *(f"race.Cell.{name}" for name in _RACED),
    "race.SeqCount.sequence",
    "seq.stale",
    "seq.unchecked",
)


def cases() -> Iterator[Case]:
    """The rows as cases of the self-test."""
    for rows, always in ((RACES, True), (AT_ONCE, False)):
        for name, row in rows.items():
            why = (row.__doc__ or "").strip()
            run = partial(caught, row, always)
            yield Case(f"race.{name}", f"race.{name}", CAUGHT, run, FIRES, "test", why)
    for name, row in CLEAN.items():
        why = (row.__doc__ or "").strip()
        yield Case(f"race.{name}", f"race.{name}", SILENT, partial(found, row), why=why)
