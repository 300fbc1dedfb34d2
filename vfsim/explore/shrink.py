"""Shrinking: the smallest program and the fewest deviations that still show the same failure.

A search finds a failure in a schedule with dozens of deviations, most of which have nothing to do
with it.  `shrink` takes away what it can and lets a replay judge each attempt:

1. the *causal slice*: all tasks that the failure does not depend on (`vfsim.explore.causal`);
2. *deviations*: delta debugging (Zeller and Hildebrandt, "Simplifying and isolating
   failure-inducing input", IEEE TSE 2002): half of them, a quarter, ... one; then pairs; then one
   away while another gives way to somebody else; at last whether any single one would do, at a
   point where the order matters;
3. *the program*, if it can offer smaller ones (`ShrinkableProgram`): a task, a call, a thing that
   is there before.  Where the deviations no longer lead to the failure, a few fresh schedules may;
4. the deviations again.

It works because a deviation is keyed by its task and that task's own count of operations: it keeps
its meaning when others are gone.  *The same failure* is the same signature: rule, blame, and lock
classes or place, whatever the message says.  All limits are counts, so that the result is the same
everywhere.
"""

from __future__ import annotations

from itertools import combinations, islice
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from vfsim.explore.causal import Placed, sliced
from vfsim.explore.dependency import dependent
from vfsim.explore.execute import MAX_STEPS, Run, execute
from vfsim.explore.program import Program
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.watch import INTERRUPTED, TIMED_OUT
from vfsim.sim.choice import Deviation
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.explore.watch import Watch
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

    Signature = tuple[str, str, str]

TIMES = 10
"""How often the result is run again."""


@runtime_checkable
class ShrinkableProgram(Program, Protocol):
    """A program that can offer smaller ones.

    Attributes:
        judges: the smaller ones know what results are right for them.  If not, a wrong result may
            come of nothing but what is missing, and proves nothing.
    """

    judges: bool

    def smaller(self) -> Iterator[Program]:
        """Programs with a little less, the most promising first.

        Their tasks have the ids they have here, and their token brings them back.
        """


@attrs.frozen
class Budget:
    """How much may be spent on one failure.

    Attributes:
        replays: to judge attempts.
        fresh: schedules for smaller programs.
        attempt: of them, for each program: at random, and as many with one preemption.
        steps: scheduling points in all.
    """

    replays: int = 300
    fresh: int = 600
    attempt: int = 50
    steps: int = 1_000_000


@attrs.define
class Shrunk:
    """What is left of a failing run.

    Attributes:
        program: the smallest found.
        run: of it, with its deviations.
        replays: how many runs it took to find, without the repetitions.
        reproduced: how many of `TIMES` repetitions showed the failure; 0 if Ctrl-C came first.
    """

    program: Program
    run: Run
    replays: int = 0
    reproduced: int = 0

    @property
    def deviations(self) -> list[Deviation]:
        """The schedule."""
        return self.run.deviations


def shrink(
    program: Program,
    run: Run,
    signature: Signature,
    budget: Budget | None = None,
    *,
    max_steps: int = MAX_STEPS,
    watch: Watch | None = None,
    races: bool = True,
) -> Shrunk:
    """The smallest program and schedule found that fail as ``run`` of ``program`` did.

    Args:
        signature: of the violation to keep.
        max_steps: the limit under which ``run`` ran.
        watch: an entered `Watch`.
        races: look for races, as ``run`` did or did not.
    """
    judge = _Judge(signature, budget or Budget(), run, max_steps, watch, races)
    best = Shrunk(program, run)
    if signature[0] != TIMED_OUT:  # each replay would take as long again
        _slice(judge, best)
        _fewer_deviations(judge, best)
        if _smaller_program(judge, best):
            _fewer_deviations(judge, best)
    best.replays = judge.replays
    best.reproduced = reproduce(best.program, best.deviations, signature, max_steps, watch, races)
    return best


def reproduce(
    program: Program,
    deviations: Sequence[Deviation],
    signature: Signature,
    max_steps: int = MAX_STEPS,
    watch: Watch | None = None,
    races: bool = True,
) -> int:
    """How many of `TIMES` replays show the failure."""
    if signature[0] == TIMED_OUT or (watch is not None and watch.interrupted):
        return 0
    again = 0
    for _ in range(TIMES):
        if watch is not None:
            watch.begin()
        run = execute(program, Replay(deviations), None, max_steps, races=races)
        again += any(v.signature == signature for v in run.violations)
    return again


