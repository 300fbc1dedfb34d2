"""Creating, removing, linking and renaming: results, errors in Linux's order, locks."""

from __future__ import annotations

import os
import stat

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.ramfs import RamDirectory, RamFS, RamSuper
from vfsim.fs.dcache import Dentry
from vfsim.fs.directory import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    lock_rename,
    unlock_rename,
)
from vfsim.fs.inode import (
    S_IMMUTABLE,
    Inode,
    clear_inode,
    drop_nlink,
    inc_nlink,
    truncate_inode_pages_final,
)
from vfsim.fs.kernel import Kernel
from vfsim.fs.mount import path_put
from vfsim.fs.namei import user_path
from vfsim.fs.operations import FileSystemType, InodeOperations
from vfsim.fs.syscalls import Sys
from vfsim.sim.context import held_entries, key_name
from vfsim.sim.state import K


def make(sys: Sys, *paths: str) -> None:
    """Directories for paths that end in a slash, empty files for others."""
    for path in paths:
        if path.endswith("/"):
            sys.mkdir(path)
        else:
            sys.close(sys.open(path, os.O_CREAT))


def test_mkdir(k: Kernel, expect: Expect) -> None:
    """New directories obey the umask and count as links of their parent."""

    def go(sys: Sys) -> None:
        sys.umask(0o027)
        sys.mkdir("/d", 0o7777)
        st = sys.stat("/d")
        assert st.st_mode == stat.S_IFDIR | 0o1750
        assert st.st_nlink == 2
        sys.mkdir("/d/e/")
        assert sys.stat("/d").st_nlink == 3
        make(sys, "/f")
        for path in ("/d", "/d/", "/", "/d/.", "/d/..", "/f"):
            expect.EEXIST(sys.mkdir, path)
        expect.ENOENT(sys.mkdir, "/x/y")
        expect.ENOTDIR(sys.mkdir, "/f/y")
        sys.setuid(1000)
        expect.EACCES(sys.mkdir, "/new")
        expect.EEXIST(sys.mkdir, "/d")

    k.call(go)


def test_rmdir(k: Kernel, expect: Expect) -> None:
    """Only empty directories go, and each odd path has its own errno."""

    def go(sys: Sys) -> None:
        make(sys, "/d/", "/d/e/", "/f")
        sys.symlink("d", "/l")
        expect.ENOTEMPTY(sys.rmdir, "/d")
        expect.ENOTEMPTY(sys.rmdir, "/d/e/..")
        expect.EINVAL(sys.rmdir, "/d/.")
        expect.EBUSY(sys.rmdir, "/")
        expect.ENOTDIR(sys.rmdir, "/f")
        expect.ENOTDIR(sys.rmdir, "/l")
        expect.ENOENT(sys.rmdir, "/x")
        sys.rmdir("/d/e/")
        assert sys.stat("/d").st_nlink == 2
        sys.rmdir("/d")
        expect.ENOENT(sys.stat, "/d")

    k.call(go)


def test_unlink(k: Kernel, expect: Expect) -> None:
    """Names go, inodes live on while they are open."""

    def go(sys: Sys) -> None:
        make(sys, "/d/", "/f")
        sys.symlink("f", "/l")
        expect.EISDIR(sys.unlink, "/d")
        expect.EISDIR(sys.unlink, "/d/")
        expect.EISDIR(sys.unlink, "/d/.")
        expect.EISDIR(sys.unlink, "/")
        expect.ENOTDIR(sys.unlink, "/f/")
        expect.ENOENT(sys.unlink, "/x")
        expect.ENOENT(sys.unlink, "/x/")
        sys.unlink("/l")
        assert sys.stat("/f").st_nlink == 1
        fd = sys.open("/f", os.O_RDWR)
        sys.unlink("/f")
        expect.ENOENT(sys.stat, "/f")
        sys.write(fd, b"still here")
        assert sys.fstat(fd).st_nlink == 0
        sys.close(fd)

    k.call(go)


