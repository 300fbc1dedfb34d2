"""The reader/writer spinlock: who meets whom, who stands in line, and what interrupts may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.helpers import Notes, hangs, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.locks.rwlock import RwLock
from vfsim.sim.cpu import local_bh_disable, local_bh_enable, local_irq_disable
from vfsim.sim.machine import Machine
from vfsim.sim.state import K


def test_readers_share_and_writers_do_not() -> None:
    """Readers meet inside in some schedule; a writer meets nobody in any."""
    met = 0
    for seed in seeds(200):
        lock = RwLock("lock")
        inside: list[str] = []

        def reader(lock: RwLock = lock, inside: list[str] = inside) -> None:
            nonlocal met
            for _ in range(2):
                with lock.shared():
                    inside.append("r")
                    step(lock)
                    assert "w" not in inside
                    met += inside.count("r") > 1
                    inside.remove("r")

        def writer(lock: RwLock = lock, inside: list[str] = inside) -> None:
            for _ in range(2):
                with lock:
                    assert inside == []
                    inside.append("w")
                    step(lock)
                    inside.remove("w")

        run(reader, reader, writer, writer, seed=seed)
        assert not lock.is_locked()
        assert lock.statistics() == {"owner": None, "readers": [], "waiting": 0}
    assert met > 50


def until(condition: Callable[[], Any]) -> None:
    """Never sleeps.  Let others run until something is true."""
    while not condition():
        step()


def scene(*bodies: Callable[[RwLock, list[str]], None], first: str = "read") -> list[str]:
    """The order in which those who wait get in.

    A task holds the lock in the ``first`` mode until all bodies stand in line, one after another.
    """
    lock = RwLock("lock")
    order: list[str] = []

    def holder() -> None:
        getattr(lock, f"{first}_lock")()
        for n, body in enumerate(bodies, 1):
            K.machine.spawn(body, lock, order)
            until(lambda n=n: lock.statistics()["waiting"] + len(order) >= n)
        getattr(lock, f"{first}_unlock")()

    with world(0, cpus=8) as machine:
        machine.spawn(holder)
        machine.run()
        assert machine.violations == []
    return order


def reads(lock: RwLock, order: list[str]) -> None:
    """A reader of a task."""
    lock.read_lock()
    order.append("r")
    lock.read_unlock()


def writes(lock: RwLock, order: list[str]) -> None:
    """A writer."""
    lock.write_lock()
    order.append("w")
    lock.write_unlock()


def reads_bh(lock: RwLock, order: list[str]) -> None:
    """A reader where no softirq comes: interrupt context to the lock."""
    lock.read_lock_bh()
    order.append("i")
    lock.read_unlock_bh()


def test_the_line_is_served_in_order() -> None:
    """Readers that came before a writer go before it, those that came after it behind."""
    assert scene(writes, writes) == ["w", "w"]
    assert scene(writes, reads, writes, reads, reads) == ["w", "r", "w", "r", "r"]
    assert scene(reads, writes, reads, first="write") == ["r", "w", "r"]


def test_an_interrupts_reader_passes_the_line() -> None:
    """Writers in line do not stop it; a writer inside does, and then it goes first."""
    assert scene(writes, reads, reads_bh) == ["i", "w", "r"]
    assert scene(writes, reads_bh, first="write") == ["i", "w"]


def test_neighbours_in_line_are_inside_together() -> None:
    """Readers side by side in the line are let in at once."""
    lock = RwLock("lock")
    together: list[int] = []

    def reader() -> None:
        with lock.shared():
            until(lambda: len(lock.readers) == 2 or together)
            together.append(len(lock.readers))

    def writer() -> None:
        with lock:
            K.machine.spawn(reader)
            K.machine.spawn(reader)
            until(lambda: lock.statistics()["waiting"] == 2)

    run(writer, seed=1)
    assert together[0] == 2


def test_reading_twice_in_a_task_can_deadlock() -> None:
    """As soon as a writer comes in between; never where softirqs are off."""

    def hanging(twice: Callable[[RwLock], None]) -> list[bool]:
        found = []
        for seed in seeds(40):
            lock = RwLock("lock")

            def writer(lock: RwLock = lock) -> None:
                with lock:
                    pass

            found.append(hangs(lambda lock=lock: twice(lock), writer, seed=seed))
        return found

    def plainly(lock: RwLock) -> None:
        with lock.shared():
            step(lock)
            with lock.shared():
                pass

    def without_softirqs(lock: RwLock) -> None:
        local_bh_disable()
        plainly(lock)
        local_bh_enable()

    def once(lock: RwLock) -> None:
        with lock.shared():
            pass

    assert set(hanging(plainly)) == {True, False}
    assert set(hanging(without_softirqs)) == set(hanging(once)) == {False}


def test_the_deadlock_is_told() -> None:
    """The wait-for graph goes from the second read to the first, past the writer in line."""
    rules = set()
    for seed in seeds(20):
        lock = RwLock("lock")

        def twice(lock: RwLock = lock) -> None:
            with lock.shared():
                step(lock)
                with lock.shared():
                    pass

        def writer(lock: RwLock = lock) -> None:
            with lock:
                pass

        with world(seed, judge=KernelJudge()) as machine:
            machine.spawn(twice)
            machine.spawn(writer)
            machine.run()
            rules |= {(v.rule, v.kind) for v in machine.violations}
    assert rules == {("lockdep.recursion", "soft"), ("lockdep.recursion", "hard")}


def test_an_interrupt_may_read_what_its_task_reads() -> None:
    """The rule that tasklist_lock lives by: read anywhere, write with interrupts off."""

    def careful(machine: Machine, lock: RwLock) -> None:
        def reader() -> None:
            with lock.shared():
                machine.post_irq(0, handler)
                step(lock)

        def writer() -> None:
            lock.write_lock_irq()
            step(lock)
            lock.write_unlock_irq()

        def handler() -> None:
            with lock.shared():
                pass

        for fn in (reader, writer, reader):
            machine.spawn(fn)

    for seed in seeds(60):
        with world(seed, cpus=1 + seed % 2, judge=KernelJudge()) as machine:
            careful(machine, RwLock("tasklist_lock"))
            machine.run()
            assert machine.violations == []


def test_a_write_with_interrupts_on_is_told() -> None:
    """The interrupt's reader would wait for the writer that it interrupted."""
    lock = RwLock("tasklist_lock")

    def handler() -> None:
        with lock.shared():
            pass

    def writer() -> None:
        K.machine.post_irq(1, handler)
        with lock:
            step(lock)

    with world(3, judge=KernelJudge()) as machine:
        machine.spawn(writer, cpu=0)
        machine.run()
        assert [v.rule for v in machine.violations] == ["lockdep.irq-inversion"]


