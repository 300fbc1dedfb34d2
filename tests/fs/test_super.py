"""Superblocks: found or made, shut down in the right order, shared and remounted."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.fs.worlds import Plain, PlainSuper, add, bugs, mounted, regular, root_of, run, superblock
from vfsim.block.disk import RamDisk
from vfsim.checks.lifetime import is_freed
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import Dentry, dput
from vfsim.fs.iget import iget_locked, unlock_new_inode
from vfsim.fs.inode import Inode, clear_inode, iput, new_inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType
from vfsim.fs.super import (
    MS_ACTIVE,
    MS_BORN,
    MS_LAZYTIME,
    MS_NOSUID,
    MS_RDONLY,
    KStatfs,
    SuperBlock,
    deactivate_locked_super,
    deactivate_super,
    do_remount_sb,
    drop_super,
    get_super,
    iterate_supers,
    mount_bdev,
    mount_fs,
    mount_nodev,
    mount_single,
    supers,
    sync_filesystem,
    user_get_super,
)
from vfsim.locks.rcu import rcu_barrier
from vfsim.sim.errors import EINVAL
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


def umount(root: Dentry) -> None:
    """Give back what `mount_fs` gave."""
    sb = root.d_sb
    dput(root)
    deactivate_super(sb)


def test_each_mount_in_memory_is_a_filesystem_of_its_own() -> None:
    """mount_nodev(): locked and unborn until mount_fs() lets go, then active and free."""

    def work(sb: SuperBlock) -> None:
        fs = Plain()
        root = fs.mount(0, "", "")
        new = root.d_sb
        assert new.s_umount.owner is K.cur and not new.s_flags & MS_BORN
        assert new.s_flags & MS_ACTIVE and new.s_dev != sb.s_dev
        new.s_umount.up_write()
        other = mount_fs(fs, 0, "", "")
        assert other.d_sb is not new and other.d_sb.s_flags & MS_BORN
        assert not other.d_sb.s_umount.is_locked()
        assert list(supers().super_blocks) == [sb, new, other.d_sb]
        umount(root)
        umount(other)
        rcu_barrier()
        assert list(supers().super_blocks) == [sb] and is_freed(new)

    run(work)


class Single(Plain):
    """One superblock, wherever it is mounted."""

    name = "single"

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        return mount_single(self, flags, data, self.fill_super)


def test_a_single_filesystem_is_shared() -> None:
    """mount_single(): the second mount gets the first one's superblock."""

    def work(sb: SuperBlock) -> None:
        first, second = mount_fs(Single(), 0, "", ""), mount_fs(Single(), 0, "", "")
        assert first is second and first.d_sb.s_active == 2
        umount(first)
        assert first.d_sb.s_active == 1 and first.d_sb.s_root is first
        umount(second)

    run(work)


def test_mounting_meets_unmounting() -> None:
    """sget() waits for a superblock that is being shut down, and then makes a new one."""
    for seed in range(60):
        with mounted(seed=seed, strategy="random") as (kernel, _):

            def user(shared: Single) -> SuperBlock:
                root = mount_fs(shared, 0, "", "")
                sb = root.d_sb
                assert sb.s_root is root and sb.s_active > 0
                umount(root)
                return sb

            for _ in range(3):
                kernel.machine.spawn(user, Single())
            kernel.run()
            kernel.close()
            assert kernel.violations == []


class Disk(Plain):
    """A filesystem that wants a disk."""

    name = "disk"
    device = RamDisk(sectors=64)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        if data == "bad":
            raise EINVAL()
        super().fill_super(sb, data)


def test_a_disk_is_mounted_once() -> None:
    """mount_bdev(): the same disk again is the same superblock; read-only and read-write do not
    mix.
    """

    def again(sb: SuperBlock) -> None:
        assert sb.s_bdev is not None and sb.s_bdev.bd_super is sb and sb.s_bdi is not None
        root = mount_fs(Disk(), 0, "/dev/ram0", "")
        assert root.d_sb is sb and sb.s_active == 2 and sb.s_bdev.bd_openers == 1
        umount(root)
        with pytest.raises(OSError, match="busy"):
            mount_fs(Disk(), MS_RDONLY, "/dev/ram0", "")
        assert sb.s_bdev.bd_openers == 1
        with pytest.raises(OSError, match="Block device required"):
            mount_fs(Disk(), 0, "/dev/ram7", "")

    run(again, fs=Disk())


def test_a_disk_is_closed_after_umount() -> None:
    """kill_block_super() gives it back, also after a failed mount."""
    with Kernel() as kernel:
        with pytest.raises(OSError, match="Invalid argument"):
            kernel.mount(Disk(), "/", options="bad")
        (bdev,) = kernel.machine.data["block_devices"].values()
        assert bdev.bd_openers == 0 and bdev.bd_holder is None and bdev.bd_super is None
        kernel.mount(Disk(), "/")
        assert superblock(kernel).s_bdev is bdev and bdev.bd_openers == 1
        kernel.umount("/")
        assert bdev.bd_openers == 0


