"""Lockdep's own self-test, run over the real locks: 253 cases of v4.9 and 382 of v5.17.

The cases are data (`vfsim.testing.selftest.lockdep_table`).  Each runs as one task in a world of
its own: the point of lockdep is that it reports from one sequence of operations what several tasks
could run into.  Interrupts are entered as the kernel's test does, by marking the task.  What a
trace leaves held is forgotten at its end, as the kernel's test forgets it between two cases.
"""

from __future__ import annotations

import errno
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from vfsim.checks.judge import KernelJudge
from vfsim.locks import memalloc, rcu_flavours
from vfsim.locks.debugging import init_lock
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read_lock, rcu_read_unlock
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import RawSpinLock, SpinLock
from vfsim.locks.ww_mutex import WwClass, WwContext, WwMutex
from vfsim.sim import cpu
from vfsim.sim.context import (
    BH_OFF,
    HARDIRQ,
    HARDIRQ_UNTHREADED,
    IRQ_OFF,
    ROOT,
    SOFTIRQ,
    TRY,
    enter,
    release,
)
from vfsim.sim.machine import Machine
from vfsim.sim.state import K
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case
from vfsim.testing.selftest.lockdep_table import V49, V517, Row, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.sim.context import PseudoLock
    from vfsim.sim.errors import Violation

_TOKEN = re.compile(r"(\w+)(?:\(([^)]*)\))?(?:=(\w+))?$")
_LETTERS = ("A", "B", "C", "D", "X1", "X2", "Y1", "Y2", "Z1", "Z2")
_FAMILY = WwClass("ww_lockdep")


class WrongAnswer(AssertionError):
    """A lock did not answer as the table says."""


def cases() -> Iterator[Case]:
    """Every case, of both kernels."""
    for kernel in (V49, V517):
        for row in rows(kernel):
            yield Case(
                f"{row.name}@{kernel}",
                row.name,
                CAUGHT if row.bug else SILENT,
                partial(run, row),
                fires=(row.rule,) if row.bug else (),
                blamed="test" if row.bug else "",
                why=row.trace,
            )


def run(row: Row) -> list[Violation]:
    """What the checks say of a row."""
    machine = Machine(1, judge=KernelJudge(row.rules))
    try:
        machine.spawn(Fixture().run, row.trace, name="selftest")
        machine.run()
        return list(machine.violations)
    finally:
        machine.bury()


