"""Where a task is, in Linux's words, and work on other CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.helpers import Notes, hangs, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import (
    in_hardirq,
    in_serving_softirq,
    in_softirq,
    in_task,
    irqs_disabled,
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
    preempt_count,
    preempt_disable,
    preempt_enable,
    preemptible,
)
from vfsim.sim.smp import (
    on_each_cpu,
    smp_call_function_many,
    smp_call_function_single,
    smp_processor_id,
)
from vfsim.sim.state import K


def test_the_parts_of_the_preempt_count() -> None:
    """Preemption, softirqs off, softirq and hardirq have their own bits, and they add up."""

    def body() -> None:
        assert (preempt_count(), preemptible(), in_task()) == (0, True, True)
        preempt_disable()
        preempt_disable()
        local_bh_disable()
        assert (hex(preempt_count()), preemptible(), in_softirq()) == ("0x202", False, True)
        with SpinLock("lock"):
            assert hex(preempt_count()) == "0x203"
        local_bh_enable()
        preempt_enable()
        preempt_enable()
        local_irq_disable()
        assert (preempt_count(), preemptible(), irqs_disabled()) == (0, False, True)
        local_irq_enable()
        lock = SpinLock("lock")
        lock.lock_bh()
        assert hex(preempt_count()) == "0x201"
        lock.unlock_bh()
        assert preempt_count() == 0

    run(body)


def test_the_context_of_handlers() -> None:
    """A hardirq and a softirq know what they are, and are no tasks."""
    seen: list[tuple[str, bool, bool, bool]] = []

    def look() -> None:
        seen.append((hex(preempt_count()), in_hardirq(), in_serving_softirq(), in_task()))

    def body() -> None:
        K.machine.post_irq(0, look)
        step()
        K.machine.raise_softirq(look)
        assert in_task() and not in_softirq()

    run(body)
    assert sorted(seen) == [("0x100", False, True, False), ("0x10000", True, False, False)]


def test_a_softirq_runs_on_the_cpu_that_raised_it() -> None:
    """Also if it is raised by a hardirq there."""
    where: list[int] = []

    def body() -> None:
        K.machine.raise_softirq(lambda: where.append(smp_processor_id()))
        K.machine.post_irq(2, K.machine.raise_softirq, lambda: where.append(smp_processor_id()))

    with world() as machine:
        machine.spawn(body, cpu=1)
        machine.run()
    assert sorted(where) == [1, 2]


def test_states_must_come_back_as_they_were() -> None:
    """Restoring the wrong flags, or enabling inside a disabled region, is told."""

    def restore(wrong: bool) -> Callable[[], None]:
        def body() -> None:
            outer = local_irq_save()
            inner = local_irq_save()
            local_irq_restore(outer if wrong else inner)
            local_irq_restore(outer)
            assert not irqs_disabled()

        return body

    def enable() -> None:
        local_irq_disable()
        local_irq_disable()
        local_irq_enable()
        assert irqs_disabled()
        local_irq_enable()

    for body, expected in (
        (restore(False), []),
        (restore(True), ["lockdep.irq-unbalanced"]),
        (enable, ["lockdep.irq-unbalanced"]),
    ):
        with world(judge=KernelJudge()) as machine:
            machine.spawn(body)
            machine.run()
            assert [v.rule for v in machine.violations] == expected


def test_a_call_runs_where_it_was_sent() -> None:
    """``smp_call_function_single`` runs on its CPU in hardirq context and is waited for."""
    seen: list[tuple[int, bool, bool]] = []

    def body() -> None:
        for cpu in (1, 0, 3):
            smp_call_function_single(
                cpu, lambda: seen.append((smp_processor_id(), irqs_disabled(), in_hardirq()))
            )
            assert seen[-1][0] == cpu
        with pytest.raises(ValueError, match="CPUs 0 to 3"):
            smp_call_function_single(4, step)

    for seed in seeds(20):
        seen.clear()
        with world(seed, judge=KernelJudge()) as machine:
            machine.spawn(body, cpu=0)
            machine.run()
            assert machine.violations == []
        assert seen == [(1, True, True), (0, True, False), (3, True, True)]


def test_a_call_on_each_cpu() -> None:
    """It runs once on every CPU before it returns; without ``wait`` it may run later."""
    for seed in seeds(40):
        where: list[int] = []

        def body(where: list[int] = where) -> None:
            on_each_cpu(lambda: where.append(smp_processor_id()))
            assert sorted(where) == [0, 1, 2, 3]
            smp_call_function_many([0, 1, 2], lambda: where.append(9), wait=False)

        run(body, step, seed=seed)
        assert where.count(9) == 2


def test_per_cpu_data_needs_no_lock() -> None:
    """A counter that only its own CPU changes, with interrupts off, loses nothing."""
    for seed in seeds(40):
        counts = [0, 0]

        def add(counts: list[int] = counts) -> None:
            cpu = smp_processor_id()
            seen = counts[cpu]
            step(counts)
            counts[cpu] = seen + 1

        def body(add: Any = add) -> None:
            for _ in range(3):
                flags = local_irq_save()
                add()
                local_irq_restore(flags)

        def sender(add: Any = add) -> None:
            smp_call_function_single(0, add)
            smp_call_function_single(1, add)

        with world(seed, cpus=2) as machine:
            machine.spawn(body, cpu=0)
            machine.spawn(body, cpu=1)
            machine.spawn(sender, cpu=1)
            machine.run()
        assert counts == [4, 4]


def test_calls_with_interrupts_off_would_wait_for_each_other() -> None:
    """Waiting for another CPU with interrupts off is told at once, and hangs if both do it."""
    notes = Notes()

    def body() -> None:
        local_irq_disable()
        smp_call_function_single(1 - smp_processor_id(), step)
        local_irq_enable()

    run(body, judge=notes, cpus=2)
    assert notes.seen == ["corrupt"]
    assert any(hangs(body, body, seed=seed, cpus=2) for seed in seeds(20))


TRIES = [
    (SpinLock.trylock_irq, SpinLock.unlock_irq, "irqs_off"),
    (SpinLock.trylock_bh, SpinLock.unlock_bh, "bh_off"),
    (
        lambda lock: lock.trylock_irqsave() is not None,
        lambda lock: lock.unlock_irqrestore(False),
        "irqs_off",
    ),
]


@pytest.mark.parametrize(("attempt", "drop", "state"), TRIES, ids=["irq", "bh", "irqsave"])
def test_trylocks_that_turn_something_off(attempt: Any, drop: Any, state: str) -> None:
    """They do so only if they get the lock."""
    lock = SpinLock("lock")

    def body() -> None:
        assert attempt(lock)
        assert getattr(K.cur.ctx, state)
        K.machine.spawn(other)
        step()
        drop(lock)
        assert not getattr(K.cur.ctx, state)

    def other() -> None:
        if not attempt(lock):
            assert not getattr(K.cur.ctx, state)
        else:
            drop(lock)

    for seed in seeds(10):
        run(body, seed=seed, judge=KernelJudge())


SEQ_FORMS = [
    (SeqLock.write_lock_irq, SeqLock.write_unlock_irq, "irqs_off", 1),
    (SeqLock.write_lock_bh, SeqLock.write_unlock_bh, "bh_off", 1),
    (SeqLock.write_lock_irqsave, SeqLock.write_unlock_irqrestore, "irqs_off", 1),
    (SeqLock.lock_excl_irq, SeqLock.unlock_excl_irq, "irqs_off", 0),
    (SeqLock.lock_excl_bh, SeqLock.unlock_excl_bh, "bh_off", 0),
    (SeqLock.lock_excl_irqsave, SeqLock.unlock_excl_irqrestore, "irqs_off", 0),
]


@pytest.mark.parametrize(("take", "drop", "state", "odd"), SEQ_FORMS)
def test_forms_of_the_sequence_lock(take: Any, drop: Any, state: str, odd: int) -> None:
    """The write forms make readers retry, the exclusive readers do not; each restores its state."""
    lock = SeqLock("lock")

    def body() -> None:
        flags = take(lock)
        assert getattr(K.cur.ctx, state)
        assert lock.sequence & 1 == odd
        drop(lock) if flags is None else drop(lock, flags)
        assert not getattr(K.cur.ctx, state)
        assert not lock.is_locked() and not lock.sequence & 1

    run(body, judge=KernelJudge())
