"""Data of open files: read, write, seek, list, sync.

What a system call checks before the filesystem sees it, in Linux's order: the file's mode (EBADF),
whether there is a method at all (EINVAL), the range (EINVAL), and then the method; ``read`` goes
before ``read_iter``, ``write`` before ``write_iter``.

Locks: a file position shared by several references is guarded by the caller's ``f_pos_lock`` (see
`vfsim.fs.fdtable.fdget_pos`); the inode's lock is the filesystem's business (`generic_file_write`
takes it), except for `iterate_dir`, which takes the directory exclusive, so that no entry moves
while it is listed.  Writing to a regular file happens inside the superblock's freeze level
(``sb_start_write``), which is outside all of these but ``f_pos_lock``.
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import takewhile
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from vfsim.fs.file import (
    FMODE_CAN_READ,
    FMODE_CAN_WRITE,
    FMODE_LSEEK,
    FMODE_READ,
    FMODE_WRITE,
    Kiocb,
    iocb_flags,
)
from vfsim.fs.inode import S_DEAD
from vfsim.fs.operations import FileOperations
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.mm.bdi import write_times_now
from vfsim.sim.errors import (
    EBADF,
    EFAULT,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENXIO,
    EOVERFLOW,
    ESPIPE,
)
from vfsim.sim.faults import COPY, copied, fails, fault_in
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.fs.dentry import Dentry
    from vfsim.fs.file import File

MAX_RW_COUNT = 0x7FFFF000
LOFF_MAX = (1 << 63) - 1
SEEK_DATA = getattr(os, "SEEK_DATA", 3)
SEEK_HOLE = getattr(os, "SEEK_HOLE", 4)

_NO_READ = FileOperations.read
_NO_WRITE = FileOperations.write
_NO_LLSEEK = FileOperations.llseek
_NO_FSYNC = FileOperations.fsync
_NO_ITERATE = FileOperations.iterate


# -- data ----------------------------------------------------------------------------------------


def _verify_area(pos: int, count: int) -> None:
    """EINVAL for a negative position or count, EOVERFLOW where their sum does not fit."""
    if count < 0 or pos < 0:
        raise EINVAL()
    if pos + count > LOFF_MAX:
        raise EOVERFLOW()


def vfs_read(file: File, count: int, pos: int) -> tuple[bytes, int]:
    """Sleeps.  Up to ``count`` bytes from ``pos`` on, and the position behind them.

    Raises:
        OSError: in this order: EBADF (not open for reading), EISDIR, EINVAL (no method, bad range),
            EOVERFLOW, EFAULT (user memory is gone), or what the filesystem says.

    Source: ``vfs_read``; EISDIR comes from here and not from each filesystem's
    ``generic_read_dir``.
    """
    mode = file.f_mode
    if not mode & FMODE_READ:
        raise EBADF()
    if not mode & FMODE_CAN_READ:
        raise EISDIR() if S_ISDIR(file.f_inode.i_mode) else EINVAL()
    _verify_area(pos, count)
    count = min(count, MAX_RW_COUNT)
    op = file.f_op
    if type(op).read is not _NO_READ:
        data = op.read(file, count, pos)
        there = copied(len(data))
        if data and not there:
            raise EFAULT()
        return data[:there], pos + there
    iocb = Kiocb(file, pos, iocb_flags(file))
    data = op.read_iter(iocb, count)
    return data, iocb.ki_pos


def vfs_write(file: File, data: bytes, pos: int) -> tuple[int, int]:
    """Sleeps.  Write ``data`` at ``pos``; returns how many bytes were written and the position
    behind them.

    With O_APPEND it is the filesystem that finds the end of the file, under its own lock.

    Raises:
        OSError: in this order: EBADF (not open for writing), EINVAL (no method, bad range), EFBIG,
            EFAULT (user memory is gone), or what the filesystem says.

    Source: ``vfs_write``.
    """
    mode = file.f_mode
    if not mode & FMODE_WRITE:
        raise EBADF()
    if not mode & FMODE_CAN_WRITE:
        raise EINVAL()
    _verify_area(pos, len(data))
    if len(data) > MAX_RW_COUNT:
        data = data[:MAX_RW_COUNT]
    inode = file.f_inode
    if not S_ISREG(inode.i_mode):
        return kernel_write(file, data, pos)
    sb_start_write(inode.i_sb)
    try:
        return kernel_write(file, data, pos)
    finally:
        sb_end_write(inode.i_sb)


def kernel_write(file: File, data: bytes, pos: int) -> tuple[int, int]:
    """Sleeps.  As `vfs_write`, of a file that is open for writing, for a caller that has the write
    level of its superblock already.

    Raises:
        OSError: what the filesystem says.

    Source: ``__kernel_write``.
    """
    op = file.f_op
    if type(op).write is not _NO_WRITE:
        fault_in()
        written = op.write(file, data, pos)
        at_end = written and file.f_flags & os.O_APPEND
        return written, file.f_inode.i_size if at_end else pos + written
    iocb = Kiocb(file, pos, iocb_flags(file))
    written = op.write_iter(iocb, data)
    return written, iocb.ki_pos


def vfs_fsync_range(
    file: File, start: int = 0, end: int = LOFF_MAX, datasync: bool = False
) -> None:
    """Sleeps.  Bring a file's data (and, unless ``datasync``, all its attributes) to the disk.

    Raises:
        OSError: EINVAL if the filesystem has no ``fsync``, or what it says.

    No lock is held.  Source: ``vfs_fsync_range``.
    """
    op = file.f_op
    if type(op).fsync is _NO_FSYNC:
        raise EINVAL()
    if not datasync:
        write_times_now(file.f_inode)
    op.fsync(file, start, end, datasync)


# -- position ------------------------------------------------------------------------------------


def vfs_llseek(file: File, offset: int, whence: int) -> int:
    """Sleeps.  Move the file position; returns the new one.

    Raises:
        OSError: ESPIPE if the filesystem has no ``llseek``, or what it says.

    No lock is held but, if the position is shared, ``f_pos_lock``.  Source: ``vfs_llseek``.
    """
    op = file.f_op
    if not file.f_mode & FMODE_LSEEK or type(op).llseek is _NO_LLSEEK:
        raise ESPIPE()
    return op.llseek(file, offset, whence)


def generic_file_llseek(file: File, offset: int, whence: int) -> int:
    """Never sleeps.  ``llseek`` for files that have bytes: what nearly every filesystem uses.

    Raises:
        OSError: EINVAL (before the beginning, beyond the filesystem's limit, unknown ``whence``);
            ENXIO (SEEK_DATA and SEEK_HOLE at or behind the end).

    Takes ``f_lock`` for SEEK_CUR.  Source: ``generic_file_llseek``.
    """
    inode = file.f_inode
    limit = inode.i_sb.s_maxbytes
    if whence == os.SEEK_SET:
        pass
    elif whence == os.SEEK_END:
        offset += inode.i_size
    elif whence == os.SEEK_CUR:
        if not offset:
            return file.f_pos
        with file.f_lock:
            return vfs_setpos(file, file.f_pos + offset, limit)
    elif whence in (SEEK_DATA, SEEK_HOLE):
        size = inode.i_size
        if not 0 <= offset < size:
            raise ENXIO()
        if whence == SEEK_HOLE:
            offset = size
    else:
        raise EINVAL()
    return vfs_setpos(file, offset, limit)


def vfs_setpos(file: File, offset: int, limit: int) -> int:
    """Never sleeps.  Set the position if it is possible: EINVAL if negative or beyond ``limit``."""
    if not 0 <= offset <= limit:
        raise EINVAL()
    if offset != file.f_pos:
        file.f_pos = offset
        file.f_version = 0
    return offset


# -- directories ---------------------------------------------------------------------------------


class DirContext:
    """Where ``iterate`` puts the entries of a directory (Linux: ``struct dir_context``).

    Attributes:
        pos: the position; starts at the file's, and ``iterate`` moves it on as it emits.  Its
            meaning is the filesystem's, except that 0 is the beginning.
        entries: what was emitted so far, as (name, ino, type).
    """

    __slots__ = ("_may_fail", "entries", "full", "lost", "pos", "room")

    def __init__(self, pos: int, room: int) -> None:
        self.pos = pos
        self.room = room
        self.full = False
        self.lost = False
        self.entries: list[tuple[str, int, int]] = []
        self._may_fail = COPY in K.machine.faults

    def emit(self, name: str, ino: int, d_type: int) -> bool:
        """Never sleeps.  Add one entry; False if the buffer is full, or gone: then stop, and leave
        ``pos`` at this entry.

        Args:
            name: as in the directory.  ino: its inode number.  d_type: DT_* (``mode >> 12``).
        """
        length = len(name if name.isascii() else name.encode("utf-8", "surrogateescape"))
        need = _dirent_size(length)
        if need > self.room:
            self.full = True
            return False
        if self._may_fail and fails(COPY):
            self.lost = True
            return False
        self.room -= need
        self.entries.append((name, ino, d_type))
        return True

    def emit_all(self, entries: Sequence[tuple[str, int, int]]) -> int:
        """Never sleeps.  As `emit` of one after the other; returns how many of them went in."""
        names = [entry[0] for entry in entries]
        lengths = Counter(map(len, names))  # few, whatever the number of names
        need = sum(_dirent_size(length) * count for length, count in lengths.items())
        if need > self.room or self._may_fail or not "".join(names).isascii():
            return sum(1 for _ in takewhile(lambda entry: self.emit(*entry), entries))
        self.room -= need
        self.entries += entries
        return len(entries)

    def emit_dots(self, file: File) -> bool:
        """Never sleeps.  Emit ``.`` and ``..`` as positions 0 and 1, if ``pos`` is there; False if
        the buffer is full.

        Source: ``dir_emit_dots``.
        """
        for pos, name in ((0, "."), (1, "..")):
            if self.pos == pos:
                ino = parent_ino(file.f_path.dentry) if pos else file.f_inode.i_ino
                if not self.emit(name, ino, 4):
                    return False
                self.pos = pos + 1
        return True


def _dirent_size(length: int) -> int:
    """The bytes of an entry whose name has so many, as in ``struct linux_dirent64``."""
    return length + 27 & ~7


def parent_ino(dentry: Dentry) -> int:
    """Never sleeps.  The number of a directory's parent; a rename may move it meanwhile.

    Takes ``d_lock``.  Source: ``parent_ino``.
    """
    with dentry.d_lock:
        inode = dentry.d_parent.d_inode
        assert inode is not None
        return inode.i_ino


def iterate_dir(file: File, ctx: DirContext) -> None:
    """Sleeps.  Let the filesystem list a directory from the file's position on.

    Raises:
        OSError: ENOTDIR (no directory, or one without ``iterate``), ENOENT (the directory was
            removed), or what the filesystem says.

    Takes the directory's ``i_rwsem`` exclusive.  Source: ``iterate_dir``.
    """
    op = file.f_op
    if type(op).iterate is _NO_ITERATE:
        raise ENOTDIR()
    inode = file.f_inode
    sem = inode.i_rwsem
    sem.down_write()
    try:
        if inode.i_flags & S_DEAD:
            raise ENOENT()
        ctx.pos = file.f_pos
        op.iterate(file, ctx)
        file.f_pos = ctx.pos
        file.accessed()
    finally:
        sem.up_write()


def getdents(file: File, count: int) -> list[tuple[str, int, int]]:
    """Sleeps.  The next entries that fit ``count`` bytes, as (name, ino, type); none at the end.

    Raises:
        OSError: EINVAL if not even one fits, EFAULT if user memory is gone, or as `iterate_dir`.

    Source: ``getdents64``.
    """
    ctx = DirContext(file.f_pos, count)
    iterate_dir(file, ctx)
    if not ctx.entries:
        if ctx.full:
            raise EINVAL()
        if ctx.lost:
            raise EFAULT()
    return ctx.entries
