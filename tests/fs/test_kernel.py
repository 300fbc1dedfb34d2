"""The kernel by hand: mounting, running, shutting down, leaks."""

from __future__ import annotations

import os
from typing import Any

import pytest

import vfsim.block.disk
from tests.fs.conftest import Expect
from vfsim.checks import contract
from vfsim.filesystems.libfs import SimpleAddressSpaceOperations
from vfsim.filesystems.ramfs import RamFS, RamSuper
from vfsim.fs.dcache import dget
from vfsim.fs.file import get_file
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.mm.page import get_page
from vfsim.sim.errors import KernelBug
from vfsim.sim.state import K
from vfsim.sim.workqueue import DelayedWork, schedule_delayed_work


def test_without_a_mount_there_is_a_root() -> None:
    """The built-in root holds directories and nothing else."""
    with Kernel() as k:

        def go(sys: Sys) -> list[str]:
            sys.mkdir("/a")
            sys.mkdir("/a/b")
            sys.mkdir("/c")
            sys.rename("/a/b", "/c")
            with pytest.raises(OSError, match="Permission denied"):
                sys.open("/f", os.O_CREAT)
            with pytest.raises(OSError, match="not empty"):
                sys.rmdir("/..")
            sys.rmdir("/a")
            assert sys.stat("/").st_nlink == 3
            return sys.listdir("/")

        assert k.call(go) == ["c"]
        k._check()


def test_the_first_mount_at_the_top_is_the_root() -> None:
    """Mounting at "/" first makes that filesystem the root; elsewhere, places are made for it."""
    with Kernel() as k:
        k.mount(RamFS(), "/")
        assert k.call(lambda sys: sys.stat("/").st_dev) == 1
    with Kernel() as k:
        k.mount(RamFS, "/deep/place")
        assert k.call(lambda sys: sys.listdir("/deep")) == ["place"]
        k.mount("ramfs", "/other")
        k.umount("/deep/place")
        k.umount("/other")
        assert k.call(lambda sys: sys.listdir("/")) == ["deep", "other"]


def test_mount_errors_leave_the_world_usable(k: Kernel, expect: Expect) -> None:
    """A failed mount raises what mount(2) says, and the next call works."""
    expect.ENOENT(k.mount, RamFS(), "/nowhere")
    expect.ENOENT(k.umount, "/nowhere")
    expect.EINVAL(k.mount, RamFS(), "/", None, "mode=worse")
    with pytest.raises(TypeError, match="FileSystemType"):
        k.mount(object(), "/")  # type: ignore[arg-type]
    k.call(lambda sys: sys.mkdir("/nowhere"))
    expect.EINVAL(k.umount, "/nowhere")
    k.mount(RamFS(), "/nowhere")


def test_a_second_mount_at_the_top(k: Kernel) -> None:
    """It is what processes that start later have as their root, until it is unmounted."""
    k.call(lambda sys: sys.mkdir("/first"))
    k.mount(RamFS(), "/")
    assert k.call(lambda sys: sys.listdir("/")) == []
    k.umount("/")
    assert k.call(lambda sys: sys.listdir("/")) == ["first"]


def test_mounting_by_system_call(k: Kernel, expect: Expect) -> None:
    """mount(2) knows types that were mounted before by their names, and wants CAP_SYS_ADMIN."""

    def go(sys: Sys) -> None:
        sys.mkdir("/m")
        sys.mount("none", "/m", "ramfs", 0, "mode=700")
        assert sys.stat("/m").st_mode & 0o777 == 0o700
        assert sys.mounts() == [
            "ramfs / ramfs rw,relatime 0 0",
            "none /m ramfs rw,relatime,mode=700 0 0",
        ]
        fd = sys.open("/m/f", os.O_CREAT)
        expect.EBUSY(sys.umount, "/m")
        sys.close(fd)
        expect.ENODEV(sys.mount, "none", "/m", "nosuchfs")
        expect.ENOENT(sys.mount, "none", "/none", "ramfs")
        sys.close(sys.open("/file", os.O_CREAT))
        expect.ENOTDIR(sys.mount, "none", "/file", "ramfs")
        expect.EINVAL(sys.umount, "/m", 1 << 20)
        sys.setuid(1000)
        expect.EPERM(sys.mount, "none", "/m", "ramfs")
        expect.EPERM(sys.umount, "/m")
        sys.setuid(0)
        sys.umount("/m")
        expect.EINVAL(sys.umount, "/m")

    k.call(go)


def test_detached_mounts_live_as_long_as_they_are_used(k: Kernel) -> None:
    """MNT_DETACH takes a mount out of the tree at once; its files go on until they are closed."""

    def go(sys: Sys) -> None:
        sys.mkdir("/m")
        sys.mount("none", "/m", "ramfs")
        fd = sys.open("/m/f", os.O_CREAT | os.O_RDWR)
        sys.umount("/m", 2)
        assert sys.listdir("/m") == []
        sys.write(fd, b"on")
        assert sys.pread(fd, 2, 0) == b"on"
        sys.close(fd)

    k.call(go)
    assert len(k.machine.data["supers"].super_blocks) == 1


