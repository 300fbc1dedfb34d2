"""What a filesystem can do, so that nothing is asked of it that it never offered.

A filesystem may leave any method out; Linux then answers for it with a fixed errno.  The suite
therefore needs to know which methods there are, how long a name may be, how much fits, and which
facts beyond names and data are kept.

Methods are found by looking at the operations classes (see `ground.KernelGround.methods`), never
by trying: a ``mkdir`` that wrongly says EPERM is a failure, not a missing capability.  The rest is
found by `probe`, which tries it on fresh mounts.

Words in `Capabilities.has`:

====================== ============================================================================
create link unlink     the method of the root directory's ``inode_operations``
symlink mkdir rmdir
mknod rename tmpfile
read write llseek      the method of a regular file's ``file_operations`` (``read`` stands for
fsync                  read or read_iter, ``write`` likewise)
iterate llseek_dir     the method of a directory's ``file_operations``: ``iterate``, ``llseek``,
fsync_dir              ``fsync``
statfs                 the method of ``super_operations``
freeze                 likewise ``freeze_fs``: it can be frozen
bytewise               names are the same if their bytes are: no ``d_compare``
nested                 directories can be made inside directories made
dir_nlink              a directory has 2 links plus its subdirectories (else always 1, as on some)
dir_times              changing a directory changes its mtime and ctime, and the clock is not
                       so coarse that this cannot be seen
file_times             writing a file changes its mtime and ctime
owners                 a new file belongs to who made it
atime                  reading a file changes its atime
xattrs                 files and directories have ``user.`` extended attributes
trusted security       and ``trusted.``, ``security.`` ones, which links and special files have too
acls                   and access control lists
removed_dirs           who is in a directory that was removed can still look at it; else it is
                       stale, as over a network
persistent             what was written is there after umount and mount
noreplace exchange     rename knows these flags
whiteout
====================== ============================================================================
"""

from __future__ import annotations

import errno
import os
import struct
from functools import partial
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance.ground import Ground
    from vfsim.testing.conformance.syscalls import SystemCalls

DIRECTORY_METHODS = (
    "create", "link", "unlink", "symlink", "mkdir", "rmdir", "mknod", "rename", "tmpfile",
)  # fmt: skip
FILE_METHODS = ("read", "write", "llseek", "fsync")
DIRECTORY_FILE_METHODS = ("iterate", "llseek_dir", "fsync_dir")
METHODS = frozenset(
    (*DIRECTORY_METHODS, *FILE_METHODS, *DIRECTORY_FILE_METHODS, "statfs", "freeze", "bytewise")
)
FACTS = frozenset(
    (
        "nested", "dir_nlink", "dir_times", "file_times", "owners", "atime", "xattrs", "trusted",
        "security", "acls", "removed_dirs", "persistent",
    )
)  # fmt: skip
RENAME_FLAGS = {"noreplace": 1, "exchange": 2, "whiteout": 4}
WORDS = METHODS | FACTS | frozenset(RENAME_FLAGS)

_SIZES = (1 << 20, 1 << 16, 1 << 14, 1 << 13, 1 << 12, 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 6)
_MANY_FILES = 64

_OTHERWISE = {
    "dir_times": "changing a directory does not change its times",
    "file_times": "writing does not change the times of a file",
    "owners": "a new file does not belong to who made it",
}


@attrs.frozen
class Capabilities:
    """What one filesystem offers.

    Attributes:
        has: words of the table above.
        writable: it can be mounted read-write at all.
        name_max: the longest name in bytes.
        max_size: the largest file the suite may make, in bytes.
        max_files: how many files it may make, up to 64.
        refuses: what it declares to refuse.
    """

    has: frozenset[str]
    writable: bool = True
    name_max: int = 255
    max_size: int = 1 << 20
    max_files: int = _MANY_FILES
    refuses: tuple[Refusal, ...] = ()

    @classmethod
    def everything(cls) -> Capabilities:
        """A filesystem with every method and every fact, as Linux's own big ones."""
        return cls(has=WORDS)

    def differences(self) -> list[str]:
        """What it does otherwise than nearly every filesystem: on purpose, or by mistake."""
        possible = {fact for fact, needs, _ in _FACTS if needs <= self.has}
        return [said for fact, said in _OTHERWISE.items() if fact in possible - self.has]

    def lacking(self, needs: frozenset[str], size: int, files: int) -> str:
        """Why an assertion with these needs cannot be asked, in a few words; "" if it can."""
        missing = sorted(needs - self.has)
        if missing:
            return "needs " + ", ".join(missing)
        if size > self.max_size:
            return f"needs files of {size} bytes, the largest here has {self.max_size}"
        if files > self.max_files:
            return f"needs {files} files, only {self.max_files} fit"
        return ""


def probe(ground: Ground) -> Capabilities:
    """Find out what a filesystem offers: its methods by looking, the rest by trying.

    A probe that fails is no finding; the suite has an assertion for whatever must not fail.
    """
    caps = Capabilities(has=ground.methods(), refuses=ground.refusals())
    caps = attrs.evolve(caps, writable=ground.writable())
    if not caps.writable:
        return caps
    if "create" in caps.has:
        caps = attrs.evolve(
            caps,
            name_max=_measure(ground, _longest_name, 255),
            max_size=_largest_file(ground) if "write" in caps.has else 0,
            max_files=_measure(ground, _most_files, 1),
        )
    facts = {f for f, needs, test in _FACTS if needs <= caps.has and _holds(ground, test)}
    if ground.persistent():
        facts.add("persistent")
    return attrs.evolve(caps, has=caps.has | facts)


