"""RCU-walk: what it does not take, when it leaves, and what keeps it right."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import simpy

from tests.fs.conftest import Expect
from vfsim.checks.lifetime import free
from vfsim.filesystems.libfs import SimpleFileOperations
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import namei
from vfsim.fs.dcache import Dentry
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.namei import Nameidata
from vfsim.fs.operations import DentryOperations, InodeOperations
from vfsim.fs.operations.bits import LOOKUP_RCU, MAY_NOT_BLOCK
from vfsim.fs.permission import MAY_EXEC, generic_permission, inode_permission
from vfsim.fs.super import SuperBlock
from vfsim.fs.syscalls import Sys
from vfsim.locks.lockref import LockRef
from vfsim.locks.mutex import Mutex
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import ECHILD, KernelBug, Violation

DEEP = "/a/b/c/d/e"


def tree(sys: Sys) -> None:
    """Six names deep, with a link at the top."""
    for i in range(2, len(DEEP) + 1, 2):
        sys.mkdir(DEEP[:i])
    sys.close(sys.open(f"{DEEP}/f", os.O_CREAT | os.O_WRONLY))
    sys.symlink("a/b", "/l")
    sys.msleep(10)
    sys.stat("/l/c")  # moves the link's access time


# -- a warm walk -----------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what tasks do from now on."""
    calls: Counter[str] = Counter()

    def count(cls: type, name: str) -> None:
        real = getattr(cls, name)

        def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls[f"{cls.__name__}.{name}"] += 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(cls, name, counting)

    for cls, names in (
        (SpinLock, "lock trylock"),
        (Mutex, "lock"),
        (RwSem, "down_read down_write"),
        (LockRef, "get get_not_dead get_not_zero"),
        (simpy.Environment, "schedule step"),
    ):
        for name in names.split():
            count(cls, name)
    return calls


