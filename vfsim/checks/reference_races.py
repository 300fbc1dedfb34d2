"""The slow, obvious race finder: which fields race, from nothing but a trace's events.

The fast path keeps clocks and compares an access with the few it remembers. This file does none of
that. It walks the events of one run in order, notes for each event which earlier ones lead to it,
takes the closure as sets of event numbers, and compares every two accesses to a field. It imports
nothing of the fast path; a test holds the two to the same fields on many random programs.

What leads to an event, beside the task's own event before it:

==========================================  ====================================================
event                                       is led to by
==========================================  ====================================================
any of a task that has, or asks for, a lock each earlier release of the lock, unless both share it
``read_begin``                              each earlier ``seq_end`` of the counter
the first of a task                         its ``spawn``
the first of a handler                      its ``post``; the end of the handler before it on that
                                            CPU; every earlier moment when such handlers were let in
                                            there
interrupts (softirqs) go off                the end of the last handler that is kept away
``woken``, but not by time                  the event of the task that ran
``synchronize_rcu``                         every earlier event
``woken`` from a grace period               the end of each section that it waited for
==========================================  ====================================================

A ``post`` is no event of an ordinary trace: a machine that is to be judged here adds them.
Callbacks of `call_rcu` are not followed: `races` says nothing (None) of a run that has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vfsim.checks.reference import HARDIRQ, ORDERED, RELEASES, SOFTIRQ, Doing, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.sim.trace import Event


LOCKS = tuple(family for family in ORDERED if family not in ("work", "workqueue", "fs_reclaim"))
"""What keeps others out, and is more than a word to the order rules."""


class Access(NamedTuple):
    """One access to a field, and what kept others away."""

    event: int
    task: str
    write: bool
    cpu: int
    level: int
    locks: tuple[tuple[str, bool], ...]
    hard_off: bool
    soft_off: bool


class Release(NamedTuple):
    """A lock was let go."""

    event: int
    task: str
    label: str
    shared: bool


class Order:
    """The events of one run, and what came before each."""

    def __init__(self) -> None:
        self.state = Reference()
        self.past: list[set[int]] = []
        self.last: dict[str, int] = {}  # a task's last event
        self.made: dict[str, int] = {}  # where a task or handler was made
        self.ended: dict[tuple[int, int], int] = {}  # by CPU and level: the last handler's end
        self.let_in: list[tuple[int, int, int]] = []  # event, CPU, and the level from which on
        self.releases: list[Release] = []
        self.waits: dict[str, tuple[int, list[str]]] = {}  # grace periods: since when, for whom
        self.left: list[tuple[int, str]] = []  # ends of read sections
        self.ran = -1  # the last event of whoever runs
        self.accesses: dict[str, list[Access]] = {}

    def step(self, n: int, event: Event, races_of: str) -> None:
        """One event.  ``races_of``: how the labels of fields end that are looked at."""
        task = self.state.tasks.get(event.task_id)
        before: list[int] = []
        if task is None:
            before += self.begins(event)
        else:
            before.append(self.last[event.task_id])
            self.lets_in(n, task, event)
        if event.kind == "woken":
            before += self.woken(event)
        elif event.kind == "synchronize_rcu":
            before += range(n)
            readers = [
                t.id
                for t in self.state.tasks.values()
                if any(h.family == "rcu_read_lock" for h in t.held)
            ]
            self.waits[event.task_id] = (n, readers)
        elif event.kind == "read_begin":
            before += [
                r.event for r in self.releases if r.label == event.obj and r.task != event.task_id
            ]
        self.state.step(event)
        task = self.state.tasks.get(event.task_id)
        if task is not None:
            before += self.locked(task)
            before += self.keeps_away(task, event)
            if event.kind in ("read", "write") and event.obj.endswith(races_of):
                self.access(n, task, event)
        self.past.append({n}.union(*(self.past[i] for i in before)))
        self.note(n, event)

    def begins(self, event: Event) -> list[int]:
        """What leads to the first event of a task or handler."""
        before = [self.made[event.task_id]] if event.task_id in self.made else []
        if event.level:
            before += [
                i for i, cpu, level in self.let_in if cpu == event.cpu and event.level <= level
            ]
            if (event.cpu, event.level) in self.ended:
                before.append(self.ended[event.cpu, event.level])
        return before

    def lets_in(self, n: int, task: Doing, event: Event) -> None:
        """Handlers were kept away, and a part of what keeps them ends now."""
        label = event.obj
        if event.kind in RELEASES:
            ends = [h for h in task.held if h.label == label and (h.irq or h.bh)]
        elif event.kind == "leave":
            ends = [
                h
                for h in task.held
                if h.family == label and label in ("interrupts off", "softirqs off")
            ]
        else:
            return
        if ends:
            self.let_in.append((n, event.cpu, HARDIRQ if task.hard_off() else SOFTIRQ))

    def keeps_away(self, task: Doing, event: Event) -> list[int]:
        """What leads to an event by which handlers are kept away from now on."""
        if event.kind != "enter" or not task.held:
            return []
        new = task.held[-1]
        hard = new.irq or new.family == "interrupts off"
        soft = hard or new.bh or new.family == "softirqs off"
        levels = [HARDIRQ] * hard + [SOFTIRQ] * soft
        return [self.ended[event.cpu, x] for x in levels if (event.cpu, x) in self.ended]

    def woken(self, event: Event) -> list[int]:
        before = [] if event.obj == "its timer" else [self.ran]
        if event.obj.startswith("GracePeriod"):
            since, readers = self.waits[event.task_id]
            before += [i for i, t in self.left if i > since and t in readers]
        return before

    def locked(self, task: Doing) -> list[int]:
        """The releases of what a task has, or asks for."""
        return [
            r.event
            for h in task.held
            for r in self.releases
            if r.label == h.label and r.task != task.id and not (r.shared and h.shared)
        ]

    def access(self, n: int, task: Doing, event: Event) -> None:
        locks = tuple((h.label, h.shared) for h in task.held if h.family in LOCKS)
        access = Access(
            n, task.id, event.kind == "write", event.cpu, event.level, locks,
            task.hard_off(), task.soft_off(),
        )  # fmt: skip
        self.accesses.setdefault(event.obj, []).append(access)

    def note(self, n: int, event: Event) -> None:
        """Remember an event for those to come."""
        self.last[event.task_id] = n
        if event.kind in ("spawn", "post"):
            self.made[event.ref.id] = n
        elif event.kind in RELEASES or event.kind in ("downgrade_write", "seq_invalidate"):
            shared = event.kind in ("up_read", "read_unlock")
            self.releases.append(Release(n, event.task_id, event.obj, shared))
        elif event.kind == "rcu_read_unlock":
            self.left.append((n, event.task_id))
        elif event.kind == "exit" and event.level:
            self.ended[event.cpu, event.level] = n
        if event.kind != "woken":
            self.ran = n

    def racing(self) -> set[str]:
        """The fields with two accesses that nothing orders and nothing keeps apart."""
        return {
            label
            for label, all_of_it in self.accesses.items()
            if any(
                one.event not in self.past[other.event] and not kept_apart(one, other)
                for k, other in enumerate(all_of_it)
                for one in all_of_it[:k]
                if one.task != other.task and (one.write or other.write)
            )
        }


def kept_apart(one: Access, other: Access) -> bool:
    """Whether two accesses can never happen at once."""
    for label, shared in one.locks:
        if any(label == also and not (shared and too) for also, too in other.locks):
            return True
    low, high = sorted((one, other), key=lambda access: access.level)
    if low.cpu != high.cpu or low.level == high.level:
        return False
    return low.hard_off or (high.level == SOFTIRQ and low.soft_off)


def races(events: Iterable[Event], races_of: str) -> set[str] | None:
    """The labels of the fields that race in a fully traced run, of those that end in
    ``races_of``; None if it cannot be told.
    """
    order = Order()
    seen = [e for e in events if e.task_id and e.kind != "BUG"]
    if any(e.kind == "call_rcu" for e in seen):
        return None
    for n, event in enumerate(seen):
        if order.state.over:
            break
        order.step(n, event, races_of)
    return order.racing()