class _Judge:
    """Runs attempts and says whether they fail in the same way, as long as the budget lasts."""

    def __init__(
        self,
        signature: Signature,
        budget: Budget,
        run: Run,
        max_steps: int,
        watch: Watch | None,
        races: bool,
    ) -> None:
        self.signature = signature
        self.budget = budget
        self.watch = watch
        self.races = races
        self.max_steps = max_steps
        if signature[0] != "no-progress":  # else an attempt that does not end is a failed one
            self.max_steps = min(max_steps, 4 * run.steps + 1000)
        self.replays = self.fresh = self.steps = 0
        self.failed: set[tuple[Program, tuple[Deviation, ...]]] = set()

    @property
    def spent(self) -> bool:
        """Whether nothing more may be tried."""
        stopped = self.watch is not None and self.watch.interrupted
        return stopped or self.steps >= self.budget.steps

    @property
    def done(self) -> bool:
        """Whether no schedule may be replayed any more."""
        return self.spent or self.replays >= self.budget.replays

    def replay(self, program: Program, deviations: Sequence[Deviation]) -> Run | None:
        """The run that these deviations lead to, if it fails as it should."""
        key = (program, tuple(deviations))
        if key in self.failed:
            return None
        run = self.attempt(program, Replay(deviations))
        if run is None and not self.done:  # a run of many deviations has many parts: keep no more
            self.failed.add(key)
        return run

    def attempt(
        self, program: Program, strategy: Strategy, trace: Trace | None = None
    ) -> Run | None:
        """A run under any strategy that counts as a replay."""
        if self.done:
            return None
        self.replays += 1
        return self._run(program, strategy, trace)

    def explore(self, program: Program) -> Run | None:
        """A failing run among a few fresh schedules of a program: the quiet one, those with one
        preemption where it could matter, and then any.
        """
        for strategy in self._fresh(program):
            if self.spent or self.fresh >= self.budget.fresh:
                return None
            self.fresh += 1
            run = self._run(program, strategy)
            if run is not None:
                return run
        return None

    def _fresh(self, program: Program) -> Iterator[Strategy]:
        points = _Points()
        yield points
        single = islice(points.preemptions(), self.budget.attempt)
        yield from (Replay(deviations) for deviations in single)
        yield from (POS(seed) for seed in range(self.budget.attempt))

    def _run(self, program: Program, strategy: Strategy, trace: Trace | None = None) -> Run | None:
        """One run, if it fails as it should."""
        if self.watch is not None:
            self.watch.begin()
        run = execute(program, strategy, trace, self.max_steps, races=self.races)
        self.steps += run.steps
        if INTERRUPTED in run.violations:
            return None
        return run if any(v.signature == self.signature for v in run.violations) else None


# -- the schedule ----------------------------------------------------------------------------------


def _slice(judge: _Judge, best: Shrunk) -> None:
    """Leave out the tasks that do not matter, all at once."""
    if len(best.deviations) < 2:
        return
    trace = Trace(stacks=False)
    replay = Placed(best.deviations, trace)
    if judge.attempt(best.program, replay, trace) is None:
        return
    at = next(i for i in trace.bugs if trace.events[i].ref.signature == judge.signature)
    fewer = sliced(replay, at)
    if fewer != best.deviations:
        best.run = judge.replay(best.program, fewer) or best.run


def _fewer_deviations(judge: _Judge, best: Shrunk) -> None:
    """Until nothing helps any more: ever smaller pieces, then pairs, then one with a new target."""
    names = _targets(best.deviations)
    while True:
        _pieces(judge, best)
        if not _first(judge, best, _without_pairs(best.deviations)) and not _first(
            judge, best, _retargeted(best.deviations, names)
        ):
            break
    if len(best.deviations) > 1:
        points = _Points()
        judge.attempt(best.program, points)
        _first(judge, best, points.preemptions())


