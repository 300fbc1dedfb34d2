"""Linearizability: the verdicts, their reasons, and brute force over all orders as the judge."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vfsim.testing import linearizability
from vfsim.testing import strategies as vst
from vfsim.testing.linearizability import (
    Final,
    Operation,
    Part,
    check_linearizable,
    partition,
)
from vfsim.testing.model import Call, Model, agrees
from vfsim.testing.scenario import Outcome

OK = Outcome(0)
FD = Outcome(0, 0)
QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def no(name: str) -> Outcome:
    return Outcome(getattr(errno, name))


def op(process: int, when: tuple[int, int], outcome: Outcome, name: str, *args: Any) -> Operation:
    return Operation(process, Call(name, args), outcome, *when)


def model(*calls: tuple[Any, ...]) -> Model:
    """A model in which these calls were made by nobody in particular."""
    made = Model()
    for name, *args in calls:
        assert made.run(Call(name, tuple(args)), 99).ok
    return made


# Verdicts.  --------------------------------------------------------------------------------------


def test_an_order_is_found_and_told() -> None:
    """Calls that overlap may be explained in another order than they returned in."""
    history = [
        op(0, (0, 10), OK, "mkdir", "/d", 0o755),
        op(1, (1, 5), OK, "rmdir", "/d"),
    ]
    verdict = check_linearizable(history)
    assert verdict
    assert [o.call.name for o in verdict.order] == ["mkdir", "rmdir"]
    assert verdict.model is not None and "/d" not in verdict.model.snapshot()


def test_the_order_of_what_did_not_overlap_is_kept() -> None:
    """A call that had returned stands before every call made later."""
    history = [
        op(0, (0, 1), OK, "mkdir", "/d", 0o755),
        op(1, (2, 3), no("ENOENT"), "rmdir", "/d"),
    ]
    verdict = check_linearizable(history)
    assert not verdict
    assert verdict.text().splitlines() == [
        "no order of the calls explains what they answered.",
        "  this far an order goes well:",
        "    0: mkdir('/d', 0o755) = ok(None)",
        "  then 1: rmdir('/d') = ENOENT does not fit: it would be ok(None)",
    ]


def test_two_winners_are_refused() -> None:
    """Only one of two processes can create a name exclusively."""
    flags = os.O_CREAT | os.O_EXCL
    history = [op(i, (i, 10 + i), FD, "open", "/f", flags, 0o644) for i in range(2)]
    verdict = check_linearizable(history)
    assert not verdict
    assert "= ok(0) does not fit: it would be EEXIST" in verdict.text()


def test_a_lost_update_is_refused() -> None:
    """Two appends that both succeed leave both their data."""
    before = model(("open", "/f", os.O_CREAT, 0o644))
    history: list[Operation] = []
    for i in (0, 1):
        history += [
            op(i, (10 * i, 10 * i + 1), FD, "open", "/f", os.O_WRONLY | os.O_APPEND, 0),
            op(i, (20 + i, 30 + i), Outcome(0, 1), "write", 0, b"xy"[i : i + 1]),
        ]
    after = before.snapshot()
    for content, legal in ((b"xy", True), (b"yx", True), (b"x", False), (b"y", False)):
        line = after["/f"]
        final = Final({**after, "/f": (*line[:5], len(content), content, "")})
        verdict = check_linearizable(history, before, final)
        assert bool(verdict) == legal
    assert "in the end, /f: should be a file" in verdict.text()


def test_descriptors_count_in_the_end() -> None:
    """A file position is part of what is seen in the end."""
    history = [
        op(0, (0, 1), FD, "open", "/f", os.O_CREAT | os.O_RDWR, 0o644),
        op(0, (2, 3), Outcome(0, 2), "write", 0, b"ab"),
    ]
    tree = {**Model().snapshot(), "/f": ("file", 0o644, 1, 0, 0, 2, b"ab", "")}
    right, wrong = (Final(tree, {0: {0: ("file", pos, 2, b"ab")}}) for pos in (2, 0))
    assert check_linearizable(history, None, right)
    refused = check_linearizable(history, None, wrong)
    assert not refused
    assert "descriptor 0 of 0" in refused.text()


def test_an_empty_history_is_judged_by_its_end() -> None:
    """Nothing was done: nothing may have changed."""
    tree = Model().snapshot()
    assert check_linearizable([], None, Final(tree))
    assert not check_linearizable([], None, Final({**tree, "/x": ("dir", 0, 2, 0, 0, 0, "", "")}))


# Calls that are not atomic.  ---------------------------------------------------------------------


def both_ways(history: list[Operation], before: Model) -> tuple[bool, bool]:
    """The verdicts on whole calls, and on calls as Linux makes them."""
    whole = check_linearizable(history, before, atomic=True)
    return bool(whole), bool(check_linearizable(history, before))


def test_a_path_is_walked_before_it_is_used() -> None:
    """A directory may be moved between the walk and the call: it is followed to its new place."""
    history = [
        op(0, (0, 20), OK, "mkdir", "/d/x", 0o755),
        op(1, (1, 2), OK, "rename", "/d", "/e"),
        op(1, (3, 4), no("ENOENT"), "stat", "/e/x"),
    ]
    assert both_ways(history, model(("mkdir", "/d", 0o755))) == (False, True)


def test_link_may_find_that_its_file_is_gone() -> None:
    """link found the file, then its name was given to another one: ENOENT, though the name was
    there all the time."""
    history = [
        op(0, (0, 20), no("ENOENT"), "link", "/a", "/c"),
        op(1, (1, 2), OK, "rename", "/b", "/a"),
    ]
    making = [("open", f"/{name}", os.O_CREAT, 0o644) for name in "ab"]
    assert both_ways(history, model(*making)) == (False, True)


def test_a_read_of_several_pages_may_see_part_of_a_write() -> None:
    """One page old, one new; but never two halves of one page."""
    before = model(("open", "/f", os.O_CREAT | os.O_RDWR, 0o644), ("write", 0, b"o" * 8192))
    opened = [
        op(0, (0, 1), FD, "open", "/f", os.O_RDWR, 0),
        op(2, (2, 3), FD, "open", "/f", os.O_RDWR, 0),
    ]
    write = op(0, (10, 20), Outcome(0, 8192), "pwrite", 0, b"n" * 8192, 0)
    for seen, verdicts in (
        (b"n" * 8192, (True, True)),
        (b"n" * 4096 + b"o" * 4096, (False, True)),
        (b"o" * 4096 + b"n" * 4096, (False, True)),
        (b"n" * 100 + b"o" * 8092, (False, False)),
    ):
        read = op(2, (11, 19), Outcome(0, seen), "pread", 0, 8192, 0)
        assert both_ways([*opened, write, read], before) == verdicts


def test_writers_exclude_one_another() -> None:
    """Two writes of several pages never mix, in whatever steps they are done."""
    before = model(("open", "/f", os.O_CREAT | os.O_RDWR, 0o644))
    history = []
    for i in (0, 1):
        data = b"xy"[i : i + 1] * 8192
        history += [
            op(i, (2 * i, 2 * i + 1), FD, "open", "/f", os.O_RDWR, 0),
            op(i, (10 + i, 20 + i), Outcome(0, 8192), "pwrite", 0, data, 0),
        ]
    line = before.snapshot()["/f"]
    for content, legal in ((b"x" * 8192, True), (b"x" * 4096 + b"y" * 4096, False)):
        tree = {**before.snapshot(), "/f": (*line[:5], 8192, content, "")}
        assert bool(check_linearizable(history, before, Final(tree))) == legal


# Against all orders.  ----------------------------------------------------------------------------


def brute_force(history: list[Operation], before: Model) -> bool:
    """Try every order of whole calls."""
    for order in itertools.permutations(history):
        if any(b.returned < a.invoked for a, b in itertools.combinations(order, 2)):
            continue
        tried = Model(before.tree)
        tried.last_id = before.last_id
        if all(
            agrees(
                o.call,
                tried.run(o.call, o.process, o.outcome),
                o.outcome,
                tried.tree.traits,
                alone=False,
            )
            for o in order
        ):
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Operation], Model]:
    """Up to four calls of three processes, answered in some order, sometimes wrongly."""
    before = Model()
    few = vst.calls(pool=("a", "b"), depth=2, most=3, edges=False)
    for call in draw(st.lists(few, max_size=4)):
        before.run(call, 9)
    made = draw(st.lists(st.tuples(st.integers(0, 2), few), min_size=1, max_size=4))
    answers = Model(before.tree)
    answers.last_id = before.last_id
    busy = dict.fromkeys(range(3), 0)
    history = []
    for place, (process, call) in enumerate(made):
        outcome = answers.run(call, process)
        if draw(st.integers(0, 5)) == 5:
            wrong = [no("ENOENT"), no("EEXIST")]
            if call.name not in ("stat", "lstat", "fstat"):  # they never succeed without a line
                wrong += [OK, FD]
            outcome = draw(st.sampled_from(wrong))
        moment = 10 * place + 10
        invoked = max(busy[process] + 1, moment - draw(st.integers(0, 30)))
        returned = max(moment, invoked) + draw(st.integers(1, 30))
        busy[process] = returned
        history.append(Operation(process, call, outcome, invoked, returned))
    return history, before


def compare_with_brute_force(examples: int) -> None:
    verdicts = {True: 0, False: 0}

    @settings(QUIET, max_examples=examples)
    @given(histories())
    def compare(drawn: tuple[list[Operation], Model]) -> None:
        history, before = drawn
        verdict = check_linearizable(history, before, atomic=True)
        assert verdict.linearizable == brute_force(history, before)
        assert verdict.linearizable <= bool(check_linearizable(history, before))
        verdicts[verdict.linearizable] += 1

    compare()
    assert min(verdicts.values()) > examples // 10


def test_verdicts_are_those_of_brute_force() -> None:
    """On random histories the search says what trying all orders says."""
    compare_with_brute_force(120)


@pytest.mark.soak
def test_verdicts_are_those_of_brute_force_for_long() -> None:
    """The same on many."""
    compare_with_brute_force(20_000)


# Parts, and size.  -------------------------------------------------------------------------------


def test_a_history_falls_into_parts() -> None:
    """Calls below different names have nothing to do with each other; one process's descriptors
    do, and so have names of one file."""
    history = [
        op(0, (0, 1), OK, "mkdir", "/a/x", 0o755),
        op(1, (2, 3), OK, "mkdir", "/b/x", 0o755),
        op(2, (4, 5), OK, "rename", "/b/x", "/c"),
        op(3, (6, 7), FD, "open", "/e", 0, 0),
        op(3, (8, 9), FD, "open", "/f", 0, 0),
    ]
    tree = model(("mkdir", "/a", 0o755)).tree
    names = [sorted(part.tops or ()) for part in partition(history, tree)]
    assert names == [["a"], ["b", "c"], ["e", "f"]]
    linked = model(("open", "/a", os.O_CREAT, 0o644), ("link", "/a", "/b")).tree
    assert len(partition(history, linked)) == 2
    one = model(("symlink", "/b", "/s")).tree
    assert len(partition(history, one)) == 1
    for leading_out in ("/a/../b", "a", "/"):
        more = [*history, op(4, (10, 11), OK, "stat", leading_out)]
        assert len(partition(more, tree)) == 1


def test_parts_change_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random histories in parts and in one piece are judged alike."""
    seen: list[bool] = []
    drawn: list[tuple[list[Operation], Model]] = []

    @settings(QUIET, max_examples=60)
    @given(histories())
    def judge(history: tuple[list[Operation], Model]) -> None:
        drawn.append(history)
        seen.append(bool(check_linearizable(*history)))

    judge()
    assert any(len(partition(h, m.tree)) > 1 for h, m in drawn)
    monkeypatch.setattr(linearizability, "partition", lambda history, tree: [Part(history)])
    assert [bool(check_linearizable(*history)) for history in drawn] == seen


