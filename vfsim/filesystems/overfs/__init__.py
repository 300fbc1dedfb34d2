"""overfs: one tree to see, made of two: an upper one, which is written, over a lower one, which
stays as it is.

::

    /            merged: names of both        upper/  f   d/  .wh     lower/  d/  g   w
    ├── d/       in both: merged again                └ x               └ y
    ├── f        only in the upper tree
    ├── g        only in the lower tree: copied up by whoever opens it for writing
    └── (no w)   a whiteout in the upper tree hides it

The parts:

=============  =====================================================================================
`layers`       what a name, an inode and a superblock stand for; looking at the two trees
`inodes`       one for each file
`copying`      copy-up: from the lower tree into the upper one
`attributes`   stat, chmod, permissions, extended attributes
`names`        lookup, create, remove, rename
`upper`        what these do to the upper tree
`mounting`     where the two trees come from
this file      ``d_real``, listing, the superblock
=============  =====================================================================================

An open file is a file of one of the two trees (``d_real``): its data never passes through here, and
who opened it for reading before it was copied up goes on reading the old one.  With two filesystems
above each other there are two locks of everything, of two classes; overfs's come first.

Mount options: ``lowerdir=``, ``upperdir=`` and ``workdir=`` are paths.  Without them both trees are
private and in memory, and the lower one is empty or, with ``sample``, holds `OverFS.sample`.

A small relative of ``fs/overlayfs`` of v4.10.  Left out: several lower trees, overfs over overfs,
renames of merged directories (EXDEV, as by default there), and what is left in the work directory
by a crash.
"""

from __future__ import annotations

import os
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from vfsim.filesystems.libfs import MemoryFileOperations
from vfsim.filesystems.overfs.attributes import (
    OverAttributes,
    OverPrivateXattrs,
    OverSecurityXattrs,
    OverSymlink,
    OverTrustedXattrs,
    OverUserXattrs,
)
from vfsim.filesystems.overfs.copying import copy_up
from vfsim.filesystems.overfs.inodes import over_inode
from vfsim.filesystems.overfs.layers import (
    OverEntry,
    OverInode,
    Writing,
    as_mounter,
    entry_of,
    info_of,
    list_merged,
    open_real,
)
from vfsim.filesystems.overfs.mounting import Tree, changes_by_itself, open_layers
from vfsim.filesystems.overfs.names import OverDirectory
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.acl_xattr import PosixAclAccessHandler, PosixAclDefaultHandler
from vfsim.fs.dcache import (
    DCACHE_OP_REVALIDATE,
    DCACHE_OP_WEAK_REVALIDATE,
    Dentry,
    d_inode,
    d_invalidate,
    d_make_root,
    dget,
)
from vfsim.fs.file import fput
from vfsim.fs.inode import generic_delete_inode
from vfsim.fs.mount import Path
from vfsim.fs.operations import (
    LOOKUP_RCU,
    DentryOperations,
    FileOperations,
    FileSystemType,
    InodeOperations,
    SuperOperations,
    XattrHandler,
)
from vfsim.fs.read_write import vfs_fsync_range
from vfsim.fs.super import MAX_LFS_FILESIZE, SB_POSIXACL, KStatfs, kill_anon_super
from vfsim.sim.errors import ESTALE

if TYPE_CHECKING:
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.fs.read_write import DirContext
    from vfsim.fs.super import SuperBlock

OVERLAYFS_SUPER_MAGIC = 0x794C7630


class OverNames(DentryOperations):
    """Names that stand for others."""

    def d_release(self, dentry: Dentry) -> None:
        """Sleeps.  Let go of the dentries beneath."""
        entry: OverEntry | None = dentry.d_fsdata
        if entry is not None:
            entry.put()

    def d_real(self, dentry: Dentry, inode: Inode | None, open_flags: int) -> Dentry:
        """Sleeps.  The file beneath, copied up before it is opened for writing.  Anything else is
        itself.
        """
        if dentry.d_inode is None or not S_ISREG(dentry.d_inode.i_mode):
            return dentry
        entry = entry_of(dentry)
        writes = open_flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC)
        if writes and entry.upper is None:
            with Writing(dentry):
                copy_up(dentry, truncate=bool(open_flags & os.O_TRUNC))
        upper, lower = entry.upper, entry.lower
        if upper is not None and (inode is None or upper.d_inode is inode):
            return upper
        assert lower is not None and inode in (None, lower.d_inode)
        return lower


