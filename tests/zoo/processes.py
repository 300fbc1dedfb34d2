"""Pairs shown by processes on a filesystem at "/", with races looked for.

A broken kernel is the kernel with some of its functions replaced for the time of the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType
from vfsim.fs.syscalls import Sys
from vfsim.testing.selftest.mutants import patched

Patches = Mapping[str, Callable[..., Any]]
Processes = tuple[Callable[[Sys], Any], ...]

STEPS = 20_000
MIXED = ("pos", "random")


def rule_of(
    setup: Callable[[Sys], Any],
    processes: Processes,
    patches: Patches,
    seed: int,
    fs: type[FileSystemType] = RamFS,
    strategies: tuple[str, ...] = MIXED,
    steps: int = STEPS,
) -> str:
    """What one schedule is caught by: a rule, or what the kernel stumbles over; else ""."""
    kernel = Kernel(
        seed=seed, strategy=strategies[seed % len(strategies)], max_steps=steps, races=True
    )
    try:
        with patched(patches):
            kernel.mount(fs, "/")
            kernel.call(setup)
            for fn in processes:
                kernel.process(fn, name=fn.__name__)
            kernel.machine.run()
            if not kernel.machine.stopped:
                kernel.close()
    except Exception as error:
        if not kernel.violations:
            return type(error).__name__
    finally:
        kernel.machine.bury()
    return kernel.violations[0].rule if kernel.violations else ""


def caught(
    setup: Callable[[Sys], Any],
    processes: Processes,
    patches: Patches,
    fs: type[FileSystemType] = RamFS,
    mended: type[FileSystemType] | None = None,
    schedules: int = 300,
    strategies: tuple[str, ...] = MIXED,
    steps: int = STEPS,
) -> str:
    """What the broken one is caught by; the mended one must be silent for as long and more."""
    for seed in count():
        assert rule_of(setup, processes, {}, seed, mended or fs, strategies, steps) == "", (
            f"false alarm at {seed}"
        )
        rule = rule_of(setup, processes, patches, seed, fs, strategies, steps)
        if rule or seed == schedules:
            break
    for more in range(seed + 1, seed + 100):
        assert rule_of(setup, processes, {}, more, mended or fs, strategies, steps) == "", (
            f"false alarm at {more}"
        )
    return rule


def quietly(call: Callable[..., Any], *args: Any) -> None:
    """Whatever comes of it."""
    try:
        call(*args)
    except OSError:
        pass


# -- what several rows have in common --------------------------------------------------------------


def a_file(sys: Sys) -> None:
    """/a."""
    sys.close(sys.open("/a", os.O_CREAT | os.O_WRONLY))


def looker(sys: Sys) -> None:
    """Walks to /a."""
    quietly(sys.stat, "/a")


def remover(sys: Sys) -> None:
    """The last user of /a removes it: its dentry and inode go."""
    fd = sys.open("/a", os.O_RDONLY)
    sys.unlink("/a")
    sys.close(fd)
