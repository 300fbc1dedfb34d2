"""Credentials: on whose behalf a task acts, as far as filesystems look at it.

A `Cred` is immutable and replaced as a whole, as in Linux: a process has one (``process.cred``), an
open file keeps the one it was opened with.  Root has all capabilities, others none; a process may
give single ones up (`Cred.with_caps`).  Kernel threads act with `ROOT_CRED`.

============================  ======================================================================
CAP_CHOWN                     give files away
CAP_DAC_OVERRIDE              read, write and search whatever the permissions say
CAP_DAC_READ_SEARCH           read and search whatever they say; link an open file by no name
CAP_FOWNER                    act as the owner: chmod, times, sticky directories, lists
CAP_FSETID                    keep set-user-ID and set-group-ID bits
CAP_LINUX_IMMUTABLE           set the flags immutable and append-only
CAP_MKNOD                     make devices, and whiteouts
CAP_SETFCAP                   set file capabilities (``security.capability``)
CAP_SETUID, CAP_SETGID        become somebody else
CAP_SYS_ADMIN                 mount; ``trusted.`` and ``security.`` attributes
CAP_SYS_CHROOT                chroot(2)
============================  ======================================================================

There are no user namespaces, so `capable` is Linux's ``capable_wrt_inode_uidgid`` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.sim.errors import EPERM
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterable

CAP_CHOWN = "CAP_CHOWN"
CAP_DAC_OVERRIDE = "CAP_DAC_OVERRIDE"
CAP_DAC_READ_SEARCH = "CAP_DAC_READ_SEARCH"
CAP_FOWNER = "CAP_FOWNER"
CAP_FSETID = "CAP_FSETID"
CAP_SETGID = "CAP_SETGID"
CAP_SETUID = "CAP_SETUID"
CAP_LINUX_IMMUTABLE = "CAP_LINUX_IMMUTABLE"
CAP_SYS_CHROOT = "CAP_SYS_CHROOT"
CAP_SYS_ADMIN = "CAP_SYS_ADMIN"
CAP_MKNOD = "CAP_MKNOD"
CAP_LEASE = "CAP_LEASE"
CAP_SETFCAP = "CAP_SETFCAP"

ALL_CAPS = frozenset(
    (
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SETGID,
        CAP_SETUID, CAP_LINUX_IMMUTABLE, CAP_SYS_CHROOT, CAP_SYS_ADMIN, CAP_MKNOD, CAP_LEASE,
        CAP_SETFCAP,
    )
)  # fmt: skip
NO_CAPS: frozenset[str] = frozenset()


@attrs.define(frozen=True, slots=True)
class Cred:
    """Credentials: Linux's ``struct cred``, as far as filesystems look at it.

    Attributes:
        uid, gid: what files are checked against and created with (Linux's fsuid and fsgid).
        groups: supplementary groups.
        caps: the effective capabilities, by Linux's names.
        real_uid, real_gid: what `access` uses and what an unprivileged process may return to.
    """

    uid: int = 0
    gid: int = 0
    groups: frozenset[int] = frozenset()
    caps: frozenset[str] = ALL_CAPS
    real_uid: int = 0
    real_gid: int = 0

    def in_group(self, gid: int) -> bool:
        """Never sleeps.  Whether ``gid`` is the group or a supplementary one (Linux:
        ``in_group_p``).
        """
        return gid == self.gid or gid in self.groups

    def with_uid(self, uid: int) -> Cred:
        """Never sleeps.  The same with another effective uid: root has every capability, others
        none.

        Raises:
            OSError: EPERM, without CAP_SETUID and for a uid that is not the real one.
        """
        _check_id("uid", uid)
        if CAP_SETUID not in self.caps and uid not in (self.uid, self.real_uid):
            raise EPERM()
        if uid == self.uid:
            return self
        return attrs.evolve(self, uid=uid, caps=ALL_CAPS if uid == 0 else NO_CAPS)

    def with_caps(self, caps: Iterable[str]) -> Cred:
        """Never sleeps.  The same with other effective capabilities.

        Raises:
            OSError: EPERM, for one that is not there now.
        """
        new = frozenset(caps)
        if new - self.caps:
            raise EPERM()
        return attrs.evolve(self, caps=new)

    def with_gid(self, gid: int) -> Cred:
        """Never sleeps.  The same with another effective gid.  Raises EPERM as `with_uid` does."""
        _check_id("gid", gid)
        if CAP_SETGID not in self.caps and gid not in (self.gid, self.real_gid):
            raise EPERM()
        return attrs.evolve(self, gid=gid)

    def with_groups(self, groups: Iterable[int]) -> Cred:
        """Never sleeps.  The same with other supplementary groups.

        Raises EPERM without CAP_SETGID.
        """
        new = frozenset(groups)
        for gid in sorted(new):
            _check_id("gid", gid)
        if CAP_SETGID not in self.caps:
            raise EPERM()
        return attrs.evolve(self, groups=new)


def _check_id(what: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 0xFFFF_FFFF:
        raise ValueError(f"a {what} is an integer from 0 to 2**32 - 2, got {value!r}")


ROOT_CRED = Cred()


def user_cred(uid: int, gid: int, groups: Iterable[int] = ()) -> Cred:
    """Never sleeps.  The credentials a login of that user would start with."""
    _check_id("uid", uid)
    _check_id("gid", gid)
    caps = ALL_CAPS if uid == 0 else NO_CAPS
    return Cred(uid, gid, frozenset(groups), caps, uid, gid)


def current_cred() -> Cred:
    """Never sleeps.  Whose rights count now; a kernel thread has root's."""
    process = K.cur.process
    return ROOT_CRED if process is None else process.cred


def override_creds(new: Cred) -> Cred:
    """Never sleeps.  Let the running task act with other credentials, and return those that it had,
    for `revert_creds`.  A kernel thread has root's anyway, and keeps them.

    Source: ``override_creds``.
    """
    process = K.cur.process
    if process is None:
        return ROOT_CRED
    old: Cred = process.cred
    process.cred = new
    return old


def revert_creds(old: Cred) -> None:
    """Never sleeps.  Undo `override_creds`, whose result this is."""
    process = K.cur.process
    if process is not None:
        process.cred = old


def capable(cap: str) -> bool:
    """Never sleeps.  Whether the running task has that capability."""
    process = K.cur.process
    return process is None or cap in process.cred.caps
