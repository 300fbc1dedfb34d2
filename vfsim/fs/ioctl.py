"""ioctl(2): what one asks of an open file that has no call of its own.

Here are those that every filesystem has: freezing and thawing the one that the file is on
(``xfs_freeze``, ``fsfreeze``).  No lock is held.  The counterpart of ``fs/ioctl.c`` of v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.freeze import can_freeze, freeze_super, thaw_super
from vfsim.fs.process import CAP_SYS_ADMIN, capable
from vfsim.sim.errors import ENOTTY, EOPNOTSUPP, EPERM

if TYPE_CHECKING:
    from vfsim.fs.file import File

FIFREEZE = 0xC004_5877
FITHAW = 0xC004_5878


def do_vfs_ioctl(file: File, cmd: int, arg: Any) -> int:
    """Sleeps.  One command on an open file.

    Raises:
        OSError: ENOTTY (no such command), or as the command.

    Source: ``do_vfs_ioctl``.
    """
    if cmd == FIFREEZE:
        ioctl_fsfreeze(file)
    elif cmd == FITHAW:
        ioctl_fsthaw(file)
    else:
        raise ENOTTY()
    return 0


def ioctl_fsfreeze(file: File) -> None:
    """Sleeps.  Freeze the filesystem of an open file, which may be open for reading only.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN, EOPNOTSUPP (no ``freeze_fs``), as `freeze_super`.
    """
    if not capable(CAP_SYS_ADMIN):
        raise EPERM()
    sb = file.f_inode.i_sb
    if not can_freeze(sb):
        raise EOPNOTSUPP()
    freeze_super(sb)


def ioctl_fsthaw(file: File) -> None:
    """Sleeps.  Thaw the filesystem of an open file.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN, as `thaw_super`.
    """
    if not capable(CAP_SYS_ADMIN):
        raise EPERM()
    thaw_super(file.f_inode.i_sb)
