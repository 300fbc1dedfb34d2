"""A read from a slow place, under a spinlock.

Whoever holds a spinlock keeps a CPU, and whoever wants it burns another one. So nobody may sleep
while holding one, and waiting for the clock is sleeping.

Rule: lockdep.sleep-in-atomic
Blamed: filesystem TapeDir
"""

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
        with reel.lock:
            reel.position += 1
            msleep(3)  # wind the tape
        super().create(dir, dentry, mode, excl)


class TapeFS(RamFS):
    """ramfs, on tape."""

    name = "tapefs"
    directory = TapeDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Reel()
