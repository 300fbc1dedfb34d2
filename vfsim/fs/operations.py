"""The locking contract of names, inodes, superblocks, open files, locks and quota, as the document
prints it::

    dentry_operations

                        rename_lock  ->d_lock  may block       rcu-walk
    d_revalidate:       no           no        yes (ref-walk)  maybe
    d_weak_revalidate:  no           no        yes             no
    d_hash:             no           no        no              maybe
    d_compare:          yes          no        no              maybe
    d_delete:           no           yes       no              no
    d_init:             no           no        yes             no
    d_release:          no           no        yes             no
    d_prune:            no           yes       no              no
    d_iput:             no           no        yes             no
    d_dname:            no           no        no              no
    d_automount:        no           no        yes             no
    d_manage:           no           no        yes (ref-walk)  maybe
    d_real:             no           no        yes             no

    inode_operations

                  i_mutex(inode)
    lookup:       yes
    create:       yes
    link:         yes (both)
    mknod:        yes
    symlink:      yes
    mkdir:        yes
    unlink:       yes (both)
    rmdir:        yes (both) (see below)
    rename:       yes (all) (see below)
    readlink:     no
    get_link:     no
    setattr:      yes
    permission:   no (may not block if called in rcu-walk mode)
    get_acl:      no
    getattr:      no
    listxattr:    no
    fiemap:       no
    update_time:  no
    atomic_open:  yes
    tmpfile:      no

    all may block

    no row: truncate

    xattr_handler

           i_mutex(inode)
    list:  no
    get:   no
    set:   yes

    all may block

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

    file_system_type

              may block
    mount:    yes
    kill_sb:  yes

    file_lock_operations

                         inode->i_lock  may block
    fl_copy_lock:        yes            no
    fl_release_private:  maybe          maybe[1]

    lock_manager_operations

                       inode->i_lock  blocked_lock_lock  may block
    lm_compare_owner:  yes[1]         maybe              no
    lm_owner_key:      yes[1]         yes                no
    lm_notify:         yes            yes                no
    lm_grant:          no             no                 no
    lm_break:          yes            no                 no
    lm_change:         yes            no                 no

    file_operations

    All may block.

    no row: llseek, read, write, read_iter, write_iter, iterate, poll, unlocked_ioctl,
    compat_ioctl, mmap, open, flush, release, fsync, fasync, lock, readv, writev, sendfile,
    sendpage, get_unmapped_area, check_flags, flock, splice_write, splice_read, setlease,
    fallocate

    dquot_operations

                    FS recursion  Held locks when called
    write_dquot:    yes           dqonoff_sem or dqptr_sem
    acquire_dquot:  yes           dqonoff_sem or dqptr_sem
    release_dquot:  yes           dqonoff_sem or dqptr_sem
    mark_dirty:     no            -
    write_info:     yes           dqonoff_sem

Above each method stands its row, in the document's words; what the words mean for the locks at hand
is said beside them where the column's title does not (see `vfsim.checks.rules`).  A filesystem
subclasses a table and writes the methods it has; **a method left out does what the method here
does**, which is what Linux does for NULL, with Linux's errno.  Overrides inherit the row: nothing
is declared twice.

Names, order and meaning of parameters are v4.10's, with Python values: user pointers are bytes,
out-parameters are results, an errno is raised as ``OSError`` (``raise ENOSPC()``).
"""

from __future__ import annotations

import os
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from vfsim.checks.calls import Call, holds, label, running_call
from vfsim.checks.contract import Operations
from vfsim.checks.lifetime import freed_by
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    MayBlock,
    Note,
    RcuWalk,
    acquires,
    cell,
    expects,
    gives_ref,
    must_hold,
    must_hold_shared,
    must_not_hold,
    never_blocks,
    prototype,
    releases,
    row,
    takes_ref,
    watch,
    when,
)
from vfsim.fs import prose as prose
from vfsim.sim.context import held_entries
from vfsim.sim.errors import (
    EACCES,
    EINVAL,
    ENODEV,
    ENOSYS,
    ENOTDIR,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
    ESPIPE,
)
from vfsim.sim.shared import accesses_for_its_caller
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.block.disk import RamDisk
    from vfsim.fs.attr import IAttr, KStat
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File, Kiocb
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount, Path
    from vfsim.fs.super import KStatfs, SuperBlock
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl

LOOKUP_RCU = 0x0040
"""In the flags of a path walk: it holds nothing but the RCU read lock."""

MAY_NOT_BLOCK = 0x0080
"""In the mask of ``permission``: the walk is an rcu-walk."""

_S_DEAD = 1 << 4
_RENAME_EXCHANGE = 1 << 1
_I_NEW, _I_FREEING, _I_CLEAR, _I_SYNC = 1 << 3, 1 << 5, 1 << 6, 1 << 7
_FASYNC = 0o20000


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def in_rcu_walk(flags: int) -> bool:
    return bool(flags & LOOKUP_RCU)


def asked_not_to_block(mask: int) -> bool:
    return bool(mask & MAY_NOT_BLOCK)


def transit_in_rcu_walk(rcu_walk: bool) -> bool:
    return rcu_walk


def without_dentry(dentry: Dentry | None) -> bool:
    return dentry is None


def flags_tell_the_walk(flags: int) -> bool:
    return bool(flags & LOOKUP_RCU) == (K.cur.ctx.rcu > 0)


def an_rcu_walk() -> bool:
    return K.cur.ctx.rcu > 0


def transit_tells_the_walk(rcu_walk: bool) -> bool:
    return rcu_walk == (K.cur.ctx.rcu > 0)


