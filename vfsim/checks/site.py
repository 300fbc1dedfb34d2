"""A method of a table as it was declared, and each place where a class implements it.

A `Site` counts its calls, and it is the *pin* that a running call leaves on the task's held stack:
what lies below was held by the caller and must stay as it is.  While the method must not sleep, its
`Quiet` twin is the pin.
"""

from __future__ import annotations

import inspect
from types import CellType
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.checks.blame import KERNEL, KERNEL_MODULES, short
from vfsim.checks.rules import ENTRY, Cell, Clause, Hook, Kind
from vfsim.checks.wrapper import compile_site
from vfsim.sim.context import NOBLOCK, Pin

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define(eq=False)
class Method:
    """One method of one table, as declared.

    Attributes:
        params: the parameters' names, without ``self``.
        row: whether the document gives it a row.  cells: one per column of that row.
        clauses: everything promised, from cells, annotations and blanket.
        result: what it returns, as its annotation says.
        silent: it returns nothing.  fruitful: it returns something, and None is not meant.
        infallible: it raises no errors.
        listed: it was declared with a row or an annotation, so tables show it.
        sites: its implementations, in order of definition.
    """

    table: str
    name: str
    fn: Callable[..., Any]
    params: tuple[str, ...]
    prototype: str
    row: bool
    cells: list[Cell]
    clauses: list[Clause]
    hooks: list[Hook]
    result: str
    silent: bool
    fruitful: bool
    infallible: bool
    implementer: str
    listed: bool
    sites: list[Site] = attrs.field(factory=list, repr=False)

    @property
    def id(self) -> str:
        """``TABLE.METHOD``."""
        return f"{self.table}.{self.name}"

    @property
    def declared_at(self) -> str:
        """``file:line`` of the declaration."""
        code = self.fn.__code__
        return f"{short(code.co_filename)}:{code.co_firstlineno}"

    @property
    def entry(self) -> list[Clause]:
        """What the caller must see to."""
        return [c for c in self.clauses if c.kind in ENTRY]

    def of(self, *kinds: Kind) -> list[Clause]:
        """The clauses of these kinds."""
        return [c for c in self.clauses if c.kind in kinds]


class Site(Pin):
    """One method of one implementing class: counter, pin and what reports say about it.

    Attributes:
        raw: the function as its author wrote it.
        checked: the wrapper around it.  counter: the cell in which that counts (see `calls`).
        quiet: the pin used instead while the method must not sleep.
    """

    __slots__ = ("checked", "cls", "counter", "method", "quiet", "raw")

    def __init__(self, method: Method, cls: type, raw: Callable[..., Any]) -> None:
        self.key = 0
        self.method = method
        self.cls = cls
        self.raw = raw
        self.quiet = Quiet(self)
        self.checked = compile_site(self)
        assert self.checked.__closure__ is not None
        self.counter: CellType = self.checked.__closure__[0]

    @property
    def calls(self) -> int:
        """How often the method ran."""
        return int(self.counter.cell_contents)

    @calls.setter
    def calls(self, n: int) -> None:
        self.counter.cell_contents = float(n)

    @property
    def site(self) -> Site:
        """Itself: every pin names its site."""
        return self

    @property
    def title(self) -> str:
        """``ToyDir.create``."""
        return f"{self.cls.__qualname__.replace('<locals>.', '')}.{self.method.name}"

    @property
    def blamed(self) -> str:
        """Who is to blame for what the method does."""
        if self.cls.__module__.startswith(KERNEL_MODULES):
            return KERNEL
        return f"{self.method.implementer} {self.title}"

    @property
    def where(self) -> str:
        """``file:line`` of the method."""
        code = inspect.unwrap(self.raw).__code__
        return f"{short(code.co_filename)}:{code.co_firstlineno}"

    def quote(self, rule: str) -> tuple[str, ...]:
        """How a report quotes a rule: its words, what they mean, where they are declared."""
        return quote(self.method, rule)

    def __repr__(self) -> str:
        return f"<{self.title}()>"


class Quiet(Pin):
    """The pin of a call that must not sleep: it enters the "may not block" state with it."""

    __slots__ = ("site",)

    def __init__(self, site: Site) -> None:
        self.key = NOBLOCK.key
        self.site = site

    def __repr__(self) -> str:
        return f"<{self.site.title}(), may not block>"


def quote(method: Method, rule: str) -> tuple[str, ...]:
    """The lines in which a report shows a rule of a method and its place in the contract."""
    from vfsim.checks.rules import RULES

    lines = []
    for found in method.cells:
        if rule in (found.rule, found.prose) and found.doc:
            lines.append(f'{method.table}, {method.name}, column "{found.column}": "{found.doc}"')
            lines.append(f"that is: {found.means}")
    if rule in RULES:
        lines.append(f"{rule}: {RULES[rule].text}")
    if not lines:
        lines = [f"that is: {c.sentence}" for c in method.clauses if c.rule == rule]
    return (*lines, f"declared at {method.declared_at}")
