"""Extended attributes in memory: a store for one inode, as tmpfs and kernfs use it.

A `SimpleXattrs` maps full names to values.  Its own spinlock guards them, because reading holds no
other lock; the newest name is listed first.  The counterpart of ``simple_xattr_*`` in
``fs/xattr.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.acl import ACL_TYPE_ACCESS, ACL_TYPE_DEFAULT
from vfsim.fs.acl_cache import Uncached, get_cached_acl, is_posixacl
from vfsim.fs.acl_xattr import XATTR_NAME_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_DEFAULT
from vfsim.fs.process import CAP_SYS_ADMIN, capable
from vfsim.fs.xattr import XATTR_CREATE, XATTR_REPLACE, XATTR_TRUSTED_PREFIX
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import EEXIST, ENODATA

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode


class SimpleXattrs:
    """The attributes of one inode (Linux: ``struct simple_xattrs``)."""

    __slots__ = ("_values", "lock")

    def __init__(self) -> None:
        self.lock = SpinLock("xattrs_lock")
        self._values: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """Never sleeps.  The value.  Raises ENODATA.  Takes the lock."""
        with self.lock:
            value = self._values.get(name)
        if value is None:
            raise ENODATA()
        return value

    def set(self, name: str, value: bytes | None, flags: int) -> None:
        """Sleeps.  Set it; None removes it, and then it never sleeps.

        Args:
            flags: XATTR_CREATE: EEXIST if it is there; XATTR_REPLACE: ENODATA if it is not.

        Raises:
            OSError: ENOMEM, EEXIST, ENODATA.

        Takes the lock.
        """
        if value is not None:
            kmalloc()
        with self.lock:
            if name in self._values:
                if flags & XATTR_CREATE:
                    raise EEXIST()
            elif flags & XATTR_REPLACE:
                raise ENODATA()
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value

    def names(self) -> list[str]:
        """Never sleeps.  All names, the newest first.  Takes the lock."""
        with self.lock:
            return list(reversed(self._values))


def simple_xattr_list(inode: Inode, xattrs: SimpleXattrs | None) -> list[str]:
    """Never sleeps.  What ``listxattr`` shows: the lists in the cache, then the stored names, but
    ``trusted.`` ones only with CAP_SYS_ADMIN.

    Source: ``simple_xattr_list``.
    """
    found = []
    if is_posixacl(inode):
        for kind, name in _ACLS:
            acl = get_cached_acl(inode, kind)
            if acl is not None and not isinstance(acl, Uncached):
                found.append(name)
    if xattrs is not None:
        trusted = capable(CAP_SYS_ADMIN)
        found += [n for n in xattrs.names() if trusted or not n.startswith(XATTR_TRUSTED_PREFIX)]
    return found


_ACLS = (
    (ACL_TYPE_ACCESS, XATTR_NAME_POSIX_ACL_ACCESS),
    (ACL_TYPE_DEFAULT, XATTR_NAME_POSIX_ACL_DEFAULT),
)
