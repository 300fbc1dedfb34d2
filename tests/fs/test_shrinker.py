"""Memory pressure: who is asked, who may not be entered, and what meets it on the way."""

from __future__ import annotations

import os
from stat import S_IFREG
from typing import Any

import pytest

from tests.fs.worlds import Plain, PlainSuper, add, bugs, directory, explore, regular, root_of, run
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import d_alloc, d_invalidate, d_lookup, d_move, dput
from vfsim.fs.icache import truncate_inode_pages_final
from vfsim.fs.iget import iget_locked, ilookup, unlock_new_inode
from vfsim.fs.inode import I_NEW, Inode, clear_inode, iput
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import SuperBlock
from vfsim.fs.super_cache import super_cache_count, super_cache_scan
from vfsim.fs.syscalls import Sys
from vfsim.locks.memalloc import (
    GFP_KERNEL,
    GFP_NOFS,
    memalloc_nofs_restore,
    memalloc_nofs_save,
)
from vfsim.locks.mutex import Mutex
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.list_lru import LRU_REMOVED, LRU_RETRY, LRU_ROTATE, LRU_SKIP, list_lru_walk
from vfsim.mm.shrinker import (
    SHRINK_STOP,
    ShrinkControl,
    Shrinker,
    drop_slab,
    register_shrinker,
    shrink_slab,
    shrinkers,
    unregister_shrinker,
)
from vfsim.sim.faults import PRESSURE
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K


class Always:
    """A strategy in which memory is always short."""

    gap = 1 << 29

    def start(self, machine: Any) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        """The default."""
        return 0

    def choose(self, kind: str, n: int) -> int:
        """Short."""
        return int(kind == PRESSURE)


def cached(sb: SuperBlock, ino: int) -> Inode:
    """A hashed regular file with a reference."""
    inode = iget_locked(sb, ino)
    if inode.i_state & I_NEW:
        inode.i_mode = S_IFREG | 0o644
        unlock_new_inode(inode)
    return inode


def names(sb: SuperBlock, count: int) -> None:
    """Unused dentries /0, /1 ... with unused inodes behind them."""
    for i in range(count):
        dput(add(root_of(sb), str(i), cached(sb, 1000 + i)))


# -- the walk over a list --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "count", "seen", "left"),
    [
        ("XXX", 9, "abc", ""),
        ("XXX", 2, "ab", "c"),
        ("---", 9, "abc", "abc"),
        ("RXXX", 9, "abca", ""),
        ("XXR", 9, "abc", "c"),
        ("-XR", 9, "abc", "ac"),
        ("!XXX", 9, "aabc", ""),
    ],
)
def test_a_list_is_walked_from_its_old_end(answers: str, count: int, seen: str, left: str) -> None:
    """Removed, rotated to the young end and met again, skipped, or started over; up to a count."""
    meaning = {"X": LRU_REMOVED, "R": LRU_ROTATE, "-": LRU_SKIP, "!": LRU_RETRY}
    lru = dict.fromkeys("abc")
    lock = SpinLock("lru")
    met: list[str] = []
    queue = list(answers)

    def isolate(item: str) -> int:
        assert lock.owner is K.cur
        met.append(item)
        answer = meaning[queue.pop(0)]
        if answer == LRU_REMOVED:
            del lru[item]
        return answer

    run(lambda sb: list_lru_walk(lru, lock, isolate, count))
    assert ("".join(met), "".join(lru)) == (seen, left)


# -- the registry ----------------------------------------------------------------------------------


def test_every_cache_gives_its_share() -> None:
    """In batches, never more than twice what there is, until it says that it can do nothing."""

    def work(sb: SuperBlock) -> None:
        asked: list[int] = []
        stops = [False]

        def scan(sc: ShrinkControl) -> int:
            asked.append(sc.nr_to_scan)
            return SHRINK_STOP if stops[0] else 3

        shrinker = Shrinker(lambda sc: 100, scan, batch=80)
        register_shrinker(shrinker)
        before = shrink_slab(GFP_KERNEL, 1000, 1000)
        assert asked == [80, 80] and before >= 6
        asked.clear()
        stops[0] = True
        shrink_slab(GFP_KERNEL, 1000, 1000)
        assert asked == [80]
        asked.clear()
        shrink_slab(GFP_KERNEL, 1, 1000)
        assert asked == []
        unregister_shrinker(shrinker)
        shrink_slab(GFP_KERNEL, 1000, 1000)
        assert asked == []

    run(work)


