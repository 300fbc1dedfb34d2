"""Strategies: who runs next.  One per file, each with the paper it comes from.

A strategy has three methods and a ``gap`` (`vfsim.sim.choice.Strategy`).  A new one is made for
every schedule, from that schedule's seed; its only source of chance is its own
``random.Random(seed).random()``, which gives the same numbers on every Python.
"""

from __future__ import annotations

from collections.abc import Callable

from vfsim.explore.searcher import Searcher, Seeded
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.sim.choice import Strategy

NAMES = ("pos", "random", "pct")
"""What ``--strategy`` accepts; ``pct:4`` is PCT with depth 4."""

Maker = Callable[[int, int], Strategy]
"""Makes the strategy of one schedule from (its seed, how many points a run is expected to have)."""


def maker(spec: str) -> Maker:
    """What makes the strategy of that name for one schedule, given (seed, expected number of
    points).

    Raises:
        ValueError: no such strategy, or a parameter out of range.
    """
    name, colon, parameter = spec.partition(":")
    if name == "pct":
        depth = _depth(parameter) if colon else 3
        return lambda seed, length: PCT(seed, length, depth)
    if colon and name in NAMES:
        raise ValueError(f"strategy {name!r} takes no parameter, got {spec!r}")
    if name == "pos":
        return lambda seed, _: POS(seed)
    if name == "random":
        return lambda seed, _: RandomWalk(seed)
    raise ValueError(f"there is no strategy {spec!r}; there are {', '.join(NAMES)}")


def _depth(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 100:
        raise ValueError(f"the depth of pct must be a number from 1 to 100, got {text!r}")
    return int(text)


def searcher_of(spec: str, seed: int) -> Searcher:
    """What gives each schedule of a search its strategy (`vfsim.explore.searcher`).

    Raises:
        ValueError: no such strategy, or a parameter out of range.
    """
    return Seeded(maker(spec), seed)
