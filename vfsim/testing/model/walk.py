"""Path walk in the model: one step a component, as in Linux.

A call is a chain of steps.  A step is a `Then`: a function and its arguments, a value that can be
compared; it is called with the tree and returns the next step or the `Outcome`.  Run to the end
at once, the chain is the call as manuals describe it; run in turns with other calls, it is what
Linux promises: *each component of a path is looked up at a moment of its own*, and what is done in
the end is done to what was found, wherever that is by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.testing.model.tree import DIR, EXEC, ROOT, SYMLINK, Refused, Tree, Who

if TYPE_CHECKING:
    from collections.abc import Callable

    from vfsim.testing.scenario import Outcome

PATH_MAX = 4096
MAX_LINKS = 40
NORM, DOT, DOTDOT, TOP = "name", ".", "..", "/"


class Then(NamedTuple):
    """What comes next in a call: ``do(tree, who, *args)``."""

    do: Callable[..., Then | Outcome]
    args: tuple[Any, ...] = ()


class Spot(NamedTuple):
    """Where a name would be: its directory, and the last component, which is not looked up."""

    dir: int
    name: str
    type: str
    slash: bool


class _Walk(NamedTuple):
    """A walk in progress.

    ``whole``: to the end, else to the last directory; ``slash``: a directory is wanted.
    """

    at: int
    todo: tuple[str, ...]
    whole: bool
    follow: bool
    slash: bool
    links: int = 0


def to_directory(path: str, then: Callable[..., Any], *args: Any) -> Then:
    """Walk to the directory of the last name; go on with ``then(tree, who, *args, spot)``.

    Raises:
        Refused: ENOENT, ENAMETOOLONG about the path itself.
    """
    return _start(path, False, False, Then(then, args))


def to_node(path: str, follow: bool, then: Callable[..., Any], *args: Any) -> Then:
    """Walk to the end, through a last link if ``follow``; go on with ``then(..., number)``.

    Raises:
        Refused: ENOENT, ENAMETOOLONG about the path itself.
    """
    return _start(path, True, follow, Then(then, args))


def check_path(path: str) -> None:
    """Raises: Refused, for what no path can be."""
    if not path:
        raise Refused("ENOENT")
    if len(path.encode()) >= PATH_MAX:
        raise Refused("ENAMETOOLONG")


def split(path: str) -> tuple[tuple[str, ...], bool]:
    """The components, and whether a slash follows the last."""
    parts = tuple(part for part in path.split("/") if part)
    return parts, bool(parts) and path.endswith("/")


def _start(path: str, whole: bool, follow: bool, then: Then) -> Then:
    check_path(path)
    parts, slash = split(path)
    at = ROOT if path[0] == "/" else 0
    return Then(component, (_Walk(at, parts, whole, follow or slash, slash), then))


def component(tree: Tree, who: Who, walk: _Walk, then: Then) -> Then | Outcome:
    """One component."""
    at = walk.at or tree.proc(who).cwd
    if not walk.todo:
        return _arrive(tree, who, walk, at, then)
    if tree.nodes[at].kind != DIR:
        raise Refused("ENOTDIR")
    tree.need(who, at, EXEC)
    name, rest = walk.todo[0], walk.todo[1:]
    if not rest and not walk.whole:
        kind = {".": DOT, "..": DOTDOT}.get(name, NORM)
        return then.do(tree, who, *then.args, Spot(at, name, kind, walk.slash))
    if name == ".":
        found = at
    elif name == "..":
        found = ROOT if at == ROOT else tree.nodes[at].parent
    else:
        found = look(tree, at, name)
        if not found:
            raise Refused("ENOENT")
        if tree.nodes[found].kind == SYMLINK and (rest or walk.follow):
            return _follow(tree, walk, at, found, rest, then)
    walk = walk._replace(at=found, todo=rest)
    return Then(component, (walk, then)) if rest else _arrive(tree, who, walk, found, then)


def _arrive(tree: Tree, who: Who, walk: _Walk, at: int, then: Then) -> Then | Outcome:
    """The end of the path."""
    if not walk.whole:
        return then.do(tree, who, *then.args, Spot(at, "", TOP, False))
    if walk.slash and tree.nodes[at].kind != DIR:
        raise Refused("ENOTDIR")
    return Then(then.do, (*then.args, at))


def _follow(tree: Tree, walk: _Walk, at: int, link: int, rest: tuple[str, ...], then: Then) -> Then:
    """Put the components of a link's body before those that are left."""
    if walk.links >= MAX_LINKS:
        raise Refused("ELOOP")
    body = tree.nodes[link].target
    parts, slash = split(body)
    walk = walk._replace(
        at=ROOT if body[0] == "/" else at,
        todo=parts + rest,
        slash=walk.slash or (not rest and slash),
        links=walk.links + 1,
    )
    return Then(component, (walk, then))


def look(tree: Tree, dir: int, name: str) -> int:
    """What a name leads to, 0 for nothing.  Raises: Refused (ENAMETOOLONG)."""
    if len(name.encode()) > tree.traits.name_max:
        raise Refused("ENAMETOOLONG")
    return tree.find(dir, name)


def again(at: int, body: str, then: Callable[..., Any], *args: Any) -> Then:
    """Walk a link's body to its last directory, from ``at``."""
    parts, slash = split(body)
    start = ROOT if body[0] == "/" else at
    return Then(component, (_Walk(start, parts, False, False, slash), Then(then, args)))
