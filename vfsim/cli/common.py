"""What the commands share: options, the JSON file, the progress bar, printing what was found."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vfsim.checks import tables
from vfsim.checks.contract import Site, methods_of
from vfsim.explore.strategies import searcher_of
from vfsim.sim.faults import kinds
from vfsim.testing.check import Progress
from vfsim.testing.replay import as_tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vfsim.explore.failure import Failure

_BETWEEN = 0.1  # seconds between two looks of the progress bar
_IN_FULL = 10  # reports; the rest gets a line each


def _cpus() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--jobs N``."""
    return click.option(
        "--jobs", type=click.IntRange(1, 256), default=_cpus, show_default="one per CPU",
        metavar="N", help="Processes that share the work; the result does not depend on it.",
    )(command)  # fmt: skip


@attrs.frozen
class Asked:
    """What the options say that `check` and `explore` both have.

    Attributes:
        seed, strategy, jobs, races, shrink: of the search.
        mount_options, faults, device: of the filesystem and its world.
        tests: the file for tests, if any.  document: where the JSON goes.
    """

    seed: int
    strategy: str
    jobs: int
    races: bool
    shrink: bool
    mount_options: str
    faults: str
    device: int | None
    tests: Path | None
    document: Document


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what `check` and `explore` both take: together, as ``asked``."""
    names = [field.name for field in attrs.fields(Asked)]

    @functools.wraps(command)
    def collecting(**given: Any) -> Any:
        asked = Asked(**{name: given.pop(name) for name in names})
        return command(asked=asked, **given)

    decorated: Callable[..., Any] = collecting
    for decorate in (
        json_option,
        jobs_option,
        click.option(
            "--pytest",
            "tests",
            metavar="FILE",
            type=click.Path(dir_okay=False, writable=True, path_type=Path),
            callback=_tests,
            help="Write a test for pytest for each bug found.",
        ),
        click.option(
            "--shrink/--no-shrink",
            default=True,
            show_default=True,
            help="Report each failure in the smallest program and schedule that show it.",
        ),
        click.option(
            "--races/--no-races",
            default=True,
            show_default=True,
            help="Look for races on declared fields.",
        ),
        click.option(
            "--device",
            type=click.IntRange(8, 1 << 24),
            metavar="SECTORS",
            help="Size of the disk (sectors of 512 bytes), instead of what the filesystem says.",
        ),
        click.option(
            "--faults",
            default="",
            metavar="KINDS",
            callback=_faults,
            help="Let things fail while the tasks run: alloc, copy, io, or pressure (allocations "
            "reclaim memory); several with commas.",
        ),
        click.option("--mount-options", default="", metavar="TEXT", help="Options for each mount."),
        click.option(
            "--strategy",
            default="pos",
            show_default=True,
            callback=_strategy,
            help="Who runs next: pos, pct[:DEPTH], urw, random, delay[:K], dpor, enumerate, "
            "irq_sweep, auto.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, (1 << 64) - 1),
            default=0,
            show_default=True,
            help="Of the search; the same seed gives the same search.",
        ),
    ):
        decorated = decorate(decorated)
    return decorated


@contextlib.contextmanager
def _while_heard() -> Iterator[None]:
    """If nobody reads stdout any more (``| head``), go on silently: the status still counts.  If
    there is no room for it, say so.
    """
    try:
        yield
    except BrokenPipeError:
        stop_talking()
    except OSError as error:
        stop_talking()
        raise click.ClickException(f"cannot write to stdout: {error.strerror}") from None


def stop_talking() -> None:
    """From now on stdout goes nowhere, so that Python does not complain at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Document:
    """Where the JSON goes: to a file, to stdout (``-``), or nowhere.

    Raises:
        OSError, ValueError: the file cannot be written; told before the work, not after it.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path if path in ("", "-") else os.path.abspath(path)
        self.is_stdout = path == "-"
        if self.path and not self.is_stdout:
            with open(self.path, "a"):
                pass

    def write(self, data: dict[str, Any]) -> None:
        """Write the document, if it is wanted."""
        text = json.dumps(data, indent=2) + "\n"
        if self.is_stdout:
            with _while_heard():
                sys.stdout.write(text)
                sys.stdout.flush()
        elif self.path:
            try:
                Path(self.path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise click.ClickException(f"cannot write {self.path}: {error.strerror}") from None

    def say(self, text: str = "") -> None:
        """Print a line for people, unless stdout is for JSON."""
        if not self.is_stdout:
            with _while_heard():
                click.echo(text)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """If the JSON goes to stdout, what a target prints must not: it goes to stderr."""
        if self.is_stdout:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        else:
            yield


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json PATH|-``."""
    return click.option(
        "--json", "document", metavar="PATH|-", callback=_document,
        help="Write the result as JSON; - is stdout, and then nothing else is printed there.",
    )(command)  # fmt: skip


