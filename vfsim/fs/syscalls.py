"""System calls: what a process can ask of the kernel.

`Sys` is what a task's function gets as its first argument.  Each call has Linux's name, Linux's
arguments (buffers are ``bytes``, times nanoseconds) and raises ``OSError`` with Linux's errno.  A
call is a thin function: names to paths, descriptors to files, and then the ``vfs_*`` function that
does it.

`return_to_user` runs at the end of each: what was put off until no lock is held is done (closing of
files), and holding anything at that moment is a bug.

Calls that Linux has and that are not here: everything about memory, sockets, pipes and signals.
``open`` of a FIFO, socket or device is ENXIO.
"""

from __future__ import annotations

import errno
import functools
import os
from stat import S_IFIFO, S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs

from vfsim.fs import directory, echild
from vfsim.fs.attr import (
    ATTR_CTIME,
    ATTR_MTIME,
    KStat,
    chmod_common,
    chown_common,
    do_truncate,
    touch_atime,
    utimes_common,
    vfs_getattr,
    vfs_truncate,
)
from vfsim.fs.dcache import d_inode, d_unlinked, dput
from vfsim.fs.fdtable import fdget, fdget_pos, fdget_raw, fdput, fdput_pos, filp_close
from vfsim.fs.fiemap import FIEMAP_MAX_OFFSET, FiemapExtentInfo, do_fiemap
from vfsim.fs.file import FMODE_PATH, FMODE_PREAD, FMODE_PWRITE, FMODE_WRITE, O_NOATIME
from vfsim.fs.inode import S_APPEND
from vfsim.fs.ioctl import do_vfs_ioctl
from vfsim.fs.lookup import LOOKUP_DIRECTORY, LOOKUP_FOLLOW
from vfsim.fs.mount import (
    Path,
    check_mnt,
    d_path,
    mnt_drop_write,
    mnt_is_readonly,
    mnt_want_write,
    mntput_no_expire,
    path_put,
)
from vfsim.fs.namei import retry_estale, user_path
from vfsim.fs.namespace import copy_mnt_ns, do_mount
from vfsim.fs.open import do_filp_open
from vfsim.fs.operations import FileOperations, InodeOperations
from vfsim.fs.permission import (
    MAY_ACCESS,
    MAY_CHDIR,
    MAY_EXEC,
    MAY_WRITE,
    inode_owner_or_capable,
    inode_permission,
)
from vfsim.fs.proc_namespace import read_mounts
from vfsim.fs.process import (
    ALL_CAPS,
    CAP_SYS_ADMIN,
    CAP_SYS_CHROOT,
    NO_CAPS,
    capable,
    current_process,
)
from vfsim.fs.read_write import getdents, vfs_fsync_range, vfs_llseek, vfs_read, vfs_write
from vfsim.fs.strace import call_text
from vfsim.fs.super import (
    SB_RDONLY,
    KStatfs,
    drop_super,
    iterate_supers,
    sync_filesystem,
    sync_one_pass,
    user_get_super,
)
from vfsim.fs.super_cache import drop_caches
from vfsim.fs.umount import MNT_DETACH, MNT_EXPIRE, MNT_FORCE, UMOUNT_NOFOLLOW, do_umount
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.fs.xattr import getxattr, listxattr, removexattr, setxattr
from vfsim.sim.errors import (
    EACCES,
    EBADF,
    EINVAL,
    ENOENT,
    ENOTDIR,
    EPERM,
    EROFS,
    ESPIPE,
)
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.fs.dentry import Dentry
    from vfsim.fs.kernel import Kernel
    from vfsim.fs.super import SuperBlock
    from vfsim.sim.task import Task

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL = range(5)
_PATH_COMMANDS = (F_DUPFD, F_GETFD, F_SETFD, F_GETFL)
AT_SYMLINK_FOLLOW = 0x400
CLONE_NEWNS = 0x20000
_SETFL = os.O_APPEND | os.O_NONBLOCK | getattr(os, "O_DIRECT", 0) | O_NOATIME
_WHENCE_MAX = 4


