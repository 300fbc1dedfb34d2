"""What somebody who is not root may do.

Each assertion prepares as root and goes on as user 1000 of group 1000.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EPERM
from typing import TYPE_CHECKING

from vfsim.testing.conformance.suite import (
    CREATE,
    Assertion,
    asserts,
    become,
    put,
    refused,
    register,
    same,
    touch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.conformance.syscalls import SystemCalls

USER, GROUP = 1000, 1000


def _user(sys: SystemCalls, *groups: int) -> None:
    become(sys, USER, GROUP, groups)


# Mode bits against the three classes.  ---------------------------------------------------------

_WANT = {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}
_WORD = {os.O_RDONLY: "reading", os.O_WRONLY: "writing", os.O_RDWR: "both"}
_WHO = {"owner": (USER, 5, 6), "group": (5, GROUP, 3), "others": (5, 6, 0)}


def _opening(who: str, bits: int, flags: int) -> Callable[[SystemCalls], None]:
    uid, gid, shift = _WHO[who]
    mode = 0o777 & ~(7 << shift) | bits << shift  # all others may: only the right class counts

    def body(sys: SystemCalls) -> None:
        touch(sys, "/f")
        sys.chown("/f", uid, gid)
        sys.chmod("/f", mode)
        _user(sys)
        if bits & _WANT[flags] == _WANT[flags]:
            sys.close(sys.open("/f", flags))
        else:
            refused(EACCES, sys.open, "/f", flags)

    return body


for _who in _WHO:
    for _bits in (0, 2, 4, 6):
        for _flags, _word in _WORD.items():
            register(
                Assertion(
                    id=f"permission.open-{_who}-{_bits}-{_word}",
                    area="permission",
                    name=f"open for {_word}, with bits {_bits:03b} for the {_who}",
                    body=_opening(_who, _bits, _flags),
                    needs=frozenset(("create",)),
                )
            )


@asserts("permission", "a supplementary group counts as the group", needs="create")
def supplementary_group(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", 5, 77)
    sys.chmod("/f", 0o040)
    _user(sys, 77)
    sys.close(sys.open("/f", os.O_RDONLY))
    refused(EACCES, sys.open, "/f", os.O_WRONLY)


@asserts(
    "permission", "the owner is judged by the owner's bits even if others may more", needs="create"
)
def owner_first(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, GROUP)
    sys.chmod("/f", 0o077)
    _user(sys)
    refused(EACCES, sys.open, "/f", os.O_RDONLY)


@asserts("permission", "root reads and writes a file of mode 0", needs="create")
def root_may(sys: SystemCalls) -> None:
    touch(sys, "/f", 0)
    sys.chown("/f", USER, GROUP)
    sys.close(sys.open("/f", os.O_RDWR))


@asserts(
    "permission",
    "O_CREAT|O_RDWR of a new file of mode 0 gives a descriptor",
    needs="create owners write",
)
def create_unreadable(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    _user(sys)
    fd = sys.open("/f", CREATE, 0)
    same(sys.write(fd, b"x"), 1)
    refused(EACCES, sys.open, "/f", os.O_RDONLY)


@asserts("permission", "an open descriptor outlives a chmod", needs="create write")
def descriptor_stays(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chmod("/f", 0o666)
    fd = sys.open("/f", os.O_RDWR)
    sys.chmod("/f", 0)
    _user(sys)
    same(sys.write(fd, b"x"), 1)


@asserts("permission", "O_TRUNC needs the right to write", needs="create read write")
def truncating(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    sys.chmod("/f", 0o444)
    _user(sys)
    refused(EACCES, sys.open, "/f", os.O_RDONLY | os.O_TRUNC)
    refused(EACCES, sys.truncate, "/f", 0)
    same(sys.stat("/f").st_size, 3, "st_size")


# Directories: w to change names, x to pass, r to list.  ----------------------------------------


def _directory(sys: SystemCalls, mode: int) -> None:
    """A directory /d of root's with a file a in it, and on as the user."""
    sys.mkdir("/d")
    touch(sys, "/d/a")
    sys.chmod("/d/a", 0o666)
    sys.mkdir("/d/e")
    sys.chmod("/d", mode)
    _user(sys)


