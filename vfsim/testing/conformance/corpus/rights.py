"""Cases of permission: everybody does everything to files and directories of every mode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import DIR_MODES, FILE_MODES, PEOPLE, Case
from vfsim.testing.conformance.corpus.pairs import FLAGS
from vfsim.testing.conformance.corpus.paths import LATER, Verb
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

TO_FILES = (
    Verb("stat", "stat"),
    Verb("open-r", "open", (os.O_RDONLY, 0)),
    Verb("open-w", "open", (os.O_WRONLY, 0)),
    Verb("open-rw", "open", (os.O_RDWR, 0)),
    Verb("open-none", "open", (3, 0)),
    Verb("open-trunc", "open", (os.O_RDONLY | os.O_TRUNC, 0), "write"),
    Verb("open-noatime", "open", (os.O_RDONLY | os.O_NOATIME, 0)),
    Verb("truncate", "truncate", (2,), "write"),
    *(Verb(f"access-{mode}", "access", (mode,)) for mode in range(8)),
    *(Verb(f"chmod-{mode:o}", "chmod", (mode,)) for mode in (0o600, 0o4755, 0o2755, 0o7777)),
    *(Verb(f"chown-{uid}-{gid}".replace("--1", "-same"), "chown", (uid, gid))
      for uid, gid in ((-1, -1), (1000, -1), (1003, -1), (0, -1), (-1, 1000), (-1, 1002),
                       (-1, 1003), (1000, 1000), (1003, 1003))),
    Verb("utime-now", "utime", (None, None)),
    Verb("utime-set", "utime", (LATER, LATER + 10**9)),
)  # fmt: skip

TO_DIRECTORIES = (
    ("stat-in", "stat", ("{}/mine",), ""),
    ("stat-absent", "stat", ("{}/absent",), ""),
    ("stat-dot", "stat", ("{}/.",), ""),
    ("listdir", "listdir", ("{}",), ""),
    ("chdir", "chdir", ("{}",), ""),
    ("create", "open", ("{}/new", os.O_CREAT | os.O_RDWR, 0o666), "create"),
    ("create-s", "open", ("{}/new", os.O_CREAT | os.O_RDWR, 0o6777), "create"),
    ("create-there", "open", ("{}/mine", os.O_CREAT | os.O_RDONLY, 0o666), "create"),
    ("exclusive", "open", ("{}/mine", os.O_CREAT | os.O_EXCL, 0o666), "create"),
    ("mkdir", "mkdir", ("{}/new", 0o777), "mkdir nested"),
    ("mkdir-there", "mkdir", ("{}/mine", 0o777), "mkdir"),
    ("mknod", "mknod", ("{}/new", 0o100666, 0), "create"),
    ("mkfifo", "mkfifo", ("{}/new", 0o666), "mknod"),
    ("mknod-char", "mknod", ("{}/new", 0o020666, 0x103), "mknod"),
    ("symlink", "symlink", ("target", "{}/new"), "symlink"),
    ("unlink-mine", "unlink", ("{}/mine",), "unlink"),
    ("unlink-theirs", "unlink", ("{}/theirs",), "unlink"),
    ("unlink-absent", "unlink", ("{}/absent",), "unlink"),
    ("rmdir-mine", "rmdir", ("{}/mine",), "rmdir"),
    ("rename-in", "rename", ("{}/mine", "{}/new"), "rename"),
    ("rename-over", "rename", ("{}/mine", "{}/theirs"), "rename"),
    ("rename-over-mine", "rename", ("{}/theirs", "{}/mine"), "rename"),
    ("rename-out", "rename", ("{}/mine", "open/new"), "rename"),
    ("rename-theirs-out", "rename", ("{}/theirs", "open/new"), "rename"),
    ("rename-away", "rename", ("{}", "open/new"), "rename nested"),
    ("link-in", "link", ("{}/mine", "{}/new", 0), "link"),
    ("link-out", "link", ("{}/mine", "open/new", 0), "link"),
    ("link-from", "link", ("f666", "{}/new", 0), "link"),
    ("chmod", "chmod", ("{}", 0o2750), ""),
    ("chmod-in", "chmod", ("{}/mine", 0o640), ""),
    ("chown", "chown", ("{}", -1, 1002), ""),
    ("utime", "utime", ("{}", None, None), ""),
    ("truncate-in", "truncate", ("{}/mine", 3), "write"),
    ("open-in", "open", ("{}/theirs", os.O_RDONLY, 0), ""),
    ("open-in-w", "open", ("{}/theirs", os.O_WRONLY, 0), ""),
)
"""Word in ids, call, arguments, needs; ``{}`` is the directory."""

_BASE = frozenset(("create", "mkdir", "nested", "owners", "write"))


def cases() -> Iterator[Case]:
    """All of it."""
    for who in PEOPLE:
        for mode in FILE_MODES:
            for verb in TO_FILES:
                needs = _BASE | frozenset(verb.needs.split())
                yield _case(
                    f"{who}.file-{mode:o}.{verb.word}", (verb.on(f"f{mode:o}"),), who, needs
                )
            yield from _writes(who, mode)
        for mode in DIR_MODES:
            for word, name, args, more in TO_DIRECTORIES:
                needs = _BASE | frozenset(more.split())
                yield _case(
                    f"{who}.dir-{mode:o}.{word}", (_on(name, args, f"d{mode:o}"),), who, needs
                )
            yield from _renames(who, mode)


def _on(name: str, args: tuple[object, ...], path: str) -> Call:
    return Call(name, tuple(a.format(path) if isinstance(a, str) else a for a in args))


def _writes(who: str, mode: int) -> Iterator[Case]:
    """What writing and changing an open file does to its set-id bits."""
    path = f"f{mode:o}"
    for word, call in (
        ("write", Call("write", (0, b"new"))),
        ("write-0", Call("write", (0, b""))),
        ("ftruncate", Call("ftruncate", (0, 2))),
        ("fchmod", Call("fchmod", (0, 0o6777))),
        ("fchown", Call("fchown", (0, -1, 1000))),
    ):
        calls = (Call("open", (path, os.O_RDWR, 0)), call)
        yield _case(f"{who}.file-{mode:o}.then-{word}", calls, who, _BASE)


def _renames(who: str, mode: int) -> Iterator[Case]:
    """The flags of renameat2 between two files of one directory, and out of it."""
    for word, flags in FLAGS.items():
        if not flags:
            continue
        for kind, new in (("in", "{}/new"), ("over", "{}/theirs"), ("out", "open/new")):
            call = _on("renameat2", ("{}/mine", new, flags), f"d{mode:o}")
            id = f"{who}.dir-{mode:o}.rename-{kind}-{word}"
            yield _case(id, (call,), who, _BASE | {"rename"}, word)


def _case(
    id: str, calls: tuple[Call, ...], who: str, needs: frozenset[str], may_refuse: str = ""
) -> Case:
    return Case(f"rights-{id}", calls, "rights", who, needs, may_refuse)
