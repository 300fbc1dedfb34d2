"""Declared fields: what several tasks use, and what protects it.

Plain attribute access is invisible to the scheduler and to the checks.  A field that several tasks
use is declared so::

    @kernel_struct
    class ToyInfo:
        lock: Mutex
        free: Annotated[int, guarded_by("lock")]    # used with the lock held: races are found
        hits: Annotated[int, shared]                # used without one: each access is atomic

Under the declaration the class is ``attrs.define(slots=True, eq=False)``.  What it means:

==================  ===============================  ============================================
declared            is a scheduling point            may race
==================  ===============================  ============================================
``shared``          each access                      no: each access counts as marked
``guarded_by(..)``  if ``rcu`` or ``seq`` readers    yes: two accesses that nothing orders, one of
                    come without the lock            which writes and one of which is plain
``ordered``         no                               yes, as above; no lock is promised
``shared`` and      each access                      as the other one says
one of these
==================  ===============================  ============================================

A field that is always used under its lock needs no points: tasks cannot interleave there, and if
they can, that is a race, which is found wherever it was not ordered.  One that is used without a
lock is a point in every machine, also where nobody asks who runs next: points are what is counted
to end a loop that looks at it for ever.

The slot itself stays, under the name ``raw_<field>``, for code that must be neither a point nor an
access.  Only rebinding is seen: changing a list in place is not.

How a declared field is accessed is a matter of the machine that runs (`Access`).  `POINTS` puts a
property in the place of a slot that is a point and leaves the others what they are;
`vfsim.checks.races` has another one, in which each access is looked at.  They are put on the
classes in place, when a machine runs that wants another one than the machine before.

`READ_ONCE` and its siblings are *marked* accesses: atomic, each a point.  Two marked accesses never
race.  `smp_store_release`, `smp_load_acquire`, `rcu_assign_pointer` and `rcu_dereference` also
order: who reads what was stored sees all that came before the store.
"""

from __future__ import annotations

import builtins
import inspect
import linecache
import sys
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import attrs

from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.sim.machine import Machine

C = TypeVar("C", bound=type)
F = TypeVar("F", bound="Callable[..., Any]")


# -- declarations ----------------------------------------------------------------------------------


class _Shared:
    def __repr__(self) -> str:
        return "shared"


shared = _Shared()
"""The mark in ``Annotated[int, shared]``: used without a lock, each access atomic and a point."""


@attrs.frozen
class Guard:
    """How a field is protected; made by `guarded_by`.

    Attributes:
        write: paths to the locks that are held, all of them, to write the field.
        read: paths to the locks of which one is held to read it.
        rcu, seq, lockless: who may read it without.
        unless: predicates of the object during which it needs no protection.
        publishes: whoever reads it finds an object that is finished.
        point: each access is a scheduling point.
    """

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    rcu: bool = False
    seq: str = ""
    lockless: bool = False
    unless: tuple[str, ...] = ()
    publishes: bool = False
    point: bool = False

    def __str__(self) -> str:
        if not self.write:
            return "ordered"
        words = [" and ".join(self.write)]
        if self.read != self.write or len(self.write) > 1:
            words = [f"written under {words[0]}", f"read under {' or '.join(self.read)}"]
        words += ["read in RCU sections"] * self.rcu
        words += [f"read in windows of {self.seq}"] if self.seq else []
        words += ["read without it"] * self.lockless
        words += [f"free while {name}" for name in self.unless]
        return ", ".join(words)


