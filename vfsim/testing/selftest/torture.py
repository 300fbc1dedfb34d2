"""One torture for every primitive: small programs in which a broken one shows.

Each of these functions takes a primitive and returns a *torture*: what `vfsim.explore` can run
under many schedules.  The oracles are those of Linux's ``locktorture`` and ``rcutorture``:

============ ================== ==================================================================
torture      for                what gives a broken one away
============ ================== ==================================================================
`exclusion`  locks              a flag that says who is inside; a count that loses updates; who is
                                served before those that waited when it came; what is left locked
`several`    wound/wait mutexes the same with two at a time; who is told to back off
`pipe`       RCU and its kin    an element that a reader has found and that is one grace period
                                too old; callbacks that never run, or twice, or after the barrier
`sequence`   sequence counters  two words that a reader sees half changed
`signals`    completions,       a waiter that returns before there is something to return for
             wait queues
`references` lockref            an object that is freed never, twice, or while somebody has it
`works`      work queues        a work that runs beside itself, or not after it was queued; a flush
                                or a cancellation that is over while it runs; a lost order
============ ================== ==================================================================

All but `exclusion`, `several` and `sequence` are in `torture_waits`.  Whoever sleeps for ever is
found by the wait-for graph.  What is found is the primitive's fault, so the kernel is blamed.  A
torture spawns its tasks and returns the last look.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.locks.ww_mutex import WwClass, WwContext
from vfsim.sim.errors import Violation
from vfsim.sim.state import K
from vfsim.sim.task import BLOCKED, SPINNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

    Torture = Callable[[Machine], Callable[[], None]]

SCHEDULES = 400
"""How many schedules a primitive must survive, and a broken one may."""

_MAX_STEPS = 5_000  # far above what any torture takes


def run(torture: Torture, schedules: int = SCHEDULES, seed: int = 0) -> list[Violation]:
    """Run a torture under partial order sampling, until something is found.

    Nobody looks for races: whether a primitive keeps its word is for the torture's own oracle to
    see, and race checking takes that word for granted.
    """
    found = search(
        FunctionProgram(torture),
        schedules=schedules,
        seed=seed,
        max_steps=_MAX_STEPS,
        max_failing=1,
        races=False,
    )
    return [failure.violation for failure in found.failures]


def step(obj: Any) -> None:
    """Never sleeps.  A scheduling point on ``obj`` and nothing else."""
    K.left -= 1
    if not K.left:
        K.machine.point("step", obj)


def wrong(rule: str, summary: str, machine: Machine | None = None) -> None:
    """Sleeps.  An oracle has seen enough: end the world (``machine``, from outside of tasks)."""
    name = K.cur.name if machine is None else ""
    violation = Violation(f"torture.{rule}", "hard", "kernel", "", summary, name)
    (machine or K.machine).fatal(violation)


# -- locks -----------------------------------------------------------------------------------------


@attrs.frozen
class Lock:
    """A lock to be tortured, and the names of its methods.

    Attributes:
        make: a new one, from the name of a class.
        take, drop: its exclusive mode.  read, unread: its shared mode.  attempt: its trylock.
        wait: waits until it is free, without taking it.
        fifo: who waits longest is served first.
        restores: what ``take`` returns is given to ``drop``.
        handlers: ``irq`` or ``softirq``: handlers there take it, too (where it can be shared, for
            reading).
        core: the attribute that is waited for, where it is not the lock itself.
    """

    make: Callable[[str], Any]
    take: str = "lock"
    drop: str = "unlock"
    read: str = ""
    unread: str = ""
    attempt: str = ""
    wait: str = ""
    fifo: bool = False
    restores: bool = False
    handlers: str = ""
    core: str = ""


class _Inside:
    """Who is inside, and the count that they guard."""

    def __init__(self) -> None:
        self.writers: list[Task] = []
        self.readers: list[Task] = []
        self.value = self.expected = 0

    def write(self) -> None:
        """What a writer does inside."""
        me = K.cur
        self._alone(self.writers + self.readers)
        self.writers.append(me)
        seen = self.value
        step(self)
        self.value = seen + 1
        self.expected += 1
        self._alone([t for t in self.writers + self.readers if t is not me])
        self.writers.remove(me)

    def look(self) -> None:
        """What a reader does inside."""
        self._alone(self.writers)
        self.readers.append(K.cur)
        step(self)
        self._alone(self.writers)
        self.readers.remove(K.cur)

    def _alone(self, others: list[Task]) -> None:
        if others:
            names = ", ".join(t.name for t in others)
            wrong("exclusion", f"{K.cur.name} is inside together with {names}")

    def last_look(self, one: Any, machine: Machine) -> None:
        """When all have left: no update is lost, and the lock is free."""
        if self.value != self.expected:
            wrong("lost-update", f"{self.expected} updates left {self.value}", machine)
        if one.is_locked() or one.statistics()["waiting"]:
            wrong("left-locked", f"everybody has left, and there is {one!r}", machine)


def exclusion(lock: Lock, writers: int = 2, readers: int = 2, rounds: int = 2) -> Torture:
    """Writers alone, readers among themselves, nobody overtaken by rule, nobody left behind."""

    def torture(machine: Machine) -> Callable[[], None]:
        one = lock.make("tortured lock")
        inside = _Inside()
        waited_for = getattr(one, lock.core) if lock.core else one

        served: dict[Task, int] = {}

        def waiting() -> list[tuple[Task, int]]:
            """Who waits now, and how often it was served before."""
            states = (SPINNING, BLOCKED)
            found = [t for t in machine.tasks if t.waits_on is waited_for and t.state in states]
            return [(t, served.get(t, 0)) for t in found]

        def get(take: str) -> Any:
            """Take it in a mode; who waited before must not wait still."""
            before = waiting() if lock.fifo else []
            flags = getattr(one, take)()
            late = [wait[0].name for wait in waiting() if wait in before]
            if late:
                wrong("overtaken", f"{K.cur.name} was served before {', '.join(late)}")
            served[K.cur] = served.get(K.cur, 0) + 1
            return flags

        def writer() -> None:
            for _ in range(rounds):
                flags = get(lock.take)
                inside.write()
                getattr(one, lock.drop)(*([flags] if lock.restores else []))

        def reader() -> None:
            for _ in range(rounds):
                get(lock.read)
                inside.look()
                getattr(one, lock.unread)()

        def tryer() -> None:
            for _ in range(rounds):
                if getattr(one, lock.attempt)():
                    inside.write()
                    getattr(one, lock.drop)()
                else:
                    step(one)

        def waiter() -> None:
            for _ in range(rounds):
                getattr(one, lock.wait)()

        def interrupted(task: Task, body: Callable[[], None]) -> None:
            """A handler does the same on the task's CPU."""
            if lock.handlers == "irq":
                machine.post_irq(task.cpu.index, body, name="device")
            elif lock.handlers:
                machine.post_irq(task.cpu.index, machine.raise_softirq, body, name="device")

        for i in range(writers):
            task = machine.spawn(writer, name=f"writer{i}")
            if not lock.read:
                interrupted(task, writer)
        for i in range(readers if lock.read else 0):
            interrupted(machine.spawn(reader, name=f"reader{i}"), reader)
        if lock.attempt:
            machine.spawn(tryer)
        if lock.wait:
            machine.spawn(waiter)

        return lambda: inside.last_look(one, machine)

    return torture


