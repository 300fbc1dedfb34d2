"""A page of the page cache: 4096 bytes of a file, a lock, and what is known about them.

A page's life: allocated (nobody else knows it) → in a mapping, locked, not uptodate → read or
written, uptodate, unlocked ⇄ dirty → handed to ``writepage`` (clean, still tagged dirty) → under
writeback, unlocked → clean → removed by truncation or eviction (``mapping`` None) → freed with its
last reference.  The typical sequence of a reader::

    page = find_get_page(mapping, index)       # vfsim.mm.mapping; a reference
    lock_page(page)
    if page.mapping is not mapping: ...        # truncated meanwhile: unlock, put, look again
    unlock_page(page)
    put_page(page)

What guards what.  The page lock (``lock``) guards ``mapping`` and ``index`` (together with the
mapping's ``tree_lock``), filling the page with data, and being truncated: a locked page stays in
its mapping.  The lock sleeps and may be given to an I/O, whose completion then unlocks from an
interrupt.  ``private`` (the page's buffers) changes only under the page lock and the mapping's
``private_lock``.  The flags are atomic bits; ``tags`` belong to the mapping's tree and are guarded
by its ``tree_lock``.  ``refcount`` is atomic.

Dirtiness is several separate facts.  For one page: ``dirty`` (PG_dirty) and the tree's dirty tag.
They agree whenever the page is unlocked; between ``clear_page_dirty_for_io`` and
``set_page_writeback`` (or a redirty) the tag alone remembers that data must not be forgotten.

Analogous to Linux's ``struct page`` as file pages use it.  Not built: mapping pages into processes
(VMAs), reclaim, swap, migration, huge pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from weakref import ref

from vfsim.checks.blame import innermost
from vfsim.checks.bugs import bug, warn
from vfsim.checks.calls import tell
from vfsim.checks.instances import ascending, order_by
from vfsim.checks.lifetime import free, note_ref
from vfsim.checks.obligations import settle
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.memalloc import GFP_KERNEL
from vfsim.locks.slab import kmalloc
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.shared import guarded_by, kernel_struct
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.block.buffer import BufferHead
    from vfsim.mm.mapping import AddressSpace
    from vfsim.sim.task import Task

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

DIRTY, WRITEBACK, TOWRITE = 1, 2, 4
"""The tags of a page's slot in its mapping's tree, as bits (Linux: ``PAGECACHE_TAG_*``)."""

_MAPPING = guarded_by("lock", lockless=True, publishes=True)


@kernel_struct
class Page:
    """4096 bytes of one file (Linux: ``struct page``).

    Attributes:
        lock: PG_locked.
        mapping, index: which file's, and which part; ``mapping`` is None before it is added and
            once it is removed.
        data: the bytes.
        refcount: references; the mapping has one.
        private: its buffers in order, or None.
        tags: the tree's tags of this page's slot, as bits (see `vfsim.mm.mapping`).
        uptodate, dirty, writeback, error: the PG_ bits of these names.
        io_count: bios in flight from or to this page.
        started: how often it went under writeback.
        writer: who set ``writeback``, until I/O was submitted; for the report of a hang.
        written: where waiters for the end of writeback sleep.
    """

    mapping: Annotated[AddressSpace | None, guarded_by("lock", lockless=True, publishes=True)] = (
        None
    )
    index: Annotated[int, guarded_by("lock", lockless=True)] = 0
    refcount: int = 1
    private: Annotated[
        list[BufferHead] | None, guarded_by("lock", read=("mapping.private_lock",))
    ] = None
    tags: Annotated[int, guarded_by("mapping.tree_lock")] = 0
    uptodate: bool = False
    dirty: bool = False
    writeback: bool = False
    error: bool = False
    io_count: int = 0
    started: int = 0
    writer: Task | None = None
    lock: SleepBit = None  # type: ignore[assignment]
    written: WaitQueue = None  # type: ignore[assignment]
    data: bytearray = None  # type: ignore[assignment]

    if TYPE_CHECKING:

        @property
        def raw_tags(self) -> int:
            """The slot itself, for who looks on."""

    def __attrs_post_init__(self) -> None:
        self.lock = SleepBit("page_lock", tried=True)
        self.lock.of = ref(self)
        self.written = WaitQueue("PG_writeback")
        self.data = bytearray(PAGE_SIZE)

    def _check(self) -> None:
        assert len(self.data) == PAGE_SIZE
        assert self.refcount >= 0 and self.io_count >= 0
        if self.mapping is None:
            assert not self.tags and not self.writeback, (
                f"{self} was removed while it was being written"
            )
            return
        assert self.refcount > 0, f"{self} is in a tree that holds no reference"
        assert self.writeback == bool(self.tags & WRITEBACK)
        if not self.lock.is_locked() and self.mapping.host.i_sb.s_bdi is not None:
            # without a place to write to, dirty pages are not tagged (set_page_dirty_no_writeback)
            assert self.dirty == bool(self.tags & DIRTY), (
                f"{self}: PG_dirty and the dirty tag differ"
            )
        assert not self.dirty or self.uptodate or self.private, "unknown bytes must not be written"
        for bh in self.private or ():
            bh._check()

    def __repr__(self) -> str:
        bits = " ".join(b for b in ("uptodate", "dirty", "writeback", "error") if getattr(self, b))
        return f"page({self.index}{': ' if bits else ''}{bits})"


def page_cache_alloc(gfp: int = GFP_KERNEL) -> Page:
    """Sleeps.  A fresh page with one reference, full of zeroes.

    Raises:
        ENOMEM: there is none.
    Linux: ``page_cache_alloc``.
    """
    kmalloc(gfp)
    page = Page()
    note_ref(page, +1, "new", 1)
    return page


# -- references ------------------------------------------------------------------------------------


def get_page(page: Page) -> None:
    """Never sleeps.  Take a reference; the caller must have one or hold the tree lock.

    Linux: ``get_page``.
    """
    page.refcount += 1
    note_ref(page, +1, "get_page", page.refcount)


def put_page(page: Page) -> None:
    """Never sleeps.  Give a reference back; the last one frees the page.  Linux: ``put_page``."""
    page.refcount -= 1
    note_ref(page, -1, "put_page", page.refcount)
    if not page.refcount:
        _free_page(page)


def _free_page(page: Page) -> None:
    if page.mapping is not None or page.lock.is_locked() or page.writeback:
        bug("ref.page", f"{page} lost its last reference while in use")
    free(page, "page")


# -- the page lock ---------------------------------------------------------------------------------


def lock_page(page: Page) -> None:
    """Sleeps.  Take the page lock.  Linux: ``lock_page``."""
    page.lock.lock()


order_by(
    "page_lock", ascending("index", lambda page: page.index, lambda a, b: a.mapping is b.mapping)
)


def trylock_page(page: Page) -> bool:
    """Never sleeps.  Take the page lock if it is free.  Linux: ``trylock_page``."""
    return page.lock.trylock()


def unlock_page(page: Page) -> None:
    """Never sleeps.  Let go of the page lock; also from the interrupt that ends a read.

    Linux: ``unlock_page``.
    """
    if not page.lock.is_locked():
        bug("page.unlock", f"{page} unlocked although it was not locked")
    duty = settle(("unlock", page))
    if duty is not None and duty.task is K.cur and duty.caller is innermost(K.cur):
        warn("P20", f"{page} unlocked by the caller of {duty.site.title}(), which does that itself")
    page.lock.unlock()


def wait_on_page_locked(page: Page) -> None:
    """Sleeps.  Until the page is unlocked, without locking it.  Linux: ``wait_on_page_locked``."""
    page.lock.wait()


def wait_on_page_writeback(page: Page) -> None:
    """Sleeps.  Until the page is not under writeback.  Linux: ``wait_on_page_writeback``."""
    if page.writeback:
        tell("wait", page)
        page.written.wait_event(lambda: not page.writeback, owner=lambda: page.writer)


# -- I/O that is no bio ----------------------------------------------------------------------------


def begin_page_io(page: Page) -> None:
    """Never sleeps.  I/O that is no bio (to a server, say) was started: somebody will end it.

    For filesystems that do their own; bios count themselves.  Without it ``writepage`` looks as if
    nobody were left to call `end_page_writeback`.  vfsim's own word.
    """
    tell("submit", page)
    page.io_count += 1
    page.writer = None


def end_page_io(page: Page) -> None:
    """Never sleeps.  That I/O is done; `end_page_writeback` or `unlock_page` follows."""
    page.io_count -= 1


# -- contents --------------------------------------------------------------------------------------


def zero_user_segment(page: Page, start: int, end: int) -> None:
    """Never sleeps.  Zero bytes ``start`` to ``end`` of the page.  Linux: ``zero_user_segment``."""
    if end > start:
        page.data[start:end] = bytes(end - start)


def page_has_buffers(page: Page) -> bool:
    """Never sleeps.  Whether the page has buffers (Linux: ``PagePrivate``)."""
    return page.private is not None
