"""Races: the matrix, what a report says, whose they are, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from types import MemberDescriptorType
from typing import Annotated, Any

import attrs
import pytest

import vfsim
from vfsim.checks import clocks, epochs, races
from vfsim.checks.judge import KernelJudge
from vfsim.checks.lifetime import free, is_freed
from vfsim.explore.execute import execute
from vfsim.explore.explore import BugFound, explore, search
from vfsim.explore.program import FunctionProgram
from vfsim.explore.replay import replay
from vfsim.explore.store import Store
from vfsim.explore.strategies.pct import PCT
from vfsim.explore.strategies.pos import POS
from vfsim.explore.token import decode
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.choice import RoundRobin
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep
from vfsim.sim.shared import (
    POINTS,
    accesses_for_its_caller,
    guarded_by,
    install,
    kernel_struct,
    ordered,
    shared,
)
from vfsim.sim.trace import Trace
from vfsim.testing.selftest import races as matrix
from vfsim.testing.selftest.case import Case, judge
from vfsim.testing.selftest.races.cell import Cell


@kernel_struct
class Info:
    """What the tasks of this file use."""

    lock: Mutex
    free: Annotated[int, guarded_by("lock")] = 0
    used: Annotated[int, guarded_by("lock")] = 0
    next: Info | None = None
    deep: Annotated[int, guarded_by("next.lock")] = 0
    hits: Annotated[int, shared] = 0
    note: Annotated[int, ordered] = 0


def locked_and_not(machine: Machine) -> None:
    """One task takes the lock, the other forgets it."""
    info = Info(Mutex("info"))

    def careful() -> None:
        with info.lock:
            info.free += 1

    def careless() -> None:
        info.free += 1

    machine.spawn(careful)
    machine.spawn(careless)


@pytest.mark.parametrize("case", list(matrix.cases()), ids=lambda case: case.id)
def test_the_matrix(case: Case) -> None:
    """Each row races or does not, as it says."""
    outcome = judge(case)
    assert outcome.ok, f"{case.why} {outcome.got} {outcome.found}"


def test_the_matrix_is_large_enough() -> None:
    """Both answers are asked for often."""
    assert len(matrix.RACES) + len(matrix.AT_ONCE) >= 45
    assert len(matrix.CLEAN) >= 65


def test_a_report_names_both_sides() -> None:
    """Both accesses with place, stack and locks; the declaration; who lacks what; a token."""
    with pytest.raises(BugFound) as caught:
        explore(locked_and_not, schedules=5)
    (failure,) = caught.value.exploration.failures
    text = failure.report
    assert failure.violation.rule == "race.Info.free"
    assert failure.violation.blamed == "test"
    assert failure.violation.kind == "soft"
    for part in (
        "careless: read at test_races.py:",
        "holding nothing",
        "careful: write at test_races.py:",
        "holding info",
        "declared: lock; careless does not hold lock",
        "are ordered by nothing",
        "Take the lock that the declaration names",
        "vfsim replay vf",
    ):
        assert part in text, f"{part!r} is missing in\n{text}"


def test_a_race_is_replayed_from_its_token() -> None:
    """The token brings the race back, in the same run."""
    with pytest.raises(BugFound) as caught:
        explore(locked_and_not, schedules=5)
    token = decode(caught.value.exploration.failures[0].token)
    result = replay(token, FunctionProgram(locked_and_not))
    assert result.reproduced
    assert result.exact


def lost_beside_unlocked(machine: Machine) -> Any:
    """An increment is lost in some schedules; in all of them there is a race beside it."""
    info = Info(Mutex("info"))

    def add() -> None:
        info.hits += 1
        info.used += 1

    for _ in range(2):
        machine.spawn(add)

    def check() -> None:
        assert info.hits == 2, "one was lost"

    return check


def test_what_was_found_without_races_is_shrunk_and_replayed_without() -> None:
    """Its token says so: the report, the shrunk schedule and the replay know of no race."""
    program = FunctionProgram(lost_beside_unlocked)
    (failure,) = search(program, schedules=50, races=False, shrink=True).failures
    token = decode(failure.token)
    assert failure.violation.kind == "wrong result" and not token.races
    assert "minimal:" in failure.report and "race." not in failure.report
    result = replay(token, program)
    assert [f.violation.kind for f in result.failures] == ["wrong result"]
    assert result.exact and result.reproduced


def test_a_token_that_says_nothing_looks_for_races() -> None:
    """As tokens did before they could say so: the same run, with its races beside it."""
    program = FunctionProgram(lost_beside_unlocked)
    (failure,) = search(program, schedules=50, races=False, shrink=True).failures
    old = attrs.evolve(decode(failure.token), options=())
    assert old.races
    kinds = [f.violation.kind for f in replay(old, program).failures]
    assert "wrong result" in kinds and "soft" in kinds


def test_known_races_are_left_alone_if_nobody_looks_for_races(tmp_path: Path) -> None:
    """They are neither replayed nor forgotten."""
    program = FunctionProgram(lost_beside_unlocked)
    store = Store(program.target, (), tmp_path / ".vfsim")
    store.keep(search(program, schedules=50).failures)
    without = store.replay_known(lambda token: program, races=False).still
    every = store.replay_known(lambda token: program).still
    assert [f.violation.kind for f in without] == ["wrong result"]
    assert len(every) > 1


def test_it_can_be_turned_off() -> None:
    """Without looking for races the same schedules are clean, and are the same."""
    assert not explore(locked_and_not, schedules=20, races=False).failures
    program = FunctionProgram(matrix_program)
    for strategy in (POS, lambda seed: PCT(seed, 50)):
        for seed in range(10):
            on = execute(program, strategy(seed))
            off = execute(program, strategy(seed), races=False)
            assert (on.steps, on.deviations) == (off.steps, off.deviations)
            assert on.violations
            assert not off.violations


def matrix_program(machine: Machine) -> None:
    """Tasks of a few kinds, with races and without."""
    locked_and_not(machine)
    for row in (
        matrix.interrupts.spin_lock_irq,
        matrix.rcu.rcu_callback,
        matrix.rwlocks.every_shared_lock_passed,
    ):
        row(machine, matrix.Cell())


def test_off_is_the_plain_slot_and_the_plain_lock() -> None:
    """A machine that does not look leaves nothing behind on classes and locks."""
    install(POINTS)
    before = {(owner, name): vars(owner)[name] for owner, name, _ in clocks.HOOKS}
    execute(FunctionProgram(locked_and_not), RoundRobin())
    assert isinstance(Info.__dict__["free"], property)
    assert all(vars(owner)[name] is not was for (owner, name), was in before.items())
    execute(FunctionProgram(locked_and_not), RoundRobin(), races=False)
    assert type(Info.__dict__["free"]) is MemberDescriptorType
    assert all(vars(owner)[name] is was for (owner, name), was in before.items())
    assert Mutex.__enter__ is Mutex.lock
    assert RwSem.lock is RwSem.down_write


def test_every_lock_orders() -> None:
    """Aliases, context managers and the classes of tried locks keep the clocks, too."""
    execute(FunctionProgram(locked_and_not), RoundRobin())
    try:
        assert Mutex.__enter__ is Mutex.lock
        assert RwSem.__enter__ is RwSem.down_write
        assert Mutex.lock.__module__ == SpinLock.unlock.__module__ == clocks.__name__
    finally:
        execute(FunctionProgram(locked_and_not), RoundRobin(), races=False)


def test_a_tried_lock_orders() -> None:
    """A lock whose release is a point orders like any other."""

    def build(machine: Machine) -> None:
        info = Info(Mutex("tried", tried=True))

        def add() -> None:
            with info.lock:
                info.free += 1

        machine.spawn(add)
        machine.spawn(add)

    for seed in range(20):
        assert not execute(FunctionProgram(build), POS(seed)).violations


def test_one_report_for_one_mistake() -> None:
    """A function that forgets the lock around several lines is reported once for each field."""
    info = Info(Mutex("info"))

    def build(machine: Machine) -> None:
        def careless() -> None:
            info.free += 1
            info.free += 1
            info.used = info.free

        def careful() -> None:
            with info.lock:
                info.free = info.used = 0

        machine.spawn(careless)
        machine.spawn(careful)

    run = execute(FunctionProgram(build), RoundRobin())
    assert [v.rule for v in run.violations] == ["race.Info.free", "race.Info.used"]


def test_who_lacks_the_guard_is_blamed() -> None:
    """Also if the access without the guard was the earlier one."""

    def build(machine: Machine) -> None:
        info = Info(Mutex("info"))

        def careless() -> None:
            info.free = 1

        def careful() -> None:
            with info.lock:
                info.free = 2

        machine.spawn(careless)
        machine.spawn(careful)

    (violation,) = execute(FunctionProgram(build), RoundRobin()).violations
    assert "careless" in violation.about
    assert "careless does not hold lock" in violation.details[-1]


def test_a_helper_accesses_for_its_caller() -> None:
    """The place of a race inside a helper is where the helper was called."""

    @accesses_for_its_caller
    def set_free(info: Info, value: int) -> None:
        info.free = value

    def build(machine: Machine) -> None:
        info = Info(Mutex("info"))

        def caller() -> None:
            set_free(info, 1)

        machine.spawn(caller)
        machine.spawn(caller)

    (violation,) = execute(FunctionProgram(build), RoundRobin()).violations
    assert violation.about.endswith("caller")


def test_a_path_of_several_steps() -> None:
    """The guard of a field may be another object's lock."""

    def build(machine: Machine) -> None:
        parent = Info(Mutex("parent"))
        child = Info(Mutex("child"), next=parent)

        def right() -> None:
            with parent.lock:
                child.deep = 1

        def wrong() -> None:
            with child.lock:
                child.deep = 1

        machine.spawn(right)
        machine.spawn(wrong)

    (violation,) = execute(FunctionProgram(build), RoundRobin()).violations
    assert violation.details[-1] == "declared: next.lock; wrong does not hold next.lock"


