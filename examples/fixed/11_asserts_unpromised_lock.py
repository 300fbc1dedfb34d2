"""The method takes the lock that it needs. It is a lock of its own, since the directory's may be
held already, and one to spin on: a walk in RCU mode must not sleep.
"""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Inode, SuperBlock, generic_permission
from vfsim.locks import SpinLock


class StrictDir(RamDirectory):
    """A directory that counts who asks."""

    def permission(self, inode: Inode, mask: int) -> None:
        with inode.i_sb.s_fs_info:
            inode.i_private = (inode.i_private or 0) + 1
        generic_permission(inode, mask)


class StrictFS(RamFS):
    """ramfs at the door."""

    name = "strictfs"
    directory = StrictDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = SpinLock("strict_count")
