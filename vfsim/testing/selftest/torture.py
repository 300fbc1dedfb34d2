"""One torture for every primitive: small programs in which a broken one shows.

Each function here takes a primitive and returns a *torture*: what `vfsim.explore` can run under
many schedules.  The oracles are those of Linux's ``locktorture`` and ``rcutorture``:

============ ================== ==================================================================
torture      for                what gives a broken one away
============ ================== ==================================================================
`exclusion`  locks              a flag that says who is inside; a count that loses updates; who is
                                served before those that waited when it came; what is left locked
`pipe`       RCU and its kin    an element that a reader has found and that is one grace period
                                too old; callbacks that never run, or twice, or after the barrier
`sequence`   sequence counters  two words that a reader sees half changed
`signals`    completions,       a waiter that returns before there is something to return for
             wait queues
`references` lockref            an object that is freed never, twice, or while somebody has it
`works`      work queues        a work that runs beside itself, or not after it was queued; a flush
                                or a cancellation that is over while it runs; a lost order
============ ================== ==================================================================

Whoever sleeps for ever is found by the wait-for graph.  What is found is the primitive's fault, so
the kernel is blamed.  A torture spawns its tasks and returns the last look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.sim.errors import Violation
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K
from vfsim.sim.task import BLOCKED, SPINNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

    Torture = Callable[[Machine], Callable[[], None]]

SCHEDULES = 400
"""How many schedules a primitive must survive, and a broken one may."""

_MAX_STEPS = 5_000  # far above what any torture takes


def run(torture: Torture, schedules: int = SCHEDULES, seed: int = 0) -> list[Violation]:
    """Run a torture under partial order sampling, until something is found."""
    found = search(
        FunctionProgram(torture),
        schedules=schedules,
        seed=seed,
        max_steps=_MAX_STEPS,
        max_failing=1,
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
        interrupts: handlers take it, too.
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
    interrupts: bool = False
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

        def writer() -> None:
            for _ in range(rounds):
                before = waiting() if lock.fifo else []
                flags = getattr(one, lock.take)()
                late = [wait[0].name for wait in waiting() if wait in before]
                if late:
                    wrong("overtaken", f"{K.cur.name} was served before {', '.join(late)}")
                served[K.cur] = served.get(K.cur, 0) + 1
                inside.write()
                getattr(one, lock.drop)(*([flags] if lock.restores else []))

        def reader() -> None:
            for _ in range(rounds):
                getattr(one, lock.read)()
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

        for i in range(writers):
            machine.spawn(writer, name=f"writer{i}")
            if lock.interrupts:
                machine.post_irq(i, writer, name="device")
        for i in range(readers if lock.read else 0):
            machine.spawn(reader, name=f"reader{i}")
        if lock.attempt:
            machine.spawn(tryer)
        if lock.wait:
            machine.spawn(waiter)

        def last_look() -> None:
            if inside.value != inside.expected:
                wrong("lost-update", f"{inside.expected} updates left {inside.value}", machine)
            if one.is_locked() or one.statistics()["waiting"]:
                wrong("left-locked", f"everybody has left, and there is {one!r}", machine)

        return last_look

    return torture


# -- grace periods ---------------------------------------------------------------------------------


class Readers(Protocol):
    """A flavour of RCU: read sections, and two ways to wait for them."""

    def enter(self) -> Any:
        """Begin a read section; what it returns is given to `leave`."""

    def leave(self, token: Any) -> None:
        """End it."""

    def wait(self) -> None:
        """For a grace period."""

    def call(self, fn: Callable[[], None]) -> None:
        """Call a function after one."""

    def barrier(self) -> None:
        """For the functions that were given to `call`."""


class _Element:
    """What a reader finds: its age is 1 once it was unlinked, 2 a grace period later."""

    def __init__(self) -> None:
        self.age = 0

    def older(self) -> None:
        self.age += 1


def pipe(make: Callable[[], Readers], sleeps: bool = False) -> Torture:
    """Readers and updaters of one pointer; ``sleeps``: the readers may sleep in their sections."""

    def torture(machine: Machine) -> Callable[[], None]:
        flavour = make()
        table = [_Element()]
        called: list[_Element] = []

        def unlink() -> _Element:
            old, table[0] = table[0], _Element()
            old.older()
            return old

        def look(element: _Element) -> None:
            if element.age > 1:
                wrong("grace-period", f"{K.cur.name} still reads what a grace period has freed")

        def reader() -> None:
            for _ in range(2):
                token = flavour.enter()
                element = table[0]
                step(table)
                look(element)
                inner = flavour.enter()
                step(table)
                flavour.leave(inner)
                if sleeps:
                    yield_()
                step(table)
                look(element)
                flavour.leave(token)

        def waiter() -> None:
            for _ in range(2):
                old = unlink()
                flavour.wait()
                old.older()

        def caller() -> None:
            for _ in range(2):
                old = unlink()
                called.append(old)
                flavour.call(old.older)
            flavour.barrier()
            if any(old.age < 2 for old in called):
                wrong("barrier", "the barrier is over, and a callback has not run")

        for i in range(2):
            machine.spawn(reader, name=f"reader{i}")
        machine.spawn(waiter)
        machine.spawn(caller)

        def last_look() -> None:
            if any(old.age != 2 for old in called):
                ran = ", ".join(str(old.age - 1) for old in called)
                wrong("callbacks", f"callbacks that ought to run once ran {ran} times", machine)

        return last_look

    return torture


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


# -- waiting for something -------------------------------------------------------------------------


class Signals(Protocol):
    """Something that is given one at a time, and waited for."""

    def give(self) -> None:
        """One more; wakes who waits for it."""

    def take(self) -> None:
        """Sleeps.  Until there is one, and use it up."""

    def give_all(self) -> None:
        """Enough for everybody, for ever."""


def signals(make: Callable[[], Signals], takers: int = 3) -> Torture:
    """As many gifts as takers, given one by one or all at once, before and after they wait."""

    def torture(machine: Machine) -> Callable[[], None]:
        one, last = make(), make()
        given = [0, 0]
        taken = [0]

        def taker() -> None:
            one.take()
            taken[0] += 1
            if taken[0] > given[0]:
                wrong("early", f"{K.cur.name} is the {taken[0]}th to be served, of {given[0]}")
            last.take()
            if not given[1]:
                wrong("early", f"{K.cur.name} did not wait for the end")

        def giver() -> None:
            for _ in range(takers):
                given[0] += 1
                one.give()
                step(given)

        def closer() -> None:
            given[1] = 1
            last.give_all()

        for i in range(takers):
            machine.spawn(taker, name=f"taker{i}")
        machine.spawn(giver)
        machine.spawn(closer)

        def last_look() -> None:
            if taken[0] != takers:
                wrong("early", f"{taken[0]} of {takers} takers were served", machine)

        return last_look

    return torture


# -- reference counts ------------------------------------------------------------------------------


def references(make: Callable[[str], Any], users: int = 3) -> Torture:
    """Users who get and put an object, and one who looks it up while it may be dying."""

    def torture(machine: Machine) -> Callable[[], None]:
        ref = make("tortured reference")
        freed: list[Task] = []
        having: list[Task] = []

        def have() -> None:
            having.append(K.cur)
            step(having)
            if freed:
                wrong("use-after-free", f"{freed[0].name} has freed what {K.cur.name} has")
            having.remove(K.cur)

        def put() -> None:
            if ref.put_or_lock():
                return
            if ref.lock.owner is not K.cur:
                wrong("unlocked", f"{K.cur.name} has the last reference, and not the lock")
            if having or freed:
                wrong("use-after-free", f"{K.cur.name} frees it for the {len(freed) + 1}th time")
            freed.append(K.cur)
            ref.mark_dead()
            ref.lock.unlock()

        def user() -> None:
            ref.get()
            have()
            put()

        def owner() -> None:
            for i in range(users):
                ref.get()
                machine.spawn(holder, name=f"user{i}")
            put()

        def holder() -> None:
            user()
            put()

        def finder() -> None:
            for _ in range(2):
                if ref.get_not_dead():
                    have()
                    put()

        def locker() -> None:
            ref.lock.lock()
            step(having)
            ref.lock.unlock()

        machine.spawn(owner)
        machine.spawn(finder)
        machine.spawn(locker)

        def last_look() -> None:
            if len(freed) != 1 or ref.count >= 0 or ref.is_locked():
                wrong(
                    "counts",
                    f"nobody is left, it was freed {len(freed)} times, and is {ref!r}",
                    machine,
                )

        return last_look

    return torture


# -- work queues -----------------------------------------------------------------------------------


class Queueing(Protocol):
    """A work queue and what one does with it."""

    def work(self, fn: Callable[[Any], None], name: str) -> Any:
        """A work that runs ``fn``."""

    def queue(self, work: Any) -> None:
        """Let it run, if it is not pending."""

    def queue_in_order(self, work: Any) -> None:
        """The same, on a queue that runs one at a time."""

    def flush(self, work: Any) -> None:
        """Until what was queued has run."""

    def flush_all(self) -> None:
        """The same for all of the queue that runs one at a time."""

    def cancel(self, work: Any) -> None:
        """Until it neither runs nor will."""


def works(make: Callable[[], Queueing]) -> Torture:
    """One work that many queue and flush, one that is canceled, and a few that have an order."""

    def torture(machine: Machine) -> Callable[[], None]:
        queueing = make()
        asked, seen, canceled = [0], [0], [False]
        inside: list[str] = []
        order: list[int] = []

        def shared(work: Any) -> None:
            begin = asked[0]
            alone("shared")
            seen[0] = max(seen[0], begin)

        def alone(name: str) -> None:
            if name in inside:
                wrong("exclusion", f"work {name} runs beside itself")
            inside.append(name)
            step(inside)
            step(inside)
            inside.remove(name)

        def dropped(work: Any) -> None:
            if canceled[0]:
                wrong("early", "a work begins that was canceled")
            alone("dropped")

        def ordered(work: Any) -> None:
            alone("ordered")
            order.append(len(order) if work is line[len(order)] else -1)

        common = queueing.work(shared, "shared")
        line = [queueing.work(ordered, f"ordered {i}") for i in range(3)]

        def asker() -> None:
            for _ in range(2):
                asked[0] += 1
                mine = asked[0]
                queueing.queue(common)
                queueing.flush(common)
                if seen[0] < mine:
                    wrong("early", "the flush is over, and the work has not run since")

        def asker_only() -> None:
            asked[0] += 1
            queueing.queue(common)

        def canceler() -> None:
            work = queueing.work(dropped, "dropped")
            queueing.queue(work)
            step(work)
            queueing.cancel(work)
            canceled[0] = True
            if "dropped" in inside:
                wrong("early", "the work is canceled, and runs")

        def sorter() -> None:
            for work in line:
                queueing.queue_in_order(work)
            queueing.flush_all()
            if order != [0, 1, 2]:
                wrong("order", f"three works of an ordered queue were done as {order}")

        for body in (asker, asker, asker_only, canceler, sorter):
            machine.spawn(body)

        def last_look() -> None:
            if seen[0] < asked[0]:
                wrong("lost-work", "a work was queued, and has not run since", machine)

        return last_look

    return torture
