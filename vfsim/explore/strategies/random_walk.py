"""The uniform random walk: at every point, everybody who could run is equally likely to.

The baseline of the literature: Thomson, Donaldson and Betts, "Concurrency testing using controlled
schedulers: an empirical study" (ACM TOPC 2016), found it hard to beat on shallow bugs.  It needs no
knowledge of the program and has no memory, but a bug that needs one task to stay behind for long is
out of its reach.
"""

from __future__ import annotations

from itertools import chain
from random import Random
from typing import TYPE_CHECKING

from vfsim.explore.strategies import numbers

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class RandomWalk:
    """Everybody equally likely, at every point."""

    __slots__ = ("draw", "gap", "odds", "random")

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.random = random.random
        self.gap = 1
        self.odds = 0.0

        def more() -> memoryview:
            return memoryview(random.randbytes(512)).cast("H")

        # 16-bit numbers without end, drawn 256 at a time: cheaper than one by one
        self.draw = chain.from_iterable(iter(more, None)).__next__

    def start(self, machine: Machine) -> None:
        """Draw how rare faults are."""
        self.odds = numbers.odds(self.random, machine)

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Anybody."""
        return self.draw() * len(ready) >> 16

    def choose(self, kind: str, n: int) -> int:
        """Any number; a fault rarely."""
        return numbers.number(self.random, self.odds, kind, n)