def test_a_kernel_by_hand() -> None:
    """``Kernel(races=True)`` looks, ``Kernel()`` does not."""
    for wanted in (True, False):
        with vfsim.Kernel(races=wanted) as kernel:
            info = Info(Mutex("info"))

            def task(sys: Any, info: Info = info) -> None:
                info.note += 1

            kernel.process(task)
            kernel.process(task)
            if wanted:
                with pytest.raises(vfsim.KernelBug, match=r"race\.Info\.note"):
                    kernel.run()
            else:
                kernel.run()


def test_two_worlds_do_not_mix() -> None:
    """What was done in one world says nothing about another."""
    info = Info(Mutex("info"))

    def touch() -> None:
        info.free += 1

    machines = [Machine(judge=KernelJudge(races=True)) for _ in range(2)]
    for machine in machines:
        machine.spawn(touch)
        machine.run()
        assert not machine.violations
    for machine in machines:
        machine.bury()


def test_races_are_found_with_a_trace_and_without() -> None:
    """The same signatures, whether or not the run is traced."""
    program = FunctionProgram(matrix_program)
    for seed in range(20):
        plain = execute(program, POS(seed))
        traced = execute(program, POS(seed), Trace())
        assert [v.signature for v in plain.violations] == [v.signature for v in traced.violations]


