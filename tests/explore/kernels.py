"""Programs of the literature that fail in some schedules, to be shrunk.

Names and shapes as in SCTBench (Thomson, Donaldson and Betts, PPoPP 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine
from vfsim.sim.shared import kernel_struct, shared

Check = Callable[[], None]
Kernel = Callable[[Machine], Check | None]


@kernel_struct
class Cell:
    """A number that everybody may see."""

    name: str
    value: Annotated[int, shared] = 0


def reorder(setters: int, noisy: int = 0) -> Kernel:
    """Setters write a and then b; a looker must not see one without the other."""

    def reordered(machine: Machine) -> Check:
        a, b = Cell("a"), Cell("b")
        seen: list[tuple[int, int]] = []

        def set_both() -> None:
            a.value = 1
            b.value = -1

        def look() -> None:
            seen.append((a.value, b.value))

        _noise(machine, noisy)
        for i in range(setters - 1):
            machine.spawn(set_both, name=f"setter {i}")
        machine.spawn(look, name="looker")

        def check() -> None:
            assert seen[0] in ((0, 0), (1, -1)), "one set, the other not"

        return check

    return reordered


def wronglock(tasks: int) -> Kernel:
    """One task adds under a lock, the others under another one."""

    def wrongly_locked(machine: Machine) -> Check:
        cell = Cell("cell")
        mine, theirs = Mutex("mine"), Mutex("theirs")

        def add(lock: Mutex) -> None:
            with lock:
                before = cell.value
                cell.value = before + 1
                assert cell.raw_value == before + 1, "somebody else wrote"

        machine.spawn(add, mine, name="stranger")
        for i in range(tasks - 1):
            machine.spawn(add, theirs, name=f"adder {i}")

        def check() -> None:
            assert cell.raw_value == tasks, "an addition was lost"

        return check

    return wrongly_locked


def bluetooth(machine: Machine) -> None:
    """A driver that stops between another's look at the flag and its count of itself."""
    stopping, stopped, pending = Cell("stopping"), Cell("stopped"), Cell("pending")
    pending.raw_value = 1

    def put() -> None:
        left = pending.value - 1
        pending.value = left
        if left == 0:
            stopped.value = 1

    def work() -> None:
        if not stopping.value:
            pending.value = pending.value + 1
            assert not stopped.value, "at work in a driver that has stopped"
            put()

    def stop() -> None:
        stopping.value = 1
        put()

    machine.spawn(work)
    machine.spawn(stop)


def philosophers(count: int) -> Kernel:
    """Everybody takes the left fork first: only if all have one they starve."""

    def dining(machine: Machine) -> None:
        forks = [Mutex(f"fork {i}") for i in range(count)]

        def dine(left: Mutex, right: Mutex) -> None:
            with left:
                with right:
                    pass

        for i in range(count):
            machine.spawn(dine, forks[i], forks[(i + 1) % count], name=f"philosopher {i}")

    return dining


def lost_update(noisy: int) -> Kernel:
    """Two additions without a lock, among others who do something else."""

    def losing(machine: Machine) -> Check:
        cell = Cell("cell")

        def add() -> None:
            cell.value = cell.value + 1

        _noise(machine, noisy)
        machine.spawn(add, name="one")
        machine.spawn(add, name="two")

        def check() -> None:
            assert cell.raw_value == 2, "an addition was lost"

        return check

    return losing


def seen_update(noisy: int) -> Kernel:
    """The same, found by one of the two themselves."""

    def seeing(machine: Machine) -> None:
        cell = Cell("cell")

        def add() -> None:
            before = cell.value
            cell.value = before + 1
            assert cell.value == before + 1, "somebody else wrote"

        _noise(machine, noisy)
        machine.spawn(add, name="one")
        machine.spawn(add, name="two")

    return seeing


def _noise(machine: Machine, tasks: int) -> None:
    """Tasks that do ten things nobody else sees."""

    def fidget() -> None:
        own = Cell("own")
        for i in range(10):
            own.value = i

    for i in range(tasks):
        machine.spawn(fidget, name=f"noise {i}")


KERNELS: dict[str, Kernel] = {
    "reorder_5": reorder(5),
    "reorder_10": reorder(10),
    "wronglock_8": wronglock(8),
    "bluetooth": bluetooth,
    "philo5": philosophers(5),
    "lost update + noise": lost_update(4),
    "seen update + noise": seen_update(4),
    "reorder_3 + noise": reorder(3, noisy=4),
}