class OverLeasedNames(OverNames):
    """The same over a lower tree whose names may change, as on a server."""

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  What the lower filesystem says.  Raises ESTALE: it is not what it was."""
        lower = entry_of(dentry).lower
        if lower is None or not lower.d_flags & DCACHE_OP_REVALIDATE:
            return True
        if not lower.d_op.d_revalidate(lower, flags):
            if not flags & LOOKUP_RCU:
                d_invalidate(lower)
            raise ESTALE()
        return True

    def d_weak_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  What the lower filesystem says."""
        lower = entry_of(dentry).lower
        if lower is None or not lower.d_flags & DCACHE_OP_WEAK_REVALIDATE:
            return True
        return lower.d_op.d_weak_revalidate(lower, flags)


class OverOpenDirectory(MemoryFileOperations):
    """An open directory.  Its positions are ".", "..", and then the entries in turn."""

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Sleeps.  The names as they were when the listing began."""
        if not ctx.emit_dots(file):
            return
        if ctx.pos == 2 or file.private_data is None:
            with as_mounter(file.f_path.dentry):
                file.private_data = list(list_merged(file.f_path.dentry).items())
        for name, (ino, kind) in file.private_data[ctx.pos - 2 :]:
            if not ctx.emit(name, ino, kind):
                return
            ctx.pos += 1

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Sleeps.  The upper directory; the lower one is never written."""
        dentry = file.f_path.dentry
        upper = entry_of(dentry).upper
        if upper is not None:
            real = open_real(Path(info_of(dentry.d_sb).upper_mnt, upper), os.O_RDONLY)
            try:
                vfs_fsync_range(real, start, end, datasync)
            finally:
                fput(real)


class OverSuper(SuperOperations):
    """The superblock."""

    def alloc_inode(self, sb: SuperBlock) -> Inode:
        """Never sleeps.  One that stands for others."""
        return OverInode(sb)

    def drop_inode(self, inode: Inode) -> bool:
        """Never sleeps.  Always: what it stands for may go, too."""
        return generic_delete_inode(inode)

    def statfs(self, dentry: Dentry) -> KStatfs:
        """Sleeps.  What the upper filesystem says."""
        root = info_of(dentry.d_sb).upper_mnt.mnt_root
        found = root.d_sb.s_op.statfs(root)
        found.f_type = OVERLAYFS_SUPER_MAGIC
        return found

    def show_options(self, dentry: Dentry) -> str:
        """Never sleeps.  As it was mounted."""
        options = info_of(dentry.d_sb).options
        return f",{options}" if options else ""

    def put_super(self, sb: SuperBlock) -> None:
        """Sleeps.  Let go of the two trees."""
        info_of(sb).put()


class OverFS(FileSystemType):
    """The type.

    Attributes:
        directory, open_directory, file, symlink, super, names, leased_names, xattrs: its tables.
        private_upper, private_lower: what is mounted if no directories are named.
        sample: what the private lower tree holds with the option ``sample``.
    """

    name = "overfs"
    directory: InodeOperations = OverDirectory()
    open_directory: FileOperations = OverOpenDirectory()
    file: InodeOperations = OverAttributes()
    symlink: InodeOperations = OverSymlink()
    super: SuperOperations = OverSuper()
    names: DentryOperations = OverNames()
    leased_names: DentryOperations = OverLeasedNames()
    xattrs: tuple[XattrHandler, ...] = (
        PosixAclAccessHandler(),
        PosixAclDefaultHandler(),
        OverPrivateXattrs(),
        OverTrustedXattrs(),
        OverSecurityXattrs(),
        OverUserXattrs(),
    )
    private_upper: FileSystemType = RamFS()
    private_lower: FileSystemType = RamFS()
    sample: Tree = {"README": b"Read me.\n", "bin": {"sh": b"#!"}, "man": "README", "empty": {}}

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  Find or make the two trees, and stand over them.  Raises as `open_layers`."""
        info = open_layers(self, str(data or ""))
        upper, lower = info.upper_mnt.mnt_root, info.lower_mnt.mnt_root
        sb.s_fs_info, sb.s_op = info, self.super
        sb.s_d_op = self.leased_names if changes_by_itself(lower) else self.names
        sb.s_magic, sb.s_maxbytes = OVERLAYFS_SUPER_MAGIC, MAX_LFS_FILESIZE
        sb.s_flags |= SB_POSIXACL
        sb.s_xattr = self.xattrs
        try:
            root = d_make_root(over_inode(sb, d_inode(upper), d_inode(lower)))
        except OSError:
            info.put()
            raise
        root.d_fsdata = entry = OverEntry()
        entry.upper, entry.lower = dget(upper), dget(lower)
        sb.s_root = root

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  As always."""
        kill_anon_super(sb)
