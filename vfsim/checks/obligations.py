"""What a method still owes after it returned: to unlock a page when its I/O is done, for one.

`owe` notes a duty when the call returns with it open, `settle` strikes it off when it is done, and
`overdue` turns what is left into violations when nothing more can happen: at umount, and at the end
of a world.  Typical sequence::

    owe(("unlock", page), "unlock the page when its read completes", "P19", site)
    ...                                             # an interrupt, later
    settle(("unlock", page))

A key is any hashable; the first word says what kind of duty, the second which object.  Each world
has its own book.  No lock guards it: nothing in here is a scheduling point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.blame import innermost
from vfsim.checks.rules import RULES
from vfsim.sim.errors import Violation
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from vfsim.checks.contract import Site
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

_BOOK = "contract.obligations"


@attrs.frozen
class Obligation:
    """One open duty.

    Attributes:
        what: what must still be done, as "unlock page 3".
        rule: the rule that says so.  site: the method that owes it.
        task: who called the method.  caller: what other method that was in, or None.
        since: simulated ns.
    """

    key: Hashable
    what: str
    rule: str
    site: Site
    task: Task
    caller: Site | None
    since: int


def _book(machine: Machine) -> dict[Hashable, Obligation]:
    return machine.data.setdefault(_BOOK, {})  # type: ignore[no-any-return]


def owe(key: Hashable, what: str, rule: str, site: Site) -> None:
    """Never sleeps.  Note that the method at ``site``, which runs, still has to do ``what``."""
    machine = K.machine
    caller = innermost(K.cur, 1)
    if rule in RULES:
        RULES[rule].checked += 1
    _book(machine)[key] = Obligation(key, what, rule, site, K.cur, caller, machine.now)


def settle(key: Hashable) -> Obligation | None:
    """Never sleeps.  It has been done; returns the duty, if anybody owed it."""
    book: dict[Hashable, Obligation] | None = K.machine.data.get(_BOOK)
    return None if not book else book.pop(key, None)


def owed(machine: Machine, key: Hashable | None = None) -> list[Obligation]:
    """Never sleeps.  What is open in a world, oldest first; with ``key``, only that."""
    book = _book(machine)
    if key is not None:
        return [book[key]] if key in book else []
    return list(book.values())


def overdue(machine: Machine, about: Callable[[Any], bool] | None = None) -> list[Violation]:
    """Never sleeps.  Report what is still open and strike it off.

    Args:
        about: only duties whose key it accepts (the pages of one superblock, say); all without it.
    """
    book = _book(machine)
    found = []
    for duty in list(book.values()):
        if about is not None and not about(duty.key):
            continue
        del book[duty.key]
        violation = Violation(
            duty.rule,
            "soft",
            duty.site.blamed,
            duty.site.where,
            f"{duty.site.title}() never came to {duty.what}",
            duty.task.name,
            (
                f"owed since {duty.since} ns, when {duty.task.name} called {duty.site.title}()",
                *duty.site.quote(duty.rule),
            ),
        )
        machine.violation(violation)
        found.append(violation)
    return found
