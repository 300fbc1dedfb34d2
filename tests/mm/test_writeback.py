"""Dirty inodes: lists, the flusher, syncs, and who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mm.worlds import StorePages, StoreSuper, World, bugs, dirty_page, run, store_of
from vfsim.fs.inode import Inode
from vfsim.mm import PAGE_SIZE, Page, unlock_page
from vfsim.mm.bdi import DIRTY_EXPIRE, WRITEBACK_INTERVAL, bdi_of, mark_inode_dirty
from vfsim.mm.dirty import redirty_page_for_writepage
from vfsim.mm.i_state import I_DIRTY, I_DIRTY_PAGES, I_SYNC
from vfsim.mm.page import DIRTY
from vfsim.mm.writeback import (
    WB_SYNC_ALL,
    WB_SYNC_NONE,
    WritebackControl,
    sync_inode_metadata,
    sync_inodes_sb,
    wakeup_flusher_threads,
    write_inode_now,
    writeback_inodes_sb,
)
from vfsim.mm.writepages import do_writepages, filemap_write_and_wait
from vfsim.sim.scheduler import msleep, schedule_timeout
from vfsim.sim.state import K


def _sync(inode: Inode) -> None:
    with inode.i_sb.s_umount.shared():
        sync_inodes_sb(inode.i_sb)


def test_a_dirty_inode_is_on_a_list_once() -> None:
    """Dirtied again it keeps its place; written it is on none."""

    def body(inode: Inode) -> None:
        bdi = bdi_of(inode)
        assert bdi is not None
        wb = bdi.wb
        assert inode not in wb.b_dirty
        mark_inode_dirty(inode)
        age = wb.b_dirty[inode]
        mark_inode_dirty(inode, I_DIRTY_PAGES)
        assert wb.b_dirty[inode] == age
        sync_inode_metadata(inode, True)
        assert not wb.has_dirty_io()
        assert inode.i_io_list is None

    run(body)


def test_the_flusher_comes_by_itself() -> None:
    """What is dirty is written when it is old enough, with nobody asking."""
    s_op = StoreSuper()

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        mark_inode_dirty(inode)
        schedule_timeout(DIRTY_EXPIRE - WRITEBACK_INTERVAL)
        assert 0 not in store_of(inode)
        schedule_timeout(3 * WRITEBACK_INTERVAL)
        assert store_of(inode)[0] == b"\1" * PAGE_SIZE
        assert s_op.written == [WB_SYNC_NONE]
        assert not inode.i_state & I_DIRTY

    run(body, s_op=s_op)


def test_sync_waits_until_it_is_written() -> None:
    """sync_inodes_sb returns with the data in the store; writeback_inodes_sb only starts it."""

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        _sync(inode)
        assert 0 in store_of(inode)
        dirty_page(inode, 1)
        with inode.i_sb.s_umount.shared():
            writeback_inodes_sb(inode.i_sb)
        assert 1 not in store_of(inode)
        _sync(inode)
        assert 1 in store_of(inode)

    run(body)


def test_syncing_needs_s_umount() -> None:
    """E13: without it the superblock could be unmounted meanwhile."""
    assert bugs(lambda inode: sync_inodes_sb(inode.i_sb))[0] == ("E13", "test")


class OneWriter(StoreSuper):
    """Sees that an inode is written by one task at a time, with I_SYNC set (E12)."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0

    def write_inode(self, inode: Inode, wbc: WritebackControl) -> None:
        self.busy += 1
        assert self.busy == 1
        assert inode.i_state & I_SYNC
        msleep(1)
        self.busy -= 1
        self.written.append(wbc.sync_mode)


@pytest.mark.parametrize("seed", range(80))
def test_one_writer_at_a_time(seed: int) -> None:
    """fsync, sync and the flusher never write one inode at once, and nothing dirty is forgotten."""

    def fsyncer(inode: Inode) -> None:
        for i in range(2):
            dirty_page(inode, i)
            mark_inode_dirty(inode)
            filemap_write_and_wait(inode.i_mapping)
            sync_inode_metadata(inode, True)

    def syncer(inode: Inode) -> None:
        dirty_page(inode, 2)
        _sync(inode)
        assert 2 in store_of(inode)

    def dirtier(inode: Inode) -> None:
        for _ in range(3):
            mark_inode_dirty(inode)
            write_inode_now(inode, False)

    run(fsyncer, syncer, dirtier, seed=seed, s_op=OneWriter())


