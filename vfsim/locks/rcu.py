"""Read-copy-update: readers never wait, and what they may still see is freed after them.

The typical sequence::

    reader:   with rcu_read(): use(table.pointer)
    updater:  old, table.pointer = table.pointer, new; call_rcu(free, old)

A grace period begins with `call_rcu` or `synchronize_rcu` and waits for exactly the readers that
are in a section at that moment; later ones cannot have seen the old pointer.  It ends as soon as
the last of them leaves: the worst case for whoever relies on more.  Callbacks then run in softirq
context, in no promised order.

A section is an entry of the task's held stack, nests, and forbids sleeping.  Entering one is a
scheduling point, leaving it is not.

The other flavours (`vfsim.locks.rcu_flavours`, `vfsim.locks.srcu`) differ in who is a reader; how
one waits for a `GracePeriod` and what becomes of its callback is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.context import RCU, enter, release
from vfsim.sim.cpu import quiescent
from vfsim.sim.scheduler import block
from vfsim.sim.state import K
from vfsim.sim.task import DONE, NEW

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

_KEY = RCU.key


class _Section:
    """What the scheduling point of a section names."""

    __slots__ = ()

    def watch(self) -> None:
        """Never sleeps.  Make the task's next unlock take the slow path, where a trace notes it."""
        if K.cur.rcu_waits is None:
            K.cur.rcu_waits = []

    def __repr__(self) -> str:
        return "rcu"


SECTION = _Section()


def rcu_read_lock() -> None:
    """Never sleeps.  Enter a read section; nests.  What is reachable now is not freed inside."""
    K.left -= 1
    if not K.left:
        K.machine.point("rcu_read_lock", SECTION)
    t = K.cur
    try:
        t.ctx = t.ctx.next[_KEY]
    except KeyError:
        t.ctx = enter(t.ctx, _KEY, RCU)
    t.held = (RCU, t.held)


def rcu_read_unlock() -> None:
    """Never sleeps.  Leave the innermost read section."""
    t = K.cur
    h = t.held
    if h is not None and h[0] is RCU:
        t.held = h[1]
        t.ctx = t.ctx.parent
    elif not release(t, RCU):
        return
    if t.rcu_waits is not None and not t.ctx.rcu:
        if K.trace is not None:
            K.trace.note(t, "rcu_read_unlock", SECTION)
        quiescent(t)


def rcu_read_lock_held() -> bool:
    """Never sleeps.  Whether the caller is in a read section."""
    return K.cur.ctx.rcu > 0


class _Read:
    """The read section as a context manager."""

    __slots__ = ()

    def __enter__(self) -> None:
        rcu_read_lock()

    def __exit__(self, *exc: object) -> None:
        rcu_read_unlock()


_READ = _Read()


def rcu_read() -> _Read:
    """Never sleeps.  ``with rcu_read():`` is a read section."""
    return _READ


class GracePeriod:
    """One wait for the readers of a moment.

    Attributes:
        fn, args: the callback of `call_rcu`; waiter: the task in `synchronize_rcu`.
        readers: those it still waits for.
    """

    __slots__ = ("args", "fn", "readers", "waiter")

    def __init__(self, fn: Callable[..., Any] | None = None, args: tuple[Any, ...] = ()) -> None:
        self.fn = fn
        self.args = args
        self.waiter: Task | None = None
        self.readers: dict[Task, Any] = {}
        self.look()

    def look(self) -> None:
        """Never sleeps.  Note who reads at this moment."""
        for task in K.machine.tasks:
            if task.state is not DONE and task.state is not NEW and self.inside(task):
                self.readers[task] = None
                if task.rcu_waits is None:
                    task.rcu_waits = []
                task.rcu_waits.append(self)

    def inside(self, task: Task) -> bool:
        """Never sleeps.  Whether a task is in a read section of this flavour."""
        return task.ctx.rcu > 0

    def left(self, task: Task) -> bool:
        """Never sleeps.  Whether a reader has left its section; then nothing waits for it."""
        if self.inside(task):
            return False
        self.forget(task)
        return True

    def forget(self, task: Task) -> None:
        """Never sleeps.  A reader has left.  With the last one the grace period is over."""
        del self.readers[task]
        if not self.readers:
            self.end()

    def end(self) -> None:
        """Never sleeps.  The last reader has left."""
        machine = K.machine
        if self.fn is not None:
            ready: list[GracePeriod] = machine.data.setdefault("rcu_ready", [])
            ready.append(self)
            if len(ready) == 1:
                machine.raise_softirq(_call_ready, name="rcu")
        elif self.waiter is not None:
            machine.wake(self.waiter)

    def pending(self) -> Pending:
        """Never sleeps.  The callbacks of this flavour in this world that have not run."""
        return pending_of("rcu")

    def call(self) -> None:
        """Never sleeps.  Run the callback, and end whatever `rcu_barrier` waits for it."""
        assert self.fn is not None
        fn, args = self.fn, self.args
        fn(*args)
        for barrier in self.pending().pop(self):
            barrier.forget(self)

    @property
    def owner(self) -> Task | None:
        """A reader that it waits for."""
        return next(iter(self.readers), None)

    def __repr__(self) -> str:
        names = ", ".join(t.name for t in self.readers) or "nobody"
        return f"<grace period, waits for {names}>"


