"""Who may do what to an inode: mode bits, capabilities, and the rules of directories.

`inode_permission` is the question every path component and every open asks; `may_create` and
`may_delete` are what the directory operations ask once the directory is locked.  A filesystem that
has no rules of its own leaves ``permission`` out and gets `generic_permission`.

Nothing here takes a lock.  `inode_permission` runs both with and without the inode's ``i_rwsem``
(path walk: without; `may_create`, `may_delete`, `notify_change`: with), which is why the contract
promises the method neither.  ``i_mode``, ``i_uid`` and ``i_gid`` are read as they are at that
moment, like in Linux.

Where access control lists count, the list of the inode stands in the place of the group's bits
(`check_acl`).  There are no user namespaces and no security modules.
"""

from __future__ import annotations

import errno
from stat import S_IRWXG, S_ISDIR, S_ISVTX
from typing import TYPE_CHECKING

from vfsim.fs.acl import ACL_TYPE_ACCESS, posix_acl_permission
from vfsim.fs.acl_cache import Uncached, get_acl, get_cached_acl_rcu, is_posixacl
from vfsim.fs.inode import S_APPEND, S_DEAD, S_IMMUTABLE
from vfsim.fs.operations import InodeOperations
from vfsim.fs.process import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    capable,
    current_cred,
    current_umask,
)
from vfsim.fs.super import SB_RDONLY
from vfsim.sim.errors import EACCES, EBUSY, ECHILD, EEXIST, EISDIR, ENOENT, ENOTDIR, EPERM, EROFS

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode

MAY_EXEC = 0x01
MAY_WRITE = 0x02
MAY_READ = 0x04
MAY_APPEND = 0x08
MAY_ACCESS = 0x10
MAY_OPEN = 0x20
MAY_CHDIR = 0x40
MAY_NOT_BLOCK = 0x80

_RWX = MAY_READ | MAY_WRITE | MAY_EXEC
_S_IFMT = 0o170000
_S_IFREG, _S_IFDIR, _S_IFLNK = 0o100000, 0o040000, 0o120000
_ON_DISK = (_S_IFREG, _S_IFDIR, _S_IFLNK)
_EXEC_BITS = 0o111


def inode_permission(inode: Inode, mask: int) -> None:
    """Sleeps.  Return if the running task may do ``mask`` (MAY_* bits) to ``inode``.

    Raises:
        OSError: EROFS for writing on a read-only superblock, EPERM for writing an immutable inode,
            EACCES, or whatever the filesystem's ``permission`` says.

    The caller holds a reference on the inode; its lock may or may not be held.

    Source: ``inode_permission``.
    """
    if mask & MAY_WRITE:
        if inode.i_sb.s_flags & SB_RDONLY and inode.i_mode & _S_IFMT in _ON_DISK:
            raise EROFS()
        if inode.i_flags & S_IMMUTABLE:
            raise EPERM()
    op = inode.i_op
    if type(op).permission is _NO_PERMISSION:
        generic_permission(inode, mask)
    else:
        op.permission(inode, mask)


_NO_PERMISSION = InodeOperations.permission


def check_acl(inode: Inode, mask: int) -> bool | None:
    """Sleeps.  What the inode's access control list says to ``mask``; None without one.

    With MAY_NOT_BLOCK only the cache is looked at, and it never sleeps.

    Raises:
        OSError: ECHILD (MAY_NOT_BLOCK, and not cached), EIO, what ``get_acl`` says.

    Source: ``check_acl``.
    """
    if mask & MAY_NOT_BLOCK:
        acl = get_cached_acl_rcu(inode, ACL_TYPE_ACCESS)
        if isinstance(acl, Uncached):
            raise ECHILD()
    else:
        acl = get_acl(inode, ACL_TYPE_ACCESS)
    if acl is None:
        return None
    try:
        posix_acl_permission(inode, acl, mask)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
        return False
    return True


