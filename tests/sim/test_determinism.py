"""The same answers give the same run: again, traced, replayed, elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim import golden
from tests.sim.golden import WORLDS, Dice
from tests.sim.helpers import step, world
from vfsim.explore.strategies.replay import Replay
from vfsim.locks.mutex import Mutex
from vfsim.sim.choice import Deviation, RoundRobin
from vfsim.sim.scheduler import schedule_timeout, yield_
from vfsim.sim.state import K
from vfsim.sim.trace import Trace

every_world = pytest.mark.parametrize("setup", WORLDS, ids=lambda setup: setup.__name__)
ROOT = Path(__file__).parents[2]


# -- golden traces ---------------------------------------------------------------------------------


def test_golden_traces() -> None:
    """Every golden world has the committed trace (``python -m tests.sim.golden --write``)."""
    committed = json.loads(golden.COMMITTED.read_text(encoding="utf-8"))
    assert golden.digests() == committed


def _digests_of(python: str, hash_seed: str) -> dict[str, str]:
    """The digests as another process computes them."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-m", "tests.sim.golden"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242", "random"])
def test_golden_traces_in_other_processes(hash_seed: str) -> None:
    """Neither the process nor the hash of strings and objects matters."""
    committed = json.loads(golden.COMMITTED.read_text(encoding="utf-8"))
    assert _digests_of(sys.executable, hash_seed) == committed


def _other_pythons() -> list[str]:
    """Interpreters to compare with: those named in VFSIM_PYTHONS, and those on the path."""
    named = [p for p in os.environ.get("VFSIM_PYTHONS", "").split(os.pathsep) if p]
    return [*named, "python3.11", "python3.12", "python3.13"]


@pytest.mark.parametrize("name", _other_pythons())
def test_golden_traces_on_other_pythons(name: str) -> None:
    """Nor does the version of Python."""
    python = shutil.which(name)
    if python is None:
        pytest.skip(f"there is no {name} here")
    needs = "import attrs, greenlet, simpy, sys; assert sys.version_info >= (3, 11)"
    if subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} lacks the packages that vfsim needs")
    committed = json.loads(golden.COMMITTED.read_text(encoding="utf-8"))
    assert _digests_of(python, "random") == committed


# -- traced and untraced, recorded and replayed ----------------------------------------------------


@every_world
def test_a_trace_changes_nothing(setup: Any) -> None:
    """A traced run passes the same points and is asked the same questions."""
    for seed in range(12):
        for gap in (1, 2, 5):
            plain = golden.run(setup, Dice(seed, gap))
            traced = golden.run(setup, Dice(seed, gap), Trace(stacks=False))
            assert traced.deviations == plain.deviations
            assert (traced.steps, traced.ticks, traced.now) == (plain.steps, plain.ticks, plain.now)
            assert traced.violations == plain.violations


@every_world
def test_the_deviations_replay_the_run(setup: Any) -> None:
    """The answers that were not the default are all that is needed to have the run again."""
    for seed in range(12):
        for gap in (1, 3):
            trace = Trace(stacks=False)
            first = golden.run(setup, Dice(seed, gap), trace)
            replay = Replay(first.deviations)
            again = golden.run(setup, replay)
            assert replay.finish() == ""
            assert again.deviations == first.deviations
            assert again.violations == first.violations
            assert (again.now, again.steps) == (first.now, first.steps)
            traced = Trace(stacks=False)
            golden.run(setup, Replay(first.deviations), traced)
            assert traced.digest() == trace.digest()


@every_world
def test_deviations_have_keys_of_their_own(setup: Any) -> None:
    """No two answers of a run share (task, kind, number, nth)."""
    for seed in range(20):
        deviations = golden.run(setup, Dice(seed)).deviations
        keys = [d[:4] for d in deviations if d.task]
        assert len(set(keys)) == len(keys)


@every_world
def test_round_robin_deviates_never(setup: Any) -> None:
    """The plain path and the asked path of round-robin are the same run."""

    class Asked(RoundRobin):
        """Round-robin that the machine does not know to be plain."""

        gap = 1

    plain, asked = golden.run(setup, RoundRobin()), golden.run(setup, Asked())
    assert plain.deviations == asked.deviations == []
    assert (plain.steps, plain.now, plain.ticks) == (asked.steps, asked.now, asked.ticks)
    traces = []
    for strategy in (RoundRobin(), Asked(), Dice(0, 7)):
        trace = Trace(stacks=False)
        golden.run(setup, strategy, trace)
        traces.append(trace.digest())
    assert len(set(traces)) == 1


