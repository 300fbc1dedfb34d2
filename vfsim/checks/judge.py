"""The judge that looks: everything the engine asks, answered by the checks of this floor.

`KernelJudge` is the `Judge` of one world (``Machine(judge=KernelJudge())``). It holds no rule
itself:

==================== ==============================================================================
lock order           `vfsim.checks.lockdep`, over situations seen for the first time
waiting and hanging  `vfsim.checks.waits`, the graph of who waits for whom
methods              `vfsim.checks.promises`: what a method may release, and whether it may sleep
races                `vfsim.checks.races`, on declared fields, if asked to
lifetimes            `vfsim.checks.lifetime` records by itself: the engine knows no objects
==================== ==============================================================================

Sleeping where it is forbidden, a wait that can never end and a lock in a meaningless state end the
world; the rest is recorded, once, and the run goes on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vfsim.checks import promises, waits
from vfsim.checks.blame import KERNEL, Culprit, blame, handler, innermost, owner_of_child, place
from vfsim.checks.history import chain, is_lock, quietly, spelled, stack_of, syscall, taken
from vfsim.checks.lockdep import DEFAULT, Lockdep, Rules, followed
from vfsim.checks.races import RACES
from vfsim.sim.context import IRQ
from vfsim.sim.errors import PASSING, KernelBug, Violation
from vfsim.sim.judge import Judge
from vfsim.sim.state import K
from vfsim.sim.task import TASK
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from vfsim.checks.lockdep import Finding
    from vfsim.sim.context import Pin
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class KernelJudge(Judge):
    """The judge of one world: make a new one for each machine.

    Args:
        rules: which generation of lockdep to follow.
        races: whether accesses to declared fields are looked at.
    """

    lockdep: Lockdep
    keeps_books = True

    def __init__(self, rules: Rules = DEFAULT, races: bool = False) -> None:
        self.rules = rules
        self.races = races

    def start(self, machine: Machine) -> None:
        """A world begins."""
        if self.races:
            machine.access = RACES
        self.lockdep = Lockdep(machine, self.rules)
        self.findings: list[Finding] = self.lockdep.findings
        self.entering = self.lockdep.entering  # type: ignore[method-assign]
        self.exposed = self.lockdep.exposed  # type: ignore[method-assign]
        self.further = self.lockdep.further  # type: ignore[method-assign]

    # -- sleeping and waiting ----------------------------------------------------------------------

    def sleeping(self, task: Task, obj: Any) -> None:
        """The current task may sleep here, and sleeping is forbidden.  Ends the world."""
        machine = task.machine
        if machine.dead:
            return
        if machine.trace is not None:
            machine.trace.note(task, "sleeps", obj)
        self.findings.append(("sleep-in-atomic",))
        what = f"for {waits.thing(obj)}" if obj is not None else "might_sleep()"
        violation = promises.slept(task, what)
        if violation is None:
            violation = followed(machine, self._atomic(task, obj))
        machine.fatal(violation)

    def _atomic(self, task: Task, obj: Any) -> Violation:
        reason = promises.why_atomic(task)
        culprit = self._blamed_for_sleep(task)
        verb = f"may sleep for {waits.thing(obj)}" if obj is not None else "may sleep"
        return Violation(
            "lockdep.sleep-in-atomic", "hard", culprit.owner, culprit.where,
            f"{task.name} {verb}, but {reason}",
            task.name, tuple(self._held(task)),
        )  # fmt: skip

    def _blamed_for_sleep(self, task: Task) -> Culprit:
        """Who sleeps; if that is the kernel, who took what forbids it before calling the kernel,
        or whose handler it is.
        """
        culprit = blame(task, sys._getframe(2))
        if culprit.owner != KERNEL:
            return culprit
        return self.lockdep.forbidder(task) or (handler(task) if task.kind != TASK else culprit)

    def waiting(self, task: Task, obj: Any) -> None:
        """The current task is about to wait.  Ends the world if it would be for ever."""
        violation = waits.stuck_on_itself(task, self.lockdep)
        if violation is not None:
            task.machine.fatal(followed(task.machine, violation))

    def hang(self, machine: Machine) -> None:
        """Tasks are left and none can ever run again."""
        machine.violation(followed(machine, waits.why_stuck(machine, self.lockdep)))
        machine.stopped = True

    def no_progress(self, machine: Machine, task: Task) -> None:
        """The step limit was reached."""
        culprit = blame(task, sys._getframe(1))
        stack = stack_of(task)
        violation = Violation(
            "no-progress", "no progress", culprit.owner, culprit.where,
            f"{machine.max_steps:,} scheduling points passed and {task.name} still runs",
            task.name, (*stack[:6], *waits.dump_tasks(machine).splitlines()),
        )  # fmt: skip
        machine.violation(violation)

    # -- letting go --------------------------------------------------------------------------------

    def not_held(self, task: Task, lock: Any) -> None:
        """The task releases a lock that it does not hold."""
        machine = task.machine
        if machine.dead:
            return
        if machine.trace is not None:
            machine.trace.note(task, "release", lock)
        name = getattr(lock, "name", None) or repr(lock)
        self.findings.append(("unlock-not-held", name))
        culprit = blame(task, sys._getframe(1))
        site = innermost(task)
        if culprit.owner == KERNEL and site is not None and _only_others_erred(machine):
            culprit = Culprit(site.blamed, site.where)  # it had the kernel do so
        owner = getattr(lock, "owner", None)
        if owner is not None:
            state = f"{owner.name} holds it"
        else:
            state = f"it is {lock!r}" if is_lock(lock) else "it is not on"
        violation = Violation(
            "lockdep.unlock-not-held", "soft", culprit.owner, culprit.where,
            f"{task.name} releases {name}, which it does not hold", task.name,
            (state, *self._held(task)),
        )  # fmt: skip
        machine.violation(followed(machine, violation))

    def unbalanced(self, task: Task, lock: Any, what: int, on: bool) -> None:
        """A spinlock was released by a form that does not go with the one that took it."""
        if task.machine.dead:
            return
        culprit = blame(task, sys._getframe(1))
        state = "interrupts" if what & IRQ else "softirqs"
        effect = f"on, which were off before it took {lock.name}" if on else "off"
        verb = "turns" if on else "leaves"
        task.machine.violation(
            Violation(
                "lockdep.irq-unbalanced", "soft", culprit.owner, culprit.where,
                f"{task.name} releases {lock.name} and {verb} {state} {effect}", task.name,
                tuple(self._held(task)), lock.name,
            )
        )  # fmt: skip

    def pinned(self, task: Task, lock: Any, pin: Pin) -> None:
        """A method releases a lock that its caller holds, and never promised to."""
        task.machine.violation(promises.released(task, lock, pin))

    def misused(self, task: Task, lock: Any, rule: str, what: str) -> None:
        """A rule of using a lock is broken, and the lock's state still means something."""
        machine = task.machine
        if machine.dead:
            return
        self.findings.append((rule, lock.name))
        culprit = blame(task, sys._getframe(1))
        violation = Violation(
            f"lockdep.{rule}", "soft", culprit.owner, culprit.where, f"{task.name} {what}",
            task.name, (f"it is {lock!r}", *self._held(task)), lock.name,
        )  # fmt: skip
        machine.violation(followed(machine, violation))

    def corrupt(self, task: Task, obj: Any, what: str) -> None:
        """A lock or counter is in a state that means nothing any more.  Ends the world."""
        culprit = blame(task, sys._getframe(1))
        task.machine.fatal(
            Violation(
                "lockdep.corrupt",
                "hard",
                culprit.owner,
                culprit.where,
                what,
                task.name,
                tuple(self._held(task)),
            )
        )

    def task_exit(self, task: Task) -> None:
        """A task ended normally: it must hold nothing."""
        if task.held is not None:
            what = "ended" if task.kind == TASK else "returned from its interrupt"
            self._still_held(task, "lockdep.held-at-exit", what)

    def return_to_user(self, task: Task) -> None:
        """A system call is over: nothing may be held."""
        if task.held is not None:
            call = syscall(task.machine.trace, task)
            self._still_held(
                task, "lockdep.held-in-user-mode", f"returned from {call or 'a system call'}"
            )

    def _still_held(self, task: Task, rule: str, what: str) -> None:
        held = [(spelled(entry, ctx.key), ctx) for entry, ctx in chain(task.held, task.ctx)]
        if not held:
            return
        self.findings += [(rule, name.removesuffix(" (shared)")) for name, _ in held]
        names = ", ".join(name for name, _ in held)
        takers = [self.lockdep.taker(ctx) for _, ctx in held]
        culprit = next((c for c in takers if c.owner != KERNEL), takers[0])
        violation = Violation(
            rule, "soft", culprit.owner, culprit.where,
            f"{task.name} {what} with {names} still held",
            task.name, tuple(self._held(task)), ", ".join(dict.fromkeys(name for name, _ in held)),
        )  # fmt: skip
        task.machine.violation(followed(task.machine, violation))

    def _held(self, task: Task) -> list[str]:
        """A line for each thing that a task holds, with where it was taken."""
        lines = []
        for entry, ctx in chain(task.held, task.ctx):
            event = taken(task.machine.trace, task, entry)
            at = f", taken at {event.where}" if event is not None and event.where else ""
            lines.append(f"{task.name} holds {spelled(entry, ctx.key)}{at}")
        return lines

    # -- tasks -------------------------------------------------------------------------------------

    def task_owner(self, creator: Task) -> str:
        """Whose a task is that ``creator`` starts."""
        return owner_of_child(creator)

    def task_failed(self, task: Task, error: BaseException) -> None:
        """A task's function raised.

        What a method's wrapper has reported is explained; what a filesystem's own thread or handler
        raises is reported here; everything else comes out of `Machine.run`.
        """
        if getattr(error, "__vfsim_told__", False) or isinstance(error, KernelBug):
            task.error = None
            return
        frame = _innermost(error.__traceback__)
        if frame is None or isinstance(error, PASSING):
            return
        owner = blame(task, frame[0]).owner
        if owner.startswith(("filesystem", "driver")):
            task.error = None
            task.machine.violation(_oops(task, error, owner, frame))


