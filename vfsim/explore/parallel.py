"""Work in several processes, with the results of one.

`in_order` runs numbered pieces of work and yields what they return in the order of their numbers;
whoever consumes them decides when to stop.  A piece depends on its number only, so ``--jobs``
changes nothing but the time.  What pieces count of the contract's coverage is added up in the
parent.

Processes are forked, because a scenario may be a function that cannot be sent.  No task is alive at
that moment.

`Batch` is the schedules of one exploration.  Where the searcher is parallel they are such pieces;
otherwise they run here, one after the other.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from vfsim.checks.counters import Counts, add_counts, counts, difference
from vfsim.explore.execute import Run, execute
from vfsim.explore.observe import EVERY, Observer, Observing, Seen
from vfsim.explore.record import Recorder
from vfsim.explore.watch import INTERRUPTED, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from vfsim.explore.program import Program
    from vfsim.explore.searcher import Searcher
    from vfsim.sim.trace import Trace

R = TypeVar("R")

CHUNK = 20
"""Schedules between two looks at whether there were enough: also what is one piece of work."""


class EngineError(Exception):
    """vfsim's own fault: a run could not be repeated, or a process died."""


def in_order(work: Callable[[int, Watch], R], pieces: int, jobs: int, watch: Watch) -> Iterator[R]:
    """What ``work`` returns for each number below ``pieces``, in order, until Ctrl-C.

    Raises:
        EngineError: one of the processes died.
    """
    if jobs > 1 and pieces > 1:
        yield from _forked(work, pieces, min(jobs, pieces), watch)
        return
    for number in range(pieces):
        if watch.interrupted:
            return
        yield work(number, watch)


_work: Callable[[int, Watch], Any]
"""In a forked process: what it does."""

_first: Watch
"""In a forked process: the watch of the parent, who is told of Ctrl-C."""


def _forked(work: Callable[[int, Watch], R], pieces: int, jobs: int, watch: Watch) -> Iterator[R]:
    global _first, _work
    _first, _work = watch, work
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _begin)
    waiting: deque[Future[tuple[R, Counts]]] = deque()
    try:
        for number in range(pieces):
            waiting.append(pool.submit(_piece, number))
            if len(waiting) > 2 * jobs:
                yield _collect(waiting.popleft())
            if watch.interrupted:
                break
        while waiting:
            yield _collect(waiting.popleft())  # after Ctrl-C it is short: what there is
    except BrokenProcessPool:
        raise EngineError("one of the processes that shared the work died; try --jobs 1") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(future: Future[tuple[R, Counts]]) -> R:
    result, counted = future.result()
    add_counts(counted)
    return result


def _begin() -> None:
    """In a new process: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _piece(number: int) -> tuple[Any, Counts]:
    """In a forked process: one piece of work, and what it covered."""
    before = counts()
    with Watch(first=_first) as watch:
        result = _work(number, watch)
    return result, difference(counts(), before)


# -- the schedules of one exploration --------------------------------------------------------------


@attrs.define
class Batch:
    """The schedules of one exploration, by number.

    Attributes:
        searcher: makes the strategy of each.
        seed: of the search, for tokens.
        watch: keeps runaway schedules and Ctrl-C in hand.
        races: look for races.
        observer: looks at what the schedules show, if somebody wants to know.
    """

    program: Program
    searcher: Searcher
    seed: int
    max_steps: int
    watch: Watch
    races: bool = True
    observer: Observer | None = None

    def one(self, index: int, trace: Trace | None = None, watch: Watch | None = None) -> Run | None:
        """Run schedule number ``index``; None: there is no such schedule, nor any after it."""
        strategy = self.searcher.strategy(index)
        if strategy is None:
            return None
        (watch or self.watch).begin()
        if self.observer is None or isinstance(strategy, Recorder):
            run = execute(self.program, strategy, trace, self.max_steps, races=self.races)
            if run.interleaving is not None:
                run.seen = Seen(run.interleaving)
            return run
        observing = Observing(strategy, self.observer, index % EVERY == 0, index)
        run = execute(self.program, observing, trace, self.max_steps, observing.inspect, self.races)
        run.seen = observing.seen()
        return run

    def cut(self, run: Run) -> bool:
        """Whether Ctrl-C was pressed by now, so that this run may be incomplete."""
        return self.watch.interrupted or INTERRUPTED in run.violations


def runs(batch: Batch, start: int, stop: int, jobs: int) -> Iterator[list[Run]]:
    """The runs numbered from ``start`` to ``stop``, in order, some at a time, while there are any.

    Each is learned from before the next is asked for, unless the searcher is parallel.
    """
    if batch.searcher.parallel:
        yield from _shared_out(batch, start, stop, jobs)
        return
    for index in range(start, stop):
        run = batch.one(index)
        if run is None:
            return
        if not batch.cut(run):
            batch.searcher.learn(index, run)
        yield [run]
        if batch.watch.interrupted:
            return


def _shared_out(batch: Batch, start: int, stop: int, jobs: int) -> Iterator[list[Run]]:
    def chunk(number: int, watch: Watch) -> list[Run]:
        first = start + number * CHUNK
        done = []
        for index in range(first, min(first + CHUNK, stop)):
            run = batch.one(index, None, watch)
            if run is None:
                break
            done.append(run if jobs == 1 or run.violations else run.slim())
            if watch.interrupted:
                break
        return done

    for done in in_order(chunk, -(-(stop - start) // CHUNK), jobs, batch.watch):
        if not done:
            return
        yield done
