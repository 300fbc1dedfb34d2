"""What is written is what is read, whole and in pieces, with holes and around page boundaries."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    Assertion,
    asserts,
    pattern,
    put,
    refused,
    register,
    same,
    same_data,
    take,
    touch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import SystemCalls

RW = "create read write"
PAGE = 4096


def _open(sys: SystemCalls, data: bytes = b"") -> int:
    """A new file /f with this content, open for reading and writing, positioned at its start."""
    fd = sys.open("/f", CREATE, 0o644)
    if data:
        same(sys.pwrite(fd, data, 0), len(data), "bytes written")
    return fd


# Reading and writing.  -------------------------------------------------------------------------


@asserts("data", "a new file is empty", needs="create read")
def new_file_empty(sys: SystemCalls) -> None:
    fd = _open(sys)
    same(sys.read(fd, 10), b"")
    same(sys.fstat(fd).st_size, 0, "st_size")


@asserts("data", "write tells how many bytes it took", needs=RW)
def write_count(sys: SystemCalls) -> None:
    same(sys.write(_open(sys), b"12345"), 5)


@asserts("data", "what was written is read", needs=RW)
def read_back(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.write(fd, b"hello")
    same(sys.pread(fd, 100, 0), b"hello")


@asserts("data", "what was written is read after close and open", needs=RW)
def read_back_reopened(sys: SystemCalls) -> None:
    put(sys, "/f", b"hello")
    same(take(sys, "/f"), b"hello")


@asserts("data", "write extends st_size", needs=RW)
def write_extends(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.write(fd, b"12345")
    same(sys.fstat(fd).st_size, 5)
    sys.write(fd, b"678")
    same(sys.fstat(fd).st_size, 8)


@asserts("data", "read at the end returns nothing", needs=RW)
def read_at_end(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.write(fd, b"12345")
    same(sys.read(fd, 5), b"")


@asserts("data", "read across the end returns what is there", needs=RW)
def short_read(sys: SystemCalls) -> None:
    fd = _open(sys, b"12345")
    same(sys.pread(fd, 10, 3), b"45")


@asserts("data", "pread beyond the end returns nothing", needs=RW)
def pread_beyond(sys: SystemCalls) -> None:
    same(sys.pread(_open(sys, b"12345"), 10, 50), b"")


@asserts("data", "reads follow one another", needs=RW)
def reads_advance(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    same([sys.read(fd, 2) for _ in range(4)], [b"ab", b"cd", b"ef", b""])


@asserts("data", "read and write share the position", needs=RW)
def shared_position(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    sys.read(fd, 2)
    sys.write(fd, b"XY")
    same(sys.read(fd, 2), b"ef")
    same(sys.pread(fd, 10, 0), b"abXYef")


@asserts("data", "overwriting in the middle keeps the rest", needs=RW)
def overwrite_middle(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    sys.pwrite(fd, b"--", 2)
    same(sys.pread(fd, 10, 0), b"ab--ef")
    same(sys.fstat(fd).st_size, 6, "st_size")


@asserts("data", "overwriting across the end keeps the beginning", needs=RW)
def overwrite_across_end(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    sys.pwrite(fd, b"1234", 4)
    same(sys.pread(fd, 10, 0), b"abcd1234")


@asserts("data", "writing no bytes changes nothing", needs=RW)
def write_nothing(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    same(sys.pwrite(fd, b"", 10), 0)
    same(sys.fstat(fd).st_size, 3, "st_size")


@asserts("data", "reading no bytes returns nothing and stays", needs=RW)
def read_nothing(sys: SystemCalls) -> None:
    fd = _open(sys, b"abc")
    same(sys.read(fd, 0), b"")
    same(sys.read(fd, 3), b"abc")


@asserts("data", "zero bytes are data like any other", needs=RW)
def binary(sys: SystemCalls) -> None:
    data = bytes(range(64))
    same(sys.pread(_open(sys, data), 100, 0), data)


@asserts("data", "pread leaves the position alone", needs=RW)
def pread_keeps_position(sys: SystemCalls) -> None:
    fd = _open(sys, b"abcdef")
    sys.pread(fd, 3, 3)
    same(sys.read(fd, 2), b"ab")


@asserts("data", "pwrite leaves the position alone", needs=RW)
def pwrite_keeps_position(sys: SystemCalls) -> None:
    fd = _open(sys)
    sys.pwrite(fd, b"abcdef", 0)
    same(sys.read(fd, 2), b"ab")


@asserts("data", "pread before the beginning", needs=RW)
def pread_negative(sys: SystemCalls) -> None:
    refused(EINVAL, sys.pread, _open(sys, b"abc"), 1, -1)


@asserts("data", "pwrite before the beginning", needs=RW)
def pwrite_negative(sys: SystemCalls) -> None:
    refused(EINVAL, sys.pwrite, _open(sys, b"abc"), b"x", -1)


@asserts("data", "two openings of a file have positions of their own", needs=RW)
def own_positions(sys: SystemCalls) -> None:
    one = _open(sys, b"abcdef")
    two = sys.open("/f", os.O_RDONLY)
    sys.read(one, 4)
    same(sys.read(two, 2), b"ab")


@asserts("data", "what one opening writes the other reads at once", needs=RW)
def coherent(sys: SystemCalls) -> None:
    one = _open(sys)
    two = sys.open("/f", os.O_RDONLY)
    same(sys.read(two, 10), b"")
    sys.write(one, b"news")
    same(sys.read(two, 10), b"news")


@asserts(
    "data", "what one opening overwrites the other, which has read it before, reads anew", needs=RW
)
def coherent_after_read(sys: SystemCalls) -> None:
    one = _open(sys, b"old")
    two = sys.open("/f", os.O_RDONLY)
    same(sys.pread(two, 10, 0), b"old")
    sys.pwrite(one, b"new", 0)
    same(sys.pread(two, 10, 0), b"new")


@asserts("data", "two files keep their data apart", needs=RW)
def apart(sys: SystemCalls) -> None:
    put(sys, "/a", b"aaaa")
    put(sys, "/b", b"bb")
    same((take(sys, "/a"), take(sys, "/b")), (b"aaaa", b"bb"))


@asserts(
    "data", "several files written in turns keep their data apart", needs=RW, files=4, size=512
)
def apart_in_turns(sys: SystemCalls) -> None:
    fds = [sys.open(f"/f{i}", CREATE, 0o644) for i in range(4)]
    for turn in range(8):
        for i, fd in enumerate(fds):
            sys.write(fd, bytes([65 + i, 97 + turn]) * 32)
    for i, fd in enumerate(fds):
        expected = b"".join(bytes([65 + i, 97 + turn]) * 32 for turn in range(8))
        same_data(sys.pread(fd, 1024, 0), expected, f"content of f{i}")


@asserts("data", "read of a descriptor opened for writing", needs=RW)
def read_write_only(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EBADF, sys.read, sys.open("/f", os.O_WRONLY), 1)


@asserts("data", "pread of a descriptor opened for writing", needs=RW)
def pread_write_only(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EBADF, sys.pread, sys.open("/f", os.O_WRONLY), 1, 0)


@asserts("data", "write to a descriptor opened for reading", needs=RW)
def write_read_only(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EBADF, sys.write, sys.open("/f", os.O_RDONLY), b"x")


@asserts("data", "pwrite to a descriptor opened for reading", needs=RW)
def pwrite_read_only(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(EBADF, sys.pwrite, sys.open("/f", os.O_RDONLY), b"x", 0)


@asserts(
    "data",
    "a file made read-only in its mode stays writable through the descriptor that made it",
    needs=RW,
)
def mode_after_open(sys: SystemCalls) -> None:
    fd = sys.open("/f", CREATE, 0o000)
    same(sys.write(fd, b"abc"), 3)
    same(sys.pread(fd, 3, 0), b"abc")


# Sizes around the page.  -----------------------------------------------------------------------


def _whole(size: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        data = pattern(size)
        put(sys, "/f", data)
        same(sys.stat("/f").st_size, size, "st_size")
        same_data(take(sys, "/f"), data)

    return body


def _overwrite(start: int, length: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        base, patch = pattern(3 * PAGE), pattern(length, seed=9)
        fd = _open(sys, base)
        sys.pwrite(fd, patch, start)
        expected = base[:start] + patch + base[start + length :]
        same_data(sys.pread(fd, 4 * PAGE, 0), expected)

    return body


def _piece(start: int, length: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        data = pattern(3 * PAGE)
        same_data(sys.pread(_open(sys, data), length, start), data[start : start + length])

    return body


def _cut(old: int, new: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        data = pattern(old)
        fd = _open(sys, data)
        sys.ftruncate(fd, new)
        same(sys.fstat(fd).st_size, new, "st_size")
        same_data(sys.pread(fd, 1 << 16, 0), data[:new] + bytes(max(0, new - old)))

    return body


def _recut(old: int, middle: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        data = pattern(old)
        fd = _open(sys, data)
        sys.ftruncate(fd, middle)
        sys.ftruncate(fd, old)
        same_data(sys.pread(fd, 1 << 16, 0), data[:middle] + bytes(old - middle))

    return body


def _hole(start: int) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        fd = _open(sys, b"head")
        sys.pwrite(fd, b"tail", start)
        same(sys.fstat(fd).st_size, start + 4, "st_size")
        same_data(sys.pread(fd, 1 << 17, 0), b"head" + bytes(start - 4) + b"tail")

    return body


def _table(
    slug: str,
    name: str,
    make: Callable[..., Callable[[SystemCalls], None]],
    rows: list[tuple[int, ...]],
) -> None:
    """One assertion a row: the numbers go into id, name and body."""
    for row in rows:
        register(
            Assertion(
                id=f"data.{slug}-" + "-".join(str(number) for number in row),
                area="data",
                name=name.format(*row),
                body=make(*row),
                needs=frozenset(RW.split()),
                size=max(sum(row) + 4 * (make is _hole), 3 * PAGE * (make in (_overwrite, _piece))),
            )
        )


_table(
    "whole", "a file of {} bytes is read as it was written", _whole,
    [(1,), (511,), (512,), (513,), (4095,), (4096,), (4097,), (8192,), (12289,), (65536,)],
)  # fmt: skip
_table(
    "overwrite", "overwriting from byte {}, {} bytes, keeps the rest", _overwrite,
    [(0, 1), (1, 10), (4095, 1), (4095, 2), (4096, 1), (4096, 4096), (100, 4096), (4000, 5000),
     (8191, 4097)],
)  # fmt: skip
_table(
    "piece", "reading from byte {}, {} bytes", _piece,
    [(0, 4096), (1, 4095), (4095, 2), (4096, 4096), (4000, 5000), (12287, 1), (12287, 10)],
)  # fmt: skip
_table(
    "truncate", "ftruncate from {} to {} bytes", _cut,
    [(10, 0), (10, 4), (10, 10), (10, 50), (0, 10), (5000, 100), (5000, 4096), (5000, 4097),
     (8192, 4096), (100, 5000), (4096, 8192), (12000, 0)],
)  # fmt: skip
_table(
    "retruncate", "ftruncate from {0} to {1} and back shows zeroes behind byte {1}", _recut,
    [(10, 4), (60, 0), (4096, 100), (4096, 4095), (8192, 4096), (8192, 5000), (12000, 1)],
)  # fmt: skip
_table(
    "hole", "writing at byte {} of a short file leaves zeroes in between", _hole,
    [(5,), (50,), (500,), (4096,), (4090,), (8192,), (10000,), (65000,)],
)  # fmt: skip


@asserts(
    "data", "a file written in pieces that end anywhere is read as a whole", needs=RW, size=16384
)
def odd_pieces(sys: SystemCalls) -> None:
    data = pattern(16384)
    fd = _open(sys)
    done, step = 0, 1
    while done < len(data):
        done += sys.write(fd, data[done : done + step])
        step = step * 3 % 1021 + 1
    same_data(sys.pread(fd, 1 << 16, 0), data)


@asserts("data", "a file written back to front is read as a whole", needs=RW, size=16384)
def back_to_front(sys: SystemCalls) -> None:
    data = pattern(16384)
    fd = _open(sys)
    for start in range(15000, -1, -1000):
        sys.pwrite(fd, data[start : start + 1384], start)
    same_data(sys.pread(fd, 1 << 16, 0), data)
