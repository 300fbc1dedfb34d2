"""Clean filesystems that differ from wholefs in a table, so that the kernel calls other methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.block.buffer import wait_on_buffer, write_dirty_buffer
from vfsim.filesystems.wholefs import (
    WholeAtomicDirectory,
    WholeAttributes,
    WholePages,
    WholePlainFile,
)
from vfsim.mm.dirty import clear_page_dirty_for_io, end_page_writeback, set_page_writeback
from vfsim.testing.selftest.mutants import Ground

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.operations import FileOperations, InodeOperations
    from vfsim.mm.operations import AddressSpaceOperations
    from vfsim.mm.page import Page


class AtomicGround(Ground):
    """Opening is one step: ``atomic_open``."""

    directory: InodeOperations = WholeAtomicDirectory()


class PlainGround(Ground):
    """Files have ``read`` and ``write``."""

    open_file: FileOperations = WholePlainFile()


class WholeLaundry(WholePages):
    """Dirty pages can be written without unlocking them."""

    def launder_page(self, page: Page) -> None:
        """Sleeps.  Write the page, buffer by buffer."""
        if clear_page_dirty_for_io(page):
            set_page_writeback(page)
            for bh in page.private or ():
                write_dirty_buffer(bh)
            for bh in page.private or ():
                wait_on_buffer(bh)
            end_page_writeback(page)


class LaundryGround(Ground):
    """Pages have ``launder_page``."""

    pages: AddressSpaceOperations = WholeLaundry()


class OldFile(WholeAttributes):
    """A file without ``setattr``, as kernels up to 2.6.37 had them: ``truncate`` follows."""

    def truncate(self, inode: Inode) -> None:
        """Never sleeps.  The pages are gone; the blocks stay taken."""


class OldGround(Ground):
    """Files have ``truncate``."""

    file: InodeOperations = OldFile()
