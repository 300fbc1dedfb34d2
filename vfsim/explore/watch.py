"""Keeping an exploration in hand: the wall-clock watchdog and Ctrl-C.

All limits of a run are counts.  A loop without a scheduling point passes none of them, so a timer
watches from outside: it stops a schedule that takes absurdly long and calls it "no progress".
Ctrl-C is remembered instead of being raised in the middle of a simulated task: the exploration ends
after the schedule at hand with what it has, which is at most a second away; a second Ctrl-C is
raised at once.  Where several processes share the work, Ctrl-C is the business of the first one,
and the others see the same memory.

Signals belong to the main thread: elsewhere both are off.  If somebody else uses the alarm, the
watchdog counts the process's own time instead, which stands still while it sleeps.
"""

from __future__ import annotations

import mmap
import signal
import threading
from typing import TYPE_CHECKING, Any

from vfsim.checks import blame
from vfsim.sim.errors import Killed, Violation
from vfsim.sim.state import NOBODY, K
from vfsim.sim.task import DONE

if TYPE_CHECKING:
    from types import FrameType

PATIENCE = 20.0
"""Seconds that one schedule may take."""

_NUDGE = 1.0  # seconds between attempts to stop what does not stop
_TIMERS = (
    (signal.ITIMER_REAL, signal.SIGALRM),
    (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
)


class Watch:
    """A context manager around many schedules; call `begin` before each.

    Args:
        patience: seconds that one schedule may take.
        first: in a forked process, the watch of the one that is told of Ctrl-C.
    """

    def __init__(self, patience: float | None = None, first: Watch | None = None) -> None:
        self.patience = PATIENCE if patience is None else patience
        self._pressed: mmap.mmap = mmap.mmap(-1, 1) if first is None else first._pressed
        self._timer: int | None = None
        self._saved: dict[int, Any] = {}

    def __enter__(self) -> Watch:
        if threading.current_thread() is not threading.main_thread():
            return self
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._saved[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
        for timer, number in _TIMERS:
            free = signal.getsignal(number) in (signal.SIG_DFL, signal.SIG_IGN)
            if free and signal.getitimer(timer) == (0.0, 0.0):
                self._timer = timer
                self._saved[number] = signal.signal(number, self._on_alarm)
                break
        return self

    @property
    def interrupted(self) -> bool:
        """Ctrl-C was pressed."""
        return self._pressed[0] != 0

    def __exit__(self, *exc: object) -> None:
        self._wind(0.0, 0.0)
        for number, handler in self._saved.items():
            signal.signal(number, handler)
        self._saved.clear()

    def begin(self) -> None:
        """A schedule begins: wind the timer."""
        self._wind(self.patience, _NUDGE)

    def _wind(self, first: float, again: float) -> None:
        if self._timer is not None:
            signal.setitimer(self._timer, first, again)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self._pressed[0] = 1
        self._wind(_NUDGE, _NUDGE)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Stop the world, from inside the task that runs."""
        task = K.cur
        machine = K.machine
        if task is NOBODY or not machine or task.state is DONE:
            return
        if machine.dead or task.killed:
            raise Killed
        if self.interrupted:
            machine.fatal(INTERRUPTED)
            return
        culprit = blame.blame(task, frame)
        where = culprit.where.rpartition(":")[0]  # the line differs from time to time
        machine.fatal(
            Violation(
                TIMED_OUT, "no progress", culprit.owner, where,
                f"{task.name} ran for {self.patience:g} seconds and nothing ended it",
                task.name, (f"it was at {culprit.where}",),
            )
        )  # fmt: skip


TIMED_OUT = "no-progress.time"
"""The rule that a schedule breaks when the watchdog stops it."""

INTERRUPTED = Violation("interrupted", "no progress", "test", "", "cut short by Ctrl-C")
"""Recorded in a run that Ctrl-C cut short; not a finding."""
