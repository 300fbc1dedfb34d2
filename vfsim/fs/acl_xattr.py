"""Access control lists from outside: as extended attributes, inherited, and changed by chmod(2).

A list is read and set through the attributes ``system.posix_acl_access`` and
``system.posix_acl_default``, whose handlers stand here; a filesystem puts them into its
``s_xattr``, sets SB_POSIXACL, and has ``set_acl`` and, unless the cache is all it has, ``get_acl``.
The value is a little-endian array, the same on all machines (`posix_acl_to_xattr`).

What a filesystem calls itself::

    creating               posix_acl_create(dir, mode) -> mode, default list, access list
    setattr with a mode    posix_acl_chmod(inode, mode)
    set_acl                posix_acl_update_mode(inode, acl), keep it, set_cached_acl()

`simple_acl_create` and `simple_set_acl` are these for a filesystem in memory: the cache is where
its lists are.

All that changes a list runs with the inode's ``i_rwsem`` held, or on an inode that nobody else
knows yet.  The counterpart of the second half of ``fs/posix_acl.c`` of v4.10.
"""

from __future__ import annotations

import errno
import struct
from stat import S_ISDIR, S_ISGID, S_ISLNK
from typing import TYPE_CHECKING, ClassVar

from vfsim.fs.acl import (
    ACL_GROUP,
    ACL_TYPE_ACCESS,
    ACL_TYPE_DEFAULT,
    ACL_UNDEFINED_ID,
    ACL_USER,
    TAGS,
    AclEntry,
    PosixAcl,
    posix_acl_chmod_masq,
    posix_acl_create_masq,
    posix_acl_equiv_mode,
    posix_acl_valid,
)
from vfsim.fs.acl_cache import get_acl, is_posixacl, set_cached_acl
from vfsim.fs.inode import current_time
from vfsim.fs.operations import InodeOperations, XattrHandler
from vfsim.fs.permission import inode_owner_or_capable
from vfsim.fs.process import CAP_FSETID, capable, current_cred, current_umask
from vfsim.sim.errors import EACCES, EINVAL, ENODATA, EOPNOTSUPP, EPERM

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode

XATTR_NAME_POSIX_ACL_ACCESS = "system.posix_acl_access"
XATTR_NAME_POSIX_ACL_DEFAULT = "system.posix_acl_default"

_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NAMED = (ACL_USER, ACL_GROUP)
_NO_SET_ACL = InodeOperations.set_acl


# -- the attribute's value -------------------------------------------------------------------------


