"""Changing the names of the upper tree, so that what lies below shows, or does not.

Nobody may see the lower file of a name for a moment, so what takes the place of something is made
ready in the work directory and then renamed, which is one step::

    lock_rename(workdir, upper directory)
        a new file, directory or whiteout in the work directory
        look the name up again: is it still what overfs put there?  else ESTALE
        rename it into the upper directory; a directory there is exchanged, and removed then

The caller holds the locks of the overfs directories, and has write access to the upper tree.  From
``fs/overlayfs/dir.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_IFCHR, S_ISLNK
from typing import TYPE_CHECKING

from vfsim.filesystems.overfs.copying import Make, clean_up, made_ready, new_name
from vfsim.filesystems.overfs.layers import (
    entry_of,
    info_of,
    is_whiteout,
    list_merged,
    list_real,
    set_opaque,
    upper_of,
)
from vfsim.fs.acl_xattr import (
    XATTR_NAME_POSIX_ACL_ACCESS,
    XATTR_NAME_POSIX_ACL_DEFAULT,
    posix_acl_to_xattr,
)
from vfsim.fs.attr import ATTR_MODE, IAttr, notify_change
from vfsim.fs.dcache import Dentry, d_drop, d_inode, d_is_dir, dput
from vfsim.fs.directory import (
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
    lock_rename,
    unlock_rename,
    vfs_mknod,
    vfs_rename,
    vfs_rmdir,
    vfs_unlink,
)
from vfsim.fs.inode import I_MUTEX_PARENT
from vfsim.fs.lookup import lookup_one_len
from vfsim.fs.mount import Path
from vfsim.fs.xattr import XATTR_CREATE, vfs_setxattr
from vfsim.sim.errors import EIO, ENOTEMPTY, ESTALE

if TYPE_CHECKING:
    from vfsim.fs.acl import PosixAcl


def create_upper(dentry: Dentry, make: Make) -> Dentry:
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


def replace_whiteout(dentry: Dentry, make: Make, is_dir: bool) -> Dentry:
    """Sleeps.  The same where a whiteout is: nobody sees what lies below it.

    Source: ``ovl_create_over_whiteout``.
    """
    info, upperdir = info_of(dentry.d_sb), upper_of(dentry.d_parent)
    _lock_workdir(info.workdir, upperdir)
    try:
        with made_ready(info, make) as made:
            if is_dir:
                set_opaque(dentry, made)
            _swap(info.workdir, made, upperdir, dentry.d_name, is_dir)
        return made
    finally:
        unlock_rename(info.workdir, upperdir)


def _lock_workdir(workdir: Dentry, upperdir: Dentry) -> None:
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


def complete_attributes(
    dentry: Dentry, mode: int, default: PosixAcl | None, acl: PosixAcl | None
) -> None:
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


def remove_upper(dentry: Dentry) -> None:
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


def remove_and_whiteout(dentry: Dentry) -> None:
    """Sleeps.  A whiteout takes the place of what, if anything, the upper tree has.

    Source: ``ovl_remove_and_whiteout``.
    """
    info, entry = info_of(dentry.d_sb), entry_of(dentry)
    upperdir = upper_of(dentry.d_parent)
    _lock_workdir(info.workdir, upperdir)
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


def clear_directory(dentry: Dentry) -> None:
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


def can_move(dentry: Dentry) -> bool:
    """Never sleeps.  Not directories of which the lower tree has a part."""
    return not d_is_dir(dentry) or entry_of(dentry).below is None


def hide_below(dentry: Dentry, parent: Dentry) -> None:
    """Sleeps.  A directory moves to where the lower tree may have one of that name."""
    if d_is_dir(dentry) and entry_of(parent).below is not None:
        set_opaque(dentry, upper_of(dentry))


def rename_upper(old: Dentry, new: Dentry, exchange: bool, whiteout: bool) -> None:
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
