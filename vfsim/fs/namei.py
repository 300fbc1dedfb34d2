"""Path walk: from a name to a (mount, dentry) pair.

`Nameidata` is the state of one walk.  It holds a reference on where it stands (``mnt``, ``dentry``)
and moves component by component::

    "/a/link/../b"      start: root, or the working directory
        a        walk_component: permission, dcache or filesystem, mounts crossed
        link     its body is walked from here; what is left of the path waits on ``stack``
        ..       the parent, or out of the mount
        b        the last component is left to the caller: `lookup_last`, open, or those who
                 create and remove

Three faces: `user_path` (the object a name leads to), `filename_parentat` (its directory and the
last name, for those who create and remove), and `vfsim.fs.open` (the last component of open).

This is ref-walk: references are taken at every step and no lock is held between steps, so anything
may change under the walk; each step is right for the moment it was made.  The only lock taken is a
directory's ``i_rwsem``, shared, when the dcache misses (see `vfsim.fs.lookup`).  RCU-walk is not
built yet; its place is `_lookup`, which would try it first and come here on ECHILD.

The root of the process is borrowed, not referenced: only its own task changes it, and never during
a walk.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from vfsim.fs.attr import touch_atime
from vfsim.fs.dcache import (
    DCACHE_MOUNTED,
    DCACHE_OP_WEAK_REVALIDATE,
    Dentry,
    dget,
    dget_parent,
    dput,
)
from vfsim.fs.inode import I_MUTEX_PARENT
from vfsim.fs.lookup import (
    LOOKUP_CREATE,
    LOOKUP_DIRECTORY,
    LOOKUP_EXCL,
    LOOKUP_FOLLOW,
    LOOKUP_JUMPED,
    LOOKUP_PARENT,
    LOOKUP_REVAL,
    lookup_fast,
    lookup_hash,
    lookup_slow,
)
from vfsim.fs.mount import (
    Mount,
    Path,
    lookup_mnt,
    mnt_drop_write,
    mnt_want_write,
    mntget,
    mntput,
    path_get,
    path_put,
)
from vfsim.fs.permission import MAY_EXEC, inode_permission
from vfsim.fs.process import current_process
from vfsim.sim.errors import EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ESTALE

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode

PATH_MAX = 4096
"""The longest path, in bytes, counting the zero byte that ends it."""

MAXSYMLINKS = 40
"""How many links one walk may follow, wherever in the path they stand."""

LAST_NORM, LAST_ROOT, LAST_DOT, LAST_DOTDOT, LAST_BIND = range(5)

_S_IFMT, _S_IFDIR, _S_IFLNK = 0o170000, 0o040000, 0o120000
_TYPES = {".": LAST_DOT, "..": LAST_DOTDOT}

Link = tuple[Mount, Dentry]
Frame = tuple[list[str], int, Link]


def getname(name: str) -> str:
    """Never sleeps.  Check a path that came from user space.

    Raises:
        TypeError, ValueError: it is no string, or has a zero character (misuse: no system call
            could say it).
        OSError: ENOENT if empty, ENAMETOOLONG from 4,096 bytes on.
    """
    if not isinstance(name, str):
        raise TypeError(f"a path is a string, got {name!r}")
    if not name:
        raise ENOENT()
    if len(name) >= PATH_MAX or (not name.isascii() and len(os.fsencode(name)) >= PATH_MAX):
        raise ENAMETOOLONG()
    if "\0" in name:
        raise ValueError(f"a path cannot contain a zero character: {name!r}")
    return name


def split(name: str) -> tuple[list[str], bool]:
    """Never sleeps.  The components of a path, and whether a slash follows the last one."""
    parts = name.strip("/").split("/")
    if "//" in name:
        parts = [part for part in parts if part]
    if not parts or not parts[0]:
        return [], False
    return parts, name[-1] == "/"


class LastName(NamedTuple):
    """A name whose directory was found: what those who create, remove and rename work on.

    Attributes:
        parent: where the name would be; the owner must `path_put` it.
        name: the last component, when ``type`` is LAST_NORM.
        type: LAST_NORM, or LAST_ROOT, LAST_DOT, LAST_DOTDOT for paths that do not end in a name.
        slash: a slash follows the name.
    """

    parent: Path
    name: str
    type: int
    slash: bool


class Nameidata:
    """One walk.  Linux's ``struct nameidata``.

    Attributes:
        mnt, dentry: where it stands; one reference on each is the walk's own.
        inode: of ``dentry``.
        flags: LOOKUP_* bits, some added on the way (DIRECTORY and FOLLOW by a trailing slash,
            JUMPED).
        last, last_type, slash: the component that `walk` left over.
        links: how many symbolic links were followed.
        picked: the link whose body `walk_component` returned, until it has a place on ``stack`` or
            in ``tail``.
        stack: for each link in the middle of a path that is being walked: components and position
            to go on with afterwards (never at their end), and the link.
        tail: the link whose body replaced the last component, if any.
    """

    __slots__ = (
        "dentry", "flags", "inode", "last", "last_type", "links", "mnt", "picked", "root", "slash",
        "stack", "tail",
    )  # fmt: skip

    def __init__(self, name: str, flags: int) -> None:
        process = current_process()
        self.root = process.root
        if name[0] == "/":
            flags |= LOOKUP_JUMPED
            at = process.root
        else:
            at = process.cwd
        self.flags = flags
        self.last = ""
        self.last_type = LAST_ROOT
        self.slash = False
        self.links = 0
        self.picked: Link | None = None
        self.stack: list[Frame] = []
        self.tail: Link | None = None
        self.mnt: Mount = mntget(at.mnt)
        self.dentry: Dentry = dget(at.dentry)
        self.inode: Inode = self.dentry.d_inode  # type: ignore[assignment]

    def terminate(self) -> None:
        """Sleeps.  Give back every reference the walk still holds."""
        for link in (*(frame[2] for frame in self.stack), self.tail, self.picked):
            if link is not None:
                _put_link(link)
        dput(self.dentry)
        mntput(self.mnt)

    def take_path(self) -> Path:
        """Sleeps.  Where the walk ended, with the references on it; the walk is over."""
        if self.tail is not None:
            _put_link(self.tail)
        return Path(self.mnt, self.dentry)

    # -- components ------------------------------------------------------------------------------

    def walk(self, name: str) -> None:
        """Sleeps.  All components of ``name`` but the last, which ends up in ``last``.

        Raises:
            OSError: EACCES on a directory that may not be searched, ENOENT, ENOTDIR, ELOOP, what
                filesystems say.

        Source: ``link_path_walk``.
        """
        parts, slash = split(name)
        if not parts:
            return
        stack = self.stack
        i = 0
        while True:
            part = parts[i]
            i += 1
            inode_permission(self.inode, MAY_EXEC)
            ends = i == len(parts)
            if ends and not stack:
                self.last = part
                self.last_type = _TYPES.get(part, LAST_NORM)
                self.slash = slash
                return
            body = self.walk_component(part, True)
            if ends:  # of a link's body: go on behind the link
                parts, i, link = stack.pop()
                _put_link(link)
            if body is not None:
                assert self.picked is not None
                stack.append((parts, i, self.picked))
                self.picked = None
                parts, _ = split(body)
                i = 0
                if not parts:  # a link to "/": it jumped, and there is nothing to walk
                    parts, i, link = stack.pop()
                    _put_link(link)
            elif self.inode.i_mode & _S_IFMT != _S_IFDIR:
                raise ENOTDIR()

    def lookup_last(self) -> str | None:
        """Sleeps.  The component that `walk` left over; returns the body to walk next if it is a
        link to follow.

        Source: ``lookup_last`` and ``trailing_symlink``.
        """
        if self.last_type == LAST_NORM:
            if self.slash:
                self.flags |= LOOKUP_FOLLOW | LOOKUP_DIRECTORY
            body = self.walk_component(self.last, bool(self.flags & LOOKUP_FOLLOW))
        else:
            self.handle_dots(self.last_type)
            body = None
        self.end_of_link()
        return body

    def end_of_link(self) -> None:
        """Sleeps.  The link whose body ended here is done with; the one just picked, if any, takes
        its place.
        """
        old, self.tail, self.picked = self.tail, self.picked, None
        if old is not None:
            _put_link(old)

    def walk_component(self, part: str, follow: bool) -> str | None:
        """Sleeps.  Go to one component, across mounts; returns the body instead if it is a link and
        to be followed.

        Source: ``walk_component``.
        """
        if part in _TYPES:
            self.handle_dots(_TYPES[part])
            return None
        flags = self.flags = self.flags & ~LOOKUP_JUMPED
        parent = self.dentry
        dentry = lookup_fast(parent, part, flags)
        if dentry is None:
            dentry = lookup_slow(parent, part, flags)
        return self.step_into(dentry, follow)

    def step_into(self, dentry: Dentry, follow: bool) -> str | None:
        """Sleeps.  Move to a child that was looked up (its reference is consumed), or pick it as a
        link.

        Raises:
            OSError: ENOENT if it is negative; ELOOP.
        """
        mnt = self.mnt
        if dentry.d_flags & DCACHE_MOUNTED:
            mnt, dentry = follow_mounts(mnt, dentry)
            if mnt is not self.mnt:
                self.flags |= LOOKUP_JUMPED
        inode = dentry.d_inode
        if inode is None:
            self._drop_step(mnt, dentry)
            raise ENOENT()
        if follow and inode.i_mode & _S_IFMT == _S_IFLNK:
            return self.pick_link(mnt, dentry, inode)
        old = self.dentry
        self.dentry = dentry
        self.inode = inode
        dput(old)
        if mnt is not self.mnt:
            gone = self.mnt
            self.mnt = mnt
            mntput(gone)
        return None

    def _drop_step(self, mnt: Mount, dentry: Dentry) -> None:
        dput(dentry)
        if mnt is not self.mnt:
            mntput(mnt)

    # -- links and dots --------------------------------------------------------------------------

    def pick_link(self, mnt: Mount, dentry: Dentry, inode: Inode) -> str:
        """Sleeps.  Keep the link (consuming its reference), ask for its body, and jump to the root
        if that is absolute.

        Raises:
            OSError: ELOOP after 40 links, or what the filesystem's ``get_link`` says.

        Source: ``pick_link`` and ``get_link``.
        """
        if self.links >= MAXSYMLINKS:
            self._drop_step(mnt, dentry)
            raise ELOOP()
        self.links += 1
        self.picked = (mntget(mnt) if mnt is self.mnt else mnt, dentry)
        touch_atime(mnt, dentry)
        self.last_type = LAST_BIND
        body = inode.i_link
        if body is None:
            body = inode.i_op.get_link(dentry, inode)
        if body[:1] == "/":
            self._jump(self.root)
        return body

    def _jump(self, path: Path) -> None:
        path_get(path)
        old_mnt, old_dentry = self.mnt, self.dentry
        self.mnt, self.dentry = path.mnt, path.dentry
        self.inode = path.dentry.d_inode  # type: ignore[assignment]
        self.flags |= LOOKUP_JUMPED
        dput(old_dentry)
        mntput(old_mnt)

    def handle_dots(self, type: int) -> None:
        """Sleeps.  ``.`` and what is not a name stay; ``..`` goes up.  Source: ``handle_dots``."""
        self.flags |= LOOKUP_JUMPED
        if type == LAST_DOTDOT:
            self._follow_dotdot()

    def _follow_dotdot(self) -> None:
        """The parent; at a mount's root the parent of the mountpoint; the process's root is its own
        parent.
        """
        root = self.root
        while self.dentry is not root.dentry or self.mnt is not root.mnt:
            old = self.dentry
            if old is not self.mnt.mnt_root:
                self.dentry = dget_parent(old)
                dput(old)
                break
            if not self._follow_up():
                break
        self.mnt, self.dentry = follow_mounts(self.mnt, self.dentry, own=True)
        self.inode = self.dentry.d_inode  # type: ignore[assignment]

    def _follow_up(self) -> bool:
        """From a mount's root to its mountpoint; False at the top of the tree.

        Source: ``follow_up``.
        """
        mnt = self.mnt
        parent = mnt.mnt_parent
        if parent is mnt:
            return False
        old = self.dentry
        self.mnt = mntget(parent)
        self.dentry = dget(mnt.mnt_mountpoint)
        dput(old)
        mntput(mnt)
        return True

    def complete(self) -> None:
        """Sleeps.  A walk that ended in a jump ("..", a mountpoint) asks whether the place still is
        what it was.

        Raises:
            OSError: ESTALE.

        Source: ``complete_walk``.
        """
        dentry = self.dentry
        if self.flags & LOOKUP_JUMPED and dentry.d_flags & DCACHE_OP_WEAK_REVALIDATE:
            if not dentry.d_op.d_weak_revalidate(dentry, self.flags):
                raise ESTALE()


def _put_link(link: Link) -> None:
    dput(link[1])
    mntput(link[0])


def follow_mounts(mnt: Mount, dentry: Dentry, own: bool = False) -> tuple[Mount, Dentry]:
    """Sleeps.  The root of what is mounted on (mnt, dentry), however often; the reference on
    ``dentry`` moves along.

    A mount that was crossed into comes with a reference; ``mnt`` itself has none unless the caller
    ``own`` s one, which then is given up when crossing.  Source: ``follow_managed``,
    ``follow_mount``.
    """
    first = mnt
    while dentry.d_flags & DCACHE_MOUNTED:
        mounted = lookup_mnt(mnt, dentry)
        if mounted is None:
            break
        old = dentry
        dentry = dget(mounted.mnt_root)
        dput(old)
        if own or mnt is not first:
            mntput(mnt)
        mnt = mounted
    return mnt, dentry


# -- faces ---------------------------------------------------------------------------------------


def user_path(name: str, flags: int = LOOKUP_FOLLOW) -> Path:
    """Sleeps.  What ``name`` leads to; the caller must `path_put` it.

    Args:
        name: relative to the working directory unless it begins with a slash.
        flags: LOOKUP_FOLLOW to follow a link in the last component, LOOKUP_DIRECTORY to insist on a
            directory.

    Raises:
        OSError: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, ESTALE, or what filesystems say.

    Source: ``filename_lookup``.
    """
    getname(name)
    try:
        return _lookup(name, flags)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return _lookup(name, flags | LOOKUP_REVAL)


def _lookup(name: str, flags: int) -> Path:
    nd = Nameidata(name, flags)
    try:
        body: str | None = name
        while body is not None:
            nd.walk(body)
            body = nd.lookup_last()
        nd.complete()
        if nd.flags & LOOKUP_DIRECTORY and nd.inode.i_mode & _S_IFMT != _S_IFDIR:
            raise ENOTDIR()
    except Exception:
        nd.terminate()
        raise
    return nd.take_path()


def filename_parentat(name: str) -> LastName:
    """Sleeps.  The directory of the last component, and that component, which is not looked up.

    Raises:
        OSError: as `user_path`, about the directory.

    Source: ``filename_parentat``.
    """
    getname(name)
    try:
        return _parent(name, LOOKUP_PARENT)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return _parent(name, LOOKUP_PARENT | LOOKUP_REVAL)


def _parent(name: str, flags: int) -> LastName:
    nd = Nameidata(name, flags)
    try:
        nd.walk(name)
        nd.complete()
    except Exception:
        nd.terminate()
        raise
    return LastName(nd.take_path(), nd.last, nd.last_type, nd.slash)


def filename_create(name: str, directory: bool = False) -> tuple[Path, Dentry]:
    """Sleeps.  A negative dentry for a new name, with its directory locked: give both to
    `done_path_create`.

    Args:
        name: the path to create.
        directory: a directory is to be made, so a trailing slash is welcome.

    Raises:
        OSError: EEXIST (also for "." and "/"), ENOENT (trailing slash on what will be no
            directory), EROFS, or as `filename_parentat`.

    Returns with the directory's ``i_rwsem`` exclusive (subclass PARENT) and write access to the
    mount.  Source: ``filename_create``.
    """
    last = filename_parentat(name)
    path = last.parent
    if last.type != LAST_NORM:
        path_put(path)
        raise EEXIST()
    wrong = None
    try:
        mnt_want_write(path.mnt)
    except OSError as error:
        wrong = error  # EROFS gives way to EEXIST and ENOENT
    dir = path.dentry.d_inode
    assert dir is not None
    dir.i_rwsem.down_write(I_MUTEX_PARENT)
    try:
        dentry = lookup_hash(path.dentry, last.name, LOOKUP_CREATE | LOOKUP_EXCL)
        try:
            if dentry.d_inode is not None:
                raise EEXIST()
            if last.slash and not directory:
                raise ENOENT()
            if wrong is not None:
                raise wrong
        except OSError:
            dput(dentry)
            raise
    except Exception:
        dir.i_rwsem.up_write()
        if wrong is None:
            mnt_drop_write(path.mnt)
        path_put(path)
        raise
    return path, dentry


def done_path_create(path: Path, dentry: Dentry) -> None:
    """Sleeps.  Undo `filename_create`, whatever came of it.  Source: ``done_path_create``."""
    dput(dentry)
    dir = path.dentry.d_inode
    assert dir is not None
    dir.i_rwsem.up_write()
    mnt_drop_write(path.mnt)
    path_put(path)
