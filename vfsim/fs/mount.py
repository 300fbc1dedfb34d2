"""The mount tree: which filesystem is seen at which place.

A `Mount` shows one superblock from one of its dentries on; the tree of mounts hangs together by
mountpoints::

    mnt = vfs_kern_mount(fs_type, flags, dev_name, data)    one reference, in no tree
    attach_mnt(), commit_tree()    mnt_parent, mnt_mountpoint, mnt_ns: the reference is the tree's;
                                   DCACHE_MOUNTED on the mountpoint
    mntget() / mntput()            path walks, open files, working directories
    umount_tree()                  out of the tree, the tree's reference is put last
    mntput()                       cleanup_mnt(): deactivate_super(), put off until the task returns
                                   to user mode, because no lock may be held then

A `Path` is a mount and a dentry in it: a place.  Whoever keeps one has a reference on both
(`path_get`, `path_put`).  What is done with mounts is in pages of its own:

=======================  ===========================================================================
`fs.mount`               the structures, references, who writes, finding, attaching and detaching
`fs.namespace`           mount(2): new mounts, bind mounts, remounting; namespaces
`fs.umount`              umount(2), and mounts that expire
`fs.proc_namespace`      what /proc/mounts shows
=======================  ===========================================================================

Which lock guards what::

    namespace_sem     the shape of the trees, and who is in them
    mount_lock        the hash of mounts, mnt_mounts, mnt_parent, mnt_mountpoint, the mountpoints,
                      s_mounts, what expires; a seqlock
    (nothing)         mnt_count: atomic, and while a mount is in the tree never the last one;
                      mnt_writers: counted, then mnt_flags are looked at, in one step

Order: i_rwsem of the mountpoint > namespace_sem > mount_lock > d_lock.  Path walks take the
sequence of ``mount_lock`` only, inside an RCU read section, and undo the reference they took if it
moved (`lookup_mnt`).

The counterpart of ``fs/namespace.c`` of v4.10.  Left out: propagation (all mounts are private),
user namespaces, locked mounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import attrs

from vfsim.checks.bugs import bug
from vfsim.checks.lifetime import free, note_ref
from vfsim.fs.dcache import (
    DCACHE_MOUNTED,
    DCACHE_OP_DNAME,
    Dentry,
    d_unlinked,
    dcache,
    dget,
    dput,
    is_subdir,
)
from vfsim.fs.super import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_RELATIME,
    MS_REMOUNT,
    MS_STRICTATIME,
    SuperBlock,
    deactivate_super,
)
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.locks.rcu import call_rcu, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.sim.errors import EBUSY, EROFS
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator


MNT_NOSUID = 0x01
MNT_NODEV = 0x02
MNT_NOEXEC = 0x04
MNT_NOATIME = 0x08
MNT_NODIRATIME = 0x10
MNT_RELATIME = 0x20
MNT_READONLY = 0x40
MNT_SHRINKABLE = 0x100
MNT_INTERNAL = 0x4000
MNT_DOOMED = 0x1000000
MNT_SYNC_UMOUNT = 0x2000000
MNT_UMOUNT = 0x8000000
MNT_STRICTATIME = 0x10000000
"""Each read moves the access time (Linux says so by leaving MNT_RELATIME out)."""

_FLAGS = {
    MS_NOSUID: MNT_NOSUID,
    MS_NODEV: MNT_NODEV,
    MS_NOEXEC: MNT_NOEXEC,
    MS_NOATIME: MNT_NOATIME,
    MS_NODIRATIME: MNT_NODIRATIME,
    MS_STRICTATIME: MNT_STRICTATIME,
    MS_RDONLY: MNT_READONLY,
}
MNT_ATIME_MASK = MNT_NOATIME | MNT_NODIRATIME | MNT_RELATIME | MNT_STRICTATIME
MNT_USER_SETTABLE_MASK = MNT_NOSUID | MNT_NODEV | MNT_NOEXEC | MNT_ATIME_MASK | MNT_READONLY
PER_MOUNT = (
    MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME
    | MS_REMOUNT
)  # fmt: skip
"""The flags of mount(2) that are not the superblock's."""


