"""Cases of the right to extended attributes: everybody, every call, files of every mode.

The tree is ``marked``.  Two of its files have capabilities: what takes these away is here, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import CAPABILITY, MARKED, PEOPLE, Case
from vfsim.testing.conformance.corpus.paths import LATER, Verb
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

VERBS = (
    *(
        Verb(f"{call}-{space}-{word}", f"{call}xattr",
             (f"{space}.{word}", *((b"value",) if call == "set" else ())))
        for space in ("user", "trusted", "security")
        for call, word in (("get", "kept"), ("set", "kept"), ("remove", "kept"), ("get", "none"),
                           ("set", "new"), ("remove", "none"))
        if word == "kept" or space == "user"
    ),
    Verb("list", "listxattr"),
    Verb("set-capability", "setxattr", CAPABILITY),
    Verb("set-create", "setxattr", ("user.kept", b"value", 1)),
    Verb("set-nobodys", "setxattr", ("nobodys.new", b"value")),
)  # fmt: skip

_ABLE = (
    ("write", (Call("open", ("{}", os.O_RDWR, 0)), Call("write", (0, b"new")))),
    ("write-0", (Call("open", ("{}", os.O_RDWR, 0)), Call("write", (0, b"")))),
    ("read", (Call("open", ("{}", os.O_RDWR, 0)), Call("read", (0, 9)))),
    ("ftruncate", (Call("open", ("{}", os.O_RDWR, 0)), Call("ftruncate", (0, 2)))),
    ("truncate", (Call("truncate", ("{}", 2)),)),
    ("truncate-same", (Call("truncate", ("{}", 4)),)),
    ("open-trunc", (Call("open", ("{}", os.O_RDWR | os.O_TRUNC, 0)),)),
    ("chmod", (Call("chmod", ("{}", 0o4755)),)),
    ("chown", (Call("chown", ("{}", 1000, 1000)),)),
    ("chown-same", (Call("chown", ("{}", -1, -1)),)),
    ("chown-other", (Call("chown", ("{}", 1003, -1)),)),
    ("utime", (Call("utime", ("{}", LATER, LATER)),)),
    ("get", (Call("getxattr", ("{}", CAPABILITY[0])),)),
    ("remove", (Call("removexattr", ("{}", CAPABILITY[0])),)),
    ("mark", (Call("setxattr", ("{}", "user.new", b"value")),)),
)
"""What is done to a file with capabilities."""

_NEEDS = frozenset(
    {"xattrs", "trusted", "security", *(word for entry in MARKED for word in entry.needs)}
)


def cases() -> Iterator[Case]:
    """All of it."""
    for who in PEOPLE:
        for entry in MARKED:
            path = entry.path[1:]
            for verb in VERBS:
                yield _case(f"{who}.{path}.{verb.word}", (verb.on(path),), who)
        for verb in VERBS:
            itself = Verb(f"l{verb.word}", f"l{verb.name}", verb.rest)
            yield _case(f"{who}.link.{itself.word}", (itself.on("link"),), who)
        for path in ("able", "sable"):
            for word, calls in _ABLE:
                yield _case(f"{who}.{path}.then-{word}", tuple(_of(c, path) for c in calls), who)


def _of(call: Call, path: str) -> Call:
    return Call(call.name, tuple(path if arg == "{}" else arg for arg in call.args))


def _case(id: str, calls: tuple[Call, ...], who: str) -> Case:
    return Case(f"xattr-{id}", calls, "marked", who, _NEEDS)
