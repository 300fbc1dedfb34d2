"""Declared shared fields: every read and write is a scheduling point, and nothing else is."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Annotated, Any

import attrs
import pytest

from tests.sim.helpers import run, seeds, world
from vfsim.locks.mutex import Mutex
from vfsim.sim.shared import (
    READ_ONCE,
    WRITE_ONCE,
    Field,
    cmpxchg,
    guarded_by,
    kernel_struct,
    ordered,
    shared,
    smp_load_acquire,
    smp_store_release,
    xchg,
)
from vfsim.sim.state import K


@kernel_struct
class Node:
    """Two shared fields, one plain, one without a default."""

    name: str
    size: Annotated[int, shared]
    links: Annotated[int, shared] = 1
    private: list[int] = attrs.field(factory=list)


@kernel_struct
class Leaf(Node):
    """Inherits shared fields and adds one."""

    data: Annotated[bytes, shared] = b""


class Points:
    """A strategy that writes down the points it is asked at."""

    gap = 1

    def __init__(self) -> None:
        self.seen: list[str] = []

    def start(self, machine: Any) -> None:
        """Nothing to prepare."""

    def decide(self, ready: list[Any], current: Any) -> int:
        if current is not None:
            self.seen.append(f"{current.pending[0]} {current.pending[1]!r}")
        return 0

    def choose(self, kind: str, n: int) -> int:
        return 0


def points(body: Any) -> list[str]:
    """The points that a task passes."""
    strategy = Points()
    run(body, strategy=strategy)
    return strategy.seen


def test_each_access_is_a_point() -> None:
    """A read-modify-write is two points; plain fields are none."""

    def body() -> None:
        node = Node("a", 0)
        node.size += 1
        node.name = "b"
        node.private.append(node.links)
        assert (node.size, node.links) == (1, 1)

    assert points(body) == [
        "read Node.size",
        "write Node.size",
        "read Node.links",
        "read Node.size",
        "read Node.links",
    ]


def test_making_an_object_is_no_point() -> None:
    """A new object is not shared yet, whatever class it inherits from."""

    def body() -> None:
        leaf = Leaf("a", 3, data=b"xy")
        assert (leaf.raw_size, leaf.raw_links, leaf.raw_data) == (3, 1, b"xy")  # type: ignore[attr-defined]

    assert points(body) == []


def test_telling_of_an_object_is_no_point() -> None:
    """A report must not change the run that it is about; a base's own words are kept."""

    @kernel_struct
    class Named:
        size: Annotated[int, shared] = 0

        def __repr__(self) -> str:
            return "a name"

    @kernel_struct
    class Derived(Named):
        more: Annotated[int, shared] = 0

    def body() -> None:
        assert repr(Leaf("a", 3)).startswith("Leaf(name='a', size=3, ")
        assert repr(Derived()) == "a name"

    assert points(body) == []


def test_inherited_fields_stay_shared() -> None:
    """A subclass's inherited and own shared fields are points."""

    def body() -> None:
        leaf = Leaf("a", 3)
        leaf.size = 4
        leaf.data = b"z"
        assert leaf.size == 4

    assert points(body) == ["write Leaf.size", "write Leaf.data", "read Leaf.size"]


def test_raw_access_is_no_point() -> None:
    """The slot stays reachable under its raw name."""

    def body() -> None:
        node: Any = Node("a", 1)
        node.raw_size += 5
        assert node.raw_size == 6

    assert points(body) == []


def test_outside_of_tasks_fields_are_just_fields() -> None:
    """Set-up and checks read and write them freely."""
    node = Node("a", 1)
    node.size += 1
    assert node.size == 2
    with world() as machine:
        machine.run()
    assert node.size == 2


def test_it_is_an_attrs_class_with_slots() -> None:
    """Identity comparison, slots, keyword construction, no misspelt attributes."""
    node = Node(name="a", size=2)
    assert node != Node(name="a", size=2)
    assert [field.name for field in attrs.fields(Node)] == ["name", "size", "links", "private"]
    with pytest.raises(AttributeError):
        node.sise = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Node()  # type: ignore[call-arg]
    assert "Node(name='a', size=2" in repr(node)


def test_updates_are_lost_without_a_lock() -> None:
    """``+=`` on a shared field is not atomic."""
    results = set()
    for seed in seeds(60):
        node = Node("a", 0)

        def body(node: Node = node) -> None:
            node.size += 1

        run(body, body, body, seed=seed)
        results.add(node.size)
    assert results == {1, 2, 3}


def test_fields_conflict_with_themselves_only() -> None:
    """Two accesses conflict if they are to the same field of the same object."""
    one, two = Node("a", 0), Node("b", 0)
    assert Field(one, "size").conflicts(Field(one, "size"))
    assert not Field(one, "size").conflicts(Field(one, "links"))
    assert not Field(one, "size").conflicts(Field(two, "size"))
    assert not Field(one, "size").conflicts("size")


