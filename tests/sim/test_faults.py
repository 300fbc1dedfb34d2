"""Faults: asked about where they are on, told in the flags of an allocation, replayed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.helpers import Notes, run, world
from vfsim.explore.strategies import maker
from vfsim.explore.strategies.replay import Replay
from vfsim.locks.memalloc import GFP_ATOMIC, GFP_KERNEL, GFP_NOFAIL, GFP_NOFS, GFP_NOIO, GFP_NOWAIT
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import preempt_disable, preempt_enable
from vfsim.sim.faults import ALLOC, COPY, IO, KINDS, copied, fails, fault_in, kinds


class Always:
    """A strategy in which everything fails that can."""

    gap = 1 << 29

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def start(self, machine: Any) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        """The default."""
        return 0

    def choose(self, kind: str, n: int) -> int:
        """The last number."""
        self.asked.append((kind, n))
        return n - 1


def everything() -> list[str]:
    """What fails of one operation of each kind."""
    found = []
    for name, ask in (("kmalloc", kmalloc), ("fault_in", fault_in)):
        try:
            ask()
        except OSError as error:
            found.append(f"{name} {error.errno}")
    if copied(8) < 8:
        found.append("copied")
    if fails(IO):
        found.append("io")
    return found


@pytest.mark.parametrize(
    ("on", "failed"),
    [
        ((), []),
        ((ALLOC,), ["kmalloc 12"]),
        ((COPY,), ["fault_in 14", "copied"]),
        ((IO,), ["io"]),
        ((ALLOC, COPY, IO), ["kmalloc 12", "fault_in 14", "copied", "io"]),
    ],
)
def test_only_what_is_on_is_asked_about(on: tuple[str, ...], failed: list[str]) -> None:
    """A kind that is off costs no choice; one that is on fails as its choice says."""
    strategy = Always()
    seen: list[str] = []
    with world(strategy=strategy, faults=on) as machine:
        machine.spawn(lambda: seen.extend(everything()))
        machine.run()
        assert machine.failed == len(failed)
    assert seen == failed
    assert len(strategy.asked) == len(failed)
    assert {kind for kind, _ in strategy.asked} == set(on)


def test_a_quiet_run_has_no_faults() -> None:
    """Round-robin never lets anything fail, and outside of tasks nothing is asked."""
    run(lambda: everything() == [] or pytest.fail("something failed"), faults=KINDS)
    assert everything() == []


def test_flags() -> None:
    """``NOFAIL`` does not fail, whatever else is said; the others do."""

    def body() -> None:
        kmalloc(GFP_KERNEL | GFP_NOFAIL)
        kmalloc(GFP_NOFS | GFP_NOFAIL)
        for gfp in (GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_ATOMIC, GFP_NOWAIT):
            with pytest.raises(OSError, match="memory"):
                kmalloc(gfp)

    run(body, strategy=Always(), faults=(ALLOC,))


def test_an_allocation_that_might_sleep_is_told_in_atomic_context() -> None:
    """Also where faults are off; ``GFP_ATOMIC`` and ``GFP_NOWAIT`` may be used anywhere."""
    notes = Notes()

    def body() -> None:
        with SpinLock("lock"):
            kmalloc(GFP_ATOMIC)
            kmalloc(GFP_NOWAIT)
            assert notes.seen == []
            for gfp in (GFP_KERNEL, GFP_NOFS, GFP_NOIO | GFP_NOFAIL):
                kmalloc(gfp)
        preempt_disable()
        kmalloc()
        preempt_enable()
        kmalloc()

    run(body, judge=notes)
    assert notes.seen == ["sleeping"] * 4


def test_copies_come_up_short() -> None:
    """All, half, or nothing of the bytes."""

    class Cycle(Always):
        """One after the other."""

        def choose(self, kind: str, n: int) -> int:
            """The next number."""
            self.asked.append((kind, n))
            return (len(self.asked) - 1) % n

    seen: list[int] = []
    run(lambda: seen.extend(copied(9) for _ in range(3)), strategy=Cycle(), faults=(COPY,))
    assert seen == [9, 4, 0]


@pytest.mark.parametrize("strategy", ["pos", "random", "pct"])
def test_faults_are_rare_and_are_replayed(strategy: str) -> None:
    """Some runs have one, most operations succeed, and the deviations bring a run back."""

    def life(strategy: Any) -> tuple[list[int], list[Any]]:
        failed: list[int] = []

        def body() -> None:
            for i in range(20):
                try:
                    kmalloc()
                except OSError:
                    failed.append(i)

        with world(strategy=strategy, faults=(ALLOC,)) as machine:
            machine.spawn(body)
            machine.spawn(body)
            machine.run()
            return failed, machine.deviations

    total = 0
    for seed in range(30):
        failed, deviations = life(maker(strategy)(seed, 50))
        assert life(Replay(deviations))[0] == failed
        total += len(failed)
    assert 30 < total < 600


def test_names_of_kinds() -> None:
    """A list or words with commas, in one order, and no others."""
    assert kinds("io, alloc") == kinds(["io", "alloc"]) == (ALLOC, IO)
    assert kinds("") == ()
    with pytest.raises(ValueError, match="no fault called 'memory'"):
        kinds("memory")
