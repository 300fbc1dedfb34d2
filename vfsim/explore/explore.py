"""Many schedules of one program: run, count, find, and report.

`search` is the loop.  It runs schedules until it has enough, keeps one failure per signature, and
makes each report from one replay with the full trace.  Two things are checked on the way, because
everything else rests on them: the first schedules are run twice and must be the same, and a replay
must be the run it replays.

`explore` is the same for tests: it raises `BugFound`, an AssertionError whose text is the report.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.explore.campaign import Campaign
from vfsim.explore.execute import MAX_STEPS, Run
from vfsim.explore.failure import WHOSE_FAULT, Failure, report_run, shrunk
from vfsim.explore.observe import Observer
from vfsim.explore.parallel import Batch, EngineError, runs
from vfsim.explore.program import program_of
from vfsim.explore.searcher import LEARNING
from vfsim.explore.strategies import AUTO, is_systematic, searcher_of
from vfsim.explore.strategies.auto import AT_LEAST, UNSEEN
from vfsim.explore.suspicion import told
from vfsim.explore.watch import Watch
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from vfsim.explore.coverage import Coverage
    from vfsim.explore.program import Program

_STALE = 100  # at least so many schedules without a new one mean: exhausted
_MAX_FAILURES = 10  # distinct ones; more would not be read
_MAX_FAILING = 100  # schedules
_MAX_ENDLESS = 3  # schedules that made no progress: each takes long


class BugFound(AssertionError):
    """An exploration found a bug; the text is the report.

    Attributes:
        exploration: everything it found.
    """

    def __init__(self, exploration: Exploration) -> None:
        super().__init__("\n" + exploration.reports())
        self.exploration = exploration


@attrs.define
class Exploration:
    """What a search came to.

    Attributes:
        target, scenario: what was explored.
        strategy, seed: how.
        failures: one per signature, in the order they were found.
        run: schedules run.  distinct: how many different ones.
        longest: the most scheduling points in one schedule.
        seen_again: how often what needed no report was seen, by signature.
        endless: schedules that made no progress.
        campaign: what is known of this search, earlier parts included.
        resumed: the number of the schedule it went on with.
        exhausted: it ended because nothing new came any more.
        saturated: it ended because the chance of something new was below that.
        complete: if the search ran everything there is, what that is: "every schedule with at most
            2 delays was run".
        incomplete: if nothing is left to run and yet something was cut off, what that is.
        suspicions: what the schedules show of lock order together and no one by itself, told.
        interrupted: it ended because of Ctrl-C.
    """

    target: str
    scenario: str
    strategy: str
    seed: int
    failures: list[Failure] = attrs.Factory(list)
    run: int = 0
    distinct: int = 0
    longest: int = 0
    seen_again: dict[tuple[str, str, str], int] = attrs.Factory(dict)
    endless: int = 0
    campaign: Campaign = attrs.Factory(Campaign)
    resumed: int = 0
    exhausted: bool = False
    saturated: float = 0.0
    complete: str = ""
    incomplete: str = ""
    suspicions: list[str] = attrs.Factory(list)
    interrupted: bool = False

    @property
    def coverage(self) -> Coverage:
        """What the schedules showed."""
        return self.campaign.coverage

    @property
    def verdict(self) -> str:
        """``bug``, ``interrupted`` or ``clean``."""
        return "bug" if self.failures else "interrupted" if self.interrupted else "clean"

    def reports(self) -> str:
        """All reports, one after the other."""
        return "\n\n".join(f.report for f in self.failures)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of ``vfsim explore``, without the contract's coverage."""
        return {
            "target": self.target,
            "verdict": self.verdict,
            "violations": [f.as_dict() for f in self.failures],
            "schedules": {"run": self.run, "distinct": self.distinct},
            "coverage": self.coverage.as_dict(),
            "seed": self.seed,
        }

    @property
    def why_it_ended(self) -> str:
        """In words, with what joins them to a count of schedules; "" for the limit."""
        if self.interrupted:
            return ", interrupted"
        if self.complete:
            return f"; complete: {self.complete}"
        if self.incomplete:
            return f"; not complete: {self.incomplete}"
        if self.saturated:
            return (
                "; stopped: the chance that another schedule shows something new is below "
                f"{100 * self.saturated:g} %"
            )
        return ", exhausted" if self.exhausted else ""

    def __str__(self) -> str:
        bugs = (
            f"{len(self.failures)} bug{'s' * (len(self.failures) != 1)}"
            if self.failures
            else "clean"
        )
        begin = f" from number {self.resumed} on" if self.resumed else ""
        counts = f"{self.run} schedules{begin}, {self.distinct} distinct{self.why_it_ended}"
        return f"{self.scenario}: {bugs}; {counts}"


