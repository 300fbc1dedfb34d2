"""Attributes of inodes: reading them, changing them, and the times that change by themselves.

A change is an `IAttr`: which fields (``ia_valid``, a set of ATTR_* bits) get which values.  All
changes go through `notify_change`, under the inode's ``i_rwsem`` exclusive::

    chmod, chown, utime, truncate
        │  an IAttr, i_rwsem
        ▼
    notify_change()          completes it: times, set-user-ID bits that go on chown
        ▼
    i_op.setattr()           setattr_prepare(): may this be?
                             ... the size, the disk ...
                             setattr_copy(): into the inode

A filesystem without a ``setattr`` of its own gets `simple_setattr`.

Reading (`vfs_getattr`) takes no lock: the values need not belong together.
"""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISGID, S_ISREG, S_ISUID, S_IXGRP
from typing import TYPE_CHECKING

import attrs

from vfsim.fs.dentry import DCACHE_OP_REAL, d_inode, d_real, d_real_inode
from vfsim.fs.inode import (
    I_DIRTY_SYNC,
    I_DIRTY_TIME,
    S_APPEND,
    S_IMMUTABLE,
    S_NOATIME,
    S_NOCMTIME,
    S_NOSEC,
    S_SWAPFILE,
    current_time,
)
from vfsim.fs.mount import (
    MNT_NOATIME,
    MNT_NODIRATIME,
    MNT_STRICTATIME,
    mnt_drop_write,
    mnt_get_write_access,
    mnt_want_write,
)
from vfsim.fs.operations import InodeOperations
from vfsim.fs.permission import MAY_WRITE, inode_owner_or_capable, inode_permission
from vfsim.fs.process import CAP_CHOWN, CAP_FSETID, capable, current_cred
from vfsim.fs.super import MS_I_VERSION, MS_LAZYTIME, SB_NOATIME, SB_NODIRATIME, SB_NOSEC
from vfsim.fs.writers import sb_end_write, sb_start_write_trylock
from vfsim.fs.xattr import killpriv, need_killpriv
from vfsim.mm.truncate import truncate_setsize
from vfsim.mm.writeback import mark_inode_dirty
from vfsim.sim.clock import NSEC_PER_SEC
from vfsim.sim.errors import EFBIG, EINVAL, EISDIR, EPERM, ETXTBSY

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount, Path

ATTR_MODE = 1 << 0
ATTR_UID = 1 << 1
ATTR_GID = 1 << 2
ATTR_SIZE = 1 << 3
ATTR_ATIME = 1 << 4
ATTR_MTIME = 1 << 5
ATTR_CTIME = 1 << 6
ATTR_ATIME_SET = 1 << 7
ATTR_MTIME_SET = 1 << 8
ATTR_FORCE = 1 << 9
ATTR_KILL_SUID = 1 << 11
ATTR_KILL_SGID = 1 << 12
ATTR_FILE = 1 << 13
ATTR_KILL_PRIV = 1 << 14
ATTR_OPEN = 1 << 15
ATTR_TIMES_SET = 1 << 16
ATTR_TOUCH = 1 << 17

S_ATIME = 1
S_MTIME = 2
S_CTIME = 4
S_VERSION = 8
"""What `update_time` shall update."""

_S_IALLUGO = 0o7777
_KILL = ATTR_KILL_SUID | ATTR_KILL_SGID
_FIXED = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_TIMES_SET
_DAY = 24 * 3600


@attrs.define(eq=False, slots=True)
class IAttr:
    """A change of attributes (Linux: ``struct iattr``).

    Only the fields that ``ia_valid`` names count.
    """

    ia_valid: int = 0
    ia_mode: int = 0
    ia_uid: int = 0
    ia_gid: int = 0
    ia_size: int = 0
    ia_atime: int = 0
    ia_mtime: int = 0
    ia_ctime: int = 0
    ia_file: File | None = None


