"""The fast path against the slow reference checker, on random programs: the same verdicts in every
run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import vfsim
from examples.tinydisk import TinyDisk
from tests.checks import programs
from vfsim.checks import lockdep, orders, reference, steps
from vfsim.checks.judge import KernelJudge
from vfsim.explore.execute import execute
from vfsim.explore.program import program_of
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.filesystems.ramfs import RamFS
from vfsim.sim.choice import RoundRobin
from vfsim.sim.context import SHARED
from vfsim.sim.machine import Machine
from vfsim.sim.trace import Trace

PROGRAMS = 2_400
WRONG = 0.3  # of the programs, at least
BLOCKS = 6

Verdicts = set[tuple[str, ...]]

_OF_RULE = {"wait.deadlock": "deadlock", "lockdep.corrupt": "corrupt"}


def fast(
    seed: int, program: programs.Program, trace: Trace | None, old: bool = False
) -> tuple[Verdicts, list[Any]]:
    """The verdicts of the checks on one run, and the signatures of its violations."""
    judge = KernelJudge(steps.Rules(mode="4.9") if old else steps.DEFAULT)
    strategy = RandomWalk(seed) if seed % 4 else RoundRobin()
    machine = Machine(1 + seed % 3, strategy, judge, trace, max_steps=20_000)
    try:
        programs.start(machine, program)
        machine.run()
        found = {tuple(word.removeprefix("lockdep.") for word in f) for f in judge.findings}
        for v in machine.violations:
            if v.rule == "lockdep.recursion" and v.kind == "hard":
                found.add(("deadlock",))
            elif v.rule in _OF_RULE:
                found.add((_OF_RULE[v.rule],))
            elif v.rule.startswith(("wait.", "no-progress")):
                found.add(("hang",))
        return found, [v.signature for v in machine.violations]
    finally:
        machine.bury()


def compare(seed: int, old: bool = False) -> tuple[str, Verdicts]:
    """What differs between the checkers on the program of a seed, or ""; and the slow one's
    verdicts.
    """
    program = programs.generate(seed)
    untraced, signatures = fast(seed, program, None, old)
    trace = Trace(stacks=False)
    traced, again = fast(seed, program, trace, old)
    slow = reference.reference(trace.events, old)
    problems = []
    if untraced != traced or signatures != again:
        problems.append(
            f"without a trace {sorted(untraced)} {signatures}, with one {sorted(traced)} {again}"
        )
    if traced != slow:
        problems.append(f"only fast: {sorted(traced - slow)}, only slow: {sorted(slow - traced)}")
    if problems:
        problems += [f"the program of seed {seed}:", programs.text(program)]
    return "\n".join(problems), slow


@pytest.mark.parametrize("block", range(BLOCKS))
def test_fast_and_slow_agree(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, untraced and slow verdicts are the same set, whatever the process saw before."""
    each = PROGRAMS // BLOCKS
    wrong = 0
    for seed in range(block * each, (block + 1) * each):
        if seed % 2:  # half of the programs run as the first of their process
            monkeypatch.setattr(lockdep, "KNOWN", {})
        difference, verdicts = compare(seed)
        assert not difference, difference
        wrong += bool(verdicts)
    assert WRONG * each <= wrong <= 0.9 * each, f"{wrong} of {each} programs are wrong somewhere"


