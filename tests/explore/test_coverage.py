"""Coverage: classes of interleavings, orders of conflicts, lock uses, and the estimates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations

import pytest
from programs import Counter, busy, dining, locked_update, lost_update

from vfsim.explore.coverage import Coverage, interleaving_lines, lock_lines, order_lines
from vfsim.explore.execute import Run, execute
from vfsim.explore.explore import search
from vfsim.explore.observe import Observer, Observing, Order, Seen, Use
from vfsim.explore.program import FunctionProgram
from vfsim.explore.strategies import maker
from vfsim.explore.strategies.delay import DelayBound
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.choice import Strategy
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep


def look(program: Callable[[Machine], object], strategy: Strategy) -> tuple[Run, Seen, Observer]:
    """A run and what it showed."""
    observer = Observer()
    observing = Observing(strategy, observer)
    run = execute(FunctionProgram(program), observing, inspect=observing.inspect)
    return run, observing.seen(), observer


def classes_of(program: Callable[[Machine], object]) -> set[int]:
    """The classes of all schedules of a small program."""
    searcher, found = DelayBound(9), set()
    for index in range(3000):
        strategy = searcher.strategy(index)
        if strategy is None:
            return found
        run, seen, _ = look(program, strategy)
        found.add(seen.interleaving)
        searcher.learn(index, run)
    raise AssertionError("this program is not small")


class TestClasses:
    """Two schedules are of one class if they differ in what does not matter only."""

    def test_independent_tasks_have_one_class(self) -> None:
        """Tasks that share nothing are of one class however they are interleaved."""

        def apart(machine: Machine) -> None:
            for name in "ab":
                lock = Mutex(name)
                machine.spawn(lambda lock=lock: lock.lock() or lock.unlock())

        assert len(classes_of(apart)) == 1

    def test_one_lock_has_as_many_classes_as_orders(self) -> None:
        """Three tasks that take one lock once: 3! classes, whoever had to wait for it."""

        def one_lock(machine: Machine) -> None:
            lock = Mutex("one")
            for _ in range(3):
                machine.spawn(lambda: lock.lock() or lock.unlock())

        assert len(classes_of(one_lock)) == len(list(permutations(range(3))))

    def test_readers_commute(self) -> None:
        """Two readers and nobody who writes: one class; with a writer each read sees before or
        after.
        """

        def reads(machine: Machine, writers: int = 0) -> None:
            counter = Counter()
            for _ in range(2):
                machine.spawn(lambda: counter.value)
            for _ in range(writers):
                machine.spawn(lambda: setattr(counter, "value", 1))

        assert len(classes_of(reads)) == 1
        assert len(classes_of(lambda machine: reads(machine, 1))) == 4

    def test_lost_update_has_its_classes(self) -> None:
        """Two reads and two writes of two tasks: six interleavings, which two pairs of equal ones
        leave as four classes... counted by hand.
        """
        by_hand = set()
        for order in set(permutations("aabb")):
            seen, reads, last, write = [], {}, "", {"a": 0, "b": 0}
            for task in order:
                write[task] += 1
                if write[task] == 1:
                    reads[task] = last
                else:
                    last = task
                    seen.append(task)
            by_hand.add((tuple(seen), tuple(sorted(reads.items()))))
        assert len(classes_of(lost_update)) == len(by_hand)

    @pytest.mark.parametrize("strategy", ["pos", "pct", "random"])
    @pytest.mark.parametrize("program", [busy, dining, lost_update])
    def test_looking_on_changes_nothing(self, program: object, strategy: str) -> None:
        """An observed run is the run that nobody looked at, operation by operation."""
        subject = FunctionProgram(program)  # type: ignore[arg-type]
        for seed in range(100):
            plain = execute(subject, maker(strategy)(seed, 40))
            run, _, _ = look(subject.function, maker(strategy)(seed, 40))
            assert run.same_as(plain)

    def test_every_process_agrees(self) -> None:
        """The fingerprint does not depend on addresses or hash seeds, and is the same for ever."""
        _, seen, _ = look(locked_update, maker("pos")(3, 0))
        assert seen.interleaving == 18045108912920648872


class TestOrders:
    """Which of two conflicting places came first."""

    def test_both_orders_are_told_apart(self) -> None:
        """An order is named by kind and function, and its reverse is missing until it is seen."""

        def two(machine: Machine) -> None:
            lock = Mutex("two_lock")

            def left() -> None:
                lock.lock()
                lock.unlock()

            def right() -> None:
                lock.lock()
                lock.unlock()

            machine.spawn(left)
            machine.spawn(right)

        _, seen, _ = look(two, maker("pos")(0, 0))
        [order] = seen.orders
        assert order.on == "two_lock" and order.first[0] == "lock"
        coverage = Coverage()
        coverage.add(seen)
        assert coverage.never == [order.reverse]
        assert "never: " in order_lines(coverage.orders)[0]
        assert str(order) in (
            "left before right on two_lock (lock)",
            "right before left on two_lock (lock)",
        )
        found = search(FunctionProgram(two), schedules=100).coverage
        assert len(found.orders) == 2 and not found.never
        assert order_lines(found.orders) == ["orders        2 of 2 seen"]

    def test_reads_and_own_operations_are_no_conflict(self) -> None:
        """Two reads settle nothing, and neither do two operations of one task."""

        def quiet(machine: Machine) -> None:
            counter, mine = Counter(), Counter()
            machine.spawn(lambda: [counter.value, setattr(mine, "value", mine.value + 1)])
            machine.spawn(lambda: counter.value)

        _, seen, _ = look(quiet, maker("pos")(0, 0))
        assert seen.orders == ()

    def test_a_shared_lock_reads(self) -> None:
        """Readers of an rwsem have an order with the writer, not with each other."""

        def rw(machine: Machine) -> None:
            sem = RwSem("sem")

            def read() -> None:
                with sem.shared():
                    pass

            def write() -> None:
                with sem:
                    pass

            for work in (read, read, write):
                machine.spawn(work)

        kinds = {
            (order.first[0], order.then[0])
            for order in search(FunctionProgram(rw), schedules=200).coverage.orders
        }
        assert kinds == {("down_read", "down_write"), ("down_write", "down_read")}


def test_lock_uses_know_their_context() -> None:
    """A lock class is listed with process, softirq and hardirq, for reading and writing."""

    def everywhere(machine: Machine) -> None:
        lock, sem = SpinLock("everywhere"), RwSem("only in processes")

        def take() -> None:
            flags = lock.lock_irqsave()
            lock.unlock_irqrestore(flags)

        def work() -> None:
            with sem.shared():
                take()
            msleep(1)

        machine.spawn(work)
        machine.timer(10, take)
        machine.post_irq(1, take)

    _, seen, _ = look(everywhere, maker("pos")(0, 0))
    assert set(seen.uses) == {
        Use("everywhere", "process", "write"),
        Use("everywhere", "softirq", "write"),
        Use("everywhere", "hardirq", "write"),
        Use("only in processes", "process", "read"),
    }
    coverage = Coverage()
    coverage.add(seen)
    assert coverage.as_dict()["locks"]["only in processes"] == {"process": ["read"]}
    assert lock_lines(coverage.uses) == [
        "locks         2 classes; in softirq: everywhere; in hardirq: everywhere"
    ]


class TestEstimates:
    """Good and Turing, and Chao."""

    def test_by_hand(self) -> None:
        """Ten schedules, four classes once, three twice: 4/10, and 7 + 16/6 classes."""
        coverage = Coverage()
        for name in (1, 2, 3, 4, 5, 5, 6, 6, 7, 7):
            coverage.add(Seen(name))
        assert coverage.unseen_chance == 0.4
        assert coverage.estimated == 7 + round(16 / 6)
        assert interleaving_lines([coverage, coverage]) == [
            "interleavings 14 classes seen of about 20; chance of a new one 40.0 %"
        ]

    def test_systematic_searches_estimate_nothing(self) -> None:
        """What draws nothing has nothing to estimate from, and says what it saw."""
        found = search(FunctionProgram(busy), strategy="delay:1").coverage
        assert found.as_dict()["interleavings"]["unseen_chance"] is None
        assert found.lines()[0] == f"interleavings {len(found.classes)} classes seen"

    def test_nothing_is_nothing(self) -> None:
        """Without schedules there is nothing to tell and nothing to divide by."""
        assert Coverage().unseen_chance == 0 and Coverage().estimated == 0
        assert Coverage().lines() == []

    def test_the_estimate_comes_true(self) -> None:
        """The chance of something new falls as a search goes on."""
        chances = [
            search(FunctionProgram(busy), schedules=n).coverage.unseen_chance
            for n in (10, 100, 1000)
        ]
        assert all(a > b for a, b in pairwise(chances))


def test_auto_stops_and_says_so() -> None:
    """The portfolio ends when the chance of something new is below 2 %, and tells why."""
    found = search(FunctionProgram(busy), schedules=100_000, strategy="auto")
    assert found.run < 5000 and found.coverage.unseen_chance < 0.02
    assert str(found).endswith(
        "stopped: the chance that another schedule shows something new is below 2 %"
    )


@pytest.mark.parametrize("strategy", ["pos", "auto", "irq_sweep"])
def test_jobs_do_not_change_coverage(strategy: str) -> None:
    """One process or three: the same classes, orders and lock uses, in the same order."""
    one, three = (
        search(FunctionProgram(busy), schedules=300, strategy=strategy, jobs=jobs)
        for jobs in (1, 3)
    )
    assert one == three
    assert list(one.coverage.orders) == list(three.coverage.orders)
    assert one.coverage.as_dict() == three.coverage.as_dict()


def test_it_can_be_left_out() -> None:
    """Whoever needs schedules per second does without."""
    found = search(FunctionProgram(busy), schedules=50, observe=False)
    assert found.coverage == Coverage() and found.run == 50
    assert Order(("a", "f"), ("a", "g"), "x").reverse == Order(("a", "g"), ("a", "f"), "x")


def test_a_set_up_that_fails_shows_nothing() -> None:
    """A world that never came to its run is no error of who looks on."""

    def broken(machine: Machine) -> None:
        raise RuntimeError("no such thing")

    found = search(FunctionProgram(broken), schedules=5)
    assert [f.violation.kind for f in found.failures] == ["oops"]
    assert found.coverage.orders == {} and len(found.coverage.classes) == 1
