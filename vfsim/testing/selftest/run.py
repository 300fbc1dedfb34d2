"""Run the self-test: every case of every module, and what that says of each cell and rule.

A module beside this one contributes by a function ``cases()``; `MODULES` names them.  A case is
one piece of work, so cases may be shared by several processes; the result does not depend on it.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks import tables
from vfsim.checks.counters import uncounted
from vfsim.explore.parallel import in_order
from vfsim.explore.watch import Watch
from vfsim.testing.check import Progress
from vfsim.testing.selftest.case import CAUGHT, SILENT, WRONG_BLAME, WRONG_RULE, Outcome, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.sim.errors import Violation
    from vfsim.testing.selftest.case import Case

MODULES = ("contract", "lockdep", "busted", "races", "instances")
"""Who contributes cases."""

RECORD = "selftest"
"""The name of the coverage record."""


class NoSuchCase(ValueError):
    """A pattern that no case matches; the message is one sentence for people."""


@attrs.frozen
class Result:
    """What a self-test came to.

    Attributes:
        outcomes: one per case, in order.
        without_mutant: cells and rules without a mutant, and why.
        interrupted: Ctrl-C ended it.
    """

    outcomes: tuple[Outcome, ...]
    without_mutant: tuple[tuple[str, str], ...] = ()
    interrupted: bool = False

    def _count(self, expected: str, *got: str) -> int:
        return sum(o.case.expected == expected and o.got in got for o in self.outcomes)

    @property
    def wanted(self) -> int:
        """How many mutants there are."""
        return sum(o.case.expected == CAUGHT for o in self.outcomes)

    @property
    def caught(self) -> int:
        """Mutants caught with the right rule and blame."""
        return self._count(CAUGHT, CAUGHT)

    @property
    def missed(self) -> int:
        """Mutants that nobody noticed."""
        return self._count(CAUGHT, SILENT)

    @property
    def wrong(self) -> int:
        """Mutants told under the wrong rule, or to the wrong blame."""
        return self._count(CAUGHT, WRONG_RULE, WRONG_BLAME)

    @property
    def false_alarms(self) -> int:
        """Clean runs that were not silent."""
        return self._count(SILENT, CAUGHT, WRONG_RULE, WRONG_BLAME)

    @property
    def misses(self) -> list[Outcome]:
        """What did not come out as expected."""
        return [o for o in self.outcomes if not o.ok]

    @property
    def ok(self) -> bool:
        """Whether everything came out as expected."""
        return not self.misses and not self.interrupted

    def verdicts(self) -> dict[str, str]:
        """For each rule with mutants: ``caught`` if all of them were, else ``missed``."""
        found: dict[str, str] = {}
        for o in self.outcomes:
            if o.case.expected == CAUGHT and found.get(o.case.rule) != "missed":
                found[o.case.rule] = "caught" if o.ok else "missed"
        return found

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of ``vfsim selftest``."""
        return {
            "mutants": [o.as_dict() for o in self.outcomes],
            "caught": self.caught,
            "missed": self.missed,
            "wrong": self.wrong,
            "false_alarms": self.false_alarms,
            "without_mutant": [{"rule": rule, "why": why} for rule, why in self.without_mutant],
        }


def modules() -> Iterator[Any]:
    """The modules that contribute cases, as far as they are there."""
    for name in MODULES:
        path = f"vfsim.testing.selftest.{name}"
        if importlib.util.find_spec(path) is not None:
            yield importlib.import_module(path)


def all_cases(only: str = "") -> list[Case]:
    """The cases whose id or rule matches a pattern (``P23``, ``*.create.*``); all without one.

    Raises:
        NoSuchCase: none matches.
    """
    found = [case for module in modules() for case in module.cases()]
    if not only:
        return found
    chosen = [c for c in found if _matches(c, only)]
    if not chosen:
        raise NoSuchCase(
            f"no case of the self-test matches {only!r}: a pattern is an id or rule, or some of "
            "its words, as in P23, inode_operations.create or '*.filesystem'"
        )
    return chosen


def _matches(case: Case, pattern: str) -> bool:
    words = case.id, case.rule
    if any(c in pattern for c in "*?["):
        return any(fnmatch.fnmatchcase(w, pattern) for w in words)
    return any(f".{pattern}." in f".{w}." for w in words)


def without_mutant() -> list[tuple[str, str]]:
    """Cells and rules without a mutant, and why, from all modules that say so."""
    return [pair for module in modules() if hasattr(module, "without") for pair in module.without()]


def run(cases: Sequence[Case], jobs: int = 1, progress: Progress | None = None) -> Result:
    """Run some cases.

    Args:
        jobs: processes; the result does not depend on it.

    Raises:
        EngineError: a process died.
    """
    progress = progress or Progress()
    progress.begin(len(cases))
    outcomes: list[Outcome] = []
    with Watch() as watch:
        work = partial(_judged, cases)
        for n, (got, blamed, found) in enumerate(in_order(work, len(cases), jobs, watch)):
            outcomes.append(Outcome(cases[n], got, blamed, found))
            progress.at(cases[n].id)
            progress.advance(1)
        interrupted = watch.interrupted
    return Result(tuple(outcomes), tuple(without_mutant()), interrupted)


def _judged(
    cases: Sequence[Case], number: int, watch: Watch
) -> tuple[str, str | None, tuple[Violation, ...]]:
    """One case's outcome without the case, which cannot be sent to another process."""
    with uncounted():
        outcome = judge(cases[number])
    return outcome.got, outcome.blamed, outcome.found


def keep(result: Result) -> None:
    """Write what the mutants say of each cell and rule, for ``vfsim contract --coverage``.

    What an earlier self-test said of rules that had no mutant in this one stays.

    Raises:
        OSError: the record cannot be written.
    """
    record = tables.empty()
    path = tables.COVERAGE / f"{RECORD}.json"
    if path.is_file():
        try:
            record["mutants"] = tables.read_records([path])["mutants"]
        except ValueError:
            pass  # damaged: begin anew
    record["mutants"].update(result.verdicts())
    tables.write_record(RECORD, record)