def test_trylocks() -> None:
    """A reader gets in beside readers, nobody beside a writer."""
    lock = RwLock("lock")

    def body() -> None:
        assert lock.read_trylock() and lock.read_trylock()
        assert not lock.write_trylock()
        lock.read_unlock()
        lock.read_unlock()
        assert lock.write_trylock()
        assert not lock.read_trylock() and not lock.write_trylock()
        lock.write_unlock()

    run(body)


def test_a_reader_that_tries_respects_the_line() -> None:
    """Behind a writer in line it fails, in a task."""
    answers: list[bool] = []

    def tries(lock: RwLock, order: list[str]) -> None:
        answers.append(lock.read_trylock())
        order.append("t")

    assert sorted(scene(writes, tries)) == ["t", "w"]
    assert answers == [False]


FORMS = [
    ("read_lock_irq", "read_unlock_irq"),
    ("write_lock_irq", "write_unlock_irq"),
    ("read_lock_bh", "read_unlock_bh"),
    ("write_lock_bh", "write_unlock_bh"),
    ("read_lock_irqsave", "read_unlock_irqrestore"),
    ("write_lock_irqsave", "write_unlock_irqrestore"),
]


@pytest.mark.parametrize(("take", "drop"), FORMS)
def test_interrupts_are_off_while_it_is_held(take: str, drop: str) -> None:
    """Each form turns off what it says and on again what was on, and nobody complains."""
    lock = RwLock("lock")
    notes = Notes()

    def body() -> None:
        before = K.cur.ctx
        flags = getattr(lock, take)()
        inside = K.cur.ctx
        assert (inside.irqs_off, inside.bh_off) == ("irq" in take, "bh" in take)
        getattr(lock, drop)(*([flags] if "save" in take else []))
        assert K.cur.ctx is before

    run(body, judge=notes)
    assert notes.seen == []


@pytest.mark.parametrize("mode", ["read", "write"])
def test_forms_that_do_not_go_together(mode: str) -> None:
    """A plain unlock after lock_irq, and unlock_irq where interrupts were off before, are told."""
    lock = RwLock("lock")
    notes = Notes()

    def body() -> None:
        getattr(lock, f"{mode}_lock_irq")()
        getattr(lock, f"{mode}_unlock")()
        local_irq_disable()
        getattr(lock, f"{mode}_lock_irq")()
        getattr(lock, f"{mode}_unlock_irq")()
        K.cur.held, K.cur.ctx = None, K.cur.ctx.parent
        with pytest.raises(TypeError, match="irqsave"):
            getattr(lock, f"{mode}_unlock_irqrestore")(0)

    run(body, judge=notes)
    assert notes.seen == ["unbalanced", "unbalanced"]


def test_a_release_in_the_other_mode_is_told() -> None:
    """A reader does not release as a writer, nor the other way round."""
    lock = RwLock("lock")
    notes = Notes()

    def body() -> None:
        lock.read_lock()
        lock.write_unlock()
        lock.read_unlock()
        lock.write_lock()
        lock.read_unlock()
        lock.write_unlock()

    run(body, judge=notes)
    assert notes.seen == ["not held", "not held"]


def test_it_tells_its_readers() -> None:
    """Who reads is in ``statistics`` and in the text."""
    lock = RwLock("lock")
    seen: list[Any] = []

    def body() -> None:
        with lock.shared():
            seen.append((lock.statistics()["readers"], repr(lock)))

    run(body)
    assert seen == [(["body"], "<RwLock lock, read by body, 0 spinning>")]
