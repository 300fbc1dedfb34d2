"""Tokens in tests: a bug that was found becomes a test that fails as long as it is there.

`replay` runs a token again and raises `BugFound` with the report.  Once the bug is mended the
sources differ from those that the token was made with: then it warns, comes as close as it can, and
passes if nothing is wrong any more.  `as_tests` writes such tests.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from vfsim.explore.explore import BugFound, Exploration
from vfsim.explore.replay import replay as run_token
from vfsim.explore.token import decode
from vfsim.testing.target import BadTarget, program_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfsim.explore.failure import Failure
    from vfsim.explore.replay import Replayed


class SourcesChanged(UserWarning):
    """A token was replayed with other sources than it was made with."""


def replayed(token: str) -> Replayed:
    """Run a token again.

    Raises:
        BadToken: it is no token.
        BadTarget: what it names is not here.
        EngineError: nothing changed, and yet it was another run.
    """
    parsed = decode(token)
    try:
        program = program_for(parsed)
    except (LookupError, TypeError) as error:
        raise BadTarget(str(error.args[0] if error.args else error)) from None
    result = run_token(parsed, program)
    result.check()
    return result


def replay(token: str) -> Replayed:
    """Run a token again; for tests.

    Files that a token names are looked for from the working directory, as when it was made.

    Returns:
        What came of it, if nothing is wrong; with a `SourcesChanged` warning if the sources differ
        from those that the token was made with.

    Raises:
        BugFound: an AssertionError with the full report.
        BadToken, BadTarget: ValueErrors: it is no token, or what it names is not here.
        EngineError: nothing changed, and yet it was another run.
    """
    __tracebackhide__ = True
    result = replayed(token)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failures:
        raise BugFound(_exploration(result)) from None
    if result.changed:
        warnings.warn(result.what_changed, SourcesChanged, stacklevel=2)
    return result


def _exploration(result: Replayed) -> Exploration:
    """One schedule as a search that found something."""
    token = result.token
    return Exploration(
        token.target, token.scenario, "replay", token.seed, result.failures, run=1, distinct=1
    )


_HEAD = '''"""Bugs that vfsim found: each test fails as long as its bug is there.

Run them from the directory in which vfsim found them.
"""

import vfsim
'''

_TEST = '''

def test_{name}() -> None:
    """{summary}"""
    vfsim.replay(
        "{token}"
    )
'''


def as_tests(failures: Iterable[Failure]) -> str:
    """A file for pytest with a test for each failure."""
    names: dict[str, int] = {}
    text = _HEAD
    for failure in failures:
        name = re.sub(r"[^a-z0-9]+", "_", failure.violation.rule.lower()).strip("_")
        count = names[name] = names.get(name, 0) + 1
        text += _TEST.format(
            name=name if count == 1 else f"{name}_{count}",
            summary=_in_a_line(failure.violation.summary),
            token=failure.token,
        )
    return text


def _in_a_line(summary: str) -> str:
    """A summary as a docstring of one line."""
    text = summary.replace("\\", "/").replace('"', "'").rstrip(".'")
    return f"{text[:85]}..." if len(text) > 88 else f"{text}."
