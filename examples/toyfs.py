"""toyfs: a directory tree with files, in memory.  Read it from top to bottom.

* An *inode* is a file or a directory.  On its ``i_private`` we hang our data: a directory gets a
  dict from names to inodes, a file gets its bytes.
* A *dentry* is a name that somebody asks about, and the inode it leads to.
* A *superblock* (``sb``) is one mounted filesystem.

Who locks what?  The kernel locks a directory (``i_rwsem``) before it asks us about its names, so
our dicts need no lock.  A file is our own business: whoever writes it locks it, and whoever reads
it locks it *shared*, so that nobody sees a size without the bytes that belong to it.

Try ``vfsim check examples/toyfs.py``.  Then take the lock away, and try again.
"""

import os
from stat import S_IFDIR, S_IFREG, S_ISDIR

from vfsim import fs
from vfsim.filesystems import libfs
from vfsim.fs import Dentry, File, Inode, SuperBlock
from vfsim.sim.errors import EFBIG


class ToyDir(libfs.MemoryDirInodeOperations):
    """The names in a directory.  Finding, removing and renaming them in the dict is borrowed."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        self.enter(dir, dentry, toy_inode(dir.i_sb, dir, S_IFREG | mode))

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.enter(dir, dentry, toy_inode(dir.i_sb, dir, S_IFDIR | mode))


class ToyFile(fs.InodeOperations):
    """A file by its name."""

    def truncate(self, inode: Inode) -> None:
        """Its size was set, and the kernel has locked it: make the bytes fit."""
        inode.i_private = inode.i_private[: inode.i_size].ljust(inode.i_size, b"\0")


class ToyOpenFile(libfs.MemoryFileOperations):
    """A file that somebody has open."""

    def read(self, file: File, count: int, pos: int) -> bytes:
        with file.f_inode.i_rwsem.shared():
            data: bytes = file.f_inode.i_private[pos : pos + count]
        file.accessed()
        return data

    def write(self, file: File, data: bytes, pos: int) -> int:
        inode = file.f_inode
        with inode.i_rwsem:
            old = inode.i_private
            pos = len(old) if file.f_flags & os.O_APPEND else pos
            if pos + len(data) > inode.i_sb.s_maxbytes:
                raise EFBIG()
            if data:
                file.remove_privs()  # a write takes set-user-ID bits away
                file.update_time()
                inode.i_private = old[:pos].ljust(pos, b"\0") + data + old[pos + len(data) :]
                inode.i_size = len(inode.i_private)
        return len(data)


def toy_inode(sb: SuperBlock, dir: Inode | None, mode: int) -> Inode:
    """A new directory or file, with a reference for the caller."""
    if S_ISDIR(mode):
        return libfs.simple_inode(sb, dir, mode, ToyDir(), libfs.MemoryDirOperations(), {})
    return libfs.simple_inode(sb, dir, mode, ToyFile(), ToyOpenFile(), b"")


class ToyFS(libfs.MemoryFileSystem):
    """The filesystem type: how it is mounted.  Umount needs nothing special."""

    name = "toyfs"

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_maxbytes = 1 << 20  # files are small here
        sb.s_root = fs.d_make_root(toy_inode(sb, None, S_IFDIR | 0o755))
