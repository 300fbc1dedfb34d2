"""The dirty and writeback state of a page: who moves the bits and the tags, and when.

A page's way from "changed" to "on the disk"::

    set_page_dirty(page)                     changed; the inode is dirty too and on its flusher's
    list lock_page(page) clear_page_dirty_for_io(page)            from here on only the tag
    remembers it a_ops.writepage(page, wbc)
        set_page_writeback(page)             in the filesystem: now the writeback tag remembers it
        unlock_page(page); submit the I/O
        end_page_writeback(page)             from the I/O's interrupt
    or  redirty_page_for_writepage(wbc, page); unlock_page(page)

The tags move under the mapping's ``tree_lock``, taken with interrupts off because
`end_page_writeback` comes from one.  Order: tree_lock > s_inode_wblist_lock. The file's table of
tags is in `vfsim.mm.mapping`.

Analogous to mm/page-writeback.c.  Not built: dirty limits and throttling, PG_reclaim, memory
cgroups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.bugs import asked, bug, warn
from vfsim.checks.calls import tell
from vfsim.checks.obligations import settle
from vfsim.mm.bdi import clear_inode_writeback, mark_inode_dirty, mark_inode_writeback
from vfsim.mm.i_state import I_DIRTY_PAGES
from vfsim.mm.page import DIRTY, TOWRITE, WRITEBACK, Page
from vfsim.sim.shared import smp_store_release
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.block.buffer import BufferHead
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.writepages import WritebackControl


def set_page_dirty(page: Page) -> bool:
    """Never sleeps.  The page was changed and must be written; returns whether it was clean.

    The page must not be truncated meanwhile: the caller holds its lock or otherwise knows.  Calls
    the filesystem's ``set_page_dirty``.  Linux: ``set_page_dirty``.
    """
    mapping = page.mapping
    if mapping is not None:
        return bool(mapping.a_ops.set_page_dirty(page))
    was, page.dirty = page.dirty, True
    return not was


def set_page_dirty_nobuffers(page: Page) -> bool:
    """Never sleeps.  Dirty a page without buffers; returns whether it was clean.

    For filesystems' ``set_page_dirty``.  Takes tree_lock, list_lock, i_lock.  Linux:
    ``__set_page_dirty_nobuffers``.
    """
    if page.dirty:
        return False
    page.dirty = True
    mapping = page.mapping
    if mapping is None:
        return False
    if not page.uptodate and page.private is None:
        warn("page.dirty-not-uptodate", f"{page} dirtied although nobody knows what is in it")
    tag_page_dirty(page, mapping)
    return True


def set_page_dirty_buffers(page: Page) -> bool:
    """Never sleeps.  Dirty a page and all its buffers; returns whether it was clean.

    What a filesystem without ``set_page_dirty`` gets.  Takes private_lock, then as
    `set_page_dirty_nobuffers`.  Linux: ``__set_page_dirty_buffers``.
    """
    mapping = page.mapping
    if mapping is None:
        was, page.dirty = page.dirty, True
        return not was
    mapping.private_lock.lock()
    for bh in page.private or ():
        bh.dirty = True
    was, page.dirty = page.dirty, True
    mapping.private_lock.unlock()
    if not was:
        tag_page_dirty(page, mapping)
    return not was


def set_page_dirty_no_writeback(page: Page) -> bool:
    """Never sleeps.  Dirty a page that has no place to be written to: for filesystems in memory.

    Sets the bit only: no tag, no dirty inode.  Linux: ``__set_page_dirty_no_writeback``.
    """
    was, page.dirty = page.dirty, True
    return not was


def buffer_dirtied(bh: BufferHead) -> None:
    """Never sleeps.  A buffer of a page turned dirty, so the page is dirty.

    The second half of ``mark_buffer_dirty``.
    """
    page = bh.b_page
    assert page is not None
    if not page.dirty:
        page.dirty = True
        if page.mapping is not None:
            tag_page_dirty(page, page.mapping)


def tag_page_dirty(page: Page, mapping: AddressSpace) -> None:
    """Never sleeps.  PG_dirty was set just now: set the tag and dirty the inode.

    Linux: ``__set_page_dirty``.
    """
    flags = mapping.tree_lock.lock_irqsave()
    attached = page.mapping is mapping  # else it was truncated meanwhile: nothing to remember
    if attached:
        mapping.tag_locked(page, DIRTY)
    mapping.tree_lock.unlock_irqrestore(flags)
    if attached:
        mark_inode_dirty(mapping.host, I_DIRTY_PAGES)


def clear_page_dirty_for_io(page: Page) -> bool:
    """Never sleeps.  Take a locked page's dirty bit to write it; returns whether it was dirty.

    The tag stays, so that nobody who looks for dirty pages misses this one before
    `set_page_writeback`.  Linux: ``clear_page_dirty_for_io``.
    """
    if not page.lock.is_locked():
        bug("page.clean-unlocked", f"clear_page_dirty_for_io() on {page}, which is not locked")
    was, page.dirty = page.dirty, False
    return was


def cancel_dirty_page(page: Page) -> None:
    """Never sleeps.  The page's data need not be written after all: it is being truncated.

    The tag goes when the page leaves the tree.  Linux: ``cancel_dirty_page``.
    """
    page.dirty = False


def redirty_page_for_writepage(wbc: WritebackControl, page: Page) -> bool:
    """Never sleeps.  In ``writepage``: not now.  The page is dirty again and counts as skipped.

    Call it before unlocking the page.  Linux: ``redirty_page_for_writepage``.
    """
    wbc.pages_skipped += 1
    return set_page_dirty_nobuffers(page)


def set_page_writeback(page: Page) -> bool:
    """Never sleeps.  In ``writepage``: the page goes under writeback; returns whether it was.

    Somebody must call `end_page_writeback`: the end of the I/O, or ``writepage`` itself if there is
    none (P33, P34). Takes tree_lock, s_inode_wblist_lock.  Linux: ``set_page_writeback``.
    """
    mapping = page.mapping
    if mapping is None:
        bug("page.writeback-detached", f"set_page_writeback() on {page}, which is in no mapping")
    tell("writeback", page)
    flags = mapping.tree_lock.lock_irqsave()
    was, page.writeback = page.writeback, True
    if not was:
        page.started += 1
        page.writer = K.cur
        first = not mapping.tagged(WRITEBACK)
        mapping.tag_locked(page, WRITEBACK)
        if first:
            mark_inode_writeback(mapping)
    if not page.dirty:
        mapping.untag_locked(page, DIRTY)
    mapping.untag_locked(page, TOWRITE)
    mapping.tree_lock.unlock_irqrestore(flags)
    return was


def end_page_writeback(page: Page) -> None:
    """Never sleeps.  The page is written, or failed to be: wake who waits.  Also from interrupts.

    Takes tree_lock, s_inode_wblist_lock.  Ending what was not begun stops the world (E17).  Linux:
    ``end_page_writeback``.
    """
    asked("E17")
    mapping = page.mapping
    if not page.writeback or mapping is None:
        bug("E17", f"end_page_writeback() on {page}, which is not under writeback")
    settle(("writeback", page))
    waiters = page.written  # once the bit is clear the page may be freed
    flags = mapping.tree_lock.lock_irqsave()
    smp_store_release(page, "writeback", False)  # who finds it clear may free the buffers
    page.writer = None
    mapping.untag_locked(page, WRITEBACK)
    if not mapping.tagged(WRITEBACK):
        clear_inode_writeback(mapping)
    mapping.tree_lock.unlock_irqrestore(flags)
    waiters.wake_up_all()
