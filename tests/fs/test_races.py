"""Processes that change the same names at once: outcomes are those of some order of the calls.

The calls work on names in two directories that stay where they are.  Then each call takes effect at
one moment, under its locks, so whatever the schedule does, errnos and final tree must be those of
the calls one after the other, in some order that keeps each process's own order.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator

import pytest

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.sim.scheduler import msleep

Call = tuple[str, ...]
Result = tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]

NAMES = ("/d/a", "/d/b", "/e/a", "/e/b")
CALLS = ("create", "mkdir", "symlink", "unlink", "rmdir", "rename", "rename", "noreplace")


def program(seed: int) -> tuple[tuple[str, ...], list[list[Call]]]:
    """What exists at first, and what each process does."""
    rng = random.Random(seed)
    there = tuple(name + rng.choice(("", "/")) for name in NAMES if rng.random() < 0.6)
    shape = rng.choice(((2, 2), (1, 1, 1), (2, 1), (3, 1)))
    return there, [[call(rng) for _ in range(n)] for n in shape]


def call(rng: random.Random) -> Call:
    """One call on one or two of the names."""
    kind = rng.choice(CALLS)
    if kind in ("rename", "noreplace"):
        return (kind, rng.choice(NAMES), rng.choice(NAMES))
    return (kind, rng.choice(NAMES))


def do(sys: Sys, what: Call) -> str:
    """Make a call; its errno's name, or "ok"."""
    kind, *paths = what
    try:
        match kind:
            case "create":
                sys.close(sys.open(paths[0], os.O_CREAT | os.O_EXCL))
            case "symlink":
                sys.symlink("x", paths[0])
            case "noreplace":
                sys.renameat2(paths[0], paths[1], 1)
            case _:
                getattr(sys, kind)(*paths)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def set_up(sys: Sys, there: tuple[str, ...]) -> None:
    """The two directories, and what is in them."""
    for path in ("/d/", "/e/", *there):
        if path.endswith("/"):
            sys.mkdir(path)
        else:
            sys.close(sys.open(path, os.O_CREAT))


def look(sys: Sys) -> tuple[str, ...]:
    """The tree: each name with its type and number of links."""
    found = []
    for dir in ("/d", "/e"):
        found.append(f"{dir} {sys.stat(dir).st_nlink}")
        for name in sorted(sys.listdir(dir)):
            st = sys.lstat(f"{dir}/{name}")
            found.append(f"{dir}/{name} {stat.S_IFMT(st.st_mode):o} {st.st_nlink}")
    return tuple(found)


def run_together(there: tuple[str, ...], processes: list[list[Call]], seed: int) -> Result:
    """All processes at once, under one schedule."""
    with Kernel(seed=seed) as k:
        k.mount(RamFS(), "/")
        k.call(set_up, there)
        tasks = [
            k.process(lambda sys, calls=calls: tuple(do(sys, c) for c in calls), name=f"p{i}")
            for i, calls in enumerate(processes)
        ]
        k.run()
        k._check()
        tree = k.call(look)
    return tuple(task.result for task in tasks), tree


def run_in_order(there: tuple[str, ...], processes: list[list[Call]], order: list[int]) -> Result:
    """One call after the other; ``order`` says whose is next."""
    results: list[list[str]] = [[] for _ in processes]

    def one(sys: Sys) -> tuple[str, ...]:
        set_up(sys, there)
        for i in order:
            results[i].append(do(sys, processes[i][len(results[i])]))
        return look(sys)

    with Kernel() as k:
        k.mount(RamFS(), "/")
        tree = k.call(one)
    return tuple(map(tuple, results)), tree


def orders(counts: tuple[int, ...]) -> Iterator[list[int]]:
    """All ways of merging so many calls of each process."""
    if not any(counts):
        yield []
    for i, n in enumerate(counts):
        if n:
            for rest in orders((*counts[:i], n - 1, *counts[i + 1 :])):
                yield [i, *rest]


