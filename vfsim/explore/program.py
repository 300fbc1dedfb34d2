"""What can be explored: a `Program` makes a fresh `World` for every schedule.

A world lives through four phases, of which only the second is explored:

====== =========================================================== ======================
phase  what happens                                                who runs
====== =========================================================== ======================
set-up `World.set_up`: whatever must be there before               alone, round-robin
run    the tasks that `set_up` left runnable                       under the strategy
check  `World.check`: look at the result                           alone, round-robin
close  `World.close`: take everything down, look for leaks         alone, round-robin
====== =========================================================== ======================

Nothing may survive from one world to the next: a program builds all its state in `world`.

`program_of` turns what people pass to `explore` into a program: a program, a class that offers one
(a scenario), or a plain function over locks::

    def abba(machine):
        a, b = Mutex("a"), Mutex("b")
        machine.spawn(take, a, b)
        machine.spawn(take, b, a)
        return lambda: ...        # an optional last look
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vfsim.checks.judge import KernelJudge
from vfsim.sim.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.explore.token import Option
    from vfsim.sim.judge import Judge
    from vfsim.sim.trace import Trace


class World(Protocol):
    """One life of a program."""

    machine: Machine

    def set_up(self) -> None:
        """Make everything, run what must run first, and leave the tasks runnable."""

    def check(self) -> None:
        """The tasks have ended: look at the result.  An AssertionError is a wrong result."""

    def close(self) -> None:
        """Take everything down and look for leaks."""


@runtime_checkable
class Program(Protocol):
    """Something that can be run from the beginning any number of times.

    Attributes:
        name: for reports and tokens.
        target: what brings it back in another process (``file.py:Name``), or "".
        options: what else must be known to bring it back, for the token.
        blamed: whose bug a wrong result is.
    """

    name: str
    target: str
    options: tuple[tuple[str, Option], ...]
    blamed: str

    def world(self, trace: Trace | None, max_steps: int) -> World:
        """A fresh world in which nothing has happened."""


def default_judge(races: bool = False) -> Judge:
    """The judge that looks at everything; at races, too, if asked to (`execute` asks itself)."""
    return KernelJudge(races=races)


class FunctionProgram:
    """A plain function that spawns tasks on a bare machine.

    Args:
        function: called with the machine; may return a function without arguments, which is the
            check.
        cpus: of the machine.
    """

    blamed = "test"
    options: tuple[tuple[str, Option], ...] = ()

    def __init__(self, function: Callable[[Machine], Any], cpus: int = 4) -> None:
        self.function = function
        self.cpus = cpus
        self.name = function.__name__
        self.target = target_of(function)

    def world(self, trace: Trace | None, max_steps: int) -> FunctionWorld:
        """A fresh machine."""
        machine = Machine(self.cpus, judge=default_judge(), trace=trace, max_steps=max_steps)
        return FunctionWorld(machine, self.function)


class FunctionWorld:
    """A bare machine and what the function made of it."""

    def __init__(self, machine: Machine, function: Callable[[Machine], Any]) -> None:
        self.machine = machine
        self.function = function
        self.look: Any = None

    def set_up(self) -> None:
        """Call the function."""
        self.look = self.function(self.machine)

    def check(self) -> None:
        """Call what it returned."""
        if callable(self.look):
            self.look()

    def close(self) -> None:
        """A bare machine has nothing to take down."""


def program_of(target: Any) -> Program:
    """The program that ``target`` stands for.

    Raises:
        TypeError: it stands for none.
    """
    offer = getattr(target, "program", None)
    if callable(offer):
        made = offer()
        assert isinstance(made, Program)
        return made
    if isinstance(target, Program) and not isinstance(target, type):
        return target
    if inspect.isfunction(target):
        return FunctionProgram(target)
    raise TypeError(
        "explore() takes a Scenario class, or a function that spawns tasks on a machine; "
        f"got {target!r}"
    )


def target_of(thing: Any) -> str:
    """``file.py:Name`` for a class or function at the top of a file, relative to here if it is
    below; else "".
    """
    try:
        path = inspect.getsourcefile(thing)
    except TypeError:
        return ""
    if path is None or "." in thing.__qualname__ or "<" in thing.__qualname__:
        return ""
    near = os.path.relpath(path)
    return f"{path if near.startswith(os.pardir) else near}:{thing.__qualname__}"
