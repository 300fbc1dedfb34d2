"""Cases of open files: everything that can be done with a descriptor, however it was opened."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any

from vfsim.testing.conformance.corpus.case import Case
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENED = {
    "r": ("file", os.O_RDONLY, "create write"),
    "w": ("file", os.O_WRONLY, "create write"),
    "rw": ("file", os.O_RDWR, "create write"),
    "append": ("file", os.O_RDWR | os.O_APPEND, "create write"),
    "none": ("file", 3, "create write"),
    "path": ("file", os.O_PATH, "create write"),
    "dir": ("full", os.O_RDONLY, "create mkdir nested"),
    "path-dir": ("full", os.O_PATH, "create mkdir nested"),
    "path-link": ("lfile", os.O_PATH | os.O_NOFOLLOW, "symlink"),
}
"""Word in ids → path, flags, needs."""

_PAGE = 4096
_WHENCE = {"set": 0, "cur": 1, "end": 2, "data": 3, "hole": 4}

DEEDS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "read": ("read", (0, 9), "read"),
    "read-2": ("read", (0, 2), "read"),
    "read-0": ("read", (0, 0), "read"),
    **{f"pread-{at}".replace("--", "-minus"): ("pread", (0, 3, at), "read")
       for at in (0, 2, 4, 9, -1)},
    "write": ("write", (0, b"new"), "write"),
    "write-0": ("write", (0, b""), "write"),
    "write-page": ("write", (0, b"p" * (_PAGE + 1)), "write"),
    **{f"pwrite-{at}".replace("--", "-minus"): ("pwrite", (0, b"new", at), "write")
       for at in (0, 3, 9, _PAGE - 1, -1)},
    **{f"lseek-{word}-{at}".replace("--", "-minus"): ("lseek", (0, at, whence), "llseek llseek_dir")
       for word, whence in (*_WHENCE.items(), ("odd", 9))
       for at in (0, 3, 9, -1)},
    **{f"ftruncate-{n}".replace("--", "-minus"): ("ftruncate", (0, n), "write")
       for n in (0, 2, 4, 9, _PAGE + 1, -1)},
    "fchmod": ("fchmod", (0, 0o711), ""),
    "fchown": ("fchown", (0, 5, 6), "owners"),
    "fstat": ("fstat", (0,), ""),
    "getdents": ("getdents", (0,), "iterate"),
    "fsync": ("fsync", (0,), "fsync fsync_dir"),
    "fdatasync": ("fdatasync", (0,), "fsync fsync_dir"),
    "syncfs": ("syncfs", (0,), ""),
    "fstatfs": ("fstatfs", (0,), "statfs"),
    "fchdir": ("fchdir", (0,), ""),
    "close": ("close", (0,), ""),
    "dup": ("dup", (0,), ""),
    "dup2": ("dup2", (0, 5), ""),
    "dup2-itself": ("dup2", (0, 0), ""),
    "dupfd": ("fcntl", (0, fcntl.F_DUPFD, 7), ""),
    "getfd": ("fcntl", (0, fcntl.F_GETFD, 0), ""),
    "getfl": ("fcntl", (0, fcntl.F_GETFL, 0), ""),
    "setfl": ("fcntl", (0, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK), ""),
    "setfl-clear": ("fcntl", (0, fcntl.F_SETFL, 0), ""),
    "fcntl-odd": ("fcntl", (0, 9999, 0), ""),
}  # fmt: skip
"""Word in ids → call, arguments, needs; the descriptor is the first one."""

FOLLOW_UPS = {
    "read-2": Call("lseek", (0, 0, os.SEEK_CUR)),
    "write": Call("lseek", (0, 0, os.SEEK_CUR)),
    "write-page": Call("lseek", (0, 0, os.SEEK_CUR)),
    "pwrite-3": Call("lseek", (0, 0, os.SEEK_CUR)),
    "ftruncate-2": Call("pread", (0, 9, 0)),
    "ftruncate-9": Call("pread", (0, 9, 0)),
    "lseek-set-9": Call("write", (0, b"far")),
    "lseek-set-3": Call("read", (0, 9)),
    "getdents": Call("getdents", (0,)),
    "fchdir": Call("getcwd"),
    "close": Call("fstat", (0,)),
    "dup": Call("fstat", (1,)),
    "dup2": Call("fstat", (5,)),
    "dupfd": Call("fstat", (7,)),
    "setfl": Call("fcntl", (0, fcntl.F_GETFL, 0)),
    "setfl-clear": Call("fcntl", (0, fcntl.F_GETFL, 0)),
}
"""What shows the effect of some of them."""

_GONE = {
    "file": ("unlink", ("file",), "unlink"),
    "dir": ("rmdir", ("dir",), "rmdir"),
}


def cases() -> Iterator[Case]:
    """Every deed on every open file, on none, and on files and directories that were removed."""
    for word, (path, flags, needs) in OPENED.items():
        first = Call("open", (path, flags, 0))
        for deed in _deeds(word):
            yield _case(f"fd.{word}.{deed}", (first,), deed, needs)
    for deed, (name, args, needs) in DEEDS.items():
        call = Call(name, (99, *args[1:]))
        yield Case(f"fd.unopened.{deed}", (call,), needs=frozenset(needs.split()))
    for word, (name, args, needs) in _GONE.items():
        flags = os.O_RDWR if word == "file" else os.O_RDONLY
        kind = "create write" if word == "file" else "mkdir"
        before = Call("open", (args[0], flags, 0)), Call(name, args)
        for deed in _deeds(word):
            yield _case(f"fd.removed-{word}.{deed}", before, deed, f"{needs} {kind}")


def _deeds(word: str) -> list[str]:
    """Where the end of a directory is only its filesystem knows."""
    ends = ("lseek-end", "lseek-data", "lseek-hole")
    return [deed for deed in DEEDS if word != "dir" or not deed.startswith(ends)]


def _case(id: str, before: tuple[Call, ...], deed: str, needs: str) -> Case:
    name, args, more = DEEDS[deed]
    after = (FOLLOW_UPS[deed],) if deed in FOLLOW_UPS else ()
    words = frozenset(f"{needs} {more}".split())
    return Case(id, (*before, Call(name, args), *after), needs=words)
