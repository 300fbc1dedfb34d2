"""Taking times: a case, its reference, and the median of rounds in which they take turns."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import attrs

ROUNDS = 9
"""Rounds of which the median counts."""

Timed = Callable[[int], float]
"""Does something so many times and returns the seconds that took."""


@attrs.frozen
class Case:
    """One figure.

    Attributes:
        name: what is measured.
        of: the reference: S, M, P, C or F.  "" for a figure that is no ratio.
        target: the highest ratio that is good enough; None where there is nothing to reach.
        timed: the operation.
        less: the ratio is of what the operation takes beyond the reference.
        count: how often per round.
    """

    name: str
    of: str
    target: float | None
    timed: Timed
    less: bool = False
    count: int = 20_000


@attrs.define
class Figure:
    """One result: the median ratio, and the median times in nanoseconds of case and reference."""

    ratio: float
    ns: float
    bare: float


def measure(case: Case, reference: Timed, rounds: int = ROUNDS) -> Figure:
    """Measure a case between two halves of its reference, in every round."""
    ratios, times, bare = [], [], []
    for number in range(rounds + 1):
        gc.collect()
        base = reference(10_000)
        taken = case.timed(case.count) / case.count
        base = (base + reference(10_000)) / 20_000
        if number:  # the first round warms up
            ratios.append((taken - base if case.less else taken) / base)
            times.append(taken)
            bare.append(base)
    return Figure(median(ratios), median(times) * 1e9, median(bare) * 1e9)


def alone(fn: Callable[..., Any], *args: Any) -> Any:
    """The result of that in a process of its own, fresh and given back."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(fn, *args).result()
