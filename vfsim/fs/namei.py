"""Path walk: from a name to a (mount, dentry) pair.

`Nameidata` is the state of one walk.  It stands somewhere (``mnt``, ``dentry``) and moves component
by component::

    "/a/link/../b"      start: root, or the working directory
        a        walk_component: permission, dcache or filesystem, mounts crossed
        link     its body is walked from here; what is left of the path waits on ``stack``
        ..       the parent, or out of the mount
        b        the last component is left to the caller: `lookup_last`, open, or those who
                 create and remove

Three faces: `user_path` (the object a name leads to), `filename_parentat` (its directory and the
last name, for those who create and remove), and `vfsim.fs.open` (the last component of open).

Each is walked up to three times (`walked`)::

    RCU-walk   no lock, no reference: sequence numbers instead (`vfsim.fs.rcu_walk`)
        │ ECHILD: something moved, or wants to sleep where the walk cannot get references any more
    ref-walk   a reference on where it stands, and no lock between steps: each step is right for
        │      the moment it was made.  On a dcache miss the directory's ``i_rwsem``, shared
        │ ESTALE: a filesystem says that what the dcache led to is no more
    ref-walk with LOOKUP_REVAL: filesystems are to ask their server about every name

A walk in RCU mode that meets something which has to sleep (a name that is not cached, an automount,
a method that says ECHILD) takes references there and then and goes on as a ref-walk; the way so far
is not walked again.

The root of the process is borrowed, not referenced: only its own task changes it, and never during
a walk.
"""

from __future__ import annotations

import errno
import functools
import os
from stat import S_ISDIR
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from vfsim.checks.bugs import bug
from vfsim.fs.attr import atime_needs_update, touch_atime
from vfsim.fs.dcache import (
    DCACHE_OP_WEAK_REVALIDATE,
    Dentry,
    dget,
    dget_parent,
    dput,
)
from vfsim.fs.fdtable import fdget_raw, fdput
from vfsim.fs.inode import I_MUTEX_PARENT
from vfsim.fs.lookup import (
    LOOKUP_CREATE,
    LOOKUP_DIRECTORY,
    LOOKUP_EXCL,
    LOOKUP_FOLLOW,
    LOOKUP_JUMPED,
    LOOKUP_PARENT,
    LOOKUP_RCU,
    LOOKUP_REVAL,
    lookup_fast,
    lookup_hash,
    lookup_slow,
)
from vfsim.fs.managed import MAXSYMLINKS, Step, follow_managed, follow_mounts
from vfsim.fs.mount import (
    Mount,
    Path,
    mnt_drop_write,
    mnt_want_write,
    mntget,
    mntput,
    mounts,
    path_connected,
    path_get,
    path_put,
)
from vfsim.fs.permission import MAY_EXEC, MAY_NOT_BLOCK, inode_permission
from vfsim.fs.process import current_process
from vfsim.fs.rcu_walk import follow_dotdot_rcu, lookup_rcu, unlazy_walk
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.sim.errors import ECHILD, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ESTALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.file import File
    from vfsim.fs.inode import Inode

AT_FDCWD = -100
"""In place of a descriptor: paths begin in the working directory."""

PATH_MAX = 4096
"""The longest path, in bytes, counting the zero byte that ends it."""

LAST_NORM, LAST_ROOT, LAST_DOT, LAST_DOTDOT, LAST_BIND = range(5)

_S_IFMT, _S_IFDIR, _S_IFLNK = 0o170000, 0o040000, 0o120000
_TYPES = {".": LAST_DOT, "..": LAST_DOTDOT}

_MAY_SEARCH_RCU = MAY_EXEC | MAY_NOT_BLOCK

P = ParamSpec("P")
T = TypeVar("T")
Link = tuple[Mount, Dentry, int]
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


def _directory(dfd: int) -> tuple[File, int]:
    """Never sleeps.  An open directory to begin in, as `fdget_raw`.  Raises EBADF, ENOTDIR."""
    file, how = fdget_raw(dfd)
    if not S_ISDIR(file.f_inode.i_mode):
        fdput(file, how)
        raise ENOTDIR()
    return file, how


