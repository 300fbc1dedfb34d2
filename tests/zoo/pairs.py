"""How a pair is shown: the broken kernel is caught under some schedule, its fixed twin under none.

A broken kernel is the kernel with some of its functions replaced for the time of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.fs.worlds import Plain
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import SuperBlock
from vfsim.sim.errors import Violation
from vfsim.testing.selftest.mutants import patched

Setup = Callable[[Any], Any]
Patches = Mapping[str, Callable[..., Any]]

STEPS = 20_000


def found(
    make: Callable[[Kernel, SuperBlock], None],
    seed: int,
    strategy: str,
    patches: Patches | None = None,
    fs: Callable[[], Plain] = Plain,
) -> list[Violation]:
    """What is found in one schedule of a world with a plain filesystem at /m.

    Args:
        make: spawns the tasks.
    """
    kernel = Kernel(seed=seed, strategy=strategy, max_steps=STEPS)
    try:
        with patched(patches or {}):
            kernel.mount(RamFS(), "/")
            kernel.call(lambda sys: sys.mkdir("/m"))
            kernel.mount(fs(), "/m")
            make(kernel, list(kernel.machine.data["supers"].super_blocks)[-1])
            kernel.machine.run()
            if not kernel.machine.stopped:
                kernel.close()
    finally:
        kernel.machine.bury()
    return kernel.violations


def caught(
    make: Callable[[Kernel, SuperBlock], None],
    patches: Patches,
    strategies: tuple[str, ...] = ("pos", "pct", "random"),
    schedules: int = 300,
    fs: Callable[[], Plain] = Plain,
) -> str:
    """The rule that the broken kernel is first caught by; the fixed one is silent for as long."""
    rule = ""
    for seed in range(schedules):
        strategy = strategies[seed % len(strategies)]
        assert found(make, seed, strategy, fs=fs) == [], f"{strategy} {seed}: a false alarm"
        broken = found(make, seed, strategy, patches, fs)
        if broken:
            rule = broken[0].rule
            break
    for seed in range(schedules, schedules + 60):
        strategy = strategies[seed % len(strategies)]
        assert found(make, seed, strategy, fs=fs) == [], f"{strategy} {seed}: a false alarm"
    return rule
