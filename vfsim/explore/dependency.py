"""Which operations depend on each other: the one table that POS, DPOR and coverage share.

Two operations *depend* on each other if their order can matter: they touch the same object, and
doing them the other way round could give another state or another answer.  Everything that is not
written down here as commuting depends, an unknown kind too: a lock that nobody thought of costs
schedules, never bugs.

Besides the kinds that scheduling points announce there are a few that `vfsim.explore.record`
derives from what a step did:

============ =======================================================================================
release      a lock with one owner was let go
queue        a reader or writer had to get in line for an rwsem
resume       a task that waited for this object goes on
up_contended an rwsem was let go while somebody was in line
rcu_end      a read section was left that a grace period waited for
block        a task went to sleep, so that a wake-up of this task has an effect
irq          interrupts or softirqs were turned off or on, on this CPU
deliver      a handler begins on this CPU
timer, tick  a timer was set or taken back; time passed to the next event
use, keep    a task (_irq: a handler) ran on this CPU; others of it are kept out from, or until, now
============ =======================================================================================

The idea of one explicit relation is from the literature on partial-order reduction: Godefroid,
"Partial-Order Methods for the Verification of Concurrent Systems" (1996).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vfsim.sim.shared import Field

COMMUTES: dict[str, tuple[str, ...]] = {
    # declared fields: reads leave them as they are
    "read": ("read",),
    "write": (),
    # locks with one owner: whoever comes first changes what the other finds
    "lock": (),
    "spin_lock": (),
    "bit_lock": (),
    "trylock": (),
    "unlock": (),
    "unlocking": (),
    "spin_unlock": (),
    "bit_unlock": (),
    "release": (),
    "disown": (),
    # reader/writer semaphores: readers commute as long as nobody is in line
    "down_read": ("down_read", "up_read"),
    "up_read": ("down_read", "up_read"),
    "down_write": (),
    "up_write": (),
    "downgrade_write": (),
    "up_contended": (),
    "queue": (),
    "resume": (),
    # reader/writer spinlocks are queued, readers among writers: nothing commutes
    "read_lock": (),
    "write_lock": (),
    # lockrefs: two increments commute; a decrement tells what is left
    "lockref_get": ("lockref_get",),
    "lockref_put": (),
    "mnt_get": (),
    # sequence counters: readers look, writers change
    "read_begin": ("read_begin", "raw_begin", "read_retry"),
    "raw_begin": ("read_begin", "raw_begin", "read_retry"),
    "read_retry": ("read_begin", "raw_begin", "read_retry"),
    "seq_write": (),
    "seq_end": (),
    "seq_invalidate": (),
    # RCU: a grace period looks at who is inside when it begins, and ends with the last of them
    "rcu_read_lock": (
        "rcu_read_lock", "rcu_read_unlock", "rcu_end", "rcu_barrier", "rcu_call",
    ),
    "rcu_read_unlock": (
        "rcu_read_lock", "rcu_read_unlock", "rcu_end", "rcu_barrier", "rcu_call",
    ),
    "rcu_end": ("rcu_read_lock", "rcu_read_unlock", "rcu_barrier"),
    "synchronize_rcu": ("synchronize_rcu", "rcu_barrier", "rcu_call"),
    "call_rcu": (),
    "rcu_call": ("rcu_read_lock", "rcu_read_unlock", "synchronize_rcu"),
    "rcu_barrier": ("rcu_read_lock", "rcu_read_unlock", "rcu_end", "synchronize_rcu",
                    "rcu_barrier"),
    # SRCU: as RCU, but each domain is an object of its own
    "srcu_read_lock": ("srcu_read_lock", "srcu_read_unlock"),
    "srcu_read_unlock": ("srcu_read_lock", "srcu_read_unlock"),
    "call_srcu": (),
    # work queues: work is done in the order in which it was queued
    "queue_work": (),
    "work": (),
    "flush": (),
    # what a torture test does to its object
    "step": (),
    # waiting: the order in a queue is the order of waking
    "wait": (),
    "wake_up": (),
    "complete": (),
    "wake": (),
    "block": (),
    # CPUs: whether a handler may come depends on its own CPU's switches, and on nothing else
    "irq": ("irq",),
    "deliver": ("deliver",),
    # for the search only: a CPU as something that a task uses, and may keep to itself
    "use": ("use", "use_irq"),
    "use_irq": ("use", "use_irq", "keep"),
    "keep": ("use_irq",),
    "keep_irq": (),
    # time: what is due next depends on every timer
    "timer": (),
    "tick": (),
}  # fmt: skip
"""For each kind of operation those that commute with it on the same object."""

READERS = frozenset(kind for kind, others in COMMUTES.items() if kind in others) - {
    "synchronize_rcu", "rcu_barrier",
}  # fmt: skip
"""Kinds of operation that leave an object as it is: two of them commute (a grace period waits)."""

ALONE = frozenset(
    {"start", "yield", "resched", "preempt on", "irq off", "irq on", "bh on", "choose"}
)
"""Kinds of operation that have no object: alone they depend on nothing."""

REMARKS = frozenset(
    {
        "enter", "leave", "blocks", "spins", "woken", "spawn", "exit", "phase", "BUG", "sleeps",
        "syscall", "queues",
    }
)  # fmt: skip
"""What only a trace notes, and what is no operation of its own."""

_COMMUTING = frozenset((a, b) for a, others in COMMUTES.items() for b in others)


class Op(NamedTuple):
    """One operation: its kind, and the object it is done to."""

    kind: str
    obj: Any


def ordered(one: str, other: str) -> bool:
    """Whether the order of two kinds of operation on the same object can matter."""
    return (one, other) not in _COMMUTING


def dependent(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether the order of two operations (kind, object) can matter."""
    a, b = one[1], other[1]
    if a is not b:
        if type(a) is not Field or type(b) is not Field or a.of is not b.of or a.name != b.name:
            return False
    elif a is None:
        return False
    return (one[0], other[0]) not in _COMMUTING
