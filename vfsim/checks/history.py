"""Questions to a task and to a trace: what is held, where was it taken, which calls run.

Everything here is for reports: slow, and careful never to touch the state of what it looks at. In a
run without a trace the places are missing and the rest is answered all the same.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vfsim.sim.context import CLASS_SHIFT, SHARED, SUBCLASS_SHIFT, LockClass
from vfsim.sim.state import INF, K
from vfsim.sim.trace import call_trace
from vfsim.sim.trace import stack_of as parked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.sim.context import Ctx, Held
    from vfsim.sim.task import Task
    from vfsim.sim.trace import Event, Trace


def chain(held: Held | None, ctx: Ctx) -> Iterator[tuple[Any, Ctx]]:
    """Never sleeps.  (entry, context it was entered with) of a held stack, innermost first."""
    while held is not None:
        entry = held[0]
        if not entry.is_pin:
            yield entry, ctx
            ctx = ctx.parent
        elif entry.key:
            ctx = ctx.parent
        held = held[1]


def is_lock(entry: Any) -> bool:
    """Never sleeps.  Whether an entry of a held stack is a lock: no pin, no "interrupts off"."""
    return not entry.is_pin and hasattr(entry, "is_locked")


def holds(held: Held | None, lock: Any) -> bool:
    """Never sleeps.  Whether a lock is on a held stack."""
    while held is not None:
        if held[0] is lock:
            return True
        held = held[1]
    return False


def mode(key: int) -> str:
    """Never sleeps.  `` (shared)`` or nothing."""
    return " (shared)" if key & SHARED else ""


def spelled(entry: Any, key: int) -> str:
    """Never sleeps.  A held lock or state as reports print it: ``i_rwsem/1 (shared)``."""
    cls = LockClass.all[key >> CLASS_SHIFT]
    if not is_lock(entry):
        return cls.name
    sub = key >> SUBCLASS_SHIFT & 7
    return f"{cls.name}{f'/{sub}' if sub else ''}{mode(key)}"


def calls(held: Held | None) -> list[str]:
    """Never sleeps.  The methods that run, innermost first: ``ToyDir.create()``."""
    found = []
    while held is not None:
        if held[0].is_pin:
            found.append(f"{held[0].site.title}()")
        held = held[1]
    return found


def taken(trace: Trace | None, task: Task, lock: Any, before: int | None = None) -> Event | None:
    """Never sleeps. The event with which a task last took a lock it holds, or None without a trace.

    Args:
        before: look at events before that number only.
    """
    events = [] if trace is None else trace.events
    for i in range((len(events) if before is None else before) - 1, -1, -1):
        event = events[i]
        if event.ref is lock and event.task_id == task.id and event.kind == "enter":
            return event
    return None


def syscall(trace: Trace | None, task: Task, before: int | None = None) -> str:
    """Never sleeps. The system call that a task is in, as it was called, or "" if that is not
    known.
    """
    events = [] if trace is None else trace.events
    for i in range((len(events) if before is None else before) - 1, -1, -1):
        event = events[i]
        if event.task_id == task.id and event.kind == "syscall":
            return event.obj
    return ""


def stack_of(task: Task) -> tuple[str, ...]:
    """Never sleeps.  A task's call trace, innermost first: where it stands now."""
    return call_trace(sys._getframe(1)) if task is K.cur else parked_at(task)


def quietly(fn: Callable[[], Any]) -> Any:
    """Never sleeps.  Call a function that only looks: nothing in it is a scheduling point."""
    clock = K.machine.clock
    cur, left, trace = K.cur, K.left, K.trace
    held, ctx = clock.held, clock.ctx
    K.left = INF
    K.trace = None
    K.cur = clock
    try:
        return fn()
    finally:
        K.cur, K.left, K.trace = cur, left, trace
        clock.held, clock.ctx = held, ctx
