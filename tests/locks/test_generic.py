"""One suite over all locks that exclude: what every lock promises, and what some do."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import pytest

from tests.sim.helpers import Alternate, Notes, hangs, run, seeds, step, world
from vfsim.explore.strategies.pos import POS
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import RawSpinLock, SpinLock
from vfsim.locks.ww_mutex import WwClass, WwMutex
from vfsim.sim.context import Pin
from vfsim.sim.cpu import in_atomic
from vfsim.sim.judge import Judge
from vfsim.sim.scheduler import yield_
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K
from vfsim.sim.task import POOL


@attrs.frozen
class Kind:
    """A lock to be tested and how to use it alone.

    Attributes:
        make: a new lock of a class.  take, drop: its exclusive mode.
        sleeps: waiters sleep (else they spin).  fifo: who came first gets it first.
        attempt: its trylock, if it has one.
    """

    id: str
    make: Callable[[str], Any]
    take: Callable[[Any], Any]
    drop: Callable[[Any], Any]
    sleeps: bool
    fifo: bool
    attempt: Callable[[Any], bool] | None = None


KINDS = [
    Kind("mutex", Mutex, Mutex.lock, Mutex.unlock, True, False, Mutex.trylock),
    Kind("rwsem", RwSem, RwSem.down_write, RwSem.up_write, True, False, RwSem.down_write_trylock),
    Kind("percpu rwsem", PerCpuRwSem, PerCpuRwSem.down_write, PerCpuRwSem.up_write, True, False),
    Kind("page lock", SleepBit, SleepBit.lock, SleepBit.unlock, True, False, SleepBit.trylock),
    Kind("spinlock", SpinLock, SpinLock.lock, SpinLock.unlock, False, True, SpinLock.trylock),
    Kind("irq spinlock", SpinLock, SpinLock.lock_irq, SpinLock.unlock_irq, False, True),
    Kind("bh spinlock", SpinLock, SpinLock.lock_bh, SpinLock.unlock_bh, False, True),
    Kind(
        "irqsave spinlock",
        SpinLock,
        SpinLock.lock_irqsave,
        lambda lock: lock.unlock_irqrestore(False),
        False,
        True,
    ),
    Kind(
        "raw spinlock",
        RawSpinLock,
        RawSpinLock.lock,
        RawSpinLock.unlock,
        False,
        True,
        RawSpinLock.trylock,
    ),
    Kind(
        "rwlock",
        RwLock,
        RwLock.write_lock,
        RwLock.write_unlock,
        False,
        True,
        RwLock.write_trylock,
    ),
    Kind("irq rwlock", RwLock, RwLock.write_lock_irq, RwLock.write_unlock_irq, False, True),
    Kind("bh rwlock", RwLock, RwLock.write_lock_bh, RwLock.write_unlock_bh, False, True),
    Kind(
        "irqsave rwlock",
        RwLock,
        RwLock.write_lock_irqsave,
        lambda lock: lock.write_unlock_irqrestore(False),
        False,
        True,
    ),
    Kind(
        "ww mutex",
        lambda name: WwMutex(WwClass(name)),
        WwMutex.lock,
        WwMutex.unlock,
        True,
        False,
        WwMutex.trylock,
    ),
    Kind("bit lock", BitLock, BitLock.lock, BitLock.unlock, False, False, BitLock.trylock),
    Kind("seqlock", SeqLock, SeqLock.write_lock, SeqLock.write_unlock, False, True),
    Kind(
        "lockref",
        LockRef,
        lambda ref: ref.lock.lock(),
        lambda ref: ref.lock.unlock(),
        False,
        True,
        lambda ref: ref.lock.trylock(),
    ),
    Kind(
        "tried mutex",
        lambda name: Mutex(name, tried=True),
        Mutex.lock,
        Mutex.unlock,
        True,
        False,
        Mutex.trylock,
    ),
    Kind(
        "tried spinlock",
        lambda name: SpinLock(name, tried=True),
        SpinLock.lock,
        SpinLock.unlock,
        False,
        True,
        SpinLock.trylock,
    ),
]
TRIED = [kind for kind in KINDS if kind.attempt is not None]

every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
every_tried = pytest.mark.parametrize("kind", TRIED, ids=lambda kind: kind.id)


@kernel_struct
class Counter:
    """A counter that loses updates unless something guards it."""

    value: Annotated[int, shared] = 0


def holder(lock: Any) -> Any:
    """The part of the lock that sits on the held stack and knows its owner."""
    if isinstance(lock, SeqLock):
        return lock.spin
    return lock.lock if isinstance(lock, LockRef) else lock


def waiting(lock: Any) -> int:
    return int(lock.statistics()["waiting"])


# -- exclusion -------------------------------------------------------------------------------------


def _count_together(kind: Kind, seed: int | None, **options: Any) -> None:
    lock = kind.make("generic")
    counter = Counter()
    inside = []

    def body() -> None:
        for _ in range(3):
            kind.take(lock)
            inside.append(K.cur.id)
            counter.value += 1
            assert inside == [K.cur.id]
            inside.clear()
            kind.drop(lock)

    run(body, body, body, seed=seed, **options)
    assert counter.value == 9
    assert not lock.is_locked()
    assert waiting(lock) == 0


@every
def test_holders_exclude_each_other(kind: Kind) -> None:
    """No update is lost and nobody is let in twice, whatever the schedule."""
    for seed in seeds(150):
        _count_together(kind, seed)


@every
def test_holders_exclude_each_other_under_pos_and_on_one_cpu(kind: Kind) -> None:
    """The same when tasks share one CPU, and under partial order sampling."""
    _count_together(kind, None)
    _count_together(kind, None, cpus=1)
    for seed in seeds(60):
        _count_together(kind, None, strategy=POS(seed))
        _count_together(kind, seed, cpus=1)


def test_without_a_lock_updates_are_lost() -> None:
    """The test above can fail: the same counter without a lock loses updates."""
    lost = 0
    for seed in seeds(50):
        counter = Counter()

        def body(counter: Counter = counter) -> None:
            for _ in range(3):
                counter.value += 1

        run(body, body, seed=seed)
        lost += counter.value < 6
    assert lost > 10


@every
def test_nobody_is_forgotten(kind: Kind) -> None:
    """Many waiters in turn: every schedule ends, so no wake-up is lost."""
    for seed in seeds(60):
        lock = kind.make("generic")

        def body(lock: Any = lock) -> None:
            for _ in range(2):
                step(lock)
                kind.take(lock)
                step(lock)
                kind.drop(lock)

        run(*[body] * 6, seed=seed, cpus=6)


# -- order -----------------------------------------------------------------------------------------


class _Arrivals(Judge):
    """Notes in which order tasks begin to wait."""

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self.jumped = False

    def waiting(self, task: Any, obj: Any) -> None:
        if task not in self.queue:
            self.queue.append(task)

    def got(self, task: Any) -> None:
        """A task has the lock: whether others were waiting longer."""
        if task in self.queue:
            self.jumped |= self.queue[0] is not task
            self.queue.remove(task)
        elif self.queue:
            self.jumped = True


def _was_overtaken(kind: Kind, seed: int) -> bool:
    """Whether in that schedule somebody got the lock before somebody who had waited longer."""
    lock = kind.make("generic")
    judge = _Arrivals()

    def body() -> None:
        for _ in range(2):
            kind.take(lock)
            judge.got(K.cur)
            step(lock)
            kind.drop(lock)

    with world(seed, cpus=5, judge=judge) as machine:
        for _ in range(4):
            machine.spawn(body)
        machine.run()
        assert not machine.violations
    return judge.jumped


@pytest.mark.parametrize("kind", [k for k in KINDS if k.id != "seqlock"], ids=lambda kind: kind.id)
def test_order_of_waiters(kind: Kind) -> None:
    """Queued locks serve in order of arrival; the others are overtaken in some schedule."""
    overtaken = [_was_overtaken(kind, seed) for seed in seeds(80)]
    assert any(overtaken) is not kind.fifo


@pytest.mark.parametrize("kind", [k for k in KINDS if k.sleeps], ids=lambda kind: kind.id)
def test_a_sleeper_is_overtaken_once_at_most(kind: Kind) -> None:
    """A task that takes the lock again and again cannot keep a waiter out for ever."""
    lock = kind.make("generic")
    rounds: list[int] = []
    done: list[bool] = []

    def greedy() -> None:
        for i in range(100):
            kind.take(lock)
            yield_()
            kind.drop(lock)
            if not done:
                rounds.append(i)

    def modest() -> None:
        kind.take(lock)
        done.append(True)
        kind.drop(lock)

    run(greedy, modest)
    assert len(rounds) <= 3


# -- wrong use -------------------------------------------------------------------------------------


@every
def test_release_by_somebody_else(kind: Kind) -> None:
    """A release by a task that does not hold the lock is told to the judge and changes nothing."""
    notes = Notes()
    lock = kind.make("generic")
    state = []

    def owner() -> None:
        kind.take(lock)
        K.machine.spawn(thief)
        step()
        step()
        state.append(holder(lock).owner is K.cur)
        kind.drop(lock)

    def thief() -> None:
        kind.drop(lock)

    with world(strategy=Alternate(), judge=notes) as machine:
        machine.spawn(owner)
        machine.run()
    assert "not held" in notes.seen
    assert state == [True]
    assert not lock.is_locked()


@every
def test_release_of_a_free_lock(kind: Kind) -> None:
    """A release of what nobody holds, or twice, is told to the judge; the lock goes on working."""
    notes = Notes()
    lock = kind.make("generic")

    def body() -> None:
        kind.drop(lock)
        kind.take(lock)
        kind.drop(lock)
        kind.drop(lock)
        kind.take(lock)
        assert lock.is_locked()
        kind.drop(lock)

    run(body, judge=notes)
    assert notes.seen.count("not held") >= 2
    assert not lock.is_locked()


@every
def test_taking_it_twice_hangs(kind: Kind) -> None:
    """No lock here is recursive."""
    lock = kind.make("generic")

    def body() -> None:
        kind.take(lock)
        kind.take(lock)

    assert hangs(body)


@every
def test_release_across_a_pin(kind: Kind) -> None:
    """A lock below a pin is the caller's: its release is told to the judge, and still done."""

    class Promised(Pin):
        key = 0

        def may_release(self, lock: object, task: Any) -> bool:
            return True

    class Unpromised(Pin):
        key = 0

    for pin, expected in ((Unpromised(), True), (Promised(), False)):
        notes = Notes()
        lock = kind.make("generic")

        def body(lock: Any = lock, pin: Pin = pin) -> None:
            kind.take(lock)
            K.cur.held = (pin, K.cur.held)
            kind.drop(lock)
            assert not lock.is_locked()
            assert K.cur.held == (pin, None)
            assert K.cur.ctx.chain() == []
            K.cur.held = None

        run(body, judge=notes)
        assert ("pinned" in notes.seen) is expected


