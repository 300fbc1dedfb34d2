"""What race cases are written with: a structure with every lock, and the lists of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs

from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqLock
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.shared import (
    guarded_by,
    kernel_struct,
    ordered,
    shared,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine

    Row = Callable[[Machine, "Cell"], Any]


@kernel_struct
class Cell:
    """A field of every kind of protection, and every lock there is."""

    spin: SpinLock = attrs.field(factory=lambda: SpinLock("cell.spin"))
    other: SpinLock = attrs.field(factory=lambda: SpinLock("cell.other"))
    mutex: Mutex = attrs.field(factory=lambda: Mutex("cell.mutex"))
    sem: RwSem = attrs.field(factory=lambda: RwSem("cell.sem"))
    bit: BitLock = attrs.field(factory=lambda: BitLock("cell.bit"))
    page: SleepBit = attrs.field(factory=lambda: SleepBit("cell.page"))
    ref: LockRef = attrs.field(factory=lambda: LockRef("cell.ref", 2))
    seqlock: SeqLock = attrs.field(factory=lambda: SeqLock("cell.seq"))
    queue: WaitQueue = attrs.field(factory=lambda: WaitQueue("cell.queue"))
    done: Completion = attrs.field(factory=lambda: Completion("cell.done"))
    value: Annotated[int, guarded_by("spin")] = 0
    both: Annotated[int, guarded_by("spin", "mutex")] = 0
    stat: Annotated[int, guarded_by("spin", lockless=True)] = 0
    pointer: Annotated[Any, guarded_by("spin", rcu=True)] = None
    shown: Annotated[Any, guarded_by("spin", lockless=True, publishes=True)] = None
    hidden: Annotated[Any, guarded_by("spin", lockless=True)] = None
    pair: Annotated[int, guarded_by("seqlock", seq="seqlock.count")] = 0
    peer: Annotated[Any, guarded_by("seqlock", seq="seqlock.count")] = None
    half: Annotated[int, guarded_by("seqlock", seq="seqlock.count", lockless=True)] = 0
    data: Annotated[int, ordered] = 0
    count: Annotated[int, shared] = 0
    flag: Annotated[int, shared] = 0
    born: Annotated[int, guarded_by("spin", unless=("unpublished", "dying"))] = 0
    is_new: bool = False
    is_dying: bool = False

    def unpublished(self) -> bool:
        """Never sleeps.  Whether nobody else can see it yet."""
        return self.is_new

    def dying(self) -> bool:
        """Never sleeps.  Whether nobody else can see it any more."""
        return self.is_dying


RACES: dict[str, Row] = {}
"""The rows that race."""
AT_ONCE: dict[str, Row] = {}
"""Those of them that race in the quiet schedule, and not in all."""
CLEAN: dict[str, Row] = {}
"""The rows that do not."""


def races(row: Row) -> Row:
    """A row that must be caught."""
    RACES[row.__name__.strip("_").replace("_", "-")] = row
    return row


def races_one_way(row: Row) -> Row:
    """A row that must be caught in the quiet schedule; in another order it is none."""
    AT_ONCE[row.__name__.strip("_").replace("_", "-")] = row
    return row


def clean(row: Row) -> Row:
    """A row that must be silent."""
    CLEAN[row.__name__.strip("_").replace("_", "-")] = row
    return row


def both(m: Machine, one: Callable[[], Any], other: Callable[[], Any]) -> None:
    """Two tasks."""
    m.spawn(one, name="one")
    m.spawn(other, name="other")


def read(c: Cell) -> int:
    """Never sleeps."""
    return c.value


def write(c: Cell) -> None:
    """Never sleeps."""
    c.value = 1


def locked(lock: Any, fn: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """A task's function: the call under a lock."""

    def inside() -> None:
        with lock:
            fn(*args)

    return inside