class Fixture:
    """Fresh locks, and what each operation does with them."""

    def __init__(self) -> None:
        self.spin = {letter: SpinLock(letter[0]) for letter in _LETTERS}
        self.raw = {letter: RawSpinLock(letter) for letter in "AB"}
        self.rw = {letter: RwLock(letter[0]) for letter in _LETTERS}
        self.mutex = {letter: Mutex(letter[0]) for letter in _LETTERS}
        self.rwsem = {letter: RwSem(letter[0]) for letter in _LETTERS}
        self.ww = {name: WwMutex(_FAMILY) for name in ("o", "o2", "o3")}
        self.contexts = {name: WwContext(_FAMILY) for name in ("t", "t2")}
        self.operations: dict[str, Callable[..., Any]] = {**_STATES}
        kinds: tuple[tuple[dict[str, Any], dict[str, Callable[..., Any]]], ...] = (
            (self.spin, {"L": SpinLock.lock, "U": SpinLock.unlock, "SI": init_lock}),
            (self.raw, {"RAWL": RawSpinLock.lock, "RAWU": RawSpinLock.unlock}),
            (self.rw, {"WL": RwLock.write_lock, "WU": RwLock.write_unlock}),
            (self.rw, {"RL": RwLock.read_lock, "RU": RwLock.read_unlock, "RWI": init_lock}),
            (self.mutex, {"ML": Mutex.lock, "MU": Mutex.unlock, "MI": init_lock}),
            (self.rwsem, {"WSL": RwSem.down_write, "WSU": RwSem.up_write}),
            (self.rwsem, {"RSL": RwSem.down_read, "RSU": RwSem.up_read, "RWSI": init_lock}),
            (self.contexts, {"WWAI": WwContext.init, "WWAD": WwContext.done}),
            (self.contexts, {"WWAF": WwContext.fini}),
            (self.ww, {"WWL1": WwMutex.lock, "WWT": WwMutex.trylock, "WWU": WwMutex.unlock}),
            (self.ww, {"BL": Mutex.lock, "BT": Mutex.trylock, "BU": Mutex.unlock}),
        )
        for locks, names in kinds:
            for name, operation in names.items():
                self.operations[name] = partial(_on, locks, operation)

    def run(self, trace: str) -> None:
        """Do what a trace says, then forget what it left held."""
        for token in trace.split():
            match = _TOKEN.match(token)
            assert match is not None, token
            name, args, expected = match[1], match[2].split(",") if match[2] else [], match[3]
            operation = self.operations.get(name) or getattr(self, f"do_{name.lower()}")
            try:
                answer = _word(operation(*args))
            except OSError as error:
                answer = _ERRNO[error.errno or 0]
            if answer != (expected or ""):
                raise WrongAnswer(f"{token} answers {answer or 'nothing'} in: {trace}")
        K.cur.held = None
        K.cur.ctx = ROOT

    # -- wound/wait --------------------------------------------------------------------------------

    def do_wwl(self, lock: str, ctx: str) -> None:
        self.ww[lock].lock(self.contexts[ctx])

    def do_wws(self, lock: str, ctx: str) -> None:
        self.ww[lock].lock_slow(self.contexts[ctx])

    def do_bn(self, lock: str, ctx: str) -> None:
        self.ww[lock].lock_nest_lock(self.contexts[ctx])

    def do_sln(self, lock: str, outer: str) -> None:
        self.spin[lock].lock_nest_lock(self.spin[outer] if outer in self.spin else self.ww[outer])

    def do_away(self, name: str, ctx: str) -> None:
        """The lock is somebody else's: it leaves this task's held stack."""
        lock = self.ww[name]
        Mutex.lock(lock)
        release(K.cur, lock)
        lock.ctx = self.contexts[ctx]

    def do_back(self, name: str) -> None:
        lock = self.ww[name]
        lock.ctx = None
        K.cur.ctx = enter(K.cur.ctx, lock.key | TRY, lock)
        K.cur.held = (lock, K.cur.held)
        Mutex.unlock(lock)

    def do_copy(self, to: str, of: str) -> None:
        for field in ("stamp", "acquired", "contending", "finished"):
            setattr(self.contexts[to], field, getattr(self.contexts[of], field))

    def do_age(self, ctx: str, by: str) -> None:
        self.contexts[ctx].stamp += int(by)

    def do_acq(self, ctx: str, count: str) -> None:
        self.contexts[ctx].acquired = int(count)

    def do_noclass(self, ctx: str) -> None:
        self.contexts[ctx].ww_class = None

    def do_ctx(self, name: str, ctx: str = "") -> str:
        """Set a mutex's context, or say which it is."""
        lock = self.ww[name]
        if not ctx:
            return next((n for n, c in self.contexts.items() if c is lock.ctx), "none")
        lock.ctx = self.contexts[ctx]
        return ""

    # -- reclaim -----------------------------------------------------------------------------------

    def do_reclaim(self, gfp: str) -> None:
        memalloc.fs_reclaim_acquire(_GFP[gfp])

    def do_reclaimed(self, gfp: str) -> None:
        memalloc.fs_reclaim_release(_GFP[gfp])

    def do_alloc(self, gfp: str) -> None:
        memalloc.might_alloc(_GFP[gfp])


def _on(locks: dict[str, Any], operation: Callable[..., Any], name: str) -> Any:
    return operation(locks[name])


def _word(answer: Any) -> str:
    """What an operation answered, as the table spells it."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return answer or ""


def _push(*states: PseudoLock) -> None:
    for state in states:
        cpu.push(state)


def _pop(*states: PseudoLock) -> None:
    for state in reversed(states):
        cpu.pop(state)


_ERRNO = {errno.EDEADLK: "EDEADLK", errno.EALREADY: "EALREADY"}
_SOFTIRQ = (BH_OFF, IRQ_OFF, SOFTIRQ)
_STATES: dict[str, Callable[[], Any]] = {
    "HARDIRQ_DISABLE": cpu.local_irq_disable,
    "HARDIRQ_ENABLE": cpu.local_irq_enable,
    "HARDIRQ_ENTER": partial(_push, IRQ_OFF, HARDIRQ),
    "HARDIRQ_EXIT": partial(_pop, IRQ_OFF, HARDIRQ),
    "UNTHREADED_ENTER": partial(_push, IRQ_OFF, HARDIRQ_UNTHREADED),
    "UNTHREADED_EXIT": partial(_pop, IRQ_OFF, HARDIRQ_UNTHREADED),
    "SOFTIRQ_DISABLE": cpu.local_bh_disable,
    "SOFTIRQ_ENABLE": cpu.local_bh_enable,
    "SOFTIRQ_ENTER": partial(_push, *_SOFTIRQ),
    "SOFTIRQ_EXIT": partial(_pop, *_SOFTIRQ),
    "RCUL": rcu_read_lock,
    "RCUU": rcu_read_unlock,
    "RCUBL": rcu_flavours.rcu_read_lock_bh,
    "RCUBU": rcu_flavours.rcu_read_unlock_bh,
    "RCUSL": rcu_flavours.rcu_read_lock_sched,
    "RCUSU": rcu_flavours.rcu_read_unlock_sched,
    "NOFS_SAVE": memalloc.memalloc_nofs_save,
    "NOFS_RESTORE": memalloc.memalloc_nofs_restore,
}
_GFP = {"KERNEL": memalloc.GFP_KERNEL, "NOFS": memalloc.GFP_NOFS}