def _only_others_erred(machine: Machine) -> bool:
    """Whether the kernel has kept to the rules so far."""
    return all(violation.blamed != KERNEL for violation in machine.violations)


def _innermost(tb: TracebackType | None) -> tuple[FrameType, int] | None:
    """The innermost frame above the engine that an exception came through, and its line."""
    found = None
    while tb is not None:
        if not is_engine(tb.tb_frame.f_globals.get("__name__", "")):
            found = (tb.tb_frame, tb.tb_lineno)
        tb = tb.tb_next
    return found


def _oops(task: Task, error: BaseException, owner: str, at: tuple[FrameType, int]) -> Violation:
    where = f"{place(at[0]).rpartition(':')[0]}:{at[1]}"
    text = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
    summary = f"{task.name}, which {owner} started, stumbled over {text}"
    return Violation(
        "oops", "oops", owner, where, summary, task.name, (f"in {at[0].f_code.co_qualname}()",)
    )


def check_invariants(machine: Machine, *objects: Any) -> list[Violation]:
    """Never sleeps.  Call ``_check()`` of each object, while nothing runs, and report."""
    found = []
    saved, K.machine = K.machine, machine
    try:
        for obj in objects:
            try:
                quietly(obj._check)
            except AssertionError as error:
                where = _innermost(error.__traceback__)
                at = "" if where is None else f"{place(where[0]).rpartition(':')[0]}:{where[1]}"
                name = type(obj).__name__
                text = str(error) or "see there"
                summary = f"an invariant of {name} does not hold: {text}"
                found.append(
                    Violation(f"invariant.{name}", "hard", KERNEL, at, summary, "", (repr(obj),))
                )
    finally:
        K.machine = saved
    for violation in found:
        machine.violation(violation)
    return found


__all__ = ["KernelJudge", "check_invariants"]