@pytest.mark.parametrize("seed", range(60))
def test_every_outcome_is_that_of_some_order(seed: int) -> None:
    """A random program, under twenty schedules."""
    there, processes = program(seed)
    possible = [
        run_in_order(there, processes, order) for order in orders(tuple(map(len, processes)))
    ]
    for schedule in range(20):
        got = run_together(there, processes, schedule)
        assert got in possible, f"schedule {schedule} of {there}, {processes}"


def explore(setup: list[str], *processes: list[Call], schedules: int = 150) -> dict[str, int]:
    """How often each combination of results came up; every run must be clean."""
    seen: dict[str, int] = {}
    for seed in range(schedules):
        results, _ = run_together_at(setup, list(processes), seed)
        seen[results] = seen.get(results, 0) + 1
    return seen


def run_together_at(setup: list[str], processes: list[list[Call]], seed: int) -> tuple[str, None]:
    """As `run_together`, in a tree of one's own."""
    with Kernel(seed=seed) as k:
        k.mount(RamFS(), "/")

        def make(sys: Sys) -> None:
            for path in setup:
                if path.endswith("/"):
                    sys.mkdir(path)
                else:
                    sys.close(sys.open(path, os.O_CREAT))

        k.call(make)
        tasks = [
            k.process(lambda sys, calls=calls: [do(sys, c) for c in calls], name=f"p{i}")
            for i, calls in enumerate(processes)
        ]
        k.run()
        k._check()
    return " ".join("+".join(task.result) for task in tasks), None


def test_crossing_renames_do_not_deadlock() -> None:
    """Directories moved into each other's parents at once: one wins, nobody waits for ever."""
    seen = explore(
        ["/x/", "/y/", "/x/a/", "/y/b/"],
        [("rename", "/x/a", "/y/b/a")],
        [("rename", "/y/b", "/x/a/b")],
    )
    assert set(seen) <= {"ok EINVAL", "EINVAL ok", "ok ENOENT", "ENOENT ok"}
    assert len(seen) > 1


def test_moves_up_and_down_do_not_make_a_loop() -> None:
    """A directory goes down while its new home goes up."""
    seen = explore(
        ["/p/", "/p/q/", "/p/q/r/", "/z/"],
        [("rename", "/p/q/r", "/r")],
        [("rename", "/z", "/p/q/r/z")],
        [("rename", "/p", "/z/p")],
    )
    assert seen


def test_making_in_a_directory_that_is_removed() -> None:
    """Either the name is made and the directory stays, or the directory goes and the name is
    ENOENT.
    """
    seen = explore(["/d/"], [("create", "/d/f")], [("rmdir", "/d")])
    assert set(seen) == {"ok ENOTEMPTY", "ENOENT ok"}


def test_two_create_the_same_name_exclusively() -> None:
    """One of them does."""
    seen = explore([], [("create", "/f")], [("create", "/f")])
    assert set(seen) == {"ok EEXIST", "EEXIST ok"}


class OneAtATime(RamDirectory):
    """Looks names up slowly, and minds being asked twice at once."""

    running: dict[str, None] = {}
    calls = 0

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  As ramfs, after a while."""
        assert dentry.d_name not in self.running
        self.running[dentry.d_name] = None
        type(self).calls += 1
        msleep(1)
        del self.running[dentry.d_name]
        return super().lookup(dir, dentry, flags)


class Slow(RamFS):
    """ramfs with slow lookups."""

    name = "slow"
    directory = OneAtATime()


def test_lookups_of_one_name_are_one() -> None:
    """Two lookups of one name that only the filesystem knows share one call of ``lookup``."""
    for seed in range(40):
        OneAtATime.running.clear()
        OneAtATime.calls = 0
        with Kernel(seed=seed) as k:
            k.mount(Slow(), "/")

            def stat_it(sys: Sys) -> str:
                try:
                    sys.stat("/gone")
                except OSError as error:
                    return errno.errorcode[error.errno or 0]
                return "ok"

            tasks = [k.process(stat_it, name=f"s{i}") for i in range(3)]
            k.run()
            assert [t.result for t in tasks] == ["ENOENT"] * 3
            assert OneAtATime.calls == 1
