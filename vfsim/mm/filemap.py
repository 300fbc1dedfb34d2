"""Reading and writing files through the page cache: what most filesystems use as they are.

Reading (`generic_file_read`), page by page::

    find the page, or add a fresh one, locked
    not uptodate?  lock it, look again, readpage()      which unlocks it: now, or when its I/O ends
                   lock it again: that is how one waits for the read
    cut at i_size, copy

Writing (`generic_perform_write`), page by page, under the inode's ``i_rwsem``::

    write_begin()   the page comes locked, and its untouched parts are valid
    copy            may come up short: then write_end is told how much, and the rest is tried again
    write_end()     marks it dirty, moves i_size, unlocks and puts it

Between the last look at i_size and the copy a truncation may zero the page: as in Linux, a reader
may see zeroes where data was or will be, but never another file's bytes.

Locks: i_rwsem (write, exclusive) > page lock > tree_lock.  Reading takes no lock of the inode.
Appending (``O_APPEND``) finds the end of the file under i_rwsem.

Analogous to mm/filemap.c.  Not built: readahead, direct I/O, throttling of writers; user memory is
`bytes`, so copying faults by choice only (`vfsim.sim.faults.COPY`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.block.queue import blkdev_issue_flush
from vfsim.mm.dirty import (
    cancel_dirty_page,
    clear_page_dirty_for_io,
    end_page_writeback,
    redirty_page_for_writepage,
    set_page_dirty,
    set_page_dirty_buffers,
    set_page_dirty_no_writeback,
    set_page_dirty_nobuffers,
    set_page_writeback,
)
from vfsim.mm.i_state import I_DIRTY, I_DIRTY_DATASYNC
from vfsim.mm.mapping import (
    AddressSpace,
    add_to_page_cache,
    delete_from_page_cache,
    find_get_page,
    find_lock_page,
    grab_cache_page,
)
from vfsim.mm.page import (
    PAGE_SHIFT,
    PAGE_SIZE,
    Page,
    get_page,
    lock_page,
    page_cache_alloc,
    put_page,
    trylock_page,
    unlock_page,
    wait_on_page_locked,
    wait_on_page_writeback,
)
from vfsim.mm.writeback import sync_inode_metadata
from vfsim.mm.writepages import (
    LLONG_MAX,
    filemap_fdatawait,
    filemap_fdatawait_range,
    filemap_fdatawrite,
    filemap_fdatawrite_range,
    filemap_flush,
    filemap_write_and_wait,
    filemap_write_and_wait_range,
)
from vfsim.sim.errors import EFAULT, EFBIG, EIO
from vfsim.sim.faults import copied, fault_in
from vfsim.sim.scheduler import cond_resched
from vfsim.sim.shared import READ_ONCE

if TYPE_CHECKING:
    from vfsim.fs.file import File, Kiocb

# -- reading ---------------------------------------------------------------------------------------


def generic_file_read(file: File, count: int, pos: int) -> bytes:
    """Sleeps.  Up to ``count`` bytes of a file from ``pos`` on; fewer only at its end.

    Raises:
        EIO: a page could not be read, and nothing before it was.  What ``readpage`` raises,
            ENOMEM (no page) and EFAULT (user memory is gone), likewise.
    Linux: ``do_generic_file_read``.
    """
    inode = file.f_inode
    limit = inode.i_sb.s_maxbytes
    end = min(pos + count, limit)
    chunks: list[bytes] = []
    while pos < end:
        try:
            chunk = _read_from_page(file, pos, end)
        except OSError:
            if not chunks:
                raise
            break
        if not chunk:
            break
        there = copied(len(chunk))
        chunks.append(chunk[:there])
        pos += there
        if there < len(chunk):
            if not any(chunks):
                raise EFAULT()
            break
        cond_resched()
    file.accessed()
    return b"".join(chunks)


def _read_from_page(file: File, pos: int, end: int) -> bytes:
    """Sleeps.  The bytes from ``pos`` to ``end``, as far as one page and the file go."""
    index, offset = divmod(pos, PAGE_SIZE)
    if pos >= file.f_inode.i_size:
        return b""
    page = _uptodate_page(file, index)
    try:
        size = (
            file.f_inode.i_size
        )  # after the page is known uptodate: a page beyond it must not be shown
        stop = min(end, size) - index * PAGE_SIZE
        return bytes(page.data[offset : min(stop, PAGE_SIZE)]) if stop > offset else b""
    finally:
        put_page(page)


def _uptodate_page(file: File, index: int) -> Page:
    """Sleeps.  The page at ``index`` with valid contents and a reference, read if it must be.

    Raises:
        EIO: it could not be read.  What ``readpage`` raises.
    """
    mapping = file.f_mapping
    while True:
        page = find_get_page(mapping, index)
        if page is None:
            page = _add_locked(mapping, index)
            if page is None:
                continue
        elif page.uptodate:
            return page
        else:
            wait_on_page_locked(page)  # somebody is probably reading it right now
            if page.uptodate:
                return page
            lock_page(page)
            if page.mapping is not mapping:
                unlock_page(page)
                put_page(page)
                continue
            if page.uptodate:
                unlock_page(page)
                return page
        if _read_locked(file, page):
            return page
        put_page(page)


def _add_locked(mapping: AddressSpace, index: int) -> Page | None:
    """Sleeps.  A fresh page in the cache, locked; None if somebody else was faster.

    Raises:
        ENOMEM: there is no page.
    """
    page = page_cache_alloc()
    try:
        add_to_page_cache(page, mapping, index)
    except FileExistsError:
        put_page(page)
        return None
    return page


def _read_locked(file: File | None, page: Page) -> bool:
    """Sleeps.  Read a locked page, which is unlocked; False if it was truncated meanwhile.

    Raises:
        EIO: the read failed.  What ``readpage`` raises.  The page's reference is put then.
    """
    mapping = page.mapping
    assert mapping is not None
    page.error = False
    try:
        mapping.a_ops.readpage(file, page)
        if not page.uptodate:
            lock_page(page)  # the end of the read unlocks it: wait for that
            truncated = page.mapping is not mapping and not page.uptodate
            unlock_page(page)
            if truncated:
                return False
        if not page.uptodate:
            raise EIO()
    except OSError:
        put_page(page)
        raise
    return True


def read_mapping_page(mapping: AddressSpace, index: int) -> Page:
    """Sleeps.  A page of a file, uptodate and with a reference: for filesystems' own use.

    Raises:
        EIO: it could not be read.  What ``readpage`` raises.
    Linux: ``read_mapping_page``.
    """
    while True:
        page = grab_cache_page(mapping, index)
        if page.uptodate:
            unlock_page(page)
            return page
        if _read_locked(None, page):
            return page
        put_page(page)


def generic_file_read_iter(iocb: Kiocb, count: int) -> bytes:
    """Sleeps.  ``read_iter`` for files in the page cache.  Raises as `generic_file_read`.

    Linux: ``generic_file_read_iter``.
    """
    data = generic_file_read(iocb.ki_filp, count, iocb.ki_pos)
    iocb.ki_pos += len(data)
    return data


# -- writing ---------------------------------------------------------------------------------------


def generic_write_checks(iocb: Kiocb, count: int) -> int:
    """Never sleeps.  How many of ``count`` bytes may be written, and where, with O_APPEND.

    Raises:
        EFBIG: at the filesystem's limit.
    The caller holds i_rwsem exclusive.  Linux: ``generic_write_checks``.
    """
    if not count:
        return 0
    file = iocb.ki_filp
    inode = file.f_inode
    if file.f_flags & os.O_APPEND:
        iocb.ki_pos = inode.i_size
    limit = inode.i_sb.s_maxbytes
    if iocb.ki_pos >= limit:
        raise EFBIG()
    return min(count, limit - iocb.ki_pos)


def generic_perform_write(file: File, data: bytes, pos: int) -> int:
    """Sleeps.  Write ``data`` at ``pos``, page by page; returns how many bytes were written.

    Raises:
        OSError: what ``write_begin`` or ``write_end`` raise, or EFAULT (user memory is gone), if
            nothing was written before.
    The caller holds i_rwsem exclusive (not for block devices).  Linux: ``generic_perform_write``.
    """
    mapping = file.f_mapping
    a_ops = mapping.a_ops
    written = 0
    wanted = PAGE_SIZE
    while written < len(data):
        offset = pos & (PAGE_SIZE - 1)
        length = min(PAGE_SIZE - offset, len(data) - written, wanted)
        try:
            fault_in()
            page, fsdata = a_ops.write_begin(file, mapping, pos, length, 0)
            there = _copy_in(page, offset, data[written : written + length])
            there = a_ops.write_end(file, mapping, pos, length, there, page, fsdata)
        except OSError:
            if not written:
                raise
            break
        cond_resched()
        # a copy so short that the filesystem could use none of it: try again with what did arrive
        wanted = PAGE_SIZE if there else max(length // 2, 1)
        pos += there
        written += there
    return written


def _copy_in(page: Page, offset: int, data: bytes) -> int:
    """Never sleeps.  Copy into a page, as far as user memory is there; returns how far."""
    there = copied(len(data))
    page.data[offset : offset + there] = data[:there]
    return there


def generic_file_write(file: File, data: bytes, pos: int) -> int:
    """Sleeps.  Write, and see to times and set-user-ID bits; returns how many bytes.

    Raises:
        OSError: as `generic_perform_write`, or what changing the inode raises.
    The caller holds i_rwsem exclusive.  Linux: ``__generic_file_write_iter``.
    """
    file.remove_privs()
    file.update_time()
    return generic_perform_write(file, data, pos)


def generic_file_write_iter(iocb: Kiocb, data: bytes) -> int:
    """Sleeps.  ``write_iter`` for files in the page cache; returns how many bytes were written.

    Raises:
        OSError: EFBIG, or as `generic_file_write`; with O_SYNC or O_DSYNC also as ``fsync``.
    Takes i_rwsem exclusive.  Linux: ``generic_file_write_iter``.
    """
    file = iocb.ki_filp
    sem = file.f_inode.i_rwsem
    sem.down_write()
    try:
        count = generic_write_checks(iocb, len(data))
        written = generic_file_write(file, data[:count], iocb.ki_pos) if count else 0
        iocb.ki_pos += written
    finally:
        sem.up_write()
    if written:
        generic_write_sync(iocb, written)
    return written


def generic_write_sync(iocb: Kiocb, count: int) -> None:
    """Sleeps.  With O_SYNC or O_DSYNC, bring the last ``count`` bytes to the disk.

    Raises:
        OSError: what ``fsync`` raises.
    No lock is held.  Linux: ``generic_write_sync``.
    """
    file = iocb.ki_filp
    if file.f_flags & os.O_DSYNC:
        end = iocb.ki_pos - 1
        datasync = file.f_flags & os.O_SYNC != os.O_SYNC
        file.f_op.fsync(file, end - count + 1, end, datasync)


# -- syncing ---------------------------------------------------------------------------------------


def generic_file_fsync(
    file: File, start: int = 0, end: int = LLONG_MAX, datasync: bool = False
) -> None:
    """Sleeps.  ``fsync`` without a journal: the pages, the inode, the device's cache.

    Raises:
        OSError: what writing raised, now or since the last fsync.
    Takes i_rwsem exclusive around writing the inode.  Linux: ``generic_file_fsync``.
    """
    inode = file.f_inode
    filemap_write_and_wait_range(inode.i_mapping, start, end)
    inode.i_rwsem.down_write()
    try:
        if READ_ONCE(inode, "i_state") & (I_DIRTY_DATASYNC if datasync else I_DIRTY):
            sync_inode_metadata(inode, True)
    finally:
        inode.i_rwsem.up_write()
    bdev = inode.i_sb.s_bdev
    if bdev is not None:
        blkdev_issue_flush(bdev)


def noop_fsync(file: File, start: int = 0, end: int = LLONG_MAX, datasync: bool = False) -> None:
    """Never sleeps.  ``fsync`` for filesystems in memory.  Linux: ``noop_fsync``."""


__all__ = [
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "add_to_page_cache",
    "cancel_dirty_page",
    "clear_page_dirty_for_io",
    "delete_from_page_cache",
    "end_page_writeback",
    "filemap_fdatawait",
    "filemap_fdatawait_range",
    "filemap_fdatawrite",
    "filemap_fdatawrite_range",
    "filemap_flush",
    "filemap_write_and_wait",
    "filemap_write_and_wait_range",
    "find_get_page",
    "find_lock_page",
    "generic_file_fsync",
    "generic_file_read",
    "generic_file_read_iter",
    "generic_file_write",
    "generic_file_write_iter",
    "generic_perform_write",
    "generic_write_checks",
    "generic_write_sync",
    "get_page",
    "grab_cache_page",
    "lock_page",
    "noop_fsync",
    "put_page",
    "read_mapping_page",
    "redirty_page_for_writepage",
    "set_page_dirty",
    "set_page_dirty_buffers",
    "set_page_dirty_no_writeback",
    "set_page_dirty_nobuffers",
    "set_page_writeback",
    "trylock_page",
    "unlock_page",
    "wait_on_page_locked",
    "wait_on_page_writeback",
]
