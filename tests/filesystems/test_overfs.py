"""overfs: one tree made of two."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tests.filesystems.overfs_world import (
    LAYERS,
    TREE,
    WHITEOUT,
    errno_of,
    look,
    on_layers,
    plant,
    read,
    world,
    write,
)
from vfsim.checks import tables
from vfsim.filesystems.imagefs import SAMPLE, ImageFS
from vfsim.filesystems.netfs import LEASE, NetFS
from vfsim.filesystems.overfs import OverFS
from vfsim.filesystems.overfs.layers import OPAQUE
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.attr import KStat, generic_fillattr
from vfsim.fs.dcache import Dentry, d_inode
from vfsim.fs.directory import RENAME_EXCHANGE, RENAME_WHITEOUT
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import Mount
from vfsim.fs.syscalls import Sys
from vfsim.sim.scheduler import msleep

UPPER = "/layers/upper"

# -- what is seen ----------------------------------------------------------------------------------


def test_both_trees_are_seen() -> None:
    """Names of both; where both have one, the upper one's, and a directory shows both again."""

    def body(sys: Sys) -> None:
        assert look(sys, "/over") == TREE
        assert read(sys, "/over/l") == b"lower x"
        write(sys, "/over/d/new", b"new")
        write(sys, "/over/f", b"upper f")
        assert look(sys, UPPER) == {"d": {"new": b"new"}, "f": b"upper f"}
        expected = {**TREE, "d": {**TREE["d"], "new": b"new"}, "f": b"upper f"}
        assert look(sys, "/over") == expected
        listed = sys.listdir("/over")
        assert len(listed) == len(set(listed))

    on_layers(body)


def test_it_is_the_same_after_it_was_mounted_again() -> None:
    """Whiteouts, opaque directories and copies are in the upper tree, and nowhere else."""
    with world() as k:

        def change(sys: Sys) -> dict[str, Any]:
            sys.unlink("/over/f")
            sys.rename("/over/g", "/over/h")
            for name in ("x", "y", "e/z"):
                sys.unlink(f"/over/d/{name}")
            sys.rmdir("/over/d/e")
            sys.rmdir("/over/d")
            sys.mkdir("/over/d")
            write(sys, "/over/d/y", b"another")
            found = look(sys, "/over")
            assert found == {"h": b"lower g", "empty": {}, "l": "d/x", "d": {"y": b"another"}}
            return found

        before = k.call(change)
        k.umount("/over")
        k.mount(OverFS, "/over", options=LAYERS)
        assert k.call(look, "/over") == before
        k._check()


# -- copy-up ---------------------------------------------------------------------------------------


def test_a_copy_is_complete() -> None:
    """Contents of several pages, mode, owner, times, attributes and lists; those of the directories
    above, too; and the times of what it is put into stay.
    """
    tree = {"a": {"b": {"f": bytes(range(256)) * 50}}}
    paths = ("/a", "/a/b", "/a/b/f")
    acl = "system.posix_acl_default"
    value = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + id.to_bytes(4, "little")
        for tag, perm, id in ((1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (32, 1, 2**32 - 1))
    )

    def body(sys: Sys) -> None:
        for n, path in enumerate(paths):
            sys.setxattr(f"/layers/lower{path}", "user.n", b"%d" % n)
            sys.chown(f"/layers/lower{path}", 1000 + n, 100 + n)
            sys.chmod(f"/layers/lower{path}", 0o2750 + n)
            sys.utime(f"/layers/lower{path}", 10**9 + n, 2 * 10**9 + n)
        sys.setxattr("/layers/lower/a/b", acl, value)
        sys.utime(UPPER, 5, 5)
        before = [sys.stat(f"/layers/lower{path}") for path in paths]
        assert [sys.getxattr(f"/over{path}", "user.n") for path in paths] == [b"0", b"1", b"2"]
        sys.close(sys.open("/over/a/b/f", os.O_RDWR))
        for n, path in enumerate(paths):
            for place in (UPPER, "/over"):
                found = sys.stat(place + path)
                for word in ("mode", "uid", "gid", "size", "atime_ns", "mtime_ns"):
                    if word != "size" or path == "/a/b/f":
                        same = getattr(before[n], f"st_{word}")
                        assert getattr(found, f"st_{word}") == same, (place, path, word)
                assert sys.getxattr(place + path, "user.n") == b"%d" % n
        assert sys.getxattr(f"{UPPER}/a/b", acl) == sys.getxattr("/over/a/b", acl) == value
        assert sys.stat(UPPER).st_mtime_ns == 5
        assert read(sys, f"{UPPER}/a/b/f") == tree["a"]["b"]["f"]

    with world(tree=tree) as k:
        k.call(body)
        k._check()