_CHANGES: dict[str, tuple[Callable[[SystemCalls], object], str]] = {
    "create": (lambda sys: sys.open("/d/n", CREATE, 0o644), "create"),
    "mkdir": (lambda sys: sys.mkdir("/d/n"), "mkdir"),
    "symlink": (lambda sys: sys.symlink("x", "/d/n"), "symlink"),
    "mknod": (lambda sys: sys.mknod("/d/n", stat.S_IFIFO | 0o644, 0), "mknod"),
    "unlink": (lambda sys: sys.unlink("/d/a"), "unlink"),
    "rmdir": (lambda sys: sys.rmdir("/d/e"), "rmdir"),
    "rename": (lambda sys: sys.rename("/d/a", "/d/n"), "rename"),
    "rename-out": (lambda sys: sys.rename("/d/a", "/n"), "rename"),
}


def _unwritable(act: Callable[[SystemCalls], object]) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        sys.chmod("/", 0o777)
        _directory(sys, 0o555)
        refused(EACCES, act, sys)

    return body


def _impassable(act: Callable[[SystemCalls], object]) -> Callable[[SystemCalls], None]:
    def body(sys: SystemCalls) -> None:
        sys.chmod("/", 0o777)
        _directory(sys, 0o666)
        refused(EACCES, act, sys)

    return body


for _name, (_act, _needs) in _CHANGES.items():
    for _slug, _words, _make in (
        ("unwritable", "a directory one may not write", _unwritable),
        ("impassable", "a directory one may not pass", _impassable),
    ):
        register(
            Assertion(
                id=f"permission.{_name}-{_slug}",
                area="permission",
                name=f"{_name} in {_words}",
                body=_make(_act),
                needs=frozenset(f"{_needs} create mkdir nested".split()),
            )
        )


@asserts("permission", "stat in a directory one may not pass", needs="create mkdir nested")
def stat_impassable(sys: SystemCalls) -> None:
    _directory(sys, 0o666)
    refused(EACCES, sys.stat, "/d/a")


@asserts("permission", "chdir to a directory one may not pass", needs="create mkdir nested")
def chdir_impassable(sys: SystemCalls) -> None:
    _directory(sys, 0o666)
    refused(EACCES, sys.chdir, "/d")


@asserts("permission", "listing a directory one may not read", needs="create mkdir nested iterate")
def list_unreadable(sys: SystemCalls) -> None:
    _directory(sys, 0o311)
    refused(EACCES, sys.listdir, "/d")
    sys.stat("/d/a")


@asserts(
    "permission",
    "a directory one may read and not pass is listed",
    needs="create mkdir nested iterate",
)
def list_readable(sys: SystemCalls) -> None:
    _directory(sys, 0o444)
    same(sorted(sys.listdir("/d")), ["a", "e"])


@asserts("permission", "stat needs no right to the file itself", needs="create")
def stat_needs_nothing(sys: SystemCalls) -> None:
    touch(sys, "/f", 0)
    _user(sys)
    sys.stat("/f")


# Sticky directories.  --------------------------------------------------------------------------


def _sticky(sys: SystemCalls, owner: int) -> None:
    sys.mkdir("/d")
    sys.chmod("/d", 0o1777)
    touch(sys, "/d/a", 0o666)
    sys.chown("/d/a", owner, GROUP)
    _user(sys)


@asserts(
    "permission",
    "unlink of somebody else's file in a sticky directory",
    needs="create mkdir unlink nested",
)
def sticky_unlink(sys: SystemCalls) -> None:
    _sticky(sys, 5)
    refused(EPERM, sys.unlink, "/d/a")


@asserts(
    "permission",
    "rename of somebody else's file in a sticky directory",
    needs="create mkdir rename nested",
)
def sticky_rename(sys: SystemCalls) -> None:
    _sticky(sys, 5)
    refused(EPERM, sys.rename, "/d/a", "/d/b")


@asserts(
    "permission",
    "rename onto somebody else's file in a sticky directory",
    needs="create mkdir rename nested owners",
)
def sticky_replace(sys: SystemCalls) -> None:
    _sticky(sys, 5)
    touch(sys, "/d/mine")
    refused(EPERM, sys.rename, "/d/mine", "/d/a")


@asserts(
    "permission",
    "unlink of one's own file in a sticky directory",
    needs="create mkdir unlink nested",
)
def sticky_own(sys: SystemCalls) -> None:
    _sticky(sys, USER)
    sys.unlink("/d/a")


# Changing attributes.  -------------------------------------------------------------------------


@asserts("permission", "chmod of somebody else's file", needs="create")
def chmod_other(sys: SystemCalls) -> None:
    touch(sys, "/f", 0o666)
    _user(sys)
    refused(EPERM, sys.chmod, "/f", 0o777)


@asserts("permission", "chmod of one's own file", needs="create")
def chmod_own(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, GROUP)
    _user(sys)
    sys.chmod("/f", 0o600)
    same(stat.S_IMODE(sys.stat("/f").st_mode), 0o600, "mode")


