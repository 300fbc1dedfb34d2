"""The audit: shared state that a filesystem touches without declaring it.

Plain attributes are invisible to the scheduler and to the search for races. The audit makes the
objects of a filesystem visible for a while, slowly, and looks for races on what is not declared:

* the attributes of objects whose class the filesystem defines (declared fields, locks and what is
  only read are left alone),
* the dicts, lists and sets in them, and those that hang on given slots of the kernel's objects
  (``i_private``, ``s_fs_info``): changing one is a write, looking into it a read.

Two accesses are a finding under the same conditions as for a declared field (see
`vfsim.checks.races`). The rule is ``undeclared.CLASS.ATTRIBUTE``.

`Audit` is an access like `RACES`: it puts ``__getattribute__`` and ``__setattr__`` on the classes,
and a property on the slots, and takes them off when another machine runs. A container is handed out
as a `Seen` one, which passes everything on to the real one; so whoever kept the real one under
another name is not seen. Not seen either: globals of a module, what a closure holds, bytearrays and
objects of other libraries, and attributes that the filesystem's own ``__getattr__`` makes up.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.races import WRITE, Races, Watched
from vfsim.sim.errors import Violation
from vfsim.sim.shared import Declared, ordered
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfsim.checks.races import Look

_CHANGES = frozenset(
    {
        "append", "appendleft", "extend", "extendleft", "insert", "remove", "pop", "popleft",
        "popitem", "clear", "sort", "reverse", "rotate", "update", "setdefault", "move_to_end",
        "add", "discard", "difference_update", "intersection_update",
        "symmetric_difference_update",
    }
)  # fmt: skip
"""Methods that change a container; all others look into it."""
_OPERATORS = {
    "__setitem__": True, "__delitem__": True, "__ior__": True, "__iadd__": True, "__iand__": True,
    "__isub__": True, "__ixor__": True,
    **dict.fromkeys(
        (
            "__getitem__", "__len__", "__iter__", "__contains__", "__bool__", "__eq__",
            "__reversed__", "__or__", "__ror__", "__and__", "__sub__", "__xor__", "__add__",
            "__lt__", "__le__", "__gt__", "__ge__", "__repr__",
        ),
        False,
    ),
}  # fmt: skip
"""Operators of containers, and whether they change one."""


class Undeclared(Watched):
    """What is known of one attribute, or of the containers in it."""

    def __init__(self, cls: type, name: str, contents: bool) -> None:
        super().__init__(Declared(cls, name, ordered, None), ordered)
        self.contents = contents

    def _value(self, obj: Any) -> Any:
        """Nothing that a read window could have handed out: such objects are declared."""
        return None

    def _kind(self, obj: Any, value: Any) -> int:
        return WRITE

    def _note(self, obj: Any, kind: str) -> None:
        """Nothing: a trace with it would not be the trace of the run without an audit."""

    def _race(self, obj: Any, before: Look, now: Look) -> Violation:
        found = super()._race(obj, before, now)
        field = self.field
        title = f"{field.cls.__name__}.{field.name}"
        what = f"what is in {title}" if self.contents else title
        todo = (
            "hold one lock wherever it is looked into or changed"
            if self.contents
            else f"declare it in a @kernel_struct, `{field.name}: Annotated[..., shared]`, or say "
            f'what guards it, `Annotated[..., guarded_by("lock")]`, and take that'
        )
        return attrs.evolve(
            found,
            rule=f"undeclared.{title}",
            summary=f"{now.task.name} and {before.task.name} share {what}, which nothing declares: "
            f"a {now.verb} and a {before.verb} that nothing orders",
            details=(*found.details[:-1], f"{title}: {todo}"),
        )


class Key:
    """Stands for an object that may not be hashable."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any) -> None:
        self.obj = obj


class Seen:
    """A container that tells who looks into it and who changes it."""

    __slots__ = ("_audit", "_key", "_real", "_watched")

    def __init__(self, audit: Audit, real: Any, key: Key, watched: Undeclared) -> None:
        self._audit = audit
        self._real = real
        self._key = key
        self._watched = watched

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(*args: Any, **how: Any) -> Any:
            if name in _CHANGES:
                self._watched.write(self._key, None)
            else:
                self._watched.read(self._key)
            return self._audit.shown(method(*map(real, args), **how), self._watched)

        return call

    __hash__ = None  # type: ignore[assignment]


