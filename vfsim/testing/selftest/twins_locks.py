"""Locks and sequence counters that are broken in one place each; see `busted`.

A twin overrides one method of the original.  Its docstring says what is broken.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu_sync import PASSED, RcuSync
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.ww_mutex import WwMutex
from vfsim.sim.context import SHARED, TRY
from vfsim.sim.cpu import local_irq_save
from vfsim.sim.scheduler import block, spin
from vfsim.sim.state import K
from vfsim.testing.selftest.torture import step
from vfsim.testing.selftest.twins_waits import QuietQueue

if TYPE_CHECKING:
    from vfsim.locks.ww_mutex import WwContext
    from vfsim.sim.task import Task


class _Idle:
    """Taking and releasing do nothing."""

    __slots__ = ()

    def lock(self, subclass: Any = 0) -> None:
        step(self)

    def trylock(self) -> bool:
        step(self)
        return True

    def unlock(self) -> None:
        step(self)


# -- locks that sleep ------------------------------------------------------------------------------


class IdleMutex(_Idle, Mutex):
    """Taking and releasing do nothing."""

    __slots__ = ()


class QuietMutex(Mutex):
    """A release wakes nobody."""

    __slots__ = ()

    def _wake(self) -> None:
        pass


class TrustingMutex(Mutex):
    """Who was woken takes it without looking whether somebody else was faster."""

    __slots__ = ()

    def _wait(self, t: Task) -> None:
        self.waiters = [*(self.waiters or ()), t]
        block(self)


class ForgetfulMutex(Mutex):
    """A trylock that fails because it came late keeps what it has taken."""

    __slots__ = ()

    def trylock(self) -> bool:
        return super().trylock() and not self.waiters


class RudeMutex(Mutex):
    """A trylock takes it from its owner."""

    __slots__ = ()

    def trylock(self) -> bool:
        self.owner = None
        return super().trylock()


class OpenRwSem(RwSem):
    """A reader does not wait for a writer."""

    __slots__ = ()

    def _wait(self, t: Task, shared: bool) -> bool:
        return not shared and super()._wait(t, shared)


class HastyRwSem(RwSem):
    """A writer does not wait for readers, only for writers."""

    __slots__ = ()

    def _wait(self, t: Task, shared: bool) -> bool:
        return self.owner is not None and super()._wait(t, shared)


class QuietRwSem(RwSem):
    """The last reader wakes nobody."""

    __slots__ = ()

    def up_read(self) -> None:
        waiters, self.waiters = self.waiters, None
        super().up_read()
        self.waiters = waiters


class LossyRwSem(RwSem):
    """A reader that leaves takes all readers off the count."""

    __slots__ = ()

    def up_read(self) -> None:
        for reader in list(self.readers):
            if reader is not K.cur:
                del self.readers[reader]
        super().up_read()


class _AbruptSync(RcuSync):
    __slots__ = ()

    def enter(self) -> None:
        self.writers += 1
        self.state = PASSED


class AbruptPerCpuRwSem(PerCpuRwSem):
    """A writer makes readers slow and does not wait for those that have looked already."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sync = _AbruptSync(name)


class OpenPerCpuRwSem(PerCpuRwSem):
    """The gate is never shut, so readers join the writer."""

    __slots__ = ()

    def down_write(self) -> None:
        super().down_write()
        self.shut = False


class HastyPerCpuRwSem(PerCpuRwSem):
    """A writer does not wait for the readers that are inside."""

    __slots__ = ()

    def _drained(self) -> bool:
        return True


class NearsightedPerCpuRwSem(PerCpuRwSem):
    """A writer looks at the count of one CPU alone."""

    __slots__ = ()

    def _drained(self) -> bool:
        return not self.counts.get(0, 0)


