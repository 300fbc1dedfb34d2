"""The end of a superblock: write what is dirty, forget what is cached, let the filesystem clean up.

`generic_shutdown_super` is the common part of every ``kill_sb``::

    shrink_dcache_for_umount()      no dentries; those still in use are reported
    sync_filesystem()               nothing dirty
    evict_inodes()                  no inodes; those still in use are reported
    ->put_super()                   nothing of the filesystem's own
    off the list of its type; s_umount is released

``s_umount`` is held exclusive from before it begins.  The counterpart of the second half of
``fs/super.c`` and of ``fs/sync.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.block.buffer import sync_blockdev
from vfsim.block.device import blkdev_put
from vfsim.checks.bugs import warn
from vfsim.checks.calls import tell
from vfsim.checks.lifetime import report_leak
from vfsim.fs.d_walk import d_genocide, shrink_dcache_for_umount
from vfsim.fs.inode import MS_ACTIVE, evict_inodes
from vfsim.fs.operations import SuperOperations
from vfsim.fs.superblock import MS_RDONLY, supers
from vfsim.mm.writeback import sync_inodes_sb, writeback_inodes_sb

if TYPE_CHECKING:
    from vfsim.fs.superblock import SuperBlock

_PLAIN_SYNC_FS = SuperOperations.sync_fs
_PLAIN_PUT_SUPER = SuperOperations.put_super


def sync_filesystem(sb: SuperBlock) -> None:
    """Sleeps.  Write everything of a superblock: first start all, then wait for all.

    Raises:
        OSError: what the filesystem's ``sync_fs`` or the disk says; everything was tried
            nevertheless.

    The caller holds ``s_umount``, at least shared.  Source: ``sync_filesystem``.
    """
    if not sb.s_umount.is_locked():
        warn("E13", f"sync_filesystem() of {sb!r} without s_umount")
    if sb.s_flags & MS_RDONLY:
        return
    sync_one_pass(sb, False)
    sync_one_pass(sb, True)


def sync_one_pass(sb: SuperBlock, wait: bool) -> None:
    """Sleeps.  Start writing everything of a superblock, or write it and wait.

    Source: ``__sync_filesystem``.
    """
    if sb.s_bdi is not None:
        if wait:
            sync_inodes_sb(sb)
        else:
            writeback_inodes_sb(sb)
    op = sb.s_op
    if type(op).sync_fs is not _PLAIN_SYNC_FS:
        op.sync_fs(sb, wait)
    if wait and sb.s_bdev is not None:
        sync_blockdev(sb.s_bdev)


def generic_shutdown_super(sb: SuperBlock) -> None:
    """Sleeps.  The common part of every ``kill_sb``: no dentries, nothing dirty, no inodes left;
    then ``put_super``.

    The caller holds ``s_umount`` exclusive; it is released.  Inodes and dentries still in use are
    reported.

    Source: ``generic_shutdown_super``.
    """
    if sb.s_root is not None:
        shrink_dcache_for_umount(sb)
        try:
            sync_filesystem(sb)
        except OSError:
            pass  # nobody is left to tell; as in Linux
        sb.s_flags &= ~MS_ACTIVE
        evict_inodes(sb)
        op = sb.s_op
        if type(op).put_super is not _PLAIN_PUT_SUPER:
            tell("put_super", sb)
            op.put_super(sb)
        if sb.s_inodes:
            _report_busy_inodes(sb)
    world = supers()
    with world.sb_lock:
        world.fs_supers[type(sb.s_type)].pop(sb, None)
    sb.s_umount.up_write()


def _report_busy_inodes(sb: SuperBlock) -> None:
    """Never sleeps.  Linux: "Busy inodes after unmount", and self-destruct in 5 seconds.

    Inodes that only a leaked dentry keeps are not told again.
    """
    for inode in sb.s_inodes:
        if not inode.i_dentry:
            report_leak(inode, f"inode {inode.i_ino} of {sb.s_id}", "leak.inode")


def kill_anon_super(sb: SuperBlock) -> None:
    """Sleeps.  ``kill_sb`` of a filesystem without a disk."""
    generic_shutdown_super(sb)


def kill_litter_super(sb: SuperBlock) -> None:
    """Sleeps.  ``kill_sb`` of a filesystem that keeps its tree in the dcache, by an extra reference
    on each dentry.
    """
    if sb.s_root is not None:
        d_genocide(sb.s_root)
    kill_anon_super(sb)


def kill_block_super(sb: SuperBlock) -> None:
    """Sleeps.  ``kill_sb`` of a filesystem on a disk: shut down, then write the disk's buffers and
    close it.
    """
    bdev = sb.s_bdev
    assert bdev is not None
    bdev.bd_super = None
    generic_shutdown_super(sb)
    try:
        sync_blockdev(bdev)
    except OSError:
        pass
    blkdev_put(bdev, sb.s_mode)
