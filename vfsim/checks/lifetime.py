"""The lives of objects: freed memory that bites, reference counts, and who forgot to put one.

* `free` turns an object into its *poisoned twin*: an instance of a class of the same layout in
  which every access is a hard bug that names who freed it, and who uses it.
* `note_ref` is called by everything that takes or puts a reference. It keeps the balance of each
  object by account: one for each method of a filesystem, one for the kernel. With a trace it also
  keeps every single step with its call trace.
* `report_leak` says, of an object that should be gone, who took the reference that was never put.

The first reference of an object usually becomes somebody else's: a new inode's goes to its dentry.
The helper that takes it over says so with `hand_over`, which moves it from the running method's
account to the kernel's.

Nothing here is a scheduling point, and no lock guards it.
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import attrs

from vfsim.checks.blame import KERNEL, Culprit, blame, giver, innermost
from vfsim.checks.lockdep import followed
from vfsim.sim.errors import Violation
from vfsim.sim.state import NOBODY, K
from vfsim.sim.trace import call_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.checks.contract import Site
    from vfsim.sim.machine import Machine

_GRAVES = "lifetime.graves"
_LEDGER = "lifetime.ledger"

Account = dict["Site | None", int]
"""Who has how many references on an object: methods of filesystems, and the kernel (None)."""


@attrs.define(eq=False)
class Ledger:
    """The accounts of all objects of a world, by method, because most objects have one only.

    Attributes:
        kernel: the kernel's balance for every object that has a count, 0 too; oldest first.
        methods: those of each method that are not 0.
    """

    kernel: dict[Any, int] = attrs.field(factory=dict)
    methods: dict[Site, dict[Any, int]] = attrs.field(factory=dict)

    def change(self, site: Site | None, obj: Any, delta: int) -> None:
        """One account changes."""
        kernel = self.kernel
        if site is None:
            kernel[obj] = kernel.get(obj, 0) + delta
            return
        kernel.setdefault(obj, 0)
        book = self.methods.get(site)
        if book is None:
            book = self.methods[site] = {}
        balance = book.get(obj, 0) + delta
        if balance:
            book[obj] = balance
        else:
            book.pop(obj, None)

    def balance(self, site: Site | None, obj: Any) -> int:
        """One account."""
        book = self.kernel if site is None else self.methods.get(site, {})
        return book.get(obj, 0)

    def account(self, obj: Any) -> Account:
        """All accounts of one object; empty if it has none."""
        if obj not in self.kernel:
            return {}
        found: Account = {None: self.kernel[obj]}
        found.update((site, book[obj]) for site, book in self.methods.items() if obj in book)
        return found

    def close(self, obj: Any) -> None:
        """The object is gone."""
        if self.kernel.pop(obj, None) is not None:
            for book in self.methods.values():
                book.pop(obj, None)


def ledger(machine: Machine) -> Ledger:
    """Never sleeps.  The accounts of a world."""
    found: Ledger | None = machine.data.get(_LEDGER)
    if found is None:
        found = machine.data[_LEDGER] = Ledger()
    return found


# -- freed objects ---------------------------------------------------------------------------------


@attrs.frozen
class Grave:
    """How an object ended.

    Attributes:
        what: what it was. who: the task that freed it. when: simulated ns. stack: from where,
        innermost first.  spender: the filesystem's method that put references it never took, if
        one did.
    """

    what: str
    who: str
    when: int
    stack: tuple[str, ...]
    spender: Site | None = None

    def lines(self) -> list[str]:
        """For a report."""
        at = f" at {self.stack[0]}" if self.stack else ""
        return [
            f"{self.who} freed it at {self.when} ns{at}",
            *(f"  {line}" for line in self.stack[1:6]),
            *_overdrawn(self.spender),
        ]


F = TypeVar("F", bound="Callable[..., None]")

ONLY_FREES: set[Any] = set()
"""The functions that do nothing but give memory back, as RCU callbacks mostly do."""


def only_frees(fn: F) -> F:
    """Never sleeps.  Declare that a function does nothing but `free` what it is given.

    As the callback of ``call_rcu`` it touches nothing that anybody else could touch then, so that
    the task that waits for it is still alone (`vfsim.checks.epochs`).
    """
    ONLY_FREES.add(fn)
    return fn


@only_frees
def free(obj: Any, what: str = "") -> None:
    """Never sleeps.  The object's memory is given back: from now on every use of it is a hard bug.

    Args:
        what: what it was, for reports; its class's name without it.

    What is known of its end is kept for as long as somebody could still use it, and no longer; so
    a class with ``__slots__`` needs ``__weakref__`` among them.

    Freeing it twice, or while one of its own locks is held, is a bug of its own.
    """
    machine = K.machine
    if K.cur is NOBODY or machine.dead:
        return
    kind = type(obj)
    if kind in _LIVING:
        _bug(
            machine,
            "lifetime.double-free",
            f"{_grave(machine, obj).what} is freed a second time",
            _grave(machine, obj),
        )
    what = what or kind.__name__
    _no_lock_held(machine, obj, what)
    stack = () if machine.trace is None else call_trace(sys._getframe(1))
    graves: WeakKeyDictionary[Any, Grave] | None = machine.data.get(_GRAVES)
    if graves is None:
        graves = machine.data[_GRAVES] = WeakKeyDictionary()
    graves[obj] = Grave(what, K.cur.name, machine.now, stack, spender(machine, obj))
    ledger(machine).close(obj)
    object.__setattr__(obj, "__class__", _twin(kind))


def is_freed(obj: Any) -> bool:
    """Never sleeps.  Whether an object was freed; the one question that may be asked of it."""
    return type(obj) in _LIVING


def freed_by(obj: Any) -> str:
    """Never sleeps.  The name of the task that freed an object, or "" if it lives."""
    return _grave(K.machine, obj).who if is_freed(obj) else ""


def _grave(machine: Machine, obj: Any) -> Grave:
    found: Grave | None = machine.data.get(_GRAVES, {}).get(obj)
    return found if found is not None else Grave(_LIVING[type(obj)].__name__, "somebody", 0, ())


def _bug(
    machine: Machine, rule: str, summary: str, grave: Grave, depth: int = 2, used: Any = None
) -> None:
    frame = sys._getframe(depth)
    culprit = _or_spender(blame(K.cur, frame), grave.spender)
    if culprit.owner == KERNEL and used is not None:
        culprit = giver(K.cur, frame, used) or culprit
    machine.fatal(
        Violation(
            rule, "hard", culprit.owner, culprit.where, summary, K.cur.name, tuple(grave.lines())
        )
    )


_LIVING: dict[type, type] = {}
"""For each poisoned class the class whose objects it takes over."""
_TWINS: dict[type, type] = {}


def _twin(kind: type) -> type:
    """The poisoned twin of a class: the same layout, and every access a bug."""
    found = _TWINS.get(kind)
    if found is None:
        body: dict[str, Any] = dict(_POISON, __slots__=(), __module__=kind.__module__)
        found = _TWINS[kind] = type(kind)(f"freed {kind.__name__}", (kind,), body)
        _LIVING[found] = kind
    return found


def _used(obj: Any, how: str) -> None:
    """Somebody used a freed object.  Returns only if that was a report, or a world that is over."""
    machine = K.machine
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if K.cur is NOBODY or machine.dead or machine.stopped or caller.startswith(_MAY_LOOK):
        return
    grave = _grave(machine, obj)
    summary = f"{K.cur.name} uses {grave.what} after it was freed: {how}"
    _bug(machine, "lifetime.use-after-free", summary, grave, 3, obj)


_MAY_LOOK = tuple(
    f"vfsim.{name}"
    for name in (
        "sim.trace",
        "checks.history",
        "checks.lifetime",
        "checks.waits",
        "checks.judge",
        "checks.report",
        "cli.",
    )
)
"""Who makes reports, and may look at what is freed."""


def _get(self: Any, name: str) -> Any:
    _used(self, f"reads .{name}")
    return object.__getattribute__(self, name)


def _set(self: Any, name: str, value: Any) -> None:
    _used(self, f"sets .{name}")
    object.__setattr__(self, name, value)


def _delete(self: Any, name: str) -> None:
    _used(self, f"deletes .{name}")
    object.__delattr__(self, name)


def _operator(name: str) -> Any:
    def use(self: Any, *args: Any) -> Any:
        _used(self, f"{name}()")
        return getattr(_LIVING[type(self)], name)(self, *args)

    return use


def _freed_repr(self: Any) -> str:
    return f"<freed {_LIVING[type(self)].__name__}>"


_POISON: dict[str, Any] = {
    "__getattribute__": _get,
    "__setattr__": _set,
    "__delattr__": _delete,
    "__repr__": _freed_repr,
    "__eq__": object.__eq__,
    "__hash__": object.__hash__,
    **{
        name: _operator(name)
        for name in (
            "__enter__",
            "__exit__",
            "__len__",
            "__iter__",
            "__getitem__",
            "__setitem__",
            "__contains__",
        )
    },
}


def _no_lock_held(machine: Machine, obj: Any, what: str) -> None:
    """Memory with a lock in it that somebody holds, or waits for, must not be freed."""
    for lock in _fields(obj):
        kind = type(lock)
        known = _LOCKS.get(kind)
        if known is None:
            known = _LOCKS[kind] = hasattr(kind, "is_locked") and hasattr(kind, "is_pin")
        if not known or not lock.is_locked():
            continue
        culprit, lines = overput(obj, blame(K.cur, sys._getframe(2)))
        violation = Violation(
            "lifetime.freed-locked", "soft", culprit.owner, culprit.where,
            f"{what} is freed while {lock.name} in it is locked", K.cur.name, (repr(lock), *lines),
        )  # fmt: skip
        machine.violation(followed(machine, violation))


_SLOTS: dict[type, tuple[str, ...]] = {}
_LOCKS: dict[type, bool] = {}


def _fields(obj: Any) -> list[Any]:
    """The fields of an object that may be locks, by what their annotations say.

    Not through properties: those might be scheduling points.
    """
    kind = type(obj)
    names = _SLOTS.get(kind)
    if names is None:
        found: dict[str, None] = {}
        for k in kind.__mro__:
            slots = k.__dict__.get("__slots__", ())
            said = inspect.get_annotations(k)
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in said or _MAY_BE_LOCK.search(str(said[name])):
                    raw = f"raw_{name}"
                    found[raw if hasattr(kind, raw) else name] = None
        names = _SLOTS[kind] = tuple(n for n in found if n[:2] != "__")
    values = [getattr(obj, name, None) for name in names]
    own = getattr(obj, "__dict__", None)
    if own:
        values += own.values()
    return values


_MAY_BE_LOCK = re.compile("Lock|Sem|Mutex|Bit|Seq")


# -- references ------------------------------------------------------------------------------------


def note_ref(obj: Any, delta: int, why: str, count: int | None = None) -> None:
    """Never sleeps.  A reference on ``obj`` was taken (+1) or put (-1).

    Args:
        why: by what: "iget", "dput".
        count: the count after it, if the caller wants it judged: a count below zero, and one that
            comes back from zero (unless ``why`` is "new"), are hard bugs.
    """
    machine = K.machine
    if K.cur is NOBODY or machine.dead:
        return
    if machine.judge.keeps_books:
        books: Ledger = machine.data.get(_LEDGER) or ledger(machine)
        held = K.cur.held
        while held is not None:
            if held[0].is_pin:
                books.change(held[0].site, obj, delta)
                break
            held = held[1]
        else:
            kernel = books.kernel
            kernel[obj] = kernel.get(obj, 0) + delta
    if count is not None and (count < 0 or (delta > 0 and count <= delta and why != "new")):
        _miscounted(machine, obj, count, why)
    trace = K.trace
    if trace is not None:
        stack = call_trace(sys._getframe(1))
        trace.references.append(
            (trace.label(obj), len(trace.events), K.cur.name, delta, why, stack)
        )


def hand_over(obj: Any, why: str) -> None:
    """Never sleeps.  A reference of the running method's now belongs to the kernel."""
    books = ledger(K.machine)
    site = innermost(K.cur)
    if site is not None and obj in books.kernel:
        books.change(site, obj, -1)
        books.change(None, obj, 1)


