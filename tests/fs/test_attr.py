"""Attributes: chmod, chown, times, truncation, set-user-ID bits."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

from tests.fs.conftest import Expect
from tests.fs.oracle import both, here, refused, saw, there
from vfsim.block.disk import RamDisk
from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeFS, WholeSuper
from vfsim.fs.attr import (
    ATTR_MODE,
    ATTR_SIZE,
    IAttr,
    notify_change,
    setattr_prepare,
    touch_atime,
)
from vfsim.fs.file import deny_write_access, get_write_access, put_write_access
from vfsim.fs.inode import I_DIRTY_TIME, Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import path_put
from vfsim.fs.namei import user_path
from vfsim.fs.operations import InodeOperations
from vfsim.fs.super import MS_I_VERSION, MS_LAZYTIME, MS_NOATIME, MS_STRICTATIME
from vfsim.fs.syscalls import Sys
from vfsim.sim.clock import NSEC_PER_MSEC

CREAT, RDWR = os.O_CREAT, os.O_RDWR


def test_stat(k: Kernel) -> None:
    """stat, lstat and fstat say the same of one file."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR, 0o640)
        sys.write(fd, b"x" * 5000)
        st = sys.stat("/f")
        assert st == sys.lstat("/f") == sys.fstat(fd)
        assert (st.st_size, st.st_nlink, st.st_uid, st.st_gid) == (5000, 1, 0, 0)
        assert st.st_mode == stat.S_IFREG | 0o640
        assert st.st_blocks == 16
        assert st.st_blksize == 4096
        sys.close(fd)

    k.call(go)


def test_chmod(k: Kernel, expect: Expect) -> None:
    """The owner and root change the bits; the set-group-ID bit needs the group."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT))
        sys.chown("/f", 1000, 50)
        sys.setuid(1000)
        sys.chmod("/f", 0o7777)
        assert stat.S_IMODE(sys.stat("/f").st_mode) == 0o5777, "not in group 50"
        sys.setuid(0)
        sys.chmod("/f", 0o2755)
        assert stat.S_IMODE(sys.stat("/f").st_mode) == 0o2755
        sys.setuid(1001)
        expect.EPERM(sys.chmod, "/f", 0o777)
        sys.setuid(0)
        fd = sys.open("/f")
        sys.fchmod(fd, 0o100600)
        assert sys.stat("/f").st_mode == stat.S_IFREG | 0o600, "the type does not change"
        sys.close(fd)

    k.call(go)


def test_chown(k: Kernel, expect: Expect) -> None:
    """Only root gives files away; the owner may choose among own groups; set-user-ID bits go."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT))
        sys.chmod("/f", 0o6755)
        sys.chown("/f", 1000, 100)
        st = sys.stat("/f")
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 100, 0o755)
        sys.chown("/f", -1, 200)
        assert (sys.stat("/f").st_uid, sys.stat("/f").st_gid) == (1000, 200)
        sys.setgroups([300])
        sys.setuid(1000)
        expect.EPERM(sys.chown, "/f", 1001, -1)
        expect.EPERM(sys.chown, "/f", -1, 400)
        sys.chown("/f", 1000, 300)
        sys.setuid(0)
        sys.symlink("f", "/l")
        sys.lchown("/l", 5, 5)
        assert (sys.lstat("/l").st_uid, sys.stat("/l").st_uid) == (5, 1000)
        fd = sys.open("/f")
        sys.fchown(fd, 7, 7)
        assert sys.stat("/f").st_uid == 7
        sys.close(fd)

    k.call(go)


def test_a_write_takes_set_user_id_away(k: Kernel) -> None:
    """Unless the writer has CAP_FSETID; truncation does the same."""

    def go(sys: Sys) -> None:
        for change in ("write", "truncate"):
            sys.close(sys.open("/f", CREAT))
            sys.chown("/f", 1000, 1000)
            sys.chmod("/f", 0o6777)
            fd = sys.open("/f", RDWR)
            sys.write(fd, b"x")
            assert stat.S_IMODE(sys.stat("/f").st_mode) == 0o6777
            sys.setuid(1000)
            if change == "write":
                sys.write(fd, b"x")
            else:
                sys.truncate("/f", 5)
            assert stat.S_IMODE(sys.stat("/f").st_mode) == 0o777
            sys.setuid(0)
            sys.close(fd)
            sys.unlink("/f")

    k.call(go)