def mount_flags(flags: int) -> int:
    """Never sleeps.  The MNT_* bits that the flags of mount(2) ask for; relatime unless told
    otherwise.
    """
    found = 0 if flags & (MS_NOATIME | MS_STRICTATIME) else MNT_RELATIME
    for ms, bit in _FLAGS.items():
        if flags & ms:
            found |= bit
    return found


_SEM = ("@namespace_sem",)
"""What else keeps a mount where it is."""


@kernel_struct
class Mount:
    """A superblock seen from one of its dentries on (Linux: ``struct mount`` and ``struct
    vfsmount``).

    Attributes:
        mnt_sb, mnt_root: what it shows; it has an active reference on the superblock.
        mnt_parent, mnt_mountpoint: where; a mount in no tree is its own parent.
        mnt_mounts: what is mounted inside it.
        mnt_flags: MNT_* bits.  mnt_ns: the namespace it is in, or None.
        mnt_count: references.  mnt_writers: how many may write through it just now.
        mnt_expire: the list on which it waits to expire, or None.  mnt_expiry_mark: nobody has
            used it since it was last looked at.
    """

    mnt_sb: SuperBlock
    mnt_root: Dentry
    mnt_devname: str
    mnt_flags: int
    mnt_parent: Annotated[Mount, guarded_by("@mount_lock", read=_SEM, seq="@mount_lock")]
    mnt_mountpoint: Annotated[Dentry, guarded_by("@mount_lock", read=_SEM, seq="@mount_lock")]
    mnt_mounts: dict[Mount, None]
    mnt_ns: Annotated[MountNamespace | None, guarded_by("@namespace_sem", lockless=True)]
    mnt_count: int
    mnt_writers: int
    mnt_expire: dict[Mount, None] | None
    mnt_expiry_mark: bool

    def __init__(self, root: Dentry, devname: str, flags: int) -> None:
        self.mnt_sb = root.d_sb
        self.mnt_root = root
        self.mnt_devname = devname
        self.mnt_flags = flags
        self.mnt_parent = self
        self.mnt_mountpoint = root
        self.mnt_mounts = {}
        self.mnt_ns = None
        self.mnt_count = 1
        self.mnt_writers = 0
        self.mnt_expire = None
        self.mnt_expiry_mark = False

    def _check(self) -> None:
        """The invariants of one mount, true whenever nobody holds mount_lock."""
        assert self.mnt_count >= 0 and self.mnt_writers >= 0, f"{self!r}: negative counts"
        assert all(child.mnt_parent is self for child in self.mnt_mounts), f"{self!r}: lost a child"
        assert self.mnt_count >= len(self.mnt_mounts) + (self.mnt_ns is not None), (
            f"{self!r}: references are missing"
        )
        if self.mnt_parent is not self:
            assert self in self.mnt_parent.mnt_mounts, f"{self!r}: unknown to its parent"
            assert self.mnt_mountpoint.d_flags & DCACHE_MOUNTED, (
                f"{self!r}: its mountpoint is not marked"
            )
        self.mnt_sb._check()

    def __repr__(self) -> str:
        return f"<Mount of {self.mnt_sb.s_id} count={self.mnt_count}>"


@attrs.define
class Path:
    """A place: a dentry, seen through a mount (Linux: ``struct path``)."""

    mnt: Mount
    dentry: Dentry


@attrs.define(eq=False)
class MountNamespace:
    """A tree of mounts that some processes see (Linux: ``struct mnt_namespace``).

    Attributes:
        root: its root.  mounts: all of it, parents first.
        count: how many processes are in it; the first namespace counts itself, too.
    """

    root: Mount
    mounts: dict[Mount, None] = attrs.field(factory=dict)
    count: int = 1


