"""What a dentry is stands in two places, and walks that believed one of them."""

from __future__ import annotations

import os
from stat import S_ISLNK
from typing import Any

from tests.zoo.processes import Patches, caught, quietly
from vfsim.fs.dcache import Dentry
from vfsim.fs.dentry import d_chain
from vfsim.fs.inode import Inode
from vfsim.fs.lookup import LOOKUP_RCU
from vfsim.fs.syscalls import Sys

# -- RW-08: fix races between __d_instantiate() and checks of dentry flags (v3.15) -----------------


POSITIVE = 1 << 40
"""A bit of d_flags that says that there is an inode, as Linux has one for each type."""


def two_stores(real: Any, dentry: Dentry, inode: Inode) -> None:
    """__d_instantiate() as it was: first the type, then the inode."""
    dentry.d_flags |= POSITIVE
    real(dentry, inode)


def two_loads(real: Any, nd: Any, name: str) -> Any:
    """A walk as it was: the inode, and then by the flags whether there is one."""
    known = tuple(d_chain(nd.dentry, name))
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


# -- RW-14: should_follow_link(): validate ->d_seq after having decided to follow (v4.5) -----------


def asks_what_it_saw_before(real: Any, nd: Any, name: str) -> Any:
    """A walk as it was: whether to follow is told by what the dentry is now, whose text is asked of
    the inode that it was.
    """
    step = real(nd, name)
    if step is None or not nd.flags & LOOKUP_RCU:
        return step
    _, dentry, inode, _ = step
    now = dentry.d_inode
    if now is not None and S_ISLNK(now.i_mode) and not S_ISLNK(inode.i_mode):
        inode.i_op.get_link(None, inode)  # it is none: EINVAL
    return step


def a_file(sys: Sys) -> None:
    """/a, and /b."""
    for name in ("/a", "/b"):
        sys.close(sys.open(name, os.O_CREAT | os.O_WRONLY))


def follower(sys: Sys) -> None:
    """Finds a file, nothing, or what the link leads to."""
    try:
        sys.stat("/a")
    except FileNotFoundError:
        pass


def replacer(sys: Sys) -> None:
    """The file becomes a link, in the same dentry."""
    sys.unlink("/a")
    sys.symlink("/b", "/a")


def test_rw_14() -> None:
    """The text of a link is asked of the file that had the name before: an error that no order of
    the calls explains.
    """
    patches: Patches = {"vfsim.fs.rcu_walk.lookup_rcu": asks_what_it_saw_before}
    assert caught(a_file, (follower, replacer), patches, strategies=("pos",)) == "seq.unasked"
