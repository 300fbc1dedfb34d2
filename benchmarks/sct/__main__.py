"""``python -m benchmarks.sct``: schedules until known bugs are found, by strategy.

Prints for each kernel and strategy how many trials found the bug, the median (and the mean) of the
schedules they needed, and schedules per second; then the marks that are aimed at.  ``random`` is
the baseline: what walking about blindly finds.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table

from benchmarks.sct import textbook, vfs
from benchmarks.sct.kernel import MODES, Kernel
from benchmarks.sct.trial import Result, measure

STRATEGIES = ("random", "pos", "pct", "pct:3", "urw", "auto", "delay", "irq_sweep", "dpor")
SUITES = {"textbook": textbook.KERNELS, "vfs": vfs.KERNELS}


@attrs.frozen
class Mark:
    """What to aim at: a median of at most so many schedules."""

    mode: str
    strategy: str
    kernel: str
    most: int


MARKS = (
    Mark("static", "pos", "reorder_10", 40),
    Mark("static", "pos", "twostage_20", 80),
    Mark("static", "pos", "philo5", 80),
    Mark("spawned", "urw", "reorder_20", 1_200),
    Mark("spawned", "pct:3", "reorder_10", 800),
)


PIPED = 160
"""Columns of a table that goes to a file."""


@click.command()
@click.option("--trials", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--cap", default=20_000, show_default=True, help="Schedules of one trial.")
@click.option("--limit", type=int, help="Schedules of all trials of a kernel and strategy.")
@click.option("--strategy", "strategies", multiple=True, help="Only these.")
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Only these.")
@click.option("--suite", type=click.Choice(tuple(SUITES)), help="Only this one.")
@click.option("--only", default="", help="Only the kernels with this in their name.")
@click.option("--json", "path", help="Write the figures as JSON (- is stdout).")
def main(
    trials: int,
    cap: int,
    limit: int | None,
    strategies: tuple[str, ...],
    modes: tuple[str, ...],
    suite: str | None,
    only: str,
    path: str | None,
) -> None:
    """Count schedules until known bugs are found."""
    kernels = [
        kernel
        for name in ([suite] if suite else SUITES)
        for kernel in SUITES[name]
        if only in kernel.name
    ]
    results: list[Result] = []
    for mode in modes or MODES:
        table = _table(mode, strategies or STRATEGIES)
        for kernel in kernels:
            row = [
                measure(kernel, mode, strategy, trials, cap, limit)
                for strategy in strategies or STRATEGIES
            ]
            table.add_row(*_row(kernel, row))
            results += row
        table.add_row("schedules/s", *_rates(results, mode, strategies or STRATEGIES))
        if path != "-":
            Console(width=None if sys.stdout.isatty() else PIPED).print(table)
    if path != "-":
        for line in judged(results):
            click.echo(line)
    if path:
        text = json.dumps([_entry(r) for r in results], indent=1)
        click.echo(text) if path == "-" else click.open_file(path, "w").write(text)


def _table(mode: str, strategies: tuple[str, ...]) -> Table:
    table = Table(title=f"{mode}: median (mean) schedules to the bug, found/trials if not all")
    table.add_column("kernel")
    for strategy in strategies:
        table.add_column(strategy, justify="right")
    table.add_column("first report", justify="right")
    return table


def _row(kernel: Kernel, row: list[Result]) -> list[str]:
    reported = next((r.reported for r in row if r.strategy == "pos"), row[0].reported)
    return [kernel.name, *map(_cell, row), "" if reported is None else str(reported)]


def _cell(result: Result) -> str:
    """``20 (31)``, ``- 0/20``, ``none of 12`` if a systematic search ended without the bug."""
    if not result.counts:
        if result.exhausted:
            return f"none of {result.schedules}"
        return f"- 0/{result.trials}"
    middle, average = result.median, result.mean
    text = "-" if middle is None else f"{middle:,.0f}"
    if result.trials > 1 and average is not None:
        text += f" ({average:,.0f})"
    return text if result.found == result.trials else f"{text} {result.found}/{result.trials}"


def _rates(results: list[Result], mode: str, strategies: tuple[str, ...]) -> list[str]:
    texts = []
    for strategy in strategies:
        mine = [r for r in results if (r.mode, r.strategy) == (mode, strategy)]
        seconds = sum(r.seconds for r in mine)
        texts.append(f"{sum(r.schedules for r in mine) / seconds:,.0f}" if seconds else "")
    return texts


def judged(results: list[Result]) -> list[str]:
    """A line for each mark that was measured."""
    lines = []
    for mark in MARKS:
        for r in results:
            if (r.mode, r.strategy, r.kernel) == (mark.mode, mark.strategy, mark.kernel):
                met = r.median is not None and r.median <= mark.most
                lines.append(
                    f"{'met   ' if met else 'missed'} {mark.mode} {mark.strategy} {mark.kernel}: "
                    f"{_cell(r)}, aim {mark.most:,}"
                )
    return lines


def _entry(result: Result) -> dict[str, Any]:
    return {
        **attrs.asdict(result),
        "found": result.found,
        "median": result.median,
        "mean": result.mean,
        "rate": round(result.rate),
    }


if __name__ == "__main__":
    main()
