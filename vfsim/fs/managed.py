"""Managed dentries: where a path walk does not just step on.

Three bits of ``d_flags`` say why:

=====================  =====================================================================
DCACHE_MANAGE_TRANSIT  the filesystem's ``d_manage`` lets the walk pass, or holds it back
DCACHE_MOUNTED         something is mounted here, perhaps not in this place of the mount tree
DCACHE_NEED_AUTOMOUNT  nothing is, but ``d_automount`` has a mount for whoever wants to go in
=====================  =====================================================================

and `follow_managed` asks in that order, again and again, until the dentry on top is an ordinary
one.  Everything here is ref-walk: the methods may sleep.  What RCU-walk can tell without references
is in `vfsim.fs.rcu_walk`.

An automount is a mount like any other, made by whoever comes first; those who come at the same time
find it there (EBUSY, and they look again).  The filesystem gives it two references, one for the
tree and one for the walk.

The counterpart of ``follow_managed``, ``follow_automount`` (``fs/namei.c``) and
``finish_automount`` (``fs/namespace.c``) of v4.10.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vfsim.checks.bugs import bug
from vfsim.fs.dcache import (
    DCACHE_MANAGE_TRANSIT,
    DCACHE_MOUNTED,
    DCACHE_NEED_AUTOMOUNT,
    Dentry,
    dget,
    dput,
)
from vfsim.fs.dentry import DCACHE_MANAGED_DENTRY
from vfsim.fs.lookup import (
    LOOKUP_AUTOMOUNT,
    LOOKUP_CREATE,
    LOOKUP_DIRECTORY,
    LOOKUP_JUMPED,
    LOOKUP_OPEN,
    LOOKUP_PARENT,
)
from vfsim.fs.mount import (
    MNT_SHRINKABLE,
    MNT_USER_SETTABLE_MASK,
    Mount,
    Path,
    lookup_mnt,
    mntget,
    mntput,
    path_put,
)
from vfsim.fs.namespace import do_add_mount
from vfsim.fs.operations import DentryOperations
from vfsim.fs.process import ROOT_CRED, current_process
from vfsim.fs.umount import mnt_leave_expiry
from vfsim.sim.errors import EISDIR, ELOOP, ENOENT, EREMOTE

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.namei import Nameidata

MAXSYMLINKS = 40
"""How many links and automounts one walk may follow, wherever in the path they stand."""

_GOES_IN = LOOKUP_PARENT | LOOKUP_DIRECTORY | LOOKUP_OPEN | LOOKUP_CREATE | LOOKUP_AUTOMOUNT
_NO_AUTOMOUNT = DentryOperations.d_automount

Step = tuple[Mount, Dentry, "Inode", int]
"""Where a component led: mount, dentry, its inode, and in RCU mode its sequence number."""


def follow_managed(nd: Nameidata, dentry: Dentry) -> Step:
    """Sleeps.  The step to a child that was looked up, across what is mounted on it.

    Consumes the reference on ``dentry``.  The step has one on its dentry, and one on its mount if
    that is not ``nd.mnt``.

    Raises:
        OSError: ENOENT if it is negative, EREMOTE, ELOOP, or what ``d_manage`` and ``d_automount``
            say.

    Source: ``follow_managed``.
    """
    mnt = nd.mnt
    if dentry.d_flags & DCACHE_MANAGED_DENTRY:
        mnt, dentry = _Transit(nd, dentry).pass_through()
        if mnt is not nd.mnt:
            nd.flags |= LOOKUP_JUMPED
    inode = dentry.d_inode
    if inode is None:
        dput(dentry)
        if mnt is not nd.mnt:
            mntput(mnt)
        raise ENOENT()
    return mnt, dentry, inode, 0


class _Transit:
    """A walk on its way across managed dentries.

    Attributes:
        path: where it is; has a reference on the dentry.
        own: whether it has one on the mount as well.
    """

    __slots__ = ("nd", "own", "path")

    def __init__(self, nd: Nameidata, dentry: Dentry) -> None:
        self.nd = nd
        self.path = Path(nd.mnt, dentry)
        self.own = False

    def pass_through(self) -> tuple[Mount, Dentry]:
        """Sleeps.  Until nothing is in the way; the mount has a reference unless it is the
        walk's.
        """
        path = self.path
        try:
            while managed := path.dentry.d_flags & DCACHE_MANAGED_DENTRY:
                if not self._next(managed):
                    break
        except OSError as error:
            if error.errno != errno.EISDIR:  # which says: an ordinary directory this time
                dput(path.dentry)
                if self.own:
                    mntput(path.mnt)
                raise
        if self.own and path.mnt is self.nd.mnt:
            mntput(path.mnt)
        return path.mnt, path.dentry

    def _next(self, managed: int) -> bool:
        path = self.path
        if managed & DCACHE_MANAGE_TRANSIT:
            path.dentry.d_op.d_manage(path, False)
        if managed & DCACHE_MOUNTED:
            mounted = lookup_mnt(path.mnt, path.dentry)
            if mounted is not None:
                self._enter(mounted)
                return True
        if managed & DCACHE_NEED_AUTOMOUNT:
            self._automount()
            return True
        return False

    def _enter(self, mounted: Mount) -> None:
        """Onto the root of a mount; its reference is now ours."""
        path = self.path
        old_mnt, old = path.mnt, path.dentry
        path.mnt = mounted
        path.dentry = dget(mounted.mnt_root)
        dput(old)
        if self.own:
            mntput(old_mnt)
        self.own = True

    def _automount(self) -> None:
        """Sleeps.  Mount what belongs here.  Source: ``follow_automount``."""
        nd, path = self.nd, self.path
        if type(path.dentry.d_op).d_automount is _NO_AUTOMOUNT:
            raise EREMOTE()
        if not nd.flags & _GOES_IN and path.dentry.d_inode is not None:
            raise EISDIR()  # a stat() looks at the trigger
        nd.links += 1
        if nd.links >= MAXSYMLINKS:
            raise ELOOP()
        mnt = _ask_for_mount(path, bool(nd.flags & LOOKUP_PARENT))
        if mnt is None:
            return
        if not self.own:
            mntget(path.mnt)  # finish_automount() may move the path
            self.own = True
        if finish_automount(mnt, path):
            self._enter(mnt)


def _ask_for_mount(path: Path, more: bool) -> Mount | None:
    """``d_automount``, with root's rights; ``more`` of the path is to be walked inside."""
    process = current_process()
    cred, process.cred = process.cred, ROOT_CRED
    try:
        return path.dentry.d_op.d_automount(path)
    except OSError as error:
        if error.errno == errno.EISDIR and more:
            raise EREMOTE() from None
        raise
    finally:
        process.cred = cred


