"""Directory operations: create, remove, link and rename, with Linux's locking.

These functions take dentries and expect the directories locked; those that take paths and do
everything are in `vfsim.fs.by_path`.  In the words of the kernel's text on directory locking:

==============  ==========================================================================
creation        the parent exclusive
removal         the parent exclusive; look up the victim; the victim exclusive
link            the parent of the new name exclusive; then the source, which is no directory
rename within   the parent; look up both; the existing target, the source if it is no directory
rename across   ``s_vfs_rename_mutex``; the parents, ancestor first; then as within
==============  ==========================================================================

Two non-directories are locked in the order of their addresses (``i_addr``).  Write access to the
mount (the freeze level) is taken before all of these.  The last `iput` of what was removed comes
after the parent's lock is dropped, because it may truncate a large file (rule E23).

Source: ``fs/namei.c`` of v4.10.  Delegations, security hooks and notifications are left out.
"""

from __future__ import annotations

from stat import S_IFREG, S_ISBLK, S_ISCHR, S_ISDIR
from typing import TYPE_CHECKING

from vfsim.checks.bugs import warn_of
from vfsim.checks.instances import order_by
from vfsim.fs.dcache import (
    d_ancestor,
    d_delete,
    d_exchange,
    d_is_dir,
    d_move,
    d_real_inode,
    dget,
    dont_mount,
    dput,
    shrink_dcache_parent,
)
from vfsim.fs.inode import (
    I_LINKABLE,
    I_MUTEX_CHILD,
    I_MUTEX_PARENT,
    I_MUTEX_PARENT2,
    S_APPEND,
    S_DEAD,
    S_IMMUTABLE,
    lock_two_nondirectories,
    unlock_two_nondirectories,
)
from vfsim.fs.mount import detach_mounts, is_local_mountpoint
from vfsim.fs.operations import InodeOperations
from vfsim.fs.permission import MAY_WRITE, inode_permission, may_create, may_delete
from vfsim.fs.process import CAP_MKNOD, capable
from vfsim.sim.errors import EACCES, EBUSY, EMLINK, ENOENT, EPERM, EXDEV
from vfsim.sim.shared import READ_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.dentry import Dentry
    from vfsim.fs.inode import Inode

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_S_IALLUGO = 0o7777
_MKDIR_BITS = 0o1777

_NO_CREATE = InodeOperations.create
_NO_MKNOD = InodeOperations.mknod
_NO_MKDIR = InodeOperations.mkdir
_NO_SYMLINK = InodeOperations.symlink
_NO_LINK = InodeOperations.link
_NO_UNLINK = InodeOperations.unlink
_NO_RMDIR = InodeOperations.rmdir
_NO_RENAME = InodeOperations.rename


# -- creation: the caller holds dir.i_rwsem exclusive --------------------------------------------


def vfs_create(dir: Inode, dentry: Dentry, mode: int, excl: bool = False) -> None:
    """Sleeps.  Give the negative ``dentry`` a new regular file.

    Args:
        mode: permission bits, umask already applied.
        excl: the caller insists that the name is new (O_EXCL).

    Raises:
        OSError: as `may_create`, EACCES if the filesystem has no ``create``, or what it says.
    """
    may_create(dir, dentry)
    op = dir.i_op
    if type(op).create is _NO_CREATE:
        raise EACCES()
    op.create(dir, dentry, mode & _S_IALLUGO | S_IFREG, excl)


