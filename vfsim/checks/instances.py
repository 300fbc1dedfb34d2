"""The order of locks of one class: ancestor first, ascending address, ascending index.

Two locks of one class are one class to the order rules, and a subclass only says "this is the inner
one": the rule that fixes which of the two may be the outer one stands in a comment.  Here it can be
declared, and is then checked with the two locks at hand, each time that a task takes a further one
of a class (a trylock, which waits for nobody, is free)::

    order_by("i_rwsem", ascending("address", lambda inode: inode.i_addr))

A rule is a function of what the two locks belong to (the lock's ``of``), the held one first, that
returns what is wrong, or "".  Rules are about families: ``i_rwsem`` is every class ``i_rwsem:...``
too.  A lock that does not say what it belongs to is in no order.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from vfsim.checks.history import chain, quietly
from vfsim.sim.context import CLASS_SHIFT, LockClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

RULES: dict[str, Callable[[Any, Any], str]] = {}
"""The rule of each family."""


def order_by(family: str, rule: Callable[[Any, Any], str]) -> None:
    """Declare the order of several locks of a class (or of all ``family:...``).

    Args:
        rule: ``rule(outer, inner)``: what is wrong with taking the second inside the first, or "".
    """
    RULES[family] = rule
    LockClass.mark_by_instance(family)


def ascending(
    what: str, key: Callable[[Any], Any], among: Callable[[Any, Any], bool] | None = None
) -> Callable[[Any, Any], str]:
    """The rule that ``key`` grows from the outer lock to the inner one.

    Args:
        what: the key's name, for reports.  among: whether two are in an order at all.
    """

    def rule(outer: Any, inner: Any) -> str:
        if among is not None and not among(outer, inner):
            return ""
        return "" if key(outer) < key(inner) else f"the order is by ascending {what}"

    return rule


def out_of_order(task: Task, key: int, lock: Any) -> tuple[Any, str] | None:
    """Never sleeps.  A held lock inside which ``lock`` must not be taken, and why; or None."""
    cls = LockClass.all[key >> CLASS_SHIFT]
    inner = whose(lock)
    rule = RULES.get(cls.family)
    if inner is None or rule is None:
        return None
    for held, ctx in chain(task.held, task.ctx):
        outer = whose(held)
        if ctx.key >> CLASS_SHIFT != cls.index or outer is None or held is lock:
            continue
        problem = quietly(partial(rule, outer, inner))
        if problem:
            return held, str(problem)
    return None


def whose(lock: Any) -> Any:
    """Never sleeps.  What a lock belongs to, or None."""
    found = getattr(lock, "of", None)
    return found() if isinstance(found, ref) else found


__all__ = ["ascending", "order_by", "out_of_order"]
