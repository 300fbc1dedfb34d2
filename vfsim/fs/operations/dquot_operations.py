"""What a filesystem wraps around the generic quota operations, as the document prints it::

    dquot_operations

                    FS recursion  Held locks when called
    write_dquot:    yes           dqonoff_sem or dqptr_sem
    acquire_dquot:  yes           dqonoff_sem or dqptr_sem
    release_dquot:  yes           dqonoff_sem or dqptr_sem
    mark_dirty:     no            -
    write_info:     yes           dqonoff_sem

Called when a quota entry is read first, changed, written and put last.  One of the quota locks is
held, so that quota cannot be turned off meanwhile.  *FS recursion* means that the method may come
back into the filesystem through ``quota_read`` and ``quota_write``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.rules import ADAPTED, Note, cell, prototype, row, watch
from vfsim.sim.errors import ENOSYS
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.super import SuperBlock


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def under_a_quota_lock(dquot: Any) -> bool:
    quota = dquot.dq_sb.s_dquot
    return any(lock.owner is K.cur for lock in (quota.dqonoff_sem, quota.dqptr_sem))


# -- what `watch` looks at -------------------------------------------------------------------------


def marks_recursion(call: Call) -> Iterator[None]:
    """P75: while it runs, quota_read and quota_write must not (see `not_from_mark_dirty`)."""
    yield


# -- the table -------------------------------------------------------------------------------------


class DquotOperations(Operations):
    """What a filesystem wraps around the generic quota operations (``sb.dq_op``)."""

    table = "dquot_operations"
    columns = (Note("FS recursion"), Note("Held locks when called"))

    @prototype("int (*write_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def write_dquot(self, dquot: Any) -> None:
        """Sleeps.  Write a dquot that is in use.

        Left out: ``dquot_commit``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*acquire_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def acquire_dquot(self, dquot: Any) -> None:
        """Sleeps.  Read a dquot on its first use.

        Left out: ``dquot_acquire``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*release_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def release_dquot(self, dquot: Any) -> None:
        """Sleeps.  Let go of a dquot on its last put.

        Left out: ``dquot_release``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*mark_dirty) (struct dquot *);")
    @row(
        cell(
            "no",
            status=ADAPTED,
            means="the method does not call quota_read and quota_write; with journalled quota "
            "the filesystem may, and says so",
        ),
        cell("-", status="not promised", means="no lock may be relied on"),
    )
    @watch(marks_recursion)
    def mark_dirty(self, dquot: Any) -> None:
        """Sleeps.  A dquot was changed.  Left out: it is written with the next sync."""

    @prototype("int (*write_info) (struct super_block *, int);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell("dqonoff_sem", held="sb.s_dquot.dqonoff_sem"),
    )
    def write_info(self, sb: SuperBlock, type: int) -> None:
        """Sleeps.  Write the header of the quota file.

        Left out: ``dquot_commit_info``, once quota exists here.
        """
        raise ENOSYS()
