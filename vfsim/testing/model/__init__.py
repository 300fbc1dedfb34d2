"""A plain sequential model of a Linux filesystem, to hold real ones against.

Written from what POSIX and the manual pages promise and from Linux's order of tests, not from the
kernel on the floors below: names, modes, owners, links, sizes, contents, open files and the errno
of every refusal, in a few dictionaries (`tree`), a path walk (`walk`) and a function per call
(`names`, `files`).  Times, devices and inode numbers are not part of it.

Alone::

    model = Model()
    model.run(Call("mkdir", ("/d", 0o755)))                       # ok(None)
    model.run(Call("unlink", ("/d",)))                            # EISDIR
    model.snapshot()["/d"]                                        # kind, mode, links, ...

`Model.run` does one call at a time.  `vfsim.testing.linearizability` runs the same steps in turns.

Simpler than Linux: three credentials count (effective user, effective group, umask), one group, no
capabilities but root's, no mounts, no special files, and a lack of room is believed when it is
observed (`room`).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.fs.refusal import refusal_of
from vfsim.fs.strace import call_text
from vfsim.testing.model import files, names
from vfsim.testing.model.files import ANY, fill
from vfsim.testing.model.tree import (
    DIR,
    FILE,
    ROOT,
    SYMLINK,
    Node,
    Refused,
    Traits,
    Tree,
    Who,
)
from vfsim.testing.scenario import Outcome
from vfsim.testing.scenarios.calls import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.testing.conformance.syscalls import SystemCalls
    from vfsim.testing.model.walk import Then

    Line = tuple[Any, ...]
    """What is known of one name: kind, mode, links, owner, group, size, content, first name."""
    Snapshot = dict[str, Line]

BEGIN: dict[str, Callable[..., Then | Outcome]] = {
    name.removeprefix("begin_"): function
    for module in (names, files)
    for name, function in vars(module).items()
    if name.startswith("begin_")
}
"""How each call begins: name → function(tree, who, *args)."""


@attrs.frozen
class Call:
    """A system call to be made: its name, as `vfsim.fs.syscalls.Sys` has it, and its arguments."""

    name: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return call_text(self.name, self.args)

    def make(self, sys: SystemCalls) -> Outcome:
        """Sleeps.  Make the call; what it came to, in the words of the model."""
        try:
            value = getattr(sys, self.name)(*self.args)
        except OSError as error:
            if error.errno is None:
                raise
            return Outcome(error.errno)
        if self.name in ("stat", "lstat", "fstat"):
            return Outcome(0, told(value))
        if self.name == "listdir":
            return Outcome(0, tuple(sorted(value)))
        return Outcome(0, value)


def told(stat: Any) -> tuple[str, int, int, int, int, int]:
    """What the model wants to know of a stat: kind, mode, links, owner, group, size."""
    what = kind(stat.st_mode)
    size = 0 if what == DIR else stat.st_size
    return what, stat.st_mode & 0o7777, stat.st_nlink, stat.st_uid, stat.st_gid, size


def step(tree: Tree, who: Who, then: Then) -> tuple[Tree, Then | Outcome]:
    """One step of a call: the tree afterwards, and the next step or the outcome.

    Raises:
        Busy: not now, another call holds a lock.
    """
    after = tree.copy()
    try:
        return after, then.do(after, who, *then.args)
    except Refused as refused:
        return tree.copy(), Outcome(refused.errno)


def start(call: Call, seen: Outcome | None = None, traits: Traits | None = None) -> Then:
    """The first step of a call.

    Args:
        seen: what was observed, if anything: a refusal that ``traits`` declare is believed.

    Raises:
        ValueError: the model does not know it.
    """
    from vfsim.testing.model.walk import Then

    if call.name not in BEGIN:
        raise ValueError(f"the model knows no {call.name}(); it knows {', '.join(sorted(BEGIN))}")
    if seen and traits and refusal_of(traits.refuses, call.name, seen.errno):
        return Then(_refuse, (seen.errno,))
    return Then(BEGIN[call.name], call.args)


def _refuse(tree: Tree, who: Who, code: int) -> Outcome:
    """The call was refused by design: nothing happens."""
    return Outcome(code)


class Model:
    """A tree, and calls done to it one after the other.

    Args:
        tree: to begin with; an empty root without one.

    Attributes:
        tree: as it is now.  last_id: the number of the latest call.
    """

    def __init__(self, tree: Tree | None = None) -> None:
        self.tree = tree or Tree()
        self.last_id = max((*self.tree.nodes, *self.tree.files), default=ROOT)

    def run(self, call: Call, process: int = 0, seen: Outcome | None = None) -> Outcome:
        """What a call comes to.

        Args:
            process: who makes it; each has its own descriptors, directory, umask and ids.
            seen: what was observed, if anything: a lack of room, a short write or a refusal by
                design is believed.
        """
        self.last_id += 1
        who = Who(process, self.last_id, seen)
        then: Then | Outcome = start(call, seen, self.tree.traits)
        while not isinstance(then, Outcome):
            self.tree, then = step(self.tree, who, then)
        return then

    def snapshot(self) -> Snapshot:
        """The whole tree, as `snapshot` tells of a real one."""
        return tree_snapshot(self.tree)


# Answers and trees, compared.  -------------------------------------------------------------------


def agrees(
    call: Call, expected: Outcome, seen: Outcome, traits: Traits, alone: bool = True
) -> bool:
    """Whether an observed outcome is the expected one, as far as the filesystem keeps such facts.

    ``alone``: no other call ran meanwhile; else link counts are not compared, because stat looks
    without a lock.
    """
    if expected is ANY:
        return True
    if call.name in ("stat", "lstat", "fstat") and expected.ok and seen.ok:
        return _visible(expected.value, traits, alone) == _visible(seen.value, traits, alone)
    return expected == seen


def _visible(line: Line, traits: Traits, links: bool = True) -> Line:
    """The part of a line that a filesystem with these traits keeps."""
    what, mode, nlink, uid, gid, *rest = line
    if not links or (what == DIR and not traits.nlink):
        nlink = 0
    if what == SYMLINK:
        mode = 0o777
    if not traits.owners:
        uid = gid = 0
    return (what, mode, nlink, uid, gid, *rest)


def differences(expected: Snapshot, seen: Snapshot, traits: Traits) -> list[str]:
    """Where two trees differ, a line each; none if they agree."""
    told = []
    for path in sorted({*expected, *seen}):
        want = expected.get(path)
        got = seen.get(path)
        if want is None or got is None:
            told.append(f"{path}: should be {_text(want)}, is {_text(got)}")
        elif _visible(want, traits) != _visible(got, traits):
            told.append(f"{path}: should be {_text(want)}, is {_text(got)}")
    return told


def _text(line: Line | None) -> str:
    if line is None:
        return "nothing"
    what, mode, nlink, uid, gid, size, content, first = line
    same = f", the same as {first}" if first else ""
    body = "" if what == DIR else f", {size} bytes {_short(content)}"
    return f"a {what} {mode:o} nlink={nlink} {uid}:{gid}{body}{same}"


def _short(content: Any) -> str:
    text = repr(content)
    return text if len(text) <= 40 else text[:36] + "..." + text[-1]


def tree_snapshot(tree: Tree, path: str = "/", ino: int = ROOT) -> Snapshot:
    """Every name of a model's tree."""
    lines: Snapshot = {}
    _tell(tree, path, ino, lines, {})
    return lines


