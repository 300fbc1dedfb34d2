"""A wake-up that comes between the look and the sleep is lost.

There is one window, and one task at a time may stand at it. Who finds it occupied looks, lets go
of the lock, and sleeps until somebody wakes it. If the window is left in between, nobody ever
will.

Rule: wait.lost-wakeup
Blamed: filesystem WindowDir.create
"""

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import SpinLock, WaitQueue
from vfsim.sim.scheduler import cond_resched


class Window:
    """One at a time, please."""

    def __init__(self) -> None:
        self.lock = SpinLock("window")  # guards occupied
        self.occupied = False
        self.line = WaitQueue("the line")

    def step_up(self) -> bool:
        """Never sleeps.  Occupy the window if it is free; returns whether it was."""
        with self.lock:
            free = not self.occupied
            self.occupied = True
        return free

    def enter(self) -> None:
        """Sleeps.  Wait for the window to be free, and step up."""
        while not self.step_up():
            self.line.sleep_on()

    def leave(self) -> None:
        """Never sleeps.  Step back, and call the next."""
        with self.lock:
            self.occupied = False
        self.line.wake_up()


class WindowDir(RamDirectory):
    """A directory of which new files are made at the window."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        window: Window = dir.i_sb.s_fs_info
        window.enter()
        cond_resched()  # the clerk thinks
        window.leave()
        super().create(dir, dentry, mode, excl)


class WindowFS(RamFS):
    """ramfs with opening hours."""

    name = "windowfs"
    directory = WindowDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Window()
