"""Random programs, a few operations long, over everything whose order can matter.

A `Recipe` is made from a seed and says what each task does; `build` is the function that `explore`
takes.  The tasks write down what they see, so that two runs can be compared by `outcome`, whatever
anybody thinks about their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from math import factorial, prod
from random import Random
from typing import Annotated, Any

import attrs

from vfsim.locks.completion import Completion
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import call_rcu, rcu_read, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.seqlock import SeqCount
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.cpu import local_irq_disable, local_irq_enable, preempt_disable, preempt_enable
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.shared import kernel_struct, shared

Op = tuple[Any, ...]
"""(what, which object, the operations inside)."""


@kernel_struct
class Cell:
    """A number that everybody may see."""

    value: Annotated[int, shared] = 0


COSTS = {
    "read": 1, "write": 1, "add": 2, "mutex": 1, "spin": 1, "try": 1, "tried": 2, "down_read": 1,
    "down_write": 1, "try_read": 1, "try_write": 1, "held": 2, "rcu": 1, "sync": 1, "call": 4,
    "seq_write": 2, "seq_read": 2, "complete": 1, "try_wait": 1, "wait": 1, "get": 1, "put": 1,
    "sleep": 2, "yield": 1, "post": 3, "irq_off": 2, "spin_irq": 2, "preempt_off": 1,
}  # fmt: skip
"""How many scheduling points an operation has, about."""

MIXES: dict[str, tuple[float, tuple[str, ...]]] = {
    "fields": (0.5, ("read", "write", "add", "mutex", "try")),
    "locks": (0.7, ("mutex", "mutex", "held", "spin", "try", "tried", "read", "write", "add")),
    "rwsems": (0.6, ("down_read", "down_read", "down_write", "try_read", "try_write", "read")),
    "rcu": (0.6, ("rcu", "rcu", "sync", "call", "read", "write", "mutex")),
    "seqs": (0.7, ("seq_read", "seq_read", "seq_write", "write", "spin", "read")),
    "waits": (0.7, ("complete", "complete", "try_wait", "wait", "mutex", "write", "get", "put")),
    "kernel": (0.7, (
        "mutex", "spin", "try", "tried", "down_read", "down_write", "try_read", "try_write", "rcu",
        "sync", "call", "seq_read", "seq_write", "complete", "wait", "get", "put", "read",
    )),
    "time": (0.3, ("sleep", "sleep", "wait", "complete", "mutex", "yield", "read", "try")),
    "irqs": (0.3, ("post", "post", "irq_off", "spin_irq", "spin", "preempt_off", "read", "sleep")),
}  # fmt: skip
"""Which operations go together.

The number is how often an operation is one on a cell instead: else hardly anything would conflict.
"""


@attrs.define
class Recipe:
    """What a random program does.

    Attributes:
        tasks: the operations of each task.
        cpus: of the machine; with few of them tasks hold each other up.
    """

    seed: int | str
    mix: str
    tasks: list[list[Op]]
    cpus: int
    seen: list[list[Any]] = attrs.Factory(list)
    cells: list[Cell] = attrs.Factory(list)

    def build(self, machine: Machine) -> None:
        """Make the objects and start the tasks."""
        world = World(machine)
        self.cells = world.cells
        self.seen = [[] for _ in self.tasks]
        for number, (ops, seen) in enumerate(zip(self.tasks, self.seen, strict=True)):
            machine.spawn(_play, world, ops, number, seen, name=f"t{number}")

    def outcome(self) -> str:
        """What the run came to: what the tasks saw, and the values at the end."""
        return repr((self.seen, [cell.raw_value for cell in self.cells]))


class World:
    """The objects of one run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cells = [Cell(), Cell()]
        self.mutexes = [Mutex("m0"), Mutex("m1")]
        self.spins = [SpinLock("s0"), SpinLock("s1")]
        self.tried = Mutex("tried", tried=True)
        self.sem = RwSem("sem")
        self.seq = SeqCount("seq")
        self.done = Completion("done")
        self.ref = LockRef("ref", 2)

    def poke(self, which: int, by: int) -> None:
        """Never sleeps.  What a handler does: leave a trace of the order."""
        self.cells[which].value = by


