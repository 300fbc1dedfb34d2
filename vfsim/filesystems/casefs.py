"""casefs: ramfs in which ``README``, ``Readme`` and ``readme`` are one name.

Three methods make the difference, and they must agree:

=================  =======================================================================
``d_hash``         names that are equal have equal keys: the folded name
``d_compare``      equal is who is equal folded
``d_revalidate``   a cached "there is no such name" does not stand for whoever creates it
=================  =======================================================================

The last one is why a case-insensitive filesystem needs more than two.  A name keeps the spelling of
whoever creates it, but the negative dentry that is found has the spelling of whoever asked for it
first: it is thrown away, and the new one is spelt as wanted.

All three run in rcu-walk, too, and none of them sleeps, so a walk never has to leave it for them.
The counterpart of what ``fs/fat/namei_vfat.c`` of v4.10 does about names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.lookup import LOOKUP_CREATE, LOOKUP_RENAME_TARGET
from vfsim.fs.operations import DentryOperations

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.super import SuperBlock


class CaseNames(DentryOperations):
    """Names without case."""

    def d_hash(self, dentry: Dentry, name: str) -> str:
        """Never sleeps.  The folded name."""
        return name.casefold()

    def d_compare(self, dentry: Dentry, len: int, str: str, name: str) -> int:
        """Never sleeps.  0 if they are equal but for case."""
        return int(str.casefold() != name.casefold())

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Never sleeps.  A name that is to be made is looked up afresh, in its own spelling."""
        return dentry.d_inode is not None or not flags & (LOOKUP_CREATE | LOOKUP_RENAME_TARGET)


class CaseFS(RamFS):
    """The type.  names: the table of its dentries; the others are `RamFS`'s."""

    name = "casefs"
    names: DentryOperations = CaseNames()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  As ramfs; each dentry gets the table when it is made."""
        sb.s_d_op = self.names
        super().fill_super(sb, data)
