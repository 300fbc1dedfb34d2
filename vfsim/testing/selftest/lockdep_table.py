"""The self-test of Linux's lockdep as a table: one trace of operations a case, and its verdict.

Two kernels' tests are here: v4.9 has 253 cases (171 must be reported, 82 must stay silent), v5.17
has 385, of which the three on ``local_lock`` are left out (no such lock in v4.10).  Nothing here
runs; `vfsim.testing.selftest.lockdep` does.

An operation is spelled as in ``lib/locking-selftest.c``, so that a row can be held against it:

========================  ==========================================================================
``L U SI``                spinlock: lock, unlock, initialise      ``RAWL RAWU``   raw spinlock
``WL WU  RL RU  RWI``     rwlock: write, read, initialise
``ML MU MI``              mutex        ``WSL WSU  RSL RSU  RWSI`` rwsem: write, read, initialise
``LOCK UNLOCK INIT``      the same of the column's lock; ``LOCK(A)`` may be ``L(A)`` or ``RSL(A)``
``HARDIRQ_ENTER``, ...    interrupts: ``ENTER``/``EXIT`` a handler, ``DISABLE``/``ENABLE`` them
``IRQ_ENTER``, ...        the same of the column's kind of interrupt
``UNTHREADED_ENTER``      a handler that is no thread on a real-time kernel; ``.._EXIT``
``RCUL RCUU``             RCU section; ``RCUBL RCUBU`` of RCU-bh, ``RCUSL RCUSU`` of RCU-sched
``SLN(A,o)``              spinlock A, one of several under o
``WWAI WWAD WWAF``        an acquire context: init, done, fini
``WWL(o,t) WWS(o,t)``     take o for context t; the same with the slow form after EDEADLK
``WWL1 WWT WWU``          take o without a context, try, unlock
``BL BT BU  BN(o,t)``     the plain mutex calls on o's base; as one of several under t
``AWAY(o,t) BACK(o)``     somebody else takes o for t; lets go of it
``COPY(a,b) AGE(t,n)``    context a becomes equal to b; t gets younger by n
``RECLAIM RECLAIMED``     reclaim for an allocation with these GFP flags begins, ends
``ALLOC NOFS_SAVE``       allocate; from here to ``NOFS_RESTORE`` without filesystems
``CTX(o,t)`` ``ACQ(t,n)`` set o's context, t's count; ``NOCLASS(t)``: take t's class away
========================  ==========================================================================

``=`` after an operation is what it must return.  A, B, C, D are classes of their own; X1 and X2 are
two locks of one class, so are Y1 and Y2, Z1 and Z2.
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import TYPE_CHECKING

import attrs

from vfsim.checks.lockdep import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

V49, V517 = "4.9", "5.17"
OLD = Rules(mode="4.9")
NEW = Rules(recursive_reads=True)
"""Most of v5.17's test asks for readers as they are where rwlocks are not queued."""
QUEUED = Rules()
RAW = Rules(raw_nesting=True)


@attrs.frozen
class Row:
    """One case.

    Attributes:
        kernel: whose self-test it is of.
        lock, family, order: the column, the row, and the order of its events ("" if it has one).
        trace: the operations, expanded for its column.
        bug: it must be reported; else it must stay silent.
        rule: the rule that must be broken.  rules: how lockdep is configured.
    """

    kernel: str
    lock: str
    family: str
    order: str
    trace: str
    bug: bool
    rule: str
    rules: Rules

    @property
    def name(self) -> str:
        """``lockdep.spin.hard-safe-A+unsafe-B-1.213``."""
        return ".".join(filter(None, ("lockdep", self.lock, self.family, self.order)))


COLUMNS = {
    "spin": ("L", "U", "SI"),
    "wlock": ("WL", "WU", "RWI"),
    "rlock": ("RL", "RU", "RWI"),
    "mutex": ("ML", "MU", "MI"),
    "wsem": ("WSL", "WSU", "RWSI"),
    "rsem": ("RSL", "RSU", "RWSI"),
}
SIX = tuple(COLUMNS)
THREE = SIX[:3]
BOTH = ("hard", "soft")


