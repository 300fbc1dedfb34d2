"""The corpus: thousands of small questions to which Linux itself gave the answers.

`cases` are generated from tables (`paths`, `opening`, `pairs`, `descriptors`, `rights`, `unnamed`,
`directories`, and for extended attributes `xattrs`, `marks`, `acls`), in an order that never
changes; `answers` are what a real kernel said; `run` asks a filesystem.
"""

from __future__ import annotations

import functools
from itertools import groupby

from vfsim.testing.conformance.corpus import (
    acls,
    descriptors,
    directories,
    marks,
    opening,
    pairs,
    paths,
    rights,
    unnamed,
    xattrs,
)
from vfsim.testing.conformance.corpus.case import PEOPLE, Case
from vfsim.testing.conformance.corpus.run import Company, Difference, Expectation, alone
from vfsim.testing.conformance.corpus.simulated import SimulatedActor

_TABLES = (paths, opening, pairs, descriptors, rights, unnamed, directories, xattrs, marks, acls)


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case, those of one area together."""
    return tuple(case for table in _TABLES for case in table.cases())


def areas() -> dict[str, tuple[Case, ...]]:
    """The same by area."""
    ordered = sorted(cases(), key=lambda case: case.area)
    return {area: tuple(some) for area, some in groupby(ordered, lambda case: case.area)}


__all__ = [
    "PEOPLE",
    "Case",
    "Company",
    "Difference",
    "Expectation",
    "SimulatedActor",
    "alone",
    "areas",
    "cases",
]
