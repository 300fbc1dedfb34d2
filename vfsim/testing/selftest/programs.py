"""Programs: a few system calls each, that make the kernel call one method or another.

The file, directory and link that each uses have one letter; what is called on the way (walks,
permission checks, umount) happens in all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from stat import S_IFCHR, S_IFREG
from typing import TYPE_CHECKING

from vfsim.fs.acl import (
    ACL_GROUP_OBJ,
    ACL_MASK,
    ACL_OTHER,
    ACL_USER,
    ACL_USER_OBJ,
    AclEntry,
    PosixAcl,
)
from vfsim.fs.acl_xattr import (
    XATTR_NAME_POSIX_ACL_ACCESS,
    XATTR_NAME_POSIX_ACL_DEFAULT,
    posix_acl_to_xattr,
)
from vfsim.fs.d_lookup import d_alloc_pseudo
from vfsim.fs.d_ref import dput
from vfsim.fs.directory import RENAME_EXCHANGE, RENAME_WHITEOUT
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.fiemap import FIEMAP_FLAG_SYNC
from vfsim.fs.file import O_TMPFILE
from vfsim.fs.ioctl import FIFREEZE, FITHAW
from vfsim.fs.mount import Path, d_path
from vfsim.fs.process import current_process
from vfsim.fs.super import MS_REMOUNT
from vfsim.fs.syscalls import F_SETFL
from vfsim.fs.umount import MNT_FORCE
from vfsim.mm.dirty import set_page_dirty
from vfsim.mm.mapping import find_get_page
from vfsim.mm.page import put_page
from vfsim.mm.truncate import invalidate_inode_pages2, invalidate_mapping_pages
from vfsim.mm.writepages import WritebackControl, do_writepages, filemap_flush

if TYPE_CHECKING:
    from vfsim.fs.file import File
    from vfsim.fs.syscalls import Sys

PAGE = 4096
_NEW = os.O_CREAT | os.O_RDWR


@contextmanager
def opened(fd: int) -> Iterator[File]:
    """Sleeps.  What the kernel itself does with an open file, between ``fdget`` and ``fdput``."""
    file, how = fdget(fd)
    yield file
    fdput(file, how)


def nothing(sys: Sys) -> None:
    """Mount and umount."""


def make(sys: Sys, path: str = "/f", data: bytes = b"") -> None:
    """A file with some bytes."""
    fd = sys.open(path, _NEW, 0o644)
    if data:
        sys.write(fd, data)
    sys.close(fd)


def create(sys: Sys) -> None:
    """A new file."""
    make(sys)


def shrink(sys: Sys) -> None:
    """A file with bytes and a name that is not there, until memory is short."""
    make(sys, data=b"abc")
    stat_missing(sys)
    sys.sync()
    for _ in range(5):
        sys.drop_caches()


def create_by_mknod(sys: Sys) -> None:
    """A new file, by mknod(2)."""
    sys.mknod("/f", S_IFREG | 0o644)


def fifo(sys: Sys) -> None:
    """A named pipe."""
    sys.mkfifo("/p")


def mkdir(sys: Sys) -> None:
    """A directory."""
    sys.mkdir("/d")


def rmdir(sys: Sys) -> None:
    """A directory made and removed."""
    sys.mkdir("/d")
    sys.rmdir("/d")


def link(sys: Sys) -> None:
    """Two names."""
    make(sys)
    sys.link("/f", "/g")


def unlink(sys: Sys) -> None:
    """A file with bytes, made and removed."""
    make(sys, data=b"abc")
    sys.unlink("/f")


def symlink(sys: Sys) -> None:
    """A symbolic link."""
    sys.symlink("f", "/s")


def readlink(sys: Sys) -> None:
    """The body of a symbolic link."""
    sys.symlink("f", "/s")
    assert sys.readlink("/s") == "f"


def follow(sys: Sys) -> None:
    """A walk through a symbolic link."""
    make(sys)
    sys.symlink("f", "/s")
    sys.stat("/s")


def follow_later(sys: Sys) -> None:
    """The same a second later: the link's access time moves, so the walk needs references."""
    make(sys)
    sys.symlink("f", "/s")
    sys.msleep(1000)
    sys.stat("/s")


def mkdir_again(sys: Sys) -> None:
    """A name that is there already: it is looked up under the directory's lock."""
    sys.mkdir("/d")
    try:
        sys.mkdir("/d")
    except FileExistsError:
        pass


