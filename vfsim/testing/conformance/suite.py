"""How an assertion is written, and how it fails.

An assertion is a small function with a one-line name.  It gets the system calls and runs in a
fresh, empty, writable tree, the root of a filesystem that was just mounted, as root, with umask
022 and ``/`` as working directory::

    @asserts("unlink", "unlink removes the name", needs="create unlink")
    def removes_the_name(sys):
        touch(sys, "/a")
        sys.unlink("/a")
        refused(ENOENT, sys.stat, "/a")

It fails by raising `Nonconforming`, which `refused`, `same` and `true` do; an ``OSError`` that
nobody expected is a failure too.  ``needs`` are words of `Capabilities`; an assertion whose needs
a filesystem lacks is skipped.  ``lacks`` are words that must be absent: that is how the errno of a
method left out is asserted.

Assertions register themselves when their module is imported; `assertions` lists them in order.  No
lock guards anything here: registration is over when the first one runs.
"""

from __future__ import annotations

import inspect
import os
import stat
from typing import TYPE_CHECKING

import attrs

from vfsim.testing.conformance.capabilities import WORDS
from vfsim.testing.conformance.syscalls import errno_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.syscalls import SystemCalls

    Body = Callable[..., None]

CREATE = os.O_CREAT | os.O_RDWR
NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR


class Nonconforming(Exception):
    """What came is not what Linux gives.

    Attributes:
        expected, got: both as text.
        what: which of several questions of the assertion it was, or "".
    """

    def __init__(self, expected: str, got: str, what: str = "") -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
        self.expected = expected
        self.got = got
        self.what = what


@attrs.frozen(eq=False)
class Assertion:
    """One thing that every filesystem must do as Linux does.

    Attributes:
        id: stable, ``area.slug``.
        name: one line, for people.
        body: the function; takes the system calls, and the `Capabilities` if ``wants_limits``.
        given: what is prepared beforehand on an earlier mount, or None.
        readonly: whether the body finds the filesystem mounted read-only.
        needs, lacks, size, files: see `Capabilities`.
    """

    id: str
    area: str
    name: str
    body: Body
    needs: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    size: int = 0
    files: int = 0
    given: Body | None = None
    readonly: bool = False
    wants_limits: bool = False

    def why_not(self, caps: Capabilities) -> str:
        """Why this cannot be asked of a filesystem with these capabilities; "" if it can."""
        if not caps.writable and not self.readonly:
            return "needs to write"
        present = sorted(self.lacks & caps.has)
        if present:
            return "has " + ", ".join(present)
        return caps.lacking(self.needs, self.size, self.files)


_registry: dict[str, Assertion] = {}


def register(assertion: Assertion) -> None:
    """Add an assertion to the suite.

    Raises:
        ValueError: the id is taken, or a needed word is unknown.
    """
    unknown = sorted((assertion.needs | assertion.lacks) - WORDS)
    if unknown:
        raise ValueError(f"{assertion.id}: unknown capabilities {unknown}")
    if assertion.id in _registry:
        raise ValueError(f"two assertions are called {assertion.id}")
    _registry[assertion.id] = assertion


def assertions(areas: tuple[str, ...] = ()) -> Iterator[Assertion]:
    """The suite in order, or what belongs to the areas named."""
    for assertion in _registry.values():
        if not areas or assertion.area in areas:
            yield assertion


def asserts(
    area: str,
    name: str,
    *,
    needs: str = "",
    lacks: str = "",
    size: int = 0,
    files: int = 0,
    given: Body | None = None,
    readonly: bool = False,
) -> Callable[[Body], Body]:
    """Decorator: the function is an assertion; its own name becomes part of the id."""

    def decorate(body: Body) -> Body:
        slug = body.__name__.strip("_").replace("_", "-")
        register(
            Assertion(
                id=f"{area}.{slug}",
                area=area,
                name=name,
                body=body,
                needs=frozenset(needs.split()),
                lacks=frozenset(lacks.split()),
                size=size,
                files=files,
                given=given,
                readonly=readonly,
                wants_limits=len(inspect.signature(body).parameters) > 1,
            )
        )
        return body

    return decorate


# What an assertion says.  ----------------------------------------------------------------------


