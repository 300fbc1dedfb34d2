"""The examples: correct ones stay silent, broken ones are caught with the rule and the blame
written at their top.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vfsim import check_filesystem
from vfsim.testing.check import Subject, check
from vfsim.testing.target import load

EXAMPLES = Path(__file__).parent.parent / "examples"
CORRECT = {
    "ramfs": ("vfsim.filesystems.ramfs", None),
    "toyfs": (str(EXAMPLES / "toyfs.py"), None),
    "tinydisk": (str(EXAMPLES / "tinydisk.py"), None),
}
BROKEN = sorted((EXAMPLES / "broken").glob("[0-9]*.py"))
FIXED = sorted((EXAMPLES / "fixed").glob("[0-9]*.py"))
MODELS = {
    **{name: (f"vfsim.filesystems.{name}", None) for name in ("casefs", "netfs")},
    "wholefs": ("vfsim.filesystems.wholefs", 4096),
}
SLOW = {"overfs": ("vfsim.filesystems.overfs", None)}
"""Correct as well, but each call of it is two or three of others: for long runs only."""
TWINS = {f"fixed/{p.stem}": (str(p), None) for p in FIXED}
"""What is correct: by name, the target and the sectors of the disk that it needs."""


def title(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def expected(path: Path, what: str) -> str:
    """What the docstring says after ``Rule:`` or ``Blamed:``."""
    found = re.search(rf"^{what}: (.+)$", path.read_text(), re.M)
    assert found is not None, f"{path} does not say its {what.lower()}"
    return found.group(1).strip()


def test_every_broken_example_has_a_fixed_twin() -> None:
    """The two folders hold the same names, at least a dozen."""
    assert [p.name for p in BROKEN] == [p.name for p in FIXED]
    assert len(BROKEN) >= 12


PATIENCE = {"07_lost_wakeup": 70, "08_unlocked_counter": 70}
"""Schedules per scenario, where two tasks have to meet at one place; the others need hardly any."""


@pytest.mark.parametrize("path", BROKEN, ids=title)
def test_broken_is_caught(path: Path) -> None:
    """Even a part of a plain check finds first the rule that the file says it breaks, with the
    blame it says.
    """
    caught(path, schedules=PATIENCE.get(path.stem, 20), shrink=False)


@pytest.mark.soak
@pytest.mark.parametrize("path", BROKEN, ids=title)
def test_broken_is_caught_by_a_plain_check(path: Path) -> None:
    """The same with default options."""
    caught(path)


def caught(path: Path, **options: Any) -> None:
    """Check, and compare the first finding with what the file says."""
    found = check_filesystem(str(path), **options)
    assert found.verdict == "bug"
    first = found.failures[0]
    assert first.violation.rule.startswith(expected(path, "Rule"))
    assert first.violation.blamed.startswith(expected(path, "Blamed"))
    assert first.token in first.report
    strangers = [
        f.violation for f in found.failures if not f.violation.blamed.startswith("filesystem")
    ]
    assert not strangers, "somebody else was accused, too"


def campaign(target: str, device: int | None, schedules: int, each: int) -> None:
    """Check with one seed after another, each scenario up to ``each`` times, until so many ran."""
    subject = Subject(target, load(target).filesystem(), device)
    run = distinct = seed = 0
    while run < schedules:
        found = check(subject, schedules=each, seed=seed)
        assert [f.violation.summary for f in found.failures] == []
        assert found.passed >= 300
        run += found.run
        distinct += found.distinct
        seed += 1
        each = min(each, -(-(schedules - run) // len(found.explorations)))
    assert distinct > 0.9 * run


@pytest.mark.parametrize("name", CORRECT)
def test_correct_is_clean(name: str) -> None:
    """The filesystems to learn from: 10,000 schedules without an alarm."""
    campaign(*CORRECT[name], 10_000, each=40)


@pytest.mark.parametrize("name", {**MODELS, **TWINS})
def test_others_are_clean(name: str) -> None:
    """The models of their kind, and the fixed twins: three in every scenario."""
    campaign(*{**MODELS, **TWINS}[name], 500, each=3)


@pytest.mark.soak
@pytest.mark.parametrize("name", TWINS)
def test_fixed_is_clean_for_long(name: str) -> None:
    """A fixed twin: 10,000."""
    campaign(*TWINS[name], 10_000, each=40)


@pytest.mark.soak
@pytest.mark.parametrize("name", {**CORRECT, **MODELS, **SLOW})
def test_clean_for_long(name: str) -> None:
    """The filesystems that ship: 100,000."""
    campaign(*{**CORRECT, **MODELS, **SLOW}[name], 100_000, each=250)
