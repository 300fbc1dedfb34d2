"""What came before what: vector clocks, and the operations that order tasks.

Two operations are ordered if they are of one task, or if something leads from the one to the other:
a lock released and then taken, a wake-up, a task or interrupt started, a grace period that waited.
What nothing orders could as well have happened the other way round, or at once.

A task's life is cut into epochs, a new one whenever something of it becomes visible to others
(`publish`).  An `Epoch` has a number and knows which epochs of others came before it (``seen``).
What others learn is an epoch that has ended and never changes; ``task.epoch`` is the one that goes
on, known to nobody else.  So "did that come before me?" is one dictionary lookup, and taking a lock
that one released oneself costs nothing.  Source: Flanagan and Freund, "FastTrack" (PLDI 2009).

=======================================  =========================================================
what orders                              what before it            what after it
=======================================  =========================================================
locks, bits, seqcounts                   release, `write_end`      acquire, `read_begin`
reader/writer semaphores                 `up_read`                 `down_write` only
wait queues, completions, `wake`         wake-up                   the end of the wait
`LockRef`                                put                       taking its lock
spawn; post_irq, raise_softirq, timer    the call                  the first step of the new one
handlers of one kind on one CPU          the end of one            the start of the next
interrupts (softirqs) off                coming on                 a handler's start on that CPU
                                         a handler's end           going off on that CPU
grace periods                            all that was done before  `synchronize_rcu`, the callback
                                         they began; the sections
                                         that they waited for
`smp_store_release` on a field           the store                 `smp_load_acquire` of it
a run of the machine                     everything                everything in the next run
=======================================  =========================================================

Nothing in the engine or in a lock knows of this.  While races are looked for, the methods named in
the tables at the end are replaced by ones that also keep the clocks, as the kernel does when it is
compiled with a sanitizer; afterwards they are what they were.

A real machine orders a little less here and there: a grace period orders also what a task did
outside of read sections, and `wait_event` orders even if it never slept.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from vfsim.checks import windows
from vfsim.checks.history import holds
from vfsim.locks import rcu
from vfsim.locks.bitlock import BitLock, SleepBit
from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim import cpu
from vfsim.sim.context import BH_OFF, IRQ, IRQ_OFF
from vfsim.sim.machine import Machine, Timer
from vfsim.sim.state import K
from vfsim.sim.task import BLOCKED, HARDIRQ, SOFTIRQ, SPINNING, TASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.task import Task

    Fn = Callable[..., Any]


class Epoch:
    """A stretch of one task's life between two moments at which others may learn of it.

    Attributes:
        who: the task, or the `Chain` of handlers; None for a sum of several epochs.
        n: its number.
        seen: the last epoch of everybody else that came before it.
    """

    __slots__ = ("n", "seen", "who")

    def __init__(self, who: Any, n: int, seen: dict[Any, int]) -> None:
        self.who = who
        self.n = n
        self.seen = seen

    def after(self, other: Epoch) -> bool:
        """Never sleeps.  Whether what was done in ``other`` came before this."""
        return other.who is self.who or self.seen.get(other.who, -1) >= other.n


class Chain:
    """The handlers of one kind on one CPU, which follow each other like the steps of one task."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = Epoch(self, 0, {})


CLOCKS: dict[Any, Epoch] = {}
"""What was published through an object last: a lock, a queue, a field that orders."""
READERS: dict[Any, Epoch] = {}
"""What the readers of a semaphore have published since it was last written."""
_chains: dict[tuple[int, int], Chain] = {}
_posts: dict[Any, Epoch] = {}  # by handler or timer: what came before it was made
_ended: dict[Any, int] = {}  # the last epochs of tasks that have ended


def begin(machine: Machine) -> None:
    """A machine begins to run: nothing has happened yet.

    Everything was still until now, so all that was done in earlier runs came before all that
    follows, and need not be remembered.
    """
    for table in (CLOCKS, READERS, _chains, _posts, _ended):
        table.clear()
    for task in machine.tasks:
        if task.kind == TASK:
            task.epoch = Epoch(task, 0, {})


def everything(machine: Machine) -> Epoch:
    """Never sleeps.  The sum of all that tasks and handlers did until now."""
    seen = dict(_ended)
    for chain in _chains.values():
        seen[chain] = chain.last.n
    for task in machine.tasks:
        if task.epoch is not None:
            ended = publish(task)
            seen[ended.who] = ended.n
    return Epoch(None, 0, seen)


