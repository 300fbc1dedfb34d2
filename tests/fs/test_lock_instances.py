"""Locks of one class in the kernel: directories, files and pages in their order, and mutants that
take them in another, through system calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.mm.worlds import World
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import directory
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import I_MUTEX_CHILD, I_MUTEX_NONDIR2, I_MUTEX_PARENT, I_MUTEX_PARENT2, Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.mm.page import lock_page, trylock_page, unlock_page

ORDER = "lockdep.instance-order"


def told(program: Callable[[Sys], Any]) -> list[tuple[str, str]]:
    """The rules that a process's calls on a fresh filesystem break, and who is blamed."""
    kernel = Kernel()
    try:
        kernel.mount(RamFS(), "/")
        kernel.process(program)
        kernel.machine.run()
        return [(v.rule, v.blamed) for v in kernel.violations]
    finally:
        kernel.machine.bury()


def downwards(sys: Sys) -> None:
    """A file moves from a directory into one inside it, and back."""
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    sys.close(sys.open("/d/f", os.O_CREAT, 0o644))
    sys.rename("/d/f", "/d/e/f")
    sys.rename("/d/e/f", "/d/f")


def across(sys: Sys) -> None:
    """A file moves between two unrelated directories, and back."""
    sys.mkdir("/d")
    sys.mkdir("/e")
    sys.close(sys.open("/d/f", os.O_CREAT, 0o644))
    sys.rename("/d/f", "/e/f")
    sys.rename("/e/f", "/d/f")


def onto(sys: Sys) -> None:
    """Files replace each other, in both orders of their addresses; so do directories."""
    for name in ("/a", "/b", "/c"):
        sys.close(sys.open(name, os.O_CREAT, 0o644))
    sys.rename("/a", "/b")
    sys.rename("/c", "/b")
    sys.close(sys.open("/c", os.O_CREAT, 0o644))
    sys.rename("/c", "/b")
    for name in ("/d", "/e", "/d/x", "/e/x"):
        sys.mkdir(name)
    sys.rename("/d/x", "/e/x")
    sys.rmdir("/e/x")


@pytest.mark.parametrize("program", [downwards, across, onto])
def test_the_kernel_keeps_the_order(program: Callable[[Sys], None]) -> None:
    """Renames of all kinds are silent."""
    assert told(program) == []


def lower_first(p1: Dentry, p2: Dentry) -> Dentry | None:
    """A mutant of lock_rename: the descendant is taken first, with the right subclasses."""
    dir1, dir2 = p1.d_inode, p2.d_inode
    assert dir1 is not None and dir2 is not None
    p1.d_sb.s_vfs_rename_mutex.lock()
    trap = directory.d_ancestor(p2, p1)
    lower, upper = (dir1, dir2) if trap is not None else (dir2, dir1)
    lower.i_rwsem.down_write(I_MUTEX_PARENT)
    upper.i_rwsem.down_write(I_MUTEX_CHILD)
    return trap or directory.d_ancestor(p1, p2)


def without_mutex(p1: Dentry, p2: Dentry) -> Dentry | None:
    """A mutant of lock_rename: s_vfs_rename_mutex is taken too late."""
    dir1, dir2 = p1.d_inode, p2.d_inode
    assert dir1 is not None and dir2 is not None
    dir1.i_rwsem.down_write(I_MUTEX_PARENT)
    dir2.i_rwsem.down_write(I_MUTEX_PARENT2)
    assert p1.d_sb.s_vfs_rename_mutex.trylock()
    return None


def as_given(a: Inode, b: Inode) -> None:
    """A mutant of lock_two_nondirectories: no look at the addresses."""
    a.i_rwsem.down_write()
    if b is not None and b is not a:
        b.i_rwsem.down_write(I_MUTEX_NONDIR2)


@pytest.mark.parametrize(
    ("name", "mutant", "program"),
    [
        ("lock_rename", lower_first, downwards),
        ("lock_rename", without_mutex, across),
        ("lock_two_nondirectories", as_given, onto),
    ],
)
def test_a_kernel_that_does_not(
    name: str, mutant: Any, program: Callable[[Sys], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classes and subclasses are right, the instances are not: told, and blamed on
    the function that locks, which is the test's here.
    """
    monkeypatch.setattr(directory, name, mutant)
    assert set(told(program)) == {(ORDER, "test")}


def test_pages_by_index() -> None:
    """Pages of one file are locked by ascending index, or tried."""

    def pages_of(*order: tuple[Callable[..., Any], int]) -> list[str]:
        def body(inode: Inode) -> None:
            pages = [inode.i_mapping.pages[i] for i in range(2)]
            for take, index in order:
                take(pages[index])
            for _, index in order:
                unlock_page(pages[index])

        with World() as world:
            world.run(fill, body)
            return [v.rule for v in world.violations]

    assert pages_of((lock_page, 0), (lock_page, 1)) == []
    assert pages_of((lock_page, 1), (trylock_page, 0)) == []
    assert pages_of((lock_page, 1), (lock_page, 0)) == [ORDER]


def fill(inode: Inode) -> None:
    """Two pages in the cache, not locked."""
    from tests.mm.worlds import new_page
    from vfsim.mm.page import put_page

    for index in range(2):
        page = new_page(inode, index)
        unlock_page(page)
        put_page(page)
