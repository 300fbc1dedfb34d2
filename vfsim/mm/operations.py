"""The locking contract of the page cache and memory mappings, as the document prints it::

    address_space_operations

                            PageLocked(page)          i_mutex
    writepage:              yes, unlocks (see below)
    readpage:               yes, unlocks
    writepages:
    set_page_dirty:         no
    readpages:
    write_begin:            locks the page            yes
    write_end:              yes, unlocks              yes
    bmap:
    invalidatepage:         yes
    releasepage:            yes
    freepage:               yes
    direct_IO:
    isolate_page:           yes
    migratepage:            yes (both)
    putback_page:           yes
    launder_page:           yes
    is_partially_uptodate:  yes
    error_remove_page:      yes
    swap_activate:          no
    swap_deactivate:        no

    All except set_page_dirty and freepage may block

    vm_operations_struct

                   mmap_sem  PageLocked(page)
    open:          yes
    close:         yes
    fault:         yes       can return with page locked
    map_pages:     yes
    page_mkwrite:  yes       can return with page locked
    pfn_mkwrite:   yes
    access:        yes

Above each method stands its row, in the document's words; what the words mean for the locks at hand
is said beside them where the column's title does not (see `vfsim.checks.rules`).  A filesystem
subclasses a table and writes the methods it has; **a method left out does what the method here
does**, which is what Linux does for NULL, with Linux's errno.  Overrides inherit the row: nothing
is declared twice.

The rules about ``writepage`` that no column can hold (which bits it leaves, in which order, and
what its I/O still owes) are the watching functions at the top: they see each call as a whole.
"""

from __future__ import annotations

from stat import S_ISBLK, S_ISLNK
from typing import TYPE_CHECKING, Any

from vfsim.block.buffer import BufferHead
from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.obligations import owe
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    cell,
    expects,
    must_hold,
    never_blocks,
    prototype,
    releases,
    row,
    watch,
    when,
)
from vfsim.mm import prose as prose
from vfsim.sim.errors import EINVAL
from vfsim.sim.shared import accesses_for_its_caller
from vfsim.sim.state import K
from vfsim.sim.task import HARDIRQ

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.fs.file import File, Kiocb
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl

AOP_WRITEPAGE_ACTIVATE = 0x80000
"""Returned by ``writepage``: the page cannot be written now, and comes back locked."""

WB_SYNC_NONE, WB_SYNC_ALL = 0, 1

GFP_DIRECT_RECLAIM = 0x400000
"""In an allocation's flags: it may wait."""

MIGRATE_ASYNC = 0

VM_FAULT_ERROR = 0x0873
VM_FAULT_SIGBUS, VM_FAULT_NOPAGE, VM_FAULT_LOCKED, VM_FAULT_RETRY = 0x0002, 0x0100, 0x0200, 0x0400

_DIRTY_TAG = 1
PAGE_SHIFT = 12


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def the_host_is_a_file(mapping: AddressSpace) -> bool:
    mode = mapping.host.i_mode
    return not S_ISBLK(mode) and not S_ISLNK(mode)


def it_cannot_wait(gfp: int) -> bool:
    return not gfp & GFP_DIRECT_RECLAIM


def asynchronous(mode: int) -> bool:
    return mode == MIGRATE_ASYNC


@accesses_for_its_caller
def cleaned_for_io(page: Page) -> bool:
    return not page.dirty and bool(page.raw_tags & _DIRTY_TAG)


def not_under_writeback(page: Page) -> bool:
    return not page.writeback


def dirty(page: Page) -> bool:
    return page.dirty


def out_of_the_mapping(page: Page) -> bool:
    return page.mapping is None


def a_known_mode(wbc: WritebackControl) -> bool:
    return wbc.sync_mode in (WB_SYNC_NONE, WB_SYNC_ALL)


def mm_is_alive(vma: Any) -> bool:
    return bool(vma.vm_mm.mm_users)


def dirty_buffers(page: Page, offset: int, length: int) -> bool:
    """Never sleeps.  Whether a dirty buffer lies wholly inside a part of a page.

    What a filesystem attached to its pages instead of buffers is its own business.
    """
    at = 0
    for bh in page.private if isinstance(page.private, list) else ():
        if not isinstance(bh, BufferHead):
            return False
        if bh.dirty and offset <= at and at + bh.b_size <= offset + length:
            return True
        at += bh.b_size
    return False


