"""Whose bug it is when the kernel's own functions do the wrong thing because a filesystem called
them: the filesystem's.

The frame that takes a lock twice, unlocks it twice, or puts the last reference is the kernel's in
each of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from stat import S_IFDIR
from typing import Any

import pytest

from vfsim.checks.lifetime import free
from vfsim.filesystems.libfs import MemoryFileSystem, SimpleSuperOperations, simple_inode
from vfsim.filesystems.ramfs import RamDirectory, RamFS, RamSuper
from vfsim.fs.attr import generic_fillattr
from vfsim.fs.dcache import DCACHE_NEED_AUTOMOUNT, Dentry, d_add, d_make_root, dget, dput
from vfsim.fs.file import O_TMPFILE
from vfsim.fs.iget import iget_locked
from vfsim.fs.inode import Inode, free_inode_nonrcu, ihold, iput
from vfsim.fs.ioctl import FIFREEZE, FITHAW
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import Mount, Path
from vfsim.fs.namespace import vfs_kern_mount
from vfsim.fs.operations import (
    DentryOperations,
    FileOperations,
    FileSystemType,
    InodeOperations,
)
from vfsim.fs.super import SuperBlock, generic_shutdown_super, kill_litter_super, mount_nodev
from vfsim.fs.syscalls import Sys
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.locks.rcu import call_rcu
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.bdi import mark_inode_dirty
from vfsim.sim.errors import EINVAL, EIO, KernelBug
from vfsim.sim.workqueue import DelayedWork, Work, schedule_delayed_work, schedule_work


def creates(sys: Sys) -> None:
    sys.close(sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644))


def creates_and_removes(sys: Sys) -> None:
    creates(sys)
    sys.unlink("/f")


def freezes(sys: Sys) -> None:
    fd = sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
    sys.ioctl(fd, FIFREEZE)
    sys.ioctl(fd, FITHAW)
    sys.close(fd)


def mounts_another(sys: Sys) -> None:
    """The second mount, with other options, fails."""
    sys.mkdir("/m")
    try:
        sys.mount("x", "/m", sys.mounts()[-1].split()[2], 0, "bad")
    except OSError:
        pass


def told(fs: type[FileSystemType], program: Callable[[Sys], Any]) -> list[tuple[str, str]]:
    """The rules that are broken, and who is blamed: once each."""
    kernel = Kernel()
    try:
        kernel.mount(fs(), "/")
        kernel.process(program)
        kernel.machine.run()
        if not kernel.machine.stopped:
            kernel.close()
        return list(dict.fromkeys((v.rule, v.blamed) for v in kernel.violations))
    finally:
        kernel.machine.bury()


def ram(**parts: Any) -> type[FileSystemType]:
    """ramfs with some tables and methods replaced."""
    return type("Ram", (RamFS,), {"name": "ram", **parts})


# -- locks -----------------------------------------------------------------------------------------


class DirtyDrop(RamSuper):
    """Marks the inode dirty, for which i_lock is taken, where it is held already."""

    def drop_inode(self, inode: Inode) -> bool:
        mark_inode_dirty(inode)
        return True


class WritingSync(RamSuper):
    """Wants to write to a filesystem that is being frozen, and waits for the thaw."""

    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        sb_start_write(sb)
        sb_end_write(sb)

    def freeze_fs(self, sb: SuperBlock) -> None: ...


class SleepyCallback(RamSuper):
    """Its RCU callback puts a dentry, which may sleep."""

    def destroy_inode(self, inode: Inode) -> None:
        call_rcu(SleepyCallback.end, inode)

    @staticmethod
    def end(inode: Inode) -> None:
        root = inode.i_sb.s_root
        if root is not None:
            dput(dget(root))
        free_inode_nonrcu(inode)


LOCKS = [
    (DirtyDrop, creates_and_removes, "lockdep.recursion", "DirtyDrop.drop_inode"),
    (WritingSync, freezes, "lockdep.circular", "WritingSync.sync_fs"),
    (SleepyCallback, creates_and_removes, "lockdep.sleep-in-atomic", "SleepyCallback.end"),
]


@pytest.mark.parametrize(("ops", "program", "rule", "culprit"), LOCKS)
def test_who_called_the_kernel_with_the_lock_is_blamed(
    ops: type[RamSuper], program: Callable[[Sys], Any], rule: str, culprit: str
) -> None:
    """All that is told is told of the method, or of the callback."""
    found = told(ram(super=ops()), program)
    assert rule in [rule for rule, _ in found]
    assert {blamed for _, blamed in found} == {f"filesystem {culprit}"}


def test_a_superblock_is_shut_down_twice() -> None:
    """The kernel's function unlocks what it does not hold any more."""

    def kill_sb(self: Any, sb: SuperBlock) -> None:
        kill_litter_super(sb)
        generic_shutdown_super(sb)

    found = told(ram(kill_sb=kill_sb), creates)
    assert found == [("lockdep.unlock-not-held", "filesystem Ram.kill_sb")]


