"""Small programs over locks that the tests of this folder explore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.shared import kernel_struct, shared

Check = Callable[[], None]


@kernel_struct
class Counter:
    """A number that everybody may see."""

    value: Annotated[int, shared] = 0


def lost_update(machine: Machine) -> Check:
    """Two tasks add one to a number without a lock."""
    counter = Counter()

    def add() -> None:
        counter.value = counter.value + 1

    machine.spawn(add, name="one")
    machine.spawn(add, name="two")

    def check() -> None:
        assert counter.raw_value == 2, f"two additions gave {counter.raw_value}"

    return check


def locked_update(machine: Machine) -> Check:
    """The same with a lock, in three tasks."""
    counter = Counter()
    lock = Mutex("counter lock")

    def add() -> None:
        with lock:
            counter.value = counter.value + 1

    for name in ("one", "two", "three"):
        machine.spawn(add, name=name)

    def check() -> None:
        assert counter.raw_value == 3

    return check


def dining(machine: Machine) -> None:
    """Three philosophers who all take the left fork first."""
    forks = [Mutex(f"fork {i}") for i in range(3)]

    def dine(left: Mutex, right: Mutex) -> None:
        with left:
            with right:
                pass

    for i in range(3):
        machine.spawn(dine, forks[i], forks[(i + 1) % 3], name=f"philosopher {i}")


def ordered(machine: Machine) -> Check:
    """A bug that needs one task to overtake four others: reorder_5 of the literature."""
    a, b = Counter(), Counter()
    seen: list[bool] = []

    def set_both() -> None:
        a.value = 1
        b.value = -1

    def look() -> None:
        first, second = a.value, b.value
        seen.append((first, second) in ((0, 0), (1, -1)))

    for i in range(4):
        machine.spawn(set_both, name=f"setter {i}")
    machine.spawn(look, name="looker")

    def check() -> None:
        assert all(seen), "one set, the other not"

    return check


def busy(machine: Machine) -> Check:
    """Everything at once: locks, sleeps, yields, a wait queue, a reader and writer."""
    lock, sem, queue = Mutex("busy"), RwSem("busy sem"), WaitQueue("busy queue")
    counter = Counter()
    done: list[str] = []

    def writer() -> None:
        with sem:
            counter.value = counter.value + 1
            msleep(1)
        with lock:
            done.append("writer")
            queue.wake_up_all()

    def reader() -> None:
        for _ in range(2):
            with sem.shared():
                assert counter.value in (0, 1)
            yield_()
        with lock:
            done.append("reader")
            queue.wake_up_all()

    def waiter() -> None:
        queue.wait_event(lambda: len(done) == 2)

    for work in (writer, reader, waiter):
        machine.spawn(work)

    def check() -> None:
        assert sorted(done) == ["reader", "writer"]

    return check


def endless(machine: Machine) -> None:
    """A task that waits for what nobody will do, by looking again and again."""
    counter = Counter()

    def spin() -> None:
        while counter.value == 0:
            pass

    machine.spawn(spin, name="spinner")
