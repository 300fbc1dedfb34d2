"""Work queues: functions that kernel threads run later, in an order that the queue promises.

A work's way::

    idle ──queue──→ pending ──a worker takes it──→ running → idle
      └─delayed──→ timer ──→ pending                 └─ queued again while it runs: it runs again,
                                                        after this time, and never beside itself

``pending`` (also while a timer runs, and while somebody cancels it) is one bit: who sets it queues
the work, and everybody else is told that it is queued already.  A worker is a kernel thread that
ends when its queue has nothing left to do.

==================== =======================================================================
a queue that is      runs its works
==================== =======================================================================
per-CPU (default)    on the CPU where they were queued, up to ``max_active`` at once
`WQ_UNBOUND`         anywhere, up to ``max_active`` at once
ordered              one at a time, in the order they were queued
`WQ_MEM_RECLAIM`     also when memory is short: it may not wait for a queue that is not such
==================== =======================================================================

Waiting for a work (`flush_work`, `cancel_work_sync`) means waiting for whatever it does.  So a work
and its queue are lock classes, held while it runs and taken for a moment by who waits: waiting
under a lock that the work takes is reported, whether it hangs today or not, as Linux's lockdep maps
do.  When it does hang, the wait-for graph names the worker.

Simpler than Linux: workers are started as there is work and not kept; a per-CPU queue starts its
next work at once, where Linux waits until the one before sleeps; priorities and CPU-intensive works
are words only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from vfsim.sim.context import SHARED, LockClass
from vfsim.sim.cpu import pop, push
from vfsim.sim.errors import Violation
from vfsim.sim.scheduler import block, might_sleep
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task
    from vfsim.sim.timeline import Timer

WQ_UNBOUND = 1 << 1
WQ_FREEZABLE = 1 << 2
WQ_MEM_RECLAIM = 1 << 3
WQ_HIGHPRI = 1 << 4
WQ_CPU_INTENSIVE = 1 << 5

MAX_ACTIVE = 256
"""How many works of a queue run at once, per CPU, unless it says otherwise."""

_ANYWHERE = -1


class _Queues:
    """What every scheduling point here names: whoever queues may race with whoever takes."""

    def __repr__(self) -> str:
        return "the work queues"


_QUEUES = _Queues()
_WORKERS = "workqueue.workers"  # in machine.data: the queue of each worker


class _Map:
    """A work or a queue as the order rules see it: held while a work runs, taken by who waits."""

    __slots__ = ("cls", "key", "name")
    is_pin = False
    owner = None

    def __init__(self, name: str, kind: str, mode: int = 0) -> None:
        self.name = f"{kind} {name}"
        self.cls = LockClass.get(self.name, kind, sleeps=True, recursive_read=True)
        self.key = self.cls.key | mode

    def touch(self) -> None:
        """Never sleeps.  Take it and let go: what is held now comes before it."""
        push(self)  # type: ignore[arg-type]
        pop(self)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return self.name


class Work:
    """Something to be done later (Linux: ``struct work_struct``).

    Args:
        fn: called with the work, in a kernel thread, where it may sleep.
        name: for reports; the function's without one.  Works of one name are one lock class.

    Attributes:
        pending: the bit.  pool: where it waits for a worker, or None.  worker: who runs it now, or
            None.  owner: whose doing it is, for blame.
    """

    __slots__ = (
        "canceler", "cpu", "ending", "fn", "map", "name", "owner", "pending", "pool", "ran_in",
        "waiting", "worker",
    )  # fmt: skip

    def __init__(self, fn: Callable[[Any], Any], name: str = "") -> None:
        if not callable(fn):
            raise TypeError(f"a work needs a function to run, got {fn!r}")
        self.fn = fn
        self.name = name or getattr(fn, "__name__", "work")
        self.map = _Map(self.name, "work")
        self.pending = False
        self.owner = "kernel"
        self.pool: Pool | None = None
        self.ran_in: Pool | None = None
        self.worker: Task | None = None
        self.canceler: _Cancel | None = None
        self.waiting: list[_Flush] = []  # for the end of the time that is pending
        self.ending: list[_Flush] = []  # for the end of the time that runs

    @property
    def busy(self) -> bool:
        """Whether it is pending or runs (``work_busy``)."""
        return self.pending or self.worker is not None

    def __repr__(self) -> str:
        state = f"run by {self.worker.name}" if self.worker is not None else "idle"
        return f"<work {self.name}, {state}{', pending' if self.pending else ''}>"


class DelayedWork(Work):
    """A work that waits for a timer first (Linux: ``struct delayed_work``)."""

    __slots__ = ("armed", "timer", "wq")

    def __init__(self, fn: Callable[[Any], Any], name: str = "") -> None:
        super().__init__(fn, name)
        self.timer: Timer | None = None
        self.wq: Workqueue | None = None
        self.armed = 0  # how often the timer was set or taken back

    def arm(self, wq: Workqueue, delay: int) -> None:
        """Never sleeps.  Set the timer."""
        self.wq = wq
        self.armed += 1
        self.timer = K.machine.timer(delay, self.expire, self.armed)

    def disarm(self) -> bool:
        """Never sleeps.  Take the timer back, also one whose softirq is still to come."""
        if self.timer is None:
            return False
        self.timer.cancel()
        self.timer = None
        self.armed += 1
        return True

    def expire(self, armed: int) -> None:
        """Never sleeps.  The timer, in softirq context: now it is queued."""
        if armed == self.armed:
            self.timer = None
            assert self.wq is not None
            self.wq.insert(self, _ANYWHERE)


class _Flush:
    """A wait for certain works to end.  ``works``: those that have not."""

    __slots__ = ("task", "works")

    def __init__(self) -> None:
        self.works: dict[Work, None] = {}
        self.task: Task = K.cur

    def add(self, work: Work) -> None:
        """Never sleeps.  Wait for the last time that the work is queued or runs, if it is."""
        if work.pool is not None:
            work.waiting.append(self)
            self.works[work] = None
        elif work.worker is not None:
            work.ending.append(self)
            self.works[work] = None

    def ended(self, work: Work) -> None:
        """Never sleeps.  That time is over, or was canceled."""
        self.works.pop(work, None)
        if not self.works:
            K.machine.wake(self.task)

    def wait(self) -> bool:
        """Sleeps.  Until all have ended; returns whether there was anything to wait for."""
        if not self.works:
            return False
        while self.works:
            block(self)
        return True

    @property
    def owner(self) -> Task | None:
        """A worker that must get to its end first, if that is certain."""
        return next((t for t in map(_worker_of, self.works) if t is not None), None)

    who = owner

    @property
    def name(self) -> str:
        return "the end of " + ", ".join(f"work {work.name}" for work in self.works)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _worker_of(work: Work) -> Task | None:
    """Who runs a work, or who alone is before it in its queue."""
    if work.pool is None or work.ran_in is work.pool:
        return work.worker
    pool = work.pool
    return next(iter(pool.workers)) if len(pool.workers) == 1 == pool.wq.max_active else None


class _Cancel:
    """A cancellation on its way: others wait for it."""

    __slots__ = ("owner", "waiters", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.owner = K.cur
        self.waiters: list[Task] = []

    @property
    def who(self) -> Task:
        return self.owner

    def wait(self) -> None:
        """Sleeps.  Until it is over."""
        while self.work.canceler is self:
            self.waiters.append(K.cur)
            block(self)

    def end(self) -> None:
        """Never sleeps.  It is over."""
        self.work.canceler = None
        for task in self.waiters:
            K.machine.wake(task)

    def __repr__(self) -> str:
        return f"<the cancellation of work {self.work.name}>"


class Pool:
    """The works of one queue on one CPU (or anywhere), and who runs them."""

    __slots__ = ("cpu", "todo", "workers", "wq")

    def __init__(self, wq: Workqueue, cpu: int) -> None:
        self.wq = wq
        self.cpu = cpu
        self.todo: deque[Work] = deque()
        self.workers: dict[Task, Work | None] = {}

    def start(self, machine: Machine) -> None:
        """Never sleeps.  Start a worker, if one more may run and finds something to do."""
        able = any(work.worker is None for work in self.todo)
        if able and len(self.workers) < self.wq.max_active:
            cpu = None if self.cpu == _ANYWHERE else self.cpu
            worker = machine.spawn(self.serve, name=f"kworker/{self.wq.name}", cpu=cpu)
            worker.owner = "kernel"
            self.workers[worker] = None

    def serve(self) -> None:
        """Sleeps.  A worker's life: run works until none is left, or one has left a lock held."""
        me = K.cur
        queues: dict[Task, Workqueue] = K.machine.data.setdefault(_WORKERS, {})
        queues[me] = self.wq
        try:
            while me.held is None and (work := self.take(me)) is not None:
                self.run(me, work)
        finally:
            del self.workers[me], queues[me]
            if not me.killed:
                self.start(me.machine)

    def take(self, me: Task) -> Work | None:
        """Never sleeps.  The first work that does not run already, no longer pending."""
        K.left -= 1
        if not K.left:
            K.machine.point("work", _QUEUES)
        work = next((w for w in self.todo if w.worker is None), None)
        if work is not None:
            self.todo.remove(work)
            work.pool = None
            work.pending = False
            self.workers[me] = work
            work.worker, work.ran_in = me, self
            work.ending, work.waiting = work.waiting, []
        return work

    def run(self, me: Task, work: Work) -> None:
        """Sleeps.  Run a work, with what it and its queue are to the order rules."""
        me.owner = work.owner
        push(self.wq.running)  # type: ignore[arg-type]
        push(work.map)  # type: ignore[arg-type]
        try:
            work.fn(work)
        except Exception:
            self.end(work)
            raise
        pop(work.map)  # type: ignore[arg-type]
        pop(self.wq.running)  # type: ignore[arg-type]
        K.left -= 1
        if not K.left:
            K.machine.point("work", _QUEUES)
        self.end(work)

    def end(self, work: Work) -> None:
        """Never sleeps.  A work has ended: tell those who wait for it."""
        self.workers[K.cur] = None
        work.worker = work.ran_in = None
        flushes, work.ending = work.ending, []
        for flush in flushes:
            flush.ended(work)

    def __repr__(self) -> str:
        return f"<workqueue {self.wq.name}, {len(self.todo)} pending>"


