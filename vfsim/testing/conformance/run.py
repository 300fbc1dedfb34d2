"""Running the suite and telling the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs

from vfsim.testing.conformance.capabilities import Capabilities, probe
from vfsim.testing.conformance.suite import Assertion, Nonconforming, assertions
from vfsim.testing.conformance.syscalls import Recorder, SystemCalls, errno_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance.ground import Ground, Step


@attrs.frozen
class Result:
    """What became of one assertion.

    Attributes:
        id, area, name: the assertion's.
        status: ``ok``, ``failed``, ``skipped``, or ``declared``: it came to a call that the
            filesystem declares to refuse, and that was refused.
        message: one line; why it was skipped, or ``NAME: expected X, got Y``.
        expected, got: the two halves of a failure.
        transcript: the system calls that led to a failure, one line each.
        refusal: the declaration, if it is ``declared``.
    """

    id: str
    area: str
    name: str
    status: str
    message: str = ""
    expected: str = ""
    got: str = ""
    transcript: tuple[str, ...] = ()
    refusal: Refusal | None = None

    @property
    def ok(self) -> bool:
        """False only for a failure: what was skipped or is declared is no failure."""
        return self.status != "failed"

    def as_dict(self) -> dict[str, object]:
        """The result as JSON has it."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "message": self.message,
            "expected": self.expected,
            "got": self.got,
            "transcript": list(self.transcript),
        }

    def report(self) -> str:
        """The message with the calls before it, for people."""
        return "\n".join((self.message, *(f"    {line}" for line in self.transcript)))


class _Outcome:
    """What the step of an assertion left behind; it must not raise inside a simulated task."""

    def __init__(self, assertion: Assertion, caps: Capabilities, recorder: Recorder) -> None:
        self.assertion = assertion
        self.caps = caps
        self.recorder = recorder
        self.failure: Nonconforming | None = None
        self.refusal: Refusal | None = None
        self.transcript: tuple[str, ...] = ()
        self.finished = 0

    def step(self, body: Callable[..., None]) -> Callable[[SystemCalls], None]:
        def run(sys: SystemCalls) -> None:
            recorder = self.recorder
            recorder.on(sys)
            seen = cast("SystemCalls", recorder)
            try:
                body(seen, self.caps) if self._wants_limits(body) else body(seen)
            except Nonconforming as failure:
                self._failed(failure)
            except OSError as error:
                unexpected = Nonconforming(
                    f"success of {recorder.last}" if recorder.last else "success",
                    errno_name(error.errno or 0),
                )
                self._failed(unexpected)
            else:
                self.finished += 1

        return run

    def _wants_limits(self, body: Callable[..., None]) -> bool:
        return body is self.assertion.body and self.assertion.wants_limits

    def _failed(self, failure: Nonconforming) -> None:
        if self.failure is None:
            self.failure, self.transcript = failure, tuple(self.recorder.transcript)
            self.refusal = self.recorder.refusal


def run_assertion(
    assertion: Assertion, ground: Ground, caps: Capabilities, recorder: Recorder | None = None
) -> Result:
    """Run one assertion on a fresh filesystem, or say why not.

    A failure whose last call was refused, as the filesystem declares, is no failure.

    Args:
        recorder: what the calls go through, if it shall do more than remember them.

    Raises whatever the ground raises, which is about the kernel and not about the answer.
    """
    about = (assertion.id, assertion.area, assertion.name)
    reason = assertion.why_not(caps)
    if reason:
        return Result(*about, "skipped", message=reason)
    outcome = _Outcome(assertion, caps, recorder or Recorder(refuses=caps.refuses))
    steps: list[Step] = [(outcome.step(assertion.body), assertion.readonly)]
    if assertion.given is not None:
        steps.insert(0, (outcome.step(assertion.given), False))
    ground.run(steps)
    if outcome.refusal is not None:
        message = f"{outcome.transcript[-1]}, by design"
        return Result(*about, "declared", message, refusal=outcome.refusal)
    if outcome.failure is not None:
        return _failed(assertion, outcome.failure, outcome.transcript)
    if outcome.finished < len(steps):
        return _failed(assertion, Nonconforming("the calls to return", "the kernel stopped"))
    return Result(*about, "ok")


def _failed(
    assertion: Assertion, failure: Nonconforming, transcript: tuple[str, ...] = ()
) -> Result:
    what = f" ({failure.what})" if failure.what else ""
    return Result(
        assertion.id,
        assertion.area,
        assertion.name,
        "failed",
        f"{assertion.name}{what}: expected {failure.expected}, got {failure.got}",
        failure.expected,
        failure.got,
        transcript,
    )


def run_conformance(
    ground: Ground,
    capabilities: Capabilities | None = None,
    *,
    areas: Iterable[str] = (),
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run the suite, each assertion on a fresh mount.

    Args:
        ground: where to run.
        capabilities: what to ask for; found by `probe` if left out.
        areas: only these, or all.
        on_result: called after each one (for a progress bar).

    What the ground raises (a broken rule, a leak) is a failure of the assertion it happened in.

    Returns:
        One result an assertion, in the suite's order, skipped ones included.
    """
    caps = probe(ground) if capabilities is None else capabilities
    results = []
    for assertion in assertions(tuple(areas)):
        try:
            result = run_assertion(assertion, ground, caps)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}".splitlines()[0]
            result = _failed(assertion, Nonconforming("the kernel to find nothing wrong", broken))
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results
