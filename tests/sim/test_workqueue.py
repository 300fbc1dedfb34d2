"""Work queues: what is queued runs, in the promised order, and who waits for it waits for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.helpers import Notes, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.explore.strategies.pos import POS
from vfsim.locks.mutex import Mutex
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import in_task
from vfsim.sim.scheduler import msleep, schedule_timeout, yield_
from vfsim.sim.smp import smp_processor_id
from vfsim.sim.state import K
from vfsim.sim.workqueue import (
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    Work,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_delayed_work,
    cancel_delayed_work_sync,
    cancel_work_sync,
    destroy_workqueue,
    flush_delayed_work,
    flush_work,
    flush_workqueue,
    mod_delayed_work,
    queue_delayed_work,
    queue_work,
    queue_work_on,
    schedule_delayed_work,
    schedule_work,
    system_wq,
)


def rules(*bodies: Callable[[], Any], **options: Any) -> list[str]:
    """What the judge that looks finds."""
    with world(judge=KernelJudge(), **options) as machine:
        for body in bodies:
            machine.spawn(body)
        machine.run()
        return [v.rule for v in machine.violations]


def test_a_work_runs_once_for_each_time_it_is_queued() -> None:
    """Queued while pending is queued once; queued while it runs, it runs again."""
    for seed in seeds(100):
        ran: list[str] = []
        asked: list[bool] = []

        def fn(work: Work, ran: list[str] = ran, asked: list[bool] = asked) -> None:
            assert in_task() and not work.pending
            ran.append("run")
            if len(ran) == 1:
                asked.append(schedule_work(work))

        def body(fn: Any = fn, asked: list[bool] = asked) -> None:
            work = Work(fn)
            asked.append(schedule_work(work))
            asked.append(schedule_work(work))
            flush_work(work)
            assert not work.busy or asked

        run(body, strategy=POS(seed), judge=KernelJudge())
        assert len(ran) == sum(asked)


def test_a_work_never_runs_beside_itself() -> None:
    """However many workers there are, and wherever it is queued."""
    for seed in seeds(80):
        inside: list[int] = []

        def fn(work: Work, inside: list[int] = inside) -> None:
            assert not inside
            inside.append(1)
            step(inside)
            yield_()
            inside.pop()

        def body(wq: Any = alloc_workqueue("queue"), work: Any = Work(fn)) -> None:  # noqa: B008
            for cpu in range(3):
                queue_work_on(cpu, wq, work)
                step(work)

        run(body, body, strategy=POS(seed), judge=KernelJudge())


def test_an_ordered_queue_keeps_the_order() -> None:
    """One at a time, first come first served, though each of them sleeps."""
    for seed in seeds(60):
        order: list[int] = []
        inside: list[int] = []

        def body(order: list[int] = order, inside: list[int] = inside) -> None:
            def fn(work: Work) -> None:
                assert not inside
                inside.append(1)
                msleep(1)
                order.append(int(work.name))
                inside.pop()

            wq = alloc_ordered_workqueue("queue")
            for i in range(4):
                queue_work(wq, Work(fn, str(i)))
            flush_workqueue(wq)
            assert order == [0, 1, 2, 3]

        run(body, seed=seed, judge=KernelJudge())


@pytest.mark.parametrize(("flags", "most"), [(WQ_UNBOUND, 2), (0, 2), (WQ_UNBOUND, 0)])
def test_max_active(flags: int, most: int) -> None:
    """No more works run at once than the queue allows, and so many do in some schedule."""
    seen = 0
    for seed in seeds(40):
        inside: list[int] = []

        def fn(work: Work, inside: list[int] = inside) -> None:
            nonlocal seen
            inside.append(1)
            seen = max(seen, len(inside))
            msleep(1)
            inside.pop()

        def body(fn: Any = fn) -> None:
            wq = alloc_workqueue("queue", flags, most)
            for _ in range(4):
                queue_work(wq, Work(fn))
            destroy_workqueue(wq)

        run(body, seed=seed)
    assert seen == (most or 4)


def test_a_per_cpu_queue_runs_where_it_was_queued() -> None:
    """On the caller's CPU, or the one that is named; also if the worker slept."""
    where: list[int] = []

    def fn(work: Work) -> None:
        yield_()
        where.append(smp_processor_id())

    def body() -> None:
        wq = alloc_workqueue("queue")
        queue_work(wq, Work(fn))
        queue_work_on(3, wq, Work(fn))
        flush_workqueue(wq)

    with world() as machine:
        machine.spawn(body, cpu=1)
        machine.run()
    assert sorted(where) == [1, 3]


