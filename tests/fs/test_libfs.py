"""What filesystems borrow: trees in the dcache, data in the page cache, and ramfs, which is made of
both.
"""

from __future__ import annotations

import os
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IMODE, S_ISDIR, S_ISLNK
from typing import Any

import pytest

from tests.fs.worlds import superblock
from vfsim.filesystems.blockfs import BlockAddressSpaceOperations
from vfsim.filesystems.libfs import (
    MemoryDirInodeOperations,
    MemoryDirOperations,
    MemoryFileOperations,
    MemoryFileSystem,
    SimpleSymlinkInodeOperations,
    page_symlink,
    simple_empty,
    simple_inode,
    simple_positive,
)
from vfsim.filesystems.ramfs import RamFS, parse_options, ramfs_get_inode
from vfsim.fs.dcache import Dentry, d_inode, d_lookup, d_make_root, dput
from vfsim.fs.inode import Inode, ihold, inc_nlink, iput
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import InodeOperations
from vfsim.fs.super import SuperBlock
from vfsim.mm.page import PAGE_SIZE


def test_names_and_links_are_counted(k: Kernel) -> None:
    """A directory has two links and one more for each directory in it; a file one for each name."""

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        sys.mkdir("/d/e")
        assert (sys.stat("/d").st_nlink, sys.stat("/d/e").st_nlink) == (3, 2)
        sys.rename("/d/e", "/e")
        assert (sys.stat("/d").st_nlink, sys.stat("/").st_nlink) == (2, 4)
        sys.close(sys.open("/f", os.O_CREAT | os.O_WRONLY))
        sys.link("/f", "/d/g")
        assert sys.stat("/f").st_nlink == 2
        sys.unlink("/f")
        assert sys.stat("/d/g").st_nlink == 1
        sys.rmdir("/e")
        assert sys.stat("/").st_nlink == 3

    k.call(work)


def test_renaming_replaces(k: Kernel) -> None:
    """An empty directory by a directory, a file by a file; what is not empty stays."""

    def work(sys: Any) -> None:
        for name in ("/a", "/b", "/b/x", "/c"):
            sys.mkdir(name)
        with pytest.raises(OSError, match="not empty"):
            sys.rename("/a", "/b")
        sys.rename("/a", "/c")
        assert sys.listdir("/") == ["b", "c"] and sys.stat("/").st_nlink == 4
        sys.rename("/c", "/b/x")
        assert sys.stat("/").st_nlink == 3 and sys.stat("/b").st_nlink == 3
        with pytest.raises(OSError, match="Invalid"):
            sys.renameat2("/b", "/b/x", 2)

    k.call(work)


def test_a_directory_is_empty_when_it_has_no_positive_names(k: Kernel) -> None:
    """Negative and removed dentries do not count."""

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        root = superblock(k).s_root
        assert root is not None
        d = d_lookup(root, "d")
        assert d is not None and simple_empty(d) and simple_positive(d)
        with pytest.raises(OSError, match="No such file"):
            sys.stat("/d/negative")
        assert d.d_subdirs and simple_empty(d)
        sys.mkdir("/d/e")
        assert not simple_empty(d)
        dput(d)

    k.call(work)


def test_reading_a_directory_while_it_changes(k: Kernel) -> None:
    """What stays is listed exactly once, however small the buffer and whatever comes and goes
    meanwhile.
    """

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        for name in "abcdefgh":
            sys.mkdir(f"/d/{name}")
        fd = sys.open("/d", os.O_RDONLY)
        names = []
        while entries := sys.getdents(fd, 64):
            names += [name for name, _, _ in entries if name not in (".", "..")]
            if "c" in names and os.path.basename("/d/z") not in names:
                for name in ("a", "c", "d"):
                    try:
                        sys.rmdir(f"/d/{name}")
                        sys.mkdir(f"/d/{name}2")
                    except FileNotFoundError:
                        pass
        assert names[:3] == ["a", "b", "c"]
        stayed = [name for name in names if name in ("b", "e", "f", "g", "h")]
        assert stayed == ["b", "e", "f", "g", "h"]
        sys.lseek(fd, 0, os.SEEK_SET)
        assert [name for name, _, _ in sys.getdents(fd)][:2] == [".", ".."]
        with pytest.raises(OSError, match="Invalid"):
            sys.lseek(fd, 0, os.SEEK_END)
        with pytest.raises(OSError, match="Is a directory"):
            sys.read(fd, 10)
        sys.close(fd)

    k.call(work)


