"""The dcache: names that were looked up, kept so that the next lookup need not ask the filesystem.

This is the face of it; the parts are

================  =================================================================================
`fs.dentry`       the dentry itself, its references, and how it dies
`fs.d_lookup`     making and finding dentries, lookups in progress
`fs.dcache`       giving dentries their inodes, and taking them away (this file)
`fs.d_move`       renames, and the tree's shape
`fs.d_walk`       walking trees, throwing away what is unused
================  =================================================================================

The typical sequence in a filesystem::

    lookup():   d_add(dentry, inode or None)     or  return d_splice_alias(inode, dentry)
    create():   d_instantiate(dentry, inode)     the dentry was negative, and owns the reference on
                                                 the inode now
    unlink():   drop_nlink(inode)                the VFS calls d_delete(dentry) afterwards
    rename():   nothing                          the VFS calls d_move() afterwards

A directory has one dentry with a place in the tree, no more: that is what `d_splice_alias` is for.
"""

from __future__ import annotations

from stat import S_ISDIR
from typing import TYPE_CHECKING, NoReturn

from vfsim.checks.bugs import bug, warn
from vfsim.checks.lifetime import hand_over
from vfsim.fs.d_lookup import (
    d_alloc,
    d_alloc_parallel,
    d_alloc_pseudo,
    d_in_lookup,
    d_lookup,
    d_lookup_done,
    d_lookup_done_locked,
    d_lookup_fast,
    d_lookup_rcu,
    end_dir_add,
    start_dir_add,
)
from vfsim.fs.d_move import (
    d_ancestor,
    d_exchange,
    d_move,
    d_move_locked,
    d_unalias_locked,
    is_subdir,
)
from vfsim.fs.d_ref import dentry_unlink_inode, dget, dget_dlock, dget_parent, dput
from vfsim.fs.d_walk import (
    d_genocide,
    d_invalidate,
    d_prune_aliases,
    d_walk,
    prune_dcache_sb,
    shrink_dcache_for_umount,
    shrink_dcache_parent,
    shrink_dcache_sb,
)
from vfsim.fs.dentry import (
    DCACHE_CANT_MOUNT,
    DCACHE_DENTRY_KILLED,
    DCACHE_MANAGE_TRANSIT,
    DCACHE_MOUNTED,
    DCACHE_NEED_AUTOMOUNT,
    DCACHE_OP_COMPARE,
    DCACHE_OP_DELETE,
    DCACHE_OP_DNAME,
    DCACHE_OP_HASH,
    DCACHE_OP_REVALIDATE,
    DCACHE_OP_WEAK_REVALIDATE,
    DCACHE_PAR_LOOKUP,
    DENTRY_D_LOCK_NESTED,
    DENTRY_D_LOCK_NORMAL,
    FIRST_CHILD,
    Dcache,
    Dentry,
    d_drop,
    d_drop_locked,
    d_inode,
    d_is_dir,
    d_is_negative,
    d_is_positive,
    d_is_reg,
    d_is_symlink,
    d_mountpoint,
    d_real,
    d_real_inode,
    d_rehash_locked,
    d_set_d_op,
    d_unhashed,
    d_unlinked,
    dcache,
    dentry_path,
    is_root,
)
from vfsim.fs.inode import drop_nlink, iput
from vfsim.fs.operations import FileOperations, InodeOperations
from vfsim.mm.writeback import mark_inode_dirty
from vfsim.sim.errors import ELOOP
from vfsim.sim.scheduler import cpu_relax

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode


# -- giving a dentry its inode ---------------------------------------------------------------------


def _attach(dentry: Dentry, inode: Inode) -> None:
    """Never sleeps.  Make a dentry positive.  The caller holds i_lock and d_lock."""
    if not isinstance(inode.i_op, InodeOperations):
        _wrong_table(inode, "i_op", InodeOperations)
    if not isinstance(inode.i_fop, FileOperations):
        _wrong_table(inode, "i_fop", FileOperations)
    if inode.i_dentry:
        if S_ISDIR(inode.i_mode):
            warn("dcache.alias", f"{inode!r} is a directory, and gets a second dentry: {dentry!r}")
        inode.i_dentry.append(dentry)
    else:
        inode.i_dentry = [dentry]
    seq = dentry.d_seq
    seq.write_begin()
    dentry.d_inode = inode
    seq.write_end()


def _wrong_table(inode: Inode, field: str, wanted: type) -> NoReturn:
    """Never sleeps.  A compiler would have said it, and the kernel would fall over it later."""
    found = getattr(inode, field)
    what = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
    bug("kernel.bug", f"{field} of {inode!r} is {what}, not an object of {wanted.__name__}")


