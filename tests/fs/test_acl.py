"""Access control lists: what they allow, how they are set, inherited and kept."""

from __future__ import annotations

import itertools
import os
import stat
import struct
from typing import Any

import pytest

from tests.fs.conftest import Expect
from tests.fs.oracle import both, saw
from vfsim.block.disk import RamDisk
from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeDirectory, WholeFS
from vfsim.fs.acl import (
    ACL_GROUP,
    ACL_GROUP_OBJ,
    ACL_MASK,
    ACL_OTHER,
    ACL_TYPE_ACCESS,
    ACL_USER,
    ACL_USER_OBJ,
    AclEntry,
    PosixAcl,
    posix_acl_equiv_mode,
    posix_acl_from_mode,
    posix_acl_valid,
)
from vfsim.fs.acl_cache import (
    ACL_NOT_CACHED,
    Reading,
    forget_all_cached_acls,
    get_acl,
    set_cached_acl,
)
from vfsim.fs.acl_xattr import posix_acl_from_xattr, posix_acl_to_xattr
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import path_put
from vfsim.fs.namei import user_path
from vfsim.fs.permission import MAY_EXEC, MAY_NOT_BLOCK, MAY_WRITE, generic_permission
from vfsim.fs.syscalls import Sys
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.sim.errors import EIO
from vfsim.sim.scheduler import msleep

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
CREAT, RDWR = os.O_CREAT, os.O_RDWR


def acl(text: str) -> PosixAcl:
    """A list from its usual short form: ``u::7 u:1000:6 g::5 m::7 o::0``."""
    entries = []
    for word in text.split():
        kind, who, perm = word.split(":")
        tag = {
            "u": ACL_USER if who else ACL_USER_OBJ, "g": ACL_GROUP if who else ACL_GROUP_OBJ,
            "m": ACL_MASK, "o": ACL_OTHER,
        }[kind]  # fmt: skip
        entries.append(AclEntry(tag, int(perm), int(who)) if who else AclEntry(tag, int(perm)))
    return PosixAcl(tuple(entries))


def value(text: str) -> bytes:
    return posix_acl_to_xattr(acl(text))


def text(stored: bytes) -> str:
    """The short form of an attribute's value."""
    found = posix_acl_from_xattr(stored)
    assert found is not None
    word = {1: "u:", 2: "u:{}", 4: "g:", 8: "g:{}", 16: "m:", 32: "o:"}
    return " ".join(f"{word[e.tag].format(e.id)}:{e.perm}" for e in found.entries)


VALID = (
    "u::6 g::4 o::0",
    "u::6 u:1000:6 g::4 m::6 o::0",
    "u::6 u:1000:6 g::0 m::4 o::6",
    "u::0 u:1000:7 g::7 g:100:0 m::7 o::7",
    "u::7 g::0 g:100:6 m::7 o::0",
    "u::7 g::4 g:100:2 m::7 o::6",
    "u::7 u:1001:0 g::6 g:200:4 m::2 o::7",
)
WHO = ((1, 1, ()), (1000, 1, ()), (1001, 50, ()), (2, 50, ()), (2, 1, (100,)), (2, 200, (50, 100)))


def test_who_may_do_what() -> None:
    """Owner, named users, the groups together, others: every list, everybody, reading and writing,
    as the host says.
    """

    def go(sys: Any) -> list[Any]:
        seen: list[Any] = []
        for words in VALID:
            sys.close(sys.open("/f", CREAT, 0o644))
            sys.chown("/f", 1, 50)
            sys.setxattr("/f", ACCESS, value(words))
            seen.append((words, oct(sys.stat("/f").st_mode), sorted(sys.listxattr("/f"))))
            for uid, gid, groups in WHO:
                sys.setgroups(groups)
                sys.setgid(gid)
                sys.setuid(uid)
                for flags in (os.O_RDONLY, os.O_WRONLY, RDWR):
                    seen.append(
                        (words, uid, gid, flags, isinstance(saw(sys.open, "/f", flags), int))
                    )
                sys.setuid(0)
                sys.setgid(0)
                sys.setgroups([])
            sys.unlink("/f")
        return seen

    assert len(both(go)) == len(VALID) * (1 + 3 * len(WHO))


WRONG = (
    "", "u::6", "g::4 u::6 o::0", "u::6 o::0 g::4", "u::6 u:1:4 g::4 o::0", "u::6 g::4 m::4",
    "u::6 u::6 g::4 o::0", "u::6 g::4 o::0 o::0", "u::6 g::4 m::4 m::4 o::0", "u::8 g::4 o::0",
    "u::6 g::4 m::4 g:1:4 o::0",
)  # fmt: skip


