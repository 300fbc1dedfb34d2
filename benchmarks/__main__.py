"""``python -m benchmarks [--json PATH|-] [--rounds N]``."""

from __future__ import annotations

import json
import sys
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import dcache, history, namespace, races, scenario
from benchmarks.catalog import cases, figures
from benchmarks.measure import ROUNDS, Case, Figure


def report(case: Case, figure: Figure) -> dict[str, Any]:
    """One entry of the JSON list."""
    return {
        "name": case.name,
        "ratio": round(figure.ratio, 3),
        "of": case.of,
        "target": case.target,
        "ok": case.target is None or figure.ratio <= case.target,
        "ns": round(figure.ns),
    }


def bare(name: str, ns: float) -> dict[str, Any]:
    """The entry of a reference."""
    return {"name": name, "ratio": 1.0, "of": name, "target": None, "ok": True, "ns": round(ns, 1)}


def table(entries: list[dict[str, Any]]) -> Table:
    """The entries for people."""
    shown = Table(title="ratios to a bare operation, median of interleaved rounds")
    for column in ("what", "ns", "ratio", "of", "target", ""):
        shown.add_column(column, justify="left" if column in ("what", "of", "") else "right")
    for entry in entries:
        target = entry["target"]
        verdict = "" if target is None else "ok" if entry["ok"] else "[red]over"
        goal = "" if target is None else f"{target:g}"
        if entry["of"] and entry["of"] != entry["name"]:
            ratio = f"{entry['ratio']:,.2f}"
        else:
            ratio = "" if entry["of"] else f"{entry['ratio']:,.0f}"
        ns = f"{entry['ns']:,}" if entry["ns"] else ""
        shown.add_row(entry["name"], ns, ratio, entry["of"], goal, verdict)
    return shown


@click.command()
@click.option("--json", "path", metavar="PATH|-", help="Write the figures as JSON.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(min=1))
@click.option("--only", default="", help="Only the cases with this in their name.")
def main(path: str | None, rounds: int, only: str) -> None:
    """Measure the hot paths as ratios to bare operations."""
    chosen = [case for case in cases().values() if only in case.name]
    names = [case.name for case in chosen]
    quiet = not sys.stderr.isatty()
    with click.progressbar(
        figures(names, rounds), len(names), label="measuring", file=sys.stderr, hidden=quiet
    ) as bar:
        found = list(bar)
    references: dict[str, list[float]] = {}
    for case, figure in zip(chosen, found, strict=True):
        references.setdefault(case.of, []).append(figure.bare)
    entries = [bare(name, median(times)) for name, times in references.items()]
    entries += [report(case, figure) for case, figure in zip(chosen, found, strict=True)]
    for whole in (scenario, history, races, namespace, dcache):
        if not only or only in whole.NAME:
            entries += whole.entries()
    if path is None:
        Console().print(table(entries))
    elif path == "-":
        click.echo(json.dumps(entries, indent=1))
    else:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(entries, file, indent=1)


if __name__ == "__main__":
    main()
