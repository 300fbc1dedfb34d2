"""What a filesystem does with an open file, as the document prints it::

    file_operations

    All may block.

    no row: llseek, read, write, read_iter, write_iter, iterate, poll, unlocked_ioctl,
    compat_ioctl, mmap, open, flush, release, fsync, fasync, lock, readv, writev, sendfile,
    sendpage, get_unmapped_area, check_flags, flock, splice_write, splice_read, setlease,
    fallocate

Called by the system calls on descriptors (`vfsim.fs.syscalls`, `vfsim.fs.read_write`), by open and
the last close (`vfsim.fs.file`), and by mmap(2), which holds ``mmap_sem``.  No other lock
is promised but the directory's ``i_rwsem`` around ``iterate``; a method takes the locks that it
needs, and ``llseek`` must find ``i_rwsem`` free to take.
"""

from __future__ import annotations

from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NoReturn

from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.rules import expects, must_hold, must_hold_shared, must_not_hold, prototype, watch
from vfsim.fs.operations.bits import FASYNC, S_DEAD
from vfsim.fs.operations.freeze_rules import (
    the_write_level_is_held,
    the_write_level_is_held_for_the_write,
)
from vfsim.sim.errors import EINVAL, ENODEV, ENOTDIR, ENOTTY, EOPNOTSUPP, ESPIPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.fs.file import File, Kiocb
    from vfsim.fs.inode import Inode
    from vfsim.mm.page import Page


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def the_open_directory_lives(file: File) -> bool:
    return not file.f_inode.i_flags & S_DEAD


def a_regular_file(file: File) -> bool:
    return S_ISREG(file.f_inode.i_mode)


def into_a_regular_file(iocb: Kiocb) -> bool:
    return S_ISREG(iocb.ki_filp.f_inode.i_mode)


# -- what `watch` looks at -------------------------------------------------------------------------


def keeps_fasync(call: Call, file: File, on: int) -> Iterator[None]:
    """P68: the FASYNC flag says what was asked."""
    yield
    if call.error is None:
        ok = bool(file.f_flags & FASYNC) == bool(on)
        call.check("P68", ok, f"returned with the FASYNC flag {'clear' if on else 'set'}")


# -- the table -------------------------------------------------------------------------------------


def _never(what: str) -> NoReturn:
    raise AssertionError(f"{what} is asked for with implements() first")