def d_instantiate(dentry: Dentry, inode: Inode | None) -> None:
    """Never sleeps.  A name was made: the negative ``dentry`` leads to ``inode`` from now on.

    Consumes the caller's reference on ``inode``.  Takes i_lock and d_lock.

    Source: ``d_instantiate``.
    """
    if dentry.d_inode is not None:
        bug("kernel.bug", f"d_instantiate() of a dentry that has an inode: {dentry!r}")
    if inode is None:
        return
    inode.i_lock.lock()
    dentry.d_lock.lock()
    _attach(dentry, inode)
    dentry.d_lock.unlock()
    inode.i_lock.unlock()
    hand_over(inode, "d_instantiate")


def d_tmpfile(dentry: Dentry, inode: Inode) -> None:
    """Sleeps.  A file without a name: ``dentry`` leads to ``inode``, which loses its link, and is
    called after its number.

    For the filesystem's ``tmpfile``.  Consumes the caller's reference on ``inode``.  Takes the
    parent's d_lock and the dentry's.  Source: ``d_tmpfile``.
    """
    drop_nlink(inode)
    mark_inode_dirty(inode)
    name = f"#{inode.i_ino}"
    key = dentry.d_op.d_hash(dentry.d_parent, name) if dentry.d_flags & DCACHE_OP_HASH else name
    with dentry.d_parent.d_lock:
        dentry.d_lock.lock(DENTRY_D_LOCK_NESTED)
        dentry.d_seq.write_begin()
        dentry.d_name, dentry.d_key = name, key
        dentry.d_seq.write_end()
        dentry.d_lock.unlock()
    d_instantiate(dentry, inode)


def d_add(dentry: Dentry, inode: Inode | None) -> None:
    """Never sleeps.  The answer of a lookup: ``dentry`` leads to ``inode``, or (None) there is no
    such name.

    The dentry is hashed, and a lookup in progress is over.  Consumes the caller's reference on
    ``inode``.
    Takes i_lock and d_lock.  Source: ``d_add``.
    """
    if dentry.d_hashed:
        bug("kernel.bug", f"d_add() of a dentry that is hashed: {dentry!r}")
    if inode is not None:
        inode.i_lock.lock()
    _d_add_locked(dentry, inode)


def _d_add_locked(dentry: Dentry, inode: Inode | None) -> None:
    """Never sleeps.  The caller holds i_lock, if there is an inode; it is released."""
    dir = None
    dentry.d_lock.lock()
    if dentry.d_flags & DCACHE_PAR_LOOKUP:
        dir = start_dir_add(dentry.d_parent)
        d_lookup_done_locked(dentry)
    if inode is not None:
        _attach(dentry, inode)
        hand_over(inode, "d_add")
    d_rehash_locked(dentry)
    if dir is not None:
        end_dir_add(dir)
    dentry.d_lock.unlock()
    if inode is not None:
        inode.i_lock.unlock()


def d_rehash(dentry: Dentry) -> None:
    """Never sleeps.  Let lookups find a dentry that they could not."""
    with dentry.d_lock:
        if not dentry.d_hashed:
            d_rehash_locked(dentry)


def d_splice_alias(inode: Inode | None, dentry: Dentry) -> Dentry | None:
    """Sleeps.  The answer of a lookup of what may be a directory that has a dentry already.

    If ``inode`` is such a directory, its dentry is moved to where ``dentry`` is and returned with a
    reference, to be used instead; else this is `d_add` and None is returned.  Consumes the caller's
    reference on ``inode``.

    Raises:
        OSError: ELOOP if the directory would lie inside itself, ESTALE if a rename is in the way.

    Source: ``d_splice_alias``.
    """
    if dentry.d_hashed:
        bug("kernel.bug", f"d_splice_alias() with a dentry that is hashed: {dentry!r}")
    if inode is None:
        _d_add_locked(dentry, None)
        return None
    inode.i_lock.lock()
    if not S_ISDIR(inode.i_mode) or not inode.i_dentry:
        _d_add_locked(dentry, inode)
        return None
    alias = _any_alias(inode)
    inode.i_lock.unlock()
    rename_lock = dcache().rename_lock
    rename_lock.write_lock()
    try:
        if d_ancestor(alias, dentry) is not None:
            raise ELOOP()
        if alias.d_parent is alias:
            d_move_locked(alias, dentry, False)
        else:
            d_unalias_locked(inode, dentry, alias)
    except OSError:
        rename_lock.write_unlock()
        dput(alias)
        iput(inode)
        raise
    rename_lock.write_unlock()
    iput(inode)
    return alias


