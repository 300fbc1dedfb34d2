"""vfsim: the Linux VFS on a workbench.

A simulated kernel that calls a filesystem written in Python as Linux v4.10 calls one written in C,
under the same locks, in as many interleavings as you like, and checks both sides of every call.

    vfsim check myfs.py                    everything it knows to ask, from the command line
    vfsim.Kernel                           a kernel by hand: mount, start processes, run
    vfsim.Scenario, vfsim.task             a few processes and what must be true afterwards
    vfsim.explore(scenario)                that under many schedules, in a test
    vfsim.replay(token)                    one of them again, in a test
    vfsim.fs, vfsim.mm, vfsim.block        what a filesystem is written with

Names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfsim.block.disk import RamDisk
    from vfsim.explore.explore import BugFound, Exploration, explore
    from vfsim.explore.parallel import EngineError
    from vfsim.fs.kernel import Kernel
    from vfsim.sim.errors import KernelBug, Violation
    from vfsim.testing.check import check_filesystem
    from vfsim.testing.replay import replay
    from vfsim.testing.scenario import Outcome, Results, Scenario, task

__version__ = "0.1.0"

__all__ = [
    "BugFound",
    "EngineError",
    "Exploration",
    "Kernel",
    "KernelBug",
    "Outcome",
    "RamDisk",
    "Results",
    "Scenario",
    "Violation",
    "check_filesystem",
    "explore",
    "replay",
    "task",
]

_HOMES = {
    "vfsim.block.disk": ("RamDisk",),
    "vfsim.explore.explore": ("BugFound", "Exploration"),
    "vfsim.explore.parallel": ("EngineError",),
    "vfsim.fs.kernel": ("Kernel",),
    "vfsim.sim.errors": ("KernelBug", "Violation"),
    "vfsim.testing.check": ("check_filesystem",),
    "vfsim.testing.replay": ("replay",),
    "vfsim.testing.scenario": ("Outcome", "Results", "Scenario", "task"),
    "vfsim": ("block", "explore", "fs", "mm"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'vfsim' has no attribute {name!r}")
    if home == "vfsim":
        return import_module(f"vfsim.{name}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
