"""Both sides of a call: what the caller must bring, what the method may do, what it must leave, and
whose bug it is.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.checks.contract_world import Node, Zoo, kernel, run, the, told
from vfsim.checks.calls import Call, assert_held, running_call
from vfsim.checks.contract import Operations, methods_of
from vfsim.checks.lifetime import free, note_ref
from vfsim.checks.obligations import overdue, owe, owed, settle
from vfsim.checks.rules import RcuWalk, may_block, row
from vfsim.locks.rcu import rcu_read, rcu_read_lock, rcu_read_unlock
from vfsim.locks.rwsem import RwSem
from vfsim.sim.context import RCU
from vfsim.sim.cpu import local_irq_disable, local_irq_enable
from vfsim.sim.errors import ENOSPC, KernelBug
from vfsim.sim.machine import Machine
from vfsim.sim.scheduler import might_sleep, msleep
from vfsim.sim.state import K


class Tame(Zoo):
    """Keeps every promise."""

    def plain(self, node: Node) -> None: ...

    def free(self, node: Node) -> Any: ...

    def shared(self, node: Node) -> Any:
        might_sleep()

    def sometimes(self, node: Node) -> None: ...

    def unsure(self, node: Node) -> None: ...

    def held(self, node: Node) -> None: ...

    def global_ones(self) -> None: ...

    def quick(self, node: Node) -> bool:
        return True

    def perhaps(self, node: Node, fast: bool) -> None:
        if not fast:
            might_sleep()

    def taken(self, node: Node) -> Any:
        node.mutex.lock()
        return node

    def maybe_taken(self, node: Node) -> bool:
        if node.big:
            node.lock.lock()
        return node.big

    def left(self, node: Node) -> None:
        node.mutex.unlock()

    def gives(self, node: Node) -> Any:
        note_ref(node, +1, "get")
        return node

    def takes(self, node: Node) -> None:
        note_ref(node, -1, "put")

    def choosy(self, node: Node) -> None: ...

    def quiet(self, node: Node) -> None: ...


TAME = Tame()


def filesystem(name: str) -> str:
    return f"filesystem {name}"


# -- entry -----------------------------------------------------------------------------------------


def test_a_caller_that_keeps_its_promises_hears_nothing() -> None:
    """Each method, called as it must be."""

    def body() -> None:
        K.machine.data["zoo_sem"] = sem = RwSem("zoo_sem")
        node = Node()
        with node.i_rwsem:
            TAME.plain(node)
            TAME.shared(node)
            TAME.unsure(node)
        with node.i_rwsem.shared():
            TAME.shared(node)
        TAME.free(node)
        TAME.sometimes(node)
        TAME.unsure(node)
        node.big = True
        TAME.choosy(node)
        with node.i_rwsem:
            TAME.sometimes(node)
        with node.mutex:
            TAME.held(node)
        with sem.shared():
            TAME.global_ones()
        with sem:
            TAME.global_ones()
        with node.i_lock:
            TAME.quick(node)
            TAME.perhaps(node, True)
        TAME.perhaps(node, False)
        TAME.quiet(node)
        TAME.taken(node).mutex.unlock()
        TAME.maybe_taken(node)
        node.lock.unlock()
        node.mutex.lock()
        TAME.left(node)
        note_ref(node, +1, "get")
        TAME.takes(node)
        TAME.gives(node)
        assert K.cur.held is None

    assert run(body) == []


def test_a_lock_that_is_not_held() -> None:
    """The caller's bug, at the caller's line, with the rule in the document's words."""
    found = the(run(lambda: TAME.plain(Node())))
    assert (found.rule, found.kind, found.blamed) == ("zoo.plain.i_rwsem", "soft", "test")
    assert found.where.startswith("test_contract_calls.py:")
    assert found.summary == "Tame.plain() was called without node.i_rwsem held exclusive"
    assert 'zoo, plain, column "i_rwsem": "yes"' in found.details
    assert any(
        line.startswith("declared at") and "contract_world.py" in line for line in found.details
    )


