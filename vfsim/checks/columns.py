"""A trace as people read it: one column per task, time running down.

Each row is one operation, in the column of the task that did it, in the order in which they took
effect. A change of column is a switch; where a task was pushed off in the middle of its work, its
column says ``(switch)``. A row is indented by the locks that its task holds. System calls and
methods of the filesystem open with their names.

A lock that is taken and let go at once is one row. What would only fill the page is left out, and
the page says so: first the kernel's small steps (spinlocks, reference counts), unless they are
about something that is held at the end; then its other ones; at last the middle of the story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.history import calls, is_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.sim.context import Held
    from vfsim.sim.trace import Event, Trace

WIDTH = 100
MAX_ROWS = 60
_HEAD = 10  # rows kept from the beginning of a story that is cut
_NEAR = 3  # rows kept before and after one that is marked
_MAX_COLUMNS = 4
_TIME = 9
_GAP = 2
_DEEPEST = 5

OTHERS = "others"
MARK = ">>"


@attrs.define
class Row:
    """One line of the story.

    Attributes:
        time: simulated ns.  task: whose column ("" across all).  depth: locks held.
        about: the label of what it was done to.
        noise: 0 for what tells the story, 1 for other work of the kernel, 2 for its small steps.
        number: of the event in the trace.
        marked: it is what a sentence above the columns speaks of.
    """

    time: int
    task: str
    text: str
    depth: int = 0
    about: str = ""
    noise: int = 0
    number: int = -1
    marked: bool = False


# -- from events to rows ---------------------------------------------------------------------------

_ENTER = {
    "mutex": "lock",
    "rwsem": "down_write",
    "percpu_rwsem": "down_write",
    "srcu": "srcu_read_lock",
    "spinlock": "spin_lock",
    "bitlock": "bit_lock",
    "sleepbit": "lock",
    "seqcount": "write_seq",
}
_ENTER_SHARED = {"rwsem": "down_read", "percpu_rwsem": "down_read", "seqcount": "read_seq"}

_RELEASE = (
    "unlock",
    "up_read",
    "up_write",
    "spin_unlock",
    "bit_unlock",
    "downgrade_write",
    "seq_end",
    "srcu_read_unlock",
)

_ANNOUNCED = (
    "lock",
    "down_write",
    "down_read",
    "srcu_read_lock",
    "spin_lock",
    "bit_lock",
    "seq_begin",
    "seq_write",
    "irq off",
)
"""Points that an ``enter`` of the same task follows at once, which says more."""

_PLAIN = {
    "wake_up": "wakes {obj}",
    "wake": "wakes {obj}",
    "complete": "completes {obj}",
    "wait": "looks at {obj}",
    "read": "reads {obj}",
    "write": "writes {obj}",
    "spawn": "starts {obj}",
    "seq_retry": "checks {obj}",
    "exit": "ends",
    "sleeps": "would sleep for {obj}",
    "release": "releases {obj}",
    "disown": "hands {obj} to the I/O",
    "call_rcu": "call_rcu()",
    "synchronize_rcu": "synchronize_rcu()",
    "rcu_read_unlock": "rcu_read_unlock",
}

_GIVES_UP = ("blocks", "spins", "exit")

_HIDDEN = (
    "unlocking", "irq on", "bh on", "preempt on", "rcu_read_lock", "resched", "yield", "work",
    "queue_work", "flush",
)  # fmt: skip


def rows_of(trace: Trace, upto: int | None = None) -> list[Row]:
    """The story up to an event's number (inclusive), or to the end."""
    told_of = trace.events[: None if upto is None else upto + 1]
    numbers = [i for i, e in enumerate(told_of) if e.kind != "woken"]
    events = [told_of[i] for i in numbers]
    rows: list[Row] = []
    last: dict[str, Event] = {}
    following = _next_of_task(events)
    running = ""
    for i, event in enumerate(events):
        who = event.task_id
        if event.kind == "phase":
            rows.append(Row(event.time, "", event.obj))
            running = ""
            continue
        if not who:
            if event.kind == "BUG":
                rows.append(Row(event.time, "", f"BUG: {event.obj}"))
            continue
        before = last.get(who)
        if event.kind != "BUG":
            last[who] = event
        told = list(_tell(event, before, following[i]))
        if not told:
            continue
        if running not in ("", who) and running in last and last[running].kind not in _GIVES_UP:
            rows.append(Row(event.time, running, "(switch)", _depth(last[running].held)))
        running = who
        noise = noise_of(event)
        rows += [Row(event.time, who, text, depth) for text, depth in told[:-1]]
        text, depth = told[-1]
        rows.append(Row(event.time, who, text, depth, event.obj, noise, numbers[i]))
    return _squeezed(rows)


_STORY = ("syscall", "blocks", "spins", "exit", "spawn", "BUG", "sleeps", "release", "leave")
_SMALL = (
    "spinlock",
    "bitlock",
    "seqcount",
    "rcu_read_lock",
    "preemption off",
    "softirqs off",
    "interrupts off",
)
_WORK = (
    "lock",
    "unlock",
    "down_write",
    "down_read",
    "up_write",
    "up_read",
    "read",
    "write",
    "wait",
    "wake_up",
    "complete",
    "disown",
)