def explore(
    target: Any,
    schedules: int = 1000,
    strategy: str = "pos",
    seed: int = 0,
    *,
    jobs: int = 1,
    max_steps: int = MAX_STEPS,
    races: bool = True,
    shrink: bool = True,
) -> Exploration:
    """Run a scenario under many schedules; for tests.

    Args:
        target: a `Scenario` class, or a function that spawns tasks on a bare machine.
        schedules: how many to run; fewer if nothing new comes any more.
        strategy: one of `vfsim.explore.strategies`: ``pos``, ``pct:4``, ``auto`` …
        seed: of the search; the same seed gives the same search.
        jobs: how many processes share the work; the result does not depend on it.
        max_steps: scheduling points per schedule until "no progress".
        races: look for races on declared fields.
        shrink: report each failure in the smallest program and schedule that show it.

    Raises:
        BugFound: an AssertionError with the full report.
        TypeError, ValueError: wrong arguments.
    """
    __tracebackhide__ = True
    found = search(
        program_of(target),
        schedules=schedules,
        strategy=strategy,
        seed=seed,
        jobs=jobs,
        max_steps=max_steps,
        races=races,
        shrink=shrink,
    )
    if found.interrupted:
        raise KeyboardInterrupt
    if found.failures:
        raise BugFound(found) from None
    return found


def search(
    program: Program,
    *,
    schedules: int = 1000,
    distinct: int | None = None,
    strategy: str = "pos",
    seed: int = 0,
    jobs: int = 1,
    max_steps: int = MAX_STEPS,
    races: bool = True,
    observe: bool = True,
    campaign: Campaign | None = None,
    first: Sequence[Failure] = (),
    max_failing: int = _MAX_FAILING,
    shrink: bool = False,
    known: Collection[tuple[str, str, str]] = (),
    watch: Watch | None = None,
    progress: Callable[[int], None] | None = None,
) -> Exploration:
    """Run a program under up to ``schedules`` schedules, or until ``distinct`` ones were run.

    Args:
        races: look for races on declared fields.
        observe: look at what the schedules show (`Exploration.coverage`); ``auto`` always does.
        campaign: go on where an earlier search with the same strategy and seed stopped; it must be
            a parallel one.
        first: failures of this program that were replayed already.
        max_failing: end after so many failing schedules.
        shrink: make failures as small as possible in the end.
        known: signatures that need no report; they are counted in `Exploration.seen_again`.
        watch: an entered `Watch`, if several searches share one.
        progress: called with the number of schedules that were run since the last call.

    Raises:
        EngineError: a run could not be repeated.
        TypeError, ValueError: wrong arguments.
    """
    _check_counts(schedules=schedules, seed=seed, jobs=jobs, max_steps=max_steps)
    chosen = searcher_of(strategy, seed)
    campaign = campaign if campaign is not None and chosen.parallel else Campaign()
    found = Exploration(program.target, program.name, strategy, seed, list(first))
    found.campaign = campaign
    campaign.coverage.drawn = not is_systematic(strategy)
    found.resumed = start = campaign.next
    with nullcontext(watch) if watch is not None else Watch() as watch:
        observer = Observer() if observe or strategy == AUTO else None
        batch = Batch(program, chosen, seed, max_steps, watch, races, observer)
        counter = _Search(batch, found, max_failing, known)
        for done in _runs(batch, start, start + schedules, jobs):
            for run in done:
                counter.take(run)
            if progress is not None:
                progress(len(done))
            if watch.interrupted or counter.enough or (distinct and found.distinct >= distinct):
                break
        else:
            found.complete = chosen.claim if found.run < schedules else ""
            found.incomplete = chosen.shortfall
        if shrink:
            fresh = found.failures[len(first) :]
            found.failures[len(first) :] = [shrunk(f, program, watch) for f in fresh]
        if chosen.parallel and not watch.interrupted:
            found.suspicions = [
                told(
                    lambda _: Batch(
                        program, searcher_of(strategy, seed), seed, max_steps, watch, races
                    ),
                    suspicion,
                )
                for suspicion in found.coverage.suspicions
            ]
        found.interrupted = watch.interrupted
    return found


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _runs(batch: Batch, start: int, stop: int, jobs: int) -> Iterator[list[Run]]:
    """The runs by number: the first few guarded, the others in as many processes as wanted.

    A search that goes on runs those first few again, to learn from them what it learned then.
    """
    guarded = min(LEARNING, stop)
    for index in range(guarded):
        run = batch.one(index)
        if run is None:
            return
        if not batch.cut(run):
            _guard(batch, index, run)
            batch.searcher.learn(index, run)
        if index >= start:
            yield [run]
    yield from runs(batch, max(guarded, start), stop, jobs)


