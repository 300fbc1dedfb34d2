"""Every class of interleavings of a program, and each hardly more than once.

Source-DPOR with sleep sets, from Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic partial
order reduction" (POPL 2014).  A run is looked at afterwards: where two steps of different tasks
depend on each other and nothing in between orders them, they are a *race*, and the search must also
see them the other way round (`vfsim.explore.reversals`).  So each decision has a set of tasks that
must be tried there, which grows as races are found.  A *sleep set* says whose turn at a decision
would only repeat what was seen: a task that was tried before, until somebody does what depends on
its step.

What is branched on: who runs next, interrupt handlers and the clock like tasks; and every number
that is chosen.  A task that would have to wait for a lock with one owner is not run before the lock
is free (`vfsim.explore.record` says why nobody can tell the difference); if nobody else can run
either, that is a deadlock, and what they wait for is looked at too.

The result is *exhaustive* only if nothing was cut off: no bug stopped the world in the middle (a
failed task does not: the others go on), and the limits below were not reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.explore.dependency import dependent
from vfsim.explore.record import Recorder, announced, must_wait
from vfsim.explore.reversals import Reversal, reversals
from vfsim.explore.steps import Print, Step, meaning
from vfsim.sim.choice import RoundRobin
from vfsim.sim.errors import WorldStopped
from vfsim.sim.task import RESUME

if TYPE_CHECKING:
    from vfsim.explore.execute import Run
    from vfsim.sim.choice import Strategy
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

EARLY = 8
"""How often in one run time may pass although somebody could run."""


class Node:
    """A decision: who runs next.

    Attributes:
        enabled: ids of those who could.
        chosen: whose turn it is now.
        todo: those who must be tried, in the order in which that was found out.
        done: those who were, and what their step touched.
        sleep: those who need not be, and what their step would touch.
        print: what the step of ``chosen`` touched in any run so far.
    """

    __slots__ = ("chosen", "done", "enabled", "print", "sleep", "todo")

    def __init__(self, enabled: list[str], chosen: str, sleep: dict[str, Print]) -> None:
        self.enabled = enabled
        self.chosen = chosen
        self.todo: dict[str, None] = {chosen: None}
        self.done: dict[str, Print] = {}
        self.sleep = sleep
        self.print: Print = frozenset()

    def next(self) -> bool:
        """Choose another that must be tried; False if there is none."""
        self.done[self.chosen] = self.print
        self.print = frozenset()
        for task in self.todo:
            if task not in self.done and task not in self.sleep:
                self.chosen = task
                return True
        return False

    def beat(self, clock: str) -> None:
        """The clock must be tried too, if it could go on: what is done may leave nothing due."""
        if clock in self.enabled and clock not in self.sleep:
            self.todo[clock] = None

    def add(self, reversal: Reversal) -> None:
        """Somebody with whom the reversed order begins must be tried, if nobody is yet."""
        first = reversal.first
        if any(task in self.todo or task in self.sleep for task in first):
            return
        able = [task for task in first if task in self.enabled]
        if able:
            self.todo[reversal.task if reversal.task in able else able[0]] = None
        else:
            self.todo.update(dict.fromkeys(self.enabled))


class Number:
    """A number that was chosen below ``n``: each is tried."""

    __slots__ = ("n", "value")

    def __init__(self, n: int) -> None:
        self.n = n
        self.value = 0

    def next(self) -> bool:
        """Choose the next one; False if there is none."""
        self.value += 1
        return self.value < self.n


class Walk(Recorder):
    """The strategy of one run: follow the path, and add to it beyond its end.

    Attributes:
        steps: what was done.  waiting: what those were about to do who are left when nobody can go
            on, or when a bug stopped the world.
        redundant: everybody who could go on was asleep, so the run was cut short.
        stuck: everybody who is left waits for a lock.
        held_back: the clock could have gone on, and `EARLY` forbade it.
    """

    def __init__(self, path: list[Node | Number]) -> None:
        super().__init__(RoundRobin())
        self.path = path

    def start(self, machine: Machine) -> None:
        """At the beginning again."""
        super().start(machine)
        machine.patient = True
        self.steps: list[Step] = []
        self.waiting: list[Step] = []
        self.redundant = self.stuck = self.held_back = False
        self._early = EARLY
        self._depth = 0
        self._node: Node | None = None
        self._first = 0  # the first step since that decision
        self._mark = 0  # the first event of this step
        self._runs: Task | None = None
        self._op: Any = None  # what it had announced
        self._last: dict[str, int] = {}  # the last step of each task
        self._causes: dict[str, int] = {}  # which step woke, started or posted a task
        self._parked: list[Task] = []

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Whose turn it is."""
        self.settle()
        if self.stuck:
            return 0
        self._end_step(current)
        able = [task for task in ready if not must_wait(task)]
        if not able:
            self.stuck = True
            self._wait(ready)
            return 0
        if self._depth < len(self.path):
            chosen = self._follow(able)
        else:
            chosen = self._extend(able)
        if chosen is self.machine.clock and len(able) > 1:
            self._early -= 1
        self._begin_step(chosen)
        self.begin(chosen)
        return ready.index(chosen)

    def choose(self, kind: str, n: int) -> int:
        """The number of the path, or 0 for now."""
        value = 0
        if not self.stuck:
            if self._depth == len(self.path):
                self.path.append(Number(n))
            number = self.path[self._depth]
            assert isinstance(number, Number) and number.n == n
            self._depth += 1
            value = number.value
        self.chose(kind, value)
        return value

    def close(self) -> None:
        """The run is over: so is its last step, and those who are parked will not act."""
        super().close()
        if not self.stuck and not self.redundant:
            self._end_step(None)
            if self.machine.stopped:
                self._wait(self.machine.rq)

    def fingerprint(self) -> int | None:
        """The class of the run, unless it was cut short."""
        return None if self.redundant else super().fingerprint()

    # -- decisions ---------------------------------------------------------------------------------

    def _follow(self, able: list[Task]) -> Task:
        """The one that the path names."""
        node = self.path[self._depth]
        assert isinstance(node, Node)
        self._node = node
        self._depth += 1
        return next(task for task in able if task.id == node.chosen)

    def _extend(self, able: list[Task]) -> Task:
        """The first who is not asleep; a new decision."""
        clock = self.machine.clock
        if able[-1] is clock and len(able) > 1 and not self._early:
            del able[-1]
            self.held_back = True
        sleep = self._sleep()
        chosen = next((task for task in able if task.id not in sleep), None)
        if chosen is None:
            self.redundant = True
            raise WorldStopped
        self._node = Node([task.id for task in able], chosen.id, sleep)
        self.path.append(self._node)
        self._depth += 1
        return chosen

    def _sleep(self) -> dict[str, Print]:
        """Who need not be tried: who needed not at the last decision, if nothing woke them."""
        node = self._node
        if node is None:
            return {}
        since = [op for step in self.steps[self._first :] for op in step.touched]
        tasks = {task.id: task for task in (*self._parked, self.machine.clock)}
        return {
            ident: touched
            for ident, touched in (*node.sleep.items(), *node.done.items())
            if ident in tasks and not _depends(tasks[ident], touched, since)
        }

    # -- steps -------------------------------------------------------------------------------------

    def _begin_step(self, task: Task) -> None:
        self._mark = len(self.events)
        self._runs = task
        self._op = task.pending[1]
        self._first = len(self.steps)
        self._add(task, self._depth - 1)
        if task in self._parked:
            self._parked.remove(task)

    def _add(self, task: Task, node: int) -> Step:
        ident = task.id
        step = Step(task, self._last.get(ident, -1), self._causes.pop(ident, -1), node)
        self._last[ident] = len(self.steps)
        self.steps.append(step)
        return step

    def _end_step(self, current: Task | None) -> None:
        """Note what the step did, the time that passed by itself, and whom they made runnable."""
        task = self._runs
        clock = self.machine.clock
        if task is not None:
            events = self.events[self._mark :]
            ticks = [(kind, obj) for _, kind, obj in events if kind == "tick"]
            step = self.steps[-1]
            if task is clock:
                step.touched = ticks[:1]
                del ticks[:1]
            else:
                step.touched = [
                    (kind, obj) for _, kind, obj in events if kind != "tick" and obj is not None
                ]
                step.touched += step.possession(task)
            node = self._node
            assert node is not None
            node.print |= step.print(task, self._op)
            if task is not clock and self._disarms(step):
                node.beat(clock.id)
            for tick in ticks:
                self._add(clock, -1).touched = [tick]
        now = [*self.machine.rq] if current is None else [current, *self.machine.rq]
        for other in now if task is not None else ():
            if other not in self._parked and (other is not task or other.pending[0] == RESUME):
                self._causes[other.id] = len(self.steps) - 1
        self._parked = now
        self._runs = None

    def _disarms(self, step: Step) -> bool:
        """Whether the step may have taken away what was due: a timer, or the last task."""
        return not self.machine.alive or any(kind == "timer" for kind, _ in step.touched)

    def _wait(self, tasks: list[Task]) -> None:
        """Note what tasks were about to do who will not."""
        for task in tasks:
            if task is not self.machine.clock and task.pending[1] is not None:
                step = Step(task, self._last.get(task.id, -1), self._causes.get(task.id, -1), -1)
                step.touched = [announced(task)]
                self.waiting.append(step)


