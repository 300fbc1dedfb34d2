"""The corpus as programs: what ``vfsim check`` runs of it, and what a token brings back.

Cases run in companies of a few hundred, one world each.  When something is wrong in one, the
suspects are run alone; the first that is wrong alone, too, is what is reported, and the company
goes on behind it.  If none is, the case is wrong only after others: then the company is reported.

An area of the corpus is left after `MOST` such troubles: whoever has that many has read enough.
"""

from __future__ import annotations

from errno import EDQUOT, EFBIG, ENOSPC
from typing import TYPE_CHECKING

import attrs

from vfsim.explore.execute import execute
from vfsim.explore.strategies.replay import Replay
from vfsim.fs.kernel import Kernel
from vfsim.sim.errors import Violation
from vfsim.testing.conformance import KernelGround
from vfsim.testing.conformance.corpus import (
    Company,
    Expectation,
    SimulatedActor,
    areas,
)
from vfsim.testing.conformance.corpus.case import WORLDS
from vfsim.testing.conformance.corpus.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vfsim.explore.program import Program
    from vfsim.explore.watch import Watch
    from vfsim.sim.trace import Trace
    from vfsim.testing.check import Subject
    from vfsim.testing.conformance import Capabilities, SystemCalls
    from vfsim.testing.conformance.corpus import Case, Difference

CORPUS = "corpus:"
"""How a token names a case, or the first and the last of a company."""

SIZE = 512
"""Cases in one world."""

AT_ONCE = 64
"""Cases that share what one run may take at most: a stacking filesystem takes twice the points."""

MOST = 3
"""Troubles in one area after which the rest of it is left."""

_TO = " .. "


class CorpusProgram:
    """A company of cases, or one alone."""

    def __init__(self, subject: Subject, some: Sequence[Case], expectation: Expectation) -> None:
        self.subject = subject
        self.cases = some
        self.expectation = expectation
        self.name = CORPUS + _TO.join(dict.fromkeys(case.id for case in (*some[:1], *some[-1:])))
        self.target = subject.target
        self.options = subject.options
        self.blamed = subject.blamed
        self.company = Company(some, expectation)

    def of(self, some: Sequence[Case]) -> CorpusProgram:
        """The same of other cases."""
        return CorpusProgram(self.subject, some, self.expectation)

    def world(self, trace: Trace | None, max_steps: int) -> _CorpusWorld:
        """A kernel with nothing on it."""
        shares = -(-len(self.cases) // AT_ONCE)
        return _CorpusWorld(Kernel(trace=trace, max_steps=max_steps * shares), self)


class _CorpusWorld:
    def __init__(self, kernel: Kernel, program: CorpusProgram) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.program = program

    def set_up(self) -> None:
        """The ground mounts."""

    def check(self) -> None:
        program, s = self.program, self.program.subject
        found: list[Difference | None] = []

        def body(sys: SystemCalls) -> None:
            found.append(self._ask(SimulatedActor(sys)))

        KernelGround(s.filesystem, s.device, s.mount_options, self.kernel).run([(body, False)])
        wrong = found[0] if found else None
        if wrong is not None and not self.machine.violations:
            message = f"{wrong.case.id}: Linux gives {wrong.expected}; got {wrong.got}"
            self.machine.violation(
                Violation(
                    f"conformance.{wrong.case.id}", "wrong result", program.blamed, "", message,
                    "", tuple(f"  {line}" for line in wrong.transcript),
                )
            )  # fmt: skip

    def _ask(self, actor: SimulatedActor) -> Difference | None:
        """Sleeps.  Run the cases."""
        program, violations = self.program, self.machine.violations
        program.company = Company(program.cases, program.expectation, lambda: bool(violations))
        program.company.run(actor)
        return program.company.found

    def close(self) -> None:
        self.kernel.close()


def program_of(subject: Subject, name: str) -> CorpusProgram | None:
    """What a token runs that names cases; None if this vfsim does not have them."""
    first, _, last = name.removeprefix(CORPUS).partition(_TO)
    expectation = Expectation(subject.probe())
    for some in areas().values():
        ids = [case.id for case in some]
        if first in ids and (last or first) in ids:
            part = some[ids.index(first) : ids.index(last or first) + 1]
            return CorpusProgram(subject, expectation.asked(part), expectation)
    return None


# Asking everything.  -----------------------------------------------------------------------------


@attrs.define
class Asked:
    """How many cases of an area passed, failed, and were not asked."""

    area: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def ask_corpus(
    subject: Subject,
    corpus: Mapping[str, Sequence[Case]],
    caps: Capabilities,
    report: Callable[[Program], bool],
    watch: Watch,
) -> Iterator[Asked]:
    """Ask whatever of the corpus can be asked of a filesystem, an area at a time.

    Args:
        corpus: cases by area.
        report: run a program and report what it finds; says whether it found anything.
    """
    expectation = Expectation(caps)
    fitting = frozenset(world for world in WORLDS if _fits(subject, world, caps))
    for area, whole in corpus.items():
        asked = [case for case in expectation.asked(whole) if case.world in fitting]
        result = Asked(area, skipped=len(whole) - len(asked))
        for start in range(0, len(asked), SIZE):
            some = asked[start : start + SIZE]
            _company(CorpusProgram(subject, some, expectation), report, result, watch)
        yield result


def _company(
    program: CorpusProgram, report: Callable[[Program], bool], result: Asked, watch: Watch
) -> None:
    """One company, as often as it takes to get to its end."""
    while program.cases and result.failed < MOST and not watch.interrupted:
        watch.begin()
        run = execute(program, Replay([]), races=False)
        if watch.interrupted:
            break
        company = program.company
        if not run.violations:
            result.passed += company.at
            program = program.of(program.cases[company.at :])
            continue
        suspects = company.suspects if company.at < len(program.cases) else ()
        if not any(report(program.of((case,))) for case in reversed(suspects)):
            report(program)
        result.failed += 1
        result.passed += min(company.at, len(program.cases) - 1)
        program = program.of(program.cases[company.at + 1 :])
    result.skipped += len(program.cases)


def _fits(subject: Subject, world: str, caps: Capabilities) -> bool:
    """Whether the filesystem has room for the tree of these cases, and does not refuse it."""
    full: list[bool] = []

    def body(sys: SystemCalls) -> None:
        try:
            Stage(SimulatedActor(sys), world, caps).set_up()
        except OSError as error:
            refused = Expectation(caps).may_refuse(error)
            full.append(refused or error.errno in (ENOSPC, EFBIG, EDQUOT))

    try:
        args = (subject.filesystem, subject.device, subject.mount_options)
        KernelGround(*args, checks=False).run([(body, False)])
    except Exception:  # whatever it is, the cases will meet it again and tell it
        return True
    return True not in full
