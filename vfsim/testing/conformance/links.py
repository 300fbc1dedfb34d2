"""Hard links and symbolic links."""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ELOOP, ENAMETOOLONG, ENOENT, EPERM
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    asserts,
    drain,
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

HARD = "create link"
SOFT = "symlink"
RW = "create read write"

# Hard links.  ----------------------------------------------------------------------------------


@asserts("link", "a new file has one link", needs="create")
def one_link(sys: SystemCalls) -> None:
    touch(sys, "/a")
    same(sys.stat("/a").st_nlink, 1, "st_nlink")


@asserts("link", "link adds one to the link count, under both names", needs=HARD)
def two_links(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    same((sys.stat("/a").st_nlink, sys.stat("/b").st_nlink), (2, 2), "st_nlink")


@asserts("link", "both names are one inode", needs=HARD)
def one_inode(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    same(sys.stat("/b").st_ino, sys.stat("/a").st_ino, "st_ino")


@asserts("link", "data written under one name is read under the other", needs=HARD + " read write")
def shared_data(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    fd = sys.open("/b", os.O_WRONLY)
    sys.write(fd, b"both")
    sys.close(fd)
    same(take(sys, "/a"), b"both")


@asserts("link", "a mode set under one name shows under the other", needs=HARD)
def shared_mode(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    sys.chmod("/b", 0o600)
    same(stat.S_IMODE(sys.stat("/a").st_mode), 0o600, "mode")


@asserts(
    "link", "unlink of one name leaves the other with one link", needs=HARD + " unlink read write"
)
def survives(sys: SystemCalls) -> None:
    put(sys, "/a", b"data")
    sys.link("/a", "/b")
    sys.unlink("/a")
    same(sys.stat("/b").st_nlink, 1, "st_nlink")
    same(take(sys, "/b"), b"data")


@asserts("link", "link of an unlinked name", needs=HARD + " unlink")
def unlinked_name(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.unlink("/a")
    refused(ENOENT, sys.link, "/a", "/b")


@asserts("link", "link across directories", needs=HARD + " mkdir nested")
def across(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/a")
    sys.link("/a", "/d/b")
    same(sys.stat("/d/b").st_ino, sys.stat("/a").st_ino, "st_ino")


@asserts("link", "three names, removed one by one", needs=HARD + " unlink")
def counted_down(sys: SystemCalls) -> None:
    touch(sys, "/a")
    fd = sys.open("/a", os.O_RDONLY)
    sys.link("/a", "/b")
    sys.link("/b", "/c")
    counts = [sys.fstat(fd).st_nlink]
    for name in ("/a", "/c", "/b"):
        sys.unlink(name)
        counts.append(sys.fstat(fd).st_nlink)
    same(counts, [3, 2, 1, 0], "st_nlink on the way")


@asserts("link", "link of a symlink links the symlink itself", needs=HARD + " symlink")
def of_symlink(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.link("/l", "/m")
    true(stat.S_ISLNK(sys.lstat("/m").st_mode), "a symlink", oct(sys.lstat("/m").st_mode))
    same(sys.lstat("/m").st_ino, sys.lstat("/l").st_ino, "st_ino")
    same(sys.stat("/t").st_nlink, 1, "st_nlink of the target")


@asserts("link", "link of a dangling symlink", needs="symlink link")
def of_dangling(sys: SystemCalls) -> None:
    sys.symlink("/nowhere", "/l")
    sys.link("/l", "/m")
    same(sys.readlink("/m"), "/nowhere", "target")


@asserts("link", "link of a directory", needs="mkdir link")
def of_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    refused(EPERM, sys.link, "/d", "/e")


@asserts("link", "link of the root directory", needs="link")
def of_root(sys: SystemCalls) -> None:
    refused(EPERM, sys.link, "/", "/e")


@asserts("link", "link onto itself", needs=HARD)
def onto_itself(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EEXIST, sys.link, "/a", "/a")
    same(sys.stat("/a").st_nlink, 1, "st_nlink")


@asserts("link", "many links to one file", needs=HARD + " unlink", files=40)
def many(sys: SystemCalls) -> None:
    touch(sys, "/a")
    for i in range(30):
        sys.link("/a", f"/l{i}")
    same(sys.stat("/l7").st_nlink, 31, "st_nlink")
    for i in range(30):
        sys.unlink(f"/l{i}")
    same(sys.stat("/a").st_nlink, 1, "st_nlink in the end")


# Symbolic links.  ------------------------------------------------------------------------------


@asserts("symlink", "readlink tells the target as it was given", needs=SOFT)
def target_kept(sys: SystemCalls) -> None:
    for i, target in enumerate(("/a/b", "x", "../y", "./z/", "a//b", "with blank", "ünï")):
        sys.symlink(target, f"/l{i}")
        same(sys.readlink(f"/l{i}"), target, "target")


@asserts("symlink", "lstat tells a symlink with the length of its target", needs=SOFT)
def lstat_of_link(sys: SystemCalls) -> None:
    sys.symlink("/abc", "/l")
    found = sys.lstat("/l")
    true(stat.S_ISLNK(found.st_mode), "a symlink", oct(found.st_mode))
    same(found.st_size, 4, "st_size")
    same(found.st_nlink, 1, "st_nlink")


@asserts("symlink", "stat follows the link", needs=SOFT + " create")
def stat_follows(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    same(sys.stat("/l").st_ino, sys.stat("/t").st_ino, "st_ino")
    true(sys.lstat("/l").st_ino != sys.stat("/t").st_ino, "an inode of its own", "the target's")


@asserts("symlink", "open follows an absolute link", needs=SOFT + " " + RW)
def open_absolute(sys: SystemCalls) -> None:
    put(sys, "/t", b"data")
    sys.symlink("/t", "/l")
    same(take(sys, "/l"), b"data")


@asserts(
    "symlink",
    "open follows a relative link from where the link is",
    needs=SOFT + " mkdir nested " + RW,
)
def open_relative(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    put(sys, "/d/t", b"inner")
    put(sys, "/t", b"outer")
    sys.symlink("t", "/d/l")
    same(take(sys, "/d/l"), b"inner")


@asserts(
    "symlink",
    "a link upwards is followed from where the link is",
    needs=SOFT + " mkdir nested " + RW,
)
def upwards(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    put(sys, "/t", b"outer")
    sys.symlink("../t", "/d/l")
    same(take(sys, "/d/l"), b"outer")


@asserts(
    "symlink", "a link in the middle of a path is followed", needs=SOFT + " mkdir nested " + RW
)
def in_the_middle(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    put(sys, "/d/t", b"data")
    sys.symlink("d", "/l")
    same(take(sys, "/l/t"), b"data")


@asserts(
    "symlink",
    "'..' behind a link to a directory is the target's parent",
    needs=SOFT + " mkdir nested",
)
def dotdot_behind(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    sys.symlink("/d/e", "/l")
    same(sys.stat("/l/..").st_ino, sys.stat("/d").st_ino, "st_ino")


@asserts("symlink", "a chain of links is followed to its end", needs=SOFT + " " + RW)
def chain(sys: SystemCalls) -> None:
    put(sys, "/l0", b"end")
    for i in range(8):
        sys.symlink(f"l{i}", f"/l{i + 1}")
    same(take(sys, "/l8"), b"end")


@asserts(
    "symlink", "40 links on the way are followed, 41 are not", needs=SOFT + " create", files=50
)
def forty(sys: SystemCalls) -> None:
    touch(sys, "/l0")
    for i in range(41):
        sys.symlink(f"/l{i}", f"/l{i + 1}")
    sys.stat("/l40")
    refused(ELOOP, sys.stat, "/l41")


@asserts("symlink", "two links that point to each other", needs=SOFT)
def circle(sys: SystemCalls) -> None:
    sys.symlink("/b", "/a")
    sys.symlink("/a", "/b")
    refused(ELOOP, sys.stat, "/a")
    refused(ELOOP, sys.open, "/b", os.O_RDONLY)


@asserts("symlink", "O_CREAT through a dangling link makes the target", needs=SOFT + " " + RW)
def creates_target(sys: SystemCalls) -> None:
    sys.symlink("/t", "/l")
    fd = sys.open("/l", os.O_CREAT | os.O_RDWR, 0o644)
    sys.write(fd, b"made")
    same(take(sys, "/t"), b"made")
    true(stat.S_ISLNK(sys.lstat("/l").st_mode), "the link to stay", oct(sys.lstat("/l").st_mode))


@asserts(
    "symlink", "mkdir through a dangling link is refused and makes nothing", needs=SOFT + " mkdir"
)
def mkdir_through(sys: SystemCalls) -> None:
    sys.symlink("/t", "/l")
    refused(EEXIST, sys.mkdir, "/l")
    true(not exists(sys, "/t"), "no target", "it was made")


@asserts("symlink", "unlink removes the link and not its target", needs=SOFT + " create unlink")
def unlink_link(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.unlink("/l")
    same((exists(sys, "/l"), exists(sys, "/t")), (False, True), "link, target")


@asserts(
    "symlink",
    "a link dangles when its target goes, and works again when it comes back",
    needs=SOFT + " create unlink",
)
def dangles_and_heals(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.unlink("/t")
    refused(ENOENT, sys.stat, "/l")
    touch(sys, "/t")
    sys.stat("/l")


@asserts("symlink", "symlink to an empty target", needs=SOFT)
def empty_target(sys: SystemCalls) -> None:
    refused(ENOENT, sys.symlink, "", "/l")


@asserts("symlink", "symlink to a target of 4096 bytes", needs=SOFT)
def long_target(sys: SystemCalls) -> None:
    refused(ENAMETOOLONG, sys.symlink, "x" * 4096, "/l")


@asserts("symlink", "chmod through a link changes the target", needs=SOFT + " create")
def chmod_follows(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.chmod("/l", 0o600)
    same(stat.S_IMODE(sys.stat("/t").st_mode), 0o600, "mode of the target")


@asserts("symlink", "lchown changes the link, chown the target", needs=SOFT + " create")
def lchown_does_not_follow(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.lchown("/l", 5, 6)
    sys.chown("/l", 7, 8)
    same((sys.lstat("/l").st_uid, sys.lstat("/l").st_gid), (5, 6), "owner of the link")
    same((sys.stat("/t").st_uid, sys.stat("/t").st_gid), (7, 8), "owner of the target")


@asserts("symlink", "chdir follows a link, getcwd tells where it leads", needs=SOFT + " mkdir")
def chdir_follows(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.symlink("/d", "/l")
    sys.chdir("/l")
    same(sys.getcwd(), "/d")


@asserts(
    "symlink", "a directory is listed through a link", needs=SOFT + " mkdir create nested iterate"
)
def list_through(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/d/a")
    sys.symlink("d", "/l")
    same(names(sys, "/l"), ["a"])


@asserts(
    "symlink",
    "a file made through a link to a directory is in that directory",
    needs=SOFT + " mkdir create nested",
)
def create_through(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.symlink("/d", "/l")
    touch(sys, "/l/a")
    true(exists(sys, "/d/a"), "the file in the directory", "it is not there")


@asserts("symlink", "a link to '/' and to '.' lead where they say", needs=SOFT + " mkdir nested")
def root_and_dot(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.symlink("/", "/d/r")
    sys.symlink(".", "/d/h")
    same(sys.stat("/d/r").st_ino, sys.stat("/").st_ino, "inode of '/'")
    same(sys.stat("/d/h").st_ino, sys.stat("/d").st_ino, "inode of '.'")


@asserts(
    "symlink", "an open file is not affected when the link to it goes", needs=SOFT + " unlink " + RW
)
def link_gone_while_open(sys: SystemCalls) -> None:
    put(sys, "/t", b"data")
    sys.symlink("/t", "/l")
    fd = sys.open("/l", os.O_RDONLY)
    sys.unlink("/l")
    same(drain(sys, fd), b"data")
