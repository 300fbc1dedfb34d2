"""A file's size and position, files without a name, and getting data to the disk."""

from __future__ import annotations

import os
from errno import EINVAL
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    asserts,
    drain,
    pattern,
    put,
    refused,
    same,
    same_data,
    take,
    touch,
)

if TYPE_CHECKING:
    from vfsim.testing.conformance.syscalls import SystemCalls

RW = "create read write"
PAGE = 4096


def _open(sys: SystemCalls, data: bytes = b"") -> int:
    """A new file /f with this content, open for reading and writing, positioned at its start."""
    fd = sys.open("/f", CREATE, 0o644)
    if data:
        same(sys.pwrite(fd, data, 0), len(data), "bytes written")
    return fd


# Truncating.  ----------------------------------------------------------------------------------


@asserts("truncate", "truncate by name sets st_size", needs=RW)
def by_name(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.truncate("/f", 3)
    same(take(sys, "/f"), b"abc")


@asserts("truncate", "truncate by name follows symlinks", needs=RW + " symlink")
def through_symlink(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.symlink("/f", "/l")
    sys.truncate("/l", 3)
    same(take(sys, "/f"), b"abc")


@asserts("truncate", "truncate to a negative length", needs="create")
def negative(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EINVAL, sys.truncate, "/f", -1)


@asserts("truncate", "ftruncate to a negative length", needs="create")
def fd_negative(sys: SystemCalls) -> None:
    refused(EINVAL, sys.ftruncate, _open(sys), -1)


@asserts("truncate", "ftruncate of a descriptor opened for reading", needs="create")
def fd_read_only(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EINVAL, sys.ftruncate, sys.open("/f", os.O_RDONLY), 0)


@asserts("truncate", "ftruncate of a directory", needs="")
def fd_directory(sys: SystemCalls) -> None:
    refused(EINVAL, sys.ftruncate, sys.open("/", os.O_RDONLY | os.O_DIRECTORY), 0)


@asserts("truncate", "ftruncate leaves the position alone", needs=RW)
def keeps_position(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.write(fd, b"abcdef")
    sys.ftruncate(fd, 2)
    sys.write(fd, b"X")
    same(sys.pread(fd, 10, 0), b"ab\0\0\0\0X")


@asserts("truncate", "another opening sees the new size at once", needs=RW)
def seen_by_others(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    other = sys.open("/f", os.O_RDONLY)
    same(sys.read(other, 2), b"ab")
    sys.ftruncate(fd, 3)
    same(sys.read(other, 10), b"c")
    same(sys.fstat(other).st_size, 3, "st_size")


@asserts("truncate", "O_TRUNC empties the file and keeps the inode", needs=RW)
def o_trunc(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    before = sys.stat("/f").st_ino
    sys.close(sys.open("/f", os.O_WRONLY | os.O_TRUNC))
    same((sys.stat("/f").st_size, sys.stat("/f").st_ino), (0, before), "st_size, st_ino")


@asserts("truncate", "O_TRUNC empties the file even when it is opened for reading", needs=RW)
def o_trunc_reading(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.close(sys.open("/f", os.O_RDONLY | os.O_TRUNC))
    same(sys.stat("/f").st_size, 0, "st_size")


@asserts("truncate", "O_CREAT|O_TRUNC of a file that is there empties it", needs=RW)
def o_creat_trunc(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.close(sys.open("/f", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644))
    same(take(sys, "/f"), b"")


@asserts("truncate", "what was cut off by O_TRUNC does not come back", needs=RW)
def o_trunc_then_hole(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    fd = sys.open("/f", os.O_RDWR | os.O_TRUNC)
    sys.pwrite(fd, b"X", 3)
    same(sys.pread(fd, 10, 0), b"\0\0\0X")


@asserts("truncate", "truncate of a file opened by nobody keeps what is left", needs=RW)
def unopened(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.truncate("/f", 4)
    sys.truncate("/f", 8)
    same(take(sys, "/f"), b"abcd\0\0\0\0")


# Appending.  -----------------------------------------------------------------------------------


@asserts("append", "O_APPEND writes at the end", needs=RW)
def at_end(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_WRONLY | os.O_APPEND)
    sys.write(fd, b"def")
    same(take(sys, "/f"), b"abcdef")


@asserts("append", "O_APPEND writes at the end wherever the position was", needs=RW + " llseek")
def after_seek(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_RDWR | os.O_APPEND)
    sys.lseek(fd, 0, os.SEEK_SET)
    sys.write(fd, b"def")
    same(sys.pread(fd, 10, 0), b"abcdef")


@asserts("append", "O_APPEND moves the position behind what it wrote", needs=RW + " llseek")
def position_after(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_RDWR | os.O_APPEND)
    sys.write(fd, b"de")
    same(sys.lseek(fd, 0, os.SEEK_CUR), 5)


@asserts("append", "pwrite on O_APPEND appends, as Linux does", needs=RW)
def pwrite_appends(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_RDWR | os.O_APPEND)
    sys.pwrite(fd, b"X", 0)
    same(sys.pread(fd, 10, 0), b"abcX")


@asserts("append", "two appenders add behind one another", needs=RW)
def two_appenders(sys: SystemCalls) -> None:
    touch(sys, "/f")
    one = sys.open("/f", os.O_WRONLY | os.O_APPEND)
    two = sys.open("/f", os.O_WRONLY | os.O_APPEND)
    for fd, data in ((one, b"1"), (two, b"22"), (one, b"333"), (two, b"4")):
        sys.write(fd, data)
    same(take(sys, "/f"), b"1223334")


@asserts("append", "O_APPEND reads from the beginning", needs=RW)
def reads_from_start(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    same(sys.read(sys.open("/f", os.O_RDWR | os.O_APPEND), 10), b"abc")


@asserts("append", "O_APPEND after truncate writes at the new end", needs=RW)
def after_truncate(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    fd = sys.open("/f", os.O_RDWR | os.O_APPEND)
    sys.truncate("/f", 2)
    sys.write(fd, b"X")
    same(sys.pread(fd, 10, 0), b"abX")


# The position.  --------------------------------------------------------------------------------

SEEK = RW + " llseek"


@asserts("lseek", "SEEK_SET, SEEK_CUR and SEEK_END tell the new position", needs=SEEK)
def three_ways(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    same(sys.lseek(fd, 4, os.SEEK_SET), 4, "SEEK_SET")
    same(sys.lseek(fd, -1, os.SEEK_CUR), 3, "SEEK_CUR")
    same(sys.lseek(fd, -2, os.SEEK_END), 4, "SEEK_END")
    same(sys.read(fd, 10), b"ef")


@asserts("lseek", "a position beyond the end is allowed and reads nothing", needs=SEEK)
def beyond_end(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    same(sys.lseek(fd, 10, os.SEEK_END), 13)
    same(sys.read(fd, 10), b"")
    same(sys.fstat(fd).st_size, 3, "st_size")


@asserts("lseek", "writing beyond the end fills the gap with zeroes", needs=SEEK)
def gap(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.lseek(fd, 2, os.SEEK_END)
    sys.write(fd, b"X")
    same(sys.pread(fd, 10, 0), b"abc\0\0X")


@asserts("lseek", "a negative position", needs=SEEK)
def before_start(sys: SystemCalls) -> None:
    refused(EINVAL, sys.lseek, _open(sys, b"abc"), -1, os.SEEK_SET)


@asserts(
    "lseek", "a negative position reached from the current one leaves it as it was", needs=SEEK
)
def before_start_relative(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.lseek(fd, 2, os.SEEK_SET)
    refused(EINVAL, sys.lseek, fd, -3, os.SEEK_CUR)
    same(sys.lseek(fd, 0, os.SEEK_CUR), 2, "position")


@asserts("lseek", "a negative position reached from the end", needs=SEEK)
def before_start_from_end(sys: SystemCalls) -> None:
    refused(EINVAL, sys.lseek, _open(sys, b"abc"), -4, os.SEEK_END)


@asserts("lseek", "a whence nobody knows", needs=SEEK)
def bad_whence(sys: SystemCalls) -> None:
    refused(EINVAL, sys.lseek, _open(sys), 0, 99)


@asserts("lseek", "SEEK_END follows a growing file", needs=SEEK)
def end_grows(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    same(sys.lseek(fd, 0, os.SEEK_END), 3)
    sys.pwrite(fd, b"def", 3)
    same(sys.lseek(fd, 0, os.SEEK_END), 6)


# Files without a name.  ------------------------------------------------------------------------

GONE = RW + " unlink"


@asserts("unlinked", "an unlinked open file is still read", needs=GONE)
def still_read(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.unlink("/f")
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("unlinked", "an unlinked open file is still written", needs=GONE)
def still_written(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.unlink("/f")
    sys.write(fd, b"ghost")
    same(sys.pread(fd, 10, 0), b"ghost")
    same(sys.fstat(fd).st_size, 5, "st_size")


@asserts("unlinked", "an unlinked open file has no links", needs=GONE)
def no_links(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.unlink("/f")
    same(sys.fstat(fd).st_nlink, 0, "st_nlink")


@asserts("unlinked", "an unlinked open file can be truncated", needs=GONE)
def still_truncated(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    sys.unlink("/f")
    sys.ftruncate(fd, 2)
    same(sys.pread(fd, 10, 0), b"ab")


@asserts("unlinked", "an unlinked open file can be chmod-ed and stat-ed", needs=GONE)
def still_changed(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.unlink("/f")
    sys.fchmod(fd, 0o600)
    same(sys.fstat(fd).st_mode & 0o777, 0o600, "mode")


@asserts("unlinked", "a new file of the same name is another file", needs=GONE)
def name_reused(sys: SystemCalls) -> None:
    fd = _open(sys, b"old")
    sys.unlink("/f")
    put(sys, "/f", b"new")
    same((sys.pread(fd, 10, 0), take(sys, "/f")), (b"old", b"new"))


@asserts("unlinked", "the last of two descriptors keeps an unlinked file", needs=GONE)
def two_descriptors(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    other = sys.dup(fd)
    sys.unlink("/f")
    sys.close(fd)
    same(sys.pread(other, 10, 0), b"abc")


@asserts("unlinked", "room is given back: making and removing a file many times", needs=GONE)
def room_given_back(sys: SystemCalls) -> None:
    for turn in range(100):
        put(sys, "/f", b"%03d" % turn)
        sys.unlink("/f")


@asserts("unlinked", "room is given back when the file was still open", needs=GONE)
def room_given_back_late(sys: SystemCalls) -> None:
    for turn in range(100):
        fd = _open(sys, b"%03d" % turn)
        sys.unlink("/f")
        same(sys.pread(fd, 10, 0), b"%03d" % turn)
        sys.close(fd)


# Getting it to the disk.  ----------------------------------------------------------------------


@asserts("sync", "fsync after a write, and the data is there", needs=RW + " fsync")
def fsync_file(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.fsync(fd)
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("sync", "fdatasync after a write, and the data is there", needs=RW + " fsync")
def fdatasync_file(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.fdatasync(fd)
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("sync", "fsync of a file nobody wrote", needs="create fsync")
def fsync_clean(sys: SystemCalls) -> None:
    sys.fsync(_open(sys))


@asserts("sync", "fsync through a descriptor opened for reading", needs=RW + " fsync")
def fsync_reader(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    sys.fsync(sys.open("/f", os.O_RDONLY))


@asserts("sync", "fsync of an unlinked file", needs=GONE + " fsync")
def fsync_unlinked(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.unlink("/f")
    sys.fsync(fd)
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("sync", "write, fsync, write, fsync, and the last word counts", needs=RW + " fsync")
def fsync_twice(sys: SystemCalls) -> None:
    fd = _open(sys, b"one")
    sys.fsync(fd)
    sys.pwrite(fd, b"two", 0)
    sys.fsync(fd)
    same(sys.pread(fd, 10, 0), b"two")


@asserts(
    "sync", "fsync of three pages, the middle one written again", needs=RW + " fsync", size=3 * PAGE
)
def fsync_pages(sys: SystemCalls) -> None:
    data = pattern(3 * PAGE)
    fd = _open(sys, data)
    sys.fsync(fd)
    sys.pwrite(fd, b"!" * 100, PAGE + 10)
    sys.fsync(fd)
    expected = data[: PAGE + 10] + b"!" * 100 + data[PAGE + 110 :]
    same_data(sys.pread(fd, 4 * PAGE, 0), expected)


@asserts("sync", "fsync of a directory", needs="fsync_dir create")
def fsync_directory(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.fsync(sys.open("/", os.O_RDONLY | os.O_DIRECTORY))


@asserts("sync", "sync with something to write", needs=RW)
def sync_all(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.sync()
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("sync", "syncfs with something to write", needs=RW)
def syncfs(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    sys.syncfs(fd)
    same(sys.pread(fd, 10, 0), b"abc")


@asserts("sync", "data is the same after time has passed", needs=RW, size=2 * PAGE)
def after_a_while(sys: SystemCalls) -> None:
    data = pattern(2 * PAGE)
    fd = _open(sys, data)
    sys.msleep(50)
    drained = drain(sys, fd)
    same_data(drained, data)
