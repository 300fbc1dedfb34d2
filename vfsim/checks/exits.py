"""How a checked method ends: what it holds, what it returned, what it raised.

After a return and after an OSError alike, `settle` compares what the task holds now with what it
held, as lock *instances*, and with what the method promised to acquire and release.  An OSError of
a method that cannot fail, and a result that its caller can do nothing with, are reported; so is any
other exception, an *oops*, with its traceback, and what the method still held is then not looked
at.  References that a result or an argument carries are passed on (`gives`, `takes`).

It records violations and takes the pin off the held stack; it changes nothing else.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import innermost
from vfsim.checks.history import taken
from vfsim.checks.lifetime import is_freed, ledger
from vfsim.checks.oops import errno_name, error_name, is_operating, oops
from vfsim.checks.promises import (
    RELEASED,
    Args,
    by_method,
    class_of,
    is_at,
    label,
    named,
    report,
    rule_about,
)
from vfsim.checks.rules import Clause, Kind
from vfsim.sim.context import SHARED, unpin
from vfsim.sim.errors import PASSING
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vfsim.checks.contract import Site
    from vfsim.sim.context import Held
    from vfsim.sim.task import Task


def leave(site: Site, t: Task, h: Held | None, p: Held, args: Args, result: Any) -> None:
    """A method returned, and the task does not hold exactly what it held."""
    settle(site, t, h, p, named(site, args), result, None)


def leave_raising(
    site: Site, t: Task, h: Held | None, p: Held, args: Args, error: BaseException
) -> None:
    """A method raised."""
    if is_operating(error):
        if site.method.infallible:
            must_not_fail(site, t, error)
        if t.held is p:
            unpin(t, p[0])
        else:
            settle(site, t, h, p, named(site, args), None, error)
    elif not isinstance(error, PASSING):
        oops(site, t, error)
        unpin(t, p[0])


def must_not_fail(site: Site, t: Task, error: OSError) -> None:
    """An error that nobody can be told of: the kernel would go on as if it had not been, with the
    locks that it holds.  Ends the world.
    """
    hint = "deal with the error inside: note it for later, or go on without"
    summary = f"{site.title}() raised {error_name(error)}, but it has no way to fail"
    report(site, t, f"{site.method.id}.raises", by_method(site), summary, hint, kind="hard")


def settle(
    site: Site,
    t: Task,
    h: Held | None,
    p: Held,
    args: Mapping[str, Any],
    result: Any,
    error: BaseException | None,
    releases: tuple[tuple[Clause, Any], ...] = (),
) -> None:
    """Compare what is held with what was held and what was promised, then take the pin off."""
    pin = p[0]
    above, below = _split(t, pin)
    lost = _minus(list(_locks(h)), [lock for lock, _ in below])
    gained = above
    for clause, lock in _promised(site, args, result, error):
        if any(e[0] is lock for e in gained):
            gained = [e for e in gained if e[0] is not lock]
        elif not clause.anyone or not lock.is_locked():
            problem = f"returned without {_path(clause)} locked"
            _wrong(site, t, clause.rule, problem, f"{_path(clause)} is {lock!r}")
    for clause, lock in releases:
        lost = [e for e in lost if e is not lock]
        if any(e[0] is lock for e in (*below, *gained)):
            gained = [e for e in gained if e[0] is not lock]
            _wrong(site, t, clause.rule, f"{_left(error)} with {_path(clause)} still held")
    told = t.machine.data.get(RELEASED, {})
    for lock in lost:
        if not told.pop((pin, lock), False):
            problem = f"{_left(error)} without {label(lock)}, which its caller holds"
            _wrong(site, t, rule_about(site, lock, args), problem)
    for lock, key in gained:
        if lock not in lost:  # else released and taken again: told when it happened
            shared = " (shared)" if key & SHARED else ""
            problem = f"{_left(error)} with {label(lock)}{shared} still held"
            _wrong(site, t, _leak_rule(site, lock, args), problem, *_where_taken(t, lock))
    unpin(t, pin)


def _wrong(site: Site, t: Task, rule: str, problem: str, *details: str) -> None:
    report(site, t, rule, by_method(site), f"{site.title}() {problem}", *details)


def _left(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {error_name(error)} and left"


def _path(clause: Clause) -> str:
    assert clause.path is not None
    return clause.path.text


def _where_taken(t: Task, lock: Any) -> tuple[str, ...]:
    """Where a lock was taken, if the run is traced."""
    event = taken(K.trace, t, lock)
    return () if event is None else (f"{label(lock)} was taken at {event.where}",)


def _split(t: Task, pin: Any) -> tuple[list[tuple[Any, int]], list[tuple[Any, int]]]:
    """What is held above and below a pin, innermost first, as (lock, key)."""
    above: list[tuple[Any, int]] = []
    below: list[tuple[Any, int]] = []
    side = above
    link, node = t.held, t.ctx
    while link is not None:
        entry = link[0]
        if entry is pin:
            side = below
        if not entry.is_pin:
            side.append((entry, node.key))
        if not entry.is_pin or entry.key:
            node = node.parent
        link = link[1]
    return above, below


def _locks(link: Held | None) -> Iterator[Any]:
    """The locks from a link downwards, innermost first."""
    while link is not None:
        if not link[0].is_pin:
            yield link[0]
        link = link[1]


def _minus(before: list[Any], after: list[Any]) -> list[Any]:
    """What was there before and is not now."""
    missing = []
    for lock in before:
        at = next((i for i, other in enumerate(after) if other is lock), -1)
        if at < 0:
            missing.append(lock)
        else:
            del after[at]
    return missing


def _promised(
    site: Site, args: Mapping[str, Any], result: Any, error: BaseException | None
) -> Iterator[tuple[Clause, Any]]:
    """The locks that the method returns with."""
    for clause in site.method.of(Kind.ACQUIRES) if error is None else ():
        assert clause.path is not None
        if clause.path.root == "return" and result is None:
            continue  # a hook or the caller has more to say about that
        try:
            if not clause.applies({**args, "result": result}):
                continue
            lock = clause.path.find(args, result)
        except (AttributeError, IndexError, TypeError) as problem:
            text = f"returned {result!r}, in which {clause.path.text} cannot be found ({problem})"
            _wrong(site, K.cur, clause.rule, text)
            continue
        clause.checked += 1
        yield clause, lock


def _leak_rule(site: Site, lock: Any, args: Mapping[str, Any]) -> str:
    """A lock that the method may return with has a rule of its own; all others share one."""
    for clause in site.method.of(Kind.ACQUIRES):
        assert clause.path is not None
        if class_of(lock) == clause.path.name or is_at(clause.path, lock, args):
            return clause.rule
    return rule_about(site, lock, args)


ODD = (type(None), int, OSError)
"""What C returns instead of an object, when there is none."""

_KIN = {"str": (str,), "bytes": (bytes, bytearray, memoryview), "int": (int,)}


def wrong_result(site: Site, t: Task, result: Any) -> None:
    """A method that returns nothing returned something: usually an errno, as one would in C."""
    hint = _raise_it(result) or "it does its work and returns nothing; what is returned is ignored"
    _returned(site, t, f"returned {result!r}", hint)


def odd_result(site: Site, t: Task, result: Any) -> None:
    """A method returned what it may not have meant: None, an errno as in C, or another type.

    Where the kernel cannot go on with it, the world ends.
    """
    method = site.method
    if t.machine.dead or (result is None and not method.fruitful):
        return
    what = f"returned {result!r}"
    if method.result != "Any":
        what += f", not {method.result}"
    if result is None:
        _returned(site, t, what, "is a `return` missing?", kind="hard")
        return
    number = method.result in ("bool", "int")
    hint = "" if number and method.infallible else _raise_it(result)
    kin = _KIN.get(method.result)
    if hint:
        _returned(site, t, what, hint, kind="soft" if number else "hard")
    elif kin is not None and not isinstance(result, kin):
        _returned(site, t, what, f"its caller needs {method.result}", kind="hard")


def _raise_it(result: Any) -> str:
    """What to write instead of returning an error; "" if this is none."""
    code = result.errno if isinstance(result, OSError) else -result if type(result) is int else 0
    if code not in errno.errorcode:
        return ""
    name = errno_name(code)
    return f"an error is raised, not returned: raise {name}()   (from vfsim.sim.errors)"


def _returned(site: Site, t: Task, what: str, hint: str, kind: str = "soft") -> None:
    rule = f"{site.method.id}.returns"
    report(site, t, rule, by_method(site), f"{site.title}() {what}", hint, kind=kind)


def gives(site: Site, t: Task, args: Args, result: Any) -> None:
    """The method returned an object, with a reference that from now on is its caller's."""
    wanted = site.method.result
    if not site.method.hooks and wanted != "Any" and not _is_a(result, wanted):  # hooks say more
        hint = _raise_it(result) or f"its caller needs {wanted}"
        _returned(site, t, f"returned {result!r}, not {wanted}", hint, kind="hard")
    for clause in site.method.of(Kind.GIVES):
        clause.checked += 1
        if not _pass_on(site, t, result, +1):
            problem = f"returned {result!r} without a reference for its caller"
            _wrong(site, t, clause.rule, problem, "take one before returning it, as dget() does")


