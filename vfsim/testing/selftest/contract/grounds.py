"""Clean filesystems that differ from wholefs in a table, so that the kernel calls other methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.block.buffer import wait_on_buffer, write_dirty_buffer
from vfsim.filesystems.libfs import touch
from vfsim.filesystems.wholefs import (
    ExtentPages,
    WholeAtomicDirectory,
    WholeAttributes,
    WholeDirectory,
    WholePages,
    WholePlainFile,
)
from vfsim.fs.attr import vfs_getattr
from vfsim.fs.dcache import d_instantiate
from vfsim.fs.mount import Path
from vfsim.fs.process import current_process
from vfsim.fs.super import kill_block_super
from vfsim.mm.dirty import clear_page_dirty_for_io, end_page_writeback, set_page_writeback
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest.mutants import Ground

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.operations import FileOperations, InodeOperations
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.page import Page


class AtomicGround(Ground):
    """Opening is one step: ``atomic_open``."""

    directory: InodeOperations = WholeAtomicDirectory()


class CachedDirectory(WholeDirectory):
    """A directory whose names lie in the dcache only until memory is short, and are lost then."""

    def enter(self, dir: Inode, dentry: Dentry, inode: Inode) -> None:
        """Never sleeps.  Give a name its inode."""
        d_instantiate(dentry, inode)
        touch(dir)


class CachedGround(Ground):
    """Names and inodes can be thrown away while the filesystem is mounted."""

    directory: InodeOperations = CachedDirectory()

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  No name has a reference of its own."""
        kill_block_super(sb)


class ServedDirectory(WholeDirectory):
    """A directory as a file server exports it: with each new name, the client gets the directory's
    attributes as they are before anybody else changes it.
    """

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new directory, and the attributes that would be sent."""
        super().mkdir(dir, dentry, mode)
        root = current_process().root
        vfs_getattr(Path(root.mnt, dentry.d_parent))


class ServedGround(Ground):
    """Attributes are asked for with the directory locked, too (nfsd does that)."""

    directory: InodeOperations = ServedDirectory()


class SlowDirectory(WholeDirectory):
    """A directory that takes its time: whoever wants the same name waits for the first lookup."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  A millisecond later."""
        msleep(1)
        return super().lookup(dir, dentry, flags)


class SlowGround(Ground):
    """Lookups of one name meet."""

    directory: InodeOperations = SlowDirectory()


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


class BareGround(Ground):
    """Pages have no ``invalidatepage``, ``releasepage``, ``writepages`` ..."""

    pages: AddressSpaceOperations = ExtentPages()
