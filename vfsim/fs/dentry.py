"""Dentries: a name in a directory, and what it leads to.

The life of a dentry::

    d_alloc()               count 1, unhashed, in its parent's d_subdirs; holds a reference on the
                            parent
    d_add()                 hashed: lookups find it.  Positive (it owns a reference on d_inode) or
                            negative
    dget() / dput()         in use; at count 0 it stays, hashed, on the LRU of its superblock
    d_drop(), d_delete()    unhashed (or negative): the last dput() will kill it
    dentry_kill()           count dead for good; d_prune, unhashed, off the tree; d_iput or iput,
                            d_release; freed after a grace period; then its parent loses a
                            reference, and so on upwards

Which lock guards what::

    dentry.d_lock            d_flags, d_lockref.count, d_name, d_parent, d_subdirs, d_inode,
                             d_hashed
    parent.d_lock            its d_subdirs and the d_parent of every child
    the bucket's bit lock    the chain of dentries of one parent and key, d_hashed
    inode.i_lock             i_dentry, and d_inode of every alias
    sb.s_dentry_lru_lock     sb.s_dentry_lru
    rename_lock (write)      every change of d_parent and d_name of a dentry in use

and the order: i_lock > d_lock > s_dentry_lru_lock, bucket.  Two d_locks: ancestor first; strangers
by address, unless one has rename_lock, which only one can.  The rule is in `vfsim.fs.d_move`.

Linux has one hash table for all names; here the chains lie with the directories whose children they
are, while their locks are the buckets of one table (`hash_bucket`): as in Linux two names share a
lock if their hashes agree so far, whatever their directories.

How references come and end is in `vfsim.fs.d_ref`.  The counterpart of ``struct dentry`` and of the
first half of ``fs/dcache.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Annotated, Any
from zlib import crc32

import attrs

from vfsim.fs.operations import DentryOperations
from vfsim.locks.bitlock import BitLock
from vfsim.locks.lockref import LockRef
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.sim.shared import READ_ONCE, guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock
    from vfsim.locks.spinlock import SpinLock
    from vfsim.locks.waitqueue import WaitQueue
    from vfsim.sim.task import Task

# d_flags
DCACHE_OP_HASH = 1 << 0
DCACHE_OP_COMPARE = 1 << 1
DCACHE_OP_REVALIDATE = 1 << 2
DCACHE_OP_DELETE = 1 << 3
DCACHE_OP_PRUNE = 1 << 4
DCACHE_DISCONNECTED = 1 << 5
DCACHE_REFERENCED = 1 << 6
DCACHE_CANT_MOUNT = 1 << 8
DCACHE_SHRINK_LIST = 1 << 10
DCACHE_OP_WEAK_REVALIDATE = 1 << 11
DCACHE_GENOCIDE = 1 << 9
DCACHE_DENTRY_KILLED = 1 << 15
DCACHE_MOUNTED = 1 << 16
DCACHE_NEED_AUTOMOUNT = 1 << 17
DCACHE_MANAGE_TRANSIT = 1 << 18
DCACHE_LRU_LIST = 1 << 19
DCACHE_MAY_FREE = 1 << 23
DCACHE_OP_REAL = 1 << 26
DCACHE_PAR_LOOKUP = 1 << 28
DCACHE_OP_IPUT = 1 << 29
DCACHE_OP_RELEASE = 1 << 30
DCACHE_OP_DNAME = 1 << 31
DCACHE_OP_INIT = 1 << 32
DCACHE_MANAGED_DENTRY = DCACHE_MOUNTED | DCACHE_NEED_AUTOMOUNT | DCACHE_MANAGE_TRANSIT

BUCKETS = 256
"""Buckets of the hash, each with a lock of its own."""
FIRST_CHILD = 2
"""The position of a directory's first child; 0 and 1 are "." and ".." to who reads it."""

DENTRY_D_LOCK_NORMAL = 0
DENTRY_D_LOCK_NESTED = 1