def _document(context: click.Context, parameter: click.Parameter, path: str | None) -> Document:
    try:
        return Document(path or "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no file's name"
        raise click.BadParameter(f"cannot write {path!r}: {reason}") from None


def _tests(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Told before the work, not after it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise click.BadParameter(f"cannot write {str(path)!r}: there is no such directory")
    return path


def _faults(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return ",".join(kinds(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _strategy(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        searcher_of(value, 0)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def print_failures(document: Document, failures: Sequence[Failure]) -> None:
    """All reports; after the first few only a line each."""
    for failure in failures[:_IN_FULL]:
        document.say(failure.report.rstrip() + "\n")
    for failure in failures[_IN_FULL:]:
        v = failure.violation
        document.say(
            f"{v.kind}: {v.summary} [{v.rule}], {v.blamed}\n    vfsim replay {failure.token}"
        )
    if len(failures) > _IN_FULL:
        document.say()


def write_tests(document: Document, path: Path | None, failures: Sequence[Failure]) -> None:
    """A file with a test for each failure, if it is wanted and there are any."""
    if path is None or not failures:
        return
    try:
        path.write_text(as_tests(failures), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    document.say(f"{counted(len(failures), 'test')} in {path}.\n")


def counted(number: int, thing: str) -> str:
    """``1 schedule``, ``2,000 schedules``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class TerminalProgress(Progress):
    """A progress bar on a terminal's stderr; nothing anywhere else."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._next = 0.0
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description:<40.40}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                auto_refresh=False,  # its thread would not survive a fork
            )

    def __enter__(self) -> TerminalProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, total: int) -> None:
        """So much work is ahead."""
        if self._bar is not None:
            self._task = self._bar.add_task("", total=total)

    def at(self, what: str) -> None:
        """Something new begins."""
        if self._bar is not None:
            self._bar.update(self._task, description=what)

    def advance(self, amount: int) -> None:
        """So much of it is done."""
        if self._bar is not None:
            self._bar.advance(self._task, amount)
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _BETWEEN
                self._bar.refresh()


def coverage_lines(record: dict[str, Any], filesystem: type) -> list[str]:
    """What was covered of a filesystem and of the contract, a line each."""
    called, silent = _methods(filesystem)
    methods = f"methods       {len(called)} of {len(called) + len(silent)} called"
    if silent:
        methods += f"; never: {', '.join(silent)}"
    checked = record["checked"]
    cells = [n for n in checked.values() if n]
    lines = [f"contract      {counted(len(cells), 'cell')} and rules checked, {sum(cells):,} times"]
    ignored = [f"{id} {n} of {checked[id]} times" for id, n in sorted(record["unheeded"].items())]
    if ignored:
        lines.append(f"advice        not followed: {', '.join(ignored)}")
    return [methods, *lines]


def _methods(filesystem: type) -> tuple[list[str], list[str]]:
    """The methods that the filesystem's module defines: those called, and those never called.

    A method that was called in a subclass which inherits it was called.
    """
    calls: dict[str, int] = {}
    for table in tables.tables().values():
        for method in methods_of(table).values():
            mine = [site for site in method.sites if site.cls.__module__ == filesystem.__module__]
            for site in mine:
                if site.calls or not any(_inherits(other, site) for other in mine):
                    calls[site.title] = calls.get(site.title, 0) + site.calls
    return [m for m, n in calls.items() if n], [m for m, n in calls.items() if not n]


def _inherits(other: Site, site: Site) -> bool:
    """Whether a method was called that a subclass has from this one."""
    return other.calls > 0 and other.raw is site.raw and issubclass(other.cls, site.cls)