def test_shared_is_not_exclusive() -> None:
    """And a lock that another task holds is not held."""

    def body() -> None:
        node = Node()
        with node.i_rwsem.shared():
            TAME.plain(node)

    assert told(run(body)) == [("zoo.plain.i_rwsem", "test")]

    def owner(node: Node) -> None:
        with node.i_rwsem:
            msleep(2)

    def other(node: Node) -> None:
        K.machine.spawn(owner, node)
        msleep(1)
        assert node.i_rwsem.is_locked()
        TAME.plain(node)

    assert told(run(other, Node())) == [("zoo.plain.i_rwsem", "test")]


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_that_must_not_be_held(shared: bool) -> None:
    """In any mode."""

    def body() -> None:
        node = Node()
        with node.i_rwsem.shared() if shared else node.i_rwsem:
            TAME.free(node)

    assert told(run(body)) == [("zoo.free.i_rwsem", "test")]


def test_conditions() -> None:
    """A conditional promise binds only when its condition is true, and is counted then."""
    clause = methods_of(Zoo)["sometimes"].clauses[0]

    def body() -> None:
        node = Node()
        before = clause.checked
        TAME.sometimes(node)
        assert clause.checked == before
        node.big = True
        TAME.sometimes(node)
        assert clause.checked == before + 1

    assert told(run(body)) == [("zoo.sometimes.i_rwsem", "test")]


def test_annotations_and_their_rules() -> None:
    """A rule of its own, or the annotation's name."""

    def body() -> None:
        node = Node()
        with node.mutex, node.i_lock:
            TAME.held(node)
        TAME.held(node)

    assert told(run(body)) == [("zoo.held.must_not_hold", "test"), ("Z1", "test")]


def test_global_locks_and_locks_of_a_class() -> None:
    """``@name`` is this world's lock of that name, ``any name`` every lock of that class."""

    def body() -> None:
        TAME.global_ones()
        K.machine.data["zoo_sem"] = sem = RwSem("zoo_sem")
        TAME.global_ones()
        with sem.shared(), Node().i_lock:
            TAME.global_ones()

    found = run(body)
    assert told(found) == [
        ("zoo.global_ones.must_hold_shared", "test"),
        ("zoo.global_ones.must_hold_shared", "test"),
        ("zoo.global_ones.must_not_hold", "test"),
    ]


@pytest.mark.parametrize("how", ["spinlock", "rcu", "irq"])
def test_may_block_obliges_the_caller(how: str) -> None:
    """It must be where sleeping is allowed; the report says what forbids it."""

    class Sleepy(Zoo):
        def shared(self, node: Node) -> Any: ...

    def body() -> None:
        node = Node()
        node.i_rwsem.lock()
        if how == "spinlock":
            node.i_lock.lock()
            Sleepy().shared(node)
            node.i_lock.unlock()
        elif how == "rcu":
            rcu_read_lock()
            Sleepy().shared(node)
            rcu_read_unlock()
        else:
            local_irq_disable()
            Sleepy().shared(node)
            local_irq_enable()
        node.i_rwsem.unlock()

    found = the(run(body))
    assert (found.rule, found.blamed) == ("zoo.shared.may_block", "test")
    reason = {"spinlock": "i_lock", "rcu": "rcu_read_lock", "irq": "interrupts off"}[how]
    assert "sleeping is not allowed" in found.summary and reason in found.summary


def test_a_method_that_may_not_block_cannot_call_one_that_may() -> None:
    """The inner call's caller is the outer method."""

    class Sleepy(Zoo):
        def shared(self, node: Node) -> Any: ...

    class Bad(Zoo):
        def quick(self, node: Node) -> bool:
            Sleepy().shared(node)
            return True

    def body() -> None:
        with (node := Node()).i_rwsem:
            Bad().quick(node)

    found = the(run(body))
    assert found.rule == "zoo.shared.may_block" and found.blamed.endswith("Bad.quick")
    assert "quick() may not block" in found.summary


def test_a_predicate_on_the_arguments() -> None:
    """What the caller sees to, apart from locks."""
    found = the(run(lambda: TAME.choosy(Node())))
    assert (found.rule, found.blamed) == ("Z5", "test") and "it is big" in found.summary


