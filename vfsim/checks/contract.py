"""Operations tables: verified when a class is made, checked on every call.

A class that says ``table = "..."`` *declares* a table (see `vfsim.checks.rules`); its methods are
what the kernel does for a method left out (Linux's NULL).  A class below it *implements* the table:
each method of the table that it defines, inherits from another implementation or gets from a mixin
is replaced by a wrapper that was compiled for it (`vfsim.checks.wrapper`) and checks both sides of
each call (`vfsim.checks.promises`, `vfsim.checks.exits`).  Base bodies run bare.

The life of an implementing class::

    class ToyDir(InodeOperations):       # verified: names, parameters, plain functions
        def create(self, dir, dentry, mode, excl): ...
    ToyDir.create = other                # verified and wrapped again
    ToyDir().create = other              # refused: an instance has no methods of its own
    disable()                            # every class gets its bare functions back

Refused at import, with a sentence that says what to write instead: parameters renamed, missing or
in another order; misspelt methods; generator and async functions, static and class methods and
other callables; rows with more or fewer cells than the table has columns; paths that start at no
parameter or pass a field that the class does not have.

What a declared method and its implementations are is in `vfsim.checks.site`; how the author's
functions and the paths of locks are verified, in `vfsim.checks.functions` and `vfsim.checks.paths`.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from vfsim.checks.functions import near_miss, parameters, plain, same_parameters
from vfsim.checks.paths import follow
from vfsim.checks.rules import (
    UNSPECIFIED,
    Cell,
    Clause,
    Column,
    Draft,
    Kind,
    draft_of,
)
from vfsim.checks.site import Method as Method
from vfsim.checks.site import Site as Site
from vfsim.checks.site import quote as quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


TABLES: dict[str, type[Operations]] = {}
"""Every table declared so far, by name."""

_enabled = True
_NULL = object()
_DECLARES = (
    "__table_methods__"  # in a class's __dict__: the methods of the tables it implements, by name
)
_OWN = "__own_functions__"  # in a class's __dict__: the functions it defines for them itself


# -- the classes -----------------------------------------------------------------------------------


class OperationsType(type):
    """Sees to it that a method assigned to a class later is checked like one written in it."""

    def __setattr__(cls, name: str, value: Any) -> None:
        if name == "__bases__":
            raise TypeError(
                f"{cls.__name__}: its bases cannot be changed any more, make a new class"
            )
        methods: dict[str, Method] = cls.__dict__.get(_DECLARES, {})
        if name not in methods:
            if isinstance(value, FunctionType):
                near_miss(cls, name, methods)
            super().__setattr__(name, value)
            return
        if "table" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}.{name} is the table's own method: override it in a subclass"
            )
        cls.__dict__[_OWN][name] = value
        for heir in _family(cls):
            _install(heir, (name,))

    def __delattr__(cls, name: str) -> None:
        if name not in cls.__dict__.get(_OWN, {}):
            super().__delattr__(name)
            return
        del cls.__dict__[_OWN][name]
        super().__delattr__(name)
        for heir in _family(cls):
            _install(heir, (name,))


class Operations(metaclass=OperationsType):
    """The base of every table of operations.

    A table's class sets:

    Attributes:
        table: its name; this is what makes a class a table.
        columns: its columns, as in the document.
        blanket: the document's sentence about blocking that covers all methods.
        blanket_rule: that sentence's id.
        implementer: who writes the methods: ``filesystem`` or ``driver``; it stands in the blame.

    An implementing class may set ``filesystem`` to the name under which its calls are counted;
    without it that is the filesystem type that its module defines.
    """

    table: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]] = ()
    blanket: ClassVar[str] = ""
    blanket_rule: ClassVar[str] = ""
    implementer: ClassVar[str] = "filesystem"
    filesystem: ClassVar[str] = ""

    if not TYPE_CHECKING:

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            if "table" in cls.__dict__:
                _declare(cls)
            else:
                _implement(cls)

        def __setattr__(self, name: str, value: Any) -> None:
            if name in type(self).__dict__.get(_DECLARES, ()):
                raise TypeError(
                    f"{type(self).__name__}.{name} cannot be set on one object: methods "
                    "belong to the class, where they are checked; make a subclass"
                )
            object.__setattr__(self, name, value)

    @classmethod
    def implements(cls, name: str) -> bool:
        """Never sleeps.  Whether the class has a method of its own (Linux: it is not NULL).

        Raises:
            TypeError: the table has no such method.
        """
        methods = cls.__dict__[_DECLARES]
        if name not in methods:
            raise TypeError(f"{cls.__name__} has no method {name!r}")
        return getattr(cls, name) is not methods[name].fn


def methods_of(table: type[Operations]) -> dict[str, Method]:
    """The methods of a table's class, by name, in order of declaration."""
    return table.__dict__[_DECLARES]  # type: ignore[no-any-return]