def no_rcu_walk() -> bool:
    return not K.cur.ctx.rcu


def the_name_cannot_change(dentry: Dentry) -> bool:
    t = K.cur
    return t.ctx.rcu > 0 or dentry.d_lock.owner is t


def not_opening(open_flags: int) -> bool:
    return not open_flags


def has_parent(dentry: Dentry) -> bool:
    return dentry.d_parent is not dentry


def positive(dentry: Dentry) -> bool:
    return dentry.d_inode is not None


def creating(open_flag: int) -> bool:
    return bool(open_flag & os.O_CREAT)


def crosses_directories(old_dir: Inode, new_dir: Inode) -> bool:
    return old_dir is not new_dir


def replaces(new_dentry: Dentry, flags: int) -> bool:
    victim = new_dentry.d_inode
    return victim is not None and not (flags & _RENAME_EXCHANGE and S_ISDIR(victim.i_mode))


def moves_a_file(old_dentry: Dentry) -> bool:
    return old_dentry.d_inode is not None and not S_ISDIR(old_dentry.d_inode.i_mode)


def the_directory_lives(dir: Inode) -> bool:
    return not dir.i_flags & _S_DEAD


def the_new_directory_lives(new_dir: Inode) -> bool:
    return not new_dir.i_flags & _S_DEAD


def the_open_directory_lives(file: File) -> bool:
    return not file.f_inode.i_flags & _S_DEAD


def nobody_else_looks(dentry: Dentry) -> bool:
    parent = dentry.d_parent
    if not parent.d_lookups:
        return True
    others = parent.d_lookups.get(dentry.d_key, ())
    return not any(d is not dentry and d.d_name == dentry.d_name for d in others)


@accesses_for_its_caller
def unused_and_not_new(inode: Inode) -> bool:
    return not inode.i_count and not inode.i_state & _I_NEW


@accesses_for_its_caller
def being_freed(inode: Inode) -> bool:
    return bool(inode.i_state & _I_FREEING) and not inode.i_state & (_I_SYNC | _I_CLEAR)


@accesses_for_its_caller
def being_written(inode: Inode) -> bool:
    return bool(inode.i_state & _I_SYNC)


def is_lease(fl: Any) -> bool:
    return bool(fl.is_lease)


def is_no_lease(fl: Any) -> bool:
    return not fl.is_lease


def under_a_quota_lock(dquot: Any) -> bool:
    quota = dquot.dq_sb.s_dquot
    return any(lock.owner is K.cur for lock in (quota.dqonoff_sem, quota.dqptr_sem))


def not_from_mark_dirty(sb: SuperBlock) -> bool:
    return running_call(K.cur, "dquot_operations.mark_dirty") is None


# -- what `watch` looks at -------------------------------------------------------------------------


def returns_a_root(call: Call) -> Iterator[None]:
    """P13: a dentry or an error, never nothing."""
    yield
    if call.error is None:
        root = call.result
        call.check("P13", hasattr(root, "d_sb"), f"returned {root!r}, not the root dentry")


def shuts_down(call: Call, sb: SuperBlock) -> Iterator[None]:
    """P16: nothing of the superblock is left in use."""
    before = sb.s_root is not None
    yield
    call.check(
        "P16",
        sb.s_root is None or not before,
        "returned before the superblock was shut down",
        "generic_shutdown_super(), or a helper that calls it, ends a superblock",
    )


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
    elif call.reached_through("Sys.ustat"):
        call.caller("P9", held, "by ustat(2) without s_umount held")
    elif call.reached_through("Sys.statfs", "Sys.fstatfs"):
        call.caller("P9", not held, "by path or descriptor, with s_umount held")
    yield


def ends_outside_of_the_directory(call: Call, inode: Inode) -> Iterator[None]:
    """E23: whoever unlinked the file has let go of the directory."""
    locked = not inode.i_nlink and any(
        label(lock) == inode.i_sb.s_i_rwsem_dir_class for lock, _ in held_entries(call.task)
    )
    early = locked and call.reached_through("do_unlink")
    call.caller("E23", not early, "with the directory locked that the file was unlinked from")
    yield


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
        done = inode.i_state == _I_FREEING | _I_CLEAR
        call.check("E10", done, "returned without calling clear_inode()")


def keeps_fasync(call: Call, file: File, on: int) -> Iterator[None]:
    """P68: the FASYNC flag says what was asked."""
    yield
    if call.error is None:
        ok = bool(file.f_flags & _FASYNC) == bool(on)
        call.check("P68", ok, f"returned with the FASYNC flag {'clear' if on else 'set'}")


def marks_recursion(call: Call) -> Iterator[None]:
    """P75: while it runs, quota_read and quota_write must not (see `not_from_mark_dirty`)."""
    yield


# -- dentries --------------------------------------------------------------------------------------


