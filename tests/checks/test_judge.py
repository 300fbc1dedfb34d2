"""The judge: sleeping where it is forbidden, letting go of what is not held, and tasks that end
badly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.checks.contract_world import kernel
from tests.checks.worlds import after, first, soft, verdicts, world
from vfsim.checks.contract import Operations
from vfsim.checks.judge import KernelJudge, check_invariants
from vfsim.checks.rules import may_block, never_blocks
from vfsim.locks.completion import Completion
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read, rcu_read_unlock, synchronize_rcu
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.cpu import (
    local_bh_disable,
    local_irq_disable,
    local_irq_enable,
    preempt_disable,
    preempt_enable,
)
from vfsim.sim.errors import ENOSPC
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import cond_resched, might_sleep, msleep, yield_
from vfsim.sim.state import K

ATOMIC, NOT_HELD = "lockdep.sleep-in-atomic", "lockdep.unlock-not-held"
AT_EXIT, IN_USER = "lockdep.held-at-exit", "lockdep.held-in-user-mode"


# -- sleeping --------------------------------------------------------------------------------------


def sleepers() -> dict[str, Callable[[], None]]:
    return {
        "mutex": lambda: Mutex("M").lock(),
        "rwsem read": lambda: RwSem("R").down_read(),
        "rwsem write": lambda: RwSem("R").down_write(),
        "msleep": lambda: msleep(1),
        "might_sleep": might_sleep,
        "cond_resched": cond_resched,
        "yield": yield_,
        "wait": lambda: WaitQueue("q").wait_event(lambda: True),
        "completion": lambda: Completion("c").wait(),
        "synchronize_rcu": synchronize_rcu,
    }


@pytest.mark.parametrize("how", list(sleepers()))
@pytest.mark.parametrize("state", ["spinlock", "rcu", "preempt", "irq", "bh", "spin_irq"])
def test_sleeping_is_forbidden_in_atomic_context(how: str, state: str) -> None:
    """Whatever might sleep, even if it would not this time, is reported in every state that forbids
    it.
    """

    def task() -> None:
        sleep = sleepers()[how]
        if state == "spinlock":
            SpinLock("S").lock()
        elif state == "spin_irq":
            SpinLock("S").lock_irq()
        elif state == "rcu":
            with rcu_read():
                sleep()
        elif state == "preempt":
            preempt_disable()
        elif state == "irq":
            local_irq_disable()
        else:
            local_bh_disable()
        sleep()

    violation = first(task)
    assert (violation.rule, violation.kind, violation.blamed) == (ATOMIC, "hard", "test")


@pytest.mark.parametrize("run", [lambda fn: after(1000, fn), soft], ids=["hardirq", "softirq"])
def test_interrupts_do_not_sleep(run: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
    """A handler that takes a mutex is reported, one that takes a spinlock is not."""
    m, s = Mutex("M"), SpinLock("S")

    def bad() -> None:
        with m:
            pass

    def good() -> None:
        with s:
            pass

    assert verdicts(run(bad)) == [ATOMIC]
    assert verdicts(run(good)) == []


def test_trylock_of_a_sleeping_lock_does_not_sleep() -> None:
    """Trying a mutex under a spinlock is how one goes against the order."""
    m, s = Mutex("M"), SpinLock("S")

    def task() -> None:
        with s:
            if m.trylock():
                m.unlock()

    assert verdicts(task) == []


def test_sleeping_after_the_section_is_fine() -> None:
    """What was turned off and is on again forbids nothing, whatever the order."""
    s = SpinLock("S")

    def task() -> None:
        preempt_disable()
        s.lock()
        preempt_enable()
        s.unlock()
        msleep(1)
        flags = s.lock_irqsave()
        s.unlock_irqrestore(flags)
        with rcu_read():
            pass
        local_irq_disable()
        local_irq_enable()
        with Mutex("M"):
            msleep(1)

    assert verdicts(task) == []


class Rows(Operations):
    """A table for the tests."""

    table = "judge_test"

    @never_blocks()
    def quiet(self) -> None:
        """Must not sleep."""

    @may_block()
    def loud(self) -> None:
        """May sleep."""


class Careless(Rows):
    """A filesystem that does everything wrong."""

    def quiet(self) -> None:
        msleep(1)

    def loud(self) -> None:
        SpinLock("private").lock()
        msleep(1)


class Stumbling(Rows):
    """A filesystem that raises."""

    def quiet(self) -> None:
        raise KeyError("no such block")

    def loud(self) -> None:
        raise ENOSPC()


def test_blame_for_sleeping() -> None:
    """In a method that may not block the rule is the method's; under a lock of its own it is the
    general one.
    """
    quiet, loud = first(lambda: Careless().quiet()), first(lambda: Careless().loud())
    assert (quiet.rule, quiet.blamed) == (
        "judge_test.quiet.never_blocks",
        "filesystem Careless.quiet",
    )
    assert (loud.rule, loud.blamed) == (ATOMIC, "filesystem Careless.loud")


# -- letting go ------------------------------------------------------------------------------------


def test_unlocking_what_is_not_held() -> None:
    """Releasing a free lock, somebody else's, twice, or a state that is not on: the run goes on."""
    m, s, r = Mutex("M"), SpinLock("S"), RwSem("R")

    def other() -> None:
        with m:
            msleep(5)

    def task() -> None:
        msleep(1)
        m.unlock()
        s.unlock()
        r.up_read()
        r.up_write()
        with s:
            pass
        s.unlock()
        rcu_read_unlock()
        local_irq_enable()

    with world(other, task) as machine:
        assert {v.rule for v in machine.violations} == {NOT_HELD}
        assert len(machine.violations) == 7
        assert "other holds it" in machine.violations[0].details[0]
        assert m.owner is None


