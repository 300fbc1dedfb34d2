"""The causal past of a failure: the tasks without which it would have happened all the same.

An operation is in the past of another if it comes before it in the same task, if both touch the
same object and do not merely read it, if it started the other's task, or if it woke it.  The past
is read off a trace backwards, from the failure on; what is unsure counts as past.

`relevant` are the tasks with an operation in the past; `sliced` is the schedule without the others:
where somebody gave way to one of them, he now gives way to whoever of the relevant ran next.  It is
a guess, which the replay confirms or not: a task that is left to itself may come at another time,
and be in the way after all (cf. Shuttle's replay limited by clocks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.explore.dependency import READERS
from vfsim.explore.strategies.replay import Replay
from vfsim.sim.choice import Deviation
from vfsim.sim.task import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.sim.task import Task
    from vfsim.sim.trace import Event, Trace

_SETTLED = Deviation("", "", 0, 0, 0)
_TOUCHES_NOTHING = ("phase", "syscall", "exit", "spawn", "resched", "yield", "BUG")


class Placed(Replay):
    """A replay that notes where in the trace each deviation came due.

    Attributes:
        places: by the number of the deviation, how many events there were; -1 if it never came.
    """

    def __init__(self, deviations: Sequence[Deviation], trace: Trace) -> None:
        super().__init__(deviations)
        self.trace = trace
        self.places = [-1] * len(self.deviations)

    def _meet(self, index: int, asked: Task) -> None:
        self.places[index] = len(self.trace.events)
        super()._meet(index, asked)


def relevant(trace: Trace, at: int) -> dict[str, None]:
    """The ids of the tasks that have an operation in the past of event number ``at``."""
    found: dict[str, None] = {}
    touched: dict[str, bool] = {}  # label of an object: whether only readers touched it
    bug = trace.events[at]
    found.update(dict.fromkeys([bug.task_id] if bug.task_id else _concerned(trace, at)))
    waker = False
    for event in reversed(trace.events[:at]):
        who = event.task_id
        if event.kind == "woken":
            waker = waker or who in found
            continue
        if not who or not (waker or who in found or _meets(event, touched)):
            continue
        waker = False
        found[who] = None
        creator = who.rpartition(".")[0]
        if creator:
            found[creator] = None
        if touches(event):
            touched[event.obj] = touched.get(event.obj, True) and _only_reads(event)
    return found


def _concerned(trace: Trace, at: int) -> Iterator[str]:
    """Whom a failure concerns that was recorded while nobody ran: the task whose exception it is,
    in a hang all that had not ended, else those who looked at the result, or everybody if nobody
    can be seen to have looked.
    """
    found = trace.events[at].ref
    phase = next((i for i in range(at, -1, -1) if trace.events[i].kind == "phase"), 0)
    here = [e for e in trace.events[phase:at] if e.task_id]
    if found.kind in ("wrong result", "oops") and found.task:
        yield from (e.task_id for e in here if e.task == found.task)
    elif trace.events[phase].obj == "run":
        yield from (s.task.id for s in trace.bugs[at] if s.task.state is not DONE)
    else:
        yield from (e.task_id for e in here or trace.events[:at] if e.task_id)


def touches(event: Event) -> bool:
    """Whether an operation touches an object."""
    return bool(event.obj) and event.kind not in _TOUCHES_NOTHING


def conflict(one: Event, other: Event) -> bool:
    """Whether two operations touch one object, and the order can matter."""
    same = one.obj == other.obj and touches(one) and touches(other)
    return same and not (_only_reads(one) and _only_reads(other))


def _only_reads(event: Event) -> bool:
    return event.kind in READERS or "shared" in event.how


def _meets(event: Event, touched: dict[str, bool]) -> bool:
    """Whether an event conflicts with something in the past."""
    if not touches(event) or event.obj not in touched:
        return False
    return not (touched[event.obj] and _only_reads(event))


def sliced(replay: Placed, at: int) -> list[Deviation]:
    """The deviations of a traced run that concern the causal past of its event ``at``."""
    tasks = relevant(replay.trace, at)
    kept: list[Deviation] = []
    gave_way = Deviation("", "b", 0, 0, "")  # to whom, is told by who runs next
    for step in _steps(replay):
        who = step.task if isinstance(step, Deviation) else step.task_id
        if who not in tasks:
            continue
        if gave_way.value == "" and who != gave_way.task:
            kept.append(gave_way._replace(value=who))
        gave_way = _SETTLED
        if not isinstance(step, Deviation):
            continue
        if isinstance(step.value, int) or step.value == "clock":
            kept.append(step)
        else:
            gave_way = step._replace(value="")
    return kept


def _steps(replay: Placed) -> Iterator[Event | Deviation]:
    """What the explored tasks did and where they gave way, in order."""
    due: dict[int, list[Deviation]] = {}
    for d, place in zip(replay.deviations, replay.places, strict=True):
        due.setdefault(place, []).append(d)
    running = False
    for i, event in enumerate(replay.trace.events):
        yield from due.get(i, ())
        running = event.obj == "run" if event.kind == "phase" else running
        if running and event.kind != "woken":
            yield event
