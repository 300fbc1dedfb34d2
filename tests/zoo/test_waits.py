"""Bugs of Linux in which one waits for a bit or a worker, which no order of locks shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.mm.worlds import StoreSuper, World
from tests.zoo.processes import Patches
from vfsim.explore.strategies import maker
from vfsim.fs.icache import clear_inode, truncate_inode_pages_final
from vfsim.fs.iget import iget_locked, unlock_new_inode
from vfsim.fs.inode import I_NEW, Inode, igrab, iput
from vfsim.fs.super import SuperBlock
from vfsim.locks.mutex import Mutex
from vfsim.mm import mark_inode_dirty
from vfsim.mm.writeback import sync_inodes_sb
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest.mutants import patched

NUMBER = 500
STRATEGIES = ("pos", "random", "pct")

Tasks = Callable[[SuperBlock], tuple[Callable[[], object], ...]]


def rule_of(s_op: StoreSuper, tasks: Tasks, seed: int, patches: Patches) -> str:
    """The rule that is broken first in one schedule; "" if none is."""
    strategy = STRATEGIES[seed % len(STRATEGIES)]
    with patched(patches), World(s_op=s_op, strategy=maker(strategy)(seed, 1000)) as world:
        machine = world.kernel.machine
        for task in tasks(world.inode.i_sb):
            machine.spawn(task, name=task.__name__)
        machine.run()
        world.close()
        return world.violations[0].rule if world.violations else ""


def caught(
    broken: type[StoreSuper],
    fixed: type[StoreSuper],
    tasks: Tasks,
    patches: Patches | None = None,
) -> str:
    """What the broken one is caught by; the fixed one must be silent for as long and more."""
    rule = ""
    for seed in range(300):
        assert rule_of(fixed(), tasks, seed, {}) == "", f"false alarm at {seed}"
        rule = rule_of(broken(), tasks, seed, patches or {})
        if rule:
            break
    for more in range(seed + 1, seed + 60):
        assert rule_of(fixed(), tasks, more, {}) == "", f"false alarm at {more}"
    return rule


def get(sb: SuperBlock) -> Inode:
    """The inode of that number; of a new one nothing is known."""
    inode = iget_locked(sb, NUMBER)
    if inode.i_state & I_NEW:
        unlock_new_inode(inode)
    return inode


def syncs(sb: SuperBlock) -> None:
    """Has the flusher write everything."""
    with sb.s_umount.shared():
        sync_inodes_sb(sb)


# -- IN-03: f2fs: avoid deadlock during evict after f2fs_gc (v3.9) ---------------------------------


class Collecting(StoreSuper):
    """Writing an inode keeps the garbage collector out; what nobody uses goes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gc_mutex = Mutex("gc_mutex")

    def drop_inode(self, inode: Inode) -> bool:
        return inode.i_ino == NUMBER

    def write_inode(self, inode: Inode, wbc: Any) -> None:
        if inode.i_ino == NUMBER:
            with self.gc_mutex:
                msleep(1)

    def collect(self, sb: SuperBlock) -> None:
        """The collector looks for the inode with the writers kept out."""
        with self.gc_mutex:
            inode = get(sb)
        iput(inode)


class CarefulCollecting(Collecting):
    """It has the inode before it keeps anybody out."""

    def collect(self, sb: SuperBlock) -> None:
        inode = get(sb)
        with self.gc_mutex:
            pass
        iput(inode)


def flush_drop_collect(sb: SuperBlock) -> tuple[Callable[[], object], ...]:
    """A dirty inode is written, its last user leaves, and it is collected."""
    s_op = sb.s_op
    assert isinstance(s_op, Collecting)

    def leave() -> None:
        inode = get(sb)
        mark_inode_dirty(inode)
        msleep(1)
        iput(inode)

    def flush() -> None:
        msleep(1)
        syncs(sb)

    def collect() -> None:
        msleep(1)
        s_op.collect(sb)

    return leave, flush, collect


def test_in_03() -> None:
    """The flusher waits for the collector, who waits for an inode to go, which waits for I_SYNC."""
    assert caught(Collecting, CarefulCollecting, flush_drop_collect) == "wait.deadlock"


# -- IN-04: writeback: avoid iput() from flusher thread (v3.5) -------------------------------------


class Transactions(StoreSuper):
    """An inode that goes needs a transaction, and whoever has one may want everything written."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction = Mutex("transaction")

    def drop_inode(self, inode: Inode) -> bool:
        return inode.i_ino == NUMBER

    def write_inode(self, inode: Inode, wbc: Any) -> None:
        msleep(1)

    def evict_inode(self, inode: Inode) -> None:
        if inode.i_ino == NUMBER:
            with self.transaction:
                pass
        truncate_inode_pages_final(inode)
        clear_inode(inode)


def pins_by_a_reference(real: Any, inode: Inode, wb: Any, work: Any) -> Any:
    """The flusher as it was: it has a reference on what it writes, and puts it afterwards."""
    mine = igrab(inode)
    wrote = real(inode, wb, work)
    if mine is not None:
        wb.list_lock.unlock()
        iput(mine)
        wb.list_lock.lock()
    return wrote


def drop_while_flushed(sb: SuperBlock) -> tuple[Callable[[], object], ...]:
    """The last user of a dirty inode leaves while a transaction waits for the flusher."""
    s_op = sb.s_op
    assert isinstance(s_op, Transactions)

    def leave() -> None:
        inode = get(sb)
        mark_inode_dirty(inode)
        msleep(1)
        iput(inode)

    def commit() -> None:
        msleep(1)
        with sb.s_umount.shared(), s_op.transaction:
            sync_inodes_sb(sb)

    return leave, commit


def test_in_04() -> None:
    """The flusher evicts, for which it needs the transaction of one who waits for the flusher."""
    patches: Patches = {"vfsim.mm.writeback._write_one": pins_by_a_reference}
    assert caught(Transactions, Transactions, drop_while_flushed, patches) == "wait.deadlock"
