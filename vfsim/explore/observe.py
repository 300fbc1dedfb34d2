"""What a schedule showed: its class of interleavings, the orders of its conflicts, its lock uses.

`Observing` is a strategy around another one.  The machine asks it at every point; it passes on the
questions that the other would have been asked, with the same answers, and looks on:

* a task at a point *announces* an operation, (kind, object), and is parked before it;
* whoever is picked does what it announced;
* if it blocks on that very object it has not done it yet: it does when it goes on afterwards.

**Class of interleavings.**  Two schedules are of one class if on every object the writes come in
the same order and every read sees the same write: they differ only in what does not matter.  The
fingerprint of a class is a sum over all operations of a hash of (task, its how-manieth operation,
kind, what the object had been through), so the order of summing is nothing, and neither is which of
two objects was made first.  Hashes of tuples of numbers are the same in every process.  It is a
cheap relative of `vfsim.explore.classes`, a quarter of its cost: what a step does beside its
announced operation (release, get in line, set a timer) is left out, being settled by the order of
announced operations almost always.

**Ordered conflicts.**  Two operations of different tasks on one object, not both reading, the later
meeting the earlier.  They are named by where they are: kind and function.

**Lock uses.**  Which lock class was taken in which context, shared or not: read off the automaton
of held states, which has an edge for each (`vfsim.sim.context`).

The class is told of every schedule, which costs about a tenth of a POS schedule; orders and lock
uses would cost another fifth, so one schedule in `EVERY` is looked at closely.  Only the phase
under the strategy is looked at, lock uses excepted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from vfsim.explore.classes import place
from vfsim.explore.dependency import READERS
from vfsim.sim.context import CLASS_SHIFT, SHARED, LockClass
from vfsim.sim.shared import Field
from vfsim.sim.state import K
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

_MASK = (1 << 64) - 1
CONTEXTS = ("process", "softirq", "hardirq")

EVERY = 7
"""One schedule in so many is looked at closely: by number, and prime to the turns of ``auto``."""

Site = tuple[str, str]
"""Where an operation is: its kind, and the innermost function above the engine."""


class Order(NamedTuple):
    """One order of two conflicting operations of different tasks, on what they met."""

    first: Site
    then: Site
    on: str

    @property
    def reverse(self) -> Order:
        """The other order."""
        return Order(self.then, self.first, self.on)

    def __str__(self) -> str:
        (a, f), (b, g) = ((kind, name.rpartition("<locals>.")[2]) for kind, name in self[:2])
        if a == b:
            return f"{f} before {g} on {self.on} ({a})"
        return f"{f} ({a}) before {g} ({b}) on {self.on}"


class Use(NamedTuple):
    """A lock class in a context: "process", "softirq" or "hardirq"; "read" or "write"."""

    lock: str
    context: str
    mode: str


class Seen(NamedTuple):
    """What one schedule showed: its class, and whatever this process had not seen before."""

    interleaving: int
    orders: tuple[Order, ...] = ()
    uses: tuple[Use, ...] = ()


class Observer:
    """What this process has seen of a program; makes the wrapper of each schedule's strategy."""

    def __init__(self) -> None:
        self.orders: dict[Order, None] = {}
        self.uses: dict[Use, None] = {}
        self.engine: dict[str, bool] = {}  # by module, whether it is below the kernel
        self.idents: dict[str, int] = {}  # by text, a number that is the same in every process

    def ident(self, text: str) -> int:
        """A number for a text."""
        found = self.idents.get(text)
        if found is None:
            found = self.idents[text] = crc32(text.encode())
        return found

    def uses_of(self, machine: Machine) -> Iterator[Use]:
        """The lock uses of a world that still stands, those that are new."""
        for node in machine.touched:
            for key, found in node.next.items():
                cls = LockClass.all[key >> CLASS_SHIFT]
                if cls.name != cls.kind:  # else it is a state and no lock
                    use = Use(cls.name, CONTEXTS[found.in_irq], "read" if key & SHARED else "write")
                    if use not in self.uses:
                        self.uses[use] = None
                        yield use


class _Object:
    """What one object has been through.

    Attributes:
        obj: kept alive, so that its place is its own; name: what people call it.
        past: a hash of its writes and of the reads between them; reads: of those since the last.
        writer: who wrote last, and where; readers: who read since.
    """

    __slots__ = ("name", "obj", "past", "readers", "reads", "writer")

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self.name = _name(obj)
        self.past = self.reads = 0
        self.writer: tuple[_Actor | None, Site] = (None, ("", ""))
        self.readers: dict[tuple[_Actor, Site], None] = {}


class _Actor:
    """A task: its number, how many operations it did, and the one it announced."""

    __slots__ = ("done", "function", "kind", "obj", "task", "who")

    def __init__(self, task: Task, who: int) -> None:
        self.task = task
        self.who = who
        self.done = 0
        self.kind = self.function = ""
        self.obj: Any = None  # None: nothing is announced


