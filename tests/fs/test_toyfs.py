"""The tutorial filesystem: right under every schedule, like the others."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType

ToyFS: type[FileSystemType] = runpy.run_path(
    str(Path(__file__).parents[2] / "examples" / "toyfs.py"), run_name="toyfs"
)["ToyFS"]


def test_a_life_in_toyfs() -> None:
    """Every operation once."""

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        fd = sys.open("/d/f", os.O_CREAT | os.O_RDWR)
        assert sys.write(fd, b"hello") == 5 and sys.pread(fd, 9, 1) == b"ello"
        sys.ftruncate(fd, 2)
        sys.ftruncate(fd, 4)
        assert sys.pread(fd, 9, 0) == b"he\0\0" and sys.fstat(fd).st_size == 4
        sys.fsync(fd)
        sys.close(fd)
        fd = sys.open("/d/f", os.O_WRONLY | os.O_APPEND)
        sys.write(fd, b"!")
        assert sys.lseek(fd, 0, os.SEEK_CUR) == 5
        with pytest.raises(OSError, match="too large"):
            sys.pwrite(sys.open("/d/f", os.O_WRONLY), b"x", 1 << 20)
        for call in (sys.link, sys.symlink):
            with pytest.raises(OSError, match="not permitted"):  # toyfs leaves them out
                call("/d/f", "/l")
        sys.close(sys.open("/g", os.O_CREAT | os.O_WRONLY))
        sys.rename("/d", "/e")
        with pytest.raises(OSError, match="not empty"):
            sys.rmdir("/e")
        with pytest.raises(OSError, match="Invalid"):
            sys.renameat2("/e", "/g", 2)
        sys.rename("/g", "/e/f2")
        assert sorted(sys.listdir("/e")) == ["f", "f2"]
        sys.chmod("/e/f", 0o600)
        sys.rename("/e/f2", "/e/f")
        assert sys.stat("/e/f").st_size == 0
        sys.unlink("/e/f")
        sys.rmdir("/e")
        assert sys.listdir("/") == [] and sys.stat("/").st_nlink == 2

    with Kernel() as kernel:
        kernel.mount(ToyFS(), "/")
        kernel.call(work)


def test_a_listing_survives_changes() -> None:
    """What is there at the beginning is listed once."""

    def work(sys: Any) -> None:
        for name in "abcd":
            sys.mkdir(f"/{name}")
        fd = sys.open("/", os.O_RDONLY)
        first = sys.getdents(fd, 80)
        sys.rmdir("/a")
        sys.mkdir("/e")
        rest = sys.getdents(fd)
        assert [name for name, _, _ in first + rest] == [".", "..", "a", "b", "c", "d"]
        sys.close(fd)

    with Kernel() as kernel:
        kernel.mount(ToyFS(), "/")
        kernel.call(work)


def test_a_deep_tree_is_unmounted() -> None:
    """However deep it is: nothing goes down a tree by recursion."""

    def work(sys: Any) -> None:
        for _ in range(300):
            sys.mkdir("x")
            sys.chdir("x")
        sys.chdir("/")

    with Kernel() as kernel:
        kernel.mount(ToyFS(), "/")
        kernel.call(work)


def test_size_and_bytes_belong_together() -> None:
    """Whoever has seen the new size does not read the old bytes."""
    for seed in range(100):
        with Kernel(seed=seed, strategy="random") as kernel:
            kernel.mount(ToyFS(), "/")

            def write(sys: Any) -> None:
                fd = sys.open("/f", os.O_CREAT | os.O_RDWR)
                sys.write(fd, b"0123456789")
                sys.close(fd)

            def cut(sys: Any) -> None:
                sys.truncate("/f", 3)

            def look(sys: Any) -> tuple[int, int]:
                fd = sys.open("/f", os.O_RDONLY)
                return sys.fstat(fd).st_size, len(sys.pread(fd, 20, 0))

            kernel.call(write)
            reader = kernel.process(look)
            kernel.process(cut)
            kernel.run()
            size, got = reader.result
            assert got in (3, 10) and got <= size


def test_three_processes_in_toyfs() -> None:
    """Create, rename and remove the same names, write and cut the same file, under many
    schedules.
    """
    for seed in range(200):
        with Kernel(seed=seed, strategy="pos" if seed % 2 else "random") as kernel:
            kernel.mount(ToyFS(), "/")

            def attempt(call: Any, *args: Any) -> Any:
                try:
                    return call(*args)
                except OSError:
                    return None

            def maker(sys: Any) -> None:
                attempt(sys.mkdir, "/d")
                fd = attempt(sys.open, "/d/f", os.O_CREAT | os.O_RDWR)
                if fd is not None:
                    sys.write(fd, b"0123456789")
                    assert sys.pread(fd, 10, 0) in (b"0123456789", b"012")
                    sys.close(fd)
                attempt(sys.rename, "/d/f", "/f")

            def mover(sys: Any) -> None:
                for old, new in (("/d/f", "/f"), ("/d", "/e"), ("/e", "/d"), ("/f", "/d/f")):
                    attempt(sys.rename, old, new)
                    attempt(sys.listdir, new)

            def breaker(sys: Any) -> None:
                for name in ("/d/f", "/f", "/e/f"):
                    attempt(sys.truncate, name, 3)
                    attempt(sys.unlink, name)
                for name in ("/d", "/e"):
                    attempt(sys.rmdir, name)

            for fn in (maker, mover, breaker):
                kernel.process(fn)
            kernel.run()
            kernel._check()
