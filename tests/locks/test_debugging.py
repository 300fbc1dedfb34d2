"""Saying more about a lock: a new life, a pin, a nest lock; and raw spinlocks beside plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.checks.worlds import first, verdicts
from vfsim.checks.judge import KernelJudge
from vfsim.checks.lockdep import Rules
from vfsim.locks.debugging import init_lock, pin_lock, unpin_lock
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import RawSpinLock, SpinLock
from vfsim.sim.context import RCU_BH, RCU_SCHED, PseudoLock
from vfsim.sim.cpu import pop, push
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import K

KINDS = [Mutex, RwSem, SpinLock, RwLock]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)


# -- a new life ------------------------------------------------------------------------------------


@kinds
def test_a_held_lock_is_not_initialised(kind: Any) -> None:
    """It is told, whoever holds it; a free one may be, and is free afterwards."""

    def bad() -> None:
        lock = kind("lock")
        lock.lock()
        init_lock(lock)
        K.cur.held, K.cur.ctx = None, K.cur.ctx.parent

    def good() -> None:
        lock = kind("lock")
        with lock:
            pass
        init_lock(lock)
        with lock:
            pass

    assert verdicts(bad) == ["lockdep.held-reinit"]
    assert verdicts(good, good) == []
    assert first(bad).blamed == "test"


# -- pins ------------------------------------------------------------------------------------------


@kinds
def test_a_pinned_lock_stays(kind: Any) -> None:
    """Its release is told at that moment, also if it is taken again at once."""
    lock = kind("lock")

    def drops() -> None:
        lock.lock()
        pin = pin_lock(lock)
        lock.unlock()
        lock.lock()
        unpin_lock(pin)
        lock.unlock()

    def keeps() -> None:
        lock.lock()
        pin = pin_lock(lock)
        other = kind("other")
        other.lock()
        other.unlock()
        unpin_lock(pin)
        lock.unlock()

    assert verdicts(drops) == ["lockdep.pinned"]
    assert verdicts(keeps, keeps) == []


def test_a_pin_needs_a_held_lock() -> None:
    """Pinning what somebody else may hold is told."""

    def task() -> None:
        unpin_lock(pin_lock(Mutex("lock")))

    assert verdicts(task) == ["lockdep.unlock-not-held"]


# -- nest locks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Mutex, SpinLock], ids=lambda k: k.__name__)
def test_several_of_a_class_under_one_lock(kind: Any) -> None:
    """In any order, as long as that one lock is held around them."""
    outer, one, two = kind("outer"), kind("many"), kind("many")

    def under(first: Any, second: Any, cover: Any = outer) -> Callable[[], None]:
        def task() -> None:
            with cover:
                first.lock_nest_lock(outer)
                second.lock_nest_lock(outer)
                second.unlock()
                first.unlock()

        return task

    def inside_out() -> None:
        with one, outer:
            two.lock_nest_lock(outer)
            two.unlock()

    assert verdicts(under(one, two), under(two, one)) == []
    assert verdicts(inside_out)[0] == "lockdep.recursion"
    assert verdicts(under(one, two, kind("wrong"))) == ["lockdep.nest-not-held"]


def test_what_comes_between_the_many_is_no_order() -> None:
    """A lock taken between two of them is inside the first, and not outside the second."""
    outer, one, two, between = Mutex("outer"), Mutex("many"), Mutex("many"), Mutex("between")

    def task() -> None:
        with outer:
            one.lock_nest_lock(outer)
            with between:
                two.lock_nest_lock(outer)
                two.unlock()
            one.unlock()

    def backwards() -> None:
        with between, one:
            pass

    assert verdicts(task, task) == []
    assert verdicts(task, backwards) == ["lockdep.circular"]


# -- waiting on a real-time kernel -----------------------------------------------------------------


def judged(task: Callable[[], None], rules: Rules) -> list[str]:
    machine = Machine(judge=KernelJudge(rules))
    try:
        machine.spawn(task)
        machine.run()
        return [v.rule for v in machine.violations]
    finally:
        machine.bury()


def test_a_spinlock_inside_a_raw_one() -> None:
    """A bug where it was asked for, and only there; the other way round never."""
    raw, plain = RawSpinLock("raw"), SpinLock("plain")

    def outward() -> None:
        with raw, plain:
            pass

    def inward() -> None:
        with plain, raw:
            pass

    def tries() -> None:
        with raw:
            assert plain.trylock()
            plain.unlock()

    strict = Rules(raw_nesting=True)
    assert judged(outward, strict) == ["lockdep.wait-context"]
    assert judged(outward, Rules()) == judged(inward, strict) == judged(tries, strict) == []


@pytest.mark.parametrize("section", [RCU_BH, RCU_SCHED], ids=str)
def test_older_kinds_of_rcu(section: PseudoLock) -> None:
    """Their sections are states that nest, forbid sleeping, and end."""

    def good() -> None:
        push(section)
        push(section)
        pop(section)
        assert K.cur.ctx.nopreempt
        pop(section)
        assert not K.cur.ctx.nopreempt
        might_sleep()

    def bad() -> None:
        push(section)
        might_sleep()

    assert verdicts(good) == []
    assert verdicts(bad) == ["lockdep.sleep-in-atomic"]