@pytest.mark.parametrize("traced", [False, True])
def test_a_task_ends_with_something_held(traced: bool) -> None:
    """Locks and states that a task takes with it are named, with where they were taken."""

    def task() -> None:
        Mutex("M").lock()
        local_irq_disable()

    violation = first(task, traced=traced)
    assert (violation.rule, violation.blamed) == (AT_EXIT, "test")
    assert "interrupts off, M still held" in violation.summary
    assert ("taken at test_judge.py" in "\n".join(violation.details)) is traced


def test_a_handler_returns_with_something_held() -> None:
    """An interrupt must leave nothing behind either."""
    assert verdicts(soft(lambda: SpinLock("S").lock())) == [AT_EXIT]


def test_return_to_user_with_something_held() -> None:
    """At the end of a system call nothing is held."""
    m = Mutex("M")

    def call() -> None:
        m.lock()
        K.machine.judge.return_to_user(K.cur)
        m.unlock()
        K.machine.judge.return_to_user(K.cur)

    assert verdicts(call) == [IN_USER]


def test_corrupt_state_ends_the_world() -> None:
    """A state in which nothing makes sense any more is final."""

    def task() -> None:
        K.machine.judge.corrupt(K.cur, None, "a count of -3")

    assert first(task).kind == "hard"


# -- tasks -----------------------------------------------------------------------------------------


def test_an_oops_is_explained_and_told_once() -> None:
    """An exception that leaves a method and then the task is one bug, the method's."""
    with world(lambda: Stumbling().quiet()) as machine:
        assert [(v.rule, v.blamed) for v in machine.violations] == [
            ("oops", "filesystem Stumbling.quiet")
        ]


def test_other_errors_of_tasks_are_raised() -> None:
    """An operating error that nobody caught, and a test's own assertion, come out of run()."""
    with pytest.raises(OSError), world(lambda: Stumbling().loud()):
        pass

    def wrong() -> None:
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"), world(wrong):
        pass

    def quits() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit), world(quits):
        pass


@pytest.mark.parametrize("error", [ValueError("three"), SystemExit("three")])
def test_a_thread_of_the_filesystem_oopses(error: BaseException) -> None:
    """A kernel thread that a method starts is the filesystem's, and so is what it raises."""

    class Starter(Rows):
        def loud(self) -> None:
            K.machine.spawn(thread, name="thread")

    def thread() -> None:
        raise error

    violation = first(lambda: Starter().loud())
    assert violation.rule == "oops" and f"{type(error).__name__}: three" in violation.summary
    assert violation.blamed.startswith("filesystem ") and violation.blamed.endswith("Starter.loud")


