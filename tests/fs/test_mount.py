"""The mount tree: places, mounts on mounts, busy and lazy unmounts, read-only mounts."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tests.fs.worlds import Plain, PlainSuper, mounted, root_of, superblock
from vfsim.checks.lifetime import is_freed
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import (
    DCACHE_MOUNTED,
    Dentry,
    d_invalidate,
    d_lookup,
    d_unlinked,
    dcache,
    dget,
    dput,
)
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import (
    MNT_SHRINKABLE,
    Mount,
    Path,
    d_path,
    detach_mounts,
    is_local_mountpoint,
    lookup_mnt,
    mntget,
    mntput,
    mounts,
    path_get,
    path_put,
)
from vfsim.fs.namespace import create_mnt_ns, do_mount
from vfsim.fs.super import (
    MS_BIND,
    MS_MOVE,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    SuperBlock,
)
from vfsim.fs.syscalls import CLONE_NEWNS
from vfsim.fs.umount import (
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    do_umount,
    mark_mounts_for_expiry,
    mnt_set_expiry,
)
from vfsim.locks.rcu import rcu_barrier
from vfsim.sim.errors import ENOENT
from vfsim.sim.machine import Machine
from vfsim.sim.state import K
from vfsim.sim.task import Task
from vfsim.testing.selftest.mutants import patched


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


def test_a_bind_mount_shows_a_directory_again() -> None:
    """MS_BIND: the same superblock from that directory on, with what is mounted there only if asked
    (MS_REC).
    """

    def work(sys: Any) -> None:
        sys.mkdir("/d/sub")
        sys.mount("", "/d/sub", "ramfs")
        sys.mkdir("/d/sub/x")
        sys.mount("/d", "/b", flags=MS_BIND)
        sys.mount("/d", "/r", flags=MS_BIND | MS_REC)
        assert sys.listdir("/b") == ["sub"] and sys.listdir("/b/sub") == []
        assert sys.listdir("/r/sub") == ["x"]
        sys.mkdir("/b/new")
        assert sys.stat("/d/new").st_ino == sys.stat("/r/new").st_ino
        with pytest.raises(OSError, match="cross-device"):
            sys.rename("/b/new", "/d/newer")
        mounts()._check()
        with pytest.raises(OSError, match="busy"):
            sys.umount("/r")
        sys.umount("/r/sub")
        sys.umount("/d/sub")
        for name in ("/b", "/r"):
            sys.umount(name)

    with kernel_with_dirs("/d", "/b", "/r") as kernel:
        kernel.call(work)


def test_a_bind_mount_keeps_the_filesystem() -> None:
    """Each mount has an active reference: the last one shuts it down."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        sb = superblock(kernel)
        sys.mount("/d", "/b", flags=MS_BIND)
        assert sb.s_active == 2 and len(sb.s_mounts) == 2
        sys.umount("/d")
        sys.mkdir("/b/x")
        assert sb.s_root is not None
        sys.umount("/b")
        assert sb.s_root is None

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


def test_what_cannot_be_bound() -> None:
    """A file on a directory, a place that is in no tree any more, nothing."""

    def work(sys: Any) -> None:
        sys.close(sys.open("/f", os.O_CREAT | os.O_WRONLY))
        with pytest.raises(OSError, match="Not a directory"):
            sys.mount("/f", "/d", flags=MS_BIND)
        with pytest.raises(OSError, match="Invalid"):
            sys.mount("", "/d", flags=MS_BIND)
        sys.mount("", "/d", "ramfs")
        sys.chdir("/d")
        sys.umount("/d", MNT_DETACH)
        with pytest.raises(OSError, match="Invalid"):
            sys.mount(".", "/b", flags=MS_BIND)
        sys.chdir("/")
        sys.mkdir("/g")
        sys.close(sys.open("/h", os.O_CREAT | os.O_WRONLY))
        sys.mount("/f", "/h", flags=MS_BIND)
        fd = sys.open("/h", os.O_WRONLY)
        sys.write(fd, b"abc")
        sys.close(fd)
        assert sys.stat("/f").st_size == 3
        sys.umount("/h")

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


