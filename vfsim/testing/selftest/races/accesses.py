"""Race cases: kinds of access, plain and marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.shared import (
    READ_ONCE,
    WRITE_ONCE,
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
