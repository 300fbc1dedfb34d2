"""What a token was made with: digests of the target's sources and of vfsim's own.

A token replays exactly only while both are what they were.  The target's sources are its file and
whatever that imports that belongs neither to Python, nor to an installed package, nor to vfsim.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGITS = 12
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@cache
def engine() -> str:
    """The digest of vfsim's sources."""
    files = []
    for folder, _, names in os.walk(_HERE):
        files += [os.path.join(folder, n) for n in names if n.endswith(".py")]
    return _digest(files, _HERE)


def sources(target: str) -> str:
    """The digest of the sources of a target that is loaded, or "" if it cannot be told."""
    place = target.partition(":")[0]
    path = os.path.abspath(place) if place.endswith(".py") else ""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and (os.path.abspath(file) == path if path else module.__name__ == place):
            return of_module(module)
    return ""


def of_module(module: ModuleType) -> str:
    """The digest of a module's sources and of those it uses."""
    found: dict[str, None] = {}
    _collect(module, found)
    return _digest(found, "")


def _collect(module: ModuleType, found: dict[str, None]) -> None:
    path = getattr(module, "__file__", None)
    if not path or not path.endswith(".py") or path in found or foreign(os.path.abspath(path)):
        return
    found[path] = None
    for value in list(vars(module).values()):
        used = value if isinstance(value, ModuleType) else sys.modules.get(_home(value))
        if used is not None:
            _collect(used, found)


def _home(value: object) -> str:
    try:
        name = getattr(value, "__module__", "")
    except Exception:  # whatever an author's object does when asked
        return ""
    return name if isinstance(name, str) else ""


@cache
def _roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    named = (paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple(dict.fromkeys(os.path.abspath(p) + os.sep for p in (*named, _HERE)))


def foreign(path: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to vfsim."""
    return path.startswith(_roots())


def _digest(files: Iterable[str], root: str) -> str:
    """Of names and contents, in an order that does not depend on where they lie."""
    h = hashlib.sha256()
    for name, path in sorted(
        (os.path.relpath(f, root) if root else os.path.basename(f), f) for f in files
    ):
        h.update(name.encode() + b"\0")
        with open(path, "rb") as file:
            h.update(hashlib.sha256(file.read()).digest())
    return h.hexdigest()[:_DIGITS]
