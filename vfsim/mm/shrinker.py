"""Memory pressure: whoever caches something registers a shrinker, and is asked to give some back.

The sequence::

    register_shrinker(shrinker)          a superblock is made
    shrink_slab(gfp, scanned, eligible)  memory is short: each shrinker is asked how much it has
        shrinker.count_objects(sc)       (count_objects), and to look at a share of that
        shrinker.scan_objects(sc)        (scan_objects), in batches, until it says SHRINK_STOP
    unregister_shrinker(shrinker)        the superblock goes: waits for who is shrinking just now

Who calls `shrink_slab`: an allocation where memory is short (`try_to_free_pages`, for
`vfsim.locks.slab`), in whatever locks its caller holds; and `drop_slab`, for the administrator.

``shrinker_rwsem`` guards the list: exclusive to register, shared, and only tried, to walk it.  A
shrinker therefore runs with it held shared, and unregistering waits until nobody is inside.

All of it is reclaim in the eyes of the order rules (`vfsim.locks.memalloc`), whoever asked for it:
what a shrinker locks must not be held by who allocates with GFP_KERNEL.

The counterpart of the slab half of ``mm/vmscan.c`` of v4.10.  What a shrinker has put off is not
carried over to the next time (``nr_deferred``), and there is no kswapd: pressure is felt by who
allocates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.locks.memalloc import (
    GFP_KERNEL,
    current_gfp_context,
    fs_reclaim_acquire,
    fs_reclaim_release,
    memalloc_noreclaim_restore,
    memalloc_noreclaim_save,
)
from vfsim.locks.rwsem import RwSem
from vfsim.sim.scheduler import cond_resched
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

SHRINK_STOP = -1
"""What ``scan_objects`` answers if it can do nothing in this situation."""
SHRINK_BATCH = 128
DEFAULT_SEEKS = 2
_ALL = 1000
"""Pages scanned of as many that there are: shrink to the bone."""
_ENOUGH = 10
"""`drop_slab` goes on while more than so many objects were freed."""


@attrs.define
class ShrinkControl:
    """What a shrinker is told.

    Attributes:
        gfp_mask: what the allocation allows that is behind it.
        nr_to_scan: how many objects to look at.
    """

    gfp_mask: int
    nr_to_scan: int = 0


@attrs.define(eq=False)
class Shrinker:
    """A cache that can give something back (Linux: ``struct shrinker``).

    Attributes:
        count_objects: how many objects could go; no locks, a guess will do.
        scan_objects: look at ``nr_to_scan`` objects, free those not used lately; returns how many
            were freed, or SHRINK_STOP.
        seeks: how dear it is to make an object again.  batch: how many to scan at a time.
    """

    count_objects: Callable[[ShrinkControl], int]
    scan_objects: Callable[[ShrinkControl], int]
    seeks: int = DEFAULT_SEEKS
    batch: int = SHRINK_BATCH


@attrs.define(eq=False)
class Shrinkers:
    """The shrinkers of a world.

    Attributes:
        shrinker_rwsem: guards the list.  shrinker_list: in the order in which they came.
    """

    shrinker_rwsem: RwSem = attrs.field(factory=lambda: RwSem("shrinker_rwsem"))
    shrinker_list: list[Shrinker] = attrs.field(factory=list)


def shrinkers() -> Shrinkers:
    """Never sleeps.  The shrinkers of the running world."""
    data = K.machine.data
    found = data.get("shrinkers")
    if found is None:
        found = data["shrinkers"] = Shrinkers()
        data["try_to_free_pages"] = try_to_free_pages
    return found


def register_shrinker(shrinker: Shrinker) -> None:
    """Sleeps.  Ask this cache, too, when memory is short."""
    world = shrinkers()
    with world.shrinker_rwsem:
        world.shrinker_list.append(shrinker)


def unregister_shrinker(shrinker: Shrinker) -> None:
    """Sleeps.  Never ask it again; it is not running any more when this returns."""
    world = shrinkers()
    with world.shrinker_rwsem:
        world.shrinker_list.remove(shrinker)


def shrink_slab(gfp: int, nr_scanned: int, nr_eligible: int) -> int:
    """Sleeps.  Let every cache give back its share; returns how many objects were freed.

    Args:
        gfp: what the allocation behind it allows.
        nr_scanned, nr_eligible: the share: how many pages were looked at, of how many.

    Source: ``shrink_slab``.
    """
    world = shrinkers()
    if not world.shrinker_rwsem.down_read_trylock():
        return 1  # somebody comes or goes: as if something had been freed, so that all go on
    fs_reclaim_acquire(gfp)
    memalloc_noreclaim_save()
    freed = 0
    for shrinker in world.shrinker_list:
        freed += _do_shrink_slab(ShrinkControl(gfp), shrinker, nr_scanned, nr_eligible)
    memalloc_noreclaim_restore()
    fs_reclaim_release(gfp)
    world.shrinker_rwsem.up_read()
    cond_resched()
    return freed


def _do_shrink_slab(
    sc: ShrinkControl, shrinker: Shrinker, nr_scanned: int, nr_eligible: int
) -> int:
    """Sleeps.  One cache's share: dear objects less, and never more than twice what there is."""
    freeable = shrinker.count_objects(sc)
    if freeable <= 0:
        return 0
    total_scan = 4 * nr_scanned // shrinker.seeks * freeable // (nr_eligible + 1)
    total_scan = min(total_scan, 2 * freeable)
    freed = 0
    while total_scan >= shrinker.batch or total_scan >= freeable:
        sc.nr_to_scan = min(shrinker.batch, total_scan)
        answer = shrinker.scan_objects(sc)
        if answer == SHRINK_STOP:
            break
        freed += answer
        total_scan -= sc.nr_to_scan
        cond_resched()
    return freed


def try_to_free_pages(gfp: int) -> None:
    """Sleeps.  Memory is short for an allocation with these flags: shrink every cache.

    Source: ``try_to_free_pages`` (direct reclaim).
    """
    shrink_slab(current_gfp_context(gfp), _ALL, _ALL)


def drop_slab() -> None:
    """Sleeps.  Shrink every cache until little is left that could go.  Source: ``drop_slab``."""
    while shrink_slab(GFP_KERNEL, _ALL, _ALL) > _ENOUGH:
        pass