def guarded_by(
    *paths: str,
    read: tuple[str, ...] = (),
    rcu: bool = False,
    seq: str = "",
    lockless: bool = False,
    unless: tuple[str, ...] = (),
    publishes: bool = False,
) -> Guard:
    """What protects a field: ``Annotated[int, guarded_by("i_lock")]``.

    Args:
        paths: locks, each a path from the object (``"d_lockref.lock"``, ``"i_sb.s_umount"``) or a
            global one (``"@rename_lock"``).  All are held to write the field, any one to read it.
        read: further locks of which one is enough to read it.
        rcu: it is also read inside `rcu_read_lock`.
        seq: path to a sequence counter inside whose windows it is also read, and inside whose write
            sections it is written.
        lockless: it is also read with nothing held, by who can live with a stale value.
        unless: names of properties or methods of the object that say when it needs no protection:
            while nobody else can see it (unpublished), when nobody else can any more (dying).
        publishes: it is a pointer, stored with release order, and whoever reads it goes on from
            there: all that was done before the store comes before what the reader does next.

    Raises:
        TypeError: a path or a name is no string, or there is no path.
    """
    if not paths:
        raise TypeError("guarded_by() takes the path to a lock: guarded_by('i_lock')")
    for text in (*paths, *read, *((seq,) if seq else ()), *unless):
        words = text[text.startswith("@") :].split(".") if isinstance(text, str) else [""]
        if not all(word.isidentifier() for word in words):
            raise TypeError(
                f"{text!r} is no path from an object to its lock: write 'i_lock', 'd_parent.d_lock'"
                " or '@rename_lock'"
            )
    return Guard(paths, (*paths, *read), rcu, seq, lockless, unless, publishes, rcu or bool(seq))


ordered = Guard()
"""The mark of a field that has no lock: whoever uses it must be ordered in another way."""


@attrs.define(eq=False)
class Declared:
    """A declared field of a class.

    Attributes:
        guard: what protects it; None if it is `shared`.
        slot: the descriptor of the slot.
    """

    cls: type
    name: str
    guard: Guard | None
    slot: Any

    @property
    def is_point(self) -> bool:
        return self.guard is None or self.guard.point

    @property
    def said(self) -> str:
        """The declaration in words."""
        return "shared" if self.guard is None else str(self.guard)


DECLARED: list[Declared] = []
"""Every declared field there is, base classes first."""
STRUCTS: dict[type, None] = {}
"""Every class with such a field, its own or inherited."""


class Field:
    """What a point on a declared field names: the object and the field."""

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


# -- accesses --------------------------------------------------------------------------------------


class Access:
    """How declared fields are accessed while a machine runs; this one looks at none of it."""

    def __init__(self) -> None:
        self._made: dict[Declared, Any] = {}

    def install(self) -> None:
        """Put it on every class."""
        for field in DECLARED:
            setattr(field.cls, field.name, self.accessor(field))

    def remove(self) -> None:
        """Another one comes: give back what was changed beside the fields."""

    def accessor(self, field: Declared) -> Any:
        """What stands in the class under the field's name."""
        found = self._made.get(field)
        if found is None:
            found = self._made[field] = self._make(field)
        return found

    def _make(self, field: Declared) -> Any:
        return compiled(field, SOURCE, {}) if field.is_point else field.slot

    def begin(self, machine: Machine) -> None:
        """A machine that wants this access begins to run."""

    def marked(self, obj: Any, name: str, write: bool) -> None:
        """A marked access happens now."""

    def release(self, obj: Any, name: str) -> None:
        """A store that orders what came before it is about to happen."""

    def acquire(self, obj: Any, name: str) -> None:
        """A load that orders what comes after it has happened."""


POINT = """
    K.left -= 1
    if not K.left:
        K.machine.point({kind}, Field(o, {{name!r}}))"""
"""A scheduling point, in the source of an accessor."""

SOURCE = f"""
def get(o):{POINT.format(kind="'read'")}
    return o.raw_{{name}}
def set(o, value):{POINT.format(kind="'write'")}
    o.raw_{{name}} = value
"""


def compiled(field: Declared, source: str, space: dict[str, Any]) -> property:
    """The property of a field from a template that defines ``get`` and ``set``."""
    space = {"__name__": __name__, "K": K, "Field": Field, **space}
    filename = f"<{type(field).__name__.lower()} {field.cls.__name__}.{field.name}>"
    text = source.format(name=field.name)
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    exec(compile(text, filename, "exec"), space)
    return property(space["get"], space["set"], doc=f"{field.name}: {field.said}.")


POINTS = Access()
_installed: Access = POINTS


def installed() -> Access:
    """The access that is on the classes now."""
    return _installed