def test_invariants() -> None:
    """An assertion in ``_check()`` becomes a violation; what holds is silent."""

    class Stateful:
        def __init__(self, used: int) -> None:
            self.used = used

        def _check(self) -> None:
            assert self.used >= 0, "used blocks are not negative"

    machine = Machine()
    assert check_invariants(machine, Stateful(1)) == []
    (violation,) = check_invariants(machine, Stateful(1), Stateful(-1))
    assert (
        violation.rule == "invariant.Stateful"
        and "used blocks are not negative" in violation.summary
    )
    assert machine.violations == [violation]
    machine.bury()


def test_no_progress_names_who_runs() -> None:
    """A task that loops without end is named, with where it loops."""

    def loops() -> None:
        s = SpinLock("S")
        while True:
            with s:
                pass

    machine = Machine(judge=KernelJudge(), max_steps=500)
    machine.spawn(loops)
    machine.run()
    (violation,) = machine.violations
    assert violation.kind == "no progress" and "loops still runs" in violation.summary
    assert violation.where.startswith("test_judge.py")
    machine.bury()


def test_a_hang_after_a_broken_rule_is_its_consequence() -> None:
    """What the kernel waits for in vain after a method broke a rule is the method's bug too."""
    done = Completion("io")

    class Forgetful(Rows):
        def loud(self) -> None:
            self.leaked.lock()

        leaked = Mutex("leaked")

    def task() -> None:
        Forgetful().loud()
        Forgetful.leaked.unlock()
        kernel(lambda: done.wait())()

    with world(task) as machine:
        soft_one, hang = machine.violations
        assert hang.rule == "wait.no-waker" and hang.blamed == soft_one.blamed
        assert hang.details[-1].startswith("this follows from: ")


# -- interrupts on and off -------------------------------------------------------------------------


def mispaired() -> dict[str, Callable[[SpinLock, SpinLock], None]]:
    def plain_unlock(a: SpinLock, b: SpinLock) -> None:
        a.lock_irq()
        a.unlock()

    def plain_unlock_bh(a: SpinLock, b: SpinLock) -> None:
        a.lock_bh()
        a.unlock()

    def on_too_early(a: SpinLock, b: SpinLock) -> None:
        flags = a.lock_irqsave()
        b.lock_irq()
        b.unlock_irq()
        a.unlock_irqrestore(flags)

    def wrong_flags(a: SpinLock, b: SpinLock) -> None:
        a.lock_irqsave()
        a.unlock_irqrestore(True)

    return {f.__name__: f for f in (plain_unlock, plain_unlock_bh, on_too_early, wrong_flags)}


@pytest.mark.parametrize("how", list(mispaired()))
def test_interrupts_come_on_where_they_were_on_before(how: str) -> None:
    """A spinlock that is released by a form that does not go with the one that took it is
    reported.
    """

    def task() -> None:
        mispaired()[how](SpinLock("A"), SpinLock("B"))

    violation = first(task)
    assert (violation.rule, violation.kind) == ("lockdep.irq-unbalanced", "soft")
    assert violation.where.startswith("test_judge.py")


def test_well_paired_spinlocks_are_silent() -> None:
    """Nested irqsave, softirqs inside, and a lock handed on with interrupts off are fine."""

    def task() -> None:
        a, b = SpinLock("A"), SpinLock("B")
        outer = a.lock_irqsave()
        inner = b.lock_irqsave()
        b.unlock_irqrestore(inner)
        a.unlock_irqrestore(outer)
        a.lock_bh()
        b.lock_bh()
        b.unlock_bh()
        a.unlock_bh()
        flags = a.lock_irqsave()
        b.lock()
        a.unlock()
        b.unlock_irqrestore(flags)

    assert verdicts(task) == []


class Keeper(Operations):
    """A method that keeps a spinlock."""

    @may_block()
    def keep(self, lock: SpinLock) -> None:
        lock.lock()


def test_what_follows_in_the_kernel_is_the_methods_doing() -> None:
    """Whoever sleeps later, because a method kept a spinlock, is not to blame."""

    def task() -> None:
        Keeper().keep(SpinLock("kept"))
        kernel(lambda: might_sleep())()

    with world(task) as machine:
        found = [(v.rule, v.blamed) for v in machine.violations]
    assert (ATOMIC, "filesystem Keeper.keep") in found
