"""A switch between a fast and a slow path, which readers look at without a lock.

States: idle (readers take their fast path) → pending (a writer has come, and waits for those who
looked before) → passed (every reader takes its slow path) → idle, a grace period after the last
writer has left.  A writer that comes while it is passed waits for nothing.

The typical sequence::

    reader:  preempt_disable(); fast if sync.idle else slow; preempt_enable()
    writer:  sync.enter(); ... sync.exit()

Looking and acting upon it must be one section with preemption off: that is what the grace period
waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.locks.rcu_flavours import call_rcu_sched, synchronize_sched
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task

IDLE, PENDING, PASSED = "idle", "pending", "passed"


class RcuSync:
    """Whether writers are about (Linux: ``struct rcu_sync``, of v4.10, for ``rcu_sched``).

    Args:
        name: for reports.

    Attributes:
        state: one of the three above.  writers: how many are inside.
        first: the one that waits for the grace period.
        leaving: a callback is on its way that will make it idle; again: it has come too late, for
            another writer came and went meanwhile.
    """

    __slots__ = ("again", "first", "leaving", "queue", "state", "writers")

    def __init__(self, name: str) -> None:
        self.state = IDLE
        self.writers = 0
        self.leaving = self.again = False
        self.first: Task | None = None
        self.queue = WaitQueue(f"rcu_sync of {name}")

    @property
    def idle(self) -> bool:
        """Whether readers may take the fast path (``rcu_sync_is_idle``)."""
        return self.state == IDLE

    def enter(self) -> None:
        """Sleeps.  From its return every reader takes the slow path, until `exit`."""
        self.writers += 1
        if self.state == IDLE:
            self.state = PENDING
            self.first = K.cur
            synchronize_sched()
            self.state = PASSED
            self.queue.wake_up_all()
        elif self.state == PENDING:
            self.queue.wait_event(lambda: self.state == PASSED, owner=self.first)

    def exit(self) -> None:
        """Never sleeps.  A writer leaves; after the last one readers become fast again, later."""
        self.writers -= 1
        if not self.writers:
            if self.leaving:
                self.again = True
            else:
                self.leaving = True
                call_rcu_sched(self._settle)

    def _settle(self) -> None:
        """The callback, a grace period after the last writer has left."""
        if self.writers:
            self.leaving = self.again = False
        elif self.again:
            self.again = False
            call_rcu_sched(self._settle)
        else:
            self.leaving = False
            self.state = IDLE

    def __repr__(self) -> str:
        return f"<RcuSync {self.state}, {self.writers} writers>"
