"""Mutants of ``buffer_head`` and ``block_device_operations``: what ends I/O, and drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from vfsim.block.bio import WRITE
from vfsim.block.buffer import (
    BufferHead,
    brelse,
    get_bh,
    lock_buffer,
    put_bh,
    sb_getblk,
    submit_bh,
    unlock_buffer,
    wait_on_buffer,
)
from vfsim.checks.calls import assert_held
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import drop, take
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Mutant
from vfsim.testing.selftest.standing import FILESYSTEM, standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.block.bio import Bio
    from vfsim.testing.selftest.changes import Call, Change

SYNC = Row("super_operations", "sync_fs", programs.syncfs)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    yield from _handlers()
    yield from _devices()
    yield from _drivers()


# -- b_end_io --------------------------------------------------------------------------------------


def writes_with(end_io: Callable[[BufferHead, bool], None]) -> Change:
    """``sync_fs`` writes a block of its own, whose I/O ends in ``end_io``."""
    handler = standing_in(end_io, FILESYSTEM)

    def change(call: Call) -> Any:
        bh = sb_getblk(call.sb, 1)
        lock_buffer(bh)
        bh.b_end_io = handler
        get_bh(bh)
        submit_bh(WRITE, bh)
        wait_on_buffer(bh)
        brelse(bh)
        return call.go()

    return change


def good(bh: BufferHead, uptodate: bool) -> None:
    """Never sleeps.  A handler as it should be."""
    bh.uptodate = uptodate
    put_bh(bh)
    unlock_buffer(bh)


def _sleeps(bh: BufferHead, uptodate: bool) -> None:
    msleep(1)
    put_bh(bh)
    unlock_buffer(bh)


def _asserts(bh: BufferHead, uptodate: bool) -> None:
    assert bh.b_bdev is not None
    assert_held(bh.b_bdev.bd_mutex)
    put_bh(bh)
    unlock_buffer(bh)


def _stays_locked(bh: BufferHead, uptodate: bool) -> None:
    put_bh(bh)


def _handlers() -> Iterator[Mutant]:
    """It is called in an interrupt, with the buffer locked and nothing else promised."""
    for rule, why, end_io in (
        ("P58", "b_end_io() sleeps", _sleeps),
        ("P60", "b_end_io() asserts a lock", _asserts),
        ("P61", "b_end_io() leaves the buffer locked", _stays_locked),
    ):
        inside = {SYNC.name: writes_with(end_io)}
        yield Mutant(rule, "filesystem", why, SYNC.program, inside=inside)
    yield SYNC.filesystem("E16", "submits a buffer that is not locked", _submits_unlocked)


def _submits_unlocked(call: Call) -> Any:
    bh = sb_getblk(call.sb, 1)
    bh.b_end_io = good
    submit_bh(WRITE, bh)
    return call.go()


def _devices() -> Iterator[Mutant]:
    """The block layer calls it once, with the buffer locked."""
    inside = {SYNC.name: writes_with(good)}
    yield Mutant(
        "P59", "caller", "b_end_io() is called with the buffer unlocked", SYNC.program,
        inside=inside, patches={"vfsim.block.buffer._end_bio_bh": _unlocked},
    )  # fmt: skip
    yield Mutant(
        "P61", "caller", "a bio ends twice", SYNC.program,
        inside=inside, patches={"vfsim.block.bio.bio_endio": _twice},
    )  # fmt: skip
    yield Mutant(
        "E16", "caller", "the kernel submits a buffer that is not locked", programs.read_back,
        patches={"vfsim.block.buffer.lock_buffer": _locks_nothing},
    )  # fmt: skip


def _unlocked(real: Any, bio: Bio) -> None:
    unlock_buffer(bio.bi_private)
    real(bio)


def _twice(real: Any, bio: Bio, error: int = 0) -> None:
    real(bio, error)
    real(bio, error)


def _locks_nothing(real: Any, bh: BufferHead) -> None:
    pass


# -- drivers ---------------------------------------------------------------------------------------


def _drivers() -> Iterator[Mutant]:
    """open and release have bd_mutex."""
    open = Row("block_device_operations", "open", programs.nothing)
    for mutant in open.shared("bd_mutex", "bdev.bd_mutex"):
        yield evolve(mutant, blamed="driver" if mutant.side == "filesystem" else "")
    rule = "block_device_operations.release.bd_mutex"
    release = Row("block_device_operations", "release", programs.nothing)
    yield release.caller(rule, "is called without bd_mutex", _without_bd_mutex)
    yield release.filesystem(rule, "lets go of bd_mutex", _without_bd_mutex, blamed="driver")


def _without_bd_mutex(call: Call) -> Any:
    bdev = next(b for b in K.machine.data["block_devices"].values() if b.bd_disk is call.disk)
    drop(bdev.bd_mutex)
    try:
        return call.go()
    finally:
        take(bdev.bd_mutex)
