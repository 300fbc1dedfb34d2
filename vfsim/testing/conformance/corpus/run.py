"""Running cases: each alone in a tree of its own, or many in company, which is fast.

*Alone* is what counts: `alone` makes the tree, looks at all of it, makes the calls, looks at all of
it again.  That is how answers are recorded, and how a failure is shown.

*In company* is how it is found.  `Company` runs thousands of cases in one tree.  Most calls are
refused and change nothing; so after each case it looks only at the names that should have changed,
puts those back, and makes sure every few cases that the whole tree is tidy.  It stops at the first
sign that something is wrong: a call said something else, a name is not what it should be, the tree
is not tidy, or the kernel found fault (`Company.fault`).  Which case is to blame is then found out
by running the suspects alone.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any, cast

import attrs

from vfsim.fs.refusal import refusal_of
from vfsim.testing.conformance.corpus.answers import Answer, ask, recorded, visible
from vfsim.testing.conformance.corpus.case import EVERYBODY, ROOT
from vfsim.testing.conformance.corpus.known import expected
from vfsim.testing.conformance.corpus.stage import Stage, changes
from vfsim.testing.conformance.syscalls import Recorder, errno_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.corpus.case import Case
    from vfsim.testing.conformance.corpus.stage import Actor, Line
    from vfsim.testing.conformance.syscalls import SystemCalls

CHECKPOINT = 128
"""Cases after which the whole tree is looked at."""

_NEVER = 1 << 62


@attrs.frozen
class Difference:
    """A case that did not answer as Linux does.

    Attributes:
        expected, got: as text.  transcript: the calls that led to it, a line each.
    """

    case: Case
    expected: str
    got: str
    transcript: tuple[str, ...] = ()


class Expectation:
    """What a filesystem with some capabilities should answer."""

    def __init__(self, caps: Capabilities) -> None:
        self.caps = caps
        self.answers = recorded()
        self._right: dict[str, list[Answer]] = {}

    def of(self, case: Case) -> list[Answer]:
        """The answers that are right; none if nobody knows."""
        right = self._right.get(case.id)
        if right is None:
            right = self._right[case.id] = self._of(case)
        return right

    def _of(self, case: Case) -> list[Answer]:
        if case.id not in self.answers:
            return []
        right = expected(case.id, self.answers[case.id])
        if case.may_refuse and case.may_refuse not in self.caps.has:
            refused = Answer(["EINVAL"], {})
            return [*(answer for answer in right if not answer.changed), refused]
        return right

    def asked(self, cases: Iterable[Case]) -> list[Case]:
        """The cases that can be asked of such a filesystem, and whose answer is known."""
        return [case for case in cases if not case.why_not(self.caps) and self.of(case)]

    def met(self, case: Case, answer: Answer, stage: Stage) -> bool:
        """Whether an answer is right, of what is asked on this stage."""
        if answer in self.of(case):
            return True
        got = visible(answer, case, self.caps, stage)
        right = [visible(right, case, self.caps, stage) for right in self.of(case)]
        return got in right or any(self._refused(case, one, got) for one in right)

    def _refused(self, case: Case, right: Answer, got: Answer) -> bool:
        """Whether all was right up to a call that the filesystem declares to refuse, and that one
        had no effect.
        """
        pairs = zip(got.said, right.said, strict=True)
        number = next((n for n, (here, there) in enumerate(pairs) if here != there), None)
        if number is None or not self.declared(case.calls[number].name, got.said[number]):
            return False
        return got.changed.items() <= (right.changed.items() if number else set())

    def may_refuse(self, error: OSError) -> bool:
        """Whether the filesystem declares that some call may fail like this."""
        return any(refusal.errno == error.errno for refusal in self.caps.refuses)

    def declared(self, call: str, said: Any) -> bool:
        """Whether the filesystem declares that a call may say this."""
        code = getattr(errno, said, 0) if isinstance(said, str) else 0
        return refusal_of(self.caps.refuses, call, code) is not None


def perform(case: Case, stage: Stage, paths: Iterable[str] | None = None) -> Answer:
    """Sleeps.  Make the calls of a case, and be root at the top again.

    Args:
        paths: where to look for changes; everywhere without.
    """
    sys = stage.actor.sys
    since = stage.actor.tick(stage.latest)
    stage.actor.become(EVERYBODY[case.who])
    said = [ask(sys, call) for call in case.calls]
    stage.actor.become(ROOT)
    _leave(sys, case)
    before = stage.lines
    after: dict[str, Line | None]
    if paths is None:
        after = dict(stage.look_around())
    else:
        after = stage.look(paths)
        before = {path: before[path] for path in after if path in before}
    return Answer(said, changes(before, after, since))


def _leave(sys: SystemCalls, case: Case) -> None:
    """Sleeps.  Undo what calls do to a process."""
    names = {call.name for call in case.calls}
    if not names.isdisjoint(("open", "openat", "dup", "dup2", "fcntl")):
        for fd in (0, 1, 5, 7):
            with contextlib.suppress(OSError):
                sys.close(fd)
    if not names.isdisjoint(("chdir", "fchdir")):
        sys.chdir("/")
    if "umask" in names:
        sys.umask(0o022)


# Alone.  -----------------------------------------------------------------------------------------


def alone(case: Case, actor: Actor, expectation: Expectation) -> Difference | None:
    """Sleeps.  Run a case in the empty tree of ``actor``; None if it is right."""
    stage = Stage(actor, case.world, expectation.caps)
    recorder = Recorder(actor.sys)
    actor.sys = cast("SystemCalls", recorder)
    try:
        stage.set_up()
        first = len(recorder.transcript) + 1  # after the tick
        answer = perform(case, stage)
    except OSError as error:
        return _stumbled(case, error, recorder.last)
    if expectation.met(case, answer, stage):
        return None
    transcript = recorder.transcript[first : first + len(case.calls)]
    return difference(case, answer, expectation, tuple(transcript))


def _stumbled(case: Case, error: OSError, call: str = "") -> Difference:
    """What is to be said when the tree cannot be set up, looked at or put in order."""
    what = call or "every call that sets the tree up, looks at it and puts it in order"
    return Difference(case, f"success of {what}", errno_name(error.errno or 0))


def difference(
    case: Case, got: Answer, expectation: Expectation, transcript: tuple[str, ...] = ()
) -> Difference:
    """What is to be said about a wrong answer."""
    right = expectation.of(case)
    if len(right) == 1:
        return Difference(case, right[0].text(got), got.text(right[0]), transcript)
    return Difference(case, " or ".join(r.text() for r in right), got.text(), transcript)


# In company.  ------------------------------------------------------------------------------------


@attrs.define
class Company:
    """Cases of one world, run in one tree.

    Attributes:
        cases: what to run.
        fault: asked after every case: whether the kernel found something wrong.
        at: the case that is being run.  tidy: the first one after which nobody has looked around.
        found: the difference it stopped at.
        worn: the filesystem refuses, by design, to have its tree put in order: the cases from
            ``at`` on need another one.
    """

    cases: Sequence[Case]
    expectation: Expectation
    fault: Callable[[], bool] = lambda: False
    at: int = 0
    tidy: int = 0
    found: Difference | None = None
    worn: bool = False

    @property
    def suspects(self) -> Sequence[Case]:
        """The cases of which one is to blame, the likeliest last."""
        return self.cases[self.tidy : self.at + 1]

    def run(self, actor: Actor) -> None:
        """Sleeps.  Run the cases in the empty tree of ``actor``, until something is wrong."""
        if len(self.cases) == 1:
            self.found = alone(self.cases[0], actor, self.expectation)
            self.at = int(self.found is None)
            return
        try:
            self._run(Stage(actor, self.cases[0].world, self.expectation.caps))
        except OSError as error:
            self.found = _stumbled(self.cases[self.at], error)

    def _run(self, stage: Stage) -> None:
        stage.set_up()
        last = len(self.cases) - 1
        for at, case in enumerate(self.cases):
            self.at = at
            self.found = self._one(case, stage)
            if self.worn:
                break
            if self.found is None and (at == last or at % CHECKPOINT == CHECKPOINT - 1):
                self.found = self._look_around(stage)
            if self.found is not None or self.fault():
                return
        self.at += 1

    def _one(self, case: Case, stage: Stage) -> Difference | None:
        paths = {path: None for right in self.expectation.of(case) for path in right.changed}
        answer = perform(case, stage, paths)
        if not self.expectation.met(case, answer, stage):
            return difference(case, answer, self.expectation)
        if answer.changed:
            self._tidy_up(answer, stage)
        return None

    def _tidy_up(self, answer: Answer, stage: Stage) -> None:
        try:
            stage.tidy_up(answer.changed)
        except OSError as error:
            if not self.expectation.may_refuse(error):
                raise
            self.worn = True

    def _look_around(self, stage: Stage) -> Difference | None:
        untidy = changes(stage.lines, dict(stage.look_around()), _NEVER)
        if not untidy:
            self.tidy = self.at + 1
            return None
        return Difference(self.cases[self.at], "only what was said to change", str(untidy))