def test_removing_a_mountpoint_from_elsewhere_is_not_possible(k: Kernel, expect: Expect) -> None:
    """A directory on which something is mounted can be neither removed nor renamed."""

    def go(sys: Sys) -> None:
        sys.mkdir("/m")
        sys.mkdir("/d")
        sys.mount("none", "/m", "ramfs")
        expect.EBUSY(sys.rmdir, "/m")
        expect.EBUSY(sys.rename, "/m", "/n")
        expect.EBUSY(sys.rename, "/d", "/m")
        expect.EISDIR(sys.unlink, "/m")
        sys.umount("/m")
        sys.rmdir("/m")

    k.call(go)


def test_run_raises_what_a_process_raised(k: Kernel) -> None:
    """An exception out of a process ends the world and comes out of run()."""

    def crash(sys: Sys) -> None:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        k.call(crash)


def test_misuse(k: Kernel) -> None:
    """Mounting while processes wait to run, and using a kernel after its end, are misuse."""
    k.process(lambda sys: None, name="waiting")
    with pytest.raises(ValueError, match="before starting processes"):
        k.mount(RamFS(), "/")
    k.run()
    other = Kernel()
    other.shutdown()
    with pytest.raises(ValueError, match="shut down"):
        other.process(lambda sys: None)
    with pytest.raises(ValueError, match="brings its own seed"):
        Kernel(seed=1, strategy=k.machine.strategy)
    with pytest.raises(ValueError, match="no strategy"):
        Kernel(strategy="magic")


def test_a_leaked_file_is_reported() -> None:
    """A reference on an open file that is never put is a leak at shutdown."""
    k = Kernel()
    k.mount(RamFS(), "/")

    def go(sys: Sys) -> None:
        fd = sys.open("/f", os.O_CREAT)
        get_file(K.cur.process.files.find(fd))

    k.call(go)
    with pytest.raises(KernelBug, match="the open file /f is still in use"):
        k.shutdown()
    assert k.violations[0].rule == "leak.file"


def test_a_leaked_dentry_is_reported() -> None:
    """A reference on a name that is never put is a leak at umount."""
    k = Kernel()
    k.mount(RamFS(), "/")

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        fd = sys.open("/d")
        dget(K.cur.process.files.find(fd).f_path.dentry)

    k.call(go)
    k.close()
    assert k.violations and all(v.kind == "leak" for v in k.violations)
    k.machine.bury()


def test_a_bug_ends_the_world_and_is_raised_once() -> None:
    """A method that raises nonsense is an oops: run() raises it, shutdown() does not raise it
    again.
    """

    class Broken(RamFS):
        """A type whose directories cannot make anything."""

        name = "broken"
        directory = type("BrokenDir", (type(RamFS.directory),), {"mkdir": _oops})()

    k = Kernel()
    k.mount(Broken(), "/")
    with pytest.raises(KernelBug) as caught:
        k.call(lambda sys: sys.mkdir("/d"))
    assert caught.value.violation.kind == "oops"
    assert "BrokenDir.mkdir" in caught.value.violation.blamed
    k.shutdown()


def _oops(self: object, dir: Inode, dentry: object, mode: int) -> None:
    """Sleeps.  Fail."""
    raise KeyError("d")


def test_who_a_process_is(k: Kernel) -> None:
    """uid, gid, groups and umask of a process are given at its start."""

    def go(sys: Sys) -> tuple[int, int, bool, int]:
        cred = K.cur.process.cred
        return cred.uid, cred.gid, cred.in_group(9), sys.umask(0)

    assert k.call(go, uid=5, gid=6, groups=[9], umask=0o77) == (5, 6, True, 0o77)


def test_runs_are_repeatable() -> None:
    """One seed, one trace; another seed, another."""

    def digest(seed: int) -> str:
        k = Kernel(seed=seed, trace=True)
        k.mount(RamFS(), "/")
        for name in "ab":
            k.process(lambda sys, n=name: sys.mkdir(f"/{n}"), name=name)
        k.run()
        k.shutdown()
        assert k.trace is not None
        return k.trace.digest()

    assert digest(1) == digest(1)
    assert len({digest(seed) for seed in range(5)}) > 1


def test_checks_can_be_left_out() -> None:
    """Without checks methods are called bare, in this kernel and no other."""
    before = RamFS.directory.implements("mkdir"), contract.enabled()
    site = vars(type(RamFS.directory))["mkdir"]
    with Kernel(checks=False) as k:
        k.mount(RamFS(), "/")

        def go(sys: Sys) -> None:
            sys.mkdir("/d")
            assert vars(type(RamFS.directory))["mkdir"] is not site

        k.call(go)
    assert (RamFS.directory.implements("mkdir"), contract.enabled()) == before


