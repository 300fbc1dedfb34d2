"""Filesystems with one mistake each, for the fuzzer to find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from stat import S_IFDIR, S_IFREG, S_ISREG
from typing import Annotated

from vfsim.filesystems.libfs import SimpleFileInodeOperations
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, KStat, Mount, SuperBlock
from vfsim.fs.attr import IAttr, generic_fillattr
from vfsim.fs.syscalls import Sys
from vfsim.locks import Mutex
from vfsim.sim.shared import kernel_struct, shared
from vfsim.testing.machine import VfsMachine


class Twins:
    """Two locks of one class: lockdep cannot tell them apart, and is told that they nest."""

    def __init__(self) -> None:
        self.names, self.sizes = Mutex("twin"), Mutex("twin")


@contextmanager
def both(outer: Mutex, inner: Mutex) -> Iterator[None]:
    with outer:
        inner.lock(1)
        try:
            yield
        finally:
            inner.unlock()


class AbbaDirectory(RamDirectory):
    """Renames lock the names and then the sizes."""

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        twins: Twins = old_dir.i_sb.s_fs_info
        with both(twins.names, twins.sizes):
            super().rename(old_dir, old_dentry, new_dir, new_dentry, flags)


class AbbaFile(SimpleFileInodeOperations):
    """Whoever asks for the attributes of a file, or sets them, locks the sizes and then the
    names."""

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        twins: Twins = dentry.d_sb.s_fs_info
        with both(twins.sizes, twins.names):
            return super().getattr(mnt, dentry)

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        twins: Twins = dentry.d_sb.s_fs_info
        with both(twins.sizes, twins.names):
            super().setattr(dentry, attr)


class AbbaFS(RamFS):
    name = "abbafs"
    directory = AbbaDirectory()
    file = AbbaFile()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Twins()


class TwoFiles(VfsMachine):
    """Two files are there from the beginning."""

    names = ("a", "b")
    edges = False
    processes = 2
    width = 4

    def setup(self, sys: Sys) -> None:
        for path in ("/a", "/b"):
            sys.close(sys.open(path, os.O_CREAT, 0o644))


class AbbaMachine(TwoFiles):
    filesystem = AbbaFS
    only = "rename", "stat", "chmod"


@kernel_struct
class Ledger:
    """The permissions of every inode, by number.  Whoever changes one writes a new ledger."""

    modes: Annotated[dict[int, int], shared]

    def note(self, inode: Inode) -> None:
        """Nothing keeps two from doing this at once: one of their changes is lost."""
        modes = self.modes
        self.modes = {**modes, inode.i_ino: inode.i_mode}

    def fill(self, dentry: Dentry) -> KStat:
        assert dentry.d_inode is not None
        stat = generic_fillattr(dentry.d_inode)
        stat.st_mode = self.modes.get(stat.st_ino, S_IFREG)
        return stat


class LedgerDirectory(RamDirectory):
    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        super().mknod(dir, dentry, mode, dev)
        if S_ISREG(mode):
            assert dentry.d_inode is not None
            dir.i_sb.s_fs_info.note(dentry.d_inode)


class LedgerFile(SimpleFileInodeOperations):
    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        found: KStat = dentry.d_sb.s_fs_info.fill(dentry)
        return found

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        super().setattr(dentry, attr)
        assert dentry.d_inode is not None
        dentry.d_sb.s_fs_info.note(dentry.d_inode)


class LedgerFS(RamFS):
    name = "ledgerfs"
    directory = LedgerDirectory()
    file = LedgerFile()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Ledger({})


class LedgerMachine(TwoFiles):
    filesystem = LedgerFS
    only = "chmod", "truncate", "unlink", "mkdir"


class SloppyDirectory(RamDirectory):
    """A new directory should give its parent a link: wrong in every schedule."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.mknod(dir, dentry, mode | S_IFDIR, 0)


class SloppyFS(RamFS):
    name = "sloppyfs"
    directory = SloppyDirectory()


class SloppyMachine(VfsMachine):
    filesystem = SloppyFS
    only = "mkdir", "stat", "rename"
