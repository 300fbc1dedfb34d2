"""Lockrefs: the count and the lock change as one."""

from __future__ import annotations

from tests.sim.helpers import Alternate, Notes, hangs, run, seeds, step, world
from vfsim.locks.lockref import DEAD, LockRef
from vfsim.sim.state import K


def test_gets_and_puts_balance() -> None:
    """Gets and puts from many tasks leave the count as it was, with and without the lock held."""
    for seed in seeds(120):
        ref = LockRef("ref")

        def user(ref: LockRef = ref) -> None:
            for _ in range(3):
                ref.get()
                assert ref.put_or_lock()

        def holder(ref: LockRef = ref) -> None:
            for _ in range(3):
                with ref.lock:
                    before = ref.count
                    step(ref.lock)
                    assert ref.count == before  # the count is the holder's

        run(user, user, holder, seed=seed)
        assert ref.count == 1


def test_the_last_put_locks() -> None:
    """``put_or_lock`` with one reference left takes the lock and leaves the count."""
    ref = LockRef("ref")

    def body() -> None:
        assert not ref.put_or_lock()
        assert ref.lock.owner is K.cur
        assert ref.is_locked()
        assert ref.count == 1
        ref.lock.unlock()

    run(body)


def test_put_return() -> None:
    """``put_return`` counts down while it can, and gives up on a held lock or an empty count."""
    ref = LockRef("ref", 2)

    def body() -> None:
        assert ref.put_return() == 1
        with ref.lock:
            assert ref.put_return() == -1
        assert ref.put_return() == 0
        assert ref.put_return() == -1
        assert ref.count == 0

    run(body)


def test_conditional_gets() -> None:
    """From zero only ``get_not_dead`` succeeds; a dead one stays dead."""
    ref = LockRef("ref", 0)

    def body() -> None:
        assert not ref.get_not_zero()
        assert ref.get_not_dead()
        assert ref.get_not_zero()
        assert ref.count == 2
        with ref.lock:
            ref.mark_dead()
        assert not ref.get_not_dead()
        assert not ref.get_not_zero()
        assert ref.count == DEAD
        assert "dead" in repr(ref)

    run(body)


def test_a_conditional_get_waits_for_the_lock() -> None:
    """While somebody decides under the lock, a get waits and sees the decision."""
    ref = LockRef("ref", 0)
    answers: list[bool] = []

    def killer() -> None:
        with ref.lock:
            K.machine.spawn(getter)
            step(ref.lock)
            step(ref.lock)
            ref.mark_dead()

    def getter() -> None:
        answers.append(ref.get_not_dead())

    with world(strategy=Alternate()) as machine:
        machine.spawn(killer)
        machine.run()
        assert machine.violations == []
    assert answers == [False]


def test_misuse_is_told() -> None:
    """A get on a dead one, and killing it without the lock, are told to the judge."""
    notes = Notes()
    ref = LockRef("ref")

    def body() -> None:
        ref.mark_dead()
        ref.get()

    run(body, judge=notes)
    assert notes.seen == ["not held", "corrupt"]


def test_a_get_under_ones_own_lock_hangs() -> None:
    """As in Linux, a plain get by the holder of the lock waits for itself."""
    ref = LockRef("ref")

    def body() -> None:
        with ref.lock:
            ref.get()

    assert hangs(body)


def test_it_tells_its_count() -> None:
    """``statistics`` and ``repr`` give the count beside the lock."""
    ref = LockRef("ref", 3)
    assert ref.statistics() == {"count": 3, "owner": None, "waiting": 0}
    assert repr(ref).startswith("<LockRef ref, 3 references")
