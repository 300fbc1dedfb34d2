"""The scenario library: its oracle says what Linux does, and finds what is wrong."""

from __future__ import annotations

import functools
import math
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import host

from vfsim.explore.explore import BugFound, explore, search
from vfsim.filesystems.libfs import SimpleFileOperations
from vfsim.filesystems.ramfs import RamFS
from vfsim.mm.filemap import generic_file_write
from vfsim.testing.conformance import Capabilities, KernelGround, probe
from vfsim.testing.conformance.capabilities import WORDS
from vfsim.testing.scenarios import library, oracle, scenario_library, whole
from vfsim.testing.scenarios.base import build, file, scenario
from vfsim.testing.scenarios.calls import append, create, read, rename, unlink
from vfsim.testing.scenarios.oracle import Outcome, Weak, is_legal, orders, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfsim.fs.file import Kiocb
    from vfsim.testing.scenarios.base import LibraryScenario

IMPOSSIBLE = host.possible()
asks_host = pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)
NAMES = [s.__name__ for s in library()]


@functools.cache
def on_ramfs() -> dict[str, type[LibraryScenario]]:
    """Every scenario on ramfs, which has all methods."""
    caps = probe(KernelGround(RamFS))
    return {s.__name__: s for s in scenario_library(RamFS, caps)}


def on_linux() -> dict[str, type[LibraryScenario]]:
    """Those that a test can do to the host: nobody remounts its filesystems."""
    groups = (whole.remounting, whole.binding, whole.ending)
    mounting = [s.__name__ for group in groups for s in group()]
    return {name: found for name, found in on_ramfs().items() if name not in mounting}


def legal(found: type[LibraryScenario]) -> list[Outcome]:
    """What the oracle says of a scenario."""
    program = found.program()
    return list(found.prepare(program))


# The library.  ---------------------------------------------------------------------------------


def test_library_is_whole() -> None:
    """Every pair of directory operations is there, and what else was promised."""
    assert len(NAMES) == len(set(NAMES)) >= 200
    operations = (
        "create(a)", "write(a)", "mkdir(a)", "symlink(a)", "link(x,a)", "unlink(a)", "rmdir(a)",
        "rename(a,b)", "rename(x,a)", "stat(a)", "listdir(/)", "read(a)",
    )  # fmt: skip
    looks = operations[-3:]
    for i, one in enumerate(operations):
        for other in operations[i:]:
            pair = f"{one} ∥ {other}"
            there = any(name == pair or name.startswith(pair + ",") for name in NAMES)
            assert there or (one in looks and other in looks), pair
    for name in (
        "rename(a,b) ∥ rename(b,a) ∥ stat(a)",
        "rename(a,b) ∥ unlink(a) ∥ create(a)",
        "rename(p,q/p) ∥ rename(q,p/q)",
        "append(f) ∥ truncate(f,0)",
        "fsync(f) ∥ append(f) ∥ unlink(f)",
    ):
        assert name in NAMES


def test_scenarios_name_what_they_need() -> None:
    """Every word of ``needs`` is a capability, so that nothing is left out by a typing mistake."""
    for found in library():
        assert set(found.needs.split()) <= WORDS, found.__name__  # type: ignore[attr-defined]


def test_a_poor_filesystem_gets_what_it_can_do() -> None:
    """A flat filesystem without links is asked nothing about directories and links."""
    flat = Capabilities(has=frozenset(("create", "unlink", "write", "read", "iterate")))
    names = [s.__name__ for s in scenario_library(RamFS, flat)]
    assert "create(a) ∥ unlink(a), no a" in names
    assert not [n for n in names if "mkdir" in n or "link(x" in n or "rename" in n]


# The oracle.  ----------------------------------------------------------------------------------


def test_orders_are_all_merges() -> None:
    """Every merge of the tasks comes once, and each keeps every task's own order."""
    for lengths in ((1, 1), (2, 1), (2, 2, 1), (3, 3), ()):
        found = list(orders(lengths))
        ways = math.factorial(sum(lengths))
        for length in lengths:
            ways //= math.factorial(length)
        assert len(found) == len(set(found)) == ways
        assert all(order.count(i) == n for order in found for i, n in enumerate(lengths))
    assert next(iter(orders((2, 1)))) == (0, 0, 1)


def test_the_oracle_is_no_list_of_answers() -> None:
    """The outcomes of a well-known race come out as everybody knows them."""
    found = legal(on_ramfs()["create(a) ∥ unlink(a), a is a file"])
    assert [o.text(on_ramfs()["create(a) ∥ unlink(a), a is a file"].actors) for o in found] == [
        "create(a) → EEXIST, unlink(a) → ok; then nothing",
        "create(a) → ok, unlink(a) → ok; then /a file nlink=1 ''",
    ]


