"""What the caller of a checked method promised, and what happens while it runs.

* **entry**: `enter_wrong` evaluates each promise of the caller by itself and reports those that are
  broken, to the blame of whoever's frame made the call.
* **during**: the call's pin lies on the held stack.  A release of what lies below it is reported at
  that moment (`released`), unless the method promised it; so is a sleep in a method that must not
  (`slept`).

Everything here is slow and obvious on purpose: it runs when the inline tests of a method's wrapper
are not enough.  It records violations and changes nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import Culprit, blame, innermost
from vfsim.checks.lockdep import followed
from vfsim.checks.rules import Clause, Kind, LockPath
from vfsim.sim.context import NOBLOCK, RCU, SHARED, held_entries
from vfsim.sim.errors import Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from vfsim.checks.contract import Site
    from vfsim.sim.task import Task

Args = tuple[Any, ...]
RELEASED = "contract.released"  # in machine.data: releases across a pin that were told already


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
    caller = arguments_of(outer)
    if caller is None or caller["self"] is not args["self"] or clause.path is None:
        return False
    link = t.held
    while link is not None and not link[0].is_pin:
        if is_at(clause.path, link[0], args):
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
    rule = rule_about(site, lock, arguments_of(site))
    culprit = blame(t, sys._getframe(1))
    t.machine.data.setdefault(RELEASED, {})[pin, lock] = True
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
    args = arguments_of(site)
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


def arguments_of(site: Site) -> dict[str, Any] | None:
    """The arguments of a site's innermost call, from its frame; None if not on this stack."""
    code = site.checked.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return {p: frame.f_locals[p] for p in ("self", *site.method.params)}
        frame = frame.f_back
    return None


def caller_of(site: Site) -> FrameType | None:
    """The frame that made the innermost call of a site on this stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not site.checked.__code__:
        frame = frame.f_back
    return None if frame is None else frame.f_back


def rule_about(site: Site, lock: Any, args: Mapping[str, Any] | None) -> str:
    """The id of the rule by which the caller holds ``lock``, else the general one about leaving."""
    for clause in site.method.clauses if args is not None else ():
        if is_about(clause, lock, args or {}):
            return clause.rule if clause.cell is None else clause.cell.prose or clause.rule
    return f"{site.method.id}.exit"


def is_about(clause: Clause, lock: Any, args: Mapping[str, Any]) -> bool:
    """Whether a clause speaks of that lock, or of rcu-walk and that is the RCU read section."""
    if clause.path is None:
        return lock is RCU and clause.kind in (Kind.NO_RCU, Kind.UNPROMISED)
    return is_at(clause.path, lock, args)


def is_at(path: LockPath, lock: Any, args: Mapping[str, Any]) -> bool:
    """Whether a path leads to that lock."""
    try:
        if path.root == "return":
            return False
        if path.root == "any":
            return class_of(lock) == path.name
        return is_part(lock, path.find(args))
    except (AttributeError, IndexError, KeyError, TypeError):
        return False


def is_part(entry: Any, lock: Any) -> bool:
    """Whether an entry of the held stack is a lock, or what it consists of (a seqlock's two)."""
    return entry is lock or any(entry is part for part in getattr(lock, "parts", ()))
