"""Wait queues: sleep until a condition holds.

The typical sequence::

    waiter:  queue.wait_event(lambda: page.uptodate, owner=reader)
    waker:   page.uptodate = True; queue.wake_up()

`wait_event` first puts the task on the queue, then looks at the condition, then sleeps: a wake-up
between the look and the sleep is not lost, because it takes the waiter off the queue and the waiter
notices.  `sleep_on` does it in the wrong order, as Linux's old ``sleep_on`` did, and exists to show
why it was removed.

A waiter tells the wait-for graph what it waits for: its condition, and who must make it true
(``owner``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.sim.scheduler import block
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

    Who = Task | Callable[[], Task | None] | None
    """Who must make a condition true: a task, a function that tells, or nobody knows."""


@attrs.define(eq=False)
class Waiter:
    """One task on a wait queue.

    Attributes:
        queue, task: where and who.  condition: what it waits for, or None.
        who: a task, or a function that returns the task (or None) that must make the condition
            true.
        idle: a kernel thread's normal sleep, which is no hang.
        exclusive: `WaitQueue.wake_up` wakes only so many of these.
        woken: it was taken off the queue by a wake-up.
    """

    queue: WaitQueue
    task: Task
    condition: Callable[[], bool] | None
    who: Who
    idle: bool = False
    exclusive: bool = False
    woken: bool = False

    @property
    def owner(self) -> Task | None:
        """Who must wake this waiter, if known."""
        return self.who() if callable(self.who) else self.who

    def __repr__(self) -> str:
        return repr(self.queue)

    def describe(self, trace: Any) -> str:
        return str(trace.label(self.queue))


class WaitQueue:
    """A queue of sleeping tasks (Linux: ``wait_queue_head_t``).

    Args:
        name: what is waited for here, for reports.
    """

    __slots__ = ("missed", "name", "waiters")
    owner = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiters: list[Waiter] = []
        self.missed: Task | None = None  # who last woke nobody, for the report of a hang

    def wait_event(
        self,
        condition: Callable[[], bool],
        owner: Who = None,
        idle: bool = False,
        exclusive: bool = False,
    ) -> None:
        """Sleeps.  Until ``condition()`` is true; it is looked at now and after each wake-up.

        Args:
            condition: called by the waiting task.
            owner: who must make it true, for the report of a hang.
            idle: this is a kernel thread's normal sleep.
            exclusive: one of the waiters of which `wake_up` wakes only one.
        """
        me = self._begin()
        while not condition():
            waiter = Waiter(self, me, condition, owner, idle, exclusive)
            self.waiters.append(waiter)
            try:
                if condition():
                    return
                if not waiter.woken:
                    block(waiter)
            finally:
                self.leave(waiter)

    def wait_event_timeout(
        self, condition: Callable[[], bool], ns: int, owner: Who = None, exclusive: bool = False
    ) -> bool:
        """Sleeps.  As `wait_event`, for at most ``ns`` ns; returns whether the condition holds."""
        me = self._begin()
        machine = K.machine
        end = machine.now + ns
        while not condition():
            if machine.now >= end:
                return False
            waiter = Waiter(self, me, condition, owner, False, exclusive)
            self.waiters.append(waiter)
            try:
                if condition():
                    return True
                if not waiter.woken:
                    me.timer = machine.at(end, me)
                    block(waiter)
            finally:
                self.leave(waiter)
        return True

    def sleep_on(self, owner: Who = None) -> None:
        """Sleeps.  Until the next wake-up.  Racy by design: a wake-up just before it is lost."""
        waiter = Waiter(self, self._begin(), None, owner)
        self.waiters.append(waiter)
        block(waiter)
        self.leave(waiter)

    def _begin(self) -> Task:
        """What every wait begins with: it might sleep, and it is a scheduling point."""
        me = K.cur
        if me.ctx.nosleep:
            K.machine.judge.sleeping(me, self)
        K.left -= 1
        if not K.left:
            K.machine.point("wait", self)
        return me

    def leave(self, waiter: Waiter) -> None:
        """Never sleeps.  Take a waiter off the queue, if it still is on it."""
        if not waiter.woken:
            waiter.woken = True
            self.waiters.remove(waiter)

    def wake_up(self, nr: int = 1) -> None:
        """Never sleeps.  Wake every non-exclusive waiter and up to ``nr`` exclusive ones."""
        K.left -= 1
        if not K.left:
            K.machine.point("wake_up", self)
        if self.waiters:
            self.wake_now(nr)
        else:
            self.missed = K.cur

    def wake_up_all(self) -> None:
        """Never sleeps.  Wake every waiter."""
        K.left -= 1
        if not K.left:
            K.machine.point("wake_up", self)
        if self.waiters:
            self.wake_now(len(self.waiters))
        else:
            self.missed = K.cur

    def wake_now(self, nr: int) -> None:
        """Never sleeps.  As `wake_up`, for primitives that had their scheduling point."""
        machine = K.machine
        waiters = self.waiters
        exclusive = [w for w in waiters if w.exclusive]
        woken = [w for w in waiters if not w.exclusive]
        while exclusive and nr > 0:
            woken.append(exclusive.pop(machine.choose("waiter", len(exclusive))))
            nr -= 1
        self.waiters = exclusive
        for waiter in woken:
            waiter.woken = True
            if waiter.task.waits_on is waiter:  # else it is on its way, or looks at its condition
                machine.wake(waiter.task)

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody waits."""
        return bool(self.waiters)

    def statistics(self) -> dict[str, int]:
        """How many wait."""
        return {"waiting": len(self.waiters)}

    def __repr__(self) -> str:
        return f"<{self.name}, {len(self.waiters)} waiting>"
