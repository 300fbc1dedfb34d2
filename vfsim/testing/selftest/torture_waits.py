"""The tortures of grace periods, signals, reference counts and work queues; see `torture`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K
from vfsim.testing.selftest.torture import step, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task
    from vfsim.testing.selftest.torture import Torture

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
