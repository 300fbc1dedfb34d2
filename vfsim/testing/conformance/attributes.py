"""What stat tells and what changes it: modes, owners, times, numbers."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    asserts,
    put,
    same,
    touch,
    true,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import StatResult, SystemCalls

PAUSE_MS = 20
"""Longer than the kernel's clock tick at every HZ, so that two times can differ."""


def _mode(sys: SystemCalls, path: str) -> str:
    return oct(stat.S_IMODE(sys.lstat(path).st_mode))


# Modes.  ---------------------------------------------------------------------------------------


@asserts("mode", "a new file has the mode asked for, less the umask", needs="create")
def new_file(sys: SystemCalls) -> None:
    touch(sys, "/a", 0o666)
    same(_mode(sys, "/a"), "0o644")


@asserts("mode", "a new directory has the mode asked for, less the umask", needs="mkdir")
def new_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d", 0o777)
    same(_mode(sys, "/d"), "0o755")


@asserts("mode", "a new special file has the mode asked for, less the umask", needs="mknod")
def new_special(sys: SystemCalls) -> None:
    sys.mknod("/p", stat.S_IFIFO | 0o666, 0)
    same(_mode(sys, "/p"), "0o644")


@asserts("mode", "umask 0 takes nothing away", needs="create mkdir")
def umask_zero(sys: SystemCalls) -> None:
    sys.umask(0)
    touch(sys, "/a", 0o666)
    sys.mkdir("/d", 0o777)
    same((_mode(sys, "/a"), _mode(sys, "/d")), ("0o666", "0o777"))


@asserts("mode", "umask 077 leaves the owner's bits", needs="create mkdir")
def umask_private(sys: SystemCalls) -> None:
    sys.umask(0o077)
    touch(sys, "/a", 0o666)
    sys.mkdir("/d", 0o777)
    same((_mode(sys, "/a"), _mode(sys, "/d")), ("0o600", "0o700"))


@asserts("mode", "umask tells the mask before", needs="")
def umask_tells(sys: SystemCalls) -> None:
    same(oct(sys.umask(0o027)), "0o22", "the first")
    same(oct(sys.umask(0)), "0o27", "the second")


@asserts("mode", "a symlink has all bits", needs="symlink")
def of_symlink(sys: SystemCalls) -> None:
    sys.symlink("x", "/l")
    same(_mode(sys, "/l"), "0o777")


@asserts("mode", "mode 0 is a mode", needs="create")
def zero(sys: SystemCalls) -> None:
    touch(sys, "/a", 0)
    same(_mode(sys, "/a"), "0o0")


@asserts("mode", "chmod sets all twelve bits", needs="create")
def chmod_bits(sys: SystemCalls) -> None:
    touch(sys, "/a")
    for mode in (0o000, 0o777, 0o4755, 0o2755, 0o1644, 0o7777, 0o640):
        sys.chmod("/a", mode)
        same(_mode(sys, "/a"), oct(mode))


