"""The locks: an uncontended pair of each, with everything checked that a run checks."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from time import process_time

from benchmarks.engine import in_task
from benchmarks.measure import Case
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock


def without_points(method: Callable[..., None]) -> Callable[..., None]:
    """The same method, compiled from its own source with its scheduling point taken out."""
    source = textwrap.dedent(inspect.getsource(method))
    bare = re.sub(
        r" *K\.left -= 1\n *if not K\.left:\n *K\.machine\.point\(.*\)\n", "", source, count=1
    )
    assert bare != source
    space = dict(vars(sys.modules[method.__module__]))
    exec(bare, space)
    made: Callable[..., None] = space[method.__name__]
    return made


class PointlessMutex(Mutex):
    """A mutex with all its checks and no scheduling point."""

    __slots__ = ()
    lock = without_points(Mutex.lock)


def checked_mutex(n: int) -> float:
    """Lock and unlock, the checks alone."""
    lock = PointlessMutex("benchmark")
    start = process_time()
    for _ in range(n):
        lock.lock()
        lock.unlock()
    return process_time() - start


def mutex(n: int) -> float:
    """Lock and unlock as they are; the lock is a point."""
    lock = Mutex("benchmark")
    start = process_time()
    for _ in range(n):
        lock.lock()
        lock.unlock()
    return process_time() - start


def tried_mutex(n: int) -> float:
    """The same where the release is a point too."""
    lock = Mutex("benchmark", tried=True)
    start = process_time()
    for _ in range(n):
        lock.lock()
        lock.unlock()
    return process_time() - start


def spinlock(n: int) -> float:
    """Lock and unlock."""
    lock = SpinLock("benchmark")
    start = process_time()
    for _ in range(n):
        lock.lock()
        lock.unlock()
    return process_time() - start


def spinlock_irq(n: int) -> float:
    """With interrupts off."""
    lock = SpinLock("benchmark")
    start = process_time()
    for _ in range(n):
        lock.lock_irq()
        lock.unlock_irq()
    return process_time() - start


def rwsem_write(n: int) -> float:
    """Take it for writing."""
    sem = RwSem("benchmark")
    start = process_time()
    for _ in range(n):
        sem.down_write()
        sem.up_write()
    return process_time() - start


def rwsem_read(n: int) -> float:
    """Take it for reading."""
    sem = RwSem("benchmark")
    start = process_time()
    for _ in range(n):
        sem.down_read()
        sem.up_read()
    return process_time() - start


def rcu(n: int) -> float:
    """Enter and leave a read section."""
    start = process_time()
    for _ in range(n):
        rcu_read_lock()
        rcu_read_unlock()
    return process_time() - start


def seqcount(n: int) -> float:
    """Begin to read, and ask for a retry."""
    count = SeqCount("benchmark")
    start = process_time()
    for _ in range(n):
        count.read_retry(count.read_begin())
    return process_time() - start


def page_lock(n: int) -> float:
    """Lock and unlock a sleeping bit."""
    bit = SleepBit("benchmark")
    start = process_time()
    for _ in range(n):
        bit.lock()
        bit.unlock()
    return process_time() - start


CASES = [
    Case("checked mutex pair", "P", 3.0, in_task(checked_mutex)),
    Case("checked mutex pair, with points", "P", 4.5, in_task(mutex)),
    Case("checked mutex pair, tried", "P", None, in_task(tried_mutex)),
    Case("spinlock pair", "P", 5.0, in_task(spinlock)),
    Case("spinlock pair, irqs off", "P", None, in_task(spinlock_irq)),
    Case("rwsem write pair", "P", 5.5, in_task(rwsem_write)),
    Case("rwsem read pair", "P", 5.5, in_task(rwsem_read)),
    Case("RCU pair", "P", 4.0, in_task(rcu)),
    Case("seqcount read", "P", 3.5, in_task(seqcount)),
    Case("page lock pair", "P", None, in_task(page_lock)),
]
