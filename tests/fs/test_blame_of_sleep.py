"""Whose bug it is when the kernel sleeps under a filesystem's spinlock: the filesystem's.

The frame that sleeps is the kernel's in each of these, and so is the caller of the method that may
not be called there: only who took the spinlock tells.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from vfsim.checks.lockdep import Lockdep
from vfsim.filesystems.ramfs import RamDirectory, RamFS, RamSuper
from vfsim.fs.dcache import Dentry, dget, dput
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.bdi import mark_inode_dirty


class Sleepy(RamDirectory):
    """Holds a spinlock of its own while it puts a dentry, which may free it."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        with SpinLock("sleepy lock"):
            dput(dget(dentry))
        super().create(dir, dentry, mode, excl)


class Dirties(RamDirectory):
    """Holds it while the kernel calls back a method that may sleep."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        with SpinLock("sleepy lock"):
            mark_inode_dirty(dir)
        super().create(dir, dentry, mode, excl)


class Hears(RamSuper):
    """Has a method for dirty inodes."""

    def dirty_inode(self, inode: Inode, flags: int) -> None:
        pass


def told(directory: type[RamDirectory]) -> list[tuple[str, str]]:
    """The first rule that such a filesystem breaks when a file is created, and who is blamed."""

    class FS(RamFS):
        name = "sleepy"

        def fill_super(self, sb: SuperBlock, data: Any) -> None:
            super().fill_super(sb, data)
            sb.s_op = Hears()
            assert sb.s_root is not None and sb.s_root.d_inode is not None
            sb.s_root.d_inode.i_op = directory()

    def creates(sys: Sys) -> None:
        sys.close(sys.open("/f", os.O_CREAT, 0o644))

    kernel = Kernel()
    try:
        kernel.mount(FS(), "/")
        kernel.process(creates)
        kernel.machine.run()
        return [(v.rule, v.blamed) for v in kernel.violations][:1]
    finally:
        kernel.machine.bury()


CASES = [
    (Sleepy, "lockdep.sleep-in-atomic"),
    (Dirties, "P6"),
]


@pytest.mark.parametrize(("directory", "rule"), CASES)
def test_who_took_the_spinlock_is_blamed(directory: type[RamDirectory], rule: str) -> None:
    """The filesystem's method, by name."""
    ((found, blamed),) = told(directory)
    assert found == rule
    assert blamed == f"filesystem {directory.__name__}.create"


@pytest.mark.parametrize(("directory", "rule"), CASES)
def test_it_is_that_look_which_tells(
    directory: type[RamDirectory], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the kernel would be blamed for what the filesystem made it do."""
    monkeypatch.setattr(Lockdep, "forbidder", lambda self, task: None)
    assert [blamed for _, blamed in told(directory)] == ["kernel"]


def test_without_the_spinlock_both_are_fine() -> None:
    """The plain directory is silent."""
    assert told(RamDirectory) == []
