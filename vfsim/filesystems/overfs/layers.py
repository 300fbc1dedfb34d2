"""What lies beneath: two trees, and which of their names an overfs name stands for.

::

    superblock   s_fs_info  OverInfo    the two trees as mounts of its own, the work directory,
                                        whose rights it acts with
    dentry       d_fsdata   OverEntry   upper: Dentry | None      lower: Dentry | None
    inode                   OverInode   upper: Inode | None       lower: Inode | None

What has an ``upper`` is read and written there, and what has none, in the lower tree.  Of a
directory both count: it is *merged*.  ``upper`` changes once, from None, when the thing is copied
up; the lower tree never changes.

Two marks in the upper tree hide what is below.  A *whiteout*, a character device 0/0, says that
there is no such name.  An *opaque* directory, by its attribute ``trusted.overlay.opaque``, shows
only itself.

Which lock guards what: ``OverEntry.upper`` and ``removed`` are written under the lock of the
upper directory or of the work directory, ``opaque`` under that of the overfs directory; they are
read without one.  Order: all locks of overfs > s_vfs_rename_mutex > i_rwsem of the upper tree.
"""

from __future__ import annotations

import os
from stat import S_ISCHR, S_ISDIR
from typing import TYPE_CHECKING, Annotated

import attrs

from vfsim.fs.attr import KStat, vfs_getattr
from vfsim.fs.cred import Cred, override_creds, revert_creds
from vfsim.fs.dcache import Dentry, dput
from vfsim.fs.file import O_DIRECTORY, O_NOATIME, File, fput, get_empty_filp, vfs_open
from vfsim.fs.inode import Inode, set_nlink
from vfsim.fs.lookup import lookup_one_len_unlocked
from vfsim.fs.mount import Mount, Path, mnt_drop_write, mnt_want_write, mntput
from vfsim.fs.read_write import DirContext, iterate_dir
from vfsim.fs.xattr import vfs_getxattr, vfs_setxattr
from vfsim.sim.shared import kernel_struct, shared

if TYPE_CHECKING:
    from vfsim.fs.super import SuperBlock

PRIVATE = "trusted.overlay."
OPAQUE = PRIVATE + "opaque"
DT_CHR = 2

Names = dict[str, tuple[int, int]]
"""The names in a directory: inode number and DT_* type of each."""


@attrs.define(eq=False)
class OverInfo:
    """One overfs (Linux: ``struct ovl_fs``).

    Attributes:
        upper_mnt, lower_mnt: mounts in no tree, which nobody else can unmount or change.
        workdir: an empty directory beside the upper tree, where things are made ready.
        cred: of whoever mounted it; what overfs does below, it does with these.
        options: as /proc/mounts shows them.
        temps: how many names were used up in ``workdir``, whose lock guards it.
    """

    upper_mnt: Mount
    lower_mnt: Mount
    workdir: Dentry
    cred: Cred
    options: str = ""
    temps: int = 0

    def put(self) -> None:
        """Sleeps.  Let go of everything."""
        dput(self.workdir)
        mntput(self.upper_mnt)
        mntput(self.lower_mnt)


@kernel_struct
class OverEntry:
    """What a dentry stands for (Linux: ``struct ovl_entry``); it has a reference on each.

    Attributes:
        upper, lower: the dentries beneath.
        opaque: nothing of the lower tree shows; of a negative dentry: a whiteout says so.
        removed: the name is gone, though somebody may still use what it led to.
    """

    upper: Annotated[Dentry | None, shared]
    lower: Dentry | None
    opaque: Annotated[bool, shared]
    removed: Annotated[bool, shared]

    def __init__(self) -> None:
        self.upper = None
        self.lower = None
        self.opaque = False
        self.removed = False

    @property
    def below(self) -> Dentry | None:
        """Never sleeps.  The directory in the lower tree whose names show in this one, if any."""
        return None if self.opaque else self.lower

    def put(self) -> None:
        """Sleeps.  Put the references."""
        dput(self.upper)
        dput(self.lower)


@kernel_struct
class OverInode(Inode):
    """What an inode stands for; the dentries keep both alive.  Its attributes are copies."""

    upper: Annotated[Inode | None, shared]
    lower: Inode | None

    def __init__(self, sb: SuperBlock) -> None:
        Inode.__init__(self, sb)
        self.upper = None
        self.lower = None


def info_of(sb: SuperBlock) -> OverInfo:
    """Never sleeps.  What belongs to a superblock."""
    info: OverInfo = sb.s_fs_info
    return info


def entry_of(dentry: Dentry) -> OverEntry:
    """Never sleeps.  What a dentry stands for."""
    entry: OverEntry = dentry.d_fsdata
    return entry


def upper_of(dentry: Dentry) -> Dentry:
    """Never sleeps.  The dentry in the upper tree of what was copied up."""
    upper = entry_of(dentry).upper
    assert upper is not None, f"{dentry!r} was not copied up"
    return upper


def real_path(dentry: Dentry) -> Path:
    """Never sleeps.  Where a dentry is read, without references.  Source: ``ovl_path_real``."""
    info, entry = info_of(dentry.d_sb), entry_of(dentry)
    upper = entry.upper
    if upper is not None:
        return Path(info.upper_mnt, upper)
    assert entry.lower is not None
    return Path(info.lower_mnt, entry.lower)


