"""What the tests of superblocks, inodes, dentries and mounts share: a plain filesystem, and worlds
around it.

`run` mounts the plain filesystem, lets functions run as kernel tasks on its superblock, checks all
invariants, unmounts and returns what the functions returned.  `explore` does that under many
schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from stat import S_IFDIR, S_IFREG
from typing import Any

from vfsim.filesystems.libfs import (
    SimpleDirInodeOperations,
    SimpleDirOperations,
    SimpleSuperOperations,
)
from vfsim.fs.dcache import Dentry, d_alloc, d_instantiate, d_make_root, d_rehash
from vfsim.fs.inode import Inode, icache, inc_nlink, inode_init_owner, new_inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import DentryOperations, FileSystemType, SuperOperations
from vfsim.fs.super import SuperBlock, supers
from vfsim.sim.errors import Violation
from vfsim.sim.state import K


class PlainSuper(SimpleSuperOperations):
    """A filesystem whose inodes may stay in the cache."""


class Plain(FileSystemType):
    """A root directory and nothing else; tests put into it what they need."""

    name = "plain"

    def __init__(
        self, s_op: SuperOperations | None = None, s_d_op: DentryOperations | None = None
    ) -> None:
        self.s_op = s_op or PlainSuper()
        self.s_d_op = s_d_op

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_op = self.s_op
        sb.s_d_op = self.s_d_op
        sb.s_root = d_make_root(directory(sb))


def directory(sb: SuperBlock) -> Inode:
    """A new directory's inode."""
    inode = new_inode(sb)
    inode_init_owner(inode, None, S_IFDIR | 0o755)
    inode.i_op = SimpleDirInodeOperations()
    inode.i_fop = SimpleDirOperations()
    inc_nlink(inode)
    return inode


def regular(sb: SuperBlock) -> Inode:
    """A new regular file's inode."""
    inode = new_inode(sb)
    inode_init_owner(inode, None, S_IFREG | 0o644)
    return inode


def add(parent: Dentry, name: str, inode: Inode | None = None) -> Dentry:
    """A hashed dentry; the caller has a reference on it."""
    dentry = d_alloc(parent, name)
    d_rehash(dentry)
    if inode is not None:
        d_instantiate(dentry, inode)
    return dentry


def root_of(sb: SuperBlock) -> Dentry:
    assert sb.s_root is not None
    return sb.s_root


Work = Callable[[SuperBlock], Any]


@contextmanager
def mounted(
    fs: FileSystemType | None = None, **options: Any
) -> Iterator[tuple[Kernel, SuperBlock]]:
    """A kernel with the plain filesystem (or another) at "/"."""
    kernel = Kernel(**options)
    try:
        kernel.mount(fs or Plain(), "/")
        yield kernel, superblock(kernel)
    finally:
        kernel.machine.bury()


def superblock(kernel: Kernel) -> SuperBlock:
    """The superblock mounted last."""
    return list(kernel.machine.data["supers"].super_blocks)[-1]


def check_all() -> None:
    """Every invariant of the running world; in a task, while nothing else runs."""
    icache()._check()
    for sb in supers().super_blocks:
        sb._check()


def run(*work: Work, fs: FileSystemType | None = None, **options: Any) -> list[Any]:
    """Run functions on a superblock as kernel tasks, at once; the world must be clean at the end,
    and is unmounted.
    """
    with mounted(fs, **options) as (kernel, sb):
        tasks = [kernel.machine.spawn(fn, sb, name=fn.__name__) for fn in work]
        kernel.run()
        kernel._do(check_all)
        kernel.close()
        assert kernel.violations == []
        return [task.result for task in tasks]


def explore(
    make: Callable[[], tuple[Work, ...]],
    check: Callable[[list[Any]], None],
    schedules: int = 150,
    **options: Any,
) -> None:
    """Run fresh functions under many schedules, of two kinds."""
    for seed in range(schedules):
        strategy = "pos" if seed % 2 else "random"
        check(run(*make(), seed=seed, strategy=strategy, **options))


def bugs(*work: Work, fs: FileSystemType | None = None, **options: Any) -> list[Violation]:
    """Run functions that break a rule; returns what was found until the end of the unmount."""
    with mounted(fs, **options) as (kernel, sb):
        for fn in work:
            kernel.machine.spawn(fn, sb, name=fn.__name__)
        kernel.machine.run()
        if not kernel.machine.stopped:
            kernel.close()
        return kernel.violations


def now() -> int:
    """Simulated time."""
    return K.machine.now
