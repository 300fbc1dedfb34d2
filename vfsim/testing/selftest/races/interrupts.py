"""Race cases: interrupt handlers, softirqs and timers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.locks.rwlock import RwLock
from vfsim.sim import cpu
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest.races.cell import (
    Cell,
    both,
    clean,
    locked,
    races,
    read,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine


def _with_irq(m: Machine, c: Cell, handler: Callable[[], Any], at: int = 0) -> None:
    """Somebody posts an interrupt to a CPU."""
    m.spawn(lambda: m.post_irq(at, handler), name="device", cpu=3)


@races
def interrupt_and_task(m: Machine, c: Cell) -> None:
    """A handler and a task use a field; nothing is turned off."""
    m.spawn(lambda: write(c), name="task", cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def interrupts_off(m: Machine, c: Cell) -> None:
    """The task has interrupts off on the CPU that the handler runs on."""

    def task() -> None:
        cpu.local_irq_disable()
        write(c)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def handed_to_an_interrupt(m: Machine, c: Cell) -> None:
    """Made with interrupts on, shown to the handler with interrupts off."""
    ready: list[Cell] = []

    def task() -> None:
        d = Cell()
        write(d)
        cpu.local_irq_disable()
        ready.append(d)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)

    def handler() -> None:
        for d in ready:
            write(d)

    _with_irq(m, c, handler)


@races
def interrupts_off_elsewhere(m: Machine, c: Cell) -> None:
    """Interrupts are off on another CPU than the handler's."""

    def task() -> None:
        cpu.local_irq_disable()
        write(c)
        cpu.local_irq_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c), at=1)


@clean
def spin_lock_irq(m: Machine, c: Cell) -> None:
    """A spinlock, taken with interrupts off by the task."""

    def task() -> None:
        flags = c.spin.lock_irqsave()
        write(c)
        c.spin.unlock_irqrestore(flags)

    m.spawn(task, cpu=0)
    _with_irq(m, c, locked(c.spin, write, c), at=1)


@races
def preemption_off_is_not_enough(m: Machine, c: Cell) -> None:
    """The task has only preemption off."""

    def task() -> None:
        cpu.preempt_disable()
        write(c)
        cpu.preempt_enable()

    m.spawn(task, cpu=0)
    _with_irq(m, c, lambda: write(c))


@clean
def handlers_of_one_cpu(m: Machine, c: Cell) -> None:
    """Two handlers on one CPU come one after the other."""
    _with_irq(m, c, lambda: write(c))
    _with_irq(m, c, lambda: write(c))


@races
def handlers_of_two_cpus(m: Machine, c: Cell) -> None:
    """Two handlers on two CPUs may run at once."""
    _with_irq(m, c, lambda: write(c), at=0)
    _with_irq(m, c, lambda: write(c), at=1)


@races
def interrupt_beside_a_softirq(m: Machine, c: Cell) -> None:
    """An interrupt can come during a softirq of its CPU; a lock that both share helps neither."""
    lock = RwLock("shared")

    def reading(access: Callable[[Cell], Any]) -> None:
        lock.read_lock()
        access(c)
        lock.read_unlock()

    def task() -> None:
        m.post_irq(0, reading, write)
        msleep(1)
        m.raise_softirq(reading, read)

    m.spawn(task, cpu=0)


@clean
def posted_with_data(m: Machine, c: Cell) -> None:
    """What came before an interrupt, a softirq or a timer was posted comes before its handler."""

    def task() -> None:
        for start in (m.post_irq, m.timer):
            d = Cell()
            write(d)
            start(1, write, d)
        d = Cell()
        write(d)
        m.raise_softirq(write, d)
        msleep(1)

    m.spawn(task)


@races
def after_the_timer_was_started(m: Machine, c: Cell) -> None:
    """The task goes on writing."""

    def task() -> None:
        m.timer(1000, write, c)
        write(c)
        msleep(1)

    m.spawn(task)


@clean
def softirqs_off(m: Machine, c: Cell) -> None:
    """The task has softirqs off on the CPU where they run."""

    def task() -> None:
        m.raise_softirq(write, c)
        cpu.local_bh_disable()
        write(c)
        cpu.local_bh_enable()

    m.spawn(task, cpu=0)


@clean
def page_lock_ended_by_an_interrupt(m: Machine, c: Cell) -> None:
    """The lock is given to the I/O; its end unlocks, and whoever waited sees what it wrote."""

    def end() -> None:
        write(c)
        c.page.unlock()

    def starter() -> None:
        c.page.lock()
        write(c)
        c.page.disown()
        m.post_irq(1, end)

    def waiter() -> None:
        msleep(1)
        c.page.wait()
        with c.page:
            write(c)

    both(m, starter, waiter)


@clean
def preemption_off_on_one_cpu(m: Machine, c: Cell) -> None:
    """Two tasks that stay on one CPU, each with preemption off: a per-CPU variable."""

    def task() -> None:
        cpu.preempt_disable()
        write(c)
        cpu.preempt_enable()

    m.spawn(task, name="one", cpu=0)
    m.spawn(task, name="other", cpu=0)
