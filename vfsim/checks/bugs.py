"""Linux's ``BUG()`` and ``WARN_ON()``: what the kernel says when its objects are used against their
rules.

`warn` records a soft violation and the run goes on; `bug` stops the world, because what would
follow has no meaning.  Both blame the owner of the frame that called into the module that found
out: a filesystem that puts a reference twice, not `iput`.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from vfsim.checks.blame import KERNEL, KERNEL_MODULES, Culprit, blame, short
from vfsim.checks.lifetime import overput
from vfsim.checks.lockdep import followed
from vfsim.checks.rules import RULES
from vfsim.sim.errors import Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine


def _caller() -> Culprit:
    """Whose is the innermost frame outside the module that called `warn` or `bug`?"""
    frame = sys._getframe(2)
    module = frame.f_globals["__name__"]
    while frame.f_back is not None and frame.f_globals.get("__name__") == module:
        frame = frame.f_back
    return blame(frame=frame)


def _author(fn: Callable[..., Any]) -> Culprit:
    """Whose is a function that was called and has returned?"""
    code = inspect.unwrap(fn).__code__
    kernel = f"{fn.__module__}.".startswith(KERNEL_MODULES)
    owner = KERNEL if kernel else f"filesystem {_name(fn)}"
    return Culprit(owner, f"{short(code.co_filename)}:{code.co_firstlineno}")


def _name(fn: Callable[..., Any]) -> str:
    return fn.__qualname__.replace("<locals>.", "")


def bug(
    rule: str,
    summary: str,
    unreferenced: Any = None,
    by: Callable[..., Any] | None = None,
) -> NoReturn:
    """Never sleeps.  Stop the world: rule ``rule`` was broken beyond repair.

    Args:
        unreferenced: the object whose missing reference it is about: who put it is to blame.
        by: the function whose doing it is, although it has returned.
    """
    culprit = _caller() if by is None else _author(by)
    lines: tuple[str, ...] = ()
    if unreferenced is not None:
        culprit, lines = overput(unreferenced, culprit)
    where = culprit.where
    K.machine.fatal(Violation(rule, "hard", culprit.owner, where, summary, K.cur.name, lines))
    raise AssertionError("a stopped world went on")


def warn(rule: str, summary: str, *details: str, kind: str = "soft", blamed: str = "") -> None:
    """Never sleeps.  Record that rule ``rule`` was broken, and go on.

    Args:
        summary: one sentence.  details: further lines for the report.
        kind: "soft", or "leak" for what was left over.
        blamed: whose bug it is, if not that of the caller of the module that found out.
    """
    culprit = _caller()
    owner = blamed or culprit.owner
    violation = Violation(rule, kind, owner, culprit.where, summary, K.cur.name, details)
    K.machine.violation(followed(K.machine, violation))


def warn_of(rule: str, fn: Callable[..., Any], summary: str) -> None:
    """Never sleeps.  Record that ``fn``, which was called and has returned, broke rule ``rule``."""
    owner, where = _author(fn)
    what = f"{_name(fn)}() {summary}"
    K.machine.violation(Violation(rule, "soft", owner, where, what, K.cur.name))


def leaked_by(machine: Machine, rule: str, fn: Callable[..., Any], summary: str) -> None:
    """Never sleeps.  As `warn_of`, of what ``fn`` has left over in a world that is at its end."""
    owner, where = _author(fn)
    machine.violation(Violation(rule, "leak", owner, where, f"{_name(fn)}() {summary}"))


def asked(rule: str) -> None:
    """Never sleeps.  Rule ``rule`` is checked here, where it could be broken: count it."""
    found = RULES.get(rule)
    if found is not None:
        found.checked += 1
