"""open(2): flags, creation, links, permissions, what happens under the directory's lock."""

from __future__ import annotations

import os
import stat

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamDirectory, RamFS, ramfs_get_inode
from vfsim.fs.dcache import Dentry, d_add, d_instantiate, dget
from vfsim.fs.file import O_DIRECTORY, O_NOATIME, O_PATH, O_TMPFILE, File
from vfsim.fs.inode import S_APPEND, Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.open import OpenFlags, finish_open
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import ENOENT
from vfsim.sim.state import K

RDWR, CREAT, EXCL, TRUNC = os.O_RDWR, os.O_CREAT, os.O_EXCL, os.O_TRUNC


def test_create_and_open(k: Kernel, expect: Expect) -> None:
    """O_CREAT makes what is not there, O_EXCL insists, O_TRUNC empties."""

    def go(sys: Sys) -> None:
        expect.ENOENT(sys.open, "/f")
        expect.ENOENT(sys.open, "/d/f", CREAT)
        fd = sys.open("/f", CREAT | RDWR, 0o666)
        assert fd == 0
        assert sys.write(fd, b"hello") == 5
        assert sys.stat("/f").st_mode == stat.S_IFREG | 0o644
        expect.EEXIST(sys.open, "/f", CREAT | EXCL)
        assert sys.stat("/f").st_size == 5
        other = sys.open("/f", CREAT | RDWR | TRUNC)
        assert sys.fstat(fd).st_size == 0
        assert other == 1
        sys.close(fd)
        assert sys.open("/g", CREAT | EXCL) == 0, "the lowest free descriptor"
        sys.close(0)
        sys.close(other)

    k.call(go)


def test_a_file_created_without_permission_is_open_all_the_same(k: Kernel, expect: Expect) -> None:
    """The mode of a new file counts from the next open on."""

    def go(sys: Sys) -> None:
        sys.chmod("/", 0o777)
        sys.setuid(1000)
        fd = sys.open("/f", CREAT | RDWR, 0o000)
        assert sys.write(fd, b"x") == 1
        expect.EACCES(sys.open, "/f")
        expect.EACCES(sys.open, "/f", CREAT | RDWR)
        sys.close(fd)

    k.call(go)


def test_directories(k: Kernel, expect: Expect) -> None:
    """Directories open for reading only; O_DIRECTORY takes nothing else; slashes matter."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.close(sys.open("/f", CREAT))
        for flags in (os.O_WRONLY, RDWR, TRUNC, CREAT, CREAT | RDWR):
            expect.EISDIR(sys.open, "/d", flags)
        expect.EISDIR(sys.open, "/d/.", CREAT)
        expect.EISDIR(sys.open, "/", CREAT)
        expect.EISDIR(sys.open, "/new/", CREAT)
        expect.EISDIR(sys.open, "/f/", CREAT)
        expect.EEXIST(sys.open, "/d", CREAT | EXCL)
        expect.ENOTDIR(sys.open, "/f", O_DIRECTORY)
        expect.ENOTDIR(sys.open, "/f/")
        expect.ENOTDIR(sys.open, "/f/x", CREAT)
        fd = sys.open("/d/", O_DIRECTORY)
        expect.EISDIR(sys.read, fd, 1)
        expect.EBADF(sys.write, fd, b"x")
        sys.close(fd)
        sys.close(sys.open("/d/..", O_DIRECTORY))

    k.call(go)


def test_links_in_the_last_component(k: Kernel, expect: Expect) -> None:
    """O_CREAT goes through a dangling link, O_EXCL does not, O_NOFOLLOW is ELOOP."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.symlink("d/target", "/l")
        sys.symlink("d", "/dl")
        expect.ENOENT(sys.open, "/l")
        expect.EEXIST(sys.open, "/l", CREAT | EXCL)
        expect.ELOOP(sys.open, "/l", os.O_NOFOLLOW)
        expect.ELOOP(sys.open, "/l", CREAT | os.O_NOFOLLOW)
        sys.close(sys.open("/l", CREAT | RDWR))
        assert sys.listdir("/d") == ["target"]
        expect.ENOTDIR(sys.open, "/dl", O_DIRECTORY | os.O_NOFOLLOW)
        sys.close(sys.open("/dl/", os.O_NOFOLLOW))
        expect.EISDIR(sys.open, "/dl", CREAT)
        expect.EISDIR(sys.open, "/dl/target/", CREAT)
        sys.symlink("/d/target/", "/slash")
        expect.ENOTDIR(sys.open, "/slash")
        sys.symlink("/", "/top")
        expect.EISDIR(sys.open, "/top", CREAT)
        sys.close(sys.open("/top"))

    k.call(go)