def page_comes_locked(result: int | None) -> bool:
    return bool(result and result & VM_FAULT_LOCKED)


def without_a_page(vmf: Any) -> bool:
    return vmf.page is None


# -- what `watch` looks at -------------------------------------------------------------------------


def ends_the_read(call: Call, page: Page) -> Iterator[None]:
    """P19: the page was unlocked, or is in the hands of an I/O that owes it."""
    yield
    lock = page.lock
    if lock.locked and lock.owner is None:
        owe(("unlock", page), f"unlock {page!r}", "P19", call.site)
    call.check("P19", lock.owner is not K.cur, "returned with the page locked and given to no I/O")


def ends_the_reads(call: Call, pages: Sequence[Page]) -> Iterator[None]:
    """P21, P22: what was entered in the page cache is being read and will be unlocked."""
    given = list(pages)
    yield
    for page in given:
        if page.mapping is not None and page.lock.locked:
            handed_over = page.lock.owner is None
            call.check(
                "P21",
                handed_over,
                f"returned with {page!r} in the page cache, locked, and no I/O for it",
            )
            if handed_over:
                owe(("unlock", page), f"unlock {page!r}", "P22", call.site)


def submits_after_writeback(call: Call, page: Page, wbc: WritebackControl) -> Iterator[None]:
    """P32: no I/O before set_page_writeback.  P25: for sync, not while older I/O is in progress."""
    submitted: list[Page] = []

    def submit(written: Page) -> None:
        if written is page:
            call.check("P32", page.writeback, "submitted I/O before set_page_writeback()")
            if wbc.sync_mode != WB_SYNC_NONE and not submitted:
                waited = not page.io_count
                call.check("P25", waited, "did not wait for I/O in progress before it wrote again")
            submitted.append(page)

    call.listeners["submit"] = submit
    yield


def writes_or_redirties(call: Call, page: Page, wbc: WritebackControl) -> Iterator[None]:
    """P24, P28 to P31, P33 to P35: how a page leaves ``writepage``.

    It is either under writeback, which somebody ends, or dirty again; and it is unlocked after that
    was settled.
    """
    skipped = wbc.pages_skipped
    refused: dict[Any, Page] = K.machine.data.setdefault("contract.refused", {})
    again = refused.pop(wbc, None) is page
    call.caller("P30", not again, "again for a page that it had just returned as not writable")
    forgotten: list[bool] = []  # at each unlock: clean, but tagged dirty?

    @accesses_for_its_caller
    def unlocked() -> None:
        forgotten.append(
            page.mapping is not None and not page.dirty and bool(page.raw_tags & _DIRTY_TAG)
        )

    begun: list[Page] = []
    call.listeners["writeback"] = begun.append
    call.on_release = unlocked
    yield
    if call.error is None and call.result == AOP_WRITEPAGE_ACTIVATE:
        refused[wbc] = page
        ours = page.lock.owner is K.cur
        if ours:
            call.keeps(page.lock)
        call.check("P29", ours, "returned the activate code with the page unlocked")
        call.check(
            "P29", page.dirty or not ours, "returned the activate code without redirtying the page"
        )
        return
    if forgotten and forgotten[0]:
        if page.writeback or page in begun:
            call.check("P31", False, "unlocked the page before set_page_writeback()")
        else:
            call.check(
                "P35",
                False,
                "unlocked the page neither written nor redirtied",
                "the page is clean, the tree says dirty: its data will never be written",
            )
    elif forgotten:
        call.check("P31", True, "")
        call.check("P35", True, "")
    if wbc.sync_mode != WB_SYNC_NONE and call.error is None:
        call.check(
            "P24",
            wbc.pages_skipped == skipped,
            "redirtied the page in sync mode instead of writing it",
        )
    _ends_writeback(call, page)


def _ends_writeback(call: Call, page: Page) -> None:
    """P33, P34: who ends the writeback?  (Another task may have begun the next one by now.)"""
    if not page.writeback or (page.writer is not K.cur and not page.io_count):
        call.check("P34", True, "")
        return
    page.writer = None  # whoever waits from now on waits for the I/O, not for this task
    # a handler may be between the I/O's end and the bit's
    in_flight = page.io_count > 0 or any(t.kind == HARDIRQ and t.alive for t in K.machine.tasks)
    told = call.check(
        "P34",
        in_flight,
        "returned with the page under writeback and no I/O in flight for it",
        "nobody is left to call end_page_writeback(): whoever waits for the page waits for ever",
    )
    if told:
        rule = "P33" if page.io_count else "P34"
        owe(("writeback", page), f"end the writeback of {page!r}", rule, call.site)


