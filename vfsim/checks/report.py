"""The report of a violation: five parts, always in this order, then how it happened.

1. what, and whose bug
2. who and when, with the call trace
3. what was held and waited for, and where it was taken
4. the rule, and its place in the contract
5. how to get it again, and how much that runs

and the interleaving, one column per task (`vfsim.checks.columns`), with the place where a run that
passes goes another way (`vfsim.explore.parting`) if one is known. It is made from a run with a
full trace, which is a replay of the run that found the bug; from a run without one it says what it
can. Plain text, at most 100 wide.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from vfsim.checks import columns
from vfsim.checks.advice import advice
from vfsim.checks.history import calls, syscall
from vfsim.checks.rules import RULES
from vfsim.checks.waits import describe, state_lines
from vfsim.sim.task import BLOCKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.checks.contract import Method
    from vfsim.sim.errors import Violation
    from vfsim.sim.machine import Machine
    from vfsim.sim.trace import Event, Snapshot, Trace

WIDTH = 100
_COMMAND = "  vfsim replay "
_DEEP = 8  # lines of a call trace
_WITHOUT_COLUMNS = ("conformance.", "refusal.")  # nothing is at once: the calls tell the story


def render(
    machine: Machine,
    violation: Violation,
    token: str = "",
    max_rows: int = columns.MAX_ROWS,
    *,
    size: str = "",
    difference: str = "",
    marks: Sequence[int] = (),
) -> str:
    """The report of a violation of this world, which must not be buried yet.

    Args:
        token: what brings the run back.
        max_rows: of the columns.
        size: how much the token runs.
        difference: where a run that passes first differs; ``marks``: the events that this is about.
    """
    trace = machine.trace
    at = _event(trace, violation)
    quotes, details = _split(violation)
    lines = [
        *_what(violation),
        "",
        *_who(machine, violation, at),
        "",
        *_held(machine, violation, at, details),
        "",
        *_rule(violation, quotes),
        "",
        *_again(token),
        *(_wrap(size) if size else []),
    ]
    if trace is not None and trace.events and not violation.rule.startswith(_WITHOUT_COLUMNS):
        about = " ".join((violation.summary, *details))
        story = columns.render(trace, at, max_rows, WIDTH - 2, about, marks)
        lines += ["", "how it happened", *(_wrap(difference) if difference else [])]
        lines += [f"  {line}" for line in story]
    return "\n".join(short for line in lines for short in _narrow(line))


def _narrow(line: str) -> list[str]:
    """A line that is too wide as several; what is to be copied stays whole."""
    line = line.rstrip()
    if len(line) <= WIDTH or line.startswith(_COMMAND):
        return [line]
    lead = line[: len(line) - len(line.lstrip())]
    return _wrap(line.strip(), lead, "  ")


def _event(trace: Trace | None, violation: Violation) -> int | None:
    """The number of the event that recorded the violation."""
    if trace is None:
        return None
    for i in trace.bugs:
        if trace.events[i].ref is violation:
            return i
    return None


def _wrap(text: str, indent: str = "  ", more: str = "") -> list[str]:
    if not text.strip():
        return [""]
    lead = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.strip(),
        WIDTH,
        initial_indent=indent + lead,
        subsequent_indent=indent + lead + more,
        break_long_words=False,
        break_on_hyphens=False,
    )


# -- 1: what, and whose ----------------------------------------------------------------------------

_KINDS = {
    "soft": "the run could go on",
    "hard": "the world stopped here",
    "oops": "a method raised what no method may raise",
    "wrong result": "the result is wrong",
    "no progress": "the run did not end",
    "leak": "something is left over",
}


def _kind(violation: Violation) -> str:
    if violation.rule.startswith("test."):
        return "a mistake in the test itself"
    return _KINDS.get(violation.kind, violation.kind)


def _what(violation: Violation) -> list[str]:
    where = f", {violation.where}" if violation.where else ""
    head = textwrap.wrap(
        violation.summary, WIDTH - 5, break_long_words=False, break_on_hyphens=False
    )
    return [
        f"BUG: {head[0]}",
        *(f"     {line}" for line in head[1:]),
        f"  whose: {violation.blamed}{where}",
        f"  rule:  {violation.rule} ({_kind(violation)})",
    ]


# -- 2: who and when -------------------------------------------------------------------------------


def _who(machine: Machine, violation: Violation, at: int | None) -> list[str]:
    trace = machine.trace
    if trace is None or at is None:
        who = violation.task or "nobody in particular"
        return ["who and when", f"  {who}, at {_when(machine.now)}"]
    event = trace.events[at]
    snapshot = _of_task(trace, at, event.task_id, violation.task)
    name = snapshot.task.name if snapshot is not None else violation.task or "the world itself"
    doing = []
    if snapshot is not None:
        call = syscall(trace, snapshot.task, at)
        doing = [*([call] if call else []), *calls(snapshot.held)[::-1]]
    inside = f", in {' > '.join(doing)}" if doing else ""
    time = event.time if event.task_id else machine.now
    stack = snapshot.stack if snapshot is not None else ()
    shown = [f"    {line}" for line in stack[:_DEEP]]
    if len(stack) > _DEEP:
        shown.append(f"    ... and {len(stack) - _DEEP} callers")
    return ["who and when", *_wrap(f"{name}, at {_when(time)}{inside}"), *shown]


def _when(ns: int) -> str:
    return columns.spell_time(ns) if ns else "0 ns"


def _of_task(trace: Trace, at: int, task_id: str, name: str) -> Snapshot | None:
    """The snapshot of the task that ran, else of the one that the violation names."""
    snapshots = trace.bugs.get(at, [])
    for snapshot in snapshots:
        if task_id and snapshot.task.id == task_id:
            return snapshot
    return next((s for s in snapshots if s.task.name == name), None)


# -- 3: held and waited for ------------------------------------------------------------------------


def _held(machine: Machine, violation: Violation, at: int | None, details: list[str]) -> list[str]:
    lines = ["held and waited for"]
    trace = machine.trace
    if trace is not None and at is not None:
        state = [
            line for s in _first(trace.bugs[at], trace.events[at]) for line in _state(trace, at, s)
        ]
    else:
        state = [
            line
            for t in machine.tasks
            if t.held is not None or t.state is BLOCKED
            for line in describe(t)
        ]
    told = set(state)
    lines += [f"  {line}" for line in state] or ["  nobody holds anything"]
    rest = [line for line in details if line not in told]
    if rest:
        lines.append("  in detail:")
        lines += [wrapped for line in rest for wrapped in _wrap(line, "    ", "  ")]
    return lines


def _first(snapshots: list[Snapshot], event: Event) -> list[Snapshot]:
    """The task that ran before all others."""
    return sorted(snapshots, key=lambda s: s.task.id != event.task_id)


def _state(trace: Trace, at: int, s: Snapshot) -> list[str]:
    """What a task held and waited for at an event."""
    if getattr(s.waits_on, "idle", False) or (s.task.daemon and s.task.timer):
        return []
    return state_lines(trace, s.task, s.state, s.waits_on, s.held, s.ctx, s.stack, at)


# -- 4: the rule -----------------------------------------------------------------------------------


def _split(violation: Violation) -> tuple[list[str], list[str]]:
    """The details that quote the contract, and the others."""
    quotes: list[str] = []
    others: list[str] = []
    for line in violation.details:
        start = line.startswith(("that is: ", "declared at ", f"{violation.rule}: "))
        (quotes if start or ', column "' in line else others).append(line)
    return quotes, others


def _rule(violation: Violation, quotes: list[str]) -> list[str]:
    lines = ["the rule"]
    quotes = quotes or _quoted(violation.rule)
    known = advice(violation.rule)
    if known is not None and all(line.startswith("declared at") for line in quotes):
        lines += _wrap(known.rule)
    for line in quotes:
        lines += _wrap(line, "  ", "  ")
    if known is not None:
        lines += _wrap(f"what to do: {known.todo}", "  ", "  ")
    if len(lines) == 1:
        lines.append(f"  {violation.rule}")
    return lines


def _quoted(rule: str) -> list[str]:
    """The contract's words on a rule that the violation did not quote itself."""
    if rule in RULES:
        return [f"{rule}: {RULES[rule].text}"]
    from vfsim.checks.contract import TABLES, methods_of, quote

    table, _, rest = rule.partition(".")
    if table not in TABLES:
        return []
    methods: dict[str, Method] = methods_of(TABLES[table])
    method = methods.get(rest.partition(".")[0])
    return [] if method is None else list(quote(method, rule))


# -- 5: again --------------------------------------------------------------------------------------


def _again(token: str) -> list[str]:
    if not token:
        return [
            "to see it again",
            "  this run was not recorded: explore it, or run it with the same strategy and seed",
        ]
    return ["to see it again", f"{_COMMAND}{token}"]
