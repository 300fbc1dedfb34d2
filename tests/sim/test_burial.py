"""The end of worlds: stopped at once, buried finitely, and nothing left over."""

from __future__ import annotations

import gc
import resource
import weakref
from typing import Any

import pytest

from tests.sim.helpers import Alternate, Notes, run, seeds, step, world
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.errors import KernelBug, Killed, Misuse, Violation
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep, schedule_timeout, yield_
from vfsim.sim.state import INF, NOBODY, K
from vfsim.sim.task import LOST, POOL

BUG = Violation("test.bug", "hard", "test", "here:1", "something is broken")


# -- hard bugs -------------------------------------------------------------------------------------


def test_a_hard_bug_stops_the_world_at_once() -> None:
    """Nobody runs after it, and nothing of the task is unwound before the burial."""
    log: list[str] = []

    def bad() -> None:
        try:
            K.machine.fatal(BUG)
        finally:
            log.append("unwound" if K.machine.dead else "unwound too early")

    def other() -> None:
        log.append("other")

    with world() as machine:
        machine.spawn(bad)
        machine.spawn(other)
        machine.run()
        assert machine.violations == [BUG]
        assert machine.stopped
        assert log == []
        machine.run()
        assert log == []
    assert log == ["unwound"]


def test_no_except_clause_hides_a_hard_bug() -> None:
    """It is recorded before anything could be caught, and it is no exception."""

    def bad() -> None:
        try:
            K.machine.fatal(BUG)
        except BaseException:
            raise ValueError("hidden") from None

    with world() as machine:
        machine.spawn(bad)
        machine.run()
        assert machine.violations == [BUG]


@pytest.mark.parametrize("where", ["hardirq", "softirq", "timer", "clock", "exit", "rcu"])
def test_a_hard_bug_anywhere(where: str) -> None:
    """Handlers, clock callbacks and the judge at a task's exit can stop the world too."""
    after: list[bool] = []

    class Judge(Notes):
        def task_exit(self, task: Any) -> None:
            if where == "exit":
                K.machine.fatal(BUG)

    def bad() -> None:
        K.machine.fatal(BUG)

    def body() -> None:
        machine = K.machine
        if where == "hardirq":
            machine.post_irq(1, bad)
        elif where == "softirq":
            machine.raise_softirq(bad)
        elif where == "timer":
            machine.timer(5, bad)
        elif where == "clock":
            machine.env.timeout(5).callbacks.append(lambda event: bad())
        elif where == "rcu":
            from vfsim.locks.rcu import call_rcu

            call_rcu(bad)
        else:
            return
        schedule_timeout(10)
        after.append(True)

    for seed in (None, 1, 2):
        with world(seed, judge=Judge()) as machine:
            machine.spawn(body)
            machine.run()
            assert machine.violations == [BUG]
            assert seed is not None or not after


def test_a_hard_bug_in_a_simpy_process() -> None:
    """SimPy passes on what leaves a process as an event: the world stops all the same."""
    after: list[bool] = []

    def device(env: Any) -> Any:
        yield env.timeout(5)
        K.machine.fatal(BUG)

    def body() -> None:
        K.machine.env.process(device(K.machine.env))
        schedule_timeout(5)
        after.append(True)

    with world() as machine:
        machine.spawn(body)
        machine.run()
        assert machine.violations == [BUG]
    assert not after


def test_a_hard_bug_outside_of_tasks_is_raised() -> None:
    """There is nothing to stop outside: the caller gets it as an exception."""
    with world() as machine:
        with pytest.raises(KernelBug, match="something is broken"):
            machine.fatal(BUG)
        assert machine.violations == [BUG]


def test_soft_bugs_are_recorded_once() -> None:
    """The same signature is one violation, and the run goes on."""
    done: list[bool] = []

    def body() -> None:
        assert K.machine.violation(BUG)
        assert not K.machine.violation(BUG)
        done.append(True)

    with world() as machine:
        machine.spawn(body)
        machine.run()
        assert machine.violations == [BUG]
    assert done


