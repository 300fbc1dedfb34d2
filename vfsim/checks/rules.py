"""The words in which locking contracts are declared.

A table of operations is a class.  Its columns are declared once, and each method has one `row` in
the words of the locking document; what a word means for the locks at hand follows from the column,
or is said beside it::

    class InodeOperations(Operations):
        table = "inode_operations"
        columns = (Lock("i_mutex(inode)", "dir.i_rwsem"),)

        @prototype("int (*create) (struct inode *,struct dentry *,umode_t, bool);")
        @row("yes")
        def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None: ...

        @row("yes (both)", held=("dir.i_rwsem", "dentry.d_inode.i_rwsem"))
        def unlink(self, dir: Inode, dentry: Dentry) -> None: ...

What stands in the document's prose, and what people promise on their own tables, is said with the
kernel's annotation words, one decorator a fact: `must_hold`, `must_hold_shared`, `must_not_hold`,
`acquires`, `releases`, `never_blocks`, `may_block`, `cannot_fail`, `gives_ref`, `takes_ref`,
`expects` and `watch`, most of them with an optional ``when=``.

Locks are named by *path*:

==========================  ======================================================================
``dir.i_rwsem``             from a parameter of the method
``return.0.lock``           from what the method returns (numbers index a tuple)
``@rename_lock``            the one lock of that name in this world
``any flc_lock``            some lock of that class, whichever
==========================  ======================================================================

``when=`` takes a one-line function on parameters of the method, by their names; tables and reports
print its name.

Nothing here checks anything: this file turns words into data (`Clause`, `Cell`, `Rule`).
`vfsim.checks.contract` verifies the data when the class is made and compiles it into each method
that overrides the table's.
"""

from __future__ import annotations

import inspect
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

F = TypeVar("F", bound="Callable[..., Any]")

ENFORCED, ADAPTED, UNPROMISED, UNSPECIFIED = "enforced", "adapted", "not promised", "unspecified"
RULE_STATUSES = ("enforced", "adapted", "soft", "permission", "info", "stale")


# -- locks by path ---------------------------------------------------------------------------------


def global_lock(name: str) -> Any:
    """Never sleeps.  The lock ``@name`` of the running world, or None if nobody has made it yet.

    Upper floors keep their global locks in ``machine.data`` under their names.
    """
    return K.machine.data.get(name)


@attrs.frozen
class LockPath:
    """Where to find a lock: see the table at the top of this file.

    Attributes:
        text: as it was written.
        root: the parameter's name, ``return``, ``@`` or ``any``.
        steps: what to follow from there; for ``@`` and ``any`` the one name.
    """

    text: str
    root: str
    steps: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> LockPath:
        """Read a path.

        Raises:
            TypeError: it is not a string of one of the four forms.
        """
        if not isinstance(text, str):
            raise TypeError(f"a lock is named by a path such as 'dir.i_rwsem', got {text!r}")
        if text.startswith("@"):
            root, steps = "@", [text[1:]]
        elif text.startswith("any "):
            root, steps = "any", [text[4:]]
        else:
            root, *steps = text.split(".")
        words = [root, *steps] if root not in ("@", "any") else steps
        if not steps or not all(
            w.isidentifier() or (w.isdigit() and w is not words[0]) for w in words
        ):
            raise TypeError(
                f"{text!r} is no path to a lock; write 'parameter.field', 'return.field', '@name' "
                "or 'any lock_class'"
            )
        return cls(text, root, tuple(steps))

    @property
    def name(self) -> str:
        """The lock's own name: the last word of the path."""
        return self.steps[-1]

    def find(self, args: Mapping[str, Any], result: Any = None) -> Any:
        """The lock itself (``any`` has none).  Raises AttributeError if a step is missing."""
        if self.root == "@":
            return global_lock(self.name)
        at = result if self.root == "return" else args[self.root]
        for step in self.steps:
            at = at[int(step)] if step.isdigit() else getattr(at, step)
        return at


@attrs.frozen
class Predicate:
    """A named condition on parameters of the method."""

    name: str
    fn: Callable[..., Any]
    params: tuple[str, ...]

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> Predicate:
        """Take a plain function.  Raises TypeError for a lambda, which has no name to print."""
        if not inspect.isfunction(fn) or fn.__name__ == "<lambda>":
            raise TypeError(f"when= takes a named function on the method's parameters, got {fn!r}")
        return cls(fn.__name__, fn, tuple(inspect.signature(fn).parameters))

    def holds(self, args: Mapping[str, Any]) -> bool:
        """Whether it is true of these arguments."""
        return bool(self.fn(*(args[p] for p in self.params)))

    def __str__(self) -> str:
        return self.name.replace("_", " ")


