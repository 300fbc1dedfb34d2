"""What filesystems borrow: functions and whole tables for those that keep everything in memory.

Three kinds of help:

* **A tree that lives in the dcache.**  Each name is a dentry with one reference more than its users
  have (`dget` in ``create``, `dput` in ``unlink``), so it is never forgotten, and the dcache *is*
  the directory.  ``simple_lookup``, ``simple_link``, ``simple_unlink``, ``simple_rmdir``,
  ``simple_rename`` and ``dcache_readdir`` rely on that; the superblock is ended by
  ``kill_litter_super``.
* **A tree of dicts.**  Each directory's ``i_private`` is a dict from names to inodes; each entry
  has a reference.  `MemoryDirInodeOperations`, `MemoryDirOperations` and `MemoryFileSystem` belong
  together.  Linux has no such thing: it is for filesystems that keep their names themselves.
* **Data that lives in the page cache.**  ``simple_readpage``, ``simple_write_begin``,
  ``simple_write_end``: pages are filled with zeroes, become dirty and are never written.

The tables (`SimpleDirInodeOperations`, `SimpleDirOperations`, ...) put these functions where the
kernel calls them. Subclass one, or take it as a mixin, and write what is different.

The directory's ``i_rwsem`` keeps its names (the kernel takes it); d_lock keeps the list of children
while it is read. The counterpart of ``fs/libfs.c`` of v4.10.
"""

from __future__ import annotations

import os
from itertools import dropwhile, islice
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any

from vfsim.fs.attr import (
    KStat,
    generic_fillattr,
    setattr_copy,
    setattr_prepare,
    simple_setattr,
)
from vfsim.fs.dcache import (
    DENTRY_D_LOCK_NESTED,
    FIRST_CHILD,
    d_add,
    d_inode,
    d_instantiate,
    d_splice_alias,
    dget,
    dput,
)
from vfsim.fs.inode import (
    clear_inode,
    current_time,
    drop_nlink,
    generic_delete_inode,
    generic_drop_inode,
    ihold,
    inc_nlink,
    inode_init_owner,
    iput,
    new_inode,
    truncate_inode_pages_final,
)
from vfsim.fs.operations import (
    FileOperations,
    FileSystemType,
    InodeOperations,
    SuperOperations,
)
from vfsim.fs.read_write import DirContext, generic_file_llseek
from vfsim.fs.super import KStatfs, kill_anon_super, mount_nodev
from vfsim.mm.dirty import set_page_dirty, set_page_dirty_no_writeback
from vfsim.mm.filemap import (
    generic_file_fsync,
    generic_file_read_iter,
    generic_file_write_iter,
    noop_fsync,
    read_mapping_page,
)
from vfsim.mm.mapping import AddressSpace, find_get_page, grab_cache_page
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.mm.page import PAGE_SHIFT, PAGE_SIZE, Page, put_page, unlock_page, zero_user_segment
from vfsim.sim.errors import ECHILD, EINVAL, EISDIR, ENAMETOOLONG, ENOTEMPTY

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File, Kiocb
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount
    from vfsim.fs.super import SuperBlock

NAME_MAX = 255
RENAME_NOREPLACE = 1
_AT_ONCE = 1_024  # children that are looked at with d_lock held: as many as fit 32 KiB


# -- names -----------------------------------------------------------------------------------------


