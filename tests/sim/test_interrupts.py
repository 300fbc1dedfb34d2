"""Interrupts: pending until they may be delivered, then on top of whoever has the CPU."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.helpers import Alternate, hangs, run, seeds, step, world
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import (
    in_atomic,
    in_interrupt,
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
    preempt_disable,
    preempt_enable,
)
from vfsim.sim.scheduler import msleep, schedule_timeout, yield_
from vfsim.sim.state import K


class Log:
    """Notes in which order things happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, what: str) -> None:
        self.events.append(what)

    @property
    def text(self) -> str:
        return " ".join(self.events)


def steps(count: int = 4) -> None:
    """Several chances to be interrupted."""
    for _ in range(count):
        step()


def test_a_handler_runs_on_top_of_the_task() -> None:
    """Once it has begun, the task below waits for its end, and others do not."""
    log = Log()

    def handler() -> None:
        assert in_interrupt()
        assert in_atomic()
        log("irq{")
        steps()
        log("}")

    def below() -> None:
        K.machine.post_irq(0, handler)
        for _ in range(6):
            step()
            log("below")

    def elsewhere() -> None:
        for _ in range(6):
            step()
            log("elsewhere")

    for seed in seeds(80):
        log.events.clear()
        with world(seed, cpus=2) as machine:
            machine.spawn(below, cpu=0)
            machine.spawn(elsewhere, cpu=1)
            machine.run()
            assert machine.violations == []
        inside = log.text.split("irq{")[1].split("}")[0]
        assert "below" not in inside
    assert any(_elsewhere_inside(seed) for seed in seeds(80))


def _elsewhere_inside(seed: int) -> bool:
    """Whether in that schedule another CPU ran on while the handler did."""
    log = Log()

    def handler() -> None:
        log("irq{")
        steps()
        log("}")

    def below() -> None:
        K.machine.post_irq(0, handler)
        steps()

    def elsewhere() -> None:
        for _ in range(6):
            step()
            log("elsewhere")

    with world(seed, cpus=2) as machine:
        machine.spawn(below, cpu=0)
        machine.spawn(elsewhere, cpu=1)
        machine.run()
    return "elsewhere" in log.text.split("irq{")[1].split("}")[0]


@pytest.mark.parametrize(
    ("off", "on", "hard", "soft"),
    [
        (local_irq_disable, local_irq_enable, False, False),
        (local_bh_disable, local_bh_enable, True, False),
        (preempt_disable, preempt_enable, True, True),
    ],
)
def test_delivery_waits_until_it_is_on(off: Any, on: Any, hard: bool, soft: bool) -> None:
    """Interrupts off holds back both kinds, softirqs off one, preemption off none."""
    seen: dict[str, set[bool]] = {"hard": set(), "soft": set()}

    def body() -> None:
        state = {"off": False}
        off()
        state["off"] = True
        K.machine.post_irq(0, lambda: seen["hard"].add(state["off"]))
        K.machine.raise_softirq(lambda: seen["soft"].add(state["off"]))
        steps()
        state["off"] = False
        on()
        steps()

    for seed in seeds(100):
        run(body, seed=seed, cpus=1)
    assert (True in seen["hard"]) is hard
    assert (True in seen["soft"]) is soft
    assert False in seen["hard"]


def test_an_interrupt_for_another_cpu_is_not_held_back() -> None:
    """Turning interrupts off concerns one CPU."""
    seen: set[bool] = set()

    def body() -> None:
        state = {"off": True}
        local_irq_disable()
        K.machine.post_irq(1, lambda: seen.add(state["off"]))
        steps()
        state["off"] = False
        local_irq_enable()

    for seed in seeds(40):
        run(body, seed=seed, cpus=2)
    assert True in seen


def test_cpu_mates_are_held_back() -> None:
    """Who turns preemption off is not left for a task of the same CPU, but for one of another."""

    def together(cpu: int, seed: int) -> bool:
        met: list[bool] = []
        state = {"off": False}

        def holder() -> None:
            preempt_disable()
            state["off"] = True
            steps()
            state["off"] = False
            preempt_enable()
            steps()

        def mate() -> None:
            for _ in range(6):
                step()
                met.append(state["off"])

        with world(seed, cpus=2) as machine:
            machine.spawn(holder, cpu=0)
            machine.spawn(mate, cpu=cpu)
            machine.run()
            assert machine.violations == []
        return any(met)

    assert not any(together(0, seed) for seed in seeds(60))
    assert any(together(1, seed) for seed in seeds(60))


def test_softirqs_and_hardirqs_nest() -> None:
    """A hardirq may interrupt a softirq; no softirq interrupts anything of its CPU."""
    depth: list[str] = []
    stacks: set[str] = set()

    def hard() -> None:
        depth.append("hard")
        stacks.add(">".join(depth))
        K.machine.raise_softirq(soft)
        steps(2)
        depth.pop()

    def soft() -> None:
        depth.append("soft")
        stacks.add(">".join(depth))
        steps(2)
        depth.pop()

    def body() -> None:
        for _ in range(2):
            K.machine.raise_softirq(soft)
            K.machine.post_irq(0, hard)
            steps(3)

    for seed in seeds(150):
        run(body, seed=seed, cpus=1)
        assert depth == []
    assert stacks == {"hard", "soft", "soft>hard"}


def test_an_interrupt_arrives_while_the_task_sleeps() -> None:
    """A CPU whose task sleeps takes interrupts; the task is not mixed up with the handler."""
    log = Log()

    def body() -> None:
        K.machine.timer(10, log, "soft")
        K.machine.env.timeout(20).callbacks.append(lambda e: K.machine.post_irq(0, log, "hard"))
        schedule_timeout(30)
        log("task")
        assert not in_interrupt()

    with world(cpus=1) as machine:
        machine.spawn(body)
        machine.run()
    assert log.text == "soft hard task"


