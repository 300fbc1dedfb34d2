"""Race checking: an access to a declared field, and what a whole schedule costs with it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Annotated, Any

from benchmarks.measure import Case, Timed
from benchmarks.scenario import OneName
from vfsim.checks.judge import KernelJudge
from vfsim.explore.execute import execute
from vfsim.explore.program import program_of
from vfsim.explore.strategies.pct import PCT
from vfsim.locks.mutex import Mutex
from vfsim.sim.machine import Machine
from vfsim.sim.shared import guarded_by, kernel_struct

NAME = "PCT schedule, races looked for"
TARGET = 2.0
"""A PCT schedule with race checking, against one without."""


@kernel_struct
class Guarded:
    """A field under a lock, and one that RCU readers see, which makes it a point."""

    lock: Mutex
    size: Annotated[int, guarded_by("lock")] = 0
    next: Annotated[int, guarded_by("lock", rcu=True)] = 0


def _in_task(races: bool, loop: Callable[[Guarded, int], float]) -> Timed:
    def timed(n: int) -> float:
        taken: list[float] = []
        machine = Machine(judge=KernelJudge(races=races), max_steps=1 << 28)
        machine.spawn(lambda: taken.append(loop(Guarded(Mutex("benchmark")), n)))
        machine.run()
        machine.bury()
        return taken[0]

    return timed


def _read(guarded: Guarded, n: int) -> float:
    start = process_time()
    for _ in range(n):
        guarded.size  # noqa: B018
    return process_time() - start


def _write(guarded: Guarded, n: int) -> float:
    start = process_time()
    for _ in range(n):
        guarded.size = 1
    return process_time() - start


def _point(guarded: Guarded, n: int) -> float:
    start = process_time()
    for _ in range(n):
        guarded.next  # noqa: B018
    return process_time() - start


def _locked(guarded: Guarded, n: int) -> float:
    start = process_time()
    for _ in range(n):
        guarded.lock.lock()
        guarded.size  # noqa: B018
        guarded.lock.unlock()
    return process_time() - start


CASES = [
    Case("guarded field read, races off", "F", 1.2, _in_task(False, _read)),
    Case("guarded field read, traced", "F", 5.0, _in_task(True, _read)),
    Case("guarded field write, traced", "F", 5.5, _in_task(True, _write)),
    Case("guarded field read, traced, with a point", "F", 8.0, _in_task(True, _point)),
    Case("lock, read, unlock, races off", "P", None, _in_task(False, _locked)),
    Case("lock, read, unlock, traced", "P", None, _in_task(True, _locked)),
]


def entries(rounds: int = 7, schedules: int = 60) -> list[dict[str, Any]]:
    """Whole schedules of three processes that fight over one name, with and without."""
    program = program_of(OneName)

    def timed(races: bool) -> float:
        start = process_time()
        for seed in range(schedules):
            run = execute(program, PCT(seed, 200), races=races)
            assert not run.violations, run.violations
        return process_time() - start

    ratios = []
    times = []
    for number in range(rounds + 1):
        off, on = timed(False), timed(True)
        if number:  # the first round warms up
            ratios.append(on / off)
            times.append(on / schedules)
    ratio = median(ratios)
    return [
        {
            "name": NAME, "ratio": round(ratio, 2), "of": "PCT schedule", "target": TARGET,
            "ok": ratio <= TARGET, "ns": round(median(times) * 1e9),
        }
    ]  # fmt: skip
