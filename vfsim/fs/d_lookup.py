"""Finding names in the dcache, and lookups in progress.

Four ways of looking, by what they promise:

==================  =========================================================================
`d_lookup_rcu`      takes no lock and no reference, and promises nothing: the caller asks d_seq
                    (Linux: ``__d_lookup_rcu``)
`d_lookup_fast`     may miss a name that is being renamed just now (Linux: ``__d_lookup``)
`d_lookup`          does not: it starts over if ``rename_lock`` moved
`d_alloc_parallel`  the name, or a new dentry *in lookup*: the caller asks the filesystem,
                    others wait
==================  =========================================================================

A lookup in progress::

    dentry = d_alloc_parallel(parent, name)      # the directory is locked, at least shared
    if d_in_lookup(dentry):
        ... dir.i_op.lookup(), which calls d_add() or d_splice_alias() ...
        d_lookup_done(dentry)                    # those who wait for this name go on

``parent.d_lookup_lock`` guards ``parent.d_lookups``; ``dir.i_dir_seq`` moves when a name is added,
and so tells `d_alloc_parallel` that its look into the dcache was in vain.  In v4.10 it is a bare
counter that its writers spin on; here it is a seqlock, which says the same and cannot spin for
ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks import windows
from vfsim.checks.lifetime import note_ref
from vfsim.fs.d_ref import dput
from vfsim.fs.dentry import (
    DCACHE_OP_COMPARE,
    DCACHE_OP_HASH,
    DCACHE_OP_INIT,
    DCACHE_PAR_LOOKUP,
    Dentry,
    dcache,
    link_child,
    name_key,
)
from vfsim.locks.bitlock import BitLock
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.slab import kmalloc
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock


# -- making dentries -------------------------------------------------------------------------------


def d_alloc(parent: Dentry, name: str) -> Dentry:
    """Sleeps.  A new dentry, unhashed and negative, with one reference and one on ``parent``.

    Raises:
        OSError: ENOMEM, or what the filesystem's ``d_init`` says.

    Takes the parent's d_lock.  Source: ``d_alloc``.
    """
    kmalloc()
    dentry = Dentry(parent.d_sb, name, parent)
    if parent.d_flags & DCACHE_OP_HASH:
        dentry.d_key = parent.d_op.d_hash(parent, name)
    if dentry.d_flags & DCACHE_OP_INIT:
        dentry.d_op.d_init(dentry)
    note_ref(dentry, 1, "d_alloc")
    lock = parent.d_lock
    lock.lock()
    parent.d_lockref.count += 1
    link_child(parent, dentry)
    lock.unlock()
    return dentry


def d_alloc_pseudo(sb: SuperBlock, name: str) -> Dentry:
    """Sleeps.  A dentry without a parent, for files that have no place in a tree.

    Raises:
        OSError: ENOMEM, or what the filesystem's ``d_init`` says.
    """
    kmalloc()
    dentry = Dentry(sb, name, None)
    if dentry.d_flags & DCACHE_OP_INIT:
        dentry.d_op.d_init(dentry)
    note_ref(dentry, 1, "d_alloc")
    return dentry


# -- looking ---------------------------------------------------------------------------------------


def _same_name(parent: Dentry, dentry: Dentry, name: str) -> bool:
    """Never sleeps.  Whether a dentry of ``parent`` has that name, in the filesystem's opinion."""
    if parent.d_flags & DCACHE_OP_COMPARE:
        return not parent.d_op.d_compare(dentry, len(dentry.d_name), dentry.d_name, name)
    return dentry.d_name == name


def d_lookup_fast(parent: Dentry, name: str) -> Dentry | None:
    """Never sleeps.  The dentry of that name with a new reference, or None; may miss one that is
    being renamed.

    Takes each candidate's d_lock, inside an RCU read section.  Source: ``__d_lookup``.
    """
    key = name_key(parent, name)
    found = None
    rcu_read_lock()
    table = parent.d_hashtable
    dentry = None if table is None else table.get(key)
    while dentry is not None:
        lock = dentry.d_lock
        lock.lock()
        if dentry.d_parent is parent and dentry.d_hashed and _same_name(parent, dentry, name):
            dentry.d_lockref.count += 1
            lock.unlock()
            note_ref(dentry, 1, "d_lookup")
            found = dentry
            break
        lock.unlock()
        dentry = dentry.d_hash_next
    rcu_read_unlock()
    return found


