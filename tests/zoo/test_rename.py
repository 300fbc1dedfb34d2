"""Bugs that renames, links and error paths of Linux's filesystems had."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from vfsim.filesystems.ramfs import RamDirectory, RamFile, RamFS, RamInode
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.fs.attr import ATTR_UID, IAttr
from vfsim.fs.kernel import Kernel
from vfsim.fs.permission import may_create
from vfsim.fs.syscalls import Sys
from vfsim.locks import Mutex
from vfsim.sim.errors import EDQUOT
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.testing.selftest.mutants import patched

Patches = Mapping[str, Callable[..., Any]]
SCHEDULES = 60


def found(
    filesystem: type[RamFS], setup: Any, tasks: tuple[Any, ...], seed: int, patches: Patches
) -> str:
    """The rule that is broken first in one POS schedule of some processes; "" if none is."""
    kernel = Kernel(seed=seed, strategy="pos", races=True)
    try:
        with patched(patches):
            kernel.mount(filesystem, "/")
            kernel.call(setup)
            for fn in tasks:
                kernel.process(fn)
            kernel.machine.run()
            if not kernel.machine.stopped:
                kernel.close()
        return kernel.violations[0].rule if kernel.violations else ""
    finally:
        kernel.machine.bury()


def pair(
    broken: type[RamFS],
    fixed: type[RamFS],
    setup: Any,
    *tasks: Any,
    patches: Patches | None = None,
) -> str:
    """The rule that the broken one is caught by under POS; the fixed one is silent throughout."""
    rules = {found(broken, setup, tasks, seed, patches or {}) for seed in range(SCHEDULES)}
    assert {found(fixed, setup, tasks, seed, {}) for seed in range(SCHEDULES)} == {""}
    (rule,) = rules - {""}
    return rule


def attempt(fn: Any, *args: Any) -> None:
    """A call that may be refused."""
    try:
        fn(*args)
    except OSError:
        pass


# -- RN-02: lock moved directories (v6.5) ----------------------------------------------------------


@kernel_struct
class Block:
    """What a directory's block says: who its parent is, and how many entries it has.

    In Linux both are bytes of one block, written as a whole.
    """

    lock: Mutex
    content: Annotated[tuple[int, int], guarded_by("lock")]


@kernel_struct
class BlockInode(RamInode):
    """An inode with a block."""

    block: Block

    def __init__(self, sb: SuperBlock) -> None:
        RamInode.__init__(self, sb)
        self.block = Block(Mutex("block"), (0, 0))


class BlockSuper(type(RamFS.super)):  # type: ignore[misc]
    """Its inodes have blocks."""

    def alloc_inode(self, sb: SuperBlock) -> Inode:
        return BlockInode(sb)


class DotDot(RamDirectory):
    """Creating adds an entry to the directory's block; moving rewrites the ".." in it.

    The first has the directory's i_rwsem; the second has not, as v4.10 locks the two parents only.
    """

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        super().create(dir, dentry, mode, excl)
        assert isinstance(dir, BlockInode)
        parent, entries = dir.block.content
        dir.block.content = parent, entries + 1

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        super().rename(old_dir, old_dentry, new_dir, new_dentry, flags)
        moved = old_dentry.d_inode
        assert isinstance(moved, BlockInode)
        _, entries = moved.block.content
        moved.block.content = new_dir.i_ino, entries


class LockedDotDot(RamDirectory):
    """Both have the block's own lock."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        super().create(dir, dentry, mode, excl)
        assert isinstance(dir, BlockInode)
        with dir.block.lock:
            parent, entries = dir.block.content
            dir.block.content = parent, entries + 1

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        super().rename(old_dir, old_dentry, new_dir, new_dentry, flags)
        moved = old_dentry.d_inode
        assert isinstance(moved, BlockInode)
        with moved.block.lock:
            _, entries = moved.block.content
            moved.block.content = new_dir.i_ino, entries


class DotDotFS(RamFS):
    directory = DotDot()
    super = BlockSuper()


class LockedDotDotFS(RamFS):
    directory = LockedDotDot()
    super = BlockSuper()


def directories(sys: Sys) -> None:
    for path in ("/a", "/b", "/a/moved"):
        sys.mkdir(path)


def moves(sys: Sys) -> None:
    sys.rename("/a/moved", "/b/moved")


def creates(sys: Sys) -> None:
    for path in ("/a/moved/f", "/b/moved/f"):
        attempt(sys.open, path, os.O_CREAT, 0o644)


def test_rn_02_a_moved_directory_is_not_locked() -> None:
    """Its block is written by the move and by a creation in it at once: a race on the block."""
    assert pair(DotDotFS, LockedDotDotFS, directories, moves, creates).startswith("race")


# -- RN-07: don't allow to create a hardlink for a deleted file ------------------------------------


def link_whatever(real: Any, old_dentry: Dentry, dir: Inode, new_dentry: Dentry) -> None:
    """As before v2.6.39: nobody looks whether the file has a name left."""
    inode = old_dentry.d_inode
    assert inode is not None
    may_create(dir, new_dentry)
    with inode.i_rwsem:
        dir.i_op.link(old_dentry, dir, new_dentry)


def a_file(sys: Sys) -> None:
    sys.close(sys.open("/f", os.O_CREAT, 0o644))


def links(sys: Sys) -> None:
    attempt(sys.link, "/f", "/g")


def unlinks(sys: Sys) -> None:
    attempt(sys.unlink, "/f")


def test_rn_07_a_link_to_a_deleted_file() -> None:
    """The name is found, then removed, then linked: a file without links gets one again."""
    patches = {"vfsim.fs.directory.vfs_link": link_whatever}
    assert pair(RamFS, RamFS, a_file, links, unlinks, patches=patches) == "inode.nlink"


# -- EX-01: CVE-2019-15538, missing unlock when setattr fails with EDQUOT --------------------------


class Quota(RamFile):
    """Changing the owner asks the quota, under a lock of its own, and is refused."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        lock: Mutex = dentry.d_sb.s_fs_info
        lock.lock()
        if attr.ia_valid & ATTR_UID:
            raise EDQUOT()
        super().setattr(dentry, attr)
        lock.unlock()


class CarefulQuota(RamFile):
    """The lock is given back whatever happens."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        lock: Mutex = dentry.d_sb.s_fs_info
        with lock:
            if attr.ia_valid & ATTR_UID:
                raise EDQUOT()
            super().setattr(dentry, attr)


class QuotaFS(RamFS):
    file = Quota()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Mutex("ilock")


class CarefulQuotaFS(QuotaFS):
    file = CarefulQuota()


def gives_away(sys: Sys) -> None:
    attempt(sys.chown, "/f", 1000, -1)


def test_ex_01_an_error_path_that_keeps_a_lock() -> None:
    """The method returns EDQUOT with its lock held."""
    rule = pair(QuotaFS, CarefulQuotaFS, a_file, gives_away)
    assert rule == "inode_operations.setattr.exit"
