"""Wait queues and completions: nothing is lost, nobody is woken for nothing who should not be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.helpers import Notes, hangs, run, seeds, step, world
from vfsim.locks.completion import Completion
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.cpu import preempt_disable, preempt_enable
from vfsim.sim.scheduler import msleep, wake, yield_
from vfsim.sim.state import K


def test_wait_event_is_never_lost() -> None:
    """Whatever the order of condition, wake-up and sleep, a waiter goes on."""
    for seed in seeds(150):
        queue = WaitQueue("queue")
        state: list[bool] = []

        def waiter(queue: WaitQueue = queue, state: list[bool] = state) -> None:
            queue.wait_event(lambda: (step(queue), bool(state))[1])

        def waker(queue: WaitQueue = queue, state: list[bool] = state) -> None:
            step(queue)
            state.append(True)
            queue.wake_up()

        run(waiter, waiter, waker, seed=seed)
        assert queue.statistics() == {"waiting": 0}


def test_sleep_on_loses_wake_ups() -> None:
    """Looking first and queueing then is the old race: some schedule hangs."""

    def world_hangs(seed: int) -> bool:
        queue = WaitQueue("queue")
        state: list[bool] = []

        def waiter() -> None:
            step(queue)
            if not state:
                queue.sleep_on()

        def waker() -> None:
            step(queue)
            state.append(True)
            queue.wake_up_all()

        return hangs(waiter, waker, seed=seed)

    found = [world_hangs(seed) for seed in seeds(60)]
    assert any(found)
    assert not all(found)


def test_exclusive_waiters_are_woken_one_by_one() -> None:
    """``wake_up`` wakes every plain waiter and as many exclusive ones as it says."""
    queue = WaitQueue("queue")
    woken: list[str] = []
    open_: list[bool] = []

    def waiter(exclusive: bool) -> None:
        queue.wait_event(lambda: bool(open_), exclusive=exclusive)
        woken.append(K.cur.name)

    def waker() -> None:
        yield_()
        open_.append(True)
        queue.wake_up()
        yield_()
        assert woken == ["plain1", "plain2", "exclusive1"] or sorted(woken) == [
            "exclusive1",
            "plain1",
            "plain2",
        ]
        queue.wake_up(nr=2)

    with world() as machine:
        for name in ("exclusive1", "plain1", "exclusive2", "plain2", "exclusive3", "exclusive4"):
            machine.spawn(waiter, name.startswith("e"), name=name)
        machine.spawn(waker)
        machine.run()
        assert len(woken) == 5
        assert queue.statistics() == {"waiting": 1}
        assert machine.violations[0].rule == "wait.hang"


def test_which_exclusive_waiter_is_a_choice() -> None:
    """Every one of the exclusive waiters is the first in some schedule."""
    firsts = set()
    for seed in seeds(60):
        queue = WaitQueue("queue")
        order: list[str] = []
        go: list[bool] = []

        def waiter(queue: WaitQueue = queue, order: list[str] = order, go: Any = go) -> None:
            queue.wait_event(lambda: bool(go), exclusive=True)
            order.append(K.cur.name)
            queue.wake_up()

        def waker(queue: WaitQueue = queue, go: list[bool] = go) -> None:
            msleep(1)
            go.append(True)
            queue.wake_up()

        with world(seed) as machine:
            for name in ("a", "b", "c"):
                machine.spawn(waiter, name=name)
            machine.spawn(waker)
            machine.run()
            assert not machine.violations
        firsts.add(order[0])
    assert firsts == {"a", "b", "c"}


def test_timeout() -> None:
    """A wait with a timeout ends exactly then, or earlier by a wake-up with a true condition."""
    queue = WaitQueue("queue")
    state: list[bool] = []
    seen: list[tuple[bool, int]] = []

    def waiter(ns: int) -> None:
        seen.append((queue.wait_event_timeout(lambda: bool(state), ns), K.machine.now))

    def waker() -> None:
        msleep(1)
        queue.wake_up_all()
        msleep(1)
        state.append(True)
        queue.wake_up_all()

    run(lambda: waiter(1_500_000), lambda: waiter(9_000_000), waker)
    assert seen == [(False, 1_500_000), (True, 2_000_000)]
    assert queue.waiters == []


def test_a_condition_may_take_a_spinlock() -> None:
    """A wake-up that comes while the waiter looks must not wake it from the lock."""
    for seed in seeds(150):
        queue = WaitQueue("queue")
        lock = SpinLock("lock")
        state: list[bool] = []

        def look(lock: SpinLock = lock, state: list[bool] = state) -> bool:
            with lock:
                assert lock.owner is K.cur
                step(lock)
                assert lock.owner is K.cur
                return bool(state)

        def waker(
            queue: WaitQueue = queue, lock: SpinLock = lock, state: list[bool] = state
        ) -> None:
            queue.wake_up()
            with lock:
                step(lock)
                state.append(True)
            queue.wake_up()

        def waiter(queue: WaitQueue = queue, look: Any = look) -> None:
            queue.wait_event(look)

        run(waiter, waiter, waker, seed=seed)


def test_a_condition_that_raises_leaves_the_queue() -> None:
    """An exception out of the condition takes the waiter off the queue."""
    queue = WaitQueue("queue")
    looks: list[bool] = []

    def look() -> bool:
        if looks:
            raise OSError(5, "I/O error")
        looks.append(True)
        return False

    def waiter() -> None:
        with pytest.raises(OSError, match="I/O error"):
            queue.wait_event(look)

    run(waiter)
    assert queue.waiters == []


def test_waiting_in_atomic_context_is_told() -> None:
    """A wait with preemption off is told to the judge, even if the condition holds already."""
    notes = Notes()

    def body() -> None:
        preempt_disable()
        WaitQueue("queue").wait_event(lambda: True)
        WaitQueue("queue").wait_event_timeout(lambda: True, 1)
        preempt_enable()

    run(body, judge=notes)
    assert notes.seen == ["sleeping", "sleeping"]


def test_wake_up_process_wakes_no_lock_waiter() -> None:
    """``wake(task)`` ends a bare sleep, but not the wait for a lock."""
    lock = SpinLock("lock")
    order: list[str] = []

    def owner() -> None:
        with lock:
            K.machine.spawn(other, name="other")
            for task in K.machine.tasks:
                if task.name == "other":
                    wake(task)
                    step(lock)
                    wake(task)
            order.append("owner")

    def other() -> None:
        with lock:
            order.append("other")

    for seed in seeds(40):
        order.clear()
        run(owner, seed=seed)
        assert order == ["owner", "other"]


# -- completions -----------------------------------------------------------------------------------


def test_completions_are_counted() -> None:
    """Each ``complete`` lets one waiter through, whether it comes first or last."""
    for seed in seeds(80):
        done = Completion("done")
        through: list[str] = []

        def waiter(done: Completion = done, through: list[str] = through) -> None:
            done.wait()
            through.append(K.cur.id)

        def finisher(done: Completion = done) -> None:
            done.complete()

        run(waiter, waiter, finisher, finisher, seed=seed)
        assert len(through) == 2
        assert not done.done
        assert hangs(waiter, waiter, finisher, seed=seed)


def test_complete_all_and_reinit() -> None:
    """``complete_all`` lets everybody through for good; ``reinit`` ends that."""
    done = Completion("done")

    def waiter() -> None:
        done.wait()
        done.wait()

    def finisher() -> None:
        done.complete_all()

    run(waiter, waiter, waiter, finisher)
    assert done.done
    assert "done for all" in repr(done)
    assert done.statistics() == {"done": "all", "waiting": 0}
    done.reinit()
    assert not done.done
    assert hangs(waiter)


def test_completion_timeout_and_try() -> None:
    """A wait with a timeout tells whether it was completed; a try takes what is there."""
    done = Completion("done")

    def body() -> None:
        assert not done.try_wait()
        assert not done.wait_timeout(1000)
        assert K.machine.now == 1000
        done.complete()
        assert done.wait_timeout(1000)
        done.complete()
        assert done.try_wait()
        assert not done.done

    run(body)


def test_reinit_under_a_waiter_is_told() -> None:
    """``reinit`` while somebody waits is told to the judge."""
    notes = Notes()
    done = Completion("done")

    def other() -> None:
        yield_()
        done.reinit()
        done.complete()

    run(done.wait, other, judge=notes)
    assert notes.seen == ["corrupt"]


def test_a_completion_knows_who_must_complete_it() -> None:
    """The wait-for graph is told who must complete: a task, or what a function returns."""

    def body() -> None:
        me = K.cur
        assert Completion("done", owner=me).owner is me
        assert Completion("done", owner=lambda: me).owner is me
        assert Completion("done").owner is None

    run(body)
