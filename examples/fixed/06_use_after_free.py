"""The directory remembers what it wants to know about the inode, not the inode."""

from vfsim.filesystems.libfs import simple_getattr
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, KStat, Mount


class LatestDir(RamDirectory):
    """A directory whose device number is the inode number of its youngest file."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        super().create(dir, dentry, mode, excl)
        assert dentry.d_inode is not None
        dir.i_private = dentry.d_inode.i_ino

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        assert dentry.d_inode is not None
        stat = simple_getattr(mnt, dentry)
        latest = dentry.d_inode.i_private
        if latest is not None:
            stat.st_rdev = latest
        return stat


class LatestFS(RamFS):
    """ramfs with a memory."""

    name = "latestfs"
    directory = LatestDir()
