"""``d_delete`` only decides; what takes time can be done when the dentry goes, in ``d_release``,
which may block.
"""

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import Dentry, DentryOperations, SuperBlock


class ArchiveNames(DentryOperations):
    """Names that nobody uses are put into the archive, which is far away."""

    def d_delete(self, dentry: Dentry) -> bool:
        return False


class ArchiveFS(RamFS):
    """ramfs with an archive."""

    name = "archivefs"

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_d_op = ArchiveNames()
        super().fill_super(sb, data)
