"""tinydisk: one directory of files, on a disk.  Read examples/toyfs.py first.

The disk is cut into blocks of 2 KiB.  Block 0 is the *table*: 16 records, one per inode.  Record 0
says whose disk this is, 1 is the root directory, each other one is a file, or free.  Records have
names, so the table is the directory, too.  Behind it each file owns 32 blocks; a *mask* tells which
of them were written.  The others are holes, whatever the disk holds there.

The table lives in a *buffer*.  ``sb_bread`` reads it at mount, and we keep it; we change its bytes
and say ``mark_buffer_dirty``.  The kernel writes it some time, or at once if we ask with
``sync_dirty_buffer``.  File data lives in *pages*.  The kernel asks us to read and write them, and
has helpers for that, which only want to know where on the disk a block of a file is: `get_block`.

Who locks what?  The kernel locks the directory (``i_rwsem``) before it asks us about its names, so
two tasks never take the same free record; and a file before it is written or cut: its mask is safe.
"""

import os
from ctypes import Array, LittleEndianStructure, c_char, c_int64, sizeof
from stat import S_IFDIR, S_IFREG
from typing import Any

from vfsim import block, fs, mm
from vfsim.filesystems.blockfs import BlockAddressSpaceOperations, BlockFileInodeOperations
from vfsim.filesystems.libfs import SimpleDirOperations, SimpleFileOperations, touch
from vfsim.fs import Dentry, File, Inode, SuperBlock
from vfsim.sim.errors import EINVAL, ENAMETOOLONG, ENOSPC

BLOCK, EXTENT, NAME_MAX, MAGIC = 2048, 32, 48, b"tinydisk"
ATTRIBUTES = ("i_mode", "i_nlink", "i_uid", "i_gid", "i_size", "i_blocks")
NUMBERS = (*ATTRIBUTES, "i_atime", "i_mtime", "i_ctime", "i_private")  # i_private is the mask


class Record(LittleEndianStructure):
    """An inode on the disk.  Its name is b"" if it was unlinked, its i_mode 0 if it is free."""

    _fields_ = (("name", c_char * NAME_MAX), *((number, c_int64) for number in NUMBERS))