class QuietPerCpuRwSem(PerCpuRwSem):
    """Readers that leave wake no writer."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.drain = QuietQueue(name)


class IdleSleepBit(SleepBit):
    """Taking the bit does not wait while it is set."""

    __slots__ = ()

    def _wait(self, t: Task, takes: bool) -> None:
        pass


class NarrowSleepBit(SleepBit):
    """A release wakes one of those who want the bit, and forgets those who only wait."""

    __slots__ = ()

    def _wake(self) -> None:
        others = [w for w in self.waiters or () if not w[1]]
        self.waiters = [w for w in self.waiters or () if w[1]]
        super()._wake()
        self.waiters = [*(self.waiters or ()), *others]


class TrustingSleepBit(SleepBit):
    """Who was woken takes the bit without looking whether somebody else was faster."""

    __slots__ = ()

    def _wait(self, t: Task, takes: bool) -> None:
        self._queue().append((t, takes))
        block(self)


# -- locks that spin -------------------------------------------------------------------------------


class IdleSpinLock(_Idle, SpinLock):
    """Taking and releasing do nothing."""

    __slots__ = ()


class QuietSpinLock(SpinLock):
    """A release frees the lock and tells none of those who spin."""

    __slots__ = ()

    def _hand_over(self) -> None:
        self.owner = None


class UnfairSpinLock(SpinLock):
    """A release hands the lock to who came last."""

    __slots__ = ()

    def _hand_over(self) -> None:
        if self.waiters:
            self.waiters.insert(0, self.waiters.pop())
        super()._hand_over()


class DoubleSpinLock(SpinLock):
    """Who has to wait for the lock is inside at once."""

    __slots__ = ()

    def _wait(self, t: Task) -> None:
        self.owner = t


class OpenIrqSpinLock(SpinLock):
    """The irqsave form leaves interrupts on."""

    __slots__ = ()

    def lock_irqsave(self) -> bool:
        self.lock()
        return False

    def unlock_irqrestore(self, flags: bool) -> None:
        self.unlock()


class StuckIrqSpinLock(SpinLock):
    """A release restores nothing: interrupts stay off."""

    __slots__ = ()

    def lock_irqsave(self) -> bool:
        flags = local_irq_save()
        self.lock()
        return flags

    def unlock_irqrestore(self, flags: bool) -> None:
        self.unlock()


class OpenBhSpinLock(SpinLock):
    """The bh form leaves softirqs on."""

    __slots__ = ()

    def lock_bh(self) -> None:
        self.lock()

    def unlock_bh(self) -> None:
        self.unlock()


class StuckBhSpinLock(SpinLock):
    """A release lets no softirqs run again."""

    __slots__ = ()

    def unlock_bh(self) -> None:
        self.unlock()


class IdleBitLock(BitLock):
    """Taking the bit does not wait while it is set."""

    __slots__ = ()

    def _wait(self, t: Task) -> None:
        pass


class QuietBitLock(BitLock):
    """A release tells none of those who spin."""

    __slots__ = ()

    def _wake(self) -> None:
        pass


class TrustingBitLock(BitLock):
    """Who was told that the bit is clear does not look whether somebody else was faster."""

    __slots__ = ()

    def _wait(self, t: Task) -> None:
        self.waiters = [*(self.waiters or ()), t]
        spin(self)


# -- locks that spin, shared -----------------------------------------------------------------------


class IdleRwLock(_Idle, RwLock):
    """Taking and releasing do nothing."""

    __slots__ = ()
    write_lock = read_lock = _Idle.lock
    write_unlock = read_unlock = _Idle.unlock
    write_trylock = _Idle.trylock


class OpenRwLock(RwLock):
    """A reader does not wait for a writer."""

    __slots__ = ()

    def _wait(self, t: Task, shared: bool) -> None:
        if shared:
            self.readers[t] = self.readers.get(t, 0) + 1
        else:
            super()._wait(t, shared)


class HastyRwLock(RwLock):
    """A writer does not wait for readers, only for writers."""

    __slots__ = ()

    def _wait(self, t: Task, shared: bool) -> None:
        if shared or self.owner is not None:
            super()._wait(t, shared)
        else:
            self.owner = t


class DoubleRwLock(RwLock):
    """Who has to wait for the lock to write is inside at once."""

    __slots__ = ()

    def _wait(self, t: Task, shared: bool) -> None:
        if shared:
            super()._wait(t, shared)
        else:
            self.owner = t


class QuietRwLock(RwLock):
    """The last reader lets nobody in."""

    __slots__ = ()

    def read_unlock(self) -> None:
        waiters, self.waiters = self.waiters, None
        super().read_unlock()
        self.waiters = waiters


class RudeRwLock(RwLock):
    """Readers pass the writers that stand in line, wherever they are."""

    __slots__ = ()

    def _read(self, mode: int) -> None:
        line, self.waiters = self.waiters, None
        super()._read(mode)
        self.waiters = [*(line or ()), *(self.waiters or ())]


class BlindRwLock(RwLock):
    """A trylock does not see the readers."""

    __slots__ = ()

    def write_trylock(self) -> bool:
        step(self)
        if self.owner is not None:
            return False
        self._got(K.cur, self.key | TRY)
        self.owner = K.cur
        return True


class StiffRwLock(RwLock):
    """A handler that reads stands in line behind the writers, as everybody does."""

    __slots__ = ()

    def _read(self, mode: int) -> None:
        step(self)
        t = K.cur
        self._got(t, self.key | SHARED | mode)
        if self.owner is not None or self.waiters:
            self._wait(t, True)
        else:
            self.readers[t] = self.readers.get(t, 0) + 1

    def _let_in(self, waiters: list[tuple[Task, bool]]) -> None:
        while waiters and waiters[0][1]:
            task = waiters.pop(0)[0]
            self.readers[task] = self.readers.get(task, 0) + 1
            K.machine.wake(task)
        super()._let_in(waiters)


class OpenIrqRwLock(RwLock):
    """The irqsave form leaves interrupts on."""

    __slots__ = ()

    def write_lock_irqsave(self) -> bool:
        self.write_lock()
        return False

    def write_unlock_irqrestore(self, flags: bool) -> None:
        self.write_unlock()


class OpenBhRwLock(RwLock):
    """The bh form leaves softirqs on."""

    __slots__ = ()

    def write_lock_bh(self) -> None:
        self.write_lock()

    def write_unlock_bh(self) -> None:
        self.write_unlock()


# -- wound/wait mutexes ----------------------------------------------------------------------------


class IdleWwMutex(_Idle, WwMutex):
    """Taking and releasing do nothing."""

    __slots__ = ()


class QuietWwMutex(WwMutex):
    """A release wakes nobody."""

    __slots__ = ()

    def _wake(self) -> None:
        pass


class TrustingWwMutex(WwMutex):
    """Who was woken takes it without looking whether somebody else was faster."""

    __slots__ = ()

    def _contend(self, t: Task, ctx: WwContext) -> None:
        self._may_wait(ctx)
        self.waiters = [*(self.waiters or ()), t]
        block(self)


class StubbornWwMutex(WwMutex):
    """Nobody is told to back off."""

    __slots__ = ()

    def _may_wait(self, ctx: WwContext) -> None:
        pass


class RudeWwMutex(WwMutex):
    """The older of two contexts is told to back off."""

    __slots__ = ()

    def _may_wait(self, ctx: WwContext) -> None:
        if self.ctx is not None and ctx.acquired and ctx.stamp < self.ctx.stamp:
            ctx.contending = self
            raise OSError(errno.EDEADLK, "a younger context has it")


class SleepyWwMutex(WwMutex):
    """Who waits does not look again when an older context gets the mutex."""

    __slots__ = ()

    def _belongs_to(self, ctx: WwContext) -> None:
        waiting, self._contexts = self._contexts, {}
        super()._belongs_to(ctx)
        self._contexts = waiting


class LossyWwMutex(WwMutex):
    """A release does not take the mutex off its context's count."""

    __slots__ = ()

    def unlock(self) -> None:
        self.ctx = None
        super().unlock()


