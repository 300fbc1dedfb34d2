"""Every primitive of `vfsim.locks`, as the torture takes it: none of them may make a sound.

The adapters give what Linux spells as functions the shape that a torture asks for, so that a broken
variant can take the place of one part.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu import call_rcu, rcu_barrier, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rcu_flavours import (
    call_rcu_bh,
    call_rcu_sched,
    rcu_barrier_bh,
    rcu_barrier_sched,
    rcu_read_lock_bh,
    rcu_read_lock_sched,
    rcu_read_unlock_bh,
    rcu_read_unlock_sched,
    synchronize_rcu_bh,
    synchronize_sched,
)
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.srcu import Srcu
from vfsim.locks.waitqueue import WaitQueue
from vfsim.locks.ww_mutex import WwMutex
from vfsim.sim.workqueue import (
    WQ_UNBOUND,
    Work,
    Workqueue,
    cancel_work_sync,
    flush_work,
    flush_workqueue,
    queue_work,
)
from vfsim.testing.selftest.torture import Lock, exclusion, sequence, several
from vfsim.testing.selftest.torture_waits import pipe, references, signals, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.selftest.torture import Torture
    from vfsim.testing.selftest.torture_waits import Readers

_MODES: dict[str, Any] = {
    "take": "down_write",
    "drop": "up_write",
    "read": "down_read",
    "unread": "up_read",
}

_RW_MODES: dict[str, Any] = {
    "take": "write_lock",
    "drop": "write_unlock",
    "read": "read_lock",
    "unread": "read_unlock",
}
_RW_IRQ: dict[str, Any] = _RW_MODES | {
    "take": "write_lock_irqsave",
    "drop": "write_unlock_irqrestore",
}
_RW_BH: dict[str, Any] = _RW_MODES | {"take": "write_lock_bh", "drop": "write_unlock_bh"}

LOCKS = {
    "mutex": Lock(partial(Mutex, tried=True), attempt="trylock"),
    "rwsem": Lock(partial(RwSem, tried=True), **_MODES, attempt="down_write_trylock"),
    "percpu_rwsem": Lock(PerCpuRwSem, **_MODES),
    "spinlock": Lock(partial(SpinLock, tried=True), attempt="trylock", fifo=True),
    "spinlock_irq": Lock(
        SpinLock, "lock_irqsave", "unlock_irqrestore", fifo=True, restores=True, handlers="irq"
    ),
    "spinlock_bh": Lock(SpinLock, "lock_bh", "unlock_bh", fifo=True, handlers="softirq"),
    "rwlock": Lock(partial(RwLock, tried=True), **_RW_MODES, attempt="write_trylock", fifo=True),
    "rwlock_irq": Lock(RwLock, **_RW_IRQ, restores=True, handlers="irq"),
    "rwlock_bh": Lock(RwLock, **_RW_BH, handlers="softirq"),
    "bitlock": Lock(partial(BitLock, tried=True), attempt="trylock"),
    "sleepbit": Lock(partial(SleepBit, tried=True), attempt="trylock", wait="wait"),
    "seqlock_writers": Lock(SeqLock, "write_lock", "write_unlock", fifo=True, core="spin"),
}
"""The locks that exclude."""


class Rcu:
    """Plain RCU."""

    def enter(self) -> None:
        rcu_read_lock()

    def leave(self, token: None) -> None:
        rcu_read_unlock()

    def wait(self) -> None:
        synchronize_rcu()

    def call(self, fn: Callable[[], None]) -> None:
        call_rcu(fn)

    def barrier(self) -> None:
        rcu_barrier()


class RcuBh:
    """RCU whose readers keep softirqs off."""

    def enter(self) -> None:
        rcu_read_lock_bh()

    def leave(self, token: None) -> None:
        rcu_read_unlock_bh()

    def wait(self) -> None:
        synchronize_rcu_bh()

    def call(self, fn: Callable[[], None]) -> None:
        call_rcu_bh(fn)

    def barrier(self) -> None:
        rcu_barrier_bh()


class RcuSched:
    """RCU whose readers keep their CPU."""

    def enter(self) -> None:
        rcu_read_lock_sched()

    def leave(self, token: None) -> None:
        rcu_read_unlock_sched()

    def wait(self) -> None:
        synchronize_sched()

    def call(self, fn: Callable[[], None]) -> None:
        call_rcu_sched(fn)

    def barrier(self) -> None:
        rcu_barrier_sched()


class SrcuDomain:
    """A domain of sleepable RCU."""

    def __init__(self, make: Callable[[str], Srcu] = Srcu) -> None:
        domain = make("tortured domain")
        self.enter: Callable[[], Any] = domain.read_lock
        self.leave: Callable[[Any], None] = domain.read_unlock
        self.wait: Callable[[], None] = domain.synchronize
        self.call: Callable[[Callable[[], None]], None] = domain.call
        self.barrier: Callable[[], None] = domain.barrier


class Completions:
    """A completion: each `complete` lets one through."""

    def __init__(self, make: Callable[[str], Completion] = Completion) -> None:
        done = make("tortured completion")
        self.give: Callable[[], None] = done.complete
        self.take: Callable[[], None] = done.wait
        self.give_all: Callable[[], None] = done.complete_all


class Queue:
    """A wait queue with the condition that it is for: a number of gifts."""

    def __init__(self, make: Callable[[str], WaitQueue] = WaitQueue) -> None:
        self.queue = make("tortured queue")
        self.gifts = 0

    def give(self) -> None:
        self.gifts += 1
        self.queue.wake_up()

    def take(self) -> None:
        self.queue.wait_event(lambda: self.gifts > 0, exclusive=True)
        self.gifts -= 1

    def give_all(self) -> None:
        self.gifts = 1_000
        self.queue.wake_up_all()


class Queues:
    """A queue for works, and one that runs one at a time."""

    def __init__(self, make: Callable[..., Workqueue] = Workqueue) -> None:
        self.many = make("tortured queue")
        self.single = make("tortured line", WQ_UNBOUND, 1)

    def work(self, fn: Callable[[Any], None], name: str) -> Work:
        return Work(fn, name)

    def queue(self, work: Work) -> None:
        queue_work(self.many, work)

    def queue_in_order(self, work: Work) -> None:
        queue_work(self.single, work)

    def flush(self, work: Work) -> None:
        flush_work(work)

    def flush_all(self) -> None:
        flush_workqueue(self.single)

    def cancel(self, work: Work) -> None:
        cancel_work_sync(work)


READERS: dict[str, tuple[Callable[[], Readers], bool]] = {
    "rcu": (Rcu, False),
    "rcu_bh": (RcuBh, False),
    "rcu_sched": (RcuSched, False),
    "srcu": (SrcuDomain, True),
}
"""The flavours of RCU, and whether their readers may sleep."""


def tortures() -> dict[str, Torture]:
    """The torture of each primitive, by name."""
    found = {name: exclusion(lock) for name, lock in LOCKS.items()}
    found |= {name: pipe(make, sleeps) for name, (make, sleeps) in READERS.items()}
    found["ww_mutex"] = several(WwMutex)
    found["seqcount"] = sequence(SeqCount, "write_begin", "write_end", Mutex)
    found["seqlock"] = sequence(SeqLock, "write_lock", "write_unlock")
    found["completion"] = signals(Completions)
    found["waitqueue"] = signals(Queue)
    found["lockref"] = references(LockRef)
    found["workqueue"] = works(Queues)
    return found
