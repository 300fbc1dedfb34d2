"""One name in one directory: from the dcache if it is there, from the filesystem if not.

Four ways in, which differ in the lock of the directory:

================  =======================  =========================================================
function          directory's ``i_rwsem``  used by
================  =======================  =========================================================
`lookup_fast`     not held                 every path component of a walk with references; the
                                           dcache only
`lookup_slow`     taken shared here        every path component that the dcache does not know
`lookup_hash`     held exclusive           the last name of create, unlink, rename: the answer must
                                           not change
`lookup_one_len`  held exclusive           filesystems that look up one of their own names, or of a
                                           filesystem below; ``lookup_one_len_unlocked``: not held
================  =======================  =========================================================

Lookups of *different* names in one directory run in parallel, under the shared lock.  Two of the
*same* name never do: `d_alloc_parallel` gives the dentry "in lookup" to the first and lets the
others wait for it (rule E3).  No filesystem is asked about a directory that was removed (rule E5).

Each function returns a dentry with a reference that the caller must `dput`; a negative dentry is an
answer too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.fs.dcache import (
    DCACHE_OP_REVALIDATE,
    d_alloc,
    d_alloc_parallel,
    d_in_lookup,
    d_invalidate,
    d_lookup,
    d_lookup_done,
    d_lookup_fast,
    dput,
)
from vfsim.fs.inode import S_DEAD
from vfsim.fs.permission import MAY_EXEC, inode_permission
from vfsim.sim.errors import EACCES, ENAMETOOLONG, ENOENT

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode

NAME_MAX = 255

LOOKUP_FOLLOW = 0x0001
LOOKUP_DIRECTORY = 0x0002
LOOKUP_AUTOMOUNT = 0x0004
LOOKUP_PARENT = 0x0010
LOOKUP_REVAL = 0x0020
LOOKUP_RCU = 0x0040
LOOKUP_OPEN = 0x0100
LOOKUP_CREATE = 0x0200
LOOKUP_EXCL = 0x0400
LOOKUP_RENAME_TARGET = 0x0800
LOOKUP_JUMPED = 0x1000
LOOKUP_ROOT = 0x2000
LOOKUP_EMPTY = 0x4000


def check_name(name: str) -> None:
    """Never sleeps.  Raise ENAMETOOLONG if ``name`` has more than 255 bytes.

    Asked right before the filesystem would be, where Linux's filesystems ask it themselves.
    """
    if len(name) > NAME_MAX or (not name.isascii() and len(os.fsencode(name)) > NAME_MAX):
        raise ENAMETOOLONG()


def still_valid(dentry: Dentry, flags: int) -> bool:
    """Sleeps.  Ask the filesystem whether what the dcache knows still holds; consumes the reference
    if not.

    A stale dentry is thrown out of the dcache.  Source: ``d_revalidate`` and its callers.
    """
    try:
        valid = dentry.d_op.d_revalidate(dentry, flags)
    except OSError:
        dput(dentry)
        raise
    if not valid:
        d_invalidate(dentry)
        dput(dentry)
    return valid


def lookup_fast(parent: Dentry, name: str, flags: int) -> Dentry | None:
    """Sleeps.  The dentry if the dcache has it and it is valid, else None.

    Source: ``lookup_fast`` (ref-walk).
    """
    dentry = d_lookup_fast(parent, name)
    if (
        dentry is not None
        and dentry.d_flags & DCACHE_OP_REVALIDATE
        and not still_valid(dentry, flags)
    ):
        return None
    return dentry


def lookup_slow(parent: Dentry, name: str, flags: int) -> Dentry:
    """Sleeps.  Ask the filesystem, under the directory's lock shared.

    Raises:
        OSError: ENOENT (the directory was removed), ENAMETOOLONG, or what the filesystem says.

    Source: ``lookup_slow``.
    """
    dir = parent.d_inode
    assert dir is not None
    sem = dir.i_rwsem
    sem.down_read()
    try:
        if dir.i_flags & S_DEAD:
            raise ENOENT()
        while True:
            dentry = d_alloc_parallel(parent, name)
            if d_in_lookup(dentry):
                return finish_lookup(dir, dentry, flags)
            if not dentry.d_flags & DCACHE_OP_REVALIDATE or still_valid(dentry, flags):
                return dentry
    finally:
        sem.up_read()


def finish_lookup(dir: Inode, dentry: Dentry, flags: int) -> Dentry:
    """Sleeps.  Have the filesystem look up an in-lookup dentry, and let those wait no longer who
    want the same name.

    Consumes the reference on ``dentry``; returns one on the answer, which may be another dentry.
    """
    try:
        check_name(dentry.d_name)
        found = dir.i_op.lookup(dir, dentry, flags)
    except Exception:
        d_lookup_done(dentry)
        dput(dentry)
        raise
    d_lookup_done(dentry)
    if found is None:
        return dentry
    dput(dentry)
    return found


def lookup_hash(parent: Dentry, name: str, flags: int) -> Dentry:
    """Sleeps.  The dentry of ``name``, for a caller that holds the directory exclusive and is about
    to change it.

    Raises:
        OSError: as `lookup_slow`.

    Source: ``__lookup_hash``.
    """
    dentry = d_lookup(parent, name)
    if dentry is not None and (
        not dentry.d_flags & DCACHE_OP_REVALIDATE or still_valid(dentry, flags)
    ):
        return dentry
    dir = parent.d_inode
    assert dir is not None
    if dir.i_flags & S_DEAD:
        raise ENOENT()
    check_name(name)
    dentry = d_alloc(parent, name)
    try:
        found = dir.i_op.lookup(dir, dentry, flags)
    except Exception:
        dput(dentry)
        raise
    if found is None:
        return dentry
    dput(dentry)
    return found


def lookup_one_len(name: str, parent: Dentry) -> Dentry:
    """Sleeps.  One name, without slashes, of a directory whose lock the caller holds exclusive.

    Raises:
        OSError: EACCES for "", ".", ".." and names with a slash; else as `lookup_hash`.

    Source: ``lookup_one_len``.
    """
    _may_look(name, parent)
    return lookup_hash(parent, name, 0)


def lookup_one_len_unlocked(name: str, parent: Dentry) -> Dentry:
    """Sleeps.  As `lookup_one_len`, for a caller that does not hold the directory's lock.

    Raises:
        OSError: as `lookup_one_len`.

    Takes ``i_rwsem`` shared, if the dcache does not know the name.  Source:
    ``lookup_one_len_unlocked``.
    """
    _may_look(name, parent)
    dentry = lookup_fast(parent, name, 0)
    return lookup_slow(parent, name, 0) if dentry is None else dentry


def _may_look(name: str, parent: Dentry) -> None:
    if name in ("", ".", "..") or "/" in name:
        raise EACCES()
    assert parent.d_inode is not None
    inode_permission(parent.d_inode, MAY_EXEC)
