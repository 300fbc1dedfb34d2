"""Cases of extended attributes: every call, on everything, with every kind of name, flag and value.

The tree is ``attributed``: everything there has an attribute in each namespace, called ``kept``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.attributes import word_of
from vfsim.testing.conformance.corpus.case import ATTRIBUTED, CAPABILITY, Case
from vfsim.testing.conformance.corpus.descriptors import OPENED
from vfsim.testing.conformance.corpus.lists import ACCESS, DEFAULT
from vfsim.testing.conformance.corpus.operands import OPERANDS, everything, product
from vfsim.testing.conformance.corpus.paths import Verb
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vfsim.testing.conformance.corpus.operands import Operand

CREATE, REPLACE = 1, 2
FLAGS = {"create": CREATE, "replace": REPLACE, "create-replace": 3, "flags-4": 4}
_SHAPES = ("plain", "slash", "beneath", "through-absent", "links-40", "links-41")
_PLACES = ("file", "dir", "lfile", "fifo", "dangling")
_LINKS = ("lfile", "dangling")
_KEPT = ("user.kept", "trusted.kept", "security.kept")

NAMES = {
    **{f"{space}.{word}": f"{space}.{word}"
       for space in ("user", "trusted", "security") for word in ("kept", "new")},
    **{f"{space}.": f"{space}." for space in ("user", "trusted", "security", "system", "")},
    "user": "user",
    "dots": "user.a.b.",
    "capitals": "USER.new",
    "system.new": "system.new",
    "access": ACCESS,
    "accessory": ACCESS + "ory",
    "default": DEFAULT,
    "nobodys.new": "nobodys.new",
    "nameless": "",
    "bytes-255": "user." + "n" * 250,
    "bytes-256": "user." + "n" * 251,
    "unknown-256": "n" * 256,
}  # fmt: skip
"""Word in ids → name of an attribute."""

VALUES = {
    "empty": b"",
    "zero": b"\0",
    "binary": bytes(range(256)),
    "64k": b"v" * (1 << 16),
    "more": b"v" * ((1 << 16) + 1),
}

CAPABILITIES = {"v2": CAPABILITY[1], "v2-permitted": b"\0" + CAPABILITY[1][1:]}
"""File capabilities: others are refused since v4.14."""


def cases() -> Iterator[Case]:
    """All of it."""
    yield from _walks()
    yield from _names()
    yield from _flags()
    yield from _values()
    yield from _open_files()
    yield from _names_of_files()


def calls_with(name: str, of_links: str) -> tuple[Verb, ...]:
    """Every call that takes a path, about an attribute; those of links themselves about another."""
    return tuple(
        Verb(prefix + call, f"{prefix}{call}xattr", (about, *rest)[:count], word_of(about))
        for call, rest, count in (("set", (b"value",), 2), ("get", (), 1), ("list", (), 0),
                                  ("remove", (), 1))
        for prefix, about in (("", name), ("l", of_links))
    )  # fmt: skip


def _walks() -> Iterator[Case]:
    """Every call on every operand, written in some ways; of links, what links can have."""
    for place in (*product(shapes=_SHAPES), *_odd()):
        for verb in calls_with("user.kept", "trusted.kept"):
            call = verb.on(place.path)
            yield _case(f"walk.{verb.word}.{place.word}", [call], place, verb.needs)


def _odd() -> Iterable[Operand]:
    return (place for place in everything() if place.word.partition("+")[0] not in OPERANDS)


def _names() -> Iterator[Case]:
    for word, name in NAMES.items():
        for verb in calls_with(name, name):
            if "list" in verb.word:
                continue
            for place in product(_LINKS if verb.word.startswith("l") else _PLACES):
                call = verb.on(place.path)
                yield _case(f"name.{verb.word}.{place.word}.{word}", [call], place, verb.needs)


def _flags() -> Iterator[Case]:
    for word in (*_KEPT, "user.new", "trusted.new", "access", "bytes-256", "user."):
        name = NAMES[word]
        for place in product((*_PLACES, "absent")):
            for flag, number in FLAGS.items():
                for call in ("setxattr", "lsetxattr") if place.word == "lfile" else ("setxattr",):
                    args = (place.path, name, b"value", number)
                    id = f"flag.{call[:-5]}.{place.word}.{word}.{flag}"
                    yield _case(id, [Call(call, args)], place, word_of(name))


def _values() -> Iterator[Case]:
    """What was set is what is read."""
    for place in product(("file", "dir", "lfile", "absent")):
        for name in (*_KEPT, "user.new", "trusted.new", "nobodys.new"):
            for word, value in VALUES.items():
                calls = [Call("setxattr", (place.path, name, value))]
                if len(value) < 1000:
                    calls.append(Call("getxattr", (place.path, name)))
                yield _case(f"value.{place.word}.{name}.{word}", calls, place, word_of(name))
        for word, value in CAPABILITIES.items():
            calls = [Call("setxattr", (place.path, CAPABILITY[0], value))]
            yield _case(f"value.{place.word}.capability.{word}", calls, place, "security")


def _open_files() -> Iterator[Case]:
    """The calls that take a descriptor, of whatever is open, and of what was removed."""
    opened: dict[str, tuple[tuple[Call, ...], str]] = {
        **{word: ((Call("open", (path, flags, 0)),), needs)
           for word, (path, flags, needs) in OPENED.items()},
        "removed-file": ((Call("open", ("file", os.O_RDWR, 0)), Call("unlink", ("file",))),
                         "create write unlink"),
        "removed-dir": ((Call("open", ("dir", os.O_RDONLY, 0)), Call("rmdir", ("dir",))),
                        "mkdir rmdir"),
        "unopened": ((), ""),
    }  # fmt: skip
    for word, (before, needs) in opened.items():
        fd = 0 if before else 99
        for name in ("user.kept", "user.new", "trusted.kept", ""):
            known = word_of(name)
            for deed, call in (
                ("set", Call("fsetxattr", (fd, name, b"value"))),
                ("set-create", Call("fsetxattr", (fd, name, b"value", CREATE))),
                ("get", Call("fgetxattr", (fd, name))),
                ("list", Call("flistxattr", (fd,))),
                ("remove", Call("fremovexattr", (fd, name))),
            ):
                if deed == "list" and name != "user.kept":
                    continue
                id = f"xattr.fd.{word}.{deed}.{name or 'nameless'}"
                words = frozenset(f"{needs} {known} xattrs".split())
                yield Case(id, (*before, call), "attributed", needs=words)


def _names_of_files() -> Iterator[Case]:
    """Attributes are an inode's: what becomes of them when its names change."""
    for word, calls, needs in (
        ("link", (Call("link", ("file", "new")), Call("setxattr", ("new", "user.kept", b"2"))),
         "link"),
        ("rename", (Call("rename", ("file", "new")),), "rename"),
        ("rename-over", (Call("rename", ("file", "full/file")),), "rename"),
        ("rename-dir", (Call("rename", ("dir", "new")),), "rename"),
        ("rename-link", (Call("rename", ("lfile", "new")),), "rename"),
        ("exchange", (Call("renameat2", ("file", "full", 2)),), "rename exchange"),
        ("anew", (Call("unlink", ("file",)), Call("open", ("file", os.O_CREAT, 0o644))), "unlink"),
        ("anew-dir", (Call("rmdir", ("dir",)), Call("mkdir", ("dir",))), "rmdir"),
        ("anew-link", (Call("unlink", ("lfile",)), Call("symlink", ("file", "lfile"))), "unlink"),
        ("write", (Call("open", ("file", os.O_WRONLY, 0)), Call("write", (0, b"12345"))), ""),
        ("truncate", (Call("open", ("file", os.O_WRONLY | os.O_TRUNC, 0)),), ""),
        ("chmod", (Call("chmod", ("file", 0o600)),), ""),
        ("chown", (Call("chown", ("file", 5, 6)),), "owners"),
    ):  # fmt: skip
        words = frozenset(f"{needs} {_BASE}".split())
        yield Case(f"xattr.after.{word}", calls, "attributed", needs=words)


_BASE = " ".join(sorted({"xattrs", *(word for entry in ATTRIBUTED for word in entry.needs)}))


def _case(id: str, calls: list[Call], place: Operand, more: str) -> Case:
    needs = place.needs | {"xattrs", *more.split()}
    return Case(f"xattr.{id}", tuple(calls), "attributed", needs=needs)
