"""Cases of two paths: rename with its flags, and link, between everything and everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import Case
from vfsim.testing.conformance.corpus.operands import (
    OPERANDS,
    Operand,
    everything,
    operand,
    product,
)
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLLOW = 0x400  # AT_SYMLINK_FOLLOW
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
FLAGS = {"": 0, "noreplace": NOREPLACE, "exchange": EXCHANGE, "whiteout": WHITEOUT}
"""Word in ids → flags of renameat2; the words are those of `Capabilities`, too."""

_WRONG = {"noreplace-exchange": 3, "noreplace-whiteout": 5, "exchange-whiteout": 6, "unknown": 8}
_ENDS = (
    "dot", "dotdot", "beneath", "twice", "around", "through-link", "through-absent",
    "links-40", "links-41", "bytes-4095", "bytes-4096",
)  # fmt: skip
_NESTED = (
    ("full", "full/sub/new"), ("full", "full/sub"), ("full/sub", "full"), ("full/file", "full"),
    ("dir", "full/sub"), ("full/sub", "dir"), ("full/file", "dir/file"), ("file", "full/file"),
    ("full", "dir/new"),
)  # fmt: skip


def cases() -> Iterator[Case]:
    """All of it."""
    yield from _renames()
    yield from _links()


def _renames() -> Iterator[Case]:
    plain, slash = list(product()), list(product(shapes=("slash",)))
    for word, flags in FLAGS.items():
        for left, right in ((plain, plain), (slash, plain), (plain, slash), (slash, slash)):
            for old in left:
                for new in right:
                    yield _rename(old, new, word, flags)
    for word in ("", "noreplace"):
        for other in _odd():
            for place in product(("file", "full", "absent")):
                yield _rename(other, place, word, FLAGS[word])
                yield _rename(place, other, word, FLAGS[word])
    for word, flags in _WRONG.items():
        for place in product(("file", "absent", "dir")):
            yield _rename(place, Operand("absent", "absent", frozenset()), word, flags)
    for here, there in _NESTED:
        for word, flags in FLAGS.items():
            yield _rename(_nested(here), _nested(there), word, flags)


def _odd() -> Iterator[Operand]:
    """What is no plain name: other shapes, the root, long names."""
    for place in everything():
        shape = place.word.partition("+")[2]
        if not shape and place.word in OPERANDS:
            continue
        if not shape or (shape in _ENDS and place.word.startswith(("file+", "full+", "absent+"))):
            yield place


def _nested(path: str) -> Operand:
    return Operand(path.replace("/", "-"), path, operand("full").needs)


def _rename(old: Operand, new: Operand, word: str, flags: int) -> Case:
    name, args = ("renameat2", (old.path, new.path, flags)) if flags else (
        "rename", (old.path, new.path))  # fmt: skip
    id = ".".join(filter(None, ("rename", old.word, new.word, word)))
    needs = frozenset(("rename",)) | old.needs | new.needs
    return Case(id, (Call(name, args),), needs=needs, may_refuse=_asked_for(flags))


def _asked_for(flags: int) -> str:
    """What the filesystem must know to do it: the word of the highest flag."""
    return next((word for word, flag in reversed(FLAGS.items()) if flags & flag), "")


def _links() -> Iterator[Case]:
    shapes = ("plain", "slash", "dot", "dotdot")
    for follow in (0, FOLLOW):
        for left, right in (("plain", "plain"), ("slash", "plain"), ("plain", "slash")):
            for old in product(shapes=(left,)):
                for new in product(shapes=(right,)):
                    yield _link(old, new, follow)
        for other in product(("file", "full", "absent", "lfile"), shapes[2:]):
            for place in product(("file", "absent")):
                yield _link(other, place, follow)
                yield _link(place, other, follow)
    old, new = product(("file", "absent"))
    yield _link(old, new, 1)


def _link(old: Operand, new: Operand, flags: int) -> Case:
    word = {0: "", FOLLOW: "follow"}.get(flags, f"flags-{flags}")
    id = ".".join(filter(None, ("link", old.word, new.word, word)))
    needs = frozenset(("link",)) | old.needs | new.needs
    return Case(id, (Call("link", (old.path, new.path, flags)),), needs=needs)
