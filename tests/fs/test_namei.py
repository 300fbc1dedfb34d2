"""Path walk: components, dots, links, limits, slashes, mounts."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import Path, path_get, path_put
from vfsim.fs.namei import getname, nd_jump_link, split, user_path
from vfsim.fs.operations import DentryOperations, InodeOperations
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import ECHILD, ESTALE


def tree(sys: Sys) -> None:
    """``/a/b/f``, ``/a/l`` to ``b``, ``/dangling`` to nowhere."""
    sys.mkdir("/a")
    sys.mkdir("/a/b")
    sys.close(sys.open("/a/b/f", os.O_CREAT | os.O_WRONLY))
    sys.symlink("b", "/a/l")
    sys.symlink("nowhere", "/dangling")


@pytest.mark.parametrize(
    ("path", "parts", "slash"),
    [
        ("a", ["a"], False),
        ("/a/b", ["a", "b"], False),
        ("//a///b//", ["a", "b"], True),
        ("/", [], False),
        ("///", [], False),
        ("", [], False),
        ("./..", [".", ".."], False),
        ("a/", ["a"], True),
    ],
)
def test_split(path: str, parts: list[str], slash: bool) -> None:
    """A path is its components, and whether a slash follows them."""
    assert split(path) == (parts, slash)


def test_getname_refuses_what_no_system_call_could_say() -> None:
    """Paths are strings without zero characters; anything else is misuse."""
    with pytest.raises(TypeError, match="a path is a string"):
        getname(b"/a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero character"):
        getname("/a\0b")


def test_components(k: Kernel, expect: Expect) -> None:
    """Names lead down, dots stay, double dots go up, repeated slashes are one."""

    def walk(sys: Sys) -> None:
        tree(sys)
        ino = sys.stat("/a/b/f").st_ino
        for path in (
            "/a/b/f",
            "//a//b///f",
            "/a/./b/./f",
            "/a/b/../b/f",
            "/../a/b/f",
            "a/b/f",
            "./a/b/f",
        ):
            assert sys.stat(path).st_ino == ino, path
        assert sys.stat("/").st_ino == sys.stat("/..").st_ino == sys.stat("/a/../..").st_ino
        expect.ENOENT(sys.stat, "/a/x")
        expect.ENOENT(sys.stat, "/x/b")
        expect.ENOTDIR(sys.stat, "/a/b/f/x")
        expect.ENOTDIR(sys.stat, "/a/b/f/")
        expect.ENOTDIR(sys.stat, "/a/b/f/..")
        expect.ENOTDIR(sys.stat, "/a/b/f/.")
        assert stat.S_ISDIR(sys.stat("/a/b/").st_mode)

    k.call(walk)


def test_limits(k: Kernel, expect: Expect) -> None:
    """Empty paths are ENOENT; 256-byte names and 4096-byte paths are too long, counted in bytes."""

    def walk(sys: Sys) -> None:
        expect.ENOENT(sys.stat, "")
        expect.ENOENT(sys.stat, "n" * 255)
        expect.ENAMETOOLONG(sys.stat, "n" * 256)
        expect.ENAMETOOLONG(sys.mkdir, "ö" * 128)
        sys.mkdir("ö" * 127)
        expect.ENAMETOOLONG(sys.open, "n" * 256, os.O_CREAT)
        expect.ENAMETOOLONG(sys.rename, "ö" * 127, "n" * 256)
        expect.ENOENT(sys.stat, "./" * 2047 + "n")
        expect.ENAMETOOLONG(sys.stat, "./" * 2048)
        expect.ENOENT(sys.symlink, "", "/s")
        expect.ENAMETOOLONG(sys.symlink, "x" * 4096, "/s")

    k.call(walk)


def test_links(k: Kernel, expect: Expect) -> None:
    """Links are followed in the middle always, at the end by stat, with a slash also by lstat."""

    def walk(sys: Sys) -> None:
        tree(sys)
        ino = sys.stat("/a/b").st_ino
        assert sys.stat("/a/l").st_ino == ino
        assert sys.lstat("/a/l").st_ino != ino
        assert sys.lstat("/a/l/").st_ino == ino
        assert sys.lstat("/a/l/f").st_ino == sys.stat("/a/b/f").st_ino
        sys.symlink("/a/l/../b/f", "/a/abs")
        assert sys.stat("/a/abs").st_ino == sys.stat("/a/b/f").st_ino
        expect.ENOTDIR(sys.stat, "/a/abs/")
        expect.ENOENT(sys.stat, "/dangling")
        expect.ENOENT(sys.stat, "/dangling/x")
        assert stat.S_ISLNK(sys.lstat("/dangling").st_mode)
        sys.symlink("/", "/root")
        assert sys.stat("/root/root/a/b").st_ino == ino
        assert sys.stat("/root").st_ino == sys.stat("/").st_ino
        sys.symlink("a/b/", "/slash")
        assert sys.stat("/slash").st_ino == ino
        assert sys.readlink("/slash") == "a/b/"
        expect.EINVAL(sys.readlink, "/a")
        expect.EINVAL(sys.readlink, "/a/b/f")

    k.call(walk)


@pytest.mark.parametrize("nested", [False, True])
def test_at_most_forty_links(k: Kernel, expect: Expect, nested: bool) -> None:
    """The forty-first link of a walk is ELOOP, whether links chain or nest."""

    def walk(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.symlink("d", "/0")
        for i in range(1, 45):
            sys.symlink(f"{i - 1}/." if nested else f"{i - 1}", f"/{i}")
        assert stat.S_ISDIR(sys.stat("/39").st_mode)
        expect.ELOOP(sys.stat, "/40")
        sys.symlink("self", "/self")
        expect.ELOOP(sys.stat, "/self")
        expect.ELOOP(sys.stat, "/self/x")
        expect.ELOOP(sys.open, "/self", os.O_CREAT | os.O_WRONLY)

    k.call(walk)


def test_many_links_in_one_path(k: Kernel, expect: Expect) -> None:
    """The limit counts all links of a path, not the depth."""

    def walk(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.symlink(".", "/d/l")
        assert sys.stat("/d" + "/l" * 40).st_ino == sys.stat("/d").st_ino
        expect.ELOOP(sys.stat, "/d" + "/l" * 41)

    k.call(walk)


def test_mounts_are_crossed_both_ways(k: Kernel, expect: Expect) -> None:
    """A walk enters a mount at its mountpoint and leaves it by ``..``; the root of the process is
    the end.
    """
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m")

    def walk(sys: Sys) -> None:
        root = sys.stat("/")
        top = sys.stat("/m")
        assert top.st_dev != root.st_dev
        sys.mkdir("/m/sub")
        assert sys.stat("/m/sub/../..").st_ino == root.st_ino
        assert sys.stat("/m/sub/../..").st_dev == root.st_dev
        assert sys.stat("/m/../m/sub").st_dev == top.st_dev
        sys.chdir("/m/sub")
        assert sys.getcwd() == "/m/sub"
        assert sys.stat("../..").st_dev == root.st_dev
        sys.symlink("/m/sub", "/into")
        assert sys.stat("/into").st_dev == top.st_dev
        expect.EXDEV(sys.rename, "/into", "/m/x")
        expect.EXDEV(sys.link, "/into", "/m/x")
        expect.EBUSY(sys.rmdir, "/m")
        expect.EBUSY(sys.rename, "/m", "/n")
        expect.EBUSY(sys.umount, "/m")
        sys.chdir("/")
        expect.EINVAL(sys.umount, "/m/sub")
        sys.umount("/m")
        assert sys.stat("/m").st_dev == root.st_dev
        assert sys.listdir("/m") == []

    k.call(walk)


def test_mounts_stack(k: Kernel) -> None:
    """A second mount on the same place hides the first until it is unmounted."""
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m")
    k.call(lambda sys: sys.mkdir("/m/first"))
    k.mount(RamFS(), "/m")
    assert k.call(lambda sys: (sys.listdir("/m"), sys.listdir("/m/.."))) == ([], ["m"])
    k.umount("/m")
    assert k.call(lambda sys: sys.listdir("/m")) == ["first"]


def test_chroot(k: Kernel, expect: Expect) -> None:
    """In a changed root ``/`` and ``..`` stop at it, absolute links included."""

    def walk(sys: Sys) -> None:
        tree(sys)
        sys.symlink("/f", "/a/b/abs")
        sys.chdir("/a/b")
        sys.chroot("/a/b")
        ino = sys.stat("/f").st_ino
        assert sys.stat("/../f").st_ino == ino
        assert sys.stat("/abs").st_ino == ino
        assert sys.getcwd() == "/"
        expect.ENOENT(sys.stat, "/a")
        sys.setuid(1000)
        expect.EPERM(sys.chroot, "/")

    k.call(walk)


def test_a_removed_working_directory(k: Kernel, expect: Expect) -> None:
    """It can be left by ``..``, but has no path and takes no new names."""

    def walk(sys: Sys) -> None:
        sys.mkdir("/a")
        sys.mkdir("/a/b")
        sys.chdir("/a/b")
        sys.rmdir("/a/b")
        expect.ENOENT(sys.getcwd)
        expect.ENOENT(sys.mkdir, "x")
        expect.ENOENT(sys.open, "x", os.O_CREAT)
        expect.ENOENT(sys.stat, "x")
        expect.ENOENT(sys.listdir, ".")
        assert sys.stat("..").st_ino == sys.stat("/a").st_ino
        assert sys.stat(".").st_nlink == 0

    k.call(walk)


def test_search_permission(k: Kernel, expect: Expect) -> None:
    """Every directory on the way needs its execute bit, the last object none."""

    def walk(sys: Sys) -> None:
        tree(sys)
        sys.chmod("/a/b", 0o600)
        sys.setuid(1000)
        assert sys.stat("/a/b").st_mode & 0o777 == 0o600
        expect.EACCES(sys.stat, "/a/b/f")
        expect.EACCES(sys.stat, "/a/b/.")
        expect.EACCES(sys.chdir, "/a/b")
        expect.EACCES(sys.stat, "/a/b/f/x")

    k.call(walk)


class Fickle(DentryOperations):
    """Names that are right until told otherwise."""

    stale: dict[str, bool] = {}
    asked: list[str] = []

    def d_revalidate(self, dentry: object, flags: int) -> bool:
        """Never sleeps.  Say what the test wants."""
        name = dentry.d_name  # type: ignore[attr-defined]
        self.asked.append(name)
        if self.stale.get(name) is None:
            return True
        return not self.stale.pop(name)


class Relookup(RamFS):
    """ramfs whose names are asked about."""

    name = "relookup"

    def fill_super(self, sb: object, data: object) -> None:
        """Sleeps.  As ramfs, with operations on names."""
        sb.s_d_op = Fickle()  # type: ignore[attr-defined]
        super().fill_super(sb, data)  # type: ignore[arg-type]


def test_revalidation(expect: Expect) -> None:
    """A name that is no longer valid is thrown out and looked up again."""
    Fickle.stale.clear()
    Fickle.asked.clear()
    k = Kernel()
    k.mount(Relookup(), "/")

    def walk(sys: Sys) -> None:
        sys.mkdir("/a")
        sys.mkdir("/a/b")
        assert "a" in Fickle.asked
        Fickle.stale["b"] = True
        expect.ENOENT(sys.stat, "/a/b")  # ramfs knows names by the dcache only
        expect.ENOENT(sys.stat, "/a/b")

    k.call(walk)
    k.machine.bury()


class Moody(DentryOperations):
    """A name whose server has to be asked again, once."""

    times = 0

    def d_revalidate(self, dentry: object, flags: int) -> bool:
        """Never sleeps.  ESTALE, unless asked to look properly."""
        if dentry.d_name == "a" and not flags & 0x20:  # type: ignore[attr-defined]
            type(self).times += 1
            raise ESTALE()
        return True


class Stale(RamFS):
    """ramfs that says ESTALE at first."""

    name = "stale"

    def fill_super(self, sb: object, data: object) -> None:
        """Sleeps.  As ramfs, with operations on names."""
        sb.s_d_op = Moody()  # type: ignore[attr-defined]
        super().fill_super(sb, data)  # type: ignore[arg-type]


def test_estale_is_tried_again_with_revalidation() -> None:
    """ESTALE makes the walk start over and insist (LOOKUP_REVAL)."""
    with Kernel() as k:
        k.mount(Stale(), "/")

        def walk(sys: Sys) -> None:
            sys.mkdir("/a")
            sys.close(sys.open("/a/f", os.O_CREAT))
            assert sys.stat("/a/f").st_size == 0

        k.call(walk)
    assert Moody.times > 1


class Magic(InodeOperations):
    """A symlink to a place."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.refused = 0

    def readlink(self, dentry: Dentry) -> str:
        """Never sleeps.  For people."""
        return "magic"

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Sleeps.  There."""
        if dentry is None:
            self.refused += 1
            raise ECHILD()
        assert self.path is not None
        path_get(self.path)
        nd_jump_link(self.path)
        return ""


def test_a_link_can_be_a_place(expect: Expect) -> None:
    """It leads there without a name, also to what was removed, and the end of the walk asks."""
    asked: list[str] = []

    class Names(DentryOperations):
        """Asks at the end of a jump."""

        def d_weak_revalidate(self, dentry: Dentry, flags: int) -> bool:
            """Never sleeps.  Gone places are stale."""
            asked.append(dentry.d_name)
            return dentry.d_name != "stale"

    class MagicFS(RamFS):
        """ramfs with magic links."""

        symlink = magic = Magic()

        def fill_super(self, sb: SuperBlock, data: Any) -> None:
            sb.s_d_op = Names()
            super().fill_super(sb, data)

    def walk(sys: Sys) -> None:
        for name in ("/d", "/d/e", "/stale"):
            sys.mkdir(name)
        sys.symlink("x", "/link")
        sys.msleep(10)
        MagicFS.magic.path = user_path("/d")
        ino = sys.stat("/d").st_ino
        asked.clear()
        assert sys.stat("/link").st_ino == ino and asked == ["d"]
        assert sys.stat("/link/e").st_ino == sys.stat("/d/e").st_ino
        assert sys.stat("/link/../d").st_ino == ino
        assert MagicFS.magic.refused
        assert sys.readlink("/link") == "magic"
        expect.ELOOP(sys.open, "/link", os.O_RDONLY | os.O_NOFOLLOW)
        sys.rmdir("/d/e")
        sys.rmdir("/d")
        assert sys.stat("/link").st_ino == ino
        path_put(MagicFS.magic.path)
        MagicFS.magic.path = user_path("/stale")
        expect.ESTALE(sys.stat, "/link")
        path_put(MagicFS.magic.path)

    with Kernel() as k:
        k.mount(MagicFS, "/")
        k.call(walk)
        k._check()
