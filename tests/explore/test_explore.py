"""Exploring: counting, stopping, reporting, and distrust of whatever cannot be repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import busy, dining, endless, locked_update, lost_update

from vfsim.explore.execute import execute
from vfsim.explore.explore import BugFound, Exploration, explore, search
from vfsim.explore.parallel import EngineError
from vfsim.explore.program import FunctionProgram, program_of
from vfsim.explore.strategies import maker
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.token import decode
from vfsim.explore.watch import Watch
from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import yield_
from vfsim.sim.trace import Trace

HERE = Path(__file__).parent


def test_a_bug_is_an_assertion_error_with_the_report() -> None:
    """In a test, `explore` raises an AssertionError that carries report and token."""
    with pytest.raises(AssertionError) as caught:
        explore(lost_update, schedules=200)
    assert isinstance(caught.value, BugFound)
    [failure] = caught.value.exploration.failures
    assert failure.violation.kind == "wrong result"
    assert failure.violation.where.startswith("programs.py:")
    assert "two additions gave 1" in str(caught.value)
    assert failure.token in failure.report
    assert caught.value.exploration.verdict == "bug"


def test_a_clean_exploration_counts() -> None:
    """What was run and how much of it differed is told."""
    found = explore(busy, schedules=100)
    assert found.verdict == "clean" and found.run == 100
    assert 0 < found.distinct <= found.run
    assert str(found).startswith("busy: clean; 100 schedules, ")
    assert found.as_dict() == {
        "target": found.target,
        "verdict": "clean",
        "violations": [],
        "schedules": {"run": found.run, "distinct": found.distinct},
        "coverage": found.coverage.as_dict(),
        "seed": 0,
    }


def test_one_failure_per_signature() -> None:
    """The same bug in many schedules is reported once, and counted."""
    found = search(FunctionProgram(dining), schedules=400)
    signatures = [f.violation.signature for f in found.failures]
    assert len(signatures) == len(set(signatures))
    assert max(f.count for f in found.failures) > 1


def test_it_ends_when_nothing_new_comes() -> None:
    """A program with few schedules is exhausted long before the limit."""

    def tiny(machine: Machine) -> None:
        lock = Mutex("tiny")
        for _ in range(2):
            machine.spawn(lambda: lock.lock() or lock.unlock())

    found = search(FunctionProgram(tiny), schedules=100_000)
    assert found.exhausted and found.run < 1000 and "exhausted" in str(found)


def test_it_ends_when_enough_are_distinct() -> None:
    """``distinct`` ends the search at the first look after so many different schedules."""
    found = search(FunctionProgram(busy), schedules=10_000, distinct=50)
    assert 50 <= found.distinct < 100


def test_a_bug_in_every_schedule_ends_it() -> None:
    """Thousands of failing schedules tell nothing that the first hundred did not."""

    def wrong(machine: Machine) -> Callable[[], None]:
        busy(machine)

        def check() -> None:
            raise AssertionError("always")

        return check

    found = search(FunctionProgram(wrong), schedules=10_000)
    assert found.run < 200


@pytest.mark.parametrize("strategy", ["pos", "random", "pct"])
def test_the_same_seed_finds_the_same(strategy: str) -> None:
    """Two searches with one seed agree in everything; another seed finds another run."""
    one, two, other = (
        search(FunctionProgram(lost_update), schedules=100, strategy=strategy, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == two
    assert [f.token for f in other.failures] != [f.token for f in one.failures]


@pytest.mark.parametrize("program", [lost_update, dining, busy])
def test_jobs_do_not_change_the_result(program: Callable[[Machine], object]) -> None:
    """One process or three: the same counts, the same failures, the same tokens."""
    results = [
        search(FunctionProgram(program), schedules=300, seed=3, jobs=jobs) for jobs in (1, 3)
    ]
    assert results[0] == results[1]


def test_a_program_with_a_memory_is_noticed() -> None:
    """A program that keeps something from run to run is refused: its tokens would be false."""
    runs: list[int] = []

    def forgetful(machine: Machine) -> None:
        runs.append(1)
        lock = Mutex("forgetful")

        def work() -> None:
            for _ in range(len(runs)):
                with lock:
                    pass

        machine.spawn(work)

    with pytest.raises(EngineError, match="did not run the same way twice"):
        explore(forgetful)


def test_a_replay_that_differs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the replay of a failing run is another run, no report is made up."""
    wrong = Replay.decide
    monkeypatch.setattr(
        Replay, "decide", lambda self, ready, current: wrong(self, ready, current) and 0
    )
    with pytest.raises(EngineError, match="differs from the run"):
        search(FunctionProgram(lost_update), schedules=100)


@pytest.mark.parametrize("program", [lost_update, dining, busy, locked_update])
@pytest.mark.parametrize("strategy", ["pos", "random", "pct", "pct:5"])
def test_deviations_replay_exactly(program: Callable[[Machine], object], strategy: str) -> None:
    """Every run is brought back by its deviations alone, traced or not, with the same trace."""
    subject = FunctionProgram(program)
    make = maker(strategy)
    for seed in range(40):
        first = Trace(stacks=False)
        run = execute(subject, make(seed, 40))
        traced = execute(subject, make(seed, 40), first)
        assert run.same_as(traced)
        for trace in (None, Trace(stacks=False)):
            replay = Replay(run.deviations)
            again = execute(subject, replay, trace)
            assert replay.finish() == "" and run.same_as(again)
            if trace is not None:
                assert again.digest == traced.digest