def test_a_path_that_leads_nowhere_is_the_callers_bug() -> None:
    """There is no lock to be held, so it is not."""
    found = the(run(lambda: TAME.plain(None)))  # type: ignore[arg-type]
    assert (found.rule, found.blamed) == ("zoo.plain.i_rwsem", "test")
    assert "there is none" in found.summary
    assert run(lambda: TAME.free(None)) == []  # type: ignore[arg-type]


def test_once_per_signature() -> None:
    """The same caller's line is told once; the run goes on."""

    def body() -> None:
        for _ in range(3):
            TAME.plain(Node())

    before = methods_of(Tame)["plain"].sites[0].calls
    the(run(body))
    assert methods_of(Tame)["plain"].sites[0].calls == before + 3


# -- blame -----------------------------------------------------------------------------------------


def calls_plain(node: Node) -> None:
    TAME.plain(node)


def test_the_kernel_is_to_blame_for_its_frames() -> None:
    """A kernel frame that the test reached through a system call."""
    assert told(run(kernel(calls_plain), Node())) == [("zoo.plain.i_rwsem", "kernel")]


def test_a_filesystem_that_calls_a_method_wrongly_is_the_caller() -> None:
    """Directly, or through a helper of the kernel that takes no lock itself."""
    helper = kernel(calls_plain, "vfs_plain")
    other = kernel(calls_plain, "fix_plain")

    class Stacked(Zoo):
        def free(self, node: Node) -> Any:
            if node.big:
                helper(node)
            else:
                TAME.plain(node)

        def unsure(self, node: Node) -> None:
            other(node)

    ops = Stacked()
    big = Node()
    big.big = True
    name = filesystem(methods_of(Stacked)["free"].sites[-1].title)
    assert told(run(lambda: ops.free(Node()))) == [("zoo.plain.i_rwsem", name)]
    assert told(run(lambda: ops.free(big))) == [("zoo.plain.i_rwsem", name)]
    assert told(run(lambda: ops.unsure(Node()))) == [("zoo.plain.i_rwsem", "kernel")]


def test_a_task_that_a_filesystem_started_is_the_filesystems() -> None:
    """Its frames are not the test's."""

    class Starts(Zoo):
        def free(self, node: Node) -> Any:
            K.machine.spawn(calls_plain, node)

    name = filesystem(methods_of(Starts)["free"].sites[-1].title)
    assert told(run(lambda: Starts().free(Node()))) == [("zoo.plain.i_rwsem", name)]


def test_a_drivers_method_is_the_drivers() -> None:
    """The table says who implements it."""

    class DriverZoo(Zoo):
        table = "driver_zoo"
        implementer = "driver"
        columns = ()

        def go(self) -> None: ...

    class Driver(DriverZoo):
        def go(self) -> None:
            raise RuntimeError("no")

    assert the(run(lambda: Driver().go())).blamed.startswith("driver ")


# -- during ----------------------------------------------------------------------------------------


def test_sleeping_where_it_is_forbidden_stops_the_world() -> None:
    """The method's bug, with the line that sleeps."""

    class Bad(Zoo):
        def quick(self, node: Node) -> bool:
            msleep(1)
            return True

        def perhaps(self, node: Node, fast: bool) -> None:
            node.mutex.lock()
            node.mutex.unlock()

    site = methods_of(Bad)["quick"].sites[-1]
    found = the(run(lambda: Bad().quick(Node())))
    assert (found.rule, found.kind) == ("zoo.quick.never_blocks", "hard")
    assert found.blamed == filesystem(site.title)
    found = the(run(lambda: Bad().perhaps(Node(), True)))
    assert (found.rule, found.kind) == ("Z2", "hard") and "it is quick" in found.summary
    assert run(lambda: Bad().perhaps(Node(), False)) == []


def test_not_blocking_covers_what_is_called_from_there() -> None:
    """A lock that might sleep is enough, and an inner method cannot lift the ban."""

    class Bad(Zoo):
        def quick(self, node: Node) -> bool:
            TAME.free(node)
            node.mutex.lock()
            node.mutex.unlock()
            return True

    assert the(run(lambda: Bad().quick(Node()))).rule == "zoo.quick.never_blocks"


