"""The filesystem that is there before any other: directories to mount on, and nothing else.

Like Linux's rootfs it is mounted when the first thing is not mounted at "/", has no storage, and
keeps its tree in the dcache: each directory has one reference of its own on its dentry, taken by
``mkdir`` and put by ``rmdir`` or, for all that are left, by `kill_litter_super`.
"""

from __future__ import annotations

from stat import S_IFDIR
from typing import TYPE_CHECKING

from vfsim.fs.dcache import d_add, d_instantiate, d_make_root, dget, dput
from vfsim.fs.inode import drop_nlink, inc_nlink, inode_init_owner, new_inode
from vfsim.fs.operations import FileOperations, FileSystemType, InodeOperations
from vfsim.fs.read_write import generic_file_llseek
from vfsim.fs.super import kill_litter_super, mount_nodev
from vfsim.sim.errors import EINVAL, ENOTEMPTY

if TYPE_CHECKING:
    from typing import Any

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.fs.read_write import DirContext
    from vfsim.fs.super import SuperBlock


def _new_directory(sb: SuperBlock, dir: Inode | None, mode: int) -> Inode:
    inode = new_inode(sb)
    inode_init_owner(inode, dir, S_IFDIR | mode)
    inode.i_op = DIRECTORY
    inode.i_fop = LISTING
    inc_nlink(inode)
    return inode


class RootDirectory(InodeOperations):
    """A directory of directories."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  What is not in the dcache does not exist."""
        d_add(dentry, None)
        return None

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new directory, pinned in the dcache."""
        d_instantiate(dentry, _new_directory(dir.i_sb, dir, mode))
        dget(dentry)
        inc_nlink(dir)

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Unpin an empty directory."""
        if any(child.d_inode is not None and child.d_hashed for child in dentry.d_subdirs or ()):
            raise ENOTEMPTY()
        inode = dentry.d_inode
        assert inode is not None
        drop_nlink(inode)
        drop_nlink(inode)
        drop_nlink(dir)
        dput(dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  Move a directory, onto an empty one if there is one."""
        if flags & ~1:
            raise EINVAL()
        if new_dentry.d_inode is not None:
            self.rmdir(new_dir, new_dentry)
        if new_dir is not old_dir:
            drop_nlink(old_dir)
            inc_nlink(new_dir)


class RootListing(FileOperations):
    """Lists the children that the dcache has."""

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Never sleeps.  By position."""
        return generic_file_llseek(file, offset, whence)

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Sleeps.  The children, by the place they were given when they were made."""
        if not ctx.emit_dots(file):
            return
        for child in list(file.f_path.dentry.d_subdirs or ()):
            inode = child.d_inode
            if inode is None or child.d_child_pos < ctx.pos or not child.d_hashed:
                continue
            if not ctx.emit(child.d_name, inode.i_ino, inode.i_mode >> 12):
                return
            ctx.pos = child.d_child_pos + 1


DIRECTORY = RootDirectory()
LISTING = RootListing()


class RootFS(FileSystemType):
    """The type of the first filesystem of a world."""

    name = "rootfs"

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  A fresh, empty one."""
        return mount_nodev(self, flags, data, _fill)

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Let go of all directories, then as always."""
        kill_litter_super(sb)


def _fill(sb: SuperBlock, data: Any) -> None:
    sb.s_root = d_make_root(_new_directory(sb, None, 0o755))
