"""What a filesystem does with an inode, as the document prints it::

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

Called by the system calls that change a directory (`vfsim.fs.open`, `vfsim.fs.directory`), by the
path walk (``lookup``, ``permission``, ``get_link``), and by those that read or set attributes
(`vfsim.fs.attr`).  A directory's ``i_rwsem`` covers the names in it: held exclusive by whoever
changes one, at least shared by whoever looks one up.  The victim of an operation is locked below
its parents, and a rename between directories holds the superblock's ``s_vfs_rename_mutex`` above
them.
"""

from __future__ import annotations

import os
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any

from vfsim.checks.contract import Operations
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    cannot_fail,
    expects,
    gives_ref,
    must_hold,
    never_blocks,
    prototype,
    row,
    when,
)
from vfsim.fs.operations.bits import (
    DCACHE_PAR_LOOKUP,
    MAY_NOT_BLOCK,
    RENAME_EXCHANGE,
    S_DEAD,
)
from vfsim.fs.operations.dentry_operations import positive
from vfsim.fs.operations.freeze_rules import (
    the_write_level_is_held_outside_of_the_directories,
    the_write_level_is_held_outside_of_the_directory,
    the_write_level_is_held_outside_of_the_inode,
)
from vfsim.sim.errors import EACCES, EINVAL, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.attr import IAttr, KStat
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def asked_not_to_block(mask: int) -> bool:
    return bool(mask & MAY_NOT_BLOCK)


def without_dentry(dentry: Dentry | None) -> bool:
    return dentry is None


def an_rcu_walk() -> bool:
    return K.cur.ctx.rcu > 0


def no_rcu_walk() -> bool:
    return not K.cur.ctx.rcu


def nobody_else_looks(dentry: Dentry) -> bool:
    parent = dentry.d_parent
    if not parent.d_lookups:
        return True
    others = parent.d_lookups.get(dentry.d_key, ())
    return not any(d is not dentry and d.d_name == dentry.d_name for d in others)


def in_lookup(dentry: Dentry) -> bool:
    return bool(dentry.d_flags & DCACHE_PAR_LOOKUP)


def the_directory_lives(dir: Inode) -> bool:
    return not dir.i_flags & S_DEAD


def both_directories_live(old_dir: Inode, new_dir: Inode) -> bool:
    return not (old_dir.i_flags | new_dir.i_flags) & S_DEAD


def creating(open_flag: int) -> bool:
    return bool(open_flag & os.O_CREAT)


def crosses_directories(old_dir: Inode, new_dir: Inode) -> bool:
    return old_dir is not new_dir


def replaces(new_dentry: Dentry, flags: int) -> bool:
    victim = new_dentry.d_inode
    return victim is not None and not (flags & RENAME_EXCHANGE and S_ISDIR(victim.i_mode))


def moves_a_file(old_dentry: Dentry) -> bool:
    return old_dentry.d_inode is not None and not S_ISDIR(old_dentry.d_inode.i_mode)


# -- the table -------------------------------------------------------------------------------------


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
    @expects(the_directory_lives, rule="E5")
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
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        """Sleeps.  Give the negative ``dentry`` a new regular file: ``d_instantiate`` it.

        Errors: ENOSPC, EDQUOT, EIO ...

        Left out: EACCES.
        """
        raise EACCES()

    @prototype("int (*link) (struct dentry *,struct inode *,struct dentry *);")
    @row("yes (both)", held=("dir.i_rwsem", "old_dentry.d_inode.i_rwsem"))
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Make ``dentry`` another name of ``old_dentry``'s inode: one link more, one
        reference more.

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*mknod) (struct inode *,struct dentry *,umode_t,dev_t);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        """Sleeps.  Give the negative ``dentry`` a device node, pipe, socket or regular file.

        Left out: EPERM.
        """
        raise EPERM()

    @prototype("int (*symlink) (struct inode *,struct dentry *,const char *);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        """Sleeps.  Give the negative ``dentry`` a symlink to ``symname``.  Left out: EPERM."""
        raise EPERM()

    @prototype("int (*mkdir) (struct inode *,struct dentry *,umode_t);")
    @row("yes")
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
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
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
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
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
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
    @expects(both_directories_live, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directories, rule="E6")
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
    @expects(the_write_level_is_held_outside_of_the_inode, rule="E6")
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
        """Sleeps.  The access control list of that type (ACL_TYPE_*), or None.

        Left out: None.
        """
        return None

    def set_acl(self, inode: Inode, acl: Any, type: int) -> None:
        """Sleeps.  Keep that access control list, or none; call ``set_cached_acl`` when it is kept.
        The inode's i_rwsem is held.  The document does not know it.

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

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
    @expects(nobody_else_looks, when=in_lookup, rule="E3")
    @expects(the_directory_lives, rule="E5")
    @expects(the_write_level_is_held_outside_of_the_directory, when=creating, rule="E6")
    def atomic_open(
        self, dir: Inode, dentry: Dentry, file: File, open_flag: int, create_mode: int
    ) -> Any:
        """Sleeps.  Look up, create and open in one step, for filesystems whose server does.

        Left out: never called; the VFS does `lookup`, `create` and ``open`` one after the other.
        """
        raise ENOSYS()

    @prototype("int (*tmpfile) (struct inode *, struct dentry *, umode_t);")
    @row("no")
    @expects(the_write_level_is_held_outside_of_the_directory, rule="E6")
    def tmpfile(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  Give ``dentry`` a new file without a name in ``dir`` (O_TMPFILE).

        Left out: EOPNOTSUPP.
        """
        raise EOPNOTSUPP()

    @prototype("void (*truncate) (struct inode *);")
    @cannot_fail
    def truncate(self, inode: Inode) -> None:
        """Sleeps.  Cut what is stored down to ``i_size``.  Called for a filesystem without
        `setattr`, as kernels up to 2.6.37 did; the document gives it no row.

        Left out: nothing.
        """
