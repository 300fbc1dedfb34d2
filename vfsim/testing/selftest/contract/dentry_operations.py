"""Mutants of ``dentry_operations``: what a filesystem does about names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.operations import LOOKUP_RCU
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import in_rcu, passing
from vfsim.testing.selftest.contract.grounds import CachedGround
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
    yield from _d_revalidate()
    yield from _d_compare()
    yield from _d_prune()
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
    row = _row("d_revalidate", programs.stat_twice)
    yield from row.no(RENAME_LOCK, "@rename_lock")
    yield from row.no(D_LOCK, "dentry.d_lock")
    yield from row.may_block(MAY_BLOCK)
    cell = "dentry_operations.d_revalidate.may block"
    rcu_walk = {"dentry_operations.d_revalidate": in_rcu(flags=LOOKUP_RCU)}
    for rule in (cell, "P1"):
        yield row.filesystem(
            rule, "sleeps in an rcu-walk", _sleep_in_rcu_walk, around=rcu_walk, fires=(cell, "P1")
        )
    yield row.caller("P1", "is told of an rcu-walk that is none", passing(flags=LOOKUP_RCU))
    yield row.caller("P1", "is not told of an rcu-walk", in_rcu(), "unsaid")


def _sleep_in_rcu_walk(call: Call) -> Any:
    if call.flags & LOOKUP_RCU:
        msleep(1)
    return call.go()


def _d_compare() -> Iterator[Mutant]:
    """The candidate's name must hold still: by rename_lock, its d_lock, or RCU."""
    row = _row("d_compare", programs.stat_twice)
    yield row.caller(
        "dentry_operations.d_compare.rename_lock", "is called with nothing held", _nothing_held
    )
    yield from row.maybe(D_LOCK, "dentry.d_lock")
    yield from row.never_blocks(MAY_BLOCK)


def _nothing_held(call: Call) -> Any:
    call.dentry.d_lock.unlock()
    rcu_read_unlock()
    try:
        return call.go()
    finally:
        rcu_read_lock()
        call.dentry.d_lock.lock()


def _d_prune() -> Iterator[Mutant]:
    """It also has the parent's d_lock and the inode's i_lock."""
    for path, program in (
        ("dentry.d_parent.d_lock", programs.rmdir),
        ("dentry.d_inode.i_lock", programs.mkdir),
    ):
        row = Row("dentry_operations", "d_prune", program, variant=path.split(".")[1])
        yield from row.shared("", path, "E25")
