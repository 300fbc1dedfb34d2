"""A reference count and a spinlock that are changed as one: what dentries live by.

While the lock is free the count changes in one atomic step.  While somebody holds it, the count is
theirs: every change waits for the lock, and `put_return` gives up at once.  A dead lockref
(`mark_dead`) never comes back to life.

The typical sequence of a last put::

    if not ref.put_or_lock():        # False: the count is 1 and the lock is now held
        ref.count = 0 ...            # decide what becomes of the object, then ref.lock.unlock()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.spinlock import SpinLock
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task

DEAD = -128
"""The count of a dead lockref, far enough below zero that stray changes do not revive it."""


class LockRef:
    """A counted reference with its lock (Linux: ``struct lockref``).

    Args:
        name: the lock class of ``lock``.
        count: the first value of ``count``.
        tried: somebody does a trylock on ``lock``, so its release is a scheduling point.

    Every operation names ``lock`` as the object of its scheduling point: it conflicts with whoever
    takes the lock.
    """

    __slots__ = ("count", "lock")

    def __init__(self, name: str, count: int = 1, *, tried: bool = False) -> None:
        self.lock = SpinLock(name, tried=tried)
        self.count = count

    def get(self) -> None:
        """Never sleeps.  One more reference; the caller has one already (``lockref_get``)."""
        if self._begin("lockref_get"):
            self._up()
        else:
            self.lock.lock()
            self._up()
            self.lock.unlock()

    def get_not_zero(self) -> bool:
        """Never sleeps.  One more reference unless there is none; returns whether it was taken."""
        return self._get_above(0)

    def get_not_dead(self) -> bool:
        """Never sleeps.  One more reference unless it is dead; returns whether it was taken."""
        return self._get_above(-1)

    def put_return(self) -> int:
        """Never sleeps.  One reference less; returns what is left.

        -1, and nothing done, if the lock is held or the count is not above zero.
        """
        if not self._begin("lockref_put") or self.count <= 0:
            return -1
        self.count -= 1
        return self.count

    def put_or_lock(self) -> bool:
        """Never sleeps.  One reference less if others are left (True).

        Else take the lock and leave the last one to the caller (False).
        """
        if self._begin("lockref_put") and self.count > 1:
            self.count -= 1
            return True
        self.lock.lock()
        if self.count > 1:
            self.count -= 1
            self.lock.unlock()
            return True
        return False

    def mark_dead(self) -> None:
        """Never sleeps.  From now on `get_not_dead` fails; the caller holds ``lock``."""
        if self.lock.owner is not K.cur:
            K.machine.judge.not_held(K.cur, self.lock)
        self.count = DEAD

    def _begin(self, kind: str) -> bool:
        """The scheduling point; whether the lock is free, so that the count may change at once."""
        K.left -= 1
        if not K.left:
            K.machine.point(kind, self.lock)
        return self.lock.owner is None

    def _get_above(self, floor: int) -> bool:
        if self._begin("lockref_get"):
            return self._up_above(floor)
        self.lock.lock()
        taken = self._up_above(floor)
        self.lock.unlock()
        return taken

    def _up_above(self, floor: int) -> bool:
        if self.count <= floor:
            return False
        self.count += 1
        return True

    def _up(self) -> None:
        if self.count < 0:
            K.machine.judge.corrupt(
                K.cur, self, f"a reference to a dead object was taken: {self!r}"
            )
        self.count += 1

    @property
    def owner(self) -> Task | None:
        """Who holds ``lock``."""
        return self.lock.owner

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody holds ``lock``."""
        return self.lock.owner is not None

    def statistics(self) -> dict[str, Any]:
        """The count, and those of the lock."""
        return {"count": self.count, **self.lock.statistics()}

    def __repr__(self) -> str:
        state = "dead" if self.count < 0 else f"{self.count} references"
        return f"<LockRef {self.lock.name}, {state}, {self.lock!r}>"
