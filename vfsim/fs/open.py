"""open(2): the last component, where looking up and creating must be one step.

The walk to the directory is `Nameidata.walk`, as for everything else.  The last component is
different, because O_CREAT must look the name up and create it under one hold of the directory's
lock::

    do_filp_open
      walk to the parent
      open_last ── cached, and no O_CREAT ─────────────────────────────┐
          │ otherwise the directory's i_rwsem: exclusive with O_CREAT, else shared
          └─ lookup_open: dcache, in-lookup dentry, atomic_open, or lookup and create
                    │ created: no permission check, no truncation      │
                    ▼                                                  ▼
               may_open, vfs_open          mounts, links (walk on), may_open, vfs_open, truncate

`OpenFlags` is what the flags of open(2) mean, taken apart once.  A link in the last component sends
the loop round again with the link's body; O_NOFOLLOW makes it ELOOP.

Write access to the mount is taken before the directory's lock, and failing to get it is no error
yet: a name that exists already may be opened on a read-only filesystem, O_CREAT or not.

Source: ``do_last``, ``lookup_open``, ``may_open``, ``build_open_flags`` of v4.10.
"""

from __future__ import annotations

import errno
import functools
import os
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISREG
from typing import TYPE_CHECKING

import attrs

from vfsim.fs.attr import ATTR_CTIME, ATTR_MTIME, ATTR_OPEN, do_truncate
from vfsim.fs.dcache import (
    DCACHE_OP_REVALIDATE,
    d_alloc,
    d_alloc_parallel,
    d_in_lookup,
    d_lookup,
    d_lookup_done,
    dput,
)
from vfsim.fs.file import (
    FMODE_CREATED,
    FMODE_OPENED,
    O_DIRECTORY,
    O_NOATIME,
    O_PATH,
    O_TMPFILE,
    File,
    fput,
    get_empty_filp,
    get_write_access,
    put_write_access,
    vfs_open,
)
from vfsim.fs.inode import I_LINKABLE, S_APPEND, S_DEAD
from vfsim.fs.lookup import (
    LOOKUP_CREATE,
    LOOKUP_DIRECTORY,
    LOOKUP_EXCL,
    LOOKUP_FOLLOW,
    LOOKUP_OPEN,
    LOOKUP_PARENT,
    finish_lookup,
    still_valid,
)
from vfsim.fs.managed import Step, follow_managed
from vfsim.fs.mount import Path, mnt_drop_write, mnt_want_write, path_put
from vfsim.fs.namei import AT_FDCWD, LAST_NORM, Nameidata, user_path, walked
from vfsim.fs.operations import InodeOperations
from vfsim.fs.permission import (
    MAY_APPEND,
    MAY_EXEC,
    MAY_OPEN,
    MAY_READ,
    MAY_WRITE,
    inode_owner_or_capable,
    inode_permission,
    without_umask,
)
from vfsim.sim.errors import (
    EACCES,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOTDIR,
    EOPNOTSUPP,
    EPERM,
    EROFS,
)

if TYPE_CHECKING:
    from vfsim.fs.dentry import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.mount import Mount

_ACCESS = {
    os.O_RDONLY: MAY_READ,
    os.O_WRONLY: MAY_WRITE,
    os.O_RDWR: MAY_READ | MAY_WRITE,
    os.O_ACCMODE: MAY_READ | MAY_WRITE,
}
_S_IALLUGO = 0o7777
_WANTS_WRITE = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR
_CREATE_NEW = os.O_CREAT | os.O_EXCL
_TMPFILE = O_TMPFILE & ~O_DIRECTORY
_NO_TMPFILE = InodeOperations.tmpfile
_NO_ATOMIC_OPEN = InodeOperations.atomic_open
_NO_CREATE = InodeOperations.create