def _play(world: World, ops: list[Op], me: int, seen: list[Any]) -> None:
    for what, which, inner in ops:
        PLAYERS[what](world, which, me, seen, lambda inner=inner: _play(world, inner, me, seen))


Inner = Callable[[], None]
Player = Callable[[World, int, int, list[Any], Inner], None]
PLAYERS: dict[str, Player] = {}


def _plays(function: Player) -> Player:
    PLAYERS[function.__name__.strip("_")] = function
    return function


@_plays
def read(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Look at a cell."""
    seen.append(world.cells[which].value)


@_plays
def write(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Overwrite a cell."""
    world.cells[which].value = me + 1


@_plays
def add(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Read a cell and write it."""
    world.cells[which].value += 1


@_plays
def mutex(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something under a mutex."""
    with world.mutexes[which]:
        inner()


@_plays
def spin(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something under a spinlock."""
    with world.spins[which]:
        inner()


def _attempt(lock: Any, seen: list[Any], inner: Inner) -> None:
    got = lock.trylock()
    seen.append(got)
    if got:
        inner()
        lock.unlock()


@_plays
def try_(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something under a mutex, if it is free; its release is no scheduling point."""
    _attempt(world.mutexes[which], seen, inner)


@_plays
def tried(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """The same with a mutex whose release is a point; half of them do not only try."""
    if which:
        _attempt(world.tried, seen, inner)
    else:
        with world.tried:
            inner()


@_plays
def down_read(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something under a semaphore that others may share."""
    with world.sem.shared():
        inner()


@_plays
def down_write(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something under a semaphore alone; sometimes it is let go to readers before the end."""
    world.sem.down_write()
    if which:
        world.sem.downgrade_write()
        inner()
        world.sem.up_read()
    else:
        inner()
        world.sem.up_write()


@_plays
def try_read(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Share a semaphore, if that is possible now."""
    got = world.sem.down_read_trylock()
    seen.append(got)
    if got:
        inner()
        world.sem.up_read()


@_plays
def try_write(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Have a semaphore alone, if that is possible now."""
    _attempt(world.sem, seen, inner)


@_plays
def held(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Two mutexes, in an order that may be the wrong one."""
    with world.mutexes[which], world.mutexes[1 - which]:
        inner()


@_plays
def rcu(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something in a read section."""
    with rcu_read():
        inner()


@_plays
def sync(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Wait for the readers."""
    synchronize_rcu()
    seen.append("sync")


@_plays
def call(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something after the readers."""
    call_rcu(world.poke, which, me + 1)


@_plays
def seq_write(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something that readers must not see half of; only the first task writes."""
    if me == 0:
        world.seq.write_begin()
        inner()
        world.seq.write_end()
    else:
        seq_read(world, which, me, seen, inner)


@_plays
def seq_read(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """One look, and whether it was good."""
    number = world.seq.raw_begin() if which else world.seq.read_begin()
    inner()
    seen.append(world.seq.read_retry(number))


@_plays
def complete(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Say that it is done."""
    world.done.complete()


@_plays
def try_wait(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Ask whether it is done."""
    seen.append(world.done.try_wait())


@_plays
def wait(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Wait until it is done, perhaps for ever, or for a while."""
    if which:
        seen.append(world.done.wait_timeout(1000))
    else:
        world.done.wait()


@_plays
def get(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """One more reference; sometimes while the lock is held."""
    if which:
        with world.ref.lock:
            world.ref.count += 1
    else:
        seen.append(world.ref.get_not_zero())


@_plays
def put(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """One reference less."""
    seen.append(world.ref.put_return())


@_plays
def sleep(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Let time pass."""
    msleep(1 + which)


@_plays
def yield__(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Let others go first."""
    yield_()


@_plays
def post(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """An interrupt on the first CPU, whose handler writes."""
    world.machine.post_irq(which, world.poke, which, me + 5)


@_plays
def irq_off(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something without interrupts."""
    local_irq_disable()
    inner()
    local_irq_enable()


@_plays
def spin_irq(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something without interrupts, under a lock."""
    world.spins[which].lock_irq()
    inner()
    world.spins[which].unlock_irq()


@_plays
def preempt_off(world: World, which: int, me: int, seen: list[Any], inner: Inner) -> None:
    """Something that no task of this CPU comes between."""
    preempt_disable()
    inner()
    preempt_enable()


HOLDS = frozenset(
    {"mutex", "spin", "try", "tried", "down_read", "down_write", "try_read", "try_write", "held",
     "rcu", "seq_write", "seq_read", "irq_off", "spin_irq", "preempt_off"}
)  # fmt: skip
"""Operations with something inside."""

SLEEPS = frozenset(
    {"mutex", "tried", "down_read", "down_write", "held", "sync", "wait", "sleep", "yield"}
)
"""Operations that may not be inside of what forbids sleeping."""

ATOMIC = frozenset({"spin", "rcu", "seq_write", "irq_off", "spin_irq", "preempt_off"})

TAKES = {
    "mutex": "m", "held": "m", "try": "m", "spin": "s", "spin_irq": "s", "tried": "t",
    "down_read": "r", "down_write": "r", "try_read": "r", "try_write": "r", "seq_write": "q",
    "seq_read": "q", "get": "l", "put": "l", "irq_off": "i",
}  # fmt: skip
"""What an operation takes, so that nothing inside takes it again."""


TOUCHES = {
    "read": "c", "write": "c", "add": "cc", "complete": "d", "try_wait": "d", "wait": "d",
    "rcu": "g", "sync": "g", "call": "g", "held": "mm",
}  # fmt: skip
"""What an operation works on, where `TAKES` does not say all of it."""


def _touched(op: Op) -> Iterator[str]:
    """The objects of an operation and of those inside, once for each scheduling point."""
    what, which, inner = op
    for n, kind in enumerate(TOUCHES.get(what, TAKES.get(what, ""))):
        yield f"{kind}{(which + n * (what == 'held')) % 2}" if kind in "cms" else kind
    for nested in inner:
        yield from _touched(nested)


def orders(tasks: list[list[Op]]) -> int:
    """In how many orders the tasks could come by at their objects, one by one, if nothing else
    counted: about how many classes a program has, as can be told without running it.
    """
    found: dict[str, list[int]] = {}
    for number, ops in enumerate(tasks):
        for op in ops:
            for place in _touched(op):
                found.setdefault(place, [0] * len(tasks))[number] += 1
    return prod(factorial(sum(n)) // prod(factorial(k) for k in n) for n in found.values())


def crowded_recipe(seed: int, mix: str, schedules: int, least: int, most: int) -> Recipe:
    """The first of a few random programs that has about so many orders (`orders`).

    Most programs have hardly any conflicts, or nothing else; the search shows what it can between.
    """
    attempts = (recipe(f"{seed}.{n}", mix, schedules) for n in count())
    return next(made for made in attempts if least <= orders(made.tasks) <= most)


def recipe(seed: int | str, mix: str, schedules: int) -> Recipe:
    """A random program of a mix that has at most about so many schedules, and not many fewer."""
    random = Random(f"{mix} {seed}")
    workers = 3 if random.random() < 0.8 else 2
    tasks: list[list[Op]] = [[] for _ in range(workers)]
    costs = [0] * workers
    for _ in range(30):
        number = min(range(workers), key=lambda i: (costs[i], i))
        op, cost = _op(random, mix, "", False)
        grown = [c + cost * (i == number) for i, c in enumerate(costs)]
        if factorial(sum(grown)) // prod(factorial(c) for c in grown) <= schedules:
            tasks[number].append(op)
            costs = grown
    cpus = 4 if mix not in ("irqs", "time") else random.choice((1, 2, 4))
    return Recipe(seed, mix, tasks, cpus)


def _op(random: Random, mix: str, taken: str, atomic: bool) -> tuple[Op, int]:
    crowded, kinds = MIXES[mix]
    able = [w for w in kinds if not (atomic and w in SLEEPS) and TAKES.get(w, "-") not in taken]
    what = random.choice(able or ["write"])
    if random.random() < crowded:
        what = random.choice(("write", "write", "add"))
    which = int(random.random() < 0.08)
    inner: list[Op] = []
    cost = COSTS[what]
    if what in HOLDS and random.random() < 0.7 / (1 + len(taken)):
        taken += TAKES.get(what, "+")
        op, more = _op(random, mix, taken, atomic or what in ATOMIC)
        inner.append(op)
        cost += more
    return (what, which, inner), cost