class Workqueue:
    """A queue of works (Linux: ``struct workqueue_struct``).

    Args:
        name: for reports.  flags: the ``WQ_`` words above.
        max_active: how many of its works run at once, per CPU if it is per-CPU.
    """

    __slots__ = ("destroyed", "flags", "map", "max_active", "name", "pools", "running")

    def __init__(self, name: str, flags: int = 0, max_active: int = 0) -> None:
        if max_active < 0:
            raise ValueError(f"a queue runs at least one work at once, not {max_active}")
        self.name = name
        self.flags = flags
        self.max_active = max_active or MAX_ACTIVE
        self.pools: dict[int, Pool] = {}
        self.destroyed = False
        self.map = _Map(name, "workqueue")
        self.running = _Map(name, "workqueue", SHARED)

    def insert(self, work: Work, cpu: int) -> None:
        """Never sleeps.  Put a work whose bit the caller has set behind the others."""
        if self.destroyed:
            what = f"work {work.name} is queued on {self.name}, which was destroyed"
            K.machine.judge.corrupt(K.cur, work, what)
        if work.ran_in is not None and work.ran_in.wq is self:
            pool = work.ran_in  # it never runs beside itself
        else:
            pool = self.pool_of(cpu)
        work.pool = pool
        pool.todo.append(work)
        if K.trace is not None:
            K.trace.note(K.cur, "queues", work)
        pool.start(K.machine)

    def pool_of(self, cpu: int) -> Pool:
        """Never sleeps.  Where a work goes that is queued for, or on, a CPU."""
        if self.flags & WQ_UNBOUND:
            cpu = _ANYWHERE
        elif cpu == _ANYWHERE:
            cpu = K.cur.cpu.index
        found = self.pools.get(cpu)
        if found is None:
            found = self.pools[cpu] = Pool(self, cpu)
        return found

    def works(self) -> list[Work]:
        """Never sleeps.  What is pending and what runs."""
        found: dict[Work, None] = {}
        for pool in self.pools.values():
            found |= dict.fromkeys(pool.todo)
            found |= {work: None for work in pool.workers.values() if work is not None}
        return list(found)

    def __repr__(self) -> str:
        pending = sum(len(pool.todo) for pool in self.pools.values())
        running = sum(len(pool.workers) for pool in self.pools.values())
        return f"<workqueue {self.name}, {pending} pending, {running} workers>"


