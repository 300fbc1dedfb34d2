"""Time: the machine's own timers and SimPy's events are one order."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import simpy

from tests.sim.helpers import run, seeds, step, world
from vfsim.locks.completion import Completion
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.cpu import in_interrupt
from vfsim.sim.errors import Misuse
from vfsim.sim.scheduler import msleep, schedule_timeout, yield_
from vfsim.sim.state import K

Process = Generator[simpy.Event, Any, None]


def test_sleeping() -> None:
    """Sleepers wake in order of time, then of their call, at exactly their time."""
    woken: list[tuple[int, int]] = []

    def sleeper(ms: int) -> None:
        msleep(ms)
        woken.append((ms, K.machine.now))

    with world() as machine:
        for ms in (3, 1, 2, 1):
            machine.spawn(sleeper, ms)
        machine.run()
    assert woken == [(1, 10**6), (1, 10**6), (2, 2 * 10**6), (3, 3 * 10**6)]


def test_time_stands_still_while_somebody_can_run() -> None:
    """In a plain run nothing is due before everybody waits."""

    def sleeper() -> None:
        msleep(1)
        assert K.machine.now == 10**6

    def busy() -> None:
        for _ in range(50):
            step()
            yield_()
            assert K.machine.now == 0

    run(sleeper, busy)


def test_a_strategy_may_let_a_timer_fire_early() -> None:
    """The clock is among those that can run next, so time may pass under a busy task."""
    early = 0

    def sleeper() -> None:
        msleep(1)

    def busy() -> None:
        nonlocal early
        for _ in range(10):
            step()
        early += K.machine.now > 0

    for seed in seeds(20):
        run(sleeper, busy, seed=seed)
    assert early > 5


def test_simpy_processes_beside_tasks() -> None:
    """An ordinary SimPy process shares the clock, and wakes tasks."""
    log: list[tuple[str, int]] = []
    done = Completion("device")

    def device(env: simpy.Environment) -> Process:
        for _ in range(2):
            yield env.timeout(700)
            log.append(("device", int(env.now)))
        K.machine.post_irq(0, done.complete)

    def body() -> None:
        K.machine.env.process(device(K.machine.env))
        schedule_timeout(1000)
        log.append(("task", K.machine.now))
        done.wait()
        log.append(("done", K.machine.now))

    run(body)
    assert log == [("device", 700), ("task", 1000), ("device", 1400), ("done", 1400)]


def test_simpy_comes_first_at_equal_times() -> None:
    """At the same nanosecond SimPy's events are handled before the machine's timers."""
    log: list[str] = []

    def body() -> None:
        machine = K.machine
        machine.timer(500, log.append, "timer")
        event = machine.env.timeout(500)
        event.callbacks.append(lambda event: log.append("simpy"))
        schedule_timeout(500)
        log.append("task")

    run(body)
    assert log[0] == "simpy"
    assert sorted(log[1:]) == ["task", "timer"]


def test_simpy_resources_and_stores_work() -> None:
    """SimPy's own shared resources among processes are untouched."""
    log: list[int] = []

    def user(env: simpy.Environment, disk: simpy.Resource) -> Process:
        with disk.request() as turn:
            yield turn
            yield env.timeout(10)
            log.append(int(env.now))

    def body() -> None:
        env = K.machine.env
        disk = simpy.Resource(env, capacity=1)
        for _ in range(3):
            env.process(user(env, disk))
        schedule_timeout(100)

    run(body)
    assert log == [10, 20, 30]


def test_timers_run_in_softirq_context_and_can_be_cancelled() -> None:
    """A timer calls its function once, in softirq context, unless it was cancelled in time."""
    ran: list[int] = []

    def fire(n: int) -> None:
        assert in_interrupt()
        ran.append(n)

    def body() -> None:
        timers = [K.machine.timer(100 * n, fire, n) for n in range(3)]
        assert all(timer.pending for timer in timers)
        assert timers[1].cancel()
        assert not timers[1].cancel()
        schedule_timeout(1000)
        assert not any(timer.pending for timer in timers)
        assert not timers[0].cancel()
        with pytest.raises(ValueError, match="past"):
            K.machine.timer(-1, fire, 0)
        with pytest.raises(ValueError, match="cannot sleep"):
            schedule_timeout(-1)

    run(body)
    assert ran == [0, 2]


