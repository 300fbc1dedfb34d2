"""Rules that no column can hold: how writepage leaves a page, what mount returns with, what
eviction leaves behind.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

import pytest

from tests.checks.contract_world import run, the, told
from vfsim.block.operations import BufferHeadOperations
from vfsim.checks.calls import WARNINGS, running_call
from vfsim.checks.contract import checked, methods_of
from vfsim.checks.obligations import overdue, owed, settle
from vfsim.checks.rules import RULES
from vfsim.fs.operations import DquotOperations, FileOperations, FileSystemType, SuperOperations
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.operations import (
    AOP_WRITEPAGE_ACTIVATE,
    VM_FAULT_LOCKED,
    VM_FAULT_NOPAGE,
    AddressSpaceOperations,
    VmOperations,
)
from vfsim.sim.errors import EIO, Violation
from vfsim.sim.scheduler import might_sleep
from vfsim.sim.state import K


class Bag:
    """An object with the fields it is given."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class FakePage:
    """As much of a page as the rules look at."""

    def __init__(self) -> None:
        host = Bag(i_mode=stat.S_IFREG, i_rwsem=RwSem("i_rwsem"))
        self.mapping: Any = Bag(host=host, pages={})
        self.lock = SleepBit("page_lock")
        self.dirty = False
        self.raw_tags = 1
        self.writeback = False
        self.writer: Any = None
        self.io_count = self.index = self.started = 0
        self.private: Any = None

    def set_writeback(self) -> None:
        self.writeback, self.writer, self.raw_tags = True, K.cur, 2

    def end_writeback(self) -> None:
        settle(("writeback", self))
        self.writeback, self.writer, self.raw_tags = False, None, 0

    def redirty(self, wbc: Bag) -> None:
        wbc.pages_skipped += 1
        self.dirty = True

    def __repr__(self) -> str:
        return "page(0)"


def control(sync_mode: int = 0) -> Any:
    return Bag(
        sync_mode=sync_mode, pages_skipped=0, nr_to_write=10, range_start=0, range_end=1 << 20
    )


# -- writepage -------------------------------------------------------------------------------------

Write = Callable[[Any, Any], Any]


def write(how: Write, sync_mode: int = 0) -> list[Violation]:
    """Call writepage on a page as the kernel does, with that body; what is still owed in the end is
    told too.
    """

    class Pages(AddressSpaceOperations):
        def writepage(self, page: Any, wbc: Any) -> int:
            return how(page, wbc) or 0

    def body() -> None:
        page: Any = FakePage()
        page.lock.lock()
        try:
            Pages().writepage(page, control(sync_mode))
        except OSError:
            pass
        if page.lock.owner is K.cur:
            page.lock.unlock()
        overdue(K.machine)

    return run(body)


