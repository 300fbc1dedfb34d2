"""Writing dirty inodes: the flusher, one inode's turn, and the syncs that wait for them.

Each backing device has one flusher, a delayed work (`wb_workfn`) of the queue ``writeback``.  It
runs for a request (sync, umount), or some seconds after something became dirty::

    sync_inodes_sb(sb) ── WritebackWork ──►  flusher: for each dirty inode of sb
         │                                       I_SYNC set; nobody else writes it, evict waits │
         do_writepages        its pages, started │   ◄── done ──                         write_inode
         itself, if more than pages changed ▼                                       I_SYNC clear;
         back on a list if dirty again
    wait_sb_inodes(sb)   until no page is under writeback

fsync takes the short way (`sync_inode_metadata`): it writes that one inode itself, under I_SYNC.

Locks.  A superblock's inodes are written with its ``s_umount`` held at least shared: by who asks
for it (E13), or by the flusher itself, by trylock, when it works for nobody in particular.  I_SYNC
is a bit of ``i_state`` with waiters; it nests outside page locks.  The lists and their locks are in
`vfsim.mm.bdi`.

Analogous to fs/fs-writeback.c.  Not built: congestion, cgroups, laptop mode, work for
reclaim. Differences: an inode that was dirtied while fsync wrote it is put back on a list at once
(v5.7's fix); inodes with times alone (I_DIRTY_TIME) are on no list, and do not expire after 12 h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.block.buffer import has_dirty_buffers, write_dirty_buffers
from vfsim.checks.bugs import asked, warn
from vfsim.locks.completion import Completion
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.mm.bdi import (
    DIRTY_EXPIRE,
    MS_LAZYTIME,
    BackingDevInfo,
    BdiWriteback,
    SyncEpisode,
    WritebackWork,
    bdi_of,
    inode_io_list_del,
    mark_inode_dirty,
    mark_inode_dirty_sync,
    write_times_now,
)
from vfsim.mm.i_state import (
    I_DIRTY,
    I_DIRTY_DATASYNC,
    I_DIRTY_INODE,
    I_DIRTY_PAGES,
    I_DIRTY_SYNC,
    I_FREEING,
    I_NEW,
    I_SYNC,
    I_WILL_FREE,
)
from vfsim.mm.operations import AOP_WRITEPAGE_ACTIVATE, WB_SYNC_ALL, WB_SYNC_NONE
from vfsim.mm.page import DIRTY, WRITEBACK
from vfsim.mm.upcalls import upcalls
from vfsim.mm.writepages import (
    LLONG_MAX,
    LONG_MAX,
    WritebackControl,
    do_writepages,
    filemap_fdatawait,
    filemap_fdatawait_keep_errors,
    generic_writepages,
    write_cache_pages,
    write_one_page,
)
from vfsim.sim.state import K
from vfsim.sim.workqueue import flush_delayed_work

if TYPE_CHECKING:
    from vfsim.block.device import BlockDevice
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock
    from vfsim.sim.machine import Machine

MIN_WRITEBACK_PAGES = 1024
"""How many pages of one inode a cleansing writer starts before it turns to the next."""


# -- backing devices -------------------------------------------------------------------------------


def bdi_register(machine: Machine, name: str, bdev: BlockDevice | None = None) -> BackingDevInfo:
    """Never sleeps.  A backing device with a flusher.  Linux: ``bdi_register``."""
    bdi = BackingDevInfo(machine, name, wb_workfn, bdev)
    machine.data.setdefault("bdi_list", {})[bdi] = None
    return bdi


def bdev_bdi(bdev: BlockDevice) -> BackingDevInfo:
    """Never sleeps.  The backing device of a block device, registered on first use.

    Linux: ``bdev_get_queue(bdev)->backing_dev_info``.
    """
    if bdev.bd_bdi is None:
        bdi = bdi_register(bdev.machine, bdev.bd_disk.name, bdev)
        bdev.bd_bdi = bdi
        bdev.bd_dirtied = bdi.wb.wakeup_delayed
    found: BackingDevInfo = bdev.bd_bdi
    return found


def bdi_setup_and_register(sb: SuperBlock, name: str) -> None:
    """Never sleeps.  Let a filesystem that is on no device write its dirty pages and inodes back.

    For ``fill_super``.  Linux: ``bdi_setup_and_register``, after which the filesystem sets
    ``s_bdi``.
    """
    sb.s_bdi = bdi_register(K.machine, name)


def bdi_destroy(bdi: BackingDevInfo) -> None:
    """Sleeps.  Let the flusher do what it was asked for, and end it.

    The caller has seen to it that nothing is dirty.  Linux: ``bdi_destroy``, ``wb_shutdown``.
    """
    bdi.machine.data["bdi_list"].pop(bdi, None)
    wb = bdi.wb
    wb.work_lock.lock_bh()
    wb.registered = False
    wb.work_lock.unlock_bh()
    wb.wakeup()
    flush_delayed_work(wb.dwork)


# -- the flusher -----------------------------------------------------------------------------------


def wb_workfn(wb: BdiWriteback) -> None:
    """Sleeps.  The flusher's turn: what it was asked for, then what is old.

    Linux: ``wb_workfn``.
    """
    while (work := wb.next_work()) is not None:
        wb_writeback(wb, work)
        if work.done is not None:
            work.done.complete()
    if not wb.registered:
        return
    old = WritebackWork(None, WB_SYNC_NONE, LONG_MAX, for_kupdate=True, range_cyclic=True)
    wb_writeback(wb, old)
    if wb.work_list:
        wb.wakeup()
    elif wb.has_dirty_io() or (wb.bdi.bdev is not None and has_dirty_buffers(wb.bdi.bdev)):
        wb.wakeup_delayed()


def wb_writeback(wb: BdiWriteback, work: WritebackWork) -> None:
    """Sleeps.  Do one request: write dirty inodes until there are none left that it is about.

    Takes wb_list_lock.  Linux: ``wb_writeback``.
    """
    youngest = wb.age  # what becomes dirty from now on is not ours: so we come to an end
    wb.list_lock.lock()
    while work.nr_pages > 0 and not (work.for_kupdate and wb.work_list):
        if not wb.b_io:
            _queue_io_locked(wb, work, youngest)
        if work.sb is not None:
            progress = _writeback_sb_inodes(work.sb, wb, work)
        else:
            progress = _writeback_inodes_wb(wb, work)
        if progress:
            continue
        if not wb.b_more_io:
            break
        _wait_for_some_inode(wb)
    wb.list_lock.unlock()
    if work.sb is None and wb.bdi.bdev is not None:
        write_dirty_buffers(wb.bdi.bdev)


def _queue_io_locked(wb: BdiWriteback, work: WritebackWork, youngest: int) -> None:
    """Never sleeps.  Refill b_io: what was left over, then what is dirty long enough.

    Linux: ``queue_io``.
    """
    for inode in list(wb.b_more_io):
        wb.move_locked(inode, wb.b_io)
    expired = K.machine.now - DIRTY_EXPIRE
    for inode, age in list(wb.b_dirty.items()):
        if age > youngest or (work.for_kupdate and inode.i_dirtied_when > expired):
            break
        wb.move_locked(inode, wb.b_io)


def _wait_for_some_inode(wb: BdiWriteback) -> None:
    """Sleeps.  Everything left is being written by others: wait for the first of them.

    Drops and retakes list_lock.
    """
    inode = next(iter(wb.b_more_io))
    inode.i_lock.lock()
    episode: SyncEpisode | None = inode.i_sync
    inode.i_lock.unlock()
    wb.list_lock.unlock()
    if episode is not None:
        episode.wait()  # the inode may be gone afterwards
    wb.list_lock.lock()


def _writeback_inodes_wb(wb: BdiWriteback, work: WritebackWork) -> bool:
    """Sleeps.  Write inodes of any superblock; returns whether anything was written.

    Called and left with list_lock.  Linux: ``__writeback_inodes_wb``.
    """
    wrote = False
    while wb.b_io:
        inode = next(iter(wb.b_io))
        sb = inode.i_sb
        if not trylock_super(sb):
            wb.dirty_locked(inode)  # being mounted, unmounted or remounted: later
            continue
        wrote |= _writeback_sb_inodes(sb, wb, work)
        sb.s_umount.up_read()
        if work.nr_pages <= 0:
            break
    return wrote


def trylock_super(sb: SuperBlock) -> bool:
    """Never sleeps.  Keep a superblock from being unmounted, if that needs no waiting.

    Linux: ``trylock_super``.
    """
    if not sb.s_umount.down_read_trylock():
        return False
    if sb.s_root is not None:
        return True
    sb.s_umount.up_read()
    return False


def _writeback_sb_inodes(sb: SuperBlock, wb: BdiWriteback, work: WritebackWork) -> bool:
    """Sleeps.  Write one superblock's inodes on b_io; returns whether anything was written.

    Called and left with list_lock.  The inode is pinned by I_SYNC, for which eviction waits.
    Linux: ``writeback_sb_inodes``.
    """
    wrote = False
    while wb.b_io:
        inode = next(iter(wb.b_io))
        if inode.i_sb is not sb:
            if work.sb is None:
                break
            wb.dirty_locked(inode)
            continue
        inode.i_lock.lock()
        if inode.i_state & (I_NEW | I_FREEING | I_WILL_FREE):
            inode.i_lock.unlock()
            wb.dirty_locked(inode)
            continue
        if inode.i_state & I_SYNC:
            _not_now(inode, wb, work)
            continue
        _begin_sync(inode)
        inode.i_lock.unlock()
        wb.list_lock.unlock()
        wrote |= _write_one(inode, wb, work)
        if wrote and work.nr_pages <= 0:
            break
    return wrote


def _not_now(inode: Inode, wb: BdiWriteback, work: WritebackWork) -> None:
    """Sleeps.  Somebody else writes this inode: leave it for later, or wait if this is a sync.

    Called with list_lock and i_lock, left with list_lock.
    """
    episode: SyncEpisode = inode.i_sync
    inode.i_lock.unlock()
    if work.sync_mode != WB_SYNC_ALL:
        wb.move_locked(inode, wb.b_more_io)
        return
    wb.list_lock.unlock()
    episode.wait()
    wb.list_lock.lock()


def _write_one(inode: Inode, wb: BdiWriteback, work: WritebackWork) -> bool:
    """Sleeps.  One inode's turn, with I_SYNC set; returns whether it got cleaner.

    Left with list_lock.
    """
    sync = work.sync_mode == WB_SYNC_ALL
    chunk = LONG_MAX if sync else min(work.nr_pages, MIN_WRITEBACK_PAGES)
    wbc = WritebackControl(
        work.sync_mode,
        chunk,
        for_kupdate=work.for_kupdate,
        for_sync=work.for_sync,
        range_cyclic=work.range_cyclic,
    )
    try:
        _writeback_locked_inode(inode, wbc)
    except OSError:
        pass  # kept in the mapping for the next fsync
    work.nr_pages -= chunk - wbc.nr_to_write
    wb.list_lock.lock()
    inode.i_lock.lock()
    clean = not inode.i_state & I_DIRTY
    _requeue_locked(inode, wb, wbc)
    _end_sync(inode)
    inode.i_lock.unlock()
    return clean or wbc.nr_to_write < chunk


def _requeue_locked(inode: Inode, wb: BdiWriteback, wbc: WritebackControl) -> None:
    """Never sleeps.  Put an inode where it belongs after its turn.  Linux: ``requeue_inode``.

    Caller holds list_lock and i_lock.
    """
    if inode.i_state & I_FREEING:
        return  # whoever frees it has taken it off the lists
    if wbc.pages_skipped:
        wb.dirty_locked(inode)
    elif inode.has_pages and inode.i_mapping.tagged(DIRTY):
        if wbc.nr_to_write <= 0:
            wb.move_locked(inode, wb.b_more_io)
        else:
            wb.dirty_locked(inode)
    elif inode.i_state & I_DIRTY:
        wb.dirty_locked(inode)
    else:
        wb.remove_locked(inode)


# -- one inode -------------------------------------------------------------------------------------


def _begin_sync(inode: Inode) -> None:
    """Never sleeps.  From now on we write the inode and nobody else does.  Caller holds i_lock."""
    inode.i_state |= I_SYNC
    inode.i_sync = SyncEpisode(K.cur)


def _end_sync(inode: Inode) -> None:
    """Never sleeps.  Let others write (or free) the inode.

    Caller holds i_lock.  Linux: ``inode_sync_complete``.
    """
    episode: SyncEpisode = inode.i_sync
    inode.i_state &= ~I_SYNC
    inode.i_sync = None
    upcalls.inode_add_lru(inode)
    episode.end()


def _writeback_locked_inode(inode: Inode, wbc: WritebackControl) -> None:
    """Sleeps.  Write an inode's pages, then itself.  I_SYNC is set (E12).

    Raises:
        OSError: the first of what the filesystem raised.
    Linux: ``__writeback_single_inode``.
    """
    asked("E12")
    if not inode.raw_i_state & I_SYNC:  # no lock: whoever set it is we
        warn("E12", f"{inode!r} is written without I_SYNC")
    failed: OSError | None = None
    if inode.has_pages:
        try:
            do_writepages(inode.i_mapping, wbc)
        except OSError as error:
            failed = error
        if wbc.sync_mode == WB_SYNC_ALL and not wbc.for_sync:
            try:
                filemap_fdatawait(inode.i_mapping)  # data before what points to it
            except OSError as error:
                failed = failed or error
    inode.i_lock.lock()
    dirty = inode.i_state & I_DIRTY
    inode.i_state &= ~dirty
    if inode.has_pages and inode.i_mapping.tagged(DIRTY):
        inode.i_state |= I_DIRTY_PAGES
    inode.i_lock.unlock()
    if dirty & I_DIRTY_INODE:
        try:
            _write_inode(inode, wbc)
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _write_inode(inode: Inode, wbc: WritebackControl) -> None:
    """Sleeps.  Let the filesystem write the inode itself."""
    inode.i_sb.s_op.write_inode(inode, wbc)


def writeback_single_inode(inode: Inode, wbc: WritebackControl) -> None:
    """Sleeps.  Write one inode now, for a caller who holds a reference or is freeing it.

    With WB_SYNC_NONE an inode that somebody else writes is left to them.

    Raises:
        OSError: the first of what the filesystem raised.
    Takes i_lock, wb_list_lock.  Linux: ``writeback_single_inode``.
    """
    inode.i_lock.lock()
    if not inode.i_count and not inode.i_state & (I_WILL_FREE | I_FREEING):
        warn("writeback.no-reference", f"{inode!r} is written by a caller without a reference")
    if inode.i_state & I_SYNC:
        if wbc.sync_mode != WB_SYNC_ALL:
            inode.i_lock.unlock()
            return
        _wait_for_sync(inode)
    sync = wbc.sync_mode == WB_SYNC_ALL
    busy = sync and inode.has_pages and inode.i_mapping.tagged(WRITEBACK)
    if not inode.i_state & I_DIRTY and not busy:
        inode.i_lock.unlock()
        return
    _begin_sync(inode)
    inode.i_lock.unlock()
    try:
        _writeback_locked_inode(inode, wbc)
    finally:
        _finish_single_inode(inode)


def _finish_single_inode(inode: Inode) -> None:
    """Never sleeps.  End the writing of one inode; it is on a list then exactly if it is dirty."""
    bdi = bdi_of(inode)
    if bdi is None:
        inode.i_lock.lock()
        _end_sync(inode)
        inode.i_lock.unlock()
        return
    wb = bdi.wb
    wb.list_lock.lock()
    inode.i_lock.lock()
    if not inode.i_state & I_DIRTY:
        wb.remove_locked(inode)
    elif inode.i_io_list is None and inode.i_hashed and not inode.i_state & I_FREEING:
        wb.dirty_locked(inode)
        wb.wakeup_delayed()
    _end_sync(inode)
    inode.i_lock.unlock()
    wb.list_lock.unlock()


def _wait_for_sync(inode: Inode) -> None:
    """Sleeps.  Until nobody writes the inode.

    Called and left with i_lock; the caller keeps the inode alive.
    """
    while inode.i_state & I_SYNC:
        episode: SyncEpisode = inode.i_sync
        inode.i_lock.unlock()
        episode.wait()
        inode.i_lock.lock()


def inode_wait_for_writeback(inode: Inode) -> None:
    """Sleeps.  Until nobody writes the inode, which is being freed, so that nobody will again.

    Takes i_lock.  Linux: ``inode_wait_for_writeback``.
    """
    inode.i_lock.lock()
    _wait_for_sync(inode)
    inode.i_lock.unlock()


def write_inode_now(inode: Inode, sync: bool) -> None:
    """Sleeps.  Write an inode and its pages; with ``sync``, wait for them.

    Raises:
        OSError: the first of what the filesystem raised.
    Linux: ``write_inode_now``.
    """
    if bdi_of(inode) is None:
        return
    writeback_single_inode(inode, WritebackControl(WB_SYNC_ALL if sync else WB_SYNC_NONE))


def sync_inode(inode: Inode, wbc: WritebackControl) -> None:
    """Sleeps.  Write an inode as ``wbc`` says.

    Raises as `writeback_single_inode`.  Linux: ``sync_inode``.
    """
    writeback_single_inode(inode, wbc)


def sync_inode_metadata(inode: Inode, wait: bool) -> None:
    """Sleeps.  Write the inode but not its pages.  Raises as `writeback_single_inode`.

    Linux: ``sync_inode_metadata``.
    """
    mode = WB_SYNC_ALL if wait else WB_SYNC_NONE
    writeback_single_inode(inode, WritebackControl(mode, nr_to_write=0))


# -- a whole superblock ----------------------------------------------------------------------------


def _need_s_umount(sb: SuperBlock, who: str) -> None:
    asked("E13")
    if not sb.s_umount.is_locked():
        warn("E13", f"{who}() of a superblock whose s_umount nobody holds")


def writeback_inodes_sb(sb: SuperBlock) -> None:
    """Sleeps.  Start writing everything dirty of a superblock; returns when it is started.

    The caller holds s_umount (E13).  Linux: ``writeback_inodes_sb``.
    """
    _need_s_umount(sb, "writeback_inodes_sb")
    if sb.s_bdi is not None:
        _ask_flusher(sb.s_bdi, WritebackWork(sb, WB_SYNC_NONE, LONG_MAX))


def sync_inodes_sb(sb: SuperBlock) -> None:
    """Sleeps.  Write everything that is dirty now of a superblock, and wait for it.

    Errors stay with the files, for fsync.  The caller holds s_umount (E13).  Linux:
    ``sync_inodes_sb``.
    """
    _need_s_umount(sb, "sync_inodes_sb")
    if sb.s_bdi is not None:
        if sb.s_flags & MS_LAZYTIME:
            _write_all_times(sb)
        _ask_flusher(sb.s_bdi, WritebackWork(sb, WB_SYNC_ALL, LONG_MAX, for_sync=True))
        wait_sb_inodes(sb)


def _write_all_times(sb: SuperBlock) -> None:
    """Sleeps.  The times that lazytime has put off are to be written now.

    Takes s_inode_list_lock.  Linux keeps these inodes on a list of their own (b_dirty_time).
    """
    with sb.s_inode_list_lock:
        grabbed = [inode for inode in sb.s_inodes if upcalls.igrab(inode) is not None]
    for inode in grabbed:
        write_times_now(inode)
        upcalls.iput(inode)


def _ask_flusher(bdi: BackingDevInfo, work: WritebackWork) -> None:
    """Sleeps.  Give the flusher a request and wait until it is done."""
    work.done = Completion("writeback work")
    bdi.wb.queue_work(work)
    work.done.wait(owner=lambda: bdi.wb.dwork.worker)


def wait_sb_inodes(sb: SuperBlock) -> None:
    """Sleeps.  Until what was under writeback is written, file by file.

    Takes s_sync_lock, s_inode_wblist_lock.  Linux: ``wait_sb_inodes``.
    """
    bdi: BackingDevInfo | None = sb.s_bdi
    if bdi is None:
        return
    sb.s_sync_lock.lock()
    _waited_for(bdi, sb)
    while (inode := _next_waited(bdi)) is not None:
        filemap_fdatawait_keep_errors(inode.i_mapping)
        upcalls.iput(inode)
    sb.s_sync_lock.unlock()


def _waited_for(bdi: BackingDevInfo, sb: SuperBlock) -> None:
    """Never sleeps.  Note which inodes are being written now: later ones need not be waited for."""
    bdi.wblist_lock.lock_irq()
    for inode in list(bdi.writing):
        if inode.i_sb is sb:
            del bdi.writing[inode]
            bdi.waited[inode] = None
            inode.i_wb_list = bdi.waited
    bdi.wblist_lock.unlock_irq()


def _next_waited(bdi: BackingDevInfo) -> Inode | None:
    """Never sleeps.  The next inode to wait for, with a reference; None at the end.

    Inodes being freed are passed over: who frees them waits for their pages.
    """
    while True:
        rcu_read_lock()  # keeps the inode's memory until we have a reference
        bdi.wblist_lock.lock_irq()
        inode = next(iter(bdi.waited), None)
        if inode is not None:
            del bdi.waited[inode]
            bdi.writing[inode] = None
            inode.i_wb_list = bdi.writing
        bdi.wblist_lock.unlock_irq()
        grabbed = None if inode is None else upcalls.igrab(inode)
        rcu_read_unlock()
        if inode is None or grabbed is not None:
            return grabbed


def wakeup_flusher_threads(machine: Machine) -> None:
    """Never sleeps.  Let every flusher start writing everything.

    Linux: ``wakeup_flusher_threads``.
    """
    for bdi in machine.data.get("bdi_list", {}):
        bdi.wb.queue_work(WritebackWork(None, WB_SYNC_NONE, LONG_MAX, range_cyclic=True))


__all__ = [
    "AOP_WRITEPAGE_ACTIVATE",
    "I_DIRTY",
    "I_DIRTY_DATASYNC",
    "I_DIRTY_INODE",
    "I_DIRTY_PAGES",
    "I_DIRTY_SYNC",
    "LLONG_MAX",
    "LONG_MAX",
    "WB_SYNC_ALL",
    "WB_SYNC_NONE",
    "BackingDevInfo",
    "BdiWriteback",
    "WritebackControl",
    "bdev_bdi",
    "bdi_register",
    "bdi_setup_and_register",
    "bdi_destroy",
    "do_writepages",
    "generic_writepages",
    "inode_io_list_del",
    "inode_wait_for_writeback",
    "mark_inode_dirty",
    "mark_inode_dirty_sync",
    "sync_inode",
    "sync_inode_metadata",
    "sync_inodes_sb",
    "wait_sb_inodes",
    "wakeup_flusher_threads",
    "wb_workfn",
    "wb_writeback",
    "write_cache_pages",
    "write_inode_now",
    "write_one_page",
    "writeback_inodes_sb",
    "writeback_single_inode",
]