@attrs.define(eq=False)
class Mounts:
    """What all mounts of a world share.

    Attributes:
        namespace_sem, mount_lock: see the top of this file.
        mount_hashtable: (parent, mountpoint) to what is mounted there, newest first.
        mountpoints: how many mounts each mountpoint has.
        ns: the first namespace, once something is mounted.
        unmounted: what `namespace_unlock` has still to give back.
    """

    namespace_sem: RwSem = attrs.field(factory=lambda: RwSem("namespace_sem"))
    mount_lock: SeqLock = attrs.field(factory=lambda: SeqLock("mount_lock"))
    mount_hashtable: dict[tuple[Mount, Dentry], list[Mount]] = attrs.field(factory=dict)
    mountpoints: dict[Dentry, int] = attrs.field(factory=dict)
    ns: MountNamespace | None = None
    unmounted: list[tuple[Mount, Dentry | None]] = attrs.field(factory=list)

    def _check(self) -> None:
        for ns in dict.fromkeys((self.ns, *(m.mnt_ns for m in self._known()))):
            for mnt in ns.mounts if ns is not None else ():
                assert mnt.mnt_ns is ns, f"{mnt!r} is listed in a namespace that it is not in"
                mnt._check()

    def _known(self) -> Iterator[Mount]:
        for stack in self.mount_hashtable.values():
            yield from stack


def mounts() -> Mounts:
    """Never sleeps.  The mount tree of the running world."""
    data = K.machine.data
    found = data.get("mounts")
    if found is None:
        found = data["mounts"] = Mounts()
        data["namespace_sem"] = found.namespace_sem
        data["mount_lock"] = found.mount_lock
    return found


# -- references ------------------------------------------------------------------------------------


def mntget(mnt: Mount) -> Mount:
    """Never sleeps.  Take one more reference; the caller has one."""
    mnt.mnt_count += 1
    note_ref(mnt, 1, "mntget", mnt.mnt_count)
    return mnt


def mntput(mnt: Mount | None) -> None:
    """Sleeps.  Put a reference.  The last one lets the superblock go when the task returns to user
    mode.

    Takes ``mount_lock`` for a mount that is in no tree.  Source: ``mntput``.
    """
    if mnt is not None:
        mnt.mnt_expiry_mark = False
        mntput_no_expire(mnt)


def mntput_no_expire(mnt: Mount) -> None:
    """Sleeps.  As `mntput`, but it does not count as use of a mount that may expire."""
    note_ref(mnt, -1, "mntput", mnt.mnt_count - 1)
    if mnt.mnt_ns is not None and mnt.mnt_count > 1:  # the tree has a reference: not the last
        mnt.mnt_count -= 1
        return
    world = mounts()
    rcu_read_lock()
    world.mount_lock.write_lock()
    mnt.mnt_count -= 1
    gone = not mnt.mnt_count and not mnt.mnt_flags & MNT_DOOMED
    if gone:
        mnt.mnt_flags |= MNT_DOOMED
        mnt.mnt_sb.s_mounts.remove(mnt)
    world.mount_lock.write_unlock()
    rcu_read_unlock()
    if not gone:
        return
    process = K.cur.process
    if process is None or mnt.mnt_flags & MNT_INTERNAL:
        cleanup_mnt(mnt)
    else:
        process.task_work.append((cleanup_mnt, mnt))


def cleanup_mnt(mnt: Mount) -> None:
    """Sleeps.  The last reference is gone: let the superblock go, and free the mount after a grace
    period.
    """
    might_sleep()
    if mnt.mnt_writers:
        bug("kernel.bug", f"last reference put, {mnt.mnt_writers} still write: {mnt!r}")
    sb = mnt.mnt_sb
    dput(mnt.mnt_root)
    deactivate_super(sb)
    call_rcu(free, mnt, "mount")


def path_get(path: Path) -> None:
    """Never sleeps.  Take references on mount and dentry."""
    mntget(path.mnt)
    dget(path.dentry)


def path_put(path: Path) -> None:
    """Sleeps.  Put the references on dentry and mount."""
    dput(path.dentry)
    mntput(path.mnt)


# -- who writes ------------------------------------------------------------------------------------


def mnt_is_readonly(mnt: Mount) -> bool:
    """Never sleeps.  Whether nothing can be changed through this mount."""
    sb = mnt.mnt_sb
    return bool(mnt.mnt_flags & MNT_READONLY or sb.s_flags & MS_RDONLY or sb.s_readonly_remount)


