"""Processes and threads: what they share, and what happens when two use one open file."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.file import open_files
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import KernelBug
from vfsim.sim.state import K

CREAT, RDWR = os.O_CREAT, os.O_RDWR


def test_fork_copies_descriptors_and_shares_open_files(k: Kernel, expect: Expect) -> None:
    """A child has its own table of the same open files; umask, directory and user are copied."""
    seen: list[Any] = []

    def child(sys: Sys, fd: int) -> None:
        seen.append((sys.read(fd, 3), sys.getcwd(), sys.getuid(), sys.umask(0)))
        sys.close(fd)
        sys.chdir("/")

    def parent(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.chown("/d", 1000, 1000)
        sys.chdir("/d")
        sys.setuid(1000)
        sys.umask(0o77)
        fd = sys.open("f", CREAT | RDWR)
        sys.write(fd, b"abcdef")
        sys.lseek(fd, 0)
        sys.fork(child, fd)
        sys.msleep(1)
        assert sys.read(fd, 3) == b"def", "the position is shared"
        assert sys.getcwd() == "/d"
        assert sys.umask(0) == 0o77
        sys.close(fd)
        expect.EBADF(sys.close, fd)

    k.call(parent)
    assert seen == [(b"abc", "/d", 1000, 0o77)]


def test_threads_share_the_table(k: Kernel, expect: Expect) -> None:
    """What one thread opens or closes, the other has open or closed; the last one out closes the
    rest.
    """

    def thread(sys: Sys, fd: int) -> None:
        assert sys.read(fd, 5) == b""
        sys.close(fd)
        sys.open("/g", CREAT)

    def main(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        sys.thread(thread, fd)
        sys.msleep(1)
        assert sys.fstat(fd).st_ino == sys.stat("/g").st_ino, "the number was free again"
        assert len(open_files()) == 1

    k.call(main)
    assert K.machine is not k.machine
    assert k.machine.data["files"] == {}


@pytest.mark.parametrize("seed", range(60))
def test_writes_through_one_open_file_take_turns(seed: int) -> None:
    """Two threads that write through one open file never write to the same place."""
    with Kernel(seed=seed) as k:
        k.mount(RamFS(), "/")

        def writer(sys: Sys, fd: int, letter: bytes) -> None:
            for _ in range(2):
                assert sys.write(fd, letter * 3) == 3

        def main(sys: Sys) -> None:
            fd = sys.open("/f", CREAT | RDWR)
            sys.thread(writer, fd, b"a")
            sys.fork(writer, fd, b"b")

        k.call(main)

        def check(sys: Sys) -> bytes:
            return sys.read(sys.open("/f"), 100)

        data = k.call(check)
    pieces = [data[i : i + 3] for i in range(0, 12, 3)]
    assert sorted(pieces) == [b"aaa", b"aaa", b"bbb", b"bbb"]


@pytest.mark.parametrize("seed", range(60))
def test_closing_under_a_running_call(seed: int) -> None:
    """A thread that closes a descriptor does not take the file from another thread's call."""
    outcomes: list[object] = []
    with Kernel(seed=seed) as k:
        k.mount(RamFS(), "/")

        def reader(sys: Sys, fd: int) -> None:
            try:
                outcomes.append(sys.pread(fd, 5, 0))
            except OSError as error:
                outcomes.append(error.errno)

        def main(sys: Sys) -> None:
            fd = sys.open("/f", CREAT | RDWR)
            sys.write(fd, b"hello")
            sys.thread(reader, fd)
            sys.close(fd)

        k.call(main)
    assert outcomes[0] in (b"hello", 9)


def test_an_open_directory_is_listed_by_one_at_a_time(k: Kernel) -> None:
    """Two threads that list through one open directory see each entry once between them."""
    names: list[str] = []

    def lister(sys: Sys, fd: int) -> None:
        while entries := sys.getdents(fd, 64):
            names.extend(name for name, _, _ in entries)

    def main(sys: Sys) -> None:
        for i in range(6):
            sys.mkdir(f"/{i}")
        fd = sys.open("/")
        sys.thread(lister, fd)
        lister(sys, fd)

    k.call(main)
    assert sorted(names) == [".", "..", *"012345"]


def test_a_lock_held_at_the_end_of_a_call_is_reported() -> None:
    """Whoever returns to user mode with a lock held broke a rule."""
    k = Kernel()
    k.mount(RamFS(), "/")

    def leaky(sys: Sys) -> None:
        inode = K.cur.process.root.dentry.d_inode
        inode.i_rwsem.down_read()
        sys.getuid()
        sys.umask(0)
        inode.i_rwsem.up_read()

    with pytest.raises(KernelBug, match="still held"):
        k.call(leaky)
    assert k.violations[0].rule == "lockdep.held-in-user-mode"
    k.machine.bury()


def test_calls_belong_in_tasks(k: Kernel) -> None:
    """Outside of a task there is nobody to call for."""
    with pytest.raises(TypeError, match="inside a simulated task"):
        k.sys.mkdir("/d")
