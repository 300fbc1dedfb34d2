"""CPUs: who occupies one, and the switches that keep others off it.

``Cpu.curr`` is who last ran there: a task, or an interrupt handler on top of it.  A task that is
not ``curr`` may run as soon as ``curr`` can be preempted; a handler as soon as ``curr`` has
interrupts (softirqs) on.  Turning preemption or interrupts off holds back the tasks of this CPU
only.  The states are entries of the held stack, so they nest and are checked like locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.context import BH_OFF, IRQ_OFF, PREEMPT_OFF, PseudoLock, enter, release
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class Cpu:
    """One simulated CPU: who occupies it (``curr``), and the tasks that are placed on it."""

    __slots__ = ("curr", "index", "tasks")

    def __init__(self, index: int) -> None:
        self.index = index
        self.curr: Task | None = None
        self.tasks: list[Task] = []

    def __repr__(self) -> str:
        return f"cpu{self.index}"


def push(entry: PseudoLock) -> None:
    """Never sleeps.  Enter a state that is no lock."""
    t = K.cur
    try:
        t.ctx = t.ctx.next[entry.key]
    except KeyError:
        t.ctx = enter(t.ctx, entry.key, entry)
    t.held = (entry, t.held)


def pop(entry: PseudoLock) -> None:
    """Never sleeps.  Leave the innermost such state."""
    t = K.cur
    h = t.held
    if h is not None and h[0] is entry:
        t.held = h[1]
        t.ctx = t.ctx.parent
    elif not release(t, entry):
        return
    if K.trace is not None:
        K.trace.note(t, "leave", entry)
    if t.rcu_waits is not None:
        quiescent(t)


def quiescent(t: Task) -> None:
    """Never sleeps.  The task may have left a read section that grace periods wait for: ask them.

    Each has ``left(task)``, which says whether it has stopped waiting.
    """
    waits, t.rcu_waits = t.rcu_waits, None
    still = [period for period in waits or () if not period.left(t)]
    if still or t.ctx.rcu:
        t.rcu_waits = still


def preempt_disable() -> None:
    """Never sleeps.  Keep this CPU: no other task of it runs until `preempt_enable`.  Nests."""
    push(PREEMPT_OFF)


def preempt_enable() -> None:
    """Never sleeps.  Undo one `preempt_disable`."""
    pop(PREEMPT_OFF)
    K.left -= 1
    if not K.left:
        K.machine.point("preempt on", None)


def local_irq_disable() -> None:
    """Never sleeps.  No interrupt is delivered on this CPU until `local_irq_enable`."""
    K.left -= 1
    if not K.left:
        K.machine.point("irq off", None)
    push(IRQ_OFF)


def local_irq_enable() -> None:
    """Never sleeps.  Deliver interrupts again; pending ones may come at once."""
    pop(IRQ_OFF)
    K.left -= 1
    if not K.left:
        K.machine.point("irq on", None)


def local_irq_save() -> bool:
    """Never sleeps.  Turn interrupts off and return whether they were off before."""
    flags = K.cur.ctx.irqs_off
    local_irq_disable()
    return flags


def local_irq_restore(flags: bool) -> None:
    """Never sleeps.  Undo the matching `local_irq_save`; ``flags`` is what it returned."""
    if not isinstance(flags, bool):
        raise TypeError(f"local_irq_restore() takes what local_irq_save() returned, got {flags!r}")
    local_irq_enable()


def local_bh_disable() -> None:
    """Never sleeps.  No softirq runs on this CPU until `local_bh_enable`."""
    push(BH_OFF)


def local_bh_enable() -> None:
    """Never sleeps.  Let softirqs run again; pending ones may come at once."""
    pop(BH_OFF)
    K.left -= 1
    if not K.left:
        K.machine.point("bh on", None)


def in_interrupt() -> bool:
    """Never sleeps.  Whether a softirq or hardirq handler runs."""
    return K.cur.ctx.in_irq > 0


def in_atomic() -> bool:
    """Never sleeps.  Whether sleeping is forbidden here."""
    return K.cur.ctx.nosleep
