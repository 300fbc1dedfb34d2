"""The extended attributes of a tree: looked at, and put back.

Only worlds whose entries have any are looked at like this; in the others nobody asks.  Lists are
told in their short form (`lists`).  Never what a filesystem cannot have: `word_of` says which word
of `Capabilities` a name belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.lists import ACCESS, DEFAULT, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vfsim.testing.conformance.syscalls import SystemCalls

_WORDS = {"trusted.": "trusted", "security.": "security", ACCESS: "acls", DEFAULT: "acls"}


def word_of(name: str) -> str:
    """What a filesystem must have to know such a name."""
    return next((word for start, word in _WORDS.items() if name.startswith(start)), "xattrs")


def plain_value(name: str, value: bytes) -> str:
    """A value as text."""
    return written(value) if name in (ACCESS, DEFAULT) else value.decode("latin-1")


def attributes_of(sys: SystemCalls, path: str) -> tuple[tuple[str, str], ...]:
    """Sleeps.  Names and values, of a link itself."""
    names = sorted(sys.llistxattr(path))
    return tuple((name, plain_value(name, sys.lgetxattr(path, name))) for name in names)


def compared(
    old: tuple[tuple[str, str], ...], new: tuple[tuple[str, str], ...]
) -> dict[str, str | None]:
    """What became of each attribute that is not as it was; None if it is gone."""
    before, after = dict(old), dict(new)
    return {
        name: after.get(name)
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def put_back(sys: SystemCalls, path: str, wanted: Mapping[str, bytes]) -> None:
    """Sleeps.  Let a path have these attributes and no others."""
    there = sys.llistxattr(path)
    for name in there:
        if name not in wanted:
            sys.lremovexattr(path, name)
    for name, value in wanted.items():
        if name not in there or sys.lgetxattr(path, name) != value:
            sys.lsetxattr(path, name, value)
