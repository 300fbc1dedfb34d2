"""Broken primitives: each twin is caught by the rule that it breaks, each original keeps silent."""

from __future__ import annotations

from collections import Counter

import pytest

from vfsim.testing.selftest.busted import cases
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case, judge

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_a_case_comes_to(case: Case) -> None:
    """Caught or silent, as it must be, and the same a second time."""
    first = judge(case)
    assert first.ok, [(v.rule, v.summary) for v in first.found]
    again = judge(case)
    assert [v.signature for v in again.found] == [v.signature for v in first.found]


def test_every_primitive_has_both_sides() -> None:
    """One control and at least one twin each, with its own id and a word on what is broken."""
    controls = Counter(case.rule for case in CASES if case.expected == SILENT)
    twins = Counter(case.rule for case in CASES if case.expected == CAUGHT)
    assert set(controls.values()) == {1}
    assert set(twins) == set(controls)
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.why for case in CASES)
    assert all(case.fires for case in CASES if case.expected == CAUGHT)