def publish(task: Task) -> Epoch:
    """Never sleeps.  End the task's epoch: what it did so far, for others to learn."""
    ended: Epoch = task.epoch
    task.epoch = Epoch(ended.who, ended.n + 1, ended.seen)
    return ended


def learn(task: Task, epoch: Epoch) -> None:
    """Never sleeps.  What was published came before all that the task does from now on."""
    mine: Epoch = task.epoch
    if epoch.who is mine.who or mine.seen.get(epoch.who, -1) >= epoch.n:
        return
    mine.seen = merged(mine, epoch, keep=False).seen
    mine.seen.pop(mine.who, None)


def merged(one: Epoch, other: Epoch, keep: bool = True) -> Epoch:
    """Never sleeps.  The sum of two epochs; without ``keep``, of what ``one`` saw and the other."""
    seen = dict(one.seen)
    for who, n in other.seen.items():
        if seen.get(who, -1) < n:
            seen[who] = n
    for epoch in (one, other) if keep else (other,):
        if epoch.who is not None and seen.get(epoch.who, -1) < epoch.n:
            seen[epoch.who] = epoch.n
    return Epoch(None, 0, seen)


def release(key: Any) -> None:
    """Never sleeps.  What the task did so far comes before whoever acquires ``key`` next."""
    t = K.cur
    if t.epoch is not None:
        CLOCKS[key] = publish(t)


def add(table: dict[Any, Epoch], key: Any) -> None:
    """Never sleeps.  As `release`, beside what others released."""
    t = K.cur
    if t.epoch is not None:
        mine = publish(t)
        before = table.get(key)
        table[key] = mine if before is None or mine.after(before) else merged(before, mine)


def acquire(key: Any) -> None:
    """Never sleeps.  What was released through ``key`` comes before what the task does next."""
    e = CLOCKS.get(key)
    if e is not None:
        t = K.cur
        mine = t.epoch
        if mine is not None and e.who is not mine.who and mine.seen.get(e.who, -1) < e.n:
            learn(t, e)


# -- tasks and handlers ----------------------------------------------------------------------------


def _spawn(original: Fn) -> Fn:
    def spawn(self: Machine, *args: Any, **how: Any) -> Task:
        task: Task = original(self, *args, **how)
        creator = K.cur
        if creator.epoch is not None:
            task.epoch = Epoch(task, 0, merged(_NOTHING, publish(creator)).seen)
        return task

    return spawn


_NOTHING = Epoch(None, 0, {})


def _post(original: Fn) -> Fn:
    def post(self: Machine, *args: Any) -> None:
        original(self, *args)
        if K.cur.epoch is not None:
            _posts[self.tasks[-1]] = publish(K.cur)

    return post


def _timer(original: Fn) -> Fn:
    def timer(self: Machine, *args: Any) -> Timer:
        made: Timer = original(self, *args)
        if K.cur.epoch is not None:
            _posts[made] = publish(K.cur)
        return made

    return timer


def _expire(original: Fn) -> Fn:
    def expire(self: Timer) -> None:
        original(self)
        before = _posts.pop(self, None)
        if before is not None:
            _posts[self.machine.tasks[-1]] = before

    return expire


def _start(original: Fn) -> Fn:
    def start(self: Machine, task: Task, worker: Any = None) -> bool:
        started: bool = original(self, task, worker)
        if started and task.kind != TASK:
            at = task.cpu.index
            last = _chains.setdefault((at, task.kind), Chain()).last
            task.epoch = Epoch(last.who, last.n + 1, last.seen)
            for before in (
                _posts.pop(task, None),
                CLOCKS.get(("irq", at)),
                CLOCKS.get(("bh", at)) if task.kind == SOFTIRQ else None,
            ):
                if before is not None:
                    learn(task, before)
        return started

    return start


def _retire(original: Fn) -> Fn:
    def retire(self: Machine, task: Task) -> None:
        if task.epoch is not None:
            ended = publish(task)
            if task.kind == TASK:
                _ended[task] = ended.n
            else:
                ended.who.last = ended
        original(self, task)

    return retire


def _wake(original: Fn) -> Fn:
    def wake(self: Machine, task: Task) -> None:
        state = task.state
        waker = K.cur
        if (
            (state is BLOCKED or state is SPINNING)
            and waker.epoch is not None
            and not _ticking[0]
            and task.epoch is not None
        ):
            learn(task, publish(waker))
        original(self, task)

    return wake


def _tick(original: Fn) -> Fn:
    def tick(self: Machine) -> bool:
        _ticking[0] = True
        try:
            return original(self)  # type: ignore[no-any-return]
        finally:
            _ticking[0] = False

    return tick