def test_o_path_names_and_does_nothing_else(k: Kernel, expect: Expect) -> None:
    """An O_PATH descriptor is good for fstat, fchdir and close."""

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        sys.symlink("d", "/l")
        fd = sys.open("/l", O_PATH | os.O_NOFOLLOW)
        assert stat.S_ISLNK(sys.fstat(fd).st_mode)
        expect.EBADF(sys.read, fd, 1)
        expect.EBADF(sys.fchmod, fd, 0)
        expect.EBADF(sys.fsync, fd)
        expect.ENOTDIR(sys.fchdir, fd)
        sys.close(fd)
        fd = sys.open("/d", O_PATH)
        sys.fchdir(fd)
        assert sys.getcwd() == "/d"
        sys.close(fd)

    k.call(go)


def test_permissions(k: Kernel, expect: Expect) -> None:
    """Access follows the mode bits; O_TRUNC needs write permission; root needs none."""

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", CREAT, 0o644))
        sys.close(sys.open("/locked", CREAT, 0o000))
        sys.close(sys.open("/locked", RDWR))
        sys.setuid(1000)
        sys.close(sys.open("/f"))
        expect.EACCES(sys.open, "/f", RDWR)
        expect.EACCES(sys.open, "/f", TRUNC)
        expect.EACCES(sys.open, "/locked")
        expect.EACCES(sys.open, "/new", CREAT)
        expect.EACCES(sys.open, "/f", CREAT | RDWR)
        sys.close(sys.open("/f", CREAT))
        expect.EPERM(sys.open, "/f", O_NOATIME)

    k.call(go)


def test_append_only(k: Kernel, expect: Expect) -> None:
    """An append-only file opens for writing with O_APPEND only, and is never truncated."""

    def go(sys: Sys) -> None:
        fd = sys.open("/f", CREAT | RDWR)
        inode_of(fd).i_flags |= S_APPEND
        expect.EPERM(sys.open, "/f", RDWR)
        expect.EPERM(sys.open, "/f", RDWR | os.O_APPEND | TRUNC)
        expect.EPERM(sys.truncate, "/f", 0)
        expect.EPERM(sys.ftruncate, fd, 0)
        expect.EPERM(sys.unlink, "/f")
        sys.close(sys.open("/f", RDWR | os.O_APPEND))
        inode_of(fd).i_flags &= ~S_APPEND
        sys.close(fd)

    k.call(go)


def inode_of(fd: int) -> Inode:
    """The inode behind a descriptor of the running process."""
    file = K.cur.process.files.find(fd)
    assert isinstance(file, File)
    return file.f_inode


def test_read_only_filesystem(k: Kernel, expect: Expect) -> None:
    """What exists opens for reading, O_CREAT or not; what would write is EROFS, after EEXIST."""
    k.call(lambda sys: sys.mkdir("/m"))
    k.mount(RamFS(), "/m")

    def fill(sys: Sys) -> None:
        sys.close(sys.open("/m/f", CREAT))
        sys.mkdir("/m/d")
        sys.mount("ramfs", "/m", "ramfs", 33)  # MS_RDONLY | MS_REMOUNT

    def go(sys: Sys) -> None:
        sys.close(sys.open("/m/f", CREAT))
        expect.EEXIST(sys.open, "/m/f", CREAT | EXCL)
        expect.EROFS(sys.open, "/m/new", CREAT)
        expect.EROFS(sys.open, "/m/new", CREAT | EXCL)
        expect.EROFS(sys.open, "/m/f", RDWR)
        expect.EROFS(sys.open, "/m/f", TRUNC)
        expect.ENOENT(sys.open, "/m/none", RDWR)
        expect.EEXIST(sys.mkdir, "/m/d")
        expect.EROFS(sys.mkdir, "/m/e")
        expect.EROFS(sys.unlink, "/m/f")
        expect.EROFS(sys.rmdir, "/m/d")
        expect.EROFS(sys.rename, "/m/f", "/m/g")
        expect.EROFS(sys.chmod, "/m/f", 0o600)
        expect.EROFS(sys.truncate, "/m/f", 0)
        expect.EROFS(sys.access, "/m/f", os.W_OK)
        sys.access("/m/f", os.R_OK)

    k.call(fill)
    k.call(go)


