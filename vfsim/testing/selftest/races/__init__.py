"""The race cases: two accesses to a field, what is between them, and whether that is a race.

A matrix in the manner of KCSAN's self-test. Each row is a function that starts tasks on a bare
machine; its docstring says what is going on. A row that races must be caught in *each* of a few
schedules, the quiet one among them: a race needs no luck to be found. Where the other order of two
critical sections orders the accesses, too, the quiet schedule must catch it. A row that does not
race must be silent in all of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vfsim.explore.execute import execute
from vfsim.explore.program import FunctionProgram
from vfsim.explore.strategies.pos import POS
from vfsim.sim.choice import RoundRobin
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case
from vfsim.testing.selftest.races import (
    accesses,
    flavours,
    interrupts,
    locks,
    orders,
    rcu,
    rwlocks,
    works,
)
from vfsim.testing.selftest.races.cell import AT_ONCE, CLEAN, RACES, Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.sim.choice import Strategy
    from vfsim.sim.errors import Violation
    from vfsim.sim.machine import Machine
    from vfsim.testing.selftest.races.cell import Row

SCHEDULES = 8
"""Schedules of a row, beside the quiet one."""

ROWS = (accesses, flavours, interrupts, locks, orders, rcu, rwlocks, works)
"""The modules with the rows."""


def run(row: Row) -> list[list[Violation]]:
    """What each of the schedules of a row found, the quiet one first."""

    def build(m: Machine) -> None:
        row(m, Cell())

    build.__name__ = row.__name__
    program = FunctionProgram(build)
    strategies: list[Strategy] = [RoundRobin(), *(POS(seed) for seed in range(SCHEDULES))]
    return [execute(program, strategy).violations for strategy in strategies]


def caught(row: Row, always: bool) -> list[Violation]:
    """What was found, if the quiet schedule (or every one) found something."""
    found = run(row)
    return [v for each in found for v in each] if (all(found) if always else found[0]) else []


def found(row: Row) -> list[Violation]:
    """What any schedule found."""
    return [v for each in run(row) for v in each]


_RACED = ("value", "both", "data", "stat", "pointer", "born", "pair", "half", "peer")
FIRES = (
    *(f"race.Cell.{name}" for name in _RACED),
    "race.SeqCount.sequence",
    "seq.stale",
    "seq.unchecked",
    "seq.unasked",
)


def cases() -> Iterator[Case]:
    """The rows as cases of the self-test."""
    for rows, always in ((RACES, True), (AT_ONCE, False)):
        for name, row in rows.items():
            why = (row.__doc__ or "").strip()
            run = partial(caught, row, always)
            yield Case(f"race.{name}", f"race.{name}", CAUGHT, run, FIRES, "test", why)
    for name, row in CLEAN.items():
        why = (row.__doc__ or "").strip()
        yield Case(f"race.{name}", f"race.{name}", SILENT, partial(found, row), why=why)
