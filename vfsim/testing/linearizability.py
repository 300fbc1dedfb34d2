"""Linearizability: whether what concurrent calls answered could have come from one order of them.

A history is what a run leaves: each call with its process, its outcome, and when it was made and
returned.  It is linearizable if the calls can be put in one order that the sequential model
explains, in which no call stands before one that had returned when it was made::

    history = [Operation(0, Call("mkdir", ("/d", 0o755)), Outcome(0), 0, 3), ...]
    verdict = check_linearizable(history, model)
    assert verdict, verdict.text()

The search is Wing and Gong's with Lowe's memo: depth first over "which call is next", and no state
(tree, calls done) is entered twice.  Two things make it fast.  A call that fits now and changes
nothing is taken at once: whatever could follow without it can follow with it.  And a history falls
apart into the parts of the tree that its calls touch, where that is sound (`partition`).

Linux's calls are not quite atomic: a path is walked component by component, a read copies page by
page, O_TRUNC truncates after opening.  So a history that no order of *whole* calls explains is
tried again with each call as the steps that `vfsim.testing.model` makes of it, in turns with those
of the others.  Only what fails this too is refused.  ``atomic=True`` insists on whole calls.

Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for
linearizability" (2017); Horn and Kroening, "Faster linearizability checking via
P-compositionality" (2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.testing.model import (
    Call,
    Model,
    Tree,
    agrees,
    differences,
    start,
    step,
    tree_descriptors,
    tree_snapshot,
)
from vfsim.testing.model.tree import ROOT, SYMLINK, Busy, Who
from vfsim.testing.model.walk import component
from vfsim.testing.scenario import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vfsim.testing.model import Line, Snapshot
    from vfsim.testing.model.walk import Then

LIMIT = 50_000
"""States after which a search gives up and says that it does not know."""


@attrs.frozen
class Operation:
    """A call that was made.

    Attributes:
        process: who made it; the calls of a process follow one another.
        call: what.
        outcome: what it came to.
        invoked, returned: when, on a clock that counts such events.
    """

    process: int
    call: Call
    outcome: Outcome
    invoked: int
    returned: int

    def __str__(self) -> str:
        return f"{self.process}: {self.call} = {self.outcome}"


@attrs.frozen
class Final:
    """What is seen when all calls have returned.

    Attributes:
        tree: every name, as `vfsim.testing.model.snapshot` tells it.
        descriptors: what each process sees through its descriptors.
    """

    tree: Snapshot
    descriptors: Mapping[int, Mapping[int, Line]] = attrs.Factory(dict)


@attrs.frozen
class Verdict:
    """What came of a check; true if the history may stand.

    Attributes:
        linearizable: some order explains it.
        order: the calls in that order, or the longest order that goes well.
        model: the model after it, if there is an order.
        stuck: the calls that do not fit behind ``order``, each with what it should have answered.
        decided: False if the search gave up: then nobody knows, and the history may stand.
        states: how many states were entered.
        wrong_end: why no complete order does, if only what was seen in the end is wrong.
    """

    linearizable: bool
    order: tuple[Operation, ...]
    model: Model | None = None
    stuck: tuple[tuple[Operation, Outcome | None], ...] = ()
    decided: bool = True
    states: int = 0
    wrong_end: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.linearizable or not self.decided

    def text(self) -> str:
        """The verdict for people: the longest order that goes well, and what does not fit."""
        if self.linearizable:
            return f"linearizable: {_listed(self.order)}"
        if not self.decided:
            return f"not decided within {self.states:,} states"
        lines = ["no order of the calls explains what they answered."]
        if self.order:
            lines.append("  this far an order goes well:")
            lines += [f"    {operation}" for operation in self.order]
        for operation, expected in self.stuck:
            why = "it would wait for ever" if expected is None else f"it would be {expected}"
            lines.append(f"  then {operation} does not fit: {why}")
        lines += [f"  in the end, {line}" for line in self.wrong_end]
        return "\n".join(lines)


def _listed(operations: Sequence[Operation]) -> str:
    return "; ".join(map(str, operations)) or "no calls"


def check_linearizable(
    history: Sequence[Operation],
    model: Model | None = None,
    final: Final | None = None,
    *,
    atomic: bool = False,
    limit: int = LIMIT,
) -> Verdict:
    """Whether some order of a history's calls explains it.

    Args:
        history: the calls, in any order.
        model: as it was before them; it is not changed.  An empty filesystem without one.
        final: what was seen when all had returned; without it, anything goes.
        atomic: insist that each call happens at one moment.
        limit: of states; beyond, the verdict is "not decided".

    Raises:
        ValueError: a call the model does not know, one that returned before it was made, or two
            of a process that overlap.
    """
    _check(history)
    model = model or Model()
    order: tuple[Operation, ...] = ()
    states = 0
    for part in partition(history, model.tree):
        verdict = _Search(part, model, final, True, limit).verdict()
        if not verdict.linearizable and not atomic:
            verdict = _Search(part, model, final, False, limit).verdict()
        order += verdict.order
        states += verdict.states
        if verdict.model is None:
            return attrs.evolve(verdict, states=states)
        model = verdict.model
    wrong = _wrong_end(model.tree, final) if final is not None else []
    if wrong:
        return Verdict(False, order, states=states, wrong_end=tuple(wrong))
    return Verdict(True, order, model, states=states)


def _check(history: Sequence[Operation]) -> None:
    last: dict[int, Operation] = {}
    for operation in sorted(history, key=lambda o: o.invoked):
        start(operation.call)
        if operation.returned <= operation.invoked:
            raise ValueError(f"{operation} returned before it was made")
        before = last.get(operation.process)
        if before is not None and before.returned >= operation.invoked:
            raise ValueError(f"one process made {before.call} and {operation.call} at once")
        last[operation.process] = operation


def _wrong_end(tree: Tree, final: Final, part: Part | None = None) -> list[str]:
    """How a tree differs from what was seen in the end, as far as a part is about it."""
    have, seen = tree_snapshot(tree), final.tree
    if part is not None and part.tops is not None:
        have, seen = _below(have, part.tops), _below(seen, part.tops)
    told = differences(have, seen, tree.traits)
    for pid, lines in final.descriptors.items():
        if part is None or part.tops is None or pid in part.processes:
            mine = tree_descriptors(tree, pid)
            told += [
                f"descriptor {fd} of {pid}: should be {mine.get(fd)}, is {line}"
                for fd, line in lines.items()
                if mine.get(fd) != line
            ]
    return told


def _below(lines: Snapshot, tops: frozenset[str]) -> Snapshot:
    """The lines of some names of the root directory, and of what is below them."""
    return {path: line for path, line in lines.items() if path.split("/")[1] in tops}


# The search.  ------------------------------------------------------------------------------------


class _Search:
    """One search.

    ``begun`` holds the next step of each call in progress, by number; ``done`` is a set of bits.
    """

    def __init__(
        self,
        part: Part,
        model: Model,
        final: Final | None,
        atomic: bool,
        limit: int,
    ) -> None:
        self.part = part
        self.history = sorted(part.history, key=lambda o: (o.returned, o.process))
        self.tree = model.tree
        self.first_id = model.last_id + 1
        self.final = final
        self.atomic = atomic
        self.limit = limit
        self.seen: set[object] = set()
        self.before = [
            sum(1 << j for j, b in enumerate(self.history) if b.returned < a.invoked)
            for a in self.history
        ]
        self.all = (1 << len(self.history)) - 1
        self.best: list[int] = []
        self.best_state: tuple[Tree, int, dict[int, Then]] = (self.tree, 0, {})
        self.best_end: tuple[str, ...] = ()

    def verdict(self) -> Verdict:
        """Search, and tell."""
        found = self._go()
        order = tuple(self.history[i] for i in (self.best if found is None else found[1]))
        states = len(self.seen)
        if found is not None:
            model = Model(found[0])
            model.last_id = self.first_id + len(self.history)
            return Verdict(True, order, model, states=states)
        decided = states < self.limit
        return Verdict(False, order, None, tuple(self._stuck()), decided, states, self.best_end)

    def _go(self) -> tuple[Tree, list[int]] | None:
        """Depth first, with the way on a stack of our own: histories may be long."""
        if not self.all:
            return (self.tree, []) if self._fits(self.tree) else None
        self._enter(self.tree, 0, {})
        nothing: list[int] = []
        stack = [(self._moves(self.tree, 0, {}), nothing)]
        while stack and len(self.seen) < self.limit:
            moves, order = stack[-1]
            move = next(moves, None)
            if move is None:
                stack.pop()
                continue
            tree, done, begun, ended = move
            if not self._enter(tree, done, begun):
                continue
            order = [*order, ended] if ended >= 0 else order
            if len(order) > len(self.best):
                self.best, self.best_state = order, (tree, done, begun)
            if done == self.all:
                if self._fits(tree):
                    return tree, order
                continue
            stack.append((self._moves(tree, done, begun), order))
        return None

    def _enter(self, tree: Tree, done: int, begun: dict[int, Then]) -> bool:
        """Whether this state is new."""
        key = (done, frozenset(begun.items()), tree.key())
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def _moves(
        self, tree: Tree, done: int, begun: dict[int, Then]
    ) -> Iterator[tuple[Tree, int, dict[int, Then], int]]:
        """Where one can go from here, and which call that ends (-1: none).

        If some call fits that changes nothing, that is the only way worth going.
        """
        ways = []
        for i, then in self._candidates(done, begun):
            try:
                after, result = self._advance(tree, i, then)
            except Busy:
                continue
            if not isinstance(result, Outcome):
                ways.append((after, done, {**begun, i: result}, -1))
            elif self._agrees(i, result):
                rest = {j: t for j, t in begun.items() if j != i}
                way = (after, done | 1 << i, rest, i)
                if not after.changed:
                    yield way
                    return
                ways.append(way)
        yield from ways

    def _candidates(self, done: int, begun: dict[int, Then]) -> Iterator[tuple[int, Then]]:
        """The calls that may go on or begin now, with their next steps."""
        for i, operation in enumerate(self.history):
            if done >> i & 1:
                continue
            if i in begun:
                yield i, begun[i]
            elif not self.before[i] & ~done:
                yield i, start(operation.call, operation.outcome, self.tree.traits)

    def _advance(self, tree: Tree, i: int, then: Then) -> tuple[Tree, Then | Outcome]:
        """One step of a call, or all of them if calls are atomic.

        How a call begins says only where its path is to be walked from: that needs no moment.
        """
        operation = self.history[i]
        who = Who(operation.process, self.first_id + i, operation.outcome)
        changed = False
        begins = then.do is not component
        result: Then | Outcome = then
        while not isinstance(result, Outcome):
            tree, result = step(tree, who, result)
            changed = changed or tree.changed
            if not (self.atomic or (begins and _walks(result))):
                break
            begins = False
        tree.changed = changed
        return tree, result

    def _agrees(self, i: int, result: Outcome) -> bool:
        operation = self.history[i]
        return agrees(operation.call, result, operation.outcome, self.tree.traits, alone=False)

    def _fits(self, tree: Tree) -> bool:
        """Whether a tree is what was seen in the end."""
        if self.final is None:
            return True
        wrong = _wrong_end(tree, self.final, self.part)
        self.best_end = self.best_end or tuple(wrong)
        return not wrong

    def _stuck(self) -> Iterator[tuple[Operation, Outcome | None]]:
        """The calls that could come next in the best state, and what each would answer."""
        tree, done, begun = self.best_state
        for i, then in self._candidates(done, begun):
            result: Then | Outcome | None = then
            here = tree
            who = Who(self.history[i].process, self.first_id + i, self.history[i].outcome)
            try:
                while result is not None and not isinstance(result, Outcome):
                    here, result = step(here, who, result)
            except Busy:
                result = None
            if result is None or not self._agrees(i, result):
                yield self.history[i], result


def _walks(then: Then | Outcome) -> bool:
    """Whether the next step is to look a component up."""
    return not isinstance(then, Outcome) and then.do is component


# Parts.  -----------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    """A part of a history that has nothing to do with the rest.

    Attributes:
        history: its calls.
        tops: the names in the root directory that it is about; None: all of them.
        processes: whose descriptors it is about, unless ``tops`` is None.
    """

    history: Sequence[Operation]
    tops: frozenset[str] | None = None
    processes: frozenset[int] = frozenset()


_BY_PATH = frozenset(
    ("stat", "lstat", "mkdir", "rmdir", "unlink", "rename", "renameat2", "link", "readlink",
     "listdir", "chmod", "chown", "lchown", "truncate")
)  # fmt: skip
_BY_DESCRIPTOR = frozenset(
    ("open", "close", "dup", "read", "pread", "write", "pwrite", "lseek", "fstat", "ftruncate",
     "fsync", "fchmod")
)  # fmt: skip
_TWO_PATHS = frozenset(("rename", "renameat2", "link"))


def partition(history: Sequence[Operation], tree: Tree) -> list[Part]:
    """The parts of a history; the whole of it if they cannot be told apart.

    Two calls belong together if their paths begin with the same name, if both use descriptors in
    one process (the lowest free one depends on all of them), or if what they begin with leads to
    one file.  That is sound only while no path leads out of what it begins with and nothing is
    said about the root itself: so a symbolic link, a relative path, ``..``, the root, a change of
    credentials or of the working directory anywhere make it one part.
    """
    whole = [Part(history)]
    if any(node.kind == SYMLINK for node in tree.nodes.values()):
        return whole
    groups = _Groups()
    for top, ino in tree.nodes[ROOT].entries:
        _join_files(tree, groups, ("top", top), ino)
    for pid, proc in tree.procs.items():
        for number in filter(None, proc.fds):
            groups.join(("process", pid), ("file", tree.files[number].ino))
    mine: list[_Key] = []
    for operation in history:
        keys = _keys(operation)
        if not keys:
            return whole
        for key in keys:
            groups.join(keys[0], key)
        mine.append(keys[0])
    parts: dict[_Key, list[Operation]] = {}
    for key, operation in zip(mine, history, strict=True):
        parts.setdefault(groups.leader(key), []).append(operation)
    return [
        Part(operations, groups.names("top", key), groups.names("process", key))
        for key, operations in parts.items()
    ]


_Key = tuple[str, Any]


class _Groups:
    """Disjoint sets of keys."""

    def __init__(self) -> None:
        self.above: dict[_Key, _Key] = {}

    def leader(self, key: _Key) -> _Key:
        while self.above.setdefault(key, key) != key:
            key = self.above[key]
        return key

    def join(self, one: _Key, other: _Key) -> None:
        self.above[self.leader(other)] = self.leader(one)

    def names(self, what: str, leader: _Key) -> frozenset[Any]:
        """The members of one kind in a set."""
        return frozenset(
            key[1] for key in list(self.above) if key[0] == what and self.leader(key) == leader
        )


def _join_files(tree: Tree, groups: _Groups, top: _Key, ino: int) -> None:
    """A name in the root belongs to every file below it."""
    groups.join(top, ("file", ino))
    for _, child in tree.nodes[ino].entries:
        _join_files(tree, groups, top, child)


def _keys(operation: Operation) -> list[_Key]:
    """What a call touches: names in the root directory, its process's descriptors.

    None if that cannot be told.
    """
    name, args = operation.call.name, operation.call.args
    if name not in _BY_PATH and name not in _BY_DESCRIPTOR:
        return []
    keys: list[_Key] = [("process", operation.process)] if name in _BY_DESCRIPTOR else []
    for path in args[: 2 if name in _TWO_PATHS else 1]:
        if isinstance(path, str):
            parts = [part for part in path.split("/") if part]
            if not path.startswith("/") or not parts or ".." in parts or "." in parts:
                return []
            keys.append(("top", parts[0]))
    return keys


__all__ = ["LIMIT", "Final", "Operation", "Part", "Verdict", "check_linearizable", "partition"]
