"""Small worlds whose traces must be the same everywhere: on every Python, in every process.

``python -m tests.sim.golden`` prints their digests, ``--write`` makes them the committed ones
(golden.json).  Write them again only when a change of the engine is meant to change traces.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_barrier, rcu_read, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.choice import Strategy
from vfsim.sim.cpu import local_irq_disable, local_irq_enable, preempt_disable, preempt_enable
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import cond_resched, msleep, schedule_timeout, yield_
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K
from vfsim.sim.task import Task
from vfsim.sim.trace import Trace

COMMITTED = Path(__file__).with_name("golden.json")


class Dice:
    """A strategy with random numbers of its own, so that nobody else's change its traces.

    Args:
        seed: 0 is the quiet schedule: always the default.
        gap: it looks at every ``gap``-th point only.
    """

    def __init__(self, seed: int, gap: int = 1) -> None:
        self.state = seed
        self.gap = gap

    def start(self, machine: Machine) -> None:
        """Nothing to prepare."""

    def roll(self, n: int) -> int:
        """A number below ``n``: a linear congruence, its upper bits."""
        if not self.state:
            return 0
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) * n >> 31

    def decide(self, ready: list[Task], current: Task | None) -> int:
        """Anybody."""
        return self.roll(len(ready))

    def choose(self, kind: str, n: int) -> int:
        """Any number."""
        return self.roll(n)


@kernel_struct
class Account:
    """Shared fields."""

    money: Annotated[int, shared] = 0
    owner: Annotated[str, shared] = "nobody"


def sleeping_locks(machine: Machine) -> None:
    """Mutex, rwsem and page lock under contention."""
    mutex, sem, page = Mutex("mutex"), RwSem("sem"), SleepBit("page")

    def body() -> None:
        for i in range(2):
            with sem.shared():
                with mutex:
                    cond_resched()
            with sem:
                page.lock()
                sem.downgrade_write()
                sem.up_read()
                sem.down_write()
                page.unlock()
            if mutex.trylock():
                yield_()
                mutex.unlock()
            msleep(i)

    for name in "abc":
        machine.spawn(body, name=name)


def spinning_locks(machine: Machine) -> None:
    """Spinlock, bit lock, seqlock and lockref, on two CPUs."""
    spin, bit, seq, ref = SpinLock("spin"), BitLock("bit"), SeqLock("seq"), LockRef("ref")

    def body() -> None:
        for _ in range(2):
            with spin:
                with bit:
                    pass
            with seq:
                ref.get()
            while True:
                n = seq.read_begin()
                if not seq.read_retry(n):
                    break
            if not ref.put_or_lock():
                ref.lock.unlock()

    for i in range(4):
        machine.spawn(body, cpu=i % 2)


def interrupts(machine: Machine) -> None:
    """Hardirqs, softirqs and timers against a lock with interrupts off."""
    lock, done = SpinLock("irq lock"), Completion("done")

    def hard() -> None:
        with lock:
            machine.raise_softirq(soft)
        done.complete()

    def soft() -> None:
        flags = lock.lock_irqsave()
        cond_irq()
        lock.unlock_irqrestore(flags)

    def cond_irq() -> None:
        K.left -= 1
        if not K.left:
            K.machine.point("inside", lock)

    def body() -> None:
        for cpu in range(2):
            machine.post_irq(cpu, hard, name="disk")
            lock.lock_irq()
            cond_irq()
            lock.unlock_irq()
            local_irq_disable()
            local_irq_enable()
            preempt_disable()
            preempt_enable()
            done.wait()
        machine.timer(500, soft)
        machine.env.timeout(300).callbacks.append(lambda event: machine.post_irq(1, hard))
        schedule_timeout(1000)

    for i in range(3):
        machine.spawn(body, cpu=i % 2)


def rcu(machine: Machine) -> None:
    """Readers, callbacks, grace periods and a barrier."""
    table = Account(1)

    def reader() -> None:
        for _ in range(2):
            with rcu_read():
                assert table.money
                with rcu_read():
                    assert table.owner

    def updater() -> None:
        table.owner = K.cur.name
        call_rcu(setattr, table, "money", 2)
        synchronize_rcu()
        rcu_barrier()

    for body in (reader, updater, reader, updater):
        machine.spawn(body)


def lost_update(machine: Machine) -> None:
    """Shared fields without a lock."""
    account = Account()

    def body() -> None:
        for _ in range(3):
            account.money += 1

    for _ in range(3):
        machine.spawn(body)


def deadlock(machine: Machine) -> None:
    """Two tasks that wait for each other, in some schedules."""
    a, b = Mutex("a"), Mutex("b")

    def body(first: Mutex, second: Mutex) -> None:
        for _ in range(2):
            with first:
                with second:
                    pass

    machine.spawn(body, a, b, name="ab")
    machine.spawn(body, b, a, name="ba")


def families(machine: Machine) -> None:
    """Tasks that start tasks, and choices."""

    def body(depth: int) -> None:
        cond_resched()
        for _ in range(1 + machine.choose("children", 2)):
            if depth:
                machine.spawn(body, depth - 1)
        yield_()

    machine.spawn(body, 3)


def waiting(machine: Machine) -> None:
    """Wait queues with exclusive waiters and timeouts, and a daemon."""
    queue, idle = WaitQueue("queue"), WaitQueue("idle")
    free = [0]

    def daemon() -> None:
        while True:
            idle.wait_event(lambda: free[0] > 2, idle=True)
            free[0] -= 1
            msleep(1)

    def taker() -> None:
        if queue.wait_event_timeout(lambda: free[0] > 0, 3_000_000):
            free[0] -= 1

    def giver() -> None:
        for _ in range(4):
            free[0] += 1
            queue.wake_up()
            idle.wake_up_all()
            msleep(1)

    machine.spawn(daemon, daemon=True)
    for _ in range(3):
        machine.spawn(taker)
    machine.spawn(giver)


WORLDS: list[Callable[[Machine], None]] = [
    sleeping_locks,
    spinning_locks,
    interrupts,
    rcu,
    lost_update,
    deadlock,
    families,
    waiting,
]
SEEDS = (0, 1, 2, 3)


def run(
    setup: Callable[[Machine], None], strategy: Strategy, trace: Trace | None = None
) -> Machine:
    """Run a world to its end and bury it."""
    machine = Machine(cpus=3, strategy=strategy, trace=trace)
    try:
        setup(machine)
        machine.run()
    finally:
        machine.bury()
    return machine


def digests() -> dict[str, str]:
    """The digest of every world under every seed."""
    found = {}
    for setup in WORLDS:
        for seed in SEEDS:
            trace = Trace(stacks=False)
            machine = run(setup, Dice(seed), trace)
            bugs = "".join(f" {v.rule}" for v in machine.violations)
            found[f"{setup.__name__} {seed}"] = (
                f"{trace.digest()[:20]} {len(trace.events)} events at {machine.now} ns{bugs}"
            )
    return found


def main(arguments: list[str]) -> Any:
    """Print the digests, or commit them."""
    text = json.dumps(digests(), indent=1) + "\n"
    if arguments == ["--write"]:
        COMMITTED.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