# -- declaring a table -----------------------------------------------------------------------------


def _declare(cls: type[Operations]) -> None:
    """Turn a class body into a table."""
    if not isinstance(cls.table, str) or not cls.table.isidentifier():
        raise TypeError(
            f"{cls.__name__}.table is the table's name, an identifier, not {cls.table!r}"
        )
    methods = _inherited(cls)
    for name, fn in list(vars(cls).items()):
        draft = draft_of(fn)
        if draft is None and (name.startswith("_") or not isinstance(fn, FunctionType)):
            continue
        if draft is None and name in methods:
            raise TypeError(
                f"{cls.__name__}.{name}: an extended table cannot change a row, only add some"
            )
        methods[name] = _method(cls, cls.table, name, fn, draft)
    type.__setattr__(cls, _DECLARES, methods)
    type.__setattr__(cls, _OWN, {})
    TABLES[cls.table] = cls


def _inherited(cls: type) -> dict[str, Method]:
    """The methods of the tables that a class's bases declare or implement."""
    found: dict[str, Method] = {}
    for base in reversed(cls.__bases__):
        for name, method in getattr(base, _DECLARES, {}).items():
            other = found.get(name)
            if other is not None and other.table != method.table:
                raise TypeError(
                    f"{cls.__name__} cannot implement {other.table} and {method.table} at once: "
                    f"both have a method {name}(); make two classes"
                )
            found[name] = method
    return found


def _method(
    cls: type[Operations], table: str, name: str, fn: Any, declared: Draft | None
) -> Method:
    """Verify one declaration and give its cells and clauses their places."""
    draft = declared or Draft()
    title = f"{cls.__name__}.{name}"
    plain(title, fn)
    params = parameters(title, fn)
    cells = _cells(cls, title, params, draft)
    method = Method(
        table=table,
        name=name,
        fn=fn,
        params=params,
        prototype=draft.prototype,
        row=bool(draft.words),
        cells=cells,
        clauses=[],
        hooks=draft.hooks,
        result=_result_of(fn),
        silent=_result_of(fn) == "None" and "return" in fn.__annotations__,
        fruitful=_is_fruitful(_result_of(fn)),
        infallible=draft.infallible,
        implementer=cls.implementer,
        listed=declared is not None,
    )
    for column, found in zip(cls.columns, cells, strict=False):
        found.column = column.title
        found.rule = f"{table}.{name}.{column.title}"
        for clause in found.clauses:
            clause.cell = found
            clause.rule = clause.rule or found.rule
            method.clauses.append(clause)
        if not found.means and found.doc:
            found.means = "; ".join(c.sentence for c in found.clauses) or "either is possible"
    for clause in draft.clauses:
        clause.rule = clause.rule or f"{table}.{name}.{_WORDS[clause.kind]}"
        method.clauses.append(clause)
    _add_blanket(cls, method)
    for clause in method.clauses:
        _verify_clause(title, method, clause)
    for hook in method.hooks:
        _known(title, hook.fn.__name__, hook.params, params)
    return method


_WORDS = {
    Kind.HELD: "must_hold",
    Kind.SHARED: "must_hold_shared",
    Kind.NOT_HELD: "must_not_hold",
    Kind.NOT_EXCLUSIVE: "must_not_hold",
    Kind.SLEEPABLE: "may_block",
    Kind.NEVER: "never_blocks",
    Kind.ACQUIRES: "acquires",
    Kind.RELEASES: "releases",
    Kind.GIVES: "gives_ref",
    Kind.TAKES: "takes_ref",
    Kind.EXPECTS: "expects",
    Kind.NO_RCU: "rcu-walk",
    Kind.UNPROMISED: "not_promised",
    Kind.ALONE: "promises_no_lock",
}


def _result_of(fn: Any) -> str:
    """What a function returns, as its annotation spells it."""
    note = fn.__annotations__.get("return")
    return note if isinstance(note, str) else getattr(note, "__name__", repr(note))


