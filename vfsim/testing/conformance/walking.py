"""Listing directories, walking paths, and how long a name may be."""

from __future__ import annotations

import os
import stat
from errno import EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    Nonconforming,
    asserts,
    exists,
    names,
    refused,
    same,
    touch,
    true,
)

if TYPE_CHECKING:
    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.syscalls import SystemCalls

DT_UNKNOWN, DT_FIFO, DT_DIR, DT_REG, DT_LNK = 0, 1, 4, 8, 10

# Listing.  -------------------------------------------------------------------------------------


@asserts("listdir", "every name is listed once", needs="create iterate")
def each_once(sys: SystemCalls) -> None:
    for name in "abcde":
        touch(sys, "/" + name)
    same(names(sys), list("abcde"))


@asserts("listdir", "names of all types are listed", needs="create mkdir symlink mknod iterate")
def all_types(sys: SystemCalls) -> None:
    touch(sys, "/file")
    sys.mkdir("/dir")
    sys.symlink("x", "/link")
    sys.mknod("/fifo", stat.S_IFIFO | 0o644, 0)
    same(names(sys), ["dir", "fifo", "file", "link"])


@asserts("listdir", "a subdirectory lists its own names only", needs="mkdir create nested iterate")
def own_names_only(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/a")
    touch(sys, "/d/b")
    same((names(sys), names(sys, "/d")), (["a", "d"], ["b"]))


@asserts(
    "listdir", "getdents tells types that are right, or none", needs="create mkdir symlink iterate"
)
def entry_types(sys: SystemCalls) -> None:
    touch(sys, "/file")
    sys.mkdir("/dir")
    sys.symlink("x", "/link")
    kinds = {"file": DT_REG, "dir": DT_DIR, "link": DT_LNK}
    for name, _, kind in _entries(sys, "/"):
        if name in kinds:
            true(kind in (DT_UNKNOWN, kinds[name]), f"{kinds[name]} or 0", kind, f"type of {name}")


@asserts("listdir", "getdents tells the type of a fifo, or none", needs="mknod iterate")
def entry_type_fifo(sys: SystemCalls) -> None:
    sys.mknod("/fifo", stat.S_IFIFO | 0o644, 0)
    kinds = [kind for name, _, kind in _entries(sys, "/") if name == "fifo"]
    true(kinds in ([DT_FIFO], [DT_UNKNOWN]), f"[{DT_FIFO}] or [0]", kinds)


@asserts("listdir", "getdents tells the inode numbers that stat tells", needs="create iterate")
def entry_numbers(sys: SystemCalls) -> None:
    for name in "abc":
        touch(sys, "/" + name)
    told = {name: number for name, number, _ in _entries(sys, "/")}
    for name in "abc":
        same(told[name], sys.stat("/" + name).st_ino, f"inode of {name}")


@asserts("listdir", "getdents begins with '.' and '..'", needs="mkdir nested iterate")
def dots(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    told = {name: number for name, number, _ in _entries(sys, "/d/e")}
    same(sorted(told), [".", ".."], "names")
    same(told["."], sys.stat("/d/e").st_ino, "inode of '.'")
    same(told[".."], sys.stat("/d").st_ino, "inode of '..'")


@asserts("listdir", "getdents at the end returns nothing", needs="create iterate")
def at_the_end(sys: SystemCalls) -> None:
    touch(sys, "/a")
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    while sys.getdents(fd):
        pass
    same(sys.getdents(fd), [])


@asserts("listdir", "lseek to 0 starts a listing over", needs="create iterate llseek_dir")
def rewind(sys: SystemCalls) -> None:
    touch(sys, "/a")
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    first = sorted(_rest(sys, fd))
    sys.lseek(fd, 0, os.SEEK_SET)
    same(sorted(_rest(sys, fd)), first)


@asserts("listdir", "after lseek to 0 a new name is listed", needs="create iterate llseek_dir")
def rewind_shows_new(sys: SystemCalls) -> None:
    touch(sys, "/a")
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    _rest(sys, fd)
    touch(sys, "/b")
    sys.lseek(fd, 0, os.SEEK_SET)
    told = [name for name, _, _ in _rest(sys, fd)]
    same(sorted(name for name in told if len(name) == 1 and name != "."), ["a", "b"])


@asserts("listdir", "two openings of a directory list on their own", needs="create iterate")
def two_listings(sys: SystemCalls) -> None:
    touch(sys, "/a")
    one = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    two = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    same(sorted(_rest(sys, one)), sorted(_rest(sys, two)))


@asserts("listdir", "getdents of a file", needs="create")
def of_a_file(sys: SystemCalls) -> None:
    refused(ENOTDIR, sys.getdents, sys.open("/a", CREATE, 0o644))


@asserts("listdir", "read of a directory")
def read_directory(sys: SystemCalls) -> None:
    refused(EISDIR, sys.read, sys.open("/", os.O_RDONLY | os.O_DIRECTORY), 10)


@asserts(
    "listdir",
    "listing while names are removed shows each remaining name once",
    needs="create unlink iterate",
    files=30,
)
def removing_meanwhile(sys: SystemCalls) -> None:
    made = [f"f{i:02}" for i in range(30)]
    for name in made:
        touch(sys, "/" + name)
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    seen = [name for name, _, _ in sys.getdents(fd)]
    for name in made[::3]:
        sys.unlink("/" + name)
    seen += [name for name, _, _ in _rest(sys, fd)]
    stayed = [name for i, name in enumerate(made) if i % 3]
    same(sorted(name for name in seen if name in stayed), stayed)


def _entries(sys: SystemCalls, path: str) -> list[tuple[str, int, int]]:
    fd = sys.open(path, os.O_RDONLY | os.O_DIRECTORY)
    entries = _rest(sys, fd)
    sys.close(fd)
    return entries


def _rest(sys: SystemCalls, fd: int) -> list[tuple[str, int, int]]:
    entries: list[tuple[str, int, int]] = []
    while part := sys.getdents(fd):
        entries.extend(part)
        if len(entries) > 10_000:
            raise Nonconforming("an end of the directory", "entries without end")
    return entries


# Walking.  -------------------------------------------------------------------------------------


@asserts("walk", "slashes count once", needs="mkdir create nested")
def many_slashes(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "//d///a")
    same(sys.stat("/d//a").st_ino, sys.stat("///d/a").st_ino, "st_ino")


@asserts("walk", "'.' stays where it is", needs="mkdir create nested")
def dot_stays(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/d/a")
    same(sys.stat("/./d/././a").st_ino, sys.stat("/d/a").st_ino, "st_ino")


@asserts("walk", "'..' goes up", needs="mkdir create nested")
def dotdot_goes_up(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/e")
    touch(sys, "/e/a")
    same(sys.stat("/d/../e/a").st_ino, sys.stat("/e/a").st_ino, "st_ino")


@asserts("walk", "'..' of the root is the root", needs="")
def above_root(sys: SystemCalls) -> None:
    same(sys.stat("/../../..").st_ino, sys.stat("/").st_ino, "st_ino")


@asserts("walk", "'..' behind a name that is not there", needs="")
def dotdot_behind_absent(sys: SystemCalls) -> None:
    refused(ENOENT, sys.stat, "/x/..")


@asserts("walk", "'.' and '..' behind a file", needs="create")
def dots_behind_file(sys: SystemCalls) -> None:
    touch(sys, "/f")
    refused(ENOTDIR, sys.stat, "/f/.")
    refused(ENOTDIR, sys.stat, "/f/..")


@asserts("walk", "a path of 4095 bytes is walked", needs="create")
def longest_path(sys: SystemCalls) -> None:
    touch(sys, "/a")
    path = "/" + "./" * 2046 + "/a"
    same(len(path), 4095, "length of the path")
    sys.stat(path)


@asserts("walk", "a relative path starts at the working directory", needs="mkdir create nested")
def relative(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chdir("/d")
    touch(sys, "a")
    sys.stat("/d/a")


@asserts("walk", "getcwd tells where chdir went", needs="mkdir nested")
def getcwd(sys: SystemCalls) -> None:
    same(sys.getcwd(), "/", "at the start")
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    sys.chdir("/d/e")
    same(sys.getcwd(), "/d/e", "after chdir")
    sys.chdir("..")
    same(sys.getcwd(), "/d", "after chdir('..')")


@asserts("walk", "fchdir goes where the descriptor is", needs="mkdir")
def fchdir(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.fchdir(sys.open("/d", os.O_RDONLY | os.O_DIRECTORY))
    same(sys.getcwd(), "/d")


@asserts("walk", "fchdir to a file", needs="create")
def fchdir_file(sys: SystemCalls) -> None:
    refused(ENOTDIR, sys.fchdir, sys.open("/a", CREATE, 0o644))


@asserts("walk", "a failed chdir stays where it was", needs="mkdir")
def failed_chdir(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chdir("/d")
    refused(ENOENT, sys.chdir, "nowhere")
    same(sys.getcwd(), "/d")


# How long a name may be.  ----------------------------------------------------------------------


def _longest(caps: Capabilities) -> str:
    return "/" + "n" * caps.name_max


@asserts("names", "a name as long as allowed is made, found and removed", needs="create unlink")
def longest_name(sys: SystemCalls, caps: Capabilities) -> None:
    touch(sys, _longest(caps))
    sys.stat(_longest(caps))
    sys.unlink(_longest(caps))
    true(not exists(sys, _longest(caps)), "the name to be gone", "it is still there")


@asserts("names", "a name as long as allowed is listed whole", needs="create iterate")
def longest_listed(sys: SystemCalls, caps: Capabilities) -> None:
    touch(sys, _longest(caps))
    same(names(sys), [_longest(caps)[1:]])


@asserts("names", "two longest names that differ in the last byte are two files", needs="create")
def last_byte_counts(sys: SystemCalls, caps: Capabilities) -> None:
    touch(sys, _longest(caps))
    touch(sys, _longest(caps)[:-1] + "m")


@asserts("names", "create of a name of 256 bytes", needs="create")
def create_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.open, "/" + "n" * 256, CREATE, 0o644)


@asserts("names", "create of a name one byte too long for this filesystem", needs="create")
def create_one_too_long(sys: SystemCalls, caps: Capabilities) -> None:
    refused(ENAMETOOLONG, sys.open, _longest(caps) + "n", CREATE, 0o644)


@asserts("names", "stat of a name of 256 bytes", needs="")
def stat_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.stat, "/" + "n" * 256)


@asserts("names", "bytes count, not characters: 128 letters of two bytes", needs="create")
def bytes_count(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.open, "/" + "ü" * 128, CREATE, 0o644)


@asserts("names", "mkdir of a name of 256 bytes", needs="mkdir")
def mkdir_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.mkdir, "/" + "n" * 256)


@asserts("names", "symlink of a name of 256 bytes", needs="symlink")
def symlink_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.symlink, "t", "/" + "n" * 256)


@asserts("names", "link to a name of 256 bytes", needs="create link")
def link_too_long(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(ENAMETOOLONG, sys.link, "/a", "/" + "n" * 256)


@asserts("names", "rename to a name of 256 bytes", needs="create rename")
def rename_too_long(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(ENAMETOOLONG, sys.rename, "/a", "/" + "n" * 256)
    sys.stat("/a")


@asserts("names", "a name too long in the middle of a path", needs="")
def middle_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.stat, "/" + "n" * 256 + "/x")


@asserts("names", "unlink and rmdir of a name of 256 bytes", needs="unlink rmdir")
def removal_too_long(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.unlink, "/" + "n" * 256)
    refused(ENAMETOOLONG, sys.rmdir, "/" + "n" * 256)
