"""Random programs: our kernel and the one underneath agree after every call."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing import host
from tests.testing.differential import LENGTH, MAY_DIFFER, Both, program, smaller
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode, inc_nlink
from vfsim.testing.conformance import Capabilities, KernelGround, probe
from vfsim.testing.model import Call

IMPOSSIBLE = host.possible()
asks_host = pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)

CALLS = 20_000
MANY_CALLS = 1_000_000


def difference(filesystem: type[Any], calls: int) -> str:
    """The first difference in so many calls."""
    has = probe(KernelGround(filesystem, checks=False)).has
    numbers = range(calls // LENGTH)
    found = host.in_child(host.Tmpfs(), lambda g: Both(g, filesystem).search(numbers, has))
    return str(found)


@asks_host
def test_our_kernel_is_linux() -> None:
    """20,000 random calls: what is said and every tree are Linux's."""
    assert difference(RamFS, CALLS) == ""


@pytest.mark.soak
@asks_host
def test_our_kernel_is_linux_for_long() -> None:
    """The same with a million."""
    assert difference(RamFS, MANY_CALLS) == ""


class ForgetfulDirectory(RamDirectory):
    """A directory that is gone should take a link from its parent."""

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        super().rmdir(dir, dentry)
        inc_nlink(dir)


class ForgetfulFS(RamFS):
    name = "forgetfulfs"
    directory = ForgetfulDirectory()


class TimelessDirectory(RamDirectory):
    """What is removed should change the times of where it was."""

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        times = dir.i_mtime, dir.i_ctime
        super().unlink(dir, dentry)
        dir.i_mtime, dir.i_ctime = times


class TimelessFS(RamFS):
    name = "timelessfs"
    directory = TimelessDirectory()


@asks_host
@pytest.mark.parametrize(
    ("filesystem", "call", "complaint"),
    [
        (ForgetfulFS, "rmdir", "Linux has ('dir', "),
        (TimelessFS, "unlink", "True, True), here is"),
    ],
)
def test_a_difference_is_found_and_made_smaller(
    filesystem: type[Any], call: str, complaint: str
) -> None:
    """What is reported of 40 calls is the one that shows the difference and the few it needs."""
    number, *told, difference_ = difference(filesystem, CALLS).splitlines()
    assert number.startswith("program ")
    assert told[-1].startswith(f"{call}(") and len(told) <= 6
    assert complaint in difference_


def test_programs_are_always_the_same() -> None:
    """A number stands for a program, whatever ran before; all kinds of calls come up."""
    has = Capabilities.everything().has
    assert program(7, has) == program(7, has) != program(8, has)
    names = {call.name for number in range(200) for call in program(number, has)}
    assert len(names) >= 40
    assert {call.name for call in program(7, frozenset())}.isdisjoint({"open", "mkdir", "link"})


def test_what_is_not_needed_is_dropped() -> None:
    """The smaller program has the calls that matter, in their order, and no other."""
    calls = [Call("mkdir", (f"/{n}", 0)) for n in range(40)]
    needed = {calls[3], calls[17], calls[39]}
    small = smaller(calls, lambda some: "fails" if needed <= set(some) else "")
    assert small == [calls[3], calls[17], calls[39]]


def test_every_excuse_has_a_reason() -> None:
    """The table of what may differ says why."""
    assert all(what and why for what, why in MAY_DIFFER.items())
