"""What is held, as an interned state: it is judged once per world and stays true."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.sim.helpers import Notes, run, seeds, world
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.context import (
    SHARED,
    TRY,
    Ctx,
    LockClass,
    Pin,
    held_entries,
    key_name,
    nested,
)
from vfsim.sim.cpu import (
    local_bh_disable,
    local_bh_enable,
    local_irq_disable,
    local_irq_enable,
    preempt_disable,
    preempt_enable,
)
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import K


class Entries(Notes):
    """Writes down what is entered, and where."""

    def entering(self, node: Ctx, key: int, lock: Any) -> None:
        self.seen.append(f"{node!r} + {key_name(key)}")


def test_each_situation_is_judged_once_per_world() -> None:
    """The same class inside the same chain is asked about once; every world asks again."""

    def body() -> None:
        for _ in range(3):
            a, b = Mutex("ctx a"), Mutex("ctx b")  # other instances, same classes
            with a:
                with b:
                    pass
            with b:
                pass

    for _ in range(2):
        judge = Entries()
        run(body, body, judge=judge)
        assert judge.seen == ["nothing held + ctx a", "ctx a + ctx b", "nothing held + ctx b"]


def test_what_a_key_says() -> None:
    """A key names class, subclass and mode, and prints them."""
    cls = LockClass.get("ctx key", "rwsem", sleeps=True)
    assert key_name(cls.key) == "ctx key"
    assert key_name(nested(cls.key, 1) | SHARED) == "ctx key/1 (shared)"
    assert key_name(cls.key | TRY) == "ctx key"
    assert LockClass.get("ctx key", "rwsem") is cls
    assert LockClass.get("ctx key", "mutex") is not cls
    assert repr(cls) == "<rwsem class ctx key>"
    for bad in (-1, 8):
        with pytest.raises(ValueError, match="0 to 7"):
            nested(cls.key, bad)


def test_flags_follow_what_is_held() -> None:
    """Each state forbids what it forbids, and only while it lasts."""

    def flags() -> str:
        ctx = K.cur.ctx
        names = ("nosleep", "nopreempt", "irqs_off", "bh_off")
        return " ".join(name for name in names if getattr(ctx, name))

    def body() -> None:
        spin, mutex = SpinLock("ctx spin"), Mutex("ctx mutex")
        with mutex:
            assert flags() == ""
        with spin:
            assert flags() == "nosleep nopreempt"
        with rcu_read():
            assert flags() == "nosleep"
        preempt_disable()
        assert flags() == "nosleep nopreempt"
        preempt_enable()
        local_bh_disable()
        assert flags() == "nosleep nopreempt bh_off"
        local_irq_disable()
        assert flags() == "nosleep nopreempt irqs_off bh_off"
        local_irq_enable()
        local_bh_enable()
        assert flags() == ""

    run(body)


def test_releases_in_any_order_keep_the_chain_true() -> None:
    """After any sequence of locks and unlocks the chain is what the held stack says."""
    kinds = [Mutex("any 0"), Mutex("any 1"), SpinLock("any 2"), RwSem("any 3"), Mutex("any 0")]

    def body(seed: int) -> None:
        random = Random(seed)
        held: list[Any] = []
        expected: list[tuple[Any, int]] = []
        for _ in range(60):
            lock = kinds[int(random.random() * len(kinds))]
            if lock in held:
                lock.unlock()
                held.remove(lock)
                expected = [e for e in expected if e[0] is not lock]
            else:
                lock.lock()
                held.append(lock)
                expected.insert(0, (lock, lock.key))
            assert held_entries(K.cur) == expected
            assert K.cur.ctx.chain() == [key for _, key in reversed(expected)]

    for seed in seeds(40):
        run(lambda seed=seed: body(seed))
        for lock in kinds:
            lock.owner = None


def test_hand_over_hand_in_one_class() -> None:
    """Releasing the outer of two locks of one class leaves the inner one in its place."""
    other = SpinLock("hand other")
    locks = [SpinLock("hand") for _ in range(4)]

    def body() -> None:
        locks[0].lock()
        other.lock()
        for i in range(3):
            locks[i + 1].lock()
            locks[i].unlock()
            assert held_entries(K.cur) == [(locks[i + 1], locks[0].key), (other, other.key)]
        locks[3].unlock()
        assert K.cur.ctx.chain() == [other.key]
        other.unlock()

    run(body)


def test_a_downgrade_keeps_its_place() -> None:
    """The lock stays where it is on the held stack; only its mode changes."""
    sem, mutex = RwSem("place sem"), Mutex("place mutex")

    def body() -> None:
        sem.down_write(2)
        mutex.lock()
        sem.downgrade_write()
        assert held_entries(K.cur) == [(mutex, mutex.key), (sem, nested(sem.key, 2) | SHARED)]
        mutex.unlock()
        sem.up_read()
        assert K.cur.ctx.chain() == []

    run(body)


def test_a_downgrade_across_a_pin_is_told() -> None:
    """Changing how the caller's lock is held is the caller's business."""
    notes = Notes()
    sem = RwSem("pin sem")

    class Call(Pin):
        key = 0

    def body() -> None:
        sem.down_write()
        K.cur.held = (Call(), K.cur.held)
        sem.downgrade_write()
        K.cur.held = K.cur.held[1]
        sem.up_read()

    run(body, judge=notes)
    assert notes.seen == ["pinned"]


def test_a_release_out_of_order_that_turns_interrupts_on_is_told() -> None:
    """What was taken with interrupts off is exposed when they come back under it."""
    seen: list[str] = []

    class Judge(Notes):
        def exposed(self, task: Any) -> None:
            seen.append(task.name)

    a, b = SpinLock("exposed a"), SpinLock("exposed b")

    def body() -> None:
        a.lock_irq()
        b.lock()
        a.unlock_irq()
        b.unlock()
        a.lock_irq()
        b.lock()
        b.unlock()
        a.unlock_irq()

    with world(judge=Judge()) as machine:
        machine.spawn(body, name="task")
        machine.run()
    assert seen == ["task"]


def test_might_sleep_asks_the_judge() -> None:
    """``might_sleep`` is told wherever sleeping is forbidden, and only there."""
    notes = Notes()

    def body() -> None:
        might_sleep()
        with SpinLock("might"):
            might_sleep()
        might_sleep()

    run(body, judge=notes)
    assert notes.seen == ["sleeping"]


def test_unbalanced_states_are_told() -> None:
    """Turning on what was never turned off is told to the judge."""
    for enable in (preempt_enable, local_irq_enable, local_bh_enable):
        notes = Notes()
        run(enable, judge=notes)
        assert notes.seen == ["not held"]


def test_a_context_prints_what_is_held() -> None:
    """The chain reads from the outside in."""
    texts: list[str] = []

    def body() -> None:
        with RwSem("print a").shared():
            with SpinLock("print b"):
                texts.append(repr(K.cur.ctx))
        texts.append(repr(K.cur.ctx))

    run(body)
    assert texts == ["print a (shared) > print b", "nothing held"]
