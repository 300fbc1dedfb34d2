"""Small programs of the literature, by their usual names.

Most are in SCTBench's "CS" suite; ``reorder_N`` and ``twostage_N`` have N tasks, ``wronglock_N``
has N that use the wrong lock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from benchmarks.sct.kernel import Cell, Kernel, Look, Start
from vfsim.locks.completion import Completion
from vfsim.locks.mutex import Mutex
from vfsim.locks.spinlock import SpinLock

Body = Callable[[Start, bool], Look | None]


def deadlock01(start: Start, fixed: bool) -> None:
    """Two locks, taken in both orders."""
    a, b = Mutex("a"), Mutex("b")

    def take(first: Mutex, second: Mutex) -> None:
        with first:
            with second:
                pass

    start(take, a, b)
    start(take, *((a, b) if fixed else (b, a)))


def carter01(start: Start, fixed: bool) -> None:
    """The first of a kind takes a lock for all of its kind, inside another lock, and keeps it."""
    m, room = Mutex("m"), Mutex("room")

    def visit(inside: Cell) -> None:
        with m:
            inside.value += 1
            first = inside.value == 1
            if first and not fixed:
                room.lock()
        if first and fixed:
            room.lock()
        with m:
            inside.value -= 1
        if first:
            room.unlock()

    start(visit, Cell())
    start(visit, Cell())
    start(lambda: None)
    start(lambda: None)


def philosophers(number: int) -> Body:
    """Everybody takes the left fork first."""

    def body(start: Start, fixed: bool) -> None:
        forks = [Mutex(f"fork {i}") for i in range(number)]

        def dine(one: Mutex, other: Mutex) -> None:
            with one:
                with other:
                    pass

        for i in range(number):
            pair = [forks[i], forks[(i + 1) % number]]
            start(dine, *(sorted(pair, key=forks.index) if fixed else pair))

    return body


def lazy01(start: Start, fixed: bool) -> None:
    """A third task is surprised if it comes after both others."""
    lock, data = Mutex("lock"), Cell()

    def add(n: int) -> None:
        with lock:
            data.value += n

    def look() -> None:
        with lock:
            assert data.value < (4 if fixed else 3), "everybody was here before"

    start(add, 1)
    start(add, 2)
    start(look)


def account(start: Start, fixed: bool) -> None:
    """The sum that is checked after deposit and withdrawal is the wrong one."""
    lock, balance = Mutex("account"), Cell()
    done: list[str] = []

    def change(name: str, n: int) -> None:
        with lock:
            balance.value += n
            done.append(name)

    def audit() -> None:
        with lock:
            if len(done) == 2:
                assert balance.value == (2 if fixed else 1), "money is missing"

    start(change, "deposit", 5)
    start(change, "withdrawal", -3)
    start(audit)


def token_ring(start: Start, fixed: bool) -> None:
    """Each copies its left neighbour's token, the first adds one; few orders leave them equal."""
    lock = Mutex("ring")
    cells = [Cell() for _ in range(4)]

    def pass_on(i: int) -> None:
        with lock:
            cells[i].value = cells[i - 1].value + (i == 0 and not fixed)

    def look() -> None:
        assert len({cell.raw_value for cell in cells}) == 1, "the token was lost"

    for i in range(4):
        start(pass_on, i)
    return look


def reorder(tasks: int) -> Body:
    """Setters write a and then b; a looker must not see one without the other."""

    def body(start: Start, fixed: bool) -> None:
        a, b = Cell(), Cell()
        guard: Any = Mutex("both") if fixed else nullcontext()

        def set_both() -> None:
            with guard:
                a.value = 1
                b.value = -1

        def look() -> None:
            with guard:
                seen = (a.value, b.value)
            assert seen in ((0, 0), (1, -1)), f"one was set without the other: {seen}"

        for _ in range(tasks - 1):
            start(set_both)
        start(look)

    return body


