"""Tasks: they start, switch, start others, end, and fail."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from tests.sim.helpers import Alternate, Notes, run, seeds, step, world
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import ENOSPC, Misuse
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import cond_resched, msleep, yield_
from vfsim.sim.state import NOBODY, K, current
from vfsim.sim.task import POOL, Task


def test_round_robin_runs_in_order_of_arrival() -> None:
    """First come, first served; who yields goes to the end of the line."""
    order: list[str] = []

    def body() -> None:
        for _ in range(2):
            order.append(K.cur.name)
            yield_()

    with world() as machine:
        for name in "abc":
            machine.spawn(body, name=name)
        machine.run()
    assert "".join(order) == "abcabc"


def test_round_robin_does_not_preempt() -> None:
    """A plain run passes points without switching."""
    order: list[str] = []

    def body() -> None:
        for _ in range(5):
            step()
            cond_resched()
        order.append(K.cur.name)

    with world() as machine:
        machine.spawn(body, name="a")
        machine.spawn(body, name="b")
        machine.run()
        assert machine.steps == 20
    assert order == ["a", "b"]


def test_results_and_names() -> None:
    """A task keeps what its function returned, its name and an id that tells who started it."""
    ids: list[str] = []

    def child() -> None:
        ids.append(K.cur.id)

    def parent(value: int) -> int:
        ids.append(current().id)
        K.machine.spawn(child)
        K.machine.spawn(child)
        return value + 1

    with world() as machine:
        task = machine.spawn(parent, 41)
        other = machine.spawn(parent, 1, name="other")
        machine.run()
        assert (task.result, task.name, other.name) == (42, "parent", "other")
        assert not task.alive
        assert repr(other) == "other(2)"
    assert ids == ["1", "2", "1.1", "1.2", "2.1", "2.2"]


def test_ids_do_not_depend_on_the_schedule() -> None:
    """Whoever runs first, the n-th child and the n-th object of a task have the same id."""

    def ids(seed: int) -> list[str]:
        found: list[str] = []

        def leaf() -> None:
            found.append(K.cur.id + K.machine.next_id("thing"))

        def parent() -> None:
            for _ in range(2):
                step()
                K.machine.spawn(leaf)
                found.append(K.machine.next_id("thing"))

        run(parent, parent, seed=seed)
        return sorted(found)

    assert len({tuple(ids(seed)) for seed in seeds(20)}) == 1
    with world() as machine:
        assert [machine.next_id("inode") for _ in range(2)] == ["inode1", "inode2"]


def test_tasks_start_tasks_a_thousand_deep() -> None:
    """Nested starting needs no stack of the starter's: new stacks come from the hub."""
    deepest: list[int] = []

    def nest(depth: int) -> None:
        deepest.append(depth)
        if depth:
            K.machine.spawn(nest, depth - 1)
            yield_()

    with world() as machine:
        machine.spawn(nest, 1000)
        machine.run()
    assert deepest[-1] == 0


def test_ten_thousand_tasks_at_once() -> None:
    """Many sleeping tasks cost memory only; the pool is trimmed when the world is buried."""
    count = 3_000
    started: list[int] = []

    def body() -> None:
        started.append(len(started))
        msleep(1)

    with world() as machine:
        for _ in range(count):
            machine.spawn(body)
        machine.run()
    assert len(started) == count
    assert len(POOL) <= 64


def test_recursion_depth_is_the_hubs_not_the_starters() -> None:
    """A task started from deep recursion has as much room as any."""

    def deep(n: int) -> int:
        return deep(n - 1) + 1 if n else 0

    room = sys.getrecursionlimit() // 2
    results: list[int] = []

    def starter(n: int) -> None:
        if n:
            starter(n - 1)
        else:
            for _ in range(10):
                K.machine.spawn(lambda: results.append(deep(room)))
            yield_()

    run(lambda: starter(room))
    assert results == [room] * 10


