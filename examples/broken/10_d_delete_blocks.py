"""``d_delete`` waits.

When the last reference on a name is put, ``d_delete`` is asked whether to keep the name. The
name's spinlock is held, and "may block" says no.

Rule: dentry_operations.d_delete.may block
Blamed: filesystem ArchiveNames.d_delete
"""

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import Dentry, DentryOperations, SuperBlock
from vfsim.sim.scheduler import msleep


class ArchiveNames(DentryOperations):
    """Names that nobody uses are put into the archive, which is far away."""

    def d_delete(self, dentry: Dentry) -> bool:
        msleep(1)
        return False


class ArchiveFS(RamFS):
    """ramfs with an archive."""

    name = "archivefs"

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_d_op = ArchiveNames()
        super().fill_super(sb, data)
