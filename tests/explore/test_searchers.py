"""Searchers: what URW counts, what delay bounding and the sweep leave out (nothing), who is whose
turn in the portfolio.
"""

from __future__ import annotations

from collections import Counter as Multiset

import pytest
from programs import Counter, busy, dining, locked_update, lost_update

from vfsim.explore.execute import execute
from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.explore.searcher import LEARNING
from vfsim.explore.strategies.auto import TURNS, Auto
from vfsim.explore.strategies.delay import DelayBound, RandomDelays, cost
from vfsim.explore.strategies.irq_sweep import IrqSweep
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.explore.strategies.urw import URW, Uniform, parent, with_children
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.machine import Machine
from vfsim.sim.state import K


def family(machine: Machine) -> None:
    """A task that starts two children, each of which passes five points."""
    counter = Counter()

    def child() -> None:
        for _ in range(5):
            counter.value = 1

    def mother() -> None:
        for _ in range(2):
            K.machine.spawn(child)
            counter.value = 0

    machine.spawn(mother)


def learned(program: FunctionProgram) -> Uniform:
    """URW's searcher after its counting runs."""
    searcher = Uniform(0)
    for index in range(LEARNING):
        strategy = searcher.strategy(index)
        assert strategy is not None
        searcher.learn(index, execute(program, strategy))
    return searcher


class TestURW:
    """Interleavings with equal probability."""

    def test_it_counts_operations_and_credits_the_parent(self) -> None:
        """A task starts and passes its points; what its children do is the mother's until then."""
        totals = learned(FunctionProgram(family)).totals
        assert totals["1.1"] == totals["1.2"] == 6
        assert totals["1"] == 3 + 12

    def test_who_is_credited(self) -> None:
        """The nearest ancestor that was seen, or the clock for an interrupt out of nowhere."""
        counts = {"1": 1, "1.2": 1, "clock": 3}
        assert parent("1.2", counts) == "1" and parent("1", counts) == ""
        assert parent("1.2.timer#1", counts) == "1.2" and parent("1.3.1", counts) == "1"
        assert parent("disk#4", counts) == "clock" and parent("clock", counts) == ""
        assert with_children({"1": 2, "1.1": 3, "1.1.1": 4, "clock": 1, "irq#1": 5}) == {
            "1": 9, "1.1": 7, "1.1.1": 4, "clock": 6, "irq#1": 5,
        }  # fmt: skip

    def test_interleavings_are_equally_likely(self) -> None:
        """One operation among nine comes at each place about as often; a walk has it early."""
        place: list[int] = []

        def uneven(machine: Machine) -> None:
            counter = Counter()
            done: list[str] = []

            def work(name: str, points: int) -> None:
                for _ in range(points):
                    counter.value = 1
                    done.append(name)
                if len(done) == 10:
                    place.append(done.index("short"))

            machine.spawn(work, "short", 1)
            machine.spawn(work, "long", 9)

        program = FunctionProgram(uneven)
        totals = learned(program).totals
        spread = {}
        for name, make in (("urw", lambda s: URW(s, totals)), ("walk", RandomWalk)):
            place.clear()
            for seed in range(1000):
                execute(program, make(seed))
            spread[name] = Multiset(place)
        assert min(spread["urw"][i] for i in range(10)) > 30
        assert max(spread["urw"].values()) < 250
        assert spread["walk"][9] < 20


class TestDelayBound:
    """All schedules with at most K delays."""

    @pytest.mark.parametrize("delays", [1, 2, 3])
    @pytest.mark.parametrize("program", [lost_update, locked_update, busy])
    def test_it_leaves_nothing_out(self, program: object, delays: int) -> None:
        """Every schedule within the bound is run, once; its complement of longer ones is not.

        Held against a plain recursion over all answers.
        """
        subject = FunctionProgram(program)  # type: ignore[arg-type]
        wanted: set[tuple[tuple[int, int], ...]] = set()

        class Follow(RandomWalk):
            def decide(self, ready: list, current: object) -> int:  # type: ignore[override,type-arg]
                clock = ready[-1].id == "clock"
                return self.ask(len(ready), lambda a: 1 if clock and a == len(ready) - 1 else a)

            def choose(self, kind: str, n: int) -> int:
                return self.ask(n, lambda a: min(a, 1))

            def ask(self, n: int, price: object) -> int:
                number = self.asked
                self.asked += 1
                if number < len(self.told):
                    return self.told[number]
                self.open.append((n, price))
                return 0

        def explore(told: list[int], left: int) -> None:
            follow = Follow(0)
            follow.told, follow.asked, follow.open = told, 0, []
            execute(subject, follow)
            wanted.add(tuple((i, a) for i, a in enumerate(told) if a))
            for ahead, (n, price) in enumerate(follow.open):
                for answer in range(1, n):
                    if price(answer) <= left:
                        explore([*told, *[0] * ahead, answer], left - price(answer))

        if program is busy and delays > 1:
            delays = 1  # the recursion is slow
        explore([], delays)
        searcher = DelayBound(delays)
        run: list[tuple[tuple[int, int], ...]] = []
        for index in range(100_000):
            strategy = searcher.strategy(index)
            if strategy is None:
                break
            run.append(tuple(sorted(strategy.answers.items())))  # type: ignore[attr-defined]
            searcher.learn(index, execute(subject, strategy))
        assert len(run) == len(set(run))
        assert set(run) == wanted

    def test_it_says_that_it_is_complete(self) -> None:
        """A search that ran everything within the bound says so, and one that was cut does not."""
        found = search(FunctionProgram(locked_update), strategy="delay:1", schedules=10_000)
        assert found.complete == "every schedule with at most 1 delay was run"
        assert str(found).endswith("complete: every schedule with at most 1 delay was run")
        assert not search(FunctionProgram(busy), strategy="delay", schedules=20).complete

    def test_a_lost_update_needs_one_delay(self) -> None:
        """The bug is found within one delay, and the deviations say which."""
        found = search(FunctionProgram(lost_update), strategy="delay:1")
        assert found.failures and found.run < 20

    def test_what_an_answer_costs(self) -> None:
        """The i-th in line costs i; the clock and other numbers cost one."""
        tasks, with_clock, number = (4 << 2, 4 << 2 | 2, 4 << 2 | 1)
        assert [cost(tasks, a) for a in range(4)] == [0, 1, 2, 3]
        assert [cost(with_clock, a) for a in range(4)] == [0, 1, 2, 1]
        assert [cost(number, a) for a in range(4)] == [0, 1, 1, 1]


