"""Whether a function can be a method of a table: the kernel must be able to call what was written.

Everything is refused when the class is made, in a sentence that says what to write instead.
"""

from __future__ import annotations

import difflib
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from vfsim.checks.wrapper import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vfsim.checks.site import Method


def plain(title: str, fn: Any) -> None:
    """Only plain functions can be checked."""
    if isinstance(fn, (staticmethod, classmethod)):
        raise TypeError(
            f"{title} is a {type(fn).__name__}; a method of a table is a plain method with self"
        )
    if not isinstance(fn, FunctionType):
        raise TypeError(
            f"{title} is {fn!r}; a method of a table is a plain function written with def"
        )
    inner = inspect.unwrap(fn)
    if inspect.isgeneratorfunction(inner):
        raise TypeError(f"{title} is a generator (it has a yield): calling it would do nothing")
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{title} is async: calling it would do nothing; write a plain def, it may simply sleep"
        )


def parameters(title: str, fn: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters, without self."""
    found = list(inspect.signature(fn).parameters.values())
    if not found or found[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise TypeError(f"{title} needs self as its first parameter")
    for p in found[1:]:
        if (
            p.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD
            or p.default is not inspect.Parameter.empty
        ):
            raise TypeError(
                f"{title}: the parameters of a table's method are plain names, {p} is not"
            )
        if p.name in RESERVED:
            raise TypeError(
                f"{title}: the name {p.name!r} is used by the contract itself; choose another"
            )
    return tuple(p.name for p in found[1:])


def same_parameters(title: str, fn: Callable[..., Any], method: Method) -> None:
    """An override has the table's parameters: same names, same order; more only with defaults."""
    found = list(inspect.signature(fn).parameters.values())
    if [p.kind for p in found[-2:]] == [
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    ]:
        found = found[
            :-2
        ]  # a decorator's (*args, **kwargs): whatever it wraps gets what the table passes
        if len(found) <= 1:
            return
    names = [p.name for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    extra = names[len(method.params) + 1 :]
    required = [p.name for p in found if p.default is inspect.Parameter.empty and p.name in extra]
    required += [p.name for p in found if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if tuple(names[1 : len(method.params) + 1]) != method.params or required or not names:
        raise TypeError(
            f"{title}({', '.join(names)}): the parameters of {method.id} are "
            f"(self, {', '.join(method.params)}); "
            f"keep their names and order ({method.declared_at})"
        )


def near_miss(cls: type, name: str, methods: Mapping[str, Method]) -> None:
    """Refuse a function that looks like a misspelt method: nobody would ever call it."""
    if name.startswith("_") or not methods or name in methods:
        return
    if any(hasattr(base, name) for base in cls.__mro__ if "table" in vars(base)):
        return
    flat = name.lower().replace("_", "")
    close = [m for m in methods if m.replace("_", "") == flat or sorted(m) == sorted(name)]
    close = close or difflib.get_close_matches(name, list(methods), 1, 0.9)
    if not close and not any(f"_{m}_" in f"_{name}_" for m in methods):  # do_create() is a helper
        close = difflib.get_close_matches(name, list(methods), 1, 0.8)
    if close:
        raise TypeError(
            f"{cls.__name__}.{name}() is no method of {methods[close[0]].table}; "
            f"did you mean {close[0]}()?  "
            "(A helper's name may begin with an underscore.)"
        )
