"""Two tasks change one number without a lock.

Each new file takes the next inode number. The kernel locks the directory that a file is made in,
so two files of one directory are made one after the other; two files of *different* directories
are made at once, and get the same number.

Rule: result
Blamed: filesystem SerialFS
"""

from typing import Annotated

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import Mutex
from vfsim.sim.shared import kernel_struct, shared


@kernel_struct
class Serial:
    """The inode number that comes next."""

    lock: Mutex
    next: Annotated[int, shared]

    def take(self) -> int:
        """Sleeps.  A number that nobody else has."""
        number = self.next
        self.next = number + 1
        return number


class SerialDir(RamDirectory):
    """A directory whose files are numbered by the filesystem."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        number = dir.i_sb.s_fs_info.take()
        super().mknod(dir, dentry, mode, dev)
        assert dentry.d_inode is not None
        dentry.d_inode.i_ino = number


class SerialFS(RamFS):
    """ramfs with inode numbers of its own."""

    name = "serialfs"
    directory = SerialDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Serial(Mutex("serial"), 1000)