def _pairs(text: str) -> str:
    """``AB``: lock A, lock B, unlock B, unlock A."""
    return " ".join(
        f"LOCK({a}) LOCK({b}) UNLOCK({b}) UNLOCK({a})" for a, b in map(tuple, text.split())
    )


def _of_column(trace: str, lock: str) -> str:
    for general, special in zip(("LOCK", "UNLOCK", "INIT"), COLUMNS[lock], strict=True):
        trace = re.sub(rf"\b{general}\(", f"{special}(", trace)
    return trace


# -- orders and wrong use: every family for six locks ----------------------------------------------

RECURSION, CIRCULAR = "lockdep.recursion", "lockdep.circular"

PLAIN = (  # family, trace, verdicts for spin wlock rlock mutex wsem rsem (B: must be reported)
    ("A-A", "LOCK(X1) LOCK(X2)", "BB.BBB", RECURSION),
    ("A-B-B-A", _pairs("AB BA"), "BB.BBB", CIRCULAR),
    ("A-B-B-C-C-A", _pairs("AB BC CA"), "BB.BBB", CIRCULAR),
    ("A-B-C-A-B-C", _pairs("AB CA BC"), "BB.BBB", CIRCULAR),
    ("A-B-B-C-C-D-D-A", _pairs("AB BC CD DA"), "BB.BBB", CIRCULAR),
    ("A-B-C-D-B-D-D-A", _pairs("AB CD BD DA"), "BB.BBB", CIRCULAR),
    ("A-B-C-D-B-C-D-A", _pairs("AB CD BC DA"), "BB.BBB", CIRCULAR),
    ("double-unlock", "LOCK(A) UNLOCK(A) UNLOCK(A)", "BBBBBB", "lockdep.unlock-not-held"),
    ("initialize-held", "LOCK(A) INIT(A)", "BBBBBB", "lockdep.held-reinit"),
)
PLAIN_OLD = (("bad-unlock-order", "LOCK(A) LOCK(B) UNLOCK(A) UNLOCK(B)", "......", ""),)

# -- readers and writers of one lock ---------------------------------------------------------------

MIXED = (  # lock, family, trace, verdict
    ("rlock", "recursive-read-lock", "RL(X1) RL(X1)", ".", RECURSION),
    ("rsem", "recursive-read-lock", "RSL(X1) RSL(X1)", "B", RECURSION),
    ("rlock", "recursive-read-lock-2", "RL(X1) RL(X2)", ".", RECURSION),
    ("rsem", "recursive-read-lock-2", "RSL(X1) RSL(X2)", "B", RECURSION),
    ("rlock", "mixed-read-write-lock", "RL(X1) WL(X2)", "B", RECURSION),
    ("rsem", "mixed-read-write-lock", "RSL(X1) WSL(X2)", "B", RECURSION),
    ("rlock", "mixed-write-read-lock", "WL(X1) RL(X2)", "B", RECURSION),
    ("rsem", "mixed-write-read-lock", "WSL(X1) RSL(X2)", "B", RECURSION),
)

_READ_FIRST = "RL(X1) L(Y1) U(Y1) RU(X1) "
_SEM_READ_FIRST = "RSL(X1) ML(Y1) MU(Y1) RSU(X1) "
ABBA = (
    ("rlock", "read-lock/lock-write", _READ_FIRST + "L(Y1) WL(X1) WU(X1) U(Y1)", "B", CIRCULAR),
    ("rsem", "read-lock/lock-write", _SEM_READ_FIRST + "ML(Y1) WSL(X1) WSU(X1) MU(Y1)", "B",
     CIRCULAR),
    ("rlock", "read-lock/lock-read", _READ_FIRST + "L(Y1) RL(X1) RU(X1) U(Y1)", ".", CIRCULAR),
    ("rsem", "read-lock/lock-read", _SEM_READ_FIRST + "ML(Y1) RSL(X1) RSU(X1) MU(Y1)", "B",
     CIRCULAR),
    ("rlock", "write-lock/lock-write",
     "WL(X1) L(Y1) U(Y1) WU(X1) L(Y1) WL(X1) WU(X1) U(Y1)", "B", CIRCULAR),
    ("rsem", "write-lock/lock-write",
     "WSL(X1) ML(Y1) MU(Y1) WSU(X1) ML(Y1) WSL(X1) WSU(X1) MU(Y1)", "B", CIRCULAR),
    ("rlock", "chain-cached",
     _READ_FIRST + "L(Y1) RL(X1) RU(X1) U(Y1) L(Y1) WL(X1) WU(X1) U(Y1)", "B", CIRCULAR),
)  # fmt: skip


