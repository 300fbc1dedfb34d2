"""What the schedules of a search show together, told with a token for each of them.

Schedule 3 takes B inside A, schedule 17 takes A inside B: nothing went wrong in either, but the two
could have met (`vfsim.checks.union`).  No single run can be blamed, so this is no violation; it is
told apart, with the tokens of the runs to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.counters import uncounted
from vfsim.checks.union import placed
from vfsim.explore.failure import token_of
from vfsim.explore.searcher import LEARNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.checks.union import UnionCycle, UnionInversion
    from vfsim.explore.parallel import Batch


def told(batch_of: Callable[[int], Batch], found: UnionCycle | UnionInversion) -> str:
    """The suspicion, a line for each of its facts, and how to see it again.

    Args:
        batch_of: the schedules of a search, by its number in the union, with a fresh searcher; a
            parallel one: its schedules can be run by number.
    """
    lines = [str(found)]
    for line, run in zip(found.lines(), found.runs, strict=True):
        search, index = placed(run)
        batch = batch_of(search)
        _learn(batch, index)
        lines += [f"  {line}", f"    vfsim replay {token_of(batch, index)}"]
    return "\n".join(lines)


@uncounted()
def _learn(batch: Batch, index: int) -> None:
    """Let the searcher know what it knew when it gave schedule ``index`` its strategy."""
    for number in range(min(LEARNING, index)):
        run = batch.one(number)
        assert run is not None
        batch.searcher.learn(number, run)
