"""Who waits for whom: one graph over everything a task can wait for.

An edge goes from a task to each task that must act before it can go on:

=============================== ==================================================================
the task                        waits for
=============================== ==================================================================
sleeps or spins for a lock      its owner, or everybody who reads it
sleeps in a wait queue          whoever the waiter named as ``owner``, if anybody
waits for a grace period        the readers that were inside when it began
could run, but its CPU is held  whoever holds it: with preemption off, or an interrupt on top of it
sleeps with a timer             nobody: time will wake it
=============================== ==================================================================

Every edge must come true, so a task that can reach itself never runs again. That is looked for at
every wait (`stuck_on_itself`), where it costs a few steps; when nothing can run any more,
`why_stuck` explains the hang:

* ``wait.deadlock``: a cycle.
* ``wait.lost-wakeup``: what a sleeper waits for is true, or somebody did wake its queue before it
  slept, and nobody will do it again.
* ``wait.no-waker``: nothing in the world is going to do what a sleeper waits for. Obligations still
  open (a page that nobody unlocked, a writeback that never ended) are named.

A kernel thread asleep because it has nothing to do (``idle``) is no hang.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.blame import KERNEL, Culprit, blame, crossed
from vfsim.checks.history import chain, quietly, spelled, stack_of, taken
from vfsim.checks.obligations import Obligation, overdue, owed
from vfsim.sim.errors import Violation
from vfsim.sim.state import K
from vfsim.sim.task import BLOCKED, DONE, RUNNABLE, SOFTIRQ, SPINNING, TASK, Task

if TYPE_CHECKING:
    from vfsim.checks.lockdep import Lockdep
    from vfsim.sim.context import Ctx, Held
    from vfsim.sim.machine import Machine
    from vfsim.sim.trace import Trace


@attrs.frozen
class Link:
    """One task of a cycle: it waits for ``what``, which the next one has."""

    task: Task
    what: Any


# -- the graph -------------------------------------------------------------------------------------


def holders(obj: Any) -> list[Task]:
    """Never sleeps.  The tasks that must act before a wait for ``obj`` can end."""
    found = []
    owner = getattr(obj, "owner", None)
    if isinstance(owner, Task):
        found.append(owner)
    for reader in getattr(obj, "readers", None) or ():
        if isinstance(reader, Task):
            found.append(reader)
        else:
            found += holders(reader)
    return found


def keeps_off(task: Task) -> Task | None:
    """Never sleeps.  Who keeps a task that could run off its CPU, or None."""
    there = task.cpu.curr
    if there is None or there is task or there.state is DONE:
        return None
    ctx = there.ctx
    if task.kind == TASK:
        kept = ctx.nopreempt
    else:
        kept = ctx.irqs_off or (task.kind == SOFTIRQ and ctx.bh_off)
    return there if kept else None


def waits_for(task: Task) -> list[Link]:
    """Never sleeps.  The edges of one task: each with the task it leads to."""
    if task.state is BLOCKED or task.state is SPINNING:
        if task.timer:
            return []
        what = task.waits_on
        return [Link(other, what) for other in holders(what)]
    if task.state is DONE or task is K.cur:
        return []
    other = keeps_off(task)
    return [] if other is None else [Link(other, other.cpu)]


def cycle_through(start: Task) -> list[Link] | None:
    """Never sleeps.  A cycle from a task back to itself, in order, or None."""
    seen = {start: None}
    paths: list[tuple[Task, list[Link]]] = [(start, [])]
    while paths:
        task, path = paths.pop()
        for link in waits_for(task):
            longer = [*path, Link(task, link.what)]
            if link.task is start:
                return longer
            if link.task not in seen:
                seen[link.task] = None
                paths.append((link.task, longer))
    return None


# -- at every wait ---------------------------------------------------------------------------------


def stuck_on_itself(task: Task, lockdep: Lockdep) -> Violation | None:
    """Never sleeps.  The violation if the wait that ``task`` begins can never end, or None."""
    what = task.waits_on
    if task.timer:
        return None
    if hasattr(what, "is_pin"):  # a lock: its owner is a plain field
        owner = what.owner
        if owner is None and not getattr(what, "readers", None):
            return None
        if (
            owner is not None
            and owner.state is RUNNABLE
            and not task.machine.sharing
            and owner is not task
        ):
            return None
    elif getattr(what, "who", None) is None and not getattr(what, "readers", None):
        return None
    cycle = quietly(lambda: cycle_through(task))
    return None if cycle is None else _deadlock(cycle, lockdep)


def _deadlock(cycle: list[Link], lockdep: Lockdep) -> Violation:
    task = cycle[0].task
    culprit = _whose(cycle, lockdep)
    lines = [line for link in cycle for line in describe(link.task)]
    if len(cycle) == 1 and _is_lock(cycle[0].what):
        name = cycle[0].what.name
        return Violation(
            "lockdep.recursion", "hard", culprit.owner, culprit.where,
            f"{task.name} waits for {name}, which it holds itself", task.name,
            tuple(lines), f"{name}, itself",
        )  # fmt: skip
    round = ", ".join(
        f"{link.task.name} waits for {thing(link.what)} of {after.task.name}"
        for link, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    )
    about = " ".join(sorted(thing(link.what) for link in cycle))
    return Violation(
        "wait.deadlock",
        "hard",
        culprit.owner,
        culprit.where,
        f"deadlock: {round}",
        task.name,
        tuple(lines),
        about,
    )


def _is_lock(obj: Any) -> bool:
    return hasattr(obj, "is_pin")


def _whose(cycle: list[Link], lockdep: Lockdep) -> Culprit:
    """Whose bug a cycle is: somebody who is not the kernel.

    First of those who wait, whoever was the last to do so; then who is called with the lock that
    the kernel takes again for him; then of those who took what they hold.
    """
    waiting = [_waiting_at(link.task) for link in cycle]
    others = [culprit for culprit in waiting if culprit.owner != KERNEL]
    if others:
        return min(others, key=lambda culprit: (culprit.owner, culprit.where))
    wanted = [link.what for link in cycle]
    if len(cycle) == 1:
        inside = crossed(cycle[0].task.held, wanted[0])
        if inside is not None:
            return inside
    for link in cycle:
        for lock, ctx in chain(link.task.held, link.task.ctx):
            if any(lock is w for w in wanted):
                culprit = lockdep.taker(ctx)
                if culprit.owner != KERNEL:
                    return culprit
    return waiting[0]


def _waiting_at(task: Task) -> Culprit:
    """Where a task waits, and whose that frame is."""
    if task is K.cur:
        return blame(task)
    frame = task.g.gr_frame if task.g is not None else None
    return Culprit(KERNEL, "") if frame is None else blame(task, frame)


# -- when nothing can run --------------------------------------------------------------------------


def why_stuck(machine: Machine, lockdep: Lockdep) -> Violation:
    """Never sleeps.  Explain why nothing can run although tasks are left.

    A broken duty that somebody waits for is recorded by itself, under its own rule, first.
    """
    stuck = [t for t in machine.tasks if t.alive and not t.daemon]
    violation: Violation = quietly(lambda: _explain(machine, stuck, lockdep))
    if violation.rule == "wait.no-waker":
        overdue(machine, lambda key: any(_names(key, t.waits_on) for t in stuck))
    return violation


def _explain(machine: Machine, stuck: list[Task], lockdep: Lockdep) -> Violation:
    for task in machine.tasks:
        cycle = cycle_through(task) if task.alive else None
        if cycle is not None:
            return _deadlock(cycle, lockdep)
    ends: dict[Task, None] = {}
    for task in stuck:
        for end in _ends(task):
            ends[end] = None
    for end in ends:
        why = _already_true(end)
        if why:
            return _hang(
                "wait.lost-wakeup",
                end,
                stuck,
                f"{end.name} sleeps for {thing(end.waits_on)}, {why}",
            )
    return _no_waker(machine, next(iter(ends)), stuck, lockdep)


def _ends(start: Task) -> list[Task]:
    """The ends of the chains from ``start``: tasks that wait for nobody in particular."""
    found, queue, seen = [], [start], {start: None}
    for task in queue:
        links = waits_for(task)
        if not links:
            found.append(task)
        for link in links:
            if link.task not in seen:
                seen[link.task] = None
                queue.append(link.task)
    return found


def _already_true(task: Task) -> str:
    """Why a sleeper should not sleep, or ""."""
    waiter = task.waits_on
    queue = getattr(waiter, "queue", None)
    if task.state is not BLOCKED or queue is None or not hasattr(waiter, "condition"):
        return ""
    if waiter.condition is not None:
        try:
            ready = bool(waiter.condition())
        except Exception:  # it is somebody else's code, and may need its task to run
            return ""
        return "which has happened, but nobody woke it" if ready else ""
    if queue.missed is not None:
        return f"and {queue.missed.name} did wake that queue, but before it slept"
    return ""


def _no_waker(machine: Machine, end: Task, stuck: list[Task], lockdep: Lockdep) -> Violation:
    duties: list[Obligation] = owed(machine)
    about = [o for o in duties if any(_names(o.key, t.waits_on) for t in (end, *stuck))]
    extra = [
        f"still owed: {o.what} [{o.rule}], by {o.site.title}() since {o.since} ns"
        for o in about or duties
    ]
    waiter = next((t for t in stuck if end in holders(t.waits_on)), stuck[0])
    culprit = Culprit(about[0].site.blamed, about[0].site.where) if about else _waiting_at(waiter)
    if end.state is DONE:
        held = list(chain(end.held, end.ctx))
        takers = [lockdep.taker(ctx) for _, ctx in held]
        if not about:
            culprit = next((c for c in takers if c.owner != KERNEL), culprit)
        names = ", ".join(spelled(lock, ctx.key) for lock, ctx in held)
        still = f"and still has {names}" if names else "without doing it"
        summary = f"{waiter.name} waits for {thing(waiter.waits_on)}, but {end.name} ended {still}"
    elif end is not waiter and getattr(end.waits_on, "idle", False):
        what = f"{thing(waiter.waits_on)} of {end.name}"
        summary = f"{waiter.name} waits for {what}, which has nothing to do"
    else:
        waiter = end
        summary = (
            f"{end.name} waits for {thing(end.waits_on)}, and nobody is left who would wake it"
        )
    return _hang("wait.no-waker", waiter, stuck, summary, culprit, extra)


def _names(key: Any, what: Any) -> bool:
    """Whether a duty's key names the thing waited for, or the object that has it as a field."""
    queue = getattr(what, "queue", what)
    for part in key if isinstance(key, tuple) else (key,):
        fields = [
            n for k in type(part).__mro__ for n in getattr(k, "__slots__", ()) if isinstance(n, str)
        ]
        if part is queue or any(
            getattr(part, name, None) is queue for name in fields if name[:2] != "__"
        ):
            return True
    return False


