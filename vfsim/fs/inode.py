"""Inodes: one file, directory or symlink of one superblock, in memory.

The life of an inode::

    new_inode() / iget_locked()         i_count 1, I_NEW if it was hashed first; nobody else may
                                        look inside
    unlock_new_inode()                  filled in: waiters of I_NEW go on
    ihold() / igrab() / iput()          in use; dentries and open files hold references
    last iput()                         cached (hashed, with links, superblock active), or on its
                                        way out:
        I_WILL_FREE                     written back first
        I_FREEING                       off all lists; whoever looks it up waits until it is gone
        evict_inode(), clear_inode()    I_FREEING | I_CLEAR: no data left
        destroy_inode()                 freed after a grace period

Which lock guards what::

    inode.i_lock             i_state, the step of i_count from 1 to 0, i_dentry, i_blocks
    inode_hash_lock          the inode hash, i_hash
    sb.s_inode_list_lock     sb.s_inodes, i_on_sb_list
    sb.s_inode_lru_lock      sb.s_inode_lru
    inode.i_rwsem            what the file or directory means: names, size, attributes

and the order: inode_hash_lock > s_inode_list_lock > i_lock > s_inode_lru_lock.  Two ``i_rwsem`` of
one class nest by the rules of directory locking: see the I_MUTEX_* subclasses.

How an inode ends, and the cache, are in `vfsim.fs.icache`, how it is found in `vfsim.fs.iget`.  The
counterpart of ``struct inode`` and ``fs/inode.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_ISDIR, S_ISGID
from typing import TYPE_CHECKING, Annotated, Any

from vfsim.checks.bugs import bug, leaked_by, warn
from vfsim.checks.instances import ascending, order_by
from vfsim.checks.lifetime import note_ref, referenced
from vfsim.checks.obligations import settle
from vfsim.fs.acl_cache import ACL_NOT_CACHED
from vfsim.fs.icache import (
    MS_ACTIVE,
    InodeCache,
    StateWait,
    clear_inode,
    destroy_inode,
    evict,
    evict_inodes,
    free_inode_nonrcu,
    icache,
    inode_add_lru,
    inode_lru_del,
    inode_sb_list_add,
    inode_sb_list_del,
    insert_inode_hash,
    prune_icache_sb,
    remove_inode_hash,
    truncate_inode_pages_final,
)
from vfsim.fs.operations import FileOperations, InodeOperations, SuperOperations
from vfsim.locks.rwsem import RwSem
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.bdi import check_dirty, write_times_now
from vfsim.mm.i_state import (
    I_CLEAR,
    I_DIRTY,
    I_DIRTY_ALL,
    I_DIRTY_DATASYNC,
    I_DIRTY_PAGES,
    I_DIRTY_SYNC,
    I_DIRTY_TIME,
    I_DYING,
    I_FREEING,
    I_LINKABLE,
    I_NEW,
    I_REFERENCED,
    I_SYNC,
    I_WILL_FREE,
)
from vfsim.mm.mapping import EMPTY_AOPS, AddressSpace
from vfsim.mm.upcalls import upcalls
from vfsim.mm.writeback import write_inode_now
from vfsim.sim.shared import guarded_by, kernel_struct, shared
from vfsim.sim.state import K
from vfsim.sim.timeline import something_due

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.super import SuperBlock
    from vfsim.locks.seqlock import SeqLock
    from vfsim.mm.operations import AddressSpaceOperations
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

# i_flags
S_SYNC = 1 << 0
S_NOATIME = 1 << 1
S_APPEND = 1 << 2
S_IMMUTABLE = 1 << 3
S_DEAD = 1 << 4
S_DIRSYNC = 1 << 6
S_NOCMTIME = 1 << 7
S_SWAPFILE = 1 << 8
S_PRIVATE = 1 << 9
S_NOSEC = 1 << 12

# lockdep subclasses of i_rwsem: parent, second parent, child, normal, xattr, second non-directory
I_MUTEX_NORMAL = 0
I_MUTEX_PARENT = 1
I_MUTEX_CHILD = 2
I_MUTEX_XATTR = 3
I_MUTEX_NONDIR2 = 4
I_MUTEX_PARENT2 = 5

INODE_NEW = "inode.new"
"""The rule: who makes an inode new unlocks it."""

_EMPTY_IOPS = InodeOperations()
_EMPTY_FOPS = FileOperations()
_PLAIN_ALLOC = SuperOperations.alloc_inode
_PLAIN_DESTROY = SuperOperations.destroy_inode
_PLAIN_DROP = SuperOperations.drop_inode


@kernel_struct
class Inode:
    """One file, directory, symlink or device node, in memory (Linux: ``struct inode``).

    Attributes:
        i_sb, i_ino: the superblock and the number: an inode's identity.
        i_mode, i_uid, i_gid: type and permissions.
        i_nlink, i_size: shared fields; each access is a scheduling point.
        i_atime, i_mtime, i_ctime: nanoseconds.  i_blocks: in units of 512 bytes.
        i_op, i_fop: what the filesystem does for it.
        i_mapping: its page cache, made on first use; i_data is its own one, and i_aops the
            operations that it gets when it is made.
        i_private: whatever the filesystem wants.  i_link: a symlink's target, if it is kept in
            memory.
        i_count: references.  i_state: I_* bits; read without i_lock by who has just got it from
            the cache.  i_flags: S_* bits.
        i_acl, i_default_acl: its access control lists, see `vfsim.fs.acl_cache`.
        i_hash: the value that it is hashed by, or None; i_hash_next: the next of that value.
        i_dentry: the dentries that name it.  i_dir_seq: moves when a name is added to a directory.
        i_creator, i_nth: the task that made it, and as what of its objects (see `i_addr`).
        i_io_list: the writeback list it is on, kept by writeback.
    """

    i_sb: SuperBlock
    i_ino: int
    i_mode: Annotated[int, guarded_by("i_rwsem", lockless=True)]
    i_uid: Annotated[int, guarded_by("i_rwsem", lockless=True)]
    i_gid: Annotated[int, guarded_by("i_rwsem", lockless=True)]
    i_nlink: Annotated[int, shared, guarded_by("i_rwsem", lockless=True)]
    i_size: Annotated[int, shared, guarded_by("i_rwsem", lockless=True)]
    i_blocks: Annotated[int, guarded_by("i_lock", lockless=True)]
    i_atime: int
    i_mtime: int
    i_ctime: int
    i_rdev: int
    i_op: InodeOperations
    i_fop: FileOperations
    i_aops: AddressSpaceOperations
    i_private: Any
    i_link: str | None
    i_flags: Annotated[int, guarded_by("i_rwsem", lockless=True)]
    i_version: int
    i_acl: Annotated[Any, shared]
    i_default_acl: Annotated[Any, shared]
    # i_lock guards these
    i_lock: SpinLock
    i_state: Annotated[int, guarded_by("i_lock", lockless=True)]
    i_count: int
    i_dentry: Annotated[list[Dentry], guarded_by("i_lock")]
    i_state_owner: Annotated[Task | None, guarded_by("i_lock")]
    i_wait: Annotated[StateWait | None, guarded_by("i_lock")]
    i_rwsem: RwSem
    i_dir_seq: SeqLock | None
    i_writecount: int
    i_hash: Annotated[int | None, guarded_by("i_lock")]
    i_hash_next: Annotated[Inode | None, guarded_by("@inode_hash_lock")]
    i_on_sb_list: Annotated[bool, guarded_by("i_sb.s_inode_list_lock")]
    i_io_list: Annotated[Any, guarded_by("i_sb.s_bdi.wb.list_lock")]
    i_wb_list: Any
    i_dirtied_when: Annotated[int, guarded_by("i_sb.s_bdi.wb.list_lock")]
    i_sync: Annotated[Any, guarded_by("i_lock")]
    i_creator: str
    i_nth: int
    _data: AddressSpace | None
    _mapping: AddressSpace | None

    if TYPE_CHECKING:
        raw_i_mode: int
        raw_i_nlink: int
        raw_i_size: int
        raw_i_state: int
        raw_i_on_sb_list: bool
        raw_i_acl: Any
        raw_i_default_acl: Any

    def __init__(self, sb: SuperBlock) -> None:
        self.i_sb = sb
        self.i_ino = 0
        self.i_mode = 0
        self.i_uid = 0
        self.i_gid = 0
        self.raw_i_nlink = 1
        self.raw_i_size = 0
        self.i_blocks = 0
        self.i_atime = self.i_mtime = self.i_ctime = 0
        self.i_rdev = 0
        self.i_op = _EMPTY_IOPS
        self.i_fop = _EMPTY_FOPS
        self.i_aops = EMPTY_AOPS
        self.i_private = None
        self.i_link = None
        self.i_flags = 0
        self.i_version = 0
        self.raw_i_acl = self.raw_i_default_acl = ACL_NOT_CACHED
        self.i_lock = SpinLock(sb.s_i_lock_class)
        self.i_state = 0
        self.i_count = 1
        self.i_dentry = []
        self.i_state_owner = None
        self.i_wait = None
        _give_rwsem(self, sb.s_i_rwsem_class)
        self.i_dir_seq = None
        self.i_writecount = 0
        self.i_hash = None
        self.i_hash_next = None
        self.i_on_sb_list = False
        self.i_io_list = None
        self.i_wb_list = None
        self.i_dirtied_when = 0
        self.i_sync = None
        task = K.cur
        task.objects += 1
        self.i_creator = task.id
        self.i_nth = task.objects
        self._data = None
        self._mapping = None

    @property
    def i_addr(self) -> tuple[str, int]:
        """Stands for the address of the structure, where the locking rules order by address: who
        made it, and as what of his objects.
        """
        return self.i_creator, self.i_nth

    @property
    def i_data(self) -> AddressSpace:
        """The inode's own page cache; most inodes of a filesystem without pages never get one."""
        data = self._data
        if data is None:
            data = self._data = AddressSpace(self, self.i_aops)
        return data

    @property
    def i_mapping(self) -> AddressSpace:
        """The page cache that reads and writes use: `i_data`, unless something else was put
        here.
        """
        return self._mapping or self._data or self.i_data

    @i_mapping.setter
    def i_mapping(self, mapping: AddressSpace) -> None:
        self._mapping = mapping

    @property
    def has_pages(self) -> bool:
        """Whether it has a page cache at all; asking does not make one."""
        return self._mapping is not None or self._data is not None

    @property
    def i_hashed(self) -> bool:
        """Whether it can be found by number (Linux: ``!inode_unhashed()``)."""
        return self.i_hash is not None

    def _check(self) -> None:
        """The invariants of one inode, true whenever nobody holds its i_lock."""
        state = self.i_state
        assert self.i_count >= 0, f"{self!r}: {self.i_count} references"
        assert self.raw_i_nlink >= 0, f"{self!r}: {self.raw_i_nlink} links"
        assert self.raw_i_size >= 0, f"{self!r}: size {self.raw_i_size}"
        assert not state & I_CLEAR or state & I_FREEING, f"{self!r}: cleared but not being freed"
        assert not state & I_DYING or not self.i_count, (
            f"{self!r}: being freed with {self.i_count} references"
        )
        assert not (state & I_NEW and state & I_DYING), f"{self!r}: new and being freed at once"
        assert all(d.d_inode is self for d in self.i_dentry), (
            f"{self!r}: an alias names another inode"
        )
        assert not S_ISDIR(self.i_mode) or len(self.i_dentry) <= 1, (
            f"{self!r}: a directory with two names"
        )
        if self.i_hash is not None:
            assert self in icache().chain(self.i_sb, self.i_hash), (
                f"{self!r}: hashed but not in the hash"
            )
        check_dirty(self)
        if self._data is not None:
            self._data._check()

    def __repr__(self) -> str:
        name = f"{type(self).__name__} {self.i_sb.s_id}:{self.i_ino}"
        return f"<{name} mode={self.i_mode:o} count={self.i_count}>"


