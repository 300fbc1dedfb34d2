"""``vfsim contract [TABLE]``: the locking contract, as the document prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vfsim.block import operations as _block
from vfsim.checks import tables
from vfsim.cli import common
from vfsim.cli.common import Document
from vfsim.fs import operations as _fs
from vfsim.mm import operations as _mm

PAGES = (_fs, _mm, _block)
"""Importing these pages declares the tables."""


@click.command()
@click.argument("table", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "md"]),
    default="table",
    show_default=True,
)
@click.option(
    "--coverage", "covered", is_flag=True, help="Say what the last runs called and checked."
)
@click.option(
    "--from",
    "paths",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="Coverage records or folders of them, instead of .vfsim/coverage.",
)
@common.json_option
def contract(
    table: str | None, form: str, covered: bool, paths: tuple[Path, ...], document: Document
) -> int:
    """Print the contract between kernel and filesystem: all of it, or one TABLE."""
    counts = _coverage(covered, paths)
    try:
        data = tables.as_json(table, counts)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    document.write(data)
    if form == "json" and not document.is_stdout:
        Document("-").write(data)
    elif form != "json":
        print_as = tables.as_markdown if form == "md" else tables.as_text
        document.say(print_as(table, counts).rstrip("\n"))
    return 0


def _coverage(wanted: bool, paths: tuple[Path, ...]) -> dict[str, Any] | None:
    """The records asked for; nothing recorded yet is no error, a wrong file is."""
    if not wanted and not paths:
        return None
    if not paths and not tables.COVERAGE.is_dir():
        return tables.empty()
    try:
        return tables.read_records(paths or (tables.COVERAGE,))
    except (ValueError, OSError) as error:
        raise click.ClickException(f"coverage cannot be read: {error}") from None
