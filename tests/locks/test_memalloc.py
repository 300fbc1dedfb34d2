"""Allocation as the order rules see it: reclaim's lock, scopes, and what is silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.checks.worlds import first, verdicts
from vfsim.locks.memalloc import (
    GFP_ATOMIC,
    GFP_FS,
    GFP_IO,
    GFP_KERNEL,
    GFP_NOFS,
    GFP_NOIO,
    current_gfp_context,
    fs_reclaim_acquire,
    fs_reclaim_release,
    memalloc_nofs_restore,
    memalloc_nofs_save,
    memalloc_noio_restore,
    memalloc_noio_save,
    might_alloc,
)
from vfsim.locks.mutex import Mutex
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.state import K


def allocates(gfp: int, lock: Mutex) -> Callable[[], None]:
    """A task that allocates while it holds a lock."""

    def task() -> None:
        with lock:
            might_alloc(gfp)

    return task


def reclaims(lock: Mutex) -> Callable[[], None]:
    """A task in reclaim that takes the lock."""

    def task() -> None:
        fs_reclaim_acquire(GFP_KERNEL)
        with lock:
            pass
        fs_reclaim_release(GFP_KERNEL)

    return task


def test_allocating_under_a_lock_that_reclaim_takes() -> None:
    """GFP_KERNEL there may wait for itself; GFP_NOFS may not."""
    lock = Mutex("fs lock")
    assert verdicts(allocates(GFP_KERNEL, lock), reclaims(lock)) == ["lockdep.circular"]
    assert verdicts(reclaims(lock), allocates(GFP_KERNEL, lock)) == ["lockdep.circular"]
    for gfp in (GFP_NOFS, GFP_NOIO, GFP_ATOMIC):
        assert verdicts(allocates(gfp, lock), reclaims(lock)) == []
    assert "fs_reclaim" in first(allocates(GFP_KERNEL, lock), reclaims(lock)).summary


@pytest.mark.parametrize(
    ("save", "restore"),
    [
        (memalloc_nofs_save, memalloc_nofs_restore),
        (memalloc_noio_save, memalloc_noio_restore),
    ],
)
def test_scopes(save: Callable[[], None], restore: Callable[[], None]) -> None:
    """Inside a scope GFP_KERNEL does not reach filesystems; behind it, it does again."""
    lock = Mutex("fs lock")

    def scoped() -> None:
        with lock:
            save()
            save()
            restore()
            might_alloc(GFP_KERNEL)
            restore()

    def behind() -> None:
        with lock:
            save()
            restore()
            might_alloc(GFP_KERNEL)

    assert verdicts(scoped, reclaims(lock)) == []
    assert verdicts(behind, reclaims(lock)) == ["lockdep.circular"]


def test_what_scopes_take_away() -> None:
    """nofs takes GFP_FS, noio GFP_IO as well."""
    seen = []

    def task() -> None:
        seen.append(current_gfp_context(GFP_KERNEL))
        memalloc_nofs_save()
        seen.append(current_gfp_context(GFP_KERNEL))
        memalloc_noio_save()
        seen.append(current_gfp_context(GFP_KERNEL))
        memalloc_noio_restore()
        memalloc_nofs_restore()
        assert K.cur.held is None

    assert verdicts(task) == []
    assert seen == [GFP_KERNEL, GFP_NOFS, GFP_NOIO]
    assert GFP_KERNEL & ~GFP_NOFS == GFP_FS and GFP_NOFS & ~GFP_NOIO == GFP_IO


def test_an_allocation_that_may_wait_is_no_place_for_spinlocks() -> None:
    """Under a spinlock only GFP_ATOMIC will do."""
    lock = SpinLock("s")

    def task(gfp: int) -> Callable[[], None]:
        def body() -> None:
            with lock:
                might_alloc(gfp)

        return body

    assert verdicts(task(GFP_ATOMIC)) == []
    assert verdicts(task(GFP_NOFS)) == ["lockdep.sleep-in-atomic"]


def test_reclaim_that_may_not_reach_filesystems_holds_nothing() -> None:
    """GFP_NOFS reclaim may run under the filesystem's locks."""
    lock = Mutex("fs lock")

    def task() -> None:
        with lock:
            fs_reclaim_acquire(GFP_NOFS)
            assert len(K.cur.ctx.chain()) == 1
            fs_reclaim_release(GFP_NOFS)

    assert verdicts(task, reclaims(lock)) == []