# -- making inodes ---------------------------------------------------------------------------------


def alloc_inode(sb: SuperBlock) -> Inode:
    """Sleeps.  An inode of ``sb`` that nobody else knows (``alloc_inode`` of the filesystem, if it
    has one).

    Raises:
        OSError: ENOMEM, or what the filesystem says.
    """
    kmalloc()
    op = sb.s_op
    inode = Inode(sb) if type(op).alloc_inode is _PLAIN_ALLOC else op.alloc_inode(sb)
    note_ref(inode, 1, "alloc_inode")
    return inode


def get_next_ino() -> int:
    """Never sleeps.  A number for an inode of a filesystem that does not care about numbers."""
    cache = icache()
    cache.last_ino += 1
    return cache.last_ino


def new_inode(sb: SuperBlock) -> Inode:
    """Sleeps.  A fresh inode with one reference, unhashed, one link, numbered by `get_next_ino`.

    Args:
        sb: the superblock, which must stay active.

    Raises:
        OSError: ENOMEM.

    Takes and releases ``s_inode_list_lock``.  Source: ``new_inode`` (which leaves the number to the
    filesystem).
    """
    inode = alloc_inode(sb)
    inode.i_ino = get_next_ino()
    inode_sb_list_add(inode)
    return inode


def inode_init_owner(inode: Inode, dir: Inode | None, mode: int) -> None:
    """Never sleeps.  Give a new inode its mode, owner and group, as Linux decides them.

    The group, and for directories the set-group-ID bit, are inherited from a ``dir`` that has that
    bit.
    """
    process = K.cur.process
    if process is not None:
        inode.i_uid = process.cred.uid
        inode.i_gid = process.cred.gid
    if dir is not None and dir.i_mode & S_ISGID:
        inode.i_gid = dir.i_gid
        if S_ISDIR(mode):
            mode |= S_ISGID
    inode.i_mode = mode
    if S_ISDIR(mode):
        lockdep_annotate_inode_mutex_key(inode)


