"""rename: every type onto every type, in one directory and across two, and what must hold
afterwards."""

from __future__ import annotations

import errno
import os
import stat
from errno import EEXIST, EINVAL, ENOENT, ENOTEMPTY
from typing import TYPE_CHECKING

from vfsim.testing.conformance.calls import rows
from vfsim.testing.conformance.suite import (
    Assertion,
    Nonconforming,
    asserts,
    drain,
    exists,
    names,
    put,
    refused,
    register,
    same,
    take,
    touch,
    true,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import SystemCalls

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

MATRIX = """
old \\ new     absent   file     empty dir  full dir   symlink  fifo
file          ok       ok       EISDIR     EISDIR     ok       ok
empty dir     ok       ENOTDIR  ok         ENOTEMPTY  ENOTDIR  ENOTDIR
full dir      ok       ENOTDIR  ok         ENOTEMPTY  ENOTDIR  ENOTDIR
symlink       ok       ok       EISDIR     EISDIR     ok       ok
fifo          ok       ok       EISDIR     EISDIR     ok       ok
absent        ENOENT   ENOENT   ENOENT     ENOENT     ENOENT   ENOENT
"""

_NEEDS = {
    "absent": "",
    "file": "create",
    "empty dir": "mkdir",
    "full dir": "mkdir create nested",
    "symlink": "symlink",
    "fifo": "mknod",
}


def _make(sys: SystemCalls, kind: str, path: str) -> None:
    if kind == "file":
        touch(sys, path)
    elif kind in ("empty dir", "full dir"):
        sys.mkdir(path)
        if kind == "full dir":
            touch(sys, path + "/inside")
    elif kind == "symlink":
        sys.symlink("nowhere", path)
    elif kind == "fifo":
        sys.mknod(path, stat.S_IFIFO | 0o644, 0)


def _number(sys: SystemCalls, path: str) -> int:
    """The inode number, 0 if the name is not there."""
    return sys.lstat(path).st_ino if exists(sys, path) else 0


def _pair(old_kind: str, new_kind: str, cell: str, across: bool) -> Callable[[SystemCalls], None]:
    old, new = ("/p/old", "/q/new") if across else ("/old", "/new")

    def body(sys: SystemCalls) -> None:
        if across:
            sys.mkdir("/p")
            sys.mkdir("/q")
        _make(sys, old_kind, old)
        _make(sys, new_kind, new)
        old_number, new_number = _number(sys, old), _number(sys, new)
        if cell != "ok":
            refused(getattr(errno, cell), sys.rename, old, new)
            same((_number(sys, old), _number(sys, new)), (old_number, new_number), "both names")
            return
        sys.rename(old, new)
        true(not exists(sys, old), "the old name to be gone", "it is still there")
        same(_number(sys, new), old_number, "inode of the new name")
        if old_kind == "full dir":
            true(exists(sys, new + "/inside"), "its content to move along", "it is not there")

    return body


def _register_matrix() -> None:
    for across in (False, True):
        for old, cells in rows(MATRIX):
            for new, cell in cells.items():
                needs = f"rename {_NEEDS[old]} {_NEEDS[new]}" + (" mkdir nested" if across else "")
                where = "other/" if across else ""
                slug = f"{old}-onto-{new}".replace(" ", "-") + ("-across" if across else "")
                register(
                    Assertion(
                        id=f"rename.{slug}",
                        area="rename",
                        name=f"rename({old} → {where}{new})",
                        body=_pair(old, new, cell, across),
                        needs=frozenset(needs.split()),
                    )
                )


_register_matrix()


@asserts("rename", "rename of a file onto itself does nothing", needs="rename create write read")
def file_onto_itself(sys: SystemCalls) -> None:
    put(sys, "/a", b"1")
    sys.rename("/a", "/a")
    same(take(sys, "/a"), b"1")


@asserts("rename", "rename of a directory onto itself does nothing", needs="rename mkdir")
def directory_onto_itself(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.rename("/d", "/d")
    true(exists(sys, "/d"), "the directory to stay", "it is gone")


@asserts(
    "rename",
    "rename onto a hard link of the same inode leaves both names",
    needs="rename link create",
)
def onto_hard_link(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.link("/a", "/b")
    sys.rename("/a", "/b")
    same((exists(sys, "/a"), exists(sys, "/b")), (True, True), "names")
    same(sys.stat("/a").st_nlink, 2, "st_nlink")


@asserts("rename", "rename of a directory into itself", needs="rename mkdir nested")
def into_itself(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    refused(EINVAL, sys.rename, "/d", "/d/e")


@asserts("rename", "rename of a directory into its own subtree", needs="rename mkdir nested")
def into_own_subtree(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    sys.mkdir("/d/e/f")
    refused(EINVAL, sys.rename, "/d", "/d/e/f/g")


@asserts(
    "rename",
    "rename of a directory onto an existing directory of its own subtree",
    needs="rename mkdir nested",
)
def onto_own_descendant(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    refused(EINVAL, sys.rename, "/d", "/d/e")


@asserts("rename", "rename of a directory onto its own parent", needs="rename mkdir nested")
def onto_own_parent(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    refused(ENOTEMPTY, sys.rename, "/d/e", "/d")


@asserts("rename", "rename of a file onto its own parent", needs="rename mkdir create nested")
def file_onto_parent(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    touch(sys, "/d/a")
    refused(ENOTEMPTY, sys.rename, "/d/a", "/d")


@asserts("rename", "rename moves the content with the name", needs="rename create write read")
def content_moves(sys: SystemCalls) -> None:
    put(sys, "/a", b"content")
    sys.rename("/a", "/b")
    same(take(sys, "/b"), b"content")


@asserts("rename", "rename onto a file replaces its content", needs="rename create write read")
def content_replaced(sys: SystemCalls) -> None:
    put(sys, "/a", b"new")
    put(sys, "/b", b"old")
    sys.rename("/a", "/b")
    same(take(sys, "/b"), b"new")
    same(names(sys) if _listable(sys) else ["b"], ["b"], "names")


def _listable(sys: SystemCalls) -> bool:
    try:
        sys.listdir("/")
    except NotADirectoryError:
        return False
    return True


@asserts(
    "rename", "an open file replaced by rename can still be read", needs="rename create write read"
)
def replaced_stays_open(sys: SystemCalls) -> None:
    put(sys, "/a", b"new")
    put(sys, "/b", b"old")
    fd = sys.open("/b", os.O_RDONLY)
    sys.rename("/a", "/b")
    same(drain(sys, fd), b"old")
    same(sys.fstat(fd).st_nlink, 0, "st_nlink of the replaced file")


@asserts(
    "rename", "an open file that is renamed can still be written", needs="rename create write read"
)
def renamed_stays_open(sys: SystemCalls) -> None:
    fd = sys.open("/a", os.O_CREAT | os.O_RDWR, 0o644)
    sys.rename("/a", "/b")
    sys.write(fd, b"late")
    same(take(sys, "/b"), b"late")


@asserts("rename", "rename keeps the link count of a file", needs="rename create")
def keeps_link_count(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.rename("/a", "/b")
    same(sys.stat("/b").st_nlink, 1, "st_nlink")


@asserts(
    "rename",
    "rename onto one of two hard links leaves the other with one link",
    needs="rename create link write read",
)
def replaces_one_link(sys: SystemCalls) -> None:
    put(sys, "/a", b"new")
    put(sys, "/b", b"old")
    sys.link("/b", "/c")
    sys.rename("/a", "/b")
    same(sys.stat("/c").st_nlink, 1, "st_nlink")
    same(take(sys, "/c"), b"old")


@asserts(
    "rename",
    "rename of a symlink moves the link, not what it points to",
    needs="rename symlink create",
)
def moves_symlink(sys: SystemCalls) -> None:
    touch(sys, "/t")
    sys.symlink("/t", "/l")
    sys.rename("/l", "/m")
    same(sys.readlink("/m"), "/t", "target")
    true(exists(sys, "/t"), "the target to stay", "it is gone")


@asserts(
    "rename",
    "rename onto a symlink replaces the link, not what it points to",
    needs="rename symlink create write read",
)
def replaces_symlink(sys: SystemCalls) -> None:
    put(sys, "/t", b"t")
    put(sys, "/a", b"a")
    sys.symlink("/t", "/l")
    sys.rename("/a", "/l")
    same(take(sys, "/l"), b"a", "content under the link's name")
    same(take(sys, "/t"), b"t", "content of the former target")


@asserts(
    "rename", "a directory moved elsewhere has its new parent as '..'", needs="rename mkdir nested"
)
def dotdot_after_move(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/q")
    sys.mkdir("/p/d")
    sys.rename("/p/d", "/q/d")
    same(sys.stat("/q/d/..").st_ino, sys.stat("/q").st_ino, "inode of '..'")


@asserts(
    "rename",
    "a directory moved away can be removed where it is now, and its old parent too",
    needs="rename mkdir rmdir nested",
)
def removable_after_move(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/q")
    sys.mkdir("/p/d")
    sys.rename("/p/d", "/q/d")
    sys.rmdir("/p")
    refused(ENOTEMPTY, sys.rmdir, "/q")
    sys.rmdir("/q/d")
    sys.rmdir("/q")


@asserts(
    "rename",
    "moving a directory moves one link from parent to parent",
    needs="rename mkdir nested dir_nlink",
)
def parents_link_counts(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/q")
    sys.mkdir("/p/d")
    sys.rename("/p/d", "/q/d")
    same((sys.stat("/p").st_nlink, sys.stat("/q").st_nlink), (2, 3), "st_nlink of the parents")


@asserts(
    "rename",
    "a directory replaced takes its link off the parent",
    needs="rename mkdir nested dir_nlink",
)
def parent_link_count_on_replace(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/p/d")
    sys.mkdir("/p/e")
    sys.rename("/p/d", "/p/e")
    same(sys.stat("/p").st_nlink, 3, "st_nlink of the parent")


@asserts(
    "rename",
    "rename within a directory keeps its link count",
    needs="rename mkdir nested dir_nlink",
)
def parent_link_count_kept(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/p/d")
    sys.rename("/p/d", "/p/e")
    same(sys.stat("/p").st_nlink, 3, "st_nlink of the parent")


@asserts(
    "rename",
    "a working directory follows the directory when it is moved",
    needs="rename mkdir nested create",
)
def cwd_follows(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/e")
    sys.chdir("/d")
    sys.rename("/d", "/e/f")
    same(sys.getcwd(), "/e/f", "getcwd")
    touch(sys, "here")
    true(exists(sys, "/e/f/here"), "the file in the moved directory", "it is not there")


@asserts("rename", "a chain of renames ends where it should", needs="rename create write read")
def chain(sys: SystemCalls) -> None:
    put(sys, "/a", b"1")
    for old, new in (("/a", "/b"), ("/b", "/c"), ("/c", "/a"), ("/a", "/b")):
        sys.rename(old, new)
    same(take(sys, "/b"), b"1")
    same([exists(sys, name) for name in ("/a", "/c")], [False, False], "other names")


@asserts("rename", "two files swapped by three renames", needs="rename create write read")
def swap_by_three(sys: SystemCalls) -> None:
    put(sys, "/a", b"1")
    put(sys, "/b", b"2")
    for old, new in (("/a", "/t"), ("/b", "/a"), ("/t", "/b")):
        sys.rename(old, new)
    same((take(sys, "/a"), take(sys, "/b")), (b"2", b"1"))


@asserts("rename", "after a rename the old name is free again", needs="rename create")
def old_name_free(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.rename("/a", "/b")
    touch(sys, "/a")
    true(sys.stat("/a").st_ino != sys.stat("/b").st_ino, "two inodes", "one")


@asserts(
    "rename",
    "the old name is not found after rename even if it was looked up before",
    needs="rename create",
)
def no_stale_name(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.stat("/a")
    refused(ENOENT, sys.stat, "/b")
    sys.rename("/a", "/b")
    refused(ENOENT, sys.stat, "/a")
    sys.stat("/b")


@asserts(
    "rename",
    "a deep path works through the new name of a moved directory",
    needs="rename mkdir create nested write read",
)
def subtree_moves(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    put(sys, "/d/e/f", b"deep")
    sys.rename("/d", "/g")
    same(take(sys, "/g/e/f"), b"deep")
    refused(ENOENT, sys.stat, "/d/e/f")


@asserts("rename", "listing shows the new name only", needs="rename create iterate")
def listing(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.rename("/a", "/b")
    same(names(sys), ["b"], "names")


@asserts("rename", "renameat2(NOREPLACE) onto a name that is there", needs="rename create")
def noreplace_existing(sys: SystemCalls) -> None:
    touch(sys, "/a")
    touch(sys, "/b")
    refused(EEXIST, sys.renameat2, "/a", "/b", RENAME_NOREPLACE)


@asserts("rename", "renameat2 with flags nobody knows", needs="rename create")
def unknown_flags(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EINVAL, sys.renameat2, "/a", "/b", 0x80)


@asserts("rename", "renameat2(NOREPLACE|EXCHANGE) contradicts itself", needs="rename create")
def contradicting_flags(sys: SystemCalls) -> None:
    touch(sys, "/a")
    touch(sys, "/b")
    refused(EINVAL, sys.renameat2, "/a", "/b", RENAME_NOREPLACE | RENAME_EXCHANGE)


@asserts("rename", "renameat2(EXCHANGE) with a name that is not there", needs="rename create")
def exchange_absent(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(ENOENT, sys.renameat2, "/a", "/b", RENAME_EXCHANGE)


@asserts(
    "rename", "renameat2(NOREPLACE) onto a free name renames or says EINVAL", needs="rename create"
)
def noreplace_free(sys: SystemCalls) -> None:
    touch(sys, "/a")
    done = _supported(lambda: sys.renameat2("/a", "/b", RENAME_NOREPLACE))
    same((exists(sys, "/a"), exists(sys, "/b")), (not done, done), "names")


@asserts("rename", "renameat2(EXCHANGE) swaps two files or says EINVAL", needs="rename create")
def exchange_files(sys: SystemCalls) -> None:
    touch(sys, "/a")
    touch(sys, "/b")
    before = _number(sys, "/a"), _number(sys, "/b")
    done = _supported(lambda: sys.renameat2("/a", "/b", RENAME_EXCHANGE))
    after = _number(sys, "/a"), _number(sys, "/b")
    same(after, before[::-1] if done else before, "inodes of the two names")


@asserts(
    "rename",
    "renameat2(EXCHANGE) swaps a file and a directory or says EINVAL",
    needs="rename create mkdir nested",
)
def exchange_types(sys: SystemCalls) -> None:
    sys.mkdir("/p")
    sys.mkdir("/p/d")
    touch(sys, "/f")
    before = _number(sys, "/p/d"), _number(sys, "/f")
    done = _supported(lambda: sys.renameat2("/p/d", "/f", RENAME_EXCHANGE))
    after = _number(sys, "/p/d"), _number(sys, "/f")
    same(after, before[::-1] if done else before, "inodes of the two names")


def _supported(call: Callable[[], object]) -> bool:
    """Whether a flag that a filesystem may refuse with EINVAL is taken."""
    try:
        call()
    except OSError as error:
        if error.errno != EINVAL:
            raise Nonconforming("success or EINVAL (22)", str(error)) from None
        return False
    return True