def test_link(k: Kernel, expect: Expect) -> None:
    """A second name for one inode; none for directories or what has no name left."""

    def go(sys: Sys) -> None:
        make(sys, "/d/", "/f")
        sys.symlink("f", "/l")
        sys.link("/f", "/g")
        assert sys.stat("/f").st_ino == sys.stat("/g").st_ino
        assert sys.stat("/f").st_nlink == 2
        expect.EEXIST(sys.link, "/f", "/g")
        expect.EEXIST(sys.link, "/f", "/d/.")
        expect.ENOENT(sys.link, "/x", "/y")
        expect.ENOENT(sys.link, "/f", "/y/")
        expect.EPERM(sys.link, "/d", "/y")
        sys.link("/l", "/l2")
        assert stat.S_ISLNK(sys.lstat("/l2").st_mode)
        sys.link("/l", "/l3", 0x400)
        assert sys.lstat("/l3").st_ino == sys.stat("/f").st_ino
        expect.EINVAL(sys.link, "/l", "/l4", 1)
        for name in ("/f", "/g"):
            sys.unlink(name)
        assert sys.stat("/l3").st_nlink == 1

    k.call(go)


def test_mknod(k: Kernel, expect: Expect) -> None:
    """Regular files by any spelling of their type; no directories, no nonsense."""

    def go(sys: Sys) -> None:
        sys.mknod("/a", 0o666)
        sys.mknod("/b", stat.S_IFREG | 0o666)
        assert sys.stat("/a").st_mode == sys.stat("/b").st_mode == stat.S_IFREG | 0o644
        expect.EPERM(sys.mknod, "/c", stat.S_IFDIR | 0o755)
        expect.EINVAL(sys.mknod, "/c", stat.S_IFLNK | 0o755)
        expect.EEXIST(sys.mknod, "/a", 0o666)
        expect.ENOENT(sys.mknod, "/c/", 0o666)

    k.call(go)


def test_rename(k: Kernel, expect: Expect) -> None:
    """Names move with what they lead to; targets are replaced if they are of the same kind."""

    def go(sys: Sys) -> None:
        make(sys, "/d/", "/d/e/", "/d/e/f", "/g", "/h/")
        ino = sys.stat("/d/e/f").st_ino
        sys.rename("/d/e", "/h/e2")
        assert sys.stat("/h/e2/f").st_ino == ino
        assert (sys.stat("/d").st_nlink, sys.stat("/h").st_nlink) == (2, 3)
        sys.rename("/h/e2/f", "/g")
        assert sys.stat("/g").st_ino == ino
        sys.rename("/g", "/g")
        sys.link("/g", "/g2")
        sys.rename("/g", "/g2")
        assert sys.stat("/g").st_ino == ino, "two names of one inode: nothing happens"
        sys.rename("/d", "/h/e2")
        assert sys.listdir("/h") == ["e2"]
        expect.ENOENT(sys.rename, "/x", "/y")
        expect.ENOENT(sys.rename, "/g", "/x/y")
        expect.ENOTDIR(sys.rename, "/h", "/g")
        expect.EISDIR(sys.rename, "/g", "/h")
        expect.ENOTDIR(sys.rename, "/g/", "/y")
        expect.ENOTDIR(sys.rename, "/g", "/y/")
        sys.rename("/h/e2/", "/y/")
        expect.EBUSY(sys.rename, "/y/.", "/z")
        expect.EBUSY(sys.rename, "/y", "/h/..")
        expect.EBUSY(sys.rename, "/", "/z")

    k.call(go)


def test_rename_cannot_make_loops(k: Kernel, expect: Expect) -> None:
    """Into itself is EINVAL, onto an ancestor ENOTEMPTY, also when they are further apart."""

    def go(sys: Sys) -> None:
        make(sys, "/a/", "/a/b/", "/a/b/c/")
        expect.EINVAL(sys.rename, "/a", "/a/x")
        expect.EINVAL(sys.rename, "/a", "/a/b/c/x")
        expect.EINVAL(sys.rename, "/a/b", "/a/b/c")
        expect.ENOTEMPTY(sys.rename, "/a/b/c", "/a")
        expect.ENOTEMPTY(sys.rename, "/a/b/c", "/a/b")
        expect.EINVAL(sys.renameat2, "/a/b/c", "/a", RENAME_EXCHANGE)
        sys.rename("/a/b/c", "/a/c")

    k.call(go)


