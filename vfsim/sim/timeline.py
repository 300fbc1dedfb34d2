"""Time: what is due, and how it passes.

Time passes when nobody can run, or earlier if a strategy picks the clock.  Two kinds of things are
due: SimPy's events (device models), and those on the machine's own ``heap``, each as (when, number,
what): a sleeping task, or a `Timer`.  Nothing is ever taken out of the heap before it is due: an
entry counts only if its number is still the ``timer`` of its task or timer.

A handler of time runs on whatever stack is idle, while no task does: it may wake tasks and post
interrupts, and never sleep.
"""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING, Any

from vfsim.sim.state import INF, K
from vfsim.sim.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine


class Timer:
    """A pending call in softirq context.  ``cancel()`` takes it back."""

    __slots__ = ("args", "fn", "machine", "timer")

    def __init__(self, machine: Machine, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.machine = machine
        self.fn = fn
        self.args = args
        self.timer = 0

    @property
    def pending(self) -> bool:
        """Never sleeps.  Whether it is still to come."""
        return self.timer != 0

    def cancel(self) -> bool:
        """Never sleeps.  Take it back; returns whether it was pending (Linux: ``del_timer``)."""
        pending, self.timer = self.timer != 0, 0
        self.machine.seq += 1  # what is due next has changed: who watches the number sees it
        return pending

    def expire(self) -> None:
        """The timer is due: raise the softirq that calls the function."""
        self.timer = 0
        self.machine.raise_softirq(self.fn, *self.args, name="timer")


def something_due(machine: Machine) -> bool:
    """Whether time has anything to pass to; forgets timers that were cancelled."""
    heap = machine.heap
    while heap and heap[0][2].timer != heap[0][1]:
        heappop(heap)
    return bool(heap or machine.events)


def tick(machine: Machine) -> bool:
    """Let time pass to the next event and handle it.  False if nothing is left to wait for."""
    if not machine.alive or machine.dead:
        return False
    heap = machine.heap
    events = machine.events
    if events and (not something_due(machine) or not heap or events[0][0] <= heap[0][0]):
        _in_clock(machine, machine.env.step)
    elif heap:
        due, seq, what = heappop(heap)
        if what.timer != seq:
            return tick(machine)  # it was taken back
        if due > machine.env._now:
            machine.env.set_now(due)
        if isinstance(what, Task):
            machine.wake(what)
        else:
            _in_clock(machine, what.expire)
    else:
        return False
    machine.ticks += 1
    if machine.ticks > machine.last_tick:
        machine.judge.no_progress(machine, machine.clock)
        machine.stopped = True
    return True


def _in_clock(machine: Machine, handle: Callable[[], None]) -> None:
    """Handle an event of the clock: no task runs meanwhile, and no points are counted."""
    cur = K.cur
    left = K.left
    K.cur = machine.clock
    K.left = INF
    try:
        handle()
    finally:
        K.cur = cur
        K.left = left
