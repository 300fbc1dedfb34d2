"""Which outcomes of a scenario are right: those that some order of its calls gives.

Nobody writes the answers down.  The calls of a scenario are run one after the other, in every
order that keeps each task's own order, on the same filesystem; whatever comes out is legal, and
nothing else is (linearizability at the granularity of calls: a task that makes one call gives
sequential consistency of whole tasks).  An outcome is what every call answered and the tree in the
end: names, types, link counts, sizes, contents, and which names are one file.

Linux itself promises less in a few places.  They are declared here, each with its reason, and
nowhere else:

W1 *reading takes no lock.*  A read that races with a write or a truncation may see part of it: the
   length may be any that some order gives, or end at a page in between, and each byte may be one
   that some order gives at its place, or zero if a truncation is among the tasks (`Step.weak`).

W2 *a path is walked before the locks are taken.*  A rename whose parent directory is moved
   meanwhile goes on with that directory where it is now, and finds out then that it would make a
   circle: EINVAL or ENOTEMPTY stand for the ENOENT that an order of whole calls gives
   (`Weak.circles`).

W3 *link finds its file before it locks.*  If the name is given to another file meanwhile and the
   one found has no name left, link says ENOENT although the name was there all the time; and if the
   very file found gets the new name, link says EEXIST although there was never a moment with both
   names (`Weak.overtaken`).

W4 *a remount counts writers.*  Whoever is in the middle of a change makes a remount to read-only
   say EBUSY, although no order of whole calls has anybody there (`Weak.busy`).

If the kernel finds fault with one of the orders (a broken rule), nobody knows what that order
should have given: there is no oracle then, and every outcome passes; the fault is reported instead.
"""

from __future__ import annotations

import itertools
from errno import errorcode
from typing import TYPE_CHECKING

import attrs

from vfsim.fs.kernel import Kernel
from vfsim.locks.completion import Completion
from vfsim.testing.scenarios.calls import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vfsim.fs.syscalls import Sys
    from vfsim.testing.scenarios.calls import Actor, Kept, Step

    Answer = str | bytes
    Mount = Callable[[Kernel], None]
    Setup = Callable[[Sys], None]

PAGE = 4096
_CIRCLES = ("EINVAL", "ENOTEMPTY")


@attrs.frozen
class Weak:
    """Where a scenario is given the room that Linux takes.

    Attributes:
        zeros: a truncation is among the tasks: a racing read may see zeroes (W1).
        circles: directories that are parents of other calls are moved (W2).
        overtaken: the number of a task that links what another task renames, and what it may then
            say (W3).
        busy: the number of a task that makes the filesystem read-only (W4).
    """

    zeros: bool = False
    circles: bool = False
    overtaken: tuple[int, str] | None = None
    busy: int | None = None

    def without(self, number: int) -> Weak:
        """The same when one of the tasks is left out."""
        overtaken, busy = self.overtaken, self.busy
        if overtaken is not None:
            task, answer = overtaken
            overtaken = None if task == number else (task - (task > number), answer)
        if busy is not None:
            busy = None if busy == number else busy - (busy > number)
        return attrs.evolve(self, overtaken=overtaken, busy=busy)

    def idle(self) -> Iterator[tuple[int, str]]:
        """The tasks that may have done nothing, each with what it says then."""
        if self.overtaken is not None:
            yield self.overtaken
        if self.busy is not None:
            yield self.busy, "EBUSY"


@attrs.frozen
class Outcome:
    """What came of one run.

    Attributes:
        answers: per task, what each of its calls answered; a call that failed is the last.
        tree: the filesystem afterwards, one line a name.
    """

    answers: tuple[tuple[Answer, ...], ...]
    tree: tuple[str, ...]

    def text(self, actors: Sequence[Actor]) -> str:
        """The outcome for people: the answers, and the names in the end."""
        told = ", ".join(
            f"{actor.name} → {'; '.join(_told(a) for a in answer) or 'nothing'}"
            for actor, answer in zip(actors, self.answers, strict=True)
        )
        return f"{told}; then {', '.join(self.tree) or 'nothing'}"


def _told(answer: Answer) -> str:
    if isinstance(answer, bytes):
        return repr(answer) if len(answer) <= 24 else f"{len(answer)} bytes {answer[:12]!r}..."
    return answer or "no names"


# Running.  -------------------------------------------------------------------------------------


