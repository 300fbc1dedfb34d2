"""Freed objects, reference counts and leaks."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Annotated, Any
from weakref import ref

import pytest

from tests.checks.contract_world import kernel
from tests.checks.worlds import first, verdicts, world
from vfsim.checks.contract import Operations
from vfsim.checks.lifetime import (
    debtor,
    free,
    hand_over,
    is_freed,
    ledger_of,
    note_ref,
    report_leak,
)
from vfsim.checks.rules import may_block
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import ENOENT
from vfsim.sim.scheduler import msleep
from vfsim.sim.shared import kernel_struct, shared
from vfsim.sim.state import K

USED, TWICE = "lifetime.use-after-free", "lifetime.double-free"


@kernel_struct
class Node:
    """A kernel structure with a shared field and a lock."""

    lock: Mutex
    size: Annotated[int, shared] = 0

    def grow(self) -> None:
        self.size += 1


class Plain:
    """An object with a dictionary."""

    def __init__(self) -> None:
        self.size = 0

    def __len__(self) -> int:
        return self.size


class Child(Node):
    """What a filesystem makes of a kernel structure."""

    def __init__(self) -> None:
        super().__init__(Mutex("node"))
        self.extra = 1


def node() -> Node:
    return Node(Mutex("node"))


# -- freed -----------------------------------------------------------------------------------------


USES: dict[str, Callable[[Any], Any]] = {
    "read": lambda n: n.size,
    "write": lambda n: setattr(n, "size", 3),
    "call": lambda n: n.grow(),
    "lock": lambda n: n.lock,
}


@pytest.mark.parametrize("make", [node, Child], ids=["slots", "subclass"])
@pytest.mark.parametrize("use", list(USES))
def test_every_use_of_a_freed_object_is_a_bug(make: Any, use: str) -> None:
    """Reading, writing or calling anything of it ends the world, and the report names who freed it
    and where.
    """

    def work() -> None:
        n = make()
        free(n, "node 7")
        USES[use](n)

    for traced in (False, True):
        violation = first(work, traced=traced)
        assert (violation.rule, violation.kind, violation.blamed) == (USED, "hard", "test")
        assert "work uses node 7 after it was freed" in violation.summary
        assert violation.details[0].startswith("work freed it at 0 ns")
        assert violation.where.startswith("test_lifetime.py")
    assert "test_lifetime.py" in violation.details[0]


def test_operators_of_a_freed_object_are_uses() -> None:
    """Special methods do not go through attributes, and are caught all the same."""

    def work() -> None:
        thing = Plain()
        free(thing)
        len(thing)

    assert verdicts(work) == [USED]


def test_another_task_uses_it() -> None:
    """Who freed it and who uses it are told apart."""
    shared_node: list[Node] = []

    def owner() -> None:
        shared_node.append(node())
        msleep(1)
        free(shared_node[0])

    def user() -> None:
        msleep(2)
        shared_node[0].grow()

    violation = first(owner, user)
    assert (
        "user uses Node" in violation.summary
        and "owner freed it at 1000000 ns" in violation.details[0]
    )


def test_a_use_in_a_handler_cannot_be_swallowed() -> None:
    """The bug is recorded and the world over before any except clause sees it."""

    def work() -> None:
        n = node()
        free(n)
        try:
            n.grow()
        except BaseException:
            raise AssertionError("the world went on") from None

    assert verdicts(work) == [USED]


def test_freeing_twice() -> None:
    """The second free is a bug of its own."""

    def work() -> None:
        n = node()
        free(n, "node")
        free(n, "node")

    assert verdicts(work) == [TWICE]


def test_freeing_with_a_lock_held() -> None:
    """Memory with a held lock in it must not go."""

    def work() -> None:
        n = node()
        lock = n.lock
        lock.lock()
        free(n, "node")
        lock.unlock()

    violation = first(work)
    assert (
        violation.rule == "lifetime.freed-locked"
        and "node is freed while node in it is locked" in violation.summary
    )


def test_what_may_be_done_with_a_freed_object() -> None:
    """Comparing identities, keeping it in a list, and printing it are harmless."""

    def work() -> None:
        n = node()
        seen = [n]
        free(n)
        assert n in seen and is_freed(n) and not is_freed(Plain())
        assert repr(n) == "<freed Node>"
        assert {n: 1}[n] == 1

    assert verdicts(work) == []


def test_a_freed_object_outlives_its_world_harmlessly() -> None:
    """Once the world is over, cleaning up may touch anything."""
    kept: list[Any] = []

    def work() -> None:
        n = node()
        kept.append(n)
        free(n)
        try:
            msleep(1)
        finally:
            pass

    with world(work):
        assert kept[0].size == 0
    assert kept[0].size == 0


def test_what_nobody_can_use_any_more_is_forgotten() -> None:
    """A freed object that somebody still has bites with its whole story; the others are gone."""
    kept: list[Any] = []
    alive: list[int] = []

    def freer() -> None:
        seen = []
        for i in range(100):
            n = node()
            n.lock.of = n  # a ring, as most have one
            seen.append(ref(n))
            if i == 50:
                kept.append(n)
            free(n, f"node {i}")
        del n
        gc.collect()
        alive.append(sum(one() is not None for one in seen))
        msleep(5)

    def user() -> None:
        msleep(3)
        kept[0].grow()

    found = first(freer, user)
    assert alive == [1]
    assert (found.rule, found.task) == (USED, "user")
    assert "node 50" in found.summary and "freer freed it at 0 ns" in found.details[0]


def test_a_long_run_keeps_nothing_of_the_files_it_has_removed() -> None:
    """What many files leave behind is what one leaves behind."""

    def churn(sys: Sys, files: int) -> int:
        for _ in range(files):
            sys.close(sys.open("/f", os.O_CREAT | os.O_RDWR))
            sys.unlink("/f")
        gc.collect()
        return len(K.machine.data["lifetime.graves"])

    with Kernel() as k:
        k.mount(RamFS, "/")
        assert k.call(churn, 100) <= 2, "the last ones, at most"


# -- references ------------------------------------------------------------------------------------


def test_counts_below_zero_and_back_from_zero() -> None:
    """A put too many, and a get that revives the dead, end the world."""

    def underflow() -> None:
        note_ref(node(), -1, "iput", count=-1)

    def revival() -> None:
        note_ref(node(), 1, "ihold", count=1)

    def fine() -> None:
        n = node()
        note_ref(n, 1, "new", count=1)
        note_ref(n, 1, "ihold", count=2)
        note_ref(n, -1, "iput", count=1)
        note_ref(n, -1, "iput", count=0)

    assert verdicts(underflow) == ["lifetime.underflow"]
    assert verdicts(revival) == ["lifetime.inc-from-zero"]
    assert verdicts(fine) == []


class Operators(Operations):
    """A table for the tests."""

    table = "lifetime_test"

    @may_block()
    def lookup(self, n: Any) -> None:
        """Finds something."""

    @may_block()
    def create(self, n: Any) -> None:
        """Makes something."""


class Forgetful(Operators):
    """A filesystem that takes a reference and forgets it on a path that raises."""

    def lookup(self, n: Any) -> None:
        get(n)
        raise ENOENT()

    def create(self, n: Any) -> None:
        get(n)
        hand_over(n, "to its dentry")


def get(n: Any) -> None:
    note_ref(n, 1, "iget")


def put(n: Any) -> None:
    note_ref(n, -1, "iput")


def test_a_leak_is_blamed_on_the_method_that_took_more_than_it_put() -> None:
    """The books of each method say whose the reference is; with a trace the report says where it
    was taken.
    """

    def work() -> None:
        n = node()
        ops = Forgetful()
        get(n)
        try:
            ops.lookup(n)
        except OSError:
            pass
        put(n)
        report_leak(n, "inode 12")

    untraced, traced = first(work), first(work, traced=True)
    assert untraced.signature == traced.signature
    assert (traced.rule, traced.kind, traced.blamed) == (
        "leak.node",
        "leak",
        "filesystem Forgetful.lookup",
    )
    text = "\n".join(traced.details)
    assert "Forgetful.lookup() took 1 more than were put" in text
    assert "never put: iget by work at test_lifetime.py" in text and "Forgetful.lookup()" in text


def test_a_reference_that_was_handed_over_is_the_kernels() -> None:
    """A method that gives its reference to a dentry owes nothing."""

    def work() -> None:
        n = node()
        Forgetful().create(n)
        assert debtor(K.machine, n).owner == "kernel"
        assert ledger_of(K.machine, n) == ["the kernel took 1 more than were put"]
        put(n)
        assert ledger_of(K.machine, n) == []

    assert verdicts(work) == []
    assert first(lambda: report_leak(node(), "node")).blamed == "kernel"


class Spendthrift(Operations):
    """Puts a reference that is not its own."""

    @may_block()
    def unlink(self, n: Any) -> None:
        put(n)


def test_who_put_too_often_is_blamed_when_the_kernel_stumbles() -> None:
    """The kernel's own put finds nothing left, or freed memory: the method that put is to blame."""

    def freed() -> None:
        n = node()
        note_ref(n, 1, "new", 1)
        Spendthrift().unlink(n)
        free(n, "node 7")
        kernel(lambda: n.size)()

    def underflow() -> None:
        n = node()
        note_ref(n, 1, "new", 1)
        Spendthrift().unlink(n)

        def iput() -> None:
            note_ref(n, -1, "iput", -1)

        kernel(lambda: iput())()

    def locked() -> None:
        n = node()
        note_ref(n, 1, "new", 1)
        n.lock.lock()
        Spendthrift().unlink(n)
        kernel(lambda: free(n, "node 7"))()

    for work, rule in (
        (freed, USED), (underflow, "lifetime.underflow"), (locked, "lifetime.freed-locked"),
    ):  # fmt: skip
        violation = first(work)
        assert (violation.rule, violation.blamed) == (rule, "filesystem Spendthrift.unlink")
        assert "Spendthrift.unlink() put a reference that it had not taken" in violation.details
