"""Completions: wait until somebody says that something is done.

States: not done → done once per `complete` (each lets one waiter through) or for all
(`complete_all`) → `reinit`. The typical sequence::

    waiter:   done = Completion("bio"); submit(bio, done); done.wait()
    finisher: done.complete()                    # also from an interrupt

Unlike a bare sleep nothing is lost if `complete` comes first: it is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.state import INF, K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

    Who = Task | Callable[[], Task | None] | None


class Completion:
    """Something that will be done (Linux: ``struct completion``).

    Args:
        name: what is waited for, for reports.
        owner: who must complete it, or a function that tells, for the report of a hang.
    """

    __slots__ = ("count", "name", "queue", "who")

    def __init__(self, name: str, owner: Who = None) -> None:
        self.name = name
        self.count = 0
        self.who = owner
        self.queue = WaitQueue(name)

    def wait(self, owner: Who = None, idle: bool = False) -> None:
        """Sleeps.  Until it is completed; uses up one `complete`.

        Args:
            owner: who must complete it, if not the completion's own ``owner``.
            idle: this is a kernel thread's normal sleep.
        """
        self.queue.wait_event(self._ready, owner or self.who, idle, exclusive=True)
        self._use()

    def wait_timeout(self, ns: int) -> bool:
        """Sleeps.  As `wait`, for at most ``ns`` nanoseconds; returns whether it was completed."""
        ready = self.queue.wait_event_timeout(self._ready, ns, self.who, exclusive=True)
        if ready:
            self._use()
        return ready

    def try_wait(self) -> bool:
        """Never sleeps.  Use up one `complete` if there is one; returns whether there was."""
        K.left -= 1
        if not K.left:
            K.machine.point("trylock", self.queue)
        ready = self.count > 0
        if ready:
            self._use()
        return ready

    def complete(self) -> None:
        """Never sleeps.  Let one waiter through, now or later."""
        K.left -= 1
        if not K.left:
            K.machine.point("complete", self.queue)
        if self.count < INF:
            self.count += 1
        self.queue.wake_now(1)

    def complete_all(self) -> None:
        """Never sleeps.  Let everybody through, until `reinit`."""
        K.left -= 1
        if not K.left:
            K.machine.point("complete", self.queue)
        self.count = INF
        self.queue.wake_now(INF)

    def reinit(self) -> None:
        """Never sleeps.  Not done again; only while nobody waits."""
        if self.queue.waiters:
            K.machine.judge.corrupt(K.cur, self, f"reinit() while somebody waits: {self!r}")
        self.count = 0

    def _ready(self) -> bool:
        return self.count > 0

    def _use(self) -> None:
        if self.count < INF:
            self.count -= 1

    @property
    def done(self) -> bool:
        """Whether a `wait` would return at once."""
        return self.count > 0

    @property
    def owner(self) -> Task | None:
        """Who must complete it, if known."""
        return self.who() if callable(self.who) else self.who

    def is_locked(self) -> bool:
        """Never sleeps.  Whether a `wait` would sleep."""
        return self.count == 0

    def statistics(self) -> dict[str, Any]:
        """How many completions are left over and how many tasks wait."""
        return {"done": "all" if self.count >= INF else self.count, **self.queue.statistics()}

    def __repr__(self) -> str:
        state = (
            "done for all"
            if self.count >= INF
            else f"done {self.count} times"
            if self.count
            else "not done"
        )
        return f"<Completion {self.name}, {state}, {len(self.queue.waiters)} waiting>"
