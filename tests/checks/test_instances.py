"""The order of locks of one class, with the instances at hand: what is told, and what is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Any
from weakref import ref

import pytest

from tests.checks.worlds import first, verdicts, world
from vfsim.checks import instances, lockdep
from vfsim.checks.instances import ascending, order_by
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.sim.context import LockClass
from vfsim.sim.shared import kernel_struct, shared

ORDER = "lockdep.instance-order"


class Thing:
    """Something with a lock and a place in the order."""

    def __init__(self, kind: Any, at: int, name: str = "thing:x") -> None:
        self.at = at
        self.lock = kind(name)
        self.lock.of = ref(self)

    def __repr__(self) -> str:
        return f"thing {self.at}"


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test declares its own rules."""
    monkeypatch.setattr(instances, "RULES", {})
    monkeypatch.setattr(lockdep, "KNOWN", {})
    before = dict(LockClass._by_instance)
    yield
    LockClass._by_instance.clear()
    LockClass._by_instance.update(before)
    for cls in LockClass.all:
        cls.by_instance = cls.family in before


@pytest.fixture(params=[Mutex, RwSem, SleepBit], ids=lambda k: k.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def taking(*things: Thing, sub: bool = True) -> Callable[[], None]:
    """A task that locks things one inside the other, the inner ones with subclasses."""

    def task() -> None:
        for n, thing in enumerate(things):
            thing.lock.lock(n if sub else 0)
        for thing in reversed(things):
            thing.lock.unlock()

    return task


def test_the_order_is_that_of_the_objects(kind: Any) -> None:
    """Ascending is silent, descending is told, whichever was first in this world."""
    order_by("thing", ascending("place", lambda thing: thing.at))
    a, b, c = (Thing(kind, i) for i in range(3))
    assert verdicts(taking(a, b), taking(b, c), taking(a, b, c), taking(a, c)) == []
    assert verdicts(taking(b, a)) == [ORDER]
    assert verdicts(taking(a, b), taking(a, b), taking(b, a)) == [ORDER]
    assert verdicts(taking(a, c, b)) == [ORDER]


def test_it_is_asked_each_time(kind: Any) -> None:
    """That the classes were taken like this a hundred times says nothing of the next two."""
    order_by("thing", ascending("place", lambda thing: thing.at))
    things = [Thing(kind, i) for i in range(40)]
    good = [taking(*pair) for pair in pairwise(things)]
    assert verdicts(*good) == []
    assert verdicts(*good, taking(things[7], things[3])) == [ORDER]
    assert verdicts(*good, taking(things[7], things[3]), traced=True) == [ORDER]


def test_without_a_rule_or_an_object_there_is_no_order(kind: Any) -> None:
    """Classes without a rule, and locks that do not say whose they are."""
    a, b = Thing(kind, 0), Thing(kind, 1)
    assert verdicts(taking(b, a)) == []
    order_by("thing", ascending("place", lambda thing: thing.at))
    other = Thing(kind, 0, "other:x")
    assert verdicts(taking(b, other), taking(other, a)) == []
    del a.lock.of
    assert verdicts(taking(b, a)) == []


def test_trying_is_free(kind: Any) -> None:
    """A trylock waits for nobody, so it may go against the order; the next lock may not."""
    order_by("thing", ascending("place", lambda thing: thing.at))
    a, b, c = (Thing(kind, i) for i in range(3))

    def tries() -> None:
        b.lock.lock()
        assert a.lock.trylock()
        c.lock.lock(1)
        for thing in (c, a, b):
            thing.lock.unlock()

    def behind() -> None:
        c.lock.lock()
        assert b.lock.trylock()
        a.lock.lock(1)
        for thing in (a, b, c):
            thing.lock.unlock()

    assert verdicts(tries) == []
    assert verdicts(behind) == [ORDER]


def test_some_are_in_no_order(kind: Any) -> None:
    """The rule may say that two are none of its business."""
    order_by("thing", ascending("place", lambda t: t.at, lambda a, b: a.at % 2 == b.at % 2))
    even, odd, higher = Thing(kind, 2), Thing(kind, 1), Thing(kind, 4)
    assert verdicts(taking(even, odd)) == []
    assert verdicts(taking(higher, even)) == [ORDER]


def test_the_rule_is_told_as_a_sentence() -> None:
    """A report names the two objects, the rule, and who did it."""
    order_by("thing", ascending("place", lambda thing: thing.at))
    a, b = Thing(Mutex, 0), Thing(Mutex, 1)
    violation = first(taking(b, a), traced=True)
    assert violation.blamed == "test"
    assert violation.summary == (
        "task takes two locks of class thing:x in wrong order: the order is by ascending place"
    )
    text = "\n".join(violation.details)
    assert "thing:x/1 is the lock of thing 0" in text
    assert "thing:x is the lock of thing 1, taken at test_instances.py" in text


def test_a_rule_may_look_at_shared_state() -> None:
    """What a rule reads is no scheduling point, and changes nothing."""

    @kernel_struct
    class Place:
        at: Annotated[int, shared] = 0

    place = Place()

    def steps() -> int:
        with world(taking(Thing(Mutex, 1), Thing(Mutex, 0))) as machine:
            return machine.steps

    plain = steps()
    order_by("thing", lambda outer, inner: "" if place.at == 0 else "never")
    assert steps() == plain
