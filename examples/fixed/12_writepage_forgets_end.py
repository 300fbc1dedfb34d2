"""The writeback that ``writepage`` begins, it ends."""

from vfsim.filesystems.libfs import SimpleAddressSpaceOperations, SimpleFileOperations
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import File, SuperBlock, kill_litter_super
from vfsim.mm.dirty import end_page_writeback, set_page_dirty_nobuffers, set_page_writeback
from vfsim.mm.filemap import generic_file_fsync
from vfsim.mm.page import Page, unlock_page
from vfsim.mm.writeback import WritebackControl, bdi_destroy, bdi_setup_and_register


class SafePages(SimpleAddressSpaceOperations):
    """Pages that are safe where they are."""

    def set_page_dirty(self, page: Page) -> bool:
        return set_page_dirty_nobuffers(page)

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        unlock_page(page)
        end_page_writeback(page)
        return 0


class SafeFile(SimpleFileOperations):
    """Files whose fsync writes their pages."""

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        generic_file_fsync(file, start, end, datasync)


class SafeFS(RamFS):
    """ramfs with writeback."""

    name = "safefs"
    pages = SafePages()
    open_file = SafeFile()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        bdi_setup_and_register(sb, "safefs")
        super().fill_super(sb, data)

    def kill_sb(self, sb: SuperBlock) -> None:
        bdi = sb.s_bdi
        kill_litter_super(sb)
        if bdi is not None:
            bdi_destroy(bdi)