def _tell(tree: Tree, path: str, ino: int, lines: Snapshot, first: dict[int, str]) -> None:
    node = tree.nodes[ino]
    same = "" if node.kind == DIR else first.setdefault(ino, path)
    content: bytes | str = node.data if node.kind == FILE else node.target
    lines[path] = (*fill(node), content, "" if same == path else same)
    for name, child in node.entries:
        _tell(tree, path.rstrip("/") + "/" + name, child, lines, first)


def snapshot(sys: SystemCalls, names: Iterable[str] = ()) -> Snapshot:
    """Sleeps.  Every name there is, sorted: kind, mode, links, owner, group, size, content, and
    the first other name of the same file.

    Args:
        names: those to look for where directories cannot be listed.
    """
    lines: Snapshot = {}
    _look(sys, "/", tuple(names), lines, {})
    return lines


def _look(
    sys: SystemCalls, path: str, names: tuple[str, ...], lines: Snapshot, first: dict[int, str]
) -> None:
    stat = sys.lstat(path)
    line = told(stat)
    same = "" if line[0] == DIR else first.setdefault(stat.st_ino, path)
    empty = line[0] == FILE and not line[-1]
    content = b"" if empty else _content(sys, path, line[0])
    lines[path] = (*line, content, "" if same == path else same)
    if line[0] == DIR:
        for name in _listed(sys, path, names):
            _look(sys, path.rstrip("/") + "/" + name, names, lines, first)


