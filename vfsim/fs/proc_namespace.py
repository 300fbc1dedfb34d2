"""What /proc/mounts shows: a line for each mount that a process can reach.

``namespace_sem`` is held shared from the first line to the last, so that the tree does not change
in between, and with it ``show_options`` is called.  The counterpart of ``fs/proc_namespace.c`` of
v4.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.fs.dcache import is_subdir
from vfsim.fs.mount import (
    MNT_NOATIME,
    MNT_NODEV,
    MNT_NODIRATIME,
    MNT_NOEXEC,
    MNT_NOSUID,
    MNT_RELATIME,
    Path,
    d_path,
    mnt_has_parent,
    mnt_is_readonly,
    mounts,
)
from vfsim.fs.process import current_process
from vfsim.fs.super import MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_SYNCHRONOUS

if TYPE_CHECKING:
    from vfsim.fs.mount import Mount

_SB_WORDS = {
    MS_SYNCHRONOUS: "sync",
    MS_DIRSYNC: "dirsync",
    MS_MANDLOCK: "mand",
    MS_LAZYTIME: "lazytime",
}
_MNT_WORDS = {
    MNT_NOSUID: "nosuid",
    MNT_NODEV: "nodev",
    MNT_NOEXEC: "noexec",
    MNT_NOATIME: "noatime",
    MNT_NODIRATIME: "nodiratime",
    MNT_RELATIME: "relatime",
}


def read_mounts() -> list[str]:
    """Sleeps.  The lines of /proc/mounts for the running process.

    Takes ``namespace_sem`` shared.
    """
    process = current_process()
    with mounts().namespace_sem.shared():
        seen = process.mnt_ns.mounts if process.mnt_ns is not None else ()
        return [
            show_vfsmnt(mnt, process.root) for mnt in seen if is_path_reachable(mnt, process.root)
        ]


def show_vfsmnt(mnt: Mount, root: Path) -> str:
    """Sleeps.  Device, place as seen from ``root``, type and options of a mount.

    The caller holds namespace_sem.  Source: ``show_vfsmnt``.
    """
    sb = mnt.mnt_sb
    words = ["ro" if mnt_is_readonly(mnt) else "rw"]
    words += [word for bit, word in _SB_WORDS.items() if sb.s_flags & bit]
    words += [word for bit, word in _MNT_WORDS.items() if mnt.mnt_flags & bit]
    place = d_path(Path(mnt, mnt.mnt_root), root)
    own = sb.s_op.show_options(mnt.mnt_root)
    return f"{mnt.mnt_devname or 'none'} {place} {sb.s_type.name} {','.join(words)}{own} 0 0"


def is_path_reachable(mnt: Mount, root: Path) -> bool:
    """Never sleeps.  Whether a mount is below ``root``.  The caller holds namespace_sem."""
    dentry = mnt.mnt_root
    while mnt is not root.mnt and mnt_has_parent(mnt):
        dentry = mnt.mnt_mountpoint
        mnt = mnt.mnt_parent
    return mnt is root.mnt and is_subdir(dentry, root.dentry)