class Diary(PlainSuper):
    """Writes down in which order a superblock is shut down."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        self.log.append(f"sync {wait}")

    def evict_inode(self, inode: Inode) -> None:
        self.log.append(f"evict {inode.i_ino}")
        clear_inode(inode)

    def put_super(self, sb: SuperBlock) -> None:
        assert sb.s_umount.owner is K.cur and not sb.s_inodes
        self.log.append("put_super")


def test_umount_has_an_order() -> None:
    """First the dentries, then what is dirty (started, then waited for), then cached inodes, then
    the superblock.
    """
    diary = Diary()

    def work(sb: SuperBlock) -> None:
        inode = iget_locked(sb, 500)
        unlock_new_inode(inode)
        iput(inode)
        dentry = add(root_of(sb), "a", regular(sb))
        dput(dentry)
        diary.log.clear()

    run(work, fs=Plain(diary))
    assert diary.log == ["evict 2", "evict 1", "sync False", "sync True", "evict 500", "put_super"]


class Failing(Plain):
    """A mount that fails half way."""

    name = "failing"

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_op = self.s_op
        if data == "root":
            super().fill_super(sb, data)
        else:
            iput(new_inode(sb))
        raise EINVAL()


def test_a_failed_mount_leaves_nothing() -> None:
    """Whether it failed before or after the root was there."""

    def work(sb: SuperBlock) -> None:
        for data in ("", "root"):
            with pytest.raises(OSError, match="Invalid argument"):
                mount_fs(Failing(), 0, "", data)
        assert list(supers().super_blocks) == [sb]

    run(work)


class Rootless(FileSystemType):
    """Forgets to set s_root."""

    name = "rootless"

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        return mount_nodev(self, flags, data, lambda sb, data: None)


def test_a_mount_without_a_root_says_what_to_write() -> None:
    """It is the newcomer's mistake, so the message is an instruction."""
    with mounted() as (kernel, _):
        kernel.machine.spawn(mount_fs, Rootless(), 0, "", "")
        kernel.machine.run()
        assert "d_make_root" in " ".join(
            (kernel.violations[0].summary, *kernel.violations[0].details)
        )


def test_too_many_puts_are_a_hard_bug() -> None:
    """An active reference that nobody has."""

    def work(sb: SuperBlock) -> None:
        root = mount_fs(Plain(), 0, "", "")
        new = root.d_sb
        dput(root)
        new.s_count += 1
        deactivate_super(new)
        new.s_umount.down_write()
        deactivate_locked_super(new)

    assert bugs(work)[0].rule == "lifetime.underflow"


def test_all_superblocks_are_visited() -> None:
    """iterate_supers(): with s_umount held shared, those being shut down left out."""

    def work(sb: SuperBlock) -> None:
        root = mount_fs(Plain(), 0, "", "")
        seen: list[SuperBlock] = []

        def visit(one: SuperBlock) -> None:
            assert K.cur in one.s_umount.readers
            seen.append(one)

        iterate_supers(visit)
        assert seen == [sb, root.d_sb]
        assert user_get_super(999) is None
        found = user_get_super(sb.s_dev)
        assert found is sb and K.cur in sb.s_umount.readers
        drop_super(sb)
        umount(root)

    run(work)


def test_syncing_needs_s_umount() -> None:
    """E13; and a read-only filesystem has nothing to sync."""
    diary = Diary()

    def work(sb: SuperBlock) -> None:
        diary.log.clear()
        with sb.s_umount.shared():
            sync_filesystem(sb)
            sb.s_flags |= MS_RDONLY
            sync_filesystem(sb)
            sb.s_flags &= ~MS_RDONLY
        assert diary.log == ["sync False", "sync True"]

    run(work, fs=Plain(diary))
    assert bugs(sync_filesystem)[0].rule == "E13"