@pytest.mark.parametrize(
    ("call", "args"),
    [
        ("chmod", (0o600,)), ("chown", (1, 1)), ("utime", (5, 5)), ("truncate", (3,)),
        ("setxattr", ("user.a", b"1")),
    ],
)  # fmt: skip
def test_what_changes_is_copied_first(call: str, args: tuple[Any, ...]) -> None:
    """A change of attributes is made to the copy; one that fails copies nothing."""

    def body(sys: Sys) -> None:
        sys.stat("/over/d/x")
        assert sys.listdir(UPPER) == []
        with pytest.raises(OSError):
            sys.removexattr("/over/d/x", "user.none")
        assert sys.listdir(UPPER) == []
        getattr(sys, call)("/over/d/x", *args)
        assert list(look(sys, UPPER)["d"]) == ["x"]

    on_layers(body)


def test_only_writers_copy() -> None:
    """Open for reading it is the lower file; for writing, or to be emptied, a copy; who reads the
    old one goes on reading it, and readlink and stat copy nothing.
    """

    def real(sys: Sys, fd: int) -> Inode:
        file, how = fdget(fd)
        inode = file.f_inode
        assert inode is not file.f_path.dentry.d_inode
        fdput(file, how)
        return inode

    def body(sys: Sys) -> None:
        old = sys.open("/over/f")
        sys.readlink("/over/l")
        assert sys.listdir(UPPER) == []
        lower = real(sys, old)
        new = sys.open("/over/f", os.O_RDWR)
        upper = real(sys, new)
        assert upper is not lower and upper.i_sb is lower.i_sb
        sys.pwrite(new, b"UPPER", 0)
        assert sys.pread(old, 100, 0) == b"lower f" and sys.pread(new, 100, 0) == b"UPPER f"
        assert read(sys, "/over/f") == b"UPPER f"
        sys.close(sys.open("/over/g", os.O_WRONLY | os.O_TRUNC))
        assert read(sys, f"{UPPER}/g") == b""
        sys.close(old)
        sys.close(new)

    on_layers(body)


def test_what_was_removed_does_not_come_back() -> None:
    """Somebody still has it open and changes its mode: its copy has no name."""

    def body(sys: Sys) -> None:
        fds = [sys.open(f"/over/{name}") for name in ("f", "g", "empty")]
        sys.unlink("/over/f")
        sys.rename("/over/d/x", "/over/g")
        sys.rmdir("/over/empty")
        for fd in fds:
            sys.fchmod(fd, 0o500)
            assert sys.fstat(fd).st_mode & 0o777 == 0o500
            sys.close(fd)
        assert sorted(sys.listdir("/over")) == ["d", "g", "l"]
        assert read(sys, "/over/g") == b"lower x"

    on_layers(body)


