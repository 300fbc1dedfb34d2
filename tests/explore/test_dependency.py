"""The dependency table, cell by cell, and that no operation of the code is missing from it."""

from __future__ import annotations

import ast
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from programs import Counter

import vfsim
from vfsim.explore.dependency import ALONE, COMMUTES, REMARKS, Op, dependent
from vfsim.locks.mutex import Mutex
from vfsim.sim.shared import Field

OF_FIELDS = """
read   . x
write  x x
"""

OF_LOCKS = """
lock         x x x x x x x x x x x x
spin_lock    x x x x x x x x x x x x
bit_lock     x x x x x x x x x x x x
trylock      x x x x x x x x x x x x
unlock       x x x x x x x x x x x x
unlocking    x x x x x x x x x x x x
spin_unlock  x x x x x x x x x x x x
bit_unlock   x x x x x x x x x x x x
release      x x x x x x x x x x x x
disown       x x x x x x x x x x x x
lockref_get  x x x x x x x x x x . x
lockref_put  x x x x x x x x x x x x
"""

OF_RWSEMS = """
down_read        . . x x x x x x x x
up_read          . . x x x x x x x x
down_write       x x x x x x x x x x
up_write         x x x x x x x x x x
downgrade_write  x x x x x x x x x x
up_contended     x x x x x x x x x x
queue            x x x x x x x x x x
resume           x x x x x x x x x x
trylock          x x x x x x x x x x
unlocking        x x x x x x x x x x
"""

OF_RWLOCKS = """
read_lock   x x x x x
write_lock  x x x x x
trylock     x x x x x
unlocking   x x x x x
resume      x x x x x
"""

OF_SEQCOUNTS = """
read_begin      . . . x x x
raw_begin       . . . x x x
read_retry      . . . x x x
seq_write       x x x x x x
seq_end         x x x x x x
seq_invalidate  x x x x x x
"""

OF_RCU = """
rcu_read_lock    . . . x x . .
rcu_read_unlock  . . . x x . .
rcu_end          . . x x x x .
synchronize_rcu  x x x . x . .
call_rcu         x x x x x x x
rcu_call         . . x . x x x
rcu_barrier      . . . . x x .
"""

OF_SRCU = """
srcu_read_lock    . . x x x
srcu_read_unlock  . . x x x
call_srcu         x x x x x
synchronize_rcu   x x x . .
rcu_barrier       x x x . .
"""

OF_WORK = """
queue_work  x x x
work        x x x
flush       x x x
"""

OF_TORTURE = """
step  x
"""

OF_QUEUES = """
wait      x x x x x
wake_up   x x x x x
complete  x x x x x
trylock   x x x x x
resume    x x x x x
"""

OF_TASKS = """
wake   x x
block  x x
"""

OF_CPUS = """
irq      . x
deliver  x .
"""

OF_POSSESSION = """
use       . . x x
use_irq   . . . x
keep      x . x x
keep_irq  x x x x
"""

OF_CLOCKS = """
timer  x x
tick   x x
"""

OF_MOUNTS = """
mnt_get  x
"""

TABLES = [
    OF_FIELDS, OF_LOCKS, OF_RWSEMS, OF_RWLOCKS, OF_SEQCOUNTS, OF_RCU, OF_SRCU, OF_WORK, OF_TORTURE,
    OF_QUEUES, OF_TASKS, OF_CPUS, OF_POSSESSION, OF_CLOCKS, OF_MOUNTS,
]  # fmt: skip


def _cells() -> list[tuple[str, str, bool]]:
    """Every pair of kinds that can meet at one object, and whether their order matters."""
    cells = []
    for table in TABLES:
        rows = [line.split() for line in table.strip().splitlines()]
        for i, j in combinations_with_replacement(range(len(rows)), 2):
            assert rows[i][1 + j] == rows[j][1 + i], "a table must be symmetric"
            cells.append((rows[i][0], rows[j][0], rows[i][1 + j] == "x"))
    return cells


@pytest.mark.parametrize(("one", "other", "matters"), _cells())
def test_every_cell(one: str, other: str, matters: bool) -> None:
    """Two operations on one object depend on each other as written here, in both directions."""
    obj = Mutex("m")
    assert dependent(Op(one, obj), Op(other, obj)) is matters
    assert dependent(Op(other, obj), Op(one, obj)) is matters


@pytest.mark.parametrize("one", sorted(COMMUTES))
def test_other_objects_never_matter(one: str) -> None:
    """Operations on two objects, or on none, are independent whatever they are."""
    a, b = Mutex("a"), Mutex("b")
    for other in (*COMMUTES, *ALONE):
        assert not dependent(Op(one, a), Op(other, b))
        assert not dependent(Op(one, None), Op(other, None))
        assert not dependent(Op(one, a), Op(other, None))


def test_the_tables_cover_every_kind() -> None:
    """No kind of the code's table is without a cell in the tables of this file."""
    mine = {line.split()[0] for table in TABLES for line in table.strip().splitlines()}
    assert mine == set(COMMUTES)


def _said(tree: ast.AST, method: str, nth: int) -> set[str]:
    """The literal kinds that are passed to a method of that name as its ``nth`` argument."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == method and len(node.args) > nth:
            kind = node.args[nth]
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                found.add(kind.value)
    return found


def _sources() -> list[tuple[Path, ast.AST]]:
    root = Path(vfsim.__file__).parent
    return [(p, ast.parse(p.read_text(encoding="utf-8"))) for p in sorted(root.rglob("*.py"))]


def test_no_operation_is_unknown() -> None:
    """Every kind that the code announces at a point, or notes in a trace, has its row."""
    points: set[str] = set()
    notes: set[str] = set()
    for _, tree in _sources():
        points |= _said(tree, "point", 0)
        notes |= _said(tree, "note", 1)
    assert len(points) > 25 and len(notes) > 10
    assert points <= set(COMMUTES) | ALONE
    assert notes <= set(COMMUTES) | REMARKS


def test_unknown_kinds_depend_on_everything() -> None:
    """An operation that nobody thought of is taken for a write."""
    lock = Mutex("m")
    assert all(dependent(("novel", lock), (kind, lock)) for kind in COMMUTES)


def test_fields_are_compared_by_object_and_name() -> None:
    """Two accesses depend on each other if they mean one field of one object and one writes."""
    one, two = Counter(), Counter()
    assert dependent(("write", Field(one, "value")), ("read", Field(one, "value")))
    assert not dependent(("read", Field(one, "value")), ("read", Field(one, "value")))
    assert not dependent(("write", Field(one, "value")), ("write", Field(two, "value")))
    assert not dependent(("write", Field(one, "value")), ("write", Field(one, "other")))
    assert not dependent(("write", Field(one, "value")), ("lock", one))
