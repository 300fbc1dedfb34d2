"""The end of a world: tasks that have not ended are killed, each explicitly and finitely.

A hard bug stops a world where it is, because the ``finally: unlock()`` of its tasks must not act
after death.  Only then, when nothing is looked at any more, each stack is unwound by raising
`Killed` in it.  Whoever catches that and goes on is killed again at the next point; whoever will
not listen is cut off, its stack kept in ``LOST`` for ever, since throwing it away would run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from greenlet import getcurrent

from vfsim.sim.errors import Killed, Misuse
from vfsim.sim.state import INF, NOBODY, K
from vfsim.sim.task import DONE, LOST, trim_pool

if TYPE_CHECKING:
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task

_LAST_WORDS = 10_000  # points a dying task may still pass before it is cut off
_DEATHS = 20  # times a dying task may swallow Killed before it is cut off


def bury(machine: Machine) -> None:
    """End every task of a world, from outside of tasks.

    Raises:
        Misuse: it was called inside a task.
    """
    if machine.dead:
        return
    if K.cur is not NOBODY:
        raise Misuse("bury() was called inside a task")
    machine.dead = True
    saved = (K.machine, K.trace)
    machine.hub = getcurrent()
    K.machine = machine
    K.trace = None
    if machine.trace is not None:
        machine.trace.closed = True
    try:
        for task in machine.tasks:
            if task.g is not None and task.state is not DONE:
                task.killed = True
                task.g.parent = machine.hub
                K.cur = task
                K.left = _LAST_WORDS
                task.g.throw(Killed)
    finally:
        K.cur = NOBODY
        K.left = INF
        K.machine, K.trace = saved
        _forget(machine)


def die(machine: Machine, me: Task) -> NoReturn:
    """A dying task tried to go on.  Kill it again, and cut it off if it will not listen."""
    K.left = _LAST_WORDS
    me.deaths += 1
    if me.deaths > _DEATHS:
        LOST.append(me.g)
        me.state = DONE
        machine.hub.switch()
    raise Killed


def _forget(machine: Machine) -> None:
    """Let go of all that a buried world refers to."""
    for node in machine.touched:
        node.next.clear()
    for task in machine.tasks:
        _let_go(task)
        task.g = None  # type: ignore[assignment]
        task.held = None
        task.fn = None
    machine.tasks.clear()
    machine.rq.clear()
    machine.heap.clear()
    machine.touched.clear()
    trim_pool()


def _let_go(task: Task) -> None:
    """A lock may belong to a module, and be used in the next world: nobody there can release it,
    nor wake who waits for it.
    """
    if task.waits_on is not None and getattr(task.waits_on, "waiters", None):
        task.waits_on.waiters.clear()
    held = task.held
    while held is not None:
        lock, held = held
        if getattr(lock, "owner", None) is task:
            lock.owner = None
        if getattr(lock, "readers", None):
            lock.readers.pop(task, None)
