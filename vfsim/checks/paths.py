"""Lock paths against classes: whether ``dentry.d_parent.d_lock`` leads anywhere.

A path is followed through the annotations of the classes on the way, as far as they lead.  Where a
class is known and has no such field, the path is misspelt; where it is not known yet (pages name
most classes for the type checker only), nothing can be said.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vfsim.checks.rules import Clause
    from vfsim.checks.site import Method


def follow(title: str, method: Method, clause: Clause, classes: Mapping[str, type]) -> str:
    """Follow one path; returns where the annotations ended, "" if they led to its end."""
    path = clause.path
    if path is None or path.root in ("@", "any"):
        return ""
    cls = _resolve(method.fn.__annotations__.get(path.root), method.fn.__globals__, classes)
    at = path.root
    for step in path.steps:
        if step.isdigit() or cls is None:
            return at
        if not hasattr(cls, step) and not _has_annotation(cls, step):
            if hasattr(cls, "__dict__") and _is_open(cls):
                return at
            close = difflib.get_close_matches(step, dir(cls), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{title}: {path.text!r}: a {cls.__name__} has no {step!r}{hint}")
        at = f"{at}.{step}"
        cls = _field_type(cls, step, classes)
    return ""


def _is_open(cls: type) -> bool:
    """Whether objects of a class may have fields that the class does not show."""
    return any("__slots__" not in vars(k) for k in cls.__mro__[:-1])


def _has_annotation(cls: type, name: str) -> bool:
    return any(name in vars(k).get("__annotations__", {}) for k in cls.__mro__)


def _field_type(cls: type, name: str, classes: Mapping[str, type]) -> type | None:
    for k in cls.__mro__:
        note = vars(k).get("__annotations__", {}).get(name)
        if note is not None:
            return _resolve(note, vars(sys.modules[k.__module__]), classes)
        value = vars(k).get(name)
        if isinstance(value, property) and value.fget is not None:
            return _resolve(
                value.fget.__annotations__.get("return"), value.fget.__globals__, classes
            )
    return None


def _resolve(note: Any, names: Mapping[str, Any], classes: Mapping[str, type]) -> type | None:
    """The class that an annotation names, or None."""
    if isinstance(note, str):
        text = note.removeprefix("Annotated[").split(",")[0].split("|")[0].strip()
        note = names.get(text) or classes.get(text)
    return note if isinstance(note, type) else None
