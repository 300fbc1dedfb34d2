"""RCU-walk: how a path walk gets by without locks and references, and how it takes them in the end.

A walk in RCU mode (``nd.flags & LOOKUP_RCU``) holds one thing, an RCU read section, so nothing it
can see is freed under its feet.  Instead of references it has sequence numbers::

    nd.m_seq    of mount_lock, taken once, when the walk begins
    nd.seq      of the d_seq of where it stands; a link that it is in the middle of has one, too

and each step is ``begin, read, ask``::

    a name      begin the child's d_seq, read d_inode, ask the child, then the parent (`lookup_rcu`)
    ".."        begin the parent's d_seq, read d_inode, ask the child (`follow_dotdot_rcu`)
    a mount     begin the root's d_seq; mount_lock is asked at the end (`follow_mount_rcu`)

What it asked the parent *after* the child is what makes the chain hold: while the child's number
stands, the parent was its parent.

A walk leaves RCU mode when it has arrived, or when something wants to sleep: `unlazy_walk` takes
references on all that the walk stands on, and then asks all its sequence numbers once more::

    each link's mount and dentry, the mount, the dentry, the child just found
        legitimize_mnt()    count, then: did mount_lock move?
        lockref             a reference unless the dentry is dead, then: did d_seq move?

If one of them moved, everything is given back, outside the read section, because a last reference
sleeps; the walk is over with ECHILD, and its caller starts again with references from the first
component on (`vfsim.fs.namei.walked`).

The counterpart of the RCU half of ``fs/namei.c`` of v4.10.  The root of the process needs no number
here: only its own task changes it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vfsim.checks.lifetime import note_ref
from vfsim.fs.d_lookup import d_lookup_rcu
from vfsim.fs.dcache import (
    DCACHE_MANAGE_TRANSIT,
    DCACHE_MOUNTED,
    DCACHE_NEED_AUTOMOUNT,
    DCACHE_OP_REVALIDATE,
    Dentry,
    d_invalidate,
    dput,
)
from vfsim.fs.dentry import DCACHE_MANAGED_DENTRY, name_key
from vfsim.fs.lookup import LOOKUP_JUMPED, LOOKUP_RCU, still_valid
from vfsim.fs.managed import Step, follow_managed
from vfsim.fs.mount import (
    Mount,
    Path,
    legitimize_mnt,
    mntput,
    mounted_on,
    mounts,
    path_connected,
)
from vfsim.locks.rcu import rcu_read_unlock
from vfsim.sim.errors import ECHILD, ENOENT

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.namei import Nameidata

_SPECIAL = DCACHE_OP_REVALIDATE | DCACHE_MANAGED_DENTRY


# -- steps -----------------------------------------------------------------------------------------


def lookup_rcu(nd: Nameidata, name: str) -> Step | None:
    """Sleeps.  One name, from the dcache; None if it is not there, and then the walk has
    references.

    Sleeps only after it has left RCU mode.

    Raises:
        OSError: ECHILD, to start over; ENOENT; or what ``d_hash`` and ``d_revalidate`` say.

    Source: ``lookup_fast``.
    """
    parent = nd.dentry
    dentry, seq = d_lookup_rcu(parent, name, name_key(parent, name))
    if dentry is None:
        unlazy_walk(nd)
        return None
    inode = dentry.d_inode
    if dentry.d_seq.read_retry(seq) or parent.d_seq.read_retry(nd.seq):
        raise ECHILD()
    if dentry.d_flags & _SPECIAL:
        return _special(nd, dentry, inode, seq)
    if inode is None:
        raise ENOENT()
    return nd.mnt, dentry, inode, seq


def _special(nd: Nameidata, dentry: Dentry, inode: Inode | None, seq: int) -> Step | None:
    """A name whose filesystem is asked about it, or where something may be mounted."""
    if dentry.d_flags & DCACHE_OP_REVALIDATE:
        wrong: OSError | None = None
        valid = False
        try:
            valid = dentry.d_op.d_revalidate(dentry, nd.flags)
        except OSError as error:
            wrong = error
        if not valid:
            unlazy_walk(nd, dentry, seq)
            return _ask_again(nd, dentry, wrong)
    if inode is None:
        raise ENOENT()
    step = follow_mount_rcu(nd, dentry, inode, seq)
    if step is None:
        unlazy_walk(nd, dentry, seq)
        step = follow_managed(nd, dentry)
    return step


def _ask_again(nd: Nameidata, dentry: Dentry, wrong: OSError | None) -> Step | None:
    """The filesystem did not say yes in RCU mode: with a reference now, which this consumes."""
    if wrong is None:
        d_invalidate(dentry)
        dput(dentry)
        return None
    if wrong.errno != errno.ECHILD:
        dput(dentry)
        raise wrong
    return follow_managed(nd, dentry) if still_valid(dentry, nd.flags) else None


def follow_mount_rcu(nd: Nameidata, dentry: Dentry, inode: Inode, seq: int) -> Step | None:
    """Never sleeps.  The root of what is mounted on ``dentry``, however often; None if that cannot
    be told without references.

    Source: ``__follow_mount_rcu``, ``managed_dentry_rcu``.
    """
    mnt = nd.mnt
    while True:
        flags = dentry.d_flags
        if flags & DCACHE_MANAGE_TRANSIT:
            try:
                dentry.d_op.d_manage(Path(mnt, dentry), True)
            except OSError as error:
                if error.errno == errno.EISDIR:  # an ordinary directory this time
                    return mnt, dentry, inode, seq
                return None
        if not flags & DCACHE_MOUNTED:
            break
        mounted = mounted_on(mnt, dentry)
        if mounted is None:
            if mounts().mount_lock.read_retry(nd.m_seq):
                return None
            break
        mnt = mounted
        dentry = mnt.mnt_root
        nd.flags |= LOOKUP_JUMPED
        seq = dentry.d_seq.read_begin()
        inode = dentry.d_inode  # type: ignore[assignment]  # its mount keeps it
    if dentry.d_flags & DCACHE_NEED_AUTOMOUNT:
        return None
    return mnt, dentry, inode, seq


def follow_dotdot_rcu(nd: Nameidata) -> None:
    """Never sleeps.  Go up, across mounts both ways.

    Raises:
        OSError: ECHILD, to start over; ENOENT (the parent cannot be reached from the mount's root).

    Source: ``follow_dotdot_rcu``.
    """
    root = nd.root
    mount_lock = mounts().mount_lock
    while nd.dentry is not root.dentry or nd.mnt is not root.mnt:
        mnt, old = nd.mnt, nd.dentry
        if old is not mnt.mnt_root:
            parent = old.d_parent
            seq = parent.d_seq.read_begin()
            inode = parent.d_inode
            if old.d_seq.read_retry(nd.seq):
                raise ECHILD()
            _stand(nd, mnt, parent, inode, seq)
            if not path_connected(mnt, parent):
                raise ENOENT()
            break
        above, mountpoint = mnt.mnt_parent, mnt.mnt_mountpoint
        seq = mountpoint.d_seq.read_begin()
        inode = mountpoint.d_inode
        if mount_lock.read_retry(nd.m_seq):
            raise ECHILD()
        if above is mnt:
            break
        _stand(nd, above, mountpoint, inode, seq)
    while nd.dentry.d_flags & DCACHE_MOUNTED:
        mounted = mounted_on(nd.mnt, nd.dentry)
        if mount_lock.read_retry(nd.m_seq):
            raise ECHILD()
        if mounted is None:
            break
        top = mounted.mnt_root
        seq = top.d_seq.read_begin()
        _stand(nd, mounted, top, top.d_inode, seq)


def _stand(nd: Nameidata, mnt: Mount, dentry: Dentry, inode: Inode | None, seq: int) -> None:
    """Move there; who is below or inside keeps it positive."""
    nd.mnt = mnt
    nd.dentry = dentry
    nd.inode = inode  # type: ignore[assignment]
    nd.seq = seq


# -- taking references -----------------------------------------------------------------------------


def unlazy_walk(nd: Nameidata, dentry: Dentry | None = None, seq: int = 0) -> None:
    """Sleeps.  Leave RCU mode: take references on all that the walk stands on.

    Args:
        dentry, seq: a child of where it stands, just found: the walk wants a reference on it, too.
            Its number answers for the parent's.

    Raises:
        OSError: ECHILD: something moved.  The walk has no references then, and must start over.

    Sleeps only if it fails.  Source: ``unlazy_walk``.
    """
    nd.flags &= ~LOOKUP_RCU
    taken = _Taken()
    good = _legitimize(nd, taken, dentry, seq)
    rcu_read_unlock()
    if not good:
        nd.forget()
        taken.put()
        raise ECHILD()


class _Taken:
    """The references that a walk has taken while it leaves RCU mode."""

    __slots__ = ("dentries", "mounts")

    def __init__(self) -> None:
        self.dentries: list[Dentry] = []
        self.mounts: list[Mount] = []

    def mount(self, mnt: Mount, m_seq: int) -> bool:
        """Never sleeps.  Source: ``legitimize_mnt``."""
        found = legitimize_mnt(mnt, m_seq)
        if found <= 0:
            self.mounts.append(mnt)
        return not found

    def dentry(self, dentry: Dentry) -> bool:
        """Never sleeps.  A reference, unless it is dead."""
        if not dentry.d_lockref.get_not_dead():
            return False
        note_ref(dentry, 1, "unlazy_walk")
        self.dentries.append(dentry)
        return True

    def put(self) -> None:
        """Sleeps.  Give all of them back; outside of the read section."""
        for dentry in self.dentries:
            dput(dentry)
        for mnt in self.mounts:
            mntput(mnt)


def _legitimize(nd: Nameidata, taken: _Taken, child: Dentry | None, seq: int) -> bool:
    """Never sleeps.  References on links, place and child; whether nothing had moved.

    Source: ``legitimize_links``, ``legitimize_path``, ``unlazy_walk``.
    """
    for mnt, dentry, link_seq in nd.links_held():
        if not taken.mount(mnt, nd.m_seq) or not taken.dentry(dentry):
            return False
        if dentry.d_seq.read_retry(link_seq):
            return False
    parent = nd.dentry
    if not taken.mount(nd.mnt, nd.m_seq) or not taken.dentry(parent):
        return False
    if child is None:
        return not parent.d_seq.read_retry(nd.seq)
    return taken.dentry(child) and not child.d_seq.read_retry(seq)
