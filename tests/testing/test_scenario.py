"""Scenarios: what they run, what they refuse, and what their failures say."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import vfsim
from vfsim.explore.explore import BugFound, search
from vfsim.explore.token import decode
from vfsim.fs.syscalls import Sys
from vfsim.testing.scenario import Outcome, Results, Scenario, ScenarioProgram, task

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from toyfs import ToyDir, ToyFS


def touch(sys: Sys, path: str) -> None:
    sys.close(sys.open(path, os.O_CREAT | os.O_RDWR, 0o644))


class RenameVersusUnlink(vfsim.Scenario):
    """Two processes fight over one name; one must win, the other see ENOENT."""

    filesystem = ToyFS

    def setup(self, sys: Sys) -> None:
        sys.mkdir("/d")
        touch(sys, "/d/a")

    @vfsim.task
    def renamer(self, sys: Sys) -> Outcome:
        return self.outcome(sys.rename, "/d/a", "/d/b")

    @vfsim.task
    def unlinker(self, sys: Sys) -> Outcome:
        return self.outcome(sys.unlink, "/d/a")

    def check(self, sys: Sys, results: Results) -> None:
        assert sorted(r.errno for r in results) == [0, errno.ENOENT]
        assert sys.listdir("/d") == (["b"] if results.renamer.ok else [])


class WrongExpectation(RenameVersusUnlink):
    """The same, with a check that holds in half of the schedules."""

    def check(self, sys: Sys, results: Results) -> None:
        assert results.renamer.ok, "the renamer\nshould have won"


def test_the_example_of_the_documentation_works() -> None:
    """A scenario written as in the documentation is explored and clean."""
    found = vfsim.explore(RenameVersusUnlink, schedules=100)
    assert found.verdict == "clean" and found.distinct > 50
    assert os.path.samefile(found.target.partition(":")[0], __file__)


def test_a_wrong_result_blames_the_filesystem() -> None:
    """A failing check is a wrong result of the filesystem, with line, message and token."""
    with pytest.raises(BugFound) as caught:
        vfsim.explore(WrongExpectation, schedules=100)
    [failure] = caught.value.exploration.failures
    v = failure.violation
    assert (v.kind, v.blamed, v.rule) == (
        "wrong result",
        "filesystem ToyFS",
        "result.WrongExpectation",
    )
    assert v.where.startswith("test_scenario.py:")
    assert v.summary == "WrongExpectation.check: the renamer"
    assert any("should have won" in line for line in v.details)
    assert decode(failure.token).scenario == "WrongExpectation"
    assert "renamer" in failure.report and "unlinker" in failure.report


def test_an_uncaught_errno_is_a_wrong_result() -> None:
    """An OSError that a task lets pass is named with its errno and its task."""

    class Careless(RenameVersusUnlink):
        @task
        def unlinker(self, sys: Sys) -> Any:
            return sys.unlink("/d/a")

        def check(self, sys: Sys, results: Results) -> None: ...

    with pytest.raises(BugFound) as caught:
        vfsim.explore(Careless, schedules=100)
    v = caught.value.exploration.failures[0].violation
    assert v.kind == "wrong result" and "nobody expected ENOENT" in v.summary
    assert v.task == "unlinker"


def test_a_mistake_in_the_scenario_is_the_tests() -> None:
    """A TypeError in the scenario's own code blames the test."""

    class Clumsy(RenameVersusUnlink):
        def setup(self, sys: Sys) -> None:
            len(5)  # type: ignore[arg-type]

    with pytest.raises(BugFound) as caught:
        vfsim.explore(Clumsy, schedules=100)
    v = caught.value.exploration.failures[0].violation
    assert (v.kind, v.blamed) == ("oops", "test") and "Clumsy.setup" in v.summary