def test_remounting_read_only_waits_for_no_writer() -> None:
    """EBUSY while a file is open for writing or a removed one is open; then writing is EROFS."""
    kernel = Kernel()
    kernel.mount(RamFS(), "/")
    sb = superblock(kernel)

    def remount(flags: int) -> None:
        with sb.s_umount:
            do_remount_sb(sb, flags, None, False)

    def work(sys: Any) -> None:
        fd = sys.open("/a", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match="busy"):
            remount(MS_RDONLY)
        sys.close(fd)
        fd = sys.open("/a", os.O_RDONLY)
        sys.unlink("/a")
        with pytest.raises(OSError, match="busy"):
            remount(MS_RDONLY)
        sys.close(fd)
        remount(MS_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            sys.mkdir("/d")
        remount(0)
        sys.mkdir("/d")

    kernel.call(work)
    kernel.shutdown()


class Remounting(PlainSuper):
    """Has its own idea of flags, syncs when it is remounted, and may refuse."""

    def __init__(self) -> None:
        self.fails = False
        self.synced: list[bool] = []

    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        assert sb.s_umount.owner is K.cur
        self.synced.append(wait)

    def remount_fs(self, sb: SuperBlock, flags: int, data: str) -> int:
        sync_filesystem(sb)
        if self.fails:
            raise EINVAL()
        return flags | MS_LAZYTIME


def test_a_filesystem_has_a_say_in_its_flags() -> None:
    """remount_fs() returns the flags to have; what it raises cancels the remount, unless forced."""
    remounting = Remounting()

    def work(sb: SuperBlock) -> None:
        with sb.s_umount:
            do_remount_sb(sb, MS_RDONLY | MS_NOSUID, "", False)
            assert sb.s_flags & MS_RDONLY and sb.s_flags & MS_LAZYTIME
            assert not sb.s_flags & MS_NOSUID, "that is a mount's, not a superblock's"
            assert remounting.synced == [False, True]
            do_remount_sb(sb, 0, "", False)
            remounting.fails = True
            with pytest.raises(OSError, match="Invalid"):
                do_remount_sb(sb, MS_RDONLY, "", False)
            assert not sb.s_flags & MS_RDONLY and not sb.s_readonly_remount
            do_remount_sb(sb, MS_RDONLY, "", True)
            assert sb.s_flags & MS_RDONLY
            do_remount_sb(sb, 0, "", True)

    run(work, fs=Plain(remounting))


def test_a_disk_that_is_being_unmounted_has_no_superblock() -> None:
    """get_super() and user_get_super() wait for s_umount, look again, and find nothing."""
    seen: list[SuperBlock | None] = []

    def umounter(sb: SuperBlock) -> None:
        root = mount_fs(Disk(), 0, "/dev/ram0", "")
        umount(root)

    def seeker(sb: SuperBlock) -> None:
        bdev, dev = sb.s_bdev, sb.s_dev
        assert bdev is not None
        for look in (lambda: get_super(bdev), lambda: user_get_super(dev)):
            found = look()
            seen.append(found)
            if found is not None:
                assert found.s_root is not None and K.cur in found.s_umount.readers
                drop_super(found)

    for seed in range(30):
        with mounted(Disk(), seed=seed, strategy="random" if seed % 2 else "pos") as (kernel, sb):
            kernel.machine.spawn(umounter, sb)
            kernel.machine.spawn(seeker, sb)
            kernel.machine.spawn(kernel._umount, "/")
            kernel.run()
            kernel.close()
            assert kernel.violations == []
    assert {found is None for found in seen} == {True, False}


def test_all_superblocks_are_visited_while_some_go() -> None:
    """iterate_supers() goes on from where it was, whatever was mounted and unmounted meanwhile."""

    def visitor(sb: SuperBlock) -> int:
        seen: list[SuperBlock] = []
        iterate_supers(seen.append)
        assert sb in seen and len(seen) == len(set(seen))
        return len(seen)

    def mounter(sb: SuperBlock) -> None:
        for _ in range(3):
            umount(mount_fs(Plain(), 0, "", ""))

    counts: dict[int, None] = {}
    for seed in range(40):
        found = run(visitor, mounter, seed=seed, strategy="random" if seed % 2 else "pos")
        counts[found[0]] = None
    assert len(counts) > 1


def test_statfs_is_the_filesystems() -> None:
    """Linux's errno for a filesystem that has none, the answer of the one that has."""

    def work(sb: SuperBlock) -> None:
        answer = sb.s_op.statfs(root_of(sb))
        assert isinstance(answer, KStatfs) and answer.f_namelen == 255

    run(work)


def test_umount_waits_for_the_last_user() -> None:
    """A superblock shuts down when its last active reference goes, whoever holds that."""

    def work(sb: SuperBlock) -> None:
        root = mount_fs(Plain(), 0, "", "")
        new = root.d_sb
        new.s_active += 1
        umount(root)
        assert new.s_root is root and new.s_active == 1
        msleep(1)
        deactivate_super(new)
        assert new.s_root is None

    run(work)


def test_mount_bdev_takes_the_device_itself() -> None:
    """A block device instead of its name will do."""

    def work(sb: SuperBlock) -> None:
        assert sb.s_bdev is not None
        root = mount_bdev(Disk(), 0, sb.s_bdev, "", Disk().fill_super)
        assert root.d_sb is sb
        sb.s_umount.up_write()
        umount(root)

    run(work, fs=Disk())


def test_invariants_are_stated() -> None:
    """_check() goes through counts, inodes and the tree."""

    def work(sb: SuperBlock) -> None:
        sb._check()
        sb.s_remove_count = -1
        with pytest.raises(AssertionError, match="-1 removed inodes"):
            sb._check()
        sb.s_remove_count = 0

    run(work)
