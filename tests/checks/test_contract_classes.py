"""What is refused when a class is made, and what is accepted: names, parameters, kinds of
functions, rows and paths.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.checks.contract_world import Node, Zoo, it_is_big, run, the, told
from vfsim.checks import contract
from vfsim.checks.contract import Operations, methods_of
from vfsim.checks.rules import (
    Lock,
    MayBlock,
    cell,
    expects,
    must_hold,
    never_blocks,
    row,
    watch,
    when,
)
from vfsim.sim.scheduler import might_sleep


def refused(make: Callable[[], Any], *words: str) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)


# -- implementing ----------------------------------------------------------------------------------


def test_a_renamed_parameter_is_refused_at_import() -> None:
    """mypy does not mind an override with other names, the contract does."""

    def make() -> None:
        class Bad(Zoo):
            def plain(self, inode: Node) -> None: ...

    refused(
        make, r"Bad\.plain", r"\(self, node\)", "keep their names and order", "contract_world.py:"
    )


@pytest.mark.parametrize("params", ["self", "self, node, more", "node", "", "self, *, node"])
def test_parameters_in_another_shape_are_refused(params: str) -> None:
    """Too few, too many, no self, keyword only."""
    refused(lambda: exec(f"class Bad(Zoo):\n def plain({params}): pass", {"Zoo": Zoo}), "plain")


def test_more_parameters_are_fine_if_they_have_defaults() -> None:
    """The table passes what it passes; a helper may pass more."""

    class Fine(Zoo):
        def free(self, node: Node, depth: int = 3) -> Any:
            return depth

    assert run(lambda: Fine().free(Node())) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("plian", "plain"), ("unsre", "unsure"), ("mayb_taken", "maybe_taken"), ("Free", "free")],
)
def test_a_misspelt_method_is_refused_with_the_right_name(name: str, meant: str) -> None:
    """Otherwise it would silently never be called."""
    refused(
        lambda: exec(f"class Bad(Zoo):\n def {name}(self, node): pass", {"Zoo": Zoo}),
        f"did you mean {meant}\\(\\)",
    )


def test_helpers_are_not_taken_for_misspelt_methods() -> None:
    """A leading underscore, or a name that contains a method's as a word, is somebody's own
    business.
    """

    class Fine(Zoo):
        def _plian(self) -> None: ...
        def do_plain(self) -> None: ...
        def plain_again(self) -> None: ...
        def unrelated(self) -> None: ...


def test_a_misspelt_method_of_a_mixin_or_assigned_later_is_refused() -> None:
    """There is no way around the check."""

    class Mixin:
        def plian(self, node: Node) -> None: ...

    def make() -> None:
        class Bad(Mixin, Zoo): ...

    class Fine(Zoo): ...

    refused(make, "did you mean plain")
    refused(lambda: setattr(Fine, "plian", lambda self, node: None), "did you mean plain")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def plain(self, node): yield", "generator"),
        ("async def plain(self, node): pass", "async"),
        ("async def plain(self, node): yield", "async"),
        ("@staticmethod\n def plain(node): pass", "staticmethod"),
        ("@classmethod\n def plain(cls, node): pass", "classmethod"),
        ("@property\n def plain(self): pass", "plain function"),
        ("plain = print", "plain function"),
        ("plain = None", "plain function"),
    ],
)
def test_what_is_no_plain_function_is_refused(body: str, words: str) -> None:
    """Nothing is silently left unchecked."""
    refused(lambda: exec(f"class Bad(Zoo):\n {body}", {"Zoo": Zoo}), r"Bad\.plain", words)


def test_decorated_functions_are_checked() -> None:
    """With functools.wraps the parameters are known; without it they get what is passed."""

    def noisy(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    def anonymous(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: fn(*args, **kwargs)

    class Fine(Zoo):
        @noisy
        def plain(self, node: Node) -> None: ...

        @anonymous
        def held(self, node: Node) -> None: ...

    found = run(lambda: (Fine().plain(Node()), Fine().held(Node())))
    assert told(found) == [("zoo.plain.i_rwsem", "test"), ("Z1", "test")]
    refused(
        lambda: exec(
            "class Bad(Zoo):\n @noisy\n def plain(self, x): pass", {"Zoo": Zoo, "noisy": noisy}
        ),
        "plain",
    )


def test_methods_of_mixins_are_checked() -> None:
    """Wherever in the ancestry a method comes from, its class wraps it."""

    class Mixin:
        def plain(self, node: Node) -> None: ...

    class First(Mixin, Zoo): ...

    class Heir(First): ...

    found = run(lambda: (First().plain(Node()), Heir().plain(Node())))
    assert found[0].summary.split("()")[0].endswith("First.plain")
    assert methods_of(Heir)["plain"].sites[-1].cls is Heir


def test_super_is_checked_too() -> None:
    """Each class's method is a call of its own."""

    class Base(Zoo):
        def plain(self, node: Node) -> None: ...

    class Heir(Base):
        def plain(self, node: Node) -> None:
            super().plain(node)

    def body() -> None:
        node = Node()
        with node.i_rwsem:
            Heir().plain(node)
        Heir().plain(node)

    found = run(body)
    assert [(v.rule, v.blamed.partition(" ")[0]) for v in found] == [
        ("zoo.plain.i_rwsem", "test"),
        ("zoo.plain.i_rwsem", "filesystem"),
    ]