def test_fewer_deviations_still_mean_something() -> None:
    """A deviation is keyed by its task, so taking others away leaves a run, not an error."""
    subject = FunctionProgram(busy)
    for seed in range(30):
        run = execute(subject, maker("random")(seed, 0))
        for i in range(len(run.deviations)):
            execute(subject, Replay(run.deviations[:i] + run.deviations[i + 1 :]))


def test_wrong_arguments_are_refused() -> None:
    """Counts that are no counts and targets that are no targets are misuse."""
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="schedules must be at least 1"):
            explore(busy, schedules=wrong)
    with pytest.raises(TypeError, match="schedules must be a whole number"):
        explore(busy, schedules=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be at least 0"):
        explore(busy, seed=-1)
    for target in (None, 5, "examples/toyfs.py", object()):
        with pytest.raises(TypeError, match="explore"):
            program_of(target)


def test_the_token_names_its_function() -> None:
    """A function at the top of a file can be found again; one inside another cannot."""
    [failure] = search(FunctionProgram(lost_update), schedules=100).failures
    token = decode(failure.token)
    place, _, name = token.target.partition(":")
    assert os.path.samefile(place, HERE / "programs.py") and name == "lost_update"

    def inner(machine: Machine) -> object:
        return lost_update(machine)

    [failure] = search(FunctionProgram(inner), schedules=100).failures
    assert decode(failure.token).target == ""


def test_an_error_of_the_test_is_not_blamed_on_others() -> None:
    """A TypeError in the program's own code is an oops of the test, with its line."""

    def clumsy(machine: Machine) -> None:
        def work() -> None:
            len(5)  # type: ignore[arg-type]

        machine.spawn(work)

    [failure] = search(FunctionProgram(clumsy), schedules=5).failures
    v = failure.violation
    assert (v.kind, v.blamed) == ("oops", "test")
    assert v.where.startswith("test_explore.py:") and "TypeError" in v.summary and v.task == "work"


class TestWatch:
    """Runaway loops and Ctrl-C."""

    def test_endless_loops_end(self) -> None:
        """A loop with scheduling points ends at the step limit and is called no progress."""
        [failure] = search(FunctionProgram(endless), schedules=50, max_steps=3000).failures
        assert failure.violation.kind == "no progress"

    def test_loops_without_points_end(self) -> None:
        """A loop that passes no scheduling point is stopped by the clock on the wall."""

        def stuck(machine: Machine) -> None:
            def loop() -> None:
                while True:
                    try:
                        while True:
                            pass
                    except Exception:
                        pass

            machine.spawn(loop)

        with Watch(patience=0.2) as watch:
            watch.begin()
            run = execute(FunctionProgram(stuck), maker("pos")(0, 0))
        [violation] = run.violations
        assert violation.kind == "no progress" and violation.where == "test_explore.py"

    def test_others_timers_are_left_alone(self) -> None:
        """If somebody else uses the alarm, it stays his."""
        before = signal.getsignal(signal.SIGALRM)
        saved = signal.signal(signal.SIGALRM, lambda *_: None)
        left = signal.setitimer(signal.ITIMER_REAL, 100)
        try:
            with Watch() as watch:
                watch.begin()
                assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
                assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 1
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
            assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
        finally:
            signal.setitimer(signal.ITIMER_REAL, *left)
            signal.signal(signal.SIGALRM, saved)
        assert signal.getsignal(signal.SIGALRM) is before

    def test_it_works_in_another_thread(self) -> None:
        """Outside of the main thread there are no signals, and exploring works."""
        results: list[Exploration] = []
        thread = threading.Thread(target=lambda: results.append(explore(busy, schedules=20)))
        thread.start()
        thread.join()
        assert results and results[0].verdict == "clean"

    def test_ctrl_c_ends_with_what_there_is(self) -> None:
        """An interrupt in the middle of a search ends it after the schedule at hand."""

        def interrupt(done: int) -> None:
            if done:
                os.kill(os.getpid(), signal.SIGINT)

        found = search(FunctionProgram(busy), schedules=100_000, progress=interrupt)
        assert found.interrupted and found.run < 100 and found.verdict == "interrupted"

    def test_ctrl_c_cuts_an_endless_schedule(self) -> None:
        """An interrupt during a schedule that does not end takes a second, not for ever."""

        def stuck(machine: Machine) -> None:
            def loop() -> None:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                while True:
                    pass

            machine.spawn(loop)

        begin = time.monotonic()
        found = search(FunctionProgram(stuck), schedules=10)
        assert found.interrupted and time.monotonic() - begin < 10


def test_many_worlds_leave_nothing_behind() -> None:
    """Thousands of explored worlds, deadlocked ones included, leave memory flat."""
    code = (
        "import resource, sys\n"
        "from programs import dining, busy\n"
        "from vfsim.explore.execute import execute\n"
        "from vfsim.explore.program import FunctionProgram\n"
        "from vfsim.explore.strategies import maker\n"
        "make = maker('random')\n"
        "def many(n):\n"
        "    for i in range(n):\n"
        "        execute(FunctionProgram(dining), make(i, 0))\n"
        "        execute(FunctionProgram(busy), make(i, 0))\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "many(300)\n"
        "first = many(300)\n"
        "print(many(1500) - first)\n"
    )
    paths = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(out.stdout) < 3000  # kilobytes


def test_yielding_tasks_are_fair_under_pct() -> None:
    """Two tasks that yield to each other do not starve the third, whatever the priorities."""

    def polite(machine: Machine) -> None:
        done: list[int] = []

        def wait() -> None:
            while not done:
                yield_()

        machine.spawn(wait)
        machine.spawn(wait)
        machine.spawn(lambda: done.append(1))

    assert search(FunctionProgram(polite), schedules=200, strategy="pct").verdict == "clean"
