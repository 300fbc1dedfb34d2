"""Random programs, run by the kernel underneath and by ours, and compared after every call.

A *program* is a list of calls; number *n* of them is always the same one (`program`).  `on_linux`
runs it in a tree of its own and keeps what every call said and what the tree was like then;
`on_ours` runs it on a simulated filesystem and stops at the first difference.  A program that shows
one is made smaller (`smaller`) before anybody reads it.

Both see the root of a filesystem as "/", so that ".." cannot lead out of it.  Of the tree is
compared: paths, types, modes, links, owners, sizes, contents, which names are one file, extended
attributes and lists, and of the times whether they changed with the call.  What may differ, and
why, is the table `MAY_DIFFER`.
"""

from __future__ import annotations

import fcntl
import os
import random
from stat import S_IFREG, S_IFSOCK, S_ISDIR
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.testing import host
from tests.testing.record import HostActor
from vfsim.fs.kernel import Kernel
from vfsim.fs.process import ROOT_CRED, current_process
from vfsim.testing.conformance.corpus.answers import ask
from vfsim.testing.conformance.corpus.lists import ACCESS, DEFAULT, packed
from vfsim.testing.conformance.corpus.stage import FUTURE, look_around
from vfsim.testing.model import Call
from vfsim.testing.strategies import EDGE_NAMES, NAMES, USERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vfsim.testing.conformance import SystemCalls
    from vfsim.testing.conformance.corpus.stage import Line

LENGTH = 40
"""Calls of a program."""

PATIENT = 16
"""Every so many programs time passes on Linux before every call, so that times can be compared."""

_NO_TIMES = 9
"""Words of a line without its times."""

MAY_DIFFER = {
    "directory sizes, st_blocks, st_dev, inode numbers": "each filesystem has its own; which names "
    "are one file is compared instead",
    "the order of names in a directory": "each filesystem has its own",
    "lseek in a directory, and getdents after it": "positions there are its filesystem's",
    "atime": "looking at the tree changes it",
    "O_CREAT and O_EXCL of a directory by no name of its own": "EEXIST since v5.6, EISDIR before",
    "mtime and ctime with truncate(2)": "v4.10 leaves them to the filesystem; ramfs does nothing",
    "ctime with the calls that set and remove attributes": "v4.10 leaves it to the filesystem; "
    "tmpfs sets it since v6.1",
    "wrong flags and names of attributes, empty lists": "not made: other errors come first since "
    "v6.13, and the last remove a list since v6.2",
    "link by others than root": "not made: fs.protected_hardlinks may be set",
    "FIFOs and devices": "none is made: to open one is another story",
    "O_CREAT with O_DIRECTORY": "not made: refused since v6.3",
    "set-group-ID of files": "not made: later kernels are stricter",
    "RENAME_WHITEOUT, O_TMPFILE": "not made: the first is root's before v5.8",
    "RENAME_EXCHANGE": "made only where the filesystem knows it",
}
"""What is not compared, or never done: each with its reason."""


# Programs.  --------------------------------------------------------------------------------------

_MODES = (0o644, 0o755, 0o777, 0o700, 0o600, 0o444, 0o111, 0, 0o1777, 0o4755)
_SIZES = (0, 1, 3, 10, 4095, 4096, 4097)
_FDS = (0, 0, 0, 1, 1, 2, 99)
_OPEN = (
    os.O_CREAT, os.O_CREAT, os.O_CREAT, 0, 0, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC,
    os.O_TRUNC, os.O_APPEND, os.O_CREAT | os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_PATH,
    os.O_CREAT | os.O_NOFOLLOW,
)  # fmt: skip


_XATTRS = ("user.a", "user.a", "user.b", "trusted.a", "security.a")
_LISTS = (ACCESS, ACCESS, DEFAULT)
_LIST_VALUES = tuple(map(packed, (
    "u::6 g::4 o::0", "u::7 u:1000:6 g::5 m::7 o::0", "u::7 u:1001:0 g::7 m::7 o::7",
    "u::6 g::4 g:1001:6 m::6 o::4", "u::7 u:1000:7 g::7 m::0 o::5", "u::0 g::0 o::0",
    "u::7 u:1000:7 u:1001:3 g::5 g:1000:2 m::6 o::1", "u::6 u:1000:6 g::4 o::0", "",
)))  # fmt: skip
"""The last but one has no mask, which is wrong; the last has no entries, which removes a list."""