def test_the_ban_ends_with_the_call() -> None:
    """Also when the method raises."""

    class Raises(Zoo):
        def quick(self, node: Node) -> bool:
            raise ENOSPC()

    def body() -> None:
        with pytest.raises(OSError):
            Raises().quick(Node())
        TAME.quick(Node())
        assert not K.cur.ctx.nosleep and K.cur.held is None
        msleep(1)

    assert run(body) == []


@pytest.mark.parametrize("again", [False, True])
def test_what_the_caller_holds_is_pinned(again: bool) -> None:
    """Releasing it is caught at that moment, also if it is taken again."""

    class Bad(Zoo):
        def plain(self, node: Node) -> None:
            node.i_rwsem.unlock()
            if again:
                node.i_rwsem.lock()

    def body() -> None:
        node = Node()
        node.i_rwsem.lock()
        Bad().plain(node)
        if again:
            node.i_rwsem.unlock()
        assert K.cur.held is None

    found = the(run(body))
    assert found.rule == "zoo.plain.i_rwsem" and found.blamed.startswith("filesystem ")
    assert "released i_rwsem, which its caller holds" in found.summary
    assert found.where.startswith("test_contract_calls.py:")


def test_a_lock_that_no_row_speaks_of_is_pinned_too() -> None:
    """Whatever the caller held must stay held."""

    class Bad(Zoo):
        def free(self, node: Node) -> Any:
            node.mutex.unlock()

    def body() -> None:
        node = Node()
        node.mutex.lock()
        Bad().free(node)

    assert the(run(body)).rule == "zoo.free.exit"


def test_a_lock_that_nobody_holds_is_not_the_callers() -> None:
    """Releasing it is another bug, and told once."""

    class Bad(Zoo):
        def free(self, node: Node) -> Any:
            node.i_lock.unlock()

    found = the(run(lambda: Bad().free(Node())))
    assert found.rule == "lockdep.unlock-not-held" and found.blamed.endswith("Bad.free")


def test_a_downgrade_is_a_release() -> None:
    """The caller held it exclusive and gets it back shared."""

    class Bad(Zoo):
        def plain(self, node: Node) -> None:
            node.i_rwsem.downgrade_write()

    def body() -> None:
        node = Node()
        node.i_rwsem.lock()
        Bad().plain(node)
        node.i_rwsem.up_read()
        assert K.cur.held is None

    found = the(run(body))
    assert found.rule == "zoo.plain.i_rwsem" and found.blamed.endswith("Bad.plain")


# -- exit ------------------------------------------------------------------------------------------


class Leaky(Zoo):
    """Forgets to unlock."""

    def free(self, node: Node) -> Any:
        node.mutex.lock()
        if node.big:
            raise ENOSPC()

    def unsure(self, node: Node) -> None:
        node.i_rwsem.down_read()

    def quick(self, node: Node) -> bool:
        node.i_lock.lock()
        return True

    def sometimes(self, node: Node) -> None:
        rcu_read_lock()


@pytest.mark.parametrize("raises", [False, True])
def test_a_lock_left_behind(raises: bool) -> None:
    """Returning and raising are the same to the check."""

    def body() -> None:
        node = Node()
        node.big = raises
        try:
            Leaky().free(node)
        except OSError:
            assert raises
        assert K.cur.held == (node.mutex, None)
        node.mutex.unlock()

    found = the(run(body))
    assert (found.rule, found.blamed) == ("zoo.free.exit", "filesystem Leaky.free")
    assert "mutex still held" in found.summary and ("ENOSPC" in found.summary) == raises


def test_other_things_left_behind() -> None:
    """A read lock, a spinlock of a method that may not block, an RCU section."""

    def body() -> None:
        node = Node()
        Leaky().unsure(node)
        node.i_rwsem.up_read()
        Leaky().quick(node)
        assert K.cur.ctx.nosleep
        node.i_lock.unlock()
        assert not K.cur.ctx.nosleep
        Leaky().sometimes(node)
        rcu_read_unlock()
        assert K.cur.held is None

    assert told(run(body)) == [
        ("zoo.unsure.i_rwsem", "filesystem Leaky.unsure"),
        ("zoo.quick.exit", "filesystem Leaky.quick"),
        ("zoo.sometimes.exit", "filesystem Leaky.sometimes"),
    ]