@attrs.define(slots=True)
class OpenFlags:
    """What an open(2) asks for, taken apart (Linux: ``struct open_flags``).

    Attributes:
        flags: O_* bits.  mode: type and permissions of a file to be created.
        acc_mode: MAY_* bits to check.  intent: LOOKUP_* bits for the last component, lookup_flags:
            for the walk.
    """

    flags: int
    mode: int
    acc_mode: int
    intent: int
    lookup_flags: int

    @classmethod
    def of(cls, flags: int, mode: int) -> OpenFlags:
        """Take the arguments of open(2) apart.

        Raises:
            TypeError: they are no integers.
            OSError: EINVAL for nonsense (with O_TMPFILE also: not for writing).
        """
        if not isinstance(flags, int) or not isinstance(mode, int):
            raise TypeError(
                f"open() takes flags and a mode, two integers, got {flags!r} and {mode!r}"
            )
        unnamed = flags & _TMPFILE
        if unnamed and (
            flags & (O_TMPFILE | os.O_CREAT) != O_TMPFILE
            or not _ACCESS[flags & os.O_ACCMODE] & MAY_WRITE
        ):
            raise EINVAL()
        mode = mode & _S_IALLUGO | S_IFREG if flags & os.O_CREAT or unnamed else 0
        if flags & O_PATH:
            flags &= O_DIRECTORY | os.O_NOFOLLOW | O_PATH
            acc = 0
        else:
            acc = MAY_OPEN | _ACCESS[flags & os.O_ACCMODE]
        if flags & os.O_TRUNC:
            acc |= MAY_WRITE
        if flags & os.O_APPEND:
            acc |= MAY_APPEND
        intent = 0 if flags & O_PATH else LOOKUP_OPEN
        if flags & os.O_CREAT:
            intent |= LOOKUP_CREATE | (LOOKUP_EXCL if flags & os.O_EXCL else 0)
        lookup = LOOKUP_DIRECTORY if flags & O_DIRECTORY else 0
        if not flags & os.O_NOFOLLOW:
            lookup |= LOOKUP_FOLLOW
        return cls(flags & ~getattr(os, "O_CLOEXEC", 0), mode, acc, intent, lookup)