def finish_automount(mnt: Mount, path: Path) -> bool:
    """Sleeps.  Put an automount into the tree; whether that was done, and not by somebody else
    meanwhile.

    It gets the flags of the mount it is in, and MNT_SHRINKABLE: who unmounts that one unmounts it,
    too.  If it does not get into the tree it leaves its expiry list; until then a reference keeps
    it from expiring.

    Consumes one of the two references on ``mnt``, both if it returns False or raises.

    Raises:
        OSError: ELOOP (a filesystem on its own root), or as `do_add_mount`.

    Source: ``finish_automount``.
    """
    if mnt.mnt_count < 2:
        what = f"d_automount() gave a mount with {mnt.mnt_count} references, not 2"
        bug("kernel.bug", what, by=path.dentry.d_op.d_automount)
    mntget(mnt)  # do_add_mount() consumes one in any case
    try:
        if mnt.mnt_sb is path.mnt.mnt_sb and mnt.mnt_root is path.dentry:
            mntput(mnt)
            raise ELOOP()
        mnt.mnt_flags |= path.mnt.mnt_flags & MNT_USER_SETTABLE_MASK | MNT_SHRINKABLE
        do_add_mount(mnt, path)
    except OSError as error:
        mnt_leave_expiry(mnt)
        mntput(mnt)
        mntput(mnt)
        if error.errno != errno.EBUSY:
            raise
        return False
    mntput(mnt)
    return True


def follow_mounts(mnt: Mount, dentry: Dentry) -> tuple[Mount, Dentry]:
    """Sleeps.  The root of what is mounted on (mnt, dentry), however often; the references on both
    move along.

    Source: ``follow_mount``.
    """
    while dentry.d_flags & DCACHE_MOUNTED:
        mounted = lookup_mnt(mnt, dentry)
        if mounted is None:
            break
        below = Path(mnt, dentry)
        mnt, dentry = mounted, dget(mounted.mnt_root)
        path_put(below)
    return mnt, dentry
