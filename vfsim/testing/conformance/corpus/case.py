"""A case: a few system calls, made by somebody, in a tree that is always the same.

A case says what is *done*, never what comes of it: what comes of it was asked of Linux (`answers`).
Its id is made of the words for what it was put together from, so it stays when others are added::

    rename.file+slash.full.noreplace        area . operand + shape . operand . flags

The tree a case begins with is a `World`, a table of names.  There are two: ``kinds`` has one of
everything that a name can lead to; ``rights`` has things that belong to a user and a group, each
with another mode.  Nothing but tables here: no state, no locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

if TYPE_CHECKING:
    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.model import Call

FILE, DIR, SYMLINK, FIFO = "file", "dir", "symlink", "fifo"

NEEDS = {FILE: "create", DIR: "mkdir", SYMLINK: "symlink", FIFO: "mknod"}
"""What a filesystem must have for a thing of this type to be there."""

LONG_NAMES = "long names"
"""A need beside the words of `Capabilities`: names may have 255 bytes."""


class Who(NamedTuple):
    """Real and effective user and group, and supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT = Who(0, 0)
PEOPLE = {
    "root": ROOT,
    "owner": Who(1000, 1000),
    "group": Who(1001, 1000),
    "extra": Who(1002, 1002, (1000,)),
    "other": Who(1003, 1003),
}
"""Whoever makes the calls, seen from a file of user and group 1000: ``extra`` has its group as a
supplementary one."""


class Entry(NamedTuple):
    """One name of a world.  ``body``: content of a file, target of a symlink."""

    path: str
    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    body: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """Words of `Capabilities`."""
        words = {NEEDS[self.kind]}
        if self.path.count("/") > 1:
            words |= {"mkdir", "nested"}
        if self.uid or self.gid:
            words.add("owners")
        if self.body and self.kind == FILE:
            words.add("write")
        return frozenset(words)


def _file(path: str, mode: int = 0o644, owner: int = 0, body: str = "") -> Entry:
    return Entry(path, FILE, mode, owner, owner, body)


def _link(path: str, target: str) -> Entry:
    return Entry(path, SYMLINK, 0o777, body=target)


KINDS = (
    _file("/file", body="data"),
    Entry("/dir", DIR),
    Entry("/full", DIR),
    _file("/full/file", body="inside"),
    Entry("/full/sub", DIR),
    _link("/lfile", "file"),
    _link("/ldir", "dir"),
    _link("/lfull", "full"),
    _link("/dangling", "absent"),
    _link("/loop", "loop"),
    _link("/self", "."),
    Entry("/fifo", FIFO, 0o644),
    Entry("/closed", DIR, 0o600, 1000, 1000),
    _file("/closed/file", 0o666),
)
"""One of everything that a name can lead to; ``self`` makes a path of any number of links."""

FILE_MODES = (0o700, 0o070, 0o007, 0o600, 0o644, 0o666, 0o444, 0o4755, 0o2755, 0o2644)
DIR_MODES = (0o700, 0o070, 0o007, 0o777, 0o1777, 0o2777, 0o600, 0o400, 0o300)

RIGHTS = (
    Entry("/open", DIR, 0o777),
    *(_file(f"/f{mode:o}", mode, 1000, "data") for mode in FILE_MODES),
    *(
        entry
        for mode in DIR_MODES
        for entry in (
            Entry(f"/d{mode:o}", DIR, mode, 1000, 1000),
            _file(f"/d{mode:o}/mine", 0o644, 1000),
            _file(f"/d{mode:o}/theirs", 0o644, 1003),
        )
    ),
)
"""Files of user and group 1000, and directories with one of theirs and one of somebody else's."""

WORLDS = {"kinds": KINDS, "rights": RIGHTS}


@attrs.frozen
class Case:
    """Calls, and where and by whom they are made.

    Attributes:
        id: stable; the words before the first dot are its area.
        calls: in order; descriptors count from 0, the first that is opened.
        world: which tree it begins with.  who: one of `PEOPLE`.
        needs: words of `Capabilities`, or `LONG_NAMES`; to list directories is always needed.
        may_refuse: a word of `Capabilities`, or "": without it the filesystem says EINVAL to what
            would have worked.
    """

    id: str
    calls: tuple[Call, ...]
    world: str = "kinds"
    who: str = "root"
    needs: frozenset[str] = frozenset()
    may_refuse: str = ""

    @property
    def area(self) -> str:
        """The group it runs with."""
        return self.id.partition(".")[0]

    def why_not(self, caps: Capabilities) -> str:
        """Why this cannot be asked of a filesystem with these capabilities; "" if it can."""
        if not caps.writable:
            return "needs to write"
        if len(WORLDS[self.world]) > caps.max_files:
            return f"needs {len(WORLDS[self.world])} files, only {caps.max_files} fit"
        missing = sorted((self.needs | {"iterate"}) - caps.has - {LONG_NAMES})
        if missing:
            return "needs " + ", ".join(missing)
        if LONG_NAMES in self.needs and caps.name_max != 255:
            return "needs names of 255 bytes"
        return ""