def test_a_worker_is_used_again() -> None:
    """A thousand tasks, one after the other, need no more stacks than ran at once."""

    def body() -> None:
        for _ in range(1000):
            K.machine.spawn(step)
            yield_()

    run(body)
    before = len(POOL)
    run(body)
    assert len(POOL) == before


def test_an_exception_leaves_run() -> None:
    """What leaves a task's function is raised by ``run``, the object itself, with its traceback."""
    error = ENOSPC()
    after: list[bool] = []

    def body() -> None:
        step()
        raise error

    def other() -> None:
        yield_()
        yield_()
        after.append(True)

    with world() as machine:
        task = machine.spawn(body)
        machine.spawn(other)
        with pytest.raises(OSError) as caught:
            machine.run()
        assert caught.value is error
        assert task.error is error
        assert machine.stopped
    assert not after
    names = [entry.name for entry in caught.traceback]
    assert "body" in names
    assert len(names) < 8


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_not_only_exceptions_leave_run(error: BaseException) -> None:
    """An exit, an interrupt or a test's own outcome is passed on where no judge explains it."""

    def body() -> None:
        raise error

    with world() as machine:
        machine.spawn(body)
        with pytest.raises(type(error)):
            machine.run()


def test_pytest_outcomes_work_inside_tasks() -> None:
    """``pytest.fail`` and assertions inside a task end the test with their own message."""
    with pytest.raises(pytest.fail.Exception, match="told so"):
        run(lambda: pytest.fail("told so"))
    with pytest.raises(AssertionError, match="1 == 2"):

        def body() -> None:
            one = 1
            assert one == 2

        run(body)


def test_a_judge_may_explain_an_exception() -> None:
    """A judge that clears the task's error has dealt with it: the run goes on."""

    class Judge(Notes):
        def task_failed(self, task: Task, error: BaseException) -> None:
            self.seen.append(str(error))
            task.error = None

    judge = Judge()
    done: list[bool] = []

    def bad() -> None:
        raise RuntimeError("oops")

    def good() -> None:
        yield_()
        done.append(True)

    run(bad, good, judge=judge)
    assert judge.seen == ["oops"]
    assert done


def test_the_first_error_counts() -> None:
    """After an exception nobody else runs, so there is no second."""

    def bad(n: int) -> None:
        raise RuntimeError(str(n))

    with world() as machine:
        for n in range(3):
            machine.spawn(bad, n)
        with pytest.raises(RuntimeError, match="0"):
            machine.run()


def test_daemons_need_not_end() -> None:
    """A run ends when every task that is no daemon has, and daemons stay asleep for the next."""
    ticks: list[int] = []

    def daemon() -> None:
        while True:
            msleep(1)
            ticks.append(K.machine.now)

    with world() as machine:
        machine.spawn(daemon, daemon=True)
        machine.spawn(msleep, 3)
        machine.run()
        assert len(ticks) in (2, 3)
        before = len(ticks)
        machine.run()
        assert len(ticks) == before
        machine.spawn(msleep, 5)
        machine.run()
        assert len(ticks) > before + 3
        assert machine.violations == []


def test_runs_follow_each_other() -> None:
    """A machine may be run again: time and state go on."""
    with world() as machine:
        for n in range(1, 4):
            machine.spawn(msleep, 1)
            machine.run()
            assert machine.now == n * 1_000_000


def test_placing() -> None:
    """Tasks take turns on the CPUs; a named CPU is kept; there are no others."""
    with world(cpus=3) as machine:
        tasks = [machine.spawn(step) for _ in range(6)]
        assert [task.cpu.index for task in tasks] == [0, 1, 2, 0, 1, 2]
        assert machine.spawn(step, cpu=2).cpu.index == 2
        with pytest.raises(ValueError, match="CPUs 0 to 2, not 3"):
            machine.spawn(step, cpu=3)
        machine.run()


def test_a_new_task_takes_an_idle_cpu() -> None:
    """The turn passes over a CPU that is busier than others."""
    with world(cpus=2) as machine:
        machine.spawn(step, cpu=0)
        machine.spawn(step, cpu=0)
        assert [machine.spawn(step).cpu.index for _ in range(2)] == [1, 1]
        machine.run()


