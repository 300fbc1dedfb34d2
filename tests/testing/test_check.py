"""Checking a filesystem: what is asked, what is kept, and how it is found again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from toyfs import ToyDir, ToyFS

from vfsim.cli.check import summary
from vfsim.explore import watch
from vfsim.explore.replay import replay
from vfsim.explore.token import decode
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import EIO
from vfsim.testing import check as checking
from vfsim.testing.check import Checked, Progress, Subject, check_filesystem
from vfsim.testing.conformance import assertions
from vfsim.testing.scenario import as_small
from vfsim.testing.scenarios import library

AREAS = ("unlink", "rmdir", "rename")
NAMES = ("create(a) ∥ create(a)", "unlink(a) ∥ rename(a,b)", "rmdir(a) ∥ rename(a,b)")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few assertions and scenarios."""
    suite = [a for a in assertions() if a.area in AREAS]
    chosen = [s for s in library() if s.__name__ in NAMES]
    assert len(suite) > 10 and len(chosen) == len(NAMES)
    monkeypatch.setattr(checking, "assertions", lambda: iter(suite))
    monkeypatch.setattr(checking, "areas", dict)
    monkeypatch.setattr(checking, "library", lambda: chosen)


def variant(directory: type[ToyDir], name: str) -> type[ToyFS]:
    """The toy filesystem with another root directory."""

    def fill_super(self: Any, sb: Any, data: Any) -> None:
        ToyFS.fill_super(self, sb, data)
        sb.s_root.d_inode.i_op = directory()

    return type(ToyFS)(name, (ToyFS,), {"name": name.lower(), "fill_super": fill_super})


class RaisingDir(ToyDir):
    """Stumbles in rename."""

    def rename(
        self, old_dir: Any, old_dentry: Any, new_dir: Any, new_dentry: Any, flags: int
    ) -> None:
        raise IndexError("oh")


class OneWayDir(ToyDir):
    """Creates with one lock inside another, and removes directories the other way round."""

    def create(self, dir: Any, dentry: Any, mode: int, excl: bool) -> None:
        with Mutex("check one"), Mutex("check other"):
            super().create(dir, dentry, mode, excl)

    def rmdir(self, dir: Any, dentry: Any) -> None:
        with Mutex("check other"), Mutex("check one"):
            super().rmdir(dir, dentry)


class FailingDir(ToyDir):
    """Says EIO to every unlink."""

    def unlink(self, dir: Any, dentry: Any) -> None:
        raise EIO()


def found(filesystem: type[ToyFS], **options: Any) -> Checked:
    return check_filesystem(filesystem, **{"schedules": 20, **options})


def test_a_clean_filesystem() -> None:
    """Every assertion and every scenario is run, and counted."""
    result = found(ToyFS)
    assert result.verdict == "clean" and result.failed == 0
    assert result.passed + result.skipped == len(list(checking.assertions()))
    assert [e.scenario for e in result.explorations] == [s.__name__ for s in checking.library()]
    assert all(e.distinct >= 20 or e.exhausted for e in result.explorations)
    assert result.run == sum(e.run for e in result.explorations)
    assert result.coverage["methods"]["inode_operations.rename"]["calls"] > 0


def test_what_conformance_finds() -> None:
    """A wrong errno is a wrong result, by the assertion's name, with the calls before it."""
    result = found(variant(FailingDir, "FailingFS"))
    violations = [f.violation for f in result.failures if f.violation.rule.startswith("conf")]
    assert violations and result.failed >= len(violations)
    first = violations[0]
    assert first.kind == "wrong result" and first.blamed == "filesystem FailingFS"
    assert "EIO" in first.summary and any("unlink(" in line for line in first.details)


def test_an_oops_is_kept_once() -> None:
    """A method that stumbles in every test is one bug, not a hundred."""
    result = found(variant(RaisingDir, "RaisingFS"))
    assert [f.violation.kind for f in result.failures] == ["oops"]
    assert result.failures[0].count > 3
    assert result.failures[0].violation.blamed == "filesystem RaisingDir.rename"


