"""Names in an overfs directory: finding them in two trees, changing them in the upper one.

What happens in the upper tree depends on what lies below::

    create, link    in the upper directory; over a whiteout: made ready in the work directory,
                    then renamed onto it (a directory is opaque, and exchanged with it)
    unlink, rmdir   nothing below: from the upper directory
                    else a whiteout from the work directory takes the place, in one step
    rename          copy up what moves; it leaves a whiteout if something below would show,
                    or swaps places with the one that is where it goes
                    EXDEV for a directory that is not in the upper tree alone

The kernel holds the overfs directories' locks, so names here do not change meanwhile; those of the
upper directories are taken inside of them (`upper`).

The counterpart of ``fs/overlayfs/dir.c`` of v4.10.
"""

from __future__ import annotations

from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISCHR, S_ISDIR
from typing import TYPE_CHECKING

import attrs

from vfsim.filesystems.overfs.attributes import OverAttributes
from vfsim.filesystems.overfs.copying import Make, copy_up, make_real
from vfsim.filesystems.overfs.inodes import over_inode, set_tables, set_upper
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
    upper_of,
)
from vfsim.filesystems.overfs.upper import (
    can_move,
    clear_directory,
    complete_attributes,
    create_upper,
    hide_below,
    remove_and_whiteout,
    remove_upper,
    rename_upper,
    replace_whiteout,
)
from vfsim.fs.acl_cache import is_posixacl
from vfsim.fs.acl_xattr import posix_acl_create
from vfsim.fs.dcache import Dentry, d_add, d_inode, d_instantiate, d_is_dir, dput
from vfsim.fs.directory import RENAME_EXCHANGE, RENAME_NOREPLACE, vfs_link
from vfsim.fs.inode import clear_nlink, drop_nlink, ihold, inode_init_owner, iput, new_inode
from vfsim.fs.process import current_umask
from vfsim.sim.errors import EINVAL, EPERM, EXDEV

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode


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
                        complete_attributes(new, inode.i_mode, *lists)

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
                upper = replace_whiteout(dentry, make, S_ISDIR(inode.i_mode))
            else:
                upper = create_upper(dentry, make)
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
                    clear_directory(dentry)
                remove_and_whiteout(dentry)
            else:
                remove_upper(dentry)
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
        if not can_move(old_dentry) or (exchange and not can_move(new_dentry)):
            raise EXDEV()
        with Writing(old_dentry), as_mounter(old_dentry):
            copy_up(old_dentry)
            copy_up(new_dentry.d_parent)
            if exchange:
                copy_up(new_dentry)
                hide_below(new_dentry, old_dentry.d_parent)
            elif d_is_dir(new_dentry) and entry_of(new_dentry).below is not None:
                clear_directory(new_dentry)
            hide_below(old_dentry, new_dentry.d_parent)
            rename_upper(old_dentry, new_dentry, exchange, lies_below(old_dentry))
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
