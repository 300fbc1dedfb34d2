"""``kill_sb`` returns with the superblock still locked.

It "takes a write-locked superblock, does all shutdown work on it, unlocks and drops the
reference". This one shuts down by hand, and takes the lock again for a last look.

Rule: P16
Blamed: filesystem LastLook.kill_sb
"""

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs import SuperBlock, kill_litter_super


class LastLook(RamFS):
    """ramfs that looks back."""

    name = "lastlook"
    last_seen = ""

    def kill_sb(self, sb: SuperBlock) -> None:
        kill_litter_super(sb)
        sb.s_umount.down_write()
        self.last_seen = sb.s_id
