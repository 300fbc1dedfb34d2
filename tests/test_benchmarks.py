"""The benchmarks run and print what they promise; what they measure is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


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
