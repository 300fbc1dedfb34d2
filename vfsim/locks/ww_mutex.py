"""The wound/wait mutex: many of one class, taken in any order, without deadlock.

Who wants several of a `WwClass` opens a *context*, which gives it a place in time (a stamp), and
takes the mutexes with it.  Where two contexts want what the other has, the younger one is told
EDEADLK.  It lets go of everything, waits for the mutex it could not have (`lock_slow`), and takes
the others again; the older one goes on::

    ctx = WwContext(ww_class)
    ctx.init()
    try:
        for lock in wanted:
            lock.lock(ctx)                      # OSError(EDEADLK): back off, lock_slow(), again
        ctx.done()                              # no more will be taken
        ...
    finally:
        for lock in taken: lock.unlock()
        ctx.fini()

States of a context: init → taking (⇄ backing off, ``contending``) → done → fini.  As in v4.10 the
younger one dies rather than wounding (wait-die): it gets EDEADLK when it holds something and would
wait for an older one, whether or not that one waits for it.  Without a context a ww mutex is a
mutex like any other.

Breaking the protocol (a lock after `WwContext.done`, another mutex after EDEADLK, a context of
another class ...) is told to the judge, as Linux warns with ``CONFIG_DEBUG_MUTEXES``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vfsim.locks.common import Classed
from vfsim.locks.mutex import Mutex, overtaken
from vfsim.sim.context import LockClass, enter, nested_under, release
from vfsim.sim.scheduler import block
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task


class WwClass:
    """A family of ww mutexes that are taken together (Linux: ``struct ww_class``).

    Args:
        name: its mutexes are of lock class ``<name>_mutex``, its contexts of ``<name>_acquire``.
    """

    __slots__ = ("key", "name")

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"a ww class needs the name of its class, a string, got {name!r}")
        self.name = name
        self.key = LockClass.get(f"{name}_acquire", "ww_acquire").key

    def stamp(self) -> int:
        """Never sleeps.  The next place in time."""
        stamps: dict[str, int] = K.machine.data.setdefault("ww stamps", {})
        stamps[self.name] = stamp = stamps.get(self.name, 0) + 1
        return stamp


class WwContext(Classed):
    """One task's taking of several mutexes (Linux: ``struct ww_acquire_ctx``).

    Attributes:
        stamp: its place in time: lower is older and wins.
        acquired: how many mutexes it has.  contending: the one it could not have.
        finished: `done` was called.
    """

    __slots__ = ("acquired", "contending", "finished", "key", "owner", "stamp", "ww_class")
    is_pin = False

    def __init__(self, ww_class: WwClass) -> None:
        self.ww_class: WwClass | None = ww_class
        self.key = ww_class.key
        self.owner: Task | None = None
        self.stamp = self.acquired = 0
        self.contending: WwMutex | None = None
        self.finished = False

    def init(self) -> None:
        """Never sleeps.  Begin.  For the order rules a context is a lock around its mutexes."""
        t = K.cur
        assert self.ww_class is not None
        self.stamp = self.ww_class.stamp()
        self.acquired = 0
        self.contending = None
        self.finished = False
        try:
            t.ctx = t.ctx.next[self.key]
        except KeyError:
            t.ctx = enter(t.ctx, self.key, self)
        t.held = (self, t.held)
        self.owner = t

    def done(self) -> None:
        """Never sleeps.  Say that no more mutexes will be taken.  Optional."""
        if self.owner is not K.cur:
            _misused(self, "calls done() of a context that it has not begun")
        if self.finished:
            _misused(self, "calls done() twice")
        self.finished = True

    def fini(self) -> None:
        """Never sleeps.  End; every mutex must have been released."""
        t = K.cur
        if not release(t, self):
            return
        self.owner = None
        if self.acquired:
            _misused(self, f"ends it with {self.acquired} of its mutexes locked")

    def __enter__(self) -> WwContext:
        self.init()
        return self

    def __exit__(self, *exc: object) -> None:
        self.fini()

    def __repr__(self) -> str:
        who = self.owner.name if self.owner is not None else "nobody"
        return f"<{self.name} of {who}, stamp {self.stamp}, has {self.acquired}>"


class WwMutex(Mutex):
    """A mutex that can be one of many (Linux: ``struct ww_mutex``).

    Args:
        ww_class: the family it belongs to.

    Attributes:
        ctx: the context that has it, if one does.
    """

    __slots__ = ("_contexts", "ctx", "ww_class")

    def __init__(self, ww_class: WwClass) -> None:
        Mutex.__init__(self, f"{ww_class.name}_mutex")
        self.ww_class = ww_class
        self.ctx: WwContext | None = None
        self._contexts: dict[Task, WwContext] = {}

    def lock(self, ctx: WwContext | None = None) -> None:  # type: ignore[override]
        """Sleeps.  Take the mutex, for a context if one is given.

        Raises:
            OSError: EALREADY: the context has it.  EDEADLK: an older context has it, and this one
                has others: release them all, then `lock_slow`.
        """
        if ctx is None:
            Mutex.lock(self)
            return
        if self.ctx is ctx:
            raise OSError(errno.EALREADY, f"{self.name} is taken by this context")
        K.left -= 1
        if not K.left:
            K.machine.point("lock", self)
        t = K.cur
        key = self.key | nested_under(t, self, ctx)
        try:
            c = t.ctx.next[key]
        except KeyError:
            c = enter(t.ctx, key, self)
        if self.owner is not None:
            self._contend(t, ctx)
        self.owner = t
        t.ctx = c
        t.held = (self, t.held)
        self._belongs_to(ctx)

    def lock_slow(self, ctx: WwContext) -> None:
        """Sleeps.  Take the mutex that gave EDEADLK, when everything else is released.

        Raises:
            OSError: EALREADY: the context has it.  EDEADLK: it has others still.
        """
        if ctx.contending is None:
            _misused(ctx, f"waits for {self.name} with lock_slow(), and had no EDEADLK")
        self.lock(ctx)

    def unlock(self) -> None:
        """Never sleeps.  Let go, and wake one waiter."""
        ctx = self.ctx
        if ctx is not None:
            if not ctx.acquired:
                _misused(ctx, f"releases {self.name}, which the context has not counted")
            else:
                ctx.acquired -= 1
            self.ctx = None
        Mutex.unlock(self)

    def _belongs_to(self, ctx: WwContext) -> None:
        """The mutex was taken for ``ctx``; those who wait look whether they may go on waiting."""
        if self.ctx is not None:
            _misused(ctx, f"takes {self.name}, which a context has that does not hold it")
        if ctx.finished:
            _misused(ctx, f"takes {self.name} after done()")
        if ctx.contending is not None:
            if ctx.contending is not self:
                _misused(ctx, f"takes another {self.name} than the one that gave EDEADLK")
            elif ctx.acquired:
                _misused(ctx, f"takes {self.name} after EDEADLK without releasing the others")
            ctx.contending = None
        if ctx.ww_class is not self.ww_class:
            _misused(ctx, f"takes {self.name}, which is of another class")
        ctx.acquired += 1
        self.ctx = ctx
        for task in self._contexts:
            K.machine.wake(task)

    def _contend(self, t: Task, ctx: WwContext) -> None:
        """Sleep until it is free or handed over, unless an older context has it."""
        self._contexts[t] = ctx
        try:
            self._may_wait(ctx)
            self._queue().append(t)
            block(self)
            while self.owner is not None and self.owner is not t:
                self._may_wait(ctx)
                self._queue_again(t)
                block(self)
            t.woken = None
        finally:
            del self._contexts[t]
            if self.waiters and t in self.waiters:
                self.waiters.remove(t)

    def _queue_again(self, t: Task) -> None:
        """Whoever was woken for the mutex and overtaken is served next."""
        line = self._queue()
        if t not in line:
            t.woken = self
            line.insert(overtaken(line, self), t)

    def _may_wait(self, ctx: WwContext) -> None:
        """Wait-die: who has something does not wait for somebody older."""
        other = self.ctx
        if other is None or not ctx.acquired or ctx.stamp <= other.stamp:
            return
        if ctx.contending is not None:
            _misused(ctx, f"wants {self.name} after EDEADLK, and has released nothing")
        ctx.contending = self
        raise OSError(errno.EDEADLK, f"an older context has {self.name}")


def _misused(ctx: WwContext, what: str) -> None:
    K.machine.judge.misused(K.cur, ctx, "ww-mutex", what)
