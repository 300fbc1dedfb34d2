"""Cells and rules without a mutant, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def without() -> Iterator[tuple[str, str]]:
    """Each with its reason."""
    yield from ()