def _hang(
    rule: str,
    task: Task,
    stuck: list[Task],
    summary: str,
    culprit: Culprit | None = None,
    extra: list[str] | None = None,
) -> Violation:
    culprit = culprit or _waiting_at(task)
    lines = [line for t in stuck for line in describe(t)]
    lines += [
        f"{t.name} counts on {', '.join(o.name for o in holders(t.waits_on))}"
        for t in stuck
        if holders(t.waits_on)
    ]
    return Violation(
        rule,
        "hard",
        culprit.owner,
        culprit.where,
        summary,
        task.name,
        (*lines, *(extra or ())),
        thing(task.waits_on),
    )


# -- in words --------------------------------------------------------------------------------------


def thing(obj: Any) -> str:
    """Never sleeps.  What is waited for, in a word or two."""
    queue = getattr(obj, "queue", None)
    name = getattr(queue if queue is not None else obj, "name", None)
    return str(name) if name else repr(obj).strip("<>")


def describe(task: Task) -> list[str]:
    """Never sleeps.  What a task waits for and what it holds, as lines."""
    waits = task.state is BLOCKED or task.state is SPINNING
    lines = []
    if not waits and task is not K.cur and (other := keeps_off(task)) is not None and task.alive:
        lines.append(f"{task.name} could run, but {other.name} keeps {task.cpu!r}")
    return lines + state_lines(
        task.machine.trace, task, task.state, task.waits_on, task.held, task.ctx, stack_of(task)
    )


