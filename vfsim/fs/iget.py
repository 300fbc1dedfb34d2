"""Finding inodes by number, and making those that are not there: the `iget_locked` family.

What is found is waited for (`wait_on_inode`) until whoever made it has filled it in; what is being
freed is waited for until it is gone, because its number is still in use.  A filesystem whose inodes
live on a disk does::

    inode = iget_locked(sb, ino)
    if inode.i_state & I_NEW:
        ... fill it in, or iget_failed(inode) ...
        unlock_new_inode(inode)

``inode_hash_lock`` guards the hash; the states and the other locks are told in `vfsim.fs.inode` and
`vfsim.fs.icache`.  The counterpart of that part of ``fs/inode.c`` of v4.10.
"""

from __future__ import annotations

from collections.abc import Callable
from stat import S_ISDIR
from typing import TYPE_CHECKING

from vfsim.checks.blame import innermost
from vfsim.checks.bugs import warn
from vfsim.checks.lifetime import note_ref
from vfsim.checks.obligations import owe, settle
from vfsim.fs.icache import (
    InodeCache,
    destroy_inode,
    hash_add,
    icache,
    inode_sb_list_add,
    must_be_the_only_one,
    remove_inode_hash,
    state_wait,
    wait_on_freeing_inode,
    wake_up_inode,
)
from vfsim.fs.inode import (
    INODE_NEW,
    Inode,
    alloc_inode,
    iget,
    iput,
    lockdep_annotate_inode_mutex_key,
)
from vfsim.mm.i_state import I_DYING, I_NEW
from vfsim.sim.errors import EBUSY
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.super import SuperBlock

Test = Callable[["Inode"], bool]


def _find_inode(
    cache: InodeCache, sb: SuperBlock, ino: int, test: Test | None = None
) -> Inode | None:
    """Sleeps.  The live inode of that number with a new reference; waits for dying ones to be gone.

    The caller holds ``inode_hash_lock``, which is released while waiting.

    Source: ``find_inode_fast``, and with ``test`` (which inode of that hash value) ``find_inode``.
    """
    while True:
        for inode in cache.chain(sb, ino):
            if test is not None and not test(inode):
                continue
            inode.i_lock.lock()
            if inode.i_state & I_DYING:
                wait_on_freeing_inode(cache, inode)
                break
            iget(inode)
            inode.i_lock.unlock()
            return inode
        else:
            return None


def wait_on_inode(inode: Inode) -> None:
    """Sleeps.  Until a new inode is filled in.  The caller holds a reference."""
    might_sleep()
    if not inode.i_state & I_NEW:
        return
    inode.i_lock.lock()
    wait = state_wait(inode) if inode.i_state & I_NEW else None
    inode.i_lock.unlock()
    if wait is not None:
        wait.wait()


def ilookup(sb: SuperBlock, ino: int) -> Inode | None:
    """Sleeps.  The cached inode of that number with a new reference, filled in, or None.

    Takes ``inode_hash_lock``; waits for I_NEW and for inodes being freed.  Source: ``ilookup``.
    """
    cache = icache()
    while True:
        with cache.inode_hash_lock:
            inode = _find_inode(cache, sb, ino)
        if inode is None:
            return None
        if _ready(inode):
            return inode


def _ready(inode: Inode) -> bool:
    """Sleeps.  Wait until a found inode is filled in; False, without the reference, if that
    failed.
    """
    wait_on_inode(inode)
    if inode.i_hash is None:
        iput(inode)
        return False
    return True


def ilookup5(sb: SuperBlock, hashval: int, test: Test) -> Inode | None:
    """Sleeps.  As `ilookup`, where a number alone does not tell an inode.

    Args:
        hashval: what it was hashed by.  test: whether it is the one; called with
            ``inode_hash_lock`` held.

    Source: ``ilookup5``.
    """
    cache = icache()
    while True:
        with cache.inode_hash_lock:
            inode = _find_inode(cache, sb, hashval, test)
        if inode is None or _ready(inode):
            return inode


