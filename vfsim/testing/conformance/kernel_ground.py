"""The simulated kernel as a ground for assertions.

Used in two ways:

* with a kernel of somebody else's, who mounts nothing himself, looks at its violations and closes
  it: `vfsim check` runs every assertion in a world of its own that way;
* without one: `run` makes a kernel, closes it and raises the first rule that was broken, leaks
  included.  That is for tests, and for `probe`.

What filesystem methods there are is read off the operations classes of live inodes: those of the
root, of a file and of the superblock.  A method counts if its class says something else than the
base class does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from vfsim.block.disk import RamDisk
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import (
    DentryOperations,
    FileOperations,
    InodeOperations,
    SuperOperations,
)
from vfsim.fs.process import current_process
from vfsim.fs.super import SB_RDONLY
from vfsim.sim.errors import PASSING, KernelBug
from vfsim.testing.conformance.capabilities import DIRECTORY_METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vfsim.fs.inode import Inode
    from vfsim.fs.operations import FileSystemType
    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance.ground import Step
    from vfsim.testing.conformance.syscalls import SystemCalls

_FILE_METHODS = {
    "read": ("read", "read_iter"),
    "write": ("write", "write_iter"),
    "llseek": ("llseek",),
    "fsync": ("fsync",),
}
_DIRECTORY_FILE_METHODS = {
    "iterate": ("iterate",),
    "llseek_dir": ("llseek",),
    "fsync_dir": ("fsync",),
}


class KernelGround:
    """Fresh filesystems of one type, on simulated kernels.

    Args:
        filesystem: the type.
        device: sectors of its disk, if not what the filesystem says.
        mount_options: for each mount.
        kernel: one that has just started, to use instead of new ones; `run` can then be called once
            only, and violations are the caller's to look at.
        checks: whether rules are checked; a probe wants to know what a filesystem can do, not what
            it does wrong.
    """

    def __init__(
        self,
        filesystem: type[FileSystemType],
        device: int | None = None,
        mount_options: str = "",
        kernel: Kernel | None = None,
        checks: bool = True,
    ) -> None:
        self.filesystem = filesystem
        self.device = device
        self.mount_options = mount_options
        self.kernel = kernel
        self.checks = checks

    # -- running ---------------------------------------------------------------------------------

    def run(self, steps: Sequence[Step]) -> None:
        """Run the steps in order on one fresh filesystem, mounting it anew for each.

        A filesystem without a disk would be empty after umount; it stays mounted, and a read-only
        step finds its superblock made read-only.

        Raises:
            KernelBug: the first rule that was broken, if the kernel is our own.
            RuntimeError: without checks, a method raised what would end the program.
        """
        if self.kernel is not None:
            try:
                self._run(self.kernel, steps)
            except KernelBug:
                pass  # recorded; whoever owns the kernel will look
            return
        kernel = Kernel(checks=self.checks)
        try:
            self._run(kernel, steps)
            kernel.shutdown()
        except BaseException as error:
            if isinstance(error, (Exception, *PASSING)):
                raise
            raise RuntimeError(f"the filesystem raised {type(error).__name__}") from error
        finally:
            kernel.machine.bury()

    def _run(self, kernel: Kernel, steps: Sequence[Step]) -> None:
        disk = RamDisk(sectors=self.device) if self.device is not None else None
        filesystem = self.filesystem()
        mounted = False
        for body, readonly in steps:
            if mounted and self.persistent():
                kernel.umount("/")
                mounted = False
            if not mounted:
                readonly_mount = SB_RDONLY if readonly and self.persistent() else 0
                kernel.mount(
                    filesystem, "/", device=disk, options=self.mount_options, flags=readonly_mount
                )
                mounted = True
            kernel.call(_life(body, readonly and not self.persistent()), name="process")

    # -- looking ---------------------------------------------------------------------------------

    def methods(self) -> frozenset[str]:
        """The words of `capabilities.METHODS` that stand for methods the filesystem has."""
        found: set[str] = set()
        self._look(lambda sys: found.update(_directory(_root()), _superblock(_root()), _names()))
        if "create" in found:
            self._look(lambda sys: found.update(_file(sys)))
        return frozenset(found)

    def writable(self) -> bool:
        """Whether it can be mounted read-write."""
        flags: list[int] = []
        self._look(lambda sys: flags.append(_root().i_sb.s_flags))
        return not flags or not flags[0] & SB_RDONLY

    def refusals(self) -> tuple[Refusal, ...]:
        """What the filesystem declares to refuse."""
        return self.filesystem.refuses

    def persistent(self) -> bool:
        """Whether a tree outlives umount: it does where there is a disk."""
        return self.filesystem.device is not None

    def _look(self, body: Callable[[SystemCalls], object]) -> None:
        """Run something for its side effects; what the kernel finds wrong is told by others."""
        try:
            KernelGround(self.filesystem, self.device, self.mount_options).run(
                [(lambda sys: cast("None", body(sys)), False)]
            )
        except Exception:
            pass


def _life(body: Callable[[SystemCalls], None], readonly: bool) -> Callable[[SystemCalls], None]:
    def life(sys: SystemCalls) -> None:
        if readonly:
            _root().i_sb.s_flags |= SB_RDONLY
        body(sys)

    return life


def _root() -> Inode:
    """Never sleeps.  The root directory of the running process."""
    inode = current_process().root.dentry.d_inode
    assert inode is not None
    return inode


def _names() -> set[str]:
    """Never sleeps.  What the root's dentry says of names."""
    op = current_process().root.dentry.d_op
    return set() if _overrides(op, DentryOperations, ("d_compare",)) else {"bytewise"}


def _overrides(op: object, base: type, names: tuple[str, ...]) -> bool:
    """Whether one of these methods is not the base class's own."""
    return any(getattr(type(op), name, None) is not getattr(base, name) for name in names)


def _directory(root: Inode) -> set[str]:
    found = {name for name in DIRECTORY_METHODS if _overrides(root.i_op, InodeOperations, (name,))}
    for word, names in _DIRECTORY_FILE_METHODS.items():
        if _overrides(root.i_fop, FileOperations, names):
            found.add(word)
    return found


def _superblock(root: Inode) -> set[str]:
    methods = {"statfs": "statfs", "freeze": "freeze_fs"}
    op = root.i_sb.s_op
    return {word for word, name in methods.items() if _overrides(op, SuperOperations, (name,))}


def _file(sys: SystemCalls) -> set[str]:
    """Sleeps.  Make a file and look at what can be done with it."""
    try:
        fd = sys.open("/probe", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError:
        return set()
    file, how = fdget(fd)
    op = file.f_op
    fdput(file, how)
    sys.close(fd)
    return {word for word, names in _FILE_METHODS.items() if _overrides(op, FileOperations, names)}