def test_nobody_waits_for_who_comes_or_goes() -> None:
    """While a shrinker is being registered, pressure passes, as if something had been freed."""

    def work(sb: SuperBlock) -> None:
        with shrinkers().shrinker_rwsem:
            assert shrink_slab(GFP_KERNEL, 1000, 1000) == 1

    run(work)


# -- what a superblock gives back ------------------------------------------------------------------


def test_dentries_go_first_and_take_their_inodes_along() -> None:
    """Used lately: one more chance.  Then dentries, and the inodes that they held."""

    def work(sb: SuperBlock) -> None:
        names(sb, 20)
        assert super_cache_count(sb, ShrinkControl(GFP_KERNEL)) == 20
        drop_slab()
        assert not sb.s_dentry_lru and not sb.s_inode_lru
        assert list(sb.s_inodes) == [root_of(sb).d_inode]
        assert d_lookup(root_of(sb), "7") is None and ilookup(sb, 1007) is None

    run(work)


def test_one_scan_looks_at_a_proportion_and_at_least_at_one() -> None:
    """So that a scan of nothing still gets somewhere."""

    def work(sb: SuperBlock) -> None:
        names(sb, 3)
        sc = ShrinkControl(GFP_KERNEL, 0)
        assert [super_cache_scan(sb, sc) for _ in range(3)] == [0, 0, 0], "second chances"
        assert super_cache_scan(sb, sc) == 1 and len(sb.s_dentry_lru) == 2

    run(work)


def test_an_allocation_without_filesystems_enters_none() -> None:
    """GFP_NOFS by its flag or by its scope."""

    def work(sb: SuperBlock) -> None:
        memalloc_nofs_save()
        names(sb, 5)
        memalloc_nofs_restore()
        kmalloc(GFP_NOFS)
        kmalloc(GFP_NOFS)
        memalloc_nofs_save()
        kmalloc()
        kmalloc()
        memalloc_nofs_restore()
        assert len(sb.s_dentry_lru) == 5
        for _ in range(4):
            kmalloc()
        assert not sb.s_dentry_lru and not sb.s_inode_lru

    run(work, strategy=Always(), faults=PRESSURE)


def test_reclaim_does_not_reclaim() -> None:
    """What the filesystem allocates while it evicts takes what there is (PF_MEMALLOC)."""
    depth: list[int] = []

    class Allocating(PlainSuper):
        def evict_inode(self, inode: Inode) -> None:
            depth.append(0)
            kmalloc()
            truncate_inode_pages_final(inode)
            clear_inode(inode)

    def work(sb: SuperBlock) -> None:
        names(sb, 5)
        kmalloc()
        kmalloc()
        assert not sb.s_dentry_lru

    run(work, fs=Plain(Allocating()), strategy=Always(), faults=PRESSURE)
    assert len(depth) >= 5


def test_who_is_changing_is_left_alone() -> None:
    """A superblock whose s_umount is taken is not shrunk, and nobody waits for it."""

    def work(sb: SuperBlock) -> None:
        names(sb, 5)
        with sb.s_umount:
            drop_slab()
        assert len(sb.s_dentry_lru) == 5

    run(work)


class Locked(PlainSuper):
    """Eviction takes the filesystem's own lock."""

    def __init__(self, lock: Mutex) -> None:
        self.lock = lock

    def evict_inode(self, inode: Inode) -> None:
        with self.lock:
            truncate_inode_pages_final(inode)
            clear_inode(inode)


@pytest.mark.parametrize("faults", ["", PRESSURE])
def test_allocating_under_a_lock_that_eviction_takes_is_found(faults: str) -> None:
    """The order rules know it without memory ever being short; GFP_NOFS is the cure."""
    lock = Mutex("toy_lock")

    def evict(sb: SuperBlock) -> None:
        iput(cached(sb, 1000))
        for _ in range(3):
            drop_slab()

    def allocate(sb: SuperBlock) -> None:
        with lock:
            kmalloc()

    found = bugs(evict, allocate, fs=Plain(Locked(lock)), faults=faults)
    assert found and found[0].rule.startswith("lockdep") and "fs_reclaim" in found[0].summary

    def cured(sb: SuperBlock) -> None:
        with lock:
            kmalloc(GFP_NOFS)

    assert bugs(evict, cured, fs=Plain(Locked(lock)), faults=faults) == []


