"""rename with flags, links, files without a name: what becomes of every kind of operand."""

from __future__ import annotations

import itertools
import os
import stat
from typing import Any

import pytest

from tests.fs.conftest import Expect
from tests.fs.oracle import both, saw
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.cred import CAP_DAC_OVERRIDE, CAP_MKNOD
from vfsim.fs.directory import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.file import O_TMPFILE
from vfsim.fs.inode import I_LINKABLE
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys

CREAT, RDWR = os.O_CREAT, os.O_RDWR
FLAGS = (0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, 3, 5, 6, 7, 8)
OPERANDS = (
    "file", "other", "dir", "full", "full/sub", "full/inside", "empty", "link", "broken", "fifo",
    "none", "file/", "dir/", "none/", "link/", ".", "dir/..", "none/x", "file/x", "sticky/hers",
    "sticky/mine",
)  # fmt: skip


def build(sys: Any) -> None:
    """One of everything, for user 1000."""
    sys.chmod("/", 0o777)
    sys.mkdir("/sticky")
    sys.chmod("/sticky", 0o1777)
    for path in ("/sticky/hers", "/sticky/mine"):
        sys.close(sys.open(path, CREAT, 0o644))
    sys.chown("/sticky/mine", 1000, 1000)
    sys.chown("/sticky/hers", 1001, 1001)
    for path in ("/dir", "/full", "/full/sub", "/empty"):
        sys.mkdir(path)
        sys.chmod(path, 0o777)
    for path in ("/file", "/other", "/full/inside"):
        sys.close(sys.open(path, CREAT, 0o666))
    sys.symlink("file", "/link")
    sys.symlink("nothing", "/broken")
    sys.mkfifo("/fifo") if hasattr(sys, "mkfifo") else sys.mknod("/fifo", stat.S_IFIFO | 0o644)


def tree(sys: Any, path: str = "/") -> list[Any]:
    """Every name, with its type, links, device and where it points."""
    found: list[Any] = []
    for name in sorted(sys.listdir(path)):
        full = f"{path}{name}"
        st = sys.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        target = sys.readlink(full) if kind == stat.S_IFLNK else ""
        found.append((full, kind, st.st_nlink, st.st_rdev, target))
        if kind == stat.S_IFDIR:
            found += tree(sys, full + "/")
    return found


def clear(sys: Any, path: str = "/") -> None:
    """Remove everything."""
    for name in sys.listdir(path):
        full = f"{path}{name}"
        if stat.S_ISDIR(sys.lstat(full).st_mode):
            clear(sys, full + "/")
            sys.rmdir(full)
        else:
            sys.unlink(full)


@pytest.mark.parametrize(
    ("uid", "flags"), [*((0, f) for f in FLAGS), *((1000, f) for f in FLAGS[:3])]
)
def test_every_pair(uid: int, flags: int) -> None:
    """Errno, and the whole tree afterwards, are the host's: each operand onto each other.

    (Whiteouts by others than root: v4.10 wants CAP_MKNOD for them, later kernels do not.)
    """

    def go(sys: Any) -> list[Any]:
        seen: list[Any] = []
        build(sys)
        for old, new in itertools.product(OPERANDS, OPERANDS):
            sys.setuid(uid)
            told = saw(sys.renameat2, "/" + old, "/" + new, flags)
            sys.setuid(0)
            seen.append((old, new, flags, told, tree(sys) if told is None else None))
            if told is None:
                clear(sys)
                build(sys)
        return seen

    assert len(both(go)) == len(OPERANDS) ** 2