def _listed(sys: SystemCalls, path: str, names: tuple[str, ...]) -> list[str]:
    try:
        return sorted(sys.listdir(path))
    except NotADirectoryError:
        pass
    found = []
    for name in sorted(names):
        try:
            sys.lstat(path.rstrip("/") + "/" + name)
            found.append(name)
        except OSError:
            pass
    return found


def _content(sys: SystemCalls, path: str, what: str) -> bytes | str:
    if what == SYMLINK:
        return sys.readlink(path)
    if what != FILE:
        return ""
    try:
        fd = sys.open(path, os.O_RDONLY)
        try:
            return _all(sys, fd)
        finally:
            sys.close(fd)
    except OSError as error:
        return f"unreadable: {errno.errorcode.get(error.errno or 0)}"


def _all(sys: SystemCalls, fd: int) -> bytes:
    return sys.pread(fd, sys.fstat(fd).st_size + 1, 0)


def from_snapshot(lines: Snapshot, traits: Traits) -> Tree:
    """The tree of the model that looks like a real one."""
    tree = Tree(traits)
    numbers: dict[str, int] = {"/": ROOT}
    for path in lines:  # parents before children, first names before other names
        what, mode, nlink, uid, gid, _, content, first = lines[path]
        if what == DIR:
            nlink = 2
        data = content if what == FILE else b""
        target = content if what == SYMLINK else ""
        node = Node(what, mode, uid, gid, nlink, data, target)
        if path == "/":
            tree.set(ROOT, node)
            continue
        ino = numbers[first] if first in numbers else len(numbers) + 1
        numbers[path] = ino
        if ino not in tree.nodes:
            tree.set(ino, node)
        above, _, name = path.rpartition("/")
        tree.enter(numbers[above or "/"], name, ino)
        if what == DIR:
            tree.links(numbers[above or "/"], 1)
    return tree


# Descriptors.  -----------------------------------------------------------------------------------


def descriptors(sys: SystemCalls, fds: Iterable[int]) -> dict[int, Line]:
    """Sleeps.  What a process sees through its descriptors: position, kind, size, content."""
    lines: dict[int, Line] = {}
    for fd in fds:
        try:
            what, *_, size = told(sys.fstat(fd))
        except OSError:
            continue
        if what != FILE:
            lines[fd] = (what,)
            continue
        try:
            content = _all(sys, fd)
        except OSError:
            content = None  # not open for reading
        lines[fd] = (what, sys.lseek(fd, 0, os.SEEK_CUR), size, content)
    return lines


def tree_descriptors(tree: Tree, pid: int) -> dict[int, Line]:
    """The same of the model."""
    lines: dict[int, Line] = {}
    proc = tree.procs.get(pid)
    for fd, number in enumerate(proc.fds if proc else ()):
        if not number:
            continue
        file = tree.files[number]
        node = tree.nodes[file.ino]
        if node.kind != FILE:
            lines[fd] = (node.kind,)
            continue
        readable = file.flags & os.O_ACCMODE != os.O_WRONLY
        lines[fd] = (FILE, file.pos, len(node.data), node.data if readable else None)
    return lines


__all__ = [
    "ANY",
    "Call",
    "Model",
    "Traits",
    "Tree",
    "agrees",
    "descriptors",
    "differences",
    "from_snapshot",
    "snapshot",
    "start",
    "step",
    "tree_descriptors",
    "tree_snapshot",
]
