"""Sleepable RCU: read sections of one domain, in which readers may sleep.

The typical sequence::

    reader:   idx = domain.read_lock(); ... may sleep ...; domain.read_unlock(idx)
    updater:  old, table.pointer = table.pointer, new; domain.synchronize(); free(old)

Each domain has its own readers, so that one with slow readers holds up nobody else; and because its
readers sleep, waiting for them while holding what they need, or inside a section, is a deadlock,
which the wait-for graph names.

A grace period waits for the sections (not the tasks) of its moment.  ``read_lock`` returns the
index of the period in which it began, 0 or 1, which `Srcu.read_unlock` must be given: of a task's
sections with the same index the innermost ends first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.locks.rcu import GracePeriod, Pending, await_callbacks, await_period, call
from vfsim.sim.context import LockClass, enter, release
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.sim.task import Task


@attrs.define(eq=False)
class _Section:
    """One read section: its index, and the grace periods that wait for its end."""

    index: int
    periods: list[SrcuGracePeriod] = attrs.Factory(list)


class SrcuGracePeriod(GracePeriod):
    """A wait for the sections of a domain; ``readers`` has how many of each task."""

    __slots__ = ("domain",)

    def __init__(
        self, domain: Srcu, fn: Callable[..., Any] | None = None, args: tuple[Any, ...] = ()
    ) -> None:
        self.domain = domain
        super().__init__(fn, args)

    def look(self) -> None:
        """Never sleeps.  Note the sections of this moment; those that begin now are others."""
        self.domain.completed += 1
        for task, sections in self.domain.readers.items():
            self.readers[task] = len(sections)
            for section in sections:
                section.periods.append(self)

    def left(self, task: Task) -> bool:
        """Never sleeps.  One section of the task has ended."""
        self.readers[task] -= 1
        if not self.readers[task]:
            self.forget(task)
        return True

    def pending(self) -> Pending:
        """Never sleeps.  The callbacks of the domain that have not run."""
        return self.domain.callbacks

    def __repr__(self) -> str:
        names = ", ".join(t.name for t in self.readers) or "nobody"
        return f"<grace period of {self.domain.name}, waits for {names}>"


class Srcu:
    """A domain of sleepable RCU (Linux: ``struct srcu_struct``).

    Args:
        name: for reports; `cleanup` ends it.

    Attributes:
        readers: the sections of each task.  completed: how many grace periods have begun.
    """

    __slots__ = ("callbacks", "completed", "key", "name", "readers")
    is_pin = False
    owner = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = LockClass.get(name, "srcu").key
        self.completed = 0
        self.readers: dict[Task, list[_Section]] = {}
        self.callbacks: Pending = {}

    def read_lock(self) -> int:
        """Never sleeps.  Enter a section; returns what `read_unlock` must be given."""
        K.left -= 1
        if not K.left:
            K.machine.point("srcu_read_lock", self)
        t = K.cur
        try:
            t.ctx = t.ctx.next[self.key]
        except KeyError:
            t.ctx = enter(t.ctx, self.key, self)
        t.held = (self, t.held)
        index = self.completed & 1
        self.readers.setdefault(t, []).append(_Section(index))
        return index

    def read_unlock(self, index: int) -> None:
        """Never sleeps.  Leave the section that began with ``index``.

        Raises:
            ValueError: ``index`` is nothing that `read_lock` returns.
        """
        if index not in (0, 1):
            raise ValueError(f"read_unlock() takes what read_lock() returned, got {index!r}")
        t = K.cur
        h = t.held
        section = next((s for s in self._innermost(t) if s.index == index), None)
        if section is None:
            K.machine.judge.not_held(t, self)
            return
        if h is not None and h[0] is self:
            t.held = h[1]
            t.ctx = t.ctx.parent
        elif not release(t, self):
            return
        self.end(t, section)

    def end(self, t: Task, section: _Section) -> None:
        """Never sleeps.  A section is over: forget it, and tell the grace periods."""
        self.readers[t].remove(section)
        if not self.readers[t]:
            del self.readers[t]
        if K.trace is not None:
            K.trace.note(t, "srcu_read_unlock", self)
        for period in section.periods:
            period.left(t)

    def _innermost(self, t: Task) -> Iterator[_Section]:
        return reversed(self.readers.get(t, ()))

    def call(self, fn: Callable[..., Any], *args: Any) -> None:
        """Never sleeps.  Call ``fn(*args)`` after a grace period (``call_srcu``).

        In softirq context, where Linux has a work queue's thread with softirqs off: in neither may
        it sleep.
        """
        K.left -= 1
        if not K.left:
            K.machine.point("call_srcu", self)
        call(SrcuGracePeriod(self, fn, args))

    def synchronize(self) -> None:
        """Sleeps.  Until every section of this moment has ended (``synchronize_srcu``)."""
        await_period(lambda: SrcuGracePeriod(self), "synchronize_srcu", self)

    def barrier(self) -> None:
        """Sleeps.  Until every callback given to `call` before has run (``srcu_barrier``)."""
        await_callbacks(lambda: self.callbacks, "srcu_barrier", self)

    def cleanup(self) -> None:
        """Never sleeps.  The domain goes away: nobody may be inside (``cleanup_srcu_struct``)."""
        if self.readers or self.callbacks:
            K.machine.judge.corrupt(K.cur, self, f"the domain is cleaned up in use: {self!r}")

    def read_lock_held(self) -> bool:
        """Never sleeps.  Whether the caller is in a section of this domain."""
        return K.cur in self.readers

    def reading(self) -> _Reading:
        """``with domain.reading():`` is a read section."""
        return _Reading(self)

    def is_locked(self) -> bool:
        """Never sleeps.  Whether anybody reads."""
        return bool(self.readers)

    def statistics(self) -> dict[str, Any]:
        """The readers' names, the grace periods so far and how many callbacks are to come."""
        return {
            "readers": [t.name for t in self.readers],
            "completed": self.completed,
            "callbacks": len(self.callbacks),
        }

    def __repr__(self) -> str:
        names = ", ".join(t.name for t in self.readers) or "nobody"
        return f"<Srcu {self.name}, read by {names}, {len(self.callbacks)} callbacks>"


class _Reading:
    """A read section as a context manager."""

    __slots__ = ("domain", "index")

    def __init__(self, domain: Srcu) -> None:
        self.domain = domain

    def __enter__(self) -> None:
        self.index = self.domain.read_lock()

    def __exit__(self, *exc: object) -> None:
        self.domain.read_unlock(self.index)


def srcu_read_lock(domain: Srcu) -> int:
    """Never sleeps.  As `Srcu.read_lock`."""
    return domain.read_lock()


def srcu_read_unlock(domain: Srcu, index: int) -> None:
    """Never sleeps.  As `Srcu.read_unlock`."""
    domain.read_unlock(index)


def synchronize_srcu(domain: Srcu) -> None:
    """Sleeps.  As `Srcu.synchronize`."""
    domain.synchronize()


def call_srcu(domain: Srcu, fn: Callable[..., Any], *args: Any) -> None:
    """Never sleeps.  As `Srcu.call`."""
    domain.call(fn, *args)


def srcu_barrier(domain: Srcu) -> None:
    """Sleeps.  As `Srcu.barrier`."""
    domain.barrier()
