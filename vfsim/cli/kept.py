"""What `check` and `explore` keep from one time to the next: ``--no-store``, ``--resume``.

What they have to say about it goes to stderr: what stands on stdout depends on the target alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vfsim.explore.store import Damaged, Store
from vfsim.explore.strategies import searcher_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vfsim.explore.campaign import Campaign
    from vfsim.explore.failure import Failure
    from vfsim.explore.program import Program
    from vfsim.explore.store import Options
    from vfsim.explore.token import Token


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--no-store`` and ``--resume``."""
    for decorate in (
        click.option(
            "--no-store",
            is_flag=True,
            help="Neither read nor write .vfsim: no known failures, nothing to resume.",
        ),
        click.option(
            "--resume",
            is_flag=True,
            help="Go on where the last search with this strategy and seed stopped.",
        ),
    ):
        command = decorate(command)
    return command


class Kept:
    """What is kept of one target, or nothing if that is not wanted."""

    def __init__(self, target: str, options: Options, strategy: str, seed: int, off: bool) -> None:
        self.store = None if off else Store(target, options)
        self.strategy = strategy
        self.seed = seed

    def failures(self, program: Callable[[Token], Program], races: bool) -> list[Failure]:
        """The known failures that still fail, after they were replayed; races only if wanted."""
        if self.store is None:
            return []
        replays = self.store.replay_known(program, races)
        for sentence in replays.refused:
            _say(sentence)
        if replays.still or replays.gone:
            _say(str(replays))
        return replays.still

    def campaigns(self, resume: bool) -> dict[str, Campaign]:
        """How far earlier searches have come, by the name of the scenario, if that is wanted.

        Raises:
            click.UsageError: there is nothing to go on with, or it cannot be used.
        """
        if not resume:
            return {}
        if self.store is None:
            raise click.UsageError("--resume needs what --no-store leaves out")
        if not searcher_of(self.strategy, self.seed).parallel:
            _say(
                f"{self.strategy} starts anew: each of its schedules depends on those before, "
                "so it cannot go on in the middle"
            )
            return {}
        try:
            found, why_not = self.store.resume(self.strategy, self.seed)
        except Damaged as error:
            raise click.UsageError(f"{error}; leave --resume out to start anew") from None
        if why_not:
            _say(f"the search starts anew: {why_not}")
        return found

    def keep(self, failures: list[Failure], campaigns: Mapping[str, Campaign]) -> None:
        """Keep what was found, and how far the search came."""
        if self.store is not None:
            self.store.keep(failures)
            self.store.save(self.strategy, self.seed, campaigns)


def _say(sentence: str) -> None:
    click.echo(f"vfsim: {sentence}", err=True)
