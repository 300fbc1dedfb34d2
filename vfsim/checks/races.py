"""Data races: two accesses to a declared field that nothing orders and no lock keeps apart.

A race is a pair of accesses to one field of one object, by different tasks or handlers, one of
which writes and one of which is plain, that

* nothing orders: no chain of releases and acquires, wake-ups, starts, grace periods (see
  `vfsim.checks.clocks`) leads from the first to the second, and
* nothing keeps apart: they hold no lock in common (except both for reading), and it is not so that
  one is an interrupt handler and the other had interrupts off on the same CPU.

It is found in *every* schedule in which the two are unordered, not only in the one in which the
result is wrong.  A field that is touched without its guard while nobody else can touch it (it is
being made, or torn down, or handed over) is no race and no finding.

Two marked accesses never race, and a marked read takes whatever a plain write stores, old or new,
but whole: a plain read that meets a marked write is a race, as is any write that meets a plain one.
A write that stores what is there already races with writes only.  All this is what KCSAN assumes by
default.  A plain read that the declaration allows without the guard
counts as marked: in an RCU section (``rcu``), in a read window of the sequence counter (``seq``),
anywhere (``lockless``).  Reading a pointer that ``publishes`` orders, too.

For each field there are two dictionaries, by object: the epoch of the last read and of the last
write.  An access by the same epoch as the last one is nothing new, and that is the fast path, in
the property that stands on the class in place of the slot.  Any other goes to `Watched`, which
compares it with the accesses that it remembers: the last plain write, and since then the last read
of each task.

Blamed is who did not hold the declared guard.  Sources: Savage et al., "Eraser" (1997); Flanagan
and Freund, "FastTrack" (2009); Xu et al., "Krace" (2020), which asks for both.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks import clocks, epochs, windows
from vfsim.checks.blame import KERNEL, owner_of, short
from vfsim.checks.epochs import learn, publish
from vfsim.checks.history import chain, is_lock, spelled
from vfsim.checks.windows import KNOWN, STALE, WINDOWS
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.srcu import Srcu
from vfsim.sim.context import SHARED
from vfsim.sim.errors import Violation
from vfsim.sim.shared import HELPERS, POINT, STRUCTS, Access, Declared, Field, compiled, ordered
from vfsim.sim.shared import SOURCE as POINTS_ONLY
from vfsim.sim.state import K
from vfsim.sim.task import HARDIRQ, TASK
from vfsim.sim.trace import call_trace, is_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from vfsim.checks.epochs import Epoch
    from vfsim.sim.context import Ctx, Held
    from vfsim.sim.cpu import Cpu
    from vfsim.sim.machine import Machine
    from vfsim.sim.shared import Guard
    from vfsim.sim.task import Task

_DEEP = 5  # lines of a call trace


READ, WRITE, REWRITE, MARKED, WINDOW, SECTION = 0, 1, 3, 4, 8, 16
"""Kinds of access, as bits.  A rewrite stores what is there already; a read may be in a read window
of the field's sequence counter, a write in its write section."""

Seen = tuple[Any, ...]
"""An access, packed: the fields of a `Look` in order.  Its epoch comes first."""


@attrs.frozen(eq=False)
class Look:
    """One access, as it is remembered.

    Attributes:
        epoch, task: when and who.  cpu, held, ctx: where, and with what held.
        code, instruction, space: the place in the source, and the names of its module.
        kind: `READ`, `WRITE` or `REWRITE`, and further bits.
        stack: in a traced run, the call trace.
    """

    epoch: Epoch
    task: Task
    cpu: Cpu
    held: Held | None
    ctx: Ctx
    code: CodeType
    instruction: int
    space: dict[str, Any]
    kind: int
    stack: tuple[str, ...] = ()

    @property
    def write(self) -> bool:
        return bool(self.kind & WRITE)

    @property
    def verb(self) -> str:
        kind = self.kind
        how = "marked " if kind & MARKED else "seq " if kind & (WINDOW | SECTION) else ""
        return f"{how}{'write' if self.write else 'read'}"

    @property
    def where(self) -> str:
        """``file:line``."""
        line = next(
            (
                n
                for start, end, n in self.code.co_lines()
                if start <= self.instruction < end and n is not None
            ),
            self.code.co_firstlineno,
        )
        return f"{short(self.code.co_filename)}:{line}"

    @property
    def owner(self) -> str:
        return owner_of(self.space["__name__"], self.code.co_qualname, self.task, self.held)

    def locks(self) -> list[tuple[Any, Ctx]]:
        """What keeps others out; a read section of `Srcu` keeps out nobody."""
        return [
            (e, c) for e, c in chain(self.held, self.ctx) if is_lock(e) and not isinstance(e, Srcu)
        ]


