"""ramfs: files in the page cache, names in the dcache, and nothing below.

The smallest complete filesystem of Linux and of vfsim: nearly everything is borrowed from
`vfsim.filesystems.libfs`.  What is its own: making inodes (`ramfs_get_inode`), and the reference on
each dentry that keeps its name in memory, taken in `RamDirectory.enter` and put by
``simple_unlink``, or at umount by ``kill_litter_super``.

Beyond Linux's ramfs it has what tmpfs has: extended attributes (in `RamInode`, one store per inode;
``user.`` ones as well, which tmpfs got later), access control lists (in the cache alone), files
without a name (O_TMPFILE), and renames that exchange or leave a whiteout behind.

The mount option ``mode=`` sets the root's permissions in octal.  The counterpart of
``fs/ramfs/inode.c`` and, as far as names and attributes go, of ``mm/shmem.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR, S_ISLNK, S_ISREG
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
    simple_empty,
    simple_rename,
    simple_rename_exchange,
    touch,
)
from vfsim.fs.acl_cache import cache_no_acl
from vfsim.fs.acl_xattr import (
    PosixAclAccessHandler,
    PosixAclDefaultHandler,
    posix_acl_chmod,
    simple_acl_create,
    simple_set_acl,
)
from vfsim.fs.attr import ATTR_MODE, simple_setattr
from vfsim.fs.dcache import (
    Dentry,
    d_alloc,
    d_instantiate,
    d_make_root,
    d_rehash,
    d_tmpfile,
    dget,
    dput,
)
from vfsim.fs.directory import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from vfsim.fs.inode import (
    Inode,
    current_time,
    generic_delete_inode,
    inc_nlink,
    init_special_inode,
    inode_init_owner,
    iput,
    new_inode,
)
from vfsim.fs.operations import FileSystemType, InodeOperations, XattrHandler
from vfsim.fs.simple_xattr import SimpleXattrs, simple_xattr_list
from vfsim.fs.super import (
    MAX_LFS_FILESIZE,
    SB_NOSEC,
    SB_POSIXACL,
    kill_litter_super,
    mount_nodev,
)
from vfsim.fs.xattr import (
    XATTR_SECURITY_PREFIX,
    XATTR_TRUSTED_PREFIX,
    XATTR_USER_PREFIX,
)
from vfsim.sim.errors import EINVAL, ENODATA, ENOTEMPTY
from vfsim.sim.shared import kernel_struct

if TYPE_CHECKING:
    from vfsim.fs.attr import IAttr
    from vfsim.fs.operations import FileOperations, SuperOperations
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.operations import AddressSpaceOperations

RAMFS_MAGIC = 0x858458F6


@attrs.define
class RamInfo:
    """What a mount of ramfs was told (s_fs_info).  mode: permissions of the root."""

    mode: int = 0o755


@kernel_struct
class RamInode(Inode):
    """An inode and its extended attributes (Linux: ``struct shmem_inode_info``).

    Attributes:
        xattrs: made for the first attribute, under ``i_rwsem``; None before.
    """

    xattrs: SimpleXattrs | None

    def __init__(self, sb: SuperBlock) -> None:
        Inode.__init__(self, sb)
        self.xattrs = None

    def store(self) -> SimpleXattrs:
        """Never sleeps.  The store, made if need be.  The caller holds ``i_rwsem`` exclusive."""
        if self.xattrs is None:
            self.xattrs = SimpleXattrs()
        return self.xattrs


# -- attributes ------------------------------------------------------------------------------------


class RamXattrs(XattrHandler):
    """Extended attributes in the inode's store, under their full names."""

    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Never sleeps.  From the store.  Raises ENODATA."""
        assert isinstance(inode, RamInode)
        if inode.xattrs is None:
            raise ENODATA()
        return inode.xattrs.get(self.prefix + name)

    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Never sleeps.  Into the store.  Raises EEXIST, ENODATA."""
        assert isinstance(inode, RamInode)
        inode.store().set(self.prefix + name, value, flags)


class RamUserXattrs(RamXattrs):
    """``user.``"""

    prefix = XATTR_USER_PREFIX


class RamTrustedXattrs(RamXattrs):
    """``trusted.``"""

    prefix = XATTR_TRUSTED_PREFIX


class RamSecurityXattrs(RamXattrs):
    """``security.``"""

    prefix = XATTR_SECURITY_PREFIX


class RamListing(InodeOperations):
    """What shows its extended attributes."""

    def listxattr(self, dentry: Dentry) -> list[str]:
        """Never sleeps.  Lists, then what is in the store."""
        inode = dentry.d_inode
        assert isinstance(inode, RamInode)
        return simple_xattr_list(inode, inode.xattrs)


class RamAttributes(RamListing):
    """What has permissions: everything but symlinks."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Into the inode; a list follows the mode."""
        simple_setattr(dentry, attr)
        if attr.ia_valid & ATTR_MODE:
            assert dentry.d_inode is not None
            posix_acl_chmod(dentry.d_inode, dentry.d_inode.i_mode)

    def set_acl(self, inode: Inode, acl: Any, type: int) -> None:
        """Never sleeps.  Into the cache."""
        simple_set_acl(inode, acl, type)


class RamFile(RamAttributes, SimpleFileInodeOperations):
    """A file of ramfs."""


