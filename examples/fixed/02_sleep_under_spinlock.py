"""The tape is wound before the spinlock is taken: what is under it only moves numbers."""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import SpinLock
from vfsim.sim.scheduler import msleep


class Reel:
    """Where the tape stands."""

    def __init__(self) -> None:
        self.lock = SpinLock("tape_reel")  # guards position
        self.position = 0


class TapeDir(RamDirectory):
    """A directory on a tape: making a file winds it on."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        reel: Reel = dir.i_sb.s_fs_info
        msleep(3)  # wind the tape
        with reel.lock:
            reel.position += 1
        super().create(dir, dentry, mode, excl)


class TapeFS(RamFS):
    """ramfs, on tape."""

    name = "tapefs"
    directory = TapeDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Reel()
