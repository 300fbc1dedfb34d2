"""What happened, one record per operation, kept only when a run is traced (a replay, a report).

Scheduling points record themselves (`op`) at the moment they take effect: in a traced run every
point takes the slow path.  What a task enters (`entered`: locks with their mode, interrupts off,
read sections) is recorded from `vfsim.sim.context.enter`, which a traced run always takes.
Releases are no points; a traced lock is given a wait queue (``watch``), so that its release takes
the slow path too and is noted.

Stacks, source lines and what was held are for the reader; they are not part of a trace's identity
(`digest`).
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.sim.context import BH, CLASS_SHIFT, IRQ, NEST, SHARED, SUBCLASS_SHIFT, TRY, LockClass
from vfsim.sim.state import NOBODY

if TYPE_CHECKING:
    from types import FrameType

    from vfsim.sim.context import Ctx, Held
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class Event(NamedTuple):
    """One operation.

    Attributes:
        time: simulated ns.
        task, task_id: who; "" is nobody: the world itself.
        kind: ``enter`` (a lock or a state was asked for and judged), ``leave`` (a state ended),
            ``blocks`` and ``spins`` (a wait begins), ``woken`` (it may end), ``spawn``, ``exit``,
            ``phase``, ``BUG``, or the kind of a scheduling point or a release.
        obj: the label of what it was done to.
        where: ``file:line function`` of the innermost frame above the engine; stack: those around
            it too.
        ref: the object itself, while the trace lives.
        cpu, level: on which CPU, as `TASK`, `SOFTIRQ` or `HARDIRQ`.
        cls, family: of an ``enter``: the name and kind of the lock class.
        how: of an ``enter``: some of "shared", "try", "irq", "bh", "nested" and "subclass N".
        held: the task's held stack at that moment.
    """

    time: int
    task: str
    task_id: str
    kind: str
    obj: str
    where: str
    ref: Any
    stack: tuple[str, ...]
    cpu: int = 0
    level: int = 0
    cls: str = ""
    family: str = ""
    how: tuple[str, ...] = ()
    held: Held | None = None


class Snapshot(NamedTuple):
    """One task at the moment of a bug."""

    task: Task
    state: str
    waits_on: Any
    held: Held | None
    ctx: Ctx
    stack: tuple[str, ...]


_ENGINE = ("vfsim.sim", "vfsim.locks", "vfsim.checks", "vfsim.explore", "greenlet", "simpy")


def is_engine(module: str) -> bool:
    """Whether a module is below the kernel: its frames are left out of call traces."""
    return module.startswith(_ENGINE)


def call_trace(frame: FrameType | None, limit: int = 40) -> tuple[str, ...]:
    """``file:line function`` of each frame above the engine, innermost first."""
    lines: list[str] = []
    while frame is not None and len(lines) < limit:
        module = frame.f_globals.get("__name__", "")
        if not is_engine(module) and frame.f_code.co_filename[:1] != "<":
            name = frame.f_code.co_filename
            short = (
                name[name.rfind("/vfsim/") + 1 :]
                if "/vfsim/" in name
                else name[name.rfind("/") + 1 :]
            )
            function = frame.f_code.co_qualname.replace("<locals>.", "")
            lines.append(f"{short}:{frame.f_lineno} {function}()")
        frame = frame.f_back
    return tuple(lines)


def stack_of(task: Task) -> tuple[str, ...]:
    """The call trace of a task that does not run."""
    return () if task.g is None else call_trace(task.g.gr_frame)


_WORDS = ((SHARED, "shared"), (TRY, "try"), (IRQ, "irq"), (BH, "bh"), (NEST, "nested"))


def how_of(key: int) -> tuple[str, ...]:
    """The mode bits and the subclass of a context key, in words."""
    words = [word for bit, word in _WORDS if key & bit]
    subclass = key >> SUBCLASS_SHIFT & 7
    return (*words, f"subclass {subclass}") if subclass else tuple(words)


class Trace:
    """The record of one run.

    Attributes:
        events: in order.
        references: for every reference taken or put: the object's label, the event number at that
            moment, the task's name, +1 or -1, why, and the call trace.
        bugs: every task, by the number of each ``BUG`` event.
    """

    def __init__(self, *, stacks: bool = True) -> None:
        self.events: list[Event] = []
        self.references: list[tuple[str, int, str, int, str, tuple[str, ...]]] = []
        self.bugs: dict[int, list[Snapshot]] = {}
        self.stacks = stacks
        self.closed = False  # the world is being buried: its last words are not recorded
        self._labels: dict[int, str] = {}
        self._keep: list[Any] = []
        self._seen: dict[str, int] = {}
        self._judged: dict[Ctx, None] = {}

    def label(self, obj: Any) -> str:
        """A name for an object, the same in every run: its class's and the order of first sight."""
        if obj is None:
            return ""
        if isinstance(obj, str):
            return obj
        found = self._labels.get(id(obj))
        if found is None:
            base = getattr(obj, "name", None) or type(obj).__name__
            n = self._seen[base] = self._seen.get(base, 0) + 1
            found = self._labels[id(obj)] = base if n == 1 else f"{base}#{n}"
            self._keep.append(obj)  # keeps id() from being reused while the trace lives
        return found

    def op(self, task: Task, kind: str, obj: Any) -> None:
        """An operation is about to be done, and nothing comes in between."""
        if obj is not None and hasattr(obj, "watch"):
            obj.watch()
        self.note(task, kind, obj)

    def entered(self, task: Task, found: Ctx, obj: Any) -> bool:
        """A task enters the context ``found`` with ``obj``, a lock or a state; True the first
        time.
        """
        cls = LockClass.all[found.key >> CLASS_SHIFT]
        self.note(task, "enter", obj, cls.name, cls.kind, how_of(found.key))
        if found in self._judged:
            return False
        self._judged[found] = None
        return True

    def bug(self, machine: Machine, task: Task, violation: Any) -> None:
        """A rule was broken: note it, and what every task is doing."""
        self.note(task, "BUG", violation)
        stack = self.events[-1].stack
        self.bugs[len(self.events) - 1] = [
            Snapshot(t, t.state, t.waits_on, t.held, t.ctx, stack if t is task else stack_of(t))
            for t in machine.tasks
        ]

    def note(
        self,
        task: Task,
        kind: str,
        obj: Any,
        cls: str = "",
        family: str = "",
        how: tuple[str, ...] = (),
    ) -> None:
        """Something happened."""
        if self.closed:
            return
        stack = call_trace(sys._getframe(1)) if self.stacks else ()
        where = stack[0] if stack else ""
        label = (
            obj.describe(self)
            if hasattr(obj, "describe")
            else obj.rule
            if kind == "BUG"
            else self.label(obj)
        )
        if task is NOBODY:
            self.events.append(Event(0, "", "", kind, label, where, obj, stack))
            return
        self.events.append(
            Event(
                task.machine.now, task.name, task.id, kind, label, where, obj, stack,
                task.cpu.index, task.kind, cls, family, how, task.held,
            )
        )  # fmt: skip

    def digest(self) -> str:
        """A hash of (task, kind, object) of every event: the identity of the run."""
        h = hashlib.sha256()
        for event in self.events:
            if event.kind != "BUG":
                h.update(f"{event.task_id}|{event.kind}|{event.obj}\n".encode())
        return h.hexdigest()
