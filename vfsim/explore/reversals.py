"""Which pairs of steps of a run should also be seen the other way round, and where to begin.

Step *i* happens before step *j* if a chain of program order, wake-ups and dependent operations
leads from one to the other.  Each step's past is one integer with a bit for every step in it.

Two dependent steps *i*, *j* of different tasks are a *race* if no third step lies between them in
that order.  To see *j* before *i*, everything that does not depend on *i* goes first; the tasks
that can begin it (``first``) are the source set of Abdulla et al. (see `vfsim.explore.dpor`).

A task cannot be run where *i* was done if *i*'s task then kept it out: it held the lock that *j*
takes, or it had the CPU to itself.  The order to reverse is then that of *j* and the step with
which that began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.explore.classes import place
from vfsim.explore.dependency import ordered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.explore.steps import Step


_NONE: dict[str, int] = {}


class Reversal(NamedTuple):
    """Where somebody else should be tried.

    Attributes:
        node: at which decision.  task: the one who should come first in the end.
        first: those with whom that can begin; one of them must be tried.
    """

    node: int
    task: str
    first: list[str]


def reversals(steps: list[Step], waiting: list[Step], fresh: int) -> Iterator[Reversal]:
    """Those that the races of a run ask for.

    Args:
        steps: what was done.
        waiting: what was not, though a task was about to do it when the run ended.
        fresh: races among steps before this decision were looked at after an earlier run.
    """
    past = _Past(steps)
    for j, step in enumerate(steps):
        for i, known in past.add(step):
            if step.node >= fresh or step.node < 0:
                yield from past.reverse(i, j, step, known)
    for step in waiting:
        for i, known in past.races(step)[0]:
            yield from past.reverse(i, len(steps), step, known)


class _Past:
    """What happens before what, up to some step.

    Attributes:
        before: for each step so far those that happen before it, and itself, as bits.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.before: list[int] = []
        self._done: dict[Any, dict[str, int]] = {}  # of each object the steps by kind, as bits

    def add(self, step: Step) -> list[tuple[int, int]]:
        """Take in the next step; returns its races (see `races`)."""
        j = len(self.before)
        found, before = self.races(step)
        self.before.append(before | 1 << j)
        for kind, obj in step.touched:
            steps = self._done.setdefault(place(obj), {})
            steps[kind] = steps.get(kind, 0) | 1 << j
        return found

    def races(self, step: Step) -> tuple[list[tuple[int, int]], int]:
        """The races of a step with earlier ones, the latest first, and everything before it.

        Each comes with what happens before the step for other reasons, as far as is known then.
        """
        known = 0
        for earlier in (step.previous, step.cause):
            if earlier >= 0:
                known |= self.before[earlier]
        conflicts = 0
        for kind, obj in step.touched:
            for other, steps in self._done.get(place(obj), _NONE).items():
                if ordered(kind, other):
                    conflicts |= steps
        found = []
        while left := conflicts & ~known:
            i = left.bit_length() - 1
            found.append((i, known))
            known |= self.before[i]
        return found, known

    def reverse(self, i: int, j: int, step: Step, known: int) -> Iterator[Reversal]:
        """How to see ``step``, number ``j``, before number ``i``, if that is possible."""
        start = i
        while start >= 0 and self.steps[start].keeps_out(step):
            start = self.steps[start].previous
        if start < 0 or self.steps[start].node < 0:
            return
        if start != i and known >> start & 1:
            return
        first = self._first(start, j, step)
        yield Reversal(self.steps[start].node, step.task, first)

    def _first(self, start: int, j: int, step: Step) -> list[str]:
        """Who can begin what leads to ``step`` and does not depend on step ``start``."""
        steps = self.steps
        among = 0  # the steps that come first then
        seen: dict[str, None] = {}
        first = []
        for k in range(start + 1, j):
            if not self.before[k] >> start & 1:
                task = steps[k].task
                if task not in seen and not self.before[k] & among:
                    first.append(task)
                seen[task] = None
                among |= 1 << k
        if step.task not in seen and not self.races(step)[1] & among:
            first.append(step.task)
        return first