# -- the administrator -----------------------------------------------------------------------------


def test_drop_caches() -> None:
    """Clean pages, unused dentries and inodes, or both; root only."""
    with Kernel() as k:
        k.mount(RamFS(), "/")

        def work(sys: Sys) -> None:
            fd = sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
            sys.write(fd, b"x" * 5000)
            sys.close(fd)
            for i in range(30):
                with pytest.raises(FileNotFoundError):
                    sys.stat(f"/nothing{i}")
            sb = list(K.machine.data["supers"].super_blocks)[-1]
            assert len(sb.s_dentry_lru) == 30
            sys.drop_caches(1)
            assert len(sb.s_dentry_lru) == 30
            sys.drop_caches(2)
            assert not sb.s_dentry_lru
            sys.drop_caches()
            fd = sys.open("/f", os.O_RDONLY)
            assert sys.read(fd, 9000) == b"x" * 5000, "ramfs has its bytes nowhere else"
            sys.close(fd)
            for what in (0, 4):
                with pytest.raises(OSError, match="Invalid"):
                    sys.drop_caches(what)
            sys.setuid(1000)
            with pytest.raises(PermissionError):
                sys.drop_caches()

        k.call(work)


# -- whoever meets it ------------------------------------------------------------------------------


def test_pressure_against_lookup_and_rename() -> None:
    """Whatever is thrown away under them, lookups find the name or make it anew."""

    def make() -> tuple[Any, ...]:
        def looker(sb: SuperBlock) -> None:
            root = root_of(sb)
            for _ in range(3):
                dentry = d_lookup(root, "0")
                if dentry is None:
                    dentry = add(root, "0", cached(sb, 1000))
                assert dentry.d_inode is not None and dentry.d_inode.i_ino == 1000
                dput(dentry)

        def mover(sb: SuperBlock) -> None:
            root = root_of(sb)
            d = add(root, "d", directory(sb))
            f = add(d, "f", regular(sb))
            for name in ("g", "h"):
                target = d_alloc(root if name == "g" else d, name)
                d_move(f, target)
                dput(target)
            dput(f)
            dput(d)

        def shrinker(sb: SuperBlock) -> None:
            for _ in range(3):
                shrink_slab(GFP_KERNEL, 1000, 1000)
                yield_()

        return looker, mover, shrinker, shrinker

    explore(make, lambda results: None, schedules=60)


def test_pressure_against_umount() -> None:
    """Nothing is left busy, nothing of a superblock that is gone is touched."""

    def shrink(sys: Sys) -> None:
        for _ in range(3):
            sys.drop_caches(2)

    def leave(sys: Sys) -> None:
        for i in range(2):
            with pytest.raises(FileNotFoundError):
                sys.stat(f"/m/{i}")
        sys.umount("/m")

    for seed in range(60):
        with Kernel(seed=seed, strategy=("pos", "pct", "random")[seed % 3]) as k:
            k.mount(RamFS(), "/")
            k.call(lambda sys: sys.mkdir("/m"))
            k.mount(Plain(), "/m")
            k.process(shrink)
            k.process(leave)
            k.run()


def test_invalidation_against_lookup_and_pressure() -> None:
    """A branch is hidden in one moment: whoever holds a name in it keeps that, but finds none."""

    def make() -> tuple[Any, ...]:
        def holder(sb: SuperBlock) -> None:
            d = d_lookup(root_of(sb), "d")
            if d is None:
                d = add(root_of(sb), "d", directory(sb))
            f = d_lookup(d, "f") or add(d, "f", regular(sb))
            yield_()
            dput(f)
            dput(d)

        def invalidator(sb: SuperBlock) -> None:
            d = d_lookup(root_of(sb), "d")
            if d is not None:
                d_invalidate(d)
                assert not d.d_hashed
                dput(d)

        def shrinker(sb: SuperBlock) -> None:
            shrink_slab(GFP_KERNEL, 1000, 1000)

        return holder, invalidator, shrinker, invalidator

    explore(make, lambda results: None, schedules=60)
