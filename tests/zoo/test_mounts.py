"""Bugs that references on mounts and superblocks of Linux had."""

from __future__ import annotations

import os
from typing import Any

from tests.fs.test_managed import Managed
from tests.zoo.processes import Patches, caught, quietly
from vfsim.checks.lifetime import note_ref
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.mount import Mount, Path, cleanup_mnt, mntget, mntput, mounts
from vfsim.fs.syscalls import Sys
from vfsim.fs.umount import MNT_DETACH

# -- RW-10: fix mntput/mntput race (v4.18) ---------------------------------------------------------


def counts_before_it_locks(real: Any, mnt: Mount) -> None:
    """mntput_no_expire() that puts first, and then looks under the lock whether any is left."""
    note_ref(mnt, -1, "mntput", mnt.mnt_count - 1)
    mnt.mnt_count -= 1
    if mnt.mnt_ns is not None:
        return
    with mounts().mount_lock:
        gone = not mnt.mnt_count
        if gone and mnt in mnt.mnt_sb.s_mounts:
            mnt.mnt_sb.s_mounts.remove(mnt)
    if gone:
        cleanup_mnt(mnt)


def a_mount(sys: Sys) -> None:
    """/m, and a file in it."""
    sys.mkdir("/m")
    sys.mount("none", "/m", RamFS(), 0, "")  # type: ignore[arg-type]
    sys.close(sys.open("/m/f", os.O_CREAT | os.O_WRONLY))


def user(sys: Sys) -> None:
    """Has a file of the mount open for a while."""
    try:
        fd = sys.open("/m/f", os.O_RDONLY)
    except OSError:
        return
    sys.close(fd)


def unmounter(sys: Sys) -> None:
    """Takes it out of the tree, whoever uses it."""
    quietly(sys.umount, "/m", MNT_DETACH)


def test_rw_10() -> None:
    """Two puts that both see none left: the mount is let go twice."""
    patches: Patches = {"vfsim.fs.mount.mntput_no_expire": counts_before_it_locks}
    rule = caught(a_mount, (user, user, unmounter), patches)
    assert rule in ("lifetime.underflow", "lifetime.double-free", "lifetime.use-after-free")


# -- SB-06: fix vfsmount overput on simultaneous automount (v3.0) ----------------------------------


def puts_what_was_not_its_own(real: Any, mnt: Mount, path: Path) -> bool:
    """finish_automount() whose caller took no reference of its own before the path could move."""
    before = path.mnt
    mntput(before)
    added = real(mnt, path)
    if path.mnt is before:
        mntget(before)
    return bool(added)


def a_trigger(sys: Sys) -> None:
    """/auto."""
    sys.mkdir("/auto")


def enters(sys: Sys) -> None:
    """Goes into it."""
    quietly(sys.stat, "/auto/x")


def test_sb_06() -> None:
    """Two trigger it, one is first: the other puts a reference on a mount that it never took."""
    patches: Patches = {"vfsim.fs.managed.finish_automount": puts_what_was_not_its_own}
    rule = caught(a_trigger, (enters, enters), patches, fs=Managed)
    assert rule == "lifetime.inc-from-zero"  # by whoever uses the other mount next
