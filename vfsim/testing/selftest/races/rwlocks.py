"""Race cases: reader/writer spinlocks, wound/wait mutexes, per-CPU semaphores, raw spinlocks.

Where both sides hold the lock, that alone keeps them apart. So for each kind there is a row in
which one side goes on after its release, or begins before: there only the order counts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu_sync import PASSED
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import RawSpinLock, SpinLock
from vfsim.locks.ww_mutex import WwClass, WwContext, WwMutex
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    locked,
    races,
    read,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vfsim.sim.machine import Machine

    Step = Callable[[], object]


def before_and_after(m: Machine, c: Cell, first: Any, second: Any) -> None:
    """One writes and then passes the lock; the other passes it later, and writes then.

    Args:
        first, second: the lock in the mode of each, as context managers.
    """
    passed: list[int] = []

    def one() -> None:
        write(c)
        with first:
            passed.append(1)

    def other() -> None:
        while True:
            with second:
                if passed:
                    break
            msleep(1)
        write(c)

    both(m, one, other)


class Taking:
    """What takes a lock by one method, trying until it works, and ends it by another."""

    def __init__(self, take: Callable[..., Any], leave: Callable[[], Any], *args: Any) -> None:
        self.take = take
        self.leave = leave
        self.args = args

    def __enter__(self) -> None:
        while self.take(*self.args) is False:
            msleep(1)

    def __exit__(self, *exc: object) -> None:
        self.leave()


# -- locks that one side passes --------------------------------------------------------------------


@clean
def every_lock_passed(m: Machine, c: Cell) -> None:
    """What came before the release of a lock comes before its next owner, tried or not."""
    for lock in (c.mutex, c.spin, c.bit, c.page, WwMutex(WwClass("cell.ww"))):
        before_and_after(m, Cell(), lock, lock)
    for lock in (c.mutex, c.spin, c.bit, c.page):
        before_and_after(m, Cell(), lock, Taking(lock.trylock, lock.unlock))


@clean
def every_shared_lock_passed(m: Machine, c: Cell) -> None:
    """A writer comes after readers, and readers after a writer, tried or not."""
    sem, rw = RwSem("cell.rwsem"), RwLock("cell.rw")
    write_sem, write_rw = (
        Taking(sem.down_write_trylock, sem.up_write),
        Taking(rw.write_trylock, rw.write_unlock),
    )
    read_sem, read_rw = (
        Taking(sem.down_read_trylock, sem.up_read),
        Taking(rw.read_trylock, rw.read_unlock),
    )
    for first, second in (
        (sem, sem.shared()),
        (sem, read_sem),
        (sem.shared(), write_sem),
        (rw, read_rw),
        (rw.shared(), write_rw),
    ):
        before_and_after(m, Cell(), first, second)


@clean
def nested_under_another(m: Machine, c: Cell) -> None:
    """Taken under an outer lock which only one of the two holds."""
    outer = Mutex("cell.outer")
    for lock in (c.mutex, c.spin):

        def take(lock: Any = lock) -> None:
            outer.lock()
            lock.lock_nest_lock(outer)

        def leave(lock: Any = lock) -> None:
            lock.unlock()
            outer.unlock()

        before_and_after(m, Cell(), lock, Taking(take, leave))


# -- what readers share ----------------------------------------------------------------------------


def _shared(kind: str, make: Callable[[str], Any]) -> None:
    """The rows that every lock with a shared mode has."""

    def readers_and_a_writer(m: Machine, c: Cell) -> None:
        """Shared to read and alone to write."""
        lock = make(f"cell.{kind}")
        both(m, locked(lock.shared(), read, c), locked(lock.shared(), read, c))
        m.spawn(locked(lock, write, c))

    def writer_among_readers(m: Machine, c: Cell) -> None:
        """Both hold it for reading, and one writes."""
        lock = make(f"cell.{kind}")
        both(m, locked(lock.shared(), read, c), locked(lock.shared(), write, c))

    def read_then_written(m: Machine, c: Cell) -> None:
        """What came before a read hold comes before the next write hold."""
        lock = make(f"cell.{kind}")
        before_and_after(m, c, lock.shared(), lock)

    def written_then_read(m: Machine, c: Cell) -> None:
        """What came before a write hold's end comes before the next read hold."""
        lock = make(f"cell.{kind}")
        before_and_after(m, c, lock, lock.shared())

    def read_then_read(m: Machine, c: Cell) -> None:
        """Two read holds order nothing."""
        lock = make(f"cell.{kind}")
        before_and_after(m, c, lock.shared(), lock.shared())

    for row in (readers_and_a_writer, read_then_written, written_then_read):
        row.__name__ = f"{kind}_{row.__name__}"
        clean(row)
    for row in (writer_among_readers, read_then_read):
        row.__name__ = f"{kind}_{row.__name__}"
        races(row)


