"""Locks of one class in the kernel: directories, files, names and pages in their order, and mutants
that take them in another, through system calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.mm.worlds import World
from vfsim.fs.inode import Inode
from vfsim.mm.page import lock_page, trylock_page, unlock_page
from vfsim.testing.selftest import instances
from vfsim.testing.selftest.case import Case, judge


@pytest.mark.parametrize("case", list(instances.cases()), ids=lambda case: case.id)
def test_the_order_in_the_kernel(case: Case) -> None:
    """The classes and subclasses are right, the instances are not: told, and the kernel blamed;
    the kernel as it is: silent.
    """
    outcome = judge(case)
    assert outcome.ok, outcome.found


def test_pages_by_index() -> None:
    """Pages of one file are locked by ascending index, or tried."""

    def pages_of(*order: tuple[Callable[..., Any], int]) -> list[str]:
        def body(inode: Inode) -> None:
            pages = [inode.i_mapping.pages[i] for i in range(2)]
            for take, index in order:
                take(pages[index])
            for _, index in order:
                unlock_page(pages[index])

        with World() as world:
            world.run(fill, body)
            return [v.rule for v in world.violations]

    assert pages_of((lock_page, 0), (lock_page, 1)) == []
    assert pages_of((lock_page, 1), (trylock_page, 0)) == []
    assert pages_of((lock_page, 1), (lock_page, 0)) == [instances.ORDER]


def fill(inode: Inode) -> None:
    """Two pages in the cache, not locked."""
    from tests.mm.worlds import new_page
    from vfsim.mm.page import put_page

    for index in range(2):
        page = new_page(inode, index)
        unlock_page(page)
        put_page(page)