class Dice:
    """What arguments are made of."""

    def __init__(self, number: int, has: frozenset[str]) -> None:
        self.random = random.Random(number)
        self.has = has

    def path(self) -> str:
        """Plain in most cases."""
        r, kind = self.random, self.random.randrange(10)
        if kind < 8:
            return "/" + "/".join(r.choices(NAMES, k=r.choice((1, 1, 1, 2, 2, 2, 3))))
        if kind == 8:
            return r.choice(("", "/", ".", "..", "a", "b", "d/..", "a/.", "//d", "/a/"))
        names = [r.choice((*NAMES, *EDGE_NAMES, ".", "..")) for _ in range(r.choice((1, 2)))]
        return r.choice(("/", "", "//")) + "/".join(names) + r.choice(("", "/"))

    def any(self, some: Sequence[Any]) -> Any:
        """One of them."""
        return self.random.choice(some)

    def data(self) -> bytes:
        """One letter, so many times."""
        return self.any((b"x", b"y", b"z")) * int(self.any(_SIZES))

    def attribute(self) -> tuple[str, bytes]:
        """A name and a value."""
        if "acls" in self.has and self.random.random() < 0.5:
            return self.any(_LISTS), self.any(_LIST_VALUES)
        return self.any(_XATTRS), self.data()[:64]

    def flags(self) -> int:
        """Of renameat2."""
        known = {"noreplace": 1, "exchange": 2}
        return int(self.any([0, *(flag for word, flag in known.items() if word in self.has)]))


_ALL_XATTRS = "xattrs trusted security"
_CALLS: dict[str, tuple[int, str, Callable[[Dice], tuple[Any, ...]]]] = {
    "open": (8, "create", lambda d: (
        d.path(), d.any((0, 1, 2, 2)) | d.any(_OPEN) | os.O_NONBLOCK, d.any(_MODES))),
    "close": (3, "", lambda d: (d.any(_FDS),)),
    "dup": (1, "", lambda d: (d.any(_FDS),)),
    "dup2": (1, "", lambda d: (d.any(_FDS), d.any((0, 1, 2)))),
    "fcntl": (1, "", lambda d: d.any((
        (d.any(_FDS), fcntl.F_DUPFD, 1), (d.any(_FDS), fcntl.F_GETFL, 0),
        (d.any(_FDS), fcntl.F_SETFL, os.O_APPEND), (d.any(_FDS), fcntl.F_SETFL, 0)))),
    "read": (2, "read", lambda d: (d.any(_FDS), d.any(_SIZES))),
    "pread": (1, "read", lambda d: (d.any(_FDS), d.any(_SIZES), d.any((*_SIZES, -1)))),
    "write": (3, "write", lambda d: (d.any(_FDS), d.data())),
    "pwrite": (2, "write", lambda d: (d.any(_FDS), d.data(), d.any((*_SIZES, -1)))),
    "lseek": (1, "llseek", lambda d: (d.any(_FDS[:4]), d.any((*_SIZES, -1)), d.any((0, 1, 9)))),
    "truncate": (2, "write", lambda d: (d.path(), d.any((*_SIZES, -1)))),
    "ftruncate": (2, "write", lambda d: (d.any(_FDS), d.any((*_SIZES, -1)))),
    "fsync": (1, "fsync fsync_dir", lambda d: (d.any(_FDS),)),
    "fdatasync": (1, "fsync fsync_dir", lambda d: (d.any(_FDS),)),
    "stat": (2, "", lambda d: (d.path(),)),
    "lstat": (2, "", lambda d: (d.path(),)),
    "fstat": (1, "", lambda d: (d.any(_FDS),)),
    "mkdir": (8, "mkdir", lambda d: (d.path(), d.any(_MODES))),
    "rmdir": (4, "rmdir", lambda d: (d.path(),)),
    "unlink": (5, "unlink", lambda d: (d.path(),)),
    "rename": (7, "rename", lambda d: (d.path(), d.path())),
    "renameat2": (4, "rename", lambda d: (d.path(), d.path(), d.flags())),
    "link": (4, "link", lambda d: (d.path(), d.path(), d.any((0, 0, 0x400)))),
    "symlink": (4, "symlink", lambda d: (d.any((d.path(), "a", "..", "/", "d/b", "b")), d.path())),
    "readlink": (1, "symlink", lambda d: (d.path(),)),
    "mknod": (2, "mknod", lambda d: (
        d.path(), d.any((S_IFREG, S_IFREG, S_IFSOCK)) | d.any(_MODES), 0x103)),
    "listdir": (1, "iterate", lambda d: (d.path(),)),
    "getdents": (1, "iterate", lambda d: (d.any(_FDS),)),
    "chdir": (2, "", lambda d: (d.path(),)),
    "fchdir": (1, "", lambda d: (d.any(_FDS),)),
    "getcwd": (1, "", lambda d: ()),
    "access": (1, "", lambda d: (d.path(), d.any(range(8)))),
    "chmod": (3, "", lambda d: (d.path(), d.any(_MODES))),
    "fchmod": (1, "", lambda d: (d.any(_FDS), d.any(_MODES))),
    "chown": (2, "owners", lambda d: (d.path(), d.any((*USERS, -1)), d.any((*USERS, -1)))),
    "lchown": (2, "owners", lambda d: (d.path(), d.any((*USERS, -1)), d.any((*USERS, -1)))),
    "fchown": (1, "owners", lambda d: (d.any(_FDS), d.any((*USERS, -1)), d.any((*USERS, -1)))),
    "utime": (1, "", lambda d: (d.path(), *d.any(((None, None), (FUTURE, FUTURE + 10**9))))),
    "umask": (1, "", lambda d: (d.any((0o022, 0, 0o077)),)),
    "setuid": (2, "owners", lambda d: (d.any((0, 0, 0, *USERS)),)),
    "setgid": (1, "owners", lambda d: (d.any(USERS),)),
    "setgroups": (1, "owners", lambda d: (d.any(((), (1000,), (1000, 1001))),)),
    "statfs": (1, "statfs", lambda d: (d.path(),)),
    "setxattr": (4, _ALL_XATTRS, lambda d: (d.path(), *d.attribute(), d.any((0, 0, 0, 1, 2)))),
    "lsetxattr": (1, _ALL_XATTRS, lambda d: (d.path(), *d.attribute(), 0)),
    "fsetxattr": (1, _ALL_XATTRS, lambda d: (d.any(_FDS), *d.attribute(), 0)),
    "getxattr": (1, _ALL_XATTRS, lambda d: (d.path(), d.attribute()[0])),
    "listxattr": (1, _ALL_XATTRS, lambda d: (d.path(),)),
    "removexattr": (2, _ALL_XATTRS, lambda d: (d.path(), d.attribute()[0])),
}  # fmt: skip
"""Each call: how often, what the filesystem must have, and its arguments."""


