"""Truncation, eviction and invalidation of pages."""

from __future__ import annotations

import pytest

from tests.mm.worlds import StorePages, World, dirty_page, new_page, run, store_of
from vfsim.fs.inode import Inode
from vfsim.mm import PAGE_SIZE, Page, lock_page, put_page, unlock_page
from vfsim.mm.mapping import find_get_page
from vfsim.mm.truncate import (
    invalidate_inode_pages2,
    invalidate_mapping_pages,
    truncate_inode_pages_range,
    truncate_setsize,
)
from vfsim.mm.writepages import filemap_flush, write_one_page
from vfsim.sim.scheduler import msleep


def _pages(inode: Inode) -> list[int]:
    return list(inode.i_mapping.pages)


def test_truncation_removes_what_is_behind() -> None:
    """Whole pages go, dirty or not; the page in which the file ends is zeroed behind its end."""

    def body(inode: Inode) -> None:
        for index in range(4):
            dirty_page(inode, index)
        inode.i_size = 4 * PAGE_SIZE
        truncate_setsize(inode, PAGE_SIZE + 10)
        assert inode.i_size == PAGE_SIZE + 10
        assert _pages(inode) == [0, 1]
        page = find_get_page(inode.i_mapping, 1)
        assert page is not None
        assert bytes(page.data) == b"\2" * 10 + bytes(PAGE_SIZE - 10)
        put_page(page)
        truncate_setsize(inode, 0)
        assert _pages(inode) == []

    run(body)


def test_a_hole_in_the_middle() -> None:
    """A range inside one page, over several, and with page-aligned ends."""

    def body(inode: Inode) -> None:
        for index in range(4):
            dirty_page(inode, index)
        mapping = inode.i_mapping
        truncate_inode_pages_range(mapping, 10, 19)
        page = mapping.pages[0]
        assert bytes(page.data[9:21]) == b"\1" + bytes(10) + b"\1"
        truncate_inode_pages_range(mapping, PAGE_SIZE, 2 * PAGE_SIZE - 1)
        assert _pages(inode) == [0, 2, 3]
        truncate_inode_pages_range(mapping, PAGE_SIZE - 1, 3 * PAGE_SIZE)
        assert _pages(inode) == [0, 3]
        assert page.data[PAGE_SIZE - 2 :] == b"\1\0"
        assert mapping.pages[3].data[:2] == b"\0\4"

    run(body)


@pytest.mark.parametrize("seed", range(80))
def test_truncation_waits_for_pages_in_use(seed: int) -> None:
    """Locked pages and pages under writeback are waited for, and are gone in the end."""

    def holder(inode: Inode) -> None:
        page = new_page(inode, 0)
        msleep(1)
        assert page.mapping is inode.i_mapping
        unlock_page(page)
        put_page(page)

    def writer(inode: Inode) -> None:
        dirty_page(inode, 1)
        filemap_flush(inode.i_mapping)

    def truncater(inode: Inode) -> None:
        with inode.i_rwsem:
            truncate_setsize(inode, 0)

    with World(seed=seed) as world:
        world.run(holder, writer, truncater)
        world.run(truncater)
        assert _pages(world.inode) == []
        world.close()
        assert world.violations == []


def test_invalidation_drops_what_is_idle() -> None:
    """Clean, unlocked, unused pages go; dirty, locked and used ones stay."""

    def body(inode: Inode) -> None:
        for index in range(4):
            page = new_page(inode, index)
            if index != 1:
                unlock_page(page)
            if index != 2:
                put_page(page)
            if index == 0:  # before page 1 is locked: by ascending index
                dirty_page(inode, 0)
        assert invalidate_mapping_pages(inode.i_mapping) == 1
        assert _pages(inode) == [0, 1, 2]
        for index in (1, 2):
            page = inode.i_mapping.pages[index]
            if index == 1:
                unlock_page(page)
            else:
                put_page(page)
        assert invalidate_mapping_pages(inode.i_mapping, 2) == 1

    run(body)


def test_invalidating_everything_launders() -> None:
    """invalidate_inode_pages2 writes dirty pages through launder_page, or says EBUSY."""

    class Launders(StorePages):
        def launder_page(self, page: Page) -> None:
            assert page.mapping is not None
            store_of(page.mapping.host)[page.index] = bytes(page.data)
            page.dirty = False

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        invalidate_inode_pages2(inode.i_mapping)
        assert _pages(inode) == []
        assert store_of(inode)[0] == b"\1" * PAGE_SIZE

    run(body, pages=Launders())

    def busy(inode: Inode) -> None:
        dirty_page(inode, 0)
        with pytest.raises(OSError, match="busy"):
            invalidate_inode_pages2(inode.i_mapping)

    run(busy)


def test_one_page_at_a_time() -> None:
    """write_one_page writes a locked page and waits; a clean one is only unlocked."""

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        page = inode.i_mapping.pages[0]
        lock_page(page)
        write_one_page(page, True)
        assert store_of(inode)[0] == b"\1" * PAGE_SIZE
        lock_page(page)
        write_one_page(page, False)
        assert not page.lock.is_locked()

    run(body)