def several(make: Callable[[WwClass], Any]) -> Torture:
    """Contexts that want both of two mutexes, in either order, and a task that wants one at a time.

    Nobody backs off without having something, nor before who is younger; so the oldest never does.
    """

    def torture(machine: Machine) -> Callable[[], None]:
        family = WwClass("tortured")
        pair = [(make(family), _Inside()) for _ in range(2)]

        def taker(*wanted: tuple[Any, _Inside]) -> None:
            with WwContext(family) as ctx:
                taken: list[Any] = []
                for one in _taking(ctx, [one for one, _ in wanted], taken):
                    _justified(ctx, one, taken)
                    while taken:
                        taken.pop().unlock()
                    one.lock_slow(ctx)
                    taken.append(one)
                ctx.done()
                for _, inside in wanted:
                    inside.write()
                while taken:
                    taken.pop().unlock()

        def loner() -> None:
            for one, inside in pair:
                one.lock()
                inside.write()
                one.unlock()

        for i in range(3):
            machine.spawn(taker, *(pair if i % 2 else reversed(pair)), name=f"taker{i}")
        machine.spawn(loner)

        def last_look() -> None:
            for one, inside in pair:
                inside.last_look(one, machine)

        return last_look

    return torture


def _taking(ctx: WwContext, wanted: list[Any], taken: list[Any]) -> Iterator[Any]:
    """Take what is wanted and not yet taken; yields each that could not be had."""
    while missing := [one for one in wanted if one not in taken]:
        try:
            missing[0].lock(ctx)
        except OSError as error:
            if error.errno != errno.EDEADLK:
                raise
            yield missing[0]
        else:
            taken.append(missing[0])


def _justified(ctx: WwContext, one: Any, taken: list[Any]) -> None:
    """Whether a context was told to back off as it must be."""
    if not taken:
        wrong("wounded", f"{ctx!r} is to back off, and has nothing")
    if one.ctx is None or one.ctx.stamp > ctx.stamp:
        wrong("wounded", f"{ctx!r} is to back off before {one.ctx!r}, which is no older")


# -- sequence counters -----------------------------------------------------------------------------


def sequence(make: Callable[[str], Any], begin: str, end: str, guard: Any = None) -> Torture:
    """A writer that changes two words, and readers that must not see one of them changed.

    Args:
        begin, end: the write side's methods.
        guard: makes what excludes writers, for counters that do not.
    """

    def torture(machine: Machine) -> Callable[[], None]:
        one = make("tortured sequence")
        lock = guard and guard("tortured writers")
        words = [0, 0]

        def writer() -> None:
            for _ in range(2):
                if lock:
                    lock.lock()
                getattr(one, begin)()
                value = words[0] + 1
                words[0] = value
                step(words)
                words[1] = value
                getattr(one, end)()
                if lock:
                    lock.unlock()

        def reader() -> None:
            for _ in range(2):
                while True:
                    seq = one.read_begin()
                    first = words[0]
                    step(words)
                    second = words[1]
                    if not one.read_retry(seq):
                        break
                if first != second:
                    wrong("torn-read", f"{K.cur.name} has read {first} and {second} as a pair")

        for i in range(2):
            machine.spawn(writer, name=f"writer{i}")
            machine.spawn(reader, name=f"reader{i}")

        def last_look() -> None:
            if words != [4, 4]:
                wrong("lost-update", f"two writers of 2 rounds left {words}", machine)
            if one.is_locked() or one.sequence & 1:
                wrong("left-locked", f"everybody has left, and there is {one!r}", machine)

        return last_look

    return torture