def test_tables_name_what_exists() -> None:
    """Every hook is a method of its own class, none is named twice."""
    names = [(owner, name) for owner, name, _ in clocks.HOOKS]
    assert len(set(names)) == len(names)
    assert all(name in vars(owner) for owner, name in names)
    assert races.RACES is not None


@kernel_struct
class Beside:
    """Two fields that nothing protects."""

    before: Annotated[int, ordered] = 0
    after: Annotated[int, ordered] = 0


def _writes_on_both_sides(machine: Machine, come: Any) -> list[str]:
    """The races of a task that writes, lets somebody come who reads, and writes."""
    beside = Beside()

    def reads() -> None:
        assert beside.before + beside.after >= 0

    def writes() -> None:
        beside.before = 1
        come(reads)
        beside.after = 1
        msleep(1)

    machine.spawn(writes)
    machine.run()
    machine.bury()
    return [violation.rule for violation in machine.violations]


@pytest.mark.parametrize("who", ["task", "handler", "timer", "callback", "second callback"])
def test_who_was_alone_is_looked_at_when_somebody_comes(who: str) -> None:
    """What it did before comes before them, what it does then races; however they come."""
    machine = Machine(judge=KernelJudge(races=True))

    def come(reads: Any) -> None:
        if who == "task":
            machine.spawn(reads)
        elif who == "handler":
            machine.post_irq(1, reads)
        elif who == "timer":
            machine.timer(10, reads)
        else:
            if who == "second callback":  # it comes with one that is nobody
                call_rcu(free, Beside())
            call_rcu(reads)

    assert _writes_on_both_sides(machine, come) == ["race.Beside.after"]


def test_what_only_frees_is_nobody() -> None:
    """A task that waits for memory to be given back after a grace period is still alone."""
    machine = Machine(judge=KernelJudge(races=True))
    gone, alone = Beside(), []

    def life() -> None:
        call_rcu(free, gone)
        msleep(1)
        alone.append(is_freed(gone) and epochs.ALONE[0])

    machine.spawn(life)
    machine.run()
    assert alone == [True] and machine.violations == []
    machine.bury()


def test_who_was_alone_may_know_what_a_failed_window_shows() -> None:
    """What a task used while nobody looked is its own, wherever it reads it again later."""
    machine = Machine(judge=KernelJudge(races=True))

    def life() -> None:
        cell, peer = Cell(), Cell()
        cell.peer = peer
        assert peer.data == 0
        machine.spawn(lambda: change(cell))
        seq = cell.seqlock.read_begin()
        assert cell.peer is peer
        msleep(1)
        assert cell.seqlock.read_retry(seq)
        assert peer.data == 0

    def change(cell: Cell) -> None:
        with cell.seqlock:
            cell.pair = 1

    machine.spawn(life)
    machine.run()
    machine.bury()
    assert machine.violations == []


def test_nobody_is_alone_beside_a_device() -> None:
    """An interrupt that a device model posts comes after nothing that the task did."""
    machine = Machine(judge=KernelJudge(races=True))
    readers: list[Any] = []

    def device() -> Any:
        yield machine.env.timeout(10)
        machine.post_irq(1, readers[0])

    machine.env.process(device())
    found = _writes_on_both_sides(machine, readers.append)
    assert found == ["race.Beside.before", "race.Beside.after"]
