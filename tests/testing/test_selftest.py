"""The self-test: every mutant is caught, every clean run is silent, and nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vfsim.checks import tables
from vfsim.checks.contract import TABLES, methods_of
from vfsim.checks.rules import RULES
from vfsim.filesystems.libfs import SimpleFileInodeOperations
from vfsim.filesystems.overfs import OverFS
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import Violation
from vfsim.testing.selftest import programs
from vfsim.testing.selftest import run as selftest
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case, judge
from vfsim.testing.selftest.changes import sleeping
from vfsim.testing.selftest.contract import cases, without
from vfsim.testing.selftest.contract.without import NOT_BUILT, not_called
from vfsim.testing.selftest.mutants import Ground, mutated, play
from vfsim.testing.selftest.run import NoSuchCase, Result, all_cases, keep

CASES = list(cases())
GROUPS = 24


@pytest.mark.parametrize("group", range(GROUPS))
def test_mutants_are_caught_and_clean_runs_silent(group: int) -> None:
    """With the right rule and the right blame, each."""
    found = [judge(case) for case in CASES[group::GROUPS]]
    tables.judged(Result(tuple(found)).verdicts())
    assert [(o.case.id, o.got, [str(v) for v in o.found[:2]]) for o in found if not o.ok] == []


def test_ids_are_unique() -> None:
    """An id names one case, and begins with its rule."""
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    assert all(c.id.startswith(f"{c.rule}.") for c in CASES)
    assert len([c for c in CASES if c.expected == CAUGHT]) > 350


# -- nothing is left out ---------------------------------------------------------------------------


def declared() -> set[str]:
    """Every filled cell and every rule."""
    found = set(RULES)
    for cls in tables.tables().values():
        found |= {c.rule for m in tables.listed(cls) for c in m.cells if c.doc}
    return found


def test_what_has_no_mutant_has_a_reason() -> None:
    """Each declared cell and rule has a mutant or a reason, and not both."""
    mutated = {case.rule for case in CASES if case.expected == CAUGHT}
    reasons = dict(without())
    assert declared() <= mutated | set(reasons) and set(reasons) <= declared()
    assert not mutated & set(reasons)
    assert [rule for rule, why in reasons.items() if not why] == []
    assert set(NOT_BUILT) <= set(reasons)


def test_what_is_called_has_mutants() -> None:
    """A method that runs when real filesystems are checked is none without a caller; so only what
    nobody can break has no mutant there.
    """
    tables.reset()
    for case in CASES:
        if case.id.startswith(("clean.ramfs.", "clean.tinydisk.")):
            assert case.run() == []
    called = set(tables.record()["methods"])
    tables.reset()
    assert len(called) >= 25
    assert not called & set(not_called())
    free = ("permission", "info", "soft", "stale")
    for rule, why in without():
        if rule in RULES:
            if set(tables.expanded(RULES[rule].applies_to)) & called and rule not in NOT_BUILT:
                assert RULES[rule].status in free, rule
        elif rule.rpartition(".")[0] in called:
            assert why.startswith(free), rule


def test_both_sides_of_a_lock() -> None:
    """Where a cell says that a lock is held or not, both sides have broken it."""
    sides: dict[str, set[str]] = {}
    for case in CASES:
        if case.expected == CAUGHT:
            side = case.id.removeprefix(f"{case.rule}.").partition(".")[0]
            sides.setdefault(case.rule, set()).add(side)
    promised = ("yes", "no", "write", "read")
    for cls in TABLES.values():
        for method in methods_of(cls).values():
            for cell in method.cells:
                both = cell.status in ("enforced", "adapted") and cell.doc.split(",")[0] in promised
                if cell.rule in sides and both and cell.column not in ("may block", "rcu-walk"):
                    if cell.rule != "dentry_operations.d_compare.rename_lock":
                        assert sides[cell.rule] == {"caller", "filesystem"}, cell.rule


class ToldDirectory(RamDirectory, SimpleFileInodeOperations):
    """One that is asked for its attributes."""


class ToldFS(RamFS):
    """ramfs with such directories."""

    directory = ToldDirectory()


class Stacked(OverFS):
    """Such a tree over a full one."""

    private_upper = ToldFS()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        super().fill_super(sb, "sample")


def copy_up(sys: Sys) -> None:
    """Change what is only in the lower tree."""
    sys.chmod("/README", 0o600)
    sys.stat("/")


def test_locks_that_are_not_promised_come_and_go() -> None:
    """The kernel calls these methods both with the lock and without."""
    tables.reset()
    for program in (
        programs.create, programs.write_later, programs.stat_twice, programs.lists,
        programs.get_xattr, programs.write,
    ):  # fmt: skip
        assert play(Ground, program) == []
    assert play(Ground, programs.dirty_a_page) == [] and play(RamFS, programs.write) == []
    slow = mutated(Ground, {"inode_operations.lookup": sleeping()}, {})
    assert play(slow, programs.two_lookups) == []
    assert play(Stacked, copy_up) == []
    checked = tables.record()["checked"]
    tables.reset()
    for cell in (
        "inode_operations.permission.i_mutex(inode)",
        "inode_operations.getattr.i_mutex(inode)",
        "inode_operations.update_time.i_mutex(inode)",
        "inode_operations.get_acl.i_mutex(inode)",
        "xattr_handler.get.i_mutex(inode)",
        "dentry_operations.d_compare.->d_lock",
        "address_space_operations.set_page_dirty.PageLocked(page)",
    ):
        assert checked[cell] > 0, cell


# -- the words -------------------------------------------------------------------------------------


def a_case(found: list[Violation], expected: str = CAUGHT, blamed: str = "kernel") -> Case:
    return Case("P1.caller", "P1", expected, lambda: found, ("P1",), blamed, "made up")


def told(rule: str, blamed: str) -> Violation:
    return Violation(rule, "soft", blamed, "", "something")


@pytest.mark.parametrize(
    ("found", "got"),
    [
        ([told("P1", "kernel")], "caught"),
        ([told("P1", "kernel"), told("P2", "test")], "caught"),
        ([], "silent"),
        ([told("P2", "kernel"), told("P1", "kernel")], "wrong rule"),
        ([told("P1", "filesystem ToyDir.create")], "wrong blame"),
    ],
)
def test_verdicts(found: list[Violation], got: str) -> None:
    """The first violation decides: its rule, then its blame."""
    outcome = judge(a_case(found))
    assert outcome.got == got
    assert outcome.ok == (got == "caught")
    assert outcome.blamed == (found[0].blamed.split()[0] if found else None)


def test_the_sum() -> None:
    """Caught, missed, wrong and false alarms are counted apart, and decide the rule's verdict."""
    made = [
        a_case([told("P1", "kernel")]),
        a_case([]),
        a_case([told("P2", "kernel")]),
        a_case([told("P1", "test")]),
        a_case([], SILENT),
        a_case([told("P1", "kernel")], SILENT),
    ]
    result = selftest.run(made)
    assert (result.caught, result.missed, result.wrong, result.false_alarms) == (1, 1, 2, 1)
    assert not result.ok and len(result.misses) == 4
    assert result.verdicts() == {"P1": "missed"}
    data = json.loads(json.dumps(result.as_dict()))
    assert list(data) == ["mutants", "caught", "missed", "wrong", "false_alarms", "without_mutant"]
    assert data["mutants"][0] == {
        "id": "P1.caller", "rule": "P1", "expected": "caught", "got": "caught", "blamed": "kernel",
    }  # fmt: skip
    assert {"rule": "P70", "why": "info: a wish"} in data["without_mutant"]
    assert selftest.run(made[:1]).ok and selftest.run(made[4:5]).ok


