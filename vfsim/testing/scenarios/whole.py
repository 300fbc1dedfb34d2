"""Scenarios about a filesystem as a whole: it is frozen, made read-only, shown in a second place,
ended while it has still something to do.

`freeze` is one call for the oracle, from the freeze to the thaw: what it answers is whether the
tree stood still in between.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vfsim.fs.ioctl import FIFREEZE, FITHAW
from vfsim.fs.super import MS_BIND, MS_RDONLY, MS_REMOUNT
from vfsim.fs.umount import MNT_DETACH
from vfsim.testing.scenarios.base import file, folder, scenario
from vfsim.testing.scenarios.calls import (
    Actor,
    Step,
    append,
    create,
    empty,
    listdir,
    mkdir,
    one,
    put,
    read,
    rename,
    rmdir,
    sync,
    unlink,
    write_fsync,
)
from vfsim.testing.scenarios.oracle import Weak, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.syscalls import Sys
    from vfsim.testing.scenarios.base import LibraryScenario
    from vfsim.testing.scenarios.calls import Kept

    Found = type[LibraryScenario]

_F = (file("/f", b"old data"),)
_TWO = (folder("/d"), folder("/b"))
_BUSY = Weak(busy=0)


def freeze() -> Actor:
    """FIFREEZE, two looks at everything, FITHAW."""

    def do(sys: Sys) -> str:
        names = tuple("abcdepqrtx")
        fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
        sys.ioctl(fd, FIFREEZE)
        before = tree(sys, names)
        sys.msleep(1)
        still = tree(sys, names) == before
        sys.ioctl(fd, FITHAW)
        sys.close(fd)
        return "still" if still else "changed while frozen"

    return one("freeze(/)", "freeze", do, changes=False)


def remount_readonly() -> Actor:
    """mount(MS_REMOUNT|MS_RDONLY); it stays so."""
    return one("remount(/,ro)", "", lambda sys: sys.mount("", "/", "", MS_REMOUNT | MS_RDONLY))


def bind(old: str, new: str) -> Actor:
    """mount(MS_BIND), then umount(MNT_DETACH)."""
    steps = (
        Step("bind", lambda sys, kept: sys.mount(old, new, "", MS_BIND)),
        Step("umount", lambda sys, kept: sys.umount(new, MNT_DETACH)),
    )
    return Actor(f"bind+umount({old[1:]},{new[1:]})", steps, "mkdir")


def visit(place: str) -> Actor:
    """Mount another of the same type, change it, and unmount it at once.

    Works and timers of its own are still to come then; whoever is only unmounted when the world has
    come to rest forgets them unseen.  One that needs a disk is not mounted: the file is made in the
    directory.
    """

    def mount(sys: Sys, kept: Kept) -> None:
        kind = sys.mounts()[0].split()[2]
        sys.mount("none", place, kind)

    def create(sys: Sys, kept: Kept) -> None:
        sys.close(sys.open(f"{place}/x", os.O_CREAT | os.O_WRONLY, 0o644))

    steps = (
        Step("mount", mount),
        Step("create", create),
        Step("umount", lambda sys, kept: sys.umount(place)),
    )
    return Actor(f"mount+create+umount({place[1:]})", steps, "mkdir create")


def freezing() -> Iterator[Found]:
    """A freeze against those who change something."""
    yield scenario(freeze(), create("/a"))
    yield scenario(freeze(), append("/f", b"new"), before=_F)
    yield scenario(freeze(), write_fsync("/f", b"new"), before=_F)
    yield scenario(freeze(), empty("/f"), read("/f"), before=_F, weak=Weak(zeros=True))
    yield scenario(freeze(), unlink("/f"), create("/a"), before=_F)
    yield scenario(freeze(), rename("/f", "/a"), sync(), before=_F)


def remounting() -> Iterator[Found]:
    """It becomes read-only: EBUSY if somebody is about to write, else EROFS for who comes later."""
    yield scenario(remount_readonly(), create("/a"), weak=_BUSY)
    yield scenario(remount_readonly(), put("/a", b"new"), weak=_BUSY)
    yield scenario(remount_readonly(), append("/f", b"new"), before=_F, weak=_BUSY)
    yield scenario(remount_readonly(), unlink("/f"), before=_F, weak=_BUSY)
    yield scenario(remount_readonly(), rename("/f", "/a"), sync(), before=_F, weak=_BUSY)


def binding() -> Iterator[Found]:
    """A directory is shown in another place, and no more."""
    yield scenario(bind("/d", "/b"), create("/b/a"), before=_TWO)
    yield scenario(bind("/d", "/b"), mkdir("/b/a"), listdir("/b"), before=_TWO)
    yield scenario(bind("/d", "/b"), rmdir("/b"), before=_TWO)


def ending() -> Iterator[Found]:
    """One is made and ended beside another of its type."""
    yield scenario(visit("/d"), create("/a"), before=_TWO[:1])
    yield scenario(visit("/d"), sync(), before=_TWO[:1])
