"""The library's scenarios about whole filesystems, on a filesystem that can be frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vfsim.block.disk import RamDisk
from vfsim.explore.execute import execute
from vfsim.explore.explore import BugFound, explore
from vfsim.explore.strategies import maker
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import Inode
from vfsim.fs.super import SuperBlock
from vfsim.sim.workqueue import DelayedWork, cancel_delayed_work_sync, schedule_delayed_work
from vfsim.testing.scenarios import whole
from vfsim.testing.scenarios.base import LibraryScenario
from vfsim.testing.selftest.mutants import patched


class Freezable(WholeFS):
    """The filesystem with every method, on a disk of its own."""

    device = RamDisk(sectors=2048)


GROUPS = (whole.freezing, whole.remounting, whole.binding, whole.ending)
ALL = [s for group in GROUPS for s in group()]


def on_disk(found: type[LibraryScenario]) -> type[LibraryScenario]:
    return type(found.__name__, (found,), {"filesystem": Freezable, "__module__": __name__})


@pytest.mark.parametrize("found", ALL, ids=lambda s: s.__name__)
def test_they_are_clean_on_a_clean_filesystem(found: type[LibraryScenario]) -> None:
    """No schedule gives what no order of calls gives."""
    assert explore(on_disk(found), schedules=25).verdict == "clean"


def test_an_oracle_knows_more_than_one_outcome() -> None:
    """A remount that comes first, last, or finds somebody writing."""
    found = on_disk(next(s for s in ALL if s.__name__ == "remount(/,ro) ∥ create(a)"))
    answers = {tuple(a[0] for a in o.answers) for o in found.prepare(found.program())}
    assert answers == {("ok", "EROFS"), ("ok", "ok"), ("EBUSY", "ok")}


@contextmanager
def uncounted() -> Iterator[None]:
    """A kernel whose system calls do not count themselves as writers."""

    def nothing(real: Any, sb: SuperBlock) -> None:
        pass

    names = ("sb_start_write", "sb_end_write")
    with patched({f"vfsim.fs.writers.{name}": nothing for name in names}):
        yield


def test_a_kernel_that_forgets_to_count_writers_is_caught() -> None:
    """By the rule, before the tree changes while it is frozen."""
    found = on_disk(next(s for s in ALL if s.__name__ == "freeze(/) ∥ create(a)"))
    with uncounted():
        violations = execute(found.program(), maker("pos")(1, 1000)).violations
    assert violations[0].rule == "E6" and violations[0].blamed == "kernel"


class PutsOff(RamDirectory):
    """Leaves the number of a new file to a work that comes later."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        super().mknod(dir, dentry, mode, dev)
        sb = dir.i_sb
        work = DelayedWork(lambda work: sb.s_root.d_sb, "later")
        sb.s_type.works.append(work)  # type: ignore[attr-defined]
        schedule_delayed_work(work, 1_000_000_000)


class Forgetful(RamFS):
    name = "forgetful"
    directory = PutsOff()

    def __init__(self) -> None:
        self.works: list[DelayedWork] = []


class Careful(Forgetful):
    name = "careful"

    def kill_sb(self, sb: SuperBlock) -> None:
        for work in self.works:
            cancel_delayed_work_sync(work)
        super().kill_sb(sb)


@pytest.mark.parametrize("found", list(whole.ending()), ids=lambda s: s.__name__)
def test_a_work_that_outlives_the_superblock_is_caught(found: type[LibraryScenario]) -> None:
    """While the world has not come to rest; the twin that cancels it is clean."""
    names = {"__module__": __name__}
    broken = type(found.__name__, (found,), {"filesystem": Forgetful, **names})
    fixed = type(found.__name__, (found,), {"filesystem": Careful, **names})
    with pytest.raises(BugFound) as caught:
        explore(broken, schedules=20)
    violation = caught.value.exploration.failures[0].violation
    assert violation.rule == "lifetime.use-after-free"
    assert violation.blamed.startswith("filesystem PutsOff.mknod")
    assert explore(fixed, schedules=25).verdict == "clean"
