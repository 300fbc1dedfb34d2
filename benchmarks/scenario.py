"""Whole schedules: three processes rename, unlink and create one name, with all checks on."""

from __future__ import annotations

import os
from statistics import median
from time import process_time
from typing import Any

import vfsim
from examples.toyfs import ToyFS
from vfsim.explore.execute import execute
from vfsim.explore.program import program_of
from vfsim.explore.strategies.pos import POS

NAME = "schedules per second and core"
AIM = 2_000
"""What to aim at on a two-core cloud machine; reported, never asserted."""


class OneName(vfsim.Scenario):
    """Three processes fight over one name."""

    filesystem = ToyFS

    def setup(self, sys: Any) -> None:
        sys.mkdir("/d")
        sys.close(sys.open("/d/a", os.O_CREAT | os.O_RDWR, 0o644))

    @vfsim.task
    def renamer(self, sys: Any) -> Any:
        return self.outcome(sys.rename, "/d/a", "/d/b")

    @vfsim.task
    def unlinker(self, sys: Any) -> Any:
        return self.outcome(sys.unlink, "/d/a")

    @vfsim.task
    def creator(self, sys: Any) -> Any:
        return self.outcome(sys.open, "/d/a", os.O_CREAT | os.O_EXCL, 0o644)


def entries(rounds: int = 5, schedules: int = 200) -> list[dict[str, Any]]:
    """The throughput under POS: worlds built, run, checked and buried."""
    program = program_of(OneName)
    rates = []
    points = []
    for number in range(rounds + 1):
        start = process_time()
        for seed in range(schedules):
            run = execute(program, POS(number * schedules + seed))
            assert not run.violations, run.violations
            points.append(run.steps)
        if number:  # the first round warms up
            rates.append(schedules / (process_time() - start))
    rate = median(rates)
    shared = {"of": "", "ok": True, "ns": 0}
    return [
        {"name": NAME, "ratio": round(rate), "target": AIM, **shared, "ok": rate >= AIM},
        {"name": "points per schedule", "ratio": median(points), "target": None, **shared},
    ]
