"""What a filesystem does with the cached pages of a file, as the document prints it::

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

Called by reading and writing through the page cache (`vfsim.mm.filemap`), read-ahead,
writeback (`vfsim.mm.writepages`), truncation (`vfsim.mm.truncate`) and the
reclaim of memory.  The lock of the *page* is what the table is about: it covers the page's bits,
buffers and place in the file, and some methods end it themselves or leave that to their I/O.  The
host's ``i_rwsem`` (the document's ``i_mutex``) is held by whoever writes.  What happens between
``writepage``'s entry and the end of its I/O is in `vfsim.mm.operations.writepage`.
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
    cannot_fail,
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
from vfsim.mm.operations.bits import (
    DIRTY_TAG,
    GFP_DIRECT_RECLAIM,
    MIGRATE_ASYNC,
    WB_SYNC_ALL,
    WB_SYNC_NONE,
)
from vfsim.mm.operations.writepage import (
    counts_what_it_writes,
    does_not_wait_to_cleanse,
    submits_after_writeback,
    writes_all_for_sync,
    writes_or_redirties,
)
from vfsim.sim.errors import EINVAL
from vfsim.sim.shared import accesses_for_its_caller
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfsim.fs.file import File, Kiocb
    from vfsim.mm.mapping import AddressSpace
    from vfsim.mm.page import Page
    from vfsim.mm.writepages import WritebackControl


# -- what `when=` and `expects` ask ----------------------------------------------------------------


@accesses_for_its_caller
def cleaned_for_io(page: Page) -> bool:
    return not page.dirty and bool(page.raw_tags & DIRTY_TAG)


def not_under_writeback(page: Page) -> bool:
    return not page.writeback


def a_known_mode(wbc: WritebackControl) -> bool:
    return wbc.sync_mode in (WB_SYNC_NONE, WB_SYNC_ALL)


def the_host_is_a_file(mapping: AddressSpace) -> bool:
    mode = mapping.host.i_mode
    return not S_ISBLK(mode) and not S_ISLNK(mode)


def it_cannot_wait(gfp: int) -> bool:
    return not gfp & GFP_DIRECT_RECLAIM


def out_of_the_mapping(page: Page) -> bool:
    return page.mapping is None


def asynchronous(mode: int) -> bool:
    return mode == MIGRATE_ASYNC


def dirty(page: Page) -> bool:
    return page.dirty


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


# -- the table -------------------------------------------------------------------------------------


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
    @watch(does_not_wait_to_cleanse)
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
    @cannot_fail
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
    @cannot_fail
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
    @cannot_fail
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
    @cannot_fail
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
