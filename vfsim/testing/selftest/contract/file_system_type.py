"""Mutants of ``file_system_type``: mounting and ending a filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.filesystems.libfs import SimpleSuperOperations
from vfsim.fs.d_ref import dput
from vfsim.fs.super import deactivate_locked_super, supers
from vfsim.sim.errors import EINVAL
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import without
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant

MAY_BLOCK = "may block"


def mutants() -> Iterator[Mutant]:
    """All of them."""
    mount = Row("file_system_type", "mount", programs.nothing)
    kill_sb = Row("file_system_type", "kill_sb", programs.nothing)
    yield from mount.may_block(MAY_BLOCK)
    yield from kill_sb.may_block(MAY_BLOCK)
    yield mount.filesystem("P13", "returns None", _forgets_to_return)
    yield mount.filesystem("P14", "returns with the superblock unlocked", _unlocked_root)
    yield mount.filesystem(
        "P14", "fails and leaves the superblock locked", _fails_locked, "error",
        fires=("P14", "file_system_type.mount.exit"),
    )  # fmt: skip
    yield kill_sb.caller("P15", "is called without s_umount", without("sb.s_umount"))
    yield kill_sb.caller("P15", "is called with s_umount shared", _shared, "shared")
    yield kill_sb.filesystem("P16", "leaves s_umount locked", _keeps_s_umount)
    yield kill_sb.filesystem("P16", "shuts nothing down", _only_unlocks, "shutdown")
    yield kill_sb.filesystem("P16", "forgets put_super()", _forgets_put_super, "put_super")
    yield kill_sb.filesystem("P16", "leaves it where mounts find it", _stays_listed, "list")


def _forgets_to_return(call: Call) -> None:
    root = call.go()
    sb = root.d_sb
    dput(root)
    deactivate_locked_super(sb)


def _unlocked_root(call: Call) -> Any:
    root = call.go()
    root.d_sb.s_umount.up_write()
    return root


def _fails_locked(call: Call) -> Any:
    call.go()
    raise EINVAL()


def _shared(call: Call) -> Any:
    call.sb.s_umount.downgrade_write()
    return call.go()


def _keeps_s_umount(call: Call) -> None:
    call.go()
    call.sb.s_umount.down_write()


def _only_unlocks(call: Call) -> None:
    with supers().sb_lock:
        supers().fs_supers[type(call.sb.s_type)].pop(call.sb, None)
    call.sb.s_umount.up_write()


def _forgets_put_super(call: Call) -> None:
    sb = call.sb
    sb.s_op, its_own = SimpleSuperOperations(), sb.s_op
    call.go()
    sb.s_op = its_own


def _stays_listed(call: Call) -> None:
    call.go()
    with supers().sb_lock:
        supers().fs_supers[type(call.sb.s_type)][call.sb] = None
