"""Tasks: one stack each, a place on a CPU, and what they hold.

States: NEW (never ran) → RUNNABLE ⇄ BLOCKED (asleep, off the CPU) or SPINNING (waiting on the CPU)
→ DONE. Interrupt handlers are tasks of kind ``softirq`` or ``hardirq``: they run on their own stack
on top of the task that their CPU ran, and never sleep.

Greenlets are pooled.  A worker runs one task after another and never dies, because making one costs
twenty context switches; it is first switched to from the hub, because a new greenlet inherits the
stack depth of whoever starts it.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from vfsim.sim.context import HARDIRQ_ROOT, ROOT, SOFTIRQ_ROOT, Ctx, Held
from vfsim.sim.errors import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.cpu import Cpu
    from vfsim.sim.machine import Machine

NEW, RUNNABLE, BLOCKED, SPINNING, DONE = "new", "runnable", "blocked", "spinning", "done"
TASK, SOFTIRQ, HARDIRQ = 0, 1, 2

START = ("start", None)
RESUME = "resume"
"""What a task announces that waited for an object and goes on."""

_ROOTS = (ROOT, SOFTIRQ_ROOT, HARDIRQ_ROOT)


class Task:
    """A thread of execution in the simulated kernel.

    Attributes:
        name: for people; id: (creator's id).(n-th child), stable across runs.
        kind: `TASK`, `SOFTIRQ` or `HARDIRQ`.  daemon: a kernel thread that need not end.
        ctx, held: what is held, as classes and as instances (see `vfsim.sim.context`).
        pending: (kind, object) of the operation the task is about to do, while it is parked at a
            point.
        waits_on: what it waits for while BLOCKED or SPINNING.
        woken: the lock that somebody else took first when this task was woken for it.
        bound: it stays on its CPU.  under: a handler's: who had the CPU before it.
        ops, nth: how many operations it did, and how often it waited at this one.
        owner: who started it: "kernel", "test" or "filesystem ...".
        epoch: since what last ordered it with others, while races are looked for; else None.
        process: the process's files, credentials and directory, set by the filesystem floor.
        result, error: what the function returned or raised.
    """

    __slots__ = (
        "args", "bound", "chooses", "cpu", "ctx", "daemon", "deaths", "epoch", "error", "fn", "g",
        "held", "id", "killed", "kind", "machine", "name", "nth", "objects", "ops", "owner",
        "pending", "prio", "process", "rcu_waits", "result", "spawned", "state", "timer", "under",
        "waits_on", "woken",
    )  # fmt: skip

    args: tuple[Any, ...]
    cpu: Cpu
    ctx: Ctx
    epoch: Any
    error: BaseException | None
    fn: Callable[..., Any] | None
    g: Worker
    held: Held | None
    op: Any
    owner: str
    pending: tuple[str, Any]
    prio: Any
    process: Any
    rcu_waits: list[Any] | None
    result: Any
    state: str
    under: Task | None
    waits_on: Any
    woken: Any

    def __init__(
        self,
        machine: Machine,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        name: str,
        id: str,
        kind: int,
    ) -> None:
        self.machine = machine
        self.fn = fn
        self.args = args
        self.name = name
        self.id = id
        self.kind = kind
        self.state = NEW
        self.ctx = _ROOTS[kind]
        self.pending = START
        self.owner = "kernel"
        self.held = self.waits_on = self.woken = self.process = self.epoch = None
        self.result = self.error = self.under = self.rcu_waits = None
        self.cpu = self.g = None  # type: ignore[assignment]
        self.daemon = self.killed = self.bound = False
        self.ops = self.chooses = self.spawned = self.objects = self.timer = self.deaths = 0
        self.nth = -1
        self.prio = 0.0

    @property
    def alive(self) -> bool:
        return self.state is not DONE

    def __repr__(self) -> str:
        return f"{self.name}({self.id})"


class Worker(greenlet):
    """A pooled stack.  ``task`` is what it runs."""

    __slots__ = ("task",)
    task: Task | None


POOL: list[Worker] = []
LOST: list[Worker] = []
"""Stacks of tasks that swallowed their death: never resumed, never reused."""


_owner = [get_ident()]
_SPARE = 64  # parked workers that outlive a world


def grow_pool(count: int = 4) -> None:
    """Start ``count`` workers; only ever from the hub."""
    for _ in range(count):
        worker = Worker(_work)
        worker.task = None
        worker.switch()


def own_pool() -> None:
    """Stacks cannot leave the OS thread that made them: in another thread, begin with none."""
    me = get_ident()
    if _owner[0] != me:
        _owner[0] = me
        POOL.clear()


def trim_pool() -> None:
    """Let the workers end that a world with many tasks has left over; only ever from the hub."""
    del POOL[_SPARE:]


def _work() -> None:
    """The life of a worker: park, run tasks, park again."""
    me: Worker = getcurrent()  # type: ignore[assignment]
    POOL.append(me)
    assert me.parent is not None
    me.parent.switch()
    while True:
        task = me.task
        assert task is not None and task.fn is not None
        machine = task.machine
        try:
            task.result = task.fn(*task.args)
        except Killed:
            pass
        except BaseException as error:
            task.error = error
        task.fn = None
        task.args = ()
        me.task = None
        successor = machine.task_done(task, me)
        del task, machine
        if successor is not None:
            POOL.append(me)
            successor.switch()
