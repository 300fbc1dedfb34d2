"""wholefs: every method that the kernel can call, each doing the least that is right.

Names live in the dcache and inodes in memory, as in ramfs; the bytes of files lie on a disk, so
that writeback and interrupts take part.  There is nothing to learn here about storing files; it is
the ground on which ``vfsim selftest`` stands: a mutant is wholefs with one method replaced.

Extended attributes, access control lists among them, are in the inode's store; lists are read from
there when somebody asks.

A file's data has an `Extent` of `BLOCKS` blocks on the disk, taken when its first byte is written
and given back when the inode goes.  What was never written is a hole.

Who locks what?  The kernel locks directories and files (``i_rwsem``) before it changes them.  The
free extents are shared by all files, but taking one and giving it back is one step each.
"""

from __future__ import annotations

import os
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISREG
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.filesystems.blockfs import BlockAddressSpaceOperations
from vfsim.filesystems.libfs import (
    SimpleDirOperations,
    SimpleFileInodeOperations,
    SimpleFileOperations,
    SimpleSuperOperations,
)
from vfsim.filesystems.ramfs import (
    RamAttributes,
    RamDirectory,
    RamFS,
    RamInode,
    RamListing,
    RamTrustedXattrs,
    RamUserXattrs,
    parse_options,
    ramfs_get_inode,
)
from vfsim.fs.acl import ACL_TYPE_ACCESS, ACL_TYPE_DEFAULT
from vfsim.fs.acl_cache import forget_all_cached_acls, set_cached_acl
from vfsim.fs.acl_xattr import (
    XATTR_NAME_POSIX_ACL_ACCESS,
    XATTR_NAME_POSIX_ACL_DEFAULT,
    posix_acl_chmod,
    posix_acl_create,
    posix_acl_from_xattr,
    posix_acl_to_xattr,
    posix_acl_update_mode,
)
from vfsim.fs.attr import (
    ATTR_MODE,
    ATTR_SIZE,
    generic_update_time,
    setattr_copy,
    setattr_prepare,
    simple_setattr,
)
from vfsim.fs.d_walk import d_genocide
from vfsim.fs.dcache import d_add, d_in_lookup, d_make_root, d_tmpfile
from vfsim.fs.fiemap import generic_block_fiemap
from vfsim.fs.icache import clear_inode, truncate_inode_pages_final
from vfsim.fs.inode import current_time, generic_drop_inode, insert_inode_hash, iput
from vfsim.fs.open import finish_open
from vfsim.fs.operations import DentryOperations, FileOperations, InodeOperations, XattrHandler
from vfsim.fs.permission import generic_permission
from vfsim.fs.process import CAP_SYS_ADMIN, capable
from vfsim.fs.super import kill_block_super, mount_bdev, sb_min_blocksize, sync_filesystem
from vfsim.fs.writers import sb_end_intwrite, sb_start_intwrite
from vfsim.fs.xattr import shown_xattrs
from vfsim.mm.buffers import (
    block_invalidatepage,
    block_truncate_page,
    try_to_free_buffers,
)
from vfsim.mm.dirty import set_page_dirty_buffers
from vfsim.mm.filemap import generic_file_fsync, generic_file_read, generic_file_write
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.mm.truncate import truncate_setsize
from vfsim.mm.writeback import mark_inode_dirty
from vfsim.mm.writepages import generic_writepages
from vfsim.sim.errors import ENOSPC

if TYPE_CHECKING:
    from vfsim.fs.acl import PosixAcl
    from vfsim.fs.attr import IAttr
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.fs.operations import SuperOperations
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl

BLOCK, BLOCKS = 2048, 16


# -- where the bytes are ---------------------------------------------------------------------------


@attrs.define(eq=False)
class Space:
    """The disk of one mount (s_fs_info).  free: the first blocks of the extents that nobody has."""

    free: list[int]


@attrs.define(eq=False)
class Extent:
    """Where a file's bytes are (i_private): its first block, and a mask of those written."""

    first: int
    mask: int = 0


def get_block(inode: Inode, iblock: int, create: bool) -> int | None:
    """Never sleeps.  The block on the disk; None for a hole, unless it shall be filled.

    Raises:
        OSError: ENOSPC.
    """
    extent: Extent | None = inode.i_private
    if create:
        if extent is None:
            extent = inode.i_private = Extent(_take(inode.i_sb.s_fs_info))
        extent.mask |= 1 << iblock
    return extent.first + iblock if extent is not None and extent.mask & 1 << iblock else None


def _take(space: Space) -> int:
    if not space.free:
        raise ENOSPC()
    return space.free.pop()


