"""Extended attributes, as the document prints it::

    xattr_handler

           i_mutex(inode)
    list:  no
    get:   no
    set:   yes

    all may block

Called for getxattr(2), setxattr(2), removexattr(2) and listxattr(2), on the handler of the
superblock whose prefix the name begins with.  Whoever sets or removes one holds the inode's
``i_rwsem`` exclusive; readers hold nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from vfsim.checks.contract import Operations
from vfsim.checks.rules import Lock, cannot_fail, expects, prototype, row
from vfsim.fs.operations.freeze_rules import (
    the_write_level_is_held_outside_of_the_inode,
)
from vfsim.sim.errors import EOPNOTSUPP

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode


class XattrHandler(Operations):
    """Extended attributes whose names begin with ``prefix``, or the one that is called ``name``.

    A superblock lists its handlers in ``s_xattr``; the first that fits a name does the work.

    Attributes:
        prefix: the first part of the names, with its dot; or empty, and then
        name: the whole name.
    """

    table = "xattr_handler"
    columns = (Lock("i_mutex(inode)", "inode.i_rwsem", "dentry.d_inode.i_rwsem"),)
    blanket = "all may block"
    blanket_rule = "P5"

    prefix: ClassVar[str] = ""
    name: ClassVar[str] = ""

    @prototype("bool (*list)(struct dentry *dentry);")
    @row("no")
    @cannot_fail
    def list(self, dentry: Dentry) -> bool:
        """Sleeps.  Does listxattr(2) show them to this task?  Left out: yes."""
        return True

    @prototype(
        "int (*get)(const struct xattr_handler *handler, struct dentry *dentry, struct inode "
        "*inode, const char *name, void *buffer, size_t size);"
    )
    @row("no", not_promised="inode.i_rwsem")
    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Sleeps.  The value of ``name`` (without the prefix), or ENODATA.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

    @prototype(
        "int (*set)(const struct xattr_handler *handler, struct dentry *dentry, struct inode "
        "*inode, const char *name, const void *buffer, size_t size, int flags);"
    )
    @row("yes")
    @expects(the_write_level_is_held_outside_of_the_inode, rule="E6")
    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Sleeps.  Set the attribute; ``value`` None removes it.  ``flags``: XATTR_CREATE,
        XATTR_REPLACE.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()
