"""What all schedules of a campaign showed together: a second oracle beside each world's own graph.

Lock order is judged world by world, so that a replay says the same as the run.  But when schedule 3
takes B inside A, and schedule 17 takes A inside B, the two could have met in one world all the
same.  A `Union` collects the orders of many runs, with the first run that showed each::

    union = Union()
    union.add(index, machine.judge.lockdep)         # after each run, in the process that ran it
    union.merge(other)                              # what another process collected
    for cycle in union.cycles():
        print(cycle)            # union cycle: A→B in schedule 3, B→A in schedule 17

Likewise for interrupts (`Union.inversions`): one run takes a lock in an interrupt, and another
holds it, or what it leads to, with interrupts on.

What a single world showed by itself is left out: that is a violation there.  Classes are told apart
by kind, name and subclass, so a union can be sent between processes, and what it says does not
depend on how the runs were dealt out among them.  Nothing here is a violation: no single schedule
can show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from vfsim.checks.steps import (
    ASKED_RECURSIVE,
    CONTEXTS,
    HARD,
    HELD_SHARED,
    PASSING,
    Use,
    identity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vfsim.checks.lockdep import Lockdep
    from vfsim.checks.steps import Step


class Seen(NamedTuple):
    """One order, and who showed it first.

    Attributes:
        held, new: ``new`` was asked for inside ``held``: ``rwsem i_rwsem/1``.
        type: how the two were held (see `vfsim.checks.steps.Edge`).
        run: the number of the run; nth: at which of its transitions.
        who: the task and the function that took ``new``.
    """

    held: str
    new: str
    type: int
    run: int
    nth: int
    who: str

    def __str__(self) -> str:
        return f"{_short(self.held)}→{_short(self.new)} in {_numbered(self.run)}"


class Used(NamedTuple):
    """A class was taken in an interrupt, or held where one can come, and who showed it first.

    Attributes:
        node, context, mild: see `vfsim.checks.steps.Use`.  opened: it was held, not taken.
        run, nth, who: as of `Seen`.
    """

    node: str
    context: int
    mild: bool
    opened: bool
    run: int
    nth: int
    who: str

    def __str__(self) -> str:
        irq = CONTEXTS[self.context]
        on = "interrupts" if self.context == HARD else "softirqs"
        how = f"held with {on} on" if self.opened else f"taken in a {irq}"
        return f"{_short(self.node)} {how} in {_numbered(self.run)}"


Fact = Seen | Used

_SEARCH = 32  # above these bits of a run's number is the search that it was part of


@attrs.frozen
class UnionInversion:
    """A class of interrupts leads to one that is held where they can come, in several runs.

    Attributes:
        facts: the use in an interrupt, the orders that lead on, the hold with interrupts on.
    """

    facts: tuple[Fact, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """The runs to look at, one for each fact."""
        return tuple(fact.run for fact in self.facts)

    def lines(self) -> list[str]:
        """A line for each fact, with who showed it."""
        return [f"{fact}: {fact.who}" for fact in self.facts]

    def __str__(self) -> str:
        return f"union inversion: {', '.join(str(fact) for fact in self.facts)}"


@attrs.frozen
class UnionCycle:
    """Orders of several runs that cannot all be kept.

    Attributes:
        edges: in order around the cycle, the one that was seen last first.
    """

    edges: tuple[Seen, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """The runs to look at, one for each edge: to make tokens of."""
        return tuple(edge.run for edge in self.edges)

    def lines(self) -> list[str]:
        """A line for each edge, with who took it."""
        return [f"{edge}: {edge.who}" for edge in self.edges]

    def __str__(self) -> str:
        return f"union cycle: {', '.join(str(edge) for edge in self.edges)}"


class Union:
    """The orders that some runs showed.  Can be pickled."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str, int], Seen] = {}
        self._uses: dict[tuple[str, int, bool, bool], Used] = {}
        self._told: dict[tuple[str, ...], None] = {}  # what was a violation in a world of its own
        self._known: dict[Step, None] = {}
        self._last = -1

    def add(self, run: int, lockdep: Lockdep) -> bool:
        """Learn what run number ``run`` showed; whether anything was new.

        Cheapest if the runs of a process come in the order of their numbers.
        """
        known = len(self._edges), len(self._uses), len(self._told)
        if run < self._last:
            self._known.clear()
        self._last = run
        for nth, step in enumerate(lockdep.steps):
            if step not in self._known:
                self._known[step] = None
                for fact in _shown(step, lockdep, run, nth):
                    self._keep(fact)
        for kind, *about in lockdep.findings:
            if kind in ("circular", "irq-inversion"):
                self._told[tuple(about)] = None
        return known != (len(self._edges), len(self._uses), len(self._told))

    def _keep(self, fact: Fact) -> None:
        facts: dict[Any, Any] = self._edges if isinstance(fact, Seen) else self._uses
        key = fact[:3] if isinstance(fact, Seen) else fact[:4]
        old = facts.get(key)
        if old is None or _when(fact) < _when(old):
            facts[key] = fact

    def edges(self) -> list[Seen]:
        """Every order, in the order in which it was first seen."""
        return sorted(self._edges.values(), key=_when)

    def merge(self, other: Union, search: int = 0) -> None:
        """Learn what another union knows.

        Args:
            search: the number of the search that the other is of, from 1; 0 if there is one only.
        """
        for fact in other._facts():
            self._keep(fact._replace(run=fact.run + (search << _SEARCH)))
        self._told |= other._told

    def cycles(self) -> list[UnionCycle]:
        """The cycles that no single run showed, in the order in which they came about.

        An order that was reported in some world is left out, and so is what follows from it.
        """
        return self._graph()[1]

    def inversions(self) -> list[UnionInversion]:
        """The inversions that no single run showed; none through orders that make a cycle."""
        graph, _ = self._graph()
        uses = sorted(self._uses.values(), key=_when)
        opened = {(use.node, use.context, use.mild): use for use in uses if use.opened}
        found: list[UnionInversion] = []
        told = dict(self._told)
        for use in uses:
            for node, weak, path in () if use.opened else _walk(graph, use.node, use.mild):
                end = opened.get((node, use.context, False))
                if end is None and not weak:
                    end = opened.get((node, use.context, True))
                about = (CONTEXTS[use.context], use.node, node)
                if end is not None and about not in told:
                    told[about] = None
                    found.append(UnionInversion((use, *path, end)))
        return found

    def _graph(self) -> tuple[dict[str, list[Seen]], list[UnionCycle]]:
        """The orders without those that close a cycle, and the cycles they close."""
        found: list[UnionCycle] = []
        graph: dict[str, list[Seen]] = {}
        classes: dict[tuple[str, ...], None] = {}
        for edge in self.edges():
            if (edge.held, edge.new) in self._told:
                continue
            back = _way_back(graph, edge)
            if back is None:
                graph.setdefault(edge.held, []).append(edge)
                continue
            about = tuple(sorted(e.held for e in (edge, *back)))
            if about not in classes:  # the same locks in another mode are the same bug
                classes[about] = None
                found.append(UnionCycle((edge, *back)))
        return graph, found

    def __eq__(self, other: object) -> bool:
        """Whether two unions know the same."""
        if not isinstance(other, Union):
            return NotImplemented
        mine, theirs = (self._edges, self._uses), (other._edges, other._uses)
        return mine == theirs and self._told == other._told

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[str, Any]:
        """As a document."""
        return {
            "orders": [list(fact) for fact in self._edges.values()],
            "uses": [list(fact) for fact in self._uses.values()],
            "told": [list(about) for about in self._told],
        }

    def __getstate__(self) -> tuple[list[Fact], list[tuple[str, ...]]]:
        return self._facts(), list(self._told)

    def _facts(self) -> list[Fact]:
        return [*self._edges.values(), *self._uses.values()]

    def __setstate__(self, state: tuple[list[Fact], list[tuple[str, ...]]]) -> None:
        Union.__init__(self)
        for fact in state[0]:
            self._keep(fact)
        self._told.update(dict.fromkeys(state[1]))


