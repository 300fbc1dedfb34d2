"""Mutants of ``dentry_operations``: what a filesystem does about names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.operations import LOOKUP_RCU
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import passing, saying_echild, sleeping
from vfsim.testing.selftest.contract.grounds import CachedGround, SlowGround
from vfsim.testing.selftest.contract.managed import ManagedGround
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant, Program

RENAME_LOCK, D_LOCK, MAY_BLOCK, RCU_WALK = "rename_lock", "->d_lock", "may block", "rcu-walk"


def _row(method: str, program: Program) -> Row:
    return Row("dentry_operations", method, program)


# method, program, the row's words
ROWS = (
    ("d_weak_revalidate", programs.stat_twice, "no", "no", "yes", "no"),
    ("d_hash", programs.stat_twice, "no", "no", "no", "maybe"),
    ("d_delete", programs.stat_missing, "no", "yes", "no", "no"),
    ("d_init", programs.create, "no", "no", "yes", "no"),
    ("d_release", programs.rmdir, "no", "no", "yes", "no"),
    ("d_prune", programs.rmdir, "no", "yes", "no", "no"),
    ("d_iput", programs.rmdir, "no", "no", "yes", "no"),
    ("d_dname", programs.show_path, "no", "no", "no", "no"),
)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    for method, program, rename_lock, d_lock, may_block, rcu_walk in ROWS:
        row = _row(method, program)
        assert rename_lock == "no"
        yield from row.no(RENAME_LOCK, "@rename_lock")
        if d_lock == "yes":
            yield from row.yes(D_LOCK, "dentry.d_lock", rwsem=False)
        else:
            yield from row.no(D_LOCK, "dentry.d_lock")
        if may_block == "yes":
            yield from row.may_block(MAY_BLOCK)
        else:
            yield from row.never_blocks(MAY_BLOCK)
        if rcu_walk == "no":
            yield from row.not_in_rcu_walk(RCU_WALK)
        else:
            yield from row.maybe_in_rcu_walk(RCU_WALK)
    yield from _d_revalidate()
    yield from _d_compare()
    yield from _d_prune()
    yield from _d_manage()
    yield from _d_automount()
    yield from _d_real()
    yield from _under_pressure()


def _under_pressure() -> Iterator[Mutant]:
    """The same cells, where a shrinker kills the dentry: inside somebody's allocation."""

    def row(method: str) -> Row:
        return Row(
            "dentry_operations", method, programs.shrink, CachedGround, variant="under-pressure"
        )

    prune = row("d_prune")
    yield from prune.yes(D_LOCK, "dentry.d_lock", rwsem=False)
    yield from prune.never_blocks(MAY_BLOCK, variant="sleeps")
    yield from prune.shared("", "dentry.d_parent.d_lock", "E25")
    for method in ("d_release", "d_iput"):
        yield from row(method).no(D_LOCK, "dentry.d_lock")
        yield from row(method).may_block(MAY_BLOCK)


def _d_revalidate() -> Iterator[Mutant]:
    """It may block in ref-walk only, and its flags say truly which walk it is."""
    walked = _row("d_revalidate", programs.stat_twice)
    row = _row("d_revalidate", programs.mkdir_again)
    yield from row.no(RENAME_LOCK, "@rename_lock")
    yield from row.no(D_LOCK, "dentry.d_lock")
    yield from row.may_block(MAY_BLOCK)
    yield from walked.maybe_in_rcu_walk(RCU_WALK)
    cell = "dentry_operations.d_revalidate.may block"
    for rule in (cell, "P1"):
        yield walked.filesystem(
            rule, "sleeps in an rcu-walk", _sleep_in_rcu_walk, fires=(cell, "P1")
        )
    yield row.filesystem(
        "P1", "says ECHILD to a walk with references", saying_echild(_has_references), "ECHILD"
    )
    yield row.caller("P1", "is told of an rcu-walk that is none", passing(flags=LOOKUP_RCU))
    yield walked.caller("P1", "is not told of an rcu-walk", passing(flags=0), "unsaid")


def _has_references(call: Call) -> bool:
    return not call.flags & LOOKUP_RCU


def _sleep_in_rcu_walk(call: Call) -> Any:
    if call.flags & LOOKUP_RCU:
        msleep(1)
    return call.go()