def test_processes_change_nothing() -> None:
    """Two processes come to the same as one."""
    some = [c for c in CASES if c.rule in ("P13", "P14", "P23", "E3")]
    assert selftest.run(some, jobs=2).as_dict() == selftest.run(some).as_dict()


def test_patterns() -> None:
    """A rule, a method, or a pattern with stars; nothing that matches is an error."""
    assert {c.rule for c in all_cases("P3")} == {"P3"}
    assert {c.rule for c in all_cases("inode_operations.create")} == {
        "inode_operations.create.i_mutex(inode)"
    }
    assert all(".filesystem" in c.id for c in all_cases("*.filesystem*"))
    assert {c.expected for c in all_cases("clean.*")} == {SILENT}
    with pytest.raises(NoSuchCase, match="no case of the self-test matches 'P1000'"):
        all_cases("P1000")


# -- the record ------------------------------------------------------------------------------------


def test_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are kept for the coverage; a part of the self-test changes only its own."""
    monkeypatch.chdir(tmp_path)
    keep(selftest.run([a_case([])]))
    assert tables.read_records()["mutants"] == {"P1": "missed"}
    some = [c for c in CASES if c.rule in ("P1", "inode_operations.mkdir.i_mutex(inode)")]
    keep(selftest.run(some[:1]))
    keep(selftest.run(some))
    shown = tables.as_json(coverage=tables.read_records())
    verdicts = {r["id"]: r["mutant"] for r in shown["rules"]}
    assert verdicts["P1"] == "caught" and verdicts["P2"] == "none"
    mkdir = shown["tables"]["inode_operations"]["methods"]["mkdir"]
    assert mkdir["cells"]["i_mutex(inode)"]["mutant"] == "caught"
    assert mkdir["coverage"] == {"calls": 0, "by": []}, "mutants are no filesystems"
    path = tables.COVERAGE / "selftest.json"
    path.write_text("{")
    keep(Result(()))
    assert json.loads(path.read_text())["mutants"] == {}


def test_mutants_leave_nothing_behind() -> None:
    """Their classes are forgotten, and what they called counts for nothing."""
    method = methods_of(TABLES["inode_operations"])["create"]
    tables.reset()
    before = [s.title for s in method.sites]
    caught = [judge(c) for c in CASES if c.id == "inode_operations.create.i_mutex(inode).caller"]
    assert [o.got for o in caught] == [CAUGHT]
    assert [s.title for s in method.sites] == before
    assert tables.record()["methods"] == {}
