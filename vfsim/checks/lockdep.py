"""Lock order, judged: what `vfsim.checks.orders` finds becomes a violation with both its sides.

The engine asks `Lockdep.entering` the first time that a world enters a situation: a chain of held
classes, modes and interrupt states. The verdicts:

=================== ==============================================================================
recursion           a class is taken that the task holds (same subclass), unless both sides may
                    read recursively or a nest lock keeps those apart who do so
circular            taking B inside A, when this world has seen a chain of orders from B to A
irq-inversion       an interrupt takes a class that leads to one held elsewhere with interrupts on
sleep-in-atomic     a lock that may sleep is taken where nothing may (`vfsim.checks.judge` says it)
instance-order      a further lock of a class is taken against `vfsim.checks.instances`
wait-context        a spinlock is taken where only raw ones may be (``Rules(raw_nesting=True)``)
=================== ==============================================================================

A trylock waits for nobody, so it gets no order from what is held, but what is taken inside it does.

For each transition the world keeps who made it first (`Entry`); with a trace, also where. Blame
goes to whoever made an edge of the cycle and is not the kernel: the frame that took the inner lock,
or the one that held the outer.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from vfsim.checks.blame import KERNEL, Culprit, blame, crossed, owner_of, short
from vfsim.checks.history import calls, chain, holds, mode, taken
from vfsim.checks.instances import out_of_order, whose
from vfsim.checks.orders import Known, Order
from vfsim.checks.steps import (
    CONTEXTS,
    DEFAULT,
    HARD,
    Edge,
    Rules,
    Step,
    identity,
    name_of,
    nest,
)
from vfsim.sim.context import CLASS_SHIFT, SHARED, SUBCLASS_SHIFT, TRY, LockClass, key_name
from vfsim.sim.errors import Violation
from vfsim.sim.state import K
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from vfsim.sim.context import Ctx, Held
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

Finding = tuple[str, ...]

KNOWN: dict[Rules, Known] = {}
"""What every world of this process has shown so far, by the rules it was judged by."""


class Entry(NamedTuple):
    """Who made a transition first in this world.

    Attributes:
        held: the task's held stack then.
        code: of the innermost frame above the engine.
        at: the number of the event in the trace, or -1.
    """

    lock: Any
    task: Task
    held: Held | None
    code: CodeType
    at: int


_entry = partial(tuple.__new__, Entry)
"""Makes one of a tuple; the constructor of a named tuple takes four times as long."""


class Lockdep:
    """The order checker of one world.

    Args:
        rules: which generation of lockdep to follow.

    Attributes:
        entries: who made each transition first, in order.
        findings: every verdict in words that a program can compare, in order.
        steps: every transition, in order.
    """

    def __init__(self, machine: Machine, rules: Rules = DEFAULT) -> None:
        self.machine = machine
        self.known = KNOWN.get(rules) or KNOWN.setdefault(rules, Known(rules))
        self.entries: dict[Ctx, Entry] = {}
        self.findings: list[Finding] = []
        self.steps: list[Step] = []
        self._added = 0
        self._order = Order(rules)

    # -- the seam ----------------------------------------------------------------------------------

    def entering(self, node: Ctx, key: int, lock: Any) -> None:
        """Never sleeps.  The seam: a situation is entered for the first time in this world."""
        found = node.cold[key]
        task = K.cur
        trace = K.trace
        frame = sys._getframe(3)  # whoever called the lock's method
        code = frame.f_code
        if not _MODULES.get(code):
            code = _outside(frame)
        at = -1 if trace is None else len(trace.events) - 1
        self.entries[found] = _entry((lock, task, task.held, code, at))
        step = self.known.entry(found)
        self.steps.append(step)
        if node.nosleep and LockClass.all[key >> CLASS_SHIFT].sleeps and not key & TRY:
            self.machine.judge.sleeping(task, lock)
        if step.again is not None:
            self._recursion(task, step, lock)
        if step.forbids is not None:
            self._too_deep(task, step)
        if (step.epoch != self.known.epoch and not self.known.look(step)) or not step.clean:
            self._judge(step)

    def exposed(self, task: Task) -> None:
        """Never sleeps.  Interrupts came back on while a task holds what it took with them off."""
        found = task.ctx
        step = self.known.exposure(found)
        self.steps.append(step)
        if not self.known.look(step):
            self._judge(step)

    def further(self, task: Task, key: int, lock: Any) -> None:
        """Never sleeps.  A further lock of a class is taken: is it the turn of this one?"""
        found = out_of_order(task, key, lock)
        if found is None:
            return
        outer, why = found
        name = key_name(key)
        self.findings.append(("instance-order", identity(key >> SUBCLASS_SHIFT)))
        lines = [f"{name} is the lock of {whose(lock)!r}"]
        for held, ctx in chain(task.held, task.ctx):
            if held is outer:
                at = self._place(task, held, ctx)
                lines.append(f"{key_name(ctx.key)} is the lock of {whose(held)!r}{at}")
        culprit = blame(task, sys._getframe(2))
        summary = f"{task.name} takes two locks of class {name.partition('/')[0]} in wrong order"
        self._record("lockdep.instance-order", culprit, f"{summary}: {why}", lines, why)

    def _judge(self, step: Step) -> None:
        """The union of all worlds is not sure: decide by this world's own graph."""
        order = self._order
        for earlier in self.steps[self._added : -1]:
            order.add(earlier)
        self._added = len(self.steps)
        closing, fresh = order.judge(step)
        self.findings += [("circular", identity(e.held), identity(e.new)) for e, _ in closing]
        self.findings += [
            ("irq-inversion", CONTEXTS[c], identity(p[0]), identity(p[-1])) for c, p in fresh
        ]
        if closing:
            self._circular(step, *min(closing, key=lambda found: len(found[1])))
        if fresh:
            self._inversion(*min(fresh, key=lambda found: len(found[1])))

    # -- verdicts ----------------------------------------------------------------------------------

    def _recursion(self, task: Task, step: Step, lock: Any) -> None:
        """The same class again.  If it is the same lock, the wait that follows says so."""
        key = step.found.key
        name = name_of(step.bit)
        self.findings.append(("recursion", identity(step.bit)))
        if holds(task.held, lock) and not (key & SHARED and lock.owner is not task):
            return
        culprit = blame(task, sys._getframe(2))
        assert step.again is not None
        outer = next(
            (entry for entry, ctx in chain(task.held, step.found.parent) if ctx is step.again), None
        )
        if culprit.owner == KERNEL:
            culprit = crossed(task.held, outer) or culprit
        lines = [
            f"{task.name} holds {name}{mode(step.again.key)}{self._place(task, outer, step.again)}",
            f"{task.name} wants {'it' if outer is lock else 'another of that class'}{mode(key)}",
        ]
        if key & SHARED and outer is lock:
            lines.append(
                "a writer that queues in between stops the second read, and waits for the first"
            )
        else:
            lines.append(
                "a task that takes them the other way round waits for this one, and this one for it"
            )
            lines.append("if a rule fixes their order, say so: lock(subclass=1) for the inner one")
        what = (
            "again while it holds it"
            if outer is lock
            else "while it holds another lock of that class"
        )
        self._record("lockdep.recursion", culprit, f"{task.name} takes {name} {what}", lines, name)

    def _too_deep(self, task: Task, step: Step) -> None:
        """A lock that sleeps on a real-time kernel is taken where only raw spinlocks may be."""
        assert step.forbids is not None
        name, inside = name_of(step.bit), LockClass.all[step.forbids.key >> CLASS_SHIFT].name
        self.findings.append(("wait-context", identity(step.bit), inside))
        culprit = blame(task, sys._getframe(2))
        lines = [f"{name} is a spinlock, which sleeps on a real-time kernel; {inside} forbids that"]
        summary = f"{task.name} takes {name} inside {inside}"
        self._record("lockdep.wait-context", culprit, summary, lines, f"{name} {inside}")

    def _circular(self, step: Step, edge: Edge, back: list[int]) -> None:
        """An edge closes a cycle.  Tell every edge of it, the closing one first."""
        cycle = [(edge.held, edge.new, step)]
        cycle += [(a, b, self._order.first[a, b]) for a, b in pairwise(back)]
        held, new = name_of(edge.held), name_of(edge.new)
        lines = []
        for a, b, made in cycle:
            lines += self._edge(a, b, made)
        lines.append("so they can meet:")
        for a, b, made in cycle:
            who = self.entries[made.found].task.name
            lines.append(f"  {who} holds {name_of(a)} and waits for {name_of(b)}")
        culprit = self._culprit(cycle, blame(K.cur, sys._getframe(3)))
        way = "the other way round" if len(cycle) == 2 else f"from {new} to {held}"
        self._record(
            "lockdep.circular",
            culprit,
            f"{K.cur.name} takes {new} inside {held}; elsewhere the order is {way}",
            lines,
            " ".join(sorted(name_of(a) for a, _, _ in cycle)),
        )

    def _inversion(self, context: int, path: list[int]) -> None:
        """A class used in an interrupt leads to one that is held where that interrupt can come."""
        order = self._order
        first, last = path[0], path[-1]
        used, opened = order.used[context, first][1], order.opened[context, last][1]
        irq = CONTEXTS[context]
        lines = [f"{name_of(first)} is taken in a {irq}:", *self._who(used, first)]
        for a, b in pairwise(path):
            lines += self._edge(a, b, order.first[a, b])
        on = "interrupts" if context == HARD else "softirqs"
        lines += [f"{name_of(last)} is held with {on} on:", *self._who(opened, last)]
        waits = name_of(first) if first == last else f"{name_of(last)} (by way of {name_of(first)})"
        lines.append(
            f"if the {irq} comes there, on that CPU, it waits for {waits}, which waits for it"
        )
        edges = [(a, b, order.first[a, b]) for a, b in pairwise(path)]
        here = blame(K.cur, sys._getframe(3))
        careless = self._culprit([(last, last, opened)], Culprit(KERNEL, here.where))
        culprit = (
            self._culprit([(first, first, used), *edges], here)
            if careless.owner == KERNEL
            else careless
        )
        if first == last:
            summary = f"{name_of(first)} is taken in a {irq} and elsewhere with {on} on"
        else:
            leads = f"{name_of(first)}, taken in a {irq}, leads to {name_of(last)}"
            summary = f"{leads}, which is held elsewhere with {on} on"
        self._record(
            "lockdep.irq-inversion",
            culprit,
            summary,
            lines,
            f"{irq} {name_of(first)} {name_of(last)}",
        )

    def _record(
        self, rule: str, culprit: Culprit, summary: str, lines: list[str], about: str
    ) -> None:
        violation = Violation(
            rule, "soft", culprit.owner, culprit.where, summary, K.cur.name, tuple(lines), about
        )
        self.machine.violation(followed(self.machine, violation))

    # -- who and whose -----------------------------------------------------------------------------

    def _edge(self, held: int, new: int, step: Step) -> list[str]:
        """What there is to say of one order."""
        entry = self.entries[step.found]
        lines = [f"{name_of(held)} then {name_of(new)}: {entry.task.name}{_inside(entry.held)}"]
        for lock, ctx in chain(entry.held, step.found.parent):
            if ctx.key >> SUBCLASS_SHIFT == held:
                at = self._place(entry.task, lock, ctx, entry.at)
                lines.append(f"  holds {name_of(held)}{mode(ctx.key)}{at}")
                break
        lines.append(f"  takes {name_of(new)}{mode(step.found.key)}{self._at(entry)}")
        return lines

    def _who(self, step: Step, bit: int) -> list[str]:
        """Who took or held a class in a step."""
        node = step.found
        while node.parent is not None and node.key >> SUBCLASS_SHIFT != bit:
            node = node.parent
        entry = self.entries.get(node)
        if entry is None:
            return []
        took = f"takes {name_of(bit)}{mode(node.key)}{self._at(entry)}"
        return [f"  {entry.task.name}{_inside(entry.held)} {took}"]

    def _at(self, entry: Entry) -> str:
        trace = self.machine.trace
        if trace is not None and entry.at >= 0:
            return f" at {trace.events[entry.at].where}"
        return f" in {entry.code.co_qualname}()" if _MODULES.get(entry.code) else ""

    def _place(self, task: Task, lock: Any, ctx: Ctx, before: int | None = None) -> str:
        """Where a held lock was taken."""
        event = taken(self.machine.trace, task, lock, before)
        if event is not None and event.where:
            return f", taken at {event.where}"
        entry = self.entries.get(ctx)
        return (
            f", taken in {entry.code.co_qualname}()"
            if entry is not None and _MODULES.get(entry.code)
            else ""
        )

    def _culprit(self, made: list[tuple[int, int, Step]], here: Culprit) -> Culprit:
        """The first who is not the kernel: here, of the inner locks' takers, of the outer ones',
        of those who were called with an outer one and had the kernel take the inner one.
        """
        if here.owner != KERNEL:
            return here
        inside: Culprit | None = None
        for held, _, step in made:
            entry = self.entries.get(step.found)
            if entry is None:
                continue
            for outer, ctx in [(None, step.found), *chain(entry.held, step.found.parent)]:
                if outer is None or ctx.key >> SUBCLASS_SHIFT == held:
                    culprit = self.taker(ctx)
                    if culprit.owner != KERNEL:
                        return culprit
                    inside = inside or crossed(entry.held, outer)
        return inside or here

    def forbidder(self, task: Task) -> Culprit | None:
        """Never sleeps.  Who took what forbids a task to sleep, if that is not the kernel."""
        for _, ctx in chain(task.held, task.ctx):
            if ctx.nosleep and not ctx.parent.nosleep:
                taker = self.taker(ctx)
                return None if taker.owner == KERNEL else taker
        return None

    def taker(self, ctx: Ctx) -> Culprit:
        """Never sleeps.  Whose function first entered a context in this world, and where it is."""
        entry = self.entries.get(ctx)
        module = "" if entry is None else _MODULES.get(entry.code)
        if entry is None or not module:
            return Culprit(KERNEL, "")
        code = entry.code
        owner = owner_of(module, code.co_qualname, entry.task, entry.held)
        return Culprit(owner, f"{short(code.co_filename)}:{code.co_firstlineno}")


