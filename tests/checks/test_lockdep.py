"""Lock order: what must be reported, and the legal patterns that must stay silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.checks.worlds import after, first, soft, verdicts, world
from vfsim.checks import lockdep
from vfsim.checks.steps import NESTS, nest
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import local_irq_disable, local_irq_enable
from vfsim.sim.scheduler import msleep

CIRCULAR, RECURSION, INVERSION = "lockdep.circular", "lockdep.recursion", "lockdep.irq-inversion"


def taking(*locks: Any) -> Callable[[], None]:
    """A task that takes locks one inside the other and lets go again."""

    def task() -> None:
        for lock in locks:
            lock.lock()
        for lock in reversed(locks):
            lock.unlock()

    return task


EXCLUSIVE = [Mutex, RwSem, SpinLock, BitLock]


@pytest.fixture(params=EXCLUSIVE, ids=lambda k: k.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["fresh", "seasoned"], autouse=True)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts do not depend on what the process saw before: each test runs with and without a
    past.
    """
    if request.param == "fresh":
        monkeypatch.setattr(lockdep, "KNOWN", {})


# -- orders ----------------------------------------------------------------------------------------


def test_two_orders_are_circular(kind: Any) -> None:
    """A then B here and B then A there is reported although nobody waited."""
    a, b = kind("A"), kind("B")
    assert verdicts(taking(a, b), taking(b, a)) == [CIRCULAR]


@pytest.mark.parametrize(
    "orders",
    ["AB BC CA", "AB CA BC", "AB BC CD DA", "AB CD BD DA", "AB CD BC DA"],
)
def test_longer_cycles_are_circular(kind: Any, orders: str) -> None:
    """The selftest families of lockdep with three and four locks are reported once."""
    locks = {name: kind(name) for name in "ABCD"}
    tasks = [taking(*(locks[name] for name in order)) for order in orders.split()]
    assert verdicts(*tasks) == [CIRCULAR]


def test_one_order_is_fine(kind: Any) -> None:
    """Taking locks in one order, with gaps, is silent."""
    a, b, c = kind("A"), kind("B"), kind("C")
    assert verdicts(taking(a, b), taking(b, c), taking(a, c), taking(a, b, c)) == []


def test_release_out_of_order_is_fine(kind: Any) -> None:
    """Hand over hand, the outer lock is released first."""
    a, b, c = kind("A"), kind("B"), kind("C")

    def walk() -> None:
        a.lock()
        b.lock()
        a.unlock()
        c.lock()
        b.unlock()
        c.unlock()

    assert verdicts(walk, walk) == []


def test_order_after_an_early_release() -> None:
    """What was released early is no longer outside of what comes next."""
    a, b, c = Mutex("A"), Mutex("B"), Mutex("C")

    def walk() -> None:
        a.lock()
        assert b.trylock()
        a.unlock()
        c.lock()
        c.unlock()
        b.unlock()

    assert verdicts(walk, taking(c, a)) == []


def test_mixed_kinds_are_circular() -> None:
    """A cycle through locks of different kinds is one."""
    m, r, s = Mutex("M"), RwSem("R"), SpinLock("S")

    def reads() -> None:
        with r.shared():
            m.lock()
            m.unlock()

    assert verdicts(taking(m, r), reads) == [CIRCULAR]
    assert verdicts(taking(m, r, s), taking(m, s)) == []


def test_read_sides_of_a_semaphore_count() -> None:
    """Two readers in opposite orders can be stopped by writers between them."""
    a, b = RwSem("A"), RwSem("B")

    def reads(x: RwSem, y: RwSem) -> Callable[[], None]:
        def task() -> None:
            with x.shared(), y.shared():
                pass

        return task

    assert verdicts(reads(a, b), reads(b, a)) == [CIRCULAR]


def test_trylock_adds_no_order_in(kind: Any) -> None:
    """Trying the outer lock inside the inner one is how one goes against the order."""
    a, b = kind("A"), kind("B")

    def tries() -> None:
        with b:
            if a.trylock():
                a.unlock()

    assert verdicts(taking(a, b), tries) == []


def test_trylock_adds_order_out(kind: Any) -> None:
    """What is taken inside a lock that was tried is inside it all the same."""
    a, b = kind("A"), kind("B")

    def tries() -> None:
        assert b.trylock()
        a.lock()
        a.unlock()
        b.unlock()

    assert verdicts(taking(a, b), tries) == [CIRCULAR]


