"""A lock that is not released when something goes wrong.

Removing a directory takes the quota's lock, removes it, gives the space back and unlocks. If the
directory is not empty, the removal raises ENOTEMPTY, and the lock stays behind.

Rule: inode_operations.rmdir.exit
Blamed: filesystem QuotaDir.rmdir
"""

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
        quota.lock.lock()
        super().rmdir(dir, dentry)
        quota.left += 1
        quota.lock.unlock()


class QuotaFS(RamFS):
    """ramfs for the economical."""

    name = "quotafs"
    directory = QuotaDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Quota()
