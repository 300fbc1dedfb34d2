"""Buffer heads: one block of a device in memory, with a lock that I/O releases.

A buffer's life: `getblk` (in the cache, contents unknown) → locked and read (`bread`) → uptodate ⇄
dirty (`mark_buffer_dirty`) → locked and written (`sync_dirty_buffer`, or the flusher) → clean →
dropped from the cache once nobody refers to it.  The typical sequence::

    bh = sb_bread(sb, block)                    # read it, or raise EIO
    bh.b_data[4:8] = ...                        # under the filesystem's own lock
    mark_buffer_dirty(bh)
    sync_dirty_buffer(bh)                       # only if it must be on the disk now
    brelse(bh)

Who starts I/O on a buffer locks it, sets ``b_end_io`` and calls `submit_bh`.  From then on the
buffer lock belongs to the I/O: the handler, called in hardirq context with the buffer locked and
nothing else promised (P58 to P61), unlocks it.

Locks.  The buffer lock (``lock``, a bit that sleeps and has no owner while I/O runs) guards the
contents against I/O: locked means being read or written.  The device's ``private_lock`` guards
which block is cached where.  The state bits and ``b_count`` are atomic: each is one word.

Analogous to Linux's ``buffer_head``.  Buffers of the cache own their memory; buffers of a page
(``vfsim.mm.buffers``) are views of it.  A function that would return NULL for an I/O error raises
EIO.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from vfsim.block.bio import READ, SECTOR_SHIFT, WRITE, Bio
from vfsim.block.operations import BufferHeadOperations
from vfsim.block.queue import submit_bio
from vfsim.checks.bugs import asked, bug, warn, warn_of
from vfsim.checks.calls import tell
from vfsim.checks.contract import checked
from vfsim.checks.lifetime import free, note_ref, report_leak
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.sim.errors import EIO
from vfsim.sim.shared import guarded_by, kernel_struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.block.device import BlockDevice
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.page import Page

EndIo = Callable[["BufferHead", bool], None]
"""What `BufferHead.b_end_io` points to: called with the buffer and whether the I/O succeeded."""

UNMAPPED = -1
"""``b_blocknr`` of a page's buffer that has no block on the device yet."""


@kernel_struct
class BufferHead:
    """One block in memory (Linux: ``struct buffer_head``).

    Attributes:
        b_bdev: the device, or None while not mapped.
        b_blocknr: the block's number on it, or `UNMAPPED`; b_size: bytes per block.
        b_data: the contents, ``b_size`` bytes, changed in place.
        b_page: the page-cache page it is part of, or None for a buffer of the device's cache.
        b_end_io: what to call when the I/O that was submitted ends; b_private: for it.
        b_count: references.
        b_dirtied: called when it turns dirty.
        lock: the buffer lock.  uptodate_lock: guards the async bits of one page (its first buffer's
            is used; irq-safe).

        uptodate: the contents are valid.  dirty: they must be written.  mapped: ``b_blocknr`` is
            valid.
        new: mapped to a block that was allocated just now, whose contents on the device mean
            nothing.
        async_read, async_write: part of a page's I/O in progress.
        write_io_error: the last write failed.
    """

    b_bdev: BlockDevice | None
    b_blocknr: int
    b_size: int
    b_data: memoryview
    b_dirtied: Callable[[BufferHead], None]
    b_page: Page | None = None
    b_end_io: Annotated[EndIo | None, guarded_by("lock")] = None
    b_private: Annotated[Any, guarded_by("lock")] = None
    b_count: int = 0
    lock: SleepBit = None  # type: ignore[assignment]
    uptodate_lock: BitLock | None = None
    uptodate: bool = False
    dirty: bool = False
    mapped: bool = False
    new: bool = False
    async_read: bool = False
    async_write: bool = False
    write_io_error: bool = False

    def __attrs_post_init__(self) -> None:
        self.lock = SleepBit("BH_Lock", tried=True)

    def _check(self) -> None:
        assert self.b_count >= 0
        assert len(self.b_data) == self.b_size
        assert self.mapped == (self.b_bdev is not None and self.b_blocknr != UNMAPPED)
        assert not (self.async_read or self.async_write) or self.lock.is_locked(), (
            "I/O on an unlocked buffer"
        )
        assert not self.dirty or self.uptodate or self.write_io_error, (
            "contents nobody knows must not be written"
        )

    def __repr__(self) -> str:
        bits = " ".join(b for b in ("uptodate", "dirty", "mapped", "new") if getattr(self, b))
        return f"buffer({self.b_blocknr}{': ' if bits else ''}{bits})"


