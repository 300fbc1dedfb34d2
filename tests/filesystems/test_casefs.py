"""casefs: one name in many spellings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vfsim.filesystems.casefs import CaseFS
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.testing.conformance import KernelGround, run_conformance


@pytest.fixture
def k() -> Iterator[Kernel]:
    """A kernel with casefs, clean at the end."""
    with Kernel() as kernel:
        kernel.mount(CaseFS, "/")
        yield kernel
        kernel._check()


def touch(sys: Sys, path: str) -> None:
    """A new file."""
    sys.close(sys.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def test_a_name_is_found_in_any_spelling(k: Kernel) -> None:
    """Every spelling leads to the same file, cached or not, and only one name is listed."""

    def run(sys: Sys) -> None:
        sys.mkdir("/Dir")
        touch(sys, "/dIR/ReadMe")
        ino = sys.stat("/Dir/ReadMe").st_ino
        for path in ("/DIR/README", "/dir/readme", "/Dir/../dIr/rEADmE"):
            assert sys.stat(path).st_ino == ino, path
        with pytest.raises(FileExistsError):
            touch(sys, "/DIR/README")
        assert sys.listdir("/dir") == ["ReadMe"]
        sys.unlink("/DIR/readme")
        assert sys.listdir("/dir") == []

    k.call(run)


def test_a_new_name_is_spelt_as_its_maker_wants(k: Kernel) -> None:
    """Somebody asked for another spelling before, in vain: that one is not used."""

    def run(sys: Sys) -> None:
        for asked, made in (("/readme", "/README"), ("/target", "/Target")):
            with pytest.raises(FileNotFoundError):
                sys.stat(asked)
            if made == "/README":
                touch(sys, made)
            else:
                sys.rename("/readme", made)
        assert sys.listdir("/") == ["Target"]

    k.call(run)


def test_names_that_are_equal_by_design_are_not_asked_to_differ() -> None:
    """A table with ``d_compare`` says that names are more than their bytes; ramfs has none."""
    for filesystem, status in ((CaseFS, "skipped"), (RamFS, "ok")):
        results = run_conformance(KernelGround(filesystem), areas=("create",))
        found = {result.id: result.status for result in results}
        assert found.pop("create.case-matters") == status
        assert set(found.values()) == {"ok"}
