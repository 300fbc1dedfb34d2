"""The race finder against a slow and obvious one, on random programs: the same fields race."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks import programs
from vfsim.checks import clocks, races, reference_races
from vfsim.checks.judge import KernelJudge
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.sim.choice import RoundRobin
from vfsim.sim.machine import Machine
from vfsim.sim.shared import POINTS, install
from vfsim.sim.state import K
from vfsim.sim.trace import Trace

PROGRAMS = 700
BLOCKS = 4

Found = list[int]


class Posting(Machine):
    """A machine whose trace also says where interrupts and softirqs were posted."""

    def _post(self, *args: Any) -> None:
        super()._post(*args)
        if self.trace is not None:
            self.trace.note(K.cur, "post", self.tasks[-1])


class Spy:
    """Writes down which objects the fast path says race."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects: list[Any] = []
        real = races.Watched._race

        def spying(watched: races.Watched, obj: Any, before: Any, now: Any) -> Any:
            self.objects.append(obj)
            return real(watched, obj, before, now)

        monkeypatch.setattr(races.Watched, "_race", spying)

    def run(
        self, seed: int, trace: Trace | None, alone: bool = False
    ) -> tuple[list[programs.Cell], Found]:
        """Run the program of a seed; its fields, and which of them race."""
        self.objects.clear()
        strategy = RandomWalk(seed) if seed % 4 else RoundRobin()
        judge = KernelJudge(races=True)
        machine = Posting(1 + seed % 3, strategy, judge, trace, max_steps=20_000)
        try:
            cells = programs.start(machine, programs.generate(seed), alone)
            machine.run()
        finally:
            machine.bury()
        return cells, [i for i, c in enumerate(cells) if any(c is o for o in self.objects)]


def compare(spy: Spy, seed: int, alone: bool = False) -> tuple[str, set[str] | None]:
    """What differs on the program of a seed, or ""; and what the slow one found."""
    trace = Trace(stacks=False)
    cells, found = spy.run(seed, trace, alone)
    slow = reference_races.races(trace.events, ".plain")
    fast = {f"{trace.label(cells[i])}.plain" for i in found}
    if slow is None or slow == fast:
        return "", slow
    text = programs.text(programs.generate(seed))
    return f"seed {seed}: fast {sorted(fast)}, slow {sorted(slow)}\n{text}", slow


@pytest.mark.parametrize("block", range(BLOCKS))
def test_fast_and_slow_find_the_same(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fields race for both, with a trace and without."""
    spy = Spy(monkeypatch)
    each = PROGRAMS // BLOCKS
    judged = racing = 0
    for seed in range(block * each, (block + 1) * each):
        difference, slow = compare(spy, seed)
        assert not difference, difference
        judged += slow is not None
        racing += bool(slow)
        if seed % 5 == 0:
            found = list(spy.run(seed, Trace(stacks=False))[1])
            assert spy.run(seed, None)[1] == found
    assert judged > 0.6 * each
    assert 0.3 * judged < racing < 0.8 * judged


def test_they_agree_on_who_is_alone_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task does by itself races with nothing, and what it does next may."""
    spy = Spy(monkeypatch)
    racing = 0
    for seed in range(300):
        difference, slow = compare(spy, seed, alone=True)
        assert not difference, difference
        racing += bool(slow)
    assert racing > 60


def _same(original: Any) -> Any:
    return original


@pytest.mark.parametrize(
    "name",
    ["lock", "unlock", "_write", "_read", "_read_unlock", "_write_unlock", "write_end",
     "read_begin", "_start", "_post", "_retire", "_take", "push", "pop", "_unlock", "trylock",
     "__init__"],
)  # fmt: skip
def test_the_comparison_has_teeth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast path that misses one kind of order is found out."""
    install(POINTS)
    monkeypatch.setattr(
        clocks, "HOOKS", [(o, n, _same if n == name else make) for o, n, make in clocks.HOOKS]
    )
    spy = Spy(monkeypatch)
    try:
        assert any(compare(spy, seed)[0] for seed in range(2_000))
    finally:
        install(POINTS)


def test_a_fast_path_that_orders_too_much_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everybody learns of everything, races are missed."""
    spy = Spy(monkeypatch)
    real = clocks.Epoch.after
    monkeypatch.setattr(clocks.Epoch, "after", lambda self, other: real(self, other) or other.n > 2)
    assert any(compare(spy, seed)[0] for seed in range(PROGRAMS))


@pytest.mark.soak
def test_fast_and_slow_find_the_same_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on fifty thousand programs."""
    spy = Spy(monkeypatch)
    for seed in range(PROGRAMS, 50_000):
        difference, _ = compare(spy, seed)
        assert not difference, difference
