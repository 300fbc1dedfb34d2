"""References on dentries: how they come, how they end, and how a dentry is killed.

    dget()          one more
    dput()          one less; the last one leaves the dentry on the LRU of its superblock, or kills
                    it if it is worth nothing
    dentry_kill()   d_prune, unhashed, off the tree; d_iput or iput, d_release; freed after a grace
                    period; then its parent loses a reference, and so on upwards

Killing goes against the order of the locks (`vfsim.fs.dentry` says which), so it only tries the
outer ones, and starts over.  The counterpart of that part of ``fs/dcache.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.bugs import bug
from vfsim.checks.lifetime import free, note_ref
from vfsim.fs.dentry import (
    DCACHE_DENTRY_KILLED,
    DCACHE_DISCONNECTED,
    DCACHE_LRU_LIST,
    DCACHE_MAY_FREE,
    DCACHE_OP_DELETE,
    DCACHE_OP_IPUT,
    DCACHE_OP_PRUNE,
    DCACHE_OP_RELEASE,
    DCACHE_REFERENCED,
    DCACHE_SHRINK_LIST,
    Dentry,
    d_drop_locked,
    parent_once,
    unlink_child,
)
from vfsim.fs.inode import iput
from vfsim.locks.rcu import call_rcu, rcu_read_lock, rcu_read_unlock
from vfsim.sim.scheduler import cond_resched, cpu_relax, might_sleep

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode

_UNUSED = DCACHE_REFERENCED | DCACHE_LRU_LIST


# -- references ------------------------------------------------------------------------------------


def dget(dentry: Dentry) -> Dentry:
    """Never sleeps.  Take one more reference; the caller has one, or another way to keep the dentry
    from dying.
    """
    dentry.d_lockref.get()
    note_ref(dentry, 1, "dget", dentry.d_lockref.count)
    return dentry


def dget_dlock(dentry: Dentry) -> Dentry:
    """Never sleeps.  Take a reference on a dentry whose d_lock the caller holds."""
    dentry.d_lockref.count += 1
    note_ref(dentry, 1, "dget")
    return dentry


def dget_parent(dentry: Dentry) -> Dentry:
    """Sleeps.  The parent, with a new reference.  Nothing but the reference on ``dentry`` is
    needed.

    Source: ``dget_parent``.
    """
    rcu_read_lock()
    while True:
        parent = parent_once(dentry)
        if parent.d_lockref.get_not_zero():
            if parent is parent_once(dentry):
                rcu_read_unlock()
                note_ref(parent, 1, "dget_parent")
                return parent
            rcu_read_unlock()
            note_ref(parent, 1, "dget_parent")
            dput(parent)
            rcu_read_lock()
            continue
        parent.d_lock.lock()
        if parent is parent_once(dentry):
            if not parent.d_lockref.count:
                bug("kernel.bug", f"a parent without references has a child: {parent!r}")
            dget_dlock(parent)
            parent.d_lock.unlock()
            rcu_read_unlock()
            return parent
        parent.d_lock.unlock()


def dput(dentry: Dentry | None) -> None:
    """Sleeps.  Put a reference.  The last one leaves the dentry on the LRU, or kills it if it is
    unhashed.

    Takes d_lock for the last reference, and to kill it the inode's i_lock and the parent's d_lock,
    by trying. A killed dentry puts its parent, so a whole branch may go.  Source: ``dput``.
    """
    if dentry is None:
        return
    note_ref(dentry, -1, "dput")
    might_sleep()
    while not dentry.d_lockref.put_or_lock():
        if dentry.d_lockref.count <= 0:
            note_ref(dentry, 0, "dput", dentry.d_lockref.count - 1)
        if not _wants_killing(dentry):
            _keep(dentry)
            return
        parent = _dentry_kill(dentry)
        if parent is None:
            return
        if parent is dentry:
            cpu_relax()
        dentry = parent
        cond_resched()


def _wants_killing(dentry: Dentry) -> bool:
    """Never sleeps.  Whether an unused dentry is worth nothing.  The caller holds d_lock."""
    if not dentry.d_hashed or dentry.d_flags & DCACHE_DISCONNECTED:
        return True
    return bool(dentry.d_flags & DCACHE_OP_DELETE and dentry.d_op.d_delete(dentry))


def _keep(dentry: Dentry) -> None:
    """Never sleeps.  Drop the last reference and leave the dentry cached.  Releases d_lock."""
    flags = dentry.d_flags
    if flags & _UNUSED != _UNUSED:
        dentry.d_flags = flags | DCACHE_REFERENCED
        if not flags & DCACHE_LRU_LIST:
            d_lru_add(dentry)
    dentry.d_lockref.count -= 1
    dentry.d_lock.unlock()


# -- killing ---------------------------------------------------------------------------------------


def _dentry_kill(dentry: Dentry) -> Dentry | None:
    """Sleeps.  Kill a dentry with d_lock held and count 1; returns its parent, whose reference is
    now the caller's.

    The locks outside d_lock are only tried.  If one is taken, the dentry itself is returned, still
    alive and with the caller's reference: the caller starts over.  Source: ``dentry_kill``.
    """
    inode = dentry.d_inode
    if inode is None or inode.i_lock.trylock():
        parent = dentry.d_parent
        if parent is dentry:
            dentry_kill_locked(dentry, None)
            return None
        if parent.d_lock.trylock():
            dentry_kill_locked(dentry, parent)
            return parent
        if inode is not None:
            inode.i_lock.unlock()
    dentry.d_lock.unlock()
    return dentry


def dentry_kill_locked(dentry: Dentry, parent: Dentry | None) -> None:
    """Sleeps.  The end of a dentry.  The caller holds d_lock, ``parent``'s d_lock and the inode's
    i_lock; all released.

    Source: ``__dentry_kill``.
    """
    dentry.d_lockref.mark_dead()
    flags = dentry.d_flags
    if flags & DCACHE_OP_PRUNE:
        dentry.d_op.d_prune(dentry)
    if flags & DCACHE_LRU_LIST and not flags & DCACHE_SHRINK_LIST:
        d_lru_del(dentry)
    d_drop_locked(dentry)
    dentry.d_flags |= DCACHE_DENTRY_KILLED
    if parent is not None:
        unlink_child(parent, dentry)
        parent.d_lock.unlock()
    if dentry.d_inode is not None:
        dentry_unlink_inode(dentry, dentry.d_inode)
    else:
        dentry.d_lock.unlock()
    if flags & DCACHE_OP_RELEASE:
        dentry.d_op.d_release(dentry)
    dentry.d_lock.lock()
    listed = dentry.d_flags & DCACHE_SHRINK_LIST
    if listed:  # somebody's list still has it: they free it
        dentry.d_flags |= DCACHE_MAY_FREE
    dentry.d_lock.unlock()
    if not listed:
        dentry_free(dentry)


def dentry_unlink_inode(dentry: Dentry, inode: Inode) -> None:
    """Sleeps.  Make a dentry negative and put its inode.  The caller holds i_lock and d_lock; both
    released.

    Source: ``dentry_unlink_inode``.
    """
    seq = dentry.d_seq
    seq.write_begin()
    dentry.d_inode = None
    inode.i_dentry.remove(dentry)
    seq.write_end()
    dentry.d_lock.unlock()
    inode.i_lock.unlock()
    if dentry.d_flags & DCACHE_OP_IPUT:
        dentry.d_op.d_iput(dentry, inode)
    else:
        iput(inode)


def dentry_free(dentry: Dentry) -> None:
    """Never sleeps.  Give the memory back after a grace period: lookups may still be looking at
    it.
    """
    call_rcu(free, dentry, "dentry")


# -- unused dentries -------------------------------------------------------------------------------


def d_lru_add(dentry: Dentry) -> None:
    """Never sleeps.  Remember an unused dentry as one that memory pressure may take.  The caller
    holds d_lock.
    """
    dentry.d_flags |= DCACHE_LRU_LIST
    sb = dentry.d_sb
    sb.s_dentry_lru_lock.lock()
    sb.s_dentry_lru[dentry] = None
    sb.s_dentry_lru_lock.unlock()


def d_lru_del(dentry: Dentry) -> None:
    """Never sleeps.  Take a dentry off the LRU.  The caller holds d_lock."""
    dentry.d_flags &= ~DCACHE_LRU_LIST
    sb = dentry.d_sb
    sb.s_dentry_lru_lock.lock()
    sb.s_dentry_lru.pop(dentry, None)
    sb.s_dentry_lru_lock.unlock()
