"""What a lock manager (lockd, the lease code) does for its locks, as the document prints it::

    lock_manager_operations

                       inode->i_lock  blocked_lock_lock  may block
    lm_compare_owner:  yes[1]         maybe              no
    lm_owner_key:      yes[1]         yes                no
    lm_notify:         yes            yes                no
    lm_grant:          no             no                 no
    lm_break:          yes            no                 no
    lm_change:         yes            no                 no

Called by the code of POSIX locks and leases when two locks are compared, a waiter is let go, an
answer arrives or a lease is broken.  ``flc_lock`` (the document's ``i_lock``) covers the inode's
list of locks, ``blocked_lock_lock`` the hash of those that wait; under either nothing sleeps.
"""

from __future__ import annotations

from typing import Any

from vfsim.checks.contract import Operations
from vfsim.checks.rules import ADAPTED, Lock, MayBlock, cell, prototype, row
from vfsim.fs.operations.file_lock_operations import FLC


class LockManagerOperations(Operations):
    """What a lock manager (lockd, the lease code) does for its locks (``fl.fl_lmops``)."""

    table = "lock_manager_operations"
    columns = (
        Lock("inode->i_lock", "any flc_lock"),
        Lock("blocked_lock_lock", "@blocked_lock_lock"),
        MayBlock("may block"),
    )

    @prototype("int (*lm_compare_owner)(struct file_lock *, struct file_lock *);")
    @row(
        cell(
            "yes[1]",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds some inode's flc_lock, not necessarily one of these locks'"
            + FLC,
        ),
        "maybe",
        "no",
    )
    def lm_compare_owner(self, fl1: Any, fl2: Any) -> bool:
        """Never sleeps.  Have the two locks one owner?  Left out: if ``fl_owner`` is the same."""
        return fl1.fl_owner is fl2.fl_owner

    @prototype("unsigned long (*lm_owner_key)(struct file_lock *);")
    @row(
        cell(
            "yes[1]",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds some inode's flc_lock, not necessarily this lock's" + FLC,
        ),
        "yes",
        "no",
    )
    def lm_owner_key(self, fl: Any) -> Any:
        """Never sleeps.  A key that equal owners share, for the hash of waiters.

        Left out: ``fl_owner``.
        """
        return fl.fl_owner

    @prototype("void (*lm_notify)(struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + FLC,
        ),
        "yes",
        "no",
    )
    def lm_notify(self, fl: Any) -> None:
        """Never sleeps.  The lock that ``fl`` waited for is gone.

        Left out: its waiter is woken.
        """

    @prototype("int (*lm_grant)(struct file_lock *, struct file_lock *, int);")
    @row("no", "no", "no")
    def lm_grant(self, fl: Any, result: int) -> int:
        """Never sleeps.  An asynchronous request was answered: ``result`` is 0 or an errno.

        Left out: 0.
        """
        return 0

    @prototype("void (*lm_break)(struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + FLC,
        ),
        "no",
        "no",
    )
    def lm_break(self, fl: Any) -> bool:
        """Never sleeps.  Somebody wants the lease: tell its holder.  True drops it at once.

        Left out: False.
        """
        return False

    @prototype("int (*lm_change)(struct file_lock **, int);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + FLC,
        ),
        "no",
        "no",
    )
    def lm_change(self, fl: Any, arg: int, dispose: Any) -> int:
        """Never sleeps.  Change the lease's type to ``arg``.  Left out: 0, and nothing changes."""
        return 0
