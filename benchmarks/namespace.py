"""Names: what a call on ramfs costs, as a ratio to the same call of two filesystems in memory.

pyfakefs and PyFilesystem2's ``memoryfs`` have no locks, no dcache and no checks.  They come with
the extra ``bench``; without one of them its rows are left out, with a note.

Every operation is measured in a process of its own, in several `MODES`, and there the filesystems
take turns.  With the checks on (races as well) it makes a difference whether anybody is there to
race with: a task that is alone need not be looked at (`vfsim.checks.epochs`).

A `Ground` is a filesystem with a tree that is the same on all: ``/d`` with the files that come and
go, ``/full`` with 1,000 entries, and one file 8 components deep.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import attrs

import vfsim
from benchmarks.measure import alone
from vfsim.checks.races import RACES
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.syscalls import Sys
from vfsim.locks.completion import Completion

NAME = "namespace"
COUNT = 200
"""Calls per round."""
ENTRIES = 1_000
"""Entries of the directory that is listed."""
DEEP = "/1/2/3/4/5/6/7"
ON, BESIDE, OFF = MODES = ("checks on", "checks on, another waits", "checks off")
TARGETS = {"pyfakefs": (0.5, 0.5, 0.5), "memoryfs": (4.0, 4.0, 2.0)}
"""The highest ratio that is good enough in each mode."""
OLD = tuple(f"/d/{n}" for n in range(COUNT))
NEW = tuple(f"/d/new{n}" for n in range(COUNT))


@attrs.frozen
class Calls:
    """The calls of one filesystem, as plain functions of paths.

    Attributes:
        create: makes an empty file that must not exist, and closes it.
        open_close: opens a file for reading, and closes it.
    """

    create: Callable[[str], object]
    open_close: Callable[[str], object]
    stat: Callable[[str], object]
    rename: Callable[[str, str], object]
    unlink: Callable[[str], object]
    mkdir: Callable[[str], object]
    rmdir: Callable[[str], object]
    listdir: Callable[[str], object]


def of_os(os_: Any) -> Calls:
    """The calls of something that looks like ``os``: the simulated kernel, or pyfakefs."""
    open_, close = os_.open, os_.close

    def create(path: str) -> None:
        close(open_(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))

    def open_close(path: str) -> None:
        close(open_(path, os.O_RDONLY))

    return Calls(
        create, open_close, os_.stat, os_.rename, os_.unlink, os_.mkdir, os_.rmdir, os_.listdir
    )


def of_memoryfs(memory: Any) -> Calls:
    """The calls of PyFilesystem2; ``details`` are what stat tells."""
    openbin, getinfo = memory.openbin, memory.getinfo
    return Calls(
        create=lambda path: openbin(path, "x").close(),
        open_close=lambda path: openbin(path, "r").close(),
        stat=lambda path: getinfo(path, ("details",)),
        rename=memory.move,
        unlink=memory.remove,
        mkdir=memory.makedir,
        rmdir=memory.removedir,
        listdir=memory.listdir,
    )


# -- the filesystems -----------------------------------------------------------------------------


class Ground:
    """A filesystem that is called directly."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """``fn(calls, *args)``, where it can call."""
        return fn(self.calls, *args)


class SimulatedGround(Ground):
    """ramfs under a simulated kernel: each run is one process, beside another or not."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        checks = mode != OFF
        self.kernel = vfsim.Kernel(checks=checks, races=checks, max_steps=1 << 28)
        if checks:
            self.kernel.machine.access = RACES
        self.kernel.mount(RamFS(), "/")
        super().__init__(of_os(self.kernel.sys))

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.kernel.call(self._process, fn, *args)

    def _process(self, sys: Sys, fn: Callable[..., Any], *args: Any) -> Any:
        done = Completion("done")
        if self.mode == BESIDE:
            sys.fork(lambda _: done.wait(), name="another")
        result = fn(self.calls, *args)
        done.complete()
        return result


def _pyfakefs() -> Ground:
    from pyfakefs.fake_filesystem import FakeFilesystem
    from pyfakefs.fake_os import FakeOsModule

    return Ground(of_os(FakeOsModule(FakeFilesystem())))


