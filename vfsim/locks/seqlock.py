"""Sequence counters: readers look, and look again if a writer came in between.

A writer makes ``sequence`` odd, changes the data, and makes it even again.  The typical reader::

    while True:
        seq = count.read_begin()
        ... read ...
        if not count.read_retry(seq):
            break

Beginning, asking for a retry and both ends of a write are scheduling points.  A reader that begins
while a writer is inside waits for it, on its CPU, instead of looping: spinning is waiting.  Writers
exclude each other by a lock of the caller's (`SeqCount`) or of their own (`SeqLock`).

A `SeqLock`'s reader that failed too often takes the lock (``lock_excl``): it shuts out writers and
makes nobody retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import Classed
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.context import SHARED, LockClass, enter, nested, release
from vfsim.sim.scheduler import spin
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class SeqCount(Classed):
    """A sequence counter without a lock (Linux: ``seqcount_t``).

    Args:
        name: its lock class: for the order rules a write section is a lock and a `read_begin` reads
            it.
    """

    __slots__ = ("key", "owner", "sequence", "waiters")
    is_pin = False

    def __init__(self, name: str) -> None:
        self.key = LockClass.get(name, "seqcount", recursive_read=True).key
        self.owner: Task | None = None
        self.sequence = 0
        self.waiters: list[Task] | None = None

    def read_begin(self) -> int:
        """Never sleeps.  The number to give to `read_retry`; spins while a writer is inside."""
        K.left -= 1
        if not K.left:
            K.machine.point("read_begin", self)
        ctx = K.cur.ctx
        key = self.key | SHARED
        if key not in ctx.next:
            enter(ctx, key, self)
        if self.owner is not None:
            self._wait(K.cur)
        return self.sequence

    def raw_begin(self) -> int:
        """Never sleeps.  As `read_begin` without waiting for a writer: it will be a retry."""
        K.left -= 1
        if not K.left:
            K.machine.point("raw_begin", self)
        return self.sequence & ~1

    def read_retry(self, seq: int) -> bool:
        """Never sleeps.  Whether a writer was or is inside since ``seq`` was taken."""
        K.left -= 1
        if not K.left:
            K.machine.point("read_retry", self)
        return self.sequence != seq

    def write_begin(self, subclass: int = 0) -> None:
        """Never sleeps.  Enter the write section; the caller excludes other writers."""
        K.left -= 1
        if not K.left:
            K.machine.point("seq_write", self)
        t = K.cur
        if self.owner is not None:
            what = f"a write section inside {self.owner.name}'s: writers must exclude each other"
            K.machine.judge.corrupt(t, self, what)
        key = nested(self.key, subclass) if subclass else self.key
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        t.held = (self, t.held)
        self.owner = t
        self.sequence += 1

    def write_end(self) -> None:
        """Never sleeps.  Leave the write section and let the waiting readers begin."""
        K.left -= 1
        if not K.left:
            K.machine.point("seq_end", self)
        t = K.cur
        h = t.held
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        self.owner = None
        self.sequence += 1
        if self.waiters is not None:
            self._wake()

    def invalidate(self) -> None:
        """Never sleeps.  Make every reader retry (``write_seqcount_invalidate``)."""
        K.left -= 1
        if not K.left:
            K.machine.point("seq_invalidate", self)
        self.sequence += 2

    def _wait(self, t: Task) -> None:
        while self.owner is not None:
            if self.waiters is None:
                self.waiters = []
            self.waiters.append(t)
            spin(self)

    def _wake(self) -> None:
        waiters, self.waiters = self.waiters, None
        for task in waiters or ():
            K.machine.wake(task)

    def is_locked(self) -> bool:
        """Never sleeps.  Whether a writer is inside."""
        return self.owner is not None

    def statistics(self) -> dict[str, Any]:
        """The writer's name, the sequence number and how many readers spin."""
        return {
            "owner": self.owner and self.owner.name,
            "sequence": self.sequence,
            "waiting": len(self.waiters or ()),
        }

    def __repr__(self) -> str:
        state = f"written by {self.owner.name}" if self.owner is not None else "quiet"
        waiting = len(self.waiters or ())
        return f"<SeqCount {self.name}, {state}, at {self.sequence}, {waiting} spinning>"


