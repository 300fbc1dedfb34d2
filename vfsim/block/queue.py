"""The request queue of one disk: first come, first served, no plugging, no merging.

A bio's way: `submit_bio` appends it to ``fifo`` and starts the hardware → the hardware has at most
``depth`` bios at a time (``in_flight``) → its interrupt calls `RequestQueue.complete`, which takes
the bio off, starts the next one and ends the bio.

``queue_lock`` guards ``fifo`` and ``in_flight``.  The interrupt takes it, so everybody else takes
it with interrupts off.  Nothing is taken inside it, and no bio ends inside it: its handler may
submit again.

Analogous to Linux's ``request_queue`` with the noop elevator.  Submitting never waits for a free
request.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vfsim.block.bio import FLUSH, NEW, QUEUED, WRITE, Bio, bio_endio
from vfsim.checks.bugs import bug
from vfsim.checks.calls import tell
from vfsim.locks.completion import Completion
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import oserror
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.block.device import BlockDevice
    from vfsim.block.disk import RamDisk

_NO_DATA = memoryview(bytearray())


class RequestQueue:
    """The queue of one disk.

    Attributes:
        queue_lock: guards the two below; irq-safe.
        fifo: bios the hardware has no room for yet, oldest first.
        in_flight: bios the hardware has, oldest first.
        depth: how many it takes at a time.
    """

    __slots__ = ("depth", "disk", "fifo", "in_flight", "queue_lock")

    def __init__(self, disk: RamDisk, depth: int = 32) -> None:
        if depth < 1:
            raise ValueError(f"a queue needs room for at least one bio, not {depth}")
        self.disk = disk
        self.depth = depth
        self.queue_lock = SpinLock("queue_lock")
        self.fifo: deque[Bio] = deque()
        self.in_flight: dict[Bio, None] = {}

    def submit(self, bio: Bio) -> None:
        """Never sleeps.  Hand a bio to the device; an interrupt will call its end_io."""
        if bio.state is not NEW:
            bug("bio.resubmitted", f"{bio} submitted while {bio.state}")
        bio.state = QUEUED
        bio.bi_cpu = K.cur.cpu.index
        if bio.bi_page is not None:
            if bio.bi_op is WRITE:
                tell("submit", bio.bi_page)
            bio.bi_page.io_count += 1
            bio.bi_page.writer = None  # from here on the I/O ends its writeback
        flags = self.queue_lock.lock_irqsave()
        self.fifo.append(bio)
        self._start_locked()
        self.queue_lock.unlock_irqrestore(flags)

    def complete(self, bio: Bio, error: int) -> None:
        """Never sleeps.  The disk's interrupt handler: that bio is done."""
        flags = self.queue_lock.lock_irqsave()
        del self.in_flight[bio]
        self._start_locked()
        self.queue_lock.unlock_irqrestore(flags)
        bio_endio(bio, error)

    def _start_locked(self) -> None:
        """Never sleeps.  Give the hardware what it has room for."""
        while self.fifo and len(self.in_flight) < self.depth:
            bio = self.fifo.popleft()
            self.in_flight[bio] = None
            self.disk.start(bio)

    def _check(self) -> None:
        assert len(self.in_flight) <= self.depth
        assert not self.fifo or len(self.in_flight) == self.depth, "room, and somebody waits for it"
        for bio in (*self.in_flight, *self.fifo):
            assert bio.state is QUEUED, bio
            bio._check()

    def __repr__(self) -> str:
        counts = f"{len(self.in_flight)} in flight, {len(self.fifo)} waiting"
        return f"request_queue({self.disk.name}: {counts})"


def submit_bio(bio: Bio) -> None:
    """Never sleeps.  Send a bio to its device.  Linux: ``submit_bio``."""
    bio.bi_bdev.bd_queue.submit(bio)


def submit_bio_wait(bio: Bio) -> None:
    """Sleeps.  Send a bio and wait until it is done.

    Raises:
        OSError: the device's error.
    Linux: ``submit_bio_wait``.
    """
    done = Completion("bio_wait")
    bio.bi_private = done
    bio.bi_end_io = _end_wait
    submit_bio(bio)
    done.wait()
    if bio.bi_error:
        raise oserror(bio.bi_error)


def _end_wait(bio: Bio) -> None:
    bio.bi_private.complete()


def blkdev_issue_flush(bdev: BlockDevice) -> None:
    """Sleeps.  Wait until everything the device said it wrote is on the medium.

    Raises:
        EIO: the device failed.
    Linux: ``blkdev_issue_flush``.
    """
    submit_bio_wait(Bio(bdev, FLUSH, 0, _NO_DATA, _end_wait))