class DentryOperations(Operations):
    """What a filesystem does about names (``dentry.d_op``).  Without any of it, names are compared
    byte by byte and believed for ever.
    """

    table = "dentry_operations"
    columns = (
        Lock("rename_lock", "@rename_lock"),
        Lock("->d_lock", "dentry.d_lock", "path.dentry.d_lock"),
        MayBlock("may block"),
        RcuWalk("rcu-walk"),
    )

    @prototype("int (*d_revalidate)(struct dentry *, unsigned int);")
    @row("no", "no", cell("yes (ref-walk)", never_blocks=in_rcu_walk), "maybe")
    @expects(flags_tell_the_walk, rule="P1")
    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Is a cached name still right?  False makes the walk forget it and look again.

        In rcu-walk (``flags & LOOKUP_RCU``) it must not sleep; ECHILD asks for a walk with
        references instead.

        Left out: always right.
        """
        return True

    @prototype("int (*d_weak_revalidate)(struct dentry *, unsigned int);")
    @row("no", "no", "yes", "no")
    def d_weak_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Is a dentry still right that the walk reached by a jump ("/", "..", a mount)?

        Left out: yes.
        """
        return True

    @prototype("int (*d_hash)(const struct dentry *, struct qstr *);")
    @row("no", "no", "no", "maybe")
    def d_hash(self, dentry: Dentry, name: str) -> str:
        """Never sleeps.  The key under which ``name`` is hashed in directory ``dentry``.

        Names that `d_compare` takes for equal must have equal keys.  Raises whatever a bad name
        deserves.

        Left out: the name itself.
        """
        return name

    @prototype(
        "int (*d_compare)(const struct dentry *, unsigned int, const char *, const struct qstr *);"
    )
    @row(
        cell(
            "yes",
            expects=the_name_cannot_change,
            status=ADAPTED,
            means="the caller is in a rename_lock read section, or holds the candidate's d_lock, "
            "or is in rcu-walk: rename_lock itself is at most sampled",
        ),
        cell("no", not_promised="dentry.d_lock"),
        "no",
        "maybe",
    )
    def d_compare(self, dentry: Dentry, len: int, str: str, name: str) -> int:
        """Never sleeps.  0 if the candidate ``dentry``'s name ``str`` is the ``name`` looked for,
        else something else.

        Left out: 0 if they are equal.
        """
        return int(str != name)

    @prototype("int (*d_delete)(struct dentry *);")
    @row("no", "yes", "no", "no")
    def d_delete(self, dentry: Dentry) -> bool:
        """Never sleeps.  The last reference is being put: forget the name at once?

        Left out: no, keep it cached.
        """
        return False

    @prototype("int (*d_init)(struct dentry *);")
    @row("no", "no", "yes", "no")
    def d_init(self, dentry: Dentry) -> None:
        """Sleeps.  A dentry was allocated; nobody else knows it.  An error makes the allocation
        fail.
        """

    @prototype("void (*d_release)(struct dentry *);")
    @row("no", "no", "yes", "no")
    def d_release(self, dentry: Dentry) -> None:
        """Sleeps.  The dentry is dead and about to be freed: free what ``d_fsdata`` holds."""

    @row("no", "yes", "no", "no")
    @must_hold("dentry.d_parent.d_lock", when=has_parent, rule="E25")
    @must_hold("dentry.d_inode.i_lock", when=positive, rule="E25")
    def d_prune(self, dentry: Dentry) -> None:
        """Never sleeps.  The dentry is about to leave the cache."""

    @prototype("void (*d_iput)(struct dentry *, struct inode *);")
    @row("no", "no", "yes", "no")
    @takes_ref("inode")
    def d_iput(self, dentry: Dentry, inode: Inode) -> None:
        """Sleeps.  The dentry loses its inode: put the reference it had.

        Left out: ``iput(inode)``.
        """
        from vfsim.fs.inode import iput

        iput(inode)

    @prototype("char *(*d_dname)((struct dentry *dentry, char *buffer, int buflen);")
    @row("no", "no", "no", "no")
    def d_dname(self, dentry: Dentry) -> str:
        """Never sleeps.  The path to show for a dentry that has no place in a tree.

        Left out: its name.
        """
        return dentry.d_name

    @prototype("struct vfsmount *(*d_automount)(struct path *path);")
    @row("no", "no", "yes", "no")
    def d_automount(self, path: Path) -> Mount | None:
        """Sleeps.  A walk enters a trigger point: the mount to put there, or None if somebody else
        did.

        Left out: EACCES is what the walk then raises for a dentry that claims to be a trigger.
        """
        raise EACCES()

    @prototype("int (*d_manage)(const struct path *, bool);")
    @row("no", "no", cell("yes (ref-walk)", never_blocks=transit_in_rcu_walk), "maybe")
    @expects(transit_tells_the_walk, rule="P1")
    def d_manage(self, path: Path, rcu_walk: bool) -> None:
        """Sleeps.  A walk passes a managed dentry: let it, hold it back, or raise.

        EISDIR lets it pass as an ordinary directory.  With ``rcu_walk`` it must not sleep; ECHILD
        asks for a walk with references.
        """

    @prototype("struct dentry *(*d_real)(struct dentry *, const struct inode *, unsigned int);")
    @row(
        "no",
        "no",
        cell(
            "yes",
            never_blocks=not_opening,
            status=ADAPTED,
            means="the method may sleep only when called to open (open_flags not 0); the lease "
            "code calls it under a spinlock",
        ),
        "no",
    )
    def d_real(self, dentry: Dentry, inode: Inode | None, open_flags: int) -> Dentry:
        """Sleeps.  The dentry beneath one of a stacking filesystem.

        Left out: the dentry itself.
        """
        return dentry


# -- inodes ----------------------------------------------------------------------------------------


