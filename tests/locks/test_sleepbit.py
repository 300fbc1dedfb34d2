"""The page lock and its kin: locked by one, unlocked by another."""

from __future__ import annotations

import pytest

from tests.sim.helpers import Notes, hangs, run, seeds, step, world
from vfsim.locks.bitlock import SleepBit
from vfsim.sim.cpu import in_interrupt
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def test_a_disowned_bit_is_unlocked_by_the_interrupt() -> None:
    """Locked by a task, given to I/O, unlocked in hardirq context; waiters go on."""
    for seed in seeds(80):
        bit = SleepBit("page")
        done: list[str] = []

        def end_io(bit: SleepBit = bit, done: list[str] = done) -> None:
            assert in_interrupt()
            assert bit.owner is None
            done.append("io")
            bit.unlock()

        def submitter(bit: SleepBit = bit, end_io: object = end_io) -> None:
            bit.lock()
            assert K.cur.held == (bit, None)
            bit.disown()
            assert K.cur.held is None
            assert K.cur.ctx.chain() == []
            assert bit.is_locked()
            K.machine.post_irq(1, end_io)  # type: ignore[arg-type]
            bit.wait()

        def locker(bit: SleepBit = bit) -> None:
            with bit:
                step(bit)

        run(submitter, locker, bit.wait, seed=seed)
        assert done == ["io"]
        assert not bit.is_locked()


def test_a_clock_callback_may_unlock_it() -> None:
    """Also a device model, which is no task, may unlock a disowned bit."""
    bit = SleepBit("page")

    def body() -> None:
        bit.lock()
        bit.disown("the disk")
        assert repr(bit) == "<SleepBit page, kept by the disk, 0 waiting>"
        assert bit.statistics() == {"owner": "the disk", "waiting": 0}
        K.machine.env.timeout(500).callbacks.append(lambda event: bit.unlock())
        bit.wait()
        assert K.machine.now == 500

    run(body)


def test_adopt() -> None:
    """A disowned bit can become somebody's own again, who then must unlock it."""
    notes = Notes()
    bit = SleepBit("page")

    def giver() -> None:
        bit.lock()
        bit.disown()
        K.machine.spawn(taker)

    def taker() -> None:
        bit.adopt()
        assert bit.owner is K.cur
        assert bit.keeper is None
        K.machine.spawn(bit.unlock)
        msleep(1)
        assert bit.owner is K.cur
        bit.unlock()
        assert K.cur.held is None

    run(giver, judge=notes)
    assert notes.seen == ["not held"]


def test_misuse_is_told() -> None:
    """Disowning what one does not own, adopting what is not disowned."""
    notes = Notes()
    bit = SleepBit("page")

    def body() -> None:
        bit.disown()
        bit.adopt()
        bit.lock()
        bit.adopt()
        bit.unlock()
        bit.unlock()

    run(body, judge=notes)
    assert notes.seen == ["not held", "corrupt", "corrupt", "not held"]
    with pytest.raises(ValueError, match="keeper"):
        bit.disown(None)


def test_a_lost_unlock_hangs_its_waiters() -> None:
    """Disowned and never unlocked: whoever waits hangs, and the report can name the keeper."""
    bit = SleepBit("page")

    def body() -> None:
        bit.lock()
        bit.disown()

    assert hangs(body, bit.wait)
    assert bit.keeper == "I/O"


def test_waiting_for_ones_own_bit_hangs() -> None:
    """``wait`` while holding the bit can never return."""
    bit = SleepBit("page")

    def body() -> None:
        bit.lock()
        bit.wait()

    assert hangs(body)


def test_all_waiters_and_one_locker_go_on() -> None:
    """An unlock wakes everybody who only waits."""
    bit = SleepBit("page")
    gone: list[str] = []

    def waiter() -> None:
        bit.wait()
        gone.append("waiter")

    def owner() -> None:
        bit.lock()
        msleep(1)
        bit.unlock()
        msleep(1)
        assert gone == ["waiter"] * 3

    def keeper() -> None:
        bit.lock()

    with world(judge=Notes()) as machine:
        for body in (owner, waiter, waiter, waiter, keeper):
            machine.spawn(body)
        machine.run()
        assert machine.violations == []
