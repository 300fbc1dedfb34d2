"""All cases, and how they are measured: each in a process of its own.

CPython adapts its bytecode to what it has seen.  Cases that share the engine would spoil each
other's: a run has one strategy, not four in turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import contract, engine, locks, races
from benchmarks.bare import REFERENCES
from benchmarks.measure import Case, Figure, alone, measure


def cases() -> dict[str, Case]:
    """Every case by its name."""
    every = (*engine.CASES, *locks.CASES, *contract.cases(), *races.CASES)
    return {case.name: case for case in every}


def figure(name: str, rounds: int) -> Figure:
    """Measure one case; in the process that was made for it."""
    case = cases()[name]
    return measure(case, REFERENCES[case.of], rounds)


def figures(names: list[str], rounds: int) -> Iterator[Figure]:
    """Measure those cases one after the other."""
    for name in names:
        yield alone(figure, name, rounds)
