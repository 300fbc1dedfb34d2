"""Looking at a shrunk failure once more: is it minimal, does it come again, which run passes?

The *nearest passing schedule* is the failing one with a single deviation taken away; the later that
deviation comes, the longer the two runs are one, so the last is tried first.  If every one of them
is needed, the schedule is minimal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.explore.execute import execute
from vfsim.explore.parting import Parting, part
from vfsim.explore.shrink import TIMES, reproduce
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.watch import TIMED_OUT
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.explore.program import Program
    from vfsim.explore.watch import Watch
    from vfsim.sim.choice import Deviation

    Signature = tuple[str, str, str]

_MOST = 12  # deviations of which it is asked whether each is needed


_ANYHOW = "it needs no deviation: it fails although each task runs until it waits or ends"


@attrs.frozen
class Looked:
    """What is known of a failing schedule beside its run.

    Attributes:
        deviations: how many there are.  minimal: none of them can go.
        reproduced: how many of `TIMES` replays failed in the same way.
        passing: the trace of the nearest schedule in which nothing fails, or at least not in this
            way, if there is one.
        left_out: tasks that the program had and does not need.
    """

    deviations: int
    minimal: bool
    reproduced: int
    passing: Trace | None = None
    left_out: tuple[str, ...] = ()

    def size(self, failing: Trace) -> str:
        """``minimal: 4 calls in 2 tasks, 2 deviations, reproduced 10/10``; "" if nothing is known,
        or the run had no tasks to interleave.
        """
        calls, tasks = _counted(failing)
        if not self.reproduced or not tasks:
            return ""
        work = f"{_number(calls, 'call')} in {_number(tasks, 'task')}"
        text = work if calls else _number(tasks, "task")
        text += f", {_number(self.deviations, 'deviation')}, reproduced {self.reproduced}/{TIMES}"
        if self.left_out:
            text += f" (without {', '.join(self.left_out)})"
        return f"minimal: {text}" if self.minimal else text

    def parting(self, failing: Trace) -> Parting | None:
        """Where the failing run parts from the passing one."""
        if self.passing is not None:
            return part(failing, self.passing)
        if self.minimal and not self.deviations and _counted(failing)[1] > 1:
            return Parting(_ANYHOW, ())
        return None


UNKNOWN = Looked(0, False, 0)
"""Of a schedule that nobody looked at."""


def look(
    program: Program,
    deviations: Sequence[Deviation],
    signature: Signature,
    max_steps: int,
    watch: Watch,
    races: bool = True,
) -> Looked:
    """Look at a failing schedule once more; at races, too, unless its run did not."""
    count = len(deviations)
    if signature[0] == TIMED_OUT or count > _MOST or watch.interrupted:
        return UNKNOWN
    clean: Trace | None = None
    other: Trace | None = None  # it fails in another way
    needed = 0
    for i in reversed(range(count)):
        watch.begin()
        trace = Trace(stacks=False)
        fewer = Replay([*deviations[:i], *deviations[i + 1 :]])
        run = execute(program, fewer, trace, max_steps, races=races)
        if any(v.signature == signature for v in run.violations):
            continue
        needed += 1
        other = other or trace
        if not run.violations:
            clean = clean or trace
    again = reproduce(program, deviations, signature, max_steps, watch, races)
    without = dict(program.options).get("without") or ""
    left_out = tuple(name for name in str(without).split() if name.isidentifier())
    return Looked(count, needed == count, again, clean or other, left_out)


def _counted(trace: Trace) -> tuple[int, int]:
    """How many system calls, and how many of the tasks that were started before, took part."""
    run = next((i for i, e in enumerate(trace.events) if e.kind == "phase" and e.obj == "run"), 0)
    end = next(
        (i for i, e in enumerate(trace.events) if i > run and e.kind == "phase"), len(trace.events)
    )
    events = trace.events[run:end]
    calls = [e for e in events if e.kind == "syscall"]
    tasks = {e.task_id: None for e in calls or events if e.task_id.isdigit()}
    return len(calls), len(tasks)


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
