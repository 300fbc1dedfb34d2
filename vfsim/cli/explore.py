"""``vfsim explore TARGET``: one scenario under many schedules."""

from __future__ import annotations

import click

from vfsim.checks import tables
from vfsim.cli import common
from vfsim.cli.common import Document
from vfsim.explore.explore import search
from vfsim.explore.program import FunctionProgram
from vfsim.testing.scenario import ScenarioProgram
from vfsim.testing.target import BadTarget, Target, load


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
@common.options
def explore(
    target: str,
    schedules: int,
    seed: int,
    strategy: str,
    mount_options: str,
    device: int | None,
    races: bool,
    jobs: int,
    document: Document,
) -> int:
    """Run a scenario under many schedules.

    TARGET holds a vfsim.Scenario.
    """
    with document.quiet():
        program = _program(load(target), mount_options, device)
        tables.reset()
        with common.TerminalProgress() as progress:
            progress.begin(schedules)
            progress.at(program.name)
            found = search(
                program,
                schedules=schedules,
                strategy=strategy,
                seed=seed,
                jobs=jobs,
                races=races,
                progress=progress.advance,
            )
    document.write({**found.as_dict(), "target": target, "coverage": tables.record()})
    common.print_failures(document, found.failures)
    document.say(str(found))
    return 130 if found.interrupted else 1 if found.failures else 0


def _program(
    target: Target, mount_options: str, device: int | None
) -> ScenarioProgram | FunctionProgram:
    function = target.function()
    if function is not None:
        return FunctionProgram(function)
    try:
        return ScenarioProgram(target.scenario(), None, device, mount_options, target.text)
    except TypeError as error:
        raise BadTarget(f"{target.place}: {error}") from None