def enter_automount(sys: Sys) -> None:
    """A directory that is a trigger: looked at, and then entered."""
    sys.mkdir("/auto")
    sys.stat("/auto")
    sys.close(sys.open("/auto/f", os.O_CREAT | os.O_WRONLY))


def held_back(sys: Sys) -> None:
    """Directories whose filesystem wants to be asked in transit, of an rcu-walk and of another."""
    for path in ("/held", "/slow"):
        sys.mkdir(path)
        sys.stat(path)


def rename(sys: Sys) -> None:
    """A file gets another name."""
    make(sys)
    sys.rename("/f", "/g")


def rename_over(sys: Sys) -> None:
    """A file takes the place of another."""
    make(sys)
    make(sys, "/g")
    sys.rename("/f", "/g")


def rename_directory_over(sys: Sys) -> None:
    """A directory takes the place of an empty one."""
    sys.mkdir("/d")
    sys.mkdir("/e")
    sys.rename("/d", "/e")


def rename_across(sys: Sys) -> None:
    """A file moves to another directory."""
    sys.mkdir("/d")
    make(sys)
    sys.rename("/f", "/d/f")


def rename_everywhere(sys: Sys) -> None:
    """Files and directories move down, up, across and onto each other, in either order of their
    addresses.
    """
    for path in ("/d", "/d/e", "/x", "/y"):
        sys.mkdir(path)
    for path in ("/d/f", "/x/f", "/a", "/b", "/c"):
        make(sys, path)
    for old, new in (
        ("/d/f", "/d/e/f"),
        ("/d/e/f", "/d/f"),
        ("/x/f", "/y/f"),
        ("/y/f", "/x/f"),
        ("/a", "/b"),
        ("/c", "/b"),
    ):
        sys.rename(old, new)
    make(sys, "/c")
    sys.rename("/c", "/b")
    sys.mkdir("/z")
    sys.rename("/d/e", "/z")


def stat(sys: Sys) -> None:
    """Attributes of a file."""
    make(sys)
    sys.stat("/f")


def stat_in_mkdir(sys: Sys) -> None:
    """A directory made where the filesystem asks for attributes with the parent locked, and asked
    for them again.
    """
    sys.mkdir("/d")
    sys.stat("/d")


def stat_missing(sys: Sys) -> None:
    """A name that is not there."""
    try:
        sys.stat("/nothing")
    except FileNotFoundError:
        pass


def stat_twice(sys: Sys) -> None:
    """A walk over cached names."""
    sys.mkdir("/d")
    make(sys, "/d/f")
    sys.stat("/d/f")
    sys.stat("/d/../d/f")


def chmod(sys: Sys) -> None:
    """Permission bits."""
    make(sys)
    sys.chmod("/f", 0o600)


def truncate(sys: Sys) -> None:
    """A file of some pages, cut inside a page, and grown again."""
    make(sys, data=b"x" * (2 * PAGE))
    sys.truncate("/f", 100)
    sys.truncate("/f", PAGE)


def write(sys: Sys) -> None:
    """Two pages."""
    make(sys, data=b"x" * (2 * PAGE))


def write_back(sys: Sys) -> None:
    """Two pages, and until they are on the disk."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * (2 * PAGE))
    sys.fsync(fd)
    sys.close(fd)


def flush_later(sys: Sys) -> None:
    """Two pages, which the flusher writes when they are old."""
    make(sys, data=b"x" * (2 * PAGE))
    sys.msleep(60_000)


def flush_at_once(sys: Sys) -> None:
    """A page, which is written as soon as it is dirty, for no need."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * PAGE)
    with opened(fd) as file:
        filemap_flush(file.f_mapping)
    sys.close(fd)


def write_some(sys: Sys) -> None:
    """Six dirty pages, of which the kernel wants two written."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * (6 * PAGE))
    with opened(fd) as file:
        do_writepages(file.f_mapping, WritebackControl(nr_to_write=2))
    sys.fsync(fd)
    sys.close(fd)


def read_back(sys: Sys) -> None:
    """A page that comes from the disk: the file is written, its pages are dropped, it is read."""
    write_back(sys)
    drop_pages(sys, "/f")
    read(sys)


def drop_pages(sys: Sys, path: str) -> None:
    """What memory pressure or POSIX_FADV_DONTNEED does to a clean file."""
    fd = sys.open(path, os.O_RDONLY)
    with opened(fd) as file:
        invalidate_mapping_pages(file.f_mapping)
    sys.close(fd)


def launder(sys: Sys) -> None:
    """Dirty pages are dropped from the cache, written first: before direct I/O."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * PAGE)
    with opened(fd) as file:
        invalidate_inode_pages2(file.f_mapping)
    sys.close(fd)


