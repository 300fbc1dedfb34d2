"""overfs under many schedules, and overfs with mistakes in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.filesystems.overfs_world import TREE, errno_of, look, world
from vfsim.explore.explore import search
from vfsim.filesystems.overfs import OverFS, OverNames, copying, names
from vfsim.filesystems.overfs.attributes import OverAttributes
from vfsim.filesystems.overfs.layers import entry_of, upper_of
from vfsim.filesystems.overfs.names import OverDirectory
from vfsim.fs.attr import IAttr, KStat
from vfsim.fs.dcache import Dentry, d_alloc, d_inode, dput
from vfsim.fs.directory import vfs_mkdir
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import Mount
from vfsim.fs.operations import FileSystemType
from vfsim.fs.read_write import vfs_write
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import KernelBug, Violation
from vfsim.sim.scheduler import msleep
from vfsim.testing.check import Subject
from vfsim.testing.scenario import ScenarioProgram
from vfsim.testing.scenarios import library
from vfsim.testing.scenarios.base import LibraryScenario

# -- many schedules --------------------------------------------------------------------------------


def writes_x(sys: Sys) -> int:
    """Copies it up."""

    def write() -> None:
        fd = sys.open("/over/d/x", os.O_WRONLY)
        sys.write(fd, b"UPPER")
        sys.close(fd)

    return errno_of(write)


def chmods_x(sys: Sys) -> int:
    """Copies it up as well."""
    return errno_of(sys.chmod, "/over/d/x", 0o600)


def chmods_open_x(sys: Sys) -> int:
    """The same, though somebody may have removed it meanwhile."""

    def chmod() -> None:
        fd = sys.open("/over/d/x")
        sys.fchmod(fd, 0o500)
        sys.close(fd)

    return errno_of(chmod)


def unlinks_x(sys: Sys) -> int:
    """Leaves a whiteout."""
    return errno_of(sys.unlink, "/over/d/x")


def renames_x(sys: Sys) -> int:
    """Onto a file of the lower tree."""
    return errno_of(sys.rename, "/over/d/x", "/over/d/y")


def renames_g_to_x(sys: Sys) -> int:
    """Another file takes the name."""
    return errno_of(sys.rename, "/over/g", "/over/d/x")


def removes_e(sys: Sys) -> list[int]:
    """A directory of the lower tree, emptied and removed."""
    return [errno_of(sys.unlink, "/over/d/e/z"), errno_of(sys.rmdir, "/over/d/e")]


def opens_z(sys: Sys) -> int:
    """Copies up all the way."""
    return errno_of(lambda: sys.close(sys.open("/over/d/e/z", os.O_RDWR)))


def makes_in_e(sys: Sys) -> int:
    """Copies the directory up."""
    return errno_of(sys.mkdir, "/over/d/e/n")


def lists_d(sys: Sys) -> list[str]:
    """Both trees."""
    return sorted(sys.listdir("/over/d"))


def after(*actors: Callable[[Sys], Any], **how: Any) -> tuple[list[Any], Any]:
    """What the actors got, and what the tree is like when all of them are through."""
    with world(**how) as kernel:
        tasks = [kernel.process(actor, name=actor.__name__) for actor in actors]
        kernel.run()

        def whole(sys: Sys) -> Any:
            assert look(sys, "/layers/lower") == TREE
            assert sys.listdir("/layers/work") == []
            return look(sys, "/over")

        tree = kernel.call(whole)
        kernel._check()
        return [task.result for task in tasks], tree


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "actors",
    [
        (writes_x, chmods_x, renames_x),
        (writes_x, unlinks_x),
        (writes_x, renames_g_to_x, chmods_open_x),
        (opens_z, removes_e, makes_in_e),
        (chmods_open_x, unlinks_x, writes_x),
        (renames_x, renames_g_to_x, lists_d, writes_x),
    ],
    ids=lambda actors: "+".join(actor.__name__ for actor in actors),
)
def test_copies_against_everything(actors: tuple[Callable[[Sys], Any], ...], seed: int) -> None:
    """No rule is broken, nothing comes back to life, and nothing is half there."""
    results, tree = after(*actors, seed=seed, strategy="pos" if seed % 2 else "random", races=True)
    got = dict(zip((actor.__name__ for actor in actors), results, strict=True))
    if "unlinks_x" in got:
        assert got["unlinks_x"] == 0 and "x" not in tree["d"]
    if "removes_e" in got:
        removed = got["removes_e"] == [0, 0]
        assert removed == ("e" not in tree["d"]) == (got["makes_in_e"] != 0)
        assert removed or tree["d"]["e"] == {"n": {}}
    if "renames_x" in got and not got["renames_x"]:
        begins = tree["d"]["y"][:5]
        assert begins in (b"lower", b"UPPER")
    for name in ("f", "empty", "l"):
        assert tree[name] == TREE[name]


# -- the scenario library, with all that is there before in the lower tree -------------------------

ABLE = Subject("overfs", OverFS).probe().has


def sunk(scenario: type[LibraryScenario]) -> ScenarioProgram:
    """A scenario that begins with a full lower tree and an empty upper one."""
    tree: dict[str, Any] = {}
    for what, path, content in scenario.before:
        *above, name = path.strip("/").split("/")
        at = tree
        for directory in above:
            at = at[directory]
        at[name] = {} if what == "dir" else content
    filesystem = type("Sunk", (OverFS,), {"sample": tree})
    empty = type(scenario.__name__, (scenario,), {"before": ()})
    return ScenarioProgram(empty, filesystem, mount_options="sample", target="overfs")


def sinkable() -> list[type[LibraryScenario]]:
    """The scenarios that have something to sink; hard links of the lower tree are none here."""
    return [
        scenario
        for scenario in library()
        if issubclass(scenario, LibraryScenario)
        and scenario.before
        and frozenset(scenario.needs.split()) <= ABLE
        and all(what != "link" for what, _, _ in scenario.before)
    ]


def failures(scenario: type[LibraryScenario], schedules: int) -> list[str]:
    """What many schedules find: the oracle is what one call after the other gives on the same
    trees.
    """
    found = search(sunk(scenario), schedules=schedules, strategy="pos", seed=0, races=True)
    return [str(failure.violation) for failure in found.failures]


@pytest.mark.parametrize("scenario", sinkable()[::24], ids=lambda scenario: scenario.__name__)
def test_sunk_scenarios(scenario: type[LibraryScenario]) -> None:
    """Copy-up and whiteouts do not show: every outcome is that of some order of whole calls."""
    assert failures(scenario, 3) == []


@pytest.mark.soak
@pytest.mark.parametrize("scenario", sinkable(), ids=lambda scenario: scenario.__name__)
def test_all_sunk_scenarios(scenario: type[LibraryScenario]) -> None:
    """The same of the whole library, in many schedules."""
    assert failures(scenario, 100) == []


# -- mutants ---------------------------------------------------------------------------------------


class BackwardsAttributes(OverAttributes):
    """Locks the upper inode, then its own."""

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Sleeps.  What setattr does the other way round."""
        upper = entry_of(dentry).upper
        if upper is None:
            return super().getattr(mnt, dentry)
        with d_inode(upper).i_rwsem, d_inode(dentry).i_rwsem:
            return super().getattr(mnt, dentry)


