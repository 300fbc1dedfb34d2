"""The library's scenarios about whole filesystems, on a filesystem that can be frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vfsim.block.disk import RamDisk
from vfsim.explore.execute import execute
from vfsim.explore.explore import explore
from vfsim.explore.strategies import maker
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs.super import SuperBlock
from vfsim.testing.scenarios import whole
from vfsim.testing.scenarios.base import LibraryScenario
from vfsim.testing.selftest.mutants import patched


class Freezable(WholeFS):
    """The filesystem with every method, on a disk of its own."""

    device = RamDisk(sectors=2048)


ALL = [s for group in (whole.freezing, whole.remounting, whole.binding) for s in group()]


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
