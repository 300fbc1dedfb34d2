"""Dirty inodes and the lists they wait on: one backing device, its writeback state,
`mark_inode_dirty`.

A dirty inode's way::

    mark_inode_dirty(inode, flags)      i_state gets I_DIRTY_* bits; clean before: onto b_dirty,
    flusher told (later)
        b_dirty    dirty, oldest first
        b_io       the flusher is working through these
        b_more_io  not finished in its turn; comes back into b_io
    written, and clean                  on no list

While somebody writes the inode (I_SYNC), nobody else may: they wait for the end of that
`SyncEpisode`.

Locks: ``wb_list_lock`` guards the three lists and ``i_io_list``; ``i_lock`` guards ``i_state``; the
order is wb_list_lock > i_lock.  ``wb_work_lock`` guards the requests to the flusher.
``s_inode_wblist_lock`` guards the list of inodes with pages under writeback; the interrupt that
ends a write takes it, so it is taken with interrupts off.

Invariant: when `mark_inode_dirty` has returned, a hashed inode with I_DIRTY bits that is not being
freed is on exactly one of the lists: so a sync that begins now will find it.

Analogous to fs/fs-writeback.c and mm/backing-dev.c.  A superblock without a backing device
(``s_bdi`` None: Linux's noop_backing_dev_info) keeps dirty bits and writes nothing.  Not built:
cgroup writeback, dirty-time (lazytime), bandwidth estimation.  Differences: v4.10 leaves listing
the inode to whoever made it dirty first, or to its writer, who may not have come to it yet; and
ages are kept as a count besides the time, because simulated time can stand still.
"""

from __future__ import annotations