def test_a_task_moves_when_it_sleeps() -> None:
    """A task that wakes may find itself on an idler CPU; one with a named CPU stays."""
    seen: list[tuple[int, int]] = []

    def sleeper() -> None:
        before = K.cur.cpu.index
        msleep(2)
        seen.append((before, K.cur.cpu.index))

    def short() -> None:
        msleep(1)

    with world(cpus=2) as machine:
        for body in (sleeper, short, sleeper, short):
            machine.spawn(body)
        machine.run()
        assert seen == [(0, 1), (0, 0)] or seen == [(0, 0), (0, 1)]
        seen.clear()
        machine.spawn(sleeper, cpu=0)
        machine.spawn(short, cpu=1)
        machine.spawn(sleeper, cpu=0)
        machine.run()
        assert seen == [(0, 0), (0, 0)]
        assert machine.sharing == machine.placed == machine.holding == 0
        assert all(cpu.tasks == [] and cpu.curr is None for cpu in machine.cpus)


def test_bookkeeping_comes_back_to_nothing() -> None:
    """After any schedule the counters that say who shares and who holds back are zero."""
    mutex = Mutex("books")

    def handler() -> None:
        step()
        step()

    def body() -> None:
        for _ in range(3):
            with mutex:
                K.machine.post_irq(K.cur.cpu.index, handler)
                step()
                yield_()
            msleep(1)
            K.machine.raise_softirq(handler)
            K.machine.spawn(step)

    for seed in seeds(60):
        with world(seed, cpus=2) as machine:
            for _ in range(3):
                machine.spawn(body)
            machine.run()
            assert machine.violations == []
            assert (machine.sharing, machine.holding, machine.irqs, machine.placed) == (0, 0, 0, 0)
            assert machine.rq == []
            assert all(cpu.tasks == [] and cpu.curr is None for cpu in machine.cpus)


def test_misuse() -> None:
    """Wrong arguments and wrong places are refused with a sentence."""
    for bad in (0, -1, 1.5, "4"):
        with pytest.raises(ValueError, match="at least one CPU"):
            Machine(cpus=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one step"):
        Machine(max_steps=0)
    with world() as machine:
        with pytest.raises(TypeError, match="needs a function"):
            machine.spawn(3)  # type: ignore[arg-type]
        machine.spawn(machine.run)
        with pytest.raises(Misuse, match="inside a task"):
            machine.run()
    with pytest.raises(Misuse, match="buried"):
        machine.run()
    with pytest.raises(Misuse, match="buried"):
        machine.spawn(step)


def test_there_is_no_current_task_outside() -> None:
    """Outside of tasks ``current`` and what needs one say where they belong."""
    assert K.cur is NOBODY
    for call in (current, yield_, lambda: msleep(1)):
        with pytest.raises(TypeError, match="inside"):
            call()
    assert not K.cur
    assert repr(K.cur) == "nobody"


def test_worlds_may_run_in_another_thread() -> None:
    """One after the other: stacks belong to the thread that made them."""
    results: list[int] = []

    def use() -> None:
        with world() as machine:
            task = machine.spawn(lambda: 42)
            machine.run()
            results.append(task.result)

    use()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    use()
    assert results == [42, 42, 42]


def test_many_short_tasks_are_forgotten() -> None:
    """A world that starts tasks for ever does not remember them all."""

    def body() -> None:
        for _ in range(2_000):
            K.machine.spawn(step)
            yield_()

    with world() as machine:
        machine.spawn(body)
        machine.run()
        assert len(machine.tasks) < 500


def test_frames_of_ended_tasks_are_let_go() -> None:
    """A parked worker keeps nothing of the task that it ran."""

    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    def body(big: Big) -> None:
        step(big)

    with world(strategy=Alternate()) as machine:
        for _ in range(5):
            machine.spawn(body, Big())
        machine.run()
    del machine
    gc.collect()
    assert Big.alive == 0
