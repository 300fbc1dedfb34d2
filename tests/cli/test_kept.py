"""What the commands keep: failures first, ``--resume``, ``--no-store``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import Command

pytestmark = pytest.mark.usefixtures("files", "small")


def test_explore_replays_what_it_found(vfsim: Command) -> None:
    """The second time the failure comes first; both times stdout is the same."""
    one = vfsim("explore", "scenarios.py:abba", "--schedules", "60")
    two = vfsim("explore", "scenarios.py:abba", "--schedules", "60")
    assert one.status == two.status == 1 and one.out == two.out
    assert one.err == ""
    assert two.err == "vfsim: 2 known failures replayed first: 2 still fail\n"


def test_a_bug_that_was_mended_is_told(vfsim: Command) -> None:
    """After the order was mended the failures are gone, once."""
    vfsim("explore", "scenarios.py:abba", "--schedules", "60")
    source = Path("scenarios.py")
    for path in Path(".vfsim/failures").glob("*.json"):
        data = json.loads(path.read_text())
        assert data["target"] == "scenarios.py:abba" and not data["options"]
    source.write_text(source.read_text().replace("take, b, a", "take, a, b"))
    del sys.modules["scenarios"]
    two = vfsim("explore", "scenarios.py:abba", "--schedules", "60")
    assert two.status == 0
    assert "2 known failures replayed first: 2 are gone (kept in failures/fixed)" in two.err
    assert vfsim("explore", "scenarios.py:abba", "--schedules", "60").err == ""


def test_check_replays_what_it_found(vfsim: Command) -> None:
    """A check of a broken filesystem says the same twice, its failures first the second time."""
    args = ("check", "broken.py", "--schedules", "20", "--json")
    one, two = vfsim(*args, "1.json"), vfsim(*args, "2.json")
    assert one.status == two.status == 1
    first, second = (json.loads(Path(f"{n}.json").read_text()) for n in (1, 2))
    assert [v["token"] for v in first["violations"]] == [v["token"] for v in second["violations"]]
    assert first["schedules"] == second["schedules"]
    number = len(first["violations"])
    assert f"{number} known failure" in two.err and "still fail" in two.err


def test_nothing_is_kept_if_that_is_wanted(vfsim: Command) -> None:
    """``--no-store`` neither reads nor writes."""
    for _ in range(2):
        result = vfsim("explore", "scenarios.py:abba", "--no-store", "--schedules", "60")
        assert result.status == 1 and result.err == ""
    assert not Path(".vfsim").exists()
    result = vfsim("explore", "scenarios.py:abba", "--no-store", "--resume")
    assert result.status == 2 and "--resume needs what --no-store leaves out" in result.err


def test_explore_goes_on(vfsim: Command) -> None:
    """``--resume`` runs the next schedules and adds to what was seen."""
    args = ("explore", "scenarios.py:Fight", "--schedules", "40", "--json", "out.json")
    classes = []
    for more in ((), ("--resume",), ("--resume",)):
        result = vfsim(*args, *more)
        assert result.status == 0 and result.err == ""
        classes.append(json.loads(Path("out.json").read_text())["coverage"]["interleavings"])
    assert [c["schedules"] for c in classes] == [40, 80, 120]
    assert "40 schedules from number 80 on" in result.out


def test_check_goes_on(vfsim: Command) -> None:
    """A check goes on in every scenario."""
    first = vfsim("check", "toyfs.py", "--schedules", "20", "--json", "out.json")
    seen = json.loads(Path("out.json").read_text())["coverage"]["interleavings"]["schedules"]
    again = vfsim("check", "toyfs.py", "--schedules", "20", "--resume", "--json", "out.json")
    data = json.loads(Path("out.json").read_text())
    assert first.status == again.status == 0
    assert data["coverage"]["interleavings"]["schedules"] == seen + data["schedules"]["run"]


def test_what_cannot_go_on_says_so(vfsim: Command) -> None:
    """Systematic searches, unknown ones and damaged files: a sentence each."""
    result = vfsim("explore", "scenarios.py:Fight", "--schedules", "5", "--resume")
    assert "the search starts anew: nothing is known" in result.err and result.status == 0
    result = vfsim(
        "explore", "scenarios.py:Fight", "--schedules", "5", "--strategy", "delay", "--resume"
    )
    assert "delay starts anew: " in result.err and result.status == 0
    for path in Path(".vfsim/campaigns").glob("*-pos-*.json"):
        path.write_text("{")
    result = vfsim("explore", "scenarios.py:Fight", "--resume")
    assert result.status == 2 and "leave --resume out to start anew" in result.err