# -- references ------------------------------------------------------------------------------------


def get_bh(bh: BufferHead) -> None:
    """Never sleeps.  Take a reference.  Linux: ``get_bh``."""
    bh.b_count += 1
    note_ref(bh, +1, "get_bh")


def put_bh(bh: BufferHead) -> None:
    """Never sleeps.  Give a reference back; the buffer stays cached.  Linux: ``put_bh``."""
    bh.b_count -= 1
    note_ref(bh, -1, "put_bh", bh.b_count)


def brelse(bh: BufferHead | None) -> None:
    """Never sleeps.  Done with a buffer, or with None.  Linux: ``brelse``."""
    if bh is not None:
        put_bh(bh)


# -- the buffer lock -------------------------------------------------------------------------------


def lock_buffer(bh: BufferHead) -> None:
    """Sleeps.  Wait for I/O on the buffer to end, and keep further I/O away.

    Linux: ``lock_buffer``.
    """
    if bh.lock.locked:
        tell("wait", bh)
    bh.lock.lock()


def trylock_buffer(bh: BufferHead) -> bool:
    """Never sleeps.  Lock the buffer if it is free.  Linux: ``trylock_buffer``."""
    return bh.lock.trylock()


def unlock_buffer(bh: BufferHead) -> None:
    """Never sleeps.  Let go of the buffer lock; may be called from an interrupt.

    Linux: ``unlock_buffer``.
    """
    if not bh.lock.is_locked():
        bug("P61", f"{bh} unlocked although it was not locked")
    bh.lock.unlock()


def wait_on_buffer(bh: BufferHead) -> None:
    """Sleeps.  Until no I/O is in progress on the buffer.  Linux: ``wait_on_buffer``."""
    if bh.lock.locked:
        tell("wait", bh)
    bh.lock.wait()


# -- the cache -------------------------------------------------------------------------------------


def find_get_block(bdev: BlockDevice, block: int) -> BufferHead | None:
    """Never sleeps.  The cached buffer of a block, with a reference, or None.

    Takes private_lock.  Linux: ``__find_get_block``.
    """
    bdev.private_lock.lock()
    bh: BufferHead | None = bdev.bd_buffers.get(block)
    if bh is not None:
        get_bh(bh)
    bdev.private_lock.unlock()
    return bh


def getblk(bdev: BlockDevice, block: int, size: int) -> BufferHead:
    """Sleeps.  The buffer of a block, with a reference, whether its contents are known or not.

    Args:
        size: bytes per block; must be the device's block size.
    Raises:
        EIO: beyond the end of the device.  ValueError: another block size.
    Takes private_lock.  Linux: ``__getblk``.
    """
    if size != bdev.bd_block_size:
        raise ValueError(f"{bdev!r} has blocks of {bdev.bd_block_size} bytes, not {size}")
    if not 0 <= block < (bdev.bd_disk.capacity << SECTOR_SHIFT) // size:
        raise EIO(f"block {block} is beyond the end of {bdev.bd_disk.name}")
    found = find_get_block(bdev, block)
    if found is not None:
        return found
    fresh = BufferHead(bdev, block, size, memoryview(bytearray(size)), _cache_dirtied, mapped=True)
    bdev.private_lock.lock()
    bh: BufferHead = bdev.bd_buffers.setdefault(block, fresh)
    get_bh(bh)
    bdev.private_lock.unlock()
    return bh


