"""ramfs: files in the page cache, names in the dcache, and nothing below.

The smallest complete filesystem of Linux and of vfsim: nearly everything is borrowed from
`vfsim.filesystems.libfs`.  What is its own: making inodes (`ramfs_get_inode`), and the reference on
each dentry that keeps its name in memory, taken in `RamDirectory.enter` and put by
``simple_unlink``, or at umount by ``kill_litter_super``.

The mount option ``mode=`` sets the root's permissions in octal.  The counterpart of
``fs/ramfs/inode.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.filesystems.libfs import (
    PageSymlinkInodeOperations,
    SimpleAddressSpaceOperations,
    SimpleDirInodeOperations,
    SimpleDirOperations,
    SimpleFileInodeOperations,
    SimpleFileOperations,
    SimpleSuperOperations,
    page_symlink,
    touch,
)
from vfsim.fs.dcache import Dentry, d_instantiate, d_make_root, dget
from vfsim.fs.inode import (
    current_time,
    generic_delete_inode,
    inc_nlink,
    init_special_inode,
    inode_init_owner,
    iput,
    new_inode,
)
from vfsim.fs.operations import FileSystemType
from vfsim.fs.super import MAX_LFS_FILESIZE, kill_litter_super, mount_nodev
from vfsim.sim.errors import EINVAL

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.operations import FileOperations, InodeOperations, SuperOperations
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.operations import AddressSpaceOperations

RAMFS_MAGIC = 0x858458F6


@attrs.define
class RamInfo:
    """What a mount of ramfs was told (s_fs_info).  mode: permissions of the root."""

    mode: int = 0o755


class RamDirectory(SimpleDirInodeOperations):
    """A directory of ramfs."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        """Sleeps.  A new regular file."""
        self.mknod(dir, dentry, mode | S_IFREG, 0)

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        """Sleeps.  A new inode of any type."""
        self.enter(dir, dentry, ramfs_get_inode(dir.i_sb, dir, mode, dev))

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new directory: one more link to its parent."""
        self.mknod(dir, dentry, mode | S_IFDIR, 0)
        inc_nlink(dir)

    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        """Sleeps.  A new symlink, its target in its page cache."""
        inode = ramfs_get_inode(dir.i_sb, dir, S_IFLNK | 0o777, 0)
        try:
            page_symlink(inode, symname)
        except OSError:
            iput(inode)
            raise
        self.enter(dir, dentry, inode)

    def enter(self, dir: Inode, dentry: Dentry, inode: Inode) -> None:
        """Never sleeps.  Give a name its inode, and a reference that keeps it in the dcache."""
        d_instantiate(dentry, inode)
        dget(dentry)
        touch(dir)


class RamSuper(SimpleSuperOperations):
    """Inodes go as soon as nobody uses them: a name is what keeps them."""

    def drop_inode(self, inode: Inode) -> bool:
        """Never sleeps.  Always."""
        return generic_delete_inode(inode)

    def show_options(self, dentry: Dentry) -> str:
        """Never sleeps.  The mode, if it is not the usual one."""
        info: RamInfo = dentry.d_sb.s_fs_info
        return "" if info.mode == 0o755 else f",mode={info.mode:o}"


def ramfs_get_inode(sb: SuperBlock, dir: Inode | None, mode: int, dev: int) -> Inode:
    """Sleeps.  A new inode of the type in ``mode``, owned by the running task."""
    ram: RamFS = sb.s_type  # type: ignore[assignment]
    inode = new_inode(sb)
    inode_init_owner(inode, dir, mode)
    inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(inode)
    if S_ISREG(mode):
        inode.i_op = ram.file
        inode.i_fop = ram.open_file
        inode.i_mapping.a_ops = ram.pages
    elif S_ISDIR(mode):
        inode.i_op = ram.directory
        inode.i_fop = ram.open_directory
        inc_nlink(inode)  # its own "."
    elif S_ISLNK(mode):
        inode.i_op = ram.symlink
        inode.i_mapping.a_ops = ram.pages
    else:
        init_special_inode(inode, mode, dev)
    return inode


def parse_options(data: Any) -> RamInfo:
    """Never sleeps.  Read ``mode=755``; options that ramfs does not know are left alone, as Linux
    does.

    Raises:
        OSError: EINVAL, if the mode is no octal number.
    """
    info = RamInfo()
    for option in str(data or "").split(","):
        name, _, value = option.partition("=")
        if name == "mode":
            try:
                info.mode = int(value, 8) & 0o7777
            except ValueError:
                raise EINVAL(option) from None
    return info


class RamFS(FileSystemType):
    """The type.

    Attributes:
        directory, open_directory, file, open_file, symlink, pages, super: the tables that its
            inodes, files and superblocks get.  A filesystem that differs in one of them subclasses
            `RamFS` and replaces that one.
    """

    name = "ramfs"
    directory: InodeOperations = RamDirectory()
    open_directory: FileOperations = SimpleDirOperations()
    file: InodeOperations = SimpleFileInodeOperations()
    open_file: FileOperations = SimpleFileOperations()
    symlink: InodeOperations = PageSymlinkInodeOperations()
    pages: AddressSpaceOperations = SimpleAddressSpaceOperations()
    super: SuperOperations = RamSuper()

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  Each mount is a new, empty one."""
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  The superblock and its root."""
        sb.s_fs_info = parse_options(data)
        sb.s_maxbytes = MAX_LFS_FILESIZE
        sb.s_magic = RAMFS_MAGIC
        sb.s_op = self.super
        sb.s_root = d_make_root(ramfs_get_inode(sb, None, S_IFDIR | sb.s_fs_info.mode, 0))

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Let go of all names, then as always."""
        kill_litter_super(sb)
