"""The RAM disk as a medium and as hardware."""

from __future__ import annotations

from typing import Any

import pytest

from tests.block.worlds import World, bio, run
from vfsim.block.bio import READ, WRITE, Bio
from vfsim.block.device import BlockDevice, add_disk
from vfsim.block.disk import RamDisk
from vfsim.block.operations import BlockDeviceOperations
from vfsim.block.queue import submit_bio, submit_bio_wait
from vfsim.sim.machine import Machine


def test_the_medium_keeps_sectors() -> None:
    """What is written straight to the medium is read back, and the rest is zeroes."""
    disk = RamDisk(sectors=8)
    assert disk.is_blank()
    disk.write_sectors(3, b"x" * 1024)
    assert disk.read_sectors(2, 4) == bytes(512) + b"x" * 1024 + bytes(512)
    assert not disk.is_blank()
    disk._check()


@pytest.mark.parametrize(("sector", "data"), [(7, bytes(1024)), (-1, bytes(512)), (0, b"x")])
def test_only_sectors_that_exist(sector: int, data: bytes) -> None:
    """Anything but whole sectors inside the disk is misuse."""
    with pytest.raises(ValueError):
        RamDisk(sectors=8).write_sectors(sector, data)


@pytest.mark.parametrize("bad", [{"sectors": 0}, {"latency_ns": -1}])
def test_a_disk_has_sectors_and_takes_time(bad: dict[str, Any]) -> None:
    """Sizes out of range are misuse."""
    with pytest.raises(ValueError):
        RamDisk(**bad)


def test_a_copy_is_another_disk() -> None:
    """Worlds do not see each other's writes."""
    disk = RamDisk(sectors=8)
    disk.write_sectors(0, b"a" * 512)
    twin = disk.copy()
    twin.write_sectors(0, b"b" * 512)
    assert disk.read_sectors(0, 1) == b"a" * 512
    assert (twin.capacity, twin.latency_ns) == (8, disk.latency_ns)


def test_a_copy_keeps_its_driver() -> None:
    """A world's copy of a described disk is opened and released by the driver it was given."""

    class Loud(BlockDeviceOperations):
        """A driver of the author's own."""

    disk = RamDisk(sectors=8)
    disk.fops = Loud()
    assert disk.copy().copy().fops is disk.fops


def test_a_disk_is_in_one_machine() -> None:
    """Plugging it in twice is misuse."""
    disk = RamDisk(sectors=8)
    first, second = Machine(), Machine()
    add_disk(disk, first)
    with pytest.raises(ValueError, match="copy"):
        add_disk(disk, second)
    first.bury()
    second.bury()


def test_each_bio_takes_its_time() -> None:
    """The disk serves one bio at a time, each in its latency."""
    with World(RamDisk(sectors=8, latency_ns=1000)) as world:

        def body(bdev: BlockDevice) -> int:
            for sector in range(3):
                submit_bio_wait(bio(bdev, READ, sector, bytearray(512), _ignore))
            return bdev.machine.now

        assert world.run(body) == [3000]
        assert world.disk.served == 3


def test_the_disk_copies_when_it_serves() -> None:
    """As with DMA, the medium gets what memory held when the disk looked."""

    def body(bdev: BlockDevice) -> bytes:
        data = bytearray(b"a" * 512)
        write = bio(bdev, WRITE, 0, data, _ignore)
        submit_bio(write)
        data[:] = b"b" * 512
        back = bytearray(512)
        submit_bio_wait(bio(bdev, READ, 0, back, _ignore))
        return bytes(back)

    assert run(body) == [b"b" * 512]


def test_beyond_the_end_is_an_error() -> None:
    """A bio past the last sector fails with EIO, from an interrupt like every other."""

    def body(bdev: BlockDevice) -> None:
        with pytest.raises(OSError, match="Input/output"):
            submit_bio_wait(bio(bdev, READ, 64, bytearray(512), _ignore))

    run(body)


def _ignore(bio: Bio) -> None:
    """Nobody cares."""
