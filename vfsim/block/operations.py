"""The locking contract of buffers and block devices, as the document prints it::

    buffer_head

    no row: b_end_io

    block_device_operations

                             bd_mutex
    open:                    yes
    release:                 yes
    ioctl:                   no
    compat_ioctl:            no
    direct_access:           no
    media_changed:           no
    unlock_native_capacity:  no
    revalidate_disk:         no
    getgeo:                  no
    swap_slot_free_notify:   no (see below)

Above each method stands its row, in the document's words; what the words mean for the locks at hand
is said beside them where the column's title does not (see `vfsim.checks.rules`).  A driver
subclasses a table and writes the methods it has; **a method left out does what the method here
does**, which is what Linux does for NULL, with Linux's errno.

``b_end_io`` is a table of one method: Linux's field of that name is a single function pointer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.block import prose as prose
from vfsim.checks.contract import Operations
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    cannot_fail,
    expects,
    never_blocks,
    promises_no_lock,
    prototype,
    row,
)
from vfsim.sim.errors import ENOTTY, EOPNOTSUPP

if TYPE_CHECKING:
    from vfsim.block.buffer import BufferHead
    from vfsim.block.device import BlockDevice
    from vfsim.block.disk import RamDisk


# -- what `expects` asks ---------------------------------------------------------------------------


def the_buffer_is_locked(bh: BufferHead) -> bool:
    return bh.lock.locked


# -- the tables ------------------------------------------------------------------------------------


class BufferHeadOperations(Operations):
    """What happens when the I/O of a buffer is done (``bh.b_end_io``).

    The document has no row for it, only this: it is called from interrupts, with the buffer locked,
    and nothing else is promised.
    """

    table = "buffer_head"

    @prototype("void (*b_end_io)(struct buffer_head *bh, int uptodate);")
    @never_blocks(rule="P58")
    @expects(the_buffer_is_locked, rule="P59")
    @promises_no_lock(rule="P60")
    @cannot_fail
    def b_end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """Never sleeps.  The I/O is done, well (``uptodate``) or not: note it and unlock the
        buffer.

        Called in an interrupt: touch nothing that is elsewhere locked with interrupts on.

        Left out: the buffer is unlocked, nothing else.
        """
        from vfsim.block.buffer import unlock_buffer

        bh.uptodate = uptodate
        unlock_buffer(bh)


class BlockDeviceOperations(Operations):
    """What a driver does for a block device (``disk.fops``)."""

    table = "block_device_operations"
    columns = (Lock("bd_mutex", "bdev.bd_mutex", "any bd_mutex"),)
    implementer = "driver"

    @prototype("int (*open) (struct block_device *, fmode_t);")
    @row("yes")
    def open(self, bdev: BlockDevice, mode: int) -> None:
        """Sleeps.  The device is being opened.  Left out: fine."""

    @prototype("int (*release) (struct gendisk *, fmode_t);")
    @row("yes")
    def release(self, disk: RamDisk, mode: int) -> None:
        """Sleeps.  The device was closed.  Left out: nothing."""

    @prototype("int (*ioctl) (struct block_device *, fmode_t, unsigned, unsigned long);")
    @row("no", not_promised="bdev.bd_mutex")
    def ioctl(self, bdev: BlockDevice, mode: int, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2) on the device.  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("int (*compat_ioctl) (struct block_device *, fmode_t, unsigned, unsigned long);")
    @row("no")
    def compat_ioctl(self, bdev: BlockDevice, mode: int, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2) of a 32-bit program.  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("int (*direct_access) (struct block_device *, sector_t, void **, unsigned long *);")
    @row("no", not_promised="bdev.bd_mutex")
    def direct_access(self, bdev: BlockDevice, sector: int, size: int) -> memoryview:
        """Sleeps.  The memory behind sectors, for DAX.  Left out: EOPNOTSUPP."""
        raise EOPNOTSUPP()

    @prototype("int (*media_changed) (struct gendisk *);")
    @row("no", not_promised="any bd_mutex")
    def media_changed(self, disk: RamDisk) -> bool:
        """Sleeps.  Is another disk in the drive?  Left out: no."""
        return False

    @prototype("void (*unlock_native_capacity) (struct gendisk *);")
    @row(
        "no",
        held="any bd_mutex",
        status=ADAPTED,
        means="the caller holds bd_mutex: the only one, rescan_partitions, always does",
    )
    def unlock_native_capacity(self, disk: RamDisk) -> None:
        """Sleeps.  Make hidden sectors visible.  Left out: nothing."""

    @prototype("int (*revalidate_disk) (struct gendisk *);")
    @row("no", not_promised="any bd_mutex")
    def revalidate_disk(self, disk: RamDisk) -> None:
        """Sleeps.  Look at the drive's size and features again.  Left out: nothing."""

    @prototype("int (*getgeo)(struct block_device *, struct hd_geometry *);")
    @row("no", not_promised="bdev.bd_mutex")
    def getgeo(self, bdev: BlockDevice) -> Any:
        """Sleeps.  Heads, sectors and cylinders, for partition tables.  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("void (*swap_slot_free_notify) (struct block_device *, unsigned long);")
    @row("no (see below)", not_promised="bdev.bd_mutex")
    @never_blocks(rule="P63")
    def swap_slot_free_notify(self, bdev: BlockDevice, offset: int) -> None:
        """Never sleeps.  A page of swap space is free: its data may be forgotten.

        Left out: nothing.
        """


__all__ = ["BlockDeviceOperations", "BufferHeadOperations"]