def followed(machine: Machine, violation: Violation) -> Violation:
    """Never sleeps.  What goes wrong with locks in the kernel, or is left over in the end, after a
    filesystem broke a rule is that filesystem's doing.
    """
    if violation.blamed != KERNEL:
        return violation
    for earlier in machine.violations:
        if earlier.blamed != KERNEL and earlier.kind in ("soft", "oops", "leak"):
            lines = (*violation.details, f"this follows from: {earlier.summary} [{earlier.rule}]")
            return attrs.evolve(violation, blamed=earlier.blamed, details=lines)
    return violation


def _inside(held: Held | None) -> str:
    """``, in ToyDir.create()``."""
    running = calls(held)
    return f", in {running[0]}" if running else ""


_MODULES: dict[CodeType, str] = {}
"""The module of every function seen taking a lock; "" for the engine's own."""


def _outside(frame: FrameType) -> CodeType:
    """The code of the innermost frame above the engine, or the outermost there is."""
    while True:
        code = frame.f_code
        module = _MODULES.get(code)
        if module is None:
            name = frame.f_globals.get("__name__", "")
            inner = is_engine(name) or code.co_filename[:1] == "<"
            module = _MODULES[code] = "" if inner else name
        if module or frame.f_back is None:
            return code
        frame = frame.f_back


__all__ = ["DEFAULT", "KNOWN", "Entry", "Finding", "Lockdep", "Rules", "followed", "nest"]
