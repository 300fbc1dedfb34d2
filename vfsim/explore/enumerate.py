"""Every schedule of a program, one after the other: for tiny programs, and to check `dpor` against.

A schedule is a path in the tree of all answers a strategy could give: who runs next wherever more
than one could (the clock too), and every number that is chosen.  `Enumerate` walks the tree depth
first.  It leaves nothing out, so it is only for programs of a dozen operations: three tasks of
four operations have 34,650 schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.explore.record import Recorder
from vfsim.sim.task import START, TASK

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class _Path:
    """A strategy that follows a path of answers and takes the first ones beyond its end.

    Attributes:
        taken, offered: the answer at each question so far, and how many there were.
        begun: tasks that have not begun do so first, which is no question.
    """

    gap = 1

    def __init__(self, answers: list[int], begun: bool) -> None:
        self.taken = answers
        self.begun = begun
        self.offered: list[int] = []

    def start(self, machine: Machine) -> None:
        """At the root again."""
        self.offered.clear()

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The next answer of the path."""
        if self.begun:
            for i, task in enumerate(ready):
                if task.pending is START and task.kind == TASK:
                    return i
        return self.choose("", len(ready))

    def choose(self, kind: str, n: int) -> int:
        """The next answer of the path."""
        depth = len(self.offered)
        self.offered.append(n)
        if depth == len(self.taken):
            self.taken.append(0)
        return self.taken[depth]


class Enumerate:
    """The searcher that leaves nothing out (see `vfsim.explore.dpor` for what a searcher is).

    Args:
        begun: let every task begin first, in the order of the tasks.  Where tasks do nothing that
            others see before their first scheduling point (set no timer), this leaves out no class
            of interleavings, and most of the schedules.

    Attributes:
        executions: how many schedules were run.
        finished: there are no more.
    """

    parallel = False
    claim = "every schedule was run"
    shortfall = ""

    def __init__(self, begun: bool = False) -> None:
        self.executions = 0
        self.finished = False
        self._path = _Path([], begun)

    def strategy(self, index: int) -> Strategy | None:
        """The strategy of the next schedule, or None if all were run."""
        return None if self.finished else Recorder(self._path)

    def learn(self, index: int, run: Run) -> None:
        """Go on to the next path: the last answer that can be another is."""
        self.executions += 1
        taken, offered = self._path.taken, self._path.offered
        del taken[len(offered) :]
        while taken and taken[-1] + 1 >= offered[len(taken) - 1]:
            taken.pop()
        if taken:
            taken[-1] += 1
            self._path = _Path(taken, self._path.begun)
        else:
            self.finished = True

    def __str__(self) -> str:
        how = "exhaustive" if self.finished else "not exhaustive"
        return f"{how}: {self.executions} schedules"
