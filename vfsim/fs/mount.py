"""The mount tree: which filesystem is seen at which place.

A `Mount` shows one superblock from one of its dentries on; the tree of mounts hangs together by
mountpoints::

    mnt = vfs_kern_mount(fs_type, flags, dev_name, data)    one reference, in no tree
    attach: mnt.mnt_parent, mnt.mnt_mountpoint              the tree's reference; DCACHE_MOUNTED on
        the mountpoint
    mntget() / mntput()                                     path walks, open files, working
    directories do_umount()                                             out of the tree, the tree's
    reference is put last mntput()                                           cleanup_mnt:
                                                            deactivate_super(), put off until the
                                                            task returns to user mode, because no
                                                            lock may be held then

A `Path` is a mount and a dentry in it: a place.  Whoever keeps one has a reference on both
(`path_get`, `path_put`).

Which lock guards what::

    namespace_sem     the shape of the tree, and who is in it
    mount_lock        the hash of mounts, mnt_mounts, mnt_parent, mnt_mountpoint, the mountpoints; a
    seqlock (nothing)         mnt_count: atomic, and while a mount is in the tree never the last one

and the order: i_rwsem of the mountpoint > namespace_sem > mount_lock > d_lock.  Path walks take the
    sequence of
``mount_lock`` only, inside an RCU read section, and undo the reference they took if it moved
(`lookup_mnt`).

The counterpart of ``fs/namespace.c`` of v4.10.  Left out: several namespaces, propagation, bind
mounts, expiry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.checks.bugs import bug
from vfsim.checks.lifetime import free, note_ref
from vfsim.fs.dcache import (
    DCACHE_CANT_MOUNT,
    DCACHE_MOUNTED,
    DCACHE_OP_DNAME,
    Dentry,
    d_is_dir,
    d_is_symlink,
    d_unlinked,
    dcache,
    dget,
    dput,
)
from vfsim.fs.super import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    MS_STRICTATIME,
    SuperBlock,
    deactivate_super,
    do_remount_sb,
    get_fs_type,
    mount_fs,
)
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.locks.rcu import call_rcu, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.slab import kmalloc
from vfsim.sim.errors import EBUSY, EINVAL, ENOENT, ENOTDIR, EROFS
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.operations import FileSystemType

MNT_NOSUID = 0x01
MNT_NODEV = 0x02
MNT_NOEXEC = 0x04
MNT_NOATIME = 0x08
MNT_NODIRATIME = 0x10
MNT_RELATIME = 0x20
MNT_READONLY = 0x40
MNT_INTERNAL = 0x4000
MNT_DOOMED = 0x1000000
MNT_SYNC_UMOUNT = 0x2000000
MNT_UMOUNT = 0x8000000
MNT_STRICTATIME = 0x10000000
"""Each read moves the access time (Linux says so by leaving MNT_RELATIME out)."""

# flags of umount(2)
MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

_FLAGS = {
    MS_NOSUID: MNT_NOSUID,
    MS_NODEV: MNT_NODEV,
    MS_NOEXEC: MNT_NOEXEC,
    MS_NOATIME: MNT_NOATIME,
    MS_NODIRATIME: MNT_NODIRATIME,
    MS_STRICTATIME: MNT_STRICTATIME,
    MS_RDONLY: MNT_READONLY,
}
_PER_MOUNT = (
    MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME | MS_REMOUNT
)


@kernel_struct
class Mount:
    """A superblock seen from one of its dentries on (Linux: ``struct mount`` and ``struct
    vfsmount``).

    Attributes:
        mnt_sb, mnt_root: what it shows; it has an active reference on the superblock.
        mnt_parent, mnt_mountpoint: where; a mount in no tree is its own parent.
        mnt_mounts: what is mounted inside it.
        mnt_flags: MNT_* bits.  mnt_ns: the namespace it is in, or None.
        mnt_count: references.  mnt_writers: how many write through it just now.
    """

    mnt_sb: SuperBlock
    mnt_root: Dentry
    mnt_devname: str
    mnt_flags: int
    mnt_parent: Annotated[Mount, guarded_by("@mount_lock", read=("@namespace_sem",))]
    mnt_mountpoint: Annotated[Dentry, guarded_by("@mount_lock", read=("@namespace_sem",))]
    mnt_mounts: dict[Mount, None]
    mnt_ns: Annotated[MountNamespace | None, guarded_by("@namespace_sem", lockless=True)]
    mnt_count: int
    mnt_writers: int

    def __init__(self, root: Dentry, devname: str, flags: int) -> None:
        self.mnt_sb = root.d_sb
        self.mnt_root = root
        self.mnt_devname = devname
        self.mnt_flags = flags
        self.mnt_parent = self
        self.mnt_mountpoint = root
        self.mnt_mounts = {}
        self.mnt_ns = None
        self.mnt_count = 1
        self.mnt_writers = 0

    def _check(self) -> None:
        """The invariants of one mount, true whenever nobody holds mount_lock."""
        assert self.mnt_count >= 0 and self.mnt_writers >= 0, f"{self!r}: negative counts"
        assert all(child.mnt_parent is self for child in self.mnt_mounts), f"{self!r}: lost a child"
        assert self.mnt_count >= len(self.mnt_mounts) + (self.mnt_ns is not None), (
            f"{self!r}: references are missing"
        )
        if self.mnt_parent is not self:
            assert self in self.mnt_parent.mnt_mounts, f"{self!r}: unknown to its parent"
            assert self.mnt_mountpoint.d_flags & DCACHE_MOUNTED, (
                f"{self!r}: its mountpoint is not marked"
            )
        self.mnt_sb._check()

    def __repr__(self) -> str:
        return f"<Mount of {self.mnt_sb.s_id} count={self.mnt_count}>"


@attrs.define
class Path:
    """A place: a dentry, seen through a mount (Linux: ``struct path``)."""

    mnt: Mount
    dentry: Dentry


@attrs.define(eq=False)
class MountNamespace:
    """The tree of mounts that processes see.  Attributes: root: its root.  mounts: all of it,
    oldest first.
    """

    root: Mount
    mounts: dict[Mount, None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Mounts:
    """What all mounts of a world share.

    Attributes:
        namespace_sem, mount_lock: see the top of this file.
        mount_hashtable: (parent, mountpoint) to what is mounted there, newest first.
        mountpoints: how many mounts each mountpoint has.
        ns: the one namespace, once something is mounted.
        unmounted: what `namespace_unlock` has still to give back.
    """

    namespace_sem: RwSem = attrs.field(factory=lambda: RwSem("namespace_sem"))
    mount_lock: SeqLock = attrs.field(factory=lambda: SeqLock("mount_lock"))
    mount_hashtable: dict[tuple[Mount, Dentry], list[Mount]] = attrs.field(factory=dict)
    mountpoints: dict[Dentry, int] = attrs.field(factory=dict)
    ns: MountNamespace | None = None
    unmounted: list[tuple[Mount, Dentry | None]] = attrs.field(factory=list)

    def _check(self) -> None:
        if self.ns is not None:
            for mnt in self.ns.mounts:
                assert mnt.mnt_ns is self.ns, f"{mnt!r} is listed in a namespace that it is not in"
                mnt._check()


def mounts() -> Mounts:
    """Never sleeps.  The mount tree of the running world."""
    data = K.machine.data
    found = data.get("mounts")
    if found is None:
        found = data["mounts"] = Mounts()
        data["namespace_sem"] = found.namespace_sem
        data["mount_lock"] = found.mount_lock
    return found


# -- references ------------------------------------------------------------------------------------


def mntget(mnt: Mount) -> Mount:
    """Never sleeps.  Take one more reference; the caller has one."""
    mnt.mnt_count += 1
    note_ref(mnt, 1, "mntget", mnt.mnt_count)
    return mnt


def mntput(mnt: Mount | None) -> None:
    """Sleeps.  Put a reference.  The last one lets the superblock go when the task returns to user
    mode.

    Takes ``mount_lock`` for a mount that is in no tree.  Source: ``mntput_no_expire``.
    """
    if mnt is None:
        return
    note_ref(mnt, -1, "mntput", mnt.mnt_count - 1)
    if mnt.mnt_ns is not None and mnt.mnt_count > 1:  # the tree has a reference: not the last
        mnt.mnt_count -= 1
        return
    world = mounts()
    rcu_read_lock()
    world.mount_lock.write_lock()
    mnt.mnt_count -= 1
    gone = not mnt.mnt_count and not mnt.mnt_flags & MNT_DOOMED
    if gone:
        mnt.mnt_flags |= MNT_DOOMED
        mnt.mnt_sb.s_mounts.remove(mnt)
    world.mount_lock.write_unlock()
    rcu_read_unlock()
    if not gone:
        return
    process = K.cur.process
    if process is None or mnt.mnt_flags & MNT_INTERNAL:
        cleanup_mnt(mnt)
    else:
        process.task_work.append((cleanup_mnt, mnt))


def cleanup_mnt(mnt: Mount) -> None:
    """Sleeps.  The last reference is gone: let the superblock go, and free the mount after a grace
    period.
    """
    might_sleep()
    if mnt.mnt_writers:
        bug("kernel.bug", f"last reference put, {mnt.mnt_writers} still write: {mnt!r}")
    sb = mnt.mnt_sb
    dput(mnt.mnt_root)
    deactivate_super(sb)
    call_rcu(free, mnt, "mount")


def path_get(path: Path) -> None:
    """Never sleeps.  Take references on mount and dentry."""
    mntget(path.mnt)
    dget(path.dentry)


def path_put(path: Path) -> None:
    """Sleeps.  Put the references on dentry and mount."""
    dput(path.dentry)
    mntput(path.mnt)


# -- who writes ------------------------------------------------------------------------------------


def mnt_is_readonly(mnt: Mount) -> bool:
    """Never sleeps.  Whether nothing can be changed through this mount."""
    sb = mnt.mnt_sb
    return bool(mnt.mnt_flags & MNT_READONLY or sb.s_flags & MS_RDONLY or sb.s_readonly_remount)


def mnt_get_write_access(mnt: Mount) -> None:
    """Never sleeps.  The mount stays writable until `mnt_put_write_access`; a freeze is not kept
    out: a file that is open for writing has this.

    Raises:
        OSError: EROFS.

    Source: ``__mnt_want_write``.
    """
    mnt.mnt_writers += 1
    if mnt_is_readonly(mnt):
        mnt.mnt_writers -= 1
        raise EROFS()


def mnt_put_write_access(mnt: Mount) -> None:
    """Never sleeps.  Undo `mnt_get_write_access`."""
    mnt.mnt_writers -= 1


def mnt_want_write(mnt: Mount) -> None:
    """Sleeps.  About to change something: until `mnt_drop_write` the mount stays writable, and the
    superblock is not frozen.

    Raises:
        OSError: EROFS.

    Source: ``mnt_want_write``.
    """
    sb_start_write(mnt.mnt_sb)
    try:
        mnt_get_write_access(mnt)
    except OSError:
        sb_end_write(mnt.mnt_sb)
        raise


def mnt_drop_write(mnt: Mount) -> None:
    """Never sleeps.  Undo `mnt_want_write`."""
    mnt.mnt_writers -= 1
    sb_end_write(mnt.mnt_sb)


def sb_prepare_remount_readonly(sb: SuperBlock) -> None:
    """Never sleeps.  Stop new writers on all mounts of a superblock.

    Raises:
        OSError: EBUSY, if somebody writes, or a removed file is still in use.
    """
    world = mounts()
    with world.mount_lock:
        if sb.s_remove_count or any(
            m.mnt_writers for m in sb.s_mounts if not m.mnt_flags & MNT_READONLY
        ):
            raise EBUSY()
        sb.s_readonly_remount = True


# -- finding ---------------------------------------------------------------------------------------


def lookup_mnt(mnt: Mount, dentry: Dentry) -> Mount | None:
    """Never sleeps.  What is mounted on ``dentry`` of ``mnt``, with a new reference, or None.
    Source: ``lookup_mnt``.
    """
    world = mounts()
    lock = world.mount_lock
    while True:
        rcu_read_lock()
        seq = lock.read_begin()
        stack = world.mount_hashtable.get((mnt, dentry))
        child = stack[0] if stack else None
        if child is None:
            moved = lock.read_retry(seq)
            rcu_read_unlock()
            if moved:
                continue
            return None
        K.left -= 1
        if not K.left:
            K.machine.point("mnt_get", child)  # it may be unmounted between finding and counting
        child.mnt_count += 1
        moved = lock.read_retry(seq)
        if not moved:
            rcu_read_unlock()
            note_ref(child, 1, "lookup_mnt")
            return child
        _put_stray(world, child)


def _put_stray(world: Mounts, mnt: Mount) -> None:
    """Sleeps.  Give back a reference taken on what was being unmounted just then.  Ends the RCU
    read section.
    """
    if mnt.mnt_flags & MNT_SYNC_UMOUNT and mnt.mnt_count > 1:
        mnt.mnt_count -= (
            1  # umount waits for the end of our section before it puts its own reference
        )
        rcu_read_unlock()
        return
    rcu_read_unlock()
    note_ref(mnt, 1, "lookup_mnt")
    mntput(mnt)


def is_local_mountpoint(dentry: Dentry) -> bool:
    """Sleeps.  Whether something is mounted on ``dentry``.  Takes ``namespace_sem`` shared, if it
    may be so.
    """
    if not dentry.d_flags & DCACHE_MOUNTED:
        return False
    world = mounts()
    with world.namespace_sem.shared():
        return world.ns is not None and any(
            m.mnt_mountpoint is dentry for m in world.ns.mounts if _has_parent(m)
        )


def _has_parent(mnt: Mount) -> bool:
    return mnt.mnt_parent is not mnt


def _subtree(mnt: Mount) -> Iterator[Mount]:
    """A mount and all below it, parents first.  The caller holds mount_lock or namespace_sem."""
    yield mnt
    for child in list(mnt.mnt_mounts):
        yield from _subtree(child)


# -- mountpoints -----------------------------------------------------------------------------------


def _get_mountpoint(world: Mounts, dentry: Dentry) -> None:
    """Never sleeps.  Mark a dentry as mountpoint, or count one more mount on it.

    Raises:
        OSError: ENOENT if its name, or a directory above it, is gone.
    """
    with world.mount_lock:
        if dentry in world.mountpoints:
            world.mountpoints[dentry] += 1
            return
    rename_lock = dcache().rename_lock
    with rename_lock:
        at = dentry.d_parent
        while at.d_parent is not at:
            with at.d_lock:
                if not at.d_hashed:
                    raise ENOENT()
            at = at.d_parent
        with dentry.d_lock:
            if d_unlinked(dentry):
                raise ENOENT()
            dentry.d_flags |= DCACHE_MOUNTED
    with world.mount_lock:
        world.mountpoints[dentry] = world.mountpoints.get(dentry, 0) + 1


def _put_mountpoint(world: Mounts, dentry: Dentry) -> None:
    """Never sleeps.  One mount less on a dentry.  The caller holds mount_lock."""
    world.mountpoints[dentry] -= 1
    if not world.mountpoints[dentry]:
        del world.mountpoints[dentry]
        with dentry.d_lock:
            dentry.d_flags &= ~DCACHE_MOUNTED


def _lock_mount(world: Mounts, path: Path) -> None:
    """Sleeps.  Lock the place where something is to be mounted; ``path`` moves to the top of what
    is mounted there.

    Raises:
        OSError: ENOENT.

    Leaves with the directory's ``i_rwsem`` and ``namespace_sem`` exclusive, and the mountpoint
    counted.
    """
    while True:
        dentry = path.dentry
        inode = dentry.d_inode
        assert inode is not None
        inode.i_rwsem.down_write()
        if dentry.d_flags & DCACHE_CANT_MOUNT:
            inode.i_rwsem.up_write()
            raise ENOENT()
        world.namespace_sem.down_write()
        mnt = lookup_mnt(path.mnt, dentry)
        if mnt is None:
            try:
                _get_mountpoint(world, dentry)
            except OSError:
                namespace_unlock(world)
                inode.i_rwsem.up_write()
                raise
            return
        namespace_unlock(world)
        inode.i_rwsem.up_write()
        path_put(path)
        path.mnt = mnt
        path.dentry = dget(mnt.mnt_root)


def _unlock_mount(world: Mounts, dentry: Dentry) -> None:
    """Sleeps.  Undo `_lock_mount`."""
    with world.mount_lock:
        _put_mountpoint(world, dentry)
    namespace_unlock(world)
    assert dentry.d_inode is not None
    dentry.d_inode.i_rwsem.up_write()


def namespace_unlock(world: Mounts) -> None:
    """Sleeps.  Release ``namespace_sem``, then give back what was unmounted under it, after a grace
    period.
    """
    gone, world.unmounted = world.unmounted, []
    world.namespace_sem.up_write()
    if not gone:
        return
    synchronize_rcu()
    for mnt, mountpoint in gone:
        dput(mountpoint)
        mntput(mnt)


# -- mounting --------------------------------------------------------------------------------------


def vfs_kern_mount(fs_type: FileSystemType, flags: int, dev_name: str, data: Any) -> Mount:
    """Sleeps.  Mount a filesystem in no place yet; the caller gets the one reference.

    Args:
        flags: MS_* flags.  dev_name: the disk, if the type needs one.  data: options, as the type
            understands them.

    Raises:
        OSError: ENOMEM, or what the filesystem says.

    Source: ``vfs_kern_mount``.
    """
    kmalloc()
    root = mount_fs(fs_type, flags & ~_PER_MOUNT, dev_name, data)
    mnt_flags = 0
    for ms, bit in _FLAGS.items():
        if flags & ms:
            mnt_flags |= bit
    mnt = Mount(root, dev_name, mnt_flags)
    note_ref(mnt, 1, "vfs_kern_mount")
    with mounts().mount_lock:
        root.d_sb.s_mounts.append(mnt)
    return mnt


def create_mnt_ns(mnt: Mount) -> Path:
    """Never sleeps.  Make ``mnt`` the root of the mount tree, consuming the reference; returns the
    root's path.

    The path comes without references of its own: it is good as long as the tree stands.
    """
    world = mounts()
    if world.ns is not None:
        raise ValueError("there is a root filesystem already")
    world.ns = mnt.mnt_ns = MountNamespace(mnt)
    world.ns.mounts[mnt] = None
    return Path(mnt, mnt.mnt_root)


def do_add_mount(mnt: Mount, path: Path) -> None:
    """Sleeps.  Mount ``mnt`` at ``path``, on top of what is there, consuming the reference on
    ``mnt`` in any case.

    Raises:
        OSError: ENOENT (the place is gone), EBUSY (the same filesystem is on top already), EINVAL,
            ENOTDIR (a directory on a file, or the other way round).

    The caller has references on ``path``, which moves to the top of what is mounted there.  Source:
    ``do_add_mount``.
    """
    world = mounts()
    try:
        _lock_mount(world, path)
    except OSError:
        mntput(mnt)
        raise
    dentry = path.dentry
    try:
        _check_new_mount(world, mnt, path)
        with world.mount_lock:
            _attach(world, mnt, path.mnt, dentry)
    except OSError:
        _unlock_mount(world, dentry)
        mntput(mnt)
        raise
    _unlock_mount(world, dentry)


def _check_new_mount(world: Mounts, mnt: Mount, path: Path) -> None:
    root = mnt.mnt_root
    if path.mnt.mnt_ns is not world.ns:
        raise EINVAL()
    if path.mnt.mnt_sb is mnt.mnt_sb and path.mnt.mnt_root is path.dentry:
        raise EBUSY()
    if d_is_symlink(root):
        raise EINVAL()
    if d_is_dir(root) != d_is_dir(path.dentry):
        raise ENOTDIR()


def _attach(world: Mounts, mnt: Mount, parent: Mount, mountpoint: Dentry) -> None:
    """Never sleeps.  Put a mount into the tree.  The caller holds namespace_sem and mount_lock."""
    assert world.ns is not None
    mntget(parent)
    mnt.mnt_parent = parent
    mnt.mnt_mountpoint = dget(mountpoint)
    world.mountpoints[mountpoint] += 1
    parent.mnt_mounts[mnt] = None
    world.mount_hashtable.setdefault((parent, mountpoint), []).insert(0, mnt)
    mnt.mnt_ns = world.ns
    world.ns.mounts[mnt] = None


def do_mount(
    path: Path, dev_name: str, fs_type: FileSystemType | str, flags: int = 0, data: Any = None
) -> None:
    """Sleeps.  mount(2): mount a filesystem at ``path``, or (MS_REMOUNT) change the one that is
    mounted there.

    Args:
        fs_type: the type, or the name of a registered one.

    Raises:
        OSError: ENODEV (no such type), EINVAL (remount of what is no mount), as `do_add_mount`, or
            what the filesystem says.

    Source: ``do_mount``.
    """
    if flags & MS_REMOUNT:
        _do_remount(path, flags & ~MS_REMOUNT, data)
        return
    if isinstance(fs_type, str):
        fs_type = get_fs_type(fs_type)
    do_add_mount(vfs_kern_mount(fs_type, flags, dev_name, data), path)


def _do_remount(path: Path, flags: int, data: Any) -> None:
    mnt = path.mnt
    if path.dentry is not mnt.mnt_root:
        raise EINVAL()
    sb = mnt.mnt_sb
    with sb.s_umount:
        do_remount_sb(sb, flags & ~_PER_MOUNT, data, False)
    with mounts().mount_lock:
        for ms, bit in _FLAGS.items():
            mnt.mnt_flags = mnt.mnt_flags | bit if flags & ms else mnt.mnt_flags & ~bit


# -- unmounting ------------------------------------------------------------------------------------


def do_umount(mnt: Mount, flags: int = 0) -> None:
    """Sleeps.  umount(2): take ``mnt`` out of the tree; the caller has a reference on it, and puts
    that afterwards.

    Args:
        flags: MNT_DETACH: although it is in use, which goes on until its users are done.
            MNT_FORCE: tell the filesystem first (``umount_begin``).

    Raises:
        OSError: EBUSY (in use, or something is mounted inside), EINVAL (it is in no tree).

    Source: ``do_umount``.
    """
    world = mounts()
    sb = mnt.mnt_sb
    if flags & MNT_FORCE:
        sb.s_op.umount_begin(sb)
    process = K.cur.process
    if process is not None and process.root.mnt is mnt and not flags & MNT_DETACH:
        with sb.s_umount:  # one's own root cannot go: it becomes read-only instead
            if not sb.s_flags & MS_RDONLY:
                do_remount_sb(sb, MS_RDONLY, None, False)
        return
    world.namespace_sem.down_write()
    world.mount_lock.write_lock()
    busy = not flags & MNT_DETACH and (bool(mnt.mnt_mounts) or mnt.mnt_count > 2)
    known = mnt.mnt_ns is not None
    if known and not busy:
        _umount_tree(world, mnt, 0 if flags & MNT_DETACH else MNT_SYNC_UMOUNT)
    world.mount_lock.write_unlock()
    namespace_unlock(world)
    if not known:
        raise EINVAL()
    if busy:
        raise EBUSY()


def _umount_tree(world: Mounts, mnt: Mount, how: int) -> None:
    """Never sleeps.  Take a mount and all below it out of the tree.  The caller holds namespace_sem
    and mount_lock.
    """
    for gone in list(_subtree(mnt)):
        gone.mnt_flags |= MNT_UMOUNT | how
        assert gone.mnt_ns is not None
        del gone.mnt_ns.mounts[gone]
        if gone.mnt_ns.root is gone:
            world.ns = None
        gone.mnt_ns = None
        parent, mountpoint = gone.mnt_parent, gone.mnt_mountpoint
        if parent is gone:
            world.unmounted.append((gone, None))
            continue
        stack = world.mount_hashtable[parent, mountpoint]
        stack.remove(gone)
        if not stack:
            del world.mount_hashtable[parent, mountpoint]
        del parent.mnt_mounts[gone]
        parent.mnt_count -= 1  # not the last: the tree's own is given back later
        note_ref(parent, -1, "umount of a child")
        gone.mnt_parent = gone
        gone.mnt_mountpoint = gone.mnt_root
        _put_mountpoint(world, mountpoint)
        world.unmounted.append((gone, mountpoint))


def detach_mounts(dentry: Dentry) -> None:
    """Sleeps.  Unmount whatever is mounted on a name that is going away.  Takes ``namespace_sem``,
    if there is any.
    """
    if not dentry.d_flags & DCACHE_MOUNTED:
        return
    world = mounts()
    world.namespace_sem.down_write()
    with world.mount_lock:
        for mnt in list(world.ns.mounts if world.ns is not None else ()):
            if mnt.mnt_mountpoint is dentry and _has_parent(mnt):
                _umount_tree(world, mnt, 0)
    namespace_unlock(world)


def kern_unmount(mnt: Mount) -> None:
    """Sleeps.  Let go of a mount that is in no tree, or of the root of the tree once nobody uses
    it.
    """
    if mnt.mnt_ns is not None:
        mntget(mnt)
        try:
            do_umount(mnt, 0)
        finally:
            mntput(mnt)
    else:
        mntput(mnt)


# -- names of places -------------------------------------------------------------------------------


def d_path(path: Path, root: Path | None = None) -> str:
    """Never sleeps.  The name of a place, as seen from ``root`` (or from the top of the tree).

    A removed name ends in " (deleted)"; what cannot be reached from ``root`` begins without its
    mountpoints.
    Source: ``d_path``.
    """
    dentry = path.dentry
    if (
        dentry.d_flags & DCACHE_OP_DNAME
        and dentry.d_parent is dentry
        and dentry is not path.mnt.mnt_root
    ):
        return str(dentry.d_op.d_dname(dentry))
    world = mounts()
    rename_lock = dcache().rename_lock
    while True:
        rcu_read_lock()
        mount_seq = world.mount_lock.read_begin()
        seq = rename_lock.read_begin()
        name = _climb(path, root)
        moved = rename_lock.read_retry(seq) or world.mount_lock.read_retry(mount_seq)
        rcu_read_unlock()
        if not moved:
            return f"{name} (deleted)" if d_unlinked(dentry) else name


def _climb(path: Path, root: Path | None) -> str:
    """Never sleeps.  The names from ``path`` up to ``root``.  The caller checks that nothing moved
    meanwhile.
    """
    mnt, dentry = path.mnt, path.dentry
    names: list[str] = []
    while root is None or dentry is not root.dentry or mnt is not root.mnt:
        if dentry is mnt.mnt_root:
            if mnt.mnt_parent is mnt:
                break
            dentry = mnt.mnt_mountpoint
            mnt = mnt.mnt_parent
            continue
        if dentry.d_parent is dentry:
            break
        names.append(dentry.d_name)
        dentry = dentry.d_parent
    return "/" + "/".join(reversed(names))
