"""The command line in this process, on a check that is small enough for a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vfsim.cli.commands import run
from vfsim.testing import check
from vfsim.testing.conformance import assertions
from vfsim.testing.scenarios import library

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def vfsim(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line."""

    def command(*args: str) -> Result:
        capsys.readouterr()
        status = run([str(a) for a in args])
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return command


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory; imports of targets are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if not name.startswith("vfsim."):
            del sys.modules[name]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of a few assertions and three scenarios."""
    suite = [a for a in assertions() if a.area in ("unlink", "rmdir")]
    names = ("unlink(a) ∥ unlink(a)", "create(a) ∥ create(a)", "unlink(a) ∥ rename(a,b)")
    chosen = [s for s in library() if s.__name__ in names]
    assert suite and len(chosen) == 3
    monkeypatch.setattr(check, "assertions", lambda: iter(suite))
    monkeypatch.setattr(check, "areas", dict)
    monkeypatch.setattr(check, "library", lambda: chosen)


BROKEN = """
from toyfs import *
from vfsim.locks.mutex import Mutex

class BadDir(ToyDir):
    count = Mutex("bad_count")
    log = Mutex("bad_log")

    def create(self, dir, dentry, mode, excl):
        with self.count:
            with self.log:
                super().create(dir, dentry, mode, excl)

    def unlink(self, dir, dentry):
        with self.log:
            with self.count:
                super().unlink(dir, dentry)

class BadFS(ToyFS):
    name = "badfs"

    def fill_super(self, sb, data):
        super().fill_super(sb, data)
        sb.s_root.d_inode.i_op = BadDir()
"""

SCENARIO = """
import os, vfsim
from toyfs import ToyFS

class Fight(vfsim.Scenario):
    filesystem = ToyFS

    @vfsim.task
    def one(self, sys): return self.outcome(sys.mkdir, "/d")

    @vfsim.task
    def two(self, sys): return self.outcome(sys.mkdir, "/d")

    def check(self, sys, results):
        assert sorted(r.errno for r in results) == [0, 17]

class Unfair(Fight):
    def check(self, sys, results):
        assert results.one.ok, "the first should win"

def abba(machine):
    from vfsim.locks.mutex import Mutex
    a, b = Mutex("a"), Mutex("b")
    def take(x, y):
        with x:
            with y:
                pass
    machine.spawn(take, a, b, name="one")
    machine.spawn(take, b, a, name="two")
"""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy filesystem, a broken one, and scenarios, in the working directory."""
    Path("toyfs.py").write_text((ROOT / "examples/toyfs.py").read_text())
    Path("broken.py").write_text(BROKEN)
    Path("scenarios.py").write_text(SCENARIO)
    Path("tiny.py").write_text("def tiny(machine): machine.spawn(lambda: None)\n")
