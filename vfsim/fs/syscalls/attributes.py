"""System calls on attributes: stat and its relatives, and what changes them."""

from __future__ import annotations

from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

import attrs

from vfsim.fs.attr import (
    ATTR_CTIME,
    ATTR_MTIME,
    KStat,
    chmod_common,
    chown_common,
    do_truncate,
    utimes_common,
    vfs_getattr,
    vfs_truncate,
)
from vfsim.fs.dcache import d_inode
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.fiemap import FIEMAP_MAX_OFFSET, FiemapExtentInfo, do_fiemap
from vfsim.fs.file import FMODE_WRITE
from vfsim.fs.inode import S_APPEND
from vfsim.fs.lookup import LOOKUP_FOLLOW
from vfsim.fs.mount import Path, mnt_is_readonly
from vfsim.fs.namei import AT_FDCWD
from vfsim.fs.permission import MAY_ACCESS, MAY_WRITE, inode_permission
from vfsim.fs.process import ALL_CAPS, NO_CAPS, current_process
from vfsim.fs.syscalls.entry import Part, syscall
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.sim.errors import EINVAL, EPERM, EROFS

if TYPE_CHECKING:
    from collections.abc import Callable


def check_access(at: Callable[..., None], path: str, mode: int, dfd: int) -> None:
    """Sleeps.  access(2), as the real user.

    Args:
        at: `Part._at`, which does something with what a path leads to.
    """
    if mode & ~7:
        raise EINVAL()
    process = current_process()
    cred = process.cred
    caps = ALL_CAPS if cred.real_uid == 0 else NO_CAPS
    process.cred = attrs.evolve(cred, uid=cred.real_uid, gid=cred.real_gid, caps=caps)
    try:
        at(path, LOOKUP_FOLLOW, _access, mode, dfd=dfd)
    finally:
        process.cred = cred


class AttributeCalls(Part):
    """What is asked of an inode, by path or descriptor."""

    __slots__ = ()

    @syscall
    def stat(self, path: str) -> KStat:
        """Sleeps.  The attributes of what ``path`` leads to, links followed."""
        return self._at(path, LOOKUP_FOLLOW, vfs_getattr)

    @syscall
    def lstat(self, path: str) -> KStat:
        """Sleeps.  The attributes of ``path``, of the link itself if it is one."""
        return self._at(path, 0, vfs_getattr)

    @syscall
    def fstat(self, fd: int) -> KStat:
        """Sleeps.  The attributes of an open file.  Raises EBADF."""
        return self._of_any(fd, vfs_getattr)

    @syscall
    def access(self, path: str, mode: int) -> None:
        """Sleeps.  Return if the *real* user may do ``mode`` (os.R_OK, W_OK, X_OK; F_OK: it
        exists).

        Raises:
            OSError: EINVAL, EACCES, EROFS, or what the walk says.
        """
        check_access(self._at, path, mode, AT_FDCWD)

    @syscall
    def chmod(self, path: str, mode: int) -> None:
        """Sleeps.  Change the permission bits.  Raises EPERM, EROFS, or what the walk says."""
        self._at(path, LOOKUP_FOLLOW, chmod_common, mode)

    @syscall
    def fchmod(self, fd: int, mode: int) -> None:
        """Sleeps.  Change the permission bits of an open file.  Raises EBADF, EPERM, EROFS."""
        self._of(fd, chmod_common, mode)

    @syscall
    def chown(self, path: str, uid: int, gid: int) -> None:
        """Sleeps.  Change owner and group; -1 leaves one as it is.

        Raises EPERM, EROFS, or what the walk says.
        """
        self._at(path, LOOKUP_FOLLOW, chown_common, uid, gid)

    @syscall
    def lchown(self, path: str, uid: int, gid: int) -> None:
        """Sleeps.  As `chown`, but of a link itself."""
        self._at(path, 0, chown_common, uid, gid)

    @syscall
    def fchown(self, fd: int, uid: int, gid: int) -> None:
        """Sleeps.  Change owner and group of an open file.  Raises EBADF, EPERM, EROFS."""
        self._of(fd, chown_common, uid, gid)

    @syscall
    def utime(self, path: str, atime_ns: int | None = None, mtime_ns: int | None = None) -> None:
        """Sleeps.  Set the times, in nanoseconds; without any, to now.

        Raises EPERM, EACCES, EROFS.
        """
        self._at(path, LOOKUP_FOLLOW, utimes_common, atime_ns, mtime_ns)

    @syscall
    def truncate(self, path: str, length: int) -> None:
        """Sleeps.  Set a file's size.

        Raises EINVAL (negative) before anything about the path; as `vfs_truncate`.
        """
        if length < 0:
            raise EINVAL()
        self._at(path, LOOKUP_FOLLOW, vfs_truncate, length)

    @syscall
    def ftruncate(self, fd: int, length: int) -> None:
        """Sleeps.  Set the size of a file open for writing.

        Raises:
            OSError: EINVAL (negative, no regular file, not open for writing), EBADF, EPERM
                (append-only), EFBIG ...
        """
        if length < 0:
            raise EINVAL()
        file, how = fdget(fd)
        try:
            inode = d_inode(file.f_path.dentry)
            if not S_ISREG(inode.i_mode) or not file.f_mode & FMODE_WRITE:
                raise EINVAL()
            if inode.i_flags & S_APPEND:
                raise EPERM()
            sb_start_write(inode.i_sb)
            try:
                do_truncate(file.f_path.dentry, length, ATTR_MTIME | ATTR_CTIME, file)
            finally:
                sb_end_write(inode.i_sb)
        finally:
            fdput(file, how)

    @syscall
    def fiemap(
        self,
        fd: int,
        start: int = 0,
        length: int = FIEMAP_MAX_OFFSET,
        flags: int = 0,
        count: int = 32,
    ) -> FiemapExtentInfo:
        """Sleeps.  Where the bytes of an open file lie (Linux: ``ioctl(FS_IOC_FIEMAP)``).

        Raises:
            OSError: EBADF, else as `vfsim.fs.fiemap.do_fiemap`.
        """
        file, how = fdget(fd)
        try:
            return do_fiemap(file.f_inode, start, length, flags, count)
        finally:
            fdput(file, how)


def _on_disk(mode: int) -> bool:
    """Whether writing such a file needs a writable filesystem: not so for devices, FIFOs and
    sockets.
    """
    return S_ISREG(mode) or S_ISDIR(mode) or S_ISLNK(mode)


def _access(path: Path, mode: int) -> None:
    inode = path.dentry.d_inode
    assert inode is not None
    inode_permission(inode, mode | MAY_ACCESS)
    if mode & MAY_WRITE and _on_disk(inode.i_mode) and mnt_is_readonly(path.mnt):
        raise EROFS()
