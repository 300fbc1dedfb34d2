"""Superblocks: how a filesystem is mounted and remounted; and the face of all that is about them.

The parts:

=================  =================================================================================
`fs.superblock`    the structure, the lists of them, active and passive references
`fs.writers`       who writes to one: the freeze levels
`fs.freeze`        freezing and thawing
`fs.shutdown`      syncing, and the end
`fs.super`         ``mount`` and its helpers, ``remount_fs`` (this file)
=================  =================================================================================

A filesystem's ``mount`` is one of `mount_nodev`, `mount_single` and `mount_bdev`, with a function
that fills a new superblock in; its ``kill_sb`` is one of `kill_anon_super`, `kill_litter_super` and
`kill_block_super`.

The counterpart of the last third of ``fs/super.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.block.device import (
    FMODE_EXCL,
    FMODE_READ,
    FMODE_WRITE,
    BlockDevice,
    blkdev_get,
    blkdev_put,
    sb_set_blocksize,
)
from vfsim.fs.d_ref import dget
from vfsim.fs.d_walk import shrink_dcache_sb
from vfsim.fs.dentry import Dentry
from vfsim.fs.inode import MS_ACTIVE
from vfsim.fs.operations import SuperOperations
from vfsim.fs.shutdown import (
    generic_shutdown_super,
    kill_anon_super,
    kill_block_super,
    kill_litter_super,
    sync_filesystem,
    sync_one_pass,
)
from vfsim.fs.superblock import (
    FS_RENAME_DOES_D_MOVE,
    FS_REQUIRES_DEV,
    MAX_LFS_FILESIZE,
    MAX_NON_LFS,
    MS_BIND,
    MS_BORN,
    MS_DIRSYNC,
    MS_I_VERSION,
    MS_KERNMOUNT,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_MOVE,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSEC,
    MS_NOSUID,
    MS_POSIXACL,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_RMT_MASK,
    MS_SILENT,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    SB_ACTIVE,
    SB_BORN,
    SB_NOATIME,
    SB_NODIRATIME,
    SB_NOSEC,
    SB_POSIXACL,
    SB_RDONLY,
    SB_SYNCHRONOUS,
    SINGLE_DEPTH_NESTING,
    KStatfs,
    SuperBlock,
    Supers,
    deactivate_locked_super,
    deactivate_super,
    drop_super,
    get_active_super,
    get_fs_type,
    get_super,
    iterate_supers,
    put_super,
    register_filesystem,
    sget,
    supers,
    user_get_super,
)
from vfsim.fs.writers import SB_UNFROZEN, sb_end_write, sb_start_write
from vfsim.mm.writeback import bdev_bdi
from vfsim.sim.errors import EBUSY, EINVAL, ENOTBLK
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.operations import FileSystemType

_PLAIN_REMOUNT = SuperOperations.remount_fs


def set_anon_super(sb: SuperBlock, data: Any) -> None:
    """Never sleeps.  For `sget`: a device number of its own for a filesystem without a disk."""
    world = supers()
    world.last_anon_dev += 1
    sb.s_dev = world.last_anon_dev


def mount_nodev(
    fs_type: FileSystemType, flags: int, data: Any, fill_super: Callable[[SuperBlock, Any], None]
) -> Dentry:
    """Sleeps.  ``mount`` of a filesystem without a disk: each mount is a new, empty one.

    Args:
        fill_super: called with the superblock and ``data``; sets s_op and s_root, or raises
            OSError.

    Returns the root with a reference, its superblock locked.  Source: ``mount_nodev``.
    """
    sb = sget(fs_type, None, set_anon_super, flags, None)
    _fill(sb, data, fill_super)
    return _root(sb)


def mount_single(
    fs_type: FileSystemType, flags: int, data: Any, fill_super: Callable[[SuperBlock, Any], None]
) -> Dentry:
    """Sleeps.  ``mount`` of a filesystem of which there is one: further mounts show the same tree.

    Source: ``mount_single``.
    """
    sb = sget(fs_type, lambda sb, data: True, set_anon_super, flags, None)
    if sb.s_root is None:
        _fill(sb, data, fill_super)
    else:
        do_remount_sb(sb, flags, data, False)
    return _root(sb)


def mount_bdev(
    fs_type: FileSystemType,
    flags: int,
    dev_name: str | BlockDevice,
    data: Any,
    fill_super: Callable[[SuperBlock, Any], None],
) -> Dentry:
    """Sleeps.  ``mount`` of a filesystem on a disk: mounting the same disk again shows the same
    tree.

    Args:
        dev_name: the disk's name, or the block device itself.

    Raises:
        OSError: ENOTBLK (no such disk), EBUSY (mounted read-only here and read-write there,
            claimed, or frozen), or what the filesystem says.

    Source: ``mount_bdev``.
    """
    mode = FMODE_READ | FMODE_EXCL | (0 if flags & MS_RDONLY else FMODE_WRITE)
    bdev = lookup_bdev(dev_name)
    bdev_bdi(bdev)
    blkdev_get(bdev, mode, type(fs_type))
    try:
        with bdev.bd_fsfreeze_mutex:  # once sget() has listed it, s_umount keeps freezes out
            if bdev.bd_fsfreeze_count:
                raise EBUSY()
            sb = sget(fs_type, _test_bdev_super, _set_bdev_super, flags, bdev)
    except OSError:
        blkdev_put(bdev, mode)
        raise
    if sb.s_root is not None:
        if (flags ^ sb.s_flags) & MS_RDONLY:
            deactivate_locked_super(sb)
            blkdev_put(bdev, mode)
            raise EBUSY()
        sb.s_umount.up_write()  # closing takes bd_mutex, which is outside s_umount
        blkdev_put(bdev, mode)
        sb.s_umount.down_write()
        return _root(sb)
    sb.s_mode = mode
    sb.s_id = bdev.bd_disk.name
    sb_set_blocksize(sb, bdev.bd_block_size)
    bdev.bd_super = sb
    _fill(sb, data, fill_super)
    return _root(sb)


def lookup_bdev(dev_name: str | BlockDevice) -> BlockDevice:
    """Never sleeps.  The block device of that name (with or without ``/dev/`` in front).

    Raises:
        OSError: ENOTBLK.
    """
    if isinstance(dev_name, BlockDevice):
        return dev_name
    name = dev_name.removeprefix("/dev/")
    disks: dict[int, BlockDevice] = K.machine.data.get("block_devices", {})
    for bdev in disks.values():
        if bdev.bd_disk.name == name:
            return bdev
    raise ENOTBLK(dev_name)


def _test_bdev_super(sb: SuperBlock, bdev: Any) -> bool:
    return sb.s_bdev is bdev


def _set_bdev_super(sb: SuperBlock, bdev: Any) -> None:
    sb.s_bdev = bdev
    sb.s_dev = bdev.bd_dev
    sb.s_bdi = bdev.bd_bdi


def _fill(sb: SuperBlock, data: Any, fill_super: Callable[[SuperBlock, Any], None]) -> None:
    """Sleeps.  Let the filesystem fill in a new superblock; if it fails, shut down what there is of
    it.
    """
    try:
        fill_super(sb, data)
    except OSError:
        deactivate_locked_super(sb)
        raise
    sb.s_flags |= MS_ACTIVE


def _root(sb: SuperBlock) -> Dentry:
    root = sb.s_root
    if root is None:
        fs = type(sb.s_type).__name__
        raise TypeError(f"fill_super() of {fs} set no s_root: sb.s_root = d_make_root(inode)")
    return dget(root)


def mount_fs(fs_type: FileSystemType, flags: int, dev_name: str, data: Any) -> Dentry:
    """Sleeps.  Call ``mount`` and let others at the superblock.  Returns its root, with an active
    reference on it.

    Raises:
        OSError: what the filesystem says.

    Source: ``mount_fs``.
    """
    root = fs_type.mount(flags, dev_name, data)
    sb = root.d_sb
    sb.s_flags |= MS_BORN
    sb.s_umount.up_write()
    return root


def do_remount_sb(sb: SuperBlock, flags: int, data: Any, force: bool) -> None:
    """Sleeps.  Change the flags and options of a mounted filesystem.

    Args:
        flags: MS_* flags to have.  data: options.
        force: although something is written, and whatever the filesystem says.

    Raises:
        OSError: EBUSY (frozen; read-only while something is written or removed but open), or what
            the filesystem says.

    The caller holds ``s_umount`` exclusive.  Who has something dirty syncs it in ``remount_fs``.

    Source: ``do_remount_sb``.
    """
    from vfsim.fs.mount import sb_prepare_remount_readonly

    if sb.s_writers.frozen != SB_UNFROZEN:
        raise EBUSY()
    shrink_dcache_sb(sb)
    if flags & MS_RDONLY and not sb.s_flags & MS_RDONLY:
        if force:
            sb.s_readonly_remount = True
        else:
            sb_prepare_remount_readonly(sb)
    try:
        op = sb.s_op
        if type(op).remount_fs is not _PLAIN_REMOUNT:
            flags = op.remount_fs(sb, flags, data)
    except OSError:
        if not force:
            sb.s_readonly_remount = False
            raise
    sb.s_flags = sb.s_flags & ~MS_RMT_MASK | flags & MS_RMT_MASK
    sb.s_readonly_remount = False


def sb_min_blocksize(sb: SuperBlock, size: int) -> int:
    """Sleeps.  Choose a block size no smaller than the disk's sector."""
    if size < 512:
        raise EINVAL(f"a block of {size} bytes")
    return sb_set_blocksize(sb, size)


