"""What writeback needs from the inode cache, one floor up, which it may not import.

Linux's writeback stands beside the inode code; here it lies one floor below, so that the page cache
can be read alone. `vfsim.fs.inode` hands over its functions when it is imported; until then (tests
of the page cache alone) inodes need no references.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.inode import Inode


def _granted(inode: Inode) -> Inode | None:
    """Never sleeps.  Stands in for igrab."""
    return inode


def _nothing(inode: Inode) -> None:
    """Never sleeps.  Stands in for the others."""


class Upcalls:
    """The functions of ``vfsim.fs.inode`` that writeback calls.

    Attributes:
        igrab: takes a reference unless the inode is being freed; returns None then.
        iput: gives it back.
        inode_add_lru: an unused inode was made clean; i_lock is held.
    """

    __slots__ = ("igrab", "inode_add_lru", "iput")

    def __init__(self) -> None:
        self.igrab: Callable[[Inode], Inode | None] = _granted
        self.iput: Callable[[Inode], object] = _nothing
        self.inode_add_lru: Callable[[Inode], object] = _nothing


upcalls = Upcalls()
