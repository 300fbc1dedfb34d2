"""Open files: what stands between a descriptor and an inode.

The life of a `File`::

    file = File(flags, cred)        allocated by open, belongs to nobody
    vfs_open(file, mnt, dentry)     bound to a path and an inode; the filesystem's ``open`` ran
    get_file() / fput()             references: descriptors (dup, fork) and calls in progress
    last fput()                     the task will close it when it returns to user mode: no lock
                                    is held there
    close_now()                     the filesystem's ``release``, and the path is given back

Fields and what guards them::

    f_pos_lock   f_pos, across a whole read, write, lseek or getdents, if the file has more than one
                 reference
    f_lock       f_flags, f_pos in lseek(SEEK_CUR)
    (none)       f_path, f_inode, f_op, f_mode: fixed by open; f_count: atomic

``f_count`` counts references to the open file, while the path's own references keep inode and mount
alive.
"""

from __future__ import annotations

import os
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.bugs import bug
from vfsim.checks.lifetime import free, note_ref
from vfsim.fs.attr import file_remove_privs, file_update_time, touch_atime
from vfsim.fs.dcache import dget, dput
from vfsim.fs.dentry import d_real
from vfsim.fs.mount import (
    Mount,
    Path,
    mnt_get_write_access,
    mnt_put_write_access,
    mntget,
    mntput,
)
from vfsim.fs.operations import FileOperations
from vfsim.fs.process import current_cred
from vfsim.locks.mutex import Mutex
from vfsim.locks.slab import kmalloc
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.errors import ENXIO, ETXTBSY
from vfsim.sim.shared import guarded_by, share
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.inode import Inode
    from vfsim.fs.process import Cred
    from vfsim.mm.mapping import AddressSpace

FMODE_READ = 0x1
FMODE_WRITE = 0x2
FMODE_LSEEK = 0x4
FMODE_PREAD = 0x8
FMODE_PWRITE = 0x10
FMODE_PATH = 0x4000
FMODE_ATOMIC_POS = 0x8000
FMODE_WRITER = 0x10000
FMODE_CAN_READ = 0x20000
FMODE_CAN_WRITE = 0x40000
FMODE_OPENED = 0x80000
FMODE_CREATED = 0x100000

O_PATH = getattr(os, "O_PATH", 0o10000000)
O_TMPFILE = getattr(os, "O_TMPFILE", 0o20200000)
O_NOATIME = getattr(os, "O_NOATIME", 0o1000000)
O_DIRECTORY = getattr(os, "O_DIRECTORY", 0o200000)
O_LARGEFILE = 0o100000
"""What a 64-bit kernel adds to every open: its flags are never 0."""
_OPEN_ONLY = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC
_MODES = {os.O_RDONLY: FMODE_READ, os.O_WRONLY: FMODE_WRITE, os.O_RDWR: FMODE_READ | FMODE_WRITE}

IOCB_APPEND = 1 << 1
IOCB_DIRECT = 1 << 2
IOCB_DSYNC = 1 << 4
IOCB_SYNC = 1 << 5