__all__ = [
    "SB_NOSEC",
    "SB_POSIXACL",
    "MS_POSIXACL",
    "FS_RENAME_DOES_D_MOVE",
    "FS_REQUIRES_DEV",
    "KStatfs",
    "MAX_LFS_FILESIZE",
    "MAX_NON_LFS",
    "MS_ACTIVE",
    "MS_BIND",
    "MS_BORN",
    "MS_DIRSYNC",
    "MS_I_VERSION",
    "MS_KERNMOUNT",
    "MS_LAZYTIME",
    "MS_MANDLOCK",
    "MS_MOVE",
    "MS_NOATIME",
    "MS_NODEV",
    "MS_NODIRATIME",
    "MS_NOEXEC",
    "MS_NOSEC",
    "MS_NOSUID",
    "MS_RDONLY",
    "MS_REC",
    "MS_RELATIME",
    "MS_REMOUNT",
    "MS_RMT_MASK",
    "MS_SILENT",
    "MS_STRICTATIME",
    "MS_SYNCHRONOUS",
    "SB_ACTIVE",
    "SB_BORN",
    "SB_NOATIME",
    "SB_NODIRATIME",
    "SB_RDONLY",
    "SB_SYNCHRONOUS",
    "SINGLE_DEPTH_NESTING",
    "SuperBlock",
    "Supers",
    "deactivate_locked_super",
    "deactivate_super",
    "do_remount_sb",
    "drop_super",
    "generic_shutdown_super",
    "get_active_super",
    "get_fs_type",
    "get_super",
    "iterate_supers",
    "kill_anon_super",
    "kill_block_super",
    "kill_litter_super",
    "lookup_bdev",
    "mount_bdev",
    "mount_fs",
    "mount_nodev",
    "mount_single",
    "put_super",
    "register_filesystem",
    "sb_end_write",
    "sb_min_blocksize",
    "sb_start_write",
    "set_anon_super",
    "sget",
    "supers",
    "sync_filesystem",
    "sync_one_pass",
    "user_get_super",
]
