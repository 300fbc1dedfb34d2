"""``vfsim selftest``: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command

from vfsim.sim.errors import Violation
from vfsim.testing.selftest import run as selftest
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case


def test_caught(vfsim: Command) -> None:
    """The closing line, status 0, the document, and the record for the coverage."""
    said = vfsim("selftest", "--only", "P13", "--json", "found.json", "--jobs", "1")
    assert (said.status, said.out) == (0, "1 of 1 caught, 0 false alarms\n")
    data = json.loads(Path("found.json").read_text())
    assert data["caught"] == 1 and data["mutants"][0]["id"] == "P13.filesystem"
    assert len(data["without_mutant"]) > 100
    shown = json.loads(vfsim("contract", "--coverage", "--format", "json").out)
    rule = next(r for r in shown["rules"] if r["id"] == "P13")
    assert rule["mutant"] == "caught"


def test_json_on_stdout(vfsim: Command) -> None:
    """Nothing else is printed there."""
    said = vfsim("selftest", "--only", "P13", "--json", "-", "--jobs", "2")
    assert said.status == 0 and json.loads(said.out)["missed"] == 0


def test_misses(vfsim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of what did not come out as expected, and status 1."""
    violation = Violation("P2", "soft", "test", "", "something else")
    made = [
        Case("P1.caller", "P1", CAUGHT, list, ("P1",), "kernel"),
        Case("clean.all", "clean", SILENT, lambda: [violation]),
    ]
    monkeypatch.setattr(selftest, "all_cases", lambda only: made)
    said = vfsim("selftest", "--jobs", "1")
    assert said.status == 1
    lines = said.out.splitlines()
    assert lines[0].split() == ["case", "expected", "got", "what", "was", "said"]
    assert lines[1].split()[:2] == ["P1.caller", "caught:"] and "silent" in lines[1]
    assert "clean.all" in said.out and "P2, test" in said.out
    assert lines[-1] == "0 of 1 caught, 1 false alarms"


def test_a_wrong_pattern(vfsim: Command) -> None:
    """One sentence and status 2."""
    said = vfsim("selftest", "--only", "P1000")
    assert said.status == 2 and said.out == ""
    assert said.err.startswith("vfsim selftest: no case of the self-test matches 'P1000'")
