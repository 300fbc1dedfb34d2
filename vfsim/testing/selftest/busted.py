"""Broken twins of the primitives: is the torture able to tell?

A checker that is silent about every lock is worth nothing unless it can also speak.  So each
primitive of `vfsim.locks` has twins (`twins_locks`, `twins_waits`) that do what its author might
have got wrong: nothing at all, no wake-up, a grace period that ends too early, a second owner, a
lost count, a path that forgets to release.  Each twin overrides one method and says in its
docstring what is broken; the torture that keeps silent about the original (the ``control``) must
catch it.

After ``lock_busted`` of ``locktorture`` and ``rcu_busted`` of ``rcutorture``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.locks.mutex import Mutex
from vfsim.locks.srcu import Srcu
from vfsim.sim.workqueue import Workqueue
from vfsim.testing.selftest import twins_locks as locks
from vfsim.testing.selftest import twins_waits as waits
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case
from vfsim.testing.selftest.primitives import (
    LOCKS,
    READERS,
    Completions,
    Queue,
    Queues,
    SrcuDomain,
    tortures,
)
from vfsim.testing.selftest.torture import exclusion, run, sequence, several
from vfsim.testing.selftest.torture_waits import pipe, references, signals, works

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.torture import Torture

EXCLUSION, OVERTAKEN = "torture.exclusion", "torture.overtaken"
GRACE, CALLBACKS, BARRIER = "torture.grace-period", "torture.callbacks", "torture.barrier"
TORN, EARLY, LOST = "torture.torn-read", "torture.early", "wait.lost-wakeup"
NO_WAKER, HELD, CORRUPT = "wait.no-waker", "lockdep.held-at-exit", "lockdep.corrupt"
FREED, COUNTS = "torture.use-after-free", "torture.counts"
INVERSION, DEADLOCK = "lockdep.irq-inversion", "wait.deadlock"
UNBALANCED = "lockdep.irq-unbalanced"
WOUNDED, MISUSED = "torture.wounded", "lockdep.ww-mutex"
ORDER, LOST_WORK = "torture.order", "torture.lost-work"


@attrs.frozen
class _Twin:
    """A broken twin: of what, in which way, under which torture, and what gives it away."""

    primitive: str
    how: str
    torture: Torture
    fires: tuple[str, ...]
    why: str


def _lock(primitive: str, how: str, twin: type, *fires: str) -> _Twin:
    lock = attrs.evolve(LOCKS[primitive], make=twin)
    return _Twin(primitive, how, exclusion(lock), fires, _why(twin))


def _readers(primitive: str, how: str, twin: type, *fires: str) -> _Twin:
    make: Any = partial(SrcuDomain, twin) if issubclass(twin, Srcu) else twin
    return _Twin(primitive, how, pipe(make, READERS[primitive][1]), fires, _why(twin))


def _ww(how: str, twin: type, *fires: str) -> _Twin:
    return _Twin("ww_mutex", how, several(twin), fires, _why(twin))


def _counter(how: str, twin: type, *fires: str) -> _Twin:
    torture = sequence(twin, "write_begin", "write_end", Mutex)
    return _Twin("seqcount", how, torture, fires, _why(twin))


def _signal(primitive: str, how: str, adapter: Any, twin: type, *fires: str) -> _Twin:
    return _Twin(primitive, how, signals(partial(adapter, twin)), fires, _why(twin))


def _seqlock(how: str, twin: type, *fires: str) -> _Twin:
    torture = sequence(twin, "write_lock", "write_unlock")
    return _Twin("seqlock", how, torture, fires, _why(twin))


def _reference(how: str, twin: type, *fires: str) -> _Twin:
    return _Twin("lockref", how, references(twin), fires, _why(twin))


def _works(how: str, twin: type, *fires: str) -> _Twin:
    make: Any = partial(Queues, twin) if issubclass(twin, Workqueue) else twin
    return _Twin("workqueue", how, works(make), fires, _why(twin))


def _why(twin: type) -> str:
    return (twin.__doc__ or "").strip()


def _twins() -> Iterator[_Twin]:
    yield _lock("mutex", "does-nothing", locks.IdleMutex, EXCLUSION)
    yield _lock("mutex", "wakes-nobody", locks.QuietMutex, NO_WAKER)
    yield _lock("mutex", "two-owners", locks.TrustingMutex, EXCLUSION)
    yield _lock("mutex", "trylock-keeps-it", locks.ForgetfulMutex, HELD)
    yield _lock("mutex", "trylock-steals-it", locks.RudeMutex, EXCLUSION)
    yield _lock("rwsem", "readers-join-a-writer", locks.OpenRwSem, EXCLUSION)
    yield _lock("rwsem", "a-writer-joins-readers", locks.HastyRwSem, EXCLUSION)
    yield _lock("rwsem", "last-reader-wakes-nobody", locks.QuietRwSem, NO_WAKER)
    yield _lock("rwsem", "loses-a-count", locks.LossyRwSem, EXCLUSION, "lockdep.unlock-not-held")
    yield _lock("percpu_rwsem", "no-grace-period", locks.AbruptPerCpuRwSem, LOST)
    yield _lock("percpu_rwsem", "readers-join-a-writer", locks.OpenPerCpuRwSem, EXCLUSION)
    yield _lock("percpu_rwsem", "a-writer-joins-readers", locks.HastyPerCpuRwSem, EXCLUSION)
    yield _lock("percpu_rwsem", "counts-one-cpu", locks.NearsightedPerCpuRwSem, EXCLUSION)
    yield _lock("percpu_rwsem", "last-reader-wakes-nobody", locks.QuietPerCpuRwSem, LOST)
    yield _lock("sleepbit", "does-nothing", locks.IdleSleepBit, EXCLUSION)
    yield _lock("sleepbit", "forgets-who-only-waits", locks.NarrowSleepBit, NO_WAKER)
    yield _lock("sleepbit", "two-owners", locks.TrustingSleepBit, EXCLUSION)
    yield _lock("spinlock", "does-nothing", locks.IdleSpinLock, EXCLUSION)
    yield _lock("spinlock", "hands-it-to-nobody", locks.QuietSpinLock, NO_WAKER, OVERTAKEN)
    yield _lock("spinlock", "last-come-first-served", locks.UnfairSpinLock, OVERTAKEN)
    yield _lock("spinlock", "two-owners", locks.DoubleSpinLock, EXCLUSION)
    yield _lock("spinlock_irq", "leaves-interrupts-on", locks.OpenIrqSpinLock, INVERSION)
    yield _lock("spinlock_irq", "leaves-interrupts-off", locks.StuckIrqSpinLock, HELD)
    yield _lock("spinlock_bh", "leaves-softirqs-on", locks.OpenBhSpinLock, INVERSION)
    yield _lock("spinlock_bh", "leaves-softirqs-off", locks.StuckBhSpinLock, UNBALANCED)
    yield _lock("rwlock", "does-nothing", locks.IdleRwLock, EXCLUSION)
    yield _lock("rwlock", "readers-join-a-writer", locks.OpenRwLock, EXCLUSION)
    yield _lock("rwlock", "a-writer-joins-readers", locks.HastyRwLock, EXCLUSION, OVERTAKEN)
    yield _lock("rwlock", "two-writers", locks.DoubleRwLock, EXCLUSION, OVERTAKEN)
    yield _lock("rwlock", "lets-nobody-in", locks.QuietRwLock, NO_WAKER, OVERTAKEN)
    yield _lock("rwlock", "readers-pass-the-line", locks.RudeRwLock, OVERTAKEN)
    yield _lock("rwlock", "trylock-joins-readers", locks.BlindRwLock, EXCLUSION)
    yield _lock("rwlock_irq", "handlers-stand-in-line", locks.StiffRwLock, DEADLOCK)
    yield _lock("rwlock_irq", "leaves-interrupts-on", locks.OpenIrqRwLock, INVERSION)
    yield _lock("rwlock_bh", "handlers-stand-in-line", locks.StiffRwLock, DEADLOCK)
    yield _lock("rwlock_bh", "leaves-softirqs-on", locks.OpenBhRwLock, INVERSION)
    yield _ww("does-nothing", locks.IdleWwMutex, EXCLUSION)
    yield _ww("wakes-nobody", locks.QuietWwMutex, NO_WAKER)
    yield _ww("two-owners", locks.TrustingWwMutex, EXCLUSION, MISUSED)
    yield _ww("never-backs-off", locks.StubbornWwMutex, DEADLOCK)
    yield _ww("the-older-backs-off", locks.RudeWwMutex, WOUNDED)
    yield _ww("does-not-look-again", locks.SleepyWwMutex, DEADLOCK)
    yield _ww("loses-a-count", locks.LossyWwMutex, MISUSED)
    yield _lock("bitlock", "does-nothing", locks.IdleBitLock, EXCLUSION)
    yield _lock("bitlock", "wakes-nobody", locks.QuietBitLock, NO_WAKER)
    yield _lock("bitlock", "two-owners", locks.TrustingBitLock, EXCLUSION)
    yield _lock("seqlock_writers", "two-writers", locks.OpenSeqLock, EXCLUSION, CORRUPT)
    yield _readers("rcu", "waits-for-nobody", waits.IdleRcu, GRACE)
    yield _readers("rcu", "calls-at-once", waits.EagerRcu, GRACE)
    yield _readers("rcu", "ends-with-the-first", waits.EarlyRcu, GRACE)
    yield _readers("rcu", "forgets-nesting", waits.FlatRcu, GRACE)
    yield _readers("rcu", "loses-a-callback", waits.LossyRcu, CALLBACKS, BARRIER)
    yield _readers("rcu", "calls-twice", waits.RepeatingRcu, CALLBACKS)
    yield _readers("rcu", "barrier-returns-early", waits.BarrierlessRcu, BARRIER)
    yield _readers("rcu_bh", "wrong-flavour", waits.WrongBh, GRACE)
    yield _readers("rcu_sched", "wrong-flavour", waits.WrongSched, GRACE)
    yield _readers("srcu", "waits-for-nobody", waits.IdleSrcu, GRACE)
    yield _readers("srcu", "calls-at-once", waits.EagerSrcu, GRACE)
    yield _readers("srcu", "forgets-an-index", waits.OneIndexSrcu, GRACE)
    yield _readers("srcu", "loses-a-count", waits.LossySrcu, GRACE)
    yield _counter("stays-even", locks.EvenSeqCount, TORN)
    yield _counter("never-retries", locks.BlindSeqCount, TORN)
    yield _counter("begins-inside-a-write", locks.HastySeqCount, TORN)
    yield _counter("wakes-nobody", locks.QuietSeqCount, NO_WAKER)
    yield _seqlock("two-writers", locks.OpenSeqLock, CORRUPT)
    yield _seqlock("never-retries", locks.BlindSeqLock, TORN)
    yield _signal("completion", "returns-early", Completions, waits.EarlyCompletion, EARLY)
    yield _signal("completion", "loses-a-count", Completions, waits.LossyCompletion, NO_WAKER)
    yield _signal("completion", "wakes-nobody", Completions, waits.QuietCompletion, LOST)
    yield _signal("completion", "all-wakes-one", Completions, waits.MeanCompletion, LOST)
    yield _signal("waitqueue", "wakes-nobody", Queue, waits.QuietQueue, LOST)
    yield _signal("waitqueue", "all-wakes-one", Queue, waits.MeanQueue, LOST)
    yield _signal("waitqueue", "looks-before-queueing", Queue, waits.RacyQueue, LOST)
    yield _signal("waitqueue", "does-not-look-again", Queue, waits.TrustingQueue, EARLY)
    yield _reference("loses-a-count", waits.LossyLockRef, FREED, COUNTS, CORRUPT)
    yield _reference("revives-the-dead", waits.UndeadLockRef, FREED, COUNTS)
    yield _reference("last-put-without-lock", waits.UnlockedLockRef, "torture.unlocked")
    yield _reference("loses-a-put", waits.GreedyLockRef, COUNTS)
    yield _works("flush-returns-early", waits.HastyFlush, EARLY)
    yield _works("flush-of-all-returns-early", waits.HastyFlushAll, ORDER)
    yield _works("cancel-returns-early", waits.HastyCancel, EARLY)
    yield _works("cancel-does-nothing", waits.IdleCancel, EARLY)
    yield _works("loses-a-work", waits.LateBit, EARLY, LOST_WORK)
    yield _works("two-at-once", waits.WideQueue, EXCLUSION, ORDER)
    yield _works("beside-itself", waits.ReentrantQueue, EXCLUSION)
    yield _works("last-come-first-run", waits.StackQueue, ORDER)


def cases() -> Iterator[Case]:
    """Every twin, and for each primitive the original."""
    for name, torture in tortures().items():
        yield Case(
            f"busted.{name}.control", f"busted.{name}", SILENT, partial(run, torture),
            why="the original, which must keep silent",
        )  # fmt: skip
    for twin in _twins():
        yield Case(
            f"busted.{twin.primitive}.{twin.how}", f"busted.{twin.primitive}", CAUGHT,
            partial(run, twin.torture), twin.fires, why=twin.why,
        )  # fmt: skip
