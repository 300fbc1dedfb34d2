"""``--faults`` of the commands: what is found with it, and that a token brings it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command

LEAKY = """
import vfsim
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.dcache import dget, dput

class LeakyDirectory(RamDirectory):
    def mknod(self, dir, dentry, mode, dev):
        dget(dentry)
        super().mknod(dir, dentry, mode, dev)
        dput(dentry)

class LeakyFS(RamFS):
    name = "leakyfs"
    directory = LeakyDirectory()

class Creators(vfsim.Scenario):
    filesystem = LeakyFS

    @vfsim.task
    def one(self, sys): return self.outcome(sys.mkdir, "/a")

    @vfsim.task
    def two(self, sys): return self.outcome(sys.mkdir, "/b")
"""


@pytest.fixture(autouse=True)
def _leaky() -> None:
    Path("leaky.py").write_text(LEAKY)


def test_explore_with_faults(vfsim: Command) -> None:
    """The leak is found with them only, and the token of it is enough to see it again."""
    quiet = vfsim("explore", "leaky.py:Creators", "--schedules", "60", "--jobs", "1")
    assert quiet.status == 0
    found = vfsim(
        "explore", "leaky.py:Creators", "--schedules", "60", "--jobs", "1", "--faults", "alloc",
        "--json", "-",
    )  # fmt: skip
    assert found.status == 1
    violation = json.loads(found.out)["violations"][0]
    assert violation["rule"] == "leak.dentry"
    again = vfsim("replay", violation["token"])
    assert again.status == 1
    assert "replayed exactly" in again.out and "leak.dentry" in again.out


def test_check_with_faults(vfsim: Command, small: None) -> None:
    """The same for the whole check; its tokens are replayed, too."""
    assert vfsim("check", "leaky.py:LeakyFS", "--jobs", "1", "--schedules", "40").status == 0
    found = vfsim(
        "check", "leaky.py:LeakyFS", "--jobs", "1", "--schedules", "40", "--faults", "alloc,io",
        "--json", "-",
    )  # fmt: skip
    assert found.status == 1
    violation = json.loads(found.out)["violations"][0]
    assert violation["rule"] == "leak.dentry"
    assert vfsim("replay", violation["token"]).status == 1


def test_an_unknown_kind_is_refused(vfsim: Command) -> None:
    """With the kinds that there are."""
    result = vfsim("explore", "leaky.py:Creators", "--faults", "memory")
    assert result.status == 2
    assert "alloc, copy, io" in result.err