def irq_unsafe(machine: Machine) -> None:
    """A lock that a timer takes, too, is taken with interrupts on, in a window of two points."""
    lock = SpinLock("irq unsafe")
    counter = Counter()

    def tick() -> None:
        lock.lock()
        lock.unlock()

    def work() -> None:
        for _ in range(20):
            counter.value = 1
        with lock:
            counter.value = 2
        for _ in range(20):
            counter.value = 3

    machine.timer(1000, tick)
    machine.spawn(work, cpu=0)


class TestIrqSweep:
    """One interrupt at each place."""

    def test_it_is_linear_and_complete(self) -> None:
        """As many schedules as places, and every one of them differs."""
        program = FunctionProgram(irq_unsafe)
        sweep = IrqSweep()
        undisturbed = sweep.strategy(0)
        assert undisturbed is not None
        sweep.learn(0, execute(program, undisturbed))
        schedules = []
        for index in range(1, 1000):
            strategy = sweep.strategy(index)
            if strategy is None:
                break
            schedules.append(tuple(execute(program, strategy).deviations))
        assert 40 <= len(schedules) == len(set(schedules)) <= 60
        assert sweep.claim.startswith(f"one interrupt or tick at each of {len(schedules)} places")

    def test_a_program_without_interrupts_has_one_schedule(self) -> None:
        """Where no time passes there is nothing to sweep, and the search says so."""
        found = search(FunctionProgram(lost_update), strategy="irq_sweep")
        assert found.run == 1 and "each of 0 places" in found.complete


class TestAuto:
    """The portfolio."""

    def test_everybody_has_a_turn(self) -> None:
        """After the counting runs the number alone decides whose turn it is."""
        auto = Auto(0)
        for index in range(LEARNING):
            strategy = auto.strategy(index)
            assert strategy is not None
            auto.learn(index, execute(FunctionProgram(busy), strategy))
        kinds = Multiset(type(auto.strategy(i)) for i in range(100, 200))
        assert kinds == {POS: 40, PCT: 20, URW: 20, RandomWalk: 10, RandomDelays: 10}
        assert len(TURNS) == 10

    def test_jobs_do_not_change_it(self) -> None:
        """One process or three: the same schedules in the same order."""
        one, three = (
            search(FunctionProgram(busy), schedules=200, strategy="auto", jobs=jobs)
            for jobs in (1, 3)
        )
        assert one == three


def test_dpor_is_a_searcher() -> None:
    """``dpor`` runs every class of a small program once and says that nothing is left."""
    found = search(FunctionProgram(dining), strategy="dpor")
    assert found.complete == "every class of interleavings was run, 7 classes in 7 executions"
    assert len(found.coverage.classes) == 7 and found.failures and found.run < 50


def test_pct_draws_its_depth() -> None:
    """Without a depth each schedule has its own, from 2 to 5."""
    depths = set()
    for seed in range(50):
        pct = PCT(seed, 1000)
        execute(FunctionProgram(lost_update), pct)
        pct.start(Machine())
        depths.add(1 + len(pct.changes))
    assert depths == {2, 3, 4, 5}


@pytest.mark.parametrize("strategy", ["urw", "auto", "delay", "irq_sweep"])
def test_searching_twice_is_the_same(strategy: str) -> None:
    """The same seed gives the same search, whatever the searcher learned meanwhile."""
    for program in (busy, lost_update):
        one, two = (
            search(FunctionProgram(program), schedules=100, strategy=strategy, seed=5)
            for _ in range(2)
        )
        assert one == two
