"""Reports: five parts in their order, narrow enough, and columns that show what happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from tests.checks.worlds import after, world
from vfsim.checks import advice, columns, report
from vfsim.checks.columns import render, rows_of, spell_time
from vfsim.checks.contract import Operations
from vfsim.checks.lifetime import free
from vfsim.checks.rules import Lock, row
from vfsim.explore.strategies.random_walk import RandomWalk
from vfsim.locks.mutex import Mutex
from vfsim.locks.rcu import rcu_read
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.locks.waitqueue import WaitQueue
from vfsim.sim.errors import Violation
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import msleep
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import NOBODY, K

PARTS = [
    "BUG: ",
    "who and when",
    "held and waited for",
    "the rule",
    "to see it again",
    "how it happened",
]


@kernel_struct
class Box:
    free: Annotated[int, shared] = 3


class Directory:
    def __init__(self) -> None:
        self.i_rwsem = RwSem("i_rwsem")


class Rows(Operations):
    """A table for the tests."""

    table = "report_test"
    columns = (Lock("i_mutex(inode)", "dir.i_rwsem"),)

    @row("yes")
    def create(self, dir: Directory) -> None:
        """Makes something."""


class Leaky(Rows):
    """A filesystem that keeps its lock on the way out."""

    def create(self, dir: Directory) -> None:
        self.private.lock()

    private = Mutex("leaky_lock")


def deadlock() -> list[Callable[[], None]]:
    a, b = Mutex("a_lock"), Mutex("b_lock")

    def one() -> None:
        with a:
            msleep(1)
            b.lock()

    def two() -> None:
        with b:
            msleep(1)
            a.lock()

    return [one, two]


def sleeper() -> list[Callable[[], None]]:
    s = SpinLock("s_lock")

    def task() -> None:
        with s:
            msleep(1)

    return [task]


def freed() -> list[Callable[[], None]]:
    def task() -> None:
        box = Box()
        free(box, "a box")
        box.free -= 1

    return [task]


def lost() -> list[Callable[[], None]]:
    queue = WaitQueue("work")

    def waker() -> None:
        queue.wake_up()

    def waiter() -> None:
        msleep(1)
        queue.sleep_on()

    return [waker, waiter]


def leaky() -> list[Callable[[], None]]:
    dir = Directory()

    def creator() -> None:
        with dir.i_rwsem:
            Leaky().create(dir)
        Leaky.private.unlock()

    return [creator]


def wrong_caller() -> list[Callable[[], None]]:
    def creator() -> None:
        Leaky().create(Directory())
        Leaky.private.unlock()

    return [creator]


CASES = {f.__name__: f for f in (deadlock, sleeper, freed, lost, leaky, wrong_caller)}


def reports(
    fns: list[Callable[[], None]], token: str = "vf1.token", traced: bool = True
) -> list[str]:
    with world(*fns, traced=traced) as machine:
        return [report.render(machine, v, token) for v in machine.violations]


@pytest.mark.parametrize("case", list(CASES))
def test_five_parts_always_in_this_order(case: str) -> None:
    """Every report has its parts, once, in order, and no line is wider than 100."""
    for text in reports(CASES[case]()):
        at = [text.index(part) for part in PARTS]
        assert at == sorted(at) and all(text.count(f"\n{part}\n") == 1 for part in PARTS[1:])
        assert max(map(len, text.splitlines())) <= 100
        assert all(line == line.rstrip() for line in text.splitlines())
        assert "vfsim replay vf1.token" in text
        assert "what to do: " in text or "declared at" in text


@pytest.mark.parametrize("case", list(CASES))
def test_a_report_without_a_trace_says_what_it_can(case: str) -> None:
    """The same parts without places and columns."""
    for text in reports(CASES[case](), traced=False):
        at = [text.index(part) for part in PARTS[:-1]]
        assert at == sorted(at) and PARTS[-1] not in text


def test_reports_are_the_same_in_every_run() -> None:
    """Two traced runs give the same text to the letter."""
    assert reports(deadlock()) == reports(deadlock())


def test_what_and_whose() -> None:
    """The first lines say what happened, whose bug it is, where, and by which rule."""
    head = reports(sleeper())[0].splitlines()[:3]
    assert head[0] == "BUG: task may sleep for its timer, but s_lock is held"
    assert re.fullmatch(r"  whose: test, test_report.py:\d+", head[1])
    assert head[2] == "  rule:  lockdep.sleep-in-atomic (the world stopped here)"


def test_held_with_the_place_where_it_was_taken() -> None:
    """Every task that holds or waits is there, the one that ran first."""
    text = reports(deadlock())[-1]
    part = text[text.index("held and waited for") : text.index("the rule")]
    lines = part.splitlines()[1:5]
    assert [re.sub(r"test_report.py:\d+ ", "", line) for line in lines] == [
        "  two sleeps for a_lock, at deadlock.two()",
        "  two holds b_lock, taken at deadlock.two()",
        "  one sleeps for b_lock, at deadlock.one()",
        "  one holds a_lock, taken at deadlock.one()",
    ]


def test_a_rule_of_the_contract_is_quoted_with_its_cell() -> None:
    """The table's words, what they mean, and where they are declared."""
    text = reports(wrong_caller())[0]
    part = text[text.index("the rule") : text.index("to see it again")]
    assert 'report_test, create, column "i_mutex(inode)": "yes"' in part
    assert "that is: the caller holds dir.i_rwsem exclusive" in part
    assert "declared at test_report.py" in part


