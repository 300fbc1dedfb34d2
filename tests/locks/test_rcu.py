"""RCU: nothing is freed under a reader, and nothing waits for more than it must."""

from __future__ import annotations

from typing import Any

from tests.sim.helpers import Alternate, Notes, hangs, run, seeds, step, world
from vfsim.locks.rcu import (
    call_rcu,
    rcu_barrier,
    rcu_read,
    rcu_read_lock,
    rcu_read_lock_held,
    rcu_read_unlock,
    synchronize_rcu,
)
from vfsim.sim.cpu import in_interrupt
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.state import K


class Thing:
    """What a pointer points to."""

    def __init__(self) -> None:
        self.freed = False

    def free(self) -> None:
        assert in_interrupt()
        self.freed = True


def _readers_against_updaters(seed: int, careful: bool) -> int:
    """How many reads met a freed thing."""
    table = [Thing()]
    dead = 0

    def reader() -> None:
        nonlocal dead
        for _ in range(2):
            if careful:
                rcu_read_lock()
            thing = table[0]
            step(table)
            dead += thing.freed
            if careful:
                rcu_read_unlock()

    def caller() -> None:
        old, table[0] = table[0], Thing()
        call_rcu(old.free)
        step(table)

    def waiter() -> None:
        old, table[0] = table[0], Thing()
        synchronize_rcu()
        old.freed = True

    run(reader, caller, reader, waiter, seed=seed)
    return dead


def test_nothing_is_freed_under_a_reader() -> None:
    """Readers in a section never meet a freed thing; without the section some do."""
    assert sum(_readers_against_updaters(seed, True) for seed in seeds(200)) == 0
    assert sum(_readers_against_updaters(seed, False) for seed in seeds(200)) > 10


def test_every_callback_runs_once() -> None:
    """Callbacks run exactly once, in softirq context, whatever the schedule."""
    for seed in seeds(60):
        ran: list[int] = []

        def caller(ran: list[int] = ran) -> None:
            for i in range(3):
                with rcu_read():
                    call_rcu(ran.append, i)

        run(caller, caller, seed=seed)
        assert sorted(ran) == [0, 0, 1, 1, 2, 2]


def test_a_grace_period_waits_for_the_readers_of_its_moment_only() -> None:
    """A reader that began later does not hold it up; one that was there does."""
    order: list[str] = []

    def early() -> None:
        with rcu_read():
            for _ in range(3):
                step()
            order.append("early leaves")

    def updater() -> None:
        synchronize_rcu()
        order.append("grace period over")

    def late() -> None:
        with rcu_read():
            order.append("late reads")
            for _ in range(9):
                step()
            order.append("late leaves")

    with world(strategy=Alternate()) as machine:
        machine.spawn(early)
        machine.spawn(updater)
        machine.spawn(late)
        machine.run()
        assert machine.violations == []
    assert order.index("early leaves") < order.index("grace period over")
    assert order.index("late reads") < order.index("grace period over")
    assert order.index("grace period over") < order.index("late leaves")


def test_sections_nest() -> None:
    """Only leaving the outermost section counts."""
    order: list[str] = []

    def reader() -> None:
        rcu_read_lock()
        rcu_read_lock()
        assert K.cur.ctx.rcu == 2
        step()
        rcu_read_unlock()
        assert rcu_read_lock_held()
        step()
        step()
        order.append("reader")
        rcu_read_unlock()
        assert not rcu_read_lock_held()

    def updater() -> None:
        synchronize_rcu()
        order.append("updater")

    run(reader, updater, strategy=Alternate())
    assert order == ["reader", "updater"]


def test_without_readers_it_does_not_wait() -> None:
    """A grace period without readers is over at once."""

    def body() -> None:
        before = K.machine.now
        synchronize_rcu()
        assert K.machine.now == before

    run(body)


def test_barrier() -> None:
    """``rcu_barrier`` returns after the callbacks that were queued before it."""
    for seed in seeds(100):
        ran: list[str] = []

        def reader() -> None:
            with rcu_read():
                step()
                step()

        def caller(ran: list[str] = ran) -> None:
            call_rcu(ran.append, "a")
            call_rcu(ran.append, "b")
            rcu_barrier()
            assert sorted(ran[:2]) == ["a", "b"]
            rcu_barrier()

        run(reader, caller, reader, seed=seed)
        assert K.machine.__class__.__name__ == "_Nobody"


def test_sleeping_in_a_section_is_told() -> None:
    """A read section forbids sleeping, and so does waiting for a grace period inside one."""
    notes = Notes()

    def body() -> None:
        with rcu_read():
            msleep(1)
            rcu_barrier()

    run(body, judge=notes)
    assert notes.seen == ["sleeping", "sleeping"]

    def itself() -> None:
        with rcu_read():
            synchronize_rcu()

    assert hangs(itself)


def test_unbalanced_unlock_is_told() -> None:
    """An unlock without a lock, and a section that is never left."""
    notes = Notes()
    run(rcu_read_unlock, judge=notes)
    assert notes.seen == ["not held"]
    notes = Notes()
    run(rcu_read_lock, judge=notes)
    assert notes.seen == ["held at exit"]


def test_the_graph_knows_who_holds_up_a_grace_period() -> None:
    """What a task in ``synchronize_rcu`` waits for names a reader."""
    owners: list[Any] = []

    def reader() -> None:
        with rcu_read():
            step()
            step()
            (waiter,) = (t for t in K.machine.tasks if t.name == "updater")
            owners.append((waiter.waits_on.owner.name, repr(waiter.waits_on)))

    with world(strategy=Alternate()) as machine:
        machine.spawn(reader, name="reader")
        machine.spawn(synchronize_rcu, name="updater")
        machine.run()
        assert machine.violations == []
    assert owners == [("reader", "<grace period, waits for reader>")]


def test_handlers_are_readers_too() -> None:
    """A grace period waits for an interrupt handler that reads."""
    for seed in seeds(60):
        thing = Thing()
        seen: list[bool] = []

        def handler(thing: Thing = thing, seen: list[bool] = seen) -> None:
            with rcu_read():
                mine = thing
                if mine.freed:
                    return
                step(thing)
                seen.append(mine.freed)

        def updater(thing: Thing = thing, handler: Any = handler) -> None:
            K.machine.post_irq(2, handler)
            synchronize_rcu()
            thing.freed = True

        run(updater, yield_, seed=seed)
        assert True not in seen