def test_a_cancelled_timer_does_not_move_time() -> None:
    """Nothing is due at the time of a timer that was taken back, or of a sleep that was ended."""
    queue = WaitQueue("queue")
    flag: list[bool] = []

    def body() -> None:
        K.machine.timer(10**9, step).cancel()
        assert queue.wait_event_timeout(lambda: bool(flag), 10**12)
        schedule_timeout(5)

    def waker() -> None:
        schedule_timeout(10)
        flag.append(True)
        queue.wake_up()

    with world() as machine:
        machine.spawn(body)
        machine.spawn(waker)
        machine.run()
        assert machine.now == 15


def test_a_stale_timer_is_not_offered_to_the_strategy() -> None:
    """Strategies are asked about the clock only if something is really due."""
    offers: list[int] = []

    class Counting:
        gap = 1

        def start(self, machine: Any) -> None:
            self.machine = machine

        def decide(self, ready: list[Any], current: Any) -> int:
            offers.append(ready[-1] is self.machine.clock)
            return 0

        def choose(self, kind: str, n: int) -> int:
            return 0

    def body() -> None:
        timer = K.machine.timer(1000, step)
        step()
        timer.cancel()
        step()
        step()

    run(body, strategy=Counting())
    assert offers[-3:] == [True, False, False] or offers.count(True) == 1


def test_sleeping_in_a_callback_of_the_clock_is_misuse() -> None:
    """A SimPy callback that sleeps or waits is told what it may do instead."""
    queue = WaitQueue("queue")

    def body() -> None:
        event = K.machine.env.timeout(5)
        event.callbacks.append(lambda event: queue.wait_event(lambda: False))
        schedule_timeout(100)

    with world() as machine:
        machine.spawn(body)
        with pytest.raises(Misuse, match="only wake tasks and post interrupts"):
            machine.run()


def test_an_exception_in_a_simpy_process_is_the_original() -> None:
    """SimPy's copy of an exception does not hide the one that was raised."""

    class Odd(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(code)
            self.code = code

    class Plain(Exception):
        pass

    plain = Plain("lost in the device")

    def device(env: simpy.Environment) -> Process:
        yield env.timeout(5)
        raise plain

    def body() -> None:
        K.machine.env.process(device(K.machine.env))
        schedule_timeout(100)

    with world() as machine:
        machine.spawn(body)
        with pytest.raises(Plain) as caught:
            machine.run()
        assert caught.value is plain


def test_points_in_callbacks_count_for_nobody() -> None:
    """What a callback does leaves the tasks' own counts of operations alone."""
    queue = WaitQueue("queue")

    def counts(callback: bool) -> list[int]:
        found: list[int] = []

        def body() -> None:
            event = K.machine.env.timeout(5)
            if callback:
                event.callbacks.append(lambda event: [queue.wake_up() for _ in range(9)])
            schedule_timeout(100)
            step()
            found.append(K.cur.ops)

        run(body, seed=3)
        with world(max_steps=50) as machine:
            machine.spawn(body)
            machine.run()
            found.append(machine.steps)
        return found

    assert counts(True) == counts(False)


def test_fractions_of_time() -> None:
    """A SimPy process may wait for fractions; ``now`` stays an integer."""

    def body() -> None:
        K.machine.env.timeout(2.5).callbacks.append(lambda event: None)
        K.machine.timer(2, step)
        schedule_timeout(4)
        assert K.machine.now == 4

    run(body)


def test_endless_ticking_is_no_progress() -> None:
    """A device that ticks for ever does not keep a hung world alive for ever."""

    def device(env: simpy.Environment) -> Process:
        while True:
            yield env.timeout(1)

    def body() -> None:
        K.machine.env.process(device(K.machine.env))
        WaitQueue("never").wait_event(lambda: False)

    for options in ({}, {"seed": 1}):
        with world(max_steps=500, **options) as machine:
            machine.spawn(body)
            machine.run()
            assert [v.kind for v in machine.violations] == ["no progress"]
