"""An oops: what leaves a filesystem's method is no error that a system call could return.

That is every exception but an OSError with an errno that Linux has; ``sys.exit()`` too, which would
end the search and look like a clean one.  It is told once, where it leaves the first method, with
the traceback as far as it is not the engine's and, where the exception says enough, a hint; and it
is blamed on the method.
"""

from __future__ import annotations

import errno
import linecache
from typing import TYPE_CHECKING, TypeGuard

from vfsim.checks.blame import is_kernel, place
from vfsim.sim.errors import KernelBug, Violation
from vfsim.sim.state import K
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from vfsim.checks.site import Site
    from vfsim.sim.task import Task

_HINTS = (
    (AttributeError, "'NoneType'", "something is None here that the code expects to be an object"),
    (
        AttributeError,
        "",
        "the object has no such field: its class and Linux's struct have the same names",
    ),
    (
        KeyError,
        "",
        "a dictionary has no such key: dict.get() or `in` asks first; a name that does not exist "
        "is ENOENT",
    ),
    (IndexError, "", "a sequence is shorter than the code expects"),
    (TypeError, "argument", "a function was called with other arguments than it takes"),
    (AssertionError, "", "an assertion in the filesystem failed"),
    (NameError, "", "a name is used that was never defined or imported"),
    (OSError, "", "this OSError has no errno of Linux's: the helpers of vfsim.sim.errors have one"),
    (RecursionError, "", "a function calls itself without end"),
    (
        NotImplementedError,
        "",
        "leave the method out instead: then the kernel does what Linux does for NULL",
    ),
)


def is_operating(error: BaseException) -> TypeGuard[OSError]:
    """Whether a method may raise that: a system call can return it."""
    return isinstance(error, OSError) and error.errno in errno.errorcode


def error_name(error: BaseException) -> str:
    """``ENOSPC`` for an OSError, else the exception's class."""
    code = error.errno if isinstance(error, OSError) else None
    return errno_name(code) if code in errno.errorcode else type(error).__name__


def errno_name(code: int | None) -> str:
    """Linux's name of an errno, where it has two the one that the kernel uses."""
    return "EOPNOTSUPP" if code == errno.EOPNOTSUPP else errno.errorcode[code or 0]


def oops(site: Site, t: Task, error: BaseException) -> None:
    """Report what no method may raise, once, where it leaves the first method."""
    if isinstance(error, KernelBug) or getattr(error, "__vfsim_told__", False):
        return
    BaseException.__setattr__(error, "__vfsim_told__", True)  # its class may forbid attributes
    frames = [
        f for f in _frames(error.__traceback__) if not is_engine(f[0].f_globals.get("__name__", ""))
    ]
    own = [f for f in frames if not is_kernel(f[0])]
    where = _line(own[-1] if own else frames[-1]) if frames else site.where
    message = str(error)
    name = type(error).__name__
    details = []
    for frame, line in frames:
        text = linecache.getline(frame.f_code.co_filename, line).strip()
        details.append(f"  {_line((frame, line))} in {frame.f_code.co_qualname}: {text}")
    details.append(f"{name}: {message}" if message else name)
    for kind, part, hint in _HINTS:
        if isinstance(error, kind) and part in message:
            details.append(f"hint: {hint}")
            break
    details.append(
        "what a method tells its caller is an OSError: raise ENOENT()   (from vfsim.sim.errors)"
    )
    summary = f"{site.title}() stumbled over {name}{': ' if message else ''}{message}"
    K.machine.violation(
        Violation("oops", "oops", site.blamed, where, summary, t.name, tuple(details))
    )


def _frames(tb: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while tb is not None:
        yield tb.tb_frame, tb.tb_lineno
        tb = tb.tb_next


def _line(at: tuple[FrameType, int]) -> str:
    frame, line = at
    return place(frame).rpartition(":")[0] + f":{line}"