def test_a_function_assigned_later_is_checked_also_in_subclasses() -> None:
    """And taking it away brings back what was there before."""

    class Base(Zoo): ...

    class Heir(Base): ...

    Base.plain = lambda self, node: None  # type: ignore[method-assign]
    assert Heir.implements("plain")
    assert told(run(lambda: Heir().plain(Node()))) == [("zoo.plain.i_rwsem", "test")]
    refused(lambda: setattr(Base, "plain", lambda self, other: None), "keep their names")
    refused(lambda: setattr(Base, "plain", 3), "plain function")
    del Base.plain
    assert not Heir.implements("plain")
    assert run(lambda: Heir().plain(Node())) == []


def test_what_cannot_be_checked_later_is_refused() -> None:
    """Methods on one object, on the table itself, and other bases."""

    class Fine(Zoo): ...

    refused(lambda: setattr(Fine(), "plain", lambda node: None), "make a subclass")
    refused(lambda: setattr(Zoo, "plain", lambda self, node: None), "override it in a subclass")
    refused(lambda: setattr(Fine, "__bases__", (Zoo,)), "make a new class")
    Fine().anything = 3  # type: ignore[attr-defined]


def test_an_override_cannot_change_its_contract() -> None:
    """The row is declared once."""
    refused(
        lambda: exec(
            "class Bad(Zoo):\n @must_hold('node.mutex')\n def plain(self, node): pass",
            {"Zoo": Zoo, "must_hold": must_hold},
        ),
        "an override inherits it",
    )


def test_two_tables_in_one_class() -> None:
    """Fine, unless both have a method of one name."""

    class Other(Operations):
        table = "other_zoo"

        def unlike(self, node: Node) -> None: ...

    class Clash(Operations):
        table = "clashing_zoo"

        def plain(self, node: Node) -> None: ...

    class Both(Zoo, Other):
        def unlike(self, node: Node) -> None: ...

    assert Both.implements("unlike") and not Both.implements("plain")
    refused(lambda: type("Bad", (Zoo, Clash), {}), "make two classes")


def test_implements() -> None:
    """What Linux asks by comparing a pointer with NULL."""

    class Fine(Zoo):
        def plain(self, node: Node) -> None: ...

    assert Fine.implements("plain") and Fine().implements("plain")
    assert not Fine.implements("free") and not Zoo.implements("plain")
    with pytest.raises(TypeError, match="no method 'plan'"):
        Fine.implements("plan")


def test_switched_off_methods_are_called_bare() -> None:
    """Nothing is checked or counted, and switching on again checks everything made meanwhile."""

    class Fine(Zoo):
        def plain(self, node: Node) -> None: ...

    raw = methods_of(Fine)["plain"].sites[-1].raw
    contract.disable()
    try:
        assert not contract.enabled() and Fine.__dict__["plain"] is raw

        class Later(Zoo):
            def plain(self, node: Node) -> None: ...

        assert run(lambda: (Fine().plain(Node()), Later().plain(Node()))) == []
    finally:
        contract.enable()
    assert len(run(lambda: Fine().plain(Node()))) == len(run(lambda: Later().plain(Node()))) == 1


def test_outside_of_a_task_the_answer_is_a_sentence() -> None:
    """A contract without a current task has nobody to look at."""

    class Fine(Zoo):
        def plain(self, node: Node) -> None: ...

    with pytest.raises(TypeError, match="inside a simulated task"):
        Fine().plain(Node())


def test_generated_source_is_visible() -> None:
    """Tracebacks and debuggers show the wrapper's lines."""
    import linecache

    class Fine(Zoo):
        def plain(self, node: Node) -> None:
            """Mine."""

    code = Fine.plain.__code__
    assert "raw(self, node)" in "".join(linecache.getlines(code.co_filename))
    assert Fine.plain.__doc__ == "Mine." and Fine.plain.__qualname__.endswith("Fine.plain")


# -- declaring -------------------------------------------------------------------------------------


def table(**body: Any) -> Callable[[], Any]:
    """A table class with these members, made when called."""
    return lambda: type(Operations)("T", (Operations,), {"table": "t", **body})


def method(*decorators: Any) -> Any:
    def fn(self: Any, dir: Any, flags: int) -> None: ...

    for decorator in reversed(decorators):
        fn = decorator(fn)
    return fn


def needs_mode(mode: int) -> bool:
    return bool(mode)


def not_a_generator(call: Any) -> None: ...


def hook_without_call(dir: Any) -> Any:
    yield


def hook_with_wrong_name(call: Any, dri: Any) -> Any:
    yield


def test_a_path_starts_at_a_parameter() -> None:
    """Verified when the class is made."""
    refused(table(m=method(must_hold("dri.i_rwsem"))), r"T\.m", "'dri'", r"\(dir, flags\)")
    refused(table(m=method(must_hold("return.i_rwsem"))), "only known when the method returns")