@attrs.define(slots=True)
class KStat:
    """What stat(2) tells (Linux: ``struct kstat``).

    Times are nanoseconds, ``st_blocks`` counts 512 bytes.
    """

    st_dev: int = 0
    st_ino: int = 0
    st_mode: int = 0
    st_nlink: int = 0
    st_uid: int = 0
    st_gid: int = 0
    st_rdev: int = 0
    st_size: int = 0
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    st_ctime_ns: int = 0
    st_blksize: int = 0
    st_blocks: int = 0


# -- reading -------------------------------------------------------------------------------------


def generic_fillattr(inode: Inode) -> KStat:
    """Never sleeps.  What the inode itself says; filesystems call it from ``getattr`` and correct
    the result.
    """
    sb = inode.i_sb
    return KStat(
        sb.s_dev, inode.i_ino, inode.i_mode, inode.i_nlink, inode.i_uid, inode.i_gid, inode.i_rdev,
        inode.i_size, inode.i_atime, inode.i_mtime, inode.i_ctime, sb.s_blocksize, inode.i_blocks,
    )  # fmt: skip


_NO_GETATTR = InodeOperations.getattr


def vfs_getattr(path: Path) -> KStat:
    """Sleeps.  The attributes of what ``path`` leads to.  No lock is held.

    Source: ``vfs_getattr``.
    """
    inode = path.dentry.d_inode
    assert inode is not None
    op = inode.i_op
    if type(op).getattr is _NO_GETATTR:
        return generic_fillattr(inode)
    return op.getattr(path.mnt, path.dentry)


# -- changing ------------------------------------------------------------------------------------


def inode_newsize_ok(inode: Inode, size: int) -> None:
    """Never sleeps.  Return if the file may become ``size`` bytes long.

    Raises:
        OSError: EFBIG beyond the filesystem's limit, ETXTBSY for shrinking a swap file.

    The caller holds ``i_rwsem``.  Source: ``inode_newsize_ok``.
    """
    if size > inode.i_size:
        if size > inode.i_sb.s_maxbytes:
            raise EFBIG()
    elif inode.i_flags & S_SWAPFILE:
        raise ETXTBSY()


def setattr_prepare(dentry: Dentry, attr: IAttr) -> None:
    """Sleeps.  Return if the running task may make this change; the first thing every ``setattr``
    does.  File capabilities go here, if the change takes them away.

    Raises:
        OSError: EPERM, as `inode_newsize_ok`, or what removing an attribute says.

    The caller holds ``i_rwsem`` exclusive.  Source: ``setattr_prepare``.
    """
    inode = dentry.d_inode
    assert inode is not None
    valid = attr.ia_valid
    if valid & ATTR_SIZE:
        inode_newsize_ok(inode, attr.ia_size)
    if not valid & ATTR_FORCE:
        _may_change(inode, attr)
    if valid & ATTR_KILL_PRIV:
        killpriv(dentry)


def _may_change(inode: Inode, attr: IAttr) -> None:
    valid = attr.ia_valid
    cred = current_cred()
    if (
        valid & ATTR_UID
        and (cred.uid != inode.i_uid or attr.ia_uid != inode.i_uid)
        and not capable(CAP_CHOWN)
    ):
        raise EPERM()
    if valid & ATTR_GID:
        mine = cred.uid == inode.i_uid and (
            cred.in_group(attr.ia_gid) or attr.ia_gid == inode.i_gid
        )
        if not mine and not capable(CAP_CHOWN):
            raise EPERM()
    if valid & ATTR_MODE:
        if not inode_owner_or_capable(inode):
            raise EPERM()
        gid = attr.ia_gid if valid & ATTR_GID else inode.i_gid
        if not cred.in_group(gid) and not capable(CAP_FSETID):
            attr.ia_mode &= ~S_ISGID
    if valid & (ATTR_MTIME_SET | ATTR_ATIME_SET | ATTR_TIMES_SET) and not inode_owner_or_capable(
        inode
    ):
        raise EPERM()


