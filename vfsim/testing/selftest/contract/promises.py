"""Mutants of what every method promises beside the table: references, results, and clean hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.dentry import dput
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import EIO
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant


def mutants() -> Iterator[Mutant]:
    """All of them."""
    d_iput = Row("dentry_operations", "d_iput", programs.rmdir)
    yield d_iput.filesystem(f"{d_iput.name}.takes_ref", "puts no reference", _does_nothing)
    mount = Row("file_system_type", "mount", programs.nothing)
    yield mount.filesystem(
        f"{mount.name}.gives_ref", "returns a root without reference", _unreferenced
    )
    mkdir = Row("inode_operations", "mkdir", programs.mkdir)
    yield mkdir.filesystem(f"{mkdir.name}.exit", "returns with a lock of its own", _keeps_its_lock)
    yield mkdir.filesystem(
        f"{mkdir.name}.exit", "raises with a lock of its own", _fails_locked, "error"
    )
    yield mkdir.filesystem(f"{mkdir.name}.returns", "returns an errno", _returns_an_errno)
    getattr = Row("inode_operations", "getattr", programs.stat)
    yield getattr.filesystem(f"{getattr.name}.returns", "forgets to return", _does_nothing)
    yield mkdir.filesystem("oops", "stumbles", _stumbles, variant="mkdir")


def _does_nothing(call: Call) -> None:
    pass


def _unreferenced(call: Call) -> Any:
    root = call.go()
    dput(root)
    return root


def _keeps_its_lock(call: Call) -> None:
    call.go()
    Mutex("mutants_own_mutex").lock()


def _fails_locked(call: Call) -> None:
    Mutex("mutants_own_mutex").lock()
    raise EIO()


def _returns_an_errno(call: Call) -> int:
    call.go()
    return -5


def _stumbles(call: Call) -> None:
    raise KeyError("nothing")
