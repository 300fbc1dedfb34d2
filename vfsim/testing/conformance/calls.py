"""Every system call with a path, on every kind of thing that path can lead to.

The first table is about the thing at the end of the path, the second about the path that does not
get there, the third about slashes and dots at its end.  A cell is the errno Linux gives, ``ok``,
or ``-`` where nothing is asked. After a refusal the whole tree must be as it was.

"to file" and "to dir" are symbolic links; "fifo" stands for every special file.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    Assertion,
    Nonconforming,
    refused,
    register,
    same,
    snapshot,
    touch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import SystemCalls

# Kinds of things: how the thing named x is made, and what that needs.  ---------------------------


def _file(sys: SystemCalls, path: str) -> None:
    touch(sys, path)


def _dir(sys: SystemCalls, path: str) -> None:
    sys.mkdir(path)


def _full(sys: SystemCalls, path: str) -> None:
    sys.mkdir(path)
    touch(sys, path + "/inside")


def _to_file(sys: SystemCalls, path: str) -> None:
    touch(sys, "/target")
    sys.symlink("/target", path)


def _to_dir(sys: SystemCalls, path: str) -> None:
    sys.mkdir("/target")
    sys.symlink("/target", path)


def _dangling(sys: SystemCalls, path: str) -> None:
    sys.symlink("/nowhere", path)


def _loop(sys: SystemCalls, path: str) -> None:
    sys.symlink(path, path)


def _fifo(sys: SystemCalls, path: str) -> None:
    sys.mknod(path, stat.S_IFIFO | 0o644, 0)


def _absent(sys: SystemCalls, path: str) -> None:
    pass


KINDS: dict[str, tuple[Callable[[SystemCalls, str], None], str, str]] = {
    # column: (how it is made, what it needs, how it is called)
    "file": (_file, "create", "a file"),
    "dir": (_dir, "mkdir", "an empty directory"),
    "full": (_full, "mkdir create nested", "a non-empty directory"),
    "to file": (_to_file, "symlink create", "a symlink to a file"),
    "to dir": (_to_dir, "symlink mkdir", "a symlink to a directory"),
    "dangling": (_dangling, "symlink", "a dangling symlink"),
    "loop": (_loop, "symlink", "a symlink to itself"),
    "fifo": (_fifo, "mknod", "a fifo"),
    "absent": (_absent, "", "nothing"),
}

# Calls: what is done, and which methods it needs to get as far as the table says.  ---------------


def _opened(flags: int) -> Callable[[SystemCalls, str], None]:
    def call(sys: SystemCalls, path: str) -> None:
        sys.close(sys.open(path, flags, 0o644))

    return call


CALLS: dict[str, tuple[Callable[[SystemCalls, str], object], str]] = {
    "open(O_RDONLY)": (_opened(os.O_RDONLY), ""),
    "open(O_WRONLY)": (_opened(os.O_WRONLY), ""),
    "open(O_RDWR)": (_opened(os.O_RDWR), ""),
    "open(O_TRUNC)": (_opened(os.O_WRONLY | os.O_TRUNC), ""),
    "open(O_CREAT)": (_opened(os.O_CREAT | os.O_RDONLY), "create"),
    "open(O_CREAT|O_RDWR)": (_opened(os.O_CREAT | os.O_RDWR), "create"),
    "open(O_CREAT|O_EXCL)": (_opened(os.O_CREAT | os.O_EXCL | os.O_RDWR), "create"),
    "open(O_DIRECTORY)": (_opened(os.O_DIRECTORY), ""),
    "open(O_NOFOLLOW)": (_opened(os.O_NOFOLLOW), ""),
    "stat": (lambda sys, path: sys.stat(path), ""),
    "lstat": (lambda sys, path: sys.lstat(path), ""),
    "access": (lambda sys, path: sys.access(path, os.F_OK), ""),
    "readlink": (lambda sys, path: sys.readlink(path), ""),
    "listdir": (lambda sys, path: sys.listdir(path), "iterate"),
    "chdir": (lambda sys, path: sys.chdir(path), ""),
    "chmod": (lambda sys, path: sys.chmod(path, 0o700), ""),
    "chown": (lambda sys, path: sys.chown(path, 0, 0), ""),
    "lchown": (lambda sys, path: sys.lchown(path, 0, 0), ""),
    "utime": (lambda sys, path: sys.utime(path, 0, 0), ""),
    "truncate": (lambda sys, path: sys.truncate(path, 0), ""),
    "statfs": (lambda sys, path: sys.statfs(path), "statfs"),
    "mkdir": (lambda sys, path: sys.mkdir(path), "mkdir"),
    "mknod": (lambda sys, path: sys.mknod(path, stat.S_IFIFO | 0o644, 0), "mknod"),
    "symlink": (lambda sys, path: sys.symlink("/t", path), "symlink"),
    "unlink": (lambda sys, path: sys.unlink(path), "unlink"),
    "rmdir": (lambda sys, path: sys.rmdir(path), "rmdir"),
    "link from": (lambda sys, path: sys.link(path, "/new"), "link"),
    "link to": (lambda sys, path: sys.link("/old", path), "link create"),
    "rename from": (lambda sys, path: sys.rename(path, "/new"), "rename"),
    "rename file to": (lambda sys, path: sys.rename("/old", path), "rename create"),
    "rename dir to": (lambda sys, path: sys.rename("/olddir", path), "rename mkdir"),
}

# The tables.  ------------------------------------------------------------------------------------

THINGS = """
call                 file    dir    full      to file  to dir  dangling  loop    fifo    absent
open(O_RDONLY)       ok      ok     ok        ok       ok      ENOENT    ELOOP   -       ENOENT
open(O_WRONLY)       ok      EISDIR EISDIR    ok       EISDIR  ENOENT    ELOOP   -       ENOENT
open(O_RDWR)         ok      EISDIR EISDIR    ok       EISDIR  ENOENT    ELOOP   -       ENOENT
open(O_TRUNC)        ok      EISDIR EISDIR    ok       EISDIR  ENOENT    ELOOP   -       ENOENT
open(O_CREAT)        ok      EISDIR EISDIR    ok       EISDIR  ok        ELOOP   -       ok
open(O_CREAT|O_RDWR) ok      EISDIR EISDIR    ok       EISDIR  ok        ELOOP   -       ok
open(O_CREAT|O_EXCL) EEXIST  EEXIST EEXIST    EEXIST   EEXIST  EEXIST    EEXIST  EEXIST  ok
open(O_DIRECTORY)    ENOTDIR ok     ok        ENOTDIR  ok      ENOENT    ELOOP   ENOTDIR ENOENT
open(O_NOFOLLOW)     ok      ok     ok        ELOOP    ELOOP   ELOOP     ELOOP   -       ENOENT
stat                 ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
lstat                ok      ok     ok        ok       ok      ok        ok      ok      ENOENT
access               ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
readlink             EINVAL  EINVAL EINVAL    ok       ok      ok        ok      EINVAL  ENOENT
listdir              ENOTDIR ok     ok        ENOTDIR  ok      ENOENT    ELOOP   -       ENOENT
chdir                ENOTDIR ok     ok        ENOTDIR  ok      ENOENT    ELOOP   ENOTDIR ENOENT
chmod                ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
chown                ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
lchown               ok      ok     ok        ok       ok      ok        ok      ok      ENOENT
utime                ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
truncate             ok      EISDIR EISDIR    ok       EISDIR  ENOENT    ELOOP   EINVAL  ENOENT
statfs               ok      ok     ok        ok       ok      ENOENT    ELOOP   ok      ENOENT
mkdir                EEXIST  EEXIST EEXIST    EEXIST   EEXIST  EEXIST    EEXIST  EEXIST  ok
mknod                EEXIST  EEXIST EEXIST    EEXIST   EEXIST  EEXIST    EEXIST  EEXIST  ok
symlink              EEXIST  EEXIST EEXIST    EEXIST   EEXIST  EEXIST    EEXIST  EEXIST  ok
unlink               ok      EISDIR EISDIR    ok       ok      ok        ok      ok      ENOENT
rmdir                ENOTDIR ok     ENOTEMPTY ENOTDIR  ENOTDIR ENOTDIR   ENOTDIR ENOTDIR ENOENT
link from            ok      EPERM  EPERM     ok       ok      ok        ok      ok      ENOENT
link to              EEXIST  EEXIST EEXIST    EEXIST   EEXIST  EEXIST    EEXIST  EEXIST  ok
rename from          ok      ok     ok        ok       ok      ok        ok      ok      ENOENT
rename file to       ok      EISDIR EISDIR    ok       ok      ok        ok      ok      ok
rename dir to        ENOTDIR ok     ENOTEMPTY ENOTDIR  ENOTDIR ENOTDIR   ENOTDIR ENOTDIR ok
"""

WAYS: dict[str, tuple[str, str, str]] = {
    # column: (the path, kind of the thing named X, how it is called)
    "no dir": ("/x/y", "absent", "under a directory that is not there"),
    "under file": ("/x/y", "file", "under a file"),
    "under loop": ("/x/y", "loop", "under a symlink to itself"),
    "under dangling": ("/x/y", "dangling", "under a dangling symlink"),
    "empty": ("", "absent", "with an empty path"),
    "long path": ("/" + "./" * 2047 + "x", "absent", "with a path of 4096 bytes"),
}

PATHS = """
call           no dir  under file  under loop  under dangling  empty  long path
open(O_RDONLY) ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
open(O_CREAT)  ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
stat           ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
lstat          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
access         ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
readlink       ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
chdir          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
chmod          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
chown          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
utime          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
truncate       ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
mkdir          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
mknod          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
symlink        ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
unlink         ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
rmdir          ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
link from      ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
link to        ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
rename from    ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
rename file to ENOENT  ENOTDIR     ELOOP       ENOENT          ENOENT ENAMETOOLONG
"""

ENDS: dict[str, tuple[str, str, str]] = {
    "file/": ("/x/", "file", "on a file with a slash behind it"),
    "dir/": ("/x/", "dir", "on a directory with a slash behind it"),
    "to dir/": ("/x/", "to dir", "on a symlink to a directory with a slash behind it"),
    "absent/": ("/x/", "absent", "on a new name with a slash behind it"),
    "dir/.": ("/x/.", "dir", "on 'directory/.'"),
    "dir/..": ("/x/..", "dir", "on 'directory/..'"),
}

SLASHES = """
call           file/   dir/    to dir/  absent/  dir/.  dir/..
open(O_RDONLY) ENOTDIR ok      ok       ENOENT   ok     ok
open(O_CREAT)  EISDIR  EISDIR  EISDIR   EISDIR   EISDIR EISDIR
stat           ENOTDIR ok      ok       ENOENT   ok     ok
lstat          ENOTDIR ok      ok       ENOENT   ok     ok
chdir          ENOTDIR ok      ok       ENOENT   ok     ok
readlink       ENOTDIR EINVAL  EINVAL   ENOENT   EINVAL EINVAL
truncate       ENOTDIR EISDIR  EISDIR   ENOENT   EISDIR EISDIR
mkdir          EEXIST  EEXIST  EEXIST   ok       EEXIST EEXIST
mknod          EEXIST  EEXIST  EEXIST   ENOENT   EEXIST EEXIST
symlink        EEXIST  EEXIST  EEXIST   ENOENT   EEXIST EEXIST
unlink         ENOTDIR EISDIR  ENOTDIR  ENOENT   EISDIR EISDIR
rmdir          ENOTDIR ok      ENOTDIR  ENOENT   EINVAL ENOTEMPTY
link from      ENOTDIR EPERM   EPERM    ENOENT   EPERM  EPERM
link to        EEXIST  EEXIST  EEXIST   ENOENT   EEXIST EEXIST
rename from    ENOTDIR ok      ENOTDIR  ENOENT   EBUSY  EBUSY
rename file to ENOTDIR ENOTDIR ENOTDIR  ENOTDIR  EBUSY  EBUSY
rename dir to  ENOTDIR ok      ENOTDIR  ok       EBUSY  EBUSY
"""


def rows(table: str) -> list[tuple[str, dict[str, str]]]:
    """Read a table: the call of each row and its cells by column, which begin as headings do."""
    lines = [line for line in table.splitlines() if line.strip()]
    heading = [word.strip() for word in lines[0].split("  ") if word.strip()]
    starts = []
    place = 0
    for word in heading:
        place = lines[0].index(word, place)
        starts.append(place)
        place += len(word)
    ends = [*starts[1:], None]
    read = []
    for line in lines[1:]:
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        read.append((cells[0], dict(zip(heading[1:], cells[1:], strict=True))))
    return read


def _prepare(sys: SystemCalls, call: str, kind: str) -> None:
    """Make the thing named x, and the other name the call is about."""
    if call in ("link to", "rename file to"):
        touch(sys, "/old")
    if call == "rename dir to":
        sys.mkdir("/olddir")
    KINDS[kind][0](sys, "/x")


def _body(call: str, kind: str, path: str, cell: str) -> Callable[[SystemCalls], None]:
    code = 0 if cell == "ok" else int(getattr(errno, cell))
    do = CALLS[call][0]

    def body(sys: SystemCalls) -> None:
        _prepare(sys, call, kind)
        if not code:
            do(sys, path)
            return
        before = _tree(sys)
        refused(code, do, sys, path)
        same(_tree(sys), before, "the tree after the refusal")

    return body


def _tree(sys: SystemCalls) -> list[tuple[object, ...]]:
    """The tree, or nothing where directories cannot be listed."""
    try:
        return snapshot(sys)
    except NotADirectoryError:
        return []
    except OSError as error:
        raise Nonconforming("the tree to be listed", str(error)) from None


def _slug(*words: str) -> str:
    text = "-".join(words).lower()
    for old, new in (("/..", " dotdot"), ("/.", " dot"), ("/", " slash")):
        text = text.replace(old, new)
    text = text.replace("(", "-").replace(")", "").replace("|", "-")
    return "-".join(text.replace("o_", "").split())


def _add(area: str, call: str, column: str, path: str, kind: str, words: str, cell: str) -> None:
    needs = f"{CALLS[call][1]} {KINDS[kind][1]}"
    if call == "open(O_TRUNC)" and cell == "ok":
        needs += " write"
    register(
        Assertion(
            id=f"{area}.{_slug(call, column)}",
            area=area,
            name=f"{call} {words}",
            body=_body(call, kind, path, cell),
            needs=frozenset(needs.split()),
        )
    )


def _register_tables() -> None:
    for call, cells in rows(THINGS):
        for kind, cell in cells.items():
            if cell != "-":
                _add("calls", call, kind, "/x", kind, f"on {KINDS[kind][2]}", cell)
    for area, table, columns in (("paths", PATHS, WAYS), ("slashes", SLASHES, ENDS)):
        for call, cells in rows(table):
            for column, cell in cells.items():
                path, kind, words = columns[column]
                _add(area, call, column, path, kind, words, cell)


_register_tables()
