"""A process of the simulated kernel that can be anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.process import current_process, user_cred
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.testing.conformance.corpus.case import Who
    from vfsim.testing.conformance.syscalls import SystemCalls

_COARSE_MS = 4_000
"""Longer than the grain of any filesystem's times; simulated time costs nothing."""


class SimulatedActor:
    """`Actor` for a body that runs in a simulated process."""

    def __init__(self, sys: SystemCalls) -> None:
        self.sys = sys

    def become(self, who: Who) -> None:
        """Never sleeps.  Exchange the credentials, the real ones too."""
        current_process().cred = user_cred(*who)

    def tick(self, latest: int) -> int:
        """Sleeps.  A few seconds: more than there can be between two times."""
        self.sys.msleep(_COARSE_MS)
        return int(K.machine.now) - _COARSE_MS * 500_000