def counts_what_it_writes(
    call: Call, mapping: AddressSpace, wbc: WritebackControl
) -> Iterator[None]:
    """P37: nr_to_write goes down by each page that goes under writeback.  P40: those were dirty."""
    before = wbc.nr_to_write
    started: list[Page] = []

    def writeback(page: Page) -> None:
        if page.mapping is mapping:
            tagged = page.raw_tags & _DIRTY_TAG
            call.check("P40", tagged, f"wrote {page!r}, which was not tagged dirty")
            started.append(page)

    call.listeners["writeback"] = writeback
    yield
    counted = before - wbc.nr_to_write
    if counted < 0:
        call.check("P37", False, "returned with a larger nr_to_write than it was given")
    elif call.error is None:
        text = f"wrote {len(started)} pages and counted nr_to_write down by {counted}"
        call.check("P37", counted >= len(started), text)


def writes_all_for_sync(call: Call, mapping: AddressSpace, wbc: WritebackControl) -> Iterator[None]:
    """P39: for sync, what was dirty is written, whatever nr_to_write says."""
    if wbc.sync_mode == WB_SYNC_NONE:
        yield
        return
    first, last = wbc.range_start >> PAGE_SHIFT, wbc.range_end >> PAGE_SHIFT
    dirty = [
        (page, page.started)
        for page in mapping.pages.values()
        if page.dirty and page.raw_tags & _DIRTY_TAG and first <= page.index <= last
    ]
    yield
    if call.error is None:
        left = [p for p, n in dirty if p.mapping is mapping and p.dirty and p.started == n]
        call.check("P39", not left, f"left {left[:1]} unwritten, which was dirty, in sync mode")


def drops_what_is_truncated(call: Call, page: Page, offset: int, length: int) -> Iterator[None]:
    """P44: no buffer inside the truncated part is dirty any more."""
    yield
    call.check("P44", not dirty_buffers(page, offset, length), "left dirty buffers behind")


def lets_go_of_buffers(call: Call, page: Page) -> Iterator[None]:
    """P46: "released" means that nothing is attached any more."""
    yield
    if call.error is None and call.result:
        call.check(
            "P46",
            page.private is None,
            "said that the page is released, and its private data is still there",
        )


def cleans(call: Call, page: Page) -> Iterator[None]:
    """P49: no error means clean."""
    yield
    if call.error is None:
        call.check(
            "P49",
            not page.dirty and not page.writeback,
            "returned without an error and the page is not clean",
        )


def locks_what_it_says(call: Call, vmf: Any) -> Iterator[None]:
    """P78, P85: the flag and the lock agree, and the page is still the file's."""
    yield
    if call.error is None and page_comes_locked(call.result):
        page = vmf.page
        rule = "P78" if call.site.method.name == "fault" else "P85"
        call.check(
            rule,
            page is not None and page.mapping is not None,
            "returned a locked page that was truncated",
        )


def expects_nopage(call: Call) -> Iterator[None]:
    """P88: NOPAGE or an error; 0 is tolerated."""
    yield
    if call.error is None:
        fine = not call.result or bool(call.result & (VM_FAULT_NOPAGE | VM_FAULT_ERROR))
        call.check("P88", fine, f"returned {call.result!r}, neither VM_FAULT_NOPAGE nor an error")


# -- the page cache --------------------------------------------------------------------------------