@every_world
def test_the_seed_makes_the_difference(setup: Any) -> None:
    """Different seeds find different runs, equal seeds the same."""
    digests = []
    for seed in (1, 2, 3, 4, 5, 1):
        trace = Trace(stacks=False)
        golden.run(setup, Dice(seed), trace)
        digests.append(trace.digest())
    assert digests[0] == digests[-1]
    assert len(set(digests)) > 2


# -- own operation numbers -------------------------------------------------------------------------


class Script:
    """A strategy that follows a list of picks by name and writes down what it was asked."""

    gap = 1

    def __init__(self, *picks: str) -> None:
        self.picks = list(picks)

    def start(self, machine: Any) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        if not self.picks:
            return 0
        name = self.picks.pop(0)
        return next((i for i, task in enumerate(ready) if task.name == name), 0)

    def choose(self, kind: str, n: int) -> int:
        return n - 1


def deviations(*picks: str, bodies: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a run under that script records."""
    with world(strategy=Script(*picks)) as machine:
        for name, body in bodies.items():
            machine.spawn(body, name=name)
        machine.run()
        assert machine.violations == []
        return [tuple(d) for d in machine.deviations]


def test_a_point_is_named_by_the_tasks_own_count() -> None:
    """The n-th operation of a task keeps its number, whatever others did in between."""

    def body() -> None:
        for _ in range(3):
            step()

    bodies = {"a": body, "b": body}
    found = deviations("a", "a", "b", "b", "a", bodies=bodies)
    assert found == [("1", "p", 2, 0, "2"), ("2", "p", 2, 0, "1")]
    found = deviations("b", "b", "b", "b", "a", "a", "b", bodies={**bodies, "b": yield_})
    assert found[0] == ("", "b", 0, 0, "2")


def test_giving_up_the_cpu_is_named_too() -> None:
    """A yield is an operation; several waits at one operation are told apart."""

    def yielder() -> None:
        yield_()
        yield_()

    def sleeper() -> None:
        schedule_timeout(5)
        schedule_timeout(5)
        step()

    found = deviations("a", "a", "a", bodies={"a": yielder, "b": yield_})
    assert found == [("1", "b", 1, 0, "1"), ("1", "b", 2, 0, "1")]
    found = deviations("s", "clock", "clock", bodies={"s": sleeper, "b": yield_, "c": yield_})
    assert found[:2] == [("1", "b", 0, 0, "clock"), ("1", "b", 0, 1, "clock")] or found[0][:3] == (
        "1",
        "b",
        0,
    )


def test_several_decisions_at_one_point_are_numbered() -> None:
    """Time may pass several times at one point before somebody goes on."""

    def body() -> None:
        K.machine.timer(5, step)
        K.machine.timer(6, step)
        step()

    found = deviations("a", "clock", "clock", bodies={"a": body})
    assert found[:2] == [("1", "p", 1, 0, "clock"), ("1", "p", 1, 1, "clock")]


def test_choices_are_numbered_by_who_makes_them() -> None:
    """Each task, and the clock, counts its own choices; a choice of one is none."""

    def body() -> None:
        machine = K.machine
        assert machine.choose("only", 1) == 0
        assert machine.choose("two", 2) == 1
        event = machine.env.timeout(5)
        event.callbacks.append(lambda event: machine.choose("clock's", 3))
        schedule_timeout(10)
        assert machine.choose("three", 3) == 2

    found = deviations(bodies={"a": body})
    assert found == [
        ("1", "two", 1, 0, 1),
        ("clock", "clock's", 1, 0, 2),
        ("1", "three", 2, 0, 2),
    ]


def test_counts_begin_again_with_a_new_strategy() -> None:
    """A run after a change of strategy is numbered as if nothing had been before."""

    def body() -> None:
        step()
        step()

    with world() as machine:
        daemon = machine.spawn(lambda: schedule_timeout(10**9), daemon=True)
        machine.spawn(body)
        machine.run()
        assert machine.steps == 2
        machine.set_strategy(Dice(5))
        assert machine.steps == 0
        assert daemon.ops == 0
        machine.spawn(body)
        machine.run()
        assert machine.steps == 2


def test_a_deviation_survives_an_unrelated_change() -> None:
    """Taking away another task's steps leaves a deviation's key as it was."""
    lock = Mutex("lock")

    def a() -> None:
        step()
        with lock:
            step()

    def busy() -> None:
        for _ in range(7):
            step()

    with_busy = deviations("c", "c", "c", "c", "a", "a", "b", bodies={"a": a, "b": a, "c": busy})
    without = deviations("a", "a", "b", bodies={"a": a, "b": a})
    assert Deviation("1", "p", 2, 0, "2") in without
    assert Deviation("1", "p", 2, 0, "2") in with_busy
