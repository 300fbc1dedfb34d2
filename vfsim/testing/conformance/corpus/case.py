"""A case: a few system calls, made by somebody, in a tree that is always the same.

A case says what is *done*, never what comes of it: what comes of it was asked of Linux (`answers`).
Its id is made of the words for what it was put together from, so it stays when others are added::

    rename.file+slash.full.noreplace        area . operand + shape . operand . flags

The tree a case begins with is a `World`, a table of names: ``kinds`` has one of everything that a
name can lead to; ``rights`` has things that belong to a user and a group, each with another mode;
``attributed``, ``marked`` and ``listed`` are such trees with extended attributes and access control
lists.  Nothing but tables here: no state, no locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from vfsim.testing.conformance.corpus.lists import ACCESS, DEFAULT, packed

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

NAMED = {
    "user": Who(1004, 1004),
    "member": Who(1005, 1005, (2000,)),
    "both": Who(1006, 1000, (2000,)),
}
"""More people: one whom lists name, and two of a group that they name; ``both`` is in the owning
group as well."""

EVERYBODY = PEOPLE | NAMED


class Entry(NamedTuple):
    """One name of a world.  ``body``: content of a file, target of a symlink.  ``attributes``:
    names and values.
    """

    path: str
    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    body: str = ""
    attributes: tuple[tuple[str, bytes], ...] = ()

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

# Worlds with attributes.  ------------------------------------------------------------------------

USER, TRUSTED, SECURITY = (
    (f"{space}.kept", space.encode()) for space in ("user", "trusted", "security")
)
CAPABILITY = "security.capability", bytes.fromhex("0100000200040000" + "00" * 12)
"""As setcap(8) sets it: the program may ping."""


def _with(entry: Entry, *more: tuple[str, bytes]) -> Entry:
    """The same with attributes: ``user.`` ones where Linux allows them."""
    kept = (USER,) if entry.kind in (FILE, DIR) else ()
    return entry._replace(attributes=(*kept, TRUSTED, SECURITY, *more))


ATTRIBUTED = tuple(_with(entry) for entry in KINDS)
"""One of everything, with an attribute in every namespace."""

MARKED_FILES = (0o700, 0o070, 0o007, 0o222, 0o444, 0o666)
MARKED_DIRS = (0o700, 0o070, 0o007, 0o333, 0o777, 0o1777)

MARKED = (
    *(_with(_file(f"/f{mode:o}", mode, 1000, "data")) for mode in MARKED_FILES),
    *(_with(Entry(f"/d{mode:o}", DIR, mode, 1000, 1000)) for mode in MARKED_DIRS),
    _with(Entry("/fifo", FIFO, 0o666, 1000, 1000)),
    _with(Entry("/link", SYMLINK, 0o777, 1000, 1000, "f666")),
    _with(_file("/able", 0o666, 1000, "data"), CAPABILITY),
    _with(_file("/sable", 0o4777, 1000, "data"), CAPABILITY),
)
"""Things of user and group 1000 with attributes, two of them with file capabilities."""

LISTS = {
    "user": "u::6 u:1004:6 g::4 m::6 o::0",
    "user-not": "u::6 u:1004:0 g::6 m::6 o::6",
    "group": "u::6 g::4 g:2000:6 m::6 o::0",
    "group-not": "u::6 g::6 g:2000:0 m::6 o::6",
    "apart": "u::7 g::4 g:2000:2 m::7 o::1",
    "masked": "u::6 u:1004:7 g::7 g:2000:7 m::4 o::0",
    "mask-0": "u::6 u:1004:6 g::6 g:2000:6 m::0 o::4",
    "owner-not": "u::0 u:1000:7 u:1003:5 g::0 g:1000:7 m::7 o::0",
}
"""Word in ids → access list."""

DEFAULTS = {
    "plain": "u::7 g::5 o::0",
    "named": "u::7 u:1004:7 g::5 g:2000:5 m::7 o::0",
    "masked": "u::7 u:1004:7 g::7 m::5 o::5",
    "nothing": "u::0 g::0 o::0",
    "all": "u::7 u:1004:7 g::7 m::7 o::7",
}
"""Word in ids → default list."""


def for_directories(text: str) -> str:
    """A list that lets whoever may read also look a name up."""
    entries = (word.rpartition(":") for word in text.split())
    return " ".join(f"{who}:{int(perm) | int(int(perm) >= 4)}" for who, _, perm in entries)


def _listed(entry: Entry, access: str, default: str = "") -> Entry:
    lists = ((ACCESS, access), (DEFAULT, default))
    return entry._replace(attributes=tuple((name, packed(text)) for name, text in lists if text))


LISTED = (
    _file("/plain", 0o664, 1000, "data"),
    *(_listed(_file(f"/f-{word}", 0o600, 1000, "data"), text) for word, text in LISTS.items()),
    *(
        entry
        for word, text in LISTS.items()
        for entry in (
            _listed(Entry(f"/d-{word}", DIR, 0o700, 1000, 1000), for_directories(text)),
            _file(f"/d-{word}/mine", 0o644, 1000),
        )
    ),
    *(_listed(Entry(f"/n-{word}", DIR, 0o777), "", text) for word, text in DEFAULTS.items()),
    _listed(Entry("/both", DIR, 0o775, 1000, 1000), LISTS["masked"], DEFAULTS["named"]),
    Entry("/dir", DIR, 0o775, 1000, 1000),
    Entry("/fifo", FIFO, 0o664, 1000, 1000),
    Entry("/link", SYMLINK, 0o777, 1000, 1000, "f-user"),
)
"""Files and directories of user and group 1000 with lists, directories of root that bequeath one,
and some things without.
"""

WORLDS = {
    "kinds": KINDS,
    "rights": RIGHTS,
    "attributed": ATTRIBUTED,
    "marked": MARKED,
    "listed": LISTED,
}


@attrs.frozen
class Case:
    """Calls, and where and by whom they are made.

    Attributes:
        id: stable; the words before the first dot are its area.
        calls: in order; descriptors count from 0, the first that is opened.
        world: which tree it begins with.  who: one of `EVERYBODY`.
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
