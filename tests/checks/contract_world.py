"""What the contract's tests share: a world for one function, objects with locks, and a little table
of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.judge import KernelJudge
from vfsim.checks.rules import (
    Lock,
    acquires,
    cell,
    expects,
    gives_ref,
    may_block,
    must_hold,
    must_hold_shared,
    must_not_hold,
    never_blocks,
    prototype,
    releases,
    row,
    takes_ref,
    watch,
    when,
)
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import Violation
from vfsim.sim.machine import Machine


def run(fn: Callable[..., Any], *args: Any, **options: Any) -> list[Violation]:
    """Run ``fn`` as the one task of a world and return what was found."""
    machine = Machine(judge=KernelJudge(), **options)
    try:
        machine.spawn(fn, *args, name="task")
        machine.run()
        return list(machine.violations)
    finally:
        machine.bury()


def the(found: list[Violation]) -> Violation:
    """The only violation."""
    assert len(found) == 1, [str(v) for v in found]
    return found[0]


def told(found: list[Violation]) -> list[tuple[str, str]]:
    """(rule, blamed) of each."""
    return [(v.rule, v.blamed) for v in found]


def kernel(fn: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """The same function as if it stood in the kernel."""
    space = {**fn.__globals__, "__name__": "vfsim.fs.pretended"}
    code = fn.__code__.replace(co_name=name) if name else fn.__code__
    return FunctionType(code, space, name or fn.__name__, fn.__defaults__, fn.__closure__)


class Node:
    """An object with one lock of each kind and a count of references."""

    def __init__(self, parent: Node | None = None) -> None:
        self.i_rwsem = RwSem("i_rwsem")
        self.mutex = Mutex("mutex")
        self.i_lock = SpinLock("i_lock")
        self.lock = SleepBit("page_lock")
        self.child: Node | None = None
        self.parent = parent
        self.big = False


def it_is_big(node: Node) -> bool:
    return node.big


def it_is_quick(fast: bool) -> bool:
    """A condition of more than one expression, so that it is called."""
    quick = fast
    return quick


def asked_for(result: object) -> bool:
    return bool(result)


def looks_on(call: Call, node: Node) -> Iterator[None]:
    before = node.big
    yield
    call.check("zoo.quiet.big", node.big == before or call.error, "changed what it must not")


class Zoo(Operations):
    """One method for each thing that can be promised."""

    table = "zoo"
    columns = (Lock("i_rwsem", "node.i_rwsem"),)

    @prototype("int (*plain) (struct node *);")
    @row("yes")
    def plain(self, node: Node) -> None: ...

    @row("no")
    def free(self, node: Node) -> Any: ...

    @row("yes", shared="node.i_rwsem")
    @may_block()
    def shared(self, node: Node) -> Any: ...

    @row(cell("yes (some)", held=(when(it_is_big, "node.i_rwsem"),)))
    def sometimes(self, node: Node) -> None: ...

    @row("no", not_promised="node.i_rwsem")
    def unsure(self, node: Node) -> None: ...

    @must_hold("node.mutex", rule="Z1")
    @must_not_hold("node.i_lock")
    def held(self, node: Node) -> None: ...

    @must_hold_shared("@zoo_sem")
    @must_not_hold("any i_lock")
    def global_ones(self) -> None: ...

    @never_blocks()
    def quick(self, node: Node) -> bool: ...

    @never_blocks(when=it_is_quick, rule="Z2")
    def perhaps(self, node: Node, fast: bool) -> None: ...

    @acquires("return.mutex")
    def taken(self, node: Node) -> Any: ...

    @acquires("node.lock", when=asked_for)
    def maybe_taken(self, node: Node) -> bool: ...

    @must_hold("node.mutex")
    @releases("node.mutex", rule="Z4")
    def left(self, node: Node) -> None: ...

    @gives_ref()
    def gives(self, node: Node) -> Any: ...

    @takes_ref("node")
    def takes(self, node: Node) -> None: ...

    @expects(it_is_big, rule="Z5")
    def choosy(self, node: Node) -> None: ...

    @watch(looks_on)
    def quiet(self, node: Node) -> None: ...
