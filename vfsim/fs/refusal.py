"""Refusals by design: what a filesystem does not do on purpose, and says so.

Linux has filesystems that restrict: one whose files only grow, one without holes, one that keeps
its names short.  To whoever asks "does it do what Linux does?" their refusals look like mistakes,
unless the type of the filesystem declares them::

    class LedgerFS(MemoryFileSystem):
        refuses = (
            Refusal("write pwrite", EPERM, "what was written stays"),
            Refusal("truncate ftruncate open", EPERM, "a file never gets shorter"),
        )

A declaration says which system calls may fail with which errno, and why.  It does not say when:
that is the filesystem's own business.  What it still owes: this errno and no other, and no effect
at all of a call that was refused.  Nothing here changes what a call does; `vfsim.testing` reads it.
"""

from __future__ import annotations

import difflib
from errno import errorcode
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _calls(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _errno(error: int | Callable[[], OSError]) -> int:
    return error if isinstance(error, int) else error().errno or 0


@attrs.frozen
class Refusal:
    """System calls that may fail by design.

    Args:
        calls: their names, as `vfsim.fs.syscalls.Sys` has them, with blanks in between.
        error: what they fail with: ``EPERM`` of `vfsim.sim.errors`, or a number of `errno`.
        why: a few words for people.

    Raises:
        ValueError: there is no such call, or no such error.
    """

    calls: tuple[str, ...] = attrs.field(converter=_calls)
    errno: int = attrs.field(converter=_errno, alias="error")
    why: str = ""

    def __attrs_post_init__(self) -> None:
        from vfsim.fs.syscalls import Sys

        known = [n for n in dir(Sys) if n[0] != "_" and callable(getattr(Sys, n))]
        for name in self.calls:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"a Refusal names system calls, and {name!r} is none{hint}")
        if not self.calls or self.errno not in errorcode:
            raise ValueError(
                "a Refusal needs a system call and an error, as in "
                'Refusal("write pwrite", EPERM, "what was written stays")'
            )

    def __str__(self) -> str:
        why = f", {self.why}" if self.why else ""
        return f"{' '.join(self.calls)}: {errorcode[self.errno]}{why}"


def refusal_of(refusals: Iterable[Refusal], call: str, code: int) -> Refusal | None:
    """Never sleeps.  The declaration under which a call may fail with this errno, if any."""
    return next((r for r in refusals if call in r.calls and code == r.errno), None)


def checked(owner: type, refusals: object) -> None:
    """Never sleeps.  Refuse what is no tuple of declarations.

    Raises:
        TypeError: with a sentence for the author.
    """
    if not isinstance(refusals, tuple) or not all(isinstance(r, Refusal) for r in refusals):
        raise TypeError(
            f"{owner.__name__}.refuses is a tuple of Refusal(...), with a comma behind each; "
            f"got {refusals!r}"
        )
