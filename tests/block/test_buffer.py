"""Buffer heads: the cache, the buffer lock, I/O and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.block.worlds import MODE, Faults, World, bugs, run
from vfsim.block.bio import READ, WRITE
from vfsim.block.buffer import (
    BufferHead,
    EndIo,
    bread,
    brelse,
    clean_bdev_alias,
    end_buffer_read_sync,
    end_buffer_write_sync,
    find_get_block,
    get_bh,
    getblk,
    has_dirty_buffers,
    invalidate_bdev,
    ll_rw_block,
    lock_buffer,
    mark_buffer_dirty,
    put_bh,
    set_buffer_uptodate,
    submit_bh,
    sync_blockdev,
    sync_dirty_buffer,
    unlock_buffer,
    wait_on_buffer,
    write_dirty_buffers,
)
from vfsim.block.device import (
    FMODE_EXCL,
    BlockDevice,
    bdget,
    blkdev_get,
    blkdev_put,
    set_blocksize,
)
from vfsim.block.disk import RamDisk
from vfsim.locks.mutex import Mutex
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def _dirty(bdev: BlockDevice, block: int, byte: int) -> BufferHead:
    bh = bread(bdev, block, 512)
    bh.b_data[:] = bytes([byte] * 512)
    mark_buffer_dirty(bh)
    return bh


def test_a_block_is_read_once() -> None:
    """The second reader gets the buffer from the cache."""
    disk = RamDisk(sectors=8)
    disk.write_sectors(2, b"z" * 512)

    def body(bdev: BlockDevice) -> None:
        first = bread(bdev, 2, 512)
        second = bread(bdev, 2, 512)
        assert first is second
        assert bytes(first.b_data) == b"z" * 512
        assert first.b_count == 2
        brelse(first)
        brelse(second)
        brelse(None)

    run(body, disk=disk)
    assert disk.served == 1


def test_dirty_buffers_reach_the_disk() -> None:
    """sync_dirty_buffer writes at once, closing writes the rest, what is clean is not written."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        bh = _dirty(bdev, 1, 1)
        sync_dirty_buffer(bh)
        assert disk.read_sectors(1, 1) == b"\1" * 512
        served = disk.served
        sync_dirty_buffer(bh)
        assert disk.served == served
        brelse(bh)
        brelse(_dirty(bdev, 2, 2))
        assert has_dirty_buffers(bdev)
        assert disk.read_sectors(2, 1) == bytes(512)

    run(body, disk=disk)
    assert disk.read_sectors(2, 1) == b"\2" * 512


def test_sync_blockdev_waits_for_everything() -> None:
    """Dirty buffers and writes in progress are on the disk when it returns."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        for block in range(4):
            brelse(_dirty(bdev, block, 7))
        write_dirty_buffers(bdev)  # in progress
        brelse(_dirty(bdev, 5, 8))
        sync_blockdev(bdev)
        assert disk.read_sectors(0, 4) == b"\7" * 2048
        assert disk.read_sectors(5, 1) == b"\b" * 512
        sync_blockdev(None)

    run(body, disk=disk)


@pytest.mark.parametrize("seed", range(80))
def test_under_any_schedule(seed: int) -> None:
    """Writers, syncers and a flusher on the same blocks: the last value is on the disk."""
    disk = RamDisk(sectors=8)
    lock = Mutex("test_values")

    def writer(bdev: BlockDevice) -> None:
        for i in range(3):
            with lock:
                bh = bread(bdev, i % 2, 512)
                value = bh.b_data[0] + 1
                bh.b_data[:] = bytes([value] * 512)
                mark_buffer_dirty(bh)
            if i == 1:
                sync_dirty_buffer(bh)
            brelse(bh)

    def flusher(bdev: BlockDevice) -> None:
        for _ in range(3):
            write_dirty_buffers(bdev)
            sync_blockdev(bdev)

    run(writer, writer, flusher, disk=disk, seed=seed)
    assert disk.read_sectors(0, 1) == b"\4" * 512
    assert disk.read_sectors(1, 1) == b"\2" * 512


@pytest.mark.parametrize("seed", range(40))
def test_one_buffer_per_block(seed: int) -> None:
    """Tasks that look for a new block at once all get the same buffer."""

    def body(bdev: BlockDevice) -> BufferHead:
        bh = getblk(bdev, 3, 512)
        brelse(bh)
        return bh

    with World(seed=seed) as world:
        results = world.run(body, body, body, close=False)
        assert world.violations == []
        assert all(bh is results[0] for bh in results)


def test_blocks_that_do_not_exist() -> None:
    """Beyond the end is EIO, another block size is misuse."""

    def body(bdev: BlockDevice) -> None:
        with pytest.raises(OSError, match="Input/output"):
            bread(bdev, 64, 512)
        with pytest.raises(ValueError, match="512"):
            getblk(bdev, 0, 1024)
        assert find_get_block(bdev, 0) is None

    run(body)


def test_a_failed_read_is_eio() -> None:
    """The caller gets EIO and no reference; the next try reads again."""

    def body(bdev: BlockDevice) -> None:
        with pytest.raises(OSError, match="Input/output"):
            bread(bdev, 0, 512)
        brelse(bread(bdev, 0, 512))

    run(body, strategy=Faults("io", 1))


def test_a_failed_write_is_told_once() -> None:
    """sync_blockdev reports a write nobody waited for, once; written again, it arrives."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        bh = _dirty(bdev, 0, 9)
        write_dirty_buffers(bdev)
        wait_on_buffer(bh)
        assert bh.write_io_error
        with pytest.raises(OSError, match="Input/output"):
            sync_blockdev(bdev)
        sync_blockdev(bdev)
        mark_buffer_dirty(bh)
        assert bh.uptodate
        sync_dirty_buffer(bh)
        brelse(bh)

    run(body, disk=disk, strategy=Faults("io", 2))
    assert disk.read_sectors(0, 1) == b"\t" * 512