def test_different_subclasses_are_different_classes() -> None:
    """Parent before child with a subclass is an order, and the reverse breaks it."""
    parent, child = Mutex("dir"), Mutex("dir")

    def down(x: Mutex, y: Mutex, first_sub: int, second_sub: int) -> Callable[[], None]:
        def task() -> None:
            x.lock(first_sub)
            y.lock(second_sub)
            y.unlock()
            x.unlock()

        return task

    assert verdicts(down(parent, child, 1, 0), down(child, parent, 1, 0)) == []
    assert verdicts(down(parent, child, 1, 0), down(parent, child, 0, 1)) == [CIRCULAR]


def test_page_locks_are_left_to_the_wait_graph() -> None:
    """Many locks of one class that are handed to I/O are no order: as in Linux."""
    one, two, m = SleepBit("page_lock"), SleepBit("page_lock"), Mutex("M")
    assert verdicts(taking(one, two), taking(two, one), taking(m, one), taking(two, m)) == []


def test_a_report_names_both_sides() -> None:
    """The report has every edge of the cycle with its task, and with a trace where each lock was
    taken.
    """
    a, b = Mutex("A"), Mutex("B")

    def forward() -> None:
        with a, b:
            pass

    def backward() -> None:
        with b, a:
            pass

    untraced, traced = first(forward, backward), first(forward, backward, traced=True)
    assert untraced.signature == traced.signature == (CIRCULAR, "test", "A B")
    assert (
        untraced.summary == "backward takes A inside B; elsewhere the order is the other way round"
    )
    text = "\n".join(traced.details)
    assert "A then B: forward" in text and "B then A: backward" in text
    assert text.count("test_lockdep.py") == 4


def test_a_broken_order_is_reported_once() -> None:
    """The edge that closed a cycle is not an order: what follows from it is not reported too."""
    a, b, c = Mutex("A"), Mutex("B"), Mutex("C")
    with world(taking(a, b), taking(b, a), taking(c, b), taking(a, c), taking(b, a)) as machine:
        assert len(machine.violations) == 1


# -- recursion -------------------------------------------------------------------------------------


def test_one_class_twice_is_recursion(kind: Any) -> None:
    """Two locks of one class, one inside the other, could be taken the other way round."""
    assert verdicts(taking(kind("X"), kind("X"))) == [RECURSION]


def test_the_same_lock_twice_stops_the_world(kind: Any) -> None:
    """A task that waits for itself is told so, and the world ends."""
    x = kind("X")
    violation = first(taking(x, x))
    assert (violation.rule, violation.kind) == (RECURSION, "hard")


def test_reading_a_semaphore_twice_is_recursion() -> None:
    """A writer between the two reads stops the second, so both the same and another of the class
    are reported.
    """
    x, y = RwSem("X"), RwSem("X")

    def reads(inner: RwSem) -> Callable[[], None]:
        def task() -> None:
            with x.shared(), inner.shared():
                pass

        return task

    assert verdicts(reads(x)) == [RECURSION]
    assert verdicts(reads(y)) == [RECURSION]


def test_rcu_nests() -> None:
    """A read section inside a read section is legal, and so is a spinlock inside it."""
    s = SpinLock("S")

    def reader() -> None:
        with rcu_read(), rcu_read(), s:
            pass

    assert verdicts(reader, reader) == []


