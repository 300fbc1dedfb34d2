"""Extended attributes: whose they are, who may, in which order the errors come."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from tests.fs.conftest import Expect
from tests.fs.oracle import both, here, saw
from vfsim.block.disk import RamDisk
from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs.cred import CAP_SETFCAP, CAP_SYS_ADMIN
from vfsim.fs.inode import S_APPEND, S_IMMUTABLE, S_NOSEC
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import path_put
from vfsim.fs.namei import user_path
from vfsim.fs.syscalls import Sys
from vfsim.fs.xattr import XATTR_CREATE, XATTR_REPLACE

CREAT, RDWR = os.O_CREAT, os.O_RDWR
NAMES = (
    "user.a", "user.", "user", "trusted.a", "trusted.", "security.a", "system.a",
    "system.posix_acl_access", "nothing.a", "a", "", "user." + "n" * 250,
    "user." + "n" * 251, "x" * 256,
)  # fmt: skip


def some_files(sys: Any) -> list[str]:
    """One of each kind, all everybody's."""
    sys.chmod("/", 0o777)
    sys.close(sys.open("/file", CREAT | RDWR, 0o666))
    sys.chmod("/file", 0o666)
    sys.mkdir("/dir")
    sys.chmod("/dir", 0o777)
    sys.mkdir("/sticky")
    sys.chmod("/sticky", 0o1777)
    sys.mknod("/fifo", stat.S_IFIFO | 0o666)
    sys.chmod("/fifo", 0o666)
    sys.symlink("file", "/link")
    sys.symlink("gone", "/dangling")
    return ["/file", "/dir", "/sticky", "/fifo", "/link", "/dangling", "/none", "/file/x"]


def differs(path: str, name: str, args: list[Any]) -> bool:
    """Where kernels after v4.10 answer otherwise: they look at name and flags before the path, and
    take an empty value for the removal of an access control list.
    """
    odd = not 0 < len(name) < 256 or 4 in args
    return (odd and path in LEADING_NOWHERE) or (name.startswith("system.posix") and b"" in args)


LEADING_NOWHERE = ("/dangling", "/none", "/file/x")


def every_call(sys: Any, files: list[str]) -> list[Any]:
    """Each call on each file with each kind of name; what it was told."""
    seen: list[Any] = []
    for path in files:
        for name in NAMES:
            for get, put, remove in (
                (sys.getxattr, sys.setxattr, sys.removexattr),
                (sys.lgetxattr, sys.lsetxattr, sys.lremovexattr),
            ):
                for fn, *args in (
                    (get,),
                    (remove,),
                    (put, b"1", XATTR_REPLACE),
                    (put, b"12", XATTR_CREATE),
                    (put, b"123", XATTR_CREATE),
                    (get,),
                    (put, b"", XATTR_REPLACE),
                    (get,),
                    (put, b"1", 4),
                    (remove,),
                ):
                    if not differs(path, name, args):
                        seen.append((fn.__name__, path, name, *args, saw(fn, path, name, *args)))
        for listing in (sys.listxattr, sys.llistxattr):
            names = saw(listing, path)
            seen.append((path, names if isinstance(names, str) else sorted(names)))
    return seen


@pytest.mark.parametrize("uid", [0, 1000])
def test_every_call_on_every_kind_of_file(uid: int) -> None:
    """Values, errnos and their order are the host's, for root and for others."""

    def go(sys: Any) -> list[Any]:
        files = some_files(sys)
        for path in ("/file", "/dir"):
            sys.setxattr(path, "trusted.kept", b"t")
            sys.setxattr(path, "security.kept", b"s")
        sys.setuid(uid)
        return every_call(sys, files)

    assert len(both(go)) > 1800


def test_open_files() -> None:
    """The f* calls work on what is open, whatever its name says; O_PATH is no open file."""

    def go(sys: Any) -> list[Any]:
        fd = sys.open("/file", CREAT | os.O_RDONLY, 0o644)
        sys.unlink("/file")
        seen = [saw(sys.fsetxattr, fd, "user.a", b"1"), saw(sys.fgetxattr, fd, "user.a")]
        seen += [saw(sys.fremovexattr, fd, "user.a"), saw(sys.fgetxattr, fd, "user.a")]
        sys.mkdir("/d")
        path = sys.open("/d", os.O_PATH)
        return [*seen, saw(sys.fgetxattr, path, "user.a"), saw(sys.fsetxattr, 99, "user.a", b"")]

    assert both(go) == [None, b"1", None, "ENODATA", "EBADF", "EBADF"]


def test_sizes() -> None:
    """A name of 255 bytes and a value of 64 KiB are the longest."""

    def go(sys: Any) -> list[Any]:
        sys.close(sys.open("/file", CREAT, 0o644))
        return [
            saw(sys.setxattr, "/file", "user." + "n" * 250, b""),
            saw(sys.setxattr, "/file", "user." + "n" * 251, b""),
            saw(sys.setxattr, "/file", "user.big", b"x" * 65537),
            saw(sys.setxattr, "/file", "", b"x" * 65537, 4),
            saw(sys.setxattr, "/file", "", b"x" * 65537),
        ]

    assert both(go) == [None, "ERANGE", "E2BIG", "EINVAL", "ERANGE"]
    assert here(lambda sys: sys.mkdir("/d") or sys.setxattr("/d", "user.a", b"x" * 65536)) is None