def test_every_scenario_has_an_oracle() -> None:
    """On ramfs every order of every scenario ends, and some race has more than one outcome."""
    counts = [len(legal(found)) for found in on_ramfs().values()]
    assert min(counts) >= 1
    assert sum(count > 1 for count in counts) > len(counts) * 0.8


def outcome(answers: Sequence[Sequence[str | bytes]], *tree: str) -> Outcome:
    return Outcome(tuple(tuple(answer) for answer in answers), tree)


def test_weak_reads() -> None:
    """W1: a racing read may mix bytes of several orders, and nothing else."""
    actors = (read("/f"), append("/f", b"XX"))
    known = [outcome([["ok", b"oooo"], ["ok", "2"]]), outcome([["ok", b"NNNNXX"], ["ok", "2"]])]
    for data, fine in ((b"oNNo", True), (b"oNNoXX", True), (b"oNN", False), (b"oo?o", False)):
        assert is_legal(outcome([["ok", data], ["ok", "2"]]), known, actors, Weak()) is fine
    zero = outcome([["ok", b"o\0\0o"], ["ok", "2"]])
    assert not is_legal(zero, known, actors, Weak())
    assert is_legal(zero, known, actors, Weak(zeros=True))
    assert not is_legal(outcome([["ok", b"oNNo"], ["ok", "1"]]), known, actors, Weak())


def test_weak_circles() -> None:
    """W2: the loser of two directories moved into each other may hear of the circle."""
    actors = (rename("/p", "/q/p"), rename("/q", "/p/q"))
    known = [outcome([["ok"], ["ENOENT"]]), outcome([["ENOENT"], ["ok"]])]
    found = outcome([["ok"], ["EINVAL"]])
    assert not is_legal(found, known, actors, Weak())
    assert is_legal(found, known, actors, Weak(circles=True))
    assert not is_legal(outcome([["ok"], ["ok"]]), known, actors, Weak(circles=True))


def test_without_an_oracle_all_is_legal() -> None:
    """If no order came to an end there is nothing to compare with."""
    assert is_legal(outcome([["ok"]]), [], (create("/a"),), Weak())


def test_content_in_short() -> None:
    """Long contents are told as runs."""
    assert runs(b"abc") == "'abc'"
    assert runs(b"A" * 4096 + b"B" * 100 + bytes(5)) == "4096xA+100xB+5x0"


# Linux agrees.  --------------------------------------------------------------------------------


def host_order(found: type[LibraryScenario], order: Sequence[int]) -> tuple[Any, list[Any]]:
    """A step for `HostGround`: the calls of a scenario in one order; and where its outcome goes."""
    answers: list[Any] = []

    def body(sys: Any) -> None:
        build(sys, found.before)
        tasks: list[dict[str, Any]] = [{} for _ in found.actors]
        places = [os.open(".", os.O_RDONLY) for _ in found.actors]
        told: list[list[str | bytes]] = [[] for _ in found.actors]
        steps = [iter(actor.steps) for actor in found.actors]
        over = [False] * len(tasks)
        for who in order:
            step = next(steps[who])
            if not over[who]:
                os.fchdir(places[who])
                answer, over[who] = oracle.perform(sys, step, tasks[who])
                told[who].append(answer)
                places[who] = os.open(".", os.O_RDONLY)
        os.chdir("/")
        for fd in [*places, *(kept["fd"] for kept in tasks if "fd" in kept)]:
            try:
                os.close(fd)
            except OSError:
                pass
        answers.append(Outcome(tuple(tuple(t) for t in told), oracle.tree(sys)))

    return body, answers


def host_outcomes(ground: host.HostGround, found: type[LibraryScenario]) -> list[Outcome]:
    """What every order of a scenario gives on the host."""
    all: dict[Outcome, None] = {}
    for order in orders([len(actor.steps) for actor in found.actors]):
        body, answers = host_order(found, order)
        ground.run([(body, False)])
        all[answers[0]] = None
    return list(all)


def comparable(found: type[LibraryScenario], outcomes: Sequence[Outcome]) -> set[Outcome]:
    """Outcomes without what filesystems may do differently: whether the second getdents of a
    listing tells of names that came after the first."""
    listings = [i for i, a in enumerate(found.actors) if a.name.startswith("listdir")]
    return {
        Outcome(tuple(a[:1] if i in listings else a for i, a in enumerate(o.answers)), o.tree)
        for o in outcomes
    }