_ticking = [False]
"""Time passes: whoever is woken now was woken by the clock, not by who happens to be current."""


# -- interrupts ------------------------------------------------------------------------------------


def _handlers_before(soft_only: bool = False) -> None:
    """What handlers of this CPU did came before: they are kept away from now on."""
    t = K.cur
    if _chains and t.epoch is not None:
        for kind in (SOFTIRQ,) if soft_only else (SOFTIRQ, HARDIRQ):
            chain = _chains.get((t.cpu.index, kind))
            if chain is not None:
                learn(t, chain.last)


def _coming_on() -> None:
    """What was done while handlers of this CPU were kept away comes before the next of them."""
    t = K.cur
    if t.epoch is not None:
        if t.ctx.irqs_off:
            add(CLOCKS, ("irq", t.cpu.index))
        elif t.ctx.bh_off:
            add(CLOCKS, ("bh", t.cpu.index))


def _push(original: Fn) -> Fn:
    def push(entry: Any) -> None:
        original(entry)
        if entry is IRQ_OFF or entry is BH_OFF:
            _handlers_before(entry is BH_OFF)

    return push


def _pop(original: Fn) -> Fn:
    def pop(entry: Any) -> None:
        if (entry is IRQ_OFF or entry is BH_OFF) and holds(K.cur.held, entry):
            _coming_on()
        original(entry)

    return pop


def _take(original: Fn) -> Fn:
    def take(self: SpinLock, mode: int) -> None:
        original(self, mode)
        acquire(self)
        _handlers_before(soft_only=not mode & IRQ)

    return take


def _untake(original: Fn) -> Fn:
    def untake(self: SpinLock) -> None:
        if self.owner is K.cur:
            release(self)
            _coming_on()
        original(self)

    return untake


# -- locks -----------------------------------------------------------------------------------------


def _acquires(original: Fn) -> Fn:
    def acquires(self: Any, subclass: int = 0) -> None:
        original(self, subclass)
        e = CLOCKS.get(self)
        if e is not None:
            t = K.cur
            mine = t.epoch
            if mine is not None and e.who is not mine.who and mine.seen.get(e.who, -1) < e.n:
                learn(t, e)

    return acquires


def _releases(original: Fn) -> Fn:
    def releases(self: Any) -> None:
        t = K.cur
        e = t.epoch
        if e is not None and self.owner is t:
            CLOCKS[self] = e
            t.epoch = Epoch(e.who, e.n + 1, e.seen)
        original(self)

    return releases


def _adds(original: Fn) -> Fn:
    def adds(self: Any, *args: Any) -> Any:
        add(CLOCKS, self)
        return original(self, *args)

    return adds


def _then_acquires(original: Fn) -> Fn:
    """Of what may fail, or returns a number: it orders whatever it returns but False."""

    def then(self: Any, *args: Any, **how: Any) -> Any:
        result = original(self, *args, **how)
        if result is not False:
            acquire(self)
        return result

    return then


def _down_write(original: Fn) -> Fn:
    def down_write(self: RwSem, *args: Any) -> Any:
        result = original(self, *args)
        if result is not False:
            acquire(self)
            readers = READERS.pop(self, None)
            if readers is not None and K.cur.epoch is not None:
                learn(K.cur, readers)
        return result

    return down_write


def _up_read(original: Fn) -> Fn:
    def up_read(self: RwSem) -> None:
        if K.cur in self.readers:
            add(READERS, self)
        original(self)

    return up_read


def _put(original: Fn) -> Fn:
    def put(self: LockRef) -> Any:
        add(CLOCKS, self.lock)
        return original(self)

    return put


def _read_begin(original: Fn) -> Fn:
    def read_begin(self: SeqCount) -> int:
        seq: int = original(self)
        acquire(self)
        if K.cur.epoch is not None:
            publish(K.cur)  # so that every read in the window is looked at
            windows.began(self)
        return seq

    return read_begin


def _read_retry(original: Fn) -> Fn:
    def read_retry(self: SeqCount, seq: int) -> bool:
        failed: bool = original(self, seq)
        if K.cur.epoch is not None:
            publish(K.cur)
            windows.asked(self, failed)
        return failed

    return read_retry


def _try_wait(original: Fn) -> Fn:
    def try_wait(self: Completion) -> bool:
        done: bool = original(self)
        if done:
            acquire(self.queue)
        return done

    return try_wait


# -- grace periods ---------------------------------------------------------------------------------


