"""The main job: everything vfsim knows to ask of a filesystem.

Two parts, each in worlds of its own, each ending with umount and the leak checks:

* **conformance**: names and data as Linux does them, undisturbed: one assertion per fresh
filesystem, and the corpus, of which many share one;
* **concurrency**: the scenario library, every scenario under many schedules.

What is found is kept once per signature, with a report from a traced replay and the token of that
replay.  Both parts are programs (`vfsim.explore.program`), so that a token of either is replayed in
the same way; `Subject.program` finds them again by the scenario's name in the token.
"""

from __future__ import annotations

from errno import EDQUOT, EFBIG, ENOSPC
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks import tables
from vfsim.explore.coverage import Coverage, interleaving_lines, lock_lines, order_lines
from vfsim.explore.execute import MAX_STEPS, execute
from vfsim.explore.explore import Exploration, search
from vfsim.explore.failure import Failure, report_run, shrunk
from vfsim.explore.parallel import Batch, in_order
from vfsim.explore.program import target_of
from vfsim.explore.strategies import searcher_of
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.suspicion import told
from vfsim.explore.watch import Watch
from vfsim.fs.kernel import Kernel
from vfsim.fs.refusal import Refusal, refusal_of
from vfsim.testing import alone
from vfsim.testing.alone import (
    CONFORMANCE,
    REFUSAL,
    ConformanceProgram,
    MountProgram,
    RefusalProgram,
)
from vfsim.testing.conformance import Capabilities, KernelGround, assertions, probe
from vfsim.testing.conformance.corpus import areas
from vfsim.testing.corpus import CORPUS, ask_corpus, program_of
from vfsim.testing.scenario import ScenarioProgram
from vfsim.testing.scenarios import library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vfsim.explore.campaign import Campaign
    from vfsim.explore.program import Program
    from vfsim.explore.token import Option
    from vfsim.fs.operations import FileSystemType
    from vfsim.sim.errors import Violation
    from vfsim.testing.conformance import Assertion
    from vfsim.testing.conformance.corpus import Case
    from vfsim.testing.scenario import Scenario

SCHEDULES = 200
"""Distinct schedules per scenario."""

_PER_DISTINCT = 4  # schedules run at most, for each distinct one that is wanted
_MAX_FAILING = 20  # failing schedules after which a scenario is left
_SHRUNK = 10  # failures that are made smaller: so many are printed in full
_MAX_ENDLESS = 3  # runs that make no progress: each takes long


@attrs.define
class Subject:
    """What is checked, and how it is set up.

    Attributes:
        target: as it was named.  filesystem: the class.
        device: sectors of its disk, if not what it says itself.
        mount_options: for each mount.
        faults: the kinds of fault that may happen in scenarios, as ``"alloc,copy,io"``.
        audit: look for shared state that it does not declare, in the scenarios.
    """

    target: str
    filesystem: type[FileSystemType]
    device: int | None = None
    mount_options: str = ""
    faults: str = ""
    audit: bool = False
    _caps: Capabilities | None = attrs.field(default=None, init=False, eq=False)

    @property
    def blamed(self) -> str:
        """The name under which the filesystem is blamed for wrong results."""
        return f"filesystem {self.filesystem.__qualname__}"

    @property
    def options(self) -> tuple[tuple[str, Option], ...]:
        """What a token must say beside the target."""
        made: list[tuple[str, Option]] = []
        if self.device is not None:
            made.append(("device", self.device))
        if self.mount_options:
            made.append(("mount-options", self.mount_options))
        if self.audit:
            made.append(("audit", 1))
        return tuple(made)

    def probe(self) -> Capabilities:
        """What the filesystem can do; its mistakes are for the suite to find."""
        if self._caps is None:
            args = (self.filesystem, self.device, self.mount_options)
            self._caps = probe(KernelGround(*args, checks=False))
        return self._caps

    def program(self, name: str) -> Program:
        """What a token runs that names this scenario.

        Raises:
            LookupError: this vfsim has no such scenario.
        """
        if name == "mount":
            return MountProgram(self)
        if name.startswith(CORPUS):
            company = program_of(self, name)
            if company is not None:
                return company
        for assertion in assertions() if name.startswith((CONFORMANCE, REFUSAL)) else ():
            program = alone.named(self, name, assertion)
            if program is not None:
                return program
        for scenario in library():
            if scenario.__name__ == name:
                return self.scenario(scenario)
        raise LookupError(f"this vfsim has no scenario called {name}")

    def scenario(self, scenario: type[Scenario]) -> ScenarioProgram:
        """A scenario of the library on this filesystem."""
        return ScenarioProgram(
            scenario,
            self.filesystem,
            self.device,
            self.mount_options,
            self.target,
            self.faults,
            self.audit,
        )


