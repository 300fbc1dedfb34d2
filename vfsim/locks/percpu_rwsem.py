"""The per-CPU reader/writer semaphore: readers that cost nothing, writers that cost a lot.

A reader raises the count of its CPU and lowers that of the CPU on which it ends; only the sum means
anything.  What guards what:

* ``sync`` tells readers whether writers are about.  While it is idle they need not look further,
  nor wake anybody: that is the fast path.
* ``gate`` is a `RwSem` that a writer holds from beginning to end.  Readers pass it (and at once let
  go of it) when they find ``shut``.
* the counts belong to their CPUs, with preemption off.

A writer: make readers slow (a grace period), take the gate, shut it, wait until the sum of the
counts is zero.  A reader that comes then waits at the gate.  Reading twice can deadlock, as with a
`RwSem`: a writer that comes in between waits for the first, and the second for the writer.

A hold can outlive its task: freeze levels and asynchronous writes `disown` it, and whoever finishes
the work adopts it.

A release is a scheduling point, between the look at ``sync`` and the change of the count: without
the grace period a writer could count in between, and sleep for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import ReadSide
from vfsim.locks.rcu_sync import RcuSync
from vfsim.locks.rwsem import RwSem
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.context import PREEMPT_OFF, SHARED, TRY, LockClass, enter, release
from vfsim.sim.cpu import pop, push
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class _Keeper:
    """Who has a disowned write hold: stands at the gate where a task would."""

    __slots__ = ("name",)
    state = "kept"

    def __init__(self, name: str) -> None:
        self.name = name


class PerCpuRwSem:
    """A reader/writer semaphore for many readers (Linux: ``struct percpu_rw_semaphore``).

    Args:
        name: its lock class.

    Attributes:
        owner: the writer, from the time it has the gate; None while the hold is disowned.
        readers: the holds of each task, for reports; disowned ones are only counted.
        counts: by CPU.

    ``lock`` and ``unlock`` are the write mode, as is ``with sem:``; ``with sem.shared():`` reads.
    """

    __slots__ = ("counts", "drain", "gate", "key", "name", "owner", "readers", "shut", "sync")
    is_pin = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = LockClass.get(name, "percpu_rwsem", sleeps=True).key
        self.owner: Task | None = None
        self.readers: dict[Task, int] = {}
        self.counts: dict[int, int] = {}
        self.shut = False
        self.sync = RcuSync(name)
        self.gate = RwSem(name)
        self.drain = WaitQueue(f"the readers of {name}")

    # -- reading -----------------------------------------------------------------------------------

    def down_read(self) -> None:
        """Sleeps.  Take it together with other readers."""
        K.left -= 1
        if not K.left:
            K.machine.point("down_read", self)
        t = K.cur
        key = self.key | SHARED
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if not self.sync.idle and self.shut:
            self.gate.raw_down_read()
            self._count(t, 1)
            self.gate.raw_up_read()
        else:
            self._count(t, 1)
        self.readers[t] = self.readers.get(t, 0) + 1
        t.ctx = c
        t.held = (self, t.held)

    def down_read_trylock(self) -> bool:
        """Never sleeps.  Take it for reading unless it is shut; returns whether it did."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if not self.sync.idle and self.shut:
            return False
        t = K.cur
        self._count(t, 1)
        self._got(t, TRY | SHARED)
        self.readers[t] = self.readers.get(t, 0) + 1
        return True

    def up_read(self) -> None:
        """Never sleeps.  Let go of one read hold."""
        t = K.cur
        if self._give_up_read(t):
            push(PREEMPT_OFF)
            idle = self.sync.idle
            K.left -= 1
            if not K.left:
                K.machine.point("unlocking", self.drain)
            self._forget_reader(t)
            self._count(t, -1)
            if not idle:
                self.drain.wake_now(1)
            pop(PREEMPT_OFF)

    def _count(self, t: Task, change: int) -> None:
        cpu = t.cpu.index
        self.counts[cpu] = self.counts.get(cpu, 0) + change

    def _give_up_read(self, t: Task) -> bool:
        """Take a read hold off the held stack; False, after telling the judge, if there is none."""
        h = t.held
        if t not in self.readers:
            K.machine.judge.not_held(t, self)
            return False
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return False
        if K.trace is not None:
            K.trace.note(t, "up_read", self)
        return True

    def _forget_reader(self, t: Task) -> None:
        holds = self.readers.pop(t)
        if holds > 1:
            self.readers[t] = holds - 1

    def _got(self, t: Task, mode: int) -> None:
        key = self.key | mode
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        t.held = (self, t.held)

    # -- writing -----------------------------------------------------------------------------------

    def down_write(self) -> None:
        """Sleeps.  Take it alone."""
        K.left -= 1
        if not K.left:
            K.machine.point("down_write", self)
        t = K.cur
        key = self.key
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        self.sync.enter()
        self.gate.raw_down_write()
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)
        K.left -= 1
        if not K.left:
            K.machine.point("down_write", self)
        self.shut = True
        self.drain.wait_event(self._drained, owner=self._reader)

    def up_write(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        t = K.cur
        if self._give_up_write(t):
            self.shut = False
            self.gate.raw_up_write()
            self.sync.exit()

    def _drained(self) -> bool:
        return not sum(self.counts.values())

    def _reader(self) -> Task | None:
        """A reader that the writer waits for."""
        return next(iter(self.readers), None)

    def _give_up_write(self, t: Task) -> bool:
        """Take the write hold off the held stack; False, after telling the judge, if it is none."""
        h = t.held
        if self.owner is not t:
            K.machine.judge.not_held(t, self)
            return False
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return False
        self.owner = None
        if K.trace is not None:
            K.trace.note(t, "up_write", self)
        return True

    # -- holds that outlive their task -------------------------------------------------------------

    def disown(self, keeper: str) -> None:
        """Never sleeps.  Give the write hold to ``keeper`` (``percpu_rwsem_release``)."""
        if self._give_up_write(K.cur):
            self.gate.owner = _Keeper(keeper)  # type: ignore[assignment]

    def adopt(self) -> None:
        """Never sleeps.  Make a disowned write hold the caller's (``percpu_rwsem_acquire``)."""
        t = K.cur
        if not isinstance(self.gate.owner, _Keeper):
            what = f"adopt() takes over a disowned write hold, and this is {self!r}"
            K.machine.judge.corrupt(t, self, what)
            return
        self.gate.owner = self.owner = t
        self._got(t, TRY)

    def disown_read(self) -> None:
        """Never sleeps.  Leave a read hold to whoever finishes the work."""
        t = K.cur
        if self._give_up_read(t):
            self._forget_reader(t)

    def adopt_read(self) -> None:
        """Never sleeps.  Make a disowned read hold the caller's."""
        t = K.cur
        if sum(self.counts.values()) <= sum(self.readers.values()):
            what = f"adopt_read() takes over a disowned read hold, and this is {self!r}"
            K.machine.judge.corrupt(t, self, what)
            return
        self.readers[t] = self.readers.get(t, 0) + 1
        self._got(t, TRY | SHARED)

    # -- in general --------------------------------------------------------------------------------

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody holds it, in any mode."""
        return self.gate.owner is not None or not self._drained()

    def statistics(self) -> dict[str, Any]:
        """The writer's name or keeper, the readers' names, the sum of holds, how many wait."""
        writer = self.gate.owner
        return {
            "owner": writer and writer.name,
            "readers": [t.name for t in self.readers],
            "holds": sum(self.counts.values()),
            "waiting": len(self.gate.waiters or ()) + len(self.drain.waiters),
        }

    lock = down_write

    def unlock(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        self.up_write()

    __enter__ = down_write

    def __exit__(self, *exc: object) -> None:
        self.up_write()

    def shared(self) -> ReadSide:
        """``with sem.shared():`` holds it for reading."""
        return ReadSide(self)

    def __repr__(self) -> str:
        writer = self.gate.owner
        holds = sum(self.counts.values())
        parts = [f"written by {writer.name}"] if writer is not None else []
        if holds:
            names = ", ".join(t.name for t in self.readers)
            parts.append(f"{holds} read holds{f' of {names}' if names else ''}")
        state = ", ".join(parts) or "free"
        waiting = len(self.gate.waiters or ())
        return f"<PerCpuRwSem {self.name}, {state}, {waiting} waiting>"