def test_times(k: Kernel, expect: Expect) -> None:
    """Changes move them, utime sets them; whoever may write says "now", the owner a date."""

    def go(sys: Sys) -> None:
        ms = NSEC_PER_MSEC
        sys.msleep(1)
        fd = sys.open("/f", CREAT | RDWR, 0o666)
        sys.msleep(1)
        sys.write(fd, b"x")
        st = sys.stat("/f")
        assert (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns) == (ms, 2 * ms, 2 * ms)
        sys.msleep(1)
        sys.lseek(fd, 0)
        sys.read(fd, 1)
        assert sys.stat("/f").st_atime_ns == 3 * ms, "relatime: older than the modification"
        sys.msleep(1)
        sys.lseek(fd, 0)
        sys.read(fd, 1)
        assert sys.stat("/f").st_atime_ns == 3 * ms, "relatime: newer"
        sys.utime("/f", 10, 20)
        st = sys.stat("/f")
        assert (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns) == (10, 20, 4 * ms)
        sys.utime("/f", None, 30)
        assert sys.stat("/f").st_atime_ns == 10
        sys.utime("/f")
        assert sys.stat("/f").st_mtime_ns == 4 * ms
        sys.chmod("/f", 0o662)
        sys.setuid(1000)
        sys.utime("/f")
        expect.EPERM(sys.utime, "/f", 1, 1)
        sys.setuid(0)
        sys.chmod("/f", 0o600)
        sys.setuid(1000)
        expect.EACCES(sys.utime, "/f")
        sys.close(fd)

    k.call(go)


def test_a_directory_gets_new_times_with_its_names(k: Kernel) -> None:
    """Making and removing names is a change of the directory."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        changes: tuple[Callable[[], None], ...] = (
            lambda: sys.mkdir("/d/e"),
            lambda: sys.rename("/d/e", "/d/f"),
            lambda: sys.rmdir("/d/f"),
            lambda: sys.symlink("x", "/d/l"),
            lambda: sys.unlink("/d/l"),
        )
        for i, change in enumerate(changes, 1):
            sys.msleep(1)
            change()
            assert sys.stat("/d").st_mtime_ns == i * NSEC_PER_MSEC

    k.call(go)


def test_noatime(k: Kernel) -> None:
    """A mount with MS_NOATIME leaves access times alone."""
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m", flags=1 << 10)

    def go(sys: Sys) -> None:
        fd = sys.open("/m/f", CREAT | RDWR)
        sys.write(fd, b"x")
        sys.msleep(5)
        sys.pread(fd, 1, 0)
        assert sys.stat("/m/f").st_atime_ns == 0
        sys.close(fd)

    k.call(go)


def test_truncate(k: Kernel, expect: Expect) -> None:
    """Files shrink and grow with zeroes; each wrong object has its errno."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.write(fd, b"hello")
        sys.truncate("/f", 3)
        sys.ftruncate(fd, 8)
        assert sys.pread(fd, 100, 0) == b"hel\0\0\0\0\0"
        sys.mkdir("/d")
        expect.EISDIR(sys.truncate, "/d", 0)
        expect.EINVAL(sys.truncate, "/f", -1)
        expect.EINVAL(sys.truncate, "/none", -1)
        expect.ENOENT(sys.truncate, "/none", 0)
        expect.EINVAL(sys.ftruncate, fd, -1)
        expect.EBADF(sys.ftruncate, 77, 0)
        sys.mknod("/p", stat.S_IFIFO | 0o666)
        expect.EINVAL(sys.truncate, "/p", 0)
        reader = sys.open("/f")
        expect.EINVAL(sys.ftruncate, reader, 0)
        expect.EFBIG(sys.ftruncate, fd, 1 << 63)
        sys.setuid(1000)
        expect.EACCES(sys.truncate, "/f", 0)
        sys.close(reader)
        sys.close(fd)

    k.call(go)