class RamSymlink(RamListing, PageSymlinkInodeOperations):
    """A symlink of ramfs."""


# -- names -----------------------------------------------------------------------------------------


class RamDirectory(RamAttributes, SimpleDirInodeOperations):
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

    def tmpfile(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new file that no name keeps."""
        d_tmpfile(dentry, ramfs_get_inode(dir.i_sb, dir, mode | S_IFREG, 0))

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  Move, exchange, or move and leave a whiteout: a character device 0, 0."""
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
            raise EINVAL()
        if flags & RENAME_EXCHANGE:
            simple_rename_exchange(old_dir, old_dentry, new_dir, new_dentry)
            return
        if not simple_empty(new_dentry):
            raise ENOTEMPTY()
        if flags & RENAME_WHITEOUT:
            self._whiteout(old_dir, old_dentry)
        simple_rename(old_dir, old_dentry, new_dir, new_dentry, 0)

    def _whiteout(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  It is hashed beside the name that is about to move away: who looks finds one of
        the two, never neither.
        """
        whiteout = d_alloc(dentry.d_parent, dentry.d_name)
        try:
            self.mknod(dir, whiteout, S_IFCHR, 0)
        finally:
            dput(whiteout)
        d_rehash(whiteout)


# -- the superblock --------------------------------------------------------------------------------


class RamSuper(SimpleSuperOperations):
    """Inodes go as soon as nobody uses them: a name is what keeps them."""

    def alloc_inode(self, sb: SuperBlock) -> Inode:
        """Never sleeps.  One that can have extended attributes."""
        return RamInode(sb)

    def drop_inode(self, inode: Inode) -> bool:
        """Never sleeps.  Always."""
        return generic_delete_inode(inode)

    def show_options(self, dentry: Dentry) -> str:
        """Never sleeps.  The mode, if it is not the usual one (and known: who derives from ramfs
        may keep something else in ``s_fs_info``).
        """
        info = dentry.d_sb.s_fs_info
        if not isinstance(info, RamInfo) or info.mode == 0o755:
            return ""
        return f",mode={info.mode:o}"


def ramfs_get_inode(sb: SuperBlock, dir: Inode | None, mode: int, dev: int) -> Inode:
    """Sleeps.  A new inode of the type in ``mode``, owned by the running task, with what it
    inherits from ``dir``.

    Raises:
        OSError: ENOMEM, what reading the directory's default list says.
    """
    ram: RamFS = sb.s_type  # type: ignore[assignment]
    inode = new_inode(sb)
    inode_init_owner(inode, dir, mode)
    inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(inode)
    if S_ISREG(mode):
        inode.i_op = ram.file
        inode.i_fop = ram.open_file
        inode.i_aops = ram.pages
    elif S_ISDIR(mode):
        inode.i_op = ram.directory
        inode.i_fop = ram.open_directory
        inc_nlink(inode)  # its own "."
    elif S_ISLNK(mode):
        inode.i_op = ram.symlink
        inode.i_aops = ram.pages
    else:
        inode.i_op = ram.special
        init_special_inode(inode, inode.i_mode, dev)
    if dir is None:
        cache_no_acl(inode)
        return inode
    try:
        ram.inherit(dir, inode)
    except OSError:
        iput(inode)
        raise
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
        directory, open_directory, file, open_file, symlink, special, pages, super: the tables that
            its inodes, files and superblocks get.
        user_xattrs, trusted_xattrs, security_xattrs, access_list, default_list: its handlers.

    A filesystem that differs in one of them subclasses `RamFS` and replaces that one.
    """

    name = "ramfs"
    directory: InodeOperations = RamDirectory()
    open_directory: FileOperations = SimpleDirOperations()
    file: InodeOperations = RamFile()
    open_file: FileOperations = SimpleFileOperations()
    symlink: InodeOperations = RamSymlink()
    special: InodeOperations = RamAttributes()
    pages: AddressSpaceOperations = SimpleAddressSpaceOperations()
    super: SuperOperations = RamSuper()
    user_xattrs: XattrHandler = RamUserXattrs()
    trusted_xattrs: XattrHandler = RamTrustedXattrs()
    security_xattrs: XattrHandler = RamSecurityXattrs()
    access_list: XattrHandler = PosixAclAccessHandler()
    default_list: XattrHandler = PosixAclDefaultHandler()

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  Each mount is a new, empty one."""
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  The superblock and its root."""
        sb.s_fs_info = parse_options(data)
        sb.s_maxbytes = MAX_LFS_FILESIZE
        sb.s_magic = RAMFS_MAGIC
        sb.s_op = self.super
        self.allow_xattrs(sb)
        sb.s_root = d_make_root(ramfs_get_inode(sb, None, S_IFDIR | sb.s_fs_info.mode, 0))

    def allow_xattrs(self, sb: SuperBlock) -> None:
        """Never sleeps.  Extended attributes and access control lists, from now on."""
        sb.s_flags |= SB_POSIXACL | SB_NOSEC
        sb.s_xattr = (
            self.access_list,
            self.default_list,
            self.security_xattrs,
            self.trusted_xattrs,
            self.user_xattrs,
        )

    def inherit(self, dir: Inode, inode: Inode) -> None:
        """Sleeps.  Give a new inode its mode and its lists."""
        simple_acl_create(dir, inode)

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Let go of all names, then as always."""
        kill_litter_super(sb)
