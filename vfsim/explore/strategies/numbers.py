"""Random numbers for a strategy's `choose`: any of them, but faults rarely.

If every second allocation failed, no call would come far.  How rare faults are is drawn once per
execution, so that some runs meet one and others meet many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine

ODDS = (1 / 3, 1 / 10, 1 / 40)


def odds(random: Callable[[], float], machine: Machine) -> float:
    """How likely each fault is in this execution; draws nothing where there are none."""
    return ODDS[int(random() * len(ODDS))] if machine.faults else 0.0


def number(random: Callable[[], float], odds: float, kind: str, n: int) -> int:
    """Any number below ``n``; of a fault's kind nearly always 0."""
    if kind in KINDS:
        return 1 + int(random() * (n - 1)) if random() < odds else 0
    return int(random() * n)
