"""Faults: whatever fails, nothing hangs, leaks or breaks; what does is found with faults only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfsim
from vfsim.explore.explore import search
from vfsim.explore.replay import replay
from vfsim.explore.token import decode
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.syscalls import Sys
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import KernelBug
from vfsim.sim.faults import ALLOC, COPY, IO, KINDS
from vfsim.testing.scenario import Outcome, Scenario, ScenarioProgram

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from tinydisk import TinyDisk
from toyfs import ToyFS


class Nth:
    """Changes nothing, but lets the n-th thing fail that can."""

    gap = 1 << 29

    def __init__(self, nth: int, value: int = 1) -> None:
        self.nth = nth
        self.value = value
        self.asked = 0

    def start(self, machine: Any) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        """The default."""
        return 0

    def choose(self, kind: str, n: int) -> int:
        """Now?"""
        if kind not in KINDS:
            return 0
        self.asked += 1
        return min(self.value, n - 1) if self.asked == self.nth else 0


def steps(sys: Sys, root: str) -> Iterator[Callable[[], Any]]:
    """A bit of everything, each step by itself."""
    fds: list[int] = []

    def create() -> None:
        fds.append(sys.open(f"{root}/a", os.O_CREAT | os.O_RDWR, 0o644))

    yield create
    if fds:
        yield lambda: sys.write(fds[0], b"x" * 5000)
        yield lambda: sys.fsync(fds[0])
        yield lambda: sys.ftruncate(fds[0], 1000)
        yield lambda: sys.pread(fds[0], 8192, 0)
        yield lambda: sys.close(fds[0])
    yield lambda: sys.mkdir(f"{root}/d")
    yield lambda: sys.symlink("a", f"{root}/s")
    yield lambda: sys.readlink(f"{root}/s")
    yield lambda: sys.link(f"{root}/a", f"{root}/b")
    yield lambda: sys.rename(f"{root}/b", f"{root}/d")
    yield lambda: sys.rename(f"{root}/a", f"{root}/c")
    yield lambda: sys.listdir(f"{root}/")
    yield lambda: sys.stat(f"{root}/nothing")
    yield lambda: sys.sync()
    yield lambda: sys.unlink(f"{root}/c")
    yield lambda: sys.rmdir(f"{root}/d")


def everything(sys: Sys, root: str = "") -> None:
    """Do all of it, whatever fails."""
    for step in steps(sys, root):
        try:
            step()
        except OSError:
            pass
    for fd in range(8):
        try:
            sys.close(fd)
        except OSError:
            pass


def life(filesystem: type[Any], kind: str, nth: int, value: int) -> bool:
    """A life from mount to umount in which one thing fails; whether there was so much that can."""
    strategy = Nth(nth, value)
    kernel = vfsim.Kernel(strategy=strategy, faults=(kind,))
    try:
        try:
            kernel.mount(filesystem, "/")
        except KernelBug:
            raise
        except OSError:
            assert kernel.machine.failed
        else:
            kernel.call(everything)
        kernel.close()
        assert kernel.machine.violations == [], (filesystem, kind, nth)
    finally:
        kernel.machine.bury()
    return strategy.asked >= nth


@pytest.mark.parametrize("filesystem", [RamFS, ToyFS, TinyDisk])
@pytest.mark.parametrize(("kind", "value"), [(ALLOC, 1), (COPY, 1), (COPY, 2), (IO, 1)])
def test_each_single_failure(filesystem: type[Any], kind: str, value: int) -> None:
    """Whichever allocation, copy or I/O fails: locks, references and invariants stay right."""
    nth = 1
    while life(filesystem, kind, nth, value):
        nth += 1
    assert (nth > 1) is (kind != IO or filesystem is TinyDisk)


class Clash(Scenario):
    """Two processes that do a bit of everything in one directory."""

    filesystem = RamFS

    @vfsim.task
    def one(self, sys: Sys) -> None:
        everything(sys)

    @vfsim.task
    def two(self, sys: Sys) -> None:
        everything(sys)


@pytest.mark.parametrize("filesystem", [RamFS, ToyFS, TinyDisk])
def test_failures_at_once(filesystem: type[Any]) -> None:
    """The same with several failures, and two processes at once."""
    program = ScenarioProgram(Clash, filesystem, faults="alloc,copy,io")
    found = search(program, schedules=40)
    assert found.failures == [], found.reports()


# -- a filesystem with a bad error path ------------------------------------------------------------


class LockingDirectory(RamDirectory):
    """Keeps a count under a mutex, and forgets it where an inode cannot be had."""

    def mknod(self, dir: Any, dentry: Any, mode: int, dev: int) -> None:
        lock: Mutex = dir.i_sb.s_fs_info.lock
        lock.lock()
        super().mknod(dir, dentry, mode, dev)
        lock.unlock()


class ReferringDirectory(RamDirectory):
    """Takes a reference first, and forgets it where an inode cannot be had."""

    def mknod(self, dir: Any, dentry: Any, mode: int, dev: int) -> None:
        vfsim.fs.dcache.dget(dentry)
        super().mknod(dir, dentry, mode, dev)
        vfsim.fs.dcache.dput(dentry)


class LockingFS(RamFS):
    name = "lockingfs"
    directory = LockingDirectory()

    def fill_super(self, sb: Any, data: Any) -> None:
        super().fill_super(sb, data)

        class Info:
            mode = 0o755
            lock = Mutex("count_lock")

        sb.s_fs_info = Info()


class ReferringFS(RamFS):
    name = "referringfs"
    directory = ReferringDirectory()


class Creators(Scenario):
    """Two processes create files."""

    filesystem = RamFS

    @vfsim.task
    def one(self, sys: Sys) -> Outcome:
        return self.outcome(sys.mkdir, "/a")

    @vfsim.task
    def two(self, sys: Sys) -> Outcome:
        return self.outcome(sys.mkdir, "/b")

    def check(self, sys: Sys, results: Any) -> None:
        assert all(r.ok for r in results)


@pytest.mark.parametrize("filesystem", [LockingFS, ReferringFS])
def test_a_bad_error_path_is_found_with_faults_only(filesystem: type[Any]) -> None:
    """Without faults nothing is found; with them the filesystem is blamed."""
    assert search(ScenarioProgram(Creators, filesystem), schedules=60).failures == []
    assert search(ScenarioProgram(Creators, filesystem, faults=IO), schedules=60).failures == []
    found = search(ScenarioProgram(Creators, filesystem, faults=ALLOC), schedules=60)
    assert found.failures
    assert found.failures[0].violation.blamed.startswith("filesystem"), found.reports()


def test_a_token_carries_the_faults() -> None:
    """A run with a fault is replayed from its token, which says which kinds were on."""
    program = ScenarioProgram(Creators, LockingFS, faults="io,alloc")
    found = search(program, schedules=60)
    token = decode(found.failures[0].token)
    assert dict(token.options)["faults"] == "alloc,io"
    assert "alloc" in [d.kind for d in token.deviations]
    again = replay(token, ScenarioProgram(Creators, LockingFS, faults="alloc,io"))
    assert again.exact and again.reproduced


def test_a_scenario_can_ask_for_faults() -> None:
    """As it can for a device or mount options: then `explore` needs no more words."""

    class Unlucky(Creators):
        filesystem = LockingFS
        faults = "alloc"

    with pytest.raises(vfsim.BugFound, match="count_lock"):
        vfsim.explore(Unlucky, schedules=60)


def test_results_of_a_run_with_a_fault_say_nothing() -> None:
    """A check that counts on success is not asked where something was made to fail."""
    assert search(ScenarioProgram(Creators, faults=ALLOC), schedules=60).failures == []
