"""Work on another CPU: inter-processor interrupts that run a function there.

The function runs in hardirq context on the CPU that is named; on the caller's own it runs at once,
with interrupts off.  Who waits for it burns its CPU meanwhile, and must have interrupts on: of two
CPUs that call each other with interrupts off neither would answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.cpu import local_irq_restore, local_irq_save, preempt_disable, preempt_enable
from vfsim.sim.scheduler import spin
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task


class _Call:
    """One function on its way to some CPUs (Linux: ``struct call_single_data``).

    Attributes:
        left: on how many it has not run.  handler: where it runs just now.
    """

    __slots__ = ("args", "fn", "handler", "left", "waiter")
    name = "a call on another CPU"

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], left: int) -> None:
        self.fn = fn
        self.args = args
        self.left = left
        self.waiter: Task | None = None
        self.handler: Task | None = None

    @property
    def owner(self) -> Task | None:
        """Who runs the function now, if anybody."""
        return self.handler

    def run(self) -> None:
        """Never sleeps.  The interrupt's handler."""
        self.handler = K.cur
        self.fn(*self.args)
        self.handler = None
        self.left -= 1
        if not self.left and self.waiter is not None:
            K.machine.wake(self.waiter)

    def wait(self) -> None:
        """Never sleeps.  Burn the CPU until it has run everywhere."""
        self.waiter = K.cur
        while self.left:
            spin(self)

    def __repr__(self) -> str:
        return f"<{self.name}, {self.left} to go>"


def smp_processor_id() -> int:
    """Never sleeps.  The caller's CPU; it stays that only with preemption off."""
    return K.cur.cpu.index


def smp_call_function_many(
    cpus: list[int], fn: Callable[..., Any], *args: Any, wait: bool = True
) -> None:
    """Never sleeps.  Run ``fn(*args)`` in hardirq context on each of those CPUs but the caller's.

    Args:
        wait: until it has run everywhere.
    """
    preempt_disable()
    here = smp_processor_id()
    others = [cpu for cpu in cpus if cpu != here]
    if others and wait and K.cur.ctx.irqs_off:
        what = "a call on another CPU is waited for with interrupts off, so that none is answered"
        K.machine.judge.corrupt(K.cur, K.cur.cpu, what)
    call = _Call(fn, args, len(others))
    for cpu in others:
        K.machine.post_irq(cpu, call.run, name="ipi")
    if wait:
        call.wait()
    preempt_enable()


def smp_call_function_single(
    cpu: int, fn: Callable[..., Any], *args: Any, wait: bool = True
) -> None:
    """Never sleeps.  Run ``fn(*args)`` on that CPU with interrupts off.

    Raises:
        ValueError: there is no such CPU.
    """
    if not 0 <= cpu < len(K.machine.cpus):
        raise ValueError(f"this machine has CPUs 0 to {len(K.machine.cpus) - 1}, not {cpu}")
    preempt_disable()
    if cpu == smp_processor_id():
        _here(fn, args)
    else:
        smp_call_function_many([cpu], fn, *args, wait=wait)
    preempt_enable()


def on_each_cpu(fn: Callable[..., Any], *args: Any, wait: bool = True) -> None:
    """Never sleeps.  Run ``fn(*args)`` on every CPU with interrupts off, the caller's last."""
    preempt_disable()
    smp_call_function_many(list(range(len(K.machine.cpus))), fn, *args, wait=wait)
    _here(fn, args)
    preempt_enable()


def _here(fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    flags = local_irq_save()
    fn(*args)
    local_irq_restore(flags)
