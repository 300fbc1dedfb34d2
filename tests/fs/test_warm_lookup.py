"""A warm path walk needs no event: nothing is put on a queue, and nobody is switched to."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

import vfsim
from vfsim.filesystems.ramfs import RamFS
from vfsim.sim.clock import Clock
from vfsim.sim.machine import Machine

DIRECTORY = "/1/2/3/4/5"


def _counted(monkeypatch: pytest.MonkeyPatch, seen: Counter[str], cls: type, name: str) -> None:
    original = getattr(cls, name)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen[name] += 1
        return original(self, *args, **kwargs)

    monkeypatch.setattr(cls, name, counted)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something is put on a queue of events, or the CPU is given away."""
    seen: Counter[str] = Counter()
    for name in ("at", "schedule", "raise_softirq", "post_irq", "wake"):
        _counted(monkeypatch, seen, Machine, name)
    _counted(monkeypatch, seen, Clock, "schedule")
    return seen


def _during(events: Counter[str], fn: Any, *args: Any) -> Counter[str]:
    before = events.copy()
    fn(*args)
    return events - before


@pytest.mark.parametrize("checks", [True, False])
def test_warm_lookup_needs_no_event(events: Counter[str], checks: bool) -> None:
    """A hundred stats of a path with six components, all in the dcache, cause no event at all."""

    def process(sys: Any) -> tuple[Counter[str], Counter[str]]:
        for end in range(2, len(DIRECTORY) + 1, 2):
            sys.mkdir(DIRECTORY[:end])
        path = f"{DIRECTORY}/6"
        sys.close(sys.open(path, os.O_CREAT | os.O_EXCL, 0o644))
        sys.stat(path)
        warm: Counter[str] = Counter()
        for _ in range(100):
            warm += _during(events, sys.stat, path)
        return warm, _during(events, sys.msleep, 1)

    with vfsim.Kernel(checks=checks, races=checks) as kernel:
        kernel.mount(RamFS(), "/")
        warm, asleep = kernel.call(process)
    assert warm == Counter()
    assert asleep["at"] and asleep["schedule"], "the counters count"
