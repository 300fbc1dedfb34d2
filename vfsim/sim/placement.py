"""Placement: on which CPU a task runs.

A task is placed when it is spawned, and may move when it wakes from sleep; never while it could
run, and never if it was bound to a CPU.  Interrupt handlers are placed by whoever posts them.

The machine counts what makes CPUs matter: ``placed`` tasks, ``sharing`` (tasks beyond the first of
their CPU, and handlers), and whether an ended task has left the CPUs ``uneven``, so that waking
need not look otherwise.  ``turn`` is the CPU whose turn it is to get a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfsim.sim.cpu import Cpu
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


def put_on_cpu(machine: Machine, task: Task, index: int | None) -> None:
    """Put a new task on a CPU: the one named, or taking turns among those with few tasks.

    Raises:
        ValueError: there is no such CPU.
    """
    cpus = machine.cpus
    if index is None:
        cpu = cpus[machine.turn]
        if cpu.tasks and len(cpu.tasks) * len(cpus) > machine.placed:
            cpu = _emptiest(machine)
        machine.turn = (cpu.index + 1) % len(cpus)
    elif 0 <= index < len(cpus):
        cpu = cpus[index]
        task.bound = True
    else:
        raise ValueError(f"this machine has CPUs 0 to {len(cpus) - 1}, not {index}")
    task.cpu = cpu
    if cpu.tasks:
        machine.sharing += 1
    cpu.tasks.append(task)
    machine.placed += 1


def even_out(machine: Machine, task: Task) -> None:
    """A sleeping task wakes: move it to a CPU with fewer tasks, if that evens things out."""
    here = task.cpu
    there = _emptiest(machine)
    if len(there.tasks) + 1 >= len(here.tasks):
        machine.uneven = any(len(cpu.tasks) > len(there.tasks) + 1 for cpu in machine.cpus)
        return
    here.tasks.remove(task)
    if here.curr is task:
        here.curr = None
    machine.sharing -= 1
    if there.tasks:
        machine.sharing += 1
    there.tasks.append(task)
    task.cpu = there


def _emptiest(machine: Machine) -> Cpu:
    """The CPU with the fewest tasks, the next in turn if there are several."""
    turn = machine.turn
    best = machine.cpus[turn]
    for cpu in machine.cpus[turn + 1 :] + machine.cpus[:turn]:
        if len(cpu.tasks) < len(best.tasks):
            best = cpu
    return best
