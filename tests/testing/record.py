"""Ask the kernel underneath every question of the corpus, and keep what it says.

``python -m tests.testing.record`` writes the answers that the package has.
"""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Any

from tests.testing import host
from vfsim.testing.conformance import Capabilities
from vfsim.testing.conformance.corpus import Case, cases
from vfsim.testing.conformance.corpus.answers import Answer, save
from vfsim.testing.conformance.corpus.run import perform
from vfsim.testing.conformance.corpus.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.testing.conformance.corpus.case import Who


COARSE = 5  # CLOCK_REALTIME_COARSE, what files get their times from


class HostActor:
    """`Actor` for a child process of the tests."""

    def __init__(self) -> None:
        self.sys: Any = host.FreshSys()

    def become(self, who: Who) -> None:
        os.setresuid(0, 0, 0)
        os.setgroups(list(who.groups))
        os.setresgid(who.gid, who.gid, 0)
        os.setresuid(who.uid, who.uid, 0)

    def tick(self, latest: int) -> int:
        """Wait until the kernel's clock for files goes on."""
        while (now := self.now()) <= latest:
            time.sleep(0.0005)
        return now

    def now(self) -> int:
        """The time that a new file would get."""
        return time.clock_gettime_ns(COARSE)


def answer_of(ground: host.HostGround, case: Case) -> Answer:
    """What the kernel underneath says to one case, in a tree of its own."""
    found: list[Answer] = []

    def body(sys: object) -> None:
        os.closerange(3, host.KEPT_FD)
        os.setgroups([])
        stage = Stage(HostActor(), case.world, Capabilities.everything())
        stage.set_up()
        found.append(perform(case, stage))

    ground.run([(body, False)])
    return found[0]


def answers(some: Iterable[Case]) -> dict[str, Answer]:
    """What the kernel underneath says to some cases."""
    chosen = list(some)
    found: dict[str, Answer] = host.in_child(
        host.Tmpfs(), lambda ground: {case.id: answer_of(ground, case) for case in chosen}
    )
    return found


if __name__ == "__main__":
    save(answers(cases()), platform.release())
