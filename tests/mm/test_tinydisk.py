"""examples/tinydisk.py: a page travels to the disk and back, and nothing is lost."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from examples.tinydisk import BLOCK, EXTENT, FILES, NAME_MAX, TinyDisk
from vfsim.block.disk import RamDisk
from vfsim.fs.kernel import Kernel


class World:
    """A kernel with one tinydisk, which can be unmounted and mounted again."""

    def __init__(self, seed: int | None = None, sectors: int = 2048) -> None:
        strategy = None if seed is None else ("random", "pos", "pct")[seed % 3]
        self.kernel = Kernel(seed=seed, strategy=strategy)
        self.disk = RamDisk(sectors=sectors)
        self.kernel.mount(TinyDisk, "/", device=self.disk)

    def remount(self) -> None:
        """Unmount and mount again: what was not written is lost."""
        self.kernel._check()
        self.kernel.umount("/")
        self.kernel.mount(TinyDisk, "/", device=self.disk)

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: Any, *rest: object) -> None:
        if kind is None:
            self.kernel._check()
            self.kernel.shutdown()
        else:
            self.kernel.machine.bury()


def put(sys: Any, name: str, data: bytes) -> None:
    """Make a file."""
    fd = sys.open(name, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
    assert sys.write(fd, data) == len(data)
    sys.close(fd)


def get(sys: Any, name: str) -> bytes:
    """Read a whole file."""
    fd = sys.open(name)
    data: bytes = sys.read(fd, 1 << 20)
    sys.close(fd)
    return data


def free(sys: Any) -> int:
    """Free blocks."""
    blocks: int = sys.statfs("/").f_bfree
    return blocks


def no_block_behind_the_end(sys: Any, name: str) -> None:
    """A file has no more blocks than its size needs."""
    stat = sys.stat(name)
    assert stat.st_blocks * 512 <= -(-stat.st_size // BLOCK) * BLOCK


def test_a_page_travels() -> None:
    """From write(2) to the medium, and back by read(2) after a remount."""
    data = bytes(range(256)) * 50
    with World() as world:

        def writer(sys: Any) -> None:
            fd = sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
            sys.write(fd, data)
            medium = world.disk.read_sectors(0, world.disk.capacity)
            assert data[:BLOCK] not in medium
            sys.fsync(fd)
            medium = world.disk.read_sectors(0, world.disk.capacity)
            blocks = [data[at : at + BLOCK] for at in range(0, len(data) - BLOCK + 1, BLOCK)]
            assert all(block in medium for block in blocks)
            sys.close(fd)

        world.kernel.call(writer)
        world.remount()
        assert world.kernel.call(get, "/f") == data


def test_names_survive() -> None:
    """Creating, renaming, unlinking, over a remount; names of any length and bytes."""
    long = "n" * NAME_MAX
    with World() as world:

        def body(sys: Any) -> None:
            for i in range(10):
                put(sys, f"/{i}", bytes([i]) * 10)
            sys.rename("/0", "/1")
            sys.rename("/2", "/new")
            sys.unlink("/3")
            put(sys, f"/{long}", b"long")
            put(sys, "/é", b"accent")
            with pytest.raises(OSError, match="too long"):
                put(sys, f"/{long}n", b"longer")

        world.kernel.call(body)
        world.remount()

        def look(sys: Any) -> None:
            names = sorted(sys.listdir("/"))
            assert names == sorted(["1", "4", "5", "6", "7", "8", "9", "new", long, "é"])
            assert get(sys, "/1") == b"\0" * 10
            assert get(sys, "/new") == b"\2" * 10
            assert get(sys, f"/{long}") == b"long"

        world.kernel.call(look)


def test_holes_and_ends() -> None:
    """What was never written reads as zeroes, also behind a truncation and after a remount."""
    with World() as world:

        def body(sys: Any) -> bytes:
            fd = sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
            sys.pwrite(fd, b"x" * 3000, 0)
            sys.pwrite(fd, b"y" * 10, 20000)
            sys.ftruncate(fd, 1500)
            sys.ftruncate(fd, 6000)
            sys.pwrite(fd, b"z", 5000)
            data: bytes = sys.pread(fd, 1 << 20, 0)
            sys.close(fd)
            return data

        expected = b"x" * 1500 + bytes(3500) + b"z" + bytes(999)
        assert world.kernel.call(body) == expected
        world.remount()
        assert world.kernel.call(get, "/f") == expected


@pytest.mark.parametrize("sectors", [2048, 4 * (1 + 3 * EXTENT), 64])
def test_every_block_comes_back(sectors: int) -> None:
    """Unlinking, truncating and failing for want of space leak no block, on disks of any size."""
    with World(sectors=sectors) as world:
        before = world.kernel.call(free)
        fit = min(len(FILES), (sectors * 512 // BLOCK - 1) // EXTENT)
        assert before == fit * EXTENT

        def fill(sys: Any) -> None:
            for i in range(fit):
                put(sys, f"/{i}", b"x" * 5000)
            with pytest.raises(OSError, match="No space"):
                put(sys, "/one-more", b"")
            assert free(sys) == 0
            for i in range(fit):
                fd = sys.open(f"/{i}", os.O_RDWR)
                sys.ftruncate(fd, 1)
                assert sys.fstat(fd).st_blocks == BLOCK // 512
                sys.ftruncate(fd, 0)
                assert sys.fstat(fd).st_blocks == 0
                sys.unlink(f"/{i}")
                assert free(sys) == i * EXTENT  # it is still open
                sys.close(fd)
            assert free(sys) == before

        world.kernel.call(fill)
        world.remount()
        assert world.kernel.call(free) == before


def test_a_new_file_shows_nothing_old() -> None:
    """A file that gets the blocks of an unlinked one has holes where it wrote nothing."""
    with World() as world:

        def body(sys: Any) -> None:
            put(sys, "/old", b"secret" * 5000)
            sys.sync()
            number = sys.stat("/old").st_ino
            sys.unlink("/old")
            fd = sys.open("/new", os.O_CREAT | os.O_RDWR, 0o644)
            assert sys.fstat(fd).st_ino == number
            sys.pwrite(fd, b"x", 10000)
            sys.ftruncate(fd, 30000)
            sys.close(fd)

        world.kernel.call(body)
        world.remount()
        assert world.kernel.call(get, "/new") == b"x".rjust(10001, b"\0").ljust(30000, b"\0")


@pytest.mark.parametrize("how", ["file", "directory"])
def test_fsync_writes_names(how: str) -> None:
    """After fsync of a file or the directory its name is on the disk, before anybody unmounts."""
    with World() as world:

        def body(sys: Any) -> None:
            put(sys, "/f", b"data")
            sys.sync()
            sys.rename("/f", "/renamed")
            fd = sys.open("/renamed" if how == "file" else "/", os.O_RDONLY)
            sys.fsync(fd)
            sys.close(fd)
            assert b"renamed" in world.disk.read_sectors(0, BLOCK // 512)

        world.kernel.call(body)


def test_files_have_a_largest_size() -> None:
    """Beyond the last block is EFBIG."""
    with World() as world:

        def body(sys: Any) -> None:
            fd = sys.open("/f", os.O_CREAT | os.O_RDWR, 0o644)
            assert sys.pwrite(fd, b"xy", EXTENT * BLOCK - 1) == 1
            with pytest.raises(OSError, match="too large"):
                sys.pwrite(fd, b"x", EXTENT * BLOCK)
            sys.close(fd)

        world.kernel.call(body)


def test_a_strange_disk_is_refused() -> None:
    """Mounting what is no tinydisk is EINVAL, and leaves nothing behind."""
    disk = RamDisk(sectors=64)
    disk.write_sectors(0, b"something else".ljust(512))
    kernel = Kernel()
    with pytest.raises(OSError, match="Invalid"):
        kernel.mount(TinyDisk, "/", device=disk)
    kernel.shutdown()


def _one_file(sys: Any, name: str, seed: int, expected: dict[str, bytes | None]) -> None:
    """Do random things to a file of one's own, comparing each read with a model."""
    r = random.Random(seed)
    model = bytearray()
    fd = sys.open(name, os.O_CREAT | os.O_RDWR, 0o644)
    for _ in range(6):
        what = r.choice(["write", "write", "write", "truncate", "fsync", "read", "sync"])
        if what == "write":
            at, data = r.randrange(14000), bytes([r.randrange(1, 256)]) * r.choice([1, 1024, 5000])
            sys.pwrite(fd, data, at)
            model.extend(bytes(max(0, at - len(model))))
            model[at : at + len(data)] = data
        elif what == "truncate":
            size = r.randrange(14000)
            sys.ftruncate(fd, size)
            del model[size:]
            model.extend(bytes(size - len(model)))
        elif what == "fsync":
            sys.fsync(fd)
        elif what == "sync":
            sys.sync()
        else:
            assert sys.pread(fd, 1 << 20, 0) == bytes(model)
    sys.close(fd)
    if r.random() < 0.3:
        sys.rename(name, f"{name}x")
        name += "x"
    expected[name] = bytes(model)
    if r.random() < 0.3:
        sys.unlink(name)
        expected[name] = None