class _Opening:
    """One open in progress: its flags, the file, and what became of it so far.

    Attributes:
        file: unopened until ``opened``.
        created: the name did not exist and was made.
        got_write: holds write access to the mount for the time being.
    """

    __slots__ = ("created", "file", "got_write", "nd", "op", "opened")

    def __init__(self, op: OpenFlags, nd: Nameidata, file: File) -> None:
        self.op = op
        self.nd = nd
        self.file = file
        self.opened = False
        self.created = False
        self.got_write = False

    def last(self) -> str | None:
        """Sleeps.  The last component: open it, or return a link's body to walk first.

        Source: ``do_last``.
        """
        mnt = self.nd.mnt
        try:
            return self._last()
        finally:
            if self.got_write:
                self.got_write = False
                mnt_drop_write(mnt)

    def _last(self) -> str | None:
        nd = self.nd
        nd.flags = nd.flags & ~LOOKUP_PARENT | self.op.intent
        creating = self.op.flags & os.O_CREAT
        if nd.last_type != LAST_NORM:
            nd.handle_dots(nd.last_type)
            nd.end_of_link()
            self._finish(nd)
            return None
        step: Step | None = None
        if not creating:
            if nd.slash:
                nd.flags |= LOOKUP_FOLLOW | LOOKUP_DIRECTORY
            step = nd.lookup_fast(nd.last)
        else:
            nd.complete()
            if nd.slash:
                raise EISDIR()
        if step is None:
            dentry = self._locked()
            if dentry is None:  # atomic_open did it all
                nd.end_of_link()
                regular = S_ISREG(self.file.f_inode.i_mode)
                self._truncate(bool(self.op.flags & os.O_TRUNC) and regular and not self.created)
                return None
            if self.created:
                if dentry.d_inode is None:  # create() left it so: Linux's may_open() says this
                    dput(dentry)
                    raise ENOENT()
                nd.step_into((nd.mnt, dentry, dentry.d_inode, 0), False)
                nd.end_of_link()
                self._open(nd.mnt, nd.dentry, 0, self.op.flags & ~os.O_TRUNC)
                return None
            if self.got_write:  # what follows may cross mounts and follow links
                self.got_write = False
                mnt_drop_write(nd.mnt)
            if dentry.d_inode is not None and self.op.flags & _CREATE_NEW == _CREATE_NEW:
                dput(dentry)
                raise EEXIST()
            step = follow_managed(nd, dentry)
        body = nd.step_into(step, bool(nd.flags & LOOKUP_FOLLOW))
        nd.end_of_link()
        if body is None:
            self._finish(nd)
        return body

    def _finish(self, nd: Nameidata) -> None:
        """The walk ended on something that exists: check it, open it, truncate it."""
        nd.complete()
        flags = self.op.flags
        kind = S_IFMT(nd.inode.i_mode)
        if flags & os.O_CREAT and kind == S_IFDIR:
            raise EISDIR()
        if nd.flags & LOOKUP_DIRECTORY and kind != S_IFDIR:
            raise ENOTDIR()
        truncate = bool(flags & os.O_TRUNC) and kind == S_IFREG
        if truncate:
            mnt_want_write(nd.mnt)
        try:
            self._open(nd.mnt, nd.dentry, self.op.acc_mode, flags)
            self._truncate(truncate)
        finally:
            if truncate:
                mnt_drop_write(nd.mnt)

    def _open(self, mnt: Mount, dentry: Dentry, acc_mode: int, flags: int) -> None:
        assert dentry.d_inode is not None
        may_open(dentry.d_inode, acc_mode, flags)
        vfs_open(self.file, mnt, dentry)
        self.opened = True

    def _truncate(self, truncate: bool) -> None:
        """O_TRUNC of a file that is open now.  Source: ``handle_truncate``."""
        if not truncate:
            return
        file = self.file
        inode = file.f_path.dentry.d_inode
        assert inode is not None
        get_write_access(inode)
        try:
            do_truncate(file.f_path.dentry, 0, ATTR_MTIME | ATTR_CTIME | ATTR_OPEN, file)
        finally:
            put_write_access(inode)

    # -- under the directory's lock --------------------------------------------------------------

    def _locked(self) -> Dentry | None:
        """Sleeps.  `_lookup_open` under the lock it needs; with write access to the mount, if that
        can be had.
        """
        nd = self.nd
        flags = self.op.flags
        if flags & _WANTS_WRITE:
            try:
                mnt_want_write(nd.mnt)
                self.got_write = True
            except OSError:
                pass  # a read-only mount is no error for what turns out to need no writing
        sem = nd.inode.i_rwsem
        if flags & os.O_CREAT:
            sem.down_write()
            try:
                return self._lookup_open(nd.inode)
            finally:
                sem.up_write()
        sem.down_read()
        try:
            return self._lookup_open(nd.inode)
        finally:
            sem.up_read()

    def _lookup_open(self, dir: Inode) -> Dentry | None:
        """Sleeps.  The dentry of the last name, created if asked for; None if ``atomic_open``
        opened the file.

        A failure to create is kept until it is known that the name does not exist.

        Source: ``lookup_open``.
        """
        nd = self.nd
        if dir.i_flags & S_DEAD:
            raise ENOENT()
        dentry = self._cached(nd)
        if dentry.d_inode is not None:
            return dentry
        flags = self.op.flags
        mode = self.op.mode
        wrong: OSError | None = None
        plain = False  # no side effects wanted: look up, and open later
        if flags & os.O_CREAT:
            mode = without_umask(dir, mode)
            wrong = self._may_create(dir)
            if wrong is not None:
                flags &= ~os.O_CREAT
                plain = bool(flags & os.O_EXCL) or (not self.got_write and bool(flags & os.O_TRUNC))
        elif flags & _WANTS_WRITE and not self.got_write:
            plain = True
        if not plain and type(dir.i_op).atomic_open is not _NO_ATOMIC_OPEN:
            return self._atomic_open(dir, dentry, flags, mode, wrong)
        if d_in_lookup(dentry):
            dentry = finish_lookup(dir, dentry, nd.flags)
        if dentry.d_inode is not None:
            return dentry
        try:
            if flags & os.O_CREAT:
                self.created = True
                if type(dir.i_op).create is _NO_CREATE:
                    raise EACCES()
                dir.i_op.create(dir, dentry, mode, bool(flags & os.O_EXCL))
            elif wrong is not None:
                raise wrong
        except Exception:
            dput(dentry)
            raise
        return dentry

    def _cached(self, nd: Nameidata) -> Dentry:
        """Sleeps.  What the dcache has, if it is valid; else a dentry in lookup."""
        dentry = d_lookup(nd.dentry, nd.last)
        while True:
            if dentry is None:
                dentry = d_alloc_parallel(nd.dentry, nd.last)
                if d_in_lookup(dentry):
                    return dentry
            if not dentry.d_flags & DCACHE_OP_REVALIDATE or still_valid(dentry, nd.flags):
                return dentry
            dentry = None

    def _may_create(self, dir: Inode) -> OSError | None:
        """Why the file cannot be created here, or None.  Source: ``may_o_create``."""
        if not self.got_write:
            return EROFS()
        try:
            inode_permission(dir, MAY_WRITE | MAY_EXEC)
        except OSError as error:
            return error
        return None

    def _atomic_open(
        self, dir: Inode, dentry: Dentry, flags: int, mode: int, wrong: OSError | None
    ) -> Dentry | None:
        """Sleeps.  Let the filesystem look up, create and open in one; None if it opened the file.

        Else it returns ``dentry``, or another one with a reference, for the VFS to open.

        Source: ``atomic_open``.
        """
        file = self.file
        if self.nd.flags & LOOKUP_DIRECTORY:
            flags |= O_DIRECTORY
        file.f_flags = flags
        file.f_path = Path(self.nd.mnt, dentry)  # without references: only finish_open() may use it
        found: Dentry | None = None
        try:
            found = dir.i_op.atomic_open(dir, dentry, file, flags, mode)
            d_lookup_done(dentry)
            self.opened = bool(file.f_mode & FMODE_OPENED)
            self.created = bool(file.f_mode & FMODE_CREATED)
            if self.opened:
                may_open(file.f_inode, 0 if self.created else self.op.acc_mode, flags)
            elif found is None or found.d_inode is None:
                raise ENOENT()
        except OSError as error:
            d_lookup_done(dentry)
            dput(dentry)
            if found is not None and found is not dentry:
                dput(found)
            if error.errno == errno.ENOENT and wrong is not None:
                raise wrong from None
            raise
        if found is not dentry:
            dput(dentry)
        return None if self.opened else found


