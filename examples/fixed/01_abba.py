"""Two private locks, always taken in the same order: the table's, then the log's."""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import Mutex


class ShelfInfo:
    """What a shelf keeps: how many books there are, and what happened."""

    def __init__(self) -> None:
        self.table_lock = Mutex("shelf_table")  # guards count
        self.log_lock = Mutex("shelf_log")  # guards log
        self.count = 0
        self.log: list[str] = []


class ShelfDir(RamDirectory):
    """A directory that counts its files and logs what is done to them."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        info: ShelfInfo = dir.i_sb.s_fs_info
        with info.table_lock:
            info.count += 1
            with info.log_lock:
                info.log.append(f"create {dentry.d_name}")
        super().create(dir, dentry, mode, excl)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        info: ShelfInfo = dir.i_sb.s_fs_info
        with info.table_lock:
            info.count -= 1
            with info.log_lock:
                info.log.append(f"unlink {dentry.d_name}")
        super().unlink(dir, dentry)


class Shelf(RamFS):
    """ramfs, with a shelf's directories."""

    name = "shelf"
    directory = ShelfDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = ShelfInfo()
