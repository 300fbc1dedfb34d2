"""Cases of inodes that have no name, or not the one they were found by.

Files that never had one (O_TMPFILE), a name for what is open (linkat(2) with AT_EMPTY_PATH), and
working directories that were removed, moved, or are closed to the task.
"""

from __future__ import annotations

import os
from stat import S_IFREG
from typing import TYPE_CHECKING

from vfsim.testing.conformance.corpus.case import DIR_MODES, PEOPLE, Case
from vfsim.testing.conformance.corpus.descriptors import DEEDS, FOLLOW_UPS, OPENED
from vfsim.testing.conformance.corpus.opening import MODES, UMASKS
from vfsim.testing.conformance.corpus.operands import everything, product
from vfsim.testing.conformance.corpus.paths import WALKERS
from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.conformance.corpus.operands import Operand

NEW = os.O_TMPFILE | os.O_RDWR

_FILE, _DIR = ("file", os.O_RDWR, 0), ("dir", os.O_RDONLY, 0)
SOURCES: dict[str, tuple[tuple[Call, ...], str]] = {
    **{word: ((Call("open", (path, flags, 0)),), needs)
       for word, (path, flags, needs) in OPENED.items()},
    "path-fifo": ((Call("open", ("fifo", os.O_PATH, 0)),), "mknod"),
    "tmpfile": ((Call("open", (".", NEW, 0o640)),), "tmpfile"),
    "tmpfile-excl": ((Call("open", (".", NEW | os.O_EXCL, 0o640)),), "tmpfile"),
    "tmpfile-linked": ((Call("open", (".", NEW, 0o640)), Call("flink", (0, "other"))), "tmpfile"),
    "tmpfile-unlinked": ((Call("open", (".", NEW, 0o640)), Call("flink", (0, "other")),
                          Call("unlink", ("other",))), "tmpfile unlink"),
    "removed": ((Call("open", _FILE), Call("unlink", ("file",))), "create write unlink"),
    "removed-dir": ((Call("open", _DIR), Call("rmdir", ("dir",))), "mkdir rmdir"),
    "moved": ((Call("open", _FILE), Call("rename", ("file", "dir/file"))),
              "create write mkdir rename"),
    "unopened": ((), ""),
}  # fmt: skip
"""Word in ids → how descriptor 0 comes to be, and what it needs."""

HERE = ("file", "new", ".", "..", "../file", "")
"""Names that are looked up from where the task is."""

_GONE = "mkdir rmdir removed_dirs"

MOVES: dict[str, tuple[tuple[Call, ...], str]] = {
    "gone": ((Call("chdir", ("dir",)), Call("rmdir", ("/dir",))), _GONE),
    "moved": ((Call("chdir", ("full",)), Call("rename", ("/full", "/dir/moved"))),
              "create mkdir nested write rename"),
    "closed": ((Call("chdir", ("closed",)), Call("setuid", (1003,))), "mkdir owners"),
    "open-gone": ((Call("open", _DIR), Call("rmdir", ("dir",)), Call("fchdir", (0,))),
                  _GONE),
}  # fmt: skip
"""Word in ids → how the task comes to be where it is."""


def cases() -> Iterator[Case]:
    """All of it."""
    yield from _tmpfiles()
    yield from _deeds()
    yield from _flinks()
    yield from _elsewhere()


def _tmpfiles() -> Iterator[Case]:
    """Where such a file may be made, and by whom; what it is like, once it has a name."""
    base = "create mkdir nested owners write tmpfile link"
    for who in PEOPLE:
        for mode in DIR_MODES:
            call = Call("open", (f"d{mode:o}", NEW, 0o666))
            yield _case(f"tmpfile.dir-{mode:o}", [call], base, "rights", who)
            calls = [call, Call("flink", (0, "open/new"))]
            yield _case(f"tmpfile.dir-{mode:o}.flink", calls, base, "rights", who)
        for word in ("f666", "f600", "d777/mine"):
            calls = [Call("open", (word, os.O_PATH, 0)), Call("flink", (0, "open/new"))]
            id = f"flink.{word.replace('/', '-')}"
            yield _case(id, calls, base, "rights", who)
    for umask in UMASKS:
        for mode in MODES:
            if mode & 0o2000:
                continue
            calls = [Call("umask", (umask,)), Call("open", ("dir", NEW, mode)),
                     Call("flink", (0, "dir/new"))]  # fmt: skip
            yield _case(f"mode.{mode:o}.umask-{umask:o}", calls, "mkdir nested link tmpfile")


def _deeds() -> Iterator[Case]:
    """Everything that can be done with a descriptor, and then the name that shows it."""
    for deed, (name, args, needs) in DEEDS.items():
        if deed.startswith(("dup2-itself", "fchdir")):
            continue
        calls = [SOURCES["tmpfile"][0][0], Call(name, args)]
        calls += [FOLLOW_UPS[deed]] if deed in FOLLOW_UPS else []
        yield _case(f"deed.{deed}", [*calls, Call("flink", (0, "new"))], f"{needs} tmpfile link")


def _flinks() -> Iterator[Case]:
    """A name for everything that can be open, everywhere."""
    for word, (before, needs) in SOURCES.items():
        fd = 0 if before else 99
        for place in (*product(), *_odd()):
            calls = [*before, Call("flink", (fd, place.path))]
            words = " ".join(sorted({"link", *needs.split(), *place.needs}))
            yield _case(f"flink.{word}.{place.word}", calls, words)


def _odd() -> Iterator[Operand]:
    for place in everything():
        word, _, shape = place.word.partition("+")
        if word in ("empty", "top", "here", "above", "name255", "name256") or (
            word == "absent" and shape in ("dot", "beneath", "through-absent", "links-41")
        ):
            yield place


def _elsewhere() -> Iterator[Case]:
    """Every call with a path, from a directory that is not where it was."""
    for word, (before, needs) in MOVES.items():
        for verb in WALKERS:
            if verb.name == "truncate" or (verb.name == "listdir" and "gone" in word):
                continue  # may not set times; libraries make the ENOENT of getdents an end
            for path in HERE:
                after = [Call("getcwd")] if verb.name == "chdir" else []
                name = path.replace("/", "-") or "empty"
                words = f"{needs} {verb.needs} {'create write' if 'file' in path else ''}"
                calls = [*before, verb.on(path), *after]
                yield _case(f"cwd-{word}.{verb.word}.{name}", calls, words)
        node = [Call("mknod", ("new", S_IFREG | 0o600, 0)), Call("rename", ("new", "newer"))]
        yield _case(f"cwd-{word}.rename", [*before, *node], f"{needs} create rename")
        yield _case(f"cwd-{word}.getcwd", [*before, Call("getcwd")], needs)


def _case(id: str, calls: list[Call], needs: str, world: str = "kinds", who: str = "root") -> Case:
    area = "at" if world == "kinds" else f"at-rights.{who}"
    return Case(f"{area}.{id}", tuple(calls), world, who, frozenset(needs.split()))