def d_lookup(parent: Dentry, name: str) -> Dentry | None:
    """Never sleeps.  The dentry of that name with a new reference, or None if the dcache has none.

    Starts over if a rename ran meanwhile.  Source: ``d_lookup``.
    """
    rename_lock = dcache().rename_lock
    while True:
        seq = rename_lock.read_begin()
        dentry = d_lookup_fast(parent, name)
        if dentry is not None or not rename_lock.read_retry(seq):
            return dentry


def d_lookup_rcu(parent: Dentry, name: str, key: Any) -> tuple[Dentry | None, int]:
    """Never sleeps.  The dentry of that name and its d_seq, without a reference, or (None, 0).

    The caller is in an RCU read section, and must ask d_seq before believing anything: a dentry
    that is being moved is looked at like any other.  Source: ``__d_lookup_rcu``.
    """
    table = parent.d_hashtable
    dentry = None if table is None else table.get(key)
    while dentry is not None:
        seq = dentry.d_seq.raw_begin()
        if dentry.d_parent is not parent or not dentry.d_hashed:
            windows.left(dentry.d_seq)
        elif parent.d_flags & DCACHE_OP_COMPARE:
            found = _compare_rcu(parent, dentry, name, seq)
            if found is not None:
                return dentry, found
        elif dentry.d_name == name:
            return dentry, seq
        dentry = dentry.d_hash_next
    return None, 0


def _compare_rcu(parent: Dentry, dentry: Dentry, name: str, seq: int) -> int | None:
    """Never sleeps.  `_same_name`, and by which d_seq; None if not.

    The filesystem gets a name that was whole at that moment.  Source: ``slow_dentry_cmp``.
    """
    while dentry.d_parent is parent and dentry.d_hashed:
        text = dentry.d_name
        if not dentry.d_seq.read_retry(seq):
            same = not parent.d_op.d_compare(dentry, len(text), text, name)
            return seq if same else None
        seq = dentry.d_seq.read_begin()
    windows.left(dentry.d_seq)
    return None


# -- lookups in progress ---------------------------------------------------------------------------


def d_in_lookup(dentry: Dentry) -> bool:
    """Never sleeps.  Whether somebody is asking the filesystem about it."""
    return bool(dentry.d_flags & DCACHE_PAR_LOOKUP)


def dir_seq(dir: Inode) -> SeqLock:
    """Never sleeps.  The sequence that moves when a name is added to ``dir``; made when first
    needed.
    """
    seq = dir.i_dir_seq
    if seq is None:
        seq = dir.i_dir_seq = SeqLock("i_dir_seq")
    return seq


def start_dir_add(parent: Dentry) -> Inode:
    """Never sleeps.  A name is being added to ``parent``: only one at a time.  Returns the
    directory's inode.
    """
    dir = parent.d_inode
    assert dir is not None
    dir_seq(dir).write_lock()
    return dir


def end_dir_add(dir: Inode) -> None:
    """Never sleeps.  The name is there."""
    dir_seq(dir).write_unlock()


def _lookup_lock(parent: Dentry) -> BitLock:
    lock = parent.d_lookup_lock
    if lock is None:
        lock = parent.d_lookup_lock = BitLock("in_lookup_bucket")
        parent.d_lookups = {}
    return lock


