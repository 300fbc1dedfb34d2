"""What a check runs once, undisturbed: mounting, the assertions, and the calls that are refused.

Each is a program like any other (`vfsim.explore.program`), so that its token is replayed like any
other; it just has no tasks to interleave.

A failing assertion is made smaller by leaving calls out.  A call that is left out answers what it
answered when all were made, and the assertion goes on.  Whatever then still fails here *and passes
on ramfs* is a shorter way to see the same mistake: what fails on both only shows that something was
left out that was needed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from vfsim.block.disk import RamDisk
from vfsim.checks.counters import uncounted
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.sim.errors import Violation
from vfsim.testing.conformance import KernelGround, run_assertion
from vfsim.testing.conformance.effects import Enough, Witness
from vfsim.testing.conformance.syscalls import Answer, Recorder
from vfsim.testing.scenario import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.explore.token import Option
    from vfsim.fs.operations import FileSystemType
    from vfsim.sim.trace import Trace
    from vfsim.testing.check import Subject
    from vfsim.testing.conformance import Assertion, Capabilities, Result

CONFORMANCE = "conformance:"
"""How a token names an assertion of the conformance suite."""

REFUSAL = "refusal:"
"""How it names one of its calls that is refused by design: by its number, behind a ``#``."""

_MOST_CALLS = 40  # of an assertion that is made smaller


class Alone:
    """A program without concurrency."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.subject = subject
        self.name = name
        self.target = subject.target
        self.options: tuple[tuple[str, Option], ...] = subject.options
        self.blamed = subject.blamed

    def kernel(self, trace: Trace | None, max_steps: int) -> Kernel:
        """A kernel that has just started."""
        return Kernel(trace=trace, max_steps=max_steps)


class MountProgram(Alone):
    """Mount and umount, nothing else: what must work before anything else can be asked."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject, "mount")

    def world(self, trace: Trace | None, max_steps: int) -> _MountWorld:
        """A kernel with nothing on it."""
        return _MountWorld(self.kernel(trace, max_steps), self.subject)


class _MountWorld:
    def __init__(self, kernel: Kernel, subject: Subject) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.subject = subject

    def set_up(self) -> None:
        s = self.subject
        disk = RamDisk(sectors=s.device) if s.device is not None else None
        self.kernel.mount(s.filesystem, "/", device=disk, options=s.mount_options)

    def check(self) -> None:
        """Nothing was done."""

    def close(self) -> None:
        self.kernel.close()


class ConformanceProgram(Alone):
    """One assertion of the conformance suite.

    Attributes:
        left_out: the numbers of the calls that it does without.
        result: of the latest run.  calls: how many it made.
    """

    judges = True

    def __init__(self, subject: Subject, assertion: Assertion, caps: Capabilities) -> None:
        super().__init__(subject, CONFORMANCE + assertion.id)
        self.assertion = assertion
        self.caps = caps
        self.left_out: frozenset[int] = frozenset()
        self.result: Result | None = None
        self.calls = 0

    def world(self, trace: Trace | None, max_steps: int) -> _ConformanceWorld:
        """A kernel with nothing on it."""
        recorder = self.recorder()
        return _ConformanceWorld(self.kernel(trace, max_steps), self, recorder)

    def recorder(self) -> Recorder:
        """What the calls go through, with the answers of those left out."""
        instead = {n: self.answers[n] for n in self.left_out if n < len(self.answers)}
        return Recorder(None, self.caps.refuses, instead)

    # -- making it smaller -----------------------------------------------------------------------

    @cached_property
    def answers(self) -> list[Answer]:
        """What its calls answer if all are made."""
        recorder = Recorder()
        self._run_on(self.subject.filesystem, recorder)
        return recorder.answers

    def smaller(self) -> Iterator[ConformanceProgram]:
        """Without one call more, the last first, if ramfs passes what is left."""
        if len(self.answers) > _MOST_CALLS:
            return
        for number in reversed(range(len(self.answers))):
            if number not in self.left_out:
                less = self.without(*map(str, self.left_out), str(number))
                if less._run_on(RamFS, less.recorder()):
                    yield less

    def without(self, *parts: str) -> ConformanceProgram:
        """The same assertion without some of its calls.

        Raises:
            LookupError: it has no such call.
        """
        less = ConformanceProgram(self.subject, self.assertion, self.caps)
        less.answers = self.answers
        if not all(part.isdigit() and int(part) < len(self.answers) for part in parts):
            raise LookupError(f"{self.name} has {len(self.answers)} calls, not {' '.join(parts)}")
        less.left_out = frozenset(map(int, parts))
        numbers = " ".join(map(str, sorted(less.left_out)))
        less.options = (*self.subject.options, (LEFT_OUT, numbers))
        return less

    def _run_on(self, filesystem: type[FileSystemType], recorder: Recorder) -> bool:
        """Run it by itself on some filesystem; whether it passes."""
        s = self.subject
        own = filesystem is s.filesystem
        ground = KernelGround(
            filesystem, s.device if own else None, s.mount_options if own else "", checks=False
        )
        try:
            with uncounted():
                return run_assertion(self.assertion, ground, self.caps, recorder).status == "ok"
        except Exception:
            return False  # the kernel found fault with it: not here, and not now