def program(number: int, has: frozenset[str], length: int = LENGTH) -> list[Call]:
    """Program number so and so, for a filesystem with these capabilities."""
    dice = Dice(number, has)
    some = {name: row for name, row in _CALLS.items() if has.issuperset(row[1].split())}
    names = dice.random.choices(list(some), [row[0] for row in some.values()], k=length)
    return [Call(name, some[name][2](dice)) for name in names]


# Running.  ---------------------------------------------------------------------------------------


BEGINNING = (
    Call("umask", (0,)),
    Call("chmod", ("/", 0o777)),
    Call("mkdir", ("/d", 0o777)),
    Call("mkdir", ("/d/b", 0o1777)),
    Call("mknod", ("/a", S_IFREG | 0o644, 0)),
    Call("mknod", ("/d/a", S_IFREG | 0o666, 0)),
    Call("mknod", ("/d/b/a", S_IFREG | 0o4755, 0)),
    Call("symlink", ("d/b", "/b")),
    Call("umask", (0o022,)),
)
"""What there is before a program begins."""


_SETTERS = "setxattr", "lsetxattr", "fsetxattr"
_CHANGERS = (*_SETTERS, "removexattr")


class Moment(NamedTuple):
    """What a call said, what the tree was like then, and whether time had passed since it was last
    looked at: if not, a time may be the same although it was set.
    """

    said: Any
    tree: dict[str, tuple[Any, ...]]
    later: bool


class Looker:
    """Looks at the tree again and again; at attributes if any can be there."""

    def __init__(self, sys: SystemCalls, xattrs: bool = False) -> None:
        self.sys = sys
        self.xattrs = xattrs
        self.lines: dict[str, Line] = {}

    def look(self) -> dict[str, tuple[Any, ...]]:
        """Sleeps.  The tree, with what changed since the last look."""
        before, self.lines = self.lines, look_around(self.sys, xattrs=self.xattrs)
        first: dict[int, str] = {}
        tree = {}
        for path, line in self.lines.items():
            same = "" if line.kind == "dir" else first.setdefault(line.ino, path)
            once = "" if same == path else same
            tree[path] = (*line[:7], once, line.xattrs, *_times(before.get(path), line))
        return tree


def _times(old: Line | None, new: Line) -> tuple[Any, ...]:
    """What became of mtime and ctime; nothing is said of a name that was not there, or led to
    something else.
    """
    if old is None or old.ino != new.ino:
        return ()
    mtime: int | bool = new.mtime != old.mtime
    if mtime and new.mtime >= FUTURE:
        mtime = new.mtime
    return mtime, new.ctime != old.ctime


def _begin(sys: SystemCalls, calls: Sequence[Call]) -> Looker:
    """Sleeps.  Make what there is before, as far as it can be made, and look at it."""
    for call in BEGINNING:
        ask(sys, call)
    looker = Looker(sys, any(call.name in _SETTERS for call in calls))
    looker.look()
    return looker


