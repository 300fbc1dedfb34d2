"""Mutants of freezing: the rows of freeze_fs and unfreeze_fs, and what only the code says about it
(E6, E8, E9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.writers import SB_FREEZE_FS, SB_FREEZE_PAGEFAULT, SB_FREEZE_WRITE
from vfsim.mm.dirty import set_page_dirty
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import without
from vfsim.testing.selftest.contract.grounds import AtomicGround, PlainGround
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Ground, Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.super import SuperBlock
    from vfsim.testing.selftest.changes import Call, Change

S_UMOUNT = "s_umount"
LEVEL = "i_sb.s_writers.rw_sem.0"


def mutants() -> Iterator[Mutant]:
    """All of them."""
    for method in ("freeze_fs", "unfreeze_fs"):
        row = Row("super_operations", method, programs.freeze)
        yield from row.yes(S_UMOUNT, "sb.s_umount")
        yield from row.may_block(rule="P6", variant=method)
    yield from _write_level()
    yield from _levels()
    yield from _nothing_dirty()


# -- E6: who changes something holds the write level -----------------------------------------------

CHANGES = (
    ("inode_operations.create", programs.create, Ground, "dir"),
    ("inode_operations.link", programs.link, Ground, "dir"),
    ("inode_operations.mknod", programs.fifo, Ground, "dir"),
    ("inode_operations.symlink", programs.symlink, Ground, "dir"),
    ("inode_operations.mkdir", programs.mkdir, Ground, "dir"),
    ("inode_operations.unlink", programs.unlink, Ground, "dir"),
    ("inode_operations.rmdir", programs.rmdir, Ground, "dir"),
    ("inode_operations.rename", programs.rename_across, Ground, "old_dir"),
    ("inode_operations.setattr", programs.chmod, Ground, "dentry.d_inode"),
    ("inode_operations.tmpfile", programs.unnamed, Ground, "dir"),
    ("inode_operations.atomic_open", programs.create, AtomicGround, "dir"),
    ("xattr_handler.set", programs.set_xattr, Ground, "inode"),
    ("file_operations.write_iter", programs.write, Ground, "iocb.ki_filp.f_inode"),
    ("file_operations.write", programs.write, PlainGround, "file.f_inode"),
)


def _write_level() -> Iterator[Mutant]:
    """Everything that changes something is called with it, and it was taken before the locks."""
    for name, program, ground, inode in CHANGES:
        table, _, method = name.partition(".")
        yield Row(table, method, program, ground).caller(
            "E6", "is called without the write level", without(f"{inode}.{LEVEL}"), method
        )
    mkdir = Row("inode_operations", "mkdir", programs.mkdir)
    yield mkdir.caller(
        "E6", "is called with the write level taken under the directory's lock",
        _too_late, "too late", fires=("E6", "lockdep.circular"),
    )  # fmt: skip
    yield mkdir.filesystem(
        "E6", "lets go of the write level", without(f"dir.{LEVEL}"), fires=(f"{mkdir.name}.exit",)
    )


def _too_late(call: Call) -> Any:
    level = call.at(f"dir.{LEVEL}")
    level.up_read()
    level.down_read()
    return call.go()


# -- E8: the levels in their order -----------------------------------------------------------------


def _levels() -> Iterator[Mutant]:
    """What freeze_fs and unfreeze_fs find, and where s_umount is let go of."""
    freeze = Row("super_operations", "freeze_fs", programs.freeze)
    unfreeze = Row("super_operations", "unfreeze_fs", programs.freeze)
    yield freeze.caller("E8", "is called a level too early", _frozen(SB_FREEZE_PAGEFAULT))
    yield unfreeze.caller("E8", "is called although it froze half", _frozen(SB_FREEZE_FS), "thaw")
    for level, who in (
        (SB_FREEZE_WRITE, "writers"),
        (SB_FREEZE_PAGEFAULT, "page faults"),
        (SB_FREEZE_FS, "internal writers"),
    ):
        yield Mutant(
            "E8", "caller", f"freeze_super() does not wait for {who}", programs.freeze,
            variant=who, patches={"vfsim.fs.freeze.sb_wait_write": _skips(level)},
        )  # fmt: skip
    yield Mutant(
        "E8", "caller", "freeze_super() waits for writers with s_umount held", programs.freeze,
        variant="s_umount", patches={"vfsim.fs.freeze.sb_wait_write": _keeps_s_umount},
        fires=("lockdep.circular",),
    )  # fmt: skip


def _frozen(level: int) -> Change:
    """The freeze has come this far, for the time of the call."""

    def change(call: Call) -> Any:
        writers = call.sb.s_writers
        before, writers.frozen = writers.frozen, level
        try:
            return call.go()
        finally:
            writers.frozen = before

    return change


def _skips(skipped: int) -> Callable[..., None]:
    """A level is not waited for."""

    def waits(real: Any, sb: SuperBlock, level: int) -> None:
        if level != skipped:
            real(sb, level)

    return waits


def _keeps_s_umount(real: Any, sb: SuperBlock, level: int) -> None:
    if level == SB_FREEZE_WRITE:
        sb.s_umount.down_write()
        real(sb, level)
        sb.s_umount.up_write()
    else:
        real(sb, level)


# -- E9: nothing is dirty --------------------------------------------------------------------------


def _nothing_dirty() -> Iterator[Mutant]:
    """Neither when it freezes, nor until it thaws."""
    freeze = Row("super_operations", "freeze_fs", programs.freeze)
    unfreeze = Row("super_operations", "unfreeze_fs", programs.freeze)
    yield Mutant(
        "E9", "caller", "freeze_super() does not sync", programs.freeze,
        patches={"vfsim.fs.freeze.sync_filesystem": _does_nothing},
    )  # fmt: skip
    yield freeze.filesystem("E9", "dirties a page", _dirties)
    yield unfreeze.caller("E9", "is called after a page became dirty", _dirties, "thaw")


def _does_nothing(real: Any, sb: SuperBlock) -> None:
    pass


def _dirties(call: Call) -> Any:
    for inode in call.sb.s_inodes:
        for page in list(inode.i_mapping.pages.values()):
            set_page_dirty(page)
    return call.go()
