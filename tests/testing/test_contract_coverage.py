"""The tables about names are covered in full: every method is called, every cell and rule is
checked where it could fail, and each is broken by a mutant on every side that can break it.

The programs of the self-test run once, on the clean filesystems; what they called and checked is
compared with the tables.  `test_selftest` sees to it that the mutants are caught.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsim
from vfsim.checks import tables
from vfsim.checks.contract import TABLES, Method, methods_of
from vfsim.checks.rules import RULES, Cell, Kind
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.contract import MODULES, without
from vfsim.testing.selftest.contract.managed import ManagedGround
from vfsim.testing.selftest.contract.without import NOT_BUILT, not_called
from vfsim.testing.selftest.mutants import Mutant, play

NAMES = {
    "dentry_operations": 13,
    "inode_operations": 21,
    "xattr_handler": 3,
    "super_operations": 17,
    "file_system_type": 2,
}
"""The tables, and how many methods each has."""

MUTANTS = [mutant for module in MODULES for mutant in module.mutants()]
METHODS = [
    method
    for table in NAMES
    for method in tables.listed(TABLES[table])
    if method.id not in not_called()
]
CELLS = [cell for method in METHODS for cell in method.cells if cell.doc]
BOTH, CALLER, FILESYSTEM = {"caller", "filesystem"}, {"caller"}, {"filesystem"}

# Who can break a rule.  A caller alone: what it brings, and nobody but it can change.  A filesystem
# alone: what it returns or leaves behind.
SIDES = {
    id: sides
    for ids, sides in (
        ("P1 P2 P3 P4 P7 P8 P9 E1 E6 E9 E10 E13 E25", BOTH),
        ("P5 P6 P10 P15 E2 E3 E5 E8 E11 E12 E23", CALLER),
        ("P13 P14 P16 E24", FILESYSTEM),
    )
    for id in ids.split()
}
ELSEWHERE = {
    "P6": {"super_operations.drop_inode"},  # must not block: that is P7
    "E13": {"super_operations.sync_fs"},  # asked by the functions that sync
    "E23": {"super_operations.evict_inode"},  # broken in unlink(2), long before the method
}
"""Methods to which a rule applies, and which its mutants leave as they are."""


@pytest.fixture(scope="module")
def seen() -> Iterator[tables.Record]:
    """What the self-test's programs call and check on filesystems in which nothing is wrong."""
    tables.reset()
    played = {(m.ground, m.program): None for m in MUTANTS}
    for ground, program in [*played, (ManagedGround, programs.rename)]:
        assert play(ground, program) == []
    yield tables.record()
    tables.reset()


def test_the_tables_are_whole() -> None:
    """The numbers are the document's; what is left out has no caller, for a reason."""
    for table, n in NAMES.items():
        assert len(tables.listed(TABLES[table])) == n, table
    assert [id for id in not_called() if id.partition(".")[0] in NAMES] == [
        "super_operations.quota_read",
        "super_operations.quota_write",
        "super_operations.bdev_try_to_free_page",
    ]


def test_every_method_is_called(seen: tables.Record) -> None:
    """By the kernel, and it is a filesystem's own."""
    assert [m.id for m in METHODS if not seen["methods"].get(m.id, {}).get("calls")] == []


def test_every_cell_is_checked(seen: tables.Record) -> None:
    """Where it could have failed; one that promises nothing, in both of its ways."""
    assert [c.rule for c in CELLS if not seen["checked"].get(c.rule)] == []


def test_every_condition_comes_true(seen: tables.Record) -> None:
    """A promise that binds some calls only has bound one."""
    never = {
        f"{method.id}: {clause.sentence}"
        for method in METHODS
        for clause in method.clauses
        if clause.when is not None and not clause.checked
    }
    assert never == set()


def rules_of_names() -> list[str]:
    """The rules that are about a method of these tables which somebody calls."""
    called = {m.id for m in METHODS}
    return [
        id
        for id in sorted(RULES, key=tables.rule_order)
        if id not in NOT_BUILT and called & set(tables.expanded(RULES[id].applies_to))
    ]