def test_instances_count_not_classes() -> None:
    """Another lock of the same class is another lock."""

    class Swaps(Zoo):
        def left(self, node: Node) -> None:
            node.mutex.unlock()
            assert node.child is not None
            node.child.mutex.lock()

    def body() -> None:
        node = Node()
        node.child = Node()
        node.mutex.lock()
        Swaps().left(node)
        node.child.mutex.unlock()

    assert the(run(body)).rule == "zoo.left.exit"


def test_a_lock_that_must_be_returned_with() -> None:
    """By the result, or by a condition on it; on error it must not be held."""

    class Bad(Zoo):
        def taken(self, node: Node) -> Any:
            if node.big:
                node.mutex.lock()
                raise ENOSPC()
            return node

        def maybe_taken(self, node: Node) -> bool:
            if not node.big:
                node.lock.lock()
            return node.big

    def body() -> None:
        node = Node()
        Bad().taken(node)
        Bad().maybe_taken(node)
        node.lock.unlock()

    found = run(body)
    assert [v.summary.partition("() ")[2] for v in found] == [
        "returned without return.mutex locked",
        "returned with page_lock still held",
    ]
    assert [v.rule for v in found] == ["zoo.taken.acquires", "zoo.maybe_taken.acquires"]
    assert all(v.blamed.startswith("filesystem ") for v in found)

    def locked_and_failed() -> None:
        node = Node()
        node.big = True
        with pytest.raises(OSError):
            Bad().taken(node)
        node.mutex.unlock()

    assert the(run(locked_and_failed)).rule == "zoo.taken.acquires"

    def not_locked() -> None:
        node = Node()
        node.big = True
        Bad().maybe_taken(node)

    assert the(run(not_locked)).rule == "zoo.maybe_taken.acquires"


def test_a_result_without_the_promised_lock_in_it() -> None:
    """Returning something else altogether is told, returning None is left to others."""

    class Bad(Zoo):
        def taken(self, node: Node) -> Any:
            return 3 if node.big else None

    big = Node()
    big.big = True
    found = the(run(lambda: Bad().taken(big)))
    assert found.rule == "zoo.taken.acquires" and "returned 3" in found.summary
    assert run(lambda: Bad().taken(Node())) == []


def test_a_lock_that_must_be_released() -> None:
    """Also when the method raises."""

    class Bad(Zoo):
        def left(self, node: Node) -> None:
            if node.big:
                raise ENOSPC()

    def body() -> None:
        for big in (False, True):
            node = Node()
            node.big = big
            node.mutex.lock()
            try:
                Bad().left(node)
            except OSError:
                pass
            node.mutex.unlock()

    found = the(run(body))
    assert found.rule == "Z4" and found.blamed.startswith("filesystem ")


def test_a_hook_sees_the_whole_call() -> None:
    """Before, after, and what came of it."""

    class Bad(Zoo):
        def quiet(self, node: Node) -> None:
            assert isinstance(running_call(K.cur, "zoo.quiet"), Call)
            node.big = True

    found = the(run(lambda: Bad().quiet(Node())))
    assert found.rule == "zoo.quiet.big" and found.summary.endswith("changed what it must not")
    assert found.blamed.startswith("filesystem ")


# -- rcu-walk --------------------------------------------------------------------------------------


class Walk(Operations):
    """Methods that a walk calls: one in its RCU read section, too, the other never."""

    table = "walk"
    columns = (RcuWalk("rcu-walk"),)

    @row("maybe")
    def hash(self) -> None: ...

    @row("no")
    def open(self) -> None: ...


def leaves() -> None:
    rcu_read_unlock()
    rcu_read_lock()


class Restless(Walk):
    """Leaves a section that is not its own, and one that is."""

    def hash(self) -> None:
        leaves()

    def open(self) -> None:
        rcu_read_lock()


class Sure(Walk):
    """Counts on a section that need not be there."""

    def hash(self) -> None:
        assert_held(RCU)

    def open(self) -> None:
        assert_held(RCU)