def test_declared_nesting_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many locks of a class may be taken under the lock that was declared to cover them."""
    monkeypatch.setattr("vfsim.checks.steps.NESTS", dict(NESTS))
    nest("anon_vma", under="mmap_sem")
    outer, one, two = RwSem("mmap_sem"), RwSem("anon_vma"), RwSem("anon_vma")
    monkeypatch.setattr(lockdep, "KNOWN", {})
    assert verdicts(taking(outer, one, two)) == []
    assert verdicts(taking(one, two)) == [RECURSION]


def test_downgrade_is_fine() -> None:
    """A write hold that becomes a read hold is not a second lock."""
    sem, m = RwSem("R"), Mutex("M")

    def task() -> None:
        sem.down_write()
        m.lock()
        sem.downgrade_write()
        m.unlock()
        sem.up_read()

    assert verdicts(task, taking(sem, m)) == []


# -- sequence counters -----------------------------------------------------------------------------


def test_sequence_readers_and_writers() -> None:
    """Readers inside what writers hold are fine; a reader inside its own write section would spin
    for ever.
    """
    lock, seq = SpinLock("L"), SeqLock("rename_lock")

    def writes() -> None:
        with seq, lock:
            pass

    def reads() -> None:
        n = seq.read_begin()
        with lock:
            pass
        seq.read_retry(n)

    def both() -> None:
        with seq:
            seq.read_begin()

    assert verdicts(writes, reads, reads) == []
    assert first(both).kind == "hard"


def test_reading_inside_what_a_writer_takes_is_circular() -> None:
    """A reader that spins for a writer while it holds what the writer wants waits for ever."""
    lock, seq = SpinLock("L"), SeqCount("S")

    def writes() -> None:
        seq.write_begin()
        lock.lock()
        lock.unlock()
        seq.write_end()

    def reads() -> None:
        with lock:
            seq.read_begin()

    assert verdicts(writes, reads) == [CIRCULAR]


# -- interrupts ------------------------------------------------------------------------------------


def test_a_lock_of_an_interrupt_is_taken_with_interrupts_off() -> None:
    """With irqsave in tasks it is silent; without, either order of events is reported."""
    s = SpinLock("S")

    def handler() -> None:
        with s:
            pass

    def careful() -> None:
        flags = s.lock_irqsave()
        s.unlock_irqrestore(flags)

    def careless() -> None:
        with s:
            pass

    def careless_later() -> None:
        msleep(1)
        careless()

    assert verdicts(careful, after(1000, handler)) == []
    assert verdicts(careless, after(1000, handler)) == [INVERSION]
    assert verdicts(careless_later, after(1000, handler)) == [INVERSION]
    blamed = first(careless, after(1000, handler), traced=True)
    assert "careless" in "\n".join(blamed.details) and blamed.blamed == "test"


def test_softirqs_are_told_apart() -> None:
    """A lock of softirqs may be taken with interrupts on in tasks, as long as softirqs are off."""
    s = SpinLock("S")

    def handler() -> None:
        with s:
            pass

    def careful() -> None:
        s.lock_bh()
        s.unlock_bh()

    assert verdicts(careful, soft(handler)) == []
    assert verdicts(handler, soft(handler)) == [INVERSION]


def test_what_an_interrupts_lock_leads_to_counts() -> None:
    """Interrupt takes A; A is held when B is taken; B is elsewhere held with interrupts on."""
    a, b = SpinLock("A"), SpinLock("B")

    def handler() -> None:
        with a:
            pass

    def nested() -> None:
        a.lock_irq()
        b.lock()
        b.unlock()
        a.unlock_irq()

    def open_() -> None:
        with b:
            pass

    def closed() -> None:
        b.lock_irq()
        b.unlock_irq()

    irq = after(1000, handler)
    assert verdicts(nested, closed, irq) == []
    assert verdicts(nested, open_, irq) == [INVERSION]
    assert verdicts(open_, irq, nested) == [INVERSION]


def test_interrupts_back_on_while_holding() -> None:
    """A lock that is still held when interrupts come back on is held with them on."""
    s = SpinLock("S")

    def handler() -> None:
        with s:
            pass

    def leaky() -> None:
        local_irq_disable()
        s.lock()
        local_irq_enable()
        s.unlock()

    def tidy() -> None:
        local_irq_disable()
        s.lock()
        s.unlock()
        local_irq_enable()

    assert verdicts(tidy, after(1000, handler)) == []
    assert verdicts(leaky, after(1000, handler)) == [INVERSION]


def test_an_interrupt_that_only_tries_is_fine() -> None:
    """A handler that tries the lock never waits for it."""
    s = SpinLock("S")

    def handler() -> None:
        if s.trylock():
            s.unlock()

    def task() -> None:
        with s:
            pass

    assert verdicts(task, after(1000, handler)) == []


# -- determinism -----------------------------------------------------------------------------------


def test_the_past_of_the_process_does_not_matter() -> None:
    """A world whose other half was seen in another world is silent."""
    a, b = Mutex("A"), Mutex("B")
    assert verdicts(taking(a, b)) == []
    assert verdicts(taking(b, a)) == []
    assert verdicts(taking(a, b), taking(b, a)) == [CIRCULAR]
    assert verdicts(taking(b, a)) == []
    assert verdicts(taking(b, a), taking(a, b)) == [CIRCULAR]
