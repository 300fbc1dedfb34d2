"""What memory pressure takes of a superblock: unused dentries, and then unused inodes.

Each superblock registers one shrinker when it is made and gives it back before ``kill_sb``.  It
runs inside somebody's allocation, whatever that one holds, so it must not wait for much:

* if the allocation may not call into filesystems (no ``GFP_FS``), it does nothing;
* ``s_umount`` keeps the superblock from being unmounted meanwhile, and is only *tried*: whoever
  mounts, remounts or unmounts may be the one who allocates;
* the dcache goes first, because its dentries hold the inodes.

`drop_caches` is the administrator's way to it (``/proc/sys/vm/drop_caches``).  The counterpart of
``super_cache_count`` and ``super_cache_scan`` in ``fs/super.c``, and of ``fs/drop_caches.c`` of
v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.d_walk import prune_dcache_sb
from vfsim.fs.icache import prune_icache_sb
from vfsim.fs.inode import iget, iput
from vfsim.locks.memalloc import GFP_FS
from vfsim.mm.i_state import I_DYING, I_NEW
from vfsim.mm.shrinker import SHRINK_STOP, Shrinker, drop_slab
from vfsim.mm.truncate import invalidate_mapping_pages
from vfsim.mm.writeback import trylock_super
from vfsim.sim.errors import EINVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock
    from vfsim.mm.shrinker import ShrinkControl

BATCH = 1024
PAGECACHE, SLAB = 1, 2
"""What `drop_caches` drops."""


def super_shrinker(sb: SuperBlock) -> Shrinker:
    """Never sleeps.  The shrinker of a new superblock."""
    return Shrinker(
        lambda sc: super_cache_count(sb, sc), lambda sc: super_cache_scan(sb, sc), batch=BATCH
    )


def super_cache_count(sb: SuperBlock, sc: ShrinkControl) -> int:
    """Never sleeps.  How many dentries and inodes are unused.  Takes no lock: a guess will do."""
    return len(sb.s_dentry_lru) + len(sb.s_inode_lru)


def super_cache_scan(sb: SuperBlock, sc: ShrinkControl) -> int:
    """Sleeps.  Look at ``sc.nr_to_scan`` unused dentries and inodes, each in its proportion, and
    at least at one of each; returns how many were freed.

    SHRINK_STOP, if the allocation must not call into filesystems, or the superblock is coming,
    changing or going.  Tries ``s_umount`` shared.  Source: ``super_cache_scan``.
    """
    if not sc.gfp_mask & GFP_FS:
        return SHRINK_STOP
    if not trylock_super(sb):
        return SHRINK_STOP
    dentries, inodes = len(sb.s_dentry_lru), len(sb.s_inode_lru)
    total = dentries + inodes + 1
    freed = prune_dcache_sb(sb, sc.nr_to_scan * dentries // total + 1)
    freed += prune_icache_sb(sb, sc.nr_to_scan * inodes // total + 1)
    sb.s_umount.up_read()
    return freed


def drop_caches(what: int, iterate_supers: Callable[[Callable[[SuperBlock], None]], None]) -> None:
    """Sleeps.  Drop clean pages (1), unused dentries and inodes (2), or both (3).

    Raises:
        OSError: EINVAL, if ``what`` is none of them.

    Source: ``drop_caches_sysctl_handler``.
    """
    if not PAGECACHE <= what <= PAGECACHE | SLAB:
        raise EINVAL()
    if what & PAGECACHE:
        iterate_supers(_drop_pagecache_sb)
    if what & SLAB:
        drop_slab()


def _drop_pagecache_sb(sb: SuperBlock) -> None:
    """Sleeps.  Drop the clean pages of every inode.  The caller holds ``s_umount`` shared.

    A reference on each keeps it on the list while the list's lock is not held; it is put when that
    on the next one is taken.
    """
    last: Inode | None = None
    lock = sb.s_inode_list_lock
    lock.lock()
    for inode in list(sb.s_inodes):
        if inode not in sb.s_inodes:
            continue  # gone meanwhile
        with inode.i_lock:
            if inode.i_state & (I_DYING | I_NEW) or not inode.has_pages:
                continue
            iget(inode)
        lock.unlock()
        invalidate_mapping_pages(inode.i_mapping)
        iput(last)
        last = inode
        lock.lock()
    lock.unlock()
    iput(last)
