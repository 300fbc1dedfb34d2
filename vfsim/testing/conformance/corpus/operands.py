"""What a path leads to, and how it is written: the two axes that every call with a path shares.

`OPERANDS` are the things of the world ``kinds`` by the word that ids have for them; `SHAPES` are
ways to write their names.  `product` is the table of all pairs, or of some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vfsim.testing.conformance.corpus.case import LONG_NAMES, SYMLINK, WORLDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PATH_MAX = 4096

OPERANDS = {
    "absent": "absent",
    "file": "file",
    "dir": "dir",
    "full": "full",
    "lfile": "lfile",
    "ldir": "ldir",
    "lfull": "lfull",
    "dangling": "dangling",
    "loop": "loop",
    "fifo": "fifo",
    "inside": "full/file",
}
"""Word in ids → path in the world ``kinds``."""

_NAMES = {
    "name255": "n" * 255,
    "name256": "n" * 256,
}


def _needs(path: str) -> frozenset[str]:
    """What a filesystem must have for a thing to be there, whole: with what is in it, and what it
    leads to.
    """
    needs: set[str] = set()
    for entry in WORLDS["kinds"]:
        if f"{entry.path}/".startswith(f"/{path}/"):
            needs |= entry.needs
            if entry.kind == SYMLINK and entry.body != path:
                needs |= _needs(entry.body)
    return frozenset(needs)


_NEEDS = {word: _needs(path) for word, path in OPERANDS.items()} | {
    word: frozenset((LONG_NAMES,)) for word in _NAMES
}


class Operand(NamedTuple):
    """A path: its words in an id, its text, and what a filesystem needs for it to make sense."""

    word: str
    path: str
    needs: frozenset[str]


def padded(path: str, length: int) -> str:
    """The same path written with ``length`` bytes, most of them slashes."""
    return "." + "/" * (length - len(path) - 1) + path


def _times(count: int) -> Callable[[str], str]:
    return lambda path: "self/" * count + path


SHAPES: dict[str, Callable[[str], str]] = {
    "plain": lambda path: path,
    "absolute": lambda path: "/" + path,
    "twice": lambda path: "//" + path.replace("/", "//"),
    "here": lambda path: "./" + path,
    "slash": lambda path: path + "/",
    "slashes": lambda path: path + "//",
    "dot": lambda path: path + "/.",
    "dot-slash": lambda path: path + "/./",
    "dotdot": lambda path: path + "/..",
    "beneath": lambda path: path + "/file",
    "around": lambda path: "full/../" + path,
    "through-file": lambda path: "file/../" + path,
    "through-absent": lambda path: "absent/../" + path,
    "through-link": lambda path: "lfull/../" + path,
    "above": lambda path: "../../" + path,
    "links-39": _times(39),
    "links-40": _times(40),
    "links-41": _times(41),
    "bytes-4095": lambda path: padded(path, PATH_MAX - 1),
    "bytes-4096": lambda path: padded(path, PATH_MAX),
}
"""Word in ids → how to write a path."""

_SHAPE_NEEDS = {
    "around": "mkdir",
    "through-file": "create write",
    "through-link": "mkdir symlink",
    "links-39": "symlink",
    "links-40": "symlink",
    "links-41": "symlink",
}


def operand(word: str, shape: str = "plain") -> Operand:
    """One operand, written in one way."""
    path = _NAMES.get(word) or OPERANDS[word]
    needs = _NEEDS[word] | frozenset(_SHAPE_NEEDS.get(shape, "").split())
    name = word if shape == "plain" else f"{word}+{shape}"
    return Operand(name, SHAPES[shape](path), needs)


def product(words: Iterable[str] = (), shapes: Iterable[str] = ("plain",)) -> Iterator[Operand]:
    """Every operand, written in each of these ways; ``words`` are all without any."""
    chosen = tuple(words) or tuple(OPERANDS)
    for shape in shapes:
        for word in chosen:
            yield operand(word, shape)


def everything() -> Iterator[Operand]:
    """Every operand in every shape, the empty path, the root, and names that are (too) long."""
    yield from product(shapes=SHAPES)
    yield from product(_NAMES)
    yield Operand("empty", "", frozenset())
    yield Operand("top", "/", frozenset())
    yield Operand("here", ".", frozenset())
    yield Operand("above", "..", frozenset())