def finish_open(file: File, dentry: Dentry, created: bool = False) -> None:
    """Sleeps.  From ``atomic_open``: open the file on ``dentry``, which is positive now.

    Args:
        created: the file is new.

    Raises:
        OSError: as `vfs_open`.

    Source: ``finish_open``.
    """
    vfs_open(file, file.f_path.mnt, dentry)
    if created:
        file.f_mode |= FMODE_CREATED


def may_open(inode: Inode, acc_mode: int, flags: int) -> None:
    """Sleeps.  Return if the running task may open ``inode`` that way.

    Args:
        acc_mode: MAY_* bits.  flags: O_* bits.

    Raises:
        OSError: ELOOP (a link, and not to be followed), EISDIR (writing a directory), as
            `inode_permission`, EPERM (append-only; O_NOATIME by somebody else than the owner).

    Source: ``may_open``.
    """
    kind = S_IFMT(inode.i_mode)
    if kind == S_IFLNK:
        raise ELOOP()
    if kind == S_IFDIR and acc_mode & MAY_WRITE:
        raise EISDIR()
    if kind not in (S_IFREG, S_IFDIR):
        flags &= ~os.O_TRUNC
    inode_permission(inode, MAY_OPEN | acc_mode)
    if inode.i_flags & S_APPEND:
        if flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND:
            raise EPERM()
        if flags & os.O_TRUNC:
            raise EPERM()
    if flags & O_NOATIME and not inode_owner_or_capable(inode):
        raise EPERM()