from collections import deque
from stat import S_ISBLK
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.mm.i_state import (
    I_DIRTY,
    I_DIRTY_INODE,
    I_DIRTY_PAGES,
    I_DIRTY_SYNC,
    I_DIRTY_TIME,
    I_FREEING,
    I_SYNC,
    I_WILL_FREE,
)
from vfsim.mm.page import DIRTY
from vfsim.sim.clock import NSEC_PER_SEC
from vfsim.sim.shared import READ_ONCE
from vfsim.sim.state import K
from vfsim.sim.workqueue import (
    WQ_FREEZABLE,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    Workqueue,
    alloc_workqueue,
    mod_delayed_work,
    queue_delayed_work,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.block.device import BlockDevice
    from vfsim.fs.inode import Inode
    from vfsim.locks.completion import Completion
    from vfsim.mm.mapping import AddressSpace
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

MS_LAZYTIME = 1 << 25
"""In ``s_flags``, as in `vfsim.fs.super`: times alone need not be written at once."""

WRITEBACK_INTERVAL = 5 * NSEC_PER_SEC
"""How long after the first change the flusher looks around."""
DIRTY_EXPIRE = 30 * NSEC_PER_SEC
"""How old a change is when the flusher writes it unasked."""

InodeList = dict["Inode", int]
"""Inodes in the order they were put there, each with its age (see `BdiWriteback.age`)."""


@attrs.define(eq=False)
class SyncEpisode:
    """One writing of one inode, from setting I_SYNC to clearing it; outlives the inode.

    Attributes:
        owner: who is writing.  over: whether the writing has ended.  queue: who waits for that.
    """

    owner: Task
    over: bool = False
    queue: WaitQueue = attrs.field(factory=lambda: WaitQueue("I_SYNC"))

    def wait(self) -> None:
        """Sleeps.  Until the writing has ended."""
        self.queue.wait_event(lambda: self.over, owner=self.owner)

    def end(self) -> None:
        """Never sleeps.  The writing has ended."""
        self.over = True
        self.queue.wake_up_all()


@attrs.define(eq=False)
class WritebackWork:
    """A request to a flusher (Linux: ``struct wb_writeback_work``).

    Attributes:
        sb: only this superblock's inodes, or None for all.
        sync_mode: WB_SYNC_NONE or WB_SYNC_ALL.  nr_pages: how many pages at most.
        for_kupdate: only what is old.  for_sync: sync(2); its caller waits for the I/O itself.
        range_cyclic: go on where the last one stopped.
        done: completed when the work is, or None.
    """

    sb: Any
    sync_mode: int
    nr_pages: int
    for_kupdate: bool = False
    for_sync: bool = False
    range_cyclic: bool = False
    done: Completion | None = None


class BdiWriteback:
    """What one flusher has to do (Linux: ``struct bdi_writeback``).

    Attributes:
        list_lock: guards
        b_dirty, b_io, b_more_io: see the file's table, and
        age: the count of inodes ever put on b_dirty.

        work_lock: guards
        work_list: requests, oldest first, and
        registered: whether new ones are taken.

        dwork: the flusher, as delayed work of the queue ``writeback``.
    """

    __slots__ = (
        "age",
        "b_dirty",
        "b_io",
        "b_more_io",
        "bdi",
        "dwork",
        "list_lock",
        "registered",
        "work_list",
        "work_lock",
    )

    def __init__(self, bdi: BackingDevInfo, workfn: Callable[[BdiWriteback], None]) -> None:
        self.bdi = bdi
        self.list_lock = SpinLock("wb_list_lock")
        self.b_dirty: InodeList = {}
        self.b_io: InodeList = {}
        self.b_more_io: InodeList = {}
        self.age = 0
        self.work_lock = SpinLock("wb_work_lock")
        self.work_list: deque[WritebackWork] = deque()
        self.registered = True
        self.dwork = DelayedWork(lambda _: workfn(self), f"flush-{bdi.name}")

    # -- the lists; list_lock held -----------------------------------------------------------------

    def move_locked(self, inode: Inode, to: InodeList) -> None:
        """Never sleeps.  Put an inode at the end of a list, keeping its age.

        Caller holds list_lock.
        """
        age = self.remove_locked(inode)
        to[inode] = age
        inode.i_io_list = to

    def dirty_locked(self, inode: Inode) -> None:
        """Never sleeps.  Put an inode on b_dirty as the youngest.  Caller holds list_lock."""
        self.remove_locked(inode)
        self.age += 1
        self.b_dirty[inode] = self.age
        inode.i_io_list = self.b_dirty
        inode.i_dirtied_when = K.machine.now

    def remove_locked(self, inode: Inode) -> int:
        """Never sleeps.  Take an inode off its list; returns its age.  Caller holds list_lock."""
        old: InodeList | None = inode.i_io_list
        inode.i_io_list = None
        return 0 if old is None else old.pop(inode)

    def has_dirty_io(self) -> bool:
        """Never sleeps.  Whether any inode waits to be written."""
        return bool(self.b_dirty or self.b_io or self.b_more_io)

    # -- waking the flusher ------------------------------------------------------------------------

    def wakeup(self) -> None:
        """Never sleeps.  Let the flusher look around now.  Linux: ``wb_wakeup``."""
        mod_delayed_work(bdi_wq(self.bdi.machine), self.dwork, 0)

    def wakeup_delayed(self) -> None:
        """Never sleeps.  Let the flusher look around some time later.

        Linux: ``wb_wakeup_delayed``.
        """
        if self.registered:
            queue_delayed_work(bdi_wq(self.bdi.machine), self.dwork, WRITEBACK_INTERVAL)

    def queue_work(self, work: WritebackWork) -> None:
        """Never sleeps.  Give the flusher something to do.  Linux: ``wb_queue_work``."""
        self.work_lock.lock_bh()
        if self.registered:
            self.work_list.append(work)
            self.wakeup()
        elif work.done is not None:
            work.done.complete()
        self.work_lock.unlock_bh()

    def next_work(self) -> WritebackWork | None:
        """Never sleeps.  The oldest request, taken off the queue, or None."""
        self.work_lock.lock_bh()
        work = self.work_list.popleft() if self.work_list else None
        self.work_lock.unlock_bh()
        return work

    def _check(self) -> None:
        lists = (self.b_dirty, self.b_io, self.b_more_io)
        for one in lists:
            for inode in one:
                assert inode.i_io_list is one, f"{inode!r} is on a list that it does not know of"
                assert not inode.i_state & I_FREEING, f"{inode!r} is being freed, and to be written"

    def __repr__(self) -> str:
        busy = len(self.b_io) + len(self.b_more_io)
        return f"writeback({self.bdi.name}: {len(self.b_dirty)} dirty, {busy} in work)"


class BackingDevInfo:
    """Where a filesystem's dirty data goes (Linux: ``struct backing_dev_info``).

    Attributes:
        name: for reports.  bdev: the block device, or None for a filesystem that writes elsewhere.
        wb: the flusher's lists and work.
        wblist_lock: guards (irq-safe)
        writing: inodes with pages under writeback, and
        waited: those of them that a sync has still to wait for.
    """

    __slots__ = ("bdev", "machine", "name", "waited", "wb", "wblist_lock", "writing")

    def __init__(
        self,
        machine: Machine,
        name: str,
        workfn: Callable[[BdiWriteback], None],
        bdev: BlockDevice | None = None,
    ) -> None:
        self.machine = machine
        self.name = name
        self.bdev = bdev
        self.wb = BdiWriteback(self, workfn)
        self.wblist_lock = SpinLock("s_inode_wblist_lock")
        self.writing: dict[Inode, None] = {}
        self.waited: dict[Inode, None] = {}

    def _check(self) -> None:
        self.wb._check()
        for one in (self.writing, self.waited):
            for inode in one:
                assert inode.i_wb_list is one

    def __repr__(self) -> str:
        return f"bdi({self.name})"


def bdi_wq(machine: Machine) -> Workqueue:
    """Never sleeps.  The work queue of all flushers.  Linux: ``bdi_wq``."""
    found: Workqueue | None = machine.data.get("bdi_wq")
    if found is None:
        found = alloc_workqueue("writeback", WQ_MEM_RECLAIM | WQ_FREEZABLE | WQ_UNBOUND)
        machine.data["bdi_wq"] = found
    return found


def bdi_of(inode: Inode) -> BackingDevInfo | None:
    """Never sleeps.  The backing device of an inode, or None if nothing of it is written back."""
    bdi: BackingDevInfo | None = inode.i_sb.s_bdi
    return bdi


# -- dirtying --------------------------------------------------------------------------------------


def mark_inode_dirty(inode: Inode, flags: int = I_DIRTY) -> None:
    """Sleeps.  The inode changed; with I_DIRTY_PAGES alone (its pages did) it never sleeps.

    Args:
        flags: which I_DIRTY_* bits.  I_DIRTY_SYNC: something fdatasync may leave out;
            I_DIRTY_DATASYNC: something it may not; both tell the filesystem's ``dirty_inode``,
            which may sleep.  I_DIRTY_TIME: times that may wait (lazytime).

    Takes i_lock, and wb_list_lock if it was on no list.  Linux: ``__mark_inode_dirty``.
    """
    if flags & (I_DIRTY_INODE | I_DIRTY_TIME):
        inode.i_sb.s_op.dirty_inode(inode, flags)
    if flags & I_DIRTY_TIME:
        if not flags & I_DIRTY_INODE:
            _mark_times_dirty(inode)
            return
        flags &= ~I_DIRTY_TIME
    bdi = bdi_of(inode)
    if READ_ONCE(inode, "i_state") & flags == flags and (
        bdi is None or READ_ONCE(inode, "i_io_list") is not None
    ):
        return
    inode.i_lock.lock()
    if flags & I_DIRTY_INODE:
        inode.i_state &= ~I_DIRTY_TIME
    inode.i_state |= flags
    list_it = bdi is not None and _belongs_on_list(inode)
    inode.i_lock.unlock()
    if list_it and bdi is not None and READ_ONCE(inode, "i_io_list") is None:
        _enqueue(bdi.wb, inode)


def _mark_times_dirty(inode: Inode) -> None:
    """Never sleeps.  Remember that times are to be written; they go with the inode if it is dirty
    anyway.
    """
    with inode.i_lock:
        if not inode.i_state & I_DIRTY_INODE:
            inode.i_state |= I_DIRTY_TIME


def write_times_now(inode: Inode) -> None:
    """Sleeps.  What lazytime has put off is to be put off no more: the inode is dirty like any
    other.

    Takes i_lock.  Source: what ``vfs_fsync_range`` and ``iput`` do with I_DIRTY_TIME.
    """
    if READ_ONCE(inode, "i_state") & I_DIRTY_TIME:
        with inode.i_lock:
            inode.i_state &= ~I_DIRTY_TIME
        mark_inode_dirty_sync(inode)


def _belongs_on_list(inode: Inode) -> bool:
    """Never sleeps.  Whether a dirty inode is for the flusher.  Caller holds i_lock."""
    state = inode.i_state
    findable = inode.i_hashed or S_ISBLK(inode.i_mode)
    return bool(state & I_DIRTY and not state & I_FREEING and findable)


def _enqueue(wb: BdiWriteback, inode: Inode) -> None:
    """Never sleeps.  Put an inode that was on no list on b_dirty, if it still belongs there."""
    wb.list_lock.lock()
    inode.i_lock.lock()
    first = not wb.has_dirty_io()
    listed = _belongs_on_list(inode) and inode.i_io_list is None
    if listed:
        wb.dirty_locked(inode)
    inode.i_lock.unlock()
    wb.list_lock.unlock()
    if listed and first:
        wb.wakeup_delayed()


def check_dirty(inode: Inode) -> None:
    """Never sleeps.  The invariants of one inode's dirtiness; for ``_check``, in quiet moments."""
    bdi = bdi_of(inode)
    busy = inode.i_state & (I_SYNC | I_FREEING | I_WILL_FREE)
    assert bool(inode.i_state & I_SYNC) == (inode.i_sync is not None)
    if bdi is not None and inode.i_hashed and not busy:
        listed = inode.i_io_list is not None
        dirty = bool(inode.i_state & I_DIRTY)
        assert listed == dirty, f"{inode!r} is {'' if dirty else 'not '}dirty, and {listed=}"
        if inode.has_pages and inode.i_mapping.tagged(DIRTY):
            assert inode.i_state & I_DIRTY_PAGES, f"{inode!r} has dirty pages and does not know"


def mark_inode_dirty_sync(inode: Inode) -> None:
    """Sleeps.  The inode changed in something that fdatasync may leave out.

    Linux: ``mark_inode_dirty_sync``.
    """
    mark_inode_dirty(inode, I_DIRTY_SYNC)


def inode_io_list_del(inode: Inode) -> None:
    """Never sleeps.  Take an inode that is being freed off the flusher's lists.

    Linux: ``inode_io_list_del``.
    """
    bdi = bdi_of(inode)
    if bdi is not None and READ_ONCE(inode, "i_io_list") is not None:
        bdi.wb.list_lock.lock()
        bdi.wb.remove_locked(inode)
        bdi.wb.list_lock.unlock()


# -- inodes with pages under writeback -------------------------------------------------------------


def mark_inode_writeback(mapping: AddressSpace) -> None:
    """Never sleeps.  A first page went under writeback.  Linux: ``sb_mark_inode_writeback``."""
    inode = mapping.host
    bdi = bdi_of(inode)
    if bdi is not None and inode.i_wb_list is None:
        flags = bdi.wblist_lock.lock_irqsave()
        if inode.i_wb_list is None:
            bdi.writing[inode] = None
            inode.i_wb_list = bdi.writing
        bdi.wblist_lock.unlock_irqrestore(flags)


def clear_inode_writeback(mapping: AddressSpace) -> None:
    """Never sleeps.  The last page came out of writeback; from interrupts.

    Linux: ``sb_clear_inode_writeback``.
    """
    inode = mapping.host
    bdi = bdi_of(inode)
    if bdi is not None and inode.i_wb_list is not None:
        flags = bdi.wblist_lock.lock_irqsave()
        if inode.i_wb_list is not None:
            del inode.i_wb_list[inode]
            inode.i_wb_list = None
        bdi.wblist_lock.unlock_irqrestore(flags)