def test_a_whiteout_wants_its_capability(k: Kernel, expect: Expect) -> None:
    """It is a device: CAP_MKNOD, before anything about the paths."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT, 0o644))
        sys.capset({CAP_DAC_OVERRIDE})
        expect.EPERM(sys.renameat2, "", "/none", RENAME_WHITEOUT)
        expect.EINVAL(sys.renameat2, "", "/none", RENAME_WHITEOUT | RENAME_EXCHANGE)
        sys.rename("/f", "/g")

    k.call(go)

    def other(sys: Sys) -> None:
        sys.capset({CAP_MKNOD})
        sys.renameat2("/g", "/f", RENAME_WHITEOUT)
        st = sys.stat("/g")
        assert (st.st_mode, st.st_rdev) == (stat.S_IFCHR, 0)
        assert sorted(sys.listdir("/")) == ["f", "g"]

    k.call(other)


def test_a_name_that_is_whited_out_is_never_missing(k: Kernel) -> None:
    """While a file moves away and leaves a whiteout, its name leads somewhere, on every
    schedule.
    """
    for seed in range(30):
        kernel = Kernel(seed=seed, strategy="pos")
        try:
            kernel.mount(RamFS(), "/")
            kernel.call(lambda sys: sys.close(sys.open("/f", CREAT, 0o644)))
            told: list[Any] = []

            def mover(sys: Sys) -> None:
                sys.renameat2("/f", "/g", RENAME_WHITEOUT)

            def looker(sys: Sys, told: list[Any] = told) -> None:
                for _ in range(3):
                    found = saw(sys.stat, "/f")
                    told.append(found if isinstance(found, str) else stat.S_IFMT(found.st_mode))

            kernel.process(mover)
            kernel.process(looker)
            kernel.run()
            assert set(told) <= {stat.S_IFREG, stat.S_IFCHR}
            kernel.close()
            assert kernel.violations == []
        finally:
            kernel.machine.bury()


def test_two_exchanges_are_none(k: Kernel) -> None:
    """Of a directory and a file in another directory; links are counted right in between."""

    def go(sys: Sys) -> None:
        for path in ("/a", "/b", "/a/d"):
            sys.mkdir(path)
        sys.close(sys.open("/b/f", CREAT, 0o644))
        before = tree(sys)
        sys.renameat2("/a/d", "/b/f", RENAME_EXCHANGE)
        assert (sys.stat("/a").st_nlink, sys.stat("/b").st_nlink) == (2, 3)
        assert stat.S_ISREG(sys.stat("/a/d").st_mode) and sys.listdir("/b/f") == []
        sys.renameat2("/b/f", "/a/d", RENAME_EXCHANGE)
        assert tree(sys) == before

    k.call(go)


# -- files without a name --------------------------------------------------------------------------


def test_unnamed_files() -> None:
    """O_TMPFILE: what it wants, what stat says of it, and the name it can be given, as on the
    host.
    """

    def go(sys: Any) -> list[Any]:
        build(sys)
        seen: list[Any] = []
        for path in ("/", "/dir", "/file", "/link", "/none", "/dir/", "/sticky", ""):
            for flags in (os.O_RDONLY, os.O_WRONLY, RDWR, RDWR | os.O_EXCL, RDWR | CREAT):
                fd = saw(sys.open, path, O_TMPFILE | flags, 0o666)
                if isinstance(fd, str):
                    seen.append((path, flags, fd))
                    continue
                st = sys.fstat(fd)
                seen.append((path, flags, oct(st.st_mode), st.st_nlink, sorted(sys.listdir("/"))))
                seen.append(saw(sys.flink, fd, "/dir/made"))
                seen.append(saw(sys.flink, fd, "/dir/made"))
                seen.append((sys.fstat(fd).st_nlink, sorted(sys.listdir("/dir"))))
                seen.append(saw(sys.unlink, "/dir/made"))
                seen.append(saw(sys.flink, fd, "/dir/again"))
                sys.close(fd)
        sys.setuid(1000)
        for path in ("/", "/dir"):
            fd = saw(sys.open, path, O_TMPFILE | RDWR, 0o666)
            seen.append(sys.fstat(fd).st_uid)
            sys.close(fd)
        sys.setuid(0)
        sys.chmod("/dir", 0o555)
        sys.setuid(1000)
        return [*seen, saw(sys.open, "/dir", O_TMPFILE | RDWR, 0o666)]

    assert len(both(go)) > 50


def test_an_unnamed_file_can_be_linked_until_it_had_a_name(k: Kernel, expect: Expect) -> None:
    """I_LINKABLE is set without O_EXCL, and cleared by the first link."""

    def go(sys: Sys) -> None:
        state = []
        for flags in (0, os.O_EXCL):
            fd = sys.open("/", O_TMPFILE | RDWR | flags, 0o600)
            file, how = fdget(fd)
            state.append(bool(file.f_inode.i_state & I_LINKABLE))
            assert file.f_path.dentry.d_name == f"#{file.f_inode.i_ino}"
            if flags:
                expect.ENOENT(sys.flink, fd, "/x")
            else:
                sys.setuid(1000)
                expect.ENOENT(sys.flink, fd, "/x")  # until v6.10, also if it is one's own
                expect.ENOENT(sys.flink, 99, "/x")
                sys.setuid(0)
                expect.EBADF(sys.flink, 99, "/x")
                sys.flink(fd, "/x")
                state.append(bool(file.f_inode.i_state & I_LINKABLE))
                sys.unlink("/x")
            fdput(file, how)
            sys.close(fd)
        assert state == [True, False, False]
        assert sys.listdir("/") == []

    k.call(go)


def test_a_removed_directory_takes_unnamed_files_still(k: Kernel, expect: Expect) -> None:
    """Linux does not look whether the directory is dead, because no name is made in it."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.chdir("/d")
        sys.rmdir("/d")
        fd = sys.open(".", O_TMPFILE | RDWR, 0o600)
        sys.write(fd, b"x")
        expect.ENOENT(sys.open, "f", CREAT, 0o600)
        sys.close(fd)
        sys.chdir("/")

    k.call(go)


# -- links and names -------------------------------------------------------------------------------


def test_links() -> None:
    """link(2) of each operand onto each other, as on the host."""

    def go(sys: Any) -> list[Any]:
        build(sys)
        seen: list[Any] = []
        for old, new in itertools.product(
            OPERANDS, ("new", "none/", "file", "dir/n", ".", "none/x")
        ):
            told = saw(sys.link, "/" + old, "/" + new)
            seen.append((old, new, told))
            if told is None:
                seen.append(tree(sys))
                sys.unlink("/" + new)
        return seen

    assert len(both(go)) > len(OPERANDS) * 6


def test_lengths() -> None:
    """Names have 255 bytes and paths 4095, whatever is done with them."""
    long, longer = "n" * 255, "n" * 256
    path, path_too_long = "/" * (4095 - 4) + "file", "/" * (4096 - 4) + "file"

    def go(sys: Any) -> list[Any]:
        build(sys)
        seen: list[Any] = []
        for name in (long, longer, path, path_too_long, "dir/" + longer, longer + "/x", ""):
            seen += [
                saw(sys.mkdir, name), saw(sys.rmdir, name), saw(sys.symlink, name, "/new"),
                saw(sys.readlink, "/new"), saw(sys.unlink, "/new"), saw(sys.link, "/file", name),
                saw(sys.rename, name, "/moved"), saw(sys.rename, "/moved", name),
                saw(sys.renameat2, name, "/file", RENAME_EXCHANGE), saw(sys.unlink, name),
                saw(sys.setxattr, name, "user.a", b""), saw(sys.getxattr, name, "user.a"),
                saw(sys.truncate, name, 0), saw(sys.chmod, name, 0o644), saw(sys.chdir, name),
            ]  # fmt: skip
        return seen

    assert len(both(go)) == 7 * 15
