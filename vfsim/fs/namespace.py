"""mount(2): new mounts, bind mounts, remounting; and namespaces, in which all that is seen.

Where something is to be mounted is locked first: the directory, then ``namespace_sem``
(`lock_mount`), on top of whatever is mounted there already::

    do_new_mount()    vfs_kern_mount(), then do_add_mount()
    do_loopback()     clone_mnt() or copy_tree(), then graft_tree()     MS_BIND, MS_REC
    do_remount()      do_remount_sb() under s_umount, or one mount's flags (MS_BIND)
    do_move_mount()   out of its place, then graft_tree()               MS_MOVE

A process sees one tree of mounts, its namespace; `copy_mnt_ns` gives it a copy of its own, in which
the same superblocks are mounted once more.  A namespace goes with its last process.

Order: i_rwsem of the mountpoint > namespace_sem > mount_lock; s_umount > mount_lock; a filesystem
is asked for its root with none of these held.

The counterpart of those parts of ``fs/namespace.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.lifetime import note_ref
from vfsim.fs.d_walk import d_set_mounted
from vfsim.fs.dcache import (
    DCACHE_CANT_MOUNT,
    Dentry,
    d_is_dir,
    d_is_symlink,
    dget,
    dput,
    is_subdir,
)
from vfsim.fs.mount import (
    MNT_ATIME_MASK,
    MNT_READONLY,
    MNT_SHRINKABLE,
    MNT_USER_SETTABLE_MASK,
    PER_MOUNT,
    Mount,
    MountNamespace,
    Mounts,
    Path,
    attach_mnt,
    check_mnt,
    commit_tree,
    detach_mnt,
    lookup_mnt,
    mnt_has_parent,
    mnt_is_readonly,
    mnt_make_readonly,
    mnt_subtree,
    mntget,
    mntput,
    mount_flags,
    mounts,
    namespace_unlock,
    path_put,
    put_mountpoint,
    umount_tree,
)
from vfsim.fs.super import (
    MS_BIND,
    MS_MOVE,
    MS_NOATIME,
    MS_NODIRATIME,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_STRICTATIME,
    do_remount_sb,
    get_fs_type,
    mount_fs,
)
from vfsim.locks.slab import kmalloc
from vfsim.sim.errors import EBUSY, EINVAL, ELOOP, ENOENT, ENOTDIR

if TYPE_CHECKING:
    from vfsim.fs.operations import FileSystemType
    from vfsim.fs.process import Process

_ATIME_FLAGS = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME


# -- places ----------------------------------------------------------------------------------------


def get_mountpoint(world: Mounts, dentry: Dentry) -> None:
    """Never sleeps.  Mark a dentry as mountpoint, or count one more mount on it.

    Raises:
        OSError: as `d_set_mounted`.

    The caller holds namespace_sem.  Source: ``get_mountpoint``.
    """
    with world.mount_lock:
        if dentry in world.mountpoints:
            world.mountpoints[dentry] += 1
            return
    d_set_mounted(dentry)
    with world.mount_lock:
        world.mountpoints[dentry] = world.mountpoints.get(dentry, 0) + 1


def lock_mount(world: Mounts, path: Path) -> None:
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
                get_mountpoint(world, dentry)
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


def unlock_mount(world: Mounts, dentry: Dentry) -> None:
    """Sleeps.  Undo `lock_mount`."""
    with world.mount_lock:
        put_mountpoint(world, dentry)
    namespace_unlock(world)
    assert dentry.d_inode is not None
    dentry.d_inode.i_rwsem.up_write()


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
    root = mount_fs(fs_type, flags & ~PER_MOUNT, dev_name, data)
    return _new_mount(root, dev_name, mount_flags(flags))


def clone_mnt(old: Mount, root: Dentry) -> Mount:
    """Sleeps.  Another mount of the same superblock, from ``root`` on, in no place yet.

    The caller gets the one reference; ``old`` keeps the superblock alive meanwhile.

    Raises:
        OSError: ENOMEM.

    Source: ``clone_mnt``.
    """
    kmalloc()
    sb = old.mnt_sb
    sb.s_active += 1
    note_ref(sb, 1, "clone_mnt", sb.s_active)
    inherited = old.mnt_flags & (MNT_USER_SETTABLE_MASK | MNT_SHRINKABLE)
    return _new_mount(dget(root), old.mnt_devname, inherited)


def _new_mount(root: Dentry, devname: str, flags: int) -> Mount:
    """Never sleeps.  A mount that takes over a reference on its root, and an active one on that
    one's superblock.
    """
    mnt = Mount(root, devname, flags)
    note_ref(mnt, 1, "alloc_vfsmnt")
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

    The caller has references on ``path``, which moves to the top of what is mounted there.

    Source: ``do_add_mount``.
    """
    world = mounts()
    try:
        lock_mount(world, path)
    except OSError:
        mntput(mnt)
        raise
    dentry = path.dentry
    try:
        _check_new_mount(mnt, path)
        graft_tree(world, mnt, path)
    except OSError:
        unlock_mount(world, dentry)
        mntput(mnt)
        raise
    unlock_mount(world, dentry)


