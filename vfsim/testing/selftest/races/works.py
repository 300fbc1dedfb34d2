"""Race cases: work queues, and calls on other CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.scheduler import msleep
from vfsim.sim.smp import on_each_cpu, smp_call_function_single
from vfsim.sim.state import K
from vfsim.sim.workqueue import (
    DelayedWork,
    Work,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_work_sync,
    destroy_workqueue,
    flush_work,
    flush_workqueue,
    queue_delayed_work,
    queue_work,
    schedule_work,
)
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    races,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vfsim.sim.machine import Machine


@clean
def work(m: Machine, c: Cell) -> None:
    """What came before it was queued, the work, and what comes after it was waited for."""

    def task() -> None:
        write(c)
        done = Work(lambda _: write(c), "writer")
        schedule_work(done)
        flush_work(done)
        write(c)

    m.spawn(task)


@races
def after_it_was_queued(m: Machine, c: Cell) -> None:
    """The task goes on writing while the work may run."""

    def task() -> None:
        done = Work(lambda _: write(c), "writer")
        schedule_work(done)
        write(c)
        flush_work(done)

    m.spawn(task)


@races
def work_that_is_not_waited_for(m: Machine, c: Cell) -> None:
    """The task only sleeps for a while."""

    def task() -> None:
        schedule_work(Work(lambda _: write(c), "writer"))
        msleep(10)
        write(c)

    m.spawn(task)


@clean
def flush_of_a_work_that_has_ended(m: Machine, c: Cell) -> None:
    """There is nothing to wait for any more: still it came before."""

    def task() -> None:
        done = Work(lambda _: write(c), "writer")
        schedule_work(done)
        msleep(10)
        flush_work(done)
        write(c)

    m.spawn(task)


@clean
def works_waited_for_by_queue(m: Machine, c: Cell) -> None:
    """All that a queue has done comes before the end of its flush, and of its life."""
    wait: Callable[[Any], None]
    for wait in (flush_workqueue, destroy_workqueue):
        for pause in (0, 10):
            m.spawn(_waits_for_queue, wait, pause)


def _waits_for_queue(wait: Callable[[Any], None], pause: int) -> None:
    d = Cell()
    wq = alloc_workqueue("cell.queue")
    queue_work(wq, Work(lambda _: write(d), "writer"))
    if pause:
        msleep(pause)
    wait(wq)
    write(d)


@clean
def canceled_work(m: Machine, c: Cell) -> None:
    """It has run, or never will."""

    def task() -> None:
        done = Work(lambda _: write(c), "writer")
        schedule_work(done)
        cancel_work_sync(done)
        write(c)

    m.spawn(task)


@clean
def delayed_work(m: Machine, c: Cell) -> None:
    """A timer in between changes nothing."""

    def task() -> None:
        write(c)
        done = DelayedWork(lambda _: write(c), "writer")
        queue_delayed_work(alloc_workqueue("cell.queue"), done, 1_000)
        msleep(10)
        flush_work(done)
        write(c)

    m.spawn(task)


@clean
def one_work_again_and_again(m: Machine, c: Cell) -> None:
    """A work never runs beside itself, whoever queues it and wherever."""
    wq = alloc_workqueue("cell.queue")
    again = Work(lambda _: write(c), "writer")
    both(m, lambda: queue_work(wq, again), lambda: queue_work(wq, again))


@clean
def found_pending(m: Machine, c: Cell) -> None:
    """Who finds it queued already may rely on it, too: it has not begun."""
    wq = alloc_workqueue("cell.queue")
    cells = [Cell(), Cell()]
    told = [0, 0]

    def look(_: Work) -> None:
        for d, said in zip(cells, told, strict=True):
            if said:
                write(d)

    work = Work(look, "looker")

    def task(i: int) -> None:
        write(cells[i])
        told[i] = 1
        queue_work(wq, work)

    m.spawn(task, 0)
    m.spawn(task, 1)


@races
def two_works(m: Machine, c: Cell) -> None:
    """Two works of a queue may run at once."""
    wq = alloc_workqueue("cell.queue")
    for name in ("one", "other"):
        m.spawn(queue_work, wq, Work(lambda _: write(c), name), name=f"queues {name}")


@clean
def two_works_in_order(m: Machine, c: Cell) -> None:
    """An ordered queue runs one at a time."""
    wq = alloc_ordered_workqueue("cell.queue")
    for name in ("one", "other"):
        m.spawn(queue_work, wq, Work(lambda _: write(c), name), name=f"queues {name}")


@clean
def call_on_another_cpu(m: Machine, c: Cell) -> None:
    """Before the call, there, and after it has been waited for."""

    def task() -> None:
        write(c)
        smp_call_function_single(1, write, c)
        write(c)

    m.spawn(task, cpu=0)


@clean
def call_on_each_cpu(m: Machine, c: Cell) -> None:
    """The caller comes after each of them, not only after the last."""
    cells = [Cell() for _ in m.cpus]

    def task() -> None:
        on_each_cpu(lambda: write(cells[K.cur.cpu.index]))
        for d in cells:
            write(d)

    m.spawn(task, cpu=0)


@races
def call_that_is_not_waited_for(m: Machine, c: Cell) -> None:
    """The caller goes on at once."""

    def task() -> None:
        smp_call_function_single(1, write, c, wait=False)
        write(c)
        msleep(1)

    m.spawn(task, cpu=0)