# -- strategies that fail --------------------------------------------------------------------------


class StrategyError(BaseException):
    """As Hypothesis's: not an Exception."""


class Failing:
    """Works for a while, then raises, or answers nonsense."""

    gap = 1

    def __init__(self, place: str, answer: int | None = None) -> None:
        self.place = place
        self.answer = answer
        self.left = 5

    def start(self, machine: Machine) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        self.left -= 1
        if self.left < 0 and self.place == ("point" if current is not None else "block"):
            if self.answer is None:
                raise StrategyError
            return self.answer
        return 1 if current is not None and len(ready) > 1 else 0

    def choose(self, kind: str, n: int) -> int:
        if self.place == "choose":
            if self.answer is None:
                raise StrategyError
            return self.answer
        return 0


@pytest.mark.parametrize("place", ["point", "block", "choose", "clock"])
@pytest.mark.parametrize("answer", [None, 99])
def test_a_strategy_that_fails(place: str, answer: int | None) -> None:
    """Its error leaves ``run`` as it is; no kernel code is unwound while others can still run."""
    unwound: list[bool] = []
    lock = Mutex("lock")

    def body() -> None:
        try:
            for _ in range(20):
                with lock:
                    step(lock)
                    if place == "clock":
                        event = K.machine.env.timeout(1)
                        event.callbacks.append(lambda event: K.machine.choose("x", 3))
                        schedule_timeout(2)
                    else:
                        K.machine.choose("x", 3)
                yield_()
        finally:
            unwound.append(K.machine.dead)

    strategy = Failing("choose" if place == "clock" else place, answer)
    with world(strategy=strategy) as machine:
        for _ in range(3):
            machine.spawn(body)
        with pytest.raises((StrategyError, IndexError, ValueError)):
            machine.run()
        assert unwound == []
    assert unwound
    assert all(unwound)


@pytest.mark.parametrize("gap", [0, -3])
def test_a_gap_must_be_positive(gap: int) -> None:
    """A countdown that never ends would switch off the strategy and the step limit."""
    strategy = Alternate()
    strategy.gap = gap
    with world(strategy=strategy) as machine:
        machine.spawn(step)
        with pytest.raises(ValueError, match="gap must be at least 1"):
            machine.run()


# -- no progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [step, yield_], ids=["point", "yield"])
@pytest.mark.parametrize("strategy", [None, "random", "eager"])
def test_a_loop_ends_at_the_step_limit(operation: Any, strategy: Any) -> None:
    """A loop that passes scheduling points is no progress after exactly so many of them."""

    def body() -> None:
        while True:
            operation()

    made = {None: None, "random": RandomWalk(1), "eager": Alternate()}[strategy]
    for trace in (None, "traced"):
        from vfsim.sim.trace import Trace

        with world(
            strategy=made, max_steps=300, trace=Trace(stacks=False) if trace else None
        ) as machine:
            machine.spawn(body)
            machine.spawn(body)
            machine.run()
            assert [v.rule for v in machine.violations] == ["no-progress"]
            assert machine.steps == 301


def test_the_limit_is_per_run() -> None:
    """A machine that is run many times does not run out of steps."""

    def body() -> None:
        for _ in range(80):
            step()

    for options in ({}, {"seed": 1}):
        with world(max_steps=100, **options) as machine:
            for _ in range(5):
                machine.spawn(body)
                machine.run()
            assert machine.violations == []
            assert machine.steps == 400


# -- burial ----------------------------------------------------------------------------------------


def _deadlock(machine: Machine) -> list[Any]:
    """Two tasks that wait for each other; returns weak references to what they hold."""
    a, b = Mutex("a"), Mutex("b")
    marks = []

    class Mark:
        pass

    def body(first: Mutex, second: Mutex) -> None:
        mark = Mark()
        marks.append(weakref.ref(mark))
        with first:
            yield_()
            with second:
                pass

    machine.spawn(body, a, b)
    machine.spawn(body, b, a)
    return marks