def test_an_oops_of_the_filesystem_is_not_told_twice() -> None:
    """What a filesystem's method stumbles over is its own oops, and nothing else is reported."""

    class BrokenDir(ToyDir):
        def unlink(self, dir: Any, dentry: Any) -> None:
            raise KeyError(dentry.d_name)

    class BrokenFS(ToyFS):
        name = "brokenfs"

        def fill_super(self, sb: Any, data: Any) -> None:
            super().fill_super(sb, data)
            sb.s_root.d_inode.i_op = BrokenDir()

    class Unlink(Scenario):
        filesystem = BrokenFS

        def setup(self, sys: Sys) -> None:
            touch(sys, "/a")

        @task
        def unlinker(self, sys: Sys) -> Any:
            return sys.unlink("/a")

        def check(self, sys: Sys, results: Results) -> None:
            raise AssertionError("never asked: the task came to no result")

    found = search(Unlink.program(), schedules=10)
    assert [f.violation.kind for f in found.failures] == ["oops"]
    assert found.failures[0].violation.blamed.startswith("filesystem")


def test_what_setup_stores_is_there_and_gone() -> None:
    """``self`` lives for one run: from setup through the tasks to check."""

    class Remembering(Scenario):
        filesystem = ToyFS

        def setup(self, sys: Sys) -> None:
            assert not hasattr(self, "fd")
            self.fd = sys.open("/a", os.O_CREAT | os.O_RDWR, 0o644)

        @task
        def one(self, sys: Sys) -> int:
            return self.fd

        def check(self, sys: Sys, results: Results) -> None:
            assert results[0] == results["one"] == results.one == self.fd

    vfsim.explore(Remembering, schedules=5)


def test_tasks_come_in_the_order_they_are_written() -> None:
    """Base classes first; an override stays a task and keeps its place."""

    class More(RenameVersusUnlink):
        @task
        def creator(self, sys: Sys) -> None: ...

        @task
        def renamer(self, sys: Sys) -> Outcome:
            return Outcome(0)

    assert More.tasks() == ["renamer", "unlinker", "creator"]


def test_results_behave_as_a_sequence() -> None:
    """By position, by slice, by name and by attribute."""
    results = Results({"one": Outcome(0, 5), "two": Outcome(errno.ENOENT)})
    assert len(results) == 2 and results[-1] == results.two and results[:1] == [results["one"]]
    assert repr(results) == "(one=ok(5), two=ENOENT)"
    with pytest.raises(AttributeError, match="no task is called 'three'"):
        _ = results.three


def test_outcomes() -> None:
    """`outcome` turns results and errnos into values, and lets everything else pass."""

    def fail(error: Exception) -> None:
        raise error

    assert Scenario.outcome(lambda: 3) == Outcome(0, 3)
    assert Scenario.outcome(fail, OSError(errno.EIO, "x")) == Outcome(errno.EIO)
    with pytest.raises(ValueError, match="x"):
        Scenario.outcome(fail, ValueError("x"))
    with pytest.raises(OSError, match="no number"):
        Scenario.outcome(fail, OSError("no number"))


def test_misuse_is_refused_when_the_class_is_made() -> None:
    """Wrong signatures, generators and things that are no methods are TypeErrors at once."""
    with pytest.raises(TypeError, match=r"takes \(self, sys\), it is written with \(self\)"):

        class NoSys(Scenario):
            @task
            def one(self) -> None: ...

    with pytest.raises(TypeError, match=r"check\(\) takes \(self, sys, results\)"):

        class NoResults(Scenario):
            def check(self, sys: Sys) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match="no yield"):

        class Generator(Scenario):
            @task
            def one(self, sys: Sys) -> Any:
                yield

    with pytest.raises(TypeError, match="stands above a method"):
        task(5)  # type: ignore[type-var]


def test_incomplete_scenarios_are_refused() -> None:
    """Without a filesystem or a task there is nothing to explore."""

    class NoTask(Scenario):
        filesystem = ToyFS

    class NoFilesystem(Scenario):
        @task
        def one(self, sys: Sys) -> None: ...

    with pytest.raises(TypeError, match="NoTask has no task"):
        vfsim.explore(NoTask)
    with pytest.raises(TypeError, match="NoFilesystem needs a filesystem"):
        vfsim.explore(NoFilesystem)
    assert ScenarioProgram(NoFilesystem, ToyFS).blamed == "filesystem ToyFS"


def test_a_leak_is_found_at_the_end() -> None:
    """A file that a task leaves open is closed with its process, and is no leak."""

    class Opener(Scenario):
        filesystem = ToyFS

        @task
        def one(self, sys: Sys) -> None:
            sys.open("/a", os.O_CREAT | os.O_RDWR, 0o644)

    assert vfsim.explore(Opener, schedules=20).verdict == "clean"