@attrs.frozen
class Conditional:
    """A path with its condition; made by `when`."""

    path: str
    when: Predicate
    rule: str


def when(predicate: Callable[..., Any], path: str, rule: str = "") -> Conditional:
    """Inside `row` and `cell`: this lock only if ``predicate`` is true of the call.

    Args:
        rule: the prose rule that says so, if it is not the cell itself.
    """
    return Conditional(path, Predicate.of(predicate), rule)


# -- clauses: what is checked ----------------------------------------------------------------------


class Kind(Enum):
    """The kinds of promise.  The first six bind the caller, the others the method."""

    HELD = "held"  # locked by the calling task, exclusive
    SHARED = "held at least shared"
    NOT_HELD = "not held"
    NOT_EXCLUSIVE = "not held exclusive"
    SLEEPABLE = "may block"  # so the caller must be able to sleep
    NO_RCU = "not in rcu-walk"
    EXPECTS = "expects"  # a predicate on the arguments
    NEVER = "may not block"
    ACQUIRES = "acquires"
    RELEASES = "releases"
    GIVES = "gives a reference"
    TAKES = "takes a reference"
    UNPROMISED = "not promised"  # called both with and without: the method may not assert it
    ALONE = "promised nothing else"  # the method may not assert any lock that it did not take


ENTRY = (
    Kind.HELD,
    Kind.SHARED,
    Kind.NOT_HELD,
    Kind.NOT_EXCLUSIVE,
    Kind.SLEEPABLE,
    Kind.NO_RCU,
    Kind.EXPECTS,
)
METHODS_SIDE = (Kind.NEVER, Kind.ACQUIRES, Kind.RELEASES)


@attrs.define(eq=False)
class Clause:
    """One promise of one method.

    Attributes:
        kind: what is promised.
        path: the lock (or the referenced object), if it is about one.
        when: only then; None is always.
        unless: not then (a blanket "may block" with an exception).
        rule: the id that a violation carries: ``TABLE.METHOD.COLUMN`` or the prose rule's.
        anyone: the lock counts as locked whoever holds it (it may have been given to an I/O).
        test: for EXPECTS, the predicate that must be true.
        cell: the cell that declares it, or None.
        checked: how often it was evaluated, if it is conditional; the others count with the call.
    """

    kind: Kind
    path: LockPath | None = None
    when: Predicate | None = None
    unless: Predicate | None = None
    rule: str = ""
    anyone: bool = False
    test: Predicate | None = None
    cell: Cell | None = None
    checked: int = 0

    def applies(self, args: Mapping[str, Any]) -> bool:
        """Whether it binds this call."""
        if self.when is not None and not self.when.holds(args):
            return False
        return self.unless is None or not self.unless.holds(args)

    @property
    def sentence(self) -> str:
        """What it says, for tables and reports."""
        lock = self.path.text if self.path else _RCU_SECTION
        text = _SENTENCES[self.kind].format(lock=lock, test=self.test)
        if self.path is not None and self.path.root == "any":
            text = text.replace(lock, f"some {self.path.name}")
        if self.when is not None:
            text = f"when {self.when}: {text}"
        return text if self.unless is None else f"unless {self.unless}: {text}"


_RCU_SECTION = "the RCU read section of a walk"
"""What a promise about rcu-walk is about, which has no path."""

_SENTENCES = {
    Kind.HELD: "the caller holds {lock} exclusive",
    Kind.SHARED: "the caller holds {lock}, at least shared",
    Kind.NOT_HELD: "the caller does not hold {lock}",
    Kind.NOT_EXCLUSIVE: "the caller does not hold {lock} exclusive",
    Kind.SLEEPABLE: "the method may sleep, so the caller must be where sleeping is allowed",
    Kind.NO_RCU: "not called in rcu-walk",
    Kind.EXPECTS: "the caller sees to it: {test}",
    Kind.NEVER: "the method must not sleep",
    Kind.ACQUIRES: "the method returns with {lock} locked",
    Kind.RELEASES: "the method unlocks {lock}",
    Kind.GIVES: "the method returns a reference ({lock}) that the caller must put",
    Kind.TAKES: "the method consumes the caller's reference on {lock}",
    Kind.UNPROMISED: "{lock}: called both with and without it; the method may not rely on it, nor "
    "assert it",
    Kind.ALONE: "no lock is promised: the method may not rely on one, nor assert it",
}


