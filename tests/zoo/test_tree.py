"""Bugs of Linux's walks over trees of dentries, and of names that are being added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fs.worlds import add, directory, regular, root_of
from tests.zoo.pairs import caught
from tests.zoo.processes import Patches, quietly
from tests.zoo.processes import caught as caught_in
from vfsim.fs import d_walk as walks
from vfsim.fs.d_walk import D_WALK_CONTINUE, D_WALK_QUIT, D_WALK_SKIP, _walk
from vfsim.fs.dcache import Dentry, d_drop, dcache, dput, shrink_dcache_parent
from vfsim.fs.dentry import DCACHE_DENTRY_KILLED, DENTRY_D_LOCK_NESTED
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.locks.seqlock import SeqLock

# -- DC-01: fix deadlock in tree traversal (v3.7) --------------------------------------------------


def starts_over_with_the_lock(
    real: Any,
    start: Dentry,
    visit: Callable[[Dentry], int],
    finish: Callable[[], object] | None = None,
) -> None:
    """d_walk() that starts over whenever a dentry died under it, and takes the lock each time."""
    rename_lock = dcache().rename_lock
    seq = rename_lock.read_begin()
    seen: list[Dentry] = []
    locked = False

    def note(dentry: Dentry) -> int:
        seen.append(dentry)
        return visit(dentry)

    def moved() -> bool:
        died = any(dentry.d_flags & DCACHE_DENTRY_KILLED for dentry in seen)
        return died or (not locked and rename_lock.read_retry(seq))

    while not _walk(start, note, finish, moved):
        seen.clear()
        rename_lock.lock_excl()
        locked = True
    if locked:
        rename_lock.unlock_excl()


def walk_and_deaths(kernel: Kernel, sb: SuperBlock) -> None:
    """One walks the tree while its branches die."""
    branches = []

    def grow() -> None:
        for name in "ab":
            branch = add(root_of(sb), name, directory(sb))
            branches.extend(add(branch, name, regular(sb)) for name in "xyz")
            dput(branch)

    kernel.machine.spawn(grow)
    kernel.machine.run()

    def walk() -> None:
        walks.d_walk(root_of(sb), lambda dentry: D_WALK_CONTINUE)

    def die() -> None:
        for dentry in branches:
            d_drop(dentry)
            dput(dentry)

    kernel.machine.spawn(walk)
    kernel.machine.spawn(die)


def test_dc_01() -> None:
    """A walk that has rename_lock already starts over, and takes it again."""
    patches: Patches = {"vfsim.fs.d_walk.d_walk": starts_over_with_the_lock}
    assert caught(walk_and_deaths, patches) == "lockdep.recursion"


# -- DC-07: avoid livelock between d_alloc_parallel and __d_add (v4.16) ----------------------------


class Impatient:
    """i_dir_seq as d_alloc_parallel() read it: a writer who is inside is not waited for."""

    def __init__(self, seq: SeqLock) -> None:
        self.seq = seq

    def read_begin(self) -> int:
        return self.seq.count.raw_begin()

    def read_retry(self, seq: int) -> bool:
        return self.seq.read_retry(seq)

    def write_lock(self) -> None:
        self.seq.write_lock()

    def write_unlock(self) -> None:
        self.seq.write_unlock()


def does_not_wait(real: Any, dir: Inode) -> Impatient:
    """dir_seq() for the impatient."""
    return Impatient(real(dir))


def nothing(sys: Sys) -> None:
    """An empty root."""


def looks_up(sys: Sys) -> None:
    """Looks for names that nobody knows."""
    for name in ("/x", "/y"):
        quietly(sys.stat, name)


def test_dc_07() -> None:
    """One adds a name and wants the bucket; the other takes the bucket, sees that a name is being
    added, and starts over.  It is starved for five times as long as all of it takes.
    """
    patches: Patches = {"vfsim.fs.d_lookup.dir_seq": does_not_wait}
    tasks = (looks_up, looks_up)
    assert caught_in(nothing, tasks, patches, strategies=("pos",), steps=1000) == "no-progress"


# -- DC-06: fix the locking in dcache_readdir() and friends (v5.4) ---------------------------------


def reads_without_the_lock(real: Any, file: Any, ctx: Any) -> None:
    """dcache_readdir() that goes from child to child with nothing that keeps their list."""
    if not ctx.emit_dots(file):
        return
    for child in tuple(file.f_path.dentry.d_subdirs or ()):
        pos = child.d_child_pos
        inode = child.d_inode if child.d_hashed else None
        if pos >= ctx.pos and inode is not None:
            if not ctx.emit(child.d_name, inode.i_ino, inode.i_mode >> 12):
                return
            ctx.pos = pos + 1


def listing_and_pressure(kernel: Kernel, sb: SuperBlock) -> None:
    """One reads the directory, one throws away what is unused in it."""

    def grow() -> None:
        for name in "abcdef":
            dput(add(root_of(sb), name, regular(sb)))

    kernel.machine.spawn(grow)
    kernel.machine.run()

    def lists(sys: Sys) -> None:
        sys.listdir("/m")

    kernel.process(lists)
    kernel.machine.spawn(lambda: shrink_dcache_parent(root_of(sb)), name="shrink")


def test_dc_06() -> None:
    """The list of children changes under a reader of the directory, who stands on a freed one."""
    patches: Patches = {"vfsim.filesystems.libfs.dcache_readdir": reads_without_the_lock}
    assert caught(listing_and_pressure, patches) == "lifetime.use-after-free"


# -- DC-02: deal with deadlock in d_walk(), and d_rcu overlapping d_child (CVE-2014-8559) ----------


def walks_without_a_section(
    real: Any,
    start: Dentry,
    visit: Callable[[Dentry], int],
    finish: Callable[[], object] | None,
    moved: Callable[[], bool],
) -> bool:
    """A pass that goes on from dentries which nothing keeps, as if a killed one stayed whole."""
    todo = [start]
    while todo:
        this = todo.pop()
        with this.d_lock:
            if moved():
                return False
            if this is start and visit(this) in (D_WALK_QUIT, D_WALK_SKIP):
                return True
            for child in tuple(this.d_subdirs or ()):
                child.d_lock.lock(DENTRY_D_LOCK_NESTED)
                answer = visit(child)
                child.d_lock.unlock()
                if answer == D_WALK_QUIT:
                    return True
                if answer != D_WALK_SKIP:
                    todo.append(child)
    with start.d_lock:
        if finish is not None:
            finish()
    return True


def test_dc_02() -> None:
    """The walk goes on from a dentry that was killed, and whose memory has another use already."""
    patches: Patches = {"vfsim.fs.d_walk._walk": walks_without_a_section}
    assert caught(walk_and_deaths, patches) == "lifetime.use-after-free"