def test_whose_rights_count() -> None:
    """The task's at the overfs inode; beneath, those of whoever mounted it."""
    with world() as k:

        def prepare(sys: Sys) -> None:
            sys.chown("/layers/lower/d/x", 1000, 1000)
            sys.chmod("/over", 0o777)
            sys.setxattr("/layers/lower/f", "trusted.t", b"1")
            sys.mkdir("/over/opaque")
            sys.setxattr(f"{UPPER}/opaque", OPAQUE, b"y")
            assert sys.listxattr("/over/opaque") == []
            assert errno_of(sys.getxattr, "/over/opaque", OPAQUE) == errno.EPERM
            assert errno_of(sys.setxattr, "/over/f", OPAQUE, b"y") == errno.EPERM
            assert sys.listxattr("/over/f") == ["trusted.t"]

        def somebody(sys: Sys) -> None:
            assert errno_of(sys.open, "/over/f", os.O_WRONLY) == errno.EACCES
            assert errno_of(sys.chmod, "/over/f", 0o777) == errno.EPERM
            assert errno_of(sys.unlink, "/over/d/x") == errno.EACCES
            assert sys.listxattr("/over/f") == []
            write(sys, "/over/d/x", b"mine")  # of directories that are root's
            sys.mkdir("/over/new")
            assert sys.stat("/over/new").st_uid == sys.stat(f"{UPPER}/new").st_uid == 1000
            assert errno_of(sys.mknod, "/over/w", WHITEOUT[0]) == errno.EPERM

        k.call(prepare)
        k.call(somebody, uid=1000, gid=1000)
        assert k.call(look, UPPER + "/d") == {"x": b"mine"}
        k._check()


# -- removing and renaming -------------------------------------------------------------------------


def test_whiteouts() -> None:
    """Where the lower tree has a name, a whiteout takes its place, and is replaced in turn; a
    directory over one is opaque.
    """

    def body(sys: Sys) -> None:
        write(sys, "/over/only", b"upper")
        sys.unlink("/over/only")
        assert look(sys, UPPER) == {}
        sys.unlink("/over/f")
        sys.unlink("/over/d/x")
        assert look(sys, UPPER) == {"f": WHITEOUT, "d": {"x": WHITEOUT}}
        assert errno_of(sys.stat, "/over/f") == errno.ENOENT
        assert sorted(sys.listdir("/over/d")) == ["e", "y"]
        assert errno_of(sys.mknod, "/over/f", *WHITEOUT) == errno.EPERM
        sys.mkdir("/over/f")
        sys.link("/over/g", "/over/d/x")
        assert look(sys, UPPER) == {"f": {}, "g": b"lower g", "d": {"x": b"lower g"}}
        assert sys.getxattr(f"{UPPER}/f", OPAQUE) == b"y"

    on_layers(body)


def test_rmdir_of_a_merged_directory() -> None:
    """Not while either tree has a name in it; whiteouts do not count, and go with it."""

    def body(sys: Sys) -> None:
        assert errno_of(sys.rmdir, "/over/d/e") == errno.ENOTEMPTY
        sys.unlink("/over/d/e/z")
        write(sys, "/over/d/e/new", b"")
        assert errno_of(sys.rmdir, "/over/d/e") == errno.ENOTEMPTY
        sys.unlink("/over/d/e/new")
        sys.rmdir("/over/d/e")
        assert look(sys, UPPER) == {"d": {"e": WHITEOUT}}
        sys.rmdir("/over/empty")
        assert sorted(sys.listdir("/over")) == ["d", "f", "g", "l"]

    on_layers(body)


