"""The request queue: order, depth, and exactly one end per bio."""

from __future__ import annotations

from typing import Any

import pytest

from tests.block.worlds import Faults, World, bio, run
from vfsim.block.bio import DONE, FLUSH, READ, WRITE, Bio, bio_endio
from vfsim.block.device import BlockDevice
from vfsim.block.disk import RamDisk
from vfsim.block.queue import blkdev_issue_flush, submit_bio, submit_bio_wait
from vfsim.locks.completion import Completion
from vfsim.sim.cpu import in_interrupt
from vfsim.sim.state import K


def _submit_many(bdev: BlockDevice, count: int) -> list[int]:
    """Write and read back sectors all at once; returns the order in which they ended."""
    order: list[int] = []
    done = Completion("all")

    def ended(bio: Bio) -> None:
        assert in_interrupt()
        assert K.cur.ctx.irqs_off
        assert bio.state is DONE
        order.append(bio.bi_sector)
        if len(order) == count:
            done.complete()

    for sector in range(count):
        submit_bio(bio(bdev, WRITE, sector, bytearray([sector] * 512), ended))
    done.wait()
    return order


def test_first_come_first_served() -> None:
    """Bios end in the order in which they were submitted, in hardirq context."""
    assert run(lambda bdev: _submit_many(bdev, 10)) == [list(range(10))]


@pytest.mark.parametrize("depth", [1, 2, 32])
def test_the_hardware_takes_so_many_at_a_time(depth: int) -> None:
    """More bios than the hardware has room for wait in the queue, and come in as room appears."""
    with World(RamDisk(sectors=64, depth=depth)) as world:

        def watcher(bdev: BlockDevice) -> int:
            most = 0
            for sector in range(8):
                submit_bio(bio(bdev, READ, sector, bytearray(512), lambda b: None))
                bdev.bd_queue._check()
                most = max(most, len(bdev.bd_queue.in_flight))
            blkdev_issue_flush(bdev)
            return most

        assert world.run(watcher) == [min(depth, 8)]
        assert world.violations == []


@pytest.mark.parametrize("seed", range(60))
def test_under_any_schedule(seed: int) -> None:
    """Several tasks submit at once, interrupts come when they like: all data arrives."""

    def body(bdev: BlockDevice) -> bool:
        mine = [10 * len(K.cur.id) + i for i in range(3)]
        for sector in mine:
            submit_bio_wait(bio(bdev, WRITE, sector, bytearray([sector] * 512), lambda b: None))
        for sector in mine:
            back = bytearray(512)
            submit_bio_wait(bio(bdev, READ, sector, back, lambda b: None))
            assert back == bytes([sector] * 512)
        return True

    assert run(body, body, body, seed=seed) == [True] * 3


def test_an_error_reaches_the_submitter() -> None:
    """An injected failure is EIO for that bio and for no other."""

    def body(bdev: BlockDevice) -> list[int]:
        errors = []
        for sector in range(3):
            try:
                submit_bio_wait(bio(bdev, READ, sector, bytearray(512), lambda b: None))
                errors.append(0)
            except OSError as error:
                errors.append(error.errno or 0)
        return errors

    assert run(body, strategy=Faults("io", 2)) == [[0, 5, 0]]


def _hard(*work: Any) -> tuple[str, str]:
    with World() as world:
        world.run(*work)
        assert world.machine.stopped
        return world.violations[0].rule, world.violations[0].kind


def test_a_bio_is_submitted_once() -> None:
    """Submitting it again before it was made anew stops the world."""

    def body(bdev: BlockDevice) -> None:
        one = bio(bdev, READ, 0, bytearray(512), lambda b: None)
        submit_bio(one)
        submit_bio(one)

    assert _hard(body) == ("bio.resubmitted", "hard")


def test_a_bio_ends_once() -> None:
    """Ending one that has ended stops the world (P61)."""

    def body(bdev: BlockDevice) -> None:
        one = bio(bdev, READ, 0, bytearray(512), lambda b: None)
        submit_bio_wait(one)
        bio_endio(one)

    assert _hard(body) == ("P61", "hard")


@pytest.mark.parametrize("bad", [("copy", 0, 512), (READ, -1, 512), (READ, 0, 100)])
def test_a_bio_makes_sense(bad: tuple[str, int, int]) -> None:
    """Unknown operations, negative and partial sectors are misuse."""
    op, sector, size = bad
    with World() as world, pytest.raises(ValueError):
        bio(world.bdev, op, sector, bytearray(size), lambda b: None)


def test_repr_says_what_it_is() -> None:
    """A bio names its sectors, a flush has none."""
    with World() as world:
        assert repr(bio(world.bdev, READ, 3, bytearray(1024), lambda b: None)) == "bio(read 3+2)"
        assert repr(bio(world.bdev, FLUSH, 0, bytearray(), lambda b: None)) == "bio(flush)"
