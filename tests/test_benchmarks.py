"""The benchmarks run and print what they promise; what they measure is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import dcache, namespace


def test_json_lists_ratios_and_references() -> None:
    """``--json -`` prints a list of figures with name, ratio, reference, target and verdict."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--json", "-", "--rounds", "1", "--only", "pair"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    entries = json.loads(done.stdout)
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["P"]["ns"] > 0
    mutex = by_name["checked mutex pair"]
    assert mutex["of"] == "P"
    assert mutex["target"] == 3.0
    assert mutex["ratio"] > 1
    assert mutex["ok"] in (True, False)
    assert {"name", "ratio", "of", "target", "ok"} <= set(mutex)


def test_rows_need_their_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A filesystem that cannot be imported is left out, with a note."""
    monkeypatch.setattr(namespace, "OTHERS", {"absent": ("no_such_package", None)})
    assert namespace.available() == []
    assert "absent are left out" in capsys.readouterr().err


@pytest.mark.parametrize("mode", namespace.MODES)
def test_every_operation_leaves_the_tree_as_it_was(mode: str) -> None:
    """Each round of an operation finds the names that the round before found."""
    ground = namespace.SimulatedGround(mode)
    ground.run(namespace.plant)
    before = ground.run(lambda calls: sorted(calls.listdir("/d")))
    for operation in namespace.OPERATIONS.values():
        assert ground.run(operation) > 0
    assert ground.run(lambda calls: sorted(calls.listdir("/d"))) == before


def test_dcache_figures() -> None:
    """A row for each size, and the memory in each mode: who is not alone is looked at."""
    growing, on, beside, off = dcache.entries(rounds=1, sizes=(200,), cached=300)
    assert growing["of"] == "among 100"
    assert growing["ratio"] > 0
    assert beside["ratio"] > on["ratio"] >= off["ratio"] > 0