def setattr_copy(inode: Inode, attr: IAttr) -> None:
    """Never sleeps.  Put everything but the size into the inode, and leave it to the caller to mark
    it dirty.

    The caller holds ``i_rwsem`` exclusive.  Source: ``setattr_copy``.
    """
    valid = attr.ia_valid
    gran = inode.i_sb.s_time_gran
    if valid & ATTR_UID:
        inode.i_uid = attr.ia_uid
    if valid & ATTR_GID:
        inode.i_gid = attr.ia_gid
    if valid & ATTR_ATIME:
        inode.i_atime = attr.ia_atime - attr.ia_atime % gran
    if valid & ATTR_MTIME:
        inode.i_mtime = attr.ia_mtime - attr.ia_mtime % gran
    if valid & ATTR_CTIME:
        inode.i_ctime = attr.ia_ctime - attr.ia_ctime % gran
    if valid & ATTR_MODE:
        mode = attr.ia_mode
        if not current_cred().in_group(inode.i_gid) and not capable(CAP_FSETID):
            mode &= ~S_ISGID
        inode.i_mode = mode


_NO_TRUNCATE = InodeOperations.truncate


def simple_setattr(dentry: Dentry, attr: IAttr) -> None:
    """Sleeps.  ``setattr`` for filesystems that keep everything in the inode and the page cache.

    A size change throws the pages beyond it away and then calls the filesystem's ``truncate``, if
    it has one.

    Raises:
        OSError: as `setattr_prepare`.

    The caller holds ``i_rwsem`` exclusive.  Source: ``simple_setattr`` (``truncate``: kernels up to
    2.6.37).
    """
    inode = dentry.d_inode
    assert inode is not None
    setattr_prepare(dentry, attr)
    if attr.ia_valid & ATTR_SIZE:
        truncate_setsize(inode, attr.ia_size)
        op = inode.i_op
        if type(op).truncate is not _NO_TRUNCATE:
            op.truncate(inode)
    setattr_copy(inode, attr)
    mark_inode_dirty(inode)


_NO_SETATTR = InodeOperations.setattr


def notify_change(dentry: Dentry, attr: IAttr) -> None:
    """Sleeps.  Change attributes of an inode.

    Args:
        dentry: a name of the inode.
        attr: what to change; completed here (times, the mode when set-user-ID bits go).

    Raises:
        OSError: EPERM (immutable, append-only, not the owner), EACCES, EROFS, or what the
            filesystem says.

    The caller holds the inode's ``i_rwsem`` exclusive and write access to the mount.

    Source: ``notify_change``.
    """
    inode = dentry.d_inode
    assert inode is not None
    valid = attr.ia_valid
    fixed = inode.i_flags & (S_IMMUTABLE | S_APPEND)
    if fixed and valid & _FIXED:
        raise EPERM()
    if valid & ATTR_TOUCH:  # "now" may be set by anybody who may write
        if fixed & S_IMMUTABLE:
            raise EPERM()
        if not inode_owner_or_capable(inode):
            inode_permission(inode, MAY_WRITE)
    if valid & ATTR_MODE and is_sxid(attr.ia_mode):
        inode.i_flags &= ~S_NOSEC
    _complete_times(inode, attr)
    if valid & ATTR_KILL_PRIV and not need_killpriv(dentry):
        attr.ia_valid &= ~ATTR_KILL_PRIV
    if valid & _KILL:
        assert not valid & ATTR_MODE, (
            "the mode cannot be set and lose its set-user-ID bits in one change"
        )
        _kill_sxid(inode, attr)
        if not attr.ia_valid & ~_KILL:
            return
    op = inode.i_op
    if type(op).setattr is _NO_SETATTR:
        simple_setattr(dentry, attr)
    else:
        op.setattr(dentry, attr)


