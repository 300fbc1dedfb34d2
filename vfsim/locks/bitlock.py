"""Locks that are one bit: `BitLock` spins, `SleepBit` sleeps.

**BitLock** guards hash chains.  Free → owned → free.  It has no queue: a release tells one of those
who spin (which is a choice) that the bit is clear, and that one must still win it against whoever
comes along.  As in Linux the loser spins with preemption on, so it holds back nobody.

**SleepBit** is the page lock, the buffer lock, I_SYNC and the writeback bit::

    free → owned ───────────────→ free           lock(), unlock()
             └→ disowned ───────→ free           disown() before the I/O, unlock() after it
                    └→ owned → …                 adopt()

A release wakes all who only `SleepBit.wait`, and one of those who want the bit, which is a choice;
that one may be overtaken, but only once: then the next release hands it the bit.

Only the owner may unlock an owned bit.  A disowned one has no owner but a ``keeper`` (usually
"I/O"), is locked for everybody, and may be unlocked from anywhere, also from an interrupt.
Disowning takes the lock off the task's held stack; a task that leaves it locked without disowning
it has leaked it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import OwnedLock
from vfsim.locks.mutex import overtaken
from vfsim.sim.context import TRY, LockClass, enter, nested, release
from vfsim.sim.scheduler import block, spin
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class BitLock(OwnedLock):
    """A spinning lock of one bit (Linux: ``bit_spin_lock``), not queued.

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock), so its release is a scheduling point.
    """

    __slots__ = ()
    title, waiting = "BitLock", "spinning"

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, "bitlock", spins=True).key
        self.owner: Task | None = None
        self.waiters: list[Task] | None = None
        if tried:
            self.__class__ = TriedBitLock

    def lock(self, subclass: int = 0) -> None:
        """Never sleeps.  Take the bit, spinning while it is set; a later comer may be luckier."""
        K.left -= 1
        if not K.left:
            K.machine.point("bit_lock", self)
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

    def unlock(self) -> None:
        """Never sleeps.  Clear the bit, and tell one of those who spin."""
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
        while self.owner is not None:
            self._queue().append(t)
            spin(self)

    def _wake(self) -> None:
        machine = K.machine
        if machine.trace is not None:
            machine.trace.note(K.cur, "bit_unlock", self)
        waiters = self.waiters
        if waiters:
            machine.wake(waiters.pop(machine.choose("waiter", len(waiters))))
        elif machine.trace is None:
            self.waiters = None

    __enter__ = lock

    def __exit__(self, *exc: object) -> None:
        self.unlock()


class TriedBitLock(BitLock):
    """A bit lock whose release is a scheduling point."""

    __slots__ = ()

    def unlock(self) -> None:
        """Never sleeps.  Clear the bit, and tell one of those who spin."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        BitLock.unlock(self)


