"""The union of a campaign's lock orders: cycles that no single schedule showed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import permutations
from typing import Any

from tests.checks.worlds import after, world
from vfsim.checks.union import Union, union_of
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock

Fn = Callable[[], Any]


def taking(*locks: Any) -> Fn:
    """A task that takes locks one inside the other and lets go again."""

    def task() -> None:
        for lock in locks:
            lock.lock()
        for lock in reversed(locks):
            lock.unlock()

    return task


def campaign(*runs: Fn | tuple[Fn, ...], start: int = 0) -> Union:
    """What worlds show together, each with the tasks of one entry."""
    union = Union()
    for number, tasks in enumerate(runs, start):
        with world(*(tasks if isinstance(tasks, tuple) else (tasks,))) as machine:
            union.add(number, machine.judge.lockdep)  # type: ignore[attr-defined]
    return union


A, B, C = Mutex("A"), Mutex("B"), Mutex("C")


def test_two_schedules_against_each_other() -> None:
    """Each is fine by itself; together they are a cycle, told with one run for each edge."""
    union = campaign(taking(A, B), taking(C), taking(B, A), taking(A, B))
    (cycle,) = union.cycles()
    assert str(cycle) == "union cycle: B→A in schedule 2, A→B in schedule 0"
    assert cycle.runs == (2, 0)
    assert cycle.lines()[0] == "B→A in schedule 2: task in taking.<locals>.task()"


def test_a_longer_way_round() -> None:
    """Three schedules, three edges."""
    union = campaign(taking(A, B), taking(B, C), taking(C, A))
    assert [sorted(cycle.runs) for cycle in union.cycles()] == [[0, 1, 2]]


def test_one_order_is_fine() -> None:
    """Schedules that agree are no cycle, and neither are trylocks against the order."""

    def tries() -> None:
        with B:
            assert A.trylock()
            A.unlock()

    assert campaign(taking(A, B), taking(B, C), taking(A, C), tries).cycles() == []


def test_what_a_world_told_is_not_told_again() -> None:
    """A cycle that is a violation of one world is that world's."""
    both = (taking(A, B), taking(B, A))
    assert campaign(both).cycles() == []
    assert campaign(taking(B, A), both, taking(A, B)).cycles() == []
    other = campaign(both, taking(B, C), taking(C, B)).cycles()
    assert [sorted(cycle.runs) for cycle in other] == [[1, 2]]


def test_readers_that_get_along_are_no_cycle() -> None:
    """As in one world: recursive readers do not stop each other, a semaphore's readers do."""

    def reading(lock: Any, inner: Any, outside: bool) -> Fn:
        def task() -> None:
            if outside:
                with lock.shared(), inner:
                    pass
            else:
                with inner, lock.shared():
                    pass

        return task

    def bh(fn: Fn) -> Fn:
        from vfsim.sim.cpu import local_bh_disable, local_bh_enable

        def task() -> None:
            local_bh_disable()
            fn()
            local_bh_enable()

        return task

    rw, s = RwLock("RW"), SpinLock("S")
    assert campaign(bh(reading(rw, s, True)), bh(reading(rw, s, False))).cycles() == []
    assert len(campaign(reading(rw, s, True), reading(rw, s, False)).cycles()) == 1
    sem, m = RwSem("SEM"), Mutex("M")
    assert len(campaign(reading(sem, m, True), reading(sem, m, False)).cycles()) == 1


def test_processes_together_say_what_one_says() -> None:
    """However the runs are dealt out, and sent, the union is the same."""
    runs: list[Fn] = [taking(A, B), taking(B, C), taking(A, C), taking(C, B), taking(B, A)]
    alone = campaign(*runs)
    parts = [campaign(*runs[:2]), campaign(*runs[2:3], start=2), campaign(*runs[3:], start=3)]
    for order in permutations(parts):
        whole = union_of(pickle.loads(pickle.dumps(part)) for part in order)
        assert whole.edges() == alone.edges()
        assert whole.cycles() == alone.cycles()
    assert len(alone.cycles()) == 2


def test_runs_may_come_in_any_order() -> None:
    """The first run of an edge is the one with the lowest number."""
    union = Union()
    for number in (5, 3, 4):
        with world(taking(A, B)) as machine:
            union.add(number, machine.judge.lockdep)  # type: ignore[attr-defined]
    assert [edge.run for edge in union.edges()] == [3]


# -- interrupts ------------------------------------------------------------------------------------


def test_an_interrupt_in_one_schedule_and_a_careless_holder_in_another() -> None:
    """The use, what it leads to and the hold are told with a run each."""
    x, y = SpinLock("X"), SpinLock("Y")
    handler = after(1000, taking(x))

    def inside() -> None:
        x.lock_irq()
        y.lock()
        y.unlock()
        x.unlock_irq()

    union = campaign(handler, inside, taking(y))
    (found,) = union.inversions()
    assert str(found) == (
        "union inversion: X taken in a hardirq in schedule 0, X→Y in schedule 1, "
        "Y held with interrupts on in schedule 2"
    )
    assert found.runs == (0, 1, 2)
    assert len(found.lines()) == 3
    assert union.cycles() == []
    assert campaign(handler, inside).inversions() == []
    whole = union_of(
        pickle.loads(pickle.dumps(campaign(f, start=n)))
        for n, f in enumerate((handler, inside, taking(y)))
    )
    assert whole.inversions() == [found]


def test_an_inversion_of_one_world_is_that_worlds() -> None:
    """What a world reported is left out; recursive readers on both sides are fine."""
    x = SpinLock("X")
    handler = after(1000, taking(x))
    assert len(campaign(handler, taking(x)).inversions()) == 1
    assert campaign((handler, taking(x)), handler, taking(x)).inversions() == []
    rw = RwLock("RW")

    def reads() -> None:
        with rw.shared():
            pass

    assert campaign(after(1000, reads), reads).inversions() == []
    assert len(campaign(after(1000, reads), taking(rw)).inversions()) == 1