def iget_locked(sb: SuperBlock, ino: int) -> Inode:
    """Sleeps.  The inode of that number with a new reference; I_NEW is set in ``i_state`` if it
    must be filled in.

    Whoever gets I_NEW must end it with `unlock_new_inode` or `iget_failed`; everybody else waits
    for that. Takes ``inode_hash_lock``.  Source: ``iget_locked``.
    """

    def number(inode: Inode) -> None:
        inode.i_ino = ino

    return _iget(sb, ino, None, number)


def iget5_locked(sb: SuperBlock, hashval: int, test: Test, set: Callable[[Inode], object]) -> Inode:
    """Sleeps.  As `iget_locked`, where a number alone does not tell an inode.

    Args:
        hashval: what to hash it by.
        test: whether an inode of that hash value is the one.
        set: makes a new inode the one, so that ``test`` knows it; raises OSError if it cannot.
            Both are called with ``inode_hash_lock`` held, and never sleep.

    Raises:
        OSError: ENOMEM, or what ``set`` says.

    Source: ``iget5_locked``.
    """
    return _iget(sb, hashval, test, set)


def _iget(sb: SuperBlock, hashval: int, test: Test | None, set: Callable[[Inode], object]) -> Inode:
    """Sleeps.  Find an inode, or make one that is new."""
    cache = icache()
    while True:
        with cache.inode_hash_lock:
            inode = _find_inode(cache, sb, hashval, test)
        if inode is None:
            inode = alloc_inode(sb)
            try:
                with cache.inode_hash_lock:
                    old = _find_inode(cache, sb, hashval, test)
                    if old is None:
                        set(inode)
                        _insert_new(cache, inode, hashval)
                        inode_sb_list_add(inode)
                        return inode
            except OSError:
                _discard(inode)
                raise
            _discard(inode)
            inode = old
        if _ready(inode):
            return inode


def _discard(inode: Inode) -> None:
    """Sleeps.  Free a fresh inode that nobody has seen: another one was faster, or it is wrong."""
    note_ref(inode, -1, "iget_locked")
    inode.i_count = 0
    destroy_inode(inode)


def _insert_new(cache: InodeCache, inode: Inode, hashval: int) -> None:
    """Never sleeps.  Hash an inode as I_NEW, owned by the running task.  The caller holds
    inode_hash_lock.
    """
    with inode.i_lock:
        inode.i_state |= I_NEW
        inode.i_state_owner = K.cur
        hash_add(cache, inode, hashval)
    site = innermost(K.cur)
    if site is not None:
        owe(
            ("unlock_new_inode", inode),
            f"unlock inode {inode.i_ino}, which is new",
            INODE_NEW,
            site,
        )


def insert_new_locked(cache: InodeCache, inode: Inode) -> None:
    """Never sleeps.  Hash an inode by its number, as I_NEW.  The caller holds inode_hash_lock."""
    must_be_the_only_one(cache, inode)
    _insert_new(cache, inode, inode.i_ino)


def insert_inode_locked(inode: Inode) -> None:
    """Sleeps.  Hash a fresh inode as I_NEW, so that nobody uses its number before it is filled in.

    Raises:
        OSError: EBUSY, if there is a live inode of that number.

    Waits for inodes of that number that are being freed (v4.10 overlooks those) or not yet filled
    in.
    """
    cache = icache()
    while True:
        with cache.inode_hash_lock:
            old = _find_inode(cache, inode.i_sb, inode.i_ino)
            if old is None:
                insert_new_locked(cache, inode)
                return
        wait_on_inode(old)
        taken = old.i_hash is not None
        iput(old)
        if taken:
            raise EBUSY()


def unlock_new_inode(inode: Inode) -> None:
    """Never sleeps.  The inode is filled in: clear I_NEW and let the others at it.

    Source: ``unlock_new_inode``.
    """
    if S_ISDIR(inode.i_mode):
        lockdep_annotate_inode_mutex_key(inode)
    settle(("unlock_new_inode", inode))
    with inode.i_lock:
        if not inode.i_state & I_NEW:
            warn(INODE_NEW, f"unlock_new_inode() of {inode!r}, which is not new")
        inode.i_state &= ~I_NEW
        wake_up_inode(inode)


def iget_failed(inode: Inode) -> None:
    """Sleeps.  A new inode could not be filled in: make it unfindable, wake its waiters, drop
    it.
    """
    remove_inode_hash(inode)
    unlock_new_inode(inode)
    iput(inode)