def _measure(ground: Ground, test: Callable[[SystemCalls], int], default: int) -> int:
    answers: list[int] = []

    def body(sys: SystemCalls) -> None:
        try:
            answers.append(test(sys))
        except OSError:
            pass

    try:
        ground.run([(body, False)])
    except Exception:  # whatever it is, the suite will meet it again and tell it
        pass
    return answers[0] if answers else default


def _holds(ground: Ground, test: Callable[[SystemCalls], bool]) -> bool:
    return bool(_measure(ground, test, 0))


def _make(sys: SystemCalls, path: str) -> int:
    return sys.open(path, os.O_CREAT | os.O_RDWR, 0o644)


def _longest_name(sys: SystemCalls) -> int:
    low, high = 1, 255  # the longest is in low..high
    while low < high:
        middle = (low + high + 1) // 2
        try:
            sys.close(_make(sys, "/" + "n" * middle))
            low = middle
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                return 255
            high = middle - 1
    return low


def _largest_file(ground: Ground) -> int:
    for size in _SIZES:
        written = _measure(ground, partial(_write, size=size), _SIZES[-1])
        if written:
            return written
    return 0


def _write(sys: SystemCalls, size: int) -> int:
    """The size, if a file can be that large, else 0."""
    fd = _make(sys, "/f")
    done = 0
    try:
        while done < size:
            done += sys.write(fd, b"x" * min(size - done, 1 << 16)) or size
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG):
            raise
        return 0
    return size


def _most_files(sys: SystemCalls) -> int:
    for count in range(_MANY_FILES):
        try:
            sys.close(_make(sys, f"/f{count}"))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return count
            return _MANY_FILES
    return _MANY_FILES


def _nested(sys: SystemCalls) -> bool:
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    sys.close(_make(sys, "/d/e/f"))
    return True


def _dir_nlink(sys: SystemCalls) -> bool:
    return sys.stat("/").st_nlink >= 2


def _dir_times(sys: SystemCalls) -> bool:
    before = sys.stat("/").st_mtime_ns
    sys.msleep(20)
    sys.close(_make(sys, "/f"))
    return sys.stat("/").st_mtime_ns != before


def _file_times(sys: SystemCalls) -> bool:
    fd = _make(sys, "/f")
    before = sys.fstat(fd).st_mtime_ns
    sys.msleep(20)
    sys.write(fd, b"x")
    return sys.fstat(fd).st_mtime_ns != before


def _atime(sys: SystemCalls) -> bool:
    fd = _make(sys, "/f")
    sys.write(fd, b"x")
    sys.utime("/f", 1_000_000_000, 1_000_000_000)
    sys.pread(fd, 1, 0)
    return sys.fstat(fd).st_atime_ns != 1_000_000_000


def _owners(sys: SystemCalls) -> bool:
    sys.chmod("/", 0o777)
    sys.setgid(1000)
    sys.setuid(1000)
    sys.close(_make(sys, "/f"))
    found = sys.stat("/f")
    return (found.st_uid, found.st_gid) == (1000, 1000)


def _xattrs(prefix: str) -> Callable[[SystemCalls], bool]:
    def holds(sys: SystemCalls) -> bool:
        sys.setxattr("/", prefix + "probe", b"1")
        return prefix + "probe" in sys.listxattr("/")

    return holds


def _acls(sys: SystemCalls) -> bool:
    sys.setxattr("/", "system.posix_acl_access", _OWNER_GROUP_OTHERS)
    return True


def _removed_dirs(sys: SystemCalls) -> bool:
    sys.mkdir("/d")
    sys.chdir("/d")
    sys.rmdir("/d")
    try:
        sys.stat(".")
    except OSError as error:
        return error.errno != errno.ESTALE
    return True


_OWNER_GROUP_OTHERS = struct.pack(
    "<IHHIHHIHHI", 2, 1, 7, 2**32 - 1, 4, 5, 2**32 - 1, 32, 5, 2**32 - 1
)


def _renames(flags: int) -> Callable[[SystemCalls], bool]:
    def holds(sys: SystemCalls) -> bool:
        sys.close(_make(sys, "/f"))
        if flags == RENAME_FLAGS["exchange"]:
            sys.close(_make(sys, "/g"))
        sys.renameat2("/f", "/g", flags)
        return True

    return holds


_FACTS: tuple[tuple[str, frozenset[str], Callable[[SystemCalls], bool]], ...] = (
    ("nested", frozenset(("mkdir", "create")), _nested),
    ("dir_nlink", frozenset(), _dir_nlink),
    ("dir_times", frozenset(("create",)), _dir_times),
    ("file_times", frozenset(("create", "write")), _file_times),
    ("atime", frozenset(("create", "write", "read")), _atime),
    ("owners", frozenset(("create",)), _owners),
    ("xattrs", frozenset(), _xattrs("user.")),
    ("trusted", frozenset(), _xattrs("trusted.")),
    ("security", frozenset(), _xattrs("security.")),
    ("acls", frozenset(), _acls),
    ("removed_dirs", frozenset(("mkdir", "rmdir")), _removed_dirs),
    *(
        (word, frozenset(("create", "rename")), _renames(flag))
        for word, flag in RENAME_FLAGS.items()
    ),
)
