"""Scenarios about names: every pair of directory operations, and triples around rename."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.scenarios.base import file, folder, scenario
from vfsim.testing.scenarios.calls import (
    chdir,
    create,
    exchange,
    link,
    listdir,
    mkdir,
    noreplace,
    put,
    read,
    rename,
    rmdir,
    stat,
    stat_both,
    symlink,
    unlink,
)
from vfsim.testing.scenarios.oracle import Weak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.scenarios.base import LibraryScenario, Thing
    from vfsim.testing.scenarios.calls import Actor

    Found = type[LibraryScenario]

# Every pair, on one name.  ---------------------------------------------------------------------

_STATES: dict[str, tuple[str, tuple[Thing, ...]]] = {
    "absent": ("no a", ()),
    "file": ("a is a file", (file("/a"),)),
    "dir": ("a is a directory", (folder("/a"),)),
}

_OPERATIONS: tuple[tuple[Actor, dict[str, str]], ...] = (
    # the operation, and what /a is afterwards, for everything /a may be for it to succeed
    (create("/a"), {"absent": "file"}),
    (put("/a", b"new"), {"absent": "file", "file": "file"}),
    (mkdir("/a"), {"absent": "dir"}),
    (symlink("t", "/a"), {"absent": "file"}),
    (link("/x", "/a"), {"absent": "file"}),
    (unlink("/a"), {"file": "absent"}),
    (rmdir("/a"), {"dir": "absent"}),
    (rename("/a", "/b"), {"file": "absent", "dir": "absent"}),
    (rename("/x", "/a"), {"absent": "file", "file": "file"}),
    (stat("/a"), {}),
    (listdir("/"), {}),
    (read("/a"), {}),
)


def pairs() -> Iterator[Found]:
    """Every pair of operations on the name a, each with itself too.

    /a begins as everything that lets both succeed, if only one after the other; if nothing does, as
    something that lets one of them.
    """
    for i, (one, ones) in enumerate(_OPERATIONS):
        for other, others in _OPERATIONS[i:]:
            if ones or others:
                states = _states(ones, others)
                for state in states:
                    yield _pair(one, other, state, alone=len(states) == 1)


def _states(ones: dict[str, str], others: dict[str, str]) -> list[str]:
    """What /a should be before two operations."""
    able = [state for state in _STATES if state in ones or state in others]
    if not ones or not others:  # one of them only looks, which always works somehow
        return able
    at_once = [state for state in able if state in ones and state in others]
    in_turn = [s for s in able if ones.get(s) in others or others.get(s) in ones]
    return at_once or in_turn or able[:1]


def _pair(one: Actor, other: Actor, state: str, alone: bool) -> Found:
    words, things = _STATES[state]
    uses_x = any("x" in actor.name.partition("(")[2] for actor in (one, other))
    before = (*things, *((file("/x"),) if uses_x else ()))
    weak = Weak()
    for number, (actor, partner) in enumerate(((one, other), (other, one))):
        if actor.name == "link(x,a)" and partner.name == "rename(x,a)":
            weak = Weak(overtaken=(number, "EEXIST"))
    return scenario(one, other, before=before, note="" if alone else words, weak=weak)


# A directory and what is in it.  ---------------------------------------------------------------


def inside() -> Iterator[Found]:
    """Removing or moving a directory against everything that can happen in it."""
    things: dict[str, tuple[Actor, tuple[Thing, ...]]] = {
        "create": (create("/d/a"), ()),
        "write": (put("/d/a", b"new"), ()),
        "mkdir": (mkdir("/d/a"), ()),
        "symlink": (symlink("t", "/d/a"), ()),
        "link": (link("/x", "/d/a"), (file("/x"),)),
        "rename in": (rename("/x", "/d/a"), (file("/x"),)),
        "rename dir in": (rename("/e", "/d/a"), (folder("/e"),)),
        "stat": (stat("/d"), ()),
        "listdir": (listdir("/d"), ()),
        "chdir": (chdir("/d"), ()),
    }
    for actor, more in things.values():
        yield scenario(rmdir("/d"), actor, before=(folder("/d"), *more))
    full = (folder("/d"), file("/d/a", b"a"))
    leaving = (unlink("/d/a"), rename("/d/a", "/b"), rename("/d/a", "/d/b"), read("/d/a"))
    for actor in leaving:
        yield scenario(rmdir("/d"), actor, before=full)
    staying = (unlink("/d/a"), rename("/d/a", "/b"), stat("/d/a"), listdir("/d"), read("/d/a"))
    for actor in (*staying, create("/d/b"), mkdir("/d/b"), link("/d/a", "/d/b"), chdir("/d")):
        yield scenario(rename("/d", "/e"), actor, before=full)


# In different directories: the kernel's locks keep nobody apart, only the filesystem's own do.  --


def apart() -> Iterator[Found]:
    """Two operations in two directories, which share nothing but the filesystem itself."""
    empty = (folder("/d"), folder("/e"))
    makers = (
        (create("/d/a"), create("/e/b")),
        (put("/d/a", b"x"), put("/e/b", b"yy")),
        (mkdir("/d/a"), mkdir("/e/b")),
        (symlink("t", "/d/a"), symlink("t", "/e/b")),
    )
    for one, other in makers:
        yield scenario(one, other, before=empty)
    yield scenario(create("/d/a"), create("/e/b"), create("/c"), before=empty)
    full = (*empty, file("/d/a", b"a"), file("/e/b", b"b"))
    removers = (unlink("/e/b"), rename("/e/b", "/e/c"), link("/e/b", "/e/c"))
    for other in removers:
        yield scenario(create("/d/c"), other, before=full)
        yield scenario(unlink("/d/a"), other, before=full)
    yield scenario(rename("/d/a", "/d/c"), rename("/e/b", "/e/c"), before=full)
    nested = (*empty, folder("/d/a"), folder("/e/b"))
    yield scenario(rmdir("/d/a"), rmdir("/e/b"), before=nested)
    yield scenario(rmdir("/d/a"), mkdir("/e/c"), before=nested)


# Triples around rename.  -----------------------------------------------------------------------

_AB = (file("/a"), file("/b"))


def triples() -> Iterator[Found]:
    """Three tasks that fight over two or three names."""
    a = (file("/a"),)
    yield scenario(rename("/a", "/b"), unlink("/a"), create("/a"), before=a)
    yield scenario(rename("/a", "/b"), unlink("/b"), create("/b"), before=a)
    yield scenario(rename("/a", "/b"), unlink("/b"), create("/b"), before=_AB, note="b there")
    yield scenario(rename("/a", "/b"), rename("/b", "/a"), stat("/a"), before=a)
    yield scenario(rename("/a", "/b"), rename("/b", "/a"), stat("/a"), before=_AB, note="b there")
    yield scenario(rename("/a", "/b"), rename("/b", "/a"), listdir("/"), before=_AB)
    yield scenario(rename("/a", "/b"), rename("/b", "/c"), rename("/c", "/a"), before=a)
    three = (*_AB, file("/c"))
    yield scenario(
        rename("/a", "/b"), rename("/b", "/c"), rename("/c", "/a"), before=three, note="all there"
    )
    yield scenario(rename("/a", "/b"), rename("/a", "/c"), unlink("/a"), before=a)
    yield scenario(rename("/a", "/c"), rename("/b", "/c"), unlink("/c"), before=_AB)
    yield scenario(rename("/a", "/b"), link("/a", "/c"), unlink("/a"), before=a)
    yield scenario(rename("/a", "/b"), mkdir("/b"), rmdir("/b"), before=a)
    yield scenario(rename("/a", "/b"), symlink("t", "/b"), unlink("/b"), before=a)
    yield scenario(rename("/a", "/b"), put("/a", b"new"), read("/b"), before=a)
    yield scenario(rename("/a", "/b"), create("/c"), listdir("/"), before=a)
    yield scenario(rename("/a", "/b"), stat_both("/a", "/b"), before=a)
    yield scenario(rename("/a", "/b"), stat_both("/b", "/a"), before=_AB, note="b there")
    yield scenario(unlink("/a"), unlink("/a"), create("/a"), before=a)
    yield scenario(create("/a"), create("/a"), unlink("/a"))
    yield scenario(link("/a", "/b"), link("/a", "/c"), unlink("/a"), before=a)
    yield scenario(
        link("/a", "/c"),
        rename("/b", "/a"),
        stat("/c"),
        before=_AB,
        weak=Weak(overtaken=(0, "ENOENT")),
    )


def flags() -> Iterator[Found]:
    """rename with flags; a filesystem that refuses them does so in every order."""
    yield scenario(noreplace("/a", "/b"), create("/b"), before=(file("/a"),))
    yield scenario(noreplace("/a", "/c"), noreplace("/b", "/c"), before=_AB)
    yield scenario(noreplace("/a", "/b"), unlink("/b"), before=_AB)
    yield scenario(exchange("/a", "/b"), exchange("/a", "/b"), before=_AB)
    yield scenario(exchange("/a", "/b"), rename("/a", "/c"), before=_AB)
    yield scenario(exchange("/a", "/b"), unlink("/a"), stat_both("/a", "/b"), before=_AB)
    d = (folder("/p"), folder("/p/d"), file("/f"))
    yield scenario(exchange("/p/d", "/f"), create("/p/d/x"), before=d)


# Across directories.  --------------------------------------------------------------------------

_PQ = (folder("/p"), folder("/q"))


def across() -> Iterator[Found]:
    """Renames between directories, against each other and against those who use the directories."""
    a = (*_PQ, file("/p/a"))
    both = (*a, file("/q/b"))
    d = (*_PQ, folder("/p/d"))
    circles = Weak(circles=True)
    yield scenario(rename("/p/a", "/q/a"), rename("/q/a", "/p/a"), before=a)
    yield scenario(rename("/p/a", "/q/c"), rename("/q/b", "/p/c"), before=both)
    yield scenario(rename("/p/a", "/q/b"), rename("/q/b", "/p/a"), before=both)
    yield scenario(rename("/p/a", "/q/a"), create("/q/a"), before=a)
    yield scenario(rename("/p/a", "/q/a"), unlink("/p/a"), before=a)
    yield scenario(rename("/p/a", "/q/a"), unlink("/q/a"), create("/p/a"), before=a)
    yield scenario(rename("/p/a", "/q/a"), stat_both("/p/a", "/q/a"), before=a)
    yield scenario(rename("/p/a", "/q/a"), listdir("/p"), listdir("/q"), before=a)
    yield scenario(rename("/p/a", "/q/a"), rmdir("/q"), before=a)
    yield scenario(rename("/p/a", "/q/a"), rmdir("/p"), before=a)
    yield scenario(rename("/p/a", "/q/a"), rename("/q", "/r"), before=a)
    yield scenario(rename("/p/a", "/q/a"), rename("/p", "/r"), before=a)
    yield scenario(link("/p/a", "/q/a"), unlink("/p/a"), before=a)
    yield scenario(link("/p/a", "/q/a"), link("/p/a", "/q/a"), before=a)
    # directories
    yield scenario(rename("/p/d", "/q/d"), rename("/q/d", "/p/d"), before=d)
    yield scenario(rename("/p/d", "/q/d"), rename("/q/e", "/p/e"), before=(*d, folder("/q/e")))
    yield scenario(rename("/p/d", "/q/d"), rmdir("/p/d"), before=d)
    yield scenario(rename("/p/d", "/q/d"), rmdir("/q"), before=d)
    yield scenario(rename("/p/d", "/q/d"), rmdir("/p"), before=d)
    yield scenario(rename("/p/d", "/q/d"), mkdir("/q/d"), before=d)
    yield scenario(rename("/p/d", "/q/d"), create("/p/d/x"), before=d)
    yield scenario(rename("/p/d", "/q/d"), mkdir("/p/d/e"), rmdir("/q/d"), before=d)
    yield scenario(rename("/p/d", "/q/d"), stat("/p/d/.."), before=d)
    inner = (*d, file("/p/d/x", b"x"))
    yield scenario(rename("/p/d", "/q/d"), stat("/p/d/x"), stat("/q/d/x"), before=inner)
    yield scenario(rename("/p/d", "/q/d"), unlink("/p/d/x"), unlink("/q/d/x"), before=inner)
    yield scenario(rename("/p/d", "/q/d"), rename("/p/d/x", "/x"), before=inner)
    # into each other: one must lose
    yield scenario(rename("/p", "/q/p"), rename("/q", "/p/q"), before=_PQ, weak=circles)
    yield scenario(
        rename("/p", "/q/p"), rename("/q", "/r/q"), rename("/r", "/p/r"),
        before=(*_PQ, folder("/r")), weak=circles,
    )  # fmt: skip
    yield scenario(rename("/p/d", "/q/d"), rename("/q", "/p/d/q"), before=d, weak=circles)
    yield scenario(rename("/d", "/p/d"), rename("/p/d", "/d"), before=(folder("/p"), folder("/d")))
    yield scenario(rename("/p/d", "/q"), rename("/q", "/p/d"), before=d, weak=circles)
    yield scenario(rename("/p/a", "/q/a"), rename("/q/b", "/p/b"), rename("/p", "/r"), before=both)
