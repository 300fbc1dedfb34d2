"""Who writes to a superblock, so that it can be frozen: three levels, each a percpu rwsem.

A writer holds a level shared, for as long as it must not be interrupted by a freeze; `freeze_super`
takes the levels exclusive, one after the other, and leaves them so until `thaw_super`
(`vfsim.fs.freeze`)::

    level                  taken by                          around
    SB_FREEZE_WRITE        sb_start_write, mnt_want_write    system calls that change something
    SB_FREEZE_PAGEFAULT    sb_start_pagefault                write faults, under mmap_sem
    SB_FREEZE_FS           sb_start_intwrite                 what a filesystem changes by itself

``frozen`` says how far a freeze has come: SB_UNFROZEN → SB_FREEZE_WRITE → SB_FREEZE_PAGEFAULT →
SB_FREEZE_FS → SB_FREEZE_COMPLETE, then back.  ``s_umount`` exclusive guards it.

Order: write level > s_umount, i_rwsem, mmap_sem; mmap_sem > page-fault level > internal level.
Who has an outer level gets an inner one at once, because a freeze cannot get past the outer one:
asking for it with a trylock says so to the lock-order rules.

The counterpart of ``struct sb_writers`` and ``__sb_start_write`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.bugs import bug
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.super import SuperBlock

SB_UNFROZEN, SB_FREEZE_WRITE, SB_FREEZE_PAGEFAULT, SB_FREEZE_FS, SB_FREEZE_COMPLETE = range(5)
SB_FREEZE_LEVELS = 3


class SbWriters:
    """The freeze levels of one superblock (Linux: ``struct sb_writers``).

    Args:
        name: of the type of filesystem: each has lock classes of its own.

    Attributes:
        frozen: how far a freeze has come, one of the SB_* words.
        rw_sem: the levels, in the order in which they are taken.
    """

    __slots__ = ("frozen", "rw_sem")

    def __init__(self, name: str) -> None:
        self.frozen = SB_UNFROZEN
        self.rw_sem = (
            PerCpuRwSem(f"sb_writers:{name}"),
            PerCpuRwSem(f"sb_pagefaults:{name}"),
            PerCpuRwSem(f"sb_internal:{name}"),
        )

    def _check(self) -> None:
        """While nobody freezes or thaws: all levels are shut, or none."""
        shut = [sem.gate.owner is not None for sem in self.rw_sem]
        assert self.frozen in (SB_UNFROZEN, SB_FREEZE_COMPLETE), f"frozen half: {self.frozen}"
        assert not any(shut) or self.frozen == SB_FREEZE_COMPLETE, "a level is shut, unfrozen"


def _start(sb: SuperBlock, level: int) -> None:
    """Sleeps.  Enter a level that nests inside others.  Source: ``__sb_start_write``."""
    levels = sb.s_writers.rw_sem
    if not any(K.cur in outer.readers for outer in levels[: level - 1]):
        levels[level - 1].down_read()
    elif not levels[level - 1].down_read_trylock():
        bug("kernel.bug", f"{levels[level - 1]!r} is shut although an outer level is held")


def sb_start_write(sb: SuperBlock) -> None:
    """Sleeps.  A system call is about to change something: waits while the superblock is frozen.

    Taken before ``i_rwsem`` and ``s_umount``.  `sb_end_write` ends it.
    """
    sb.s_writers.rw_sem[0].down_read()


def sb_start_write_trylock(sb: SuperBlock) -> bool:
    """Never sleeps.  As `sb_start_write`, or False while the superblock is frozen."""
    return sb.s_writers.rw_sem[0].down_read_trylock()


def sb_end_write(sb: SuperBlock) -> None:
    """Never sleeps.  The change has been made."""
    sb.s_writers.rw_sem[0].up_read()


def sb_start_pagefault(sb: SuperBlock) -> None:
    """Sleeps.  A write fault is about to dirty a page.

    Taken after ``mmap_sem`` and before the page lock.
    """
    _start(sb, SB_FREEZE_PAGEFAULT)


def sb_end_pagefault(sb: SuperBlock) -> None:
    """Never sleeps.  The page is dirty."""
    sb.s_writers.rw_sem[1].up_read()


def sb_start_intwrite(sb: SuperBlock) -> None:
    """Sleeps.  A filesystem is about to change something that no system call asked for: an inode
    is evicted, a transaction begins.
    """
    _start(sb, SB_FREEZE_FS)


def sb_end_intwrite(sb: SuperBlock) -> None:
    """Never sleeps.  The change has been made."""
    sb.s_writers.rw_sem[2].up_read()