def _is_fruitful(result: str) -> bool:
    """Whether None, which Python returns where a return was forgotten, is no such result."""
    return "None" not in result and result not in ("Any", "bool")


def _cells(cls: type[Operations], title: str, params: tuple[str, ...], draft: Draft) -> list[Cell]:
    """The row, one cell per column."""
    words = draft.words or ()
    if words and len(words) != len(cls.columns):
        raise TypeError(
            f"{title}: its row has {len(words)} cells, the table has {len(cls.columns)} columns "
            f"({', '.join(c.title for c in cls.columns)})"
        )
    cells = []
    for column, word in zip(cls.columns, words, strict=False):
        made = word if isinstance(word, Cell) else Cell(word)
        if not made.doc:
            made.status = UNSPECIFIED
        elif not made.explicit:
            try:
                made.clauses = column.clauses(made.doc, params)
            except TypeError as error:
                raise TypeError(f"{title}: {error}") from None
        cells.append(made)
    return cells


def _add_blanket(cls: type[Operations], method: Method) -> None:
    """ "All may block" covers each method that says nothing else about blocking."""
    if not cls.blanket or method.of(Kind.SLEEPABLE):
        return
    never = method.of(Kind.NEVER)
    if any(c.when is None for c in never):
        return
    unless = never[0].when if never else None
    method.clauses.append(Clause(Kind.SLEEPABLE, unless=unless, rule=cls.blanket_rule))


def _verify_clause(title: str, method: Method, clause: Clause) -> None:
    path = clause.path
    if path is not None and path.root not in ("@", "any", "return", *method.params):
        raise TypeError(
            f"{title}: {path.text!r} starts at {path.root!r}, which is no parameter; it has "
            f"({', '.join(method.params)})"
        )
    if (
        path is not None
        and path.root == "return"
        and clause.kind not in (Kind.ACQUIRES, Kind.GIVES)
    ):
        raise TypeError(f"{title}: {path.text!r} is only known when the method returns")
    known = (*method.params, "result") if clause.kind is Kind.ACQUIRES else method.params
    for predicate in (clause.when, clause.unless, clause.test):
        if predicate is not None:
            _known(title, predicate.name, predicate.params, known)
    if path is not None:
        follow(title, method, clause, {})


def _known(title: str, name: str, wanted: Iterable[str], params: tuple[str, ...]) -> None:
    unknown = [p for p in wanted if p not in params]
    if unknown:
        raise TypeError(
            f"{title}: {name}() asks for {', '.join(unknown)}, but the method's parameters are "
            f"({', '.join(params)})"
        )


# -- paths against classes -------------------------------------------------------------------------


def verify_paths(classes: Mapping[str, type]) -> dict[str, str]:
    """Follow every path of every table through the classes' fields, as far as annotations lead.

    A table's page names most classes for the type checker only, so at import the way often ends
    early.  Once everything is imported, pass all ``classes`` by name.

    Returns:
        For each path that could not be followed to its end, as ``TABLE.METHOD path``, where the
        annotations ended, or which class has no such field.
    """
    lost = {}
    for table in TABLES.values():
        for method in methods_of(table).values():
            for clause in method.clauses:
                try:
                    end = follow(method.id, method, clause, classes)
                except TypeError as error:
                    end = str(error)
                if end and clause.path is not None:
                    lost[f"{method.id} {clause.path.text}"] = end
    return lost


# -- implementing a table --------------------------------------------------------------------------


def _implement(cls: type[Operations]) -> None:
    """Verify a class that implements one or more tables, and wrap its methods."""
    methods = _inherited(cls)
    own = {name: value for name, value in vars(cls).items() if name in methods}
    type.__setattr__(cls, _DECLARES, methods)
    type.__setattr__(cls, _OWN, own)
    for base in (cls, *_mixins(cls)):
        for name, value in list(vars(base).items()):
            if isinstance(value, FunctionType) and name not in methods:
                near_miss(cls, name, methods)
    for name, value in own.items():
        if draft_of(value) is not None:
            raise TypeError(
                f"{cls.__name__}.{name}: its contract stands in {methods[name].table} "
                f"({methods[name].declared_at}); "
                "an override inherits it and cannot change it"
            )
    _install(cls, methods)
    for name, value in list(vars(cls).items()):
        if name not in methods and draft_of(value) is not None:
            _wrap_helper(cls, name, value)


