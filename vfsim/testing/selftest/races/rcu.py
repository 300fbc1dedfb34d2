"""Race cases: RCU and sequence counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks import windows
from vfsim.locks.rcu import call_rcu, rcu_barrier, rcu_read, synchronize_rcu
from vfsim.sim.scheduler import cpu_relax, msleep
from vfsim.sim.shared import (
    rcu_assign_pointer,
    rcu_dereference,
)
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
    from collections.abc import Callable

    from vfsim.sim.machine import Machine


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
def seq_lockless_written_outside_the_section(m: Machine, c: Cell) -> None:
    """The field may be read with nothing held, but whoever looks in a window relies on it."""

    def reader() -> None:
        seq = c.seqlock.read_begin()
        assert c.half in (0, 1)
        c.seqlock.read_retry(seq)

    both(m, reader, locked(c.seqlock.spin, setattr, c, "half", 1))


@clean
def seq_lockless_read_without_a_window(m: Machine, c: Cell) -> None:
    """Whoever looks without one relies on nothing."""
    both(m, lambda: c.half, locked(c.seqlock.spin, setattr, c, "half", 1))


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

    both(m, reader, locked(c.seqlock, setattr, c, "pair", 1))


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
def leaving_a_window_and_forgetting(m: Machine, c: Cell) -> None:
    """A reader says that it keeps nothing; it comes by the same object in another way."""
    c.raw_peer = peer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        c.seqlock.read_begin()
        if c.peer is c:
            raise AssertionError
        windows.left(c.seqlock.count)
        c.seqlock.read_begin()
        assert peer.data == 0

    both(m, reader, locked(c.seqlock, setattr, c, "pair", 1))


@clean
def use_of_what_was_known_before_the_window(m: Machine, c: Cell) -> None:
    """The window failed, but its reader had used the object before."""
    c.raw_peer = peer = Cell()  # type: ignore[attr-defined]

    def reader() -> None:
        assert peer.data == 0
        _window_that_fails(c, False)()

    both(m, reader, locked(c.seqlock, setattr, c, "pair", 1))


@clean
def reading_a_list_after_a_failed_window(m: Machine, c: Cell) -> None:
    """What is read then need not be a structure, nor have a hash."""
    c.raw_peer = Cell()  # type: ignore[attr-defined]
    other = Cell()
    other.raw_data = []  # type: ignore[attr-defined]

    def reader() -> None:
        seq = c.seqlock.read_begin()
        if c.peer is c:
            raise AssertionError
        msleep(1)
        c.seqlock.read_retry(seq)
        assert not other.data

    both(m, reader, locked(c.seqlock, setattr, c, "pair", 1))


def _reads_twice(c: Cell, last: Callable[[int], Any]) -> Callable[[], None]:
    """A reader whose window is found good; who waits for the writer, and reads again."""

    def reader() -> None:
        with rcu_read():
            seq = c.seqlock.read_begin()
            assert c.peer is None and not c.seqlock.read_retry(seq)
            c.flag = 1
            while c.flag < 2:
                cpu_relax()
            last(seq)

    return reader


def _second(c: Cell) -> Callable[[], None]:
    """A writer who comes when the reader waits."""

    def writer() -> None:
        while not c.flag:
            cpu_relax()
        with c.seqlock:
            c.peer = Cell()
        c.flag = 2

    return writer


@races
def reading_a_window_again_without_asking(m: Machine, c: Cell) -> None:
    """What was found good is read once more, is something else, and nobody asks."""
    both(m, _reads_twice(c, lambda seq: c.peer), _second(c))


@clean
def asking_about_a_window_again(m: Machine, c: Cell) -> None:
    """The same, but the number is asked at the end: the reader starts over."""

    def ask(seq: int) -> None:
        assert c.peer is not c
        c.seqlock.read_retry(seq)

    both(m, _reads_twice(c, ask), _second(c))


@clean
def reading_under_the_lock_after_a_window(m: Machine, c: Cell) -> None:
    """What is read under the writers' lock needs no window."""

    def look(seq: int) -> None:
        with c.seqlock.spin:
            assert c.peer is not c

    both(m, _reads_twice(c, look), _second(c))


@clean
def starting_over_because_of_another_window(m: Machine, c: Cell) -> None:
    """Another number has moved: whatever was read is thrown away."""
    other = Cell()

    def again(seq: int) -> None:
        begun = other.seqlock.read_begin()
        assert c.peer is not c
        with other.seqlock:
            pass
        assert other.seqlock.read_retry(begun)

    both(m, _reads_twice(c, again), _second(c))


@clean
def lockless_reader(m: Machine, c: Cell) -> None:
    """The declaration allows reads with nothing held."""
    both(m, lambda: c.stat, locked(c.spin, setattr, c, "stat", 1))


@races
def lockless_writer(m: Machine, c: Cell) -> None:
    """It does not allow writes."""
    both(m, lambda: setattr(c, "stat", 2), locked(c.spin, setattr, c, "stat", 1))
