"""How a system call begins and ends, and what many of them share.

`return_to_user` runs at the end of each: what was put off until no lock is held is done (closing of
files), and holding anything at that moment is a bug.
"""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from vfsim.fs import echild
from vfsim.fs.fdtable import fdget, fdget_raw, fdput
from vfsim.fs.mount import Path, mnt_drop_write, mnt_want_write, path_put
from vfsim.fs.namei import AT_FDCWD, retry_estale, user_path
from vfsim.fs.strace import call_text
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.fs.file import File
    from vfsim.fs.kernel import Kernel
    from vfsim.sim.task import Task

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


def return_to_user(task: Task) -> None:
    """Sleeps.  The end of a system call: do what was put off, and make sure that nothing is held
    any more.
    """
    process = task.process
    if process.task_work:
        process.run_task_work()
    if task.held is not None:
        K.machine.judge.return_to_user(task)


def syscall(fn: Callable[P, R]) -> Callable[P, R]:
    """Never sleeps.  Make a method of `Sys` a system call: it is traced, and ends with
    `return_to_user`.
    """
    name = fn.__name__

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if K.trace is not None:
            _note(name, args[1:], kwargs)
        try:
            result = fn(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.ECHILD:
                echild.answered(error)
            return_to_user(K.cur)
            raise
        task = K.cur
        if task.held is not None or task.process.task_work:
            return_to_user(task)
        return result

    return call


def _note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert K.trace is not None
    K.trace.note(K.cur, "syscall", call_text(name, (*args, *kwargs.values())))


class Part:
    """Some of the system calls, on behalf of whichever task calls them.

    Attributes:
        kernel: whose they are.
    """

    __slots__ = ("kernel",)

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    @retry_estale
    def _at(
        self,
        name: str,
        flags: int,
        fn: Callable[..., T],
        *args: Any,
        dfd: int = AT_FDCWD,
        reval: int = 0,
    ) -> T:
        path = user_path(name, flags | reval, dfd)
        try:
            return fn(path, *args)
        finally:
            path_put(path)

    def _of(self, fd: int, fn: Callable[..., T], *args: Any) -> T:
        return _with(*fdget(fd), fn, *args)

    def _of_any(self, fd: int, fn: Callable[..., T], *args: Any) -> T:
        """As `_of`, of a file that is good for naming only (O_PATH), too."""
        return _with(*fdget_raw(fd), fn, *args)


def _with(file: File, how: int, fn: Callable[..., T], *args: Any) -> T:
    try:
        return fn(file.f_path, *args)
    finally:
        fdput(file, how)


def as_bytes(data: Buffer) -> bytes:
    """Never sleeps.  What is to be written, as it is now: who gave it may change it later."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data to write is bytes, got {type(data).__name__}")
    return bytes(data)


def reading(path: Path, fn: Callable[..., T], *args: Any) -> T:
    """Sleeps.  Do something with a dentry that changes nothing."""
    return fn(path.dentry, *args)


def writing(path: Path, fn: Callable[..., T], *args: Any) -> T:
    """Sleeps.  Do something with a dentry that changes it: its mount has to be writable."""
    mnt_want_write(path.mnt)
    try:
        return fn(path.dentry, *args)
    finally:
        mnt_drop_write(path.mnt)
