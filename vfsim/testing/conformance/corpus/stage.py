"""The tree of a case: set up, looked at, and put back in order.

`Stage` is one tree in use.  It is as its `World` says (*tidy*) between cases; a case changes it,
`look` tells what it is like, `changes` what became of it, and `tidy_up` puts the names that changed
back, which is much cheaper than a new tree.

What a change says of a path: None if it is gone; else the fields that are different, each under one
word: ``kind mode uid gid size content`` as they are now, ``nlink`` by how much it grew, ``mtime``
and ``ctime`` True if they are of now (the time itself where a case set it), ``xattrs`` those that
are different (None: gone), and for a path that was not there all of them, with ``nlink`` as it is
and ``same``: the other name of a file with two.
Inode numbers, sizes of directories, the order of names and what a filesystem brings with it
(``lost+found``) are nobody's business, nor are extended attributes in a world that has none.
"""

from __future__ import annotations

import os
from errno import ELOOP, ENOENT, ENOTDIR
from stat import S_IFIFO
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vfsim.fs.syscalls import AT_FDCWD, AT_SYMLINK_NOFOLLOW
from vfsim.testing.conformance.corpus.attributes import (
    attributes_of,
    compared,
    put_back,
    word_of,
)
from vfsim.testing.conformance.corpus.case import DIR, FIFO, FILE, SYMLINK, WORLDS, Entry
from vfsim.testing.conformance.corpus.lists import ACCESS
from vfsim.testing.scenarios.calls import kind

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.corpus.case import Who
    from vfsim.testing.conformance.syscalls import SystemCalls

    Change = dict[str, Any] | None

FUTURE = 3_000_000_000_000_000_000
"""Times after this one (2065) were set by a case."""


class Actor(Protocol):
    """A process that can be anybody.

    Attributes:
        sys: its system calls; the first descriptor it opens is 0.
    """

    sys: SystemCalls

    def become(self, who: Who) -> None:
        """Sleeps.  Go on as somebody else; it can always come back."""

    def tick(self, latest: int) -> int:
        """Sleeps.  Let time pass.

        Args:
            latest: the latest time in the tree.

        Returns:
            A time later than that; what happens from now on happens then or later.
        """


class Line(NamedTuple):
    """What there is to know of a name."""

    kind: str
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    content: str
    ino: int
    mtime: int
    ctime: int
    xattrs: tuple[tuple[str, str], ...] = ()


_FIELDS = ("kind", "mode", "uid", "gid", "size", "content")
_TOUCHES = frozenset(("uid", "gid", "size", "content", "xattrs"))
"""What is put back in ways that may change the mode, or take file capabilities away."""


# Looking.  ---------------------------------------------------------------------------------------


def look(sys: SystemCalls, path: str, xattrs: bool = False) -> Line | None:
    """Sleeps.  What a name is like, links not followed; None if there is nothing.

    Args:
        xattrs: look at those, too.
    """
    try:
        found = sys.lstat(path)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, ELOOP):
            raise
        return None  # perhaps because what leads there is something else now
    what = kind(found.st_mode)
    size = 0 if what == DIR else found.st_size
    content = ""
    if what == SYMLINK:
        content = sys.readlink(path)
    elif what == FILE and size:
        content = _content(sys, path, size)
    return Line(
        what, found.st_mode & 0o7777, found.st_nlink, found.st_uid, found.st_gid, size, content,
        found.st_ino, found.st_mtime_ns, found.st_ctime_ns,
        attributes_of(sys, path) if xattrs else (),
    )  # fmt: skip


def _content(sys: SystemCalls, path: str, size: int) -> str:
    fd = sys.open(path, os.O_RDONLY)
    data = sys.pread(fd, size + 1, 0)
    sys.close(fd)
    return data.decode("latin-1")


def look_around(
    sys: SystemCalls,
    path: str = "/",
    own: Container[str] = ("lost+found",),
    xattrs: bool = False,
) -> dict[str, Line]:
    """Sleeps.  Every name there is, but for those the filesystem brings with it: ``own``."""
    line = look(sys, path, xattrs)
    assert line is not None
    lines = {path: line}
    if line.kind == DIR:
        for name in sorted(sys.listdir(path)):
            if name not in own:
                lines |= look_around(sys, path.rstrip("/") + "/" + name, own, xattrs)
    return lines


# Comparing.  -------------------------------------------------------------------------------------


def changes(
    before: Mapping[str, Line], after: Mapping[str, Line | None], since: int
) -> dict[str, Change]:
    """What became of each path in ``after``, and of those that are in ``before`` alone.

    Args:
        since: what happened in between happened later.
    """
    names: dict[int, list[str]] = {}
    for path in sorted(after):
        line = after[path]
        if line is not None and line.kind != DIR:
            names.setdefault(line.ino, []).append(path)
    found: dict[str, Change] = {}
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if new is None:
            if old is not None:
                found[path] = None
            continue
        change = _change(old, new, since)
        same = [name for name in names.get(new.ino, ()) if name != path]
        if same:
            change["same"] = same[0]
        if change:
            found[path] = change
    return found


def _change(old: Line | None, new: Line, since: int) -> dict[str, Any]:
    change = {
        word: getattr(new, word)
        for word in _FIELDS
        if old is None or getattr(old, word) != getattr(new, word)
    }
    xattrs = compared(old.xattrs if old is not None else (), new.xattrs)
    if xattrs:
        change["xattrs"] = xattrs
    links = new.nlink - (old.nlink if old is not None else 0)
    if links:
        change["nlink"] = links
    for word in ("mtime", "ctime"):
        time = getattr(new, word)
        if time >= since:
            change[word] = time if time >= FUTURE else True
    return change


