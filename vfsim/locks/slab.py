"""Memory: where an allocation could have failed, or slept.

The memory itself is Python's.  `kmalloc` stands where Linux allocates: it tells a caller that may
not sleep and asks for memory that may have to be waited for, and it fails where faults are on
(`vfsim.sim.faults.ALLOC`).  What Linux takes from a pool that is never empty (bios, the buffers of
a block device) does not ask.
"""

from __future__ import annotations

from vfsim.locks.memalloc import GFP_DIRECT_RECLAIM, GFP_KERNEL, GFP_NOFAIL
from vfsim.sim.errors import ENOMEM
from vfsim.sim.faults import ALLOC, fails
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import NOBODY, K


def kmalloc(gfp: int = GFP_KERNEL) -> None:
    """Never sleeps.  Memory is about to be allocated; with `GFP_DIRECT_RECLAIM` it might sleep.

    Raises:
        ENOMEM: there is none; never with `GFP_NOFAIL`.
    """
    if gfp & GFP_DIRECT_RECLAIM and K.cur is not NOBODY:
        might_sleep()
    if not gfp & GFP_NOFAIL and fails(ALLOC):
        raise ENOMEM()
