"""Strategies: who runs next.  One per file, each with the paper it comes from.

A strategy has three methods and a ``gap`` (`vfsim.sim.choice.Strategy`).  A new one is made for
every schedule; if it draws anything, its only source of chance is its own
``random.Random(seed).random()``, which gives the same numbers on every Python.

======================== ===========================================================================
``pos``                  partial order sampling: the widest coverage, the default
``pct``, ``pct:DEPTH``   strict priorities with a few changes; the depth is drawn from 2 to 5
``urw``                  interleavings with equal probability, after a count
``random``               everybody equally likely at every step
``delay``, ``delay:K``   all schedules with at most K delays (2), systematically
``dpor``                 every class of interleavings, systematically: for small programs
``enumerate``            every schedule, systematically: for a dozen operations
``irq_sweep``            one interrupt or tick at each place where one can be, systematically
``auto``                 a portfolio, which ends when little is left to see
======================== ===========================================================================

`maker` makes single strategies from a seed; `searcher_of` makes what a whole search needs.
"""

from __future__ import annotations

from collections.abc import Callable

from vfsim.explore.dpor import Dpor
from vfsim.explore.enumerate import Enumerate
from vfsim.explore.searcher import Searcher, Seeded
from vfsim.explore.strategies.auto import Auto
from vfsim.explore.strategies.delay import DELAYS, DelayBound
from vfsim.explore.strategies.irq_sweep import IrqSweep
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.explore.strategies.urw import Uniform
from vfsim.sim.choice import Strategy

Maker = Callable[[int, int], Strategy]
"""Makes the strategy of one schedule from (its seed, how many points a run is expected to have)."""

SEEDED: dict[str, Maker] = {
    "pos": lambda seed, _: POS(seed),
    "random": lambda seed, _: RandomWalk(seed),
    "pct": PCT,
}
"""Strategies that need nothing but a seed and an expected length."""

AUTO = "auto"

SEARCHERS: dict[str, Callable[[int], Searcher]] = {
    "urw": Uniform,
    "delay": lambda seed: DelayBound(),
    "dpor": lambda seed: Dpor(),
    "enumerate": lambda seed: Enumerate(),
    "irq_sweep": lambda seed: IrqSweep(),
    AUTO: Auto,
}
"""Strategies that learn from the schedules of a search, given its seed."""

SYSTEMATIC = ("delay", "dpor", "enumerate", "irq_sweep")
"""Those that draw nothing, so that one search says all."""

NAMES = (*SEEDED, *SEARCHERS)
"""What ``--strategy`` accepts; ``pct:4`` is PCT with depth 4, ``delay:1`` allows one delay."""

_HIGHEST = {"pct": ("depth", 100), "delay": ("number of delays", 9)}


def maker(spec: str) -> Maker:
    """What makes the strategy of that name for one schedule, given (seed, expected number of
    points).

    Raises:
        ValueError: no such strategy, one that learns from a search, or a parameter out of range.
    """
    name, parameter = _parse(spec)
    if name not in SEEDED:
        raise ValueError(
            f"strategy {name!r} learns from the schedules of a search, and this is a single run; "
            f"it takes {', '.join(SEEDED)}"
        )
    if parameter is None:
        return SEEDED[name]
    return lambda seed, length: PCT(seed, length, parameter)


def searcher_of(spec: str, seed: int) -> Searcher:
    """What gives each schedule of a search its strategy (`vfsim.explore.searcher`).

    Raises:
        ValueError: no such strategy, or a parameter out of range.
    """
    name, parameter = _parse(spec)
    if name in SEEDED:
        return Seeded(maker(spec), seed)
    if name == "delay":
        return DelayBound(parameter or DELAYS)
    return SEARCHERS[name](seed)


def is_systematic(spec: str) -> bool:
    """Whether a strategy goes through schedules one by one instead of drawing them."""
    return spec.partition(":")[0] in SYSTEMATIC


def _parse(spec: str) -> tuple[str, int | None]:
    """The name, and the parameter if there is one."""
    name, colon, text = spec.partition(":")
    if name not in NAMES:
        raise ValueError(f"there is no strategy {spec!r}; there are {', '.join(NAMES)}")
    if not colon:
        return name, None
    if name not in _HIGHEST:
        raise ValueError(f"strategy {name!r} takes no parameter, got {spec!r}")
    what, highest = _HIGHEST[name]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= highest:
        raise ValueError(f"the {what} of {name} must be a number from 1 to {highest}, got {text!r}")
    return name, int(text)