def test_rename_flags(k: Kernel, expect: Expect) -> None:
    """NOREPLACE refuses, EXCHANGE wants two names, odd combinations are EINVAL."""

    def go(sys: Sys) -> None:
        make(sys, "/a", "/b", "/d/")
        expect.EEXIST(sys.renameat2, "/a", "/b", RENAME_NOREPLACE)
        expect.EEXIST(sys.renameat2, "/a", "/d/.", RENAME_NOREPLACE)
        sys.renameat2("/a", "/c", RENAME_NOREPLACE)
        expect.ENOENT(sys.renameat2, "/c", "/x", RENAME_EXCHANGE)
        expect.ENOTDIR(sys.renameat2, "/c", "/b/", RENAME_EXCHANGE)
        expect.EINVAL(sys.renameat2, "/c", "/b", RENAME_EXCHANGE | RENAME_NOREPLACE)
        expect.EINVAL(sys.renameat2, "/c", "/b", 8)
        expect.EINVAL(sys.renameat2, "/c", "/b", RENAME_EXCHANGE | RENAME_WHITEOUT)
        sys.setuid(1)
        expect.EPERM(sys.renameat2, "/c", "/b", RENAME_WHITEOUT)

    k.call(go)


class Swapping(RamDirectory):
    """A ramfs directory that knows RENAME_EXCHANGE, and notes what is locked."""

    held: list[list[str]] = []

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  Swap, or move as ramfs does."""
        self.held.append([key_name(key) for _, key in reversed(held_entries(K.cur))])
        if not flags & RENAME_EXCHANGE:
            super().rename(old_dir, old_dentry, new_dir, new_dentry, flags)
        elif old_dir is not new_dir:
            for mine, theirs, dir, other in (
                (old_dentry, new_dentry, old_dir, new_dir),
                (new_dentry, old_dentry, new_dir, old_dir),
            ):
                assert mine.d_inode is not None and theirs.d_inode is not None
                if stat.S_ISDIR(mine.d_inode.i_mode) and not stat.S_ISDIR(theirs.d_inode.i_mode):
                    drop_nlink(dir)
                    inc_nlink(other)


@pytest.fixture
def swapping(k: Kernel, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Directories made from now on are `Swapping`; the list of what they held."""
    Swapping.held.clear()
    monkeypatch.setattr(RamFS, "directory", Swapping())
    k.call(lambda sys: make(sys, "/s/", "/s/a/", "/s/b/"))
    return Swapping.held


DIR = "i_rwsem_dir:ramfs"
FILE = "i_rwsem:ramfs"
MUTEX = "s_vfs_rename_mutex:ramfs"
WRITERS = "sb_writers:ramfs (shared)"


def test_what_rename_locks(k: Kernel, swapping: list[list[str]]) -> None:
    """Each kind of rename holds exactly the locks of the directory-locking text, in its order and
    subclasses.
    """

    def go(sys: Sys) -> None:
        make(sys, "/s/f", "/s/g", "/s/a/f", "/s/a/d/", "/s/b/d/")
        sys.rename("/s/f", "/s/h")
        sys.rename("/s/h", "/s/g")
        sys.rename("/s/a/f", "/s/f")
        sys.rename("/s/f", "/s/a/f")
        sys.rename("/s/a/f", "/s/b/f")
        sys.rename("/s/a/d", "/s/b/d")
        sys.rename("/s/b/d", "/s/b/e")
        make(sys, "/s/a/x/", "/s/a/y")
        sys.renameat2("/s/a/x", "/s/a/y", RENAME_EXCHANGE)

    k.call(go)
    assert {held[0] for held in swapping} == {WRITERS}
    assert [held[1:] for held in swapping] == [
        [f"{DIR}/1", FILE],
        [f"{DIR}/1", FILE, f"{FILE}/4"],
        [MUTEX, f"{DIR}/1", f"{DIR}/2", FILE],
        [MUTEX, f"{DIR}/1", f"{DIR}/2", FILE],
        [MUTEX, f"{DIR}/1", f"{DIR}/5", FILE],
        [MUTEX, f"{DIR}/1", f"{DIR}/5", DIR],
        [f"{DIR}/1"],
        [f"{DIR}/1", swapping[-1][2]],
    ]
    assert swapping[-1][2] in (FILE, f"{FILE}/4")


