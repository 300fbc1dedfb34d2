"""URW, the uniform random walk over interleavings: who has more left to do is more likely to go.

From Zhao, Wolff, Mathur and Roychoudhury, "Selectively uniform concurrency testing" (ASPLOS 2025).
A walk that gives every task the same chance at every step does not give every *interleaving* the
same chance: with one operation against twenty, the short task is almost always early.  If each task
is picked in proportion to the operations it still has before it, all interleavings of independent
tasks are equally likely.  Operations of tasks that are not born yet count for their parent, so that
somebody who starts twenty tasks one by one does it early enough for them to meet.

How much everybody has to do is counted in the first schedules of a search, which are plain random
walks (`Counting`); `Uniform` is the searcher that keeps the counts.  The clock is a task whose
operations are the events of time, and handlers that the clock raised are its children.  The counts
are estimates: who has used up its share and still goes on counts as having one operation left.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from vfsim.explore.searcher import LEARNING
from vfsim.explore.strategies import numbers
from vfsim.explore.strategies.random_walk import RandomWalk

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

Counts = dict[str, int]
"""How many operations, by the id of the task."""


class Counting(RandomWalk):
    """A random walk that counts how often each task is picked: its operations."""

    __slots__ = ("_counts", "_machine", "_ticks")

    def start(self, machine: Machine) -> None:
        """Count from here."""
        super().start(machine)
        self._machine = machine
        self._ticks = machine.ticks
        self._counts: Counts = {}

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Anybody, and count them."""
        i = super().decide(ready, current)
        ident = ready[i].id
        self._counts[ident] = self._counts.get(ident, 0) + 1
        return i

    def counted(self) -> Counts:
        """After the run: everybody's operations.  Time also passes when nobody asks for it."""
        clock = self._machine.clock
        return {**self._counts, clock.id: self._machine.ticks - self._ticks}


def parent(ident: str, counts: Counts, clock: str = "clock") -> str:
    """Who is credited for a task before it is born: who made it, the clock, or nobody ("")."""
    above = ident.rpartition(".")[0]
    while above and above not in counts:
        above = above.rpartition(".")[0]
    if above or ident == clock:
        return above
    return clock if "#" in ident else ""


def with_children(counts: Counts) -> Counts:
    """Each task's operations and those of all who descend from it."""
    totals = dict.fromkeys(counts, 0)
    for ident, n in counts.items():
        above = ident
        while above:
            totals[above] = totals.get(above, 0) + n
            above = parent(above, counts)
    return totals


class URW:
    """In proportion to what is left to do.

    A task's ``prio`` is what it has left; 0 means that it was not met yet.

    Args:
        seed: of this schedule.
        totals: everybody's operations, those of descendants included.
    """

    gap = 1

    def __init__(self, seed: int, totals: Counts) -> None:
        self.random = Random(seed).random
        self.totals = totals

    def start(self, machine: Machine) -> None:
        """Forget what an earlier strategy left."""
        self.machine = machine
        machine.clock.prio = 0.0
        for task in machine.tasks:
            task.prio = 0.0
        self.odds = numbers.odds(self.random, machine)

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Somebody, in proportion; then they have one operation less."""
        if len(ready) == 1:
            chosen = ready[0]
            left = chosen.prio or self._meet(chosen)
            chosen.prio = max(left - 1.0, 1.0)
            return 0
        total = 0.0
        for task in ready:
            total += task.prio or self._meet(task)
        at = self.random() * total
        i = 0
        while (at := at - ready[i].prio) >= 0.0 and i < len(ready) - 1:
            i += 1
        ready[i].prio = max(ready[i].prio - 1.0, 1.0)
        return i

    def _meet(self, task: Task) -> float:
        """A task that was born since: it takes over its share from whoever was credited for it."""
        share = task.prio = float(max(self.totals.get(task.id, 1), 1))
        above = parent(task.id, self.totals)
        if above:
            for other in (*self.machine.tasks, self.machine.clock):
                if other.id == above and other.prio:
                    other.prio = max(other.prio - share, 1.0)
        return share

    def choose(self, kind: str, n: int) -> int:
        """Any number; a fault rarely."""
        return numbers.number(self.random, self.odds, kind, n)


class Uniform:
    """The searcher: `Counting` while it learns, then `URW` with the highest counts that were seen.

    Args:
        seed: of the search.
    """

    parallel = True
    claim = shortfall = ""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.totals: Counts = {}
        self._counts: Counts = {}
        self._last: Counting | None = None

    def strategy(self, index: int) -> Strategy | None:
        """A fresh one; there is always another."""
        seed = self.seed << 32 | index
        if index >= LEARNING:
            return URW(seed, self.totals)
        self._last = Counting(seed)
        return self._last

    def learn(self, index: int, run: Run) -> None:
        """Keep the counts of a counting run."""
        if index < LEARNING and self._last is not None:
            for ident, n in self._last.counted().items():
                self._counts[ident] = max(n, self._counts.get(ident, 0))
            self._last = None
            self.totals = with_children(self._counts)
