"""The nearest run that passes: where it goes another way, said in a sentence and marked."""

from __future__ import annotations

import re

import pytest
from kernels import KERNELS, Kernel, bluetooth, reorder, wronglock

from vfsim.explore.execute import execute
from vfsim.explore.explore import explore, search
from vfsim.explore.failure import Failure
from vfsim.explore.nearest import UNKNOWN
from vfsim.explore.parting import part
from vfsim.explore.program import FunctionProgram
from vfsim.explore.replay import replay
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.token import decode
from vfsim.sim.trace import Trace


def found(kernel: Kernel) -> Failure:
    """The first failure of a kernel, shrunk."""
    return search(FunctionProgram(kernel), schedules=200, shrink=True).failures[0]


def story(failure: Failure) -> list[str]:
    return failure.report[failure.report.index("how it happened") :].splitlines()


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        (reorder(3), r"setter \d goes on and writes [ab].value; in this one looker reads it"),
        (bluetooth, r"work goes on and reads pending.value; in this one stop writes it"),
        (wronglock(2), r"stranger goes on and writes cell.value; in this one adder 0 reads it"),
    ],
)
def test_the_first_difference_is_two_operations_on_one_thing(kernel: Kernel, sentence: str) -> None:
    """What the one would have done, and what the other did before."""
    text = " ".join(line.strip() for line in story(found(kernel))[1:4])
    assert re.match(f"a passing run differs first here: {sentence} before ", text), text


@pytest.mark.parametrize("name", list(KERNELS))
def test_what_the_sentence_speaks_of_is_marked(name: str) -> None:
    """One or two rows of the columns, unless no deviation is needed."""
    failure = found(KERNELS[name])
    text = " ".join(line.strip() for line in story(failure)[1:4])
    assert "goes on and ;" not in text
    marked = sum(">> " in line for line in story(failure))
    deviations = len(decode(failure.token).deviations)
    assert marked in (1, 2) if deviations else marked == 0
    assert f", {deviations} deviation{'s' * (deviations != 1)}, reproduced 10/10" in failure.report


def test_the_size_stands_under_the_token() -> None:
    """In the fifth part, and the five parts are in order."""
    lines = found(bluetooth).report.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  vfsim replay vf1."))
    assert lines[at + 1] == "  minimal: 2 tasks, 1 deviation, reproduced 10/10"
    parts = ["who and when", "held and waited for", "the rule", "to see it again"]
    places = [lines.index(part) for part in [*parts, "how it happened"]]
    assert places == sorted(places)


def test_a_failure_that_needs_no_schedule_says_so() -> None:
    """If it fails in the quietest schedule, there is nothing to compare it with."""

    failure = found(KERNELS["philo5"])
    assert failure.violation.rule == "lockdep.circular"
    assert "it needs no deviation" in story(failure)[1]


def test_a_replay_tells_the_same() -> None:
    """The token of a shrunk run brings back its report, to the letter."""
    for kernel in (bluetooth, reorder(3)):
        failure = found(kernel)
        result = replay(decode(failure.token), FunctionProgram(kernel))
        assert result.exact and [f.report for f in result.failures] == [failure.report]


def test_without_shrinking_the_run_stays_as_it_was_found() -> None:
    """The first report is of the run that the search met, with all its deviations."""
    program = FunctionProgram(KERNELS["lost update + noise"])
    one = search(program, schedules=50, strategy="random").failures[0]
    with pytest.raises(AssertionError) as caught:
        explore(KERNELS["lost update + noise"], schedules=50, strategy="random", shrink=False)
    assert one.token in str(caught.value)
    assert len(decode(one.token).deviations) > 10 and "minimal" not in one.report


def test_equal_runs_do_not_part() -> None:
    """Two traces of one schedule have no first difference, and what is unknown is not told."""
    traces = [Trace(stacks=False), Trace(stacks=False)]
    for trace in traces:
        execute(FunctionProgram(bluetooth), Replay([]), trace)
    assert part(*traces) is None
    assert UNKNOWN.size(traces[0]) == "" and UNKNOWN.parting(traces[0]) is None