@every
def test_release_out_of_order(kind: Kind) -> None:
    """Locks may be released in any order; what is held stays right."""
    first, second = kind.make("generic 1"), kind.make("generic 2")

    def body() -> None:
        kind.take(first)
        alone = K.cur.ctx.chain()
        kind.take(second)
        kind.drop(first)
        assert second.is_locked() and not first.is_locked()
        assert len(K.cur.ctx.chain()) == len(alone)
        kind.drop(second)
        assert K.cur.ctx.chain() == []
        assert K.cur.held is None

    run(body)


def test_names_and_subclasses_are_checked() -> None:
    """A lock without a class name, or with a ninth subclass, is a mistake of the caller."""
    for kind in KINDS:
        for name in ("", None, 3):
            with pytest.raises(TypeError, match="name of its class"):
                kind.make(name)  # type: ignore[arg-type]

    def body() -> None:
        for lock in (Mutex("m"), SpinLock("s"), RwSem("r"), BitLock("b"), SleepBit("p")):
            with pytest.raises(ValueError, match="0 to 7"):
                lock.lock(8)
            lock.lock(7)
            lock.unlock()

    run(body)


@every
def test_outside_a_task(kind: Kind) -> None:
    """Taking a lock outside of tasks says where it belongs."""
    with pytest.raises(TypeError, match="inside a simulated task"):
        kind.take(kind.make("generic"))


