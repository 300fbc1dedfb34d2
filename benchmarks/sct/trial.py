"""Trials: searches of one kernel with one strategy, each with a seed of its own.

A trial counts schedules until the bug shows itself, up to a cap.  A systematic strategy has no
chance in it, so one trial says all.  Seconds are the processor's, of the whole search.
"""

from __future__ import annotations

from statistics import mean, median
from time import process_time

import attrs

from benchmarks.sct.kernel import Kernel
from vfsim.explore.execute import execute
from vfsim.explore.strategies import is_systematic, searcher_of

MAX_STEPS = 5_000
"""Scheduling points of one schedule: a spinning task is given up then."""


@attrs.define
class Result:
    """What the trials of a kernel with a strategy came to.

    Attributes:
        counts: schedules until the bug, of the trials that found it.
        trials: how many there were.  schedules, seconds: of all of them together.
        exhausted: a systematic search ended without the bug.
        reported: in which schedule of the first trial something was reported first, if anything.
    """

    kernel: str
    mode: str
    strategy: str
    counts: list[int] = attrs.Factory(list)
    trials: int = 0
    schedules: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    reported: int | None = None

    @property
    def found(self) -> int:
        """How many trials found it."""
        return len(self.counts)

    @property
    def median(self) -> float | None:
        """Of the schedules until the bug; None if most trials did not find it."""
        missed = [float("inf")] * (self.trials - self.found)
        middle = median([*self.counts, *missed]) if self.trials else float("inf")
        return None if middle == float("inf") else middle

    @property
    def mean(self) -> float | None:
        """Of the trials that found it."""
        return mean(self.counts) if self.counts else None

    @property
    def rate(self) -> float:
        """Schedules per second."""
        return self.schedules / self.seconds if self.seconds else 0.0


def measure(
    kernel: Kernel, mode: str, strategy: str, trials: int, cap: int, limit: int | None = None
) -> Result:
    """Search a kernel again and again.

    Args:
        cap: schedules of one trial.
        limit: schedules of all trials together: none begins after so many.
    """
    result = Result(kernel.name, mode, strategy)
    begin = process_time()
    for seed in range(1 if is_systematic(strategy) else trials):
        if limit is not None and result.schedules >= limit:
            break
        _trial(result, kernel, seed, cap)
    result.seconds = process_time() - begin
    return result


def _trial(result: Result, kernel: Kernel, seed: int, cap: int) -> None:
    program = kernel.program(result.mode)
    searcher = searcher_of(result.strategy, seed)
    result.trials += 1
    for index in range(cap):
        strategy = searcher.strategy(index)
        if strategy is None:
            result.exhausted = True
            return
        run = execute(program, strategy, max_steps=MAX_STEPS)
        searcher.learn(index, run)
        result.schedules += 1
        if run.violations and result.reported is None and not seed:
            result.reported = index + 1
        if kernel.found_in(run):
            result.counts.append(index + 1)
            return
