"""Moving dentries: what a rename does to the tree of names.

Every change of ``d_parent`` or ``d_name`` of a dentry in use happens here, with ``rename_lock``
held for writing and four d_locks: of the two parents and of the two dentries.  Readers of the tree
(`d_lookup`, `is_subdir`, `d_path`) take the sequence of ``rename_lock`` and start over if it moved.

The order of the d_locks: parents first, the ancestor before its descendant, else the target's
parent first; then the two dentries by address.  Their lockdep subclasses are 0 (outer parent),
1 (inner parent), 2 and 3.

The counterpart of ``__d_move`` and its callers in ``fs/dcache.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.bugs import bug, warn
from vfsim.checks.instances import order_by
from vfsim.fs.d_lookup import d_lookup_done_locked, end_dir_add, start_dir_add
from vfsim.fs.dentry import (
    DCACHE_PAR_LOOKUP,
    DENTRY_D_LOCK_NESTED,
    Dentry,
    d_drop_locked,
    d_rehash_locked,
    dcache,
    link_child,
    unlink_child,
)
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.sim.errors import ESTALE

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode


def d_ancestor(ancestor: Dentry, dentry: Dentry) -> Dentry | None:
    """Never sleeps.  The child of ``ancestor`` that ``dentry`` is or lies below, or None.

    The caller keeps the tree from changing: ``rename_lock``, or ``s_vfs_rename_mutex`` for
    directories.
    """
    while True:
        parent = dentry.d_parent
        if parent is ancestor and dentry is not ancestor:
            return dentry
        if parent is dentry:
            return None
        dentry = parent


def is_subdir(new_dentry: Dentry, old_dentry: Dentry) -> bool:
    """Never sleeps.  Whether ``new_dentry`` is ``old_dentry`` or lies below it.

    Source: ``is_subdir``.
    """
    if new_dentry is old_dentry:
        return True
    rename_lock = dcache().rename_lock
    while True:
        seq = rename_lock.read_begin()
        rcu_read_lock()
        found = d_ancestor(old_dentry, new_dentry) is not None
        rcu_read_unlock()
        if not rename_lock.read_retry(seq):
            return found


def d_move(dentry: Dentry, target: Dentry) -> None:
    """Never sleeps.  ``dentry`` takes the place and name of ``target``, which is unhashed.

    The caller holds both directories exclusive.  Takes ``rename_lock``.  Source: ``d_move``.
    """
    rename_lock = dcache().rename_lock
    rename_lock.write_lock()
    d_move_locked(dentry, target, False)
    rename_lock.write_unlock()


def d_exchange(dentry1: Dentry, dentry2: Dentry) -> None:
    """Never sleeps.  Two dentries take each other's places.  As `d_move`.

    Source: ``d_exchange``.
    """
    rename_lock = dcache().rename_lock
    rename_lock.write_lock()
    for dentry in (dentry1, dentry2):
        if dentry.d_inode is None or dentry.d_parent is dentry:
            warn("dcache.move", f"d_exchange() of {dentry!r}, which cannot be exchanged")
    d_move_locked(dentry1, dentry2, True)
    rename_lock.write_unlock()


def d_move_locked(dentry: Dentry, target: Dentry, exchange: bool) -> None:
    """Never sleeps.  The move itself.  The caller holds ``rename_lock`` for writing.

    Source: ``__d_move``.
    """
    if dentry.d_inode is None:
        warn("dcache.move", f"{dentry!r} is moved although it is negative")
    if d_ancestor(dentry, target) is not None or d_ancestor(target, dentry) is not None:
        bug("kernel.bug", f"{dentry!r} is moved into itself or onto its ancestor: {dentry!r}")
    old_parent, new_parent = dentry.d_parent, target.d_parent
    _lock_for_move(dentry, target)
    dir: Inode | None = None
    if target.d_flags & DCACHE_PAR_LOOKUP:
        dir = start_dir_add(new_parent)
        d_lookup_done_locked(target)
    dentry.d_seq.write_begin()
    target.d_seq.write_begin(DENTRY_D_LOCK_NESTED)
    d_drop_locked(dentry)
    d_drop_locked(target)
    if exchange:
        dentry.d_name, target.d_name = target.d_name, dentry.d_name
        dentry.d_key, target.d_key = target.d_key, dentry.d_key
    else:
        dentry.d_name = target.d_name
        dentry.d_key = target.d_key
    if old_parent is dentry:  # a tree that had no place in this filesystem's tree gets one
        unlink_child(new_parent, target)
        dentry.d_parent = new_parent
        target.d_parent = target
        link_child(new_parent, dentry)
    else:
        unlink_child(old_parent, dentry)
        unlink_child(new_parent, target)
        dentry.d_parent, target.d_parent = new_parent, old_parent
        link_child(old_parent, target)
        link_child(new_parent, dentry)
    d_rehash_locked(dentry)
    if exchange:
        d_rehash_locked(target)
    target.d_seq.write_end()
    dentry.d_seq.write_end()
    if dir is not None:
        end_dir_add(dir)
    _unlock_for_move(dentry, target, old_parent, new_parent)


def _lock_for_move(dentry: Dentry, target: Dentry) -> None:
    """Never sleeps.  The four d_locks of a move, in the order of this file's docstring."""
    parent, target_parent = dentry.d_parent, target.d_parent
    if parent is dentry or parent is target_parent:
        target_parent.d_lock.lock()
    elif d_ancestor(parent, target_parent) is not None:
        parent.d_lock.lock()
        target_parent.d_lock.lock(DENTRY_D_LOCK_NESTED)
    else:
        target_parent.d_lock.lock()
        parent.d_lock.lock(DENTRY_D_LOCK_NESTED)
    first, second = (target, dentry) if target.d_addr < dentry.d_addr else (dentry, target)
    first.d_lock.lock(2)
    second.d_lock.lock(3)


