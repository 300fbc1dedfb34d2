"""The reader/writer spinlock: many readers or one writer, none of whom may sleep.

States: free → read (``readers`` counts holds by task) or written (``owner``) → free.  Queued as on
x86 in v4.10: who cannot enter at once stands in line, and a reader stands behind the writers that
came before it.  So reading twice can deadlock in a task: a writer between the two reads stops the
second.  In interrupt context (softirqs turned off count) it cannot: there a reader passes the line
and is stopped only by a writer who is inside.  tasklist_lock lives by that.

Holding it disables preemption; the ``_irq`` forms also turn interrupts off, the ``_bh`` forms
softirqs.  As in v4.10 there are no subclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.locks.common import SharedLock
from vfsim.sim.context import BH, IRQ, SHARED, LockClass, release
from vfsim.sim.scheduler import spin
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task

_OFF = IRQ | BH


class RwLock(SharedLock):
    """A spinning reader/writer lock (Linux: ``rwlock_t``, queued).

    Args:
        name: its lock class.
        tried: somebody asks whether it is locked (trylock), so its release is a scheduling point.

    ``lock``, ``unlock`` and ``trylock`` are the write mode, as is ``with rwlock:``; ``with
    rwlock.shared():`` reads.

    Attributes:
        waiters: who stands in line, with whether to read.
    """

    __slots__ = ()
    title, waiting = "RwLock", "spinning"

    def __init__(self, name: str, *, tried: bool = False) -> None:
        self.key = LockClass.get(name, "rwlock", spins=True).key
        self.owner: Task | None = None
        self.readers: dict[Task, int] = {}
        self.waiters: list[tuple[Task, bool]] | None = None
        if tried:
            self.__class__ = TriedRwLock

    # -- taking it ---------------------------------------------------------------------------------

    def write_lock(self) -> None:
        """Never sleeps.  Take it alone, spinning behind whoever came first."""
        self._write(0)

    def read_lock(self) -> None:
        """Never sleeps.  Take it together with other readers."""
        self._read(0)

    def _write(self, mode: int) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("write_lock", self)
        t = K.cur
        self._got(t, self.key | mode)
        if self.owner is not None or self.readers:
            self._wait(t, False)
        else:
            self.owner = t

    def _read(self, mode: int) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("read_lock", self)
        t = K.cur
        self._got(t, self.key | SHARED | mode)
        if self.owner is not None or (self.waiters and not t.ctx.bh_off):
            self._wait(t, True)
        else:
            readers = self.readers
            readers[t] = readers.get(t, 0) + 1

    # -- letting go --------------------------------------------------------------------------------

    def write_unlock(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        self._check_balance()
        self._write_unlock()

    def read_unlock(self) -> None:
        """Never sleeps.  Let go of one read hold."""
        self._check_balance()
        self._read_unlock()

    def _check_balance(self) -> None:
        """The plain forms do not turn interrupts (softirqs) on again."""
        t = K.cur
        h, c = t.held, t.ctx
        if h is not None and h[0] is self and c.key & _OFF:
            before = c.parent
            if (c.irqs_off, c.bh_off) != (before.irqs_off, before.bh_off):
                K.machine.judge.unbalanced(t, self, c.key & _OFF, False)

    def _write_unlock(self) -> None:
        t = K.cur
        if self.owner is not t:
            K.machine.judge.not_held(t, self)
        elif self._let_go(t):
            self.owner = None
            if self.waiters is not None:
                self._serve("write_unlock")

    def _read_unlock(self) -> None:
        t = K.cur
        readers = self.readers
        if t not in readers:
            K.machine.judge.not_held(t, self)
        elif self._let_go(t):
            if readers[t] == 1:
                del readers[t]
            else:
                readers[t] -= 1
            if self.waiters is not None:
                self._serve("read_unlock")

    def _let_go(self, t: Task) -> bool:
        h = t.held
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
            return True
        return release(t, self)

    # -- with interrupts or softirqs off -----------------------------------------------------------

    def write_lock_irq(self) -> None:
        """Never sleeps.  Turn interrupts off on this CPU and take it alone."""
        self._write(IRQ)

    def read_lock_irq(self) -> None:
        """Never sleeps.  Turn interrupts off on this CPU and take it for reading."""
        self._read(IRQ)

    def write_lock_bh(self) -> None:
        """Never sleeps.  Turn softirqs off on this CPU and take it alone."""
        self._write(BH)

    def read_lock_bh(self) -> None:
        """Never sleeps.  Turn softirqs off on this CPU and take it for reading."""
        self._read(BH)

    def write_lock_irqsave(self) -> bool:
        """Never sleeps.  As `write_lock_irq`; returns the state for `write_unlock_irqrestore`."""
        flags = K.cur.ctx.irqs_off
        self._write(IRQ)
        return flags

    def read_lock_irqsave(self) -> bool:
        """Never sleeps.  As `read_lock_irq`; returns the state for `read_unlock_irqrestore`."""
        flags = K.cur.ctx.irqs_off
        self._read(IRQ)
        return flags

    def write_unlock_irq(self) -> None:
        """Never sleeps.  Let go of the write mode and turn interrupts on again.

        Where they were off before it is a bug to turn them on, and they stay off.
        """
        self._write_unlock()
        self._irqs_on()

    def read_unlock_irq(self) -> None:
        """Never sleeps.  As `write_unlock_irq`, of a read hold."""
        self._read_unlock()
        self._irqs_on()

    def _irqs_on(self) -> None:
        if K.cur.ctx.irqs_off:
            K.machine.judge.unbalanced(K.cur, self, IRQ, True)
        K.left -= 1
        if not K.left:
            K.machine.point("irq on", None)

    def write_unlock_irqrestore(self, flags: bool) -> None:
        """Never sleeps.  Let go of the write mode; back to what ``write_lock_irqsave`` returned."""
        _check_flags(flags)
        self._write_unlock()
        self._restore(flags)

    def read_unlock_irqrestore(self, flags: bool) -> None:
        """Never sleeps.  Let go of a read hold; back to what ``read_lock_irqsave`` returned."""
        _check_flags(flags)
        self._read_unlock()
        self._restore(flags)

    def _restore(self, flags: bool) -> None:
        if flags is not K.cur.ctx.irqs_off:
            K.machine.judge.unbalanced(K.cur, self, IRQ, not flags)
        if not flags:
            K.left -= 1
            if not K.left:
                K.machine.point("irq on", None)

    def write_unlock_bh(self) -> None:
        """Never sleeps.  Let go of the write mode and let softirqs run again."""
        self._write_unlock()
        K.left -= 1
        if not K.left:
            K.machine.point("bh on", None)

    def read_unlock_bh(self) -> None:
        """Never sleeps.  Let go of a read hold and let softirqs run again."""
        self._read_unlock()
        K.left -= 1
        if not K.left:
            K.machine.point("bh on", None)

    # -- the line ----------------------------------------------------------------------------------

    def _wait(self, t: Task, shared: bool) -> None:
        self._queue().append((t, shared))
        spin(self)  # whoever wakes us has already let us in

    def _serve(self, how: str) -> None:
        """A hold has ended: let in whoever is next, and readers of interrupts that wait."""
        machine = K.machine
        if machine.trace is not None:
            machine.trace.note(K.cur, how, self)
        if self.owner is None:
            self._let_in(self.waiters or [])
        if not self.waiters and machine.trace is None:
            self.waiters = None

    def _let_in(self, waiters: list[tuple[Task, bool]]) -> None:
        """Interrupts' readers and those before the first writer; or that writer if nobody reads."""
        line: list[tuple[Task, bool]] = []
        for task, shared in waiters:
            if shared and (not line or task.ctx.bh_off):
                self.readers[task] = self.readers.get(task, 0) + 1
                K.machine.wake(task)
            else:
                line.append((task, shared))
        if line and not self.readers:
            self.owner = line.pop(0)[0]
            K.machine.wake(self.owner)
        self.waiters = line

    lock = write_lock
    write_trylock = SharedLock.trylock
    read_trylock = SharedLock.trylock_shared

    def unlock(self) -> None:
        """Never sleeps.  Let go of the write mode."""
        self.write_unlock()

    __enter__ = write_lock

    def __exit__(self, *exc: object) -> None:
        self.write_unlock()

    def shared(self) -> _Shared:
        """``with rwlock.shared():`` holds it for reading."""
        return _Shared(self)


class TriedRwLock(RwLock):
    """A reader/writer spinlock whose releases are scheduling points."""

    __slots__ = ()

    def _write_unlock(self) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        RwLock._write_unlock(self)

    def _read_unlock(self) -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("unlocking", self)
        RwLock._read_unlock(self)


class _Shared:
    """The read side as a context manager."""

    __slots__ = ("rwlock",)

    def __init__(self, rwlock: RwLock) -> None:
        self.rwlock = rwlock

    def __enter__(self) -> None:
        self.rwlock.read_lock()

    def __exit__(self, *exc: object) -> None:
        self.rwlock.read_unlock()


def _check_flags(flags: bool) -> None:
    if not isinstance(flags, bool):
        raise TypeError(f"irqrestore takes what irqsave returned, got {flags!r}")
