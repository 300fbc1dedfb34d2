"""Freezing: the levels in their order, writers that wait, readers that do not, and the rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fs.worlds import superblock
from vfsim.block.device import BlockDevice
from vfsim.block.disk import RamDisk
from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeFS, WholeSuper
from vfsim.fs.freeze import freeze_bdev, freeze_super, thaw_bdev, thaw_super
from vfsim.fs.ioctl import FIFREEZE, FITHAW
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import (
    MS_RDONLY,
    MS_REMOUNT,
    SuperBlock,
    deactivate_super,
    get_active_super,
    sync_filesystem,
)
from vfsim.fs.syscalls import Sys
from vfsim.fs.writers import (
    SB_FREEZE_COMPLETE,
    SB_FREEZE_FS,
    SB_FREEZE_PAGEFAULT,
    SB_FREEZE_WRITE,
    SB_UNFROZEN,
    sb_end_intwrite,
    sb_end_pagefault,
    sb_end_write,
    sb_start_intwrite,
    sb_start_pagefault,
    sb_start_write,
    sb_start_write_trylock,
)
from vfsim.sim.errors import EIO
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K


class Noting(WholeSuper):
    """Writes down what a freeze asks, and how far it has come then."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.fails = ""

    def _note(self, what: str, sb: SuperBlock) -> None:
        assert sb.s_umount.owner is K.cur
        self.log.append((what, sb.s_writers.frozen))
        if self.fails == what:
            raise EIO()

    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        if sb.s_writers.frozen:
            self._note(f"sync {wait}", sb)

    def freeze_fs(self, sb: SuperBlock) -> None:
        self._note("freeze", sb)

    def unfreeze_fs(self, sb: SuperBlock) -> None:
        self._note("thaw", sb)


@contextmanager
def whole(super: Any = None, **options: Any) -> Iterator[Kernel]:
    """A kernel with wholefs at "/", checked at the end."""
    fs = type("Frosty", (WholeFS,), {"super": super or WholeSuper()})
    with Kernel(**options) as kernel:
        kernel.mount(fs, "/", device=RamDisk(sectors=2048))
        yield kernel
        if not kernel.machine.stopped:
            kernel._check()


def fifreeze(sys: Sys) -> None:
    fd = sys.open("/", os.O_RDONLY)
    sys.ioctl(fd, FIFREEZE)
    sys.close(fd)


def fithaw(sys: Sys) -> None:
    fd = sys.open("/", os.O_RDONLY)
    sys.ioctl(fd, FITHAW)
    sys.close(fd)


def make(sys: Sys, path: str, data: bytes = b"x") -> int:
    fd = sys.open(path, os.O_CREAT | os.O_RDWR)
    sys.write(fd, data)
    return fd


def test_the_order_of_a_freeze() -> None:
    """Sync at the page-fault level, freeze_fs at the internal one, unfreeze_fs at the end."""
    noting = Noting()

    def work(sys: Sys) -> None:
        sys.close(make(sys, "/f"))
        sb = superblock(kernel)
        fifreeze(sys)
        assert sb.s_writers.frozen == SB_FREEZE_COMPLETE and sb.s_active == 2
        assert K.cur.held is None, "nobody holds the levels of a frozen filesystem"
        assert all(sem.is_locked() for sem in sb.s_writers.rw_sem)
        fithaw(sys)
        assert sb.s_writers.frozen == SB_UNFROZEN and sb.s_active == 1
        assert not any(sem.is_locked() for sem in sb.s_writers.rw_sem)

    with whole(noting) as kernel:
        kernel.call(work)
    assert noting.log == [
        ("sync False", SB_FREEZE_PAGEFAULT),
        ("sync True", SB_FREEZE_PAGEFAULT),
        ("freeze", SB_FREEZE_FS),
        ("thaw", SB_FREEZE_COMPLETE),
    ]


