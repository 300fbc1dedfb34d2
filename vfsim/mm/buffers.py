"""Buffers of pages: how a block filesystem's page cache gets to its device and back.

A filesystem on blocks says where block ``iblock`` of a file lies (`GetBlock`), and these helpers do
the rest::

    class ToyPages(AddressSpaceOperations):
        def readpage(self, file, page):            block_read_full_page(page, get_block) def
        writepage(self, page, wbc):            return block_write_full_page(page, get_block, wbc)
        def write_begin(self, file, mapping, pos, len, flags):
                                                   return block_write_begin(mapping, pos, len,
                                                   flags, get_block), None
        def write_end(self, file, mapping, pos, len, copied, page, fsdata):
                                                   return generic_write_end(file, mapping, pos, len,
                                                   copied, page, fsdata)

A page is cut into buffers, one per block, which are views of its memory.  Each is valid or not,
dirty or not, mapped to a block or not, by itself; the page is uptodate when all its buffers are,
and dirty when one is.  I/O happens per buffer; the last buffer's ``b_end_io``, in an interrupt,
ends the page's I/O: unlocks it after a read (P19), ends its writeback after a write (P33).

Locks.  The page lock guards the buffers' mapping to blocks and, with the mapping's
``private_lock``, the list itself. Each buffer's own lock is held while I/O runs on it.
``uptodate_lock``, a spinning bit of the page's first buffer, taken with interrupts off, lets
exactly one of the ending buffers see that it is the last.

Analogous to the page half of fs/buffer.c.  Differences: ``get_block`` returns the block instead of
filling in a buffer head (asked without ``create`` first, so that the helpers know which blocks are
new); writepage on a page wholly behind the end of the file runs set_page_writeback and
end_page_writeback, as the locking document demands, where v4.10 leaves the dirty tag behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vfsim.block.bio import READ, WRITE
from vfsim.block.buffer import (
    UNMAPPED,
    BufferHead,
    clean_bdev_alias,
    get_bh,
    ll_rw_block,
    lock_buffer,
    mark_buffer_dirty,
    put_bh,
    submit_bh,
    test_clear_buffer_dirty,
    trylock_buffer,
    unlock_buffer,
    wait_on_buffer,
)
from vfsim.checks.blame import KERNEL
from vfsim.checks.bugs import asked, bug, warn
from vfsim.checks.lifetime import free
from vfsim.locks.bitlock import BitLock
from vfsim.mm.bdi import mark_inode_dirty
from vfsim.mm.dirty import (
    buffer_dirtied,
    cancel_dirty_page,
    end_page_writeback,
    redirty_page_for_writepage,
    set_page_writeback,
)
from vfsim.mm.mapping import grab_cache_page, mapping_set_error
from vfsim.mm.operations import WB_SYNC_NONE
from vfsim.mm.page import PAGE_SIZE, Page, put_page, unlock_page, zero_user_segment
from vfsim.sim.cpu import local_irq_restore, local_irq_save
from vfsim.sim.errors import EIO
from vfsim.sim.shared import smp_load_acquire

if TYPE_CHECKING:
    from typing import Any

    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.writepages import WritebackControl

GetBlock = Callable[["Inode", int, bool], "int | None"]
"""``get_block(inode, iblock, create)``: the device's block that holds the file's block ``iblock``,
or None for a hole.

