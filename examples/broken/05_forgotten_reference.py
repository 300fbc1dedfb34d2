"""A reference that is taken and never put.

``link`` makes sure that the inode stays while it notes something about it, and forgets to let go
again. Nothing happens, until the filesystem is unmounted and the inode is still there.

Rule: leak.inode
Blamed: filesystem NoteDir.link
"""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, ihold


class NoteDir(RamDirectory):
    """A directory that keeps the names under which an inode was linked."""

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        inode = old_dentry.d_inode
        assert inode is not None
        ihold(inode)
        inode.i_private = [*(inode.i_private or []), dentry.d_name]
        super().link(old_dentry, dir, dentry)


class NoteFS(RamFS):
    """ramfs that takes notes."""

    name = "notefs"
    directory = NoteDir()
