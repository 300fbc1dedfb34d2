"""PG_dirty, PG_writeback and the tags: the table in vfsim.mm.mapping, step by step."""

from __future__ import annotations

import pytest

from tests.mm.worlds import StorePages, bugs, dirty_page, new_page, run
from vfsim.fs.inode import Inode
from vfsim.mm.dirty import (
    clear_page_dirty_for_io,
    end_page_writeback,
    redirty_page_for_writepage,
    set_page_dirty,
    set_page_dirty_no_writeback,
    set_page_writeback,
)
from vfsim.mm.i_state import I_DIRTY_PAGES
from vfsim.mm.mapping import find_lock_page
from vfsim.mm.page import (
    DIRTY,
    TOWRITE,
    WRITEBACK,
    Page,
    put_page,
    unlock_page,
    wait_on_page_writeback,
)
from vfsim.mm.writepages import WritebackControl, filemap_write_and_wait, tag_pages_for_writeback
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def test_the_way_of_the_tags() -> None:
    """Dirty, cleaned for I/O, under writeback, written: bits and tags are those of the table."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        assert _state(page) == (False, False, 0)
        assert set_page_dirty(page)
        assert not set_page_dirty(page)
        assert _state(page) == (True, False, DIRTY)
        assert inode.i_state & I_DIRTY_PAGES
        tag_pages_for_writeback(inode.i_mapping, 0, 0)
        assert _state(page) == (True, False, DIRTY | TOWRITE)
        assert clear_page_dirty_for_io(page)
        assert not clear_page_dirty_for_io(page)
        assert _state(page) == (False, False, DIRTY | TOWRITE)
        assert not set_page_writeback(page)
        assert set_page_writeback(page)
        assert _state(page) == (False, True, WRITEBACK)
        unlock_page(page)
        end_page_writeback(page)
        assert _state(page) == (False, False, 0)
        put_page(page)

    run(body)


def test_redirtied_instead_of_written() -> None:
    """redirty_page_for_writepage sets the bit again and counts the page as skipped."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        set_page_dirty(page)
        clear_page_dirty_for_io(page)
        wbc = WritebackControl()
        redirty_page_for_writepage(wbc, page)
        assert _state(page) == (True, False, DIRTY)
        assert wbc.pages_skipped == 1
        unlock_page(page)
        put_page(page)

    run(body)


def test_dirtied_while_written() -> None:
    """A page changed under writeback keeps its dirty tag, so the change is written, too."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        set_page_dirty(page)
        clear_page_dirty_for_io(page)
        set_page_dirty(page)
        set_page_writeback(page)
        assert _state(page) == (True, True, DIRTY | WRITEBACK)
        end_page_writeback(page)
        assert _state(page) == (True, False, DIRTY)
        unlock_page(page)
        put_page(page)

    run(body)


def test_pages_without_a_place_stay_dirty() -> None:
    """set_page_dirty_no_writeback sets the bit and tells nobody."""

    class Memory(StorePages):
        def set_page_dirty(self, page: Page) -> bool:
            return set_page_dirty_no_writeback(page)

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        assert set_page_dirty(page)
        assert page.dirty
        assert not page.tags
        assert not inode.i_state & I_DIRTY_PAGES
        page.dirty = False
        unlock_page(page)
        put_page(page)

    run(body, pages=Memory())


@pytest.mark.parametrize("seed", range(60))
def test_waiters_see_the_end(seed: int) -> None:
    """Whoever waits for writeback is woken by its end, wherever that interrupts."""

    def writer(inode: Inode) -> None:
        dirty_page(inode, 0)
        filemap_write_and_wait(inode.i_mapping)

    def waiter(inode: Inode) -> None:
        page = find_lock_page(inode.i_mapping, 0)
        if page is not None:
            wait_on_page_writeback(page)
            assert not page.writeback
            unlock_page(page)
            put_page(page)

    run(writer, waiter, waiter, seed=seed)


# -- rules broken ----------------------------------------------------------------------------------


def test_what_was_not_begun_is_not_ended() -> None:
    """E17 stops the world, and blames the caller."""

    def body(inode: Inode) -> None:
        end_page_writeback(new_page(inode, 0))

    assert bugs(body)[0] == ("E17", "test")


def test_only_locked_pages_are_cleaned_for_io() -> None:
    """clear_page_dirty_for_io wants the page lock."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        unlock_page(page)
        clear_page_dirty_for_io(page)

    assert bugs(body)[0] == ("page.clean-unlocked", "test")


def test_a_hang_on_writeback_names_who_forgot() -> None:
    """Who waits for a writeback that it began and forgot itself is told so."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        set_page_dirty(page)
        clear_page_dirty_for_io(page)
        set_page_writeback(page)
        unlock_page(page)
        wait_on_page_writeback(page)

    rule, _ = bugs(body)[0]
    assert rule == "wait.deadlock"


def test_unknown_bytes_are_not_dirtied() -> None:
    """Dirtying a page that was never read nor filled is reported."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        page.uptodate = False
        set_page_dirty(page)
        page.uptodate = True
        unlock_page(page)
        put_page(page)
        msleep(1)

    assert bugs(body)[0][0] == "page.dirty-not-uptodate"


def _state(page: Page) -> tuple[bool, bool, int]:
    assert K.cur is not None
    return page.dirty, page.writeback, page.tags
