"""VfsMachine: clean filesystems are silent, planted bugs come out as small as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from examples.fuzz_toyfs import ToyMachine
from examples.tinydisk import TinyDisk
from tests.testing import planted
from vfsim.cli.commands import run
from vfsim.explore.replay import replay
from vfsim.explore.token import decode as decode_token
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.syscalls import Sys
from vfsim.testing.machine import MachineBug, VfsMachine, some_process
from vfsim.testing.model import Call
from vfsim.testing.rounds import Round, decode, encode
from vfsim.testing.target import program_for


class RamMachine(VfsMachine):
    filesystem = RamFS


class TinyMachine(VfsMachine):
    filesystem = TinyDisk
    faults = ("io-error",)
    processes = 2


def fuzz(machine: type[VfsMachine], examples: int, **more: object) -> None:
    """Run a machine as a test would."""
    chosen = settings(machine.TestCase.settings, max_examples=examples, **more)
    run_state_machine_as_test(machine, settings=chosen)


CLEAN = [RamMachine, ToyMachine, TinyMachine]


@pytest.mark.parametrize("machine", CLEAN)
def test_clean_filesystems_are_silent(machine: type[VfsMachine]) -> None:
    """Programs, schedules, models, leaks: nothing to say."""
    fuzz(machine, 12)


@pytest.mark.soak
@pytest.mark.parametrize("machine", CLEAN)
def test_clean_filesystems_are_silent_for_long(machine: type[VfsMachine]) -> None:
    """The same with many programs."""
    fuzz(machine, 3000, derandomize=False, database=None)


@pytest.mark.parametrize(
    ("machine", "rule"),
    [(planted.AbbaMachine, "wait.deadlock"), (planted.LedgerMachine, "result.LedgerMachine")],
)
def test_a_race_is_found_and_is_small(machine: type[VfsMachine], rule: str) -> None:
    """A rename that locks in another order than stat, and a lost update: two calls, one
    deviation, and a token that brings it back."""
    with pytest.raises(MachineBug) as caught:
        fuzz(machine, 200)
    bug = caught.value
    assert bug.violation.rule == rule
    assert [len(round.calls) for round in bug.program.rounds] == [2]
    assert len(bug.run.deviations) == 1
    text = str(bug)
    assert text.startswith("\nat once:\n  p0: ")
    assert "\n  p1: " in text
    assert f"vfsim replay {bug.token[:40]}" in text
    token = decode_token(bug.token)
    again = replay(token, program_for(token))
    assert again.reproduced
    assert again.exact


def test_what_is_wrong_in_every_schedule_needs_none() -> None:
    """One call, no deviation; Hypothesis's explain phase does not change that."""
    for phases in (planted.SloppyMachine.TestCase.settings.phases, tuple(Phase)):
        with pytest.raises(MachineBug) as caught:
            fuzz(planted.SloppyMachine, 100, phases=phases)
        bug = caught.value
        assert str(bug).startswith("\nin turn:\n  p0: mkdir(")
        assert [len(round.calls) for round in bug.program.rounds] == [1]
        assert not bug.run.deviations
        assert "nlink=3" in bug.report


def test_machines_follow_the_settings() -> None:
    """Deterministic, without deadline, without explain; and a test case of its own per class."""
    chosen = RamMachine.TestCase.settings
    assert chosen.derandomize
    assert chosen.deadline is None
    assert Phase.explain not in chosen.phases
    assert RamMachine.TestCase is not ToyMachine.TestCase


class CountingMachine(VfsMachine):
    """An author's rule, set-up and check."""

    filesystem = RamFS
    only = ("mkdir",)
    oracle = False
    checked: ClassVar[list[int]] = []

    def setup(self, sys: Sys) -> None:
        sys.mkdir("/mine")

    @rule(process=some_process())
    def make(self, process: int) -> None:
        self.call(process, "mkdir", "/mine/x", 0o755)

    def check(self, sys: Sys) -> None:
        self.checked.append(len(sys.listdir("/mine")))
        assert "x" not in sys.listdir("/mine"), "somebody made x"


def test_authors_add_rules_and_checks() -> None:
    """What a subclass adds is run, and blamed on the filesystem."""
    with pytest.raises(MachineBug, match="somebody made x") as caught:
        fuzz(CountingMachine, 50)
    assert caught.value.violation.blamed == "filesystem RamFS"
    assert {0, 1} <= set(CountingMachine.checked)


def test_a_machine_by_hand() -> None:
    """Rules can be called without Hypothesis: state is carried from round to round."""
    machine = RamMachine()
    machine.mkdir(0, "/d", 0o755)
    machine.run(together=False)
    machine.mkdir(0, "/d/x", 0o755)
    machine.rename(1, "/d", "/e", 0)
    machine.run(together=True)
    assert machine.model is not None
    assert "/e" in machine.model.snapshot()
    assert [round.together for round in machine.rounds] == [False, True]


def test_programs_survive_their_text() -> None:
    """What a token carries is the program, bytes and all; nonsense is refused."""
    rounds = [
        Round(((0, Call("mkdir", ("/d", 0o755))),)),
        Round(
            ((0, Call("write", (0, b"\xff\0"))), (1, Call("stat", ("/é",)))), True, ("io-error",)
        ),
    ]
    assert decode(encode(rounds)) == rounds
    for nonsense in ("", "[1]", '[[true,[],[[0,"stat"]]]]'):
        with pytest.raises(ValueError, match="no program in rounds"):
            decode(nonsense)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``vfsim fuzz`` takes a machine or a filesystem, and says what it found."""
    report = tmp_path / "report.json"
    target = str(Path(planted.__file__))
    found = run(["fuzz", f"{target}:SloppyMachine", "--examples", "40", "--json", str(report)])
    assert found == 1
    data = json.loads(report.read_text())
    assert data["verdict"] == "bug"
    token = data["violations"][0]["token"]
    assert run(["replay", token]) == 1
    assert "nlink=3" in capsys.readouterr().out
    assert run(["fuzz", "vfsim.filesystems.ramfs:RamFS", "--examples", "2"]) == 0
    assert "clean" in capsys.readouterr().out
    assert run(["fuzz", "tests/testing/nowhere.py"]) == 2
