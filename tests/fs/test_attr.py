"""Attributes: chmod, chown, times, truncation, set-user-ID bits."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.attr import (
    ATTR_MODE,
    ATTR_SIZE,
    IAttr,
    notify_change,
    setattr_prepare,
    touch_atime,
)
from vfsim.fs.file import deny_write_access, get_write_access, put_write_access
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import path_put
from vfsim.fs.namei import user_path
from vfsim.fs.operations import InodeOperations
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