class Nameidata:
    """One walk.  Linux's ``struct nameidata``.

    Args:
        name: what is going to be walked.  flags: LOOKUP_* bits.
        dfd: the open directory in which a relative path begins, or AT_FDCWD.

    Attributes:
        mnt, dentry: where it stands; in ref-walk one reference on each is the walk's own.
        inode: of ``dentry``.
        m_seq, seq: in RCU mode, the sequence numbers of mount_lock and of ``dentry``.
        flags: LOOKUP_* bits.  RCU says which mode it is in; some are added on the way (DIRECTORY
            and FOLLOW by a trailing slash, JUMPED); PARENT is set before the last component.
        last, last_type, slash: the component that `walk` left over.
        links: how many symbolic links and automounts were followed.
        picked: the link whose body `walk_component` returned, until it has a place on ``stack`` or
            in ``tail``.
        stack: for each link in the middle of a path that is being walked: components and position
            to go on with afterwards (never at their end), and the link.
        tail: the link whose body replaced the last component, if any.
        outer: the walk of the same task that this one is inside of, if any.

    Use it in ``with``: at the end the walk gives back whatever it still holds.
    """

    __slots__ = (
        "dentry", "flags", "inode", "last", "last_type", "links", "m_seq", "mnt", "outer", "picked",
        "root", "seq", "slash", "stack", "tail",
    )  # fmt: skip

    def __init__(self, name: str, flags: int, dfd: int = AT_FDCWD) -> None:
        process = current_process()
        file: File | None = None
        if name[0] == "/":
            at = process.root
        elif dfd == AT_FDCWD:
            at = process.cwd
        else:
            file, how = _directory(dfd)
            at = file.f_path
        self.outer = process.nameidata
        process.nameidata = self
        self.root = process.root
        self.flags = flags | LOOKUP_JUMPED | LOOKUP_PARENT
        self.last = ""
        self.last_type = LAST_ROOT
        self.slash = False
        self.links = 0
        self.picked: Link | None = None
        self.stack: list[Frame] = []
        self.tail: Link | None = None
        self.mnt: Mount = at.mnt
        self.dentry: Dentry = at.dentry
        self.m_seq = self.seq = 0
        if flags & LOOKUP_RCU:
            rcu_read_lock()
            self.m_seq = mounts().mount_lock.read_begin()
            self.seq = at.dentry.d_seq.read_begin()
        else:
            path_get(at)
        self.inode: Inode = at.dentry.d_inode  # type: ignore[assignment]
        if file is not None:
            fdput(file, how)

    def __enter__(self) -> Nameidata:
        return self

    def __exit__(self, *exc: object) -> None:
        self.terminate()

    def links_held(self) -> Iterator[Link]:
        """Never sleeps.  The links that it is in the middle of, oldest first."""
        if self.tail is not None:
            yield self.tail
        for _, _, link in self.stack:
            yield link
        if self.picked is not None:
            yield self.picked

    def forget(self) -> None:
        """Never sleeps.  It has no reference and no read section any more: all that is left is to
        end.
        """
        self.mnt = self.dentry = None  # type: ignore[assignment]
        self.stack = []
        self.tail = self.picked = None

    def terminate(self) -> None:
        """Sleeps.  Give back what the walk still holds: references, or the read section.

        Source: ``terminate_walk``.
        """
        if self.flags & LOOKUP_RCU:
            self.flags &= ~LOOKUP_RCU
            rcu_read_unlock()
        else:
            for mnt, dentry, _ in self.links_held():
                dput(dentry)
                mntput(mnt)
            dput(self.dentry)
            mntput(self.mnt)
        self.forget()
        current_process().nameidata = self.outer

    def take_path(self) -> Path:
        """Never sleeps.  Where the walk ended; its references are the caller's from now on.

        The walk has left RCU mode (`complete`).
        """
        path = Path(self.mnt, self.dentry)
        self.mnt = self.dentry = None  # type: ignore[assignment]
        return path

    def put_link(self, link: Link) -> None:
        """Sleeps.  The body of a link was walked to its end.  Source: ``put_link``."""
        if not self.flags & LOOKUP_RCU:
            dput(link[1])
            mntput(link[0])

    # -- components ------------------------------------------------------------------------------

    def walk(self, name: str) -> None:
        """Sleeps.  All components of ``name`` but the last, which ends up in ``last``.

        Raises:
            OSError: EACCES on a directory that may not be searched, ENOENT, ENOTDIR, ELOOP, what
                filesystems say; ECHILD in RCU mode.

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
            self.may_lookup()
            ends = i == len(parts)
            if ends and not stack:
                self.last = part
                self.last_type = _TYPES.get(part, LAST_NORM)
                self.slash = slash
                return
            body = self.walk_component(part, True)
            if ends:  # of a link's body: go on behind the link
                parts, i, link = stack.pop()
                self.put_link(link)
            if body is not None:
                assert self.picked is not None
                stack.append((parts, i, self.picked))
                self.picked = None
                parts, _ = split(body)
                i = 0
                if not parts:  # a link to "/": it jumped, and there is nothing to walk
                    parts, i, link = stack.pop()
                    self.put_link(link)
            elif self.inode.i_mode & _S_IFMT != _S_IFDIR:
                if self.flags & LOOKUP_RCU:
                    unlazy_walk(self)
                raise ENOTDIR()

    def may_lookup(self) -> None:
        """Sleeps.  Whether the directory may be searched; in RCU mode first without sleeping.

        Source: ``may_lookup``.
        """
        if self.flags & LOOKUP_RCU:
            try:
                inode_permission(self.inode, _MAY_SEARCH_RCU)
                return
            except OSError as error:
                if error.errno != errno.ECHILD:
                    raise
            unlazy_walk(self)
        inode_permission(self.inode, MAY_EXEC)

    def lookup_last(self) -> str | None:
        """Sleeps.  The component that `walk` left over; returns the body to walk next if it is a
        link to follow.

        Source: ``lookup_last`` and ``trailing_symlink``.
        """
        self.flags &= ~LOOKUP_PARENT
        if self.last_type == LAST_NORM:
            if self.slash:
                self.flags |= LOOKUP_FOLLOW | LOOKUP_DIRECTORY
            body = self.walk_component(self.last, bool(self.flags & LOOKUP_FOLLOW))
        else:
            self.handle_dots(self.last_type)
            body = None
        self.end_of_link()
        if body is not None:
            self.flags |= LOOKUP_PARENT
        return body

    def end_of_link(self) -> None:
        """Sleeps.  The link whose body ended here is done with; the one just picked, if any, takes
        its place.
        """
        old, self.tail, self.picked = self.tail, self.picked, None
        if old is not None:
            self.put_link(old)

    def walk_component(self, part: str, follow: bool) -> str | None:
        """Sleeps.  Go to one component, across mounts; returns the body instead if it is a link and
        to be followed.

        Source: ``walk_component``.
        """
        if part in _TYPES:
            self.handle_dots(_TYPES[part])
            return None
        step = self.lookup_fast(part)
        if step is None:
            step = follow_managed(self, lookup_slow(self.dentry, part, self.flags))
        return self.step_into(step, follow)

    def lookup_fast(self, part: str) -> Step | None:
        """Sleeps.  The step to a name that the dcache knows, across what is mounted on it; None if
        the filesystem has to be asked, and then the walk has references.

        Source: ``lookup_fast``.
        """
        flags = self.flags = self.flags & ~LOOKUP_JUMPED
        if flags & LOOKUP_RCU:
            return lookup_rcu(self, part)
        dentry = lookup_fast(self.dentry, part, flags)
        return None if dentry is None else follow_managed(self, dentry)

    def step_into(self, step: Step, follow: bool) -> str | None:
        """Sleeps.  Move to where a component led (consuming its references), or pick it as a link.

        Raises:
            OSError: ELOOP; ECHILD in RCU mode.

        Source: ``should_follow_link``, ``path_to_nameidata``.
        """
        mnt, dentry, inode, seq = step
        if follow and inode.i_mode & _S_IFMT == _S_IFLNK:
            return self.pick_link(step)
        old_mnt, old = self.mnt, self.dentry
        self.mnt = mnt
        self.dentry = dentry
        self.inode = inode
        self.seq = seq
        if not self.flags & LOOKUP_RCU:
            dput(old)
            if mnt is not old_mnt:
                mntput(old_mnt)
        return None

    # -- links and dots --------------------------------------------------------------------------

    def pick_link(self, step: Step) -> str:
        """Sleeps.  Keep the link (consuming its references), ask for its body, and jump to the root
        if that is absolute.

        Raises:
            OSError: ELOOP after 40 links, ECHILD in RCU mode, or what the filesystem's ``get_link``
                says.

        Source: ``pick_link`` and ``get_link``.
        """
        mnt, dentry, inode, seq = step
        rcu = self.flags & LOOKUP_RCU
        if rcu and dentry.d_seq.read_retry(seq):
            raise ECHILD()
        if not rcu and mnt is self.mnt:
            mntget(mnt)
        self.picked = (mnt, dentry, seq)
        if self.links >= MAXSYMLINKS:
            raise ELOOP()
        self.links += 1
        if rcu and atime_needs_update(mnt, inode):
            unlazy_walk(self)
        if not self.flags & LOOKUP_RCU:
            touch_atime(mnt, dentry)
        self.last_type = LAST_BIND
        body = inode.i_link
        if body is None:
            body = self._get_link(dentry, inode)
        if body[:1] == "/":
            self._jump_root()
        return body

    def _get_link(self, dentry: Dentry, inode: Inode) -> str:
        """Ask the filesystem; in RCU mode first without sleeping, for which the dentry is None."""
        if self.flags & LOOKUP_RCU:
            try:
                return inode.i_op.get_link(None, inode)
            except OSError as error:
                if error.errno != errno.ECHILD:
                    raise
            unlazy_walk(self)
        return inode.i_op.get_link(dentry, inode)

    def _jump_root(self) -> None:
        """To the root of the process.  Source: ``nd_jump_root``."""
        root = self.root
        if self.flags & LOOKUP_RCU:
            self.flags |= LOOKUP_JUMPED
            self.mnt, self.dentry = root.mnt, root.dentry
            self.seq = root.dentry.d_seq.read_begin()
            self.inode = root.dentry.d_inode  # type: ignore[assignment]
        else:
            path_get(root)
            self.jump(root)

    def jump(self, path: Path) -> None:
        """Sleeps.  To any place, whose references are the walk's from now on; in ref-walk."""
        old_mnt, old = self.mnt, self.dentry
        self.mnt, self.dentry = path.mnt, path.dentry
        self.inode = path.dentry.d_inode  # type: ignore[assignment]
        self.flags |= LOOKUP_JUMPED
        dput(old)
        mntput(old_mnt)

    def handle_dots(self, type: int) -> None:
        """Sleeps.  ``.`` and what is not a name stay; ``..`` goes up.  Source: ``handle_dots``."""
        if type == LAST_DOTDOT:
            self.flags |= LOOKUP_JUMPED
            if self.flags & LOOKUP_RCU:
                follow_dotdot_rcu(self)
            else:
                self._follow_dotdot()

    def _follow_dotdot(self) -> None:
        """The parent; at a mount's root the parent of the mountpoint; the process's root is its own
        parent.

        Raises:
            OSError: ENOENT (the parent cannot be reached from the mount's root).
        """
        root = self.root
        while self.dentry is not root.dentry or self.mnt is not root.mnt:
            old = self.dentry
            if old is not self.mnt.mnt_root:
                self.dentry = dget_parent(old)
                dput(old)
                if not path_connected(self.mnt, self.dentry):
                    raise ENOENT()
                break
            if not self._follow_up():
                break
        self.mnt, self.dentry = follow_mounts(self.mnt, self.dentry)
        self.inode = self.dentry.d_inode  # type: ignore[assignment]

    def _follow_up(self) -> bool:
        """From a mount's root to its mountpoint; False at the top of the tree.

        Source: ``follow_up``.
        """
        mnt = self.mnt
        lock = mounts().mount_lock
        lock.lock_excl()
        parent = mnt.mnt_parent
        if parent is mnt:
            lock.unlock_excl()
            return False
        old = self.dentry
        self.mnt = mntget(parent)
        self.dentry = dget(mnt.mnt_mountpoint)
        lock.unlock_excl()
        dput(old)
        mntput(mnt)
        return True

    def complete(self) -> None:
        """Sleeps.  The walk has arrived: it gets references, and if it ended in a jump (the root,
        "..", a mountpoint) the filesystem is asked whether the place still is what it was.

        Raises:
            OSError: ESTALE; ECHILD in RCU mode.

        Source: ``complete_walk``.
        """
        if self.flags & LOOKUP_RCU:
            unlazy_walk(self)
        dentry = self.dentry
        if self.flags & LOOKUP_JUMPED and dentry.d_flags & DCACHE_OP_WEAK_REVALIDATE:
            if not dentry.d_op.d_weak_revalidate(dentry, self.flags):
                raise ESTALE()


