"""Failures: every report comes from one replay with the full trace.

An exploring run records its deviations and nothing else.  When it breaks a rule, `report_run` runs
it again from them, traced, and makes report and token while that world still stands.  If the replay
is not the run, nothing that it could say would be worth anything: that is `EngineError`.

`shrunk` makes of a failure one that shows the same with as little as possible: its report tells the
minimal interleaving, and its token brings back that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.checks import report
from vfsim.checks.counters import uncounted
from vfsim.explore import identity, nearest
from vfsim.explore.execute import Run, execute
from vfsim.explore.parallel import Batch, EngineError
from vfsim.explore.shrink import TIMES, Shrunk, shrink
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.token import NO_RACES, Token, decode
from vfsim.explore.watch import INTERRUPTED, TIMED_OUT
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from vfsim.explore.program import Program
    from vfsim.explore.token import Option
    from vfsim.explore.watch import Watch
    from vfsim.sim.errors import Violation
    from vfsim.sim.machine import Machine

WHOSE_FAULT = (
    "This is a bug of vfsim, unless the scenario or the filesystem keeps something from one run to "
    "the next, or uses time, random numbers, id() or the order of a set"
)


@attrs.define
class Failure:
    """One bug: the violation, and the run that showed it first.

    Attributes:
        violation: what was broken.
        token: brings the run back.
        report: five parts and columns, from a replay of that run.
        scenario, schedule: where it was found.
        count: in how many schedules it was seen.
    """

    violation: Violation
    token: str
    report: str
    scenario: str
    schedule: int
    count: int = 1

    def as_dict(self) -> dict[str, str]:
        """The failure in the words of the JSON documents."""
        v = self.violation
        return {
            "rule": v.rule,
            "kind": v.kind,
            "blamed": v.blamed,
            "where": v.where,
            "summary": v.summary,
            "token": self.token,
            "report": self.report,
        }


def report_run(batch: Batch, index: int, run: Run, violations: list[Violation]) -> list[Failure]:
    """Replay a run with the full trace and report some of its violations.

    Returns:
        Nothing for a run that only the watchdog stopped, if the replay comes to its end.

    Raises:
        EngineError: the replay differs from the run.
    """
    program = batch.program
    trace = Trace()
    replay = Replay(run.deviations)
    wanted = {v.signature for v in violations}
    # The watchdog strikes at another moment each time: what it stopped cannot be the same again.
    slow = any(v.rule == TIMED_OUT for v in run.violations)
    failures: list[Failure] = []

    def look(machine: Machine) -> None:
        token = _token(batch, index, run, replay, trace)
        for violation in machine.violations:
            if violation.signature in wanted or (slow and violation.rule.startswith("no-progress")):
                text = str(attrs.evolve(token, rule=violation.rule, blamed=violation.blamed))
                told = report.render(machine, violation, text)
                failures.append(Failure(violation, text, told, program.name, index))

    batch.watch.begin()
    with uncounted():
        again = execute(program, replay, trace, batch.max_steps, look, batch.races)
    if INTERRUPTED in again.violations:
        return []
    divergence = replay.finish()
    if (divergence or not run.same_as(again)) and not slow:
        raise EngineError(
            f"the replay of schedule {index} of {program.name} differs from the run: "
            f"{divergence or _what_differs(run, again)}.  {WHOSE_FAULT}"
        )
    return failures


@uncounted()
def shrunk(failure: Failure, program: Program, watch: Watch) -> Failure:
    """The same failure in the smallest program and schedule that show it.

    Args:
        program: that the failure was found in.

    Returns:
        The failure itself if it is of a smaller program already, or Ctrl-C came.

    Raises:
        EngineError: its run cannot be repeated.
    """
    token = decode(failure.token)
    signature = failure.violation.signature
    if (
        token.options != _options(program, token.races)
        or signature[0] == TIMED_OUT
        or watch.interrupted
    ):
        return failure
    limit = token.max_steps
    watch.begin()
    races = token.races
    run = execute(program, Replay(token.deviations), None, limit, races=races)
    small = shrink(program, run, signature, max_steps=limit, watch=watch, races=races)
    if watch.interrupted:
        return failure
    if small.reproduced < TIMES:
        raise EngineError(
            f"{signature[0]} in {program.name} came again in {small.reproduced} of {TIMES} replays."
            f"  {WHOSE_FAULT}"
        )
    known = nearest.look(small.program, small.deviations, signature, limit, watch, races)
    return _retold(failure, token, small, known)


def _retold(failure: Failure, token: Token, small: Shrunk, known: nearest.Looked) -> Failure:
    """The failure with the report and the token of its shrunk run."""
    trace = Trace()
    replay = Replay(small.deviations)
    found: list[Failure] = []

    def tell_it(machine: Machine) -> None:
        text = str(
            attrs.evolve(
                token,
                options=_options(small.program, token.races),
                fingerprint=trace.digest()[:8],
                deviations=tuple(small.deviations),
                expected=tuple(replay.met),
            )
        )
        for violation in machine.violations:
            if violation.signature == failure.violation.signature:
                told = tell(machine, violation, text, known)
                found.append(attrs.evolve(failure, violation=violation, token=text, report=told))

    execute(small.program, replay, trace, token.max_steps, tell_it, token.races)
    return found[0] if found else failure


def tell(machine: Machine, violation: Violation, token: str, known: nearest.Looked) -> str:
    """The report of a violation, with what is known of its schedule."""
    assert machine.trace is not None
    parting = known.parting(machine.trace)
    return report.render(
        machine,
        violation,
        token,
        size=known.size(machine.trace),
        difference=parting.text if parting is not None else "",
        marks=parting.events if parting is not None else (),
    )


def token_of(batch: Batch, index: int) -> str:
    """The token of a schedule of a parallel search, whatever it showed."""
    with uncounted():
        run = batch.one(index)
        assert run is not None
        trace = Trace()
        replay = Replay(run.deviations)
        execute(batch.program, replay, trace, batch.max_steps, races=batch.races)
    return str(_token(batch, index, run, replay, trace))


def _token(batch: Batch, index: int, run: Run, replay: Replay, trace: Trace) -> Token:
    program = batch.program
    return Token(
        target=program.target,
        scenario=program.name,
        options=_options(program, batch.races),
        seed=batch.seed,
        schedule=index,
        sources=identity.sources(program.target),
        engine=identity.engine(),
        fingerprint=trace.digest()[:8],
        max_steps=batch.max_steps,
        deviations=tuple(run.deviations),
        expected=tuple(replay.met),
    )


def _options(program: Program, races: bool) -> tuple[tuple[str, Option], ...]:
    """What a token says of a run of this program."""
    return program.options if races else (*program.options, NO_RACES)


def _what_differs(run: Run, again: Run) -> str:
    one, other = run.deviations, again.deviations
    if one != other:
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        number = min(len(one), len(other)) if at is None else at
        return f"the choices differ from number {number + 1} on"
    first = [f"{v.rule} ({v.blamed})" for v in run.violations]
    then = [f"{v.rule} ({v.blamed})" for v in again.violations]
    if first != then:
        return f"it found {', '.join(first) or 'nothing'} and then {', '.join(then) or 'nothing'}"
    return f"it took {run.steps} steps and then {again.steps}"
