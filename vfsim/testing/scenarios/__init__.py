"""The library of concurrency scenarios: what several processes may do to one filesystem at once.

Every scenario is a `vfsim.Scenario` class without a filesystem; `library` lists them,
`scenario_library` puts those that a filesystem can do on it.  Names are stable (``rename(a,b) ∥
unlink(a)``) and are what replay tokens know them by.

What outcomes are right is computed, see `oracle`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from vfsim.testing.scenarios import files, names, whole
from vfsim.testing.scenarios.base import LibraryScenario

if TYPE_CHECKING:
    from vfsim.fs.operations import FileSystemType
    from vfsim.testing.conformance import Capabilities
    from vfsim.testing.scenario import Scenario


@functools.cache
def _all() -> tuple[type[LibraryScenario], ...]:
    groups = (
        names.pairs, names.inside, names.apart, names.triples, names.flags, names.across,
        files.writing, files.truncating, files.reading, files.syncing, files.pressed,
        files.nameless, whole.freezing, whole.remounting, whole.binding,
        whole.ending,
    )  # fmt: skip
    found = tuple(scenario for group in groups for scenario in group())
    assert len({s.__name__ for s in found}) == len(found), "two scenarios have one name"
    return found


def library() -> list[type[Scenario]]:
    """Every scenario, in order; ``needs`` says what a filesystem must have for it."""
    return list(_all())


def scenario_library(
    filesystem: type[FileSystemType], capabilities: Capabilities
) -> list[type[LibraryScenario]]:
    """The scenarios that say something about such a filesystem, ready to be explored on it."""
    return [
        type(scenario.__name__, (scenario,), {"filesystem": filesystem, "__module__": __name__})
        for scenario in _all()
        if not capabilities.lacking(frozenset(scenario.needs.split()), 0, 0)
    ]


__all__ = ["LibraryScenario", "library", "scenario_library"]