def init_special_inode(inode: Inode, mode: int, rdev: int) -> None:
    """Never sleeps.  Make a new inode a device node, FIFO or socket; there is nothing behind one
    here.
    """
    inode.i_mode = mode
    inode.i_rdev = rdev


def lockdep_annotate_inode_mutex_key(inode: Inode) -> None:
    """Never sleeps.  Put the ``i_rwsem`` of a new directory into the lock class of directories."""
    rwsem = inode.i_rwsem
    name = inode.i_sb.s_i_rwsem_dir_class
    if rwsem.name != name and not rwsem.is_locked():
        _give_rwsem(inode, name)


def _give_rwsem(inode: Inode, name: str) -> None:
    inode.i_rwsem = RwSem(name)
    inode.i_rwsem.of = inode


# -- references ------------------------------------------------------------------------------------


def iget(inode: Inode) -> None:
    """Never sleeps.  Take a reference; the caller holds i_lock and saw that the inode is not
    dying.
    """
    inode.i_count += 1
    note_ref(inode, 1, "iget")


def ihold(inode: Inode) -> None:
    """Never sleeps.  Take one more reference; the caller has one."""
    inode.i_count += 1
    note_ref(inode, 1, "ihold", inode.i_count)


def igrab(inode: Inode) -> Inode | None:
    """Never sleeps.  Take a reference unless the inode is being freed (then None).

    Takes ``i_lock``; the caller keeps the inode's memory alive (a list lock, RCU).
    """
    with inode.i_lock:
        if inode.i_state & I_DYING:
            return None
        iget(inode)
        return inode