# -- columns and cells -----------------------------------------------------------------------------


class Column:
    """A column of a table: its title in the document's words."""

    def __init__(self, title: str) -> None:
        self.title = title

    def clauses(self, words: str, params: Sequence[str]) -> list[Clause]:
        """What a cell of this column means when only its words are given.

        Raises:
            TypeError: the words alone do not say enough.
        """
        return []


class Lock(Column):
    """A lock, with the paths at which methods have it: the first whose parameter the method has.

    Args:
        anyone: it may be given away (to an I/O), so it counts as locked whoever holds it.
        shared: "yes" means held in any mode.
    """

    def __init__(self, title: str, *paths: str, anyone: bool = False, shared: bool = False) -> None:
        super().__init__(title)
        self.paths = tuple(LockPath.parse(p) for p in paths)
        self.anyone = anyone
        self.shared = shared

    def path(self, params: Sequence[str]) -> LockPath:
        for path in self.paths:
            if path.root in ("@", "any") or path.root in params:
                return path
        raise TypeError(
            f"column {self.title!r} names no lock for parameters ({', '.join(params)}): "
            "say held= or so"
        )

    def clauses(self, words: str, params: Sequence[str]) -> list[Clause]:
        first = words.replace("(", " ").replace("[", " ").split()[:1]
        if first == ["read"] or (first == ["yes"] and self.shared):
            return [Clause(Kind.SHARED, self.path(params))]
        if first in (["yes"], ["write"]):
            return [Clause(Kind.HELD, self.path(params), anyone=self.anyone)]
        if first == ["no"]:
            return [Clause(Kind.NOT_HELD, self.path(params))]
        if first == ["maybe"]:
            return [Clause(Kind.UNPROMISED, self.path(params))]
        raise TypeError(
            f"{words!r} under {self.title!r} does not say which locks are meant: use cell(...)"
        )


class MayBlock(Column):
    """Whether the method may sleep."""

    def clauses(self, words: str, params: Sequence[str]) -> list[Clause]:
        if words == "yes":
            return [Clause(Kind.SLEEPABLE)]
        if words == "no":
            return [Clause(Kind.NEVER)]
        raise TypeError(f"{words!r} under {self.title!r} needs never_blocks=")


class RcuWalk(Column):
    """Whether the method is called by a path walk that holds nothing but the RCU read lock."""

    def clauses(self, words: str, params: Sequence[str]) -> list[Clause]:
        return [Clause(Kind.NO_RCU)] if words == "no" else [Clause(Kind.UNPROMISED)]


class Note(Column):
    """A column that is about something else; its cells say what with `cell`."""


@attrs.define(eq=False)
class Cell:
    """One cell of a table.

    Attributes:
        doc: the document's words; "" if it is blank.
        means: what is checked, as a sentence.
        status: `ENFORCED`, `ADAPTED`, `UNPROMISED` or `UNSPECIFIED`.
        prose: the rule that the method's own violations carry, if it is not the cell's.
        explicit: its clauses were given, not derived from its words.
        column, rule: its place and ``TABLE.METHOD.COLUMN``, filled in when the class is made.
    """

    doc: str
    means: str = ""
    status: str = ENFORCED
    clauses: list[Clause] = attrs.field(factory=list)
    prose: str = ""
    explicit: bool = False
    column: str = ""
    rule: str = ""


def cell(
    words: str,
    *,
    held: Any = (),
    shared: Any = (),
    not_held: Any = (),
    not_exclusive: Any = (),
    acquires: Any = (),
    releases: Any = (),
    not_promised: Any = (),
    expects: Callable[..., Any] | None = None,
    never_blocks: Callable[..., Any] | None = None,
    means: str = "",
    status: str = "",
    prose: str = "",
) -> Cell:
    """A cell whose words need saying in locks.

    Args:
        held, shared, not_held, not_exclusive: what the caller holds or does not; paths, or `when`
            with a path.
        acquires, releases: what the method returns with, or without.
        not_promised: called both with and without these.
        expects: what else must be true of the arguments.
        never_blocks: when the method must not sleep (else it may).
        means: the sentence for reports, if the generated one will not do.
        status: ``adapted`` where what is checked differs from the words; given by itself where it
            is not promised.
        prose: the rule that the method's own violations of this cell carry; the caller's carry the
            cell's id.
    """
    decided = status or (UNPROMISED if not_promised else ENFORCED)
    made = Cell(words, means, decided, explicit=True, prose=prose)
    for kind, paths in (
        (Kind.HELD, held),
        (Kind.SHARED, shared),
        (Kind.NOT_HELD, not_held),
        (Kind.NOT_EXCLUSIVE, not_exclusive),
        (Kind.ACQUIRES, acquires),
        (Kind.RELEASES, releases),
        (Kind.UNPROMISED, not_promised),
    ):
        made.clauses += _clauses(kind, paths)
    if expects is not None:
        made.clauses.append(Clause(Kind.EXPECTS, test=Predicate.of(expects)))
    if never_blocks is not None:
        quiet = Predicate.of(never_blocks)
        made.clauses += [Clause(Kind.NEVER, when=quiet), Clause(Kind.SLEEPABLE, unless=quiet)]
    for clause in made.clauses:
        if clause.kind in METHODS_SIDE:
            clause.rule = clause.rule or prose
    return made