def _check_new_mount(mnt: Mount, path: Path) -> None:
    parent = path.mnt
    if not check_mnt(parent) and (not mnt.mnt_flags & MNT_SHRINKABLE or parent.mnt_ns is None):
        raise EINVAL()  # an automount may be in a tree that the process does not see, if in any
    if parent.mnt_sb is mnt.mnt_sb and parent.mnt_root is path.dentry:
        raise EBUSY()
    if d_is_symlink(mnt.mnt_root):
        raise EINVAL()


def graft_tree(world: Mounts, mnt: Mount, path: Path) -> None:
    """Never sleeps.  Put a mount, with all that is mounted in it, into the tree at ``path``.

    Raises:
        OSError: ENOTDIR (a directory on a file, or the other way round).

    The caller has ``path`` locked by `lock_mount`.  Source: ``graft_tree``.
    """
    if d_is_dir(mnt.mnt_root) != d_is_dir(path.dentry):
        raise ENOTDIR()
    ns = path.mnt.mnt_ns
    assert ns is not None
    with world.mount_lock:
        attach_mnt(world, mnt, path.mnt, path.dentry)
        commit_tree(mnt, ns)


def do_mount(
    path: Path, dev_name: str, fs_type: FileSystemType | str, flags: int = 0, data: Any = None
) -> None:
    """Sleeps.  mount(2): mount a filesystem at ``path``, or do to mounts what ``flags`` say.

    Args:
        dev_name: the disk; with MS_BIND and MS_MOVE the path of what is mounted there.
        fs_type: the type, or the name of a registered one.

    Raises:
        OSError: ENODEV (no such type), as `do_add_mount`, `do_remount`, `do_loopback`,
            `do_move_mount`, or what the filesystem says.

    Source: ``do_mount``.
    """
    if flags & MS_REMOUNT:
        do_remount(path, flags, data)
    elif flags & MS_BIND:
        do_loopback(path, dev_name, bool(flags & MS_REC))
    elif flags & MS_MOVE:
        do_move_mount(path, dev_name)
    else:
        if isinstance(fs_type, str):
            fs_type = get_fs_type(fs_type)
        do_add_mount(vfs_kern_mount(fs_type, flags, dev_name, data), path)


# -- the same superblock in another place ----------------------------------------------------------


def do_loopback(path: Path, old_name: str, recurse: bool) -> None:
    """Sleeps.  A bind mount: show at ``path`` what is at ``old_name``.

    Args:
        recurse: together with what is mounted in there.

    Raises:
        OSError: EINVAL (no name, or not a place in the tree of the process), ENOTDIR, ENOMEM, as
            `lock_mount`, or what the walk says.

    Source: ``do_loopback``.
    """
    world = mounts()
    old = _named(old_name)
    try:
        lock_mount(world, path)
        dentry = path.dentry
        try:
            if not (check_mnt(path.mnt) and check_mnt(old.mnt)):
                raise EINVAL()
            copy = copy_tree(world, old, recurse)
            try:
                graft_tree(world, copy, path)
            except OSError:
                with world.mount_lock:
                    umount_tree(world, copy, 0)
                raise
        finally:
            unlock_mount(world, dentry)
    finally:
        path_put(old)


def copy_tree(world: Mounts, old: Path, recurse: bool = True) -> Mount:
    """Sleeps.  Copies of a mount, from a dentry in it on, and of all that is mounted below that.

    The copies hang together and are in no namespace yet; the caller gets the reference on the first
    one.  The caller holds namespace_sem exclusive.

    Raises:
        OSError: ENOMEM; then there is no copy.

    Source: ``copy_tree``.
    """
    copy = clone_mnt(old.mnt, old.dentry)
    try:
        for child in list(old.mnt.mnt_mounts) if recurse else ():
            if is_subdir(child.mnt_mountpoint, old.dentry):
                below = copy_tree(world, Path(child, child.mnt_root))
                with world.mount_lock:
                    attach_mnt(world, below, copy, child.mnt_mountpoint)
    except OSError:
        with world.mount_lock:
            umount_tree(world, copy, 0)
        raise
    return copy