def test_the_method_that_ran_is_named() -> None:
    """Part two and the columns show the filesystem's method."""
    (text,) = reports(leaky())
    assert "filesystem Leaky.create" in text.splitlines()[1]
    assert "Leaky.create():" in text[text.index("how it happened") :]


def test_advice_for_every_rule_of_the_judge() -> None:
    """What this floor reports is explained, and the contract's rules are left to the contract."""
    for rule in (
        "lockdep.recursion", "lockdep.circular", "lockdep.irq-inversion",
        "lockdep.sleep-in-atomic", "lockdep.unlock-not-held", "lockdep.held-at-exit",
        "lockdep.held-in-user-mode", "lockdep.corrupt", "wait.deadlock", "wait.lost-wakeup",
        "wait.no-waker", "lifetime.use-after-free", "lifetime.double-free",
        "lifetime.freed-locked", "lifetime.inc-from-zero", "lifetime.underflow", "leak.inode",
        "oops", "invariant.Page", "no-progress", "result.Rename",
    ):  # fmt: skip
        known = advice.advice(rule)
        assert known is not None and known.rule.endswith(".") and known.todo
    assert advice.advice("inode_operations.create.i_mutex(inode)") is None


# -- columns ---------------------------------------------------------------------------------------


def lost_update() -> list[Callable[[], None]]:
    box = Box()

    def take() -> None:
        box.free -= 1

    def take_too() -> None:
        box.free -= 1

    return [take, take_too]


class Alternate:
    """At every point somebody else goes on."""

    gap = 1

    def start(self, machine: Machine) -> None: ...

    def decide(self, ready: list[Any], current: Any) -> int:
        return 1 if len(ready) > 1 else 0

    def choose(self, kind: str, n: int) -> int:
        return 0


def test_columns_show_the_order_of_effects() -> None:
    """A read that was announced, and happened after somebody else's, is shown where it happened."""
    with world(*lost_update(), traced=True, strategy=Alternate()) as machine:
        assert machine.trace is not None
        told = [(r.task, r.text) for r in rows_of(machine.trace) if "Box" in r.text]
        first, second = told[0][0], told[1][0]
        assert first != second, "both read before either writes"
        assert [text.split()[0] for _, text in told] == ["reads", "reads", "writes", "writes"]


def test_switches_are_visible() -> None:
    """A task that is pushed off says so; one that waits or ends does not."""
    with world(*lost_update(), traced=True, strategy=Alternate()) as machine:
        assert machine.trace is not None
        assert any(r.text == "(switch)" for r in rows_of(machine.trace))
    with world(*lost_update(), traced=True) as machine:
        assert machine.trace is not None
        assert not any(r.text == "(switch)" for r in rows_of(machine.trace))


def story(*fns: Callable[[], None], max_rows: int = 60) -> list[str]:
    with world(*fns, traced=True) as machine:
        assert machine.trace is not None
        return render(machine.trace, max_rows=max_rows)


def test_rows_are_indented_by_locks_and_pairs_are_one_row() -> None:
    """What happens under a lock stands further in."""
    a, b = Mutex("a_lock"), RwSem("b_sem")
    box = Box()

    def task() -> None:
        with a:
            with b.shared():
                pass
            box.free = 1
        with rcu_read():
            pass

    lines = [line[9:] for line in story(task)[2:]]
    assert lines == [
        "lock a_lock",
        "  down_read b_sem, up_read",
        "  writes Box.free",
        "unlock a_lock",
        "ends",
    ]


def test_waiting_and_getting() -> None:
    """A wait, who ends it, and that the lock is had then."""
    m = Mutex("m_lock")

    def one() -> None:
        with m:
            msleep(1)

    def two() -> None:
        with m:
            pass

    text = "\n".join(story(one, two))
    assert text.index("waits for m_lock") < text.index("unlock m_lock") < text.index("has m_lock")


