"""autofs: directories in which a filesystem appears when somebody goes in, and goes when unused.

The root has one directory for each name of a *map*, which says what belongs there.  Its dentry is
managed (`vfsim.fs.managed`), so a path walk asks two methods before it steps on it::

    d_manage      is somebody mounting here just now?  Then wait; in rcu-walk ECHILD, for waiting
                  sleeps
    d_automount   nothing is mounted: the first one mounts, whoever comes meanwhile waits.  None:
                  it is there now, look again

The mount is on a list of those that expire.  A work looks at the list every `EXPIRE` ms: found
unused twice in a row, a mount goes, and the next one who comes has it mounted anew.

``lock`` guards who is mounting where.  It is never held while anybody sleeps: the mounting itself
takes ``namespace_sem``.  The counterpart of ``fs/autofs4`` of v4.10, but that the kernel mounts
here, where Linux wakes a daemon, and that mounts expire as in ``fs/afs/mntpt.c``.
"""

from __future__ import annotations

from stat import S_IFDIR
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from vfsim.filesystems.libfs import simple_lookup
from vfsim.filesystems.ramfs import RamFS, RamListing, RamSuper, ramfs_get_inode
from vfsim.fs.dcache import (
    DCACHE_MANAGE_TRANSIT,
    DCACHE_NEED_AUTOMOUNT,
    Dentry,
    d_add,
    d_alloc,
    dget,
)
from vfsim.fs.inode import inc_nlink
from vfsim.fs.managed import finish_automount
from vfsim.fs.mount import (
    Path,
    lookup_mnt,
    mntget,
    mntput,
    path_put,
)
from vfsim.fs.namespace import vfs_kern_mount
from vfsim.fs.operations import DentryOperations, FileSystemType, InodeOperations, SuperOperations
from vfsim.fs.umount import mark_mounts_for_expiry, mnt_set_expiry
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.errors import ECHILD
from vfsim.sim.workqueue import DelayedWork, cancel_delayed_work_sync, schedule_delayed_work

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount
    from vfsim.fs.super import SuperBlock

EXPIRE = 100
"""How often unused mounts are looked for, in ms."""
NS_PER_MS = 1_000_000


@attrs.define(eq=False)
class AutoInfo:
    """The state of one autofs (s_fs_info).

    Attributes:
        map: what belongs where.  expiring: the mounts.  work: looks at them.
        mounting: where somebody is mounting.  lock: guards it.  queue: who waits for that.
    """

    map: dict[str, FileSystemType]
    expiring: dict[Mount, None] = attrs.field(factory=dict)
    work: DelayedWork = attrs.field(init=False)
    mounting: dict[Dentry, None] = attrs.field(factory=dict)
    lock: SpinLock = attrs.field(factory=lambda: SpinLock("autofs"))
    queue: WaitQueue = attrs.field(factory=lambda: WaitQueue("autofs"))

    def __attrs_post_init__(self) -> None:
        self.work = DelayedWork(self.expire, "autofs expiry")

    def expire(self, work: Any) -> None:
        """Sleeps.  Look at the mounts, and again later if there are any left."""
        mark_mounts_for_expiry(self.expiring)
        if self.expiring:
            schedule_delayed_work(self.work, EXPIRE * NS_PER_MS)

    def begin(self, dentry: Dentry) -> bool:
        """Never sleeps.  Whether the caller may mount there now: nobody else does."""
        with self.lock:
            free = dentry not in self.mounting
            self.mounting[dentry] = None
        return free

    def end(self, dentry: Dentry) -> None:
        """Never sleeps.  Undo `begin`."""
        with self.lock:
            del self.mounting[dentry]
        self.queue.wake_up_all()

    def wait(self, dentry: Dentry) -> None:
        """Sleeps.  Until nobody mounts there."""
        self.queue.wait_event(lambda: dentry not in self.mounting)


class AutoNames(DentryOperations):
    """Names that are triggers."""

    def d_manage(self, path: Path, rcu_walk: bool) -> None:
        """Sleeps, but in rcu-walk.  Wait for whoever is mounting."""
        info: AutoInfo = path.dentry.d_sb.s_fs_info
        if path.dentry in info.mounting:
            if rcu_walk:
                raise ECHILD()
            info.wait(path.dentry)

    def d_automount(self, path: Path) -> Mount | None:
        """Sleeps.  Mount what belongs here, once.  Raises what the mounting says."""
        info: AutoInfo = path.dentry.d_sb.s_fs_info
        if not info.begin(path.dentry):
            info.wait(path.dentry)
            return None
        try:
            there = lookup_mnt(path.mnt, path.dentry)
            if there is None:
                self._mount(info, Path(mntget(path.mnt), dget(path.dentry)))
            mntput(there)
        finally:
            info.end(path.dentry)
        return None

    def _mount(self, info: AutoInfo, path: Path) -> None:
        """Sleeps.  Consumes the references on the path.  One on the mount is kept until it is in
        the tree: it must not expire before.
        """
        try:
            mnt = mntget(vfs_kern_mount(info.map[path.dentry.d_name], 0, "autofs", ""))
            mnt_set_expiry(mnt, info.expiring)
            if finish_automount(mnt, path):
                mntput(mnt)
        finally:
            path_put(path)
        schedule_delayed_work(info.work, EXPIRE * NS_PER_MS)


class AutoDirectory(RamListing):
    """The root, and the triggers: nobody makes or removes names."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Never sleeps.  What the map does not know is not there."""
        return simple_lookup(dir, dentry, flags)


class AutoSuper(RamSuper):
    """The superblock."""

    def show_options(self, dentry: Dentry) -> str:
        """Never sleeps.  None."""
        return ""


class AutoFS(RamFS):
    """The type.  map: what belongs where; a subclass, or an instance, has another one."""

    name = "autofs"
    names: DentryOperations = AutoNames()
    directory: InodeOperations = AutoDirectory()
    super: SuperOperations = AutoSuper()
    map: ClassVar[dict[str, FileSystemType]] = {"home": RamFS(), "media": RamFS()}

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  The root, and one trigger for each name of the map."""
        super().fill_super(sb, data)
        root = sb.s_root
        assert root is not None and root.d_inode is not None
        sb.s_fs_info, sb.s_d_op = AutoInfo(self.map), self.names
        for name in self.map:
            trigger = d_alloc(root, name)
            inode = ramfs_get_inode(sb, root.d_inode, S_IFDIR | 0o555, 0)
            with trigger.d_lock:
                trigger.d_flags |= DCACHE_NEED_AUTOMOUNT | DCACHE_MANAGE_TRANSIT
            d_add(trigger, inode)
            inc_nlink(root.d_inode)

    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Nothing is mounted here any more: nobody has to look."""
        if isinstance(sb.s_fs_info, AutoInfo):
            cancel_delayed_work_sync(sb.s_fs_info.work)
        super().kill_sb(sb)
