"""File descriptors: numbers, copies, and what is refused."""

from __future__ import annotations

import fcntl
import os
from errno import EBADF, EINVAL
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    Assertion,
    asserts,
    put,
    refused,
    register,
    same,
    touch,
    true,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import SystemCalls

RW = "create read write"

_CALLS: dict[str, Callable[[SystemCalls, int], object]] = {
    "read": lambda sys, fd: sys.read(fd, 1),
    "write": lambda sys, fd: sys.write(fd, b"x"),
    "pread": lambda sys, fd: sys.pread(fd, 1, 0),
    "pwrite": lambda sys, fd: sys.pwrite(fd, b"x", 0),
    "lseek": lambda sys, fd: sys.lseek(fd, 0, os.SEEK_SET),
    "fstat": lambda sys, fd: sys.fstat(fd),
    "ftruncate": lambda sys, fd: sys.ftruncate(fd, 0),
    "fsync": lambda sys, fd: sys.fsync(fd),
    "fdatasync": lambda sys, fd: sys.fdatasync(fd),
    "syncfs": lambda sys, fd: sys.syncfs(fd),
    "fchmod": lambda sys, fd: sys.fchmod(fd, 0o600),
    "fchown": lambda sys, fd: sys.fchown(fd, 0, 0),
    "fchdir": lambda sys, fd: sys.fchdir(fd),
    "getdents": lambda sys, fd: sys.getdents(fd),
    "fstatfs": lambda sys, fd: sys.fstatfs(fd),
    "dup": lambda sys, fd: sys.dup(fd),
    "dup2": lambda sys, fd: sys.dup2(fd, 50),
    "fcntl": lambda sys, fd: sys.fcntl(fd, fcntl.F_GETFL),
    "close": lambda sys, fd: sys.close(fd),
}


def _on_closed(call: Callable[[SystemCalls, int], object]) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        fd = sys.open("/", os.O_RDONLY)
        sys.close(fd)
        refused(EBADF, call, sys, fd)

    return body


for _name, _call in _CALLS.items():
    register(
        Assertion(
            id=f"fd.closed-{_name}",
            area="fd",
            name=f"{_name} of a closed descriptor",
            body=_on_closed(_call),
        )
    )


@asserts("fd", "a descriptor nobody ever had", needs="")
def never_open(sys: SystemCalls) -> None:
    refused(EBADF, sys.fstat, 900)
    refused(EBADF, sys.close, -1)


@asserts("fd", "open gives the lowest number that is free", needs="create")
def lowest_number(sys: SystemCalls) -> None:
    fds = [sys.open("/", os.O_RDONLY) for _ in range(3)]
    sys.close(fds[1])
    same(sys.open("/", os.O_RDONLY), fds[1])


@asserts("fd", "dup gives another number", needs="create")
def dup_number(sys: SystemCalls) -> None:
    fd = sys.open("/f", CREATE, 0o644)
    true(sys.dup(fd) != fd, "another number", fd)


@asserts("fd", "dup shares the position", needs=RW)
def dup_shares(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    fd = sys.open("/f", os.O_RDONLY)
    other = sys.dup(fd)
    same((sys.read(fd, 2), sys.read(other, 2), sys.read(fd, 2)), (b"ab", b"cd", b"ef"))


@asserts("fd", "the copy stays when the first is closed", needs=RW)
def dup_stays(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_RDONLY)
    other = sys.dup(fd)
    sys.close(fd)
    same(sys.read(other, 3), b"abc")


@asserts("fd", "dup2 gives the number asked for", needs="create")
def dup2_number(sys: SystemCalls) -> None:
    touch(sys, "/f")
    fd = sys.open("/f", os.O_RDONLY)
    same(sys.dup2(fd, 60), 60)
    same(sys.fstat(60).st_ino, sys.stat("/f").st_ino, "st_ino")


@asserts("fd", "dup2 closes what had the number", needs="create")
def dup2_replaces(sys: SystemCalls) -> None:
    touch(sys, "/f")
    touch(sys, "/g")
    one, two = sys.open("/f", os.O_RDONLY), sys.open("/g", os.O_RDONLY)
    sys.dup2(one, two)
    same(sys.fstat(two).st_ino, sys.stat("/f").st_ino, "st_ino")


@asserts("fd", "dup2 onto itself does nothing", needs="create")
def dup2_itself(sys: SystemCalls) -> None:
    fd = sys.open("/f", CREATE, 0o644)
    same(sys.dup2(fd, fd), fd)
    sys.fstat(fd)


@asserts("fd", "dup2 to a negative number", needs="")
def dup2_negative(sys: SystemCalls) -> None:
    refused(EBADF, sys.dup2, sys.open("/", os.O_RDONLY), -1)


@asserts("fd", "fcntl(F_DUPFD) gives a number from the one asked for on", needs="create")
def f_dupfd(sys: SystemCalls) -> None:
    fd = sys.open("/f", CREATE, 0o644)
    same(sys.fcntl(fd, fcntl.F_DUPFD, 70), 70)
    same(sys.fcntl(fd, fcntl.F_DUPFD, 70), 71)


@asserts("fd", "fcntl(F_GETFL) tells access mode and O_APPEND", needs="create")
def f_getfl(sys: SystemCalls) -> None:
    touch(sys, "/f")
    mask = os.O_ACCMODE | os.O_APPEND
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        same(sys.fcntl(sys.open("/f", flags), fcntl.F_GETFL) & mask, flags, "flags")


@asserts("fd", "fcntl(F_SETFL) switches O_APPEND on", needs=RW)
def f_setfl(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fd = sys.open("/f", os.O_RDWR)
    sys.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    sys.write(fd, b"d")
    same(sys.pread(fd, 10, 0), b"abcd")


@asserts("fd", "fcntl with a command nobody knows", needs="")
def f_unknown(sys: SystemCalls) -> None:
    refused(EINVAL, sys.fcntl, sys.open("/", os.O_RDONLY), 9999)


@asserts("fd", "write to a directory", needs="")
def write_directory(sys: SystemCalls) -> None:
    refused(EBADF, sys.write, sys.open("/", os.O_RDONLY | os.O_DIRECTORY), b"x")


@asserts("fd", "thirty descriptors of one file, closed in another order", needs=RW)
def thirty(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    fds = [sys.open("/f", os.O_RDONLY) for _ in range(30)]
    for fd in fds[::2] + fds[1::2]:
        same(sys.pread(fd, 3, 0), b"abc")
        sys.close(fd)