def alloc_workqueue(name: str, flags: int = 0, max_active: int = 0) -> Workqueue:
    """Never sleeps.  A new queue; ``max_active`` 0 means many."""
    return Workqueue(name, flags, max_active)


def alloc_ordered_workqueue(name: str, flags: int = 0) -> Workqueue:
    """Never sleeps.  A new queue that runs one work at a time, in the order they were queued."""
    return Workqueue(name, flags | WQ_UNBOUND, 1)


def system_wq() -> Workqueue:
    """Never sleeps.  This world's queue for everybody, ``events``."""
    found: Workqueue | None = K.machine.data.get("system_wq")
    if found is None:
        found = K.machine.data["system_wq"] = Workqueue("events")
    return found


# -- queueing --------------------------------------------------------------------------------------


def queue_work(wq: Workqueue, work: Work) -> bool:
    """Never sleeps.  Let a worker run a work; False if it is pending already.

    A per-CPU queue runs it on the caller's CPU.
    """
    return queue_work_on(_ANYWHERE, wq, work)


def queue_work_on(cpu: int, wq: Workqueue, work: Work) -> bool:
    """Never sleeps.  As `queue_work`, on that CPU."""
    if not _grab_idle(work):
        return False
    wq.insert(work, cpu)
    return True


def queue_delayed_work(wq: Workqueue, work: DelayedWork, delay: int) -> bool:
    """Never sleeps.  As `queue_work`, ``delay`` nanoseconds from now."""
    if not _grab_idle(work):
        return False
    _delay(wq, work, delay)
    return True