class File:
    """An open file (Linux: ``struct file``).

    Attributes:
        f_path, f_inode, f_op, f_mapping: what was opened.
        f_mode: FMODE_* bits.  f_flags: the O_* flags that outlive open.
        f_pos: where the next read or write happens, in bytes (in a directory: whatever the
            filesystem counts).
        f_count: references.
        f_cred: the credentials of whoever opened it.
        private_data: the filesystem's.
    """

    __slots__ = (
        "__weakref__", "_f_lock", "_f_pos_lock", "f_count", "f_cred", "f_flags", "f_inode",
        "f_mode", "f_op", "f_path", "f_pos", "f_ra", "f_version", "f_wb_err", "private_data",
    )  # fmt: skip

    f_path: Path
    f_inode: Inode
    f_op: FileOperations

    def __init__(self, flags: int, cred: Cred) -> None:
        self.f_count = 1
        self.f_flags = flags
        self.f_cred = cred
        self.f_mode = _MODES.get(flags & os.O_ACCMODE, 0) | FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE
        self.f_pos = 0
        self.f_version = 0
        self.f_ra: Any = None
        self.f_wb_err = 0
        self.private_data: Any = None
        self._f_lock: SpinLock | None = None
        self._f_pos_lock: Mutex | None = None

    @property
    def f_lock(self) -> SpinLock:
        """Guards f_flags; made on first use."""
        if self._f_lock is None:
            self._f_lock = SpinLock("f_lock")
        return self._f_lock

    @property
    def f_pos_lock(self) -> Mutex:
        """Makes reads and writes that share f_pos take turns; made on first use."""
        if self._f_pos_lock is None:
            self._f_pos_lock = Mutex("f_pos_lock")
        return self._f_pos_lock

    @property
    def f_mapping(self) -> AddressSpace:
        """The page cache that reads and writes use."""
        return self.f_inode.i_mapping

    @property
    def f_dentry(self) -> Dentry:
        """The name it was opened by."""
        return self.f_path.dentry

    def accessed(self) -> None:
        """Sleeps.  Somebody read it (Linux: ``file_accessed``)."""
        if not self.f_flags & O_NOATIME:
            touch_atime(self.f_path.mnt, self.f_path.dentry)

    def update_time(self) -> None:
        """Sleeps.  Somebody writes, holding ``i_rwsem`` (Linux: ``file_update_time``)."""
        file_update_time(self)

    def remove_privs(self) -> None:
        """Sleeps.  A write takes set-user-ID bits away (Linux: ``file_remove_privs``)."""
        file_remove_privs(self)

    def _check(self) -> None:
        """What is true of every file that was opened."""
        assert self.f_count >= 0, f"{self!r}: {self.f_count} references"
        assert self.f_pos >= 0, f"{self!r}: position {self.f_pos}"
        assert not self.f_mode & FMODE_CAN_READ or self.f_mode & FMODE_READ
        assert not self.f_mode & FMODE_CAN_WRITE or self.f_mode & FMODE_WRITE

    def __repr__(self) -> str:
        name = self.f_path.dentry.d_name if hasattr(self, "f_path") else "not open yet"
        return f"<File {name!r} count={self.f_count}>"


share(File, "f_pos", guarded_by("_f_pos_lock"))
share(File, "f_flags", guarded_by("_f_lock", lockless=True))


def file_dentry(file: File) -> Dentry:
    """Never sleeps.  The name of the inode that reads and writes use: on a stacking filesystem one
    of the filesystem beneath.  Source: ``file_dentry``.
    """
    return d_real(file.f_path.dentry, file.f_inode, 0)


def get_empty_filp(flags: int) -> File:
    """Sleeps.  A file that belongs to nobody, opened with the caller's credentials.

    Raises:
        OSError: ENOMEM.
    """
    kmalloc()
    return File(flags, current_cred())


@attrs.define(eq=False, slots=True)
class Kiocb:
    """One read or write in progress (Linux: ``struct kiocb``).

    Attributes:
        ki_filp: the open file.
        ki_pos: where it happens; the method moves it on by what it read or wrote.
        ki_flags: IOCB_APPEND and others, from the file's flags.
    """

    ki_filp: File
    ki_pos: int = 0
    ki_flags: int = 0


def iocb_flags(file: File) -> int:
    """Never sleeps.  What the flags of an open file mean for one read or write.

    Source: ``iocb_flags``.
    """
    flags = file.f_flags
    found = 0
    if flags & os.O_APPEND:
        found |= IOCB_APPEND
    if flags & getattr(os, "O_DIRECT", 0):
        found |= IOCB_DIRECT
    if flags & os.O_DSYNC or file.f_inode.i_flags & 1:
        found |= IOCB_DSYNC
    if flags & os.O_SYNC & ~os.O_DSYNC:
        found |= IOCB_SYNC
    return found


def open_files() -> dict[File, None]:
    """Never sleeps.  Every open file of the running world, in the order of opening."""
    data = K.machine.data
    found = data.get("files")
    if found is None:
        found = data["files"] = {}
    return found


# -- write access to an inode --------------------------------------------------------------------


def get_write_access(inode: Inode) -> None:
    """Never sleeps.  One more writer.

    Raises:
        OSError: ETXTBSY while writing is denied (`deny_write_access`).

    Source: ``get_write_access``.
    """
    if inode.i_writecount < 0:
        raise ETXTBSY()
    inode.i_writecount += 1


def put_write_access(inode: Inode) -> None:
    """Never sleeps.  One writer less."""
    inode.i_writecount -= 1


