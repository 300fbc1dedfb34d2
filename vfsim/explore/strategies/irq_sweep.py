"""The sweep of interrupts: one interrupt, or one tick of the clock, at each point where one can be.

A bug such as "the lock was taken with interrupts on" needs an interrupt inside a window of two or
three operations.  Random strategies rarely put one there; trying every place is linear in the
length of a run, so it is done systematically.

The first schedule is undisturbed: nobody is preempted, and time passes only when everybody waits.
It tells at which points time could pass early, or a pending handler could run.  Each further
schedule does that at one of them: it lets time pass to the next event, and whatever handlers that
raises (a hardirq, and the softirq which it raises) run at once.  From there on it is undisturbed
again.  Past half of the steps that a run has, tasks take turns: somebody may be spinning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.task import TASK

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

Place = tuple[int, int]
"""Which decision of the run, and the index of the clock or of a handler in it."""


class OneInterrupt:
    """Undisturbed, except for one interrupt.

    Args:
        place: where; None for nowhere, and then the places where one could be are collected.

    Attributes:
        places: all of them, in order.
    """

    gap = 1

    def __init__(self, place: Place | None = None) -> None:
        self.place = place
        self.places: list[Place] = []

    def start(self, machine: Machine) -> None:
        """No decision was made yet."""
        self.machine = machine
        self.clock = machine.clock
        self.fair_after = machine.max_steps // 2
        self.decisions = 0
        self.delivering = False

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The interrupt at its place, and its handlers at once; else the default."""
        number = self.decisions
        self.decisions += 1
        if self.machine.steps > self.fair_after:
            return min(1, len(ready) - 1)
        if self.place is None:
            for i, task in enumerate(ready):
                if i and (task.kind != TASK):
                    self.places.append((number, i))
        elif number == self.place[0]:
            self.delivering = True
            return self.place[1]
        elif self.delivering:
            for i, task in enumerate(ready):
                if task.kind != TASK and task is not self.clock:
                    return i
            self.delivering = False
        return 0

    def choose(self, kind: str, n: int) -> int:
        """The default."""
        return 0


class IrqSweep:
    """The searcher: the undisturbed run, and then one schedule for each place."""

    parallel = True
    shortfall = ""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._undisturbed: OneInterrupt | None = None

    @property
    def claim(self) -> str:
        """What was swept."""
        n = len(self._places)
        return f"one interrupt or tick at each of {n} place{'s' * (n != 1)} of the undisturbed run"

    def strategy(self, index: int) -> Strategy | None:
        """The undisturbed run, or the interrupt at the next place."""
        if index == 0:
            self._undisturbed = OneInterrupt()
            return self._undisturbed
        return OneInterrupt(self._places[index - 1]) if index <= len(self._places) else None

    def learn(self, index: int, run: Run) -> None:
        """The undisturbed run tells the places."""
        if index == 0 and self._undisturbed is not None:
            self._places = self._undisturbed.places
            self._undisturbed = None
