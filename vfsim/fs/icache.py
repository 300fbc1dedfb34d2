"""The inode cache: finding inodes by number, keeping unused ones, and how an inode ends.

The states of an inode (``i_state``) and who waits for them to end::

    I_NEW          hashed, but not filled in yet; whoever finds it waits
    I_WILL_FREE    unused, being written back for the last time; whoever finds it waits until it is
                   gone
    I_FREEING      being evicted; likewise
    I_CLEAR        its data is gone (always together with I_FREEING)
    I_SYNC         being written back; eviction waits
    I_REFERENCED   used since memory pressure last looked

The bits are in `vfsim.mm.i_state`.  What waits for the end of I_NEW or of an inode waits on a
`StateWait`, not on the inode, because that may be freed first.  The wait knows its owner, so a hang
names who should have called `unlock_new_inode`.

An inode ends here::

    evict()              off the lists of writeback and superblock; writeback waited for
    s_op.evict_inode     pages thrown away, clear_inode()
    remove_inode_hash    its number is free again, waiters go on
    destroy_inode        freed after a grace period

The locks are told in `vfsim.fs.inode`.  The counterpart of the cache in ``fs/inode.c`` of Linux
v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.checks.bugs import bug, warn
from vfsim.checks.lifetime import free, only_frees
from vfsim.fs.operations import SuperOperations
from vfsim.locks.rcu import call_rcu
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.mm.i_state import I_CLEAR, I_DIRTY_ALL, I_DYING, I_FREEING, I_NEW, I_REFERENCED, I_SYNC
from vfsim.mm.list_lru import LRU_REMOVED, LRU_RETRY, LRU_ROTATE, LRU_SKIP, list_lru_walk
from vfsim.mm.truncate import invalidate_mapping_pages, truncate_inode_pages
from vfsim.mm.writeback import inode_io_list_del, inode_wait_for_writeback
from vfsim.sim.scheduler import cond_resched, might_sleep
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock
    from vfsim.sim.task import Task

MS_ACTIVE = 1 << 30
"""A flag of superblocks (see `vfsim.fs.super`): unused inodes may stay in the cache."""

_PLAIN_EVICT = SuperOperations.evict_inode
_PLAIN_DESTROY = SuperOperations.destroy_inode


@attrs.define(eq=False)
class StateWait:
    """Where tasks wait for an inode to become ready, or to be gone.  It outlives the inode.

    Attributes:
        queue: the waiters.  owner: who must end the wait.  over: it has ended.
    """

    owner: Task | None
    queue: WaitQueue = attrs.field(factory=lambda: WaitQueue("inode state"))
    over: bool = False

    def wait(self) -> None:
        """Sleeps.  Until whoever made the inode new or began to free it is done."""
        self.queue.wait_event(self._is_over, owner=self.owner)

    def _is_over(self) -> bool:
        return self.over


@attrs.define(eq=False)
class InodeCache:
    """What all inodes of a world share.

    Attributes:
        inode_hash_lock: guards the hash.
        inode_hashtable: by superblock and hash value, which is the number except with
            `iget5_locked`, the first inode of a chain: of each number one alive, and some being
            freed.
        last_ino: for `get_next_ino`.
    """

    inode_hash_lock: SpinLock = attrs.field(factory=lambda: SpinLock("inode_hash_lock"))
    inode_hashtable: dict[SuperBlock, dict[int, Inode]] = attrs.field(factory=dict)
    last_ino: int = 0

    def _check(self) -> None:
        for sb, table in self.inode_hashtable.items():
            for hashval in table:
                alive: dict[int, None] = {}
                for inode in self.chain(sb, hashval):
                    assert inode.i_sb is sb and inode.i_hash == hashval
                    if not inode.i_state & I_DYING:
                        ino = inode.i_ino
                        assert ino not in alive, f"two inodes of number {ino} on {sb!r}"
                        alive[ino] = None

    def chain(self, sb: SuperBlock, hashval: int) -> Iterator[Inode]:
        """The inodes of a hash value.  The caller holds inode_hash_lock."""
        table = self.inode_hashtable.get(sb)
        inode = table.get(hashval) if table is not None else None
        while inode is not None:
            yield inode
            inode = inode.i_hash_next


def icache() -> InodeCache:
    """Never sleeps.  The inode cache of the running world."""
    data = K.machine.data
    found = data.get("icache")
    if found is None:
        found = data["icache"] = InodeCache()
        data["inode_hash_lock"] = found.inode_hash_lock
    return found


# -- the lists of a superblock and the hash --------------------------------------------------------


def inode_sb_list_add(inode: Inode) -> None:
    """Never sleeps.  Put an inode on its superblock's list."""
    sb = inode.i_sb
    sb.s_inode_list_lock.lock()
    sb.s_inodes[inode] = None
    inode.i_on_sb_list = True
    sb.s_inode_list_lock.unlock()