def _pieces(judge: _Judge, best: Shrunk) -> None:
    """All away, or half, or a quarter, ... or one.

    What a replay did not come to is gone, too: the run's own deviations are what counts.
    """
    size = len(best.deviations)
    while size:
        start = 0
        helped = False
        while start < len(best.deviations) and not judge.done:
            fewer = best.deviations[:start] + best.deviations[start + size :]
            run = judge.replay(best.program, fewer)
            if run is not None and len(run.deviations) < len(best.deviations):
                best.run = run
                helped = True
            else:
                start += size
        if not (helped and size == 1):
            size //= 2


def _first(judge: _Judge, best: Shrunk, attempts: Iterator[list[Deviation]]) -> bool:
    """Take the first of some schedules that fails, if it has fewer deviations."""
    for fewer in attempts:
        if judge.done:
            break
        run = judge.replay(best.program, fewer)
        if run is not None and len(run.deviations) < len(best.deviations):
            best.run = run
            return True
    return False


def _without_pairs(deviations: list[Deviation]) -> Iterator[list[Deviation]]:
    for pair in combinations(range(len(deviations)), 2):
        yield [d for i, d in enumerate(deviations) if i not in pair]


def _targets(deviations: Sequence[Deviation]) -> list[str]:
    """Whoever was somebody's choice, or was asked."""
    names: dict[str, None] = {}
    for d in deviations:
        for name in (d.value, d.task):
            if isinstance(name, str) and name:
                names[name] = None
    return list(names)


def _retargeted(deviations: list[Deviation], names: list[str]) -> Iterator[list[Deviation]]:
    """One away, and another one gives way to somebody else."""
    for gone in range(len(deviations)):
        fewer = deviations[:gone] + deviations[gone + 1 :]
        for i, d in enumerate(fewer):
            for name in names:
                if isinstance(d.value, str) and name not in (d.value, d.task):
                    yield [*fewer[:i], d._replace(value=name), *fewer[i + 1 :]]


class _Points:
    """A strategy that never deviates, and notes where the order could matter.

    Attributes:
        met: each point: who was asked, at which of its operations, what it was about to do, and who
            could have run instead.
    """

    gap = 1

    def __init__(self) -> None:
        self.met: list[tuple[str, int, tuple[str, Any], list[str]]] = []

    def start(self, machine: Machine) -> None:
        """Nothing to prepare."""
        self.clock = machine.clock

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The default."""
        if current is not None:
            others = [task.id for task in ready[1:] if task is not self.clock]
            self.met.append((current.id, current.ops, current.pending, others))
        return 0

    def choose(self, kind: str, n: int) -> int:
        """The default."""
        return 0

    def preemptions(self) -> Iterator[list[Deviation]]:
        """The schedules with one deviation: before an operation that conflicts with another's."""
        for who, number, doing, others in self.met:
            if any(dependent(doing, what) for other, _, what, _ in self.met if other != who):
                for other in others:
                    yield [Deviation(who, "p", number, 0, other)]


# -- the program -----------------------------------------------------------------------------------


_WAKERS = ("wait.lost-wakeup", "wait.no-waker")
"""Rules that anything breaks in which somebody is missing: whoever is left out wakes nobody."""

_RESULTS = ("result.", "test.")
"""Rules about what a program expects of its own tasks."""


def _smaller_program(judge: _Judge, best: Shrunk) -> bool:
    """Take smaller programs as long as one fails in the same way; whether any did."""
    helped = False
    rule = judge.signature[0]
    if rule in _WAKERS:
        return False
    while isinstance(best.program, ShrinkableProgram):
        if rule.startswith(_RESULTS) and not best.program.judges:
            break
        found = _failing(judge, best)
        if found is None:
            break
        best.program, best.run = found
        helped = True
    return helped


def _failing(judge: _Judge, best: Shrunk) -> tuple[Program, Run] | None:
    """The first of the smaller programs that fails with these deviations, else with some others.

    A program whose run passed no scheduling point has one schedule only.
    """
    assert isinstance(best.program, ShrinkableProgram)
    kept = []
    for program in best.program.smaller():
        run = judge.replay(program, best.deviations)
        if run is not None:
            return program, run
        kept.append(program)
    for program in kept if best.run.steps else ():
        run = judge.explore(program)
        if run is not None:
            return program, run
    return None
