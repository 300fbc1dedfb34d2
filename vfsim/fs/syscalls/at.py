"""System calls that take a directory: a relative path begins in one that is open, not in the
working directory.

``dfd`` is the descriptor of that directory, O_PATH ones included, or AT_FDCWD: the working
directory after all.  An absolute path does not ask what it is; otherwise EBADF or ENOTDIR come
before anything about the path's components, and after what can be said about the path as a text.

With AT_EMPTY_PATH an empty path is what is open as ``dfd``, whatever its type.  Each call has the
name that it has in Linux, and its arguments in Linux's order; what it does is what the call without
``at`` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from vfsim.fs import by_path
from vfsim.fs.attr import chmod_common, chown_common, utimes_common, vfs_getattr
from vfsim.fs.lookup import LOOKUP_FOLLOW
from vfsim.fs.mount import path_get, path_put
from vfsim.fs.namei import AT_FDCWD
from vfsim.fs.process import CAP_DAC_READ_SEARCH, capable, current_process
from vfsim.fs.syscalls.attributes import check_access
from vfsim.fs.syscalls.entry import Part, syscall
from vfsim.fs.syscalls.files import do_sys_open
from vfsim.fs.syscalls.names import AT_SYMLINK_FOLLOW, read_link
from vfsim.sim.errors import EINVAL, ENOENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.attr import KStat
    from vfsim.fs.mount import Path

AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000

T = TypeVar("T")


class AtCalls(Part):
    """What is done with paths that begin in an open directory."""

    __slots__ = ()

    @syscall
    def openat(self, dfd: int, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Sleeps.  As `open`."""
        return do_sys_open(dfd, path, flags, mode)

    @syscall
    def mkdirat(self, dfd: int, path: str, mode: int = 0o777) -> None:
        """Sleeps.  As `mkdir`."""
        by_path.do_mkdir(path, mode, dfd)

    @syscall
    def mknodat(self, dfd: int, path: str, mode: int, dev: int = 0) -> None:
        """Sleeps.  As `mknod`."""
        by_path.do_mknod(path, mode, dev, dfd)

    @syscall
    def unlinkat(self, dfd: int, path: str, flags: int = 0) -> None:
        """Sleeps.  As `unlink`, or with AT_REMOVEDIR as `rmdir`.  Raises EINVAL for other flags."""
        if flags & ~AT_REMOVEDIR:
            raise EINVAL()
        if flags:
            by_path.do_rmdir(path, dfd)
        else:
            by_path.do_unlink(path, dfd)

    @syscall
    def symlinkat(self, target: str, dfd: int, path: str) -> None:
        """Sleeps.  As `symlink`."""
        by_path.do_symlink(target, path, dfd)

    @syscall
    def readlinkat(self, dfd: int, path: str) -> str:
        """Sleeps.  As `readlink`.  An empty path is the link that is open as ``dfd`` (O_PATH).

        Raises:
            OSError: ENOENT, not EINVAL, if that is no link.
        """
        if path:
            return self._at(path, 0, read_link, EINVAL, dfd=dfd)
        return self._itself(dfd, read_link, ENOENT)

    @syscall
    def linkat(self, old_dfd: int, old: str, new_dfd: int, new: str, flags: int = 0) -> None:
        """Sleeps.  As `link`; with AT_EMPTY_PATH also of a file that is open.

        Raises:
            OSError: EINVAL (other flags); ENOENT with AT_EMPTY_PATH but without
                CAP_DAC_READ_SEARCH, before anything about the rest.
        """
        if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
            raise EINVAL()
        if flags & AT_EMPTY_PATH and not capable(CAP_DAC_READ_SEARCH):
            raise ENOENT()
        if not old and flags & AT_EMPTY_PATH:
            self._itself(old_dfd, by_path.do_link_file, new, new_dfd)
        else:
            by_path.do_link(old, new, bool(flags & AT_SYMLINK_FOLLOW), old_dfd, new_dfd)

    @syscall
    def renameat(self, old_dfd: int, old: str, new_dfd: int, new: str, flags: int = 0) -> None:
        """Sleeps.  As `renameat2`."""
        by_path.do_rename(old, new, flags, old_dfd, new_dfd)

    @syscall
    def fstatat(self, dfd: int, path: str, flags: int = 0) -> KStat:
        """Sleeps.  As `stat`, or with AT_SYMLINK_NOFOLLOW as `lstat`; AT_EMPTY_PATH,
        AT_NO_AUTOMOUNT (nobody is mounted by this call anyway).  Raises EINVAL for other flags.
        """
        if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH):
            raise EINVAL()
        return self._place(dfd, path, flags, vfs_getattr)

    @syscall
    def faccessat(self, dfd: int, path: str, mode: int) -> None:
        """Sleeps.  As `access`."""
        check_access(self._at, path, mode, dfd)

    @syscall
    def fchmodat(self, dfd: int, path: str, mode: int) -> None:
        """Sleeps.  As `chmod`."""
        self._at(path, LOOKUP_FOLLOW, chmod_common, mode, dfd=dfd)

    @syscall
    def fchownat(self, dfd: int, path: str, uid: int, gid: int, flags: int = 0) -> None:
        """Sleeps.  As `chown`, or with AT_SYMLINK_NOFOLLOW as `lchown`; AT_EMPTY_PATH.

        Raises EINVAL for other flags.
        """
        if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
            raise EINVAL()
        self._place(dfd, path, flags, chown_common, uid, gid)

    @syscall
    def utimensat(
        self,
        dfd: int,
        path: str,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        flags: int = 0,
    ) -> None:
        """Sleeps.  As `utime`, with AT_SYMLINK_NOFOLLOW of a link itself.

        Raises EINVAL for other flags.
        """
        if flags & ~AT_SYMLINK_NOFOLLOW:
            raise EINVAL()
        self._place(dfd, path, flags, utimes_common, atime_ns, mtime_ns)

    def _place(self, dfd: int, path: str, flags: int, fn: Callable[..., T], *args: Any) -> T:
        """Sleeps.  Do something with what a path leads to, by the flags that many calls have."""
        if not path and flags & AT_EMPTY_PATH:
            return self._itself(dfd, fn, *args)
        lookup = 0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW
        return self._at(path, lookup, fn, *args, dfd=dfd)

    def _itself(self, dfd: int, fn: Callable[..., T], *args: Any) -> T:
        """Sleeps.  Do something with what is open, or with the working directory."""
        if dfd == AT_FDCWD:
            path: Path = current_process().cwd
            path_get(path)
            try:
                return fn(path, *args)
            finally:
                path_put(path)
        return self._of_any(dfd, fn, *args)