def inode_sb_list_del(inode: Inode) -> None:
    """Never sleeps.  Take an inode off its superblock's list."""
    if inode.i_on_sb_list:
        sb = inode.i_sb
        sb.s_inode_list_lock.lock()
        del sb.s_inodes[inode]
        inode.i_on_sb_list = False
        sb.s_inode_list_lock.unlock()


def hash_add(cache: InodeCache, inode: Inode, hashval: int) -> None:
    """Never sleeps.  Hash an inode.  The caller holds inode_hash_lock and i_lock."""
    table = cache.inode_hashtable.get(inode.i_sb)
    if table is None:
        table = cache.inode_hashtable[inode.i_sb] = {}
    inode.i_hash_next = table.get(hashval)
    table[hashval] = inode
    inode.i_hash = hashval


def insert_inode_hash(inode: Inode, hashval: int | None = None) -> None:
    """Never sleeps.  Make an inode findable by its number or, for ``iget5_locked``, by something
    else.  Source: ``insert_inode_hash``, ``__insert_inode_hash``.
    """
    cache = icache()
    with cache.inode_hash_lock, inode.i_lock:
        if hashval is None:
            must_be_the_only_one(cache, inode)
        hash_add(cache, inode, inode.i_ino if hashval is None else hashval)


def must_be_the_only_one(cache: InodeCache, inode: Inode) -> None:
    """Never sleeps.  A number is given again when who had it is gone: one that is being freed may
    still be on its way to the disk.
    """
    for other in cache.chain(inode.i_sb, inode.i_ino):
        if other.i_ino == inode.i_ino:
            warn("inode.number", f"{inode!r} is hashed while {other!r} has its number")


def remove_inode_hash(inode: Inode) -> None:
    """Never sleeps.  Make an inode unfindable; nothing happens if it is."""
    if inode.i_hash is None:
        return
    cache = icache()
    with cache.inode_hash_lock, inode.i_lock:
        hash_del(cache, inode)


def hash_del(cache: InodeCache, inode: Inode) -> None:
    """Never sleeps.  Unhash an inode.  The caller holds inode_hash_lock and i_lock."""
    hashval = inode.i_hash
    if hashval is None:
        return
    table = cache.inode_hashtable[inode.i_sb]
    after = inode.i_hash_next
    before = None
    for other in cache.chain(inode.i_sb, hashval):
        if other is inode:
            break
        before = other
    if before is not None:
        before.i_hash_next = after
    elif after is not None:
        table[hashval] = after
    else:
        del table[hashval]
        if not table:
            del cache.inode_hashtable[inode.i_sb]
    inode.i_hash = inode.i_hash_next = None


# -- waiting for states ----------------------------------------------------------------------------


def state_wait(inode: Inode) -> StateWait:
    """Never sleeps.  The place to wait for the inode's state; the caller holds its i_lock."""
    wait = inode.i_wait
    if wait is None:
        wait = inode.i_wait = StateWait(inode.i_state_owner)
    return wait


def wait_on_freeing_inode(cache: InodeCache, inode: Inode) -> None:
    """Sleeps.  Until the inode is gone.  Enters with i_lock and inode_hash_lock, leaves with the
    latter.

    The inode must not be looked at afterwards: its memory may be somebody else's.
    """
    wait = state_wait(inode)
    inode.i_lock.unlock()
    cache.inode_hash_lock.unlock()
    wait.wait()
    cache.inode_hash_lock.lock()


def wake_up_inode(inode: Inode) -> None:
    """Never sleeps.  End the wait for the inode's state.  The caller holds its i_lock."""
    wait = inode.i_wait
    inode.i_state_owner = None
    if wait is not None:
        inode.i_wait = None
        wait.over = True
        wait.queue.wake_up_all()


# -- eviction --------------------------------------------------------------------------------------


def evict(inode: Inode) -> None:
    """Sleeps.  Take an inode with I_FREEING out of everything and free it.

    Nobody can take a reference any more; writeback may still be busy with it and is waited for.
    """
    if not inode.raw_i_state & I_FREEING:  # no lock: whoever set it is we
        bug("kernel.bug", f"evict() of an inode that is not being freed: {inode!r}")
    might_sleep()
    sb = inode.i_sb
    if inode in sb.s_inode_lru:
        bug("kernel.bug", f"evict() of an inode that is still on the LRU: {inode!r}")
    inode_io_list_del(inode)
    inode_sb_list_del(inode)
    inode_wait_for_writeback(inode)
    if inode.i_state & I_SYNC:
        warn("E10", f"{inode!r} is evicted while it is being written back")
    op = sb.s_op
    if type(op).evict_inode is _PLAIN_EVICT:
        truncate_inode_pages_final(inode)
        clear_inode(inode)
    else:
        op.evict_inode(inode)
    remove_inode_hash(inode)
    with inode.i_lock:
        wake_up_inode(inode)
    destroy_inode(inode)


def truncate_inode_pages_final(inode: Inode) -> None:
    """Sleeps.  Throw away all pages of an inode that is being evicted."""
    if inode._data is not None:
        truncate_inode_pages(inode._data, 0)