def pending_of(flavour: str) -> Pending:
    """Never sleeps.  The callbacks of a flavour that have not run in this world."""
    found: Pending = K.machine.data.setdefault(flavour, {})
    return found


def _call_ready() -> None:
    """Never sleeps.  The softirq: run every callback whose grace period is over."""
    K.left -= 1
    if not K.left:
        K.machine.point("rcu_call", SECTION)
    machine = K.machine
    ready: list[GracePeriod] = machine.data["rcu_ready"]
    machine.data["rcu_ready"] = []
    for period in ready:
        period.call()


class _Barrier:
    """What `rcu_barrier` waits for: callbacks (``readers``), each of which waits for readers."""

    __slots__ = ("readers", "waiter")

    def __init__(self, pending: Pending, waiter: Task) -> None:
        self.readers: dict[GracePeriod, None] = dict.fromkeys(pending)
        self.waiter = waiter
        for barriers in pending.values():
            barriers.append(self)

    def forget(self, period: GracePeriod) -> None:
        """Never sleeps.  A callback has run."""
        self.readers.pop(period, None)
        if not self.readers:
            K.machine.wake(self.waiter)

    @property
    def owner(self) -> Task | None:
        """A reader that one of the callbacks waits for."""
        return next((t for gp in self.readers for t in gp.readers), None)

    def __repr__(self) -> str:
        return f"<rcu_barrier, waits for {len(self.readers)} callbacks>"


Pending = dict[GracePeriod, list[_Barrier]]
"""Callbacks that have not run, each with the barriers that wait for it."""


# -- waiting: what every flavour does --------------------------------------------------------------


def call(period: GracePeriod) -> None:
    """Never sleeps.  Let the callback of a grace period run at its end."""
    period.pending()[period] = []
    if not period.readers:
        period.end()


def await_period(make: Callable[[], GracePeriod], kind: str, obj: Any) -> None:
    """Sleeps.  For a grace period, which begins after the scheduling point (kind, obj)."""
    t = K.cur
    if t.ctx.nosleep:
        K.machine.judge.sleeping(t, None)
    K.left -= 1
    if not K.left:
        K.machine.point(kind, obj)
    period = make()
    period.waiter = t
    while period.readers:
        block(period)


def await_callbacks(pending: Callable[[], Pending], kind: str, obj: Any) -> None:
    """Sleeps.  Until every callback that is pending after the scheduling point has run."""
    t = K.cur
    if t.ctx.nosleep:
        K.machine.judge.sleeping(t, None)
    K.left -= 1
    if not K.left:
        K.machine.point(kind, obj)
    barrier = _Barrier(pending(), t)
    while barrier.readers:
        block(barrier)


# -- this flavour ----------------------------------------------------------------------------------


def call_rcu(fn: Callable[..., Any], *args: Any) -> None:
    """Never sleeps.  Call ``fn(*args)`` in softirq context after a grace period."""
    K.left -= 1
    if not K.left:
        K.machine.point("call_rcu", SECTION)
    call(GracePeriod(fn, args))


def synchronize_rcu() -> None:
    """Sleeps.  For a grace period.  ``machine.data["rcu_waited"]`` counts the calls."""
    data = K.machine.data
    data["rcu_waited"] = data.get("rcu_waited", 0) + 1
    await_period(GracePeriod, "synchronize_rcu", SECTION)


def rcu_barrier() -> None:
    """Sleeps.  Until every callback that was given to `call_rcu` before has run."""
    await_callbacks(lambda: pending_of("rcu"), "rcu_barrier", SECTION)
