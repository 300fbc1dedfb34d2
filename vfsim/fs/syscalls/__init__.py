"""System calls: what a process can ask of the kernel.

`Sys` is what a task's function gets as its first argument.  Each call has Linux's name, Linux's
arguments (buffers are ``bytes``, times nanoseconds) and raises ``OSError`` with Linux's errno.  A
call is a thin function: names to paths, descriptors to files, and then the ``vfs_*`` function that
does it.

=============  ===================================================================
`entry`        how a call begins and ends: `syscall`, `return_to_user`
`files`        open, read, write, seek, sync, getdents, fcntl
`attributes`   stat, access, chmod, chown, utime, truncate, fiemap
`xattrs`       setxattr, getxattr, listxattr, removexattr
`names`        mkdir, rename, link, symlink, unlink, mknod, listdir
`at`           openat, mkdirat, unlinkat, renameat, linkat, fstatat, and the like
`processes`    chdir, chroot, umask, who one is, fork, thread, sleep
`filesystems`  mount, umount, unshare, statfs, sync, ioctl
=============  ===================================================================

Calls that Linux has and that are not here: everything about memory, sockets, pipes and signals.
``open`` of a FIFO, socket or device is ENXIO.
"""

from vfsim.fs.namei import AT_FDCWD
from vfsim.fs.syscalls.at import (
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_REMOVEDIR,
    AT_SYMLINK_NOFOLLOW,
    AtCalls,
)
from vfsim.fs.syscalls.attributes import AttributeCalls
from vfsim.fs.syscalls.entry import return_to_user, syscall
from vfsim.fs.syscalls.files import F_DUPFD, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FileCalls
from vfsim.fs.syscalls.filesystems import CLONE_NEWNS, FilesystemCalls
from vfsim.fs.syscalls.names import AT_SYMLINK_FOLLOW, NameCalls
from vfsim.fs.syscalls.processes import ProcessCalls
from vfsim.fs.syscalls.xattrs import XattrCalls


class Sys(FileCalls, AttributeCalls, XattrCalls, NameCalls, AtCalls, ProcessCalls, FilesystemCalls):
    """The system calls, on behalf of whichever task calls them.

    Attributes:
        kernel: whose they are.
    """

    __slots__ = ()


__all__ = [
    "AT_EMPTY_PATH",
    "AT_FDCWD",
    "AT_NO_AUTOMOUNT",
    "AT_REMOVEDIR",
    "AT_SYMLINK_NOFOLLOW",
    "AT_SYMLINK_FOLLOW",
    "CLONE_NEWNS",
    "F_DUPFD",
    "F_GETFD",
    "F_GETFL",
    "F_SETFD",
    "F_SETFL",
    "Sys",
    "return_to_user",
    "syscall",
]