class Backwards(OverFS):
    """Takes the locks of the upper filesystem before those of overfs."""

    file = BackwardsAttributes()


class UnlockedDirectory(OverDirectory):
    """Forgets who else may be in the upper directory."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  Makes something beneath without the upper directory's lock."""
        copying.copy_up(dentry.d_parent)
        upperdir = upper_of(dentry.d_parent)
        made = d_alloc(upperdir, "made")
        vfs_mkdir(d_inode(upperdir), made, 0o755)
        dput(made)
        super().mkdir(dir, dentry, mode)


class Unlocked(OverFS):
    """Changes the upper tree without its locks."""

    directory = UnlockedDirectory()


class UnwrittenAttributes(OverAttributes):
    """Nobody told the upper mount that it is written."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  Without write access."""
        copying.copy_up(dentry)


class Unwritten(OverFS):
    """Copies up although the upper filesystem may be frozen."""

    file = UnwrittenAttributes()


class SleepyNames(OverNames):
    """Copies up whenever it is asked."""

    def d_real(self, dentry: Dentry, inode: Inode | None, open_flags: int) -> Dentry:
        """Sleeps.  Also where that is not allowed: nothing is opened."""
        msleep(1)
        return super().d_real(dentry, inode, open_flags)


class Sleepy(OverFS):
    """Sleeps in d_real."""

    names = SleepyNames()