def _any_alias(inode: Inode) -> Dentry:
    """Never sleeps.  Any dentry of an inode that has one, with a new reference.  The caller holds
    i_lock.
    """
    alias = inode.i_dentry[0]
    with alias.d_lock:
        return dget_dlock(alias)


def d_find_alias(inode: Inode) -> Dentry | None:
    """Never sleeps.  A dentry that leads to the inode, with a new reference, or None.

    A hashed one; for a directory any.  Takes i_lock, d_lock.  Source: ``d_find_alias``.
    """
    with inode.i_lock:
        for alias in inode.i_dentry:
            with alias.d_lock:
                if alias.d_hashed or S_ISDIR(inode.i_mode):
                    return dget_dlock(alias)
    return None


def d_find_any_alias(inode: Inode) -> Dentry | None:
    """Never sleeps.  As `d_find_alias`, also one that lookups do not find any more.

    Source: ``d_find_any_alias``.
    """
    with inode.i_lock:
        return _any_alias(inode) if inode.i_dentry else None


def d_make_root(inode: Inode) -> Dentry:
    """Sleeps.  The root dentry of a filesystem being mounted.  Consumes the reference on ``inode``,
    also if it fails.

    Raises:
        OSError: what the filesystem's ``d_init`` says.

    Source: ``d_make_root``.
    """
    try:
        root = d_alloc_pseudo(inode.i_sb, "/")
    except OSError:
        iput(inode)
        raise
    d_instantiate(root, inode)
    hand_over(root, "d_make_root")
    return root


def dont_mount(dentry: Dentry) -> None:
    """Never sleeps.  The name is going away: nothing can be mounted on it any more.  Takes
    d_lock.
    """
    with dentry.d_lock:
        dentry.d_flags |= DCACHE_CANT_MOUNT


# -- taking it away --------------------------------------------------------------------------------


def d_delete(dentry: Dentry) -> None:
    """Sleeps.  The name was removed: the dentry turns negative if nobody else uses it, else it is
    hidden.

    The caller holds a reference, and the directory exclusive.  Takes d_lock, tries i_lock.

    Source: ``d_delete``.
    """
    while True:
        lock = dentry.d_lock
        lock.lock()
        inode = dentry.d_inode
        assert inode is not None
        if dentry.d_lockref.count != 1:
            d_drop_locked(dentry)
            lock.unlock()
            return
        if inode.i_lock.trylock():
            dentry.d_flags &= ~DCACHE_CANT_MOUNT
            dentry_unlink_inode(dentry, inode)
            return
        lock.unlock()
        cpu_relax()


__all__ = [
    "DCACHE_CANT_MOUNT",
    "DCACHE_DENTRY_KILLED",
    "DCACHE_MANAGE_TRANSIT",
    "DCACHE_MOUNTED",
    "DCACHE_NEED_AUTOMOUNT",
    "DCACHE_OP_COMPARE",
    "DCACHE_OP_DELETE",
    "DCACHE_OP_DNAME",
    "DCACHE_OP_HASH",
    "DCACHE_OP_REVALIDATE",
    "DCACHE_OP_WEAK_REVALIDATE",
    "DCACHE_PAR_LOOKUP",
    "DENTRY_D_LOCK_NESTED",
    "FIRST_CHILD",
    "DENTRY_D_LOCK_NORMAL",
    "Dcache",
    "Dentry",
    "d_add",
    "d_alloc",
    "d_alloc_parallel",
    "d_alloc_pseudo",
    "d_ancestor",
    "d_delete",
    "d_drop",
    "d_drop_locked",
    "d_exchange",
    "d_find_alias",
    "d_find_any_alias",
    "d_genocide",
    "d_in_lookup",
    "d_inode",
    "d_instantiate",
    "d_invalidate",
    "d_is_dir",
    "d_is_negative",
    "d_is_positive",
    "d_is_reg",
    "d_is_symlink",
    "d_lookup",
    "d_lookup_done",
    "d_lookup_fast",
    "d_lookup_rcu",
    "d_make_root",
    "d_mountpoint",
    "d_move",
    "d_prune_aliases",
    "d_real",
    "d_real_inode",
    "d_rehash",
    "d_set_d_op",
    "d_splice_alias",
    "d_unhashed",
    "d_unlinked",
    "d_walk",
    "dcache",
    "dentry_path",
    "dget",
    "dget_dlock",
    "dget_parent",
    "dont_mount",
    "dput",
    "is_root",
    "is_subdir",
    "prune_dcache_sb",
    "shrink_dcache_for_umount",
    "shrink_dcache_parent",
    "shrink_dcache_sb",
]
