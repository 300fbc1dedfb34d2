"""``vfsim fuzz TARGET``: programs of system calls that nobody wrote, in many schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vfsim.checks import tables
from vfsim.cli import common
from vfsim.cli.common import Document
from vfsim.testing.target import load

if TYPE_CHECKING:
    from vfsim.testing.machine import VfsMachine
    from vfsim.testing.rounds import Setting


@click.command()
@click.argument("target")
@click.option(
    "--examples",
    type=click.IntRange(1, 100_000_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many programs to try.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    default=0,
    show_default=True,
    help="Of the search; the same seed gives the same search.",
)
@common.json_option
def fuzz(target: str, examples: int, seed: int, document: Document) -> int:
    """Let Hypothesis write programs, and run them in many schedules.

    TARGET holds a VfsMachine, or a filesystem.  The first bug ends it, with the smallest program
    and schedule that show it.
    """
    from vfsim.testing.machine import VfsMachine
    from vfsim.testing.machine import fuzz as search

    with document.quiet():
        setting = load(target).machine()
        machine = setting if issubclass(setting, VfsMachine) else _machine_of(setting)
        tables.reset()
        bug, schedules = search(machine, examples, seed)
    found = []
    if bug is not None:
        v = bug.violation
        found.append(
            {
                "rule": v.rule,
                "kind": v.kind,
                "blamed": v.blamed,
                "where": v.where,
                "summary": v.summary,
                "token": bug.token,
                "report": str(bug).strip(),
            }
        )
    document.write(
        {
            "target": target,
            "verdict": "bug" if bug else "clean",
            "violations": found,
            "schedules": {"run": schedules},
            "coverage": tables.record(),
            "seed": seed,
        }
    )
    if bug is not None:
        document.say(str(bug).strip() + "\n")
    word = "1 bug" if bug else "clean"
    document.say(f"{setting.__name__}: {word}; {common.counted(schedules, 'schedule')}")
    return 1 if bug else 0


def _machine_of(setting: type[Setting]) -> type[VfsMachine]:
    """A machine with nothing of its own, for a filesystem."""
    from vfsim.testing.machine import VfsMachine

    return type(setting.__name__, (VfsMachine,), dict(vars(setting)))
