"""Bugs that Linux's RCU-walk had, each as a pair: broken, some schedule is caught; mended, none."""

from __future__ import annotations

from typing import Any

from tests.zoo.processes import Patches, a_file, caught, looker, quietly, remover
from vfsim.checks.lifetime import free, note_ref
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import Dentry, dget_parent, dput
from vfsim.fs.lookup import LOOKUP_RCU
from vfsim.fs.operations import DentryOperations
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.fs.umount import MNT_DETACH

# -- RW-01: ext4/fscrypto: avoid RCU lookup in d_revalidate (v4.6) ---------------------------------


class Parents(DentryOperations):
    """Looks at the parent, with a reference, whatever walk it is."""

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Its dput() may."""
        dput(dget_parent(dentry))
        return True


class Crypt(RamFS):
    """ramfs with such names."""

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_d_op = Parents()
        super().fill_super(sb, data)


def test_rw_01() -> None:
    """A d_revalidate() that takes and puts references in an rcu-walk."""
    rule = caught(a_file, (looker,), {}, fs=Crypt, mended=RamFS)
    assert rule == "dentry_operations.d_revalidate.may block"


# -- RW-02: fix dentry RCU to refcounting possibly sleeping dput() (v3.12) -------------------------


def puts_inside(real: Any, nd: Any, dentry: Dentry | None = None, seq: int = 0) -> None:
    """unlazy_walk() as it was: a reference that turns out to be wrong is put at once."""
    if dentry is None and nd.dentry.d_lockref.get_not_dead():
        note_ref(nd.dentry, 1, "unlazy_walk")
        dput(nd.dentry)
    real(nd, dentry, seq)


def test_rw_02() -> None:
    """A reference that is put inside of the read section."""
    rule = caught(a_file, (looker, remover), {"vfsim.fs.rcu_walk.unlazy_walk": puts_inside})
    assert rule == "lockdep.sleep-in-atomic"


# -- RW-03: d_is_negative() should be checked before ->d_seq validation (v4.2) ---------------------


def negative_afterwards(real: Any, nd: Any, name: str) -> Any:
    """lookup_fast() as it was: d_inode is looked at again when nobody asks any more."""
    step = real(nd, name)
    if step is not None and nd.flags & LOOKUP_RCU:
        mnt, dentry, _, seq = step
        step = (mnt, dentry, dentry.d_inode, seq)
    return step


def test_rw_03() -> None:
    """A dentry that turns negative right after its number was asked."""

    def setup(sys: Sys) -> None:
        sys.mkdir("/a")
        sys.mkdir("/a/b")

    def walker(sys: Sys) -> None:
        quietly(sys.stat, "/a/b/c")

    def gone(sys: Sys) -> None:
        sys.rmdir("/a/b")
        sys.rmdir("/a")

    patches = {"vfsim.fs.rcu_walk.lookup_rcu": negative_afterwards}
    assert caught(setup, (walker, gone), patches) == "seq.unasked"


# -- RW-06: root dentries need RCU-delayed freeing (v4.18) -----------------------------------------


def frees_roots_at_once(real: Any, dentry: Dentry) -> None:
    """dentry_free() as it was: what was never hashed is freed without a grace period."""
    if dentry.d_parent is dentry:
        free(dentry, "dentry")
    else:
        real(dentry)


def test_rw_06() -> None:
    """A walk into a mount that is going away: its root is freed, or has lost its inode."""

    def setup(sys: Sys) -> None:
        sys.mkdir("/m")
        sys.mount("none", "/m", RamFS(), 0, "")  # type: ignore[arg-type]

    def walker(sys: Sys) -> None:
        quietly(sys.stat, "/m/x")

    def unmounter(sys: Sys) -> None:
        quietly(sys.umount, "/m", MNT_DETACH)

    def nobody_waits(real: Any, *args: Any) -> None:
        """Before v3.12 an umount waited for no reader."""

    patches: Patches = {
        "vfsim.fs.d_ref.dentry_free": frees_roots_at_once,
        "vfsim.locks.rcu.synchronize_rcu": nobody_waits,
    }
    rule = caught(setup, (walker, unmounter), patches)
    assert rule in ("lifetime.use-after-free", "AttributeError")
