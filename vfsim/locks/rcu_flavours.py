"""The flavours of RCU whose readers are states of the CPU: ``rcu_bh`` and ``rcu_sched``.

========= ============================================ ==========================================
flavour   a read section is                            a grace period waits for
========= ============================================ ==========================================
rcu_bh    `rcu_read_lock_bh`: softirqs off             whoever has softirqs off, or handles one
rcu_sched `rcu_read_lock_sched`: preemption off        whoever has preemption or interrupts off,
                                                       holds a spinlock, or handles an interrupt
========= ============================================ ==========================================

So in Linux v4.10, where plain ``rcu`` waits for neither: code that relies on the wrong flavour is
wrong, and meets a grace period that ended under it.

A section that ends with `vfsim.sim.cpu` (preemption, interrupts or softirqs on again) ends for its
grace periods at once.  One that ends with a spinlock's release ends for them when its task sleeps,
yields, ends, or leaves another: at its next context switch, as in Linux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.rcu import (
    GracePeriod,
    Pending,
    await_callbacks,
    await_period,
    call,
    pending_of,
)
from vfsim.sim.context import RCU_BH, RCU_SCHED
from vfsim.sim.cpu import pop, push
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task


class BhGracePeriod(GracePeriod):
    """A wait for those with softirqs off."""

    __slots__ = ()

    def inside(self, task: Task) -> bool:
        """Never sleeps.  Whether no softirq can come where the task runs."""
        return task.ctx.bh_off

    def pending(self) -> Pending:
        """Never sleeps.  The callbacks of `call_rcu_bh` that have not run."""
        return pending_of("rcu_bh")


class SchedGracePeriod(GracePeriod):
    """A wait for those with preemption off, for whatever reason."""

    __slots__ = ()

    def inside(self, task: Task) -> bool:
        """Never sleeps.  Whether the task keeps its CPU."""
        return task.ctx.nopreempt

    def pending(self) -> Pending:
        """Never sleeps.  The callbacks of `call_rcu_sched` that have not run."""
        return pending_of("rcu_sched")


def rcu_read_lock_bh() -> None:
    """Never sleeps.  Enter a section of ``rcu_bh``: no softirq comes on this CPU inside."""
    K.left -= 1
    if not K.left:
        K.machine.point("rcu_read_lock", RCU_BH)
    push(RCU_BH)


def rcu_read_unlock_bh() -> None:
    """Never sleeps.  Undo one `rcu_read_lock_bh`; pending softirqs may come at once."""
    pop(RCU_BH)
    K.left -= 1
    if not K.left:
        K.machine.point("bh on", None)


def rcu_read_lock_sched() -> None:
    """Never sleeps.  Enter a section of ``rcu_sched``: this CPU is the caller's inside."""
    K.left -= 1
    if not K.left:
        K.machine.point("rcu_read_lock", RCU_SCHED)
    push(RCU_SCHED)


def rcu_read_unlock_sched() -> None:
    """Never sleeps.  Undo one `rcu_read_lock_sched`."""
    pop(RCU_SCHED)
    K.left -= 1
    if not K.left:
        K.machine.point("preempt on", None)


def call_rcu_bh(fn: Callable[..., Any], *args: Any) -> None:
    """Never sleeps.  Call ``fn(*args)`` in softirq context when today's ``rcu_bh`` readers left."""
    K.left -= 1
    if not K.left:
        K.machine.point("call_rcu", RCU_BH)
    call(BhGracePeriod(fn, args))


def call_rcu_sched(fn: Callable[..., Any], *args: Any) -> None:
    """Never sleeps.  Call ``fn(*args)`` in softirq context when today's readers have left."""
    K.left -= 1
    if not K.left:
        K.machine.point("call_rcu", RCU_SCHED)
    call(SchedGracePeriod(fn, args))


def synchronize_rcu_bh() -> None:
    """Sleeps.  For a grace period of ``rcu_bh``."""
    await_period(BhGracePeriod, "synchronize_rcu", RCU_BH)


def synchronize_sched() -> None:
    """Sleeps.  For a grace period of ``rcu_sched``."""
    await_period(SchedGracePeriod, "synchronize_rcu", RCU_SCHED)


def rcu_barrier_bh() -> None:
    """Sleeps.  Until every callback that was given to `call_rcu_bh` before has run."""
    await_callbacks(lambda: pending_of("rcu_bh"), "rcu_barrier", RCU_BH)


def rcu_barrier_sched() -> None:
    """Sleeps.  Until every callback that was given to `call_rcu_sched` before has run."""
    await_callbacks(lambda: pending_of("rcu_sched"), "rcu_barrier", RCU_SCHED)