def test_a_list_that_is_too_long(k: Kernel, expect: Expect) -> None:
    """More than 64 KiB of names cannot be listed."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        for n in range(257):
            sys.setxattr("/d", f"user.{n:0250}", b"")
        expect.E2BIG(sys.listxattr, "/d")

    k.call(go)


def test_read_only_comes_before_the_name(k: Kernel, expect: Expect) -> None:
    """Write access to the mount is asked for once the path is found."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.mkdir("/m")
        sys.mount("none", "/m", "ramfs", 1)
        expect.ENOENT(sys.setxattr, "/m/x", "", b"", 4)
        expect.EROFS(sys.setxattr, "/m", "", b"", 4)
        expect.EROFS(sys.removexattr, "/m", "")
        expect.ENODATA(sys.getxattr, "/m", "user.a")
        sys.umount("/m")

    k.call(go)


def test_fixed_files(k: Kernel, expect: Expect) -> None:
    """Immutable and append-only files keep what they have, for root as well."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/file", CREAT, 0o644))
        sys.setxattr("/file", "user.a", b"1")
        path = user_path("/file")
        inode = path.dentry.d_inode
        assert inode is not None
        for flag in (S_IMMUTABLE, S_APPEND):
            inode.i_flags |= flag
            for name in ("user.a", "trusted.a", "security.a", "system.posix_acl_access"):
                expect.EPERM(sys.setxattr, "/file", name, b"2")
                expect.EPERM(sys.removexattr, "/file", name)
            assert sys.getxattr("/file", "user.a") == b"1"
            inode.i_flags &= ~flag
        path_put(path)

    k.call(go)


def test_security_wants_its_capability(k: Kernel, expect: Expect) -> None:
    """CAP_SYS_ADMIN for most, CAP_SETFCAP for file capabilities; everybody reads."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/file", CREAT, 0o644))
        sys.setxattr("/file", "security.a", b"1")
        sys.setxattr("/file", "security.capability", b"1")
        sys.capset({CAP_SETFCAP})
        expect.EPERM(sys.setxattr, "/file", "security.a", b"2")
        expect.EPERM(sys.removexattr, "/file", "security.a")
        sys.setxattr("/file", "security.capability", b"2")
        sys.removexattr("/file", "security.capability")
        assert sys.getxattr("/file", "security.a") == b"1"
        expect.EPERM(sys.capset, {CAP_SYS_ADMIN})

    k.call(go)


def test_file_capabilities_go(k: Kernel) -> None:
    """A write, a truncation and a chown take them away, for root as well; a chmod does not."""

    def go(sys: Sys) -> None:
        fd = sys.open("/file", CREAT | RDWR, 0o755)
        caps = "security.capability"

        def left(fn: Any, *args: Any) -> bool:
            sys.setxattr("/file", caps, b"caps")
            fn(*args)
            return caps in sys.listxattr("/file")

        assert not left(sys.write, fd, b"x") and not left(sys.write, fd, b"y")
        assert not left(sys.truncate, "/file", 1) and not left(sys.ftruncate, fd, 0)
        assert not left(sys.chown, "/file", 1, 1)
        assert left(sys.chmod, "/file", 0o700) and left(sys.utime, "/file")
        sys.close(fd)

    k.call(go)


def test_a_file_without_privileges_is_marked(k: Kernel) -> None:
    """After one write S_NOSEC says that there is nothing to take away, until there may be."""

    def go(sys: Sys) -> None:
        fd = sys.open("/file", CREAT | RDWR, 0o755)
        path = user_path("/file")
        inode = path.dentry.d_inode
        assert inode is not None
        sys.write(fd, b"x")
        assert inode.i_flags & S_NOSEC
        sys.setxattr("/file", "security.a", b"1")
        assert not inode.i_flags & S_NOSEC
        sys.write(fd, b"x")
        assert inode.i_flags & S_NOSEC
        sys.chmod("/file", 0o4755)
        assert not inode.i_flags & S_NOSEC
        path_put(path)
        sys.close(fd)

    k.call(go)


@pytest.mark.parametrize("filesystem", [RamFS, WholeFS])
def test_the_newest_is_listed_first(filesystem: Any, expect: Expect) -> None:
    """And ``trusted.`` names are shown to the administrator only."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        for name in ("user.a", "trusted.b", "security.c", "user.a"):
            sys.setxattr("/d", name, name.encode())
        assert sys.listxattr("/d") == ["security.c", "trusted.b", "user.a"]
        sys.setuid(1000)
        assert sys.listxattr("/d") == ["security.c", "user.a"]
        expect.ENODATA(sys.getxattr, "/d", "trusted.b")
        expect.EPERM(sys.removexattr, "/d", "trusted.b")
        sys.setuid(0)

    kernel = Kernel()
    try:
        kernel.mount(filesystem, "/", device=RamDisk(sectors=4096))
        kernel.call(go)
        kernel.close()
        assert kernel.violations == []
    finally:
        kernel.machine.bury()


def test_two_writers_one_creates(k: Kernel) -> None:
    """Of two that set a new attribute with XATTR_CREATE one sees EEXIST, on every schedule."""
    for seed in range(20):
        kernel = Kernel(seed=seed, strategy="pos")
        try:
            kernel.mount(RamFS(), "/")
            told: list[Any] = []

            def writer(sys: Sys, told: list[Any] = told) -> None:
                told.append(saw(sys.setxattr, "/", "user.a", b"1", XATTR_CREATE))

            for _ in range(2):
                kernel.process(writer)
            kernel.run()
            assert sorted(told, key=str) == ["EEXIST", None]
        finally:
            kernel.machine.bury()