def test_exchange(k: Kernel, swapping: list[list[str]]) -> None:
    """Two names swap what they lead to, whatever that is."""

    def go(sys: Sys) -> None:
        make(sys, "/s/a/f", "/s/b/d/", "/s/b/d/x")
        f, d = sys.stat("/s/a/f").st_ino, sys.stat("/s/b/d").st_ino
        sys.renameat2("/s/a/f", "/s/b/d", RENAME_EXCHANGE)
        assert (sys.stat("/s/b/d").st_ino, sys.stat("/s/a/f").st_ino) == (f, d)
        assert sys.listdir("/s/a/f") == ["x"]
        assert (sys.stat("/s/a").st_nlink, sys.stat("/s/b").st_nlink) == (3, 2)
        sys.chdir("/s/a/f")
        assert sys.getcwd() == "/s/a/f"

    k.call(go)


def test_lock_rename_finds_the_trap(k: Kernel) -> None:
    """With nested parents it names the child of the upper one that leads down; unrelated parents
    have none.
    """

    def go(sys: Sys) -> None:
        make(sys, "/a/", "/a/b/", "/a/b/c/", "/d/")
        paths = {name: user_path(name) for name in ("/a", "/a/b", "/a/b/c", "/d")}
        a, b, c, d = (paths[p].dentry for p in paths)
        for first, second, trap in ((a, c, b), (c, a, b), (a, b, b), (a, d, None), (a, a, None)):
            assert lock_rename(first, second) is trap
            unlock_rename(first, second)
        for path in paths.values():
            path_put(path)

    k.call(go)


def test_moving_a_directory_needs_write_permission_on_it(k: Kernel, expect: Expect) -> None:
    """Because its ``..`` changes; within one directory it does not."""

    def go(sys: Sys) -> None:
        make(sys, "/a/", "/b/", "/a/d/")
        for path in ("/a", "/b"):
            sys.chmod(path, 0o777)
        sys.setuid(1000)
        expect.EACCES(sys.rename, "/a/d", "/b/d")
        sys.rename("/a/d", "/a/e")

    k.call(go)


def test_sticky(k: Kernel, expect: Expect) -> None:
    """In a sticky directory only the owner of the name, of the directory, or root removes and
    renames.
    """

    def go(sys: Sys) -> None:
        sys.mkdir("/t")
        sys.chmod("/t", 0o1777)
        for uid in (1000, 1001):
            sys.setuid(uid)
            make(sys, f"/t/{uid}")
            sys.setuid(0)
        sys.setuid(1000)
        expect.EPERM(sys.unlink, "/t/1001")
        expect.EPERM(sys.rename, "/t/1001", "/t/x")
        expect.EPERM(sys.rename, "/t/1000", "/t/1001")
        sys.unlink("/t/1000")
        sys.setuid(0)
        sys.unlink("/t/1001")

    k.call(go)