def iput(inode: Inode | None) -> None:
    """Sleeps.  Put a reference; the last one may write the inode back and evict it.

    Takes ``i_lock`` for the last reference only.  Source: ``iput``.
    """
    if inode is None:
        return
    if inode.raw_i_state & I_CLEAR:  # no lock: a bug if it is set, whenever that was
        note_ref(inode, -1, "iput")
        bug("kernel.bug", f"iput() of an inode that is being freed: {inode!r}", inode)
    note_ref(inode, -1, "iput", inode.i_count - 1)
    if inode.i_count > 1:
        inode.i_count -= 1
        return
    inode.i_lock.lock()
    inode.i_count -= 1
    if inode.i_count:
        inode.i_lock.unlock()
    else:
        _iput_final(inode)


def generic_drop_inode(inode: Inode) -> bool:
    """Never sleeps.  Whether an unused inode shall go: it has no links, or nobody could find it
    again.
    """
    return not inode.i_nlink or inode.i_hash is None


def generic_delete_inode(inode: Inode) -> bool:
    """Never sleeps.  Let unused inodes go at once: for ``drop_inode``."""
    return True


def _iput_final(inode: Inode) -> None:
    """Sleeps.  The last reference is gone: keep the inode in the cache, or evict it.  Releases
    i_lock.
    """
    sb = inode.i_sb
    if inode.i_state & I_NEW:
        duty = settle(("unlock_new_inode", inode))
        blamed = "" if duty is None else duty.site.blamed
        warn(INODE_NEW, f"the last reference of {inode!r} was put while it was new", blamed=blamed)
    if inode.i_state & I_DIRTY_TIME and inode.i_nlink:
        iget(inode)  # lazytime waits no longer than the inode is in use
        inode.i_lock.unlock()
        write_times_now(inode)
        iput(inode)
        return
    op = sb.s_op
    drop = generic_drop_inode(inode) if type(op).drop_inode is _PLAIN_DROP else op.drop_inode(inode)
    if not drop and sb.s_flags & MS_ACTIVE:
        inode.i_state |= I_REFERENCED
        inode_add_lru(inode)
        inode.i_lock.unlock()
        return
    inode.i_state_owner = K.cur
    if not drop:
        inode.i_state |= I_WILL_FREE
        inode.i_lock.unlock()
        write_inode_now(inode, True)
        inode.i_lock.lock()
        inode.i_state &= ~I_WILL_FREE
    inode.i_state |= I_FREEING
    inode_lru_del(inode)
    inode.i_lock.unlock()
    evict(inode)


