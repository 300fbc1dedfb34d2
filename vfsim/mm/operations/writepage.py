"""The rules of writing pages back that no column can hold: which bits a page leaves ``writepage``
with, in which order they change, what its I/O still owes, and what ``writepages`` counts.

They are `watch` functions: each sees one call as a whole, its entry before the ``yield``, its end
after it, and in between what the page cache tells the call (``call.listeners``) and each unlocking
(``call.on_release``).  How a page may leave ``writepage``::

    under writeback, unlocked      an I/O in flight ends the writeback
    dirty again, unlocked          not with WB_SYNC_ALL
    dirty again, still locked      with AOP_WRITEPAGE_ACTIVATE

In the first two the choice is made before the page is unlocked: whoever gets the lock next must not
see a page that is clean, tagged dirty and in nobody's hands.  No rule here takes a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.block.buffer import BufferHead
from vfsim.checks.calls import Call
from vfsim.checks.lifetime import is_freed
from vfsim.checks.obligations import owe
from vfsim.mm.operations.bits import AOP_WRITEPAGE_ACTIVATE, DIRTY_TAG, PAGE_SHIFT, WB_SYNC_NONE
from vfsim.sim.shared import accesses_for_its_caller
from vfsim.sim.state import K
from vfsim.sim.task import HARDIRQ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl

_CLOSE = 2  # as many pages as were wanted, times this, is "reasonably close" (P38)


def submits_after_writeback(call: Call, page: Page, wbc: WritebackControl) -> Iterator[None]:
    """P32: no I/O before set_page_writeback.  P25: for sync, not while older I/O is in progress."""
    submitted: list[Page] = []

    def submit(written: Page) -> None:
        if written is page:
            call.check("P32", page.writeback, "submitted I/O before set_page_writeback()")
            if wbc.sync_mode != WB_SYNC_NONE and not submitted:
                waited = not page.io_count
                call.check("P25", waited, "did not wait for I/O in progress before it wrote again")
            submitted.append(page)

    call.listeners["submit"] = submit
    yield


def writes_or_redirties(call: Call, page: Page, wbc: WritebackControl) -> Iterator[None]:
    """P24, P28 to P31, P33 to P35: how a page leaves ``writepage``.

    It is either under writeback, which somebody ends, or dirty again; and it is unlocked after that
    was settled.
    """
    skipped = wbc.pages_skipped
    refused: dict[Any, Page] = K.machine.data.setdefault("contract.refused", {})
    again = refused.pop(wbc, None) is page
    call.caller("P30", not again, "again for a page that it had just returned as not writable")
    forgotten: list[bool] = []  # at each unlock: clean, but tagged dirty?

    @accesses_for_its_caller
    def unlocked() -> None:
        forgotten.append(
            page.mapping is not None and not page.dirty and bool(page.raw_tags & DIRTY_TAG)
        )

    begun: list[Page] = []
    call.listeners["writeback"] = begun.append
    call.on_release = unlocked
    yield
    if call.error is None and call.result == AOP_WRITEPAGE_ACTIVATE:
        refused[wbc] = page
        ours = page.lock.owner is K.cur
        if ours:
            call.keeps(page.lock)
        call.check("P29", ours, "returned the activate code with the page unlocked")
        call.check(
            "P29", page.dirty or not ours, "returned the activate code without redirtying the page"
        )
        return
    if forgotten and forgotten[0]:
        if page.writeback or page in begun:
            call.check("P31", False, "unlocked the page before set_page_writeback()")
        else:
            call.check(
                "P35",
                False,
                "unlocked the page neither written nor redirtied",
                "the page is clean, the tree says dirty: its data will never be written",
            )
    elif forgotten:
        call.check("P31", True, "")
        call.check("P35", True, "")
    if wbc.sync_mode != WB_SYNC_NONE and call.error is None:
        call.check(
            "P24",
            wbc.pages_skipped == skipped,
            "redirtied the page in sync mode instead of writing it",
        )
    _ends_writeback(call, page)


def _ends_writeback(call: Call, page: Page) -> None:
    """P33, P34: who ends the writeback?  (Another task may have begun the next one by now.)"""
    if not page.writeback or (page.writer is not K.cur and not page.io_count):
        call.check("P34", True, "")
        return
    page.writer = None  # whoever waits from now on waits for the I/O, not for this task
    # a handler may be between the I/O's end and the bit's
    in_flight = page.io_count > 0 or any(t.kind == HARDIRQ and t.alive for t in K.machine.tasks)
    told = call.check(
        "P34",
        in_flight,
        "returned with the page under writeback and no I/O in flight for it",
        "nobody is left to call end_page_writeback(): whoever waits for the page waits for ever",
    )
    if told:
        rule = "P33" if page.io_count else "P34"
        owe(("writeback", page), f"end the writeback of {page!r}", rule, call.site)


def counts_what_it_writes(
    call: Call, mapping: AddressSpace, wbc: WritebackControl
) -> Iterator[None]:
    """P37: nr_to_write goes down by each page that goes under writeback.  P40: those were dirty.
    P36, P38: for cleansing, there are about nr_to_write of them.
    """
    before, skipped = wbc.nr_to_write, wbc.pages_skipped
    dirty = _to_be_written(mapping, wbc) if wbc.sync_mode == WB_SYNC_NONE else []
    started: list[Page] = []

    def writeback(page: Page) -> None:
        if page.mapping is mapping:
            tagged = page.raw_tags & DIRTY_TAG
            call.check("P40", tagged, f"wrote {page!r}, which was not tagged dirty")
            started.append(page)

    call.listeners["writeback"] = writeback
    yield
    counted = before - wbc.nr_to_write
    if counted < 0:
        call.check("P37", False, "returned with a larger nr_to_write than it was given")
    elif call.error is None:
        text = f"wrote {len(started)} pages and counted nr_to_write down by {counted}"
        call.check("P37", counted >= len(started), text)
    if call.error is None and dirty:
        tried = len(started) + wbc.pages_skipped - skipped
        there = [(p, n) for p, n in dirty if not is_freed(p) and p.mapping is mapping]
        left = [p for p, n in there if p.dirty and p.started == n]
        text = f"started I/O on {len(started)} of {len(dirty)} dirty pages; wanted were {before}"
        call.advise("P36", tried >= min(before, len(dirty)) or not left, text)
        if len(dirty) > _CLOSE * before:
            call.advise("P38", len(started) <= _CLOSE * before, text)


def _to_be_written(mapping: AddressSpace, wbc: WritebackControl) -> list[tuple[Page, int]]:
    """The dirty pages of a range, each with how often its writeback was begun so far.

    For cleansing, what is being written already does not count.
    """
    first, last = wbc.range_start >> PAGE_SHIFT, wbc.range_end >> PAGE_SHIFT
    sync = wbc.sync_mode != WB_SYNC_NONE
    return [
        (page, page.started)
        for page in mapping.pages.values()
        if page.dirty
        and page.raw_tags & DIRTY_TAG
        and first <= page.index <= last
        and (sync or not page.writeback)
    ]


def writes_all_for_sync(call: Call, mapping: AddressSpace, wbc: WritebackControl) -> Iterator[None]:
    """P39: for sync, what was dirty is written, whatever nr_to_write says."""
    if wbc.sync_mode == WB_SYNC_NONE:
        yield
        return
    dirty = _to_be_written(mapping, wbc)
    yield
    if call.error is None:
        there = [(p, n) for p, n in dirty if not is_freed(p) and p.mapping is mapping]
        left = [p for p, n in there if p.dirty and p.started == n]
        call.check("P39", not left, f"left {left[:1]} unwritten, which was dirty, in sync mode")


def does_not_wait_to_cleanse(call: Call, page: Page, wbc: WritebackControl) -> Iterator[None]:
    """P26, for cleansing: I/O in progress on the page or its buffers is not waited for."""
    if wbc.sync_mode != WB_SYNC_NONE:
        yield
        return
    attached = page.private if isinstance(page.private, list) else ()
    buffers = [bh for bh in attached if isinstance(bh, BufferHead)]
    waited: list[Any] = []

    def wait(what: Any) -> None:
        if what is page or any(what is bh for bh in buffers):
            waited.append(what)

    call.listeners["wait"] = wait
    busy = page.io_count > 0 or any(bh.lock.is_locked() for bh in buffers)
    yield
    if busy or waited:
        call.advise("P26", not waited, f"waited for I/O in progress on {waited[:1]}, to cleanse")
