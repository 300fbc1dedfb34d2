"""The search by partial orders: it misses nothing, and hardly repeats itself."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import attrs
import pytest
from programs import Counter, dining, lost_update
from random_programs import MIXES, Recipe, crowded_recipe, recipe

from vfsim.explore.dpor import EARLY, Dpor
from vfsim.explore.enumerate import Enumerate
from vfsim.explore.execute import execute
from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.explore.searcher import Searcher
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.cpu import local_irq_disable, local_irq_enable
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep, wake
from vfsim.sim.state import K

Program = Callable[[Machine], Any]


@attrs.define
class Found:
    """What a whole search showed.

    Attributes:
        runs: how many schedules.  classes: how often each class of interleavings was run.
        outcomes: the different results.  rules: the rules that were broken.
    """

    runs: int = 0
    classes: dict[int, int] = attrs.Factory(dict)
    outcomes: set[str] = attrs.Factory(set)
    rules: set[str] = attrs.Factory(set)


def run_all(
    searcher: Searcher,
    program: Program,
    outcome: Callable[[], str] = str,
    cpus: int = 4,
    limit: int = 10_000,
) -> Found:
    """Every schedule that a searcher has."""
    runnable = FunctionProgram(program, cpus)
    found = Found()
    while (strategy := searcher.strategy(found.runs)) is not None:
        run = execute(runnable, strategy)
        if run.interleaving is not None:
            found.classes[run.interleaving] = found.classes.get(run.interleaving, 0) + 1
            found.outcomes.add(outcome())
        found.rules |= {violation.rule for violation in run.violations}
        searcher.learn(found.runs, run)
        found.runs += 1
        assert found.runs < limit
    return found


# -- nothing is missed -----------------------------------------------------------------------------


def compare(made: Recipe, begun: bool, limit: int = 10_000) -> tuple[int, int]:
    """How many classes a program has, and in how many executions DPOR saw all of them."""
    dpor = Dpor()
    quick = run_all(dpor, made.build, made.outcome, made.cpus, limit)
    every = run_all(Enumerate(begun), made.build, made.outcome, made.cpus, limit)
    assert dpor.exhaustive
    assert quick.classes.keys() == every.classes.keys()
    assert quick.outcomes == every.outcomes and quick.rules == every.rules
    return len(every.classes), quick.runs


DENSE = tuple(mix for mix in MIXES if mix not in ("time", "irqs"))
_SEEDS = 72  # programs of each


@pytest.mark.parametrize("mix", DENSE)
def test_nothing_is_missed(mix: str) -> None:
    """DPOR finds the classes and the outcomes of full enumeration, in hardly more executions.

    The programs are worth it: half of each mix, and so of all of them, have 50 classes or more.
    """
    assert len(DENSE) * _SEEDS >= 500
    programs = [crowded_recipe(seed, mix, 420, 50, 200) for seed in range(_SEEDS)]
    classes, runs = zip(*(compare(made, begun=True) for made in programs), strict=True)
    assert median(classes) >= 50
    assert sum(runs) <= 1.05 * sum(classes)


@pytest.mark.parametrize("mix", ["time", "irqs", "locks", "rcu"])
def test_nothing_is_missed_of_tasks_that_begin_anywhere(mix: str) -> None:
    """The same with every order in which tasks can begin, and with timers and interrupts."""
    for seed in range(25):
        compare(recipe(seed, mix, 30), begun=False)


@pytest.mark.soak
@pytest.mark.parametrize("mix", MIXES)
def test_nothing_is_missed_of_larger_programs(mix: str) -> None:
    """The same with other and larger programs."""
    dense = mix in DENSE
    for seed in range(1000, 1150):
        made = recipe(seed, mix, 4000 if dense else 100)
        compare(made, begun=dense, limit=100_000)


# -- known numbers ---------------------------------------------------------------------------------


def pairs(tasks: int, locks: int) -> Program:
    """Each task takes and releases two locks in turn."""

    def program(machine: Machine) -> None:
        both = Mutex("a"), Mutex("b")

        def work() -> None:
            for i in range(locks):
                with both[i % 2]:
                    pass

        for _ in range(tasks):
            machine.spawn(work)

    return program


def additions(tasks: int) -> Program:
    """Each task adds one without a lock."""

    def program(machine: Machine) -> None:
        counter = Counter()

        def add() -> None:
            counter.value = counter.value + 1

        for _ in range(tasks):
            machine.spawn(add)

    return program


def philosophers(count: int) -> Program:
    """All of them take the left fork first."""

    def program(machine: Machine) -> None:
        forks = [Mutex(f"fork {i}") for i in range(count)]

        def dine(left: Mutex, right: Mutex) -> None:
            with left, right:
                pass

        for i in range(count):
            machine.spawn(dine, forks[i], forks[(i + 1) % count])

    return program


def ring(tasks: int) -> Program:
    """Each task copies from its neighbour to itself under one lock (token_ring)."""

    def program(machine: Machine) -> None:
        lock = Mutex("m")

        def work() -> None:
            with lock:
                pass

        for _ in range(tasks):
            machine.spawn(work)

    return program


def crossing(machine: Machine) -> None:
    """Two tasks take two locks in opposite orders (deadlock01)."""
    a, b = Mutex("a"), Mutex("b")

    def take(first: Mutex, second: Mutex) -> None:
        with first, second:
            pass

    machine.spawn(take, a, b)
    machine.spawn(take, b, a)


@pytest.mark.parametrize(
    ("program", "classes"),
    [
        (pairs(2, 3), 10),
        (pairs(2, 5), 70),
        (additions(2), 4),
        (additions(3), 36),
        (ring(4), 24),
        (crossing, 3),
        (philosophers(3), 7),
    ],
)
def test_known_numbers(program: Program, classes: int) -> None:
    """As many executions as there are classes, and as many classes as the literature counts."""
    dpor = Dpor()
    found = run_all(dpor, program)
    assert (len(found.classes), found.runs) == (classes, classes)
    assert str(dpor) == f"exhaustive: {classes} classes in {classes} executions"


def test_some_executions_are_redundant() -> None:
    """Source sets are not optimal: five philosophers have 31 classes and need a few runs more."""
    dpor = Dpor()
    found = run_all(dpor, philosophers(5))
    assert len(found.classes) == 31 and set(found.classes.values()) == {1}
    assert dpor.exhaustive and 0 < dpor.redundant < 31


@pytest.mark.soak
def test_a_larger_known_number() -> None:
    """Three tasks with four lock pairs each: 3,606 classes in as many executions."""
    assert run_all(Dpor(), pairs(3, 4)).runs == 3606


def test_independent_noise_costs_nothing() -> None:
    """Four tasks that touch only their own lock add no execution."""

    def noisy(machine: Machine) -> None:
        lost_update(machine)
        for i in range(4):
            machine.spawn(_busy, Mutex(f"own {i}"))

    assert run_all(Dpor(), noisy).runs == run_all(Dpor(), lost_update).runs


def _busy(lock: Mutex) -> None:
    for _ in range(10):
        with lock:
            pass


# -- what is special -------------------------------------------------------------------------------


def test_a_queued_writer_stops_a_second_reader() -> None:
    """A reader that reads again deadlocks only if a writer got in line between: it is found."""

    ended: list[bool] = []

    def program(machine: Machine) -> None:
        sem = RwSem("sem")
        ended[:] = [False]

        def twice() -> None:
            sem.down_read()
            sem.down_read()
            sem.up_read()
            sem.up_read()
            ended[:] = [True]

        def once() -> None:
            sem.down_write()
            sem.up_write()

        machine.spawn(twice)
        machine.spawn(once)

    dpor = Dpor()
    found = run_all(dpor, program, lambda: str(ended))
    assert dpor.exhaustive and found.outcomes == {"[True]", "[False]"}
    assert found.classes.keys() == run_all(Enumerate(), program).classes.keys()


def test_every_number_is_chosen() -> None:
    """Choices are branched on, beside the order: 3 * 2 numbers in each of 2 orders."""
    seen: list[int] = []
    outcomes: set[tuple[int, ...]] = set()

    def program(machine: Machine) -> Callable[[], None]:
        seen.clear()
        lock = Mutex("m")

        def pick(n: int) -> None:
            with lock:
                seen.append(10 * n + K.machine.choose("fault", n))

        machine.spawn(pick, 3)
        machine.spawn(pick, 2)
        return lambda: outcomes.add(tuple(seen))

    found = run_all(Dpor(), program)
    assert found.runs == len(found.classes) == len(outcomes) == 12


def test_a_failed_task_does_not_hide_the_others() -> None:
    """After a failed assertion the other tasks go on: no class is lost, and all failures show."""

    def program(machine: Machine) -> None:
        counter = Counter()

        def first() -> None:
            assert counter.value == 0, "somebody was faster"
            counter.value = 1

        def other() -> None:
            counter.value = 2
            counter.value = 3

        machine.spawn(first)
        machine.spawn(other)

    dpor = Dpor()
    found = run_all(dpor, program)
    assert dpor.exhaustive and found.rules == {"result.program"}
    assert found.classes.keys() == run_all(Dpor(), program).classes.keys()
    # `first` reads before both writes, and writes in 3 places; or it reads in 2 others, and fails
    assert len(found.classes) == 5


def test_a_hard_bug_is_not_exhaustive() -> None:
    """A bug that stops the world while others could run: the result says so."""

    def program(machine: Machine) -> None:
        counter = Counter()

        def crash() -> None:
            lock = Mutex("m")
            counter.value = 1
            lock.lock()
            lock.lock()

        def other() -> None:
            counter.value = 2
            counter.value = 3

        machine.spawn(crash)
        machine.spawn(other)
        machine.spawn(other)

    dpor = Dpor()
    assert run_all(dpor, program).rules
    assert dpor.exhaustive  # whoever waits for itself runs last, when nobody else can

    def fatal(machine: Machine) -> None:
        counter = Counter()

        def crash() -> None:
            counter.value = 1
            local_irq_disable()
            msleep(1)

        machine.spawn(crash)
        machine.spawn(additions(1), machine)
        program(machine)

    dpor = Dpor()
    found = run_all(dpor, fatal)
    assert found.rules and not dpor.exhaustive
    assert str(dpor).startswith("not exhaustive (a bug stopped the world in the middle of a run)")


def test_a_wake_up_that_comes_too_early() -> None:
    """A bare sleep that a wake-up can miss hangs in one class and not in the other."""

    def program(machine: Machine) -> None:
        queue = WaitQueue("event")
        machine.spawn(queue.sleep_on)
        machine.spawn(queue.wake_up)

    dpor = Dpor()
    found = run_all(dpor, program)
    assert dpor.exhaustive and len(found.classes) == found.runs == 2 and found.rules


def test_a_timer_and_a_wake_up() -> None:
    """A sleeper is woken by its timer or by somebody else: both are seen."""
    woken: list[int] = []

    def program(machine: Machine) -> None:
        def sleep() -> None:
            msleep(1)
            woken.append(machine.now)

        machine.spawn(wake, machine.spawn(sleep))

    assert run_all(Dpor(), program).runs == len(set(woken)) + 1  # or it comes before the sleep
    assert len(set(woken)) == 2


def test_an_interrupt_comes_everywhere_it_can() -> None:
    """A handler comes before or after what it conflicts with, and not where interrupts are off."""
    seen: set[tuple[int, ...]] = set()
    looks: list[int] = []

    def program(machine: Machine) -> Callable[[], None]:
        looks.clear()
        counter = Counter()

        def work() -> None:
            looks.append(counter.value)
            local_irq_disable()
            looks.append(counter.value)
            looks.append(counter.value)
            local_irq_enable()

        def poke() -> None:
            counter.value = 1

        machine.spawn(work, cpu=0)
        machine.post_irq(0, poke)
        return lambda: seen.add(tuple(looks))

    dpor = Dpor()
    run_all(dpor, program)
    assert dpor.exhaustive and seen == {(0, 0, 0), (0, 1, 1), (1, 1, 1)}


def test_time_that_never_ends_is_not_exhaustive() -> None:
    """Beside a daemon with a periodic timer time may run ahead without end: the result says so."""

    def program(machine: Machine) -> None:
        counter = Counter()

        def flusher() -> None:
            while True:
                msleep(1)
                counter.value = 0

        def work() -> None:
            counter.value = 1

        machine.spawn(flusher, daemon=True)
        machine.spawn(work)

    dpor = Dpor()
    run_all(dpor, program)
    assert not dpor.exhaustive and str(EARLY) in str(dpor)
    found = search(FunctionProgram(program), strategy="dpor")
    assert not found.complete and "; not complete: in one run time may pass early" in str(found)


def test_a_search_says_that_it_is_exhaustive() -> None:
    """``--strategy dpor`` reports each failure, and how much was run."""
    found = search(FunctionProgram(dining), strategy="dpor")
    assert "every class of interleavings was run" in found.complete
    assert found.complete.endswith("7 classes in 7 executions")
    assert {f.violation.rule for f in found.failures} == {"lockdep.circular", "wait.deadlock"}
    assert all(f.token for f in found.failures)