def report_unfreed(machine: Machine) -> None:
    """Never sleeps.  At the end of a world: inodes that their filesystem's ``destroy_inode`` has
    neither freed nor given to somebody who would.

    As long as a timer runs, that may be what frees them.
    """
    for inode in referenced(machine, Inode) if not something_due(machine) else ():
        destroy = type(inode.i_sb.s_op).destroy_inode
        gone = not inode.i_count and not inode.raw_i_on_sb_list
        if gone and destroy is not _PLAIN_DESTROY:
            what = f"has not freed inode {inode.i_ino}, as free_inode_nonrcu() does"
            leaked_by(machine, "leak.inode-memory", destroy, what)


# -- links and times -------------------------------------------------------------------------------


def inc_nlink(inode: Inode) -> None:
    """Never sleeps.  One more name.  The caller serialises changes (usually by i_rwsem)."""
    links = inode.i_nlink
    if not links:
        if not inode.i_state & I_LINKABLE:
            warn("inode.nlink", f"inc_nlink() of {inode!r}, which had no links left")
        inode.i_sb.s_remove_count -= 1
    inode.i_nlink = links + 1


def drop_nlink(inode: Inode) -> None:
    """Never sleeps.  One name less."""
    links = inode.i_nlink
    if not links:
        warn("inode.nlink", f"drop_nlink() of {inode!r}, which has no links")
        return
    inode.i_nlink = links - 1
    if links == 1:
        inode.i_sb.s_remove_count += 1