def bread(bdev: BlockDevice, block: int, size: int) -> BufferHead:
    """Sleeps.  The buffer of a block, with a reference and its contents.

    Raises:
        EIO: the read failed, or beyond the end of the device.
    Linux: ``__bread``, which returns NULL instead.
    """
    bh = getblk(bdev, block, size)
    if not bh.uptodate:
        lock_buffer(bh)
        if bh.uptodate:
            unlock_buffer(bh)
        else:
            get_bh(bh)
            bh.b_end_io = end_buffer_read_sync
            submit_bh(READ, bh)
            wait_on_buffer(bh)
    if not bh.uptodate:
        brelse(bh)
        raise EIO(f"block {block} of {bdev.bd_disk.name}")
    return bh


def sb_getblk(sb: SuperBlock, block: int) -> BufferHead:
    """Sleeps.  `getblk` on a filesystem's device.  Linux: ``sb_getblk``."""
    return getblk(_bdev(sb), block, sb.s_blocksize)


def sb_bread(sb: SuperBlock, block: int) -> BufferHead:
    """Sleeps.  `bread` on a filesystem's device.

    Raises:
        EIO: the read failed.
    Linux: ``sb_bread``, which returns NULL instead.
    """
    return bread(_bdev(sb), block, sb.s_blocksize)


def sb_find_get_block(sb: SuperBlock, block: int) -> BufferHead | None:
    """Never sleeps.  `find_get_block` on a filesystem's device.  Linux: ``sb_find_get_block``."""
    return find_get_block(_bdev(sb), block)


def _bdev(sb: SuperBlock) -> BlockDevice:
    if sb.s_bdev is None:
        raise TypeError(f"{sb!r} is on no device: mount it with mount_bdev() to use buffers")
    return sb.s_bdev


def _cache_dirtied(bh: BufferHead) -> None:
    """Never sleeps.  A buffer of a device's cache became dirty: let the flusher know."""
    assert bh.b_bdev is not None
    if bh.b_bdev.bd_dirtied is not None:
        bh.b_bdev.bd_dirtied()


# -- dirtying and I/O ------------------------------------------------------------------------------


def set_buffer_uptodate(bh: BufferHead) -> None:
    """Never sleeps.  The contents are valid now: the caller wrote all of them.

    Linux: ``set_buffer_uptodate``.
    """
    bh.uptodate = True


def mark_buffer_dirty(bh: BufferHead) -> None:
    """Never sleeps.  The contents must reach the device some time.  Not from interrupts.

    A buffer whose last write failed counts as valid again: memory is newer than the device (in
    Linux filesystems see to that themselves).  Linux: ``mark_buffer_dirty``.
    """
    if bh.write_io_error:
        bh.uptodate = True
    elif not bh.uptodate:
        warn(
            "buffer.dirty-not-uptodate",
            f"{bh} dirtied although its contents are not valid: part of it is unknown",
        )
    if not test_set_buffer_dirty(bh):
        bh.b_dirtied(bh)


def test_set_buffer_dirty(bh: BufferHead) -> bool:
    """Never sleeps.  Set the dirty bit; returns what it was."""
    was, bh.dirty = bh.dirty, True
    return was


def test_clear_buffer_dirty(bh: BufferHead) -> bool:
    """Never sleeps.  Clear the dirty bit; returns what it was."""
    was, bh.dirty = bh.dirty, False
    return was


