"""Mutants of ``super_operations``: a superblock, and inodes as such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.icache import free_inode_nonrcu, truncate_inode_pages_final
from vfsim.fs.inode import I_FREEING, I_NEW, I_SYNC, iput
from vfsim.fs.super import sync_filesystem
from vfsim.mm.writeback import sync_inodes_sb, writeback_inodes_sb
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import drop, holding, take, without
from vfsim.testing.selftest.contract.grounds import CachedGround
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.super import SuperBlock
    from vfsim.testing.selftest.changes import Call, Change
    from vfsim.testing.selftest.mutants import Program

S_UMOUNT = "s_umount"


def _row(method: str, program: Program, variant: str = "", **other: Any) -> Row:
    return Row("super_operations", method, program, variant=variant, **other)


ALL_MAY_BLOCK = (
    ("alloc_inode", programs.create),
    ("destroy_inode", programs.unlink),
    ("dirty_inode", programs.chmod),
    ("write_inode", programs.write_back),
    ("evict_inode", programs.unlink),
    ("put_super", programs.nothing),
    ("sync_fs", programs.sync),
    ("statfs", programs.statfs),
    ("remount_fs", programs.remount),
    ("umount_begin", programs.force_umount),
    ("show_options", programs.show_mounts),
)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    yield from _row("put_super", programs.nothing).yes(S_UMOUNT, "sb.s_umount")
    yield from _row("remount_fs", programs.remount).yes(S_UMOUNT, "sb.s_umount")
    yield from _row("sync_fs", programs.syncfs).shared(S_UMOUNT, "sb.s_umount")
    yield from _row("sync_fs", programs.nothing, "umount").shared(S_UMOUNT, "sb.s_umount")
    yield from _row("umount_begin", programs.force_umount).no(S_UMOUNT, "sb.s_umount", rwsem=True)
    yield from _row("show_options", programs.show_mounts).no(
        S_UMOUNT, "dentry.d_sb.s_umount", rwsem=True
    )
    yield from _row("show_options", programs.show_mounts).shared("", "@namespace_sem", "P8")
    for i, (method, program) in enumerate(ALL_MAY_BLOCK):
        yield from _row(method, program).may_block(rule="P6", variant=method if i else "")
    yield from _drop_inode()
    yield from _statfs()
    yield from _states()
    yield from _ends()
    yield from _under_pressure()


def _under_pressure() -> Iterator[Mutant]:
    """The end of an inode that a shrinker evicts: inside somebody's allocation."""

    def row(method: str) -> Row:
        return _row(method, programs.shrink, "under-pressure", ground=CachedGround)

    for method in ("evict_inode", "destroy_inode"):
        yield from row(method).may_block(rule="P6", variant=method)
    evict = row("evict_inode")
    yield evict.caller("E10", "is called on an inode that lives", _without_bits(I_FREEING))
    yield evict.caller("E10", "is called on one that is on the LRU", _on_the_lru, "lru")
    yield evict.filesystem("E10", "does not clear the inode", _uncleared)
    yield row("destroy_inode").filesystem("E24", "frees the inode at once", _freed_at_once)


def _on_the_lru(call: Call) -> Any:
    lru = call.inode.i_sb.s_inode_lru
    lru[call.inode] = None
    try:
        return call.go()
    finally:
        del lru[call.inode]


def _drop_inode() -> Iterator[Mutant]:
    """It runs under i_lock (P7, which is what the cell says), with no reference left (E11)."""
    row = _row("drop_inode", programs.unlink)
    cell = "super_operations.drop_inode.s_umount"
    for rule in (cell, "P7"):
        yield from row.shared("", "inode.i_lock", rule, fires=(cell, "P7"))
    yield from row.never_blocks(rule="P7", variant="sleeps")
    yield row.caller("E11", "is called with a reference left", _with("i_count", 1))
    yield row.caller("E11", "is called on a new inode", _with("i_state", I_NEW), "new")


def _with(field: str, bits: int) -> Change:
    """A field of the inode has these bits for the time of the call."""

    def change(call: Call) -> Any:
        inode = call.inode
        before = getattr(inode, field)
        setattr(inode, field, before | bits)
        try:
            return call.go()
        finally:
            setattr(inode, field, before)

    return change


def _without_bits(bits: int) -> Change:
    """The inode's state lacks these bits for the time of the call."""

    def change(call: Call) -> Any:
        call.inode.i_state &= ~bits
        try:
            return call.go()
        finally:
            call.inode.i_state |= bits

    return change


