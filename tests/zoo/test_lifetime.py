"""Bugs of Linux's lookups about what was freed, or changed, too early."""

from __future__ import annotations

import os
from stat import S_IFLNK, S_ISVTX
from typing import Any

from tests.fs.worlds import Plain
from tests.zoo import pairs
from tests.zoo.processes import Patches, a_file, caught, looker, quietly, remover
from vfsim.checks.lifetime import free, note_ref
from vfsim.filesystems.ramfs import RamDirectory, RamFS, RamListing, RamSuper, ramfs_get_inode
from vfsim.fs.dcache import Dentry, d_alloc_pseudo, dput
from vfsim.fs.icache import clear_inode, truncate_inode_pages_final
from vfsim.fs.inode import Inode, iput
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import DentryOperations
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.locks.rcu import call_rcu, rcu_read_lock, rcu_read_unlock
from vfsim.sim.errors import EACCES
from vfsim.sim.scheduler import cpu_relax
from vfsim.sim.shared import kernel_struct
from vfsim.sim.state import K

# -- RW-05: make sure that __dentry_kill() always invalidates d_seq, unhashed or not (v4.18) -------


def unlinks_unseen(real: Any, dentry: Dentry, inode: Inode) -> None:
    """dentry_unlink_inode() as it was: nobody can find what is unhashed, so d_seq may stand."""
    if dentry.d_hashed:
        real(dentry, inode)
        return
    dentry.d_inode = None
    inode.i_dentry.remove(dentry)
    dentry.d_lock.unlock()
    inode.i_lock.unlock()
    iput(inode)


def test_rw_05() -> None:
    """The inode of an unhashed dentry is taken away outside of a write section of its d_seq."""
    patches: Patches = {"vfsim.fs.d_ref.dentry_unlink_inode": unlinks_unseen}
    assert caught(a_file, (looker, remover), patches) == "race.Dentry.d_inode"


# -- RW-07: nsfs: mark dentry with DCACHE_RCUACCESS (CVE-2018-5873) --------------------------------


class Stash(DentryOperations):
    """A pseudo filesystem keeps its one dentry in mind, without a reference."""

    def __init__(self) -> None:
        self.stashed: Dentry | None = None

    def d_prune(self, dentry: Dentry) -> None:
        """Never sleeps.  It is going."""
        if self.stashed is dentry:
            self.stashed = None

    def get(self, sb: SuperBlock) -> None:
        """Sleeps.  Take a reference on the dentry, make one if there is none, and put it again."""
        rcu_read_lock()
        found = self.stashed
        cpu_relax()
        if found is not None and found.d_lockref.get_not_dead():
            note_ref(found, 1, "ns_get_path")
            rcu_read_unlock()
        else:
            rcu_read_unlock()
            found = self.stashed = d_alloc_pseudo(sb, "mnt:[4026531840]")
        cpu_relax()
        dput(found)


def freed_at_once(real: Any, dentry: Dentry) -> None:
    """dentry_free() as it was: what was never hashed is freed without a grace period."""
    if dentry.d_parent is dentry:
        free(dentry, "dentry")
    else:
        real(dentry)


def two_who_follow(kernel: Kernel, sb: SuperBlock) -> None:
    """Both follow the magic link, again and again."""
    stash = sb.s_d_op
    assert isinstance(stash, Stash)

    def follow() -> None:
        for _ in range(3):
            stash.get(sb)

    kernel.machine.spawn(follow)
    kernel.machine.spawn(follow)


def test_rw_07() -> None:
    """A pseudo dentry is found in a read section, and freed in it."""
    patches: Patches = {"vfsim.fs.d_ref.dentry_free": freed_at_once}
    rule = pairs.caught(two_who_follow, patches, fs=lambda: Plain(s_d_op=Stash()))
    assert rule == "lifetime.use-after-free"


# -- RW-11: do_last(): fetch directory ->i_mode before it's too late (CVE-2020-8428) ---------------


LEFT: dict[Any, Inode] = {}
"""The directory of each task's last component."""


def notes_the_directory(real: Any, nd: Any, dentry: Dentry) -> Any:
    """follow_managed() of a component that was found in this directory."""
    LEFT[K.cur] = nd.inode
    return real(nd, dentry)


def looks_at_it_again(real: Any, inode: Inode, acc_mode: int, flags: int) -> None:
    """may_open() that asks for the directory's sticky bit, when the walk has left it."""
    dir = LEFT.pop(K.cur, None)
    if dir is not None and flags & os.O_CREAT and dir.i_mode & S_ISVTX:
        raise EACCES()
    real(inode, acc_mode, flags)


def a_directory(sys: Sys) -> None:
    """/d/f."""
    sys.mkdir("/d")
    sys.close(sys.open("/d/f", os.O_CREAT | os.O_WRONLY))


def opener(sys: Sys) -> None:
    """Opens it, and would create it."""
    quietly(sys.open, "/d/f", os.O_CREAT | os.O_RDONLY)


def evacuator(sys: Sys) -> None:
    """Moves the file away, and removes the directory."""
    sys.rename("/d/f", "/f")
    quietly(sys.rmdir, "/d")


def test_rw_11() -> None:
    """The mode of a directory that nothing holds any more is read."""
    patches: Patches = {
        "vfsim.fs.managed.follow_managed": notes_the_directory,
        "vfsim.fs.open.may_open": looks_at_it_again,
    }
    rule = caught(a_directory, (opener, evacuator), patches, strategies=("pct",))
    assert rule == "lifetime.use-after-free"


# -- RW-13: make sure that freeing shmem fast symlinks is RCU-delayed (v4.5) -----------------------


@kernel_struct
class Body:
    """The text of a symbolic link."""

    text: str

    def __init__(self, text: str) -> None:
        self.text = text


class FastLink(RamListing):
    """A link whose text is in memory of its own, and is read in RCU mode as well."""

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        body: Body = inode.i_private
        cpu_relax()
        return body.text


class FreesAtOnce(RamSuper):
    """The text goes with the inode, at once."""

    def evict_inode(self, inode: Inode) -> None:
        truncate_inode_pages_final(inode)
        clear_inode(inode)
        if inode.i_private is not None:
            self.end(inode.i_private)

    def end(self, body: Body) -> None:
        free(body)


class FreesLater(FreesAtOnce):
    """It goes after a grace period."""

    def end(self, body: Body) -> None:
        call_rcu(free, body)


class LinkDirectory(RamDirectory):
    """Its links are such links."""

    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        inode = ramfs_get_inode(dir.i_sb, dir, S_IFLNK | 0o777, 0)
        inode.i_private = Body(symname)
        self.enter(dir, dentry, inode)


class LinksAtOnce(RamFS):
    """ramfs with them."""

    directory = LinkDirectory()
    symlink = FastLink()
    super = FreesAtOnce()


class LinksLater(LinksAtOnce):
    """As mended."""

    super = FreesLater()


def a_link(sys: Sys) -> None:
    """/l, to /; read once, so that its access time is no reason to leave RCU mode."""
    sys.symlink("/", "/l")
    sys.stat("/l")


def through(sys: Sys) -> None:
    """Walks through it."""
    quietly(sys.stat, "/l/x")


def unlinker(sys: Sys) -> None:
    """Removes it."""
    sys.unlink("/l")


def test_rw_13() -> None:
    """The text of a link is freed with the inode, while a walk reads it."""
    rule = caught(a_link, (through, unlinker), {}, LinksAtOnce, LinksLater, strategies=("pct",))
    assert rule == "lifetime.use-after-free"
