"""Access control lists as people write them, and as the value of an attribute.

The short form has a word for each entry, in order, permissions in octal::

    u::7 u:1004:6 g::5 g:2000:4 m::7 o::0

The value is what ``system.posix_acl_access`` has: version 2, then tag, permissions and id of each
entry.  `packed` makes any value, wrong ones as well; `written` reads what a filesystem returned.
Nothing but tables here: no state, no locks.
"""

from __future__ import annotations

import struct

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NOBODY = 0xFFFF_FFFF
"""The id of an entry that names nobody."""

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_TAGS = {"u:": 1, "u": 2, "g:": 4, "g": 8, "m:": 16, "o:": 32, "x:": 64}
_WORDS = {tag: word for word, tag in _TAGS.items()}


def packed(text: str, version: int = _VERSION) -> bytes:
    """The value of a list; ``x::`` is an entry of a kind that there is not."""
    value = _HEADER.pack(version)
    for word in text.split():
        kind, who, perm = word.split(":")
        tag = _TAGS[kind if who else kind + ":"]
        value += _ENTRY.pack(tag, int(perm, 8), int(who or NOBODY))
    return value


def written(value: bytes) -> str:
    """The short form of a value; what is no list as it is."""
    size = len(value) - _HEADER.size
    if size < 0 or size % _ENTRY.size or _HEADER.unpack_from(value)[0] != _VERSION:
        return value.decode("latin-1")
    entries = _ENTRY.iter_unpack(value[_HEADER.size :])
    return " ".join(
        f"{_WORDS.get(tag, tag)}:{'' if id == NOBODY else id}:{perm:o}".replace(":::", "::")
        for tag, perm, id in entries
    )
