"""Open files and descriptors: data, positions, sharing, listing, closing."""

from __future__ import annotations

import os
import stat

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.libfs import SimpleFileOperations
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.file import File, open_files
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileOperations
from vfsim.fs.read_write import DirContext
from vfsim.fs.syscalls import F_DUPFD, F_GETFD, F_GETFL, F_SETFL, Sys
from vfsim.sim.errors import EIO
from vfsim.sim.state import K

CREAT, RDWR = os.O_CREAT, os.O_RDWR


def test_read_and_write(k: Kernel, expect: Expect) -> None:
    """The position moves with both; holes read as zeroes; modes are obeyed."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        assert sys.write(fd, b"hello world") == 11
        assert sys.read(fd, 10) == b""
        assert sys.lseek(fd, 6) == 6
        assert sys.read(fd, 100) == b"world"
        assert sys.pread(fd, 5, 0) == b"hello"
        assert sys.pwrite(fd, b"J", 0) == 1
        assert sys.lseek(fd, 0, os.SEEK_CUR) == 11, "pread and pwrite leave the position alone"
        sys.pwrite(fd, b"!", 9000)
        assert sys.pread(fd, 3, 8998) == b"\0\0!"
        assert sys.pread(fd, 1, 9001) == b""
        assert sys.write(fd, bytearray(b"")) == 0
        for call in (
            lambda: sys.pread(fd, 1, -1),
            lambda: sys.pwrite(fd, b"x", -1),
            lambda: sys.read(fd, -1),
        ):
            expect.EINVAL(call)
        reader, writer = sys.open("/f"), sys.open("/f", os.O_WRONLY)
        expect.EBADF(sys.write, reader, b"x")
        expect.EBADF(sys.read, writer, 1)
        for number in (99, -1):
            expect.EBADF(sys.read, number, 1)
            expect.EBADF(sys.close, number)
        with pytest.raises(TypeError, match="data to write is bytes"):
            sys.write(fd, "text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="an integer"):
            sys.read("0", 1)  # type: ignore[arg-type]
        for number in (fd, reader, writer):
            sys.close(number)

    k.call(go)


def test_append(k: Kernel) -> None:
    """With O_APPEND each write goes to the end, wherever the position was."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR | os.O_APPEND)
        other = sys.open("/f", RDWR)
        sys.write(other, b"1234")
        sys.write(fd, b"56")
        assert sys.lseek(fd, 0, os.SEEK_CUR) == 6
        sys.lseek(fd, 0)
        sys.write(fd, b"7")
        assert sys.pread(fd, 100, 0) == b"1234567"
        sys.close(fd)
        sys.close(other)

    k.call(go)


@pytest.mark.parametrize(
    ("offset", "whence", "result"),
    [
        (5, os.SEEK_SET, 5),
        (100, os.SEEK_SET, 100),
        (2, os.SEEK_CUR, 5),
        (-3, os.SEEK_CUR, 0),
        (0, os.SEEK_CUR, 3),
        (0, os.SEEK_END, 10),
        (-10, os.SEEK_END, 0),
        (5, os.SEEK_DATA, 5),
        (5, os.SEEK_HOLE, 10),
        (-1, os.SEEK_SET, "EINVAL"),
        (-4, os.SEEK_CUR, "EINVAL"),
        (-11, os.SEEK_END, "EINVAL"),
        (0, 5, "EINVAL"),
        (0, -1, "EINVAL"),
        (1 << 63, os.SEEK_SET, "EINVAL"),
        (10, os.SEEK_DATA, "ENXIO"),
        (-1, os.SEEK_HOLE, "ENXIO"),
    ],
)
def test_lseek(k: Kernel, expect: Expect, offset: int, whence: int, result: int | str) -> None:
    """From the beginning, from here, from the end; never before the beginning."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.write(fd, b"x" * 10)
        sys.lseek(fd, 3)
        if isinstance(result, int):
            assert sys.lseek(fd, offset, whence) == result
        else:
            getattr(expect, result)(sys.lseek, fd, offset, whence)
            assert sys.lseek(fd, 0, os.SEEK_CUR) == 3
        sys.close(fd)

    k.call(go)


def test_dup_shares_the_position(k: Kernel, expect: Expect) -> None:
    """dup and dup2 make descriptors of one open file; the file closes with the last."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        two = sys.dup(fd)
        sys.write(fd, b"abc")
        assert sys.lseek(two, 0, os.SEEK_CUR) == 3
        assert sys.dup2(two, 7) == 7
        assert sys.dup2(7, 7) == 7
        expect.EBADF(sys.dup2, 6, 6)
        expect.EBADF(sys.dup2, 99, 3)
        expect.EBADF(sys.dup2, fd, 100_000)
        other = sys.open("/g", CREAT)
        assert other == 2
        sys.dup2(fd, other)
        assert sys.fstat(other).st_ino == sys.fstat(fd).st_ino
        for number in (fd, two, 7):
            sys.close(number)
        assert sys.pread(other, 3, 0) == b"abc"
        assert len(open_files()) == 1
        sys.close(other)
        assert not open_files()

    k.call(go)


