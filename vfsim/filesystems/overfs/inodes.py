"""Inodes of an overfs: made when a name is found or created, and the same one for all hard links.

A file of the upper tree has one inode here, which is hashed by the upper one, so that whoever finds
the file by another name finds the inode.  What is only in the lower tree gets one for each name:
two of them, which were one file there, part with the first copy-up.
"""

from __future__ import annotations

from stat import S_ISDIR, S_ISLNK
from typing import TYPE_CHECKING

from vfsim.filesystems.overfs.layers import OverInode, copy_attributes
from vfsim.fs.icache import insert_inode_hash
from vfsim.fs.iget import iget5_locked, unlock_new_inode
from vfsim.fs.inode import (
    I_NEW,
    S_NOCMTIME,
    get_next_ino,
    init_special_inode,
    lockdep_annotate_inode_mutex_key,
    new_inode,
)

if TYPE_CHECKING:
    from vfsim.filesystems.overfs import OverFS
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock


def over_inode(sb: SuperBlock, upper: Inode | None, lower: Inode | None) -> Inode:
    """Sleeps.  The inode of what was found beneath, with a reference: the same one for all names of
    a file in the upper tree.  Source: ``ovl_get_inode``, ``ovl_new_inode``.
    """
    real = upper or lower
    assert real is not None
    if upper is None or S_ISDIR(upper.i_mode):
        inode = new_inode(sb)
        assert isinstance(inode, OverInode)
        inode.upper, inode.lower = upper, lower
        _fill(inode, real)
        return inode

    def is_it(inode: Inode) -> bool:
        return isinstance(inode, OverInode) and inode.upper is upper

    def become(inode: Inode) -> None:
        assert isinstance(inode, OverInode)
        inode.i_ino, inode.upper = get_next_ino(), upper

    inode = iget5_locked(sb, upper.i_ino, is_it, become)
    if inode.i_state & I_NEW:
        _fill(inode, real)
        unlock_new_inode(inode)
    return inode


def _fill(inode: Inode, real: Inode) -> None:
    inode.i_mode = real.i_mode
    if S_ISDIR(real.i_mode):
        lockdep_annotate_inode_mutex_key(inode)
    set_tables(inode, real.i_rdev)
    copy_attributes(real, inode)


def set_tables(inode: Inode, rdev: int) -> None:
    """Never sleeps.  What an inode of the type in ``i_mode`` needs."""
    over: OverFS = inode.i_sb.s_type  # type: ignore[assignment]
    inode.i_flags |= S_NOCMTIME
    if S_ISDIR(inode.i_mode):
        inode.i_op, inode.i_fop = over.directory, over.open_directory
    elif S_ISLNK(inode.i_mode):
        inode.i_op = over.symlink
    else:
        inode.i_op = over.file
        init_special_inode(inode, inode.i_mode, rdev)


def set_upper(inode: OverInode, upper: Inode) -> None:
    """Never sleeps.  An inode has one in the upper tree, by which others find it: a hard link is
    one inode here, too.  Source: ``ovl_inode_update``.
    """
    inode.upper = upper
    if not S_ISDIR(upper.i_mode):
        insert_inode_hash(inode, upper.i_ino)
