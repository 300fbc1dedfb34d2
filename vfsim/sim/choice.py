"""The scheduler seam: everything undetermined is one of three questions to a `Strategy`.

``decide`` picks who runs next, ``choose`` picks a number for anything else (which waiter to wake,
does this I/O fail), and ``start`` begins an execution.  Answer 0 is always what a quiet kernel
would do: stay on the CPU, first come first served, no failure.  So a schedule is a seed plus the
sparse list of answers that were not 0, its *deviations*.

A deviation is keyed by the task that was asked and that task's own count of operations, not by a
global step: so it keeps its meaning when an unrelated task's steps are taken away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from vfsim.sim.state import INF

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class Deviation(NamedTuple):
    """One answer that was not the default.

    Attributes:
        task: id of the task that was asked.
        kind: "p" at a scheduling point, "b" when it gave up the CPU, or the kind of `choose`.
        number: the task's own operation count ("p", "b") or its own count of choices.
        nth: which decision at that number.
        value: id of the task that ran instead, or the number chosen.
    """

    task: str
    kind: str
    number: int
    nth: int
    value: str | int


class Strategy(Protocol):
    """Who runs next.  One strategy per file, in ``vfsim/explore/strategies``.

    ``gap`` is how many scheduling points may pass, as of the last answer, until `decide` wants to
    be asked again.
    """

    gap: int

    def start(self, machine: Machine) -> None:
        """A new execution begins: reset, draw what is drawn once, set ``gap``."""

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The index of who runs next.

        ``ready[0]`` is the default: the running task at a point (then ``current`` is that task),
        the head of the run queue when the running task gave up the CPU (``current`` is None).  The
        last may be the machine's clock: picking it lets time pass although somebody could run.
        The list is not to be changed or kept.
        """

    def choose(self, kind: str, n: int) -> int:
        """A number below ``n`` for a choice of that kind."""


class RoundRobin:
    """First come, first served, never preempting: what a quiet kernel would do."""

    gap = INF

    def start(self, machine: Machine) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Stay, or take the head of the queue."""
        return 0

    def choose(self, kind: str, n: int) -> int:
        """The default."""
        return 0
