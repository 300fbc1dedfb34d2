"""One schedule: a fresh world through its four phases, and what came of it.

`execute` always buries the world.  What must be looked at while it still stands (a report) is done
by ``inspect``, called just before.
"""

from __future__ import annotations

import linecache
import traceback
from errno import errorcode
from hashlib import blake2b
from typing import TYPE_CHECKING

import attrs

from vfsim.checks import blame
from vfsim.checks.races import RACES
from vfsim.explore.record import Recorder
from vfsim.sim.choice import RoundRobin
from vfsim.sim.errors import KernelBug, Misuse, Violation
from vfsim.sim.shared import POINTS
from vfsim.sim.state import NOBODY
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from vfsim.explore.observe import Seen
    from vfsim.explore.program import Program
    from vfsim.sim.choice import Deviation, Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.trace import Trace

MAX_STEPS = 100_000
"""Scheduling points of one schedule until "no progress":

far above any scenario, far below boredom.
"""

SET_UP, RUN, CHECK, CLOSE = "set-up", "run", "check", "close"


@attrs.define
class Run:
    """What one schedule came to.

    Attributes:
        violations: in order, once per signature.
        deviations: the strategy's answers that were not the default.
        steps: scheduling points passed while the strategy was in charge.
        stopped: a bug ended it early, so that ``steps`` may lack the last few.
        digest: the trace's, if there was one.
        seen: what it showed, if that was looked at.
        interleaving: the class of interleavings it belongs to (`vfsim.explore.classes`), if the
            strategy was a `Recorder`.
    """

    violations: list[Violation]
    deviations: list[Deviation]
    steps: int
    stopped: bool = False
    digest: str = ""
    seen: Seen | None = None
    interleaving: int | None = None
    _schedule: int | None = None

    @property
    def schedule(self) -> int:
        """What tells two schedules apart, the same in every process."""
        if self._schedule is not None:
            return self._schedule
        text = repr([tuple(d) for d in self.deviations]).encode()
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")

    def slim(self) -> Run:
        """The run without its deviations, for sending."""
        return attrs.evolve(self, deviations=[], schedule=self.schedule)

    def same_as(self, other: Run) -> bool:
        """Whether the two runs are one, as far as can be told without a trace of both."""
        return (
            self.deviations == other.deviations
            and (self.steps == other.steps or self.stopped)
            and [v.signature for v in self.violations] == [v.signature for v in other.violations]
        )


def execute(
    program: Program,
    strategy: Strategy,
    trace: Trace | None = None,
    max_steps: int | None = None,
    inspect: Callable[[Machine], None] | None = None,
    races: bool = True,
) -> Run:
    """Run a program once.

    Args:
        inspect: called with the machine before it is buried.
        races: look for races; it changes no choice, so the run is the same without.

    Raises:
        Misuse: the program used vfsim wrongly.
    """
    world = program.world(trace, max_steps or MAX_STEPS)
    machine = world.machine
    machine.access = getattr(program, "access", None) or (RACES if races else POINTS)
    steps = 0
    interleaving = None
    deviations: list[Deviation] = []
    try:
        _phase(machine, program, SET_UP, world.set_up)
        if not machine.stopped:
            machine.set_strategy(strategy)
            _phase(machine, program, RUN, machine.run)
            steps = machine.steps
            if isinstance(strategy, Recorder):
                strategy.close()
                interleaving = strategy.fingerprint()
        deviations = list(machine.deviations)
        if not machine.stopped:
            machine.set_strategy(RoundRobin())
            _phase(machine, program, CHECK, world.check)
        if not machine.stopped:
            _phase(machine, program, CLOSE, world.close)
        if inspect is not None:
            inspect(machine)
    finally:
        machine.bury()
    digest = trace.digest() if trace is not None else ""
    return Run(
        machine.violations, deviations, steps, machine.stopped, digest, interleaving=interleaving
    )


def _phase(machine: Machine, program: Program, phase: str, work: Callable[[], None]) -> None:
    """Do one phase.

    What it raises is a violation, unless one that explains it is recorded already.
    """
    trace = machine.trace
    if trace is not None:
        trace.note(NOBODY, "phase", phase)
    try:
        work()
    except Misuse:
        raise
    except KernelBug as bug:
        machine.violation(bug.violation)
        machine.stopped = True
    except Exception as error:
        machine.stopped = True
        if not getattr(
            error, "__vfsim_told__", False
        ):  # the contract has not reported it as an oops yet
            task = next((t for t in machine.tasks if t.error is error), None)
            machine.violation(explain(error, program, phase, "" if task is None else task.name))


def explain(error: Exception, program: Program, phase: str, task: str = "") -> Violation:
    """The violation that an exception out of a program's own code amounts to."""
    where, module, lines = _place(error.__traceback__)
    first, *more = str(error).strip().splitlines() or [""]
    details = (*lines, *(f"  {line}" for line in more))
    who = f"{program.name}.{task}" if task else f"{program.name}, {phase}"
    if isinstance(error, AssertionError) and not module.startswith(blame.KERNEL_MODULES):
        text = first or _source_line(error.__traceback__) or "an assertion failed"
        rule, kind, blamed = f"result.{program.name}", "wrong result", program.blamed
        summary = f"{who}: {text}"
    elif isinstance(error, OSError):
        rule, kind, blamed = f"result.{program.name}", "wrong result", program.blamed
        summary = (
            f"{who}: nobody expected {errorcode.get(error.errno or 0, 'an OSError')} ({first})"
        )
    else:
        blamed = "kernel" if module.startswith(blame.KERNEL_MODULES) else "test"
        rule, kind = f"{'oops' if blamed == 'kernel' else 'test'}.{program.name}", "oops"
        summary = f"{who}, raised {type(error).__name__}: {first}"
    return Violation(rule, kind, blamed, where, summary, task, details)


def _place(tb: TracebackType | None) -> tuple[str, str, tuple[str, ...]]:
    """``file:line`` and module of the innermost frame above the engine, and a line for each frame.

    The frames of vfsim that lead to the first one of the author's are left out.
    """
    where = module = ""
    kept: list[str] = []
    for frame, line in traceback.walk_tb(tb):
        name = frame.f_globals.get("__name__", "")
        if is_engine(name):
            continue
        module = name
        where = f"{blame.short(frame.f_code.co_filename)}:{line}"
        if kept or not name.startswith("vfsim."):
            text = linecache.getline(frame.f_code.co_filename, line).strip()
            kept.append(f"  {where} in {frame.f_code.co_qualname}: {text}")
    return where, module, tuple(kept)


def _source_line(tb: TracebackType | None) -> str:
    """The text of the line that raised: what a bare ``assert`` says of itself."""
    summary = traceback.extract_tb(tb)
    return (summary[-1].line or "") if summary else ""
