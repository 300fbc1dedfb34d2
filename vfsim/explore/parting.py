"""Where two runs part: the first operation that a failing run does and a passing one does not.

Up to there they are one run.  Then somebody goes on in the passing run who is held up in the
failing one; what explains a failure is whatever the other one did meanwhile to the same object.
`part` finds that pair of operations and says it in a sentence.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import attrs

from vfsim.checks import columns
from vfsim.explore.causal import conflict, touches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.sim.trace import Event, Trace


@attrs.frozen
class Parting:
    """The first difference.

    Attributes:
        text: as a sentence.
        events: numbers of the events of the failing run that it speaks of.
    """

    text: str
    events: tuple[int, ...]


def part(failing: Trace, passing: Trace) -> Parting | None:
    """Where a failing run parts from a passing one, or None if it never does."""
    bad, good = failing.events, passing.events
    at = _first_difference(bad, good)
    mine = [] if at is None else _acting(good, at)
    theirs = [] if at is None else _acting(bad, at)
    if at is None or not mine or not theirs:
        return None
    first = next((i for i in theirs if columns.noise_of(bad[i]) < 2), theirs[0])
    held_up = good[mine[0]]
    if bad[first].task_id == held_up.task_id:
        text = f"{_does(good, mine)}; in this one it {_does(bad, theirs)}"
        return Parting(_BEGIN + text, (first,))
    meanwhile = list(takewhile(lambda i: bad[i].task_id != held_up.task_id, theirs))
    segment = list(takewhile(lambda i: good[i].task_id == held_up.task_id, mine))
    same = _Same(bad, good, at)
    known = [good[i] for i in segment if same(good[i].obj) and columns.said(good[i])]
    pair = _conflict(known, bad, [i for i in meanwhile if columns.said(bad[i])])
    if pair is None:
        text = f"{held_up.task} goes on and {_does(good, segment)}; in this one {bad[first].task} "
        return Parting(f"{_BEGIN}{text}goes on and {_does(bad, meanwhile)}", (first,))
    own, other = pair
    return Parting(_BEGIN + _overtaken(own, bad[other]), tuple(dict.fromkeys((first, other))))


_BEGIN = "a passing run differs first here: "


def _overtaken(own: Event, other: Event) -> str:
    """What one goes on with if he is not held up, and what another does before in the other run."""
    goes_on = _told(own, own.obj)
    before = "does so" if goes_on == _told(other, own.obj) else _told(other, "it")
    return f"{own.task} goes on and {goes_on}; in this one {other.task} {before} before"


def _first_difference(one: Sequence[Event], other: Sequence[Event]) -> int | None:
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if (a.task_id, a.kind, a.obj) != (b.task_id, b.kind, b.obj):
            return i
    return None


class _Same:
    """Whether a label means the same object in both runs.

    It does if the object was seen before they parted, or if there is only one of that name.
    """

    def __init__(self, one: Sequence[Event], other: Sequence[Event], at: int) -> None:
        self.seen = {event.obj for event in one[:at]}
        labels = (event.obj for event in (*one, *other))
        self.numbered = {label.partition("#")[0] for label in labels if "#" in label}

    def __call__(self, label: str) -> bool:
        return label in self.seen or label.partition(".")[0] not in self.numbered | {""}


def _acting(events: Sequence[Event], start: int) -> list[int]:
    """The numbers of the events from ``start`` on that somebody did himself."""
    return [i for i in range(start, len(events)) if events[i].task_id and events[i].kind != "woken"]


def _conflict(
    own: Sequence[Event], others: Sequence[Event], numbers: Sequence[int]
) -> tuple[Event, int] | None:
    """The first of some operations with which one of the others' conflicts, and that one; the
    kernel's small steps count if there is nothing else.
    """
    for noise in range(3):
        for event in own:
            for i in numbers:
                if columns.noise_of(others[i]) == noise and conflict(event, others[i]):
                    return event, i
    return None


def _does(events: Sequence[Event], numbers: Sequence[int]) -> str:
    """The first of some events that says something, in words."""
    for i in numbers:
        text = _told(events[i], events[i].obj)
        if text:
            return text
    return "ends"


def _told(event: Event, obj: str) -> str:
    """What an event does, as a verb in the third person and its object."""
    if event.kind == "syscall":
        return f"calls {event.obj}"
    if event.kind == "enter" and touches(event):
        return f"takes {obj}"
    text = columns.said(event).replace(event.obj, obj) if event.obj else columns.said(event)
    verb = text.partition(" ")[0]
    return text if not verb or verb.endswith("s") else f"does {text}"
