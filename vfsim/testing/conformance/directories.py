"""Making and removing files, directories and special files."""

from __future__ import annotations

import os
import stat
from errno import EBUSY, EEXIST, EISDIR, ENOENT, ENOTEMPTY
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    asserts,
    exists,
    names,
    put,
    refused,
    same,
    take,
    touch,
    true,
)

if TYPE_CHECKING:
    from vfsim.testing.conformance.syscalls import SystemCalls

DT_UNKNOWN, DT_FIFO, DT_DIR, DT_REG, DT_LNK = 0, 1, 4, 8, 10

# Making and removing files.  -------------------------------------------------------------------


@asserts("create", "a fresh filesystem is empty", needs="create iterate")
def starts_empty(sys: SystemCalls) -> None:
    same(names(sys), [])


@asserts("create", "the root is a directory", needs="")
def root_is_directory(sys: SystemCalls) -> None:
    mode = sys.stat("/").st_mode
    true(stat.S_ISDIR(mode), "a directory", oct(mode))


@asserts("create", "a new file is a regular file", needs="create")
def regular(sys: SystemCalls) -> None:
    touch(sys, "/a")
    mode = sys.stat("/a").st_mode
    true(stat.S_ISREG(mode), "a regular file", oct(mode))


@asserts("create", "O_CREAT of a file that is there opens that file", needs="create read write")
def opens_existing(sys: SystemCalls) -> None:
    put(sys, "/a", b"old")
    fd = sys.open("/a", CREATE, 0o600)
    same(sys.read(fd, 10), b"old")
    same(stat.S_IMODE(sys.fstat(fd).st_mode), 0o644, "mode")


@asserts("create", "a name looked up in vain can be made afterwards", needs="create")
def after_negative_lookup(sys: SystemCalls) -> None:
    refused(ENOENT, sys.stat, "/a")
    touch(sys, "/a")
    sys.stat("/a")


@asserts("create", "names differ by case", needs="create bytewise")
def case_matters(sys: SystemCalls) -> None:
    touch(sys, "/a")
    touch(sys, "/A")
    true(sys.stat("/a").st_ino != sys.stat("/A").st_ino, "two inodes", "one")


@asserts(
    "create",
    "odd names are names: blanks, dots, dashes, tabs, non-ASCII",
    needs="create unlink",
    files=16,
)
def odd_names(sys: SystemCalls) -> None:
    odd = ["...", ".a", "a.", " ", "a b", "-", "*", "\\", "a\tb", "\n", "ünï", "日本", "~"]
    for name in odd:
        touch(sys, "/" + name)
    for name in odd:
        sys.stat("/" + name)
        sys.unlink("/" + name)
        refused(ENOENT, sys.stat, "/" + name)


@asserts("create", "two new files are two inodes", needs="create")
def two_inodes(sys: SystemCalls) -> None:
    touch(sys, "/a")
    touch(sys, "/b")
    true(sys.stat("/a").st_ino != sys.stat("/b").st_ino, "two inodes", "one")


@asserts(
    "create", "forty files, all found, listed and removed", needs="create unlink iterate", files=40
)
def forty_files(sys: SystemCalls) -> None:
    made = [f"f{i:02}" for i in range(40)]
    for name in made:
        touch(sys, "/" + name)
    same(names(sys), made, "names")
    numbers = {sys.stat("/" + name).st_ino for name in made}
    same(len(numbers), 40, "distinct inode numbers")
    for name in made:
        sys.unlink("/" + name)
    same(names(sys), [], "names in the end")


@asserts(
    "create",
    "every second of twenty files removed, the others stay",
    needs="create unlink iterate",
    files=20,
)
def every_second(sys: SystemCalls) -> None:
    made = [f"f{i:02}" for i in range(20)]
    for name in made:
        touch(sys, "/" + name)
    for name in made[::2]:
        sys.unlink("/" + name)
    same(names(sys), made[1::2], "names")
    for name in made[::2]:
        refused(ENOENT, sys.stat, "/" + name)


@asserts(
    "create",
    "a removed name can be made again, as another type too",
    needs="create unlink mkdir rmdir",
)
def name_reused(sys: SystemCalls) -> None:
    touch(sys, "/x")
    sys.unlink("/x")
    sys.mkdir("/x")
    true(stat.S_ISDIR(sys.stat("/x").st_mode), "a directory", oct(sys.stat("/x").st_mode))
    sys.rmdir("/x")
    touch(sys, "/x")
    true(stat.S_ISREG(sys.stat("/x").st_mode), "a file", oct(sys.stat("/x").st_mode))


@asserts("create", "a file made with O_EXCL is made once", needs="create")
def exclusive(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EEXIST, touch, sys, "/a")


