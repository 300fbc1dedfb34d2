"""The conformance suite is right if Linux itself passes it: here it is asked of the kernel the
tests run on."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from stat import S_IFREG
from typing import TYPE_CHECKING, Any, cast

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import host

from vfsim.filesystems.libfs import (
    SimpleFileInodeOperations,
    simple_lookup,
    simple_unlink,
    touch,
)
from vfsim.filesystems.ramfs import RamDirectory, RamFS, ramfs_get_inode
from vfsim.fs.attr import ATTR_SIZE, IAttr, setattr_copy, setattr_prepare
from vfsim.fs.dcache import d_instantiate, dget
from vfsim.fs.inode import drop_nlink
from vfsim.fs.operations import InodeOperations
from vfsim.fs.strace import call_text
from vfsim.fs.super import SuperBlock
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import EEXIST
from vfsim.testing.conformance import (
    Capabilities,
    KernelGround,
    Nonconforming,
    Result,
    assertions,
    probe,
    run_assertion,
    run_conformance,
)
from vfsim.testing.conformance.calls import rows
from vfsim.testing.conformance.capabilities import METHODS
from vfsim.testing.conformance.suite import Assertion, register
from vfsim.testing.conformance.syscalls import Recorder, errno_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance import SystemCalls
    from vfsim.testing.conformance.ground import Step

AREAS = list(dict.fromkeys(assertion.area for assertion in assertions()))
PLACES = {"tmpfs": host.Tmpfs, "temporary-files": host.Plain}

IMPOSSIBLE = host.possible()
asks_host = pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)


@functools.cache
def on_host(place: str) -> dict[str, list[Result]]:
    """The suite's results on one kind of filesystem of the host, by area."""
    results = host.in_child(
        PLACES[place](), lambda ground: run_conformance(ground, Capabilities.everything())
    )
    by_area: dict[str, list[Result]] = {area: [] for area in AREAS}
    for result in results:
        by_area[result.area].append(result)
    return by_area


@asks_host
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("area", AREAS)
def test_linux_passes(area: str, place: str) -> None:
    """Every assertion about methods that are there holds on a filesystem of Linux."""
    results = on_host(place)[area]
    assert not [result.report() for result in results if not result.ok]


@asks_host
@pytest.mark.parametrize("place", PLACES)
def test_only_missing_methods_are_skipped(place: str) -> None:
    """On a filesystem with every method, only the assertions about missing ones are skipped."""
    skipped = {r.area for rs in on_host(place).values() for r in rs if r.status == "skipped"}
    assert skipped == {"missing"}


@asks_host
@pytest.mark.parametrize("place", PLACES)
def test_probe_finds_everything(place: str) -> None:
    """What trying can find out about a filesystem of Linux is all there."""
    assert host.in_child(PLACES[place](), probe) == Capabilities.everything()


@asks_host
def test_missing_methods_on_devpts() -> None:
    """The errno for a method left out is what Linux gives for one of its own filesystems that left
    it out."""
    results = host.in_child(
        host.Devpts(), lambda ground: run_conformance(ground, host.DEVPTS, areas=["missing"])
    )
    asked = [result for result in results if result.status != "skipped"]
    assert [result.report() for result in asked if not result.ok] == []
    assert len(asked) >= 7


def test_there_are_enough() -> None:
    """The suite has more than the 300 assertions promised, under distinct ids and names."""
    suite = list(assertions())
    assert len(suite) >= 300
    assert len({assertion.id for assertion in suite}) == len(suite)
    assert all(assertion.name and "\n" not in assertion.name for assertion in suite)
    assert len({assertion.name for assertion in suite}) == len(suite)


# The suite on simulated filesystems.  --------------------------------------------------------


def test_ramfs_passes() -> None:
    """ramfs here does all that Linux does, and the suite finds that it has nearly everything."""
    ground = KernelGround(RamFS)
    caps = probe(ground)
    assert Capabilities.everything().has - caps.has == {"persistent", "freeze"}
    results = run_conformance(ground, caps)
    assert [result.report() for result in results if not result.ok] == []
    assert sum(result.status == "ok" for result in results) >= 1000


class CoarseFS(RamFS):
    """Its times are whole seconds, as many disks have them."""

    name = "coarsefs"

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_time_gran = 1_000_000_000
        super().fill_super(sb, data)