class InodeOperations(Operations):
    """What a filesystem does with one inode (``inode.i_op``): names in a directory, attributes of
    anything.
    """

    table = "inode_operations"
    columns = (Lock("i_mutex(inode)", "dir.i_rwsem", "inode.i_rwsem", "dentry.d_inode.i_rwsem"),)
    blanket = "all may block"
    blanket_rule = "P5"

    @prototype("struct dentry * (*lookup) (struct inode *,struct dentry *, unsigned int);")
    @row(
        "yes",
        shared="dir.i_rwsem",
        status=ADAPTED,
        means="the caller holds dir.i_rwsem, at least shared: lookups of different names run in "
        "parallel",
    )
    @gives_ref("return")
    @expects(nobody_else_looks, rule="E3")
    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  Find ``dentry.d_name`` in ``dir``: ``d_add(dentry, inode)``, with None for a
        name that is not there.

        Returns None, or another dentry with a reference for the caller (what ``d_splice_alias``
        returns).  A name that does not exist is no error.

        Left out: ENOTDIR.
        """
        raise ENOTDIR()

    @prototype("int (*create) (struct inode *,struct dentry *,umode_t, bool);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        """Sleeps.  Give the negative ``dentry`` a new regular file: ``d_instantiate`` it.

        Errors: ENOSPC, EDQUOT, EIO ...

        Left out: EACCES.
        """
        raise EACCES()

    @prototype("int (*link) (struct dentry *,struct inode *,struct dentry *);")
    @row("yes (both)", held=("dir.i_rwsem", "old_dentry.d_inode.i_rwsem"))
    @expects(the_directory_lives, rule="E5")
    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Make ``dentry`` another name of ``old_dentry``'s inode: one link more, one
        reference more.

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*mknod) (struct inode *,struct dentry *,umode_t,dev_t);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        """Sleeps.  Give the negative ``dentry`` a device node, pipe, socket or regular file.

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*symlink) (struct inode *,struct dentry *,const char *);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        """Sleeps.  Give the negative ``dentry`` a symlink to ``symname``.  Left out: EPERM."""
        raise EPERM()

    @prototype("int (*mkdir) (struct inode *,struct dentry *,umode_t);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  Give the negative ``dentry`` a new directory; ``dir`` gains a link for its "..".

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*unlink) (struct inode *,struct dentry *);")
    @row(
        "yes (both)",
        held=("dir.i_rwsem", when(positive, "dentry.d_inode.i_rwsem", rule="P3")),
        means="the caller holds dir.i_rwsem and dentry.d_inode.i_rwsem exclusive",
    )
    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Take the name out of ``dir``: one link less.  The inode lives on while it is
        open.

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*rmdir) (struct inode *,struct dentry *);")
    @row(
        "yes (both) (see below)",
        held=("dir.i_rwsem", when(positive, "dentry.d_inode.i_rwsem", rule="P3")),
        means="the caller holds dir.i_rwsem and dentry.d_inode.i_rwsem exclusive",
    )
    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Remove the directory, which must be empty (else ENOTEMPTY): its links and
        ``dir``'s one for "..".

        Left out: EPERM.
        """
        raise EPERM()

    @prototype(
        "int (*rename) (struct inode *, struct dentry *, struct inode *, struct dentry *, unsigned "
        "int);"
    )
    @row(
        "yes (all) (see below)",
        held=(
            "old_dir.i_rwsem",
            "new_dir.i_rwsem",
            when(replaces, "new_dentry.d_inode.i_rwsem", rule="P3"),
            when(moves_a_file, "old_dentry.d_inode.i_rwsem"),
        ),
        status=ADAPTED,
        means="the caller holds both parents exclusive, the victim (an existing target) and a "
        "source that is no directory; a source directory is not promised",
    )
    @must_hold("old_dir.i_sb.s_vfs_rename_mutex", when=crosses_directories, rule="P4")
    @expects(the_new_directory_lives, rule="E5")
    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  Move a name; an existing target goes (RENAME_NOREPLACE: the VFS has seen that
        there is none) or, with RENAME_EXCHANGE, swaps places.  The VFS does ``d_move`` afterwards.

        Errors: EINVAL for ``flags`` it does not know, ENOTEMPTY ...

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*readlink) (struct dentry *, char __user *,int);")
    @row("no")
    def readlink(self, dentry: Dentry) -> str:
        """Sleeps.  The target of a symlink, for readlink(2).

        Left out: what `get_link` says, or EINVAL.
        """
        inode = dentry.d_inode
        assert inode is not None
        if inode.i_link is not None:
            return inode.i_link
        return self.get_link(dentry, inode)

    @prototype("const char *(*get_link) (struct dentry *, struct inode *, void **);")
    @row("no")
    @never_blocks(when=without_dentry, rule="E1")
    @expects(an_rcu_walk, when=without_dentry, rule="E1")
    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Sleeps.  The target of a symlink, for a walk.

        With ``dentry`` None the walk is an rcu-walk: it must not sleep, and ECHILD asks for a walk
        with references.

        Left out: the inode is no symlink, EINVAL.
        """
        raise EINVAL()

    @prototype("int (*setattr) (struct dentry *, struct iattr *);")
    @row("yes")
    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Change mode, owner, size or times as ``attr`` says (start with
        ``setattr_prepare``).

        Left out: any change is accepted, and kept in memory (``simple_setattr``).
        """
        from vfsim.fs.attr import simple_setattr

        simple_setattr(dentry, attr)

    @prototype("int (*permission) (struct inode *, int, unsigned int);")
    @row("no (may not block if called in rcu-walk mode)", not_promised="inode.i_rwsem")
    @never_blocks(when=asked_not_to_block, rule="P2")
    @expects(an_rcu_walk, when=asked_not_to_block, rule="P2")
    def permission(self, inode: Inode, mask: int) -> None:
        """Sleeps.  Return if the task may do ``mask`` (MAY_* bits), else raise EACCES or the like.

        With MAY_NOT_BLOCK it must not sleep, and ECHILD asks for a walk with references.

        Left out: mode bits and capabilities decide (``generic_permission``).
        """
        from vfsim.fs.permission import generic_permission

        generic_permission(inode, mask)

    @prototype("int (*get_acl)(struct inode *, int);")
    @row("no", not_promised="inode.i_rwsem")
    @expects(no_rcu_walk, rule="E2")
    def get_acl(self, inode: Inode, type: int) -> Any:
        """Sleeps.  The access control list of that type, or None.  Left out: None."""
        return None

    @prototype("int (*getattr) (struct vfsmount *, struct dentry *, struct kstat *);")
    @row("no", not_promised="dentry.d_inode.i_rwsem")
    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Sleeps.  What stat(2) shows.  Left out: the inode's fields (``generic_fillattr``)."""
        from vfsim.fs.attr import generic_fillattr

        assert dentry.d_inode is not None
        return generic_fillattr(dentry.d_inode)

    @prototype("ssize_t (*listxattr) (struct dentry *, char *, size_t);")
    @row("no")
    def listxattr(self, dentry: Dentry) -> list[str]:
        """Sleeps.  The names of all extended attributes.  Left out: none."""
        return []

    @prototype("int (*fiemap)(struct inode *, struct fiemap_extent_info *, u64 start, u64 len);")
    @row("no")
    def fiemap(self, inode: Inode, fieinfo: Any, start: int, len: int) -> None:
        """Sleeps.  Tell ``fieinfo`` where bytes ``start`` to ``start + len`` are stored.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

    @prototype("void (*update_time)(struct inode *, struct timespec *, int);")
    @row("no", not_promised="inode.i_rwsem")
    def update_time(self, inode: Inode, time: int, flags: int) -> None:
        """Sleeps.  Set the times in ``flags`` to ``time`` (ns) and see to it that they get stored.

        Left out: in memory, and the inode is dirty (``generic_update_time``).
        """
        from vfsim.fs.attr import generic_update_time

        generic_update_time(inode, time, flags)

    @prototype(
        "int (*atomic_open)(struct inode *, struct dentry *, struct file *, unsigned open_flag, "
        "umode_t create_mode, int *opened);"
    )
    @row(
        "yes",
        held=when(creating, "dir.i_rwsem"),
        shared="dir.i_rwsem",
        status=ADAPTED,
        means="the caller holds dir.i_rwsem: exclusive with O_CREAT, else at least shared",
    )
    @expects(the_directory_lives, rule="E5")
    def atomic_open(
        self, dir: Inode, dentry: Dentry, file: File, open_flag: int, create_mode: int
    ) -> Any:
        """Sleeps.  Look up, create and open in one step, for filesystems whose server does.

        Left out: never called; the VFS does `lookup`, `create` and ``open`` one after the other.
        """
        raise ENOSYS()

    @prototype("int (*tmpfile) (struct inode *, struct dentry *, umode_t);")
    @row("no")
    def tmpfile(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  Give ``dentry`` a new file without a name in ``dir`` (O_TMPFILE).

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

    @prototype("void (*truncate) (struct inode *);")
    def truncate(self, inode: Inode) -> None:
        """Sleeps.  Cut what is stored down to ``i_size``.  Called for a filesystem without
        `setattr`, as kernels up to 2.6.37 did; the document gives it no row.

        Left out: nothing.
        """


class XattrHandler(Operations):
    """Extended attributes whose names begin with ``prefix`` (``sb.s_xattr``)."""

    table = "xattr_handler"
    columns = (Lock("i_mutex(inode)", "inode.i_rwsem", "dentry.d_inode.i_rwsem"),)
    blanket = "all may block"
    blanket_rule = "P5"

    prefix: ClassVar[str] = ""

    @prototype("bool (*list)(struct dentry *dentry);")
    @row("no")
    def list(self, dentry: Dentry) -> bool:
        """Sleeps.  Does listxattr(2) show them to this task?  Left out: yes."""
        return True

    @prototype(
        "int (*get)(const struct xattr_handler *handler, struct dentry *dentry, struct inode "
        "*inode, const char *name, void *buffer, size_t size);"
    )
    @row("no", not_promised="inode.i_rwsem")
    def get(self, dentry: Dentry, inode: Inode, name: str) -> bytes:
        """Sleeps.  The value of ``name`` (without the prefix), or ENODATA.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

    @prototype(
        "int (*set)(const struct xattr_handler *handler, struct dentry *dentry, struct inode "
        "*inode, const char *name, const void *buffer, size_t size, int flags);"
    )
    @row("yes")
    def set(self, dentry: Dentry, inode: Inode, name: str, value: bytes | None, flags: int) -> None:
        """Sleeps.  Set the attribute; ``value`` None removes it.  ``flags``: XATTR_CREATE,
        XATTR_REPLACE.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()


# -- superblocks -----------------------------------------------------------------------------------


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
    def freeze_fs(self, sb: SuperBlock) -> None:
        """Sleeps.  Make what is on the medium consistent and leave it so until `unfreeze_fs`.

        Left out: nothing.
        """

    @prototype("int (*unfreeze_fs) (struct super_block *);")
    @row("write")
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
        """Sleeps.  Change mount options; returns the flags to have.  Left out: as asked."""
        return flags

    @prototype("void (*umount_begin) (struct super_block *);")
    @row("no")
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
    def bdev_try_to_free_page(self, sb: SuperBlock, page: Page, gfp: int) -> bool:
        """Sleeps.  Free what the filesystem attached to a page of its block device; True if the
        page has nothing left.

        ``page`` is locked.

        Left out: its buffers are freed if they are idle.
        """
        from vfsim.mm.buffers import try_to_free_buffers

        return try_to_free_buffers(page)


class FileSystemType(Operations):
    """A kind of filesystem: how to mount one and how to end it.  ``vfsim check`` starts from here.

    Attributes:
        name: what mount(2) and /proc/filesystems call it.
        device: a disk to make and mount it on, or None for one in memory.
        fs_flags: FS_* flags (see `vfsim.fs.super`).
    """

    table = "file_system_type"
    columns = (MayBlock("may block"),)

    name: str = ""
    device: RamDisk | None = None
    fs_flags: int = 0

    @classmethod
    def mkfs(cls, device: RamDisk) -> None:
        """Write an empty filesystem to a disk, from outside of the simulation.

        Left out: the disk stays blank.
        """

    @prototype("struct dentry *(*mount) (struct file_system_type *, int, const char *, void *);")
    @row("yes")
    @acquires("return.d_sb.s_umount", rule="P14")
    @gives_ref("return")
    @watch(returns_a_root)
    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  Find or make a superblock and return its root, with a reference and with
        ``s_umount`` held.

        ``mount_nodev`` and ``mount_bdev`` do all that, given a function that fills the superblock.

        Left out: `fill_super` does that, on the disk if there is one; each mount in memory is a new
        filesystem.
        """
        from vfsim.fs.super import mount_bdev, mount_nodev

        if self.device is not None:
            return mount_bdev(self, flags, dev_name, data, self.fill_super)
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  Set ``s_op`` and ``s_root`` of a new superblock.

        Left out: there is nothing to mount, ENODEV.
        """
        raise ENODEV()

    @prototype("void (*kill_sb) (struct super_block *);")
    @row("yes")
    @must_hold("sb.s_umount", rule="P15")
    @releases("sb.s_umount", rule="P16")
    @watch(shuts_down)
    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Shut the superblock down, unlock ``s_umount``, let go of what `mount` took.

        ``kill_litter_super``, ``kill_anon_super`` and ``kill_block_super`` do all that.

        Left out: by ``kill_block_super`` with a device, else by ``kill_anon_super``.
        """
        from vfsim.fs.super import kill_anon_super, kill_block_super

        if sb.s_bdev is not None:
            kill_block_super(sb)
        else:
            kill_anon_super(sb)


