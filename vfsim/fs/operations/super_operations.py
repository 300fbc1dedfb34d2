"""What a filesystem does with a superblock, and with inodes as such, as the document prints it::

    super_operations

                            s_umount
    alloc_inode:
    destroy_inode:
    dirty_inode:
    write_inode:
    drop_inode:             !!!inode->i_lock!!!
    evict_inode:
    put_super:              write
    sync_fs:                read
    freeze_fs:              write
    unfreeze_fs:            write
    statfs:                 maybe(read) (see below)
    remount_fs:             write
    umount_begin:           no
    show_options:           no (namespace_sem)
    quota_read:             no (see below)
    quota_write:            no (see below)
    bdev_try_to_free_page:  no (see below)

    All may block [not true, see below]

Called by the inode cache (`vfsim.fs.icache`, `vfsim.fs.inode`) when an inode is made, written,
dropped and evicted; by mounting and unmounting (`vfsim.fs.super`), sync and freeze; by statfs(2)
and /proc/mounts; and by quota.  ``s_umount`` keeps a superblock from going away: exclusive where it
is being changed or ended, shared where it is merely used.  ``drop_inode`` decides under the inode's
``i_lock``, and is the one method here that never sleeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.calls import Call, running_call
from vfsim.checks.contract import Operations
from vfsim.checks.lifetime import freed_by
from vfsim.checks.promises import holds, label
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    cannot_fail,
    expects,
    must_hold,
    must_hold_shared,
    never_blocks,
    prototype,
    row,
    watch,
)
from vfsim.fs.operations.bits import I_CLEAR, I_FREEING, I_NEW, I_SYNC
from vfsim.fs.operations.freeze_rules import (
    all_levels_are_shut_and_the_freeze_is_complete,
    all_levels_are_shut_and_the_internal_one_last,
    finds_nothing_dirty,
    nothing_got_dirty,
)
from vfsim.sim.context import held_entries
from vfsim.sim.errors import EINVAL, ENOSYS
from vfsim.sim.shared import accesses_for_its_caller
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import KStatfs, SuperBlock
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl


# -- what `when=` and `expects` ask ----------------------------------------------------------------


@accesses_for_its_caller
def unused_and_not_new(inode: Inode) -> bool:
    return not inode.i_count and not inode.i_state & I_NEW


@accesses_for_its_caller
def being_freed(inode: Inode) -> bool:
    """E10: nobody can find it, and nobody is busy with it."""
    free = bool(inode.i_state & I_FREEING) and not inode.i_state & (I_SYNC | I_CLEAR)
    return free and inode not in inode.i_sb.s_inode_lru


@accesses_for_its_caller
def being_written(inode: Inode) -> bool:
    return bool(inode.i_state & I_SYNC)


def not_from_mark_dirty(sb: SuperBlock) -> bool:
    return running_call(K.cur, "dquot_operations.mark_dirty") is None


# -- what `watch` looks at -------------------------------------------------------------------------


def frees_after_a_grace_period(call: Call, inode: Inode) -> Iterator[None]:
    """E24: a walk in an RCU read section may still look at it."""
    waited = K.machine.data.get("rcu_waited", 0)
    yield
    at_once = freed_by(inode) == call.task.name and waited == K.machine.data.get("rcu_waited", 0)
    call.check("E24", not at_once, "freed the inode at once, without a grace period")


@accesses_for_its_caller
def clears(call: Call, inode: Inode) -> Iterator[None]:
    """E10: the state after eviction."""
    yield
    if call.error is None:
        done = inode.i_state == I_FREEING | I_CLEAR
        call.check("E10", done, "returned without calling clear_inode()")


def ends_outside_of_the_directory(call: Call, inode: Inode) -> Iterator[None]:
    """E23: whoever unlinked the file has let go of the directory."""
    locked = not inode.i_nlink and any(
        label(lock) == inode.i_sb.s_i_rwsem_dir_class for lock, _ in held_entries(call.task)
    )
    early = locked and call.reached_through("do_unlink")
    call.caller("E23", not early, "with the directory locked that the file was unlinked from")
    yield


def stays_in_use(call: Call, dentry: Dentry) -> Iterator[None]:
    """P10: somebody keeps the superblock alive all the time."""
    sb = dentry.d_sb
    call.caller("P10", sb.s_active > 0, "on a superblock that is not in use any more")
    yield
    call.caller("P10", sb.s_active > 0, "on a superblock that went away meanwhile")


def locked_as_it_was_reached(call: Call, dentry: Dentry) -> Iterator[None]:
    """P9: ustat(2) has nothing but s_umount to keep the superblock; the others have the path."""
    held = holds(call.task, dentry.d_sb.s_umount, exclusive=False)
    if not call.outermost:
        pass  # one method calls another
    elif call.reached_through("FilesystemCalls.ustat"):
        call.caller("P9", held, "by ustat(2) without s_umount held")
    elif call.reached_through("FilesystemCalls.statfs", "FilesystemCalls.fstatfs"):
        call.caller("P9", not held, "by path or descriptor, with s_umount held")
    yield


# -- the table -------------------------------------------------------------------------------------


class SuperOperations(Operations):
    """What a filesystem does with a superblock and with the inodes as such (``sb.s_op``).

    The document's blanket sentence says itself that it is not quite true: `drop_inode` may not
    block, and `bdev_try_to_free_page` follows its ``gfp``.
    """

    table = "super_operations"
    columns = (Lock("s_umount", "sb.s_umount", "dentry.d_sb.s_umount"),)
    blanket = "All may block [not true, see below]"
    blanket_rule = "P6"

    @prototype("struct inode *(*alloc_inode)(struct super_block *sb);")
    @row("")
    def alloc_inode(self, sb: SuperBlock) -> Inode:
        """Sleeps.  A blank inode, possibly of a subclass with fields of its own.

        Left out: a plain one.
        """
        from vfsim.fs.inode import Inode

        return Inode(sb)

    @prototype("void (*destroy_inode)(struct inode *);")
    @row("")
    @watch(frees_after_a_grace_period)
    @cannot_fail
    def destroy_inode(self, inode: Inode) -> None:
        """Sleeps.  Give back what `alloc_inode` made; walks may still look at it until a grace
        period has passed.

        Left out: it is freed after one.
        """
        from vfsim.fs.inode import free_inode_nonrcu
        from vfsim.locks.rcu import call_rcu

        call_rcu(free_inode_nonrcu, inode)

    @prototype("void (*dirty_inode) (struct inode *, int flags);")
    @row("")
    @cannot_fail
    def dirty_inode(self, inode: Inode, flags: int) -> None:
        """Sleeps.  The inode's own fields became dirty (a journal wants to know).

        Left out: nothing.
        """

    @prototype("int (*write_inode) (struct inode *, struct writeback_control *wbc);")
    @row("")
    @expects(being_written, rule="E12")
    def write_inode(self, inode: Inode, wbc: WritebackControl) -> None:
        """Sleeps.  Write the inode's own fields; with WB_SYNC_ALL, until they are on the medium.

        Left out: nothing.
        """

    @prototype("int (*drop_inode) (struct inode *);")
    @row(
        "!!!inode->i_lock!!!",
        held="inode.i_lock",
        prose="P7",
        means="the caller holds inode.i_lock, all the time; s_umount is not spoken of",
    )
    @never_blocks(rule="P7")
    @expects(unused_and_not_new, rule="E11")
    @cannot_fail
    def drop_inode(self, inode: Inode) -> bool:
        """Never sleeps.  The last reference was put: evict the inode now?

        Left out: if it has no links or is not hashed (``generic_drop_inode``).
        """
        from vfsim.fs.inode import generic_drop_inode

        return generic_drop_inode(inode)

    @prototype("void (*evict_inode) (struct inode *);")
    @row("")
    @expects(being_freed, rule="E10")
    @watch(clears)
    @watch(ends_outside_of_the_directory)
    @cannot_fail
    def evict_inode(self, inode: Inode) -> None:
        """Sleeps.  The inode goes: throw its pages away, free its blocks if it has no links,
        ``clear_inode`` it.

        Left out: pages away, ``clear_inode``.
        """
        from vfsim.fs.inode import clear_inode, truncate_inode_pages_final

        truncate_inode_pages_final(inode)
        clear_inode(inode)

    @prototype("void (*put_super) (struct super_block *);")
    @row("write")
    @cannot_fail
    def put_super(self, sb: SuperBlock) -> None:
        """Sleeps.  Unmounting: free what ``s_fs_info`` holds.  All inodes are gone.

        Left out: nothing.
        """

    @prototype("int (*sync_fs)(struct super_block *sb, int wait);")
    @row(
        "read",
        status=ADAPTED,
        shared="sb.s_umount",
        means="the caller holds sb.s_umount, at least shared (exclusive at umount, freeze and "
        "remount)",
    )
    def sync_fs(self, sb: SuperBlock, wait: bool) -> None:
        """Sleeps.  Start writing everything; with ``wait``, until it is on the medium.

        Left out: nothing.
        """

    @prototype("int (*freeze_fs) (struct super_block *);")
    @row("write")
    @expects(all_levels_are_shut_and_the_internal_one_last, rule="E8")
    @watch(finds_nothing_dirty)
    def freeze_fs(self, sb: SuperBlock) -> None:
        """Sleeps.  Make what is on the medium consistent and leave it so until `unfreeze_fs`.

        Left out: ioctl(FIFREEZE) is refused, EOPNOTSUPP; by device it can be frozen all the same.
        """

    @prototype("int (*unfreeze_fs) (struct super_block *);")
    @row("write")
    @expects(all_levels_are_shut_and_the_freeze_is_complete, rule="E8")
    @watch(nothing_got_dirty)
    def unfreeze_fs(self, sb: SuperBlock) -> None:
        """Sleeps.  Go on after `freeze_fs`.  Left out: nothing."""

    @prototype("int (*statfs) (struct dentry *, struct kstatfs *);")
    @row(
        "maybe(read) (see below)",
        not_exclusive="dentry.d_sb.s_umount",
        prose="P9",
        means="the caller holds s_umount shared if it is ustat(2), and never exclusive",
    )
    @watch(stays_in_use)
    @watch(locked_as_it_was_reached)
    def statfs(self, dentry: Dentry) -> KStatfs:
        """Sleeps.  Sizes and counts of the filesystem that ``dentry`` is on.  Left out: ENOSYS."""
        raise ENOSYS()

    @prototype("int (*remount_fs) (struct super_block *, int *, char *);")
    @row("write")
    def remount_fs(self, sb: SuperBlock, flags: int, data: str) -> int:
        """Sleeps.  Change mount options; returns the flags to have.  Who may have something dirty
        calls ``sync_filesystem`` first.

        Left out: as asked.
        """
        return flags

    @prototype("void (*umount_begin) (struct super_block *);")
    @row("no")
    @cannot_fail
    def umount_begin(self, sb: SuperBlock) -> None:
        """Sleeps.  A forced umount begins: give up waiting for a server.  Left out: nothing."""

    @prototype("int (*show_options)(struct seq_file *, struct dentry *);")
    @row(
        "no (namespace_sem)",
        not_held="dentry.d_sb.s_umount",
        means="the caller holds namespace_sem, at least shared, and not s_umount",
    )
    @must_hold_shared("@namespace_sem", rule="P8")
    def show_options(self, dentry: Dentry) -> str:
        """Sleeps.  The mount options as /proc/mounts shows them, each after a comma.

        Left out: none.
        """
        return ""

    @prototype("ssize_t (*quota_read)(struct super_block *, int, char *, size_t, loff_t);")
    @row("no (see below)", not_promised="sb.s_umount")
    @must_hold("sb.s_dquot.dqio_sem", rule="P11")
    @expects(not_from_mark_dirty, rule="P75")
    def quota_read(self, sb: SuperBlock, type: int, len: int, off: int) -> bytes:
        """Sleeps.  Bytes of the quota file of that type.

        Left out: quotas cannot be turned on, EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*quota_write)(struct super_block *, int, const char *, size_t, loff_t);")
    @row("no (see below)", not_promised="sb.s_umount")
    @must_hold("sb.s_dquot.dqio_sem", rule="P11")
    @expects(not_from_mark_dirty, rule="P75")
    def quota_write(self, sb: SuperBlock, type: int, data: bytes, off: int) -> int:
        """Sleeps.  Write to the quota file of that type; returns how much.  Left out: EINVAL."""
        raise EINVAL()

    @prototype("int (*bdev_try_to_free_page)(struct super_block*, struct page*, gfp_t);")
    @row("no (see below)", not_promised="sb.s_umount")
    @cannot_fail
    def bdev_try_to_free_page(self, sb: SuperBlock, page: Page, gfp: int) -> bool:
        """Sleeps.  Free what the filesystem attached to a page of its block device; True if the
        page has nothing left.

        ``page`` is locked.

        Left out: its buffers are freed if they are idle.
        """
        from vfsim.mm.buffers import try_to_free_buffers

        return try_to_free_buffers(page)