def vfs_mknod(dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
    """Sleeps.  Give the negative ``dentry`` a new special file of the type in ``mode``.

    Raises:
        OSError: as `may_create`; EPERM without CAP_MKNOD (devices) and if the filesystem has no
            ``mknod``.
    """
    may_create(dir, dentry)
    if (S_ISCHR(mode) or S_ISBLK(mode)) and not capable(CAP_MKNOD):
        raise EPERM()
    op = dir.i_op
    if type(op).mknod is _NO_MKNOD:
        raise EPERM()
    op.mknod(dir, dentry, mode, dev)


def vfs_mkdir(dir: Inode, dentry: Dentry, mode: int) -> None:
    """Sleeps.  Give the negative ``dentry`` a new directory.

    Raises:
        OSError: as `may_create`; EPERM if the filesystem has no ``mkdir``; EMLINK at the
            superblock's limit of links.
    """
    may_create(dir, dentry)
    op = dir.i_op
    if type(op).mkdir is _NO_MKDIR:
        raise EPERM()
    limit = dir.i_sb.s_max_links
    if limit and dir.i_nlink >= limit:
        raise EMLINK()
    op.mkdir(dir, dentry, mode & _MKDIR_BITS)


def vfs_symlink(dir: Inode, dentry: Dentry, target: str) -> None:
    """Sleeps.  Give the negative ``dentry`` a new symbolic link to ``target``.

    Raises:
        OSError: as `may_create`; EPERM if the filesystem has no ``symlink``.
    """
    may_create(dir, dentry)
    op = dir.i_op
    if type(op).symlink is _NO_SYMLINK:
        raise EPERM()
    op.symlink(dir, dentry, target)


def vfs_link(old_dentry: Dentry, dir: Inode, new_dentry: Dentry) -> None:
    """Sleeps.  Give the negative ``new_dentry`` the inode of ``old_dentry``.

    Takes the inode's ``i_rwsem`` inside the directory's.

    Raises:
        OSError: in this order: ENOENT, as `may_create`, EXDEV, EPERM (append-only, immutable, no
            ``link``, a directory), ENOENT (its last name is gone), EMLINK.
    """
    inode = old_dentry.d_inode
    if inode is None:
        raise ENOENT()
    may_create(dir, new_dentry)
    if dir.i_sb is not inode.i_sb:
        raise EXDEV()
    op = dir.i_op
    if (
        inode.i_flags & (S_APPEND | S_IMMUTABLE)
        or type(op).link is _NO_LINK
        or S_ISDIR(inode.i_mode)
    ):
        raise EPERM()
    limit = dir.i_sb.s_max_links
    sem = inode.i_rwsem
    sem.down_write()
    try:
        links = inode.i_nlink
        if not links and not READ_ONCE(inode, "i_state") & I_LINKABLE:
            raise ENOENT()
        if limit and links >= limit:
            raise EMLINK()
        op.link(old_dentry, dir, new_dentry)
        if READ_ONCE(inode, "i_state") & I_LINKABLE:
            with inode.i_lock:
                inode.i_state &= ~I_LINKABLE
    finally:
        sem.up_write()


# -- removal: the caller holds dir.i_rwsem exclusive, and puts the inode later -------------------


def vfs_unlink(dir: Inode, dentry: Dentry) -> None:
    """Sleeps.  Remove a name that is no directory.

    Takes the victim's ``i_rwsem``.  The caller keeps a reference on the inode past the directory's
    lock.

    Raises:
        OSError: as `may_delete`; EPERM if the filesystem has no ``unlink``; EBUSY on a mountpoint.
    """
    may_delete(dir, dentry, False)
    op = dir.i_op
    if type(op).unlink is _NO_UNLINK:
        raise EPERM()
    target = dentry.d_inode
    assert target is not None
    sem = target.i_rwsem
    sem.down_write()
    try:
        if is_local_mountpoint(dentry):
            raise EBUSY()
        op.unlink(dir, dentry)
        dont_mount(dentry)
        detach_mounts(dentry)
    finally:
        sem.up_write()
    _forget(dentry, type(op).unlink)


def vfs_rmdir(dir: Inode, dentry: Dentry) -> None:
    """Sleeps.  Remove an empty directory; from here on it is dead (S_DEAD) and nothing can be made
    in it.

    Takes the victim's ``i_rwsem``.

    Raises:
        OSError: as `may_delete`; EPERM if the filesystem has no ``rmdir``; EBUSY on a mountpoint;
            what the filesystem says, ENOTEMPTY usually.
    """
    may_delete(dir, dentry, True)
    op = dir.i_op
    if type(op).rmdir is _NO_RMDIR:
        raise EPERM()
    target = dentry.d_inode
    assert target is not None
    dget(dentry)
    sem = target.i_rwsem
    sem.down_write()
    try:
        if is_local_mountpoint(dentry):
            raise EBUSY()
        shrink_dcache_parent(dentry)
        op.rmdir(dir, dentry)
        target.i_flags |= S_DEAD
        dont_mount(dentry)
        detach_mounts(dentry)
    except Exception:
        sem.up_write()
        dput(dentry)
        raise
    sem.up_write()
    dput(dentry)
    _forget(dentry, type(op).rmdir)


def _forget(dentry: Dentry, method: Callable[..., None]) -> None:
    """Sleeps.  ``method`` has removed the name: the dcache forgets it."""
    if dentry.raw_d_inode is None:  # in Linux d_delete() would stumble
        warn_of("dcache.delete", method, "made the dentry negative, which is left to its caller")
    else:
        d_delete(dentry)


# -- rename --------------------------------------------------------------------------------------


def lock_rename(p1: Dentry, p2: Dentry) -> Dentry | None:
    """Sleeps.  Lock the two parents of a rename; they may be one.

    Returns:
        If one parent lies below the other: the child of the upper one that leads to the lower one,
            which can neither
        be moved into the lower one nor be replaced from it.  Else None.

    Leaves with both ``i_rwsem`` exclusive, and with ``s_vfs_rename_mutex`` if they are two.

    Source: ``lock_rename``.
    """
    dir1, dir2 = p1.d_inode, p2.d_inode
    assert dir1 is not None and dir2 is not None
    if p1 is p2:
        dir1.i_rwsem.down_write(I_MUTEX_PARENT)
        return None
    p1.d_sb.s_vfs_rename_mutex.lock()
    trap = d_ancestor(p2, p1)
    if trap is not None:
        dir2.i_rwsem.down_write(I_MUTEX_PARENT)
        dir1.i_rwsem.down_write(I_MUTEX_CHILD)
        return trap
    trap = d_ancestor(p1, p2)
    dir1.i_rwsem.down_write(I_MUTEX_PARENT)
    dir2.i_rwsem.down_write(I_MUTEX_PARENT2 if trap is None else I_MUTEX_CHILD)
    return trap


def _directories(outer: Inode, inner: Inode) -> str:
    """The order of two directories: ancestor first; strangers under s_vfs_rename_mutex only."""
    if not outer.i_dentry or not inner.i_dentry:
        return ""
    a, b = outer.i_dentry[0], inner.i_dentry[0]
    if d_ancestor(b, a) is not None:
        return "an ancestor is locked before its descendants"
    renamer = outer.i_sb.s_vfs_rename_mutex.owner
    if d_ancestor(a, b) is not None or (renamer and renamer is outer.i_rwsem.owner):
        return ""
    return "two directories of which none is the other's ancestor need s_vfs_rename_mutex"


order_by("i_rwsem_dir", _directories)


def unlock_rename(p1: Dentry, p2: Dentry) -> None:
    """Never sleeps.  Undo `lock_rename`."""
    assert p1.d_inode is not None and p2.d_inode is not None
    p1.d_inode.i_rwsem.up_write()
    if p1 is not p2:
        p2.d_inode.i_rwsem.up_write()
        p1.d_sb.s_vfs_rename_mutex.unlock()


def vfs_rename(
    old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int = 0
) -> None:
    """Sleeps.  Move ``old_dentry`` to the place and name of ``new_dentry``, replacing what is
    there.

    Two names of one inode: nothing happens, as POSIX wants it.  Non-directories are locked in
    address order, an existing target directory as well; a directory that moves is not locked.

    Args:
        flags: RENAME_EXCHANGE: both exist and take each other's places; RENAME_WHITEOUT: leave a
            whiteout behind.

    Raises:
        OSError: as `may_delete` and `may_create`; EPERM if the filesystem has no ``rename``; EACCES
            (a directory gets another parent and may not be written); EBUSY (mountpoint); EMLINK;
            what the filesystem says.

    The caller holds both directories (`lock_rename`).
    """
    source = old_dentry.d_inode
    target = new_dentry.d_inode
    if d_real_inode(old_dentry) is d_real_inode(new_dentry):
        return
    is_dir = d_is_dir(old_dentry)
    exchange = bool(flags & RENAME_EXCHANGE)
    may_delete(old_dir, old_dentry, is_dir)
    assert source is not None
    new_is_dir = False
    if target is None:
        may_create(new_dir, new_dentry)
    else:
        new_is_dir = d_is_dir(new_dentry)
        may_delete(new_dir, new_dentry, new_is_dir if exchange else is_dir)
    op = old_dir.i_op
    if type(op).rename is _NO_RENAME:
        raise EPERM()
    if new_dir is not old_dir:  # ".." of what moves will be written
        if is_dir:
            inode_permission(source, MAY_WRITE)
        if exchange and new_is_dir:
            assert target is not None
            inode_permission(target, MAY_WRITE)
    dget(new_dentry)
    try:
        if not is_dir or exchange:
            lock_two_nondirectories(source, target)
        elif target is not None:
            target.i_rwsem.down_write()
        try:
            _rename_locked(old_dir, old_dentry, new_dir, new_dentry, flags)
        finally:
            if not is_dir or exchange:
                unlock_two_nondirectories(source, target)
            elif target is not None:
                target.i_rwsem.up_write()
    finally:
        dput(new_dentry)


def _rename_locked(
    old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
) -> None:
    """The part of `vfs_rename` with everything locked."""
    is_dir = d_is_dir(old_dentry)
    target = new_dentry.d_inode
    new_is_dir = d_is_dir(new_dentry)
    replaces = target is not None and not flags & RENAME_EXCHANGE
    if is_local_mountpoint(old_dentry) or is_local_mountpoint(new_dentry):
        raise EBUSY()
    limit = new_dir.i_sb.s_max_links
    if limit and new_dir is not old_dir:
        if is_dir and not new_is_dir and new_dir.i_nlink >= limit:
            raise EMLINK()
        if flags & RENAME_EXCHANGE and not is_dir and new_is_dir and old_dir.i_nlink >= limit:
            raise EMLINK()
    if is_dir and replaces:
        shrink_dcache_parent(new_dentry)
    rename = old_dir.i_op.rename
    parent, name = old_dentry.raw_d_parent, old_dentry.raw_d_name
    rename(old_dir, old_dentry, new_dir, new_dentry, flags)
    if old_dentry.raw_d_parent is not parent or old_dentry.raw_d_name != name:
        warn_of("dcache.move", rename, "moved the dentry, which is left to its caller")
    if replaces:
        assert target is not None
        if is_dir:
            target.i_flags |= S_DEAD
        dont_mount(new_dentry)
        detach_mounts(new_dentry)
    if flags & RENAME_EXCHANGE:
        d_exchange(old_dentry, new_dentry)
    else:
        d_move(old_dentry, new_dentry)
