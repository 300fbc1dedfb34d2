"""The lock is a ``with`` block: it is released whether or not the directory could be removed."""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import Mutex


class Quota:
    """How many directories there may still be."""

    def __init__(self) -> None:
        self.lock = Mutex("quota")  # guards left
        self.left = 1000


class QuotaDir(RamDirectory):
    """Directories are counted."""

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        quota: Quota = dir.i_sb.s_fs_info
        with quota.lock:
            super().rmdir(dir, dentry)
            quota.left += 1


class QuotaFS(RamFS):
    """ramfs for the economical."""

    name = "quotafs"
    directory = QuotaDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Quota()