def submit_bh(op: str, bh: BufferHead) -> None:
    """Never sleeps.  Start I/O on a buffer the caller has locked; the buffer lock goes to the I/O.

    Args:
        op: `READ` or `WRITE`.
    The buffer must be locked, mapped and have an end_io (E16).  Linux: ``submit_bh``.
    """
    asked("E16")
    if not bh.lock.is_locked():
        bug("E16", f"{bh} submitted unlocked")
    if not bh.mapped or bh.b_bdev is None:
        bug("E16", f"{bh} submitted although it is not mapped to a block")
    if bh.b_end_io is None:
        bug("E16", f"{bh} submitted without an end_io")
    if op == WRITE:
        bh.write_io_error = False
        bh.uptodate = True  # who writes it vouches for it, also after a failed write
    sector = bh.b_blocknr * (bh.b_size >> SECTOR_SHIFT)
    bio = Bio(bh.b_bdev, op, sector, bh.b_data, _end_bio_bh, bi_private=bh, bi_page=bh.b_page)
    bh.lock.disown(bio)
    submit_bio(bio)


def _end_bio_bh(bio: Bio) -> None:
    """Never sleeps.  A buffer's bio is done: call the buffer's end_io, through the contract.

    The handler unlocks the buffer (P61), which may be gone then, or in its next I/O.
    """
    bh: BufferHead = bio.bi_private
    lock = bh.lock
    end_io = bh.b_end_io
    assert end_io is not None
    asked("P61")
    checked(BufferHeadOperations, "b_end_io", end_io)(bh, not bio.bi_error)
    if lock.keeper is bio:
        warn_of("P61", end_io, "returned without unlocking the buffer")


def end_buffer_read_sync(bh: BufferHead, uptodate: bool) -> None:
    """Never sleeps.  ``b_end_io`` of a read: note the result, drop the I/O's reference, unlock.

    Linux: ``end_buffer_read_sync``.
    """
    bh.uptodate = uptodate
    put_bh(bh)
    unlock_buffer(bh)  # last: from here on it may be freed


def end_buffer_write_sync(bh: BufferHead, uptodate: bool) -> None:
    """Never sleeps.  ``b_end_io`` of a write: note the result, drop the I/O's reference, unlock.

    Linux: ``end_buffer_write_sync``.
    """
    if not uptodate:
        bh.write_io_error = True
        if bh.b_page is None and bh.b_bdev is not None:
            bh.b_bdev.bd_write_error = True
    bh.uptodate = uptodate
    put_bh(bh)
    unlock_buffer(bh)  # last: from here on it may be freed


def ll_rw_block(op: str, bhs: Iterable[BufferHead]) -> None:
    """Never sleeps.  Start I/O on those buffers that need it; locked ones are skipped.

    Args:
        op: `READ` (those not uptodate) or `WRITE` (those dirty).
    Whoever needs the result waits with `wait_on_buffer` and looks at ``uptodate``.  Linux:
    ``ll_rw_block``.
    """
    for bh in bhs:
        if not trylock_buffer(bh):
            continue
        if op == WRITE:
            needed = test_clear_buffer_dirty(bh)
            bh.b_end_io = end_buffer_write_sync
        else:
            needed = not bh.uptodate
            bh.b_end_io = end_buffer_read_sync
        if needed:
            get_bh(bh)
            submit_bh(op, bh)
        else:
            unlock_buffer(bh)


def write_dirty_buffer(bh: BufferHead) -> None:
    """Sleeps.  Start writing the buffer if it is dirty, after waiting for I/O in progress.

    Linux: ``write_dirty_buffer``.
    """
    lock_buffer(bh)
    if not test_clear_buffer_dirty(bh):
        unlock_buffer(bh)
        return
    bh.b_end_io = end_buffer_write_sync
    get_bh(bh)
    submit_bh(WRITE, bh)


def sync_dirty_buffer(bh: BufferHead) -> None:
    """Sleeps.  Write the buffer if it is dirty, and wait until it is on the device.

    Raises:
        EIO: the write failed.
    Linux: ``sync_dirty_buffer``.
    """
    if bh.b_count < 1:
        warn("buffer.no-reference", f"{bh} synced by a caller without a reference")
    write_dirty_buffer(bh)
    wait_on_buffer(bh)
    if bh.write_io_error or not bh.uptodate:
        raise EIO(f"block {bh.b_blocknr}")


