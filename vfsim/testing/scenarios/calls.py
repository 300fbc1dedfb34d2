"""What the tasks of the library's scenarios do, call by call.

A task is an `Actor`: a few `Step`s, each of which is one system call as far as anybody else can
tell (an open that is closed at once is one step: closing changes no name).  Steps come one after
the other; when one fails, the task is over. What a step returns is what is compared: ``None`` for
a call without an answer, a short text, or the bytes that were read.

Whatever Linux leaves open must not be in an answer.  So `stat` tells type and size and no link
count: between the walk and the look at the inode somebody may unlink it.  Inode numbers are not
told either; files are recognised by content.
"""

from __future__ import annotations

import os
import stat as modes
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.syscalls import Sys

    Kept = dict[str, Any]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


@attrs.frozen(eq=False)
class Step:
    """One system call.

    Attributes:
        text: as people write it.
        do: the call; gets the system calls and a dict to keep descriptors in.
        weak: it reads data without a lock, so that it may see part of a change (`oracle.Weak`).
    """

    text: str
    do: Callable[[Sys, Kept], object]
    weak: bool = False


@attrs.frozen(eq=False)
class Actor:
    """What one task does.

    Attributes:
        name: for the scenario's name: ``unlink(a)``.
        steps: its calls.
        needs: words of the capabilities it needs.
        changes: False for a task that only looks.
        simpler: the same with fewer bytes, if there can be fewer.
    """

    name: str
    steps: tuple[Step, ...]
    needs: str = ""
    changes: bool = True
    simpler: Actor | None = None

    def without(self, number: int) -> Actor:
        """The same without one of its calls."""
        steps = (*self.steps[:number], *self.steps[number + 1 :])
        return attrs.evolve(self, steps=steps, simpler=None)

    @property
    def word(self) -> str:
        """A name for the task: the call's."""
        return self.name.partition("(")[0].replace("+", "_").replace(" ", "_")


def one(name: str, needs: str, do: Callable[[Sys], object], changes: bool = True) -> Actor:
    """An actor with a single call."""
    return Actor(name, (Step(name, lambda sys, kept: do(sys)),), needs, changes)


def _short(path: str) -> str:
    """A path as the names of scenarios have it: without the first slash."""
    return path[1:] or "/"


# Names.  ---------------------------------------------------------------------------------------