def refused(code: int, call: Callable[..., object], *args: object) -> None:
    """Sleeps.  The call must fail with this errno."""
    try:
        call(*args)
    except OSError as error:
        if error.errno != code:
            raise Nonconforming(errno_name(code), errno_name(error.errno or 0)) from None
        return
    raise Nonconforming(errno_name(code), "success")


def same(got: object, expected: object, what: str = "") -> None:
    """Never sleeps.  Both must be equal."""
    if got != expected:
        raise Nonconforming(_text(expected), _text(got), what)


def true(holds: bool, expected: str, got: object, what: str = "") -> None:
    """Never sleeps.  A relation must hold; ``expected`` says which."""
    if not holds:
        raise Nonconforming(expected, _text(got), what)


def _text(value: object) -> str:
    """A value, with long data cut to where somebody can still read it."""
    if isinstance(value, bytes) and len(value) > 64:
        return f"{len(value)} bytes {value[:24]!r}..."
    return repr(value)


def same_data(got: bytes, expected: bytes, what: str = "data") -> None:
    """Never sleeps.  Both must be equal; the failure names the first byte that differs."""
    if got == expected:
        return
    if len(got) != len(expected):
        raise Nonconforming(f"{len(expected)} bytes", f"{len(got)} bytes", what)
    first = next(i for i, pair in enumerate(zip(got, expected, strict=True)) if pair[0] != pair[1])
    raise Nonconforming(
        f"{expected[first]:#04x} at byte {first}", f"{got[first]:#04x} at byte {first}", what
    )


# What an assertion does all the time.  ---------------------------------------------------------


def touch(sys: SystemCalls, path: str, mode: int = 0o644) -> None:
    """Sleeps.  Make a new empty file."""
    sys.close(sys.open(path, NEW, mode))


def put(sys: SystemCalls, path: str, data: bytes) -> None:
    """Sleeps.  Make a new file with this content."""
    fd = sys.open(path, NEW, 0o644)
    same(sys.write(fd, data), len(data), "bytes written")
    sys.close(fd)


def take(sys: SystemCalls, path: str) -> bytes:
    """Sleeps.  The content of a file, by name."""
    fd = sys.open(path, os.O_RDONLY)
    data = drain(sys, fd)
    sys.close(fd)
    return data


def drain(sys: SystemCalls, fd: int) -> bytes:
    """Sleeps.  Everything from the file position to the end."""
    parts = []
    while part := sys.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def names(sys: SystemCalls, path: str = "/") -> list[str]:
    """Sleeps.  The names in a directory, sorted, without those mkfs makes (``lost+found``)."""
    return sorted(name for name in sys.listdir(path) if name != "lost+found")


def exists(sys: SystemCalls, path: str) -> bool:
    """Sleeps.  Whether the name is there; links are not followed."""
    try:
        sys.lstat(path)
    except FileNotFoundError:
        return False
    return True


def pattern(length: int, seed: int = 0) -> bytes:
    """Never sleeps.  Bytes that differ from page to page and from seed to seed."""
    return bytes((i * 7 + i // 251 + i // 4096 + seed * 31) & 0xFF for i in range(length))


def become(sys: SystemCalls, uid: int, gid: int, groups: tuple[int, ...] = ()) -> None:
    """Sleeps.  Go on as that user, as a login would."""
    sys.setgroups(groups)
    sys.setgid(gid)
    sys.setuid(uid)


def snapshot(sys: SystemCalls, path: str = "/") -> list[tuple[object, ...]]:
    """Sleeps.  The whole tree with type, inode, links and size, for "nothing has changed".

    A directory is looked into before it is looked at: going in may mount what belongs there, and
    that shall not be taken for a change the next time.
    """
    rows: list[tuple[object, ...]] = []
    for name in sorted(sys.listdir(path)):
        full = path.rstrip("/") + "/" + name
        found, below = sys.lstat(full), []
        if stat.S_ISDIR(found.st_mode):
            below = snapshot(sys, full)
            found = sys.lstat(full)
        kind = stat.S_IFMT(found.st_mode)
        size = 0 if stat.S_ISDIR(kind) else found.st_size
        rows += [(full, oct(kind), found.st_ino, found.st_nlink, size), *below]
    return rows
