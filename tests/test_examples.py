"""The examples: correct ones stay silent, broken ones are caught with the rule and the blame
written at their top.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vfsim import check_filesystem

EXAMPLES = Path(__file__).parent.parent / "examples"
CORRECT = [EXAMPLES / "toyfs.py", EXAMPLES / "tinydisk.py"]
BROKEN = sorted((EXAMPLES / "broken").glob("[0-9]*.py"))
FIXED = sorted((EXAMPLES / "fixed").glob("[0-9]*.py"))

SCHEDULES = 45
"""Per scenario: with more than 230 scenarios, over 10,000 schedules each."""


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


@pytest.mark.parametrize("path", BROKEN, ids=title)
def test_broken_is_caught(path: Path) -> None:
    """A plain check finds first the rule that the file says it breaks, with the blame it says."""
    found = check_filesystem(str(path))
    assert found.verdict == "bug"
    first = found.failures[0]
    assert first.violation.rule.startswith(expected(path, "Rule"))
    assert first.violation.blamed.startswith(expected(path, "Blamed"))
    assert first.token in first.report
    strangers = [
        f.violation for f in found.failures if not f.violation.blamed.startswith("filesystem")
    ]
    assert not strangers, "somebody else was accused, too"


@pytest.mark.parametrize("path", FIXED, ids=title)
def test_fixed_is_silent(path: Path) -> None:
    """The fixed twin runs over 10,000 schedules without an alarm."""
    found = check_filesystem(str(path), schedules=SCHEDULES)
    assert [f.violation.summary for f in found.failures] == []
    assert found.run >= 10_000
    assert found.distinct > 0.9 * found.run


@pytest.mark.parametrize("path", CORRECT, ids=title)
def test_correct_is_clean(path: Path) -> None:
    """The filesystems to learn from are clean under a plain check."""
    found = check_filesystem(str(path))
    assert [f.violation.summary for f in found.failures] == []
    assert found.passed >= 300
    assert all(e.distinct >= 200 or e.exhausted for e in found.explorations)


@pytest.mark.soak
@pytest.mark.parametrize("path", [*CORRECT, *FIXED], ids=title)
def test_clean_for_long(path: Path) -> None:
    """Nothing is found in five times as many schedules, from another seed."""
    found = check_filesystem(str(path), schedules=1_000, seed=1)
    assert [f.violation.summary for f in found.failures] == []
