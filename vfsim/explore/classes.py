"""Which class of interleavings a run belongs to, as one number.

Two runs are *equivalent* if one becomes the other by swapping neighbouring operations that commute:
then every task sees the same in both.  What counts of a run is therefore, for each operation,
which earlier operations on the same object it depends on (Mazurkiewicz, "Trace theory", 1987).

`fingerprint` computes that without looking at pairs.  Each operation gets a number made from its
task, its place in that task, its kind, and the sum of the numbers of the operations before it that
it depends on; operations that commute do not see each other, so their order leaves no mark.  The
sum of all numbers is the class.  It names no object by identity, uses no `hash`, and is the same in
every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from vfsim.explore.dependency import ordered
from vfsim.sim.shared import Field

if TYPE_CHECKING:
    from collections.abc import Iterable

Event = tuple[str, str, Any]
"""One operation of a run: id of the task, kind, object (None: it depends on nothing)."""

_WORD = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, as in Knuth's multiplicative hashing
_names: dict[tuple[str, str], int] = {}


def _mix(number: int) -> int:
    """Scramble 64 bits, so that sums of such numbers hardly ever collide."""
    number = (number ^ number >> 32) * _ODD & _WORD
    return (number ^ number >> 29) * _ODD & _WORD


def _name(task: str, kind: str) -> int:
    """A number for who does what."""
    found = _names.get((task, kind))
    if found is None:
        found = _names[task, kind] = _mix(crc32(f"{task} {kind}".encode()) + 1)
    return found


def place(obj: Any) -> Any:
    """What stands for an object in a dictionary: itself, and for a field its object and name."""
    return (id(obj.of), obj.name) if type(obj) is Field else id(obj)


def fingerprint(events: Iterable[Event]) -> int:
    """The class of the run that these operations, in this order, were."""
    total = 0
    done: dict[str, int] = {}  # operations of each task
    seen: dict[Any, dict[str, int]] = {}  # for each object the sums by kind
    for task, kind, obj in events:
        n = done[task] = done.get(task, 0) + 1
        number = _name(task, kind) + n
        if obj is not None:
            sums = seen.setdefault(place(obj), {})
            before = 0
            for other, value in sums.items():
                if ordered(kind, other):
                    before += value
            number = _mix(number ^ before & _WORD)
            sums[kind] = sums.get(kind, 0) + number
        else:
            number = _mix(number)
        total += number
    return total & _WORD