def test_ll_rw_block_does_what_is_needed() -> None:
    """It reads what is not uptodate, writes what is dirty, leaves locked ones alone."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        fresh, known, locked = (getblk(bdev, n, 512) for n in range(3))
        set_buffer_uptodate(known)
        lock_buffer(locked)
        ll_rw_block(READ, [fresh, known, locked])
        wait_on_buffer(fresh)
        assert fresh.uptodate
        assert not locked.uptodate
        assert disk.served == 1
        unlock_buffer(locked)
        ll_rw_block(WRITE, [fresh, known])
        assert disk.served == 1
        for bh in (fresh, known, locked):
            brelse(bh)

    run(body, disk=disk)


def test_a_block_that_becomes_data_is_forgotten() -> None:
    """What the cache still holds of it is not written any more."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        brelse(_dirty(bdev, 3, 1))
        clean_bdev_alias(bdev, 3)
        clean_bdev_alias(bdev, 4)

    run(body, disk=disk)
    assert disk.is_blank()


def test_invalidating_keeps_what_is_in_use() -> None:
    """Clean, unused buffers go; dirty ones and those with references stay."""

    def body(bdev: BlockDevice) -> None:
        brelse(bread(bdev, 0, 512))
        brelse(_dirty(bdev, 1, 1))
        held = bread(bdev, 2, 512)
        invalidate_bdev(bdev)
        assert list(bdev.bd_buffers) == [1, 2]
        brelse(held)

    run(body)


def test_the_block_size_changes_with_an_empty_cache() -> None:
    """Dirty buffers are written first; sizes that make no sense are EINVAL."""
    disk = RamDisk(sectors=8)

    def body(bdev: BlockDevice) -> None:
        brelse(_dirty(bdev, 0, 5))
        set_blocksize(bdev, 1024)
        assert not bdev.bd_buffers
        bh = bread(bdev, 0, 1024)
        assert bytes(bh.b_data) == b"\5" * 512 + bytes(512)
        brelse(bh)
        for bad in (0, 256, 1000, 8192):
            with pytest.raises(OSError, match="Invalid"):
                set_blocksize(bdev, bad)

    run(body, disk=disk)


def test_one_holder_at_a_time() -> None:
    """A second exclusive opener is told EBUSY, the same holder is not."""

    def body(bdev: BlockDevice) -> None:
        me, you = "me", "you"
        blkdev_get(bdev, MODE | FMODE_EXCL, me)
        blkdev_get(bdev, MODE | FMODE_EXCL, me)
        with pytest.raises(OSError, match="busy"):
            blkdev_get(bdev, MODE | FMODE_EXCL, you)
        with pytest.raises(OSError, match="Invalid"):
            blkdev_get(bdev, MODE | FMODE_EXCL)
        blkdev_put(bdev, MODE | FMODE_EXCL)
        blkdev_put(bdev, MODE | FMODE_EXCL)
        blkdev_get(bdev, MODE | FMODE_EXCL, you)
        blkdev_put(bdev, MODE | FMODE_EXCL)
        assert bdget(bdev.machine, bdev.bd_dev) is bdev
        assert bdget(bdev.machine, 1) is None

    run(body)


