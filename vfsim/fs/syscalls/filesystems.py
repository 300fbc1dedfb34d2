"""System calls on whole filesystems: mounting, syncing, asking how full they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.dcache import dput
from vfsim.fs.fdtable import fdget, fdput
from vfsim.fs.ioctl import do_vfs_ioctl
from vfsim.fs.lookup import LOOKUP_FOLLOW
from vfsim.fs.mount import check_mnt, mntput_no_expire, path_put
from vfsim.fs.namei import user_path
from vfsim.fs.namespace import copy_mnt_ns, do_mount
from vfsim.fs.proc_namespace import read_mounts
from vfsim.fs.process import CAP_SYS_ADMIN, capable, current_process
from vfsim.fs.super import (
    SB_RDONLY,
    KStatfs,
    drop_super,
    iterate_supers,
    sync_filesystem,
    sync_one_pass,
    user_get_super,
)
from vfsim.fs.super_cache import drop_caches
from vfsim.fs.syscalls.entry import Part, reading, syscall
from vfsim.fs.umount import MNT_DETACH, MNT_EXPIRE, MNT_FORCE, UMOUNT_NOFOLLOW, do_umount
from vfsim.sim.errors import EACCES, EINVAL, EPERM

if TYPE_CHECKING:
    from vfsim.fs.dentry import Dentry
    from vfsim.fs.super import SuperBlock

CLONE_NEWNS = 0x20000


class FilesystemCalls(Part):
    """What is asked of mounts and superblocks."""

    __slots__ = ()

    @syscall
    def statfs(self, path: str) -> KStatfs:
        """Sleeps.  How full a filesystem is.  Raises ENOSYS if it does not say."""
        found: KStatfs = self._at(path, LOOKUP_FOLLOW, reading, _statfs)
        return found

    @syscall
    def fstatfs(self, fd: int) -> KStatfs:
        """Sleeps.  How full the filesystem of an open file is.  Raises EBADF, ENOSYS."""
        found: KStatfs = self._of_any(fd, reading, _statfs)
        return found

    @syscall
    def ustat(self, dev: int) -> KStatfs:
        """Sleeps.  How full the filesystem of a device number (``st_dev``) is.

        Here ``statfs`` runs with ``s_umount`` held shared: nothing else keeps the superblock.

        Raises:
            OSError: EINVAL, if nothing is mounted from it; ENOSYS.
        """
        sb = user_get_super(dev)
        if sb is None:
            raise EINVAL()
        try:
            assert sb.s_root is not None
            return _statfs(sb.s_root)
        finally:
            drop_super(sb)

    @syscall
    def sync(self) -> None:
        """Sleeps.  Bring everything to the disks."""
        iterate_supers(_sync_later)
        iterate_supers(_sync_now)

    @syscall
    def drop_caches(self, what: int = 3) -> None:
        """Sleeps.  What root writes to ``/proc/sys/vm/drop_caches``: 1 drops clean pages, 2 unused
        dentries and inodes, 3 both.

        Raises:
            OSError: EACCES, EINVAL.
        """
        if not capable(CAP_SYS_ADMIN):
            raise EACCES()
        drop_caches(what, iterate_supers)

    @syscall
    def syncfs(self, fd: int) -> None:
        """Sleeps.  Bring the filesystem of an open file to its disk.  Raises EBADF, EIO ..."""
        file, how = fdget(fd)
        try:
            sb = file.f_path.dentry.d_sb
            with sb.s_umount.shared():
                sync_filesystem(sb)
        finally:
            fdput(file, how)

    @syscall
    def ioctl(self, fd: int, cmd: int, arg: Any = None) -> int:
        """Sleeps.  A command on an open file: FIFREEZE, FITHAW.

        Raises:
            OSError: EBADF, ENOTTY (no such command), or as `vfsim.fs.ioctl`.
        """
        file, how = fdget(fd)
        try:
            return do_vfs_ioctl(file, cmd, arg)
        finally:
            fdput(file, how)

    @syscall
    def mount(
        self, source: str, target: str, fstype: str = "", flags: int = 0, data: str = ""
    ) -> None:
        """Sleeps.  Mount a filesystem by the name of its registered type; with MS_REMOUNT, MS_BIND,
        MS_MOVE do that to mounts that exist.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN, ENODEV (no such type), ENOTDIR, EBUSY, what the
                filesystem says.
        """
        if not capable(CAP_SYS_ADMIN):
            raise EPERM()
        at = user_path(target)
        try:
            do_mount(at, source, fstype, flags, data)
        finally:
            path_put(at)

    @syscall
    def umount(self, path: str, flags: int = 0) -> None:
        """Sleeps.  Unmount what is mounted at ``path`` (Linux: ``umount2``).

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN, EINVAL (no mountpoint), as `do_umount`.
        """
        if flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW):
            raise EINVAL()
        if not capable(CAP_SYS_ADMIN):
            raise EPERM()
        found = user_path(path, 0 if flags & UMOUNT_NOFOLLOW else LOOKUP_FOLLOW)
        try:
            if found.dentry is not found.mnt.mnt_root or not check_mnt(found.mnt):
                raise EINVAL()
            do_umount(found.mnt, flags)
        finally:
            dput(found.dentry)
            mntput_no_expire(found.mnt)  # it is no use of the mount that it was asked to go

    @syscall
    def unshare(self, flags: int) -> None:
        """Sleeps.  Have something for oneself; of Linux's flags there is CLONE_NEWNS: a copy of the
        tree of mounts.

        Raises:
            OSError: EINVAL (another flag), EPERM without CAP_SYS_ADMIN, ENOMEM.
        """
        if flags & ~CLONE_NEWNS:
            raise EINVAL()
        if flags:
            if not capable(CAP_SYS_ADMIN):
                raise EPERM()
            copy_mnt_ns(current_process())

    def mounts(self) -> list[str]:
        """Sleeps.  The lines of /proc/mounts; see `vfsim.fs.proc_namespace`."""
        return read_mounts()


def _statfs(dentry: Dentry) -> KStatfs:
    """Ask the filesystem; a path, an open file or s_umount keeps the superblock (P9, P10)."""
    found = dentry.d_sb.s_op.statfs(dentry)
    if not found.f_frsize:
        found.f_frsize = found.f_bsize
    return found


def _sync_later(sb: SuperBlock) -> None:
    if not sb.s_flags & SB_RDONLY:
        sync_one_pass(sb, False)


def _sync_now(sb: SuperBlock) -> None:
    try:
        if not sb.s_flags & SB_RDONLY:
            sync_one_pass(sb, True)
    except OSError:
        pass  # sync(2) cannot fail
