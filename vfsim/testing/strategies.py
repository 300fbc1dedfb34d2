"""Hypothesis strategies for what one says to a filesystem: paths, modes, flags, data, calls.

Each is a function that makes a strategy, usable alone::

    from hypothesis import given
    from vfsim.testing import strategies as vst

    @given(path=vst.paths(), flags=vst.open_flags(), data=vst.data())
    def test_what_is_written_is_read(path, flags, data): ...

Everything shrinks towards the plain: ``/a``, ``O_RDONLY``, 0o644, no bytes, root.  The pools are
small on purpose: bugs live where two calls meet, and two calls meet only if there are few names.
Edge cases (the empty path, ``..``, a slash at the end, a name of 255 bytes or of 256) come last in
each pool, so that a failing example has them only if it needs them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from vfsim.testing.model import Call

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hypothesis.strategies import SearchStrategy

NAMES = ("a", "b", "d")
"""The names that paths are made of, unless one says otherwise."""

EDGE_NAMES = ("é", " ", "-", "...", "a b", "n" * 255, "n" * 256)
"""Names that are right but rare, and one that is too long."""

USERS = (0, 1000, 1001)
"""Root and two others."""

_PAGE = 4096
_ACCESS = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY)
_MODES = (0o644, 0o755, 0o777, 0o700, 0o600, 0o444, 0o111, 0, 0o1777, 0o4755)
_SIZES = (0, 1, 3, 10, _PAGE - 1, _PAGE, _PAGE + 1, 3 * _PAGE)


def names(pool: Sequence[str] = NAMES, edges: bool = True) -> SearchStrategy[str]:
    """One component of a path."""
    plain = st.sampled_from(pool)
    return st.one_of(plain, plain, plain, st.sampled_from(EDGE_NAMES)) if edges else plain


def paths(pool: Sequence[str] = NAMES, depth: int = 2, edges: bool = True) -> SearchStrategy[str]:
    """A path of at most ``depth`` components.

    Args:
        pool: names to make it of.
        depth: how deep it goes; 1 for filesystems without directories below the root.
        edges: also what is rare: relative, empty, with dots, doubled slashes, a slash at the end.
    """
    plain = st.lists(st.sampled_from(pool), min_size=1, max_size=depth).map(
        lambda parts: "/" + "/".join(parts)
    )
    if not edges:
        return plain
    rare = st.sampled_from(("", "/", ".", "..", pool[0], "/" + pool[0] + "/.."))
    part = names(pool) | st.sampled_from((".", ".."))
    odd = st.tuples(
        st.sampled_from(("/", "", "//")),
        st.lists(part, min_size=1, max_size=depth).map("/".join),
        st.sampled_from(("", "/")),
    ).map("".join)
    return st.one_of(plain, plain, plain, plain, plain, plain, odd, rare)


def modes() -> SearchStrategy[int]:
    """Permission bits: the usual ones, the sticky and the set-user-ID bit."""
    return st.sampled_from(_MODES)


def umasks() -> SearchStrategy[int]:
    """What creation leaves out."""
    return st.sampled_from((0o022, 0, 0o077, 0o777))


def open_flags(write: bool = True) -> SearchStrategy[int]:
    """What open(2) takes: an access mode, and some of O_CREAT, O_EXCL, O_TRUNC, O_APPEND ...

    ``write``: False for readers.
    """
    if not write:
        return st.sampled_from((os.O_RDONLY, os.O_RDONLY | os.O_NOFOLLOW))
    making = st.sampled_from(
        (
            os.O_CREAT, 0, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_TRUNC, os.O_APPEND,
            os.O_CREAT | os.O_APPEND, os.O_NOFOLLOW,
        )
    )  # fmt: skip
    plain = st.tuples(st.sampled_from(_ACCESS), making).map(lambda pair: pair[0] | pair[1])
    return plain | st.just(os.O_RDONLY | os.O_DIRECTORY)


def rename_flags(exchange: bool = True) -> SearchStrategy[int]:
    """Nothing, RENAME_NOREPLACE, RENAME_EXCHANGE."""
    return st.sampled_from((0, 1, 2) if exchange else (0, 1))


def whence() -> SearchStrategy[int]:
    """SEEK_SET, SEEK_CUR, SEEK_END, and one that does not exist."""
    return st.sampled_from((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 9))


def sizes(most: int = 3 * _PAGE) -> SearchStrategy[int]:
    """Lengths: few bytes, and around the size of a page."""
    return st.sampled_from([size for size in _SIZES if size <= most])


def offsets(most: int = 2 * _PAGE) -> SearchStrategy[int]:
    """Positions in files; a negative one is wrong."""
    return st.sampled_from([*(size for size in _SIZES if size <= most), -1])


def data(most: int = 2 * _PAGE) -> SearchStrategy[bytes]:
    """Bytes to write: one letter, so many times.  Letters tell writers apart."""
    return st.tuples(st.sampled_from("xyz"), sizes(most)).map(lambda d: d[0].encode() * d[1])


def descriptors() -> SearchStrategy[int]:
    """Descriptors: the lowest few, and one that was never opened."""
    return st.sampled_from((0, 1, 2, 99))


def users() -> SearchStrategy[int]:
    """A user or group id."""
    return st.sampled_from(USERS)


def owners() -> SearchStrategy[int]:
    """What chown(2) takes: an id, or -1 for "leave it"."""
    return st.sampled_from((*USERS, -1))


def credentials() -> SearchStrategy[dict[str, int]]:
    """Who a process is, as `vfsim.Kernel.process` takes it: uid, gid, umask."""
    return st.fixed_dictionaries({"uid": users(), "gid": users(), "umask": umasks()})


def _of(name: str, *args: SearchStrategy[Any]) -> SearchStrategy[Call]:
    return st.builds(Call, st.just(name), st.tuples(*args))


def calls(
    has: Collection[str] | None = None,
    pool: Sequence[str] = NAMES,
    depth: int = 2,
    edges: bool = True,
    most: int = 2 * _PAGE,
    exchange: bool = True,
) -> SearchStrategy[Call]:
    """A system call, as `vfsim.testing.model` knows them.

    Args:
        has: words of the filesystem's `Capabilities`; without it, everything.
        pool, depth, edges: of the paths.
        most: bytes written at once.
        exchange: whether RENAME_EXCHANGE is worth asking for.
    """
    some = call_strategies(pool, depth, edges, most, exchange)
    return st.one_of(
        [call for needs, call in some.values() if has is None or set(needs.split()) <= set(has)]
    )


def call_strategies(
    pool: Sequence[str] = NAMES,
    depth: int = 2,
    edges: bool = True,
    most: int = 2 * _PAGE,
    exchange: bool = True,
) -> dict[str, tuple[str, SearchStrategy[Call]]]:
    """Each kind of call by its name: what it needs of the filesystem, and its strategy."""
    path, fd = paths(pool, depth, edges), descriptors()
    target = paths(pool, depth, False) | st.sampled_from((pool[0], "..", "/"))
    return {
        "stat": ("", _of("stat", path)),
        "lstat": ("", _of("lstat", path)),
        "open": ("create", _of("open", path, open_flags(), modes())),
        "close": ("create", _of("close", fd)),
        "dup": ("create", _of("dup", fd)),
        "read": ("read", _of("read", fd, sizes())),
        "pread": ("read", _of("pread", fd, sizes(), offsets())),
        "write": ("create write", _of("write", fd, data(most))),
        "pwrite": ("create write", _of("pwrite", fd, data(most), offsets())),
        "lseek": ("llseek", _of("lseek", fd, offsets(), whence())),
        "truncate": ("create write", _of("truncate", path, offsets())),
        "ftruncate": ("create write", _of("ftruncate", fd, offsets())),
        "fsync": ("create", _of("fsync", fd)),
        "sync": ("", _of("sync")),
        "fstat": ("", _of("fstat", fd)),
        "mkdir": ("mkdir", _of("mkdir", path, modes())),
        "rmdir": ("rmdir", _of("rmdir", path)),
        "unlink": ("unlink", _of("unlink", path)),
        "rename": ("rename", _of("rename", path, path)),
        "renameat2": ("rename", _of("renameat2", path, path, rename_flags(exchange))),
        "link": ("link", _of("link", path, path)),
        "symlink": ("symlink", _of("symlink", target, path)),
        "readlink": ("symlink", _of("readlink", path)),
        "listdir": ("iterate", _of("listdir", path)),
        "chdir": ("", _of("chdir", path)),
        "chmod": ("", _of("chmod", path, modes())),
        "fchmod": ("", _of("fchmod", fd, modes())),
        "chown": ("owners", _of("chown", path, owners(), owners())),
        "lchown": ("owners", _of("lchown", path, owners(), owners())),
        "umask": ("", _of("umask", umasks())),
        "setuid": ("owners", _of("setuid", users())),
        "setgid": ("owners", _of("setgid", users())),
    }