def test_renames() -> None:
    """A file leaves a whiteout, or swaps with one; a directory of the upper tree becomes opaque
    where the lower one may have its name, one of the lower tree does not move.
    """

    def body(sys: Sys) -> None:
        sys.rename("/over/f", "/over/d/x")
        assert look(sys, UPPER) == {"f": WHITEOUT, "d": {"x": b"lower f"}}
        sys.rename("/over/d/x", "/over/f")
        assert look(sys, UPPER) == {"f": b"lower f", "d": {"x": WHITEOUT}}
        for old, new in (("d", "n"), ("empty", "n")):
            assert errno_of(sys.rename, f"/over/{old}", f"/over/{new}") == errno.EXDEV
        assert errno_of(sys.renameat2, "/over/f", "/over/d", RENAME_EXCHANGE) == errno.EXDEV
        assert errno_of(sys.renameat2, "/over/f", "/over/n", RENAME_WHITEOUT) == errno.EINVAL
        sys.mkdir("/over/n")
        write(sys, "/over/n/m", b"m")
        sys.unlink("/over/d/e/z")
        assert errno_of(sys.rename, "/over/n", "/over/d") == errno.ENOTEMPTY
        sys.rename("/over/n", "/over/d/e")
        assert look(sys, "/over/d") == {"e": {"m": b"m"}, "y": b"lower y"}
        sys.rename("/over/d/e", "/over/empty")
        assert look(sys, UPPER) == {
            "f": b"lower f", "d": {"x": WHITEOUT, "e": WHITEOUT}, "empty": {"m": b"m"},
        }  # fmt: skip
        sys.renameat2("/over/g", "/over/empty", RENAME_EXCHANGE)
        assert look(sys, "/over/g") == {"m": b"m"} and read(sys, "/over/empty") == b"lower g"

    on_layers(body)


def test_hard_links() -> None:
    """Two names in the upper tree are one inode; two names in the lower one part with the copy."""
    with world() as k:

        def body(sys: Sys) -> None:
            sys.link("/over/f", "/over/f2")
            assert sys.stat("/over/f").st_nlink == 2
            write(sys, "/over/f2", b"both")
            assert read(sys, "/over/f") == b"both"
            sys.rename("/over/f", "/over/f2")
            assert sorted(name for name in sys.listdir("/over") if name[0] == "f") == ["f", "f2"]
            sys.unlink("/over/f")
            assert sys.stat("/over/f2").st_nlink == 1
            write(sys, "/over/one", b"copied")
            assert read(sys, "/over/two") == b"lower"

        def link(sys: Sys) -> None:
            write(sys, "/layers/lower/one", b"lower")
            sys.link("/layers/lower/one", "/layers/lower/two")

        k.call(link)
        k.call(body)
        k._check()


# -- other trees beneath ---------------------------------------------------------------------------


def test_over_an_image_that_nobody_can_write() -> None:
    """A read-only filesystem becomes one to write to."""
    with Kernel() as k:
        k.mount(RamFS, "/layers")
        k.mount(ImageFS, "/image")
        k.call(lambda sys: [sys.mkdir(f"/layers/{name}") for name in ("upper", "work")])
        k.mount(OverFS, "/over", options=LAYERS.replace("/layers/lower", "/image"))

        def body(sys: Sys) -> None:
            assert look(sys, "/over") == SAMPLE
            write(sys, "/over/README", b"Do not", os.O_APPEND)
            assert read(sys, "/over/man") == SAMPLE["README"] + b"Do not"
            sys.unlink("/over/bin/sh")
            sys.rmdir("/over/bin")
            assert sorted(sys.listdir("/over")) == ["README", "empty", "man"]
            assert look(sys, "/image") == SAMPLE

        k.call(body)
        k.umount("/image")
        assert k.call(read, "/over/man") == SAMPLE["README"] + b"Do not"
        k._check()


