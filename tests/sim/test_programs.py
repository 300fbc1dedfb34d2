"""Random programs that are right: whatever the schedule, they end, and everything comes back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.sim.helpers import Notes, step
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.explore.strategies.replay import Replay
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_barrier, rcu_read, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.choice import RoundRobin, Strategy
from vfsim.sim.cpu import local_bh_disable, local_bh_enable, preempt_disable, preempt_enable
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import cond_resched, schedule_timeout, yield_
from vfsim.sim.state import K
from vfsim.sim.trace import Trace


class Program:
    """A world of tasks that take sleeping locks, then spinning ones, always in one order.

    Args:
        seed: decides the whole program; the schedule is the strategy's business.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random
        self.cpus = 1 + self.below(3)
        self.sleeping = [Mutex("m0"), RwSem("m1"), SleepBit("m2"), Mutex("m3", tried=True)]
        self.spinning = [SpinLock("s0"), BitLock("s1"), SeqLock("s2"), SpinLock("s3", tried=True)]
        self.irq = SpinLock("irq")
        self.ref = LockRef("ref", 10)
        self.inside: dict[Any, str] = {}
        self.scripts = [self.script(2 + self.below(4)) for _ in range(2 + self.below(4))]

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def script(self, length: int) -> list[tuple[str, int, int]]:
        """What one task does: (what, from which lock, to which)."""
        kinds = ("locks", "locks", "rcu", "sleep", "irq", "free", "spawn", "bits", "try", "ref")
        found = []
        for _ in range(length):
            first = self.below(4)
            found.append((kinds[self.below(len(kinds))], first, first + self.below(4 - first)))
        return found

    def guarded(self, lock: Any) -> None:
        """Nobody else is where ``lock`` is held."""
        assert lock not in self.inside, f"{K.cur} meets {self.inside[lock]} in {lock}"
        self.inside[lock] = K.cur.name
        step(lock)
        assert self.inside.pop(lock) == K.cur.name

    def locks(self, first: int, last: int) -> None:
        chosen = [*self.sleeping[first : last + 1], *self.spinning[first : last + 1]]
        for lock in chosen:
            lock.lock()
        for lock in chosen:
            self.guarded(lock)
        for lock in chosen[::2] + chosen[1::2]:  # not the order they were taken in
            lock.unlock()

    def interrupt(self, cpu: int) -> None:
        """A handler: takes the irq lock, and raises a softirq."""
        with self.irq:
            self.guarded(self.irq)
        K.machine.raise_softirq(self.softirq)
        with rcu_read():
            step()

    def softirq(self) -> None:
        flags = self.irq.lock_irqsave()
        self.guarded(self.irq)
        self.irq.unlock_irqrestore(flags)

    def perform(self, script: list[tuple[str, int, int]]) -> None:
        machine = K.machine
        for what, first, last in script:
            if what == "locks":
                self.locks(first, last)
            elif what == "rcu":
                with rcu_read():
                    step()
                    call_rcu(step)
                (synchronize_rcu, rcu_barrier)[first % 2]()
            elif what == "sleep":
                schedule_timeout(1 + first)
                machine.timer(last, self.softirq)
                yield_()
            elif what == "irq":
                machine.post_irq(first, self.interrupt, last)
                self.irq.lock_irq()
                self.guarded(self.irq)
                self.irq.unlock_irq()
            elif what == "free":
                local_bh_disable()
                preempt_disable()
                step()
                preempt_enable()
                local_bh_enable()
                cond_resched()
            elif what == "spawn":
                machine.spawn(self.locks, first, last)
            elif what == "bits":
                bit = self.sleeping[2]
                bit.lock()
                bit.disown()
                machine.timer(1 + first, bit.unlock)
                bit.wait()
            elif what == "try":
                if self.spinning[3].trylock():
                    self.guarded(self.spinning[3])
                    self.spinning[3].unlock()
            elif not self.ref.put_or_lock():
                raise AssertionError("the count is wrong")
            else:
                self.ref.get()

    def run(self, strategy: Strategy, trace: Trace | None = None) -> Machine:
        """One world, which must come to a clean end."""
        notes = Notes()
        machine = Machine(self.cpus, strategy, notes, trace)
        try:
            for i, script in enumerate(self.scripts):
                machine.spawn(self.perform, script, name=f"t{i}")
            machine.run()
            assert machine.violations == []
            assert notes.seen == []
            assert self.inside == {}
            assert self.ref.count == 10
            locks = [*self.sleeping, *self.spinning, self.irq, self.ref]
            assert not any(lock.is_locked() for lock in locks)
            assert not any(lock.statistics()["waiting"] for lock in locks)
            counters = machine.sharing, machine.holding, machine.irqs, machine.placed
            assert counters == (0, 0, 0, 0)
            assert all(cpu.curr is None and not cpu.tasks for cpu in machine.cpus)
            assert machine.rq == []
        finally:
            machine.bury()
        return machine


def strategies(seed: int) -> list[Strategy]:
    """One of each kind."""
    return [RoundRobin(), RandomWalk(seed), POS(seed), PCT(seed, 60)]


def _check(seeds: range) -> None:
    for seed in seeds:
        program = Program(seed)
        for strategy in strategies(seed):
            first = program.run(strategy)
            replay = Replay(first.deviations)
            again = program.run(replay, Trace(stacks=False) if seed % 3 == 0 else None)
            assert replay.finish() == ""
            assert again.deviations == first.deviations
            assert (again.steps, again.now) == (first.steps, first.now)


def test_right_programs_end() -> None:
    """No hang, no false alarm, exclusion kept, every counter back at zero, every run replayable."""
    _check(range(250))


@pytest.mark.soak
def test_many_right_programs_end() -> None:
    """The same over many more programs."""
    _check(range(250, 20_000))
