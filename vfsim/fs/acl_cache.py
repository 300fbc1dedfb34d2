"""The access control lists of an inode, as far as they are in memory.

``inode.i_acl`` and ``inode.i_default_acl`` hold one of::

    ACL_NOT_CACHED        nobody has asked the filesystem yet
    a `Reading`           a task is asking; what it finds is kept if this mark is still there
    None                  there is no list
    a `PosixAcl`          the list

    ACL_NOT_CACHED ──get_acl()──> Reading ──> None or a list
          ^                          │             │
          └─ forget_cached_acl() ────┴─────────────┘

`get_acl` asks the filesystem without a lock, so somebody may set another list meanwhile; the mark
is how it notices, and then its own answer is not kept.  No lock guards the two fields: they are
read and replaced in single steps.

RCU walks read the cache alone (`get_cached_acl_rcu`): ``i_op.get_acl`` is never called there.  The
counterpart of the cache in ``fs/posix_acl.c`` of v4.10, without reference counts (lists are
immutable).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.fs.acl import ACL_TYPE_ACCESS, ACL_TYPE_DEFAULT, PosixAcl
from vfsim.fs.operations import InodeOperations
from vfsim.sim.shared import cmpxchg, rcu_dereference, xchg

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode

SB_POSIXACL = 1 << 16
"""In ``s_flags``: access control lists count on this filesystem, and it applies the umask."""


@attrs.frozen(eq=False)
class Uncached:
    """What stands in the cache while no list is there (Linux: odd pointers)."""


class Reading(Uncached):
    """The mark of one task that asks the filesystem (Linux: ``uncached_acl_sentinel``)."""


ACL_NOT_CACHED = Uncached()
Cached = PosixAcl | None | Uncached

_NO_GET_ACL = InodeOperations.get_acl


def is_posixacl(inode: Inode) -> bool:
    """Never sleeps.  Whether access control lists count for it (Linux: ``IS_POSIXACL``)."""
    return bool(inode.i_sb.s_flags & SB_POSIXACL)


def _field(kind: int) -> str:
    return "i_acl" if kind == ACL_TYPE_ACCESS else "i_default_acl"


def get_cached_acl_rcu(inode: Inode, kind: int) -> Cached:
    """Never sleeps.  What the cache holds; the caller is in an RCU read section or does not care
    what comes later.
    """
    return rcu_dereference(inode, _field(kind))  # type: ignore[no-any-return]


get_cached_acl = get_cached_acl_rcu


def set_cached_acl(inode: Inode, kind: int, acl: PosixAcl | None) -> None:
    """Never sleeps.  That is the list now, or None.  Filesystems call it when they have set one."""
    xchg(inode, _field(kind), acl)


def forget_cached_acl(inode: Inode, kind: int) -> None:
    """Never sleeps.  Ask the filesystem the next time; also for who is asking just now."""
    xchg(inode, _field(kind), ACL_NOT_CACHED)


def forget_all_cached_acls(inode: Inode) -> None:
    """Never sleeps.  `forget_cached_acl` for both lists."""
    forget_cached_acl(inode, ACL_TYPE_ACCESS)
    forget_cached_acl(inode, ACL_TYPE_DEFAULT)


def cache_no_acl(inode: Inode) -> None:
    """Never sleeps.  A new inode has no lists: nobody needs to ask."""
    inode.raw_i_acl = None
    inode.raw_i_default_acl = None


def get_acl(inode: Inode, kind: int) -> PosixAcl | None:
    """Sleeps.  The access control list of that type, or None; from the cache, else the filesystem's
    ``get_acl``.

    Args:
        kind: ACL_TYPE_ACCESS or ACL_TYPE_DEFAULT.

    Raises:
        OSError: what the filesystem says.

    The inode's ``i_rwsem`` may or may not be held.  Source: ``get_acl``.
    """
    cached = get_cached_acl(inode, kind)
    if not isinstance(cached, Uncached):
        return cached
    if not is_posixacl(inode):
        return None
    field = _field(kind)
    mark = Reading()
    cmpxchg(inode, field, ACL_NOT_CACHED, mark)
    op = inode.i_op
    if type(op).get_acl is _NO_GET_ACL:
        set_cached_acl(inode, kind, None)
        return None
    try:
        acl: PosixAcl | None = op.get_acl(inode, kind)
    except OSError:
        cmpxchg(inode, field, mark, ACL_NOT_CACHED)
        raise
    cmpxchg(inode, field, mark, acl)
    return acl
