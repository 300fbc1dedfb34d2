"""Floor 2: the kernel's locks, each named and used as in Linux.

`waitqueue` carries the difficulty of waiting; everything that sleeps is a few lines on top of it or
of `vfsim.sim.scheduler.block`.  Every lock takes the name of its *class* first: order rules are
about classes.  A lock knows its ``owner`` (None if free or disowned), has ``is_locked()``,
``statistics()`` and a telling ``repr``.

Every acquire is the same few steps, written out in each lock because calls cost more than they
explain: a scheduling point, a transition of the task's context (a dictionary hit, or the judge), a
wait if the lock is taken, and a push on the held stack.
"""

from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rcu import call_rcu, rcu_read, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount, SeqLock
from vfsim.locks.spinlock import RawSpinLock, SpinLock
from vfsim.locks.srcu import Srcu
from vfsim.locks.waitqueue import WaitQueue
from vfsim.locks.ww_mutex import WwClass, WwContext, WwMutex

__all__ = [
    "BitLock",
    "Completion",
    "LockRef",
    "Mutex",
    "RawSpinLock",
    "RwLock",
    "PerCpuRwSem",
    "RwSem",
    "SeqCount",
    "SeqLock",
    "SleepBit",
    "SpinLock",
    "Srcu",
    "WaitQueue",
    "WwClass",
    "WwContext",
    "WwMutex",
    "call_rcu",
    "rcu_read",
    "rcu_read_lock",
    "rcu_read_unlock",
    "synchronize_rcu",
]
