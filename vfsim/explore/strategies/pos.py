"""POS, partial order sampling: priorities that are redrawn where the order matters.

From Yuan, Yang and Gu, "Partial order aware concurrency sampling" (CAV 2018).  Every pending
operation has a random priority and the highest goes first.  Whoever went gets a new one for its
next operation, and so does everybody whose pending operation *conflicts* with what was done: the
two orders of a conflict become equally likely, whatever else runs beside it.  Steps of unrelated
tasks therefore do not dilute the search, as they do in a random walk.

The clock, whose turn means that time passes although somebody could run, is less eager: how much
less is drawn once per execution, so that in some runs a millisecond is a few steps long, and in
others a few hundred.

Nobody is slow for ever.  Who conflicts with nothing keeps a low priority for good, while a flusher
that looks again every few seconds is a new task each time; and who tries for a lock again and again
(`cpu_relax`) does nothing that its holder's next step conflicts with.  So after every few turns of
the clock, or of who wants to let others run first, all priorities are drawn again.

What conflicts is decided by the table of `vfsim.explore.dependency`.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from vfsim.explore.dependency import dependent
from vfsim.explore.strategies import numbers

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

PATIENCE = (1, 4, 16, 64)
"""The clock's priority is a random number to one of these powers."""

FAIR = 8
"""Turns of the clock, or of who lets others run first, that one who could run is overtaken by."""


class POS:
    """Highest priority first; new priorities for who went and for what conflicts with it.

    A task's ``prio`` of 0 means "to be drawn": so new tasks need no registration.
    """

    gap = 1
    odds = 0.0
    clock: Task | None = None
    turns = 0

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random

    def start(self, machine: Machine) -> None:
        """Forget priorities that an earlier strategy left."""
        self.clock = machine.clock
        machine.clock.prio = 0.0
        self.odds = numbers.odds(self.random, machine)
        self.patience = PATIENCE[int(self.random() * len(PATIENCE))]
        self.turns = 0
        for task in machine.tasks:
            task.prio = 0.0

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The highest priority; then redraw."""
        if len(ready) == 1:
            return 0
        best = 0
        highest = -1.0
        for i, task in enumerate(ready):
            prio = task.prio
            if not prio:
                prio = self.random()
                if task is self.clock:
                    prio **= self.patience
                task.prio = prio
            if prio > highest:
                highest = prio
                best = i
        chosen = ready[best]
        chosen.prio = 0.0
        done = chosen.pending
        if chosen is self.clock or done[0] == "yield":
            self.turns += 1
            if self.turns % FAIR == 0:
                for task in ready:
                    task.prio = 0.0
        elif done[1] is not None:
            for task in ready:
                if task.prio and dependent(done, task.pending):
                    task.prio = 0.0
        return best

    def choose(self, kind: str, n: int) -> int:
        """Any number; a fault rarely."""
        return numbers.number(self.random, self.odds, kind, n)