def test_executing_forbids_writing(k: Kernel, expect: Expect) -> None:
    """While writing is denied, opening for it and truncating are ETXTBSY."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT))
        path = user_path("/f")
        inode = path.dentry.d_inode
        assert inode is not None
        deny_write_access(inode)
        expect.ETXTBSY(sys.open, "/f", RDWR)
        expect.ETXTBSY(sys.truncate, "/f", 0)
        sys.close(sys.open("/f"))
        inode.i_writecount += 1
        get_write_access(inode)
        expect.ETXTBSY(deny_write_access, inode)
        put_write_access(inode)
        path_put(path)

    k.call(go)


def test_changes_go_through_setattr_under_the_lock(k: Kernel) -> None:
    """The filesystem's ``setattr`` gets the completed change, with i_rwsem exclusive."""
    seen = []

    class Watching(InodeOperations):
        """Notes what it is told."""

        def setattr(self, dentry: object, attr: IAttr) -> None:
            """Sleeps.  As the generic one."""
            inode = dentry.d_inode  # type: ignore[attr-defined]
            setattr_prepare(dentry, attr)  # type: ignore[arg-type]
            seen.append((attr.ia_valid & (ATTR_MODE | ATTR_SIZE), inode.i_rwsem.owner is not None))

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT))
        path = user_path("/f")
        assert path.dentry.d_inode is not None
        path.dentry.d_inode.i_op = Watching()
        sys.chmod("/f", 0)
        sys.truncate("/f", 1)
        path_put(path)

    k.call(go)
    assert seen == [(ATTR_MODE, True), (ATTR_SIZE, True)]


def test_truncate_of_old(k: Kernel) -> None:
    """A filesystem without ``setattr`` is told by ``truncate``, as in old kernels."""
    sizes = []

    class Old(InodeOperations):
        """Knows only ``truncate``."""

        def truncate(self, inode: Inode) -> None:
            """Sleeps.  The new size is set already."""
            sizes.append(inode.i_size)

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT))
        path = user_path("/f")
        assert path.dentry.d_inode is not None
        path.dentry.d_inode.i_op = Old()
        sys.truncate("/f", 77)
        touch_atime(path.mnt, path.dentry)
        with path.dentry.d_inode.i_rwsem:
            notify_change(path.dentry, IAttr(ATTR_MODE, ia_mode=stat.S_IFREG | 0o600))
        path_put(path)

    k.call(go)
    assert sizes == [77]


def test_strictatime(k: Kernel) -> None:
    """A mount with MS_STRICTATIME moves the access time with each read, whatever else it says."""
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m", flags=MS_STRICTATIME | MS_NOATIME)

    def go(sys: Sys) -> None:
        fd = sys.open("/m/f", CREAT | RDWR)
        sys.write(fd, b"x")
        for n in range(1, 4):
            sys.msleep(1)
            sys.pread(fd, 1, 0)
            assert sys.stat("/m/f").st_atime_ns == n * NSEC_PER_MSEC
        sys.close(fd)

    k.call(go)


