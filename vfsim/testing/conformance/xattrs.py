"""Extended attributes, access control lists, and files without a name."""

from __future__ import annotations

import os
import stat
import struct
from errno import EACCES, EEXIST, EINVAL, ENODATA, ENOENT, EOPNOTSUPP, EPERM, ERANGE
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import asserts, become, names, refused, same, take, touch

if TYPE_CHECKING:
    from vfsim.testing.conformance.syscalls import SystemCalls

XATTRS = "create xattrs"
LISTS = "create mkdir owners acls"
TMPFILE = "tmpfile read write"
XATTR_CREATE, XATTR_REPLACE = 1, 2
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
O_TMPFILE = getattr(os, "O_TMPFILE", 0o20200000)

# Extended attributes.  -------------------------------------------------------------------------


@asserts("xattr", "an attribute that was set is read", needs=XATTRS)
def value(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.colour", b"red\0\xff")
    same(sys.getxattr("/a", "user.colour"), b"red\0\xff", "value")


@asserts("xattr", "an empty value is a value", needs=XATTRS)
def empty_value(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.empty", b"")
    same(sys.getxattr("/a", "user.empty"), b"", "value")


@asserts("xattr", "setting again replaces the value", needs=XATTRS)
def replaced(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.a", b"long value")
    sys.setxattr("/a", "user.a", b"short")
    same(sys.getxattr("/a", "user.a"), b"short", "value")


@asserts("xattr", "names are listed until they are removed", needs=XATTRS)
def listed(sys: SystemCalls) -> None:
    touch(sys, "/a")
    for name in ("user.b", "user.a"):
        sys.setxattr("/a", name, b"1")
    same(_users(sys, "/a"), ["user.a", "user.b"], "names")
    sys.removexattr("/a", "user.b")
    same(_users(sys, "/a"), ["user.a"], "names")
    refused(ENODATA, sys.getxattr, "/a", "user.b")


def _users(sys: SystemCalls, path: str) -> list[str]:
    return sorted(name for name in sys.listxattr(path) if name.startswith("user."))


@asserts("xattr", "directories have attributes as well", needs="mkdir xattrs")
def directory(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.setxattr("/d", "user.a", b"1")
    same(sys.getxattr("/d", "user.a"), b"1", "value")
    same(_users(sys, "/d"), ["user.a"], "names")


@asserts("xattr", "reading or removing what is not there is ENODATA", needs=XATTRS)
def missing(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(ENODATA, sys.getxattr, "/a", "user.a")
    refused(ENODATA, sys.removexattr, "/a", "user.a")


@asserts("xattr", "XATTR_CREATE refuses what is there", needs=XATTRS)
def create_only(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.a", b"1", XATTR_CREATE)
    refused(EEXIST, sys.setxattr, "/a", "user.a", b"2", XATTR_CREATE)
    same(sys.getxattr("/a", "user.a"), b"1", "value")


@asserts("xattr", "XATTR_REPLACE refuses what is not there", needs=XATTRS)
def replace_only(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(ENODATA, sys.setxattr, "/a", "user.a", b"1", XATTR_REPLACE)
    sys.setxattr("/a", "user.a", b"1")
    sys.setxattr("/a", "user.a", b"2", XATTR_REPLACE)
    same(sys.getxattr("/a", "user.a"), b"2", "value")


@asserts("xattr", "unknown flags are EINVAL", needs=XATTRS)
def unknown_flags(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EINVAL, sys.setxattr, "/a", "user.a", b"1", 4)


@asserts("xattr", "an empty name and one of 256 bytes are ERANGE", needs=XATTRS)
def name_lengths(sys: SystemCalls) -> None:
    touch(sys, "/a")
    for name in ("", "user." + "n" * 251):
        refused(ERANGE, sys.setxattr, "/a", name, b"1")
        refused(ERANGE, sys.getxattr, "/a", name)
        refused(ERANGE, sys.removexattr, "/a", name)


@asserts("xattr", "a prefix alone is EINVAL, an unknown one EOPNOTSUPP", needs=XATTRS)
def prefixes(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EINVAL, sys.setxattr, "/a", "user.", b"1")
    refused(EOPNOTSUPP, sys.setxattr, "/a", "nobodys.a", b"1")
    refused(EOPNOTSUPP, sys.getxattr, "/a", "user")


@asserts("xattr", "attributes belong to the inode, not to the name", needs=XATTRS + " link rename")
def of_the_inode(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.a", b"1")
    sys.link("/a", "/b")
    sys.rename("/a", "/c")
    sys.setxattr("/b", "user.a", b"2")
    same(sys.getxattr("/c", "user.a"), b"2", "value")


@asserts("xattr", "a new file of an old name has no attributes", needs=XATTRS + " unlink")
def new_file(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", "user.a", b"1")
    sys.unlink("/a")
    touch(sys, "/a")
    refused(ENODATA, sys.getxattr, "/a", "user.a")


@asserts("xattr", "links are followed", needs=XATTRS + " symlink")
def links_followed(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.symlink("a", "/l")
    sys.setxattr("/l", "user.a", b"1")
    same(sys.getxattr("/a", "user.a"), b"1", "value")


@asserts("xattr", "special files have no user attributes", needs="xattrs mknod")
def special_files(sys: SystemCalls) -> None:
    sys.mknod("/p", stat.S_IFIFO | 0o666)
    refused(EPERM, sys.setxattr, "/p", "user.a", b"1")
    refused(ENODATA, sys.getxattr, "/p", "user.a")


@asserts("xattr", "user attributes follow the file's permissions", needs=XATTRS + " owners")
def permissions(sys: SystemCalls) -> None:
    touch(sys, "/a", 0o644)
    sys.setxattr("/a", "user.a", b"1")
    become(sys, 1000, 1000)
    same(sys.getxattr("/a", "user.a"), b"1", "value")
    refused(EACCES, sys.setxattr, "/a", "user.a", b"2")
    refused(EACCES, sys.removexattr, "/a", "user.a")


@asserts(
    "xattr", "in a sticky directory only its owner sets attributes of it", needs="mkdir xattrs"
)
def sticky(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.chmod("/d", 0o1777)
    become(sys, 1000, 1000)
    refused(EPERM, sys.setxattr, "/d", "user.a", b"1")


@asserts("xattr", "only root knows trusted attributes", needs=XATTRS)
def trusted(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chmod("/a", 0o666)
    become(sys, 1000, 1000)
    refused(EPERM, sys.setxattr, "/a", "trusted.a", b"1")
    refused(ENODATA, sys.getxattr, "/a", "trusted.a")


# Access control lists.  ------------------------------------------------------------------------


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The value of a list: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFF_FFFF
OWNER, USER, GROUP, MASK, OTHER = 1, 2, 4, 16, 32


def _for_user(user: int, group: int, mask: int, other: int = 0) -> bytes:
    return acl(
        (OWNER, 7, NOBODY), (USER, user, 1000), (GROUP, group, NOBODY), (MASK, mask, NOBODY),
        (OTHER, other, NOBODY),
    )  # fmt: skip


@asserts("acl", "a list sets the mode, and its mask the group's bits", needs=LISTS)
def list_and_mode(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", ACCESS, _for_user(6, 4, 6))
    same(oct(stat.S_IMODE(sys.stat("/a").st_mode)), oct(0o760), "mode")
    same(sys.getxattr("/a", ACCESS), _for_user(6, 4, 6), "list")
    same([ACCESS in sys.listxattr("/a")], [True], "listed")


@asserts("acl", "a list that says no more than the mode is the mode", needs=LISTS)
def plain_list(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", ACCESS, acl((OWNER, 6, NOBODY), (GROUP, 4, NOBODY), (OTHER, 0, NOBODY)))
    same(oct(stat.S_IMODE(sys.stat("/a").st_mode)), oct(0o640), "mode")
    refused(ENODATA, sys.getxattr, "/a", ACCESS)


@asserts("acl", "a named user has what the list and the mask give", needs=LISTS)
def named_user(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", ACCESS, _for_user(6, 0, 4, 6))
    become(sys, 1000, 1000)
    sys.close(sys.open("/a", os.O_RDONLY))
    refused(EACCES, sys.open, "/a", os.O_RDWR)


@asserts("acl", "chmod changes the mask", needs=LISTS)
def chmod_and_mask(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.setxattr("/a", ACCESS, _for_user(6, 4, 6))
    sys.chmod("/a", 0o744)
    same(sys.getxattr("/a", ACCESS), _for_user(6, 4, 4, 4), "list")


@asserts("acl", "files inherit a directory's default list, directories keep it", needs=LISTS)
def inherited(sys: SystemCalls) -> None:
    sys.mkdir("/d")
    sys.setxattr("/d", DEFAULT, _for_user(6, 5, 7, 5))
    sys.umask(0o077)
    touch(sys, "/d/f", 0o664)
    sys.mkdir("/d/e", 0o777)
    same(oct(stat.S_IMODE(sys.stat("/d/f").st_mode)), oct(0o664), "mode")
    same(sys.getxattr("/d/f", ACCESS)[:4], struct.pack("<I", 2), "version")
    refused(ENODATA, sys.getxattr, "/d/f", DEFAULT)
    same(sys.getxattr("/d/e", DEFAULT), _for_user(6, 5, 7, 5), "list")


@asserts("acl", "only directories have a default list", needs=LISTS)
def default_of_files(sys: SystemCalls) -> None:
    touch(sys, "/a")
    refused(EACCES, sys.setxattr, "/a", DEFAULT, _for_user(6, 4, 6))


@asserts("acl", "only the owner sets a list", needs=LISTS)
def list_of_others(sys: SystemCalls) -> None:
    touch(sys, "/a")
    sys.chmod("/a", 0o666)
    become(sys, 1000, 1000)
    refused(EPERM, sys.setxattr, "/a", ACCESS, _for_user(6, 4, 6))


@asserts("acl", "entries out of order and named users without a mask are EINVAL", needs=LISTS)
def wrong_lists(sys: SystemCalls) -> None:
    touch(sys, "/a")
    good = [(OWNER, 6, NOBODY), (GROUP, 4, NOBODY), (OTHER, 0, NOBODY)]
    refused(EINVAL, sys.setxattr, "/a", ACCESS, acl(*reversed(good)))
    refused(EINVAL, sys.setxattr, "/a", ACCESS, acl(good[0], (USER, 4, 1000), *good[1:]))
    refused(EINVAL, sys.setxattr, "/a", ACCESS, acl(*good[:2]))
    refused(EINVAL, sys.setxattr, "/a", ACCESS, acl(*good)[:-1])


# Files without a name.  ------------------------------------------------------------------------


@asserts("tmpfile", "an unnamed file has data, no link, and is not listed", needs=TMPFILE)
def unnamed(sys: SystemCalls) -> None:
    fd = sys.open("/", O_TMPFILE | os.O_RDWR, 0o600)
    sys.write(fd, b"data")
    same(sys.pread(fd, 10, 0), b"data", "data")
    same((sys.fstat(fd).st_nlink, oct(sys.fstat(fd).st_mode)), (0, oct(0o100600)), "stat")
    same(names(sys), [], "names")


@asserts("tmpfile", "linked, it is a file like any other", needs=TMPFILE + " link")
def named_later(sys: SystemCalls) -> None:
    fd = sys.open("/", O_TMPFILE | os.O_RDWR, 0o600)
    sys.write(fd, b"data")
    sys.flink(fd, "/a")
    sys.close(fd)
    same(take(sys, "/a"), b"data", "data")
    same(sys.stat("/a").st_nlink, 1, "st_nlink")


@asserts("tmpfile", "opened with O_EXCL it never gets a name", needs=TMPFILE + " link")
def never_named(sys: SystemCalls) -> None:
    fd = sys.open("/", O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    refused(ENOENT, sys.flink, fd, "/a")


@asserts("tmpfile", "it must be opened for writing", needs=TMPFILE)
def for_writing(sys: SystemCalls) -> None:
    refused(EINVAL, sys.open, "/", O_TMPFILE | os.O_RDONLY, 0o600)


@asserts("tmpfile", "it wants permission to write in the directory", needs=TMPFILE)
def permission(sys: SystemCalls) -> None:
    become(sys, 1000, 1000)
    refused(EACCES, sys.open, "/", O_TMPFILE | os.O_RDWR, 0o600)
