"""The mutex: one owner, who may sleep; waiters sleep too.

States: free (``owner`` None) → owned → free.  Not recursive.  As in Linux v4.10 a release wakes one
waiter, which must take the lock itself and may be overtaken; which waiter is a choice.  One that
was overtaken goes to the head of the queue, and the next release hands it the lock: nobody starves.

Invariant: if a task is queued and not yet woken, somebody owns the mutex or a woken task is on its
way to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import OwnedLock
from vfsim.sim.context import LockClass, enter, nested, nested_under, release
from vfsim.sim.scheduler import block
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


def overtaken(waiters: list[Task], lock: object) -> int:
    """Never sleeps.  How many at the head of a queue were overtaken once, and are served next."""
    n = 0
    while n < len(waiters) and waiters[n].woken is lock:
        n += 1
    return n


class Mutex(OwnedLock):
    """A sleeping lock with one owner (Linux: ``struct mutex``).

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock), so its release is a scheduling point.

    Attributes:
        of: what it belongs to, or a weak reference to that: for the order of instances, where there
            is one.
    """

    __slots__ = ("of",)
    title = "Mutex"
    of: Any

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, "mutex", sleeps=True).key
        self.owner: Task | None = None
        self.waiters: list[Task] | None = None
        if tried:
            self.__class__ = TriedMutex

    def lock(self, subclass: int = 0) -> None:
        """Sleeps.  Take the mutex; ``subclass`` (0 to 7) marks legal nesting inside one class."""
        K.left -= 1
        if not K.left:
            K.machine.point("lock", self)
        t = K.cur
        key = nested(self.key, subclass) if subclass else self.key
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if self.owner is not None:
            self._wait(t)
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)

    def lock_nest_lock(self, outer: Any) -> None:
        """Sleeps.  Take one of several locks of this class under ``outer``, which is held.

        Linux: ``mutex_lock_nest_lock``.
        """
        K.left -= 1
        if not K.left:
            K.machine.point("lock", self)
        t = K.cur
        key = self.key | nested_under(t, self, outer)
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if self.owner is not None:
            self._wait(t)
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)

    def unlock(self) -> None:
        """Never sleeps.  Let go, and wake one waiter."""
        t = K.cur
        h = t.held
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        self.owner = None
        if self.waiters is not None:
            self._wake()

    def _wait(self, t: Task) -> None:
        """Sleep until it is free or handed over; who was overtaken once is handed it next time."""
        self._queue().append(t)
        block(self)
        while self.owner is not None and self.owner is not t:
            line = self._queue()
            t.woken = self
            line.insert(overtaken(line, self), t)
            block(self)
        t.woken = None

    def _wake(self) -> None:
        machine = K.machine
        waiters = self.waiters
        if machine.trace is not None:
            machine.trace.note(K.cur, "unlock", self)
        if not waiters:
            if machine.trace is None:
                self.waiters = None
        elif waiters[0].woken is self:
            self.owner = waiters.pop(0)
            machine.wake(self.owner)
        else:
            n = len(waiters)
            machine.wake(waiters.pop(machine.choose("waiter", n) if n > 1 else 0))

    __enter__ = lock

    def __exit__(self, *exc: object) -> None:
        self.unlock()


class TriedMutex(Mutex):
    """A mutex whose release is a scheduling point."""

    __slots__ = ()

    def unlock(self) -> None:
        """Never sleeps.  Let go, and wake one waiter."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlock", self)
        Mutex.unlock(self)