def _miscounted(machine: Machine, obj: Any, count: int, why: str) -> None:
    name = type(obj).__name__
    who = spender(machine, obj)
    frame = sys._getframe(2)
    module = frame.f_globals["__name__"]
    while frame.f_back is not None and frame.f_globals["__name__"] == module:
        frame = frame.f_back  # whoever called into the module that counts
    culprit = _or_spender(blame(K.cur, frame), who)
    if count < 0:
        rule, what = "lifetime.underflow", f"{why} of a {name} that has no references left"
    else:
        rule, what = (
            "lifetime.inc-from-zero",
            f"{why} brings a {name} without references back to life",
        )
    lines = (f"its count is now {count}", *ledger_of(machine, obj), *_overdrawn(who))
    machine.fatal(Violation(rule, "hard", culprit.owner, culprit.where, what, K.cur.name, lines))


def debtor(machine: Machine, obj: Any) -> Culprit:
    """Never sleeps.  Who took more references on ``obj`` than he put or handed over.

    A filesystem's method, if there is one, else the kernel.
    """
    account = ledger(machine).account(obj)
    worst = max(
        (site for site, balance in account.items() if site is not None and balance > 0),
        key=lambda site: account[site],
        default=None,
    )
    return Culprit(KERNEL, "") if worst is None else Culprit(worst.blamed, worst.where)


