"""Checked calls that somebody watches: those with a pin of their own, and what hooks look at.

A method that promises to release or take something, or that has hooks, gets a `Call` as its pin:
hooks see the whole call, its arguments, its result or error.  What the caller promised, and what
happens while a method runs, is in `vfsim.checks.promises`; how one ends in `vfsim.checks.exits`.

`assert_held` is for authors: what they take for granted must be promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import blame, innermost
from vfsim.checks.exits import gives, must_not_fail, odd_result, settle, takes, wrong_result
from vfsim.checks.oops import is_operating, oops
from vfsim.checks.promises import (
    Args,
    arguments_of,
    by_method,
    caller_of,
    holds,
    is_about,
    is_part,
    label,
    named,
    report,
)
from vfsim.checks.rules import RULES, Clause, Kind
from vfsim.sim.context import NOBLOCK, Pin, enter, unpin
from vfsim.sim.errors import PASSING, Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.checks.contract import Site
    from vfsim.sim.context import Held
    from vfsim.sim.task import Task

WARNINGS = "contract.warnings"
"""In ``machine.data``: the warnings of a world (see `Call.advise`)."""


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
            culprit = blame(self.task, caller_of(site), outside=self)
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
        frame = caller_of(self.site)
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
                must_not_fail(self.site, t, error)
            self._finish(t, h, p)
        elif not isinstance(error, PASSING):
            oops(self.site, t, error)
            unpin(t, self)

    def _finish(self, t: Task, h: Held | None, p: Held) -> None:
        for hook in self.hooks:
            next(hook, None)
        settle(self.site, t, h, p, self.args, self.result, self.error, self.releases)
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
        if is_part(link[0], lock):
            return None
        link = link[1]
    args = arguments_of(site)
    unpromised = site.method.of(Kind.UNPROMISED, Kind.NOT_HELD, Kind.NO_RCU)
    for clause in unpromised if args is not None else ():
        if is_about(clause, lock, args or {}):
            return clause
    return next(iter(site.method.of(Kind.ALONE)), None)