def test_wrong_lists_are_refused() -> None:
    """Entries out of order, missing, twice; other versions; cut values: with the host's errno, on
    files, directories, links, for access and default lists.
    """
    values = [value(words) for words in (*WRONG, *VALID)]
    good = value(VALID[1])
    values += [good[:-1], good[:3], struct.pack("<I", 1) + good[4:], good[:4] + b"\3" + good[5:]]

    def go(sys: Any) -> list[Any]:
        sys.close(sys.open("/f", CREAT, 0o644))
        sys.mkdir("/d")
        sys.symlink("f", "/l")
        seen: list[Any] = []
        for path, name, wrong in itertools.product("fdl", (ACCESS, DEFAULT), values):
            seen.append((path, name, wrong, saw(sys.lsetxattr, "/" + path, name, wrong)))
            seen.append(saw(sys.lgetxattr, "/" + path, name))
            seen.append((oct(sys.lstat("/" + path).st_mode), sorted(sys.llistxattr("/" + path))))
        for path, name in itertools.product("fdl", (ACCESS, DEFAULT)):
            seen.append((path, name, saw(sys.lremovexattr, "/" + path, name)))
            seen.append((path, name, saw(sys.lremovexattr, "/" + path, name)))
        sys.setuid(1000)
        for path, name in itertools.product("fd", (ACCESS, DEFAULT)):
            seen.append((path, name, saw(sys.setxattr, "/" + path, name, good)))
            seen.append((path, name, saw(sys.removexattr, "/" + path, name)))
        return seen

    assert len(both(go)) > 400


def test_inheritance() -> None:
    """What is made in a directory with a default list gets its permissions from there, and a
    directory the list as well; without one the umask applies.
    """

    def go(sys: Any) -> list[Any]:
        seen: list[Any] = []
        for words, umask, mode in itertools.product(VALID, (0o022, 0o077), (0o777, 0o640, 0)):
            sys.umask(umask)
            sys.mkdir("/d", 0o755)
            sys.mkdir("/d/before", mode)
            sys.setxattr("/d", DEFAULT, value(words))
            sys.close(sys.open("/d/f", CREAT | os.O_WRONLY, mode))
            sys.mkdir("/d/e", mode)
            sys.mknod("/d/p", stat.S_IFIFO | mode)
            sys.symlink("f", "/d/l")
            sys.mkdir("/d/e/deep", mode)
            for path in ("", "/before", "/f", "/e", "/p", "/e/deep", "/l"):
                there = "/d" + path
                seen.append((words, oct(umask), oct(mode), path, oct(sys.lstat(there).st_mode)))
                for name in (ACCESS, DEFAULT):
                    found = saw(sys.lgetxattr, there, name)
                    seen.append(text(found) if isinstance(found, bytes) else found)
            sys.unlink("/d/f")
            sys.unlink("/d/p")
            sys.unlink("/d/l")
            for path in ("/d/e/deep", "/d/e", "/d/before", "/d"):
                sys.rmdir(path)
        return seen

    assert len(both(go)) == len(VALID) * 2 * 3 * 7 * 3


def test_chmod_and_lists() -> None:
    """The group's bits of chmod(2) go to the mask; a new list sets the mode, and takes the
    set-group-ID bit from somebody who is not in the group.
    """

    def go(sys: Any) -> list[Any]:
        sys.close(sys.open("/f", CREAT, 0o644))
        sys.chown("/f", 1000, 50)
        seen: list[Any] = []
        for words, mode in itertools.product(VALID, (0o2777, 0o640, 0o7)):
            sys.setxattr("/f", ACCESS, value(words))
            sys.chmod("/f", mode)
            found = saw(sys.getxattr, "/f", ACCESS)
            seen.append((words, oct(mode), oct(sys.stat("/f").st_mode)))
            seen.append(text(found) if isinstance(found, bytes) else found)
            sys.setuid(1000)
            seen.append(saw(sys.setxattr, "/f", ACCESS, value(words)))
            seen.append(oct(sys.stat("/f").st_mode))
            sys.setuid(0)
        return seen

    assert len(both(go)) == len(VALID) * 3 * 4


def test_what_lists_amount_to() -> None:
    """A mode as a list is valid and the same mode; a mask stands for the group."""
    for mode in (0, 0o777, 0o751):
        posix_acl_valid(posix_acl_from_mode(mode))
        assert posix_acl_equiv_mode(posix_acl_from_mode(mode), 0o4000) == (0o4000 | mode, True)
    assert posix_acl_equiv_mode(acl(VALID[1]), 0) == (0o660, False)
    assert posix_acl_equiv_mode(None, 0o123) == (0o123, True)


# -- where they are kept ---------------------------------------------------------------------------


def whole(program: Any, filesystem: Any = WholeFS, **options: Any) -> Any:
    """Run a program on a filesystem that reads its lists from a store."""
    kernel = Kernel(**options)
    try:
        kernel.mount(filesystem, "/", device=RamDisk(sectors=4096))
        result = kernel.call(program)
        kernel.close()
        assert kernel.violations == []
        return result
    finally:
        kernel.machine.bury()