def posix_acl_to_xattr(acl: PosixAcl) -> bytes:
    """Never sleeps.  The list as the value of an attribute."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(e.tag, e.perm, e.id) for e in acl.entries)


def posix_acl_from_xattr(value: bytes) -> PosixAcl | None:
    """Never sleeps.  The list that an attribute's value says; None if it has no entries.

    Raises:
        OSError: EINVAL (no such list), EOPNOTSUPP (another version).

    Source: ``posix_acl_from_xattr``.
    """
    if len(value) < _HEADER.size:
        raise EINVAL()
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise EOPNOTSUPP()
    body = value[_HEADER.size :]
    if len(body) % _ENTRY.size:
        raise EINVAL()
    entries = []
    for tag, perm, id in _ENTRY.iter_unpack(body):
        if tag not in TAGS or (tag in _NAMED and id == ACL_UNDEFINED_ID):
            raise EINVAL()
        entries.append(AclEntry(tag, perm, id if tag in _NAMED else ACL_UNDEFINED_ID))
    return PosixAcl(tuple(entries)) if entries else None


# -- changing one ----------------------------------------------------------------------------------


def set_posix_acl(inode: Inode, kind: int, acl: PosixAcl | None) -> None:
    """Sleeps.  Give an inode that list, or none of that kind any more.

    Raises:
        OSError: in this order: EOPNOTSUPP (the filesystem has none), EACCES (a default list for no
            directory), EPERM (not the owner), EINVAL (no valid list), or what ``set_acl`` says.

    The caller holds ``i_rwsem`` exclusive.  Source: ``set_posix_acl``.
    """
    op = inode.i_op
    if not is_posixacl(inode) or type(op).set_acl is _NO_SET_ACL:
        raise EOPNOTSUPP()
    if kind == ACL_TYPE_DEFAULT and not S_ISDIR(inode.i_mode):
        if acl is not None:
            raise EACCES()
        return
    if not inode_owner_or_capable(inode):
        raise EPERM()
    if acl is not None:
        posix_acl_valid(acl)
    op.set_acl(inode, acl, kind)


def posix_acl_update_mode(inode: Inode, acl: PosixAcl | None) -> tuple[int, PosixAcl | None]:
    """Never sleeps.  What an access list makes of the mode; the list becomes None if the mode says
    it all.

    The set-group-ID bit goes as in chmod(2).

    Raises:
        OSError: EINVAL.

    Source: ``posix_acl_update_mode``.
    """
    mode, plain = posix_acl_equiv_mode(acl, inode.i_mode)
    if not current_cred().in_group(inode.i_gid) and not capable(CAP_FSETID):
        mode &= ~S_ISGID
    return mode, None if plain else acl


def posix_acl_chmod(inode: Inode, mode: int) -> None:
    """Sleeps.  The permission bits became ``mode``: let the access list say the same.

    Raises:
        OSError: EOPNOTSUPP without ``set_acl``, or what the filesystem says.

    The caller holds ``i_rwsem`` exclusive.  Source: ``posix_acl_chmod``.
    """
    if not is_posixacl(inode):
        return
    op = inode.i_op
    if type(op).set_acl is _NO_SET_ACL:
        raise EOPNOTSUPP()
    acl = _acl_or_none(inode, ACL_TYPE_ACCESS)
    if acl is not None:
        op.set_acl(inode, posix_acl_chmod_masq(acl, mode), ACL_TYPE_ACCESS)


def posix_acl_create(dir: Inode, mode: int) -> tuple[int, PosixAcl | None, PosixAcl | None]:
    """Sleeps.  What a new inode inherits from its directory: the mode, its default list, its access
    list.

    Without a default list the umask applies, which the VFS leaves to filesystems with SB_POSIXACL.

    Args:
        mode: type and permissions asked for, without umask.

    Raises:
        OSError: what the directory's ``get_acl`` says.

    The caller holds ``dir.i_rwsem``, except in ``tmpfile``.  Source: ``posix_acl_create``.
    """
    if S_ISLNK(mode) or not is_posixacl(dir):
        return mode, None, None
    inherited = _acl_or_none(dir, ACL_TYPE_DEFAULT)
    if inherited is None:
        return mode & ~current_umask(), None, None
    acl, mode, plain = posix_acl_create_masq(inherited, mode)
    return mode, inherited if S_ISDIR(mode) else None, None if plain else acl


def _acl_or_none(inode: Inode, kind: int) -> PosixAcl | None:
    try:
        return get_acl(inode, kind)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return None


# -- for filesystems in memory ---------------------------------------------------------------------


def simple_set_acl(inode: Inode, acl: PosixAcl | None, kind: int) -> None:
    """Never sleeps.  ``set_acl``: into the cache, and the mode as the list says.

    Raises:
        OSError: EINVAL.

    Source: ``simple_set_acl``.
    """
    if kind == ACL_TYPE_ACCESS:
        inode.i_mode, acl = posix_acl_update_mode(inode, acl)
    inode.i_ctime = current_time(inode)
    set_cached_acl(inode, kind, acl)


def simple_acl_create(dir: Inode, inode: Inode) -> None:
    """Sleeps.  A new inode, which nobody else knows, gets its lists and its mode from its
    directory.

    Raises:
        OSError: as `posix_acl_create`.

    Source: ``simple_acl_create``.
    """
    inode.i_mode, inode.raw_i_default_acl, inode.raw_i_acl = posix_acl_create(dir, inode.i_mode)


# -- the handlers ----------------------------------------------------------------------------------


class PosixAclHandler(XattrHandler):
    """One of the two attributes.  kind: which list it is (Linux: the handler's ``flags``)."""

    kind: ClassVar[int]

    def list(self, dentry: Dentry) -> bool:
        """Never sleeps.  If lists count on this filesystem.

        Source: ``posix_acl_xattr_list``.
        """
        assert dentry.d_inode is not None
        return is_posixacl(dentry.d_inode)

    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Sleeps.  The list.  Raises EOPNOTSUPP, ENODATA.  Source: ``posix_acl_xattr_get``."""
        if not is_posixacl(inode) or S_ISLNK(inode.i_mode):
            raise EOPNOTSUPP()
        acl = get_acl(inode, self.kind)
        if acl is None:
            raise ENODATA()
        return posix_acl_to_xattr(acl)

    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Sleeps.  Set or remove the list; XATTR_CREATE and XATTR_REPLACE do not matter.

        Raises as `posix_acl_from_xattr` and `set_posix_acl`.  Source: ``posix_acl_xattr_set``.
        """
        acl = None if value is None else posix_acl_from_xattr(value)
        set_posix_acl(inode, self.kind, acl)


class PosixAclAccessHandler(PosixAclHandler):
    """``system.posix_acl_access``."""

    name = XATTR_NAME_POSIX_ACL_ACCESS
    kind = ACL_TYPE_ACCESS


class PosixAclDefaultHandler(PosixAclHandler):
    """``system.posix_acl_default``."""

    name = XATTR_NAME_POSIX_ACL_DEFAULT
    kind = ACL_TYPE_DEFAULT
