"""The clock: SimPy's environment, in integer nanoseconds, stepped from the side.

Task timers live in the machine's own heap, which is cheaper; SimPy keeps device models and whatever
processes a user adds.  `vfsim.sim.timeline` takes whichever is due first, SimPy's at equal times.
"""

from __future__ import annotations

import simpy

NSEC_PER_USEC = 1_000
NSEC_PER_MSEC = 1_000_000
NSEC_PER_SEC = 1_000_000_000


class Clock(simpy.Environment):
    """A SimPy environment whose time the machine moves.

    Attributes:
        used: an event has happened: there are processes that act beside the tasks.
    """

    def __init__(self) -> None:
        self.used = False
        super().__init__(initial_time=0)

    def due(self) -> int | float:
        """When SimPy's next event is due, or infinity."""
        return self.peek()

    def set_now(self, now: float) -> None:
        """Move time forward to an event of the machine's own heap."""
        self._now = now

    def step(self) -> None:
        """Handle SimPy's next event.

        An exception that left a process is raised as it is; SimPy would raise a copy of it.
        """
        self.used = True
        found: BaseException | None = None
        try:
            super().step()
        except BaseException as error:
            cause = error.__cause__
            found = cause if type(cause) is type(error) else error
        if found is not None:
            raise found
