"""What Linux answers for a method that the filesystem left out, and for a mount that may not be
written."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EINVAL, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS, ESPIPE
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    Assertion,
    asserts,
    names,
    pattern,
    put,
    refused,
    register,
    same,
    same_data,
    take,
    touch,
    true,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.syscalls import SystemCalls

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@asserts("missing", "create without the method", lacks="create")
def create(sys: SystemCalls) -> None:
    refused(EACCES, sys.open, "/a", CREATE, 0o644)


@asserts("missing", "mknod of a regular file without the method create", lacks="create")
def mknod_regular(sys: SystemCalls) -> None:
    refused(EACCES, sys.mknod, "/a", stat.S_IFREG | 0o644, 0)


@asserts("missing", "mkdir without the method", lacks="mkdir")
def mkdir(sys: SystemCalls) -> None:
    refused(EPERM, sys.mkdir, "/d")


@asserts("missing", "symlink without the method", lacks="symlink")
def symlink(sys: SystemCalls) -> None:
    refused(EPERM, sys.symlink, "x", "/l")


@asserts("missing", "mknod of a fifo without the method", lacks="mknod")
def mknod(sys: SystemCalls) -> None:
    refused(EPERM, sys.mknod, "/p", stat.S_IFIFO | 0o644, 0)


@asserts("missing", "mknod of a device without the method", lacks="mknod")
def mknod_device(sys: SystemCalls) -> None:
    refused(EPERM, sys.mknod, "/p", stat.S_IFCHR | 0o644, os.makedev(1, 3))


@asserts("missing", "link without the method", needs="create", lacks="link")
def link(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EPERM, sys.link, "/a", "/b")
    same(sys.stat("/a").st_nlink, 1, "st_nlink")


@asserts("missing", "unlink without the method", needs="create", lacks="unlink")
def unlink(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EPERM, sys.unlink, "/a")
    sys.stat("/a")


@asserts("missing", "rmdir without the method", needs="mkdir", lacks="rmdir")
def rmdir(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    refused(EPERM, sys.rmdir, "/d")
    sys.stat("/d")


@asserts("missing", "rename without the method", needs="create", lacks="rename")
def rename(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EPERM, sys.rename, "/a", "/b")
    sys.stat("/a")


@asserts(
    "missing",
    "rename onto itself does nothing even without the method",
    needs="create",
    lacks="rename",
)
def rename_onto_itself(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.rename("/a", "/a")


@asserts("missing", "O_TMPFILE without the method", lacks="tmpfile")
def tmpfile(sys: SystemCalls) -> None:
    refused(EOPNOTSUPP, sys.open, "/", os.O_TMPFILE | os.O_RDWR, 0o600)


@asserts("missing", "read without the method", needs="create", lacks="read")
def read(sys: SystemCalls) -> None:
    refused(EINVAL, sys.read, sys.open("/a", CREATE, 0o644), 1)


@asserts("missing", "write without the method", needs="create", lacks="write")
def write(sys: SystemCalls) -> None:
    refused(EINVAL, sys.write, sys.open("/a", CREATE, 0o644), b"x")


@asserts("missing", "lseek without the method", needs="create", lacks="llseek")
def lseek(sys: SystemCalls) -> None:
    refused(ESPIPE, sys.lseek, sys.open("/a", CREATE, 0o644), 0, os.SEEK_SET)


@asserts("missing", "fsync without the method", needs="create", lacks="fsync")
def fsync(sys: SystemCalls) -> None:
    fd = sys.open("/a", CREATE, 0o644)
    refused(EINVAL, sys.fsync, fd)
    refused(EINVAL, sys.fdatasync, fd)


@asserts("missing", "listing without the method iterate", lacks="iterate")
def iterate(sys: SystemCalls) -> None:
    refused(ENOTDIR, sys.getdents, sys.open("/", DIRECTORY))


@asserts("missing", "lseek of a directory without the method", lacks="llseek_dir")
def lseek_directory(sys: SystemCalls) -> None:
    refused(ESPIPE, sys.lseek, sys.open("/", DIRECTORY), 0, os.SEEK_SET)


@asserts("missing", "fsync of a directory without the method", lacks="fsync_dir")
def fsync_directory(sys: SystemCalls) -> None:
    refused(EINVAL, sys.fsync, sys.open("/", DIRECTORY))


@asserts("missing", "statfs without the method", lacks="statfs")
def statfs(sys: SystemCalls) -> None:
    refused(ENOSYS, sys.statfs, "/")


# Mounted read-only.  ---------------------------------------------------------------------------


def _populate(sys: SystemCalls) -> None:
    """A file, a directory and a symlink, for the mount after this one to find."""
    put(sys, "/f", b"data")
    _try(sys.mkdir, "/d")
    _try(sys.symlink, "/f", "/l")


def _try(call: Callable[..., object], *args: object) -> None:
    """Do it if the filesystem can."""
    try:
        call(*args)
    except PermissionError:
        pass


READ_ONLY = (
    # slug, what, call, needs
    ("create", "create", lambda sys: sys.open("/n", CREATE, 0o644), "create"),
    ("mkdir", "mkdir", lambda sys: sys.mkdir("/n"), ""),
    ("mknod", "mknod", lambda sys: sys.mknod("/n", stat.S_IFIFO | 0o644, 0), ""),
    ("symlink", "symlink", lambda sys: sys.symlink("x", "/n"), ""),
    ("chmod-root", "chmod of the root", lambda sys: sys.chmod("/", 0o700), ""),
    ("chown-root", "chown of the root", lambda sys: sys.chown("/", 1, 1), ""),
    ("utime-root", "utime of the root", lambda sys: sys.utime("/", 1, 1), ""),
    ("access-root", "access(W_OK) of the root", lambda sys: sys.access("/", os.W_OK), ""),
    ("unlink-absent", "unlink of a name that is not there", lambda sys: sys.unlink("/n"), ""),
    ("rmdir-absent", "rmdir of a name that is not there", lambda sys: sys.rmdir("/n"), ""),
    ("rename-absent", "rename of a name that is not there", lambda sys: sys.rename("/n", "/m"), ""),
)

READ_ONLY_FULL = (
    ("link", "link", lambda sys: sys.link("/f", "/n"), ""),
    ("unlink", "unlink", lambda sys: sys.unlink("/f"), ""),
    ("rmdir", "rmdir", lambda sys: sys.rmdir("/d"), "mkdir"),
    ("rename", "rename", lambda sys: sys.rename("/f", "/n"), ""),
    ("open-write", "open for writing", lambda sys: sys.open("/f", os.O_WRONLY), ""),
    ("open-both", "open for reading and writing", lambda sys: sys.open("/f", os.O_RDWR), ""),
    ("open-trunc", "open with O_TRUNC", lambda sys: sys.open("/f", os.O_TRUNC), ""),
    ("truncate", "truncate", lambda sys: sys.truncate("/f", 0), ""),
    ("chmod", "chmod", lambda sys: sys.chmod("/f", 0o600), ""),
    ("chown", "chown", lambda sys: sys.chown("/f", 1, 1), ""),
    ("utime", "utime", lambda sys: sys.utime("/f", 1, 1), ""),
    ("access", "access(W_OK)", lambda sys: sys.access("/f", os.W_OK), ""),
)


def _refused_read_only(call: Callable[[SystemCalls], object]) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        refused(EROFS, call, sys)

    return body


for _table, _given, _more in ((READ_ONLY, None, ""), (READ_ONLY_FULL, _populate, "create write")):
    for _slug, _what, _call, _needs in _table:
        register(
            Assertion(
                id=f"readonly.{_slug}",
                area="readonly",
                name=f"{_what} on a read-only mount",
                body=_refused_read_only(_call),
                needs=frozenset(f"{_needs} {_more}".split()),
                given=_given,
                readonly=True,
            )
        )


@asserts(
    "readonly",
    "reading on a read-only mount",
    needs="create read write",
    given=_populate,
    readonly=True,
)
def reading(sys: SystemCalls) -> None:
    same(take(sys, "/f"), b"data")
    sys.access("/f", os.R_OK)


@asserts(
    "readonly",
    "O_CREAT of a file that is there, on a read-only mount",
    needs="create write",
    given=_populate,
    readonly=True,
)
def creating_existing(sys: SystemCalls) -> None:
    sys.close(sys.open("/f", os.O_CREAT | os.O_RDONLY, 0o644))


@asserts(
    "readonly",
    "listing on a read-only mount",
    needs="create write iterate",
    given=_populate,
    readonly=True,
)
def listing(sys: SystemCalls) -> None:
    true("f" in names(sys), "a list with 'f'", names(sys))


# Mounted again.  -------------------------------------------------------------------------------


PERSIST = "create read write persistent"


def _remounted(
    slug: str,
    name: str,
    given: Callable[[SystemCalls], None],
    body: Callable[..., None],
    needs: str,
    size: int = 0,
) -> None:
    register(
        Assertion(
            id=f"remount.{slug}",
            area="remount",
            name=name,
            body=body,
            needs=frozenset(f"{PERSIST} {needs}".split()),
            given=given,
            size=size,
        )
    )


def _write_f(data: bytes) -> Callable[[SystemCalls], None]:
    return lambda sys: put(sys, "/f", data)


def _is_f(data: bytes) -> Callable[[SystemCalls], None]:
    return lambda sys: same_data(take(sys, "/f"), data)


for _size in (0, 1, 511, 512, 4096, 5000, 16384):
    _remounted(
        f"content-{_size}",
        f"a file of {_size} bytes has its content after umount and mount",
        _write_f(pattern(_size)),
        _is_f(pattern(_size)),
        "",
        _size,
    )


def _given_names(sys: SystemCalls) -> None:
    for name in "abc":
        touch(sys, "/" + name)
    sys.unlink("/b")


_remounted(
    "names", "names made and removed are so after umount and mount", _given_names,
    lambda sys: same(names(sys), ["a", "c"]), "unlink iterate",
)  # fmt: skip


def _given_rename(sys: SystemCalls) -> None:
    put(sys, "/a", b"1")
    put(sys, "/b", b"2")
    sys.rename("/a", "/b")


def _after_rename(sys: SystemCalls) -> None:
    same(names(sys), ["b"])
    same(take(sys, "/b"), b"1")


_remounted(
    "rename",
    "a rename holds after umount and mount",
    _given_rename,
    _after_rename,
    "rename iterate",
)


def _given_mode(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chmod("/f", 0o640)
    sys.chown("/f", 12, 34)


def _after_mode(sys: SystemCalls) -> None:
    found = sys.stat("/f")
    same((oct(found.st_mode), found.st_uid, found.st_gid), ("0o100640", 12, 34))


_remounted("mode", "mode and owner hold after umount and mount", _given_mode, _after_mode, "owners")


def _given_truncate(sys: SystemCalls) -> None:
    put(sys, "/f", b"abcdef")
    sys.truncate("/f", 3)


_remounted(
    "truncate", "a truncation holds after umount and mount", _given_truncate,
    lambda sys: same(take(sys, "/f"), b"abc"), "",
)  # fmt: skip


def _given_tree(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    put(sys, "/d/e/f", b"deep")


def _after_tree(sys: SystemCalls) -> None:
    same(take(sys, "/d/e/f"), b"deep")
    same(sys.stat("/d/e/..").st_ino, sys.stat("/d").st_ino, "inode of '..'")


_remounted("tree", "a tree holds after umount and mount", _given_tree, _after_tree, "mkdir nested")


def _given_links(sys: SystemCalls) -> None:
    put(sys, "/f", b"data")
    sys.link("/f", "/g")


def _after_links(sys: SystemCalls) -> None:
    same((sys.stat("/f").st_ino, sys.stat("/f").st_nlink), (sys.stat("/g").st_ino, 2))


_remounted("link", "hard links hold after umount and mount", _given_links, _after_links, "link")

_remounted(
    "symlink", "a symlink holds after umount and mount",
    lambda sys: sys.symlink("/some/where", "/l"),
    lambda sys: same(sys.readlink("/l"), "/some/where"), "symlink",
)  # fmt: skip


def _still_works(sys: SystemCalls) -> None:
    put(sys, "/n", b"new")
    same((take(sys, "/n"), take(sys, "/f")), (b"new", b"data"))
    sys.unlink("/f")


_remounted(
    "goes-on", "after umount and mount files can be made, read and removed", _write_f(b"data"),
    _still_works, "unlink",
)  # fmt: skip


# Room.  ----------------------------------------------------------------------------------------


@asserts(
    "room",
    "when it is full, ENOSPC, and the names there are stay whole",
    needs="create unlink read write iterate",
)
def full_of_files(sys: SystemCalls, caps: Capabilities) -> None:
    made = 0
    for i in range(caps.max_files + 4):
        try:
            put(sys, f"/f{i}", b"%d" % i)
        except OSError as error:
            true(error.errno in (28, 122), "ENOSPC (28) or EDQUOT (122)", error.errno)
            break
        made += 1
    for i in range(made):
        same(take(sys, f"/f{i}"), b"%d" % i, f"content of f{i}")
        sys.unlink(f"/f{i}")
    touch(sys, "/again")