def _modes(text: str) -> tuple[str, ...]:
    """``WX.RY``: write X1, read Y1, and back."""
    events = []
    for event in text.split():
        a, x, _, b, y = tuple(event)
        events.append(f"{a}L({x}1) {b}L({y}1) {b}U({y}1) {a}U({x}1)")
    return tuple(events)


THREE_LOCKS = (  # family, events in all orders, verdict
    ("W1R2/W2R3/W3R1", _modes("WX.RY WY.RZ WZ.RX"), "B"),
    ("W1W2/R2R3/W3R1", _modes("WX.WY RY.RZ WZ.RX"), "B"),
    ("W1W2/R2R3/R3W1", _modes("WX.RY RY.RZ WZ.WX"), "."),
    ("W1R2/R2R3/W3W1", _modes("WX.WY RY.RZ RZ.WX"), "."),
)

# -- interrupts ------------------------------------------------------------------------------------

_IN = "IRQ_ENTER LOCK(A) UNLOCK(A) IRQ_EXIT"
_OPEN_A, _OPEN_B = "LOCK(A) UNLOCK(A)", "LOCK(B) UNLOCK(B)"

IRQ = (  # family, events in all orders, kinds of interrupt, columns, verdicts
    ("irqs-on+irq-safe-A", (_IN, _OPEN_A), BOTH, THREE, "BB."),
    ("sirq-safe-A=>hirqs-on",
     ("SOFTIRQ_ENTER LOCK(A) UNLOCK(A) SOFTIRQ_EXIT",
      "HARDIRQ_DISABLE LOCK(A) HARDIRQ_ENABLE UNLOCK(A)"), ("",), THREE, "BB."),
    ("safe-A+irqs-on", (_IN, "IRQ_DISABLE LOCK(A) IRQ_ENABLE UNLOCK(A)"), BOTH, THREE, "BB."),
    ("safe-A+unsafe-B-1", (_pairs("AB"), _OPEN_B, _IN), BOTH, THREE, "BB."),
    ("safe-A+unsafe-B-2",
     (f"IRQ_DISABLE {_pairs('AB')} IRQ_ENABLE", _OPEN_B, _IN), BOTH, THREE, "BB."),
    ("irq-lock-inversion",
     ("IRQ_DISABLE WL(A) LOCK(B) UNLOCK(B) WU(A) IRQ_ENABLE", _OPEN_B,
      "IRQ_ENTER RL(A) RU(A) IRQ_EXIT"), BOTH, THREE, "BB."),
)  # fmt: skip

_READ_A = "RL(A) RU(A)"
_RECURSION = (
    "IRQ_DISABLE WL(A) WU(A) IRQ_ENABLE", _READ_A,
    "IRQ_ENTER LOCK(A) L(B) U(B) UNLOCK(A) IRQ_EXIT",
)  # fmt: skip
IRQ_OLD = (("irq-read-recursion", _RECURSION, BOTH, ("rlock",), "."),)
IRQ_NEW = (
    ("irq-read-recursion", _RECURSION, BOTH, ("wlock", "rlock"), "B."),
    ("irq-read-recursion-2",
     ("IRQ_DISABLE L(B) LOCK(A) UNLOCK(A) U(B) IRQ_ENABLE", _READ_A,
      "IRQ_ENTER L(B) U(B) IRQ_EXIT"), BOTH, ("wlock", "rlock"), "B."),
    ("irq-read-recursion-3",
     ("IRQ_DISABLE WL(B) LOCK(A) UNLOCK(A) WU(B) IRQ_ENABLE", _READ_A,
      "IRQ_ENTER RL(B) RU(B) IRQ_EXIT"), BOTH, ("wlock", "rlock"), "B."),
)  # fmt: skip

