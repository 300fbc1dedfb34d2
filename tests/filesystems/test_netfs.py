"""netfs: names that change behind the cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from stat import S_IFDIR, S_IFREG

import pytest

from vfsim.filesystems.netfs import LEASE, NetFS
from vfsim.fs.kernel import Kernel
from vfsim.fs.syscalls import Sys
from vfsim.sim.scheduler import msleep
from vfsim.testing.check import check_filesystem

net: NetFS


@pytest.fixture
def k() -> Iterator[Kernel]:
    """A kernel with netfs, clean at the end."""
    global net
    net = NetFS()
    with Kernel() as kernel:
        kernel.mount(net, "/")
        yield kernel
        kernel._check()


def outlive_the_lease() -> None:
    """Sleep until nothing is believed any more."""
    msleep(LEASE // 1_000_000 + 1)


def test_a_lease_is_trusted_and_asks_nobody(k: Kernel) -> None:
    """Within the lease a walk sends no message; the one at its end is that of stat itself."""

    def run(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.close(sys.open("/d/f", os.O_CREAT | os.O_WRONLY))
        asked = net.server.asked
        sys.stat("/d/f")
        assert net.server.asked == asked + 1
        outlive_the_lease()
        asked = net.server.asked
        sys.stat("/d/f")
        assert net.server.asked == asked + 3, "the name of d, that of f, and stat"

    k.call(run)


def test_what_others_did_is_seen_when_the_lease_is_over(k: Kernel) -> None:
    """New names, removed ones, and one name that leads to another file."""

    def run(sys: Sys) -> None:
        root, server = net.server.root, net.server
        with pytest.raises(FileNotFoundError):
            sys.stat("/new")
        sys.close(sys.open("/f", os.O_CREAT | os.O_WRONLY))
        ino = sys.stat("/f").st_ino
        server.make(root, "new", 0o100644)
        server.remove(root, "f")
        server.make(root, "f", 0o100644)
        outlive_the_lease()
        assert sys.stat("/new").st_mode == 0o100644
        assert sys.stat("/f").st_ino != ino
        assert sorted(sys.listdir("/")) == ["f", "new"]

    k.call(run)


def test_a_directory_that_others_moved_keeps_its_dentry(k: Kernel) -> None:
    """Who stands in it finds itself in the new place."""

    def run(sys: Sys) -> None:
        sys.mkdir("/a")
        sys.mkdir("/b")
        sys.mkdir("/a/d")
        sys.chdir("/a/d")
        a, b = net.server.root.names["a"], net.server.root.names["b"]
        net.server.rename(a, "d", b, "e")
        outlive_the_lease()
        assert sys.stat("/b/e").st_ino == sys.stat(".").st_ino
        assert sys.getcwd() == "/b/e"
        with pytest.raises(FileNotFoundError):
            sys.stat("/a/d")

    k.call(run)


def test_what_is_gone_is_stale(k: Kernel) -> None:
    """The working directory was removed by others: ESTALE, also after asking about every name."""

    def run(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.chdir("/d")
        net.server.remove(net.server.root, "d")
        for path in (".", "f"):
            with pytest.raises(OSError) as caught:
                sys.stat(path)
            assert caught.value.errno == errno.ESTALE, path
        with pytest.raises(FileNotFoundError):
            sys.stat("/d/f")

    k.call(run)


@pytest.mark.parametrize("seed", range(40))
def test_walks_against_other_clients(seed: int) -> None:
    """Walks, renames here and renames there, in many schedules: a walk arrives, or says ENOENT or
    ESTALE."""
    made = NetFS()

    def setup(sys: Sys) -> None:
        for path in ("/a", "/b", "/a/d"):
            sys.mkdir(path)

    def outcome(call: object, *args: str) -> int:
        try:
            call(*args)  # type: ignore[operator]
        except OSError as error:
            return error.errno or 0
        return 0

    def walker(sys: Sys) -> list[int]:
        found = []
        for path in ("/a/d", "/b/d", "/a/d/../.."):
            found.append(outcome(sys.stat, path))
            outlive_the_lease()
        return found

    def renamer(sys: Sys) -> int:
        return outcome(sys.rename, "/a/d", "/b/d")

    def others(sys: Sys) -> int:
        msleep(LEASE // 2_000_000)
        root = made.server.root
        return outcome(made.server.rename, root.names["b"], "d", root.names["a"], "d")  # type: ignore[arg-type]

    with Kernel(seed=seed, strategy="pos") as k:
        k.mount(made, "/")
        k.call(setup)
        tasks = [k.process(fn, name=fn.__name__) for fn in (walker, renamer, others)]
        k.run()
        k._check()
    allowed = {0, errno.ENOENT, errno.ESTALE}
    assert set(tasks[0].result) <= allowed, tasks[0].result


def test_what_is_stale_behind_its_name_is_asked_for_again(k: Kernel) -> None:
    """A believed name leads to what is gone: the call is made again, and every name is asked
    about.
    """

    def run(sys: Sys) -> None:
        root, server = net.server.root, net.server
        sys.mkdir("/d")
        server.remove(root, "d")
        with pytest.raises(FileNotFoundError):
            sys.stat("/d")
        sys.mkdir("/d")
        old = sys.stat("/d").st_ino
        for call in (sys.stat, lambda path: sys.chmod(path, 0o700), sys.rmdir):
            server.remove(root, "d")
            server.make(root, "d", S_IFDIR | 0o755)
            call("/d")
        assert not server.names(root)
        sys.mkdir("/d")
        assert sys.stat("/d").st_ino > old
        server.remove(root, "d")
        server.make(root, "d", S_IFDIR | 0o755)
        sys.close(sys.open("/d/f", os.O_CREAT | os.O_WRONLY))
        server.remove(root.names["d"], "f")
        server.remove(root, "d")
        server.make(server.make(root, "d", S_IFDIR | 0o755), "f", S_IFREG | 0o644)
        sys.rename("/d/f", "/d/g")
        assert sys.listdir("/d") == ["g"]

    k.call(run)


def test_modes_and_owners_are_on_the_server(k: Kernel) -> None:
    """They are those of whoever makes a file, are changed there, and come back after the cache has
    forgotten the file; a file is no directory and has no size.
    """

    def run(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.chown("/d", 0, 77)
        sys.chmod("/d", 0o2777)
        sys.setgid(1000)
        sys.setuid(1000)
        fd = sys.open("/d/f", os.O_CREAT | os.O_RDWR, 0o640)
        sys.mkdir("/d/e", 0o700)
        for error, call in ((errno.ENOTDIR, lambda: sys.getdents(fd)),
                            (errno.EFBIG, lambda: sys.ftruncate(fd, 1))):  # fmt: skip
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == error
        sys.fchmod(fd, 0o600)
        sys.close(fd)
        sys.setuid(0)
        sys.drop_caches()
        for path, mode in (("/d/f", S_IFREG | 0o600), ("/d/e", S_IFDIR | 0o2700)):
            found = sys.stat(path)
            assert (found.st_mode, found.st_uid, found.st_gid) == (mode, 1000, 77)

    k.call(run)


def test_netfs_is_what_linux_expects_of_a_filesystem() -> None:
    """The conformance suite and the corpus find nothing, nor does one schedule of each scenario;
    what is stale by design is declared.
    """
    checked = check_filesystem("vfsim.filesystems.netfs", schedules=1)
    assert (checked.verdict, checked.failed) == ("clean", 0) and checked.passed > 1000
    assert all(checked.declared.values())
