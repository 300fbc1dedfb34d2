"""autofs: filesystems that come when they are wanted, and go."""

from __future__ import annotations

import errno
import os

import pytest

import vfsim
from vfsim.filesystems.autofs import EXPIRE, AutoFS
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.dcache import Dentry
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import ENODEV
from vfsim.sim.scheduler import msleep
from vfsim.testing.check import check_filesystem


class Broken(RamFS):
    """What cannot be mounted."""

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Never sleeps.  There is no such server."""
        raise ENODEV()


class Map(AutoFS):
    """One name that works, one that does not."""

    map = {"home": RamFS(), "broken": Broken()}


def mounted(sys: Sys) -> int:
    """How many mounts there are."""
    return len(sys.mounts())


def test_who_goes_in_has_it_mounted() -> None:
    """Looking mounts nothing; going in does, once; nobody else makes names."""

    def look(sys: Sys) -> None:
        assert sorted(sys.listdir("/")) == ["broken", "home"]
        before = sys.stat("/home").st_dev
        assert mounted(sys) == 1
        sys.mkdir("/home/me")
        assert mounted(sys) == 2 and sys.stat("/home").st_dev != before
        assert sys.listdir("/home/") == ["me"]
        with pytest.raises(PermissionError):
            sys.mkdir("/other")
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                sys.listdir("/broken")
            assert caught.value.errno == errno.ENODEV

    with Kernel() as k:
        k.mount(Map, "/")
        k.call(look)
        k._check()


def test_unused_mounts_go() -> None:
    """Not while somebody stands in it; then after two looks; and it comes again."""

    def live(sys: Sys) -> None:
        sys.chdir("/home")
        msleep(4 * EXPIRE)
        assert mounted(sys) == 2
        sys.chdir("/")
        msleep(4 * EXPIRE)
        assert mounted(sys) == 1
        sys.listdir("/home")
        assert mounted(sys) == 2

    with Kernel() as k:
        k.mount(Map, "/")
        k.call(live)
        k._check()


class WalksAgainstExpiry(vfsim.Scenario):
    """Many come at once, stay a while and come again when it is about to go: each arrives."""

    filesystem = Map

    def walk(self, sys: Sys, *naps: int) -> None:
        for nap in naps:
            fd = sys.open("/home/", os.O_RDONLY | os.O_DIRECTORY)
            assert mounted(sys) == 2
            sys.close(fd)
            msleep(nap)

    @vfsim.task
    def soon(self, sys: Sys) -> None:
        self.walk(sys, EXPIRE, 2 * EXPIRE)

    @vfsim.task
    def later(self, sys: Sys) -> None:
        self.walk(sys, 2 * EXPIRE, 1)

    @vfsim.task
    def last(self, sys: Sys) -> None:
        self.walk(sys, 1, 3 * EXPIRE)


def test_walks_against_expiry() -> None:
    """In a few schedules."""
    assert vfsim.explore(WalksAgainstExpiry, schedules=60).distinct > 50


@pytest.mark.soak
def test_walks_against_expiry_for_long() -> None:
    """In 100,000."""
    assert vfsim.explore(WalksAgainstExpiry, schedules=100_000).run == 100_000


def test_autofs_is_what_linux_expects_of_a_filesystem() -> None:
    """The suite and the corpus find nothing: what it brings with it, and mounts when somebody looks
    inside, is no change.
    """
    checked = check_filesystem("vfsim.filesystems.autofs", schedules=1)
    assert (checked.verdict, checked.failed) == ("clean", 0) and checked.passed > 400
