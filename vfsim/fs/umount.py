"""umount(2), and mounts that go by themselves when nobody has used them for a while.

A mount goes if nobody uses it: one reference is the tree's, one the caller's.  MNT_DETACH takes it
out of the tree although it is used; the last of its users ends it.  Mounts on a list of
`mnt_set_expiry` (automounts, mostly) are looked at now and then by `mark_mounts_for_expiry`: found
unused, a mount is marked; used, the mark is gone (`vfsim.fs.mount.mntput`); found marked and
unused, it is unmounted.

Order: as in `vfsim.fs.mount`.  The counterpart of ``do_umount``, ``mark_mounts_for_expiry`` and
``shrink_submounts`` in ``fs/namespace.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.mount import (
    MNT_SHRINKABLE,
    MNT_SYNC_UMOUNT,
    mnt_subtree,
    mntget,
    mntput,
    mounts,
    namespace_unlock,
    umount_tree,
)
from vfsim.fs.operations import SuperOperations
from vfsim.fs.super import MS_RDONLY, do_remount_sb
from vfsim.sim.errors import EAGAIN, EBUSY, EINVAL
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.fs.mount import Mount, Mounts

# flags of umount(2)
MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

_PLAIN_UMOUNT_BEGIN = SuperOperations.umount_begin


def do_umount(mnt: Mount, flags: int = 0) -> None:
    """Sleeps.  umount(2): take ``mnt`` out of the tree; the caller has a reference on it, and puts
    that afterwards.

    Args:
        flags: MNT_DETACH: although it is in use, which goes on until its users are done.
            MNT_FORCE: tell the filesystem first (``umount_begin``).
            MNT_EXPIRE: only if nobody has used it since the last time this was asked.

    Raises:
        OSError: EBUSY (in use, or something is mounted inside), EAGAIN (MNT_EXPIRE for the first
            time), EINVAL (MNT_EXPIRE of one's root, or with another flag).

    Takes ``namespace_sem``.  Source: ``do_umount``.
    """
    world = mounts()
    sb = mnt.mnt_sb
    process = K.cur.process
    is_root = process is not None and process.root.mnt is mnt
    if flags & MNT_EXPIRE:
        _expire_now(world, mnt, flags, is_root)
    if flags & MNT_FORCE and type(sb.s_op).umount_begin is not _PLAIN_UMOUNT_BEGIN:
        sb.s_op.umount_begin(sb)
    if is_root and not flags & MNT_DETACH:
        with sb.s_umount:  # one's own root cannot go: it becomes read-only instead
            if not sb.s_flags & MS_RDONLY:
                do_remount_sb(sb, MS_RDONLY, None, False)
        return
    world.namespace_sem.down_write()
    try:
        with world.mount_lock:
            if not flags & MNT_DETACH:
                shrink_submounts(world, mnt)
                if _is_busy(mnt, 2):
                    raise EBUSY()
            if mnt.mnt_ns is not None:
                umount_tree(world, mnt, 0 if flags & MNT_DETACH else MNT_SYNC_UMOUNT)
    finally:
        namespace_unlock(world)


def _expire_now(world: Mounts, mnt: Mount, flags: int, is_root: bool) -> None:
    """Never sleeps.  MNT_EXPIRE: return if the mark was set; otherwise set it."""
    if is_root or flags & (MNT_FORCE | MNT_DETACH):
        raise EINVAL()
    with world.mount_lock:
        if mnt.mnt_count != 2:
            raise EBUSY()
    marked, mnt.mnt_expiry_mark = mnt.mnt_expiry_mark, True
    if not marked:
        raise EAGAIN()


def _is_busy(mnt: Mount, references: int) -> bool:
    """Whether anybody uses a mount, beside the given references; the caller holds mount_lock."""
    return bool(mnt.mnt_mounts) or mnt.mnt_count > references


def kern_unmount(mnt: Mount) -> None:
    """Sleeps.  Let go of a mount that is in no tree, or of the root of the tree once nobody uses
    it.
    """
    if mnt.mnt_ns is not None:
        mntget(mnt)
        try:
            do_umount(mnt, 0)
        finally:
            mntput(mnt)
    else:
        mntput(mnt)


# -- expiry ----------------------------------------------------------------------------------------


def mnt_set_expiry(mnt: Mount, expiry_list: dict[Mount, None]) -> None:
    """Sleeps.  Put a mount on a list of those that go when nobody uses them.

    Takes ``namespace_sem``.  Source: ``mnt_set_expiry``.
    """
    world = mounts()
    world.namespace_sem.down_write()
    with world.mount_lock:
        mnt.mnt_expire = expiry_list
        expiry_list[mnt] = None
    namespace_unlock(world)


def mnt_leave_expiry(mnt: Mount) -> None:
    """Sleeps.  Take a mount off such a list, if it is on one: it did not get into the tree.

    Takes ``namespace_sem``.  Source: the end of ``finish_automount``.
    """
    if mnt.mnt_expire is None:
        return
    world = mounts()
    world.namespace_sem.down_write()
    with world.mount_lock:
        if mnt.mnt_expire is not None:
            del mnt.mnt_expire[mnt]
            mnt.mnt_expire = None
    namespace_unlock(world)


def mark_mounts_for_expiry(expiry_list: dict[Mount, None]) -> None:
    """Sleeps.  Unmount those of a list that nobody has used since the last time, and mark the rest.

    Takes ``namespace_sem``.  Source: ``mark_mounts_for_expiry``.
    """
    if not expiry_list:
        return
    world = mounts()
    world.namespace_sem.down_write()
    with world.mount_lock:
        graveyard = []
        for mnt in expiry_list:
            marked, mnt.mnt_expiry_mark = mnt.mnt_expiry_mark, True
            if marked and not _is_busy(mnt, 1):
                graveyard.append(mnt)
        _bury(world, graveyard)
    namespace_unlock(world)


def shrink_submounts(world: Mounts, mnt: Mount) -> None:
    """Never sleeps.  Unmount what expires inside a mount and is not used just now.

    The caller holds namespace_sem and mount_lock.  Source: ``shrink_submounts``.
    """
    while graveyard := [
        below
        for below in mnt_subtree(mnt)
        if below is not mnt and below.mnt_flags & MNT_SHRINKABLE and not _is_busy(below, 1)
    ]:
        _bury(world, graveyard)


def _bury(world: Mounts, graveyard: Iterable[Mount]) -> None:
    for mnt in graveyard:
        umount_tree(world, mnt, MNT_SYNC_UMOUNT)
