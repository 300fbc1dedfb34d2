"""Clean runs, which must be silent: the counterparts of the mutants, what the document permits, and
whole filesystems.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vfsim
from vfsim.checks.counters import uncounted
from vfsim.explore.execute import execute
from vfsim.explore.strategies import maker
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.icache import free_inode_nonrcu
from vfsim.fs.operations import LOOKUP_RCU
from vfsim.locks.rcu import synchronize_rcu
from vfsim.mm.dirty import redirty_page_for_writepage
from vfsim.mm.operations import AOP_WRITEPAGE_ACTIVATE, WB_SYNC_NONE
from vfsim.mm.page import unlock_page
from vfsim.testing.check import Subject
from vfsim.testing.scenarios import library
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.case import SILENT, Case
from vfsim.testing.selftest.changes import asserting, atomic, holding, in_rcu
from vfsim.testing.selftest.contract.block import good, writes_with
from vfsim.testing.selftest.contract.writepage import writes_early
from vfsim.testing.selftest.mutants import clean, overridden, play
from vfsim.testing.target import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vfsim.fs.operations import FileSystemType
    from vfsim.sim.errors import Violation
    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant, Program

EXAMPLES = Path(vfsim.__file__).parent.parent / "examples"
PIECES = 4
"""Into how many cases the scenario library is cut, for each filesystem."""


def cases(mutants: Iterable[Mutant]) -> Iterator[Case]:
    """All of them."""
    seen: dict[tuple[Any, Any], None] = {(m.ground, m.program): None for m in mutants}
    for ground, program in seen:
        yield clean(f"{ground.__name__}.{program.__name__}", program, ground)
        yield _overridden(ground, program)
    yield from _permitted()
    for name, filesystem in _filesystems():
        for piece in range(PIECES):
            yield _library(name, filesystem, piece)


def _overridden(ground: type[FileSystemType], program: Program) -> Case:
    """The same, but each method is overridden by one that calls it."""

    def run() -> list[Violation]:
        with uncounted():
            return play(overridden(ground), program)

    id = f"clean.overridden.{ground.__name__}.{program.__name__}"
    return Case(id, "clean", SILENT, run, (), "", "an override that only calls what it overrides")


# -- what the document permits ---------------------------------------------------------------------


def _permitted() -> Iterator[Case]:
    """Right, although a careless checker might complain."""
    d_op, i_op = "dentry_operations", "inode_operations"
    a_op = "address_space_operations"
    for name, program, change in (
        (f"{d_op}.d_revalidate", programs.stat_twice, in_rcu(flags=LOOKUP_RCU)),
        (f"{d_op}.d_hash", programs.stat_twice, in_rcu()),
        (f"{d_op}.d_compare", programs.stat_twice, in_rcu()),
        (f"{i_op}.get_link", programs.follow, in_rcu(dentry=None)),
    ):
        yield clean(f"rcu-walk.{name}", program, around={name: change})
    for name, program in (
        (f"{d_op}.d_hash", programs.stat_twice),
        (f"{d_op}.d_compare", programs.stat_twice),
        (f"{d_op}.d_delete", programs.stat_missing),
        (f"{d_op}.d_prune", programs.rmdir),
        (f"{d_op}.d_dname", programs.show_path),
        ("super_operations.drop_inode", programs.unlink),
        (f"{a_op}.set_page_dirty", programs.dirty_a_page),
        (f"{a_op}.freepage", programs.truncate),
    ):
        yield clean(f"in a spinlock section.{name}", program, around={name: atomic()})
    for name, program in (
        (f"{d_op}.d_hash", programs.stat_twice),
        (f"{d_op}.d_init", programs.create),
        (f"{i_op}.getattr", programs.stat),
    ):
        yield clean(f"a read section of its own.{name}", program, inside={name: in_rcu()})
    locked = holding("dentry.d_inode.i_rwsem")
    yield clean("with the lock.getattr", programs.stat, around={f"{i_op}.getattr": locked})
    yield clean(
        "takes the lock itself.readlink", programs.readlink, inside={f"{i_op}.readlink": locked}
    )
    yield clean(
        "asserts what is promised.create", programs.create,
        inside={f"{i_op}.create": asserting("dir.i_rwsem")},
    )  # fmt: skip
    for change in (_redirties, _activates):
        yield clean(
            f"cleansing.{change.__name__.strip('_')}", programs.flush_later,
            inside={f"{a_op}.writepage": change},
        )  # fmt: skip
    yield clean(
        "cleansing.in flight", programs.flush_at_once,
        inside={f"{a_op}.write_end": writes_early},
    )  # fmt: skip
    yield clean(
        "frees after synchronize_rcu", programs.unlink,
        inside={"super_operations.destroy_inode": _waits_and_frees},
    )  # fmt: skip
    yield clean(
        "own b_end_io", programs.syncfs, inside={"super_operations.sync_fs": writes_with(good)}
    )


def _redirties(call: Call) -> Any:
    """P27: when cleansing, not now."""
    if call.wbc.sync_mode != WB_SYNC_NONE:
        return call.go()
    redirty_page_for_writepage(call.wbc, call.page)
    unlock_page(call.page)
    return 0


def _waits_and_frees(call: Call) -> None:
    """E24: the grace period is waited for on the spot."""
    synchronize_rcu()
    free_inode_nonrcu(call.inode)


def _activates(call: Call) -> Any:
    """P29: it cannot be written now, and comes back locked and dirty."""
    if call.wbc.sync_mode != WB_SYNC_NONE:
        return call.go()
    redirty_page_for_writepage(call.wbc, call.page)
    return AOP_WRITEPAGE_ACTIVATE


# -- whole filesystems -----------------------------------------------------------------------------


def _filesystems() -> Iterator[tuple[str, type[FileSystemType]]]:
    """Those of the package, and the examples where they are at hand."""
    yield "ramfs", RamFS
    for name in ("toyfs", "tinydisk"):
        path = EXAMPLES / f"{name}.py"
        if path.is_file():
            yield name, load(str(path)).filesystem()


def _library(name: str, filesystem: type[FileSystemType], piece: int) -> Case:
    """A part of the scenario library on a filesystem, one schedule each."""

    def run() -> list[Violation]:
        subject = Subject(name, filesystem)
        able = subject.probe().has
        found: list[Violation] = []
        for scenario in library()[piece::PIECES]:
            if frozenset(getattr(scenario, "needs", "").split()) <= able:
                strategy = maker("pos")(piece, 1000)
                found += execute(subject.scenario(scenario), strategy).violations
        return found

    why = "a correct filesystem under one schedule of each scenario of the library"
    return Case(f"clean.{name}.scenarios.{piece + 1}", "clean", SILENT, run, (), "", why)