# -- open files ------------------------------------------------------------------------------------


def _never(what: str) -> NoReturn:
    raise AssertionError(f"{what} is asked for with implements() first")


class FileOperations(Operations):
    """What a filesystem does with an open file (``file.f_op``).  The document gives the table no
    rows: all may block, and no lock is promised but what stands in its prose.
    """

    table = "file_operations"
    blanket = "All may block."
    blanket_rule = "P65"

    @prototype("loff_t (*llseek) (struct file *, loff_t, int);")
    @must_not_hold("file.f_inode.i_rwsem", rule="P66")
    def llseek(self, file: File, offset: int, whence: int) -> int:
        """Sleeps.  Move ``f_pos``; returns where it is now.  Locks for itself (P66).

        Left out: ESPIPE.
        """
        raise ESPIPE()

    @prototype("ssize_t (*read) (struct file *, char __user *, size_t, loff_t *);")
    def read(self, file: File, count: int, pos: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from ``pos``; empty at the end.

        Left out: `read_iter`, or EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*write) (struct file *, const char __user *, size_t, loff_t *);")
    def write(self, file: File, data: bytes, pos: int) -> int:
        """Sleeps.  Write at ``pos``; returns how many bytes.  Left out: `write_iter`, or EINVAL."""
        raise EINVAL()

    @prototype("ssize_t (*read_iter) (struct kiocb *, struct iov_iter *);")
    def read_iter(self, iocb: Kiocb, count: int) -> bytes:
        """Sleeps.  Up to ``count`` bytes from ``iocb.ki_pos``, which moves on.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*write_iter) (struct kiocb *, struct iov_iter *);")
    def write_iter(self, iocb: Kiocb, data: bytes) -> int:
        """Sleeps.  Write at ``iocb.ki_pos``, which moves on; returns how many bytes.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("int (*iterate) (struct file *, struct dir_context *);")
    @must_hold("file.f_inode.i_rwsem", rule="E4")
    @expects(the_open_directory_lives, rule="E4")
    def iterate(self, file: File, ctx: Any) -> None:
        """Sleeps.  Tell ``ctx.emit(name, ino, d_type)`` of the entries from ``ctx.pos`` on, until
        it says False.

        Left out: not a directory, ENOTDIR.
        """
        raise ENOTDIR()

    @prototype("unsigned int (*poll) (struct file *, struct poll_table_struct *);")
    def poll(self, file: File, wait: Any) -> int:
        """Sleeps.  POLL* bits that are true now; ``wait`` is told whom to wait for.

        Left out: readable, writable.
        """
        return 0x145

    @prototype("long (*unlocked_ioctl) (struct file *, unsigned int, unsigned long);")
    def unlocked_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2).  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("long (*compat_ioctl) (struct file *, unsigned int, unsigned long);")
    def compat_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        """Sleeps.  ioctl(2) of a 32-bit program.  Left out: ENOTTY."""
        raise ENOTTY()

    @prototype("int (*mmap) (struct file *, struct vm_area_struct *);")
    @must_hold("vma.vm_mm.mmap_sem", rule="E19")
    def mmap(self, file: File, vma: Any) -> None:
        """Sleeps.  Prepare a mapping: set ``vma.vm_ops``.  Left out: ENODEV."""
        raise ENODEV()

    @prototype("int (*open) (struct inode *, struct file *);")
    def open(self, inode: Inode, file: File) -> None:
        """Sleeps.  A file is being opened: set ``private_data``, or refuse.  Left out: fine."""

    @prototype("int (*flush) (struct file *);")
    def flush(self, file: File) -> None:
        """Sleeps.  A descriptor is being closed (others may remain); its error is close(2)'s.

        Left out: nothing.
        """

    @prototype("int (*release) (struct inode *, struct file *);")
    def release(self, inode: Inode, file: File) -> None:
        """Sleeps.  The last reference is gone: undo `open`.  Left out: nothing."""

    @prototype("int (*fsync) (struct file *, loff_t start, loff_t end, int datasync);")
    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Sleeps.  Bytes ``start`` to ``end`` (inclusive) and, unless ``datasync``, all attributes
        are on the medium when it returns.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("int (*fasync) (int, struct file *, int);")
    @watch(keeps_fasync)
    def fasync(self, fd: int, file: File, on: int) -> int:
        """Sleeps.  Turn signal-driven I/O on or off, and the FASYNC flag with it (P68).

        Left out: the flag only.
        """
        file.f_flags = file.f_flags | _FASYNC if on else file.f_flags & ~_FASYNC
        return 0

    @prototype("int (*lock) (struct file *, int, struct file_lock *);")
    def lock(self, file: File, cmd: int, fl: Any) -> int:
        """Sleeps.  Set or test a POSIX lock.

        Left out: never called; the kernel keeps the locks itself.
        """
        _never("lock")

    @prototype("ssize_t (*readv) (struct file *, const struct iovec *, unsigned long, loff_t *);")
    def readv(self, file: File, iov: Sequence[int], pos: int) -> bytes:
        """Sleeps.  Read into pieces of these lengths.  Called if there is no `read_iter`, as older
        kernels did.

        Left out: piece by piece, EINVAL if it cannot be read at all.
        """
        raise EINVAL()

    @prototype("ssize_t (*writev) (struct file *, const struct iovec *, unsigned long, loff_t *);")
    def writev(self, file: File, iov: Sequence[bytes], pos: int) -> int:
        """Sleeps.  Write these pieces.  Called if there is no `write_iter`, as older kernels did.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype(
        "ssize_t (*sendfile) (struct file *, loff_t *, size_t, read_actor_t, void __user *);"
    )
    def sendfile(self, file: File, pos: int, count: int, actor: Any, target: Any) -> int:
        """Sleeps.  Feed bytes to ``actor``.  Called if there is no `splice_read`, as older kernels
        did.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("ssize_t (*sendpage) (struct file *, struct page *, int, size_t, loff_t *, int);")
    def sendpage(self, file: File, page: Page, offset: int, size: int, pos: int, more: int) -> int:
        """Sleeps.  Send part of a page, for sockets.  Left out: EINVAL."""
        raise EINVAL()

    @prototype(
        "unsigned long (*get_unmapped_area)(struct file *, unsigned long, unsigned long, unsigned "
        "long, unsigned long);"
    )
    @must_hold_shared("any mmap_sem", rule="E19")
    def get_unmapped_area(self, file: File, addr: int, len: int, pgoff: int, flags: int) -> int:
        """Sleeps.  Choose an address for a mapping.

        Left out: never called; the process's address space decides.
        """
        _never("get_unmapped_area")

    @prototype("int (*check_flags)(int);")
    def check_flags(self, flags: int) -> None:
        """Sleeps.  Refuse flags that fcntl(F_SETFL) wants to set.  Left out: all are fine."""

    @prototype("int (*flock) (struct file *, int, struct file_lock *);")
    def flock(self, file: File, cmd: int, fl: Any) -> int:
        """Sleeps.  flock(2).  Left out: never called; the kernel keeps the locks itself."""
        _never("flock")

    @prototype(
        "ssize_t (*splice_write)(struct pipe_inode_info *, struct file *, loff_t *, size_t, "
        "unsigned int);"
    )
    def splice_write(self, pipe: Any, file: File, pos: int, len: int, flags: int) -> int:
        """Sleeps.  Move bytes from a pipe into the file.

        Left out: never called; the kernel writes what it reads.
        """
        _never("splice_write")

    @prototype(
        "ssize_t (*splice_read)(struct file *, loff_t *, struct pipe_inode_info *, size_t, "
        "unsigned int);"
    )
    def splice_read(self, file: File, pos: int, pipe: Any, len: int, flags: int) -> int:
        """Sleeps.  Move bytes from the file into a pipe.

        Left out: never called; the kernel writes what it reads.
        """
        _never("splice_read")

    @prototype("int (*setlease)(struct file *, long, struct file_lock **, void **);")
    def setlease(self, file: File, arg: int, flp: Any, priv: Any) -> int:
        """Sleeps.  Set a lease, with ``generic_setlease`` before or after (P73).

        Left out: just that.
        """
        _never("setlease")

    @prototype("long (*fallocate)(struct file *, int, loff_t, loff_t);")
    def fallocate(self, file: File, mode: int, offset: int, len: int) -> None:
        """Sleeps.  Reserve, punch or shift a range.  Left out: EOPNOTSUPP."""
        raise EOPNOTSUPP()


