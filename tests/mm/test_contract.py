"""Address spaces that break the contract, and their good twins."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mm.worlds import StorePages, bugs, dirty_page, open_file, run, store_of, written
from vfsim.fs.inode import Inode
from vfsim.mm import (
    AOP_WRITEPAGE_ACTIVATE,
    PAGE_SIZE,
    WB_SYNC_NONE,
    Page,
    WritebackControl,
    end_page_writeback,
    filemap_write_and_wait,
    redirty_page_for_writepage,
    set_page_writeback,
    unlock_page,
)
from vfsim.mm.filemap import generic_file_read
from vfsim.mm.page import begin_page_io
from vfsim.mm.writepages import filemap_flush
from vfsim.sim.errors import EIO
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def write(inode: Inode) -> None:
    """Write a dirty page out."""
    dirty_page(inode, 0)
    filemap_write_and_wait(inode.i_mapping)


def flush(inode: Inode) -> None:
    """Write it in cleansing mode."""
    dirty_page(inode, 0)
    filemap_flush(inode.i_mapping)
    msleep(1)


class Synchronous(StorePages):
    """Good: no I/O at all, so it ends the writeback itself (P34)."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        assert page.mapping is not None
        store_of(page.mapping.host)[page.index] = bytes(page.data)
        set_page_writeback(page)
        unlock_page(page)
        end_page_writeback(page)
        return 0


class KeepsItLocked(StorePages):
    """Good: the page may stay locked until after the writeback (P35a)."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        end_page_writeback(page)
        unlock_page(page)
        return 0


class Redirties(StorePages):
    """Good in cleansing mode: the first time it has no time (P27)."""

    def __init__(self) -> None:
        self.tries = 0

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        self.tries += 1
        if self.tries == 1 and wbc.sync_mode == WB_SYNC_NONE:
            redirty_page_for_writepage(wbc, page)
            unlock_page(page)
            return 0
        return StorePages.writepage(self, page, wbc)


class Activates(StorePages):
    """Good: the first time it returns the activate code, page dirty and locked (P29)."""

    def __init__(self) -> None:
        self.tries = 0

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        self.tries += 1
        if self.tries == 1:
            redirty_page_for_writepage(wbc, page)
            return AOP_WRITEPAGE_ACTIVATE
        return StorePages.writepage(self, page, wbc)


class Fails(StorePages):
    """Good: an error, with the page unlocked and its writeback ended."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        unlock_page(page)
        end_page_writeback(page)
        raise EIO()


@pytest.mark.parametrize("pages", [StorePages, Synchronous, KeepsItLocked, Redirties, Activates])
@pytest.mark.parametrize("work", [write, flush])
def test_good_ones_are_silent(pages: type[StorePages], work: Any) -> None:
    """Every way of leaving writepage that the document allows."""
    run(work, pages=pages())


def test_an_error_is_an_answer() -> None:
    """A writepage that raises EIO breaks no rule; the writer is told."""

    def body(inode: Inode) -> None:
        with pytest.raises(OSError, match="Input/output"):
            write(inode)

    run(body, pages=Fails())


class ForgetsToEnd(StorePages):
    """P34: nobody ends the writeback."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        unlock_page(page)
        return 0


class ForgetsEverything(StorePages):
    """P35: clean, but tagged dirty."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        unlock_page(page)
        return 0


class UnlocksFirst(StorePages):
    """P31: unlocks before set_page_writeback."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        unlock_page(page)
        set_page_writeback(page)
        begin_page_io(page)
        K.machine.timer(1000, written, page)
        return 0


class NeverUnlocks(StorePages):
    """P28: the page comes back locked without the activate code."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        end_page_writeback(page)
        return 0


class RedirtiesInSync(StorePages):
    """P24: a sync must write the page."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        redirty_page_for_writepage(wbc, page)
        unlock_page(page)
        return 0


class NeverEndsIO(StorePages):
    """P33: there is I/O, and its end forgets the page."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        unlock_page(page)
        begin_page_io(page)
        return 0


@pytest.mark.parametrize(
    ("pages", "rule"),
    [
        (ForgetsToEnd, "P34"),
        (ForgetsEverything, "P35"),
        (UnlocksFirst, "P31"),
        (NeverUnlocks, "P28"),
        (RedirtiesInSync, "P24"),
    ],
)
def test_bad_writepages(pages: type[StorePages], rule: str) -> None:
    """Each is caught by its own rule, and blamed."""
    found = bugs(write, pages=pages())
    assert found[0] == (rule, f"filesystem {pages.__name__}.writepage")


def test_an_end_that_never_comes() -> None:
    """P33 at the end of the world, if nobody waits for the page before."""
    found = bugs(flush, pages=NeverEndsIO())
    assert "P33" in [rule for rule, _ in found] or found[0][0].startswith("wait.")


class NeverUnlocksRead(StorePages):
    """P19: readpage returns with the page locked and no I/O."""

    def readpage(self, file: Any, page: Page) -> None:
        page.data[:] = bytes(PAGE_SIZE)
        page.uptodate = True


def test_readpage_unlocks() -> None:
    """P19: one that does not is blamed."""

    def body(inode: Inode) -> None:
        inode.i_size = 10
        generic_file_read(open_file(inode), 10, 0)

    assert bugs(body, pages=NeverUnlocksRead())[0] == (
        "P19",
        "filesystem NeverUnlocksRead.readpage",
    )


class SleepsInSetPageDirty(StorePages):
    """P41: set_page_dirty may be called under a spinlock."""

    def set_page_dirty(self, page: Page) -> bool:
        msleep(1)
        return StorePages.set_page_dirty(self, page)


def test_set_page_dirty_does_not_sleep() -> None:
    """P41: it stops the world and blames the filesystem."""
    found = bugs(write, pages=SleepsInSetPageDirty())
    assert found[0] == ("P41", "filesystem SleepsInSetPageDirty.set_page_dirty")
