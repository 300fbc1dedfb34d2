"""The bare operations that everything is compared with.

======  ==========================================================================
S       a greenlet round trip: two switches
M       a call of a method that stores one slot
P       a bare lock pair: two such calls
C       a bare call of an operation: ``inode.i_op.lookup(dir, dentry, flags)``
F       a read of a slot of an attrs class
======  ==========================================================================
"""

from __future__ import annotations

from time import process_time
from typing import Any

import attrs
from greenlet import getcurrent, greenlet

from benchmarks.measure import Timed


class Slot:
    """One slot, and methods that store it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def store(self) -> None:
        self.value = True

    def clear(self) -> None:
        self.value = None


class Ops:
    """A table of operations that does nothing."""

    def lookup(self, dir: Any, dentry: Any, flags: int) -> Any:
        return None


@attrs.define(eq=False)
class Fields:
    """A plain kernel structure."""

    i_size: int = 0
    i_op: Any = None


def _pong() -> None:
    parent = getcurrent().parent
    assert parent is not None
    while True:
        parent.switch()


_other = greenlet(_pong)
_other.switch()


def round_trip(n: int) -> float:
    """S."""
    _other.parent = getcurrent()
    switch = _other.switch
    start = process_time()
    for _ in range(n):
        switch()
    return process_time() - start


def method(n: int) -> float:
    """M."""
    slot = Slot()
    start = process_time()
    for _ in range(n):
        slot.store()
    return process_time() - start


def pair(n: int) -> float:
    """P."""
    slot = Slot()
    start = process_time()
    for _ in range(n):
        slot.store()
        slot.clear()
    return process_time() - start


def call(n: int) -> float:
    """C."""
    inode = Fields(i_op=Ops())
    directory = dentry = inode
    start = process_time()
    for _ in range(n):
        inode.i_op.lookup(directory, dentry, 0)
    return process_time() - start


def field(n: int) -> float:
    """F."""
    inode = Fields()
    start = process_time()
    for _ in range(n):
        inode.i_size  # noqa: B018
    return process_time() - start


REFERENCES: dict[str, Timed] = {"S": round_trip, "M": method, "P": pair, "C": call, "F": field}