def cut(inode: Inode) -> None:
    """Never sleeps.  What lies behind the end of a file are holes again."""
    extent: Extent | None = inode.i_private
    if extent is not None:
        extent.mask &= (1 << -(-inode.i_size // BLOCK)) - 1


def whole_inode(dir: Inode, mode: int, dev: int = 0) -> Inode:
    """Sleeps.  A new inode that can be found by its number, so that it is written back."""
    inode = ramfs_get_inode(dir.i_sb, dir, mode, dev)
    insert_inode_hash(inode)
    return inode


LISTS = {
    ACL_TYPE_ACCESS: XATTR_NAME_POSIX_ACL_ACCESS,
    ACL_TYPE_DEFAULT: XATTR_NAME_POSIX_ACL_DEFAULT,
}


def keep_list(inode: Inode, acl: PosixAcl | None, kind: int) -> None:
    """Never sleeps.  Put an access control list into the store, or take it out."""
    assert isinstance(inode, RamInode)
    if acl is not None or inode.xattrs is not None:
        value = None if acl is None else posix_acl_to_xattr(acl)
        inode.store().set(LISTS[kind], value, 0)


# -- the tables ------------------------------------------------------------------------------------


class WholeNames(DentryOperations):
    """Names are compared byte by byte, and believed."""

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Still right."""
        return True

    def d_weak_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Still right."""
        return True

    def d_hash(self, dentry: Dentry, name: str) -> str:
        """Never sleeps.  The name itself."""
        return name

    def d_compare(self, dentry: Dentry, len: int, str: str, name: str) -> int:
        """Never sleeps.  0 if they are equal."""
        return int(str != name)

    def d_delete(self, dentry: Dentry) -> bool:
        """Never sleeps.  Keep it."""
        return False

    def d_init(self, dentry: Dentry) -> None:
        """Never sleeps.  There is nothing to set up."""

    def d_release(self, dentry: Dentry) -> None:
        """Never sleeps.  There is nothing to free."""

    def d_prune(self, dentry: Dentry) -> None:
        """Never sleeps.  Good-bye."""

    def d_iput(self, dentry: Dentry, inode: Inode) -> None:
        """Sleeps.  Put the inode."""
        iput(inode)

    def d_dname(self, dentry: Dentry) -> str:
        """Never sleeps.  Its name."""
        return f"whole:{dentry.d_name}"


class WholeUserXattrs(RamUserXattrs):
    """``user.``"""

    def list(self, dentry: Dentry) -> bool:
        """Never sleeps.  Everybody may see them."""
        return True


class WholeTrustedXattrs(RamTrustedXattrs):
    """``trusted.``"""

    def list(self, dentry: Dentry) -> bool:
        """Never sleeps.  The administrator may."""
        return capable(CAP_SYS_ADMIN)


class WholeAttributes(RamListing, SimpleFileInodeOperations):
    """What all types of files have in common."""

    def listxattr(self, dentry: Dentry) -> list[str]:
        """Sleeps.  Of what is in the store, what its handler shows."""
        inode = dentry.d_inode
        assert isinstance(inode, RamInode)
        return shown_xattrs(dentry, inode.xattrs.names() if inode.xattrs is not None else ())

    def permission(self, inode: Inode, mask: int) -> None:
        """Never sleeps.  Mode bits and capabilities decide."""
        generic_permission(inode, mask)

    def update_time(self, inode: Inode, time: int, flags: int) -> None:
        """Sleeps.  In memory."""
        generic_update_time(inode, time, flags)


class WholeLists(RamAttributes):
    """Access control lists, of all types but symlinks."""

    def get_acl(self, inode: Inode, type: int) -> Any:
        """Never sleeps.  From the store."""
        assert isinstance(inode, RamInode)
        stored = inode.xattrs
        if stored is None or LISTS[type] not in stored.names():
            return None
        return posix_acl_from_xattr(stored.get(LISTS[type]))

    def set_acl(self, inode: Inode, acl: Any, type: int) -> None:
        """Never sleeps.  Into the store, and the cache."""
        if type == ACL_TYPE_ACCESS:
            inode.i_mode, acl = posix_acl_update_mode(inode, acl)
        inode.i_ctime = current_time(inode)
        keep_list(inode, acl, type)
        set_cached_acl(inode, type, acl)


class WholeDirectory(WholeLists, RamDirectory, WholeAttributes):
    """A directory in the dcache."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        """Sleeps.  A new inode of any type."""
        self.enter(dir, dentry, whole_inode(dir, mode, dev))

    def tmpfile(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new file without a name."""
        d_tmpfile(dentry, whole_inode(dir, mode | S_IFREG))

    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        """Sleeps.  A new symlink, its target in ``i_private``."""
        inode = whole_inode(dir, S_IFLNK | 0o777)
        inode.i_private = symname
        inode.i_size = len(os.fsencode(symname))
        self.enter(dir, dentry, inode)


class WholeAtomicDirectory(WholeDirectory):
    """One that looks up, creates and opens in one step, as a server would."""

    def atomic_open(
        self, dir: Inode, dentry: Dentry, file: File, open_flag: int, create_mode: int
    ) -> Any:
        """Sleeps.  Create it if asked to, and open it."""
        if d_in_lookup(dentry):
            d_add(dentry, None)
        created = False
        if dentry.d_inode is None and open_flag & os.O_CREAT:
            self.enter(dir, dentry, whole_inode(dir, S_IFREG | create_mode & 0o7777))
            created = True
        if not created:
            return dentry
        finish_open(file, dentry, created)
        return None


class WholeFile(WholeLists, WholeAttributes):
    """A file by its name."""

    def fiemap(self, inode: Inode, fieinfo: Any, start: int, len: int) -> None:
        """Sleeps.  Block by block."""
        generic_block_fiemap(inode, fieinfo, start, len, get_block)

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Any change; a new size cuts the pages and the extent."""
        inode = dentry.d_inode
        assert inode is not None
        setattr_prepare(dentry, attr)
        if attr.ia_valid & ATTR_SIZE:
            block_truncate_page(inode.i_mapping, attr.ia_size, get_block)
            truncate_setsize(inode, attr.ia_size)
            cut(inode)
        setattr_copy(inode, attr)
        mark_inode_dirty(inode)
        if attr.ia_valid & ATTR_MODE:
            posix_acl_chmod(inode, inode.i_mode)


class WholeSpecial(WholeLists, WholeAttributes):
    """A device, FIFO or socket."""


class WholeSymlink(WholeAttributes):
    """A symlink."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Any change."""
        simple_setattr(dentry, attr)

    def readlink(self, dentry: Dentry) -> str:
        """Never sleeps.  The target."""
        assert dentry.d_inode is not None
        return str(dentry.d_inode.i_private)

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Never sleeps.  The target."""
        return str(inode.i_private)


class WholeOpenDirectory(SimpleDirOperations):
    """An open directory: all of libfs."""

    def open(self, inode: Inode, file: File) -> None:
        """Never sleeps.  Fine."""

    def release(self, inode: Inode, file: File) -> None:
        """Never sleeps.  Fine."""


class WholeOpenFile(SimpleFileOperations):
    """An open file in the page cache."""

    def open(self, inode: Inode, file: File) -> None:
        """Never sleeps.  Fine."""

    def release(self, inode: Inode, file: File) -> None:
        """Never sleeps.  Fine."""

    def flush(self, file: File) -> None:
        """Never sleeps.  Fine."""

    def check_flags(self, flags: int) -> None:
        """Never sleeps.  All are fine."""

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Sleeps.  Pages, inode, disk."""
        generic_file_fsync(file, start, end, datasync)


class WholePlainFile(FileOperations):
    """An open file with ``read`` and ``write`` in place of ``read_iter`` and ``write_iter``."""

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Sleeps.  From the beginning only."""
        with file.f_inode.i_rwsem.shared():
            file.f_pos = offset
        return offset

    def read(self, file: File, count: int, pos: int) -> bytes:
        """Sleeps.  Through the page cache."""
        return generic_file_read(file, count, pos)

    def write(self, file: File, data: bytes, pos: int) -> int:
        """Sleeps.  Through the page cache, under the file's lock."""
        with file.f_inode.i_rwsem:
            return generic_file_write(file, data, pos)


class ExtentPages(BlockAddressSpaceOperations):
    """Pages whose blocks are in their file's extent."""

    def get_block(self, inode: Inode, iblock: int, create: bool) -> int | None:
        """Never sleeps.  See `get_block`."""
        return get_block(inode, iblock, create)

    def truncate_blocks(self, inode: Inode) -> None:
        """Never sleeps.  See `cut`."""
        cut(inode)


class WholePages(ExtentPages):
    """The same, with the small methods that the kernel would do itself."""

    def writepages(self, mapping: AddressSpace, wbc: WritebackControl) -> None:
        """Sleeps.  `writepage` for each."""
        generic_writepages(mapping, wbc)

    def set_page_dirty(self, page: Page) -> bool:
        """Never sleeps.  The page and its buffers."""
        return set_page_dirty_buffers(page)

    def invalidatepage(self, page: Page, offset: int, length: int) -> None:
        """Sleeps.  Drop the buffers."""
        block_invalidatepage(page, offset, length)

    def releasepage(self, page: Page, gfp: int) -> bool:
        """Never sleeps.  Drop the buffers if they are idle."""
        return try_to_free_buffers(page)

    def freepage(self, page: Page) -> None:
        """Never sleeps.  Good-bye."""


class WholeSuper(SimpleSuperOperations):
    """The superblock, and inodes as such."""

    def alloc_inode(self, sb: SuperBlock) -> Inode:
        """Never sleeps.  A plain one."""
        return RamInode(sb)

    def destroy_inode(self, inode: Inode) -> None:
        """Never sleeps.  Once no walk can look at it any more."""
        super().destroy_inode(inode)

    def dirty_inode(self, inode: Inode, flags: int) -> None:
        """Never sleeps.  There is no journal."""

    def write_inode(self, inode: Inode, wbc: WritebackControl) -> None:
        """Never sleeps.  It lives in memory."""

    def drop_inode(self, inode: Inode) -> bool:
        """Never sleeps.  If it has no name."""
        return generic_drop_inode(inode)

    def evict_inode(self, inode: Inode) -> None:
        """Sleeps.  Its pages and its extent go; the extent not while the disk is frozen."""
        truncate_inode_pages_final(inode)
        clear_inode(inode)
        if S_ISREG(inode.i_mode) and inode.i_private is not None:
            space: Space = inode.i_sb.s_fs_info
            sb_start_intwrite(inode.i_sb)
            space.free.append(inode.i_private.first)
            sb_end_intwrite(inode.i_sb)

    def put_super(self, sb: SuperBlock) -> None:
        """Never sleeps.  There is nothing to free."""

    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        """Never sleeps.  The kernel has written everything."""

    def freeze_fs(self, sb: SuperBlock) -> None:
        """Never sleeps.  The kernel has written everything."""

    def unfreeze_fs(self, sb: SuperBlock) -> None:
        """Never sleeps.  Go on."""

    def remount_fs(self, sb: SuperBlock, flags: int, data: str) -> int:
        """Sleeps.  As asked, with nothing dirty."""
        sync_filesystem(sb)
        return flags

    def umount_begin(self, sb: SuperBlock) -> None:
        """Never sleeps.  There is no server."""

    def show_options(self, dentry: Dentry) -> str:
        """Never sleeps.  None."""
        return ""


class WholeFS(RamFS):
    """The type; it is mounted from a disk.

    Attributes:
        names: the dentries' table; the others are `RamFS`'s.
    """

    name = "wholefs"
    names: DentryOperations = WholeNames()
    directory: InodeOperations = WholeDirectory()
    open_directory: FileOperations = WholeOpenDirectory()
    file: InodeOperations = WholeFile()
    open_file: FileOperations = WholeOpenFile()
    symlink: InodeOperations = WholeSymlink()
    special: InodeOperations = WholeSpecial()
    pages: AddressSpaceOperations = WholePages()
    super: SuperOperations = WholeSuper()
    user_xattrs: XattrHandler = WholeUserXattrs()
    trusted_xattrs: XattrHandler = WholeTrustedXattrs()

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  On a disk."""
        return mount_bdev(self, flags, dev_name, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  The superblock and its root."""
        sb_min_blocksize(sb, BLOCK)
        assert sb.s_bdev is not None
        blocks = sb.s_bdev.bd_disk.capacity * 512 // BLOCK
        sb.s_fs_info = Space(list(range(0, blocks - BLOCKS + 1, BLOCKS)))
        sb.s_maxbytes = BLOCK * BLOCKS
        sb.s_op, sb.s_d_op = self.super, self.names
        self.allow_xattrs(sb)
        root = ramfs_get_inode(sb, None, S_IFDIR | parse_options(data).mode, 0)
        forget_all_cached_acls(root)
        insert_inode_hash(root)
        sb.s_root = d_make_root(root)

    def inherit(self, dir: Inode, inode: Inode) -> None:
        """Sleeps.  Its mode, and its lists: into the store."""
        inode.i_mode, default, access = posix_acl_create(dir, inode.i_mode)
        keep_list(inode, default, ACL_TYPE_DEFAULT)
        keep_list(inode, access, ACL_TYPE_ACCESS)

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Let go of all names, then as for every disk."""
        if sb.s_root is not None:
            d_genocide(sb.s_root)
        kill_block_super(sb)
