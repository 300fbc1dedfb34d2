"""The seam between the engine and the checks: what the engine asks when something is new or wrong.

The engine knows no rule.  `Judge` answers "fine" to everything; `vfsim.checks.judge` has the one
that looks. Checks change no state and no choice; they may record violations and end the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfsim.sim.context import Ctx, Pin
    from vfsim.sim.machine import Machine
    from vfsim.sim.task import Task


class Judge:
    """Answers that everything is fine.  Subclasses look closer.

    Attributes:
        keeps_books: whether somebody wants to know who took which reference.
    """

    keeps_books = False

    def start(self, machine: Machine) -> None:
        """A world begins."""

    def entering(self, node: Ctx, key: int, lock: Any) -> None:
        """The current task enters ``key`` inside ``node``, for the first time in this world."""

    def further(self, task: Task, key: int, lock: Any) -> None:
        """The task takes a further lock of a class whose locks have an order among themselves."""

    def exposed(self, task: Task) -> None:
        """Interrupts (softirqs) came on while the task holds what it took with them off."""

    def waiting(self, task: Task, obj: Any) -> None:
        """The current task is about to wait (sleeping or spinning) for ``obj``."""

    def sleeping(self, task: Task, obj: Any) -> None:
        """The current task is about to sleep, or might, in a context that forbids it."""

    def not_held(self, task: Task, lock: Any) -> None:
        """The task releases a lock that it does not hold."""

    def unbalanced(self, task: Task, lock: Any, what: int, on: bool) -> None:
        """A spinlock was released by a form that does not go with the one that took it.

        Args:
            what: `IRQ` or `BH`.  on: they would come on too early; else they would stay off.
        """

    def misused(self, task: Task, lock: Any, rule: str, what: str) -> None:
        """The task breaks a rule of using ``lock``; the lock's state still means something.

        Args:
            rule: in a word.  what: the rest of a sentence that begins with the task.
        """

    def pinned(self, task: Task, lock: Any, pin: Pin) -> None:
        """The task releases its caller's lock inside a method that did not promise to."""

    def corrupt(self, task: Task, obj: Any, what: str) -> None:
        """A lock or counter was used in a way that leaves its state meaningless."""

    def return_to_user(self, task: Task) -> None:
        """A system call of the task is over, and something is still on its held stack."""

    def task_exit(self, task: Task) -> None:
        """A task ended normally."""

    def task_failed(self, task: Task, error: BaseException) -> None:
        """A task's function raised.  A judge that explains the error clears ``task.error``."""

    def task_owner(self, creator: Task) -> str:
        """Whose a task is that ``creator`` starts now."""
        return creator.owner

    def hang(self, machine: Machine) -> None:
        """Tasks are left and none can ever run again."""
        from vfsim.sim.errors import Violation

        stuck = [t for t in machine.tasks if t.alive and not t.daemon]
        names = ", ".join(f"{t.name} waits for {t.waits_on!r}" for t in stuck)
        machine.violation(Violation("wait.hang", "hard", "kernel", "", f"nobody can run: {names}"))
        machine.stopped = True

    def no_progress(self, machine: Machine, task: Task) -> None:
        """The step limit was reached."""
        from vfsim.sim.errors import Violation

        machine.violation(
            Violation(
                "no-progress", "no progress", "kernel", "",
                f"{machine.max_steps:,} scheduling points passed and the tasks did not end",
                task.name,
            )
        )  # fmt: skip
