"""Directory operations by path: find the parents, lock them, look the names up, do it.

What the system calls on names call; what is done in the end, and the locking, is told in
`vfsim.fs.directory`.  All of them start over with nothing from the cache after ESTALE.

Source: ``fs/namei.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK
from typing import TYPE_CHECKING

from vfsim.fs.dcache import d_is_dir, dput
from vfsim.fs.directory import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    lock_rename,
    unlock_rename,
    vfs_create,
    vfs_link,
    vfs_mkdir,
    vfs_mknod,
    vfs_rename,
    vfs_rmdir,
    vfs_symlink,
    vfs_unlink,
)
from vfsim.fs.inode import I_MUTEX_PARENT, ihold, iput
from vfsim.fs.lookup import LOOKUP_FOLLOW, LOOKUP_RENAME_TARGET, lookup_hash
from vfsim.fs.mount import mnt_drop_write, mnt_want_write, path_put
from vfsim.fs.namei import (
    AT_FDCWD,
    LAST_DOT,
    LAST_DOTDOT,
    LAST_NORM,
    LastName,
    done_path_create,
    filename_create,
    filename_parentat,
    getname,
    retry_estale,
    user_path,
)
from vfsim.fs.permission import without_umask
from vfsim.fs.process import CAP_MKNOD, capable
from vfsim.sim.errors import EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EXDEV

if TYPE_CHECKING:
    from vfsim.fs.dentry import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Path


@retry_estale
def do_mkdir(name: str, mode: int, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  mkdir(2).  Raises as `filename_create` and `vfs_mkdir`."""
    path, dentry = filename_create(name, True, reval, dfd)
    try:
        dir = path.dentry.d_inode
        assert dir is not None
        vfs_mkdir(dir, dentry, without_umask(dir, mode))
    finally:
        done_path_create(path, dentry)


