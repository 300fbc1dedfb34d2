"""PCT, probabilistic concurrency testing: strict priorities that change at a few random steps.

From Burckhardt, Kothari, Musuvathi and Nagarakatte, "A randomized scheduler with probabilistic
guarantees of finding bugs" (ASPLOS 2010).  Each task gets a random priority and the highest that
can run does.  At ``depth - 1`` random steps the running task falls below everybody.  A bug that
needs ``depth`` ordering constraints is found with a probability of at least 1/(tasks *
steps^(depth-1)) per run: the only strategy here that states a bound.  Nobody knows a bug's depth
beforehand, and most need few: unless it is given, it is drawn anew for each run, from 2 to 5.

The steps are drawn from the expected length of a run, which the exploration learns from its first
schedules.  Those may have been short ones, so every second run reckons with twice or four times
that.  Three additions to the paper: who yields again and again falls below everybody (or two
tasks that yield to each other would starve the third); the clock draws a new priority after each
event, as if every event were a task of its own; and a run much longer than expected, or one in
which time passes again and again, goes on as a fair random walk, so that spinning on a starved task
ends.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from vfsim.explore.strategies import numbers
from vfsim.sim.state import INF, NOBODY, K
from vfsim.sim.task import BLOCKED, RUNNABLE, SPINNING

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

DEPTHS = (2, 3, 4, 5)
"""What the depth is drawn from."""

_STRETCH = (1, 1, 2, 4)  # times the expected length
_FAIR_AFTER = 20  # times the expected length, or half of the steps that there are
_PATIENCE = 32  # yields in a row before it falls


class PCT:
    """Strict priorities and ``depth - 1`` changes.

    Initial priorities lie between 1 and 2; those given at the changes lie below 1, and those of
    yielders below 0.

    Args:
        seed: of this schedule.
        length: how many points a run is expected to pass.
        depth: how many ordering constraints the bug may need; None: draw it.
    """

    def __init__(self, seed: int, length: int, depth: int | None = None) -> None:
        self.random = Random(seed).random
        self.length = max(length, 2)
        self.depth = depth
        self.gap = INF
        self.odds = 0.0
        self.lowest = 0.0
        self.leader: Task | None = None  # nobody alive is above it
        self.until = 0  # the step of the next change
        self.chosen: Task | None = None  # who was picked last
        self.patience = 0  # how often it may still yield and stay
        self.born = 0
        self.changes: list[tuple[int, float]] = []

    def start(self, machine: Machine) -> None:
        """Draw where priorities change, and to what."""
        self.machine = machine
        self.fair_after = min(self.length * _FAIR_AFTER, machine.max_steps // 2)
        self.leader = self.chosen = None
        machine.clock.prio = 0.0
        for task in machine.tasks:
            task.prio = 0.0
        self.odds = numbers.odds(self.random, machine)
        depth = self.depth or DEPTHS[int(self.random() * len(DEPTHS))]
        levels = [(i + 1) / (depth + 1) for i in range(depth - 1)]
        length = self.length * _STRETCH[int(self.random() * len(_STRETCH))]
        self.changes = sorted(
            ((1 + int(self.random() * length), level) for level in levels), reverse=True
        )

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The highest priority, after the changes that are due."""
        machine = self.machine
        steps = machine.steps
        if (
            ready[-1] is self.leader
            and self.patience
            and steps < self.until
            and self.born == machine.born
        ):
            self.patience -= 1  # it yielded, and is still the highest
            self.gap = self.until - steps
            return len(ready) - 1
        if steps + machine.ticks > self.fair_after:
            self.leader = None
            self.gap = 1
            return int(self.random() * len(ready))
        gave_up = K.cur
        if gave_up is not NOBODY and gave_up.state is RUNNABLE:
            while self.changes and self.changes[-1][0] <= steps:
                gave_up.prio = self.changes.pop()[1]
            if current is None:
                self._yielded(gave_up)
        best = self._highest(ready)
        self._set_gap(steps, ready[best])
        return best

    def _yielded(self, task: Task) -> None:
        if task is self.chosen and self.patience:
            self.patience -= 1
        else:
            self.lowest -= 1.0
            task.prio = self.lowest

    def _highest(self, ready: list[Task]) -> int:
        best = 0
        highest = -INF * 1.0
        for i, task in enumerate(ready):
            prio = task.prio
            if not prio:
                prio = task.prio = 1.0 + self.random()
            if prio > highest:
                highest = prio
                best = i
        return best

    def _set_gap(self, steps: int, chosen: Task) -> None:
        """To the next change, or each point while somebody of higher priority may be woken."""
        self.leader = None
        if chosen is self.machine.clock:
            chosen.prio = 0.0
            return
        if chosen is not self.chosen:
            self.chosen = chosen
            self.patience = _PATIENCE
        self.gap = (self.changes[-1][0] if self.changes else self.fair_after + 1) - steps
        for task in self.machine.tasks:
            if task.prio > chosen.prio and (task.state is BLOCKED or task.state is SPINNING):
                self.gap = 1
                return
        if self.gap <= 0:
            self.gap = 1
        self.leader = chosen
        self.until = steps + self.gap
        self.born = self.machine.born

    def choose(self, kind: str, n: int) -> int:
        """Any number; a fault rarely."""
        return numbers.number(self.random, self.odds, kind, n)
