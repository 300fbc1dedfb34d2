"""CPUs: who occupies one, and the switches that keep others off it.

``Cpu.curr`` is who last ran there: a task, or an interrupt handler on top of it.  A task that is
not ``curr`` may run as soon as ``curr`` can be preempted; a handler as soon as ``curr`` has
interrupts (softirqs) on.  Turning preemption or interrupts off holds back the tasks of this CPU
only.  The states are entries of the held stack, so they nest and are checked like locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.context import (
    BH,
    BH_OFF,
    CLASS_SHIFT,
    HARDIRQ,
    HARDIRQ_UNTHREADED,
    IRQ,
    IRQ_OFF,
    PREEMPT_OFF,
    RCU_BH,
    RCU_SCHED,
    SOFTIRQ,
    LockClass,
    PseudoLock,
    enter,
    release,
)
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class _Flags:
    """What `local_irq_restore` gives back, in reports."""

    name = "its local_irq_save"


_FLAGS = _Flags()


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
    """Never sleeps.  Deliver interrupts again; pending ones may come at once.

    Where they were off before the matching `local_irq_disable` it is a bug to turn them on, and
    they stay off: that is what `local_irq_save` is for.
    """
    _irqs_back(False)


def local_irq_save() -> bool:
    """Never sleeps.  Turn interrupts off and return whether they were off before.  Nests."""
    flags = K.cur.ctx.irqs_off
    local_irq_disable()
    return flags


def local_irq_restore(flags: bool) -> None:
    """Never sleeps.  Undo the matching `local_irq_save`; ``flags`` is what it returned."""
    if not isinstance(flags, bool):
        raise TypeError(f"local_irq_restore() takes what local_irq_save() returned, got {flags!r}")
    _irqs_back(flags)


def _irqs_back(off: bool) -> None:
    """Leave the innermost "interrupts off"; ``off`` is what the caller thinks was before it."""
    pop(IRQ_OFF)
    t = K.cur
    if t.ctx.irqs_off is not off:
        K.machine.judge.unbalanced(t, _FLAGS, IRQ, not off)
    if not off:
        K.left -= 1
        if not K.left:
            K.machine.point("irq on", None)


def local_bh_disable() -> None:
    """Never sleeps.  No softirq runs on this CPU until `local_bh_enable`."""
    push(BH_OFF)


def local_bh_enable() -> None:
    """Never sleeps.  Let softirqs run again; pending ones may come at once."""
    pop(BH_OFF)
    K.left -= 1
    if not K.left:
        K.machine.point("bh on", None)


# -- where am I? -----------------------------------------------------------------------------------

PREEMPT_SHIFT, SOFTIRQ_SHIFT, HARDIRQ_SHIFT = 0, 8, 16
_SERVED = 1 << SOFTIRQ_SHIFT
_BH_DISABLED = 2 << SOFTIRQ_SHIFT
_PART = {
    PREEMPT_OFF.cls.kind: 1 << PREEMPT_SHIFT,
    RCU_SCHED.cls.kind: 1 << PREEMPT_SHIFT,
    BH_OFF.cls.kind: _BH_DISABLED,
    RCU_BH.cls.kind: _BH_DISABLED,
    SOFTIRQ.cls.kind: _SERVED,
    HARDIRQ.cls.kind: 1 << HARDIRQ_SHIFT,
    HARDIRQ_UNTHREADED.cls.kind: 1 << HARDIRQ_SHIFT,
}
"""What each state adds to `preempt_count`."""


def preempt_count() -> int:
    """Never sleeps.  What keeps the caller on its CPU, in the bits of Linux.

    Bits 0-7 count preemption off, spinlocks among it; from bit 8 on 1 is a softirq that is handled
    and 2 each "softirqs off"; from bit 16 on hardirqs.
    """
    count = 0
    node = K.cur.ctx
    while node.parent is not None:
        cls = LockClass.all[node.key >> CLASS_SHIFT]
        count += _PART.get(cls.kind, int(cls.spins))
        if node.key & BH:
            count += _BH_DISABLED
        node = node.parent
    return count


def preemptible() -> bool:
    """Never sleeps.  Whether another task of this CPU could run now."""
    return not K.cur.ctx.nopreempt


def irqs_disabled() -> bool:
    """Never sleeps.  Whether interrupts are off on this CPU."""
    return K.cur.ctx.irqs_off


def in_hardirq() -> bool:
    """Never sleeps.  Whether an interrupt handler runs (``in_irq``)."""
    return K.cur.ctx.in_irq == 2


def in_serving_softirq() -> bool:
    """Never sleeps.  Whether a softirq is handled."""
    return K.cur.ctx.in_irq == 1


def in_softirq() -> bool:
    """Never sleeps.  Whether a softirq is handled, or softirqs are off."""
    return bool(preempt_count() >> SOFTIRQ_SHIFT & 0xFF)


def in_task() -> bool:
    """Never sleeps.  Whether a task runs, and no handler."""
    return not K.cur.ctx.in_irq


def in_interrupt() -> bool:
    """Never sleeps.  Whether a softirq or hardirq handler runs."""
    return K.cur.ctx.in_irq > 0


def in_atomic() -> bool:
    """Never sleeps.  Whether sleeping is forbidden here."""
    return K.cur.ctx.nosleep