def _period(original: Fn) -> Fn:
    def period(self: rcu.GracePeriod, fn: Any, args: Any) -> None:
        original(self, fn, args)
        if K.cur.epoch is None:
            return
        CLOCKS[self] = everything(K.machine)
        if fn is None:
            acquire(self)

    return period


def _left(original: Fn) -> Fn:
    def left(t: Task) -> None:
        for period in t.rcu_waits or ():
            add(CLOCKS, period)
        original(t)

    return left


def _end(original: Fn) -> Fn:
    def end(self: rcu.GracePeriod, machine: Machine) -> None:
        before = CLOCKS.get(self)
        if self.waiter is not None and before is not None:
            learn(self.waiter, before)
        original(self, machine)

    return end


def _call(original: Fn) -> Fn:
    def call(self: rcu.GracePeriod) -> None:
        acquire(self)
        acquire("rcu callbacks")  # so that `rcu_barrier` learns of all of them from the last
        original(self)
        add(CLOCKS, "rcu callbacks")

    return call


def _barrier(original: Fn) -> Fn:
    def barrier(self: Any, pending: Any, waiter: Any) -> None:
        original(self, pending, waiter)
        acquire("rcu callbacks")

    return barrier


# -- the tables ------------------------------------------------------------------------------------

HOOKS: list[tuple[Any, str, Callable[[Fn], Fn]]] = [
    (Machine, "spawn", _spawn),
    (Machine, "_post", _post),
    (Machine, "_start", _start),
    (Machine, "_retire", _retire),
    (Machine, "wake", _wake),
    (Machine, "tick", _tick),
    (Machine, "timer", _timer),
    (Timer, "expire", _expire),
    (cpu, "push", _push),
    (cpu, "pop", _pop),
    (SpinLock, "_take", _take),
    (SpinLock, "_unlock", _untake),
    *((kind, "lock", _acquires) for kind in (Mutex, SpinLock, BitLock, SleepBit)),
    *((kind, "trylock", _then_acquires) for kind in (Mutex, SpinLock, BitLock, SleepBit)),
    *((kind, "unlock", _releases) for kind in (Mutex, SpinLock, BitLock)),
    (SleepBit, "unlock", _adds),
    (SleepBit, "disown", _adds),
    (SleepBit, "adopt", _then_acquires),
    (SleepBit, "wait", _then_acquires),
    (RwSem, "down_write", _down_write),
    (RwSem, "down_write_trylock", _down_write),
    (RwSem, "down_read", _acquires),
    (RwSem, "down_read_trylock", _then_acquires),
    (RwSem, "up_write", _releases),
    (RwSem, "downgrade_write", _releases),
    (RwSem, "up_read", _up_read),
    (SeqCount, "read_begin", _read_begin),
    (SeqCount, "raw_begin", _read_begin),
    (SeqCount, "read_retry", _read_retry),
    (SeqCount, "write_end", _releases),
    (SeqCount, "invalidate", _adds),
    (LockRef, "put_return", _put),
    (LockRef, "put_or_lock", _put),
    (WaitQueue, "wait_event", _then_acquires),
    (WaitQueue, "wait_event_timeout", _then_acquires),
    (WaitQueue, "sleep_on", _then_acquires),
    (WaitQueue, "wake_up", _adds),
    (WaitQueue, "wake_up_all", _adds),
    (WaitQueue, "wake_now", _adds),
    (Completion, "try_wait", _try_wait),
    (rcu.GracePeriod, "__init__", _period),
    (rcu.GracePeriod, "end", _end),
    (rcu.GracePeriod, "call", _call),
    (rcu, "_left", _left),
    (rcu._Barrier, "__init__", _barrier),
]
"""(class or module, name of the method, what makes the one that keeps the clocks).

`vfsim.checks.races` adds the write sections of sequence counters, which it looks at as well.
"""

_undo: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Keep the clocks from now on."""
    for owner, name, make in HOOKS:
        original = vars(owner)[name]
        _replace(owner, original, make(original))


def _replace(owner: Any, original: Any, new: Any) -> None:
    """Put ``new`` in every place of a class or module, and of subclasses, where that stands."""
    for name, value in list(vars(owner).items()):
        if value is original:
            setattr(owner, name, new)
            _undo.append((owner, name, original))
    if not isinstance(owner, ModuleType):
        for below in owner.__subclasses__():
            _replace(below, original, new)


def remove() -> None:
    """Put back what was there."""
    while _undo:
        setattr(*_undo.pop())