# -- wound/wait mutexes ----------------------------------------------------------------------------

_WW = "lockdep.ww-mutex"
_BUSY = "AWAY(o2,t2) WWAI(t) COPY(t2,t) AGE(t2,-1) WWL(o,t) WWL(o2,t)=EDEADLK"
_FREED = "BACK(o2)"

WW = (  # family, trace, verdict, rule
    ("fail-acquire",
     "WWAI(t) AGE(t,1) WWL(o,t) WWL(o,t)=EALREADY WWT(o)=no COPY(t2,t) AGE(t2,1) WWL(o,t2)=EDEADLK "
     "WWU(o) WWT(o)=yes WWU(o)", ".", ""),
    ("normal-calls",
     "WWAI(t) CTX(o,t2) BL(o) BU(o) BT(o)=yes BU(o) BL(o) BT(o)=no BU(o) BN(o,t) BU(o) CTX(o)=t2",
     ".", ""),
    ("unneeded-slow", "WWAI(t) WWS(o,t)", "B", _WW),
    ("two-contexts", "WWAI(t) WWAI(t2)", "B", RECURSION),
    ("other-class", "WWAI(t) NOCLASS(t) WWL(o,t)", "B", _WW),
    ("done-twice", "WWAI(t) WWAD(t) WWAD(t) WWAF(t)", "B", _WW),
    ("fini-twice", "WWAI(t) WWAD(t) WWAF(t) WWAF(t)", "B", "lockdep.unlock-not-held"),
    ("fini-early", "WWAI(t) WWL(o,t) WWAD(t) WWAF(t)", "B", _WW),
    ("lock-after-done", "WWAI(t) WWAD(t) WWL(o,t)", "B", _WW),
    ("unlock-twice", "WWL1(o) WWU(o) WWU(o)", "B", "lockdep.unlock-not-held"),
    ("lock-unbalanced", "WWAI(t) WWL(o,t) ACQ(t,0) WWU(o) WWAF(t)", "B", _WW),
    ("stale-context", "WWAI(t) CTX(o,t2) WWL(o,t)", "B", _WW),
    ("edeadlk-normal", f"{_BUSY} {_FREED} WWU(o) WWL(o2,t)", ".", ""),
    ("edeadlk-normal-slow", f"{_BUSY} {_FREED} WWU(o) WWS(o2,t)", ".", ""),
    ("edeadlk-no-unlock", f"{_BUSY} {_FREED} WWL(o2,t)", "B", _WW),
    ("edeadlk-no-unlock-slow", f"{_BUSY} {_FREED} WWS(o2,t)", "B", _WW),
    ("edeadlk-acquire-more", f"{_BUSY} WWL(o3,t)", "B", _WW),
    ("edeadlk-acquire-more-slow", f"{_BUSY} WWS(o3,t)", "B", _WW),
    ("edeadlk-acquire-more-edeadlk",
     _BUSY.replace("WWAI", "AWAY(o3,t2) WWAI") + " WWL(o3,t)=EDEADLK", "B", _WW),
    ("edeadlk-acquire-more-edeadlk-slow",
     _BUSY.replace("WWAI", "AWAY(o3,t2) WWAI") + " WWS(o3,t)=EDEADLK", "B", _WW),
    ("edeadlk-acquire-wrong", f"{_BUSY} WWU(o) WWL(o3,t)", "B", _WW),
    ("edeadlk-acquire-wrong-slow", f"{_BUSY} WWU(o) WWS(o3,t)", "B", _WW),
    ("spin-nest-unlocked", "SLN(A,o) U(A)", "B", "lockdep.nest-not-held"),
    ("spin-nest-lock",  # in v5.17 only
     "L(X1) SLN(Y1,X1) L(A) SLN(Y2,X1) U(A) U(Y2) U(Y1) U(X1)", ".", ""),
    ("context-block", "WWAI(t) WWL(o,t) WWL1(o2)", "B", RECURSION),
    ("context-try", "WWAI(t) WWL(o,t) WWT(o2)=yes WWU(o2) WWU(o)", ".", ""),
    ("context-context", "WWAI(t) WWL(o,t) WWL(o2,t) WWU(o2) WWU(o)", ".", ""),
    ("try-block", "WWT(o)=yes WWL1(o2) WWU(o2) WWU(o)", "B", RECURSION),
    ("try-try", "WWT(o)=yes WWT(o2)=yes WWU(o2) WWU(o)", ".", ""),
    ("try-context", "WWT(o)=yes WWAI(t) WWL(o2,t)", "B", RECURSION),
    ("block-block", "WWL1(o) WWL1(o2)", "B", RECURSION),
    ("block-try", "WWL1(o) WWT(o2)=yes", ".", ""),
    ("block-context", "WWL1(o) WWAI(t) WWL(o2,t)", "B", RECURSION),
    ("spin-block", "L(A) U(A) WWL1(o) L(A) U(A) WWU(o) L(A) WWL1(o) WWU(o) U(A)", "B",
     "lockdep.sleep-in-atomic"),
    ("spin-try", "L(A) U(A) WWT(o)=yes L(A) U(A) WWU(o) L(A) WWT(o)=yes WWU(o) U(A)", ".", ""),
    ("spin-context",
     "L(A) U(A) WWAI(t) WWL(o,t) L(A) U(A) WWU(o) L(A) WWL(o,t) WWU(o) U(A)", "B",
     "lockdep.sleep-in-atomic"),
)  # fmt: skip