def install(access: Access) -> None:
    """Put an access on the classes, if another one is there."""
    global _installed
    if _installed is not access:
        _installed.remove()
        _installed = access
        access.install()


# -- marked accesses -------------------------------------------------------------------------------


def _point(kind: str, obj: Any, name: str) -> Any:
    K.left -= 1
    if not K.left:
        K.machine.point(kind, Field(obj, name))


def _raw(obj: Any, name: str) -> str:
    """The name of the slot behind a field."""
    kind = type(obj)
    found = _RAW.get((kind, name))
    if found is None:
        raw = f"raw_{name}"
        found = _RAW[kind, name] = raw if hasattr(kind, raw) else name
    return found


_RAW: dict[tuple[type, str], str] = {}


def READ_ONCE(obj: Any, name: str) -> Any:
    """Never sleeps.  A marked read of ``obj.name``."""
    _point("read", obj, name)
    _installed.marked(obj, name, False)
    return getattr(obj, _raw(obj, name))


def WRITE_ONCE(obj: Any, name: str, value: Any) -> None:
    """Never sleeps.  A marked write of ``obj.name``."""
    _point("write", obj, name)
    _installed.marked(obj, name, True)
    setattr(obj, _raw(obj, name), value)


def smp_store_release(obj: Any, name: str, value: Any) -> None:
    """Never sleeps.  A marked write after everything that the task did before."""
    _point("write", obj, name)
    _installed.marked(obj, name, True)
    _installed.release(obj, name)
    setattr(obj, _raw(obj, name), value)


def smp_load_acquire(obj: Any, name: str) -> Any:
    """Never sleeps.  A marked read before everything that the task does next."""
    _point("read", obj, name)
    _installed.marked(obj, name, False)
    _installed.acquire(obj, name)
    return getattr(obj, _raw(obj, name))


def xchg(obj: Any, name: str, value: Any) -> Any:
    """Never sleeps.  Put ``value`` into ``obj.name`` and return what was there, in one step.

    Orders in both directions.
    """
    _point("write", obj, name)
    raw = _both_ways(obj, name)
    old = getattr(obj, raw)
    setattr(obj, raw, value)
    return old


def cmpxchg(obj: Any, name: str, old: Any, new: Any) -> bool:
    """Never sleeps.  Put ``new`` into ``obj.name`` if ``old`` is there, in one step; returns
    whether it was.

    Orders in both directions.
    """
    _point("write", obj, name)
    raw = _both_ways(obj, name)
    if getattr(obj, raw) is not old:
        return False
    setattr(obj, raw, new)
    return True


def _both_ways(obj: Any, name: str) -> str:
    _installed.marked(obj, name, True)
    _installed.acquire(obj, name)
    _installed.release(obj, name)
    return _raw(obj, name)


rcu_assign_pointer = smp_store_release
rcu_dereference = smp_load_acquire


HELPERS: dict[str, None] = {}
"""The names of functions that access fields for whoever calls them."""


def accesses_for_its_caller(function: F) -> F:
    """Mark a helper (``i_size_write``): whoever calls it is the one who accesses the field."""
    HELPERS[function.__name__] = None
    return function


# -- classes ---------------------------------------------------------------------------------------


def share(cls: type, name: str, guard: Guard | None = None) -> None:
    """Declare the slot ``name`` of a class; the slot stays as ``raw_<name>``.

    Args:
        guard: what protects it; without one it is `shared`.

    Raises:
        TypeError: a guard's path names nothing, or no lock.
    """
    if guard is not None:
        _verify(cls, name, guard)
    slot = cls.__dict__[name]
    field = Declared(cls, name, guard, slot)
    DECLARED.append(field)
    STRUCTS[cls] = None
    setattr(cls, f"raw_{name}", slot)
    setattr(cls, name, _installed.accessor(field))
    _use_slots(cls, [name])


