"""``vfsim check TARGET``: the main job."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from vfsim.checks import tables
from vfsim.cli import common
from vfsim.cli.common import Document, counted
from vfsim.testing import check as checking
from vfsim.testing.target import load

if TYPE_CHECKING:
    from vfsim.testing.check import Checked


@click.command()
@click.argument("target")
@click.option(
    "--schedules",
    type=click.IntRange(1, 1_000_000),
    default=checking.SCHEDULES,
    show_default=True,
    metavar="N",
    help="Distinct schedules per scenario.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="Look for shared state that the filesystem does not declare, too: slow.",
)
@common.options
def check(
    target: str,
    schedules: int,
    audit: bool,
    seed: int,
    strategy: str,
    mount_options: str,
    device: int | None,
    races: bool,
    jobs: int,
    document: Document,
) -> int:
    """Check a filesystem: contract, conformance and concurrency.

    Mounts the filesystem many hundred times: once for each assertion of the conformance suite
    (names and data as Linux does them), and once for each schedule of each scenario of the library
    (pairs and triples of operations at once). Every call is checked against the locking contract,
    and every umount for leaks.
    """
    with document.quiet():
        subject = checking.Subject(target, load(target).filesystem(), device, mount_options, audit)
        with common.TerminalProgress() as progress:
            result = checking.check(
                subject,
                seed=seed,
                schedules=schedules,
                strategy=strategy,
                jobs=jobs,
                races=races,
                progress=progress,
            )
    _keep_coverage(result)
    document.write(result.as_dict())
    _print(document, result)
    return (
        {"clean": 0, "bug": 1, "interrupted": 130}[result.verdict]
        if not result.interrupted
        else 130
    )


def _keep_coverage(result: Checked) -> None:
    """For ``vfsim contract --coverage``; where nothing can be written, nothing is kept."""
    with contextlib.suppress(OSError):
        tables.write_record(f"check-{result.subject.filesystem.__name__}", result.coverage)


def _print(document: Document, result: Checked) -> None:
    common.print_failures(document, result.failures)
    for line in summary(result):
        document.say(line)


def summary(result: Checked) -> list[str]:
    """What was done and the verdict, a line each."""
    subject = result.subject
    lines = [f"{subject.target}: {subject.filesystem.__name__}", ""]
    asked = result.passed + result.failed
    text = f"{counted(asked, 'assertion')}, {result.failed or 'none'} failed"
    if result.skipped:
        text += f"; {result.skipped:,} do not apply"
    lines.append(f"  conformance   {text}")
    done = len(result.explorations)
    text = f"{counted(done, 'scenario')}, {counted(result.run, 'schedule')}"
    text += f", {result.distinct:,} distinct"
    if result.left_out:
        text += f"; {len(result.left_out)} do not apply"
    lines.append(f"  concurrency   {text}")
    lines += [f"  {line}" for line in common.coverage_lines(result.coverage, subject.filesystem)]
    lines.append("")
    if result.failures:
        verdict = f"{counted(len(result.failures), 'bug')} found."
    else:
        verdict = "clean: nothing found." if not result.interrupted else "nothing found so far."
    if result.interrupted:
        verdict = f"interrupted; {verdict}"
    lines.append(verdict)
    return lines
