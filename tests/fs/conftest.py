"""Fixtures: a kernel with ramfs at "/" that is checked when the test is over, errors by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.kernel import Kernel


@pytest.fixture
def k() -> Iterator[Kernel]:
    """A kernel with ramfs mounted; afterwards every invariant holds, everything is closed, nothing
    leaks.
    """
    kernel = Kernel()
    try:
        kernel.mount(RamFS(), "/")
        yield kernel
        if not kernel.machine.stopped and not kernel.violations:
            kernel._check()
            kernel.close()
            assert kernel.violations == []
    finally:
        kernel.machine.bury()


class Expect:
    """Calls that must fail: ``expect.ENOENT(sys.stat, "/gone")``."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        code = getattr(errno, name)

        def check(fn: Callable[..., Any], *args: Any) -> None:
            try:
                value = fn(*args)
            except OSError as error:
                got = errno.errorcode[error.errno or 0]
                assert error.errno == code, f"{fn.__name__}{args}: {got} instead of {name}"
            else:
                raise AssertionError(f"{fn.__name__}{args}: {value!r} instead of {name}")

        return check


@pytest.fixture
def expect() -> Expect:
    """Errors by name."""
    return Expect()