# -- v5.17 only ------------------------------------------------------------------------------------

QUEUED_READERS = (
    ("hardirq-read-lock/lock-read",
     "HARDIRQ_ENTER RL(A) WL(B) WU(B) RU(A) HARDIRQ_EXIT "
     "HARDIRQ_DISABLE WL(B) RL(A) RU(A) WU(B) HARDIRQ_ENABLE", "B", CIRCULAR),
    ("hardirq-lock-read/read-lock",
     "HARDIRQ_ENTER WL(B) RL(A) RU(A) WU(B) HARDIRQ_EXIT "
     "HARDIRQ_DISABLE RL(A) WL(B) WU(B) RU(A) HARDIRQ_ENABLE", ".", CIRCULAR),
    ("hardirq-inversion",
     "HARDIRQ_ENTER WL(B) WU(B) HARDIRQ_EXIT "
     "HARDIRQ_DISABLE WL(B) RL(A) RU(A) WU(B) HARDIRQ_ENABLE RL(A) RU(A)", "B",
     "lockdep.irq-inversion"),
)  # fmt: skip

FS_RECLAIM = (
    ("correct-nesting", "RECLAIM(KERNEL) ALLOC(NOFS) RECLAIMED(KERNEL)", ".", ""),
    ("wrong-nesting", "RECLAIM(KERNEL) ALLOC(KERNEL) RECLAIMED(KERNEL)", "B", RECURSION),
    ("protected-nesting",
     "RECLAIM(KERNEL) NOFS_SAVE ALLOC(KERNEL) NOFS_RESTORE RECLAIMED(KERNEL)", ".", ""),
)  # fmt: skip

OUTER = (  # outer, how to enter and leave it, verdicts for the four inner ones
    ("hardirq", "HARDIRQ_ENTER", "HARDIRQ_EXIT", "...B"),
    ("hardirq-not-threaded", "UNTHREADED_ENTER", "UNTHREADED_EXIT", "..BB"),
    ("softirq", "SOFTIRQ_ENTER", "SOFTIRQ_EXIT", "...B"),
    ("rcu", "RCUL", "RCUU", "...B"),
    ("rcu-bh", "RCUBL", "RCUBU", "...B"),
    ("rcu-sched", "RCUSL", "RCUSU", "..BB"),
    ("raw-spin", "RAWL(A)", "RAWU(A)", "..BB"),
    ("spin", "L(A)", "U(A)", "...B"),
    ("mutex", "ML(A)", "MU(A)", "...."),
)
INNER = (
    ("rcu", "RCUL RCUU", ""),
    ("raw-spin", "RAWL(B) RAWU(B)", ""),
    ("spin", "L(B) U(B)", "lockdep.wait-context"),
    ("mutex", "ML(B) MU(B)", "lockdep.sleep-in-atomic"),
)

