"""Where the two trees of an overfs come from.

Either the mount options name three directories, ``lowerdir=``, ``upperdir=`` and ``workdir=``, the
last two in one mount, or both trees are made here, private and in memory.  Either way the overfs
gets mounts of its own of them, which are in no tree and which nobody else can unmount.

The counterpart of the greater part of ``ovl_fill_super`` of v4.10.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import TYPE_CHECKING, Any

from vfsim.filesystems.overfs.copying import make_real
from vfsim.filesystems.overfs.layers import OverInfo, find, open_real
from vfsim.fs.cred import current_cred
from vfsim.fs.dcache import (
    DCACHE_OP_REVALIDATE,
    DCACHE_OP_WEAK_REVALIDATE,
    Dentry,
    d_inode,
    dget,
    dput,
    is_subdir,
)
from vfsim.fs.file import fput
from vfsim.fs.inode import I_MUTEX_PARENT
from vfsim.fs.lookup import LOOKUP_DIRECTORY, LOOKUP_FOLLOW, lookup_one_len
from vfsim.fs.mount import Path, mnt_drop_write, mnt_want_write, mntput, path_put
from vfsim.fs.namei import user_path
from vfsim.fs.namespace import clone_mnt, vfs_kern_mount
from vfsim.fs.read_write import kernel_write
from vfsim.sim.errors import EINVAL

if TYPE_CHECKING:
    from vfsim.filesystems.overfs import OverFS

Tree = dict[str, Any]
"""A directory to be: names, and what is behind them (a `Tree`, a file's bytes, a link's target)."""


def open_layers(over: OverFS, data: str) -> OverInfo:
    """Sleeps.  The two trees that mount options ask for.

    Raises:
        OSError: EINVAL (a directory is missing, the upper and the work directory are not beside
            each other, or a filesystem cannot be used), or what the walks and the trees say.
    """
    options = dict(word.partition("=")[::2] for word in data.split(",") if word)
    with ExitStack() as places:
        if "lowerdir" in options:
            lower, upper, work = _named(options, places)
        else:
            lower, upper, work = _private(over, places)
            if "sample" in options:
                populate(lower, over.sample)
        _check(lower, upper, work)
        upper_mnt = clone_mnt(upper.mnt, upper.dentry)
        try:
            lower_mnt = clone_mnt(lower.mnt, lower.dentry)
        except OSError:
            mntput(upper_mnt)
            raise
        return OverInfo(upper_mnt, lower_mnt, dget(work.dentry), current_cred(), data)


def _named(options: dict[str, str], places: ExitStack) -> list[Path]:
    """Sleeps.  The directories that are named; ``places`` puts the references."""
    found = []
    for option in ("lowerdir", "upperdir", "workdir"):
        path = user_path(options.get(option, ""), LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
        places.callback(path_put, path)
        found.append(path)
    return found


def _private(over: OverFS, places: ExitStack) -> list[Path]:
    """Sleeps.  Two new filesystems; the upper one has the work directory, too."""
    roots = []
    for fs_type in (over.private_lower, over.private_upper):
        mnt = vfs_kern_mount(fs_type, 0, fs_type.name, "")
        places.callback(mntput, mnt)
        roots.append(Path(mnt, mnt.mnt_root))
    lower, whole = roots
    populate(whole, {"upper": {}, "work": {}})
    found = [lower]
    for name in ("upper", "work"):
        dentry = find(whole.dentry, name)
        assert dentry is not None
        places.callback(dput, dentry)
        found.append(Path(whole.mnt, dentry))
    return found


def _check(lower: Path, upper: Path, work: Path) -> None:
    if upper.mnt is not work.mnt:
        raise EINVAL()
    if is_subdir(upper.dentry, work.dentry) or is_subdir(work.dentry, upper.dentry):
        raise EINVAL()
    if changes_by_itself(upper.dentry) or _is_stacked(upper.dentry) or _is_stacked(lower.dentry):
        raise EINVAL()


def changes_by_itself(dentry: Dentry) -> bool:
    """Never sleeps.  Whether names there must be asked about again, as on a server."""
    return bool(dentry.d_flags & (DCACHE_OP_REVALIDATE | DCACHE_OP_WEAK_REVALIDATE))


def _is_stacked(dentry: Dentry) -> bool:
    return isinstance(dentry.d_sb.s_fs_info, OverInfo)


def populate(path: Path, tree: Tree) -> None:
    """Sleeps.  Make a tree in a directory."""
    dir = d_inode(path.dentry)
    for name, thing in tree.items():
        mode, target = S_IFREG | 0o644, ""
        if isinstance(thing, dict):
            mode = S_IFDIR | 0o755
        elif isinstance(thing, str):
            mode, target = S_IFLNK | 0o777, thing
        mnt_want_write(path.mnt)
        try:
            dir.i_rwsem.down_write(I_MUTEX_PARENT)
            try:
                made = lookup_one_len(name, path.dentry)
                make_real(path.dentry, made, mode, 0, target)
            finally:
                dir.i_rwsem.up_write()
            if isinstance(thing, bytes):
                file = open_real(Path(path.mnt, made), os.O_WRONLY)
                kernel_write(file, thing, 0)
                fput(file)
        finally:
            mnt_drop_write(path.mnt)
        if isinstance(thing, dict):
            populate(Path(path.mnt, made), thing)
        dput(made)
