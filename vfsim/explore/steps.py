"""What a run did, step by step, as the search by partial orders needs to know it.

A *step* is what a task does between two scheduling points: the operation that it announced, and
whatever follows until it announces the next one.  `Step` says which objects it touched and how, and
what could have kept another task from running instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.explore.record import entries_of, takes
from vfsim.locks.rcu import SECTION
from vfsim.sim.cpu import Cpu
from vfsim.sim.task import DONE, SOFTIRQ, TASK

if TYPE_CHECKING:
    from vfsim.sim.task import Task

Print = frozenset[tuple[str, Any]]
"""What a step touched, in words that mean the same in another run that came to the same state:

pairs of a kind and "op" (the announced object), a place in the held stack, "cpu", "task" or
"clock" or "rcu".  None stands for an object that has no such name.
"""


class Step:
    """One step of one task.

    Attributes:
        task: its id.  level: `TASK`, `SOFTIRQ` or `HARDIRQ`.
        previous: the task's step before this one, or -1.
        cause: the step that made it possible: it woke, started or posted the task; or -1.
        node: which decision of the search it was; -1 if there was no decision.
        touched: the operations, as (kind, object).
        takes: the lock with one owner that must be free for it, or None.
        cpu, begun, nopreempt, irqs_off, bh_off: of the task when the step began; ``begun`` means
            that it had the CPU already.
        held: the entries of its held stack when the step began.
    """

    __slots__ = (
        "begun", "bh_off", "cause", "cpu", "held", "irqs_off", "level", "node", "nopreempt",
        "previous", "takes", "task", "touched",
    )  # fmt: skip

    def __init__(self, task: Task, previous: int, cause: int, node: int) -> None:
        ctx = task.ctx
        kind = task.pending[0]
        self.task = task.id
        self.level = task.kind
        self.previous = previous
        self.cause = cause
        self.node = node
        self.touched: list[tuple[str, Any]] = []
        self.takes = takes(task)
        self.cpu = task.cpu.index
        self.begun = kind != "start"
        self.nopreempt = ctx.nopreempt
        self.irqs_off = ctx.irqs_off
        self.bh_off = ctx.bh_off
        self.held = entries_of(task.held)

    def keeps_out(self, other: Step) -> bool:
        """Whether ``other`` could not be done while this task was about to do this step."""
        if other.takes is not None and any(entry is other.takes for entry in self.held):
            return True
        if self.cpu != other.cpu or not self.begun:
            return False
        if other.level == TASK:
            return self.nopreempt
        return self.irqs_off or (other.level == SOFTIRQ and self.bh_off)

    def possession(self, task: Task) -> list[tuple[str, Any]]:
        """What the step, now done, means for others of its CPU: it used it, and may keep it."""
        cpu = task.machine.cpus[self.cpu]
        ctx = task.ctx
        if self.level != TASK:
            once = not self.begun and task.state is DONE
            return [("use_irq" if once or self.middle(task) else "keep_irq", cpu)]
        found = [("use", cpu)]
        if ctx.nopreempt is not self.nopreempt:
            found.append(("keep", cpu))
        if ctx.irqs_off is not self.irqs_off or ctx.bh_off is not self.bh_off:
            found.append(("keep_irq", cpu))
        return found

    def middle(self, task: Task) -> bool:
        """Whether a handler's step is neither its first nor its last."""
        return self.begun and task.state is not DONE

    def print(self, task: Task, op: Any) -> Print:
        """What it touched, in words; ``op`` is the object that ``task`` had announced."""
        return frozenset((kind, self._word(task, op, obj)) for kind, obj in self.touched)

    def _word(self, task: Task, op: Any, obj: Any) -> Any:
        if obj is op:
            return "op"
        if obj is task:
            return "task"
        if obj is task.machine.clock:
            return "clock"
        if isinstance(obj, Cpu):
            return "cpu"
        if obj is SECTION:
            return "rcu"
        return next((i for i, entry in enumerate(self.held) if entry is obj), None)


def meaning(task: Task, word: Any) -> Any:
    """The object that a word of a `Print` means for a task that is about to do the step."""
    if word == "op":
        return task.pending[1]
    if word == "task":
        return task
    if word == "clock":
        return task.machine.clock
    if word == "cpu":
        return task.cpu
    if word == "rcu":
        return SECTION
    return entries_of(task.held)[word]
