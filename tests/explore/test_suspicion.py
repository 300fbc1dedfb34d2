"""The union of lock orders over a whole search: a cycle that no schedule closes by itself."""

from __future__ import annotations

import re

import pytest

from vfsim.explore.explore import search
from vfsim.explore.program import program_of
from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine


def one_way_or_the_other(machine: Machine) -> None:
    """Whoever begins first takes two locks, in an order of his own; the other takes none."""
    a, b = Mutex("suspect a"), Mutex("suspect b")
    begun: list[str] = []

    def body(name: str, outer: Mutex, inner: Mutex) -> None:
        begun.append(name)
        if begun[0] == name:
            with outer, inner:
                pass

    machine.spawn(body, "one", a, b)
    machine.spawn(body, "two", b, a)


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


def test_one_order_is_no_cycle() -> None:
    """Nothing is told of a program that keeps its order."""
    assert search(program_of(always_one_way), schedules=60).suspicions == []
