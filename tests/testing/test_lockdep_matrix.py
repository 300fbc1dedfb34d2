"""Lockdep's self-test as a table: the counts are the kernels', and every row comes out right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from vfsim.checks import lockdep as checker
from vfsim.checks import orders, steps
from vfsim.testing.selftest import lockdep
from vfsim.testing.selftest.case import Outcome, judge
from vfsim.testing.selftest.lockdep_table import V49, V517, Row, rows

KERNELS = (V49, V517)


@pytest.mark.parametrize(("kernel", "all", "bugs"), [(V49, 253, 171), (V517, 382, 240)])
def test_the_table_is_whole(kernel: str, all: int, bugs: int) -> None:
    """As many cases as the kernel's test runs, as many to be reported, no name twice.

    Of v5.17's 385 (241 bugs) the three on local_lock are left out, one of them a bug.
    """
    table = list(rows(kernel))
    assert (len(table), sum(row.bug for row in table)) == (all, bugs)
    assert len({row.name for row in table}) == all
    assert all - bugs == {V49: 82, V517: 142}[kernel]


def test_the_families_have_their_sizes() -> None:
    """v4.9's families by column, as its own table of results prints them."""
    sizes = Counter(row.lock for row in rows(V49))
    assert sizes == {
        "spin": 10 + 46, "wlock": 10 + 46, "rlock": 10 + 4 + 46 + 12, "mutex": 10, "wsem": 10,
        "rsem": 10 + 4, "ww": 35,
    }  # fmt: skip
    newest = Counter(row.lock for row in rows(V517))
    assert (newest["qrwlock"], newest["fs_reclaim"], newest["wait-context"]) == (3, 3, 36)


def test_events_come_in_every_order() -> None:
    """A family of three events has its six orders, each with the same events."""
    family = [r for r in rows(V49) if (r.lock, r.family) == ("spin", "hard-safe-A+unsafe-B-1")]
    assert [row.order for row in family] == ["123", "132", "213", "231", "312", "321"]
    assert len({tuple(sorted(row.trace.split())) for row in family}) == 1


@pytest.fixture(params=["fresh", "seasoned"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a past of the process."""
    if request.param == "fresh":
        monkeypatch.setattr(checker, "KNOWN", {})


def wrong(outcomes: list[Outcome]) -> list[str]:
    return [
        f"{o.case.id}: {o.got}, not {o.case.expected}: {o.case.why}" for o in outcomes if not o.ok
    ]


def test_every_row_matches(memory: None) -> None:
    """Every case of both kernels: reported with its rule, or silent; its locks answer as said."""
    outcomes = [judge(case) for case in lockdep.cases()]
    assert len(outcomes) == 253 + 382
    assert wrong(outcomes) == []


def _never(*args: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("target", "name", "broken", "least"),
    [
        (steps, "_again", _never, 25),
        (steps, "_covered", lambda found: False, 2),
        (steps, "_too_deep", _never, 3),
        (steps, "recursive", lambda found, rules: False, 60),
        (orders.Order, "_way_back", _never, 60),
        (orders.Order, "_inversions", lambda self: iter(()), 150),
        (checker.Lockdep, "exposed", _never, 10),
    ],
)
def test_the_table_has_teeth(
    target: Any,
    name: str,
    broken: Callable[..., Any],
    least: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checker with one part missing fails many rows."""
    monkeypatch.setattr(target, name, broken)
    monkeypatch.setattr(checker, "KNOWN", {})
    assert len(wrong([judge(case) for case in lockdep.cases()])) >= least


def test_the_two_generations_differ() -> None:
    """v4.9's rules are blind to a read-lock/lock-write deadlock, and the newer ones are not."""
    row = next(r for r in rows(V517) if r.name == "lockdep.rlock.read-lock/lock-write")
    assert [v.rule for v in lockdep.run(row)] == ["lockdep.circular"]
    old = Row(V49, row.lock, row.family, "", row.trace, False, "", steps.Rules(mode="4.9"))
    assert lockdep.run(old) == []


def test_a_wrong_answer_is_found() -> None:
    """A lock that does not answer as the table says fails its case."""
    row = Row(V49, "ww", "x", "", "WWT(o)=no", False, "", steps.DEFAULT)
    with pytest.raises(lockdep.WrongAnswer):
        lockdep.run(row)


def test_there_is_no_third_generation() -> None:
    """A mode that does not exist is a mistake of the caller."""
    with pytest.raises(ValueError, match="mode"):
        steps.Rules(mode="2.6")
