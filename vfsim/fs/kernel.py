"""A machine with a VFS in it: mount a filesystem, start processes, run, look at what was found.

By hand::

    with vfsim.Kernel() as k:
        k.mount(ToyFS(), "/")
        k.process(copy, "/a", "/b")        # copy(sys, "/a", "/b") runs as a process
        k.process(remove, "/a")
        k.run()                            # both, to the end; raises KernelBug if a rule was broken
                                           # leaving the block unmounts all and looks for leaks

States: booted (nothing is mounted) → mounted → running ⇄ idle → closed (everything unmounted, leaks
recorded) → buried.  The first thing mounted at "/" is the root; until then there is an empty
rootfs, made when it is first needed.

Everything a kernel does happens inside tasks; `mount`, `umount` and `close` start one and run it at
once, so they can be used only while no process waits to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from vfsim.block.device import BlockDevice, add_disk
from vfsim.block.disk import RamDisk
from vfsim.checks import contract
from vfsim.checks.lifetime import referenced, report_leak
from vfsim.checks.obligations import overdue
from vfsim.checks.report import render
from vfsim.explore.program import default_judge
from vfsim.explore.strategies import maker
from vfsim.fs.by_path import do_mkdir
from vfsim.fs.d_ref import dget
from vfsim.fs.dentry import dentry_path
from vfsim.fs.fdtable import FdTable
from vfsim.fs.file import open_files
from vfsim.fs.inode import report_unfreed
from vfsim.fs.managed import follow_mounts
from vfsim.fs.mount import Path, mntget, mntput, mounts, path_put
from vfsim.fs.namei import user_path
from vfsim.fs.namespace import create_mnt_ns, do_mount, vfs_kern_mount
from vfsim.fs.operations import FileSystemType
from vfsim.fs.process import ROOT_CRED, Cred, Process, user_cred
from vfsim.fs.rootfs import RootFS
from vfsim.fs.super import register_filesystem, supers
from vfsim.fs.syscalls import Sys, return_to_user
from vfsim.fs.umount import MNT_DETACH, do_umount, kern_unmount
from vfsim.mm.page import Page
from vfsim.sim.errors import KernelBug, Killed, Violation
from vfsim.sim.faults import kinds
from vfsim.sim.judge import Judge
from vfsim.sim.machine import MAX_STEPS, Machine
from vfsim.sim.scheduler import schedule_timeout
from vfsim.sim.state import K
from vfsim.sim.timeline import something_due
from vfsim.sim.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from vfsim.sim.choice import Strategy
    from vfsim.sim.errors import Violation
    from vfsim.sim.task import Task

R = TypeVar("R")

_PUT_OFF = 16  # times that the end waits for the next timer


class Kernel:
    """A simulated computer with a VFS.

    Args:
        cpus: number of CPUs.
        seed: explore one random schedule, that of this seed; without it (and without a strategy)
            the run is round-robin.
        strategy: who runs next: a strategy, or the name of one ("pos", "random", "pct", "pct:4").
        checks: whether rules are checked; without, methods are called bare and only hangs are
            noticed.
        trace: record every operation (`Kernel.trace`).
        max_steps: scheduling points until a run counts as making no progress.
        faults: the kinds of fault that may happen (``"alloc,copy,io"``), where the strategy
            chooses them.
        races: look for races on declared fields.

    Attributes:
        machine: the world.  sys: its system calls.  trace: the record, or None.
    """

    def __init__(
        self,
        cpus: int = 4,
        seed: int | None = None,
        strategy: Strategy | str | None = None,
        checks: bool = True,
        trace: bool | Trace | None = False,
        max_steps: int = MAX_STEPS,
        faults: str | Iterable[str] = (),
        races: bool = False,
    ) -> None:
        if seed is not None and not isinstance(strategy, str):
            if strategy is not None:
                raise ValueError("a strategy brings its own seed: give a name, or no seed")
            strategy = "pos"
        if isinstance(strategy, str):
            strategy = maker(strategy)(seed or 0, 1000)
        self.trace: Trace | None = (
            (Trace() if trace else None) if isinstance(trace, bool) else trace
        )
        judge = default_judge(races) if checks else Judge()
        self.machine = Machine(cpus, strategy, judge, self.trace, max_steps, kinds(faults))
        self.machine.data["kernel"] = self
        self.checks = checks
        self.sys = Sys(self)
        self._disks: list[tuple[RamDisk, BlockDevice]] = []
        self._told = 0
        self._closed = False

    # -- mounting --------------------------------------------------------------------------------

    def mount(
        self,
        filesystem: FileSystemType | type[FileSystemType] | str,
        path: str = "/",
        device: RamDisk | None = None,
        options: str = "",
        flags: int = 0,
    ) -> None:
        """Mount a filesystem.

        Args:
            filesystem: its type: an instance, the class, or the name of one mounted before.
            path: where.  The first mount at "/" is the root, a later one is what new processes see
                there; on the built-in root other places are made.
            device: a disk to mount it from; without one, a filesystem that needs a disk gets a
                fresh one, formatted by its ``mkfs``.  A blank disk is formatted, too.
            options: what the filesystem's ``mount`` gets as ``data``.  flags: MS_* flags of
                mount(2).

        Raises:
            OSError: what mount(2) says.
            KernelBug: a rule was broken.
            TypeError, ValueError: misuse.
        """
        self._must_be_idle("mount")
        name = filesystem
        if not isinstance(filesystem, str):
            filesystem = _instance(filesystem)
            name = self._disk_of(filesystem, device)
        self._do(self._mount, filesystem, path, name, flags, options)

    def _mount(
        self, filesystem: FileSystemType | str, path: str, name: str, flags: int, options: str
    ) -> None:
        if isinstance(filesystem, FileSystemType):
            known = supers().file_systems
            if filesystem.name and filesystem.name not in known:
                register_filesystem(filesystem)
            if mounts().ns is None:
                if path == "/":
                    create_mnt_ns(vfs_kern_mount(filesystem, flags, name, options))
                    return
                create_mnt_ns(vfs_kern_mount(RootFS(), 0, "rootfs", ""))
        elif mounts().ns is None:
            raise ValueError("mount by name needs the filesystem to be mounted as an object once")
        process = self._begin()
        try:
            self._make_place(path)
            at = user_path(path)
            try:
                do_mount(at, name, filesystem, flags, options)
            finally:
                path_put(at)
        finally:
            self._end(process)

    def _make_place(self, path: str) -> None:
        """On the built-in root: make the directories that ``path`` names."""
        ns = mounts().ns
        assert ns is not None
        if not isinstance(ns.root.mnt_sb.s_type, RootFS):
            return
        so_far = ""
        for part in path.strip("/").split("/"):
            so_far = f"{so_far}/{part}"
            try:
                do_mkdir(so_far, 0o755)
            except FileExistsError:
                pass

    def _disk_of(self, filesystem: FileSystemType, device: RamDisk | None) -> str:
        """Plug in the disk that a filesystem needs, if it needs one; returns what mount(2) calls
        it.
        """
        template = device if device is not None else filesystem.device
        if template is None:
            return filesystem.name or type(filesystem).__name__
        for disk, bdev in self._disks:
            if disk is template:
                return f"/dev/{bdev.bd_disk.name}"
        disk = template if device is not None else template.copy()
        if not disk._medium:
            type(filesystem).mkfs(disk)
        disk.name = f"ram{len(self._disks)}"
        bdev = add_disk(disk, self.machine)
        self._disks.append((template, bdev))
        return f"/dev/{disk.name}"

    def umount(self, path: str = "/") -> None:
        """Unmount what is mounted at ``path``, the root included.

        Raises:
            OSError: EBUSY, EINVAL, or what the walk says.
            KernelBug: a rule was broken.
        """
        self._must_be_idle("umount")
        self._do(self._umount, path)

    def _umount(self, path: str) -> None:
        ns = mounts().ns
        if ns is None:
            raise ValueError("nothing is mounted")
        if path == "/":
            top = _top_of_the_root()
            path_put(top)
            kern_unmount(top.mnt)
            return
        process = self._begin()
        try:
            self.sys.umount(path)
        finally:
            self._end(process)

    # -- processes -------------------------------------------------------------------------------

    def process(
        self,
        fn: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        uid: int = 0,
        gid: int = 0,
        groups: Iterable[int] = (),
        umask: int = 0o022,
    ) -> Task:
        """Start a process that runs ``fn(sys, *args)`` when the world runs next.

        Args:
            fn: a plain function; its first argument is a `Sys`.
            name: for reports; the function's name without it.
            uid, gid, groups: who it runs as; root unless told otherwise.
            umask: permission bits that creation leaves out.

        Returns:
            Its task; after `run`, ``task.result`` is what ``fn`` returned.
        """
        if self._closed:
            raise ValueError("the kernel was shut down")
        cred = user_cred(uid, gid, groups)
        label = name or str(getattr(fn, "__name__", "process"))

        def make() -> Process:
            if mounts().ns is None:
                create_mnt_ns(vfs_kern_mount(RootFS(), 0, "rootfs", ""))
            return _process(label, cred, umask)

        return self.machine.spawn(self._life, make, fn, args, name=label)

    def start(self, process: Process, fn: Callable[..., Any], args: tuple[Any, ...]) -> Task:
        """Never sleeps.  Start a task for a process that exists (`Sys.fork`)."""
        return self.machine.spawn(self._life, lambda: process, fn, args, name=process.name)

    def login(self, name: str, umask: int = 0o022) -> Process:
        """A process of root's without a task, made now: it lives until it is ended by `logout`.

        `resume` lets it do something.  For programs that come in pieces, with the world looked at
        in between.
        """
        self._must_be_idle("login")
        made: list[Process] = []
        self._do(lambda: made.append(_process(name, ROOT_CRED, umask)))
        return made[0]

    def resume(self, process: Process, fn: Callable[..., Any], *args: Any) -> Task:
        """Start a task that runs ``fn(sys, *args)`` for a process which outlives it."""
        return self.machine.spawn(self._while, process, fn, args, name=process.name)

    def logout(self, process: Process) -> Task:
        """Start a task that ends a process: closes its files, gives its directories back."""
        return self.resume(process, lambda sys: process.exit())

    def _while(self, process: Process, fn: Callable[..., R], args: tuple[Any, ...]) -> R:
        """Sleeps.  The life of a task that leaves its process behind."""
        K.cur.process = process
        result = fn(self.sys, *args)
        return_to_user(K.cur)
        return result

    def _life(self, make: Callable[[], Process], fn: Callable[..., R], args: tuple[Any, ...]) -> R:
        """Sleeps.  A process's task, from beginning to end."""
        task = K.cur
        process = task.process = make()
        try:
            result = fn(self.sys, *args)
        except Killed:
            raise
        except BaseException:
            process.exit()
            raise
        process.exit()
        return_to_user(task)
        return result

    def call(self, fn: Callable[..., R], *args: Any, **who: Any) -> R:
        """Run one process to its end and return what ``fn(sys, *args)`` returned.

        ``who`` as in `process`.

        Raises:
            KernelBug: a rule was broken.  Also whatever ``fn`` raises.
        """
        task = self.process(fn, *args, **who)
        self.run()
        return task.result  # type: ignore[no-any-return]

    def run(self) -> None:
        """Run until every process has ended.

        Raises:
            KernelBug: the first rule that was broken and not raised before.  Else what a process's
                function raised.
        """
        try:
            self._run()
        except Exception as error:
            self._raise_first(error)
            raise
        self._raise_first()

    def _run(self) -> None:
        if self.checks or not contract.enabled():
            self.machine.run()
            return
        contract.disable()
        try:
            self.machine.run()
        finally:
            contract.enable()

    @property
    def violations(self) -> list[Violation]:
        """What was found so far."""
        return self.machine.violations

    @property
    def now(self) -> int:
        """Simulated time in nanoseconds."""
        return self.machine.now

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Unmount everything and look for what is left over; violations are recorded, nothing is
        raised.

        After a bug that stopped the world there is nothing to look at.
        """
        if self._closed:
            return
        self._closed = True
        if self.machine.stopped or self.machine.dead:
            return
        self.machine.spawn(self._take_down, name="shutdown").owner = "kernel"
        self._run()
        if not self.machine.stopped and something_due(self.machine):
            self.machine.spawn(self._wait_for_timers, name="afterwards").owner = "kernel"
            self._run()
        if not self.machine.stopped:
            report_unfreed(self.machine)
            overdue(self.machine)

    def shutdown(self) -> None:
        """`close`, end every task and free the world.

        Raises:
            KernelBug: the first rule that was broken and not raised before, leaks included.
        """
        try:
            self.close()
            self._raise_first()
        finally:
            self.machine.bury()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.shutdown()
        else:
            self.machine.bury()

    def _take_down(self) -> None:
        """Sleeps.  Unmount everything, innermost first; report what cannot be or is left."""
        for file in list(open_files()):
            report_leak(file, f"the open file {dentry_path(file.f_path.dentry)}", "leak.file")
        world = mounts()
        while world.ns is not None:
            mnt = list(world.ns.mounts)[-1]
            mntget(mnt)
            try:
                do_umount(mnt)
            except OSError:
                report_leak(mnt, f"the mount of {mnt.mnt_sb.s_id}", "leak.mount")
                do_umount(mnt, MNT_DETACH)
            finally:
                mntput(mnt)
        for sb in supers().super_blocks:
            why = "still frozen" if sb.s_writers.frozen else "mounted nowhere"
            report_leak(sb, f"the superblock of {sb.s_id}, which is {why},", "leak.super")
        for page in referenced(self.machine, Page):
            if page.mapping is None:
                report_leak(page, f"page {page.index}, which no file has any more,", "leak.page")

    def _wait_for_timers(self) -> None:
        """Sleeps.  Until what was put off has happened: who did not take it back when his
        filesystem was unmounted finds it gone.  What sets its timer anew is not waited for for
        ever.
        """
        machine = self.machine
        for _ in range(_PUT_OFF):
            if not something_due(machine) or not machine.heap:
                return
            schedule_timeout(int(machine.heap[0][0]) - machine.now + 1)

    def _check(self) -> None:
        """The invariants of every object there is; for tests, while nothing runs."""
        saved, K.machine = K.machine, self.machine
        try:
            mounts()._check()
            for file in open_files():
                file._check()
            for sb in supers().super_blocks:
                sb._check()
            for _, bdev in self._disks:
                bdev._check()
        finally:
            K.machine = saved

    # -- inside ----------------------------------------------------------------------------------

    def _must_be_idle(self, what: str) -> None:
        if self._closed:
            raise ValueError("the kernel was shut down")
        if self.machine.alive:
            raise ValueError(f"{what}() before starting processes, or use sys.{what} inside one")

    def _do(self, fn: Callable[..., None], *args: Any) -> None:
        """Do something in a kernel task now.

        Its error is raised here, and the world can go on after it.
        """
        failed: list[Exception] = []

        def work() -> None:
            try:
                fn(*args)
            except (OSError, ValueError) as error:
                failed.append(error)

        self.machine.spawn(work, name=fn.__name__.strip("_")).owner = "kernel"
        self.run()
        if failed:
            raise failed[0]

    def _begin(self) -> Process:
        """Sleeps.  Give the running kernel task a process of its own, at the root."""
        process = K.cur.process = _process(K.cur.name, ROOT_CRED, 0o022)
        return process

    def _end(self, process: Process) -> None:
        process.exit()
        K.cur.process = None

    def _raise_first(self, cause: Exception | None = None) -> None:
        found = self.machine.violations
        if len(found) > self._told:
            first = found[self._told]
            self._told = len(found)
            raise KernelBug(first, render(self.machine, first)) from cause

    def __repr__(self) -> str:
        return f"<Kernel with {len(self.machine.cpus)} CPUs at {self.now} ns>"


def _top_of_the_root() -> Path:
    """Sleeps.  What is mounted at "/", on top of all others; with references."""
    ns = mounts().ns
    assert ns is not None
    return Path(*follow_mounts(mntget(ns.root), dget(ns.root.mnt_root)))


def _process(name: str, cred: Cred, umask: int) -> Process:
    """Sleeps.  A process at the root, with no open files."""
    root = _top_of_the_root()
    process = Process(root, FdTable(), name=name, cred=cred, umask=umask)
    path_put(root)
    return process


def _instance(filesystem: FileSystemType | type[FileSystemType]) -> FileSystemType:
    if isinstance(filesystem, type) and issubclass(filesystem, FileSystemType):
        filesystem = filesystem()
    if not isinstance(filesystem, FileSystemType):
        raise TypeError(
            f"mount() takes a FileSystemType, its class or its name, got {filesystem!r}"
        )
    return filesystem