def test_fcntl(k: Kernel, expect: Expect) -> None:
    """Duplicates from a number on, and flags that can change while the file is open."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR | os.O_TRUNC)
        assert sys.fcntl(fd, F_GETFL) == RDWR
        assert sys.fcntl(fd, F_DUPFD, 5) == 5
        assert sys.fcntl(fd, F_DUPFD, 5) == 6
        expect.EINVAL(sys.fcntl, fd, F_DUPFD, -1)
        expect.EINVAL(sys.fcntl, fd, 77)
        expect.EBADF(sys.fcntl, 99, F_GETFL)
        assert sys.fcntl(fd, F_GETFD) == 0
        sys.write(fd, b"abc")
        sys.lseek(fd, 0)
        sys.fcntl(fd, F_SETFL, os.O_APPEND | os.O_CREAT)
        assert sys.fcntl(5, F_GETFL) == RDWR | os.O_APPEND
        sys.write(fd, b"d")
        assert sys.pread(fd, 9, 0) == b"abcd"
        for number in (fd, 5, 6):
            sys.close(number)

    k.call(go)


def test_listing(k: Kernel, expect: Expect) -> None:
    """getdents gives what fits, goes on where it stopped, and can be rewound."""

    def go(sys: Sys) -> None:
        for name in "abc":
            sys.close(sys.open(f"/{name}", CREAT))
        fd = sys.open("/")
        first = sys.getdents(fd, 60)
        assert [name for name, _, _ in first] == [".", ".."]
        rest = sys.getdents(fd)
        assert [(name, kind) for name, _, kind in rest] == [("a", 8), ("b", 8), ("c", 8)]
        assert [ino for _, ino, _ in rest] == [sys.stat(f"/{n}").st_ino for n in "abc"]
        assert sys.getdents(fd) == []
        sys.lseek(fd, 0)
        expect.EINVAL(sys.getdents, fd, 10)
        assert len(sys.getdents(fd)) == 5
        sys.close(fd)
        file = sys.open("/a")
        expect.ENOTDIR(sys.getdents, file)
        sys.close(file)
        expect.ENOTDIR(sys.listdir, "/a")
        sys.mkdir("/gone")
        fd = sys.open("/gone")
        sys.rmdir("/gone")
        expect.ENOENT(sys.getdents, fd)
        sys.close(fd)

    k.call(go)


def test_entries_go_in_together_as_one_by_one(k: Kernel) -> None:
    """Whatever the size of the buffer, and the names' alphabet: the same entries, the same rest."""

    def go(sys: Sys) -> None:
        for names in (["a", "bb" * 9, "c", "d" * 30], ["a", "ü" * 4, "\udce4", "b"], []):
            entries = [(name, number, 8) for number, name in enumerate(names)]
            for room in range(0, 250, 3):
                one, many = DirContext(0, room), DirContext(0, room)
                fit = [entry for entry in entries if not one.full and one.emit(*entry)]
                assert many.emit_all(entries) == len(fit)
                assert (many.entries, many.room, many.full) == (fit, one.room, one.full)

    k.call(go)


