"""``kill_sb`` looks first, and then lets the kernel shut the superblock down and unlock it."""

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import SuperBlock, kill_litter_super


class LastLook(RamFS):
    """ramfs that looks back."""

    name = "lastlook"
    last_seen = ""

    def kill_sb(self, sb: SuperBlock) -> None:
        self.last_seen = sb.s_id
        kill_litter_super(sb)