def _is_a(result: object, wanted: str) -> bool:
    """Whether an object is of a class that an annotation names."""
    return any(cls.__name__ in wanted for cls in type(result).__mro__[:-1])


def takes(site: Site, t: Task, args: Mapping[str, Any]) -> None:
    """The method returned, and has put a reference that was its caller's."""
    for clause in site.method.of(Kind.TAKES):
        assert clause.path is not None
        clause.checked += 1
        obj = args[clause.path.root]
        for step in clause.path.steps:
            obj = getattr(obj, step)
        if not is_freed(obj) and not _pass_on(site, t, obj, -1):
            books = ledger(t.machine)  # what it kept is its own now
            books.change(innermost(t), obj, -1)
            books.change(site, obj, 1)
            problem = f"returned without putting the reference on {clause.path.text}"
            _wrong(
                site,
                t,
                clause.rule,
                problem,
                "its caller relied on that, so the object will never go",
            )


def _pass_on(site: Site, t: Task, obj: Any, sign: int) -> bool:
    """Move one reference between the accounts of a method and of its caller.

    False if there is none to move; True for objects of whose references nobody keeps account.
    """
    books = ledger(t.machine)
    if obj not in books.kernel:
        return True
    if books.balance(site, obj) * sign < 1:
        return False
    books.change(site, obj, -sign)
    books.change(innermost(t), obj, sign)
    return True