def in_order(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.lock.unlock()
    page.io_count += 1
    page.end_writeback()
    page.io_count -= 1


def without_io(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.lock.unlock()
    page.end_writeback()


def ended_before_unlock(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.end_writeback()
    page.lock.unlock()


def redirtied(page: Any, wbc: Any) -> None:
    page.redirty(wbc)
    page.lock.unlock()


def failed(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.end_writeback()
    page.lock.unlock()
    raise EIO()


def activated(page: Any, wbc: Any) -> int:
    page.redirty(wbc)
    return AOP_WRITEPAGE_ACTIVATE


@pytest.mark.parametrize(
    "how", [in_order, without_io, ended_before_unlock, redirtied, failed, activated]
)
def test_right_ways_to_write_a_page(how: Write) -> None:
    """Whatever order the document allows is silent."""
    assert write(how) == []
    if how not in (redirtied, activated):
        assert write(how, sync_mode=1) == []


def keeps_the_lock(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.end_writeback()


def fails_with_the_lock(page: Any, wbc: Any) -> None:
    page.redirty(wbc)
    raise EIO()


def activated_unlocked(page: Any, wbc: Any) -> int:
    page.redirty(wbc)
    page.lock.unlock()
    return AOP_WRITEPAGE_ACTIVATE


def activated_clean(page: Any, wbc: Any) -> int:
    return AOP_WRITEPAGE_ACTIVATE


def unlocks_first(page: Any, wbc: Any) -> None:
    page.lock.unlock()
    page.set_writeback()
    page.io_count += 1


def forgets_the_page(page: Any, wbc: Any) -> None:
    page.lock.unlock()


def redirties_too_late(page: Any, wbc: Any) -> None:
    page.lock.unlock()
    page.redirty(wbc)


def forgets_the_end(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.lock.unlock()


def io_never_ends_it(page: Any, wbc: Any) -> None:
    page.set_writeback()
    page.lock.unlock()
    page.io_count += 1


@pytest.mark.parametrize(
    ("how", "rules"),
    [
        (keeps_the_lock, ["P28"]),
        (fails_with_the_lock, ["P28"]),
        (activated_unlocked, ["P29"]),
        (activated_clean, ["P29"]),
        (unlocks_first, ["P31", "P33"]),
        (forgets_the_page, ["P35"]),
        (redirties_too_late, ["P35"]),
        (forgets_the_end, ["P34"]),
        (io_never_ends_it, ["P33"]),
    ],
)
def test_wrong_ways_to_write_a_page(how: Write, rules: list[str]) -> None:
    """Each breaks its own rule, and the filesystem is to blame."""
    found = write(how)
    assert [v.rule for v in found] == rules
    assert all(
        v.blamed.endswith("Pages.writepage") and v.blamed.startswith("filesystem") for v in found
    )


def test_for_sync_a_page_must_be_written() -> None:
    """Redirtying is for cleansing."""
    assert [v.rule for v in write(redirtied, sync_mode=1)] == ["P24"]


def test_the_caller_of_writepage() -> None:
    """Locked, cleaned for I/O, not under writeback, a known mode."""

    class Pages(AddressSpaceOperations):
        def writepage(self, page: Any, wbc: Any) -> int:
            without_io(page, wbc)
            return 0

    def unlocked() -> None:
        page: Any = FakePage()
        Pages().writepage(page, control())

    def dirty() -> None:
        page: Any = FakePage()
        page.dirty = True
        page.lock.lock()
        Pages().writepage(page, control())

    def mode() -> None:
        page: Any = FakePage()
        page.lock.lock()
        Pages().writepage(page, control(7))

    assert ("address_space_operations.writepage.PageLocked(page)", "test") in told(run(unlocked))
    assert told(run(dirty)) == [("P23", "test")] == told(run(mode))


def test_a_page_locked_by_another_task_counts_as_locked() -> None:
    """A page lock may have been given to an I/O."""

    class Pages(AddressSpaceOperations):
        def invalidatepage(self, page: Any, offset: int, length: int) -> None: ...

    def body() -> None:
        page: Any = FakePage()
        page.lock.lock()
        page.lock.disown()
        Pages().invalidatepage(page, 0, 10)
        page.lock.unlock()
        Pages().invalidatepage(page, 0, 10)

    assert told(run(body)) == [("address_space_operations.invalidatepage.PageLocked(page)", "test")]


# -- the page cache --------------------------------------------------------------------------------


def read(how: Callable[[Any], None], complete: bool = True) -> list[Violation]:
    """Call readpage as the kernel does; then its I/O completes, or not."""

    class Pages(AddressSpaceOperations):
        def readpage(self, file: Any, page: Any) -> None:
            how(page)

    def body() -> None:
        page: Any = FakePage()
        page.lock.lock()
        try:
            Pages().readpage(None, page)
        except OSError:
            pass
        if page.lock.owner is K.cur:
            page.lock.unlock()
        elif complete and page.lock.locked:
            assert owed(K.machine, ("unlock", page))
            settle(("unlock", page))
            page.lock.unlock()
        overdue(K.machine)

    return run(body)


def reads_and_fails(page: Any) -> None:
    page.lock.unlock()
    raise EIO()


def test_readpage_unlocks() -> None:
    """Itself, or from the end of its I/O; never not at all."""
    assert read(lambda page: page.lock.unlock()) == []
    assert read(lambda page: page.lock.disown()) == []
    assert read(reads_and_fails) == []
    assert {v.rule for v in read(lambda page: None)} == {"P19"}
    assert [v.rule for v in read(lambda page: page.lock.disown(), complete=False)] == ["P19"]


def test_readpages_owes_each_page() -> None:
    """What is in the page cache and locked must have been given to an I/O."""

    class Pages(AddressSpaceOperations):
        def readpages(self, filp: Any, mapping: Any, pages: Any, nr_pages: int) -> None:
            pages[0].lock.lock()
            pages[1].lock.lock()
            pages[1].lock.disown()

    def body() -> None:
        pages: Any = [FakePage(), FakePage()]
        Pages().readpages(None, None, pages, 2)
        assert len(owed(K.machine)) == 1
        overdue(K.machine)
        pages[0].lock.unlock()

    assert sorted({v.rule for v in run(body)}) == [
        "P21",
        "P22",
        "address_space_operations.readpages.exit",
    ]


def test_write_begin_and_write_end() -> None:
    """One returns the page locked, the other unlocked, both with the inode locked; or not, for a
    symlink.
    """

    class Pages(AddressSpaceOperations):
        def write_begin(self, file: Any, mapping: Any, pos: int, len: int, flags: int) -> Any:
            if flags:
                raise EIO()
            mapping.page.lock.lock()
            return mapping.page, None

        def write_end(
            self, file: Any, mapping: Any, pos: int, len: int, copied: int, page: Any, fsdata: Any
        ) -> int:
            page.lock.unlock()
            return copied

    class Bad(AddressSpaceOperations):
        def write_begin(self, file: Any, mapping: Any, pos: int, len: int, flags: int) -> Any:
            return mapping.page, None

        def write_end(
            self, file: Any, mapping: Any, pos: int, len: int, copied: int, page: Any, fsdata: Any
        ) -> int:
            return copied

    def write_with(ops: Any, mode: int, lock: bool) -> Callable[[], None]:
        def body() -> None:
            page: Any = FakePage()
            page.mapping.page = page
            page.mapping.host.i_mode = mode
            if lock:
                page.mapping.host.i_rwsem.lock()
            with pytest.raises(OSError):
                ops.write_begin(None, page.mapping, 0, 1, 1) if isinstance(
                    ops, Pages
                ) else raise_eio()
            got, fsdata = ops.write_begin(None, page.mapping, 0, 1, 0)
            if not got.lock.locked:
                got.lock.lock()
            ops.write_end(None, page.mapping, 0, 1, 1, got, fsdata)
            if got.lock.locked:
                got.lock.unlock()
            if lock:
                page.mapping.host.i_rwsem.unlock()

        return body

    aops = "address_space_operations"
    assert run(write_with(Pages(), stat.S_IFREG, True)) == []
    assert run(write_with(Pages(), stat.S_IFLNK, False)) == []
    assert run(write_with(Pages(), stat.S_IFBLK, False)) == []
    assert {v.rule for v in run(write_with(Pages(), stat.S_IFREG, False))} == {
        f"{aops}.write_begin.i_mutex",
        f"{aops}.write_end.i_mutex",
    }
    assert [v.rule for v in run(write_with(Bad(), stat.S_IFREG, True))] == [
        f"{aops}.write_begin.PageLocked(page)",
        f"{aops}.write_end.PageLocked(page)",
    ]


def raise_eio() -> None:
    raise EIO()


def test_the_smaller_rules_of_the_page_cache() -> None:
    """writepages counts down, releasepage tells the truth, launder_page cleans, set_page_dirty does
    not sleep.
    """

    class Pages(AddressSpaceOperations):
        def writepages(self, mapping: Any, wbc: Any) -> None:
            wbc.nr_to_write += 1

        def releasepage(self, page: Any, gfp: int) -> bool:
            return True

        def launder_page(self, page: Any) -> None: ...

        def freepage(self, page: Any) -> None: ...

    def body() -> None:
        page: Any = FakePage()
        page.private = ["something"]
        page.dirty = True
        ops = Pages()
        ops.writepages(page.mapping, control())
        page.lock.lock()
        ops.releasepage(page, 0)
        ops.launder_page(page)
        ops.freepage(page)
        page.lock.unlock()

    assert [v.rule for v in run(body)] == ["P37", "P46", "P49", "P48"]

    class Sleepy(AddressSpaceOperations):
        def set_page_dirty(self, page: Any) -> bool:
            might_sleep()
            return True

        def releasepage(self, page: Any, gfp: int) -> bool:
            might_sleep()
            return False

    def releases(gfp: int) -> None:
        page: Any = FakePage()
        page.lock.lock()
        Sleepy().releasepage(page, gfp)
        page.lock.unlock()

    assert the(run(lambda: Sleepy().set_page_dirty(FakePage()))).rule == "P41"  # type: ignore[arg-type]
    assert the(run(releases, 0)).rule == "P17"
    assert run(releases, 0x400000) == []


def test_advice_is_no_rule() -> None:
    """Who writes fewer pages than were wanted (P36) gets a warning, which is counted and no bug."""

    class Pages(AddressSpaceOperations):
        def writepages(self, mapping: Any, wbc: Any) -> None: ...

    warnings: list[Violation] = []
    checked, unheeded = RULES["P36"].checked, RULES["P36"].unheeded

    def body() -> None:
        page: Any = FakePage()
        page.dirty = True
        page.mapping.pages[0] = page
        Pages().writepages(page.mapping, control(sync_mode=1))  # P39 stands above advice
        Pages().writepages(page.mapping, control())
        warnings.extend(K.machine.data[WARNINGS])

    assert [v.rule for v in run(body)] == ["P39"]
    assert [(v.rule, v.kind) for v in warnings] == [("P36", "warning")]
    assert "1 dirty pages; wanted were 10" in warnings[0].summary
    assert (RULES["P36"].checked, RULES["P36"].unheeded) == (checked + 1, unheeded + 1)


# -- memory mappings -------------------------------------------------------------------------------


def fault(result: int, locks: bool, truncated: bool = False) -> list[str]:
    class Vm(VmOperations):
        def fault(self, vma: Any, vmf: Any) -> int:
            if locks:
                vmf.page.lock.lock()
            if truncated:
                vmf.page.mapping = None
            return result

    def body() -> None:
        page: Any = FakePage()
        vma: Any = Bag(vm_mm=Bag(mmap_sem=RwSem("mmap_sem"), mm_users=1))
        with vma.vm_mm.mmap_sem.shared():
            Vm().fault(vma, Bag(page=page, vma=vma))
        if page.lock.owner is K.cur:
            page.lock.unlock()

    return [v.rule for v in run(body)]


def test_fault_and_its_flag() -> None:
    """VM_FAULT_LOCKED and the page lock agree."""
    cell = "vm_operations_struct.fault.PageLocked(page)"
    assert fault(VM_FAULT_LOCKED, True) == [] == fault(VM_FAULT_NOPAGE, False)
    assert fault(VM_FAULT_LOCKED, False) == [cell] == fault(0, True)
    assert fault(VM_FAULT_LOCKED, True, truncated=True) == ["P78"]


def test_pfn_mkwrite_and_map_pages() -> None:
    """One returns NOPAGE or an error, the other may not sleep and has the page table."""

    class Vm(VmOperations):
        def pfn_mkwrite(self, vma: Any, vmf: Any) -> int:
            return int(vmf.result)

        def map_pages(self, vmf: Any, start_pgoff: int, end_pgoff: int) -> None: ...

    def body() -> None:
        vma: Any = Bag(vm_mm=Bag(mmap_sem=RwSem("mmap_sem"), mm_users=1))
        with vma.vm_mm.mmap_sem:
            for result in (0, VM_FAULT_NOPAGE, 2):
                Vm().pfn_mkwrite(vma, Bag(page=None, result=result))
            Vm().pfn_mkwrite(vma, Bag(page=None, result=4 << 20))
            Vm().map_pages(Bag(ptl=SpinLock("ptl"), vma=vma), 0, 1)

    assert [(v.rule, v.blamed.split()[0]) for v in run(body)] == [
        ("P88", "filesystem"),
        ("P82", "test"),
    ]


# -- superblocks -----------------------------------------------------------------------------------


def superblock() -> Any:
    return Bag(s_umount=RwSem("s_umount:fs"), s_root=Bag(), s_bdev=None, s_op=None, s_type=None)


def mount(how: Callable[[], Any]) -> list[str]:
    class Type(FileSystemType):
        name = "x"

        def mount(self, flags: int, dev_name: str, data: str) -> Any:
            return how()

    def body() -> None:
        try:
            Type().mount(0, "", "")
        except OSError:
            pass
        while K.cur.held is not None:
            K.cur.held[0].unlock()

    return [v.rule for v in run(body)]


def locked_root() -> Any:
    sb = superblock()
    sb.s_umount.lock()
    return Bag(d_sb=sb)


def unlocked_root() -> Any:
    return Bag(d_sb=superblock())


def locked_failure() -> Any:
    superblock().s_umount.lock()
    raise EIO()


def test_what_mount_returns_with() -> None:
    """A root, locked; or an error, unlocked."""
    assert mount(locked_root) == []
    assert mount(raise_eio) == []
    assert mount(lambda: None) == ["P13"]
    assert mount(unlocked_root) == ["P14"]
    assert mount(locked_failure) == ["P14"]
    assert mount(lambda: 3) == ["P13", "P14"]


def test_what_kill_sb_leaves() -> None:
    """Everything shut down, nothing locked; and it must have been locked before."""

    class Type(FileSystemType):
        name = "x"

        def kill_sb(self, sb: Any) -> None:
            if sb.shuts:
                sb.s_root = None
            if sb.unlocks:
                sb.s_umount.unlock()

    def kill(locks: bool, shuts: bool, unlocks: bool) -> Callable[[], None]:
        def body() -> None:
            sb = superblock()
            sb.shuts, sb.unlocks = shuts, unlocks
            if locks:
                sb.s_umount.lock()
            Type().kill_sb(sb)
            if sb.s_umount.owner is K.cur:
                sb.s_umount.unlock()

        return body

    assert run(kill(True, True, True)) == []
    assert told(run(kill(False, True, False))) == [("P15", "test")]
    for shuts, unlocks in ((True, False), (False, True)):
        found = the(run(kill(True, shuts, unlocks)))
        assert found.rule == "P16" and found.blamed.endswith("Type.kill_sb")


def test_drop_inode_and_evict_inode() -> None:
    """i_lock all the time and no sleep; cleared in the end."""

    class Super(SuperOperations):
        def drop_inode(self, inode: Any) -> bool:
            if inode.how == "unlocks":
                inode.i_lock.unlock()
                inode.i_lock.lock()
            elif inode.how == "sleeps":
                might_sleep()
            return True

        def evict_inode(self, inode: Any) -> None:
            if inode.how == "fine":
                inode.i_state |= 1 << 6

    def drop(how: str, locked: bool = True) -> list[Violation]:
        def body() -> None:
            inode: Any = Bag(i_lock=SpinLock("i_lock"), i_count=0, i_state=0, how=how)
            if locked:
                inode.i_lock.lock()
            Super().drop_inode(inode)
            if locked:
                inode.i_lock.unlock()

        return run(body)

    def evict(how: str, state: int = 1 << 5) -> list[Violation]:
        sb = Bag(s_inode_lru={})
        inode: Any = Bag(i_state=state, i_nlink=1, i_sb=sb, how=how)
        return run(lambda: Super().evict_inode(inode))

    assert drop("fine") == []
    cell = "super_operations.drop_inode.s_umount"
    assert told(drop("fine", locked=False)) == [(cell, "test")]
    for how in ("unlocks", "sleeps"):
        found = the(drop(how))
        assert found.rule == "P7" and found.blamed.endswith("Super.drop_inode"), how
    assert evict("fine") == []
    assert (the(evict("forgets")).rule, the(evict("forgets")).blamed.split()[0]) == (
        "E10",
        "filesystem",
    )
    assert told(evict("fine", state=1 << 5 | 1 << 7))[0] == ("E10", "test")


def test_quota_files_are_not_touched_from_mark_dirty() -> None:
    """The recursion that the document rules out."""

    class Super(SuperOperations):
        def quota_write(self, sb: Any, type: int, data: bytes, off: int) -> int:
            return 0

    class Quota(DquotOperations):
        def mark_dirty(self, dquot: Any) -> None:
            assert running_call(K.cur, "dquot_operations.mark_dirty") is not None
            dquot.write()

        def write_dquot(self, dquot: Any) -> None:
            dquot.write()

    def body() -> None:
        locks = {name: Mutex(name) for name in ("dqio_sem", "dqonoff_sem", "dqptr_sem")}
        sb: Any = Bag(s_dquot=Bag(**locks), s_umount=RwSem("s_umount"))

        def touch() -> None:
            with locks["dqio_sem"]:
                Super().quota_write(sb, 0, b"", 0)

        dquot = Bag(dq_sb=sb, write=touch)
        with locks["dqptr_sem"]:
            Quota().write_dquot(dquot)
        Quota().mark_dirty(dquot)
        Quota().write_dquot(dquot)
        Super().quota_write(sb, 0, b"", 0)

    found = run(body)
    assert [v.rule for v in found] == [
        "P75",
        "dquot_operations.write_dquot.Held locks when called",
        "P11",
    ]
    assert found[0].blamed.endswith("Quota.mark_dirty")


def test_fasync_keeps_its_flag() -> None:
    """P68."""

    class Files(FileOperations):
        def fasync(self, fd: int, file: Any, on: int) -> int:
            file.f_flags = 0
            return 1

    assert run(lambda: Files().fasync(3, Bag(f_flags=0o20000), 0)) == []  # type: ignore[arg-type]
    assert the(run(lambda: Files().fasync(3, Bag(f_flags=0), 1))).rule == "P68"  # type: ignore[arg-type]


# -- single functions ------------------------------------------------------------------------------


def ends_well(bh: Any, uptodate: bool) -> None:
    bh.lock.unlock()


def ends_asleep(bh: Any, uptodate: bool) -> None:
    might_sleep()


def ends_otherwise(buffer: Any, uptodate: bool) -> None: ...


def test_a_function_pointer_under_the_contract() -> None:
    """b_end_io is one function in Linux; here it may be one too."""
    well = checked(BufferHeadOperations, "b_end_io", ends_well)
    assert checked(BufferHeadOperations, "b_end_io", ends_well) == well

    def body(fn: Any, locked: bool) -> None:
        bh = Bag(lock=SleepBit("buffer_lock"))
        if locked:
            bh.lock.lock()
            bh.lock.disown()
            fn(bh, True)
        else:
            fn(bh, True)

    assert run(body, well, True) == []
    assert told(run(body, well, False))[0] == ("P59", "test")
    found = the(run(body, checked(BufferHeadOperations, "b_end_io", ends_asleep), True))
    assert found.rule == "P58" and found.blamed.startswith("filesystem")
    with pytest.raises(TypeError, match="keep their names"):
        checked(BufferHeadOperations, "b_end_io", ends_otherwise)
    assert methods_of(BufferHeadOperations)["b_end_io"].listed


def test_statfs_keeps_the_superblock() -> None:
    """Never with s_umount exclusive, and the superblock outlives the call: the caller's rules."""

    class Super(SuperOperations):
        def statfs(self, dentry: Any) -> Any:
            dentry.d_sb.s_active -= dentry.d_sb.goes
            return Bag()

    def body() -> None:
        sb = superblock()
        sb.s_active, sb.goes = 1, 0
        dentry: Any = Bag(d_sb=sb)
        Super().statfs(dentry)
        with sb.s_umount.shared():
            Super().statfs(dentry)
        with sb.s_umount:
            Super().statfs(dentry)
        sb.goes = 1
        Super().statfs(dentry)

    found = run(body)
    assert told(found) == [("super_operations.statfs.s_umount", "test"), ("P10", "test")]
    assert all(v.where.startswith("test_contract_protocols.py:") for v in found)