def _depends(task: Task, touched: Print, others: list[tuple[str, Any]]) -> bool:
    """Whether a step that a task is about to do depends on any of these operations."""
    for kind, word in touched:
        if word is None:
            return True
        op = (kind, meaning(task, word))
        if any(dependent(op, other) for other in others):
            return True
    return False


class Dpor:
    """The searcher: which schedule is next, given what the last ones showed.

    Attributes:
        executions: how many schedules were run.  redundant: how many of them were cut short
            because they would only have repeated others.
        classes: how many different ones were seen.
        finished: there are no more schedules to run.
        cut: why the result is not exhaustive, or "".
    """

    parallel = False

    def __init__(self) -> None:
        self.executions = self.redundant = 0
        self.finished = False
        self.cut = ""
        self._seen: dict[int, None] = {}
        self._path: list[Node | Number] = []
        self._walk = Walk(self._path)
        self._fresh = 0  # the first entry of the path that the next run has not in common

    def strategy(self, index: int) -> Strategy | None:
        """The strategy of the next schedule, or None if there is nothing left."""
        return None if self.finished else self._walk

    def learn(self, index: int, run: Run) -> None:
        """Look at the races of a run, and go on to the next schedule."""
        walk = self._walk
        self.executions += 1
        self.redundant += walk.redundant
        if run.interleaving is not None:
            self._seen[run.interleaving] = None
        if walk.broken_off and not walk.redundant:
            self.cut = "a bug stopped the world in the middle of a run"
        elif walk.held_back:
            self.cut = f"in one run time may pass early {EARLY} times"
        for reversal in reversals(walk.steps, walk.waiting, self._fresh):
            node = self._path[reversal.node]
            assert isinstance(node, Node)
            node.add(reversal)
        self._go_on()

    def _go_on(self) -> None:
        path = self._path
        while path and not path[-1].next():
            path.pop()
        self._fresh = max((i for i, entry in enumerate(path) if isinstance(entry, Node)), default=0)
        self._walk = Walk(path)
        self.finished = not path

    @property
    def classes(self) -> int:
        """How many classes of interleavings were seen."""
        return len(self._seen)

    @property
    def claim(self) -> str:
        """What it means that nothing is left, or "" if something was cut off."""
        return f"every class of interleavings was run, {self._counts}" if self.exhaustive else ""

    @property
    def shortfall(self) -> str:
        """Why nothing is left and yet not every class was run, or ""."""
        return f"{self.cut}, {self._counts}" if self.finished and self.cut else ""

    @property
    def _counts(self) -> str:
        return f"{self.classes} classes in {self.executions} executions"

    @property
    def exhaustive(self) -> bool:
        """Whether every class of interleavings was seen."""
        return self.finished and not self.cut

    def __str__(self) -> str:
        if self.exhaustive:
            return f"exhaustive: {self._counts}"
        return f"not exhaustive ({self.cut or 'it was ended early'}): {self._counts}"
