"""Cases of calls that begin in an open directory: everything that such a descriptor can be, and
every such call with a few paths.

What a path means is asked in all its shapes elsewhere (`paths`); here it is where it begins.
"""

from __future__ import annotations

import os
from itertools import product
from stat import S_IFIFO, S_IFREG
from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.fs.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
)
from vfsim.testing.conformance.corpus.case import Case
from vfsim.testing.conformance.corpus.paths import LATER
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD = 1 << 30
"""A flag that no call knows."""

BASE = "create mkdir nested write symlink"
"""What a filesystem needs for the tree and the paths below."""

_FULL, _DIR = Call("open", ("full", os.O_RDONLY, 0)), Call("open", ("dir", os.O_RDONLY, 0))
BEGINNINGS: dict[str, tuple[tuple[Call, ...], int, str]] = {
    "cwd": ((), AT_FDCWD, ""),
    "dir": ((_FULL,), 0, ""),
    "path": ((Call("open", ("full", os.O_PATH, 0)),), 0, ""),
    "file": ((Call("open", ("file", os.O_RDONLY, 0)),), 0, ""),
    "link": ((Call("open", ("lfull", os.O_PATH | os.O_NOFOLLOW, 0)),), 0, ""),
    "fifo": ((Call("open", ("fifo", os.O_PATH, 0)),), 0, "mknod"),
    "removed": ((_DIR, Call("rmdir", ("dir",))), 0, "rmdir removed_dirs"),
    "moved": ((_FULL, Call("rename", ("full", "dir/moved"))), 0, "rename"),
    "closed": ((_FULL, Call("close", (0,))), 0, ""),
    "unopened": ((), 99, ""),
    "negative": ((), -1, ""),
}
"""Word in ids → how the descriptor comes to be, which it is, and what that needs."""

PATHS = {
    "file": "file",
    "sub": "sub",
    "new": "new",
    "slash": "sub/",
    "beneath": "file/new",
    "up": "../file",
    "link": "../lfile",
    "here": ".",
    "top": "/file",
    "empty": "",
    "long": "n" * 4096,
}
"""Word in ids → path."""


class Verb(NamedTuple):
    """A call: its word in ids, what comes before the descriptor, behind the path; what it needs."""

    word: str
    name: str
    rest: tuple[Any, ...] = ()
    needs: str = ""
    before: tuple[Any, ...] = ()

    def on(self, dfd: int, path: str) -> Call:
        """The call."""
        return Call(self.name, (*self.before, dfd, path, *self.rest))


VERBS = (
    Verb("openat-r", "openat", (os.O_RDONLY, 0)),
    Verb("openat-creat", "openat", (os.O_CREAT | os.O_RDWR, 0o640)),
    Verb("openat-new", "openat", (os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)),
    Verb("openat-path", "openat", (os.O_PATH | os.O_NOFOLLOW, 0)),
    Verb("openat-tmpfile", "openat", (os.O_TMPFILE | os.O_RDWR, 0o640), "tmpfile"),
    Verb("mkdirat", "mkdirat", (0o750,)),
    Verb("mknodat", "mknodat", (S_IFREG | 0o640, 0)),
    Verb("mknodat-fifo", "mknodat", (S_IFIFO | 0o640, 0), "mknod"),
    Verb("unlinkat", "unlinkat", (0,), "unlink"),
    Verb("unlinkat-dir", "unlinkat", (AT_REMOVEDIR,), "rmdir"),
    Verb("unlinkat-odd", "unlinkat", (ODD,)),
    Verb("symlinkat", "symlinkat", (), "", ("target",)),
    Verb("readlinkat", "readlinkat"),
    Verb("fstatat", "fstatat", (0,)),
    Verb("fstatat-nofollow", "fstatat", (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,)),
    Verb("fstatat-empty", "fstatat", (AT_EMPTY_PATH,)),
    Verb("fstatat-odd", "fstatat", (ODD,)),
    Verb("faccessat", "faccessat", (os.R_OK,)),
    Verb("faccessat-odd", "faccessat", (8,)),
    Verb("fchmodat", "fchmodat", (0o711,)),
    Verb("fchownat", "fchownat", (5, 6, 0), "owners"),
    Verb("fchownat-nofollow", "fchownat", (5, 6, AT_SYMLINK_NOFOLLOW), "owners"),
    Verb("fchownat-empty", "fchownat", (5, 6, AT_EMPTY_PATH), "owners"),
    Verb("fchownat-odd", "fchownat", (5, 6, ODD), "owners"),
    Verb("utimensat", "utimensat", (LATER, LATER + 10**9, 0)),
    Verb("utimensat-nofollow", "utimensat", (LATER, LATER + 10**9, AT_SYMLINK_NOFOLLOW)),
    Verb("utimensat-odd", "utimensat", (LATER, LATER + 10**9, ODD)),
)

_OLD = ("file", "sub", "link", "empty", "absent")
_NEW = ("new", "file", "up", "top", "empty")
_ABSENT = {"absent": "absent"}
LINKS = {"plain": 0, "follow": AT_SYMLINK_FOLLOW, "empty": AT_EMPTY_PATH, "odd": ODD}
RENAMES = {"plain": 0, "noreplace": 1, "exchange": 2}


def cases() -> Iterator[Case]:
    """All of it."""
    for verb, (word, path), beginning in product(VERBS, PATHS.items(), BEGINNINGS):
        before, dfd, needs = BEGINNINGS[beginning]
        id = f"{verb.word}.{beginning}.{word}"
        yield _case(id, (*before, verb.on(dfd, path)), needs, verb.needs)
    yield from _two_paths("linkat", LINKS, "link")
    yield from _two_paths("renameat", RENAMES, "rename")


def _two_paths(name: str, flags: dict[str, int], needs: str) -> Iterator[Case]:
    """Calls with two directories: each of the kinds on either side, the other in the ordinary."""
    some = {**PATHS, **_ABSENT}
    for (word, flag), old, new in product(flags.items(), _OLD, _NEW):
        for beginning, (before, dfd, more) in BEGINNINGS.items():
            for side in ("old", "new") if beginning != "cwd" else ("both",):
                dfds = (AT_FDCWD, dfd) if side == "new" else (dfd, AT_FDCWD)
                args = (dfds[0], some[old], dfds[1], some[new], flag)
                may_refuse = word if name == "renameat" and flag else ""
                id = f"{name}-{word}.{beginning}-{side}.{old}.{new}"
                calls = (*before, Call(name, args))
                yield _case(id, calls, more, needs, may_refuse)


def _case(id: str, calls: tuple[Call, ...], more: str, needs: str, may_refuse: str = "") -> Case:
    words = frozenset(f"{BASE} {more} {needs}".split())
    return Case(f"dfd.{id}", calls, needs=words, may_refuse=may_refuse)
