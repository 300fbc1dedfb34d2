"""Memory: where an allocation could have failed, slept, or called into filesystems.

The memory itself is Python's.  `kmalloc` stands where Linux allocates: it tells a caller that may
not sleep and asks for memory that may have to be waited for, or that holds what reclaim takes
(`vfsim.locks.memalloc`).  Where memory is short (`vfsim.sim.faults.PRESSURE`) it frees some first,
through what the memory management has put into ``machine.data["try_to_free_pages"]``; where faults
are on it fails (`vfsim.sim.faults.ALLOC`).  What Linux takes from a pool that is never empty (bios,
the buffers of a block device) does not ask.
"""

from __future__ import annotations

from vfsim.locks.memalloc import (
    GFP_DIRECT_RECLAIM,
    GFP_KERNEL,
    GFP_NOFAIL,
    LOOK,
    might_alloc,
)
from vfsim.sim.errors import ENOMEM
from vfsim.sim.faults import ALLOC, fails, pressed
from vfsim.sim.state import NOBODY, K


def kmalloc(gfp: int = GFP_KERNEL) -> None:
    """Sleeps.  Memory is about to be allocated; without `GFP_DIRECT_RECLAIM` it never sleeps.

    Raises:
        ENOMEM: there is none; never with `GFP_NOFAIL`.
    """
    me = K.cur
    if me is NOBODY:
        return
    waits = gfp & GFP_DIRECT_RECLAIM
    if waits and ((ctx := me.ctx).nosleep or LOOK not in ctx.next):
        might_alloc(gfp)
    if K.machine.faults:
        if waits and pressed():
            _try_to_free_pages(gfp)
        if not gfp & GFP_NOFAIL and fails(ALLOC):
            raise ENOMEM()


def _try_to_free_pages(gfp: int) -> None:
    """Sleeps.  Let the caches give something back, if there is a memory management."""
    reclaim = K.machine.data.get("try_to_free_pages")
    if reclaim is not None and not K.cur.ctx.noreclaim:
        reclaim(gfp)
