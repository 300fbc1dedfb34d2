"""A clean filesystem whose dentries are managed: triggers, transits, and another dentry beneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeDirectory, WholeNames
from vfsim.fs.dcache import DCACHE_MANAGE_TRANSIT, DCACHE_NEED_AUTOMOUNT
from vfsim.fs.mount import mntget
from vfsim.fs.namespace import vfs_kern_mount
from vfsim.sim.errors import ECHILD
from vfsim.testing.selftest.mutants import Ground

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount, Path
    from vfsim.fs.operations import DentryOperations, InodeOperations


class ManagedNames(WholeNames):
    """Names that are more than they seem."""

    def d_automount(self, path: Path) -> Mount | None:
        """Sleeps.  An empty ramfs; one reference for the tree, one for the walk."""
        return mntget(vfs_kern_mount(RamFS(), 0, "auto", None))

    def d_manage(self, path: Path, rcu_walk: bool) -> None:
        """Never sleeps.  Go ahead; but to "slow" with references only."""
        if rcu_walk and path.dentry.d_name == "slow":
            raise ECHILD()

    def d_real(self, dentry: Dentry, inode: Inode | None, open_flags: int) -> Dentry:
        """Never sleeps.  Itself."""
        return dentry


class ManagedDirectory(WholeDirectory):
    """Some names become triggers, others ask to be asked."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  A new directory."""
        super().mkdir(dir, dentry, mode)
        with dentry.d_lock:
            if dentry.d_name == "auto":
                dentry.d_flags |= DCACHE_NEED_AUTOMOUNT
            if dentry.d_name in ("held", "slow"):
                dentry.d_flags |= DCACHE_MANAGE_TRANSIT


class ManagedGround(Ground):
    """Names have ``d_automount``, ``d_manage`` and ``d_real``."""

    names: DentryOperations = ManagedNames()
    directory: InodeOperations = ManagedDirectory()
