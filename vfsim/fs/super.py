"""Superblocks: one mounted filesystem, however many places it is mounted in.

The life of a superblock::

    sget()                     found, or new: s_umount held exclusive, s_active 1, not yet MS_BORN
    fill_super()               s_op, s_root ...; MS_ACTIVE: unused inodes may stay cached
    mount_fs()                 MS_BORN: others who find it may use it; s_umount released
    deactivate_super()         one mount less; the last one takes s_umount and calls
    kill_sb()                  -> generic_shutdown_super(): dentries, sync, inodes, put_super;
    s_umount released put_super()                the last temporary reference frees it

Two counts: ``s_active`` counts mounts, and at 0 the filesystem is shut down; ``s_count`` counts who
    may look at the
structure (all active ones together count once), and at 0 it is freed.

Which lock guards what::

    sb.s_umount              the filesystem staying mounted (shared), being mounted, remounted, shut
    down (exclusive) sb_lock                  super_blocks, the lists by type, s_count, s_active
    going up from a list sb.s_vfs_rename_mutex    the shape of the tree: one rename between
    directories at a time sb.s_inode_list_lock     s_inodes.   sb.s_inode_lru_lock  s_inode_lru.
    sb.s_dentry_lru_lock  s_dentry_lru

and the order: s_umount of a new superblock > sb_lock is not allowed to wait for s_umount of an old
    one, so `sget` lets
go of sb_lock first; s_umount > i_rwsem; bd_fsfreeze_mutex > s_umount; bd_mutex is never taken under
s_umount.

The counterpart of ``struct super_block`` and ``fs/super.c`` of v4.10.  Freezing is not built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.block.buffer import sync_blockdev
from vfsim.block.device import (
    FMODE_EXCL,
    FMODE_READ,
    FMODE_WRITE,
    BlockDevice,
    blkdev_get,
    blkdev_put,
    sb_set_blocksize,
)
from vfsim.checks.bugs import warn
from vfsim.checks.lifetime import free, hand_over, note_ref, report_leak
from vfsim.fs.d_walk import d_genocide, shrink_dcache_for_umount, shrink_dcache_sb
from vfsim.fs.dentry import DCACHE_LRU_LIST, Dentry, dget
from vfsim.fs.inode import MS_ACTIVE, evict_inodes
from vfsim.fs.operations import DentryOperations, FileSystemType, SuperOperations
from vfsim.fs.super_cache import super_shrinker
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.shrinker import register_shrinker, unregister_shrinker
from vfsim.mm.writeback import bdev_bdi, sync_inodes_sb, writeback_inodes_sb
from vfsim.sim.errors import EBUSY, EINVAL, ENODEV, ENOTBLK
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount
    from vfsim.mm.shrinker import Shrinker

# mount flags (mount(2)) and superblock flags
MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_MANDLOCK = 1 << 6
MS_DIRSYNC = 1 << 7
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_SILENT = 1 << 15
MS_RELATIME = 1 << 21
MS_KERNMOUNT = 1 << 22
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25
MS_NOSEC = 1 << 28
MS_BORN = 1 << 29
MS_RMT_MASK = MS_RDONLY | MS_SYNCHRONOUS | MS_MANDLOCK | MS_I_VERSION | MS_LAZYTIME

# the same under the names that later kernels gave them on superblocks
SB_RDONLY = MS_RDONLY
SB_SYNCHRONOUS = MS_SYNCHRONOUS
SB_NOATIME = MS_NOATIME
SB_NODIRATIME = MS_NODIRATIME
SB_ACTIVE = MS_ACTIVE
SB_BORN = MS_BORN

FS_REQUIRES_DEV = 1 << 0
FS_RENAME_DOES_D_MOVE = 1 << 15
"""Flags of a type of filesystem (``fs_flags``)."""

MAX_NON_LFS = (1 << 31) - 1
MAX_LFS_FILESIZE = (1 << 63) - 1
SINGLE_DEPTH_NESTING = 1

_NO_SUPER_OPS = SuperOperations()
_PLAIN_SYNC_FS = SuperOperations.sync_fs
_PLAIN_PUT_SUPER = SuperOperations.put_super
_PLAIN_REMOUNT = SuperOperations.remount_fs


@kernel_struct
class SuperBlock:
    """One mounted filesystem (Linux: ``struct super_block``).

    Attributes:
        s_type, s_id, s_dev: what it is; s_bdev: the disk it is on, if any; s_bdi: its writeback
            state.
        s_op, s_d_op: the filesystem's operations on it, and those given to all its dentries.
        s_root: the root dentry.  s_flags: MS_* bits.  s_mounts: where it is mounted.
        s_blocksize: bytes.  s_maxbytes: the longest file.  s_time_gran: nanoseconds that a
            timestamp can tell apart.
        s_active, s_count: see the top of this file.
        s_inodes: all inodes.  s_inode_lru, s_dentry_lru: the unused ones, oldest first.
        s_shrink: what memory pressure calls.  s_fs_info: whatever the filesystem wants.
        s_remove_count: inodes without links that are still in use.
    """

    s_type: FileSystemType
    s_id: str
    s_dev: int
    s_bdev: BlockDevice | None
    s_bdi: Any
    s_mode: int
    s_op: SuperOperations
    s_d_op: DentryOperations | None
    s_xattr: Any
    s_root: Annotated[Dentry | None, guarded_by("s_umount", lockless=True, publishes=True)]
    s_flags: Annotated[int, guarded_by("s_umount", lockless=True)]
    s_blocksize: int
    s_blocksize_bits: int
    s_maxbytes: int
    s_magic: int
    s_time_gran: int
    s_max_links: int
    s_fs_info: Any
    s_mounts: list[Mount]
    s_remove_count: int
    s_readonly_remount: bool
    s_umount: RwSem
    s_vfs_rename_mutex: Mutex
    s_sync_lock: Mutex
    s_active: int
    s_count: Annotated[int, guarded_by("@sb_lock")]
    s_inodes: dict[Inode, None]
    s_inode_list_lock: SpinLock
    s_inode_lru: dict[Inode, None]
    s_inode_lru_lock: SpinLock
    s_dentry_lru: dict[Dentry, None]
    s_dentry_lru_lock: SpinLock
    s_shrink: Shrinker
    s_inodes_wb: Any
    s_i_lock_class: str
    s_i_rwsem_class: str
    s_i_rwsem_dir_class: str

    def __init__(self, fs_type: FileSystemType, flags: int = 0) -> None:
        name = fs_type.name
        self.s_type = fs_type
        self.s_id = name
        self.s_dev = 0
        self.s_bdev = None
        self.s_bdi = None
        self.s_mode = 0
        self.s_op = _NO_SUPER_OPS
        self.s_d_op = None
        self.s_xattr = None
        self.s_root = None
        self.s_flags = flags
        self.s_blocksize = 4096
        self.s_blocksize_bits = 12
        self.s_maxbytes = MAX_NON_LFS
        self.s_magic = 0
        self.s_time_gran = 1
        self.s_max_links = 0
        self.s_fs_info = None
        self.s_mounts = []
        self.s_remove_count = 0
        self.s_readonly_remount = False
        self.s_umount = RwSem(f"s_umount:{name}")
        self.s_vfs_rename_mutex = Mutex(f"s_vfs_rename_mutex:{name}")
        self.s_sync_lock = Mutex("s_sync_lock")
        self.s_active = 1
        self.s_count = 1
        self.s_inodes = {}
        self.s_inode_list_lock = SpinLock("s_inode_list_lock")
        self.s_inode_lru = {}
        self.s_inode_lru_lock = SpinLock("inode_lru_lock")
        self.s_dentry_lru = {}
        self.s_dentry_lru_lock = SpinLock("dentry_lru_lock")
        self.s_shrink = super_shrinker(self)
        self.s_inodes_wb = None
        self.s_i_lock_class = f"i_lock:{name}"
        self.s_i_rwsem_class = f"i_rwsem:{name}"
        self.s_i_rwsem_dir_class = f"i_rwsem_dir:{name}"

    def _check(self) -> None:
        """The invariants of one superblock, and of its inodes and dentries."""
        assert self.s_active >= 0 and self.s_count >= 0, f"{self!r}: negative counts"
        assert self.s_count or not self.s_active, f"{self!r}: active but freed"
        assert self.s_remove_count >= 0, f"{self!r}: {self.s_remove_count} removed inodes"
        for inode in self.s_inodes:
            assert inode.i_sb is self, f"{inode!r} is on the list of {self!r}"
            inode._check()
        for inode in self.s_inode_lru:
            assert inode in self.s_inodes, f"{inode!r} is on the LRU but not on {self!r}"
        for dentry in self.s_dentry_lru:
            assert dentry.d_flags & DCACHE_LRU_LIST, f"{dentry!r} is on the LRU unawares"
        if self.s_root is not None:
            _check_tree(self.s_root)

    def __repr__(self) -> str:
        return f"<SuperBlock {self.s_id} active={self.s_active}>"


def _check_tree(dentry: Dentry) -> None:
    dentry._check()
    for child in dentry.d_subdirs or ():
        _check_tree(child)


@attrs.define(slots=True)
class KStatfs:
    """What statfs(2) tells (Linux: ``struct kstatfs``): sizes in blocks of ``f_bsize`` bytes."""

    f_type: int = 0
    f_bsize: int = 4096
    f_blocks: int = 0
    f_bfree: int = 0
    f_bavail: int = 0
    f_files: int = 0
    f_ffree: int = 0
    f_fsid: int = 0
    f_namelen: int = 255
    f_frsize: int = 4096
    f_flags: int = 0


@attrs.define(eq=False)
class Supers:
    """What all superblocks of a world share.

    Attributes:
        sb_lock: guards the lists.
        super_blocks: all of them.  fs_supers: by type of filesystem.
        last_anon_dev: the last device number given to a filesystem without a disk.
        file_systems: the types that mount(2) knows, by name.
    """

    sb_lock: SpinLock = attrs.field(factory=lambda: SpinLock("sb_lock"))
    super_blocks: dict[SuperBlock, None] = attrs.field(factory=dict)
    fs_supers: dict[type, dict[SuperBlock, None]] = attrs.field(factory=dict)
    last_anon_dev: int = 0
    file_systems: dict[str, FileSystemType] = attrs.field(factory=dict)


def supers() -> Supers:
    """Never sleeps.  The superblocks of the running world."""
    data = K.machine.data
    found = data.get("supers")
    if found is None:
        found = data["supers"] = Supers()
        data["sb_lock"] = found.sb_lock
    return found


def register_filesystem(fs_type: FileSystemType) -> None:
    """Never sleeps.  Let mount(2) know a type by its name.

    Raises:
        OSError: EBUSY, if there is one of that name.
    """
    known = supers().file_systems
    if known.setdefault(fs_type.name, fs_type) is not fs_type:
        raise EBUSY(fs_type.name)


def get_fs_type(name: str) -> FileSystemType:
    """Never sleeps.  The registered type of that name.

    Raises:
        OSError: ENODEV.
    """
    found = supers().file_systems.get(name)
    if found is None:
        raise ENODEV(name)
    return found


# -- finding and making ----------------------------------------------------------------------------


def sget(
    fs_type: FileSystemType,
    test: Callable[[SuperBlock, Any], bool] | None,
    set: Callable[[SuperBlock, Any], None],
    flags: int,
    data: Any,
) -> SuperBlock:
    """Sleeps.  The superblock of ``fs_type`` that ``test(sb, data)`` accepts, or a new one made by
    ``set(sb, data)``.

    Returns with ``s_umount`` held exclusive and an active reference.  A new one has no ``s_root``
    yet.

    Raises:
        OSError: ENOMEM, or what ``set`` raises.

    Source: ``sget``.
    """
    world = supers()
    new: SuperBlock | None = None
    while True:
        world.sb_lock.lock()
        old = _find_super(world, fs_type, test, data)
        if old is not None:
            if _grab_super(world, old):
                if new is not None:
                    new.s_umount.up_write()
                    _destroy_super(new)
                return old
        elif new is None:
            world.sb_lock.unlock()
            kmalloc()
            new = SuperBlock(fs_type, flags)
            note_ref(new, 1, "sget")
            hand_over(new, "sget")
            new.s_umount.down_write(SINGLE_DEPTH_NESTING)
        else:
            break
    try:
        set(new, data)
    except OSError:
        world.sb_lock.unlock()
        new.s_umount.up_write()
        _destroy_super(new)
        raise
    world.super_blocks[new] = None
    world.fs_supers.setdefault(type(fs_type), {})[new] = None
    world.sb_lock.unlock()
    register_shrinker(new.s_shrink)
    return new


def _find_super(
    world: Supers,
    fs_type: FileSystemType,
    test: Callable[[SuperBlock, Any], bool] | None,
    data: Any,
) -> SuperBlock | None:
    """Never sleeps.  The caller holds sb_lock."""
    if test is None:
        return None
    return next((sb for sb in world.fs_supers.get(type(fs_type), ()) if test(sb, data)), None)


def _grab_super(world: Supers, sb: SuperBlock) -> bool:
    """Sleeps.  Turn a superblock found under sb_lock into an active reference with s_umount held;
    releases sb_lock.

    False if it was shut down while we waited for s_umount.
    """
    sb.s_count += 1
    world.sb_lock.unlock()
    sb.s_umount.down_write()
    alive = bool(sb.s_flags & MS_BORN) and sb.s_active > 0
    if alive:
        sb.s_active += 1
        note_ref(sb, 1, "grab_super")
    else:
        sb.s_umount.up_write()
    put_super(sb)
    return alive


def iterate_supers(fn: Callable[[SuperBlock], Any]) -> None:
    """Sleeps.  Call ``fn(sb)`` for every mounted superblock with ``s_umount`` held shared.

    Source: ``iterate_supers``.
    """
    world = supers()
    last: SuperBlock | None = None
    with world.sb_lock:
        found = list(world.super_blocks)
        for sb in found:
            sb.s_count += 1
    for sb in found:
        with sb.s_umount.shared():
            if sb.s_root is not None and sb.s_flags & MS_BORN and sb.s_active:
                fn(sb)
        if last is not None:
            put_super(last)
        last = sb
    if last is not None:
        put_super(last)


def user_get_super(dev: int) -> SuperBlock | None:
    """Sleeps.  The superblock of a device number, with ``s_umount`` held shared: for ustat(2).
    `drop_super` ends it.

    Source: ``user_get_super``.
    """
    world = supers()
    with world.sb_lock:
        sb = next((sb for sb in world.super_blocks if sb.s_dev == dev), None)
        if sb is None:
            return None
        sb.s_count += 1
    sb.s_umount.down_read()
    if sb.s_root is not None and sb.s_flags & MS_BORN:
        return sb
    drop_super(sb)
    return None


def drop_super(sb: SuperBlock) -> None:
    """Never sleeps.  Undo `user_get_super`."""
    sb.s_umount.up_read()
    put_super(sb)


# -- letting go ------------------------------------------------------------------------------------


def put_super(sb: SuperBlock) -> None:
    """Never sleeps.  Put a temporary reference; the last one frees the structure.  Takes
    sb_lock.
    """
    world = supers()
    with world.sb_lock:
        sb.s_count -= 1
        if sb.s_count:
            return
        world.super_blocks.pop(sb, None)
    _destroy_super(sb)


def _destroy_super(sb: SuperBlock) -> None:
    """Never sleeps.  Free a superblock that nobody can find, after a grace period."""
    call_rcu(free, sb, f"superblock of {sb.s_id}")


def deactivate_super(sb: SuperBlock) -> None:
    """Sleeps.  Put an active reference (a mount); the last one shuts the filesystem down.

    Takes ``s_umount`` for the last.  Source: ``deactivate_super``.
    """
    if sb.s_active > 1:
        sb.s_active -= 1
        note_ref(sb, -1, "deactivate_super")
        return
    sb.s_umount.down_write()
    deactivate_locked_super(sb)


def deactivate_locked_super(sb: SuperBlock) -> None:
    """Sleeps.  As `deactivate_super`, with ``s_umount`` held exclusive, which is released.

    Source: ``deactivate_locked_super``.
    """
    sb.s_active -= 1
    note_ref(sb, -1, "deactivate_super", sb.s_active)
    if sb.s_active:
        sb.s_umount.up_write()
        return
    unregister_shrinker(sb.s_shrink)
    sb.s_type.kill_sb(sb)
    put_super(sb)


# -- shutting down ---------------------------------------------------------------------------------


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
    """Sleeps.  Start writing everything of a superblock, or write it and wait.  Source:
    ``__sync_filesystem``.
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


