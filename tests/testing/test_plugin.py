"""The pytest plugin, tried in pytest runs of its own."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
HEAD = """
import os, pytest, vfsim
from vfsim.filesystems.ramfs import RamFS
from vfsim.locks.mutex import Mutex
from vfsim.locks.waitqueue import WaitQueue

def touch(sys, path="/a"):
    return sys.open(path, os.O_CREAT | os.O_RDWR, 0o644)
"""
INSTALLED = any(e.value == "vfsim.testing.plugin" for e in entry_points(group="pytest11"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest in a subprocess finds this vfsim, and no settings of this run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, body: str, *args: str) -> pytest.RunResult:
    """Run a test file in a pytest with the plugin."""
    pytester.makepyfile(HEAD + body)
    plugin = () if INSTALLED else ("-p", "vfsim.testing.plugin")
    return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "-q", *args)


def test_the_fixture(pytester: pytest.Pytester) -> None:
    """A fresh kernel for each test; what one leaves behind is told at teardown, and only once."""
    result = run(
        pytester,
        """
from vfsim.fs import ihold
from vfsim.fs.process import current_process

def test_one(kernel):
    kernel.mount(RamFS(), "/")
    kernel.call(touch)
    assert kernel.call(lambda sys: sys.listdir("/")) == ["a"]

def test_two(kernel):
    kernel.mount(RamFS(), "/")
    assert kernel.call(lambda sys: sys.listdir("/")) == []

def test_forgot(kernel):
    kernel.mount(RamFS(), "/")
    kernel.process(touch)

def test_leaks(kernel):
    kernel.mount(RamFS(), "/")
    def take(sys):
        ihold(current_process().root.dentry.d_inode)
    kernel.call(take)

def test_expects_its_bug(kernel):
    lock = Mutex("lock")
    kernel.process(lambda sys: lock.lock() or lock.lock())
    with pytest.raises(vfsim.KernelBug):
        kernel.run()

def test_fails(kernel):
    kernel.mount(RamFS(), "/")
    kernel.process(touch)
    assert False, "mine"
""",
        "-rA",
    )
    result.assert_outcomes(passed=5, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "ERROR *::test_forgot - *",
            "ERROR *::test_leaks - *",
        ]
    )
    result.stdout.fnmatch_lines(["*processes that did not: touch (never ran: call kernel.run())*"])
    result.stdout.fnmatch_lines(["*left behind in the kernel*"])


def test_explore_shows_the_report_and_not_itself(pytester: pytest.Pytester) -> None:
    """A bug found by `explore` fails with the report; no line of vfsim's own traceback is shown,
    and pytest's explanation of a bare assert is.
    """
    result = run(
        pytester,
        """
class Racy(vfsim.Scenario):
    filesystem = RamFS

    @vfsim.task
    def one(self, sys): return self.outcome(sys.mkdir, "/d")

    @vfsim.task
    def two(self, sys): return self.outcome(sys.mkdir, "/d")

    def check(self, sys, results):
        assert results.one.ok, "one should win"

def test_racy():
    vfsim.explore(Racy, schedules=50)

class Bare(vfsim.Scenario):
    filesystem = RamFS

    @vfsim.task
    def one(self, sys): return 4

    def check(self, sys, results):
        assert results[0] == 5

def test_bare():
    vfsim.explore(Bare, schedules=5)
""",
    )
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "BUG: Racy.check: one should win" in text and "vfsim replay vf1." in text
    assert "how it happened" in text
    assert "in explore" not in text and "explore.py" not in text
    assert "BUG: Bare.check: assert 4 == 5" in text


def test_coverage_is_kept(pytester: pytest.Pytester) -> None:
    """``--vfsim-coverage NAME`` writes what was covered of the contract."""
    folder = pytester.mkdir(".vfsim").joinpath("coverage")
    folder.mkdir()
    for old in ("mine.json", "mine-gw1.json"):
        (folder / old).write_text("{}")
    result = run(
        pytester,
        """
def test_one(kernel):
    kernel.mount(RamFS(), "/")
    kernel.call(touch)

def test_reset():
    from vfsim.checks import tables
    tables.judged({"P1": "caught"})
    tables.reset()
    assert tables.record()["methods"] == tables.record()["mutants"] == {}

def test_two(kernel):
    kernel.mount(RamFS(), "/")
    kernel.call(touch)
""",
        "--vfsim-coverage",
        "mine",
    )
    result.assert_outcomes(passed=3)
    record = json.loads((folder / "mine.json").read_text())
    assert record["methods"]["inode_operations.create"]["calls"] == 2, "whoever resets in between"
    assert record["mutants"] == {"P1": "caught"}
    assert [path.name for path in folder.iterdir()] == ["mine.json"], "and not the last run's"


def test_nothing_is_imported_before_it_is_needed(pytester: pytest.Pytester) -> None:
    """A pytest run that does not use vfsim does not pay for it."""
    pytester.makepyfile(
        "import sys\n"
        "def test_light():\n"
        "    assert 'vfsim.testing.plugin' in sys.modules\n"
        "    assert not {'vfsim.fs', 'vfsim.sim.machine', 'greenlet'} & set(sys.modules)\n"
    )
    plugin = () if INSTALLED else ("-p", "vfsim.testing.plugin")
    pytester.runpytest_subprocess(*plugin, "-q").assert_outcomes(passed=1)