def state_lines(
    trace: Trace | None,
    task: Task,
    state: str,
    waits_on: Any,
    held: Held | None,
    ctx: Ctx,
    stack: tuple[str, ...],
    at: int | None = None,
) -> list[str]:
    """Never sleeps.  The same of a task as it was at event number ``at``."""
    lines = []
    waits = state is BLOCKED or state is SPINNING
    if waits:
        where = f", at {stack[0]}" if stack else ""
        lines.append(
            f"{task.name} {'sleeps' if state is BLOCKED else 'spins'} for {thing(waits_on)}{where}"
        )
    for entry, inside in chain(held, ctx):
        if waits and entry is waits_on:  # a spinning waiter has the lock on its stack already
            continue
        label = "" if trace is None else trace.label(entry)
        which = f" #{label.rpartition('#')[2]}" if "#" in label else ""  # as the columns call it
        event = taken(trace, task, entry, at)
        where = f", taken at {event.where}" if event is not None and event.where else ""
        lines.append(f"{task.name} holds {spelled(entry, inside.key)}{which}{where}")
    return lines


def dump_tasks(machine: Machine) -> str:
    """Never sleeps.  The state of every task of a world, for people."""
    lines = []
    for task in machine.tasks:
        role = (
            "kernel thread"
            if task.daemon
            else ("task", "softirq handler", "hardirq handler")[task.kind]
        )
        lines.append(
            f"{task.name} ({task.id}), {role} of {task.owner} on {task.cpu!r}: {task.state}"
        )
        lines += [f"    {line}" for line in quietly(partial(describe, task))]
        lines += [f"    {line}" for line in stack_of(task)[:6]]
    return "\n".join(lines) or "no tasks"
