"""The locking contract of names, inodes, superblocks, files, locks and quota: a page per table.

=============================  ===================================================================
page                           what a filesystem says there
=============================  ===================================================================
`dentry_operations`            how names compare, and whether cached ones are still right
`inode_operations`             names in a directory, attributes of anything
`xattr_handler`                extended attributes
`super_operations`             the filesystem as a whole, and inodes as such
`file_system_type`             how to mount one and how to end it
`file_lock_operations`         the private part of a file lock
`lock_manager_operations`      what a lock manager does for its locks
`file_operations`              open files
`dquot_operations`             quota
=============================  ===================================================================

Each page opens with its table as the document prints it.  Above each method stands its row, in the
document's words; what the words mean for the locks at hand is said beside them where the column's
title does not (see `vfsim.checks.rules`).  Rules that no column holds are in `vfsim.fs.prose`, and
checked by the functions that stand above the table.

A filesystem subclasses a table and writes the methods it has; **a method left out does what the
method here does**, which is what Linux does for NULL, with Linux's errno.  Overrides inherit the
row: nothing is declared twice.

Each page says who calls the methods in Linux; which of them nobody calls here is listed in
`vfsim.testing.selftest.contract.without`.

Names, order and meaning of parameters are v4.10's, with Python values: user pointers are bytes,
out-parameters are results, an errno is raised as ``OSError`` (``raise ENOSPC()``): but not by the
methods marked `cannot_fail`, which in C return void or a truth, and whose callers go on regardless.
"""

from __future__ import annotations

from vfsim.fs import prose as prose
from vfsim.fs.operations.bits import LOOKUP_RCU, MAY_NOT_BLOCK
from vfsim.fs.operations.dentry_operations import DentryOperations
from vfsim.fs.operations.dquot_operations import DquotOperations
from vfsim.fs.operations.file_lock_operations import FileLockOperations
from vfsim.fs.operations.file_operations import FileOperations
from vfsim.fs.operations.file_system_type import FileSystemType
from vfsim.fs.operations.inode_operations import InodeOperations
from vfsim.fs.operations.lock_manager_operations import LockManagerOperations
from vfsim.fs.operations.super_operations import SuperOperations
from vfsim.fs.operations.xattr_handler import XattrHandler

__all__ = [
    "LOOKUP_RCU",
    "MAY_NOT_BLOCK",
    "DentryOperations",
    "DquotOperations",
    "FileLockOperations",
    "FileOperations",
    "FileSystemType",
    "InodeOperations",
    "LockManagerOperations",
    "SuperOperations",
    "XattrHandler",
]