def do_move_mount(path: Path, old_name: str) -> None:
    """Sleeps.  Mount at ``path`` what is mounted at ``old_name``, and there no more.

    Raises:
        OSError: EINVAL (not the top of a mount, a root, a directory on a file ...), ELOOP (into
            itself), as `lock_mount`, or what the walk says.

    Source: ``do_move_mount``.
    """
    world = mounts()
    old = _named(old_name)
    left: Dentry | None = None
    try:
        lock_mount(world, path)
        dentry = path.dentry
        try:
            _check_move(old, path)
            mnt = old.mnt
            with world.mount_lock:
                left = detach_mnt(world, mnt)
                attach_mnt(world, mnt, path.mnt, dentry)
                if mnt.mnt_expire is not None:
                    del mnt.mnt_expire[mnt]
                    mnt.mnt_expire = None
        finally:
            unlock_mount(world, dentry)
    finally:
        dput(left)
        path_put(old)


def _check_move(old: Path, path: Path) -> None:
    mnt = old.mnt
    if not (check_mnt(path.mnt) and check_mnt(mnt)):
        raise EINVAL()
    if old.dentry is not mnt.mnt_root or not mnt_has_parent(mnt):
        raise EINVAL()
    if d_is_dir(path.dentry) != d_is_dir(old.dentry):
        raise EINVAL()
    at = path.mnt
    while mnt_has_parent(at):
        if at is mnt:
            raise ELOOP()
        at = at.mnt_parent


def _named(name: str) -> Path:
    """Sleeps.  The place that a name in mount(2) leads to, with references."""
    from vfsim.fs.namei import user_path

    if not name:
        raise EINVAL()
    return user_path(name)


# -- remounting ------------------------------------------------------------------------------------


def do_remount(path: Path, flags: int, data: Any) -> None:
    """Sleeps.  Change the flags of a mount and, unless MS_BIND is among ``flags``, its superblock.

    Without a word on access times these stay as they are.

    Raises:
        OSError: EINVAL (not the top of a mount), EBUSY (read-only while somebody writes), or what
            the filesystem says.

    Takes ``s_umount`` exclusive.  Source: ``do_remount``.
    """
    mnt = path.mnt
    if not check_mnt(mnt) or path.dentry is not mnt.mnt_root:
        raise EINVAL()
    wanted = mount_flags(flags)
    if not flags & _ATIME_FLAGS:
        wanted = wanted & ~MNT_ATIME_MASK | mnt.mnt_flags & MNT_ATIME_MASK
    sb = mnt.mnt_sb
    with sb.s_umount:
        if flags & MS_BIND:
            _change_mount_flags(mnt, flags)
        else:
            do_remount_sb(sb, flags & ~PER_MOUNT, data, False)
        with mounts().mount_lock:
            mnt.mnt_flags = wanted | mnt.mnt_flags & ~MNT_USER_SETTABLE_MASK


def _change_mount_flags(mnt: Mount, flags: int) -> None:
    """Never sleeps.  Read-only or not: this mount alone.  Source: ``change_mount_flags``."""
    readonly = bool(flags & MS_RDONLY)
    if readonly and not mnt_is_readonly(mnt):
        mnt_make_readonly(mnt)
    elif not readonly:
        with mounts().mount_lock:
            mnt.mnt_flags &= ~MNT_READONLY


# -- namespaces ------------------------------------------------------------------------------------


def copy_mnt_ns(process: Process) -> None:
    """Sleeps.  Give a process a namespace of its own: a copy of the tree that it sees, in which it
    stands where it stood.

    Raises:
        OSError: ENOMEM, EINVAL (its tree was taken down).

    Takes ``namespace_sem``.  Source: ``copy_mnt_ns``.
    """
    world = mounts()
    world.namespace_sem.down_write()
    left: list[Mount] = []
    try:
        old = process.mnt_ns
        if old is None or old.root.mnt_ns is not old:
            raise EINVAL()
        root = copy_tree(world, Path(old.root, old.root.mnt_root))
        new = MountNamespace(root)
        commit_tree(root, new)
        for before, after in zip(mnt_subtree(old.root), mnt_subtree(root), strict=True):
            for at in ("root", "cwd"):
                place: Path = getattr(process, at)
                if place.mnt is before:
                    setattr(process, at, Path(mntget(after), place.dentry))
                    left.append(before)
        process.mnt_ns = new
        old.count -= 1
    finally:
        namespace_unlock(world)
    for mnt in left:
        mntput(mnt)


def put_mnt_ns(ns: MountNamespace | None) -> None:
    """Sleeps.  A process leaves its namespace; the last one takes it down.

    Takes ``namespace_sem`` then.  Source: ``put_mnt_ns``.
    """
    if ns is None:
        return
    ns.count -= 1
    if ns.count:
        return
    world = mounts()
    world.namespace_sem.down_write()
    if ns.root.mnt_ns is ns:  # it was not detached before
        with world.mount_lock:
            umount_tree(world, ns.root, 0)
    namespace_unlock(world)