@pytest.mark.parametrize("seed", range(60))
def test_unmount_writes_what_is_dirty(seed: int) -> None:
    """Whatever the flusher does meanwhile, the data is in the store after the unmount."""

    def body(inode: Inode) -> None:
        for index in range(3):
            dirty_page(inode, index)

    with World(seed=seed) as world:
        world.run(body, body)
        store = store_of(world.inode)
        world.close()
        assert world.violations == []
        assert store == {i: bytes([i + 1]) * PAGE_SIZE for i in range(3)}


class Counts(StorePages):
    """Notes which pages were written, and may redirty some."""

    def __init__(self, *skip: int) -> None:
        self.wrote: list[int] = []
        self.skip = skip

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        if page.index in self.skip:
            redirty_page_for_writepage(wbc, page)
            unlock_page(page)
            return 0
        self.wrote.append(page.index)
        return StorePages.writepage(self, page, wbc)


def test_cleansing_stops_after_so_many() -> None:
    """nr_to_write counts down; the next cyclic round goes on where this one stopped."""
    pages = Counts()

    def body(inode: Inode) -> None:
        for index in range(6):
            dirty_page(inode, index)
        for _ in range(2):
            wbc = WritebackControl(WB_SYNC_NONE, nr_to_write=2, range_cyclic=True)
            do_writepages(inode.i_mapping, wbc)
            assert wbc.nr_to_write == 0
            msleep(1)
        assert pages.wrote == [0, 1, 2, 3]
        assert inode.i_mapping.tagged(DIRTY)
        do_writepages(inode.i_mapping, WritebackControl(WB_SYNC_NONE, nr_to_write=0))
        assert pages.wrote == [0, 1, 2, 3]

    run(body, pages=pages)


def test_a_cyclic_round_wraps() -> None:
    """Starting in the middle, it comes back to the pages before."""
    pages = Counts()

    def body(inode: Inode) -> None:
        for index in range(4):
            dirty_page(inode, index)
        inode.i_mapping.writeback_index = 2
        do_writepages(inode.i_mapping, WritebackControl(range_cyclic=True))
        assert pages.wrote == [2, 3, 0, 1]

    run(body, pages=pages)


def test_only_the_range() -> None:
    """range_start and range_end are bytes, inclusive."""
    pages = Counts()

    def body(inode: Inode) -> None:
        for index in range(4):
            dirty_page(inode, index)
        wbc = WritebackControl(WB_SYNC_ALL, range_start=PAGE_SIZE, range_end=2 * PAGE_SIZE)
        do_writepages(inode.i_mapping, wbc)
        assert pages.wrote == [1, 2]

    run(body, pages=pages)


def test_skipped_pages_keep_the_inode_dirty() -> None:
    """A page that was redirtied is tried again later, not for ever now."""
    pages = Counts(1)

    def body(inode: Inode) -> None:
        for index in range(3):
            dirty_page(inode, index)
        with inode.i_sb.s_umount.shared():
            writeback_inodes_sb(inode.i_sb)
        assert pages.wrote == [0, 2]
        assert inode.i_io_list is not None
        pages.skip = ()
        _sync(inode)
        assert pages.wrote == [0, 2, 1]

    run(body, pages=pages)


def test_own_writepages_is_used() -> None:
    """A filesystem with writepages is asked instead, and counts down itself."""

    class Own(StorePages):
        def __init__(self) -> None:
            self.called = 0

        def writepages(self, mapping: Any, wbc: WritebackControl) -> None:
            self.called += 1
            from vfsim.mm import generic_writepages

            generic_writepages(mapping, wbc)

    pages = Own()

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        _sync(inode)
        assert pages.called
        assert 0 in store_of(inode)

    run(body, pages=pages)


def test_every_flusher_can_be_woken() -> None:
    """wakeup_flusher_threads starts writing everything, whoever is mounted."""

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        wakeup_flusher_threads(K.machine)
        msleep(1)
        assert 0 in store_of(inode)

    run(body)


def test_a_flusher_leaves_busy_superblocks_alone() -> None:
    """Working for nobody in particular, it does not wait for an unmount or remount in progress."""

    def body(inode: Inode) -> None:
        dirty_page(inode, 0)
        with inode.i_sb.s_umount:
            wakeup_flusher_threads(K.machine)
            msleep(1)
            assert 0 not in store_of(inode)
        _sync(inode)
        assert 0 in store_of(inode)

    run(body)


def test_a_flusher_can_end() -> None:
    """After bdi_destroy it neither runs nor takes requests."""
    with World() as world:
        bdi = bdi_of(world.inode)
        assert bdi is not None
        world.close()
        assert world.violations == []
        assert not bdi.wb.dwork.busy
        assert not bdi.wb.registered
