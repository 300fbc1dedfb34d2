"""``drop_inode`` takes a mutex.

The kernel asks ``drop_inode`` whether to forget an inode while it holds the inode's spinlock:
"!!!inode->i_lock!!!", as the contract puts it. A mutex may sleep, so it must not be taken there.

Rule: P7
Blamed: filesystem CountingSuper.drop_inode
"""

from vfsim.filesystems.ramfs import RamFS, RamSuper
from vfsim.fs import Inode, SuperBlock
from vfsim.locks import Mutex


class Counter:
    """How many inodes came and went."""

    def __init__(self) -> None:
        self.lock = Mutex("inode_counter")  # guards dropped
        self.dropped = 0


class CountingSuper(RamSuper):
    """Counts the inodes that are let go."""

    def drop_inode(self, inode: Inode) -> bool:
        counter: Counter = inode.i_sb.s_fs_info
        with counter.lock:
            counter.dropped += 1
        return super().drop_inode(inode)


class CountFS(RamFS):
    """ramfs that counts."""

    name = "countfs"
    super = CountingSuper()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        RamFS.fill_super(self, sb, data)
        sb.s_fs_info = Counter()
