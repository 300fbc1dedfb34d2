"""The pages of one file: an address space, its tree and the tree's tags.

The tree maps page indexes to pages; each slot has up to three *tags*, so that "all dirty pages from
here on" is one lookup.  The life of the dirty tag is the delicate part (who moves it:
`vfsim.mm.dirty`)::

    set_page_dirty             PG_dirty set       tag DIRTY set clear_page_dirty_for_io    PG_dirty
    cleared   tag DIRTY stays: the page is on its way to writepage set_page_writeback
    PG_writeback set   tag WRITEBACK set, DIRTY cleared unless dirtied again, TOWRITE cleared
    redirty_page_for_writepage PG_dirty set       tag DIRTY still set end_page_writeback
    PG_writeback off   tag WRITEBACK cleared, from an interrupt

TOWRITE marks what one sync has to write, so that it ends although others go on dirtying.

Locks.  ``tree_lock`` guards ``pages``, ``nr_tagged`` and the pages' ``tags``; it is taken from the
interrupt that ends a write, so always with interrupts off.  ``private_lock`` guards the lists of
buffers on the pages.  Order: page lock > private_lock > tree_lock.  A lookup takes the tree lock in
Linux's place of RCU: it only reads and takes a reference.

Invariants: a page is in the tree exactly if its ``mapping`` is this one, and the tree holds one
reference; the counts of ``nr_tagged`` are those of the tags.

Analogous to Linux's ``address_space``.  Not built: i_mmap (no VMAs), shadow entries, DAX, readahead
state.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from vfsim.checks.bugs import asked, bug, warn
from vfsim.locks.memalloc import GFP_KERNEL
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.operations import AddressSpaceOperations
from vfsim.mm.page import (
    DIRTY,
    TOWRITE,
    WRITEBACK,
    Page,
    get_page,
    lock_page,
    page_cache_alloc,
    put_page,
    unlock_page,
)
from vfsim.sim.errors import EEXIST, EIO, ENOSPC
from vfsim.sim.shared import kernel_struct

if TYPE_CHECKING:
    from vfsim.fs.inode import Inode

LAST = 1 << 60
"""An index beyond every page."""

_NO_PAGES: SortedDict[int, Page] = SortedDict()
"""Stands for the tree of every mapping that never had a page; never changed."""

_NO_TAGS = {DIRTY: 0, WRITEBACK: 0, TOWRITE: 0}
"""Stands for the counts of every mapping that never had a page with a tag; never changed."""

EMPTY_AOPS = AddressSpaceOperations()


@kernel_struct
class AddressSpace:
    """The page cache of one inode (Linux: ``struct address_space``).

    Attributes:
        host: the inode.  a_ops: what its filesystem does for it.
        tree_lock: guards, irq-safe,
        pages: the tree, by index;
        nr_tagged: how many pages carry each tag.
        private_lock: guards the buffer lists of the pages.
        writeback_index: where cyclic writeback goes on.
        io_error, no_space: a write failed that nobody was told about yet (AS_EIO, AS_ENOSPC).
    """

    host: Inode
    a_ops: AddressSpaceOperations = EMPTY_AOPS
    pages: SortedDict[int, Page] = _NO_PAGES
    nr_tagged: dict[int, int] = _NO_TAGS
    writeback_index: int = 0
    io_error: bool = False
    no_space: bool = False
    tree_lock: SpinLock = None  # type: ignore[assignment]
    private_lock: SpinLock = None  # type: ignore[assignment]

    def __attrs_post_init__(self) -> None:
        self.tree_lock = SpinLock("tree_lock")
        self.private_lock = SpinLock("private_lock")

    @property
    def nrpages(self) -> int:
        """How many pages are cached."""
        return len(self.pages)

    def tagged(self, tag: int) -> bool:
        """Never sleeps.  Whether any page carries the tag.  Linux: ``mapping_tagged``."""
        return self.nr_tagged[tag] > 0

    def tag_locked(self, page: Page, tag: int) -> None:
        """Never sleeps.  Set a tag; the caller holds tree_lock."""
        if not page.tags & tag:
            page.tags |= tag
            if self.nr_tagged is _NO_TAGS:
                self.nr_tagged = dict(_NO_TAGS)
            self.nr_tagged[tag] += 1

    def untag_locked(self, page: Page, tag: int) -> None:
        """Never sleeps.  Clear a tag; the caller holds tree_lock."""
        if page.tags & tag:
            page.tags &= ~tag
            self.nr_tagged[tag] -= 1

    def _check(self) -> None:
        for index, page in self.pages.items():
            assert page.mapping is self and page.index == index, f"{page} is in the tree of {self}"
            page._check()
        for tag, count in self.nr_tagged.items():
            assert count == sum(bool(p.tags & tag) for p in self.pages.values()), (
                f"{self}: tag {tag} miscounted"
            )
        assert not _NO_PAGES and not any(_NO_TAGS.values())

    def __repr__(self) -> str:
        counts = f"{self.nr_tagged[DIRTY]} dirty, {self.nr_tagged[WRITEBACK]} writeback"
        return f"mapping({self.nrpages} pages, {counts})"


# -- looking up ------------------------------------------------------------------------------------


def find_get_page(mapping: AddressSpace, index: int) -> Page | None:
    """Never sleeps.  The page at ``index``, with a reference, or None.

    Takes tree_lock.  Linux: ``find_get_page``.
    """
    flags = mapping.tree_lock.lock_irqsave()
    page: Page | None = mapping.pages.get(index)
    if page is not None:
        get_page(page)
    mapping.tree_lock.unlock_irqrestore(flags)
    return page


def find_lock_page(mapping: AddressSpace, index: int) -> Page | None:
    """Sleeps.  The page at ``index``, locked and with a reference, or None.

    Linux: ``find_lock_page``.
    """
    while (page := find_get_page(mapping, index)) is not None:
        lock_page(page)
        if page.mapping is mapping:
            return page
        unlock_page(page)  # truncated before we got the lock: look again
        put_page(page)
    return None


def find_get_pages(
    mapping: AddressSpace, start: int, end: int = LAST, nr: int = 14, tag: int = 0
) -> list[Page]:
    """Never sleeps.  Up to ``nr`` pages from ``start`` to ``end``, inclusive, with references.

    Args:
        tag: only pages that carry it; 0 for all.
    Takes tree_lock.  Linux: ``find_get_pages``, ``find_get_pages_tag``.
    """
    found: list[Page] = []
    flags = mapping.tree_lock.lock_irqsave()
    for index in mapping.pages.irange(start, end):
        page = mapping.pages[index]
        if not tag or page.tags & tag:
            get_page(page)
            found.append(page)
            if len(found) == nr:
                break
    mapping.tree_lock.unlock_irqrestore(flags)
    return found


def put_pages(pages: list[Page]) -> None:
    """Never sleeps.  Give the references of `find_get_pages` back.  Linux: ``pagevec_release``."""
    for page in pages:
        put_page(page)


def grab_cache_page(mapping: AddressSpace, index: int, gfp: int = GFP_KERNEL) -> Page:
    """Sleeps.  The page at ``index``, locked and referenced; a blank one if there was none.

    Raises:
        ENOMEM: there is no page.

    Linux: ``grab_cache_page_write_begin``.
    """
    while True:
        page = find_lock_page(mapping, index)
        if page is not None:
            return page
        page = page_cache_alloc(gfp)
        try:
            add_to_page_cache(page, mapping, index)
        except FileExistsError:
            put_page(page)  # somebody was faster: use theirs
        else:
            return page


# -- adding and removing ---------------------------------------------------------------------------


def add_to_page_cache(page: Page, mapping: AddressSpace, index: int) -> None:
    """Never sleeps.  Lock a fresh page and put it into the tree, which takes a reference.

    Raises:
        EEXIST: there is one already; the page is left unlocked and unchanged.
    Takes tree_lock.  Linux: ``add_to_page_cache_lru``.
    """
    page.lock.trylock()  # nobody else knows the page yet, so this cannot fail
    flags = mapping.tree_lock.lock_irqsave()
    if mapping.pages is _NO_PAGES:
        mapping.pages = SortedDict()
    taken = index in mapping.pages
    if not taken:
        get_page(page)
        page.mapping = mapping
        page.index = index
        mapping.pages[index] = page
    mapping.tree_lock.unlock_irqrestore(flags)
    if taken:
        page.lock.unlock()
        raise EEXIST()


def delete_from_page_cache(page: Page) -> None:
    """Never sleeps.  Take a locked page out of its tree, for good, and drop the tree's reference.

    The caller holds the page lock and a reference of its own, and has cleaned the page: a dirty one
    is data lost (E15). Takes tree_lock; calls ``freepage`` after it.  Linux:
    ``delete_from_page_cache``.
    """
    asked("E15")
    mapping = page.mapping
    if mapping is None or not page.lock.is_locked():
        bug(
            "E15",
            f"{page} removed from the page cache {'twice' if mapping is None else 'unlocked'}",
        )
    if page.writeback:
        bug("E15", f"{page} removed from the page cache while it is being written")
    if page.dirty:
        warn("E15", f"{page} removed from the page cache while dirty: its data is lost")
    flags = mapping.tree_lock.lock_irqsave()
    for tag in (DIRTY, WRITEBACK, TOWRITE):
        mapping.untag_locked(page, tag)
    del mapping.pages[page.index]
    page.mapping = None
    mapping.tree_lock.unlock_irqrestore(flags)
    mapping.a_ops.freepage(page)
    put_page(page)


# -- errors that wait for somebody to be told ------------------------------------------------------


def mapping_set_error(mapping: AddressSpace, error: OSError | None) -> None:
    """Never sleeps.  A write failed: remember it for the next fsync.

    Linux: ``mapping_set_error``.
    """
    if error is not None:
        if error.errno == errno.ENOSPC:
            mapping.no_space = True
        else:
            mapping.io_error = True


def filemap_check_errors(mapping: AddressSpace) -> None:
    """Never sleeps.  Raise what is remembered, once.

    Raises:
        ENOSPC, EIO: a write failed since the last call.
    Linux: ``filemap_check_errors``.
    """
    no_space, mapping.no_space = mapping.no_space, False
    io_error, mapping.io_error = mapping.io_error, False
    if io_error:
        raise EIO()
    if no_space:
        raise ENOSPC()
