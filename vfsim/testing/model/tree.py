"""The state of the model: nodes, open files and processes, in plain dictionaries.

A `Tree` is a value: whoever wants to go on from it in two ways copies it first.  The copy is
shallow and cheap, because what the dictionaries hold is never changed, only replaced.  Numbers of
nodes and open files are those of the calls that made them (`Who.id`), so two orders of the same
calls that come to the same tree come to the *equal* tree, and `Tree.key` tells it.

``locked`` are the nodes whose lock a call in the middle of its work holds: Linux's ``i_rwsem``.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

import attrs

from vfsim.fs.refusal import Refusal
from vfsim.testing.scenario import Outcome

ROOT = 1
FILE, DIR, SYMLINK = "file", "dir", "symlink"
EXEC, WRITE, READ = 1, 2, 4


class Refused(Exception):
    """A call ends with an errno."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.errno: int = getattr(errno, name)


class Busy(Exception):
    """A call cannot go on: another one holds the lock it needs."""


class Node(NamedTuple):
    """An inode.  ``entries`` are sorted (name, number) pairs; ``dead``: a removed directory."""

    kind: str
    mode: int
    uid: int
    gid: int
    nlink: int
    data: bytes = b""
    target: str = ""
    entries: tuple[tuple[str, int], ...] = ()
    parent: int = ROOT
    dead: bool = False


class OpenFile(NamedTuple):
    """What a descriptor stands for; `dup` makes two stand for the same."""

    ino: int
    flags: int
    pos: int = 0


class Proc(NamedTuple):
    """A process: effective user and group, umask, directory, and descriptors (0: free)."""

    uid: int = 0
    gid: int = 0
    umask: int = 0o022
    cwd: int = ROOT
    fds: tuple[int, ...] = ()


class Who(NamedTuple):
    """The call at hand: its process, its number, and what was observed of it, if anything was."""

    pid: int
    id: int
    seen: Outcome | None = None


@attrs.frozen
class Traits:
    """What the model must know of a filesystem.

    Attributes:
        name_max: the longest name in bytes.
        exchange: it can exchange two names (RENAME_EXCHANGE).
        fsync, fsync_dir: it can fsync files, directories (else EINVAL).
        nlink, owners: it keeps the links of directories, the owner of a new file: what is not
            kept is not compared.
        refuses: what it declares to refuse: if it does so, that is right, and changes nothing.
    """

    name_max: int = 255
    exchange: bool = True
    fsync: bool = True
    fsync_dir: bool = True
    nlink: bool = True
    owners: bool = True
    refuses: tuple[Refusal, ...] = ()


class Tree:
    """A filesystem, and the processes on it.

    Attributes:
        nodes, files, procs: by number.
        locked: nodes whose lock is held between two steps of a call.
        changed: something was replaced since this was last set to False.
        traits: what the model must know of the filesystem.
    """

    __slots__ = ("changed", "files", "locked", "nodes", "procs", "traits")

    def __init__(self, traits: Traits | None = None, mode: int = 0o755) -> None:
        self.traits = traits or Traits()
        self.nodes: dict[int, Node] = {ROOT: Node(DIR, mode, 0, 0, 2)}
        self.files: dict[int, OpenFile] = {}
        self.procs: dict[int, Proc] = {}
        self.locked: frozenset[int] = frozenset()
        self.changed = False

    def copy(self) -> Tree:
        """Another one that can go its own way."""
        new = object.__new__(Tree)
        new.traits = self.traits
        new.nodes = self.nodes.copy()
        new.files = self.files.copy()
        new.procs = self.procs.copy()
        new.locked = self.locked
        new.changed = False
        return new

    def key(self) -> object:
        """Equal for equal trees, and hashable."""
        return (
            frozenset(self.nodes.items()),
            frozenset(self.files.items()),
            frozenset(self.procs.items()),
            self.locked,
        )

    # -- changing --------------------------------------------------------------------------------

    def set(self, ino: int, node: Node) -> None:
        """Replace a node."""
        self.nodes[ino] = node
        self.changed = True

    def edit(self, ino: int, **fields: Any) -> None:
        """Replace some fields of a node."""
        self.set(ino, self.nodes[ino]._replace(**fields))

    def links(self, ino: int, by: int) -> None:
        """Change a link count."""
        self.edit(ino, nlink=self.nodes[ino].nlink + by)

    def enter(self, dir: int, name: str, ino: int) -> None:
        """Write a name into a directory, over what it led to."""
        entries = dict(self.nodes[dir].entries)
        entries[name] = ino
        self.edit(dir, entries=tuple(sorted(entries.items())))
        if self.nodes[ino].kind == DIR:
            self.edit(ino, parent=dir)

    def leave(self, dir: int, name: str) -> None:
        """Take a name out of a directory."""
        self.edit(dir, entries=tuple(e for e in self.nodes[dir].entries if e[0] != name))

    def lock(self, *inos: int) -> None:
        """Take locks.

        Raises:
            Busy: another call has one of them.
        """
        if not self.locked.isdisjoint(inos):
            raise Busy
        self.locked |= frozenset(inos)
        self.changed = True

    def await_lock(self, *inos: int) -> None:
        """Only go on while nobody else holds one of these locks.

        Raises:
            Busy: somebody does.
        """
        if not self.locked.isdisjoint(inos):
            raise Busy

    def unlock(self, *inos: int) -> None:
        """Let go of locks."""
        self.locked -= frozenset(inos)
        self.changed = True

    def proc(self, who: Who) -> Proc:
        """The process of a call; one nobody has heard of is root's."""
        return self.procs.get(who.pid, _LOGIN)

    def edit_proc(self, who: Who, **fields: Any) -> None:
        """Replace some fields of a process."""
        self.procs[who.pid] = self.proc(who)._replace(**fields)
        self.changed = True

    # -- looking ---------------------------------------------------------------------------------

    def find(self, dir: int, name: str) -> int:
        """What a name in a directory leads to; 0 if to nothing."""
        return next((ino for entry, ino in self.nodes[dir].entries if entry == name), 0)

    def allowed(self, who: Who, ino: int, want: int) -> bool:
        """Whether mode bits, or being root, allow it (Linux: ``generic_permission``)."""
        node, proc = self.nodes[ino], self.proc(who)
        shift = 6 if proc.uid == node.uid else 3 if proc.gid == node.gid else 0
        if not want & ~(node.mode >> shift) & 7:
            return True
        return proc.uid == 0 and (node.kind == DIR or not want & EXEC or bool(node.mode & 0o111))

    def need(self, who: Who, ino: int, want: int) -> None:
        """Raises: Refused (EACCES), if it is not allowed."""
        if not self.allowed(who, ino, want):
            raise Refused("EACCES")

    def owns(self, who: Who, ino: int) -> bool:
        """Whether the process owns a node, or is root."""
        return self.proc(who).uid in (0, self.nodes[ino].uid)

    def below(self, ino: int, top: int) -> bool:
        """Whether a directory is ``top`` or lies below it."""
        while ino != top and ino != ROOT:
            ino = self.nodes[ino].parent
        return ino == top


_LOGIN = Proc()
