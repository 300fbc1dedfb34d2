"""What all schedules of a campaign showed together: a second oracle beside each world's own graph.

Lock order is judged world by world, so that a replay says the same as the run.  But when schedule 3
takes B inside A, and schedule 17 takes A inside B, the two could have met in one world all the
same.  A `Union` collects the orders of many runs, with the first run that showed each::

    union = Union()
    union.add(index, machine.judge.lockdep)         # after each run, in the process that ran it
    union.merge(other)                              # what another process collected
    for cycle in union.cycles():
        print(cycle)            # union cycle: A→B in schedule 3, B→A in schedule 17

What a single world showed by itself is left out: that is a violation there.  Classes are told apart
by kind, name and subclass, so a union can be sent between processes, and what it says does not
depend on how the runs were dealt out among them.  Nothing here is a violation: no single schedule
can show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from vfsim.checks.orders import ASKED_RECURSIVE, HELD_SHARED, PASSING, identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.checks.lockdep import Lockdep
    from vfsim.checks.orders import Step

Pair = tuple[str, str]


class Seen(NamedTuple):
    """One order, and who showed it first.

    Attributes:
        held, new: ``new`` was asked for inside ``held``: ``rwsem i_rwsem/1``.
        type: how the two were held (see `vfsim.checks.orders.Edge`).
        run: the number of the run; nth: which order of that run it was.
        who: the task and the function that took ``new``.
    """

    held: str
    new: str
    type: int
    run: int
    nth: int
    who: str

    def __str__(self) -> str:
        return f"{_short(self.held)}→{_short(self.new)} in schedule {self.run}"


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
        self._told: dict[Pair, None] = {}  # orders that were a violation in a world of their own
        self._known: dict[Step, None] = {}
        self._last = -1

    def add(self, run: int, lockdep: Lockdep) -> None:
        """Learn what run number ``run`` showed.

        Cheapest if the runs of a process come in the order of their numbers.
        """
        if run < self._last:
            self._known.clear()
        self._last = run
        nth = 0
        for step in lockdep.steps:
            if step in self._known:
                continue
            self._known[step] = None
            for held, new, type in step.edges:
                if type & PASSING:
                    continue
                entry = lockdep.entries[step.found]
                who = f"{entry.task.name} in {entry.code.co_qualname}()"
                self._keep(Seen(identity(held), identity(new), type, run, nth, who))
                nth += 1
        for kind, *about in lockdep.findings:
            if kind == "circular":
                self._told[about[0], about[1]] = None

    def _keep(self, seen: Seen) -> None:
        key = (seen.held, seen.new, seen.type)
        old = self._edges.get(key)
        if old is None or (seen.run, seen.nth) < (old.run, old.nth):
            self._edges[key] = seen

    def edges(self) -> list[Seen]:
        """Every order, in the order in which it was first seen."""
        return sorted(self._edges.values(), key=lambda seen: (seen.run, seen.nth))

    def merge(self, other: Union) -> None:
        """Learn what another union knows."""
        for seen in other._edges.values():
            self._keep(seen)
        self._told |= other._told

    def cycles(self) -> list[UnionCycle]:
        """The cycles that no single run showed, in the order in which they came about.

        An order that was reported in some world is left out, and so is what follows from it.
        """
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
        return found

    def __getstate__(self) -> tuple[list[Seen], list[Pair]]:
        return list(self._edges.values()), list(self._told)

    def __setstate__(self, state: tuple[list[Seen], list[Pair]]) -> None:
        Union.__init__(self)
        for seen in state[0]:
            self._keep(seen)
        self._told.update(dict.fromkeys(state[1]))


def union_of(unions: Iterable[Union]) -> Union:
    """One union of several."""
    whole = Union()
    for union in unions:
        whole.merge(union)
    return whole


def _way_back(graph: dict[str, list[Seen]], last: Seen) -> list[Seen] | None:
    """The shortest strong path from ``last.new`` to ``last.held`` (see `orders.Order`), or None."""
    start = (last.new, bool(last.type & ASKED_RECURSIVE))
    paths: list[tuple[str, bool, list[Seen]]] = [(*start, [])]
    visited = {start: None}
    for node, weak, path in paths:
        if node == last.held and not (weak and last.type & HELD_SHARED):
            return path
        for edge in graph.get(node, ()):
            there = (edge.new, bool(edge.type & ASKED_RECURSIVE))
            if not (weak and edge.type & HELD_SHARED) and there not in visited:
                visited[there] = None
                paths.append((*there, [*path, edge]))
    return None


def _short(node: str) -> str:
    """``rwsem i_rwsem/0`` as people read it: ``i_rwsem``."""
    return node.partition(" ")[2].removesuffix("/0")
