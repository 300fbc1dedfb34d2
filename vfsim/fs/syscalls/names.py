"""System calls on names: what makes, moves, reads and removes them."""

from __future__ import annotations

import os
from stat import S_IFIFO, S_ISLNK

from vfsim.fs import by_path
from vfsim.fs.attr import touch_atime
from vfsim.fs.fdtable import filp_close
from vfsim.fs.mount import Path
from vfsim.fs.open import do_filp_open
from vfsim.fs.operations import InodeOperations
from vfsim.fs.process import CAP_DAC_READ_SEARCH, capable
from vfsim.fs.read_write import getdents
from vfsim.fs.syscalls.entry import Part, syscall
from vfsim.sim.errors import EINVAL, ENOENT

AT_SYMLINK_FOLLOW = 0x400


class NameCalls(Part):
    """What changes directories and reads them."""

    __slots__ = ()

    @syscall
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Sleeps.  Make a directory.  Raises EEXIST, ENOENT, EACCES, EMLINK, EROFS ..."""
        by_path.do_mkdir(path, mode)

    @syscall
    def rmdir(self, path: str) -> None:
        """Sleeps.  Remove an empty directory.  Raises ENOTEMPTY, EBUSY, EINVAL, ENOTDIR ..."""
        by_path.do_rmdir(path)

    @syscall
    def unlink(self, path: str) -> None:
        """Sleeps.  Remove a name that is no directory.

        Raises ENOENT, EISDIR, EACCES, EPERM, EBUSY ...
        """
        by_path.do_unlink(path)

    @syscall
    def rename(self, old: str, new: str) -> None:
        """Sleeps.  Move a name, replacing what is there.  As `vfsim.fs.by_path.do_rename`."""
        by_path.do_rename(old, new)

    @syscall
    def renameat2(self, old: str, new: str, flags: int) -> None:
        """Sleeps.  As `rename`, with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT."""
        by_path.do_rename(old, new, flags)

    @syscall
    def link(self, old: str, new: str, flags: int = 0) -> None:
        """Sleeps.  Another name for a file; of a link itself unless AT_SYMLINK_FOLLOW.

        Raises EXDEV, EPERM ...
        """
        if flags & ~AT_SYMLINK_FOLLOW:
            raise EINVAL()
        by_path.do_link(old, new, bool(flags))

    @syscall
    def flink(self, fd: int, new: str) -> None:
        """Sleeps.  A name for an open file, which may have none (Linux: ``linkat`` with
        AT_EMPTY_PATH).

        Raises:
            OSError: ENOENT without CAP_DAC_READ_SEARCH, before anything about the descriptor;
                EBADF, EXDEV, EPERM ...
        """
        if not capable(CAP_DAC_READ_SEARCH):
            raise ENOENT()
        self._of_any(fd, by_path.do_link_file, new)

    @syscall
    def symlink(self, target: str, path: str) -> None:
        """Sleeps.  Make a symbolic link at ``path``.

        Raises EEXIST, ENOENT (also for an empty target) ...
        """
        by_path.do_symlink(target, path)

    @syscall
    def readlink(self, path: str) -> str:
        """Sleeps.  Where a symbolic link points.  Raises EINVAL for anything else."""
        return self._at(path, 0, read_link, EINVAL)

    @syscall
    def mknod(self, path: str, mode: int, dev: int = 0) -> None:
        """Sleeps.  Make a file, device, FIFO or socket of the type in ``mode``.

        Raises EPERM, EINVAL, EEXIST ...
        """
        by_path.do_mknod(path, mode, dev)

    @syscall
    def mkfifo(self, path: str, mode: int = 0o666) -> None:
        """Sleeps.  Make a FIFO, which can be named and removed, but not opened."""
        by_path.do_mknod(path, S_IFIFO | mode & 0o7777, 0)

    @syscall
    def listdir(self, path: str = ".") -> list[str]:
        """Sleeps.  The names in a directory, in the filesystem's order, without ``.`` and ``..``.

        Not a system call of its own: open, getdents and close, as a library does it.
        """
        file = do_filp_open(path, os.O_RDONLY | os.O_DIRECTORY)
        names: list[str] = []
        try:
            while entries := getdents(file, 32768):
                names += [name for name, _, _ in entries if name not in (".", "..")]
        finally:
            filp_close(file)
        return names


def read_link(path: Path, otherwise: type[OSError]) -> str:
    """Sleeps.  Where a symbolic link points; ``otherwise`` is raised if it is none."""
    inode = path.dentry.d_inode
    assert inode is not None
    op = inode.i_op
    if type(op).readlink is not InodeOperations.readlink:
        touch_atime(path.mnt, path.dentry)
        return op.readlink(path.dentry)
    if not S_ISLNK(inode.i_mode):
        raise otherwise()
    touch_atime(path.mnt, path.dentry)
    return inode.i_link if inode.i_link is not None else op.get_link(path.dentry, inode)