# -- freezing: not built ---------------------------------------------------------------------------


def sb_start_write(sb: SuperBlock) -> None:
    """Sleeps.  A write begins.  It would wait here while the superblock is frozen, which it never
    is.
    """


def sb_end_write(sb: SuperBlock) -> None:
    """Never sleeps.  A write has ended."""


# -- mounting --------------------------------------------------------------------------------------


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
        OSError: ENOTBLK (no such disk), EBUSY (mounted read-only here and read-write there, or
            claimed), or what the filesystem says.

    Source: ``mount_bdev``.
    """
    mode = FMODE_READ | FMODE_EXCL | (0 if flags & MS_RDONLY else FMODE_WRITE)
    bdev = lookup_bdev(dev_name)
    bdev_bdi(bdev)
    blkdev_get(bdev, mode, type(fs_type))
    try:
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

    Raises:
        OSError: EBUSY (read-only while something is written or removed but open), or what the
            filesystem says.

    The caller holds ``s_umount`` exclusive.  Source: ``do_remount_sb``.
    """
    from vfsim.fs.mount import sb_prepare_remount_readonly

    becomes_readonly = bool(flags & MS_RDONLY) and not sb.s_flags & MS_RDONLY
    shrink_dcache_sb(sb)
    if becomes_readonly:
        if not force:
            sb_prepare_remount_readonly(sb)
        sb.s_readonly_remount = True
    try:
        op = sb.s_op
        if type(op).remount_fs is not _PLAIN_REMOUNT:
            op.remount_fs(sb, flags, data)
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
