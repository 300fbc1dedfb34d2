"""``vfsim check TARGET``: the main job."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from vfsim.checks import tables
from vfsim.cli import common, kept
from vfsim.cli.common import Asked, Document, counted
from vfsim.cli.kept import Kept
from vfsim.testing import check as checking
from vfsim.testing.target import load, program_for

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
@kept.options
@common.options
def check(
    target: str,
    schedules: int,
    audit: bool,
    no_store: bool,
    resume: bool,
    asked: Asked,
) -> int:
    """Check a filesystem: contract, conformance and concurrency.

    Mounts the filesystem many hundred times: once for each assertion of the conformance suite
    (names and data as Linux does them), and once for each schedule of each scenario of the library
    (pairs and triples of operations at once). Every call is checked against the locking contract,
    and every umount for leaks. Failures are kept in .vfsim/failures and replayed first the next
    time.
    """
    document = asked.document
    with document.quiet():
        filesystem = load(target).filesystem()
        subject = checking.Subject(
            target, filesystem, asked.device, asked.mount_options, asked.faults, audit
        )
        store = Kept(target, subject.options, asked.strategy, asked.seed, no_store)
        campaigns = store.campaigns(resume)
        known = store.failures(program_for, asked.races)
        with common.TerminalProgress() as progress:
            result = checking.check(
                subject,
                seed=asked.seed,
                schedules=schedules,
                shrink=asked.shrink,
                strategy=asked.strategy,
                jobs=asked.jobs,
                races=asked.races,
                campaigns=campaigns,
                first=known,
                progress=progress,
            )
    store.keep(result.failures, {**campaigns, **result.campaigns})
    _keep_coverage(result)
    document.write(result.as_dict())
    common.write_tests(document, asked.tests, result.failures)
    _print(document, result)
    return (
        {"clean": 0, "bug": 1, "interrupted": 130}[result.verdict]
        if not result.interrupted
        else 130
    )


def _keep_coverage(result: Checked) -> None:
    """For ``vfsim contract --coverage``; where nothing can be written, nothing is kept."""
    with contextlib.suppress(OSError):
        kept = {key: result.coverage[key] for key in tables.empty()}
        tables.write_record(f"check-{result.subject.filesystem.__name__}", kept)


def _print(document: Document, result: Checked) -> None:
    common.print_failures(document, result.failures)
    for line in summary(result):
        document.say(line)


def summary(result: Checked) -> list[str]:
    """What was done and the verdict, a line each."""
    subject = result.subject
    lines = [f"{subject.target}: {subject.filesystem.__name__}", ""]
    by_design = sum(map(len, result.declared.values()))
    asked = result.passed + result.failed + by_design
    text = f"{counted(asked, 'assertion')}, {result.failed or 'none'} failed"
    if by_design:
        text += f"; {by_design:,} refused by design"
    if result.skipped:
        text += f"; {result.skipped:,} do not apply"
    lines.append(f"  conformance   {text}")
    lines += [f"  unlike Linux  {said}: not asked" for said in result.unlike]
    for refusal, assertions in result.declared.items():
        met = f"in {counted(len(assertions), 'assertion')}" if assertions else "never met"
        lines.append(f"  by design     {refusal}; {met}")
    done = len(result.explorations)
    text = f"{counted(done, 'scenario')}, {counted(result.run, 'schedule')}"
    text += f", {result.distinct:,} distinct"
    complete = sum(bool(e.complete) for e in result.explorations)
    if complete:
        text += f"; {counted(complete, 'scenario')} searched completely"
    if result.left_out:
        text += f"; {len(result.left_out)} do not apply"
    lines.append(f"  concurrency   {text}")
    lines += [f"  {line}" for line in result.schedule_lines()]
    lines += [f"  {line}" for text in result.suspicions for line in text.splitlines()]
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