class LeakyNames(OverNames):
    """Keeps what it stood for."""

    def d_release(self, dentry: Dentry) -> None:
        """Never sleeps.  Forgets to put the dentries beneath."""


class Leaky(OverFS):
    """Leaks references on the upper tree."""

    names = LeakyNames()


def found(over: type[FileSystemType], body: Callable[[Sys], Any]) -> list[Violation]:
    """What is wrong with an overfs when that is done on it."""
    kernel = Kernel()
    try:
        kernel.mount(over, "/", options="sample")
        kernel.call(body)
        kernel.close()
    except KernelBug:
        pass
    finally:
        kernel.machine.bury()
    return kernel.violations


def changes(sys: Sys) -> None:
    """Change attributes, and look at them."""
    sys.chmod("/README", 0o600)
    sys.stat("/README")


def makes(sys: Sys) -> None:
    """Make a directory."""
    sys.mkdir("/d")


def renames(sys: Sys) -> None:
    """Rename."""
    sys.rename("/README", "/bin/README")


MUTANTS: list[tuple[type[OverFS], Callable[[Sys], Any], str, str]] = [
    (Backwards, changes, "lockdep.circular", "BackwardsAttributes.getattr"),
    (Unlocked, makes, "inode_operations.mkdir.i_mutex(inode)", "UnlockedDirectory.mkdir"),
    (Unwritten, changes, "E6", "UnwrittenAttributes.setattr"),
    (Sleepy, renames, "dentry_operations.d_real.may block", "SleepyNames.d_real"),
    (Leaky, renames, "leak.dentry", "OverDirectory.rename"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant[0].__name__)
def test_mutants(mutant: tuple[type[OverFS], Callable[[Sys], Any], str, str]) -> None:
    """Each mistake breaks the rule that it should, and its method is to blame; without it:
    silence.
    """
    over, body, rule, blamed = mutant
    assert found(OverFS, body) == []
    first = found(over, body)[0]
    assert (first.rule, first.blamed) == (rule, f"filesystem {blamed}")


def test_a_copy_that_waits_for_its_own_write_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is copied inside the write level, so a write that takes it again may wait for a freeze
    that waits for the first.
    """
    monkeypatch.setattr(copying, "kernel_write", vfs_write)
    rules = {violation.rule for violation in found(OverFS, changes)}
    assert "lockdep.recursion" in rules


def test_a_copy_that_forgets_who_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OverEntry.removed a file comes back under its old name."""

    def body(sys: Sys) -> list[str]:
        fd = sys.open("/README")
        sys.unlink("/README")
        sys.fchmod(fd, 0o600)
        sys.close(fd)
        return sorted(sys.listdir("/"))

    def listed() -> Any:
        with Kernel() as kernel:
            kernel.mount(OverFS, "/", options="sample")
            return kernel.call(body)

    assert listed() == ["bin", "empty", "man"]
    remove = names.remove_and_whiteout

    def forgetful(dentry: Dentry) -> None:
        remove(dentry)
        entry_of(dentry).removed = False

    monkeypatch.setattr(names, "remove_and_whiteout", forgetful)
    assert listed() == ["README", "bin", "empty", "man"]
