"""What the tests of the block layer share: a machine with one disk, watched by the judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vfsim.block.bio import Bio
from vfsim.block.device import (
    FMODE_READ,
    FMODE_WRITE,
    BlockDevice,
    add_disk,
    blkdev_get,
    blkdev_put,
)
from vfsim.block.disk import RamDisk
from vfsim.checks.judge import KernelJudge
from vfsim.explore.strategies import maker
from vfsim.sim.errors import Violation
from vfsim.sim.machine import Machine

MODE = FMODE_READ | FMODE_WRITE
Work = Callable[[BlockDevice], Any]


class Faults:
    """A strategy that changes nothing but says "yes" to one kind of choice, the n-th time."""

    gap = 1 << 29

    def __init__(self, kind: str, *times: int) -> None:
        self.kind = kind
        self.times = times
        self.asked = 0

    def start(self, machine: Machine) -> None:
        """Let it happen at all."""
        machine.faults = (self.kind,)

    def decide(self, ready: list[Any], current: Any) -> int:
        """The default."""
        return 0

    def choose(self, kind: str, n: int) -> int:
        """Now?"""
        if kind != self.kind:
            return 0
        self.asked += 1
        return int(self.asked in self.times)


class World:
    """One machine with one disk; `run` opens it, runs functions on it at once, and closes it."""

    def __init__(
        self, disk: RamDisk | None = None, seed: int | None = None, **options: Any
    ) -> None:
        if seed is not None:
            options["strategy"] = maker("pos" if seed % 2 else "random")(seed, 1000)
        self.machine = Machine(judge=KernelJudge(), **options)
        self.disk = disk or RamDisk(sectors=64)
        self.bdev = add_disk(self.disk, self.machine)

    def run(self, *work: Work, close: bool = True) -> list[Any]:
        """Returns what the functions returned."""
        machine = self.machine
        machine.spawn(blkdev_get, self.bdev, MODE)
        machine.run()
        tasks = [machine.spawn(fn, self.bdev, name=fn.__name__) for fn in work]
        machine.run()
        if close and not machine.stopped:
            self.check()
            machine.spawn(blkdev_put, self.bdev, MODE)
            machine.run()
            self.check()
        return [task.result for task in tasks]

    def check(self) -> None:
        """The invariants; after a broken rule they need not hold."""
        if not self.violations:
            self.bdev._check()

    @property
    def violations(self) -> list[Violation]:
        return self.machine.violations

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.machine.bury()


def run(*work: Work, **options: Any) -> list[Any]:
    """Run functions on a disk, to a clean end."""
    with World(**options) as world:
        results = world.run(*work)
        assert world.violations == []
        return results


def bugs(*work: Work, **options: Any) -> list[tuple[str, str]]:
    """Run functions that break a rule: (rule, blamed) of each violation."""
    with World(**options) as world:
        world.run(*work)
        return [(v.rule, v.blamed) for v in world.violations]


def bio(
    bdev: BlockDevice, op: str, sector: int, data: bytearray, end: Callable[[Bio], None]
) -> Bio:
    return Bio(bdev, op, sector, memoryview(data), end)
