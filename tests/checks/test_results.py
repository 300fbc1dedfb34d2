"""What a method returns, and what it raises: the ways of C that do not work here are told, where
they happen and to the blame of the method.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks.contract_world import Node, Zoo, run, the, told
from vfsim.checks.contract import Operations
from vfsim.checks.rules import cannot_fail, gives_ref, may_block, never_blocks, watch
from vfsim.sim.errors import EIO, ENOENT


class Oracles(Operations):
    """One method for each kind of result."""

    table = "oracles"

    @may_block()
    def yes(self, node: Node) -> bool: ...  # type: ignore[empty-body]

    @may_block()
    def number(self, node: Node) -> int: ...  # type: ignore[empty-body]

    @cannot_fail
    @never_blocks()
    def order(self, node: Node) -> int: ...  # type: ignore[empty-body]

    @may_block()
    def text(self, node: Node) -> str: ...  # type: ignore[empty-body]

    @may_block()
    def data(self, node: Node) -> bytes: ...  # type: ignore[empty-body]

    @may_block()
    def node(self, node: Node) -> Node: ...  # type: ignore[empty-body]

    @may_block()
    def perhaps(self, node: Node) -> Node | None: ...

    @gives_ref()
    def given(self, node: Node) -> Node | None: ...


class Rich(Node):
    """A node of a subclass."""


def answer(method: str, value: Any) -> list[tuple[str, str]]:
    """What is found if a method answers with ``value``: the last word of the rule, and the kind."""

    def said(self: Any, node: Node) -> Any:
        return value

    cls: Any = type(Oracles)("Answers", (Oracles,), {method: said})
    return [(v.rule.rpartition(".")[2], v.kind) for v in run(getattr(cls(), method), Node())]


RIGHT = [
    ("yes", True), ("yes", False), ("yes", 1), ("yes", None), ("yes", [1]),
    ("number", 0), ("number", 7), ("number", True),
    ("order", -1), ("order", 0),
    ("text", ""), ("data", b"x"), ("data", bytearray(b"x")), ("data", memoryview(b"x")),
    ("node", Node()), ("node", Rich()),
    ("perhaps", None), ("perhaps", Node()),
    ("given", None), ("given", Rich()),
]  # fmt: skip

SOFT, HARD = ("returns", "soft"), ("returns", "hard")
WRONG = [
    ("yes", -10, SOFT), ("number", -5, SOFT), ("number", "7", HARD), ("number", None, HARD),
    ("order", None, HARD), ("text", b"x", HARD), ("text", -10, HARD), ("text", None, HARD),
    ("data", "x", HARD), ("data", -61, HARD), ("node", -12, HARD), ("node", None, HARD),
    ("perhaps", -12, HARD), ("node", ENOENT(), HARD),
    ("given", -2, HARD), ("given", ENOENT(), HARD),
    ("given", "a node", HARD),
]  # fmt: skip


@pytest.mark.parametrize(("method", "value"), RIGHT)
def test_right_results(method: str, value: Any) -> None:
    """What can be used as the method's annotation says."""
    assert answer(method, value) == []


@pytest.mark.parametrize(("method", "value", "found"), WRONG)
def test_wrong_results(method: str, value: Any, found: tuple[str, str]) -> None:
    """Errors are raised, not returned; and the kernel is not left alone with another type."""
    assert answer(method, value) == [found]


def test_the_report_says_what_to_write_instead() -> None:
    """Where the value is an errno of C's."""

    class Wrong(Oracles):
        def text(self, node: Node) -> str:
            return -10  # type: ignore[return-value]

    found = the(run(lambda: Wrong().text(Node())))
    assert found.blamed.endswith("Wrong.text") and found.summary.endswith("returned -10, not str")
    assert found.details[0].startswith("an error is raised, not returned: raise ECHILD()")


@pytest.mark.parametrize("watched", [False, True])
def test_a_method_that_cannot_fail(watched: bool) -> None:
    """It ends the world if it raises: nobody can be told, and the kernel would go on."""

    def looks(call: Any) -> Any:
        yield

    class Table(Operations):
        table = "table_of_ends"

        @cannot_fail
        @may_block()
        def ends(self, node: Node) -> None: ...

        if watched:
            ends = watch(looks)(ends)

    class Fails(Table):
        def ends(self, node: Node) -> None:
            raise EIO()

    found = the(run(lambda: Fails().ends(Node())))
    assert (found.rule.rpartition(".")[2], found.kind) == ("raises", "hard")
    assert found.blamed.endswith("Fails.ends")


def test_the_others_may() -> None:
    """An error is what a method tells its caller, and nobody's bug."""

    class Fails(Oracles):
        def number(self, node: Node) -> int:
            raise EIO()

    def body() -> None:
        with pytest.raises(OSError):
            Fails().number(Node())

    assert run(body) == []


# -- a method calls another of the same object -----------------------------------------------------


class Around(Zoo):
    """Takes a lock around what it overrides, and that is called without it by its kernel."""

    def free(self, node: Node) -> Any: ...


class Inside(Around):
    """Calls it in turn, with the lock held."""

    def free(self, node: Node) -> Any:
        with node.i_rwsem:
            return super().free(node)

    def unsure(self, node: Node) -> None:
        with node.i_rwsem.shared():
            Around.free(self, node)


def test_a_lock_of_ones_own_is_ones_own_affair() -> None:
    """ "no" says what the kernel does not hold, and not what a method may hold for itself."""
    assert run(lambda: Inside().free(Node())) == []
    assert run(lambda: Inside().unsure(Node())) == []


def test_another_objects_method_is_not() -> None:
    """Nor is a lock that the caller of the outer method holds."""
    other = Around()

    class Stacked(Zoo):
        def unsure(self, node: Node) -> None:
            with node.i_rwsem:
                other.free(node)

    found = the(run(lambda: Stacked().unsure(Node())))
    assert found.rule == "zoo.free.i_rwsem" and found.blamed.endswith("Stacked.unsure")

    class Passes(Around):
        def unsure(self, node: Node) -> None:
            self.free(node)

    def body() -> None:
        node = Node()
        with node.i_rwsem:
            Passes().unsure(node)

    assert [rule for rule, _ in told(run(body))] == ["zoo.free.i_rwsem"]