def mnt_get_write_access(mnt: Mount) -> None:
    """Never sleeps.  The mount stays writable until `mnt_put_write_access`; a freeze is not kept
    out: a file that is open for writing has this.

    Raises:
        OSError: EROFS.

    Source: ``__mnt_want_write``.
    """
    mnt.mnt_writers += 1
    if mnt_is_readonly(mnt):
        mnt.mnt_writers -= 1
        raise EROFS()


def mnt_put_write_access(mnt: Mount) -> None:
    """Never sleeps.  Undo `mnt_get_write_access`."""
    mnt.mnt_writers -= 1


def mnt_want_write(mnt: Mount) -> None:
    """Sleeps.  About to change something: until `mnt_drop_write` the mount stays writable, and the
    superblock is not frozen.

    Raises:
        OSError: EROFS.

    Source: ``mnt_want_write``.
    """
    sb_start_write(mnt.mnt_sb)
    try:
        mnt_get_write_access(mnt)
    except OSError:
        sb_end_write(mnt.mnt_sb)
        raise


def mnt_drop_write(mnt: Mount) -> None:
    """Never sleeps.  Undo `mnt_want_write`."""
    mnt.mnt_writers -= 1
    sb_end_write(mnt.mnt_sb)


def mnt_make_readonly(mnt: Mount) -> None:
    """Never sleeps.  Nothing can be changed through this mount any more.

    Raises:
        OSError: EBUSY, if somebody writes.

    Takes ``mount_lock``.  Source: ``mnt_make_readonly``.
    """
    with mounts().mount_lock:
        if mnt.mnt_writers:
            raise EBUSY()
        mnt.mnt_flags |= MNT_READONLY


def sb_prepare_remount_readonly(sb: SuperBlock) -> None:
    """Never sleeps.  Stop new writers on all mounts of a superblock.

    Raises:
        OSError: EBUSY, if somebody writes, or a removed file is still in use.
    """
    world = mounts()
    with world.mount_lock:
        if sb.s_remove_count or any(
            m.mnt_writers for m in sb.s_mounts if not m.mnt_flags & MNT_READONLY
        ):
            raise EBUSY()
        sb.s_readonly_remount = True


# -- finding ---------------------------------------------------------------------------------------


def mounted_on(mnt: Mount, dentry: Dentry) -> Mount | None:
    """Never sleeps.  What is mounted on ``dentry`` of ``mnt``, without a reference, or None.

    The caller is in an RCU read section and asks ``mount_lock`` afterwards, or holds it.

    Source: ``__lookup_mnt``.
    """
    stack = mounts().mount_hashtable.get((mnt, dentry))
    return stack[0] if stack else None


def lookup_mnt(mnt: Mount, dentry: Dentry) -> Mount | None:
    """Sleeps.  What is mounted on ``dentry`` of ``mnt``, with a new reference, or None.

    Source: ``lookup_mnt``.
    """
    lock = mounts().mount_lock
    while True:
        rcu_read_lock()
        seq = lock.read_begin()
        child = mounted_on(mnt, dentry)
        if child is None:
            moved = lock.read_retry(seq)
            rcu_read_unlock()
            if not moved:
                return None
            continue
        found = legitimize_mnt(child, seq)
        rcu_read_unlock()
        if not found:
            return child
        if found < 0:
            mntput(child)


def legitimize_mnt(mnt: Mount, seq: int) -> int:
    """Never sleeps.  Take a reference on what was found in an RCU read section, without one.

    Args:
        seq: ``mount_lock``'s, from before it was found.

    Returns 0 if the caller has it now.  Otherwise ``mount_lock`` moved: 1, or -1 if the caller must
    `mntput` it, outside the section.

    A mount whose umount waits for our section, or whose last reference was put meanwhile, needs no
    `mntput`: our count was none.  Source: ``__legitimize_mnt``, with the second case as v4.18 has
    it, where v4.10 can free a mount twice.
    """
    lock = mounts().mount_lock
    if lock.read_retry(seq):
        return 1
    K.left -= 1
    if not K.left:
        K.machine.point("mnt_get", mnt)  # it may be unmounted between finding and counting
    mnt.mnt_count += 1
    if not lock.read_retry(seq):
        note_ref(mnt, 1, "legitimize_mnt")
        return 0
    if mnt.mnt_flags & MNT_SYNC_UMOUNT:
        mnt.mnt_count -= 1
        return 1
    lock.lock_excl()
    doomed = mnt.mnt_flags & MNT_DOOMED
    if doomed:
        mnt.mnt_count -= 1
    lock.unlock_excl()
    if doomed:
        return 1
    note_ref(mnt, 1, "legitimize_mnt")
    return -1