_OPS = {
    "d_hash": DCACHE_OP_HASH,
    "d_compare": DCACHE_OP_COMPARE,
    "d_revalidate": DCACHE_OP_REVALIDATE,
    "d_delete": DCACHE_OP_DELETE,
    "d_prune": DCACHE_OP_PRUNE,
    "d_weak_revalidate": DCACHE_OP_WEAK_REVALIDATE,
    "d_real": DCACHE_OP_REAL,
    "d_iput": DCACHE_OP_IPUT,
    "d_release": DCACHE_OP_RELEASE,
    "d_dname": DCACHE_OP_DNAME,
    "d_init": DCACHE_OP_INIT,
    "d_automount": DCACHE_NEED_AUTOMOUNT,
    "d_manage": DCACHE_MANAGE_TRANSIT,
}
_NOT_AT_BIRTH = DCACHE_NEED_AUTOMOUNT | DCACHE_MANAGE_TRANSIT  # set by filesystems where they apply
_NO_OPS = DentryOperations()
_flags_of_ops: dict[type, int] = {DentryOperations: 0}


def op_flags(op: DentryOperations) -> int:
    """Never sleeps.  DCACHE_OP_* bits: which methods a table of operations overrides."""
    cls = type(op)
    flags = _flags_of_ops.get(cls)
    if flags is None:
        flags = 0
        for name, bit in _OPS.items():
            if getattr(cls, name) is not getattr(DentryOperations, name):
                flags |= bit
        _flags_of_ops[cls] = flags = flags & ~_NOT_AT_BIRTH
    return flags


_DIR = ("d_parent.d_inode.i_rwsem",)
"""What keeps a name where it is, beside its own lock: that of the directory it is in."""
_INODE = guarded_by("d_lock", seq="d_seq", lockless=True, publishes=True)
"""A walk that stands on a negative dentry finds the inode that somebody makes meanwhile."""