def perform(sys: Sys, step: Step, kept: Kept) -> tuple[Answer, bool]:
    """Sleeps.  Do one call; its answer, and whether it failed."""
    try:
        answer = step.do(sys, kept)
    except OSError as error:
        return errorcode.get(error.errno or 0, str(error.errno)), True
    return (answer if isinstance(answer, (str, bytes)) else "ok"), False


def act(sys: Sys, actor: Actor) -> tuple[Answer, ...]:
    """Sleeps.  What a task does, from beginning to end."""
    answers: list[Answer] = []
    kept: Kept = {}
    for step in actor.steps:
        answer, failed = perform(sys, step, kept)
        answers.append(answer)
        if failed:
            break
    return tuple(answers)


def tree(sys: Sys, names: Sequence[str] = (), path: str = "/") -> tuple[str, ...]:
    """Sleeps.  Everything there is, one line a name: type, links, size, content; other names of a
    file say so.

    ``names`` are those to look for where directories cannot be listed.
    """
    first: dict[int, str] = {}
    return tuple(_walk(sys, path, names, first))


def _walk(sys: Sys, path: str, names: Sequence[str], first: dict[int, str]) -> Iterator[str]:
    for name in _listed(sys, path, names):
        full = path.rstrip("/") + "/" + name
        try:
            found = sys.lstat(full)
        except FileNotFoundError:
            yield f"{full} listed and not found"
            continue
        what = kind(found.st_mode)
        if what != "dir":
            other = first.setdefault(found.st_ino, full)
            if other != full:
                yield f"{full} = {other}"
                continue
        yield f"{full} {what} nlink={found.st_nlink}{_content(sys, full, what, found.st_size)}"
        if what == "dir":
            yield from _walk(sys, full, names, first)


def _listed(sys: Sys, path: str, names: Sequence[str]) -> list[str]:
    try:
        listed = sorted(sys.listdir(path))
    except NotADirectoryError:
        return [name for name in names if _there(sys, path.rstrip("/") + "/" + name)]
    return [name for name in listed if name != "lost+found"]


def _there(sys: Sys, path: str) -> bool:
    try:
        sys.lstat(path)
    except OSError:
        return False
    return True


def _content(sys: Sys, path: str, what: str, size: int) -> str:
    if what == "symlink":
        return f" → {sys.readlink(path)}"
    if what != "file":
        return ""
    try:
        fd = sys.open(path)
        try:
            data = sys.read(fd, size + PAGE)
        finally:
            sys.close(fd)
    except OSError as error:
        return f" unreadable: {errorcode.get(error.errno or 0)}"
    wrong = "" if len(data) == size else f" (st_size {size})"
    return f" {runs(data)}{wrong}"


def runs(data: bytes) -> str:
    """Bytes in short: what they are if few, else runs of the same byte."""
    if len(data) <= 24:
        return repr(data)[1:]
    pieces = [(byte, len(list(group))) for byte, group in itertools.groupby(data)]
    return "+".join(f"{count}x{chr(byte) if 32 <= byte < 127 else byte}" for byte, count in pieces)