def test_what_follows_from_a_lock_that_is_gone() -> None:
    """Is nobody else's bug: not the kernel's, which calls kill_sb() without the lock now."""

    def fill_super(self: Any, sb: SuperBlock, data: Any) -> None:
        RamFS.fill_super(self, sb, None)
        if data == "bad":
            sb.s_umount.up_write()
            raise EINVAL()

    found = told(ram(fill_super=fill_super), mounts_another)
    assert ("P15", "filesystem Ram.fill_super") in found
    assert "kernel" not in {blamed for _, blamed in found}


def test_who_holds_the_spinlock_is_blamed_for_the_methods_it_calls() -> None:
    """Also by way of another method of the same filesystem."""

    class Atomic(RamDirectory):
        def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
            with SpinLock("my lock"):
                super().create(dir, dentry, mode, excl)

    found = told(ram(directory=Atomic()), creates)
    assert found and all(blamed.endswith(".Atomic.create") for _, blamed in found)


# -- references ------------------------------------------------------------------------------------


def test_a_mount_that_fails_late() -> None:
    """The superblock that was made is its to deactivate."""

    def mount(self: Any, flags: int, dev_name: str, data: str) -> Dentry:
        root = mount_nodev(self, flags, None, self.fill_super)
        if data == "bad":
            root.d_sb.s_umount.up_write()
            dput(root)
            raise EIO()
        return root

    assert told(ram(mount=mount), mounts_another) == [("leak.super", "filesystem Ram.mount")]


def test_a_freed_object_that_the_kernel_is_called_with() -> None:
    """Who kept a pointer without a reference is blamed, although the kernel's helper reads it."""
    kept: list[Inode] = []

    class Keeps(RamDirectory):
        def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
            if kept:
                generic_fillattr(kept[0])
            super().create(dir, dentry, mode, excl)
            kept.append(dentry.d_inode)  # type: ignore[arg-type]

    def program(sys: Sys) -> None:
        creates_and_removes(sys)
        sys.msleep(10)  # the inode is freed after a grace period
        creates(sys)

    found = told(ram(directory=Keeps()), program)
    assert [rule for rule, _ in found] == ["lifetime.use-after-free"]
    assert found[0][1].endswith(".Keeps.create")


def test_a_freed_object_that_the_kernel_gave() -> None:
    """The kernel's use is not the method's, which only passes on what it was called with."""

    class Passes(RamDirectory):
        def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
            free(dir)
            generic_fillattr(dir)

    found = told(ram(directory=Passes()), creates)
    assert found[-1] == ("lifetime.use-after-free", "kernel")


def test_a_reference_that_a_method_was_to_put() -> None:
    """Who kept it is blamed for the leak, too."""

    class Keeps(DentryOperations):
        def d_iput(self, dentry: Dentry, inode: Inode) -> None:
            if inode.i_nlink:
                iput(inode)

    def fill_super(self: Any, sb: SuperBlock, data: Any) -> None:
        sb.s_d_op = Keeps()
        RamFS.fill_super(self, sb, data)

    found = told(ram(fill_super=fill_super), creates_and_removes)
    assert [rule for rule, _ in found] == ["dentry_operations.d_iput.takes_ref", "leak.inode"]
    assert {blamed.rpartition(".")[2] for _, blamed in found} == {"d_iput"}


class NeverFrees(RamSuper):
    def destroy_inode(self, inode: Inode) -> None: ...


class FreesLater(RamSuper):
    """With a timer that may still run when the world ends."""

    def destroy_inode(self, inode: Inode) -> None:
        schedule_delayed_work(DelayedWork(lambda work: free_inode_nonrcu(inode)), 1000)


class FreesByWork(RamSuper):
    def destroy_inode(self, inode: Inode) -> None:
        schedule_work(Work(lambda work: call_rcu(free_inode_nonrcu, inode)))


def test_an_inode_whose_memory_is_lost() -> None:
    """What alloc_inode() gave, destroy_inode() frees, or somebody whom it told to."""
    assert told(ram(super=NeverFrees()), creates) == [
        ("leak.inode-memory", "filesystem NeverFrees.destroy_inode")
    ]
    assert told(ram(super=FreesLater()), creates) == []
    assert told(ram(super=FreesByWork()), creates_and_removes) == []


# -- new inodes ------------------------------------------------------------------------------------


