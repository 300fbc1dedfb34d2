"""Locks of one class in wrong order: kernels that take the right subclasses of the wrong instances.

The order of classes is `lockdep`'s; which of two directories, files or names comes first is told by
the objects that the locks belong to.  Each mutant replaces the function that locks two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.d_move import d_ancestor, d_move_locked
from vfsim.fs.dentry import DENTRY_D_LOCK_NESTED
from vfsim.fs.inode import I_MUTEX_CHILD, I_MUTEX_NONDIR2, I_MUTEX_PARENT, I_MUTEX_PARENT2
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.mutants import Mutant, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.dentry import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.testing.selftest.case import Case

ORDER = "lockdep.instance-order"


def cases() -> Iterator[Case]:
    """Every mutant, and the programs on the kernel as it is."""
    mutants = [
        _mutant("i_rwsem.descendant-first", "fs.directory.lock_rename", _lower_first),
        _mutant("i_rwsem.no-rename-mutex", "fs.directory.lock_rename", _without_mutex),
        _mutant("i_rwsem.files-as-given", "fs.inode.lock_two_nondirectories", _as_given),
        _mutant("d_lock.descendant-first", "fs.d_move._lock_for_move", _lower_d_lock_first),
        _mutant("d_lock.no-rename-lock", "fs.d_move.d_move", _without_rename_lock),
        _mutant("d_lock.child-then-parent", "fs.d_walk._lock_parent", _parent_inside),
    ]
    for mutant in mutants:
        yield mutant.case()
    yield clean("instances", programs.rename_everywhere)


def _mutant(name: str, function: str, patch: Callable[..., Any]) -> Mutant:
    family, _, variant = name.partition(".")
    return Mutant(
        f"{ORDER}.{family}", "caller", (patch.__doc__ or "").strip(), programs.rename_everywhere,
        patches={f"vfsim.{function}": patch}, fires=(ORDER,), variant=variant,
    )  # fmt: skip


# -- i_rwsem ---------------------------------------------------------------------------------------


def _lower_first(real: Any, p1: Dentry, p2: Dentry) -> Dentry | None:
    """The directory below is locked before the one above."""
    dir1, dir2 = p1.d_inode, p2.d_inode
    assert dir1 is not None and dir2 is not None
    trap = d_ancestor(p2, p1)
    if trap is None and d_ancestor(p1, p2) is None:
        return real(p1, p2)  # type: ignore[no-any-return]
    p1.d_sb.s_vfs_rename_mutex.lock()
    lower, upper = (dir1, dir2) if trap is not None else (dir2, dir1)
    lower.i_rwsem.down_write(I_MUTEX_PARENT)
    upper.i_rwsem.down_write(I_MUTEX_CHILD)
    return trap or d_ancestor(p1, p2)


def _without_mutex(real: Any, p1: Dentry, p2: Dentry) -> Dentry | None:
    """s_vfs_rename_mutex comes after the two directories."""
    dir1, dir2 = p1.d_inode, p2.d_inode
    assert dir1 is not None and dir2 is not None
    if p1 is p2 or d_ancestor(p1, p2) or d_ancestor(p2, p1):
        return real(p1, p2)  # type: ignore[no-any-return]
    dir1.i_rwsem.down_write(I_MUTEX_PARENT)
    dir2.i_rwsem.down_write(I_MUTEX_PARENT2)
    assert p1.d_sb.s_vfs_rename_mutex.trylock()
    return None


def _as_given(real: Any, a: Inode | None, b: Inode | None) -> None:
    """Two files are locked in the order in which they are given."""
    if a is not None:
        a.i_rwsem.down_write()
    if b is not None and b is not a:
        b.i_rwsem.down_write(I_MUTEX_NONDIR2)


# -- d_lock ----------------------------------------------------------------------------------------


def _lower_d_lock_first(real: Any, dentry: Dentry, target: Dentry) -> None:
    """A move locks the parent below before the one above."""
    one, other = dentry.d_parent, target.d_parent
    if d_ancestor(one, other) is None and d_ancestor(other, one) is None:
        real(dentry, target)
        return
    lower, upper = (other, one) if d_ancestor(one, other) else (one, other)
    lower.d_lock.lock()
    upper.d_lock.lock(DENTRY_D_LOCK_NESTED)
    first, second = sorted((dentry, target), key=lambda d: d.d_addr)
    first.d_lock.lock(2)
    second.d_lock.lock(3)


def _without_rename_lock(real: Any, dentry: Dentry, target: Dentry) -> None:
    """A move does not take rename_lock, which its order of two strangers relies on."""
    d_move_locked(dentry, target, False)


def _parent_inside(real: Any, dentry: Dentry) -> Dentry | None:
    """Whoever kills a dentry waits for its parent's lock while it has the dentry's."""
    parent = dentry.d_parent
    if parent is dentry or dentry.d_lockref.count < 0:
        return None
    parent.d_lock.lock(DENTRY_D_LOCK_NESTED)
    return parent
