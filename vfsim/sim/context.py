"""What a task holds, as an interned state.

A `Ctx` is a node of an automaton: the chain of lock classes (with subclass and mode), interrupt and
preemption states, RCU sections and "this method may not block" marks that a task has entered, in
order.  Entering something is one dictionary hit, ``t.ctx = t.ctx.next[key]``.  A hit means that
this very situation was judged before in this world.  Only a miss calls `enter`, which asks the
machine's judge and then remembers the transition.

Nodes are process-wide and know *classes*; the *instances* are on the task's held stack, an
immutable linked list ``(entry, below)``.  Both grow and shrink together: each entry on the held
stack has exactly one key in the chain, except a `Pin` whose key is 0.

A key is ``class index << 8 | subclass << 5 | mode``: 8 subclasses, and the mode bits below.
Transitions (``next``) are per world, so that a replay meets the same misses: the machine clears
those it touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.sim.task import Task

SHARED = 1  # read mode
TRY = 2  # a trylock: adds no order, cannot deadlock
IRQ = 4  # taken together with interrupts off
BH = 8  # taken together with softirqs off
NEST = 16  # a held lock of another class keeps apart those who take several of this class
MODE = 31
SUBCLASS_SHIFT = 5
CLASS_SHIFT = 8

Held = tuple[Any, Any]
"""One link of the held stack: (entry, the link below or None)."""


class LockClass:
    """A class of locks: what the order rules are about.

    Attributes:
        name: as reports print it; two locks of one name and kind are one class.
        kind: "mutex", "rwsem", "spinlock", ... or a pseudo kind (see `EFFECTS`).
        sleeps: acquiring may sleep, so it is forbidden in atomic context.
        spins: holding it disables preemption.
        recursive_read: its shared mode may be taken recursively, so that read inside read is no
            deadlock.
        by_instance: its locks have an order among themselves: the judge is asked each time that a
            task takes a further one (see `mark_by_instance`).
    """

    __slots__ = ("by_instance", "index", "key", "kind", "name", "recursive_read", "sleeps", "spins")
    all: list[LockClass] = []
    _by_instance: dict[str, None] = {}
    _by_name: dict[tuple[str, str], LockClass] = {}

    def __init__(
        self, name: str, kind: str, sleeps: bool, spins: bool, recursive_read: bool
    ) -> None:
        self.name = name
        self.kind = kind
        self.sleeps = sleeps
        self.spins = spins
        self.recursive_read = recursive_read
        self.by_instance = self.family in LockClass._by_instance
        self.index = len(LockClass.all)
        self.key = self.index << CLASS_SHIFT
        LockClass.all.append(self)

    @classmethod
    def get(
        cls,
        name: str,
        kind: str,
        *,
        sleeps: bool = False,
        spins: bool = False,
        recursive_read: bool = False,
    ) -> LockClass:
        """The class of that name and kind, made on first use."""
        found = cls._by_name.get((name, kind))
        if found is None:
            if not isinstance(name, str) or not name:
                raise TypeError(
                    f"a lock needs the name of its class, a non-empty string, got {name!r}"
                )
            found = cls._by_name[name, kind] = cls(name, kind, sleeps, spins, recursive_read)
        return found

    @property
    def family(self) -> str:
        """The part of the name before a colon: ``i_rwsem`` of ``i_rwsem:ramfs``."""
        return self.name.partition(":")[0]

    @classmethod
    def mark_by_instance(cls, family: str) -> None:
        """From now on the judge is asked for each further lock of these classes."""
        cls._by_instance[family] = None
        for known in cls.all:
            known.by_instance |= known.family == family

    def __repr__(self) -> str:
        return f"<{self.kind} class {self.name}>"


def key_name(key: int) -> str:
    """How reports spell a key: ``i_rwsem/1 (shared)``."""
    cls = LockClass.all[key >> CLASS_SHIFT]
    sub = key >> SUBCLASS_SHIFT & 7
    mode = " (shared)" if key & SHARED else ""
    return f"{cls.name}{f'/{sub}' if sub else ''}{mode}"


def nested(key: int, subclass: int) -> int:
    """Never sleeps.  The key of a lock class with a subclass, 0 to 7."""
    if not 0 <= subclass <= 7:
        raise ValueError(f"a lock class has subclasses 0 to 7, not {subclass!r}")
    return key | subclass << SUBCLASS_SHIFT


def nested_under(task: Task, lock: Any, outer: object) -> int:
    """Never sleeps.  `NEST` if ``outer`` lets the task take several locks of ``lock``'s class.

    It must be held, and have been taken before the first of them; the judge is told if it is not
    held.  Otherwise 0.
    """
    bits = lock.key >> CLASS_SHIFT
    for place, (entry, key) in enumerate(held_entries(task)):
        if entry is outer or (not place and key >> CLASS_SHIFT == bits):
            break  # as in Linux, a second one in a row does not ask for the outer lock again
    else:
        name = getattr(outer, "name", outer)
        what = f"takes {lock.name} as one of several under {name}, which it does not hold"
        K.machine.judge.misused(task, lock, "nest-not-held", what)
        return 0
    outside = held_entries(task)[place + 1 :] if entry is outer else []
    return 0 if any(key >> CLASS_SHIFT == bits for _, key in outside) else NEST


class Pin:
    """A mark on the held stack: what lies below was held by a caller and must stay as it is.

    ``key`` is the context key that was entered with it (a "may not block" mark) or 0; ``releases``
    names the locks that may be released across it.  The contract's call sites are pins.
    """

    __slots__ = ("key",)
    is_pin = True
    key: int

    def may_release(self, lock: object, task: Task) -> bool:
        """Whether the pinned call was promised to release that lock."""
        return False


class PseudoLock:
    """A state on the held stack that is no lock: interrupts off, an RCU read section ..."""

    __slots__ = ("cls", "key")
    is_pin = False

    def __init__(self, name: str) -> None:
        self.cls = LockClass.get(name, name)
        self.key = self.cls.key

    owner = None

    @property
    def name(self) -> str:
        return self.cls.name

    def __repr__(self) -> str:
        return self.cls.name


class LockPin:
    """On the held stack above a lock: says that it must not be released meanwhile."""

    __slots__ = ("lock",)
    is_pin = False
    owner = None
    name = "pinned lock"
    key = LockClass.get("pinned lock", "pinned lock").key

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __repr__(self) -> str:
        return f"<{self.lock.name} is pinned>"


PREEMPT_OFF = PseudoLock("preemption off")
IRQ_OFF = PseudoLock("interrupts off")
BH_OFF = PseudoLock("softirqs off")
RCU = PseudoLock("rcu_read_lock")
RCU_BH = PseudoLock("rcu_read_lock_bh")
RCU_SCHED = PseudoLock("rcu_read_lock_sched")
NOBLOCK = PseudoLock("may not block")
SOFTIRQ = PseudoLock("softirq context")
HARDIRQ = PseudoLock("hardirq context")
HARDIRQ_UNTHREADED = PseudoLock("hardirq context (not threaded)")
FS_RECLAIM = PseudoLock("fs_reclaim")
NOFS = PseudoLock("memalloc_nofs")
NOIO = PseudoLock("memalloc_noio")
NORECLAIM = PseudoLock("memalloc_noreclaim")
CALLS = PseudoLock("filesystem method")
HARD = (HARDIRQ.cls.kind, HARDIRQ_UNTHREADED.cls.kind)


class Ctx:
    """One interned chain of what is held.  See the module's docstring.

    Attributes:
        parent, key: the chain without its innermost entry, and that entry's key.
        nosleep: sleeping is forbidden here.  nopreempt: the CPU belongs to this task.
        irqs_off, bh_off: interrupts (softirqs) are not delivered on this CPU.
        in_irq: 0 task, 1 softirq, 2 hardirq.  rcu: depth of read sections.
        nofs, noio: allocations must not call into filesystems (start I/O).
        noreclaim: nor free memory at all, because that is what the task is doing.
        mask: one bit per (class, subclass) held.
    """

    __slots__ = (
        "bh_off", "cold", "in_irq", "irqs_off", "key", "mask", "next", "nofs", "noio", "nopreempt",
        "noreclaim", "nosleep", "parent", "rcu", "rel",
    )  # fmt: skip

    def __init__(self, parent: Ctx | None, key: int) -> None:
        self.next: dict[int, Ctx] = {}
        self.rel: dict[int, Ctx] = {}
        self.cold: dict[int, Ctx] = {}
        self.parent: Ctx = parent  # type: ignore[assignment]
        self.key = key
        if parent is None:
            self.mask = self.in_irq = self.rcu = 0
            self.nosleep = self.nopreempt = self.irqs_off = self.bh_off = False
            self.nofs = self.noio = self.noreclaim = False
            return
        cls = LockClass.all[key >> CLASS_SHIFT]
        kind = cls.kind
        self.mask = parent.mask | 1 << (key >> SUBCLASS_SHIFT)
        hard, soft = kind in HARD, kind == SOFTIRQ.cls.kind
        irq = bool(key & IRQ) or kind == IRQ_OFF.cls.kind or hard
        bh = bool(key & BH) or kind in (BH_OFF.cls.kind, RCU_BH.cls.kind) or hard or soft
        atomic = cls.spins or irq or bh or kind in (PREEMPT_OFF.cls.kind, RCU_SCHED.cls.kind)
        self.in_irq = 2 if hard else 1 if soft and parent.in_irq < 2 else parent.in_irq
        self.rcu = parent.rcu + (kind == RCU.cls.kind)
        self.irqs_off = parent.irqs_off or irq
        self.bh_off = parent.bh_off or bh
        self.nopreempt = parent.nopreempt or atomic
        self.nosleep = parent.nosleep or atomic or kind in (RCU.cls.kind, NOBLOCK.cls.kind)
        self.noio = parent.noio or kind == NOIO.cls.kind
        self.noreclaim = parent.noreclaim or kind == NORECLAIM.cls.kind
        self.nofs = parent.nofs or self.noio or kind == NOFS.cls.kind

    def chain(self) -> list[int]:
        """The keys of the chain, outermost first."""
        keys = []
        node = self
        while node.parent is not None:
            keys.append(node.key)
            node = node.parent
        return keys[::-1]

    def __repr__(self) -> str:
        return " > ".join(map(key_name, self.chain())) or "nothing held"


def _cold(node: Ctx, key: int) -> Ctx:
    """The node for ``key`` inside ``node``, whether judged in this world or not."""
    found = node.cold.get(key)
    if found is None:
        found = node.cold[key] = Ctx(node, key)
    return found


def enter(node: Ctx, key: int, lock: object = None) -> Ctx:
    """Never sleeps.  ``key`` is entered inside ``node`` for the first time in this world.

    It is judged, then remembered; but not where the order of instances matters, which differ from
    time to time.  ``lock`` is the instance at hand.
    """
    found = _cold(node, key)
    machine = K.machine
    further = LockClass.all[key >> CLASS_SHIFT].by_instance and _further(node, key)
    if machine.trace is not None:  # it remembers what it saw, so that every entry is recorded
        first = machine.trace.entered(K.cur, found, lock)
    else:
        first = not further or found not in machine.further
    if first:
        machine.judge.entering(node, key, lock)
    if further:
        machine.further[found] = None
        machine.judge.further(K.cur, key, lock)
    elif machine.trace is None:
        node.next[key] = found
        machine.touched.append(node)
    return found


def _further(node: Ctx, key: int) -> bool:
    """Whether a lock of that class is held already; who only tries may take them in any order."""
    while node.parent is not None and not key & TRY:
        if node.key >> CLASS_SHIFT == key >> CLASS_SHIFT:
            return True
        node = node.parent
    return False


_loaded: list[Ctx] = []


def load(touched: list[Ctx]) -> None:
    """A world begins to run: make the transitions its own, forgetting those of the world before.

    ``touched`` are the nodes whose transitions this world has learned.
    """
    global _loaded
    if _loaded is not touched:
        for node in _loaded:
            node.next.clear()
        _loaded.clear()
        _loaded = touched


def without(node: Ctx, depth: int, instead: int = 0) -> Ctx:
    """The chain without its ``depth``-th key from the top, or with another ``instead``.

    A release out of order, or a change of mode.  Cached like ``next``; nothing is judged, because
    what stays was judged before.
    """
    place = instead << 8 | depth
    found = node.rel.get(place)
    if found is None:
        keys = []
        rest = node
        for _ in range(depth):
            keys.append(rest.key)
            rest = rest.parent
        found = rest.parent
        for key in (instead, *reversed(keys)) if instead else reversed(keys):
            found = _cold(found, key)
        node.rel[place] = found
    return found


def find(task: Task, lock: Any) -> tuple[int, Held] | None:
    """Where the task holds ``lock``: how many keys lie above it, and its link.

    Returns None, after telling the judge, if the task does not hold it.  Each pin above that did
    not promise its release is told to the judge, too.
    """
    depth = 0
    pins: list[Any] = []
    link = task.held
    while link is not None:
        entry = link[0]
        if entry is lock:
            for pin in pins:
                if not pin.may_release(lock, task):
                    K.machine.judge.pinned(task, lock, pin)
            return depth, link
        if entry.is_pin:
            pins.append(entry)
        elif type(entry) is LockPin and entry.lock is lock:
            what = f"releases {lock.name}, which is pinned"
            K.machine.judge.misused(task, lock, "pinned", what)
        if not entry.is_pin or entry.key:
            depth += 1
        link = link[1]
    K.machine.judge.not_held(task, lock)
    return None


def release(task: Task, lock: object) -> bool:
    """Never sleeps.  Take ``lock`` off the task's held stack where it is not on top.

    Returns False, after telling the judge, if the task does not hold it.  A release across a pin
    that did not promise it is told to the judge and still carried out, so that the run can go on.
    """
    place = find(task, lock)
    if place is None:
        return False
    depth, link = place
    before = task.ctx
    task.ctx = after = without(before, depth)
    _lift(task, link)
    if before.irqs_off is not after.irqs_off or before.bh_off is not after.bh_off:
        K.machine.judge.exposed(task)
    return True


def unpin(task: Task, pin: Pin) -> None:
    """Never sleeps.  Take a pin off the held stack, if it is there, and leave everything else."""
    depth = 0
    link = task.held
    while link is not None and link[0] is not pin:
        if not link[0].is_pin or link[0].key:
            depth += 1
        link = link[1]
    if link is not None:
        if pin.key:
            task.ctx = without(task.ctx, depth)
        _lift(task, link)


def _lift(task: Task, link: Held) -> None:
    """Take one link out of the held stack."""
    above = []
    top = task.held
    while top is not link and top is not None:
        above.append(top[0])
        top = top[1]
    rest = link[1]
    for entry in reversed(above):
        rest = (entry, rest)
    task.held = rest


def change_mode(task: Task, lock: object, mode: int) -> bool:
    """Never sleeps.  Give a held lock further mode bits, where it is on the held stack.

    Returns False, after telling the judge, if the task does not hold it.
    """
    place = find(task, lock)
    if place is None:
        return False
    depth, _ = place
    node = task.ctx
    for _ in range(depth):
        node = node.parent
    task.ctx = without(task.ctx, depth, node.key | mode)
    return True


ROOT = Ctx(None, 0)
HARDIRQ_ROOT = _cold(ROOT, HARDIRQ.key)
SOFTIRQ_ROOT = _cold(ROOT, SOFTIRQ.key)


def held_entries(task: Task) -> list[tuple[Any, int]]:
    """(lock, key) for everything the task holds, innermost first; pins are left out."""
    found = []
    link = task.held
    node = task.ctx
    while link is not None:
        entry = link[0]
        if not entry.is_pin:
            found.append((entry, node.key))
            node = node.parent
        elif entry.key:
            node = node.parent
        link = link[1]
    return found
