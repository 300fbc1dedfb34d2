"""Shapes of bugs that filesystems and the kernel around them had, on bare locks.

Each says in its docstring what was wrong.  Where a checker reports the mistake in any schedule
(lock order, sleeping in atomic context), what is searched for is the accident itself.
"""

from __future__ import annotations

from benchmarks.sct.kernel import Cell, Kernel, Look, Start
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_read
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.cpu import local_irq_disable, local_irq_enable
from vfsim.sim.scheduler import cond_resched, msleep
from vfsim.sim.state import K

DEADLOCK = "wait.deadlock"


def rename_abba(start: Start, fixed: bool) -> None:
    """Two renames between two directories, without s_vfs_rename_mutex or an order."""
    rename = Mutex("s_vfs_rename_mutex")
    a, b = RwSem("i_rwsem of a"), RwSem("i_rwsem of b")

    def move(source: RwSem, target: RwSem) -> None:
        if fixed:
            rename.lock()
            source, target = a, b
        with source:
            with target:
                pass
        if fixed:
            rename.unlock()

    start(move, a, b)
    start(move, b, a)


def write_versus_mmap(start: Start, fixed: bool) -> None:
    """write() holds i_rwsem and faults on its buffer; a fault holds mmap_sem and takes i_rwsem."""
    i_rwsem, mmap_sem = RwSem("i_rwsem"), RwSem("mmap_sem")

    def write() -> None:
        with i_rwsem:
            cond_resched()  # the buffer is not there: a page fault
            with mmap_sem.shared():
                pass

    def fault() -> None:
        if fixed:
            with mmap_sem.shared():
                pass
            return
        with mmap_sem:
            with i_rwsem:
                pass

    start(write)
    start(fault)


def igrab_versus_evict(start: Start, fixed: bool) -> None:
    """igrab() takes a reference of an inode that eviction has passed the point of no return."""
    i_lock, i_count, evicted = SpinLock("i_lock"), Cell(1), Cell()
    freeing = Cell()

    def iput() -> None:
        with i_lock:
            i_count.value -= 1
            if i_count.value:
                return
            freeing.value = 1
        evicted.value = 1

    def igrab() -> None:
        with i_lock:
            if fixed and freeing.value:
                return
            gone = not fixed and evicted.value
            if not gone:
                i_count.value += 1
        if not gone:
            assert not evicted.value or i_count.value > 1, "an evicted inode is in use"
            with i_lock:
                i_count.value -= 1

    start(iput)
    start(igrab)


def dcache_without_retry(start: Start, fixed: bool) -> None:
    """Name and inode of a dentry are read without looking at d_seq again."""
    d_seq, name, inode = SeqLock("d_seq"), Cell(1), Cell(1)

    def d_move() -> None:
        for value in (2, 3):
            d_seq.write_lock()
            name.value = value
            inode.value = value
            d_seq.write_unlock()

    def lookup() -> None:
        while True:
            seq = d_seq.read_begin()
            found = (name.value, inode.value)
            if not (fixed and d_seq.read_retry(seq)):
                break
        assert found[0] == found[1], f"name and inode belong to different files: {found}"

    start(d_move)
    start(lookup)


def d_move_hides(start: Start, fixed: bool) -> None:
    """A dentry moves to a chain that a lookup has left behind: a file that is always there is not
    found.
    """
    rename_lock = SeqLock("rename_lock")
    chains = [Cell(0), Cell(1)]  # which of the two chains holds the dentry

    def d_move() -> None:
        rename_lock.write_lock()
        chains[0].value = 1
        chains[1].value = 0
        rename_lock.write_unlock()

    def lookup() -> None:
        while True:
            seq = rename_lock.read_begin()
            found = chains[0].value or chains[1].value
            if found or not (fixed and rename_lock.read_retry(seq)):
                break
        assert found, "a file that exists was not found"

    start(d_move)
    start(lookup)


def umount_versus_writeback(start: Start, fixed: bool) -> None:
    """Writeback uses a superblock that it took off the list without s_umount."""
    s_umount, sb_lock = RwSem("s_umount"), SpinLock("sb_lock")
    listed, dead = Cell(1), Cell()

    def writeback() -> None:
        with sb_lock:
            if not listed.value:
                return
        if fixed:
            if not s_umount.down_read_trylock():
                return
            if dead.value:
                s_umount.up_read()
                return
        for _ in range(2):
            assert not dead.value, "writeback uses a superblock that was freed"
        if fixed:
            s_umount.up_read()

    def umount() -> None:
        with s_umount:
            with sb_lock:
                listed.value = 0
            dead.value = 1

    start(writeback)
    start(umount)