@asserts("permission", "chmod by a user who is not in the group drops set-group-id", needs="create")
def chmod_setgid(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, 77)
    _user(sys)
    sys.chmod("/f", 0o2755)
    same(oct(stat.S_IMODE(sys.stat("/f").st_mode)), "0o755", "mode")


@asserts("permission", "giving a file away", needs="create")
def chown_away(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, GROUP)
    _user(sys)
    refused(EPERM, sys.chown, "/f", 5, -1)


@asserts("permission", "giving a file to a group one is in", needs="create")
def chgrp_own_group(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, GROUP)
    _user(sys, 77)
    sys.chown("/f", -1, 77)
    same(sys.stat("/f").st_gid, 77, "st_gid")


@asserts("permission", "giving a file to a group one is not in", needs="create")
def chgrp_other_group(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chown("/f", USER, GROUP)
    _user(sys)
    refused(EPERM, sys.chown, "/f", -1, 77)


@asserts("permission", "chown of somebody else's file", needs="create")
def chown_other(sys: SystemCalls) -> None:
    touch(sys, "/f", 0o666)
    _user(sys)
    refused(EPERM, sys.chown, "/f", USER, GROUP)


@asserts(
    "permission", "setting times of somebody else's file, even if one may write it", needs="create"
)
def utime_other(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chmod("/f", 0o666)
    _user(sys)
    refused(EPERM, sys.utime, "/f", 1, 1)


@asserts(
    "permission", "setting times of one's own file, even if one may not write it", needs="create"
)
def utime_own(sys: SystemCalls) -> None:
    touch(sys, "/f", 0)
    sys.chown("/f", USER, GROUP)
    _user(sys)
    sys.utime("/f", 1, 2)
    same(sys.stat("/f").st_mtime_ns, 2, "st_mtime_ns")


@asserts("permission", "writing takes set-user-id off", needs="create write")
def write_drops_suid(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chmod("/f", 0o6777)
    _user(sys)
    fd = sys.open("/f", os.O_WRONLY)
    sys.write(fd, b"x")
    same(oct(stat.S_IMODE(sys.fstat(fd).st_mode)), "0o777", "mode")


@asserts("permission", "truncating takes set-user-id off", needs="create write")
def truncate_drops_suid(sys: SystemCalls) -> None:
    put(sys, "/f", b"abc")
    sys.chmod("/f", 0o6777)
    _user(sys)
    sys.truncate("/f", 1)
    same(oct(stat.S_IMODE(sys.stat("/f").st_mode)), "0o777", "mode")


@asserts("permission", "O_NOATIME on somebody else's file", needs="create")
def noatime_other(sys: SystemCalls) -> None:
    touch(sys, "/f")
    sys.chmod("/f", 0o666)
    _user(sys)
    refused(EPERM, sys.open, "/f", os.O_RDONLY | os.O_NOATIME)


@asserts("permission", "mknod of a device without the capability", needs="mknod")
def mknod_device(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    _user(sys)
    refused(EPERM, sys.mknod, "/dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))


@asserts("permission", "mknod of a fifo without any capability", needs="mknod")
def mknod_fifo(sys: SystemCalls) -> None:
    sys.chmod("/", 0o777)
    _user(sys)
    sys.mknod("/p", stat.S_IFIFO | 0o600, 0)


@asserts(
    "permission",
    "moving a directory one may not write to another parent",
    needs="mkdir rename nested",
)
def move_unwritable_directory(sys: SystemCalls) -> None:
    for path in ("/p", "/q", "/p/d"):
        sys.mkdir(path)
        sys.chmod(path, 0o777)
    sys.chmod("/p/d", 0o555)
    _user(sys)
    refused(EACCES, sys.rename, "/p/d", "/q/d")
    sys.rename("/p/d", "/p/e")


# access(2) asks for the real user, here root: root may all but execute what nobody may.  --------


@asserts("permission", "access by root: all but executing a file without any x bit", needs="create")
def access_root(sys: SystemCalls) -> None:
    touch(sys, "/f", 0)
    sys.access("/f", os.R_OK | os.W_OK)
    refused(EACCES, sys.access, "/f", os.X_OK)
    sys.chmod("/f", 0o100)
    sys.access("/f", os.X_OK)


@asserts("permission", "access of a directory by root: everything", needs="mkdir")
def access_directory(sys: SystemCalls) -> None:
    sys.mkdir("/d", 0)
    sys.access("/d", os.R_OK | os.W_OK | os.X_OK)
