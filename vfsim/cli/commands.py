"""The commands together, and what they come to.

Exit status: 0 clean, 1 a bug was found, 2 misuse (a wrong target, token or option: one sentence on
stderr), 3 vfsim's own error, 130 interrupted.  Commands return their status; `run` turns whatever
else happens into one.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import click

import vfsim
from vfsim.cli.check import check
from vfsim.cli.common import stop_talking
from vfsim.cli.contract import contract
from vfsim.cli.explore import explore
from vfsim.cli.fuzz import fuzz
from vfsim.cli.main import INTERRUPTED
from vfsim.cli.replay import replay
from vfsim.cli.selftest import selftest
from vfsim.explore.parallel import EngineError
from vfsim.explore.token import BadToken
from vfsim.sim.errors import Misuse
from vfsim.testing.target import BadTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

CLEAN, BUG, MISUSE, BROKEN = 0, 1, 2, 3


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(vfsim.__version__, message="vfsim %(version)s")
def cli() -> None:
    """The Linux VFS on a workbench: check a filesystem written in Python against the locking
    contract.

    TARGET is file.py, file.py:Name, module or module:Name.

    \b
    Exit status: 0 clean, 1 a bug was found, 2 misuse, 3 vfsim's own error, 130 interrupted.
    """


for command in (check, explore, fuzz, replay, contract, selftest):
    cli.add_command(command)


def run(args: Sequence[str]) -> int:
    """Run a command line and return its exit status."""
    try:
        status = cli.main(list(args), prog_name="vfsim", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return MISUSE
    except click.ClickException as error:
        return _refuse(error.format_message(), error)
    except (BadTarget, BadToken, Misuse) as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("vfsim: interrupted", err=True)
        return INTERRUPTED
    except EngineError as error:
        click.echo(f"vfsim: {error}", err=True)
        return BROKEN
    except BrokenPipeError:
        stop_talking()
        return CLEAN
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except Exception:
        traceback.print_exc()
        click.echo("vfsim: this is a bug of vfsim, please report it with the lines above", err=True)
        return BROKEN
    return status if isinstance(status, int) else CLEAN


def _refuse(message: str, error: click.ClickException | None = None) -> int:
    """One sentence, and where to read on."""
    name = "vfsim"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        name = error.ctx.command_path
        message = f"{message.rstrip('.')} ({name} --help tells more)"
    text = f"{name}: {' '.join(message.split())}"
    click.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"), err=True)
    return MISUSE
