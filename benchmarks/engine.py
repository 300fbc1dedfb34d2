"""The engine: switches, timers, tasks, points and shared fields."""

from __future__ import annotations

from time import process_time
from typing import Annotated, Any

from benchmarks.bare import Slot
from benchmarks.measure import Case, Timed
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.locks.mutex import Mutex
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import schedule_timeout, spin, yield_
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K
from vfsim.sim.task import Task

TASKS = 10


def inside(machine: Machine, *bodies: Any) -> float:
    """How long it takes to run those tasks."""
    for body in bodies:
        machine.spawn(body)
    start = process_time()
    machine.run()
    taken = process_time() - start
    machine.bury()
    return taken


def in_task(loop: Timed) -> Timed:
    """The same loop, timed inside a task."""

    def timed(n: int) -> float:
        taken: list[float] = []
        machine = Machine(max_steps=1 << 28)
        machine.spawn(lambda: taken.append(loop(n)))
        machine.run()
        machine.bury()
        return taken[0]

    return timed


def _yields(strategy: Any) -> Timed:
    def timed(n: int) -> float:
        def body() -> None:
            for _ in range(n // TASKS):
                yield_()

        return inside(Machine(strategy=strategy(), max_steps=1 << 28), *[body] * TASKS)

    return timed


def sleep(n: int) -> float:
    """Ten tasks sleep one nanosecond again and again."""

    def body() -> None:
        for _ in range(n // TASKS):
            schedule_timeout(1)

    return inside(Machine(max_steps=1 << 28), *[body] * TASKS)


def hand_over(n: int) -> float:
    """Two tasks pass a spinlock to and fro: each release wakes the other, each acquire waits."""
    lock = SpinLock("benchmark")

    def first() -> None:
        lock.lock()
        K.machine.spawn(second, K.cur)
        spin(lock)  # until the second is in line
        lock.unlock()
        take_turns()

    def second(other: Task) -> None:
        K.machine.wake(other)
        take_turns()

    def take_turns() -> None:
        for _ in range(n // 2):
            lock.lock()
            lock.unlock()

    return inside(Machine(max_steps=1 << 28), first)


def mutex_contention(n: int) -> float:
    """Two tasks want a mutex all the time: every other release wakes a waiter that is overtaken."""
    mutex = Mutex("benchmark")

    def body() -> None:
        for _ in range(n // 2):
            mutex.lock()
            yield_()
            mutex.unlock()

    return inside(Machine(max_steps=1 << 28), body, body)


def spawn(n: int) -> float:
    """A task starts others, which do nothing."""

    def body() -> None:
        spawn = K.machine.spawn
        for _ in range(n // TASKS):
            for _ in range(TASKS):
                spawn(_nothing)
            yield_()

    return inside(Machine(max_steps=1 << 28), body)


def _nothing() -> None:
    pass


class Pointed(Slot):
    """A slot whose store is a scheduling point."""

    __slots__ = ()

    def store(self) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("store", self)
        self.value = True


def point(n: int) -> float:
    """A method call with a point that is not taken."""
    slot = Pointed()
    start = process_time()
    for _ in range(n):
        slot.store()
    return process_time() - start


@kernel_struct
class SharedFields:
    """A kernel structure with a shared field."""

    i_size: Annotated[int, shared] = 0


def shared_read(n: int) -> float:
    """A read of a shared field: a point."""
    inode = SharedFields()
    start = process_time()
    for _ in range(n):
        inode.i_size  # noqa: B018
    return process_time() - start


CASES = [
    Case("context switch, round-robin", "S", 1.8, _yields(lambda: None)),
    Case("context switch, random", "S", 2.5, _yields(lambda: RandomWalk(1))),
    Case("context switch, PCT", "S", 1.8, _yields(lambda: PCT(1, 20_000))),
    Case("context switch, POS", "S", None, _yields(lambda: POS(1))),
    Case("timer sleep", "S", 3.5, sleep),
    Case("contended hand-over", "S", 3.5, hand_over),
    Case("contended mutex, with a yield inside", "S", None, mutex_contention),
    Case("spawn and exit", "S", 5.0, spawn, count=5_000),
    Case("point not taken, added", "M", 1.5, in_task(point), less=True),
    Case("shared field read", "F", None, in_task(shared_read)),
]
