"""How a system call is written down, in traces and transcripts: as strace would."""

from __future__ import annotations

import os
from typing import Any, cast

_OPEN_FLAGS = (
    "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC",
    "O_NOATIME",
)  # fmt: skip
_ACCESS_MODES = ("O_RDONLY", "O_WRONLY", "O_RDWR", "3")
_OCTAL_ARGUMENT = {"open": 2, "mkdir": 1, "mknod": 1, "chmod": 1, "fchmod": 1, "umask": 0}


def open_flags(flags: int) -> str:
    """Never sleeps.  ``O_WRONLY|O_CREAT``, as a person writes it."""
    words = [_ACCESS_MODES[flags & os.O_ACCMODE]]
    for word in _OPEN_FLAGS:
        bit = getattr(os, word)
        if flags & bit == bit:
            words.append(word)
            flags &= ~bit
    rest = flags & ~os.O_ACCMODE
    return "|".join(words) + (f"|{rest:#o}" if rest else "")


_TYPES = {0o010000: "fifo", 0o020000: "char", 0o040000: "dir", 0o060000: "block", 0o100000: "file",
          0o120000: "symlink", 0o140000: "socket"}  # fmt: skip


def short(value: Any) -> str:
    """Never sleeps.  ``repr``, shortened to what somebody will want to read."""
    if hasattr(value, "st_nlink"):
        kind = _TYPES.get(value.st_mode & 0o170000, "?")
        return (
            f"{{{kind} {value.st_mode & 0o7777:#o} ino={value.st_ino} nlink={value.st_nlink}"
            f" uid={value.st_uid} gid={value.st_gid} size={value.st_size}}}"
        )
    if isinstance(value, (bytes, str)) and len(value) > 40:
        return f"<{len(value)} {'bytes' if isinstance(value, bytes) else 'characters'}>"
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def call_text(name: str, args: tuple[object, ...]) -> str:
    """Never sleeps.  A call as strace would print it."""
    words = [short(arg) for arg in args]
    if name == "open" and len(args) > 1:
        words[1] = open_flags(cast("int", args[1]))
    place = _OCTAL_ARGUMENT.get(name)
    if place is not None and place < len(args):
        words[place] = f"{args[place]:#o}"
    return f"{name}({', '.join(words)})"