class Var:
    """What is remembered of one field of one object.

    Attributes:
        write: the last plain write.  read: the last plain read since then of the task that was the
            first to read, and others: those of all others, by who.
        marked: the last marked write and read of each task, by (who, whether it writes).
    """

    __slots__ = ("marked", "others", "read", "write")

    def __init__(self, write: Seen | None = None, read: Seen | None = None) -> None:
        self.write = write
        self.read = read
        self.others: dict[Any, Seen] | None = None
        self.marked: dict[tuple[Any, bool], Seen] | None = None

    def note(self, e: Epoch, seen: Seen) -> None:
        """A plain read."""
        first = self.read
        if first is None or first[0].who is e.who:
            self.read = seen
        elif self.others is None:
            self.others = {e.who: seen}
        else:
            self.others[e.who] = seen

    def reads(self) -> list[Seen]:
        """The reads, one of each task."""
        first = [] if self.read is None else [self.read]
        return first if self.others is None else [*first, *self.others.values()]


def _looked(t: Task, e: Epoch, frame: FrameType, kind: int) -> Seen | None:
    """An access by the function of that frame, packed; None if it is a check that looks."""
    code = frame.f_code
    while code.co_name in HELPERS:
        frame = frame.f_back  # type: ignore[assignment]
        code = frame.f_code
        if is_engine(frame.f_globals["__name__"]):
            return None
    if code.co_filename[0] == "<":
        return None
    seen = (e, t, t.cpu, t.held, t.ctx, code, frame.f_lasti, frame.f_globals, kind)
    if K.trace is not None and K.trace.stacks:
        return (*seen, call_trace(frame))
    return seen


def _counter(path: str) -> Callable[[Any], SeqCount]:
    """How to get from an object to the sequence counter that a path names."""
    if path[0] != "@":
        return attrgetter(path)

    def of_the_world(obj: Any) -> SeqCount:
        found: SeqCount = K.machine.data[path[1:]].count
        return found

    return of_the_world


WRITTEN: list[Watched] = []
"""The fields of which something is remembered."""