ROOT, FILES = 1, range(2, BLOCK // sizeof(Record))


def table(sb: SuperBlock) -> Array[Record]:
    """Never sleeps.  The table: not a copy, but the bytes of the buffer."""
    return (Record * FILES.stop).from_buffer(sb.s_fs_info.b_data)


def set_name(dir: Inode, inode: Inode, name: str) -> None:
    """Sleeps.  Name a file, or take its name away."""
    table(dir.i_sb)[inode.i_ino].name = os.fsencode(name)
    block.mark_buffer_dirty(dir.i_sb.s_fs_info)
    touch(dir)
    inode.i_ctime = dir.i_ctime
    mm.mark_inode_dirty(inode)
    mm.mark_inode_dirty(dir)


class TinyPages(BlockAddressSpaceOperations):
    """How pages come from the disk and get there is borrowed; where their blocks are is ours."""

    def get_block(self, inode: Inode, iblock: int, create: bool) -> int | None:
        """Where a file's block is on the disk; None for a hole, unless we shall fill it."""
        if create:  # the kernel got None before, so it knows that the block is new, and clears it
            inode.i_private |= 1 << iblock
            inode.i_blocks += BLOCK // 512
            mm.mark_inode_dirty(inode)
        found = 1 + FILES.index(inode.i_ino) * EXTENT + iblock
        return found if inode.i_private & 1 << iblock else None

    def truncate_blocks(self, inode: Inode) -> None:
        """What is behind the end of the file becomes holes."""
        inode.i_private &= (1 << -(-inode.i_size // BLOCK)) - 1
        inode.i_blocks = inode.i_private.bit_count() * BLOCK // 512
        mm.mark_inode_dirty(inode)


def tiny_iget(sb: SuperBlock, ino: int) -> Inode:
    """Sleeps.  The inode of a record, with a reference.  Whoever comes first fills it in."""
    inode = fs.iget_locked(sb, ino)
    if inode.i_state & fs.I_NEW:
        for number in NUMBERS:
            setattr(inode, number, getattr(table(sb)[ino], number))
        inode.i_op = TinyDir() if ino == ROOT else BlockFileInodeOperations()
        inode.i_fop = TinyOpenDir() if ino == ROOT else TinyOpenFile()
        inode.i_mapping.a_ops = TinyPages()
        fs.unlock_new_inode(inode)
    return inode


class TinySuper(fs.SuperOperations):
    """What is done with inodes as such, and with the table."""

    def write_inode(self, inode: Inode, wbc: mm.WritebackControl) -> None:
        for number in NUMBERS:
            setattr(table(inode.i_sb)[inode.i_ino], number, getattr(inode, number))
        block.mark_buffer_dirty(inode.i_sb.s_fs_info)
        if wbc.sync_mode == mm.WB_SYNC_ALL:
            block.sync_dirty_buffer(inode.i_sb.s_fs_info)

    def evict_inode(self, inode: Inode) -> None:
        fs.truncate_inode_pages_final(inode)
        if not inode.i_nlink:
            table(inode.i_sb)[inode.i_ino] = Record()  # free, in one step
            block.mark_buffer_dirty(inode.i_sb.s_fs_info)
        fs.clear_inode(inode)

    def statfs(self, dentry: Dentry) -> fs.KStatfs:
        free = [table(dentry.d_sb)[ino].i_mode for ino in FILES].count(0)
        room, total = free * EXTENT, len(FILES) * EXTENT
        return fs.KStatfs(0, BLOCK, total, room, room, len(FILES), free, f_namelen=NAME_MAX)

    def remount_fs(self, sb: SuperBlock, flags: int, data: str) -> int:
        fs.sync_filesystem(sb)  # once it is read-only, nobody else does
        return flags

    def put_super(self, sb: SuperBlock) -> None:
        block.brelse(sb.s_fs_info)


class TinyDir(fs.InodeOperations):
    """The names in the directory.  The kernel has locked it whenever it calls one of these."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        name = os.fsencode(dentry.d_name)
        if len(name) > NAME_MAX:
            raise ENAMETOOLONG()
        found = [ino for ino in FILES if table(dir.i_sb)[ino].name == name]
        return fs.d_splice_alias(tiny_iget(dir.i_sb, found[0]) if found else None, dentry)

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        free = [ino for ino in FILES if not table(dir.i_sb)[ino].i_mode]
        if not free:
            raise ENOSPC()
        table(dir.i_sb)[free[0]] = Record(i_mode=mode, i_nlink=1)  # it is taken now
        inode = tiny_iget(dir.i_sb, free[0])
        fs.inode_init_owner(inode, dir, mode)
        inode.i_atime = inode.i_mtime = fs.current_time(inode)
        set_name(dir, inode, dentry.d_name)
        fs.d_instantiate(dentry, inode)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        fs.drop_nlink(fs.d_inode(dentry))
        set_name(dir, fs.d_inode(dentry), "")

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        if flags & ~fs.RENAME_NOREPLACE:
            raise EINVAL()
        if new_dentry.d_inode is not None:  # it is replaced
            self.unlink(new_dir, new_dentry)
        set_name(new_dir, fs.d_inode(old_dentry), new_dentry.d_name)


class TinyOpen(fs.FileOperations):
    """What an open file and the open directory have in common."""

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        mm.generic_file_fsync(file, start, end, datasync)
        block.sync_dirty_buffer(file.f_inode.i_sb.s_fs_info)  # the names


class TinyOpenFile(TinyOpen, SimpleFileOperations):
    """A file that somebody has open.  How it is read and written in its pages is borrowed."""


class TinyOpenDir(TinyOpen, SimpleDirOperations):
    """The open directory.  Positions 0 and 1 are "." and ".."; then come the numbers of files."""

    def iterate(self, file: File, ctx: fs.DirContext) -> None:
        while ctx.emit_dots(file) and ctx.pos in FILES:
            name = os.fsdecode(table(file.f_inode.i_sb)[ctx.pos].name)
            if name and not ctx.emit(name, ctx.pos, S_IFREG >> 12):
                return
            ctx.pos += 1


class TinyDisk(fs.FileSystemType):
    """The filesystem type: how a disk is formatted and mounted (umount needs nothing special)."""

    name = "tinydisk"
    device = block.RamDisk(sectors=2400)

    @classmethod
    def mkfs(cls, device: block.RamDisk) -> None:
        fit = min(len(FILES), (device.capacity * 512 // BLOCK - 1) // EXTENT)
        root, free, lacking = Record(i_mode=S_IFDIR | 0o755, i_nlink=2), Record(), Record(i_mode=1)
        table = Record(MAGIC), root, *[free] * fit, *[lacking] * (len(FILES) - fit)
        device.write_sectors(0, b"".join(map(bytes, table)))

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        block.sb_set_blocksize(sb, BLOCK)
        sb.s_op, sb.s_maxbytes, sb.s_fs_info = TinySuper(), EXTENT * BLOCK, block.sb_bread(sb, 0)
        try:
            if table(sb)[0].name != MAGIC:
                raise EINVAL()
            sb.s_root = fs.d_make_root(tiny_iget(sb, ROOT))
        except OSError:
            block.brelse(sb.s_fs_info)  # no root, no put_super
            raise
