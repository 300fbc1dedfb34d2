"""Faults: memory that is not there, user memory that is gone, a disk that fails.

================ ===================================== ============================================
kind             asked at                              what fails
================ ===================================== ============================================
`ALLOC`          `vfsim.locks.slab.kmalloc`            ENOMEM
`COPY`           `copied`, `fault_in`                  a copy from or to user memory: short, EFAULT
`IO`             the disk, for each bio it serves      EIO
`PRESSURE`       `kmalloc` that may wait               nothing: caches are shrunk first
================ ===================================== ============================================

Each is a choice of the strategy (`Machine.choose`) in which 0 means that all is well, so that a
run with faults is replayed like any other.  A kind is asked about only where it is on:
``Machine.faults`` has those that are.  ``Machine.failed`` counts what was made to fail: the results
of such a run say nothing, but its locks, references and invariants must be right all the same.
`PRESSURE` makes nothing fail and is not counted: whatever the caches forget, results stay.

After Linux's fault-injection framework (``failslab``, ``fail_page_alloc``, ``fail_make_request``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.sim.errors import EFAULT
from vfsim.sim.state import NOBODY, K

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOC, COPY, IO, PRESSURE = "alloc", "copy", "io", "pressure"
KINDS = (ALLOC, COPY, IO, PRESSURE)

_SHORT, _NONE = 1, 2


def kinds(names: str | Iterable[str]) -> tuple[str, ...]:
    """The kinds of fault named, in their own order, from a list or ``"alloc,io"``.

    Raises:
        ValueError: there is no such kind.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    for name in wanted:
        if name not in KINDS:
            raise ValueError(f"there is no fault called {name!r}: they are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in wanted)


def fails(kind: str) -> bool:
    """Never sleeps.  Whether to fail here, where faults of that kind may be on."""
    return _choose(kind, 2) > 0


def _choose(kind: str, n: int) -> int:
    machine = K.machine
    if K.cur is NOBODY or kind not in machine.faults:
        return 0
    chosen = machine.choose(kind, n)
    if chosen:
        machine.failed += 1
    return chosen


def pressed() -> bool:
    """Never sleeps.  Whether memory is so short here that some must be freed first."""
    machine = K.machine
    if K.cur is NOBODY or PRESSURE not in machine.faults:
        return False
    return machine.choose(PRESSURE, 2) > 0


def copied(count: int) -> int:
    """Never sleeps.  How many of ``count`` bytes a copy from or to user memory comes to."""
    if not count:
        return 0
    chosen = _choose(COPY, 3)
    return count // 2 if chosen == _SHORT else 0 if chosen == _NONE else count


def fault_in() -> None:
    """Never sleeps.  User memory is about to be used: see that it is there.

    Raises:
        EFAULT: it is not.
    """
    if fails(COPY):
        raise EFAULT()
