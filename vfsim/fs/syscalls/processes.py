"""System calls on the process itself: where it is, who it is, and its children."""

from __future__ import annotations

from stat import S_ISDIR
from typing import TYPE_CHECKING, Any

from vfsim.fs.dcache import d_unlinked
from vfsim.fs.fdtable import fdget_raw, fdput
from vfsim.fs.lookup import LOOKUP_DIRECTORY, LOOKUP_FOLLOW
from vfsim.fs.mount import Path, d_path
from vfsim.fs.permission import MAY_CHDIR, MAY_EXEC, inode_permission
from vfsim.fs.process import CAP_SYS_CHROOT, capable, current_process
from vfsim.fs.syscalls.entry import Part, syscall
from vfsim.sim.errors import ENOENT, ENOTDIR, EPERM
from vfsim.sim.scheduler import msleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.sim.task import Task


class ProcessCalls(Part):
    """What a process asks about itself."""

    __slots__ = ()

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
