"""toyfs: a directory tree with files, in memory.  Read it from top to bottom.

* An *inode* is a file or a directory.  On its ``i_private`` we hang our data: a directory gets a
  dict from names to inodes, a file gets its bytes.
* A *dentry* is a name that somebody asks about: ``d_name``, and the inode ``d_inode`` it leads to.
* A *superblock* (``sb``) is one mounted filesystem.
* A *reference* keeps an inode in memory: ``ihold`` takes one, ``iput`` puts one.  Each entry of our
  dicts has one; so has each dentry, which `d_instantiate` and `d_splice_alias` take over from us.
* A *link* is a name that an inode has: ``i_nlink`` counts them, and in a directory "." and "..".

Who locks what?  The kernel locks a directory (``i_rwsem``) before it asks us about its names, so
our dicts need no lock.  A file is our own business: whoever writes it locks it, and whoever reads
it locks it *shared*, so that nobody sees a size without the bytes that belong to it.

Try ``vfsim check examples/toyfs.py``.  Then take the lock away, and try again.
"""

import os
from stat import S_IFDIR, S_IFREG, S_ISDIR

from vfsim import fs
from vfsim.filesystems.libfs import MemoryFileOperations, MemoryFileSystem, emit_names, simple_inode
from vfsim.fs import Dentry, File, Inode
from vfsim.sim.errors import EFBIG, EINVAL, ENOTEMPTY


class ToyDir(fs.InodeOperations):
    """The names in a directory.  The kernel has locked it whenever it calls one of these."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        inode = dir.i_private.get(dentry.d_name)
        if inode is not None:
            fs.ihold(inode)  # for the dentry
        return fs.d_splice_alias(inode, dentry)

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        self.enter(dir, dentry, toy_file(dir.i_sb, dir, mode))

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.enter(dir, dentry, toy_dir(dir.i_sb, dir, mode))
        fs.inc_nlink(dir)  # the new directory's ".."

    def enter(self, dir: Inode, dentry: Dentry, inode: Inode) -> None:
        """Write the name of a new inode into a directory."""
        fs.ihold(inode)  # for our dict
        dir.i_private[dentry.d_name] = inode
        dir.i_mtime = dir.i_ctime = inode.i_ctime
        fs.d_instantiate(dentry, inode)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        inode = dir.i_private.pop(dentry.d_name)
        dir.i_mtime = dir.i_ctime = inode.i_ctime = fs.current_time(dir)
        fs.drop_nlink(inode)
        fs.iput(inode)  # our dict's; whoever has it open still has his own

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        if fs.d_inode(dentry).i_private:
            raise ENOTEMPTY()
        fs.drop_nlink(fs.d_inode(dentry))  # its "."
        fs.drop_nlink(dir)  # its ".."
        self.unlink(dir, dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        if flags & ~fs.RENAME_NOREPLACE:
            raise EINVAL()
        if new_dentry.d_inode is not None:  # it is replaced
            remove = self.rmdir if S_ISDIR(new_dentry.d_inode.i_mode) else self.unlink
            remove(new_dir, new_dentry)
        inode = new_dir.i_private[new_dentry.d_name] = old_dir.i_private.pop(old_dentry.d_name)
        if S_ISDIR(inode.i_mode):  # its ".." moves along
            fs.drop_nlink(old_dir)
            fs.inc_nlink(new_dir)
        for dir in old_dir, new_dir:
            dir.i_mtime = dir.i_ctime = inode.i_ctime = fs.current_time(dir)


class ToyFile(fs.InodeOperations):
    """A file by its name."""

    def truncate(self, inode: Inode) -> None:
        """Its size was set, and the kernel has locked it: make the bytes fit."""
        inode.i_private = inode.i_private[: inode.i_size].ljust(inode.i_size, b"\0")


class ToyOpenFile(MemoryFileOperations):
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


class ToyOpenDir(MemoryFileOperations):
    """A directory that somebody has open, to list it.  The kernel has locked it."""

    def iterate(self, file: File, ctx: fs.DirContext) -> None:
        emit_names(file, ctx, file.f_inode.i_private)


def toy_file(sb: fs.SuperBlock, dir: Inode, mode: int) -> Inode:
    """A new file, with a reference for the caller."""
    return simple_inode(sb, dir, S_IFREG | mode, ToyFile(), ToyOpenFile(), b"")


def toy_dir(sb: fs.SuperBlock, dir: Inode | None, mode: int) -> Inode:
    """A new directory, with a reference for the caller."""
    return simple_inode(sb, dir, S_IFDIR | mode, ToyDir(), ToyOpenDir(), {})


class ToyFS(MemoryFileSystem):
    """The filesystem type: how it is mounted, and unmounted."""

    name = "toyfs"

    def fill_super(self, sb: fs.SuperBlock, data: str) -> None:
        sb.s_maxbytes = 1 << 20  # files are small here
        sb.s_root = fs.d_make_root(toy_dir(sb, None, 0o755))

    def kill_sb(self, sb: fs.SuperBlock) -> None:
        """Put the references of all our dicts, and let the kernel do the rest."""
        dirs = [inode for inode in sb.s_inodes if S_ISDIR(inode.i_mode)]
        for inode in [entry for dir in dirs for entry in dir.i_private.values()]:
            fs.iput(inode)
        super().kill_sb(sb)