class Observing:
    """The strategy ``inner``, looked at.

    Args:
        closely: orders and lock uses, too.
    """

    __slots__ = (
        "actors", "closely", "doing", "due", "gap", "inner", "machine", "new", "objects",
        "observer", "total", "uses",
    )  # fmt: skip

    def __init__(self, inner: Strategy, observer: Observer, closely: bool = True) -> None:
        self.gap = 1
        self.inner = inner
        self.observer = observer
        self.closely = closely
        self.total = 0
        self.doing: _Actor | None = None  # it was picked, and may block on what it announced
        self.new: list[Order] = []
        self.uses: list[Use] = []

    def start(self, machine: Machine) -> None:
        """Nobody has announced anything."""
        self.machine = machine
        self.actors: dict[Task, _Actor] = {}
        self.objects: dict[Any, _Object] = {}
        self.doing = None
        self.inner.start(machine)
        self.due = self.inner.gap

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """What the other answers, where it would have been asked."""
        if self.doing is not None:
            self._did()
        inner = self.inner
        if current is None:
            i = inner.decide(ready, None)
            self.due = self.machine.steps + inner.gap
        else:
            kind, obj = current.pending
            if obj is not None:
                actor = self.actors.get(current) or self._meet(current)
                actor.kind = kind
                actor.obj = obj
                if self.closely:
                    actor.function = self._function()
            steps = self.machine.steps
            if steps >= self.due:
                i = inner.decide(ready, current)
                self.due = steps + inner.gap
            else:
                i = 0
        chosen = ready[i]
        if chosen is self.machine.clock:
            self.due = 0  # it is asked again at once
        self.doing = self.actors.get(chosen)
        return i

    def choose(self, kind: str, n: int) -> int:
        """What the other answers; it belongs to the class, unless it only says who is woken."""
        value = self.inner.choose(kind, n)
        if value and kind != "waiter":
            asked = K.cur
            ident = self.observer.ident
            self.total += hash((ident(kind), ident(asked.id if asked else ""), value))
        return value

    def _function(self) -> str:
        """The innermost function above the engine, of whoever is at a point now."""
        engine = self.observer.engine
        frame = sys._getframe(4)  # above point() and whatever called it
        while frame is not None:
            module = frame.f_globals["__name__"]
            below = engine.get(module)
            if below is None:
                below = engine[module] = is_engine(module)
            if not below:
                return frame.f_code.co_qualname
            frame = frame.f_back  # type: ignore[assignment]
        return "?"

    def inspect(self, machine: Machine) -> None:
        """The run is over and the world still stands."""
        self._did()
        if self.closely:
            self.uses = list(self.observer.uses_of(machine))

    def seen(self) -> Seen:
        """After the run: what it showed."""
        return Seen(self.total & _MASK, tuple(self.new), tuple(self.uses))

    def _meet(self, task: Task) -> _Actor:
        actor = self.actors[task] = _Actor(task, self.observer.ident(task.id))
        return actor

    def _did(self) -> None:
        """The operation of whoever was picked has taken place, unless it blocked."""
        actor = self.doing
        self.doing = None
        if actor is None:
            return
        obj = actor.obj
        if obj is None or actor.task.waits_on is obj:
            return
        actor.obj = None
        key = place(obj)
        thing = self.objects.get(key)
        if thing is None:
            thing = self.objects[key] = _Object(obj)
        kind = actor.kind
        number = actor.done
        actor.done = number + 1
        what = self.observer.idents.get(kind) or self.observer.ident(kind)
        if kind in READERS:
            met = hash((actor.who, number, what, thing.past))
            thing.reads += met
        else:
            met = thing.past = hash((actor.who, number, what, thing.past, thing.reads))
            thing.reads = 0
        self.total += met
        if self.closely:
            self._ordered(actor, (kind, actor.function), thing)

    def _ordered(self, actor: _Actor, site: Site, thing: _Object) -> None:
        """Which orders this operation settles."""
        writer, where = thing.writer
        orders = self.observer.orders
        if writer is not actor and writer is not None and (where, site, thing.name) not in orders:
            self._new(Order(where, site, thing.name))
        if site[0] in READERS:
            thing.readers[actor, site] = None
            return
        if thing.readers:
            for reader, where in thing.readers:
                if reader is not actor and (where, site, thing.name) not in orders:
                    self._new(Order(where, site, thing.name))
            thing.readers.clear()
        thing.writer = (actor, site)

    def _new(self, order: Order) -> None:
        self.observer.orders[order] = None
        self.new.append(order)


def _name(obj: Any) -> str:
    """What people call an object: a lock's class, or the type and the field."""
    if type(obj) is Field:
        return f"{type(obj.of).__name__}.{obj.name}"
    return getattr(obj, "name", None) or type(obj).__name__