def do_filp_open(name: str, flags: int, mode: int = 0o666, dfd: int = AT_FDCWD) -> File:
    """Sleeps.  Open a path; returns the open file with one reference.

    Args:
        name, dfd: the path, as for `user_path`.  flags: O_* bits.  mode: permissions of a file to
            be created, before the umask.

    Raises:
        OSError: as `user_path`, `may_open` and `vfs_open`; EISDIR, EEXIST, ENOTDIR, ELOOP as
            open(2) says.

    Source: ``do_filp_open``.
    """
    op = OpenFlags.of(flags, mode)
    if flags & O_PATH:
        return _open_path(name, op, dfd)
    if flags & _TMPFILE:
        return do_tmpfile(name, op, dfd)
    return walked(name, op.lookup_flags, dfd, functools.partial(_path_openat, op))


def _open_path(name: str, op: OpenFlags, dfd: int) -> File:
    """O_PATH: a descriptor for a place, not for data; the filesystem does not hear of it."""
    path = user_path(name, op.lookup_flags, dfd)
    try:
        file = get_empty_filp(op.flags)
        vfs_open(file, path.mnt, path.dentry)
        return file
    finally:
        path_put(path)


def do_tmpfile(name: str, op: OpenFlags, dfd: int) -> File:
    """Sleeps.  O_TMPFILE: a new regular file without a name in the directory ``name``.

    Without O_EXCL it can be given one later (linkat(2)).

    Raises:
        OSError: in this order: as `user_path`, EROFS, as `inode_permission`, EOPNOTSUPP (no
            ``tmpfile``), what the filesystem says, as `vfs_open`.

    No lock on the directory is held.  Source: ``do_tmpfile`` (where v4.10 forgets the umask on
    filesystems without access control lists).
    """
    file = get_empty_filp(op.flags)
    path = user_path(name, op.lookup_flags | LOOKUP_DIRECTORY, dfd)
    try:
        mnt_want_write(path.mnt)
        try:
            _unnamed(path, op, file)
        finally:
            mnt_drop_write(path.mnt)
    finally:
        path_put(path)
    return file


def _unnamed(path: Path, op: OpenFlags, file: File) -> None:
    dir = path.dentry.d_inode
    assert dir is not None
    inode_permission(dir, MAY_WRITE | MAY_EXEC)
    if type(dir.i_op).tmpfile is _NO_TMPFILE:
        raise EOPNOTSUPP()
    child = d_alloc(path.dentry, "/")
    try:
        dir.i_op.tmpfile(dir, child, without_umask(dir, op.mode))
        inode = child.d_inode
        if inode is None:  # as in `_Opening`
            raise ENOENT()
        may_open(inode, 0, op.flags)
        vfs_open(file, path.mnt, child)
    finally:
        dput(child)
    if not op.flags & os.O_EXCL:
        with inode.i_lock:
            inode.i_state |= I_LINKABLE


def _path_openat(op: OpenFlags, name: str, flags: int, dfd: int) -> File:
    file = get_empty_filp(op.flags)  # before the walk: it may begin in RCU mode
    with Nameidata(name, flags, dfd) as nd:
        opening = _Opening(op, nd, file)
        try:
            body: str | None = name
            while body is not None:
                nd.walk(body)
                body = opening.last()
                nd.flags = nd.flags & ~(LOOKUP_OPEN | LOOKUP_CREATE | LOOKUP_EXCL) | LOOKUP_PARENT
        except Exception:
            if opening.opened:
                fput(file)
            raise
        return file