def generic_permission(inode: Inode, mask: int) -> None:
    """Sleeps.  The rule of mode bits, access control lists and capabilities, for filesystems to
    call from ``permission``.  With MAY_NOT_BLOCK it never sleeps.

    Raises:
        OSError: EACCES; ECHILD in RCU mode for a list that is not cached; what the filesystem's
            ``get_acl`` says.

    Source: ``generic_permission``, ``acl_permission_check``.
    """
    cred = current_cred()
    mode = inode.i_mode
    if cred.uid == inode.i_uid:
        granted = mode >> 6
    elif mode & S_IRWXG and is_posixacl(inode) and (allowed := check_acl(inode, mask)) is not None:
        granted = _RWX if allowed else 0
    elif cred.in_group(inode.i_gid):
        granted = mode >> 3
    else:
        granted = mode
    if not mask & ~granted & _RWX:
        return
    caps = cred.caps
    if not caps:
        raise EACCES()
    if mode & _S_IFMT == _S_IFDIR:
        if CAP_DAC_OVERRIDE in caps or (not mask & MAY_WRITE and CAP_DAC_READ_SEARCH in caps):
            return
    elif CAP_DAC_OVERRIDE in caps and (not mask & MAY_EXEC or mode & _EXEC_BITS):
        return  # root reads and writes anything, but runs only what somebody may run
    elif CAP_DAC_READ_SEARCH in caps and mask & _RWX == MAY_READ:
        return
    raise EACCES()


def inode_owner_or_capable(inode: Inode) -> bool:
    """Never sleeps.  Whether the running task owns the inode, or may act so (CAP_FOWNER)."""
    return current_cred().uid == inode.i_uid or capable(CAP_FOWNER)


def check_sticky(dir: Inode, inode: Inode) -> bool:
    """Never sleeps.  Whether the sticky bit of ``dir`` forbids the running task to remove ``inode``
    from it.
    """
    if not dir.i_mode & S_ISVTX:
        return False
    uid = current_cred().uid
    return uid not in (inode.i_uid, dir.i_uid) and not capable(CAP_FOWNER)


def may_create(dir: Inode, child: Dentry) -> None:
    """Sleeps.  Return if the running task may give the negative dentry ``child`` an inode in
    ``dir``.

    Raises:
        OSError: EEXIST (somebody did already), ENOENT (``dir`` was removed), or as
            `inode_permission`.

    The caller holds ``dir.i_rwsem`` exclusive.  Source: ``may_create``.
    """
    if child.d_inode is not None:
        raise EEXIST()
    if dir.i_flags & S_DEAD:
        raise ENOENT()
    inode_permission(dir, MAY_WRITE | MAY_EXEC)


def may_delete(dir: Inode, victim: Dentry, isdir: bool) -> None:
    """Sleeps.  Return if the running task may remove ``victim`` from ``dir``, as a directory if
    ``isdir``.

    Raises:
        OSError: in this order: ENOENT (negative), as `inode_permission` on ``dir``, EPERM
            (append-only, immutable or sticky), ENOTDIR, EBUSY (the root of a filesystem), EISDIR,
            ENOENT (``dir`` was removed).

    The caller holds ``dir.i_rwsem`` exclusive.  Source: ``may_delete``.
    """
    inode = victim.d_inode
    if inode is None:
        raise ENOENT()
    assert victim.d_parent.d_inode is dir, f"{victim!r} is not in {dir!r}"
    inode_permission(dir, MAY_WRITE | MAY_EXEC)
    if dir.i_flags & S_APPEND:
        raise EPERM()
    if check_sticky(dir, inode) or inode.i_flags & (S_APPEND | S_IMMUTABLE):
        raise EPERM()
    if isdir:
        if not S_ISDIR(inode.i_mode):
            raise ENOTDIR()
        if victim.d_parent is victim:
            raise EBUSY()
    elif S_ISDIR(inode.i_mode):
        raise EISDIR()
    if dir.i_flags & S_DEAD:
        raise ENOENT()


def without_umask(dir: Inode, mode: int) -> int:
    """Never sleeps.  The mode without the bits that the umask takes away; where access control
    lists count that is left to the filesystem (``posix_acl_create``).
    """
    return mode if is_posixacl(dir) else mode & ~current_umask()
