"""Delay bounding: everything that differs from a quiet kernel by at most K delays.

From Emmi, Qadeer and Rakamarić, "Delay-bounded scheduling" (POPL 2011).  A quiet scheduler is
deterministic: it never preempts and serves whoever came first.  A *delay* makes it skip the one
whose turn it is, so taking the i-th in line costs i delays; letting time pass early costs one, and
so does any other number than 0 where one is chosen (`vfsim.sim.choice`).  Many bugs need one or two
delays, and there are far fewer schedules with two delays than schedules.

`DelayBound` runs all of them, first those with one delay, then with two, and so on, and can say so
afterwards: "no bug within 2 delays" is a statement, and not a matter of luck.  Each schedule is a
few (question, answer) pairs added to one that was run before, which told how many answers each
question had; nothing is run twice.  What a schedule that failed did not come to is lost to all that
begin like it, and those would fail, too.  Past half of the steps that a run has, tasks take turns:
somebody may be spinning on a task that never has its turn.

`RandomDelays` puts so many delays at random steps instead, for a share in a portfolio.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from vfsim.sim.state import INF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.explore.execute import Run
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

DELAYS = 2
"""How many delays, if nothing else is said."""

_NUMBER, _CLOCK = 1, 2  # what a question was: for a number; with the clock as the last answer
_SHIFT = 2


class Answers:
    """The default, except where told; records how many answers every question had.

    Args:
        answers: by the question's number in this run.

    Attributes:
        questions: for each question how many answers it had, and of which kind it was.
    """

    gap = 1

    def __init__(self, answers: dict[int, int]) -> None:
        self.answers = answers
        self.questions: list[int] = []

    def start(self, machine: Machine) -> None:
        """No question was asked yet."""
        self.machine = machine
        self.clock = machine.clock
        self.fair_after = machine.max_steps // 2

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """What was told, or stay."""
        asked = self.questions
        if self.machine.steps > self.fair_after:
            asked.append(1 << _SHIFT)  # no question: they take turns
            return min(1, len(ready) - 1)
        asked.append(len(ready) << _SHIFT | (_CLOCK if ready[-1] is self.clock else 0))
        return self.answers.get(len(asked) - 1, 0)

    def choose(self, kind: str, n: int) -> int:
        """What was told, or 0."""
        asked = self.questions
        asked.append(n << _SHIFT | _NUMBER)
        return self.answers.get(len(asked) - 1, 0)


def cost(question: int, answer: int) -> int:
    """How many delays an answer is."""
    last = (question >> _SHIFT) - 1
    if question & _NUMBER or (question & _CLOCK and answer == last):
        return min(answer, 1)
    return answer


Prefix = tuple[tuple[int, int], ...]
"""A schedule: the questions that are not answered by the default, and the answers."""


class _Node(NamedTuple):
    """A schedule that was run: its delays, and the questions after its last deviation."""

    prefix: Prefix
    delays: int
    first: int
    questions: list[int]


class DelayBound:
    """The searcher: every schedule with at most so many delays, in the order of their number."""

    parallel = False
    shortfall = ""

    def __init__(self, delays: int = DELAYS) -> None:
        self.delays = delays
        self.claim = f"every schedule with at most {delays} delay{'s' * (delays != 1)} was run"
        self._nodes: list[_Node] = []
        self._schedules = self._enumerate()
        self._index = -1
        self._next: tuple[Prefix, int] | None = None
        self._asked: Answers | None = None

    def strategy(self, index: int) -> Strategy | None:
        """The next schedule."""
        if index != self._index:
            self._index = index
            self._next = next(self._schedules, None)
        if self._next is None:
            return None
        self._asked = Answers(dict(self._next[0]))
        return self._asked

    def learn(self, index: int, run: Run) -> None:
        """Remember what could have been answered differently."""
        assert self._asked is not None and self._next is not None
        prefix, delays = self._next
        if delays < self.delays:
            first = prefix[-1][0] + 1 if prefix else 0
            self._nodes.append(_Node(prefix, delays, first, self._asked.questions[first:]))

    def _enumerate(self) -> Iterator[tuple[Prefix, int]]:
        """All schedules with their number of delays; reads the nodes that `learn` adds meanwhile.

        Each comes from exactly one node: the one without its last deviation.
        """
        yield (), 0
        for delays in range(1, self.delays + 1):
            for node in self._nodes:
                if node.delays >= delays:
                    break
                for place, question in enumerate(node.questions, node.first):
                    for answer in range(1, question >> _SHIFT):
                        if node.delays + cost(question, answer) == delays:
                            yield (*node.prefix, (place, answer)), delays


class RandomDelays:
    """So many delays at random steps of an otherwise quiet run.

    Args:
        seed: of this schedule.
        length: how many points a run is expected to pass.
        delays: how many.
    """

    def __init__(self, seed: int, length: int, delays: int = DELAYS) -> None:
        self.random = Random(seed).random
        self.length = max(length, 2)
        self.delays = delays
        self.gap = INF

    def start(self, machine: Machine) -> None:
        """Draw the steps."""
        self.machine = machine
        self.fair_after = machine.max_steps // 2
        steps = (int(self.random() * self.length) for _ in range(self.delays))
        self.due = sorted(steps, reverse=True)

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Skip whoever's turn it is, if a delay is due and somebody else is there."""
        steps = self.machine.steps
        due = self.due
        if steps > self.fair_after:
            self.gap = 1
            return int(self.random() * len(ready))
        i = 0
        while due and due[-1] <= steps and i < len(ready) - 1:
            due.pop()
            i += 1
        self.gap = max((due[-1] if due else self.fair_after + 1) - steps, 1)
        return i

    def choose(self, kind: str, n: int) -> int:
        """The default."""
        return 0