@pytest.mark.parametrize(
    "path", ["dir", "", ".x", "dir..x", "dir.a b", "0.x", "@", "@a.b", "any ", 3]
)
def test_what_is_no_path_is_refused(path: Any) -> None:
    """At once, by the decorator."""
    with pytest.raises(TypeError):
        must_hold(path)


def test_a_path_follows_the_classes_as_far_as_they_are_known() -> None:
    """A misspelt field of a class with slots is found when the table is made; the rest by
    `verify_paths`.
    """

    class Slotted:
        __slots__ = ("i_rwsem",)

    def fn(self: Any, dir: Any) -> None: ...

    fn.__annotations__ = {"dir": Slotted}
    refused(
        table(m=must_hold("dir.i_rwsme")(fn)), "Slotted has no 'i_rwsme'", "did you mean 'i_rwsem'"
    )


def test_conditions_ask_for_parameters() -> None:
    """A condition that asks for something else cannot be evaluated."""
    refused(table(m=method(never_blocks(when=needs_mode))), "asks for mode")
    refused(table(m=method(expects(needs_mode, rule="x"))), "asks for mode")
    with pytest.raises(TypeError, match="named function"):
        when(lambda node: True, "dir.x")
    with pytest.raises(TypeError, match="named function"):
        never_blocks(when=3)  # type: ignore[arg-type]


def test_a_row_has_one_cell_for_each_column() -> None:
    """And its words mean something."""
    columns = (Lock("i_rwsem", "dir.i_rwsem"), MayBlock("may block"))
    refused(table(columns=columns, m=method(row("yes"))), "1 cells", "2 columns")
    refused(table(columns=columns, m=method(row("perhaps", "no"))), "perhaps")
    refused(table(columns=columns, m=method(row("yes", "sometimes"))), "never_blocks=")
    refused(table(columns=(Lock("x", "inode.x"),), m=method(row("yes"))), "names no lock")
    with pytest.raises(TypeError, match="first cell"):
        row(cell("yes"), held="dir.x")


def test_a_table_has_a_name_and_plain_methods() -> None:
    """The name is an identifier, parameters are plain."""
    refused(table(table="not a name"), "identifier")
    refused(table(m=must_hold("x.y")(lambda self, x=3: None)), "plain names")
    refused(table(m=must_hold("site.y")(lambda self, site: None)), "'site' is used by the contract")
    refused(table(m=must_hold("x.y")(lambda *x: None)), "self")


def test_hooks_are_verified() -> None:
    """A watching function is a generator on call and parameters."""
    with pytest.raises(TypeError, match="generator"):
        watch(not_a_generator)
    with pytest.raises(TypeError, match="'call'"):
        watch(hook_without_call)
    refused(table(m=method(watch(hook_with_wrong_name))), "asks for dri")


def test_a_row_outside_of_a_table_is_refused() -> None:
    """But annotations on a filesystem's own helpers are kept (see below)."""
    refused(lambda: type(Operations)("Bad", (Zoo,), {"helper": method(row("yes"))}), "has a row")


def test_annotations_on_helpers_are_checked() -> None:
    """A filesystem may promise things to itself, in the same words."""

    class Fine(Zoo):
        def plain(self, node: Node) -> None:
            self._inner(node)

        @must_hold("node.mutex")
        @never_blocks(when=it_is_big)
        def _inner(self, node: Node) -> None:
            might_sleep()

    def body() -> None:
        node = Node()
        with node.i_rwsem:
            Fine().plain(node)

    found = the(run(body))
    assert found.rule == "Fine._inner.must_hold" and found.blamed.startswith("filesystem ")
    assert found.blamed.endswith("Fine.plain")


def test_a_table_may_extend_another() -> None:
    """It adds methods and cannot change rows."""

    class More(Zoo):
        table = "more_zoo"
        columns = ()

        @must_hold("node.mutex")
        def extra(self, node: Node) -> None: ...

    class Impl(More):
        def extra(self, node: Node) -> None: ...
        def plain(self, node: Node) -> None: ...

    found = run(lambda: (Impl().extra(Node()), Impl().plain(Node())))
    assert told(found) == [("more_zoo.extra.must_hold", "test"), ("zoo.plain.i_rwsem", "test")]

    def make() -> None:
        class Bad(Zoo):
            table = "worse_zoo"

            def plain(self, node: Node) -> None: ...

    refused(make, "cannot change a row")


def test_meanings_are_sentences() -> None:
    """What a cell means is generated where nobody wrote it."""
    methods = methods_of(Zoo)
    assert methods["plain"].cells[0].means == "the caller holds node.i_rwsem exclusive"
    assert (
        methods["sometimes"].cells[0].means
        == "when it is big: the caller holds node.i_rwsem exclusive"
    )
    assert "both with and without" in methods["unsure"].cells[0].means
    assert methods["unsure"].cells[0].status == "not promised"
    quick, glob = methods["perhaps"].clauses[0], methods["global_ones"].clauses[0]
    assert quick.sentence == "when it is quick: the method must not sleep"
    assert "some i_lock" in glob.sentence