def _forwarded(name: str, changes: bool) -> Callable[..., Any]:
    def method(self: Seen, *args: Any) -> Any:
        if changes:
            self._watched.write(self._key, None)
        else:
            self._watched.read(self._key)
        if name == "__bool__":
            return len(self._real) > 0
        result = getattr(self._real, name)(*map(real, args))
        return self if result is self._real else self._audit.shown(result, self._watched)

    return method


for _name, _changes in _OPERATORS.items():
    setattr(Seen, _name, _forwarded(_name, _changes))

_CONTAINERS = (dict, list, set, deque, OrderedDict, defaultdict)


def real(value: Any) -> Any:
    """Never sleeps.  The container itself, of one that was handed out."""
    return value._real if type(value) is Seen else value


class Audit(Races):
    """Races, and beside them what is not declared.

    Args:
        classes: those of the filesystem.
        slots: (class, slot) of the kernel's that hold what belongs to the filesystem.
    """

    always = True

    def __init__(self, classes: Iterable[type], slots: Iterable[tuple[type, str]]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.slots = list(slots)
        self._undo: list[tuple[type, str, Any]] = []
        self._noticed: dict[tuple[type, str, bool], Undeclared] = {}
        self._keys: dict[int, Key] = {}

    def begin(self, machine: Any) -> None:
        """A machine begins to run."""
        super().begin(machine)
        self._keys.clear()

    def install(self) -> None:
        """Put it on every class."""
        super().install()
        for cls in self.classes:
            self._put(cls, "__getattribute__", self._getter(cls))
            self._put(cls, "__setattr__", self._setter(cls))
        for cls, name in self.slots:
            self._put(cls, name, self._slot(cls, name, vars(cls)[name]))

    def remove(self) -> None:
        """Another one comes."""
        for cls, name, was in reversed(self._undo):
            if was is None:
                delattr(cls, name)
            else:
                setattr(cls, name, was)
        self._undo.clear()
        super().remove()

    def _put(self, cls: type, name: str, new: Any) -> None:
        self._undo.append((cls, name, vars(cls).get(name)))
        setattr(cls, name, new)

    def undeclared(self, cls: type, name: str, contents: bool) -> Undeclared:
        """Never sleeps.  What is known of an attribute (or of what is in it)."""
        found = self._noticed.get((cls, name, contents))
        if found is None:
            found = self._noticed[cls, name, contents] = Undeclared(cls, name, contents)
        return found

    def key(self, obj: Any) -> Key:
        """Never sleeps.  What stands for an object; it lives as long as the run."""
        found = self._keys.get(id(obj))
        if found is None:
            found = self._keys[id(obj)] = Key(obj)
        return found

    def shown(self, value: Any, of: Undeclared) -> Any:
        """Never sleeps.  A value as the filesystem gets to see it."""
        if type(value) not in _CONTAINERS or K.cur.epoch is None:
            return value
        inside = self.undeclared(of.field.cls, of.field.name, True)
        return Seen(self, value, self.key(value), inside)

    def _getter(self, cls: type) -> Any:
        original: Any = cls.__getattribute__

        def get(obj: Any, name: str) -> Any:
            value = original(obj, name)
            if name[:2] == "__" or K.cur.epoch is None or not _is_own(obj, name):
                return value
            if hasattr(value, "is_locked"):
                return value
            noticed = self.undeclared(cls, name, False)
            noticed.read(self.key(obj))
            return self.shown(value, noticed)

        return get

    def _setter(self, cls: type) -> Any:
        original: Any = cls.__setattr__

        def put(obj: Any, name: str, value: Any) -> None:
            if K.cur.epoch is not None and _is_own(obj, name):
                self.undeclared(cls, name, False).write(self.key(obj), value)
            original(obj, name, real(value))

        return put

    def _slot(self, cls: type, name: str, slot: Any) -> property:
        noticed = self.undeclared(cls, name, False)

        def get(obj: Any) -> Any:
            return self.shown(slot.__get__(obj, type(obj)), noticed)

        def put(obj: Any, value: Any) -> None:
            slot.__set__(obj, real(value))

        return property(get, put)


def _is_own(obj: Any, name: str) -> bool:
    """Whether an attribute is there, and the object's own: no method, no declared field."""
    if name.startswith("raw_"):
        return False
    own = getattr(type(obj), name, None)
    if own is None:
        return hasattr(type(obj), "__dict__") and name != "__class__"
    return type(own).__name__ == "member_descriptor"
