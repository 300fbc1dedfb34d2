"""Memory: where an allocation could have failed, or slept.

The memory itself is Python's.  `kmalloc` stands where Linux allocates: it tells a caller that may
not sleep and asks for memory that may have to be waited for, and it fails where faults are on
(`vfsim.sim.faults.ALLOC`).  What Linux takes from a pool that is never empty (bios, the buffers of
a block device) does not ask.

The flags are Linux's.
"""

from __future__ import annotations

from vfsim.sim.errors import ENOMEM
from vfsim.sim.faults import ALLOC, fails
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import NOBODY, K

GFP_HIGH = 1 << 5  # __GFP_HIGH
GFP_IO = 1 << 6  # __GFP_IO: may start I/O to get memory
GFP_FS = 1 << 7  # __GFP_FS: may call into filesystems for it
GFP_NOFAIL = 1 << 11  # __GFP_NOFAIL: never fails, however long it takes
GFP_DIRECT_RECLAIM = 1 << 22  # __GFP_DIRECT_RECLAIM: may sleep

GFP_ATOMIC = GFP_HIGH
GFP_NOWAIT = 0
GFP_NOIO = GFP_DIRECT_RECLAIM
GFP_NOFS = GFP_DIRECT_RECLAIM | GFP_IO
GFP_KERNEL = GFP_DIRECT_RECLAIM | GFP_IO | GFP_FS


def kmalloc(gfp: int = GFP_KERNEL) -> None:
    """Never sleeps.  Memory is about to be allocated; with `GFP_DIRECT_RECLAIM` it might sleep.

    Raises:
        ENOMEM: there is none; never with `GFP_NOFAIL`.
    """
    if gfp & GFP_DIRECT_RECLAIM and K.cur is not NOBODY:
        might_sleep()
    if not gfp & GFP_NOFAIL and fails(ALLOC):
        raise ENOMEM()
