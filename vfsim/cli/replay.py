"""``vfsim replay TOKEN``: that run again, with the full trace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vfsim.cli import common
from vfsim.cli.common import Document
from vfsim.explore.token import MAX_TEXT, BadToken
from vfsim.testing.replay import as_tests, replayed

if TYPE_CHECKING:
    from vfsim.explore.replay import Replayed


@click.command()
@click.argument("token")
@click.option(
    "--pytest",
    "as_test",
    is_flag=True,
    help="Print a test for pytest that fails as long as the bug is there, instead of the report.",
)
@common.json_option
def replay(token: str, as_test: bool, document: Document) -> int:
    """Replay the run that TOKEN stands for (- reads it from stdin).

    The run is repeated exactly, with the full trace.  If the sources have changed since, it is
    repeated as well as possible, and you are told where it first went another way, or that it no
    longer fails.
    """
    with document.quiet():
        result = replayed(_from_stdin() if token == "-" else token)
    document.write(_as_dict(result))
    if as_test:
        document.say(as_tests(result.failures).rstrip())
    else:
        _print(document, result)
    return 130 if result.interrupted else 1 if result.failures else 0


def _from_stdin() -> str:
    """What stands on stdin, which may be closed, or no text at all.

    Raises:
        BadToken: nothing can be read there.
    """
    try:
        return sys.stdin.read(MAX_TEXT + 1)
    except (OSError, ValueError, AttributeError):
        raise BadToken("no token can be read from stdin: it is closed, or no text") from None


def _as_dict(result: Replayed) -> dict[str, object]:
    """The document of `explore` for one schedule, and what a replay knows beside that."""
    verdict = "bug" if result.failures else "interrupted" if result.interrupted else "clean"
    return {
        "target": result.token.target,
        "verdict": verdict,
        "violations": [f.as_dict() for f in result.failures],
        "schedules": {"run": 1, "distinct": 1},
        "coverage": {},
        "seed": result.token.seed,
        "replay": {
            "exact": result.exact,
            "reproduced": result.reproduced,
            "changed": result.changed,
            "divergence": result.divergence,
        },
    }


def _print(document: Document, result: Replayed) -> None:
    if result.changed:
        click.echo(f"vfsim: warning: {result.what_changed}", err=True)
    common.print_failures(document, result.failures)
    if result.reproduced:
        document.say(
            "replayed exactly."
            if result.exact
            else "the same bug, in a run that is not quite the same."
        )
    elif result.token.rule:
        document.say(f"it no longer fails with {result.token.rule}.")
    else:
        document.say("replayed exactly." if result.exact else "replayed.")