# -- the whole cache of a device -------------------------------------------------------------------


def _grab(bdev: BlockDevice, wanted: Callable[[BufferHead], bool]) -> list[BufferHead]:
    """Never sleeps.  The cached buffers that are wanted, in block order, each with a reference."""
    bdev.private_lock.lock()
    found = [bh for bh in bdev.bd_buffers.values() if wanted(bh)]
    for bh in found:
        get_bh(bh)
    bdev.private_lock.unlock()
    return found


def has_dirty_buffers(bdev: BlockDevice) -> bool:
    """Never sleeps.  Whether the cache holds anything to be written."""
    return any(bh.dirty for bh in bdev.bd_buffers.values())


def write_dirty_buffers(bdev: BlockDevice) -> None:
    """Never sleeps.  Start writing dirty buffers that nobody has locked: the flusher's part.

    The buffer lock alone pins them: who closes the device waits for it.
    """
    bdev.private_lock.lock()
    mine = [bh for bh in bdev.bd_buffers.values() if bh.dirty and trylock_buffer(bh)]
    bdev.private_lock.unlock()
    for bh in mine:
        if test_clear_buffer_dirty(bh):
            bh.b_end_io = end_buffer_write_sync
            get_bh(bh)
            submit_bh(WRITE, bh)
        else:
            unlock_buffer(bh)


def sync_blockdev(bdev: BlockDevice | None) -> None:
    """Sleeps.  Write all dirty buffers of the cache, and wait for them and for writes in progress.

    Raises:
        EIO: one of them failed, or a write failed since the last call that nobody waited for.
    Linux: ``sync_blockdev``; nothing to do for None.
    """
    if bdev is None:
        return
    buffers = _grab(bdev, lambda bh: bh.dirty or bh.lock.is_locked())
    for bh in buffers:
        write_dirty_buffer(bh)
    for bh in buffers:
        wait_on_buffer(bh)
        brelse(bh)
    failed, bdev.bd_write_error = bdev.bd_write_error, False
    if failed:
        raise EIO(f"writing to {bdev.bd_disk.name}")


def clean_bdev_alias(bdev: BlockDevice, block: int) -> None:
    """Sleeps.  A block is data from now on: what is cached of it must not be written.

    Linux: ``clean_bdev_bh_alias``.
    """
    bh = find_get_block(bdev, block)
    if bh is not None:
        bh.dirty = False
        wait_on_buffer(bh)
        brelse(bh)


def invalidate_bdev(bdev: BlockDevice) -> None:
    """Never sleeps.  Drop the buffers nobody refers to and nothing happens to.

    Linux: ``invalidate_bdev``.
    """
    bdev.private_lock.lock()
    idle = [
        bh for bh in bdev.bd_buffers.values() if not (bh.b_count or bh.dirty or bh.lock.is_locked())
    ]
    for bh in idle:
        del bdev.bd_buffers[bh.b_blocknr]
    bdev.private_lock.unlock()
    for bh in idle:
        free(bh, "buffer_head")


def kill_buffers(bdev: BlockDevice) -> None:
    """Sleeps.  Drop every buffer, written or not: the device is closed or gets another block size.

    Linux: ``kill_bdev``.
    """
    for bh in _grab(bdev, lambda bh: True):
        lock_buffer(bh)
        bh.dirty = False
        unlock_buffer(bh)
        brelse(bh)
    invalidate_bdev(bdev)
    for bh in bdev.bd_buffers.values():
        report_leak(bh, f"{bh} of {bdev.bd_disk.name}", "leak.buffer_head")
    bdev.bd_buffers.clear()
    bdev.bd_write_error = False
