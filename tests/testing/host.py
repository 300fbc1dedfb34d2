"""The kernel the tests run on, behind the same system calls.

The conformance suite says what Linux does; here Linux is asked.  `HostGround` runs assertions in a
forked child with a mount namespace of its own.  Every assertion gets a fresh tree there and is
locked into it with chroot, so that "/" is the root of the tree, and what it leaves behind is gone
with the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import pickle
import struct
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vfsim.testing.conformance.capabilities import METHODS, Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vfsim.fs.refusal import Refusal
    from vfsim.testing.conformance.ground import Step

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_GETDENTS64, SYS_RENAMEAT2 = 217, 316
SYS_NEWFSTATAT, SYS_FCHMODAT, SYS_FACCESSAT, SYS_UTIMENSAT = 262, 268, 269, 280
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
KEPT_FD = 300
"""Descriptors from here on are the ground's; the assertions' own lie below."""


def check(result: int) -> int:
    """Turn libc's -1 into an OSError."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class _Stat(NamedTuple):
    """What newfstatat(2) tells, as far as it is looked at."""

    st_ino: int
    st_nlink: int
    st_mode: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int


class HostSys:
    """`SystemCalls`, answered by the kernel underneath."""

    close = staticmethod(os.close)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    lseek = staticmethod(os.lseek)
    stat = staticmethod(os.stat)
    lstat = staticmethod(os.lstat)
    fstat = staticmethod(os.fstat)
    mkdir = staticmethod(os.mkdir)
    rmdir = staticmethod(os.rmdir)
    unlink = staticmethod(os.unlink)
    rename = staticmethod(os.rename)
    symlink = staticmethod(os.symlink)
    readlink = staticmethod(os.readlink)
    mknod = staticmethod(os.mknod)
    mkfifo = staticmethod(os.mkfifo)
    chmod = staticmethod(os.chmod)
    fchmod = staticmethod(os.fchmod)
    chown = staticmethod(os.chown)
    lchown = staticmethod(os.lchown)
    fchown = staticmethod(os.fchown)
    truncate = staticmethod(os.truncate)
    ftruncate = staticmethod(os.ftruncate)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(os.fdatasync)
    sync = staticmethod(os.sync)
    chdir = staticmethod(os.chdir)
    fchdir = staticmethod(os.fchdir)
    getcwd = staticmethod(os.getcwd)
    umask = staticmethod(os.umask)
    dup2 = staticmethod(os.dup2)
    fcntl = staticmethod(fcntl.fcntl)
    setuid = staticmethod(os.seteuid)
    setgid = staticmethod(os.setegid)

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        fd = os.open(path, flags, mode)  # Python adds O_CLOEXEC of its own
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC if flags & os.O_CLOEXEC else 0)
        return fd

    def dup(self, fd: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_DUPFD, 0)

    def setgroups(self, groups: Iterable[int]) -> None:
        os.setgroups(list(groups))

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, old: str, new: str, flags: int = 0) -> None:
        names = os.fsencode(old), os.fsencode(new)
        check(LIBC.linkat(AT_FDCWD, names[0], AT_FDCWD, names[1], flags))

    def umount(self, path: str, flags: int = 0) -> None:
        check(LIBC.umount2(os.fsencode(path), flags))

    def renameat2(self, old: str, new: str, flags: int) -> None:
        names = os.fsencode(old), os.fsencode(new)
        check(LIBC.syscall(SYS_RENAMEAT2, AT_FDCWD, names[0], AT_FDCWD, names[1], flags))

    def utime(self, path: str, atime_ns: int | None = None, mtime_ns: int | None = None) -> None:
        if atime_ns is None or mtime_ns is None:
            os.utime(path)
        else:
            os.utime(path, ns=(atime_ns, mtime_ns))

    def access(self, path: str, mode: int) -> None:
        check(LIBC.access(os.fsencode(path), mode))

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(path, name, value, flags)

    def lsetxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(path, name, value, flags, follow_symlinks=False)

    def fsetxattr(self, fd: int, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(fd, name, value, flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(path, name)

    def lgetxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(path, name, follow_symlinks=False)

    def fgetxattr(self, fd: int, name: str) -> bytes:
        return os.getxattr(fd, name)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(path)

    def llistxattr(self, path: str) -> list[str]:
        return os.listxattr(path, follow_symlinks=False)

    def flistxattr(self, fd: int) -> list[str]:
        return os.listxattr(fd)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(path, name)

    def lremovexattr(self, path: str, name: str) -> None:
        os.removexattr(path, name, follow_symlinks=False)

    def fremovexattr(self, fd: int, name: str) -> None:
        os.removexattr(fd, name)

    def flink(self, fd: int, new: str) -> None:
        check(LIBC.linkat(fd, b"", AT_FDCWD, os.fsencode(new), AT_EMPTY_PATH))

    def openat(self, dfd: int, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return check(LIBC.openat(dfd, os.fsencode(path), flags, mode))

    def mkdirat(self, dfd: int, path: str, mode: int = 0o777) -> None:
        check(LIBC.mkdirat(dfd, os.fsencode(path), mode))

    def mknodat(self, dfd: int, path: str, mode: int, dev: int = 0) -> None:
        check(LIBC.mknodat(dfd, os.fsencode(path), mode, dev))

    def unlinkat(self, dfd: int, path: str, flags: int = 0) -> None:
        check(LIBC.unlinkat(dfd, os.fsencode(path), flags))

    def symlinkat(self, target: str, dfd: int, path: str) -> None:
        check(LIBC.symlinkat(os.fsencode(target), dfd, os.fsencode(path)))

    def readlinkat(self, dfd: int, path: str) -> str:
        buffer = ctypes.create_string_buffer(4096)
        length = check(LIBC.readlinkat(dfd, os.fsencode(path), buffer, len(buffer)))
        return os.fsdecode(buffer.raw[:length])

    def linkat(self, old_dfd: int, old: str, new_dfd: int, new: str, flags: int = 0) -> None:
        names = os.fsencode(old), os.fsencode(new)
        check(LIBC.linkat(old_dfd, names[0], new_dfd, names[1], flags))

    def renameat(self, old_dfd: int, old: str, new_dfd: int, new: str, flags: int = 0) -> None:
        names = os.fsencode(old), os.fsencode(new)
        check(LIBC.syscall(SYS_RENAMEAT2, old_dfd, names[0], new_dfd, names[1], flags))

    def fstatat(self, dfd: int, path: str, flags: int = 0) -> _Stat:
        buffer = ctypes.create_string_buffer(144)
        check(LIBC.syscall(SYS_NEWFSTATAT, dfd, os.fsencode(path), buffer, flags))
        return _Stat._make(struct.unpack_from("=QQIII4xQq", buffer.raw, 8))

    def faccessat(self, dfd: int, path: str, mode: int) -> None:
        check(LIBC.syscall(SYS_FACCESSAT, dfd, os.fsencode(path), mode))

    def fchmodat(self, dfd: int, path: str, mode: int) -> None:
        check(LIBC.syscall(SYS_FCHMODAT, dfd, os.fsencode(path), mode))

    def fchownat(self, dfd: int, path: str, uid: int, gid: int, flags: int = 0) -> None:
        check(LIBC.fchownat(dfd, os.fsencode(path), uid, gid, flags))

    def utimensat(
        self,
        dfd: int,
        path: str,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        flags: int = 0,
    ) -> None:
        times = None
        if atime_ns is not None and mtime_ns is not None:
            times = struct.pack("=4q", *divmod(atime_ns, 10**9), *divmod(mtime_ns, 10**9))
        check(LIBC.syscall(SYS_UTIMENSAT, dfd, os.fsencode(path), times, flags))

    def syncfs(self, fd: int) -> None:
        check(LIBC.syncfs(fd))

    def drop_caches(self, what: int = 3) -> None:
        """The host's caches are everybody's; what they forget changes no answer."""

    def getdents(self, fd: int) -> list[tuple[str, int, int]]:
        buffer = ctypes.create_string_buffer(32768)
        length = check(LIBC.syscall(SYS_GETDENTS64, fd, buffer, len(buffer)))
        data, entries, start = buffer.raw[:length], [], 0
        while start < length:
            number = int.from_bytes(data[start : start + 8], "little")
            size = int.from_bytes(data[start + 16 : start + 18], "little")
            name = data[start + 19 : start + size].split(b"\0", 1)[0]
            entries.append((os.fsdecode(name), number, data[start + 18]))
            start += size
        return entries

    def statfs(self, path: str) -> Any:
        return _StatFs(os.statvfs(path))

    def fstatfs(self, fd: int) -> Any:
        return _StatFs(os.fstatvfs(fd))

    def msleep(self, ms: int) -> None:
        time.sleep(ms / 1000)


FIRST_FD = 3
"""The first descriptor that a process of the tests has free."""


def _place(dfd: int) -> int:
    """AT_FDCWD, and what never is a descriptor, stay what they are."""
    return dfd if dfd < 0 else dfd + FIRST_FD


def _beginning(name: str, *places: int) -> Any:
    """A call whose arguments of these numbers are directories to begin in."""

    def call(self: FreshSys, *args: Any) -> Any:
        shifted = [_place(arg) if i in places else arg for i, arg in enumerate(args)]
        return getattr(super(FreshSys, self), name)(*shifted)

    return call


def _shifted(name: str) -> Any:
    def call(self: FreshSys, fd: int, *args: Any) -> Any:
        return getattr(super(FreshSys, self), name)(fd + FIRST_FD, *args)

    return call


class FreshSys(HostSys):
    """The same with descriptors that begin at 0, as those of a fresh process here do."""

    (
        close, read, write, pread, pwrite, lseek, fstat, ftruncate, fsync, fdatasync, fchmod,
        fchown, fchdir, syncfs, fstatfs, getdents, fsetxattr, fgetxattr, flistxattr, fremovexattr,
        flink,
    ) = map(
        _shifted,
        (
            "close", "read", "write", "pread", "pwrite", "lseek", "fstat", "ftruncate", "fsync",
            "fdatasync", "fchmod", "fchown", "fchdir", "syncfs", "fstatfs", "getdents",
            "fsetxattr", "fgetxattr", "flistxattr", "fremovexattr", "flink",
        ),
    )  # fmt: skip

    mkdirat, mknodat, unlinkat, readlinkat, fstatat, faccessat, fchmodat, fchownat, utimensat = (
        _beginning(name, 0)
        for name in (
            "mkdirat", "mknodat", "unlinkat", "readlinkat", "fstatat", "faccessat", "fchmodat",
            "fchownat", "utimensat",
        )
    )  # fmt: skip
    symlinkat = _beginning("symlinkat", 1)
    linkat = _beginning("linkat", 0, 2)
    renameat = _beginning("renameat", 0, 2)

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        return super().open(path, flags, mode) - FIRST_FD

    def openat(self, dfd: int, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return super().openat(_place(dfd), path, flags, mode) - FIRST_FD

    def dup(self, fd: int) -> int:
        return super().dup(fd + FIRST_FD) - FIRST_FD

    def dup2(self, fd: int, new: int) -> int:
        return os.dup2(fd + FIRST_FD, new + FIRST_FD) - FIRST_FD

    def fcntl(self, fd: int, cmd: int, arg: int = 0) -> int:
        if cmd == fcntl.F_DUPFD:
            return fcntl.fcntl(fd + FIRST_FD, cmd, arg + FIRST_FD) - FIRST_FD
        return fcntl.fcntl(fd + FIRST_FD, cmd, arg)


class _StatFs:
    def __init__(self, found: os.statvfs_result) -> None:
        self.f_bsize = found.f_bsize
        self.f_namelen = found.f_namemax


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = [os.fsencode(word) if word else None for word in (source, target, fstype, data)]
    check(LIBC.mount(words[0], words[1], words[2], flags, words[3]))


class Place(Protocol):
    """A kind of filesystem of the host."""

    def make(self, path: str) -> None: ...
    def read_only(self, path: str, on: bool) -> None: ...


class Tmpfs:
    """A tmpfs of its own for every assertion."""

    def make(self, path: str) -> None:
        mount("tmpfs", path, "tmpfs", 0, "mode=0755")

    def read_only(self, path: str, on: bool) -> None:
        mount("", path, "", MS_REMOUNT | MS_RDONLY * on)


class Plain:
    """A new directory of whatever the temporary files lie on, mounted onto itself."""

    def make(self, path: str) -> None:
        mount(path, path, "", MS_BIND)

    def read_only(self, path: str, on: bool) -> None:
        mount("", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY * on)


class Devpts:
    """A filesystem whose root has none of the methods that change a directory."""

    def make(self, path: str) -> None:
        mount("devpts", path, "devpts", 0, "newinstance")

    def read_only(self, path: str, on: bool) -> None:
        raise NotImplementedError


_CHANGES = {"create", "link", "unlink", "symlink", "mkdir", "rmdir", "mknod", "rename", "tmpfile"}
DEVPTS = Capabilities(has=METHODS - _CHANGES)


class HostGround:
    """`Ground` for the child process of `in_child`: call nothing of it elsewhere."""

    def __init__(self, place: Place, scratch: str) -> None:
        self.place = place
        self.scratch = scratch
        self.outside = fcntl.fcntl(os.open("/", os.O_RDONLY), fcntl.F_DUPFD, KEPT_FD)
        self.count = 0

    def methods(self) -> frozenset[str]:
        return METHODS

    def writable(self) -> bool:
        return True

    def refusals(self) -> tuple[Refusal, ...]:
        return ()

    def persistent(self) -> bool:
        return True

    def run(self, steps: Sequence[Step]) -> None:
        self.count += 1
        path = f"{self.scratch}/{self.count}"
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)
        self.place.make(path)
        for body, readonly in steps:
            if readonly:
                self.place.read_only(path, True)
            self._inside(path, body)
            if readonly:
                self.place.read_only(path, False)
        check(LIBC.umount2(os.fsencode(path), MNT_DETACH))

    def _inside(self, path: str, body: Callable[[Any], None]) -> None:
        """Run a body as in a process that has just logged in, and undo what it did to ours."""
        os.chroot(path)
        os.chdir("/")
        os.umask(0o022)
        try:
            body(HostSys())
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])
            os.closerange(3, KEPT_FD)
            os.fchdir(self.outside)
            os.chroot(".")
            os.umask(0o022)


def in_child(place: Place, work: Callable[[HostGround], Any], scratch: str | None = None) -> Any:
    """Do ``work`` in a child with its own mounts and return what it returned.

    Raises:
        OSError: the namespace or a mount is refused (EPERM in most containers).
        RuntimeError: the child died.
    """
    folder = tempfile.mkdtemp(prefix="vfsim-", dir=scratch)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(place, work, folder, writer)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    _remove(folder)
    if not answer:
        raise RuntimeError("the child ended without an answer")
    good, value = pickle.loads(answer)
    if not good:
        raise value
    return value


def _child(place: Place, work: Callable[[HostGround], Any], folder: str, writer: int) -> None:
    answer: tuple[bool, Any]
    out = fcntl.fcntl(writer, fcntl.F_DUPFD, KEPT_FD)
    try:
        check(LIBC.unshare(CLONE_NEWNS))
        mount("", "/", "", MS_REC | MS_PRIVATE)
        os.chmod(folder, 0o755)
        answer = True, work(HostGround(place, folder))
    except BaseException as error:
        wanted = isinstance(error, OSError)
        answer = False, error if wanted else RuntimeError(f"{type(error).__name__}: {error}")
    with open(out, "wb") as stream:
        stream.write(pickle.dumps(answer))
    os._exit(0)


def _remove(folder: str) -> None:
    """Remove what a child left (the mounts are gone with its namespace)."""
    for base, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(base, name))
        for name in folders:
            full = os.path.join(base, name)
            with contextlib.suppress(OSError):
                os.unlink(full) if os.path.islink(full) else os.rmdir(full)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def possible() -> str:
    """Why the host cannot be asked; "" if it can."""
    if os.geteuid() != 0:
        return "needs root, for chroot and mounts of its own"
    try:
        in_child(Tmpfs(), lambda ground: ground.run([(lambda sys: None, False)]))
    except OSError as error:
        return f"needs a mount namespace of its own: {errno.errorcode.get(error.errno or 0)}"
    return ""