def forty(names: int) -> list[Operation]:
    """Forty calls at once: as many creates as there are names succeed."""
    return [
        op(i, (i, 100 + i), OK if i < names else no("EEXIST"), "mkdir", f"/d{i % names}", 0o755)
        for i in range(40)
    ]


@pytest.mark.parametrize("names", [1, 8, 40])
def test_forty_calls_at_once(names: int) -> None:
    """They take few states, right or wrong."""
    assert check_linearizable(forty(names)).linearizable
    wrong = [*forty(names), op(40, (0, 500), OK, "rmdir", "/d0/x")]
    verdict = check_linearizable(wrong)
    assert not verdict
    assert verdict.decided
    assert verdict.states < 2_000


def test_giving_up_is_no_refusal() -> None:
    """Beyond the limit nobody knows: the verdict says so and lets the history stand."""
    wrong = [op(i, (i, 100 + i), OK, "mkdir", f"/d/{i}", 0o755) for i in range(12)]
    wrong.append(op(12, (0, 500), OK, "rmdir", "/d/x"))
    verdict = check_linearizable(wrong, model(("mkdir", "/d", 0o755)), limit=50)
    assert verdict
    assert not verdict.linearizable
    assert "not decided within 50 states" in verdict.text()


def test_impossible_histories_are_misuse() -> None:
    """A process cannot make two calls at once, and no call returns before it is made."""
    one = op(0, (0, 5), OK, "mkdir", "/d", 0o755)
    with pytest.raises(ValueError, match="one process made"):
        check_linearizable([one, op(0, (3, 7), OK, "rmdir", "/d")])
    with pytest.raises(ValueError, match="returned before"):
        check_linearizable([op(0, (5, 5), OK, "mkdir", "/d", 0o755)])