def noise_of(event: Event) -> int:
    """How much of a distraction an event is: what the filesystem or a test does itself is none."""
    if event.kind in _STORY or not event.where.startswith("vfsim/"):
        return 0
    if event.kind == "enter":
        return 2 if event.family in _SMALL or "try" in event.how else 1
    return 1 if event.kind in _WORK else 2


def _next_of_task(events: Sequence[Event]) -> list[Event | None]:
    """For each event the next one of the same task."""
    found: list[Event | None] = [None] * len(events)
    coming: dict[str, Event] = {}
    for i in range(len(events) - 1, -1, -1):
        found[i] = coming.get(events[i].task_id)
        coming[events[i].task_id] = events[i]
    return found


def _tell(event: Event, before: Event | None, after: Event | None) -> Iterator[tuple[str, int]]:
    """(text, depth) of what one event says."""
    depth = _depth(event.held)
    if before is not None and before.kind in ("blocks", "spins") and event.kind != "BUG":
        yield f"has {before.obj}" if is_lock_like(before.ref) else "goes on", depth
    yield from _called(event, before)
    text = _text(event, after)
    if text:
        yield text, depth


def is_lock_like(obj: Any) -> bool:
    """Whether what was waited for is a lock, which the waiter then has."""
    return hasattr(type(obj), "is_pin")


def _called(event: Event, before: Event | None) -> Iterator[tuple[str, int]]:
    """The methods of the filesystem that began since the task's last event."""
    now = calls(event.held)[::-1]
    then = calls(before.held)[::-1] if before is not None else []
    same = 0
    while same < min(len(now), len(then)) and now[same] == then[same]:
        same += 1
    for name in now[same:]:
        yield f"{name}:", _depth(event.held)


def said(event: Event) -> str:
    """An operation as its row has it, or "" if it gets none."""
    return _text(event, None)


def _text(event: Event, after: Event | None) -> str:
    kind, obj = event.kind, event.obj
    if kind == "enter":
        return _entered(event)
    if kind in _HIDDEN or kind in _ANNOUNCED:
        return ""
    if kind == "trylock":
        if not is_lock_like(event.ref):
            return f"tries {obj}"
        return (
            ""
            if after is not None and after.kind == "enter" and after.ref is event.ref
            else f"trylock {obj}: busy"
        )
    if kind == "leave":
        return f"end of {obj}"
    if kind in ("blocks", "spins"):
        return f"{'waits for' if kind == 'blocks' else 'spins for'} {obj}"
    if kind in _RELEASE:
        return f"{kind} {obj}"
    if kind == "syscall":
        return str(obj)
    if kind == "BUG":
        return f"BUG: {obj}"
    return _PLAIN.get(kind, "{kind} {obj}").format(kind=kind, obj=obj).rstrip()


def _entered(event: Event) -> str:
    family, how = event.family, event.how
    if family not in _ENTER:
        return "" if family == "may not block" else str(event.cls)
    if "try" in how:
        return f"trylock {event.obj}: ok"
    verb = _ENTER_SHARED.get(family, _ENTER[family]) if "shared" in how else _ENTER[family]
    suffix = "_irq" if "irq" in how else "_bh" if "bh" in how else ""
    sub = next((f" ({word})" for word in how if word.startswith("subclass")), "")
    return f"{verb}{suffix} {event.obj}{sub}"


def _depth(held: Held | None) -> int:
    found = 0
    while held is not None:
        found += is_lock(held[0])
        held = held[1]
    return min(found, _DEEPEST)


def _squeezed(rows: list[Row]) -> list[Row]:
    """A lock or a read section that is entered and left at once becomes one row."""
    kept: list[Row] = []
    for row in rows:
        last = kept[-1] if kept else None
        if last is not None and last.task == row.task and last.text:
            verb, _, name = row.text.partition(" ")
            if (
                verb in _RELEASE
                and last.text.endswith(f" {name}")
                and last.text.split(" ")[0] in _LOCKS
            ):
                last.text = f"{last.text}, {verb}"
                continue
            if row.text == "rcu_read_unlock" and last.text == "rcu_read_lock":
                kept.pop()
                continue
        kept.append(row)
    return kept


_LOCKS = tuple(
    f"{verb}{suffix}"
    for verb in (*_ENTER.values(), *_ENTER_SHARED.values())
    for suffix in ("", "_irq", "_bh")
)


# -- from rows to text -----------------------------------------------------------------------------