class Numbers(InodeOperations):
    """Every name is the inode of number 7, which it never unlocks."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        inode = iget_locked(dir.i_sb, 7)
        inode.i_mode = 0o100644
        iput(inode)
        raise EIO()


class NumbersFS(MemoryFileSystem):
    """A root with such names."""

    name = "numbers"
    kept: type[InodeOperations] = Numbers

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_op = SimpleSuperOperations()
        root = Inode(sb)
        root.i_mode, root.i_op = 0o40755, self.kept()
        sb.s_root = d_make_root(root)


def looks(sys: Sys) -> None:
    try:
        sys.stat("/a")
    except OSError:
        pass


def test_a_new_inode_that_is_put_before_it_is_unlocked() -> None:
    """Whoever got it new is blamed, for what is left over as well."""
    found = told(NumbersFS, looks)
    assert ("inode.new", "filesystem Numbers.lookup") in found
    assert {blamed for _, blamed in found} == {"filesystem Numbers.lookup"}


def test_a_new_inode_that_is_never_unlocked() -> None:
    """Told at the end, if nobody waited for it before."""

    class Forgets(Numbers):
        def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
            iget_locked(dir.i_sb, 7)
            raise EIO()

    class ForgetsFS(NumbersFS):
        kept = Forgets

    found = told(ForgetsFS, looks)
    assert [rule for rule, _ in found] == ["leak.inode", "inode.new"]
    assert {blamed.rpartition(".")[2] for _, blamed in found} == {"lookup"}


# -- what is left to the VFS -----------------------------------------------------------------------


def test_a_create_that_makes_nothing() -> None:
    """open(2) fails as Linux's does; nothing stumbles."""

    class Lazy(RamDirectory):
        def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None: ...

        def tmpfile(self, dir: Inode, dentry: Dentry, mode: int) -> None: ...

    answers: list[str] = []

    def program(sys: Sys) -> None:
        for path, flags in (("/f", os.O_CREAT), ("/", O_TMPFILE)):
            try:
                sys.open(path, flags | os.O_RDWR, 0o644)
            except FileNotFoundError:
                answers.append(path)

    assert told(ram(directory=Lazy()), program) == []
    assert answers == ["/f", "/"]


def test_a_directory_with_two_dentries() -> None:
    """``d_add`` where `d_splice_alias` is needed: who called it is told so."""

    class Doubles(RamDirectory):
        def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
            ihold(dir)
            d_add(dentry, dir)
            return None

    def program(sys: Sys) -> None:
        sys.stat("/again")

    found = told(ram(directory=Doubles()), program)
    assert found[0][0] == "dcache.alias" and found[0][1].endswith("Doubles.lookup")


def test_an_automount_with_a_reference_too_few() -> None:
    """The kernel finds out, and the method that gave the mount is blamed."""

    class Triggers(DentryOperations):
        def d_automount(self, path: Path) -> Mount | None:
            return vfs_kern_mount(RamFS(), 0, "auto", None)

    class Traps(RamDirectory):
        def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
            super().mkdir(dir, dentry, mode)
            with dentry.d_lock:
                dentry.d_flags |= DCACHE_NEED_AUTOMOUNT

    def fill_super(self: Any, sb: SuperBlock, data: Any) -> None:
        sb.s_d_op = Triggers()
        RamFS.fill_super(self, sb, data)

    def program(sys: Sys) -> None:
        sys.mkdir("/auto")
        sys.stat("/auto/")

    ((rule, blamed),) = told(ram(directory=Traps(), fill_super=fill_super), program)
    assert rule == "kernel.bug" and blamed.endswith("Triggers.d_automount")


class Flat(MemoryFileSystem):
    """Gives its root what it is told to."""

    name = "flat"
    i_op: Any = InodeOperations()
    i_fop: Any = FileOperations()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_op = SimpleSuperOperations()
        root = simple_inode(sb, None, S_IFDIR | 0o755, self.i_op, self.i_fop)
        sb.s_root = d_make_root(root)


@pytest.mark.parametrize(
    ("field", "table", "said"),
    [
        ("i_op", RamDirectory, "is the class RamDirectory, not an object of InodeOperations"),
        ("i_op", FileOperations(), "is FileOperations, not an object of InodeOperations"),
        ("i_fop", None, "is NoneType, not an object of FileOperations"),
    ],
)
def test_a_wrong_table(field: str, table: object, said: str) -> None:
    """Told where the inode gets its name, not where the kernel falls over it."""
    kernel = Kernel()
    with pytest.raises(KernelBug) as caught:
        kernel.mount(type("Flat", (Flat,), {field: table, "__module__": __name__})())
    violation = caught.value.violation
    assert said in violation.summary and violation.blamed == "filesystem Flat.fill_super"
    kernel.machine.bury()
