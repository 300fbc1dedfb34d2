"""Tokens in tests: they fail while the bug is there, in any process, and pass once it is mended."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfsim
from vfsim.explore.explore import search
from vfsim.explore.failure import Failure, shrunk
from vfsim.explore.token import BadToken, decode
from vfsim.explore.watch import Watch
from vfsim.sim.errors import Violation
from vfsim.testing.check import Subject
from vfsim.testing.replay import SourcesChanged, as_tests
from vfsim.testing.scenarios import library
from vfsim.testing.target import BadTarget, load

SERIAL = '''
"""serialfs: two directories at once give two files one number."""
from typing import Annotated

from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.sim.shared import kernel_struct, shared


@kernel_struct
class Serial:
    next: Annotated[int, shared]


class SerialDir(RamDirectory):
    def mknod(self, dir, dentry, mode, dev):
        super().mknod(dir, dentry, mode, dev)
        serial = dir.i_sb.s_fs_info
        dentry.d_inode.i_ino = serial.next
        serial.next = dentry.d_inode.i_ino + 1


class SerialFS(RamFS):
    name = "serialfs"
    directory = SerialDir()

    def fill_super(self, sb, data):
        super().fill_super(sb, data)
        sb.s_fs_info = Serial(1000)
'''

MENDED = SERIAL.replace(
    "        dentry.d_inode.i_ino = serial.next\n        serial.next = dentry.d_inode.i_ino + 1\n",
    "",
)


def work_in(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Go to a directory with a serialfs.py that is not imported yet."""
    patch.chdir(directory)
    patch.setattr(sys, "path", list(sys.path))
    patch.delitem(sys.modules, "serialfs", raising=False)
    Path("serialfs.py").write_text(SERIAL)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory for each test."""
    work_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def failure(tmp_path_factory: pytest.TempPathFactory) -> Failure:
    """The lost update of serialfs.py, found among three tasks and shrunk to two."""
    with pytest.MonkeyPatch.context() as patch:
        work_in(tmp_path_factory.mktemp("found"), patch)
        subject = Subject("serialfs.py", load("serialfs.py").filesystem())
        (three,) = (s for s in library() if s.__name__ == "create(d/a) ∥ create(e/b) ∥ create(c)")
        (found,) = search(subject.scenario(three), schedules=100, shrink=True).failures
        sys.modules.pop("serialfs")
        return found


def outside(*args: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another process, here."""
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)


def test_the_shrunk_report_tells_the_minimal_interleaving(failure: Failure) -> None:
    """Two of the three tasks are left, with few deviations, and the place where a passing run goes
    another way.
    """
    token = decode(failure.token)
    assert dict(token.options)["without"].split()[-1].startswith(("create", "before"))
    assert len(token.deviations) <= 2
    text = failure.report
    again = text[text.index("to see it again") : text.index("how it happened")]
    assert re.search(r"  minimal: 4 calls in 2 tasks, \d deviations?, reproduced 10/10", again)
    story = text[text.index("how it happened") :]
    assert "a passing run differs first here: create" in story
    assert "Serial.next; in this one create" in story
    marked = [line.partition(">> ")[2] for line in story.splitlines() if ">> " in line]
    assert [text.split("(")[0] for text in marked][1:] == ["reads Serial.next"]


def test_what_is_small_already_stays_so(failure: Failure) -> None:
    """A failure of a smaller program is not taken for one of the whole."""
    subject = Subject("serialfs.py", load("serialfs.py").filesystem())
    (three,) = (s for s in library() if s.__name__ == failure.scenario)
    with Watch() as watch:
        assert shrunk(failure, subject.scenario(three), watch) is failure
    sys.modules.pop("serialfs")


def test_a_test_fails_while_the_bug_is_there(failure: Failure) -> None:
    """In this process, `vfsim.replay` raises the report that the search made."""
    with pytest.raises(vfsim.BugFound) as caught:
        vfsim.replay(failure.token)
    assert str(caught.value).strip() == failure.report.strip()
    assert caught.value.exploration.verdict == "bug"


def test_a_written_test_fails_and_passes_in_another_process(failure: Failure) -> None:
    """What `as_tests` writes fails with the report, and passes with a warning once it is mended."""
    Path("test_serial.py").write_text(as_tests([failure]))
    run = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_serial.py")
    broken = outside(*run)
    assert broken.returncode == 1 and "1 failed" in broken.stdout
    assert "minimal: 4 calls in 2 tasks" in broken.stdout and "vfsim.replay(" in broken.stdout
    Path("serialfs.py").write_text(MENDED)
    mended = outside(*run)
    assert mended.returncode == 0, mended.stdout
    assert "1 passed, 1 warning" in mended.stdout
    assert "SourcesChanged: the target changed since this token was made" in mended.stdout


def test_the_command_line_prints_the_same_report_and_test(failure: Failure) -> None:
    """`vfsim replay` tells what the search told; with ``--pytest`` it prints the test."""
    told = outside("-m", "vfsim", "replay", failure.token)
    assert told.returncode == 1 and failure.report.rstrip() in told.stdout
    assert told.stdout.rstrip().endswith("replayed exactly.")
    test = outside("-m", "vfsim", "replay", "--pytest", failure.token)
    assert test.returncode == 1 and test.stdout == as_tests([failure])


def test_nonsense_is_refused() -> None:
    """What is no token, and a target that is not here, is said in a sentence."""
    with pytest.raises(BadToken):
        vfsim.replay("vf1.nonsense")
    token = vfsim.explore.token.Token("no/such/file.py", "scenario")
    with pytest.raises(BadTarget, match="there is no file"):
        vfsim.replay(str(token))


def test_tests_have_different_names_and_are_python() -> None:
    """Two failures of one rule get two tests; any summary can stand in a docstring."""

    def made(rule: str, summary: str) -> Failure:
        violation = Violation(rule, "soft", "test", "", summary)
        return Failure(violation, "vf1.x", "", "", 0)

    summary = 'it said "no\\n", and then """'
    text = as_tests([made("wait.deadlock", "a" * 200), made("wait.deadlock", summary)])
    space: dict[str, Any] = {}
    exec(compile(text, "written", "exec"), space)
    assert [n for n in space if n.startswith("test_")] == [
        "test_wait_deadlock",
        "test_wait_deadlock_2",
    ]
    assert all(len(line) <= 100 for line in text.splitlines())
    assert issubclass(SourcesChanged, UserWarning)
