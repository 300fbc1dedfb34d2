"""What a filesystem says about names, as the document prints it::

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

Called by the path walk (`vfsim.fs.namei`, `vfsim.fs.d_lookup`) for each name that it finds or
looks for, and by the dcache (`vfsim.fs.dcache`, `vfsim.fs.dentry`) when a dentry is made, pruned or
freed.  A walk with references may sleep; one in rcu-walk holds nothing but the RCU read lock, and
says so in its flags.  No lock of the directory is promised anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.contract import Operations
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    MayBlock,
    RcuWalk,
    cannot_fail,
    cell,
    expects,
    must_hold,
    prototype,
    row,
    takes_ref,
)
from vfsim.fs.operations.bits import LOOKUP_RCU
from vfsim.sim.errors import EACCES
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Hashable

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount, Path


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def in_rcu_walk(flags: int) -> bool:
    return bool(flags & LOOKUP_RCU)


def flags_tell_the_walk(flags: int) -> bool:
    return bool(flags & LOOKUP_RCU) == (K.cur.ctx.rcu > 0)


def transit_in_rcu_walk(rcu_walk: bool) -> bool:
    return rcu_walk


def transit_tells_the_walk(rcu_walk: bool) -> bool:
    return rcu_walk == (K.cur.ctx.rcu > 0)


def the_name_cannot_change(dentry: Dentry) -> bool:
    t = K.cur
    return t.ctx.rcu > 0 or dentry.d_lock.owner is t


def not_opening(open_flags: int) -> bool:
    return not open_flags


def has_parent(dentry: Dentry) -> bool:
    return dentry.d_parent is not dentry


def positive(dentry: Dentry) -> bool:
    return dentry.d_inode is not None


# -- the table -------------------------------------------------------------------------------------


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
    def d_hash(self, dentry: Dentry, name: str) -> Hashable:
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
    @cannot_fail
    def d_compare(self, dentry: Dentry, len: int, str: str, name: str) -> int:
        """Never sleeps.  0 if the candidate ``dentry``'s name ``str`` is the ``name`` looked for,
        else something else.

        Left out: 0 if they are equal.
        """
        return int(str != name)

    @prototype("int (*d_delete)(struct dentry *);")
    @row("no", "yes", "no", "no")
    @cannot_fail
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
    @cannot_fail
    def d_release(self, dentry: Dentry) -> None:
        """Sleeps.  The dentry is dead and about to be freed: free what ``d_fsdata`` holds."""

    @row("no", "yes", "no", "no")
    @must_hold("dentry.d_parent.d_lock", when=has_parent, rule="E25")
    @must_hold("dentry.d_inode.i_lock", when=positive, rule="E25")
    @cannot_fail
    def d_prune(self, dentry: Dentry) -> None:
        """Never sleeps.  The dentry is about to leave the cache."""

    @prototype("void (*d_iput)(struct dentry *, struct inode *);")
    @row("no", "no", "yes", "no")
    @takes_ref("inode")
    @cannot_fail
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
