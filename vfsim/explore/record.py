"""What a run did, operation by operation, seen from the strategy's seat.

`Recorder` is a strategy around another one.  It is asked at every scheduling point, so it sees
every announced operation at the moment it is done; nothing in the engine has to be told that
somebody records, and a run without a recorder costs what it always did.

What a step did besides its announced operation is read off the task when the next decision is due:
which locks have left its held stack, whether interrupts went off or on, whether it went to sleep,
whether a timer was set.  One thing is *not* recorded: that a task found a lock with one owner taken
and waited for it.  Nobody can see that; what is recorded is when it got the lock (at once when it
was handed over).  So a run in which a task waited and one in which it came a little later are the
same class.  The queue of a reader/writer semaphore does matter, since it stops later readers, and
is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.explore.classes import Event, fingerprint
from vfsim.locks.bitlock import BitLock, SleepBit, TriedBitLock, TriedSleepBit
from vfsim.locks.mutex import Mutex, TriedMutex
from vfsim.locks.rcu import SECTION
from vfsim.locks.rwsem import RwSem, TriedRwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock, TriedSpinLock
from vfsim.sim.context import PseudoLock
from vfsim.sim.state import NOBODY, K
from vfsim.sim.task import DONE, NEW, RESUME, RUNNABLE, TASK

if TYPE_CHECKING:
    from vfsim.sim.choice import Strategy
    from vfsim.sim.context import Held
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

ONE_OWNER = frozenset(
    {Mutex, TriedMutex, SpinLock, TriedSpinLock, BitLock, TriedBitLock, SleepBit, TriedSleepBit,
     SeqCount}
)  # fmt: skip
"""Types of which one task at a time has an object, and the others cannot be seen waiting."""

TAKES = frozenset({"lock", "spin_lock", "bit_lock", "read_begin", "wait", RESUME})
"""Kinds of operation that wait for such an object, if it is taken."""

_WANTS = {"spin_lock": "lock", "bit_lock": "lock"}
_RWSEMS = frozenset({RwSem, TriedRwSem})


def must_wait(task: Task) -> bool:
    """Whether a parked task is about to do what it would have to wait for, and nobody would see."""
    lock = takes(task)
    if lock is None or not lock.is_locked():
        return False
    return lock.owner is not task or task.pending[0] != RESUME  # else it was handed over


def takes(task: Task) -> Any:
    """The lock with one owner that must be free for what a parked task is about to do, or None."""
    kind, obj = task.pending
    return obj if kind in TAKES and type(obj) in ONE_OWNER else None


def announced(task: Task) -> tuple[str, Any]:
    """What a parked task is about to do, in the words of a record."""
    kind, obj = task.pending
    return _WANTS.get(kind, kind), obj


class _Before:
    """A task as it was when its step began, or when it began to wait for a lock.

    Attributes:
        held, irqs_off, bh_off, rcu: of its context.
        waited: a grace period waits for its read section.
        sems: each rwsem that it holds, whether it writes, and whether somebody is in line.
        wants: what it does once it need not wait any more.
        handed: the lock was handed over to it, and that is recorded.
    """

    __slots__ = ("bh_off", "handed", "held", "irqs_off", "rcu", "sems", "waited", "wants")

    def __init__(self, task: Task, wants: str) -> None:
        ctx = task.ctx
        self.held = held = task.held
        self.irqs_off = ctx.irqs_off
        self.bh_off = ctx.bh_off
        self.rcu = ctx.rcu
        self.waited = bool(task.rcu_waits)
        self.wants = wants
        self.handed = False
        self.sems: list[tuple[RwSem, bool, bool]] = []
        while held is not None:
            sem, held = held
            if type(sem) in _RWSEMS:
                self.sems.append((sem, sem.owner is task, bool(sem.waiters)))


class Recorder:
    """A strategy that records what the one inside lets happen.

    Attributes:
        strategy: who decides.
        events: the operations so far, in order (`close` adds the last ones).
        broken_off: a bug stopped the world while somebody could still run.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.gap = 1
        self.events: list[Event] = []

    def start(self, machine: Machine) -> None:
        """A new execution: nothing has happened."""
        self.machine = machine
        self.strategy.start(machine)
        self.left = self.strategy.gap
        self.events.clear()
        self.broken_off = False
        self.task: Task | None = None  # whose step it is
        self.waits = False  # which is nothing but to begin to wait
        self.before: dict[Task, _Before] = {}
        self.armed: dict[Task, None] = {}  # those who sleep with a timer
        self.ticks = machine.ticks
        self.timers = machine.seq

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """What the strategy inside says; it is asked as often as it wants to be."""
        self.settle()
        self.left -= 1
        i = 0
        if current is None or self.left <= 0:
            i = self.strategy.decide(ready, current)
            self.left = self.strategy.gap
        task = ready[i]
        if task is self.machine.clock:
            self.left = 1  # it is asked again at once
        self.begin(task)
        return i

    def choose(self, kind: str, n: int) -> int:
        """What the strategy inside says."""
        value = self.strategy.choose(kind, n)
        self.chose(kind, value)
        return value

    def chose(self, kind: str, value: int) -> None:
        """Record a number that was chosen, unless it is seen anyway in who goes on."""
        if kind != "waiter":
            asked = K.cur
            self.events.append(("" if asked is NOBODY else asked.id, f"choose {value}", None))

    def close(self) -> None:
        """The run is over and its world not yet buried: record what its last step did."""
        self.settle()
        self.broken_off = self.machine.stopped and any(map(_could_run, self.machine.tasks))

    def fingerprint(self) -> int | None:
        """The class of interleavings that the run belongs to; None if it was broken off."""
        return None if self.broken_off else fingerprint(self.events)

    # -- one step ----------------------------------------------------------------------------------

    def begin(self, task: Task) -> None:
        """A step begins: record the operation that was announced."""
        self.task = task
        if task is self.machine.clock:
            return  # recorded when it is over, like time that passes by itself
        kind, obj = task.pending
        before = self.before.get(task)
        self.waits = must_wait(task)
        if before is None:
            before = self.before[task] = _Before(task, _WANTS.get(kind, kind))
        if self.waits:
            return
        if obj is None:
            if kind == "start" and task.kind != TASK:
                self.events.append((task.id, "deliver", task.cpu))
        elif type(obj) in ONE_OWNER:
            if not before.handed:
                self.events.append((task.id, before.wants, obj))
        elif kind == "down_read" and type(obj) in _RWSEMS:
            free = obj.owner is None and not obj.waiters
            self.events.append((task.id, kind if free else "queue", obj))
        elif kind != RESUME or hasattr(obj, "waiters"):
            self.events.append((task.id, kind, obj))

    def settle(self) -> None:
        """The step is over: record what else it did, and the time that passed after it."""
        task, self.task = self.task, None
        machine = self.machine
        ticked = machine.ticks - self.ticks
        if task is not None and task is not machine.clock and not self.waits:
            self._released(task, self.before.pop(task))
            if machine.seq != self.timers or (not ticked and self._woke_sleepers()):
                self.events.append((task.id, "timer", machine.clock))
            if task.pending[0] == RESUME and task.state is not DONE:
                self._blocked(task)
        if ticked:
            self.events += [(machine.clock.id, "tick", machine.clock)] * ticked
            self._woke_sleepers()
            self.ticks = machine.ticks
        self.timers = machine.seq

    def _released(self, task: Task, before: _Before) -> None:
        """Record what the task let go in its step, in the order of its held stack."""
        ctx = task.ctx
        events = self.events
        if before.held is not task.held:
            for entry in _gone(before.held, task.held):
                if type(entry) in ONE_OWNER:
                    self._let_go(task, entry)
                elif type(entry) not in _RWSEMS and not isinstance(entry, PseudoLock):
                    events.append((task.id, "release", entry))
        for sem, wrote, contended in before.sems:
            if not _holds(task.held, sem):
                how = "up_contended" if contended else "up_write" if wrote else "up_read"
                events.append((task.id, how, sem))
            elif wrote and sem.owner is not task:
                events.append((task.id, "downgrade_write", sem))
        if before.rcu and not ctx.rcu:
            kind = "rcu_end" if before.waited else "rcu_read_unlock"
            events.append((task.id, kind, SECTION))
        if ctx.irqs_off is not before.irqs_off or ctx.bh_off is not before.bh_off:
            events.append((task.id, "irq", task.cpu))

    def _let_go(self, task: Task, lock: Any) -> None:
        """Record a release and, if the lock was handed over, that its heir got it."""
        self.events.append((task.id, "release", lock))
        heir = lock.owner
        waiting = None if heir is None or heir is task else self.before.get(heir)
        if waiting is not None:
            waiting.handed = True
            self.events.append((heir.id, waiting.wants, lock))

    def _blocked(self, task: Task) -> None:
        """Record that a task went to sleep where a wake-up can reach it."""
        if task.timer:
            self.armed[task] = None
        if not hasattr(task.pending[1], "key"):
            self.events.append((task.id, "block", task))

    def _woke_sleepers(self) -> bool:
        """Whether somebody who had set a timer was woken since this was asked last."""
        woken = [task for task in self.armed if not task.timer]
        for task in woken:
            del self.armed[task]
        return bool(woken)


def _could_run(task: Task) -> bool:
    return task.state is RUNNABLE or task.state is NEW


def _gone(before: Held | None, after: Held | None) -> list[Any]:
    """The entries of a held stack that are not there any more, innermost first."""
    left = entries_of(after)
    gone = []
    for entry in entries_of(before):
        for i, other in enumerate(left):
            if other is entry:
                del left[i]
                break
        else:
            gone.append(entry)
    return gone


def entries_of(held: Held | None) -> list[Any]:
    """What is on a held stack, innermost first."""
    found = []
    while held is not None:
        entry, held = held
        found.append(entry)
    return found


def _holds(held: Held | None, lock: Any) -> bool:
    return any(entry is lock for entry in entries_of(held))