def union_told(data: dict[str, Any]) -> Union:
    """The union that a document tells of.

    Raises:
        ValueError, KeyError, TypeError: it tells of none.
    """
    union = Union()
    for row in data["orders"]:
        union._keep(Seen(*_typed(row, str, str, int, int, int, str)))
    for row in data["uses"]:
        union._keep(Used(*_typed(row, str, int, bool, bool, int, int, str)))
    union._told.update(dict.fromkeys(tuple(map(str, about)) for about in data["told"]))
    return union


def _typed(row: list[Any], *types: type) -> list[Any]:
    if [type(value) for value in row] != [*types]:
        raise ValueError(f"{row!r} is no fact of a union")
    return row


def union_of(unions: Iterable[Union]) -> Union:
    """One union of several."""
    whole = Union()
    for union in unions:
        whole.merge(union)
    return whole


def _shown(step: Step, lockdep: Lockdep, run: int, nth: int) -> Iterator[Fact]:
    """What a transition shows."""
    entry = lockdep.entries.get(step.found)
    who = "" if entry is None else f"{entry.task.name} in {entry.code.co_qualname}()"
    for held, new, type in step.edges:
        if not type & PASSING:
            yield Seen(identity(held), identity(new), type, run, nth, who)
    uses: tuple[tuple[tuple[Use, ...], bool], ...] = ((step.uses, False), (step.opens, True))
    for found, opened in uses:
        for bit, context, mild in found:
            yield Used(identity(bit), context, mild, opened, run, nth, who)


def placed(run: int) -> tuple[int, int]:
    """The search that a run was part of, from 1 (0 if there is one only), and its number there."""
    return divmod(run, 1 << _SEARCH)


def _numbered(run: int) -> str:
    """``schedule 17``, or ``schedule 17 of scenario 4``."""
    search, index = placed(run)
    return f"schedule {index} of scenario {search}" if search else f"schedule {index}"


def _when(fact: Fact) -> tuple[Any, ...]:
    return fact.run, fact.nth, *fact


def _way_back(graph: dict[str, list[Seen]], last: Seen) -> list[Seen] | None:
    """The shortest strong path from ``last.new`` to ``last.held``, or None."""
    for node, weak, path in _walk(graph, last.new, bool(last.type & ASKED_RECURSIVE)):
        if node == last.held and not (weak and last.type & HELD_SHARED):
            return path
    return None


def _walk(
    graph: dict[str, list[Seen]], start: str, weak: bool
) -> Iterator[tuple[str, bool, list[Seen]]]:
    """Breadth first along strong paths (see `vfsim.checks.orders.Order`)."""
    paths: list[tuple[str, bool, list[Seen]]] = [(start, weak, [])]
    visited = {(start, weak): None}
    for node, soft, path in paths:
        yield node, soft, path
        for edge in graph.get(node, ()):
            there = (edge.new, bool(edge.type & ASKED_RECURSIVE))
            if not (soft and edge.type & HELD_SHARED) and there not in visited:
                visited[there] = None
                paths.append((*there, [*path, edge]))


def _short(node: str) -> str:
    """``rwsem i_rwsem/0`` as people read it: ``i_rwsem``."""
    return node.partition(" ")[2].removesuffix("/0")