def sleeping_refill(start: Start, fixed: bool) -> None:
    """A pool is refilled by an allocation that sleeps, under the lock, if others emptied it."""
    lock, pool = SpinLock("pool"), Cell(2)

    def take() -> None:
        with lock:
            if pool.value:
                pool.value -= 1
                return
            if not fixed:
                msleep(1)
        msleep(1)

    def put() -> None:
        with lock:
            pool.value += 1

    for _ in range(3):
        start(take)
    start(put)


def endio_takes_the_lock(start: Start, fixed: bool) -> None:
    """A lock is taken with interrupts on, and the handler of a completed I/O takes it, too."""
    lock = SpinLock("tree_lock")
    tagged = Cell()

    def endio() -> None:
        lock.lock()
        lock.unlock()

    def submit() -> None:
        K.machine.post_irq(K.cur.cpu.index, endio)
        for _ in range(4):
            cond_resched()
        flags = lock.lock_irqsave() if fixed else lock.lock()
        tagged.value = 1
        if fixed:
            lock.unlock_irqrestore(bool(flags))
        else:
            lock.unlock()
        for _ in range(4):
            cond_resched()

    start(submit)


def freed_without_grace(start: Start, fixed: bool) -> None:
    """What a reader found under RCU is freed at once instead of after a grace period."""
    pointer, freed = Cell(1), [False, False, False]

    def free(old: int) -> None:
        freed[old] = True

    def reader() -> None:
        with rcu_read():
            found, _ = pointer.value, pointer.value  # the second look is a point in the section
            assert not freed[found], "what was found under RCU is free"

    def updater() -> None:
        old = pointer.value
        pointer.value = 2
        if fixed:
            call_rcu(free, old)
        else:
            free(old)

    start(reader)
    start(updater)


def lost_wakeup(start: Start, fixed: bool) -> None:
    """Who looks at I_NEW and then goes to sleep misses the wake-up in between."""
    queue, i_new = WaitQueue("I_NEW"), Cell(1)

    def unlock_new_inode() -> None:
        i_new.value = 0
        queue.wake_up_all()

    def wait_on_inode() -> None:
        if fixed:
            queue.wait_event(lambda: not i_new.value)
        elif i_new.value:
            queue.sleep_on()

    start(unlock_new_inode)
    start(wait_on_inode)


def marked_dirty_twice(start: Start, fixed: bool) -> Look:
    """Two look at i_state without the lock, and both put the inode on the list."""
    i_lock, dirty = SpinLock("i_lock"), Cell()
    listed: list[str] = []

    def mark_inode_dirty(who: str) -> None:
        if not dirty.value:
            with i_lock:
                if not (fixed and dirty.value):
                    dirty.value = 1
                    listed.append(who)

    def look() -> None:
        assert len(listed) == 1, f"the inode is on the list {len(listed)} times"

    start(mark_inode_dirty, "one")
    start(mark_inode_dirty, "other")
    return look


def seqlock_with_interrupts_on(start: Start, fixed: bool) -> None:
    """A writer is interrupted in its section by a handler that reads, on the same CPU."""
    seq, value = SeqLock("mount_lock"), Cell()
    seen: list[int] = []

    def handler() -> None:
        while True:
            now = seq.read_begin()
            seen.append(value.value)
            if not seq.read_retry(now):
                return

    def writer() -> None:
        K.machine.post_irq(K.cur.cpu.index, handler)
        for _ in range(4):
            cond_resched()
        if fixed:
            local_irq_disable()
        seq.write_lock()
        value.value = 1
        seq.write_unlock()
        if fixed:
            local_irq_enable()
        for _ in range(4):
            cond_resched()

    start(writer)


KERNELS = (
    Kernel("rename_abba", rename_abba, DEADLOCK),
    Kernel("write_vs_mmap", write_versus_mmap, DEADLOCK),
    Kernel("igrab_vs_evict", igrab_versus_evict),
    Kernel("dcache_no_retry", dcache_without_retry),
    Kernel("d_move_hides", d_move_hides),
    Kernel("umount_vs_writeback", umount_versus_writeback),
    Kernel("sleeping_refill", sleeping_refill, "lockdep.sleep-in-atomic"),
    Kernel("endio_lock", endio_takes_the_lock, DEADLOCK),
    Kernel("freed_without_grace", freed_without_grace),
    Kernel("lost_wakeup", lost_wakeup, "wait."),
    Kernel("dirty_twice", marked_dirty_twice),
    Kernel("seqlock_irqs_on", seqlock_with_interrupts_on, DEADLOCK),
)
