"""The shortest tour that touches every floor: what other Python versions are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

import vfsim
from vfsim.checks import tables

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize("name", ["toyfs", "tinydisk"])
def test_clean(name: str) -> None:
    """A correct filesystem passes conformance and a few schedules of every scenario."""
    found = vfsim.check_filesystem(str(EXAMPLES / f"{name}.py"), schedules=3)
    assert [f.violation.summary for f in found.failures] == []
    assert found.passed >= 300


@pytest.mark.parametrize("name", ["01_abba", "03_sleep_in_drop_inode", "10_d_delete_blocks"])
def test_broken(name: str) -> None:
    """A broken filesystem is caught, and its report ends in a token."""
    found = vfsim.check_filesystem(str(EXAMPLES / "broken" / f"{name}.py"), schedules=1)
    assert found.failures
    assert "vfsim replay vf1." in found.failures[0].report


def test_the_tables_are_complete() -> None:
    """The contract has its 13 tables and 134 methods."""
    document = tables.as_json()
    assert len(document["tables"]) == 13
    assert sum(len(t["methods"]) for t in document["tables"].values()) == 134