def on_linux(calls: Sequence[Call], patient: bool) -> list[Moment]:
    """Run a program in this process, which has a tree of its own.

    ``patient``: let time pass before every call.
    """
    os.closerange(host.FIRST_FD, host.KEPT_FD)
    os.setgroups([])
    sys: Any = host.FreshSys()
    looker = _begin(sys, calls)
    moments = []
    actor = HostActor()
    for call in calls:
        latest = max(max(line.mtime % FUTURE, line.ctime) for line in looker.lines.values())
        later = (actor.tick(latest) if patient else actor.now()) > latest
        said = ask(sys, call) if not (call.name == "link" and os.geteuid()) else None
        who = os.geteuid(), os.getegid()
        os.seteuid(0)
        os.setegid(0)
        moments.append(Moment(said, looker.look(), later))
        os.setegid(who[1])
        os.seteuid(who[0])
    return moments


def on_ours(filesystem: type[Any], calls: Sequence[Call], moments: Sequence[Moment]) -> str:
    """Run it on a simulated filesystem; the first difference, or ""."""
    wrong: list[str] = []
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        kernel.call(lambda sys: wrong.extend(_compare(sys, calls, moments)))
    return "\n".join(wrong)


def _compare(sys: Any, calls: Sequence[Call], moments: Sequence[Moment]) -> Iterator[str]:
    """Sleeps.  Make the calls; the lines of a report if one goes wrong."""
    looker = _begin(sys, calls)
    told = []
    sought = False
    for call, moment in zip(calls, moments, strict=True):
        if moment.said is None:
            continue
        sys.msleep(10)
        said = ask(sys, call)
        told.append(f"{call} = {said}")
        process = current_process()
        mine, process.cred = process.cred, ROOT_CRED
        tree = looker.look()
        process.cred = mine
        wrong = list(_differences(call, moment, tree))
        sought = sought or call.name == "lseek"
        if said != moment.said and not _may_differ(sys, call, moment.said, said, sought):
            wrong.insert(0, f"Linux says {moment.said}")
        if wrong:
            yield from (*told, *wrong)
            return


def _may_differ(sys: SystemCalls, call: Call, linux: Any, ours: Any, sought: bool) -> bool:
    """Whether a call may have said something else; ``sought``: somebody has moved a position."""
    if call.name == "open" and call.args[1] & os.O_EXCL:
        return (linux, ours) == ("EEXIST", "EISDIR")
    if call.name == "lseek" and isinstance(linux, list) and isinstance(ours, list):
        return S_ISDIR(sys.fstat(call.args[0]).st_mode)
    return sought and call.name == "getdents"


def _differences(call: Call, moment: Moment, ours: dict[str, Any]) -> Iterator[str]:
    linux = moment.tree
    for path in sorted({*linux, *ours}):
        want, got = linux.get(path), ours.get(path)
        if want == got or (want and got and _excused(call, moment.later, want, got)):
            continue
        yield f"{path}: Linux has {_short(want)}, here is {_short(got)}"


def _excused(call: Call, later: bool, want: tuple[Any, ...], got: tuple[Any, ...]) -> bool:
    """Whether two lines differ in times only, where these may differ."""
    if want[:_NO_TIMES] != got[:_NO_TIMES]:
        return False
    if call.name == "truncate" or (call.name in _CHANGERS and call.args[1] in _XATTRS):
        return True
    pairs = zip(want[_NO_TIMES:], got[_NO_TIMES:], strict=False)
    return not later and all(a is False or a == b for a, b in pairs)


def _short(line: Any) -> str:
    text = "nothing" if line is None else repr(line)
    return text if len(text) < 160 else text[:120] + " ... " + text[-30:]


# Comparing.  -------------------------------------------------------------------------------------


class Both:
    """Linux and ours, in the child that owns ``ground``."""

    def __init__(self, ground: host.HostGround, filesystem: type[Any]) -> None:
        self.ground = ground
        self.filesystem = filesystem

    def differ(self, calls: Sequence[Call], patient: bool = True) -> str:
        """Where they differ, or ""."""
        moments: list[Moment] = []
        body = lambda sys: moments.extend(on_linux(calls, patient))  # noqa: E731
        self.ground.run([(body, False)])
        return on_ours(self.filesystem, calls, moments)

    def search(self, numbers: range, has: frozenset[str]) -> str:
        """The first program that shows a difference, made smaller, and the difference; or ""."""
        for number in numbers:
            calls = program(number, has)
            found = self.differ(calls, patient=number % PATIENT == 0)
            if found:
                return f"program {number}:\n{self.differ(smaller(calls, self.differ)) or found}"
        return ""


def smaller(calls: list[Call], fails: Callable[[list[Call]], str]) -> list[Call]:
    """Drop calls, many at once and then one at a time, as long as the rest still fails."""
    size = len(calls) // 2
    while size:
        start = 0
        while start < len(calls):
            rest = calls[:start] + calls[start + size :]
            if fails(rest):
                calls = rest
            else:
                start += size
        size //= 2
    return calls
