"""imagefs: a tree that was written to a disk once, and is only read from there.

The image, in blocks of 1 KiB::

    block 0      magic, number of blocks, number of inodes
    block 1 ...  the inode table: a record of 32 bytes each, of inode 1, the root, and so on
    behind it    the contents, each in one piece: a file's bytes, a symlink's target, or what a
                 directory is made of: number, type, length of the name, name; again and again

Two ways lead to the disk.  A record comes through a *buffer*: ``sb_bread``, copy it, ``brelse``.
Contents come through the *page cache*, those of directories and symlinks, too, so one ``readpage``
serves all three, and only has to know which block of the disk is a file's nth.

An inode is in memory once.  Whoever is the first to ask for a number gets it as I_NEW from
``iget_locked``, reads the record and unlocks it; all who come meanwhile wait.  If the disk fails,
or the record points out of the image, ``iget_failed`` lets the waiters try for themselves.

Nothing is ever written: ``fill_super`` says that the superblock is read-only, a remount cannot
change that, and the kernel refuses with EROFS whatever would write, before it asks anybody here.
So there is nothing to lock, either.  A small relative of ``fs/romfs`` and ``fs/cramfs`` of v4.10.
"""

from __future__ import annotations

import os
import struct
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR, S_ISLNK
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.block.buffer import brelse, sb_bread
from vfsim.block.device import sb_set_blocksize
from vfsim.block.disk import RamDisk
from vfsim.filesystems.libfs import MemoryFileOperations, PageSymlinkInodeOperations
from vfsim.fs.dcache import d_make_root, d_splice_alias
from vfsim.fs.iget import iget_failed, iget_locked, unlock_new_inode
from vfsim.fs.inode import I_NEW, Inode, set_nlink
from vfsim.fs.operations import FileSystemType, InodeOperations, SuperOperations
from vfsim.fs.super import MS_RDONLY, KStatfs
from vfsim.mm.buffers import block_read_full_page
from vfsim.mm.filemap import generic_file_read_iter, read_mapping_page
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.mm.page import PAGE_SIZE, put_page
from vfsim.sim.errors import EINVAL, EIO, ENAMETOOLONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File, Kiocb
    from vfsim.fs.read_write import DirContext
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.page import Page

BLOCK, NAME_MAX, ROOT = 1024, 255, 1
MAGIC = b"imagefs1"
HEAD = struct.Struct("<8sII")
"""The beginning of block 0."""
RECORD = struct.Struct("<IIIIQII")
"""An inode: mode, links, uid, gid, size, first block, time of its last change in seconds."""
ENTRY = struct.Struct("<IBB")
"""What stands before a name: the inode's number, DT_*, and the length of the name."""

Tree = dict[str, Any]
"""A directory to be: names, and what is behind them (a `Tree`, a file's bytes, a link's target)."""
SAMPLE: Tree = {"README": b"Read me.\n" * 500, "bin": {"sh": b"#!"}, "man": "README", "empty": {}}


# -- how an image is made --------------------------------------------------------------------------


def write_image(device: RamDisk, root: Tree) -> None:
    """Write a tree to a disk, with no time passing.

    Raises:
        ValueError: it does not fit.
    """
    found: list[Tree | bytes | str] = [root]
    contents, records, at = [], [], 0
    for thing in found:  # it grows while directories are read
        data, nlink, mode = b"", 1, S_IFREG | 0o644
        if isinstance(thing, dict):
            mode, nlink = S_IFDIR | 0o755, 2 + sum(isinstance(it, dict) for it in thing.values())
            for name, child in thing.items():
                found.append(child)
                raw = os.fsencode(name)
                data += ENTRY.pack(len(found), _type(child) >> 12, len(raw)) + raw
        elif isinstance(thing, str):
            mode, data = S_IFLNK | 0o777, os.fsencode(thing)
        else:
            data = thing
        records.append([mode, nlink, 0, 0, len(data), at, 0])
        contents.append(_whole_blocks(data))
        at += len(contents[-1]) // BLOCK
    first = 1 + len(_whole_blocks(bytes(RECORD.size * len(records)))) // BLOCK
    for record in records:
        record[5] += first
    table = b"".join(RECORD.pack(*record) for record in records)
    head = HEAD.pack(MAGIC, first + at, len(records))
    device.write_sectors(0, _whole_blocks(head) + _whole_blocks(table) + b"".join(contents))


def _type(thing: Tree | bytes | str) -> int:
    if isinstance(thing, dict):
        return S_IFDIR
    return S_IFLNK if isinstance(thing, str) else S_IFREG


def _whole_blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


# -- how it is read --------------------------------------------------------------------------------


@attrs.frozen
class ImageInfo:
    """What block 0 says (s_fs_info): the numbers of blocks and of inodes."""

    blocks: int
    inodes: int


def image_iget(sb: SuperBlock, ino: int) -> Inode:
    """Sleeps.  The inode of a number, with a reference.

    Raises:
        OSError: EIO: the disk failed, or the image makes no sense.
    """
    inode = iget_locked(sb, ino)
    if inode.i_state & I_NEW:
        try:
            _read_record(inode)
        except OSError:
            iget_failed(inode)
            raise
        unlock_new_inode(inode)
    return inode