def render(
    trace: Trace,
    upto: int | None = None,
    max_rows: int = MAX_ROWS,
    width: int = WIDTH,
    about: str = "",
    marks: Sequence[int] = (),
) -> list[str]:
    """The story as lines, at most ``width`` wide.

    Args:
        upto: the number of the event at which it ends.
        about: a text; what it mentions is never left out as a detail.
        marks: numbers of events whose rows begin with `MARK` and are never left out.
    """
    told = _from_last_phase(rows_of(trace, upto))
    _mark(trace, told, marks)
    rows, left_out = _quieted(told, max_rows, _matters(trace, upto, about))
    names = {e.task_id: e.task for e in trace.events if e.task_id}
    columns = _columns(rows)
    shown = [names.get(c, c) for c in columns]
    each = max(16, (width - _TIME) // max(1, len(columns)) - _GAP)
    lines = [
        _line("time", shown, each),
        _line("-" * (_TIME - 2), ["-" * each] * len(columns), each),
    ]
    clock = ""
    for row in _cut(rows, max_rows):
        time = spell_time(row.time)
        if not row.task:
            lines.append(f"{'':{_TIME}}-- {row.text} --")
            continue
        here = row.task if row.task in columns else OTHERS
        text = row.text if here != OTHERS else f"{names[row.task]}: {row.text}"
        text = f"{MARK} {text}" if row.marked else text
        cells = ["" if c != here else _fit("  " * row.depth + text, each) for c in columns]
        lines.append(_line(time if time != clock else "", cells, each))
        clock = time
    if left_out:
        lines.append(f"{'':{_TIME}}({left_out:,} small steps of the kernel are not shown)")
    return lines


def _mark(trace: Trace, rows: list[Row], marks: Sequence[int]) -> None:
    """Mark the row of each event, or the next of its task if it has none of its own."""
    for mark in marks:
        who = trace.events[mark].task_id
        for row in rows:
            if row.task == who and row.number >= mark:
                row.marked = True
                row.noise = 0
                break


def _from_last_phase(rows: list[Row]) -> list[Row]:
    """The phase that the story ends in; what led up to it ran undisturbed.

    What is found by looking at the result, when nobody runs any more, happened in the phase before.
    """
    starts = [i for i, row in enumerate(rows) if not row.task and not row.text.startswith("BUG")]
    if not starts:
        return rows
    last = starts[-1]
    if rows[last].text == "check" and len(starts) > 1 and not rows[-1].task:
        return [*rows[starts[-2] : last + 1], rows[-1]]
    return rows[last:]


def _matters(trace: Trace, upto: int | None, about: str) -> dict[str, None]:
    """The labels of what was held or waited for at the end, and of what a text mentions."""
    found: dict[str, None] = {}
    for snapshot in trace.bugs.get(-1 if upto is None else upto, ()):
        held = snapshot.held
        while held is not None:
            if is_lock(held[0]):
                found[trace.label(held[0])] = None
            held = held[1]
        if snapshot.waits_on is not None:
            found[trace.label(snapshot.waits_on)] = None
    words = dict.fromkeys(about.replace(",", " ").replace(":", " ").split())
    for event in trace.events if words else ():
        if event.kind == "enter" and event.cls.partition(":")[0] in words:
            found[event.obj] = None
    return found


def _quieted(rows: list[Row], most: int, matters: dict[str, None]) -> tuple[list[Row], int]:
    """The rows without so many details that they fit, if that is possible; and how many went."""
    kept = rows
    for loud in (1, 0):
        if len(kept) <= most:
            break
        kept = _without_empty_switches([r for r in kept if r.noise <= loud or r.about in matters])
    return kept, sum(r.text != "(switch)" for r in rows) - sum(r.text != "(switch)" for r in kept)


def _without_empty_switches(rows: list[Row]) -> list[Row]:
    """A task is pushed off only where it did something, and somebody else goes on."""
    kept: list[Row] = []
    for i, row in enumerate(rows):
        if row.text == "(switch)":
            before = next((r for r in reversed(kept) if r.task), None)
            after = next((r for r in rows[i + 1 :] if r.task and r.text != "(switch)"), None)
            if before is None or before.task != row.task or after is None or after.task == row.task:
                continue
        kept.append(row)
    return kept


def _columns(rows: Sequence[Row]) -> list[str]:
    """The tasks that get a column: all, or the busiest."""
    count: dict[str, int] = {}
    for row in rows:
        if row.task:
            count[row.task] = count.get(row.task, 0) + 1
    if len(count) <= _MAX_COLUMNS:
        return list(count)
    busiest = sorted(count, key=lambda task: -count[task])[: _MAX_COLUMNS - 1]
    return [*(task for task in count if task in busiest), OTHERS]


def _cut(rows: list[Row], most: int) -> list[Row]:
    if len(rows) <= most:
        return rows
    near = {n for i, row in enumerate(rows) if row.marked for n in range(i - _NEAR, i + _NEAR + 1)}
    tail = len(rows) - max(0, most - _HEAD - len(near))
    kept: list[Row] = []
    gap = 0
    for i, row in enumerate(rows):
        if _HEAD <= i < tail and i not in near:
            gap += 1
            continue
        if gap:
            kept.append(Row(row.time, "", f"{gap:,} rows left out"))
            gap = 0
        kept.append(row)
    return kept


def _line(time: str, cells: Sequence[str], each: int) -> str:
    shown = (" " * _GAP).join(f"{_fit(cell, each):{each}}" for cell in cells)
    return f"{time:{_TIME}}{shown}".rstrip()


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def spell_time(ns: int) -> str:
    """Simulated time in the largest unit that divides it well: ``1.5 ms``."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns" if ns else "0"
