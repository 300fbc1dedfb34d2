"""The operations that order tasks, for the vector clocks of `vfsim.checks.epochs`.

=======================================  =========================================================
what orders                              what before it            what after it
=======================================  =========================================================
locks, bits, seqcounts                   release, `write_end`      acquire, `read_begin`
reader/writer locks and semaphores       the end of reading        taking it for writing only
holds given away                         disown                    adopt
wait queues, completions, `wake`         wake-up                   the end of the wait
`LockRef`                                put                       taking its lock
spawn; post_irq, raise_softirq, timer    the call                  the first step of the new one
`smp_call_function_single` and others    the call; the function    the function; the wait's end
works                                    queueing, its last run    the start of the work
                                         its end                   flush, cancel, destroy
handlers of one kind on one CPU          the end of one            the start of the next
interrupts (softirqs) off                coming on                 a handler's start on that CPU
                                         a handler's end           going off on that CPU
grace periods, of all flavours           all that was done before  `synchronize_rcu`, the callback
                                         they began; the sections
                                         that they waited for
                                         a callback                `rcu_barrier`
`smp_store_release` on a field           the store                 `smp_load_acquire` of it
a run of the machine                     everything                everything in the next run
=======================================  =========================================================

Nothing in the engine or in a lock knows of this.  While races are looked for, the methods named in
the tables at the end are replaced by ones that also keep the clocks, as the kernel does when it is
compiled with a sanitizer; afterwards they are what they were.

A real machine orders a little less here and there: a grace period orders also what a task did
outside of read sections, and `wait_event` orders even if it never slept.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from vfsim.checks import starts, windows
from vfsim.checks.epochs import (
    CLOCKS,
    READERS,
    Epoch,
    acquire,
    add,
    company,
    everything,
    learn,
    merged,
    publish,
    release,
)
from vfsim.checks.lifetime import ONLY_FREES
from vfsim.checks.starts import coming_on, handlers_before
from vfsim.locks import rcu, rcu_flavours, srcu
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.common import OwnedLock, SharedLock
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu_flavours import BhGracePeriod, SchedGracePeriod
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.locks.ww_mutex import WwMutex
from vfsim.sim.context import BH, IRQ, RCU_BH, RCU_SCHED
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

    Fn = Callable[..., Any]

OFF = IRQ | BH


# -- spinlocks -------------------------------------------------------------------------------------


def _kept_away(mode: int) -> None:
    """A lock was taken together with interrupts (softirqs) off."""
    if mode & OFF:
        handlers_before(soft_only=not mode & IRQ)


def _take(original: Fn) -> Fn:
    def take(self: SpinLock, mode: int) -> None:
        original(self, mode)
        acquire(self)
        _kept_away(mode)

    return take


def _try(original: Fn) -> Fn:
    def attempt(self: SpinLock, mode: int) -> bool:
        taken: bool = original(self, mode)
        if taken:
            acquire(self)
            _kept_away(mode)
        return taken

    return attempt


def _untake(original: Fn) -> Fn:
    def untake(self: Any) -> None:
        if self.owner is K.cur:
            release(self)
            coming_on()
        original(self)

    return untake


def _read(original: Fn) -> Fn:
    def read(self: RwLock, mode: int) -> None:
        original(self, mode)
        acquire(self)
        _kept_away(mode)

    return read


def _write(original: Fn) -> Fn:
    def write(self: RwLock, mode: int) -> None:
        original(self, mode)
        _alone(self)
        _kept_away(mode)

    return write


def _read_unlock(original: Fn) -> Fn:
    def read_unlock(self: RwLock) -> None:
        if K.cur in self.readers:
            add(READERS, self)
            coming_on()
        original(self)

    return read_unlock


# -- locks -----------------------------------------------------------------------------------------


def _acquires(original: Fn) -> Fn:
    def acquires(self: Any, subclass: int = 0) -> None:
        original(self, subclass)
        e = CLOCKS.get(self)
        if e is not None:
            t = K.cur
            mine = t.epoch
            if mine is not None and e.who is not mine.who and mine.seen.get(e.who, -1) < e.n:
                learn(t, e)

    return acquires


def _releases(original: Fn) -> Fn:
    def releases(self: Any, *args: Any) -> None:
        t = K.cur
        e = t.epoch
        if e is not None and self.owner is t:
            CLOCKS[self] = e
            t.epoch = Epoch(e.who, e.n + 1, e.seen)
        original(self, *args)

    return releases


def _adds(original: Fn) -> Fn:
    def adds(self: Any, *args: Any) -> Any:
        add(CLOCKS, self)
        return original(self, *args)

    return adds


def _then_acquires(original: Fn) -> Fn:
    """Of what may fail, or returns a number: it orders whatever it returns but False."""

    def then(self: Any, *args: Any, **how: Any) -> Any:
        result = original(self, *args, **how)
        if result is not False:
            acquire(self)
        return result

    return then


def _down_write(original: Fn) -> Fn:
    def down_write(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        if result is not False:
            _alone(self)
        return result

    return down_write


def _alone(sem: Any) -> None:
    """It was taken for writing: writers came before, and readers."""
    acquire(sem)
    readers = READERS.pop(sem, None)
    if readers is not None and K.cur.epoch is not None:
        learn(K.cur, readers)


def _up_read(original: Fn) -> Fn:
    def up_read(self: Any) -> None:
        if K.cur in self.readers:
            add(READERS, self)
        original(self)

    return up_read


def _disown_read(original: Fn) -> Fn:
    def disown_read(self: PerCpuRwSem) -> None:
        if K.cur in self.readers:
            add(CLOCKS, ("disowned", self))
        original(self)

    return disown_read


def _adopt_read(original: Fn) -> Fn:
    def adopt_read(self: PerCpuRwSem) -> None:
        original(self)
        acquire(("disowned", self))

    return adopt_read


def _put(original: Fn) -> Fn:
    def put(self: LockRef) -> Any:
        add(CLOCKS, self.lock)
        return original(self)

    return put


def _read_begin(original: Fn) -> Fn:
    def read_begin(self: SeqCount) -> int:
        seq: int = original(self)
        t = K.cur
        if t.epoch is not None:
            acquire(self)
            publish(t)  # so that every read in the window is looked at
            windows.began(t, self)
        return seq

    return read_begin


def _read_retry(original: Fn) -> Fn:
    def read_retry(self: SeqCount, seq: int) -> bool:
        failed: bool = original(self, seq)
        t = K.cur
        if t.epoch is not None:
            if failed:
                publish(t)  # so that every use of what is stale is looked at
            windows.asked(t, self, failed)
        return failed

    return read_retry


def _try_wait(original: Fn) -> Fn:
    def try_wait(self: Completion) -> bool:
        done: bool = original(self)
        if done:
            acquire(self.queue)
        return done

    return try_wait


# -- grace periods ---------------------------------------------------------------------------------


def _period(original: Fn) -> Fn:
    def period(self: rcu.GracePeriod, fn: Any = None, args: Any = ()) -> None:
        original(self, fn, args)
        if K.cur.epoch is None:
            return
        CLOCKS[self] = everything(K.machine)
        if fn is None:
            acquire(self)

    return period


def _forget(original: Fn) -> Fn:
    def forget(self: rcu.GracePeriod, task: Task) -> None:
        if task.epoch is not None:
            ended, before = publish(task), CLOCKS.get(self)
            CLOCKS[self] = ended if before is None else merged(before, ended)
        original(self, task)

    return forget


def _end(original: Fn) -> Fn:
    def end(self: rcu.GracePeriod) -> None:
        if self.fn is not None and self.fn not in ONLY_FREES:
            company(K.machine)
        before = CLOCKS.get(self)
        if self.waiter is not None and before is not None:
            learn(self.waiter, before)
        original(self)

    return end


_FLAVOURS = {
    rcu.SECTION: rcu.GracePeriod,
    RCU_BH: BhGracePeriod,
    RCU_SCHED: SchedGracePeriod,
}
"""By what their scheduling points name; a domain names itself."""


def _call(original: Fn) -> Fn:
    def call(self: rcu.GracePeriod) -> None:
        acquire(self)
        original(self)
        add(CLOCKS, ("callbacks", getattr(self, "domain", type(self))))

    return call


def _barrier(original: Fn) -> Fn:
    def await_callbacks(pending: Any, kind: str, obj: Any) -> None:
        original(pending, kind, obj)
        acquire(("callbacks", _FLAVOURS.get(obj, obj)))

    return await_callbacks


# -- the tables ------------------------------------------------------------------------------------

HOOKS: list[tuple[Any, str, Callable[[Fn], Fn]]] = [
    *starts.HOOKS,
    (SpinLock, "_take", _take),
    (SpinLock, "_try", _try),
    (SpinLock, "_unlock", _untake),
    (RwLock, "_read", _read),
    (RwLock, "_write", _write),
    (RwLock, "_read_unlock", _read_unlock),
    (RwLock, "_write_unlock", _untake),
    *((kind, "lock", _acquires) for kind in (Mutex, SpinLock, BitLock, SleepBit)),
    *((kind, "trylock", _then_acquires) for kind in (OwnedLock, SleepBit)),
    (SharedLock, "trylock", _down_write),
    (SharedLock, "trylock_shared", _then_acquires),
    *((kind, "unlock", _releases) for kind in (Mutex, SpinLock, BitLock)),
    (Mutex, "lock_nest_lock", _then_acquires),
    (WwMutex, "lock", _then_acquires),
    (SleepBit, "unlock", _adds),
    (SleepBit, "disown", _adds),
    (SleepBit, "adopt", _then_acquires),
    (SleepBit, "wait", _then_acquires),
    (RwSem, "down_write", _down_write),
    (RwSem, "down_read", _acquires),
    (RwSem, "up_write", _releases),
    (RwSem, "downgrade_write", _releases),
    (RwSem, "up_read", _up_read),
    (PerCpuRwSem, "down_write", _down_write),
    (PerCpuRwSem, "down_read", _then_acquires),
    (PerCpuRwSem, "down_read_trylock", _then_acquires),
    (PerCpuRwSem, "up_write", _releases),
    (PerCpuRwSem, "up_read", _up_read),
    (PerCpuRwSem, "disown", _releases),
    (PerCpuRwSem, "adopt", _down_write),
    (PerCpuRwSem, "disown_read", _disown_read),
    (PerCpuRwSem, "adopt_read", _adopt_read),
    (SeqCount, "read_begin", _read_begin),
    (SeqCount, "raw_begin", _read_begin),
    (SeqCount, "read_retry", _read_retry),
    (SeqCount, "write_end", _releases),
    (SeqCount, "invalidate", _adds),
    (LockRef, "put_return", _put),
    (LockRef, "put_or_lock", _put),
    (WaitQueue, "wait_event", _then_acquires),
    (WaitQueue, "wait_event_timeout", _then_acquires),
    (WaitQueue, "sleep_on", _then_acquires),
    (WaitQueue, "wake_up", _adds),
    (WaitQueue, "wake_up_all", _adds),
    (WaitQueue, "wake_now", _adds),
    (Completion, "try_wait", _try_wait),
    (rcu.GracePeriod, "__init__", _period),
    (rcu.GracePeriod, "forget", _forget),
    (rcu.GracePeriod, "end", _end),
    (rcu.GracePeriod, "call", _call),
    *((module, "await_callbacks", _barrier) for module in (rcu, rcu_flavours, srcu)),
]
"""(class or module, name of the method, what makes the one that keeps the clocks).

`vfsim.checks.races` adds the write sections of sequence counters, which it looks at as well.
"""

_undo: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Keep the clocks from now on."""
    for owner, name, make in HOOKS:
        original = vars(owner)[name]
        _replace(owner, original, make(original))


def _replace(owner: Any, original: Any, new: Any) -> None:
    """Put ``new`` in every place of a class or module, and of subclasses, where that stands."""
    for name, value in list(vars(owner).items()):
        if value is original:
            setattr(owner, name, new)
            _undo.append((owner, name, original))
    if not isinstance(owner, ModuleType):
        for below in owner.__subclasses__():
            _replace(below, original, new)


def remove() -> None:
    """Put back what was there."""
    while _undo:
        setattr(*_undo.pop())
