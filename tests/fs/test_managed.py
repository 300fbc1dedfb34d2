"""Managed dentries: automounts, and filesystems that want a word in transit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs.dcache import DCACHE_MANAGE_TRANSIT, DCACHE_NEED_AUTOMOUNT, Dentry, dget
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.managed import finish_automount
from vfsim.fs.mount import Mount, Path, mntget, mntput, path_put
from vfsim.fs.namei import user_path
from vfsim.fs.namespace import vfs_kern_mount
from vfsim.fs.operations import DentryOperations
from vfsim.fs.process import current_cred
from vfsim.fs.super import MS_NOSUID, SuperBlock, mount_single
from vfsim.fs.syscalls import Sys
from vfsim.fs.umount import mark_mounts_for_expiry, mnt_set_expiry
from vfsim.sim.errors import EACCES, ECHILD, EISDIR
from vfsim.sim.scheduler import msleep


class Inside(RamFS):
    """What the triggers mount: always the same tree."""

    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  As sysfs does."""
        return mount_single(self, flags, data, self.fill_super)


class Names(DentryOperations):
    """What a trigger does is told by its name."""

    def __init__(self) -> None:
        self.inside = Inside()
        self.mounted = 0
        self.passed: list[tuple[str, bool]] = []

    def d_automount(self, path: Path) -> Mount | None:
        """Sleeps.  A ramfs, after a while."""
        name = path.dentry.d_name
        if name == "auto-denied":
            raise EACCES()
        if name == "auto-later":
            raise EISDIR()
        msleep(1)
        assert current_cred().uid == 0
        self.mounted += 1
        return mntget(vfs_kern_mount(self.inside, 0, "auto", None))

    def d_manage(self, path: Path, rcu_walk: bool) -> None:
        """Never sleeps.  Closed, plain, or open."""
        name = path.dentry.d_name
        self.passed.append((name, rcu_walk))
        if name == "transit-plain":
            raise EISDIR()
        if rcu_walk and name == "transit-slow":
            raise ECHILD()
        if name == "transit-closed":
            raise EACCES()


class Directory(RamDirectory):
    """New directories are triggers, or in transit, if they are called so."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  As ramfs."""
        super().mkdir(dir, dentry, mode)
        with dentry.d_lock:
            if dentry.d_name.startswith("auto"):
                dentry.d_flags |= DCACHE_NEED_AUTOMOUNT
            if dentry.d_name.startswith("transit"):
                dentry.d_flags |= DCACHE_MANAGE_TRANSIT


class Managed(RamFS):
    """ramfs with triggers."""

    directory = Directory()

    def __init__(self) -> None:
        self.names = Names()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_d_op = self.names
        super().fill_super(sb, data)


def run(program: Callable[[Sys, Names], None]) -> None:
    """A program on a fresh `Managed`."""
    fs = Managed()
    with Kernel() as k:
        k.mount(fs, "/")
        k.call(program, fs.names)
        k._check()


@pytest.mark.parametrize("enter", ["slash", "through", "open", "chdir", "create"])
def test_who_goes_in_has_it_mounted(enter: str) -> None:
    """Whoever wants what is inside; and once it is there nobody is asked again."""

    def program(sys: Sys, names: Names) -> None:
        sys.mkdir("/auto")
        before = sys.stat("/auto").st_dev
        assert names.mounted == 0, "who only looks gets the trigger"
        if enter == "slash":
            assert sys.stat("/auto/").st_dev != before
        elif enter == "through":
            assert sys.stat("/auto/..").st_dev == before
        elif enter == "open":
            sys.close(sys.open("/auto", os.O_RDONLY | os.O_DIRECTORY))
        elif enter == "chdir":
            sys.chdir("/auto")
            assert sys.stat(".").st_dev != before
            sys.chdir("/")
        else:
            sys.close(sys.open("/auto/f", os.O_CREAT | os.O_WRONLY))
        assert names.mounted == 1
        assert sys.stat("/auto").st_dev != before
        sys.mkdir("/auto/d")
        assert names.mounted == 1

    run(program)


