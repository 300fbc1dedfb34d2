"""Every primitive under the torture that the self-test uses: silent, whatever the schedule."""

from __future__ import annotations

import pytest

from vfsim.testing.selftest.primitives import tortures
from vfsim.testing.selftest.torture import run

TORTURES = tortures()


@pytest.mark.parametrize("name", TORTURES)
def test_a_primitive_survives(name: str) -> None:
    """Seeds that the self-test does not use find nothing either."""
    assert run(TORTURES[name], schedules=400, seed=7) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", TORTURES)
def test_a_primitive_survives_for_long(name: str) -> None:
    """Nor do many more schedules."""
    assert run(TORTURES[name], schedules=20_000, seed=8) == []