# -- rules broken ----------------------------------------------------------------------------------


def _broken_submit(spoil: Callable[[BufferHead], None]) -> list[tuple[str, str]]:
    def body(bdev: BlockDevice) -> None:
        bh = getblk(bdev, 0, 512)
        lock_buffer(bh)
        bh.b_end_io = end_buffer_read_sync
        spoil(bh)
        submit_bh(READ, bh)

    return bugs(body)


def test_a_buffer_is_submitted_locked() -> None:
    """E16: unlocked is a bug of whoever submits."""
    assert _broken_submit(unlock_buffer)[0] == ("E16", "test")


def test_a_buffer_is_submitted_mapped() -> None:
    """E16: without a block to read from likewise."""

    def spoil(bh: BufferHead) -> None:
        bh.mapped = False

    assert _broken_submit(spoil)[0] == ("E16", "test")


def test_a_buffer_is_submitted_with_an_end() -> None:
    """E16: and without an end_io."""

    def spoil(bh: BufferHead) -> None:
        bh.b_end_io = None

    assert _broken_submit(spoil)[0] == ("E16", "test")


def _with_end_io(end_io: EndIo) -> list[tuple[str, str]]:
    def body(bdev: BlockDevice) -> None:
        bh = getblk(bdev, 0, 512)
        lock_buffer(bh)
        get_bh(bh)
        bh.b_end_io = end_io
        submit_bh(READ, bh)
        msleep(5)
        brelse(bh)

    return bugs(body)


def test_a_good_handler_is_silent() -> None:
    """A handler of one's own that does its duty is not reported."""

    def good(bh: BufferHead, uptodate: bool) -> None:
        assert K.cur.ctx.in_irq
        end_buffer_write_sync(bh, uptodate)

    assert _with_end_io(good) == []


def test_a_handler_may_not_sleep() -> None:
    """P58: it is called from an interrupt."""

    def sleeper(bh: BufferHead, uptodate: bool) -> None:
        msleep(1)
        end_buffer_read_sync(bh, uptodate)

    assert _with_end_io(sleeper)[0][0] == "P58"


def test_a_handler_unlocks_the_buffer() -> None:
    """P61: one that does not is reported."""

    def forgets(bh: BufferHead, uptodate: bool) -> None:
        bh.uptodate = uptodate
        put_bh(bh)

    with World() as world:

        def body(bdev: BlockDevice) -> None:
            bh = getblk(bdev, 0, 512)
            lock_buffer(bh)
            get_bh(bh)
            bh.b_end_io = forgets
            submit_bh(READ, bh)
            msleep(5)

        world.run(body, close=False)
        assert [v.rule for v in world.violations] == ["P61"]


def test_a_handler_unlocks_once() -> None:
    """P61: and no more than once."""

    def twice(bh: BufferHead, uptodate: bool) -> None:
        put_bh(bh)
        unlock_buffer(bh)
        unlock_buffer(bh)

    assert _with_end_io(twice)[0][0] == "P61"


def test_a_forgotten_brelse_is_a_leak() -> None:
    """Closing the device tells of buffers that somebody still refers to."""

    def body(bdev: BlockDevice) -> None:
        bread(bdev, 0, 512)

    with World() as world:
        world.run(body)
        assert [(v.rule, v.kind) for v in world.violations] == [("leak.buffer_head", "leak")]


def test_one_brelse_too_many_is_a_bug() -> None:
    """A count below zero stops the world."""

    def body(bdev: BlockDevice) -> None:
        bh = bread(bdev, 0, 512)
        brelse(bh)
        brelse(bh)

    assert bugs(body)[0][0] == "lifetime.underflow"


def test_unknown_contents_are_not_dirtied() -> None:
    """Dirtying a buffer that was never read nor filled is reported to whoever does it."""

    def body(bdev: BlockDevice) -> None:
        bh = getblk(bdev, 0, 512)
        mark_buffer_dirty(bh)
        brelse(bh)

    assert ("buffer.dirty-not-uptodate", "test") in bugs(body)


def test_a_dropped_buffer_is_gone() -> None:
    """Using a buffer after it left the cache is a use after free."""

    def body(bdev: BlockDevice) -> None:
        bh = bread(bdev, 0, 512)
        brelse(bh)
        invalidate_bdev(bdev)
        brelse(bh)

    assert bugs(body)[0][0] == "lifetime.use-after-free"
