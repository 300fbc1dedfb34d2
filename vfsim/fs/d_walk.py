"""Walking trees of dentries, and getting rid of those that nobody uses.

A walk (`d_walk`) visits every dentry below one, under its d_lock, and starts over if a rename ran
meanwhile; the second time it keeps renames out.  All throwing away has two steps, because a dentry
cannot be killed inside a walk:

1. collect: take unused dentries off the LRU onto a private list (DCACHE_SHRINK_LIST), under d_lock;
2. `shrink_dentry_list`: kill those of the list that are still unused, and then the ancestors they
   kept alive.

Between the steps anybody may find and use a dentry of the list, or kill it: then whoever has the
list only frees it.

The counterpart of ``d_walk``, ``shrink_dentry_list`` and their users in ``fs/dcache.c`` of v4.10.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vfsim.checks.bugs import warn
from vfsim.checks.lifetime import note_ref, report_leak
from vfsim.fs.d_ref import d_lru_del, dentry_free, dentry_kill_locked, dget_dlock, dput
from vfsim.fs.dentry import (
    DCACHE_DENTRY_KILLED,
    DCACHE_GENOCIDE,
    DCACHE_LRU_LIST,
    DCACHE_MAY_FREE,
    DCACHE_MOUNTED,
    DCACHE_REFERENCED,
    DCACHE_SHRINK_LIST,
    DENTRY_D_LOCK_NESTED,
    Dentry,
    d_drop,
    d_drop_locked,
    d_unlinked,
    dcache,
    dentry_path,
    parent_once,
)
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.mm.list_lru import LRU_REMOVED, LRU_ROTATE, LRU_SKIP, list_lru_walk
from vfsim.sim.errors import ENOENT
from vfsim.sim.scheduler import cond_resched, cpu_relax

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock

D_WALK_CONTINUE, D_WALK_QUIT, D_WALK_NORETRY, D_WALK_SKIP = range(4)
"""What a walk shall do next: go on, stop, go on but never start over, or leave out the children."""

BATCH = 1024
"""How many dentries `shrink_dcache_sb` takes at a time."""


def d_walk(
    start: Dentry,
    visit: Callable[[Dentry], int],
    finish: Callable[[], object] | None = None,
) -> None:
    """Never sleeps.  Call ``visit`` on ``start`` and on everything below, each under its d_lock,
    parents first.

    Args:
        start: the caller holds a reference on it.
        visit: returns one of D_WALK_*; it may see a dentry twice if the walk starts over, and must
            not sleep.
        finish: called in the end under ``start``'s d_lock, unless the walk was stopped or a rename
            cut it short: no rename has run since it began.

    Takes ``rename_lock`` (its sequence, then the lock) and d_locks, two at a time.

    Source: ``d_walk``, which goes down and up again with a lock in its hand where this one notes
    what lies below.
    """
    rename_lock = dcache().rename_lock
    seq = rename_lock.read_begin()
    if not _walk(start, visit, finish, lambda: rename_lock.read_retry(seq)):
        rename_lock.lock_excl()
        _walk(start, visit, finish, lambda: False)
        rename_lock.unlock_excl()


def _walk(
    start: Dentry,
    visit: Callable[[Dentry], int],
    finish: Callable[[], object] | None,
    moved: Callable[[], bool],
) -> bool:
    """Never sleeps.  One pass; False if a rename ran and it must be made again."""
    retry = True
    todo = [start]
    rcu_read_lock()
    try:
        while todo:
            this = todo.pop()
            below: list[Dentry] = []
            with this.d_lock:
                if moved():
                    return not retry
                if this is start:
                    answer = visit(this)
                    if answer in (D_WALK_QUIT, D_WALK_SKIP):
                        return True
                    retry = retry and answer != D_WALK_NORETRY
                for child in tuple(this.d_subdirs or ()):
                    lock = child.d_lock
                    lock.lock(DENTRY_D_LOCK_NESTED)
                    answer = visit(child)
                    if child.d_subdirs and answer != D_WALK_SKIP:
                        below.append(child)
                    lock.unlock()
                    if answer == D_WALK_QUIT:
                        return True
                    retry = retry and answer != D_WALK_NORETRY
            todo.extend(reversed(below))
        with start.d_lock:
            if moved():
                return not retry
            if finish is not None:
                finish()
        return True
    finally:
        rcu_read_unlock()


# -- killing what was collected --------------------------------------------------------------------


def _d_shrink_add(dentry: Dentry, victims: list[Dentry] | deque[Dentry]) -> None:
    """Never sleeps.  Put a dentry that is on no list on a private one.  The caller holds d_lock."""
    dentry.d_flags |= DCACHE_SHRINK_LIST | DCACHE_LRU_LIST
    victims.append(dentry)


def _collect(dentry: Dentry, victims: list[Dentry]) -> bool:
    """Never sleeps.  Put an unused dentry on the list; whether it is on somebody's list now.  The
    caller holds d_lock.
    """
    flags = dentry.d_flags
    if flags & DCACHE_SHRINK_LIST:
        return True
    if flags & DCACHE_LRU_LIST:
        d_lru_del(dentry)
    if dentry.d_lockref.count:
        return False
    _d_shrink_add(dentry, victims)
    return True


def _lock_parent(dentry: Dentry) -> Dentry | None:
    """Never sleeps.  Also lock the parent of a dentry whose d_lock is held, or return None if it
    has none or is dead.

    The parent's lock is the outer one, so if it is taken, d_lock is let go in between.
    """
    parent = dentry.d_parent
    if parent is dentry or dentry.d_lockref.count < 0:
        return None
    if parent.d_lock.trylock():
        return parent
    rcu_read_lock()
    dentry.d_lock.unlock()
    while True:
        parent = parent_once(dentry)
        parent.d_lock.lock()
        if parent is parent_once(dentry):
            break
        parent.d_lock.unlock()
    if parent is dentry:
        rcu_read_unlock()
        return None
    dentry.d_lock.lock(DENTRY_D_LOCK_NESTED)
    dead = dentry.d_lockref.count < 0
    if dead:  # killed meanwhile, and so perhaps the parent, whose memory may go
        parent.d_lock.unlock()
    rcu_read_unlock()
    return None if dead else parent


def shrink_dentry_list(victims: list[Dentry]) -> None:
    """Sleeps.  Kill the dentries of a private list that are still unused, and the ancestors only
    they kept.

    What holds the locks outside d_lock may want d_lock itself: they are only tried, and a dentry
    whose inode is busy goes to the end of the list.  `_lock_parent` has the fix of v4.16.

    Source: ``shrink_dentry_list``.
    """
    todo = deque(victims)
    while todo:
        dentry = todo.popleft()
        dentry.d_lock.lock()
        parent = _lock_parent(dentry)
        dentry.d_flags &= ~(DCACHE_SHRINK_LIST | DCACHE_LRU_LIST)
        count = dentry.d_lockref.count
        if count > 0 or dentry.d_flags & DCACHE_DENTRY_KILLED:
            mine_to_free = count <= 0 and dentry.d_flags & DCACHE_MAY_FREE
            _unlock_both(dentry, parent)
            if mine_to_free:
                dentry_free(dentry)
            continue
        inode = dentry.d_inode
        if inode is not None and not inode.i_lock.trylock():
            _d_shrink_add(dentry, todo)
            _unlock_both(dentry, parent)
            cpu_relax()
            continue
        dentry_kill_locked(dentry, parent)
        if parent is not None:
            _put_ancestor(parent)


def _unlock_both(dentry: Dentry, parent: Dentry | None) -> None:
    dentry.d_lock.unlock()
    if parent is not None:
        parent.d_lock.unlock()


def _put_ancestor(dentry: Dentry | None) -> None:
    """Sleeps.  Put the reference that a killed child had on its parent, and kill that too if it was
    the last one.
    """
    while dentry is not None and not dentry.d_lockref.put_or_lock():
        parent = _lock_parent(dentry)
        ref = dentry.d_lockref
        if ref.count != 1:
            ref.count -= 1
            _unlock_both(dentry, parent)
            break
        inode = dentry.d_inode
        if inode is not None and not inode.i_lock.trylock():
            _unlock_both(dentry, parent)
            cpu_relax()
            continue
        dentry_kill_locked(dentry, parent)
        dentry = parent


# -- who wants dentries gone -----------------------------------------------------------------------


def shrink_dcache_parent(parent: Dentry) -> None:
    """Sleeps.  Throw away all unused dentries below ``parent``.

    Source: ``shrink_dcache_parent``.
    """
    while True:
        found = _Found(parent)
        d_walk(parent, found.select_collect)
        if not found.any:
            return
        shrink_dentry_list(found.victims)
        cond_resched()


def d_invalidate(dentry: Dentry) -> None:
    """Sleeps.  Hide a dentry that is no longer valid, throw away what is unused below it, unmount
    what is mounted there, or below.

    It is hidden in the moment in which nothing below it is unused or a mountpoint.  Takes d_locks,
    and ``rename_lock`` as `d_walk` does.  Source: ``d_invalidate``.
    """
    with dentry.d_lock:
        if not dentry.d_hashed:
            return
    if dentry.d_inode is None:
        d_drop(dentry)
        return
    while True:
        found = _Found(dentry)
        d_walk(dentry, found.detach_and_collect, found.check_and_drop)
        if found.victims:
            shrink_dentry_list(found.victims)
        if found.mountpoint is not None:
            from vfsim.fs.mount import detach_mounts

            detach_mounts(found.mountpoint)
            dput(found.mountpoint)
        elif not found.any:
            return
        cond_resched()


def d_set_mounted(dentry: Dentry) -> None:
    """Never sleeps.  Mark a dentry as mountpoint, if it can still be reached.

    `d_invalidate` counts on the look at what is above: either its walk sees the mark, for it starts
    over when ``rename_lock`` moves, or it has hidden an ancestor by now.

    Raises:
        OSError: ENOENT: its name, or that of a directory above it, is gone.

    Only one at a time marks a dentry: the caller holds namespace_sem.  Takes ``rename_lock`` for
    writing, and d_locks.  Source: ``d_set_mounted``.
    """
    with dcache().rename_lock:
        at = dentry.d_parent
        while at.d_parent is not at:
            with at.d_lock:
                if not at.d_hashed:
                    raise ENOENT()
            at = at.d_parent
        with dentry.d_lock:
            if d_unlinked(dentry):
                raise ENOENT()
            dentry.d_flags |= DCACHE_MOUNTED


class _Found:
    """What a walk below ``start`` has found.

    Attributes:
        victims: unused dentries, taken off the LRU.  any: whether there were unused ones, on this
            list or on somebody else's.  mountpoint: a dentry that something is mounted on, with a
            reference.
    """

    __slots__ = ("any", "mountpoint", "start", "victims")

    def __init__(self, start: Dentry) -> None:
        self.start = start
        self.victims: list[Dentry] = []
        self.any = False
        self.mountpoint: Dentry | None = None

    def select_collect(self, dentry: Dentry) -> int:
        """Never sleeps.  Take an unused dentry.  Source: ``select_collect``."""
        if dentry is not self.start and _collect(dentry, self.victims):
            self.any = True
        return D_WALK_NORETRY if self.victims else D_WALK_CONTINUE

    def detach_and_collect(self, dentry: Dentry) -> int:
        """Never sleeps.  Stop at a mountpoint, else as `select_collect`."""
        if dentry.d_flags & DCACHE_MOUNTED:
            self.mountpoint = dget_dlock(dentry)
            return D_WALK_QUIT
        return self.select_collect(dentry)

    def check_and_drop(self) -> None:
        """Never sleeps.  Hide ``start`` if nothing was found.  Its d_lock is held."""
        if self.mountpoint is None and not self.any:
            d_drop_locked(self.start)


def d_prune_aliases(inode: Inode) -> None:
    """Sleeps.  Throw away the unused dentries of an inode: what it shows has changed elsewhere.

    Takes i_lock, then d_locks, and tries the parents'.  Source: ``d_prune_aliases``.
    """
    while True:
        inode.i_lock.lock()
        for dentry in inode.i_dentry:
            dentry.d_lock.lock()
            parent = None
            if not dentry.d_lockref.count:
                parent = _lock_parent(dentry)
                if not dentry.d_lockref.count:
                    dentry_kill_locked(dentry, parent)  # lets go of all the locks
                    dput(parent)
                    break
            _unlock_both(dentry, parent)
        else:
            inode.i_lock.unlock()
            return


def d_genocide(root: Dentry) -> None:
    """Never sleeps.  Put the reference that keeps each dentry of a filesystem in memory: for
    `kill_litter_super`.

    Source: ``d_genocide``.
    """

    def visit(dentry: Dentry) -> int:
        if dentry is not root:
            if not dentry.d_hashed or dentry.d_inode is None:
                return D_WALK_SKIP
            if not dentry.d_flags & DCACHE_GENOCIDE:
                dentry.d_flags |= DCACHE_GENOCIDE
                dentry.d_lockref.count -= 1
                note_ref(dentry, -1, "d_genocide")
        return D_WALK_CONTINUE

    d_walk(root, visit)


def shrink_dcache_for_umount(sb: SuperBlock) -> None:
    """Sleeps.  Throw away the whole tree of a superblock, and report what somebody still uses.

    The caller holds ``s_umount`` exclusive.  Source: ``shrink_dcache_for_umount``.
    """
    if not sb.s_umount.is_locked():
        warn("dcache.umount", f"the dentries of {sb!r} are thrown away without s_umount")
    root = sb.s_root
    assert root is not None
    sb.s_root = None
    shrink_dcache_parent(root)
    busy: list[Dentry] = []

    def visit(dentry: Dentry) -> int:
        if not dentry.d_subdirs and not (dentry is root and dentry.d_lockref.count == 1):
            busy.append(dentry)
        return D_WALK_CONTINUE

    d_walk(root, visit)
    for dentry in busy:
        report_leak(dentry, f"dentry {dentry_path(dentry)} of {sb.s_id}", "leak.dentry")
    d_drop(root)
    dput(root)


# -- unused dentries under memory pressure ---------------------------------------------------------


def prune_dcache_sb(sb: SuperBlock, count: int) -> int:
    """Sleeps.  Look at ``count`` unused dentries, oldest first, and throw away those that nobody
    used lately; returns how many have left the LRU.

    The caller holds ``s_umount`` at least shared.  A dentry used since the last call gets a second
    chance.

    Source: ``prune_dcache_sb``.
    """
    victims: list[Dentry] = []
    lru = sb.s_dentry_lru

    def isolate(dentry: Dentry) -> int:
        if not dentry.d_lock.trylock():  # the LRU lock nests inside d_lock
            return LRU_SKIP
        answer = LRU_REMOVED
        if dentry.d_lockref.count:
            del lru[dentry]
            dentry.d_flags &= ~DCACHE_LRU_LIST
        elif dentry.d_flags & DCACHE_REFERENCED:
            dentry.d_flags &= ~DCACHE_REFERENCED
            answer = LRU_ROTATE
        else:
            del lru[dentry]
            _d_shrink_add(dentry, victims)
        dentry.d_lock.unlock()
        return answer

    removed = list_lru_walk(lru, sb.s_dentry_lru_lock, isolate, count)
    shrink_dentry_list(victims)
    return removed


def shrink_dcache_sb(sb: SuperBlock) -> None:
    """Sleeps.  Throw away all unused dentries of a superblock, recently used or not.

    Source: ``shrink_dcache_sb``.
    """
    lru = sb.s_dentry_lru
    while lru:
        victims: list[Dentry] = []

        def isolate(dentry: Dentry, victims: list[Dentry] = victims) -> int:
            if not dentry.d_lock.trylock():
                return LRU_SKIP
            del lru[dentry]
            _d_shrink_add(dentry, victims)
            dentry.d_lock.unlock()
            return LRU_REMOVED

        if not list_lru_walk(lru, sb.s_dentry_lru_lock, isolate, BATCH):
            cpu_relax()  # all of them are locked by others
        shrink_dentry_list(victims)
        cond_resched()