def simple_lookup(dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
    """Never sleeps.  ``lookup`` of a tree in the dcache: what the dcache does not know is not
    there.

    Raises:
        OSError: ENAMETOOLONG.
    """
    if len(os.fsencode(dentry.d_name)) > NAME_MAX:
        raise ENAMETOOLONG()
    d_add(dentry, None)
    return None


def simple_positive(dentry: Dentry) -> bool:
    """Never sleeps.  Whether a dentry is a name that exists."""
    return dentry.d_inode is not None and dentry.d_hashed


def simple_empty(dentry: Dentry) -> bool:
    """Never sleeps.  Whether a directory (or anything else) contains no names.  Takes d_lock and
    the children's.
    """
    with dentry.d_lock:
        for child in tuple(dentry.d_subdirs or ()):
            child.d_lock.lock(DENTRY_D_LOCK_NESTED)
            exists = simple_positive(child)
            child.d_lock.unlock()
            if exists:
                return False
    return True


def touch(*inodes: Inode) -> None:
    """Never sleeps.  Directories were changed: now is their modification time."""
    now = current_time(inodes[0])
    for inode in inodes:
        inode.i_mtime = inode.i_ctime = now


def simple_inode(
    sb: SuperBlock,
    dir: Inode | None,
    mode: int,
    i_op: InodeOperations,
    i_fop: FileOperations,
    private: Any = None,
) -> Inode:
    """Sleeps.  A new inode with one link (a directory: two), one reference for the caller, and the
    running task's owner.

    Args:
        dir: where it will be named, or None for a root.  mode: type and permissions.
        i_op, i_fop: its operations.  private: what the filesystem hangs on ``i_private``.
    """
    inode = new_inode(sb)
    inode_init_owner(inode, dir, mode)
    inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(inode)
    inode.i_op = i_op
    inode.i_fop = i_fop
    inode.i_private = private
    if mode & 0o170000 == 0o040000:
        inc_nlink(inode)  # its own "."
    return inode


def emit_names(file: File, ctx: DirContext, names: dict[str, Inode]) -> None:
    """Never sleeps.  ``iterate`` of a directory that is a dict.

    What one pass lists is what was there when it began: it is kept in ``file.private_data``.
    """
    if not ctx.emit_dots(file):
        return
    if ctx.pos == 2 or file.private_data is None:
        file.private_data = [(n, i.i_ino, i.i_mode >> 12) for n, i in names.items()]
    for name, ino, kind in file.private_data[ctx.pos - 2 :]:
        if not ctx.emit(name, ino, kind):
            return
        ctx.pos += 1


def simple_link(old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
    """Never sleeps.  ``link`` of a tree in the dcache."""
    inode = old_dentry.d_inode
    assert inode is not None
    touch(dir)
    inode.i_ctime = dir.i_ctime
    inc_nlink(inode)
    ihold(inode)
    dget(dentry)
    d_instantiate(dentry, inode)


def simple_unlink(dir: Inode, dentry: Dentry) -> None:
    """Sleeps.  ``unlink`` of a tree in the dcache: the name loses the reference that kept it."""
    inode = dentry.d_inode
    assert inode is not None
    touch(dir)
    inode.i_ctime = dir.i_ctime
    drop_nlink(inode)
    dput(dentry)


def simple_rmdir(dir: Inode, dentry: Dentry) -> None:
    """Sleeps.  ``rmdir`` of a tree in the dcache.

    Raises:
        OSError: ENOTEMPTY.
    """
    if not simple_empty(dentry):
        raise ENOTEMPTY()
    inode = dentry.d_inode
    assert inode is not None
    drop_nlink(inode)
    simple_unlink(dir, dentry)
    drop_nlink(dir)


def simple_rename(
    old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
) -> None:
    """Sleeps.  ``rename`` of a tree in the dcache.  The kernel moves the dentry afterwards.

    Raises:
        OSError: EINVAL (flags it does not know), ENOTEMPTY.
    """
    if flags & ~RENAME_NOREPLACE:
        raise EINVAL()
    if not simple_empty(new_dentry):
        raise ENOTEMPTY()
    inode = old_dentry.d_inode
    target = new_dentry.d_inode
    assert inode is not None
    is_dir = inode.i_mode & 0o170000 == 0o040000
    if target is not None:
        simple_unlink(new_dir, new_dentry)
        if is_dir:
            drop_nlink(target)
            drop_nlink(old_dir)
    elif is_dir:
        drop_nlink(old_dir)
        inc_nlink(new_dir)
    touch(old_dir, new_dir)
    inode.i_ctime = old_dir.i_ctime


def simple_rename_exchange(
    old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry
) -> None:
    """Never sleeps.  ``rename`` with RENAME_EXCHANGE of a tree in the dcache: what is left to do is
    to count the links of two parents, if a directory leaves one for the other.
    """
    old, new = old_dentry.d_inode, new_dentry.d_inode
    assert old is not None and new is not None
    old_is_dir, new_is_dir = S_ISDIR(old.i_mode), S_ISDIR(new.i_mode)
    if old_dir is not new_dir and old_is_dir != new_is_dir:
        loses, gains = (old_dir, new_dir) if old_is_dir else (new_dir, old_dir)
        drop_nlink(loses)
        inc_nlink(gains)
    touch(old_dir, new_dir)
    old.i_ctime = new.i_ctime = old_dir.i_ctime


def dcache_readdir(file: File, ctx: DirContext) -> None:
    """Sleeps.  ``iterate`` of a tree in the dcache: the children, oldest first.

    A child's position is the number it got when it came into the directory, so positions stay good
    while others come and go (Linux keeps a dentry of its own in the list as a cursor).
    """
    if not ctx.emit_dots(file):
        return
    parent = file.f_path.dentry
    while found := _children_from(parent, ctx.pos):
        done = ctx.emit_all([entry for _, entry in found])
        if done:
            ctx.pos = found[done - 1][0] + 1
        if done < len(found):
            return


def _children_from(parent: Dentry, first: int) -> list[tuple[int, tuple[str, int, int]]]:
    """Never sleeps.  Position, and (name, number, type), of the next children that exist
    (``simple_positive``), a buffer full at most.

    Takes d_lock, which keeps the list, and is not held while names are emitted.  The children's own
    locks are not taken: the caller holds the directory, so that no name in it comes, goes or
    changes, and it does not matter when we look.  That is why nobody need look at it, either.
    """
    with parent.d_lock:
        if first >= parent.d_next_pos:  # the end: nobody came since the last one was listed
            return []
        children = iter(parent.d_subdirs or ())
        if first > FIRST_CHILD:
            children = dropwhile(lambda child: child.raw_d_child_pos < first, children)
        while some := list(islice(children, _AT_ONCE)):
            found = [
                (child.raw_d_child_pos, (child.raw_d_name, inode.i_ino, inode.raw_i_mode >> 12))
                for child in some
                if child.raw_d_hashed and (inode := child.raw_d_inode) is not None
            ]
            if found:
                return found
    return []


def dcache_dir_lseek(file: File, offset: int, whence: int) -> int:
    """Sleeps.  ``llseek`` of a directory: by position, from the beginning or from here.

    Raises:
        OSError: EINVAL.

    Takes the directory's ``i_rwsem`` shared.
    """
    if whence == os.SEEK_CUR:
        offset += file.f_pos
    elif whence != os.SEEK_SET:
        raise EINVAL()
    if offset < 0:
        raise EINVAL()
    with file.f_inode.i_rwsem.shared():
        file.f_pos = offset
    return offset


# -- attributes ------------------------------------------------------------------------------------


def simple_getattr(mnt: Mount, dentry: Dentry) -> KStat:
    """Never sleeps.  ``getattr`` of files whose data is in the page cache: the pages are the
    blocks.
    """
    inode = dentry.d_inode
    assert inode is not None
    stat = generic_fillattr(inode)
    if inode.has_pages:
        stat.st_blocks = inode.i_mapping.nrpages << (PAGE_SHIFT - 9)
    return stat


def simple_statfs(dentry: Dentry) -> KStatfs:
    """Never sleeps.  ``statfs`` of a filesystem that has no size."""
    return KStatfs(
        f_type=dentry.d_sb.s_magic, f_bsize=PAGE_SIZE, f_frsize=PAGE_SIZE, f_namelen=NAME_MAX
    )


# -- pages -----------------------------------------------------------------------------------------


def simple_readpage(file: File | None, page: Page) -> None:
    """Never sleeps.  ``readpage`` of data that exists nowhere else: zeroes."""
    zero_user_segment(page, 0, PAGE_SIZE)
    page.uptodate = True
    unlock_page(page)


def simple_write_begin(
    file: File | None, mapping: AddressSpace, pos: int, len: int, flags: int
) -> tuple[Page, Any]:
    """Sleeps.  ``write_begin``: the page, locked, with zeroes where nothing will be written."""
    page = grab_cache_page(mapping, pos >> PAGE_SHIFT)
    if not page.uptodate and len != PAGE_SIZE:
        start = pos & (PAGE_SIZE - 1)
        zero_user_segment(page, 0, start)
        zero_user_segment(page, start + len, PAGE_SIZE)
    return page, None


def simple_write_end(
    file: File | None,
    mapping: AddressSpace,
    pos: int,
    len: int,
    copied: int,
    page: Page,
    fsdata: Any,
) -> int:
    """Never sleeps.  ``write_end``: the page is dirty, the file reaches to the end of what was
    copied.

    The caller holds the inode's ``i_rwsem`` exclusive, so the size is ours to change.
    """
    inode = mapping.host
    if not page.uptodate:
        if copied < len:
            start = pos & (PAGE_SIZE - 1)
            zero_user_segment(page, start + copied, start + len)
        page.uptodate = True
    if pos + copied > inode.i_size:
        inode.i_size = pos + copied
    set_page_dirty(page)
    unlock_page(page)
    put_page(page)
    return copied


def page_symlink(inode: Inode, target: str) -> None:
    """Sleeps.  Write a symlink's target into the page cache of its new inode, which nobody else
    knows yet.

    Raises:
        OSError: what ``write_begin`` or ``write_end`` say.
    """
    data = os.fsencode(target)
    mapping = inode.i_mapping
    a_ops = mapping.a_ops
    page, fsdata = a_ops.write_begin(None, mapping, 0, len(data), 0)
    page.data[: len(data)] = data
    a_ops.write_end(None, mapping, 0, len(data), len(data), page, fsdata)


def _cached_page(mapping: AddressSpace) -> Page:
    """Never sleeps.  The first page, if it is there; ECHILD if that would have to be waited for."""
    page = find_get_page(mapping, 0)
    if page is None:
        raise ECHILD()
    if not page.uptodate:
        put_page(page)
        raise ECHILD()
    return page


def page_get_link(dentry: Dentry | None, inode: Inode) -> str:
    """Sleeps.  ``get_link`` of a symlink whose target is in its page cache.

    An rcu-walk (``dentry`` is None) gets it if the page is there and was read.

    Raises:
        OSError: ECHILD to an rcu-walk, or what ``readpage`` says.
    """
    if dentry is None:
        page = _cached_page(inode.i_mapping)
    else:
        page = read_mapping_page(inode.i_mapping, 0)
    target = bytes(page.data[: inode.i_size])
    put_page(page)
    return os.fsdecode(target)


# -- whole tables ----------------------------------------------------------------------------------


class SimpleDirInodeOperations(InodeOperations):
    """A directory in the dcache.  What makes inodes (``create``, ``mkdir``, ...) is left to the
    filesystem.
    """

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Never sleeps.  See `simple_lookup`."""
        return simple_lookup(dir, dentry, flags)

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        """Never sleeps.  See `simple_link`."""
        simple_link(old_dentry, dir, dentry)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  See `simple_unlink`."""
        simple_unlink(dir, dentry)

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  See `simple_rmdir`."""
        simple_rmdir(dir, dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  See `simple_rename`."""
        simple_rename(old_dir, old_dentry, new_dir, new_dentry, flags)


class SimpleDirOperations(FileOperations):
    """An open directory in the dcache."""

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Sleeps.  See `dcache_dir_lseek`."""
        return dcache_dir_lseek(file, offset, whence)

    def read(self, file: File, count: int, pos: int) -> bytes:
        """Never sleeps.  A directory is not read as bytes: EISDIR."""
        raise EISDIR()

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Sleeps.  See `dcache_readdir`."""
        dcache_readdir(file, ctx)

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Never sleeps.  There is nothing to write."""
        noop_fsync(file, start, end, datasync)


class SimpleFileInodeOperations(InodeOperations):
    """A file in the page cache."""

    def setattr(self, dentry: Dentry, attr: Any) -> None:
        """Sleeps.  See `simple_setattr`."""
        simple_setattr(dentry, attr)

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Never sleeps.  See `simple_getattr`."""
        return simple_getattr(mnt, dentry)


class SimpleFileOperations(FileOperations):
    """An open file in the page cache."""

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Never sleeps.  See `generic_file_llseek`."""
        return generic_file_llseek(file, offset, whence)

    def read_iter(self, iocb: Kiocb, count: int) -> bytes:
        """Sleeps.  See `generic_file_read_iter`."""
        return generic_file_read_iter(iocb, count)

    def write_iter(self, iocb: Kiocb, data: bytes) -> int:
        """Sleeps.  See `generic_file_write_iter`."""
        return generic_file_write_iter(iocb, data)

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Never sleeps.  There is nothing to write."""
        noop_fsync(file, start, end, datasync)


class SimpleAddressSpaceOperations(AddressSpaceOperations):
    """Pages that are never written anywhere."""

    def readpage(self, file: File | None, page: Page) -> None:
        """Never sleeps.  See `simple_readpage`."""
        simple_readpage(file, page)

    def write_begin(
        self, file: File | None, mapping: AddressSpace, pos: int, len: int, flags: int
    ) -> tuple[Page, Any]:
        """Sleeps.  See `simple_write_begin`."""
        return simple_write_begin(file, mapping, pos, len, flags)

    def write_end(
        self,
        file: File | None,
        mapping: AddressSpace,
        pos: int,
        len: int,
        copied: int,
        page: Page,
        fsdata: Any,
    ) -> int:
        """Never sleeps.  See `simple_write_end`."""
        return simple_write_end(file, mapping, pos, len, copied, page, fsdata)

    def set_page_dirty(self, page: Page) -> bool:
        """Never sleeps.  Dirty for ever, and no work for anybody."""
        return set_page_dirty_no_writeback(page)


class PageSymlinkInodeOperations(InodeOperations):
    """A symlink whose target is in its page cache."""

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Sleeps.  See `page_get_link`."""
        return page_get_link(dentry, inode)


class SimpleSymlinkInodeOperations(InodeOperations):
    """A symlink whose target is in ``i_link``."""

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Never sleeps.  The target."""
        assert inode.i_link is not None
        return inode.i_link


class SimpleSuperOperations(SuperOperations):
    """A filesystem without a size."""

    def statfs(self, dentry: Dentry) -> KStatfs:
        """Never sleeps.  See `simple_statfs`."""
        return simple_statfs(dentry)


# -- a tree of dicts -------------------------------------------------------------------------------


class MemoryDirInodeOperations(InodeOperations):
    """A directory that is a dict, on ``i_private``, from names to inodes.

    Each entry has a reference to its inode, and is a link of it; a directory has a link for its "."
    and one for each "..".  What makes inodes (``create``, ``mkdir``, ``symlink``, ``link``) is left
    to the filesystem, which calls `enter`.

    The kernel holds the directory's ``i_rwsem`` whenever it calls a method (shared for ``lookup``):
    the dict needs no lock of its own.
    """

    def enter(self, dir: Inode, dentry: Dentry, inode: Inode) -> None:
        """Never sleeps.  Write the name of an inode into a directory.

        The caller's reference becomes the dentry's; the dict takes one of its own.  The inode's
        link for the name is counted already (`simple_inode`, or ``inc_nlink`` for another name); a
        directory's ".." is counted here.
        """
        ihold(inode)
        dir.i_private[dentry.d_name] = inode
        if S_ISDIR(inode.i_mode):
            inc_nlink(dir)
        touch(dir)
        d_instantiate(dentry, inode)

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  The inode of a name, with a reference for the dentry."""
        inode = dir.i_private.get(dentry.d_name)
        if inode is not None:
            ihold(inode)
        return d_splice_alias(inode, dentry)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Take a name out, its link, and its reference: whoever has the file open still
        has his own.
        """
        inode = dir.i_private.pop(dentry.d_name)
        touch(dir)
        inode.i_ctime = dir.i_ctime
        drop_nlink(inode)
        iput(inode)

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Take an empty directory out, with its "." and "..".

        Raises:
            OSError: ENOTEMPTY.
        """
        inode = d_inode(dentry)
        if inode.i_private:
            raise ENOTEMPTY()
        drop_nlink(inode)
        drop_nlink(dir)
        self.unlink(dir, dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  Move an entry from dict to dict; what had the new name is removed.

        Raises:
            OSError: EINVAL (flags it does not know), ENOTEMPTY.
        """
        if flags & ~RENAME_NOREPLACE:
            raise EINVAL()
        if new_dentry.d_inode is not None:
            remove = self.rmdir if S_ISDIR(new_dentry.d_inode.i_mode) else self.unlink
            remove(new_dir, new_dentry)
        inode = new_dir.i_private[new_dentry.d_name] = old_dir.i_private.pop(old_dentry.d_name)
        if S_ISDIR(inode.i_mode):  # its ".." moves along
            drop_nlink(old_dir)
            inc_nlink(new_dir)
        touch(old_dir, new_dir)
        inode.i_ctime = old_dir.i_ctime


class MemoryFileOperations(FileOperations):
    """What open files and directories have in common that are kept in memory."""

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Sleeps.  Anywhere."""
        return generic_file_llseek(file, offset, whence)

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Never sleeps.  Memory is as safe as it gets."""


class MemoryDirOperations(MemoryFileOperations):
    """An open directory that is a dict.  The kernel has locked it."""

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Never sleeps.  See `emit_names`."""
        emit_names(file, ctx, file.f_inode.i_private)


class MemoryFileSystem(FileSystemType):
    """A filesystem without a device: each mount is a new, empty one.  Subclasses fill the
    superblock.
    """

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  A new superblock, filled."""
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        """Sleeps.  Set ``sb.s_op``, ``sb.s_root`` and whatever else is this filesystem's own.

        Args:
            data: the mount options.
        """
        raise TypeError(f"{type(self).__name__} needs a fill_super(self, sb, data)")

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Put the references of all dicts, and let the kernel do the rest.

        All at once, not dict by dict as directories go: a deep tree is no deep recursion.
        """
        entries = [
            inode
            for dir in sb.s_inodes
            if isinstance(dir.i_op, MemoryDirInodeOperations)
            for inode in dir.i_private.values()
        ]
        for inode in entries:
            iput(inode)
        kill_anon_super(sb)


__all__ = [
    "MemoryDirInodeOperations",
    "MemoryDirOperations",
    "MemoryFileOperations",
    "MemoryFileSystem",
    "PageSymlinkInodeOperations",
    "SimpleAddressSpaceOperations",
    "SimpleDirInodeOperations",
    "SimpleDirOperations",
    "SimpleFileInodeOperations",
    "SimpleFileOperations",
    "SimpleSuperOperations",
    "SimpleSymlinkInodeOperations",
    "clear_inode",
    "dcache_dir_lseek",
    "dcache_readdir",
    "emit_names",
    "generic_delete_inode",
    "generic_drop_inode",
    "generic_file_fsync",
    "generic_file_llseek",
    "noop_fsync",
    "page_get_link",
    "page_symlink",
    "setattr_copy",
    "setattr_prepare",
    "simple_empty",
    "simple_getattr",
    "simple_inode",
    "simple_link",
    "simple_lookup",
    "simple_positive",
    "simple_readpage",
    "simple_rename",
    "simple_rename_exchange",
    "simple_rmdir",
    "simple_setattr",
    "simple_statfs",
    "simple_unlink",
    "simple_write_begin",
    "simple_write_end",
    "touch",
    "truncate_inode_pages_final",
]