class AddressSpaceOperations(Operations):
    """What a filesystem does with the cached pages of a file (``mapping.a_ops``)."""

    table = "address_space_operations"
    columns = (
        Lock("PageLocked(page)", "page.lock", anyone=True),
        Lock("i_mutex", "mapping.host.i_rwsem"),
    )
    blanket = "All except set_page_dirty and freepage may block"
    blanket_rule = "P17"

    @prototype("int (*writepage)(struct page *page, struct writeback_control *wbc);")
    @row(
        cell(
            "yes, unlocks (see below)",
            held="page.lock",
            means="the page is locked at entry; the method unlocks it before it returns, unless "
            "it returns AOP_WRITEPAGE_ACTIVATE",
        ),
        "",
    )
    @releases("page.lock", rule="P28")
    @expects(cleaned_for_io, rule="P23")
    @expects(not_under_writeback, rule="P23")
    @expects(a_known_mode, rule="P23")
    @watch(writes_or_redirties)
    @watch(submits_after_writeback)
    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        """Sleeps.  Write the page, which was dirty: ``set_page_writeback``, unlock, submit; its I/O
        ends the writeback.

        Or redirty it (``redirty_page_for_writepage``; not with WB_SYNC_ALL), unlock and return 0.
        Or return AOP_WRITEPAGE_ACTIVATE with the page redirtied and still locked.

        Left out: the file's pages are not written.
        """
        raise AssertionError("a mapping without writepage is not written")

    @prototype("int (*readpage)(struct file *, struct page *);")
    @row(
        cell(
            "yes, unlocks",
            held="page.lock",
            means="the page is locked at entry; the method unlocks it, itself or when its I/O is "
            "done",
        ),
        "",
    )
    @releases("page.lock", rule="P19")
    @watch(ends_the_read)
    def readpage(self, file: File | None, page: Page) -> None:
        """Sleeps.  Fill the page and make it uptodate, now or when the I/O is done; then unlock it.
        Also on error.

        Left out: EINVAL (Linux would follow a NULL pointer).
        """
        from vfsim.mm.page import unlock_page

        unlock_page(page)
        raise EINVAL()

    @prototype("int (*writepages)(struct address_space *, struct writeback_control *);")
    @row("", "")
    @watch(counts_what_it_writes)
    @watch(writes_all_for_sync)
    def writepages(self, mapping: AddressSpace, wbc: WritebackControl) -> None:
        """Sleeps.  Write about ``wbc.nr_to_write`` dirty pages, counting it down; with WB_SYNC_ALL,
        all.

        Left out: `writepage` for each (``generic_writepages``).
        """
        from vfsim.mm.writepages import generic_writepages

        generic_writepages(mapping, wbc)

    @prototype("int (*set_page_dirty)(struct page *page);")
    @row(cell("no", not_promised="page.lock"), "")
    @never_blocks(rule="P41")
    def set_page_dirty(self, page: Page) -> bool:
        """Never sleeps.  The page was changed; returns whether it was clean.  Maybe under a
        spinlock, maybe unlocked.

        Left out: the page and its buffers are dirty (``set_page_dirty_buffers``).
        """
        from vfsim.mm.dirty import set_page_dirty_buffers

        return set_page_dirty_buffers(page)

    @prototype(
        "int (*readpages)(struct file *filp, struct address_space *mapping, struct list_head "
        "*pages, unsigned nr_pages);"
    )
    @row("", "")
    @watch(ends_the_reads)
    def readpages(
        self, filp: File | None, mapping: AddressSpace, pages: Sequence[Page], nr_pages: int
    ) -> None:
        """Sleeps.  Read ahead: enter the pages in the page cache and start reading them, as far as
        it goes.

        Left out: `readpage` for each.
        """
        from vfsim.mm.mapping import add_to_page_cache

        for page in pages:
            try:
                add_to_page_cache(page, mapping, page.index)
            except OSError:
                continue
            self.readpage(filp, page)

    @prototype(
        "int (*write_begin)(struct file *, struct address_space *mapping, loff_t pos, unsigned "
        "len, unsigned flags, struct page **pagep, void **fsdata);"
    )
    @row(
        cell(
            "locks the page",
            acquires="return.0.lock",
            means="the method returns with the page locked",
        ),
        cell(
            "yes",
            held=when(the_host_is_a_file, "mapping.host.i_rwsem"),
            status=ADAPTED,
            means="the caller holds mapping.host.i_rwsem exclusive, except for a block device or a "
            "symlink being created",
        ),
    )
    def write_begin(
        self, file: File | None, mapping: AddressSpace, pos: int, len: int, flags: int
    ) -> tuple[Page, Any]:
        """Sleeps.  Make bytes ``pos`` to ``pos + len`` (of one page) ready to be overwritten:
        reserve, read the rest.

        Returns the page, locked and with a reference, and whatever `write_end` shall get; on error,
        neither.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype(
        "int (*write_end)(struct file *, struct address_space *mapping, loff_t pos, unsigned len, "
        "unsigned copied, struct page *page, void *fsdata);"
    )
    @row(
        cell(
            "yes, unlocks",
            held="page.lock",
            releases="page.lock",
            means="the page is locked at entry and unlocked when the method returns",
        ),
        cell(
            "yes",
            held=when(the_host_is_a_file, "mapping.host.i_rwsem"),
            status=ADAPTED,
            means="the caller holds mapping.host.i_rwsem exclusive, except for a block device or a "
            "symlink being created",
        ),
    )
    def write_end(
        self,
        file: File | None,
        mapping: AddressSpace,
        pos: int,
        len: int,
        copied: int,
        page: Page,
        fsdata: Any,
    ) -> int:
        """Sleeps.  ``copied`` bytes were copied: dirty the page, move ``i_size``, unlock, put the
        reference.

        Returns how many bytes count; always called after a successful `write_begin`.

        Left out: EINVAL.
        """
        raise EINVAL()

    @prototype("sector_t (*bmap)(struct address_space *, sector_t);")
    @row("", "")
    def bmap(self, mapping: AddressSpace, block: int) -> int:
        """Sleeps.  Where a block of the file is on the device; 0 for a hole.  Left out: EINVAL."""
        raise EINVAL()

    @prototype("void (*invalidatepage) (struct page *, unsigned int, unsigned int);")
    @row("yes", "")
    @watch(drops_what_is_truncated)
    def invalidatepage(self, page: Page, offset: int, length: int) -> None:
        """Sleeps.  Part of the page is being truncated: drop what is attached to it.

        Left out: its buffers go (``block_invalidatepage``).
        """
        from vfsim.mm.buffers import block_invalidatepage

        block_invalidatepage(page, offset, length)

    @prototype("int (*releasepage) (struct page *, int);")
    @row("yes", "")
    @never_blocks(when=it_cannot_wait, rule="P17")
    @expects(not_under_writeback, rule="E14")
    @watch(lets_go_of_buffers)
    def releasepage(self, page: Page, gfp: int) -> bool:
        """Sleeps.  Memory is wanted: True if what was attached to the page is gone (the document
        says it inversely).

        Left out: its buffers go if they are idle (``try_to_free_buffers``).
        """
        from vfsim.mm.buffers import try_to_free_buffers

        return try_to_free_buffers(page)

    @prototype("void (*freepage)(struct page *);")
    @row("yes", "")
    @never_blocks(rule="P17")
    @expects(out_of_the_mapping, rule="P48")
    def freepage(self, page: Page) -> None:
        """Never sleeps.  The page has left the page cache.  Left out: nothing."""

    @prototype("int (*direct_IO)(struct kiocb *, struct iov_iter *iter);")
    @row("", "")
    def direct_IO(self, iocb: Kiocb, iter: Any) -> int:
        """Sleeps.  Read or write past the page cache (O_DIRECT).

        Left out: opening with O_DIRECT is EINVAL.
        """
        raise EINVAL()

    @prototype("bool (*isolate_page) (struct page *, isolate_mode_t);")
    @row("yes", "")
    def isolate_page(self, page: Page, mode: int) -> bool:
        """Sleeps.  Compaction wants to move the page: take it aside?  Left out: no."""
        return False

    @prototype("int (*migratepage)(struct address_space *, struct page *, struct page *);")
    @row(cell("yes (both)", held=("newpage.lock", "page.lock"), means="both pages are locked"), "")
    @never_blocks(when=asynchronous, rule="E21")
    def migratepage(self, mapping: AddressSpace, newpage: Page, page: Page, mode: int) -> None:
        """Sleeps.  Move everything from ``page`` to ``newpage``.

        Left out: EINVAL, the page stays.
        """
        raise EINVAL()

    @prototype("void (*putback_page) (struct page *);")
    @row("yes", "")
    def putback_page(self, page: Page) -> None:
        """Sleeps.  The isolated page was not moved: take it back.  Left out: nothing."""

    @prototype("int (*launder_page)(struct page *);")
    @row("yes", "")
    @expects(dirty, rule="P49")
    @expects(not_under_writeback, rule="P49")
    @watch(cleans)
    def launder_page(self, page: Page) -> None:
        """Sleeps.  Write a dirty page that is about to be dropped, without unlocking it.

        Left out: it stays dirty.
        """

    @prototype("int (*is_partially_uptodate)(struct page *, unsigned long, unsigned long);")
    @row("yes", "")
    def is_partially_uptodate(self, page: Page, offset: int, count: int) -> bool:
        """Sleeps.  Are these bytes good although the page as a whole is not?  Left out: no."""
        return False

    @prototype("int (*error_remove_page)(struct address_space *, struct page *);")
    @row("yes", "")
    def error_remove_page(self, mapping: AddressSpace, page: Page) -> None:
        """Sleeps.  The memory of the page is broken: remove it.  Left out: EINVAL, it stays."""
        raise EINVAL()

    @prototype("int (*swap_activate)(struct file *);")
    @row(cell("no", not_held="any page_lock"), "")
    @must_hold("file.f_inode.i_rwsem", rule="E20")
    def swap_activate(self, file: File) -> None:
        """Sleeps.  The file becomes swap space: pin it down.

        Left out: its blocks are asked for with `bmap`.
        """

    @prototype("int (*swap_deactivate)(struct file *);")
    @row(cell("no", not_held="any page_lock"), "")
    def swap_deactivate(self, file: File) -> None:
        """Sleeps.  The file is no swap space any more.  Left out: nothing."""


# -- memory mappings -------------------------------------------------------------------------------


class VmOperations(Operations):
    """What a filesystem does for a range of a process's memory (``vma.vm_ops``)."""

    table = "vm_operations_struct"
    columns = (
        Lock("mmap_sem", "vma.vm_mm.mmap_sem", shared=True),
        Lock("PageLocked(page)", "vmf.page.lock", anyone=True),
    )

    @prototype("void (*open)(struct vm_area_struct*);")
    @row("yes", "")
    def open(self, vma: Any) -> None:
        """Sleeps.  The range was copied or split: one more user.  Left out: nothing."""

    @prototype("void (*close)(struct vm_area_struct*);")
    @row(
        cell(
            "yes",
            shared=when(mm_is_alive, "vma.vm_mm.mmap_sem"),
            status=ADAPTED,
            means="the caller holds mmap_sem, unless the mm is dying and has no other user",
        ),
        "",
    )
    def close(self, vma: Any) -> None:
        """Sleeps.  The range goes: one user less.  Left out: nothing."""

    @prototype("int (*fault)(struct vm_area_struct*, struct vm_fault *);")
    @row(
        "yes",
        cell(
            "can return with page locked",
            acquires=when(page_comes_locked, "vmf.page.lock"),
            means="with VM_FAULT_LOCKED the page is locked on return, without it it is not",
        ),
    )
    @watch(locks_what_it_says)
    def fault(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  A page is missing: put it in ``vmf.page``, locked, and return VM_FAULT_LOCKED.

        Left out: VM_FAULT_SIGBUS.
        """
        return VM_FAULT_SIGBUS

    @row(cell("yes", shared="vmf.vma.vm_mm.mmap_sem"), "")
    @must_hold("vmf.ptl", rule="P82")
    @never_blocks(rule="P82")
    def map_pages(self, vmf: Any, start_pgoff: int, end_pgoff: int) -> None:
        """Never sleeps.  Map what is in the page cache around a fault, if it can be had without
        waiting.

        Left out: only the page itself is mapped.
        """

    @prototype("int (*page_mkwrite)(struct vm_area_struct *, struct vm_fault *);")
    @row(
        "yes",
        cell(
            "can return with page locked",
            acquires=when(page_comes_locked, "vmf.page.lock"),
            means="with VM_FAULT_LOCKED the page is locked on return, without it it is not",
        ),
    )
    @watch(locks_what_it_says)
    def page_mkwrite(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  A page is about to become writable: return it locked with VM_FAULT_LOCKED, or
        VM_FAULT_NOPAGE if it was truncated.

        Left out: 0, it may be written.
        """
        return 0

    @prototype("int (*pfn_mkwrite)(struct vm_area_struct *, struct vm_fault *);")
    @row("yes", "")
    @expects(without_a_page, rule="P88")
    @watch(expects_nopage)
    def pfn_mkwrite(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  The same for memory without pages.  Left out: 0."""
        return 0

    @prototype("int (*access)(struct vm_area_struct *, unsigned long, void*, int, int);")
    @row("yes", "")
    def access(self, vma: Any, addr: int, buf: Any, len: int, write: bool) -> int:
        """Sleeps.  Read or write another process's memory that has no pages; returns how much.

        Left out: 0.
        """
        return 0


__all__ = [
    "AOP_WRITEPAGE_ACTIVATE",
    "GFP_DIRECT_RECLAIM",
    "VM_FAULT_LOCKED",
    "VM_FAULT_NOPAGE",
    "AddressSpaceOperations",
    "VmOperations",
]