def read(sys: Sys) -> None:
    """All of a file."""
    fd = sys.open("/f", os.O_RDONLY)
    sys.read(fd, 4 * PAGE)
    sys.close(fd)


def read_hole(sys: Sys) -> None:
    """A page that is nowhere."""
    make(sys)
    sys.truncate("/f", PAGE)
    read(sys)


def write_and_read(sys: Sys) -> None:
    """Bytes in and out."""
    make(sys, data=b"abc")
    read(sys)


def seek(sys: Sys) -> None:
    """The position moves."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.lseek(fd, 3)
    sys.close(fd)


def setfl(sys: Sys) -> None:
    """Flags of an open file."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.fcntl(fd, F_SETFL, os.O_APPEND)
    sys.close(fd)


def list_directory(sys: Sys) -> None:
    """The names in a directory."""
    sys.mkdir("/d")
    make(sys, "/d/f")
    sys.listdir("/d")


def read_directory(sys: Sys) -> None:
    """read(2) on a directory, which is refused."""
    sys.mkdir("/d")
    fd = sys.open("/d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        sys.read(fd, 10)
    except IsADirectoryError:
        pass
    sys.close(fd)


def statfs(sys: Sys) -> None:
    """How full it is, asked by path."""
    sys.statfs("/")


def fstatfs(sys: Sys) -> None:
    """How full it is, asked by an open file."""
    fd = sys.open("/", os.O_RDONLY | os.O_DIRECTORY)
    sys.fstatfs(fd)
    sys.close(fd)


def ustat(sys: Sys) -> None:
    """How full it is, asked by device."""
    sys.ustat(sys.stat("/").st_dev)


def sync(sys: Sys) -> None:
    """Everything to the disks."""
    make(sys, data=b"abc")
    sys.sync()


def syncfs(sys: Sys) -> None:
    """This filesystem to its disk."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"abc")
    sys.syncfs(fd)
    sys.close(fd)


def remount(sys: Sys) -> None:
    """Other mount flags."""
    sys.mount("", "/", "", MS_REMOUNT)


def force_umount(sys: Sys) -> None:
    """A forced umount, which is refused because the root is in use."""
    try:
        sys.umount("/", MNT_FORCE)
    except OSError:
        pass


def freeze(sys: Sys) -> None:
    """A file is written, the filesystem is frozen and thawed."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"abc")
    sys.ioctl(fd, FIFREEZE)
    sys.ioctl(fd, FITHAW)
    sys.close(fd)


def show_mounts(sys: Sys) -> None:
    """What /proc/mounts shows."""
    sys.mounts()


def show_path(sys: Sys) -> None:
    """The name of something that has no place in a tree."""
    mnt = current_process().root.mnt
    dentry = d_alloc_pseudo(mnt.mnt_sb, "pipe")
    d_path(Path(mnt, dentry))
    dput(dentry)


def chmod_of_others(sys: Sys) -> None:
    """Times set by somebody who is not the owner: the kernel asks for permission to write, with the
    file locked.
    """
    make(sys)
    sys.chmod("/f", 0o666)
    sys.setuid(1000)
    sys.utime("/f")
    sys.stat("/f")


def open_missing(sys: Sys) -> None:
    """A name that is not there, opened without creating it."""
    try:
        sys.open("/nothing", os.O_RDONLY)
    except FileNotFoundError:
        pass


def two_opens(sys: Sys) -> None:
    """Two processes open one name that is not there, without creating it."""
    sys.fork(open_missing)
    sys.fork(open_missing)


def two_lookups(sys: Sys) -> None:
    """Two processes look for one name that is not there."""
    sys.fork(stat_missing)
    sys.fork(stat_missing)


def write_later(sys: Sys) -> None:
    """A file that is made, and written and read a second later: its times change."""
    make(sys, data=b"abc")
    sys.msleep(1000)
    make(sys, data=b"abc")
    sys.msleep(1000)
    read(sys)


def dirty_a_page(sys: Sys) -> None:
    """A page of a file is found dirty in a process's page table: its lock is not held then."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * PAGE)
    sys.fsync(fd)
    with opened(fd) as file:
        page = find_get_page(file.f_mapping, 0)
        assert page is not None
        set_page_dirty(page)
        put_page(page)
    sys.close(fd)


def list_shared_and_alone(sys: Sys) -> None:
    """A directory is listed through a shared open file, and through one's own."""
    sys.mkdir("/d")
    fd = sys.open("/d", os.O_RDONLY | os.O_DIRECTORY)
    other = sys.dup(fd)
    sys.getdents(fd)
    sys.close(other)
    sys.getdents(fd)
    sys.close(fd)
    sys.listdir("/d")


def write_while_written(sys: Sys) -> None:
    """A page is on its way to the disk when it is written again, and synced."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * PAGE)
    with opened(fd) as file:
        filemap_flush(file.f_mapping)
    sys.pwrite(fd, b"y" * PAGE, 0)
    sys.fsync(fd)
    sys.close(fd)


def set_xattr(sys: Sys) -> None:
    """An extended attribute, set and removed."""
    make(sys)
    sys.setxattr("/f", "user.colour", b"red")
    sys.removexattr("/f", "user.colour")


def get_xattr(sys: Sys) -> None:
    """An extended attribute, set and read."""
    make(sys)
    sys.setxattr("/f", "user.colour", b"red")
    assert sys.getxattr("/f", "user.colour") == b"red"


def list_xattrs(sys: Sys) -> None:
    """The names of extended attributes."""
    make(sys)
    sys.setxattr("/f", "user.colour", b"red")
    sys.setxattr("/f", "trusted.origin", b"here")
    assert sorted(sys.listxattr("/f")) == ["trusted.origin", "user.colour"]


def lists(sys: Sys) -> None:
    """A directory's default access control list is asked for when something is made in it, its
    access list when somebody else looks into it.
    """
    sys.mkdir("/d")
    make(sys, "/d/f")
    sys.setuid(1000)
    sys.stat("/d/f")


def set_list(sys: Sys) -> None:
    """A directory gets a default access control list; what is made in it inherits; chmod(2) changes
    that.
    """
    sys.mkdir("/d")
    sys.setxattr("/d", XATTR_NAME_POSIX_ACL_DEFAULT, posix_acl_to_xattr(_WITH_USER))
    make(sys, "/d/f")
    sys.chmod("/d/f", 0o640)
    assert sys.getxattr("/d/f", XATTR_NAME_POSIX_ACL_ACCESS)


_WITH_USER = PosixAcl(
    (
        AclEntry(ACL_USER_OBJ, 7),
        AclEntry(ACL_USER, 6, 1000),
        AclEntry(ACL_GROUP_OBJ, 5),
        AclEntry(ACL_MASK, 7),
        AclEntry(ACL_OTHER, 5),
    )
)


def unnamed(sys: Sys) -> None:
    """A file without a name, which gets one."""
    fd = sys.open("/", O_TMPFILE | os.O_RDWR, 0o644)
    sys.write(fd, b"abc")
    sys.flink(fd, "/f")
    sys.close(fd)


def extents(sys: Sys) -> None:
    """Where a file's bytes are."""
    fd = sys.open("/f", _NEW, 0o644)
    sys.write(fd, b"x" * PAGE)
    assert sys.fiemap(fd, flags=FIEMAP_FLAG_SYNC).fi_extents_mapped == 1
    sys.close(fd)


def exchange(sys: Sys) -> None:
    """A file and a directory in another one take each other's places."""
    sys.mkdir("/d")
    sys.mkdir("/d/e")
    make(sys)
    sys.renameat2("/f", "/d/e", RENAME_EXCHANGE)


def exchange_files(sys: Sys) -> None:
    """Two files take each other's places."""
    make(sys)
    make(sys, "/g")
    sys.renameat2("/f", "/g", RENAME_EXCHANGE)


def whiteout(sys: Sys) -> None:
    """A file moves and leaves a whiteout behind."""
    make(sys)
    sys.renameat2("/f", "/g", RENAME_WHITEOUT)
    assert sys.stat("/f").st_mode == S_IFCHR