# -- trylock ---------------------------------------------------------------------------------------


@every_tried
def test_trylock(kind: Kind) -> None:
    """A trylock takes a free lock, fails on a taken one, and never waits."""
    assert kind.attempt is not None
    attempt = kind.attempt
    lock = kind.make("generic")
    answers = []

    def owner() -> None:
        answers.append(attempt(lock))
        K.machine.spawn(other)
        answers.append(attempt(lock))
        step()
        step()
        kind.drop(lock)
        answers.append(attempt(lock))
        kind.drop(lock)

    def other() -> None:
        answers.append(attempt(lock))
        if answers[-1]:
            kind.drop(lock)

    run(owner, strategy=Alternate())
    assert answers == [True, False, False, True]


@every_tried
def test_trylock_excludes(kind: Kind) -> None:
    """Trylocks beside locks: still one holder at a time."""
    assert kind.attempt is not None
    attempt = kind.attempt
    failures = 0
    for seed in seeds(80):
        lock = kind.make("generic")
        counter = Counter()
        done = []

        def locker(lock: Any = lock, counter: Counter = counter, done: list[int] = done) -> None:
            for _ in range(2):
                kind.take(lock)
                counter.value += 1
                done.append(1)
                kind.drop(lock)

        def tryer(lock: Any = lock, counter: Counter = counter, done: list[int] = done) -> int:
            failed = 0
            for _ in range(3):
                if attempt(lock):
                    counter.value += 1
                    done.append(1)
                    kind.drop(lock)
                else:
                    failed += 1
            return failed

        with world(seed) as machine:
            machine.spawn(locker)
            machine.spawn(locker)
            task = machine.spawn(tryer)
            machine.run()
            assert machine.violations == []
            failures += task.result
        assert counter.value == len(done)
    assert failures > 5


