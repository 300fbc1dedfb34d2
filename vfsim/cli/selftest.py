"""``vfsim selftest``: does the checker catch what it should, and keep silent about the rest?"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from vfsim.cli import common
from vfsim.testing.selftest import run as selftests

if TYPE_CHECKING:
    from vfsim.cli.common import Document
    from vfsim.testing.selftest.case import Outcome
    from vfsim.testing.selftest.run import Result


@click.command()
@click.option(
    "--only",
    metavar="PATTERN",
    default="",
    help="Cases whose id or rule matches: P23, inode_operations.create, '*.filesystem'.",
)
@common.jobs_option
@common.json_option
def selftest(only: str, jobs: int, document: Document) -> int:
    """Break every rule on purpose, and see whether it is told.

    For every cell and rule of the contract that the kernel reaches there are mutants: a filesystem
    or a kernel with one thing wrong. Each must be caught with the right rule and the right blame,
    and every clean run must be silent.
    """
    try:
        cases = selftests.all_cases(only)
    except selftests.NoSuchCase as error:
        raise click.UsageError(str(error)) from None
    with document.quiet(), common.TerminalProgress() as progress:
        result = selftests.run(cases, jobs, progress)
    with contextlib.suppress(OSError):
        selftests.keep(result)
    document.write(result.as_dict())
    if not document.is_stdout:
        if result.misses:
            _print_misses(result)
        document.say(summary(result))
    if result.interrupted:
        return 130
    return 0 if result.ok else 1


def summary(result: Result) -> str:
    """The closing line."""
    text = f"{result.caught} of {result.wanted} caught, {result.false_alarms} false alarms"
    return f"interrupted; {text}" if result.interrupted else text


def _print_misses(result: Result) -> None:
    table = Table("case", "expected", "got", "what was said", box=None, pad_edge=False)
    for outcome in result.misses:
        table.add_row(outcome.case.id, _expected(outcome), outcome.got, _said(outcome))
    Console().print(table)


def _expected(outcome: Outcome) -> str:
    case = outcome.case
    wanted = " or ".join(case.fires)
    return f"{case.expected}: {wanted}, {case.blamed}" if wanted else case.expected


def _said(outcome: Outcome) -> str:
    if not outcome.found:
        return "nothing"
    first = outcome.found[0]
    return f"{first.rule}, {first.blamed}: {first.summary}"