@dataclass_transform(field_specifiers=(attrs.field,))
def kernel_struct(cls: C) -> C:
    """A kernel structure: slots, identity comparison, and declared fields.

    Raises:
        TypeError: a guard's path names nothing, or no lock.
    """
    made: Any = attrs.define(slots=True, eq=False, repr=not _has_a_repr(cls))(cls)
    hints = {name: _resolved(made, text) for name, text in made.__annotations__.items()}
    for name, hint in hints.items():
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        guard = next((mark for mark in marks if isinstance(mark, Guard)), None)
        point = any(mark is shared for mark in marks)
        if guard is not None or point:
            share(made, name, attrs.evolve(guard, point=True) if guard and point else guard)
    if any(base in STRUCTS for base in made.__mro__):
        STRUCTS[made] = None
    inherited = [f.name for f in attrs.fields(made) if hasattr(made, f"raw_{f.name}")]
    _use_slots(made, inherited)
    return made  # type: ignore[no-any-return]


def _has_a_repr(cls: type) -> bool:
    """Whether somebody wrote a ``repr``, for the class or a base: it says what the object is."""
    return hasattr(cls.__repr__, "__code__") and not _made_by_attrs(cls.__repr__)


def _made_by_attrs(method: Any) -> bool:
    return str(method.__code__.co_filename).startswith("<attrs generated")


def _use_slots(cls: Any, names: list[str]) -> None:
    """Let ``__init__`` store into the slots: a new object is not shared yet.  And let a ``repr``
    that attrs made read them: who looks at an object to tell of it does not use it.
    """
    methods = [cls.__dict__.get("__init__"), cls.__dict__.get("__repr__")]
    for method in methods if names else ():
        if method is not None and (method.__name__ == "__init__" or _made_by_attrs(method)):
            code = method.__code__
            renamed = tuple(f"raw_{n}" if n in names else n for n in code.co_names)
            method.__code__ = code.replace(co_names=renamed)


class _Names(dict[str, Any]):
    """The names of a module; what only the type checker knows is Any."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _resolved(cls: type, annotation: Any) -> Any:
    """The type that an annotation says; Any where it cannot be told."""
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(cls.__module__)
    try:
        return eval(annotation, {}, _Names(vars(module) if module else {}))
    except TypeError as error:
        if "guard" in annotation:
            raise TypeError(f"{cls.__qualname__}: {annotation}: {error}") from None
        return Any


def _verify(cls: type, name: str, guard: Guard) -> None:
    """Every path of a guard must lead somewhere, and to a lock.

    Raises:
        TypeError: one does not.
    """
    title = f"{cls.__qualname__}.{name}"
    for path in dict.fromkeys((*guard.write, *guard.read, *((guard.seq,) if guard.seq else ()))):
        if path.startswith("@"):
            continue
        at: Any = cls
        for step in path.split("."):
            if at is Any:
                break
            found = _step(at, step)
            if found is None:
                raise TypeError(
                    f"{title} is guarded by {path!r}, but {at.__qualname__} has no {step!r}"
                )
            at = found
        if at is not Any and not hasattr(at, "is_locked"):
            raise TypeError(f"{title} is guarded by {path!r}, which is {at.__qualname__}: no lock")
    for predicate in guard.unless:
        if not hasattr(cls, predicate):
            raise TypeError(f"{title} is free while {predicate!r}, but {cls.__qualname__} has none")


def _step(cls: type, name: str) -> Any:
    """The class of an attribute: Any if that is not known, None if there is no such attribute."""
    for base in cls.__mro__:
        said = inspect.get_annotations(base)
        if name in said:
            hint = _resolved(base, said[name])
            while get_origin(hint) is Annotated or type(None) in get_args(hint):
                hint = next(a for a in get_args(hint) if a is not type(None))
            return hint if isinstance(hint, type) and not get_args(hint) else Any
    return Any if hasattr(cls, name) else None


__all__ = [
    "READ_ONCE",
    "WRITE_ONCE",
    "Annotated",
    "Field",
    "Guard",
    "accesses_for_its_caller",
    "guarded_by",
    "cmpxchg",
    "kernel_struct",
    "ordered",
    "rcu_assign_pointer",
    "rcu_dereference",
    "share",
    "shared",
    "smp_load_acquire",
    "smp_store_release",
    "xchg",
]