def _shared_file(sys: Any, seed: int) -> None:
    """Do random things to a file that others use, too."""
    r = random.Random(seed)
    fd = sys.open("/shared", os.O_CREAT | os.O_RDWR, 0o644)
    for _ in range(5):
        what = r.choice("wwtrsu")
        if what == "w":
            sys.pwrite(fd, b"x" * r.choice([10, 2000]), r.randrange(9000))
        elif what == "t":
            sys.ftruncate(fd, r.randrange(9000))
        elif what == "s":
            sys.fsync(fd)
        elif what == "r":
            assert set(sys.pread(fd, 1 << 20, 0)) <= {0, ord("x")}
        else:
            try:
                sys.unlink("/shared")
            except FileNotFoundError:
                pass
    sys.close(fd)


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_lost(seed: int) -> None:
    """Four processes, any schedule: every byte survives a remount, every block comes back."""
    with World(seed) as world:
        before = world.kernel.call(free)
        expected: dict[str, bytes | None] = {}
        for i in range(2):
            world.kernel.process(_one_file, f"/f{i}", seed * 10 + i, expected)
            world.kernel.process(_shared_file, seed * 10 + 5 + i)
        world.kernel.run()
        world.remount()

        def look(sys: Any) -> None:
            for name, data in expected.items():
                if data is None:
                    assert name[1:] not in sys.listdir("/")
                else:
                    assert get(sys, name) == data
                    no_block_behind_the_end(sys, name)
            for name in sys.listdir("/"):
                assert name != "shared" or set(get(sys, "/shared")) <= {0, ord("x")}
                sys.unlink(f"/{name}")

        world.kernel.call(look)
        world.remount()
        assert world.kernel.call(free) == before


@pytest.mark.parametrize("seed", range(40))
def test_a_failing_disk_breaks_no_rule(seed: int) -> None:
    """I/O errors and short copies at any moment: nothing hangs, leaks or breaks."""
    with World(seed) as world:
        world.kernel.machine.faults = ("io", "copy")

        def body(sys: Any, seed: int) -> None:
            r = random.Random(seed)
            for _ in range(12):
                try:
                    fd = sys.open(f"/e{r.randrange(3)}", os.O_CREAT | os.O_RDWR, 0o644)
                except OSError:
                    continue
                try:
                    what = r.choice("wwrts")
                    if what == "w":
                        sys.pwrite(fd, b"x" * r.choice([10, 5000]), r.randrange(9000))
                    elif what == "r":
                        sys.pread(fd, 1 << 20, 0)
                    elif what == "t":
                        sys.ftruncate(fd, r.randrange(9000))
                    else:
                        sys.fsync(fd)
                except OSError:
                    pass
                finally:
                    sys.close(fd)

        for i in range(3):
            world.kernel.process(body, seed * 3 + i)
        world.kernel.run()
        world.kernel.machine.faults = ()