def return_to_user(task: Task) -> None:
    """Sleeps.  The end of a system call: do what was put off, and make sure that nothing is held
    any more.
    """
    process = task.process
    if process.task_work:
        process.run_task_work()
    if task.held is not None:
        K.machine.judge.return_to_user(task)


def syscall(fn: Callable[P, R]) -> Callable[P, R]:
    """Never sleeps.  Make a method of `Sys` a system call: it is traced, and ends with
    `return_to_user`.
    """
    name = fn.__name__

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if K.trace is not None:
            _note(name, args[1:], kwargs)
        try:
            result = fn(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.ECHILD:
                echild.answered(error)
            return_to_user(K.cur)
            raise
        task = K.cur
        if task.held is not None or task.process.task_work:
            return_to_user(task)
        return result

    return call


def _note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert K.trace is not None
    K.trace.note(K.cur, "syscall", call_text(name, (*args, *kwargs.values())))


class Sys:
    """The system calls, on behalf of whichever task calls them.

    Attributes:
        kernel: whose they are.
    """

    __slots__ = ("kernel",)

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    # -- open files ------------------------------------------------------------------------------

    @syscall
    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Sleeps.  Open ``path`` and return the lowest free descriptor.

        Raises:
            OSError: EMFILE before anything about the path; then as `vfsim.fs.open.do_filp_open`.
        """
        files = current_process().files
        fd = files.reserve()
        try:
            file = do_filp_open(path, flags, mode)
        except Exception:
            files.unreserve(fd)
            raise
        files.install(fd, file)
        return fd

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
        data = _bytes(data)
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
        data = _bytes(data)
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

    # -- attributes ------------------------------------------------------------------------------

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
        file, how = fdget_raw(fd)
        try:
            return vfs_getattr(file.f_path)
        finally:
            fdput(file, how)

    @syscall
    def access(self, path: str, mode: int) -> None:
        """Sleeps.  Return if the *real* user may do ``mode`` (os.R_OK, W_OK, X_OK; F_OK: it
        exists).

        Raises:
            OSError: EINVAL, EACCES, EROFS, or what the walk says.
        """
        if mode & ~7:
            raise EINVAL()
        process = current_process()
        cred = process.cred
        caps = ALL_CAPS if cred.real_uid == 0 else NO_CAPS
        process.cred = attrs.evolve(cred, uid=cred.real_uid, gid=cred.real_gid, caps=caps)
        try:
            self._at(path, LOOKUP_FOLLOW, _access, mode)
        finally:
            process.cred = cred

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

    @retry_estale
    def _at(self, name: str, flags: int, fn: Callable[..., T], *args: Any, reval: int = 0) -> T:
        path = user_path(name, flags | reval)
        try:
            return fn(path, *args)
        finally:
            path_put(path)

    def _of(self, fd: int, fn: Callable[..., T], *args: Any) -> T:
        file, how = fdget(fd)
        try:
            return fn(file.f_path, *args)
        finally:
            fdput(file, how)

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

    # -- extended attributes ---------------------------------------------------------------------

    @syscall
    def setxattr(self, path: str, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  Set an attribute; with XATTR_CREATE it must be new, with XATTR_REPLACE there.

        Raises:
            OSError: what the walk says, EROFS, then as `vfsim.fs.xattr.setxattr`.
        """
        self._at(path, LOOKUP_FOLLOW, _writing, setxattr, name, _bytes(value), flags)

    @syscall
    def lsetxattr(self, path: str, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  As `setxattr`, but of a link itself."""
        self._at(path, 0, _writing, setxattr, name, _bytes(value), flags)

    @syscall
    def fsetxattr(self, fd: int, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  As `setxattr`, of an open file.  Raises EBADF."""
        self._of(fd, _writing, setxattr, name, _bytes(value), flags)

    @syscall
    def getxattr(self, path: str, name: str) -> bytes:
        """Sleeps.  The value of an attribute.

        Raises:
            OSError: what the walk says, then as `vfsim.fs.xattr.getxattr`.
        """
        value: bytes = self._at(path, LOOKUP_FOLLOW, _reading, getxattr, name)
        return value

    @syscall
    def lgetxattr(self, path: str, name: str) -> bytes:
        """Sleeps.  As `getxattr`, but of a link itself."""
        value: bytes = self._at(path, 0, _reading, getxattr, name)
        return value

    @syscall
    def fgetxattr(self, fd: int, name: str) -> bytes:
        """Sleeps.  As `getxattr`, of an open file.  Raises EBADF."""
        value: bytes = self._of(fd, _reading, getxattr, name)
        return value

    @syscall
    def listxattr(self, path: str) -> list[str]:
        """Sleeps.  The names of the attributes that this task may see."""
        return self._at(path, LOOKUP_FOLLOW, _reading, listxattr)

    @syscall
    def llistxattr(self, path: str) -> list[str]:
        """Sleeps.  As `listxattr`, but of a link itself."""
        return self._at(path, 0, _reading, listxattr)

    @syscall
    def flistxattr(self, fd: int) -> list[str]:
        """Sleeps.  As `listxattr`, of an open file.  Raises EBADF."""
        return self._of(fd, _reading, listxattr)

    @syscall
    def removexattr(self, path: str, name: str) -> None:
        """Sleeps.  Remove an attribute.

        Raises:
            OSError: what the walk says, EROFS, then as `vfsim.fs.xattr.removexattr`.
        """
        self._at(path, LOOKUP_FOLLOW, _writing, removexattr, name)

    @syscall
    def lremovexattr(self, path: str, name: str) -> None:
        """Sleeps.  As `removexattr`, but of a link itself."""
        self._at(path, 0, _writing, removexattr, name)

    @syscall
    def fremovexattr(self, fd: int, name: str) -> None:
        """Sleeps.  As `removexattr`, of an open file.  Raises EBADF."""
        self._of(fd, _writing, removexattr, name)

    # -- names -----------------------------------------------------------------------------------

    @syscall
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Sleeps.  Make a directory.  Raises EEXIST, ENOENT, EACCES, EMLINK, EROFS ..."""
        directory.do_mkdir(path, mode)

    @syscall
    def rmdir(self, path: str) -> None:
        """Sleeps.  Remove an empty directory.  Raises ENOTEMPTY, EBUSY, EINVAL, ENOTDIR ..."""
        directory.do_rmdir(path)

    @syscall
    def unlink(self, path: str) -> None:
        """Sleeps.  Remove a name that is no directory.

        Raises ENOENT, EISDIR, EACCES, EPERM, EBUSY ...
        """
        directory.do_unlink(path)

    @syscall
    def rename(self, old: str, new: str) -> None:
        """Sleeps.  Move a name, replacing what is there.  As `vfsim.fs.directory.do_rename`."""
        directory.do_rename(old, new)

    @syscall
    def renameat2(self, old: str, new: str, flags: int) -> None:
        """Sleeps.  As `rename`, with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT."""
        directory.do_rename(old, new, flags)

    @syscall
    def link(self, old: str, new: str, flags: int = 0) -> None:
        """Sleeps.  Another name for a file; of a link itself unless AT_SYMLINK_FOLLOW.

        Raises EXDEV, EPERM ...
        """
        if flags & ~AT_SYMLINK_FOLLOW:
            raise EINVAL()
        directory.do_link(old, new, bool(flags))

    @syscall
    def flink(self, fd: int, new: str) -> None:
        """Sleeps.  A name for an open file, which may have none (Linux: ``linkat`` with
        AT_EMPTY_PATH).

        Raises:
            OSError: EBADF, ENOENT without CAP_DAC_READ_SEARCH, EXDEV, EPERM ...
        """
        file, how = fdget_raw(fd)
        try:
            directory.do_link_file(file.f_path, new)
        finally:
            fdput(file, how)

    @syscall
    def symlink(self, target: str, path: str) -> None:
        """Sleeps.  Make a symbolic link at ``path``.

        Raises EEXIST, ENOENT (also for an empty target) ...
        """
        directory.do_symlink(target, path)

    @syscall
    def readlink(self, path: str) -> str:
        """Sleeps.  Where a symbolic link points.  Raises EINVAL for anything else."""
        return self._at(path, 0, _readlink)

    @syscall
    def mknod(self, path: str, mode: int, dev: int = 0) -> None:
        """Sleeps.  Make a file, device, FIFO or socket of the type in ``mode``.

        Raises EPERM, EINVAL, EEXIST ...
        """
        directory.do_mknod(path, mode, dev)

    @syscall
    def mkfifo(self, path: str, mode: int = 0o666) -> None:
        """Sleeps.  Make a FIFO, which can be named and removed, but not opened."""
        directory.do_mknod(path, S_IFIFO | mode & 0o7777, 0)

    @syscall
    def listdir(self, path: str = ".") -> list[str]:
        """Sleeps.  The names in a directory, in the filesystem's order, without ``.`` and ``..``.

        Not a system call of its own: open, getdents and close, as a library does it.
        """
        file = do_filp_open(path, os.O_RDONLY | os.O_DIRECTORY)
        names: list[str] = []
        try:
            while entries := getdents(file, 32768):
                names += [name for name, _, _ in entries]
        finally:
            filp_close(file)
        return [name for name in names if name not in (".", "..")]

    # -- where the process is, and who -----------------------------------------------------------

    @syscall
    def chdir(self, path: str) -> None:
        """Sleeps.  Change the working directory.  Raises ENOTDIR, EACCES, ENOENT ..."""
        self._at(path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, _chdir)

    @syscall
    def fchdir(self, fd: int) -> None:
        """Sleeps.  Change the working directory to an open one.  Raises EBADF, ENOTDIR, EACCES."""
        file, how = fdget_raw(fd)
        try:
            if not S_ISDIR(file.f_inode.i_mode):
                raise ENOTDIR()
            _chdir(file.f_path)
        finally:
            fdput(file, how)

    @syscall
    def chroot(self, path: str) -> None:
        """Sleeps.  Change where "/" is.  Raises EPERM (needs CAP_SYS_CHROOT), ENOTDIR ..."""
        self._at(path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, _chroot)

    @syscall
    def getcwd(self) -> str:
        """Never sleeps.  The path of the working directory.  Raises ENOENT if it was removed."""
        process = current_process()
        if d_unlinked(process.cwd.dentry):
            raise ENOENT()
        return d_path(process.cwd, process.root)

    @syscall
    def umask(self, mask: int) -> int:
        """Never sleeps.  Set the permission bits that creation leaves out; returns the old ones."""
        process = current_process()
        old, process.umask = process.umask, mask & 0o777
        return old

    @syscall
    def setuid(self, uid: int) -> None:
        """Never sleeps.  Change the effective user (Linux: ``seteuid``).  Raises EPERM."""
        process = current_process()
        process.cred = process.cred.with_uid(uid)

    @syscall
    def setgid(self, gid: int) -> None:
        """Never sleeps.  Change the effective group (Linux: ``setegid``).  Raises EPERM."""
        process = current_process()
        process.cred = process.cred.with_gid(gid)

    @syscall
    def setgroups(self, groups: Iterable[int]) -> None:
        """Never sleeps.  Change the supplementary groups.  Raises EPERM."""
        process = current_process()
        process.cred = process.cred.with_groups(groups)

    @syscall
    def capset(self, caps: Iterable[str]) -> None:
        """Never sleeps.  Keep only these capabilities (CAP_* words).  Raises EPERM for one that is
        not there now.
        """
        process = current_process()
        process.cred = process.cred.with_caps(caps)

    def getuid(self) -> int:
        """Never sleeps.  The effective user."""
        return current_process().cred.uid

    # -- whole filesystems -----------------------------------------------------------------------

    @syscall
    def statfs(self, path: str) -> KStatfs:
        """Sleeps.  How full a filesystem is.  Raises ENOSYS if it does not say."""
        found: KStatfs = self._at(path, LOOKUP_FOLLOW, _reading, _statfs)
        return found

    @syscall
    def fstatfs(self, fd: int) -> KStatfs:
        """Sleeps.  How full the filesystem of an open file is.  Raises EBADF, ENOSYS."""
        file, how = fdget_raw(fd)
        try:
            return _statfs(file.f_path.dentry)
        finally:
            fdput(file, how)

    @syscall
    def ustat(self, dev: int) -> KStatfs:
        """Sleeps.  How full the filesystem of a device number (``st_dev``) is.

        Here ``statfs`` runs with ``s_umount`` held shared: nothing else keeps the superblock.

        Raises:
            OSError: EINVAL, if nothing is mounted from it; ENOSYS.
        """
        sb = user_get_super(dev)
        if sb is None:
            raise EINVAL()
        try:
            assert sb.s_root is not None
            return _statfs(sb.s_root)
        finally:
            drop_super(sb)

    @syscall
    def sync(self) -> None:
        """Sleeps.  Bring everything to the disks."""
        iterate_supers(_sync_later)
        iterate_supers(_sync_now)

    @syscall
    def drop_caches(self, what: int = 3) -> None:
        """Sleeps.  What root writes to ``/proc/sys/vm/drop_caches``: 1 drops clean pages, 2 unused
        dentries and inodes, 3 both.

        Raises:
            OSError: EACCES, EINVAL.
        """
        if not capable(CAP_SYS_ADMIN):
            raise EACCES()
        drop_caches(what, iterate_supers)

    @syscall
    def syncfs(self, fd: int) -> None:
        """Sleeps.  Bring the filesystem of an open file to its disk.  Raises EBADF, EIO ..."""
        file, how = fdget(fd)
        try:
            sb = file.f_path.dentry.d_sb
            with sb.s_umount.shared():
                sync_filesystem(sb)
        finally:
            fdput(file, how)

    @syscall
    def ioctl(self, fd: int, cmd: int, arg: Any = None) -> int:
        """Sleeps.  A command on an open file: FIFREEZE, FITHAW.

        Raises:
            OSError: EBADF, ENOTTY (no such command), or as `vfsim.fs.ioctl`.
        """
        file, how = fdget(fd)
        try:
            return do_vfs_ioctl(file, cmd, arg)
        finally:
            fdput(file, how)

    @syscall
    def mount(
        self, source: str, target: str, fstype: str = "", flags: int = 0, data: str = ""
    ) -> None:
        """Sleeps.  Mount a filesystem by the name of its registered type; with MS_REMOUNT, MS_BIND,
        MS_MOVE do that to mounts that exist.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN, ENODEV (no such type), ENOTDIR, EBUSY, what the
                filesystem says.
        """
        if not capable(CAP_SYS_ADMIN):
            raise EPERM()
        at = user_path(target)
        try:
            do_mount(at, source, fstype, flags, data)
        finally:
            path_put(at)

    @syscall
    def umount(self, path: str, flags: int = 0) -> None:
        """Sleeps.  Unmount what is mounted at ``path`` (Linux: ``umount2``).

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN, EINVAL (no mountpoint), as `do_umount`.
        """
        if flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW):
            raise EINVAL()
        if not capable(CAP_SYS_ADMIN):
            raise EPERM()
        found = user_path(path, 0 if flags & UMOUNT_NOFOLLOW else LOOKUP_FOLLOW)
        try:
            if found.dentry is not found.mnt.mnt_root or not check_mnt(found.mnt):
                raise EINVAL()
            do_umount(found.mnt, flags)
        finally:
            dput(found.dentry)
            mntput_no_expire(found.mnt)  # it is no use of the mount that it was asked to go

    @syscall
    def unshare(self, flags: int) -> None:
        """Sleeps.  Have something for oneself; of Linux's flags there is CLONE_NEWNS: a copy of the
        tree of mounts.

        Raises:
            OSError: EINVAL (another flag), EPERM without CAP_SYS_ADMIN, ENOMEM.
        """
        if flags & ~CLONE_NEWNS:
            raise EINVAL()
        if flags:
            if not capable(CAP_SYS_ADMIN):
                raise EPERM()
            copy_mnt_ns(current_process())

    def mounts(self) -> list[str]:
        """Sleeps.  The lines of /proc/mounts; see `vfsim.fs.proc_namespace`."""
        return read_mounts()

    # -- tasks -----------------------------------------------------------------------------------

    @syscall
    def fork(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Task:
        """Sleeps.  Start a child process that runs ``fn(sys, *args)`` with copies of the
        descriptors.

        Python cannot return twice, so the child gets a function of its own.
        """
        return self.kernel.start(current_process().fork(name or fn.__name__), fn, args)

    @syscall
    def thread(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Task:
        """Sleeps.  As `fork`, but parent and child share one table of descriptors
        (``CLONE_FILES``).
        """
        return self.kernel.start(current_process().thread(name or fn.__name__), fn, args)

    @syscall
    def msleep(self, ms: int) -> None:
        """Sleeps.  For ``ms`` milliseconds of simulated time."""
        msleep(ms)


def _bytes(data: Buffer) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data to write is bytes, got {type(data).__name__}")
    return bytes(data)


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


def _readlink(path: Path) -> str:
    inode = path.dentry.d_inode
    assert inode is not None
    op = inode.i_op
    if type(op).readlink is not InodeOperations.readlink:
        touch_atime(path.mnt, path.dentry)
        return op.readlink(path.dentry)
    if not S_ISLNK(inode.i_mode):
        raise EINVAL()
    touch_atime(path.mnt, path.dentry)
    return inode.i_link if inode.i_link is not None else op.get_link(path.dentry, inode)


def _reading(path: Path, fn: Callable[..., T], *args: Any) -> T:
    return fn(path.dentry, *args)


def _writing(path: Path, fn: Callable[..., T], *args: Any) -> T:
    mnt_want_write(path.mnt)
    try:
        return fn(path.dentry, *args)
    finally:
        mnt_drop_write(path.mnt)


def _chdir(path: Path) -> None:
    inode = path.dentry.d_inode
    assert inode is not None
    inode_permission(inode, MAY_EXEC | MAY_CHDIR)
    current_process().set_cwd(path)


def _chroot(path: Path) -> None:
    assert path.dentry.d_inode is not None
    inode_permission(path.dentry.d_inode, MAY_EXEC | MAY_CHDIR)
    if not capable(CAP_SYS_CHROOT):
        raise EPERM()
    current_process().set_root(path)


def _statfs(dentry: Dentry) -> KStatfs:
    """Ask the filesystem; a path, an open file or s_umount keeps the superblock (P9, P10)."""
    found = dentry.d_sb.s_op.statfs(dentry)
    if not found.f_frsize:
        found.f_frsize = found.f_bsize
    return found


def _sync_later(sb: SuperBlock) -> None:
    if not sb.s_flags & SB_RDONLY:
        sync_one_pass(sb, False)


def _sync_now(sb: SuperBlock) -> None:
    try:
        if not sb.s_flags & SB_RDONLY:
            sync_one_pass(sb, True)
    except OSError:
        pass  # sync(2) cannot fail