def nd_jump_link(path: Path) -> None:
    """Sleeps.  For ``get_link``: the link is a place and no name; the walk goes on there.

    Args:
        path: with a reference on mount and dentry, which are the walk's from now on.

    The method then returns "".  It needs a walk with references: with ``dentry`` None it raises
    ECHILD.  Links below /proc are such links.  Source: ``nd_jump_link``.
    """
    nd = current_process().nameidata
    if nd is None or nd.flags & LOOKUP_RCU:
        bug("kernel.bug", "nd_jump_link() outside of a walk with references")
    nd.jump(path)


# -- faces ---------------------------------------------------------------------------------------


def walked(name: str, flags: int, dfd: int, walk: Callable[[str, int, int], T]) -> T:
    """Sleeps.  What ``walk`` makes of ``name``: in RCU mode, else with references, else with
    LOOKUP_REVAL.

    Args:
        name, flags, dfd: as for `Nameidata`; ``walk`` is called with them.

    Raises:
        TypeError, ValueError: as `getname`.
        OSError: as `getname`, or what ``walk`` says.
    """
    getname(name)
    try:
        try:
            return walk(name, flags | LOOKUP_RCU, dfd)
        except OSError as error:
            if error.errno != errno.ECHILD:
                raise
        return walk(name, flags, dfd)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return walk(name, flags | LOOKUP_REVAL, dfd)