class _ConformanceWorld:
    def __init__(self, kernel: Kernel, program: ConformanceProgram, recorder: Recorder) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.program = program
        self.recorder = recorder

    def set_up(self) -> None:
        """The ground mounts."""

    def check(self) -> None:
        program, s = self.program, self.program.subject
        ground = KernelGround(s.filesystem, s.device, s.mount_options, self.kernel)
        result = run_assertion(program.assertion, ground, program.caps, self.recorder)
        program.result, program.calls = result, len(self.recorder.answers)
        if not result.ok and not self.machine.violations:
            self.machine.violation(
                Violation(
                    f"conformance.{result.id}", "wrong result", program.blamed, "", result.message,
                    "", tuple(f"  {line}" for line in result.transcript),
                    f"expected {result.expected}, got {result.got}",
                )
            )  # fmt: skip

    def close(self) -> None:
        self.kernel.close()


class RefusalProgram(Alone):
    """One call of an assertion that is refused by design: it must have no effect.

    Args:
        number: of the call in the assertion.
    """

    def __init__(
        self, subject: Subject, assertion: Assertion, caps: Capabilities, number: int
    ) -> None:
        super().__init__(subject, f"{REFUSAL}{assertion.id}#{number}")
        self.assertion = assertion
        self.caps = caps
        self.number = number

    def world(self, trace: Trace | None, max_steps: int) -> _RefusalWorld:
        """A kernel with nothing on it."""
        return _RefusalWorld(self.kernel(trace, max_steps), self)


class _RefusalWorld:
    def __init__(self, kernel: Kernel, program: RefusalProgram) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.program = program

    def set_up(self) -> None:
        """The ground mounts."""

    def check(self) -> None:
        program, s = self.program, self.program.subject
        ground = KernelGround(s.filesystem, s.device, s.mount_options, self.kernel)
        witness = Witness(self.kernel, program.number)
        try:
            run_assertion(program.assertion, ground, program.caps, witness)
        except Enough:
            pass
        if witness.effects and not self.machine.violations:
            call = witness.last.partition("(")[0]
            self.machine.violation(
                Violation(
                    f"refusal.{call}", "wrong result", program.blamed, "",
                    f"{witness.transcript[-1]}, by design, and yet {witness.effects[0]}", "",
                    tuple(f"  {line}" for line in (*witness.transcript, *witness.effects)),
                    f"{call} has effects",
                )
            )  # fmt: skip

    def close(self) -> None:
        self.kernel.close()


def named(
    subject: Subject, name: str, assertion: Assertion
) -> ConformanceProgram | RefusalProgram | None:
    """The program of this name, if it is about this assertion."""
    if name == CONFORMANCE + assertion.id:
        return ConformanceProgram(subject, assertion, subject.probe())
    about, _, number = name.rpartition("#")
    if about == REFUSAL + assertion.id and number.isdigit():
        return RefusalProgram(subject, assertion, subject.probe(), int(number))
    return None
