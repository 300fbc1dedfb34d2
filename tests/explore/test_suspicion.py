"""The union of lock orders over a whole search: a cycle that no schedule closes by itself."""

from __future__ import annotations

import re

import pytest

from vfsim.explore.execute import execute
from vfsim.explore.explore import search
from vfsim.explore.program import program_of
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.token import decode
from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine

TOOK: list[str] = []
"""Who took both locks in the last run."""


def one_way_or_the_other(machine: Machine) -> None:
    """Whoever begins first takes two locks, in an order of his own; the other takes none."""
    a, b = Mutex("suspect a"), Mutex("suspect b")
    begun: list[str] = []

    def body(name: str, outer: Mutex, inner: Mutex) -> None:
        begun.append(name)
        if begun[0] == name:
            with outer, inner:
                TOOK[:] = [name]

    machine.spawn(body, "one", a, b, name="one")
    machine.spawn(body, "two", b, a, name="two")


def always_one_way(machine: Machine) -> None:
    """Two tasks that keep one order."""
    a, b = Mutex("suspect a"), Mutex("suspect b")

    def body() -> None:
        with a, b:
            pass

    machine.spawn(body)
    machine.spawn(body)


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_schedules_make_a_cycle(jobs: int) -> None:
    """It is told with a schedule and a token for each side, and is no violation."""
    program = program_of(one_way_or_the_other)
    found = search(program, schedules=60, strategy="random", jobs=jobs)
    assert found.verdict == "clean"
    (text,) = found.suspicions
    assert re.match(r"union cycle: suspect .→suspect . in schedule \d+, suspect ", text)
    assert len(re.findall(r"vfsim replay vf1\.\S+", text)) == 2
    assert found.as_dict()["coverage"]["union"][0]["what"] == text.splitlines()[0]


@pytest.mark.parametrize("strategy", ["random", "pct", "urw"])
def test_its_tokens_show_it(strategy: str) -> None:
    """Each token is of the very schedule that is named, the first ones of a search too."""
    program = program_of(one_way_or_the_other)
    (text,) = search(program, schedules=60, strategy=strategy).suspicions
    lines = text.splitlines()[1:]
    shown: list[str] = []
    for line, command in zip(lines[::2], lines[1::2], strict=True):
        execute(program, Replay(decode(command.split()[-1]).deviations))
        assert f": {TOOK[0]} in " in line
        shown += TOOK
    assert sorted(shown) == ["one", "two"]


def test_one_order_is_no_cycle() -> None:
    """Nothing is told of a program that keeps its order."""
    assert search(program_of(always_one_way), schedules=60).suspicions == []
