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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.context import RCU, enter, release
from vfsim.sim.scheduler import block
from vfsim.sim.state import K
from vfsim.sim.task import DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine
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


_SECTION = _Section()


def rcu_read_lock() -> None:
    """Never sleeps.  Enter a read section; nests.  What is reachable now is not freed inside."""
    K.left -= 1
    if not K.left:
        K.machine.point("rcu_read_lock", _SECTION)
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
        _left(t)


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
        readers: those it still waits for.
    """

    __slots__ = ("args", "fn", "readers", "waiter")

    def __init__(self, fn: Callable[..., Any] | None, args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.waiter: Task | None = None
        self.readers: dict[Task, None] = {}
        for task in K.machine.tasks:
            if task.ctx.rcu and task.state is not DONE:
                self.readers[task] = None
                if task.rcu_waits is None:
                    task.rcu_waits = []
                task.rcu_waits.append(self)

    @property
    def owner(self) -> Task | None:
        """A reader that it waits for."""
        return next(iter(self.readers), None)

    def end(self, machine: Machine) -> None:
        """The last reader has left."""
        if self.fn is not None:
            ready: list[GracePeriod] = machine.data.setdefault("rcu_ready", [])
            ready.append(self)
            if len(ready) == 1:
                machine.raise_softirq(_call_ready, name="rcu")
        elif self.waiter is not None:
            machine.wake(self.waiter)

    def call(self) -> None:
        """Never sleeps.  Run the callback, and end whatever `rcu_barrier` waits for it."""
        assert self.fn is not None
        fn, args = self.fn, self.args
        fn(*args)
        machine = K.machine
        for barrier in _callbacks(machine).pop(self):
            barrier.readers.pop(self, None)
            if not barrier.readers and barrier.waiter is not None:
                machine.wake(barrier.waiter)

    def __repr__(self) -> str:
        names = ", ".join(t.name for t in self.readers) or "nobody"
        return f"<grace period, waits for {names}>"


def _call_ready() -> None:
    """Never sleeps.  The softirq: run every callback whose grace period is over."""
    machine = K.machine
    ready: list[GracePeriod] = machine.data["rcu_ready"]
    machine.data["rcu_ready"] = []
    for period in ready:
        period.call()


class _Barrier:
    """What `rcu_barrier` waits for: callbacks."""

    __slots__ = ("readers", "waiter")

    def __init__(self, pending: dict[GracePeriod, list[_Barrier]], waiter: Task) -> None:
        self.readers: dict[GracePeriod, None] = dict.fromkeys(pending)
        self.waiter = waiter

    @property
    def owner(self) -> Task | None:
        """A reader that one of the callbacks waits for."""
        return next((t for gp in self.readers for t in gp.readers), None)

    def __repr__(self) -> str:
        return f"<rcu_barrier, waits for {len(self.readers)} callbacks>"


def _callbacks(machine: Machine) -> dict[GracePeriod, list[_Barrier]]:
    """The callbacks of this world that have not run, each with the barriers that wait for it."""
    found: dict[GracePeriod, list[_Barrier]] = machine.data.setdefault("rcu", {})
    return found


def _left(t: Task) -> None:
    """A reader that grace periods waited for has left its outermost section."""
    machine = K.machine
    waits, t.rcu_waits = t.rcu_waits, None
    if machine.trace is not None:
        machine.trace.note(t, "rcu_read_unlock", _SECTION)
    for period in waits or ():
        del period.readers[t]
        if not period.readers:
            period.end(machine)


def call_rcu(fn: Callable[..., Any], *args: Any) -> None:
    """Never sleeps.  Call ``fn(*args)`` in softirq context after a grace period."""
    K.left -= 1
    if not K.left:
        K.machine.point("call_rcu", _SECTION)
    machine = K.machine
    period = GracePeriod(fn, args)
    _callbacks(machine)[period] = []
    if not period.readers:
        period.end(machine)


def synchronize_rcu() -> None:
    """Sleeps.  For a grace period.  ``machine.data["rcu_waited"]`` counts the calls."""
    t = K.cur
    machine = K.machine
    machine.data["rcu_waited"] = machine.data.get("rcu_waited", 0) + 1
    if t.ctx.nosleep:
        machine.judge.sleeping(t, None)
    K.left -= 1
    if not K.left:
        machine.point("synchronize_rcu", _SECTION)
    period = GracePeriod(None, ())
    period.waiter = t
    while period.readers:
        block(period)


def rcu_barrier() -> None:
    """Sleeps.  Until every callback that was given to `call_rcu` before has run."""
    t = K.cur
    machine = K.machine
    if t.ctx.nosleep:
        machine.judge.sleeping(t, None)
    K.left -= 1
    if not K.left:
        machine.point("rcu_barrier", _SECTION)
    pending = _callbacks(machine)
    barrier = _Barrier(pending, t)
    for waiting in pending.values():
        waiting.append(barrier)
    while barrier.readers:
        block(barrier)
