"""What the owner of a file lock does when it is copied or goes away, as the document prints it::

    file_lock_operations

                         inode->i_lock  may block
    fl_copy_lock:        yes            no
    fl_release_private:  maybe          maybe[1]

Called by the code of POSIX locks, flock and leases.  The document says ``i_lock``; since v4.0 the
inode's ``flc_lock`` has its role, and is what the caller holds.
"""

from __future__ import annotations

from typing import Any

from vfsim.checks.contract import Operations
from vfsim.checks.rules import ADAPTED, Lock, MayBlock, cell, prototype, row

FLC = " (since v4.0 the inode's flc_lock has the role of i_lock; reports say i_lock (flc_lock))"
"""What reports add where the document says ``inode->i_lock``."""


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def is_lease(fl: Any) -> bool:
    return bool(fl.is_lease)


# -- the table -------------------------------------------------------------------------------------


class FileLockOperations(Operations):
    """What the owner of a file lock does when it is copied or goes away (``fl.fl_ops``)."""

    table = "file_lock_operations"
    columns = (Lock("inode->i_lock", "any flc_lock"), MayBlock("may block"))

    @prototype("void (*fl_copy_lock)(struct file_lock *, struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + FLC,
        ),
        "no",
    )
    def fl_copy_lock(self, new: Any, fl: Any) -> None:
        """Never sleeps.  A lock was copied: copy what belongs to it."""

    @prototype("void (*fl_release_private)(struct file_lock *);")
    @row(
        cell(
            "maybe",
            not_promised="any flc_lock",
            status=ADAPTED,
            means="with or without flc_lock" + FLC,
        ),
        cell(
            "maybe[1]",
            never_blocks=is_lease,
            prose="P54",
            means="the method may sleep for flock and POSIX locks, and must not for a lease",
        ),
    )
    def fl_release_private(self, fl: Any) -> None:
        """Sleeps.  A lock goes away: free what belongs to it."""