def _guard(batch: Batch, index: int, run: Run) -> None:
    """Run a schedule again, traced: it must be the same."""
    trace = Trace(stacks=False)
    again = batch.one(index, trace)
    if again is None or run.same_as(again) or batch.cut(again):
        return
    third = Trace(stacks=False)
    batch.one(index, third)
    raise EngineError(
        f"schedule {index} of {batch.program.name} did not run the same way twice: "
        f"{_first_difference(trace, third)}.  {WHOSE_FAULT}"
    )


def _first_difference(one: Trace, other: Trace) -> str:
    for a, b in zip(one.events, other.events, strict=False):
        if (a.task_id, a.kind, a.obj) != (b.task_id, b.kind, b.obj):
            first = f"{a.task} {a.kind} {a.obj} at {a.where or '?'}"
            return f"first {first}, then {b.task} {b.kind} {b.obj}"
    if len(one.events) != len(other.events):
        return f"{len(one.events)} operations and then {len(other.events)}"
    return "a traced run differs from one without a trace"


class _Search:
    """The state of a search: what was seen, and when to stop."""

    def __init__(
        self,
        batch: Batch,
        found: Exploration,
        max_failing: int,
        known: Collection[tuple[str, str, str]],
    ) -> None:
        self.batch = batch
        self.found = found
        self.max_failing = max_failing
        self.campaign = found.campaign
        self.known: dict[tuple[str, str, str], Failure | None] = dict.fromkeys(known)
        self.known.update({f.violation.signature: f for f in found.failures})
        self.met: dict[tuple[str, str, str], None] = {}
        for failure in found.failures:
            failure.count = 0
        self.stale = self.failing = 0
        self.stops = found.strategy == AUTO

    def take(self, run: Run) -> None:
        """Count a run, and report what it found for the first time."""
        found = self.found
        campaign = self.campaign
        index = campaign.next
        if self.batch.cut(run):
            return
        found.run += 1
        campaign.next += 1
        found.longest = max(found.longest, run.steps)
        if run.seen is not None:
            campaign.coverage.add(run.seen)
        if run.schedule in campaign.schedules:
            self.stale += 1
        else:
            campaign.schedules.add(run.schedule)
            found.distinct += 1
            self.stale = 0
        if run.violations:
            self._failed(index, run)

    def _failed(self, index: int, run: Run) -> None:
        found = self.found
        self.failing += 1
        found.endless += any(v.kind == "no progress" for v in run.violations)
        new = []
        enough = len(self.met) >= _MAX_FAILURES
        for violation in run.violations:
            signature = violation.signature
            self.met[signature] = None
            if signature not in self.known:
                new.append(violation)
            elif (failure := self.known[signature]) is not None:
                failure.count += 1
            else:
                found.seen_again[signature] = found.seen_again.get(signature, 0) + 1
        if new and not enough:
            for failure in report_run(self.batch, index, run, new):
                self.known[failure.violation.signature] = failure
                found.failures.append(failure)

    @property
    def enough(self) -> bool:
        """Whether more schedules would tell nothing worth their time."""
        found = self.found
        found.exhausted = self.stale >= max(_STALE, 2 * found.distinct)
        if self.stops and found.run >= AT_LEAST and found.coverage.unseen_chance < UNSEEN:
            found.saturated = UNSEEN
        return (
            found.exhausted
            or found.saturated > 0
            or len(self.met) >= _MAX_FAILURES
            or self.failing >= self.max_failing
            or found.endless >= _MAX_ENDLESS
        )