With ``create`` it allocates one and never returns None: it raises ENOSPC or the like instead.
Called with the page lock held; without ``create`` possibly without i_rwsem."""


def _host(page: Page) -> Inode:
    assert page.mapping is not None
    return page.mapping.host


# -- attaching and dropping ------------------------------------------------------------------------


def create_page_buffers(page: Page) -> list[BufferHead]:
    """Never sleeps.  The buffers of a locked page, made if it has none.  Takes private_lock.

    Linux: ``create_page_buffers``.
    """
    if page.private is not None:
        return page.private
    mapping = page.mapping
    assert mapping is not None
    size = mapping.host.i_sb.s_blocksize
    memory = memoryview(page.data)
    fresh = [
        BufferHead(
            None,
            UNMAPPED,
            size,
            memory[at : at + size],
            buffer_dirtied,
            page,
            uptodate=page.uptodate,
        )
        for at in range(0, PAGE_SIZE, size)
    ]
    fresh[0].uptodate_lock = BitLock("BH_Uptodate_Lock")
    mapping.private_lock.lock()
    if page.dirty:
        for bh in fresh:
            bh.dirty = True
    page.private = fresh
    mapping.private_lock.unlock()
    return fresh


def try_to_free_buffers(page: Page) -> bool:
    """Never sleeps.  Drop a locked page's buffers if none is in use; returns whether.

    Takes private_lock.  Linux: ``try_to_free_buffers``.
    """
    if not page.lock.is_locked():
        bug("page.buffers-unlocked", f"try_to_free_buffers() on {page}, which is not locked")
    if smp_load_acquire(page, "writeback"):
        return False
    buffers = page.private
    if buffers is None:
        return True
    mapping = page.mapping
    if mapping is not None:
        mapping.private_lock.lock()
    busy = any(bh.b_count or bh.dirty or bh.lock.is_locked() for bh in buffers)
    if not busy:
        page.private = None
        cancel_dirty_page(page)  # all buffers were written by hand: so is the page
    if mapping is not None:
        mapping.private_lock.unlock()
    if busy:
        return False
    for bh in buffers:
        free(bh, "buffer_head")
    return True


def try_to_release_page(page: Page, gfp: int = 0) -> bool:
    """Sleeps.  Ask the filesystem to drop a locked page's buffers; returns whether.

    Linux: ``try_to_release_page``.
    """
    if page.writeback:
        return False
    if page.mapping is None:
        return try_to_free_buffers(page)
    a_ops = page.mapping.a_ops
    released = bool(a_ops.releasepage(page, gfp))
    if not a_ops.implements("releasepage"):
        asked("P47")
        if released and page.private is not None:
            warn("P47", f"{page} counts as released, and has its buffers still", blamed=KERNEL)
    return released


def block_invalidatepage(page: Page, offset: int, length: int) -> None:
    """Sleeps.  Part of a locked page is being truncated: forget the buffers wholly inside it.

    What a filesystem without ``invalidatepage`` gets (P45).  Linux: ``block_invalidatepage``.
    """
    if not page.lock.is_locked():
        bug("page.buffers-unlocked", f"block_invalidatepage() on {page}, which is not locked")
    stop = offset + length
    for i, bh in enumerate(page.private or ()):
        if offset <= i * bh.b_size and (i + 1) * bh.b_size <= stop:
            _discard_buffer(bh)
    if not offset and length == PAGE_SIZE and page.private is not None:
        try_to_release_page(page)


def _discard_buffer(bh: BufferHead) -> None:
    """Sleeps.  The block it was mapped to may belong to somebody else from now on."""
    lock_buffer(bh)
    bh.dirty = False
    bh.mapped = bh.new = False
    bh.b_bdev = None
    bh.b_blocknr = UNMAPPED
    unlock_buffer(bh)


def _map(bh: BufferHead, inode: Inode, iblock: int, get_block: GetBlock, create: bool) -> None:
    """Sleeps.  Find (or allocate) the block of a buffer.  It stays unmapped for a hole.

    Raises:
        OSError: what ``get_block`` raises.
    """
    block = get_block(inode, iblock, False)
    if block is None and create:
        block = get_block(inode, iblock, True)
        if block is None:
            raise TypeError(
                f"get_block({inode!r}, {iblock}, True) returned None: with create=True it finds a "
                "block or raises"
            )
        bh.new = True
    if block is not None:
        bh.b_bdev = inode.i_sb.s_bdev
        bh.b_blocknr = block
        bh.mapped = True
        if bh.new and bh.b_bdev is not None:
            clean_bdev_alias(bh.b_bdev, block)


# -- reading ---------------------------------------------------------------------------------------


def block_read_full_page(page: Page, get_block: GetBlock) -> None:
    """Sleeps.  Read what is not valid of a locked page, which is unlocked, now or then.

    Holes and blocks behind the end of the file become zeroes.  A ``get_block`` that raises leaves
    PG_error. For ``readpage``.  Linux: ``block_read_full_page``.
    """
    inode = _host(page)
    buffers = create_page_buffers(page)
    size = buffers[0].b_size
    first = page.index * len(buffers)
    last = (inode.i_size + size - 1) // size
    wanted = []
    for i, bh in enumerate(buffers):
        if bh.uptodate:
            continue
        failed = False
        if not bh.mapped and first + i < last:
            try:
                _map(bh, inode, first + i, get_block, False)
            except OSError:
                failed = page.error = True
        if bh.mapped:
            wanted.append(bh)
        else:
            zero_user_segment(page, i * size, (i + 1) * size)
            bh.uptodate = not failed
    if not wanted:
        page.uptodate = not page.error
        unlock_page(page)
        return
    for bh in wanted:
        lock_buffer(bh)
        bh.b_end_io = end_buffer_async_read
        bh.async_read = True
    page.lock.disown()
    for bh in wanted:
        if bh.uptodate:
            end_buffer_async_read(bh, True)
        else:
            submit_bh(READ, bh)


def end_buffer_async_read(bh: BufferHead, uptodate: bool) -> None:
    """Never sleeps.  ``b_end_io`` of a page's read: the last one unlocks the page.

    Linux: ``end_buffer_async_read``.
    """
    page = bh.b_page
    assert page is not None and page.private is not None
    bh.uptodate = uptodate
    if not uptodate:
        page.error = True
    if _was_last(page.private, bh, "async_read"):
        if not page.error and all(b.uptodate for b in page.private):
            page.uptodate = True
        unlock_page(page)


def _was_last(buffers: list[BufferHead], bh: BufferHead, bit: str) -> bool:
    """Never sleeps.  Unlock a buffer whose I/O ended; returns whether it was the page's last."""
    lock = buffers[0].uptodate_lock
    assert lock is not None
    flags = local_irq_save()
    lock.lock()
    setattr(bh, bit, False)
    unlock_buffer(bh)
    last = not any(getattr(b, bit) for b in buffers)
    lock.unlock()
    local_irq_restore(flags)
    return last


