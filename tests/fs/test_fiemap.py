"""Where bytes lie: extents, flags, errors."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fs.conftest import Expect
from vfsim.block.disk import RamDisk
from vfsim.filesystems.wholefs import BLOCK, BLOCKS, WholeFS
from vfsim.fs.fiemap import (
    FIEMAP_EXTENT_DELALLOC,
    FIEMAP_EXTENT_LAST,
    FIEMAP_EXTENT_MERGED,
    FIEMAP_EXTENT_UNKNOWN,
    FIEMAP_FLAG_CACHE,
    FIEMAP_FLAG_SYNC,
    FIEMAP_FLAG_XATTR,
    FiemapExtentInfo,
    fiemap_check_flags,
    fiemap_fill_next_extent,
)
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys

CREAT, RDWR = os.O_CREAT, os.O_RDWR


@pytest.fixture
def whole() -> Iterator[Kernel]:
    """A kernel with a filesystem that has blocks."""
    kernel = Kernel()
    try:
        kernel.mount(WholeFS, "/", device=RamDisk(sectors=4096))
        yield kernel
        kernel.close()
        assert kernel.violations == []
    finally:
        kernel.machine.bury()


def test_extents(whole: Kernel) -> None:
    """Neighbours are one extent, holes none, the last one is marked."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR, 0o644)
        assert sys.fiemap(fd).fi_extents == []
        sys.write(fd, b"x" * 2 * 4096)
        sys.pwrite(fd, b"y" * BLOCK, 4 * 4096)
        found = sys.fiemap(fd, flags=FIEMAP_FLAG_SYNC)
        pieces = [(e.fe_logical, e.fe_length, e.fe_flags) for e in found.fi_extents]
        merged = FIEMAP_EXTENT_MERGED
        assert pieces == [(0, 8192, merged), (16384, BLOCK, merged | FIEMAP_EXTENT_LAST)]
        first = found.fi_extents[0].fe_physical
        assert found.fi_extents[1].fe_physical == first + 16384
        disk = sys.fstat(fd).st_dev
        assert disk and first % BLOCK == 0
        sys.close(fd)

    whole.call(go)


def test_parts(whole: Kernel) -> None:
    """From somewhere on, only so many, or only how many."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR, 0o644)
        for n in (0, 2, 4):
            sys.pwrite(fd, b"x" * 4096, n * 4096)
        assert sys.fiemap(fd, count=0).fi_extents_mapped == 3
        assert sys.fiemap(fd, count=0).fi_extents == []
        two = sys.fiemap(fd, count=2)
        assert [e.fe_logical for e in two.fi_extents] == [0, 8192]
        assert not two.fi_extents[-1].fe_flags & FIEMAP_EXTENT_LAST
        assert [e.fe_logical for e in sys.fiemap(fd, 4096, 4096).fi_extents] == []
        assert [e.fe_logical for e in sys.fiemap(fd, 9000, 1).fi_extents] == [8192]
        sys.close(fd)

    whole.call(go)


def test_errors(whole: Kernel, expect: Expect) -> None:
    """No bytes, too far, unknown flags; and no extents at all for what has no blocks."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR, 0o644)
        expect.EINVAL(sys.fiemap, fd, 0, 0)
        expect.EFBIG(sys.fiemap, fd, BLOCK * BLOCKS + 1)
        assert sys.fiemap(fd, BLOCK * BLOCKS - 1).fi_extents == []
        expect.EBADR(sys.fiemap, fd, 0, 1, FIEMAP_FLAG_XATTR)
        expect.EBADR(sys.fiemap, fd, 0, 1, FIEMAP_FLAG_CACHE)
        expect.EBADF(sys.fiemap, 99)
        sys.close(fd)
        directory = sys.open("/")
        expect.EOPNOTSUPP(sys.fiemap, directory, 0, 0)
        sys.close(directory)

    whole.call(go)


def test_ramfs_has_no_extents(k: Kernel, expect: Expect) -> None:
    """What lies in memory lies nowhere."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR, 0o644)
        expect.EOPNOTSUPP(sys.fiemap, fd)
        sys.close(fd)

    k.call(go)


def test_what_filesystems_call(expect: Expect) -> None:
    """Flags that are not known come back; who is full is told so; what is delayed is unknown."""
    info = FiemapExtentInfo(FIEMAP_FLAG_SYNC | FIEMAP_FLAG_CACHE, 2)
    expect.EBADR(fiemap_check_flags, info, FIEMAP_FLAG_SYNC)
    assert info.fi_flags == FIEMAP_FLAG_CACHE
    assert not fiemap_fill_next_extent(info, 0, 0, 10, FIEMAP_EXTENT_DELALLOC)
    assert info.fi_extents[0].fe_flags == FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN
    assert fiemap_fill_next_extent(info, 10, 0, 10) and fiemap_fill_next_extent(info, 20, 0, 10)
    assert info.fi_extents_mapped == 2
    counting = FiemapExtentInfo(0, 0)
    assert not fiemap_fill_next_extent(counting, 0, 0, 10)
    assert fiemap_fill_next_extent(counting, 10, 0, 10, FIEMAP_EXTENT_LAST)
