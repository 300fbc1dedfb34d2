"""What code inside a task calls to wait, to sleep, or to say that it might.

`block` and `spin` are the only ways to wait; both end in `Machine.schedule`, the one function that
suspends. Locks and wait queues put the task on a queue of their own first; whoever wakes it calls
`Machine.wake`.
"""

from __future__ import annotations

from typing import Any

from vfsim.sim.clock import NSEC_PER_MSEC
from vfsim.sim.cpu import quiescent
from vfsim.sim.errors import Misuse
from vfsim.sim.state import K
from vfsim.sim.task import BLOCKED, SPINNING, Task


def block(obj: Any) -> None:
    """Sleeps.  Leave the CPU, waiting for ``obj``, until somebody calls ``machine.wake(task)``."""
    me = K.cur
    machine = K.machine
    if me.ctx.nosleep:
        _not_now(me, obj)
    if me.rcu_waits is not None:
        quiescent(me)
    me.state = BLOCKED
    me.waits_on = obj
    if machine.trace is not None:
        machine.trace.note(me, "blocks", obj)
    machine.judge.waiting(me, obj)
    machine.schedule(me)


def _not_now(me: Task, obj: Any) -> None:
    """The caller is about to sleep where sleeping is forbidden."""
    machine = K.machine
    machine.judge.sleeping(me, obj)
    if me is machine.clock:
        raise Misuse("a clock callback may not sleep: it can only wake tasks and post interrupts")


def spin(obj: Any) -> None:
    """Sleeps.  Wait for ``obj`` on the CPU until somebody calls ``machine.wake(task)``."""
    me = K.cur
    machine = K.machine
    if me is machine.clock:
        raise Misuse(
            "a clock callback may not wait for a lock: it can only wake tasks and post interrupts"
        )
    me.state = SPINNING
    me.waits_on = obj
    if machine.trace is not None:
        machine.trace.note(me, "spins", obj)
    machine.judge.waiting(me, obj)
    machine.schedule(me)


def might_sleep() -> None:
    """Never sleeps.  Say that the caller may sleep here: in atomic context that alone is a bug."""
    me = K.cur
    if me.ctx.nosleep:
        K.machine.judge.sleeping(me, None)


def cond_resched() -> None:
    """Sleeps.  A point at which others may run."""
    might_sleep()
    if K.cur.rcu_waits is not None:
        quiescent(K.cur)
    K.left -= 1
    if not K.left:
        K.machine.point("resched", None)


_YIELD = ("yield", None)


def cpu_relax() -> None:
    """Never sleeps.  The caller tries again and again what somebody else has to make possible: let
    others run first.

    It is no promise that they do what is needed; who spins for ever is found as such, by its steps.
    """
    me = K.cur
    machine = K.machine
    K.left = left = K.left - 1  # a step; whoever is picked gets a new countdown
    if not left and machine.final:
        machine.out_of_steps(me)
    me.pending = _YIELD
    machine.rq.append(me)
    machine.schedule(me)


def yield_() -> None:
    """Sleeps.  Give the CPU to whoever else can run; does not let time pass."""
    me = K.cur
    if me.ctx.nosleep:
        K.machine.judge.sleeping(me, None)
    if me.rcu_waits is not None:
        quiescent(me)
    cpu_relax()


class _Sleep:
    """What a task in `schedule_timeout` waits for."""

    owner = None
    name = "its timer"

    def __repr__(self) -> str:
        return self.name


TIMER = _Sleep()


def schedule_timeout(ns: int) -> None:
    """Sleeps.  For ``ns`` nanoseconds of simulated time."""
    me = K.cur
    machine = K.machine
    if ns < 0:
        raise ValueError(f"cannot sleep for {ns} ns")
    me.timer = machine.at(machine.env._now + ns, me)
    block(TIMER)


def msleep(ms: int) -> None:
    """Sleeps.  For ``ms`` milliseconds of simulated time."""
    schedule_timeout(ms * NSEC_PER_MSEC)


def wake(task: Task) -> None:
    """Never sleeps.  Wake a task from a timer, a wait queue or a `block` (``wake_up_process``).

    One that waits for a lock goes on waiting, as its loop in Linux would.
    """
    K.left -= 1
    if not K.left:
        K.machine.point("wake", task)
    if task.state is BLOCKED and not hasattr(task.waits_on, "key"):
        K.machine.wake(task)
