"""RW-08: what a dentry is stands in two places, which are written one after the other."""

from __future__ import annotations

import os
from typing import Any

from tests.zoo.processes import Patches, caught, quietly
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import Inode
from vfsim.fs.syscalls import Sys

POSITIVE = 1 << 40
"""A bit of d_flags that says that there is an inode, as Linux has one for each type."""


def two_stores(real: Any, dentry: Dentry, inode: Inode) -> None:
    """__d_instantiate() as it was: first the type, then the inode."""
    dentry.d_flags |= POSITIVE
    real(dentry, inode)


def two_loads(real: Any, nd: Any, name: str) -> Any:
    """A walk as it was: the inode, and then by the flags whether there is one."""
    known = (nd.dentry.d_hashtable or {}).get(name, ())
    try:
        return real(nd, name)
    except FileNotFoundError:
        for dentry in known:
            if dentry.d_flags & POSITIVE:
                return nd.mnt, dentry, None, 0
        raise


def looked_for(sys: Sys) -> None:
    """A name that is known not to exist."""
    quietly(sys.stat, "/a")


def creator(sys: Sys) -> None:
    """Makes it exist."""
    sys.close(sys.open("/a", os.O_CREAT | os.O_WRONLY))


def test_rw_08() -> None:
    """The flags say that there is an inode, and there is none yet."""
    patches: Patches = {
        "vfsim.fs.dcache._attach": two_stores,
        "vfsim.fs.rcu_walk.lookup_rcu": two_loads,
    }
    assert caught(looked_for, (creator, looked_for), patches) == "AttributeError"