class Watched:
    """One declared field while races are looked for.

    Attributes:
        last_read, last_write: by object, the epoch of the last plain read (write).
        published: by object, what came before the pointer was stored that is there now.
        blank: nothing is remembered; else it is among the `WRITTEN`.
    """

    def __init__(self, field: Declared, guard: Guard) -> None:
        self.field = field
        self.raw = f"raw_{field.name}"
        self.guard = guard
        self.rcu = guard.rcu
        self.lockless = guard.lockless
        self.publishes = guard.publishes
        self.unless = guard.unless
        self.count = _counter(guard.seq) if guard.seq else None
        self.last_read: dict[Any, Epoch] = {}
        self.last_write: dict[Any, Epoch] = {}
        self.vars: dict[Any, Var] = {}
        self.published: dict[Any, Epoch] = {}
        self.blank = True

    def forget(self) -> None:
        """Whatever was done came before all that follows."""
        self.last_read.clear()
        self.last_write.clear()
        self.vars.clear()
        self.published.clear()
        self.blank = True

    def read(self, obj: Any) -> None:
        """A plain read, by another epoch than the last one."""
        t = K.cur
        e = t.epoch
        if STALE:
            windows.used(obj, f"reads .{self.field.name} of a")
            windows.fresh(self._value(obj))
        KNOWN[t][obj] = None
        if e is None:
            return
        if self.blank:
            self._begin()
        if self.publishes and (before := self.published.get(obj)) is not None:
            learn(t, before)
        if (self.rcu and t.ctx.rcu) or (self.unless and self._free(obj)):
            return
        in_window = self.count is not None and self._in_window(t, obj)
        if self.lockless and not in_window:
            self.last_read[obj] = e
            return
        seen = _looked(t, e, sys._getframe(2), WINDOW if in_window else READ)
        if seen is None:
            return
        if in_window:
            self._look_again(t, obj, seen)
        else:
            self.last_read[obj] = e
        if K.trace is not None:
            self._note(obj, "read")
        var = self.vars.get(obj)
        if var is None:
            self.vars[obj] = Var(None, seen)
            return
        w = var.write
        if w is not None and not e.after(w[0]):
            self._meet(obj, w, seen)
        if var.marked:
            self._meet_marked(obj, var.marked, seen)
        var.note(e, seen)

    def write(self, obj: Any, value: Any) -> None:
        """A plain write, by another epoch than the last one."""
        t = K.cur
        e = t.epoch
        if STALE:
            windows.used(obj, f"sets .{self.field.name} of a")
            windows.used(value, f"stores in .{self.field.name} a")
        KNOWN[t][obj] = None
        if self.blank:
            self._begin()
        if self.publishes:
            self._publish(obj)
        if e is None or (self.unless and self._free(obj)):
            return
        kind = self._kind(obj, value)
        if self.count is not None and self.count(obj).owner is t:
            kind |= SECTION
        seen = _looked(t, e, sys._getframe(2), kind)
        if seen is None:
            return
        if K.trace is not None:
            self._note(obj, "write")
        self.last_write[obj] = e
        var = self.vars.get(obj)
        if var is None:
            self.vars[obj] = Var(seen)
            return
        w = var.write
        if w is not None and not e.after(w[0]):
            self._meet(obj, w, seen)
        if var.read is not None:
            for r in var.reads():
                if not e.after(r[0]):
                    self._meet(obj, r, seen)
            var.read = var.others = None
        if var.marked:
            self._meet_marked(obj, var.marked, seen)
            var.marked = None
        var.write = seen

    def _begin(self) -> None:
        """Something is about to be remembered."""
        self.blank = False
        WRITTEN.append(self)

    def _publish(self, obj: Any) -> None:
        """A pointer is about to be stored: whoever reads it learns what came before."""
        if K.cur.epoch is not None:
            self.published[obj] = publish(K.cur)
            self.last_read.pop(obj, None)

    def _value(self, obj: Any) -> Any:
        """What is in the field, without looking at it as a task would."""
        return getattr(obj, self.raw)

    def _kind(self, obj: Any, value: Any) -> int:
        return WRITE if self._value(obj) is not value else REWRITE

    def _in_window(self, t: Task, obj: Any) -> bool:
        """Whether the task looks at the object in a window; remembers what it sees there."""
        assert self.count is not None
        window = WINDOWS[t].get(self.count(obj))
        if window is None:
            return False
        value = self._value(obj)
        if type(value) in STRUCTS and value not in KNOWN[t]:
            window.read[value] = f"{self.field.cls.__name__}.{self.field.name}"
        return True

    def _look_again(self, t: Task, obj: Any, seen: Seen) -> None:
        """A window that shows two different pointers has to be asked about."""
        assert self.count is not None
        count = self.count(obj)
        window, value = WINDOWS[t][count], self._value(obj)
        if not window.shows_another(obj, self.field.name, value):
            return
        look, title = Look(*seen), f"{self.field.cls.__name__}.{self.field.name}"
        before = window.seen[obj, self.field.name]
        summary = (
            f"{t.name} read {title} twice in a window of {count.name}: {_pointer(before)} and then "
            f"{_pointer(value)}, and ended its RCU section without asking"
        )
        lines = (f"the second time at {look.where}", *(f"  from {line}" for line in look.stack[1:]))
        windows.tear(
            window,
            Violation("seq.unasked", "soft", look.owner, look.where, summary, t.name, lines),
        )

    def mark(self, obj: Any, write: bool) -> None:
        """A marked access."""
        t = K.cur
        e = t.epoch
        if self.blank:
            self._begin()
        if self.publishes:
            if write:
                self._publish(obj)
            elif e is not None and (before := self.published.get(obj)) is not None:
                learn(t, before)
        if e is None or (self.unless and self._free(obj)):
            return
        var = self.vars.get(obj)
        if var is None:
            var = self.vars[obj] = Var()
        seen = _looked(t, e, sys._getframe(3), MARKED | write)
        if seen is None:
            return
        if write:
            if var.write is not None and not e.after(var.write[0]):
                self._meet(obj, var.write, seen)
            for r in var.reads():
                if not e.after(r[0]):
                    self._meet(obj, r, seen)
        if var.marked is None:
            var.marked = {}
        var.marked[e.who, write] = seen
        self.last_read.pop(obj, None)  # what is plain and comes next must look at this
        self.last_write.pop(obj, None)

    def _note(self, obj: Any, kind: str) -> None:
        """For the trace, unless it has the access as a scheduling point already."""
        if K.trace is not None and not self.field.is_point:
            K.trace.note(K.cur, kind, Field(obj, self.field.name))

    def _meet_marked(self, obj: Any, marked: dict[tuple[Any, bool], Seen], seen: Seen) -> None:
        for (_, write), other in marked.items():
            if write and not seen[0].after(other[0]):
                self._meet(obj, other, seen)

    def _free(self, obj: Any) -> bool:
        """Whether the declaration says that the object needs no protection now."""
        for name in self.unless:
            value = getattr(obj, name)
            if value() if callable(value) else value:
                return True
        return False

    # -- what it comes to --------------------------------------------------------------------------

    def _meet(self, obj: Any, one: Seen, other: Seen) -> None:
        """Two accesses that nothing orders."""
        before, now = Look(*one), Look(*other)
        kinds = before.kind | now.kind
        if kinds & REWRITE == REWRITE and not (before.write and now.write):
            return
        if kinds & WINDOW and kinds & SECTION:
            return
        if not kept_apart(before, now):
            K.machine.violation(self._race(obj, before, now))

    def _race(self, obj: Any, before: Look, now: Look) -> Violation:
        field = self.field
        culprit = self._culprit(obj, before, now)
        title = f"{field.cls.__name__}.{field.name}"
        summary = (
            f"{now.task.name}'s {now.verb} of {title} and {before.task.name}'s {before.verb} are "
            "ordered by nothing"
        )
        lines = [*_lines(now), *_lines(before), self._verdict(obj, before, now)]
        return Violation(
            f"race.{title}", "soft", culprit.owner, culprit.where, summary, now.task.name,
            tuple(lines), f"{short(culprit.code.co_filename)} {culprit.code.co_qualname}",
        )  # fmt: skip

    def _culprit(self, obj: Any, before: Look, now: Look) -> Look:
        """Who does not hold the guard; if neither does, rather not the kernel, and the later.

        Who reads in a window has done its part: it is the writer who is outside of a section.
        """
        both = [look for look in (now, before) if not look.kind & WINDOW]
        guilty = [look for look in both if self._missing(obj, look)] or both
        return next((look for look in guilty if look.owner != KERNEL), guilty[0])

    def _missing(self, obj: Any, look: Look) -> list[str]:
        """The locks of the declared guard that an access should have held and did not."""
        if look.kind & WINDOW:
            return []
        wanted = self.guard.write if look.write else self.guard.read
        missing = [path for path in wanted if not _holds(look, obj, path)]
        return missing if look.write or len(missing) == len(wanted) else []

    def _verdict(self, obj: Any, before: Look, now: Look) -> str:
        said = f"declared: {self.field.said}"
        lacks = [
            f"{look.task.name} does not hold {' or '.join(missing)}"
            for look in (now, before)
            if (missing := self._missing(obj, look))
        ]
        if (before.kind | now.kind) & WINDOW:
            writer = now if now.write else before
            lacks.append(f"{writer.task.name} is in no write section of {self.guard.seq}")
        return f"{said}; {'; '.join(lacks)}" if lacks else said


