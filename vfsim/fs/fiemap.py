"""Where a file's bytes lie: the FS_IOC_FIEMAP of ioctl(2).

The kernel gives ``i_op.fiemap`` a `FiemapExtentInfo` to fill; the filesystem checks the flags
(`fiemap_check_flags`) and tells one extent after the other (`fiemap_fill_next_extent`) until that
says that it is enough.  A filesystem that has a ``get_block`` borrows `generic_block_fiemap`.

The method is called with no lock held and locks for itself.  The counterpart of ``fs/ioctl.c`` of
v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.fs.operations import InodeOperations
from vfsim.mm.writepages import filemap_write_and_wait
from vfsim.sim.errors import EBADR, EFBIG, EINVAL, EOPNOTSUPP

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.inode import Inode

FIEMAP_FLAG_SYNC = 1
FIEMAP_FLAG_XATTR = 2
FIEMAP_FLAG_CACHE = 4
FIEMAP_FLAGS_COMPAT = FIEMAP_FLAG_SYNC | FIEMAP_FLAG_XATTR

FIEMAP_EXTENT_LAST = 0x1
FIEMAP_EXTENT_UNKNOWN = 0x2
FIEMAP_EXTENT_DELALLOC = 0x4
FIEMAP_EXTENT_MERGED = 0x1000

FIEMAP_MAX_OFFSET = (1 << 64) - 1

_NO_FIEMAP = InodeOperations.fiemap


@attrs.frozen
class FiemapExtent:
    """One piece: bytes ``fe_logical`` to ``fe_logical + fe_length`` of the file lie at byte
    ``fe_physical`` of the disk.
    """

    fe_logical: int
    fe_physical: int
    fe_length: int
    fe_flags: int = 0


@attrs.define(eq=False)
class FiemapExtentInfo:
    """A question and its answer so far (Linux: ``struct fiemap_extent_info``).

    Attributes:
        fi_flags: FIEMAP_FLAG_* bits.
        fi_extents_max: how many extents may be told; with 0 they are only counted.
        fi_extents_mapped: how many there are.  fi_extents: those told.
    """

    fi_flags: int
    fi_extents_max: int
    fi_extents_mapped: int = 0
    fi_extents: list[FiemapExtent] = attrs.field(factory=list)


def fiemap_check_flags(fieinfo: FiemapExtentInfo, fs_flags: int) -> None:
    """Never sleeps.  Return if the filesystem knows all flags that are asked for.

    Raises:
        OSError: EBADR; ``fi_flags`` then says which it does not know.
    """
    unknown = fieinfo.fi_flags & ~(FIEMAP_FLAGS_COMPAT & fs_flags)
    if unknown:
        fieinfo.fi_flags = unknown
        raise EBADR()


def fiemap_fill_next_extent(
    fieinfo: FiemapExtentInfo, logical: int, phys: int, length: int, flags: int = 0
) -> bool:
    """Never sleeps.  Tell one more extent; returns whether it is enough now.

    Args:
        logical, phys, length: bytes.  flags: FIEMAP_EXTENT_* bits.
    """
    last = bool(flags & FIEMAP_EXTENT_LAST)
    if not fieinfo.fi_extents_max:
        fieinfo.fi_extents_mapped += 1
        return last
    if fieinfo.fi_extents_mapped >= fieinfo.fi_extents_max:
        return True
    if flags & FIEMAP_EXTENT_DELALLOC:
        flags |= FIEMAP_EXTENT_UNKNOWN
    fieinfo.fi_extents.append(FiemapExtent(logical, phys, length, flags))
    fieinfo.fi_extents_mapped += 1
    return last or fieinfo.fi_extents_mapped == fieinfo.fi_extents_max


def generic_block_fiemap(
    inode: Inode,
    fieinfo: FiemapExtentInfo,
    start: int,
    length: int,
    get_block: Callable[[Inode, int, bool], int | None],
) -> None:
    """Sleeps.  ``fiemap`` for a filesystem that knows its blocks one by one: neighbours become one
    extent.

    Raises:
        OSError: EBADR.

    Takes ``i_rwsem`` exclusive.  Source: ``generic_block_fiemap``.
    """
    fiemap_check_flags(fieinfo, FIEMAP_FLAG_SYNC)
    with inode.i_rwsem:
        pieces = _pieces(inode, start, length, get_block)
        for n, (logical, phys, size) in enumerate(pieces):
            flags = FIEMAP_EXTENT_MERGED
            beyond = logical + size >= inode.i_size
            if n == len(pieces) - 1 and (beyond or start + length >= inode.i_size):
                flags |= FIEMAP_EXTENT_LAST
            if fiemap_fill_next_extent(fieinfo, logical, phys, size, flags):
                return


def _pieces(
    inode: Inode, start: int, length: int, get_block: Callable[[Inode, int, bool], int | None]
) -> list[tuple[int, int, int]]:
    """What is stored of these bytes, as (logical, physical, length), neighbours together."""
    block = inode.i_sb.s_blocksize
    end = min(start + length, inode.i_size)
    found: list[tuple[int, int, int]] = []
    for n in range(start // block, -(-end // block)):
        at = get_block(inode, n, False)
        if at is None:
            continue
        logical, phys = n * block, at * block
        if found and found[-1][0] + found[-1][2] == logical and _ends(found[-1]) == phys:
            found[-1] = (*found[-1][:2], found[-1][2] + block)
        else:
            found.append((logical, phys, block))
    return found


def _ends(piece: tuple[int, int, int]) -> int:
    return piece[1] + piece[2]


def do_fiemap(inode: Inode, start: int, length: int, flags: int, count: int) -> FiemapExtentInfo:
    """Sleeps.  Ask where bytes ``start`` to ``start + length`` of an open file are.

    Args:
        flags: FIEMAP_FLAG_* bits; FIEMAP_FLAG_SYNC writes the file first.
        count: how many extents to tell; 0: only how many there are.

    Raises:
        OSError: EOPNOTSUPP (no ``fiemap``), EINVAL (no bytes), EFBIG (beyond the filesystem's
            limit), EBADR (a flag it does not know), or what the filesystem says.

    No lock is held.  Source: ``ioctl_fiemap``.
    """
    op = inode.i_op
    if type(op).fiemap is _NO_FIEMAP:
        raise EOPNOTSUPP()
    limit = inode.i_sb.s_maxbytes
    if not length:
        raise EINVAL()
    if start > limit:
        raise EFBIG()
    if length > limit or limit - length < start:
        length = limit - start
    fieinfo = FiemapExtentInfo(flags, count)
    if flags & FIEMAP_FLAG_SYNC:
        filemap_write_and_wait(inode.i_mapping)
    op.fiemap(inode, fieinfo, start, length)
    return fieinfo
