"""Vector clocks: what came before what.

Two operations are ordered if they are of one task, or if something leads from the one to the other:
a lock released and then taken, a wake-up, a task or interrupt started, a grace period that waited.
What nothing orders could as well have happened the other way round, or at once.

A task's life is cut into epochs, a new one whenever something of it becomes visible to others
(`publish`).  An `Epoch` has a number and knows which epochs of others came before it (``seen``).
What others learn is an epoch that has ended and never changes; ``task.epoch`` is the one that goes
on, known to nobody else.  So "did that come before me?" is one dictionary lookup, and taking a lock
that one released oneself costs nothing.  Source: Flanagan and Freund, "FastTrack" (PLDI 2009).

A task that is alone has no epoch: nobody runs beside it, no handler waits, no device is plugged in,
so all that it does comes before whatever others will do.  It gets one when it starts somebody.  RCU
callbacks that do nothing but free are nobody (`vfsim.checks.lifetime.only_frees`).

Which operations publish and learn is said in `vfsim.checks.clocks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.state import K
from vfsim.sim.task import DONE, TASK

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class Epoch:
    """A stretch of one task's life between two moments at which others may learn of it.

    Attributes:
        who: the task, or the `Chain` of handlers; None for a sum of several epochs.
        n: its number.
        seen: the last epoch of everybody else that came before it.
    """

    __slots__ = ("n", "seen", "who")

    def __init__(self, who: Any, n: int, seen: dict[Any, int]) -> None:
        self.who = who
        self.n = n
        self.seen = seen

    def after(self, other: Epoch) -> bool:
        """Never sleeps.  Whether what was done in ``other`` came before this."""
        return other.who is self.who or self.seen.get(other.who, -1) >= other.n


class Chain:
    """The handlers of one kind on one CPU, which follow each other like the steps of one task."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = Epoch(self, 0, {})


CLOCKS: dict[Any, Epoch] = {}
"""What was published through an object last: a lock, a queue, a field that orders."""
READERS: dict[Any, Epoch] = {}
"""What the readers of a semaphore have published since it was last written."""
CHAINS: dict[tuple[int, int], Chain] = {}
"""By CPU and kind of handler."""
POSTS: dict[Any, Epoch] = {}
"""By handler or timer: what came before it was made."""
ENDED: dict[Any, int] = {}
"""The last epochs of tasks that have ended."""
NOTHING = Epoch(None, 0, {})


VETERANS: set[Task] = set()
"""Who was alone once: nobody saw what they used then."""
ALONE = [False]
"""There is one task, and nobody else who could act: it has no epoch, and nothing is looked at."""


def begin(machine: Machine, always: bool = False) -> None:
    """A machine begins to run: nothing has happened yet.

    Everything was still until now, so all that was done in earlier runs came before all that
    follows, and need not be remembered.  Nor need be what a task does while it is alone: it comes
    before all that others will do (see `company`).

    Args:
        always: give epochs also to who is alone.
    """
    for table in (CLOCKS, READERS, CHAINS, POSTS, ENDED, VETERANS):
        table.clear()
    living = sum(task.state is not DONE for task in machine.tasks)
    ALONE[0] = not (always or living > 1 or machine.heap or machine.events or machine.env.used)
    for task in machine.tasks:
        task.epoch = None if ALONE[0] or task.kind != TASK else Epoch(task, 0, {})


def company(machine: Machine) -> None:
    """Never sleeps.  Somebody is about to come who acts beside the tasks: nobody is alone now."""
    if ALONE[0]:
        ALONE[0] = False
        for task in machine.tasks:
            if task.kind == TASK:
                task.epoch = Epoch(task, 0, {})
                VETERANS.add(task)


def everything(machine: Machine) -> Epoch:
    """Never sleeps.  The sum of all that tasks and handlers did until now."""
    seen = dict(ENDED)
    for chain in CHAINS.values():
        seen[chain] = chain.last.n
    for task in machine.tasks:
        if task.epoch is not None:
            ended = publish(task)
            seen[ended.who] = ended.n
    return Epoch(None, 0, seen)


def publish(task: Task) -> Epoch:
    """Never sleeps.  End the task's epoch: what it did so far, for others to learn."""
    ended: Epoch = task.epoch
    task.epoch = Epoch(ended.who, ended.n + 1, ended.seen)
    return ended


def learn(task: Task, epoch: Epoch) -> None:
    """Never sleeps.  What was published came before all that the task does from now on."""
    mine: Epoch = task.epoch
    if epoch.who is mine.who or mine.seen.get(epoch.who, -1) >= epoch.n:
        return
    mine.seen = merged(mine, epoch, keep=False).seen
    mine.seen.pop(mine.who, None)


def merged(one: Epoch, other: Epoch, keep: bool = True) -> Epoch:
    """Never sleeps.  The sum of two epochs; without ``keep``, of what ``one`` saw and the other."""
    seen = dict(one.seen)
    for who, n in other.seen.items():
        if seen.get(who, -1) < n:
            seen[who] = n
    for epoch in (one, other) if keep else (other,):
        if epoch.who is not None and seen.get(epoch.who, -1) < epoch.n:
            seen[epoch.who] = epoch.n
    return Epoch(None, 0, seen)


def release(key: Any) -> None:
    """Never sleeps.  What the task did so far comes before whoever acquires ``key`` next."""
    t = K.cur
    if t.epoch is not None:
        CLOCKS[key] = publish(t)


def add(table: dict[Any, Epoch], key: Any) -> None:
    """Never sleeps.  As `release`, beside what others released."""
    t = K.cur
    if t.epoch is not None:
        mine = publish(t)
        before = table.get(key)
        table[key] = mine if before is None or mine.after(before) else merged(before, mine)


def acquire(key: Any) -> None:
    """Never sleeps.  What was released through ``key`` comes before what the task does next."""
    e = CLOCKS.get(key)
    if e is not None:
        t = K.cur
        mine = t.epoch
        if mine is not None and e.who is not mine.who and mine.seen.get(e.who, -1) < e.n:
            learn(t, e)