def _clauses(kind: Kind, paths: Any) -> list[Clause]:
    if isinstance(paths, (str, Conditional)):
        paths = (paths,)
    found = []
    for path in paths:
        if isinstance(path, Conditional):
            found.append(Clause(kind, LockPath.parse(path.path), path.when, rule=path.rule))
        else:
            found.append(Clause(kind, LockPath.parse(path)))
    return found


# -- decorators ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Draft:
    """What the decorators say about one function, until its class is made."""

    words: tuple[str | Cell, ...] | None = None
    prototype: str = ""
    infallible: bool = False
    clauses: list[Clause] = attrs.field(factory=list)
    hooks: list[Hook] = attrs.field(factory=list)


def draft_of(fn: Any) -> Draft | None:
    """What was declared on a function, or None."""
    return getattr(fn, "__contract__", None)


def _draft(fn: F) -> Draft:
    found = draft_of(fn)
    if found is None:
        found = Draft()
        fn.__contract__ = found  # type: ignore[attr-defined]
    return found


def row(*cells: str | Cell, **first: Any) -> Callable[[F], F]:
    """The method's row: a word or `cell` per column.  Keywords are `cell`'s, for the first one."""
    if first:
        if not cells or not isinstance(cells[0], str):
            raise TypeError("row(): keywords explain the first cell's words, so it is a string")
        cells = (cell(cells[0], **first), *cells[1:])

    def declare(fn: F) -> F:
        _draft(fn).words = cells
        return fn

    return declare


def prototype(text: str) -> Callable[[F], F]:
    """The method's prototype in the document, word by word.

    A method with a prototype and no `row` is one that the document lists without a row.
    """

    def declare(fn: F) -> F:
        _draft(fn).prototype = " ".join(text.split())
        return fn

    return declare


def _declare(
    kind: Kind, paths: tuple[str, ...], condition: Callable[..., Any] | None, rule: str
) -> Callable[[F], F]:
    made = [LockPath.parse(p) for p in paths]
    if not made:
        raise TypeError(f"say which lock: a path such as 'dir.i_rwsem' ({kind.value})")
    predicate = Predicate.of(condition) if condition is not None else None

    def declare(fn: F) -> F:
        _draft(fn).clauses += [Clause(kind, path, predicate, rule=rule) for path in made]
        return fn

    return declare