def _d_locks(outer: Dentry, inner: Dentry) -> str:
    """Never sleeps.  The order of two d_locks: ancestor first; strangers by address, if
    ``rename_lock`` does not make their holder the only one.
    """
    if d_ancestor(inner, outer) is not None:
        return "an ancestor is locked before its descendants"
    renamer = dcache().rename_lock.spin.owner
    if renamer is not None and renamer is outer.d_lock.owner:
        return ""
    if d_ancestor(outer, inner) is not None or outer.d_addr < inner.d_addr:
        return ""
    return "two dentries of which none is the other's ancestor are locked by ascending address"


order_by("d_lock", _d_locks)


def _unlock_for_move(dentry: Dentry, target: Dentry, parent: Dentry, target_parent: Dentry) -> None:
    """Never sleeps.  The parents are those from before the move."""
    if parent is not target_parent and parent is not dentry:
        parent.d_lock.unlock()
    target_parent.d_lock.unlock()
    target.d_lock.unlock()
    dentry.d_lock.unlock()


def d_unalias_locked(inode: Inode, dentry: Dentry, alias: Dentry) -> None:
    """Never sleeps.  Move ``alias``, another name of the directory ``inode``, to where ``dentry``
    is.

    The caller holds ``rename_lock`` for writing, so the locks of a rename can only be tried.

    Raises:
        OSError: ESTALE, if one of them is taken.

    Source: ``__d_unalias``.
    """
    if alias.d_parent is dentry.d_parent:
        d_move_locked(alias, dentry, False)
        return
    rename_mutex = dentry.d_sb.s_vfs_rename_mutex
    if not rename_mutex.trylock():
        raise ESTALE()
    try:
        dir = alias.d_parent.d_inode
        assert dir is not None
        if not dir.i_rwsem.down_read_trylock():
            raise ESTALE()
        d_move_locked(alias, dentry, False)
        dir.i_rwsem.up_read()
    finally:
        rename_mutex.unlock()
