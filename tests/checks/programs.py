"""Random programs over locks, interrupts and shared fields, for comparing the checkers.

A program is plain data: for each task a list of steps, each a tuple whose first word is the
operation. Steps with a body hold something around it. `generate` draws one, disciplined or not, and
may then break it; `start` runs one on a machine; `text` prints it.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, Any

from vfsim.locks import memalloc
from vfsim.locks.bitlock import BitLock
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rwlock import RwLock
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock
from vfsim.sim import cpu
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import schedule_timeout
from vfsim.sim.shared import kernel_struct, ordered, shared

Step = tuple[Any, ...]
Program = list[list[Step]]

MUTEXES, RWSEMS, SPINS, RWLOCKS, BITS, SEQS, FIELDS = 4, 3, 5, 3, 1, 2, 2
CLASSES = {"m": (0, 1, 2, 2), "r": (0, 1, 1), "s": (0, 1, 2, 3, 3), "w": (0, 1, 1)}
"""Which instances share a class: the last two of a kind do."""


FORMS = ("plain", "irq", "irqsave", "bh")
"""How a spinlock or rwlock is taken."""


@kernel_struct
class Cell:
    """Fields that several tasks use, one of them a point, the other one to race for."""

    value: Annotated[int, shared] = 0
    plain: Annotated[int, ordered] = 0


# -- drawing ---------------------------------------------------------------------------------------


class Drawer:
    """Draws one program. ``ordered``: locks are taken in one order, nothing sleeps where it must
    not.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.ordered = self.random.random() < 0.6

    def pick(self, n: int) -> int:
        return int(self.random.random() * n)

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def body(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> list[Step]:
        """Some steps.  ``floor``: the rank below which an ordered program takes no lock."""
        most = 3 if depth == 0 else 2
        return [self.step(depth, floor, atomic, irq, bh) for _ in range(1 + self.pick(most))]

    def step(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> Step:
        if depth >= 3:
            return self.leaf(atomic)
        draw = self.pick(22)
        inner = depth + 1
        if draw < 4:
            return self.leaf(atomic)
        if draw == 19:
            return self.nest(inner, floor, atomic, irq, bh)
        if draw == 20:
            word = ("reclaim", "nofs")[self.pick(2)]
            return (word, self.body(inner, floor, atomic, irq, bh))
        if draw < 11:
            return self.locked(inner, floor, atomic, irq, bh)
        if draw == 11:
            return ("irq_off", self.body(inner, floor, True, True, True))
        if draw == 12:
            return ("bh_off", self.body(inner, floor, True, irq, True))
        if draw == 13:
            return ("preempt_off", self.body(inner, floor, True, irq, bh))
        if draw == 14:
            return ("rcu", self.body(inner, floor, True, irq, bh))
        if draw == 15:
            return self.tried(inner, floor, atomic, irq, bh)
        if draw == 16:
            return self.crossed(inner, floor, atomic, irq, bh)
        if draw == 17:
            return ("seq_read", self.pick(SEQS))
        if draw == 18 and (not self.ordered or floor <= 60):
            return ("seq_write", self.pick(SEQS), self.body(3, 100, True, irq, bh))
        return self.posted()

    def leaf(self, atomic: bool) -> Step:
        draw = self.pick(7)
        if draw == 6:
            careful = self.ordered and self.chance(0.95)
            if atomic and (careful or self.chance(0.9)):
                return ("alloc", "ATOMIC")
            return ("alloc", "NOFS" if careful or self.chance(0.3) else "KERNEL")
        if draw < 2:
            return ("read", self.pick(FIELDS))
        if draw < 4:
            return ("write", self.pick(FIELDS))
        if atomic and (self.ordered or self.chance(0.9)):
            return ("read", 0)
        if self.chance(0.3):
            return ("sync_rcu",)
        return ("sleep", 1000 * (1 + self.pick(3)))

    def rank(self, kind: str, i: int) -> int:
        """The place of a lock in the one order of disciplined programs; locks of one class have one
        place.
        """
        return {"m": 0, "r": 20, "s": 40, "w": 50}.get(kind, 60) + CLASSES.get(kind, (0,))[i]

    def lock(
        self, floor: int, atomic: bool, shared_too: bool = True
    ) -> tuple[str, int, int] | None:
        """A (kind, number, rank) that may be taken here, or None."""
        for _ in range(6):
            kind = ("s", "s", "m", "r", "b", "w", "w")[self.pick(7)]
            i = self.pick({"m": MUTEXES, "r": RWSEMS, "s": SPINS, "w": RWLOCKS, "b": BITS}[kind])
            rank = self.rank(kind, i)
            if not self.ordered and (not atomic or kind in "sbw" or self.chance(0.03)):
                return kind, i, rank
            if self.ordered and rank >= floor and not (atomic and kind in "mr"):
                return kind, i, rank
        return None

    def locked(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> Step:
        found = self.lock(floor, atomic)
        if found is None:
            return self.leaf(atomic)
        kind, i, rank = found
        how = "plain"
        if kind == "r":
            how = "read" if self.chance(0.5) else "downgrade" if self.chance(0.3) else "plain"
        if kind == "s":
            safe = self.ordered and i < 2  # classes s0 and s1 are the ones that interrupts take
            how = FORMS[self.pick(4)] if not safe else ("irq", "irqsave")[self.pick(2)]
        if kind == "w":  # of class w0 interrupts are readers
            side = "read" if self.chance(0.6) else "write"
            forms = ("irq", "irqsave") if self.ordered and not i and side == "write" else FORMS
            how = f"{side} {forms[self.pick(len(forms))]}"
        sub = 1 if kind in "ms" and how == "plain" and self.chance(0.15) else 0
        spins = kind in "sbw"
        return (
            "lock", kind, i, how, sub,
            self.body(
                depth, rank + 1, atomic or spins, irq or "irq" in how, bh or how[-2:] == "bh"
            ),
        )  # fmt: skip

    def tried(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> Step:
        found = self.lock(0 if self.ordered else floor, atomic)
        if found is None or (self.ordered and found[0] == "s" and found[1] < 2 and not irq):
            return self.leaf(atomic)
        kind, i, rank = found
        how = "read" if kind in "rw" and self.chance(0.5) else "plain"
        return (
            "try",
            kind,
            i,
            how,
            self.body(depth, max(floor, rank + 1), atomic or kind in "sbw", irq, bh),
        )

    def nest(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> Step:
        """Both locks of a class, in any order, under a lock of another."""
        kind, outer, first = ("m", self.pick(2), 2) if self.chance(0.5) else ("s", 2, 3)
        if kind == "m" and (atomic or (self.ordered and floor)):
            return self.leaf(atomic)
        if self.ordered and kind == "s" and floor > self.rank(kind, outer):
            return self.leaf(atomic)
        i = self.pick(2)
        inside = self.body(depth, self.rank(kind, first) + 1, atomic or kind == "s", irq, bh)
        return ("nest", kind, outer, first + i, first + 1 - i, inside)

    def crossed(self, depth: int, floor: int, atomic: bool, irq: bool, bh: bool) -> Step:
        """Hand over hand: the outer lock is released first."""
        if self.chance(0.3):
            return ("irq_crossed", 2 + self.pick(SPINS - 2) if self.ordered else self.pick(SPINS))
        a, b = self.lock(floor, atomic), self.lock(floor, atomic)
        if a is None or b is None or a[0] in "rb" or b[0] in "rb":
            return self.leaf(atomic)
        if self.ordered and (a[2] >= b[2] or (a[0] in "sw" and b[0] == "m")):
            return self.leaf(atomic)
        if self.ordered and not irq and any(kind == "s" and i < 2 for kind, i, _ in (a, b)):
            return self.leaf(atomic)
        return ("crossed", a[:2], b[:2], self.body(3, 100, True, irq, bh))

    def posted(self) -> Step:
        """Interrupts: they take spinlocks s0 and s1 and read w0, if they are disciplined."""
        work: list[Step]
        if self.chance(0.3):
            i = 0 if self.ordered else self.pick(RWLOCKS)
            side = "read" if self.ordered or self.chance(0.7) else "write"
            work = [("lock", "w", i, f"{side} plain", 0, [self.leaf(True)])]
        elif self.ordered:
            i = self.pick(2)
            work = [("lock", "s", i, "irq", 0, [self.leaf(True)])]
        else:
            work = [("lock", "s", self.pick(SPINS), "plain", 0, [self.leaf(True)])]
            if self.chance(0.03):
                work.append(("lock", "m", 0, "plain", 0, []))
        draw = self.pick(3)
        return (
            ("post", self.pick(2), work)
            if draw == 0
            else ("soft", work)
            if draw == 1
            else ("call_rcu", work)
        )


def generate(seed: int) -> Program:
    """The program of a seed."""
    drawer = Drawer(seed)
    program = [drawer.body(0, 0, False, False, False) for _ in range(2 + drawer.pick(2))]
    if drawer.chance(0.3):
        task = program[drawer.pick(len(program))]
        task.insert(drawer.pick(len(task) + 1), broken(drawer))
    return program


def broken(drawer: Drawer) -> Step:
    """A step that is wrong by itself."""
    spin, mutex = drawer.pick(SPINS), drawer.pick(MUTEXES)
    return (
        ("unlock", "s", spin),
        ("unlock", "m", mutex),
        ("unlock", "r", 0),
        ("leak", "m", mutex),
        ("leak", "s", spin),
        ("leak_irq",),
        ("irq_on",),
        ("rcu_unlock",),
        ("lock", "s", spin, "plain", 0, [("sleep", 1000)]),
        ("rcu", [("lock", "m", mutex, "plain", 0, [])]),
        ("lock", "m", 0, "plain", 0, [("lock", "m", 0, "plain", 0, [])]),
        ("lock", "r", 0, "read", 0, [("lock", "r", 0, "read", 0, [])]),
        ("lock", "m", 2, "plain", 0, [("lock", "m", 3, "plain", 0, [])]),
        *[("seq_alone", drawer.pick(SEQS))] * 3,  # it takes another writer to be caught
        ("unlock", "w", drawer.pick(RWLOCKS)),
        ("lock", "w", 0, "read plain", 0, [("lock", "w", 0, "read plain", 0, [])]),
        ("lock", "w", 1, "read bh", 0, [("lock", "w", 2, "read plain", 0, [])]),
        ("lock", "w", 1, "write plain", 0, [("lock", "w", 2, "read plain", 0, [])]),
    )[drawer.pick(20)]


def text(program: Program) -> str:
    """The program, for people."""
    lines = []
    for n, steps in enumerate(program):
        lines.append(f"task {n}:")
        lines += _text(steps, 1)
    return "\n".join(lines)


def _text(steps: list[Step], depth: int) -> list[str]:
    lines = []
    for step in steps:
        lines.append("    " * depth + " ".join(str(w) for w in step if not isinstance(w, list)))
        for word in step:
            if isinstance(word, list):
                lines += _text(word, depth + 1)
    return lines


# -- running ---------------------------------------------------------------------------------------


class Runner:
    """The locks of one world, and what each step does with them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.locks: dict[str, list[Any]] = {
            "m": [Mutex(f"m{c}") for c in CLASSES["m"]],
            "r": [RwSem(f"r{c}") for c in CLASSES["r"]],
            "s": [SpinLock(f"s{c}") for c in CLASSES["s"]],
            "w": [RwLock(f"w{c}") for c in CLASSES["w"]],
            "b": [BitLock("b0")],
        }
        self.seqs = [(SpinLock(f"q{i}"), SeqCount(f"q{i}")) for i in range(SEQS)]
        self.cells = [Cell() for _ in range(FIELDS)]

    def run(self, steps: list[Step]) -> None:
        """Do some steps."""
        for word, *rest in steps:
            getattr(self, f"do_{word}")(*rest)

    def do_lock(self, kind: str, i: int, how: str, sub: int, body: list[Step]) -> None:
        lock = self.locks[kind][i]
        if kind == "w":
            self.rwlock(lock, *how.split(), body)
        elif how == "read":
            lock.down_read()
            self.run(body)
            lock.up_read()
        elif how == "downgrade":
            lock.down_write()
            lock.downgrade_write()
            self.run(body)
            lock.up_read()
        elif how == "irq":
            lock.lock_irq()
            self.run(body)
            lock.unlock_irq()
        elif how == "irqsave":
            flags = lock.lock_irqsave()
            self.run(body)
            lock.unlock_irqrestore(flags)
        elif how == "bh":
            lock.lock_bh()
            self.run(body)
            lock.unlock_bh()
        else:
            lock.lock(sub) if sub else lock.lock()
            self.run(body)
            lock.unlock()

    def rwlock(self, lock: RwLock, side: str, form: str, body: list[Step]) -> None:
        suffix = "" if form == "plain" else f"_{form}"
        flags = getattr(lock, f"{side}_lock{suffix}")()
        self.run(body)
        restored = suffix.replace("save", "restore")
        getattr(lock, f"{side}_unlock{restored}")(*([flags] if form == "irqsave" else []))

    def do_try(self, kind: str, i: int, how: str, body: list[Step]) -> None:
        lock = self.locks[kind][i]
        if how == "read" and kind == "w":
            if lock.read_trylock():
                self.run(body)
                lock.read_unlock()
        elif how == "read":
            if lock.down_read_trylock():
                self.run(body)
                lock.up_read()
        elif lock.trylock():
            self.run(body)
            lock.unlock()

    def do_nest(self, kind: str, outer: int, i: int, j: int, body: list[Step]) -> None:
        around, one, two = (self.locks[kind][n] for n in (outer, i, j))
        around.lock()
        one.lock_nest_lock(around)
        two.lock_nest_lock(around)
        self.run(body)
        two.unlock()
        one.unlock()
        around.unlock()

    def do_reclaim(self, body: list[Step]) -> None:
        memalloc.fs_reclaim_acquire(memalloc.GFP_KERNEL)
        self.run(body)
        memalloc.fs_reclaim_release(memalloc.GFP_KERNEL)

    def do_nofs(self, body: list[Step]) -> None:
        memalloc.memalloc_nofs_save()
        self.run(body)
        memalloc.memalloc_nofs_restore()

    def do_alloc(self, gfp: str) -> None:
        memalloc.might_alloc(getattr(memalloc, f"GFP_{gfp}"))

    def do_crossed(self, a: tuple[str, int], b: tuple[str, int], body: list[Step]) -> None:
        outer, inner = self.locks[a[0]][a[1]], self.locks[b[0]][b[1]]
        outer.lock()
        inner.lock()
        outer.unlock()
        self.run(body)
        inner.unlock()

    def do_irq_crossed(self, i: int) -> None:
        lock = self.locks["s"][i]
        cpu.local_irq_disable()
        lock.lock()
        cpu.local_irq_enable()
        lock.unlock()

    def do_irq_off(self, body: list[Step]) -> None:
        cpu.local_irq_disable()
        self.run(body)
        cpu.local_irq_enable()

    def do_bh_off(self, body: list[Step]) -> None:
        cpu.local_bh_disable()
        self.run(body)
        cpu.local_bh_enable()

    def do_preempt_off(self, body: list[Step]) -> None:
        cpu.preempt_disable()
        self.run(body)
        cpu.preempt_enable()

    def do_rcu(self, body: list[Step]) -> None:
        rcu_read_lock()
        self.run(body)
        rcu_read_unlock()

    def do_seq_read(self, i: int) -> None:
        count = self.seqs[i][1]
        seq = count.read_begin()
        self.do_read(0)
        count.read_retry(seq)

    def do_seq_write(self, i: int, body: list[Step]) -> None:
        lock, count = self.seqs[i]
        lock.lock()
        count.write_begin()
        self.run(body)
        count.write_end()
        lock.unlock()

    def do_seq_alone(self, i: int) -> None:
        """A write section that nothing keeps other writers out of."""
        self.seqs[i][1].write_begin()
        self.do_read(0)
        self.seqs[i][1].write_end()

    def do_read(self, i: int) -> None:
        assert self.cells[i].value >= 0
        assert self.cells[i].plain >= 0

    def do_write(self, i: int) -> None:
        self.cells[i].value += 1
        self.cells[i].plain += 1

    def do_sleep(self, ns: int) -> None:
        schedule_timeout(ns)

    def do_sync_rcu(self) -> None:
        synchronize_rcu()

    def do_call_rcu(self, work: list[Step]) -> None:
        call_rcu(self.run, work)

    def do_post(self, which: int, work: list[Step]) -> None:
        self.machine.post_irq(which, self.run, work)

    def do_soft(self, work: list[Step]) -> None:
        self.machine.raise_softirq(self.run, work)

    def do_unlock(self, kind: str, i: int) -> None:
        self.locks[kind][i].unlock()

    def do_leak(self, kind: str, i: int) -> None:
        self.locks[kind][i].lock()

    def do_leak_irq(self) -> None:
        cpu.local_irq_disable()

    def do_irq_on(self) -> None:
        cpu.local_irq_enable()

    def do_rcu_unlock(self) -> None:
        rcu_read_unlock()


def start(machine: Machine, program: Program, alone: bool = False) -> list[Cell]:
    """Make the program's tasks; returns the fields that they use.

    Args:
        alone: the first task makes the others, after it has gone through its steps once by itself.
    """
    runner = Runner(machine)

    def others() -> None:
        for n, steps in enumerate(program):
            machine.spawn(runner.run, steps, name=f"task{n}")

    def first() -> None:
        runner.run(program[0])
        others()
        runner.run(program[0])

    if alone:
        machine.spawn(first)
    else:
        others()
    return runner.cells