def path_connected(mnt: Mount, dentry: Dentry) -> bool:
    """Never sleeps.  Whether ``dentry`` is below the root of ``mnt``; renames can take it out of a
    mount that shows a part of its filesystem.  Source: ``path_connected``.
    """
    root = mnt.mnt_root
    return root is mnt.mnt_sb.s_root or is_subdir(dentry, root)


def is_local_mountpoint(dentry: Dentry) -> bool:
    """Sleeps.  Whether something is mounted on ``dentry`` that the running process sees.  Takes
    ``namespace_sem`` shared, if it may be so.
    """
    if not dentry.d_flags & DCACHE_MOUNTED:
        return False
    with mounts().namespace_sem.shared():
        ns = current_ns()
        return ns is not None and any(
            m.mnt_mountpoint is dentry for m in ns.mounts if mnt_has_parent(m)
        )


def current_ns() -> MountNamespace | None:
    """Never sleeps.  The namespace of the running process; a kernel thread is in the first."""
    process = K.cur.process
    return mounts().ns if process is None else process.mnt_ns


def check_mnt(mnt: Mount) -> bool:
    """Never sleeps.  Whether a mount is in the tree that the running process sees."""
    return mnt.mnt_ns is not None and mnt.mnt_ns is current_ns()


def mnt_has_parent(mnt: Mount) -> bool:
    """Never sleeps.  Whether it is mounted somewhere: the root of a tree is its own parent."""
    return mnt.mnt_parent is not mnt


def mnt_subtree(mnt: Mount) -> Iterator[Mount]:
    """Never sleeps.  A mount and all below it, parents first.  The caller holds mount_lock or
    namespace_sem.
    """
    yield mnt
    for child in list(mnt.mnt_mounts):
        yield from mnt_subtree(child)


# -- in the tree and out of it ---------------------------------------------------------------------


def attach_mnt(world: Mounts, mnt: Mount, parent: Mount, mountpoint: Dentry) -> None:
    """Never sleeps.  Mount something in its place, which is seen at once by whoever sees the
    parent.  The caller holds mount_lock, and has the mountpoint counted.
    """
    mntget(parent)
    mnt.mnt_parent = parent
    mnt.mnt_mountpoint = dget(mountpoint)
    world.mountpoints[mountpoint] += 1
    parent.mnt_mounts[mnt] = None
    world.mount_hashtable.setdefault((parent, mountpoint), []).insert(0, mnt)


def detach_mnt(world: Mounts, mnt: Mount) -> Dentry:
    """Never sleeps.  Undo `attach_mnt`; the caller holds mount_lock and puts what is returned: the
    mountpoint.  The parent's reference is not its last, for it is still in a tree.
    """
    parent, mountpoint = mnt.mnt_parent, mnt.mnt_mountpoint
    stack = world.mount_hashtable[parent, mountpoint]
    stack.remove(mnt)
    if not stack:
        del world.mount_hashtable[parent, mountpoint]
    del parent.mnt_mounts[mnt]
    parent.mnt_count -= 1
    note_ref(parent, -1, "detach_mnt")
    mnt.mnt_parent = mnt
    mnt.mnt_mountpoint = mnt.mnt_root
    put_mountpoint(world, mountpoint)
    return mountpoint


def commit_tree(mnt: Mount, ns: MountNamespace) -> None:
    """Never sleeps.  A mount and all below it belong to a namespace from now on.  The caller holds
    namespace_sem.
    """
    for each in mnt_subtree(mnt):
        each.mnt_ns = ns
        ns.mounts[each] = None


