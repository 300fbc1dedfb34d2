"""Strategies: what they find and what they promise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from programs import Counter, busy, dining, endless, locked_update, lost_update, ordered

from vfsim.explore.execute import Run, execute
from vfsim.explore.explore import search
from vfsim.explore.parallel import Batch, runs
from vfsim.explore.program import FunctionProgram
from vfsim.explore.strategies import SEARCHERS, maker, searcher_of
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.explore.watch import Watch
from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import cpu_relax

RANDOM = ["pos", "random", "pct", "pct:2", "pct:5"]
ALL = [*RANDOM, "urw", "auto"]


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("program", [lost_update, dining, ordered])
def test_every_strategy_finds_shallow_bugs(program: object, strategy: str) -> None:
    """Lost update, deadlock and reorder_5 are found within a few hundred schedules."""
    found = search(FunctionProgram(program), schedules=600, strategy=strategy)  # type: ignore[arg-type]
    assert found.failures


@pytest.mark.parametrize("strategy", [*ALL, "delay", "irq_sweep"])
@pytest.mark.parametrize("program", [locked_update, busy])
def test_no_strategy_breaks_what_is_right(program: object, strategy: str) -> None:
    """Correct programs stay silent under all strategies."""
    found = search(FunctionProgram(program), schedules=300, strategy=strategy)  # type: ignore[arg-type]
    assert found.verdict == "clean" and (found.distinct > 5 or strategy == "irq_sweep")


def test_pos_covers_more_than_pct() -> None:
    """The same number of schedules shows POS more different ones than PCT with depth 3."""
    distinct = {
        s: search(FunctionProgram(locked_update), schedules=300, strategy=s).distinct
        for s in ("pos", "pct")
    }
    assert distinct["pos"] > distinct["pct"]


@pytest.mark.parametrize("strategy", RANDOM)
def test_the_seed_decides(strategy: str) -> None:
    """One seed is one schedule, another seed another."""
    program = FunctionProgram(busy)
    make = maker(strategy)
    runs = [execute(program, make(seed, 60)) for seed in (1, 1, 2, 3, 4)]
    assert runs[0].deviations == runs[1].deviations
    assert len({tuple(r.deviations) for r in runs}) > 2


@pytest.mark.parametrize("strategy", ALL)
def test_endless_spinning_is_no_progress(strategy: str) -> None:
    """A task that spins for ever on its own ends at the step limit, under every strategy."""
    found = search(FunctionProgram(endless), schedules=5, strategy=strategy, max_steps=2000)
    assert [f.violation.kind for f in found.failures] == ["no progress"]


def slow_beside_timers(machine: Machine) -> None:
    """Somebody takes a lock that nobody else wants, while timers go off until that is done."""
    done: list[int] = []

    def slow(lock: Mutex) -> None:
        for _ in range(8):
            with lock:
                pass
        done.append(1)

    def due() -> None:
        if not done:
            machine.timer(1_000, due)

    machine.spawn(slow, Mutex("own"))
    machine.timer(1_000, due)


@pytest.mark.parametrize("strategy", [*ALL, "delay", "irq_sweep"])
def test_nobody_starves_beside_timers(strategy: str) -> None:
    """Who conflicts with nothing gets on, although time can always pass instead."""
    found = search(
        FunctionProgram(slow_beside_timers), schedules=300, strategy=strategy, max_steps=800
    )
    assert not found.failures


def slow_beside_tries(machine: Machine) -> None:
    """Somebody has a lock that another one tries for, and does something else before it is free."""
    wanted, own = Mutex("wanted"), Mutex("own")

    def slow() -> None:
        with wanted:
            for _ in range(8):
                with own:
                    pass

    def tries() -> None:
        while not wanted.trylock():
            cpu_relax()
        wanted.unlock()

    machine.spawn(slow)
    machine.spawn(tries)


@pytest.mark.parametrize("strategy", [*ALL, "delay", "irq_sweep"])
def test_nobody_starves_beside_who_tries_again(strategy: str) -> None:
    """Who has the lock gets on, although its next step conflicts with no attempt to get it."""
    found = search(
        FunctionProgram(slow_beside_tries), schedules=1000, strategy=strategy, max_steps=800
    )
    assert not found.failures


def test_unknown_strategies_are_refused() -> None:
    """A wrong name, a parameter where none belongs and a depth out of range are ValueErrors."""
    for wrong in ("", "dfs", "pos:3", "pct:", "pct:0", "pct:101", "pct:x", "pct:³", "random:1"):
        for refuses in (maker, lambda spec: searcher_of(spec, 0)):
            with pytest.raises(ValueError, match=r"strategy|depth"):
                refuses(wrong)
    for wrong in ("delay:0", "delay:x", "auto:1", "urw:2", "irq_sweep:1"):
        with pytest.raises(ValueError, match=r"takes no parameter|number of delays"):
            searcher_of(wrong, 0)
    for searching in SEARCHERS:
        with pytest.raises(ValueError, match="learns from the schedules of a search"):
            maker(searching)


def test_chance_is_the_same_on_every_python() -> None:
    """The first random numbers of a seed are what they always were: schedules are portable."""
    assert [RandomWalk(7).random() for _ in range(1)] == [0.32383276483316237]
    assert POS(7).choose("waiter", 1000) == 323
    assert PCT(7, 100).choose("waiter", 1000) == 323


def test_pos_redraws_only_where_it_matters() -> None:
    """Whoever conflicts with what was done gets a new priority, and nobody else."""
    a, b = Mutex("a"), Mutex("b")
    tasks = [
        SimpleNamespace(prio=p, pending=("lock", m)) for p, m in ((0.9, a), (0.5, a), (0.4, b))
    ]
    assert POS(0).decide(tasks, None) == 0  # type: ignore[arg-type]
    assert [t.prio for t in tasks] == [0.0, 0.0, 0.4]


def test_a_sequential_searcher_is_asked_and_told_in_order() -> None:
    """What is not parallel learns from each schedule before it is asked for the next, and ends the
    search with its claim when nothing is left.
    """

    class Five:
        parallel = False
        claim = "all five"
        shortfall = ""

        def __init__(self) -> None:
            self.calls: list[tuple[str, int]] = []

        def strategy(self, index: int) -> RandomWalk | None:
            self.calls.append(("strategy", index))
            return RandomWalk(index) if index < 5 else None

        def learn(self, index: int, run: Run) -> None:
            self.calls.append(("learn", index))

    five = Five()
    with Watch() as watch:
        batch = Batch(FunctionProgram(busy), five, 0, 1000, watch)
        done = [run for some in runs(batch, 0, 100, jobs=2) for run in some]
    assert len(done) == 5
    assert five.calls == [call for i in range(5) for call in (("strategy", i), ("learn", i))] + [
        ("strategy", 5)
    ]


@pytest.mark.parametrize("strategy", [*ALL, "delay:1", "irq_sweep"])
def test_nobody_starves_for_ever(strategy: str) -> None:
    """Spinning on what a task of lower priority will do ends, under every strategy."""

    def spinning(machine: Machine) -> None:
        flag = Counter()

        def spin() -> None:
            while not flag.value:
                pass

        def set_flag() -> None:
            flag.value = 1

        machine.spawn(spin)
        machine.spawn(set_flag)

    found = search(FunctionProgram(spinning), schedules=100, strategy=strategy, max_steps=3000)
    assert found.verdict == "clean"