@asserts("mode", "chmod keeps the type", needs="create")
def chmod_keeps_type(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chmod("/a", stat.S_IFDIR | 0o700)
    same(oct(sys.stat("/a").st_mode), oct(stat.S_IFREG | 0o700), "st_mode")


@asserts("mode", "fchmod sets the mode", needs="create")
def fchmod(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    sys.fchmod(fd, 0o400)
    same(_mode(sys, "/a"), "0o400")


@asserts("mode", "chmod of a directory", needs="mkdir")
def chmod_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chmod("/d", 0o1770)
    same(_mode(sys, "/d"), "0o1770")


@asserts("mode", "chmod of the root", needs="")
def chmod_root(sys: SystemCalls) -> None:
    sys.chmod("/", 0o711)
    same(_mode(sys, "/"), "0o711")


@asserts("mode", "a file in a set-group-id directory takes its group", needs="create mkdir nested")
def setgid_file(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chown("/d", 0, 77)
    sys.chmod("/d", 0o2777)
    touch(sys, "/d/a")
    same(sys.stat("/d/a").st_gid, 77, "st_gid")


@asserts(
    "mode",
    "a directory in a set-group-id directory takes its group and the bit",
    needs="mkdir nested",
)
def setgid_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chown("/d", 0, 77)
    sys.chmod("/d", 0o2777)
    sys.mkdir("/d/e")
    same((sys.stat("/d/e").st_gid, _mode(sys, "/d/e")), (77, "0o2755"))


# Owners.  --------------------------------------------------------------------------------------


@asserts("owner", "root's files belong to root", needs="create")
def of_root(sys: SystemCalls) -> None:
    touch(sys, "/a")
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (0, 0))


@asserts("owner", "a new file belongs to who made it", needs="create")
def of_user(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    sys.setgid(1000)
    sys.setuid(1000)
    touch(sys, "/a")
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (1000, 1000), "st_uid, st_gid")


@asserts("owner", "a new directory belongs to who made it", needs="mkdir owners")
def directory_of_user(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    sys.setgid(1000)
    sys.setuid(1000)
    sys.mkdir("/d")
    same((sys.stat("/d").st_uid, sys.stat("/d").st_gid), (1000, 1000), "st_uid, st_gid")


@asserts("owner", "a new symlink belongs to who made it", needs="symlink owners")
def symlink_of_user(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    sys.setgid(1000)
    sys.setuid(1000)
    sys.symlink("x", "/l")
    same((sys.lstat("/l").st_uid, sys.lstat("/l").st_gid), (1000, 1000), "st_uid, st_gid")


@asserts("owner", "chown sets owner and group", needs="create")
def chown(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chown("/a", 12, 34)
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (12, 34))


@asserts("owner", "chown with -1 leaves that one alone", needs="create")
def chown_minus_one(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chown("/a", 12, 34)
    sys.chown("/a", -1, 56)
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (12, 56), "after the group")
    sys.chown("/a", 78, -1)
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (78, 56), "after the owner")


@asserts("owner", "fchown sets owner and group", needs="create")
def fchown(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    sys.fchown(fd, 12, 34)
    same((sys.stat("/a").st_uid, sys.stat("/a").st_gid), (12, 34))


@asserts("owner", "chown takes set-user-id and set-group-id off an executable", needs="create")
def chown_drops_suid(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chmod("/a", 0o6755)
    sys.chown("/a", 12, 34)
    same(_mode(sys, "/a"), "0o755")


# Other fields.  --------------------------------------------------------------------------------


@asserts("stat", "stat, lstat and fstat tell the same of a file", needs="create write")
def three_ways(sys: SystemCalls) -> None:
    put(sys, "/a", b"abc")
    fd = sys.open("/a", os.O_RDONLY)
    told = [_fields(found) for found in (sys.stat("/a"), sys.lstat("/a"), sys.fstat(fd))]
    same(told[1], told[0], "lstat")
    same(told[2], told[0], "fstat")


def _fields(found: StatResult) -> tuple[int, ...]:
    return (
        found.st_mode, found.st_ino, found.st_nlink, found.st_uid, found.st_gid, found.st_size,
        found.st_dev, found.st_mtime_ns, found.st_ctime_ns,
    )  # fmt: skip


@asserts("stat", "inode numbers are not 0", needs="create")
def numbers_not_zero(sys: SystemCalls) -> None:
    touch(sys, "/a")
    true(sys.stat("/a").st_ino > 0, "a number above 0", sys.stat("/a").st_ino, "file")
    true(sys.stat("/").st_ino > 0, "a number above 0", sys.stat("/").st_ino, "root")


@asserts("stat", "an inode keeps its number", needs="create read write")
def number_kept(sys: SystemCalls) -> None:
    touch(sys, "/a")
    before = sys.stat("/a").st_ino
    fd = sys.open("/a", os.O_RDWR)
    sys.write(fd, b"x")
    sys.close(fd)
    sys.chmod("/a", 0o600)
    same(sys.stat("/a").st_ino, before)


@asserts("stat", "everything on a filesystem has its device number", needs="create mkdir")
def one_device(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.mkdir("/d")
    same({sys.stat(path).st_dev for path in ("/", "/a", "/d")}, {sys.stat("/").st_dev})


@asserts("stat", "the preferred block size is a size", needs="create")
def block_size(sys: SystemCalls) -> None:
    touch(sys, "/a")
    true(sys.stat("/a").st_blksize > 0, "a size above 0", sys.stat("/a").st_blksize)


@asserts("stat", "st_rdev of a file is 0", needs="create")
def no_device(sys: SystemCalls) -> None:
    touch(sys, "/a")
    same(sys.stat("/a").st_rdev, 0)


@asserts("stat", "statfs and fstatfs tell a block size and the longest name", needs="statfs")
def statfs(sys: SystemCalls) -> None:
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for found in (sys.statfs("/"), sys.fstatfs(fd)):
        true(found.f_bsize > 0, "f_bsize above 0", found.f_bsize)
        true(0 < found.f_namelen <= 255, "f_namelen from 1 to 255", found.f_namelen)


# Times.  ---------------------------------------------------------------------------------------


@asserts("times", "utime sets atime and mtime to the nanosecond asked for", needs="create")
def utime(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.utime("/a", 1_000_000_000_000_000_000, 1_100_000_000_000_000_000)
    found = sys.stat("/a")
    same(found.st_atime_ns, 1_000_000_000_000_000_000, "st_atime_ns")
    same(found.st_mtime_ns, 1_100_000_000_000_000_000, "st_mtime_ns")


def _changes(
    sys: SystemCalls, path: str, act: Callable[[], object], mtime: bool, ctime: bool
) -> None:
    """Sleeps.  The act must move exactly these times of ``path`` forward."""
    before = sys.lstat(path)
    sys.msleep(PAUSE_MS)
    act()
    after = sys.lstat(path)
    _moved("st_mtime_ns", before.st_mtime_ns, after.st_mtime_ns, mtime)
    _moved("st_ctime_ns", before.st_ctime_ns, after.st_ctime_ns, ctime)


def _moved(what: str, before: int, after: int, must: bool) -> None:
    if must:
        true(after > before, f"later than {before}", after, what)
    else:
        same(after, before, what)


@asserts("times", "utime changes ctime", needs="create dir_times")
def utime_changes_ctime(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.utime("/a", 0, sys.stat("/a").st_mtime_ns), False, True)


@asserts("times", "chmod changes ctime, not mtime", needs="create dir_times")
def chmod(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.chmod("/a", 0o600), False, True)


@asserts("times", "chown changes ctime, not mtime", needs="create dir_times")
def chown_time(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.chown("/a", 5, 5), False, True)


@asserts("times", "write changes mtime and ctime", needs="create read write file_times")
def write(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    _changes(sys, "/a", lambda: sys.write(fd, b"x"), True, True)


@asserts("times", "writing no bytes changes no times", needs="create write file_times")
def write_nothing(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    _changes(sys, "/a", lambda: sys.write(fd, b""), False, False)


@asserts(
    "times",
    "ftruncate to another size changes mtime and ctime",
    needs="create write file_times",
)
def ftruncate(sys: SystemCalls) -> None:
    put(sys, "/a", b"abc")
    fd = sys.open("/a", os.O_RDWR)
    _changes(sys, "/a", lambda: sys.ftruncate(fd, 1), True, True)


@asserts("times", "O_TRUNC changes mtime and ctime", needs="create write file_times")
def o_trunc(sys: SystemCalls) -> None:
    put(sys, "/a", b"abc")
    _changes(sys, "/a", lambda: sys.close(sys.open("/a", os.O_WRONLY | os.O_TRUNC)), True, True)


@asserts("times", "read changes neither mtime nor ctime", needs="create read write")
def read(sys: SystemCalls) -> None:
    put(sys, "/a", b"abc")
    fd = sys.open("/a", os.O_RDONLY)
    _changes(sys, "/a", lambda: sys.read(fd, 3), False, False)


@asserts("times", "read changes atime when it is older than mtime", needs="create read write atime")
def read_atime(sys: SystemCalls) -> None:
    put(sys, "/a", b"abc")
    now = sys.stat("/a").st_mtime_ns
    sys.utime("/a", now - 10_000_000_000, now)
    fd = sys.open("/a", os.O_RDONLY)
    sys.read(fd, 3)
    true(sys.fstat(fd).st_atime_ns >= now, f"at least {now}", sys.fstat(fd).st_atime_ns)


@asserts("times", "stat changes no times", needs="create")
def stat_changes_nothing(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.stat("/a"), False, False)


@asserts("times", "opening a file changes no times", needs="create")
def opening(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.close(sys.open("/a", os.O_RDWR)), False, False)


@asserts("times", "a new file's three times are now and equal", needs="create")
def new_file_times(sys: SystemCalls) -> None:
    sys.msleep(PAUSE_MS)
    touch(sys, "/a")
    found = sys.stat("/a")
    same(found.st_mtime_ns, found.st_ctime_ns, "st_mtime_ns and st_ctime_ns")
    same(found.st_atime_ns, found.st_ctime_ns, "st_atime_ns and st_ctime_ns")


@asserts(
    "times", "making a file changes mtime and ctime of the directory", needs="create dir_times"
)
def create_in(sys: SystemCalls) -> None:
    _changes(sys, "/", lambda: touch(sys, "/a"), True, True)


@asserts(
    "times", "making a directory changes mtime and ctime of the parent", needs="mkdir dir_times"
)
def mkdir_in(sys: SystemCalls) -> None:
    _changes(sys, "/", lambda: sys.mkdir("/d"), True, True)


@asserts("times", "symlink changes mtime and ctime of the directory", needs="symlink dir_times")
def symlink_in(sys: SystemCalls) -> None:
    _changes(sys, "/", lambda: sys.symlink("x", "/l"), True, True)


@asserts("times", "mknod changes mtime and ctime of the directory", needs="mknod dir_times")
def mknod_in(sys: SystemCalls) -> None:
    _changes(sys, "/", lambda: sys.mknod("/p", stat.S_IFIFO | 0o644, 0), True, True)


@asserts("times", "link changes mtime and ctime of the directory", needs="create link dir_times")
def link_in(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/", lambda: sys.link("/a", "/b"), True, True)


@asserts("times", "link changes ctime of the file, not mtime", needs="create link dir_times")
def link_of(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/a", lambda: sys.link("/a", "/b"), False, True)


@asserts(
    "times", "unlink changes mtime and ctime of the directory", needs="create unlink dir_times"
)
def unlink_in(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/", lambda: sys.unlink("/a"), True, True)


@asserts(
    "times",
    "unlink changes ctime of a file that has another name",
    needs="create link unlink dir_times",
)
def unlink_of(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    _changes(sys, "/a", lambda: sys.unlink("/b"), False, True)


@asserts("times", "rmdir changes mtime and ctime of the parent", needs="mkdir rmdir dir_times")
def rmdir_in(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    _changes(sys, "/", lambda: sys.rmdir("/d"), True, True)


@asserts(
    "times", "rename changes mtime and ctime of the directory", needs="create rename dir_times"
)
def rename_in(sys: SystemCalls) -> None:
    touch(sys, "/a")
    _changes(sys, "/", lambda: sys.rename("/a", "/b"), True, True)


@asserts(
    "times",
    "rename changes mtime and ctime of both directories",
    needs="create mkdir rename nested dir_times",
)
def rename_across(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/q")
    touch(sys, "/p/a")
    before = sys.stat("/p").st_mtime_ns, sys.stat("/q").st_mtime_ns
    sys.msleep(PAUSE_MS)
    sys.rename("/p/a", "/q/a")
    true(sys.stat("/p").st_mtime_ns > before[0], "later", sys.stat("/p").st_mtime_ns, "old parent")
    true(sys.stat("/q").st_mtime_ns > before[1], "later", sys.stat("/q").st_mtime_ns, "new parent")


@asserts("times", "a refused create changes no times of the directory", needs="create dir_times")
def refused_create(sys: SystemCalls) -> None:
    touch(sys, "/a")

    def act() -> None:
        try:
            touch(sys, "/a")
        except FileExistsError:
            pass

    _changes(sys, "/", act, False, False)


@asserts(
    "times", "writing a file changes no times of its directory", needs="create write dir_times"
)
def write_in(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    _changes(sys, "/", lambda: sys.write(fd, b"x"), False, False)
