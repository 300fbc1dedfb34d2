"""The wound/wait mutex: any order, no deadlock, and what breaks its protocol."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest

from tests.sim.helpers import Notes, run, seeds, step, world
from vfsim.checks.judge import KernelJudge
from vfsim.explore.strategies.pos import POS
from vfsim.locks.ww_mutex import WwClass, WwContext, WwMutex
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K

FAMILY = WwClass("test_ww")


def take_all(wanted: Sequence[WwMutex], ctx: WwContext) -> int:
    """Sleeps.  Take all the mutexes, backing off as often as it needs; returns how often."""
    backed_off = 0
    first: WwMutex | None = None
    while True:
        taken: list[WwMutex] = []
        try:
            if first is not None:
                first.lock_slow(ctx)
                taken.append(first)
            for lock in wanted:
                if lock is not first:
                    first = None if lock in taken else first
                    lock.lock(ctx)
                    taken.append(lock)
            return backed_off
        except OSError as error:
            assert error.errno == errno.EDEADLK
            backed_off += 1
            first = ctx.contending
            for lock in taken:
                lock.unlock()


def transaction(wanted: Sequence[WwMutex], inside: list[str]) -> int:
    """Sleeps.  One task's work with several mutexes, alone with each of them."""
    with WwContext(FAMILY) as ctx:
        backed_off = take_all(wanted, ctx)
        ctx.done()
        assert ctx.acquired == len(wanted)
        for lock in wanted:
            assert lock.owner is K.cur and lock.ctx is ctx
        inside.append(K.cur.id)
        step(inside)
        for lock in wanted:
            lock.unlock()
    return backed_off


def campaign(
    orders: Callable[[list[WwMutex], Random], list[list[WwMutex]]], count: int, locks: int
) -> int:
    """Run tasks that want mutexes in those orders, in many schedules; returns the EDEADLKs."""
    backed_off = 0
    for seed in seeds(count):
        mutexes = [WwMutex(FAMILY) for _ in range(locks)]
        inside: list[str] = []
        options: dict[str, Any] = {"strategy": POS(seed)} if seed % 2 else {"seed": seed}
        with world(**options, judge=KernelJudge()) as machine:
            wanted = orders(mutexes, Random(seed))
            tasks = [machine.spawn(transaction, w, inside) for w in wanted]
            machine.run()
            assert machine.violations == []
            assert len(inside) == len(tasks)
            backed_off += sum(task.result for task in tasks)
        assert not any(m.is_locked() or m.waiters or m._contexts or m.ctx for m in mutexes)
    return backed_off


def test_two_tasks_in_opposite_orders() -> None:
    """The classic deadlock ends well in every schedule, by backing off in some."""
    assert campaign(lambda m, r: [m, m[::-1]], 200, 2) > 20


def test_a_ring_of_tasks() -> None:
    """Each wants its own and its neighbour's."""

    def ring(m: list[WwMutex], random: Random) -> list[list[WwMutex]]:
        return [[m[i], m[(i + 1) % len(m)]] for i in range(len(m))]

    assert campaign(ring, 100, 4) > 20


def test_stress() -> None:
    """Several tasks want most of the mutexes in random orders."""

    def shuffled(m: list[WwMutex], random: Random) -> list[list[WwMutex]]:
        return [random.sample(m, 4) for _ in range(4)]

    assert campaign(shuffled, 60, 5) > 40


def test_in_one_order_nobody_backs_off_who_has_nothing() -> None:
    """A context that holds nothing waits for anybody."""

    def single(m: list[WwMutex], random: Random) -> list[list[WwMutex]]:
        return [m[:1]] * 4

    assert campaign(single, 50, 1) == 0


def test_without_contexts_opposite_orders_deadlock() -> None:
    """The tests above can fail."""
    stuck = 0
    for seed in seeds(40):
        a, b = WwMutex(WwClass("one")), WwMutex(WwClass("two"))

        def body(first: WwMutex, second: WwMutex) -> None:
            with first, second:
                pass

        with world(seed) as machine:
            machine.spawn(body, a, b)
            machine.spawn(body, b, a)
            machine.run()
            stuck += bool(machine.violations)
    assert stuck > 3


