"""In whose name a mutant's code runs: frames of the kernel, of a filesystem, or of nobody.

Reports blame the owner of a frame, and they know it by the name of the frame's module.  A mutant of
the kernel is written here, in `vfsim.testing`, but it stands in for a line of the kernel, so its
frames must be the kernel's; the same for what stands in for a filesystem's code.  The small steps
that both share (taking a lock) are nobody's, as the engine's own.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

KERNEL, FILESYSTEM, NOBODY = "vfsim.fs.mutant", "mutant", "vfsim.locks.mutant"


def standing_in(fn: F, module: str) -> F:
    """A copy of a plain function whose frames belong to ``module``."""
    assert isinstance(fn, FunctionType), fn
    space = {**fn.__globals__, "__name__": module}
    copy = FunctionType(fn.__code__, space, fn.__name__, fn.__defaults__, fn.__closure__)
    copy.__kwdefaults__ = fn.__kwdefaults__
    copy.__annotations__ = fn.__annotations__
    copy.__qualname__ = fn.__qualname__
    copy.__module__ = module
    copy.__doc__ = fn.__doc__
    return cast("F", copy)


def nobodys(fn: F) -> F:
    """As a decorator: the function's frames are nobody's."""
    return standing_in(fn, NOBODY)
