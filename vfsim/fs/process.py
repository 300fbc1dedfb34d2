"""Processes: who asks, from where, and with which open files.

A task of the simulated machine is a thread of execution; its `Process` (``task.process``) says on
whose behalf it runs: credentials, umask, root and working directory, and the table of file
descriptors.  Kernel threads have none and act with full rights.

Typical sequence::

    process = Process(root, name="a")      # takes its own references on root and cwd
    process.cred = process.cred.with_uid(1000)
    process.exit()                         # closes the files, gives root and cwd back

Credentials are immutable and replaced as a whole, as in Linux; an open file keeps those it was
opened with.  What a process has of its own (umask, root, cwd, cred) is touched only by its own task
and needs no lock; threads share the `FdTable` only, which has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.blame import innermost
from vfsim.checks.bugs import bug
from vfsim.checks.rules import RULES
from vfsim.fs.mount import Path, path_get, path_put
from vfsim.sim.errors import EPERM
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.fs.fdtable import FdTable
    from vfsim.fs.namei import Nameidata

CAP_CHOWN = "CAP_CHOWN"
CAP_DAC_OVERRIDE = "CAP_DAC_OVERRIDE"
CAP_DAC_READ_SEARCH = "CAP_DAC_READ_SEARCH"
CAP_FOWNER = "CAP_FOWNER"
CAP_FSETID = "CAP_FSETID"
CAP_SETGID = "CAP_SETGID"
CAP_SETUID = "CAP_SETUID"
CAP_LINUX_IMMUTABLE = "CAP_LINUX_IMMUTABLE"
CAP_SYS_CHROOT = "CAP_SYS_CHROOT"
CAP_SYS_ADMIN = "CAP_SYS_ADMIN"
CAP_MKNOD = "CAP_MKNOD"
CAP_LEASE = "CAP_LEASE"

ALL_CAPS = frozenset(
    (
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SETGID,
        CAP_SETUID, CAP_LINUX_IMMUTABLE, CAP_SYS_CHROOT, CAP_SYS_ADMIN, CAP_MKNOD, CAP_LEASE,
    )
)  # fmt: skip
NO_CAPS: frozenset[str] = frozenset()


@attrs.define(frozen=True, slots=True)
class Cred:
    """Credentials: Linux's ``struct cred``, as far as filesystems look at it.

    Attributes:
        uid, gid: what files are checked against and created with (Linux's fsuid and fsgid).
        groups: supplementary groups.
        caps: the effective capabilities, by Linux's names.
        real_uid, real_gid: what `access` uses and what an unprivileged process may return to.
    """

    uid: int = 0
    gid: int = 0
    groups: frozenset[int] = frozenset()
    caps: frozenset[str] = ALL_CAPS
    real_uid: int = 0
    real_gid: int = 0

    def in_group(self, gid: int) -> bool:
        """Never sleeps.  Whether ``gid`` is the group or a supplementary one (Linux:
        ``in_group_p``).
        """
        return gid == self.gid or gid in self.groups

    def with_uid(self, uid: int) -> Cred:
        """Never sleeps.  The same with another effective uid: root has every capability, others
        none.

        Raises:
            OSError: EPERM, without CAP_SETUID and for a uid that is not the real one.
        """
        _check_id("uid", uid)
        if CAP_SETUID not in self.caps and uid not in (self.uid, self.real_uid):
            raise EPERM()
        if uid == self.uid:
            return self
        return attrs.evolve(self, uid=uid, caps=ALL_CAPS if uid == 0 else NO_CAPS)

    def with_gid(self, gid: int) -> Cred:
        """Never sleeps.  The same with another effective gid.  Raises EPERM as `with_uid` does."""
        _check_id("gid", gid)
        if CAP_SETGID not in self.caps and gid not in (self.gid, self.real_gid):
            raise EPERM()
        return attrs.evolve(self, gid=gid)

    def with_groups(self, groups: Iterable[int]) -> Cred:
        """Never sleeps.  The same with other supplementary groups.

        Raises EPERM without CAP_SETGID.
        """
        new = frozenset(groups)
        for gid in sorted(new):
            _check_id("gid", gid)
        if CAP_SETGID not in self.caps:
            raise EPERM()
        return attrs.evolve(self, groups=new)


def _check_id(what: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 0xFFFF_FFFF:
        raise ValueError(f"a {what} is an integer from 0 to 2**32 - 2, got {value!r}")


ROOT_CRED = Cred()


def user_cred(uid: int, gid: int, groups: Iterable[int] = ()) -> Cred:
    """Never sleeps.  The credentials a login of that user would start with."""
    _check_id("uid", uid)
    _check_id("gid", gid)
    caps = ALL_CAPS if uid == 0 else NO_CAPS
    return Cred(uid, gid, frozenset(groups), caps, uid, gid)


class Process:
    """What a task runs on behalf of: Linux's ``cred``, ``fs_struct`` and ``files_struct`` of a task
    in one.

    Attributes:
        name: for people.
        cred: replaced as a whole, never changed.
        umask: permission bits that creation leaves out.
        root, cwd: paths it holds references on.
        files: the descriptor table, possibly shared with threads.
        nameidata: the path walk that it is in, the innermost one; None outside.
        task_work: what to do before the task returns to user mode (Linux's task_work list).
    """

    __slots__ = ("cred", "cwd", "files", "name", "nameidata", "root", "task_work", "umask")

    def __init__(
        self,
        root: Path,
        files: FdTable,
        *,
        name: str = "process",
        cred: Cred = ROOT_CRED,
        cwd: Path | None = None,
        umask: int = 0o022,
    ) -> None:
        self.name = name
        self.cred = cred
        self.umask = umask
        self.root = root
        self.cwd = cwd if cwd is not None else root
        self.files = files
        self.nameidata: Nameidata | None = None
        self.task_work: list[tuple[Callable[..., Any], Any]] = []
        path_get(self.root)
        path_get(self.cwd)

    def fork(self, name: str) -> Process:
        """Sleeps.  A child with the same rights and places and its own table of the same open
        files.
        """
        return Process(
            self.root, self.files.copy(), name=name, cred=self.cred, cwd=self.cwd, umask=self.umask
        )

    def thread(self, name: str) -> Process:
        """Sleeps.  The same with a *shared* descriptor table (``CLONE_FILES``)."""
        return Process(
            self.root, self.files.share(), name=name, cred=self.cred, cwd=self.cwd, umask=self.umask
        )

    def set_cwd(self, path: Path) -> None:
        """Sleeps.  Move the working directory; takes a reference on ``path`` (Linux:
        ``set_fs_pwd``).
        """
        path_get(path)
        old, self.cwd = self.cwd, path
        path_put(old)

    def set_root(self, path: Path) -> None:
        """Sleeps.  Change where "/" is; takes a reference on ``path`` (Linux: ``set_fs_root``)."""
        path_get(path)
        old, self.root = self.root, path
        path_put(old)

    def exit(self) -> None:
        """Sleeps.  Close the files and give the directories back; the process must not be used
        again.
        """
        self.files.put()
        self.run_task_work()
        path_put(self.cwd)
        path_put(self.root)

    def run_task_work(self) -> None:
        """Sleeps.  Do what was put off until no lock is held (Linux: ``task_work_run``)."""
        work = self.task_work
        while work:
            fn, arg = work.pop(0)
            fn(arg)

    def __repr__(self) -> str:
        return f"<Process {self.name} uid={self.cred.uid}>"


def current_process() -> Process:
    """Never sleeps.  The process of the running task.

    Raises:
        TypeError: outside a task, or in a kernel thread, which has none (for a filesystem's methods
            that a loop device's worker calls that is a broken rule, P18).
    """
    process = K.cur.process
    if process is None:
        site = innermost(K.cur)
        if site is not None and site.method.id in RULES["P18"].applies_to:
            bug("P18", f"{site.title}() relies on a process, and {K.cur.name} is a kernel thread")
        raise TypeError(
            f"{K.cur.name} is a kernel thread: it has no files, no directory and no credentials"
        )
    return process  # type: ignore[no-any-return]


def current_cred() -> Cred:
    """Never sleeps.  Whose rights count now; a kernel thread has root's."""
    process = K.cur.process
    return ROOT_CRED if process is None else process.cred


def current_umask() -> int:
    """Never sleeps.  The permission bits that creation leaves out."""
    process = K.cur.process
    return 0 if process is None else process.umask


def capable(cap: str) -> bool:
    """Never sleeps.  Whether the running task has that capability."""
    process = K.cur.process
    return process is None or cap in process.cred.caps
