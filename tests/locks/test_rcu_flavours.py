"""The flavours rcu_bh and rcu_sched: who is a reader, and when a section ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.helpers import Alternate, run, seeds, step
from vfsim.checks.judge import KernelJudge
from vfsim.locks.rcu import rcu_read, synchronize_rcu
from vfsim.locks.rcu_flavours import (
    call_rcu_bh,
    call_rcu_sched,
    rcu_barrier_bh,
    rcu_barrier_sched,
    rcu_read_lock_bh,
    rcu_read_lock_sched,
    rcu_read_unlock_bh,
    rcu_read_unlock_sched,
    synchronize_rcu_bh,
    synchronize_sched,
)
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import (
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    preempt_disable,
    preempt_enable,
)
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K


def _order(enter: Callable[[], Any], leave: Callable[[], Any], wait: Callable[[], Any]) -> str:
    """Who is done first: a reader that is inside when the wait begins, or the wait."""
    order: list[str] = []

    def reader() -> None:
        enter()
        for _ in range(4):
            step()
        order.append("reader")
        leave()
        yield_()

    def updater() -> None:
        wait()
        order.append("updater")

    run(reader, updater, strategy=Alternate(), judge=KernelJudge())
    return order[0]


SECTIONS = {
    "bh": (rcu_read_lock_bh, rcu_read_unlock_bh),
    "sched": (rcu_read_lock_sched, rcu_read_unlock_sched),
    "softirqs off": (local_bh_disable, local_bh_enable),
    "preemption off": (preempt_disable, preempt_enable),
    "interrupts off": (local_irq_disable, local_irq_enable),
}
WAITS_FOR = [
    ("rcu_bh", synchronize_rcu_bh, {"bh", "softirqs off"}),
    ("rcu_sched", synchronize_sched, set(SECTIONS)),
    ("rcu", synchronize_rcu, set()),
]


@pytest.mark.parametrize(("flavour", "wait", "readers"), WAITS_FOR, ids=[w[0] for w in WAITS_FOR])
@pytest.mark.parametrize("section", SECTIONS)
def test_who_is_waited_for(flavour: str, wait: Any, readers: set[str], section: str) -> None:
    """Each flavour waits for its own readers and for no others."""
    first = _order(*SECTIONS[section], wait)
    assert first == ("reader" if section in readers else "updater")


def test_a_plain_section_is_none_of_theirs() -> None:
    """``rcu_read_lock`` holds up neither flavour."""
    for wait in (synchronize_rcu_bh, synchronize_sched):
        section = rcu_read()
        assert _order(section.__enter__, lambda s=section: s.__exit__(), wait) == "updater"


def test_a_spinlock_is_a_section_of_sched() -> None:
    """It ends for the grace period when its task sleeps, yields or ends; never too early."""
    lock = SpinLock("lock")
    assert _order(lock.lock, lock.unlock, synchronize_sched) == "reader"


def test_a_handler_is_a_section() -> None:
    """Both flavours wait for an interrupt handler that runs, as a whole."""
    for wait in (synchronize_rcu_bh, synchronize_sched):
        for seed in seeds(60):
            order: list[str] = []

            def handler(order: list[str] = order) -> None:
                order.append("begin")
                step()
                step()
                order.append("end")

            def updater(order: list[str] = order, wait: Any = wait, handler: Any = handler) -> None:
                K.machine.post_irq(2, handler)
                step()
                began = "begin" in order
                wait()
                order.append("over" if began else "over, unseen")

            run(updater, seed=seed)
            assert order[-1] != "over" or order.index("end") < order.index("over")


@pytest.mark.parametrize(
    ("lock", "unlock", "call", "barrier"),
    [
        (rcu_read_lock_bh, rcu_read_unlock_bh, call_rcu_bh, rcu_barrier_bh),
        (rcu_read_lock_sched, rcu_read_unlock_sched, call_rcu_sched, rcu_barrier_sched),
    ],
    ids=["bh", "sched"],
)
def test_callbacks_run_after_the_readers(lock: Any, unlock: Any, call: Any, barrier: Any) -> None:
    """A callback never runs under a reader of its flavour, and the barrier waits for it."""
    for seed in seeds(80):
        table = [{"freed": False}]

        def reader(table: list[dict[str, bool]] = table) -> None:
            lock()
            thing = table[0]
            step(table)
            assert not thing["freed"]
            unlock()

        def updater(table: list[dict[str, bool]] = table) -> None:
            old, table[0] = table[0], {"freed": False}
            call(old.update, {"freed": True})
            barrier()
            assert old["freed"]

        run(reader, reader, updater, seed=seed, judge=KernelJudge())