@kernel_struct
class Dentry:
    """A name in a directory (Linux: ``struct dentry``).

    Attributes:
        d_name, d_parent: where it is; the root of a filesystem is its own parent.
        d_inode: what it leads to, or None (negative).  Read without a lock: what is positive and in
            use stays so, what is negative may turn positive while one looks.
        d_sb, d_op: its superblock, and what the filesystem does for it.
        d_flags: DCACHE_* bits.
        d_lockref, d_lock: count and lock in one; d_seq changes with d_name, d_parent, d_inode and
            hashing.
        d_subdirs: the children, oldest first.  d_child_pos: the place among them, never used twice.
        d_key: what the name is hashed as.  d_hashed: its parent can find it by that.
        d_hashtable: its own children that can be found by name: by key, the first of a chain.
        d_hash_next: the next of that chain; kept when it leaves, for readers that stand on it.
        d_lookups, d_lookup_lock: those of them being looked up just now.
        d_wait, d_lookup_task: for those who wait for its lookup to be over, and for whom.
        d_fsdata: whatever the filesystem wants.
        d_creator, d_nth: the task that made it, and as what of its objects (see `d_addr`).
    """

    d_name: Annotated[str, guarded_by("d_lock", "@rename_lock", read=_DIR, seq="d_seq")]
    d_parent: Annotated[Dentry, guarded_by("d_lock", "@rename_lock", read=_DIR, seq="d_seq")]
    d_inode: Annotated[Inode | None, _INODE]
    d_sb: SuperBlock
    d_op: DentryOperations
    d_flags: Annotated[int, guarded_by("d_lock", lockless=True)]
    d_lockref: LockRef
    d_lock: SpinLock
    d_seq: SeqCount
    d_subdirs: dict[Dentry, None] | None
    d_child_pos: Annotated[int, guarded_by("d_parent.d_lock")]
    d_next_pos: Annotated[int, guarded_by("d_lock")]
    d_key: Annotated[Any, guarded_by("d_lock", read=_DIR, seq="d_seq")]
    d_hashed: Annotated[bool, guarded_by("d_lock", lockless=True)]
    d_hashtable: dict[Any, Dentry] | None
    d_hash_next: Dentry | None
    d_lookups: dict[Any, tuple[Dentry, ...]] | None
    d_lookup_lock: BitLock | None
    d_wait: Annotated[WaitQueue | None, guarded_by("d_lock")]
    d_lookup_task: Annotated[Task | None, guarded_by("d_lock")]
    d_fsdata: Any
    d_time: int
    d_creator: str
    d_nth: int

    if TYPE_CHECKING:
        raw_d_name: str
        raw_d_parent: Dentry
        raw_d_inode: Inode | None
        raw_d_hashed: bool
        raw_d_child_pos: int

    def __init__(self, sb: SuperBlock, name: str, parent: Dentry | None) -> None:
        self.d_name = name
        self.d_parent = self if parent is None else parent
        self.d_inode = None
        self.d_sb = sb
        op = sb.s_d_op
        if op is None:
            self.d_op = _NO_OPS
            self.d_flags = 0
        else:
            self.d_op = op
            self.d_flags = op_flags(op)
        self.d_lockref = lockref = LockRef("d_lock")
        lockref.count = 1
        self.d_lock = lockref.lock
        self.d_lock.of = self
        self.d_seq = SeqCount("d_seq")
        self.d_subdirs = None
        self.d_child_pos = 0
        self.d_next_pos = FIRST_CHILD
        self.d_key = name
        self.d_hashed = False
        self.d_hashtable = None
        self.d_hash_next = None
        self.d_lookups = None
        self.d_lookup_lock = None
        self.d_wait = None
        self.d_lookup_task = None
        self.d_fsdata = None
        self.d_time = 0
        task = K.cur
        task.objects += 1
        self.d_creator = task.id
        self.d_nth = task.objects

    @property
    def d_addr(self) -> tuple[str, int]:
        """Stands for the address of the structure, where the locking rules order by address: who
        made it, and as what of his objects.
        """
        return self.d_creator, self.d_nth

    def _check(self) -> None:
        """The invariants of one dentry, true whenever nobody holds its d_lock, its parent's or
        rename_lock.
        """
        flags = self.d_flags
        parent = self.d_parent
        count = self.d_lockref.count
        if flags & DCACHE_DENTRY_KILLED:
            assert count < 0 and not self.d_hashed, f"{self!r}: killed but still about"
            return
        assert count >= 0, f"{self!r}: {count} references"
        children = self.d_subdirs or {}
        assert count >= len(children), f"{self!r}: {count} references for {len(children)} children"
        assert all(child.d_parent is self for child in children), (
            f"{self!r}: a child has another parent"
        )
        if parent is not self:
            assert parent.d_subdirs is not None and self in parent.d_subdirs, (
                f"{self!r}: not among its siblings"
            )
        if self.d_hashed:
            found = d_chain(parent, self.d_key)
            assert self in found, f"{self!r}: hashed but not in the hash"
        if self.d_inode is not None:
            assert self in self.d_inode.i_dentry, f"{self!r}: its inode does not know it"
        in_lookup = flags & DCACHE_PAR_LOOKUP
        assert not in_lookup or self.d_inode is None, f"{self!r}: in lookup and positive"

    def __repr__(self) -> str:
        kind = "negative " if self.d_inode is None else ""
        hashed = "" if self.d_hashed or self.d_parent is self else "unhashed "
        return f"<{hashed}{kind}dentry {dentry_path(self)} count={self.d_lockref.count}>"


@attrs.define(eq=False)
class Dcache:
    """What all dentries of a world share.

    Attributes:
        rename_lock: against renames under a reader's feet.
        buckets: the locks of the hash, by bucket, made when first needed.
    """

    rename_lock: SeqLock = attrs.field(factory=lambda: SeqLock("rename_lock"))
    buckets: dict[int, BitLock] = attrs.field(factory=dict)


