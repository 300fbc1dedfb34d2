"""The reader/writer semaphore: parallel readers, single writers, and who goes next."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.helpers import Notes, hangs, run, seeds, step, world
from vfsim.locks.rwsem import RwSem
from vfsim.sim.scheduler import yield_
from vfsim.sim.state import K


def test_readers_share_and_writers_do_not() -> None:
    """Readers meet inside in some schedule; a writer meets nobody in any."""
    met = 0
    for seed in seeds(200):
        sem = RwSem("sem")
        inside: list[str] = []

        def reader(sem: RwSem = sem, inside: list[str] = inside) -> None:
            nonlocal met
            for _ in range(2):
                with sem.shared():
                    inside.append("r")
                    step(sem)
                    assert "w" not in inside
                    met += inside.count("r") > 1
                    inside.remove("r")

        def writer(sem: RwSem = sem, inside: list[str] = inside) -> None:
            for _ in range(2):
                with sem:
                    assert inside == []
                    inside.append("w")
                    step(sem)
                    inside.remove("w")

        run(reader, reader, writer, writer, seed=seed)
        assert not sem.is_locked()
        assert sem.statistics() == {"owner": None, "readers": [], "waiting": 0}
    assert met > 50


def test_a_reader_waits_behind_a_queued_writer() -> None:
    """Reading twice is a deadlock as soon as a writer comes in between; without one it is not."""
    sem = RwSem("sem")

    def twice() -> None:
        sem.down_read()
        yield_()
        sem.down_read()
        sem.up_read()
        sem.up_read()

    def writer() -> None:
        with sem:
            pass

    run(twice)
    assert hangs(twice, writer)


def test_downgrade() -> None:
    """A downgraded writer reads on without a gap, and readers join it."""
    for seed in seeds(100):
        sem = RwSem("sem")
        value: list[int] = [0]

        def writer(sem: RwSem = sem, value: list[int] = value) -> None:
            sem.down_write()
            step(sem)
            value[0] += 1
            mine = value[0]
            sem.downgrade_write()
            assert K.cur in sem.readers
            step(sem)
            assert value[0] == mine
            sem.up_read()

        def reader(sem: RwSem = sem) -> None:
            with sem.shared():
                step(sem)

        run(writer, writer, reader, seed=seed)
        assert value == [2]


def test_readers_join_a_downgraded_writer() -> None:
    """A reader that waited for the writer goes on while the writer still reads."""
    sem = RwSem("sem")
    joined: list[int] = []

    def writer() -> None:
        sem.down_write()
        yield_()
        sem.downgrade_write()
        yield_()
        joined.append(len(sem.readers))
        sem.up_read()

    def reader() -> None:
        sem.down_read()
        yield_()
        sem.up_read()

    run(writer, reader)
    assert joined == [2]


def test_trylocks() -> None:
    """A read trylock fails while a writer has it or waits; a write trylock whenever it is held."""
    sem = RwSem("sem")
    answers: list[bool] = []

    def reader() -> None:
        sem.down_read()
        yield_()
        yield_()
        answers.append(sem.down_write_trylock())
        sem.up_read()

    def writer() -> None:
        sem.down_write()
        sem.up_write()

    def tryer() -> None:
        answers.append(sem.down_read_trylock())

    run(reader, tryer)
    assert answers == [True, False]
    sem = RwSem("sem")
    answers.clear()
    run(reader, writer, tryer)
    assert answers == [False, False]


def test_wrong_releases() -> None:
    """Each mode must be released as it was taken."""
    notes = Notes()
    sem = RwSem("sem")

    def body() -> None:
        sem.down_read()
        sem.up_write()
        sem.downgrade_write()
        sem.up_read()
        sem.down_write()
        sem.up_read()
        sem.up_write()

    run(body, judge=notes)
    assert notes.seen == ["not held"] * 3
    assert not sem.is_locked()


@pytest.mark.parametrize("greedy_reads", [False, True])
@pytest.mark.parametrize("modest_reads", [False, True])
def test_nobody_starves(greedy_reads: bool, modest_reads: bool) -> None:
    """Whoever was overtaken once is handed the lock, in whichever mode it waits."""
    if greedy_reads and modest_reads:
        return
    sem = RwSem("sem")
    rounds: list[int] = []
    done: list[bool] = []

    def take(shared: bool) -> Any:
        return sem.shared() if shared else sem

    def greedy() -> None:
        for i in range(50):
            with take(greedy_reads):
                yield_()
            if not done:
                rounds.append(i)

    def modest() -> None:
        with take(modest_reads):
            done.append(True)
            assert K.cur in sem.readers if modest_reads else sem.owner is K.cur

    run(greedy, greedy, modest, modest)
    assert len(rounds) <= 8
    assert len(done) == 2
    assert not sem.is_locked()


def test_a_mix_of_everything_ends() -> None:
    """Readers, writers, downgraders and trylocks together: no wake-up is lost."""
    for seed in seeds(200):
        sem = RwSem("sem")

        def body(sem: RwSem = sem) -> None:
            for _ in range(3):
                what = K.machine.choose("what", 4)
                if what == 0:
                    sem.down_write()
                    step(sem)
                    sem.up_write()
                elif what == 1:
                    sem.down_write()
                    step(sem)
                    sem.downgrade_write()
                    step(sem)
                    sem.up_read()
                elif what == 2:
                    sem.down_read()
                    step(sem)
                    sem.up_read()
                elif sem.down_read_trylock():
                    step(sem)
                    sem.up_read()

        run(*[body] * 5, seed=seed)
        assert sem.readers == {}
        assert sem.owner is None
        assert not sem.waiters


def test_it_names_its_readers() -> None:
    """``repr`` and ``statistics`` tell who reads, who writes and how many wait."""
    sem = RwSem("sem")
    seen: list[str] = []

    def reader() -> None:
        with sem.shared():
            yield_()
            seen.append(repr(sem))
            seen.extend(sem.statistics()["readers"])

    with world() as machine:
        machine.spawn(reader, name="r1")
        machine.spawn(reader, name="r2")
        machine.run()
    assert seen[:3] == ["<RwSem sem, read by r1, r2, 0 waiting>", "r1", "r2"]
