"""What the schedules of a search show together, told with a token for each of them.

Schedule 3 takes B inside A, schedule 17 takes A inside B: nothing went wrong in either, but the two
could have met (`vfsim.checks.union`).  No single run can be blamed, so this is no violation; it is
told apart, with the tokens of the runs to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.explore.failure import token_of

if TYPE_CHECKING:
    from vfsim.checks.union import UnionCycle, UnionInversion
    from vfsim.explore.parallel import Batch


def told(batch: Batch, found: UnionCycle | UnionInversion) -> str:
    """The suspicion, a line for each of its facts, and how to see it again.

    The searcher must be a parallel one: its schedules can be run by number.
    """
    lines = [str(found)]
    for line, run in zip(found.lines(), found.runs, strict=True):
        lines += [f"  {line}", f"    vfsim replay {token_of(batch, run)}"]
    return "\n".join(lines)
