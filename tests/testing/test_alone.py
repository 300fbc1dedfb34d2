"""Failing assertions are told with the calls they need, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from vfsim.explore.replay import replay
from vfsim.explore.token import decode
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.testing import check as checking
from vfsim.testing.alone import ConformanceProgram
from vfsim.testing.check import Subject, check_filesystem
from vfsim.testing.conformance.suite import Assertion, put, refused, same, take, touch
from vfsim.testing.scenario import as_small


class OneLinkDir(RamDirectory):
    """Forgets that a hard link is one link more."""

    def link(self, old_dentry: Any, dir: Any, dentry: Any) -> None:
        links = old_dentry.d_inode.i_nlink
        super().link(old_dentry, dir, dentry)
        old_dentry.d_inode.i_nlink = links


class OneLinkFS(RamFS):
    name = "onelink"
    directory = OneLinkDir()


def much_ado(sys: Any) -> None:
    sys.mkdir("/d")
    touch(sys, "/d/x")
    sys.chmod("/d/x", 0o600)
    put(sys, "/a", b"hello")
    same(take(sys, "/a"), b"hello")
    refused(17, sys.mkdir, "/d")
    sys.link("/a", "/b")
    sys.unlink("/d/x")
    same(sys.stat("/b").st_nlink, 2, "st_nlink")


def beforehand(sys: Any) -> None:
    touch(sys, "/z")
    sys.mkdir("/y")


ADO = Assertion("x.much-ado", "x", "much ado about a link", much_ado, given=beforehand)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One assertion, no corpus, no scenarios."""
    monkeypatch.setattr(checking, "assertions", lambda: iter([ADO]))
    monkeypatch.setattr(checking, "library", list)
    monkeypatch.setattr(checking, "areas", dict)


def test_only_the_calls_that_are_needed_are_told() -> None:
    """Of nineteen calls three are left, of two mounts one; the message is the same."""
    (long,) = check_filesystem(OneLinkFS, shrink=False).failures
    (short,) = check_filesystem(OneLinkFS).failures
    assert short.violation.summary == long.violation.summary
    assert len(long.violation.details) > 18
    assert "  -- another mount --" in long.violation.details
    assert [line.split("(")[0].strip() for line in short.violation.details] == [
        "open", "link", "stat",
    ]  # fmt: skip


def test_what_is_left_is_replayed() -> None:
    """The token leads to the shorter assertion, and to the same trace."""
    (failure,) = check_filesystem(OneLinkFS).failures
    token = decode(failure.token)
    program = as_small(Subject("", OneLinkFS).program(token.scenario), dict(token.options))
    again = replay(token, program)
    assert again.reproduced and again.exact
    assert again.failures[0].violation.details == failure.violation.details


def program(filesystem: type[RamFS]) -> ConformanceProgram:
    subject = Subject("", filesystem)
    return ConformanceProgram(subject, ADO, subject.probe())


def test_what_ramfs_fails_is_not_offered() -> None:
    """Neither the link nor the file it is about can go: then ramfs would fail, too."""
    offered = {min(less.left_out) for less in program(OneLinkFS).smaller()}
    names = [str(answer) for answer in program(OneLinkFS).answers]
    assert len(offered) > 8
    assert len(names) - 1 not in offered  # the stat whose answer is wrong
    assert all(less.left_out for less in program(RamFS).smaller())


def test_a_call_that_is_not_there_cannot_go() -> None:
    """A token of another suite is refused, and does not run something else."""
    for part in ("99", "x"):
        with pytest.raises(LookupError, match="calls, not"):
            program(OneLinkFS).without(part)


def test_a_long_assertion_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of calls nothing is tried: it would take too long."""
    monkeypatch.setattr("vfsim.testing.alone._MOST_CALLS", 5)
    assert list(program(OneLinkFS).smaller()) == []
