"""Processes: who asks, from where, and with which open files.

A task of the simulated machine is a thread of execution; its `Process` (``task.process``) says on
whose behalf it runs: credentials, umask, root and working directory, and the table of file
descriptors.  Kernel threads have none and act with full rights.

Typical sequence::

    process = Process(root, name="a")      # takes its own references on root and cwd
    process.cred = process.cred.with_uid(1000)
    process.exit()                         # closes the files, gives root and cwd back

Credentials are in `vfsim.fs.cred`, and offered here as well.  What a process has of its own (umask,
root, cwd, cred) is touched only by its own task and needs no lock; threads share the `FdTable`
only, which has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import innermost
from vfsim.checks.bugs import bug
from vfsim.checks.rules import RULES
from vfsim.fs.cred import (
    ALL_CAPS,
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_LEASE,
    CAP_LINUX_IMMUTABLE,
    CAP_MKNOD,
    CAP_SETFCAP,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    CAP_SYS_CHROOT,
    NO_CAPS,
    ROOT_CRED,
    Cred,
    capable,
    current_cred,
    user_cred,
)
from vfsim.fs.mount import Path, mounts, path_get, path_put
from vfsim.fs.namespace import put_mnt_ns
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.fdtable import FdTable
    from vfsim.fs.mount import MountNamespace
    from vfsim.fs.namei import Nameidata


class Process:
    """What a task runs on behalf of: Linux's ``cred``, ``fs_struct`` and ``files_struct`` of a task
    in one.

    Attributes:
        name: for people.
        cred: replaced as a whole, never changed.
        umask: permission bits that creation leaves out.
        root, cwd: paths it holds references on.  mnt_ns: the tree of mounts that it sees.
        files: the descriptor table, possibly shared with threads.
        nameidata: the path walk that it is in, the innermost one; None outside.
        task_work: what to do before the task returns to user mode (Linux's task_work list).
    """

    __slots__ = (
        "cred",
        "cwd",
        "files",
        "mnt_ns",
        "name",
        "nameidata",
        "root",
        "task_work",
        "umask",
    )

    def __init__(
        self,
        root: Path,
        files: FdTable,
        *,
        name: str = "process",
        cred: Cred = ROOT_CRED,
        cwd: Path | None = None,
        umask: int = 0o022,
        mnt_ns: MountNamespace | None = None,
    ) -> None:
        self.name = name
        self.cred = cred
        self.umask = umask
        self.root = root
        self.cwd = cwd if cwd is not None else root
        self.files = files
        self.nameidata: Nameidata | None = None
        self.task_work: list[tuple[Callable[..., Any], Any]] = []
        self.mnt_ns = mnt_ns if mnt_ns is not None else mounts().ns
        path_get(self.root)
        path_get(self.cwd)
        if self.mnt_ns is not None:
            self.mnt_ns.count += 1

    def fork(self, name: str) -> Process:
        """Sleeps.  A child with the same rights and places and its own table of the same open
        files.
        """
        return self._like(name, self.files.copy())

    def thread(self, name: str) -> Process:
        """Sleeps.  The same with a *shared* descriptor table (``CLONE_FILES``)."""
        return self._like(name, self.files.share())

    def _like(self, name: str, files: FdTable) -> Process:
        return Process(
            self.root, files, name=name, cred=self.cred, cwd=self.cwd, umask=self.umask,
            mnt_ns=self.mnt_ns,
        )  # fmt: skip

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
        put_mnt_ns(self.mnt_ns)

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


def current_umask() -> int:
    """Never sleeps.  The permission bits that creation leaves out."""
    process = K.cur.process
    return 0 if process is None else process.umask


__all__ = [
    "ALL_CAPS",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "Cred",
    "NO_CAPS",
    "Process",
    "ROOT_CRED",
    "capable",
    "current_cred",
    "current_process",
    "current_umask",
    "user_cred",
]