def test_flush_waits_for_what_was_queued() -> None:
    """``flush_work`` returns after the end of the last time it was queued, not of others."""
    for seed in seeds(80):
        done: list[str] = []

        def body(done: list[str] = done) -> None:
            def fn(work: Work) -> None:
                yield_()
                done.append(work.name)

            one, other = Work(fn, "one"), Work(fn, "other")
            wq = alloc_workqueue("queue")
            assert not flush_work(one)
            queue_work(wq, one)
            queue_work(wq, other)
            flush_work(one)
            assert "one" in done
            flush_workqueue(wq)
            assert sorted(done) == ["one", "other"]
            assert not one.busy and wq.works() == []

        run(body, strategy=POS(seed), judge=KernelJudge())


def test_delayed_work() -> None:
    """It runs when its time has come, earlier or later if it is modified, at once if flushed."""
    ran: list[int] = []

    def body() -> None:
        def fn(work: Work) -> None:
            ran.append(K.machine.now)

        work = DelayedWork(fn)
        wq = alloc_workqueue("queue")
        assert queue_delayed_work(wq, work, 100)
        assert not queue_delayed_work(wq, work, 1)
        assert mod_delayed_work(wq, work, 200)
        schedule_timeout(250)
        assert ran == [200]
        assert not mod_delayed_work(wq, work, 50)
        flush_delayed_work(work)
        assert ran == [200, 250]
        schedule_delayed_work(work, 0)
        flush_workqueue(system_wq())
        assert ran == [200, 250, 250]

    run(body, judge=KernelJudge())


def _cancel(seed: int) -> bool:
    """One life of a work that queues itself again, and is canceled; whether it was pending then."""
    state: list[str] = []
    was: list[bool] = []
    wq = alloc_workqueue("queue")

    def fn(work: Any) -> None:
        state.append("begin")
        step(state)
        queue_delayed_work(wq, work, 10)
        state.append("end")

    work = DelayedWork(fn)

    def body() -> None:
        queue_delayed_work(wq, work, 1)
        yield_()
        was.append(cancel_delayed_work_sync(work))
        assert state.count("begin") == state.count("end")
        assert not work.busy
        seen = len(state)
        schedule_timeout(100)
        assert len(state) == seen

    def other() -> None:
        cancel_work_sync(work)

    run(body, other, strategy=POS(seed), judge=KernelJudge())
    return was[0]


def test_cancel() -> None:
    """After a synchronous cancel it neither runs nor will; until then it cannot be queued."""
    assert {_cancel(seed) for seed in seeds(120)} == {True, False}


def test_cancel_without_waiting() -> None:
    """It takes back what is pending and does not wait for what runs."""
    ran: list[int] = []

    def body() -> None:
        def fn(work: Work) -> None:
            ran.append(1)

        work = DelayedWork(fn)
        schedule_delayed_work(work, 10)
        assert cancel_delayed_work(work)
        assert not cancel_delayed_work(work)
        schedule_timeout(20)
        assert ran == []
        assert schedule_delayed_work(work, 0)

    run(body, judge=KernelJudge())
    assert ran == [1]


def test_a_canceled_work_is_not_flushed_for_ever() -> None:
    """Who waits for a pending work goes on when somebody takes it back."""
    for seed in seeds(60):

        def body() -> None:
            wq = alloc_ordered_workqueue("queue")
            block, work = Work(lambda work: msleep(1), "long"), Work(lambda work: None, "short")
            queue_work(wq, block)
            queue_work(wq, work)
            K.machine.spawn(flush_work, work)
            yield_()
            cancel_work_sync(work)

        run(body, seed=seed, judge=KernelJudge())


def test_queueing_from_an_interrupt() -> None:
    """An interrupt may queue; the work runs as a task."""
    ran: list[bool] = []

    def body() -> None:
        work = Work(lambda work: ran.append(in_task()))
        K.machine.post_irq(1, lambda: schedule_work(work))

    run(body, judge=KernelJudge())
    assert ran == [True]


# -- wrong use -------------------------------------------------------------------------------------


def test_waiting_for_itself() -> None:
    """A work that flushes or cancels itself, or its own queue, can never go on."""

    def flush(wait: Callable[[Work], Any]) -> Callable[[], None]:
        def body() -> None:
            schedule_work(Work(wait, "selfish"))

        return body

    assert rules(flush(flush_work)) == ["wait.deadlock"]
    assert rules(flush(cancel_work_sync)) == ["wait.deadlock"]
    assert "wait.deadlock" in rules(flush(lambda work: flush_workqueue(system_wq())))