def _pointer(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def kept_apart(one: Look, other: Look) -> bool:
    """Never sleeps.  Whether two accesses can never happen at once, whatever their order."""
    mine = {lock: ctx.key & SHARED for lock, ctx in one.locks()}
    for lock, ctx in other.locks():
        if lock in mine and not (mine[lock] and ctx.key & SHARED):
            return True
    if one.cpu is not other.cpu:
        return False
    low, high = sorted((one, other), key=lambda look: look.task.kind)
    if low.task.kind == high.task.kind:
        both = low.ctx.nopreempt and high.ctx.nopreempt
        return both and low.task.kind == TASK and low.task.bound and high.task.bound
    return low.ctx.irqs_off or (high.task.kind != HARDIRQ and low.ctx.bh_off)


def _holds(look: Look, obj: Any, path: str) -> bool:
    """Whether a lock that a path from the object leads to was held for an access.

    A path of several steps may lead elsewhere by now: there a lock of that name will do.
    """
    locks = look.locks()
    if path.startswith("@"):
        lock = K.machine.data.get(path[1:])
    else:
        lock = obj
        for step in path.split("."):
            lock = getattr(lock, f"raw_{step}", None) or getattr(lock, step, None)
    lock = getattr(lock, "spin", getattr(lock, "lock", lock)) if not is_plain(lock) else lock
    for held, ctx in locks:
        if held is lock or ("." in path and held.name == getattr(lock, "name", "")):
            return not (look.write and ctx.key & SHARED)
    return False


def is_plain(lock: Any) -> bool:
    """Never sleeps.  Whether a lock is one by itself, and not a `SeqLock` or `LockRef`."""
    return lock is None or hasattr(type(lock), "is_pin")


def _lines(look: Look) -> list[str]:
    held = [spelled(lock, ctx.key) for lock, ctx in look.locks()]
    off = ["interrupts off"] if look.ctx.irqs_off and not look.ctx.in_irq else []
    what = ", ".join((*held, *off)) or "nothing"
    head = f"{look.task.name}: {look.verb} at {look.where}, holding {what}"
    return [head, *(f"  from {line}" for line in look.stack[1:_DEEP])]


SECTIONS = Watched(Declared(SeqCount, "sequence", ordered, None), ordered)
"""The write sections of sequence counters, each a write of its counter."""
SECTIONS.raw = "sequence"


# -- on and off ------------------------------------------------------------------------------------

_READ = """
    if last_read(o) is not K.cur.epoch:
        read(o)"""


def _source(guard: Guard) -> str:
    """The accessor of a field, for `compiled`: a point, if it is one, and the look."""
    kinds = ("'read'", "'write'")
    unseen = guard.lockless and not guard.seq and not guard.publishes
    point_read, point_write = (POINT.format(kind=k) if guard.point else "" for k in kinds)
    return f"""
def get(o):{point_read}{"" if unseen else _READ}
    return o.raw_{{name}}
def set(o, value):{point_write}
    if last_write(o) is not K.cur.epoch:
        write(o, value)
    o.raw_{{name}} = value
"""


class Races(Access):
    """Declared fields are looked at, and the clocks are kept.

    Attributes:
        always: a task is looked at also while it is alone.
    """

    always = False

    def __init__(self) -> None:
        super().__init__()
        self._watched: dict[tuple[type, str], Watched] = {(SeqCount, "sequence"): SECTIONS}

    def install(self) -> None:
        """Put it on every class, and on what orders."""
        super().install()
        clocks.install()

    def remove(self) -> None:
        """Another one comes."""
        clocks.remove()

    def _make(self, field: Declared) -> Any:
        if field.guard is None:
            return compiled(field, POINTS_ONLY, {})
        watched = self._watched[field.cls, field.name] = Watched(field, field.guard)
        return compiled(
            field,
            _source(field.guard),
            {
                "last_read": watched.last_read.get,
                "last_write": watched.last_write.get,
                "read": watched.read,
                "write": watched.write,
            },
        )

    def begin(self, machine: Machine) -> None:
        """A machine begins to run."""
        epochs.begin(machine, self.always)
        windows.forget()
        for watched in WRITTEN:
            watched.forget()
        WRITTEN.clear()

    def marked(self, obj: Any, name: str, write: bool) -> None:
        """A marked access happens now."""
        for cls in type(obj).__mro__:
            watched = self._watched.get((cls, name))
            if watched is not None:
                watched.mark(obj, write)

    def release(self, obj: Any, name: str) -> None:
        """A store that orders what came before it is about to happen."""
        epochs.release((obj, name))

    def acquire(self, obj: Any, name: str) -> None:
        """A load that orders what comes after it has happened."""
        epochs.acquire((obj, name))


RACES = Races()
"""The access of machines in which races are looked for."""


# -- write sections --------------------------------------------------------------------------------


def _write_begin(original: Callable[..., None]) -> Callable[..., None]:
    """A write section writes the counter: what keeps writers apart must be another lock."""

    def write_begin(self: SeqCount, subclass: int = 0) -> None:
        if K.cur.epoch is not None:
            SECTIONS.write(self, None)
        original(self, subclass)
        epochs.acquire(self)

    return write_begin


clocks.HOOKS.append((SeqCount, "write_begin", _write_begin))
