"""The wait-for graph: cycles found at once, and what is said when nothing can run."""

from __future__ import annotations

from tests.checks.worlds import after, first, verdicts, world
from vfsim.checks.contract import Operations, methods_of
from vfsim.checks.obligations import owe
from vfsim.checks.rules import never_blocks
from vfsim.checks.waits import dump_tasks
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep, schedule_timeout
from vfsim.sim.state import K
from vfsim.sim.task import Task

DEADLOCK, LOST, NO_WAKER = "wait.deadlock", "wait.lost-wakeup", "wait.no-waker"


class Duties(Operations):
    """A table for the tests."""

    table = "waits_test"

    @never_blocks()
    def read(self) -> None:
        """Reads a page."""


class Forgetful(Duties):
    def read(self) -> None:
        """Never unlocks it."""


# -- cycles ----------------------------------------------------------------------------------------


def test_a_deadlock_is_found_when_it_happens() -> None:
    """The wait that closes the cycle ends the world, although a third task could run."""
    a, b = Mutex("A"), Mutex("B")

    def one() -> None:
        with a:
            msleep(1)
            b.lock()

    def two() -> None:
        with b:
            msleep(1)
            a.lock()

    def busy() -> None:
        msleep(100)

    with world(one, two, busy) as machine:
        last = machine.violations[-1]
        assert (last.rule, last.kind, last.blamed) == (DEADLOCK, "hard", "test")
        assert machine.now < 100_000_000
        assert "one waits for B of two" in last.summary and "two waits for A of one" in last.summary


def test_a_cycle_through_readers() -> None:
    """A writer waits for every reader, and one of them waits for the writer."""
    sem, m = RwSem("R"), Mutex("M")

    def reader() -> None:
        with sem.shared():
            msleep(1)
            m.lock()

    def other_reader() -> None:
        with sem.shared():
            msleep(3)

    def writer() -> None:
        with m:
            msleep(2)
            sem.down_write()

    assert DEADLOCK in verdicts(other_reader, reader, writer)


def test_a_cycle_through_a_named_waker() -> None:
    """A waiter names who must wake it; if that one waits for the sleeper, nobody will."""
    m, queue = Mutex("M"), WaitQueue("done")

    def sleeper() -> None:
        with m:
            queue.wait_event(lambda: False, owner=lambda: worker)

    def work() -> None:
        msleep(1)
        with m:
            queue.wake_up()

    with world() as machine:
        machine.spawn(sleeper)
        worker = machine.spawn(work)
        machine.run()
        assert [v.rule for v in machine.violations] == [DEADLOCK]


def test_an_interrupt_spins_for_what_its_cpu_holds() -> None:
    """The handler runs on top of the owner, which cannot go on to release."""
    s = SpinLock("S")

    def owner() -> None:
        for _ in range(3):
            with s:
                K.machine.post_irq(0, handler)
                K.left = 1  # a scheduling point inside the section
                K.machine.point("test", None)

    def handler() -> None:
        with s:
            pass

    class HandlerFirst:
        gap = 1

        def start(self, machine: Machine) -> None: ...

        def decide(self, ready: list[Task], current: Task | None) -> int:
            return len(ready) - 1

        def choose(self, kind: str, n: int) -> int:
            return 0

    with world(owner, cpus=1, strategy=HandlerFirst()) as machine:
        assert machine.violations[-1].rule == DEADLOCK
        assert "cpu0" in machine.violations[-1].summary


def test_waiting_in_turn_is_fine() -> None:
    """Chains of waiters that end in somebody who runs are no deadlock."""
    a, b = Mutex("A"), Mutex("B")

    def one() -> None:
        with a:
            msleep(3)

    def two() -> None:
        with b, a:
            msleep(1)

    def three() -> None:
        msleep(1)
        with b:
            pass

    assert verdicts(one, two, three) == []