def _memoryfs() -> Ground:
    from fs.memoryfs import MemoryFS

    return Ground(of_memoryfs(MemoryFS()))


OTHERS = {
    "pyfakefs": ("pyfakefs.fake_filesystem", _pyfakefs),
    "memoryfs": ("fs.memoryfs", _memoryfs),
}


def available() -> list[str]:
    """Those of the others that can be imported."""
    found = []
    for name, (module, _) in OTHERS.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"rows against {name} are left out ({error}): install vfsim[bench]",
                  file=sys.stderr)  # fmt: skip
        else:
            found.append(name)
    return found


def plant(calls: Calls) -> None:
    """The tree that all operations find."""
    for path in ("/d", "/full"):
        calls.mkdir(path)
    for end in range(2, len(DEEP) + 1, 2):
        calls.mkdir(DEEP[:end])
    calls.create(f"{DEEP}/8")
    for path in OLD:
        calls.create(path)
    for number in range(ENTRIES):
        calls.create(f"/full/{number}")


# -- the operations ------------------------------------------------------------------------------


def each(call: Callable[[str], object], paths: tuple[str, ...]) -> float:
    """How long it takes to call that with each of those, in seconds."""
    start = process_time()
    for path in paths:
        call(path)
    return process_time() - start


def create(calls: Calls) -> float:
    """Make files that are not there."""
    taken = each(calls.create, NEW)
    each(calls.unlink, NEW)
    return taken


def unlink(calls: Calls) -> float:
    """Remove files that are there."""
    each(calls.create, NEW)
    return each(calls.unlink, NEW)


def mkdir(calls: Calls) -> float:
    """Make directories that are not there."""
    taken = each(calls.mkdir, NEW)
    each(calls.rmdir, NEW)
    return taken


def rename(calls: Calls) -> float:
    """Half of the files get a name that is free, and the one they had again."""
    call = calls.rename
    there = tuple(zip(OLD, NEW, strict=True))[: COUNT // 2]
    start = process_time()
    for old, new in there:
        call(old, new)
    for old, new in there:
        call(new, old)
    return process_time() - start


def listdir(calls: Calls) -> float:
    """Twenty listings count as one round's calls."""
    return each(calls.listdir, ("/full",) * 20) * COUNT / 20


OPERATIONS: dict[str, Callable[[Calls], float]] = {
    "create": create,
    "open+close": lambda calls: each(calls.open_close, OLD),
    "stat": lambda calls: each(calls.stat, OLD),
    "rename": rename,
    "unlink": unlink,
    "mkdir": mkdir,
    f"listdir of {ENTRIES:,}": listdir,
    "stat, 8 deep": lambda calls: each(calls.stat, (f"{DEEP}/8",) * COUNT),
}


def seconds(operation: str, mode: str, others: list[str], rounds: int) -> list[list[float]]:
    """What each round took on ramfs and on each of the others."""
    grounds = [SimulatedGround(mode), *(OTHERS[name][1]() for name in others)]
    for ground in grounds:
        ground.run(plant)
    taken = []
    for _ in range(rounds + 1):
        gc.collect()
        taken.append([ground.run(OPERATIONS[operation]) for ground in grounds])
    return taken[1:]  # the first round warms up


def entries(rounds: int = 5) -> list[dict[str, Any]]:
    """Every operation in every mode, against every other that is there."""
    others = available()
    found = []
    for operation in OPERATIONS:
        for mode, name in enumerate(MODES):
            taken = alone(seconds, operation, name, others, rounds)
            ns = round(median(times[0] for times in taken) / COUNT * 1e9)
            for number, other in enumerate(others, start=1):
                ratio = median(times[0] / times[number] for times in taken)
                target = TARGETS[other][mode]
                found.append({
                    "name": f"{operation}, {name}",
                    "ratio": round(ratio, 3), "of": other, "target": target,
                    "ok": ratio <= target, "ns": ns,
                })  # fmt: skip
    return found
