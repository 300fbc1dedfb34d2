"""One simulated world: its tasks, CPUs and clock, and the one function that suspends a task.

The run queue ``rq`` holds every runnable task but the running one.  Whoever gives up the CPU picks
its successor and switches straight to it (`schedule`); there is no scheduler task in the middle.
The *hub* is the greenlet that called `run`: control returns to it only when nobody can run, when a
task needs a new stack, and when the world stops.

Who may run is almost always simply who is in the run queue.  It needs a closer look (`eligible`)
only while somebody shares a CPU (``sharing``) and somebody who is not running keeps a CPU to itself
(``holding``: it holds a spinlock, say, or is an interrupt handler).

A hard bug stops the world through the hub (`fatal`); the tasks are unwound later.  On which CPU a
task runs, how time passes, and how a world ends are in `placement`, `timeline` and `burial`.
"""

from __future__ import annotations

import os
from heapq import heappush
from typing import TYPE_CHECKING, Any, NoReturn

from greenlet import getcurrent

from vfsim.sim import context
from vfsim.sim.burial import bury, die
from vfsim.sim.choice import Deviation, RoundRobin, Strategy
from vfsim.sim.clock import Clock
from vfsim.sim.cpu import Cpu, quiescent
from vfsim.sim.errors import KernelBug, Killed, Misuse, Violation, WorldStopped
from vfsim.sim.judge import Judge
from vfsim.sim.placement import even_out, put_on_cpu
from vfsim.sim.shared import POINTS, Access, install
from vfsim.sim.state import INF, NOBODY, K
from vfsim.sim.task import (
    BLOCKED,
    DONE,
    HARDIRQ,
    POOL,
    RESUME,
    RUNNABLE,
    SOFTIRQ,
    SPINNING,
    START,
    TASK,
    Task,
    grow_pool,
    own_pool,
)
from vfsim.sim.timeline import Timer, something_due, tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet

    from vfsim.sim.context import Ctx
    from vfsim.sim.task import Worker
    from vfsim.sim.trace import Trace

MAX_STEPS = 1_000_000
"""Default limit of scheduling points per run, a count so that it is the same on every machine."""

_SWEEP = 100  # ended tasks are forgotten when there are more tasks than this