class Journal(SimpleFileOperations):
    """A file that notes how it is used."""

    log: list[str] = []
    flush_fails = False

    def open(self, inode: Inode, file: File) -> None:
        """Sleeps.  Note it."""
        self.log.append("open")

    def flush(self, file: File) -> None:
        """Sleeps.  Note it; fail if told to."""
        self.log.append("flush")
        if type(self).flush_fails:
            raise EIO()

    def release(self, inode: Inode, file: File) -> None:
        """Sleeps.  Note it, and that nothing is held."""
        self.log.append(f"release {K.cur.held is None or K.cur.held[0].is_pin}")

    def fsync(self, file: File, start: int, end: int, datasync: bool) -> None:
        """Sleeps.  Note it."""
        self.log.append(f"fsync {datasync}")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files made from now on are `Journal`s; what they noted."""
    Journal.log.clear()
    monkeypatch.setattr(Journal, "flush_fails", False)
    monkeypatch.setattr(RamFS, "open_file", Journal())
    return Journal.log


def test_flush_at_each_close_release_at_the_last(
    k: Kernel, journal: list[str], expect: Expect
) -> None:
    """close(2) reports what ``flush`` says, and the descriptor is gone all the same."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        two = sys.dup(fd)
        sys.fsync(fd)
        sys.fdatasync(fd)
        sys.close(fd)
        assert journal == ["open", "fsync False", "fsync True", "flush"]
        Journal.flush_fails = True
        expect.EIO(sys.close, two)
        assert journal[4:] == ["flush", "release True"]
        expect.EBADF(sys.close, two)

    k.call(go)


def test_exit_closes_everything(k: Kernel, journal: list[str]) -> None:
    """What a process leaves open is closed when it ends, also if it ends by an exception."""
    k.call(lambda sys: sys.open("/f", CREAT))
    assert journal == ["open", "flush", "release True"]

    def crash(sys: Sys) -> None:
        sys.open("/f")
        raise RuntimeError("as the test wants it")

    with pytest.raises(RuntimeError, match="as the test wants it"):
        k.call(crash)
    assert journal[3:] == ["open", "flush", "release True"]


def test_a_failed_open_releases_nothing(k: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the filesystem's ``open`` refuses, no ``release`` follows and nothing stays."""

    class Shut(Journal):
        """Cannot be opened."""

        def open(self, inode: Inode, file: File) -> None:
            """Sleeps.  No."""
            raise EIO()

    Journal.log.clear()
    monkeypatch.setattr(RamFS, "open_file", Shut())

    def go(sys: Sys) -> None:
        with pytest.raises(OSError, match="Input/output error"):
            sys.open("/f", CREAT | RDWR)
        assert stat.S_ISREG(sys.stat("/f").st_mode)
        assert not open_files()

    k.call(go)
    assert Journal.log == []


class OldStyle(FileOperations):
    """A file with ``read`` and ``write`` instead of the iterators."""

    def read(self, file: File, count: int, pos: int) -> bytes:
        """Sleeps.  Out of nothing."""
        return b"ab"[pos : pos + count]

    def write(self, file: File, data: bytes, pos: int) -> int:
        """Sleeps.  Into nothing, at most two bytes."""
        return min(len(data), 2)


class NoData(FileOperations):
    """A file that has no methods at all."""


def test_what_a_file_can_do_depends_on_its_methods(
    k: Kernel, expect: Expect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``read`` goes before ``read_iter``; without either EINVAL; without ``llseek`` ESPIPE."""

    def old(sys: Sys) -> None:
        fd = sys.open("/old", CREAT | RDWR)
        assert sys.read(fd, 1) == b"a"
        assert sys.read(fd, 5) == b"b"
        assert sys.write(fd, b"xyz") == 2
        expect.ESPIPE(sys.lseek, fd, 0)
        expect.EINVAL(sys.fsync, fd)
        sys.close(fd)

    def none(sys: Sys) -> None:
        fd = sys.open("/none", CREAT | RDWR)
        expect.EINVAL(sys.read, fd, 1)
        expect.EINVAL(sys.write, fd, b"x")
        expect.ENOTDIR(sys.getdents, fd)
        sys.close(fd)

    monkeypatch.setattr(RamFS, "open_file", OldStyle())
    k.call(old)
    monkeypatch.setattr(RamFS, "open_file", NoData())
    k.call(none)


def test_sync(k: Kernel, expect: Expect) -> None:
    """sync and syncfs reach every filesystem, statfs, fstatfs and ustat say the same."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.write(fd, b"x")
        sys.sync()
        sys.syncfs(fd)
        assert sys.fstatfs(fd) == sys.statfs("/") == sys.ustat(sys.stat("/").st_dev)
        expect.EINVAL(sys.ustat, 999)
        sys.close(fd)

    k.call(go)