def dcache() -> Dcache:
    """Never sleeps.  The dentry cache of the running world."""
    data = K.machine.data
    found = data.get("dcache")
    if found is None:
        found = data["dcache"] = Dcache()
        data["rename_lock"] = found.rename_lock
    return found


# -- what a dentry is ------------------------------------------------------------------------------


def dentry_path(dentry: Dentry) -> str:
    """Never sleeps.  The path inside its filesystem, as far as it can be told without locks; for
    reports.
    """
    names = []
    while dentry.d_parent is not dentry:
        names.append(dentry.d_name)
        dentry = dentry.d_parent
    return "/" + "/".join(reversed(names))


def is_root(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it has no parent: the root of a filesystem, or disconnected
    (``IS_ROOT``).
    """
    return dentry.d_parent is dentry


def d_unhashed(dentry: Dentry) -> bool:
    """Never sleeps.  Whether lookups cannot find it."""
    return not dentry.d_hashed


def d_unlinked(dentry: Dentry) -> bool:
    """Never sleeps.  Whether its name is gone: unhashed, and no root."""
    return not dentry.d_hashed and dentry.d_parent is not dentry


def d_is_negative(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it says that there is no such name."""
    return dentry.d_inode is None


def d_is_positive(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it leads to an inode."""
    return dentry.d_inode is not None


def d_is_dir(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it leads to a directory."""
    inode = dentry.d_inode
    return inode is not None and S_ISDIR(inode.i_mode)


def d_is_reg(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it leads to a regular file."""
    inode = dentry.d_inode
    return inode is not None and S_ISREG(inode.i_mode)


def d_is_symlink(dentry: Dentry) -> bool:
    """Never sleeps.  Whether it leads to a symbolic link."""
    inode = dentry.d_inode
    return inode is not None and S_ISLNK(inode.i_mode)


def d_mountpoint(dentry: Dentry) -> bool:
    """Never sleeps.  Whether something is mounted on it, in some place of the mount tree."""
    return bool(dentry.d_flags & DCACHE_MOUNTED)


def d_set_d_op(dentry: Dentry, op: DentryOperations) -> None:
    """Never sleeps.  Give a fresh dentry operations of its own."""
    dentry.d_flags = dentry.d_flags & ~op_flags(dentry.d_op) | op_flags(op)
    dentry.d_op = op


def name_key(parent: Dentry, name: str) -> Any:
    """Never sleeps.  What ``name`` is hashed as in ``parent``: itself, or what the filesystem's
    ``d_hash`` says.
    """
    if parent.d_flags & DCACHE_OP_HASH:
        return parent.d_op.d_hash(parent, name)
    return name


def d_real(dentry: Dentry, inode: Inode | None, open_flags: int) -> Dentry:
    """Sleeps.  The dentry beneath one of a stacking filesystem; any other is its own.

    Args:
        inode: the one wanted, or None: the topmost.
        open_flags: O_* bits of an open, before which the filesystem may copy the file up; with 0
            it never sleeps.

    Raises:
        OSError: what the filesystem's ``d_real`` says.

    Source: ``d_real``.
    """
    if dentry.d_flags & DCACHE_OP_REAL:
        return dentry.d_op.d_real(dentry, inode, open_flags)
    return dentry


def d_real_inode(dentry: Dentry) -> Inode | None:
    """Never sleeps.  The inode that reads and writes by this name use, or None: negative.

    Source: ``d_real_inode``.
    """
    return d_real(dentry, None, 0).d_inode


def d_inode(dentry: Dentry) -> Inode:
    """Never sleeps.  The inode of a dentry that is not negative (Linux: ``d_inode``)."""
    inode = dentry.d_inode
    assert inode is not None, f"{dentry!r} is negative"
    return inode


# -- the hash --------------------------------------------------------------------------------------


def hash_bucket(parent: Dentry, key: Any) -> BitLock:
    """Never sleeps.  The lock of the bucket in which ``parent``'s children of that key are.

    A bucket is told by the parent's address and the name, by sums that are the same in every run.
    """
    buckets = dcache().buckets
    text = key if isinstance(key, str) else repr(key)
    bucket = crc32(text.encode(errors="surrogatepass"), parent.d_nth) % BUCKETS
    lock = buckets.get(bucket)
    if lock is None:
        lock = buckets[bucket] = BitLock("dcache_hash_bucket")
    return lock


def d_chain(parent: Dentry, key: Any) -> Iterator[Dentry]:
    """Never sleeps.  The hashed children of ``parent`` with that key."""
    table = parent.d_hashtable
    dentry = None if table is None else table.get(key)
    while dentry is not None:
        yield dentry
        dentry = dentry.d_hash_next


def d_rehash_locked(dentry: Dentry) -> None:
    """Never sleeps.  Let lookups find an unhashed dentry, in front of others of its key.  The
    caller holds d_lock.

    Readers walk a chain without its lock: a dentry has its successor before it can be found.
    """
    parent = dentry.d_parent
    key = dentry.d_key
    lock = hash_bucket(parent, key)
    lock.lock()
    table = parent.d_hashtable
    if table is None:
        table = parent.d_hashtable = {}
    dentry.d_hash_next = table.get(key)
    table[key] = dentry
    dentry.d_hashed = True
    lock.unlock()


def d_drop_locked(dentry: Dentry) -> None:
    """Never sleeps.  Hide a dentry from lookups.  The caller holds d_lock.

    Source: ``__d_drop``.
    """
    if not dentry.d_hashed:
        return
    parent = dentry.d_parent
    if parent is not dentry:
        key = dentry.d_key
        lock = hash_bucket(parent, key)
        lock.lock()
        _leave_chain(parent, key, dentry)
        lock.unlock()
    dentry.d_hashed = False
    dentry.d_seq.invalidate()


def _leave_chain(parent: Dentry, key: Any, dentry: Dentry) -> None:
    """Never sleeps.  Take a dentry out of its chain.  The caller holds the bucket's lock."""
    table: dict[Any, Dentry] = parent.d_hashtable  # type: ignore[assignment]
    after = dentry.d_hash_next
    before = table[key]
    if before is dentry:
        if after is None:
            del table[key]
        else:
            table[key] = after
        return
    while before.d_hash_next is not dentry:
        before = before.d_hash_next  # type: ignore[assignment]
    before.d_hash_next = after


def d_drop(dentry: Dentry) -> None:
    """Never sleeps.  Hide a dentry from lookups; the next one asks the filesystem again.  Takes
    d_lock.
    """
    dentry.d_lock.lock()
    d_drop_locked(dentry)
    dentry.d_lock.unlock()


# -- the tree --------------------------------------------------------------------------------------


def link_child(parent: Dentry, child: Dentry) -> None:
    """Never sleeps.  Put a dentry among the children of ``parent``.  The caller holds the parent's
    d_lock.
    """
    children = parent.d_subdirs
    if children is None:
        children = parent.d_subdirs = {}
    children[child] = None
    child.d_child_pos = parent.d_next_pos
    parent.d_next_pos += 1


def unlink_child(parent: Dentry, child: Dentry) -> None:
    """Never sleeps.  Take a dentry from the children of ``parent``.  The caller holds the parent's
    d_lock.
    """
    assert parent.d_subdirs is not None
    del parent.d_subdirs[child]


def d_children(parent: Dentry) -> Iterator[Dentry]:
    """Never sleeps.  The children, oldest first.  The caller holds the parent's d_lock."""
    return iter(parent.d_subdirs or ())


def parent_once(dentry: Dentry) -> Dentry:
    """Never sleeps.  The parent as it is now; without d_lock it may be another one at once."""
    parent: Dentry = READ_ONCE(dentry, "d_parent")
    return parent