def test_special_files_have_nothing_behind_them(k: Kernel, expect: Expect) -> None:
    """FIFOs, sockets and devices can be made and removed, not opened."""

    def go(sys: Sys) -> None:
        for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            sys.mknod("/n", kind | 0o666, 0x103)
            assert stat.S_IFMT(sys.stat("/n").st_mode) == kind
            expect.ENXIO(sys.open, "/n")
            sys.close(sys.open("/n", O_PATH))
            sys.unlink("/n")
        sys.setuid(1000)
        expect.EACCES(sys.mknod, "/n", stat.S_IFCHR | 0o666, 0x103)
        sys.setuid(0)
        sys.chmod("/", 0o777)
        sys.setuid(1000)
        expect.EPERM(sys.mknod, "/n", stat.S_IFCHR | 0o666, 0x103)
        sys.mkfifo("/n")
        assert sys.stat("/n").st_mode == stat.S_IFIFO | 0o644

    k.call(go)


def test_flags_are_taken_apart_once() -> None:
    """OpenFlags refuses nonsense: O_TMPFILE is for writing, and creates no name."""
    with pytest.raises(TypeError, match="two integers"):
        OpenFlags.of("r", 0)  # type: ignore[arg-type]
    assert OpenFlags.of(O_TMPFILE | RDWR, 0o600).mode == stat.S_IFREG | 0o600
    for flags in (O_TMPFILE, O_TMPFILE | RDWR | CREAT, (O_TMPFILE & ~O_DIRECTORY) | RDWR):
        with pytest.raises(OSError, match="Invalid argument"):
            OpenFlags.of(flags, 0o600)
    op = OpenFlags.of(O_PATH | CREAT | RDWR, 0o600)
    assert op.flags == O_PATH


class AtomicDirectory(RamDirectory):
    """A directory whose server does everything at once."""

    log: list[str] = []

    def atomic_open(
        self, dir: Inode, dentry: Dentry, file: File, open_flag: int, create_mode: int
    ) -> Dentry | None:
        """Sleeps.  Create and open in one, or leave the opening to the kernel."""
        self.log.append(f"{dentry.d_name} {bool(open_flag & CREAT)}")
        if dentry.d_name == "ask":
            d_add(dentry, None)
            return dentry
        if not open_flag & CREAT:
            raise ENOENT()
        inode = ramfs_get_inode(dir.i_sb, dir, create_mode, 0)
        if dentry.d_hashed:
            d_instantiate(dentry, inode)
        else:
            d_add(dentry, inode)
        dget(dentry)
        finish_open(file, dentry, created=True)
        return None


def test_atomic_open(k: Kernel, expect: Expect) -> None:
    """A filesystem with ``atomic_open`` is asked instead of lookup and create, and may open the
    file itself.
    """
    AtomicDirectory.log.clear()

    def go(sys: Sys) -> None:
        sys.mkdir("/d")
        fd = sys.open("/d", O_DIRECTORY)
        inode_of(fd).i_op = AtomicDirectory()
        sys.close(fd)
        fd = sys.open("/d/f", CREAT | RDWR, 0o600)
        assert sys.write(fd, b"x") == 1
        sys.close(fd)
        expect.ENOENT(sys.open, "/d/none")
        expect.ENOENT(sys.open, "/d/ask")
        sys.close(sys.open("/d/f"))

    k.call(go)
    assert AtomicDirectory.log == ["f True", "none False", "ask False"]


def test_emfile(k: Kernel, expect: Expect) -> None:
    """A full table is EMFILE, before anything about the path, and a failed open frees its place."""

    def go(sys: Sys) -> None:
        K.cur.process.files.limit = 2
        sys.close(sys.open("/f", CREAT))
        expect.ENOENT(sys.open, "/none")
        first, second = sys.open("/f"), sys.open("/f")
        assert (first, second) == (0, 1)
        expect.EMFILE(sys.open, "/none")
        expect.EMFILE(sys.dup, 0)
        sys.close(first)
        assert sys.dup(second) == first
        sys.close(0)
        sys.close(1)

    k.call(go)