def test_a_handler_spins_while_its_task_is_woken_elsewhere() -> None:
    """A handler that waits for a lock of another CPU keeps its own CPU until it has it."""
    for seed in seeds(60):
        lock = SpinLock("lock")
        log = Log()

        def handler(lock: SpinLock = lock, log: Log = log) -> None:
            with lock:
                log("irq")

        def other(lock: SpinLock = lock) -> None:
            flags = lock.lock_irqsave()
            steps()
            lock.unlock_irqrestore(flags)

        def below(handler: Any = handler, log: Log = log) -> None:
            K.machine.post_irq(0, handler)
            steps()
            msleep(1)
            log("task")

        with world(seed, cpus=2) as machine:
            machine.spawn(below, cpu=0)
            machine.spawn(other, cpu=1)
            machine.run()
            assert machine.violations == []
        assert sorted(log.events) == ["irq", "task"]


def test_a_lock_shared_with_a_handler_needs_interrupts_off() -> None:
    """The plain form deadlocks against the handler on its own CPU; the irq form never does."""

    def world_hangs(seed: int, irq: bool) -> bool:
        lock = SpinLock("lock")

        def handler() -> None:
            with lock:
                pass

        def body() -> None:
            K.machine.post_irq(0, handler)
            if irq:
                lock.lock_irq()
            else:
                lock.lock()
            steps()
            if irq:
                lock.unlock_irq()
            else:
                lock.unlock()

        return hangs(body, seed=seed, cpus=1)

    assert any(world_hangs(seed, False) for seed in seeds(30))
    assert not any(world_hangs(seed, True) for seed in seeds(60))


def test_irqsave_nests() -> None:
    """Interrupts come back on with the outermost restore only."""

    def body() -> None:
        outer = local_irq_save()
        inner = local_irq_save()
        assert (outer, inner) == (False, True)
        local_irq_restore(inner)
        assert K.cur.ctx.irqs_off
        local_irq_restore(outer)
        assert not K.cur.ctx.irqs_off
        with pytest.raises(TypeError, match="local_irq_save"):
            local_irq_restore(None)  # type: ignore[arg-type]
        lock = SpinLock("lock")
        with pytest.raises(TypeError, match="lock_irqsave"):
            lock.unlock_irqrestore(None)  # type: ignore[arg-type]

    run(body)


def test_a_restored_spinlock_leaves_interrupts_as_they_were() -> None:
    """``lock_irqsave`` inside a region with interrupts off does not turn them on."""
    lock = SpinLock("lock")

    def body() -> None:
        local_irq_disable()
        flags = lock.lock_irqsave()
        lock.unlock_irqrestore(flags)
        assert K.cur.ctx.irqs_off
        local_irq_enable()
        lock.lock_irq()
        assert K.cur.ctx.irqs_off
        lock.unlock_irq()
        assert not K.cur.ctx.irqs_off
        lock.lock_bh()
        assert K.cur.ctx.bh_off and not K.cur.ctx.irqs_off
        lock.unlock_bh()
        assert not in_atomic()

    run(body)


def test_handlers_have_stable_ids() -> None:
    """A handler is named after who raised it, whatever else is going on."""
    ids: list[str] = []

    def handler() -> None:
        ids.append(K.cur.id)

    def body() -> None:
        K.machine.post_irq(0, handler, name="disk")
        K.machine.raise_softirq(handler, name="net")
        event = K.machine.env.timeout(5)
        event.callbacks.append(lambda e: K.machine.post_irq(0, handler, name="disk"))
        yield_()
        schedule_timeout(10)

    run(body)
    assert ids == ["1.disk#1", "1.net#2", "disk#1"]


def test_a_softirq_raised_in_a_handler_waits_for_its_end() -> None:
    """It becomes pending on the handler's CPU and runs after the handler."""
    log = Log()

    def hard() -> None:
        K.machine.raise_softirq(lambda: log("soft"))
        steps()
        log("hard")

    def body() -> None:
        K.machine.post_irq(0, hard)
        steps()

    run(body, strategy=Alternate())
    assert log.text == "hard soft"


def test_interrupts_hit_every_place_in_a_section() -> None:
    """Where an interrupt arrives is a choice: every gap between two operations is met."""
    places: set[int] = set()

    def body() -> None:
        at = {"n": 0}
        K.machine.post_irq(0, lambda: places.add(at["n"]))
        for n in range(1, 6):
            step()
            at["n"] = n

    for seed in seeds(120):
        run(body, seed=seed, cpus=1)
    assert places == {0, 1, 2, 3, 4, 5}


def test_a_spinner_gives_way_to_interrupts_only() -> None:
    """A task that spins for a lock holds back its CPU-mates until it has it, and no interrupt."""
    lock = SpinLock("lock")
    log = Log()

    def owner() -> None:
        lock.lock()
        log("owner")
        K.machine.spawn(spinner, cpu=1)
        for _ in range(8):
            step()
        log("release")
        lock.unlock()

    def spinner() -> None:
        K.machine.spawn(mate, cpu=1)
        K.machine.post_irq(1, lambda: log("irq"))
        with lock:
            log("spinner")

    def mate() -> None:
        log("mate")

    for seed in seeds(60):
        log.events.clear()
        with world(seed, cpus=2) as machine:
            machine.spawn(owner, cpu=0)
            machine.run()
            assert machine.violations == []
        assert log.events.count("irq") == 1
