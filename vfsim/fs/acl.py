"""POSIX access control lists: what one says, and what follows from it.

A list refines the nine permission bits: beside owner, owning group and others it can name further
users and groups.  Its entries stand in this order, each kind as often as said here::

    ACL_USER_OBJ    the owner             once
    ACL_USER        a user by number      any number
    ACL_GROUP_OBJ   the owning group      once
    ACL_GROUP       a group by number     any number
    ACL_MASK        the most that the three kinds above may have      once, if somebody is named
    ACL_OTHER       everybody else        once

An inode has up to two: the *access* list decides who may do what to it, the *default* list of a
directory is what is created in there inherits.

Lists are immutable here: what Linux edits in a private copy becomes a new list, and nobody counts
references.  Which list an inode has is in `vfsim.fs.acl_cache`; how lists are set, inherited and
shown is in `vfsim.fs.acl_xattr`.  Nothing here sleeps or takes a lock.  The counterpart of the
first half of ``fs/posix_acl.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vfsim.fs.cred import current_cred
from vfsim.sim.errors import EACCES, EINVAL, EIO

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode

ACL_USER_OBJ = 0x01
ACL_USER = 0x02
ACL_GROUP_OBJ = 0x04
ACL_GROUP = 0x08
ACL_MASK = 0x10
ACL_OTHER = 0x20
TAGS = (ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER)

ACL_TYPE_ACCESS = 0x8000
ACL_TYPE_DEFAULT = 0x4000

ACL_UNDEFINED_ID = 0xFFFF_FFFF
"""The id of an entry that names nobody."""

_RWX = 0o7
_ALL = 0o777
_NAMED = (ACL_USER, ACL_GROUP)


@attrs.frozen
class AclEntry:
    """What one party may do.

    Attributes:
        tag: who, one of the ACL_* tags.
        perm: read 4, write 2, execute 1.
        id: the user or group that ACL_USER or ACL_GROUP names.
    """

    tag: int
    perm: int
    id: int = ACL_UNDEFINED_ID


@attrs.frozen
class PosixAcl:
    """A list of entries, in order (Linux: ``struct posix_acl``)."""

    entries: tuple[AclEntry, ...]


_NEXT = {
    ACL_USER_OBJ: {ACL_USER_OBJ: ACL_USER},
    ACL_USER: {ACL_USER: ACL_USER, ACL_GROUP_OBJ: ACL_GROUP},
    ACL_GROUP: {ACL_GROUP: ACL_GROUP, ACL_MASK: ACL_OTHER, ACL_OTHER: 0},
    ACL_OTHER: {ACL_OTHER: 0},
    0: {},
}
"""What may stand next, and what that leads to; 0 is the end."""


def posix_acl_valid(acl: PosixAcl) -> None:
    """Never sleeps.  Return if the entries are in order and complete.

    Raises:
        OSError: EINVAL.

    Source: ``posix_acl_valid``.
    """
    state = ACL_USER_OBJ
    named = masked = False
    for entry in acl.entries:
        follows = _NEXT[state].get(entry.tag)
        if follows is None or entry.perm & ~_RWX:
            raise EINVAL()
        named |= entry.tag in _NAMED
        masked |= entry.tag == ACL_MASK
        state = follows
    if state or (named and not masked):
        raise EINVAL()


def posix_acl_equiv_mode(acl: PosixAcl | None, mode: int) -> tuple[int, bool]:
    """Never sleeps.  ``mode`` with the permission bits that a list amounts to, and whether they say
    all that it says.

    Raises:
        OSError: EINVAL, for an unknown entry.

    Source: ``posix_acl_equiv_mode``.
    """
    if acl is None:
        return mode, True
    bits = 0
    for entry in acl.entries:
        perm = entry.perm & _RWX
        if entry.tag == ACL_USER_OBJ:
            bits |= perm << 6
        elif entry.tag == ACL_GROUP_OBJ:
            bits |= perm << 3
        elif entry.tag == ACL_OTHER:
            bits |= perm
        elif entry.tag == ACL_MASK:
            bits = bits & ~(_RWX << 3) | perm << 3
        elif entry.tag not in _NAMED:
            raise EINVAL()
    return mode & ~_ALL | bits, all(e.tag not in (*_NAMED, ACL_MASK) for e in acl.entries)


def posix_acl_from_mode(mode: int) -> PosixAcl:
    """Never sleeps.  The list that says the same as permission bits.

    Source: ``posix_acl_from_mode``.
    """
    return PosixAcl(
        (
            AclEntry(ACL_USER_OBJ, mode >> 6 & _RWX),
            AclEntry(ACL_GROUP_OBJ, mode >> 3 & _RWX),
            AclEntry(ACL_OTHER, mode & _RWX),
        )
    )


def posix_acl_permission(inode: Inode, acl: PosixAcl, want: int) -> None:
    """Never sleeps.  Return if the list lets the running task do ``want`` (MAY_* bits).

    Raises:
        OSError: EACCES; EIO for a list without an entry for others.

    Source: ``posix_acl_permission``.
    """
    cred = current_cred()
    want &= _RWX
    in_a_group = False
    for n, entry in enumerate(acl.entries):
        tag = entry.tag
        if tag == ACL_USER_OBJ and cred.uid == inode.i_uid:
            return _granted(entry.perm, want)
        if tag == ACL_USER and entry.id == cred.uid:
            return _granted(entry.perm & _mask_after(acl, n), want)
        if tag in (ACL_GROUP_OBJ, ACL_GROUP):
            if cred.in_group(inode.i_gid if tag == ACL_GROUP_OBJ else entry.id):
                in_a_group = True
                if not want & ~entry.perm:
                    return _granted(_mask_after(acl, n), want)
        elif tag == ACL_OTHER:
            return _granted(0 if in_a_group else entry.perm, want)
    raise EIO()


def _granted(perm: int, want: int) -> None:
    if want & ~perm:
        raise EACCES()


def _mask_after(acl: PosixAcl, n: int) -> int:
    return next((e.perm for e in acl.entries[n + 1 :] if e.tag == ACL_MASK), _RWX)


def posix_acl_create_masq(acl: PosixAcl, mode: int) -> tuple[PosixAcl, int, bool]:
    """Never sleeps.  What a new file makes of its directory's default list: the two have no more
    than the other allows.

    Args:
        mode: what the creator asked for, without umask.

    Returns:
        The access list, the mode, and whether the mode says all that the list says.

    Raises:
        OSError: EIO, for a list that is no valid one.

    Source: ``posix_acl_create_masq``.
    """
    allowed = {ACL_USER_OBJ: mode >> 6, _group_class(acl): mode >> 3, ACL_OTHER: mode}
    entries = tuple(
        attrs.evolve(e, perm=e.perm & allowed[e.tag]) if e.tag in allowed else e
        for e in acl.entries
    )
    made = PosixAcl(entries)
    mode, plain = posix_acl_equiv_mode(made, mode)
    return made, mode, plain


def posix_acl_chmod_masq(acl: PosixAcl, mode: int) -> PosixAcl:
    """Never sleeps.  What chmod(2) makes of an access list: the group's bits go to the mask, if
    there is one.

    Raises:
        OSError: EIO, for a list that is no valid one.

    Source: ``posix_acl_chmod_masq``.
    """
    given = {
        ACL_USER_OBJ: mode >> 6 & _RWX,
        _group_class(acl): mode >> 3 & _RWX,
        ACL_OTHER: mode & _RWX,
    }
    return PosixAcl(tuple(attrs.evolve(e, perm=given.get(e.tag, e.perm)) for e in acl.entries))


def _group_class(acl: PosixAcl) -> int:
    """The entry that the group's permission bits stand for."""
    tags = [e.tag for e in acl.entries]
    if ACL_MASK in tags:
        return ACL_MASK
    if ACL_GROUP_OBJ in tags:
        return ACL_GROUP_OBJ
    raise EIO()
