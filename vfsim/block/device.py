"""Block devices: opening and closing a disk, and the buffer cache's home.

A device's life: `add_disk` (closed, no buffers) → `blkdev_get` (the first opener reaches the
driver's ``open``) ⇄ `blkdev_put` (the last one writes all dirty buffers, drops the cache and
reaches the driver's ``release``). The typical sequence::

    bdev = blkdev_get(bdev, FMODE_READ | FMODE_WRITE | FMODE_EXCL, holder)
    set_blocksize(bdev, 1024)
    bh = bread(bdev, 0, 1024) ...                # vfsim.block.buffer
    blkdev_put(bdev, mode)

Locks.  ``bd_mutex`` guards opening, closing and ``bd_openers``, and is held around the driver's
``open`` and ``release``.  ``bdev_lock`` (one per world, as Linux's global one) guards who claims a
device exclusively: ``bd_holder``, ``bd_holders``.  ``private_lock`` guards ``bd_buffers``, the
buffer cache by block number; the buffers have locks of their own.  Order: s_umount is never held
while closing; bd_mutex > buffer lock > private_lock.

Analogous to Linux's ``block_device``, except that there are no partitions, and that buffers lie in
a dictionary here instead of on the pages of the device's inode: reading the device through a file
is not built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sortedcontainers import SortedDict

from vfsim.block.buffer import kill_buffers, sync_blockdev
from vfsim.locks.mutex import Mutex
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import EBUSY, EINVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.block.buffer import BufferHead
    from vfsim.block.disk import RamDisk
    from vfsim.fs.super import SuperBlock
    from vfsim.sim.machine import Machine

FMODE_READ, FMODE_WRITE, FMODE_EXCL = 0x1, 0x2, 0x80
MAX_BLOCK_SIZE = 4096
"""A block never exceeds a page."""


class BlockDevice:
    """A disk as the kernel sees it (Linux: ``struct block_device``).

    Attributes:
        bd_disk: the disk; bd_queue: its request queue; bd_dev: its device number.
        bd_super: the superblock mounted from it, or None (set by the filesystem floor).

        bd_mutex: guards opening and closing and
        bd_openers: how many have it open.

        ``bdev_lock`` guards
        bd_holder, bd_holders: who claims it exclusively, and how often.

        bd_fsfreeze_mutex: guards, together with mounting from it,
        bd_fsfreeze_count: how often the floor above has frozen what is mounted from it.

        private_lock: guards
        bd_buffers: the buffer cache, by block number.

        bd_block_size: bytes per block; changes only with the cache empty.
        bd_write_error: a write nobody waited for failed; reported once by `sync_blockdev`.
        bd_dirtied: called when a buffer of the cache becomes dirty; the flusher listens.
        bd_bdi: the writeback state of the floor above, or None.
    """

    __slots__ = (
        "bd_bdi",
        "bd_block_size",
        "bd_buffers",
        "bd_dev",
        "bd_dirtied",
        "bd_disk",
        "bd_fsfreeze_count",
        "bd_fsfreeze_mutex",
        "bd_holder",
        "bd_holders",
        "bd_mutex",
        "bd_openers",
        "bd_queue",
        "bd_super",
        "bd_write_error",
        "bdev_lock",
        "machine",
        "private_lock",
    )

    def __init__(self, disk: RamDisk, machine: Machine, bd_dev: int) -> None:
        self.machine = machine
        self.bd_disk = disk
        self.bd_queue = disk.attach(machine)
        self.bd_dev = bd_dev
        self.bd_super: SuperBlock | None = None
        self.bd_mutex = Mutex("bd_mutex")
        self.bd_openers = 0
        self.bdev_lock: SpinLock = machine.data.setdefault("bdev_lock", SpinLock("bdev_lock"))
        self.bd_holder: Any = None
        self.bd_holders = 0
        self.private_lock = SpinLock("bd_private_lock")
        self.bd_buffers: SortedDict[int, BufferHead] = SortedDict()
        self.bd_block_size = 512
        self.bd_write_error = False
        self.bd_dirtied: Callable[[], None] | None = None
        self.bd_bdi: Any = None
        self.bd_fsfreeze_mutex = Mutex("bd_fsfreeze_mutex")
        self.bd_fsfreeze_count = 0

    def _check(self) -> None:
        assert (self.bd_holder is None) == (self.bd_holders == 0)
        assert self.bd_openers >= 0
        assert self.bd_openers or not self.bd_buffers, "a closed device caches nothing"
        for block, bh in self.bd_buffers.items():
            assert (
                bh.b_blocknr == block and bh.b_bdev is self and bh.b_size == self.bd_block_size
            ), bh
            bh._check()
        self.bd_queue._check()
        self.bd_disk._check()
        if self.bd_bdi is not None:
            self.bd_bdi._check()

    def __repr__(self) -> str:
        cached = len(self.bd_buffers)
        return f"block_device({self.bd_disk.name}, {self.bd_openers} openers, {cached} buffers)"


def add_disk(disk: RamDisk, machine: Machine) -> BlockDevice:
    """Never sleeps.  Plug a disk into a machine; may be called outside of tasks.

    Raises:
        ValueError: the disk is in a machine already.
    Linux: ``add_disk``.
    """
    known: dict[int, BlockDevice] = machine.data.setdefault("block_devices", {})
    dev = (1 << 20) | len(known)  # major 1, RAM disks
    bdev = known[dev] = BlockDevice(disk, machine, dev)
    return bdev


def bdget(machine: Machine, dev: int) -> BlockDevice | None:
    """Never sleeps.  The block device of that number, or None."""
    found: BlockDevice | None = machine.data.get("block_devices", {}).get(dev)
    return found


def blkdev_get(bdev: BlockDevice, mode: int, holder: Any = None) -> None:
    """Sleeps.  Open a block device; with ``FMODE_EXCL`` claim it for ``holder``.

    Raises:
        EBUSY: somebody else claims it.  EINVAL: an exclusive open without a holder.  What the
            driver raises.
    Takes bd_mutex.  Linux: ``blkdev_get``.
    """
    if mode & FMODE_EXCL:
        _claim(bdev, holder)
    bdev.bd_mutex.lock()
    try:
        bdev.bd_disk.fops.open(bdev, mode)
        bdev.bd_openers += 1
    except OSError:
        if mode & FMODE_EXCL:
            _unclaim(bdev)
        raise
    finally:
        bdev.bd_mutex.unlock()


def blkdev_put(bdev: BlockDevice, mode: int) -> None:
    """Sleeps.  Close a block device; the last one out writes and drops its buffers.

    Args:
        mode: as it was opened with.
    Takes bd_mutex, waits for I/O.  Linux: ``blkdev_put``.
    """
    bdev.bd_mutex.lock()
    try:
        if mode & FMODE_EXCL:
            _unclaim(bdev)
        bdev.bd_openers -= 1
        if not bdev.bd_openers:
            try:
                sync_blockdev(bdev)
            except OSError:
                pass  # nobody is left to tell; as in Linux
            kill_buffers(bdev)
        bdev.bd_disk.fops.release(bdev.bd_disk, mode)
    finally:
        bdev.bd_mutex.unlock()


def _claim(bdev: BlockDevice, holder: Any) -> None:
    if holder is None:
        raise EINVAL("an exclusive open names its holder")
    bdev.bdev_lock.lock()
    free = bdev.bd_holder is None or bdev.bd_holder is holder
    if free:
        bdev.bd_holder = holder
        bdev.bd_holders += 1
    bdev.bdev_lock.unlock()
    if not free:
        raise EBUSY(bdev.bd_disk.name)


def _unclaim(bdev: BlockDevice) -> None:
    bdev.bdev_lock.lock()
    bdev.bd_holders -= 1
    if not bdev.bd_holders:
        bdev.bd_holder = None
    bdev.bdev_lock.unlock()


def set_blocksize(bdev: BlockDevice, size: int) -> None:
    """Sleeps.  Change the size of a block, in bytes; drops the cache if it changes.

    Raises:
        EINVAL: not a power of two from 512 to a page.
    Linux: ``set_blocksize``.
    """
    if size & (size - 1) or not 512 <= size <= MAX_BLOCK_SIZE:
        raise EINVAL(f"a block of {size} bytes")
    if bdev.bd_block_size != size:
        sync_blockdev(bdev)
        kill_buffers(bdev)
        bdev.bd_block_size = size


def sb_set_blocksize(sb: SuperBlock, size: int) -> int:
    """Sleeps.  Choose the block size of a filesystem being mounted; returns it.

    Raises:
        EINVAL: not a power of two from 512 to a page.
    Linux: ``sb_set_blocksize``, which returns 0 where this raises.
    """
    assert sb.s_bdev is not None, "only a filesystem on a device has blocks"
    set_blocksize(sb.s_bdev, size)
    sb.s_blocksize = size
    sb.s_blocksize_bits = size.bit_length() - 1
    return size