def _read_record(inode: Inode) -> None:
    """Sleeps.  Fill a new inode in."""
    info: ImageInfo = inode.i_sb.s_fs_info
    if not ROOT <= inode.i_ino <= info.inodes:
        raise EIO()
    block, nth = divmod(inode.i_ino - ROOT, BLOCK // RECORD.size)
    bh = sb_bread(inode.i_sb, 1 + block)
    mode, nlink, uid, gid, size, first, seconds = RECORD.unpack_from(bh.b_data, nth * RECORD.size)
    brelse(bh)
    blocks = -(-size // BLOCK)
    if first + blocks > info.blocks:
        raise EIO()
    inode.i_mode, inode.i_uid, inode.i_gid = mode, uid, gid
    set_nlink(inode, nlink)
    inode.i_size, inode.i_blocks = size, blocks * (BLOCK // 512)
    inode.i_atime = inode.i_mtime = inode.i_ctime = seconds * 10**9
    inode.i_private = first
    inode.i_aops = ImagePages()
    if S_ISDIR(mode):
        inode.i_op, inode.i_fop = ImageDirectory(), ImageOpenDirectory()
    elif S_ISLNK(mode):
        inode.i_op = PageSymlinkInodeOperations()
    else:
        inode.i_fop = ImageOpenFile()


def entries(dir: Inode) -> Iterator[tuple[bytes, int, int]]:
    """Sleeps.  Name, number and type of whatever is in a directory, page by page.

    Raises:
        OSError: EIO.
    """
    data, at = b"", 0
    for index in range(-(-dir.i_size // PAGE_SIZE)):
        page = read_mapping_page(dir.i_mapping, index)
        data += bytes(page.data[: dir.i_size - index * PAGE_SIZE])
        put_page(page)
        while at + ENTRY.size <= len(data):
            ino, type_, length = ENTRY.unpack_from(data, at)
            if at + ENTRY.size + length > len(data):
                break  # it goes on in the next page
            at += ENTRY.size + length
            yield data[at - length : at], ino, type_


# -- the tables ------------------------------------------------------------------------------------


class ImagePages(AddressSpaceOperations):
    """Pages come from the disk, and never go there."""

    def readpage(self, file: File | None, page: Page) -> None:
        """Sleeps.  See `block_read_full_page`."""
        block_read_full_page(page, self.get_block)

    def get_block(self, inode: Inode, iblock: int, create: bool) -> int | None:
        """Never sleeps.  One piece: the nth block is n behind the first."""
        first: int = inode.i_private
        return first + iblock


class ImageDirectory(InodeOperations):
    """A directory.  The kernel has locked it, though nobody could change it."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  Look through the directory for a name.  Raises EIO, ENAMETOOLONG."""
        wanted = os.fsencode(dentry.d_name)
        if len(wanted) > NAME_MAX:
            raise ENAMETOOLONG()
        ino = next((ino for name, ino, _ in entries(dir) if name == wanted), None)
        return d_splice_alias(None if ino is None else image_iget(dir.i_sb, ino), dentry)


class ImageOpenFile(MemoryFileOperations):
    """An open file, read through its pages."""

    def read_iter(self, iocb: Kiocb, count: int) -> bytes:
        """Sleeps.  See `generic_file_read_iter`."""
        return generic_file_read_iter(iocb, count)


class ImageOpenDirectory(MemoryFileOperations):
    """An open directory.  Its positions are ".", "..", and then the entries in turn."""

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Sleeps.  From the position on.  Raises EIO."""
        if not ctx.emit_dots(file):
            return
        for pos, (name, ino, type_) in enumerate(entries(file.f_inode), 2):
            if pos >= ctx.pos:
                if not ctx.emit(os.fsdecode(name), ino, type_):
                    return
                ctx.pos = pos + 1


class ImageSuper(SuperOperations):
    """The superblock."""

    def statfs(self, dentry: Dentry) -> KStatfs:
        """Never sleeps.  All of it is used."""
        info: ImageInfo = dentry.d_sb.s_fs_info
        return KStatfs(0, BLOCK, info.blocks, 0, 0, info.inodes, 0, f_frsize=BLOCK)

    def remount_fs(self, sb: SuperBlock, flags: int, data: str) -> int:
        """Never sleeps.  Whatever was asked for, it stays read-only."""
        return flags | MS_RDONLY


class ImageFS(FileSystemType):
    """The type.  device: a fresh disk gets `SAMPLE`; `write_image` makes others."""

    name = "imagefs"
    device = RamDisk(sectors=64)

    @classmethod
    def mkfs(cls, device: RamDisk) -> None:
        """Write an image to a blank disk."""
        write_image(device, SAMPLE)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  Read block 0 and the root.  Raises EINVAL (this is no image), EIO."""
        sb_set_blocksize(sb, BLOCK)
        bh = sb_bread(sb, 0)
        magic, blocks, inodes = HEAD.unpack_from(bh.b_data)
        brelse(bh)
        if magic != MAGIC:
            raise EINVAL()
        sb.s_flags |= MS_RDONLY
        sb.s_op, sb.s_fs_info = ImageSuper(), ImageInfo(blocks, inodes)
        sb.s_root = d_make_root(image_iget(sb, ROOT))