class FileOperations(Operations):
    """What a filesystem does with an open file (``file.f_op``).  The document gives the table no
    rows: all may block, and no lock is promised but what stands in its prose.
    """

    table = "file_operations"
    blanket = "All may block."
    blanket_rule = "P65"

    @prototype("loff_t (*llseek) (struct file *, loff_t, int);")
    @must_not_hold("file.f_inode.i_rwsem", rule="P66")
    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Sleeps.  Move ``f_pos``; returns where it is now.  Locks for itself (P66).

        Left out: ESPIPE.
        """
        raise ESPIPE()

    @prototype("ssize_t (*read) (struct file *, char __user *, size_t, loff_t *);")
    def read(self, file: File, count: int, pos: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from ``pos``; empty at the end.

        Left out: `read_iter`, or EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*write) (struct file *, const char __user *, size_t, loff_t *);")
    @expects(the_write_level_is_held, when=a_regular_file, rule="E6")
    def write(self, file: File, data: bytes, pos: int) -> int:
        """Sleeps.  Write at ``pos``; returns how many bytes.  Left out: `write_iter`, or EINVAL."""
        raise EINVAL()

    @prototype("ssize_t (*read_iter) (struct kiocb *, struct iov_iter *);")
    def read_iter(self, iocb: Kiocb, count: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from ``iocb.ki_pos``, which moves on.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*write_iter) (struct kiocb *, struct iov_iter *);")
    @expects(the_write_level_is_held_for_the_write, when=into_a_regular_file, rule="E6")
    def write_iter(self, iocb: Kiocb, data: bytes) -> int:
        """Sleeps.  Write at ``iocb.ki_pos``, which moves on; returns how many bytes.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("int (*iterate) (struct file *, struct dir_context *);")
    @must_hold("file.f_inode.i_rwsem", rule="E4")
    @expects(the_open_directory_lives, rule="E4")
    def iterate(self, file: File, ctx: Any) -> None:
        """Sleeps.  Tell ``ctx.emit(name, ino, d_type)`` of the entries from ``ctx.pos`` on, until
        it says False.

        Left out: not a directory, ENOTDIR.
        """
        raise ENOTDIR()

    @prototype("unsigned int (*poll) (struct file *, struct poll_table_struct *);")
    def poll(self, file: File, wait: Any) -> int:
        """Sleeps.  POLL* bits that are true now; ``wait`` is told whom to wait for.

        Left out: readable, writable.
        """
        return 0x145

    @prototype("long (*unlocked_ioctl) (struct file *, unsigned int, unsigned long);")
    def unlocked_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2).  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("long (*compat_ioctl) (struct file *, unsigned int, unsigned long);")
    def compat_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2) of a 32-bit program.  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("int (*mmap) (struct file *, struct vm_area_struct *);")
    @must_hold("vma.vm_mm.mmap_sem", rule="E19")
    def mmap(self, file: File, vma: Any) -> None:
        """Sleeps.  Prepare a mapping: set ``vma.vm_ops``.  Left out: ENODEV."""
        raise ENODEV()

    @prototype("int (*open) (struct inode *, struct file *);")
    def open(self, inode: Inode, file: File) -> None:
        """Sleeps.  A file is being opened: set ``private_data``, or refuse.  Left out: fine."""

    @prototype("int (*flush) (struct file *);")
    def flush(self, file: File) -> None:
        """Sleeps.  A descriptor is being closed (others may remain); its error is close(2)'s.

        Left out: nothing.
        """

    @prototype("int (*release) (struct inode *, struct file *);")
    def release(self, inode: Inode, file: File) -> None:
        """Sleeps.  The last reference is gone: undo `open`.  Left out: nothing."""

    @prototype("int (*fsync) (struct file *, loff_t start, loff_t end, int datasync);")
    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Sleeps.  Bytes ``start`` to ``end`` (inclusive) and, unless ``datasync``, all attributes
        are on the medium when it returns.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("int (*fasync) (int, struct file *, int);")
    @watch(keeps_fasync)
    def fasync(self, fd: int, file: File, on: int) -> int:
        """Sleeps.  Turn signal-driven I/O on or off, and the FASYNC flag with it (P68).

        Left out: the flag only.
        """
        file.f_flags = file.f_flags | FASYNC if on else file.f_flags & ~FASYNC
        return 0

    @prototype("int (*lock) (struct file *, int, struct file_lock *);")
    def lock(self, file: File, cmd: int, fl: Any) -> int:
        """Sleeps.  Set or test a POSIX lock.

        Left out: never called; the kernel keeps the locks itself.
        """
        _never("lock")

    @prototype("ssize_t (*readv) (struct file *, const struct iovec *, unsigned long, loff_t *);")
    def readv(self, file: File, iov: Sequence[int], pos: int) -> bytes:
        """Sleeps.  Read into pieces of these lengths.  Called if there is no `read_iter`, as older
        kernels did.

        Left out: piece by piece, EINVAL if it cannot be read at all.
        """
        raise EINVAL()

    @prototype("ssize_t (*writev) (struct file *, const struct iovec *, unsigned long, loff_t *);")
    def writev(self, file: File, iov: Sequence[bytes], pos: int) -> int:
        """Sleeps.  Write these pieces.  Called if there is no `write_iter`, as older kernels did.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype(
        "ssize_t (*sendfile) (struct file *, loff_t *, size_t, read_actor_t, void __user *);"
    )
    def sendfile(self, file: File, pos: int, count: int, actor: Any, target: Any) -> int:
        """Sleeps.  Feed bytes to ``actor``.  Called if there is no `splice_read`, as older kernels
        did.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*sendpage) (struct file *, struct page *, int, size_t, loff_t *, int);")
    def sendpage(self, file: File, page: Page, offset: int, size: int, pos: int, more: int) -> int:
        """Sleeps.  Send part of a page, for sockets.  Left out: EINVAL."""
        raise EINVAL()

    @prototype(
        "unsigned long (*get_unmapped_area)(struct file *, unsigned long, unsigned long, unsigned "
        "long, unsigned long);"
    )
    @must_hold_shared("any mmap_sem", rule="E19")
    def get_unmapped_area(self, file: File, addr: int, len: int, pgoff: int, flags: int) -> int:
        """Sleeps.  Choose an address for a mapping.

        Left out: never called; the process's address space decides.
        """
        _never("get_unmapped_area")

    @prototype("int (*check_flags)(int);")
    def check_flags(self, flags: int) -> None:
        """Sleeps.  Refuse flags that fcntl(F_SETFL) wants to set.  Left out: all are fine."""

    @prototype("int (*flock) (struct file *, int, struct file_lock *);")
    def flock(self, file: File, cmd: int, fl: Any) -> int:
        """Sleeps.  flock(2).  Left out: never called; the kernel keeps the locks itself."""
        _never("flock")

    @prototype(
        "ssize_t (*splice_write)(struct pipe_inode_info *, struct file *, loff_t *, size_t, "
        "unsigned int);"
    )
    def splice_write(self, pipe: Any, file: File, pos: int, len: int, flags: int) -> int:
        """Sleeps.  Move bytes from a pipe into the file.

        Left out: never called; the kernel writes what it reads.
        """
        _never("splice_write")

    @prototype(
        "ssize_t (*splice_read)(struct file *, loff_t *, struct pipe_inode_info *, size_t, "
        "unsigned int);"
    )
    def splice_read(self, file: File, pos: int, pipe: Any, len: int, flags: int) -> int:
        """Sleeps.  Move bytes from the file into a pipe.

        Left out: never called; the kernel writes what it reads.
        """
        _never("splice_read")

    @prototype("int (*setlease)(struct file *, long, struct file_lock **, void **);")
    def setlease(self, file: File, arg: int, flp: Any, priv: Any) -> int:
        """Sleeps.  Set a lease, with ``generic_setlease`` before or after (P73).

        Left out: just that.
        """
        _never("setlease")

    @prototype("long (*fallocate)(struct file *, int, loff_t, loff_t);")
    @expects(the_write_level_is_held, rule="E6")
    def fallocate(self, file: File, mode: int, offset: int, len: int) -> None:
        """Sleeps.  Reserve, punch or shift a range.  Left out: EOPNOTSUPP."""
        raise EOPNOTSUPP()
