"""imagefs: a tree on a disk that nobody changes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

import vfsim
from vfsim.block.disk import RamDisk
from vfsim.filesystems.imagefs import BLOCK, RECORD, SAMPLE, ImageFS, Tree, write_image
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.super import MS_REMOUNT
from vfsim.fs.syscalls import Sys

DEEP: Tree = {
    "many": {f"file{i:04}": b"%d" % i for i in range(400)},
    "big": bytes(range(256)) * 40,
    "up": {"link": "../big"},
    "nowhere": "gone",
}


def image(tree: Tree, sectors: int = 4096) -> RamDisk:
    """A disk with a tree on it."""
    disk = RamDisk(sectors=sectors)
    write_image(disk, tree)
    return disk


def kernel(disk: RamDisk, **how: Any) -> Kernel:
    """A kernel with the disk mounted."""
    made = Kernel(**how)
    made.mount(ImageFS, "/", device=disk)
    return made


def read(sys: Sys, path: str) -> bytes:
    """A whole file."""
    fd = sys.open(path)
    data = b""
    while part := sys.read(fd, 3000):
        data += part
    sys.close(fd)
    return data


def read_tree(sys: Sys, path: str) -> Tree | bytes | str:
    """What is behind a path, as `write_image` takes it."""
    mode = sys.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return sys.readlink(path)
    if not stat.S_ISDIR(mode):
        return read(sys, path)
    return {name: read_tree(sys, f"{path}/{name}") for name in sys.listdir(path)}


@pytest.mark.parametrize("tree", [{}, SAMPLE, DEEP], ids=["empty", "sample", "deep"])
def test_what_was_written_is_read(tree: Tree) -> None:
    """Names in their order, contents, targets; also a directory of several pages."""
    with kernel(image(tree)) as k:
        assert k.call(read_tree, "/") == tree
        k._check()


def test_attributes() -> None:
    """Links, sizes, blocks, and what statfs says."""

    def look(sys: Sys) -> None:
        assert sys.stat("/").st_nlink == 4
        assert sys.stat("/many").st_nlink == 2
        big = sys.stat("/up/link")
        assert (big.st_size, big.st_blocks, big.st_nlink) == (10240, 20, 1)
        with pytest.raises(FileNotFoundError):
            sys.stat("/nowhere")
        whole = sys.statfs("/")
        assert (whole.f_bsize, whole.f_bfree, whole.f_ffree) == (BLOCK, 0, 0)
        assert whole.f_files == 406 and whole.f_blocks > 400

    with kernel(image(DEEP)) as k:
        k.call(look)


def writes() -> dict[str, Callable[[Sys], object]]:
    """Whatever would change something."""
    return {
        "create": lambda sys: sys.open("/new", os.O_CREAT | os.O_WRONLY),
        "write": lambda sys: sys.open("/README", os.O_WRONLY),
        "truncate": lambda sys: sys.truncate("/README", 0),
        "mkdir": lambda sys: sys.mkdir("/new"),
        "rmdir": lambda sys: sys.rmdir("/empty"),
        "unlink": lambda sys: sys.unlink("/README"),
        "rename": lambda sys: sys.rename("/README", "/new"),
        "link": lambda sys: sys.link("/README", "/new"),
        "symlink": lambda sys: sys.symlink("x", "/new"),
        "chmod": lambda sys: sys.chmod("/README", 0o600),
    }


@pytest.mark.parametrize("call", writes())
@pytest.mark.parametrize("remounted", [False, True])
def test_nothing_is_written(call: str, remounted: bool) -> None:
    """EROFS, whoever asks, also after a remount that wanted to write."""
    disk = image(SAMPLE)
    before = disk.read_sectors(0, disk.capacity)

    def attempt(sys: Sys) -> int | None:
        if remounted:
            sys.mount("none", "/", "none", MS_REMOUNT, "")
        with pytest.raises(OSError) as caught:
            writes()[call](sys)
        return caught.value.errno

    with kernel(disk) as k:
        assert k.call(attempt) == errno.EROFS
    assert disk.read_sectors(0, disk.capacity) == before


@pytest.mark.parametrize("what", ["magic", "number", "beyond"])
def test_a_broken_image(what: str) -> None:
    """No image: EINVAL.  A number without a record, a record that points behind the end: EIO."""
    disk = image({"f": b"x", "good": b"y"})
    raw = bytearray(disk.read_sectors(0, 64))
    if what == "magic":
        raw[0] ^= 1
    elif what == "number":
        raw[2 * BLOCK] = 99  # the root's first entry
    else:
        raw[BLOCK + RECORD.size + 24] = 99  # the first block of f
    disk.write_sectors(0, bytes(raw))
    if what == "magic":
        with pytest.raises(OSError) as caught:
            kernel(disk)
        assert caught.value.errno == errno.EINVAL
        return

    def look(sys: Sys) -> int | None:
        assert read(sys, "/good") == b"y"
        with pytest.raises(OSError) as caught:
            sys.stat("/f")
        return caught.value.errno

    with kernel(disk) as k:
        assert k.call(look) == errno.EIO
        k._check()


def test_a_disk_mounted_again() -> None:
    """After an umount nothing is left, and the same disk can be mounted anew."""
    disk = image(SAMPLE)
    with Kernel() as k:
        k.mount(RamFS, "/")
        k.call(lambda sys: sys.mkdir("/mnt"))
        for _ in range(2):
            k.mount(ImageFS, "/mnt", device=disk)
            assert k.call(read, "/mnt/man") == SAMPLE["README"]
            k.umount("/mnt")
        k._check()


class TwoFiles(ImageFS):
    """A file of three blocks, and a link to it."""

    tree: Tree = {"d": {"f": b"f" * 5000, "l": "f"}}

    @classmethod
    def mkfs(cls, device: RamDisk) -> None:
        write_image(device, cls.tree)


class ReadersAtOnce(vfsim.Scenario):
    """The first finds everything new, the others wait or find it: all read the same."""

    filesystem = TwoFiles

    @vfsim.task
    def one(self, sys: Sys) -> vfsim.Outcome:
        return self.outcome(read, sys, "/d/l")

    @vfsim.task
    def two(self, sys: Sys) -> vfsim.Outcome:
        return self.outcome(read, sys, "/d/l")

    @vfsim.task
    def three(self, sys: Sys) -> vfsim.Outcome:
        return self.outcome(read, sys, "/d/f")

    def check(self, sys: Sys, results: Any) -> None:
        for result in results:
            assert result.value == b"f" * 5000 or (self.faults and result.errno == errno.EIO)


class ReadersOfAFailingDisk(ReadersAtOnce):
    """The disk may fail, which may be an EIO, but never wrong."""

    faults = "io"


READERS = [ReadersAtOnce, ReadersOfAFailingDisk]


@pytest.mark.parametrize("scenario", READERS)
def test_readers_at_once(scenario: type[vfsim.Scenario]) -> None:
    """In a few schedules."""
    assert vfsim.explore(scenario, schedules=40).distinct > 30


@pytest.mark.soak
@pytest.mark.parametrize("scenario", READERS)
def test_readers_at_once_for_long(scenario: type[vfsim.Scenario]) -> None:
    """In 100,000."""
    assert vfsim.explore(scenario, schedules=50_000).run == 50_000