def _complete_times(inode: Inode, attr: IAttr) -> None:
    now = current_time(inode)
    attr.ia_ctime = now
    if not attr.ia_valid & ATTR_ATIME_SET:
        attr.ia_atime = now
    if not attr.ia_valid & ATTR_MTIME_SET:
        attr.ia_mtime = now


def _kill_sxid(inode: Inode, attr: IAttr) -> None:
    """Turn "lose the set-user-ID bits" into a new mode, if there are such bits to lose."""
    mode = inode.i_mode
    new = mode
    if attr.ia_valid & ATTR_KILL_SUID:
        new &= ~S_ISUID
    if attr.ia_valid & ATTR_KILL_SGID and mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        new &= ~S_ISGID
    if new != mode:
        attr.ia_valid |= ATTR_MODE
        attr.ia_mode = new


def should_remove_suid(dentry: Dentry) -> int:
    """Never sleeps.  Which ATTR_KILL_* bits a write by the running task implies.

    Source: ``should_remove_suid``.
    """
    inode = dentry.d_inode
    assert inode is not None
    mode = inode.i_mode
    if not mode & (S_ISUID | S_ISGID) or not S_ISREG(mode) or capable(CAP_FSETID):
        return 0
    kill = ATTR_KILL_SUID if mode & S_ISUID else 0
    if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        kill |= ATTR_KILL_SGID
    return kill


def is_sxid(mode: int) -> bool:
    """Never sleeps.  Whether a mode has bits that make who runs the file somebody else."""
    return bool(mode & S_ISUID) or mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP


def dentry_needs_remove_privs(dentry: Dentry) -> int:
    """Sleeps.  Which ATTR_KILL_* bits a write by the running task implies, file capabilities
    included.

    Source: ``dentry_needs_remove_privs``.
    """
    inode = dentry.d_inode
    assert inode is not None
    if inode.i_flags & S_NOSEC:
        return 0
    kill = should_remove_suid(dentry)
    return kill | ATTR_KILL_PRIV if need_killpriv(dentry) else kill


def do_truncate(dentry: Dentry, length: int, time_attrs: int = 0, file: File | None = None) -> None:
    """Sleeps.  Set a file's size.

    Args:
        dentry: a name of the file.
        length: bytes.
        time_attrs: ATTR_* bits to change as well (times, ATTR_OPEN).
        file: the open file it is done through, if any.

    Raises:
        OSError: EINVAL for a negative length, or as `notify_change`.

    Takes the inode's ``i_rwsem`` exclusive; the caller has write access to the mount.

    Source: ``do_truncate``.
    """
    if length < 0:
        raise EINVAL()
    inode = dentry.d_inode
    assert inode is not None
    attr = IAttr(ATTR_SIZE | time_attrs, ia_size=length, ia_file=file)
    if file is not None:
        attr.ia_valid |= ATTR_FILE
    kill = dentry_needs_remove_privs(dentry)
    if kill:
        attr.ia_valid |= kill | ATTR_FORCE
    sem = inode.i_rwsem
    sem.down_write()
    try:
        notify_change(dentry, attr)
    finally:
        sem.up_write()


def vfs_truncate(path: Path, length: int) -> None:
    """Sleeps.  Set the size of what ``path`` leads to.

    Raises:
        OSError: in this order: EISDIR, EINVAL (no regular file), EROFS, EACCES, EPERM
            (append-only), ETXTBSY, or as `do_truncate`.

    Source: ``vfs_truncate``.
    """
    from vfsim.fs.file import get_write_access, put_write_access

    inode = path.dentry.d_inode
    assert inode is not None
    if S_ISDIR(inode.i_mode):
        raise EISDIR()
    if not S_ISREG(inode.i_mode):
        raise EINVAL()
    mnt_want_write(path.mnt)
    try:
        inode_permission(inode, MAY_WRITE)
        if inode.i_flags & S_APPEND:
            raise EPERM()
        real = d_inode(d_real(path.dentry, None, os.O_WRONLY))  # as if it were opened
        get_write_access(real)
        try:
            do_truncate(path.dentry, length)
        finally:
            put_write_access(real)
    finally:
        mnt_drop_write(path.mnt)


