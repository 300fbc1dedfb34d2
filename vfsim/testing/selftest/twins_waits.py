"""Grace periods, wake-ups and counts that are broken in one place each; see `busted`.

A twin overrides one method of the original.  Its docstring says what is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks import rcu
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.rcu import GracePeriod, await_period, rcu_read_unlock
from vfsim.locks.srcu import Srcu, SrcuGracePeriod
from vfsim.locks.waitqueue import Waiter, WaitQueue
from vfsim.sim.scheduler import block
from vfsim.sim.state import INF, K
from vfsim.sim.workqueue import Pool, Work, Workqueue, cancel_delayed_work
from vfsim.testing.selftest.primitives import Queues, Rcu, RcuBh, RcuSched
from vfsim.testing.selftest.torture import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


# -- grace periods ---------------------------------------------------------------------------------


class IdleRcu(Rcu):
    """A grace period is over at once."""

    def wait(self) -> None:
        step(self)


class EagerRcu(Rcu):
    """Callbacks run when they are given."""

    def call(self, fn: Callable[[], None]) -> None:
        fn()


class _FirstLeaves(GracePeriod):
    __slots__ = ()

    def forget(self, task: Task) -> None:
        if self.readers:
            self.readers.clear()
            self.end()


class EarlyRcu(Rcu):
    """A grace period ends with the first reader that leaves."""

    def wait(self) -> None:
        await_period(_FirstLeaves, "synchronize_rcu", self)


class FlatRcu(Rcu):
    """Leaving an inner section counts as leaving the outermost."""

    def leave(self, token: None) -> None:
        waits, K.cur.rcu_waits = K.cur.rcu_waits, None
        for period in waits or ():
            period.forget(K.cur)
        rcu_read_unlock()


class LossyRcu(Rcu):
    """A callback is lost if another one is pending."""

    def call(self, fn: Callable[[], None]) -> None:
        if not rcu.pending_of("rcu"):
            super().call(fn)


class RepeatingRcu(Rcu):
    """Callbacks run twice."""

    def call(self, fn: Callable[[], None]) -> None:
        super().call(fn)
        super().call(fn)


class BarrierlessRcu(Rcu):
    """The barrier waits for a grace period, and not for the callbacks."""

    def barrier(self) -> None:
        self.wait()


class WrongBh(RcuBh):
    """Who reads with softirqs off is protected by the grace periods of another flavour."""

    def wait(self) -> None:
        rcu.synchronize_rcu()


class WrongSched(RcuSched):
    """Callbacks run after a grace period of another flavour."""

    def call(self, fn: Callable[[], None]) -> None:
        rcu.call_rcu(fn)

    def barrier(self) -> None:
        rcu.rcu_barrier()


class IdleSrcu(Srcu):
    """A grace period is over at once."""

    __slots__ = ()

    def synchronize(self) -> None:
        step(self)


class EagerSrcu(Srcu):
    """Callbacks run when they are given."""

    __slots__ = ()

    def call(self, fn: Callable[..., Any], *args: Any) -> None:
        fn(*args)


class _OneIndex(SrcuGracePeriod):
    __slots__ = ()

    def look(self) -> None:
        index = self.domain.completed & 1
        self.domain.completed += 1
        for task, sections in self.domain.readers.items():
            mine = [section for section in sections if section.index == index]
            for section in mine:
                self.readers[task] = len(mine)
                section.periods.append(self)


class OneIndexSrcu(Srcu):
    """A grace period forgets the readers for which the one before it still waits."""

    __slots__ = ()

    def synchronize(self) -> None:
        await_period(lambda: _OneIndex(self), "synchronize_srcu", self)


class LossySrcu(Srcu):
    """A section that ends inside another one takes both off the count."""

    __slots__ = ()

    def end(self, t: Task, section: Any) -> None:
        for other in self.readers[t]:
            if other is not section:
                for period in other.periods:
                    period.left(t)
                other.periods.clear()
        super().end(t, section)


# -- waiting for something -------------------------------------------------------------------------


class EarlyCompletion(Completion):
    """A waiter does not wait."""

    __slots__ = ()

    def _ready(self) -> bool:
        return True


class LossyCompletion(Completion):
    """What is completed before anybody waits is not counted."""

    __slots__ = ()

    def complete(self) -> None:
        count = self.count
        nobody = not self.queue.waiters
        super().complete()
        if nobody:
            self.count = count


class QuietCompletion(Completion):
    """Completing counts, and wakes nobody."""

    __slots__ = ()

    def complete(self) -> None:
        step(self.queue)
        self.count += 1


class MeanCompletion(Completion):
    """Completing for all wakes one of those who wait."""

    __slots__ = ()

    def complete_all(self) -> None:
        step(self.queue)
        self.count = INF
        self.queue.wake_now(1)


class QuietQueue(WaitQueue):
    """A wake-up wakes nobody."""

    __slots__ = ()

    def wake_now(self, nr: int) -> None:
        pass


class MeanQueue(WaitQueue):
    """Waking all wakes one."""

    __slots__ = ()

    def wake_up_all(self) -> None:
        self.wake_up()


class RacyQueue(WaitQueue):
    """A waiter looks at its condition first, and then puts itself on the queue."""

    __slots__ = ()

    def wait_event(
        self, condition: Any, owner: Any = None, idle: bool = False, exclusive: bool = False
    ) -> None:
        while not condition():
            waiter = Waiter(self, K.cur, condition, owner, idle, exclusive)
            step(self)
            self.waiters.append(waiter)
            block(waiter)


class TrustingQueue(WaitQueue):
    """Who was woken does not look at its condition again."""

    __slots__ = ()

    def wait_event(
        self, condition: Any, owner: Any = None, idle: bool = False, exclusive: bool = False
    ) -> None:
        step(self)
        if not condition():
            waiter = Waiter(self, K.cur, condition, owner, idle, exclusive)
            self.waiters.append(waiter)
            block(waiter)
            self.leave(waiter)


# -- reference counts ------------------------------------------------------------------------------


class LossyLockRef(LockRef):
    """Taking a reference reads the count and writes it in two steps."""

    __slots__ = ()

    def get(self) -> None:
        seen = self.count
        step(self.lock)
        self.count = seen + 1


class UndeadLockRef(LockRef):
    """A dead object can be had again."""

    __slots__ = ()

    def get_not_dead(self) -> bool:
        if self._begin("lockref_get"):
            self.count = max(self.count, 0) + 1
        else:
            self.lock.lock()
            self.count = max(self.count, 0) + 1
            self.lock.unlock()
        return True


class UnlockedLockRef(LockRef):
    """The last reference is left to its owner without the lock."""

    __slots__ = ()

    def put_or_lock(self) -> bool:
        last = not super().put_or_lock()
        if last:
            self.lock.unlock()
        return not last


class GreedyLockRef(LockRef):
    """A put forgets to lower the count while somebody has the lock."""

    __slots__ = ()

    def put_or_lock(self) -> bool:
        if self._begin("lockref_put"):
            return super().put_or_lock()
        self.lock.lock()
        self.lock.unlock()
        return True


# -- work queues -----------------------------------------------------------------------------------


class HastyFlush(Queues):
    """A flush waits for nothing."""

    def flush(self, work: Work) -> None:
        step(work)


class HastyFlushAll(Queues):
    """A flush of a queue waits for what runs, and not for what is pending."""

    def flush_all(self) -> None:
        for work in self.single.works():
            if work.worker is not None:
                self.flush(work)


class HastyCancel(Queues):
    """A synchronous cancellation does not wait for the work that runs."""

    def cancel(self, work: Work) -> None:
        step(work)
        cancel_delayed_work(work)  # type: ignore[arg-type]


class IdleCancel(Queues):
    """A cancellation waits for the work to run, instead of taking it back."""

    def cancel(self, work: Work) -> None:
        step(work)


class _LatePool(Pool):
    __slots__ = ()

    def take(self, me: Task) -> Work | None:
        work = super().take(me)
        if work is not None:
            work.pending = True
        return work

    def end(self, work: Work) -> None:
        super().end(work)
        work.pending = False


class _WidePool(Pool):
    __slots__ = ()

    def start(self, machine: Machine) -> None:
        limit, self.wq.max_active = self.wq.max_active, 9
        super().start(machine)
        self.wq.max_active = limit


class _RepeatingPool(Pool):
    __slots__ = ()

    def take(self, me: Task) -> Work | None:
        for work in self.todo:
            work.worker = None
        return super().take(me)


class _StackPool(Pool):
    __slots__ = ()

    def take(self, me: Task) -> Work | None:
        self.todo.reverse()
        work = super().take(me)
        self.todo.reverse()
        return work


class _Odd(Workqueue):
    __slots__ = ()
    pool: type[Pool]

    def pool_of(self, cpu: int) -> Pool:
        found = self.pools.get(cpu)
        if found is None:
            found = self.pools[cpu] = self.pool(self, 0 if cpu < 0 else cpu)
        return found


class LateBit(_Odd):
    """A work counts as pending until it has run, so that what is queued meanwhile is lost."""

    __slots__ = ()
    pool = _LatePool


class WideQueue(_Odd):
    """An ordered queue runs as many works as there are."""

    __slots__ = ()
    pool = _WidePool


class ReentrantQueue(_Odd):
    """A work that is queued while it runs runs beside itself."""

    __slots__ = ()
    pool = _RepeatingPool


class StackQueue(_Odd):
    """The work that was queued last is run first."""

    __slots__ = ()
    pool = _StackPool