class SleepBit(OwnedLock):
    """A sleeping lock of one bit, which may outlive its taker's hold (Linux: ``wait_on_bit_lock``).

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock, is_locked), so its release is a
            scheduling point.

    Attributes:
        owner: the task that holds it, or None if it is free or disowned.
        keeper: who has it while it is disowned ("I/O"), else None.
        of: what it belongs to, or a weak reference to that: for the order of instances, where there
            is one.
    """

    __slots__ = ("keeper", "locked", "of")
    title = "SleepBit"
    of: Any

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, "sleepbit", sleeps=True).key
        self.owner: Task | None = None
        self.keeper: Any = None
        self.locked = False
        self.waiters: list[tuple[Task, bool]] | None = None
        if tried:
            self.__class__ = TriedSleepBit

    def lock(self, subclass: int = 0) -> None:
        """Sleeps.  Take the bit (Linux: ``lock_page``, ``lock_buffer``)."""
        K.left -= 1
        if not K.left:
            K.machine.point("lock", self)
        t = K.cur
        key = nested(self.key, subclass) if subclass else self.key
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if self.locked:
            self._wait(t, True)
        self.locked = True
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)

    def trylock(self) -> bool:
        """Never sleeps.  Take the bit if it is clear; returns whether it did."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if self.locked:
            return False
        self.locked = True
        self._own(K.cur)
        return True

    def unlock(self) -> None:
        """Never sleeps.  Clear the bit: by its owner, or by anybody once it is disowned."""
        t = K.cur
        if self.owner is t:
            if not self._let_go(t):
                return
        elif self.keeper is None:
            K.machine.judge.not_held(t, self)
            return
        self.keeper = None
        self.locked = False
        if self.waiters is not None:
            self._wake()

    def wait(self) -> None:
        """Sleeps.  Until the bit is clear, without taking it (``wait_on_page_locked``)."""
        t = K.cur
        if t.ctx.nosleep:
            K.machine.judge.sleeping(t, self)
        K.left -= 1
        if not K.left:
            K.machine.point("wait", self)
        if self.locked:
            self._wait(t, False)

    def disown(self, keeper: Any = "I/O") -> None:
        """Never sleeps.  Give the held bit to ``keeper``: whoever finishes the work unlocks it.

        Raises:
            ValueError: ``keeper`` is None.
        """
        if keeper is None:
            raise ValueError("a disowned lock needs a keeper, which waiters can be told")
        t = K.cur
        if self.owner is not t:
            K.machine.judge.not_held(t, self)
        elif self._let_go(t):
            self.keeper = keeper
            if K.trace is not None:
                K.trace.note(t, "disown", self)

    def adopt(self) -> None:
        """Never sleeps.  Make a disowned bit the caller's own again."""
        t = K.cur
        if self.keeper is None:
            K.machine.judge.corrupt(
                t, self, f"adopt() takes over a disowned lock, and this is {self!r}"
            )
            return
        self.keeper = None
        self._own(t)

    def _own(self, t: Task) -> None:
        key = self.key | TRY
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        self.owner = t
        t.held = (self, t.held)

    def _let_go(self, t: Task) -> bool:
        """Take it off the owner's held stack."""
        h = t.held
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return False
        self.owner = None
        return True

    def _wait(self, t: Task, takes: bool) -> None:
        """Sleep until it is clear or handed over; who was overtaken once is handed it next time."""
        self._queue().append((t, takes))
        block(self)
        while self.locked and self.owner is not t:
            line = self._queue()
            if takes:
                t.woken = self
                line.insert(overtaken([w[0] for w in line], self), (t, takes))
            else:
                line.append((t, takes))
            block(self)
        t.woken = None

    def _wake(self) -> None:
        """Wake all who only wait, and one of those who want it."""
        machine = K.machine
        if machine.trace is not None:
            machine.trace.note(K.cur, "unlock", self)
        waiters = self.waiters
        if not waiters:
            if machine.trace is None:
                self.waiters = None
            return
        takers = [w for w in waiters if w[1]]
        for task, takes in waiters:
            if not takes:
                machine.wake(task)
        if takers and takers[0][0].woken is self:
            self.owner = takers.pop(0)[0]
            self.locked = True
            machine.wake(self.owner)
        elif takers:
            machine.wake(takers.pop(machine.choose("waiter", len(takers)))[0])
        self.waiters = takers

    def is_locked(self) -> bool:
        """Never sleeps.  Whether the bit is set, whoever set it."""
        return self.locked

    def statistics(self) -> dict[str, Any]:
        """The owner's name, or the keeper while it is disowned, and how many wait."""
        owner = self.owner.name if self.owner is not None else self.keeper and str(self.keeper)
        return {"owner": owner, "waiting": len(self.waiters or ())}

    __enter__ = lock

    def __exit__(self, *exc: object) -> None:
        self.unlock()

    def _state(self) -> str:
        if self.owner is not None:
            return f"held by {self.owner.name}"
        return f"kept by {self.keeper}" if self.locked else "free"


class TriedSleepBit(SleepBit):
    """A sleeping bit whose release is a scheduling point."""

    __slots__ = ()

    def unlock(self) -> None:
        """Never sleeps.  Clear the bit: by its owner, or by anybody once it is disowned."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        SleepBit.unlock(self)