# Putting in order.  ------------------------------------------------------------------------------


class Stage:
    """One tree in use.

    Args:
        actor: who sets up and looks.
        world: a name of `WORLDS`.
        caps: what the filesystem can do; what it cannot have is not there, nor what would be in it.

    Attributes:
        own: the names that the filesystem brings with it.
        xattrs: of each path, what it has; None in a world without any, or on a filesystem.
        lines: of the tidy tree.  latest: the latest time in it, when it was new.
    """

    def __init__(self, actor: Actor, world: str, caps: Capabilities) -> None:
        self.actor = actor
        self.entries: dict[str, Entry] = {}
        for entry in WORLDS[world]:
            above = entry.path.rpartition("/")[0]
            if entry.needs <= caps.has and (not above or above in self.entries):
                self.entries[entry.path] = entry
        self.xattrs = _attributes(world, caps)
        self.own: frozenset[str] = frozenset()
        self.lines: dict[str, Line] = {}
        self.latest = 0

    def set_up(self) -> None:
        """Sleeps.  Make everything, in a fresh tree."""
        self.own = frozenset(self.actor.sys.listdir("/"))
        self._make(self.entries)
        self.lines = self.look_around()
        self.latest = max(max(line.mtime, line.ctime) for line in self.lines.values())

    def look_around(self) -> dict[str, Line]:
        """Sleeps.  Every name there is."""
        return look_around(self.actor.sys, own=self.own, xattrs=self.xattrs is not None)

    def look(self, paths: Iterable[str]) -> dict[str, Line | None]:
        """Sleeps.  What these names are like, as root sees them: links are not followed on the way
        either.
        """
        found: dict[str, Line | None] = {}
        xattrs = self.xattrs is not None
        for path in sorted(paths):
            above = found.get(path.rpartition("/")[0])
            hidden = above is not None and above.kind != DIR
            found[path] = None if hidden else look(self.actor.sys, path, xattrs)
        return found

    def tidy_up(self, changed: Mapping[str, Change]) -> None:
        """Sleeps.  Put back what changed."""
        sys = self.actor.sys
        lost = [path for path, change in changed.items() if self._lost(path, change)]
        for path in sorted(lost, reverse=True):
            line = look(sys, path)
            if line is not None:
                (sys.rmdir if line.kind == DIR else sys.unlink)(path)
        self._make(sorted(set(lost) & set(self.entries)))
        for path, change in changed.items():
            if change and path not in lost:
                self._mend(path, change)

    def _lost(self, path: str, change: Change) -> bool:
        """Whether something else is there now, or nothing is."""
        return change is None or "kind" in change or path not in self.lines

    def _make(self, paths: Iterable[str]) -> None:
        sys = self.actor.sys
        old = sys.umask(0)
        for path in paths:
            make(sys, self.entries[path])
        if self.xattrs is not None:
            for path in paths:
                self._mark(path, self.xattrs[path])
        sys.umask(old)

    def _mark(self, path: str, wanted: dict[str, bytes]) -> None:
        """Sleeps.  Give a path its extended attributes, and its mode without what it may have
        inherited.
        """
        sys, entry = self.actor.sys, self.entries[path]
        put_back(sys, path, wanted)
        if ACCESS not in wanted and entry.kind != SYMLINK:
            sys.chmod(path, entry.mode)

    def _mend(self, path: str, change: dict[str, Any]) -> None:
        sys, line = self.actor.sys, self.lines[path]
        if "size" in change or "content" in change:
            (sys.unlink)(path) if line.kind == SYMLINK else _fill(sys, path, line.content)
            if line.kind == SYMLINK:
                sys.symlink(line.content, path)
        if "uid" in change or "gid" in change:
            sys.lchown(path, line.uid, line.gid)
        touched = not _TOUCHES.isdisjoint(change)
        if touched and self.xattrs is not None:
            put_back(sys, path, self.xattrs.get(path, {}))
        if line.kind != SYMLINK and (touched or "mode" in change):
            sys.chmod(path, line.mode)
        if change.get("mtime", True) is not True or change.get("ctime", True) is not True:
            sys.utimensat(AT_FDCWD, path, None, None, AT_SYMLINK_NOFOLLOW)


def _attributes(world: str, caps: Capabilities) -> dict[str, dict[str, bytes]] | None:
    """By path, those that the filesystem can have."""
    found = {
        entry.path: {name: value for name, value in entry.attributes if word_of(name) in caps.has}
        for entry in WORLDS[world]
    }
    return found if any(found.values()) else None


def make(sys: SystemCalls, entry: Entry) -> None:
    """Sleeps.  Make one thing, with umask 0."""
    path, mode = entry.path, entry.mode
    if entry.kind == SYMLINK:
        sys.symlink(entry.body, path)
        if entry.uid or entry.gid:
            sys.lchown(path, entry.uid, entry.gid)
        return
    if entry.kind == DIR:
        sys.mkdir(path, mode)
    elif entry.kind == FIFO:
        sys.mknod(path, S_IFIFO | mode)
    else:
        fd = sys.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        if entry.body:
            sys.write(fd, entry.body.encode())
        sys.close(fd)
    if entry.uid or entry.gid:
        sys.chown(path, entry.uid, entry.gid)
    if mode & 0o7000:
        sys.chmod(path, mode)


def _fill(sys: SystemCalls, path: str, content: str) -> None:
    fd = sys.open(path, os.O_WRONLY | os.O_TRUNC)
    if content:
        sys.write(fd, content.encode("latin-1"))
    sys.close(fd)
