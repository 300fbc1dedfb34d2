"""What is searched: a small program with one bug, and its repaired twin.

A kernel is a function ``kernel(start, fixed)`` that calls ``start(work, *args)`` for each of its
tasks and may return a last look.  How the tasks come to life is the *mode*:

* ``static``: all are there from the beginning, as in a scenario;
* ``spawned``: a task starts them one by one, with a scheduling point before each, as programs do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.explore.program import FunctionProgram
from vfsim.sim.scheduler import cond_resched
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.sim.machine import Machine

MODES = ("static", "spawned")

Start = Callable[..., None]
"""``start(work, *args)``: a task does that."""

Look = Callable[[], None]


@kernel_struct
class Cell:
    """A number that everybody may see; each access is a scheduling point."""

    value: Annotated[int, shared] = 0


@attrs.frozen
class Kernel:
    """A program with a bug.

    Attributes:
        name: as in the literature.
        body: ``body(start, fixed)``.
        rule: what the bug breaks; reports of other rules are not the bug.
    """

    name: str
    body: Callable[[Start, bool], Look | None]
    rule: str = "result"

    def program(self, mode: str = "static", fixed: bool = False) -> FunctionProgram:
        """The program to search."""

        def function(machine: Machine) -> Look | None:
            works: list[tuple[Any, ...]] = []
            look = self.body(lambda *work: works.append(work), fixed)
            if mode == "static":
                _spawn_all(machine, works)
            else:
                machine.spawn(_one_by_one, works, name="main")
            return look

        program = FunctionProgram(function)
        program.name = self.name
        return program

    def found_in(self, run: Run) -> bool:
        """Whether a run showed the bug."""
        return any(v.rule.startswith(self.rule) for v in run.violations)


def _spawn_all(machine: Machine, works: list[tuple[Any, ...]]) -> None:
    for number, (work, *args) in enumerate(works):
        machine.spawn(work, *args, name=f"{work.__name__} {number}")


def _one_by_one(works: list[tuple[Any, ...]]) -> None:
    for number, (work, *args) in enumerate(works):
        cond_resched()
        K.machine.spawn(work, *args, name=f"{work.__name__} {number}")