def must_hold(
    *paths: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The caller holds these locks exclusive (Linux: ``__must_hold``)."""
    return _declare(Kind.HELD, paths, when, rule)


def must_hold_shared(
    *paths: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The caller holds these locks, at least shared."""
    return _declare(Kind.SHARED, paths, when, rule)


def must_not_hold(
    *paths: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The caller does not hold these locks in any mode."""
    return _declare(Kind.NOT_HELD, paths, when, rule)


def acquires(
    *paths: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The method returns with these locked, unless it raises (Linux: ``__acquires``)."""
    return _declare(Kind.ACQUIRES, paths, when, rule)


def releases(
    *paths: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The method unlocks these, which the caller holds (Linux: ``__releases``)."""
    return _declare(Kind.RELEASES, paths, when, rule)


def gives_ref(
    path: str = "return", when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """What the method returns carries a reference that the caller must put."""
    return _reference(Kind.GIVES, path, when, rule)


def takes_ref(
    path: str, when: Callable[..., Any] | None = None, rule: str = ""
) -> Callable[[F], F]:
    """The method puts the reference that the caller passes in with this parameter."""
    return _reference(Kind.TAKES, path, when, rule)


def _reference(
    kind: Kind, path: str, condition: Callable[..., Any] | None, rule: str
) -> Callable[[F], F]:
    root, *steps = path.split(".")
    made = LockPath(path, root, tuple(steps))
    predicate = Predicate.of(condition) if condition is not None else None

    def declare(fn: F) -> F:
        _draft(fn).clauses.append(Clause(kind, made, predicate, rule=rule))
        return fn

    return declare


def never_blocks(when: Callable[..., Any] | None = None, rule: str = "") -> Callable[[F], F]:
    """The method must not sleep; with ``when``, only then, and otherwise it may."""
    predicate = Predicate.of(when) if when is not None else None

    def declare(fn: F) -> F:
        _draft(fn).clauses.append(Clause(Kind.NEVER, when=predicate, rule=rule))
        return fn

    return declare


def cannot_fail(fn: F) -> F:
    """The method has no way to tell of an error, as a C function that returns void: its caller goes
    on as if all were done.  It raises nothing.
    """
    _draft(fn).infallible = True
    return fn


def promises_no_lock(rule: str) -> Callable[[F], F]:
    """The method is called with whatever locks: it may assert none that it did not take."""

    def declare(fn: F) -> F:
        _draft(fn).clauses.append(Clause(Kind.ALONE, rule=rule))
        return fn

    return declare


def may_block(when: Callable[..., Any] | None = None, rule: str = "") -> Callable[[F], F]:
    """The method may sleep, so the caller must be where that is allowed."""
    predicate = Predicate.of(when) if when is not None else None

    def declare(fn: F) -> F:
        _draft(fn).clauses.append(Clause(Kind.SLEEPABLE, when=predicate, rule=rule))
        return fn

    return declare


def expects(
    test: Callable[..., Any], *, when: Callable[..., Any] | None = None, rule: str
) -> Callable[[F], F]:
    """The caller sees to it that ``test``, a named function on the parameters, is true."""
    predicate = Predicate.of(when) if when is not None else None
    tested = Predicate.of(test)

    def declare(fn: F) -> F:
        _draft(fn).clauses.append(Clause(Kind.EXPECTS, when=predicate, test=tested, rule=rule))
        return fn

    return declare


@attrs.frozen
class Hook:
    """A generator function that watches a whole call; see `watch`."""

    fn: Callable[..., Any]
    params: tuple[str, ...]


def watch(hook: Callable[..., Any]) -> Callable[[F], F]:
    """Let ``hook`` watch each call, for rules that no lock column can say.

    ``hook(call, ...)`` is a generator function on `vfsim.checks.calls.Call` and parameters of the
    method.  It runs up to its one ``yield`` before the method and goes on after it, with
    ``call.result`` and ``call.error`` set; what it finds it says with ``call.check()``.
    """
    if not inspect.isgeneratorfunction(hook):
        raise TypeError(f"watch() takes a generator function with one yield, got {hook!r}")
    names = tuple(inspect.signature(hook).parameters)
    if names[:1] != ("call",):
        raise TypeError(f"{hook.__name__}: the first parameter of a watching function is 'call'")
    made = Hook(hook, names[1:])

    def declare(fn: F) -> F:
        _draft(fn).hooks.append(made)
        return fn

    return declare


# -- prose -----------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Rule:
    """A rule that stands in the document's prose (P...) or in the kernel's code (E...).

    Attributes:
        id: "P1" ... "P90", "P35a", "E1" ... "E26".
        text: what it says, in our words.
        applies_to: the methods it is about, as ``TABLE.METHOD``.
        status: one of `RULE_STATUSES`.
        why: the reason for a status other than enforced, or what the check looks at.
        checked: how often a hook evaluated it (clauses are counted apart).
        unheeded: how often a soft rule, which is advice, was not followed.
    """

    id: str
    text: str
    applies_to: tuple[str, ...]
    status: str
    why: str
    checked: int = 0
    unheeded: int = 0


RULES: dict[str, Rule] = {}
"""Every prose rule declared so far, by id; `vfsim.checks.tables` sorts them."""


def rule(id: str, text: str, *applies_to: str, status: str = "enforced", why: str = "") -> Rule:
    """Declare a prose rule.

    Raises:
        ValueError: the id is taken, or there is no such status.
    """
    if id in RULES:
        raise ValueError(f"rule {id} is declared twice")
    if status not in RULE_STATUSES:
        raise ValueError(f"rule {id}: status {status!r} is none of {', '.join(RULE_STATUSES)}")
    RULES[id] = made = Rule(id, " ".join(text.split()), applies_to, status, " ".join(why.split()))
    return made
