"""A bio: one run of sectors on its way between memory and a device.

A bio's life: NEW (the submitter fills it in) → QUEUED (`RequestQueue.submit`; the device owns it
and reads or writes the memory whenever it likes) → DONE (`bio_endio`, in hardirq context, calls
``bi_end_io(bio)`` exactly once). The typical sequence::

    bio = Bio(bdev, READ, sector, memoryview(buffer), end_io) submit_bio(bio)                 #
    returns at once ...                             # later, on some CPU, in an interrupt:
    end_io(bio), which looks at bio.bi_error

No lock guards a bio: it belongs to the submitter, then to the queue (whose ``queue_lock`` guards
the queue's lists, not the bio), then to its handler.

Analogous to Linux's ``struct bio``, except that it has one segment, is never merged, split or
cloned, and ``bi_op`` is a word.  If the memory is (part of) a page-cache page, ``bi_page`` says
which, and the page's ``io_count`` counts its bios in flight, so that the contract can tell "I/O was
submitted" from "nothing was".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from vfsim.checks.bugs import bug
from vfsim.sim.shared import kernel_struct, ordered

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.block.device import BlockDevice
    from vfsim.mm.page import Page

SECTOR_SHIFT = 9
SECTOR_SIZE = 1 << SECTOR_SHIFT

READ, WRITE, FLUSH = "read", "write", "flush"
NEW, QUEUED, DONE = "new", "queued", "done"


@kernel_struct
class Bio:
    """One request to a block device.

    Attributes:
        bi_bdev: the device.
        bi_op: `READ`, `WRITE` or `FLUSH` (no data: ends when everything written before is on the
            medium).
        bi_sector: the first sector, in units of `SECTOR_SIZE`.
        bi_data: the memory, a whole number of sectors; the device copies at the moment it serves
            the bio.
        bi_end_io: called with the bio when it is done, in hardirq context: it must not sleep.
        bi_private: for ``bi_end_io``.
        bi_page: the page-cache page that ``bi_data`` is part of, or None.
        bi_error: 0, or an errno, once the bio is done.
        bi_cpu: the CPU that submitted it, which also gets the interrupt.
        state: `NEW`, `QUEUED` or `DONE`.
    """

    bi_bdev: BlockDevice
    bi_op: str
    bi_sector: int
    bi_data: memoryview
    bi_end_io: Annotated[Callable[[Bio], None], ordered]
    bi_private: Annotated[Any, ordered] = None
    bi_page: Page | None = None
    bi_error: Annotated[int, ordered] = 0
    bi_cpu: Annotated[int, ordered] = 0
    state: Annotated[str, ordered] = NEW

    def __attrs_post_init__(self) -> None:
        if self.bi_op not in (READ, WRITE, FLUSH):
            raise ValueError(f"a bio reads, writes or flushes; it cannot {self.bi_op!r}")
        if self.bi_sector < 0 or len(self.bi_data) % SECTOR_SIZE:
            raise ValueError(
                f"a bio covers whole sectors of {SECTOR_SIZE} bytes from sector 0 on, not "
                f"{len(self.bi_data)} bytes at sector {self.bi_sector}"
            )

    @property
    def sectors(self) -> int:
        """How many sectors it covers."""
        return len(self.bi_data) >> SECTOR_SHIFT

    def _check(self) -> None:
        assert self.state in (NEW, QUEUED, DONE)
        assert self.state == DONE or not self.bi_error, "an error before the end"
        assert self.bi_page is None or self.state != QUEUED or self.bi_page.io_count > 0

    def __repr__(self) -> str:
        run = f" {self.bi_sector}+{self.sectors}" if self.bi_op != FLUSH else ""
        return f"bio({self.bi_op}{run})"


def bio_endio(bio: Bio, error: int = 0) -> None:
    """Never sleeps.  The device is done with the bio: tell its submitter, exactly once (P61).

    Args:
        error: 0 or an errno.
    Called in hardirq context.  Linux: ``bio_endio``.
    """
    if bio.state is not QUEUED:
        bug("P61", f"{bio} completed while {bio.state}: a bio completes once per submission")
    bio.state = DONE
    bio.bi_error = error
    if bio.bi_page is not None:
        bio.bi_page.io_count -= 1
    bio.bi_end_io(bio)
