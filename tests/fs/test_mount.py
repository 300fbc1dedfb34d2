"""The mount tree: places, mounts on mounts, busy and lazy unmounts, read-only mounts."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.fs.worlds import Plain, mounted, root_of, superblock
from vfsim.checks.lifetime import is_freed
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import DCACHE_MOUNTED, d_lookup, dget, dput
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import (
    MNT_DETACH,
    Mount,
    Path,
    create_mnt_ns,
    d_path,
    detach_mounts,
    do_mount,
    do_umount,
    is_local_mountpoint,
    lookup_mnt,
    mntget,
    mntput,
    mounts,
    path_get,
    path_put,
)
from vfsim.fs.super import MS_RDONLY, MS_REMOUNT
from vfsim.locks.rcu import rcu_barrier
from vfsim.sim.machine import Machine
from vfsim.sim.state import K
from vfsim.sim.task import Task


def kernel_with_dirs(*names: str, **options: Any) -> Kernel:
    """A kernel with ramfs at "/" and some directories in it."""
    kernel = Kernel(**options)
    kernel.mount(RamFS(), "/")
    kernel.call(lambda sys: [sys.mkdir(name) for name in names])
    return kernel


def place(name: str) -> Path:
    """A path in the root filesystem, with references."""
    world = mounts()
    assert world.ns is not None
    root = world.ns.root
    dentry = d_lookup(root.mnt_root, name) if name else dget(root.mnt_root)
    assert dentry is not None
    return Path(mntget(root), dentry)


def test_a_mounted_filesystem_hides_what_is_below() -> None:
    """lookup_mnt() leads from the mountpoint to it, with a reference."""

    def work() -> None:
        at = place("d")
        assert lookup_mnt(at.mnt, at.dentry) is None and not is_local_mountpoint(at.dentry)
        do_mount(at, "", Plain())
        assert at.dentry.d_flags & DCACHE_MOUNTED and is_local_mountpoint(at.dentry)
        mnt = lookup_mnt(at.mnt, at.dentry)
        assert mnt is not None and mnt.mnt_parent is at.mnt and mnt.mnt_count == 2
        mounts()._check()
        do_umount(mnt)
        assert lookup_mnt(at.mnt, at.dentry) is None and not at.dentry.d_flags & DCACHE_MOUNTED
        assert mnt.mnt_sb.s_active == 1, "we still have a reference"
        mntput(mnt)
        path_put(at)

    with kernel_with_dirs("/d") as kernel:
        kernel._do(work)


def test_mounts_stack() -> None:
    """Mounting at a mountpoint mounts on top; unmounting uncovers what was there before."""

    def work() -> None:
        at, again = place("d"), place("d")
        do_mount(at, "", Plain())
        do_mount(again, "", Plain())
        assert again.dentry.d_parent is again.dentry, "the path has moved to the top"
        first = lookup_mnt(at.mnt, at.dentry)
        assert first is not None
        second = lookup_mnt(first, first.mnt_root)
        assert second is not None and again.mnt is first
        with pytest.raises(OSError, match="busy"):
            do_umount(first)
        path_put(again)
        do_umount(second)
        mntput(second)
        do_umount(first)
        mntput(first)
        path_put(at)

    with kernel_with_dirs("/d") as kernel:
        kernel._do(work)


def test_what_cannot_be_mounted() -> None:
    """A directory on a file, the same filesystem on itself, what is removed, an unknown type."""

    def work() -> None:
        world = mounts()
        file, gone, at = place("f"), place("gone"), place("d")
        with pytest.raises(OSError, match="Not a directory"):
            do_mount(file, "", Plain())
        with pytest.raises(OSError, match="No such device"):
            do_mount(at, "", "nosuchfs")
        for path in (file, gone, at):
            path_put(path)
        assert len(world.mountpoints) == 0

    def prepare(sys: Any) -> None:
        sys.close(sys.open("/f", os.O_CREAT | os.O_WRONLY))

    with kernel_with_dirs("/d", "/gone") as kernel:
        kernel.call(prepare)
        kernel._do(work)


def test_a_removed_directory_cannot_be_mounted_on() -> None:
    """ENOENT, even for somebody who still has it as working directory."""

    def work(sys: Any) -> None:
        sys.chdir("/d")
        sys.rmdir("/d")
        with pytest.raises(OSError, match="No such file"):
            sys.mount("", ".", "ramfs")

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_a_busy_mount_stays() -> None:
    """EBUSY while a file is open, a process is inside, or something is mounted in it."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        fd = sys.open("/d/f", os.O_CREAT | os.O_RDWR)
        with pytest.raises(OSError, match="busy"):
            sys.umount("/d")
        sys.close(fd)
        sys.chdir("/d")
        with pytest.raises(OSError, match="busy"):
            sys.umount("/d")
        sys.chdir("/")
        sys.mkdir("/d/e")
        sys.mount("", "/d/e", "ramfs")
        with pytest.raises(OSError, match="busy"):
            sys.umount("/d")
        sys.umount("/d/e")
        sys.umount("/d")
        assert sys.listdir("/d") == []
        with pytest.raises(OSError, match="Invalid"):
            sys.umount("/d")

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_a_detached_mount_lives_on_for_its_users() -> None:
    """MNT_DETACH: out of the tree at once, shut down when the last user is done."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        fd = sys.open("/d/f", os.O_CREAT | os.O_RDWR)
        sb = superblock(kernel)
        sys.umount("/d", MNT_DETACH)
        assert sys.listdir("/d") == [] and sb.s_root is not None
        assert sys.write(fd, b"still here") == 10
        sys.close(fd)
        assert sb.s_root is None

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_a_mountpoint_cannot_be_removed() -> None:
    """rmdir() and rename() of a mountpoint are EBUSY."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        for call in (lambda: sys.rmdir("/d"), lambda: sys.rename("/d", "/e")):
            with pytest.raises(OSError, match="busy"):
                call()
        sys.umount("/d")
        sys.rmdir("/d")

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_what_is_mounted_on_a_vanished_name_is_unmounted() -> None:
    """detach_mounts()."""

    def work() -> None:
        at = place("d")
        detach_mounts(at.dentry)
        do_mount(at, "", Plain())
        mnt = lookup_mnt(at.mnt, at.dentry)
        assert mnt is not None
        detach_mounts(at.dentry)
        assert mnt.mnt_ns is None and not is_local_mountpoint(at.dentry)
        mntput(mnt)
        path_put(at)

    with kernel_with_dirs("/d") as kernel:
        kernel._do(work)


