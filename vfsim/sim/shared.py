"""Declared shared fields: each read and write is a scheduling point.

Plain attribute access is invisible to the scheduler.  A field that several tasks use is declared
so::

    @kernel_struct
    class ToyInfo:
        lock: Mutex
        free: Annotated[int, shared]

and from then on ``info.free -= 1`` is a read, a chance for others to run, and a write: what it is
on a real machine. Under the declaration the class is ``attrs.define(slots=True, eq=False)``.  The
slot itself stays, under the name ``raw_<field>``, for code that must not be a point.  Only
rebinding is seen: changing a list in place is not.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from vfsim.sim.state import K

if TYPE_CHECKING:
    pass

C = TypeVar("C", bound=type)


class _Shared:
    def __repr__(self) -> str:
        return "shared"


shared = _Shared()
"""The mark in ``Annotated[int, shared]``."""


class Field:
    """What a point on a shared field names: the object and the field."""

    __slots__ = ("name", "of")

    def __init__(self, of: Any, name: str) -> None:
        self.of = of
        self.name = name

    def describe(self, trace: Any) -> str:
        return f"{trace.label(self.of)}.{self.name}"

    def conflicts(self, other: Any) -> bool:
        return isinstance(other, Field) and other.of is self.of and other.name == self.name

    def __repr__(self) -> str:
        return f"{type(self.of).__name__}.{self.name}"


_SOURCE = """
def get(o):
    K.left -= 1
    if not K.left:
        K.machine.point("read", Field(o, {name!r}))
    return o.raw_{name}
def set(o, value):
    K.left -= 1
    if not K.left:
        K.machine.point("write", Field(o, {name!r}))
    o.raw_{name} = value
"""


def share(cls: type, name: str) -> None:
    """Turn the slot ``name`` of a class into points; the slot stays as ``raw_<name>``."""
    slot = cls.__dict__[name]
    space: dict[str, Any] = {"__name__": __name__, "K": K, "Field": Field}
    exec(compile(_SOURCE.format(name=name), f"<shared {cls.__name__}.{name}>", "exec"), space)
    setattr(cls, f"raw_{name}", slot)
    setattr(
        cls,
        name,
        property(
            space["get"], space["set"], doc=f"Shared: each access is a scheduling point ({name})."
        ),
    )


def _is_shared(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(a is shared for a in get_args(hint)[1:])


@dataclass_transform(field_specifiers=(attrs.field,))
def kernel_struct(cls: C) -> C:
    """A kernel structure: slots, identity comparison, and shared fields as points."""
    made: Any = attrs.define(slots=True, eq=False)(cls)
    try:
        hints: dict[str, Any] = get_type_hints(made, include_extras=True)
        names = [n for n in made.__annotations__ if _is_shared(hints.get(n))]
    except NameError:  # annotations that only the type checker resolves: read the text
        names = [n for n, a in made.__annotations__.items() if _text_is_shared(a)]
    for name in names:
        share(made, name)
    inherited = [f.name for f in attrs.fields(made) if hasattr(made, f"raw_{f.name}")]
    _construct_raw(made, inherited)
    return made  # type: ignore[no-any-return]


def _construct_raw(cls: Any, names: list[str]) -> None:
    """Let the generated ``__init__`` store into the slots: a new object is not shared yet."""
    init = cls.__dict__.get("__init__")
    if names and init is not None:
        code = init.__code__
        renamed = tuple(f"raw_{n}" if n in names else n for n in code.co_names)
        init.__code__ = code.replace(co_names=renamed)


def _text_is_shared(annotation: Any) -> bool:
    text = str(annotation).replace(" ", "")
    return text.startswith(("Annotated[", "typing.Annotated[")) and text.endswith(",shared]")


__all__ = ["Annotated", "Field", "kernel_struct", "share", "shared"]