@pytest.mark.parametrize("make", [Mutex, RwSem, SpinLock, RwLock, BitLock, SleepBit])
def test_tried_locks_can_be_seen_taken_without_a_point_inside(make: Any) -> None:
    """A trylock can meet an empty critical section of a lock that says it is tried, else not."""

    def outcomes(tried: bool) -> set[bool]:
        found = set()
        for seed in seeds(60):
            lock = make("generic", tried=tried)

            def locker(lock: Any = lock) -> None:
                lock.lock()
                lock.unlock()

            def tryer(lock: Any = lock) -> bool:
                got = bool(lock.trylock())
                if got:
                    lock.unlock()
                return got

            with world(seed) as machine:
                machine.spawn(locker)
                task = machine.spawn(tryer)
                machine.run()
                found.add(task.result)
        return found

    assert outcomes(True) == {True, False}
    assert outcomes(False) == {True}


# -- context, statistics, burial -------------------------------------------------------------------


@every
def test_context_while_held(kind: Kind) -> None:
    """Who holds a spinning lock may not sleep; who holds a sleeping one may."""
    lock = kind.make("generic")

    def body() -> None:
        assert not in_atomic()
        kind.take(lock)
        assert in_atomic() is not kind.sleeps
        kind.drop(lock)
        assert not in_atomic()

    run(body)


@every
def test_it_tells_who_has_it(kind: Kind) -> None:
    """``owner``, ``statistics`` and ``repr`` name the class, the owner and the waiters."""
    lock = kind.make("some lock")
    seen: list[Any] = []

    def owner() -> None:
        assert lock.owner is None
        kind.take(lock)
        K.machine.spawn(other, name="other")
        if kind.sleeps:
            yield_()
        seen.append((lock.owner.name, lock.is_locked(), lock.statistics(), repr(lock)))
        kind.drop(lock)

    def other() -> None:
        kind.take(lock)
        kind.drop(lock)

    with world() as machine:
        machine.spawn(owner, name="owner")
        machine.run()
    ((name, locked, statistics, text),) = seen
    assert (name, locked) == ("owner", True)
    assert statistics["owner"] == "owner"
    assert statistics["waiting"] == (1 if kind.sleeps else 0)
    assert "some lock" in text and "owner" in text
    assert "some lock" in repr(lock)
    assert lock.owner is None
    assert lock.statistics()["owner"] is None


@every
def test_a_killed_world_leaves_nothing(kind: Kind) -> None:
    """A world that hung on the lock and was buried frees its tasks, stacks and locks."""
    lock = kind.make("generic")

    class Marker:
        pass

    def body() -> None:
        mark = Marker()
        marks.append(weakref.ref(mark))
        try:
            kind.take(lock)
            kind.take(lock)
        finally:
            kind.drop(lock)

    marks: list[Any] = []
    with world() as machine:
        for _ in range(3):
            machine.spawn(body)
        machine.run()
        assert machine.violations
    parked = len(POOL)
    assert machine.tasks == []
    del machine
    gc.collect()
    assert [mark() for mark in marks] == [None] * len(marks)
    with world() as machine:
        machine.spawn(step)
        machine.run()
    assert len(POOL) == parked