class OnDisk(FileSystemType):
    """A type that formats its disk and refuses to go on."""

    name = "ondisk"
    device = vfsim.block.disk.RamDisk(sectors=8)
    made: list[int] = []
    seen: list[bytes] = []

    @classmethod
    def mkfs(cls, device: vfsim.block.disk.RamDisk) -> None:
        """Put a magic word on the disk."""
        cls.made.append(device.capacity)
        device.write_sectors(0, b"magic".ljust(512, b"\0"))

    def mount(self, flags: int, dev_name: str, data: str) -> None:  # type: ignore[override]
        """Sleeps.  Look at the disk, then refuse."""
        from vfsim.fs.super import lookup_bdev

        disk = lookup_bdev(dev_name).bd_disk
        self.seen.append(disk.read_sectors(0, 1)[:5])
        raise OSError(22, "no")


def test_disks_are_made_formatted_and_kept(expect: Expect) -> None:
    """A filesystem with a device gets a formatted disk, the same one in each mount of a kernel."""
    OnDisk.made.clear()
    OnDisk.seen.clear()
    with Kernel() as k:
        expect.EINVAL(k.mount, OnDisk(), "/")
        expect.EINVAL(k.mount, OnDisk(), "/")
        assert OnDisk.made == [8]
        own = vfsim.block.disk.RamDisk(sectors=16)
        expect.EINVAL(k.mount, OnDisk(), "/", own)
        expect.EINVAL(k.mount, OnDisk(), "/", own)
        assert own.read_sectors(0, 1)[:5] == b"magic"
    assert OnDisk.made == [8, 16]
    assert OnDisk.seen == [b"magic"] * 4


class KeptPages(SimpleAddressSpaceOperations):
    """Never puts the page that ``write_begin`` got."""

    def write_end(
        self,
        file: Any,
        mapping: Any,
        pos: int,
        len: int,
        copied: int,
        page: Any,
        fsdata: Any,
    ) -> int:
        get_page(page)
        return super().write_end(file, mapping, pos, len, copied, page, fsdata)


class KeptFS(RamFS):
    """ramfs that leaks memory."""

    name = "keptfs"
    pages = KeptPages()


def test_a_page_that_is_never_put_is_a_leak() -> None:
    """It belongs to no file any more at the end, and somebody has a reference: who took it is to
    blame.
    """
    kernel = Kernel()
    kernel.mount(KeptFS)

    def work(sys: Any) -> None:
        sys.write(sys.open("/a", os.O_CREAT | os.O_RDWR), b"x")

    kernel.call(work)
    kernel.close()
    found = [(v.rule, v.blamed) for v in kernel.violations]
    kernel.machine.bury()
    assert found == [("leak.page", "filesystem KeptPages.write_begin")]


class Forgetful(RamSuper):
    """Evicts without a word."""

    def evict_inode(self, inode: Any) -> None:
        pass


class ForgetfulFS(RamFS):
    """ramfs without clear_inode()."""

    name = "forgetfulfs"
    super = Forgetful()


def test_an_inode_that_is_not_cleared_is_told_once() -> None:
    """The method that left it so is to blame, and not the kernel as well."""
    kernel = Kernel()
    kernel.mount(ForgetfulFS)
    kernel.close()
    found = [(v.rule, v.blamed) for v in kernel.violations]
    kernel.machine.bury()
    assert found == [("E10", "filesystem Forgetful.evict_inode")]


def test_a_process_can_outlive_its_tasks() -> None:
    """`login` makes a process, `resume` lets it act with what it has, `logout` ends it."""
    with Kernel() as k:
        k.mount(RamFS, "/")
        process = k.login("ann", umask=0o077)
        opened = k.resume(process, lambda sys: sys.open("/f", os.O_CREAT | os.O_RDWR, 0o666))
        k.run()
        written = k.resume(process, lambda sys: sys.write(opened.result, b"abc"))
        k.run()
        assert written.result == 3
        assert k.call(lambda sys: sys.stat("/f").st_mode & 0o777) == 0o600
        k.logout(process)


def test_a_process_that_is_left_behind_is_a_leak() -> None:
    """Who never logs out keeps the filesystem busy."""
    k = Kernel()
    k.mount(RamFS, "/")
    process = k.login("ann")
    k.resume(process, lambda sys: sys.open("/f", os.O_CREAT, 0o666))
    k.run()
    with pytest.raises(KernelBug, match="leak"):
        k.shutdown()


class PutsOff(RamSuper):
    """Leaves something to a timer when it is unmounted."""

    def __init__(self, work: DelayedWork) -> None:
        self.work = work

    def put_super(self, sb: SuperBlock) -> None:
        schedule_delayed_work(self.work, 3_600_000_000_000)


class PuttingOff(RamFS):
    name = "puttingoff"

    def __init__(self, work: DelayedWork) -> None:
        self.super = PutsOff(work)


def test_what_was_put_off_comes_before_the_end() -> None:
    """However late it is; who sets his timer again and again is left at some time."""
    once: list[int] = []
    with Kernel() as kernel:
        kernel.mount(PuttingOff(DelayedWork(lambda work: once.append(kernel.now))))
    assert len(once) == 1 and once[0] >= 3_600_000_000_000

    often: list[int] = []

    def again(work: DelayedWork) -> None:
        often.append(kernel.now)
        schedule_delayed_work(work, 1_000)

    with Kernel() as kernel:
        kernel.mount(PuttingOff(DelayedWork(again)))
    assert 1 < len(often) < 100
