"""Small worlds for the tests of the checks: run some functions as tasks under the judge, and look
at what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from simpy import Event

from vfsim.checks.judge import KernelJudge
from vfsim.sim.choice import Strategy
from vfsim.sim.errors import Violation
from vfsim.sim.machine import Machine
from vfsim.sim.trace import Trace

Fn = Callable[[], Any]


@contextmanager
def world(
    *fns: Fn, cpus: int = 4, traced: bool = False, strategy: Strategy | None = None
) -> Iterator[Machine]:
    """A machine that has run the functions as tasks; buried afterwards."""
    machine = Machine(
        cpus, strategy=strategy, judge=KernelJudge(), trace=Trace() if traced else None
    )
    try:
        for fn in fns:
            machine.spawn(fn)
        machine.run()
        yield machine
    finally:
        machine.bury()


def verdicts(*fns: Fn, cpus: int = 4, traced: bool = False) -> list[str]:
    """The rules that the functions break, in order."""
    with world(*fns, cpus=cpus, traced=traced) as machine:
        return [v.rule for v in machine.violations]


def first(*fns: Fn, cpus: int = 4, traced: bool = False) -> Violation:
    """The first violation."""
    with world(*fns, cpus=cpus, traced=traced) as machine:
        return machine.violations[0]


def after(ns: int, fn: Fn, *, cpu: int = 0) -> Fn:
    """A task that waits for an interrupt, which runs ``fn`` in hardirq context ``ns`` from now on
    ``cpu``.
    """
    from vfsim.sim.scheduler import schedule_timeout
    from vfsim.sim.state import K

    def task() -> None:
        machine = K.machine

        def device() -> Generator[Event, Any, Any]:
            yield machine.env.timeout(ns)
            machine.post_irq(cpu, fn)

        machine.env.process(device())
        schedule_timeout(ns * 2 + 1)

    return task


def soft(fn: Fn) -> Fn:
    """A task that has ``fn`` run in softirq context and sees it done."""
    from vfsim.sim.scheduler import schedule_timeout
    from vfsim.sim.state import K

    def task() -> None:
        K.machine.raise_softirq(fn)
        schedule_timeout(1000)

    return task
