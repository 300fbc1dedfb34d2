"""Freezing a filesystem: what is on its disk stays as it is until the thaw, for a snapshot.

::

    freeze_super(sb)          s_umount exclusive
      SB_FREEZE_WRITE         ... let go of, while the writers of system calls are waited for
      SB_FREEZE_PAGEFAULT     ... held again, while those of write faults are
      sync_filesystem()       nothing is dirty any more
      SB_FREEZE_FS            what the filesystem does on its own account has ended, too
      ->freeze_fs()
      SB_FREEZE_COMPLETE      s_umount is released; the levels stay shut, nobody holds them
    thaw_super(sb)            s_umount exclusive; the levels are taken over
      ->unfreeze_fs()
      SB_UNFROZEN             the levels are open; writers go on

A frozen superblock has an active reference of the freeze's own, so that it outlives its mounts.
By device (`freeze_bdev`) freezes are counted, and ``bd_fsfreeze_mutex`` keeps the device from being
mounted meanwhile.

Order: bd_fsfreeze_mutex > write level > s_umount > page-fault level > internal level.

The counterpart of ``freeze_super``, ``thaw_super`` (fs/super.c) and ``freeze_bdev``,
``thaw_bdev`` (fs/block_dev.c) of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.block.buffer import sync_blockdev
from vfsim.checks.lifetime import note_ref
from vfsim.fs.operations import SuperOperations
from vfsim.fs.super import (
    MS_BORN,
    MS_RDONLY,
    deactivate_locked_super,
    deactivate_super,
    drop_super,
    get_active_super,
    get_super,
    sync_filesystem,
)
from vfsim.fs.writers import (
    SB_FREEZE_COMPLETE,
    SB_FREEZE_FS,
    SB_FREEZE_PAGEFAULT,
    SB_FREEZE_WRITE,
    SB_UNFROZEN,
)
from vfsim.sim.errors import EBUSY, EINVAL

if TYPE_CHECKING:
    from vfsim.block.device import BlockDevice
    from vfsim.fs.super import SuperBlock

_PLAIN_FREEZE = SuperOperations.freeze_fs
_PLAIN_UNFREEZE = SuperOperations.unfreeze_fs


def can_freeze(sb: SuperBlock) -> bool:
    """Never sleeps.  Whether the filesystem says that it can be frozen: it has ``freeze_fs``."""
    return type(sb.s_op).freeze_fs is not _PLAIN_FREEZE


def freeze_super(sb: SuperBlock) -> None:
    """Sleeps.  Freeze a filesystem; the caller has a reference that keeps the superblock.

    Raises:
        OSError: EBUSY (it is frozen, or just being frozen), or what ``freeze_fs`` says.

    Takes ``s_umount`` and the levels.  Source: ``freeze_super``.
    """
    writers = sb.s_writers
    sb.s_active += 1
    note_ref(sb, 1, "freeze_super", sb.s_active)
    sb.s_umount.down_write()
    if writers.frozen != SB_UNFROZEN:
        deactivate_locked_super(sb)
        raise EBUSY()
    if not sb.s_flags & MS_BORN:
        sb.s_umount.up_write()  # nothing to do yet; the reference stays, as in Linux
        return
    if sb.s_flags & MS_RDONLY:
        writers.frozen = SB_FREEZE_COMPLETE
        sb.s_umount.up_write()
        return
    writers.frozen = SB_FREEZE_WRITE
    sb.s_umount.up_write()  # it nests inside the write level
    sb_wait_write(sb, SB_FREEZE_WRITE)
    sb.s_umount.down_write()
    writers.frozen = SB_FREEZE_PAGEFAULT
    sb_wait_write(sb, SB_FREEZE_PAGEFAULT)
    try:
        sync_filesystem(sb)
    except OSError:
        pass  # as in Linux: freeze_fs has its own say
    writers.frozen = SB_FREEZE_FS
    sb_wait_write(sb, SB_FREEZE_FS)
    if can_freeze(sb):
        try:
            sb.s_op.freeze_fs(sb)
        except OSError:
            writers.frozen = SB_UNFROZEN
            _open_levels(sb)
            deactivate_locked_super(sb)
            raise
    writers.frozen = SB_FREEZE_COMPLETE
    for sem in reversed(writers.rw_sem):
        sem.disown(f"the frozen {sb.s_id}")
    sb.s_umount.up_write()


def sb_wait_write(sb: SuperBlock, level: int) -> None:
    """Sleeps.  Shut a level, and wait until all who hold it are done."""
    sb.s_writers.rw_sem[level - 1].down_write()


def _open_levels(sb: SuperBlock) -> None:
    """Never sleeps.  Let the writers of all levels go on, innermost first."""
    for sem in reversed(sb.s_writers.rw_sem):
        sem.up_write()


def thaw_super(sb: SuperBlock) -> None:
    """Sleeps.  End a freeze, whoever began it.

    Raises:
        OSError: EINVAL (it is not frozen), or what ``unfreeze_fs`` says: then it stays frozen.

    Takes ``s_umount``.  Source: ``thaw_super``.
    """
    writers = sb.s_writers
    sb.s_umount.down_write()
    if writers.frozen != SB_FREEZE_COMPLETE:
        sb.s_umount.up_write()
        raise EINVAL()
    if not sb.s_flags & MS_RDONLY:
        for sem in writers.rw_sem:
            sem.adopt()
        if type(sb.s_op).unfreeze_fs is not _PLAIN_UNFREEZE:
            try:
                sb.s_op.unfreeze_fs(sb)
            except OSError:
                for sem in reversed(writers.rw_sem):
                    sem.disown(f"the frozen {sb.s_id}")
                sb.s_umount.up_write()
                raise
        _open_levels(sb)
    writers.frozen = SB_UNFROZEN
    deactivate_locked_super(sb)


# -- by device -------------------------------------------------------------------------------------


def freeze_bdev(bdev: BlockDevice) -> SuperBlock | None:
    """Sleeps.  Freeze whatever is mounted from a disk, and keep it from being mounted.

    Returns the superblock, or None if there is none; `thaw_bdev` wants it.  Freezes are counted.

    Raises:
        OSError: as `freeze_super`.

    Takes ``bd_fsfreeze_mutex``.  Source: ``freeze_bdev``.
    """
    with bdev.bd_fsfreeze_mutex:
        if bdev.bd_fsfreeze_count:
            bdev.bd_fsfreeze_count += 1
            found = get_super(bdev)
            if found is not None:
                drop_super(found)
            return found
        sb = get_active_super(bdev)
        if sb is not None:
            try:
                freeze_super(sb)
            finally:
                deactivate_super(sb)
        bdev.bd_fsfreeze_count = 1
        sync_blockdev(bdev)
        return sb


def thaw_bdev(bdev: BlockDevice, sb: SuperBlock | None) -> None:
    """Sleeps.  Undo one `freeze_bdev`; the last one thaws.

    Raises:
        OSError: EINVAL (it is not frozen), or as `thaw_super`.

    Takes ``bd_fsfreeze_mutex``.  Source: ``thaw_bdev``.
    """
    with bdev.bd_fsfreeze_mutex:
        if not bdev.bd_fsfreeze_count:
            raise EINVAL()
        if bdev.bd_fsfreeze_count == 1 and sb is not None:
            thaw_super(sb)
        bdev.bd_fsfreeze_count -= 1
