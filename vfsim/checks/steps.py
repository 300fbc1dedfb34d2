"""What one situation shows: which classes are taken inside which, and what interrupts find.

A `Step` is what one transition of the held-state automaton (`vfsim.sim.context`) shows by itself.
It depends on the chain of classes alone, so it is worked out once per process.

Shared modes count as exclusive ones, because a queued writer stops a second reader, except where
a read is recursive: there a reader is stopped by a writer only. Sequence counters are read so
everywhere, a queued rwlock in interrupt context (`recursive`).

`Rules` choose between two generations of lockdep:

======================  ============================================================================
``Rules()``             as from v5.10 on: an edge knows how both ends are held, and a cycle counts
                        if it can block (`vfsim.checks.orders.Order`)
``Rules(mode="4.9")``   as in v4.9: every read of an rwlock is recursive, and an order in which one
                        end is a recursive read is looked at but not remembered
======================  ============================================================================

Simpler than v4.9: reclaim is a lock, ``fs_reclaim``, in both (v4.14 on) in place of usage bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from vfsim.sim.context import (
    CLASS_SHIFT,
    FS_RECLAIM,
    HARDIRQ_UNTHREADED,
    NEST,
    RCU_SCHED,
    SHARED,
    SUBCLASS_SHIFT,
    TRY,
    Ctx,
    LockClass,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HARD, SOFT = 0, 1
CONTEXTS = ("hardirq", "softirq")


@attrs.frozen
class Rules:
    """What counts as a bug.

    Attributes:
        mode: "5.10" or "4.9".
        recursive_reads: rwlocks are not queued: a reader is stopped by a writer only, everywhere
            (Linux: architectures without ``CONFIG_QUEUED_RWLOCKS``).
        raw_nesting: a spinlock, which sleeps on a real-time kernel, is not taken where only raw
            spinlocks may be (Linux: ``CONFIG_PROVE_RAW_LOCK_NESTING``).

    Raises:
        ValueError: there is no such mode.
    """

    mode: str = attrs.field(default="5.10")
    recursive_reads: bool = False
    raw_nesting: bool = False

    @mode.validator
    def _known(self, attribute: object, value: str) -> None:
        if value not in ("5.10", "4.9"):
            raise ValueError(f"lockdep's mode is '5.10' or '4.9', not {value!r}")


DEFAULT = Rules()

_CLASS_OF_BIT = CLASS_SHIFT - SUBCLASS_SHIFT

NESTS: dict[str, str] = {}
"""Classes of which many may be held at once under a lock of another class, by name."""


def nest(inner: str, under: str) -> None:
    """Declare that many locks of class ``inner`` may be held while one of ``under`` is."""
    NESTS[inner] = under


def ordered(cls: LockClass) -> bool:
    """Whether the order rules are about a class.

    Page locks and their kin are not lock classes in Linux either: they are handed to I/O and taken
    many at a time. The wait-for graph watches them.
    """
    return (cls.sleeps or cls.spins or cls.kind in _NEVER_WAITED) and cls.kind != "sleepbit"


_LOOKS = ("seqcount", FS_RECLAIM.cls.kind)
"""Kinds whose shared mode is a look, not a hold: no interrupt finds it held."""

_NEVER_WAITED = (*_LOOKS, "ww_acquire")
"""Kinds that have an order although taking one is no sleep and no spin by itself."""


def recursive(found: Ctx, rules: Rules) -> bool:
    """Whether ``found`` was entered by a read that only a writer stops."""
    if not found.key & SHARED:
        return False
    cls = LockClass.all[found.key >> CLASS_SHIFT]
    if cls.kind == "rwlock":
        return found.bh_off or rules.recursive_reads or rules.mode == "4.9"
    return cls.recursive_read


def name_of(bit: int) -> str:
    """How reports spell a class with its subclass: ``i_rwsem/1``."""
    cls = LockClass.all[bit >> _CLASS_OF_BIT]
    note = " (sequence)" if cls.kind == "seqcount" else ""
    return f"{cls.name}{f'/{bit & 7}' if bit & 7 else ''}{note}"


def identity(bit: int) -> str:
    """A class with its subclass, told apart from others of the same name: ``rwsem i_rwsem/1``."""
    cls = LockClass.all[bit >> _CLASS_OF_BIT]
    return f"{cls.kind} {cls.name}/{bit & 7}"


# -- one transition --------------------------------------------------------------------------------

ASKED_RECURSIVE, HELD_SHARED, PASSING = 1, 2, 4


class Edge(NamedTuple):
    """``new`` was asked for inside ``held``.

    ``type`` is a sum of the first two flags above; or `PASSING` for an order that is looked at and
    not remembered (mode "4.9").
    """

    held: int
    new: int
    type: int


class Use(NamedTuple):
    """A class was taken in an interrupt (`Step.uses`), or held where one can come (`Step.opens`).

    ``mild``: of a use, it was a recursive read; of an open, it was held shared.
    """

    bit: int
    context: int
    mild: bool


class Step:
    """What one transition shows.

    Attributes:
        found: the context that was entered.
        again: the context inside which the same class is held already, if that makes taking it a
            recursion.
        forbids: the context in which this kind of lock may not be taken, if it was.
        epoch, clean: `Known`'s last word on it, and when that was.
    """

    __slots__ = ("again", "clean", "edges", "epoch", "forbids", "found", "opens", "uses")

    def __init__(
        self,
        found: Ctx,
        edges: tuple[Edge, ...] = (),
        uses: tuple[Use, ...] = (),
        opens: tuple[Use, ...] = (),
        again: Ctx | None = None,
        forbids: Ctx | None = None,
    ) -> None:
        self.found = found
        self.edges = edges
        self.uses = uses
        self.opens = opens
        self.again = again
        self.forbids = forbids
        self.epoch = -1
        self.clean = False

    @property
    def bit(self) -> int:
        return self.found.key >> SUBCLASS_SHIFT


def entry_step(found: Ctx, rules: Rules = DEFAULT) -> Step:
    """What entering ``found`` from its parent shows."""
    key = found.key
    cls = LockClass.all[key >> CLASS_SHIFT]
    if not ordered(cls):
        return Step(found)
    weak = recursive(found, rules)
    look = key & SHARED and cls.kind in _LOOKS
    opens = () if look else tuple(_opens(found, found))
    if key & TRY:  # waits for nobody: no order, and an interrupt that tries cannot hang
        return Step(found, opens=opens)
    uses = tuple(Use(key >> SUBCLASS_SHIFT, c, weak) for c in (HARD, SOFT) if found.in_irq == 2 - c)
    forbids = _too_deep(found) if rules.raw_nesting else None
    if _covered(found):
        return Step(found, (), uses, opens, None, forbids)
    edges = tuple(_edges(found, weak, rules))
    return Step(found, edges, uses, opens, _again(found, weak), forbids)


def exposure_step(found: Ctx) -> Step:
    """What it shows that interrupts come back on while everything in ``found`` stays held."""
    opens: list[Use] = []
    for node in (found, *_around(found)):
        if node.parent is not None and ordered(LockClass.all[node.key >> CLASS_SHIFT]):
            opens += _opens(node, found)
    return Step(found, opens=tuple(opens))


def _around(found: Ctx) -> Iterator[Ctx]:
    """The ordered locks that are held around a context, innermost first."""
    node = found.parent
    while node is not None and node.parent is not None:
        if ordered(LockClass.all[node.key >> CLASS_SHIFT]):
            yield node
        node = node.parent


def _edges(found: Ctx, weak: bool, rules: Rules) -> Iterator[Edge]:
    """An edge from everything held in the same task or interrupt."""
    new = found.key >> SUBCLASS_SHIFT
    seen = []
    for node in _around(found):
        if node.in_irq != found.in_irq:
            break
        kind = ASKED_RECURSIVE if weak else 0
        if rules.mode == "4.9":
            if recursive(node, rules):
                continue
            kind = PASSING if weak else 0
        elif node.key & SHARED:
            kind |= HELD_SHARED
        edge = Edge(node.key >> SUBCLASS_SHIFT, new, kind)
        if edge.held != new and edge not in seen:
            seen.append(edge)
            yield edge


def _covered(found: Ctx) -> bool:
    """Whether the same class is held already, and a nest lock outside of it makes that fine."""
    under = NESTS.get(LockClass.all[found.key >> CLASS_SHIFT].name)
    twice = covered = False
    for node in _around(found):
        if node.key >> SUBCLASS_SHIFT == found.key >> SUBCLASS_SHIFT:
            twice, covered = True, False
        elif LockClass.all[node.key >> CLASS_SHIFT].name == under:
            covered = True
    return twice and (covered or bool(found.key & NEST))


def _again(found: Ctx, weak: bool) -> Ctx | None:
    """The innermost holder of the same class that the new one can wait for."""
    for node in _around(found):
        twice = node.key >> SUBCLASS_SHIFT == found.key >> SUBCLASS_SHIFT
        if twice and not (weak and node.key & SHARED):
            return node
    return None


def _opens(node: Ctx, state: Ctx) -> Iterator[Use]:
    """The lock of ``node`` is held in ``state``: which interrupts can come meanwhile."""
    if not state.irqs_off:
        yield Use(node.key >> SUBCLASS_SHIFT, HARD, bool(node.key & SHARED))
        if not state.bh_off:
            yield Use(node.key >> SUBCLASS_SHIFT, SOFT, bool(node.key & SHARED))


_PREEMPTIBLE = ("spinlock", "rwlock")
"""Kinds of spinning locks that sleep on a real-time kernel."""

_RAW = ("raw_spinlock", RCU_SCHED.cls.kind, HARDIRQ_UNTHREADED.cls.kind)
"""Where even there nothing sleeps."""


def _too_deep(found: Ctx) -> Ctx | None:
    """What is held that forbids to take a lock that sleeps on a real-time kernel, or None."""
    if LockClass.all[found.key >> CLASS_SHIFT].kind not in _PREEMPTIBLE:
        return None
    node = found.parent
    while node.parent is not None:
        if LockClass.all[node.key >> CLASS_SHIFT].kind in _RAW:
            return node
        if node.in_irq != node.parent.in_irq:  # what is below was interrupted
            break
        node = node.parent
    return None