# -- file locks and quota --------------------------------------------------------------------------

_FLC = " (since v4.0 the inode's flc_lock has the role of i_lock; reports say i_lock (flc_lock))"


class FileLockOperations(Operations):
    """What the owner of a file lock does when it is copied or goes away (``fl.fl_ops``)."""

    table = "file_lock_operations"
    columns = (Lock("inode->i_lock", "any flc_lock"), MayBlock("may block"))

    @prototype("void (*fl_copy_lock)(struct file_lock *, struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + _FLC,
        ),
        "no",
    )
    def fl_copy_lock(self, new: Any, fl: Any) -> None:
        """Never sleeps.  A lock was copied: copy what belongs to it."""

    @prototype("void (*fl_release_private)(struct file_lock *);")
    @row(
        cell(
            "maybe",
            not_promised="any flc_lock",
            status=ADAPTED,
            means="with or without flc_lock" + _FLC,
        ),
        cell(
            "maybe[1]",
            never_blocks=is_lease,
            prose="P54",
            means="the method may sleep for flock and POSIX locks, and must not for a lease",
        ),
    )
    def fl_release_private(self, fl: Any) -> None:
        """Sleeps.  A lock goes away: free what belongs to it."""


class LockManagerOperations(Operations):
    """What a lock manager (lockd, the lease code) does for its locks (``fl.fl_lmops``)."""

    table = "lock_manager_operations"
    columns = (
        Lock("inode->i_lock", "any flc_lock"),
        Lock("blocked_lock_lock", "@blocked_lock_lock"),
        MayBlock("may block"),
    )

    @prototype("int (*lm_compare_owner)(struct file_lock *, struct file_lock *);")
    @row(
        cell(
            "yes[1]",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds some inode's flc_lock, not necessarily one of these locks'"
            + _FLC,
        ),
        "maybe",
        "no",
    )
    def lm_compare_owner(self, fl1: Any, fl2: Any) -> bool:
        """Never sleeps.  Have the two locks one owner?  Left out: if ``fl_owner`` is the same."""
        return fl1.fl_owner is fl2.fl_owner

    @prototype("unsigned long (*lm_owner_key)(struct file_lock *);")
    @row(
        cell(
            "yes[1]",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds some inode's flc_lock, not necessarily this lock's" + _FLC,
        ),
        "yes",
        "no",
    )
    def lm_owner_key(self, fl: Any) -> Any:
        """Never sleeps.  A key that equal owners share, for the hash of waiters.

        Left out: ``fl_owner``.
        """
        return fl.fl_owner

    @prototype("void (*lm_notify)(struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + _FLC,
        ),
        "yes",
        "no",
    )
    def lm_notify(self, fl: Any) -> None:
        """Never sleeps.  The lock that ``fl`` waited for is gone.

        Left out: its waiter is woken.
        """

    @prototype("int (*lm_grant)(struct file_lock *, struct file_lock *, int);")
    @row("no", "no", "no")
    def lm_grant(self, fl: Any, result: int) -> int:
        """Never sleeps.  An asynchronous request was answered: ``result`` is 0 or an errno.

        Left out: 0.
        """
        return 0

    @prototype("void (*lm_break)(struct file_lock *);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + _FLC,
        ),
        "no",
        "no",
    )
    def lm_break(self, fl: Any) -> bool:
        """Never sleeps.  Somebody wants the lease: tell its holder.  True drops it at once.

        Left out: False.
        """
        return False

    @prototype("int (*lm_change)(struct file_lock **, int);")
    @row(
        cell(
            "yes",
            held="any flc_lock",
            status=ADAPTED,
            means="the caller holds the inode's flc_lock" + _FLC,
        ),
        "no",
        "no",
    )
    def lm_change(self, fl: Any, arg: int, dispose: Any) -> int:
        """Never sleeps.  Change the lease's type to ``arg``.  Left out: 0, and nothing changes."""
        return 0


