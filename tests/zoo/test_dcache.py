"""Bugs that the dcache and the inode cache of Linux had."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fs.worlds import Plain, PlainSuper, add, directory, regular, root_of
from tests.zoo.pairs import caught
from vfsim.checks.lifetime import free
from vfsim.fs import iget
from vfsim.fs.d_walk import D_WALK_CONTINUE, d_walk, prune_dcache_sb
from vfsim.fs.dcache import Dentry, dput, shrink_dcache_parent
from vfsim.fs.icache import icache, truncate_inode_pages_final
from vfsim.fs.iget import iget_locked, insert_new_locked, unlock_new_inode
from vfsim.fs.inode import I_NEW, Inode, clear_inode, iput, new_inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.locks.memalloc import GFP_KERNEL
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.mm.i_state import I_DYING
from vfsim.mm.shrinker import ShrinkControl, Shrinker, shrink_slab, shrinkers
from vfsim.sim.errors import EBUSY
from vfsim.sim.scheduler import cpu_relax, msleep


def branch(sb: SuperBlock) -> None:
    """/d/f, unused."""
    d = add(root_of(sb), "d", directory(sb))
    dput(add(d, "f", regular(sb)))
    dput(d)


def prune(sb: SuperBlock) -> None:
    """All unused dentries go, after their second chance."""
    for _ in range(2):
        prune_dcache_sb(sb, 10)


# -- DC-04: dealing with the rest of shrink_dentry_list() livelock (v3.16) -------------------------


def lock_parent_and_keep(real: Any, dentry: Dentry) -> Dentry | None:
    """The child's lock is kept while the parent's is tried again and again."""
    parent = dentry.d_parent
    if parent is dentry or dentry.d_lockref.count < 0:
        return None
    while not parent.d_lock.trylock():
        cpu_relax()
    return parent


def shrinker_and_walker(kernel: Kernel, sb: SuperBlock) -> None:
    """One prunes, one walks the tree from above."""
    kernel.machine.spawn(lambda: branch(sb), name="branch")
    kernel.machine.run()

    def walk() -> None:
        for _ in range(3):
            d_walk(root_of(sb), lambda dentry: D_WALK_CONTINUE)

    kernel.machine.spawn(prune, sb)
    kernel.machine.spawn(walk)


@pytest.mark.parametrize("strategy", ["pos", "random"])
def test_dc_04_a_trylock_loop_that_lets_nothing_go(strategy: str) -> None:
    """The shrinker has the child and tries the parent, the walker has the parent and wants the
    child: neither gets on, and neither strategy is fair enough to hide that.
    """
    patches = {"vfsim.fs.d_walk._lock_parent": lock_parent_and_keep}
    assert caught(shrinker_and_walker, patches, (strategy,)) == "no-progress"


# -- DC-05: race leading to busy inodes on umount (2005, 2.6.19) -----------------------------------


def scan_without_s_umount(real: Any, sb: SuperBlock, sc: ShrinkControl) -> int:
    """Nothing keeps the superblock from being unmounted meanwhile."""
    return prune_dcache_sb(sb, 10)


def unregister_without_waiting(real: Any, shrinker: Shrinker) -> None:
    """Nor does umount wait for who is shrinking, as when one shrinker served all superblocks."""
    shrinkers().shrinker_list.remove(shrinker)


def pressure_and_umount(kernel: Kernel, sb: SuperBlock) -> None:
    """One shrinks, one unmounts."""
    kernel.machine.spawn(lambda: branch(sb), name="branch")
    kernel.machine.run()

    def shrink() -> None:
        for _ in range(3):
            shrink_slab(GFP_KERNEL, 1000, 1000)

    def leave(sys: Sys) -> None:
        sys.umount("/m")

    kernel.machine.spawn(shrink)
    kernel.process(leave)


def test_dc_05_a_shrinker_during_umount() -> None:
    """It has killed the child and still holds the parent, which umount takes for busy."""
    patches = {
        "vfsim.fs.super_cache.super_cache_scan": scan_without_s_umount,
        "vfsim.mm.shrinker.unregister_shrinker": unregister_without_waiting,
    }
    assert caught(pressure_and_umount, patches) in ("leak.dentry", "lifetime.use-after-free")


# -- IN-01: insert_inode_locked() must wait for inodes being freed ---------------------------------


class SlowEvict(PlainSuper):
    """Eviction writes to the disk for a while; an unused inode goes at once."""

    def drop_inode(self, inode: Inode) -> bool:
        return True

    def evict_inode(self, inode: Inode) -> None:
        msleep(1)
        truncate_inode_pages_final(inode)
        clear_inode(inode)


def insert_beside_the_dying(real: Any, inode: Inode) -> None:
    """v4.10: an inode that is being freed is overlooked, and its number is given again."""
    cache = icache()
    with cache.inode_hash_lock:
        for other in cache.chain(inode.i_sb, inode.i_ino):
            if not other.i_state & I_DYING:
                raise EBUSY()
        insert_new_locked(cache, inode)


def eviction_and_creation(kernel: Kernel, sb: SuperBlock) -> None:
    """A number is freed, and given again."""

    def leave() -> None:
        inode = iget_locked(sb, 500)
        if inode.i_state & I_NEW:
            unlock_new_inode(inode)
        iput(inode)

    def create() -> None:
        inode = new_inode(sb)
        inode.i_ino = 500
        try:
            iget.insert_inode_locked(inode)
        except OSError:
            pass
        else:
            unlock_new_inode(inode)
        iput(inode)

    kernel.machine.spawn(leave)
    kernel.machine.spawn(create)


def test_in_01_a_number_given_again_too_early() -> None:
    """Two inodes of one number, of which one is on its way out and still writes."""
    patches = {"vfsim.fs.iget.insert_inode_locked": insert_beside_the_dying}
    assert caught(eviction_and_creation, patches, fs=lambda: Plain(SlowEvict())) == "inode.number"


# -- the grace period ------------------------------------------------------------------------------


def freed_at_once(real: Any, dentry: Dentry) -> None:
    """A lookup may still have it in its hands."""
    free(dentry, "dentry")


def lookup_and_pressure(kernel: Kernel, sb: SuperBlock) -> None:
    """One looks at a name in an RCU read section, slowly; one throws it away."""
    kernel.machine.spawn(lambda: dput(add(root_of(sb), "a", regular(sb))), name="add")
    kernel.machine.run()

    def look() -> None:
        rcu_read_lock()
        for dentry in tuple(root_of(sb).d_subdirs or ()):
            for _ in range(30):
                cpu_relax()
            assert dentry.d_name == "a"
        rcu_read_unlock()

    def shrink() -> None:
        shrink_dcache_parent(root_of(sb))

    kernel.machine.spawn(look)
    kernel.machine.spawn(shrink)


def test_a_dentry_freed_without_a_grace_period() -> None:
    """Whoever looks at it too late is caught, wherever that happens."""
    patches = {"vfsim.fs.d_ref.dentry_free": freed_at_once}
    assert caught(lookup_and_pressure, patches) == "lifetime.use-after-free"