def test_annotations_that_cannot_be_resolved() -> None:
    """A class whose annotations only a type checker resolves still gets its shared fields."""

    class Local:
        pass

    @kernel_struct
    class Holder:
        of: Local  # not visible from the module: annotations are text here
        count: Annotated[int, shared] = 0

    def body() -> None:
        Holder(Local()).count += 1

    assert points(body) == ["read Holder.count", "write Holder.count"]
    assert K.cur.__class__.__name__ == "_Nobody"


@kernel_struct
class Account:
    """Fields of every kind of declaration."""

    lock: Mutex
    balance: Annotated[int, guarded_by("lock")] = 0
    name: Annotated[str, shared, guarded_by("lock", lockless=True)] = ""
    age: Annotated[int, guarded_by("lock", lockless=True)] = 0
    owner: Annotated[Any, guarded_by("@registry_lock", "lock", read=("parent.lock",), rcu=True)] = (
        None
    )
    parent: Account | None = None
    paper: Annotated[bytes, ordered] = b""


def test_only_what_is_used_without_its_lock_is_a_point() -> None:
    """A field under a lock is as cheap and as silent as a plain one; one read without it is not."""

    def body() -> None:
        account = Account(Mutex("account"))
        with account.lock:
            account.balance += 1
        account.paper = b"x"
        account.name = "y"
        account.age = 3
        assert account.owner is None

    assert points(body) == [
        "lock <Mutex account, free, 0 waiting>",
        "write Account.name",
        "read Account.owner",
    ]


def test_what_is_off_is_the_plain_slot() -> None:
    """Nothing stands between a guarded field and its slot while nobody looks for races."""
    run(lambda: None)
    for name in ("balance", "paper"):
        assert type(Account.__dict__[name]) is MemberDescriptorType
        assert Account.__dict__[name] is Account.__dict__[f"raw_{name}"]


def test_declarations_read_well() -> None:
    """A guard says in words who may write and who may read."""
    assert str(guarded_by("i_lock")) == "i_lock"
    assert str(guarded_by("a", "b")) == "written under a and b, read under a or b"
    assert str(guarded_by("a", seq="d_seq", rcu=True)) == (
        "a, read in RCU sections, read in windows of d_seq"
    )
    assert str(guarded_by("a", lockless=True, unless=("is_new",))) == (
        "a, read without it, free while is_new"
    )
    assert str(ordered) == "ordered"


@pytest.mark.parametrize("wrong", ["", "i lock", "a..b", ".a", 3])
def test_paths_that_are_none(wrong: Any) -> None:
    """A guard takes paths, and at least one."""
    with pytest.raises(TypeError, match="is no path"):
        guarded_by(wrong)
    with pytest.raises(TypeError, match="takes the path"):
        guarded_by()


@pytest.mark.parametrize(
    ("guard", "message"),
    [
        (guarded_by("lokc"), r"Broken.value is guarded by 'lokc', but .*Broken has no 'lokc'"),
        (guarded_by("number"), "guarded by 'number', which is int: no lock"),
        (guarded_by("above.lokc"), "guarded by 'above.lokc', but Account has no 'lokc'"),
        (guarded_by("lock", seq="d_seq"), "has no 'd_seq'"),
        (guarded_by("lock", unless=("is_new",)), "free while 'is_new', but .*Broken has none"),
    ],
)
def test_guards_that_name_nothing(guard: Any, message: str) -> None:
    """A path that leads nowhere, or to no lock, is refused when the class is made."""

    class Broken:
        lock: Mutex
        number: int
        above: Account
        value: int

    Broken.__annotations__["value"] = Annotated[int, guard]
    with pytest.raises(TypeError, match=message):
        kernel_struct(Broken)


def test_marked_accesses_are_points() -> None:
    """``READ_ONCE`` and its siblings reach any attribute, and each is a point."""

    class Plain:
        flag = 0

    plain = Plain()

    def body() -> None:
        account = Account(Mutex("account"))
        WRITE_ONCE(account, "balance", 3)
        assert READ_ONCE(account, "balance") == 3
        smp_store_release(plain, "flag", 1)
        assert smp_load_acquire(plain, "flag") == 1

    assert points(body) == [
        "write Account.balance",
        "read Account.balance",
        "write Plain.flag",
        "read Plain.flag",
    ]


def test_exchanges_are_single_steps() -> None:
    """Of tasks that compare and exchange at once, one succeeds; what each exchange takes out was
    put in once, on every schedule.
    """
    for seed in seeds(60):
        node = Node("n", 0)
        won: list[int] = []
        taken: list[int] = []

        def comparing(n: int, node: Node = node, won: list[int] = won) -> None:
            if cmpxchg(node, "links", 1, n):
                won.append(n)

        def exchanging(n: int, node: Node = node, taken: list[int] = taken) -> None:
            taken.append(xchg(node, "size", n))

        with world(seed=seed, strategy="random") as machine:
            for n in (2, 3, 4):
                machine.spawn(comparing, n)
                machine.spawn(exchanging, n)
            machine.run()
        assert won == [node.raw_links] and sorted([*taken, node.raw_size]) == [0, 2, 3, 4]
