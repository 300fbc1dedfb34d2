"""Mutants of ``writepage`` and ``writepages``: which bits a page leaves with, in which order, and
what its I/O still owes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.block.bio import WRITE, Bio
from vfsim.block.buffer import ll_rw_block, wait_on_buffer
from vfsim.block.queue import submit_bio
from vfsim.filesystems.wholefs import BLOCK, get_block
from vfsim.mm.dirty import (
    end_page_writeback,
    redirty_page_for_writepage,
    set_page_writeback,
)
from vfsim.mm.operations import AOP_WRITEPAGE_ACTIVATE, WB_SYNC_NONE
from vfsim.mm.page import PAGE_SIZE, lock_page, unlock_page, wait_on_page_writeback
from vfsim.mm.writepages import LONG_MAX
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import without
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Mutant
from vfsim.testing.selftest.standing import FILESYSTEM, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.mm.page import Page
    from vfsim.testing.selftest.changes import Call, Change

WRITEPAGE = Row("address_space_operations", "writepage", programs.write_back)
LATER = Row("address_space_operations", "writepage", programs.flush_later)
SOME = Row("address_space_operations", "writepages", programs.write_some)
WRITEPAGES = Row("address_space_operations", "writepages", programs.write_back)
CELL = "address_space_operations.writepage.PageLocked(page)"


def mutants() -> Iterator[Mutant]:
    """All of them."""
    yield from _entry()
    yield from _unlocking()
    yield from _writing()
    yield from _refusing()
    yield from _ranges()


# -- what the caller sees to -----------------------------------------------------------------------


def _entry() -> Iterator[Mutant]:
    """Locked, cleaned for I/O, still tagged, not under writeback, and a mode (P23)."""
    yield WRITEPAGE.caller(CELL, "is called without the page lock", without("page.lock"))
    for why, change, variant in (
        ("is called with an unknown mode", _with(wbc={"sync_mode": 7}), ""),
        ("is called on a page that is still dirty", _with(page={"dirty": True}), "dirty"),
        ("is called on a page without its dirty tag", _with(page={"tags": 0}), "untagged"),
        ("is called on a page under writeback", _with(page={"writeback": True}), "writeback"),
    ):
        yield WRITEPAGE.caller("P23", why, change, variant)
    yield Mutant(
        "P23", "caller", "fsync does not wait for a write in progress",
        programs.write_while_written, variant="unwaited",
        patches={"vfsim.mm.page.wait_on_page_writeback": _does_not_wait},
    )  # fmt: skip


def _does_not_wait(real: Any, page: Page) -> None:
    pass


def _with(**fields: dict[str, Any]) -> Change:
    """Arguments have other fields when the call is made."""

    def change(call: Call) -> Any:
        for name, values in fields.items():
            for field, value in values.items():
                setattr(getattr(call, name), field, value)
        return call.go()

    return change


# -- the page lock ---------------------------------------------------------------------------------


def _unlocking() -> Iterator[Mutant]:
    """The page is unlocked before writepage returns (P28), after its state was settled (P31)."""
    for rule in (CELL, "P28"):
        yield WRITEPAGE.filesystem(
            rule, "returns with the page locked", _stays_locked, fires=(CELL, "P28")
        )
    yield WRITEPAGE.filesystem("P28", "fails and leaves the page locked", _fails_locked, "error")
    yield WRITEPAGE.filesystem("P31", "unlocks the page, then sets writeback", _unlocks_first)
    yield WRITEPAGE.filesystem("P35", "unlocks the page and does nothing else", _forgets_it)


def _stays_locked(call: Call) -> int:
    set_page_writeback(call.page)
    end_page_writeback(call.page)
    return 0


def _fails_locked(call: Call) -> int:
    redirty_page_for_writepage(call.wbc, call.page)
    raise OSError(5, "EIO")


def _unlocks_first(call: Call) -> int:
    unlock_page(call.page)
    set_page_writeback(call.page)
    end_page_writeback(call.page)
    return 0


def _forgets_it(call: Call) -> int:
    unlock_page(call.page)
    return 0


# -- writeback -------------------------------------------------------------------------------------


def _writing() -> Iterator[Mutant]:
    """set_page_writeback, then I/O (P32), whose end calls end_page_writeback (P33, P34)."""
    yield WRITEPAGE.filesystem("P32", "submits I/O before set_page_writeback", _submits_first)
    yield WRITEPAGE.filesystem("P33", "starts I/O whose end ends no writeback", _never_ended)
    yield LATER.filesystem("P33", "starts I/O whose end ends no writeback", _never_ended, "later")
    yield WRITEPAGE.filesystem("P34", "submits nothing and ends no writeback", _submits_nothing)
    yield WRITEPAGE.filesystem("E17", "ends a writeback twice", _ends_twice)
    yield Mutant(
        "E17", "caller", "the end of an I/O ends the writeback twice", programs.write_back,
        patches={"vfsim.mm.dirty.end_page_writeback": _twice},
    )  # fmt: skip
    yield Mutant(
        "P25", "filesystem", "writepage() writes while an older write is in flight",
        programs.write_back,
        inside={
            WRITEPAGE.name: _writes_at_once,
            "address_space_operations.write_end": writes_early,
        },
    )  # fmt: skip


def _bio(page: Page, end_io: Any) -> Bio:
    """The whole page to its blocks."""
    assert page.mapping is not None
    inode = page.mapping.host
    bdev = inode.i_sb.s_bdev
    block = get_block(inode, page.index * (PAGE_SIZE // BLOCK), True)
    assert block is not None and bdev is not None
    sector = block * (BLOCK >> 9)
    return Bio(bdev, WRITE, sector, memoryview(page.data), end_io, bi_page=page)


def _clean_buffers(page: Page) -> None:
    for bh in page.private or ():
        bh.dirty = False


def _end_writeback(bio: Bio) -> None:
    assert bio.bi_page is not None
    end_page_writeback(bio.bi_page)


def _end_nothing(bio: Bio) -> None:
    pass


ENDS = standing_in(_end_writeback, FILESYSTEM)
ENDS_NOTHING = standing_in(_end_nothing, FILESYSTEM)


def _submits_first(call: Call) -> int:
    _clean_buffers(call.page)
    bio = _bio(call.page, ENDS)
    submit_bio(bio)
    set_page_writeback(call.page)
    unlock_page(call.page)
    return 0


def _never_ended(call: Call) -> int:
    _clean_buffers(call.page)
    set_page_writeback(call.page)
    unlock_page(call.page)
    submit_bio(_bio(call.page, ENDS_NOTHING))
    return 0


def _submits_nothing(call: Call) -> int:
    set_page_writeback(call.page)
    unlock_page(call.page)
    return 0


def _ends_twice(call: Call) -> int:
    set_page_writeback(call.page)
    unlock_page(call.page)
    end_page_writeback(call.page)
    end_page_writeback(call.page)
    return 0


def _twice(real: Any, page: Page) -> None:
    real(page)
    real(page)


def _writes_at_once(call: Call) -> int:
    set_page_writeback(call.page)
    unlock_page(call.page)
    submit_bio(_bio(call.page, ENDS))
    return 0


def writes_early(call: Call) -> Any:
    """The buffers' I/O starts as soon as they are dirty."""
    page = call.page
    result = call.go()
    ll_rw_block(WRITE, page.private or ())
    return result