def create(path: str) -> Actor:
    """open(O_CREAT|O_EXCL) and close."""

    def do(sys: Sys) -> None:
        sys.close(sys.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    return one(f"create({_short(path)})", "create", do)


def mkdir(path: str) -> Actor:
    return one(f"mkdir({_short(path)})", "mkdir", lambda sys: sys.mkdir(path))


def symlink(target: str, path: str) -> Actor:
    return one(f"symlink({_short(path)})", "symlink", lambda sys: sys.symlink(target, path))


def link(old: str, new: str) -> Actor:
    return one(f"link({_short(old)},{_short(new)})", "link", lambda sys: sys.link(old, new))


def unlink(path: str) -> Actor:
    return one(f"unlink({_short(path)})", "unlink", lambda sys: sys.unlink(path))


def rmdir(path: str) -> Actor:
    return one(f"rmdir({_short(path)})", "rmdir", lambda sys: sys.rmdir(path))


def rename(old: str, new: str) -> Actor:
    return one(f"rename({_short(old)},{_short(new)})", "rename", lambda sys: sys.rename(old, new))


def noreplace(old: str, new: str) -> Actor:
    name = f"rename({_short(old)},{_short(new)},NOREPLACE)"
    return one(name, "rename", lambda sys: sys.renameat2(old, new, RENAME_NOREPLACE))


def exchange(old: str, new: str) -> Actor:
    name = f"rename({_short(old)},{_short(new)},EXCHANGE)"
    return one(name, "rename", lambda sys: sys.renameat2(old, new, RENAME_EXCHANGE))


def stat(path: str) -> Actor:
    """lstat: the type and, of a file, the size."""

    def do(sys: Sys) -> str:
        found = sys.lstat(path)
        return kind(found.st_mode) + (f" {found.st_size}" if modes.S_ISREG(found.st_mode) else "")

    return one(f"stat({_short(path)})", "", do, changes=False)


def stat_both(first: str, second: str) -> Actor:
    """Two looks, one after the other, each with its own answer."""

    def look(path: str) -> Step:
        def do(sys: Sys, kept: Kept) -> str:
            try:
                return kind(sys.lstat(path).st_mode)
            except FileNotFoundError:
                return "ENOENT"

        return Step(f"stat({_short(path)})", do)

    name = f"stat({_short(first)})+stat({_short(second)})"
    return Actor(name, (look(first), look(second)), "", changes=False)


def listdir(path: str) -> Actor:
    """open and getdents, then one more getdents: a directory that is read in pieces may change in
    between."""

    def first(sys: Sys, kept: Kept) -> str:
        kept["fd"] = sys.open(path, os.O_RDONLY | os.O_DIRECTORY)
        return _names(sys, kept)

    def rest(sys: Sys, kept: Kept) -> str:
        return str(_closing(sys, kept, _names(sys, kept)))

    steps = (Step("open+getdents", first), Step("getdents", rest))
    return Actor(f"listdir({_short(path)})", steps, "iterate", changes=False)


def _names(sys: Sys, kept: Kept) -> str:
    entries = sys.getdents(kept["fd"])
    return " ".join(sorted(name for name, _, _ in entries if name not in (".", "..", "lost+found")))


def chdir(path: str) -> Actor:
    """chdir, and then where that is."""
    steps = (
        Step("chdir", lambda sys, kept: sys.chdir(path)),
        Step("stat(.)", lambda sys, kept: kind(sys.stat(".").st_mode)),
    )
    return Actor(f"chdir({_short(path)})", steps, "", changes=False)


# Data.  ----------------------------------------------------------------------------------------


def put(path: str, data: bytes) -> Actor:
    """open(O_CREAT), write, close."""
    name = f"write({_short(path)})"
    return _opened(
        name, path, os.O_CREAT | os.O_WRONLY, _write(data), "create write",
        simpler=put(path, _half(data)) if len(data) > 1 else None,
    )  # fmt: skip


def read(path: str, length: int = 1 << 16) -> Actor:
    """open, read, close."""
    steps = (
        _open(path, os.O_RDONLY),
        Step(
            "read", lambda sys, kept: _closing(sys, kept, sys.read(kept["fd"], length)), weak=True
        ),
    )
    return Actor(f"read({_short(path)})", steps, "read", changes=False)


def append(path: str, data: bytes) -> Actor:
    """open(O_APPEND), write, close."""
    name = f"append({_short(path)})"
    return _opened(
        name, path, os.O_WRONLY | os.O_APPEND, _write(data), "write",
        simpler=append(path, _half(data)) if len(data) > 1 else None,
    )  # fmt: skip


def overwrite(path: str, data: bytes, offset: int) -> Actor:
    """open, pwrite, close."""

    def do(sys: Sys, kept: Kept) -> object:
        return _closing(sys, kept, str(sys.pwrite(kept["fd"], data, offset)))

    name = f"pwrite({_short(path)},{offset}+{len(data)})"
    simpler = overwrite(path, _half(data), offset) if len(data) > 1 else None
    return _opened(name, path, os.O_WRONLY, Step("pwrite", do), "write", simpler=simpler)


def truncate(path: str, length: int) -> Actor:
    name = f"truncate({_short(path)},{length})"
    return one(name, "write", lambda sys: sys.truncate(path, length))


def ftruncate(path: str, length: int) -> Actor:
    """open, ftruncate, close."""

    def do(sys: Sys, kept: Kept) -> object:
        return _closing(sys, kept, sys.ftruncate(kept["fd"], length))

    name = f"ftruncate({_short(path)},{length})"
    return _opened(name, path, os.O_WRONLY, Step("ftruncate", do), "write")


def empty(path: str) -> Actor:
    """open(O_TRUNC), close."""
    name = f"open({_short(path)},TRUNC)"
    return one(name, "write", lambda sys: sys.close(sys.open(path, os.O_WRONLY | os.O_TRUNC)))


def fsync(path: str) -> Actor:
    """open, fsync, close."""
    do = Step("fsync", lambda sys, kept: _closing(sys, kept, sys.fsync(kept["fd"])))
    return _opened(f"fsync({_short(path)})", path, os.O_RDONLY, do, "fsync", changes=False)


def write_fsync(path: str, data: bytes) -> Actor:
    """open(O_CREAT), write, fsync, close: what careful programs do."""
    steps = (
        _open(path, os.O_CREAT | os.O_WRONLY),
        Step("write", lambda sys, kept: str(sys.write(kept["fd"], data))),
        Step("fsync", lambda sys, kept: _closing(sys, kept, sys.fsync(kept["fd"]))),
    )
    return Actor(f"write+fsync({_short(path)})", steps, "create write fsync")


def sync() -> Actor:
    return one("sync()", "", lambda sys: sys.sync(), changes=False)


def drop_caches() -> Actor:
    """Memory pressure, twice: what was used lately has a second chance."""

    def do(sys: Sys) -> None:
        sys.drop_caches()
        sys.drop_caches()

    return one("drop_caches()", "", do, changes=False)


def chmod(path: str, mode: int) -> Actor:
    name = f"chmod({_short(path)},{mode:o})"
    return one(name, "", lambda sys: sys.chmod(path, mode))


def keep_open(path: str, data: bytes) -> Actor:
    """open, write and read through a descriptor that outlives the name."""

    def do_read(sys: Sys, kept: Kept) -> object:
        return _closing(sys, kept, sys.pread(kept["fd"], 1 << 16, 0))

    steps = (
        _open(path, os.O_RDWR),
        Step("pwrite", lambda sys, kept: str(sys.pwrite(kept["fd"], data, 0))),
        Step("pread", do_read, weak=True),
    )
    return Actor(f"open+write+read({_short(path)})", steps, "read write")


def _open(path: str, flags: int) -> Step:
    def do(sys: Sys, kept: Kept) -> None:
        kept["fd"] = sys.open(path, flags, 0o644)

    return Step("open", do)


def _write(data: bytes) -> Step:
    def do(sys: Sys, kept: Kept) -> object:
        return _closing(sys, kept, str(sys.write(kept["fd"], data)))

    return Step("write", do)


def _opened(
    name: str,
    path: str,
    flags: int,
    step: Step,
    needs: str,
    changes: bool = True,
    simpler: Actor | None = None,
) -> Actor:
    return Actor(name, (_open(path, flags), step), needs, changes, simpler)


def _half(data: bytes) -> bytes:
    """Half as much to write: at least a byte, of two or more."""
    return data[: len(data) // 2]


def _closing(sys: Sys, kept: Kept, answer: object) -> object:
    """The answer, and the descriptor closed: what closing does nobody else can see."""
    sys.close(kept["fd"])
    return answer


def kind(mode: int) -> str:
    """The type of an inode in a word."""
    return _KINDS.get(modes.S_IFMT(mode), "special")


_KINDS = {
    modes.S_IFREG: "file",
    modes.S_IFDIR: "dir",
    modes.S_IFLNK: "symlink",
    modes.S_IFIFO: "fifo",
}
