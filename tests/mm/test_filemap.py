"""Reading, writing and syncing one file through the page cache."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.block.worlds import Faults
from tests.mm.worlds import StorePages, dirty_page, open_file, run, store_of
from vfsim.fs.inode import Inode
from vfsim.mm import PAGE_SIZE, Page, unlock_page
from vfsim.mm.filemap import (
    generic_file_fsync,
    generic_file_read,
    generic_file_read_iter,
    generic_file_write_iter,
    generic_perform_write,
    read_mapping_page,
)
from vfsim.mm.page import begin_page_io, end_page_io, put_page
from vfsim.mm.truncate import truncate_setsize
from vfsim.sim.errors import EIO, ENOSPC
from vfsim.sim.state import K


class SlowPages(StorePages):
    """Reads end in an interrupt, a while later."""

    def readpage(self, file: Any, page: Page) -> None:
        begin_page_io(page)
        page.lock.disown()
        K.machine.timer(1000, self.arrived, page)

    def arrived(self, page: Page) -> None:
        """Never sleeps.  The data is here."""
        assert page.mapping is not None
        page.data[:] = store_of(page.mapping.host).get(page.index, bytes(PAGE_SIZE))
        page.uptodate = True
        end_page_io(page)
        unlock_page(page)


def write(inode: Inode, data: bytes, pos: int) -> int:
    """Write as write(2) does, under i_rwsem."""
    with inode.i_rwsem:
        return generic_perform_write(open_file(inode), data, pos)


def read(inode: Inode, count: int, pos: int) -> bytes:
    """Read as read(2) does."""
    return generic_file_read(open_file(inode), count, pos)


@pytest.mark.parametrize("pages", [StorePages, SlowPages])
def test_what_is_written_is_read(pages: type[StorePages]) -> None:
    """Across page boundaries, over holes, up to the end of the file and not beyond."""

    def body(inode: Inode) -> None:
        assert read(inode, 10, 0) == b""
        data = bytes(range(256)) * 40
        assert write(inode, data, 100) == len(data)
        assert inode.i_size == len(data) + 100
        assert read(inode, 1 << 20, 0) == bytes(100) + data
        assert read(inode, 5, 4094) == (bytes(100) + data)[4094:4099]
        write(inode, b"far", 5 * PAGE_SIZE)
        assert read(inode, 1 << 20, 3 * PAGE_SIZE) == bytes(2 * PAGE_SIZE) + b"far"
        assert read(inode, 10, inode.i_size) == b""
        assert read(inode, 10, inode.i_size + 10 * PAGE_SIZE) == b""
        assert read(inode, 0, 0) == b""

    run(body, pages=pages())


def test_reads_come_from_the_store() -> None:
    """A page that is not cached is read once, by readpage."""

    def body(inode: Inode) -> None:
        store_of(inode)[1] = b"s" * PAGE_SIZE
        inode.i_size = 2 * PAGE_SIZE
        assert read(inode, 2 * PAGE_SIZE, 0) == bytes(PAGE_SIZE) + b"s" * PAGE_SIZE
        store_of(inode)[1] = b"t" * PAGE_SIZE
        assert read(inode, 1, PAGE_SIZE) == b"s"
        put_page(read_mapping_page(inode.i_mapping, 1))

    run(body)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("pages", [StorePages, SlowPages])
def test_readers_share_a_read(pages: type[StorePages], seed: int) -> None:
    """Tasks that read the same page at once all see its data, whoever read it."""

    def body(inode: Inode) -> bytes:
        store_of(inode)[0] = b"d" * PAGE_SIZE
        inode.i_size = 4
        return read(inode, 100, 0)

    assert run(body, body, body, pages=pages(), seed=seed) == [b"dddd"] * 3


@pytest.mark.parametrize("seed", range(100))
def test_readers_and_truncation(seed: int) -> None:
    """A reader sees old data or zeroes, and never anything else."""

    def truncater(inode: Inode) -> None:
        write(inode, b"x" * 9000, 0)
        with inode.i_rwsem:
            truncate_setsize(inode, 100)
        write(inode, b"x" * 10, 8000)

    def reader(inode: Inode) -> list[bytes]:
        return [read(inode, 20000, 0) for _ in range(3)]

    _, *seen = run(truncater, reader, reader, seed=seed)
    for data in (d for reads in seen for d in reads):
        assert set(data) <= {0, ord("x")}
        assert len(data) <= 9000


@pytest.mark.parametrize("seed", range(60))
def test_appending_is_atomic(seed: int) -> None:
    """Two writers with O_APPEND never overwrite each other."""

    def body(inode: Inode) -> None:
        for _ in range(2):
            iocb: Any = SimpleNamespace(ki_filp=open_file(inode, os.O_APPEND), ki_pos=0)
            assert generic_file_write_iter(iocb, K.cur.name[-1:].encode() * 3000) == 3000
            assert iocb.ki_pos >= 3000

    def a(inode: Inode) -> None:
        body(inode)

    def b(inode: Inode) -> bytes:
        body(inode)
        return b""

    def look(inode: Inode) -> bytes:
        iocb: Any = SimpleNamespace(ki_filp=open_file(inode), ki_pos=0)
        return generic_file_read_iter(iocb, 1 << 20)

    from tests.mm.worlds import World

    with World(seed=seed) as world:
        world.run(a, b)
        (data,) = world.run(look)
        assert len(data) == 12000
        assert data.count(b"a") == data.count(b"b") == 6000
        for at in range(0, 12000, 3000):
            assert len(set(data[at : at + 3000])) == 1
        assert world.violations == []


def test_short_copies_are_tried_again() -> None:
    """If user memory is not all there, the rest is copied in a second try."""

    def body(inode: Inode) -> None:
        assert write(inode, b"abcdefgh" * 100, 10) == 800
        assert read(inode, 1000, 10) == b"abcdefgh" * 100

    run(body, strategy=Faults("copy", 2, 4))


def test_files_have_a_largest_size() -> None:
    """Writing at the filesystem's limit is EFBIG, writing over it is cut."""

    def body(inode: Inode) -> None:
        inode.i_sb.s_maxbytes = 100
        iocb: Any = SimpleNamespace(ki_filp=open_file(inode), ki_pos=90)
        assert generic_file_write_iter(iocb, b"x" * 20) == 10
        assert iocb.ki_pos == 100
        with pytest.raises(OSError, match="too large"):
            generic_file_write_iter(iocb, b"x")
        assert generic_file_write_iter(iocb, b"") == 0

    run(body)


