"""Auto: a portfolio, because no strategy is best at everything.

Of ten schedules four are POS's (the widest coverage), two PCT's and two URW's (which find what
needs one task to stay far behind or far ahead), one is a random walk's and one has two delays at
random steps.  Who runs a schedule depends on its number alone, so the result depends on neither
``--jobs`` nor the speed of the machine.  The first few are the random walks in which URW counts.

A search with it ends when the chance that another schedule shows something new has fallen below
`UNSEEN`, by Good and Turing's estimate (`vfsim.explore.coverage`), but not before `AT_LEAST`
schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.explore.searcher import LEARNING, Seeded
from vfsim.explore.strategies.delay import RandomDelays
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.explore.strategies.urw import Uniform

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.explore.searcher import Searcher
    from vfsim.sim.choice import Strategy

UNSEEN = 0.02
"""The search ends when the chance of something new is below this."""

AT_LEAST = 100
"""Schedules before an estimate is believed."""

TURNS = ("pos", "pct", "pos", "urw", "pos", "delay", "pos", "urw", "pct", "random")
"""Whose turn it is, by the last digit of the schedule's number."""


class Auto:
    """The searcher: everybody in turn.

    Args:
        seed: of the search.
    """

    parallel = True
    claim = shortfall = ""

    def __init__(self, seed: int) -> None:
        self.uniform = Uniform(seed)
        self.members: dict[str, Searcher] = {
            "pos": Seeded(lambda seed, _: POS(seed), seed),
            "pct": Seeded(PCT, seed),
            "urw": self.uniform,
            "delay": Seeded(RandomDelays, seed),
            "random": Seeded(lambda seed, _: RandomWalk(seed), seed),
        }

    def strategy(self, index: int) -> Strategy | None:
        """The one whose turn it is."""
        if index < LEARNING:
            return self.uniform.strategy(index)
        return self.members[TURNS[index % len(TURNS)]].strategy(index)

    def learn(self, index: int, run: Run) -> None:
        """Everybody learns from the first schedules."""
        for member in self.members.values():
            member.learn(index, run)