def orders(lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every merge of tasks with so many calls each: per call, the task whose turn it is.

    The first are those in which whole tasks follow one another as they stand.
    """
    if not any(lengths):
        yield ()
        return
    for number, length in enumerate(lengths):
        if length:
            fewer = [n - (i == number) for i, n in enumerate(lengths)]
            for rest in orders(fewer):
                yield (number, *rest)


def in_order(
    kernel: Kernel,
    setup: Setup,
    actors: Sequence[Actor],
    order: Sequence[int],
    names: Sequence[str],
) -> Outcome:
    """Run the calls one by one, each task as a process of its own, and tell what came of it.

    ``kernel`` has the filesystem mounted.

    Raises:
        KernelBug: the kernel found fault with it.
    """
    kernel.call(setup, name="setup")
    turns = [Completion("turn") for _ in range(len(order) + 1)]
    tasks = [
        kernel.process(_taking_turns, actor, number, order, turns, name=actor.word)
        for number, actor in enumerate(actors)
    ]
    kernel.process(lambda sys: turns[0].complete(), name="starter")
    kernel.run()
    found = kernel.call(lambda sys: tree(sys, names), name="tree")
    return Outcome(tuple(task.result for task in tasks), found)


def _taking_turns(
    sys: Sys, actor: Actor, number: int, order: Sequence[int], turns: Sequence[Completion]
) -> tuple[Answer, ...]:
    """Sleeps.  Do a task's calls at its turns; once one failed, let the others pass by."""
    answers: list[Answer] = []
    kept: Kept = {}
    steps = iter(actor.steps)
    over = False
    for turn, whose in enumerate(order):
        if whose != number:
            continue
        turns[turn].wait()
        step = next(steps)
        if not over:
            answer, over = perform(sys, step, kept)
            answers.append(answer)
        turns[turn + 1].complete()
    return tuple(answers)


def legal_outcomes(
    mount: Mount, setup: Setup, actors: Sequence[Actor], weak: Weak, names: Sequence[str]
) -> list[Outcome]:
    """Every outcome that some order of the calls gives, each once, in the order in which they were
    found.

    ``mount`` puts the filesystem on a kernel that has just started.
    """
    found: dict[Outcome, None] = {}
    for order in orders([len(actor.steps) for actor in actors]):
        outcome = _try_order(mount, setup, actors, order, names)
        if outcome is None:
            return []
        found[outcome] = None
    for number, answer in weak.idle():
        for outcome in _without(mount, setup, actors, number, answer, names):
            found[outcome] = None
    return list(found)


def _without(
    mount: Mount,
    setup: Setup,
    actors: Sequence[Actor],
    number: int,
    answer: str,
    names: Sequence[str],
) -> Iterator[Outcome]:
    """The outcomes in which one task did nothing and gave that answer (W3, W4)."""
    others = [actor for i, actor in enumerate(actors) if i != number]
    for order in orders([len(actor.steps) for actor in others]):
        outcome = _try_order(mount, setup, others, order, names)
        if outcome is not None:
            answers = list(outcome.answers)
            answers.insert(number, (answer,))
            yield Outcome(tuple(answers), outcome.tree)


def _try_order(
    mount: Mount, setup: Setup, actors: Sequence[Actor], order: Sequence[int], names: Sequence[str]
) -> Outcome | None:
    """One order on a fresh kernel; None if the kernel found fault with it."""
    kernel = Kernel()
    try:
        mount(kernel)
        return in_order(kernel, setup, actors, order, names)
    except Exception:
        return None
    finally:
        kernel.machine.bury()


# Judging.  -------------------------------------------------------------------------------------


def is_legal(
    outcome: Outcome, legal: Sequence[Outcome], actors: Sequence[Actor], weak: Weak
) -> bool:
    """Whether an outcome is one of the legal ones, with the room Linux takes; anything is if there
    are none."""
    if not legal or outcome in legal:
        return True
    if weak.circles:
        outcome, legal = _circles(outcome), [_circles(o) for o in legal]
    places = [
        (i, j)
        for i, actor in enumerate(actors)
        for j, step in enumerate(actor.steps)
        if step.weak and j < len(outcome.answers[i])
    ]
    like = [o for o in legal if _blank(o, places) == _blank(outcome, places)]
    if not like:
        return False
    return all(_weakly(outcome, legal, i, j, weak.zeros) for i, j in places)


def _circles(outcome: Outcome) -> Outcome:
    """W2: the errors that a rename into a moved directory may give count as ENOENT."""
    answers = tuple(
        tuple("ENOENT" if answer in _CIRCLES else answer for answer in task)
        for task in outcome.answers
    )
    return Outcome(answers, outcome.tree)


def _blank(outcome: Outcome, places: Sequence[tuple[int, int]]) -> Outcome:
    """The outcome without the data that weak reads gave."""
    answers = tuple(
        tuple(
            b"" if (i, j) in places and isinstance(answer, bytes) else answer
            for j, answer in enumerate(task)
        )
        for i, task in enumerate(outcome.answers)
    )
    return Outcome(answers, outcome.tree)


def _weakly(outcome: Outcome, legal: Sequence[Outcome], i: int, j: int, zeros: bool) -> bool:
    """W1: whether the data that was read could be pieces of what some orders give."""
    got = outcome.answers[i][j]
    if not isinstance(got, bytes):
        return True
    whole = [
        answers[j]
        for answers in (o.answers[i] for o in legal)
        if j < len(answers) and isinstance(answers[j], bytes)
    ]
    given = [data for data in whole if isinstance(data, bytes)]
    lengths = {len(data) for data in given}
    at_page = len(got) % PAGE == 0 and min(lengths, default=0) <= len(got) <= max(
        lengths, default=0
    )
    if len(got) not in lengths and not at_page:
        return False
    return all(
        byte in {data[at] for data in given if at < len(data)} or (zeros and byte == 0)
        for at, byte in enumerate(got)
    )