def test_a_deadlocked_world_is_found_and_freed() -> None:
    """Its tasks are unwound at the burial, and what they held is let go."""
    with world() as machine:
        marks = _deadlock(machine)
        machine.run()
        assert [v.rule for v in machine.violations] == ["wait.hang"]
        assert all(mark() is not None for mark in marks)
    del machine
    gc.collect()
    assert all(mark() is None for mark in marks)


def test_a_lock_outlives_the_world_that_left_it_locked() -> None:
    """It may belong to a module: in the next world it is free, and only the living wait for it."""
    mutex, sem = Mutex("of a module"), RwSem("of a module, too")

    def leave() -> None:
        sem.down_read()
        mutex.lock()

    def take() -> None:
        with mutex, sem:
            yield_()

    with world(judge=Notes()) as machine:
        machine.spawn(leave)
        machine.spawn(take)
        machine.spawn(take)
        machine.run()
        assert mutex.is_locked() and sem.is_locked()
    assert mutex.statistics() == {"owner": None, "waiting": 0} and not sem.is_locked()
    with world() as machine:
        machine.spawn(take)
        machine.spawn(take)
        machine.run()
        assert machine.violations == []


def test_burying_twice_and_early_is_harmless() -> None:
    """A world that never ran, or is buried again, needs no care; inside a task it is misuse."""
    machine = Machine()
    machine.spawn(step)
    machine.bury()
    machine.bury()
    assert machine.tasks == []
    with world() as machine:
        machine.spawn(machine.bury)
        with pytest.raises(Misuse, match="inside a task"):
            machine.run()


def test_dying_tasks_may_clean_up() -> None:
    """``finally`` blocks of a buried task run, may block again, and change nobody else's fate."""
    log: list[str] = []
    lock, queue = Mutex("lock"), WaitQueue("queue")

    def body() -> None:
        try:
            queue.wait_event(lambda: False)
        finally:
            try:
                with lock:
                    with rcu_read():
                        step()
                    msleep(1)
            finally:
                log.append("cleaned up")

    with world() as machine:
        for _ in range(3):
            machine.spawn(body)
        machine.run()
    assert log == ["cleaned up"] * 3


def test_dying_words_are_not_recorded() -> None:
    """Neither violations nor the trace grow while a world is buried."""
    from vfsim.sim.trace import Trace

    def body() -> None:
        try:
            WaitQueue("queue").wait_event(lambda: False)
        finally:
            K.machine.violation(Violation("late", "soft", "test", "", "late"))
            step()
            K.machine.fatal(BUG)

    trace = Trace()
    with world(trace=trace) as machine:
        machine.spawn(body)
        machine.run()
        before = len(trace.events), trace.digest(), list(machine.violations)
    assert before == (len(trace.events), trace.digest(), machine.violations)


def _stubborn_lock() -> None:
    lock = Mutex("stubborn")
    while True:
        try:
            lock.lock()
        except BaseException:
            pass


def _stubborn_sleep() -> None:
    while True:
        try:
            msleep(10**6)
        except BaseException:
            pass


def _stubborn_point() -> None:
    while True:
        try:
            step()
            WaitQueue("stubborn").wait_event(lambda: False)
        except Killed:
            pass


def _stubborn_finally() -> None:
    def again(n: int) -> None:
        try:
            msleep(10**6)
        finally:
            if n:
                again(n - 1)

    again(200)


@pytest.mark.parametrize(
    "body",
    [_stubborn_lock, _stubborn_sleep, _stubborn_point, _stubborn_finally],
    ids=lambda body: body.__name__,
)
@pytest.mark.parametrize("seed", [None, 1])
def test_a_task_that_swallows_its_death_is_cut_off(body: Any, seed: int | None) -> None:
    """The burial ends, and the stack of such a task is never used again."""
    lost = len(LOST)
    with world(seed, max_steps=1000) as machine:
        machine.spawn(body)
        machine.spawn(WaitQueue("queue").wait_event, lambda: False)
        machine.run()
    assert K.cur is NOBODY
    assert K.left == INF
    assert len(LOST) in (lost, lost + 1)
    assert not any(worker in POOL for worker in LOST)
    run(step, step)


