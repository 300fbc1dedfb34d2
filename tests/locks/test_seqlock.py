"""Sequence counters: a reader never acts on what a writer was changing."""

from __future__ import annotations

from typing import Annotated

from tests.sim.helpers import Alternate, Notes, hangs, run, seeds, step, world
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import in_atomic
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K


@kernel_struct
class Pair:
    """Two values that belong together."""

    x: Annotated[int, shared] = 0
    y: Annotated[int, shared] = 0


def test_readers_see_pairs() -> None:
    """What a reader read between begin and a false retry belongs together; retries do happen."""
    retries = 0
    for seed in seeds(150):
        lock = SeqLock("seq")
        pair = Pair()

        def writer(lock: SeqLock = lock, pair: Pair = pair) -> None:
            for _ in range(2):
                with lock:
                    pair.x += 1
                    pair.y += 1

        def reader(lock: SeqLock = lock, pair: Pair = pair) -> None:
            nonlocal retries
            while True:
                seq = lock.read_begin()
                assert seq % 2 == 0
                x, y = pair.x, pair.y
                if not lock.read_retry(seq):
                    break
                retries += 1
            assert x == y

        run(writer, reader, writer, reader, seed=seed)
        assert pair.raw_x == pair.raw_y == 4  # type: ignore[attr-defined]
        assert lock.sequence == 8
    assert retries > 20


def test_without_retry_readers_see_torn_pairs() -> None:
    """The test above can fail: a reader that ignores the retry sees halves."""
    torn = 0
    for seed in seeds(200):
        lock = SeqLock("seq")
        pair = Pair()

        def writer(lock: SeqLock = lock, pair: Pair = pair) -> None:
            with lock:
                pair.x += 1
                pair.y += 1

        def reader(lock: SeqLock = lock, pair: Pair = pair) -> None:
            nonlocal torn
            lock.read_begin()
            torn += pair.x != pair.y

        run(writer, reader, seed=seed)
    assert torn > 0


def test_a_reader_waits_for_the_writer_without_looping() -> None:
    """A reader that begins inside a write section is parked, not spinning through points."""
    count = SeqCount("seq")
    seen: list[object] = []

    def writer() -> None:
        count.write_begin()
        K.machine.spawn(reader, name="reader")
        for _ in range(20):
            step()
        seen.append((count.statistics(), repr(count)))
        count.write_end()

    def reader() -> None:
        seq = count.read_begin()
        seen.append(seq)
        assert K.cur.ops < 3

    with world(strategy=Alternate()) as machine:
        machine.spawn(writer, name="writer")
        machine.run()
        assert machine.violations == []
    assert seen == [
        (
            {"owner": "writer", "sequence": 1, "waiting": 1},
            "<SeqCount seq, written by writer, at 1, 1 spinning>",
        ),
        2,
    ]


def test_raw_begin_does_not_wait() -> None:
    """``raw_begin`` inside a write section returns at once, and the retry says no."""
    count = SeqCount("seq")

    def body() -> None:
        count.write_begin()
        seq = count.raw_begin()
        assert seq == 0
        assert count.read_retry(seq)
        count.write_end()
        assert count.read_retry(seq)
        assert not count.read_retry(count.raw_begin())

    run(body)


def test_reading_inside_ones_own_write_section_hangs() -> None:
    """Waiting for oneself never ends."""
    count = SeqCount("seq")

    def body() -> None:
        count.write_begin()
        count.read_begin()

    assert hangs(body)


def test_two_writers_are_told() -> None:
    """Writers that nothing excludes are told to the judge; so is an end without a beginning."""
    notes = Notes()
    count = SeqCount("seq")

    def body() -> None:
        count.write_begin()
        step(count)
        count.write_end()

    with world(strategy=Alternate(), judge=notes) as machine:
        machine.spawn(body)
        machine.spawn(body)
        machine.run()
    assert "corrupt" in notes.seen
    notes = Notes()
    run(count.write_end, judge=notes)
    assert notes.seen == ["not held"]


def test_invalidate() -> None:
    """``invalidate`` makes readers retry without a write section."""
    count = SeqCount("seq")

    def body() -> None:
        seq = count.read_begin()
        count.invalidate()
        assert count.read_retry(seq)

    run(body)


def test_read_begin_or_lock() -> None:
    """The second pass takes the lock, shuts out writers and never retries."""
    for seed in seeds(60):
        lock = SeqLock("seq")
        pair = Pair()

        def writer(lock: SeqLock = lock, pair: Pair = pair) -> None:
            for _ in range(4):
                with lock:
                    pair.x += 1
                    pair.y += 1

        def reader(lock: SeqLock = lock, pair: Pair = pair) -> None:
            passes = 0
            seq = 0
            while True:
                passes += 1
                seq = lock.read_begin_or_lock(seq)
                assert in_atomic() is bool(seq & 1)
                x, y = pair.x, pair.y
                if not lock.need_retry(seq):
                    break
                seq = 1
            lock.done_retry(seq)
            assert x == y
            assert passes <= 2
            assert not in_atomic()

        run(writer, reader, reader, seed=seed)


def test_a_locked_reader_makes_nobody_retry() -> None:
    """``lock_excl`` changes no sequence number."""
    lock = SeqLock("seq")

    def body() -> None:
        seq = lock.read_begin()
        lock.lock_excl()
        lock.unlock_excl()
        assert not lock.read_retry(seq)

    run(body)


def test_an_interrupt_that_reads_on_top_of_the_writer_hangs() -> None:
    """A handler that waits for the task below it can never go on."""
    count = SeqCount("seq")

    def handler() -> None:
        count.read_begin()

    def writer() -> None:
        count.write_begin()
        K.machine.post_irq(K.cur.cpu.index, handler)
        step()
        count.write_end()

    assert hangs(writer, strategy=Alternate())


def test_an_interrupt_on_another_cpu_waits() -> None:
    """The same handler on another CPU just waits for the writer."""
    lock = SpinLock("lock")
    count = SeqCount("seq")
    seen: list[int] = []

    def handler() -> None:
        seen.append(count.read_begin())

    def writer() -> None:
        with lock:
            count.write_begin()
            K.machine.post_irq(K.cur.cpu.index + 1, handler)
            step()
            step()
            count.write_end()

    run(writer, strategy=Alternate())
    assert seen == [2]