def chmod_common(path: Path, mode: int) -> None:
    """Sleeps.  Change the permission bits.  As `notify_change`.  Source: ``chmod_common``."""
    inode = path.dentry.d_inode
    assert inode is not None
    mnt_want_write(path.mnt)
    try:
        with inode.i_rwsem:
            mode = (mode & _S_IALLUGO) | (inode.i_mode & ~_S_IALLUGO)
            notify_change(path.dentry, IAttr(ATTR_MODE | ATTR_CTIME, ia_mode=mode))
    finally:
        mnt_drop_write(path.mnt)


def chown_common(path: Path, uid: int, gid: int) -> None:
    """Sleeps.  Change owner and group; -1 leaves one as it is.  Raises as `notify_change`.

    Set-user-ID and set-group-ID bits and the capabilities of a non-directory are lost.

    Source: ``chown_common``.
    """
    inode = path.dentry.d_inode
    assert inode is not None
    attr = IAttr(ATTR_CTIME, ia_uid=uid, ia_gid=gid)
    if uid != -1:
        attr.ia_valid |= ATTR_UID
    if gid != -1:
        attr.ia_valid |= ATTR_GID
    if not S_ISDIR(inode.i_mode):
        attr.ia_valid |= _KILL | ATTR_KILL_PRIV
    mnt_want_write(path.mnt)
    try:
        with inode.i_rwsem:
            notify_change(path.dentry, attr)
    finally:
        mnt_drop_write(path.mnt)


def utimes_common(path: Path, atime: int | None, mtime: int | None) -> None:
    """Sleeps.  Set access and modification time, in nanoseconds; both None mean now.

    One None leaves that time alone.  Who is not the owner may only say "now", and only with write
    permission.  Raises as `notify_change`.  Source: ``utimes_common``.
    """
    inode = path.dentry.d_inode
    assert inode is not None
    attr = IAttr(ATTR_CTIME)
    if atime is None and mtime is None:
        attr.ia_valid |= ATTR_ATIME | ATTR_MTIME | ATTR_TOUCH
    else:
        attr.ia_valid |= ATTR_TIMES_SET
        if atime is not None:
            attr.ia_valid |= ATTR_ATIME | ATTR_ATIME_SET
            attr.ia_atime = atime
        if mtime is not None:
            attr.ia_valid |= ATTR_MTIME | ATTR_MTIME_SET
            attr.ia_mtime = mtime
    mnt_want_write(path.mnt)
    try:
        with inode.i_rwsem:
            notify_change(path.dentry, attr)
    finally:
        mnt_drop_write(path.mnt)


# -- times that change by themselves -------------------------------------------------------------

_NO_UPDATE_TIME = InodeOperations.update_time


def generic_update_time(inode: Inode, now: int, flags: int) -> None:
    """Sleeps.  Set the times that ``flags`` (S_ATIME ...) names and mark the inode dirty; on a
    superblock with MS_LAZYTIME they wait until something else is written, or for a sync.

    Source: ``generic_update_time``.
    """
    if flags & S_ATIME:
        inode.i_atime = now
    if flags & S_VERSION:
        inode.i_version += 1
    if flags & S_CTIME:
        inode.i_ctime = now
    if flags & S_MTIME:
        inode.i_mtime = now
    lazy = inode.i_sb.s_flags & MS_LAZYTIME and not flags & S_VERSION
    mark_inode_dirty(inode, I_DIRTY_TIME if lazy else I_DIRTY_TIME | I_DIRTY_SYNC)


def update_time(inode: Inode, now: int, flags: int) -> None:
    """Sleeps.  The filesystem's ``update_time``, or `generic_update_time`.

    Source: ``update_time``.
    """
    op = inode.i_op
    if type(op).update_time is _NO_UPDATE_TIME:
        generic_update_time(inode, now, flags)
    else:
        op.update_time(inode, now, flags)


