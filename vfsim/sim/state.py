"""The four words that every hot path reads: who runs, how long yet, in which world, traced or not.

They live on one slotted object ``K`` because reading ``K.cur`` is the cheapest way of asking "who
am I?" that can be shared between modules.  Exactly one world runs at a time in a process, on one OS
thread.

``K.left`` is the countdown of scheduling points: each point subtracts one, and only the point that
reaches zero calls the machine.  A strategy says how many points may pass until it wants to be asked
again, so a point that is not taken costs one decrement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task
    from vfsim.sim.trace import Trace

INF = 1 << 29
"""A countdown that no run reaches; it fits one digit of a Python integer: cheap to decrement."""


class _Nobody:
    """Stands in ``K.cur`` while no task runs, so that misuse gets a sentence."""

    __slots__ = ()
    epoch = None  # what nobody does is ordered with everything

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(
            "this can only be called inside a simulated task: start one with "
            "kernel.process(function) or machine.spawn(function) and call run()"
        )

    def __repr__(self) -> str:
        return "nobody"

    def __bool__(self) -> bool:
        return False


class _State:
    __slots__ = ("cur", "left", "machine", "trace")

    cur: Task
    left: int
    machine: Machine
    trace: Trace | None


NOBODY: Task = _Nobody()  # type: ignore[assignment]
K = _State()
K.cur = NOBODY
K.left = INF
K.machine = NOBODY  # type: ignore[assignment]
K.trace = None


def current() -> Task:
    """Never sleeps.  The running task: Linux's ``current``.

    Raises:
        TypeError: outside a simulated task.
    """
    task = K.cur
    if task is NOBODY:
        raise TypeError(
            "there is no current task: this can only be called inside one "
            "(kernel.process(function))"
        )
    return task
