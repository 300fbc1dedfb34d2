"""Mutants of ``file_operations``: open files.  The table has no rows; its prose is what binds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.inode import S_DEAD
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import holding
from vfsim.testing.selftest.contract.grounds import PlainGround
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant, Program


def _row(method: str, program: Program, **other: Any) -> Row:
    return Row("file_operations", method, program, **other)


ALL_MAY_BLOCK = (
    _row("read_iter", programs.write_and_read),
    _row("write_iter", programs.write),
    _row("read", programs.write_and_read, ground=PlainGround),
    _row("write", programs.write, ground=PlainGround),
    _row("llseek", programs.seek),
    _row("iterate", programs.list_directory),
    _row("open", programs.create),
    _row("release", programs.create),
    _row("flush", programs.create),
    _row("fsync", programs.write_back),
    _row("check_flags", programs.setfl),
)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    for i, row in enumerate(ALL_MAY_BLOCK):
        yield from row.may_block(rule="P65", variant=row.method if i else "")
    iterate = _row("iterate", programs.list_directory)
    yield from iterate.yes("", "file.f_inode.i_rwsem", "E4")
    yield iterate.caller("E4", "is called on a directory that was removed", _dead, "dead")
    for shared in (False, True):
        yield _row("llseek", programs.seek).caller(
            "P66", "is called with the file locked", holding("file.f_inode.i_rwsem", shared),
            "shared" if shared else "",
        )  # fmt: skip
    yield iterate.caller(
        "E18", "gets f_pos_lock inside i_rwsem", _position_inside, fires=("lockdep.circular",),
        program=programs.list_shared_and_alone,
    )  # fmt: skip


def _position_inside(call: Call) -> Any:
    """Take f_pos_lock here, if it was not taken where it should be."""
    if call.file.f_pos_lock.is_locked():
        return call.go()
    with call.file.f_pos_lock:
        return call.go()


def _dead(call: Call) -> Any:
    inode = call.file.f_inode
    inode.i_flags |= S_DEAD
    try:
        return call.go()
    finally:
        inode.i_flags &= ~S_DEAD
