"""Scenarios made smaller: what may be left out, and that nothing else changes by it."""

from __future__ import annotations

from typing import Any

import pytest

import vfsim
from examples.toyfs import ToyFS
from vfsim.explore.execute import execute
from vfsim.explore.shrink import ShrinkableProgram, shrink
from vfsim.explore.strategies import maker
from vfsim.explore.strategies.replay import Replay
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.sim.errors import Violation
from vfsim.testing.check import Subject
from vfsim.testing.scenario import ScenarioProgram, as_small
from vfsim.testing.scenarios import library
from vfsim.testing.scenarios.base import LibraryScenario
from vfsim.testing.scenarios.calls import append, overwrite, put, truncate
from vfsim.testing.scenarios.oracle import Weak


class Three(vfsim.Scenario):
    """Three processes; the last two make one name."""

    filesystem = ToyFS

    @vfsim.task
    def idler(self, sys: Any) -> None:
        sys.mkdir("/idle")

    @vfsim.task
    def one(self, sys: Any) -> Any:
        return self.outcome(sys.mkdir, "/d")

    @vfsim.task
    def two(self, sys: Any) -> Any:
        return self.outcome(sys.mkdir, "/d")

    def check(self, sys: Any, results: Any) -> None:
        assert len(results) == 3


def named(name: str) -> type[LibraryScenario]:
    (found,) = (s for s in library() if s.__name__ == name)
    assert issubclass(found, LibraryScenario)
    return found


def test_a_plain_scenario_can_lack_tasks() -> None:
    """Its parts are its tasks; the last one stays, and without one nobody looks at the results."""
    assert Three.parts() == ["idler", "one", "two"]
    smaller = Three.without("idler")
    assert smaller.tasks() == ["one", "two"] and smaller.__name__ == "Three"
    assert smaller.without("one").parts() == []
    program = Three.program()
    assert isinstance(program, ShrinkableProgram)
    for less in program.smaller():
        assert not execute(less, Replay([])).violations


def test_those_who_stay_keep_their_ids() -> None:
    """A deviation of the whole scenario means the same in the smaller one."""
    program = Three.program()
    run = execute(program, maker("random")(1, 0))
    mine = {d.task for d in run.deviations if d.task}
    (smaller, *_) = program.smaller()
    again = execute(smaller, maker("random")(1, 0))
    assert {d.task for d in again.deviations if d.task} < mine


def test_the_parts_of_a_scenario_of_the_library() -> None:
    """Tasks, single calls, what is there before, and bytes."""
    scenario = named("append(f) ∥ truncate(f,0)")
    assert scenario.parts() == [
        "append", "truncate", "append.0", "append.1", "before.0", "append~", "before.0~",
    ]  # fmt: skip
    assert [a.name for a in scenario.without("append").actors] == ["truncate(f,0)"]
    assert [s.text for s in scenario.without("append.1").actors[0].steps] == ["open"]
    assert scenario.without("before.0").before == ()
    assert scenario.without("before.0~").before == (("file", "/f", b"old "),)
    assert scenario.without("append~").actors[0].simpler is None


def test_what_is_right_is_computed_anew() -> None:
    """Every scenario of the library that lacks something is silent on a correct filesystem."""
    subject = Subject("", ToyFS)
    for scenario in library()[::25]:
        for part in scenario.parts():
            program = subject.scenario(scenario).without(part)
            found = execute(program, maker("pos")(0, 0)).violations
            assert not [v for v in found if v.rule.startswith("result.")], part


def test_a_part_that_is_not_there_is_refused() -> None:
    """A token that leaves out what this vfsim does not know is a LookupError."""
    with pytest.raises(LookupError, match="no part 'nobody' to leave out"):
        Three.without("nobody")
    with pytest.raises(LookupError, match=r"no part .append\.7."):
        program = Subject("", ToyFS).program("append(f) ∥ truncate(f,0)")
        as_small(program, {"without": "append.7"})


def test_who_may_be_overtaken_is_counted_again() -> None:
    """The number of a task goes down when one before it is left out."""
    weak = Weak(overtaken=(1, "EEXIST"))
    assert weak.without(0).overtaken == (0, "EEXIST")
    assert weak.without(1).overtaken is None
    assert weak.without(2).overtaken == (1, "EEXIST")


def test_fewer_bytes_are_simpler() -> None:
    """Calls that write offer to write half as much, down to a byte; others do not."""
    for actor in (put("/f", b"12345"), append("/f", b"12345"), overwrite("/f", b"12345", 3)):
        count = 0
        simpler = actor.simpler
        while simpler is not None:
            count, simpler = count + 1, simpler.simpler
        assert count == 2
    assert truncate("/f", 3).simpler is None


class RaisingDir(RamDirectory):
    """Stumbles over every directory."""

    def mkdir(self, dir: Any, dentry: Any, mode: int) -> None:
        raise KeyError("no such thing")


class RaisingFS(RamFS):
    name = "raising"
    directory = RaisingDir()


def test_a_scenario_is_shrunk_to_the_task_that_matters() -> None:
    """An oops of one call needs no other task, and no deviation."""
    program = ScenarioProgram(Three, RaisingFS)
    run = execute(program, maker("pos")(3, 0))
    violation: Violation = run.violations[0]
    assert violation.rule == "oops"
    shrunk = shrink(program, run, violation.signature)
    assert isinstance(shrunk.program, ScenarioProgram)
    assert len(shrunk.program.scenario.tasks()) == 1 and shrunk.deviations == []
    assert dict(shrunk.program.options)["without"] == "idler one"


class Expecting(vfsim.Scenario):
    """One makes a directory; the other expects it, and is sometimes too early."""

    filesystem = ToyFS

    @vfsim.task
    def maker(self, sys: Any) -> None:
        sys.mkdir("/d")

    @vfsim.task
    def user(self, sys: Any) -> None:
        sys.mkdir("/d/e")


def test_a_result_needs_whoever_it_depends_on() -> None:
    """A task that fails without its partner is no smaller case of one that comes too early."""
    program = Expecting.program()
    run = next(r for seed in range(50) if (r := execute(program, maker("pos")(seed, 0))).violations)
    assert run.violations[0].rule == "result.Expecting"
    shrunk = shrink(program, run, run.violations[0].signature)
    assert shrunk.program is program and len(shrunk.deviations) == 1
