"""SRCU: readers may sleep, and a grace period waits for exactly the sections of its moment."""

from __future__ import annotations

import pytest

from tests.sim.helpers import Alternate, Notes, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.locks.mutex import Mutex
from vfsim.locks.srcu import (
    Srcu,
    call_srcu,
    srcu_barrier,
    srcu_read_lock,
    srcu_read_unlock,
    synchronize_srcu,
)
from vfsim.sim.cpu import in_interrupt
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.state import K


def _reads_of_freed_things(seed: int, careful: bool) -> int:
    domain = Srcu("domain")
    table = [{"freed": False}]
    dead = 0

    def reader() -> None:
        nonlocal dead
        for _ in range(2):
            idx = domain.read_lock() if careful else 0
            thing = table[0]
            msleep(1)
            dead += thing["freed"]
            if careful:
                domain.read_unlock(idx)

    def waiter() -> None:
        old, table[0] = table[0], {"freed": False}
        domain.synchronize()
        old["freed"] = True

    def caller() -> None:
        old, table[0] = table[0], {"freed": False}

        def free() -> None:
            assert in_interrupt()
            old["freed"] = True

        domain.call(free)
        step(table)

    def body_of_all() -> None:
        domain.cleanup()

    run(reader, waiter, reader, caller, seed=seed)
    run(body_of_all)
    return dead


def test_nothing_is_freed_under_a_sleeping_reader() -> None:
    """Readers in a section never meet a freed thing though they sleep; without it some do."""
    assert sum(_reads_of_freed_things(seed, True) for seed in seeds(150)) == 0
    assert sum(_reads_of_freed_things(seed, False) for seed in seeds(50)) > 10


def test_the_index_is_that_of_the_period() -> None:
    """Sections that began before a grace period have another index than those after."""
    domain = Srcu("domain")
    seen: list[int] = []

    def early() -> None:
        idx = srcu_read_lock(domain)
        seen.append(idx)
        K.machine.spawn(synchronize_srcu, domain)
        yield_()
        second = srcu_read_lock(domain)
        seen.append(second)
        srcu_read_unlock(domain, idx)
        assert domain.read_lock_held()
        srcu_read_unlock(domain, second)
        assert not domain.read_lock_held()

    run(early, judge=KernelJudge())
    assert seen == [0, 1]


def test_a_period_waits_for_sections_and_not_for_tasks() -> None:
    """A reader that enters the next section before it leaves the last holds nobody up for ever."""
    domain = Srcu("domain")
    order: list[str] = []

    def chain() -> None:
        idx = domain.read_lock()
        for _ in range(6):
            step()
            following = domain.read_lock()
            domain.read_unlock(idx)
            idx = following
        order.append("reader")
        domain.read_unlock(idx)

    def updater() -> None:
        domain.synchronize()
        order.append("updater")

    run(chain, updater, strategy=Alternate())
    assert order == ["updater", "reader"]


def test_callbacks_and_their_barrier() -> None:
    """Each callback runs once, and ``srcu_barrier`` returns after those queued before it."""
    for seed in seeds(60):
        domain = Srcu("domain")
        ran: list[str] = []

        def reader(domain: Srcu = domain) -> None:
            with domain.reading():
                step()
                step()

        def caller(domain: Srcu = domain, ran: list[str] = ran) -> None:
            call_srcu(domain, ran.append, "a")
            call_srcu(domain, ran.append, "b")
            srcu_barrier(domain)
            assert sorted(ran) == ["a", "b"]

        run(reader, caller, reader, seed=seed)
        assert domain.statistics()["callbacks"] == 0


def test_another_domain_is_not_waited_for() -> None:
    """The readers of one domain hold up nobody else's."""
    one, other = Srcu("one"), Srcu("other")

    def body() -> None:
        with one.reading():
            before = K.machine.now
            other.synchronize()
            assert K.machine.now == before

    run(body, judge=KernelJudge())


def test_waiting_inside_a_section_is_a_deadlock() -> None:
    """A task that waits for its own section can never go on, and the report says so."""
    domain = Srcu("domain")

    def body() -> None:
        with domain.reading():
            domain.synchronize()

    with world(judge=KernelJudge()) as machine:
        machine.spawn(body, name="body")
        machine.run()
        (violation,) = machine.violations
        assert violation.rule == "wait.deadlock"
        assert "grace period of domain" in violation.summary


def test_waiting_with_what_a_reader_needs_is_a_deadlock() -> None:
    """The graph leads from the updater to the reader, and from there to the updater's mutex."""
    domain, mutex = Srcu("domain"), Mutex("mutex")

    def reader() -> None:
        with domain.reading():
            yield_()
            with mutex:
                pass

    def updater() -> None:
        with mutex:
            domain.synchronize()

    with world(judge=KernelJudge()) as machine:
        machine.spawn(reader, name="reader")
        machine.spawn(updater, name="updater")
        machine.run()
        violation = machine.violations[0]
        assert violation.rule == "wait.deadlock"
        assert "reader" in violation.summary and "updater" in violation.summary


def test_wrong_ends() -> None:
    """The other index, a section that is not there, one left open, a domain in use."""
    domain = Srcu("domain")
    notes = Notes()

    def body() -> None:
        with pytest.raises(ValueError, match="read_lock"):
            domain.read_unlock(2)
        domain.read_unlock(0)
        idx = domain.read_lock()
        domain.read_unlock(1 - idx)
        domain.cleanup()

    run(body, judge=notes)
    assert notes.seen == ["not held", "not held", "corrupt", "held at exit"]
