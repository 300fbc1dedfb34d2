"""A token again: the same run with the full trace, and how sure one can be that it is the same.

`replay` never raises because the run differs: it says so in `Replayed`.  What a difference means
depends on what changed since the token was made.  Nothing changed: vfsim is broken (or the target
has a memory of its own).  The target
changed: the author mended or moved something, and the replay did what it could.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.explore import identity
from vfsim.explore.execute import MAX_STEPS, Run, execute
from vfsim.explore.failure import WHOSE_FAULT, Failure, tell
from vfsim.explore.nearest import UNKNOWN, look
from vfsim.explore.parallel import EngineError
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.watch import TIMED_OUT, Watch
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from vfsim.explore.program import Program
    from vfsim.explore.token import Token
    from vfsim.sim.machine import Machine


@attrs.define
class Replayed:
    """What came of a token.

    Attributes:
        token: the token.
        run: the run.
        failures: everything it found, reported.
        divergence: where the run first left the recorded one, as a sentence, or "".
        changed: what is not as it was when the token was made: "the target", "vfsim", both, or "".
        exact: the whole trace is the recorded one.
        interrupted: it ended because of Ctrl-C.
    """

    token: Token
    run: Run
    failures: list[Failure]
    divergence: str
    changed: str
    exact: bool
    interrupted: bool = False

    @property
    def reproduced(self) -> bool:
        """Whether the violation that the token was made for came again."""
        wanted = (self.token.rule, self.token.blamed)
        return any((f.violation.rule, f.violation.blamed) == wanted for f in self.failures)

    @property
    def broken(self) -> str:
        """Why this replay proves a bug of vfsim, or ""."""
        if self.changed or self.interrupted:
            return ""
        if self.divergence:
            return f"the run went astray {self.divergence}"
        if self.token.rule and not self.reproduced:
            return f"{self.token.rule} was found then and is not found now"
        return "" if self.exact else "the trace is not the recorded one"

    @property
    def what_changed(self) -> str:
        """What is not as it was, and what that did to the run, as a sentence; or ""."""
        if not self.changed:
            return ""
        text = f"{self.changed} changed since this token was made"
        if self.divergence:
            return (
                f"{text}; the replay comes as close as it can, and first differs {self.divergence}"
            )
        return f"{text}, but not this run" if self.exact else text

    def check(self) -> None:
        """Raises: EngineError if the replay should have been exact and was not."""
        if self.broken:
            raise EngineError(
                f"the replay differs although nothing changed: {self.broken}.  {WHOSE_FAULT}"
            )


def replay(token: Token, program: Program) -> Replayed:
    """Run a token of a program again.

    What it was made for is told with the nearest schedule that passes.  Races are looked for if the
    run that the token was made of looked for them.
    """
    trace = Trace()
    strategy = Replay(token.deviations, token.expected)
    failures: list[Failure] = []
    text = str(token)
    limit = token.max_steps or MAX_STEPS

    def tell_all(machine: Machine) -> None:
        for violation in machine.violations:
            told = tell(
                machine, violation, text, known if violation.signature == signature else UNKNOWN
            )
            failures.append(Failure(violation, text, told, program.name, token.schedule))

    with Watch() as watch:
        signature = _wanted(token, program, limit, watch)
        known = UNKNOWN
        if signature is not None:
            known = look(program, token.deviations, signature, limit, watch, token.races)
        watch.begin()
        run = execute(program, strategy, trace, limit, tell_all, token.races)
    return Replayed(
        token=token,
        run=run,
        failures=failures,
        divergence=strategy.finish(),
        changed=_changed(token),
        exact=run.digest[: len(token.fingerprint)] == token.fingerprint,
        interrupted=watch.interrupted,
    )


def _wanted(
    token: Token, program: Program, limit: int, watch: Watch
) -> tuple[str, str, str] | None:
    """The signature of the violation that the token was made for, if it comes again."""
    if token.rule in ("", TIMED_OUT):
        return None
    watch.begin()
    run = execute(program, Replay(token.deviations), None, limit, races=token.races)
    for violation in run.violations:
        if (violation.rule, violation.blamed) == (token.rule, token.blamed):
            return violation.signature
    return None


def _changed(token: Token) -> str:
    what = []
    if token.sources != identity.sources(token.target):
        what.append("the target")
    if token.engine != identity.engine():
        what.append("vfsim")
    return " and ".join(what)
