"""Taking pages out of the page cache: truncation, eviction, invalidation.

Truncating a file to ``size`` bytes (`truncate_setsize`) goes in this order::

    i_size = size                       readers and readpage see the new end from here on pages
    wholly behind it              locked, waited for, buffers dropped, dirty bit cancelled, removed
    the page in which it ends           its rest zeroed, its buffers there dropped the filesystem
    frees the blocks     nobody can reach them through the cache any more

Each page is locked while it goes (P79): a page someone else has locked is waited for.  First a
quick pass takes what is free, then a second one waits for the rest.

Locks: the caller holds i_rwsem exclusive (eviction: nobody else has the inode); page lock >
private_lock, tree_lock.

Analogous to mm/truncate.c.  Not built: unmapping from processes (no VMAs), shadow entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.blame import KERNEL
from vfsim.checks.bugs import asked, warn
from vfsim.mm.buffers import try_to_release_page
from vfsim.mm.dirty import cancel_dirty_page
from vfsim.mm.mapping import LAST, delete_from_page_cache, find_get_pages, find_lock_page, put_pages
from vfsim.mm.operations.address_space_operations import dirty_buffers
from vfsim.mm.page import (
    PAGE_SIZE,
    Page,
    lock_page,
    put_page,
    trylock_page,
    unlock_page,
    wait_on_page_writeback,
    zero_user_segment,
)
from vfsim.sim.errors import EBUSY
from vfsim.sim.scheduler import cond_resched

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.mm.mapping import AddressSpace


def truncate_setsize(inode: Inode, size: int) -> None:
    """Sleeps.  Set a file's size, in bytes, and throw away what is cached behind it.

    For ``setattr``; the filesystem frees its blocks afterwards.  The caller holds i_rwsem
    exclusive.  Linux: ``truncate_setsize``.
    """
    inode.i_size = size
    truncate_pagecache(inode, size)


def truncate_pagecache(inode: Inode, size: int) -> None:
    """Sleeps.  Throw away what the page cache holds behind ``size`` bytes.

    Linux: ``truncate_pagecache``.
    """
    truncate_inode_pages(inode.i_mapping, size)


def truncate_inode_pages(mapping: AddressSpace, start: int) -> None:
    """Sleeps.  Throw away the pages behind ``start`` bytes, and zero the rest of the last one.

    Linux: ``truncate_inode_pages``.
    """
    truncate_inode_pages_range(mapping, start, -1)


def truncate_inode_pages_range(mapping: AddressSpace, start: int, end: int) -> None:
    """Sleeps.  As `truncate_inode_pages`, up to byte ``end`` inclusive; -1 for all.

    Both ends may lie inside a page, which is zeroed in part then.  Linux:
    ``truncate_inode_pages_range``.
    """
    if not mapping.nrpages:
        return
    first = -(-start // PAGE_SIZE)
    stop = LAST if end == -1 else (end + 1) // PAGE_SIZE
    _remove(mapping, first, stop, wait=False)
    head, tail = start % PAGE_SIZE, 0 if end == -1 else (end + 1) % PAGE_SIZE
    if head:
        top = tail if first > stop else PAGE_SIZE
        _zero_part(mapping, first - 1, head, top)
    if tail and first <= stop:
        _zero_part(mapping, stop, 0, tail)
    while _remove(mapping, first, stop, wait=True):
        pass


def _remove(mapping: AddressSpace, first: int, stop: int, wait: bool) -> int:
    """Sleeps.  Remove pages from index ``first`` to before ``stop``; returns how many were met."""
    met = 0
    while first < stop and (pages := find_get_pages(mapping, first, stop - 1)):
        met += len(pages)
        for page in pages:
            first = page.index + 1
            if wait:
                lock_page(page)
                wait_on_page_writeback(page)
            elif not trylock_page(page):
                continue
            if wait or not page.writeback:
                truncate_inode_page(mapping, page)
            unlock_page(page)
        put_pages(pages)
        cond_resched()
    return met


def truncate_inode_page(mapping: AddressSpace, page: Page) -> bool:
    """Sleeps.  Remove one locked page that is not under writeback; False if somebody else did.

    Linux: ``truncate_inode_page``.
    """
    if page.mapping is not mapping:
        return False
    _do_invalidatepage(page, 0, PAGE_SIZE)
    cancel_dirty_page(page)
    delete_from_page_cache(page)
    return True


def _do_invalidatepage(page: Page, offset: int, length: int) -> None:
    """Sleeps.  Let the filesystem drop the buffers of part of a page.

    Linux: ``do_invalidatepage``.
    """
    if page.private is not None:
        assert page.mapping is not None
        a_ops = page.mapping.a_ops
        a_ops.invalidatepage(page, offset, length)
        if not a_ops.implements("invalidatepage"):
            asked("P45")
            if dirty_buffers(page, offset, length):
                warn("P45", f"{page} kept dirty buffers in the part truncated", blamed=KERNEL)


def _zero_part(mapping: AddressSpace, index: int, start: int, end: int) -> None:
    """Sleeps.  Zero part of a page, if it is cached."""
    page = find_lock_page(mapping, index)
    if page is not None:
        wait_on_page_writeback(page)
        zero_user_segment(page, start, end)
        _do_invalidatepage(page, start, end - start)
        unlock_page(page)
        put_page(page)


def truncate_inode_pages_final(mapping: AddressSpace) -> None:
    """Sleeps.  Throw away all pages of an inode that is being freed.

    Linux: ``truncate_inode_pages_final``.
    """
    truncate_inode_pages(mapping, 0)
    if mapping.nrpages:
        warn("truncate.final", f"{mapping} gained pages while its inode was being freed")


# -- clean pages only ------------------------------------------------------------------------------


def invalidate_mapping_pages(mapping: AddressSpace, start: int = 0, end: int = LAST) -> int:
    """Sleeps.  Drop clean, unlocked, unused pages from a range; returns how many.

    Linux: ``invalidate_mapping_pages``.
    """
    dropped = 0
    while pages := find_get_pages(mapping, start, end):
        for page in pages:
            start = page.index + 1
            if trylock_page(page):
                dropped += _invalidate_page(mapping, page)
                unlock_page(page)
        put_pages(pages)
        cond_resched()
    return dropped


def _invalidate_page(mapping: AddressSpace, page: Page) -> bool:
    """Sleeps.  Remove a locked page if it is clean and nobody else uses it."""
    if page.mapping is not mapping or page.dirty or page.writeback:
        return False
    if page.private is not None and not try_to_release_page(page):
        return False
    if page.refcount > 2 or page.dirty:  # the tree's reference and ours
        return False
    delete_from_page_cache(page)
    return True


def invalidate_inode_pages2(mapping: AddressSpace) -> None:
    """Sleeps.  Drop all pages of a file; dirty ones are laundered by the filesystem first.

    Raises:
        EBUSY: a page could not be dropped.  What ``launder_page`` raises.
    Linux: ``invalidate_inode_pages2``.
    """
    failed: OSError | None = None
    start = 0
    while pages := find_get_pages(mapping, start):
        for page in pages:
            start = page.index + 1
            lock_page(page)
            try:
                _launder_and_remove(mapping, page)
            except OSError as error:
                failed = failed or error
            finally:
                unlock_page(page)
        put_pages(pages)
        cond_resched()
    if failed is not None:
        raise failed


def _launder_and_remove(mapping: AddressSpace, page: Page) -> None:
    """Sleeps.  Remove one locked page.  Linux: ``invalidate_complete_page2``."""
    if page.mapping is not mapping:
        return
    wait_on_page_writeback(page)
    if page.dirty:
        mapping.a_ops.launder_page(page)
    if page.private is not None and not try_to_release_page(page):
        raise EBUSY()
    if page.dirty:
        raise EBUSY()
    delete_from_page_cache(page)
