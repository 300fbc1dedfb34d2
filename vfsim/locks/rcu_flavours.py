"""The read sides of the two older kinds of RCU, bh and sched.

====================  ==================  =======================================================
section               turns off           inside, a real-time kernel could take
====================  ==================  =======================================================
`rcu_read_lock`       nothing             a spinlock  (`vfsim.locks.rcu`)
`rcu_read_lock_bh`    softirqs            a spinlock
`rcu_read_lock_sched` preemption          a raw spinlock
====================  ==================  =======================================================

In v4.10 each has grace periods of its own, which are not built: `vfsim.locks.rcu` waits for its own
readers only.
"""

from __future__ import annotations

from vfsim.sim.context import RCU_BH, RCU_SCHED
from vfsim.sim.cpu import pop, push
from vfsim.sim.state import K


def rcu_read_lock_bh() -> None:
    """Never sleeps.  Enter a section in which no softirq runs on this CPU.  Nests."""
    push(RCU_BH)


def rcu_read_unlock_bh() -> None:
    """Never sleeps.  Undo one `rcu_read_lock_bh`; pending softirqs may come at once."""
    pop(RCU_BH)
    K.left -= 1
    if not K.left:
        K.machine.point("bh on", None)


def rcu_read_lock_sched() -> None:
    """Never sleeps.  Enter a section that keeps this CPU.  Nests."""
    push(RCU_SCHED)


def rcu_read_unlock_sched() -> None:
    """Never sleeps.  Undo one `rcu_read_lock_sched`."""
    pop(RCU_SCHED)
    K.left -= 1
    if not K.left:
        K.machine.point("preempt on", None)