@attrs.define
class Checked:
    """What a check came to.

    Attributes:
        subject: what was checked.
        seed: of the search.
        races: whether races were looked for.
        failures: one per signature.
        passed, failed, skipped: assertions of the conformance suite.
        declared: those that came to a call which is refused by design, by the declaration.
        explorations: one per scenario.
        left_out: scenarios that need what the filesystem does not have.
        unlike: what it does otherwise than nearly all others, and is not asked about.
        coverage: methods called, cells checked, and what the schedules showed.
        suspicions: what they show of lock order together and no one by itself, told.
        endless: runs that made no progress; a few of them end the check.
        interrupted: Ctrl-C ended it.
    """

    subject: Subject
    seed: int
    races: bool = True
    failures: list[Failure] = attrs.Factory(list)
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    declared: dict[Refusal, list[str]] = attrs.Factory(dict)
    explorations: list[Exploration] = attrs.Factory(list)
    left_out: list[str] = attrs.Factory(list)
    unlike: list[str] = attrs.Factory(list)
    coverage: dict[str, Any] = attrs.Factory(dict)
    suspicions: list[str] = attrs.Factory(list)
    endless: int = 0
    interrupted: bool = False

    @property
    def verdict(self) -> str:
        """``bug``, ``interrupted`` or ``clean``."""
        return "bug" if self.failures else "interrupted" if self.interrupted else "clean"

    @property
    def run(self) -> int:
        """Schedules run."""
        return sum(e.run for e in self.explorations)

    @property
    def distinct(self) -> int:
        """Schedules run that differ from each other, within each scenario."""
        return sum(e.distinct for e in self.explorations)

    @property
    def campaigns(self) -> dict[str, Campaign]:
        """How far the search of each scenario has come."""
        return {e.scenario: e.campaign for e in self.explorations}

    def add(self, found: Exploration) -> None:
        """Keep what an exploration found, once per signature."""
        mine = {f.violation.signature: f for f in self.failures}
        for failure in found.failures:
            first = mine.get(failure.violation.signature)
            if first is None:
                self.failures.append(failure)
            else:
                first.count += failure.count
        for signature, count in found.seen_again.items():
            mine[signature].count += count
        self.endless += found.endless

    def schedule_lines(self) -> list[str]:
        """What the schedules of all scenarios showed, a line each."""
        parts = [e.coverage for e in self.explorations]
        together = _together(parts)
        return [
            *interleaving_lines(parts),
            *order_lines(together.orders),
            *lock_lines(together.uses),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of ``vfsim check``."""
        return {
            "target": self.subject.target,
            "verdict": self.verdict,
            "violations": [f.as_dict() for f in self.failures],
            "schedules": {"run": self.run, "distinct": self.distinct},
            "coverage": self.coverage,
            "seed": self.seed,
        }


class Progress:
    """What a check tells of itself while it works; this one tells nobody."""

    def begin(self, total: int) -> None:
        """So much work is ahead, in units of one schedule or one assertion."""

    def at(self, what: str) -> None:
        """Something new begins."""

    def advance(self, amount: int) -> None:
        """So much of it is done."""


def check(
    subject: Subject,
    *,
    seed: int = 0,
    schedules: int = SCHEDULES,
    strategy: str = "pos",
    jobs: int = 1,
    races: bool = True,
    campaigns: Mapping[str, Campaign] | None = None,
    first: Sequence[Failure] = (),
    shrink: bool = True,
    progress: Progress | None = None,
) -> Checked:
    """Ask everything of a filesystem.

    Args:
        schedules: distinct ones per scenario.
        jobs: processes; the result does not depend on it.
        races: look for races on declared fields.
        campaigns: go on where an earlier check stopped, by the name of the scenario.
        first: failures that were replayed already.
        shrink: report failures in the smallest program and schedule that show them.

    Raises:
        EngineError: a run could not be repeated.
        TypeError, ValueError: wrong arguments.
    """
    searcher_of(strategy, seed)  # refuse a wrong one before any work is done
    progress = progress or Progress()
    tables.reset()
    result = Checked(subject, seed, races, list(first))
    result.declared = {refusal: [] for refusal in subject.filesystem.refuses}
    with Watch() as watch:
        suite = list(assertions())
        scenarios = library()
        corpus = areas()
        cases = sum(len(some) for some in corpus.values())
        progress.begin(len(suite) + cases + schedules * len(scenarios))
        progress.at("mounting")
        mounted = _run_alone(result, MountProgram(subject), watch)
        if not watch.interrupted and all(v.kind in ("soft", "leak") for v in mounted):
            caps = subject.probe()
            result.unlike = caps.differences()
            _conformance(result, suite, caps, watch, progress)
            _corpus(result, corpus, caps, watch, progress)
            chosen = _chosen(result, scenarios, caps)
            progress.advance(schedules * len(result.left_out))
            known = frozenset(f.violation.signature for f in result.failures)
            work = _Work(subject, chosen, schedules, strategy, seed, known, races, campaigns or {})
            _concurrency(result, work, jobs, watch, progress)
            if not watch.interrupted:
                result.suspicions = _suspicions(result, work, watch)
        parts = [e.coverage for e in result.explorations]
        refused = {str(refusal): found for refusal, found in result.declared.items()}
        result.coverage = {**tables.record(), **_together(parts).as_dict(), "refused": refused}
        if shrink:
            progress.at("shrinking")
            _shrink(result, len(first), jobs, watch)
        result.interrupted = watch.interrupted
    return result


def _suspicions(result: Checked, work: _Work, watch: Watch) -> list[str]:
    """What the schedules of all scenarios show of lock order together, with their tokens where the
    search can run a schedule by number.
    """
    together = Coverage()
    for number, exploration in enumerate(result.explorations):
        together.union.merge(exploration.coverage.union, search=number + 1)
    if not searcher_of(work.strategy, work.seed).parallel:
        return [str(suspicion) for suspicion in together.suspicions]
    return [told(partial(work.batch, watch), suspicion) for suspicion in together.suspicions]


def _together(parts: list[Coverage]) -> Coverage:
    """The coverage of several scenarios; classes of different scenarios are different."""
    whole = Coverage()
    for number, part in enumerate(parts):
        whole.classes.update(((number << 64 | name), n) for name, n in part.classes.items())
        whole.schedules += part.schedules
        whole.once += part.once
        whole.drawn &= part.drawn
        whole.orders.update(part.orders)
        whole.uses.update(part.uses)
        whole.union.merge(part.union, search=number + 1)
    return whole


def check_filesystem(target: str | type[FileSystemType], **options: Any) -> Checked:
    """As ``vfsim check``: of a target by name (``file.py:Name``) or of a class; ``options`` are
    those of `check`.

    Raises:
        BadTarget: the target cannot be used.
        EngineError: a run could not be repeated.
    """
    from vfsim.testing.target import load

    if isinstance(target, str):
        return check(Subject(target, load(target).filesystem()), **options)
    return check(Subject(target_of(target), target), **options)


def _conformance(
    result: Checked, suite: list[Assertion], caps: Capabilities, watch: Watch, progress: Progress
) -> None:
    for assertion in suite:
        if watch.interrupted or result.endless >= _MAX_ENDLESS:
            return
        progress.at(f"conformance: {assertion.area}")
        if assertion.why_not(caps):
            result.skipped += 1
        else:
            _ask(result, assertion, caps, watch)
        progress.advance(1)


def _ask(result: Checked, assertion: Assertion, caps: Capabilities, watch: Watch) -> None:
    """One assertion; and whether a call in it that is refused by design has no effect."""
    program = ConformanceProgram(result.subject, assertion, caps)
    if _run_alone(result, program, watch):
        result.failed += 1
        return
    refusal = program.result.refusal if program.result is not None else None
    if refusal is None:
        result.passed += 1
        return
    result.declared[refusal].append(assertion.id)
    _run_alone(result, RefusalProgram(result.subject, assertion, caps, program.calls - 1), watch)


def _corpus(
    result: Checked,
    corpus: Mapping[str, Sequence[Case]],
    caps: Capabilities,
    watch: Watch,
    progress: Progress,
) -> None:
    """Ask what Linux was asked, too."""

    def report(program: Program) -> bool:
        return bool(_run_alone(result, program, watch))

    progress.at("corpus")
    for asked in ask_corpus(result.subject, corpus, caps, report, watch):
        result.passed += asked.passed
        result.failed += asked.failed
        result.skipped += asked.skipped
        progress.advance(asked.passed + asked.failed + asked.skipped)
        if watch.interrupted or result.endless >= _MAX_ENDLESS:
            return


def _run_alone(result: Checked, program: Program, watch: Watch) -> list[Violation]:
    """Run a program once, undisturbed; report what it finds that is new."""
    batch = Batch(
        program, searcher_of("pos", result.seed), result.seed, MAX_STEPS, watch, result.races
    )
    watch.begin()
    run = execute(program, Replay([]), races=result.races)
    if batch.cut(run) or not run.violations:
        return []
    known = {f.violation.signature: f for f in result.failures}
    for violation in run.violations:
        result.endless += violation.kind == "no progress"
        if violation.signature in known:
            known[violation.signature].count += 1
    new = [v for v in run.violations if v.signature not in known]
    if new:
        result.failures += report_run(batch, 0, run, new)
    return run.violations


def _chosen(
    result: Checked, scenarios: list[type[Scenario]], caps: Capabilities
) -> list[type[Scenario]]:
    """The scenarios that say something about a filesystem with these capabilities."""
    chosen = []
    for scenario in scenarios:
        able = frozenset(getattr(scenario, "needs", "").split()) <= caps.has
        if able and _fits(result.subject.scenario(scenario)):
            chosen.append(scenario)
        else:
            result.left_out.append(scenario.__name__)
    return chosen


def _fits(program: ScenarioProgram) -> bool:
    """Whether the filesystem has room for what the scenario begins with, and does not refuse it."""
    kernel = Kernel()
    try:
        program.mount(kernel)
        kernel.call(program.scenario().setup)
    except OSError as error:
        return error.errno not in (ENOSPC, EFBIG, EDQUOT) and not _by_design(program, error)
    except Exception:
        return True  # something is wrong: let the scenario find out what
    finally:
        kernel.machine.bury()
    return True


def _by_design(program: ScenarioProgram, error: OSError) -> bool:
    """Whether the filesystem declares to refuse a call that may make what is there before."""
    calls = ("open", "write", "close", "mkdir", "symlink", "link")
    refuses = program.filesystem.refuses
    return any(refusal_of(refuses, call, error.errno or 0) for call in calls)


@attrs.define
class _Work:
    """The concurrency part, cut into one piece per scenario; pieces know nothing of each other."""

    subject: Subject
    scenarios: list[type[Scenario]]
    schedules: int
    strategy: str
    seed: int
    known: frozenset[tuple[str, str, str]]
    races: bool
    campaigns: Mapping[str, Campaign]

    def piece(self, index: int, watch: Watch) -> Exploration:
        """Explore one scenario."""
        return search(
            self.subject.scenario(self.scenarios[index]),
            schedules=self.schedules * _PER_DISTINCT,
            distinct=self.schedules,
            strategy=self.strategy,
            seed=self.seed,
            races=self.races,
            campaign=self.campaigns.get(self.scenarios[index].__name__),
            max_failing=_MAX_FAILING,
            known=self.known,
            watch=watch,
        )

    def batch(self, watch: Watch, search: int) -> Batch:
        """The schedules of one scenario, by its number from 1, with a fresh searcher."""
        program = self.subject.scenario(self.scenarios[search - 1])
        searcher = searcher_of(self.strategy, self.seed)
        return Batch(program, searcher, self.seed, MAX_STEPS, watch, self.races)


def _concurrency(result: Checked, work: _Work, jobs: int, watch: Watch, progress: Progress) -> None:
    for found in in_order(work.piece, len(work.scenarios), jobs, watch):
        result.explorations.append(found)
        result.add(found)
        progress.at(found.scenario)
        progress.advance(work.schedules)
        if result.endless >= _MAX_ENDLESS:
            return


def _shrink(result: Checked, known: int, jobs: int, watch: Watch) -> None:
    """Make the failures of scenarios and assertions smaller, as many as anybody reads.

    Args:
        known: so many at the beginning were replayed, and are as small as they were kept.
    """
    scenarios = {s.__name__ for s in library()}
    fresh = range(known, len(result.failures))
    at = [
        i
        for i in fresh
        if (name := result.failures[i].scenario) in scenarios or name.startswith(CONFORMANCE)
    ][:_SHRUNK]

    def smaller(number: int, watch: Watch) -> Failure:
        failure = result.failures[at[number]]
        return shrunk(failure, result.subject.program(failure.scenario), watch)

    for i, failure in zip(at, in_order(smaller, len(at), jobs, watch), strict=False):
        result.failures[i] = failure


def scenario_names() -> list[str]:
    """The scenario library, by name."""
    return [s.__name__ for s in library()]


__all__ = [
    "Checked",
    "Progress",
    "Subject",
    "check",
    "check_filesystem",
    "scenario_names",
]