def d_alloc_parallel(parent: Dentry, name: str) -> Dentry:
    """Sleeps.  The dentry of that name with a new reference, after a lookup in progress; or a new
    one *in lookup*.

    Whoever gets one in lookup must end that, by `d_add`, `d_splice_alias` or `d_lookup_done`.
    The caller holds the directory, at least shared.  Source: ``d_alloc_parallel``.
    """
    dir = parent.d_inode
    assert dir is not None
    new = d_alloc(parent, name)
    key = new.d_key
    rename_lock = dcache().rename_lock
    adding = dir_seq(dir)
    while True:
        rcu_read_lock()
        added = adding.read_begin()
        r_seq = rename_lock.read_begin()
        dentry, d_seq = d_lookup_rcu(parent, name, key)
        if dentry is not None:
            if not _legitimize(dentry, d_seq):
                continue
            dput(new)
            return dentry
        if rename_lock.read_retry(r_seq):
            rcu_read_unlock()
            continue
        lock = _lookup_lock(parent)
        lock.lock()
        if adding.read_retry(added):  # a name was added since: it may be ours
            lock.unlock()
            rcu_read_unlock()
            continue
        lookups: dict[Any, tuple[Dentry, ...]] = parent.d_lookups  # type: ignore[assignment]
        other = next((d for d in lookups.get(key, ()) if _same_name(parent, d, name)), None)
        if other is None:
            new.d_flags |= DCACHE_PAR_LOOKUP
            new.d_lookup_task = K.cur
            lookups[key] = (new, *lookups.get(key, ()))
            lock.unlock()
            rcu_read_unlock()
            return new
        lock.unlock()
        if not other.d_lockref.get_not_dead():
            rcu_read_unlock()
            continue
        note_ref(other, 1, "d_alloc_parallel")
        rcu_read_unlock()
        if _wait_lookup(other, parent, name):
            dput(new)
            return other
        dput(other)


def _legitimize(dentry: Dentry, d_seq: int) -> bool:
    """Sleeps.  Turn what an RCU lookup found into a reference; False if it changed.  Ends the RCU
    read section.
    """
    if not dentry.d_lockref.get_not_dead():
        rcu_read_unlock()
        return False
    note_ref(dentry, 1, "d_alloc_parallel")
    changed = dentry.d_seq.read_retry(d_seq)
    if changed:
        dentry.d_seq.read_begin()  # let a writer finish: a schedule may be unfair for ever
    rcu_read_unlock()
    if changed:
        dput(dentry)
    return not changed


def _wait_lookup(dentry: Dentry, parent: Dentry, name: str) -> bool:
    """Sleeps.  Wait for another task's lookup of ``dentry``; whether the dentry is now what
    `d_lookup` would find.

    The caller holds a reference.
    """
    lock = dentry.d_lock
    lock.lock()
    while dentry.d_flags & DCACHE_PAR_LOOKUP:
        queue = dentry.d_wait
        if queue is None:
            queue = dentry.d_wait = WaitQueue("lookup in progress")
        owner = dentry.d_lookup_task
        lock.unlock()
        queue.wait_event(lambda: not dentry.d_flags & DCACHE_PAR_LOOKUP, owner=owner)
        lock.lock()
    found = dentry.d_parent is parent and dentry.d_hashed and _same_name(parent, dentry, name)
    lock.unlock()
    return found


def d_lookup_done_locked(dentry: Dentry) -> None:
    """Never sleeps.  The lookup of a dentry is over: let those go on who wait for it.  The caller
    holds d_lock.
    """
    parent = dentry.d_parent
    lock = _lookup_lock(parent)
    lock.lock()
    dentry.d_flags &= ~DCACHE_PAR_LOOKUP
    lookups: dict[Any, tuple[Dentry, ...]] = parent.d_lookups  # type: ignore[assignment]
    key = dentry.d_key
    rest = tuple(d for d in lookups[key] if d is not dentry)
    if rest:
        lookups[key] = rest
    else:
        del lookups[key]
    dentry.d_lookup_task = None
    queue = dentry.d_wait
    if queue is not None:
        dentry.d_wait = None
        queue.wake_up_all()
    lock.unlock()


def d_lookup_done(dentry: Dentry) -> None:
    """Never sleeps.  End a lookup that added nothing; nothing happens if it is over.

    Source: ``d_lookup_done``.
    """
    if dentry.d_flags & DCACHE_PAR_LOOKUP:
        with dentry.d_lock:
            d_lookup_done_locked(dentry)
