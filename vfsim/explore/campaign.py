"""What a search has seen so far, so that another can go on where it stopped.

A `Campaign` is the memory of the search of one program with one strategy and one seed: the number
of the next schedule, the schedules that were seen, and coverage.  Schedules depend on their number
alone (`vfsim.explore.searcher`), so a search that goes on finds exactly what one long search would
have found.  As a document it is JSON; numbers of 64 bits are written as hexadecimal digits.
"""

from __future__ import annotations

from typing import Any

import attrs

from vfsim.checks.union import union_told
from vfsim.explore.coverage import Coverage
from vfsim.explore.observe import Order, Use


@attrs.define
class Campaign:
    """What was seen.

    Attributes:
        next: the number of the next schedule.
        schedules: those that were seen (`Run.schedule`).
        coverage: what they showed.
    """

    next: int = 0
    schedules: set[int] = attrs.Factory(set)
    coverage: Coverage = attrs.Factory(Coverage)

    def as_dict(self) -> dict[str, Any]:
        """As a document."""
        coverage = self.coverage
        return {
            "next": self.next,
            "schedules": [f"{number:x}" for number in sorted(self.schedules)],
            "classes": {f"{name:x}": times for name, times in coverage.classes.items()},
            "orders": [list(order) for order in coverage.orders],
            "uses": [list(use) for use in coverage.uses],
            "union": coverage.union.as_dict(),
        }


def campaign_of(data: dict[str, Any]) -> Campaign:
    """The campaign that a document tells of.

    Raises:
        ValueError, KeyError, TypeError: it tells of none.
    """
    coverage = Coverage()
    for name, times in data["classes"].items():
        coverage.classes[int(name, 16)] = _count(times)
    coverage.schedules = sum(coverage.classes.values())
    coverage.once = sum(times == 1 for times in coverage.classes.values())
    for first, then, on in data["orders"]:
        coverage.orders[Order(_site(first), _site(then), _text(on))] = None
    for use in data["uses"]:
        lock, context, mode = map(_text, use)
        coverage.uses[Use(lock, context, mode)] = None
    coverage.union = union_told(data["union"])
    return Campaign(_count(data["next"]), {int(n, 16) for n in data["schedules"]}, coverage)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _site(value: Any) -> tuple[str, str]:
    kind, function = map(_text, value)
    return kind, function
