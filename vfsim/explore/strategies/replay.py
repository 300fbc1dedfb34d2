"""Replay: the same answers again, given only those that were not the default.

A deviation says "task 2, at its 17th operation, gave way to task 3" (`vfsim.sim.choice.Deviation`).
Between them the default holds, so the countdown runs straight to the running task's next deviation
and a replay is as fast as a plain run.

Each deviation may come with the kind of operation that the task was about to do when it was
recorded.  If the task is about to do something else, if whoever should run cannot, or if a
deviation never comes due, the run has
*diverged*; the first such place is kept as a sentence in ``divergence`` and the run goes on with
defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.state import INF, NOBODY, K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.sim.choice import Deviation
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

_Key = tuple[str, str, int, int]


def doing(task: Task) -> str:
    """The kind of operation that a task is about to do, or was about to do when it gave up."""
    if task is NOBODY:
        return ""
    return task.pending[0]


class Replay:
    """The recorded answers, and defaults elsewhere.

    Args:
        deviations: as the machine recorded them.
        expected: for each deviation the kind of operation (`doing`) then, or nothing at all.

    Attributes:
        met: the kinds of operation met at each deviation, in the order of ``deviations``.
        divergence: the first difference as a sentence, or "".
    """

    def __init__(self, deviations: Sequence[Deviation], expected: Sequence[str] = ()) -> None:
        self.gap = INF
        self.deviations = list(deviations)
        self.expected = list(expected)
        self.met = [""] * len(self.deviations)
        self.divergence = ""
        self.used = 0
        self._due: dict[_Key, list[int]] = {}
        self._points: dict[str, list[int]] = {}
        for i, d in reversed(list(enumerate(self.deviations))):
            self._due.setdefault((d.task, d.kind, d.number, d.nth), []).append(i)
            if d.kind == "p":
                self._points.setdefault(d.task, []).append(d.number)
        for numbers in self._points.values():
            numbers.sort(reverse=True)

    def start(self, machine: Machine) -> None:
        """Nothing runs yet; the first answer sets the countdown."""
        self.machine = machine
        self._repeats = 0
        self._at: tuple[str, int] | None = None

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Whoever ran then, or the default."""
        if current is not None:
            i = self._at_point(ready, current)
        else:
            asked = K.cur
            if asked is NOBODY:
                key: _Key = ("", "b", 0, 0)
            else:
                key = (asked.id, "b", asked.ops, asked.nth)
            i = self._answer(key, ready, asked)
        self._set_gap(ready[i])
        return i

    def _at_point(self, ready: list[Task], current: Task) -> int:
        place = (current.id, current.ops)
        self._repeats = self._repeats + 1 if place == self._at else 0
        self._at = place
        return self._answer((current.id, "p", current.ops, self._repeats), ready, current)

    def _answer(self, key: _Key, ready: list[Task], asked: Task) -> int:
        due = self._due.get(key)
        if not due:
            return 0
        index = due.pop()
        self._meet(index, asked)
        wanted = self.deviations[index].value
        for i, task in enumerate(ready):
            if task.id == wanted:
                return i
        self._diverge(index, f"task {wanted} should run next, and it cannot")
        return 0

    def choose(self, kind: str, n: int) -> int:
        """The number chosen then, or 0."""
        asked = K.cur
        ident, number = ("", 0) if asked is NOBODY else (asked.id, asked.chooses + 1)
        due = self._due.get((ident, kind, number, 0))
        if not due:
            return 0
        index = due.pop()
        self._meet(index, asked)
        value = self.deviations[index].value
        if not isinstance(value, int) or value >= n:
            self._diverge(index, f"number {value} of {kind!r} was chosen, now there are {n}")
            return 0
        return value

    def _meet(self, index: int, asked: Task) -> None:
        self.used += 1
        found = self.met[index] = doing(asked)
        if index < len(self.expected) and self.expected[index] != found:
            self._diverge(
                index, f"it should be about to do {self.expected[index]!r}, it is at {found!r}"
            )

    def _diverge(self, index: int, what: str) -> None:
        if not self.divergence:
            d = self.deviations[index]
            who = f"task {d.task}" if d.task else "the start of the run"
            self.divergence = f"at operation {d.number} of {who}: {what}"

    def _set_gap(self, chosen: Task) -> None:
        """Straight to the next deviation of whoever runs now."""
        numbers = self._points.get(chosen.id)
        while numbers and numbers[-1] <= chosen.ops:
            numbers.pop()
        self.gap = numbers[-1] - chosen.ops if numbers else INF

    def finish(self) -> str:
        """After the run: the first divergence, which may be that a deviation never came due."""
        if not self.divergence and self.used < len(self.deviations):
            left = sorted(i for due in self._due.values() for i in due)
            self._diverge(left[0], "the run did not come to this place")
        return self.divergence