def real_inode(inode: Inode) -> Inode:
    """Never sleeps.  What an inode is read from.  Source: ``ovl_inode_real``."""
    assert isinstance(inode, OverInode)
    real = inode.upper or inode.lower
    assert real is not None
    return real


def copy_attributes(real: Inode, inode: Inode) -> None:
    """Never sleeps.  The attributes of ``inode`` are those of ``real``.  The caller holds its
    ``i_rwsem``, or nobody else knows it.  Source: ``ovl_copyattr``.
    """
    inode.i_mode, inode.i_uid, inode.i_gid = real.i_mode, real.i_uid, real.i_gid
    inode.i_atime, inode.i_mtime, inode.i_ctime = real.i_atime, real.i_mtime, real.i_ctime
    if not S_ISDIR(real.i_mode):
        set_nlink(inode, real.i_nlink)


# -- on whose behalf -------------------------------------------------------------------------------


class Acting:
    """``with Acting(cred):`` the task acts with other credentials."""

    def __init__(self, cred: Cred) -> None:
        self.cred = cred

    def __enter__(self) -> None:
        self.cred = override_creds(self.cred)

    def __exit__(self, *exc: object) -> None:
        revert_creds(self.cred)


class Writing:
    """``with Writing(dentry):`` the upper tree may be written, and is not frozen meanwhile."""

    def __init__(self, dentry: Dentry) -> None:
        self.mnt = info_of(dentry.d_sb).upper_mnt

    def __enter__(self) -> None:
        mnt_want_write(self.mnt)

    def __exit__(self, *exc: object) -> None:
        mnt_drop_write(self.mnt)


def as_mounter(dentry: Dentry) -> Acting:
    """Never sleeps.  With the credentials of whoever mounted it."""
    return Acting(info_of(dentry.d_sb).cred)


# -- looking at one tree ---------------------------------------------------------------------------


def is_whiteout(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it says that there is no such name."""
    inode = dentry.d_inode
    return inode is not None and S_ISCHR(inode.i_mode) and not inode.i_rdev


def is_opaque(upper: Dentry) -> bool:
    """Sleeps.  Whether a directory hides what is below."""
    try:
        return vfs_getxattr(upper, OPAQUE) == b"y"
    except OSError:
        return False


def set_opaque(dentry: Dentry, upper: Dentry) -> None:
    """Sleeps.  Hide what is below.  Takes the upper directory's ``i_rwsem``."""
    vfs_setxattr(upper, OPAQUE, b"y", 0)
    entry_of(dentry).opaque = True


def find(parent: Dentry, name: str) -> Dentry | None:
    """Sleeps.  What a name leads to in one tree, with a reference; None if it leads nowhere."""
    dentry = lookup_one_len_unlocked(name, parent)
    if dentry.d_inode is not None:
        return dentry
    dput(dentry)
    return None


def lies_below(dentry: Dentry) -> bool:
    """Sleeps.  Whether the lower tree has this name, so that a whiteout is needed to hide it.

    Source: ``ovl_lower_positive``.
    """
    entry = entry_of(dentry)
    if dentry.d_inode is None:
        return entry.opaque
    if entry.upper is None:
        return True
    below = entry_of(dentry.d_parent).below
    found = None if below is None else find(below, dentry.d_name)
    there = found is not None and not is_whiteout(found)
    dput(found)
    return there


def open_real(path: Path, flags: int) -> File:
    """Sleeps.  Open something beneath.  Source: ``ovl_path_open``, ``dentry_open``."""
    file = get_empty_filp(flags | O_NOATIME)
    vfs_open(file, path.mnt, path.dentry)
    return file


class Collector(DirContext):
    """Takes all names of a directory, but "." and ".."."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.names: Names = {}

    def emit(self, name: str, ino: int, d_type: int) -> bool:
        """Never sleeps.  There is always room."""
        if name not in (".", ".."):
            self.names[name] = ino, d_type
        return True


def list_real(path: Path) -> Names:
    """Sleeps.  The names in one directory beneath, whiteouts among them.  Takes its ``i_rwsem``."""
    file = open_real(path, os.O_RDONLY | O_DIRECTORY)
    collector = Collector()
    try:
        iterate_dir(file, collector)
    finally:
        fput(file)
    return collector.names


def list_merged(dentry: Dentry) -> Names:
    """Sleeps.  The names in an overfs directory: those of the upper tree, then those of the lower
    one that it does not hide.  The caller holds the directory.  Source: ``ovl_dir_read_merged``.
    """
    info, entry = info_of(dentry.d_sb), entry_of(dentry)
    layers = [Path(info.upper_mnt, entry.upper)] if entry.upper is not None else []
    if entry.below is not None:
        layers.append(Path(info.lower_mnt, entry.below))
    found: dict[str, tuple[int, int] | None] = {}
    for path in layers:
        for name, (ino, kind) in list_real(path).items():
            if name not in found:
                hides = kind == DT_CHR and _hides(path.dentry, name)
                found[name] = None if hides else (ino, kind)
    return {name: there for name, there in found.items() if there is not None}


def _hides(parent: Dentry, name: str) -> bool:
    dentry = lookup_one_len_unlocked(name, parent)
    try:
        return is_whiteout(dentry)
    finally:
        dput(dentry)


def stat_real(dentry: Dentry) -> KStat:
    """Sleeps.  The attributes of what is beneath."""
    with as_mounter(dentry):
        return vfs_getattr(real_path(dentry))
