"""Memory allocation as the order rules see it: it may reclaim, and reclaim takes locks.

An allocation that is allowed to call into filesystems (`GFP_FS`) may write back or evict what they
cache.  So whoever holds a lock that reclaim takes must not allocate like that.  ``fs_reclaim`` is
the lock that stands for it: reclaim holds it (`fs_reclaim_acquire`), and each allocation looks
whether it could take it (`might_alloc`), as a reader of a sequence counter does.

Inside `memalloc_nofs_save` nothing calls into filesystems, whatever the flags say; inside
`memalloc_noio_save` nothing starts I/O either.  Inside `memalloc_noreclaim_save` (the flag
``PF_MEMALLOC``) nothing reclaims: reclaim itself is in one.  All nest.  Nothing here is a
scheduling point.

``fs_reclaim`` is from v4.14; in v4.10 lockdep had usage bits for the same purpose.
`memalloc_nofs_save` is from v4.12.
"""

from __future__ import annotations

from vfsim.sim.context import FS_RECLAIM, NOFS, NOIO, NORECLAIM, SHARED, enter
from vfsim.sim.cpu import pop, push
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import K

GFP_HIGH = 1 << 5  # __GFP_HIGH
GFP_IO = 1 << 6  # __GFP_IO: may start I/O to get memory
GFP_FS = 1 << 7  # __GFP_FS: may call into filesystems for it
GFP_NOFAIL = 1 << 11  # __GFP_NOFAIL: never fails, however long it takes
GFP_DIRECT_RECLAIM = 1 << 22  # __GFP_DIRECT_RECLAIM: may sleep

GFP_ATOMIC = GFP_HIGH
"""Never waits: for interrupts and under spinlocks."""
GFP_NOWAIT = 0
GFP_NOIO = GFP_DIRECT_RECLAIM
GFP_NOFS = GFP_DIRECT_RECLAIM | GFP_IO
GFP_KERNEL = GFP_DIRECT_RECLAIM | GFP_IO | GFP_FS

LOOK = FS_RECLAIM.key | SHARED
"""What an allocation enters for a moment; known in a context once it was judged there."""


def current_gfp_context(gfp: int) -> int:
    """Never sleeps.  The flags without what the scopes around the caller take away."""
    ctx = K.cur.ctx
    if ctx.noio:
        return gfp & ~(GFP_IO | GFP_FS)
    return gfp & ~GFP_FS if ctx.nofs else gfp


def _reclaims(gfp: int) -> bool:
    """Whether an allocation may call into filesystems."""
    if not gfp & GFP_DIRECT_RECLAIM or K.cur.ctx.noreclaim:
        return False
    return bool(current_gfp_context(gfp) & GFP_FS)


def might_alloc(gfp: int) -> None:
    """Never sleeps.  Say that the caller allocates with these flags: for the checks, that alone
    can be a bug.
    """
    if _reclaims(gfp):
        ctx = K.cur.ctx
        if LOOK not in ctx.next:
            enter(ctx, LOOK, FS_RECLAIM)
    if gfp & GFP_DIRECT_RECLAIM:
        might_sleep()


def fs_reclaim_acquire(gfp: int) -> None:
    """Never sleeps.  Reclaim begins, on behalf of an allocation with these flags."""
    if _reclaims(gfp):
        push(FS_RECLAIM)


def fs_reclaim_release(gfp: int) -> None:
    """Never sleeps.  Undo `fs_reclaim_acquire`."""
    if _reclaims(gfp):
        pop(FS_RECLAIM)


def memalloc_nofs_save() -> None:
    """Never sleeps.  Until `memalloc_nofs_restore` allocations do not call into filesystems."""
    push(NOFS)


def memalloc_nofs_restore() -> None:
    """Never sleeps.  Undo one `memalloc_nofs_save`."""
    pop(NOFS)


def memalloc_noio_save() -> None:
    """Never sleeps.  Until `memalloc_noio_restore` allocations start no I/O."""
    push(NOIO)


def memalloc_noio_restore() -> None:
    """Never sleeps.  Undo one `memalloc_noio_save`."""
    pop(NOIO)


def memalloc_noreclaim_save() -> None:
    """Never sleeps.  Until `memalloc_noreclaim_restore` allocations take what there is."""
    push(NORECLAIM)


def memalloc_noreclaim_restore() -> None:
    """Never sleeps.  Undo one `memalloc_noreclaim_save`."""
    pop(NORECLAIM)
