"""Paths that begin in an open directory; what they answer is asked by the corpus, too."""

from __future__ import annotations

import errno
import os
import stat

import pytest

import vfsim
from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    Sys,
)
from vfsim.locks.completion import Completion

CREAT = os.O_CREAT | os.O_RDWR


def test_a_tree_by_descriptors(k: Kernel) -> None:
    """Everything can be made, moved, looked at and removed without a working directory."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        d = sys.open("/d", os.O_RDONLY)
        sys.mkdirat(d, "sub", 0o700)
        sub = sys.openat(d, "sub", os.O_PATH)
        sys.close(sys.openat(sub, "file", CREAT, 0o600))
        sys.symlinkat("sub/file", d, "link")
        assert sys.readlinkat(d, "link") == "sub/file"
        assert stat.S_ISREG(sys.fstatat(d, "link").st_mode)
        assert stat.S_ISLNK(sys.fstatat(d, "link", AT_SYMLINK_NOFOLLOW).st_mode)
        sys.linkat(d, "link", sub, "hard", AT_SYMLINK_FOLLOW)
        sys.renameat(sub, "hard", d, "moved")
        sys.fchmodat(d, "moved", 0o640)
        sys.fchownat(d, "moved", 5, 6)
        sys.utimensat(d, "moved", 10**9, 2 * 10**9)
        found = sys.stat("/d/sub/file")
        assert (found.st_mode & 0o777, found.st_uid, found.st_nlink) == (0o640, 5, 2)
        assert found.st_mtime_ns == 2 * 10**9
        sys.faccessat(d, "moved", os.R_OK)
        sys.mknodat(sub, "node", stat.S_IFIFO | 0o600)
        for dfd, name in ((sub, "node"), (sub, "file"), (d, "moved"), (d, "link")):
            sys.unlinkat(dfd, name)
        sys.unlinkat(d, "sub", AT_REMOVEDIR)
        assert sys.listdir("/d") == []

    k.call(go)


def test_the_descriptor_itself(k: Kernel, expect: Expect) -> None:
    """An empty path is what is open, whatever it is; without the flag it is nothing."""

    def go(sys: Sys) -> None:
        file = sys.open("/f", CREAT)
        sys.symlink("f", "/l")
        link = sys.open("/l", os.O_PATH | os.O_NOFOLLOW)
        assert sys.fstatat(file, "", AT_EMPTY_PATH).st_ino == sys.stat("/f").st_ino
        assert sys.fstatat(AT_FDCWD, "", AT_EMPTY_PATH).st_ino == sys.stat("/").st_ino
        assert sys.readlinkat(link, "") == "f"
        expect.ENOENT(sys.readlinkat, file, "")
        expect.ENOENT(sys.fstatat, file, "")
        sys.linkat(file, "", AT_FDCWD, "/again", AT_EMPTY_PATH)
        assert sys.stat("/again").st_nlink == 2
        sys.setuid(1000)
        expect.ENOENT(sys.linkat, 99, "", AT_FDCWD, "/more", AT_EMPTY_PATH)

    k.call(go)


def test_what_is_no_directory(k: Kernel, expect: Expect) -> None:
    """It is asked about for relative paths alone, after the path as a text, before its names."""

    def go(sys: Sys) -> None:
        file = sys.open("/f", CREAT)
        expect.ENOTDIR(sys.openat, file, "x")
        expect.EBADF(sys.openat, 99, "x")
        expect.EBADF(sys.openat, -1, "x")
        expect.ENAMETOOLONG(sys.openat, 99, "n" * 4096)
        expect.ENOENT(sys.openat, 99, "")
        assert sys.fstatat(99, "/f").st_ino == sys.fstat(file).st_ino
        with pytest.raises(TypeError, match="a file descriptor is an integer, got '/'"):
            sys.openat("/", "x")  # type: ignore[arg-type]

    k.call(go)


class ClosedMeanwhile(vfsim.Scenario):
    """A thread closes the directory that another begins in, while somebody removes it."""

    filesystem = RamFS

    def setup(self, sys: Sys) -> None:
        sys.mkdir("/d")
        sys.close(sys.open("/d/a", CREAT))
        self.opened = Completion("opened")

    @vfsim.task
    def walker(self, sys: Sys) -> list[int]:
        fd = sys.open("/d", os.O_RDONLY)
        self.opened.complete()
        sys.thread(lambda sys: sys.close(fd), name="closer")
        calls = ((sys.fstatat, fd, "a"), (sys.mkdirat, fd, "b"), (sys.fstatat, fd, ".."))
        return [self.outcome(*call).errno for call in calls]

    @vfsim.task
    def remover(self, sys: Sys) -> list[int]:
        self.opened.wait()
        return [self.outcome(sys.unlink, "/d/a").errno, self.outcome(sys.rmdir, "/d").errno]

    def check(self, sys: Sys, results: vfsim.Results) -> None:
        looked, made, above = results.walker
        assert looked in (0, errno.EBADF, errno.ENOENT)
        assert made in (0, errno.EBADF, errno.ENOENT)
        assert above in (0, errno.EBADF)
        assert results.remover == [0, errno.ENOTEMPTY if made == 0 else 0]


def test_the_directory_goes_away() -> None:
    """Each call finds what there is, or says that there is nothing; and all of that happens."""
    seen: set[tuple[int, ...]] = set()

    class Seen(ClosedMeanwhile):
        def check(self, sys: Sys, results: vfsim.Results) -> None:
            super().check(sys, results)
            seen.add(tuple(results.walker))

    vfsim.explore(Seen, schedules=300)
    assert {errnos[0] for errnos in seen} == {0, errno.EBADF, errno.ENOENT}