def test_one_mount_alone_is_read_only() -> None:
    """MS_REMOUNT | MS_BIND changes this mount, not the superblock, and not while it is written."""

    def work(sys: Any) -> None:
        sys.mount("/d", "/b", flags=MS_BIND)
        fd = sys.open("/b/f", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match="busy"):
            sys.mount("", "/b", flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
        sys.close(fd)
        sys.mount("", "/b", flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            sys.mkdir("/b/x")
        sys.mkdir("/d/x")
        assert "none /b ramfs ro,relatime 0 0" not in sys.mounts()[0]
        assert sys.mounts()[1].split()[1:4] == ["/b", "ramfs", "ro,relatime"]
        sys.mount("", "/b", flags=MS_REMOUNT | MS_BIND)
        sys.rmdir("/b/x")
        sys.umount("/b")

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


def test_a_mount_can_be_moved() -> None:
    """MS_MOVE: there, and here no more; not into itself, and only its top."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        sys.mkdir("/d/x")
        with pytest.raises(OSError, match="symbolic links"):
            sys.mount("/d", "/d/x", flags=MS_MOVE)
        with pytest.raises(OSError, match="Invalid"):
            sys.mount("/d/x", "/b", flags=MS_MOVE)
        with pytest.raises(OSError, match="Invalid"):
            sys.mount("/", "/b", flags=MS_MOVE)
        sys.mount("/d", "/b", flags=MS_MOVE)
        mounts()._check()
        assert sys.listdir("/d") == [] and sys.listdir("/b") == ["x"]
        sys.rmdir("/d")
        sys.umount("/b")

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


def test_a_process_can_have_a_namespace_of_its_own() -> None:
    """What it mounts there others do not see, and it keeps nobody from removing the mountpoint; all
    of it goes with the last process.
    """

    def child(sys: Any) -> None:
        sys.unshare(CLONE_NEWNS)
        assert sys.listdir("/d") == ["shown"] and sys.getcwd() == "/d"
        sys.mount("", "/b", "ramfs")
        sys.mkdir("/b/mine")
        sys.umount("/d", MNT_DETACH)
        assert sys.listdir("/b") == ["mine"] and len(sys.mounts()) == 2
        sys.msleep(10)
        assert sys.listdir("/d") == [] and len(sys.mounts()) == 1

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        sys.mkdir("/d/shown")
        sys.chdir("/d")
        sb = superblock(kernel)
        sys.fork(child)
        sys.msleep(5)
        assert sys.listdir("/b") == [] and len(sys.mounts()) == 2
        sys.rmdir("/b")  # what the child has mounted on it goes, too
        sys.msleep(10)
        assert len(sb.s_mounts) == 1 and sb.s_active == 1
        sys.chdir("/")
        sys.umount("/d")
        assert sb.s_root is None

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


def test_who_may_change_mounts() -> None:
    """EPERM without CAP_SYS_ADMIN; EINVAL for flags that there are not."""

    def work(sys: Any) -> None:
        with pytest.raises(OSError, match="Invalid"):
            sys.unshare(1)
        with pytest.raises(OSError, match="Invalid"):
            sys.umount("/", 1 << 10)
        sys.unshare(0)
        sys.setuid(1)
        for call in (
            lambda: sys.mount("", "/d", "ramfs"),
            lambda: sys.umount("/"),
            lambda: sys.unshare(CLONE_NEWNS),
        ):
            with pytest.raises(OSError, match="not permitted"):
                call()

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_a_mount_can_be_asked_to_expire() -> None:
    """MNT_EXPIRE: EAGAIN the first time, and again after it was used; EBUSY while it is used."""

    def work(sys: Any) -> None:
        sys.mount("", "/d", "ramfs")
        with pytest.raises(OSError, match="Invalid"):
            sys.umount("/d", MNT_EXPIRE | MNT_DETACH)
        with pytest.raises(OSError, match="unavailable"):
            sys.umount("/d", MNT_EXPIRE)
        sys.listdir("/d")
        with pytest.raises(OSError, match="unavailable"):
            sys.umount("/d", MNT_EXPIRE)
        fd = sys.open("/d/f", os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match="busy"):
            sys.umount("/d", MNT_EXPIRE)
        sys.close(fd)
        with pytest.raises(OSError, match="unavailable"):
            sys.umount("/d", MNT_EXPIRE)
        sys.umount("/d", MNT_EXPIRE)
        assert len(sys.mounts()) == 1

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_mounts_on_a_list_expire() -> None:
    """Unused between two looks: unmounted at the second; umount takes those inside with it."""
    expiring: dict[Mount, None] = {}

    def work(sys: Any) -> None:
        sys.mkdir("/d/e")
        for name in ("/d", "/b"):
            sys.mount("", name, "ramfs")
            mnt = list(mounts().ns.mounts)[-1]  # type: ignore[union-attr]
            mnt_set_expiry(mnt, expiring)
            mnt.mnt_flags |= MNT_SHRINKABLE
        mark_mounts_for_expiry(expiring)
        sys.listdir("/d")
        mark_mounts_for_expiry(expiring)
        assert len(expiring) == 1 and len(sys.mounts()) == 2
        mark_mounts_for_expiry(expiring)
        assert not expiring and len(sys.mounts()) == 1
        mark_mounts_for_expiry(expiring)
        sys.mount("", "/d", "ramfs")
        sys.mkdir("/d/in")
        sys.mount("", "/d/in", "ramfs")
        list(mounts().ns.mounts)[-1].mnt_flags |= MNT_SHRINKABLE  # type: ignore[union-attr]
        sys.umount("/d")
        assert len(sys.mounts()) == 1

    with kernel_with_dirs("/d", "/b") as kernel:
        kernel.call(work)


class Server(PlainSuper):
    """Hears of forced unmounts."""

    heard = 0

    def umount_begin(self, sb: SuperBlock) -> None:
        assert not sb.s_umount.is_locked()
        self.heard += 1


def test_a_forced_umount_tells_the_filesystem() -> None:
    """MNT_FORCE: umount_begin(), and then as always; the filesystem may be left out."""
    server = Server()

    def work() -> None:
        for fs, heard in ((Plain(server), 1), (Plain(), 1)):
            at = place("d")
            do_mount(at, "", fs)
            path_put(at)
            at = place("d")
            mnt = lookup_mnt(at.mnt, at.dentry)
            assert mnt is not None
            do_umount(mnt, MNT_FORCE)
            mntput(mnt)
            path_put(at)
            assert server.heard == heard

    with kernel_with_dirs("/d") as kernel:
        kernel._do(work)


def test_mounts_show_their_options() -> None:
    """/proc/mounts: flags of superblock and mount, what the filesystem says; what one's root hides
    is left out.
    """

    def work(sys: Any) -> None:
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_SYNCHRONOUS
        sys.mount("dev", "/d", "ramfs", flags, "mode=700")
        assert sys.mounts()[1] == (
            "dev /d ramfs rw,sync,nosuid,nodev,noexec,noatime,nodiratime,mode=700 0 0"
        )
        sys.mount("", "/d", flags=MS_REMOUNT | MS_RDONLY)
        assert sys.mounts()[1] == "dev /d ramfs ro,noatime,nodiratime,mode=700 0 0"
        sys.mount("", "/d", flags=MS_REMOUNT | MS_STRICTATIME)
        assert sys.mounts()[1] == "dev /d ramfs rw,mode=700 0 0"
        sys.chroot("/d")
        assert sys.mounts() == ["dev / ramfs rw,mode=700 0 0"]

    with kernel_with_dirs("/d") as kernel:
        kernel.call(work)


def test_mount_table_against_everything() -> None:
    """Under every schedule bind mounts, namespaces and lazy unmounts leave a whole tree."""

    def binder(sys: Any) -> None:
        for _ in range(2):
            try:
                sys.mount("/d", "/b", flags=MS_BIND | MS_REC)
                sys.umount("/b", MNT_DETACH)
            except OSError:
                pass

    def mounter(sys: Any) -> None:
        for _ in range(2):
            try:
                sys.mount("", "/d/x", "ramfs")
                sys.umount("/d/x")
            except OSError:
                pass

    def loner(sys: Any) -> None:
        sys.unshare(CLONE_NEWNS)
        try:
            sys.mkdir("/d/x/y")
            sys.mounts()
        except OSError:
            pass

    for seed in range(100):
        strategy = "pos" if seed % 2 else "random"
        with kernel_with_dirs("/d", "/b", "/d/x", seed=seed, strategy=strategy) as kernel:
            for fn in (binder, mounter, loner):
                kernel.process(fn)
            kernel.run()
            kernel._check()


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


def marks_without_a_look_above(real: Any, dentry: Dentry) -> None:
    """d_set_mounted() that asks only whether the name itself is gone."""
    with dcache().rename_lock, dentry.d_lock:
        if d_unlinked(dentry):
            raise ENOENT()
        dentry.d_flags |= DCACHE_MOUNTED


def marks_unnoticed(real: Any, dentry: Dentry) -> None:
    """d_set_mounted() that looks above, but makes no walk start over."""
    with dcache().rename_lock.spin:
        at = dentry.d_parent
        while at.d_parent is not at:
            with at.d_lock:
                if not at.d_hashed:
                    raise ENOENT()
            at = at.d_parent
        with dentry.d_lock:
            dentry.d_flags |= DCACHE_MOUNTED


def mounted_where_nobody_comes(seed: int, patches: dict[str, Any]) -> bool:
    """Whether a mount is left in a directory that was invalidated meanwhile."""

    def invalidate() -> None:
        d_invalidate(at.dentry)
        path_put(at)

    def mount(sys: Any) -> None:
        try:
            sys.mount("", "/d/e", "ramfs")
        except OSError as error:
            assert error.errno == errno.ENOENT

    def is_lost() -> bool:
        return any(m.mnt_mountpoint.d_name == "e" for m in mounts().ns.mounts)

    kernel = kernel_with_dirs("/d", "/d/e", seed=seed, strategy=("pos", "random")[seed % 2])
    try:
        with patched(patches):
            at = kernel.call(lambda sys: place("d"))
            kernel.process(mount)
            kernel.machine.spawn(invalidate)
            kernel.run()
            return bool(kernel.call(lambda sys: is_lost()))
    finally:
        kernel.machine.bury()


@pytest.mark.parametrize("mutant", [marks_without_a_look_above, marks_unnoticed])
def test_nothing_is_mounted_below_what_is_invalid(mutant: Any) -> None:
    """Mounting against invalidation of a directory above: no mount, or it is unmounted; who does
    not look above, or makes no walk start over, leaves it where no name leads.
    """
    patches = {"vfsim.fs.d_walk.d_set_mounted": mutant}
    assert any(mounted_where_nobody_comes(seed, patches) for seed in range(200))
    assert not any(mounted_where_nobody_comes(seed, {}) for seed in range(60))