def test_the_older_one_never_backs_off() -> None:
    """Stamps decide: who began first goes on, the other is told EDEADLK."""
    for seed in seeds(60):
        a, b = WwMutex(FAMILY), WwMutex(FAMILY)
        began: list[tuple[int, int]] = []

        def body(first: WwMutex, second: WwMutex, began: list[tuple[int, int]] = began) -> None:
            with WwContext(FAMILY) as ctx:
                began.append((ctx.stamp, take_all([first, second], ctx)))
                first.unlock()
                second.unlock()

        run(partial(body, a, b), partial(body, b, a), seed=seed)
        assert min(began)[1] == 0


def test_it_waits_beside_plain_users() -> None:
    """Tasks without a context take it like a mutex, and nobody is forgotten."""
    for seed in seeds(100):
        a, b = WwMutex(FAMILY), WwMutex(FAMILY)
        inside: list[str] = []

        def plain(lock: WwMutex) -> None:
            for _ in range(2):
                lock.lock()
                step(lock)
                lock.unlock()

        run(
            partial(plain, a),
            partial(plain, b),
            partial(transaction, [a, b], inside),
            partial(transaction, [b, a], inside),
            seed=seed,
        )
        assert len(inside) == 2


def refused(fn: Callable[[], Any]) -> int | None:
    with pytest.raises(OSError) as caught:
        fn()
    return caught.value.errno


def test_the_same_context_again() -> None:
    """EALREADY, and nothing has changed."""
    lock = WwMutex(FAMILY)
    notes = Notes()

    def body() -> None:
        with WwContext(FAMILY) as ctx:
            lock.lock(ctx)
            assert refused(lambda: lock.lock(ctx)) == errno.EALREADY
            assert ctx.acquired == 1
            lock.unlock()
            assert ctx.acquired == 0 and lock.ctx is None

    run(body, judge=notes)
    assert notes.seen == []


def test_waiters_look_again_when_an_older_one_comes_first() -> None:
    """Who sleeps for a free-to-be mutex is told EDEADLK when an older context gets it instead."""
    told = 0
    for seed in seeds(150):
        a, b, c = (WwMutex(FAMILY) for _ in range(3))
        inside: list[str] = []

        def plain(lock: WwMutex = a) -> None:
            lock.lock()
            yield_()
            lock.unlock()

        with world(seed) as machine:
            machine.spawn(plain)
            tasks = [
                machine.spawn(transaction, wanted, inside) for wanted in ([b, a], [c, a], [a, c, b])
            ]
            machine.run()
            assert machine.violations == []
            told += sum(task.result for task in tasks)
        assert len(inside) == 3
    assert told > 30


BROKEN: dict[str, Callable[[WwContext, WwMutex, WwMutex], Any]] = {
    "lock after done": lambda ctx, a, b: (ctx.done(), a.lock(ctx), a.unlock()),
    "done twice": lambda ctx, a, b: (ctx.done(), ctx.done()),
    "never begun": lambda ctx, a, b: WwContext(FAMILY).done(),
    "slow without need": lambda ctx, a, b: (a.lock_slow(ctx), a.unlock()),
    "ended early": lambda ctx, a, b: (a.lock(ctx), ctx.fini(), a.unlock(), ctx.init()),
    "another class": lambda ctx, a, b: (
        (other := WwMutex(WwClass("other"))).lock(ctx),
        other.unlock(),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_is_told(name: str) -> None:
    """Each way of using a context wrongly is reported, blamed on its user; the world goes on."""

    def body() -> None:
        with WwContext(FAMILY) as ctx:
            BROKEN[name](ctx, WwMutex(FAMILY), WwMutex(FAMILY))

    with world(judge=KernelJudge()) as machine:
        machine.spawn(body)
        machine.run()
        assert {(v.rule, v.blamed) for v in machine.violations} == {("lockdep.ww-mutex", "test")}


def test_it_tells_whose_it_is() -> None:
    """A context's text names its task and what it has."""

    def body() -> None:
        with WwContext(FAMILY) as ctx:
            assert repr(ctx) == "<test_ww_acquire of body, stamp 1, has 0>"
        assert "nobody" in repr(ctx)

    run(body)
