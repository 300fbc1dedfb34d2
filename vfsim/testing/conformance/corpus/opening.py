"""Cases of open: every access mode with every useful set of flags, and what creation makes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import Case
from vfsim.testing.conformance.corpus.operands import product
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "none": 3}
FLAGS = {
    "": 0,
    "creat": os.O_CREAT,
    "creat-excl": os.O_CREAT | os.O_EXCL,
    "creat-trunc": os.O_CREAT | os.O_TRUNC,
    "creat-nofollow": os.O_CREAT | os.O_NOFOLLOW,
    "creat-excl-nofollow": os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
    "creat-excl-trunc": os.O_CREAT | os.O_EXCL | os.O_TRUNC,
    "creat-directory": os.O_CREAT | os.O_DIRECTORY,
    "creat-append": os.O_CREAT | os.O_APPEND,
    "trunc": os.O_TRUNC,
    "append": os.O_APPEND,
    "append-trunc": os.O_APPEND | os.O_TRUNC,
    "excl": os.O_EXCL,
    "nofollow": os.O_NOFOLLOW,
    "directory": os.O_DIRECTORY,
    "directory-nofollow": os.O_DIRECTORY | os.O_NOFOLLOW,
    "noatime": os.O_NOATIME,
    "path": os.O_PATH,
    "path-nofollow": os.O_PATH | os.O_NOFOLLOW,
    "path-directory": os.O_PATH | os.O_DIRECTORY,
    "path-creat": os.O_PATH | os.O_CREAT | os.O_EXCL,
    "tmpfile": os.O_TMPFILE,
    "tmpfile-excl": os.O_TMPFILE | os.O_EXCL,
}
MODES = (0, 0o777, 0o644, 0o7777, 0o1777, 0o2755, 0o4711, 0o100600)
UMASKS = (0, 0o022, 0o077, 0o777)
_MAKERS = {"open": "create", "mkdir": "mkdir", "mknod": "create", "mkfifo": "mknod"}


def cases() -> Iterator[Case]:
    """All of it."""
    yield from _flags()
    yield from _modes()


def _flags() -> Iterator[Case]:
    for word, flags in FLAGS.items():
        needs = {"create"} if flags & os.O_CREAT and not flags & os.O_PATH else set()
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            needs.add("tmpfile")
        for access, mode in ACCESS.items():
            for place in product(shapes=("plain", "slash")):
                if "fifo" in place.word and not _refused(flags):
                    continue
                call = Call("open", (place.path, mode | flags, 0o640))
                name = ".".join(filter(None, ("open", access, word, place.word)))
                yield Case(name, (call,), needs=place.needs | needs)


def _refused(flags: int) -> bool:
    """Whether a FIFO is not opened with these flags; to open one is another story."""
    both = os.O_CREAT | os.O_EXCL
    return bool(flags & (os.O_PATH | os.O_DIRECTORY)) or flags & both == both


def _modes() -> Iterator[Case]:
    """Which permission bits a new inode gets."""
    for name, needs in _MAKERS.items():
        for umask in UMASKS:
            for mode in MODES if name != "mkfifo" else MODES[:-1]:
                args = (os.O_CREAT | os.O_WRONLY, mode) if name == "open" else (mode,)
                for who, world, path in (("root", "kinds", "new"), ("other", "rights", "open/new")):
                    calls = Call("umask", (umask,)), Call(name, (path, *args))
                    id = f"create-{who}.{name}.{mode:o}.umask-{umask:o}"
                    words = {needs} | ({"owners", "mkdir"} if who == "other" else set())
                    yield Case(id, calls, world, who, frozenset(words))
