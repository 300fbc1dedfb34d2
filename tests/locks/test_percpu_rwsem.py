"""The per-CPU reader/writer semaphore: cheap readers, thorough writers, disowned holds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.helpers import Notes, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.explore.strategies.pos import POS
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu_sync import IDLE, PASSED
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K


def test_readers_share_and_writers_do_not() -> None:
    """Readers meet inside in some schedule; a writer meets nobody in any, and all ends idle."""
    met = 0
    for seed in seeds(150):
        sem = PerCpuRwSem("sem")
        inside: list[str] = []

        def reader(sem: PerCpuRwSem = sem, inside: list[str] = inside) -> None:
            nonlocal met
            for _ in range(2):
                with sem.shared():
                    inside.append("r")
                    step(sem)
                    assert "w" not in inside
                    met += inside.count("r") > 1
                    inside.remove("r")

        def writer(sem: PerCpuRwSem = sem, inside: list[str] = inside) -> None:
            for _ in range(2):
                with sem:
                    assert inside == []
                    inside.append("w")
                    step(sem)
                    inside.remove("w")

        run(reader, reader, writer, writer, strategy=POS(seed), judge=KernelJudge())
        assert not sem.is_locked()
        assert sem.sync.state == IDLE
        assert sem.statistics() == {"owner": None, "readers": [], "holds": 0, "waiting": 0}
    assert met > 50


def test_a_count_belongs_to_no_cpu() -> None:
    """A reader may end on another CPU than it began on: only the sum counts."""
    sem = PerCpuRwSem("sem")

    def reader() -> None:
        sem.down_read()
        K.cur.cpu = K.machine.cpus[1]
        sem.up_read()
        assert sem.counts == {0: 1, 1: -1}
        assert not sem.is_locked()
        K.cur.cpu = K.machine.cpus[0]
        with sem:
            assert sem.is_locked()

    run(reader)


def test_readers_are_slow_while_a_writer_is_about_and_fast_again_later() -> None:
    """A writer makes readers look further; a grace period after the last one they no longer do."""
    sem = PerCpuRwSem("sem")
    states: list[str] = []

    def writer() -> None:
        assert sem.sync.idle
        sem.down_write()
        states.append(sem.sync.state)
        sem.up_write()
        states.append(sem.sync.state)

    run(writer)
    assert states == [PASSED, PASSED]
    assert sem.sync.idle


def test_reading_twice_hangs_if_a_writer_comes_in_between() -> None:
    """The writer waits for the first read, the second read for the writer: the graph names both."""
    sem = PerCpuRwSem("sem")

    def twice() -> None:
        sem.down_read()
        for _ in range(4):
            yield_()
        sem.down_read()
        sem.up_read()
        sem.up_read()

    def writer() -> None:
        with sem:
            pass

    with world(judge=KernelJudge()) as machine:
        machine.spawn(twice, name="reader")
        machine.spawn(writer, name="writer")
        machine.run()
        deadlock = machine.violations[-1]
        assert [v.rule for v in machine.violations] == ["lockdep.recursion", "wait.deadlock"]
        assert "reader" in deadlock.summary and "writer" in deadlock.summary


def test_reading_twice_is_told_without_a_hang() -> None:
    """Even where no writer comes, the order rules know that one might."""
    sem = PerCpuRwSem("sem")

    def twice() -> None:
        with sem.shared(), sem.shared():
            pass

    with world(judge=KernelJudge()) as machine:
        machine.spawn(twice)
        machine.run()
        assert [v.rule for v in machine.violations] == ["lockdep.recursion"]


def test_it_sleeps() -> None:
    """Either mode under a spinlock is told, also where nobody waits."""
    for shared in (True, False):
        notes = KernelJudge()
        sem, spin = PerCpuRwSem("sem"), SpinLock("spin")

        def body(shared: bool = shared, sem: PerCpuRwSem = sem, spin: SpinLock = spin) -> None:
            with spin, sem.shared() if shared else sem:
                pass

        with world(judge=notes) as machine:
            machine.spawn(body)
            machine.run()
            assert [v.rule for v in machine.violations] == ["lockdep.sleep-in-atomic"]


def test_trylock() -> None:
    """A read trylock fails only while a writer has shut the gate."""
    sem = PerCpuRwSem("sem")
    answers: list[bool] = []

    def writer() -> None:
        answers.append(sem.down_read_trylock())
        sem.up_read()
        sem.down_write()
        K.machine.spawn(other)
        yield_()
        sem.up_write()
        answers.append(sem.down_read_trylock())
        sem.up_read()

    def other() -> None:
        answers.append(sem.down_read_trylock())

    run(writer)
    assert answers == [True, False, True]


def test_a_hold_outlives_its_task() -> None:
    """A disowned write hold shuts everybody out until another task adopts and ends it."""
    sem = PerCpuRwSem("sem")
    order: list[str] = []

    def freezer() -> None:
        sem.down_write()
        sem.disown("the frozen filesystem")
        assert K.cur.held is None
        assert sem.statistics()["owner"] == "the frozen filesystem"
        K.machine.spawn(reader)
        K.machine.spawn(thawer)

    def reader() -> None:
        with sem.shared():
            order.append("read")

    def thawer() -> None:
        for _ in range(3):
            yield_()
        order.append("thaw")
        sem.adopt()
        sem.up_write()

    run(freezer, judge=KernelJudge())
    assert order == ["thaw", "read"]


def test_a_read_hold_outlives_its_task() -> None:
    """A disowned read hold keeps writers out until whoever finishes the work gives it back."""
    sem = PerCpuRwSem("sem")
    order: list[str] = []

    def submitter() -> None:
        sem.down_read()
        sem.disown_read()
        K.machine.spawn(writer)
        K.machine.spawn(finisher)

    def writer() -> None:
        with sem:
            order.append("write")

    def finisher() -> None:
        for _ in range(3):
            yield_()
        order.append("finish")
        sem.adopt_read()
        sem.up_read()

    run(submitter, judge=KernelJudge())
    assert order == ["finish", "write"]


@pytest.mark.parametrize("how", [PerCpuRwSem.adopt, PerCpuRwSem.adopt_read])
def test_only_a_disowned_hold_can_be_adopted(how: Any) -> None:
    """Adopting what nobody gave up is told to the judge."""
    notes = Notes()
    run(lambda: how(PerCpuRwSem("sem")), judge=notes)
    assert notes.seen == ["corrupt"]


def test_releases_by_others_are_told() -> None:
    """Each mode can only be given up by who has it."""
    notes = Notes()
    sem = PerCpuRwSem("sem")

    def body() -> None:
        sem.up_read()
        sem.up_write()
        sem.disown("nobody")

    run(body, judge=notes)
    assert notes.seen == ["not held"] * 3
