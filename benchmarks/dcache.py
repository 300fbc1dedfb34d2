"""A large dcache: what a warm lookup costs in it, and how much memory it takes.

The tree has 100 files a directory, all of them 6 components below the root, as many as wanted.  A
lookup among many is compared with one among 100, in the same process and in turns: a hash table
whose chains grew, or anything else that goes over all there is, would show.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from stat import S_IFREG
from statistics import median
from typing import Any

from benchmarks.measure import alone
from benchmarks.namespace import MODES, ON, Calls, SimulatedGround, each

NAME = "dcache"
TOP = "/1/2/3/4"
COMPONENTS = 6
SMALL = 100
SIZES = (1_000, 10_000, 100_000)
FLAT = 1.5
"""The highest ratio that counts as flat: a processor's caches are no part of the algorithm."""
LOOKUPS = 500
CACHED = 100_000
"""How many inodes and dentries the memory is divided by."""
BYTES = 900
"""The most memory, in bytes, that a cached inode and its dentry should take."""


def path(number: int) -> str:
    """Where the file of that number is."""
    return f"{TOP}/{number // SMALL}/{number}"


def plant(calls: Calls, mknod: Callable[[str, int], object], files: range) -> int:
    """Make those files and their directories, opening none; returns how many inodes that were."""
    made = 0
    for number in files:
        if number % SMALL == 0:
            calls.mkdir(f"{TOP}/{number // SMALL}")
            made += 1
        mknod(path(number), S_IFREG | 0o644)
        made += 1
    return made


def grown(mode: str, files: int) -> SimulatedGround:
    """A kernel with so many files."""
    ground = SimulatedGround(mode)
    for end in range(2, len(TOP) + 1, 2):
        ground.run(lambda calls, end=end: calls.mkdir(TOP[:end]))
    ground.run(plant, ground.kernel.sys.mknod, range(files))
    return ground


def lookups(calls: Calls, files: int) -> float:
    """Stat files from all over the tree, each of which has been found before."""
    paths = tuple(path(number * files // LOOKUPS) for number in range(LOOKUPS))
    each(calls.stat, paths)
    return each(calls.stat, paths)


def growth(files: int, mode: str, rounds: int) -> tuple[float, float]:
    """How much more a component costs among so many than among 100, and what it costs, in ns."""
    sizes = (SMALL, files)
    grounds = [grown(mode, size) for size in sizes]
    taken = []
    for _ in range(rounds + 1):
        gc.collect()
        taken.append(
            [ground.run(lookups, size) for ground, size in zip(grounds, sizes, strict=True)]
        )
    ratio = median(large / small for small, large in taken[1:])
    return ratio, median(large for _, large in taken[1:]) / (LOOKUPS * COMPONENTS) * 1e9


def memory(files: int, mode: str) -> float:
    """Bytes that are there because of one inode with its dentry, the checks' own included."""
    ground = grown(mode, SMALL)  # what there is once
    tracemalloc.start(1)
    made = ground.run(plant, ground.kernel.sys.mknod, range(SMALL, SMALL + files))
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / made


def entries(
    rounds: int = 5, sizes: tuple[int, ...] = SIZES, cached: int = CACHED
) -> list[dict[str, Any]]:
    """Lookups in caches of all sizes with the checks on; memory in every mode."""
    found = []
    for files in sizes:
        ratio, ns = alone(growth, files, ON, rounds)
        found.append({
            "name": f"component of a path, {files:,} dentries", "ratio": round(ratio, 3),
            "of": f"among {SMALL}", "target": FLAT, "ok": ratio <= FLAT, "ns": round(ns),
        })  # fmt: skip
    for mode in MODES:
        taken = round(alone(memory, cached, mode))
        found.append({
            "name": f"bytes per inode and dentry, {mode}",
            "ratio": taken, "of": "", "target": BYTES, "ok": taken <= BYTES, "ns": 0,
        })  # fmt: skip
    return found
