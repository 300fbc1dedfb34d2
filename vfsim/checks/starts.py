"""What orders, below the locks: starts and ends of tasks, handlers and works; interrupts off.

Each function here makes a method that also keeps the clocks (`vfsim.checks.epochs`) out of the
plain one; `vfsim.checks.clocks` says what orders what, and puts them in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simpy import Environment

from vfsim.checks.epochs import (
    ALONE,
    CHAINS,
    CLOCKS,
    ENDED,
    NOTHING,
    POSTS,
    Chain,
    Epoch,
    acquire,
    add,
    company,
    learn,
    merged,
    publish,
    release,
)
from vfsim.checks.history import holds
from vfsim.locks import rcu, rcu_flavours
from vfsim.sim import cpu, machine, timeline, workqueue
from vfsim.sim.context import BH_OFF, IRQ_OFF, RCU_BH
from vfsim.sim.machine import Machine
from vfsim.sim.smp import _Call
from vfsim.sim.state import NOBODY, K
from vfsim.sim.task import BLOCKED, HARDIRQ, SOFTIRQ, SPINNING, TASK
from vfsim.sim.timeline import Timer
from vfsim.sim.workqueue import Pool, Work, Workqueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

    Fn = Callable[..., Any]


# -- tasks and handlers ----------------------------------------------------------------------------


def _spawn(original: Fn) -> Fn:
    def spawn(self: Machine, *args: Any, **how: Any) -> Task:
        company(self)
        task: Task = original(self, *args, **how)
        creator = K.cur
        if creator.epoch is not None:
            task.epoch = Epoch(task, 0, merged(NOTHING, publish(creator)).seen)
        return task

    return spawn


def _post(original: Fn) -> Fn:
    def post(self: Machine, kind: int, cpu: Any, fn: Fn, *args: Any) -> None:
        if fn is not rcu._call_ready:  # who is called back there was looked at when it was ready
            company(self)
        original(self, kind, cpu, fn, *args)
        if K.cur.epoch is not None:
            POSTS[self.tasks[-1]] = publish(K.cur)

    return post


def _timer(original: Fn) -> Fn:
    def timer(self: Machine, *args: Any) -> Timer:
        company(self)
        made: Timer = original(self, *args)
        if K.cur.epoch is not None:
            POSTS[made] = publish(K.cur)
        return made

    return timer


def _schedule(original: Fn) -> Fn:
    def schedule(self: Environment, *args: Any, **how: Any) -> None:
        if K.cur is not NOBODY:
            company(K.machine)
        original(self, *args, **how)

    return schedule


def _expire(original: Fn) -> Fn:
    def expire(self: Timer) -> None:
        original(self)
        before = POSTS.pop(self, None)
        if before is not None:
            POSTS[self.machine.tasks[-1]] = before

    return expire


def _start(original: Fn) -> Fn:
    def start(self: Machine, task: Task, worker: Any = None) -> bool:
        started: bool = original(self, task, worker)
        if started and task.kind != TASK and not ALONE[0]:
            at = task.cpu.index
            last = CHAINS.setdefault((at, task.kind), Chain()).last
            task.epoch = Epoch(last.who, last.n + 1, last.seen)
            for before in (
                POSTS.pop(task, None),
                CLOCKS.get(("irq", at)),
                CLOCKS.get(("bh", at)) if task.kind == SOFTIRQ else None,
            ):
                if before is not None:
                    learn(task, before)
        return started

    return start


def _retire(original: Fn) -> Fn:
    def retire(self: Machine, task: Task) -> None:
        if task.epoch is not None:
            ended = publish(task)
            if task.kind == TASK:
                ENDED[task] = ended.n
            else:
                ended.who.last = ended
        original(self, task)

    return retire


def _wake(original: Fn) -> Fn:
    def wake(self: Machine, task: Task) -> None:
        state = task.state
        waker = K.cur
        if (
            (state is BLOCKED or state is SPINNING)
            and waker.epoch is not None
            and not _ticking[0]
            and task.epoch is not None
        ):
            learn(task, publish(waker))
        original(self, task)

    return wake


def _tick(original: Fn) -> Fn:
    def tick(self: Machine) -> bool:
        _ticking[0] = True
        try:
            return original(self)  # type: ignore[no-any-return]
        finally:
            _ticking[0] = False

    return tick


_ticking = [False]
"""Time passes: whoever is woken now was woken by the clock, not by who happens to be current."""


# -- interrupts ------------------------------------------------------------------------------------


_OFF = (IRQ_OFF, BH_OFF, RCU_BH)
"""The states that keep handlers away."""


def handlers_before(soft_only: bool = False) -> None:
    """Never sleeps.  What handlers of this CPU did came before: they are kept away from now on."""
    t = K.cur
    if CHAINS and t.epoch is not None:
        for kind in (SOFTIRQ,) if soft_only else (SOFTIRQ, HARDIRQ):
            chain = CHAINS.get((t.cpu.index, kind))
            if chain is not None:
                learn(t, chain.last)


def coming_on() -> None:
    """Never sleeps.  What was done with handlers kept away comes before the next of them.

    A hard interrupt keeps nobody away by choice: it could as well have come during a softirq that
    happened to begin later.
    """
    t = K.cur
    if t.epoch is not None and t.kind != HARDIRQ:
        if t.ctx.irqs_off:
            add(CLOCKS, ("irq", t.cpu.index))
        elif t.ctx.bh_off:
            add(CLOCKS, ("bh", t.cpu.index))


def _push(original: Fn) -> Fn:
    def push(entry: Any) -> None:
        original(entry)
        if entry in _OFF:
            handlers_before(entry is not IRQ_OFF)

    return push


def _pop(original: Fn) -> Fn:
    def pop(entry: Any) -> None:
        if entry in _OFF and holds(K.cur.held, entry):
            coming_on()
        original(entry)

    return pop


# -- calls on other CPUs ---------------------------------------------------------------------------


def _run(original: Fn) -> Fn:
    def run(self: _Call) -> None:
        original(self)
        add(CLOCKS, self)

    return run


def _wait(original: Fn) -> Fn:
    def wait(self: _Call) -> None:
        original(self)
        acquire(self)

    return wait


# -- work queues -----------------------------------------------------------------------------------
# A work is the key of what came before it was queued, its map of what it did itself: whoever waits
# for it touches that.


def _grab_idle(original: Fn) -> Fn:
    """Also who finds it pending: it has not begun yet, and will see what was done before."""

    def grab_idle(work: Work) -> bool:
        add(CLOCKS, work)
        return original(work)  # type: ignore[no-any-return]

    return grab_idle


def _insert(original: Fn) -> Fn:
    def insert(self: Workqueue, work: Work, cpu: int) -> None:
        add(CLOCKS, work)
        original(self, work, cpu)

    return insert


def _take_work(original: Fn) -> Fn:
    """It never runs beside itself, nor beside others of an ordered queue: they came before, too."""

    def take(self: Pool, me: Task) -> Work | None:
        work: Work | None = original(self, me)
        if work is not None:
            for key in (work, work.map, self):
                acquire(key)
        return work

    return take


def _end_work(original: Fn) -> Fn:
    def end(self: Pool, work: Work) -> None:
        add(CLOCKS, work.map)
        add(CLOCKS, self.wq.map)
        if self.wq.max_active == 1:
            release(self)
        original(self, work)

    return end


def _ended(original: Fn) -> Fn:
    def ended(self: Any, work: Work) -> None:
        if K.cur.epoch is not None and self.task.epoch is not None:
            learn(self.task, publish(K.cur))
        original(self, work)

    return ended


def _touch(original: Fn) -> Fn:
    def touch(self: Any) -> None:
        original(self)
        acquire(self)

    return touch


def _works(original: Fn) -> Fn:
    """Who finds none left comes after those that were."""

    def works(self: Workqueue) -> list[Work]:
        acquire(self.map)
        return original(self)  # type: ignore[no-any-return]

    return works


HOOKS: list[tuple[Any, str, Callable[[Fn], Fn]]] = [
    (Machine, "spawn", _spawn),
    (Machine, "_post", _post),
    (Machine, "_start", _start),
    (Machine, "_retire", _retire),
    (Machine, "wake", _wake),
    *((module, "tick", _tick) for module in (machine, timeline)),
    (Machine, "timer", _timer),
    (Environment, "schedule", _schedule),
    (Timer, "expire", _expire),
    *((module, "push", _push) for module in (cpu, rcu_flavours)),
    *((module, "pop", _pop) for module in (cpu, rcu_flavours)),
    (_Call, "run", _run),
    (_Call, "wait", _wait),
    (workqueue, "_grab_idle", _grab_idle),
    (Workqueue, "insert", _insert),
    (Workqueue, "works", _works),
    (Pool, "take", _take_work),
    (Pool, "end", _end_work),
    (workqueue._Flush, "ended", _ended),
    (workqueue._Map, "touch", _touch),
]
"""(class or module, name of the method, what makes the one that keeps the clocks)."""
