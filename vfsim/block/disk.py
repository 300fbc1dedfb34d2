"""A RAM disk: sectors in a dictionary, behind latency and an interrupt.

The disk is a SimPy process over a plain deque: it takes the oldest bio, lets the service time pass,
moves the data, and posts an interrupt to the CPU that submitted the bio.  All else (locks, queues,
who is told) is the kernel's business in ``queue.py``.  The data of a write is read from memory when
the disk serves it, not when it was submitted: who changes a page under I/O changes what is written,
as with DMA.

A `RamDisk` made by a filesystem's class body is a description; every world gets a copy (`copy`) and
attaches it (`vfsim.block.device.add_disk`)::

    disk = RamDisk(sectors=2048, latency_ns=50_000)
    ToyFS.mkfs(disk)                       # straight to the medium: write_sectors()
    bdev = add_disk(disk.copy(), machine)

States: detached (only `read_sectors` and `write_sectors` work) → attached to one machine, idle or
serving.  No lock: the medium is touched by the disk's own process and, outside of it, by whoever
has it alone.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from vfsim.block.bio import READ, SECTOR_SHIFT, SECTOR_SIZE, WRITE, Bio
from vfsim.block.operations import BlockDeviceOperations
from vfsim.block.queue import RequestQueue
from vfsim.sim.faults import IO, fails

if TYPE_CHECKING:
    from collections.abc import Generator

    import simpy

    from vfsim.sim.machine import Machine

_EIO = 5
_ZEROES = bytes(SECTOR_SIZE)


class RamDiskOperations(BlockDeviceOperations):
    """The driver of a RAM disk: opening and releasing it need nothing done."""


class RamDisk:
    """A disk of ``sectors`` sectors that serves one bio at a time.

    Args:
        sectors: its size, in units of `SECTOR_SIZE`.
        latency_ns: what serving one bio takes.
        name: how reports and devices call it.
        depth: how many bios it accepts at once.

    I/O fails by choice only (`vfsim.sim.faults.IO`): then the data is not moved.
    """

    def __init__(
        self,
        sectors: int = 4096,
        latency_ns: int = 100_000,
        name: str = "ram0",
        depth: int = 32,
    ) -> None:
        if sectors < 1 or latency_ns < 0:
            raise ValueError(f"a disk has sectors and takes its time, not {sectors=} {latency_ns=}")
        self.capacity = sectors
        self.latency_ns = latency_ns
        self.name = name
        self.depth = depth
        self.fops: BlockDeviceOperations = RamDiskOperations()
        self.served = 0
        self._medium: dict[int, bytes] = {}
        self._ring: deque[Bio] = deque()
        self._idle: simpy.Event | None = None
        self._machine: Machine | None = None

    def copy(self) -> RamDisk:
        """A detached disk with the same contents and the same driver."""
        twin = type(self)(self.capacity, self.latency_ns, self.name, self.depth)
        twin.fops = self.fops
        twin._medium = dict(self._medium)
        return twin

    # -- straight to the medium --------------------------------------------------------------------

    def read_sectors(self, sector: int, count: int) -> bytes:
        """What is on the medium, with no time passing: for mkfs and tests.

        Raises:
            ValueError: beyond the end of the disk.
        """
        self._within(sector, count)
        return b"".join(self._medium.get(s, _ZEROES) for s in range(sector, sector + count))

    def write_sectors(self, sector: int, data: bytes) -> None:
        """Put whole sectors on the medium, with no time passing: for mkfs and tests.

        Raises:
            ValueError: beyond the end of the disk, or not whole sectors.
        """
        if len(data) % SECTOR_SIZE:
            raise ValueError(f"a disk stores sectors of {SECTOR_SIZE} bytes, not {len(data)} bytes")
        self._within(sector, len(data) >> SECTOR_SHIFT)
        self._store(sector, data)

    def is_blank(self) -> bool:
        """Whether nothing was ever written to it."""
        return not self._medium

    def _within(self, sector: int, count: int) -> None:
        if sector < 0 or sector + count > self.capacity:
            raise ValueError(f"{self!r} has no sectors {sector} to {sector + count - 1}")

    def _store(self, sector: int, data: bytes | memoryview) -> None:
        for start in range(0, len(data), SECTOR_SIZE):
            self._medium[sector + (start >> SECTOR_SHIFT)] = bytes(
                data[start : start + SECTOR_SIZE]
            )

    # -- the hardware ------------------------------------------------------------------------------

    def attach(self, machine: Machine) -> RequestQueue:
        """Plug the disk into a machine and start it; returns its queue.  Use `add_disk`.

        Raises:
            ValueError: it is in another machine already.
        """
        if self._machine is not None:
            raise ValueError(f"{self!r} is in a machine already: give each world a copy()")
        self._machine = machine
        self.queue = RequestQueue(self, self.depth)
        machine.env.process(self._serve(machine))
        return self.queue

    def start(self, bio: Bio) -> None:
        """Never sleeps.  The queue hands over a bio (``queue_lock`` held)."""
        self._ring.append(bio)
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.succeed()

    def _serve(self, machine: Machine) -> Generator[simpy.Event, Any, None]:
        """The disk's life, as a SimPy process."""
        env = machine.env
        while True:
            if not self._ring:
                self._idle = env.event()
                yield self._idle
            bio = self._ring.popleft()
            if self.latency_ns:
                yield env.timeout(self.latency_ns)
            error = self._transfer(bio)
            self.served += 1
            machine.post_irq(bio.bi_cpu, self.queue.complete, bio, error, name=f"{self.name}-irq")

    def _transfer(self, bio: Bio) -> int:
        """Move the data; returns 0 or an errno."""
        if bio.bi_sector + bio.sectors > self.capacity:
            return _EIO
        if fails(IO):
            return _EIO
        if bio.bi_op is READ:
            bio.bi_data[:] = self.read_sectors(bio.bi_sector, bio.sectors)
        elif bio.bi_op is WRITE:
            self._store(bio.bi_sector, bio.bi_data)
        return 0

    def _check(self) -> None:
        assert all(
            0 <= s < self.capacity and len(d) == SECTOR_SIZE for s, d in self._medium.items()
        )
        assert self._idle is None or not self._ring, "idle, with bios to serve"

    def __repr__(self) -> str:
        return f"RamDisk({self.name}, {self.capacity} sectors)"
