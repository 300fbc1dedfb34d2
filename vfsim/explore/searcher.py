"""The seam of the search: which strategy runs schedule number so and so, and what is learned of it.

The loop (`vfsim.explore.explore.search`) asks a `Searcher` for the strategy of each schedule and
tells it what came of it::

    searcher.strategy(0)  →  run  →  searcher.learn(0, run)  →  searcher.strategy(1)  →  …

There are two kinds.  A *parallel* one makes strategies from (seed, number) and from what the first
`LEARNING` schedules told: after those, the numbers are shared out among processes, and ``--jobs``
does not change the result.  One that is not parallel chooses each schedule by what the last one
showed (systematic searches); its schedules run one after the other in the parent process.

`Seeded` makes a searcher of any strategy that needs a seed and the expected length alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.explore.strategies import Maker
    from vfsim.sim.choice import Strategy

LEARNING = 3
"""How many schedules at the beginning run one after the other, each of them twice.

A parallel searcher learns from these alone; all of them must run the same way both times.
"""

_LENGTH = 100  # how many points a run has, before anything is known


class Searcher(Protocol):
    """Decides what is run.

    Attributes:
        parallel: after the first `LEARNING` schedules, strategies depend on their number only.
        claim: what it means that nothing is left (`strategy` gave None): "every schedule with at
            most 2 delays was run".
        shortfall: why something was cut off, though nothing is left; "" if nothing was.
    """

    parallel: bool

    @property
    def claim(self) -> str: ...

    @property
    def shortfall(self) -> str: ...

    def strategy(self, index: int) -> Strategy | None:
        """The strategy of schedule ``index``; None: nothing is left.

        Asked again for the same number before `learn`, it gives the same one, made anew.
        """

    def learn(self, index: int, run: Run) -> None:
        """What schedule ``index`` came to.

        Called once for each, in order; the strategy object that `strategy` gave last for this
        number has then been through the run, so it may have kept what it saw.  In a parallel
        search nothing reaches the strategies after the first `LEARNING` calls.
        """


class Seeded:
    """A strategy for each number, made from a seed and the expected length.

    Args:
        make: makes the strategy of one schedule.
        seed: of the search.
    """

    parallel = True
    claim = shortfall = ""

    def __init__(self, make: Maker, seed: int) -> None:
        self.make = make
        self.seed = seed
        self.length = _LENGTH
        self._steps: list[int] = []

    def strategy(self, index: int) -> Strategy | None:
        """A fresh one; there is always another."""
        return self.make(self.seed << 32 | index, self.length)

    def learn(self, index: int, run: Run) -> None:
        """The median of the first few is how many points a run is expected to pass.

        Not the longest: that may have spun on somebody who was not let run.
        """
        if index < LEARNING:
            self._steps.append(run.steps)
        if index == LEARNING - 1:
            self.length = sorted(self._steps)[LEARNING // 2] or self.length