HARDIRQ_UNSAFE_SOFTIRQ_SAFE = (
    "ML(A) HARDIRQ_DISABLE L(C) U(C) HARDIRQ_ENABLE MU(A) "
    "HARDIRQ_ENTER L(A) U(A) HARDIRQ_EXIT "
    "HARDIRQ_DISABLE L(A) L(B) U(B) U(A) HARDIRQ_ENABLE "
    "HARDIRQ_DISABLE L(B) L(C) U(C) U(B) HARDIRQ_ENABLE "
    "SOFTIRQ_ENTER L(D) U(D) SOFTIRQ_EXIT "
    "SOFTIRQ_DISABLE L(D) U(D) SOFTIRQ_ENABLE "
    "HARDIRQ_DISABLE L(C) L(D) U(D) U(C) HARDIRQ_ENABLE"
)

# -- all of it -------------------------------------------------------------------------------------


def rows(kernel: str) -> Iterator[Row]:
    """The cases of a kernel's self-test, in its order."""
    new = kernel == V517
    rules = NEW if new else OLD
    for family, trace, verdicts, rule in PLAIN if new else PLAIN + PLAIN_OLD:
        for lock, verdict in zip(SIX, verdicts, strict=True):
            yield _row(kernel, lock, family, _of_column(trace, lock), verdict, rule, rules)
    for lock, family, trace, verdict, rule in MIXED + ABBA if new else MIXED:
        yield _row(kernel, lock, family, trace, verdict, rule, rules)
    if new:
        for family, events, verdict in THREE_LOCKS:
            for order, trace in _orders(events):
                yield _row(kernel, "rlock", family, trace, verdict, CIRCULAR, rules, order)
    for irq in IRQ + (IRQ_NEW if new else IRQ_OLD):
        yield from _irq_rows(kernel, rules, *irq)
    for family, trace, verdict, rule in WW:
        if new or family != "spin-nest-lock":
            yield _row(kernel, "ww", family, trace, verdict, rule, rules)
    if new:
        yield from _newest_rows()


def _irq_rows(
    kernel: str,
    rules: Rules,
    family: str,
    events: tuple[str, ...],
    kinds: tuple[str, ...],
    locks: tuple[str, ...],
    verdicts: str,
) -> Iterator[Row]:
    for order, trace in _orders(events):
        for kind in kinds:
            full = f"{kind}-{family}" if kind else family
            for lock, verdict in zip(locks, verdicts, strict=True):
                expanded = _of_column(trace, lock).replace(" IRQ_", f" {kind.upper()}IRQ_")
                yield _row(
                    kernel, lock, full, expanded.strip(), verdict, "lockdep.irq-inversion", rules,
                    order,
                )  # fmt: skip


def _newest_rows() -> Iterator[Row]:
    for family, trace, verdict, rule in QUEUED_READERS:
        yield _row(V517, "qrwlock", family, trace, verdict, rule, QUEUED)
    for family, trace, verdict, rule in FS_RECLAIM:
        yield _row(V517, "fs_reclaim", family, trace, verdict, rule, QUEUED)
    for outer, enter, leave, verdicts in OUTER:
        for (inner, body, rule), verdict in zip(INNER, verdicts, strict=True):
            trace = f"{enter} {body} {leave}"
            yield _row(V517, "wait-context", f"{inner}-in-{outer}", trace, verdict, rule, RAW)
    yield _row(
        V517, "spin", "hardirq-unsafe-softirq-safe", HARDIRQ_UNSAFE_SOFTIRQ_SAFE, "B",
        "lockdep.irq-inversion", QUEUED,
    )  # fmt: skip


def _orders(events: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every order of the events, with its name: ``213``."""
    for order in permutations(range(len(events))):
        name = "".join(str(i + 1) for i in order)
        yield name, " " + " ".join(events[i] for i in order)


def _row(
    kernel: str,
    lock: str,
    family: str,
    trace: str,
    verdict: str,
    rule: str,
    rules: Rules,
    order: str = "",
) -> Row:
    bug = verdict == "B"
    return Row(kernel, lock, family, order, trace.strip(), bug, rule if bug else "", rules)