def clear_nlink(inode: Inode) -> None:
    """Never sleeps.  No names left."""
    if inode.i_nlink:
        inode.i_nlink = 0
        inode.i_sb.s_remove_count += 1


def set_nlink(inode: Inode, links: int) -> None:
    """Never sleeps.  The number of names, as read from a disk."""
    if not links:
        clear_nlink(inode)
        return
    if not inode.i_nlink:
        inode.i_sb.s_remove_count -= 1
    inode.i_nlink = links


def current_time(inode: Inode) -> int:
    """Never sleeps.  Now, in nanoseconds, cut to what the filesystem can store."""
    now = K.machine.now
    gran = inode.i_sb.s_time_gran
    return now if gran == 1 else now - now % gran


def lock_two_nondirectories(a: Inode | None, b: Inode | None) -> None:
    """Sleeps.  Lock up to two inodes for writing, in address order; directories and None are left
    out.
    """
    first, second = a, b
    if first is not None and second is not None and second.i_addr < first.i_addr:
        first, second = second, first
    if first is not None and not S_ISDIR(first.i_mode):
        first.i_rwsem.down_write()
    if second is not None and second is not first and not S_ISDIR(second.i_mode):
        second.i_rwsem.down_write(I_MUTEX_NONDIR2)


order_by("i_rwsem", ascending("address", lambda inode: inode.i_addr))


def unlock_two_nondirectories(a: Inode | None, b: Inode | None) -> None:
    """Never sleeps.  Undo `lock_two_nondirectories`."""
    if a is not None and not S_ISDIR(a.i_mode):
        a.i_rwsem.up_write()
    if b is not None and b is not a and not S_ISDIR(b.i_mode):
        b.i_rwsem.up_write()


upcalls.igrab = igrab
upcalls.iput = iput
upcalls.inode_add_lru = inode_add_lru

__all__ = [
    "I_CLEAR",
    "I_DIRTY",
    "I_DIRTY_ALL",
    "I_DIRTY_DATASYNC",
    "I_DIRTY_PAGES",
    "I_DIRTY_SYNC",
    "I_DIRTY_TIME",
    "I_DYING",
    "I_FREEING",
    "I_LINKABLE",
    "I_MUTEX_CHILD",
    "I_MUTEX_NONDIR2",
    "I_MUTEX_NORMAL",
    "I_MUTEX_PARENT",
    "I_MUTEX_PARENT2",
    "I_MUTEX_XATTR",
    "I_NEW",
    "I_REFERENCED",
    "I_SYNC",
    "I_WILL_FREE",
    "MS_ACTIVE",
    "S_APPEND",
    "S_DEAD",
    "S_DIRSYNC",
    "S_IMMUTABLE",
    "S_NOATIME",
    "S_NOCMTIME",
    "S_PRIVATE",
    "S_SWAPFILE",
    "S_SYNC",
    "Inode",
    "InodeCache",
    "alloc_inode",
    "clear_inode",
    "clear_nlink",
    "current_time",
    "destroy_inode",
    "drop_nlink",
    "evict_inodes",
    "free_inode_nonrcu",
    "generic_delete_inode",
    "generic_drop_inode",
    "get_next_ino",
    "icache",
    "iget",
    "igrab",
    "ihold",
    "inc_nlink",
    "init_special_inode",
    "inode_add_lru",
    "inode_init_owner",
    "inode_sb_list_add",
    "inode_sb_list_del",
    "insert_inode_hash",
    "iput",
    "lock_two_nondirectories",
    "lockdep_annotate_inode_mutex_key",
    "new_inode",
    "prune_icache_sb",
    "remove_inode_hash",
    "set_nlink",
    "truncate_inode_pages_final",
    "unlock_two_nondirectories",
]