def test_names_that_change_below() -> None:
    """The lower filesystem is asked about its names, those of walks that jumped included."""
    net = NetFS()
    net.server.make(net.server.make(net.server.root, "d", 0o040755), "f", 0o100644)
    with Kernel() as k:
        k.mount(RamFS, "/layers")
        k.mount(net, "/net")
        k.call(lambda sys: [sys.mkdir(f"/layers/{name}") for name in ("upper", "work")])
        k.mount(OverFS, "/over", options=LAYERS.replace("/layers/lower", "/net"))

        def body(sys: Sys) -> None:
            sys.chdir("/over/d")
            assert sys.stat("/over/d/f").st_size == 0
            asked = net.server.asked
            msleep(LEASE // 1_000_000 + 1)
            sys.stat("/over/d/f")
            assert net.server.asked > asked + 1
            sys.stat("..")
            net.server.remove(net.server.root.names["d"], "f")
            msleep(LEASE // 1_000_000 + 1)
            assert errno_of(sys.stat, "/over/d/f") == errno.ESTALE
            write(sys, "/over/d/g", b"mine")
            assert sys.listdir("/over/d") == ["g"]

        k.call(body)
        k._check()
    called = tables.record()["methods"]
    for method in ("d_revalidate", "d_weak_revalidate", "d_real"):
        assert "overfs" in called[f"dentry_operations.{method}"]["by"], method


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("lowerdir=/layers/lower", errno.ENOENT),
        ("lowerdir=/layers/lower,upperdir=/layers/none,workdir=/layers/work", errno.ENOENT),
        ("lowerdir=/layers/lower/f,upperdir=/layers/upper,workdir=/layers/work", errno.ENOTDIR),
        ("lowerdir=/layers/lower,upperdir=/layers,workdir=/layers/work", errno.EINVAL),
        ("lowerdir=/layers/lower,upperdir=/layers/upper,workdir=/", errno.EINVAL),
        ("lowerdir=/over,upperdir=/layers/upper,workdir=/layers/work", errno.EINVAL),
    ],
)
def test_trees_that_cannot_be_used(options: str, code: int) -> None:
    """One that is missing, two in each other, two mounts, and another overfs."""
    with world() as k:
        with pytest.raises(OSError) as caught:
            k.mount(OverFS, "/again", options=options)
        assert caught.value.errno == code


def test_what_mounts_show() -> None:
    """The options, and what the upper filesystem says of itself."""

    def body(sys: Sys) -> None:
        assert any(LAYERS in line for line in sys.mounts())
        assert sys.statfs("/over").f_type == 0x794C7630
        fd = sys.open("/over/d", os.O_DIRECTORY)
        sys.fsync(fd)
        sys.fchmod(fd, 0o700)
        sys.fsync(fd)
        sys.close(fd)

    on_layers(body)


# -- the contract ----------------------------------------------------------------------------------


class ToldDirectory(RamDirectory):
    """A directory that is asked for its attributes."""

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Never sleeps.  Those of the inode."""
        return generic_fillattr(d_inode(dentry))


class ToldFS(RamFS):
    """ramfs with such directories."""

    name = "toldfs"
    directory = ToldDirectory()


class OverTold(OverFS):
    """overfs over it."""

    private_upper = ToldFS()


def test_attributes_are_read_with_and_without_the_lock() -> None:
    """Copy-up reads those of the directory that it has locked: "no" is not promised."""
    cell = "inode_operations.getattr.i_mutex(inode)"
    before = tables.record()["checked"].get(cell, 0)
    with Kernel() as k:
        k.mount(OverTold, "/", options="sample")
        k.call(lambda sys: sys.chmod("/README", 0o600))
        k.call(lambda sys: sys.stat("/"))
    found = tables.record()
    assert found["checked"][cell] > before
    assert any("told" in name for name in found["methods"]["inode_operations.getattr"]["by"])


def test_a_private_tree_from_a_plan() -> None:
    """Without directories both trees are its own; ``sample`` fills the lower one."""
    with Kernel() as k:
        k.mount(OverFS, "/a")
        k.mount(OverFS, "/b", options="sample")

        def body(sys: Sys) -> None:
            assert sys.listdir("/a") == []
            assert look(sys, "/b") == OverFS.sample
            plant(sys, "/a", TREE)
            assert look(sys, "/a") == TREE
            plant(sys, "/b/empty", TREE)
            assert look(sys, "/b/empty") == TREE

        k.call(body)
        k._check()