@pytest.mark.parametrize("path", [f"{DEEP}/f", "/l/c/d/e/f", "/a/../a/./b/c/d/e/../e/f"])
def test_a_warm_walk_takes_no_lock_and_one_reference(
    k: Kernel, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Names, a link and dots: no lock, no event, and a reference on the end alone."""
    k.call(tree)
    calls: Counter[str] = Counter()

    def walk(sys: Sys) -> None:
        sys.stat(path)
        with monkeypatch.context() as m:
            seen = counted(m)
            sys.stat(path)
        calls.update(seen)

    k.call(walk)
    assert calls == {"LockRef.get_not_dead": 1}


def test_mounts_are_crossed_without_references(k: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down into a mount and up out of it again."""
    k.call(tree)
    k.mount(RamFS(), "/a/b")
    calls: Counter[str] = Counter()

    def walk(sys: Sys) -> None:
        sys.mkdir("/a/b/in")
        assert sys.stat("/a/b/in/../../../a/b/in").st_dev == sys.stat("/a/b").st_dev
        with monkeypatch.context() as m:
            seen = counted(m)
            sys.stat("/a/b/in/../../../a/b/in")
        calls.update(seen)

    k.call(walk)
    assert calls == {"LockRef.get_not_dead": 1}


# -- what filesystems are told ---------------------------------------------------------------------

told: list[tuple[str, bool]] = []
refuse: set[str] = set()
refuse_always: set[str] = set()


def note(method: str, rcu: bool) -> None:
    """Remember a call; refuse it with ECHILD if that is wanted."""
    told.append((method, rcu))
    if (rcu and method in refuse) or method in refuse_always:
        raise ECHILD()


class Names(DentryOperations):
    """Notes who asks."""

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Never sleeps."""
        note("d_revalidate", bool(flags & LOOKUP_RCU))
        return True


class Directory(RamDirectory):
    """Notes who asks."""

    def permission(self, inode: Inode, mask: int) -> None:
        """Never sleeps."""
        note("permission", bool(mask & MAY_NOT_BLOCK))
        generic_permission(inode, mask)


class Symlink(InodeOperations):
    """Notes who asks; leads to "a"."""

    def get_link(self, dentry: Dentry | None, inode: Inode) -> str:
        """Never sleeps."""
        note("get_link", dentry is None)
        return "a"


class Telling(RamFS):
    """ramfs that tells."""

    directory = Directory()
    symlink = Symlink()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        sb.s_d_op = Names()
        super().fill_super(sb, data)


def telling(refused: str = "") -> list[tuple[str, bool]]:
    """What is called when "/l/b" is looked at, once it is warm."""
    refuse.clear()

    def run(sys: Sys) -> None:
        sys.mkdir("/a")
        sys.mkdir("/a/b")
        sys.symlink("a", "/l")
        sys.msleep(10)
        sys.stat("/l/b")
        refuse.update(refused.split())
        told.clear()
        sys.stat("/l/b")

    with Kernel() as k:
        k.mount(Telling, "/")
        k.call(run)
    return told.copy()


WARM = [
    ("permission", True),
    ("d_revalidate", True),
    ("get_link", True),
    ("permission", True),
    ("d_revalidate", True),
    ("permission", True),
    ("d_revalidate", True),
]


def test_methods_are_told_that_it_is_an_rcu_walk() -> None:
    """permission, d_revalidate and get_link, all the way."""
    assert telling() == WARM


@pytest.mark.parametrize("method", ["permission", "d_revalidate", "get_link"])
def test_echild_goes_on_with_references(method: str) -> None:
    """The method is asked again there and then, and the rest of the way is a ref-walk."""
    first = next(i for i, (name, _) in enumerate(WARM) if name == method)
    rest = [(name, False) for name, _ in WARM[first:]]
    assert telling(method) == [*WARM[: first + 1], *rest]


def ends_with_echild(path: str) -> Violation:
    """What is found when a system call answers ECHILD."""

    def run(sys: Sys) -> None:
        assert outcome(sys.stat, path) == errno.ECHILD

    with pytest.raises(KernelBug) as caught, Kernel() as k:
        k.mount(Telling, "/")
        k.call(lambda sys: sys.symlink("a", "/l"))
        k.call(run)
    return caught.value.violation


@pytest.mark.parametrize(
    ("method", "rule", "title"),
    [
        ("permission", "P2", "Directory.permission"),
        ("d_revalidate", "P1", "Names.d_revalidate"),
        ("get_link", "E1", "Symlink.get_link"),
    ],
)
def test_echild_is_no_answer_to_references(
    method: str, rule: str, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that says it to a walk with references is wrong."""
    monkeypatch.setattr(f"{__name__}.refuse_always", {method})
    found = ends_with_echild("/l")
    assert (found.rule, found.blamed) == (rule, f"filesystem {title}")
    assert "to a walk that has references" in found.summary


def test_somebody_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lets a method's ECHILD through to the program is wrong, not the method."""
    monkeypatch.setattr(f"{__name__}.refuse", {"permission"})
    monkeypatch.setattr(
        Nameidata, "may_lookup", lambda nd: inode_permission(nd.inode, MAY_EXEC | MAY_NOT_BLOCK)
    )
    monkeypatch.setattr(
        namei, "walked", lambda name, flags, dfd, walk: walk(name, flags | LOOKUP_RCU, dfd)
    )
    found = ends_with_echild("/l")
    assert (found.rule, found.blamed) == ("P2", "kernel")
    assert "nobody came back" in found.summary


def test_other_methods_may_mean_what_they_like_by_echild() -> None:
    """It is an errno like any other where no walk is asked."""

    class File(SimpleFileOperations):
        def llseek(self, file: Any, offset: int, whence: int) -> int:
            raise ECHILD()

    class Childless(RamFS):
        open_file = File()

    def run(sys: Sys) -> None:
        fd = sys.open("/f", os.O_CREAT | os.O_RDWR)
        assert outcome(sys.lseek, fd, 0) == errno.ECHILD
        sys.close(fd)

    with Kernel() as k:
        k.mount(Childless, "/")
        k.call(run)


# -- against others --------------------------------------------------------------------------------


def together(
    setup: Callable[[Sys], Any], *calls: Callable[[Sys], Any], seed: int, races: bool = True
) -> list[Any]:
    """Run processes at once in one schedule; everything must be clean."""
    with Kernel(seed=seed, races=races) as k:
        k.mount(RamFS(), "/")
        k.call(setup)
        tasks = [k.process(fn, name=fn.__name__) for fn in calls]
        k.run()
        k._check()
    return [task.result for task in tasks]


def outcome(call: Callable[..., Any], *args: Any) -> int:
    """0, or the errno."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize("seed", range(60))
def test_walks_against_renames(seed: int) -> None:
    """A directory moves to and fro under the walk: it is always in one of the two places, and ".."
    leads to where it is."""

    def setup(sys: Sys) -> None:
        for path in ("/x", "/y", "/x/d", "/x/d/e"):
            sys.mkdir(path)

    def mover(sys: Sys) -> None:
        sys.rename("/x/d", "/y/d")
        sys.rename("/y/d", "/x/d")

    def walker(sys: Sys) -> list[int]:
        return [outcome(sys.stat, path) for path in ("/x/d/e", "/y/d/e", "/x/d/e/../../../x/d")]

    for result in together(setup, mover, walker, seed=seed)[1]:
        assert result in (0, errno.ENOENT)


@pytest.mark.parametrize("seed", range(60))
def test_walks_against_removal(seed: int) -> None:
    """Names go and come back as something else: no walk sees anything in between."""

    def setup(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.mkdir("/d/a")

    def changer(sys: Sys) -> None:
        sys.rmdir("/d/a")
        sys.symlink("b", "/d/a")
        sys.mkdir("/d/b")
        sys.unlink("/d/a")

    def walker(sys: Sys) -> list[int]:
        return [outcome(sys.stat, path) for path in ("/d/a/.", "/d/a/..", "/d/a")]

    for result in together(setup, changer, walker, seed=seed)[1]:
        assert result in (0, errno.ENOENT)


@pytest.mark.parametrize("seed", range(60))
def test_walks_against_mounting(seed: int) -> None:
    """In and out of what is mounted and unmounted."""

    def setup(sys: Sys) -> None:
        sys.mkdir("/m")
        sys.mkdir("/m/below")

    def mounter(sys: Sys) -> int:
        sys.mount("none", "/m", RamFS(), 0, None)
        return outcome(sys.umount, "/m")

    def walker(sys: Sys) -> list[int]:
        return [outcome(sys.stat, path) for path in ("/m/.", "/m/below", "/m/../m/..")]

    mounted, walked = together(setup, mounter, walker, seed=seed)
    assert mounted in (0, errno.EBUSY)
    assert walked[0] == walked[2] == 0 and walked[1] in (0, errno.ENOENT)


def test_a_dentry_freed_without_a_grace_period_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a walk right that holds nothing: without it, some schedule uses freed memory."""

    def setup(sys: Sys) -> None:
        sys.close(sys.open("/a", os.O_CREAT | os.O_WRONLY))

    def remover(sys: Sys) -> None:
        fd = sys.open("/a", os.O_RDONLY)
        sys.unlink("/a")
        sys.close(fd)

    def walker(sys: Sys) -> None:
        outcome(sys.stat, "/a")

    monkeypatch.setattr("vfsim.fs.d_ref.dentry_free", lambda dentry: free(dentry, "dentry"))
    rules = set()
    for seed in range(400):
        try:
            together(setup, remover, walker, seed=seed, races=False)
        except Exception as error:
            rules.add(error.violation.rule)
            break
    assert rules == {"lifetime.use-after-free"}


def test_a_removed_working_directory_is_walked_in_rcu_mode(k: Kernel, expect: Expect) -> None:
    """An unhashed starting point is as good as any."""

    def walk(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.chdir("/d")
        sys.rmdir("/d")
        expect.ENOENT(sys.stat, "x")
        assert sys.stat("..").st_ino == sys.stat("/").st_ino
        assert sys.stat(".").st_nlink == 0

    k.call(walk)