def test_they_agree_on_the_old_rules() -> None:
    """So they do on those of v4.9, which give other verdicts on some programs."""
    others = 0
    for seed in range(PROGRAMS // 6):
        difference, verdicts = compare(seed, old=True)
        assert not difference, difference
        others += verdicts != compare(seed)[1]
    assert others >= 5


def test_the_programs_break_every_rule() -> None:
    """The random programs reach every verdict there is."""
    missing = {
        "circular", "corrupt", "deadlock", "hang", "held-at-exit", "irq-inversion", "recursion",
        "sleep-in-atomic", "unlock-not-held",
    }  # fmt: skip
    for seed in range(PROGRAMS):
        trace = Trace(stacks=False)
        fast(seed, programs.generate(seed), trace)
        missing -= {verdict[0] for verdict in reference.reference(trace.events)}
        if not missing:
            break
    assert not missing


def _never(*args: Any) -> None:
    return None


def _no_uses(*args: Any) -> Any:
    return iter(())


def _all_clean(self: orders.Known, step: steps.Step) -> bool:
    step.clean = True
    return True


@pytest.mark.parametrize(
    ("target", "name", "broken"),
    [
        (orders.Order, "_way_back", _never),
        (orders.Order, "_inversions", _no_uses),
        (steps, "_again", _never),
        (steps, "_covered", _never),
        (steps, "_opens", _no_uses),
        (steps, "recursive", lambda found, rules: bool(found.key & SHARED)),
        (orders.Known, "look", _all_clean),
        (lockdep.Lockdep, "exposed", _never),
        (KernelJudge, "waiting", _never),
    ],
    ids=[
        "cycles",
        "inversions",
        "recursion",
        "nests",
        "opens",
        "readers",
        "union",
        "exposure",
        "waits",
    ],
)
def test_the_comparison_has_teeth(
    target: Any, name: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast path with one part missing is found out."""
    monkeypatch.setattr(target, name, broken)
    monkeypatch.setattr(lockdep, "KNOWN", {})
    assert any(compare(seed)[0] for seed in range(PROGRAMS))


def test_the_comparison_of_the_old_rules_has_teeth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembering an order that is only to be looked at is found out."""
    monkeypatch.setattr(orders.Order, "_forget_passing", _never)
    monkeypatch.setattr(lockdep, "KNOWN", {})
    assert any(compare(seed, old=True)[0] for seed in range(PROGRAMS))


def test_the_reference_is_independent() -> None:
    """The slow checker imports nothing of the fast path."""
    import ast
    import inspect

    for node in ast.walk(ast.parse(inspect.getsource(reference))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vfsim"):
            assert node.module == "vfsim.sim.trace"


class OnRam(vfsim.Scenario):
    """Three processes fight over two names."""

    filesystem: Any = RamFS

    def setup(self, sys: Any) -> None:
        sys.close(sys.open("/a", os.O_CREAT | os.O_RDWR, 0o644))
        sys.sync()

    @vfsim.task
    def renamer(self, sys: Any) -> Any:
        return self.outcome(sys.rename, "/a", "/b")

    @vfsim.task
    def unlinker(self, sys: Any) -> Any:
        return self.outcome(sys.unlink, "/a")

    @vfsim.task
    def writer(self, sys: Any) -> Any:
        fd = sys.open("/b", os.O_CREAT | os.O_RDWR, 0o644)
        sys.write(fd, b"hello")
        return self.outcome(sys.fsync, fd)


class OnDisk(OnRam):
    """The same with pages, buffers, I/O and interrupts."""

    filesystem = TinyDisk


@pytest.mark.parametrize("scenario", [OnRam, OnDisk])
def test_fast_and_slow_agree_on_the_kernel(scenario: type[OnRam]) -> None:
    """The kernel's own locking, seen in full, is as clean for the slow checker as for the fast."""
    program = program_of(scenario)
    for seed in range(10):
        trace = Trace(stacks=False)
        found: list[Verdicts] = []
        run = execute(
            program,
            POS(seed),
            trace,
            inspect=lambda machine, found=found: found.append(set(machine.judge.findings)),
        )
        assert not run.violations
        assert found == [reference.reference(trace.events)] == [set()]


@pytest.mark.soak
def test_fast_and_slow_agree_for_long() -> None:
    """The same on a hundred thousand programs."""
    for seed in range(PROGRAMS, 100_000):
        difference, _ = compare(seed)
        assert not difference, difference
