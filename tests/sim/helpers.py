"""What the tests of the lower floors share: worlds that clean up, a judge that takes notes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.sim.judge import Judge
from vfsim.sim.machine import Machine
from vfsim.sim.state import INF, NOBODY, K
from vfsim.sim.task import Task


def step(obj: Any = None) -> None:
    """Never sleeps.  A scheduling point and nothing else."""
    K.left -= 1
    if not K.left:
        K.machine.point("step", obj)


class Alternate:
    """A strategy that gives way at every point, to whoever waited longest."""

    gap = 1

    def start(self, machine: Machine) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """The next one."""
        return 1 if current is not None and len(ready) > 1 else 0

    def choose(self, kind: str, n: int) -> int:
        """The default."""
        return 0


class Notes(Judge):
    """Allows everything and writes down what it was asked about wrong uses."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def sleeping(self, task: Any, obj: Any) -> None:
        self.seen.append("sleeping")

    def not_held(self, task: Any, lock: Any) -> None:
        self.seen.append("not held")

    def pinned(self, task: Any, lock: Any, pin: Any) -> None:
        self.seen.append("pinned")

    def misused(self, task: Any, lock: Any, rule: str, what: str) -> None:
        self.seen.append(rule)

    def unbalanced(self, task: Any, lock: Any, what: int, on: bool) -> None:
        self.seen.append("unbalanced")

    def corrupt(self, task: Any, obj: Any, what: str) -> None:
        self.seen.append("corrupt")

    def task_exit(self, task: Any) -> None:
        if task.held is not None:
            self.seen.append("held at exit")


@contextlib.contextmanager
def world(seed: int | None = None, **options: Any) -> Iterator[Machine]:
    """A machine, under a random walk if a seed is given, buried at the end of the block."""
    if seed is not None:
        options["strategy"] = RandomWalk(seed)
    machine = Machine(**options)
    try:
        yield machine
    finally:
        machine.bury()
        assert K.cur is NOBODY
        assert K.left == INF


def run(*bodies: Callable[[], Any], seed: int | None = None, **options: Any) -> Machine:
    """Run each function as a task, to a clean end."""
    with world(seed, **options) as machine:
        for body in bodies:
            machine.spawn(body)
        machine.run()
        assert machine.violations == []
    return machine


def hangs(*bodies: Callable[[], Any], seed: int | None = None, **options: Any) -> bool:
    """Whether those tasks come to a point where nobody can run."""
    with world(seed, **options) as machine:
        for body in bodies:
            machine.spawn(body)
        machine.run()
        return bool(machine.violations)


def seeds(count: int) -> range:
    """The seeds of a small campaign."""
    return range(count)
