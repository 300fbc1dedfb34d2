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

from vfsim.checks.blame import KERNEL, Culprit, blame, short
from vfsim.checks.lifetime import overput
from vfsim.checks.lockdep import followed
from vfsim.checks.rules import RULES
from vfsim.sim.errors import Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable


def _caller() -> Culprit:
    """Whose is the innermost frame outside the module that called `warn` or `bug`?"""
    frame = sys._getframe(2)
    module = frame.f_globals["__name__"]
    while frame.f_back is not None and frame.f_globals.get("__name__") == module:
        frame = frame.f_back
    return blame(frame=frame)


def bug(rule: str, summary: str, unreferenced: Any = None) -> NoReturn:
    """Never sleeps.  Stop the world: rule ``rule`` was broken beyond repair.

    Args:
        unreferenced: the object whose missing reference it is about: who put it is to blame.
    """
    culprit = _caller()
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
    name = fn.__qualname__.replace("<locals>.", "")
    code = inspect.unwrap(fn).__code__
    where = f"{short(code.co_filename)}:{code.co_firstlineno}"
    kernel = f"{fn.__module__}.".startswith(("vfsim.fs.", "vfsim.mm.", "vfsim.block."))
    blamed = KERNEL if kernel else f"filesystem {name}"
    K.machine.violation(Violation(rule, "soft", blamed, where, f"{name}() {summary}", K.cur.name))


def asked(rule: str) -> None:
    """Never sleeps.  Rule ``rule`` is checked here, where it could be broken: count it."""
    found = RULES.get(rule)
    if found is not None:
        found.checked += 1