def referenced(machine: Machine, kind: type) -> list[Any]:
    """Never sleeps.  The objects of a class that are not freed, oldest first."""
    return [obj for obj in ledger(machine).kernel if isinstance(obj, kind)]


def spender(machine: Machine, obj: Any) -> Site | None:
    """Never sleeps.  The filesystem's method that put most, if its methods together put more
    references on ``obj`` than they took and got.
    """
    account = ledger(machine).account(obj)
    theirs = [(balance, site) for site, balance in account.items() if site is not None]
    if sum(balance for balance, _ in theirs) >= 0:
        return None
    return min(theirs, key=lambda e: (e[0], e[1].cls.__module__.startswith("vfsim.")))[1]


def _or_spender(culprit: Culprit, spender: Site | None) -> Culprit:
    """The kernel stumbles over a reference that was put once too often: whoever put it is to
    blame.
    """
    if culprit.owner != KERNEL or spender is None:
        return culprit
    return Culprit(spender.blamed, spender.where)


def _overdrawn(spender: Site | None) -> tuple[str, ...]:
    return () if spender is None else (f"{spender.title}() put a reference that it had not taken",)


def overput(obj: Any, culprit: Culprit) -> tuple[Culprit, tuple[str, ...]]:
    """Never sleeps.  Whose bug it is that ``obj`` lacks a reference, and a line that says why.

    Args:
        culprit: who came upon it.
    """
    who = spender(K.machine, obj)
    return _or_spender(culprit, who), _overdrawn(who)


