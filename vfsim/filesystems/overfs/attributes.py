"""Attributes of an overfs inode: read from what is beneath, changed in the upper tree.

Two are asked about rights: the overfs inode, whose owner, mode and lists are copies, with the
rights of the task; and what is beneath, with those of whoever mounted the overfs.  The locks are
two, too: the overfs inode's ``i_rwsem``, which the kernel holds for a change, and inside of it the
upper inode's.

The counterpart of ``fs/overlayfs/inode.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISSOCK
from typing import TYPE_CHECKING, Any

from vfsim.filesystems.overfs.copying import copy_up, get_link
from vfsim.filesystems.overfs.layers import (
    PRIVATE,
    Acting,
    OverInode,
    Writing,
    as_mounter,
    copy_attributes,
    entry_of,
    info_of,
    real_inode,
    real_path,
    stat_real,
    upper_of,
)
from vfsim.fs.acl import ACL_TYPE_ACCESS, ACL_TYPE_DEFAULT
from vfsim.fs.acl_cache import forget_cached_acl, get_acl
from vfsim.fs.acl_xattr import (
    XATTR_NAME_POSIX_ACL_ACCESS,
    XATTR_NAME_POSIX_ACL_DEFAULT,
    posix_acl_to_xattr,
    posix_acl_update_mode,
)
from vfsim.fs.attr import (
    ATTR_KILL_SGID,
    ATTR_KILL_SUID,
    ATTR_MODE,
    ATTR_SIZE,
    S_ATIME,
    IAttr,
    KStat,
    notify_change,
    setattr_prepare,
    touch_atime,
)
from vfsim.fs.dcache import Dentry, d_find_any_alias, d_inode, dput
from vfsim.fs.file import get_write_access, put_write_access
from vfsim.fs.operations import InodeOperations, XattrHandler
from vfsim.fs.permission import (
    MAY_APPEND,
    MAY_READ,
    MAY_WRITE,
    generic_permission,
    inode_permission,
)
from vfsim.fs.process import CAP_SYS_ADMIN, capable
from vfsim.fs.xattr import (
    XATTR_SECURITY_PREFIX,
    XATTR_TRUSTED_PREFIX,
    XATTR_USER_PREFIX,
    vfs_getxattr,
    vfs_listxattr,
    vfs_removexattr,
    vfs_setxattr,
)
from vfsim.sim.errors import ECHILD, EPERM

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount


_LISTS = {
    ACL_TYPE_ACCESS: XATTR_NAME_POSIX_ACL_ACCESS,
    ACL_TYPE_DEFAULT: XATTR_NAME_POSIX_ACL_DEFAULT,
}


def is_merged(dentry: Dentry) -> bool:
    """Never sleeps.  Whether a directory shows names of both trees."""
    entry = entry_of(dentry)
    return entry.upper is not None and entry.below is not None


class OverInodes(InodeOperations):
    """What all types of files have in common."""

    filesystem = "overfs"

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Sleeps.  Those of what is beneath, on a device of its own; a directory has a number of
        its own, too, and one link if it is merged, for who would count?
        """
        stat = stat_real(dentry)
        stat.st_dev = dentry.d_sb.s_dev
        if S_ISDIR(stat.st_mode):
            stat.st_ino = d_inode(dentry).i_ino
            if is_merged(dentry):
                stat.st_nlink = 1
        return stat

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Copied up, then changed there."""
        setattr_prepare(dentry, attr)
        with Writing(dentry):
            copy_up(dentry)
            change_upper(dentry, attr)

    def permission(self, inode: Inode, mask: int) -> None:
        """Sleeps.  The task at the overfs inode; whoever mounted it beneath, where to write a file
        of the lower tree means to read it for the copy.
        """
        assert isinstance(inode, OverInode)
        real = real_inode(inode)
        generic_permission(inode, mask)
        if inode.upper is None and mask & MAY_WRITE and not _is_special(real.i_mode):
            mask = mask & ~(MAY_WRITE | MAY_APPEND) | MAY_READ
        with Acting(info_of(inode.i_sb).cred):
            inode_permission(real, mask)

    def listxattr(self, dentry: Dentry) -> list[str]:
        """Sleeps.  Those of what is beneath, but overfs's own."""
        with as_mounter(dentry):
            names = vfs_listxattr(real_path(dentry).dentry)
        hidden = PRIVATE if capable(CAP_SYS_ADMIN) else XATTR_TRUSTED_PREFIX
        return [name for name in names if not name.startswith(hidden)]

    def update_time(self, inode: Inode, time: int, flags: int) -> None:
        """Sleeps.  Somebody read it: the upper file is told, the lower one never changes."""
        alias = d_find_any_alias(inode)
        if alias is None:
            return
        upper = entry_of(alias).upper
        if flags & S_ATIME and upper is not None:
            touch_atime(info_of(inode.i_sb).upper_mnt, upper)
            inode.i_atime = d_inode(upper).i_atime
        dput(alias)


