"""What locks have in common besides taking and letting go: who has them, who waits, how they look.

`OwnedLock`   one owner or none
`SharedLock`  many ``readers`` or one owner, the writer

``waiters`` is None while nobody stands in line, so that a release need look at one field only; a
traced lock keeps a line even if it is empty, so that each release takes the slow path and is noted.

Taking a lock that may have to wait, and letting go, is written out in each lock: a call costs more
than it explains.  What is here runs when somebody waits, when somebody asks, or cannot wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from vfsim.sim.context import CLASS_SHIFT, SHARED, TRY, LockClass, enter
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class Classed:
    """What has a lock class, and is called by that one's name."""

    __slots__ = ()
    key: int

    @property
    def name(self) -> str:
        """That of its lock class."""
        return LockClass.all[self.key >> CLASS_SHIFT].name


class OwnedLock(Classed):
    """A lock with one owner or none.

    Attributes:
        title: what reports call its kind.  waiting: what they say of those in line.
        owner: the task that has it.
        waiters: those in line, first come first, or None (see above).
    """

    __slots__ = ("key", "owner", "waiters")
    is_pin = False
    title: ClassVar[str]
    waiting: ClassVar[str] = "waiting"
    owner: Task | None
    waiters: list[Any] | None

    def trylock(self) -> bool:
        """Never sleeps.  Take the lock if it is free; returns whether it did."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if self.owner is not None:
            return False
        t = K.cur
        key = self.key | TRY
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        self.owner = t
        t.held = (self, t.held)
        return True

    def watch(self) -> None:
        """Never sleeps.  Make the next release take the slow path, where a trace notes it."""
        self._queue()

    def _queue(self) -> list[Any]:
        """The line of waiters, to stand in."""
        if self.waiters is None:
            self.waiters = []
        return self.waiters

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody has it."""
        return self.owner is not None

    def statistics(self) -> dict[str, Any]:
        """The owner's name and how many wait."""
        return {"owner": self.owner and self.owner.name, "waiting": len(self.waiters or ())}

    def _state(self) -> str:
        return "free" if self.owner is None else f"held by {self.owner.name}"

    def __repr__(self) -> str:
        waiting = len(self.waiters or ())
        return f"<{self.title} {self.name}, {self._state()}, {waiting} {self.waiting}>"


NONE_YET: dict[Task, int] = {}
"""The readers of a lock that never had one: most of a big cache, so they share it."""


class SharedLock(OwnedLock):
    """A lock with many readers or one owner, who writes.

    Attributes:
        readers: the holds of each task that reads.
        waiters: those in line, each with whether to read.
    """

    __slots__ = ("readers",)
    readers: dict[Task, int]
    waiters: list[tuple[Task, bool]] | None

    def trylock(self) -> bool:
        """Never sleeps.  Take it alone if it is free; returns whether it did."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if self.owner is not None or self.readers:
            return False
        t = K.cur
        self._got(t, self.key | TRY)
        self.owner = t
        return True

    def trylock_shared(self) -> bool:
        """Never sleeps.  Take it for reading if nobody writes or waits; returns whether it did."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if self.owner is not None or self.waiters:
            return False
        t = K.cur
        self._got(t, self.key | SHARED | TRY)
        if self.readers:
            self.readers[t] = self.readers.get(t, 0) + 1
        else:
            self._first_reader(t)
        return True

    def _first_reader(self, t: Task) -> None:
        if self.readers is NONE_YET:
            self.readers = {}
        self.readers[t] = 1

    def _got(self, t: Task, key: int) -> None:
        """Note for the order rules, and on the held stack, that a task has it."""
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        t.held = (self, t.held)

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody holds it, in any mode."""
        return self.owner is not None or bool(self.readers)

    def statistics(self) -> dict[str, Any]:
        """The writer's name, the readers' names and how many wait."""
        return {
            "owner": self.owner and self.owner.name,
            "readers": [t.name for t in self.readers],
            "waiting": len(self.waiters or ()),
        }

    def _state(self) -> str:
        if self.owner is not None:
            return f"written by {self.owner.name}"
        return "read by " + ", ".join(t.name for t in self.readers) if self.readers else "free"


class Readable(Protocol):
    """A semaphore that can be read."""

    def down_read(self) -> None: ...
    def up_read(self) -> None: ...


class ReadSide:
    """The read side of a semaphore as a context manager."""

    __slots__ = ("sem",)

    def __init__(self, sem: Readable) -> None:
        self.sem = sem

    def __enter__(self) -> None:
        self.sem.down_read()

    def __exit__(self, *exc: object) -> None:
        self.sem.up_read()
