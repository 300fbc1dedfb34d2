"""The kernel the tests run on as oracle: one function of system calls, run there and here.

A function gets ``sys`` and returns what it saw; `both` runs it on ramfs here and on a private tmpfs
of the host, and the two must have seen the same.  Where the host refuses, only here.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any

from tests.testing.host import HostGround, HostSys, Tmpfs, in_child, possible
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel


def saw(fn: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the name of its errno."""
    try:
        return fn(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


Program = Callable[[Any], Any]


def here(program: Program) -> Any:
    """What it sees on ramfs; nothing is reported."""
    kernel = Kernel()
    try:
        kernel.mount(RamFS(), "/")
        seen = kernel.call(program)
        kernel.close()
        assert kernel.violations == []
        return seen
    finally:
        kernel.machine.bury()


@functools.cache
def refused() -> str:
    """Why the host cannot be asked."""
    return possible()


def there(program: Program) -> Any:
    """What it sees on the host's tmpfs."""

    def ask(ground: HostGround) -> list[Any]:
        answers: list[Any] = []
        ground.run([(lambda sys: answers.append(program(HostSys())), False)])
        return answers

    return in_child(Tmpfs(), ask)[0]


def both(program: Program) -> Any:
    """What it sees, here and there the same."""
    seen = here(program)
    if not refused():
        told = there(program)
        assert seen == told, [pair for pair in zip(seen, told, strict=False) if pair[0] != pair[1]]
    return seen
