"""Where assertions run: something that gives a fresh, empty, writable tree as often as it is asked.

`run` is the whole interface that matters: it takes steps and runs them one after the other on
*one* fresh filesystem, each in a process of its own, with a umount and a mount in between.  What a
step raises stays inside the step (the runner wraps bodies so that they raise nothing); what the
*kernel* finds wrong meanwhile is the ground's to collect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance.syscalls import SystemCalls

    Step = tuple[Callable[[SystemCalls], None], bool]
    """What to run, and whether the filesystem is mounted read-only meanwhile."""


class Ground(Protocol):
    """Fresh filesystems of one kind."""

    def run(self, steps: Sequence[Step]) -> None:
        """Run the steps in order on one fresh filesystem, mounting it anew for each."""

    def methods(self) -> frozenset[str]:
        """The words of `capabilities.METHODS` that stand for methods the filesystem has."""

    def writable(self) -> bool:
        """Whether it can be mounted read-write."""

    def refusals(self) -> tuple[Refusal, ...]:
        """What the filesystem declares to refuse."""

    def persistent(self) -> bool:
        """Whether a tree outlives umount, so that a second step finds what the first made."""