def test_data_lives_in_the_page_cache(k: Kernel) -> None:
    """Holes read as zeroes, pages are the blocks, truncation cuts and does not bring data back."""

    def work(sys: Any) -> None:
        fd = sys.open("/f", os.O_CREAT | os.O_RDWR)
        assert sys.pwrite(fd, b"end", 2 * PAGE_SIZE - 1) == 3
        stat = sys.fstat(fd)
        assert (stat.st_size, stat.st_blocks) == (2 * PAGE_SIZE + 2, 2 * PAGE_SIZE // 512)
        assert sys.pread(fd, 4, 0) == bytes(4)
        assert sys.pread(fd, 10, 2 * PAGE_SIZE - 2) == b"\0end"
        sys.ftruncate(fd, 2 * PAGE_SIZE)
        sys.ftruncate(fd, 3 * PAGE_SIZE)
        assert sys.pread(fd, 10, 2 * PAGE_SIZE - 2) == b"\0e" + bytes(8)
        assert sys.fstat(fd).st_blocks <= 3 * PAGE_SIZE // 512
        sys.fsync(fd)
        sys.close(fd)

    k.call(work)


def test_symlinks_live_in_the_page_cache(k: Kernel) -> None:
    """Target, size and following."""

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        sys.symlink("d/../d/é", "/l")
        assert sys.readlink("/l") == "d/../d/é" and sys.lstat("/l").st_size == 9
        sys.close(sys.open("/l", os.O_CREAT | os.O_WRONLY))
        assert sys.listdir("/d") == ["é"]
        sys.unlink("/l")

    k.call(work)


def test_a_long_symlink_fails_cleanly(k: Kernel) -> None:
    """Whatever page_symlink() says, the inode is given back."""

    def work(sys: Any) -> None:
        sb = superblock(k)
        inode = ramfs_get_inode(sb, None, 0o120777, 0)
        page_symlink(inode, "x" * 100)
        assert inode.i_size == 100
        iput(inode)

    k.call(work)


def test_ramfs_makes_what_it_is_asked_for(k: Kernel) -> None:
    """Also nodes without anything behind them."""

    def work(sys: Any) -> None:
        sys.mknod("/p", S_IFIFO | 0o600, 0)
        assert sys.stat("/p").st_mode == S_IFIFO | 0o600
        with pytest.raises(OSError, match="No such device"):
            sys.open("/p", os.O_RDONLY)
        sys.unlink("/p")
        stat = sys.statfs("/")
        assert (stat.f_type, stat.f_bsize) == (0x858458F6, PAGE_SIZE)

    k.call(work)


def test_ramfs_has_one_option() -> None:
    """mode= in octal; others are ignored, nonsense is EINVAL."""
    with Kernel() as kernel:
        kernel.mount(RamFS(), "/", options="mode=700,size=3")
        assert kernel.call(lambda sys: S_IMODE(sys.stat("/").st_mode)) == 0o700
        sb = superblock(kernel)
        assert sb.s_root is not None and sb.s_op.show_options.__name__ == "show_options"
        with pytest.raises(OSError, match="Invalid"):
            kernel.mount(RamFS(), "/", options="mode=9")
    assert parse_options(None).mode == 0o755


def test_a_name_of_256_bytes_is_too_long(k: Kernel, expect: Any) -> None:
    """In bytes, not characters."""

    def work(sys: Any) -> None:
        sys.mkdir("/" + "n" * 255)
        expect.ENAMETOOLONG(sys.mkdir, "/" + "n" * 256)
        expect.ENAMETOOLONG(sys.mkdir, "/" + "é" * 128)

    k.call(work)


def test_everything_at_once() -> None:
    """Three processes fight over few names, under many schedules; trees, counts and pages stay
    right.
    """
    for seed in range(120):
        with Kernel(seed=seed, strategy="pos" if seed % 2 else "random") as kernel:
            kernel.mount(RamFS(), "/")

            def maker(sys: Any) -> None:
                for name in ("/d", "/d/e"):
                    try:
                        sys.mkdir(name)
                        fd = sys.open(name + "/f", os.O_CREAT | os.O_RDWR)
                        sys.write(fd, b"0123456789")
                        sys.close(fd)
                    except OSError:
                        pass

            def mover(sys: Any) -> None:
                for old, new in (("/d/e", "/e"), ("/d", "/x"), ("/x", "/d"), ("/d/f", "/f")):
                    try:
                        sys.rename(old, new)
                    except OSError:
                        pass

            def breaker(sys: Any) -> None:
                for name in ("/d/f", "/d/e/f", "/e/f"):
                    for call in (lambda: sys.truncate(name, 3), lambda: sys.unlink(name)):  # noqa: B023
                        try:
                            call()
                        except OSError:
                            pass
                for name in ("/d/e", "/e", "/d"):
                    try:
                        sys.rmdir(name)
                    except OSError:
                        pass

            for fn in (maker, mover, breaker):
                kernel.process(fn)
            kernel.run()
            kernel._check()

            def count(sys: Any, path: str = "/") -> int:
                inside = [path.rstrip("/") + "/" + name for name in sys.listdir(path)]
                subdirs = [p for p in inside if sys.stat(p).st_mode & 0o170000 == S_IFDIR]
                assert sys.stat(path).st_nlink == 2 + len(subdirs)
                return 1 + sum(count(sys, p) for p in subdirs)

            kernel.call(count)


# A tree of dicts.  -----------------------------------------------------------------------------


class DictDir(MemoryDirInodeOperations):
    """Files without content, directories, other names, and symlinks."""

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        self.enter(dir, dentry, dict_inode(dir.i_sb, dir, S_IFREG | mode))

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.enter(dir, dentry, dict_inode(dir.i_sb, dir, S_IFDIR | mode))

    def symlink(self, dir: Inode, dentry: Dentry, symname: str) -> None:
        inode = dict_inode(dir.i_sb, dir, S_IFLNK | 0o777)
        inode.i_link = symname
        inode.i_size = len(symname)
        self.enter(dir, dentry, inode)

    def link(self, old_dentry: Dentry, dir: Inode, dentry: Dentry) -> None:
        inode = d_inode(old_dentry)
        inc_nlink(inode)
        ihold(inode)
        self.enter(dir, dentry, inode)


class DictFile(InodeOperations):
    """A file without content."""


def dict_inode(sb: SuperBlock, dir: Inode | None, mode: int) -> Inode:
    if S_ISDIR(mode):
        return simple_inode(sb, dir, mode, DictDir(), MemoryDirOperations(), {})
    i_op = SimpleSymlinkInodeOperations() if S_ISLNK(mode) else DictFile()
    return simple_inode(sb, dir, mode, i_op, MemoryFileOperations())


class DictFS(MemoryFileSystem):
    name = "dictfs"

    def fill_super(self, sb: SuperBlock, data: str) -> None:
        sb.s_root = d_make_root(dict_inode(sb, None, S_IFDIR | 0o755))


def test_names_in_dicts() -> None:
    """Links, times and numbers are kept; what is left in the dicts at umount does not leak."""

    def work(sys: Any) -> None:
        sys.mkdir("/d")
        sys.mkdir("/d/e")
        assert (sys.stat("/").st_nlink, sys.stat("/d").st_nlink) == (3, 3)
        sys.close(sys.open("/d/f", os.O_CREAT | os.O_WRONLY))
        sys.link("/d/f", "/g")
        sys.symlink("d/f", "/l")
        assert sys.stat("/l").st_ino == sys.stat("/g").st_ino == sys.stat("/d/f").st_ino
        assert sys.stat("/g").st_nlink == 2 and sys.readlink("/l") == "d/f"
        before = sys.stat("/d").st_mtime_ns
        sys.msleep(20)
        sys.unlink("/d/f")
        assert sys.stat("/g").st_nlink == 1 and sys.stat("/d").st_mtime_ns > before
        assert sys.stat("/g").st_ctime_ns > before
        sys.rename("/d/e", "/e")
        assert (sys.stat("/").st_nlink, sys.stat("/d").st_nlink) == (4, 2)
        assert sys.listdir("/") == ["d", "g", "l", "e"]

    with Kernel() as kernel:
        kernel.mount(DictFS, "/")
        kernel.call(work)


def test_what_a_tree_of_dicts_refuses() -> None:
    """A directory with names in it stays, whoever wants its place; a rename has no flags."""

    def work(sys: Any) -> None:
        for name in ("/a", "/b", "/b/x"):
            sys.mkdir(name)
        for call, *args in ((sys.rmdir, "/b"), (sys.rename, "/a", "/b")):
            with pytest.raises(OSError, match="not empty"):
                call(*args)
        with pytest.raises(OSError, match="Invalid"):
            sys.renameat2("/a", "/b", 2)
        assert sys.stat("/").st_nlink == 4 and sys.listdir("/b") == ["x"]
        fd = sys.open("/a", os.O_RDONLY)
        sys.rename("/b/x", "/a")
        assert sys.fstat(fd).st_nlink == 0 and sys.stat("/").st_nlink == 4

    with Kernel() as kernel:
        kernel.mount(DictFS, "/")
        kernel.call(work)


def test_a_file_keeps_its_inode_while_it_is_open() -> None:
    """The name's reference goes with the name; who has it open still has his own."""

    def work(sys: Any) -> None:
        fd = sys.open("/f", os.O_CREAT | os.O_RDWR)
        sys.unlink("/f")
        assert sys.fstat(fd).st_nlink == 0 and sys.listdir("/") == []

    with Kernel() as kernel:
        kernel.mount(DictFS, "/")
        kernel.call(work)


# Files on a disk.  -------------------------------------------------------------------------------


def test_pages_on_a_disk_need_to_know_where() -> None:
    """Who borrows the pages says where blocks are and takes them back; the message says how."""

    class Nowhere(BlockAddressSpaceOperations):
        """Leaves both out."""

    inode: Any = None
    with pytest.raises(TypeError, match=r"Nowhere needs a get_block\(self, inode, iblock, create"):
        Nowhere().get_block(inode, 0, False)
    with pytest.raises(TypeError, match=r"Nowhere needs a truncate_blocks\(self, inode\)"):
        Nowhere().truncate_blocks(inode)
