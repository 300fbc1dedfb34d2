"""Two trees that are in sight, and an overfs over them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from vfsim.filesystems.overfs import OverFS
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType
from vfsim.fs.syscalls import Sys

LAYERS = "lowerdir=/layers/lower,upperdir=/layers/upper,workdir=/layers/work"
TREE: dict[str, Any] = {
    "f": b"lower f",
    "g": b"lower g",
    "d": {"x": b"lower x", "y": b"lower y", "e": {"z": b"lower z"}},
    "empty": {},
    "l": "d/x",
}


def plant(sys: Sys, path: str, tree: dict[str, Any]) -> None:
    """Make a tree."""
    for name, thing in tree.items():
        at = f"{path}/{name}"
        if isinstance(thing, dict):
            sys.mkdir(at)
            plant(sys, at, thing)
        elif isinstance(thing, str):
            sys.symlink(thing, at)
        else:
            write(sys, at, thing)


def write(sys: Sys, path: str, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
    """Write a file."""
    fd = sys.open(path, flags | os.O_WRONLY, 0o644)
    sys.write(fd, data)
    sys.close(fd)


def read(sys: Sys, path: str) -> bytes:
    """A whole file."""
    fd = sys.open(path)
    data = sys.read(fd, 1 << 20)
    sys.close(fd)
    return data


def look(sys: Sys, path: str) -> Any:
    """What is behind a path, as `plant` takes it; a special file's type and device."""
    found = sys.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        return {name: look(sys, f"{path}/{name}") for name in sorted(sys.listdir(path))}
    if stat.S_ISLNK(found.st_mode):
        return sys.readlink(path)
    if stat.S_ISREG(found.st_mode):
        return read(sys, path)
    return found.st_mode, found.st_rdev


WHITEOUT = (stat.S_IFCHR, 0)


def world(
    over: type[FileSystemType] | FileSystemType = OverFS, tree: dict[str, Any] = TREE, **how: Any
) -> Kernel:
    """A kernel with both trees below /layers, in one ramfs, and an overfs at /over."""
    kernel = Kernel(**how)
    kernel.mount(RamFS, "/layers")

    def make(sys: Sys) -> None:
        for name in ("lower", "upper", "work"):
            sys.mkdir(f"/layers/{name}")
        plant(sys, "/layers/lower", tree)

    kernel.call(make, umask=0o022)
    kernel.mount(over, "/over", options=LAYERS)
    return kernel


def on_layers(body: Callable[[Sys], None], **how: Any) -> None:
    """Run something on an overfs over `TREE`: the lower tree stays as it was, no rule is broken,
    and the work directory is left empty.
    """

    def whole(sys: Sys) -> None:
        body(sys)
        assert look(sys, "/layers/lower") == TREE
        assert sys.listdir("/layers/work") == []

    with world(**how) as kernel:
        kernel.call(whole)
        kernel._check()


def errno_of(call: Callable[..., Any], *args: Any) -> int:
    """What a call fails with, or 0."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    return 0