def walks(names: Walk) -> None:
    """Call one method in a read section, the other outside; the section is balanced afterwards."""
    rcu_read_lock()
    names.hash()
    assert K.cur.ctx.rcu == 1
    rcu_read_unlock()
    names.open()
    if K.cur.ctx.rcu:
        rcu_read_unlock()


def test_the_read_section_of_a_walk_is_not_the_methods() -> None:
    """It may neither leave it, nor begin one for its caller, nor count on it."""
    for cls in (Restless, Sure):
        assert told(run(walks, cls())) == [
            ("walk.hash.rcu-walk", f"filesystem {cls.__name__}.hash"),
            ("walk.open.rcu-walk", f"filesystem {cls.__name__}.open"),
        ]


def test_a_read_section_of_ones_own() -> None:
    """Beginning one, counting on it and ending it is a method's own affair."""

    class Reads(Walk):
        def hash(self) -> None:
            rcu_read_lock()
            assert_held(RCU)
            rcu_read_unlock()

        def open(self) -> None:
            self.hash()

    assert run(walks, Reads()) == []


def test_a_read_section_is_asserted_as_a_lock_is() -> None:
    """Outside of every method, only whether it is true counts."""

    def body() -> None:
        with rcu_read():
            assert_held(RCU)
        assert_held(RCU)

    assert told(run(body)) == [("lockdep.assert_held", "test")]


# -- results and references ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "hint"), [(-28, "raise ENOSPC()"), (0, "returns nothing"), ("x", "returns nothing")]
)
def test_a_method_that_returns_nothing_returned_something(value: Any, hint: str) -> None:
    """An errno returned as in C would go unnoticed."""

    class Bad(Zoo):
        def plain(self, node: Node) -> None:
            return value  # type: ignore[no-any-return]

    def body() -> None:
        with (node := Node()).i_rwsem:
            Bad().plain(node)

    found = the(run(body))
    assert found.rule == "zoo.plain.returns" and hint in found.details[0]


def test_a_method_that_returns_something_returned_nothing() -> None:
    """A forgotten return ends the world there, not in the kernel that looks into None."""

    class Bad(Operations):
        @may_block()
        def counts(self, node: Node) -> int:
            pass  # type: ignore[empty-body]

    found = the(run(lambda: Bad().counts(Node())))
    assert (found.rule.rpartition(".")[2], found.kind) == ("returns", "hard")
    assert found.blamed.startswith("filesystem ") and "returned None, not int" in found.summary


def test_a_reference_given() -> None:
    """What is returned carries a reference that was taken in the call."""

    class Bad(Zoo):
        def gives(self, node: Node) -> Any:
            return node

    class Heir(Tame):
        def gives(self, node: Node) -> Any:
            return super().gives(node)

    def body() -> None:
        node = Node()
        note_ref(node, +1, "new")
        TAME.gives(node)
        Heir().gives(node)
        Bad().gives(node)

    found = the(run(body))
    assert found.rule == "zoo.gives.gives_ref" and "without a reference" in found.summary


def test_a_reference_taken() -> None:
    """The method puts what its caller passed in."""

    class Bad(Zoo):
        def takes(self, node: Node) -> None: ...

    class Last(Zoo):
        def takes(self, node: Node) -> None:
            note_ref(node, -1, "put")
            free(node)

    def body() -> None:
        node = Node()
        note_ref(node, +2, "new")
        TAME.takes(node)
        Bad().takes(node)
        Last().takes(node)

    found = the(run(body))
    assert found.rule == "zoo.takes.takes_ref" and "without putting" in found.summary


# -- oops ------------------------------------------------------------------------------------------


class Clumsy(Zoo):
    """Raises what is no OSError."""

    def free(self, node: Node) -> Any:
        return node.child.child  # type: ignore[union-attr]

    def unsure(self, node: Node) -> None:
        self.free(node)

    def quick(self, node: Node) -> bool:
        raise ValueError("what now")


def test_an_oops_is_told_once_and_kindly() -> None:
    """With the line, the text, a hint, and the blame on the method that it left first."""

    def body() -> None:
        Clumsy().unsure(Node())

    found = the(run(body))
    assert (found.rule, found.kind, found.blamed) == ("oops", "oops", "filesystem Clumsy.free")
    assert found.where.startswith("test_contract_calls.py:")
    text = "\n".join(found.details)
    assert "return node.child.child" in text and "NoneType" in text and "is None here" in text
    assert "raise ENOENT()" in text


