"""Bugs that Linux's RCU-walk had, each as a pair: broken, some schedule is caught; mended, none.

A broken kernel is the kernel with one function replaced for the time of the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from vfsim.checks.lifetime import free, note_ref
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import Dentry, dget_parent, dput
from vfsim.fs.kernel import Kernel
from vfsim.fs.lookup import LOOKUP_RCU
from vfsim.fs.operations import DentryOperations, FileSystemType
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.fs.umount import MNT_DETACH
from vfsim.testing.selftest.mutants import patched

Patches = Mapping[str, Callable[..., Any]]
Processes = tuple[Callable[[Sys], Any], ...]


def rule_of(
    setup: Callable[[Sys], Any],
    processes: Processes,
    patches: Patches,
    seed: int,
    fs: type[FileSystemType] = RamFS,
) -> str:
    """What one schedule is caught by: a rule, or what the kernel stumbles over; else ""."""
    kernel = Kernel(seed=seed, strategy=("pos", "random")[seed % 2], max_steps=20_000, races=True)
    try:
        with patched(patches):
            kernel.mount(fs, "/")
            kernel.call(setup)
            for fn in processes:
                kernel.process(fn, name=fn.__name__)
            kernel.machine.run()
            if not kernel.machine.stopped:
                kernel.close()
    except Exception as error:
        if not kernel.violations:
            return type(error).__name__
    finally:
        kernel.machine.bury()
    return kernel.violations[0].rule if kernel.violations else ""


def caught(
    setup: Callable[[Sys], Any],
    processes: Processes,
    patches: Patches,
    fs: type[FileSystemType] = RamFS,
    mended: type[FileSystemType] | None = None,
    schedules: int = 1000,
) -> str:
    """What the broken one is caught by; the mended one must be silent for as long and more."""
    for seed in count():
        assert rule_of(setup, processes, {}, seed, mended or fs) == "", f"false alarm at {seed}"
        rule = rule_of(setup, processes, patches, seed, fs)
        if rule or seed == schedules:
            break
    for more in range(seed + 1, seed + 100):
        assert rule_of(setup, processes, {}, more, mended or fs) == "", f"false alarm at {more}"
    return rule


def quietly(call: Callable[..., Any], *args: Any) -> None:
    """Whatever comes of it."""
    try:
        call(*args)
    except OSError:
        pass


def a_file(sys: Sys) -> None:
    """/a."""
    sys.close(sys.open("/a", os.O_CREAT | os.O_WRONLY))


def looker(sys: Sys) -> None:
    """Walks to /a."""
    quietly(sys.stat, "/a")


def remover(sys: Sys) -> None:
    """The last user of /a removes it: its dentry and inode go."""
    fd = sys.open("/a", os.O_RDONLY)
    sys.unlink("/a")
    sys.close(fd)


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
    assert caught(setup, (walker, gone), patches) == "AttributeError"


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
        "vfsim.fs.dentry.dentry_free": frees_roots_at_once,
        "vfsim.locks.rcu.synchronize_rcu": nobody_waits,
    }
    rule = caught(setup, (walker, unmounter), patches)
    assert rule in ("lifetime.use-after-free", "AttributeError")
