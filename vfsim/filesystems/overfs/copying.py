"""Copy-up: what is about to change, and is only in the lower tree, gets a copy in the upper one.

The directories above come first, from the top.  The copy is made ready in the work directory, under
a name that nobody knows, and then renamed to its place: others see the whole of it, or nothing::

    lock_rename(workdir, upper directory)
        somebody else was faster?  then nothing is left to do
        a new file or directory in workdir; contents, extended attributes, owner, mode, times
        rename it into the upper directory, whose times stay as they were
        from here on OverEntry.upper is it

A file that was removed while somebody has it open has no place any more.  Its copy is unlinked in
the work directory, so that it does not come back to life under its old name.

No lock of overfs is needed, and any may be held: copy-ups of one name take turns by the lock of the
work directory, and it cannot be renamed before it is up.  The counterpart of
``fs/overlayfs/copy_up.c`` of v4.10.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from vfsim.filesystems.overfs.inodes import set_upper
from vfsim.filesystems.overfs.layers import (
    PRIVATE,
    OverInfo,
    OverInode,
    as_mounter,
    entry_of,
    info_of,
    open_real,
    upper_of,
)
from vfsim.fs.attr import (
    ATTR_ATIME,
    ATTR_ATIME_SET,
    ATTR_GID,
    ATTR_MODE,
    ATTR_MTIME,
    ATTR_MTIME_SET,
    ATTR_UID,
    IAttr,
    KStat,
    notify_change,
    vfs_getattr,
)
from vfsim.fs.dcache import Dentry, d_inode, dget, dget_parent, dput
from vfsim.fs.directory import (
    lock_rename,
    unlock_rename,
    vfs_create,
    vfs_mkdir,
    vfs_mknod,
    vfs_rename,
    vfs_rmdir,
    vfs_symlink,
    vfs_unlink,
)
from vfsim.fs.file import fput
from vfsim.fs.inode import I_MUTEX_PARENT
from vfsim.fs.lookup import lookup_one_len
from vfsim.fs.mount import Path
from vfsim.fs.read_write import kernel_write, vfs_read
from vfsim.fs.xattr import vfs_getxattr, vfs_listxattr, vfs_setxattr
from vfsim.sim.errors import EIO

Make = Callable[[Dentry, Dentry], None]
"""Makes something in a directory, which is locked: (directory, negative dentry)."""

CHUNK = 1 << 16


def copy_up(dentry: Dentry, truncate: bool = False) -> None:
    """Sleeps.  Bring a name, and the directories above, to the upper tree, unless they are there.

    Args:
        truncate: the contents are about to be thrown away: do not copy them.

    Raises:
        OSError: what the two trees say.

    The caller has write access to the upper tree (`Writing`).  Source: ``ovl_copy_up_flags``.
    """
    entry = entry_of(dentry)
    with as_mounter(dentry):
        while entry.upper is None:
            if entry.removed:
                _copy_up_nameless(dentry, truncate)
                return
            at, parent = _topmost(dentry)
            try:
                _copy_up_one(at, parent, truncate and at is dentry)
            finally:
                dput(parent)
                dput(at)


def _topmost(dentry: Dentry) -> tuple[Dentry, Dentry]:
    """Sleeps.  What is to be copied up first, and its directory, with references."""
    at, parent = dget(dentry), dget_parent(dentry)
    while entry_of(parent).upper is None:
        dput(at)
        at, parent = parent, dget_parent(parent)
    return at, parent


def _copy_up_one(dentry: Dentry, parent: Dentry, truncate: bool) -> None:
    """Sleeps.  One name whose directory is in the upper tree.  Source: ``ovl_copy_up_one``."""
    info, entry = info_of(dentry.d_sb), entry_of(dentry)
    upperdir, workdir = upper_of(parent), info.workdir
    trap = lock_rename(workdir, upperdir)
    try:
        if entry.upper is not None or entry.removed:
            return
        if trap is not None:
            raise EIO()
        before = vfs_getattr(Path(info.upper_mnt, upperdir))
        made = _copy_to_work(info, dentry, truncate)
        try:
            place = lookup_one_len(dentry.d_name, upperdir)
            try:
                vfs_rename(d_inode(workdir), made, d_inode(upperdir), place)
            finally:
                dput(place)
        except OSError:
            clean_up(workdir, made)
            dput(made)
            raise
        _publish(dentry, made)
        set_times(upperdir, before)
    finally:
        unlock_rename(workdir, upperdir)


def _copy_up_nameless(dentry: Dentry, truncate: bool) -> None:
    """Sleeps.  What was removed: a copy without a name, which goes with its last user."""
    info = info_of(dentry.d_sb)
    sem = d_inode(info.workdir).i_rwsem
    sem.down_write(I_MUTEX_PARENT)
    try:
        if entry_of(dentry).upper is None:
            made = _copy_to_work(info, dentry, truncate)
            clean_up(info.workdir, made)
            _publish(dentry, made)
    finally:
        sem.up_write()


def _publish(dentry: Dentry, upper: Dentry) -> None:
    """Never sleeps.  The copy is what counts from now on; the reference on it becomes ours."""
    inode = d_inode(dentry)
    assert isinstance(inode, OverInode)
    set_upper(inode, d_inode(upper))
    entry_of(dentry).upper = upper


# -- in the work directory, whose lock is held -----------------------------------------------------


def new_name(info: OverInfo) -> Dentry:
    """Sleeps.  A negative dentry in the work directory.  Source: ``ovl_lookup_temp``."""
    info.temps += 1
    dentry = lookup_one_len(f"#{info.temps:x}", info.workdir)
    if dentry.d_inode is not None:
        dput(dentry)
        raise EIO()
    return dentry


def make_real(dir: Dentry, dentry: Dentry, mode: int, rdev: int, target: str) -> None:
    """Sleeps.  Make a file of any type in a directory beneath, which is locked.

    Source: ``ovl_create_real``.
    """
    inode = d_inode(dir)
    if S_ISREG(mode):
        vfs_create(inode, dentry, mode)
    elif S_ISDIR(mode):
        vfs_mkdir(inode, dentry, mode)
    elif S_ISLNK(mode):
        vfs_symlink(inode, dentry, target)
    else:
        vfs_mknod(inode, dentry, mode, rdev)


def clean_up(dir: Dentry, dentry: Dentry) -> None:
    """Sleeps.  Remove what the caller has a reference on; a directory must be empty.  The inode
    lives as long as the dentry.  Source: ``ovl_cleanup``.
    """
    dget(dentry)
    try:
        if S_ISDIR(d_inode(dentry).i_mode):
            vfs_rmdir(d_inode(dir), dentry)
        else:
            vfs_unlink(d_inode(dir), dentry)
    finally:
        dput(dentry)


@contextmanager
def made_ready(info: OverInfo, make: Make) -> Iterator[Dentry]:
    """Sleeps.  Something new in the work directory, which is locked: what is left of it if the
    caller fails is removed, else the caller has a reference.
    """
    made = new_name(info)
    try:
        make(info.workdir, made)
        try:
            yield made
        except OSError:
            clean_up(info.workdir, made)
            raise
    except OSError:
        dput(made)
        raise


def _copy_to_work(info: OverInfo, dentry: Dentry, truncate: bool) -> Dentry:
    """Sleeps.  A copy in the work directory, complete, with a reference.

    Source: ``ovl_copy_up_locked``.
    """
    lower = entry_of(dentry).lower
    assert lower is not None
    stat = vfs_getattr(Path(info.lower_mnt, lower))
    target = get_link(lower) if S_ISLNK(stat.st_mode) else ""

    def make(workdir: Dentry, made: Dentry) -> None:
        make_real(workdir, made, S_IFMT(stat.st_mode), stat.st_rdev, target)

    with made_ready(info, make) as made:
        if S_ISREG(stat.st_mode) and not truncate:
            _copy_data(Path(info.lower_mnt, lower), Path(info.upper_mnt, made), stat.st_size)
        _copy_xattrs(lower, made)
        with d_inode(made).i_rwsem:
            _set_attributes(made, stat)
    return made


def get_link(dentry: Dentry) -> str:
    """Sleeps.  The target of a symlink beneath.  Source: ``vfs_get_link``."""
    inode = d_inode(dentry)
    return inode.i_link if inode.i_link is not None else inode.i_op.get_link(dentry, inode)


def _copy_data(old: Path, new: Path, size: int) -> None:
    """Sleeps.  The contents.  The write level is held, outside of the directories' locks, so it is
    not taken again.
    """
    if not size:
        return
    source = open_real(old, os.O_RDONLY)
    try:
        copy = open_real(new, os.O_WRONLY)
        try:
            at = 0
            while at < size:
                data, _ = vfs_read(source, min(CHUNK, size - at), at)
                if not data:
                    raise EIO()
                written, at = kernel_write(copy, data, at)
                if not written:
                    raise EIO()
        finally:
            fput(copy)
    finally:
        fput(source)


def _copy_xattrs(old: Dentry, new: Dentry) -> None:
    """Sleeps.  The extended attributes, but not overfs's own."""
    for name in vfs_listxattr(old):
        if not name.startswith(PRIVATE):
            vfs_setxattr(new, name, vfs_getxattr(old, name), 0)


def _set_attributes(dentry: Dentry, stat: KStat) -> None:
    """Sleeps.  Mode, owner, times.  The caller holds ``i_rwsem``.  Source: ``ovl_set_attr``."""
    if not S_ISLNK(stat.st_mode):
        notify_change(dentry, IAttr(ATTR_MODE, ia_mode=stat.st_mode))
    owner = IAttr(ATTR_UID | ATTR_GID, ia_uid=stat.st_uid, ia_gid=stat.st_gid)
    notify_change(dentry, owner)
    set_times(dentry, stat)


def set_times(dentry: Dentry, stat: KStat) -> None:
    """Sleeps.  The times of access and modification.  The caller holds ``i_rwsem``."""
    valid = ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_SET | ATTR_MTIME_SET
    notify_change(dentry, IAttr(valid, ia_atime=stat.st_atime_ns, ia_mtime=stat.st_mtime_ns))