def test_every_rule_is_checked(seen: tables.Record) -> None:
    """P1 to P10, P13 to P16, and what only the code says."""
    found = rules_of_names()
    assert [id for id in found if id[0] == "P"] == [
        f"P{n}" for n in (*range(1, 11), *range(13, 17))
    ]
    assert set(found) == set(SIDES)
    assert [id for id in found if not seen["checked"].get(id)] == []


# -- mutants ---------------------------------------------------------------------------------------


def breakers(cell: Cell) -> set[str]:
    """Who can break a cell."""
    kinds = {clause.kind for clause in cell.clauses}
    if kinds == {Kind.UNPROMISED} or kinds == {Kind.NEVER}:
        return FILESYSTEM  # the caller may do either
    if kinds <= {Kind.SLEEPABLE, Kind.EXPECTS}:
        return CALLER  # what the caller brings, and the method cannot take away
    return BOTH


def test_every_cell_has_mutants() -> None:
    """On each side that can break it."""
    sides: dict[str, set[str]] = {}
    for mutant in MUTANTS:
        sides.setdefault(mutant.rule, set()).add(mutant.side)
    wrong = [(c.rule, sides.get(c.rule)) for c in CELLS if sides.get(c.rule) != breakers(c)]
    assert wrong == []


def test_every_rule_has_mutants() -> None:
    """On each side, and for each method that it is about."""
    called = {m.id for m in METHODS}
    for id, wanted in SIDES.items():
        mutants = [m for m in MUTANTS if m.rule == id]
        assert {m.side for m in mutants} == wanted, id
        about = called & set(tables.expanded(RULES[id].applies_to))
        assert about - changed(mutants) == ELSEWHERE.get(id, set()), id


def changed(mutants: list[Mutant]) -> set[str]:
    """The methods whose calls or bodies some mutants change."""
    return {name for m in mutants for name in (*m.inside, *m.around)}


# -- what has none ---------------------------------------------------------------------------------


def test_what_has_no_mutant() -> None:
    """Of these tables and their rules, only what quota, devices' pages and leases will need."""
    ours = {c.rule for table in NAMES for m in tables.listed(TABLES[table]) for c in m.cells}
    mine = {
        id: why
        for id, why in without()
        if id in ours or any(a.partition(".")[0] in NAMES for a in applies_to(id))
    }
    assert mine == {
        "super_operations.quota_read.s_umount": "no caller yet: no quota",
        "super_operations.quota_write.s_umount": "no caller yet: no quota",
        "super_operations.bdev_try_to_free_page.s_umount": "no caller yet: devices have no pages",
        "P11": "no caller yet: no quota",
        "P12": "no caller yet: devices have no pages",
        "P75": "no caller yet: no quota",
        "E22": "no caller yet: no delegations",
    }


def applies_to(id: str) -> tuple[str, ...]:
    return RULES[id].applies_to if id in RULES else ()


@pytest.fixture(scope="module")
def calls() -> set[str]:
    """Each ``dir.i_op.lookup`` that stands in the kernel as a call."""
    found = set()
    root = Path(vfsim.__file__).parent
    for floor in ("fs", "mm", "block"):
        for path in sorted((root / floor).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    text = ast.unparse(node.func)
                    if text.rpartition(".")[0].endswith(("op", "ops")):
                        found.add(text)
    return found


def test_what_has_no_caller(calls: set[str]) -> None:
    """In no file of the kernel stands a call of one of those methods."""
    others = {m.name for cls in TABLES.values() for m in methods_of(cls).values() if is_called(m)}
    called = {call.rpartition(".")[2] for call in calls}
    names = {id.partition(".")[2] for id in not_called()} - others
    assert len(called) > 50 and len(names) > 50, "the search finds what there is"
    assert called & names == set()
    assert not is_called(methods_of(TABLES["file_operations"])["setlease"]), "E22 has its reason"


def is_called(method: Method) -> bool:
    return method.id not in not_called()