for _kind, _make in (("rwlock", RwLock), ("percpu", PerCpuRwSem), ("semaphore", RwSem)):
    _shared(_kind, _make)


# -- reader/writer spinlocks -----------------------------------------------------------------------


@clean
def rwlock_tried(m: Machine, c: Cell) -> None:
    """Who does not get it keeps away."""
    lock = RwLock("cell.rw", tried=True)

    def writer() -> None:
        if lock.write_trylock():
            write(c)
            lock.write_unlock()

    def reader() -> None:
        if lock.read_trylock():
            read(c)
            lock.read_unlock()

    both(m, writer, reader)


@clean
def rwlock_irq(m: Machine, c: Cell) -> None:
    """A handler reads; the task writes with interrupts off."""
    lock = RwLock("cell.rw")

    def task() -> None:
        flags = lock.write_lock_irqsave()
        write(c)
        lock.write_unlock_irqrestore(flags)

    m.spawn(task, cpu=0)
    m.spawn(lambda: m.post_irq(0, locked(lock.shared(), read, c)), name="device", cpu=3)


@clean
def rwlock_handed_to_an_interrupt(m: Machine, c: Cell) -> None:
    """Made before, shown to the handler with interrupts off by the lock alone."""
    lock = RwLock("cell.rw")
    ready: list[Cell] = []

    def task() -> None:
        d = Cell()
        write(d)
        lock.read_lock_irq()
        ready.append(d)
        lock.read_unlock_irq()

    def handler() -> None:
        for d in ready:
            write(d)

    m.spawn(task, cpu=0)
    m.spawn(lambda: m.post_irq(0, handler), name="device", cpu=3)


# -- spinlocks that are tried ----------------------------------------------------------------------


@clean
def trylock_irq(m: Machine, c: Cell) -> None:
    """Tried with interrupts off on the CPU of the handler, which has no lock."""

    def task() -> None:
        if c.spin.trylock_irq():
            write(c)
            c.spin.unlock_irq()

    m.spawn(task, cpu=0)
    m.spawn(lambda: m.post_irq(0, write, c), name="device", cpu=3)


@clean
def tried_later(m: Machine, c: Cell) -> None:
    """A trylock that works comes after the release before it."""
    passed: list[int] = []

    def one() -> None:
        write(c)
        with c.spin:
            passed.append(1)

    def other() -> None:
        while True:
            if c.spin.trylock_bh():
                done = bool(passed)
                c.spin.unlock_bh()
                if done:
                    break
            msleep(1)
        write(c)

    both(m, one, other)


@races
def trylock_bh_against_an_interrupt(m: Machine, c: Cell) -> None:
    """Softirqs off do not keep an interrupt away."""

    def task() -> None:
        if c.spin.trylock_bh():
            write(c)
            c.spin.unlock_bh()

    m.spawn(task, cpu=0)
    m.spawn(lambda: m.post_irq(0, write, c), name="device", cpu=3)


@clean
def raw_spinlock(m: Machine, c: Cell) -> None:
    """A raw spinlock orders like a plain one."""
    lock = RawSpinLock("cell.raw")
    before_and_after(m, c, lock, lock)