def test_a_timed_wait_is_no_deadlock() -> None:
    """Whoever has a timer wakes up, whatever he waits for."""
    m, queue = Mutex("M"), WaitQueue("q")

    def sleeper() -> None:
        with m:
            assert not queue.wait_event_timeout(lambda: False, 5000)

    def other() -> None:
        with m:
            pass

    assert verdicts(sleeper, other) == []


# -- hangs -----------------------------------------------------------------------------------------


def test_nobody_woke_the_sleeper() -> None:
    """What the sleeper waits for came true, but whoever did it forgot to wake."""
    queue, flag = WaitQueue("ready"), [False]

    def sleeper() -> None:
        queue.wait_event(lambda: flag[0])

    def setter() -> None:
        msleep(1)
        flag[0] = True

    violation = first(sleeper, setter)
    assert (violation.rule, violation.kind) == (LOST, "hard")
    assert "which has happened" in violation.summary


def test_woken_before_it_slept() -> None:
    """A bare sleep after a look at the flag misses the wake-up in between."""
    queue = WaitQueue("ready")

    def waker() -> None:
        queue.wake_up()

    def sleeper() -> None:
        msleep(1)
        queue.sleep_on()

    violation = first(waker, sleeper)
    assert violation.rule == LOST and "waker did wake that queue" in violation.summary


def test_nobody_is_left_to_wake() -> None:
    """A completion that nobody will complete."""
    done = Completion("io")

    def sleeper() -> None:
        done.wait()

    violation = first(sleeper)
    assert violation.rule == NO_WAKER and "nobody is left" in violation.summary


def test_the_owner_ended() -> None:
    """A lock that its owner took with him when he ended."""
    m = Mutex("M")

    def leaker() -> None:
        m.lock()

    def waiter() -> None:
        msleep(1)
        m.lock()

    with world(leaker, waiter) as machine:
        assert [v.rule for v in machine.violations] == ["lockdep.held-at-exit", NO_WAKER]
        assert "leaker ended and still has M" in machine.violations[1].summary


def test_idle_threads_are_no_hang() -> None:
    """A kernel thread that has nothing to do may sleep for ever."""
    queue = WaitQueue("work")

    def thread() -> None:
        queue.wait_event(lambda: False, idle=True)

    with world() as machine:
        machine.spawn(thread, daemon=True)
        machine.spawn(lambda: msleep(1))
        machine.run()
        assert machine.violations == []


def test_an_open_duty_is_named() -> None:
    """A wait for something that a method still owes breaks the method's rule, and the report of the
    hang names it.
    """
    site = methods_of(Duties)["read"].sites[0]
    page = SleepBit("page_lock")

    def waiter() -> None:
        page.lock()
        page.disown()
        owe(("unlock", page), "unlock the page", "P19", site)
        page.wait()

    with world(waiter) as machine:
        rules = [v.rule for v in machine.violations]
        assert rules == ["P19", NO_WAKER]
        assert {v.blamed for v in machine.violations} == {site.blamed}
        assert any(
            "still owed: unlock the page [P19]" in line for line in machine.violations[1].details
        )


def test_io_on_its_way_is_no_hang() -> None:
    """A device's interrupt will come."""
    page = SleepBit("page_lock")

    def reader() -> None:
        page.lock()
        page.disown()
        page.wait()

    def finish() -> None:
        page.unlock()

    assert verdicts(reader, after(1000, finish)) == []


# -- for people ------------------------------------------------------------------------------------


def test_dump_tasks_says_what_everybody_does() -> None:
    """Each task with its state, what it waits for and holds, and where it stands."""
    m = Mutex("M")
    seen: list[str] = []

    def owner() -> None:
        with m:
            schedule_timeout(1000)
            seen.append(dump_tasks(K.machine))

    def waiter() -> None:
        with m:
            pass

    assert verdicts(owner, waiter, traced=True) == []
    assert "waiter sleeps for M, at test_waits.py" in seen[0]
    assert "owner holds M, taken at test_waits.py" in seen[0]
    assert "cpu1" in seen[0]