def test_killed_tasks_do_not_call_the_judge() -> None:
    """A burial is no exit: nothing is reported about it."""
    notes = Notes()

    def body() -> None:
        Mutex("lock").lock()
        WaitQueue("queue").wait_event(lambda: False)

    with world(judge=notes) as machine:
        machine.spawn(body)
        machine.run()
    assert notes.seen == []


def test_handlers_are_buried_too() -> None:
    """Handlers that spin for ever, or were never delivered, are freed with their world."""
    lock = SpinLock("lock")

    def handler() -> None:
        lock.lock()

    def body() -> None:
        lock.lock()
        K.machine.post_irq(K.cur.cpu.index, handler)
        K.machine.post_irq(K.cur.cpu.index, handler)
        step()
        WaitQueue("queue").wait_event(lambda: False)

    for seed in seeds(20):
        with world(seed, judge=Notes()) as machine:
            machine.spawn(body)
            machine.run()
            assert machine.violations


def test_worlds_may_take_turns() -> None:
    """Two machines may be run alternately, and each is judged by its own judge alone."""

    class Counting(Notes):
        def entering(self, node: Any, key: int, lock: Any) -> None:
            self.seen.append("entering")

    lock = Mutex("turns")

    def body() -> None:
        with lock:
            pass

    judges = Counting(), Counting()
    with world(judge=judges[0]) as first, world(judge=judges[1]) as second:
        for _ in range(2):
            for machine in (first, second):
                machine.spawn(body)
                machine.run()
    assert judges[0].seen
    assert judges[1].seen


def test_a_forgotten_world_does_not_judge_for_the_next() -> None:
    """A world that nobody buried has not judged anything on behalf of others."""

    class Counting(Notes):
        def entering(self, node: Any, key: int, lock: Any) -> None:
            self.seen.append("entering")

    def body() -> None:
        with Mutex("forgotten"):
            pass

    counts = []
    for _ in range(3):
        machine = Machine(judge=Counting())
        machine.spawn(body)
        machine.run()
        counts.append(len(machine.judge.seen))  # type: ignore[attr-defined]
    assert counts == [1, 1, 1]


# -- memory ----------------------------------------------------------------------------------------


def _one_world(seed: int) -> bool:
    """A small world with locks, sleeps, RCU and interrupts; every other one deadlocks."""
    machine = Machine(strategy=RandomWalk(seed))
    a, b, queue = Mutex("a"), Mutex("b"), WaitQueue("queue")

    def body(first: Mutex, second: Mutex) -> None:
        with first:
            K.machine.post_irq(0, step)
            msleep(1)
            with rcu_read():
                step()
            with second:
                synchronize_rcu()

    machine.spawn(body, a, b)
    machine.spawn(body, b, a) if seed % 2 else machine.spawn(body, a, b)
    if seed % 4 == 1:
        machine.spawn(queue.wait_event, lambda: False)
    machine.run()
    hung = bool(machine.violations)
    machine.bury()
    return hung


def _memory() -> int:
    """Resident memory in KiB, after a full collection."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def _memory_stays_flat(worlds: int) -> None:
    for seed in range(worlds // 10):  # whatever the process still had to allocate is there now
        _one_world(seed)
    before = _memory()
    objects = len(gc.get_objects())
    hung = sum(_one_world(seed) for seed in range(worlds))
    assert hung > worlds // 4
    assert _memory() - before < 2_000
    assert len(gc.get_objects()) - objects < 500


def test_ten_thousand_worlds_leave_memory_flat() -> None:
    """Worlds leave nothing behind, deadlocked ones included."""
    _memory_stays_flat(10_000)


@pytest.mark.soak
def test_two_hundred_thousand_worlds_leave_memory_flat() -> None:
    """The same, twenty times as many."""
    _memory_stays_flat(200_000)
