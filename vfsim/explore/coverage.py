"""Coverage of a search: what its schedules showed, and an estimate of what they did not.

*Classes of interleavings* (`vfsim.explore.observe`): how many were seen, how likely the next
schedule is to show another one, and about how many there are.  Good and Turing: of n schedules, f1
showed a class that no other did; the chance that the next one is new is about f1/n.  Chao: there
are at least about f1²/(2·f2) more, if f2 classes were seen twice.  Both are about *this strategy*:
what it cannot reach is not in the estimate.  A systematic search draws nothing, so there is nothing
to estimate from.

*Ordered conflicts*: for every two places whose operations met on an object, whether both came
first.  An order that was never seen may be impossible; it is a question to the reader.

*Lock uses*: every lock class with the contexts it was taken in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.explore.observe import CONTEXTS, EVERY, Order, Seen, Use

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMED = 3  # orders and lock classes that are named in print; JSON has all


@attrs.define
class Coverage:
    """What the schedules of a search showed.

    Attributes:
        classes: how many schedules showed each class of interleavings.
        schedules: how many were counted.  once: how many classes only one of them showed.
        orders, uses: as they were found.
        drawn: the schedules were drawn at random, so that estimates mean something.
    """

    classes: dict[int, int] = attrs.Factory(dict)
    schedules: int = 0
    once: int = 0
    orders: dict[Order, None] = attrs.Factory(dict)
    uses: dict[Use, None] = attrs.Factory(dict)
    drawn: bool = True

    def add(self, seen: Seen) -> None:
        """Count one schedule."""
        times = self.classes[seen.interleaving] = self.classes.get(seen.interleaving, 0) + 1
        self.schedules += 1
        self.once += (times == 1) - (times == 2)
        self.orders.update(dict.fromkeys(seen.orders))
        self.uses.update(dict.fromkeys(seen.uses))

    @property
    def unseen_chance(self) -> float:
        """The chance that another schedule shows a new class (Good and Turing)."""
        return self.once / max(self.schedules, 1)

    @property
    def estimated(self) -> int:
        """About how many classes this strategy can reach, at least (Chao's first estimator)."""
        once = self.once
        twice = sum(times == 2 for times in self.classes.values())
        more = once * once / (2 * twice) if twice else once * (once - 1) / 2
        return len(self.classes) + round(more)

    @property
    def never(self) -> list[Order]:
        """The orders that were not seen of pairs that were."""
        return [o.reverse for o in self.orders if o.reverse not in self.orders]

    def as_dict(self) -> dict[str, Any]:
        """For the JSON documents."""
        never = self.never
        return {
            "interleavings": {
                "schedules": self.schedules,
                "classes": len(self.classes),
                "estimated": self.estimated if self.drawn else None,
                "unseen_chance": round(self.unseen_chance, 4) if self.drawn else None,
            },
            "orders": {
                "seen": len(self.orders),
                "of": len(self.orders) + len(never),
                "never": [str(o) for o in never],
                "one_schedule_in": EVERY,
            },
            "locks": locks(self.uses),
        }

    def lines(self) -> list[str]:
        """For people, a line each."""
        return [*interleaving_lines([self]), *order_lines(self.orders), *lock_lines(self.uses)]


def locks(uses: Iterable[Use]) -> dict[str, dict[str, list[str]]]:
    """Each lock class with its contexts and modes."""
    found: dict[str, dict[str, list[str]]] = {}
    for lock, context, mode in sorted(uses):
        found.setdefault(lock, {}).setdefault(context, []).append(mode)
    return found


def interleaving_lines(parts: Iterable[Coverage]) -> list[str]:
    """The classes of one or more searches together; each search has its own."""
    searches = list(parts)
    schedules = sum(c.schedules for c in searches)
    if not schedules:
        return []
    seen = sum(len(c.classes) for c in searches)
    if not all(c.drawn for c in searches):
        return [f"interleavings {seen:,} classes seen"]
    chance = sum(c.once for c in searches) / schedules
    estimated = sum(c.estimated for c in searches)
    return [
        f"interleavings {seen:,} classes seen of about {estimated:,}; "
        f"chance of a new one {100 * chance:.1f} %"
    ]


def order_lines(orders: dict[Order, None]) -> list[str]:
    """How many orders of conflicts were seen, and some that were not."""
    never = [o.reverse for o in orders if o.reverse not in orders]
    if not orders:
        return []
    line = f"orders        {len(orders):,} of {len(orders) + len(never):,} seen"
    if never:
        line += f"; never: {'; '.join(str(o) for o in never[:_NAMED])}"
        line += f"; and {len(never) - _NAMED} more" if len(never) > _NAMED else ""
    return [line]


def lock_lines(uses: dict[Use, None]) -> list[str]:
    """How many lock classes were taken, and where other than in processes."""
    if not uses:
        return []
    found = locks(uses)
    line = f"locks         {len(found)} classes"
    for context in CONTEXTS[1:]:
        names = [name for name, by in found.items() if context in by]
        if names:
            line += f"; in {context}: {', '.join(names[:_NAMED])}"
            line += f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [line]
