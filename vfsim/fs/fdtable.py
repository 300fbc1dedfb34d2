"""Descriptors: small numbers a process has for its open files.

Linux's ``files_struct``.  A table belongs to one process, or to several threads that share it.
Alone, nobody can race and the lock is not taken (Linux saves the reference counts in that case,
here the lock goes too); shared, ``file_lock`` guards the table, and `fdget` takes a reference on
the file so that another thread's close cannot free it under the call.

Typical sequence of open(2)::

    fd = files.reserve()          the number is taken, fdget() does not find it yet
    ... open the file ...
    files.install(fd, file)       or files.unreserve(fd)

and of read(2)::

    file, how = fdget_pos(fd)
    try: ...
    finally: fdput_pos(file, how)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.file import FMODE_ATOMIC_POS, FMODE_PATH, File, fput, get_file
from vfsim.fs.process import current_process
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import EBADF, EINVAL, EMFILE

if TYPE_CHECKING:
    from vfsim.fs.operations import FileOperations

RLIMIT_NOFILE = 1024

FDPUT_FPUT = 1
FDPUT_POS_UNLOCK = 2


class FdTable:
    """The open files of a process, by descriptor.

    Attributes:
        users: how many processes share it.
        fds: the files; None is a free place.
        limit: the number of places (RLIMIT_NOFILE).
        file_lock: guards ``fds`` and ``reserved`` once the table is shared.
    """

    __slots__ = ("fds", "file_lock", "limit", "reserved", "users")

    def __init__(self, limit: int = RLIMIT_NOFILE) -> None:
        self.users = 1
        self.fds: list[File | None] = []
        self.reserved: dict[int, None] = {}
        self.limit = limit
        self.file_lock = SpinLock("file_lock")

    def share(self) -> FdTable:
        """Never sleeps.  The table itself, for one more thread."""
        self.users += 1
        return self

    def copy(self) -> FdTable:
        """Never sleeps.  A table for a child, with the same open files (Linux: ``dup_fd``)."""
        new = FdTable(self.limit)
        locked = self._lock()
        new.fds = [None if file is None else get_file(file) for file in self.fds]
        self._unlock(locked)
        return new

    def put(self) -> None:
        """Sleeps.  One user less; the last one closes every file, in order."""
        self.users -= 1
        if self.users:
            return
        for fd, file in enumerate(self.fds):
            if file is not None:
                self.fds[fd] = None
                try:
                    filp_close(file)
                except OSError:
                    pass  # exit has nobody to tell

    # -- places ----------------------------------------------------------------------------------

    def reserve(self, start: int = 0) -> int:
        """Never sleeps.  The lowest free descriptor from ``start`` on, taken but empty.

        Raises:
            OSError: EMFILE.

        Source: ``get_unused_fd_flags``.
        """
        locked = self._lock()
        fds = self.fds
        while len(fds) < start:
            fds.append(None)
        for fd in range(start, len(fds)):
            if fds[fd] is None and fd not in self.reserved:
                break
        else:
            fd = len(fds)
            if fd >= self.limit:
                self._unlock(locked)
                raise EMFILE()
            fds.append(None)
        self.reserved[fd] = None
        self._unlock(locked)
        return fd

    def unreserve(self, fd: int) -> None:
        """Never sleeps.  The open failed: the descriptor is free.  Source: ``put_unused_fd``."""
        locked = self._lock()
        del self.reserved[fd]
        self._unlock(locked)

    def install(self, fd: int, file: File) -> None:
        """Never sleeps.  Put a file in a reserved place; the table takes over the reference."""
        locked = self._lock()
        del self.reserved[fd]
        self.fds[fd] = file
        self._unlock(locked)

    def find(self, fd: int) -> File | None:
        """Never sleeps.  The file behind a descriptor, without a reference.

        Raises:
            TypeError: ``fd`` is no integer.
        """
        if not isinstance(fd, int):
            raise TypeError(f"a file descriptor is an integer, got {fd!r}")
        fds = self.fds
        return fds[fd] if 0 <= fd < len(fds) else None

    def remove(self, fd: int) -> File:
        """Never sleeps.  Empty a place and return its file, whose reference is now the caller's.

        Raises:
            OSError: EBADF.
        """
        locked = self._lock()
        file = self.find(fd)
        if file is not None:
            self.fds[fd] = None
        self._unlock(locked)
        if file is None:
            raise EBADF()
        return file

    def dup(self, fd: int, start: int = 0) -> int:
        """Never sleeps.  Another descriptor, the lowest free from ``start`` on, for the same open
        file.

        Raises:
            OSError: EBADF, EMFILE; EINVAL for a ``start`` no descriptor can have.
        """
        file = self.find(fd)
        if file is None:
            raise EBADF()
        if not 0 <= start < self.limit:
            raise EINVAL()
        get_file(file)
        try:
            new = self.reserve(start)
        except OSError:
            fput(file)
            raise
        self.install(new, file)
        return new

    def dup2(self, fd: int, new: int) -> int:
        """Sleeps.  Make ``new`` a descriptor for the open file of ``fd``, closing what it was
        before.

        Raises:
            OSError: EBADF for either.
        """
        file = self.find(fd)
        if file is None or not isinstance(new, int) or not 0 <= new < self.limit:
            raise EBADF()
        if fd == new:
            return new
        locked = self._lock()
        fds = self.fds
        while len(fds) <= new:
            fds.append(None)
        old = fds[new]
        fds[new] = get_file(file)
        self._unlock(locked)
        if old is not None:
            try:
                filp_close(old)
            except OSError:
                pass  # dup2 does not report what its implied close met
        return new

    def _lock(self) -> bool:
        """Take file_lock if others share the table; `_unlock` wants the answer."""
        shared = self.users > 1
        if shared:
            self.file_lock.lock()
        return shared

    def _unlock(self, locked: bool) -> None:
        if locked:
            self.file_lock.unlock()

    def _check(self) -> None:
        """Every file in the table is referenced, and no reserved place is filled."""
        assert self.users >= 0
        for fd, file in enumerate(self.fds):
            assert file is None or file.f_count > 0, f"descriptor {fd}: {file!r}"
            assert file is None or fd not in self.reserved, (
                f"descriptor {fd} is reserved and in use"
            )

    def __repr__(self) -> str:
        return f"<FdTable {sum(file is not None for file in self.fds)} open, {self.users} users>"


# -- descriptors in system calls -----------------------------------------------------------------


def fdget_raw(fd: int) -> tuple[File, int]:
    """Never sleeps.  The file behind a descriptor, O_PATH ones included, and what `fdput` must do.

    Raises:
        OSError: EBADF.

    Source: ``fdget_raw``.
    """
    files: FdTable = current_process().files
    file = files.find(fd)
    if file is None:
        raise EBADF()
    if files.users == 1:
        return file, 0
    return get_file(file), FDPUT_FPUT


def fdget(fd: int) -> tuple[File, int]:
    """Never sleeps.  As `fdget_raw`, but EBADF for O_PATH files, which are good for naming only."""
    file, how = fdget_raw(fd)
    if file.f_mode & FMODE_PATH:
        fdput(file, how)
        raise EBADF()
    return file, how


def fdput(file: File, how: int) -> None:
    """Never sleeps.  Undo `fdget`."""
    if how:
        fput(file)


def fdget_pos(fd: int) -> tuple[File, int]:
    """Sleeps.  As `fdget`, and with ``f_pos_lock`` if others have the open file too.

    Source: ``fdget_pos``: regular files and directories only.
    """
    file, how = fdget(fd)
    if file.f_count > 1 and file.f_mode & FMODE_ATOMIC_POS:
        file.f_pos_lock.lock()
        how |= FDPUT_POS_UNLOCK
    return file, how


def fdput_pos(file: File, how: int) -> None:
    """Never sleeps.  Undo `fdget_pos`."""
    if how:
        if how & FDPUT_POS_UNLOCK:
            file.f_pos_lock.unlock()
        if how & FDPUT_FPUT:
            fput(file)


def filp_close(file: File) -> None:
    """Sleeps.  Close one descriptor's share of a file: the filesystem's ``flush``, then the
    reference.

    Raises:
        OSError: what ``flush`` says; the descriptor is gone all the same.

    Source: ``filp_close``.
    """
    try:
        op: FileOperations = file.f_op
        if op.implements("flush"):
            op.flush(file)
    finally:
        fput(file)
