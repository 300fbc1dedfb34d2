"""Bugs that references on mounts and superblocks of Linux had."""

from __future__ import annotations

import os
from typing import Any

from tests.fs.test_managed import Managed
from tests.fs.worlds import superblock
from tests.zoo.processes import Patches, caught, quietly
from vfsim.block.device import BlockDevice
from vfsim.block.disk import RamDisk
from vfsim.checks.lifetime import note_ref
from vfsim.filesystems.ramfs import RamFS
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs.freeze import freeze_bdev, thaw_bdev
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import Mount, Path, cleanup_mnt, mntget, mntput, mounts
from vfsim.fs.super import SuperBlock
from vfsim.fs.superblock import is_listed, supers
from vfsim.fs.syscalls import Sys
from vfsim.fs.umount import MNT_DETACH
from vfsim.testing.selftest.mutants import patched

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


# -- SB-04: fix get_active_super()/umount() race ---------------------------------------------------


def counts_at_once(real: Any, bdev: BlockDevice) -> SuperBlock | None:
    """get_active_super() that takes what it finds, alive or dying."""
    world = supers()
    with world.sb_lock:
        sb = next((sb for sb in world.super_blocks if sb.s_bdev is bdev and is_listed(sb)), None)
        if sb is not None:
            sb.s_active += 1
            note_ref(sb, 1, "get_active_super", sb.s_active)
    return sb


def frozen_while_unmounted(seed: int, patches: Patches) -> str:
    """The rule that is broken first when a disk is frozen while it is unmounted; "" if none is."""
    kernel = Kernel(seed=seed, strategy=("pos", "random")[seed % 2])
    try:
        with patched(patches):
            kernel.mount(WholeFS, "/", device=RamDisk(sectors=2048))
            bdev = superblock(kernel).s_bdev
            assert bdev is not None

            def freezes() -> None:
                thaw_bdev(bdev, freeze_bdev(bdev))

            kernel.machine.spawn(freezes)
            kernel.machine.spawn(kernel._umount, "/")
            kernel.machine.run()
        return kernel.violations[0].rule if kernel.violations else ""
    finally:
        kernel.machine.bury()


def test_sb_04() -> None:
    """A superblock that is being shut down gets a reference as if it were in use."""
    patches: Patches = {"vfsim.fs.superblock.get_active_super": counts_at_once}
    rules = [frozen_while_unmounted(seed, patches) for seed in range(60)]
    assert [frozen_while_unmounted(seed, {}) for seed in range(60)] == [""] * 60
    assert next(rule for rule in rules if rule) == "lifetime.inc-from-zero"
