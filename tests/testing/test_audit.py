"""The audit: shared state that nothing declares is found, and looking leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import pytest

import vfsim
from vfsim.checks.audit import Audit, Seen
from vfsim.checks.judge import KernelJudge
from vfsim.explore.execute import execute
from vfsim.explore.explore import BugFound, explore
from vfsim.explore.replay import replay
from vfsim.explore.strategies.pos import POS
from vfsim.explore.token import decode
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, SuperBlock
from vfsim.locks import Mutex
from vfsim.sim.choice import RoundRobin
from vfsim.sim.machine import Machine
from vfsim.sim.shared import POINTS, install, kernel_struct, shared
from vfsim.testing.audit import classes_of
from vfsim.testing.scenario import ScenarioProgram


class Info:
    """Undeclared: a number and a list, used by every directory."""

    def __init__(self) -> None:
        self.lock = Mutex("info")
        self.made = 0
        self.names: list[str] = []
        self.limit = 100


@kernel_struct
class Declared:
    """The same number, declared."""

    made: Annotated[int, shared] = 0


class CarelessDir(RamDirectory):
    """Counts what it makes, without a lock."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        info = dir.i_sb.s_fs_info
        assert len(info.names) < info.limit
        info.made += 1
        info.names.append(dentry.d_name)
        super().mknod(dir, dentry, mode, dev)


class CarelessFS(RamFS):
    """A ramfs that counts its files."""

    name = "carelessfs"
    directory: RamDirectory = CarelessDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = Info()


class CarefulDir(RamDirectory):
    """Counts under a lock, and what is declared without."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        info, declared = dir.i_sb.s_fs_info
        with info.lock:
            info.made += 1
            info.names.append(dentry.d_name)
        declared.made += 1
        super().mknod(dir, dentry, mode, dev)


class CarefulFS(RamFS):
    """The same with a lock."""

    name = "carefulfs"
    directory: RamDirectory = CarefulDir()

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_fs_info = (Info(), Declared())


class TwoDirectories(vfsim.Scenario):
    """Two processes make files in two directories."""

    def setup(self, sys: Any) -> None:
        sys.mkdir("/d")
        sys.mkdir("/e")

    @vfsim.task
    def one(self, sys: Any) -> None:
        sys.close(sys.open("/d/a", os.O_CREAT | os.O_RDWR, 0o644))

    @vfsim.task
    def two(self, sys: Any) -> None:
        sys.close(sys.open("/e/b", os.O_CREAT | os.O_RDWR, 0o644))


def program(filesystem: Any) -> ScenarioProgram:
    return ScenarioProgram(TwoDirectories, filesystem, audit=True)


def test_undeclared_state_is_found() -> None:
    """A number and a list that every directory uses: whose they are, and what to do."""
    with pytest.raises(BugFound) as caught:
        explore(program(CarelessFS), schedules=5)
    found = {f.violation.rule: f for f in caught.value.exploration.failures}
    assert set(found) == {"undeclared.Info.made", "undeclared.Info.names"}
    number = found["undeclared.Info.made"]
    assert number.violation.blamed == "filesystem CarelessDir.mknod"
    assert "which nothing declares" in number.report
    assert "`made: Annotated[..., shared]`" in number.report
    assert "hold one lock wherever it is looked into" in found["undeclared.Info.names"].report
    result = replay(decode(number.token), program(CarelessFS))
    assert result.reproduced
    assert ("audit", 1) in decode(number.token).options


class LookingDir(RamDirectory):
    """Looks at a list that another process changes in place."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        info = dir.i_sb.s_fs_info
        if dentry.d_name == "a":
            info.names.append("a")
        else:
            assert len(info.names) < 2
        super().mknod(dir, dentry, mode, dev)


class LookingFS(CarelessFS):
    """The same ramfs with such directories."""

    name = "lookingfs"
    directory: RamDirectory = LookingDir()


def test_who_looks_into_what_another_changes_is_found() -> None:
    """The list stays the same object: what is in it was written."""
    found = execute(program(LookingFS), POS(1)).violations
    assert [violation.rule for violation in found] == ["undeclared.Info.names"]


def test_what_is_declared_or_locked_is_silent() -> None:
    """A lock around it, a declaration, or nobody who writes: no finding."""
    for seed in range(10):
        assert not execute(program(CarefulFS), POS(seed)).violations


def test_without_an_audit_nothing_is_said() -> None:
    """Undeclared state is invisible otherwise."""
    for seed in range(10):
        assert not execute(ScenarioProgram(TwoDirectories, CarelessFS), POS(seed)).violations


def test_it_leaves_nothing_behind() -> None:
    """Classes and slots are what they were when another machine runs."""
    install(POINTS)
    before = [dict(vars(cls)) for cls in (Info, CarelessDir, Inode, SuperBlock)]
    execute(program(CarelessFS), RoundRobin())
    assert "__getattribute__" in vars(Info)
    install(POINTS)
    assert [dict(vars(cls)) for cls in (Info, CarelessDir, Inode, SuperBlock)] == before


def test_the_classes_of_a_filesystem() -> None:
    """Those of its own file; not what it imports from vfsim."""
    found = classes_of(CarelessFS)
    assert Info in found
    assert CarelessDir in found
    assert RamDirectory not in found
    assert Mutex not in found


def in_task(body: Callable[[Audit], None]) -> None:
    """Run something in a task of a machine under an audit."""
    audit = Audit([Info], [])
    machine = Machine(judge=KernelJudge())
    machine.access = audit
    machine.spawn(body, audit)
    try:
        machine.run()
    finally:
        machine.bury()
        install(POINTS)


def test_containers_are_what_they_were() -> None:
    """A container that is watched behaves like the real one, and writes go through to it."""

    def body(audit: Audit) -> None:
        info: Any = Info()
        real = info.__dict__["names"]
        assert type(info.names) is Seen
        assert isinstance(info.names, list)
        info.names.append("b")
        info.names += ["a"]
        assert real == ["b", "a"]
        assert sorted(info.names) == ["a", "b"]
        assert info.names == ["b", "a"]
        assert "b" in info.names
        assert info.names[-1] == "a"
        assert len(info.names) == 2
        assert bool(info.names)
        del info.names[0]
        assert [*info.names] == ["a"]
        assert [*info.names, "c"] == ["a", "c"]
        info.names = {"x": {"y": 1}}
        info.names["x"]["z"] = 2
        assert dict(info.names) == {"x": {"y": 1, "z": 2}}
        assert {**info.names} == {"x": {"y": 1, "z": 2}}
        assert info.names | {"q": 1} == {"x": {"y": 1, "z": 2}, "q": 1}
        assert info.names.pop("x") == {"y": 1, "z": 2}
        assert not info.names
        kept = info.names
        info.names = kept
        assert type(info.__dict__["names"]) is dict

    in_task(body)