def test_a_failed_read_is_eio() -> None:
    """Whether readpage raises or leaves the page not uptodate; what was read before is returned."""

    class Fails(StorePages):
        def readpage(self, file: Any, page: Page) -> None:
            if page.index == 0:
                StorePages.readpage(self, file, page)
                return
            unlock_page(page)
            if page.index == 2:
                raise ENOSPC()

    def body(inode: Inode) -> None:
        inode.i_size = 3 * PAGE_SIZE
        assert len(read(inode, 3 * PAGE_SIZE, 0)) == PAGE_SIZE
        for index, error in ((1, EIO), (2, ENOSPC)):
            with pytest.raises(OSError) as caught:
                read(inode, 1, index * PAGE_SIZE)
            assert caught.value.errno == error().errno

    run(body, pages=Fails())


def test_fsync_writes_pages_then_inode() -> None:
    """fsync writes data and inode; a second one has nothing to do."""
    from tests.mm.worlds import StoreSuper

    s_op = StoreSuper()

    def body(inode: Inode) -> None:
        file = open_file(inode)
        write(inode, b"important", 0)
        generic_file_fsync(file)
        assert store_of(inode)[0].startswith(b"important")
        assert s_op.written == [1]
        assert not inode.i_state & 7
        generic_file_fsync(file)
        assert s_op.written == [1]

    run(body, s_op=s_op)


def test_fdatasync_leaves_times_out() -> None:
    """With nothing but times changed it does not write the inode."""
    from tests.mm.worlds import StoreSuper
    from vfsim.mm.bdi import mark_inode_dirty_sync

    s_op = StoreSuper()

    def body(inode: Inode) -> None:
        mark_inode_dirty_sync(inode)
        generic_file_fsync(open_file(inode), datasync=True)
        assert s_op.written == []
        generic_file_fsync(open_file(inode))
        assert s_op.written == [1]

    run(body, s_op=s_op)


def test_a_write_error_is_told_once() -> None:
    """fsync reports a failed write to the next caller, and to no other."""

    class Fails(StorePages):
        def __init__(self) -> None:
            self.broken = True

        def writepage(self, page: Page, wbc: Any) -> int:
            if not self.broken:
                return StorePages.writepage(self, page, wbc)
            self.broken = False
            from vfsim.mm import end_page_writeback, set_page_writeback

            set_page_writeback(page)
            unlock_page(page)
            end_page_writeback(page)
            raise EIO()

    def body(inode: Inode) -> None:
        from vfsim.mm.writepages import filemap_flush

        dirty_page(inode, 0)
        with pytest.raises(OSError, match="Input/output"):
            filemap_flush(inode.i_mapping)
        with pytest.raises(OSError, match="Input/output"):
            generic_file_fsync(open_file(inode))
        dirty_page(inode, 0)
        generic_file_fsync(open_file(inode))

    run(body, pages=Fails())
