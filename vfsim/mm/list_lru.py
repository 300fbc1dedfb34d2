"""Lists of unused objects, oldest first, and the walk over them that memory pressure makes.

Such a list is a dict whose values say nothing, with a spinlock of its own that is the innermost of
all.  So who walks it can only *try* the locks of the objects.  `list_lru_walk` calls ``isolate`` on
one after the other with the list's lock held, and does what that answers::

    LRU_REMOVED     isolate() took the object off the list
    LRU_ROTATE      it was used lately: to the young end, it gets a second chance
    LRU_SKIP        it is busy: leave it where it is
    LRU_RETRY       isolate() let go of the list's lock meanwhile: start again at the old end

The counterpart of ``mm/list_lru.c`` of v4.10, with one list per superblock instead of one per
memory node and control group.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.locks.spinlock import SpinLock

T = TypeVar("T")

LRU_REMOVED, LRU_ROTATE, LRU_SKIP, LRU_RETRY = range(4)


def list_lru_walk(
    lru: dict[T, None], lock: SpinLock, isolate: Callable[[T], int], count: int
) -> int:
    """Sleeps.  Look at up to ``count`` objects, oldest first; returns how many were removed.

    The walk ends at the young end.  Rotated objects lie behind that, so they are met again.

    Args:
        isolate: what to do about one; it sleeps only if it lets go of ``lock`` and answers
            LRU_RETRY.

    Takes ``lock``.  Source: ``list_lru_walk``.
    """
    removed = 0
    more = True
    lock.lock()
    while more and count > 0 and lru:
        for item in list(islice(lru, count)):
            count -= 1
            more = next(reversed(lru)) is not item
            answer = isolate(item)
            if answer == LRU_REMOVED:
                removed += 1
            elif answer == LRU_ROTATE:
                lru[item] = lru.pop(item)
            elif answer == LRU_RETRY:
                more = True
                break
            if not more:
                break
    lock.unlock()
    return removed
