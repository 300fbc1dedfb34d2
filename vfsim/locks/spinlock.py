"""The spinlock: its owner may not sleep, its waiters burn their CPU.

States: free → owned → free.  Queued as on x86 in v4.10: a release hands the lock to the first in
line, so nobody overtakes.  Holding it disables preemption; the ``_irq`` forms also turn interrupts
off (needed when a handler takes the same lock), the ``_bh`` forms softirqs.

A `RawSpinLock` differs only on a real-time kernel, where the plain one sleeps: lockdep can be asked
to check that no plain one is taken inside a raw one (``Rules(raw_nesting=True)``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.common import OwnedLock
from vfsim.sim.context import (
    BH,
    IRQ,
    TRY,
    LockClass,
    enter,
    nested,
    nested_under,
    release,
)
from vfsim.sim.scheduler import spin
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


_OFF = IRQ | BH


class SpinLock(OwnedLock):
    """A spinning lock (Linux: ``spinlock_t``).

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock), so its release is a scheduling point.

    Attributes:
        of: what it belongs to, or a weak reference to that: for the order of instances, where there
            is one.
    """

    __slots__ = ("of",)
    title, waiting = "SpinLock", "spinning"
    kind = "spinlock"
    of: Any

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, self.kind, spins=True).key
        self.owner: Task | None = None
        self.waiters: list[Task] | None = None
        if tried:
            self.__class__ = TriedSpinLock

    def lock(self, subclass: int = 0) -> None:
        """Never sleeps.  Take the lock, spinning behind whoever came first."""
        K.left -= 1
        if not K.left:
            K.machine.point("spin_lock", self)
        t = K.cur
        key = nested(self.key, subclass) if subclass else self.key
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        t.held = (self, t.held)
        if self.owner is not None:
            self._wait(t)
        else:
            self.owner = t

    def lock_nest_lock(self, outer: Any) -> None:
        """Never sleeps.  Take one of several locks of this class under ``outer``, which is held.

        Linux: ``spin_lock_nest_lock``.
        """
        self._take(nested_under(K.cur, self, outer))

    def unlock(self) -> None:
        """Never sleeps.  Let go, and hand the lock to the first in line."""
        t = K.cur
        h = t.held
        if h is not None and h[0] is self:
            c = t.ctx
            if c.key & _OFF and (c.irqs_off, c.bh_off) != (c.parent.irqs_off, c.parent.bh_off):
                K.machine.judge.unbalanced(t, self, c.key & _OFF, False)
            t.held = h[1]
            t.ctx = c.parent
        elif not release(t, self):
            return
        if self.waiters is None:
            self.owner = None
        else:
            self._hand_over()

    def _unlock(self) -> None:
        """As `unlock`, for the forms that turn interrupts (softirqs) on again."""
        t = K.cur
        h = t.held
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        if self.waiters is None:
            self.owner = None
        else:
            self._hand_over()

    def trylock_irq(self) -> bool:
        """Never sleeps.  As `trylock`; interrupts are off if it did, and as before if not."""
        return self._try(IRQ)

    def trylock_bh(self) -> bool:
        """Never sleeps.  As `trylock`; softirqs are off if it did, and as before if not."""
        return self._try(BH)

    def trylock_irqsave(self) -> bool | None:
        """Never sleeps.  As `trylock_irq`; returns the state for `unlock_irqrestore`, or None."""
        flags = K.cur.ctx.irqs_off
        return flags if self._try(IRQ) else None

    def _try(self, mode: int) -> bool:
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self)
        if self.owner is not None:
            return False
        t = K.cur
        key = self.key | TRY | mode
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        self.owner = t
        t.held = (self, t.held)
        return True

    def _take(self, mode: int) -> None:
        """Take the lock together with interrupts (softirqs) off."""
        K.left -= 1
        if not K.left:
            K.machine.point("spin_lock", self)
        t = K.cur
        key = self.key | mode
        try:
            t.ctx = t.ctx.next[key]
        except KeyError:
            t.ctx = enter(t.ctx, key, self)
        t.held = (self, t.held)
        if self.owner is not None:
            self._wait(t)
        else:
            self.owner = t

    def lock_irq(self) -> None:
        """Never sleeps.  Turn interrupts off on this CPU and take the lock."""
        self._take(IRQ)

    def lock_bh(self) -> None:
        """Never sleeps.  Turn softirqs off on this CPU and take the lock."""
        self._take(BH)

    def lock_irqsave(self) -> bool:
        """Never sleeps.  As `lock_irq`; returns the state to give to `unlock_irqrestore`."""
        flags = K.cur.ctx.irqs_off
        self._take(IRQ)
        return flags

    def unlock_irq(self) -> None:
        """Never sleeps.  Let go and turn interrupts on again.

        Where they were off before it is a bug to turn them on, and they stay off.
        """
        self._unlock()
        if K.cur.ctx.irqs_off:
            K.machine.judge.unbalanced(K.cur, self, IRQ, True)
        K.left -= 1
        if not K.left:
            K.machine.point("irq on", None)

    def unlock_irqrestore(self, flags: bool) -> None:
        """Never sleeps.  Let go and restore the interrupt state that ``lock_irqsave`` returned."""
        if not isinstance(flags, bool):
            raise TypeError(
                f"unlock_irqrestore() takes what lock_irqsave() returned, got {flags!r}"
            )
        self._unlock()
        if flags is not K.cur.ctx.irqs_off:
            K.machine.judge.unbalanced(K.cur, self, IRQ, not flags)
        if not flags:
            K.left -= 1
            if not K.left:
                K.machine.point("irq on", None)

    def unlock_bh(self) -> None:
        """Never sleeps.  Let go and let softirqs run again."""
        self._unlock()
        K.left -= 1
        if not K.left:
            K.machine.point("bh on", None)

    def _wait(self, t: Task) -> None:
        if self.waiters is None:  # not by `_queue`: a hand-over is measured, and calls cost
            self.waiters = []
        self.waiters.append(t)
        spin(self)  # whoever wakes us has already made us the owner

    def _hand_over(self) -> None:
        machine = K.machine
        waiters = self.waiters
        if machine.trace is not None:
            machine.trace.note(K.cur, "spin_unlock", self)
        if waiters:
            heir = waiters.pop(0)
            self.owner = heir
            machine.wake(heir)
        else:
            self.owner = None
        if not waiters and machine.trace is None:
            self.waiters = None

    __enter__ = lock

    def __exit__(self, *exc: object) -> None:
        self.unlock()


class RawSpinLock(SpinLock):
    """A lock that spins on every kernel, real-time ones too (Linux: ``raw_spinlock_t``)."""

    __slots__ = ()
    kind = "raw_spinlock"


class TriedSpinLock(SpinLock):
    """A spinlock whose release is a scheduling point."""

    __slots__ = ()

    def unlock(self) -> None:
        """Never sleeps.  Let go, and hand the lock to the first in line."""
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        SpinLock.unlock(self)

    def _unlock(self) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        SpinLock._unlock(self)
