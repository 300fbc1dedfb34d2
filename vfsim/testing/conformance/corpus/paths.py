"""Cases of one call with one path: every such call, on everything, written in every way."""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK
from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.testing.conformance.corpus.case import Case
from vfsim.testing.conformance.corpus.operands import Operand, everything, product
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

CREAT = os.O_CREAT | os.O_RDWR
LATER = 4_000_000_000_000_000_000


class Verb(NamedTuple):
    """A call that takes a path first: its word in ids, what follows the path, what it needs."""

    word: str
    name: str
    rest: tuple[Any, ...] = ()
    needs: str = ""

    def on(self, path: str) -> Call:
        """The call; ``symlink`` takes its path last."""
        if self.name == "symlink":
            return Call(self.name, (*self.rest, path))
        return Call(self.name, (path, *self.rest))


WALKERS = (
    Verb("stat", "stat"),
    Verb("lstat", "lstat"),
    Verb("access", "access", (os.F_OK,)),
    Verb("open", "open", (os.O_RDONLY | os.O_NONBLOCK, 0)),
    Verb("openx", "open", (CREAT | os.O_NONBLOCK, 0o640), "create"),
    Verb("opennew", "open", (CREAT | os.O_EXCL, 0o640), "create"),
    Verb("mkdir", "mkdir", (0o750,), "mkdir"),
    Verb("rmdir", "rmdir", (), "rmdir"),
    Verb("unlink", "unlink", (), "unlink"),
    Verb("symlink", "symlink", ("target",), "symlink"),
    Verb("mknod", "mknod", (S_IFREG | 0o640, 0), "create"),
    Verb("mkfifo", "mkfifo", (0o640,), "mknod"),
    Verb("readlink", "readlink"),
    Verb("chdir", "chdir"),
    Verb("listdir", "listdir"),
    Verb("truncate", "truncate", (2,), "write"),
    Verb("chmod", "chmod", (0o711,)),
    Verb("chown", "chown", (5, 6), "owners"),
    Verb("lchown", "lchown", (5, 6), "owners"),
    Verb("utime", "utime", (LATER, LATER + 10**9)),
    Verb("statfs", "statfs", (), "statfs"),
)
"""Calls whose walk is worth every shape of a path."""

OTHERS = (
    *(Verb(f"access-{mode:o}", "access", (mode,)) for mode in (1, 2, 4, 6, 7, 8)),
    *(Verb(f"chmod-{mode:o}", "chmod", (mode,)) for mode in (0, 0o777, 0o7777, 0o2644, 0o100644)),
    *(
        Verb(f"{name}-{uid}-{gid}".replace("--1", "-same"), name, (uid, gid), "owners")
        for name in ("chown", "lchown")
        for uid, gid in ((-1, -1), (7, -1), (-1, 8))
    ),
    *(Verb(f"truncate-{n}".replace("--", "-minus"), "truncate", (n,), "write")
      for n in (0, 4, 9, 5000, -1)),
    Verb("utime-now", "utime", (None, None)),
    Verb("umount", "umount"),
    Verb("symlink-nothing", "symlink", ("",), "symlink"),
    Verb("symlink-4095", "symlink", ("t" * 4095,), "symlink"),
    Verb("symlink-4096", "symlink", ("t" * 4096,), "symlink"),
    Verb("mknod-plain", "mknod", (0o640, 0), "create"),
    Verb("mknod-fifo", "mknod", (S_IFIFO | 0o640, 0), "mknod"),
    Verb("mknod-socket", "mknod", (S_IFSOCK | 0o640, 0), "mknod"),
    Verb("mknod-char", "mknod", (S_IFCHR | 0o640, 0x103), "mknod"),
    Verb("mknod-block", "mknod", (S_IFBLK | 0o640, 0x103), "mknod"),
    Verb("mknod-dir", "mknod", (S_IFDIR | 0o750, 0), "mknod"),
    Verb("mknod-link", "mknod", (S_IFLNK | 0o777, 0), "mknod"),
    Verb("mknod-odd", "mknod", (0o050000 | 0o777, 0), "mknod"),
)  # fmt: skip
"""The same calls, and others, with other arguments: for these the plain path does."""


def cases() -> Iterator[Case]:
    """Every verb on every operand; those of `WALKERS` in every shape."""
    for verb in WALKERS:
        for place in everything():
            yield from _case("path", verb, place)
    for verb in OTHERS:
        for place in product(shapes=("plain", "slash")):
            yield from _case("value", verb, place)


def _case(area: str, verb: Verb, place: Operand) -> Iterator[Case]:
    if verb.name == "open" and "fifo" in place.path and not verb.rest[0] & os.O_EXCL:
        return  # opening a FIFO is another story
    calls = [verb.on(place.path)]
    if verb.name == "chdir":
        calls.append(Call("getcwd"))
    needs = frozenset(verb.needs.split()) | place.needs
    yield Case(f"{area}.{verb.word}.{place.word}", tuple(calls), needs=needs)