def _statfs() -> Iterator[Mutant]:
    """s_umount shared from ustat(2), else not; never exclusive.  Somebody keeps the superblock."""
    cell = "super_operations.statfs.s_umount"
    path = "dentry.d_sb.s_umount"
    by_path, by_device = _row("statfs", programs.statfs), _row("statfs", programs.ustat)
    for rule in (cell, "P9"):
        fires = (cell, "P9")
        yield by_path.caller(rule, "is called with s_umount exclusive", holding(path), fires=fires)
        yield by_path.caller(
            rule, "is called by path with s_umount shared", holding(path, shared=True), "shared",
            fires=fires,
        )  # fmt: skip
        yield by_device.caller(
            rule, "is called by device without s_umount", without(path), "ustat", fires=fires
        )
        yield by_device.filesystem(rule, "lets go of s_umount", without(path), fires=fires)
        yield by_path.filesystem(
            rule, "returns with s_umount", _keep_shared(path), "keeps", fires=fires
        )
    by_file = _row("statfs", programs.fstatfs, "fstatfs")
    yield by_file.caller(
        "P9", "is called by an open file with s_umount shared", holding(path, shared=True)
    )
    yield by_file.caller("P10", "is called on a superblock that nobody keeps", _with_active(0))
    yield Mutant(
        "P9", "caller", "ustat(2) finds the superblock and does not keep it", programs.ustat,
        variant="user_get_super",
        patches={
            "vfsim.fs.super.user_get_super": _gets_unlocked,
            "vfsim.fs.super.drop_super": _drops_unlocked,
        },
    )  # fmt: skip
    yield by_path.caller("P10", "is called on a superblock that nobody keeps", _with_active(0))
    yield by_path.caller(
        "P10", "is called on a superblock that is ended meanwhile", _with_active(1), "meanwhile",
        inside={by_path.name: _loses_the_last},
    )  # fmt: skip


def _gets_unlocked(real: Any, dev: int) -> SuperBlock | None:
    sb: SuperBlock | None = real(dev)
    if sb is not None:
        sb.s_umount.up_read()
    return sb


def _drops_unlocked(real: Any, sb: SuperBlock) -> None:
    sb.s_umount.down_read()
    real(sb)


def _keep_shared(path: str) -> Change:
    def change(call: Call) -> Any:
        result = call.go()
        take(call.at(path), shared=True)
        return result

    return change


def _with_active(n: int) -> Change:
    """So many have an active reference on the superblock, for the time of the call."""

    def change(call: Call) -> Any:
        sb = call.dentry.d_sb
        active, sb.s_active = sb.s_active, n
        try:
            return call.go()
        finally:
            sb.s_active = active

    return change


def _loses_the_last(call: Call) -> Any:
    """What another task does, for which the method gives it time."""
    msleep(1)
    call.dentry.d_sb.s_active -= 1
    return call.go()


def _states() -> Iterator[Mutant]:
    """What state an inode is in when it is written (E12) or evicted (E10)."""
    evict = _row("evict_inode", programs.unlink)
    yield evict.caller("E10", "is called on an inode that lives", _without_bits(I_FREEING))
    yield evict.caller("E10", "is called on one being written", _with("i_state", I_SYNC), "writing")
    yield evict.filesystem("E10", "does not clear the inode", _uncleared)
    write = _row("write_inode", programs.write_back)
    yield write.caller("E12", "is called without I_SYNC", _without_bits(I_SYNC))
    yield Mutant(
        "E13", "caller", "syncfs(2) does not hold s_umount", programs.syncfs,
        patches={"vfsim.fs.super.sync_filesystem": _unlocked_sync},
    )  # fmt: skip
    for sync in (sync_filesystem, sync_inodes_sb, writeback_inodes_sb):
        yield Row("inode_operations", "getattr", programs.stat).filesystem(
            "E13", f"calls {sync.__name__}() without s_umount", _calls(sync), sync.__name__
        )


def _calls(sync: Callable[[SuperBlock], None]) -> Change:
    """The superblock is written meanwhile."""

    def change(call: Call) -> Any:
        sync(call.dentry.d_sb)
        return call.go()

    return change


def _uncleared(call: Call) -> None:
    truncate_inode_pages_final(call.inode)


def _unlocked_sync(real: Any, sb: SuperBlock) -> None:
    shared = drop(sb.s_umount)
    real(sb)
    take(sb.s_umount, shared)


def _ends() -> Iterator[Mutant]:
    """How an inode goes: not under the parent's lock (E23), and after a grace period (E24)."""
    yield _row("destroy_inode", programs.unlink).filesystem(
        "E24", "frees the inode at once", _freed_at_once
    )
    yield Mutant(
        "E23", "caller", "unlink(2) puts its reference before it lets go of the directory",
        programs.unlink, patches={"vfsim.fs.directory.vfs_unlink": _unlink_and_put},
    )  # fmt: skip


def _freed_at_once(call: Call) -> None:
    free_inode_nonrcu(call.inode)


def _unlink_and_put(real: Any, dir: Inode, dentry: Dentry) -> None:
    victim = dentry.d_inode
    real(dir, dentry)
    iput(victim)
