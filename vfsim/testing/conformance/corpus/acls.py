"""Cases of access control lists: who may do what, what is inherited, how lists are set and changed.

The tree is ``listed``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import DEFAULTS, EVERYBODY, LISTED, LISTS, Case
from vfsim.testing.conformance.corpus.lists import ACCESS, DEFAULT, packed
from vfsim.testing.conformance.corpus.paths import Verb
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

TO_FILES = (
    *(Verb(f"access-{mode}", "access", (mode,)) for mode in (1, 2, 4, 6, 7)),
    Verb("open-r", "open", (os.O_RDONLY, 0)),
    Verb("open-w", "open", (os.O_WRONLY, 0)),
    Verb("open-rw", "open", (os.O_RDWR, 0)),
    Verb("utime-now", "utime", (None, None)),
    Verb("mark", "setxattr", ("user.new", b"value")),
)

TO_DIRECTORIES = (
    Verb("access-1", "access", (1,)),
    Verb("access-7", "access", (7,)),
    Verb("listdir", "listdir"),
    Verb("chdir", "chdir"),
    Verb("stat-in/mine", "lstat"),
    Verb("create-in/new", "open", (os.O_CREAT | os.O_RDWR, 0o666)),
    Verb("mkdir-in/new", "mkdir", (0o777,)),
    Verb("unlink-in/mine", "unlink"),
)
"""The word goes on with where in the directory."""

MAKERS = {
    "open": ("open", (os.O_CREAT | os.O_WRONLY,), "create"),
    "mkdir": ("mkdir", (), "mkdir"),
    "mknod": ("mknod", (), "create"),
    "mkfifo": ("mkfifo", (), "mknod"),
}
_MODES = (0, 0o777, 0o1640)
_UMASKS = (0, 0o027, 0o777)
_CHMODS = (0, 0o777, 0o640, 0o070, 0o701, 0o4750)

GOOD = {
    "least": "u::6 g::4 o::0",
    "user": "u::7 u:1004:7 g::5 m::7 o::0",
    "group": "u::6 g::4 g:2000:6 m::6 o::4",
    "many": "u::6 u:0:7 u:1004:2 u:1004:4 u:1000:1 g::4 g:2000:6 g:1000:0 m::5 o::4",
    "masked": "u::6 g::6 m::0 o::6",
    "none": "u::0 g::0 o::0",
}
WRONG = {
    "no-owner": packed("g::4 o::0"),
    "no-group": packed("u::6 o::0"),
    "no-other": packed("u::6 g::4"),
    "no-mask": packed("u::6 u:1004:6 g::4 o::0"),
    "no-mask-group": packed("u::6 g::4 g:2000:6 o::0"),
    "two-owners": packed("u::6 u::6 g::4 o::0"),
    "two-groups": packed("u::6 g::4 g::4 o::0"),
    "two-masks": packed("u::6 g::4 m::4 m::4 o::0"),
    "two-others": packed("u::6 g::4 o::0 o::0"),
    "backwards": packed("o::0 g::4 u::6"),
    "user-late": packed("u::6 g::4 u:1004:6 m::6 o::0"),
    "group-early": packed("u::6 g:2000:6 g::4 m::6 o::0"),
    "mask-early": packed("u::6 m::6 g::4 o::0"),
    "mask-last": packed("u::6 u:1004:6 g::4 o::0 m::6"),
    "perm-8": packed("u::6 g::10 o::0"),
    "perm-all": packed("u::6 u:1004:177777 g::4 m::6 o::0"),
    "odd-tag": packed("u::6 x::4 g::4 o::0"),
    "no-user": packed("u::6 u:4294967295:6 g::4 m::6 o::0"),
    "version-1": packed("u::6 g::4 o::0", 1),
    "version-3": packed("u::6 g::4 o::0", 3),
    "no-entries": packed(""),
    "nothing": b"",
    "half-header": packed("")[:2],
    "half-entry": packed("u::6 g::4 o::0")[:-4],
    "version-and-odd-tag": packed("x::7", 7),
    "named-owner": packed("u::6 g::4 o::0").replace(b"\xff", b"\1"),
}

_TARGETS = ("plain", "f-user", "dir", "both", "link", "fifo")
_LISTS = {"access": ACCESS, "default": DEFAULT}
_NEEDS = frozenset({"acls", "xattrs", *(word for entry in LISTED for word in entry.needs)})


def cases() -> Iterator[Case]:
    """All of it."""
    yield from _access()
    yield from _inherited()
    yield from _changed()
    yield from _values()
    yield from _others()


def _access() -> Iterator[Case]:
    """Everybody does everything to files and directories with every list."""
    for who in EVERYBODY:
        for word in LISTS:
            for verb in TO_FILES:
                yield _case(f"{who}.f-{word}.{verb.word}", [verb.on(f"f-{word}")], who)
            for verb in TO_DIRECTORIES:
                name, _, inside = verb.word.partition("/")
                path = f"d-{word}/{inside}" if inside else f"d-{word}"
                yield _case(f"{who}.d-{word}.{name}", [verb.on(path)], who)


def _inherited() -> Iterator[Case]:
    """What a new inode makes of its directory's default list, its mode and the umask."""
    places = (*(f"n-{word}" for word in DEFAULTS), "both", "d-user")
    for place in places:
        for umask in _UMASKS:
            for mode in _MODES:
                first = Call("umask", (umask,))
                for word, (name, args, needs) in MAKERS.items():
                    call = Call(name, (f"{place}/new", *args, mode))
                    id = f"new.{place}.{word}.{mode:o}.umask-{umask:o}"
                    yield _case(id, [first, call], more=needs)
                calls = Call("open", (place, os.O_TMPFILE | os.O_RDWR, mode)), _FLINK
                id = f"new.{place}.tmpfile.{mode:o}.umask-{umask:o}"
                yield _case(id, [first, *calls], more="tmpfile link")
        yield _case(f"new.{place}.symlink", [Call("symlink", ("target", f"{place}/new"))])
        for who in ("owner", "other", "user"):
            for word, (name, args, needs) in MAKERS.items():
                call = Call(name, (f"{place}/new", *args, 0o666))
                yield _case(f"new.{who}.{place}.{word}", [call], who, needs)
        for word, call in (
            ("rename", Call("rename", ("f-user", f"{place}/new"))),
            ("rename-plain", Call("rename", ("plain", f"{place}/new"))),
            ("link", Call("link", ("plain", f"{place}/new"))),
            ("rename-dir", Call("rename", ("dir", f"{place}/new"))),
        ):
            yield _case(f"new.{place}.{word}", [call], more="rename link")
        below = Call("mkdir", (f"{place}/new", 0o777)), Call("mkdir", (f"{place}/new/new", 0o750))
        yield _case(f"new.{place}.twice", list(below))


