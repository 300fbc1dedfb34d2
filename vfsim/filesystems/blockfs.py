"""What filesystems on a disk borrow: pages that come from its blocks and get there, and truncation.

The helpers of `vfsim.mm.buffers` read and write pages through buffer heads and ask back for one
thing only, where on the disk a block of a file is.  The two tables here put them where the kernel
calls them; Linux's filesystems each write them out.

Who locks what: ``readpage`` and ``writepage`` find the page locked; ``write_begin``, ``write_end``
and ``setattr`` find the inode's ``i_rwsem`` held exclusive, so nobody else is writing or cutting
the file whose blocks they give back.  The counterpart of ``ext2_aops`` and ``ext2_setattr`` in
``fs/ext2/inode.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.attr import ATTR_SIZE, IAttr, setattr_copy, setattr_prepare
from vfsim.fs.dcache import d_inode
from vfsim.fs.operations import InodeOperations
from vfsim.mm.bdi import mark_inode_dirty
from vfsim.mm.buffers import (
    block_read_full_page,
    block_truncate_page,
    block_write_begin,
    block_write_full_page,
    generic_write_end,
)
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.mm.truncate import truncate_pagecache, truncate_setsize

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.page import Page
    from vfsim.mm.writeback import WritebackControl


class BlockAddressSpaceOperations(AddressSpaceOperations):
    """The pages of a file on a disk.  Subclasses say where its blocks are, and take them back."""

    def get_block(self, inode: Inode, iblock: int, create: bool) -> int | None:
        """Sleeps.  The block of the disk that holds a file's block; None for a hole.

        Args:
            create: find a place for it, if it has none.

        Raises:
            OSError: ENOSPC, EIO.
        """
        raise TypeError(f"{type(self).__name__} needs a get_block(self, inode, iblock, create)")

    def truncate_blocks(self, inode: Inode) -> None:
        """Sleeps.  Give back the blocks behind ``i_size``, which no page stands for any more.

        After a truncation, and after a write that failed.  The inode's ``i_rwsem`` is held
        exclusive.  Linux: ``ext2_truncate_blocks``.
        """
        raise TypeError(f"{type(self).__name__} needs a truncate_blocks(self, inode)")

    def write_failed(self, inode: Inode) -> None:
        """Sleeps.  A write could not be completed: what it took behind the end is given back.

        Linux: ``ext2_write_failed``.
        """
        truncate_pagecache(inode, inode.i_size)
        self.truncate_blocks(inode)

    def readpage(self, file: File | None, page: Page) -> None:
        """Sleeps.  See `block_read_full_page`."""
        block_read_full_page(page, self.get_block)

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        """Sleeps.  See `block_write_full_page`."""
        return block_write_full_page(page, self.get_block, wbc)

    def write_begin(
        self, file: File | None, mapping: AddressSpace, pos: int, len: int, flags: int
    ) -> tuple[Page, Any]:
        """Sleeps.  See `block_write_begin`; what it took for nothing goes back."""
        try:
            return block_write_begin(mapping, pos, len, flags, self.get_block), None
        except OSError:
            self.write_failed(mapping.host)
            raise

    def write_end(
        self,
        file: File | None,
        mapping: AddressSpace,
        pos: int,
        len: int,
        copied: int,
        page: Page,
        fsdata: Any,
    ) -> int:
        """Sleeps.  See `generic_write_end`; what was not needed goes back."""
        copied = generic_write_end(file, mapping, pos, len, copied, page, fsdata)
        if copied < len:
            self.write_failed(mapping.host)
        return copied


class BlockFileInodeOperations(InodeOperations):
    """A file by its name, whose pages are `BlockAddressSpaceOperations`."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Set attributes.  A new size zeroes what is left of the last block.

        Raises:
            OSError: what is not permitted, or EIO.
        """
        inode = d_inode(dentry)
        setattr_prepare(dentry, attr)
        if attr.ia_valid & ATTR_SIZE:
            pages = inode.i_mapping.a_ops
            assert isinstance(pages, BlockAddressSpaceOperations)
            block_truncate_page(inode.i_mapping, attr.ia_size, pages.get_block)
            truncate_setsize(inode, attr.ia_size)
            pages.truncate_blocks(inode)
        setattr_copy(inode, attr)
        mark_inode_dirty(inode)


__all__ = ["BlockAddressSpaceOperations", "BlockFileInodeOperations"]