class OverAttributes(OverInodes):
    """What all types of files have but symlinks: lists."""

    def get_acl(self, inode: Inode, type: int) -> Any:
        """Sleeps.  That of what is beneath."""
        with Acting(info_of(inode.i_sb).cred):
            return get_acl(real_inode(inode), type)

    def set_acl(self, inode: Inode, acl: Any, type: int) -> None:
        """Sleeps.  Copied up, then set there.  The set-group-ID bit goes if the task may not keep
        it.
        """
        mode = inode.i_mode
        if type == ACL_TYPE_ACCESS:
            mode, _ = posix_acl_update_mode(inode, acl)
        dentry = d_find_any_alias(inode)
        assert dentry is not None
        value = None if acl is None else posix_acl_to_xattr(acl)
        try:
            with Writing(dentry):
                set_upper_xattr(dentry, _LISTS[type], value, 0)
                if inode.i_mode != mode:
                    change_upper(dentry, IAttr(ATTR_MODE, ia_mode=mode))
        finally:
            dput(dentry)
        forget_cached_acl(inode, type)


class OverSymlink(OverInodes):
    """A symlink."""

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Sleeps.  What the one beneath says."""
        if dentry is None:
            raise ECHILD()
        with as_mounter(dentry):
            return get_link(real_path(dentry).dentry)


def _is_special(mode: int) -> bool:
    return S_ISCHR(mode) or S_ISBLK(mode) or S_ISFIFO(mode) or S_ISSOCK(mode)


def change_upper(dentry: Dentry, attr: IAttr) -> None:
    """Sleeps.  Change the attributes of what was copied up.  The caller holds the overfs inode's
    ``i_rwsem`` and has write access to the upper tree.
    """
    upper, inode = upper_of(dentry), d_inode(dentry)
    real = d_inode(upper)
    if attr.ia_valid & (ATTR_KILL_SUID | ATTR_KILL_SGID):
        attr.ia_valid &= ~ATTR_MODE  # what these make of the mode is found out again
    resizes = attr.ia_valid & ATTR_SIZE
    if resizes:
        get_write_access(real)
    try:
        with as_mounter(dentry), real.i_rwsem:
            notify_change(upper, attr)
            copy_attributes(real, inode)
    finally:
        if resizes:
            put_write_access(real)
    forget_cached_acl(inode, ACL_TYPE_ACCESS)


# -- extended attributes ---------------------------------------------------------------------------


def set_upper_xattr(dentry: Dentry, name: str, value: bytes | None, flags: int) -> None:
    """Sleeps.  Copy up, then set or remove an attribute there.  The caller holds the overfs inode's
    ``i_rwsem`` and has write access to the upper tree.  Source: ``ovl_xattr_set``.
    """
    copy_up(dentry)
    upper = upper_of(dentry)
    with as_mounter(dentry):
        if value is None:
            vfs_removexattr(upper, name)
        else:
            vfs_setxattr(upper, name, value, flags)
    copy_attributes(d_inode(upper), d_inode(dentry))


class OverXattrs(XattrHandler):
    """Attributes of what is beneath."""

    filesystem = "overfs"

    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Sleeps.  From there.  Raises ENODATA."""
        with as_mounter(dentry):
            return vfs_getxattr(real_path(dentry).dentry, self.prefix + name)

    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Sleeps.  Into the upper tree.  Raises EEXIST, ENODATA."""
        if value is None:
            self.get(dentry, inode, name)  # nothing is copied up for ENODATA
        with Writing(dentry):
            set_upper_xattr(dentry, self.prefix + name, value, flags)


class OverUserXattrs(OverXattrs):
    """``user.``"""

    prefix = XATTR_USER_PREFIX


class OverTrustedXattrs(OverXattrs):
    """``trusted.``"""

    prefix = XATTR_TRUSTED_PREFIX


class OverSecurityXattrs(OverXattrs):
    """``security.``"""

    prefix = XATTR_SECURITY_PREFIX


class OverPrivateXattrs(XattrHandler):
    """``trusted.overlay.``: nobody's business."""

    filesystem = "overfs"
    prefix = PRIVATE

    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Never sleeps.  EPERM."""
        raise EPERM()

    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Never sleeps.  EPERM."""
        raise EPERM()
