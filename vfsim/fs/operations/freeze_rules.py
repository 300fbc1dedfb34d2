"""What the methods of several tables are asked about freezing: rules E6, E8 and E9.

The write level is the outermost lock of a system call that changes something: a freeze waits until
nobody has it, with no other lock held.  What stands here only looks at the held stack and at
``sb.s_writers`` (see `vfsim.fs.writers`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.writers import SB_FREEZE_COMPLETE, SB_FREEZE_FS
from vfsim.mm.page import DIRTY
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.checks.calls import Call
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File, Kiocb
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock


def _writes_outside_of(inode: Inode) -> bool:
    """Whether the task holds the write level, taken before the inode's lock."""
    level: Any = inode.i_sb.s_writers.rw_sem[0]
    lock = inode.i_rwsem
    link = K.cur.held
    while link is not None and link[0] is not level:
        link = link[1]
    if link is None:
        return False
    while link is not None and link[0] is not lock:
        link = link[1]
    return link is None


# -- E6, by what a method has for a parameter ------------------------------------------------------


def the_write_level_is_held_outside_of_the_directory(dir: Inode) -> bool:
    return _writes_outside_of(dir)


def the_write_level_is_held_outside_of_the_directories(old_dir: Inode, new_dir: Inode) -> bool:
    return _writes_outside_of(old_dir) and _writes_outside_of(new_dir)


def the_write_level_is_held_outside_of_the_inode(dentry: Dentry) -> bool:
    return dentry.d_inode is None or _writes_outside_of(dentry.d_inode)


def the_write_level_is_held(file: File) -> bool:
    return _writes_outside_of(file.f_inode)


def the_write_level_is_held_for_the_write(iocb: Kiocb) -> bool:
    return _writes_outside_of(iocb.ki_filp.f_inode)


# -- E8 --------------------------------------------------------------------------------------------


def all_levels_are_shut_and_the_internal_one_last(sb: SuperBlock) -> bool:
    return sb.s_writers.frozen == SB_FREEZE_FS and _shut_by_the_task(sb)


def all_levels_are_shut_and_the_freeze_is_complete(sb: SuperBlock) -> bool:
    return sb.s_writers.frozen == SB_FREEZE_COMPLETE and _shut_by_the_task(sb)


def _shut_by_the_task(sb: SuperBlock) -> bool:
    return all(sem.owner is K.cur for sem in sb.s_writers.rw_sem)


# -- E9 --------------------------------------------------------------------------------------------


def finds_nothing_dirty(call: Call, sb: SuperBlock) -> Iterator[None]:
    """E9: no page is dirty when the filesystem is told of the freeze, nor when it returns."""
    call.caller("E9", not _dirty(sb), "although pages are dirty")
    yield
    if call.error is None:
        call.check("E9", not _dirty(sb), "left dirty pages")


def nothing_got_dirty(call: Call, sb: SuperBlock) -> Iterator[None]:
    """E9: no page became dirty while the filesystem was frozen."""
    call.caller("E9", not _dirty(sb), "although pages became dirty since the freeze")
    yield


def _dirty(sb: SuperBlock) -> bool:
    """Whether a page of a file waits to be written; filesystems in memory have none that do."""
    return any(inode.i_mapping.tagged(DIRTY) for inode in sb.s_inodes)