def test_waiting_with_a_lock_that_the_work_takes() -> None:
    """The order rules tell it although this schedule does not hang."""

    def body(locked: bool) -> Callable[[], None]:
        def task() -> None:
            mutex = Mutex("mutex")

            def fn(work: Work) -> None:
                with mutex:
                    pass

            work = Work(fn, "locker")
            schedule_work(work)
            flush_work(work)
            if locked:
                with mutex:
                    flush_work(work)

        return task

    assert rules(body(True)) == ["lockdep.circular"]
    assert rules(body(False)) == []


def test_a_flush_that_hangs_names_the_worker() -> None:
    """Flusher and worker wait for each other: the report has both, and what each waits for."""

    def body() -> None:
        mutex = Mutex("mutex")

        def fn(work: Work) -> None:
            with mutex:
                pass

        work = Work(fn, "locker")
        with mutex:
            schedule_work(work)
            yield_()
            flush_work(work)

    with world(judge=KernelJudge()) as machine:
        machine.spawn(body, name="flusher")
        machine.run()
        deadlock = machine.violations[-1]
        assert deadlock.rule == "wait.deadlock"
        assert "kworker/events" in deadlock.summary
        assert "the end of work locker" in deadlock.summary


def test_an_ordered_queue_behind_a_waiter_is_a_deadlock() -> None:
    """A work of an ordered queue that waits for one behind it waits for itself."""

    def body() -> None:
        wq = alloc_ordered_workqueue("queue")
        second = Work(lambda work: None, "second")

        def fn(work: Work) -> None:
            queue_work(wq, second)
            flush_work(second)

        queue_work(wq, Work(fn, "first"))

    first, *_, last = rules(body)
    assert (first, last) == ("lockdep.recursion", "wait.deadlock")


def test_a_queue_for_short_memory_may_not_wait_for_another() -> None:
    """``WQ_MEM_RECLAIM`` is a promise: its works wait only for queues that make it, too."""

    def body(flags: int) -> Callable[[], None]:
        def task() -> None:
            inner = Work(lambda work: None, "inner")
            target = alloc_workqueue("target", flags)

            def fn(work: Work) -> None:
                queue_work(target, inner)
                flush_work(inner)

            queue_work(alloc_workqueue("reclaim", WQ_MEM_RECLAIM), Work(fn, "outer"))

        return task

    assert rules(body(0)) == ["workqueue.reclaim"]
    assert rules(body(WQ_MEM_RECLAIM)) == []


def test_waiting_needs_to_sleep() -> None:
    """Each wait is told under a spinlock; queueing is not."""

    def body(wait: Callable[[Work], Any]) -> Callable[[], None]:
        def task() -> None:
            work = Work(lambda work: None)
            with SpinLock("spin"):
                schedule_work(work)
                wait(work)

        return task

    for wait in (flush_work, cancel_work_sync, lambda work: flush_workqueue(system_wq())):
        assert rules(body(wait)) == ["lockdep.sleep-in-atomic"]
    assert rules(body(lambda work: None)) == []


def test_a_work_that_leaves_a_lock_held() -> None:
    """It is told, and the next work is run by a worker that holds nothing."""
    ran: list[Any] = []

    def body() -> None:
        wq = alloc_ordered_workqueue("queue")
        queue_work(wq, Work(lambda work: Mutex("forgotten").lock(), "careless"))
        queue_work(wq, Work(lambda work: ran.append(K.cur.ctx.chain()), "careful"))

    assert rules(body) == ["lockdep.held-at-exit"]
    assert len(ran[0]) == 2


def test_a_destroyed_queue_takes_nothing() -> None:
    """Destroying runs what is left; queueing afterwards is told."""
    notes = Notes()
    ran: list[int] = []

    def body() -> None:
        wq = alloc_workqueue("queue")
        work = Work(lambda work: ran.append(1))
        queue_work(wq, work)
        destroy_workqueue(wq)
        assert ran == [1]
        queue_work(wq, work)

    run(body, judge=notes)
    assert notes.seen == ["corrupt"]


def test_wrong_arguments() -> None:
    """What is no function, and a queue that could run nothing."""
    with pytest.raises(TypeError, match="function to run"):
        Work(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        alloc_workqueue("queue", 0, -1)