def _mixins(cls: type) -> list[type]:
    """The plain classes among a class's ancestors."""
    return [k for k in cls.__mro__ if not isinstance(k, OperationsType) and k is not object]


def _family(cls: type) -> list[type[Operations]]:
    """A class and everything below it, ancestors first."""
    found: list[Any] = [cls]
    heirs: list[type] = cls.__subclasses__()
    for heir in heirs:
        found += [k for k in _family(heir) if k not in found]
    return found


def _install(cls: type[Operations], names: Iterable[str]) -> None:
    """Put a checked function into the class for each named method that somebody overrides."""
    methods = methods_of(cls)
    for name in names:
        method = methods[name]
        raw = _find(cls, name)
        if raw is _NULL:
            if name in cls.__dict__:
                type.__delattr__(cls, name)
            continue
        old = next((s for s in method.sites if s.cls is cls), None)
        if old is None or old.raw is not raw:
            title = f"{cls.__name__}.{name}"
            plain(title, raw)
            same_parameters(title, raw, method)
            if old is not None:
                method.sites.remove(old)
            old = Site(method, cls, raw)
            method.sites.append(old)
        type.__setattr__(cls, name, old.checked if _enabled else raw)


def _find(cls: type, name: str) -> Any:
    """What implements a method for a class, as written; `_NULL` for the table's own body."""
    for k in cls.__mro__:
        if isinstance(k, OperationsType):
            if name in k.__dict__.get(_OWN, {}):
                return k.__dict__[_OWN][name]
            if "table" in k.__dict__ and name in k.__dict__[_DECLARES]:
                return _NULL
        elif k is not object and name in vars(k):
            return vars(k)[name]
    return _NULL


def _wrap_helper(cls: type[Operations], name: str, fn: Any) -> None:
    """A function with annotations that belongs to no table keeps its own promises."""
    draft = draft_of(fn)
    assert draft is not None
    if draft.words is not None:
        raise TypeError(f"{cls.__name__}.{name} has a row, but the class has no table = '...'")
    method = _method(cls, cls.__name__, name, fn, draft)
    site = Site(method, cls, fn)
    method.sites.append(site)
    _helpers.append(site)
    type.__setattr__(cls, name, site.checked if _enabled else fn)


_helpers: list[Site] = []


# -- switching the checks off and on ---------------------------------------------------------------


def _sites() -> Iterable[Site]:
    seen: dict[Method, None] = {}
    for table in TABLES.values():
        for method in methods_of(table).values():
            seen[method] = None
    for method in seen:
        yield from method.sites
    yield from _helpers


def enabled() -> bool:
    """Whether calls are checked."""
    return _enabled


def disable() -> None:
    """Call every method bare: nothing checked, counted or paid.  Not while a world runs."""
    _switch(False)


def enable() -> None:
    """Check calls again."""
    _switch(True)


def _switch(on: bool) -> None:
    global _enabled
    _enabled = on
    for site in _sites():
        type.__setattr__(site.cls, site.method.name, site.checked if on else site.raw)


# -- functions in place of classes -----------------------------------------------------------------


def checked(table: type[Operations], name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function under the contract of a method: for single function pointers.

    ``checked(BufferHeadOperations, "b_end_io", end_io)`` is ``end_io`` with both sides of each call
    checked, or not, while checks are off.  Ask for it each time.
    """
    holder = FUNCTIONS.get((table, name, fn))
    if holder is None:
        method = methods_of(table)[name]
        plain(fn.__qualname__, fn)

        def bound(self: Any, *args: Any) -> Any:
            return fn(*args)

        bound.__wrapped__ = fn  # type: ignore[attr-defined]
        given = inspect.signature(fn)
        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        bound.__signature__ = given.replace(parameters=[me, *given.parameters.values()])  # type: ignore[attr-defined]
        if tuple(given.parameters) != method.params:
            raise TypeError(
                f"{fn.__qualname__}{inspect.signature(fn)}: the parameters of {method.id} are "
                f"({', '.join(method.params)}); keep their names and order ({method.declared_at})"
            )
        cls = OperationsType(fn.__qualname__, (table,), {"__module__": fn.__module__, name: bound})
        holder = FUNCTIONS[table, name, fn] = cls()
    return getattr(holder, name)  # type: ignore[no-any-return]


FUNCTIONS: dict[tuple[type, str, Callable[..., Any]], Any] = {}
"""The objects that `checked` has made so far: each has one method."""
