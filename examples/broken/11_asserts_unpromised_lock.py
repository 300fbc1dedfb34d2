"""A method relies on a lock that nobody promised.

Whoever removes a file has its directory locked when ``permission`` is asked; whoever walks through
the directory has not. The contract says "no" for ``permission``: not held, or at least not
promised.

Rule: inode_operations.permission.i_mutex(inode)
Blamed: filesystem StrictDir.permission
"""

from vfsim.checks.calls import assert_held
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Inode, generic_permission


class StrictDir(RamDirectory):
    """A directory that counts who asks."""

    def permission(self, inode: Inode, mask: int) -> None:
        assert_held(inode.i_rwsem)
        inode.i_private = (inode.i_private or 0) + 1
        generic_permission(inode, mask)


class StrictFS(RamFS):
    """ramfs at the door."""

    name = "strictfs"
    directory = StrictDir()
