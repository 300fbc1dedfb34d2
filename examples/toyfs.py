"""toyfs: a directory tree with files, in memory.  Read it from top to bottom.

Five words are enough to follow:

* An *inode* is a file or a directory.  The kernel makes it; we hang our data on its
  ``i_private``: a directory gets a dict from names to inodes, a file gets its bytes.
* A *dentry* is a name that somebody asks about: ``d_name``, and the inode ``d_inode`` it leads to.
* A *superblock* (``sb``) is one mounted filesystem.
* A *reference* keeps an inode in memory: ``ihold`` takes one, ``iput`` puts one.  Each entry of our
  dicts has one; so has each dentry, which `d_instantiate` and `d_splice_alias` take over from us.
* A *link* is a name that an inode has: ``i_nlink`` counts them.  A directory also counts its own
  "." and the ".." of each directory in it.

Who locks what?  The kernel locks a directory (``i_rwsem``) before it asks us about its names, so
our dicts need no lock.  What is in a file is our own business: whoever writes it locks it, and
whoever reads it locks it *shared*, so that nobody sees a size without the bytes that belong to it.

Try ``vfsim check examples/toyfs.py``.  Then take the lock away, and try again.
"""

import os
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISDIR

from vfsim.filesystems.libfs import (
    MemoryFileOperations,
    MemoryFileSystem,
    emit_names,
    simple_inode,
    touch,
)
from vfsim.fs import (
    Dentry,
    DirContext,
    File,
    Inode,
    InodeOperations,
    SuperBlock,
    d_inode,
    d_instantiate,
    d_make_root,
    d_splice_alias,
    drop_nlink,
    ihold,
    inc_nlink,
    iput,
)
from vfsim.sim.errors import EFBIG, EINVAL, ENOTEMPTY


class ToyDir(InodeOperations):
    """The names in a directory.  The kernel has locked it whenever it calls one of these."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        inode = dir.i_private.get(dentry.d_name)
        if inode is not None:
            ihold(inode)  # for the dentry
        return d_splice_alias(inode, dentry)

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        self.enter(dir, dentry, toy_inode(dir.i_sb, dir, S_IFREG | mode, b""))

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.enter(dir, dentry, toy_inode(dir.i_sb, dir, S_IFDIR | mode, {}))
        inc_nlink(dir)  # the new directory's ".."

    def enter(self, dir: Inode, dentry: Dentry, inode: Inode) -> None:
        """Write a name into a directory."""
        ihold(inode)  # for our dict
        dir.i_private[dentry.d_name] = inode
        touch(dir)
        inode.i_ctime = dir.i_ctime
        d_instantiate(dentry, inode)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        inode = dir.i_private.pop(dentry.d_name)
        touch(dir)
        inode.i_ctime = dir.i_ctime
        drop_nlink(inode)
        iput(inode)  # our dict's; whoever has it open still has his own

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        victim = d_inode(dentry)
        if victim.i_private:
            raise ENOTEMPTY()
        drop_nlink(victim)  # its "."
        drop_nlink(dir)  # its ".."
        self.unlink(dir, dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        if flags & ~RENAME_NOREPLACE:
            raise EINVAL()
        if new_dentry.d_inode is not None:  # it is replaced
            remove = self.rmdir if S_ISDIR(new_dentry.d_inode.i_mode) else self.unlink
            remove(new_dir, new_dentry)
        inode = new_dir.i_private[new_dentry.d_name] = old_dir.i_private.pop(old_dentry.d_name)
        if S_ISDIR(inode.i_mode):  # its ".." moves along
            drop_nlink(old_dir)
            inc_nlink(new_dir)
        touch(old_dir, new_dir)
        inode.i_ctime = new_dir.i_ctime


class ToyFile(InodeOperations):
    """A file by its name."""

    def truncate(self, inode: Inode) -> None:
        """Its size was set, and the kernel has locked it: make the bytes fit."""
        inode.i_private = inode.i_private[: inode.i_size].ljust(inode.i_size, b"\0")


class ToyOpenFile(MemoryFileOperations):
    """A file that somebody has open."""

    def read(self, file: File, count: int, pos: int) -> bytes:
        inode = file.f_inode
        with inode.i_rwsem.shared():
            data = bytes(inode.i_private[pos : pos + count])
        file.accessed()
        return data

    def write(self, file: File, data: bytes, pos: int) -> int:
        inode = file.f_inode
        with inode.i_rwsem:
            old = inode.i_private
            if file.f_flags & os.O_APPEND:
                pos = len(old)
            if pos + len(data) > inode.i_sb.s_maxbytes:
                raise EFBIG()
            if not data:
                return 0
            file.remove_privs()  # a write takes set-user-ID bits away
            file.update_time()
            inode.i_private = old[:pos].ljust(pos, b"\0") + data + old[pos + len(data) :]
            inode.i_size = len(inode.i_private)
        return len(data)


class ToyOpenDir(MemoryFileOperations):
    """A directory that somebody has open, to list it.  The kernel has locked it."""

    def iterate(self, file: File, ctx: DirContext) -> None:
        emit_names(file, ctx, file.f_inode.i_private)


class ToyFS(MemoryFileSystem):
    """The filesystem type."""

    name = "toyfs"

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_maxbytes = 1 << 20  # files are small here
        sb.s_root = d_make_root(toy_inode(sb, None, S_IFDIR | 0o755, {}))

    def kill_sb(self, sb: SuperBlock) -> None:
        """Unmount: put the references of all our dicts, and let the kernel do the rest."""
        dirs = [inode for inode in sb.s_inodes if S_ISDIR(inode.i_mode)]
        for inode in [entry for dir in dirs for entry in dir.i_private.values()]:
            iput(inode)
        super().kill_sb(sb)


RENAME_NOREPLACE = 1
TABLES = {
    S_IFDIR: (ToyDir(), ToyOpenDir()),
    S_IFREG: (ToyFile(), ToyOpenFile()),
}


def toy_inode(sb: SuperBlock, dir: Inode | None, mode: int, content: object) -> Inode:
    """A new inode of the type in ``mode``, with a reference for the caller."""
    return simple_inode(sb, dir, mode, *TABLES[S_IFMT(mode)], content)
