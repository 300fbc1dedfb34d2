"""Names in an overfs directory: finding them in two trees, changing them in the upper one.

What happens in the upper tree depends on what lies below::

    create, link    in the upper directory; over a whiteout: made ready in the work directory,
                    then renamed onto it (a directory is opaque, and exchanged with it)
    unlink, rmdir   nothing below: from the upper directory
                    else a whiteout from the work directory takes the place, in one step
    rename          copy up what moves; it leaves a whiteout if something below would show,
                    or swaps places with the one that is where it goes
                    EXDEV for a directory that is not in the upper tree alone

The kernel holds the overfs directories' locks, so names here do not change meanwhile; the upper
directories are locked inside of them, two at a time by `lock_rename`.  Then the name is looked up
again: whoever changed the upper tree behind our back gets ESTALE.

The counterpart of ``fs/overlayfs/dir.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, S_ISCHR, S_ISDIR, S_ISLNK
from typing import TYPE_CHECKING

import attrs

from vfsim.filesystems.overfs.attributes import OverAttributes
from vfsim.filesystems.overfs.copy_up import clean_up, copy_up, make_real, new_name, set_upper
from vfsim.filesystems.overfs.layers import (
    Acting,
    OverEntry,
    OverInode,
    Writing,
    as_mounter,
    copy_attributes,
    entry_of,
    find,
    info_of,
    is_opaque,
    is_whiteout,
    lies_below,
    list_merged,
    list_real,
    set_opaque,
    upper_of,
)
from vfsim.fs.acl_cache import is_posixacl
from vfsim.fs.acl_xattr import (
    XATTR_NAME_POSIX_ACL_ACCESS,
    XATTR_NAME_POSIX_ACL_DEFAULT,
    posix_acl_create,
    posix_acl_to_xattr,
)
from vfsim.fs.attr import ATTR_MODE, IAttr, notify_change
from vfsim.fs.dcache import Dentry, d_add, d_drop, d_inode, d_instantiate, d_is_dir, dput
from vfsim.fs.directory import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    lock_rename,
    unlock_rename,
    vfs_link,
    vfs_mknod,
    vfs_rename,
    vfs_rmdir,
    vfs_unlink,
)
from vfsim.fs.inode import (
    I_MUTEX_PARENT,
    I_NEW,
    S_NOCMTIME,
    clear_nlink,
    drop_nlink,
    get_next_ino,
    iget5_locked,
    ihold,
    init_special_inode,
    inode_init_owner,
    iput,
    lockdep_annotate_inode_mutex_key,
    new_inode,
    unlock_new_inode,
)
from vfsim.fs.lookup import lookup_one_len
from vfsim.fs.mount import Path
from vfsim.fs.process import current_umask
from vfsim.fs.xattr import XATTR_CREATE, vfs_setxattr
from vfsim.sim.errors import EINVAL, EIO, ENOTEMPTY, EPERM, ESTALE, EXDEV

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.filesystems.overfs import OverFS
    from vfsim.fs.acl import PosixAcl
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock

    Make = Callable[[Dentry, Dentry], None]


# -- inodes ----------------------------------------------------------------------------------------


def over_inode(sb: SuperBlock, upper: Inode | None, lower: Inode | None) -> Inode:
    """Sleeps.  The inode of what was found beneath, with a reference: the same one for all names of
    a file in the upper tree.  Source: ``ovl_get_inode``, ``ovl_new_inode``.
    """
    real = upper or lower
    assert real is not None
    if upper is None or S_ISDIR(upper.i_mode):
        inode = new_inode(sb)
        assert isinstance(inode, OverInode)
        inode.upper, inode.lower = upper, lower
        _fill(inode, real)
        return inode

    def is_it(inode: Inode) -> bool:
        return isinstance(inode, OverInode) and inode.upper is upper

    def become(inode: Inode) -> None:
        assert isinstance(inode, OverInode)
        inode.i_ino, inode.upper = get_next_ino(), upper

    inode = iget5_locked(sb, upper.i_ino, is_it, become)
    if inode.i_state & I_NEW:
        _fill(inode, real)
        unlock_new_inode(inode)
    return inode


def _fill(inode: Inode, real: Inode) -> None:
    inode.i_mode = real.i_mode
    if S_ISDIR(real.i_mode):
        lockdep_annotate_inode_mutex_key(inode)
    set_tables(inode, real.i_rdev)
    copy_attributes(real, inode)


def set_tables(inode: Inode, rdev: int) -> None:
    """Never sleeps.  What an inode of the type in ``i_mode`` needs."""
    over: OverFS = inode.i_sb.s_type  # type: ignore[assignment]
    inode.i_flags |= S_NOCMTIME
    if S_ISDIR(inode.i_mode):
        inode.i_op, inode.i_fop = over.directory, over.open_directory
    elif S_ISLNK(inode.i_mode):
        inode.i_op = over.symlink
    else:
        inode.i_op = over.file
        init_special_inode(inode, inode.i_mode, rdev)


# -- directories -----------------------------------------------------------------------------------


class OverDirectory(OverAttributes):
    """A directory."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  In the upper tree, and in the lower one unless that hides it."""
        entry, inode = OverEntry(), None
        try:
            with as_mounter(dentry):
                _look(entry_of(dentry.d_parent), dentry.d_name, entry)
            if entry.upper is not None or entry.lower is not None:
                inode = over_inode(
                    dir.i_sb,
                    None if entry.upper is None else d_inode(entry.upper),
                    None if entry.lower is None else d_inode(entry.lower),
                )
        except OSError:
            entry.put()
            raise
        dentry.d_fsdata = entry
        d_add(dentry, inode)
        return None

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        """Sleeps.  An empty file."""
        self._make(dir, dentry, mode | S_IFREG)

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  An empty directory."""
        self._make(dir, dentry, mode | S_IFDIR)

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        """Sleeps.  A special file, but no whiteout."""
        if S_ISCHR(mode) and not dev:
            raise EPERM()
        self._make(dir, dentry, mode, dev)

    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        """Sleeps.  A symlink."""
        self._make(dir, dentry, S_IFLNK | 0o777, 0, symname)

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  Another name in the upper tree."""
        with Writing(dentry):
            copy_up(old_dentry)
            inode, upper = d_inode(old_dentry), upper_of(old_dentry)
            assert isinstance(inode, OverInode)

            def make(dir: Dentry, new: Dentry) -> None:
                vfs_link(upper, d_inode(dir), new)

            ihold(inode)
            try:
                self._enter(dir, dentry, inode, make)
            except OSError:
                iput(inode)
                raise

    def _make(self, dir: Inode, dentry: Dentry, mode: int, rdev: int = 0, target: str = "") -> None:
        """Source: ``ovl_create_object``."""
        with Writing(dentry):
            inode = new_inode(dir.i_sb)
            assert isinstance(inode, OverInode)
            inode_init_owner(inode, dir, mode)
            set_tables(inode, rdev)
            try:
                lists = None
                if entry_of(dentry).opaque:  # the work directory has no lists to inherit
                    inode.i_mode, *lists = posix_acl_create(dir, inode.i_mode)

                def make(dir: Dentry, new: Dentry) -> None:
                    masked = lists is None and not is_posixacl(d_inode(dir))
                    mode = inode.i_mode & ~current_umask() if masked else inode.i_mode
                    make_real(dir, new, mode, rdev, target)
                    if lists is not None:
                        _complete(new, inode.i_mode, *lists)

                self._enter(dir, dentry, inode, make)
            except OSError:
                iput(inode)
                raise

    def _enter(self, dir: Inode, dentry: Dentry, inode: OverInode, make: Make) -> None:
        """Sleeps.  Give a name a file in the upper tree, which ``make`` makes, as its owner.

        Source: ``ovl_create_or_link``.
        """
        parent = dentry.d_parent
        copy_up(parent)
        cred = attrs.evolve(info_of(dir.i_sb).cred, uid=inode.i_uid, gid=inode.i_gid)
        with Acting(cred):
            if entry_of(dentry).opaque:
                upper = _replace_whiteout(dentry, make, S_ISDIR(inode.i_mode))
            else:
                upper = _create_upper(dentry, make)
        entry_of(dentry).upper = upper
        if inode.upper is None:
            set_upper(inode, d_inode(upper))
        copy_attributes(d_inode(upper), inode)
        copy_attributes(d_inode(upper_of(parent)), dir)
        d_instantiate(dentry, inode)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  The name; a whiteout if the lower tree has it."""
        self._remove(dir, dentry)
        drop_nlink(d_inode(dentry))

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  As a file, if neither tree has a name in it.  Raises ENOTEMPTY."""
        self._remove(dir, dentry)
        clear_nlink(d_inode(dentry))

    def _remove(self, dir: Inode, dentry: Dentry) -> None:
        """Source: ``ovl_do_remove``."""
        with Writing(dentry), as_mounter(dentry):
            copy_up(dentry.d_parent)
            if lies_below(dentry):
                if d_is_dir(dentry):
                    _clear(dentry)
                _remove_and_whiteout(dentry)
            else:
                _remove_upper(dentry)
            copy_attributes(d_inode(upper_of(dentry.d_parent)), dir)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  In the upper tree.  Raises EINVAL (a whiteout is asked for), EXDEV (a directory
        that is merged, or in the lower tree), ENOTEMPTY, ESTALE.
        """
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise EINVAL()
        exchange = bool(flags & RENAME_EXCHANGE)
        if not _can_move(old_dentry) or (exchange and not _can_move(new_dentry)):
            raise EXDEV()
        with Writing(old_dentry), as_mounter(old_dentry):
            copy_up(old_dentry)
            copy_up(new_dentry.d_parent)
            if exchange:
                copy_up(new_dentry)
                _hide_below(new_dentry, old_dentry.d_parent)
            elif d_is_dir(new_dentry) and entry_of(new_dentry).below is not None:
                _clear(new_dentry)
            _hide_below(old_dentry, new_dentry.d_parent)
            _rename_upper(old_dentry, new_dentry, exchange, lies_below(old_dentry))
            copy_attributes(d_inode(upper_of(old_dentry.d_parent)), old_dir)
            copy_attributes(d_inode(upper_of(new_dentry.d_parent)), new_dir)


def _look(parent: OverEntry, name: str, entry: OverEntry) -> None:
    """Sleeps.  Find out what a name stands for.  Source: ``ovl_lookup``."""
    upper = None if parent.upper is None else find(parent.upper, name)
    if upper is not None:
        if is_whiteout(upper):
            dput(upper)
            entry.opaque = True
        else:
            entry.upper = upper
            entry.opaque = not d_is_dir(upper) or is_opaque(upper)
    if entry.opaque or parent.below is None:
        return
    lower = find(parent.below, name)
    if lower is not None and (is_whiteout(lower) or (upper is not None and not d_is_dir(lower))):
        dput(lower)
        lower = None
    entry.lower = lower


# -- changing the upper tree -----------------------------------------------------------------------


def _create_upper(dentry: Dentry, make: Make) -> Dentry:
    """Sleeps.  Make something in the upper directory; returns it with a reference.

    Source: ``ovl_create_upper``.
    """
    upperdir = upper_of(dentry.d_parent)
    sem = d_inode(upperdir).i_rwsem
    sem.down_write(I_MUTEX_PARENT)
    try:
        made = lookup_one_len(dentry.d_name, upperdir)
        try:
            if made.d_inode is not None:
                raise ESTALE()
            make(upperdir, made)
        except OSError:
            dput(made)
            raise
        return made
    finally:
        sem.up_write()


def _replace_whiteout(dentry: Dentry, make: Make, is_dir: bool) -> Dentry:
    """Sleeps.  The same where a whiteout is: nobody sees what lies below it.

    Source: ``ovl_create_over_whiteout``.
    """
    info, upperdir = info_of(dentry.d_sb), upper_of(dentry.d_parent)
    lock_workdir(info.workdir, upperdir)
    try:
        made = new_name(info)
        try:
            make(info.workdir, made)
            try:
                if is_dir:
                    set_opaque(dentry, made)
                _swap(info.workdir, made, upperdir, dentry.d_name, is_dir)
            except OSError:
                clean_up(info.workdir, made)
                raise
        except OSError:
            dput(made)
            raise
        return made
    finally:
        unlock_rename(info.workdir, upperdir)


def lock_workdir(workdir: Dentry, upperdir: Dentry) -> None:
    """Sleeps.  Lock the work directory and an upper one, for renames between them.  Raises EIO, if
    one lies below the other.  Source: ``ovl_lock_rename_workdir``.
    """
    if lock_rename(workdir, upperdir) is not None:
        unlock_rename(workdir, upperdir)
        raise EIO()


def _swap(workdir: Dentry, made: Dentry, upperdir: Dentry, name: str, exchange: bool) -> None:
    """Sleeps.  What was made ready takes its place; what was there goes, or (a directory, or in
    favour of one) is exchanged with it and removed then.
    """
    place = lookup_one_len(name, upperdir)
    try:
        exchange = exchange and place.d_inode is not None
        flags = RENAME_EXCHANGE if exchange else 0
        vfs_rename(d_inode(workdir), made, d_inode(upperdir), place, flags)
        if exchange:
            clean_up(workdir, place)
    finally:
        dput(place)


def _complete(dentry: Dentry, mode: int, default: PosixAcl | None, acl: PosixAcl | None) -> None:
    """Sleeps.  Give what was made in the work directory its mode and lists, umask or not."""
    if S_ISLNK(mode):
        return
    inode = d_inode(dentry)
    if inode.i_mode != mode:
        with inode.i_rwsem:
            notify_change(dentry, IAttr(ATTR_MODE, ia_mode=mode))
    for name, inherited in (
        (XATTR_NAME_POSIX_ACL_ACCESS, acl),
        (XATTR_NAME_POSIX_ACL_DEFAULT, default),
    ):
        if inherited is not None:
            vfs_setxattr(dentry, name, posix_acl_to_xattr(inherited), XATTR_CREATE)


def _remove_upper(dentry: Dentry) -> None:
    """Sleeps.  Remove what only the upper tree has.  Source: ``ovl_remove_upper``."""
    upperdir, entry = upper_of(dentry.d_parent), entry_of(dentry)
    dir = d_inode(upperdir)
    dir.i_rwsem.down_write(I_MUTEX_PARENT)
    try:
        place = _expect(upperdir, dentry)
        try:
            if d_is_dir(place):
                vfs_rmdir(dir, place)
            else:
                vfs_unlink(dir, place)
        finally:
            dput(place)
        entry.removed = True
        d_drop(dentry)  # or it would be kept as a negative one, with what it stood for
    finally:
        dir.i_rwsem.up_write()


def _remove_and_whiteout(dentry: Dentry) -> None:
    """Sleeps.  A whiteout takes the place of what, if anything, the upper tree has.

    Source: ``ovl_remove_and_whiteout``.
    """
    info, entry = info_of(dentry.d_sb), entry_of(dentry)
    upperdir = upper_of(dentry.d_parent)
    lock_workdir(info.workdir, upperdir)
    try:
        dput(_expect(upperdir, dentry))
        whiteout = new_name(info)
        try:
            vfs_mknod(d_inode(info.workdir), whiteout, S_IFCHR, 0)
            try:
                _swap(info.workdir, whiteout, upperdir, dentry.d_name, d_is_dir(dentry))
            except OSError:
                clean_up(info.workdir, whiteout)
                raise
        finally:
            dput(whiteout)
        entry.removed = True
        d_drop(dentry)
    finally:
        unlock_rename(info.workdir, upperdir)


def _expect(upperdir: Dentry, dentry: Dentry) -> Dentry:
    """Sleeps.  What the name of ``dentry`` leads to in the upper directory, with a reference.

    Raises:
        OSError: ESTALE: something else than what overfs put there.
    """
    upper = entry_of(dentry).upper
    place = lookup_one_len(dentry.d_name, upperdir)
    wrong = place.d_inode is not d_inode(upper) if upper is not None else False
    if wrong or (upper is None and place.d_inode is not None and not is_whiteout(place)):
        dput(place)
        raise ESTALE()
    return place


def _clear(dentry: Dentry) -> None:
    """Sleeps.  Make sure that a directory is empty, and that in the upper tree it really is: no
    whiteouts are left in it, and it is opaque.  Raises ENOTEMPTY.

    The caller holds the directory.  Source: ``ovl_check_empty_and_clear``.
    """
    if list_merged(dentry):
        raise ENOTEMPTY()
    upper = entry_of(dentry).upper
    if upper is None:
        return
    set_opaque(dentry, upper)
    dir = d_inode(upper)
    whiteouts = list_real(Path(info_of(dentry.d_sb).upper_mnt, upper))
    dir.i_rwsem.down_write(I_MUTEX_PARENT)
    try:
        for name in whiteouts:
            whiteout = lookup_one_len(name, upper)
            try:
                vfs_unlink(dir, whiteout)
            finally:
                dput(whiteout)
    finally:
        dir.i_rwsem.up_write()


def _can_move(dentry: Dentry) -> bool:
    """Never sleeps.  Not directories of which the lower tree has a part."""
    return not d_is_dir(dentry) or entry_of(dentry).below is None


def _hide_below(dentry: Dentry, parent: Dentry) -> None:
    """Sleeps.  A directory moves to where the lower tree may have one of that name."""
    if d_is_dir(dentry) and entry_of(parent).below is not None:
        set_opaque(dentry, upper_of(dentry))


def _rename_upper(old: Dentry, new: Dentry, exchange: bool, whiteout: bool) -> None:
    """Sleeps.  The rename in the upper tree.

    Args:
        whiteout: where it was, the lower tree would show.
    """
    old_upper, new_upper = upper_of(old.d_parent), upper_of(new.d_parent)
    trap = lock_rename(new_upper, old_upper)
    try:
        source = _expect(old_upper, old)
        try:
            target = _expect(new_upper, new)
            try:
                if trap in (source, target):
                    raise ESTALE()
                over_whiteout = is_whiteout(target)
                flags = RENAME_EXCHANGE if exchange else 0
                if not exchange and over_whiteout and (whiteout or d_is_dir(old)):
                    flags = RENAME_EXCHANGE
                elif not exchange and whiteout:
                    flags = RENAME_WHITEOUT
                vfs_rename(d_inode(old_upper), source, d_inode(new_upper), target, flags)
                if flags == RENAME_EXCHANGE and not exchange and not whiteout:
                    clean_up(old_upper, target)
                if not exchange:
                    entry_of(new).removed = True
            finally:
                dput(target)
        finally:
            dput(source)
    finally:
        unlock_rename(new_upper, old_upper)