def retry_estale(call: Callable[P, T]) -> Callable[P, T]:
    """Never sleeps.  Make a call on names one that is made again if it says ESTALE.

    The walk may have believed a name that the server does not know any more, which then shows when
    something is done with what it led to.  The second time every name is asked about.

    Args:
        call: takes ``reval`` by its name: flags for its walks, 0 the first time.

    Source: ``retry_estale``.
    """

    @functools.wraps(call)
    def made(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        kwargs["reval"] = LOOKUP_REVAL
        return call(*args, **kwargs)

    return made


def user_path(name: str, flags: int = LOOKUP_FOLLOW, dfd: int = AT_FDCWD) -> Path:
    """Sleeps.  What ``name`` leads to; the caller must `path_put` it.

    Args:
        name: relative to ``dfd``, an open directory or the working directory, unless it begins with
            a slash.
        flags: LOOKUP_FOLLOW to follow a link in the last component, LOOKUP_DIRECTORY to insist on a
            directory, LOOKUP_AUTOMOUNT to go into an automount in the last component.

    Raises:
        OSError: EBADF (``dfd``), ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, ESTALE, or what
            filesystems say.

    Source: ``filename_lookup``.
    """
    return walked(name, flags, dfd, _lookup)


def _lookup(name: str, flags: int, dfd: int) -> Path:
    """Source: ``path_lookupat``."""
    with Nameidata(name, flags, dfd) as nd:
        body: str | None = name
        while body is not None:
            nd.walk(body)
            body = nd.lookup_last()
        nd.complete()
        if nd.flags & LOOKUP_DIRECTORY and nd.inode.i_mode & _S_IFMT != _S_IFDIR:
            raise ENOTDIR()
        return nd.take_path()


def filename_parentat(name: str, flags: int = 0, dfd: int = AT_FDCWD) -> LastName:
    """Sleeps.  The directory of the last component, and that component, which is not looked up.

    Args:
        flags: LOOKUP_REVAL to ask about every name.
        name, dfd: as for `user_path`.

    Raises:
        OSError: as `user_path`, about the directory.

    Source: ``filename_parentat``.
    """
    return walked(name, flags, dfd, _parent)


def _parent(name: str, flags: int, dfd: int) -> LastName:
    """Source: ``path_parentat``."""
    with Nameidata(name, flags, dfd) as nd:
        nd.walk(name)
        nd.complete()
        return LastName(nd.take_path(), nd.last, nd.last_type, nd.slash)


def filename_create(
    name: str, directory: bool = False, reval: int = 0, dfd: int = AT_FDCWD
) -> tuple[Path, Dentry]:
    """Sleeps.  A negative dentry for a new name, with its directory locked: give both to
    `done_path_create`.

    Args:
        name, dfd: the path to create, as for `user_path`.
        directory: a directory is to be made, so a trailing slash is welcome.
        reval: LOOKUP_REVAL to ask about every name, or 0.

    Raises:
        OSError: EEXIST (also for "." and "/"), ENOENT (trailing slash on what will be no
            directory), EROFS, or as `filename_parentat`.

    Returns with the directory's ``i_rwsem`` exclusive (subclass PARENT) and write access to the
    mount.  Source: ``filename_create``.
    """
    last = filename_parentat(name, reval, dfd)
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
        dentry = lookup_hash(path.dentry, last.name, LOOKUP_CREATE | LOOKUP_EXCL | reval)
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