def inode_of(path: str) -> Inode:
    found = user_path(path)
    inode = found.dentry.d_inode
    assert inode is not None
    path_put(found)
    return inode


def test_a_list_is_read_once() -> None:
    """The filesystem is asked the first time, and again when it was forgotten; what is set is known
    without asking.
    """
    asked: list[int] = []

    class Counting(WholeDirectory):
        def get_acl(self, inode: Inode, type: int) -> Any:
            asked.append(inode.i_ino)
            return super().get_acl(inode, type)

    class CountingFS(WholeFS):
        directory = Counting()

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        asked.clear()
        inode = inode_of("/d")
        assert get_acl(inode, ACL_TYPE_ACCESS) is None and get_acl(inode, ACL_TYPE_ACCESS) is None
        assert asked == [inode.i_ino]
        sys.setxattr("/d", ACCESS, value(VALID[1]))
        assert get_acl(inode, ACL_TYPE_ACCESS) == acl(VALID[1])
        assert asked == [inode.i_ino]
        forget_all_cached_acls(inode)
        assert get_acl(inode, ACL_TYPE_ACCESS) == acl(VALID[1])
        assert asked == [inode.i_ino] * 2
        assert sys.listxattr("/d") == [ACCESS]

    whole(go, CountingFS)


def test_an_answer_that_came_too_late_is_not_kept() -> None:
    """While the filesystem reads the old list, a new one is set: the cache keeps the new one."""

    class Slow(WholeDirectory):
        def get_acl(self, inode: Inode, type: int) -> Any:
            found = super().get_acl(inode, type)
            msleep(10)
            return found

    class SlowFS(WholeFS):
        directory = Slow()

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        inode = inode_of("/d")
        told: list[Any] = []
        sys.fork(lambda sys: told.append(get_acl(inode, ACL_TYPE_ACCESS)))
        sys.msleep(5)
        assert isinstance(inode.i_acl, Reading)
        set_cached_acl(inode, ACL_TYPE_ACCESS, acl(VALID[1]))
        sys.msleep(20)
        assert told == [None] and inode.i_acl == acl(VALID[1])

    whole(go, SlowFS)


def test_a_failed_read_is_repeated(expect: Expect) -> None:
    """An error reaches the caller, and leaves nothing in the cache."""

    class Failing(WholeDirectory):
        def get_acl(self, inode: Inode, type: int) -> Any:
            raise EIO()

    class FailingFS(WholeFS):
        directory = Failing()

    def go(sys: Sys) -> None:
        expect.EIO(sys.mkdir, "/d")
        inode = inode_of("/")
        expect.EIO(get_acl, inode, ACL_TYPE_ACCESS)
        assert inode.i_acl is ACL_NOT_CACHED
        sys.setuid(1000)
        expect.EIO(sys.stat, "/d")
        sys.setuid(0)

    whole(go, FailingFS)


def test_rcu_mode_asks_the_cache_alone(expect: Expect) -> None:
    """With MAY_NOT_BLOCK a list that is not cached is ECHILD, a cached one decides."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.setxattr("/d", ACCESS, value("u::7 u:1000:1 g::0 m::7 o::7"))
        inode = inode_of("/d")
        sys.setuid(1000)
        for cached in (True, False):
            rcu_read_lock()
            if cached:
                generic_permission(inode, MAY_EXEC | MAY_NOT_BLOCK)
                expect.EACCES(generic_permission, inode, MAY_WRITE | MAY_NOT_BLOCK)
            else:
                expect.ECHILD(generic_permission, inode, MAY_EXEC | MAY_NOT_BLOCK)
            rcu_read_unlock()
            forget_all_cached_acls(inode)
        generic_permission(inode, MAY_EXEC)
        sys.setuid(0)

    whole(go)


@pytest.mark.parametrize("filesystem", [RamFS, WholeFS])
def test_readers_see_one_of_the_lists(filesystem: Any) -> None:
    """While two lists are set in turn, whoever reads sees one of them whole, on every schedule."""
    for seed in range(15):
        kernel = Kernel(seed=seed, strategy="pos")
        try:
            kernel.mount(filesystem, "/", device=RamDisk(sectors=4096))
            told: list[Any] = []

            def writer(sys: Sys) -> None:
                for words in VALID[1:3]:
                    sys.setxattr("/", ACCESS, value(words))

            def reader(sys: Sys, told: list[Any] = told) -> None:
                told += [saw(sys.getxattr, "/", ACCESS) for _ in range(2)]

            kernel.process(writer)
            kernel.process(reader)
            kernel.run()
            assert set(told) <= {"ENODATA", value(VALID[1]), value(VALID[2])}
        finally:
            kernel.machine.bury()
