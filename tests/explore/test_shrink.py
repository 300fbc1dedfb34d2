"""Shrinking: few deviations are left, always the same ones, and the budget is kept."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest
from kernels import KERNELS, seen_update
from programs import endless

from vfsim.explore.causal import Placed, relevant, sliced
from vfsim.explore.execute import Run, execute
from vfsim.explore.program import FunctionProgram
from vfsim.explore.shrink import TIMES, Budget, Shrunk, shrink
from vfsim.explore.strategies import maker
from vfsim.explore.strategies.replay import Replay
from vfsim.sim.errors import Violation
from vfsim.sim.trace import Trace


def failing(program: FunctionProgram, strategy: str, count: int) -> Iterator[tuple[Run, Violation]]:
    """The first failing schedules of a strategy; a deadlock is more than the order of its locks."""
    make = maker(strategy)
    seed = 0
    while count:
        run = execute(program, make(seed, 50))
        seed += 1
        found = [v for v in run.violations if v.rule != "lockdep.circular"]
        if found:
            yield run, found[0]
            count -= 1


@pytest.mark.parametrize("strategy", ["random", "pos"])
@pytest.mark.parametrize("name", list(KERNELS))
def test_few_deviations_are_left(name: str, strategy: str) -> None:
    """Twenty failing schedules: two deviations suffice, and five for five philosophers."""
    program = FunctionProgram(KERNELS[name])
    most = 5 if name.startswith("philo") else 2
    left = []
    for run, violation in failing(program, strategy, 20):
        shrunk = shrink(program, run, violation.signature)
        assert shrunk.reproduced == TIMES
        assert shrunk.replays <= Budget().replays
        left.append(len(shrunk.deviations))
    assert median(left) <= most


@pytest.mark.parametrize("name", list(KERNELS))
def test_what_is_left_is_minimal(name: str) -> None:
    """Taking any one of the deviations away makes the failure go."""
    program = FunctionProgram(KERNELS[name])
    for run, violation in failing(program, "pos", 3):
        left = shrink(program, run, violation.signature).deviations
        for i in range(len(left)):
            fewer = execute(program, Replay(left[:i] + left[i + 1 :]))
            assert violation.signature not in [v.signature for v in fewer.violations]


def test_the_result_is_always_the_same() -> None:
    """Shrinking twice takes the same steps to the same end."""
    for kernel in KERNELS.values():
        program = FunctionProgram(kernel)
        ((run, violation),) = failing(program, "random", 1)
        one, two = (shrink(program, run, violation.signature) for _ in range(2))
        assert one == two


@pytest.mark.parametrize("replays", [0, 1, 5, 20])
def test_the_budget_is_kept(replays: int) -> None:
    """With any budget the result fails as the run did, and no more than that is replayed."""
    program = FunctionProgram(KERNELS["lost update + noise"])
    for run, violation in failing(program, "random", 5):
        shrunk = shrink(program, run, violation.signature, Budget(replays=replays))
        assert shrunk.replays <= replays
        assert len(shrunk.deviations) <= len(run.deviations)
        assert shrunk.reproduced == TIMES


def test_endless_runs_are_limited_by_their_steps() -> None:
    """Attempts that do not end cost what their steps cost, and not the whole budget."""
    program = FunctionProgram(endless)
    run = execute(program, maker("pos")(0, 0), max_steps=3000)
    (violation,) = run.violations
    signature = violation.signature
    shrunk = shrink(program, run, signature, Budget(steps=9000), max_steps=3000)
    assert shrunk.replays <= 5 and shrunk.reproduced == TIMES


def test_nothing_is_prepared_that_will_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of many deviations has as many parts, and they end with the budget."""
    prepared = [0]

    class Counted(Replay):
        def __init__(self, *args: object) -> None:
            prepared[0] += 1
            super().__init__(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("vfsim.explore.shrink.Replay", Counted)
    program = FunctionProgram(KERNELS["lost update + noise"])
    ((run, violation),) = failing(program, "random", 1)
    assert len(run.deviations) > 10
    shrunk = shrink(program, run, violation.signature, Budget(replays=2))
    assert prepared[0] - TIMES <= shrunk.replays == 2


class TestCausalSlice:
    """Whoever a failure does not depend on goes first, and at once."""

    def traced(self, run: Run, violation: Violation) -> tuple[Placed, int]:
        trace = Trace(stacks=False)
        replay = Placed(run.deviations, trace)
        execute(FunctionProgram(seen_update(4)), replay, trace)
        at = next(i for i in trace.bugs if trace.events[i].ref.signature == violation.signature)
        return replay, at

    def test_noise_is_not_in_the_past(self) -> None:
        """The two who share the number are in the past of its loss, the four others are not."""
        for run, violation in failing(FunctionProgram(seen_update(4)), "random", 10):
            replay, at = self.traced(run, violation)
            names = {e.task_id: e.task for e in replay.trace.events if e.task_id}
            assert sorted(names[t] for t in relevant(replay.trace, at)) == ["one", "two"]

    def test_the_slice_still_fails(self) -> None:
        """What is left speaks of the two only, and almost always leads to the same failure."""
        program = FunctionProgram(seen_update(4))
        failed = 0
        for run, violation in failing(program, "random", 20):
            fewer = sliced(*self.traced(run, violation))
            assert len(fewer) < len(run.deviations)
            assert {d.task for d in fewer} <= {"", "5", "6"}
            again = execute(program, Replay(fewer))
            failed += violation.signature in [v.signature for v in again.violations]
        assert failed >= 18


def test_only_the_same_failure_counts() -> None:
    """A program with two failures is shrunk to the one that is asked for."""
    program = FunctionProgram(KERNELS["philo5"])
    run = next(
        run
        for seed in range(1000)
        if len((run := execute(program, maker("random")(seed, 0))).violations) > 1
    )
    order, deadlock = run.violations
    assert (order.rule, deadlock.rule) == ("lockdep.circular", "wait.deadlock")
    kept: list[Shrunk] = [shrink(program, run, v.signature) for v in (order, deadlock)]
    assert kept[0].deviations == [] and kept[1].deviations