class SeqLock:
    """A sequence counter with the spinlock of its writers (Linux: ``seqlock_t``).

    Args:
        name: the lock class of ``lock`` and of ``count``.

    ``lock``, ``unlock`` and ``with seqlock:`` are the write side.
    """

    __slots__ = ("count", "spin")

    def __init__(self, name: str) -> None:
        self.spin = SpinLock(name)
        self.count = SeqCount(name)

    def read_begin(self) -> int:
        """Never sleeps.  The number to give to `read_retry`; spins while a writer is inside."""
        return self.count.read_begin()

    def read_retry(self, seq: int) -> bool:
        """Never sleeps.  Whether a writer was or is inside since ``seq`` was taken."""
        return self.count.read_retry(seq)

    def write_lock(self, subclass: int = 0) -> None:
        """Never sleeps.  Shut out writers and make readers retry (``write_seqlock``)."""
        self.spin.lock(subclass)
        self.count.write_begin(subclass)

    def write_unlock(self) -> None:
        """Never sleeps.  Undo `write_lock` (``write_sequnlock``)."""
        self.count.write_end()
        self.spin.unlock()

    def write_lock_irq(self) -> None:
        """Never sleeps.  As `write_lock`, with interrupts off (``write_seqlock_irq``)."""
        self.spin.lock_irq()
        self.count.write_begin()

    def write_unlock_irq(self) -> None:
        """Never sleeps.  Undo `write_lock_irq`."""
        self.count.write_end()
        self.spin.unlock_irq()

    def write_lock_bh(self) -> None:
        """Never sleeps.  As `write_lock`, with softirqs off (``write_seqlock_bh``)."""
        self.spin.lock_bh()
        self.count.write_begin()

    def write_unlock_bh(self) -> None:
        """Never sleeps.  Undo `write_lock_bh`."""
        self.count.write_end()
        self.spin.unlock_bh()

    def write_lock_irqsave(self) -> bool:
        """Never sleeps.  As `write_lock_irq`; returns what `write_unlock_irqrestore` takes."""
        flags = self.spin.lock_irqsave()
        self.count.write_begin()
        return flags

    def write_unlock_irqrestore(self, flags: bool) -> None:
        """Never sleeps.  Undo `write_lock_irqsave`."""
        self.count.write_end()
        self.spin.unlock_irqrestore(flags)

    def lock_excl(self, subclass: int = 0) -> None:
        """Never sleeps.  Shut out writers without making readers retry (``read_seqlock_excl``)."""
        self.spin.lock(subclass)

    def unlock_excl(self) -> None:
        """Never sleeps.  Undo `lock_excl` (``read_sequnlock_excl``)."""
        self.spin.unlock()

    def lock_excl_irq(self) -> None:
        """Never sleeps.  As `lock_excl`, with interrupts off (``read_seqlock_excl_irq``)."""
        self.spin.lock_irq()

    def unlock_excl_irq(self) -> None:
        """Never sleeps.  Undo `lock_excl_irq`."""
        self.spin.unlock_irq()

    def lock_excl_bh(self) -> None:
        """Never sleeps.  As `lock_excl`, with softirqs off (``read_seqlock_excl_bh``)."""
        self.spin.lock_bh()

    def unlock_excl_bh(self) -> None:
        """Never sleeps.  Undo `lock_excl_bh`."""
        self.spin.unlock_bh()

    def lock_excl_irqsave(self) -> bool:
        """Never sleeps.  As `lock_excl_irq`; returns what `unlock_excl_irqrestore` takes."""
        return self.spin.lock_irqsave()

    def unlock_excl_irqrestore(self, flags: bool) -> None:
        """Never sleeps.  Undo `lock_excl_irqsave`."""
        self.spin.unlock_irqrestore(flags)

    def read_begin_or_lock(self, seq: int) -> int:
        """Never sleeps.  Begin, with the lock if ``seq`` is odd (``read_seqbegin_or_lock``).

        Returns the ``seq`` for `need_retry` and `done_retry`.  Start with 0; after a failed pass
        call it with 1.
        """
        if seq & 1:
            self.lock_excl()
            return seq
        return self.read_begin()

    def need_retry(self, seq: int) -> bool:
        """Never sleeps.  Whether the pass must be done again; never after one with the lock."""
        return not seq & 1 and self.read_retry(seq)

    def done_retry(self, seq: int) -> None:
        """Never sleeps.  End a `read_begin_or_lock`."""
        if seq & 1:
            self.unlock_excl()

    @property
    def parts(self) -> tuple[SpinLock, SeqCount]:
        """What stands on the held stack of a writer."""
        return self.spin, self.count

    @property
    def sequence(self) -> int:
        """The sequence number; odd while a writer is inside."""
        return self.count.sequence

    @property
    def owner(self) -> Task | None:
        """Who shuts out writers: the writer, or a reader in `lock_excl`."""
        return self.spin.owner

    def is_locked(self) -> bool:
        """Never sleeps.  Whether writers are shut out."""
        return self.spin.owner is not None

    def statistics(self) -> dict[str, Any]:
        """Those of the lock, and the sequence number."""
        return {**self.spin.statistics(), "sequence": self.count.sequence}

    lock = write_lock
    unlock = write_unlock
    __enter__ = write_lock

    def __exit__(self, *exc: object) -> None:
        self.write_unlock()

    def __repr__(self) -> str:
        return f"<SeqLock {self.spin.name}, {self.spin!r}, {self.count!r}>"