def twostage(tasks: int) -> Body:
    """What is written in two steps under two locks is read between the steps."""

    def body(start: Start, fixed: bool) -> None:
        one, two, whole = Mutex("stage one"), Mutex("stage two"), Mutex("both stages")
        first, second = Cell(), Cell()
        guard: Any = whole if fixed else nullcontext()

        def write() -> None:
            with guard:
                with one:
                    first.value = 1
                with two:
                    second.value = first.value + 1

        def read() -> None:
            with guard:
                with one:
                    seen = first.value
                if not seen:
                    return
                with two:
                    then = second.value
            assert then == seen + 1, "the second stage was missing"

        for _ in range(tasks - 1):
            start(write)
        start(read)

    return body


def wronglock(wrong: int) -> Body:
    """One task adds under a lock, the others under another one."""

    def body(start: Start, fixed: bool) -> None:
        right, other, data = Mutex("right"), Mutex("wrong"), Cell()

        def add(lock: Mutex) -> None:
            with lock:
                before = data.value
                data.value = before + 1
                assert data.value == before + 1, "somebody added meanwhile"

        start(add, right)
        for _ in range(wrong):
            start(add, right if fixed else other)

    return body


def bluetooth(start: Start, fixed: bool) -> None:
    """A driver is stopped while a request that asked too early is about to begin."""
    stopping, stopped = Cell(), Cell()
    lock, event = SpinLock("pending"), Completion("no request is pending")
    pending = [1]

    def count(n: int) -> None:
        with lock:
            pending[0] += n
            last = not pending[0]
        if last:
            event.complete()

    def request() -> None:
        if fixed:
            count(1)
        if stopping.value:
            if fixed:
                count(-1)
            return
        if not fixed:
            count(1)
        assert not stopped.value, "a request runs in a stopped driver"
        count(-1)

    def stop() -> None:
        stopping.value = 1
        count(-1)
        event.wait()
        stopped.value = 1

    start(request)
    start(stop)


def stack(start: Start, fixed: bool) -> None:
    """A flag says that there is something, and stays when there is nothing any more."""
    lock, flag = Mutex("stack"), Cell()
    things: list[int] = []

    def push() -> None:
        for i in range(4):
            with lock:
                things.append(i)
                flag.value = 1

    def pop() -> None:
        for _ in range(4):
            with lock:
                if things if fixed else flag.value:
                    assert things, "the stack is empty"
                    things.pop()

    start(push)
    start(pop)


def noisy(body: Body, tasks: int = 4, points: int = 10) -> Body:
    """The same beside tasks that have nothing to do with it."""

    def beside(start: Start, fixed: bool) -> Look | None:
        def work() -> None:
            mine = Mutex("noise")
            for _ in range(points):
                with mine:
                    pass

        for _ in range(tasks):
            start(work)
        return body(start, fixed)

    return beside


def lost_update(start: Start, fixed: bool) -> Look:
    """Two tasks add one without a lock."""
    data, guard = Cell(), Mutex("data")

    def add() -> None:
        with guard if fixed else nullcontext():
            data.value = data.value + 1

    def look() -> None:
        assert data.raw_value == 2, f"two additions gave {data.raw_value}"

    start(add)
    start(add)
    return look


DEADLOCK = "wait.deadlock"

KERNELS = (
    Kernel("deadlock01", deadlock01, DEADLOCK),
    Kernel("carter01", carter01, DEADLOCK),
    Kernel("philo3", philosophers(3), DEADLOCK),
    Kernel("philo5", philosophers(5), DEADLOCK),
    Kernel("lazy01", lazy01),
    Kernel("account", account),
    Kernel("token_ring", token_ring),
    Kernel("reorder_3", reorder(3)),
    Kernel("reorder_5", reorder(5)),
    Kernel("reorder_10", reorder(10)),
    Kernel("reorder_20", reorder(20)),
    Kernel("twostage", twostage(2)),
    Kernel("twostage_20", twostage(20)),
    Kernel("wronglock_3", wronglock(3)),
    Kernel("wronglock_8", wronglock(8)),
    Kernel("bluetooth", bluetooth),
    Kernel("stack", stack),
    Kernel("lost_update+noise", noisy(lost_update)),
    Kernel("reorder_3+noise", noisy(reorder(3))),
)
