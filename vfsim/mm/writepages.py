"""Writing the dirty pages of one file: which ones, in which order, and how to wait for them.

The typical sequence, for fsync::

    filemap_write_and_wait_range(mapping, 0, LLONG_MAX)
        do_writepages(mapping, wbc)             the filesystem's writepages, or
            write_cache_pages                   per page: lock, check again, clear PG_dirty,
                a_ops.writepage(page, wbc)          ... set_page_writeback, unlock, submit
        filemap_fdatawait_range                 until no page is under writeback; raise what went
        wrong

Two modes (`WritebackControl`).  WB_SYNC_NONE, *cleansing*: start as much as possible, skip what is
busy, stop after ``nr_to_write`` pages.  WB_SYNC_ALL, *sync*: every page that is dirty now is
written, waiting where needed; the pages are tagged TOWRITE first, so that the walk ends although
others go on dirtying.

Locks: one page lock at a time, in ascending order of index; ``tree_lock`` for the lookups.

Analogous to mm/page-writeback.c and the writing half of mm/filemap.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs

from vfsim.checks.bugs import bug
from vfsim.mm.dirty import clear_page_dirty_for_io
from vfsim.mm.mapping import (
    LAST,
    filemap_check_errors,
    find_get_pages,
    mapping_set_error,
    put_pages,
)
from vfsim.mm.operations import (
    AOP_WRITEPAGE_ACTIVATE,
    WB_SYNC_ALL,
    WB_SYNC_NONE,
    AddressSpaceOperations,
)
from vfsim.mm.page import (
    DIRTY,
    PAGE_SHIFT,
    TOWRITE,
    WRITEBACK,
    Page,
    lock_page,
    unlock_page,
    wait_on_page_writeback,
)
from vfsim.sim.errors import EIO
from vfsim.sim.scheduler import cond_resched

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.mm.mapping import AddressSpace

LLONG_MAX = (1 << 63) - 1
LONG_MAX = LLONG_MAX

_NO_WRITEPAGE = AddressSpaceOperations.writepage
_NO_WRITEPAGES = AddressSpaceOperations.writepages


@attrs.define(eq=False)
class WritebackControl:
    """What a writer wants (Linux: ``struct writeback_control``).

    Attributes:
        sync_mode: `WB_SYNC_NONE` or `WB_SYNC_ALL`.
        nr_to_write: pages still to be written; counts down.
        pages_skipped: pages a filesystem redirtied instead.
        range_start, range_end: bytes, inclusive.
        range_cyclic: go on where the last one stopped, instead.
        for_kupdate, for_background, for_reclaim, for_sync: who asks.
        tagged_writepages: tag TOWRITE first, as sync does.
    """

    sync_mode: int = WB_SYNC_NONE
    nr_to_write: int = LONG_MAX
    pages_skipped: int = 0
    range_start: int = 0
    range_end: int = LLONG_MAX
    range_cyclic: bool = False
    for_kupdate: bool = False
    for_background: bool = False
    for_reclaim: bool = False
    for_sync: bool = False
    tagged_writepages: bool = False


def do_writepages(mapping: AddressSpace, wbc: WritebackControl) -> None:
    """Sleeps.  Write dirty pages of a file: by its ``writepages``, or `generic_writepages`.

    Raises:
        OSError: what the filesystem raised first.
    Linux: ``do_writepages``.
    """
    if wbc.nr_to_write <= 0:
        return
    if type(mapping.a_ops).writepages is _NO_WRITEPAGES:
        generic_writepages(mapping, wbc)
    else:
        mapping.a_ops.writepages(mapping, wbc)


def generic_writepages(mapping: AddressSpace, wbc: WritebackControl) -> None:
    """Sleeps.  Hand every page that is to be written to ``writepage``, if the filesystem has one.

    Raises:
        OSError: what the filesystem raised first.
    Linux: ``generic_writepages``.
    """
    if type(mapping.a_ops).writepage is not _NO_WRITEPAGE:
        write_cache_pages(mapping, wbc, _call_writepage)


def _call_writepage(page: Page, wbc: WritebackControl) -> int:
    """Sleeps.  ``writepage``, with its error noted for fsync.  Linux: ``__writepage``."""
    mapping = page.mapping
    assert mapping is not None
    try:
        return mapping.a_ops.writepage(page, wbc)
    except OSError as error:
        mapping_set_error(mapping, error)
        raise


def write_cache_pages(
    mapping: AddressSpace, wbc: WritebackControl, writepage: Callable[[Page, WritebackControl], int]
) -> None:
    """Sleeps.  Call ``writepage`` on the pages to be written, each locked and freshly cleaned.

    Args:
        writepage: returns 0, having unlocked the page, or AOP_WRITEPAGE_ACTIVATE, having left it
            locked and dirty.
    Raises:
        OSError: what ``writepage`` raised; the walk ends there.
    Linux: ``write_cache_pages``.
    """
    walk = _Walk(mapping, wbc, writepage)
    if wbc.range_cyclic:
        start = mapping.writeback_index
        walk.run(start, LAST)
        if start and not walk.done:
            walk.run(0, start - 1)
    else:
        walk.run(wbc.range_start >> PAGE_SHIFT, wbc.range_end >> PAGE_SHIFT)
    whole = wbc.range_start == 0 and wbc.range_end == LLONG_MAX
    if wbc.range_cyclic or (whole and wbc.nr_to_write > 0):
        mapping.writeback_index = walk.next_index
    if walk.error is not None:
        raise walk.error


@attrs.define(eq=False)
class _Walk:
    """One `write_cache_pages`: where it is, and whether it has had enough."""

    mapping: AddressSpace
    wbc: WritebackControl
    writepage: Callable[[Page, WritebackControl], int]
    next_index: int = 0
    done: bool = False
    error: OSError | None = None

    def run(self, index: int, end: int) -> None:
        """Sleeps.  Write the pages from ``index`` to ``end``, inclusive."""
        sync = self.wbc.sync_mode == WB_SYNC_ALL or self.wbc.tagged_writepages
        if sync:
            tag_pages_for_writeback(self.mapping, index, end)
        self.next_index = index
        while not self.done and index <= end:
            pages = find_get_pages(self.mapping, index, end, tag=TOWRITE if sync else DIRTY)
            if not pages:
                break
            for page in pages:
                if self.done:
                    break
                self.next_index = page.index
                index = page.index + 1
                self.visit(page)
            put_pages(pages)
            cond_resched()

    def visit(self, page: Page) -> None:
        """Sleeps.  Write one page, unless it changed its mind while we waited for its lock."""
        lock_page(page)
        if not self._is_ours(page):
            unlock_page(page)
            return
        index = page.index
        try:
            result = self.writepage(page, self.wbc)
        except OSError as error:
            self.error = error
            self.next_index = index + 1
            self.done = True
            return
        if result == AOP_WRITEPAGE_ACTIVATE:
            unlock_page(page)
        elif result:
            bug(
                "writepage.result",
                f"writepage returned {result}: 0 or AOP_WRITEPAGE_ACTIVATE, errors are raised",
            )
        self.wbc.nr_to_write -= 1
        if self.wbc.nr_to_write <= 0 and self.wbc.sync_mode == WB_SYNC_NONE:
            self.done = True

    def _is_ours(self, page: Page) -> bool:
        """Sleeps.  Whether the locked page is still to be written; its dirty bit is ours then."""
        if page.mapping is not self.mapping or not page.dirty:
            return False  # truncated, or written by somebody else
        if page.writeback:
            if self.wbc.sync_mode == WB_SYNC_NONE:
                return False
            wait_on_page_writeback(page)
        return clear_page_dirty_for_io(page)


def tag_pages_for_writeback(mapping: AddressSpace, start: int, end: int) -> None:
    """Never sleeps.  Mark the pages that are dirty now as those this sync has to write.

    Takes tree_lock.  Linux: ``tag_pages_for_writeback``.
    """
    flags = mapping.tree_lock.lock_irqsave()
    for index in mapping.pages.irange(start, end):
        page = mapping.pages[index]
        if page.tags & DIRTY:
            mapping.tag_locked(page, TOWRITE)
    mapping.tree_lock.unlock_irqrestore(flags)


# -- one file, for fsync and friends ---------------------------------------------------------------


def filemap_fdatawrite_range(
    mapping: AddressSpace, start: int = 0, end: int = LLONG_MAX, sync_mode: int = WB_SYNC_ALL
) -> None:
    """Sleeps.  Start writing the dirty pages of a range of bytes (``end`` inclusive).

    Raises:
        OSError: what the filesystem raised.
    Linux: ``__filemap_fdatawrite_range``.
    """
    wbc = WritebackControl(sync_mode=sync_mode, range_start=start, range_end=end)
    do_writepages(mapping, wbc)


def filemap_fdatawrite(mapping: AddressSpace) -> None:
    """Sleeps.  Start writing all dirty pages.

    Raises as `filemap_fdatawrite_range`.  Linux: ``filemap_fdatawrite``.
    """
    filemap_fdatawrite_range(mapping)


def filemap_flush(mapping: AddressSpace) -> None:
    """Sleeps.  Start writing, skipping what is busy; not for data integrity.

    Linux: ``filemap_flush``.
    """
    filemap_fdatawrite_range(mapping, sync_mode=WB_SYNC_NONE)


def filemap_fdatawait_keep_errors(
    mapping: AddressSpace, start: int = 0, end: int = LLONG_MAX
) -> bool:
    """Sleeps.  Wait for writeback of a range, leaving errors to the next fsync.

    Returns whether a page had one.

    Linux: ``__filemap_fdatawait_range``.
    """
    index, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    failed = False
    while index <= last:
        pages = find_get_pages(mapping, index, last, tag=WRITEBACK)
        if not pages:
            break
        for page in pages:
            index = page.index + 1
            wait_on_page_writeback(page)
            if page.error:
                page.error = False
                failed = True
        put_pages(pages)
        cond_resched()
    return failed


def filemap_fdatawait_range(mapping: AddressSpace, start: int = 0, end: int = LLONG_MAX) -> None:
    """Sleeps.  Wait for writeback of a range of bytes (``end`` inclusive).

    Raises:
        EIO, ENOSPC: a write failed since somebody was last told.
    Linux: ``filemap_fdatawait_range``.
    """
    failed = filemap_fdatawait_keep_errors(mapping, start, end)
    filemap_check_errors(mapping)
    if failed:
        raise EIO()


def filemap_fdatawait(mapping: AddressSpace) -> None:
    """Sleeps.  Wait for all writeback of a file.

    Raises as `filemap_fdatawait_range`.  Linux: ``filemap_fdatawait``.
    """
    filemap_fdatawait_range(mapping)


def filemap_write_and_wait_range(
    mapping: AddressSpace, start: int = 0, end: int = LLONG_MAX
) -> None:
    """Sleeps.  Write the dirty pages of a range of bytes (``end`` inclusive), and wait for them.

    Raises:
        OSError: what the filesystem raised, or EIO, ENOSPC for a write that failed.
    Linux: ``filemap_write_and_wait_range``.
    """
    if not mapping.nrpages:
        filemap_check_errors(mapping)
        return
    failed: OSError | None = None
    try:
        filemap_fdatawrite_range(mapping, start, end)
    except OSError as error:
        failed = error
        if error.errno == errno.EIO:
            raise  # the worst has happened: do not wait for the rest
    try:
        filemap_fdatawait_range(mapping, start, end)
    except OSError as error:
        failed = failed or error
    if failed is not None:
        raise failed


def filemap_write_and_wait(mapping: AddressSpace) -> None:
    """Sleeps.  Write and wait for a whole file.  Linux: ``filemap_write_and_wait``."""
    filemap_write_and_wait_range(mapping)


def write_one_page(page: Page, wait: bool) -> None:
    """Sleeps.  Write one locked page now; it comes back unlocked.

    Args:
        wait: until it is on the device.
    Raises:
        OSError: what the filesystem raised, or EIO.
    Linux: ``write_one_page``.
    """
    mapping = page.mapping
    assert mapping is not None
    wbc = WritebackControl(sync_mode=WB_SYNC_ALL, nr_to_write=1)
    if wait:
        wait_on_page_writeback(page)
    if not clear_page_dirty_for_io(page):
        unlock_page(page)
        return
    result = mapping.a_ops.writepage(page, wbc)
    if result:
        unlock_page(page)
    elif wait:
        wait_on_page_writeback(page)
        if page.error:
            raise EIO()