def test_a_coarse_clock_is_no_mistake() -> None:
    """Two changes that follow each other may have the same time."""
    results = run_conformance(KernelGround(CoarseFS), areas=["times"])
    assert [result.report() for result in results if not result.ok] == []


class Flat(InodeOperations):
    """A directory that knows files only."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        return simple_lookup(dir, dentry, flags)

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        d_instantiate(dentry, ramfs_get_inode(dir.i_sb, dir, mode | S_IFREG, 0))
        dget(dentry)
        touch(dir)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        simple_unlink(dir, dentry)


class FlatFS(RamFS):
    directory = Flat()


def test_a_flat_filesystem_is_asked_for_errnos_instead() -> None:
    """What a filesystem leaves out must give Linux's errno, and nothing else is asked about it."""
    results = {r.id: r for r in run_conformance(KernelGround(FlatFS))}
    assert [result.report() for result in results.values() if not result.ok] == []
    assert results["missing.mkdir"].status == "ok"
    assert results["missing.rename"].status == "ok"
    assert results["mkdir.mkdir-twice"].message == "needs mkdir"


class SolarisDir(RamDirectory):
    """Says EEXIST where Linux says ENOTEMPTY."""

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        try:
            super().rmdir(dir, dentry)
        except OSError:
            raise EEXIST() from None


class OwnerlessDir(RamDirectory):
    """Gives everything to root."""

    def mknod(self, dir: Inode, dentry: Dentry, mode: int, dev: int) -> None:
        super().mknod(dir, dentry, mode, dev)
        assert dentry.d_inode is not None
        dentry.d_inode.i_uid = dentry.d_inode.i_gid = 0


class SharedDir(RamDirectory):
    """Forgets that a hard link is one link more."""

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        super().link(old_dentry, dir, dentry)
        assert old_dentry.d_inode is not None
        drop_nlink(old_dentry.d_inode)
        old_dentry.d_inode.i_nlink = 1


class StaleFile(SimpleFileInodeOperations):
    """Truncates by setting the size only, so that cut data comes back."""

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        setattr_prepare(dentry, attr)
        assert dentry.d_inode is not None
        if attr.ia_valid & ATTR_SIZE:
            dentry.d_inode.i_size = attr.ia_size
        setattr_copy(dentry.d_inode, attr)


def broken(**tables: object) -> type[RamFS]:
    """ramfs with another table."""
    return type("BrokenFS", (RamFS,), tables)


@pytest.mark.parametrize(
    ("tables", "id", "message"),
    [
        (
            {"directory": SolarisDir()},
            "calls.rmdir-full",
            "rmdir on a non-empty directory: expected ENOTEMPTY (39), got EEXIST (17)",
        ),
        (
            {"directory": OwnerlessDir()},
            "owner.of-user",
            "a new file belongs to who made it (st_uid, st_gid): expected (1000, 1000), got (0, 0)",
        ),
        (
            {"directory": SharedDir()},
            "link.two-links",
            "link adds one to the link count, under both names (st_nlink): "
            "expected (2, 2), got (1, 1)",
        ),
        (
            {"file": StaleFile()},
            "data.retruncate-10-4",
            "ftruncate from 10 to 4 and back shows zeroes behind byte 4 (data): "
            "expected 0x00 at byte 4, got 0x1c at byte 4",
        ),
    ],
)
def test_wrong_filesystems_fail(tables: dict[str, object], id: str, message: str) -> None:
    """A filesystem that does one thing wrong fails the assertion about it."""
    ground = KernelGround(broken(**tables))
    assertion = named(id)
    result = run_conformance(ground, areas=[assertion.area])
    assert next(r.message for r in result if r.id == id) == message


class BusyDir(RamDirectory):
    """Breaks the contract: comes back from create with a lock of its own held."""

    lock = Mutex("busy")

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        super().create(dir, dentry, mode, excl)
        self.lock.lock()


def test_broken_rules_are_failures_too() -> None:
    """What the kernel finds wrong during an assertion fails it."""
    results = run_conformance(KernelGround(broken(directory=BusyDir())), areas=["create"])
    failed = [r for r in results if not r.ok]
    assert failed
    assert all("the kernel to find nothing wrong" in r.message for r in failed), failed