# -- not now ---------------------------------------------------------------------------------------


def _refusing() -> Iterator[Mutant]:
    """For sync the page is written (P24); the activate code leaves it locked and dirty (P29)."""
    yield WRITEPAGE.filesystem("P24", "redirties the page in sync mode", _redirties)
    yield LATER.filesystem(
        "P29", "returns the activate code, and the page unlocked", _activates(unlock=True)
    )
    yield LATER.filesystem(
        "P29", "returns the activate code, and the page clean", _activates(redirty=False), "clean"
    )
    yield Mutant(
        "P30", "caller", "after the activate code writepage() is called at once again",
        programs.flush_later, inside={WRITEPAGE.name: _activates()},
        around={WRITEPAGE.name: _tries_again},
    )  # fmt: skip

    yield Mutant(
        "P26", "filesystem", "writepage() waits for the page's buffers to cleanse it",
        programs.flush_at_once,
        inside={WRITEPAGE.name: _waits, "address_space_operations.write_end": writes_early},
    )  # fmt: skip


def _waits(call: Call) -> Any:
    for bh in call.page.private or ():
        wait_on_buffer(bh)
    return call.go()


def _redirties(call: Call) -> int:
    redirty_page_for_writepage(call.wbc, call.page)
    unlock_page(call.page)
    return 0


def _activates(redirty: bool = True, unlock: bool = False) -> Change:
    def change(call: Call) -> Any:
        if call.wbc.sync_mode != WB_SYNC_NONE:
            return call.go()
        if redirty:
            redirty_page_for_writepage(call.wbc, call.page)
        if unlock:
            unlock_page(call.page)
        return AOP_WRITEPAGE_ACTIVATE

    return change


def _tries_again(call: Call) -> Any:
    result = call.go()
    if result == AOP_WRITEPAGE_ACTIVATE:
        call.page.dirty = False
        result = call.go()
    return result


# -- ranges ----------------------------------------------------------------------------------------


def _ranges() -> Iterator[Mutant]:
    """writepages counts what it writes, writes all for sync, and only what was dirty."""
    yield WRITEPAGES.filesystem("P37", "counts up", _counts_up)
    yield WRITEPAGES.filesystem("P37", "does not count", _does_not_count, "not at all")
    yield WRITEPAGES.filesystem("P39", "stops after one page in sync mode", _stops_early)
    yield WRITEPAGES.filesystem("P39", "writes nothing in sync mode", _writes_nothing, "nothing")
    yield WRITEPAGES.filesystem("P40", "writes a clean page", _writes_clean_pages)

    yield SOME.filesystem("P36", "writes one page where two are wanted", _writes_one)
    yield SOME.filesystem("P38", "writes six pages where two are wanted", _writes_all)


def _counts_up(call: Call) -> None:
    call.go()
    call.wbc.nr_to_write += 1 << 62


def _does_not_count(call: Call) -> None:
    before = call.wbc.nr_to_write
    call.go()
    call.wbc.nr_to_write = before


def _stops_early(call: Call) -> None:
    call.wbc.range_end, end = PAGE_SIZE - 1, call.wbc.range_end
    call.go()
    call.wbc.range_end = end


def _writes_one(call: Call) -> None:
    if call.wbc.sync_mode == WB_SYNC_NONE:
        _stops_early(call)
    else:
        call.go()


def _writes_all(call: Call) -> None:
    wanted = call.wbc.nr_to_write
    call.wbc.nr_to_write = LONG_MAX
    call.go()
    call.wbc.nr_to_write -= LONG_MAX - wanted


def _writes_nothing(call: Call) -> None:
    pass


def _writes_clean_pages(call: Call) -> None:
    call.go()
    page = call.mapping.pages[0]
    lock_page(page)
    wait_on_page_writeback(page)
    set_page_writeback(page)
    unlock_page(page)
    end_page_writeback(page)