# -- sequence counters -----------------------------------------------------------------------------


class EvenSeqCount(SeqCount):
    """The counter stays even while a writer is inside."""

    __slots__ = ()

    def write_begin(self, subclass: int = 0) -> None:
        super().write_begin(subclass)
        self.owner = None
        self.sequence += 1

    def write_end(self) -> None:
        super().write_end()
        self.sequence -= 1


class BlindSeqCount(SeqCount):
    """A reader never finds that it must retry."""

    __slots__ = ()

    def read_retry(self, seq: int) -> bool:
        step(self)
        return False


class HastySeqCount(SeqCount):
    """A reader begins while a writer is inside."""

    __slots__ = ()

    def _wait(self, t: Task) -> None:
        pass


class QuietSeqCount(SeqCount):
    """A writer that leaves tells no reader that spins."""

    __slots__ = ()

    def _wake(self) -> None:
        pass


class OpenSeqLock(SeqLock):
    """Writers do not exclude each other."""

    __slots__ = ()

    def write_lock(self, subclass: int = 0) -> None:
        self.count.write_begin(subclass)

    def write_unlock(self) -> None:
        self.count.write_end()


class BlindSeqLock(SeqLock):
    """A reader never finds that it must retry."""

    __slots__ = ()

    def read_retry(self, seq: int) -> bool:
        step(self)
        return False