# How results read.  --------------------------------------------------------------------------


class Pretender:
    """System calls that all fail with EIO, or that all succeed with nothing."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def __getattr__(self, name: str) -> object:
        def call(*args: object) -> None:
            if self.fails:
                raise OSError(5, "Input/output error")

        return call


class PretendGround:
    """A ground whose calls are a `Pretender`'s."""

    def __init__(self, fails: bool = False, stops: bool = False) -> None:
        self.sys = cast("SystemCalls", Pretender(fails))
        self.stops = stops

    def run(self, steps: Sequence[Step]) -> None:
        for body, _ in steps:
            if not self.stops:
                body(self.sys)

    def methods(self) -> frozenset[str]:
        return METHODS

    def writable(self) -> bool:
        return True

    def refusals(self) -> tuple[Refusal, ...]:
        return ()

    def persistent(self) -> bool:
        return False


def pretend(id: str, fails: bool = False, stops: bool = False) -> Result:
    """One assertion on a pretended ground."""
    return run_assertion(named(id), PretendGround(fails, stops), Capabilities.everything())


def named(id: str) -> Assertion:
    """One assertion of the suite."""
    return next(assertion for assertion in assertions() if assertion.id == id)


def test_a_failure_reads_well() -> None:
    """A failure says what was done, what Linux gives and what came instead."""
    result = pretend("fd.closed-read")
    assert result.message == "read of a closed descriptor: expected EBADF (9), got success"
    assert result.transcript[-1] == "read(None, 1) = ok"


def test_an_unexpected_error_reads_well() -> None:
    """An error nobody expected names the call that gave it."""
    result = pretend("mkdir.mkdir-twice", fails=True)
    assert result.message == "mkdir twice: expected success of mkdir('/d'), got EIO (5)"
    assert result.report().splitlines()[1].strip() == "mkdir('/d') = EIO (5)"


def test_a_kernel_that_stops_is_a_failure() -> None:
    """An assertion that never came to its end has not passed."""
    result = pretend("mkdir.mkdir-twice", stops=True)
    assert result.status == "failed"
    assert "the kernel stopped" in result.message


def test_lacking_methods_skip() -> None:
    """An assertion is skipped, with the reason, when the filesystem lacks what it needs."""
    flat = Capabilities(has=frozenset(("create",)), max_size=512, max_files=4)
    assert named("mkdir.mkdir-twice").why_not(flat) == "needs mkdir"
    assert named("missing.mkdir").why_not(flat) == ""
    assert named("missing.create").why_not(flat) == "has create"
    many = Capabilities(has=Capabilities.everything().has, max_size=512, max_files=4)
    assert named("create.forty-files").why_not(many) == "needs 40 files, only 4 fit"
    assert "bytes" in named("data.whole-65536").why_not(many)
    read_only = Capabilities(has=Capabilities.everything().has, writable=False)
    assert named("create.exclusive").why_not(read_only) == "needs to write"
    assert named("readonly.mkdir").why_not(read_only) == ""


def test_registration_is_checked() -> None:
    """An unknown capability or an id that is taken is refused at import."""
    known = named("create.exclusive")
    with pytest.raises(ValueError, match="two assertions"):
        register(known)
    with pytest.raises(ValueError, match="unknown capabilities"):
        register(Assertion("x.y", "x", "x", known.body, needs=frozenset(("telepathy",))))


def test_tables_are_read_by_column() -> None:
    """A cell belongs to the heading it stands under, blanks in the heading included."""
    assert rows("call  to file  x\nstat  ok       EIO\n") == [
        ("stat", {"to file": "ok", "x": "EIO"})
    ]


def test_transcript() -> None:
    """Calls are written down as strace would."""
    recorder = Recorder(Pretender(fails=True))
    with pytest.raises(OSError, match="Input"):
        recorder.open("/a", 0o102, 0o644)
    assert recorder.transcript == ["open('/a', O_RDWR|O_CREAT, 0o644) = EIO (5)"]
    assert call_text("write", (3, b"x" * 100)) == "write(3, <100 bytes>)"
    assert errno_name(0) == "success"
    assert str(Nonconforming("a", "b", "c")) == "c: expected a, got b"