def test_failed_and_taken_trylocks() -> None:
    """A trylock says how it went."""
    m = Mutex("m_lock")

    def task() -> None:
        assert m.trylock()
        assert not m.trylock()
        m.unlock()

    lines = "\n".join(story(task))
    assert "trylock m_lock: ok" in lines and "trylock m_lock: busy" in lines


def test_interrupts_have_their_own_column() -> None:
    """A handler is a column of its own, and the switches of its context are rows."""
    s = SpinLock("s_lock")

    def handler() -> None:
        with s:
            pass

    def task() -> None:
        s.lock_irq()
        s.unlock_irq()

    text = "\n".join(story(after(1000, handler), task))
    assert "irq#1" in text and "spin_lock_irq s_lock" in text


def test_a_long_story_is_cut_in_the_middle() -> None:
    """The beginning and the end stay, and the number of rows left out is told."""
    box = Box()

    def task() -> None:
        for i in range(200):
            box.free = i

    lines = story(task, max_rows=30)
    assert len(lines) <= 34
    assert any(re.search(r"-- \d+ rows left out --", line) for line in lines)


def test_a_marked_row_is_never_left_out() -> None:
    """What is marked in the middle stays, with its neighbours and the number of rows around it."""
    box = Box()

    def task() -> None:
        for i in range(200):
            box.free = i

    with world(task, traced=True) as machine:
        assert machine.trace is not None
        writes = [i for i, e in enumerate(machine.trace.events) if e.kind == "write"]
        lines = render(machine.trace, max_rows=30, marks=[writes[100]])
    assert len(lines) <= 34
    assert sum(">> writes Box.free" in line for line in lines) == 1
    assert len([line for line in lines if "rows left out" in line]) == 2


def test_many_tasks_share_a_column() -> None:
    """More tasks than fit get one column together, with their names in it."""
    box = Box()
    with world(traced=True) as machine:
        for i in range(8):
            machine.spawn(lambda: setattr(box, "free", 1), name=f"t{i}")
        machine.run()
        assert machine.trace is not None
        lines = render(machine.trace)
    assert "others" in lines[0] and any("t7: writes Box.free" in line for line in lines)
    assert max(map(len, lines)) <= columns.WIDTH


def test_the_phase_that_matters() -> None:
    """What ran before the explored phase is left out; what looks at the result comes after it."""
    box = Box()
    with world(traced=True) as machine:
        trace = machine.trace
        assert trace is not None
        for phase in ("set-up", "run", "check"):
            trace.note(NOBODY, "phase", phase)
            machine.spawn(lambda: setattr(box, "free", 1), name=f"in {phase}")
            machine.run()
        found = Violation("result.x", "wrong result", "test", "", "it is wrong")
        machine.violation(found)
        text = "\n".join(render(trace))
        assert "in run" in text and "in check" not in text and "set-up" not in text
        machine.spawn(lambda: K.machine.judge.corrupt(K.cur, None, "broken"), name="in check too")
        machine.run()
        text = "\n".join(render(trace))
        assert "in check too" in text and "in run" not in text


def test_small_steps_of_the_kernel_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the page is full spinlocks of the kernel are left out, except those that are held at the
    end.
    """
    small, held = SpinLock("small_lock"), SpinLock("held_lock")
    box = Box()

    def task() -> None:
        for i in range(40):
            small.lock()
            box.free = i
            small.unlock()
        held.lock()
        msleep(1)

    with world(task, traced=True) as machine:
        trace = machine.trace
        assert trace is not None
        trace.events[:] = [e._replace(where="vfsim/fs/x.py:1 f()") for e in trace.events]
        (at,) = trace.bugs
        text = "\n".join(render(trace, at, 60))
    assert "spin_lock held_lock" in text and "small_lock" not in text
    assert re.search(r"\(\d+ small steps of the kernel are not shown\)", text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0"), (7, "7 ns"), (1_500, "1.5 us"), (2_000_000, "2 ms"), (3_250_000_000, "3.25 s")],
)
def test_times(ns: int, text: str) -> None:
    """Times are printed in the unit that suits them."""
    assert spell_time(ns) == text


def test_random_schedules_always_render() -> None:
    """Whatever happened, the report can be made and keeps its width."""
    from tests.checks import programs

    for seed in range(60):
        with world(traced=True, strategy=RandomWalk(seed)) as machine:
            programs.start(machine, programs.generate(seed))
            machine.run()
            for violation in machine.violations:
                text = report.render(machine, violation, "vf1.x")
                assert max(map(len, text.splitlines())) <= 100