@races
def raw_and_plain_spinlock(m: Machine, c: Cell) -> None:
    """Two locks, one raw, one not."""
    both(m, locked(RawSpinLock("cell.raw"), write, c), locked(SpinLock("cell.plain"), write, c))


# -- wound/wait mutexes ----------------------------------------------------------------------------


def _in_a_context(lock: WwMutex, fn: Callable[[], None]) -> Callable[[], None]:
    def inside() -> None:
        with WwContext(lock.ww_class) as ctx:
            lock.lock(ctx)
            fn()
            lock.unlock()

    return inside


@clean
def ww_mutex(m: Machine, c: Cell) -> None:
    """Both have the mutex in a context of their own."""
    lock = WwMutex(WwClass("cell.ww"))
    both(m, _in_a_context(lock, lambda: write(c)), _in_a_context(lock, lambda: write(c)))


@clean
def ww_mutex_passed(m: Machine, c: Cell) -> None:
    """What came before its release comes before whoever gets it next, context or not."""
    lock = WwMutex(WwClass("cell.ww"))
    passed: list[int] = []

    def one() -> None:
        write(c)
        _in_a_context(lock, lambda: passed.append(1))()

    def other() -> None:
        while not passed:
            msleep(1)
        _in_a_context(lock, lambda: None)()
        write(c)

    both(m, one, other)


@races
def ww_context_alone(m: Machine, c: Cell) -> None:
    """Two contexts, and no mutex of theirs."""
    ww_class = WwClass("cell.ww")

    def inside() -> None:
        with WwContext(ww_class):
            write(c)

    both(m, inside, inside)


# -- per-CPU semaphores ----------------------------------------------------------------------------


@clean
def percpu_with_writers_about(m: Machine, c: Cell) -> None:
    """The same without a grace period, where readers are slow already."""
    for way in range(3):
        sem = PerCpuRwSem("cell.percpu")
        reading = sem.shared() if way < 2 else Taking(sem.down_read_trylock, sem.up_read)
        first, second = (reading, sem) if not way else (sem, reading)
        d = Cell()
        m.spawn(sem.sync.enter, name="writer")
        m.spawn(_when_slow, m, d, sem, first, second, name="starter")


def _when_slow(m: Machine, c: Cell, sem: PerCpuRwSem, first: Any, second: Any) -> None:
    while sem.sync.state != PASSED:
        msleep(1)
    before_and_after(m, c, first, second)


def _one_then_other(m: Machine, first: list[Step], then: list[Step]) -> None:
    """Somebody takes these steps, and when that is done somebody else takes those."""
    given: list[int] = []

    def one() -> None:
        for step in first:
            step()
        given.append(1)

    def other() -> None:
        while not given:
            msleep(1)
        for step in then:
            step()

    both(m, one, other)


@clean
def percpu_disowned(m: Machine, c: Cell) -> None:
    """Who adopts a write hold comes after who disowned it."""
    sem, writes = PerCpuRwSem("cell.percpu"), partial(write, c)
    given: list[Step] = [sem.down_write, writes, partial(sem.disown, "freezer")]
    _one_then_other(m, given, [sem.adopt, sem.up_write, writes])


@clean
def percpu_disowned_read(m: Machine, c: Cell) -> None:
    """The same with a read hold."""
    sem, writes = PerCpuRwSem("cell.percpu"), partial(write, c)
    given: list[Step] = [sem.down_read, writes, sem.disown_read]
    _one_then_other(m, given, [sem.adopt_read, sem.up_read, writes])


@races
def percpu_disowned_to_nobody(m: Machine, c: Cell) -> None:
    """The other does not adopt it."""
    sem, writes = PerCpuRwSem("cell.percpu"), partial(write, c)
    given: list[Step] = [sem.down_read, writes, sem.disown_read]
    _one_then_other(m, given, [writes, sem.adopt_read, sem.up_read])
