"""Extended attributes: names with values that hang on an inode.

The part of a name before the first dot says whose it is, and who may use it:

=============  ===================================================================================
``user.``      people's; as the file's permissions say; regular files and directories only
``trusted.``   the system administrator's; others do not even see them (CAP_SYS_ADMIN)
``security.``  security modules'; read by all, written with CAP_SYS_ADMIN, file capabilities
               (``security.capability``) with CAP_SETFCAP
``system.``    the kernel's own: access control lists; the handler decides
=============  ===================================================================================

A superblock lists its handlers in ``s_xattr``; the first whose ``prefix`` a name begins with, or
whose ``name`` it is, does the work (`xattr_resolve_name`).  Typical sequence::

    setxattr(2) ── vfs_setxattr: may the caller? ── i_rwsem ── handler.set()
    getxattr(2) ── vfs_getxattr: may the caller? ───────────── handler.get()
    listxattr(2) ─ vfs_listxattr ───────────────────────────── i_op.listxattr()

Setting and removing hold the inode's ``i_rwsem`` exclusive; reading and listing hold nothing.  The
permission is asked before the lock is taken, as in Linux.  Security modules are left out; what
Linux's own capability module does is here: file capabilities are lost by a write (`need_killpriv`).

Source: ``fs/xattr.c`` and ``security/commoncap.c`` of v4.10.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISREG, S_ISVTX
from typing import TYPE_CHECKING

from vfsim.fs.inode import S_APPEND, S_IMMUTABLE, S_NOSEC
from vfsim.fs.operations import InodeOperations, XattrHandler
from vfsim.fs.permission import MAY_READ, MAY_WRITE, inode_owner_or_capable, inode_permission
from vfsim.fs.process import CAP_SETFCAP, CAP_SYS_ADMIN, capable
from vfsim.sim.errors import E2BIG, EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode

XATTR_CREATE = 1
XATTR_REPLACE = 2

XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65536
XATTR_LIST_MAX = 65536

XATTR_USER_PREFIX = "user."
XATTR_TRUSTED_PREFIX = "trusted."
XATTR_SECURITY_PREFIX = "security."
XATTR_SYSTEM_PREFIX = "system."
XATTR_NAME_CAPS = "security.capability"

_NO_LISTXATTR = InodeOperations.listxattr


# -- whose name is it ------------------------------------------------------------------------------


def xattr_resolve_name(inode: Inode, name: str) -> tuple[XattrHandler, str]:
    """Never sleeps.  The handler of a name, and the rest of the name behind its prefix.

    Raises:
        OSError: EOPNOTSUPP (no handlers, or none for this name), EINVAL (nothing behind the
            prefix).

    Source: ``xattr_resolve_name``.
    """
    for handler in inode.i_sb.s_xattr or ():
        if handler.prefix:
            if name.startswith(handler.prefix):
                rest = name[len(handler.prefix) :]
                if not rest:
                    raise EINVAL()
                return handler, rest
        elif name == handler.name:
            return handler, ""
    raise EOPNOTSUPP()


def xattr_permission(inode: Inode, name: str, mask: int) -> None:
    """Sleeps.  Return if the running task may read or write (``mask``) the attribute.

    Raises:
        OSError: EPERM, ENODATA (it may not even know), or as `inode_permission`.

    Source: ``xattr_permission``.
    """
    write = mask & MAY_WRITE
    if write and inode.i_flags & (S_IMMUTABLE | S_APPEND):
        raise EPERM()
    if name.startswith((XATTR_SECURITY_PREFIX, XATTR_SYSTEM_PREFIX)):
        return
    if name.startswith(XATTR_TRUSTED_PREFIX):
        if not capable(CAP_SYS_ADMIN):
            raise EPERM() if write else ENODATA()
        return
    if name.startswith(XATTR_USER_PREFIX):
        mode = inode.i_mode
        if not S_ISREG(mode) and not S_ISDIR(mode):
            raise EPERM() if write else ENODATA()
        if write and S_ISDIR(mode) and mode & S_ISVTX and not inode_owner_or_capable(inode):
            raise EPERM()
    inode_permission(inode, mask)


def _security_permission(name: str) -> None:
    """Who may set or remove ``security.`` attributes.  Source: ``cap_inode_setxattr``."""
    if name == XATTR_NAME_CAPS:
        if not capable(CAP_SETFCAP):
            raise EPERM()
    elif name.startswith(XATTR_SECURITY_PREFIX) and not capable(CAP_SYS_ADMIN):
        raise EPERM()


# -- the VFS's part --------------------------------------------------------------------------------


def setxattr_noperm(dentry: Dentry, inode: Inode, name: str, value: bytes, flags: int) -> None:
    """Sleeps.  Let the handler set it; no permission is asked.

    Raises:
        OSError: as `xattr_resolve_name`, or what the handler says.

    The caller holds ``i_rwsem`` exclusive.  Source: ``__vfs_setxattr``.
    """
    handler, rest = xattr_resolve_name(inode, name)
    handler.set(dentry, inode, rest, value, flags)


def getxattr_noperm(dentry: Dentry, inode: Inode, name: str) -> bytes:
    """Sleeps.  Let the handler read it; no permission is asked.

    Raises:
        OSError: as `xattr_resolve_name`, ENODATA, or what the handler says.

    ``i_rwsem`` may or may not be held.  Source: ``__vfs_getxattr``.
    """
    handler, rest = xattr_resolve_name(inode, name)
    return handler.get(dentry, inode, rest)


def removexattr_noperm(dentry: Dentry, name: str) -> None:
    """Sleeps.  Let the handler remove it; no permission is asked.

    Raises:
        OSError: as `xattr_resolve_name`, ENODATA, or what the handler says.

    The caller holds ``i_rwsem`` exclusive.  Source: ``__vfs_removexattr``.
    """
    inode = _inode(dentry)
    handler, rest = xattr_resolve_name(inode, name)
    handler.set(dentry, inode, rest, None, XATTR_REPLACE)


def _inode(dentry: Dentry) -> Inode:
    assert dentry.d_inode is not None
    return dentry.d_inode


def vfs_setxattr(dentry: Dentry, name: str, value: bytes, flags: int) -> None:
    """Sleeps.  Set an attribute.

    Args:
        flags: XATTR_CREATE: it must be new; XATTR_REPLACE: it must be there.

    Raises:
        OSError: in this order: as `xattr_permission`, EPERM (security), as `xattr_resolve_name`,
            EEXIST, ENODATA, or what the filesystem says.

    Takes ``i_rwsem`` exclusive; the caller has write access to the mount.

    Source: ``vfs_setxattr``.
    """
    inode = _inode(dentry)
    xattr_permission(inode, name, MAY_WRITE)
    with inode.i_rwsem:
        _security_permission(name)
        if name.startswith(XATTR_SECURITY_PREFIX):
            inode.i_flags &= ~S_NOSEC
        setxattr_noperm(dentry, inode, name, value, flags)


def vfs_getxattr(dentry: Dentry, name: str) -> bytes:
    """Sleeps.  The value of an attribute.

    Raises:
        OSError: as `xattr_permission`, as `xattr_resolve_name`, ENODATA, or what the filesystem
            says.

    No lock is held.  Source: ``vfs_getxattr``.
    """
    inode = _inode(dentry)
    xattr_permission(inode, name, MAY_READ)
    return getxattr_noperm(dentry, inode, name)


def vfs_listxattr(dentry: Dentry) -> list[str]:
    """Sleeps.  The names of the attributes that the filesystem shows to this task.

    No lock is held.  Source: ``vfs_listxattr``.
    """
    inode = _inode(dentry)
    op = inode.i_op
    if not inode.i_sb.s_xattr or type(op).listxattr is _NO_LISTXATTR:
        return []
    return op.listxattr(dentry)


def vfs_removexattr(dentry: Dentry, name: str) -> None:
    """Sleeps.  Remove an attribute.

    Raises:
        OSError: in this order: as `xattr_permission`, EPERM (security), as `xattr_resolve_name`,
            ENODATA, or what the filesystem says.

    Takes ``i_rwsem`` exclusive; the caller has write access to the mount.

    Source: ``vfs_removexattr``.
    """
    inode = _inode(dentry)
    xattr_permission(inode, name, MAY_WRITE)
    with inode.i_rwsem:
        _security_permission(name)
        removexattr_noperm(dentry, name)


def shown_xattrs(dentry: Dentry, names: Iterable[str]) -> list[str]:
    """Sleeps.  Those of the names whose handler shows them to this task: what a filesystem's
    ``listxattr`` does with the names it has stored.

    Source: ``xattr_handler_can_list``, as called by ext2 and others.
    """
    inode = _inode(dentry)
    found = []
    for name in names:
        try:
            handler, _ = xattr_resolve_name(inode, name)
        except OSError:
            continue
        if handler.list(dentry):
            found.append(name)
    return found


# -- file capabilities -----------------------------------------------------------------------------


def need_killpriv(dentry: Dentry) -> bool:
    """Sleeps.  Whether the file has capabilities, which whoever changes it must take away.

    Called both with the inode's ``i_rwsem`` and without.  Source: ``cap_inode_need_killpriv``.
    """
    inode = _inode(dentry)
    if not inode.i_sb.s_xattr:
        return False
    try:
        return bool(getxattr_noperm(dentry, inode, XATTR_NAME_CAPS))
    except OSError:
        return False


def killpriv(dentry: Dentry) -> None:
    """Sleeps.  Take the file's capabilities away.

    Raises:
        OSError: what the filesystem says, unless it has no such attributes.

    The caller holds ``i_rwsem`` exclusive.  Source: ``cap_inode_killpriv``.
    """
    try:
        removexattr_noperm(dentry, XATTR_NAME_CAPS)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
            raise


# -- the system calls' part ------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not 0 < len(os.fsencode(name)) <= XATTR_NAME_MAX:
        raise ERANGE()


def setxattr(dentry: Dentry, name: str, value: bytes, flags: int) -> None:
    """Sleeps.  setxattr(2) of what was found.

    Raises:
        OSError: in this order: EINVAL (flags), ERANGE (an empty or too long name), E2BIG, or as
            `vfs_setxattr`.

    Source: ``setxattr``.
    """
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise EINVAL()
    _check_name(name)
    if len(value) > XATTR_SIZE_MAX:
        raise E2BIG()
    vfs_setxattr(dentry, name, value, flags)


def getxattr(dentry: Dentry, name: str) -> bytes:
    """Sleeps.  getxattr(2) of what was found.  Raises ERANGE (name), as `vfs_getxattr`."""
    _check_name(name)
    return vfs_getxattr(dentry, name)


def listxattr(dentry: Dentry) -> list[str]:
    """Sleeps.  listxattr(2) of what was found.

    Raises:
        OSError: E2BIG, if the names are longer than 64 KiB together.
    """
    names = vfs_listxattr(dentry)
    if sum(len(os.fsencode(name)) + 1 for name in names) > XATTR_LIST_MAX:
        raise E2BIG()
    return names


def removexattr(dentry: Dentry, name: str) -> None:
    """Sleeps.  removexattr(2) of what was found.  Raises ERANGE (name), as `vfs_removexattr`."""
    _check_name(name)
    vfs_removexattr(dentry, name)
