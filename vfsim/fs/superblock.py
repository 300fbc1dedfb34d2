"""Superblocks: one mounted filesystem, however many places it is mounted in.

The life of a superblock::

    sget()               found, or new: s_umount held exclusive, s_active 1, not yet MS_BORN
    fill_super()         s_op, s_root ...; MS_ACTIVE: unused inodes may stay cached
    mount_fs()           MS_BORN: others who find it may use it; s_umount released
    deactivate_super()   one mount less; the last one takes s_umount and calls
    kill_sb()            -> generic_shutdown_super(): dentries, sync, inodes, ->put_super;
                         s_umount released
    put_super()          the last temporary reference frees the structure

Two counts.  ``s_active`` counts those who use the filesystem: mounts, and a freeze; at 0 it is shut
down, and nothing brings it back.  ``s_count`` counts who may look at the structure (all active ones
together count once); at 0 it is freed.

Which lock guards what::

    sb.s_umount              shared: the filesystem stays mounted (sync, ustat, writeback)
                             exclusive: it is being mounted, remounted, frozen, thawed, shut down
    sb_lock                  super_blocks, the lists by type, s_count, s_active found in a list
    sb.s_vfs_rename_mutex    the shape of the tree: one rename between directories at a time
    sb.s_inode_list_lock     s_inodes
    sb.s_inode_lru_lock      s_inode_lru
    sb.s_dentry_lru_lock     s_dentry_lru
    sb.s_writers             who writes, see `vfsim.fs.writers`

Order: who holds sb_lock must not wait for s_umount, so `sget` lets go of it first.  s_umount of a
new superblock (subclass 1) is held while that of an old one is taken.  bd_mutex,
bd_fsfreeze_mutex > s_umount > i_rwsem.

The counterpart of ``struct super_block`` and the first two thirds of ``fs/super.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.checks.lifetime import free, note_ref
from vfsim.fs.dentry import DCACHE_LRU_LIST, Dentry
from vfsim.fs.inode import MS_ACTIVE
from vfsim.fs.operations import DentryOperations, FileSystemType, SuperOperations
from vfsim.fs.super_cache import super_shrinker
from vfsim.fs.writers import SbWriters
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.shrinker import register_shrinker, unregister_shrinker
from vfsim.sim.errors import EBUSY, ENODEV
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.block.device import BlockDevice
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
MS_MOVE = 1 << 13
MS_REC = 1 << 14
MS_SILENT = 1 << 15
MS_POSIXACL = 1 << 16
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
SB_POSIXACL = MS_POSIXACL
SB_NOSEC = MS_NOSEC
SB_ACTIVE = MS_ACTIVE
SB_BORN = MS_BORN

FS_REQUIRES_DEV = 1 << 0
FS_RENAME_DOES_D_MOVE = 1 << 15
"""Flags of a type of filesystem (``fs_flags``)."""

MAX_NON_LFS = (1 << 31) - 1
MAX_LFS_FILESIZE = (1 << 63) - 1
SINGLE_DEPTH_NESTING = 1

_NO_SUPER_OPS = SuperOperations()


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
        s_active, s_count: see the top of this file.  s_writers: the freeze levels.
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
    s_writers: SbWriters
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
        self.s_writers = SbWriters(name)
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
        self.s_writers._check()
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


def is_listed(sb: SuperBlock) -> bool:
    """Never sleeps.  Whether a superblock is on the list of its type: it is not being shut down.

    The caller holds sb_lock, or s_umount.
    """
    return sb in supers().fs_supers.get(type(sb.s_type), ())


def iterate_supers(fn: Callable[[SuperBlock], Any]) -> None:
    """Sleeps.  Call ``fn(sb)`` for every mounted superblock with ``s_umount`` held shared.

    Source: ``iterate_supers``.
    """
    world = supers()
    last: SuperBlock | None = None
    while True:
        with world.sb_lock:
            sb = _next_super(world, last)
            if sb is not None:
                sb.s_count += 1
        if last is not None:
            put_super(last)
        if sb is None:
            return
        with sb.s_umount.shared():
            if sb.s_root is not None and sb.s_flags & MS_BORN:
                fn(sb)
        last = sb


def _next_super(world: Supers, last: SuperBlock | None) -> SuperBlock | None:
    """Never sleeps.  What follows ``last`` on the list; the caller holds sb_lock and has ``last``
    counted.
    """
    found = list(world.super_blocks)
    rest = found if last is None else found[found.index(last) + 1 :]
    return next((sb for sb in rest if is_listed(sb)), None)


def get_super(bdev: BlockDevice) -> SuperBlock | None:
    """Sleeps.  The superblock that is mounted from a disk, with ``s_umount`` held shared, or None.

    `drop_super` ends it.  Source: ``get_super``.
    """
    return _get_super(lambda sb: sb.s_bdev is bdev)


def user_get_super(dev: int) -> SuperBlock | None:
    """Sleeps.  The superblock of a device number, with ``s_umount`` held shared: for ustat(2).

    `drop_super` ends it.  Source: ``user_get_super``.
    """
    return _get_super(lambda sb: sb.s_dev == dev)


def _get_super(wanted: Callable[[SuperBlock], bool]) -> SuperBlock | None:
    """Sleeps.  Find a superblock and wait until it is mounted; looks again if that fails."""
    world = supers()
    while True:
        with world.sb_lock:
            sb = next((sb for sb in world.super_blocks if wanted(sb) and is_listed(sb)), None)
            if sb is None:
                return None
            sb.s_count += 1
        sb.s_umount.down_read()
        if sb.s_root is not None and sb.s_flags & MS_BORN:
            return sb
        drop_super(sb)


def drop_super(sb: SuperBlock) -> None:
    """Never sleeps.  Undo `get_super`, `user_get_super`."""
    sb.s_umount.up_read()
    put_super(sb)


def get_active_super(bdev: BlockDevice) -> SuperBlock | None:
    """Sleeps.  The superblock that is mounted from a disk, with an active reference, or None.

    `deactivate_super` ends it.  Source: ``get_active_super``.
    """
    world = supers()
    while True:
        world.sb_lock.lock()
        sb = next((sb for sb in world.super_blocks if sb.s_bdev is bdev and is_listed(sb)), None)
        if sb is None:
            world.sb_lock.unlock()
            return None
        if _grab_super(world, sb):
            sb.s_umount.up_write()
            return sb


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
