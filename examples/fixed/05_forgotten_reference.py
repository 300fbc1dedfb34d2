"""Every reference that ``link`` takes, it puts."""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, ihold, iput


class NoteDir(RamDirectory):
    """A directory that keeps the names under which an inode was linked."""

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        inode = old_dentry.d_inode
        assert inode is not None
        ihold(inode)
        inode.i_private = [*(inode.i_private or []), dentry.d_name]
        super().link(old_dentry, dir, dentry)
        iput(inode)


class NoteFS(RamFS):
    """ramfs that takes notes."""

    name = "notefs"
    directory = NoteDir()
