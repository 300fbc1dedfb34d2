"""What happens around a checked call when the inline tests of its wrapper are not enough.

Three moments, in order:

* **entry**: `enter_wrong` evaluates each promise of the caller by itself and reports those that are
  broken, to the blame of whoever's frame made the call.
* **during**: the call's pin lies on the held stack.  A release of what lies below it is reported at
  that moment (`released`), unless the method promised it.
* **exit**, after a return and after an OSError alike: `settle` compares what the task holds now
  with what it held, as lock *instances*, and with what the method promised to acquire and release;
  hooks see the whole call (`Call`).  An OSError of a method that cannot fail, and a result that its
  caller can do nothing with, are reported; so is any other exception, an *oops*, with its
  traceback, and what the method still held is then not looked at.

Everything here is slow and obvious on purpose.  It records violations and, at exit, takes the pin
off the held stack; it changes nothing else.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import Culprit, blame, innermost
from vfsim.checks.history import taken
from vfsim.checks.lifetime import is_freed, ledger
from vfsim.checks.lockdep import followed
from vfsim.checks.oops import errno_name, error_name, is_operating, oops
from vfsim.checks.rules import RULES, Clause, Kind, LockPath
from vfsim.sim.context import NOBLOCK, RCU, SHARED, Pin, enter, held_entries, unpin
from vfsim.sim.errors import PASSING, Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from vfsim.checks.contract import Site
    from vfsim.sim.context import Held
    from vfsim.sim.task import Task

Args = tuple[Any, ...]
_RELEASED = "contract.released"  # in machine.data: releases across a pin that were told already
WARNINGS = "contract.warnings"
"""In ``machine.data``: the warnings of a world (see `Call.advise`)."""


def report(
    site: Site,
    t: Task,
    rule: str,
    culprit: Culprit,
    summary: str,
    *details: str,
    kind: str = "soft",
    about_locks: bool = False,
) -> None:
    """Record a broken rule of a method.

    Args:
        about_locks: what the kernel holds or not, where a filesystem may have let go of it before.
    """
    violation = Violation(
        rule, kind, culprit.owner, culprit.where, summary, t.name, (*details, *site.quote(rule))
    )
    if about_locks:
        violation = followed(t.machine, violation)
    if kind == "hard":
        K.machine.fatal(violation)
    else:
        K.machine.violation(violation)


def by_method(site: Site) -> Culprit:
    """The blame for what a method did."""
    return Culprit(site.blamed, site.where)


def named(site: Site, args: Args) -> dict[str, Any]:
    """The arguments by name."""
    return dict(zip(("self", *site.method.params), args, strict=True))


# -- entry -----------------------------------------------------------------------------------------


def enter_wrong(site: Site, t: Task, args: Args) -> None:
    """The inline tests failed: find out which clause is broken, and blame the caller."""
    given = named(site, args)
    for clause in sorted(site.method.entry, key=_says_little):
        problem = broken(clause, t, given)
        if problem and not _its_own_affair(clause, t, given):
            culprit = blame(t, sys._getframe(1).f_back)
            if clause.kind is Kind.SLEEPABLE:
                lockdep = getattr(t.machine.judge, "lockdep", None)
                culprit = (lockdep and lockdep.forbidder(t)) or culprit
            report(
                site,
                t,
                clause.rule,
                culprit,
                f"{site.title}() was called {problem}",
                *state_of(clause, given),
                about_locks=clause.path is not None or clause.kind is Kind.SLEEPABLE,
            )


def _its_own_affair(clause: Clause, t: Task, args: Mapping[str, Any]) -> bool:
    """Whether a method calls the one that it overrides, or another of the same object, with a lock
    that it took itself: what the contract says of its caller it can see to.
    """
    outer = innermost(t)
    if outer is None or clause.kind not in (Kind.NOT_HELD, Kind.NOT_EXCLUSIVE):
        return False
    caller = _arguments_of(outer)
    if caller is None or caller["self"] is not args["self"] or clause.path is None:
        return False
    link = t.held
    while link is not None and not link[0].is_pin:
        if _is_at(clause.path, link[0], args):
            return True
        link = link[1]
    return False


def _says_little(clause: Clause) -> bool:
    """That sleeping is not allowed is told last: what makes it so may break a rule of its own."""
    return clause.kind is Kind.SLEEPABLE


def broken(clause: Clause, t: Task, args: Mapping[str, Any]) -> str:
    """Never sleeps.  How a promise of the caller is broken, or "" (the inline tests' twin)."""
    if not clause.applies(args):
        return ""
    kind = clause.kind
    if kind is Kind.SLEEPABLE:
        return f"where sleeping is not allowed: {why_atomic(t)}" if t.ctx.nosleep else ""
    if kind is Kind.NO_RCU:
        return "inside an RCU read section" if t.ctx.rcu else ""
    if kind is Kind.EXPECTS:
        assert clause.test is not None
        return "" if clause.test.holds(args) else f"although this does not hold: {clause.test}"
    return _lock_problem(clause, t, args)


def _lock_problem(clause: Clause, t: Task, args: Mapping[str, Any]) -> str:
    kind, path = clause.kind, clause.path
    assert path is not None
    want = kind in (Kind.HELD, Kind.SHARED)
    if path.root == "any":
        have = holds_class(t, path.name, kind in (Kind.HELD, Kind.NOT_EXCLUSIVE))
        name = f"any {path.name}"
    else:
        name = path.text.lstrip("@")
        try:
            lock = path.find(args)
            have = lock is not None and holds(
                t, lock, kind in (Kind.HELD, Kind.NOT_EXCLUSIVE), clause.anyone
            )
        except AttributeError as error:
            return f"without {name}: there is none ({error})" if want else ""
    if have is want:
        return ""
    how = "exclusive" if kind in (Kind.HELD, Kind.NOT_EXCLUSIVE) and not clause.anyone else ""
    verb = "locked" if clause.anyone else "held"
    return f"{'without' if want else 'with'} {name} {verb}{' ' if how else ''}{how}"


def holds(t: Task, lock: Any, exclusive: bool, anyone: bool = False) -> bool:
    """Never sleeps.  Whether a task holds a lock: exclusive, or at all."""
    if anyone:
        return bool(lock.is_locked())
    if lock is RCU:
        return t.ctx.rcu > 0
    return lock.owner is t or (not exclusive and t in getattr(lock, "readers", ()))


def holds_class(t: Task, name: str, exclusive: bool) -> bool:
    """Never sleeps.  Whether a task holds some lock of a class (``name``, or ``name:whatever``)."""
    for lock, key in held_entries(t):
        if class_of(lock) == name and not (exclusive and key & SHARED):
            return True
    return False


def class_of(lock: Any) -> str:
    """The name of a lock's class without the filesystem type."""
    return label(lock).partition(":")[0]


def why_atomic(t: Task) -> str:
    """Never sleeps.  What makes sleeping illegal for a task: the innermost thing that does."""
    node = t.ctx
    reason = ""
    for entry, key in held_entries(t):
        while node.parent is not None and node.key != key:
            node = node.parent
        if node.parent is not None and node.nosleep and not node.parent.nosleep:
            reason = label(entry)
    link = t.held
    while link is not None:
        if link[0].is_pin and link[0].key == NOBLOCK.key:
            return f"{link[0].site.title}() may not block"
        if not reason:
            break
        link = link[1]
    return (
        f"{reason} is held"
        if reason
        else "in an interrupt handler"
        if t.ctx.in_irq
        else "atomic context"
    )


def label(entry: Any) -> str:
    """A lock's name in a report."""
    return str(getattr(entry, "name", entry))


def state_of(clause: Clause, args: Mapping[str, Any]) -> tuple[str, ...]:
    """A line on the lock in question."""
    if clause.path is None or clause.path.root == "any":
        return ()
    try:
        return (f"{clause.path.text} is {clause.path.find(args)!r}",)
    except AttributeError:
        return ()


# -- during ----------------------------------------------------------------------------------------


def released(t: Task, lock: Any, pin: Any) -> Violation:
    """Never sleeps.  The violation to record for a method that releases what its caller holds.

    For the judge, at the moment it happens; a downgrade is a release too.
    """
    site: Site = pin.site
    rule = _rule_about(site, lock, _arguments_of(site))
    culprit = blame(t, sys._getframe(1))
    t.machine.data.setdefault(_RELEASED, {})[pin, lock] = True
    return Violation(
        rule, "soft", site.blamed, culprit.where,
        f"{site.title}() released {label(lock)}, which its caller holds", t.name,
        (f"{label(lock)} was taken before the call and must outlast it", *site.quote(rule)),
    )  # fmt: skip


def slept(t: Task, what: str) -> Violation | None:
    """Never sleeps.  The violation to record for a task that sleeps in a method that must not.

    None if sleeping is forbidden for another reason (a spinlock that is held, an interrupt).
    """
    link = t.held
    while link is not None:
        pin = link[0]
        if pin.is_pin and pin.key == NOBLOCK.key:
            break
        link = link[1]
    else:
        return None
    site: Site = pin.site
    args = _arguments_of(site)
    never = site.method.of(Kind.NEVER)
    clause = next(
        (c for c in never if c.when is None or args is None or c.when.holds(args)), never[0]
    )
    culprit = blame(t, sys._getframe(1))
    condition = f" when {clause.when}" if clause.when is not None else ""
    return Violation(
        clause.rule, "hard", site.blamed, culprit.where,
        f"{site.title}() sleeps ({what}), but it must not{condition}",
        t.name, site.quote(clause.rule),
    )  # fmt: skip


def _arguments_of(site: Site) -> dict[str, Any] | None:
    """The arguments of a site's innermost call, from its frame; None if not on this stack."""
    code = site.checked.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return {p: frame.f_locals[p] for p in ("self", *site.method.params)}
        frame = frame.f_back
    return None


def _caller_of(site: Site) -> FrameType | None:
    """The frame that made the innermost call of a site on this stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not site.checked.__code__:
        frame = frame.f_back
    return None if frame is None else frame.f_back


def _rule_about(site: Site, lock: Any, args: Mapping[str, Any] | None) -> str:
    """The id of the rule by which the caller holds ``lock``, else the general one about leaving."""
    for clause in site.method.clauses if args is not None else ():
        if _is_about(clause, lock, args or {}):
            return clause.rule if clause.cell is None else clause.cell.prose or clause.rule
    return f"{site.method.id}.exit"


# -- exit ------------------------------------------------------------------------------------------


def leave(site: Site, t: Task, h: Held | None, p: Held, args: Args, result: Any) -> None:
    """A method returned, and the task does not hold exactly what it held."""
    _settle(site, t, h, p, named(site, args), result, None)


def leave_raising(
    site: Site, t: Task, h: Held | None, p: Held, args: Args, error: BaseException
) -> None:
    """A method raised."""
    if is_operating(error):
        if site.method.infallible:
            _must_not_fail(site, t, error)
        if t.held is p:
            unpin(t, p[0])
        else:
            _settle(site, t, h, p, named(site, args), None, error)
    elif not isinstance(error, PASSING):
        oops(site, t, error)
        unpin(t, p[0])


def _must_not_fail(site: Site, t: Task, error: OSError) -> None:
    """An error that nobody can be told of: the kernel would go on as if it had not been, with the
    locks that it holds.  Ends the world.
    """
    hint = "deal with the error inside: note it for later, or go on without"
    summary = f"{site.title}() raised {error_name(error)}, but it has no way to fail"
    report(site, t, f"{site.method.id}.raises", by_method(site), summary, hint, kind="hard")


def _settle(
    site: Site,
    t: Task,
    h: Held | None,
    p: Held,
    args: Mapping[str, Any],
    result: Any,
    error: BaseException | None,
    releases: tuple[tuple[Clause, Any], ...] = (),
) -> None:
    """Compare what is held with what was held and what was promised, then take the pin off."""
    pin = p[0]
    above, below = _split(t, pin)
    lost = _minus(list(_locks(h)), [lock for lock, _ in below])
    gained = above
    for clause, lock in _promised(site, args, result, error):
        if any(e[0] is lock for e in gained):
            gained = [e for e in gained if e[0] is not lock]
        elif not clause.anyone or not lock.is_locked():
            problem = f"returned without {_path(clause)} locked"
            _wrong(site, t, clause.rule, problem, f"{_path(clause)} is {lock!r}")
    for clause, lock in releases:
        lost = [e for e in lost if e is not lock]
        if any(e[0] is lock for e in (*below, *gained)):
            gained = [e for e in gained if e[0] is not lock]
            _wrong(site, t, clause.rule, f"{_left(error)} with {_path(clause)} still held")
    told = t.machine.data.get(_RELEASED, {})
    for lock in lost:
        if not told.pop((pin, lock), False):
            problem = f"{_left(error)} without {label(lock)}, which its caller holds"
            _wrong(site, t, _rule_about(site, lock, args), problem)
    for lock, key in gained:
        if lock not in lost:  # else released and taken again: told when it happened
            shared = " (shared)" if key & SHARED else ""
            problem = f"{_left(error)} with {label(lock)}{shared} still held"
            _wrong(site, t, _leak_rule(site, lock, args), problem, *_where_taken(t, lock))
    unpin(t, pin)


def _wrong(site: Site, t: Task, rule: str, problem: str, *details: str) -> None:
    report(site, t, rule, by_method(site), f"{site.title}() {problem}", *details)


def _left(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {error_name(error)} and left"


def _path(clause: Clause) -> str:
    assert clause.path is not None
    return clause.path.text


def _where_taken(t: Task, lock: Any) -> tuple[str, ...]:
    """Where a lock was taken, if the run is traced."""
    event = taken(K.trace, t, lock)
    return () if event is None else (f"{label(lock)} was taken at {event.where}",)


def _split(t: Task, pin: Any) -> tuple[list[tuple[Any, int]], list[tuple[Any, int]]]:
    """What is held above and below a pin, innermost first, as (lock, key)."""
    above: list[tuple[Any, int]] = []
    below: list[tuple[Any, int]] = []
    side = above
    link, node = t.held, t.ctx
    while link is not None:
        entry = link[0]
        if entry is pin:
            side = below
        if not entry.is_pin:
            side.append((entry, node.key))
        if not entry.is_pin or entry.key:
            node = node.parent
        link = link[1]
    return above, below


def _locks(link: Held | None) -> Iterator[Any]:
    """The locks from a link downwards, innermost first."""
    while link is not None:
        if not link[0].is_pin:
            yield link[0]
        link = link[1]


def _minus(before: list[Any], after: list[Any]) -> list[Any]:
    """What was there before and is not now."""
    missing = []
    for lock in before:
        at = next((i for i, other in enumerate(after) if other is lock), -1)
        if at < 0:
            missing.append(lock)
        else:
            del after[at]
    return missing


def _promised(
    site: Site, args: Mapping[str, Any], result: Any, error: BaseException | None
) -> Iterator[tuple[Clause, Any]]:
    """The locks that the method returns with."""
    for clause in site.method.of(Kind.ACQUIRES) if error is None else ():
        assert clause.path is not None
        if clause.path.root == "return" and result is None:
            continue  # a hook or the caller has more to say about that
        try:
            if not clause.applies({**args, "result": result}):
                continue
            lock = clause.path.find(args, result)
        except (AttributeError, IndexError, TypeError) as problem:
            text = f"returned {result!r}, in which {clause.path.text} cannot be found ({problem})"
            _wrong(site, K.cur, clause.rule, text)
            continue
        clause.checked += 1
        yield clause, lock


def _leak_rule(site: Site, lock: Any, args: Mapping[str, Any]) -> str:
    """A lock that the method may return with has a rule of its own; all others share one."""
    for clause in site.method.of(Kind.ACQUIRES):
        assert clause.path is not None
        if class_of(lock) == clause.path.name or _is_at(clause.path, lock, args):
            return clause.rule
    return _rule_about(site, lock, args)


def _is_about(clause: Clause, lock: Any, args: Mapping[str, Any]) -> bool:
    """Whether a clause speaks of that lock, or of rcu-walk and that is the RCU read section."""
    if clause.path is None:
        return lock is RCU and clause.kind in (Kind.NO_RCU, Kind.UNPROMISED)
    return _is_at(clause.path, lock, args)


def _is_at(path: LockPath, lock: Any, args: Mapping[str, Any]) -> bool:
    """Whether a path leads to that lock."""
    try:
        if path.root == "return":
            return False
        if path.root == "any":
            return class_of(lock) == path.name
        return _is_part(lock, path.find(args))
    except (AttributeError, IndexError, KeyError, TypeError):
        return False


def _is_part(entry: Any, lock: Any) -> bool:
    """Whether an entry of the held stack is a lock, or what it consists of (a seqlock's two)."""
    return entry is lock or any(entry is part for part in getattr(lock, "parts", ()))


ODD = (type(None), int, OSError)
"""What C returns instead of an object, when there is none."""

_KIN = {"str": (str,), "bytes": (bytes, bytearray, memoryview), "int": (int,)}


def wrong_result(site: Site, t: Task, result: Any) -> None:
    """A method that returns nothing returned something: usually an errno, as one would in C."""
    hint = _raise_it(result) or "it does its work and returns nothing; what is returned is ignored"
    _returned(site, t, f"returned {result!r}", hint)


def odd_result(site: Site, t: Task, result: Any) -> None:
    """A method returned what it may not have meant: None, an errno as in C, or another type.

    Where the kernel cannot go on with it, the world ends.
    """
    method = site.method
    if t.machine.dead or (result is None and not method.fruitful):
        return
    what = f"returned {result!r}"
    if method.result != "Any":
        what += f", not {method.result}"
    if result is None:
        _returned(site, t, what, "is a `return` missing?", kind="hard")
        return
    number = method.result in ("bool", "int")
    hint = "" if number and method.infallible else _raise_it(result)
    kin = _KIN.get(method.result)
    if hint:
        _returned(site, t, what, hint, kind="soft" if number else "hard")
    elif kin is not None and not isinstance(result, kin):
        _returned(site, t, what, f"its caller needs {method.result}", kind="hard")


def _raise_it(result: Any) -> str:
    """What to write instead of returning an error; "" if this is none."""
    code = result.errno if isinstance(result, OSError) else -result if type(result) is int else 0
    if code not in errno.errorcode:
        return ""
    name = errno_name(code)
    return f"an error is raised, not returned: raise {name}()   (from vfsim.sim.errors)"


def _returned(site: Site, t: Task, what: str, hint: str, kind: str = "soft") -> None:
    rule = f"{site.method.id}.returns"
    report(site, t, rule, by_method(site), f"{site.title}() {what}", hint, kind=kind)


def gives(site: Site, t: Task, args: Args, result: Any) -> None:
    """The method returned an object, with a reference that from now on is its caller's."""
    wanted = site.method.result
    if not site.method.hooks and wanted != "Any" and not _is_a(result, wanted):  # hooks say more
        hint = _raise_it(result) or f"its caller needs {wanted}"
        _returned(site, t, f"returned {result!r}, not {wanted}", hint, kind="hard")
    for clause in site.method.of(Kind.GIVES):
        clause.checked += 1
        if not _pass_on(site, t, result, +1):
            problem = f"returned {result!r} without a reference for its caller"
            _wrong(site, t, clause.rule, problem, "take one before returning it, as dget() does")


def _is_a(result: object, wanted: str) -> bool:
    """Whether an object is of a class that an annotation names."""
    return any(cls.__name__ in wanted for cls in type(result).__mro__[:-1])


def takes(site: Site, t: Task, args: Mapping[str, Any]) -> None:
    """The method returned, and has put a reference that was its caller's."""
    for clause in site.method.of(Kind.TAKES):
        assert clause.path is not None
        clause.checked += 1
        obj = args[clause.path.root]
        for step in clause.path.steps:
            obj = getattr(obj, step)
        if not is_freed(obj) and not _pass_on(site, t, obj, -1):
            books = ledger(t.machine)  # what it kept is its own now
            books.change(innermost(t), obj, -1)
            books.change(site, obj, 1)
            problem = f"returned without putting the reference on {clause.path.text}"
            _wrong(
                site,
                t,
                clause.rule,
                problem,
                "its caller relied on that, so the object will never go",
            )


def _pass_on(site: Site, t: Task, obj: Any, sign: int) -> bool:
    """Move one reference between the accounts of a method and of its caller.

    False if there is none to move; True for objects of whose references nobody keeps account.
    """
    books = ledger(t.machine)
    if obj not in books.kernel:
        return True
    if books.balance(site, obj) * sign < 1:
        return False
    books.change(site, obj, -sign)
    books.change(innermost(t), obj, sign)
    return True


# -- calls with a pin of their own -----------------------------------------------------------------


class Call(Pin):
    """One call that a hook watches or that changes what is held: its pin, and what hooks look at.

    Attributes:
        args: the arguments by name.  task: who calls.
        result, error: what the method returned or raised, after it did.
        on_release: a hook's function to call just before a promised release.
        listeners: hooks' functions to call when the kernel does something (see `tell`).
    """

    __slots__ = (
        "args",
        "error",
        "hooks",
        "listeners",
        "on_release",
        "releases",
        "result",
        "site",
        "task",
    )

    def __init__(self, site: Site, task: Task, args: dict[str, Any]) -> None:
        self.site = site
        self.task = task
        self.args = args
        self.result: Any = None
        self.error: BaseException | None = None
        self.on_release: Callable[[], None] | None = None
        self.listeners: dict[str, Callable[[Any], None]] = {}
        self.key = 0
        self.hooks: list[Iterator[None]] = []
        self.releases: tuple[tuple[Clause, Any], ...] = ()

    def may_release(self, lock: object, task: Task) -> bool:
        """Never sleeps.  The engine asks when a release crosses this pin."""
        if any(held is lock for _, held in self.releases):
            if self.on_release is not None:
                self.on_release()
            return True
        return False

    def keeps(self, lock: Any) -> None:
        """Never sleeps.  For hooks: this call was right not to release that lock."""
        self.releases = tuple(r for r in self.releases if r[1] is not lock)

    def check(self, rule: str, ok: object, summary: str, *details: str, kind: str = "soft") -> bool:
        """Never sleeps.  For hooks: ``rule`` was evaluated; unless ``ok``, the method broke it.

        ``summary`` goes on from the method's name: "returned with the page locked".
        """
        if rule in RULES:
            RULES[rule].checked += 1
        if not ok:
            site = self.site
            report(
                site,
                self.task,
                rule,
                by_method(site),
                f"{site.title}() {summary}",
                *details,
                kind=kind,
            )
        return bool(ok)

    def caller(self, rule: str, ok: object, summary: str, *details: str) -> bool:
        """Never sleeps.  For hooks: the same with the caller to blame."""
        if rule in RULES:
            RULES[rule].checked += 1
        if not ok:
            site = self.site
            culprit = blame(self.task, _caller_of(site), outside=self)
            what = f"{site.title}() was called {summary}"
            report(site, self.task, rule, culprit, what, *details)
        return bool(ok)

    def advise(self, rule: str, ok: object, summary: str) -> None:
        """Never sleeps.  For hooks: a soft rule was evaluated, which is advice.

        Who does not follow it (``summary`` says how) gets a *warning*: it is counted for coverage
        and kept in the world, and it is nobody's bug.
        """
        advice = RULES[rule]
        advice.checked += 1
        if ok:
            return
        advice.unheeded += 1
        site = self.site
        warning = Violation(
            rule, "warning", site.blamed, site.where, f"{site.title}() {summary}", self.task.name,
            (*site.quote(rule),),
        )  # fmt: skip
        K.machine.data.setdefault(WARNINGS, []).append(warning)

    @property
    def outermost(self) -> bool:
        """Never sleeps.  For hooks, before the method: no other method runs in this task."""
        return innermost(self.task) is None

    def reached_through(self, *functions: str) -> bool:
        """Never sleeps.  For hooks: whether one of these functions of the kernel is on the stack.

        ``functions``: qualified names, as ``FilesystemCalls.ustat``.
        """
        frame = _caller_of(self.site)
        while frame is not None:
            if frame.f_code.co_qualname in functions and frame.f_globals["__name__"].startswith(
                "vfsim."
            ):
                return True
            frame = frame.f_back
        return False

    def returned(self, t: Task, h: Held | None, p: Held, result: Any) -> Any:
        """The method returned."""
        self.result = result
        self._finish(t, h, p)
        method = self.site.method
        if method.silent:
            if result is not None:
                wrong_result(self.site, t, result)
        elif method.of(Kind.GIVES):
            if result is not None:
                gives(self.site, t, tuple(self.args.values()), result)
        else:
            odd_result(self.site, t, result)
        return result

    def raised(self, t: Task, h: Held | None, p: Held, error: BaseException) -> None:
        """The method raised."""
        if is_operating(error):
            self.error = error
            if self.site.method.infallible:
                _must_not_fail(self.site, t, error)
            self._finish(t, h, p)
        elif not isinstance(error, PASSING):
            oops(self.site, t, error)
            unpin(t, self)

    def _finish(self, t: Task, h: Held | None, p: Held) -> None:
        for hook in self.hooks:
            next(hook, None)
        _settle(self.site, t, h, p, self.args, self.result, self.error, self.releases)
        if self.error is None:
            takes(self.site, t, self.args)

    def __repr__(self) -> str:
        return f"<{self.site.title}(), running>"


def begin(site: Site, t: Task, args: Args) -> Call:
    """A call with a pin of its own starts: note what it promises, and let its hooks look."""
    given = named(site, args)
    call = Call(site, t, given)
    promised = []
    for clause in site.method.of(Kind.RELEASES):
        assert clause.path is not None
        if clause.applies(given):
            clause.checked += 1
            try:
                promised.append((clause, clause.path.find(given)))
            except AttributeError:
                continue  # the entry check has reported that there is no such lock
    call.releases = tuple(promised)
    for hook in site.method.hooks:
        running = hook.fn(call, *(given[p] for p in hook.params))
        next(running, None)
        call.hooks.append(running)
    for clause in site.method.of(Kind.NEVER):
        if clause.applies(given):
            clause.checked += 1
            call.key = NOBLOCK.key
    if call.key:
        t.ctx = t.ctx.next[call.key] if call.key in t.ctx.next else enter(t.ctx, call.key, NOBLOCK)
    return call


def tell(what: str, obj: Any) -> None:
    """Never sleeps.  The kernel is about to do ``what`` to ``obj``: let those know who watch the
    methods that run in this task.
    """
    link = K.cur.held
    while link is not None:
        if isinstance(link[0], Call) and what in link[0].listeners:
            link[0].listeners[what](obj)
        link = link[1]


def running_call(t: Task, method: str) -> Call | None:
    """Never sleeps.  The innermost running call of ``TABLE.METHOD`` with its own pin, or None."""
    link = t.held
    while link is not None:
        if isinstance(link[0], Call) and link[0].site.method.id == method:
            return link[0]
        link = link[1]
    return None


# -- assertions ------------------------------------------------------------------------------------


def assert_held(lock: Any, *, shared: bool = False) -> None:
    """Never sleeps.  State that the task holds ``lock``: exclusive, or with ``shared`` in any mode;
    of ``RCU``, that it is in a read section.

    A wrong statement is reported to the blame of whoever states it.  So is a right one, if a
    filesystem's method states it of a lock that the contract does not promise: another caller will
    come without it.

    Linux: ``lockdep_assert_held``.
    """
    t = K.cur
    site = innermost(t)
    clause = None if site is None else _unpromised(site, t, lock)
    ok = holds(t, lock, not shared)
    if ok and clause is None:
        return
    culprit = blame(t)
    if site is not None and clause is not None and culprit.owner == site.blamed:
        what = f"{site.title}() asserts that {label(lock)} is held"
        what += ", which the contract does not promise"
        report(
            site, t, clause.rule, culprit, what, "held this time" if ok else "not held this time"
        )
    elif not ok:
        K.machine.violation(
            Violation(
                "lockdep.assert_held", "soft", culprit.owner, culprit.where,
                f"{label(lock)} is asserted to be held, and is not", t.name, (f"it is {lock!r}",),
            )
        )  # fmt: skip


def _unpromised(site: Site, t: Task, lock: Any) -> Clause | None:
    """The clause that says a method may not rely on ``lock``, unless the method took it itself."""
    link = t.held
    while link is not None and not link[0].is_pin:
        if _is_part(link[0], lock):
            return None
        link = link[1]
    args = _arguments_of(site)
    unpromised = site.method.of(Kind.UNPROMISED, Kind.NOT_HELD, Kind.NO_RCU)
    for clause in unpromised if args is not None else ():
        if _is_about(clause, lock, args or {}):
            return clause
    return next(iter(site.method.of(Kind.ALONE)), None)