def test_an_old_access_time_is_moved(k: Kernel) -> None:
    """relatime: after a day, in whole seconds."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.write(fd, b"x")
        sys.msleep(1)
        sys.pread(fd, 1, 0)
        for wait, moved in ((24 * 3600 * 1000 - 2, False), (1, True), (1, False)):
            before = sys.stat("/f").st_atime_ns
            sys.msleep(wait)
            sys.pread(fd, 1, 0)
            assert (sys.stat("/f").st_atime_ns != before) == moved, wait
        sys.close(fd)

    k.call(go)


def test_versions(k: Kernel) -> None:
    """Where the superblock asks for it, each write counts ``i_version``."""
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m", flags=MS_I_VERSION)

    def go(sys: Sys) -> None:
        fd = sys.open("/m/f", CREAT | RDWR)
        path = user_path("/m/f")
        assert path.dentry.d_inode is not None
        seen = []
        for _ in range(3):
            sys.write(fd, b"x")
            seen.append(path.dentry.d_inode.i_version)
        assert seen == [1, 2, 3]
        path_put(path)
        sys.close(fd)

    k.call(go)


@pytest.mark.parametrize("event", ["fsync", "sync", "chmod", "unlink", "nothing"])
def test_lazytime(event: str) -> None:
    """Times that change alone are not written until something else is, or must be: by fsync, sync,
    the last use of the inode, or along with another change.
    """
    written: list[int] = []

    class Super(WholeSuper):
        def write_inode(self, inode: Inode, wbc: Any) -> None:
            written.append(inode.i_atime)

    class LazyFS(WholeFS):
        super = Super()

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.write(fd, b"x")
        sys.sync()
        sys.msleep(1)
        sys.pread(fd, 1, 0)
        path = user_path("/f")
        inode = path.dentry.d_inode
        assert inode is not None and inode.i_state & I_DIRTY_TIME
        written.clear()
        sys.msleep(100_000)
        assert written == [], "the flusher does not care"
        if event == "fsync":
            sys.fdatasync(fd)
            assert written == []
            sys.fsync(fd)
        elif event == "sync":
            sys.sync()
        elif event == "chmod":
            sys.chmod("/f", 0o600)
            assert not inode.i_state & I_DIRTY_TIME
            sys.sync()
        expected = [inode.i_atime] if event in ("fsync", "sync", "chmod") else []
        assert [time for time in written if time == inode.i_atime] == expected
        path_put(path)
        if event == "unlink":
            sys.unlink("/f")
        sys.close(fd)

    kernel = Kernel()
    try:
        kernel.mount(LazyFS, "/", device=RamDisk(sectors=4096), flags=MS_LAZYTIME)
        kernel.call(go)
        kernel.close()
        assert kernel.violations == []
        assert bool(written) == (event != "unlink"), "at umount at the latest"
    finally:
        kernel.machine.bury()


# -- as on the host --------------------------------------------------------------------------------

PEOPLE = {
    "root": (0, 0, ()), "owner": (1000, 100, ()), "owner in 50": (1000, 100, (50,)),
    "in the group": (1001, 50, ()), "in the group besides": (1001, 60, (50,)),
    "somebody": (1002, 60, ()),
}  # fmt: skip
KINDS = ("f", "d", "l", "p", "dangling")


def objects(sys: Any, mode: int) -> None:
    """One of each kind in "/", all of user 1000 and group 50."""
    sys.close(sys.open("/f", CREAT | RDWR, 0o666))
    sys.mkdir("/d")
    sys.symlink("f", "/l")
    sys.symlink("nothing", "/dangling")
    sys.mknod("/p", stat.S_IFIFO | 0o666)
    for name in KINDS:
        sys.lchown("/" + name, 1000, 50)
    for name in "fdp":
        sys.chmod("/" + name, mode)


def remove(sys: Any) -> None:
    for name in KINDS:
        sys.rmdir("/d") if name == "d" else sys.unlink("/" + name)


def become(sys: Any, who: str) -> None:
    uid, gid, groups = PEOPLE[who]
    sys.setuid(0)
    sys.setgroups(groups)
    sys.setgid(gid)
    sys.setuid(uid)


@pytest.mark.parametrize("who", PEOPLE)
def test_changes_by_everybody(who: str) -> None:
    """chmod, chown, utime and truncate of each kind of file end as on the host."""

    def go(sys: Any) -> list[Any]:
        sys.chmod("/", 0o777)
        seen: list[Any] = []
        for mode in (0o644, 0o6775, 0o1777, 0o666, 0):
            for call in (
                ("chmod", 0o7777), ("chmod", 0o2750), ("chmod", 0), ("chown", -1, -1),
                ("chown", 1000, -1), ("chown", 1001, -1), ("chown", -1, 50), ("chown", -1, 60),
                ("chown", 1000, 100), ("chown", 0, 0), ("lchown", -1, 50), ("lchown", 1000, 100),
                ("utime", 10**18, 2 * 10**18), ("truncate", 0), ("truncate", -1),
            ):  # fmt: skip
                objects(sys, mode)
                for name in KINDS:
                    become(sys, who)
                    told = saw(getattr(sys, call[0]), "/" + name, *call[1:])
                    become(sys, "root")
                    st = sys.lstat("/" + name)
                    seen.append((mode, call, name, told, oct(st.st_mode), st.st_uid, st.st_gid))
                remove(sys)
        return seen

    assert len(both(go)) == 5 * 15 * 5


@pytest.mark.parametrize("who", ["root", "owner", "owner in 50", "in the group"])
def test_set_user_id_bits_go(who: str) -> None:
    """What a write, a truncation, a chown and O_TRUNC leave of the bits, as on the host."""

    def go(sys: Any) -> list[Any]:
        sys.chmod("/", 0o777)
        seen: list[Any] = []
        for mode in (0o4777, 0o2777, 0o6777, 0o6677, 0o777):
            for change in (
                "write",
                "pwrite nothing",
                "truncate",
                "ftruncate",
                "O_TRUNC",
                "O_CREAT",
            ):
                sys.close(sys.open("/f", CREAT | RDWR, 0o666))
                sys.chown("/f", 1000, 50)
                sys.chmod("/f", mode)
                become(sys, who)
                fd = sys.open("/f", RDWR)
                if change == "write":
                    sys.write(fd, b"x")
                elif change == "pwrite nothing":
                    sys.pwrite(fd, b"", 0)
                elif change == "truncate":
                    sys.truncate("/f", 3)
                elif change == "ftruncate":
                    sys.ftruncate(fd, 3)
                else:
                    sys.close(sys.open("/f", RDWR | getattr(os, change), 0o600))
                sys.close(fd)
                seen.append((mode, change, oct(sys.stat("/f").st_mode)))
                become(sys, "root")
                sys.unlink("/f")
        return seen

    told, asked = here(go), there(go) if not refused() else None
    assert len(told) == 5 * 6
    if asked is not None:
        # v6.2 takes the bit also without S_IXGRP, from who is not in the group
        assert [a for a, b in zip(told, asked, strict=True) if a != b and a[0] != 0o6677] == []


@pytest.mark.parametrize("who", PEOPLE)
def test_what_a_directory_gives_on(who: str) -> None:
    """Group and set-group-ID bit of what is made in directories with and without the bit."""

    def go(sys: Any) -> list[Any]:
        sys.chmod("/", 0o777)
        seen: list[Any] = []
        for bits, gid, umask in itertools.product((0o777, 0o2777, 0o3777), (0, 50), (0, 0o27)):
            sys.mkdir("/d")
            sys.chown("/d", 1000, gid)
            sys.chmod("/d", bits)
            become(sys, who)
            sys.umask(umask)
            sys.close(sys.open("/d/f", CREAT, 0o666))
            sys.mkdir("/d/e", 0o777)
            sys.mkdir("/d/e/deep", 0o700)
            sys.mknod("/d/p", stat.S_IFIFO | 0o666)
            sys.symlink("f", "/d/l")
            become(sys, "root")
            for name in ("f", "e", "e/deep", "p", "l"):
                st = sys.lstat("/d/" + name)
                seen.append((oct(bits), name, oct(st.st_mode), st.st_uid, st.st_gid))
            for name in ("f", "p", "l"):
                sys.unlink("/d/" + name)
            for name in ("/d/e/deep", "/d/e", "/d"):
                sys.rmdir(name)
        return seen

    assert len(both(go)) == 3 * 2 * 2 * 5


def test_precedence_of_changes() -> None:
    """A missing file before a wrong descriptor's kin, a negative length before the path."""

    def go(sys: Any) -> list[Any]:
        sys.chmod("/", 0o777)
        objects(sys, 0o644)
        seen = []
        for uid in (0, 1000, 1002):
            sys.setuid(uid)
            for path in ("/none", "/f/x", "/f/", "/d/", "/l/", "/p/", "", "/dangling", "/d/."):
                for call in (
                    ("chmod", 0o600), ("chown", 5, 5), ("lchown", 5, 5), ("utime", 1, 1),
                    ("truncate", 0), ("truncate", -1), ("access", os.W_OK), ("access", 8),
                    ("readlink",), ("chdir",),
                ):  # fmt: skip
                    if not (uid == 0 and call[0] in ("chown", "lchown")):
                        seen.append((uid, path, call, saw(getattr(sys, call[0]), path, *call[1:])))
            sys.chdir("/")
            sys.setuid(0)
        return seen

    assert len(both(go)) > 200
