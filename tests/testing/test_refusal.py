"""Refusals by design: what is declared is no mistake, and everything beside it still is."""

from __future__ import annotations

import os
from errno import EPERM as NOT_PERMITTED
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from vfsim.cli.check import summary
from vfsim.explore.execute import execute
from vfsim.explore.replay import replay
from vfsim.explore.token import decode
from vfsim.filesystems.libfs import SimpleFileInodeOperations, SimpleFileOperations
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import ATTR_SIZE, Refusal
from vfsim.fs.file import Kiocb
from vfsim.mm.filemap import generic_file_write, generic_write_checks
from vfsim.sim.choice import RoundRobin
from vfsim.sim.errors import EACCES, EPERM
from vfsim.testing import check as checking
from vfsim.testing.check import Checked, Subject, check_filesystem
from vfsim.testing.conformance import assertions
from vfsim.testing.linearizability import Operation, check_linearizable
from vfsim.testing.machine import VfsMachine
from vfsim.testing.model import Call, Model, Traits, Tree
from vfsim.testing.rounds import Round, RoundsProgram
from vfsim.testing.scenario import Outcome
from vfsim.testing.scenarios import library
from vfsim.testing.target import BadTarget, load

STAYS = Refusal("write pwrite", EPERM, "what was written stays")
GROWS = Refusal("truncate ftruncate open", EPERM, "a file never gets shorter")


class LedgerFile(SimpleFileInodeOperations):
    """A file that keeps its size."""

    def setattr(self, dentry: Any, attr: Any) -> None:
        if attr.ia_valid & ATTR_SIZE and attr.ia_size != dentry.d_inode.i_size:
            raise EPERM()
        super().setattr(dentry, attr)


class OpenLedger(SimpleFileOperations):
    """An open file that is written at its end."""

    error = EPERM

    def write_iter(self, iocb: Kiocb, data: bytes) -> int:
        inode = iocb.ki_filp.f_inode
        with inode.i_rwsem:
            count = generic_write_checks(iocb, len(data))
            if iocb.ki_pos != inode.i_size:
                self.refuse(iocb)
            written = generic_file_write(iocb.ki_filp, data[:count], iocb.ki_pos) if count else 0
            iocb.ki_pos += written
        return written

    def refuse(self, iocb: Kiocb) -> None:
        raise self.error()