def ledger_of(machine: Machine, obj: Any) -> list[str]:
    """Never sleeps.  Lines on the references of ``obj``: balances, and what was never put."""
    account = ledger(machine).account(obj)
    lines = [
        f"{'the kernel' if site is None else f'{site.title}()'} took {balance} more than were put"
        for site, balance in account.items()
        if balance > 0
    ]
    trace = machine.trace
    if trace is None:
        return lines
    open_: list[tuple[str, str, tuple[str, ...]]] = []
    label = trace.label(obj)
    for name, _, task, delta, why, stack in trace.references:
        if name != label:
            continue
        if delta > 0:
            open_.append((task, why, stack))
        elif open_:
            open_.pop(_matching(open_, task, stack))
    for task, why, stack in open_:
        lines.append(f"never put: {why} by {task}{f' at {stack[0]}' if stack else ''}")
        lines += [f"  from {line}" for line in stack[1:4]]
    return lines


def _matching(
    taken: list[tuple[str, str, tuple[str, ...]]], task: str, stack: tuple[str, ...]
) -> int:
    """Which reference a put gives back: the task's last from the same caller, else the oldest."""
    callers = stack[1:3]
    for i in range(len(taken) - 1, -1, -1):
        if taken[i][0] == task and any(
            _function(a) == _function(b) for a in taken[i][2][1:3] for b in callers
        ):
            return i
    return 0


def _function(line: str) -> str:
    return line.rpartition(" ")[2]


def report_leak(obj: Any, what: str, rule: str = "", blamed: str = "") -> None:
    """Never sleeps.  Report an object that should be gone and still has references.

    Args:
        what: what it is: "inode 12".
        rule: the rule's name; ``leak.`` and its class without it.
        blamed: whose bug it is if the books do not say.
    """
    machine = K.machine
    culprit = debtor(machine, obj)
    if culprit.owner == KERNEL and blamed:
        culprit = Culprit(blamed, "")
    name = type(obj).__name__.lower()
    violation = Violation(
        rule or f"leak.{name}", "leak", culprit.owner, culprit.where,
        f"{what} is still in use: a reference was never put",
        "" if K.cur is NOBODY else K.cur.name, tuple(ledger_of(machine, obj)),
    )  # fmt: skip
    machine.violation(followed(machine, violation))