def test_an_oops_is_recorded_before_anybody_can_hide_it() -> None:
    """And leaves the contract's own state behind it clean."""

    def body() -> None:
        with pytest.raises(ValueError):
            Clumsy().quick(Node())
        assert K.cur.held is None and not K.cur.ctx.nosleep
        TAME.free(Node())

    assert the(run(body)).rule == "oops"


def test_what_is_no_bug_passes_through() -> None:
    """A bug that was reported, and Ctrl-C."""
    reported = the(run(lambda: TAME.plain(Node())))

    class Passes(Zoo):
        def free(self, node: Node) -> Any:
            raise KernelBug(reported)

    class Interrupted(Zoo):
        def free(self, node: Node) -> Any:
            raise KeyboardInterrupt

    def body() -> None:
        with pytest.raises(KernelBug):
            Passes().free(Node())

    assert run(body) == []
    with pytest.raises(KeyboardInterrupt):
        run(lambda: Interrupted().free(Node()))


@attrs.frozen
class Frozen(Exception):
    """Takes no attributes."""

    why: str


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(0),  # would end the search, and the exit status would say that all is well
        GeneratorExit(),
        Frozen("stiff"),
        FileNotFoundError("without errno"),  # a caller could not be told
        OSError(99_999, "unheard of"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_odd_exception_is_an_oops(error: BaseException) -> None:
    """Whatever is raised, but an OSError with an errno: told, and over when the task is."""

    class Odd(Zoo):
        def free(self, node: Node) -> Any:
            raise error

    found = the(run(lambda: Odd().free(Node())))
    assert found.rule == "oops" and found.blamed.endswith("Odd.free")


# -- obligations and assertions --------------------------------------------------------------------


def test_obligations() -> None:
    """What is not settled in the end is the method's bug."""

    class Owes(Zoo):
        def free(self, node: Node) -> Any:
            site = methods_of(Owes)["free"].sites[-1]
            for key in "ab":
                owe((key, node), f"do {key}", "Z9", site)

    def body(node: Node) -> None:
        Owes().free(node)
        assert settle(("a", node)) and not settle(("a", node))

    machine = Machine()
    node = Node()
    try:
        machine.spawn(body, node)
        machine.run()
        assert [d.what for d in owed(machine)] == ["do b"] and not owed(machine, ("a", node))
        assert overdue(machine, lambda key: key[0] == "z") == []
        found = the(overdue(machine))
        assert (
            found.rule == "Z9"
            and found.blamed.startswith("filesystem ")
            and "never came to do b" in found.summary
        )
        assert machine.violations == [found] and overdue(machine) == []
    finally:
        machine.bury()


def test_asserting_a_lock_that_is_not_promised() -> None:
    """The filesystem's bug, held this time or not; what it took itself it may assert."""

    class Asserts(Zoo):
        def unsure(self, node: Node) -> None:
            if node.big:
                with node.i_rwsem:
                    assert_held(node.i_rwsem)
            else:
                assert_held(node.i_rwsem)

        def plain(self, node: Node) -> None:
            assert_held(node.i_rwsem)
            assert_held(node.i_rwsem, shared=True)

    ops = Asserts()
    rule = ("zoo.unsure.i_rwsem", filesystem(methods_of(Asserts)["unsure"].sites[-1].title))

    def held() -> None:
        with (node := Node()).i_rwsem:
            ops.plain(node)
            ops.unsure(node)

    def free() -> None:
        node = Node()
        ops.unsure(node)
        node.big = True
        ops.unsure(node)

    assert told(run(held)) == [rule]
    assert told(run(free)) == [rule]


def test_asserting_wrongly_is_the_asserters_bug() -> None:
    """Anybody's."""

    def asserts(node: Node) -> None:
        assert_held(node.mutex)

    assert told(run(asserts, Node())) == [("lockdep.assert_held", "test")]
    assert told(run(kernel(asserts), Node())) == [("lockdep.assert_held", "kernel")]