def deny_write_access(inode: Inode) -> None:
    """Never sleeps.  Nobody may open it for writing now: it is being executed.

    Raises ETXTBSY if somebody did.
    """
    if inode.i_writecount > 0:
        raise ETXTBSY()
    inode.i_writecount -= 1


def allow_write_access(inode: Inode) -> None:
    """Never sleeps.  Undo one `deny_write_access`."""
    inode.i_writecount += 1


# -- open and close ------------------------------------------------------------------------------

_NOTHING = FileOperations()
_NO_OPEN = FileOperations.open
_NO_RELEASE = FileOperations.release
_NO_READ, _NO_READ_ITER = FileOperations.read, FileOperations.read_iter
_NO_WRITE, _NO_WRITE_ITER = FileOperations.write, FileOperations.write_iter


def vfs_open(file: File, mnt: Mount, dentry: Dentry) -> None:
    """Sleeps.  Bind a fresh file to a path and let the filesystem's ``open`` run.

    On failure the file is unbound again.

    Raises:
        OSError: ETXTBSY, EROFS, ENXIO (FIFOs, sockets and devices have nothing behind them here),
            or what the filesystem says.

    No lock is held, except inside ``atomic_open``.  Source: ``vfs_open``, ``do_dentry_open``.
    """
    inode = d_real(dentry, None, file.f_flags | O_LARGEFILE).d_inode
    assert inode is not None
    file.f_path = Path(mntget(mnt), dget(dentry))
    file.f_inode = inode
    open_files()[file] = None
    if file.f_flags & O_PATH:
        file.f_mode = FMODE_PATH | FMODE_OPENED
        file.f_op = _NOTHING
        note_ref(file, 1, "open")
        return
    try:
        _open_for_io(file, inode)
    except Exception:
        _forget(file)
        raise
    note_ref(file, 1, "open")


def _open_for_io(file: File, inode: Inode) -> None:
    type_ = S_IFMT(inode.i_mode)
    plain = type_ in (S_IFREG, S_IFDIR)
    if file.f_mode & FMODE_WRITE and plain:
        get_write_access(inode)
        try:
            mnt_get_write_access(file.f_path.mnt)
        except OSError:
            put_write_access(inode)
            raise
        file.f_mode |= FMODE_WRITER
    if plain:
        file.f_mode |= FMODE_ATOMIC_POS
    else:
        raise ENXIO()
    op = file.f_op = inode.i_fop
    cls = type(op)
    if cls.open is not _NO_OPEN:
        op.open(inode, file)
    mode = file.f_mode
    if mode & FMODE_READ and (cls.read_iter is not _NO_READ_ITER or cls.read is not _NO_READ):
        mode |= FMODE_CAN_READ
    if mode & FMODE_WRITE and (cls.write_iter is not _NO_WRITE_ITER or cls.write is not _NO_WRITE):
        mode |= FMODE_CAN_WRITE
    file.f_mode = mode | FMODE_OPENED
    file.f_flags &= ~_OPEN_ONLY


def get_file(file: File) -> File:
    """Never sleeps.  One more reference; the caller has one or found it in a descriptor table."""
    file.f_count += 1
    note_ref(file, 1, "get_file")
    return file


def fput(file: File) -> None:
    """Sleeps.  Put a reference; in a process it never sleeps.

    After the last one the file is closed when the task returns to user mode.  A kernel thread never
    does, so there it is closed at once.  Source: ``fput``.
    """
    if file.f_count < 1:
        bug("kernel.bug", f"fput() of a file without references: {file!r}")
    note_ref(file, -1, "fput")
    file.f_count -= 1
    if not file.f_count:
        process = K.cur.process
        if process is None:
            close_now(file)
        else:
            process.task_work.append((close_now, file))


def close_now(file: File) -> None:
    """Sleeps.  The last reference is gone: tell the filesystem, give everything back.

    Source: ``__fput``.
    """
    op = file.f_op
    try:
        if type(op).release is not _NO_RELEASE:
            op.release(file.f_inode, file)
    except OSError:
        pass  # nobody is left to be told
    finally:
        _forget(file)


def _forget(file: File) -> None:
    """Unbind a file from its path and free it."""
    if file.f_mode & FMODE_WRITER:
        put_write_access(file.f_inode)
        mnt_put_write_access(file.f_path.mnt)
    del open_files()[file]
    path = file.f_path
    dput(path.dentry)
    mntput(path.mnt)
    free(file, "open file")