def clear_inode(inode: Inode) -> None:
    """Never sleeps.  Mark an inode as having no data left; the last step of every
    ``evict_inode``.
    """
    data = inode._data
    if data is not None and data.nrpages:
        what = f"clear_inode() of an inode with {data.nrpages} pages: {inode!r}"
        bug("kernel.bug", what, unreferenced=inode)
    if not inode.i_state & I_FREEING:
        bug("kernel.bug", f"clear_inode() of an inode that is not being freed: {inode!r}")
    if inode.i_state & I_CLEAR:
        bug("kernel.bug", f"clear_inode() of an inode that was cleared before: {inode!r}")
    # No lock: nobody else changes it now, and others look for I_FREEING only, which stays.
    inode.raw_i_state = I_FREEING | I_CLEAR


def destroy_inode(inode: Inode) -> None:
    """Sleeps.  Free an inode that nobody can find (``destroy_inode`` of the filesystem, if it has
    one).
    """
    sb = inode.i_sb
    if not inode.raw_i_nlink:
        sb.s_remove_count -= 1
    op = sb.s_op
    if type(op).destroy_inode is _PLAIN_DESTROY:
        call_rcu(free_inode_nonrcu, inode)
    else:
        op.destroy_inode(inode)


@only_frees
def free_inode_nonrcu(inode: Inode) -> None:
    """Never sleeps.  Give the memory back now; for RCU callbacks."""
    free(inode, f"inode {inode.i_ino}")


def evict_inodes(sb: SuperBlock) -> None:
    """Sleeps.  Evict all unused inodes of a superblock that is no longer active.

    The caller holds ``s_umount`` exclusive.  Source: ``evict_inodes``.
    """
    dispose = []
    with sb.s_inode_list_lock:
        for inode in sb.s_inodes:
            if inode.i_count:
                continue
            with inode.i_lock:
                if inode.i_state & (I_NEW | I_DYING):
                    continue
                _start_freeing(inode)
                dispose.append(inode)
    _dispose(dispose)


def _start_freeing(inode: Inode) -> None:
    """Never sleeps.  From here on whoever finds the inode waits for us.  The caller holds
    i_lock.
    """
    inode.i_state |= I_FREEING
    inode.i_state_owner = K.cur
    inode_lru_del(inode)


def _dispose(inodes: list[Inode]) -> None:
    """Sleeps.  Evict a private list of inodes with I_FREEING."""
    for inode in inodes:
        evict(inode)
        cond_resched()


# -- unused inodes ---------------------------------------------------------------------------------


def inode_add_lru(inode: Inode) -> None:
    """Never sleeps.  Remember an unused inode as one that memory pressure may take.  The caller
    holds i_lock.
    """
    if not inode.i_state & (I_DIRTY_ALL | I_SYNC | I_DYING) and not inode.i_count:
        sb = inode.i_sb
        if sb.s_flags & MS_ACTIVE and inode not in sb.s_inode_lru:
            with sb.s_inode_lru_lock:
                sb.s_inode_lru[inode] = None


def inode_lru_del(inode: Inode) -> None:
    """Never sleeps.  The caller holds i_lock."""
    sb = inode.i_sb
    if inode in sb.s_inode_lru:
        with sb.s_inode_lru_lock:
            sb.s_inode_lru.pop(inode, None)


def prune_icache_sb(sb: SuperBlock, count: int) -> int:
    """Sleeps.  Look at ``count`` unused inodes, oldest first, and evict those that nobody used
    lately; returns how many have left the LRU.

    The caller holds ``s_umount`` at least shared.  Inodes used since the last call get a second
    chance, and those with pages lose these first.  Source: ``prune_icache_sb``.
    """
    freeable: list[Inode] = []
    lru = sb.s_inode_lru

    def isolate(inode: Inode) -> int:
        if not inode.i_lock.trylock():  # the LRU lock nests inside i_lock
            return LRU_SKIP
        answer = LRU_REMOVED
        if inode.i_count or inode.i_state & ~I_REFERENCED:
            del lru[inode]
        elif inode.i_state & I_REFERENCED:
            inode.i_state &= ~I_REFERENCED
            answer = LRU_ROTATE
        elif inode._data is not None and inode._data.nrpages:
            _drop_pages(inode)
            return LRU_RETRY
        else:
            inode.i_state |= I_FREEING
            inode.i_state_owner = K.cur
            del lru[inode]
            freeable.append(inode)
        inode.i_lock.unlock()
        return answer

    removed = list_lru_walk(lru, sb.s_inode_lru_lock, isolate, count)
    _dispose(freeable)
    return removed


def _drop_pages(inode: Inode) -> None:
    """Sleeps.  Take the clean pages from an unused inode on the LRU, which can go when it has none.

    Called with i_lock, which is released, and s_inode_lru_lock, which is let go meanwhile.
    """
    from vfsim.fs.inode import iget, iput

    lock = inode.i_sb.s_inode_lru_lock
    iget(inode)
    inode.i_lock.unlock()
    lock.unlock()
    invalidate_mapping_pages(inode.i_data)
    iput(inode)
    lock.lock()