CHANGES: dict[str, Callable[[Sys], Any]] = {
    "create": lambda sys: sys.close(sys.open("/new", os.O_CREAT | os.O_WRONLY)),
    "write": lambda sys: sys.write(0, b"more"),
    "truncate": lambda sys: sys.truncate("/f", 0),
    "ftruncate": lambda sys: sys.ftruncate(0, 0),
    "open O_TRUNC": lambda sys: sys.close(sys.open("/f", os.O_WRONLY | os.O_TRUNC)),
    "chmod": lambda sys: sys.chmod("/f", 0o600),
    "utime": lambda sys: sys.utime("/f"),
    "mkdir": lambda sys: sys.mkdir("/d"),
    "unlink": lambda sys: sys.unlink("/f"),
    "rename": lambda sys: sys.rename("/f", "/g"),
    "link": lambda sys: sys.link("/f", "/g"),
    "symlink": lambda sys: sys.symlink("f", "/s"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_wait_for_the_thaw(name: str) -> None:
    """Each call that changes something waits as long as the filesystem is frozen."""
    done: list[int] = []

    def work(sys: Sys) -> None:
        assert make(sys, "/f") == 0
        fifreeze(sys)

        def change(sys: Sys) -> None:
            CHANGES[name](sys)
            done.append(kernel.now)

        sys.thread(change)
        sys.msleep(10)
        assert done == []
        fithaw(sys)
        sys.close(0)

    with whole() as kernel:
        kernel.call(work)
    assert len(done) == 1 and done[0] >= 10_000_000


def test_looking_does_not_wait() -> None:
    """Reading, listing, opening for writing, syncing: nothing of that is a change."""

    def work(sys: Sys) -> None:
        sys.close(make(sys, "/f"))
        sys.msleep(100)
        fifreeze(sys)
        before = sys.stat("/f").st_atime_ns
        fd = sys.open("/f", os.O_RDWR)
        assert sys.read(fd, 10) == b"x"
        assert sys.listdir("/") == ["f"]
        assert sys.stat("/f").st_atime_ns == before, "the access time stays, too"
        sys.fsync(fd)
        sys.sync()
        sys.statfs("/")
        sys.close(fd)
        fithaw(sys)

    with whole() as kernel:
        kernel.call(work)


def test_a_freeze_waits_for_writers() -> None:
    """The write level drains with s_umount free: whoever writes may need it."""

    def writer() -> None:
        sb = superblock(kernel)
        sb_start_write(sb)
        msleep(5)
        assert sb.s_writers.frozen == SB_FREEZE_WRITE
        with sb.s_umount.shared():
            sync_filesystem(sb)
        sb_end_write(sb)

    def freezer() -> int:
        sb = superblock(kernel)
        msleep(1)
        freeze_super(sb)
        thaw_super(sb)
        return kernel.now

    with whole() as kernel:
        kernel.machine.spawn(writer)
        task = kernel.machine.spawn(freezer)
        kernel.run()
        assert task.result >= 5_000_000


def test_inner_levels_do_not_wait_inside_outer_ones() -> None:
    """Who has the write level gets the others although a freeze has begun."""

    def writer() -> None:
        sb = superblock(kernel)
        sb_start_write(sb)
        msleep(5)
        assert not sb_start_write_trylock(sb)
        sb_start_pagefault(sb)
        sb_start_intwrite(sb)
        sb_end_intwrite(sb)
        sb_end_pagefault(sb)
        sb_end_write(sb)
        msleep(5)
        assert sb.s_writers.frozen == SB_FREEZE_COMPLETE
        sb_start_intwrite(sb)
        assert sb.s_writers.frozen == SB_UNFROZEN
        sb_end_intwrite(sb)

    def freezer() -> None:
        sb = superblock(kernel)
        msleep(1)
        freeze_super(sb)
        msleep(100)
        thaw_super(sb)

    with whole() as kernel:
        kernel.machine.spawn(writer)
        kernel.machine.spawn(freezer)
        kernel.run()


def test_a_removed_file_goes_after_the_thaw() -> None:
    """Evicting is the filesystem's own change: it waits at the internal level."""

    def work(sys: Sys) -> None:
        fd = make(sys, "/f")
        sys.unlink("/f")
        fifreeze(sys)
        sys.thread(lambda sys: (sys.close(fd), done.append(kernel.now)))
        sys.msleep(10)
        assert done == []
        fithaw(sys)

    done: list[int] = []
    with whole() as kernel:
        kernel.call(work)
    assert len(done) == 1 and done[0] >= 10_000_000


def test_freezing_twice() -> None:
    """EBUSY, and so is a remount; thawing what is not frozen is EINVAL."""

    def work(sys: Sys) -> None:
        with pytest.raises(OSError, match="Invalid"):
            fithaw(sys)
        fifreeze(sys)
        with pytest.raises(OSError, match="busy"):
            fifreeze(sys)
        with pytest.raises(OSError, match="busy"):
            sys.mount("", "/", "", MS_REMOUNT)
        fithaw(sys)
        sys.mount("", "/", "", MS_REMOUNT)

    with whole() as kernel:
        kernel.call(work)


def test_who_may_freeze_what() -> None:
    """EPERM without CAP_SYS_ADMIN, EOPNOTSUPP without freeze_fs, ENOTTY for another command."""

    def work(sys: Sys) -> None:
        fd = sys.open("/", os.O_RDONLY)
        with pytest.raises(OSError, match="not supported"):
            sys.ioctl(fd, FIFREEZE)
        with pytest.raises(OSError, match="ioctl"):
            sys.ioctl(fd, 0x1234)
        sys.setuid(1)
        for command in (FIFREEZE, FITHAW):
            with pytest.raises(OSError, match="not permitted"):
                sys.ioctl(fd, command)
        sys.close(fd)

    with Kernel() as kernel:
        kernel.mount(RamFS(), "/")
        kernel.call(work)


def test_a_read_only_filesystem_has_nothing_to_drain() -> None:
    """It is marked, so that nobody remounts it, and the filesystem is not asked."""
    noting = Noting()

    def work(sys: Sys) -> None:
        sys.mount("", "/", "", MS_REMOUNT | MS_RDONLY)
        noting.log.clear()
        fifreeze(sys)
        with pytest.raises(OSError, match="busy"):
            sys.mount("", "/", "", MS_REMOUNT)
        fithaw(sys)

    with whole(noting) as kernel:
        kernel.call(work)
    assert noting.log == []


def test_failures_leave_a_whole_state() -> None:
    """freeze_fs fails: not frozen, and writable.  unfreeze_fs fails: still frozen."""
    noting = Noting()

    def work(sys: Sys) -> None:
        sb = superblock(kernel)
        noting.fails = "freeze"
        with pytest.raises(OSError, match="Input/output"):
            fifreeze(sys)
        assert sb.s_writers.frozen == SB_UNFROZEN and sb.s_active == 1
        sys.mkdir("/d")
        noting.fails = "thaw"
        fifreeze(sys)
        with pytest.raises(OSError, match="Input/output"):
            fithaw(sys)
        assert sb.s_writers.frozen == SB_FREEZE_COMPLETE
        noting.fails = ""
        fithaw(sys)
        sys.rmdir("/d")

    with whole(noting) as kernel:
        kernel.call(work)


def test_freezes_by_device_are_counted() -> None:
    """freeze_bdev(): the last thaw counts, and the device cannot be mounted in between."""

    def frozen() -> None:
        sb = superblock(kernel)
        bdev = sb.s_bdev
        assert bdev is not None
        with pytest.raises(OSError, match="Invalid"):
            thaw_bdev(bdev, sb)
        assert freeze_bdev(bdev) is sb and freeze_bdev(bdev) is sb
        thaw_bdev(bdev, sb)
        assert sb.s_writers.frozen == SB_FREEZE_COMPLETE
        with pytest.raises(OSError, match="busy"):
            sb.s_type.mount(0, "/dev/ram0", "")
        thaw_bdev(bdev, sb)
        assert sb.s_writers.frozen == SB_UNFROZEN and sb.s_active == 1

    with whole() as kernel:
        kernel._do(frozen)


def test_a_device_without_a_filesystem_can_be_frozen() -> None:
    """There is nothing to freeze; it just cannot be mounted."""

    def frozen() -> None:
        bdev = superblock(kernel).s_bdev
        assert bdev is not None
        other = type(bdev)(RamDisk(sectors=8), kernel.machine, 77)
        assert freeze_bdev(other) is None and other.bd_fsfreeze_count == 1
        assert freeze_bdev(other) is None
        thaw_bdev(other, None)
        thaw_bdev(other, None)
        assert other.bd_fsfreeze_count == 0

    with whole() as kernel:
        kernel._do(frozen)


def test_freezing_against_unmounting() -> None:
    """get_active_super() finds a filesystem that lives, or none; never one that is dying."""

    def freezer(bdev: BlockDevice) -> None:
        found = get_active_super(bdev)
        if found is not None:
            assert found.s_root is not None
            deactivate_super(found)

    for seed in range(60):
        with whole(seed=seed, strategy="random" if seed % 2 else "pos") as kernel:
            kernel.machine.spawn(freezer, superblock(kernel).s_bdev)
            kernel.machine.spawn(kernel._umount, "/")
            kernel.run()


def test_writers_against_freezes() -> None:
    """Under every schedule all writers come through, and what is on the disk does not change while
    it is frozen.
    """
    for seed in range(60):
        with whole(seed=seed, strategy="random" if seed % 2 else "pos") as kernel:
            disk = kernel._disks[0][1].bd_disk

            def freezer(sys: Sys, disk: Any = disk) -> None:
                fifreeze(sys)
                before = dict(disk._medium)
                sys.msleep(1)
                assert dict(disk._medium) == before
                fithaw(sys)

            def writer(sys: Sys, name: str) -> None:
                fd = make(sys, name)
                sys.fsync(fd)
                sys.close(fd)
                sys.unlink(name)

            kernel.process(freezer)
            kernel.process(writer, "/a")
            kernel.process(writer, "/b")
            kernel.run()