def test_what_scenarios_show_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenarios that take two locks in opposite orders: told, with a token of each."""
    monkeypatch.setattr(checking, "assertions", lambda: iter(()))
    result = found(variant(OneWayDir, "TwoWays"))
    assert result.verdict == "clean"
    (text,) = result.suspicions
    assert "check one→check other in schedule 0 of scenario 1" in text
    tokens = [decode(token) for token in re.findall(r"vfsim replay (vf1\.\S+)", text)]
    assert {t.scenario for t in tokens} == {NAMES[0], NAMES[2]}
    assert all(f"  {line}" in summary(result) for line in text.splitlines())


def test_every_token_is_found_again() -> None:
    """Tokens of assertions and of scenarios lead to programs that replay them exactly."""
    for filesystem in (variant(FailingDir, "FailingFS"), variant(RaisingDir, "RaisingFS")):
        for failure in found(filesystem).failures:
            token = decode(failure.token)
            program = as_small(Subject("", filesystem).program(token.scenario), dict(token.options))
            result = replay(token, program)
            assert result.reproduced and result.exact, (failure.violation, result)


def test_a_filesystem_that_cannot_be_mounted() -> None:
    """If mounting fails nothing else is asked, and that is the finding."""

    class Unmountable(ToyFS):
        name = "unmountable"

        def fill_super(self, sb: Any, data: Any) -> None:
            raise EIO()

    result = found(Unmountable)
    assert [f.scenario for f in result.failures] == ["mount"]
    assert "EIO" in result.failures[0].violation.summary
    assert result.passed == result.run == 0


def test_a_filesystem_that_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that loops for ever ends the check after a few tries, with its line."""
    monkeypatch.setattr(watch, "PATIENCE", 0.2)

    class LoopingDir(ToyDir):
        def create(self, dir: Any, dentry: Any, mode: int, excl: bool) -> None:
            while True:
                pass

    result = found(variant(LoopingDir, "LoopingFS"))
    [failure] = result.failures
    assert failure.violation.kind == "no progress" and result.endless >= 3
    assert failure.violation.blamed.endswith("LoopingDir.create")
    assert result.passed < 50 and result.run < 20


def test_a_device_and_options_reach_the_filesystem() -> None:
    """``device`` and ``mount_options`` are what the filesystem is mounted with, and in tokens."""
    seen: list[tuple[int, str]] = []

    class Looking(ToyFS):
        name = "looking"

        def mount(self, flags: int, dev_name: str, data: str) -> Any:
            seen.append((flags, data))
            return super().mount(flags, dev_name, data)

    subject = Subject("", Looking, 64, "colour=blue")
    checking.check(subject, schedules=5)
    assert seen and {data for _, data in seen} == {"colour=blue"}
    assert subject.options == (("device", 64), ("mount-options", "colour=blue"))
    assert subject.scenario(checking.library()[0]).options == subject.options


def test_progress_adds_up() -> None:
    """What is announced is what is done, whether scenarios apply, fail or are exhausted."""

    class Adding(Progress):
        total = done = 0

        def begin(self, total: int) -> None:
            self.total = total

        def advance(self, amount: int) -> None:
            self.done += amount

    for filesystem in (ToyFS, variant(RaisingDir, "RaisingFS")):
        progress = Adding()
        found(filesystem, progress=progress)
        assert progress.total == progress.done > 0


def test_the_same_seed_gives_the_same() -> None:
    """Two checks with one seed agree; the number of processes does not matter."""
    one, two, parallel = (
        found(variant(RaisingDir, "RaisingFS"), seed=5, jobs=jobs) for jobs in (1, 1, 3)
    )
    for other in (two, parallel):
        assert [f.violation.signature for f in one.failures] == [
            f.violation.signature for f in other.failures
        ]
        assert [str(e) for e in one.explorations] == [str(e) for e in other.explorations]
        assert [f.report for f in one.failures] == [f.report for f in other.failures]


def test_wrong_arguments_are_refused() -> None:
    """A strategy that does not exist is refused before anything is run."""
    with pytest.raises(ValueError, match="there is no strategy"):
        found(ToyFS, strategy="nothing")
    with pytest.raises(LookupError, match="no scenario called nothing"):
        Subject("", ToyFS).program("nothing")


def test_what_cannot_be_mounted_is_not_mounted_to_tell_of_it() -> None:
    """The summary tells what was seen: nothing runs after the check, when nobody watches it."""
    mounts: list[int] = []

    class Unmountable(ToyFS):
        name = "unmountable"

        def fill_super(self, sb: Any, data: str) -> None:
            mounts.append(1)
            raise KeyError("no such thing")

    result = found(Unmountable, shrink=False)
    assert result.verdict == "bug" and result.unlike == []
    before = len(mounts)
    assert summary(result)[-1] == "1 bug found."
    assert len(mounts) == before > 0
