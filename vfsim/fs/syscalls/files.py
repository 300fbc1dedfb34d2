"""System calls on open files: what a process does with a descriptor.

Those that move the file position hold ``f_pos_lock`` while they run (`fdget_pos`).
"""

from __future__ import annotations

import os

from vfsim.fs.fdtable import fdget, fdget_pos, fdget_raw, fdput, fdput_pos, filp_close
from vfsim.fs.file import FMODE_PATH, FMODE_PREAD, FMODE_PWRITE, O_NOATIME
from vfsim.fs.inode import S_APPEND
from vfsim.fs.namei import AT_FDCWD
from vfsim.fs.open import do_filp_open
from vfsim.fs.operations import FileOperations
from vfsim.fs.permission import inode_owner_or_capable
from vfsim.fs.process import current_process
from vfsim.fs.read_write import getdents, vfs_fsync_range, vfs_llseek, vfs_read, vfs_write
from vfsim.fs.syscalls.entry import Buffer, Part, as_bytes, syscall
from vfsim.sim.errors import EBADF, EINVAL, EPERM, ESPIPE

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL = range(5)
_PATH_COMMANDS = (F_DUPFD, F_GETFD, F_SETFD, F_GETFL)
_SETFL = os.O_APPEND | os.O_NONBLOCK | getattr(os, "O_DIRECT", 0) | O_NOATIME
_WHENCE_MAX = 4


def do_sys_open(dfd: int, path: str, flags: int, mode: int) -> int:
    """Sleeps.  Open a path and put the file into the table.  Source: ``do_sys_open``."""
    files = current_process().files
    fd = files.reserve()
    try:
        file = do_filp_open(path, flags, mode, dfd)
    except Exception:
        files.unreserve(fd)
        raise
    files.install(fd, file)
    return fd


class FileCalls(Part):
    """What is asked of an open file."""

    __slots__ = ()

    @syscall
    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Sleeps.  Open ``path`` and return the lowest free descriptor.

        Raises:
            OSError: EMFILE before anything about the path; then as `vfsim.fs.open.do_filp_open`.
        """
        return do_sys_open(AT_FDCWD, path, flags, mode)

    @syscall
    def close(self, fd: int) -> None:
        """Sleeps.  Give a descriptor up; the file is released with its last one.

        Raises:
            OSError: EBADF, or what the filesystem's ``flush`` says (the descriptor is gone all the
                same).
        """
        filp_close(current_process().files.remove(fd))

    @syscall
    def dup(self, fd: int) -> int:
        """Never sleeps.  Another descriptor of the same open file.  Raises EBADF, EMFILE."""
        return current_process().files.dup(fd)

    @syscall
    def dup2(self, fd: int, new: int) -> int:
        """Sleeps.  Make ``new`` a descriptor of the same open file, closing what it was.

        Raises EBADF.
        """
        return current_process().files.dup2(fd, new)

    @syscall
    def read(self, fd: int, count: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from the file position on.  Raises as `vfs_read`."""
        file, how = fdget_pos(fd)
        try:
            data, file.f_pos = vfs_read(file, count, file.f_pos)
            return data
        finally:
            fdput_pos(file, how)

    @syscall
    def write(self, fd: int, data: Buffer) -> int:
        """Sleeps.  Write at the file position (at the end with O_APPEND); returns how much.

        Raises as `vfs_write`.
        """
        data = as_bytes(data)
        file, how = fdget_pos(fd)
        try:
            written, file.f_pos = vfs_write(file, data, file.f_pos)
            return written
        finally:
            fdput_pos(file, how)

    @syscall
    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from ``offset`` on.

        Raises EINVAL (negative), ESPIPE, and as `vfs_read`.
        """
        if offset < 0:
            raise EINVAL()
        file, how = fdget(fd)
        try:
            if not file.f_mode & FMODE_PREAD:
                raise ESPIPE()
            return vfs_read(file, count, offset)[0]
        finally:
            fdput(file, how)

    @syscall
    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        """Sleeps.  Write at ``offset``; returns how much.

        Raises EINVAL (negative), ESPIPE, and as `vfs_write`.
        """
        data = as_bytes(data)
        if offset < 0:
            raise EINVAL()
        file, how = fdget(fd)
        try:
            if not file.f_mode & FMODE_PWRITE:
                raise ESPIPE()
            return vfs_write(file, data, offset)[0]
        finally:
            fdput(file, how)

    @syscall
    def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sleeps.  Move the file position; returns it.  Raises EBADF, EINVAL, as `vfs_llseek`."""
        file, how = fdget_pos(fd)
        try:
            if not 0 <= whence <= _WHENCE_MAX:
                raise EINVAL()
            return vfs_llseek(file, offset, whence)
        finally:
            fdput_pos(file, how)

    @syscall
    def fsync(self, fd: int) -> None:
        """Sleeps.  Bring data and attributes to the disk.

        Raises EBADF, EINVAL (no ``fsync``), EIO ...
        """
        self._fsync(fd, False)

    @syscall
    def fdatasync(self, fd: int) -> None:
        """Sleeps.  Bring data, and what is needed to read it again, to the disk.

        Raises as `fsync`.
        """
        self._fsync(fd, True)

    def _fsync(self, fd: int, datasync: bool) -> None:
        file, how = fdget(fd)
        try:
            vfs_fsync_range(file, datasync=datasync)
        finally:
            fdput(file, how)

    @syscall
    def getdents(self, fd: int, count: int = 32768) -> list[tuple[str, int, int]]:
        """Sleeps.  The next directory entries that fit ``count`` bytes, as (name, ino, type); none
        at the end.

        Raises:
            OSError: EBADF, EINVAL (not one fits), ENOTDIR, ENOENT (the directory was removed).
        """
        file, how = fdget_pos(fd)
        try:
            return getdents(file, count)
        finally:
            fdput_pos(file, how)

    @syscall
    def fcntl(self, fd: int, cmd: int, arg: int = 0) -> int:
        """Sleeps.  F_DUPFD, F_GETFD, F_SETFD, F_GETFL and F_SETFL.

        Raises:
            OSError: EBADF (of O_PATH, too, for all but F_DUPFD, F_GETFD, F_SETFD and F_GETFL),
                EINVAL (another command), EPERM (clearing O_APPEND of an append-only file,
                O_NOATIME of somebody else's).
        """
        files = current_process().files
        file, how = fdget_raw(fd)
        try:
            if file.f_mode & FMODE_PATH and cmd not in _PATH_COMMANDS:
                raise EBADF()
            if cmd == F_DUPFD:
                return files.dup(fd, arg)
            if cmd in (F_GETFD, F_SETFD):
                return 0
            if cmd == F_GETFL:
                return file.f_flags
            if cmd != F_SETFL:
                raise EINVAL()
            inode = file.f_inode
            if file.f_flags & os.O_APPEND & ~arg and inode.i_flags & S_APPEND:
                raise EPERM()
            if arg & ~file.f_flags & O_NOATIME and not inode_owner_or_capable(inode):
                raise EPERM()
            op = file.f_op
            if type(op).check_flags is not FileOperations.check_flags:
                op.check_flags(arg)
            with file.f_lock:
                file.f_flags = arg & _SETFL | file.f_flags & ~_SETFL
            return 0
        finally:
            fdput(file, how)