@retry_estale
def do_mknod(name: str, mode: int, dev: int, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  mknod(2): a regular file, a device, a FIFO or a socket.

    Raises:
        OSError: EPERM for a directory, EINVAL for another type, else as `filename_create`,
            `vfs_create`, `vfs_mknod`.
    """
    if S_ISDIR(mode):
        raise EPERM()
    regular = not mode & 0o170000 or S_ISREG(mode)
    if not (regular or S_ISCHR(mode) or S_ISBLK(mode) or S_ISFIFO(mode) or S_ISSOCK(mode)):
        raise EINVAL()
    path, dentry = filename_create(name, False, reval, dfd)
    try:
        dir = path.dentry.d_inode
        assert dir is not None
        mode = without_umask(dir, mode)
        if regular:
            vfs_create(dir, dentry, mode, True)
        else:
            vfs_mknod(dir, dentry, mode, dev if S_ISCHR(mode) or S_ISBLK(mode) else 0)
    finally:
        done_path_create(path, dentry)


@retry_estale
def do_symlink(target: str, name: str, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  symlink(2).  Raises ENOENT, ENAMETOOLONG about ``target``, else as `vfs_symlink`."""
    getname(target)
    path, dentry = filename_create(name, False, reval, dfd)
    try:
        assert path.dentry.d_inode is not None
        vfs_symlink(path.dentry.d_inode, dentry, target)
    finally:
        done_path_create(path, dentry)


@retry_estale
def do_link(
    old: str,
    new: str,
    follow: bool = False,
    old_dfd: int = AT_FDCWD,
    new_dfd: int = AT_FDCWD,
    *,
    reval: int = 0,
) -> None:
    """Sleeps.  link(2): the name ``new`` for the inode of ``old``; a symbolic link itself unless
    ``follow``.

    Raises:
        OSError: EXDEV across mounts, else as `user_path`, `filename_create`, `vfs_link`.
    """
    old_path = user_path(old, reval | (LOOKUP_FOLLOW if follow else 0), old_dfd)
    try:
        _link_to(old_path, new, new_dfd, reval)
    finally:
        path_put(old_path)


@retry_estale
def do_link_file(old: Path, new: str, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  linkat(2) with AT_EMPTY_PATH: the name ``new`` for a file that is open, with a name
    or (O_TMPFILE) without.

    Args:
        old: the open file's path.

    Raises as `do_link`; the caller has CAP_DAC_READ_SEARCH.
    """
    _link_to(old, new, dfd, reval)


def _link_to(old: Path, new: str, dfd: int, reval: int) -> None:
    path, dentry = filename_create(new, False, reval, dfd)
    try:
        if old.mnt is not path.mnt:
            raise EXDEV()
        assert path.dentry.d_inode is not None
        vfs_link(old.dentry, path.dentry.d_inode, dentry)
    finally:
        done_path_create(path, dentry)


@retry_estale
def do_unlink(name: str, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  unlink(2).

    Raises:
        OSError: EISDIR for "." and "/", and with a trailing slash ENOENT, EISDIR or ENOTDIR; else
            as `vfs_unlink`.

    Source: ``do_unlinkat``.
    """
    last = filename_parentat(name, reval, dfd)
    path = last.parent
    victim: Inode | None = None
    try:
        if last.type != LAST_NORM:
            raise EISDIR()
        mnt_want_write(path.mnt)
        try:
            dir = path.dentry.d_inode
            assert dir is not None
            sem = dir.i_rwsem
            sem.down_write(I_MUTEX_PARENT)
            try:
                dentry = lookup_hash(path.dentry, last.name, reval)
                try:
                    inode = dentry.d_inode
                    if inode is None:
                        raise ENOENT()
                    if last.slash:
                        raise EISDIR() if S_ISDIR(inode.i_mode) else ENOTDIR()
                    ihold(inode)
                    victim = inode
                    vfs_unlink(dir, dentry)
                finally:
                    dput(dentry)
            finally:
                sem.up_write()
                if victim is not None:
                    iput(victim)  # may truncate: not under the directory's lock
        finally:
            mnt_drop_write(path.mnt)
    finally:
        path_put(path)


@retry_estale
def do_rmdir(name: str, dfd: int = AT_FDCWD, *, reval: int = 0) -> None:
    """Sleeps.  rmdir(2).

    Raises:
        OSError: ENOTEMPTY for "..", EINVAL for ".", EBUSY for "/", ENOENT, else as `vfs_rmdir`.

    Source: ``do_rmdir``.
    """
    last = filename_parentat(name, reval, dfd)
    path = last.parent
    try:
        if last.type != LAST_NORM:
            raise {LAST_DOTDOT: ENOTEMPTY, LAST_DOT: EINVAL}.get(last.type, EBUSY)()
        mnt_want_write(path.mnt)
        try:
            dir = path.dentry.d_inode
            assert dir is not None
            sem = dir.i_rwsem
            sem.down_write(I_MUTEX_PARENT)
            try:
                dentry = lookup_hash(path.dentry, last.name, reval)
                try:
                    if dentry.d_inode is None:
                        raise ENOENT()
                    vfs_rmdir(dir, dentry)
                finally:
                    dput(dentry)
            finally:
                sem.up_write()
        finally:
            mnt_drop_write(path.mnt)
    finally:
        path_put(path)


@retry_estale
def do_rename(
    old: str,
    new: str,
    flags: int = 0,
    old_dfd: int = AT_FDCWD,
    new_dfd: int = AT_FDCWD,
    *,
    reval: int = 0,
) -> None:
    """Sleeps.  renameat2(2).

    Raises:
        OSError: in this order: EINVAL (bad flags), EPERM (a whiteout without CAP_MKNOD), what the
            walks say, EXDEV, EBUSY ("." or "/"; EEXIST for ``new`` with RENAME_NOREPLACE), EROFS,
            ENOENT, EEXIST, ENOTDIR (trailing slash), EINVAL (into itself), ENOTEMPTY (onto its own
            ancestor; EINVAL with RENAME_EXCHANGE), else as `vfs_rename`.

    Source: ``sys_renameat2``.
    """
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise EINVAL()
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise EINVAL()
    if flags & RENAME_WHITEOUT and not capable(CAP_MKNOD):
        raise EPERM()
    old_last = filename_parentat(old, reval, old_dfd)
    try:
        new_last = filename_parentat(new, reval, new_dfd)
        try:
            _rename_between(old_last, new_last, flags, reval)
        finally:
            path_put(new_last.parent)
    finally:
        path_put(old_last.parent)


def _rename_between(old: LastName, new: LastName, flags: int, reval: int) -> None:
    """The parents are found: lock them, look both names up, rename."""
    if old.parent.mnt is not new.parent.mnt:
        raise EXDEV()
    if old.type != LAST_NORM:
        raise EBUSY()
    if new.type != LAST_NORM:
        raise EEXIST() if flags & RENAME_NOREPLACE else EBUSY()
    mnt = old.parent.mnt
    mnt_want_write(mnt)
    try:
        old_parent, new_parent = old.parent.dentry, new.parent.dentry
        trap = lock_rename(new_parent, old_parent)
        try:
            old_dentry = lookup_hash(old_parent, old.name, reval)
            try:
                if old_dentry.d_inode is None:
                    raise ENOENT()
                intent = 0 if flags & RENAME_EXCHANGE else LOOKUP_RENAME_TARGET
                new_dentry = lookup_hash(new_parent, new.name, intent | reval)
                try:
                    _check_names(old, old_dentry, new, new_dentry, trap, flags)
                    assert old_parent.d_inode is not None and new_parent.d_inode is not None
                    vfs_rename(
                        old_parent.d_inode, old_dentry, new_parent.d_inode, new_dentry, flags
                    )
                finally:
                    dput(new_dentry)
            finally:
                dput(old_dentry)
        finally:
            unlock_rename(new_parent, old_parent)
    finally:
        mnt_drop_write(mnt)


def _check_names(
    old: LastName,
    old_dentry: Dentry,
    new: LastName,
    new_dentry: Dentry,
    trap: Dentry | None,
    flags: int,
) -> None:
    """What can be said about a rename by looking at the two dentries, in Linux's order."""
    exchange = flags & RENAME_EXCHANGE
    if flags & RENAME_NOREPLACE and new_dentry.d_inode is not None:
        raise EEXIST()
    if exchange:
        if new_dentry.d_inode is None:
            raise ENOENT()
        if not d_is_dir(new_dentry) and new.slash:
            raise ENOTDIR()
    if not d_is_dir(old_dentry) and (old.slash or (new.slash and not exchange)):
        raise ENOTDIR()
    if old_dentry is trap:
        raise EINVAL()
    if new_dentry is trap:
        raise EINVAL() if exchange else ENOTEMPTY()
