"""The slow, obvious checker: the verdicts of the fast path, from nothing but a trace's events.

The fast path judges each situation once, keeps what is held in interned chains, and believes a
union of all worlds. This file does none of that. It walks the events of one run in order, keeps
plain lists of who holds what, searches all paths whenever something new is seen, and says what is
wrong. It imports nothing of the fast path, so that a mistake in one is not a mistake in both: a
test holds the two to the same verdicts on many random programs.

What an event means (`vfsim.sim.trace.Event`):

=====================================  =========================================================
``enter``                              the task asks for a lock or state, and has it unless it
                                       then waits
``blocks``, ``spins``, ``woken``       a wait begins, and may end
``unlock``, ``up_read``, ... ``leave`` a lock or state is let go
``downgrade_write``                    a write hold becomes a read hold
``disown``                             the task gives a page lock to its I/O
``release``                            the engine refused a release: it thinks nothing is held
``sleeps``                             the engine thinks that this is no place to sleep
``seq_write``                          a write section is about to begin
``exit``                               the task ends
=====================================  =========================================================

With ``old`` it follows the rules of v4.9: reads of an rwlock are recursive everywhere; an order in
which the inner lock is read recursively is looked at the first time that these locks are held in
that way, and not kept; inside a recursive read no order begins.

A verdict is a tuple of strings whose first word names it. After ``sleep-in-atomic``, ``corrupt``
and ``deadlock`` the world stands still and so does the checker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vfsim.sim.trace import Event

Verdict = tuple[str, ...]

SLEEPING = ("mutex", "rwsem", "percpu_rwsem", "sleepbit", "work", "workqueue")
SPINNING = ("spinlock", "bitlock", "rwlock")
QUEUED = ("spinlock", "rwlock")
ORDERED = (
    "mutex", "rwsem", "percpu_rwsem", "spinlock", "bitlock", "rwlock", "seqcount", "work",
    "workqueue", "fs_reclaim",
)  # fmt: skip
READ_RECURSIVELY = ("rwlock", "seqcount", "workqueue")
LOOKS = ("seqcount", "fs_reclaim")  # to read them is to look, not to hold
ATOMIC_STATES = (
    "interrupts off",
    "softirqs off",
    "preemption off",
    "rcu_read_lock",
    "may not block",
)
RELEASES = (
    "unlock", "up_read", "up_write", "spin_unlock", "read_unlock", "write_unlock", "bit_unlock",
    "seq_end",
)  # fmt: skip
HARD = ("sleep-in-atomic", "corrupt", "deadlock")

TASK, SOFTIRQ, HARDIRQ = 0, 1, 2


@attrs.define(eq=False)
class Held:
    """Something a task has, or waits to get."""

    label: str
    family: str
    name: str
    subclass: int
    shared: bool
    tried: bool
    irq: bool
    bh: bool
    nested: bool  # one of several of its class, kept apart by another lock
    recursive: bool = False  # a read that only a writer stops

    def how(self) -> tuple[object, ...]:
        """Everything but which lock of its class it is."""
        return (self.node, self.shared, self.tried, self.irq, self.bh, self.nested)

    @property
    def node(self) -> str:
        """Its class in the order graph."""
        return f"{self.family} {self.name}/{self.subclass}"


@attrs.define(eq=False)
class Doing:
    """One task."""

    id: str
    cpu: int
    level: int
    held: list[Held] = attrs.field(factory=list)
    waits: str = ""  # the label of what it waits for
    claims: str = ""  # the label of what it was woken for, and must still win
    readers: list[str] = attrs.field(factory=list)  # for a grace period: whom it waits for
    ended: bool = False
    under: str = ""  # for an interrupt handler: whom it interrupted

    def has(self) -> list[Held]:
        """What it holds by now, without what it waits for if that does not count yet."""
        wanted = self.waits or self.claims
        last = next(
            (h for h in reversed(self.held) if h.label == wanted and h.family not in QUEUED), None
        )
        return [h for h in self.held if h is not last]

    def owns(self, label: str) -> bool:
        """Whether it has a lock: more often than it still asks for it."""
        asked = label in (self.waits, self.claims)
        return sum(h.label == label for h in self.held) > asked

    def hard_off(self) -> bool:
        """Whether hard interrupts are kept away from where it runs."""
        return self.level == HARDIRQ or any(
            h.irq or h.family == "interrupts off" for h in self.has()
        )

    def soft_off(self) -> bool:
        return (
            self.hard_off()
            or self.level == SOFTIRQ
            or any(h.bh or h.family == "softirqs off" for h in self.has())
        )

    def in_interrupt(self, new: Held) -> bool:
        """Whether a lock is taken in an interrupt, or with softirqs off: Linux counts that too."""
        states = [*self.held, new]
        return self.level > TASK or any(h.bh or h.family == "softirqs off" for h in states)

    def keeps_cpu(self) -> bool:
        return self.soft_off() or any(h.family in (*SPINNING, "preemption off") for h in self.has())

    def may_sleep(self) -> bool:
        return not self.keeps_cpu() and not any(h.family in ATOMIC_STATES for h in self.has())


class Edge(NamedTuple):
    """``new`` was asked for inside ``held``."""

    held: str
    new: str
    held_shared: bool
    new_recursive: bool


class Use(NamedTuple):
    """A class was taken in an interrupt, or held open to it; ``mild``: as a reader."""

    node: str
    context: str
    mild: bool


class Reference:
    """Walks the events of one run."""

    def __init__(self, old: bool = False) -> None:
        self.old = old
        self.passing: list[Edge] = []  # of the event at hand
        self.chains: list[tuple[str, ...]] = []
        self.verdicts: dict[Verdict, None] = {}
        self.tasks: dict[str, Doing] = {}
        self.current: dict[int, str] = {}  # by CPU
        self.daemons: list[str] = []
        self.disowned: list[str] = []  # page locks and the like that I/O has
        self.edges: list[Edge] = []
        self.used: list[Use] = []
        self.opened: list[Use] = []
        self.seen = (0, 0, 0)
        self.over = False

    def run(self, events: Iterable[Event]) -> set[Verdict]:
        """The verdicts on a whole run."""
        for event in events:
            if self.over:
                break
            if event.task_id and event.kind != "BUG":
                self.step(event)
        if not self.over and any(
            not t.ended and t.id not in self.daemons for t in self.tasks.values()
        ):
            stuck = any(self.reaches_itself(t) for t in self.tasks.values())
            self.say("deadlock" if stuck else "hang")
        return set(self.verdicts)

    def say(self, *verdict: str) -> None:
        self.verdicts[verdict] = None
        if verdict[0] in HARD:
            self.over = True

    # -- one event ---------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        kind = event.kind
        if kind == "spawn":
            if event.ref.daemon:
                self.daemons.append(event.ref.id)
            return
        task = self.tasks.get(event.task_id)
        if task is None:
            task = self.tasks[event.task_id] = Doing(event.task_id, event.cpu, event.level)
            if event.level:
                task.under = self.current.get(event.cpu, "")
        task.cpu = event.cpu
        if kind == "woken":
            self.woken(task)
            return
        self.current[event.cpu] = task.id
        task.waits = task.claims = ""
        if kind == "enter":
            self.enter(task, event)
        elif kind == "disown":
            self.release(task, event.obj, "")
            self.disowned.append(event.obj)
        elif kind == "unlock" and event.obj in self.disowned:
            self.disowned.remove(event.obj)
        elif kind == "downgrade_write":
            for h in task.held:
                h.shared |= h.label == event.obj
        elif kind in RELEASES:
            self.release(task, event.obj, "")
        elif kind == "leave":
            self.release(task, event.obj, event.obj)
        elif kind == "rcu_read_unlock":
            task.held = [h for h in task.held if h.family != "rcu_read_lock"]
        elif kind == "release":
            if not any(event.obj in (h.label, h.family) for h in task.held):
                self.say("unlock-not-held", event.obj.partition("#")[0])
        elif kind == "sleeps":
            self.sleep(task)
        elif kind in ("blocks", "spins"):
            self.wait(task, event)
        elif kind == "seq_write":
            if any(t.owns(event.obj) for t in self.tasks.values()):
                self.say("corrupt")
        elif kind == "exit":
            self.exit(task)

    def enter(self, task: Doing, event: Event) -> None:
        sub = next((int(w.split()[1]) for w in event.how if w.startswith("subclass")), 0)
        new = Held(
            event.obj, event.family, event.cls, sub,
            "shared" in event.how, "try" in event.how, "irq" in event.how, "bh" in event.how,
            "nested" in event.how,
        )  # fmt: skip
        if new.family == "may not block":
            return  # the mark of a method: the contract has a slow twin of its own
        if new.shared and new.family in READ_RECURSIVELY:
            new.recursive = new.family != "rwlock" or self.old or task.in_interrupt(new)
        if new.label in self.disowned and new.tried:
            self.disowned.remove(new.label)  # adopted
        if new.family in SLEEPING and not new.tried:
            self.sleep(task)
            if self.over:
                return
        if new.family in ORDERED:
            self.order(task, new)
        if not (new.family in LOOKS and new.shared):
            task.held.append(new)
            if new.family in ORDERED:
                self.open(task, [new])
        self.inversions()

    def release(self, task: Doing, label: str, family: str) -> None:
        hard, soft = task.hard_off(), task.soft_off()
        for h in reversed(task.held):
            if (label and h.label == label) or (family and h.family == family):
                task.held.remove(h)
                break
        else:
            self.say("unlock-not-held", (label or family).partition("#")[0])
        if (hard, soft) != (task.hard_off(), task.soft_off()):
            self.open(task, [h for h in task.held if h.family in ORDERED])
            self.inversions()

    def woken(self, task: Doing) -> None:
        """A queued lock is handed over; anything else must still be won."""
        queued = any(h.label == task.waits and h.family in QUEUED for h in task.held)
        task.claims = "" if queued else task.waits
        task.waits = ""
        task.readers = []

    def sleep(self, task: Doing) -> None:
        if not task.may_sleep():
            self.say("sleep-in-atomic")

    def wait(self, task: Doing, event: Event) -> None:
        if event.kind == "blocks":
            self.sleep(task)
        task.waits = event.obj
        if event.obj.startswith("GracePeriod"):
            task.readers = [
                t.id
                for t in self.tasks.values()
                if any(h.family == "rcu_read_lock" for h in t.held)
            ]
        if not self.over and self.reaches_itself(task):
            self.say("deadlock")

    def exit(self, task: Doing) -> None:
        task.ended = True
        for h in task.held:
            sub = f"/{h.subclass}" if h.subclass else ""
            self.say("held-at-exit", f"{h.name}{sub}")
        if task.level:
            self.current[task.cpu] = task.under

    # -- who waits for whom ------------------------------------------------------------------------

    def reaches_itself(self, start: Doing) -> bool:
        queue = self.waits_for(start)
        seen: list[Doing] = []
        for task in queue:
            if task is start:
                return True
            if task not in seen:
                seen.append(task)
                queue += self.waits_for(task)
        return False

    def waits_for(self, task: Doing) -> list[Doing]:
        if task.ended:
            return []
        if task.waits.startswith("GracePeriod"):
            return [
                t
                for t in self.tasks.values()
                if t.id in task.readers and any(h.family == "rcu_read_lock" for h in t.held)
            ]
        if task.waits:
            return [t for t in self.tasks.values() if t.owns(task.waits)]
        there = self.tasks.get(self.current.get(task.cpu, ""))
        if there is None or there is task or there.ended:
            return []
        if task.level == HARDIRQ:
            kept = there.hard_off()
        else:
            kept = there.soft_off() if task.level == SOFTIRQ else there.keeps_cpu()
        return [there] if kept else []

    # -- orders and interrupts ---------------------------------------------------------------------

    def order(self, task: Doing, new: Held) -> None:
        if new.tried:
            return
        around = [h for h in task.held if h.family in ORDERED]
        if new.nested and any(h.node == new.node for h in around):
            around = []
        if any(h.node == new.node and not (new.recursive and h.shared) for h in around):
            self.say("recursion", new.node)
        passes = self.old and new.recursive
        if passes and not self.first_time(task, new):
            around = []
        fine = []
        for h in around:
            edge = self.edge(h, new)
            if h.node == new.node or edge in self.edges or (self.old and h.recursive):
                continue
            if self.closes(edge):
                self.say("circular", edge.held, edge.new)
            elif edge not in fine:
                fine.append(edge)
        if passes:
            self.passing = fine
        else:
            self.edges += fine
        if task.level:
            context = "hardirq" if task.level == HARDIRQ else "softirq"
            self.note(self.used, Use(new.node, context, new.recursive))

    def edge(self, held: Held, new: Held) -> Edge:
        if self.old:
            return Edge(held.node, new.node, False, False)
        return Edge(held.node, new.node, held.shared, new.recursive)

    def first_time(self, task: Doing, new: Held) -> bool:
        """Whether a lock is taken inside what the task holds for the first time in this way."""
        chain = (str(task.level), *(repr(h.how()) for h in [*task.held, new]))
        if chain in self.chains:
            return False
        self.chains.append(chain)
        return True

    def open(self, task: Doing, locks: list[Held]) -> None:
        """These locks are held where some interrupts can come."""
        for h in locks:
            if not task.hard_off():
                self.note(self.opened, Use(h.node, "hardirq", h.shared))
            if not task.soft_off():
                self.note(self.opened, Use(h.node, "softirq", h.shared))

    def note(self, uses: list[Use], use: Use) -> None:
        if use not in uses:
            uses.append(use)

    def closes(self, edge: Edge) -> bool:
        """Whether the edge is the last of a strong cycle."""
        return any(
            node == edge.held and not (weak and edge.held_shared)
            for node, weak in self.strong_paths(edge.new, edge.new_recursive, [])
        )

    def strong_paths(self, node: str, weak: bool, behind: list[Edge]) -> Iterator[tuple[str, bool]]:
        """Where paths that can block end, and whether a recursive read reached that."""
        yield node, weak
        for edge in [*self.edges, *self.passing]:
            if edge.held == node and edge not in behind and not (weak and edge.held_shared):
                onward = weak if self.old else edge.new_recursive
                yield from self.strong_paths(edge.new, onward, [*behind, edge])

    def inversions(self) -> None:
        """Every class used in an interrupt that leads to one held with it enabled."""
        facts = (len(self.edges), len(self.used), len(self.opened))
        if facts == self.seen and not self.passing:
            return
        self.seen = facts
        for used in self.used:
            for node, weak in self.strong_paths(used.node, used.mild, []):
                for opened in self.opened:
                    if (
                        opened.node == node
                        and opened.context == used.context
                        and not (weak and opened.mild)
                    ):
                        self.say("irq-inversion", used.context, used.node, node)
        self.passing = []


def reference(events: Iterable[Event], old: bool = False) -> set[Verdict]:
    """The verdicts of the slow checker on a fully traced run, or those of v4.9's rules."""
    return Reference(old).run(events)