@asserts("unlink", "unlink removes the name", needs="create unlink")
def removes_the_name(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.unlink("/a")
    refused(ENOENT, sys.stat, "/a")


@asserts("unlink", "unlink twice", needs="create unlink")
def twice(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.unlink("/a")
    refused(ENOENT, sys.unlink, "/a")


@asserts("unlink", "unlink of the root", needs="unlink")
def unlink_root(sys: SystemCalls) -> None:
    refused(EISDIR, sys.unlink, "/")


@asserts("unlink", "unlink of '.'", needs="unlink")
def unlink_dot(sys: SystemCalls) -> None:
    refused(EISDIR, sys.unlink, ".")


@asserts("unlink", "unlink leaves the neighbours alone", needs="create unlink read write")
def neighbours(sys: SystemCalls) -> None:
    for name in "abc":
        put(sys, "/" + name, name.encode())
    sys.unlink("/b")
    same((take(sys, "/a"), take(sys, "/c")), (b"a", b"c"))


@asserts(
    "unlink", "an unlinked name is not listed while the file is open", needs="create unlink iterate"
)
def not_listed(sys: SystemCalls) -> None:
    sys.open("/a", CREATE, 0o644)
    sys.unlink("/a")
    same(names(sys), [])


# Making and removing directories.  -------------------------------------------------------------


@asserts("mkdir", "a new directory is an empty directory", needs="mkdir iterate")
def new_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    true(stat.S_ISDIR(sys.stat("/d").st_mode), "a directory", oct(sys.stat("/d").st_mode))
    same(names(sys, "/d"), [])


@asserts("mkdir", "mkdir twice", needs="mkdir")
def mkdir_twice(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    refused(EEXIST, sys.mkdir, "/d")


@asserts("mkdir", "mkdir of the root", needs="mkdir")
def mkdir_root(sys: SystemCalls) -> None:
    refused(EEXIST, sys.mkdir, "/")


@asserts("mkdir", "mkdir of '.' and '..'", needs="mkdir")
def mkdir_dots(sys: SystemCalls) -> None:
    refused(EEXIST, sys.mkdir, ".")
    refused(EEXIST, sys.mkdir, "..")


@asserts("mkdir", "a new directory has two links", needs="mkdir dir_nlink")
def two_links(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    same(sys.stat("/d").st_nlink, 2, "st_nlink")


@asserts(
    "mkdir", "mkdir adds a link to the parent, rmdir takes it away", needs="mkdir rmdir dir_nlink"
)
def links_of_parent(sys: SystemCalls) -> None:
    start = sys.stat("/").st_nlink
    sys.mkdir("/d")
    same(sys.stat("/").st_nlink, start + 1, "st_nlink after mkdir")
    sys.mkdir("/e")
    same(sys.stat("/").st_nlink, start + 2, "st_nlink after the second mkdir")
    sys.rmdir("/d")
    same(sys.stat("/").st_nlink, start + 1, "st_nlink after rmdir")


@asserts("mkdir", "files add no link to the directory", needs="create dir_nlink")
def files_add_no_link(sys: SystemCalls) -> None:
    start = sys.stat("/").st_nlink
    touch(sys, "/a")
    same(sys.stat("/").st_nlink, start, "st_nlink")


@asserts("mkdir", "a failed mkdir adds no link to the parent", needs="mkdir dir_nlink")
def failed_adds_no_link(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    start = sys.stat("/").st_nlink
    refused(EEXIST, sys.mkdir, "/d")
    same(sys.stat("/").st_nlink, start, "st_nlink")


@asserts(
    "mkdir",
    "directories in directories, ten deep",
    needs="mkdir nested create read write",
    files=16,
)
def ten_deep(sys: SystemCalls) -> None:
    path = ""
    for i in range(10):
        path += f"/d{i}"
        sys.mkdir(path)
    put(sys, path + "/f", b"deep")
    same(take(sys, path + "/f"), b"deep")
    same(sys.stat(path + "/.." * 10).st_ino, sys.stat("/").st_ino, "inode ten levels up")


@asserts(
    "mkdir", "the same name in two directories is two files", needs="mkdir nested create read write"
)
def same_name_twice(sys: SystemCalls) -> None:
    for parent in ("/p", "/q"):
        sys.mkdir(parent)
        put(sys, parent + "/f", parent.encode())
    same((take(sys, "/p/f"), take(sys, "/q/f")), (b"/p", b"/q"))


@asserts("mkdir", "a file and a directory of one name exclude each other", needs="mkdir create")
def excludes(sys: SystemCalls) -> None:
    sys.mkdir("/x")
    refused(EEXIST, touch, sys, "/x")
    touch(sys, "/y")
    refused(EEXIST, sys.mkdir, "/y")


@asserts("rmdir", "rmdir removes the name", needs="mkdir rmdir")
def removes_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.rmdir("/d")
    refused(ENOENT, sys.stat, "/d")


@asserts("rmdir", "rmdir twice", needs="mkdir rmdir")
def rmdir_twice(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.rmdir("/d")
    refused(ENOENT, sys.rmdir, "/d")


@asserts("rmdir", "rmdir of the root", needs="rmdir")
def rmdir_root(sys: SystemCalls) -> None:
    refused(EBUSY, sys.rmdir, "/")


@asserts(
    "rmdir",
    "rmdir succeeds once the directory was emptied",
    needs="mkdir rmdir create unlink nested",
)
def once_emptied(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/d/a")
    refused(ENOTEMPTY, sys.rmdir, "/d")
    sys.unlink("/d/a")
    sys.rmdir("/d")


@asserts("rmdir", "a subdirectory keeps its parent", needs="mkdir rmdir nested")
def subdirectory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    refused(ENOTEMPTY, sys.rmdir, "/d")
    sys.rmdir("/d/e")
    sys.rmdir("/d")


@asserts("rmdir", "a symlink keeps its directory", needs="mkdir rmdir symlink nested")
def symlink_inside(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.symlink("nowhere", "/d/l")
    refused(ENOTEMPTY, sys.rmdir, "/d")


@asserts(
    "rmdir",
    "a file unlinked while open does not keep its directory",
    needs="mkdir rmdir create unlink nested",
)
def open_unlinked_inside(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    fd = sys.open("/d/a", CREATE, 0o644)
    sys.unlink("/d/a")
    sys.rmdir("/d")
    same(sys.fstat(fd).st_nlink, 0, "st_nlink of the file")


@asserts("rmdir", "a removed directory that is open has no links", needs="mkdir rmdir dir_nlink")
def removed_open(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    fd = sys.open("/d", os.O_RDONLY | os.O_DIRECTORY)
    sys.rmdir("/d")
    same(sys.fstat(fd).st_nlink, 0, "st_nlink")


@asserts("rmdir", "a removed directory that is open lists nothing", needs="mkdir rmdir iterate")
def removed_lists_nothing(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    fd = sys.open("/d", os.O_RDONLY | os.O_DIRECTORY)
    sys.rmdir("/d")
    try:
        entries = sys.getdents(fd)
    except FileNotFoundError:
        return
    same([e for e in entries if e[0] not in (".", "..")], [], "entries")


@asserts("rmdir", "nothing can be made in a removed working directory", needs="mkdir rmdir create")
def removed_cwd(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chdir("/d")
    sys.rmdir("/d")
    refused(ENOENT, sys.open, "a", CREATE, 0o644)
    refused(ENOENT, sys.mkdir, "b")


@asserts("rmdir", "getcwd in a removed working directory", needs="mkdir rmdir")
def removed_getcwd(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chdir("/d")
    sys.rmdir("/d")
    refused(ENOENT, sys.getcwd)


@asserts(
    "rmdir", "room is given back: making and removing a directory many times", needs="mkdir rmdir"
)
def room_given_back(sys: SystemCalls) -> None:
    for _ in range(60):
        sys.mkdir("/d")
        sys.rmdir("/d")


# Special files.  -------------------------------------------------------------------------------


@asserts("mknod", "mknod makes a fifo, a socket and devices", needs="mknod")
def special_files(sys: SystemCalls) -> None:
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        path = f"/n{kind:o}"
        sys.mknod(
            path, kind | 0o640, os.makedev(7, 3) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        )
        same(oct(stat.S_IFMT(sys.lstat(path).st_mode)), oct(kind), "type")


@asserts("mknod", "a device keeps its number", needs="mknod")
def device_number(sys: SystemCalls) -> None:
    sys.mknod("/dev", stat.S_IFCHR | 0o600, os.makedev(7, 3))
    same(sys.lstat("/dev").st_rdev, os.makedev(7, 3), "st_rdev")


@asserts("mknod", "mknod makes a regular file too", needs="create mknod")
def regular_file(sys: SystemCalls) -> None:
    sys.mknod("/f", stat.S_IFREG | 0o640, 0)
    same(oct(sys.lstat("/f").st_mode), oct(stat.S_IFREG | 0o640), "st_mode")


@asserts("mknod", "a special file can be removed", needs="mknod unlink")
def special_removed(sys: SystemCalls) -> None:
    sys.mknod("/p", stat.S_IFIFO | 0o644, 0)
    sys.unlink("/p")
    true(not exists(sys, "/p"), "the name to be gone", "it is still there")