def relatime_need_update(inode: Inode, now: int) -> bool:
    """Never sleeps.  Whether the access time is not after the last change, or a day old.

    Source: ``relatime_need_update``.
    """
    atime = inode.i_atime
    if inode.i_mtime >= atime or inode.i_ctime >= atime:
        return True
    return now // NSEC_PER_SEC - atime // NSEC_PER_SEC >= _DAY


def atime_needs_update(mnt: Mount, inode: Inode) -> bool:
    """Never sleeps.  Whether reading it moves the access time, by the rule of ``relatime`` or, with
    MNT_STRICTATIME, always; unless that is switched off.  Source: ``atime_needs_update``.
    """
    flags = inode.i_sb.s_flags
    strict = mnt.mnt_flags & MNT_STRICTATIME
    if inode.i_flags & S_NOATIME or flags & SB_NOATIME:
        return False
    if mnt.mnt_flags & MNT_NOATIME and not strict:
        return False
    if (flags & SB_NODIRATIME or mnt.mnt_flags & MNT_NODIRATIME) and S_ISDIR(inode.i_mode):
        return False
    now = current_time(inode)
    return now != inode.i_atime and bool(strict or relatime_need_update(inode, now))


def update_ovl_inode_times(dentry: Dentry, inode: Inode) -> None:
    """Never sleeps.  The inode of a stacking filesystem learns when its file was written to.

    Source: ``update_ovl_inode_times``.
    """
    real = d_real_inode(dentry)
    if real is not None and real is not inode:
        inode.i_mtime, inode.i_ctime = real.i_mtime, real.i_ctime


def touch_atime(mnt: Mount, dentry: Dentry) -> None:
    """Sleeps.  Somebody read it: move the access time, if that is due (`atime_needs_update`).

    A mount that cannot be written right now, or is frozen, is left alone.

    Source: ``touch_atime``.
    """
    inode = dentry.d_inode
    assert inode is not None
    if dentry.d_flags & DCACHE_OP_REAL:
        update_ovl_inode_times(dentry, inode)
    if not atime_needs_update(mnt, inode):
        return
    sb = inode.i_sb
    if not sb_start_write_trylock(sb):
        return
    try:
        mnt_get_write_access(mnt)
    except OSError:
        sb_end_write(sb)
        return
    update_time(inode, current_time(inode), S_ATIME)
    mnt_drop_write(mnt)


def file_update_time(file: File) -> None:
    """Sleeps.  Somebody is about to write: move modification and change time.

    The caller holds ``i_rwsem`` exclusive and write access.  Source: ``file_update_time``.
    """
    inode = file.f_inode
    if inode.i_flags & S_NOCMTIME:
        return
    now = current_time(inode)
    flags = (S_MTIME if inode.i_mtime != now else 0) | (S_CTIME if inode.i_ctime != now else 0)
    if inode.i_sb.s_flags & MS_I_VERSION:
        flags |= S_VERSION
    if flags:
        update_time(inode, now, flags)


def file_remove_privs(file: File) -> None:
    """Sleeps.  A write takes file capabilities away, and set-user-ID and set-group-ID bits unless
    the writer has CAP_FSETID.

    A file that has neither is marked (S_NOSEC), where the filesystem allows it, and not asked
    about again.  The caller holds ``i_rwsem`` exclusive.  Source: ``file_remove_privs``.
    """
    from vfsim.fs.file import file_dentry

    inode = file.f_inode
    if inode.i_flags & S_NOSEC:
        return
    dentry = file_dentry(file)
    kill = dentry_needs_remove_privs(dentry)
    if kill:
        notify_change(dentry, IAttr(kill | ATTR_FORCE))
    if inode.i_sb.s_flags & SB_NOSEC and not is_sxid(inode.i_mode):
        inode.i_flags |= S_NOSEC
