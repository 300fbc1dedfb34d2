"""The benchmark of search: every kernel has its bug, its twin has none, and counting is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sct import __main__ as command
from benchmarks.sct import textbook, vfs
from benchmarks.sct.kernel import MODES, Kernel
from benchmarks.sct.trial import Result, measure
from vfsim.explore.execute import execute
from vfsim.explore.strategies.pos import POS

KERNELS = (*textbook.KERNELS, *vfs.KERNELS)
# staged orders that POS is not good at need others when tasks are spawned one by one
HARD = {
    "reorder_10": "urw", "reorder_20": "urw", "twostage_20": "urw", "endio_lock": "irq_sweep",
    "seqlock_irqs_on": "irq_sweep",
}  # fmt: skip


def ids(kernel: Kernel) -> str:
    return kernel.name


@pytest.mark.parametrize("kernel", KERNELS, ids=ids)
@pytest.mark.parametrize("mode", MODES)
def test_the_bug_is_there(kernel: Kernel, mode: str) -> None:
    """A strategy that is good at it finds the bug, and it breaks the rule that it says."""
    strategy = HARD.get(kernel.name, "pos")
    result = measure(kernel, mode, strategy, trials=1, cap=3000)
    assert result.found == 1 and result.counts[0] == result.schedules


@pytest.mark.parametrize("kernel", KERNELS, ids=ids)
@pytest.mark.parametrize("mode", MODES)
def test_the_twin_is_right(kernel: Kernel, mode: str) -> None:
    """The repaired twin breaks no rule at all."""
    program = kernel.program(mode, fixed=True)
    for seed in range(25):
        assert not execute(program, POS(seed), max_steps=5000).violations


def test_there_are_two_dozen() -> None:
    """A dozen from the textbook and a dozen of the VFS, each with a name of its own."""
    assert len(textbook.KERNELS) >= 12 and len(vfs.KERNELS) >= 12
    assert len({kernel.name for kernel in KERNELS}) == len(KERNELS)
    assert {mark.kernel for mark in command.MARKS} <= {kernel.name for kernel in KERNELS}


def test_other_reports_are_not_the_bug() -> None:
    """Lock order is reported in schedules in which nobody hangs; those do not count."""
    [abba] = [kernel for kernel in vfs.KERNELS if kernel.name == "rename_abba"]
    result = measure(abba, "static", "random", trials=20, cap=200)
    assert result.found == 20 and result.reported == 1
    assert result.mean is not None and result.mean > 1


def test_medians_know_of_failures() -> None:
    """A trial that found nothing counts as later than all others."""
    result = Result("k", "static", "pos", counts=[5, 9, 1], trials=7)
    assert result.median is None and result.mean == 5
    assert Result("k", "static", "pos", counts=[5, 9, 1], trials=4).median == 7


def test_systematic_searches_have_one_trial() -> None:
    """There is no chance in them, and they say that there is no such bug."""
    [abba] = [kernel for kernel in vfs.KERNELS if kernel.name == "rename_abba"]
    result = measure(abba, "static", "irq_sweep", trials=20, cap=200)
    assert (result.trials, result.found, result.exhausted) == (1, 0, True)


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    """The table names kernels and strategies, the marks are judged, JSON has the figures."""
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.sct", "--trials", "3", "--cap", "200",
            "--strategy", "pos", "--mode", "static", "--only", "philo5", "--json", "out.json",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "120"},
    )  # fmt: skip
    assert "philo5" in done.stdout and "schedules/s" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(("met    static pos", "missed static pos"))
    [figure] = json.loads((tmp_path / "out.json").read_text())
    assert figure["kernel"] == "philo5" and figure["trials"] == 3 and figure["rate"] > 0