class DquotOperations(Operations):
    """What a filesystem wraps around the generic quota operations (``sb.dq_op``)."""

    table = "dquot_operations"
    columns = (Note("FS recursion"), Note("Held locks when called"))

    @prototype("int (*write_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def write_dquot(self, dquot: Any) -> None:
        """Sleeps.  Write a dquot that is in use.

        Left out: ``dquot_commit``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*acquire_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def acquire_dquot(self, dquot: Any) -> None:
        """Sleeps.  Read a dquot on its first use.

        Left out: ``dquot_acquire``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*release_dquot) (struct dquot *);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell(
            "dqonoff_sem or dqptr_sem",
            expects=under_a_quota_lock,
            means="the caller holds one of the two",
        ),
    )
    def release_dquot(self, dquot: Any) -> None:
        """Sleeps.  Let go of a dquot on its last put.

        Left out: ``dquot_release``, once quota exists here.
        """
        raise ENOSYS()

    @prototype("int (*mark_dirty) (struct dquot *);")
    @row(
        cell(
            "no",
            status=ADAPTED,
            means="the method does not call quota_read and quota_write; with journalled quota "
            "the filesystem may, and says so",
        ),
        cell("-", status="not promised", means="no lock may be relied on"),
    )
    @watch(marks_recursion)
    def mark_dirty(self, dquot: Any) -> None:
        """Sleeps.  A dquot was changed.  Left out: it is written with the next sync."""

    @prototype("int (*write_info) (struct super_block *, int);")
    @row(
        cell("yes", means="the method may call quota_read and quota_write"),
        cell("dqonoff_sem", held="sb.s_dquot.dqonoff_sem"),
    )
    def write_info(self, sb: SuperBlock, type: int) -> None:
        """Sleeps.  Write the header of the quota file.

        Left out: ``dquot_commit_info``, once quota exists here.
        """
        raise ENOSYS()


__all__ = [
    "LOOKUP_RCU",
    "MAY_NOT_BLOCK",
    "DentryOperations",
    "DquotOperations",
    "FileLockOperations",
    "FileOperations",
    "FileSystemType",
    "InodeOperations",
    "LockManagerOperations",
    "Operations",
    "SuperOperations",
    "XattrHandler",
]