def mod_delayed_work(wq: Workqueue, work: DelayedWork, delay: int) -> bool:
    """Never sleeps.  Let it be due ``delay`` ns from now, pending or not; returns whether it was.

    While somebody cancels it nothing is done, and it counts as pending.
    """
    _point()
    if work.canceler is not None:
        return True
    was = _take_back(work)
    _own(work)
    _delay(wq, work, delay)
    return was


def schedule_work(work: Work) -> bool:
    """Never sleeps.  `queue_work` on the system's queue."""
    return queue_work(system_wq(), work)


def schedule_delayed_work(work: DelayedWork, delay: int) -> bool:
    """Never sleeps.  `queue_delayed_work` on the system's queue."""
    return queue_delayed_work(system_wq(), work, delay)


def _point() -> None:
    K.left -= 1
    if not K.left:
        K.machine.point("queue_work", _QUEUES)


def _grab_idle(work: Work) -> bool:
    """Set the bit; False if it was set."""
    _point()
    if work.pending:
        return False
    _own(work)
    return True


def _own(work: Work) -> None:
    work.pending = True
    work.owner = K.machine.judge.task_owner(K.cur)


def _delay(wq: Workqueue, work: DelayedWork, delay: int) -> None:
    if delay:
        work.arm(wq, delay)
    else:
        wq.insert(work, _ANYWHERE)


def _take_back(work: Work) -> bool:
    """Never sleeps.  Take a work off its timer or its queue; returns whether it was pending."""
    if isinstance(work, DelayedWork) and work.disarm():
        return True
    if work.pool is None:
        return False
    work.pool.todo.remove(work)
    work.pool = None
    flushes, work.waiting = work.waiting, []
    for flush in flushes:
        flush.ended(work)
    return True


# -- waiting ---------------------------------------------------------------------------------------


def flush_work(work: Work) -> bool:
    """Sleeps.  Until the last time that a work was queued has ended; False if it was idle."""
    _begin_wait()
    work.map.touch()
    wq = next((pool.wq for pool in (work.pool, work.ran_in) if pool is not None), None)
    if wq is None:
        return False
    _may_wait_for(wq)
    single = wq.max_active == 1 or wq.flags & WQ_MEM_RECLAIM
    (wq.map if single else wq.running).touch()
    flush = _Flush()
    flush.add(work)
    return flush.wait()


def flush_delayed_work(work: DelayedWork) -> bool:
    """Sleeps.  As `flush_work`; does not wait for the timer, but queues the work at once."""
    if work.disarm():
        assert work.wq is not None
        work.wq.insert(work, _ANYWHERE)
    return flush_work(work)


def flush_workqueue(wq: Workqueue) -> None:
    """Sleeps.  Until every work that is pending or runs now has ended."""
    _begin_wait()
    _may_wait_for(wq)
    wq.map.touch()
    flush = _Flush()
    for work in wq.works():
        flush.add(work)
    flush.wait()


def cancel_work_sync(work: Work) -> bool:
    """Sleeps.  Take a work back, and wait until it does not run; returns whether it was pending.

    Until it returns nobody can queue the work, not even the work itself.
    """
    _begin_wait()
    while work.canceler is not None:
        work.canceler.wait()
    was = _take_back(work)
    work.pending = True
    work.canceler = cancel = _Cancel(work)
    flush_work(work)
    work.pending = False
    cancel.end()
    return was


cancel_delayed_work_sync = cancel_work_sync
"""The same for a `DelayedWork`, whose timer is taken back, too."""


def cancel_delayed_work(work: DelayedWork) -> bool:
    """Never sleeps.  Take a work back; it may run still.  Returns whether it was pending."""
    _point()
    if work.canceler is not None:
        return False
    was = _take_back(work)
    work.pending = False
    return was


def destroy_workqueue(wq: Workqueue) -> None:
    """Sleeps.  Run what is left, also what queues itself again, and end the queue."""
    while wq.works():
        flush_workqueue(wq)
    wq.destroyed = True


def _begin_wait() -> None:
    might_sleep()
    K.left -= 1
    if not K.left:
        K.machine.point("flush", _QUEUES)


def _may_wait_for(wq: Workqueue) -> None:
    """A queue for when memory is short must not wait for one that may be waiting for memory."""
    me = K.cur
    mine: Workqueue | None = K.machine.data.get(_WORKERS, {}).get(me)
    if mine is not None and mine.flags & WQ_MEM_RECLAIM and not wq.flags & WQ_MEM_RECLAIM:
        what = f"{mine.name}, which is for when memory is short, waits for {wq.name}, which is not"
        K.machine.violation(
            Violation("workqueue.reclaim", "soft", me.owner, "", what, me.name, (), what)
        )
