"""The wrapper around one method: source text, compiled once per implementing class.

Checks that are found in one attribute each cost tens of nanoseconds when they are written out, and
microseconds when they are looked up; so each method's wrapper is written out.  For
``ToyDir.symlink`` it reads::

    def make():
        ran = 0.0

        def checked(self, dir, dentry, symname):
            nonlocal ran
            t = K.cur
            h = t.held
            ran += 1.0
            try:
                if dir.i_rwsem.owner is not t or not (not dir.i_flags & 16) or t.ctx.nosleep:
                    enter_wrong(site, t, (self, dir, dentry, symname))
            except AttributeError:
                enter_wrong(site, t, (self, dir, dentry, symname))
            t.held = p = (site, h)
            try:
                r = raw(self, dir, dentry, symname)
            except BaseException as e:
                leave_raising(site, t, h, p, (self, dir, dentry, symname), e)
                raise
            if t.held is p:
                t.held = h
            else:
                leave(site, t, h, p, (self, dir, dentry, symname), r)
            if r is not None:
                wrong_result(site, t, r)
            return r

        return checked

The inline tests only decide whether all is well; whatever is not goes to `vfsim.checks.promises`,
which evaluates the same clauses one by one, slowly, and words the report.  A test holds the two to
the same verdicts.  Conditions (``when=``, ``expects``) that are a single ``return`` are written out
too.

Entries of the held stack and keys of the context come and go together, so ``t.held is p`` says that
both are as they were.  A method that may not block runs inside the pseudo lock "may not block",
entered with its pin.  A method that returns with other locks than it was called with, or is watched
by a hook, gets a pin of its own per call instead.

The counter is a float in a closure, because that is the cheapest there is: no attribute to look up,
and floats come from a free list.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import textwrap
from typing import TYPE_CHECKING, Any

from vfsim.checks import calls, exits, promises
from vfsim.checks.rules import Clause, Kind, LockPath, Predicate
from vfsim.sim.context import NOBLOCK, enter
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

    from vfsim.checks.contract import Method, Site

RWSEMS = ("rwsem", "_sem", "s_umount")
EXCLUSIVE = ("lock", "mutex")
"""How the names of locks with and without a shared mode end; others are asked, which costs time."""

RESERVED = frozenset((
    "K", "NB", "NOBLOCK", "ODD", "begin", "c", "e", "enter", "enter_wrong", "getattr", "gives",
    "h", "holds_class", "isinstance", "k", "leave", "leave_raising", "odd_result", "p", "q0", "q1",
    "quiet", "r", "ran", "raw", "site", "t", "wrong_result", "x",
))  # fmt: skip
"""Names that the wrappers use, so no parameter may have them."""

_SLOW = (Kind.ACQUIRES, Kind.RELEASES, Kind.TAKES)

_ODD = {
    "bool": "r is not True and r is not False",
    "int": "r.__class__ is not int or r < 0",
    "str": "r.__class__ is not str",
    "bytes": "r.__class__ is not bytes",
}
"""When a result of these is worth a second look."""


def compile_site(site: Site) -> FunctionType:
    """The checked function for a site; tracebacks and debuggers show its source."""
    method = site.method
    space: dict[str, Any] = {
        "__name__": "vfsim.checks.wrapper",
        "K": K,
        "NB": NOBLOCK.key,
        "NOBLOCK": NOBLOCK,
        "enter": enter,
        "enter_wrong": promises.enter_wrong,
        "gives": exits.gives,
        "holds_class": promises.holds_class,
        "leave": exits.leave,
        "leave_raising": exits.leave_raising,
        "begin": calls.begin,
        "odd_result": exits.odd_result,
        "wrong_result": exits.wrong_result,
        "ODD": exits.ODD,
        "site": site,
        "quiet": site.quiet,
        "raw": site.raw,
    }
    source = _Writer(method, space).write()
    filename = f"<contract of {site.title} ({method.id})>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), space)
    fn: FunctionType = space["make"]()
    fn.__code__ = fn.__code__.replace(co_name=method.name, co_qualname=site.title)
    fn.__name__ = method.name
    fn.__doc__ = site.raw.__doc__
    fn.__qualname__ = site.title
    fn.__module__ = site.cls.__module__
    fn.__wrapped__ = site.raw  # type: ignore[attr-defined]
    return fn


class _Writer:
    """Writes one wrapper."""

    def __init__(self, method: Method, space: dict[str, Any]) -> None:
        self.method = method
        self.space = space
        self.lines: list[str] = []
        self.given = ", ".join(("self", *method.params))
        self.tuple = f"({self.given},)"
        self.known: dict[Callable[..., Any], str] = {}

    def write(self) -> str:
        self.lines = ["def make():", "    ran = 0.0", "", f"    def checked({self.given}):"]
        self.add(1, "nonlocal ran", "t = K.cur", "h = t.held", "ran += 1.0")
        self.common_conditions()
        self.entry()
        if self.method.hooks or self.method.of(*_SLOW):
            self.call_with_own_pin()
        else:
            self.call()
        return "\n".join([*self.lines, "", "    return checked", ""])

    def add(self, depth: int, *lines: str) -> None:
        self.lines += [f"{'    ' * (depth + 1)}{line}" for line in lines]

    def name(self, value: Any, prefix: str) -> str:
        """A global name for an object in the generated module."""
        for known, other in self.space.items():
            if other is value and known.startswith(prefix):
                return known
        fresh = f"{prefix}{len(self.space)}"
        self.space[fresh] = value
        return fresh

    # -- entry -------------------------------------------------------------------------------------

    def common_conditions(self) -> None:
        """Evaluate a condition that several clauses share once, into a local variable."""
        found = [p for c in self.method.clauses for p in (c.when, c.unless) if p is not None]
        if self.method.hooks or self.method.of(*_SLOW):
            found = [p for c in self.method.entry for p in (c.when, c.unless) if p is not None]
        for predicate in found:
            fn = predicate.fn
            shared = [other.fn for other in found].count(
                fn
            ) > 1 and "result" not in predicate.params
            if shared and fn not in self.known:
                local = f"q{len(self.known)}"
                self.add(1, f"{local} = {self.predicate(predicate)}")
                self.known[fn] = local

    def entry(self) -> None:
        """Test what the caller promised; anything doubtful goes to the slow path."""
        clauses = self.method.entry
        plain = [self.broken(c) for c in clauses if c.when is None and c.unless is None]
        some = [c for c in clauses if c.when is not None or c.unless is not None]
        counted = self.method.of(Kind.UNPROMISED)
        if not plain and not some and not counted:
            return
        wrong = f"enter_wrong(site, t, {self.tuple})"
        self.add(1, "try:")
        if plain:
            self.add(2, f"if {' or '.join(plain)}:", f"    {wrong}")
        for clause in some:
            self.add(2, f"if {self.applies(clause)}:")
            if clause.unless is None:
                self.add(3, f"{self.name(clause, 'clause_')}.checked += 1")
            self.add(3, f"if {self.broken(clause)}:", f"    {wrong}")
        for clause in counted:
            self.add(2, f"if {self.present(clause)}:")
            self.add(3, f"{self.name(clause, 'clause_')}.checked += 1")
        self.add(1, "except AttributeError:", f"    {wrong}")

    def applies(self, clause: Clause) -> str:
        if clause.when is not None:
            return self.predicate(clause.when)
        assert clause.unless is not None
        return f"not {self.predicate(clause.unless)}"

    def predicate(self, predicate: Predicate) -> str:
        """A condition: known already, or written out if it is one expression, or as a call."""
        if predicate.fn in self.known:
            return self.known[predicate.fn]
        inline = _expression(predicate, self.name)
        return inline or f"{self.name(predicate.fn, 'when_')}({', '.join(predicate.params)})"

    def broken(self, clause: Clause) -> str:
        """An expression that is true if the clause is broken."""
        kind, path = clause.kind, clause.path
        if kind is Kind.SLEEPABLE:
            return "t.ctx.nosleep"
        if kind is Kind.NO_RCU:
            return "t.ctx.rcu"
        if kind is Kind.EXPECTS:
            assert clause.test is not None
            return f"not {self.predicate(clause.test)}"
        assert path is not None
        if path.root == "any":
            exclusive = kind in (Kind.HELD, Kind.NOT_EXCLUSIVE)
            held = f"holds_class(t, {path.name!r}, {exclusive})"
            return held if kind in (Kind.NOT_HELD, Kind.NOT_EXCLUSIVE) else f"not {held}"
        if clause.anyone:
            return f"not {path.text}.locked"
        if path.root == "@":
            found = f"(x := K.machine.data.get({path.name!r})) is"
            test = self.owned_wrongly("x", path, kind)
            wanted = kind in (Kind.HELD, Kind.SHARED)
            return f"({found} None or {test})" if wanted else f"({found} not None and {test})"
        return self.owned_wrongly(path.text, path, kind)

    def owned_wrongly(self, text: str, path: LockPath, kind: Kind) -> str:
        """One comparison, or two for a lock with a shared mode."""
        if kind is Kind.HELD:
            return f"{text}.owner is not t"
        if kind is Kind.SHARED:
            return f"({text}.owner is not t and t not in {text}.readers)"
        if kind is Kind.NOT_EXCLUSIVE or path.name.endswith(EXCLUSIVE):
            return f"{text}.owner is t"
        shared = path.name.endswith(RWSEMS)
        readers = f"{text}.readers" if shared else f"getattr({text}, 'readers', ())"
        return f"{text}.owner is t or t in {readers}"

    def present(self, clause: Clause) -> str:
        """Whether a lock that is not promised happens to be held, for the coverage."""
        path = clause.path
        if path is None:
            return "t.ctx.rcu"
        if path.root == "any":
            return f"holds_class(t, {path.name!r}, False)"
        if path.root == "@":
            return f"(x := K.machine.data.get({path.name!r})) is not None and x.owner is t"
        return f"{path.text}.owner is t"

    # -- the call ----------------------------------------------------------------------------------

    def call(self) -> None:
        never = self.pin()
        self.add(1, "try:", f"    r = raw({self.given})", "except BaseException as e:")
        self.add(2, f"leave_raising(site, t, h, p, {self.tuple}, e)", "raise")
        self.add(1, "if t.held is p:", "    t.held = h")
        if never:
            self.add(2, "t.ctx = c")
        self.add(1, "else:", f"    leave(site, t, h, p, {self.tuple}, r)")
        if self.method.of(Kind.GIVES):
            self.add(1, "if r is not None:", f"    gives(site, t, {self.tuple}, r)")
        elif self.method.silent:
            self.add(1, "if r is not None:", "    wrong_result(site, t, r)")
        elif self.method.result != "None":
            self.add(1, f"if {self.odd()}:", "    odd_result(site, t, r)")
        self.add(1, "return r")

    def odd(self) -> str:
        """An expression that is false of every result that is plainly right."""
        if self.method.result == "int" and self.method.infallible:
            return "r.__class__ is not int"
        if self.method.result in _ODD:
            return _ODD[self.method.result]
        odd = "isinstance(r, ODD)"
        return odd if self.method.fruitful else f"r is not None and {odd}"

    def pin(self) -> bool:
        """Put the pin on the held stack; returns whether the context may change with it."""
        never = self.method.of(Kind.NEVER)
        if not never:
            self.add(1, "t.held = p = (site, h)")
            return False
        self.add(1, "c = t.ctx")
        depth = 1
        if all(c.when is not None for c in never):
            tests = [self.predicate(c.when) for c in never if c.when is not None]
            self.add(1, f"if not ({' or '.join(tests)}):", "    t.held = p = (site, h)", "else:")
            self.add(2, *(f"{self.name(clause, 'clause_')}.checked += 1" for clause in never))
            depth = 2
        self.add(depth, "try:", "    t.ctx = c.next[NB]")
        self.add(depth, "except KeyError:", "    t.ctx = enter(c, NB, NOBLOCK)")
        self.add(depth, "t.held = p = (quiet, h)")
        return True

    def call_with_own_pin(self) -> None:
        self.add(1, f"k = begin(site, t, {self.tuple})", "t.held = p = (k, h)")
        self.add(1, "try:", f"    r = raw({self.given})", "except BaseException as e:")
        self.add(2, "k.raised(t, h, p, e)", "raise")
        self.add(1, "return k.returned(t, h, p, r)")


# -- conditions as expressions ---------------------------------------------------------------------

_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr)


def _expression(predicate: Predicate, name: Callable[[Any, str], str]) -> str:
    """The one expression a condition returns, globals bound by ``name``; "" if it is more."""
    fn = predicate.fn
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
    except (OSError, SyntaxError, TypeError):
        return ""
    found = tree.body[0]
    if len(tree.body) != 1 or not isinstance(found, ast.FunctionDef) or fn.__closure__:
        return ""
    body = found.body[1:] if ast.get_docstring(found) is not None else found.body
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        return ""
    value = body[0].value
    if any(isinstance(node, _SCOPES) for node in ast.walk(value)):
        return ""
    if _calls_bool(value):
        value = value.args[0]  # type: ignore[attr-defined]
    binder = _Binder(fn, predicate.params, name)
    value = binder.visit(value)
    return "" if binder.lost else f"({ast.unparse(value)})"


def _calls_bool(node: ast.expr) -> bool:
    """``bool(x)``, which a test does by itself."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "bool"
        and len(node.args) == 1
    )


class _Binder(ast.NodeTransformer):
    """Gives each global name of a condition the name it has in the wrapper's module."""

    def __init__(self, fn: Any, params: tuple[str, ...], name: Callable[[Any, str], str]) -> None:
        self.fn = fn
        self.params = params
        self.name = name
        self.lost = False

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.params:
            return node
        missing = object()
        value = self.fn.__globals__.get(node.id, getattr(builtins, node.id, missing))
        if value is missing:
            self.lost = True
            return node
        if isinstance(value, int | str | None):
            return ast.copy_location(ast.Constant(value), node)
        return ast.copy_location(ast.Name(self.name(value, "g_"), ast.Load()), node)