def test_immutable(k: Kernel, expect: Expect) -> None:
    """An immutable inode loses no name, gets no other, and is not changed."""

    def go(sys: Sys) -> None:
        make(sys, "/f", "/d/")
        path = user_path("/f")
        inode = path.dentry.d_inode
        assert inode is not None
        inode.i_flags |= S_IMMUTABLE
        expect.EPERM(sys.unlink, "/f")
        expect.EPERM(sys.rename, "/f", "/g")
        expect.EPERM(sys.link, "/f", "/g")
        expect.EPERM(sys.chmod, "/f", 0)
        expect.EPERM(sys.open, "/f", os.O_WRONLY)
        expect.EPERM(sys.utime, "/f")
        inode.i_flags &= ~S_IMMUTABLE
        path_put(path)
        dir = user_path("/d")
        assert dir.dentry.d_inode is not None
        dir.dentry.d_inode.i_flags |= S_IMMUTABLE
        expect.EPERM(sys.mkdir, "/d/e")
        dir.dentry.d_inode.i_flags = 0
        path_put(dir)

    k.call(go)


def test_link_limits(k: Kernel, expect: Expect) -> None:
    """A superblock's limit of links is EMLINK for link, mkdir and a directory that changes its
    parent.
    """

    def go(sys: Sys) -> None:
        make(sys, "/f", "/a/", "/b/", "/b/x/")
        path = user_path("/")
        path.dentry.d_sb.s_max_links = 3
        sys.link("/f", "/g")
        sys.link("/f", "/h")
        expect.EMLINK(sys.link, "/f", "/i")
        sys.mkdir("/a/x")
        expect.EMLINK(sys.mkdir, "/a/y")
        expect.EMLINK(sys.rename, "/b/x", "/a/y")
        sys.rename("/b/x", "/a/x")
        path.dentry.d_sb.s_max_links = 0
        path_put(path)

    k.call(go)


class Bare(RamFS):
    """A filesystem that only knows its root."""

    name = "bare"

    def fill_super(self, sb: object, data: object) -> None:
        """Sleeps.  As ramfs, with a root that can do nothing but look up."""
        super().fill_super(sb, data)  # type: ignore[arg-type]
        sb.s_root.d_inode.i_op = BareDirectory()  # type: ignore[attr-defined]


class BareDirectory(InodeOperations):
    """Only ``lookup``."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  Nothing is there but what is cached."""
        return RamDirectory().lookup(dir, dentry, flags)


def test_missing_methods_have_linux_errnos(expect: Expect) -> None:
    """create is EACCES, all other directory operations EPERM."""
    with Kernel() as k:
        k.mount(Bare(), "/")

        def go(sys: Sys) -> None:
            expect.EACCES(sys.open, "/f", os.O_CREAT)
            expect.EACCES(sys.mknod, "/f", 0o666)
            expect.EPERM(sys.mknod, "/f", stat.S_IFIFO | 0o666)
            expect.EPERM(sys.mkdir, "/d")
            expect.EPERM(sys.symlink, "x", "/l")
            expect.ENOENT(sys.unlink, "/f")
            assert sys.listdir("/") == []

        k.call(go)


class Witness(RamSuper):
    """Notes what is held when an inode goes."""

    held: list[list[str]] = []

    def evict_inode(self, inode: Inode) -> None:
        """Sleeps.  As always."""
        self.held.append([key_name(key) for _, key in held_entries(K.cur)])
        truncate_inode_pages_final(inode)
        clear_inode(inode)


def test_what_is_removed_goes_without_its_directorys_lock(k: Kernel) -> None:
    """The last reference of an unlinked file is put after the directory is unlocked."""
    Witness.held.clear()

    def go(sys: Sys) -> None:
        path = user_path("/")
        path.dentry.d_sb.s_op = Witness()
        path_put(path)
        make(sys, "/f")
        sys.unlink("/f")
        assert Witness.held == [[WRITERS]]

    k.call(go)


def test_a_type_is_all_a_filesystem_needs() -> None:
    """Without ``mount`` there is nothing to mount: ENODEV."""

    class Nothing(FileSystemType):
        """A type that can do nothing."""

        name = "nothing"

    with Kernel() as k, pytest.raises(OSError, match="No such device"):
        k.mount(Nothing(), "/")
