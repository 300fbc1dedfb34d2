"""The tree of pages: finding, adding, removing."""

from __future__ import annotations

import pytest

from tests.mm.worlds import bugs, dirty_page, new_page, run
from vfsim.fs.inode import Inode
from vfsim.mm.dirty import set_page_dirty
from vfsim.mm.mapping import (
    add_to_page_cache,
    delete_from_page_cache,
    find_get_page,
    find_get_pages,
    find_lock_page,
    grab_cache_page,
    put_pages,
)
from vfsim.mm.page import (
    DIRTY,
    Page,
    get_page,
    lock_page,
    page_cache_alloc,
    put_page,
    trylock_page,
    unlock_page,
    wait_on_page_locked,
)
from vfsim.mm.truncate import truncate_inode_page
from vfsim.sim.errors import EEXIST
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def test_a_page_is_found_where_it_was_put() -> None:
    """Adding gives the tree a reference, finding gives one to the finder."""

    def body(inode: Inode) -> None:
        mapping = inode.i_mapping
        assert find_get_page(mapping, 5) is None
        page = page_cache_alloc()
        add_to_page_cache(page, mapping, 5)
        assert page.lock.is_locked()
        unlock_page(page)
        assert find_get_page(mapping, 5) is page
        assert page.refcount == 3
        assert mapping.nrpages == 1
        put_page(page)
        put_page(page)

    run(body)


def test_one_page_per_index() -> None:
    """A second page at the same index is EEXIST and stays out, unlocked."""

    def body(inode: Inode) -> None:
        put_page(_unlocked(new_page(inode, 0)))
        second = page_cache_alloc()
        with pytest.raises(OSError) as caught:
            add_to_page_cache(second, inode.i_mapping, 0)
        assert caught.value.errno == EEXIST().errno
        assert second.mapping is None
        assert not second.lock.is_locked()
        put_page(second)

    run(body)


def test_ranges_and_tags() -> None:
    """find_get_pages goes in ascending order, within bounds, so many at a time, and by tag."""

    def body(inode: Inode) -> None:
        mapping = inode.i_mapping
        for index in (9, 1, 4, 7):
            put_page(_unlocked(new_page(inode, index)))
        dirty_page(inode, 4)
        dirty_page(inode, 9)
        for args, expected in (
            ((0,), [1, 4, 7, 9]),
            ((2, 8), [4, 7]),
            ((0, 9, 2), [1, 4]),
            ((0, 9, 14, DIRTY), [4, 9]),
        ):
            pages = find_get_pages(mapping, *args)
            assert [p.index for p in pages] == expected
            put_pages(pages)

    run(body)


@pytest.mark.parametrize("seed", range(60))
def test_everybody_gets_the_same_page(seed: int) -> None:
    """Tasks that want a missing page at once get one page, one after the other."""
    busy: list[int] = []

    def body(inode: Inode) -> Page:
        page = grab_cache_page(inode.i_mapping, 0)
        busy.append(1)
        assert len(busy) == 1
        page.uptodate = True
        msleep(1)
        busy.pop()
        unlock_page(page)
        put_page(page)
        return page

    first, *others = run(body, body, body, seed=seed)
    assert all(page is first for page in others)


@pytest.mark.parametrize("seed", range(60))
def test_a_locked_page_stays(seed: int) -> None:
    """A locked page stays in its mapping; who waited for the lock looks again (P79)."""

    def reader(inode: Inode) -> None:
        page = find_lock_page(inode.i_mapping, 0)
        if page is not None:
            assert page.mapping is inode.i_mapping
            msleep(1)
            assert page.mapping is inode.i_mapping
            unlock_page(page)
            put_page(page)

    def truncater(inode: Inode) -> None:
        page = find_get_page(inode.i_mapping, 0)
        if page is not None:
            lock_page(page)
            truncate_inode_page(inode.i_mapping, page)
            unlock_page(page)
            put_page(page)

    def creator(inode: Inode) -> None:
        put_page(_unlocked(new_page(inode, 0)))

    run(creator, reader, truncater, reader, seed=seed)


def test_waiting_without_locking() -> None:
    """wait_on_page_locked returns when the page is unlocked, and trylock tells whether it is."""

    def holder(inode: Inode) -> None:
        page = new_page(inode, 0)
        msleep(2)
        unlock_page(page)
        put_page(page)

    def waiter(inode: Inode) -> int:
        msleep(1)
        page = find_get_page(inode.i_mapping, 0)
        assert page is not None
        assert not trylock_page(page)
        wait_on_page_locked(page)
        put_page(page)
        return K.machine.now

    assert run(holder, waiter)[1] == 2_000_000


# -- rules broken ----------------------------------------------------------------------------------


def test_dirty_pages_are_not_removed() -> None:
    """E15: removing one is data lost, told to whoever does it."""

    def body(inode: Inode) -> None:
        page = new_page(inode, 0)
        set_page_dirty(page)
        delete_from_page_cache(page)
        unlock_page(page)
        put_page(page)

    assert bugs(body)[0] == ("E15", "test")


def test_unlocked_pages_are_not_removed() -> None:
    """E15: the page lock is what keeps others away."""

    def body(inode: Inode) -> None:
        delete_from_page_cache(_unlocked(new_page(inode, 0)))

    assert bugs(body)[0] == ("E15", "test")


def test_one_put_too_many() -> None:
    """A page that is still in a mapping does not lose its last reference."""

    def body(inode: Inode) -> None:
        page = _unlocked(new_page(inode, 0))
        put_page(page)
        put_page(page)

    assert bugs(body)[0] == ("ref.page", "test")


def test_unlocking_what_is_not_locked() -> None:
    """It stops the world."""

    def body(inode: Inode) -> None:
        unlock_page(_unlocked(new_page(inode, 0)))

    assert bugs(body)[0] == ("page.unlock", "test")


def test_a_freed_page_is_gone() -> None:
    """Using a page after the last reference is a use after free."""

    def body(inode: Inode) -> None:
        page = page_cache_alloc()
        put_page(page)
        get_page(page)

    assert bugs(body)[0][0] == "lifetime.use-after-free"


def _unlocked(page: Page) -> Page:
    unlock_page(page)
    return page