@asks_host
def test_orders_give_on_linux_what_they_give_here() -> None:
    """Every order of every scenario comes to the same on a tmpfs of the host as on ramfs here.

    Left out are the scenarios that ask for EXCHANGE, which the one can do and the other cannot.
    """
    chosen = {n: s for n, s in on_linux().items() if "EXCHANGE" not in n}
    theirs = host.in_child(
        host.Tmpfs(), lambda ground: [host_outcomes(ground, s) for s in chosen.values()]
    )
    for name, found in zip(chosen, theirs, strict=True):
        ours = oracle.legal_outcomes(
            chosen[name].program().mount, lambda sys, s=chosen[name]: build(sys, s.before),
            chosen[name].actors, Weak(), chosen[name]._names(),
        )  # fmt: skip
        assert comparable(chosen[name], found) == comparable(chosen[name], ours), name


def host_race(ground: host.HostGround, found: type[LibraryScenario]) -> Outcome:
    """The tasks of a scenario as processes of the host that begin at the same moment."""
    answers: list[Outcome] = []

    def body(sys: Any) -> None:
        build(sys, found.before)
        gate, opener = os.pipe()
        readers = []
        for actor in found.actors:
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.close(opener)
                os.read(gate, 1)  # until the parent closes the other end
                os.write(writer, pickle.dumps(oracle.act(sys, actor)))
                os._exit(0)
            os.close(writer)
            readers.append(reader)
        os.close(gate)
        os.close(opener)
        told = []
        for reader in readers:
            with open(reader, "rb") as stream:
                told.append(pickle.loads(stream.read()))
        for _ in found.actors:
            os.wait()
        answers.append(Outcome(tuple(told), oracle.tree(sys)))

    ground.run([(body, False)])
    return answers[0]


def host_races(ground: host.HostGround, times: int) -> list[str]:
    """Outcomes on the host that the oracle would have called wrong."""
    wrong = []
    for name, found in on_linux().items():
        known = legal(found) if "EXCHANGE" not in name else host_outcomes(ground, found)
        for _ in range(times):
            seen = host_race(ground, found)
            if not is_legal(seen, known, found.actors, found.weak):
                wrong.append(f"{name}: {seen.text(found.actors)}")
    return wrong


@asks_host
@pytest.mark.soak
@pytest.mark.parametrize("place", [host.Tmpfs, host.Plain])
def test_linux_races_within_the_oracle(place: type[host.Place]) -> None:
    """Real processes on a real kernel never come to an outcome that the oracle calls wrong."""
    for found in on_linux().values():
        legal(found)
    assert host.in_child(place(), lambda ground: host_races(ground, 30)) == []


# On simulated filesystems.  --------------------------------------------------------------------


@pytest.mark.parametrize("start", range(20))
def test_ramfs_is_clean(start: int) -> None:
    """No scenario finds anything on ramfs in its first schedules."""
    for each in list(on_ramfs().values())[start::20]:
        found = search(each.program(), schedules=6)
        assert not found.failures, found.reports()


class RacyFile(SimpleFileOperations):
    """Files that look for their end before they lock it."""

    def write_iter(self, iocb: Kiocb, data: bytes) -> int:
        file = iocb.ki_filp
        pos = file.f_inode.i_size if file.f_flags & os.O_APPEND else iocb.ki_pos
        with file.f_inode.i_rwsem:
            written = generic_file_write(file, data, pos)
        iocb.ki_pos = pos + written
        return written


class RacyFS(RamFS):
    """ramfs with such files."""

    open_file = RacyFile()


def test_a_lost_append_is_found() -> None:
    """Two appenders that read the size before they lock lose one of the two texts."""
    found = scenario(append("/f", b"one"), append("/f", b"two"), before=(file("/f", b"old"),))
    broken = type(found.__name__, (found,), {"filesystem": RacyFS, "__module__": __name__})
    with pytest.raises(BugFound) as caught:
        explore(broken, schedules=200, shrink=False)
    text = str(caught.value)
    assert "no order of the calls gives append(f) → ok; 3, append(f) → ok; 3" in text
    assert "Orders give" in text


def test_unrelated_tasks_are_clean_on_the_racy_filesystem() -> None:
    """The same filesystem is not blamed for what it does right."""
    found = scenario(create("/a"), unlink("/b"), before=(file("/b"),))
    fine = type(found.__name__, (found,), {"filesystem": RacyFS, "__module__": __name__})
    assert explore(fine, schedules=50).verdict == "clean"


def test_weak_room_is_used_only_where_declared() -> None:
    """The library gives room in few scenarios: link's in two only, a remount's in its own."""
    weak = [s for s in library() if s.weak != Weak()]  # type: ignore[attr-defined]
    assert len([s for s in weak if s.weak.busy is None]) < 12  # type: ignore[attr-defined]
    for s in weak:
        assert (s.weak.busy is None) == ("remount" not in s.__name__)  # type: ignore[attr-defined]
    assert sum(s.weak.overtaken is not None for s in weak) == 2  # type: ignore[attr-defined]
