"""The discipline of sequence counters: what was read in a window that failed must not be used.

A *window* is what a task reads of the fields that a counter covers
(``guarded_by(.., seq="d_seq")``) from `read_begin` on.  `read_retry` says whether a writer
came in between::

    opened (read_begin) → validated (read_retry False), goes on → ...
                        → failed (read_retry True): what was read may be half old, half new
                        → abandoned (begun again without asking): nobody knows

After a window failed or was abandoned, the objects that were read in it are *stale* for that task:
using one (reading or writing a declared field of it, or storing it in one) is reported, until the
task has read it again.  An object that the task had used before the window is not stale: it may
know it from somewhere else.  Of a window in an RCU section nothing is stale after the section: the
task starts over, and may meet the same objects in places that nobody watches.

Inside an RCU section, where a walk has no reference and no lock, a window also stays what it is
after it was found good: whoever reads a pointer in it a second time, and finds another one than the
first time, knows two moments, and has to ask once more before the section ends.  (Unless something
else made it start over: another window that failed.  And unless it was not the walk that read, but
a filesystem's method in the middle of it, which cannot ask: its caller decides what it wants to
know from it.)

=================  ==============================================================================
rule               what is wrong
=================  ==============================================================================
``seq.stale``      an object from a failed window is used
``seq.unchecked``  an object from a window that was begun again without asking is used
``seq.unasked``    a pointer was read twice in a window, was not the same, and nobody asked why
=================  ==============================================================================

The other side is a matter of races: reads in a window are allowed against writes inside the write
section only (`vfsim.checks.races`), and a write section is itself a write of the counter, so that
two writers that nothing keeps apart race.

What it cannot see: what a task does while it is alone (`vfsim.checks.epochs`), so that it may have
known later whatever a window shows it; numbers, strings and
truth values (an int has no identity), decisions that were made on what was read, and objects whose
class declares no field.  A window that is left without asking is no finding by itself: Linux leaves
one so where it found nothing.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import blame
from vfsim.checks.epochs import VETERANS
from vfsim.sim.errors import Violation
from vfsim.sim.shared import STRUCTS
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.locks.seqlock import SeqCount
    from vfsim.sim.context import Held
    from vfsim.sim.task import Task


class Window:
    """What a task has read since it began to look.

    Attributes:
        read: the objects that were read and not yet validated, each with the field it came from.
        held: what the task held when it began, if that was in an RCU section.
        seen: what it was shown first, by object and field, with nothing more held than that.
        torn: what is to be said if it ends now: a pointer was not what it had been.
    """

    __slots__ = ("held", "read", "seen", "torn")

    def __init__(self, held: Held | None) -> None:
        self.read: dict[Any, str] = {}
        self.held = held
        self.seen: dict[tuple[Any, str], Any] = {}
        self.torn: Violation | None = None

    def shows_another(self, obj: Any, field: str, value: Any) -> bool:
        """Never sleeps.  Whether a pointer is not what the current task saw before."""
        task = K.cur
        if self.held is None or self.held is not task.held:
            return False  # another section, or a lock or a method inside of it
        if value is not None and type(value) not in STRUCTS:
            return False
        return self.seen.setdefault((obj, field), value) is not value


WINDOWS: defaultdict[Task, dict[SeqCount, Window]] = defaultdict(dict)
"""The open windows of each task."""


class _Everything(dict[Any, None]):
    """What a task knows that was alone once: perhaps anything."""

    def __contains__(self, obj: object) -> bool:
        return True

    def __setitem__(self, obj: Any, value: None) -> None:
        pass


class _Known(dict[Any, dict[Any, None]]):
    def __missing__(self, task: Task) -> dict[Any, None]:
        mine = self[task] = _Everything() if task in VETERANS else {}
        return mine


KNOWN = _Known()
"""What each task has used."""
STALE: dict[Task, dict[Any, tuple[str, str, bool]]] = {}
"""By task: what it must read again, with the rule it would break, where it came from, and whether
that was in an RCU section."""


def forget() -> None:
    """Never sleeps.  A machine begins to run."""
    WINDOWS.clear()
    KNOWN.clear()
    STALE.clear()


class _SectionEnd:
    """Waits for the end of a task's RCU section, as grace periods do: `vfsim.sim.cpu.quiescent`."""

    __slots__ = ()

    def left(self, task: Task) -> bool:
        """Never sleeps.  What is torn in the end is told."""
        if task.ctx.rcu:
            return False
        machine = task.machine
        for window in WINDOWS.get(task, {}).values():
            torn, window.torn = window.torn, None
            if torn is not None and not machine.dead and not machine.stopped:
                machine.violation(torn)
        return True


_END = _SectionEnd()


def tear(window: Window, told: Violation) -> None:
    """Never sleeps.  The current task was shown two different pointers.

    Args:
        told: what to say if nobody asks until the section ends.
    """
    task = K.cur
    window.torn = told
    if task.rcu_waits is None:
        task.rcu_waits = []
    if _END not in task.rcu_waits:
        task.rcu_waits.append(_END)


def began(task: Task, count: SeqCount) -> None:
    """Never sleeps.  A task, the current one, begins to look."""
    mine = WINDOWS[task]
    before = mine.get(count)
    if before is not None and before.read:
        _spoil(before, "seq.unchecked", f"a window of {count.name} that was never checked")
    mine[count] = Window(task.held if task.ctx.rcu else None)


def asked(task: Task, count: SeqCount, failed: bool) -> None:
    """Never sleeps.  A task, the current one, asked whether its window is good."""
    mine = WINDOWS[task]
    window = mine.get(count)
    if window is None:
        return
    window.torn = None
    if failed:
        _spoil(window, "seq.stale", f"a window of {count.name} that failed")
        del mine[count]
        for other in mine.values():
            other.torn = None  # the task starts over
    else:
        window.read.clear()


def left(count: SeqCount) -> None:
    """Never sleeps.  The current task keeps nothing of what it read in its window."""
    mine = WINDOWS.get(K.cur)
    if mine:
        mine.pop(count, None)


def _spoil(window: Window, rule: str, of: str) -> None:
    if window.read:
        stale = STALE.setdefault(K.cur, {})
        for obj, field in window.read.items():
            stale[obj] = (rule, f"read from {field} in {of}", K.cur.ctx.rcu > 0)
        window.read.clear()


def _settle(stale: dict[Any, Any], obj: Any) -> None:
    """Never sleeps.  An object of the current task's is stale no more.

    Nobody's entry stays empty: while `STALE` is, no access has to look at it.
    """
    stale.pop(obj, None)
    if not stale:
        del STALE[K.cur]


def fresh(value: Any) -> None:
    """Never sleeps.  The current task read ``value`` again."""
    stale = STALE.get(K.cur)
    if stale and type(value) in STRUCTS:
        _settle(stale, value)


def used(obj: Any, how: str) -> None:
    """Never sleeps.  The current task uses an object; a bug if it is stale."""
    stale = STALE.get(K.cur)
    if stale and type(obj) in STRUCTS and obj in stale:
        rule, origin, in_rcu = stale[obj]
        task = K.cur
        _settle(stale, obj)
        if in_rcu and not task.ctx.rcu:
            return
        culprit = blame(task, sys._getframe(2))
        task.machine.violation(
            Violation(
                rule, "soft", culprit.owner, culprit.where,
                f"{task.name} {how} {type(obj).__name__}, which it must read again first",
                task.name, (origin,),
            )
        )  # fmt: skip
