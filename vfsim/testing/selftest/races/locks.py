"""Race cases: locks that keep two accesses apart, or do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    locked,
    races,
    races_one_way,
    read,
    write,
)

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine


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