def _d_manage() -> Iterator[Mutant]:
    """As `d_revalidate`; the argument is a path, and its second one says which walk it is."""
    row = Row("dentry_operations", "d_manage", programs.held_back, ManagedGround)
    yield from row.no(RENAME_LOCK, "@rename_lock")
    yield from row.no(D_LOCK, "path.dentry.d_lock")
    yield from row.may_block(MAY_BLOCK)
    yield from row.maybe_in_rcu_walk(RCU_WALK)
    cell = "dentry_operations.d_manage.may block"
    for rule, variant in ((cell, ""), ("P1", "d_manage")):
        yield row.filesystem(
            rule, "sleeps in an rcu-walk", _sleep_in_transit, variant, fires=(cell, "P1")
        )
    yield row.filesystem(
        "P1", "says ECHILD to a walk with references", saying_echild(_passes_with_references),
        "d_manage ECHILD",
    )  # fmt: skip
    told = "is told of an rcu-walk that is none"
    yield row.caller("P1", told, passing(rcu_walk=True), "d_manage")
    yield row.caller("P1", "is not told of an rcu-walk", passing(rcu_walk=False), "d_manage unsaid")


def _passes_with_references(call: Call) -> bool:
    return not call.rcu_walk


def _sleep_in_transit(call: Call) -> Any:
    if call.rcu_walk:
        msleep(1)
    return call.go()


def _d_automount() -> Iterator[Mutant]:
    """It may block, so the walk has references by then."""
    row = Row("dentry_operations", "d_automount", programs.enter_automount, ManagedGround)
    yield from row.no(RENAME_LOCK, "@rename_lock")
    yield from row.no(D_LOCK, "path.dentry.d_lock")
    yield from row.may_block(MAY_BLOCK)
    yield from row.not_in_rcu_walk(RCU_WALK)


def _d_real() -> Iterator[Mutant]:
    """It may block when a file is opened."""
    row = Row("dentry_operations", "d_real", programs.create, ManagedGround)
    yield from row.no(RENAME_LOCK, "@rename_lock")
    yield from row.no(D_LOCK, "dentry.d_lock")
    yield from row.may_block(MAY_BLOCK)
    yield from row.not_in_rcu_walk(RCU_WALK)
    yield row.filesystem(
        "dentry_operations.d_real.may block", "sleeps although nothing is opened", sleeping(),
        around={row.name: passing(open_flags=0)},
    )  # fmt: skip


def _d_compare() -> Iterator[Mutant]:
    """The candidate's name must hold still: by rename_lock, its d_lock, or RCU."""
    cell = "dentry_operations.d_compare.rename_lock"
    walked = _row("d_compare", programs.stat_twice)
    row = _row("d_compare", programs.mkdir_again)
    yield row.caller(cell, "is called with nothing held", _nothing_held)
    yield walked.caller(cell, "is called outside the read section", _outside_rcu, "rcu-walk")
    yield from row.not_promised(D_LOCK, "dentry.d_lock")
    waits = Row("dentry_operations", "d_compare", programs.two_lookups, SlowGround)
    yield from waits.maybe_in_rcu_walk(RCU_WALK)
    yield from row.never_blocks(MAY_BLOCK)
    yield walked.filesystem(
        "dentry_operations.d_compare.may block", "sleeps in an rcu-walk", sleeping(), "rcu-walk"
    )


def _nothing_held(call: Call) -> Any:
    call.dentry.d_lock.unlock()
    rcu_read_unlock()
    try:
        return call.go()
    finally:
        rcu_read_lock()
        call.dentry.d_lock.lock()


def _outside_rcu(call: Call) -> Any:
    if call.dentry.d_lock.owner is not None:
        return call.go()
    rcu_read_unlock()
    try:
        return call.go()
    finally:
        rcu_read_lock()


def _d_prune() -> Iterator[Mutant]:
    """It also has the parent's d_lock and the inode's i_lock."""
    for path, program in (
        ("dentry.d_parent.d_lock", programs.rmdir),
        ("dentry.d_inode.i_lock", programs.mkdir),
    ):
        row = Row("dentry_operations", "d_prune", program, variant=path.split(".")[1])
        yield from row.shared("", path, "E25")
