"""One case of the self-test, and what it came to.

A case is judged by four words: *caught* (the rule fired and blamed the right side), *silent*
(nothing fired), *wrong rule* and *wrong blame*.  A case that must be silent and is not is a false
alarm; one that must be caught and is not was missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.errors import Violation

CAUGHT, SILENT, WRONG_RULE, WRONG_BLAME = "caught", "silent", "wrong rule", "wrong blame"


@attrs.frozen
class Case:
    """Something to run, and what must come out.

    Attributes:
        id: unique, stable, for people: ``inode_operations.create.i_mutex(inode).caller``.
        rule: what it is about, as in the documents: ``TABLE.METHOD.COLUMN``, ``P23``,
            ``lockdep.spin.A-B-B-A``, ``busted.mutex``, ``race.lost-update``.
        expected: `CAUGHT` or `SILENT`.
        run: runs it in fresh worlds and returns everything that was found.
        fires: the rules of violations that count as the catch: it is caught if the first violation
            carries one of them.
        blamed: the side that must be blamed: ``kernel``, ``filesystem``, ``driver`` or ``test``; ""
            where blame says nothing.
        why: what is broken, in a sentence.
    """

    id: str
    rule: str
    expected: str
    run: Callable[[], list[Violation]]
    fires: tuple[str, ...] = ()
    blamed: str = ""
    why: str = ""


@attrs.frozen
class Outcome:
    """What a case came to.

    Attributes:
        got: one of the four words.
        blamed: the side that the first violation blamed, or None.
        found: everything that was found.
    """

    case: Case
    got: str
    blamed: str | None
    found: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether it is what was expected."""
        return self.got == self.case.expected

    def as_dict(self) -> dict[str, Any]:
        """The case in the words of the JSON document."""
        return {
            "id": self.case.id,
            "rule": self.case.rule,
            "expected": self.case.expected,
            "got": self.got,
            "blamed": self.blamed,
        }


def judge(case: Case) -> Outcome:
    """Run a case and judge what it found by its first violation."""
    found = tuple(case.run())
    if not found:
        return Outcome(case, SILENT, None, found)
    first = found[0]
    side = first.blamed.split()[0]
    if case.fires and first.rule not in case.fires:
        got = WRONG_RULE
    elif case.blamed and side != case.blamed:
        got = WRONG_BLAME
    else:
        got = CAUGHT
    return Outcome(case, got, side, found)
