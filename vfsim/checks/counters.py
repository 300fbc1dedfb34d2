"""The contract's counters as plain numbers, so that a forked process can hand its share to its
parent.

`vfsim.checks.tables.record` computes coverage from a few kinds of counters, which live where they
are counted: calls of a site, evaluations of a clause and of a rule, advice that was not followed.
A forked process has the same ones in the same order, so a list says it all; adding lists gives
exactly what one process would have counted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from vfsim.checks.contract import FUNCTIONS, TABLES, methods_of
from vfsim.checks.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

Counts = list[int]


def _counters() -> Iterator[tuple[Any, str]]:
    """Each counter as (what has it, its name), in an order that a fork keeps."""
    for rule in RULES.values():
        yield rule, "checked"
        yield rule, "unheeded"
    for cls in TABLES.values():
        for method in methods_of(cls).values():
            for site in method.sites:
                yield site, "calls"
            for clause in method.clauses:
                yield clause, "checked"


def counts() -> Counts:
    """All counters."""
    return [getattr(owner, name) for owner, name in _counters()]


def difference(after: Counts, before: Counts) -> Counts:
    """What was counted in between.

    Raises:
        ValueError: operations classes were made in between.
    """
    if len(after) != len(before):
        raise ValueError(
            "operations classes were made while counting: make them at the top of a file"
        )
    return [a - b for a, b in zip(after, before, strict=True)]


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """What happens inside counts for nothing, and operations classes made inside are forgotten.

    For classes that are broken on purpose, for replays, and for whatever else is no search.
    """
    methods = [m for cls in TABLES.values() for m in methods_of(cls).values()]
    known = [len(m.sites) for m in methods]
    functions = len(FUNCTIONS)
    before = counts()
    try:
        yield
    finally:
        for method, n in zip(methods, known, strict=True):
            del method.sites[n:]
        for key in list(FUNCTIONS)[functions:]:
            del FUNCTIONS[key]
        for (owner, name), n in zip(_counters(), before, strict=True):
            setattr(owner, name, n)


def add_counts(more: Counts) -> None:
    """Count what another process counted."""
    for (owner, name), n in zip(_counters(), more, strict=True):
        if n:
            setattr(owner, name, getattr(owner, name) + n)
