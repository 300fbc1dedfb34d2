"""``vfsim explore TARGET``: one scenario under many schedules."""

from __future__ import annotations

import click

from vfsim.checks import tables
from vfsim.cli import common, kept
from vfsim.cli.common import Asked
from vfsim.cli.kept import Kept
from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.testing.scenario import ScenarioProgram
from vfsim.testing.target import BadTarget, Target, load, program_for


@click.command()
@click.argument("target")
@click.option(
    "--schedules",
    type=click.IntRange(1, 100_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many to run; fewer if nothing new comes any more.",
)
@kept.options
@common.options
def explore(
    target: str,
    schedules: int,
    no_store: bool,
    resume: bool,
    asked: Asked,
) -> int:
    """Run a scenario under many schedules.

    TARGET holds a vfsim.Scenario.  Failures are kept in .vfsim/failures and replayed first the next
    time.
    """
    document = asked.document
    with document.quiet():
        program = _program(load(target), asked)
        kept_of = program.target or target
        store = Kept(kept_of, program.options, asked.strategy, asked.seed, no_store)
        campaign = store.campaigns(resume).get(program.name)
        known = store.failures(program_for, asked.races)
        tables.reset()
        with common.TerminalProgress() as progress:
            progress.begin(schedules)
            progress.at(program.name)
            found = search(
                program,
                schedules=schedules,
                shrink=asked.shrink,
                strategy=asked.strategy,
                seed=asked.seed,
                jobs=asked.jobs,
                races=asked.races,
                campaign=campaign,
                first=known,
                progress=progress.advance,
            )
    store.keep(found.failures, {program.name: found.campaign})
    coverage = {**tables.record(), **found.coverage.as_dict()}
    document.write({**found.as_dict(), "target": target, "coverage": coverage})
    common.print_failures(document, found.failures)
    for line in found.coverage.lines():
        document.say(f"  {line}")
    for text in found.suspicions:
        document.say(text)
    common.write_tests(document, asked.tests, found.failures)
    document.say(str(found))
    return 130 if found.interrupted else 1 if found.failures else 0


def _program(target: Target, asked: Asked) -> ScenarioProgram | FunctionProgram:
    function = target.function()
    if function is not None:
        return FunctionProgram(function)
    try:
        return ScenarioProgram(
            target.scenario(), None, asked.device, asked.mount_options, target.text, asked.faults
        )
    except TypeError as error:
        raise BadTarget(f"{target.place}: {error}") from None