class LedgerFS(RamFS):
    """What is written stays, and is followed by nothing but more."""

    name = "ledger"
    file = LedgerFile()
    open_file = OpenLedger()
    refuses = (STAYS, GROWS)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assertions about data and attributes, and a few scenarios."""
    suite = [a for a in assertions() if a.area in ("truncate", "append", "lseek", "sync")]
    assert len(suite) > 30
    names = ("append(f) ∥ truncate(f,0)", "append(f) ∥ append(f)")
    monkeypatch.setattr(checking, "assertions", lambda: iter(suite))
    monkeypatch.setattr(checking, "areas", dict)
    monkeypatch.setattr(checking, "library", lambda: [s for s in library() if s.__name__ in names])


def found(filesystem: type[RamFS]) -> Checked:
    return check_filesystem(filesystem, schedules=10, shrink=False)


def rules(result: Checked) -> set[str]:
    return {f.violation.rule for f in result.failures}


def test_what_is_declared_is_no_mistake() -> None:
    """Assertions that come to a refused call are counted under its declaration, and printed."""
    result = found(LedgerFS)
    assert result.verdict == "clean" and result.failed == 0
    assert len(result.declared[STAYS]) > 2 and len(result.declared[GROWS]) >= 10
    assert result.passed > 20 and len(result.explorations) == 2
    lines = summary(result)
    number = len(result.declared[STAYS])
    assert any(
        f"{number + len(result.declared[GROWS])} refused by design" in line for line in lines
    )
    assert f"  by design     {STAYS}; in {number} assertions" in lines
    assert result.coverage["refused"][str(GROWS)] == result.declared[GROWS]


def test_without_the_declaration_it_is_one() -> None:
    """The same refusals, not declared, are wrong results; so are those of calls not named."""

    class SilentFS(LedgerFS):
        refuses = ()

    class HalfSilentFS(LedgerFS):
        refuses = (GROWS,)

    assert {r.partition(".")[0] for r in rules(found(SilentFS))} == {"conformance"}
    assert rules(found(HalfSilentFS)) < rules(found(SilentFS))


def test_a_declaration_that_is_never_met_is_told() -> None:
    """Who declares too much is told so."""

    class TimidFS(LedgerFS):
        refuses = (STAYS, GROWS, Refusal("mkdir", EPERM))

    assert "  by design     mkdir: EPERM; never met" in summary(found(TimidFS))


def test_another_errno_is_a_mistake() -> None:
    """EPERM is declared; EACCES is reported."""

    class WrongLedger(OpenLedger):
        error = EACCES

    class WrongFS(LedgerFS):
        open_file = WrongLedger()

    result = found(WrongFS)
    assert not result.declared[STAYS] and result.declared[GROWS]
    assert all("got EACCES (13)" in f.violation.summary for f in result.failures)
    assert result.failures


class HastyLedger(OpenLedger):
    """Notes the time before it refuses."""

    def refuse(self, iocb: Kiocb) -> None:
        iocb.ki_filp.update_time()
        raise EPERM()


class GreedyLedger(OpenLedger):
    """Writes a byte, and then refuses the rest."""

    def refuse(self, iocb: Kiocb) -> None:
        generic_file_write(iocb.ki_filp, b"!", iocb.ki_pos)
        raise EPERM()


@pytest.mark.parametrize(
    ("ledger", "effect"), [(HastyLedger(), "/f: mtime was "), (GreedyLedger(), "content was b'")]
)
def test_a_refused_call_has_no_effect(ledger: OpenLedger, effect: str) -> None:
    """What was half-done before the refusal is reported once for each call, and is replayed."""

    class HalfDoneFS(LedgerFS):
        open_file = ledger

    result = found(HalfDoneFS)
    assert rules(result) <= {"refusal.write", "refusal.pwrite"} and result.failures
    assert result.failed == 0 and result.declared[STAYS]
    for failure in result.failures:
        assert ") = EPERM (1), by design, and yet " in failure.violation.summary
        assert any(effect in line for line in failure.violation.details)
        token = decode(failure.token)
        again = replay(token, Subject("", HalfDoneFS).program(token.scenario))
        assert again.reproduced and again.exact


def test_what_a_scenario_needs_may_be_refused() -> None:
    """A scenario whose beginning is refused says nothing, and is left out."""

    class ClosedDir(RamDirectory):
        def create(self, dir: Any, dentry: Any, mode: int, excl: bool) -> None:
            raise EPERM()

    class ClosedFS(RamFS):
        directory = ClosedDir()
        refuses = (Refusal("open", EPERM, "nothing new"),)

    result = found(ClosedFS)
    assert result.verdict == "clean" and len(result.left_out) == 2


# The model.  -----------------------------------------------------------------------------------


def test_the_model_believes_a_refusal() -> None:
    """It changes nothing; another errno is not believed."""
    model = Model(Tree(Traits(refuses=(GROWS,))))
    model.run(Call("open", ("/f", os.O_CREAT | os.O_RDWR, 0o644)))
    model.run(Call("write", (0, b"abc")))
    refused = Outcome(NOT_PERMITTED)
    assert model.run(Call("truncate", ("/f", 0)), seen=refused) == refused
    assert model.snapshot()["/f"][5:7] == (3, b"abc")
    assert model.run(Call("truncate", ("/f", 1)), seen=Outcome(13)) == Outcome(0)
    assert model.snapshot()["/f"][5:7] == (1, b"a")


def test_a_history_with_refusals_has_an_order() -> None:
    """A refused call stands anywhere; without the declaration nothing explains it."""
    call = Call("mkdir", ("/d", 0o755))
    history = [
        Operation(0, call, Outcome(NOT_PERMITTED), 0, 3),
        Operation(1, call, Outcome(0), 1, 4),
    ]
    declared = Traits(refuses=(Refusal("mkdir", EPERM),))
    assert check_linearizable(history, Model(Tree(declared)))
    assert not check_linearizable(history, Model(Tree(Traits())))


class LedgerMachine(VfsMachine):
    filesystem = LedgerFS
    only = ("open", "write", "truncate", "unlink")


def test_programs_are_judged_with_refusals() -> None:
    """Drawn programs find nothing wrong with a filesystem that does what it declares."""
    chosen = settings(LedgerMachine.TestCase.settings, max_examples=8)
    run_state_machine_as_test(LedgerMachine, settings=chosen)


def test_programs_find_what_is_half_done() -> None:
    """The model says that nothing happened, and the tree that something did."""

    class GreedyFS(LedgerFS):
        open_file = GreedyLedger()

    class GreedyMachine(LedgerMachine):
        filesystem = GreedyFS

    calls = [
        Call("open", ("/f", os.O_CREAT | os.O_RDWR, 0o644)),
        Call("write", (0, b"abc")),
        Call("pwrite", (0, b"xy", 0)),
    ]
    program = [Round(tuple((0, call) for call in calls))]
    assert not execute(RoundsProgram(LedgerMachine, program), RoundRobin()).violations
    (violation,) = execute(RoundsProgram(GreedyMachine, program), RoundRobin()).violations
    assert "pwrite(0, b'xy', 0) = EPERM, the tree is not what it should be" in violation.summary


# How it is said.  --------------------------------------------------------------------------------


def test_a_declaration_reads_well() -> None:
    """Calls, errno and why; a number will do for the error."""
    assert str(STAYS) == "write pwrite: EPERM, what was written stays"
    assert Refusal("mkdir", NOT_PERMITTED) == Refusal("mkdir", EPERM)


def test_what_is_no_declaration_is_refused() -> None:
    """A call that does not exist, no call, no error, and a forgotten comma."""
    with pytest.raises(ValueError, match=r"'wirte' is none; did you mean write\?"):
        Refusal("wirte", EPERM)
    with pytest.raises(ValueError, match="needs a system call and an error"):
        Refusal("", EPERM)
    with pytest.raises(ValueError, match="needs a system call and an error"):
        Refusal("write", 0)
    with pytest.raises(TypeError, match=r"CommaFS.refuses is a tuple of Refusal\(...\)"):
        type("CommaFS", (RamFS,), {"refuses": STAYS})


def test_a_file_with_a_wrong_declaration_is_told_by_line(tmp_path: Path) -> None:
    """Misuse is one sentence that begins with the author's line."""
    path = tmp_path / "typo.py"
    path.write_text(
        "from vfsim.filesystems.ramfs import RamFS\nfrom vfsim.fs import Refusal\n\n"
        'class TypoFS(RamFS):\n    name = "typo"\n    refuses = (Refusal("wirte", 1),)\n'
    )
    with pytest.raises(BadTarget, match=r"typo.py:6: .*'wirte' is none; did you mean write?"):
        load(str(path))