def put_mountpoint(world: Mounts, dentry: Dentry) -> None:
    """Never sleeps.  One mount less on a dentry.  The caller holds mount_lock."""
    world.mountpoints[dentry] -= 1
    if not world.mountpoints[dentry]:
        del world.mountpoints[dentry]
        with dentry.d_lock:
            dentry.d_flags &= ~DCACHE_MOUNTED


def namespace_unlock(world: Mounts) -> None:
    """Sleeps.  Release ``namespace_sem``, then give back what was unmounted under it, after a grace
    period.
    """
    gone, world.unmounted = world.unmounted, []
    world.namespace_sem.up_write()
    if not gone:
        return
    synchronize_rcu()
    for mnt, mountpoint in gone:
        dput(mountpoint)
        mntput(mnt)


def umount_tree(world: Mounts, mnt: Mount, how: int) -> None:
    """Never sleeps.  Take a mount and all below it out of the tree: each is alone from now on.

    Args:
        how: MNT_SYNC_UMOUNT, if path walks that find it need no reference any more.

    `namespace_unlock` gives the tree's references back.  The caller holds namespace_sem and
    mount_lock.  Source: ``umount_tree``.
    """
    for gone in reversed(list(mnt_subtree(mnt))):
        gone.mnt_flags |= MNT_UMOUNT | how
        if gone.mnt_expire is not None:
            del gone.mnt_expire[gone]
            gone.mnt_expire = None
        _leave_namespace(world, gone)
        mountpoint = detach_mnt(world, gone) if mnt_has_parent(gone) else None
        world.unmounted.append((gone, mountpoint))


def _leave_namespace(world: Mounts, mnt: Mount) -> None:
    ns, mnt.mnt_ns = mnt.mnt_ns, None
    if ns is None:
        return  # a copy that was never committed
    del ns.mounts[mnt]
    if ns is world.ns and ns.root is mnt:
        world.ns = None


def detach_mounts(dentry: Dentry) -> None:
    """Sleeps.  Unmount whatever is mounted on a name that is going away, whoever sees it.  Takes
    ``namespace_sem``, if there is any.
    """
    if not dentry.d_flags & DCACHE_MOUNTED:
        return
    world = mounts()
    world.namespace_sem.down_write()
    with world.mount_lock:
        found = [stack for (_, at), stack in world.mount_hashtable.items() if at is dentry]
        for mnt in [mnt for stack in found for mnt in stack]:
            umount_tree(world, mnt, 0)
    namespace_unlock(world)


# -- names of places -------------------------------------------------------------------------------


def d_path(path: Path, root: Path | None = None) -> str:
    """Never sleeps.  The name of a place, as seen from ``root`` (or from the top of the tree).

    A removed name ends in " (deleted)"; what cannot be reached from ``root`` begins without its
    mountpoints.

    Source: ``d_path``.
    """
    dentry = path.dentry
    if (
        dentry.d_flags & DCACHE_OP_DNAME
        and dentry.d_parent is dentry
        and dentry is not path.mnt.mnt_root
    ):
        return str(dentry.d_op.d_dname(dentry))
    world = mounts()
    rename_lock = dcache().rename_lock
    while True:
        rcu_read_lock()
        mount_seq = world.mount_lock.read_begin()
        seq = rename_lock.read_begin()
        name = _climb(path, root)
        moved = rename_lock.read_retry(seq) or world.mount_lock.read_retry(mount_seq)
        rcu_read_unlock()
        if not moved:
            return f"{name} (deleted)" if d_unlinked(dentry) else name


def _climb(path: Path, root: Path | None) -> str:
    """Never sleeps.  The names from ``path`` up to ``root``.  The caller checks that nothing moved
    meanwhile.
    """
    mnt, dentry = path.mnt, path.dentry
    names: list[str] = []
    while root is None or dentry is not root.dentry or mnt is not root.mnt:
        if dentry is mnt.mnt_root:
            if mnt.mnt_parent is mnt:
                break
            dentry = mnt.mnt_mountpoint
            mnt = mnt.mnt_parent
            continue
        if dentry.d_parent is dentry:
            break
        names.append(dentry.d_name)
        dentry = dentry.d_parent
    return "/" + "/".join(reversed(names))