# -- writing ---------------------------------------------------------------------------------------


def block_write_begin(
    mapping: AddressSpace, pos: int, len: int, flags: int, get_block: GetBlock
) -> Page:
    """Sleeps.  For ``write_begin``: a locked page, ready to take ``len`` bytes at ``pos``.

    Blocks are allocated where there are none; parts of blocks that will not be written are read or
    zeroed.

    Raises:
        OSError: what ``get_block`` raises, or EIO; there is no page then, but there may be
            blocks behind the end of the file, which the filesystem should free.
    Linux: ``block_write_begin``.
    """
    page = grab_cache_page(mapping, pos // PAGE_SIZE)
    start = pos % PAGE_SIZE
    try:
        block_prepare_write(page, start, start + len, get_block)
    except OSError:
        unlock_page(page)
        put_page(page)
        raise
    return page


def block_prepare_write(page: Page, start: int, stop: int, get_block: GetBlock) -> None:
    """Sleeps.  Make bytes ``start`` to ``stop`` of a locked page writable.

    Raises:
        OSError: what ``get_block`` raises, or EIO; blocks allocated just now are zeroed and dirty
            then.
    Linux: ``__block_write_begin``.
    """
    try:
        reading = [
            bh
            for i, bh in enumerate(create_page_buffers(page))
            if _prepare_buffer(page, i, bh, start, stop, get_block)
        ]
        ll_rw_block(READ, reading)
        for bh in reading:
            wait_on_buffer(bh)
            if not bh.uptodate:
                raise EIO()
    except OSError:
        page_zero_new_buffers(page, start, stop)
        raise


def _prepare_buffer(
    page: Page, i: int, bh: BufferHead, start: int, stop: int, get_block: GetBlock
) -> bool:
    """Sleeps.  Prepare one buffer for a write; returns whether it must be read first."""
    at, end = i * bh.b_size, (i + 1) * bh.b_size
    if page.uptodate:
        bh.uptodate = True
    if end <= start or at >= stop:
        return False
    bh.new = False
    if not bh.mapped:
        _map(bh, _host(page), page.index * (PAGE_SIZE // bh.b_size) + i, get_block, True)
        if bh.new:
            _fresh_block(page, bh, at, end, start, stop)
            return False
    return not bh.uptodate and (at < start or end > stop)


def _fresh_block(page: Page, bh: BufferHead, at: int, end: int, start: int, stop: int) -> None:
    """Never sleeps.  The block is new, so what it holds on the device means nothing."""
    if page.uptodate:
        bh.new = False
        mark_buffer_dirty(bh)
    else:
        zero_user_segment(page, at, min(start, end))
        zero_user_segment(page, max(stop, at), end)


def page_zero_new_buffers(page: Page, start: int, stop: int) -> None:
    """Never sleeps.  A write failed half way: new blocks in its range get zeroes.

    Linux: ``page_zero_new_buffers``.
    """
    for i, bh in enumerate(page.private or ()):
        at, end = i * bh.b_size, (i + 1) * bh.b_size
        if end > start and at < stop and bh.new:
            if not page.uptodate:
                zero_user_segment(page, max(start, at), min(stop, end))
                bh.uptodate = True
            bh.new = False
            mark_buffer_dirty(bh)


def block_write_end(page: Page, start: int, len: int, copied: int) -> int:
    """Never sleeps.  ``copied`` of ``len`` bytes arrived in a page; returns how many count.

    A short copy into a page with unknown parts counts for nothing: the write is tried again.
    Linux: ``block_write_end``.
    """
    if copied < len:
        if not page.uptodate:
            copied = 0
        page_zero_new_buffers(page, start + copied, start + len)
    partial = False
    for i, bh in enumerate(page.private or ()):
        at, end = i * bh.b_size, (i + 1) * bh.b_size
        if end <= start or at >= start + copied:
            partial = partial or not bh.uptodate
        else:
            bh.uptodate = True
            mark_buffer_dirty(bh)
            bh.new = False
    if not partial:
        page.uptodate = True
    return copied


def generic_write_end(
    file: File | None,
    mapping: AddressSpace,
    pos: int,
    len: int,
    copied: int,
    page: Page,
    fsdata: Any,
) -> int:
    """Sleeps.  ``write_end`` with buffers: dirty what was written, move i_size.

    The page is unlocked and put; returns how many bytes count.  The caller holds i_rwsem.
    Linux: ``generic_write_end``.
    """
    copied = block_write_end(page, pos % PAGE_SIZE, len, copied)
    inode = mapping.host
    grew = copied > 0 and pos + copied > inode.i_size
    if grew:
        inode.i_size = pos + copied  # under the page lock: nobody writes this page out in between
    unlock_page(page)
    put_page(page)
    if grew:
        mark_inode_dirty(inode)
    return copied


def block_write_full_page(page: Page, get_block: GetBlock, wbc: WritebackControl) -> int:
    """Sleeps.  For ``writepage``: start writing a page's dirty buffers; returns 0.

    The page is unlocked, and under writeback until the last buffer is written.  Behind the end of
    the file it is zeroed first.

    Raises:
        OSError: what ``get_block`` raises; the mapped buffers are written nevertheless.
    Linux: ``block_write_full_page``.
    """
    size = _host(page).i_size
    begin = page.index * PAGE_SIZE
    if begin >= size:
        _nothing_to_write(page)
        return 0
    if begin + PAGE_SIZE > size:
        zero_user_segment(page, size - begin, PAGE_SIZE)
    failed = _map_for_write(page, size, get_block)
    started = _lock_dirty_buffers(page, wbc, failed)
    if failed is not None:
        page.error = True
        assert page.mapping is not None
        mapping_set_error(page.mapping, failed)
    set_page_writeback(page)
    for bh in started:
        submit_bh(WRITE, bh)
    unlock_page(page)
    if not started:
        end_page_writeback(page)
    if failed is not None:
        raise failed
    return 0


def _nothing_to_write(page: Page) -> None:
    """Sleeps.  The whole page is behind the end of the file: a truncation is on its way to it."""
    assert page.mapping is not None
    if page.private is not None:
        page.mapping.a_ops.invalidatepage(page, 0, PAGE_SIZE)
    set_page_writeback(page)
    unlock_page(page)
    end_page_writeback(page)


def _map_for_write(page: Page, size: int, get_block: GetBlock) -> OSError | None:
    """Sleeps.  Give the dirty buffers blocks; returns what went wrong, if anything."""
    inode = _host(page)
    fresh = page.private is None
    buffers = create_page_buffers(page)
    first = page.index * len(buffers)
    for i, bh in enumerate(buffers):
        if fresh:  # the page was dirtied as a whole
            bh.dirty = bh.uptodate = True
        if (first + i) * bh.b_size >= size:
            bh.dirty = False
            bh.uptodate = True
        elif not bh.mapped and bh.dirty:
            try:
                _map(bh, inode, first + i, get_block, True)
            except OSError as error:
                return error
            bh.new = False
    return None


def _lock_dirty_buffers(
    page: Page, wbc: WritebackControl, failed: OSError | None
) -> list[BufferHead]:
    """Sleeps.  Lock the buffers to be written; cleansing, busy ones redirty the page."""
    started = []
    for bh in page.private or ():
        if not bh.mapped:
            if failed is not None:
                bh.dirty = False
            continue
        if wbc.sync_mode != WB_SYNC_NONE or failed is not None:
            lock_buffer(bh)
        elif not trylock_buffer(bh):
            redirty_page_for_writepage(wbc, page)
            continue
        if test_clear_buffer_dirty(bh):
            bh.b_end_io = end_buffer_async_write
            bh.async_write = True
            started.append(bh)
        else:
            unlock_buffer(bh)
    return started


def end_buffer_async_write(bh: BufferHead, uptodate: bool) -> None:
    """Never sleeps.  ``b_end_io`` of a page's write: the last one ends the page's writeback.

    Linux: ``end_buffer_async_write``.
    """
    page = bh.b_page
    assert page is not None and page.private is not None
    if uptodate:
        bh.uptodate = True
    else:
        bh.write_io_error = True
        bh.uptodate = False
        page.error = True
        if page.mapping is not None:
            mapping_set_error(page.mapping, EIO())
    if _was_last(page.private, bh, "async_write"):
        end_page_writeback(page)


# -- truncating ------------------------------------------------------------------------------------


def block_truncate_page(mapping: AddressSpace, size: int, get_block: GetBlock) -> None:
    """Sleeps.  Zero the rest of the block in which a file of ``size`` bytes ends.

    Called before shrinking a file, so that growing it again shows zeroes.

    Raises:
        EIO: the block could not be read.  What ``get_block`` raises.
    The caller holds i_rwsem exclusive.  Linux: ``block_truncate_page``.
    """
    inode = mapping.host
    blocksize = inode.i_sb.s_blocksize
    if not size % blocksize:
        return
    page = grab_cache_page(mapping, size // PAGE_SIZE)
    try:
        start = size % PAGE_SIZE
        i = start // blocksize
        bh = create_page_buffers(page)[i]
        if page.uptodate:
            bh.uptodate = True
        if not bh.mapped:
            _map(bh, inode, size // blocksize, get_block, False)
        if bh.mapped:
            _read_buffer(bh)
            zero_user_segment(page, start, (i + 1) * blocksize)
            mark_buffer_dirty(bh)
    finally:
        unlock_page(page)
        put_page(page)


def _read_buffer(bh: BufferHead) -> None:
    if not bh.uptodate:
        get_bh(bh)
        ll_rw_block(READ, [bh])
        wait_on_buffer(bh)
        put_bh(bh)
        if not bh.uptodate:
            raise EIO()


def generic_block_bmap(mapping: AddressSpace, block: int, get_block: GetBlock) -> int:
    """Sleeps.  For ``bmap``: the device's block of a file's block, 0 for a hole.

    Linux: ``generic_block_bmap``.
    """
    return get_block(mapping.host, block, False) or 0