def test_a_read_only_mount_refuses_changes() -> None:
    """EROFS through this mount; remounting changes that, unless somebody writes."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs", MS_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            sys.mkdir("/d/x")
        sys.mount("", "/d", "ramfs", MS_REMOUNT)
        fd = sys.open("/d/f", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match="busy"):
            sys.mount("", "/d", "ramfs", MS_REMOUNT | MS_RDONLY)
        sys.close(fd)
        sys.mount("", "/d", "ramfs", MS_REMOUNT | MS_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            sys.unlink("/d/f")
        with pytest.raises(OSError, match="Invalid"):
            sys.mount("", "/d/f", "ramfs", MS_REMOUNT)
        sys.umount("/d")

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_ones_own_root_becomes_read_only() -> None:
    """umount("/") by a process of that root."""

    def work(sys: Any) -> None:
        sys.umount("/")
        with pytest.raises(OSError, match="Read-only"):
            sys.mkdir("/x")

    with kernel_with_dirs() as kernel:
        kernel.call(work)


def test_paths_have_names() -> None:
    """d_path() crosses mounts, stops at the given root, and tells removed names."""

    def work(sys: Any) -> None:
        sys.mkdir("/d/e")
        sys.mount("", "/d/e", "ramfs")
        sys.mkdir("/d/e/f")
        sys.chdir("/d/e/f")
        process = K.cur.process
        assert sys.getcwd() == "/d/e/f"
        inside = Path(process.cwd.mnt, process.cwd.mnt.mnt_root)
        assert d_path(process.cwd, inside) == "/f" and d_path(process.cwd) == "/d/e/f"
        cwd = process.cwd
        path_get(cwd)
        sys.chdir("/")
        sys.rmdir("/d/e/f")
        assert d_path(cwd) == "/d/e/f (deleted)"
        path_put(cwd)
        sys.umount("/d/e")

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_there_is_one_root() -> None:
    """A second tree is misuse."""
    with mounted() as (kernel, sb), pytest.raises(ValueError, match="root filesystem already"):
        mnt = Mount(root_of(sb), "", 0)
        kernel._do(create_mnt_ns, mnt)


def test_walks_against_unmounts() -> None:
    """Under every schedule a walk sees the mount or not, and nothing is used after it was freed."""
    for seed in range(150):
        with kernel_with_dirs("/d", seed=seed, strategy="pos" if seed % 2 else "random") as kernel:

            def walker(sys: Any) -> None:
                for _ in range(3):
                    try:
                        sys.close(sys.open("/d/f", os.O_CREAT | os.O_RDWR))
                    except OSError:
                        pass

            def mounter(sys: Any) -> None:
                for _ in range(2):
                    try:
                        sys.mount("", "/d", "ramfs")
                        sys.umount("/d")
                    except OSError:
                        pass

            kernel.process(walker)
            kernel.process(mounter)
            kernel.process(walker)
            kernel.run()
            kernel._check()


class At:
    """A strategy: lets somebody else run when the running task comes to one kind of operation."""

    gap = 1

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def start(self, machine: Machine) -> None:
        pass

    def decide(self, ready: list[Task], current: Task | None) -> int:
        return int(current is not None and current.pending[0] == self.kind and len(ready) > 1)

    def choose(self, kind: str, n: int) -> int:
        return 0


def test_lookup_against_umount() -> None:
    """What lookup_mnt() found may be unmounted before it has counted: then it found nothing.

    And umount has waited for it: when that returns, the filesystem is gone.
    """
    seen: list[Mount | None] = []

    def prepare() -> None:
        at = place("d")
        do_mount(at, "", Plain())

        def seeker() -> None:
            seen.append(lookup_mnt(at.mnt, at.dentry))
            mntput(seen[0])

        def unmounter() -> None:
            mnt = next(m for m in at.mnt.mnt_mounts)
            sb = mnt.mnt_sb
            do_umount(mntget(mnt))
            mntput(mnt)
            rcu_barrier()
            assert is_freed(sb)
            path_put(at)

        kernel.machine.spawn(seeker)
        kernel.machine.spawn(unmounter)

    with kernel_with_dirs("/d", strategy=At("mnt_get")) as kernel:
        kernel._do(prepare)
    assert seen == [None]


def test_references_are_counted() -> None:
    """path_get() and path_put() take and put both."""

    def work() -> None:
        at = place("")
        counts = at.mnt.mnt_count, at.dentry.d_lockref.count
        path_get(at)
        assert (at.mnt.mnt_count, at.dentry.d_lockref.count) == (counts[0] + 1, counts[1] + 1)
        path_put(at)
        path_put(at)
        mntput(None)
        dput(None)

    with kernel_with_dirs() as kernel:
        kernel._do(work)
