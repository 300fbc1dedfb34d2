"""The graphs that collect what situations show (`vfsim.checks.steps`), and the cycles in them.

* `Order` is one world's.  It decides: a replay and a shrunken run come to the same verdict.
* `Known` is the union of everything this process has seen. Most worlds of a campaign repeat what
  earlier ones did, and what makes no cycle in the union makes none in any world: it says "fine",
  cheaply, or "look closer".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.steps import (
    ASKED_RECURSIVE,
    DEFAULT,
    HARD,
    HELD_SHARED,
    PASSING,
    SOFT,
    Edge,
    Rules,
    Step,
    entry_step,
    exposure_step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.sim.context import Ctx

# -- everything this process has seen --------------------------------------------------------------


class Known:
    """The union of the steps of every world so far, as bit sets with their transitive closure.

    ``epoch`` grows when something new makes a cycle or an inversion: a step that was fine until
    then may be the other half of it, and is looked at again when it comes.
    """

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.rules = rules
        self.entries: dict[Ctx, Step] = {}
        self.exposures: dict[Ctx, Step] = {}
        self.epoch = 0
        self._direct: dict[int, int] = {}
        self._forward: dict[int, int] = {}
        self._back: dict[int, int] = {}
        self._used = [0, 0]
        self._opened = [0, 0]

    def entry(self, found: Ctx) -> Step:
        """What entering a context shows."""
        step = self.entries.get(found)
        if step is None:
            step = self.entries[found] = entry_step(found, self.rules)
        return step

    def exposure(self, found: Ctx) -> Step:
        """What it shows that interrupts come back on in a context."""
        step = self.exposures.get(found)
        if step is None:
            step = self.exposures[found] = exposure_step(found)
        return step

    def look(self, step: Step) -> bool:
        """Learn a step; whether it is fine in every world."""
        fresh = self._learn(step)
        clean = not self._suspicious(step)
        if fresh and not clean:
            self.epoch += 1
        step.epoch = self.epoch
        step.clean = clean
        return clean

    def _learn(self, step: Step) -> bool:
        fresh = False
        for held, new, _ in step.edges:
            if not self._direct.get(held, 0) >> new & 1:
                self._add(held, new)
                fresh = True
        for sets, uses in ((self._used, step.uses), (self._opened, step.opens)):
            for bit, context, _ in uses:
                if not sets[context] >> bit & 1:
                    sets[context] |= 1 << bit
                    fresh = True
        return fresh

    def _add(self, held: int, new: int) -> None:
        self._direct[held] = self._direct.get(held, 0) | 1 << new
        above = self._above(held)
        below = self._below(new)
        for bit in _bits(above):
            self._forward[bit] = self._forward.get(bit, 0) | below
        for bit in _bits(below):
            self._back[bit] = self._back.get(bit, 0) | above

    def _above(self, bit: int) -> int:
        return self._back.get(bit, 0) | 1 << bit

    def _below(self, bit: int) -> int:
        return self._forward.get(bit, 0) | 1 << bit

    def _suspicious(self, step: Step) -> bool:
        if any(self._forward.get(new, 0) >> held & 1 for held, new, _ in step.edges):
            return True
        return any(
            self._used[c]
            and self._opened[c]
            and self._inverts(step, c, self._used[c], self._opened[c])
            for c in (HARD, SOFT)
        )

    def _inverts(self, step: Step, context: int, used: int, opened: int) -> bool:
        """Whether the step may lie between a class used in an interrupt and one left open to it."""
        return (
            any(
                self._above(held) & used and self._below(new) & opened
                for held, new, _ in step.edges
            )
            or any(self._below(bit) & opened for bit, c, _ in step.uses if c == context)
            or any(self._above(bit) & used for bit, c, _ in step.opens if c == context)
        )


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


# -- what one world has seen -----------------------------------------------------------------------


class Order:
    """The graph of one world, and where each edge and use was first seen.

    A path is *strong* if it can really block: where a class is reached by a recursive read, the
    path must not go on with that class held shared, because reader and reader get along. An edge
    that closes a strong cycle is reported and not added: so one bug is not reported over and over,
    and the graph stays without cycles.

    In mode "4.9" no remembered edge has a recursive end, so every path is strong, and what counts
    for interrupts is only whether both its ends are reads.
    """

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self._old = rules.mode == "4.9"
        self.first: dict[tuple[int, int], Step] = {}
        self.used: dict[
            tuple[int, int], tuple[bool, Step]
        ] = {}  # (context, class) -> (mild, first seen)
        self.opened: dict[tuple[int, int], tuple[bool, Step]] = {}
        self._types: dict[int, dict[int, int]] = {}  # held -> new -> one bit per type
        self._told: dict[tuple[int, int, int], None] = {}

    def judge(self, step: Step) -> tuple[list[tuple[Edge, list[int]]], list[tuple[int, list[int]]]]:
        """Add a step; returns what is wrong with it now.

        First the edges that close a cycle, each with the way back; then the inversions that are
        new: context, and the path from the class used in an interrupt to the one held with it
        enabled.
        """
        closing = []
        for edge in step.edges:
            if self._has(edge):
                continue
            back = self._way_back(edge)
            if back is None:
                self._add_edge(edge, step)
            else:
                closing.append((edge, back))
        self._add_uses(step)
        fresh = []
        for context, path in self._inversions():
            pair = (context, path[0], path[-1])
            if pair not in self._told:
                self._told[pair] = None
                fresh.append((context, path))
        self._forget_passing(step)
        return closing, fresh

    def add(self, step: Step) -> None:
        """Add a step that is known to be fine."""
        for edge in step.edges:
            if not edge.type & PASSING:
                self._add_edge(edge, step)
        self._add_uses(step)

    def _forget_passing(self, step: Step) -> None:
        for held, new, type in step.edges:
            types = self._types.get(held, {})
            if type & PASSING and new in types:
                types[new] &= ~(1 << PASSING)

    def _add_edge(self, edge: Edge, step: Step) -> None:
        types = self._types.setdefault(edge.held, {})
        types[edge.new] = types.get(edge.new, 0) | 1 << edge.type
        self.first.setdefault((edge.held, edge.new), step)

    def _add_uses(self, step: Step) -> None:
        for table, uses in ((self.used, step.uses), (self.opened, step.opens)):
            for bit, context, mild in uses:
                old = table.get((context, bit))
                if old is None or (old[0] and not mild):
                    table[context, bit] = (mild, step)

    def _has(self, edge: Edge) -> bool:
        return bool(self._types.get(edge.held, {}).get(edge.new, 0) >> edge.type & 1)

    def _way_back(self, edge: Edge) -> list[int] | None:
        """The shortest strong path from ``edge.new`` to ``edge.held``, or None."""
        for path, weak in self._walk(edge.new, bool(edge.type & ASKED_RECURSIVE)):
            if path[-1] == edge.held and not (weak and edge.type & HELD_SHARED):
                return path
        return None

    def _inversions(self) -> Iterator[tuple[int, list[int]]]:
        for (context, bit), (mild, _) in self.used.items():
            ends: list[int] = []
            for path, weak in self._walk(bit, mild):
                opened = self.opened.get((context, path[-1]))
                if opened is not None and not (weak and opened[0]) and path[-1] not in ends:
                    ends.append(path[-1])
                    yield context, path

    def _walk(self, start: int, weak: bool) -> Iterator[tuple[list[int], bool]]:
        """Breadth first along strong paths: each with whether a recursive read reached its end."""
        queue = [([start], weak)]
        seen = {(start, weak): None}
        for path, weak in queue:
            yield path, weak
            for new, types in self._types.get(path[-1], {}).items():
                for type in range(PASSING + 1):
                    state = (new, weak if self._old else bool(type & ASKED_RECURSIVE))
                    if (
                        types >> type & 1
                        and not (weak and type & HELD_SHARED)
                        and state not in seen
                    ):
                        seen[state] = None
                        queue.append(([*path, new], state[1]))
