"""The reader/writer semaphore: many readers or one writer, all of whom may sleep.

States: free → read (``readers`` counts holds by task) or written (``owner``) → free;
`downgrade_write` turns the second into the first.  Not recursive: a reader that comes while
somebody is queued waits behind, so reading twice can deadlock, as in Linux.  The last release wakes
a writer or all readers; which is a choice.  A woken one may be overtaken, but only once: then the
next release hands it the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import NONE_YET, ReadSide, SharedLock
from vfsim.locks.mutex import overtaken
from vfsim.sim.context import SHARED, LockClass, change_mode, enter, nested, release
from vfsim.sim.scheduler import block
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task

HANDED = "handed over"
"""In a task's ``woken``: it was made a reader while it slept."""


class RwSem(SharedLock):
    """A sleeping reader/writer lock (Linux: ``struct rw_semaphore``).

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock), so its release is a scheduling point.

    Attributes:
        of: what it belongs to, or a weak reference to that: for the order of instances, where there
            is one.

    ``lock``, ``unlock`` and ``trylock`` are the write mode, as is ``with sem:``; ``with
    sem.shared():`` reads.
    """

    __slots__ = ("of",)
    title = "RwSem"
    of: Any

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, "rwsem", sleeps=True).key
        self.owner: Task | None = None
        self.readers: dict[Task, int] = NONE_YET
        self.waiters: list[tuple[Task, bool]] | None = None
        if tried:
            self.__class__ = TriedRwSem

    def down_write(self, subclass: int = 0) -> None:
        """Sleeps.  Take it alone; ``subclass`` (0 to 7) marks legal nesting inside one class."""
        K.left -= 1
        if not K.left:
            K.machine.point("down_write", self)
        t = K.cur
        key = nested(self.key, subclass) if subclass else self.key
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if self.owner is not None or self.readers:
            self._wait(t, False)
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)

    def up_write(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        t = K.cur
        h = t.held
        if self.owner is not t:
            K.machine.judge.not_held(t, self)
            return
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        self.owner = None
        if self.waiters is not None:
            self._wake("up_write")

    def down_read(self, subclass: int = 0) -> None:
        """Sleeps.  Take it together with other readers."""
        K.left -= 1
        if not K.left:
            K.machine.point("down_read", self)
        t = K.cur
        key = (nested(self.key, subclass) if subclass else self.key) | SHARED
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if (self.owner is None and not self.waiters) or not self._wait(t, True):
            readers = self.readers
            if readers is NONE_YET:
                self.readers = {t: 1}
            else:
                readers[t] = readers.get(t, 0) + 1 if readers else 1
        t.ctx = c
        t.held = (self, t.held)

    def up_read(self) -> None:
        """Never sleeps.  Let go of one read hold."""
        t = K.cur
        h = t.held
        readers = self.readers
        try:
            holds = readers[t]
        except KeyError:
            K.machine.judge.not_held(t, self)
            return
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        if holds == 1:
            del readers[t]
        else:
            readers[t] = holds - 1
        if self.waiters is not None:
            self._wake("up_read")

    # Without a word to the order rules (Linux: ``__down_read``): for locks built on this one, which
    # have a class and a place on the held stack of their own.

    def raw_down_write(self) -> None:
        """Sleeps.  Take it alone."""
        t = K.cur
        if self.owner is not None or self.readers:
            self._wait(t, False)
        self.owner = t

    def raw_up_write(self) -> None:
        """Never sleeps.  Let go of the write mode, whoever took it."""
        self.owner = None
        if self.waiters is not None:
            self._wake("up_write")

    def raw_down_read(self) -> None:
        """Sleeps.  Take it together with other readers."""
        t = K.cur
        if (self.owner is None and not self.waiters) or not self._wait(t, True):
            self._first_reader(t)

    def raw_up_read(self) -> None:
        """Never sleeps.  Let go of the read hold."""
        del self.readers[K.cur]
        if self.waiters is not None:
            self._wake("up_read")

    def downgrade_write(self) -> None:
        """Never sleeps.  Turn the write hold into a read hold, with nobody in between."""
        t = K.cur
        if self.owner is not t:
            K.machine.judge.not_held(t, self)
            return
        if not change_mode(t, self, SHARED):
            return
        self.owner = None
        self._first_reader(t)
        if self.waiters is not None:
            self._wake("downgrade_write")

    def _wait(self, t: Task, shared: bool) -> bool:
        """Sleep until it can be taken (False) or was handed over (True).

        Whoever was overtaken once goes to the head of the queue and is handed it next time.
        """
        self._queue().append((t, shared))
        block(self)
        while self.owner is not None or (self.readers and not shared):
            if self.owner is t:
                break
            line = self._queue()
            t.woken = self
            line.insert(overtaken([w[0] for w in line], self), (t, shared))
            block(self)
        handed = t.woken is HANDED
        t.woken = None
        return handed

    def _wake(self, how: str) -> None:
        """The lock has become free, or readers may join (after a downgrade): wake who is next."""
        machine = K.machine
        if machine.trace is not None:
            machine.trace.note(K.cur, how, self)
        waiters = self.waiters
        if not waiters:
            if machine.trace is None:
                self.waiters = None
        elif self.readers:
            if how == "downgrade_write" and waiters[0][1]:
                self._wake_readers(waiters)
        elif waiters[0][0].woken is self:
            self._hand_over(waiters)
        else:
            self._wake_one(waiters)

    def _wake_one(self, waiters: list[tuple[Task, bool]]) -> None:
        """Wake a writer or all readers: those at the head, or any other by choice."""
        machine = K.machine
        reader = next((i for i, w in enumerate(waiters) if w[1]), -1)
        options = [i for i, w in enumerate(waiters) if not w[1] or i == reader]
        i = options[machine.choose("waiter", len(options))]
        if waiters[i][1]:
            self._wake_readers(waiters)
        else:
            machine.wake(waiters.pop(i)[0])

    def _wake_readers(self, waiters: list[tuple[Task, bool]]) -> None:
        self.waiters = [w for w in waiters if not w[1]]
        for task, shared in waiters:
            if shared:
                K.machine.wake(task)

    def _hand_over(self, waiters: list[tuple[Task, bool]]) -> None:
        """Give it to the first in line, who was overtaken; to a reader together with the others."""
        heir, shared = waiters[0]
        if shared:
            self._first_reader(heir)
            heir.woken = HANDED
            self._wake_readers(waiters)
        else:
            self.owner = heir
            del waiters[0]
            K.machine.wake(heir)

    lock = down_write
    down_write_trylock = SharedLock.trylock
    down_read_trylock = SharedLock.trylock_shared

    def unlock(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        self.up_write()

    __enter__ = down_write

    def __exit__(self, *exc: object) -> None:
        self.up_write()

    def shared(self) -> ReadSide:
        """``with sem.shared():`` holds it for reading."""
        return ReadSide(self)


class TriedRwSem(RwSem):
    """A reader/writer semaphore whose releases are scheduling points."""

    __slots__ = ()

    def up_write(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        RwSem.up_write(self)

    def up_read(self) -> None:
        """Never sleeps.  Let go of one read hold."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        RwSem.up_read(self)