def test_what_a_trigger_can_say(expect: Expect) -> None:
    """An error is the walk's; "not this time" is a directory at the end of a path only."""

    def program(sys: Sys, names: Names) -> None:
        for name in ("auto-denied", "auto-later"):
            sys.mkdir(f"/{name}")
        expect.EACCES(sys.stat, "/auto-denied/")
        assert sys.listdir("/auto-later") == []
        expect.EREMOTE(sys.stat, "/auto-later/x")

    run(program)


def test_users_need_no_rights_for_an_automount() -> None:
    """The filesystem mounts with root's rights, and the walk goes on with its own."""

    def program(sys: Sys, names: Names) -> None:
        sys.mkdir("/auto")
        sys.setuid(1000)
        assert sys.listdir("/auto") == []
        assert names.mounted == 1 and sys.getuid() == 1000

    run(program)


@pytest.mark.parametrize("seed", range(40))
def test_two_walks_one_mount(seed: int) -> None:
    """Both ask the filesystem, one mount is put there, and both arrive in it."""
    fs = Managed()

    def walker(sys: Sys) -> int:
        return sys.stat("/auto/").st_dev

    with Kernel(seed=seed, races=True) as k:
        k.mount(fs, "/")
        k.call(lambda sys: sys.mkdir("/auto"))
        tasks = [k.process(walker, name=f"walker{i}") for i in range(2)]
        k.run()
        k._check()
        mounts = k.call(lambda sys: sys.mounts())
    assert tasks[0].result == tasks[1].result
    assert len(mounts) == 2 and fs.names.mounted in (1, 2)


def test_a_mount_that_is_not_wanted_leaves_its_list(expect: Expect) -> None:
    """Somebody was first (EBUSY), or it would be mounted on itself (ELOOP): nobody looks at it to
    expire any more; one that is mounted is looked at, and has the flags of where it is.
    """
    fs = Managed()
    expiring: dict[Mount, None] = {}

    def automount(mnt: Mount, dentry: Dentry) -> bool:
        new = mntget(vfs_kern_mount(fs.names.inside, 0, "auto", None))
        mnt_set_expiry(new, expiring)
        path = Path(mntget(mnt), dget(dentry))
        try:
            added = finish_automount(new, path)
        finally:
            path_put(path)
        if added:
            mntput(new)
        return added

    def program(sys: Sys) -> None:
        sys.mkdir("/d")
        at = user_path("/d")
        assert automount(at.mnt, at.dentry)
        assert not automount(at.mnt, at.dentry)
        [mnt] = expiring
        expect.ELOOP(automount, mnt, mnt.mnt_root)
        assert list(expiring) == [mnt]
        assert ["nosuid" in line for line in sys.mounts()] == [True, True]
        path_put(at)
        mark_mounts_for_expiry(expiring)
        mark_mounts_for_expiry(expiring)
        assert not expiring and len(sys.mounts()) == 1

    with Kernel() as k:
        k.mount(fs, "/", flags=MS_NOSUID)
        k.call(program)
        k._check()


def test_transit(expect: Expect) -> None:
    """It is asked in rcu-walk; ECHILD asks again with references; EACCES closes the way."""

    def program(sys: Sys, names: Names) -> None:
        for name in ("open", "slow", "closed"):
            sys.mkdir(f"/transit-{name}")
        names.passed.clear()
        sys.stat("/transit-open/.")
        assert names.passed == [("transit-open", True)]
        names.passed.clear()
        sys.stat("/transit-slow/.")
        assert names.passed == [("transit-slow", True), ("transit-slow", False)]
        expect.EACCES(sys.stat, "/transit-closed/x")

    run(program)


def test_a_transit_can_hide_what_is_mounted() -> None:
    """EISDIR: an ordinary directory this time."""
    fs = Managed()

    def program(sys: Sys) -> None:
        sys.mkdir("/transit-plain")
        sys.mkdir("/transit-open")
        for name in ("plain", "open"):
            sys.mount("none", f"/transit-{name}", RamFS(), 0, "")  # type: ignore[arg-type]
        root = sys.stat("/").st_dev
        assert sys.stat("/transit-open").st_dev != root
        assert sys.stat("/transit-plain").st_dev == root

    with Kernel() as k:
        k.mount(fs, "/")
        k.call(program)
        k._check()