class Machine:
    """A simulated computer without a filesystem.

    Args:
        cpus: number of CPUs, at least 1.
        strategy: who runs next; round-robin without one.
        judge: what to ask when something is entered for the first time (see `vfsim.sim.judge`).
        trace: record every operation (slow, for reports).
        max_steps: scheduling points, and events of the clock, per run until "no progress".
        faults: the kinds of fault that may happen (see `vfsim.sim.faults`).

    Attributes:
        access: how declared fields are read and written while it runs (see `vfsim.sim.shared`).
        violations: what was found, in order, once per signature.
        data: singletons of upper floors in this world, by name.
        failed: how many faults have happened.
        born: how many tasks and handlers there have been.
        steps: scheduling points passed since the strategy was set.
        tasks: those that live, interrupt handlers too, and some that have ended.
        patient: an exception that leaves a task's function does not stop the others.
    """

    __slots__ = (  # many attributes, which only slots keep cheap to reach
        "__dict__", "__weakref__", "_counts", "_log", "_roots", "_signatures", "_sweep",
        "access", "alive", "armed", "born", "clock", "countdown", "cpus", "data", "dead", "env",
        "error", "events", "failed", "faults", "final", "further", "heap", "holding", "hub", "irqs",
        "judge", "last", "last_tick", "limit", "max_steps", "outside", "patient", "placed",
        "plain", "rq", "seq", "sharing", "steps", "stopped", "strategy", "tasks", "ticks",
        "touched", "trace", "turn", "uneven", "violations",
    )  # fmt: skip

    def __init__(
        self,
        cpus: int = 4,
        strategy: Strategy | None = None,
        judge: Judge | None = None,
        trace: Trace | None = None,
        max_steps: int = MAX_STEPS,
        faults: tuple[str, ...] = (),
    ) -> None:
        if not isinstance(cpus, int) or cpus < 1:
            raise ValueError(f"a machine needs at least one CPU, got cpus={cpus!r}")
        if not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"a run needs at least one step, got max_steps={max_steps!r}")
        self.cpus = [Cpu(i) for i in range(cpus)]
        self.env = Clock()
        self.judge = judge or Judge()
        self.trace = trace
        self.max_steps = max_steps
        self.tasks: list[Task] = []
        self.rq: list[Task] = []
        self.heap: list[tuple[float, int, Task | Timer]] = []
        self.violations: list[Violation] = []
        self.faults = faults
        self.failed = 0
        self.data: dict[str, Any] = {}
        self.access: Access = POINTS
        self.touched: list[Ctx] = []
        self.further: dict[Ctx, None] = {}  # judged, but asked about each time
        self.alive = 0
        self.born = 0
        self.irqs = 0
        self.placed = 0
        self.sharing = 0
        self.holding = 0
        self.uneven = False
        self.dead = False
        self.patient = False
        self.steps = self.limit = 0
        self.ticks = self.last_tick = 0
        self.armed = INF  # what the countdown began with
        self.countdown = 0
        self.final = False  # the countdown may end at the limit
        self.seq = 0
        self.stopped = False
        self.error: BaseException | None = None
        self.hub: greenlet = getcurrent()
        self.last: Task | None = None
        self.events = self.env._queue
        self._log: list[Any] = []  # three entries a deviation: see `deviations`
        self._signatures: dict[tuple[str, str, str], None] = {}
        self._counts: dict[str, int] = {}
        self._roots = 0
        self.turn = 0
        self._sweep = _SWEEP
        self.clock = Task(self, _never, (), "clock", "clock", HARDIRQ)
        self.clock.cpu = self.cpus[0]
        self.clock.pending = ("tick", self.clock)
        self.outside = Task(self, _never, (), "", "", TASK)  # who is asked first
        self.set_strategy(strategy or RoundRobin())
        self.judge.start(self)

    # -- set-up ------------------------------------------------------------------------------------

    def set_strategy(self, strategy: Strategy) -> None:
        """Change who decides; only between runs.

        Steps and operations are counted from here, traced or not.
        """
        self.strategy = strategy
        self.plain = type(strategy) is RoundRobin and self.trace is None
        self.steps = 0
        for task in (*self.tasks, self.clock, self.outside):
            task.ops = task.chooses = 0
            task.nth = -1
        for task in self.tasks:
            task.pending = START  # a plain run announces nothing, a traced one all
        strategy.start(self)

    @property
    def deviations(self) -> list[Deviation]:
        """The answers of the strategy that were not the default, in order."""
        log = self._log
        found = []
        for asked, place, answer in zip(log[::3], log[1::3], log[2::3], strict=True):
            kind, number, nth = ("b", place, 0) if isinstance(place, int) else place
            value = answer.id if isinstance(answer, Task) else answer
            if asked is self.outside:
                nth = 0
            found.append(Deviation(asked.id, kind, number, nth, value))
        return found

    @property
    def now(self) -> int:
        """Simulated time in nanoseconds since the world began."""
        return int(self.env._now)

    def next_id(self, kind: str) -> str:
        """An id that is the same in every run: (kind, creating task, its n-th object)."""
        task = K.cur
        if task is NOBODY:
            n = self._counts[kind] = self._counts.get(kind, 0) + 1
            return f"{kind}{n}"
        task.objects += 1
        return f"{kind}{task.id}.{task.objects}"

    def spawn(
        self,
        fn: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        daemon: bool = False,
        cpu: int | None = None,
    ) -> Task:
        """Never sleeps.  Start a task that runs ``fn(*args)``.

        Args:
            name: for reports; the function's name without one.
            daemon: a kernel thread, which need not end.
            cpu: the CPU that it stays on; else the emptiest, and it may move when it sleeps.

        Raises:
            TypeError: ``fn`` cannot be called.  ValueError: no such CPU.
        """
        if not callable(fn):
            raise TypeError(f"a task needs a function to run, got {fn!r}")
        creator = K.cur
        if creator is NOBODY:
            if self.dead:
                raise Misuse("this world was buried; make a new one")
            self._roots += 1
            ident = str(self._roots)
            owner = "test"
        else:
            creator.spawned += 1
            ident = f"{creator.id}.{creator.spawned}"
            owner = self.judge.task_owner(creator)
        if name is None:
            try:
                name = fn.__name__
            except AttributeError:
                name = "task"
        task = Task(self, fn, args, name, ident, TASK)
        task.daemon = daemon
        task.owner = owner
        put_on_cpu(self, task, cpu)
        self.born += 1
        if len(self.tasks) >= self._sweep:
            self._forget_ended()
        self.tasks.append(task)
        if not daemon:
            self.alive += 1
        if self.trace is not None:
            self.trace.note(creator, "spawn", task)
        self.rq.append(task)
        return task

    def _forget_ended(self) -> None:
        self.tasks = [task for task in self.tasks if task.state is not DONE]
        self._sweep = max(_SWEEP, 2 * len(self.tasks))

    def skip_id(self) -> None:
        """Count a task that is not started: those after it keep the ids they always have."""
        self._roots += 1

    # -- interrupts and time -----------------------------------------------------------------------

    def post_irq(self, cpu: int, fn: Callable[..., Any], *args: Any, name: str = "irq") -> None:
        """Never sleeps.  Make a hardware interrupt pending on ``cpu`` (modulo the number of CPUs).

        Its handler runs ``fn(*args)`` in hardirq context when interrupts are on there: delivery is
        a choice.  For device models, from SimPy callbacks too.
        """
        self._post(HARDIRQ, self.cpus[cpu % len(self.cpus)], fn, args, name)

    def raise_softirq(self, fn: Callable[..., Any], *args: Any, name: str = "softirq") -> None:
        """Never sleeps.  Run ``fn(*args)`` in softirq context, on the CPU of the caller."""
        cur = K.cur
        self._post(SOFTIRQ, self.cpus[0] if cur is NOBODY else cur.cpu, fn, args, name)

    def _post(
        self, kind: int, cpu: Cpu, fn: Callable[..., Any], args: tuple[Any, ...], name: str
    ) -> None:
        poster = K.cur
        if poster is NOBODY or poster is self.clock:
            n = self._counts[name] = self._counts.get(name, 0) + 1
            ident = f"{name}#{n}"
        else:
            poster.spawned += 1
            ident = f"{poster.id}.{name}#{poster.spawned}"
        handler = Task(self, fn, args, ident, ident, kind)
        handler.cpu = cpu
        self.born += 1
        self.sharing += 1
        self.holding += 1
        self.irqs += 1
        self.tasks.append(handler)
        self.rq.append(handler)

    def timer(self, delay: int, fn: Callable[..., Any], *args: Any) -> Timer:
        """Never sleeps.  Call ``fn(*args)`` in softirq context ``delay`` ns from now.

        Raises:
            ValueError: ``delay`` is negative.
        """
        if delay < 0:
            raise ValueError(f"a timer cannot be due in the past, got delay={delay!r}")
        timer = Timer(self, fn, args)
        timer.timer = self.at(self.now + delay, timer)
        return timer

    def at(self, due: float, what: Task | Timer) -> int:
        """Put something on the timer heap; returns a number, which its ``timer`` must be then."""
        self.seq += 1
        heappush(self.heap, (due, self.seq, what))
        return self.seq

    # -- scheduling --------------------------------------------------------------------------------

    def wake(self, task: Task) -> None:
        """Never sleeps.  Make a blocked or spinning task runnable again.

        For whoever took it off the queue it waits on; see `vfsim.sim.scheduler.wake` for others.
        """
        state = task.state
        if state is BLOCKED or state is SPINNING:
            if self.uneven and state is BLOCKED and not task.bound and task.kind == TASK:
                even_out(self, task)
            if self.trace is not None:
                self.trace.note(task, "woken", task.waits_on)
            task.state = RUNNABLE
            task.waits_on = None
            task.timer = 0
            self.rq.append(task)

    def eligible(self) -> list[Task]:
        """Those of the run queue whose CPU would let them run now."""
        found = []
        for task in self.rq:
            cur = task.cpu.curr
            if cur is not None and cur is not task:
                ctx = cur.ctx
                kind = task.kind
                if kind == TASK:
                    if ctx.nopreempt:
                        continue
                elif ctx.irqs_off or (kind == SOFTIRQ and ctx.bh_off):
                    continue
            found.append(task)
        return found

    def schedule(self, me: Task, leave: bool = True) -> Task | None:
        """Sleeps.  The one function that suspends: give the CPU away, return when picked again.

        It picks the successor off the run queue and switches to it; with ``leave`` false (there is
        nobody to suspend: a task has ended, or nothing runs yet) it returns the successor instead.
        No successor means that control goes to the hub.
        """
        if me.killed:
            die(self, me)
        if me.ctx.nopreempt and leave:
            self.holding += 1
        rq = self.rq
        task: Task | None = None
        place: Any
        try:
            if self.plain:
                quick = rq and not self.holding and not self.stopped
                task = rq.pop(0) if quick else self._pick_first()
            else:
                passed = self.armed - K.left
                if passed:
                    self.steps += passed
                    me.ops = place = me.ops + passed
                    me.nth = 0
                else:
                    me.nth += 1
                    place = ("b", me.ops, me.nth)
                strategy = self.strategy
                if (waited := me.waits_on) is not None:  # a waiter stands for its queue
                    me.pending = (RESUME, getattr(waited, "queue", waited))
                while not self.stopped:
                    ready = self.eligible() if self.holding and self.sharing else rq
                    if not ready:
                        if tick(self):
                            continue
                        self.armed = K.left  # these steps are counted
                        break
                    if (self.heap or self.events) and self.alive and something_due(self):
                        ready = [*ready, self.clock]
                    i = strategy.decide(ready, None)
                    task = ready[i]
                    if i:
                        log = self._log
                        log.append(me)
                        log.append(place)
                        log.append(task)
                        if task is self.clock:
                            task = None
                            me.nth += 1
                            place = ("b", me.ops, me.nth)
                            tick(self)
                            continue
                    gap = strategy.gap
                    if gap >= (room := self.limit - self.steps):
                        gap = room
                        self.final = True
                    if gap < 1 or self.trace is not None:
                        gap = self._odd_gap(gap)
                    self.armed = K.left = gap
                    if ready is rq:
                        del rq[i]
                    else:
                        rq.remove(task)
                    if self.holding and task.ctx.nopreempt:
                        self.holding -= 1
                    break
        except BaseException as error:  # the strategy's, or one of the clock's: the world ends
            self.stop(error)
            task = None
        if leave and task is not me:
            if task is None or (stack := task.g) is None:
                self._switch(task)
            else:
                K.cur = task
                task.cpu.curr = task
                stack.switch()
        return task

    def _pick_first(self) -> Task | None:
        """Who runs next where the strategy would take the first anyway."""
        rq = self.rq
        while not self.stopped:
            if self.holding:
                ready = self.eligible() if self.sharing else rq
                if ready:
                    task = ready[0]
                    rq.remove(task)
                    if task.ctx.nopreempt:
                        self.holding -= 1
                    return task
            elif rq:
                return rq.pop(0)
            if not tick(self):
                break
        return None

    def _odd_gap(self, gap: int) -> int:
        """The countdown in a traced run, which ends at each point, and beyond the last step."""
        if self.strategy.gap < 1:
            raise ValueError(f"a strategy's gap must be at least 1, not {self.strategy.gap!r}")
        self.countdown = gap
        return 1

    def _arm(self) -> None:
        """Set the countdown to the strategy's next decision, or to the step limit."""
        gap = self.strategy.gap
        if gap >= (room := self.limit - self.steps):
            gap = room
            self.final = True
        if gap < 1 or self.trace is not None:
            gap = self._odd_gap(gap)
        self.armed = K.left = gap

    def _switch(self, task: Task | None) -> None:
        """Switch stacks: to that task, or to the hub (None), which gives a new task its stack."""
        if task is not None:
            if task.g is not None or self._start(task):
                K.cur = task
                task.cpu.curr = task
                task.g.switch()
                return
            self.last = task
        self.hub.switch()

    def _start(self, task: Task, worker: Worker | None = None) -> bool:
        """Give a new task a stack.  False if the pool is empty: only the hub may make one."""
        if worker is None:
            if not POOL:
                return False
            worker = POOL.pop()
        task.g = worker
        worker.task = task
        worker.parent = self.hub
        task.state = RUNNABLE
        if task.kind != TASK:
            task.under = task.cpu.curr
        return True

    def point(self, kind: str, obj: Any) -> None:
        """Sleeps.  The slow path of a scheduling point: the countdown ran out before (kind, obj).

        Announce, then do: the operation is published in ``pending``, others may run, then the
        caller goes on and does it.
        """
        me = K.cur
        if me.killed or self.dead:
            die(self, me)
        if me is self.clock:
            K.left = INF
            return
        me.ops += self.armed
        me.nth = -1
        me.pending = (kind, obj)
        self.steps += self.armed
        trace = self.trace
        if trace is None or not self._counts_down(me):
            if self.steps >= self.limit:
                self._no_progress(me)
            self._give_way(me)
        if trace is not None:
            trace.op(me, kind, obj)  # recorded when it happens, not when it was announced

    def _counts_down(self, me: Task) -> bool:
        """In a traced run each point comes here: whether the strategy is not to be asked yet."""
        self.countdown -= 1
        if self.countdown <= 0 or self.steps >= self.limit:
            return False
        K.left = 1
        return True

    def _give_way(self, me: Task) -> None:
        """Ask the strategy who goes on from here, and let them."""
        rq = self.rq
        nth = 0
        while True:
            if self.sharing and (self.holding or me.ctx.nopreempt):
                ready = [me, *self.eligible()]
            else:
                ready = [me, *rq]
            if (self.heap or self.events) and self.alive and something_due(self):
                ready.append(self.clock)
            try:
                i = self.strategy.decide(ready, me)
                task = ready[i]
                if i:
                    self._log += (me, ("p", me.ops, nth), task)
                    nth += 1
                    if task is self.clock:
                        tick(self)
                        if not self.stopped:
                            continue
                self._arm()
            except BaseException as error:
                self.stop(error)
            if self.stopped:
                self._leave_for_good()
            break
        if i:
            rq.remove(task)
            rq.append(me)
            if me.ctx.nopreempt:
                self.holding += 1
            if task.ctx.nopreempt:
                self.holding -= 1
            self._switch(task)

    def choose(self, kind: str, n: int) -> int:
        """Never sleeps.  A number below ``n`` for something undetermined; 0 is the quiet choice."""
        if n <= 1 or self.plain:
            return 0
        asked = K.cur
        try:
            value = self.strategy.choose(kind, n)
            if not 0 <= value < n:
                raise ValueError(f"a strategy chose {value} of {n} for {kind!r}")
        except BaseException as error:
            if asked is NOBODY or asked.killed:
                raise
            self.stop(error)
            if asked is self.clock:
                raise WorldStopped from error
            self._leave_for_good()
        if asked is NOBODY:
            asked = self.outside
        else:
            asked.chooses += 1
        if value:
            self._log += (asked, (kind, asked.chooses, 0), value)
        return value

    # -- the life of a run -------------------------------------------------------------------------

    def run(self) -> None:
        """Run until every task that is no daemon has ended and nothing more can run.

        Must be called from outside of tasks.  Hard bugs and hangs end up in ``violations``; an
        exception that left a task's function is raised here.
        """
        if self.dead:
            raise Misuse("this world was buried; make a new one")
        if K.cur is not NOBODY:
            raise Misuse("run() was called inside a task: only the outside may run the world")
        own_pool()
        self.hub = getcurrent()
        saved = (K.machine, K.trace)
        K.machine = self
        K.trace = self.trace
        context.load(self.touched)
        install(self.access)
        self.access.begin(self)
        try:
            self._hub()
        finally:
            if self.plain:
                self.steps += self.armed - K.left
            K.cur = NOBODY
            K.left = INF
            K.machine, K.trace = saved
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _hub(self) -> None:
        self.last = None
        self.limit = self.steps + self.max_steps + 1
        self.last_tick = self.ticks + self.max_steps
        self.armed = K.left = self.limit - self.steps if self.plain else INF
        self.final = self.plain
        while not self.stopped:
            task = self.last or self.schedule(self.outside, leave=False)
            if task is None:
                break
            self.last = None
            if task.g is None and not POOL:
                grow_pool()
            self._switch(task)
            K.cur = NOBODY
        if not self.stopped and self.error is None and (self.alive or self.irqs):
            self.judge.hang(self)

    def task_done(self, task: Task, worker: Worker) -> greenlet | None:
        """A task's function returned: account for it and say which stack comes next.

        None: this worker's own, which has been given a new task.
        """
        task.state = DONE
        if task.killed or self.dead:
            K.cur = NOBODY
            return self.hub
        if self.trace is not None:
            self.trace.note(task, "exit", None)
        try:
            self._retire(task)
        except BaseException as error:
            self.stop(error)
        successor = self.schedule(task, leave=False)
        if successor is None:
            K.cur = NOBODY
            return self.hub
        if successor.g is None:
            self._start(successor, worker)
        K.cur = successor
        successor.cpu.curr = successor
        return successor.g if successor.g is not worker else None

    def _retire(self, task: Task) -> None:
        cpu = task.cpu
        if task.kind == TASK:
            cpu.tasks.remove(task)
            self.placed -= 1
            if cpu.tasks:
                self.sharing -= 1
            if self.sharing:
                self.uneven = True
            if not task.daemon:
                self.alive -= 1
        else:
            self.sharing -= 1
            self.irqs -= 1
            self.tasks.remove(task)
        if cpu.curr is task:
            under = task.under
            cpu.curr = under if under is not None and under.cpu is cpu else None
        task.under = None
        if task.rcu_waits is not None and task.held is None:
            task.ctx = context.ROOT  # what ran as a handler was a read section as a whole
            quiescent(task)
        if task.error is None:
            self.judge.task_exit(task)
        else:
            self.judge.task_failed(task, task.error)
            if task.error is not None:
                self._task_failed(task.error)

    def _task_failed(self, error: BaseException) -> None:
        """An exception left a task's function: the run ends, or goes on without that task."""
        if not self.patient or not isinstance(error, Exception):
            self.stop(error)
        elif self.error is None:
            self.error = error

    # -- bugs, death and burial --------------------------------------------------------------------

    def violation(self, violation: Violation) -> bool:
        """Never sleeps.  Record a broken rule, once per signature; returns whether it is new."""
        if self.dead or violation.signature in self._signatures:
            return False
        self._signatures[violation.signature] = None
        self.violations.append(violation)
        if self.trace is not None:
            self.trace.bug(self, K.cur, violation)
        return True

    def fatal(self, violation: Violation) -> NoReturn:
        """Sleeps.  Record a broken rule after which the world cannot go on, and stop it.

        Raises:
            KernelBug: it was called outside of tasks.  Inside one it does not return.
        """
        if self.dead:
            raise Killed
        self.violation(violation)
        self.stopped = True
        me = K.cur
        if me is NOBODY:
            raise KernelBug(violation)
        if me is self.clock or me.state is DONE:
            raise WorldStopped
        self._leave_for_good()

    def stop(self, error: BaseException) -> None:
        """End the run; ``error`` is raised from `run` (the first one is kept)."""
        self.stopped = True
        if self.error is None and not isinstance(error, WorldStopped):
            self.error = error

    def _leave_for_good(self) -> NoReturn:
        K.cur = NOBODY
        self.hub.switch()
        raise Killed  # the burial resumes us

    def _no_progress(self, me: Task) -> NoReturn:
        self.armed = K.left
        self.judge.no_progress(self, me)
        self.stopped = True
        self._leave_for_good()

    def out_of_steps(self, me: Task) -> None:
        """Sleeps.  The countdown may have ended at the limit, at an operation that is no point."""
        if me.killed or self.dead:
            die(self, me)
        if self.steps + self.armed >= self.limit:
            self.steps += self.armed
            self._no_progress(me)

    def bury(self) -> None:
        """End every task of this world; it cannot be used afterwards (see `vfsim.sim.burial`).

        Raises:
            Misuse: it was called inside a task.
        """
        bury(self)


def _never() -> None:
    raise AssertionError("the clock is never run as a task")


def children_inherit_nothing() -> None:
    """Forked workers must not resume the parent's stacks: drop the pool."""
    POOL.clear()


os.register_at_fork(after_in_child=children_inherit_nothing)