_FLINK = Call("flink", (0, "/dir/new"))


def _changed() -> Iterator[Case]:
    """What becomes of a list when mode or owner change."""
    for path in (*(f"f-{word}" for word in LISTS), *(f"d-{word}" for word in LISTS), "both"):
        for mode in _CHMODS:
            yield _case(f"mode.{path}.chmod-{mode:o}", [Call("chmod", (path, mode))])
            calls = [Call("open", (path, os.O_RDONLY, 0)), Call("fchmod", (0, mode))]
            yield _case(f"mode.{path}.fchmod-{mode:o}", calls)
        for uid, gid in ((1004, -1), (-1, 2000), (1003, 1003)):
            call = Call("chown", (path, uid, gid))
            id = f"mode.{path}.chown-{uid}-{gid}".replace("--1", "-same")
            yield _case(id, [call])
    for who in EVERYBODY:
        for path in ("f-user", "f-mask-0", "d-group", "both"):
            yield _case(f"mode.{who}.{path}.chmod", [Call("chmod", (path, 0o750))], who)
            yield _case(f"mode.{who}.{path}.chmod-s", [Call("chmod", (path, 0o2770))], who)
            yield _case(f"mode.{who}.{path}.chown", [Call("chown", (path, -1, 2000))], who)


def _values() -> Iterator[Case]:
    """Good lists and wrong ones, as either kind of list, of everything."""
    values = {word: packed(text) for word, text in GOOD.items()} | WRONG
    for path in _TARGETS:
        for kind, name in _LISTS.items():
            for word, value in values.items():
                yield _case(f"set.{path}.{kind}.{word}", [Call("setxattr", (path, name, value))])
            for flags in (1, 2):
                for word in ("user", "no-mask"):
                    call = Call("setxattr", (path, name, values[word], flags))
                    yield _case(f"set.{path}.{kind}.{word}.flags-{flags}", [call])
    for kind, name in _LISTS.items():
        for word in ("user", "least", "nothing", "no-mask", "version-1"):
            call = Call("lsetxattr", ("link", name, values[word]))
            yield _case(f"set.link.{kind}.l{word}", [call])
        for word in ("get", "remove"):
            call = Call(f"l{word}xattr", ("link", name))
            yield _case(f"set.link.{kind}.l{word}", [call])


def _others() -> Iterator[Case]:
    """Who may set, read and remove lists."""
    for who in EVERYBODY:
        for path in _TARGETS:
            for kind, name in _LISTS.items():
                for word, call in (
                    ("get", Call("getxattr", (path, name))),
                    ("remove", Call("removexattr", (path, name))),
                    ("user", Call("setxattr", (path, name, packed(GOOD["user"])))),
                    ("no-mask", Call("setxattr", (path, name, WRONG["no-mask"]))),
                    ("no-entries", Call("setxattr", (path, name, WRONG["no-entries"]))),
                ):
                    yield _case(f"own.{who}.{path}.{kind}.{word}", [call], who)
            yield _case(f"own.{who}.{path}.list", [Call("listxattr", (path,))], who)


def _case(id: str, calls: list[Call], who: str = "root", more: str = "") -> Case:
    return Case(f"acl-{id}", tuple(calls), "listed", who, _NEEDS | frozenset(more.split()))
